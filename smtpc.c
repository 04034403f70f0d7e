/*
 * smtpc: the SMTP client.
 *
 * A session is always in one state: the step whose reply it waits for. The table `smtpc_steps` has
 * a row for each; smtpc_move() alone changes the state, logs it and sets the deadline. What happens
 * in a state returns the next one, so nothing can happen that leads nowhere.
 *
 * The envelope (MAIL, RCPT..., DATA) is a row of commands with two positions: `sent` and
 * `answered`. With PIPELINING (RFC 2920) the first runs ahead as far as the out buffer has room,
 * without it both go in step; replies are matched in order either way. Memory does not depend on
 * the message: content is read when the out buffer has drained.
 *
 * Once DATA was answered with 354, what we send is content. If then anything goes wrong before the
 * final dot is on its way, the connection is closed as it is: no QUIT and nothing of the buffer may
 * follow, or the peer could take half a message for a whole one.
 *
 * LMTP (RFC 2033) is the same session with another greeting and a reply to the content for each
 * recipient: the state after the final dot is left when the last of them has come.
 *
 * The steps from the connection to ready are in smtpc_open.c.
 */
#define LOG_KIND LOG_DELIVERY

#include "smtpc_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "tls.h"

/* ---- verdicts ---- */

void smtpc_tell_ready(struct smtpc *c, const struct status *st)
{
	c->told_ready = true;
	c->ready(c->arg, st);
}

static void settle(struct smtpc *c, size_t rcpt, enum mark mark, const struct status *st,
                   enum smtpc_scope scope)
{
	c->mark[rcpt] = (unsigned char)mark;
	c->mail->verdict(c->mail->arg, rcpt, st, scope);
}

/* Gives all recipients without a verdict this one. A message or connection that failed for now says
 * nothing final about them; of the host's scope are transient verdicts only. */
static void settle_open(struct smtpc *c, const struct status *st, enum smtpc_scope scope)
{
	if (!c->mail)
		return;
	if (status_class(st) != STATUS_TRANSIENT && scope == SMTPC_HOST)
		scope = SMTPC_RCPT;
	for (size_t i = 0; i < c->mail->count; i++)
		if (c->mark[i] == R_OPEN || c->mark[i] == R_ACCEPTED)
			settle(c, i, R_SETTLED, st, scope);
}

/* A refusal as it was given; anything else than 4yz and 5yz does not belong here and is put into
 * words. */
const struct status *smtpc_refusal(const struct smtpc *c, const struct smtp_reply *r,
                                   struct status *buffer)
{
	if (r->code / 100 == 4 || r->code / 100 == 5)
		return &r->status;
	status_set(buffer, 451, "4.5.0", "unexpected reply to %s: %d %s",
	           smtpc_steps[c->state].name, r->code, r->status.text);
	return buffer;
}

/* The connection or the host is of no use any more. */
enum state smtpc_fail(struct smtpc *c, const struct status *st)
{
	if (!c->told_ready)
		smtpc_tell_ready(c, st);
	else
		settle_open(c, st, c->dot_sent ? SMTPC_RCPT : SMTPC_HOST);
	return S_CLOSE;
}

enum state smtpc_fail_unexpected(struct smtpc *c, const struct smtp_reply *r)
{
	struct status st;
	return smtpc_fail(c, smtpc_refusal(c, r, &st));
}

/* smtpc_fail() for a peer that did not answer: it may have the message all the same. */
static enum state fail_unanswered(struct smtpc *c, const struct status *st)
{
	if (c->dot_sent && c->accepted > 0)
		log_error(c->id, "smtpc possible duplicate", LOG_S("why", st->text),
		          LOG_N("recipients", c->accepted));
	return smtpc_fail(c, st);
}

/* Ends the transaction, if there is one. */
static void mail_end(struct smtpc *c)
{
	const struct smtpc_mail *mail = c->mail;
	if (!mail)
		return;
	c->mail = NULL;
	mail->done(mail->arg);
}

/* ---- the one place that moves ---- */

