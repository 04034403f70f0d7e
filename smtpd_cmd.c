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

#include "smtpd_auth.h"
#include "smtpd_int.h"
#include "smtpd_log.h"
#include "smtpd_mail.h"
#include "smtpd_rcpt.h"
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
		more = !s->secured ? "STARTTLS\n" : WITH_AUTH ? "AUTH PLAIN LOGIN\n" : "";
	snprintf(offer, sizeof offer,
	         "%.255s\nPIPELINING\nSIZE %lld\n8BITMIME\nENHANCEDSTATUSCODES\n%s%sHELP",
	         s->setup->conf->hostname, (long long)smtpd_size_max(s),
	         WITH_IDN ? "SMTPUTF8\n" : "", more);
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

/* RFC 6531 3.7.4.2: a name that is not ASCII needs the word SMTPUTF8 behind it. What we say of it
 * is ASCII either way. */
static enum smtpd_next smtpd_vrfy(struct smtpd *s, struct slice args)
{
	const char word[] = " SMTPUTF8";
	size_t n = sizeof word - 1;
	bool asked = WITH_IDN && s->esmtp && args.n > n &&
	             slice_is_nocase((struct slice){args.p + args.n - n, n}, word);
	smtpd_say(s, asked || smtpd_may_write(s, args) ? SMTPD_OK_VRFY : SMTPD_NEED_UTF8);
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

/* ---- DATA ----------------------------------------------------------------------------------- */

STAT_VECTOR(stat_tls, "chasquid/smtpIn/tlsCount", "status",
            "Messages begun (DATA), in the clear or not", 2, "plain tls");

static enum smtpd_next smtpd_data(struct smtpd *s, struct slice args)
{
	struct status st;
	(void)args;
	stat_add_at(&stat_tls, s->secured, 1);
	if (smtpd_content_begin(s, &st)) {
		smtpd_reject(s, s->txn->env.from, NULL, &st);
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
#if WITH_TLS && WITH_AUTH
	[SMTP_AUTH] = {BIT(SMTPD_READY),                   COUNTED | TLS,     smtpd_auth, SMTPD_AUTH_IN_MAIL},
#endif
};
/* clang-format on */

/* In the order of enum smtp_verb; HTTP, its last, has a counter of its own. */
STAT_VECTOR(stat_commands, "chasquid/smtpIn/commandCount", "command", "Commands received",
            SMTP_HTTP,
            "unknown HELO EHLO MAIL RCPT DATA BDAT RSET NOOP QUIT HELP VRFY EXPN STARTTLS AUTH");
STAT_VECTOR(stat_http, "chasquid/smtpIn/wrongProtoCount", "command",
            "Sessions ended because the client speaks HTTP", 4, "GET POST CONNECT other");

static void smtpd_count_command(const struct smtp_command *cmd)
{
	static const char *const verbs[] = {"GET", "POST", "CONNECT"};
	size_t i = 0;
	if (cmd->verb != SMTP_HTTP) {
		stat_add_at(&stat_commands, cmd->verb, 1);
		return;
	}
	while (i < sizeof verbs / sizeof *verbs && !slice_is_nocase(cmd->name, verbs[i]))
		i++;
	stat_add_at(&stat_http, i, 1);
}

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
	smtpd_count_command(&cmd);
	smtpd_log_command(s, &cmd);
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
