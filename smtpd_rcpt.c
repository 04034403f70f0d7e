/*
 * smtpd_rcpt: the command RCPT, and what its address stands for.
 *
 * May this peer send there, is there such a user, and which destinations does it lead to?
 */
#include <string.h>

#include "smtpd_auth.h"
#include "smtpd_int.h"

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

/* A RCPT being expanded into destinations. */
struct smtpd_expansion {
	struct envelope *env;
	const char *original;
	size_t found;
	bool full;
};

static bool smtpd_has_rcpt(const struct envelope *env, enum rcpt_type type, const char *address,
                           const char *via)
{
	for (size_t i = 0; i < env->rcpt_count; i++) {
		const struct rcpt *r = &env->rcpt[i];
		if (r->type == type && strcmp(r->address, address) == 0 &&
		    strcmp(r->via ? r->via : "", via ? via : "") == 0)
			return true;
	}
	return false;
}

static int smtpd_found(void *arg, enum alias_type type, const char *address, const char *via)
{
	struct smtpd_expansion *x = arg;
	enum rcpt_type rcpt = type == ALIAS_PIPE      ? RCPT_PIPE
	                      : type == ALIAS_FORWARD ? RCPT_FORWARD
	                                              : RCPT_EMAIL;
	x->found++;
	if (smtpd_has_rcpt(x->env, rcpt, address, via))
		return 0;
	if (envelope_add_rcpt(x->env, rcpt, address, x->original, via)) {
		x->full = true;
		return -1;
	}
	return 0;
}

/* Adds a recipient, text being its canonical form. 0, or -1 with *st and the envelope as it was. */
static int smtpd_add_rcpt(struct smtpd *s, const struct addr *to, const char *text,
                          struct status *st)
{
	struct envelope *env = &s->txn->env;
	struct smtpd_expansion x = {.env = env, .original = text};
	size_t before = env->rcpt_count;
	for (size_t i = 0; i < env->to_count; i++)
		if (strcmp(env->to[i], text) == 0)
			return 0;
	int rc = alias_resolve(s->setup->conf, to, smtpd_found, &x, st);
	if (x.full)
		rc = smtpd_fail(st, SMTPD_TOO_MANY_RCPTS);
	else if (rc == 0 && x.found == 0)
		rc = smtpd_fail(st, SMTPD_NO_USER);
	if (rc == 0 && envelope_add_to(env, text))
		rc = smtpd_fail(st, SMTPD_NO_MEMORY);
	if (rc)
		envelope_drop_rcpts(env, before);
	return rc;
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

/* All of RCPT but the reply. 0, or -1 with *st; text is the address, or what the client wrote. */
static int smtpd_take_rcpt(struct smtpd *s, struct slice args, struct addr *to, char *text,
                           size_t size, struct status *st)
{
	struct slice rest;
	status_clean(args, text, size);
	if (addr_parse_path(args, ADDR_RCPT, to, &rest, st))
		return -1;
	if (rest.n > 0) {
		struct smtp_param p;
		return smtpd_fail(st, smtp_param_next(&rest, &p) < 0 ? SMTPD_BAD_PARAM
		                                                     : SMTPD_UNKNOWN_PARAM);
	}
	if (!to->domain[0])
		smtpd_complete_postmaster(s->setup->conf, to);
	if (addr_format(to, text, size))
		return smtpd_fail(st, SMTPD_NEED_TO);
	if (smtpd_may_send_to(s, to->domain, st))
		return -1;
	return smtpd_add_rcpt(s, to, text, st);
}

static bool smtpd_is_no_user(const struct status *st)
{
	return st->code == 550 && st->enh[1] == 1 && st->enh[2] == 1;
}

void smtpd_rcpt_end(struct smtpd *s, const struct addr *to, enum smtpd_reply reply)
{
	struct envelope *env = &s->txn->env;
	struct status st;
	char text[ADDR_TEXT_MAX];
	size_t before = env->rcpt_count;
	addr_format(to, text, sizeof text); /* it did before */
	if (reply == SMTPD_OK_RCPT && !smtpd_has_rcpt(env, RCPT_EMAIL, text, NULL) &&
	    (envelope_add_rcpt(env, RCPT_EMAIL, text, text, NULL) || envelope_add_to(env, text))) {
		envelope_drop_rcpts(env, before);
		reply = SMTPD_TOO_MANY_RCPTS;
	}
	smtpd_enter(s, env->to_count > 0 ? SMTPD_RCPT : SMTPD_MAIL);
	smtpd_status(reply, &st);
	if (status_class(&st) == STATUS_DONE)
		smtpd_say(s, reply);
	else
		smtpd_reject(s, env->from, text, &st);
	smtpd_resume(s);
}

enum smtpd_next smtpd_rcpt(struct smtpd *s, struct slice args)
{
	struct status st;
	struct addr to;
	char text[ADDR_TEXT_MAX];
	size_t most = s->peer.mode == SMTPD_LOCAL ? SMTPD_LOCAL_RCPTS_MAX : SMTPD_RCPTS_MAX;
	if (smtp_args_skip(&args, "TO:")) {
		smtpd_say(s, SMTPD_NEED_TO);
	} else if (s->txn->env.to_count >= most) {
		/* No line in the log: honest clients with long lists come here. */
		smtpd_say(s, SMTPD_TOO_MANY_RCPTS);
	} else if (smtpd_take_rcpt(s, args, &to, text, sizeof text, &st)) {
		if (smtpd_is_no_user(&st) && smtpd_ask_user(s, &to) == 0)
			return SMTPD_WAIT;
		smtpd_reject(s, s->txn->env.from, text, &st);
	} else {
		smtpd_enter(s, SMTPD_RCPT);
		smtpd_say(s, SMTPD_OK_RCPT);
	}
	return SMTPD_NEXT;
}
