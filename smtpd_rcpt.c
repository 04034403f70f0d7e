/*
 * smtpd_rcpt: the command RCPT, and what its address stands for.
 *
 * May this peer send there, is there such a user, which destinations does it lead to, and what does
 * hooks/rcpt say of it? The address, its destinations once they are in the envelope, and whoever is
 * asked are in struct smtpd_rcpt, from the command to its reply; the transaction takes it along
 * when it ends before. Who is asked answers from the loop, the session being parked in SMTPD_CHECK.
 */
#define LOG_KIND LOG_SESSION

#include "smtpd_rcpt.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "resolve.h"
#include "smtpd_hook.h"
#include "smtpd_mail.h"
#include "srs.h"
#include "stat.h"

STAT_COUNTER(stat_way_back, "smtpd/srs_bounces",
             "Recipients that were rewritten senders (SRS) on the way back");

struct smtpd_rcpt {
	struct addr to;
	char text[ADDR_TEXT_MAX]; /* canonical; what the client wrote when it is no address */
	bool anywhere;            /* <postmaster>: of any domain of ours */
	size_t before;            /* recipients of the envelope that are not this one's */
	struct resolve *resolve;  /* under way; NULL otherwise */
	struct hook *hook;        /* under way; NULL otherwise: mostly there is none */
};

void smtpd_rcpt_clear(struct smtpd_txn *t)
{
	struct smtpd_rcpt *r = t->rcpt;
	if (!r)
		return;
	t->rcpt = NULL;
	resolve_cancel(r->resolve);
	if (r->hook)
		hook_cancel(r->hook);
	free(r->hook);
	free(r);
}

/* ---- the envelope --------------------------------------------------------------------------- */

static bool smtpd_has_to(const struct envelope *env, const char *text)
{
	for (size_t i = 0; i < env->to_count; i++)
		if (strcmp(env->to[i], text) == 0)
			return true;
	return false;
}

static bool smtpd_has_rcpt(const struct envelope *env, enum rcpt_type type,
                           const struct resolve_found *f)
{
	for (size_t i = 0; i < env->rcpt_count; i++) {
		const struct rcpt *r = &env->rcpt[i];
		if (r->type == type && strcmp(r->address, f->address) == 0 &&
		    strcmp(r->via ? r->via : "", f->via ? f->via : "") == 0)
			return true;
	}
	return false;
}

/* Adds the destinations of the recipient. 0, or -1 with *st. */
static int smtpd_add_found(struct smtpd *s, const struct resolve_found *found, size_t count,
                           struct status *st)
{
	struct envelope *env = &s->txn->env;
	for (size_t i = 0; i < count; i++) {
		const struct resolve_found *f = &found[i];
		enum rcpt_type type = f->type == ALIAS_PIPE      ? RCPT_PIPE
		                      : f->type == ALIAS_FORWARD ? RCPT_FORWARD
		                                                 : RCPT_EMAIL;
		if (!smtpd_has_rcpt(env, type, f) &&
		    envelope_add_rcpt(env, type, f->address, s->txn->rcpt->text, f->via))
			return smtpd_fail(st, SMTPD_TOO_MANY_RCPTS);
	}
	return 0;
}

/* ---- the end -------------------------------------------------------------------------------- */

/* Gives the reply: refuses with *refused or, when that is NULL, takes the recipient. */
static enum smtpd_next smtpd_rcpt_end(struct smtpd *s, const struct status *refused)
{
	struct smtpd_rcpt *r = s->txn->rcpt;
	struct envelope *env = &s->txn->env;
	struct status st;
	if (!refused && !smtpd_has_to(env, r->text) && envelope_add_to(env, r->text)) {
		smtpd_status(SMTPD_NO_MEMORY, &st);
		refused = &st;
	}
	if (refused)
		envelope_drop_rcpts(env, r->before);
	smtpd_enter(s, env->to_count > 0 ? SMTPD_RCPT : SMTPD_MAIL);
	if (refused)
		smtpd_reject(s, env->from, r->text, refused);
	else
		smtpd_say(s, SMTPD_OK_RCPT);
	smtpd_rcpt_clear(s->txn);
	return SMTPD_NEXT;
}

