/*
 * remote_tls: the TLS ladder and the order of authority.
 *
 * All that decides about protection is here: a policy says what a host must come up to, the judge
 * compares it with what the handshake brought. The demands of all who have a say are rows of one
 * table; remote_policy_for goes through it from the top. The highest demand counts, of equal ones
 * the first is named. A row that ends the search speaks for all below it.
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

const char *remote_authority_name(enum remote_authority by)
{
	static const char *const names[] = {[REMOTE_BY_DANE] = "DANE",
	                                    [REMOTE_BY_STS] = "MTA-STS",
	                                    [REMOTE_BY_DOMAININFO] = "domaininfo",
	                                    [REMOTE_BY_NOBODY] = "opportunistic",
	                                    [REMOTE_BY_CONF] = "configuration"};
	return names[by];
}

enum domaininfo_level remote_level_known_as(enum remote_level level)
{
	static const enum domaininfo_level levels[] = {[REMOTE_PLAIN] = DOMAININFO_PLAIN,
	                                               [REMOTE_TLS_INSECURE] =
	                                                   DOMAININFO_TLS_INSECURE,
	                                               [REMOTE_TLS_SECURE] = DOMAININFO_TLS_SECURE};
	return levels[level];
}

/* ---- the order of authority ---- */

/* Who asks, in which state, for what. Whatever has no row asks for nothing. */
static const struct rule {
	enum remote_authority by;
	int state;
	enum remote_level min;
	bool ends;           /* the search */
	const char *refused; /* why the host may not be used at all */
} rules[] = {
    /* RFC 7672 2.1.1: an attacker may be what made the look-up fail. */
    {REMOTE_BY_DANE, DANE_FAILED, REMOTE_TLS_SECURE, true,
     "its TLSA records cannot be looked up or read"},
    /* RFC 7672 2.2: the records replace the check by authorities; RFC 8461 2: MTA-STS must not
     * override them. */
    {REMOTE_BY_DANE, DANE_USABLE, REMOTE_TLS_SECURE, true, NULL},
    /* RFC 7672 2.2: TLS is mandatory, with whomever. */
    {REMOTE_BY_DANE, DANE_UNUSABLE, REMOTE_TLS_INSECURE, false, NULL},
    /* RFC 8461 4.1, 4.2, 5. */
    {REMOTE_BY_STS, REMOTE_STS_ENFORCE_UNLISTED, REMOTE_TLS_SECURE, true,
     "the domain's policy does not list it"},
    {REMOTE_BY_STS, REMOTE_STS_ENFORCE, REMOTE_TLS_SECURE, false, NULL},
    {REMOTE_BY_DOMAININFO, DOMAININFO_TLS_SECURE, REMOTE_TLS_SECURE, false, NULL},
    {REMOTE_BY_DOMAININFO, DOMAININFO_TLS_INSECURE, REMOTE_TLS_INSECURE, false, NULL},
};

struct remote_policy remote_policy_for(const struct remote_known *known)
{
	const int states[REMOTE_AUTHORITIES] = {[REMOTE_BY_DANE] = (int)known->dane,
	                                        [REMOTE_BY_STS] = (int)known->sts,
	                                        [REMOTE_BY_DOMAININFO] = (int)known->level};
	struct remote_policy p = {.min = REMOTE_PLAIN, .by = REMOTE_BY_NOBODY};
	bool ended = false;
	for (size_t i = 0; i < sizeof rules / sizeof rules[0] && !ended; i++) {
		const struct rule *r = &rules[i];
		if (r->state != states[r->by])
			continue;
		/* A host that may not be used is refused also where others demand as much. */
		if (r->min > p.min || r->refused) {
			p.min = r->min;
			p.by = r->by;
		}
		p.refused = r->refused;
		ended = r->ends;
	}
	p.by_tlsa = known->dane == DANE_USABLE;
	if (!ended &&
	    (known->sts == REMOTE_STS_TESTING || known->sts == REMOTE_STS_TESTING_UNLISTED))
		p.testing = known->sts;
	/* Without TLS built in, what must be TLS fails and the rest is plain. */
	p.tls = WITH_TLS || p.min > REMOTE_PLAIN ? SMTPC_TLS_STARTTLS : SMTPC_TLS_NONE;
	return p;
}

struct remote_policy remote_policy_smarthost(const struct conf_smarthost *s)
{
	static const enum smtpc_tls modes[] = {[CONF_TLS_STARTTLS] = SMTPC_TLS_STARTTLS,
	                                       [CONF_TLS_IMPLICIT] = SMTPC_TLS_IMPLICIT,
	                                       [CONF_TLS_NONE] = SMTPC_TLS_NONE};
	struct remote_policy p = {
	    .tls = modes[s->tls], .by = REMOTE_BY_CONF, .pinned = s->pinned ? s->sha256 : NULL};
	if (s->tls == CONF_TLS_NONE)
		p.min = REMOTE_PLAIN;
	else
		p.min = s->insecure ? REMOTE_TLS_INSECURE : REMOTE_TLS_SECURE;
	return p;
}

/* ---- the judge ---- */

static const char *why_not_good(const struct tls_peer *peer)
{
	bool unset = (int64_t)time(NULL) < CLOCK_RELEASE;
	if (peer->not_yet)
		return unset ? "the certificate is not valid yet: the clock of this machine is not "
		               "set"
		             : "the certificate is not valid yet: is the clock of this machine "
		               "right?";
	return *peer->why ? peer->why : "the certificate is not verified";
}

/* Is the certificate what the policy goes by? If not, *why. */
static bool is_good(const struct remote_policy *p, const struct tls *t, const char **why)
{
	const struct tls_peer *peer = tls_peer(t);
	if (p->by_tlsa)
		return dane_match(p->dane, t, p->names, p->name_count, why);
	if (p->pinned) {
		*why = "the certificate has another fingerprint";
		return peer->has_cert && memcmp(p->pinned, peer->sha256, sizeof peer->sha256) == 0;
	}
	*why = why_not_good(peer);
	return peer->chain_good && peer->name_good;
}

int remote_policy_judge(const struct remote_policy *p, const struct tls *t,
                        enum remote_level *level, const char **why)
{
	*why = "";
	*level = is_good(p, t, why) ? REMOTE_TLS_SECURE : REMOTE_TLS_INSECURE;
	if (*level == REMOTE_TLS_SECURE)
		*why = "";
	return *level >= p->min ? 0 : -1;
}

void remote_policy_refuse(const struct remote_policy *p, const char *host, enum remote_level got,
                          const char *why, struct status *st)
{
	const char *by = remote_authority_name(p->by);
	if (p->refused)
		status_set(st, 454, "4.7.5", "%s may not be used (%s): %s", host, by, p->refused);
	else
		status_set(st, 454, "4.7.5", "%s must be %s (%s), got %s: %s", host,
		           remote_level_name(p->min), by, remote_level_name(got), why);
}

bool remote_policy_allows_plain(const struct remote_policy *p)
{
	return p->tls == SMTPC_TLS_STARTTLS && p->min == REMOTE_PLAIN;
}

const char *remote_policy_reports(const struct remote_policy *p, enum remote_level got)
{
	if (p->testing == REMOTE_STS_TESTING_UNLISTED)
		return "the host is not listed";
	if (p->testing == REMOTE_STS_TESTING && got < REMOTE_TLS_SECURE)
		return got == REMOTE_PLAIN ? "no TLS" : "the certificate is not good";
	return NULL;
}
