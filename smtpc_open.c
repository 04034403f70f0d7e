/*
 * smtpc_open: the beginning of an SMTP client session: greeting, EHLO, TLS, login.
 *
 * Nothing that was said before the handshake counts after it: the capabilities are asked for again,
 * and bytes that came behind the reply to STARTTLS, when a third party could still add to them, are
 * thrown away unread (RFC 3207 4.2, 6). Between the handshake and the next command the caller
 * judges the certificate.
 *
 * Credentials go out under TLS only, and only once the caller has approved of the peer. They are in
 * no log line: what is logged of this dialogue is the peer's part, and that is hidden where it
 * repeats ours.
 */
#include "smtpc_int.h"

#include <stdio.h>
#include <string.h>

#include "base64.h"
#include "log.h"
#include "status.h"
#include "tls.h"

/* ---- TLS ---- */

static enum state fail_tls(struct smtpc *c, const struct status *st)
{
	c->trouble = SMTPC_TLS_TROUBLE;
	return smtpc_fail(c, st);
}

enum state smtpc_send_starttls(struct smtpc *c)
{
	io_printf(&c->io, "STARTTLS\r\n");
	return S_STARTTLS;
}

enum state smtpc_got_starttls(struct smtpc *c, const struct smtp_reply *r)
{
	struct status st;
	if (r->code == 220)
		return S_HANDSHAKE;
	status_set(&st, 454, "4.7.0", "STARTTLS refused: %d %s", r->code, r->status.text);
	return fail_tls(c, &st);
}

enum state smtpc_begin_tls(struct smtpc *c)
{
	struct status st;
	struct tls *t = tls_connect(c->security.roots, c->security.name, c->io.watch.fd);
	if (io_start_tls(&c->io, t) == 0)
		return S_HANDSHAKE;
	status_set(&st, 451, "4.3.0", "cannot begin TLS");
	return smtpc_fail(c, &st);
}

enum state smtpc_judge(struct smtpc *c)
{
	struct status st;
	if (c->security.judge && c->security.judge(c->arg, tls_peer(io_tls(&c->io)), &st))
		return smtpc_fail(c, &st);
	c->secured = true;
	return c->security.tls == SMTPC_TLS_IMPLICIT ? S_GREETING : S_EHLO;
}

/* ---- greeting and EHLO ---- */

/* The first word of what the peer says is its name. */
static void keep_name(struct smtpc *c, const struct smtp_reply *r)
{
	size_t n = strcspn(r->status.text, " ");
	if (n >= sizeof c->greeting)
		n = sizeof c->greeting - 1;
	memcpy(c->greeting, r->status.text, n);
	c->greeting[n] = '\0';
}

/* The peer does not want us. Where TLS is required, that may have been said by anybody on the way
 * as long as there is none, and must not end the message for good. */
static enum state refused(struct smtpc *c, const struct smtp_reply *r)
{
	struct status st;
	const struct status *given = smtpc_refusal(c, r, &st);
	if (c->security.required && !c->secured && status_class(given) == STATUS_PERMANENT) {
		status_set(&st, 454, "4.7.0", "refused before TLS: %d %s", r->code, r->status.text);
		given = &st;
	}
	smtpc_tell_ready(c, given);
	return S_QUIT;
}

enum state smtpc_connected(struct smtpc *c)
{
	return c->security.tls == SMTPC_TLS_IMPLICIT ? S_HANDSHAKE : S_GREETING;
}

enum state smtpc_got_greeting(struct smtpc *c, const struct smtp_reply *r)
{
	if (r->code / 100 != 2)
		return refused(c, r);
	keep_name(c, r);
	return c->lmtp ? S_LHLO : S_EHLO;
}

enum state smtpc_send_ehlo(struct smtpc *c)
{
	c->caps = (struct smtp_caps){0};
	io_printf(&c->io, "EHLO %s\r\n", c->ehlo);
	return S_EHLO;
}

enum state smtpc_send_helo(struct smtpc *c)
{
	c->caps = (struct smtp_caps){0};
	io_printf(&c->io, "HELO %s\r\n", c->ehlo);
	return S_HELO;
}

