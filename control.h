/* control: the UNIX socket DATA_DIR/control: local submission and the operator's questions. */
#ifndef CONTROL_H
#define CONTROL_H

#include <stddef.h>

#include "smtpd.h"

/*
 * Opens the socket, for all users of the machine (mode 0666); one that a dead daemon left is
 * replaced. A client sends one line: "SUBMIT" makes the connection an SMTP session of its user
 * (SO_PEERCRED); any user may. Other commands are for root and the daemon's own user, answered with
 * lines of text, the first "OK" or "ERROR reason", and an end of file:
 *   QUEUE           one line a message        FLUSH [ID]      tries waiting messages now
 *   RELOAD          reads users and aliases   STATUS          counters
 *   DOMAININFO LIST         a line a domain: name, incoming and outgoing level, date last seen
 * (UTC,
 *                           "-" when unknown), with tabs between
 *   DOMAININFO SHOW D       one domain, in any spelling
 *   DOMAININFO FORGET D     removes what is known of it
 * RELOAD says ERROR and why when a file cannot be taken over.
 * setup is kept; on_reload reads the files again and returns how many were. 0, or -1 with err.
 */
int control_open(const struct smtpd_setup *setup, size_t (*on_reload)(void), char *err,
                 size_t err_size);

/* Closes the socket, asks sessions to leave; and ends them at once. */
void control_stop(void);
void control_close(void);

/* SMTP sessions now. */
size_t control_sessions(void);

/* For tools: connects to the daemon of a data directory; blocks. The descriptor, or -1 with errno
 * (ENOENT or ECONNREFUSED: none is running). */
int control_connect(const char *data_dir);

#endif