static void set_deadline(struct smtpc *c)
{
	int64_t ms = smtpc_steps[c->state].limit_ms;
	int64_t left = c->end - loop_now();
	if (ms > left)
		ms = left > 0 ? left : 1;
	c->unsent = io_unsent(&c->io);
	io_deadline(&c->io, ms);
}

static void smtpc_move(struct smtpc *c, enum state next)
{
	for (;;) {
		const struct step *s = &smtpc_steps[next];
		/* A trace has commands and replies, which say as much. */
		if (next != c->state && log_level_now >= LOG_LEVEL_DEBUG)
			log_debug(c->id, "smtpc state", LOG_S("from", smtpc_steps[c->state].name),
			          LOG_S("to", s->name));
		c->state = next;
		set_deadline(c);
		if (s->send)
			next = s->send(c);
		if (c->io.out.failed && c->state != S_CLOSE) {
			struct status st;
			status_set(&st, 451, "4.3.0", "out of memory");
			next = smtpc_fail(c, &st);
		}
		c->unsent = io_unsent(&c->io);
		if (next == c->state)
			return;
	}
}

/* ---- ready ---- */

static enum state enter_ready(struct smtpc *c)
{
	struct status st;
	if (c->told_ready) {
		mail_end(c);
	} else {
		status_set(&st, 250, "2.0.0", "ready");
		smtpc_tell_ready(c, &st);
	}
	if (c->mail)
		return S_MAIL;
	return c->quitting ? S_QUIT : S_READY;
}

/* ---- the envelope ---- */

/* Is the local part of a canonical address beyond ASCII? */
static bool is_utf8_user(const char *address)
{
	const char *at = strrchr(address, '@');
	for (const char *p = address; at && p < at; p++)
		if ((unsigned char)*p > 127)
			return true;
	return false;
}

/* RFC 6531 3.2: a message that asks for SMTPUTF8 without need could go to fewer hosts. */
static bool wants_utf8(const struct smtpc *c)
{
	bool wanted = c->mail->header_8bit || is_utf8_user(c->mail->from);
	for (size_t i = 0; i < c->mail->count && !wanted; i++)
		wanted = is_utf8_user(c->mail->rcpt[i]);
	return wanted;
}

/* A mailbox that needs neither quotes nor another spelling? */
static bool is_plain(const char *address)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	                            "._-+=";
	size_t local = strspn(address, plain);
	const char *domain = address + local + 1;
	if (local == 0 || address[local] != '@' || *domain == '\0')
		return false;
	return domain[strspn(domain, plain)] == '\0';
}

/* A canonical address as it goes over the wire. 0, or -1 when it cannot. */
static int wire_path(const struct smtpc *c, const char *address, char out[ADDR_TEXT_MAX])
{
	struct addr a;
	size_t n = strlen(address);
	/* Most are of such bytes alone, and go as they are. */
	if (n + 3 <= ADDR_TEXT_MAX && n > 0 && is_plain(address)) {
		out[0] = '<';
		memcpy(out + 1, address, n);
		memcpy(out + 1 + n, ">", 2);
		return 0;
	}
	if (addr_parse(slice_of(address), &a))
		return -1;
	return addr_format_wire(&a, c->utf8, out, ADDR_TEXT_MAX);
}

static void put(struct smtpc *c, const char *s)
{
	io_write(&c->io, s, strlen(s));
}

static void send_mail(struct smtpc *c)
{
	char path[ADDR_TEXT_MAX];
	if (wire_path(c, c->mail->from, path))
		path[0] = '\0'; /* begin_mail has looked */
	log_debug(c->id, "smtpc command", LOG_S("verb", "MAIL"), LOG_S("path", path),
	          LOG_N("utf8", c->utf8));
	put(c, "MAIL FROM:");
	put(c, path);
	if ((c->caps.ext & SMTP_EXT_SIZE) && c->mail->size > 0)
		io_printf(&c->io, " SIZE=%llu", (unsigned long long)c->mail->size);
	if (c->caps.ext & SMTP_EXT_8BITMIME)
		put(c, " BODY=8BITMIME");
	if (c->utf8)
		put(c, " SMTPUTF8");
	put(c, "\r\n");
}

