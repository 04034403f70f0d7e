/*
 * smtpd_spf: SPF at MAIL, the fields that tell its result, and the incoming security level.
 *
 * The level of a domain is raised and enforced only when SPF passed for that very domain as the
 * sender's, so nobody raises it for somebody else, and who cannot show that it speaks for the
 * domain is neither helped nor hindered by it. A check costs DNS queries of the client's choice:
 * the last result serves again for the same sender and EHLO name, and a session has
 * SMTPD_SPF_MAX checks; one more sender gets 421 and comes back with a new connection. The last
 * answer is that of the transaction under way: a new one is asked for by the next MAIL only.
 */
#define LOG_KIND LOG_SESSION

#include "smtpd_spf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "authres.h"
#include "domaininfo.h"
#include "log.h"
#include "smtpd_mail.h"
#include "spf.h"
#include "stat.h"

struct smtpd_spf {
	struct spf_check *check; /* under way; NULL otherwise */
	unsigned checks;         /* so far */
	bool known;              /* answer is that for sender and helo */
	int64_t size;            /* declared with the MAIL that waits */
	char sender[ADDR_TEXT_MAX];
	char helo[SMTPD_HELO_MAX + 1];
	struct spf_answer answer;
};

/* In the order of enum spf_result. */
STAT_VECTOR(stat_results, "chasquid/smtpIn/spfResultCount", "result", "Results of SPF checks",
            SPF_PERMERROR + 1, "none neutral pass fail softfail temperror permerror");
enum { STAT_SKIP, STAT_PASS, STAT_FAIL, STAT_VERDICTS };
STAT_VECTOR(stat_levels, "chasquid/smtpIn/securityLevelChecks", "result",
            "Senders compared with the TLS that their domain has shown before", STAT_VERDICTS,
            "skip pass fail");

/* ---- who is checked ------------------------------------------------------------------------- */

static bool smtpd_is_loopback(const struct dns_addr *a)
{
	if (a->family == AF_INET)
		return ntohl(a->ip.v4.s_addr) >> 24 == IN_LOOPBACKNET;
	return IN6_IS_ADDR_LOOPBACK(&a->ip.v6);
}

static bool smtpd_spf_is_due(const struct smtpd *s)
{
	if (!WITH_SPF || s->peer.mode != SMTPD_MX || s->login || s->peer.trusted)
		return false;
	return !SPF_SKIP_LOOPBACK || s->peer.unknown || !smtpd_is_loopback(&s->peer.addr);
}

/* ---- what follows --------------------------------------------------------------------------- */

/* The name that was checked, for a reply or a field: in ASCII, and never empty. */
static const char *smtpd_spf_domain(const struct spf_answer *a, char out[ADDR_DOMAIN_MAX + 1])
{
	if (!a->domain[0] || addr_domain_to_ascii(a->domain, out, ADDR_DOMAIN_MAX + 1))
		snprintf(out, ADDR_DOMAIN_MAX + 1, "this domain");
	return out;
}

/* The domain's own words are marked as such: they come from a stranger (RFC 7208 6.2). */
static void smtpd_spf_failed(const struct smtpd *s, struct status *st)
{
	const struct spf_answer *a = &s->spf->answer;
	char domain[ADDR_DOMAIN_MAX + 1];
	smtpd_spf_domain(a, domain);
	if (a->explanation[0])
		status_set(st, 550, "5.7.23",
		           "SPF: %.100s may not send mail from %.253s, which explains: %s", s->who,
		           domain, a->explanation);
	else
		status_set(st, 550, "5.7.23", "SPF: %.100s may not send mail from %.253s", s->who,
		           domain);
}

/* RFC 7208 8.6 leaves it to us; the codes are those of RFC 7372. */
static void smtpd_spf_unsure(const struct smtpd *s, struct status *st)
{
	const struct spf_answer *a = &s->spf->answer;
	char domain[ADDR_DOMAIN_MAX + 1];
	status_set(st, 451, "4.7.24", "SPF: the policy of %.253s cannot be had now: %.200s",
	           smtpd_spf_domain(a, domain), a->problem);
}

/* Has this domain shown TLS, and comes in the clear now? Notes the level otherwise. */
static bool smtpd_level_is_low(struct smtpd *s)
{
	struct domaininfo *di = s->setup->domaininfo;
	const struct smtpd_spf *x = s->spf;
	struct addr from;
	if (!di || x->answer.result != SPF_PASS || x->answer.helo_identity ||
	    addr_parse(slice_of(x->sender), &from)) {
		stat_add_at(&stat_levels, STAT_SKIP, 1);
		return false;
	}
	if (!s->secured && domaininfo_level(di, DOMAININFO_IN, from.domain) > DOMAININFO_PLAIN) {
		stat_add_at(&stat_levels, STAT_FAIL, 1);
		return true;
	}
	stat_add_at(&stat_levels, STAT_PASS, 1);
	domaininfo_saw(di, DOMAININFO_IN, from.domain,
	               s->secured ? DOMAININFO_TLS_CLIENT : DOMAININFO_PLAIN);
	return false;
}

/* Ends MAIL by what is known of its sender. */
static void smtpd_spf_judge(struct smtpd *s)
{
	struct smtpd_spf *x = s->spf;
	struct status st;
	bool refused = true;
	if (x->answer.result == SPF_FAIL) {
		smtpd_spf_failed(s, &st);
	} else if (x->answer.result == SPF_TEMPERROR) {
		smtpd_spf_unsure(s, &st);
	} else if (smtpd_level_is_low(s)) {
		smtpd_status(SMTPD_LOW_LEVEL, &st);
	} else {
		refused = false;
	}
	smtpd_mail_end(s, x->sender, x->size, refused ? &st : NULL);
	if (s->txn)
		s->txn->spf = true;
}

