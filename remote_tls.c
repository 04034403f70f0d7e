/*
 * remote_tls: the TLS ladder.
 *
 * All that decides about protection is here: a policy says what a host must come up to, the judge
 * compares it with what the handshake brought. Policies come from one function a kind of
 * destination, so that what is known of a domain has one place to raise the minimum.
 *
 * Towards the world any certificate is better than none (RFC 7435): whoever could forge one could
 * as well have hidden the offer of STARTTLS. So the result is noted, and only a policy that asks
 * for more than what is there ends the connection. It never ends the message: the fault is in
 * between.
 */
#include "remote_tls.h"

#include <string.h>
#include <time.h>

const char *remote_level_name(enum remote_level level)
{
	static const char *const names[] = {[REMOTE_PLAIN] = "PLAIN",
	                                    [REMOTE_TLS_INSECURE] = "TLS_INSECURE",
	                                    [REMOTE_TLS_SECURE] = "TLS_SECURE"};
	return names[level];
}

struct remote_policy remote_policy_for(const char *domain, const char *host)
{
	(void)domain;
	(void)host;
	return (struct remote_policy){.tls = WITH_TLS ? SMTPC_TLS_STARTTLS : SMTPC_TLS_NONE,
	                              .min = REMOTE_PLAIN};
}

struct remote_policy remote_policy_smarthost(const struct conf_smarthost *s)
{
	static const enum smtpc_tls modes[] = {[CONF_TLS_STARTTLS] = SMTPC_TLS_STARTTLS,
	                                       [CONF_TLS_IMPLICIT] = SMTPC_TLS_IMPLICIT,
	                                       [CONF_TLS_NONE] = SMTPC_TLS_NONE};
	struct remote_policy p = {.tls = modes[s->tls], .pinned = s->pinned ? s->sha256 : NULL};
	if (s->tls == CONF_TLS_NONE)
		p.min = REMOTE_PLAIN;
	else
		p.min = s->insecure ? REMOTE_TLS_INSECURE : REMOTE_TLS_SECURE;
	return p;
}

static enum remote_level level_of(const struct remote_policy *p, const struct tls_peer *peer)
{
	bool good = peer->chain_good && peer->name_good;
	if (p->pinned)
		good = peer->has_cert && memcmp(p->pinned, peer->sha256, sizeof peer->sha256) == 0;
	return good ? REMOTE_TLS_SECURE : REMOTE_TLS_INSECURE;
}

static void explain(const struct remote_policy *p, const char *host, const struct tls_peer *peer,
                    struct status *st)
{
	bool unset = (int64_t)time(NULL) < CLOCK_RELEASE;
	if (p->pinned)
		status_set(st, 454, "4.7.5", "the certificate of %s has another fingerprint", host);
	else if (peer->not_yet)
		status_set(st, 454, "4.7.5", "the certificate of %s is not valid yet: %s", host,
		           unset ? "the clock of this machine is not set"
		                 : "is the clock of this machine right?");
	else
		status_set(st, 454, "4.7.5", "the certificate of %s is not good enough: %s", host,
		           *peer->why ? peer->why : "not verified");
}

int remote_policy_judge(const struct remote_policy *p, const char *host,
                        const struct tls_peer *peer, enum remote_level *level, struct status *st)
{
	*level = level_of(p, peer);
	if (*level >= p->min)
		return 0;
	explain(p, host, peer, st);
	return -1;
}

bool remote_policy_allows_plain(const struct remote_policy *p)
{
	return p->tls == SMTPC_TLS_STARTTLS && p->min == REMOTE_PLAIN;
}
