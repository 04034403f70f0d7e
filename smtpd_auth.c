/*
 * smtpd_auth: AUTH (RFC 4954) in an SMTP server session, and which senders a login may use.
 *
 * Passwords are asked for within TLS only, live in a buffer that is overwritten, and in a child;
 * they are neither logged nor kept. An exchange is in struct smtpd_sasl, made by AUTH and gone with
 * the verdict; ending the session cancels the question.
 */
#define LOG_KIND LOG_SESSION

#include "smtpd_auth.h"

#if WITH_TLS && WITH_AUTH

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"
#include "base64.h"
#include "log.h"
#include "resolve.h"
#include "smtpd_log.h"
#include "smtpd_mail.h"
#include "stat.h"

STAT_COUNTER(stat_auth_good, "smtpd/auth{result=good}", "Logins");
STAT_COUNTER(stat_auth_bad, "smtpd/auth{result=bad}", "Logins");

struct smtpd_sasl {
	struct auth auth;
	bool is_login;            /* mechanism LOGIN, else PLAIN */
	bool has_id;              /* LOGIN: the user was given */
	char name[ADDR_TEXT_MAX]; /* of the user as the client said it, for the log */
	struct buf id;
};

/* ---- the exchange --------------------------------------------------------------------------- */

static void smtpd_wipe(struct buf *b)
{
	if (b->len > 0)
		explicit_bzero(buf_data(b), b->len);
	buf_clear(b);
}

void smtpd_sasl_clear(struct smtpd *s)
{
	struct smtpd_sasl *x = s->sasl;
	if (!x)
		return;
	s->sasl = NULL;
	auth_cancel(&x->auth);
	smtpd_wipe(&x->id);
	free(x);
}

/* The exchange ends without a verdict. */
static enum smtpd_next smtpd_sasl_end(struct smtpd *s, enum smtpd_reply reply)
{
	smtpd_sasl_clear(s);
	smtpd_enter(s, SMTPD_READY);
	smtpd_say(s, reply);
	return SMTPD_NEXT;
}

void smtpd_sasl_too_long(struct smtpd *s)
{
	smtpd_sasl_end(s, SMTPD_AUTH_TOO_LONG);
}

/* Asks for the next line: LOGIN's prompts are "Username:" and "Password:" in base64, PLAIN's is
 * empty. */
static enum smtpd_next smtpd_sasl_ask(struct smtpd *s)
{
	const struct smtpd_sasl *x = s->sasl;
	smtpd_enter(s, SMTPD_SASL);
	if (!x->is_login)
		smtpd_say_text(s, 334, "");
	else
		smtpd_say_text(s, 334, x->has_id ? "UGFzc3dvcmQ6" : "VXNlcm5hbWU6");
	return SMTPD_NEXT;
}

static void smtpd_login_failed(struct smtpd *s)
{
	stat_add(&stat_auth_bad, 1);
	log_info(s->id, "smtpd login failed", LOG_S("peer", s->who));
	if (++s->failures >= SMTPD_AUTH_FAILURES_MAX)
		smtpd_say_last(s, SMTPD_AUTH_TOO_OFTEN, "too many failed logins");
	else
		smtpd_say(s, SMTPD_AUTH_BAD);
}

static void smtpd_logged_in(struct smtpd *s, struct smtpd_login *login)
{
	s->login = login;
	stat_add(&stat_auth_good, 1);
	log_info(s->id, "smtpd login", LOG_S("login", login->text), LOG_S("peer", s->who));
	smtpd_say(s, SMTPD_AUTH_GOOD);
}

static struct smtpd_login *smtpd_login_new(const struct addr *user)
{
	struct smtpd_login *login = calloc(1, sizeof *login);
	if (!login)
		return NULL;
	login->addr = *user;
	if (addr_format(user, login->text, sizeof login->text)) {
		free(login);
		return NULL;
	}
	return login;
}

/* The verdict. */
static void smtpd_auth_checked(void *arg, struct auth *a)
{
	struct smtpd *s = arg;
	enum auth_result result = a->result;
	struct smtpd_login *login = result == AUTH_YES ? smtpd_login_new(&a->user) : NULL;
	if (login || result == AUTH_NO)
		smtpd_log_auth(s, login ? login->text : s->sasl->name, login != NULL);
	smtpd_sasl_clear(s);
	smtpd_enter(s, SMTPD_READY);
	if (login)
		smtpd_logged_in(s, login);
	else if (result == AUTH_NO)
		smtpd_login_failed(s);
	else
		smtpd_say(s, SMTPD_AUTH_NOT_NOW);
	smtpd_resume(s);
}

