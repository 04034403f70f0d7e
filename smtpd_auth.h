/* smtpd_auth: AUTH of an SMTP server session, and what a login may do. For the files of smtpd
 * alone. */
#ifndef SMTPD_AUTH_H
#define SMTPD_AUTH_H

#include "smtpd_int.h"
#include "smtpd_spf.h"

#if WITH_TLS && WITH_AUTH

/* The handler of AUTH. */
enum smtpd_next smtpd_auth(struct smtpd *s, struct slice args);

/* A line in SMTPD_SASL; it was too long; forget the exchange, whatever there is of it. */
enum smtpd_next smtpd_sasl_line(struct smtpd *s, struct slice line);
void smtpd_sasl_too_long(struct smtpd *s);
void smtpd_sasl_clear(struct smtpd *s);

/*
 * Goes on with MAIL when all that its line tells was found good; text is the canonical form of
 * from, size as declared. Refuses the sender, or ends in smtpd_spf_mail: at once, or behind the
 * question where the address leads to, the session then parked in SMTPD_CHECK. A login may send as
 * itself, as an alias that leads to it alone, and as nobody (RFC 6409 leaves <> to us: read
 * receipts need it).
 */
enum smtpd_next smtpd_sender_mail(struct smtpd *s, const struct addr *from, const char *text,
                                  int64_t size);

/* Ends that question. */
void smtpd_owner_clear(struct smtpd *s);

#else

static inline enum smtpd_next smtpd_sasl_line(struct smtpd *s, struct slice line)
{
	return smtpd_command(s, line);
}

static inline void smtpd_sasl_too_long(struct smtpd *s)
{
	(void)s;
}

static inline void smtpd_sasl_clear(struct smtpd *s)
{
	(void)s;
}

static inline enum smtpd_next smtpd_sender_mail(struct smtpd *s, const struct addr *from,
                                                const char *text, int64_t size)
{
	(void)from;
	return smtpd_spf_mail(s, text, size);
}

static inline void smtpd_owner_clear(struct smtpd *s)
{
	(void)s;
}

#endif

#endif
