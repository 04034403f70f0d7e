/*
 * cli_probe: talks to an SMTP server to see how it answers.
 *
 * A conversation is a table of steps, as in smtpc.c, but what that one does by itself (EHLO or
 * HELO, TLS or not, judging the certificate) is here only looked at and told. The lines of the
 * server are shown as they came, cut and cleaned, before they are understood: a server that talks
 * nonsense is why people look. Memory is bounded by the reply parser and CLI_PROBE_LINE, time by
 * CLI_PROBE_MS a step.
 */
#include "cli_probe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "io.h"
#include "loop.h"
#include "status.h"

#define PROBE_IN  4096
#define PROBE_OUT 2048

struct probe {
	const struct cli_probe_ask *ask;
	struct cli_probe *out;
	enum cli_probe_step step;
	size_t line_n;
	bool line_cut;
	bool over;
	struct io io;
	struct smtp_reply reply;
	char line[CLI_PROBE_LINE]; /* of the server, as it comes */
};

struct step {
	const char *doing; /* for messages */
	enum cli_probe_step (*got)(struct probe *p, const struct smtp_reply *r);
};

static const struct step steps[PROBE_OVER];

/* ---- what is shown ---- */

static void show(struct probe *p, char direction, const char *text, size_t n)
{
	char clean[CLI_PROBE_LINE + 16];
	if (!p->ask->line)
		return;
	status_clean((struct slice){text, n}, clean, sizeof clean);
	p->ask->line(p->ask->arg, direction, clean);
}

static void show_pending_line(struct probe *p)
{
	static const char cut[] = " ...(cut)";
	char text[sizeof p->line + sizeof cut];
	size_t n = p->line_n;
	if (n == 0)
		return;
	memcpy(text, p->line, n);
	if (p->line_cut) {
		memcpy(text + n, cut, sizeof cut - 1);
		n += sizeof cut - 1;
	}
	show(p, '<', text, n);
	p->line_n = 0;
	p->line_cut = false;
}

static void show_input(struct probe *p, struct slice in)
{
	for (size_t i = 0; i < in.n; i++) {
		if (in.p[i] == '\n')
			show_pending_line(p);
		else if (p->line_n < sizeof p->line)
			p->line[p->line_n++] = in.p[i];
		else
			p->line_cut = true;
	}
}

/* ---- how it ends ---- */

static void finish(struct probe *p)
{
	show_pending_line(p);
	io_close(&p->io);
	p->over = true;
}