static void send_rcpt(struct smtpc *c, size_t rcpt)
{
	char path[ADDR_TEXT_MAX];
	if (wire_path(c, c->mail->rcpt[rcpt], path))
		path[0] = '\0';
	log_debug(c->id, "smtpc command", LOG_S("verb", "RCPT"), LOG_S("path", path));
	put(c, "RCPT TO:");
	put(c, path);
	put(c, "\r\n");
}

static void send_data(struct smtpc *c)
{
	log_debug(c->id, "smtpc command", LOG_S("verb", "DATA"));
	put(c, "DATA\r\n");
}

static size_t data_command(const struct smtpc *c)
{
	return c->mail->count + 1;
}

/* The command behind `command`, without recipients that are skipped. */
static size_t next_command(const struct smtpc *c, size_t command)
{
	do
		command++;
	while (command <= c->mail->count && c->mark[command - 1] == R_SKIP);
	return command;
}

/* Where to wait: for the reply to the first command that has none; or RSET when there is none and
 * nothing more will be sent. */
static enum state envelope_state(const struct smtpc *c)
{
	if (c->abandoned && c->answered == c->sent)
		return S_RSET;
	if (c->answered == 0)
		return S_MAIL;
	return c->answered < data_command(c) ? S_RCPT : S_DATA;
}

static enum state push_envelope(struct smtpc *c)
{
	bool pipelining = c->caps.ext & SMTP_EXT_PIPELINING;
	while (!c->abandoned && c->sent <= data_command(c)) {
		bool waiting = c->answered < c->sent;
		if ((waiting && !pipelining) || io_room(&c->io) < SMTPC_COMMAND_MAX)
			break;
		if (c->sent == data_command(c) && !waiting && c->accepted == 0) {
			c->abandoned = true;
			break;
		}
		if (c->sent == 0)
			send_mail(c);
		else if (c->sent == data_command(c))
			send_data(c);
		else
			send_rcpt(c, c->sent - 1);
		c->sent = next_command(c, c->sent);
	}
	return envelope_state(c);
}

/* What of the message as a whole needs SMTPUTF8 and cannot have it; NULL: nothing. A mailbox behind
 * LMTP takes a header of any bytes. */
static const char *lacks_utf8(const struct smtpc *c)
{
	char path[ADDR_TEXT_MAX];
	if (SMTPD_STRICT_HEADER && c->mail->header_8bit && !c->utf8 && !c->lmtp)
		return "header";
	return wire_path(c, c->mail->from, path) ? "sender" : NULL;
}

/* Gives the recipients that cannot be written to this host their verdict. Returns how many are
 * left. */
static size_t settle_unwritable(struct smtpc *c)
{
	const char *lacking = lacks_utf8(c);
	char path[ADDR_TEXT_MAX];
	struct status st;
	size_t good = 0;
	for (size_t i = 0; i < c->mail->count; i++) {
		if (!lacking && !wire_path(c, c->mail->rcpt[i], path)) {
			good++;
			continue;
		}
		status_set(&st, 550, "5.6.7",
		           "the %s needs SMTPUTF8, which the host does not offer",
		           lacking ? lacking : "recipient");
		settle(c, i, R_SKIP, &st, SMTPC_HOST);
	}
	return good;
}

static enum state begin_mail(struct smtpc *c)
{
	struct status st;
	if (c->caps.size > 0 && c->mail->size > (uint64_t)c->caps.size) {
		status_set(&st, 552, "5.3.4",
		           "message of %llu bytes exceeds the host's limit of %lld",
		           (unsigned long long)c->mail->size, (long long)c->caps.size);
		settle_open(c, &st, SMTPC_RCPT);
		return S_READY;
	}
	c->utf8 = (c->caps.ext & SMTP_EXT_SMTPUTF8) && wants_utf8(c);
	return settle_unwritable(c) > 0 ? push_envelope(c) : S_READY;
}