static enum smtpd_next smtpd_auth_check(struct smtpd *s, struct slice id, struct slice password)
{
	smtpd_enter(s, SMTPD_CHECK);
	status_clean(id, s->sasl->name, sizeof s->sasl->name);
	auth_ask(&s->sasl->auth, id, password, &s->peer.addr, smtpd_auth_checked, s);
	return SMTPD_WAIT;
}

/* What could not be decoded. A line always fits: a buffer that failed found no memory. */
static enum smtpd_next smtpd_sasl_unread(struct smtpd *s, const struct buf *b)
{
	return smtpd_sasl_end(s, b->failed ? SMTPD_AUTH_NOT_NOW : SMTPD_AUTH_MALFORMED);
}

static enum smtpd_next smtpd_sasl_plain(struct smtpd *s, struct slice in)
{
	struct buf message;
	struct slice id;
	struct slice password;
	const char *why;
	enum smtpd_next next;
	buf_init(&message, SMTPD_LINE_MAX);
	if (auth_plain_decode(in, &message, &id, &password, &why)) {
		if (smtpd_log_may(s, false))
			log_info(s->id, "smtpd AUTH malformed", LOG_S("why", why),
			         LOG_S("peer", s->who));
		next = smtpd_sasl_unread(s, &message);
	} else {
		next = smtpd_auth_check(s, id, password);
	}
	smtpd_wipe(&message);
	return next;
}

static enum smtpd_next smtpd_sasl_login(struct smtpd *s, struct slice in)
{
	struct smtpd_sasl *x = s->sasl;
	struct buf password;
	enum smtpd_next next;
	if (!x->has_id) {
		if (base64_decode(in, &x->id))
			return smtpd_sasl_unread(s, &x->id);
		x->has_id = true;
		return smtpd_sasl_ask(s);
	}
	buf_init(&password, SMTPD_LINE_MAX);
	if (base64_decode(in, &password))
		next = smtpd_sasl_unread(s, &password);
	else
		next = smtpd_auth_check(s, buf_slice(&x->id), buf_slice(&password));
	smtpd_wipe(&password);
	return next;
}

static enum smtpd_next smtpd_sasl_take(struct smtpd *s, struct slice in)
{
	return s->sasl->is_login ? smtpd_sasl_login(s, in) : smtpd_sasl_plain(s, in);
}

enum smtpd_next smtpd_sasl_line(struct smtpd *s, struct slice line)
{
	if (s->leaving || s->setup->stopping)
		return smtpd_say_last(s, SMTPD_LEAVING, "stopping");
	if (slice_is(line, "*"))
		return smtpd_sasl_end(s, SMTPD_AUTH_CANCELLED);
	return smtpd_sasl_take(s, line);
}

/* Begins an exchange with that mechanism. Returns false after saying why not. */
static bool smtpd_sasl_begin(struct smtpd *s, struct slice mechanism)
{
	bool is_login = slice_is_nocase(mechanism, "LOGIN");
	if (mechanism.n == 0) {
		smtpd_say(s, SMTPD_AUTH_SYNTAX);
	} else if (!is_login && !slice_is_nocase(mechanism, "PLAIN")) {
		smtpd_say(s, SMTPD_AUTH_MECHANISM);
	} else if (!auth_may_try(&s->peer.addr) || !(s->sasl = calloc(1, sizeof *s->sasl))) {
		smtpd_say(s, SMTPD_AUTH_NOT_NOW);
	} else {
		s->sasl->is_login = is_login;
		buf_init(&s->sasl->id, SMTPD_LINE_MAX);
		return true;
	}
	return false;
}

enum smtpd_next smtpd_auth(struct smtpd *s, struct slice args)
{
	const char *blank = memchr(args.p, ' ', args.n);
	struct slice mechanism = {args.p, blank ? (size_t)(blank - args.p) : args.n};
	struct slice initial = {args.p + mechanism.n, args.n - mechanism.n};
	while (initial.n > 0 && *initial.p == ' ') {
		initial.p++;
		initial.n--;
	}
	if (s->login) {
		smtpd_say(s, SMTPD_AUTH_TWICE);
		return SMTPD_NEXT;
	}
	if (!s->secured) {
		smtpd_say(s, SMTPD_AUTH_NEEDS_TLS);
		return SMTPD_NEXT;
	}
	if (!smtpd_sasl_begin(s, mechanism))
		return SMTPD_NEXT;
	if (initial.n == 0)
		return smtpd_sasl_ask(s);
	/* "=" is an initial response that is there and empty. */
	if (slice_is(initial, "="))
		initial.n = 0;
	return smtpd_sasl_take(s, initial);
}

