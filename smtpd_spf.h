/* smtpd_spf: what a sender's domain says of the client, and what follows from that. For the files
 * of smtpd alone. */
#ifndef SMTPD_SPF_H
#define SMTPD_SPF_H

#include "smtpd_int.h"

/*
 * Ends MAIL when all else about it was found good: sender is canonical, size as declared. At once,
 * or behind a check by SPF (RFC 7208), the session then parked in SMTPD_CHECK: begins the
 * transaction or refuses, with the one reply. Strangers are checked; who logged in, is trusted or
 * sits on this machine is not.
 */
enum smtpd_next smtpd_spf_mail(struct smtpd *s, const char *sender, int64_t size);

/* Did SPF pass for the sender of the message under way? */
bool smtpd_spf_passed(const struct smtpd *s);

/* Appends the fields that tell what came out for the message under way, if it was checked. 0, or -1
 * without memory. */
int smtpd_spf_fields(struct smtpd *s, struct buf *out);

/* Is a check under way? */
bool smtpd_spf_is_asking(const struct smtpd *s);

/* Forgets all, and ends a check under way. */
void smtpd_spf_clear(struct smtpd *s);

#endif