static enum state got_mail(struct smtpc *c, const struct smtp_reply *r)
{
	struct status st;
	if (r->code / 100 != 2) {
		settle_open(c, smtpc_refusal(c, r, &st),
		            r->code == 421 ? SMTPC_HOST : SMTPC_MESSAGE);
		c->abandoned = true;
	}
	c->answered = next_command(c, c->answered);
	return envelope_state(c);
}

static enum state got_rcpt(struct smtpc *c, const struct smtp_reply *r)
{
	struct status st;
	size_t rcpt = c->answered - 1;
	if (c->mark[rcpt] == R_OPEN && r->code / 10 == 25) {
		c->mark[rcpt] = R_ACCEPTED;
		c->accepted++;
	} else if (c->mark[rcpt] == R_OPEN) {
		settle(c, rcpt, R_SETTLED, smtpc_refusal(c, r, &st), SMTPC_RCPT);
	}
	c->answered = next_command(c, c->answered);
	return envelope_state(c);
}

static enum state got_data(struct smtpc *c, const struct smtp_reply *r)
{
	/* RFC 2033 4.2: without recipients DATA has to fail, and no reply would follow the dot. */
	if (r->code / 100 == 3 && c->lmtp && c->accepted == 0)
		return S_CLOSE;
	if (r->code / 100 == 3) {
		c->in_data = true;
		smtp_body_out_init(&c->body);
		return S_BODY;
	}
	/* With a 2yz nobody knows whether the peer now expects commands or content. */
	if (r->code / 100 == 2)
		return smtpc_fail_unexpected(c, r);
	settle_open(c, &r->status, SMTPC_RCPT);
	return S_RSET;
}

/* ---- the content ---- */

static enum state push_body(struct smtpc *c)
{
	char chunk[SMTPC_CHUNK];
	/* Encoding may double a piece; what ends the body takes 7 bytes at most. */
	while (io_room(&c->io) >= 2 * sizeof chunk + 8) {
		struct status st;
		ssize_t n = 0;
		/* A server that gave 354 with no recipient gets just the dot (RFC 2920 3.1). */
		if (c->accepted > 0)
			n = c->mail->read(c->mail->arg, chunk, sizeof chunk, &st);
		if (n < 0) {
			settle_open(c, &st, SMTPC_RCPT);
			return S_CLOSE;
		}
		if (n == 0) {
			smtp_body_finish(&c->body, &c->io.out);
			io_update(&c->io);
			return S_FINAL;
		}
		if (smtp_body_encode(&c->body, (struct slice){chunk, (size_t)n}, &c->io.out))
			break; /* smtpc_move sees it */
	}
	io_update(&c->io);
	return S_BODY;
}

/* A reply before our final dot: whatever it says, the peer does not want the rest. */
static enum state got_body(struct smtpc *c, const struct smtp_reply *r)
{
	struct status st;
	if (c->lmtp) {
		status_set(&st, 451, "4.5.0", "reply ahead of the final dot: %d %s", r->code,
		           r->status.text);
		return smtpc_fail(c, &st);
	}
	if (r->code / 100 < 4)
		return smtpc_fail_unexpected(c, r);
	settle_open(c, &r->status, SMTPC_RCPT);
	return S_CLOSE;
}

static enum state drained_final(struct smtpc *c)
{
	c->dot_sent = true;
	return S_FINAL;
}

/* LMTP: the reply is about the first recipient that waits for one. There is one. */
static void settle_next(struct smtpc *c, const struct status *st)
{
	while (c->mark[c->replied] != R_ACCEPTED)
		c->replied++;
	c->accepted--;
	settle(c, c->replied, R_SETTLED, st, SMTPC_RCPT);
}

static enum state got_final(struct smtpc *c, const struct smtp_reply *r)
{
	if (!c->dot_sent)
		return got_body(c, r);
	if (r->code / 100 == 3)
		return smtpc_fail_unexpected(c, r);
	if (c->lmtp) {
		settle_next(c, &r->status);
		if (c->accepted > 0)
			return S_FINAL;
	} else {
		settle_open(c, &r->status, SMTPC_RCPT);
	}
	c->in_data = c->dot_sent = false;
	return S_READY;
}

