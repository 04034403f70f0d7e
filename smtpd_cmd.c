/*
 * smtpd_cmd: the commands of an SMTP server session.
 *
 * One table says of each verb in which states it may come and what must hold; the dispatcher checks
 * that once. A handler checks, acts, gives exactly one reply and says how to go on. Arguments are
 * slices of the input: hostile, and gone when the handler returns.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "smtpd_auth.h"
#include "smtpd_int.h"
#include "smtpd_spf.h"
#include "smtpd_tls.h"
#include "stat.h"

#define BIT(state) (1U << (state))
#define ANY        (BIT(SMTPD_START) | GREETED)
#define GREETED    (BIT(SMTPD_READY) | BIT(SMTPD_MAIL) | BIT(SMTPD_RCPT))

/* Demands of a verb. */
#define NO_ARGS (1U << 0) /* stands alone */
#define COUNTED (1U << 1) /* brings no message nearer: floods are bounded */
#define TLS     (1U << 2) /* unknown where there is no TLS */
#define LOGIN   (1U << 3) /* wants a login where users submit mail */

/* ---- greeting and small talk ---------------------------------------------------------------- */

static bool smtpd_is_name_byte(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c >= 0x80 || strchr(".-_:[]", c);
}

/* Keeps the first word of what the client calls itself. Any name is accepted (RFC 5321 4.1.4), but
 * it stands in the trace, where '(' and ';' have a meaning. */
static int smtpd_keep_name(struct smtpd *s, struct slice args)
{
	char name[SMTPD_HELO_MAX + 1];
	const char *blank = memchr(args.p, ' ', args.n);
	if (blank)
		args.n = (size_t)(blank - args.p);
	status_clean(args, name, sizeof name);
	for (char *p = name; *p; p++)
		if (!smtpd_is_name_byte((unsigned char)*p))
			*p = '?';
	char *copy = strdup(name);
	if (!copy)
		return -1;
	free(s->helo);
	s->helo = copy;
	return 0;
}

/* Greets, and ends a transaction as RSET does (RFC 5321 4.1.4). Returns false after a refusal. */
static bool smtpd_greet(struct smtpd *s, struct slice args, bool esmtp)
{
	if (args.n == 0) {
		smtpd_say(s, SMTPD_NEED_NAME);
		return false;
	}
	if (smtpd_keep_name(s, args)) {
		smtpd_say(s, SMTPD_NO_MEMORY);
		return false;
	}
	s->esmtp = esmtp;
	smtpd_txn_clear(s);
	smtpd_enter(s, SMTPD_READY);
	return true;
}

static enum smtpd_next smtpd_helo(struct smtpd *s, struct slice args)
{
	if (smtpd_greet(s, args, false))
		smtpd_say_text(s, 250, s->setup->conf->hostname);
	return SMTPD_NEXT;
}

static enum smtpd_next smtpd_ehlo(struct smtpd *s, struct slice args)
{
	char offer[SMTP_REPLY_TEXT];
	const char *more = "";
	if (smtpd_has_tls(s))
		more = s->secured ? "AUTH PLAIN LOGIN\n" : "STARTTLS\n";
	snprintf(offer, sizeof offer,
	         "%.255s\nPIPELINING\nSIZE %lld\n8BITMIME\nENHANCEDSTATUSCODES\n%sHELP",
	         s->setup->conf->hostname, (long long)smtpd_size_max(s), more);
	if (smtpd_greet(s, args, true))
		smtpd_say_text(s, 250, offer);
	return SMTPD_NEXT;
}

static enum smtpd_next smtpd_rset(struct smtpd *s, struct slice args)
{
	(void)args;
	smtpd_txn_clear(s);
	if (s->state != SMTPD_START)
		smtpd_enter(s, SMTPD_READY);
	smtpd_say(s, SMTPD_OK);
	return SMTPD_NEXT;
}

static enum smtpd_next smtpd_noop(struct smtpd *s, struct slice args)
{
	(void)args;
	smtpd_say(s, SMTPD_OK);
	return SMTPD_NEXT;
}

static enum smtpd_next smtpd_help(struct smtpd *s, struct slice args)
{
	(void)args;
	smtpd_say(s, SMTPD_HELP);
	return SMTPD_NEXT;
}

static enum smtpd_next smtpd_vrfy(struct smtpd *s, struct slice args)
{
	(void)args;
	smtpd_say(s, SMTPD_OK_VRFY);
	return SMTPD_NEXT;
}

static enum smtpd_next smtpd_expn(struct smtpd *s, struct slice args)
{
	(void)args;
	smtpd_say(s, SMTPD_NOT_DONE);
	return SMTPD_NEXT;
}

static enum smtpd_next smtpd_quit(struct smtpd *s, struct slice args)
{
	(void)args;
	smtpd_say(s, SMTPD_BYE);
	s->why = "quit";
	return SMTPD_CLOSE;
}