static void note(struct probe *p, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
static void fail(struct probe *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Notes the first thing that did not go well. */
static void note(struct probe *p, const char *fmt, va_list ap)
{
	char text[STATUS_TEXT_MAX];
	if (p->out->failed != PROBE_OVER)
		return;
	vsnprintf(text, sizeof text, fmt, ap);
	status_clean(slice_of(text), p->out->why, sizeof p->out->why);
	p->out->failed = p->step;
}

/* The connection is of no use any more. */
static void fail(struct probe *p, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	note(p, fmt, ap);
	va_end(ap);
	finish(p);
}

static void complain(struct probe *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Something was refused; the conversation goes on. */
static void complain(struct probe *p, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	note(p, fmt, ap);
	va_end(ap);
}

static enum cli_probe_step refused(struct probe *p, const struct smtp_reply *r)
{
	if (p->out->failed == PROBE_OVER)
		p->out->code = r->code;
	complain(p, "%s was answered with %d %s", steps[p->step].doing, r->code, r->status.text);
	return PROBE_QUIT;
}

/* ---- the steps ---- */

static void say(struct probe *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(struct probe *p, const char *fmt, ...)
{
	char text[PROBE_OUT - 2];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	show(p, '>', text, strlen(text));
	io_printf(&p->io, "%s\r\n", text);
}

static void start_tls(struct probe *p)
{
	if (p->io.in.len > 0)
		show(p, '*', "what the server sent ahead of TLS is thrown away", 48);
	struct tls *t = tls_connect(p->ask->roots, p->ask->name, p->io.watch.fd);
	if (io_start_tls(&p->io, t))
		fail(p, WITH_TLS ? "out of memory" : "this program was built without TLS");
}

static enum cli_probe_step got_greeting(struct probe *p, const struct smtp_reply *r)
{
	size_t n = strcspn(r->status.text, " ");
	if (r->code != 220)
		return refused(p, r);
	snprintf(p->out->greeting, sizeof p->out->greeting, "%.*s", (int)n, r->status.text);
	return PROBE_EHLO;
}

static enum cli_probe_step mail_or_quit(const struct probe *p)
{
	return p->ask->rcpt ? PROBE_MAIL : PROBE_QUIT;
}

static enum cli_probe_step got_ehlo(struct probe *p, const struct smtp_reply *r)
{
	if (r->code != 250)
		return refused(p, r);
	bool offered = p->out->caps.ext & SMTP_EXT_STARTTLS;
	if (!p->out->secured)
		p->out->offers_tls = offered;
	if (p->ask->tls == SMTPC_TLS_STARTTLS && offered && !p->out->secured)
		return PROBE_STARTTLS;
	return mail_or_quit(p);
}

static enum cli_probe_step got_starttls(struct probe *p, const struct smtp_reply *r)
{
	return r->code == 220 ? PROBE_HANDSHAKE : refused(p, r);
}

static enum cli_probe_step got_mail(struct probe *p, const struct smtp_reply *r)
{
	return r->code / 100 == 2 ? PROBE_RCPT : refused(p, r);
}

static enum cli_probe_step got_rcpt(struct probe *p, const struct smtp_reply *r)
{
	return r->code / 100 == 2 ? PROBE_QUIT : refused(p, r);
}

static enum cli_probe_step got_quit(struct probe *p, const struct smtp_reply *r)
{
	(void)p, (void)r;
	return PROBE_OVER;
}

static const struct step steps[PROBE_OVER] = {
    [PROBE_CONNECT] = {"connecting", NULL},
    [PROBE_HANDSHAKE] = {"the TLS handshake", NULL},
    [PROBE_GREETING] = {"the connection", got_greeting},
    [PROBE_EHLO] = {"EHLO", got_ehlo},
    [PROBE_STARTTLS] = {"STARTTLS", got_starttls},
    [PROBE_MAIL] = {"MAIL FROM", got_mail},
    [PROBE_RCPT] = {"RCPT TO", got_rcpt},
    [PROBE_QUIT] = {"QUIT", got_quit},
};

static void send_step(struct probe *p)
{
	switch (p->step) {
	case PROBE_HANDSHAKE:
		start_tls(p);
		break;
	case PROBE_EHLO:
		p->out->caps = (struct smtp_caps){0};
		say(p, "EHLO %s", p->ask->ehlo);
		break;
	case PROBE_STARTTLS:
		say(p, "STARTTLS");
		break;
	case PROBE_MAIL:
		say(p, "MAIL FROM:<>");
		break;
	case PROBE_RCPT:
		say(p, "RCPT TO:%s", p->ask->rcpt);
		break;
	case PROBE_QUIT:
		say(p, "QUIT");
		break;
	case PROBE_CONNECT:
	case PROBE_GREETING:
	case PROBE_OVER:
		break;
	}
}

static void enter(struct probe *p, enum cli_probe_step step)
{
	int64_t left = p->ask->end - loop_now();
	p->step = step;
	if (step == PROBE_OVER) {
		finish(p);
		return;
	}
	smtp_reply_init(&p->reply, step == PROBE_EHLO ? smtp_caps_line : NULL, &p->out->caps);
	io_deadline(&p->io, left < 1 ? 1 : left < CLI_PROBE_MS ? left : CLI_PROBE_MS);
	send_step(p);
}

/* ---- events ---- */

static void take_input(struct probe *p)
{
	while (!p->over && p->io.in.len > 0 && steps[p->step].got) {
		size_t used;
		struct slice in = buf_slice(&p->io.in);
		enum smtp_reply_result rc = smtp_reply_feed(&p->reply, in, &used);
		show_input(p, (struct slice){in.p, used});
		buf_consume(&p->io.in, used);
		if (rc == SMTP_REPLY_BAD) {
			fail(p, "what came is not SMTP: %s", p->reply.error);
			return;
		}
		if (rc == SMTP_REPLY_COMPLETE)
			enter(p, steps[p->step].got(p, &p->reply));
	}
	if (!p->over)
		io_update(&p->io);
}

static void secured(struct probe *p)
{
	struct cli_probe *out = p->out;
	out->peer = *tls_peer(io_tls(&p->io));
	snprintf(out->peer_why, sizeof out->peer_why, "%s", out->peer.why);
	out->peer.why = out->peer_why;
	out->secured = true;
	if (p->ask->secured)
		p->ask->secured(p->ask->arg, io_tls(&p->io));
	enter(p, p->ask->tls == SMTPC_TLS_IMPLICIT ? PROBE_GREETING : PROBE_EHLO);
}

static void broken(struct probe *p)
{
	const char *why =
	    p->io.error == EPROTO && p->io.tls ? tls_error(p->io.tls) : strerror(p->io.error);
	/* The answer to QUIT is a courtesy. */
	if (p->step == PROBE_QUIT)
		finish(p);
	else
		fail(p, "%s: %s", steps[p->step].doing, why);
}

static void on_io(void *arg, enum io_event ev)
{
	struct probe *p = arg;
	switch (ev) {
	case IO_CONNECTED:
		if (p->ask->proxied)
			say(p, "PROXY UNKNOWN");
		enter(p, p->ask->tls == SMTPC_TLS_IMPLICIT ? PROBE_HANDSHAKE : PROBE_GREETING);
		break;
	case IO_SECURED:
		secured(p);
		break;
	case IO_READ:
		take_input(p);
		break;
	case IO_EOF:
		take_input(p);
		if (p->over)
			break;
		if (p->step == PROBE_QUIT)
			finish(p);
		else
			fail(p, "%s: the server closed the connection", steps[p->step].doing);
		break;
	case IO_ERROR:
		broken(p);
		break;
	case IO_TIMEOUT:
		if (p->step == PROBE_QUIT)
			finish(p);
		else
			fail(p, "%s: no answer in time", steps[p->step].doing);
		break;
	case IO_DRAINED:
	case IO_CLOSED:
		break;
	}
}

bool cli_probe_wait(const bool *done, int64_t end)
{
	while (!*done) {
		int64_t left = end - loop_now();
		if (left <= 0)
			return false;
		if (loop_turn(left > 1000 ? 1000 : (int)left))
			return false;
	}
	return true;
}

int cli_probe(const struct cli_probe_ask *ask, struct cli_probe *out)
{
	struct probe p = {.ask = ask, .out = out};
	struct sockaddr_storage to;
	socklen_t len = dns_addr_to_sockaddr(&ask->addr, ask->port, &to);
	*out = (struct cli_probe){.failed = PROBE_OVER};
	loop_refresh();
	io_init(&p.io, PROBE_IN, PROBE_OUT, on_io, &p);
	if (io_connect(&p.io, &to, len))
		fail(&p, "connecting: %s", strerror(errno));
	else
		enter(&p, PROBE_CONNECT);
	/* Each step ends in time by itself. */
	if (!cli_probe_wait(&p.over, ask->end + CLI_PROBE_MS))
		fail(&p, "%s: no answer in time", steps[p.step].doing);
	return out->failed == PROBE_OVER ? 0 : -1;
}

/* ---- DNS ---- */

static void on_answer(void *arg, struct dns_query *q)
{
	(void)q;
	*(bool *)arg = true;
}

static enum dns_result answer(struct dns_query *q, const bool *done, int64_t end)
{
	if (!cli_probe_wait(done, end)) {
		dns_cancel(q);
		q->result = DNS_TIMEOUT;
		q->count = 0;
	}
	return q->result;
}

enum dns_result cli_probe_addresses(struct dns_query *q, const char *name, int64_t end)
{
	bool done = false;
	loop_refresh();
	dns_addresses(q, slice_of(name), on_answer, &done);
	return answer(q, &done, end);
}

enum dns_result cli_probe_family(struct dns_query *q, const char *name, sa_family_t family,
                                 int64_t end)
{
	bool done = false;
	loop_refresh();
	dns_family(q, slice_of(name), family, on_answer, &done);
	return answer(q, &done, end);
}

enum dns_result cli_probe_mx(struct dns_query *q, const char *name, int64_t end)
{
	bool done = false;
	loop_refresh();
	dns_mx(q, slice_of(name), on_answer, &done);
	return answer(q, &done, end);
}

enum dns_result cli_probe_txt(struct dns_query *q, const char *name, int64_t end)
{
	bool done = false;
	loop_refresh();
	dns_txt(q, slice_of(name), on_answer, &done);
	return answer(q, &done, end);
}

enum dns_result cli_probe_ptr(struct dns_query *q, const struct dns_addr *a, int64_t end)
{
	bool done = false;
	loop_refresh();
	dns_ptr(q, a, on_answer, &done);
	return answer(q, &done, end);
}

enum dns_result cli_probe_tlsa(struct dns_query *q, const char *host, uint16_t port, int64_t end)
{
	bool done = false;
	loop_refresh();
	dns_tlsa(q, slice_of(host), port, on_answer, &done);
	return answer(q, &done, end);
}