enum state smtpc_send_lhlo(struct smtpc *c)
{
	c->caps = (struct smtp_caps){0};
	io_printf(&c->io, "LHLO %s\r\n", c->ehlo);
	return S_LHLO;
}

/* The peer has introduced itself: TLS and login, where they are still to come. */
static enum state introduced(struct smtpc *c)
{
	struct status st;
	if (c->security.tls == SMTPC_TLS_STARTTLS && !c->secured) {
		if (c->caps.ext & SMTP_EXT_STARTTLS)
			return S_STARTTLS;
		if (c->security.required) {
			c->trouble = SMTPC_TLS_MISSING;
			status_set(&st, 454, "4.7.0", "the host does not offer STARTTLS");
			smtpc_tell_ready(c, &st);
			return S_QUIT;
		}
	}
	return c->security.login ? S_AUTH : S_READY;
}

enum state smtpc_got_helo(struct smtpc *c, const struct smtp_reply *r)
{
	if (r->code / 100 != 2)
		return refused(c, r);
	/* After STARTTLS there is no greeting; the first one was anybody's. */
	if (c->secured && c->security.tls == SMTPC_TLS_STARTTLS)
		keep_name(c, r);
	return introduced(c);
}

/* RFC 5321 3.2: a server that does not know EHLO gets HELO. */
enum state smtpc_got_ehlo(struct smtpc *c, const struct smtp_reply *r)
{
	return r->code / 100 == 5 ? S_HELO : smtpc_got_helo(c, r);
}

/* ---- login ---- */

static const struct {
	const char *name;
	unsigned ext;
	unsigned responses; /* messages of ours the mechanism takes */
} mechanisms[] = {
    [SMTPC_AUTH_PLAIN] = {"PLAIN", SMTP_EXT_AUTH_PLAIN, 1},
    [SMTPC_AUTH_LOGIN] = {"LOGIN", SMTP_EXT_AUTH_LOGIN, 2},
    [SMTPC_AUTH_XOAUTH2] = {"XOAUTH2", SMTP_EXT_AUTH_XOAUTH2, 1},
};

/* The mechanism asked for, or the best one offered, if it is offered; else SMTPC_AUTH_BEST. A token
 * is no password: XOAUTH2 is used on demand only. */
static enum smtpc_mechanism choose_mechanism(const struct smtpc *c)
{
	enum smtpc_mechanism want = c->security.login->mechanism;
	if (want == SMTPC_AUTH_BEST)
		want = (c->caps.ext & SMTP_EXT_AUTH_PLAIN) ? SMTPC_AUTH_PLAIN : SMTPC_AUTH_LOGIN;
	return (c->caps.ext & mechanisms[want].ext) ? want : SMTPC_AUTH_BEST;
}

/* Message number n of the mechanism, before base64: RFC 4616; the draft of LOGIN; Google's XOAUTH2.
 */
static void put_response(const struct smtpc *c, unsigned n, struct buf *out)
{
	const struct smtpc_login *l = c->security.login;
	switch (c->mechanism) {
	case SMTPC_AUTH_PLAIN:
		buf_putc(out, '\0');
		buf_puts(out, l->user);
		buf_putc(out, '\0');
		buf_puts(out, l->secret);
		break;
	case SMTPC_AUTH_XOAUTH2:
		buf_printf(out, "user=%s\001auth=Bearer %s\001\001", l->user, l->secret);
		break;
	default:
		buf_puts(out, n == 0 ? l->user : l->secret);
		break;
	}
}

static void wipe(struct buf *b)
{
	if (b->data)
		explicit_bzero(b->data, b->size);
	buf_clear(b);
}

/* Writes the next message in base64 behind prefix, if the line has at most max bytes; what does not
 * fit is left for a line of its own. Returns 0, or -1. */
static int send_response(struct smtpc *c, const char *prefix, size_t max)
{
	struct buf plain, line;
	buf_init(&plain, SMTPC_LOGIN_MAX);
	buf_init(&line, max);
	put_response(c, c->responses, &plain);
	buf_puts(&line, prefix);
	if (!plain.failed)
		base64_encode(buf_slice(&plain), &line);
	buf_puts(&line, "\r\n");
	bool good = !plain.failed && !line.failed;
	if (good) {
		c->responses++;
		io_write(&c->io, buf_data(&line), line.len);
	}
	wipe(&plain);
	wipe(&line);
	return good ? 0 : -1;
}