/* ---- the end ---- */

static enum state send_rset(struct smtpc *c)
{
	if (c->quitting)
		return S_QUIT;
	io_printf(&c->io, "RSET\r\n");
	return S_RSET;
}

static enum state got_rset(struct smtpc *c, const struct smtp_reply *r)
{
	(void)c;
	return r->code / 100 == 2 ? S_READY : S_QUIT;
}

static enum state send_quit(struct smtpc *c)
{
	mail_end(c);
	io_printf(&c->io, "QUIT\r\n");
	return S_QUIT;
}

static enum state got_quit(struct smtpc *c, const struct smtp_reply *r)
{
	(void)c;
	(void)r;
	return S_CLOSE;
}

static enum state send_close(struct smtpc *c)
{
	mail_end(c);
	loop_timer_stop(&c->kick);
	if (c->broken || c->io.connecting || (c->in_data && !c->dot_sent)) {
		io_close(&c->io);
		loop_timer_set(&c->kick, 0); /* brings `ended` */
	} else {
		io_finish(&c->io);
	}
	return S_CLOSE;
}

const struct step smtpc_steps[S_STATES] = {
    [S_CONNECT] = {"connect", SMTPC_CONNECT_MS, NULL, NULL, smtpc_got_greeting},
    [S_GREETING] = {"greeting", SMTPC_GREETING_MS, NULL, NULL, smtpc_got_greeting},
    [S_EHLO] = {"EHLO", SMTPC_EHLO_MS, smtpc_send_ehlo, NULL, smtpc_got_ehlo},
    [S_HELO] = {"HELO", SMTPC_EHLO_MS, smtpc_send_helo, NULL, smtpc_got_helo},
    [S_LHLO] = {"LHLO", SMTPC_EHLO_MS, smtpc_send_lhlo, NULL, smtpc_got_helo},
    [S_STARTTLS] = {"STARTTLS", SMTPC_STARTTLS_MS, smtpc_send_starttls, NULL, smtpc_got_starttls},
    [S_HANDSHAKE] = {"TLS handshake", SMTPC_HANDSHAKE_MS, smtpc_begin_tls, NULL,
                     smtpc_fail_unexpected},
    [S_AUTH] = {"AUTH", SMTPC_AUTH_MS, smtpc_send_auth, NULL, smtpc_got_auth},
    [S_CREDENTIALS] = {"credentials", SMTPC_AUTH_MS, smtpc_send_credentials, NULL, smtpc_got_auth},
    [S_READY] = {"ready", SMTPC_IDLE_MS, enter_ready, NULL, smtpc_fail_unexpected},
    [S_MAIL] = {"MAIL", SMTPC_MAIL_MS, begin_mail, push_envelope, got_mail},
    [S_RCPT] = {"RCPT", SMTPC_RCPT_MS, push_envelope, push_envelope, got_rcpt},
    [S_DATA] = {"DATA", SMTPC_DATA_MS, push_envelope, push_envelope, got_data},
    [S_BODY] = {"content", SMTPC_BLOCK_MS, push_body, push_body, got_body},
    [S_FINAL] = {"final dot", SMTPC_FINAL_MS, NULL, drained_final, got_final},
    [S_RSET] = {"RSET", SMTPC_RSET_MS, send_rset, NULL, got_rset},
    [S_QUIT] = {"QUIT", SMTPC_QUIT_MS, send_quit, NULL, got_quit},
    [S_CLOSE] = {"close", 0, send_close, NULL, got_quit},
};

/* ---- what comes in ---- */