static void smtpd_rcpt_hooked(void *arg, struct hook *h)
{
	struct smtpd *s = arg;
	struct status st;
	if (h->result == HOOK_REJECT)
		status_set_text(&st, 550, "5.7.1", h->text);
	else
		status_set_text(&st, 451, "4.3.0", h->text);
	smtpd_rcpt_end(s, h->result == HOOK_DONE ? NULL : &st);
	smtpd_resume(s);
}

/* The last to be asked. Users of this machine are no peers that a policy could judge. */
static enum smtpd_next smtpd_rcpt_ask_hook(struct smtpd *s)
{
	struct smtpd_rcpt *r = s->txn->rcpt;
	struct hook_session session;
	struct status st;
	if (s->peer.mode == SMTPD_LOCAL || !hook_exists(HOOK_RCPT))
		return smtpd_rcpt_end(s, NULL);
	r->hook = calloc(1, sizeof *r->hook);
	if (!r->hook) {
		smtpd_status(SMTPD_NO_MEMORY, &st);
		return smtpd_rcpt_end(s, &st);
	}
	smtpd_hook_session(s, &session);
	smtpd_enter(s, SMTPD_CHECK);
	hook_start(r->hook, HOOK_RCPT, s->id, r->text, &session, -1, smtpd_rcpt_hooked, s);
	return SMTPD_WAIT;
}

/* ---- where it leads to ---------------------------------------------------------------------- */

static enum smtpd_next smtpd_rcpt_found(struct smtpd *s, const struct resolve_found *found,
                                        size_t count)
{
	struct status st;
	if (smtpd_add_found(s, found, count, &st))
		return smtpd_rcpt_end(s, &st);
	return smtpd_rcpt_ask_hook(s);
}

static void smtpd_rcpt_resolved(void *arg, const struct status *st,
                                const struct resolve_found *found, size_t count)
{
	struct smtpd *s = arg;
	enum smtpd_next next;
	s->txn->rcpt->resolve = NULL;
	if (status_class(st) != STATUS_DONE)
		next = smtpd_rcpt_end(s, st);
	else
		next = smtpd_rcpt_found(s, found, count);
	if (next != SMTPD_WAIT)
		smtpd_resume(s);
}

static enum smtpd_next smtpd_rcpt_resolve(struct smtpd *s)
{
	struct smtpd_rcpt *r = s->txn->rcpt;
	struct addr a = r->to;
	struct status st;
	if (r->anywhere)
		a.domain[0] = '\0';
	r->resolve = resolve_start(s->setup->conf, s->id, &a, smtpd_rcpt_resolved, s);
	if (!r->resolve) {
		smtpd_status(SMTPD_NO_MEMORY, &st);
		return smtpd_rcpt_end(s, &st);
	}
	smtpd_enter(s, SMTPD_CHECK);
	return SMTPD_WAIT;
}

/* Is it a sender that we have rewritten? Then *to is whom the bounce belongs to. Only bounces need
 * the way back: nobody else who has seen such an address can send through us with it. What has come
 * by us twice leads to an address of ours that leads on. */
static bool smtpd_is_way_back(const struct smtpd *s, struct addr *to)
{
	const struct smtpd_setup *setup = s->setup;
	struct addr from = s->txn->rcpt->to;
	struct status st;
	bool found = false;
	for (int hop = 0; hop < 2 && setup->srs && envelope_is_bounce(&s->txn->env); hop++) {
		if (!conf_domain_find(setup->conf, from.domain) || !srs_is_mine(from.user) ||
		    srs_reverse(setup->srs, from.user, setup->now(), to, &st))
			break;
		found = true;
		from = *to;
	}
	if (found)
		*to = from;
	return found;
}

/* The address is good, and the peer may send there. */
static enum smtpd_next smtpd_rcpt_go(struct smtpd *s)
{
	struct smtpd_rcpt *r = s->txn->rcpt;
	const struct conf *conf = s->setup->conf;
	char text[ADDR_TEXT_MAX];
	struct addr to;
	struct resolve_found self = {.type = ALIAS_EMAIL, .address = r->text};
	if (smtpd_has_to(&s->txn->env, r->text))
		return smtpd_rcpt_end(s, NULL);
	if (!conf_domain_find(conf, r->to.domain))
		return smtpd_rcpt_found(s, &self, 1);
	if (!smtpd_is_way_back(s, &to) || addr_format(&to, text, sizeof text))
		return smtpd_rcpt_resolve(s);
	stat_add(&stat_way_back, 1);
	log_info(s->id, "smtpd srs bounce", LOG_S("to", r->text), LOG_S("for", text));
	if (conf_domain_find(conf, to.domain)) {
		/* A sender may name us as a hop: whether there is such a user is another matter. */
		r->to = to;
		return smtpd_rcpt_resolve(s);
	}
	self.address = text;
	return smtpd_rcpt_found(s, &self, 1);
}

