/*
 * Fuzzes a whole SMTP or LMTP client session. The first byte says what the session is (LMTP, how it
 * is protected, whether it logs in), the second how, the third what it sends; the rest is what the
 * server says, a reply for each command, and a byte below 9 at the beginning of a reply says what
 * happens instead. Whatever comes: the session ends, ready is told once, each recipient has one
 * verdict a message, nothing but the handshake leaves us in plain text after STARTTLS was
 * taken, a password only under TLS, and the final dot only behind the whole content.
 * link: fake_client_tls.c
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "fake_client_tls.h"
#include "fuzz_dir.h"
#include "log.h"
#include "loop.h"
#include "smtpc_int.h"

#define SECRET "s3cret-word"

enum { MAILS = 2, RCPTS = 3, TURNS = 20000 };

/* Before a reply: it comes while the client is still sending. */
enum { EARLY = 8 };

/* Bits of the first byte, and of the third. */
enum { LMTP = 1, STARTTLS = 2, IMPLICIT = 4, REQUIRED = 8, LOGIN = 16, BAD_PEER = 32, FAILS = 64 };
enum { UTF8 = 1, HEADER_8BIT = 2, BREAKS = 4, QUITS = 8, NO_SIZE = 16, LONG = 32, ALL_UTF8 = 64 };

struct talk {
	struct smtpc *c;
	struct smtpc_mail mail;
	const char *rcpt[RCPTS];
	unsigned how; /* the third byte */
	bool login;   /* then nothing that repeats the password is told on */
	bool bad_peer;
	const char *p, *end; /* what the server has left to say */
	unsigned sent, done, ready, ended;
	unsigned verdicts[RCPTS];
	size_t read; /* of the content */
	bool in_content;
	bool secured;
};

static const char content[] = "Subject: x\r\n\r\n.dot\r\n..\r\n\xc3\xa9 and a\rbare one\nend\r\n";

static void event(struct talk *t, enum io_event ev)
{
	struct io *io = smtpc_io(t->c);
	io->handle(io->arg, ev);
}

static ssize_t on_read(void *arg, char *p, size_t n, struct status *st)
{
	struct talk *t = arg;
	size_t total = t->how & LONG ? 50000 : sizeof(content) - 1;
	t->in_content = true;
	if ((t->how & BREAKS) && t->read >= 20) {
		status_set(st, 451, "4.3.0", "checksum");
		return -1;
	}
	if (n > total - t->read)
		n = total - t->read;
	if ((t->how & BREAKS) && n > 20)
		n = 20;
	for (size_t i = 0; i < n; i++)
		p[i] = content[(t->read + i) % (sizeof(content) - 1)];
	t->read += n;
	return (ssize_t)n;
}

static void on_verdict(void *arg, size_t rcpt, const struct status *st, enum smtpc_scope scope)
{
	struct talk *t = arg;
	CHECK(rcpt < t->mail.count && st->code >= 200 && st->code < 600);
	CHECK(scope != SMTPC_HOST || status_class(st) == STATUS_TRANSIENT ||
	      (st->enh[1] == 6 && st->enh[2] == 7));
	CHECK(!t->login || !strstr(st->text, SECRET));
	CHECK(status_class(st) != STATUS_DONE || t->read >= sizeof(content) - 1);
	t->verdicts[rcpt]++;
}

static void send_mail(struct talk *t)
{
	CHECK(smtpc_is_ready(t->c));
	t->sent++;
	t->read = 0;
	memset(t->verdicts, 0, sizeof(t->verdicts));
	smtpc_send(t->c, &t->mail);
	CHECK(!smtpc_is_ready(t->c));
	if (t->how & QUITS)
		smtpc_quit(t->c);
}

static void on_done(void *arg)
{
	struct talk *t = arg;
	t->done++;
	t->in_content = false;
	for (size_t i = 0; i < t->mail.count; i++)
		CHECK(t->verdicts[i] == 1);
	if (t->sent < MAILS && smtpc_is_ready(t->c))
		send_mail(t);
	else
		smtpc_quit(t->c);
}

static void on_ready(void *arg, const struct status *st)
{
	struct talk *t = arg;
	t->ready++;
	CHECK(st->code >= 200 && st->code < 600);
	CHECK(!t->login || !strstr(st->text, SECRET));
	if (status_class(st) == STATUS_DONE && smtpc_is_ready(t->c))
		send_mail(t);
}

static void on_ended(void *arg)
{
	struct talk *t = arg;
	t->ended++;
	CHECK(t->ready == 1);
}

static int on_judge(void *arg, const struct tls_peer *peer, struct status *st)
{
	struct talk *t = arg;
	(void)peer;
	t->secured = true;
	if (t->bad_peer)
		status_set(st, 451, "4.7.5", "certificate of another");
	return t->bad_peer ? -1 : 0;
}

/* What the client said: line ends are whole, and secrets only for who was found good. */
static void hear(struct talk *t)
{
	struct io *io = smtpc_io(t->c);
	const char *p = buf_data(&io->out);
	bool secure = t->secured && !t->bad_peer;
	for (size_t i = 0; i < io->out.len; i++)
		CHECK(p[i] != '\n' || i == 0 || p[i - 1] == '\r');
	CHECK(secure || !memmem(p, io->out.len, "AUTH ", 5));
	buf_consume(&io->out, io->out.len);
	if (!io->finishing)
		event(t, IO_DRAINED);
}

