/* listen: listening sockets, admission limits, and the lives of SMTP server sessions. */
#ifndef LISTEN_H
#define LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "smtpd.h"

/*
 * Takes all addresses of conf->smtp_address, submission_address and submission_over_tls_address:
 * "host:port", ":port" (IPv4 and IPv6), "[v6]:port", or "systemd" for inherited sockets named smtp,
 * submission and submission_tls (LISTEN_FDS). host is an address or "localhost", port a number or
 * "smtp", "submission", "submissions". The latter two need setup->certs, for users log in there. An
 * address that this machine does not have yet is tried again from time to time: boards start before
 * their network. With give_up_root that is not possible for ports below 1024 later, and such a
 * socket is bound without its address. setup is kept. 0, or -1 with a text in err and nothing open.
 */
int listen_open(const struct smtpd_setup *setup, bool give_up_root, char *err, size_t err_size);

/* From here on clients can connect; all that setup points to must be there. 0, or -1 with a text in
 * err and nothing open. */
int listen_start(char *err, size_t err_size);

/* Opens the addresses that conf has got and closes those it lost; sessions stay. Appends a line
 * each to report: "listening on", "no longer listening on", "refused ADDRESS: why". Returns how
 * many were refused. */
size_t listen_reload(struct buf *report);

/* Closes the listeners; running sessions are asked to leave. Set setup->stopping before. */
void listen_stop(void);

/* Closes the listeners and ends all sessions at once: before queue and spool are freed, for
 * sessions give back what they hold of them. */
void listen_close(void);

/* Sessions now, those that are ending included. */
size_t listen_sessions(void);

/* Do we listen on this address and port ourselves (RFC 5321 5.1: a mail loop)? Listeners on the
 * wildcard address count for every address of this machine. */
bool listen_is_ours(const struct dns_addr *a, uint16_t port);

#endif