/* ---- whose sender address it is -------------------------------------------------------------- */

/* Is it the login's own address, with any suffix and dropped characters? */
static bool smtpd_is_login(const struct smtpd *s, const struct addr *a)
{
	const struct conf *conf = s->setup->conf;
	const struct addr *login = &s->login->addr;
	char have[ADDR_USER_MAX + 1];
	char want[ADDR_USER_MAX + 1];
	/* A user whom only Dovecot knows may have no domain; then all of ours are its own. */
	if (login->domain[0] ? strcmp(a->domain, login->domain) != 0
	                     : !conf_domain_find(conf, a->domain))
		return false;
	if (addr_user_equal(a->user, login->user))
		return true;
	user_clean(a->user, conf->suffix_separators, conf->drop_characters, false, have);
	user_clean(login->user, "", conf->drop_characters, false, want);
	return addr_user_equal(have, want);
}

/* The question where a sender's address leads to. */
struct smtpd_owner {
	struct resolve *resolve;
	int64_t size; /* declared with MAIL */
	char from[ADDR_TEXT_MAX];
};

void smtpd_owner_clear(struct smtpd *s)
{
	struct smtpd_owner *o = s->owner;
	if (!o)
		return;
	s->owner = NULL;
	resolve_cancel(o->resolve);
	free(o);
}

/* Do all destinations belong to the login, and is there one? */
static bool smtpd_are_own(const struct smtpd *s, const struct resolve_found *found, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct addr a;
		if (found[i].type != ALIAS_EMAIL || addr_parse(slice_of(found[i].address), &a) ||
		    !smtpd_is_login(s, &a))
			return false;
	}
	return count > 0;
}

static enum smtpd_next smtpd_not_own(struct smtpd *s, const char *text, int64_t size)
{
	struct status st;
	smtpd_status(SMTPD_NOT_OWN, &st);
	smtpd_mail_end(s, text, size, &st);
	return SMTPD_NEXT;
}

static void smtpd_owner_found(void *arg, const struct status *st, const struct resolve_found *found,
                              size_t count)
{
	struct smtpd *s = arg;
	struct smtpd_owner *o = s->owner;
	enum smtpd_next next = SMTPD_NEXT;
	s->owner = NULL;
	smtpd_enter(s, SMTPD_READY);
	if (status_class(st) == STATUS_TRANSIENT)
		smtpd_mail_end(s, o->from, o->size, st);
	else if (status_class(st) == STATUS_DONE && smtpd_are_own(s, found, count))
		next = smtpd_spf_mail(s, o->from, o->size);
	else
		next = smtpd_not_own(s, o->from, o->size);
	free(o);
	if (next != SMTPD_WAIT)
		smtpd_resume(s);
}

static enum smtpd_next smtpd_ask_owner(struct smtpd *s, const struct addr *from, const char *text,
                                       int64_t size)
{
	struct smtpd_owner *o = s->owner = calloc(1, sizeof *o);
	if (o)
		o->resolve = resolve_start(s->setup->conf, s->id, from, smtpd_owner_found, s);
	if (!o || !o->resolve) {
		struct status st;
		smtpd_owner_clear(s);
		smtpd_status(SMTPD_NO_MEMORY, &st);
		smtpd_mail_end(s, text, size, &st);
		return SMTPD_NEXT;
	}
	o->size = size;
	memcpy(o->from, text, strlen(text) + 1);
	smtpd_enter(s, SMTPD_CHECK);
	return SMTPD_WAIT;
}

enum smtpd_next smtpd_sender_mail(struct smtpd *s, const struct addr *from, const char *text,
                                  int64_t size)
{
	const struct conf *conf = s->setup->conf;
	if (!s->login || !conf->sender_login_check || addr_is_null(from) || smtpd_is_login(s, from))
		return smtpd_spf_mail(s, text, size);
	if (!conf_domain_find(conf, from->domain))
		return smtpd_not_own(s, text, size);
	return smtpd_ask_owner(s, from, text, size);
}

#endif