static enum state got_reply(struct smtpc *c)
{
	const struct smtp_reply *r = &c->reply;
	smtpc_hide_secret(c, &c->reply.status);
	/* What a host says of a login may be the password in a form that we do not know. */
	bool secret = c->state == S_AUTH || c->state == S_CREDENTIALS;
	log_debug(c->id, "smtpc reply", LOG_S("to", smtpc_steps[c->state].name),
	          LOG_N("code", r->code), LOG_S("text", secret ? "(not shown)" : r->status.text));
	/* RFC 5321 3.8: 421 may come at any time and ends the session. But where each recipient has
	 * a reply of its own, those of the others may follow, and say that they are served. */
	bool own = c->lmtp && c->state == S_FINAL && c->dot_sent;
	if (r->code == 421 && c->state != S_QUIT && !own)
		return smtpc_fail(c, &r->status);
	if (c->state >= S_MAIL && c->state <= S_DATA && c->answered >= c->sent)
		return smtpc_fail_unexpected(c, r); /* to a command we have not given yet */
	return smtpc_steps[c->state].got(c, r);
}

static enum state got_garbage(struct smtpc *c)
{
	struct status st;
	status_set(&st, 451, "4.5.0", "malformed reply to %s: %s", smtpc_steps[c->state].name,
	           c->reply.error);
	return fail_unanswered(c, &st);
}

/* Nothing was asked. The rest of it would pass for the answer to what is asked next, and so on. */
static enum state got_unasked(struct smtpc *c)
{
	struct status st;
	status_set(&st, 451, "4.5.0", "the host spoke out of turn");
	return smtpc_fail(c, &st);
}

static void expect_reply(struct smtpc *c)
{
	bool caps = c->state == S_EHLO || c->state == S_LHLO;
	smtp_reply_init(&c->reply, caps ? smtp_caps_line : NULL, &c->caps);
}

static void on_input(struct smtpc *c)
{
	while (c->io.in.len > 0 && c->state != S_CLOSE) {
		size_t used;
		enum smtp_reply_result result =
		    smtp_reply_feed(&c->reply, buf_slice(&c->io.in), &used);
		buf_consume(&c->io.in, used);
		if (result == SMTP_REPLY_MORE && c->state == S_READY)
			smtpc_move(c, got_unasked(c));
		if (result == SMTP_REPLY_MORE)
			break;
		smtpc_move(c, result == SMTP_REPLY_BAD ? got_garbage(c) : got_reply(c));
		expect_reply(c);
	}
	io_update(&c->io);
}

static void on_drained(struct smtpc *c)
{
	const struct step *s = &smtpc_steps[c->state];
	enum state next = s->drained ? s->drained(c) : c->state;
	if (next != c->state || c->io.out.failed)
		smtpc_move(c, next);
	else
		set_deadline(c);
}

/* Is it TLS that went wrong? With TLS 1.3 a peer refuses our side of the handshake when we are
 * through with it. */
static bool is_tls_trouble(const struct smtpc *c)
{
	return c->state == S_STARTTLS || c->state == S_HANDSHAKE ||
	       (io_tls(&c->io) && !c->told_ready && c->io.error == EPROTO);
}

static void on_lost(struct smtpc *c, const char *why)
{
	struct status st;
	if (is_tls_trouble(c))
		c->trouble = SMTPC_TLS_TROUBLE;
	if (c->io.connecting || c->state == S_CONNECT)
		status_set(&st, 451, "4.4.1", "cannot connect: %s", why);
	else
		status_set(&st, 451, "4.4.2", "connection lost, waiting for %s: %s",
		           smtpc_steps[c->state].name, why);
	smtpc_move(c, fail_unanswered(c, &st));
}

/* RFC 5321 4.5.3.2.5 limits each write, not the whole content: while the peer takes something,
 * the time begins anew. */
static void on_timeout(struct smtpc *c)
{
	struct status st;
	if (c->state == S_READY) {
		if (!c->mail) /* else it begins in the next turn */
			smtpc_move(c, S_QUIT);
		return;
	}
	if (io_unsent(&c->io) < c->unsent && loop_now() < c->end) {
		set_deadline(c);
		return;
	}
	if (is_tls_trouble(c))
		c->trouble = SMTPC_TLS_TROUBLE;
	if (c->state == S_CONNECT)
		status_set(&st, 451, "4.4.1", "cannot connect: no answer in time");
	else
		status_set(&st, 451, "4.4.2", "time-out, waiting for %s",
		           smtpc_steps[c->state].name);
	smtpc_move(c, fail_unanswered(c, &st));
}

