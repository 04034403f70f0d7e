/*
 * smtpd_auth: AUTH (RFC 4954) in an SMTP server session, and which senders a login may use.
 *
 * Passwords are asked for within TLS only, live in a buffer that is overwritten, and in a child;
 * they are neither logged nor kept. An exchange is in struct smtpd_sasl, made by AUTH and gone with
 * the verdict; ending the session cancels the question.
 */
#include "smtpd_auth.h"

#if WITH_TLS

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"
#include "base64.h"
#include "log.h"
#include "stat.h"

STAT_COUNTER(stat_auth_good, "smtpd/auth{good}");
STAT_COUNTER(stat_auth_bad, "smtpd/auth{bad}");

/* Also a question about a recipient. */
struct smtpd_sasl {
	struct auth auth;
	struct addr to; /* the recipient */
	bool is_login;  /* mechanism LOGIN, else PLAIN */
	bool has_id;    /* LOGIN: the user was given */
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
	auth_ask(&s->sasl->auth, id, password, &s->peer.addr, smtpd_auth_checked, s);
	return SMTPD_WAIT;
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
		log_info(s->id, "smtpd AUTH malformed", LOG_S("why", why), LOG_S("peer", s->who));
		next = smtpd_sasl_end(s, SMTPD_AUTH_MALFORMED);
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
			return smtpd_sasl_end(s, SMTPD_AUTH_MALFORMED);
		x->has_id = true;
		return smtpd_sasl_ask(s);
	}
	buf_init(&password, SMTPD_LINE_MAX);
	if (base64_decode(in, &password))
		next = smtpd_sasl_end(s, SMTPD_AUTH_MALFORMED);
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

/* ---- recipients that Dovecot knows ----------------------------------------------------------- */

static void smtpd_user_checked(void *arg, struct auth *a)
{
	struct smtpd *s = arg;
	enum smtpd_reply reply = a->result == AUTH_YES  ? SMTPD_OK_RCPT
	                         : a->result == AUTH_NO ? SMTPD_NO_USER
	                                                : SMTPD_USER_NOT_NOW;
	struct addr to = s->sasl->to;
	smtpd_sasl_clear(s);
	smtpd_rcpt_end(s, &to, reply);
}

int smtpd_ask_user(struct smtpd *s, const struct addr *to)
{
	const struct conf *conf = s->setup->conf;
	if (!conf->dovecot_auth || !conf_domain_find(conf, to->domain))
		return -1;
	s->sasl = calloc(1, sizeof *s->sasl);
	if (!s->sasl)
		return -1;
	buf_init(&s->sasl->id, 1);
	s->sasl->to = *to;
	user_clean(to->user, conf->suffix_separators, "", false, s->sasl->to.user);
	smtpd_enter(s, SMTPD_CHECK);
	auth_exists(&s->sasl->auth, &s->sasl->to, smtpd_user_checked, s);
	return 0;
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

struct smtpd_owner {
	const struct smtpd *s;
	size_t others;
	bool own;
};

static int smtpd_found_owner(void *arg, enum alias_type type, const char *address, const char *via)
{
	struct smtpd_owner *o = arg;
	struct addr a;
	(void)via;
	if (type == ALIAS_EMAIL && addr_parse(slice_of(address), &a) == 0 &&
	    smtpd_is_login(o->s, &a))
		o->own = true;
	else
		o->others++;
	return 0;
}

int smtpd_check_sender(const struct smtpd *s, const struct addr *from, struct status *st)
{
	struct smtpd_owner o = {.s = s};
	if (addr_is_null(from) || smtpd_is_login(s, from))
		return 0;
	if (conf_domain_find(s->setup->conf, from->domain) &&
	    alias_resolve(s->setup->conf, from, smtpd_found_owner, &o, st) &&
	    status_class(st) == STATUS_TRANSIENT)
		return -1;
	if (o.own && o.others == 0)
		return 0;
	smtpd_status(SMTPD_NOT_OWN, st);
	return -1;
}

#endif
