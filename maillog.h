/* maillog: the mail log: a line an event of interest to the postmaster, in chasquid's words. */
#ifndef MAILLOG_H
#define MAILLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "envelope.h"
#include "status.h"

/* Where the lines go (conf->mail_log_path, see log_sink_open); "" for nowhere. Closes what was open
 * before; when the new one cannot be opened that stays. 0, or -1 with a text in err. */
int maillog_open(const char *where, char *err, size_t err_size);
void maillog_close(void);

/* After a rotation. 0, or -1 with errno. */
int maillog_reopen(void);

/* peer is "IP:PORT", "[IPv6]:PORT" or a local user. All values are escaped: no peer can forge a
 * line or a part of one. NULL or empty parts are left out. Without maillog_open all do nothing. */
void maillog_listen(const char *address);                         /* daemon listening on ADDRESS */
void maillog_connect(const char *peer);                           /* PEER connected */
void maillog_auth(const char *peer, const char *user, bool good); /* PEER auth succeeded for U@D */

/* PEER rejected from=F to=[A B] - REASON */
void maillog_rejected(const char *peer, const char *from, char *const *to, size_t to_count,
                      const char *reason);

/* ID from=F queued ip=PEER to=[A B] */
void maillog_queued(const char *id, const char *from, const char *peer, char *const *to,
                    size_t to_count);

/* ID from=F to=A sent; or failed (temporary): REASON, failed (permanent): REASON */
void maillog_attempt(const char *id, const char *from, const char *to, const struct status *st);

/* ID from=F completed loop, next in 1m23s; and ID from=F all done */
void maillog_waits(const char *id, const char *from, int64_t seconds);
void maillog_done(const char *id, const char *from);

#endif