static void on_event(void *arg, enum io_event ev)
{
	struct smtpc *c = arg;
	if (ev == IO_CLOSED) {
		c->ended(c->arg);
		return;
	}
	if (c->state == S_CLOSE)
		return;
	if (ev == IO_CONNECTED || ev == IO_SECURED || ev == IO_READ)
		c->heard = loop_now();
	switch (ev) {
	case IO_CONNECTED:
		smtpc_move(c, smtpc_connected(c));
		break;
	case IO_SECURED:
		smtpc_move(c, smtpc_judge(c));
		expect_reply(c);
		break;
	case IO_READ:
		on_input(c);
		break;
	case IO_DRAINED:
		on_drained(c);
		break;
	case IO_TIMEOUT:
		on_timeout(c);
		break;
	case IO_ERROR:
		c->broken = true;
		on_lost(c, io_tls(&c->io) && c->io.error == EPROTO ? tls_error(io_tls(&c->io))
		                                                   : strerror(c->io.error));
		break;
	default:
		on_lost(c, "the host closed it");
		break;
	}
}

static void on_kick(void *arg)
{
	struct smtpc *c = arg;
	if (c->state == S_CLOSE)
		c->ended(c->arg);
	else if (c->state == S_READY && c->mail)
		smtpc_move(c, S_MAIL);
	else if (c->state == S_READY && c->quitting)
		smtpc_move(c, S_QUIT);
}

/* ---- the interface ---- */

struct smtpc *smtpc_new(const char *id, const char *ehlo,
                        void (*ready)(void *arg, const struct status *st), void (*ended)(void *arg),
                        void *arg)
{
	struct smtpc *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->id = id;
	c->ehlo = ehlo;
	c->ready = ready;
	c->ended = ended;
	c->arg = arg;
	c->end = loop_now() + SMTPC_SESSION_MS;
	io_init(&c->io, SMTPC_IN_MAX, SMTPC_OUT_MAX, on_event, c);
	loop_timer_init(&c->kick, on_kick, c);
	smtp_reply_init(&c->reply, NULL, NULL);
	smtpc_move(c, S_CONNECT);
	return c;
}

void smtpc_secure(struct smtpc *c, const struct smtpc_security *security)
{
	c->security = *security;
}

void smtpc_speak_lmtp(struct smtpc *c)
{
	c->lmtp = true;
}

enum smtpc_trouble smtpc_trouble(const struct smtpc *c)
{
	return c->trouble;
}

struct io *smtpc_io(struct smtpc *c)
{
	return &c->io;
}

int64_t smtpc_heard(const struct smtpc *c)
{
	/* Steps of a handshake wait for those of others. */
	return c->io.securing ? loop_now() : c->heard;
}

const struct smtp_caps *smtpc_caps(const struct smtpc *c)
{
	return &c->caps;
}

const char *smtpc_greeting_name(const struct smtpc *c)
{
	return c->greeting;
}

void smtpc_send(struct smtpc *c, const struct smtpc_mail *mail)
{
	c->mail = mail;
	c->sent = c->answered = c->accepted = c->replied = 0;
	c->abandoned = c->in_data = c->dot_sent = false;
	memset(c->mark, R_OPEN, mail->count);
	loop_timer_set(&c->kick, 0);
}

bool smtpc_is_ready(const struct smtpc *c)
{
	return c->state == S_READY && !c->mail && !c->quitting;
}

void smtpc_quit(struct smtpc *c)
{
	c->quitting = true;
	if (c->state == S_READY)
		loop_timer_set(&c->kick, 0);
}

void smtpc_hand_on(struct smtpc *c, const char *id, const struct smtpc_login *login,
                   void (*ended)(void *arg), void *arg)
{
	c->id = id;
	c->security.login = login;
	c->ended = ended;
	c->arg = arg;
}

void smtpc_free(struct smtpc *c)
{
	if (c->state == S_READY && !c->mail) {
		io_printf(&c->io, "QUIT\r\n");
		io_flush(&c->io);
	}
	loop_timer_stop(&c->kick);
	io_close(&c->io);
	free(c);
}