/* A browser made to talk to us: nothing behind the first line may be taken for commands. */
static enum smtpd_next smtpd_http(struct smtpd *s, struct slice args)
{
	(void)args;
	smtpd_say(s, SMTPD_NOT_HTTP);
	s->why = "HTTP";
	return SMTPD_CLOSE;
}

/* ---- MAIL ----------------------------------------------------------------------------------- */

static int smtpd_fail(struct status *st, enum smtpd_reply reply)
{
	smtpd_status(reply, st);
	return -1;
}

/* Reads MAIL's parameters. 0, or -1 with *st. */
static int smtpd_mail_params(struct smtpd *s, struct slice rest, int64_t *size, struct status *st)
{
	struct smtp_param p;
	int got;
	*size = 0;
	while ((got = smtp_param_next(&rest, &p)) > 0) {
		if (slice_is_nocase(p.key, "SIZE")) {
			if (smtp_size_parse(p.value, size))
				return smtpd_fail(st, SMTPD_BAD_PARAM);
			if (*size > smtpd_size_max(s))
				return smtpd_fail(st, SMTPD_TOO_BIG);
		} else if (slice_is_nocase(p.key, "BODY")) {
			if (!slice_is_nocase(p.value, "7BIT") &&
			    !slice_is_nocase(p.value, "8BITMIME"))
				return smtpd_fail(st, SMTPD_BAD_PARAM);
		} else if (s->secured && slice_is_nocase(p.key, "AUTH")) {
			/* Who submitted it first is of no use to us (RFC 4954 5). */
			if (p.value.n == 0)
				return smtpd_fail(st, SMTPD_BAD_PARAM);
		} else {
			return smtpd_fail(st, SMTPD_UNKNOWN_PARAM);
		}
	}
	return got < 0 ? smtpd_fail(st, SMTPD_BAD_PARAM) : 0;
}

/* All that can be said of MAIL at once. 0, or -1 with *st; text is the sender, or what the client
 * wrote. */
static int smtpd_read_mail(struct smtpd *s, struct slice args, char *text, size_t size,
                           int64_t *declared, struct status *st)
{
	struct addr from;
	struct slice rest;
	status_clean(args, text, size);
	if (addr_parse_path(args, ADDR_MAIL, &from, &rest, st))
		return -1;
	if (addr_format(&from, text, size))
		return smtpd_fail(st, SMTPD_NEED_FROM);
	if (smtpd_mail_params(s, rest, declared, st))
		return -1;
	if (s->login && s->setup->conf->sender_login_check && smtpd_check_sender(s, &from, st))
		return -1;
	return 0;
}

void smtpd_mail_end(struct smtpd *s, const char *from, int64_t size, const struct status *refused)
{
	struct status st;
	if (refused) {
		smtpd_reject(s, from, NULL, refused);
	} else if (smtpd_txn_begin(s, from, size, &st)) {
		smtpd_reject(s, from, NULL, &st);
	} else {
		smtpd_enter(s, SMTPD_MAIL);
		smtpd_say(s, SMTPD_OK_MAIL);
	}
}

static enum smtpd_next smtpd_mail(struct smtpd *s, struct slice args)
{
	struct status st;
	char text[ADDR_TEXT_MAX];
	int64_t declared;
	if (smtp_args_skip(&args, "FROM:"))
		smtpd_say(s, SMTPD_NEED_FROM);
	else if (smtpd_read_mail(s, args, text, sizeof text, &declared, &st))
		smtpd_reject(s, text, NULL, &st);
	else
		return smtpd_spf_mail(s, text, declared);
	return SMTPD_NEXT;
}

/* ---- RCPT ----------------------------------------------------------------------------------- */

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

static enum smtpd_next smtpd_rcpt(struct smtpd *s, struct slice args)
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

/* ---- DATA ----------------------------------------------------------------------------------- */

static enum smtpd_next smtpd_data(struct smtpd *s, struct slice args)
{
	struct status st;
	(void)args;
	if (smtpd_content_begin(s, &st)) {
		smtpd_reject(s, s->txn->env.from, s->txn->env.to[0], &st);
		return SMTPD_NEXT;
	}
	smtpd_enter(s, SMTPD_DATA);
	smtpd_say(s, SMTPD_GO_AHEAD);
	return SMTPD_NEXT;
}

/* ---- the table and its dispatcher ----------------------------------------------------------- */

struct smtpd_verb {
	unsigned states;
	unsigned flags;
	enum smtpd_next (*run)(struct smtpd *s, struct slice args); /* NULL: unknown command */
	enum smtpd_reply wrong; /* when it comes within a transaction and may not */
};

