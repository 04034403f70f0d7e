/* dsn: delivery status notifications (RFC 3461, 3464, 6522, 6533). */
#ifndef DSN_H
#define DSN_H

#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "spool.h"

/*
 * Writes a notification to the sender of env about the recipients that failed (RCPT_FAILED), or are
 * still pending though their time is up, into the spool, and commits it. A sender of ours goes
 * the way of all mail to it (resolve.h). `done` is called once, from the loop: class 2 when the
 * notification is durable, or when there is nobody to notify (a sender that is no address, or an
 * unknown one of ours; logged); else 4yz (also when nobody can tell now where the sender leads to),
 * nothing is left behind, and the original must stay.
 *
 * It reads at most DSN_ORIGINAL_MAX bytes of the original, twice, in steps: a message that is not
 * longer is attached, of a longer one its header; of one that turns out to be damaged, or is gone,
 * nothing, and the notification says so. Returns NULL with *st when it could not begin
 * (then done is not called): 4yz, or 554 for a message that is from the null sender itself. env and
 * conf are kept until done; conf may be refreshed meanwhile. now: wall clock, s.
 *
 * Its form: global (RFC 6533: UTF-8 in header and parts, needs SMTPUTF8) when neither the sender
 * nor any address it leads to can be written in ASCII; else one that every server takes. The text
 * for people has the addresses in Unicode either way.
 *
 * What the addressee learns: neither the command line of a pipe nor anything about its failure; and
 * what a delivery program printed only if the addressee is in a domain of ours.
 */
struct dsn;
struct dsn *dsn_start(const struct conf *conf, struct spool *sp, const struct envelope *env,
                      int64_t now, void (*done)(void *arg, const struct status *st), void *arg,
                      struct status *st);

/* Ends it without a trace and without `done`. */
void dsn_cancel(struct dsn *d);

#endif
