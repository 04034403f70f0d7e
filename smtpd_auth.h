/* smtpd_auth: AUTH of an SMTP server session, and what a login may do. For the files of smtpd
 * alone. */
#ifndef SMTPD_AUTH_H
#define SMTPD_AUTH_H

#include "smtpd_int.h"

#if WITH_TLS

/* The handler of AUTH. */
enum smtpd_next smtpd_auth(struct smtpd *s, struct slice args);

/* A line in SMTPD_SASL; it was too long; forget the exchange, whatever there is of it. */
enum smtpd_next smtpd_sasl_line(struct smtpd *s, struct slice line);
void smtpd_sasl_too_long(struct smtpd *s);
void smtpd_sasl_clear(struct smtpd *s);

/* May the login send as this address? It may as itself, as an alias that leads to it alone, and as
 * nobody (RFC 6409 leaves <> to us: read receipts need it). 0, or -1 with *st. */
int smtpd_check_sender(const struct smtpd *s, const struct addr *from, struct status *st);

/* Asks whether Dovecot knows a user that our files do not. 0 when smtpd_rcpt_end will be called; -1
 * when there is nobody to ask. */
int smtpd_ask_user(struct smtpd *s, const struct addr *to);

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

static inline int smtpd_check_sender(const struct smtpd *s, const struct addr *from,
                                     struct status *st)
{
	(void)s;
	(void)from;
	(void)st;
	return 0;
}

static inline int smtpd_ask_user(struct smtpd *s, const struct addr *to)
{
	(void)s;
	(void)to;
	return -1;
}

#endif

#endif