/* clang-format off */
static const struct smtpd_verb smtpd_verbs[SMTP_VERBS] = {
	[SMTP_HELO] = {ANY,                                COUNTED,           smtpd_helo, SMTPD_OK},
	[SMTP_EHLO] = {ANY,                                COUNTED,           smtpd_ehlo, SMTPD_OK},
	[SMTP_MAIL] = {BIT(SMTPD_READY),                   COUNTED | LOGIN,   smtpd_mail, SMTPD_MAIL_TWICE},
	[SMTP_RCPT] = {BIT(SMTPD_MAIL) | BIT(SMTPD_RCPT),  COUNTED,           smtpd_rcpt, SMTPD_OK},
	[SMTP_DATA] = {BIT(SMTPD_RCPT),                    NO_ARGS,           smtpd_data, SMTPD_NO_RCPT},
	[SMTP_RSET] = {ANY,                                COUNTED | NO_ARGS, smtpd_rset, SMTPD_OK},
	[SMTP_NOOP] = {ANY,                                COUNTED,           smtpd_noop, SMTPD_OK},
	[SMTP_VRFY] = {ANY,                                COUNTED,           smtpd_vrfy, SMTPD_OK},
	[SMTP_EXPN] = {ANY,                                COUNTED,           smtpd_expn, SMTPD_OK},
	[SMTP_HELP] = {ANY,                                COUNTED,           smtpd_help, SMTPD_OK},
	[SMTP_QUIT] = {ANY,                                NO_ARGS,           smtpd_quit, SMTPD_OK},
	[SMTP_HTTP] = {ANY,                                0,                 smtpd_http, SMTPD_OK},
	[SMTP_STARTTLS] = {GREETED,                        COUNTED | NO_ARGS | TLS, smtpd_starttls, SMTPD_OK},
#if WITH_TLS
	[SMTP_AUTH] = {BIT(SMTPD_READY),                   COUNTED | TLS,     smtpd_auth, SMTPD_AUTH_IN_MAIL},
#endif
};
/* clang-format on */

#define COMMAND_COUNTER(verb) [SMTP_##verb] = {.name = "smtpd/commands{" #verb "}"}
static struct stat_counter stat_commands[SMTP_VERBS] = {
    [SMTP_UNKNOWN] = {.name = "smtpd/commands{unknown}"},
    COMMAND_COUNTER(HELO),
    COMMAND_COUNTER(EHLO),
    COMMAND_COUNTER(MAIL),
    COMMAND_COUNTER(RCPT),
    COMMAND_COUNTER(DATA),
    COMMAND_COUNTER(BDAT),
    COMMAND_COUNTER(RSET),
    COMMAND_COUNTER(NOOP),
    COMMAND_COUNTER(QUIT),
    COMMAND_COUNTER(HELP),
    COMMAND_COUNTER(VRFY),
    COMMAND_COUNTER(EXPN),
    COMMAND_COUNTER(STARTTLS),
    COMMAND_COUNTER(AUTH),
    COMMAND_COUNTER(HTTP),
};

/* What is wrong with a command that may not come now. */
static enum smtpd_reply smtpd_wrong_order(const struct smtpd *s, const struct smtpd_verb *v)
{
	switch (s->state) {
	case SMTPD_START:
		return SMTPD_NEED_EHLO;
	case SMTPD_READY:
		return SMTPD_NEED_MAIL;
	default:
		return v->wrong;
	}
}

/* Does this session not know the verb? */
static bool smtpd_is_unknown(const struct smtpd *s, const struct smtpd_verb *v)
{
	return !v->run || ((v->flags & TLS) && !smtpd_has_tls(s));
}

enum smtpd_next smtpd_say_last(struct smtpd *s, enum smtpd_reply reply, const char *why)
{
	smtpd_say(s, reply);
	s->why = why;
	return SMTPD_CLOSE;
}

enum smtpd_next smtpd_command(struct smtpd *s, struct slice line)
{
	struct smtp_command cmd;
	int bad = smtp_command_parse(line, &cmd);
	const struct smtpd_verb *v = &smtpd_verbs[cmd.verb];
	stat_add(&stat_commands[cmd.verb], 1);
	log_debug(s->id, "smtpd command", LOG_S("verb", smtp_verb_name(cmd.verb)));
	if (s->leaving || s->setup->stopping)
		return smtpd_say_last(s, SMTPD_LEAVING, "stopping");
	if ((v->flags & COUNTED) && ++s->idle > SMTPD_IDLE_COMMANDS_MAX)
		return smtpd_say_last(s, SMTPD_TOO_MANY_COMMANDS, "too many commands");
	if (bad)
		smtpd_say(s, SMTPD_CONTROL);
	else if (smtpd_is_unknown(s, v))
		smtpd_say(s, cmd.verb == SMTP_UNKNOWN ? SMTPD_UNKNOWN : SMTPD_NOT_DONE);
	else if ((v->flags & NO_ARGS) && cmd.args.n > 0)
		smtpd_say(s, SMTPD_NO_ARGUMENTS);
	else if (!(v->states & BIT(s->state)))
		smtpd_say(s, smtpd_wrong_order(s, v));
	else if ((v->flags & LOGIN) && s->peer.mode == SMTPD_SUBMISSION && !s->login)
		smtpd_say(s, s->secured ? SMTPD_NEED_AUTH : SMTPD_NEED_TLS);
	else
		return v->run(s, cmd.args);
	return SMTPD_NEXT;
}
