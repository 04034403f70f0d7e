/* smtpd_rcpt: the command RCPT. For the files of smtpd alone. */
#ifndef SMTPD_RCPT_H
#define SMTPD_RCPT_H

#include "smtpd_int.h"

/* The handler of RCPT: at once, or with the session parked in SMTPD_CHECK. Recipients of our
 * domains are resolved (resolve.h), all but those of users of this machine go by hooks/rcpt, too.
 */
enum smtpd_next smtpd_rcpt(struct smtpd *s, struct slice args);

/* Forgets a RCPT under way, and whoever is asked about it. */
void smtpd_rcpt_clear(struct smtpd_txn *t);

#endif
