/* control: the UNIX socket DATA_DIR/control: local submission and the operator's commands. */
#ifndef CONTROL_H
#define CONTROL_H

#include <stddef.h>

#include "conf_reload.h"
#include "smtpd.h"

/* What control works with. All is kept. */
struct control_setup {
	const struct smtpd_setup *smtpd;
	/* As conf_reload, and everything else that is read again at run time, to its end. report is
	 * initialised; 0, or -1 with err: the file is bad. */
	int (*reload)(struct conf_report *report, char *err, size_t err_size);
	void (*stop)(void); /* as SIGTERM; returns at once */
};

/*
 * Opens the socket, with mode and owner as control_apply; one that a dead daemon left is replaced.
 * A client sends one line. "SUBMIT" makes the connection an SMTP session of its user (SO_PEERCRED);
 * any user may. The other commands are for root, the daemon's own user and conf->control_users.
 * They are answered with one line "ERROR reason", or with "OK", lines of fields with tabs between,
 * "END", and an end of file: an answer without "END" was cut off. Values hold neither tabs nor
 * control characters. Times are seconds since 1970. A reason begins with "not allowed" or, when it
 * may work later, with "not now".
 *
 *   QUEUE         a line a message, in order of ID: id, created, next attempt, state (active,
 *                 waiting, held), attempts, size (0: not known), from, last error, recipients
 *                 left, and the first of them
 *   SHOW ID       lines "id", "created", "next", "state", "attempts", "size", "from" with a value;
 *                 "rcpt": state (pending, sent, failed), type (EMAIL, PIPE, FORWARD), address,
 *                 original, via, remote, last status; "attempt": time, state, remote, status,
 *                 numbers of recipients from 0, comma between; "header": a line of the header
 *                 section; "cut": of this there was more
 *   RAW ID        not lines but pieces: a line with the number of bytes, then these; 0 and END
 *                 at the end, "ERROR reason" in place of a number when the rest cannot be read
 *   FLUSH [WHAT]  all, an ID, or the messages with recipients left in a domain: "flushed", number
 *   HOLD [WHAT], RELEASE WHAT   an ID or a domain; HOLD alone: a line each for what is held
 *   REMOVE ID [BOUNCE]
 *   RESOLVE ADDRESS  a line a destination: type, address, via
 *   DOMAININFO LIST | SHOW DOMAIN | FORGET DOMAIN    LIST: domain, incoming and outgoing level,
 *                 time last seen (UTC, "-" for never)
 *   STATUS        lines "version", "pid", "hostname", "uptime" (s), "queue", "oldest" (time),
 *                 "active", "sessions", "local", "certificates" with a value; "listens": service,
 *                 address; "counter": name, value; "histogram": name, count, sum
 *   TRACE [FOLLOW] [COUNT] [KIND|ID]   a line an event: ms since 1970, level, kind, id, text;
 *                 FOLLOW: and what comes, until the client goes
 *   CONFIG        the configuration in effect, see conf_print
 *   RELOAD        lines "changed KEY: ...", "refused KEY: why"; ERROR: the file is bad
 *   STOP          the answer's end of file comes when the process ends
 *
 * 0, or -1 with err.
 */
int control_open(const struct control_setup *setup, char *err, size_t err_size);

/* Applies control_mode and control_owner to the socket's file. 0, or -1 after logging why not. */
int control_apply(const struct conf *conf);

/* Closes the socket, asks sessions to leave; and ends them at once. */
void control_stop(void);
void control_close(void);

/* SMTP sessions now. */
size_t control_sessions(void);

/* For tools: connects to the daemon of a data directory; blocks. The descriptor, or -1 with errno
 * (ENOENT or ECONNREFUSED: none is running). */
int control_connect(const char *data_dir);

#endif