static enum state no_login(struct smtpc *c, const char *why)
{
	struct status st;
	status_set(&st, 454, "4.7.0", "cannot log in: %s", why);
	smtpc_tell_ready(c, &st);
	return S_QUIT;
}

/* Does text hold a run of SMTPC_HIDE bytes of the secret, or all of a shorter one? */
static bool repeats(const char *text, struct slice secret)
{
	size_t n = secret.n < SMTPC_HIDE ? secret.n : SMTPC_HIDE;
	size_t len = strlen(text);
	for (size_t i = 0; n > 0 && i + n <= secret.n; i++)
		if (memmem(text, len, secret.p + i, n))
			return true;
	return false;
}

void smtpc_hide_secret(const struct smtpc *c, struct status *st)
{
	const struct smtpc_login *l = c->security.login;
	struct buf plain, text;
	if (!l)
		return;
	bool hide = repeats(st->text, slice_of(l->secret));
	buf_init(&plain, SMTPC_LOGIN_MAX);
	buf_init(&text, SMTPC_OUT_MAX);
	for (unsigned n = 0; !hide && n < mechanisms[c->mechanism].responses; n++) {
		buf_truncate(&plain, 0);
		buf_truncate(&text, 0);
		put_response(c, n, &plain);
		if (base64_encode(buf_slice(&plain), &text) || plain.failed)
			break;
		hide = repeats(st->text, buf_slice(&text));
	}
	wipe(&plain);
	wipe(&text);
	if (hide)
		status_clean(slice_of("(not shown: it repeats our login)"), st->text,
		             sizeof st->text);
}

/* RFC 4954 4: a first response that makes the command longer than 512 bytes waits for a 334. */
enum state smtpc_send_auth(struct smtpc *c)
{
	char command[32];
	if (!WITH_TLS || !c->secured)
		return no_login(c, "the connection is not protected");
	c->mechanism = choose_mechanism(c);
	if (c->mechanism == SMTPC_AUTH_BEST)
		return no_login(c, "the host does not offer the mechanism");
	snprintf(command, sizeof command, "AUTH %s ", mechanisms[c->mechanism].name);
	c->responses = 0;
	if (c->mechanism != SMTPC_AUTH_LOGIN && send_response(c, command, 512) == 0)
		return S_AUTH;
	io_printf(&c->io, "AUTH %s\r\n", mechanisms[c->mechanism].name);
	return S_AUTH;
}

/* RFC 4954 4: "*" ends an exchange that went wrong. XOAUTH2 answers a refusal with an empty line,
 * after which the refusal proper comes. */
enum state smtpc_send_credentials(struct smtpc *c)
{
	if (c->responses >= mechanisms[c->mechanism].responses) {
		io_printf(&c->io, c->mechanism == SMTPC_AUTH_XOAUTH2 ? "\r\n" : "*\r\n");
		c->responses++;
	} else if (send_response(c, "", SMTPC_OUT_MAX)) {
		return no_login(c, "the credentials are too long");
	}
	return S_CREDENTIALS;
}

enum state smtpc_got_auth(struct smtpc *c, const struct smtp_reply *r)
{
	struct status st;
	if (r->code == 235)
		return S_READY;
	if (r->code == 334 && c->responses <= mechanisms[c->mechanism].responses)
		return S_CREDENTIALS;
	/* RFC 4954 6: 4yz is the server's own trouble. A 5yz is about our configuration, not about
	 * the message, so it must not end the message. */
	if (r->code / 100 == 5)
		c->trouble = SMTPC_LOGIN_TROUBLE;
	status_set(&st, 454, "4.7.8", "%s: %d %s",
	           r->code / 100 == 5 ? "wrong credentials" : "login failed", r->code,
	           r->status.text);
	smtpc_tell_ready(c, &st);
	return S_QUIT;
}
