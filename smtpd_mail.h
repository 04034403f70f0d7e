/* smtpd_mail: the command MAIL. For the files of smtpd alone. */
#ifndef SMTPD_MAIL_H
#define SMTPD_MAIL_H

#include "smtpd_int.h"

/* The handler of MAIL: at once, or with the session parked in SMTPD_CHECK. */
enum smtpd_next smtpd_mail(struct smtpd *s, struct slice args);

/* Gives the reply to MAIL. Refuses with *refused or, when that is NULL, begins the transaction. */
void smtpd_mail_end(struct smtpd *s, const char *from, int64_t size, const struct status *refused);

/* May the address in these arguments of MAIL, RCPT or VRFY be as it is: ASCII, or under SMTPUTF8
 * (RFC 6531 3.2)? */
bool smtpd_may_write(const struct smtpd *s, struct slice args);

#endif
