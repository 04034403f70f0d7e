/*
 * smtpd_tls: TLS of an SMTP server session (RFC 3207, 8314).
 *
 * What came before the handshake does not count after it: neither input that was sent behind
 * STARTTLS, which the stream throws away, nor what was said with EHLO or MAIL; anybody on the way
 * could have put it in. The name that a client asks for chooses a certificate and nothing else.
 */
#define LOG_KIND LOG_SESSION

#include "smtpd_tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "smtpd_log.h"
#include "stat.h"

STAT_COUNTER(stat_tls, "smtpd/tls_sessions", "SMTP server sessions in which TLS began");

bool smtpd_has_tls(const struct smtpd *s)
{
	if (s->peer.mode == SMTPD_LOCAL)
		return false;
	return s->secured || (s->setup->certs && tls_certs_count(s->setup->certs) > 0);
}

int smtpd_tls_begin(struct smtpd *s)
{
	s->tls = s->setup->certs ? tls_accept(s->setup->certs, s->io.watch.fd) : NULL;
	if (!s->tls)
		return -1;
	smtpd_enter(s, SMTPD_HANDSHAKE);
	return 0;
}

int smtpd_tls_go(struct smtpd *s)
{
	struct tls *t = s->tls;
	s->tls = NULL;
	return io_start_tls(&s->io, t);
}

const char *smtpd_tls_text(const struct smtpd *s, char out[SMTPD_TLS_TEXT])
{
	out[0] = '\0';
	if (!WITH_TLS || !s->secured)
		return out;
	const struct tls_peer *peer = tls_peer(io_tls(&s->io));
	const char *cipher = peer->cipher;
	/* IANA's name is what readers of headers know; mbedTLS has its own for those of TLS 1.3. */
	const char *prefix = strncmp(cipher, "TLS1-3-", 7) == 0 ? "TLS_" : "";
	snprintf(out, SMTPD_TLS_TEXT, "%s %s%s", peer->version, prefix,
	         *prefix ? cipher + 7 : cipher);
	for (char *p = out; *p; p++)
		if (*p == '-')
			*p = '_';
	return out;
}

void smtpd_tls_done(struct smtpd *s)
{
	char text[SMTPD_TLS_TEXT];
	s->secured = true;
	stat_add(&stat_tls, 1);
	if (WITH_TLS && smtpd_log_may(s, false))
		log_info(s->id, "smtpd tls", LOG_S("with", smtpd_tls_text(s, text)),
		         LOG_N("resumed", tls_peer(io_tls(&s->io))->resumed),
		         LOG_S("peer", s->who));
}

const char *smtpd_tls_why(const struct smtpd *s)
{
	const struct tls *t = io_tls(&s->io);
	return t && s->io.error == EPROTO ? tls_error(t) : NULL;
}

/* All that the client said is forgotten (RFC 3207 4.2). */
enum smtpd_next smtpd_starttls(struct smtpd *s, struct slice args)
{
	(void)args;
	if (s->secured) {
		smtpd_say(s, SMTPD_TLS_TWICE);
		return SMTPD_NEXT;
	}
	if (smtpd_tls_begin(s)) {
		smtpd_say(s, SMTPD_TLS_NOT_NOW);
		return SMTPD_NEXT;
	}
	smtpd_say(s, SMTPD_TLS_READY);
	smtpd_txn_clear(s);
	free(s->helo);
	s->helo = NULL;
	s->esmtp = false;
	return SMTPD_WAIT;
}