/* Gives the server's next reply: up to the end of its last line. */
static void answer(struct talk *t)
{
	struct io *io = smtpc_io(t->c);
	while (t->p < t->end && !io->finishing && !t->ended) {
		const char *nl = memchr(t->p, '\n', (size_t)(t->end - t->p));
		const char *next = nl ? nl + 1 : t->end;
		bool last = next - t->p < 4 || t->p[3] != '-';
		while (t->p < next && !io->finishing && !t->ended) {
			size_t room = io->in.max - io->in.len;
			size_t n = (size_t)(next - t->p) < room ? (size_t)(next - t->p) : room;
			if (n == 0)
				return;
			CHECK(buf_append(&io->in, t->p, n) == 0);
			t->p += n;
			event(t, IO_READ);
		}
		if (last)
			return;
	}
}

/* Something other than a reply. */
static void happen(struct talk *t, unsigned what)
{
	struct io *io = smtpc_io(t->c);
	t->p++;
	if (io->finishing)
		return;
	switch (what) {
	case 0:
		event(t, IO_EOF);
		break;
	case 1:
		io->error = ECONNRESET;
		event(t, IO_ERROR);
		break;
	case 2:
		event(t, IO_TIMEOUT);
		break;
	case 3:
		smtpc_quit(t->c);
		break;
	case 4: /* two replies at a time */
		answer(t);
		break;
	case 5:
		event(t, IO_DRAINED);
		break;
	case EARLY:
		answer(t);
		break;
	default:
		loop_turn(0);
	}
}

static void run(struct talk *t)
{
	event(t, IO_CONNECTED);
	for (int i = 0; i < TURNS && !t->ended; i++) {
		struct io *io = smtpc_io(t->c);
		loop_turn(0);
		if (t->ended)
			break;
		if (io->out.len > 0 && (t->p == t->end || *t->p != EARLY))
			hear(t);
		else if (io->finishing)
			continue;
		else if (t->c->state == S_HANDSHAKE)
			event(t, t->p < t->end && *t->p == 1 ? IO_ERROR : IO_SECURED);
		else if (t->p < t->end && (unsigned char)*t->p < 9)
			happen(t, (unsigned char)*t->p);
		else if (t->p < t->end)
			answer(t);
		else
			event(t, i % 2 ? IO_EOF : IO_TIMEOUT);
	}
	CHECK(t->ended == 1 && t->sent == t->done);
}

static void set_up(struct talk *t, const uint8_t *data)
{
	static const struct smtpc_login logins[] = {{"user", SECRET, SMTPC_AUTH_BEST},
	                                            {"user", SECRET, SMTPC_AUTH_PLAIN},
	                                            {"user", SECRET, SMTPC_AUTH_LOGIN},
	                                            {"user", SECRET, SMTPC_AUTH_XOAUTH2}};
	struct smtpc_security s = {.name = "mx.example", .judge = on_judge};
	t->how = data[2];
	t->bad_peer = data[0] & BAD_PEER;
	fake_client_tls = (struct fake_client_tls){.fails = data[0] & FAILS};
	s.required = data[0] & REQUIRED;
	if (data[0] & STARTTLS)
		s.tls = SMTPC_TLS_STARTTLS;
	if (data[0] & IMPLICIT)
		s.tls = SMTPC_TLS_IMPLICIT;
	if ((data[0] & LOGIN) && s.tls != SMTPC_TLS_NONE) {
		s.login = &logins[data[1] & 3];
		t->login = true;
		s.required = true;
	}
	t->rcpt[0] = t->how & (UTF8 | ALL_UTF8) ? "\xc3\xa9@example.org" : "a@example.org";
	t->rcpt[1] = t->how & ALL_UTF8 ? "\xc3\xa8@example.org" : "b@b\xc3\xbc.example";
	t->rcpt[2] = t->how & ALL_UTF8 ? "\xc3\xaa@example.org" : "c@example.org";
	t->mail = (struct smtpc_mail){.from = "s@example.com",
	                              .rcpt = t->rcpt,
	                              .count = 1 + (data[1] >> 3) % RCPTS,
	                              .size = t->how & NO_SIZE ? 0 : 500,
	                              .header_8bit = t->how & HEADER_8BIT,
	                              .read = on_read,
	                              .verdict = on_verdict,
	                              .done = on_done,
	                              .arg = t};
	if (data[1] & 4)
		t->mail.from = "<>";
	else if (data[1] & 128)
		t->mail.from = "\xc3\xa4@example.com";
	t->c = smtpc_new("ID", "us.example", on_ready, on_ended, t);
	CHECK(t->c != NULL);
	smtpc_secure(t->c, &s);
	if (data[0] & LMTP)
		smtpc_speak_lmtp(t->c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	struct talk t = {0};
	if (!ready) {
		log_to(fuzz_dir_nowhere());
		CHECK(loop_init() == 0);
		ready = true;
	}
	if (size < 3)
		return 0;
	set_up(&t, data);
	t.p = (const char *)data + 3;
	t.end = (const char *)data + size;
	run(&t);
	smtpc_free(t.c);
	loop_turn(0);
	CHECK(fake_client_tls.open == 0);
	return 0;
}