/* ---- the check ------------------------------------------------------------------------------ */

static void smtpd_spf_done(void *arg, const struct spf_answer *answer)
{
	struct smtpd *s = arg;
	struct smtpd_spf *x = s->spf;
	x->check = NULL;
	x->answer = *answer;
	x->known = answer->result != SPF_TEMPERROR;
	stat_add_at(&stat_results, answer->result, 1);
	log_info(s->id, "smtpd spf", LOG_S("result", spf_result_name(answer->result)),
	         LOG_S("identity", answer->helo_identity ? "helo" : "mailfrom"),
	         LOG_S("domain", answer->domain), LOG_S("mechanism", answer->mechanism),
	         LOG_S("problem", answer->problem), LOG_S("peer", s->who));
	if (s->lost) {
		smtpd_resume(s);
		return;
	}
	smtpd_enter(s, SMTPD_READY);
	smtpd_spf_judge(s);
	smtpd_resume(s);
}

/* Asks about the sender in s->spf. */
static enum smtpd_next smtpd_spf_ask(struct smtpd *s)
{
	struct smtpd_spf *x = s->spf;
	const struct spf_question q = {
	    .ip = s->peer.addr,
	    .helo = x->helo,
	    .sender = x->sender,
	    .receiver = s->setup->conf->hostname,
	    .now = s->setup->now(),
	};
	x->known = false;
	x->check = spf_start(&q, smtpd_spf_done, s);
	if (!x->check) {
		struct status st;
		smtpd_status(SMTPD_NO_MEMORY, &st);
		smtpd_mail_end(s, x->sender, x->size, &st);
		return SMTPD_NEXT;
	}
	x->checks++;
	smtpd_enter(s, SMTPD_CHECK);
	return SMTPD_WAIT;
}

enum smtpd_next smtpd_spf_mail(struct smtpd *s, const char *sender, int64_t size)
{
	struct smtpd_spf *x = s->spf;
	struct status st;
	if (!WITH_SPF || !smtpd_spf_is_due(s)) {
		smtpd_mail_end(s, sender, size, NULL);
		return SMTPD_NEXT;
	}
	if (!x)
		x = s->spf = calloc(1, sizeof *x);
	if (!x) {
		smtpd_status(SMTPD_NO_MEMORY, &st);
		smtpd_mail_end(s, sender, size, &st);
		return SMTPD_NEXT;
	}
	x->size = size;
	if (x->known && strcmp(x->sender, sender) == 0 && strcmp(x->helo, s->helo) == 0) {
		smtpd_spf_judge(s);
		return SMTPD_NEXT;
	}
	if (x->checks >= SMTPD_SPF_MAX)
		return smtpd_say_last(s, SMTPD_TOO_MANY_SENDERS, "too many SPF checks");
	snprintf(x->sender, sizeof x->sender, "%s", sender);
	snprintf(x->helo, sizeof x->helo, "%s", s->helo);
	return smtpd_spf_ask(s);
}

bool smtpd_spf_is_asking(const struct smtpd *s)
{
	return WITH_SPF && s->spf && s->spf->check;
}

void smtpd_spf_clear(struct smtpd *s)
{
	if (!WITH_SPF || !s->spf)
		return;
	if (s->spf->check)
		spf_cancel(s->spf->check);
	free(s->spf);
	s->spf = NULL;
}

/* ---- the fields ----------------------------------------------------------------------------- */

/* In words, for who reads the header (RFC 7208 9.1). */
static void smtpd_spf_words(const struct smtpd *s, char *out, size_t size)
{
	static const char *const words[] = {
	    [SPF_NONE] = "does not say who may send its mail",
	    [SPF_NEUTRAL] = "neither permits nor forbids",
	    [SPF_PASS] = "permits",
	    [SPF_FAIL] = "forbids",
	    [SPF_SOFTFAIL] = "would rather not see mail from",
	    [SPF_TEMPERROR] = "could not be asked about",
	    [SPF_PERMERROR] = "has a policy that cannot be read for",
	};
	const struct spf_answer *a = &s->spf->answer;
	char domain[ADDR_DOMAIN_MAX + 1];
	bool none = a->result == SPF_NONE;
	snprintf(out, size, "%s %s%s%s", smtpd_spf_domain(a, domain), words[a->result],
	         none ? "" : " ", none ? "" : s->who);
}

bool smtpd_spf_passed(const struct smtpd *s)
{
	return WITH_SPF && s->txn->spf && s->spf->answer.result == SPF_PASS;
}

int smtpd_spf_fields(struct smtpd *s, struct buf *out)
{
	const struct smtpd_spf *x = s->spf;
	const char *name = s->setup->conf->hostname;
	char words[ADDR_DOMAIN_MAX + 128];
	if (!WITH_SPF || !s->txn->spf)
		return 0;
	struct authres_spf result = {
	    .result = spf_result_name(x->answer.result),
	    .identity = x->answer.helo_identity ? "helo" : "mailfrom",
	    .mailfrom = x->sender,
	    .helo = x->helo,
	    .client_ip = s->who,
	    .mechanism = x->answer.mechanism,
	    .problem = x->answer.problem,
	};
	if (authres_write(out, name, &result))
		return -1;
	smtpd_spf_words(s, words, sizeof words);
	result.reason = words;
	return authres_write_received_spf(out, name, &result);
}