/* ---- the command ---------------------------------------------------------------------------- */

/* <postmaster> without a domain is ours wherever we are (RFC 5321 4.5.1). */
static void smtpd_complete_postmaster(const struct conf *conf, struct addr *a)
{
	const char *domain = "localhost";
	char host[ADDR_DOMAIN_MAX + 1];
	if (addr_domain_normalise(slice_of(conf->hostname), host, sizeof host) == 0 &&
	    conf_domain_find(conf, host))
		domain = host;
	else if (conf->domain_count > 0)
		domain = conf->domain[0].name;
	size_t n = strlen(domain);
	if (n < sizeof a->domain)
		memcpy(a->domain, domain, n + 1);
}

/* Takes the message from a trusted host's share, once. Only what is relayed for its trust counts.
 */
static bool smtpd_is_too_fast(struct smtpd *s)
{
	if (s->txn->counted || !s->setup->rate)
		return false;
	s->txn->counted =
	    rate_take(s->setup->rate, &s->peer.addr, s->setup->conf->trusted_rate, loop_now());
	return !s->txn->counted;
}

/* May this peer send to that domain? 0, or -1 with *st. */
static int smtpd_may_send_to(struct smtpd *s, const char *domain, struct status *st)
{
	if (s->login || s->peer.mode == SMTPD_LOCAL || conf_domain_find(s->setup->conf, domain))
		return 0;
	if (!s->peer.trusted)
		return smtpd_fail(st, SMTPD_NO_RELAY);
	return smtpd_is_too_fast(s) ? smtpd_fail(st, SMTPD_TOO_FAST) : 0;
}

/* All that can be said of RCPT at once. 0, or -1 with *st. */
static int smtpd_read_rcpt(struct smtpd *s, struct slice args, struct smtpd_rcpt *r,
                           struct status *st)
{
	struct slice rest;
	status_clean(args, r->text, sizeof r->text);
	if (addr_parse_path(args, ADDR_RCPT, &r->to, &rest, st))
		return -1;
	args.n -= rest.n;
	if (!smtpd_may_write(s, args))
		return smtpd_fail(st, SMTPD_NEED_UTF8);
	if (rest.n > 0) {
		struct smtp_param p;
		return smtpd_fail(st, smtp_param_next(&rest, &p) < 0 ? SMTPD_BAD_PARAM
		                                                     : SMTPD_UNKNOWN_PARAM);
	}
	r->anywhere = !r->to.domain[0];
	if (r->anywhere)
		smtpd_complete_postmaster(s->setup->conf, &r->to);
	if (addr_format(&r->to, r->text, sizeof r->text))
		return smtpd_fail(st, SMTPD_NEED_TO);
	return smtpd_may_send_to(s, r->to.domain, st);
}

static enum smtpd_next smtpd_rcpt_begin(struct smtpd *s, struct slice args)
{
	struct smtpd_txn *t = s->txn;
	struct status st;
	t->rcpt = calloc(1, sizeof *t->rcpt);
	if (!t->rcpt) {
		smtpd_say(s, SMTPD_NO_MEMORY);
		return SMTPD_NEXT;
	}
	t->rcpt->before = t->env.rcpt_count;
	if (smtpd_read_rcpt(s, args, t->rcpt, &st))
		return smtpd_rcpt_end(s, &st);
	return smtpd_rcpt_go(s);
}

enum smtpd_next smtpd_rcpt(struct smtpd *s, struct slice args)
{
	size_t most = s->peer.mode == SMTPD_LOCAL ? SMTPD_LOCAL_RCPTS_MAX : SMTPD_RCPTS_MAX;
	if (smtp_args_skip(&args, "TO:")) {
		smtpd_say(s, SMTPD_NEED_TO);
	} else if (s->txn->env.to_count >= most) {
		/* No line in the log: honest clients with long lists come here. */
		smtpd_say(s, SMTPD_TOO_MANY_RCPTS);
	} else {
		return smtpd_rcpt_begin(s, args);
	}
	return SMTPD_NEXT;
}
