/* test_smtpc: the SMTP client, fed through a detached stream: dialogues, every step x every kind of
 * answer, bounds.
 * link: fake_client_tls.c
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config.h"
#include "fake_client_tls.h"
#include "loop.h"
#include "smtpc.h"
#include "valgrind.h"

#define RCPTS 3

/* What the server does instead of the right thing, once. */
enum reaction {
	RIGHT,
	R220,
	R250,
	R354,
	R450,
	R550,
	R421,
	GARBAGE,
	LONG_LINE,
	MANY_LINES,
	NULS,
	END,
	BROKEN,
	SILENCE,
	REACTIONS
};

/* One session with a small server that judges what it sees. */
struct talk {
	struct smtpc *c;
	struct smtpc_mail mail;
	const char *rcpt[SPOOL_RCPTS_MAX];
	const char *content;
	uint64_t left;     /* generated content, when content is NULL */
	uint64_t read_max; /* content breaks after so many bytes; 0 never */
	uint64_t read;
	bool quit_at_once; /* quit together with the mail; else in done */
	unsigned mails;    /* to send */
	unsigned mails_done;
	int ready;
	int done;
	int ended;
	struct status ready_status;
	int verdicts[SPOOL_RCPTS_MAX];
	struct status verdict[SPOOL_RCPTS_MAX];
	enum smtpc_scope scope[SPOOL_RCPTS_MAX];
	/* server */
	const char *ehlo;    /* its reply */
	const char *refuse;  /* commands starting with this ... */
	const char *refusal; /* ... get this */
	enum reaction reaction;
	int at; /* the number of the event that gets the reaction */
	int event;
	const char *ehlo_tls; /* its reply under TLS; NULL: the same */
	const char *auth[4];  /* its replies to AUTH and what follows; NULL: 250 */
	size_t auths;
	bool in_auth;
	bool securing; /* it waits for the handshake */
	bool secured;
	int judged;
	bool bad_peer;     /* the judge's opinion */
	const char *extra; /* bytes behind the 220 to STARTTLS */
	bool lmtp;
	const char *dots[RCPTS + 1]; /* LMTP: replies to the dot; NULL: 250 */
	size_t accepted;             /* LMTP: recipients that get one */
	bool in_data;
	bool gone;
	char line[2048];
	size_t line_len;
	char log[65536]; /* commands and content seen, "|" between lines */
	size_t log_len;
	uint64_t body; /* bytes of content seen, with stuffing */
	size_t peak;   /* most bytes waiting to be sent */
	bool got_dot;
	bool took; /* 250 to the dot was said */
};

static const char *const ehlo_plain = "250 mx.example\r\n";
static const char *const ehlo_all =
    "250-mx.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000000\r\n";

static void event(struct talk *t, enum io_event ev)
{
	struct io *io = smtpc_io(t->c);
	io->handle(io->arg, ev);
}

static void say(struct talk *t, const char *s, size_t n)
{
	struct io *io = smtpc_io(t->c);
	while (n > 0 && !t->ended && !io->finishing) {
		size_t room = io->in.max - io->in.len;
		size_t piece = n < room ? n : room;
		if (piece == 0)
			return;
		assert_int_equal(buf_append(&io->in, s, piece), 0);
		s += piece;
		n -= piece;
		event(t, IO_READ);
	}
}

static void says(struct talk *t, const char *s)
{
	say(t, s, strlen(s));
}

static void flood(struct talk *t, const char *s, int times)
{
	for (int i = 0; i < times; i++)
		says(t, s);
}

static void react(struct talk *t)
{
	switch (t->reaction) {
	case R220:
		says(t, "220 mx.example\r\n");
		break;
	case R250:
		says(t, "250 2.0.0 fine\r\n");
		break;
	case R354:
		says(t, "354 go on\r\n");
		break;
	case R450:
		says(t, "450 4.2.0 not now\r\n");
		break;
	case R550:
		says(t, "550 5.1.1 never\r\n");
		break;
	case R421:
		says(t, "421 4.3.2 closing\r\n");
		break;
	case GARBAGE:
		says(t, "hello there\r\n");
		break;
	case LONG_LINE:
		flood(t, "250 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 1000);
		break;
	case MANY_LINES:
		flood(t, "250-more\r\n", 1000);
		break;
	case NULS:
		say(t, "25\0 ok\r\n", 8);
		break;
	case END:
		t->gone = true;
		event(t, IO_EOF);
		break;
	case BROKEN:
		t->gone = true;
		smtpc_io(t->c)->error = 104;
		event(t, IO_ERROR);
		break;
	default:
		break; /* silence */
	}
}

/* The server's answer to something, or the reaction that is due instead. */
static void answer(struct talk *t, const char *right)
{
	if (t->event++ == t->at && t->reaction != RIGHT) {
		react(t);
		return;
	}
	if (right)
		says(t, right);
}

static void note(struct talk *t, const char *s, size_t n)
{
	if (t->log_len + n + 2 > sizeof t->log)
		return;
	memcpy(t->log + t->log_len, s, n);
	t->log_len += n;
	t->log[t->log_len++] = '|';
	t->log[t->log_len] = '\0';
}

static bool starts(const char *line, const char *with)
{
	return strncmp(line, with, strlen(with)) == 0;
}

/* Will the answer to come be a 25x? */
static bool will_accept(const struct talk *t, const char *right)
{
	bool reacts = t->event == t->at && t->reaction != RIGHT;
	return reacts ? t->reaction == R250 : starts(right, "25");
}

/* LMTP: the content is there, and each recipient gets a reply. */
static void server_dots(struct talk *t)
{
	t->in_data = false;
	t->got_dot = true;
	for (size_t i = 0; i < t->accepted && !t->gone; i++) {
		const char *reply = i <= RCPTS ? t->dots[i] : NULL;
		if (!reply)
			reply = "250 2.0.0 stored\r\n";
		t->took = t->took || will_accept(t, reply) || t->reaction == R220;
		answer(t, reply);
	}
}

/* LMTP: what is not as in SMTP. False: nothing. */
static bool server_lmtp(struct talk *t)
{
	const char *l = t->line;
	if (!t->lmtp)
		return false;
	assert_false(!t->in_data && (starts(l, "EHLO") || starts(l, "HELO")));
	if (t->in_data && strcmp(l, ".") == 0) {
		server_dots(t);
		return true;
	}
	if (starts(l, "MAIL"))
		t->accepted = 0;
	if (starts(l, "RCPT"))
		t->accepted +=
		    will_accept(t, t->refuse && starts(l, t->refuse) ? t->refusal : "250");
	if (!starts(l, "LHLO ") || (t->refuse && starts(l, t->refuse)))
		return false;
	answer(t, t->ehlo);
	return true;
}

static void server_line(struct talk *t)
{
	const char *l = t->line;
	note(t, l, t->line_len);
	if (server_lmtp(t))
		return;
	if (t->in_data) {
		if (strcmp(l, ".") == 0) {
			int before = t->event;
			t->in_data = false;
			t->got_dot = true;
			t->took = t->reaction == RIGHT || before != t->at || t->reaction == R250 ||
			          t->reaction == R220;
			answer(t, "250 2.0.0 queued\r\n");
		}
		return;
	}
	if (t->refuse && starts(l, t->refuse)) {
		answer(t, t->refusal);
	} else if (starts(l, "AUTH ") || t->in_auth) {
		assert_true(t->secured);
		const char *reply = t->auth[t->auths++];
		t->in_auth = starts(reply, "334");
		answer(t, reply);
	} else if (starts(l, "STARTTLS")) {
		char reply[200];
		assert_false(t->secured);
		t->securing = t->reaction == RIGHT || t->event != t->at || t->reaction == R220;
		snprintf(reply, sizeof reply, "220 go\r\n%s", t->extra ? t->extra : "");
		answer(t, reply);
	} else if (starts(l, "EHLO ")) {
		answer(t, t->secured && t->ehlo_tls ? t->ehlo_tls : t->ehlo);
	} else if (starts(l, "DATA")) {
		if (t->reaction == RIGHT || t->event != t->at || t->reaction == R354)
			t->in_data = true;
		answer(t, "354 go on\r\n");
	} else if (starts(l, "QUIT")) {
		answer(t, "221 2.0.0 bye\r\n");
	} else {
		answer(t, "250 2.0.0 ok\r\n");
	}
}

static void server_bytes(struct talk *t, const char *p, size_t n)
{
	if (t->in_data)
		t->body += n;
	for (size_t i = 0; i < n && !t->gone; i++) {
		if (p[i] != '\n') {
			assert_true(t->line_len < sizeof t->line - 1);
			t->line[t->line_len++] = p[i];
			continue;
		}
		assert_true(t->line_len > 0 && t->line[t->line_len - 1] == '\r'); /* no bare LF */
		t->line[--t->line_len] = '\0';
		assert_null(memchr(t->line, '\r', t->line_len)); /* no bare CR */
		server_line(t);
		t->line_len = 0;
	}
}

/* Moves what the client wants to send to the server. True when there was something. */
static bool carry(struct talk *t)
{
	static char copy[SMTPC_OUT_MAX];
	struct io *io = smtpc_io(t->c);
	size_t n = io->out.len;
	if (n == 0 || t->gone)
		return false;
	assert_true(n <= sizeof copy);
	if (n > t->peak)
		t->peak = n;
	memcpy(copy, buf_data(&io->out), n);
	buf_consume(&io->out, n);
	if (!io->finishing)
		event(t, IO_DRAINED);
	if (t->in_data && !io->finishing)
		answer(t, NULL); /* content is an event of its own */
	server_bytes(t, copy, n);
	return true;
}

/* Lets client and server talk until the session has ended. When both are silent, time passes. */
static void run(struct talk *t)
{
	int idle = 0;
	int timeouts = 0;
	for (int i = 0; i < 200000 && !t->ended; i++) {
		loop_turn(0);
		if (t->ended || carry(t)) {
			idle = 0;
			continue;
		}
		if (t->securing && !t->gone && !smtpc_io(t->c)->finishing) {
			t->securing = false;
			t->secured = true;
			event(t, IO_SECURED);
			continue;
		}
		if (++idle < 4)
			continue;
		idle = 0;
		assert_true(++timeouts < 20);
		if (!smtpc_io(t->c)->finishing)
			event(t, IO_TIMEOUT);
	}
	assert_int_equal(t->ended, 1);
}

static ssize_t on_read(void *arg, char *p, size_t n, struct status *st)
{
	struct talk *t = arg;
	if (t->read_max > 0 && t->read >= t->read_max) {
		status_set(st, 451, "4.3.0", "checksum");
		return -1;
	}
	if (t->content) {
		size_t len = strlen(t->content) - (size_t)t->read;
		if (n > len)
			n = len;
		memcpy(p, t->content + t->read, n);
	} else {
		if (n > t->left)
			n = (size_t)t->left;
		t->left -= n;
		for (size_t i = 0; i < n; i++) {
			uint64_t pos = (t->read + i) % 64;
			p[i] = pos == 63 ? '\n' : pos == 62 ? '\r' : 'x';
		}
	}
	t->read += n;
	return (ssize_t)n;
}

static void on_verdict(void *arg, size_t rcpt, const struct status *st, enum smtpc_scope scope)
{
	struct talk *t = arg;
	assert_true(rcpt < t->mail.count);
	assert_int_equal(t->done, t->mails_done);
	t->verdicts[rcpt]++;
	t->verdict[rcpt] = *st;
	t->scope[rcpt] = scope;
	if (scope == SMTPC_HOST)
		assert_true(status_class(st) == STATUS_TRANSIENT ||
		            (st->enh[1] == 6 && st->enh[2] == 7));
}

static void next_mail(struct talk *t)
{
	t->mails--;
	t->read = 0;
	t->got_dot = t->took = false;
	memset(t->verdicts, 0, sizeof t->verdicts);
	assert_true(smtpc_is_ready(t->c));
	smtpc_send(t->c, &t->mail);
	assert_false(smtpc_is_ready(t->c));
	if (t->quit_at_once)
		smtpc_quit(t->c);
}

static void on_done(void *arg)
{
	struct talk *t = arg;
	for (size_t i = 0; i < t->mail.count; i++)
		assert_int_equal(t->verdicts[i], 1);
	t->done++;
	t->mails_done++;
	if (t->mails > 0 && smtpc_is_ready(t->c))
		next_mail(t);
	else if (!t->quit_at_once)
		smtpc_quit(t->c);
}

static void on_ready(void *arg, const struct status *st)
{
	struct talk *t = arg;
	t->ready++;
	t->ready_status = *st;
	if (status_class(st) == STATUS_DONE && t->mails > 0)
		next_mail(t);
}

static void on_ended(void *arg)
{
	struct talk *t = arg;
	t->ended++;
	assert_int_equal(t->ready, 1);
}

static struct talk *talk_new(void)
{
	struct talk *t = calloc(1, sizeof *t);
	assert_non_null(t);
	assert_int_equal(loop_init(), 0);
	t->c = smtpc_new("ID", "us.example", on_ready, on_ended, t);
	assert_non_null(t->c);
	t->mails = 1;
	t->ehlo = ehlo_plain;
	t->content = "Subject: x\r\n\r\nbody\r\n";
	t->rcpt[0] = "a@example.org";
	t->rcpt[1] = "b@example.org";
	t->rcpt[2] = "c@example.org";
	t->mail = (struct smtpc_mail){.from = "s@example.com",
	                              .rcpt = t->rcpt,
	                              .count = RCPTS,
	                              .size = 20,
	                              .read = on_read,
	                              .verdict = on_verdict,
	                              .done = on_done,
	                              .arg = t};
	return t;
}

static void talk_open(struct talk *t)
{
	event(t, IO_CONNECTED);
	if (!t->securing)
		answer(t, "220 mx.example ESMTP\r\n");
}

static void talk_run(struct talk *t)
{
	talk_open(t);
	run(t);
}

static void talk_free(struct talk *t)
{
	assert_int_equal(t->ended, 1);
	smtpc_free(t->c);
	loop_turn(0); /* nothing may come any more */
	assert_int_equal(fake_client_tls.open, 0);
	loop_done();
	free(t);
}

/* ---- dialogues ---- */

static void test_plain(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->quit_at_once = true;
	talk_run(t);
	assert_string_equal(
	    t->log, "EHLO us.example|MAIL FROM:<s@example.com>|RCPT TO:<a@example.org>|"
	            "RCPT TO:<b@example.org>|RCPT TO:<c@example.org>|DATA|Subject: x||body|.|"
	            "QUIT|");
	assert_string_equal(smtpc_greeting_name(t->c), "mx.example");
	assert_int_equal(t->done, 1);
	for (int i = 0; i < RCPTS; i++) {
		assert_int_equal(t->verdict[i].code, 250);
		assert_string_equal(t->verdict[i].text, "queued");
	}
	talk_free(t);
}

static void test_extensions(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->ehlo = ehlo_all;
	t->mail.from = "<>";
	talk_run(t);
	assert_non_null(strstr(t->log, "|MAIL FROM:<> SIZE=20 BODY=8BITMIME|RCPT"));
	assert_int_equal(smtpc_caps(t->c)->size, 100000000);
	assert_int_equal(status_class(&t->verdict[2]), STATUS_DONE);
	talk_free(t);
}

/* The envelope leaves in one piece, content only after 354. */
static void test_pipelining(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->ehlo = ehlo_all;
	talk_open(t);
	carry(t); /* EHLO */
	while (smtpc_io(t->c)->out.len == 0)
		loop_turn(0);
	buf_putc(&smtpc_io(t->c)->out, '\0');
	const char *out = buf_data(&smtpc_io(t->c)->out);
	assert_string_equal(out, "MAIL FROM:<s@example.com> SIZE=20 BODY=8BITMIME\r\n"
	                         "RCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n"
	                         "RCPT TO:<c@example.org>\r\nDATA\r\n");
	buf_truncate(&smtpc_io(t->c)->out, strlen(out));
	run(t);
	assert_int_equal(status_class(&t->verdict[0]), STATUS_DONE);
	talk_free(t);
}

static void test_many_recipients(void **state)
{
	(void)state;
	for (int pipelining = 0; pipelining < 2; pipelining++) {
		struct talk *t = talk_new();
		t->ehlo = pipelining ? ehlo_all : ehlo_plain;
		t->mail.count = SPOOL_RCPTS_MAX;
		for (size_t i = 0; i < SPOOL_RCPTS_MAX; i++)
			t->rcpt[i] = i % 2
			                 ? "odd@a-rather-long-domain-name-for-a-test.example.org"
			                 : "even@a-rather-long-domain-name-for-a-test.example.org";
		t->refuse = "RCPT TO:<odd";
		t->refusal = "550 5.1.1 odd\r\n";
		talk_run(t);
		for (size_t i = 0; i < SPOOL_RCPTS_MAX; i++)
			assert_int_equal(t->verdict[i].code, i % 2 ? 550 : 250);
		assert_true(t->peak <= SMTPC_OUT_MAX);
		talk_free(t);
	}
}

static void test_helo(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->refuse = "EHLO";
	t->refusal = "502-PIPELINING\r\n502 what?\r\n";
	talk_run(t);
	assert_true(starts(t->log, "EHLO us.example|HELO us.example|MAIL FROM:<s@example.com>|"));
	assert_int_equal(smtpc_caps(t->c)->ext, 0);
	assert_int_equal(status_class(&t->verdict[0]), STATUS_DONE);
	talk_free(t);
}

static void test_ehlo_transient(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->refuse = "EHLO";
	t->refusal = "450 4.7.1 who are you\r\n";
	talk_run(t);
	assert_string_equal(t->log, "EHLO us.example|QUIT|");
	assert_int_equal(t->ready_status.code, 450);
	assert_int_equal(t->done, 0);
	talk_free(t);
}

static void test_greeting_refused(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->reaction = R550;
	t->at = 0;
	talk_run(t);
	assert_string_equal(t->log, "QUIT|");
	assert_int_equal(t->ready_status.code, 550);
	talk_free(t);
}

static void test_body(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->content = ".dot\r\n..\r\nbare\nlf\rcr\r\n.\r\nend";
	talk_run(t);
	assert_non_null(strstr(t->log, "|DATA|..dot|...|bare|lf|cr|..|end|.|QUIT|"));
	assert_int_equal(status_class(&t->verdict[0]), STATUS_DONE);
	talk_free(t);
}

static void test_verdict_mix(void **state)
{
	(void)state;
	for (int pipelining = 0; pipelining < 2; pipelining++) {
		struct talk *t = talk_new();
		t->ehlo = pipelining ? ehlo_all : ehlo_plain;
		t->refuse = "RCPT TO:<b";
		t->refusal = "452 4.5.3 too many\r\n";
		talk_run(t);
		assert_int_equal(t->verdict[0].code, 250);
		assert_int_equal(t->verdict[1].code, 452);
		assert_int_equal(t->scope[1], SMTPC_RCPT);
		assert_int_equal(t->verdict[2].code, 250);
		talk_free(t);
	}
}

/* A 2yz that is no 25x is no acceptance. */
static void test_rcpt_odd_2yz(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->refuse = "RCPT TO:<a";
	t->refusal = "220 hm\r\n";
	talk_run(t);
	assert_int_equal(t->verdict[0].code, 451);
	assert_int_equal(t->verdict[1].code, 250);
	talk_free(t);
}

static void test_nobody_accepted(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->refuse = "RCPT";
	t->refusal = "550 5.1.1 no\r\n";
	talk_run(t);
	assert_null(strstr(t->log, "DATA"));
	assert_non_null(strstr(t->log, "|RSET|QUIT|"));
	assert_int_equal(t->verdict[0].code, 550);
	talk_free(t);
}

/* RFC 2920 3.1: DATA was sent along and taken: a lone dot. */
static void test_lone_dot(void **state)
{
	(void)state;
	static const char *const refuse[] = {"RCPT", "MAIL"};
	for (int i = 0; i < 2; i++) {
		struct talk *t = talk_new();
		t->ehlo = ehlo_all;
		t->refuse = refuse[i];
		t->refusal = "550 5.1.1 no\r\n";
		talk_run(t);
		assert_non_null(strstr(t->log, "|DATA|.|QUIT|"));
		for (int k = 0; k < RCPTS; k++)
			assert_int_equal(t->verdict[k].code, 550);
		assert_int_equal(t->read, 0);
		talk_free(t);
	}
}

static void test_mail_refused(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->refuse = "MAIL";
	t->refusal = "452 4.3.1 full\r\n";
	t->quit_at_once = true;
	talk_run(t);
	assert_string_equal(t->log, "EHLO us.example|MAIL FROM:<s@example.com>|QUIT|");
	assert_int_equal(t->verdict[1].code, 452);
	assert_int_equal(t->scope[1], SMTPC_MESSAGE);
	talk_free(t);
}

static void test_size_limit(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->ehlo = "250-mx.example\r\n250 SIZE 19\r\n";
	talk_run(t);
	assert_string_equal(t->log, "EHLO us.example|QUIT|");
	assert_int_equal(t->verdict[0].code, 552);
	assert_int_equal(t->verdict[0].enh[1], 3);
	assert_int_equal(t->verdict[0].enh[2], 4);
	talk_free(t);
}

static void test_not_ascii(void **state)
{
	(void)state;
	for (int pipelining = 0; pipelining < 2; pipelining++) {
		struct talk *t = talk_new();
		t->ehlo = pipelining ? ehlo_all : ehlo_plain;
		t->rcpt[0] = "j\xc3\xbcrgen@example.org";
		t->rcpt[2] = "\xc3\xa9@example.org";
		talk_run(t);
		assert_int_equal(t->verdict[0].code, 550);
		assert_int_equal(t->verdict[0].enh[1], 6);
		assert_int_equal(t->verdict[0].enh[2], 7);
		assert_int_equal(t->scope[0], SMTPC_HOST);
		assert_int_equal(t->verdict[1].code, 250);
		assert_int_equal(t->verdict[2].code, 550);
		assert_null(strchr(t->log, '\xc3'));
		talk_free(t);
	}
	struct talk *t = talk_new();
	t->mail.from = "j\xc3\xbcrgen@example.com";
	talk_run(t);
	assert_int_equal(t->verdict[0].code, 550);
	assert_string_equal(t->log, "EHLO us.example|QUIT|");
	talk_free(t);
}

#if WITH_IDN
static void test_idn(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->rcpt[0] = "a@b\xc3\xbc"
	             "cher.example";
	talk_run(t);
	assert_non_null(strstr(t->log, "RCPT TO:<a@xn--bcher-kva.example>|"));
	talk_free(t);
}
#endif

/* RFC 6531 3.2: asked for when an address or the header needs it, not otherwise. */
static void test_smtputf8(void **state)
{
	(void)state;
	static const char utf8[] = "250-mx.example\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n";
	struct talk *t = talk_new();
	t->ehlo = utf8;
	talk_run(t);
	assert_null(strstr(t->log, "SMTPUTF8"));
	talk_free(t);
#if WITH_IDN
	t = talk_new();
	t->ehlo = utf8;
	t->rcpt[1] = "j\xc3\xbcrgen@example.org";
	talk_run(t);
	assert_non_null(strstr(t->log, "MAIL FROM:<s@example.com> BODY=8BITMIME SMTPUTF8|"));
	assert_non_null(strstr(t->log, "RCPT TO:<j\xc3\xbcrgen@example.org>|"));
	assert_int_equal(t->verdict[1].code, 250);
	talk_free(t);
#endif
	for (int offered = 0; offered < 2; offered++) {
		t = talk_new();
		if (offered)
			t->ehlo = utf8;
		t->mail.header_8bit = true;
		talk_run(t);
		assert_int_equal(strstr(t->log, " SMTPUTF8|") != NULL, offered);
		assert_int_equal(t->verdict[1].code, offered ? 250 : 550);
		assert_int_equal(strstr(t->log, "DATA|") != NULL, offered);
		assert_int_equal(t->scope[1], offered ? SMTPC_RCPT : SMTPC_HOST);
		talk_free(t);
	}
}

static void test_reuse(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->mails = 3;
	t->refuse = "RCPT TO:<a";
	t->refusal = "550 5.1.1 no\r\n";
	t->mail.count = 1;
	talk_run(t);
	assert_int_equal(t->done, 3);
	assert_string_equal(t->log, "EHLO us.example|MAIL FROM:<s@example.com>|"
	                            "RCPT TO:<a@example.org>|RSET|MAIL FROM:<s@example.com>|"
	                            "RCPT TO:<a@example.org>|RSET|MAIL FROM:<s@example.com>|"
	                            "RCPT TO:<a@example.org>|RSET|QUIT|");
	talk_free(t);
}

static void test_idle_session_quits(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->mails = 0;
	talk_run(t);
	assert_string_equal(t->log, "EHLO us.example|QUIT|");
	talk_free(t);
}

/* The time for a next mail is over just when one was given: it is sent all the same. */
static void test_mail_at_the_last_moment(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->mails = 0;
	t->quit_at_once = true;
	talk_open(t);
	while (!t->ready)
		if (!carry(t))
			loop_turn(0);
	t->mails = 1;
	next_mail(t);
	event(t, IO_TIMEOUT);
	run(t);
	assert_int_equal(t->done, 1);
	for (int i = 0; i < RCPTS; i++)
		assert_int_equal(t->verdict[i].code, 250);
	talk_free(t);
}

static void test_not_connected(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct talk *t = talk_new();
		smtpc_io(t->c)->error = 111;
		event(t, i ? IO_ERROR : IO_TIMEOUT);
		run(t);
		assert_int_equal(t->ready_status.enh[1], 4);
		assert_int_equal(t->ready_status.enh[2], 1);
		assert_string_equal(t->log, "");
		talk_free(t);
	}
}

static void test_free_at_once(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	talk_open(t);
	carry(t);
	loop_turn(0);
	smtpc_free(t->c);
	loop_turn(0);
	assert_int_equal(t->ended + t->done, 0);
	loop_done();
	free(t);
}

/* ---- content that goes wrong ---- */

static void test_read_error(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->content = NULL;
	t->left = 1000000;
	t->read_max = 300000;
	t->refuse = "RCPT TO:<b";
	t->refusal = "550 5.1.1 no\r\n";
	talk_run(t);
	assert_false(t->got_dot);
	assert_null(strstr(t->log, "QUIT"));
	assert_string_equal(t->verdict[0].text, "checksum");
	assert_int_equal(status_class(&t->verdict[0]), STATUS_TRANSIENT);
	assert_int_equal(t->scope[0], SMTPC_RCPT);
	assert_int_equal(t->verdict[1].code, 550);
	talk_free(t);
}

static void to_content(struct talk *t)
{
	t->content = NULL;
	t->left = 1000000;
	talk_open(t);
	while (t->read == 0) {
		loop_turn(0);
		carry(t);
	}
}

static void test_early_reply(void **state)
{
	(void)state;
	static const char *const reply[] = {"552 5.3.4 too big\r\n", "421 4.3.2 bye\r\n",
	                                    "250 2.0.0 fine\r\n", "354 more\r\n"};
	static const int code[] = {552, 421, 451, 451};
	for (int i = 0; i < 4; i++) {
		struct talk *t = talk_new();
		to_content(t);
		assert_true(t->log_len > 0);
		says(t, reply[i]);
		t->log_len = 0;
		t->log[0] = '\0';
		run(t);
		assert_string_equal(t->log, ""); /* nothing more was sent */
		for (int k = 0; k < RCPTS; k++)
			assert_int_equal(t->verdict[k].code, code[i]);
		talk_free(t);
	}
}

/* The peer accepts before the dot has left: no acceptance, and the dot must not follow. */
static void test_early_acceptance(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	talk_open(t);
	while (t->read == 0) {
		loop_turn(0);
		carry(t);
	}
	assert_true(io_unsent(smtpc_io(t->c)) > 0);
	says(t, "250 2.0.0 queued\r\n");
	assert_int_equal(io_unsent(smtpc_io(t->c)), 0);
	run(t);
	assert_int_equal(t->verdict[0].code, 451);
	assert_false(t->got_dot);
	talk_free(t);
}

static void test_lost_after_dot(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->refuse = "MAIL"; /* find the event of the dot: the one before QUIT */
	t->refusal = "250 ok\r\n";
	talk_run(t);
	int dot = t->event - 2;
	talk_free(t);
	t = talk_new();
	t->at = dot;
	t->reaction = END;
	talk_run(t);
	assert_true(t->got_dot);
	assert_int_equal(t->verdict[0].enh[2], 2);
	assert_int_equal(t->scope[0], SMTPC_RCPT); /* no second host: it may have it */
	talk_free(t);
}

/* While the peer takes something, the time-out of a block begins anew; when it does not, it ends.
 */
static void test_slow_peer(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	to_content(t);
	struct io *io = smtpc_io(t->c);
	for (int i = 0; i < 50; i++) {
		buf_consume(&io->out, 1);
		event(t, IO_TIMEOUT);
		assert_true(loop_timer_is_set(&io->timer));
		assert_int_equal(t->verdicts[0], 0);
	}
	event(t, IO_TIMEOUT);
	assert_int_equal(t->verdicts[0], 1);
	assert_int_equal(t->scope[0], SMTPC_HOST);
	run(t);
	assert_false(t->got_dot);
	talk_free(t);
}

/* The client keeps reading while it sends, and never holds more than its buffers. */
static void test_large(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	t->ehlo = ehlo_all;
	t->content = NULL;
	t->left = t->mail.size = 50 * 1000 * 1000 / valgrind_step(10);
	talk_run(t);
	assert_int_equal(t->verdict[0].code, 250);
	assert_true(t->body >= t->mail.size);
	assert_true(t->peak <= SMTPC_OUT_MAX);
	talk_free(t);
}

/* Replies to commands that were not given yet do not put the session out of step. */
static void test_replies_ahead(void **state)
{
	(void)state;
	for (int pipelining = 0; pipelining < 2; pipelining++) {
		struct talk *t = talk_new();
		t->ehlo = pipelining
		              ? "250-mx.example\r\n250 PIPELINING\r\n250 a\r\n250 b\r\n250 c\r\n"
		                "250 d\r\n354 go\r\n250 e\r\n250 f\r\n"
		              : "250 mx.example\r\n250 a\r\n250 b\r\n250 c\r\n250 d\r\n354 go\r\n"
		                "250 e\r\n250 f\r\n";
		talk_run(t);
		if (t->done > 0)
			assert_int_not_equal(status_class(&t->verdict[0]), STATUS_DONE);
		talk_free(t);
	}
}

/* ---- every step x every answer ---- */

static void check_one(struct talk *t, enum reaction reaction)
{
	assert_int_equal(t->ended, 1);
	assert_int_equal(t->ready, 1);
	if (status_class(&t->ready_status) != STATUS_DONE) {
		assert_int_equal(t->done, 0);
		return;
	}
	assert_true(t->done >= 1);
	for (int i = 0; i < RCPTS; i++) {
		assert_int_equal(t->verdicts[i], 1);
		/* Nobody is told of success without a dot that was answered well. */
		if (status_class(&t->verdict[i]) == STATUS_DONE)
			assert_true(t->got_dot && t->took);
		if (status_class(&t->verdict[i]) == STATUS_PERMANENT)
			assert_int_equal(reaction, R550);
	}
}

static struct talk *talk_lmtp(void)
{
	struct talk *t = talk_new();
	smtpc_speak_lmtp(t->c);
	t->lmtp = true;
	return t;
}

static void walk(const char *ehlo, bool lmtp, bool quit_at_once, const char *refuse)
{
	for (int reaction = RIGHT + 1; reaction < REACTIONS; reaction++) {
		int at = 0;
		bool hit = true;
		for (; hit; at++) {
			struct talk *t = lmtp ? talk_lmtp() : talk_new();
			t->ehlo = ehlo;
			t->quit_at_once = quit_at_once;
			t->mails = 2;
			t->refuse = refuse;
			t->refusal = "550 5.0.0 no\r\n";
			t->reaction = (enum reaction)reaction;
			t->at = at;
			talk_run(t);
			hit = t->event > at;
			if (!refuse)
				check_one(t, (enum reaction)reaction);
			talk_free(t);
		}
		assert_true(at > 3);
	}
}

static void test_walk(void **state)
{
	(void)state;
	for (int lmtp = 0; lmtp < 2; lmtp++) {
		walk(ehlo_plain, lmtp, true, NULL);
		walk(ehlo_plain, lmtp, false, NULL);
		walk(ehlo_all, lmtp, true, NULL);
		walk(ehlo_all, lmtp, false, NULL);
	}
}

static void test_walk_refused(void **state)
{
	(void)state;
	static const char *const refuse[] = {"EHLO", "MAIL", "RCPT", "RCPT TO:<b", "DATA", "QUIT"};
	for (size_t i = 0; i < sizeof refuse / sizeof refuse[0]; i += valgrind_step(2)) {
		for (int lmtp = 0; lmtp < 2; lmtp++) {
			walk(ehlo_plain, lmtp, false, refuse[i]);
			walk(ehlo_all, lmtp, false, refuse[i]);
		}
	}
}

/* ---- LMTP ---- */

static void test_lmtp(void **state)
{
	(void)state;
	for (int pipelining = 0; pipelining < 2; pipelining++) {
		struct talk *t = talk_lmtp();
		t->ehlo = pipelining ? "250-x\r\n250 PIPELINING\r\n" : ehlo_plain;
		t->dots[0] = "250-2.0.0 a\r\n250 2.0.0 stored\r\n";
		t->dots[1] = "452 4.2.2 b is full\r\n";
		t->dots[2] = "550 5.2.1 c is closed\r\n";
		talk_run(t);
		assert_string_equal(t->log,
		                    "LHLO us.example|MAIL FROM:<s@example.com>|"
		                    "RCPT TO:<a@example.org>|RCPT TO:<b@example.org>|"
		                    "RCPT TO:<c@example.org>|DATA|Subject: x||body|.|QUIT|");
		assert_int_equal(t->verdict[0].code, 250);
		assert_int_equal(t->verdict[1].code, 452);
		assert_string_equal(t->verdict[1].text, "b is full");
		assert_int_equal(t->verdict[2].code, 550);
		assert_int_equal(t->verdict[2].enh[1], 2);
		assert_int_equal(t->verdict[2].enh[2], 1);
		for (int i = 0; i < RCPTS; i++)
			assert_int_equal(t->scope[i], SMTPC_RCPT);
		talk_free(t);
	}
}

/* Only who was accepted gets a reply. */
static void test_lmtp_refused_rcpt(void **state)
{
	(void)state;
	for (int pipelining = 0; pipelining < 2; pipelining++) {
		struct talk *t = talk_lmtp();
		t->ehlo = pipelining ? ehlo_all : ehlo_plain;
		t->refuse = "RCPT TO:<b";
		t->refusal = "550 5.1.1 no b\r\n";
		t->dots[1] = "552 5.2.2 c is full\r\n";
		talk_run(t);
		assert_int_equal(t->verdict[0].code, 250);
		assert_string_equal(t->verdict[1].text, "no b");
		assert_int_equal(t->verdict[2].code, 552);
		talk_free(t);
	}
}

static void test_lmtp_many(void **state)
{
	(void)state;
	struct talk *t = talk_lmtp();
	t->ehlo = ehlo_all;
	t->mail.count = SPOOL_RCPTS_MAX;
	t->mails = 2;
	for (size_t i = 0; i < SPOOL_RCPTS_MAX; i++)
		t->rcpt[i] = i % 3 ? "a@example.org" : "no@example.org";
	t->refuse = "RCPT TO:<no";
	t->refusal = "550 5.1.1 no\r\n";
	t->dots[1] = "450 4.2.0 the second\r\n";
	talk_run(t);
	assert_int_equal(t->done, 2);
	for (size_t i = 0; i < SPOOL_RCPTS_MAX; i++)
		assert_int_equal(t->verdict[i].code, i == 2 ? 450 : i % 3 ? 250 : 550);
	talk_free(t);
}

/* Replies that do not come, or that say nothing of a recipient, leave the rest for later. */
static void test_lmtp_replies_end(void **state)
{
	(void)state;
	static const struct {
		enum reaction reaction;
		const char *reply;
		int code;
	} ends[] = {{END, NULL, 451},
	            {BROKEN, NULL, 451},
	            {GARBAGE, NULL, 451},
	            {MANY_LINES, NULL, 451},
	            {R354, NULL, 451},
	            {NULS, NULL, 451},
	            {RIGHT, "354 go on\r\n", 451}};
	struct talk *t = talk_lmtp();
	talk_run(t);
	int first = t->event - 1 - RCPTS; /* QUIT, and the replies to the dot */
	talk_free(t);
	for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
		t = talk_lmtp();
		t->dots[1] = ends[i].reply;
		t->reaction = ends[i].reaction;
		t->at = first + 1;
		talk_run(t);
		assert_true(t->got_dot);
		assert_int_equal(t->verdict[0].code, 250);
		for (int k = 1; k < RCPTS; k++) {
			assert_int_equal(t->verdict[k].code, ends[i].code);
			assert_int_equal(t->scope[k], SMTPC_RCPT);
		}
		talk_free(t);
	}
	/* The server is about to go, but each has its own reply. */
	t = talk_lmtp();
	t->reaction = R421;
	t->at = first + 1;
	talk_run(t);
	assert_int_equal(t->verdict[0].code, 250);
	assert_int_equal(t->verdict[1].code, 421);
	assert_int_equal(t->verdict[2].code, 250);
	talk_free(t);
	/* One reply too few: the last of them waits, in vain. */
	t = talk_lmtp();
	t->reaction = SILENCE;
	t->at = first + 2;
	talk_run(t);
	assert_int_equal(t->verdict[1].code, 250);
	assert_string_equal(t->verdict[2].text, "time-out, waiting for final dot");
	talk_free(t);
}

static void test_lmtp_surplus_reply(void **state)
{
	(void)state;
	for (int quit_at_once = 0; quit_at_once < 2; quit_at_once++) {
		struct talk *t = talk_lmtp();
		t->quit_at_once = quit_at_once;
		t->dots[2] = "550 5.2.1 c\r\n550 5.2.1 d\r\n";
		talk_run(t);
		assert_int_equal(t->verdict[1].code, 250);
		assert_int_equal(t->verdict[2].code, 550);
		talk_free(t);
	}
}

/* A reply ahead of the dot cannot be meant for one recipient: nobody is lost or served by it. */
static void test_lmtp_early_reply(void **state)
{
	(void)state;
	static const char *const replies[] = {"550 5.3.4 too big\r\n", "250 2.0.0 fine\r\n"};
	for (int i = 0; i < 2; i++) {
		struct talk *t = talk_lmtp();
		to_content(t);
		says(t, replies[i]);
		run(t);
		assert_false(t->got_dot);
		for (int k = 0; k < RCPTS; k++)
			assert_int_equal(t->verdict[k].code, 451);
		talk_free(t);
	}
}

/* RFC 2033 4.2: DATA that was sent along must be refused; when it is not, no dot follows, as no
 * reply would come. */
static void test_lmtp_nobody(void **state)
{
	(void)state;
	struct talk *t = talk_lmtp();
	t->ehlo = ehlo_all;
	t->refuse = "RCPT";
	t->refusal = "550 5.1.1 no\r\n";
	talk_run(t);
	assert_false(t->got_dot);
	assert_null(strstr(t->log, "DATA|."));
	assert_int_equal(t->verdict[0].code, 550);
	talk_free(t);
}

/* There is no HELO to fall back on. */
static void test_lmtp_lhlo_refused(void **state)
{
	(void)state;
	struct talk *t = talk_lmtp();
	t->refuse = "LHLO";
	t->refusal = "500 5.5.1 what?\r\n";
	talk_run(t);
	assert_string_equal(t->log, "LHLO us.example|QUIT|");
	assert_int_equal(t->ready_status.code, 500);
	talk_free(t);
}

/* Each answer byte by byte, and time-outs in between are no progress for the peer. */
static void test_byte_by_byte(void **state)
{
	(void)state;
	struct talk *t = talk_new();
	event(t, IO_CONNECTED);
	const char *s = "220-mx.example hello\r\n220 there\r\n";
	for (; *s; s++)
		say(t, s, 1);
	run(t);
	assert_int_equal(t->verdict[0].code, 250);
	talk_free(t);
}

/* ---- TLS and login ---- */

static const char *const ehlo_starttls =
    "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 5\r\n250 STARTTLS\r\n";
static const char *const ehlo_auth = "250-mx.example\r\n250 AUTH LOGIN PLAIN XOAUTH2\r\n";

static int on_judge(void *arg, const struct tls_peer *peer, struct status *st)
{
	struct talk *t = arg;
	assert_ptr_equal(peer, &fake_client_tls.peer);
	t->judged++;
	status_set(st, 454, "4.7.5", "bad certificate");
	return t->bad_peer ? -1 : 0;
}

static struct talk *talk_secure(enum smtpc_tls tls, const struct smtpc_login *login)
{
	struct talk *t = talk_new();
	struct smtpc_security security = {
	    .tls = tls, .required = true, .name = "mx.example", .judge = on_judge, .login = login};
	smtpc_secure(t->c, &security);
	t->ehlo = ehlo_starttls;
	t->ehlo_tls = ehlo_auth;
	t->quit_at_once = true;
	return t;
}

#define SENT_MAIL                                            \
	"MAIL FROM:<s@example.com>|RCPT TO:<a@example.org>|" \
	"RCPT TO:<b@example.org>|RCPT TO:<c@example.org>|DATA|Subject: x||body|.|QUIT|"

static void test_starttls(void **state)
{
	(void)state;
	struct talk *t = talk_secure(SMTPC_TLS_STARTTLS, NULL);
	talk_run(t);
	/* The limit of 5 bytes and the pipelining of the first EHLO are forgotten. */
	assert_string_equal(t->log, "EHLO us.example|STARTTLS|EHLO us.example|" SENT_MAIL);
	assert_int_equal(t->verdict[0].code, 250);
	assert_int_equal(t->judged, 1);
	assert_string_equal(fake_client_tls.name, "mx.example");
	talk_free(t);
}

/* CVE-2011-0411, the other way round: replies that were there before the handshake do not count. */
static void test_response_injection(void **state)
{
	(void)state;
	struct talk *t = talk_secure(SMTPC_TLS_STARTTLS, NULL);
	t->extra = "250-evil\r\n250 SIZE 1\r\n250 ok\r\n";
	talk_run(t);
	assert_string_equal(t->log, "EHLO us.example|STARTTLS|EHLO us.example|" SENT_MAIL);
	assert_int_equal(smtpc_caps(t->c)->size, 0);
	assert_int_equal(t->verdict[0].code, 250);
	talk_free(t);
}

static void expect_not_ready(struct talk *t, enum smtpc_trouble trouble, const char *log)
{
	assert_int_equal(t->done, 0);
	assert_int_equal(t->ready_status.code / 100, 4);
	assert_int_equal(smtpc_trouble(t->c), trouble);
	assert_string_equal(t->log, log);
	talk_free(t);
}

static void test_starttls_refused(void **state)
{
	(void)state;
	struct talk *t = talk_secure(SMTPC_TLS_STARTTLS, NULL);
	t->refuse = "STARTTLS";
	t->refusal = "454 4.7.0 not now\r\n";
	talk_run(t);
	expect_not_ready(t, SMTPC_TLS_TROUBLE, "EHLO us.example|STARTTLS|");
}

static void test_starttls_not_offered(void **state)
{
	(void)state;
	struct talk *t = talk_secure(SMTPC_TLS_STARTTLS, NULL);
	t->ehlo = ehlo_plain;
	talk_run(t);
	expect_not_ready(t, SMTPC_TLS_MISSING, "EHLO us.example|QUIT|");
	/* Nor where EHLO is unknown. */
	t = talk_secure(SMTPC_TLS_STARTTLS, NULL);
	t->refuse = "EHLO";
	t->refusal = "502 5.5.1 what\r\n";
	talk_run(t);
	expect_not_ready(t, SMTPC_TLS_MISSING, "EHLO us.example|HELO us.example|QUIT|");
}

/* Anybody on the way can say so, and must not bounce our mail. */
static void test_refused_before_tls(void **state)
{
	(void)state;
	struct talk *t = talk_secure(SMTPC_TLS_STARTTLS, NULL);
	t->reaction = R550;
	t->at = 0;
	talk_run(t);
	expect_not_ready(t, SMTPC_NO_TROUBLE, "QUIT|");
	t = talk_secure(SMTPC_TLS_STARTTLS, NULL);
	t->refuse = "HELO";
	t->refusal = "554 5.7.1 no\r\n";
	t->ehlo = "502 5.5.1 what\r\n";
	talk_run(t);
	expect_not_ready(t, SMTPC_NO_TROUBLE, "EHLO us.example|HELO us.example|QUIT|");
}

/* Nor does the name count that was given before the handshake. */
static void test_name_after_tls(void **state)
{
	(void)state;
	struct talk *t = talk_secure(SMTPC_TLS_STARTTLS, NULL);
	t->ehlo_tls = "250-inner.example\r\n250 SIZE\r\n";
	talk_run(t);
	assert_string_equal(smtpc_greeting_name(t->c), "inner.example");
	talk_free(t);
}

static void test_handshake_fails(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		struct talk *t = talk_secure(SMTPC_TLS_STARTTLS, NULL);
		talk_open(t);
		while (!t->securing)
			carry(t);
		t->securing = false;
		smtpc_io(t->c)->error = EPROTO;
		event(t, how == 0 ? IO_ERROR : how == 1 ? IO_TIMEOUT : IO_EOF);
		run(t);
		if (how == 0)
			assert_non_null(strstr(t->ready_status.text, "was to fail"));
		expect_not_ready(t, SMTPC_TLS_TROUBLE, "EHLO us.example|STARTTLS|");
	}
}

static void test_bad_certificate(void **state)
{
	(void)state;
	struct talk *t = talk_secure(SMTPC_TLS_STARTTLS, NULL);
	t->bad_peer = true;
	talk_run(t);
	assert_string_equal(t->ready_status.text, "bad certificate");
	expect_not_ready(t, SMTPC_NO_TROUBLE, "EHLO us.example|STARTTLS|");
}

static void test_implicit(void **state)
{
	(void)state;
	struct talk *t = talk_secure(SMTPC_TLS_IMPLICIT, NULL);
	t->securing = true;
	talk_open(t);
	assert_int_equal(fake_client_tls.handshakes > 0, 1);
	t->securing = false;
	t->secured = true;
	event(t, IO_SECURED);
	answer(t, "220 mx.example ESMTP\r\n");
	run(t);
	assert_int_equal(t->judged, 1);
	assert_string_equal(t->log, "EHLO us.example|" SENT_MAIL);
	talk_free(t);
}

/* One login; the log between the EHLOs and the mail. */
static void login(const struct smtpc_login *l, const char *ehlo, const char *const *replies,
                  const char *log)
{
	struct talk *t = talk_secure(SMTPC_TLS_STARTTLS, l);
	char want[2000];
	if (ehlo)
		t->ehlo_tls = ehlo;
	for (size_t i = 0; replies[i]; i++)
		t->auth[i] = replies[i];
	talk_run(t);
	snprintf(want, sizeof want, "EHLO us.example|STARTTLS|EHLO us.example|%s%s", log,
	         SENT_MAIL);
	assert_string_equal(t->log, want);
	assert_int_equal(t->verdict[0].code, 250);
	talk_free(t);
}

static void test_login(void **state)
{
	(void)state;
	static const char *const one[] = {"235 2.7.0 ok\r\n", NULL};
	static const char *const two[] = {"334 \r\n", "235 2.7.0 ok\r\n", NULL};
	static const char *const three[] = {"334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n",
	                                    "235 2.7.0 ok\r\n", NULL};
	struct smtpc_login l = {.user = "me", .secret = "pass"};
	login(&l, NULL, one, "AUTH PLAIN AG1lAHBhc3M=|");
	l.mechanism = SMTPC_AUTH_LOGIN;
	login(&l, NULL, three, "AUTH LOGIN|bWU=|cGFzcw==|");
	l.mechanism = SMTPC_AUTH_BEST;
	login(&l, "250-x\r\n250 AUTH=LOGIN\r\n", three, "AUTH LOGIN|bWU=|cGFzcw==|");
	l.mechanism = SMTPC_AUTH_XOAUTH2;
	login(&l, NULL, one, "AUTH XOAUTH2 dXNlcj1tZQFhdXRoPUJlYXJlciBwYXNzAQE=|");
	/* RFC 4954 4: too long for the command line. */
	char token[601], want[1200] = "AUTH XOAUTH2|";
	memset(token, 'x', sizeof token - 1);
	token[sizeof token - 1] = '\0';
	l.secret = token;
	strcat(want, "dXNlcj1tZQFhdXRoPUJlYXJlciB4");
	for (int i = 0; i < 199; i++)
		strcat(want, "eHh4");
	strcat(want, "eHgBAQ==|");
	login(&l, NULL, two, want);
}

static void login_fails(const struct smtpc_login *l, const char *ehlo, const char *const *replies,
                        enum smtpc_trouble trouble, const char *text, const char *log)
{
	struct talk *t = talk_secure(SMTPC_TLS_STARTTLS, l);
	char want[300];
	if (ehlo)
		t->ehlo_tls = ehlo;
	for (size_t i = 0; replies && replies[i]; i++)
		t->auth[i] = replies[i];
	talk_run(t);
	assert_non_null(strstr(t->ready_status.text, text));
	assert_null(strstr(t->ready_status.text, "pass"));
	snprintf(want, sizeof want, "EHLO us.example|STARTTLS|EHLO us.example|%sQUIT|", log);
	expect_not_ready(t, trouble, want);
}

static void test_login_fails(void **state)
{
	(void)state;
	static const char *const wrong[] = {"535 5.7.8 no\r\n", NULL};
	static const char *const later[] = {"454 4.7.0 later\r\n", NULL};
	/* As it is, and as it was sent; a part of it will do. */
	static const char *const echo[] = {"535 5.7.8 no login with Pa55word-of-mine\r\n", NULL};
	static const char *const piece[] = {"535-5.7.8 no login\r\n535 5.7.8 (55word-o)\r\n", NULL};
	static const char *const base64[] = {"454 4.7.0 what is (NXdvcmQtb2Yt)\r\n", NULL};
	static const char *const xoauth2[] = {"334 eyJzdGF0dXMiOiI0MDEifQ==\r\n",
	                                      "535 5.7.8 no\r\n", NULL};
	static const char *const endless[] = {"334 \r\n", "334 \r\n", "334 \r\n", NULL};
	struct smtpc_login l = {.user = "me", .secret = "pass"};
	login_fails(&l, NULL, wrong, SMTPC_LOGIN_TROUBLE, "wrong credentials",
	            "AUTH PLAIN AG1lAHBhc3M=|");
	login_fails(&l, NULL, later, SMTPC_NO_TROUBLE, "later", "AUTH PLAIN AG1lAHBhc3M=|");
	login_fails(&l, NULL, endless, SMTPC_NO_TROUBLE, "334", "AUTH PLAIN AG1lAHBhc3M=|*|");
	login_fails(&l, ehlo_plain, NULL, SMTPC_NO_TROUBLE, "mechanism", "");
	l.secret = "Pa55word-of-mine";
	login_fails(&l, NULL, echo, SMTPC_LOGIN_TROUBLE, "535 (not shown",
	            "AUTH PLAIN AG1lAFBhNTV3b3JkLW9mLW1pbmU=|");
	login_fails(&l, NULL, piece, SMTPC_LOGIN_TROUBLE, "535 (not shown",
	            "AUTH PLAIN AG1lAFBhNTV3b3JkLW9mLW1pbmU=|");
	l.mechanism = SMTPC_AUTH_LOGIN;
	login_fails(&l, NULL, base64, SMTPC_NO_TROUBLE, "454 (not shown", "AUTH LOGIN|");
	l.secret = "pass";
	l.mechanism = SMTPC_AUTH_XOAUTH2;
	login_fails(&l, NULL, xoauth2, SMTPC_LOGIN_TROUBLE, "wrong credentials",
	            "AUTH XOAUTH2 dXNlcj1tZQFhdXRoPUJlYXJlciBwYXNzAQE=||");
	/* What only the plain EHLO offered does not count. */
	struct talk *t = talk_secure(SMTPC_TLS_STARTTLS, &l);
	t->ehlo = "250-x\r\n250-AUTH PLAIN LOGIN XOAUTH2\r\n250 STARTTLS\r\n";
	t->ehlo_tls = ehlo_plain;
	talk_run(t);
	expect_not_ready(t, SMTPC_NO_TROUBLE, "EHLO us.example|STARTTLS|EHLO us.example|QUIT|");
}

static void test_no_login_without_tls(void **state)
{
	(void)state;
	struct smtpc_login l = {.user = "me", .secret = "pass"};
	struct talk *t = talk_new();
	struct smtpc_security security = {.tls = SMTPC_TLS_NONE, .login = &l};
	smtpc_secure(t->c, &security);
	t->ehlo = ehlo_auth;
	talk_run(t);
	expect_not_ready(t, SMTPC_NO_TROUBLE, "EHLO us.example|QUIT|");
}

static void test_walk_secure(void **state)
{
	(void)state;
	static const struct smtpc_login l = {
	    .user = "me", .secret = "pass", .mechanism = SMTPC_AUTH_LOGIN};
	for (int reaction = RIGHT + 1; reaction < REACTIONS; reaction++) {
		bool hit = true;
		for (int at = 0; hit; at++) {
			struct talk *t = talk_secure(SMTPC_TLS_STARTTLS, &l);
			t->auth[0] = t->auth[1] = "334 \r\n";
			t->auth[2] = t->auth[3] = "235 ok\r\n";
			t->reaction = (enum reaction)reaction;
			t->at = at;
			talk_run(t);
			hit = t->event > at;
			if (t->done == 0)
				assert_int_not_equal(status_class(&t->ready_status), STATUS_DONE);
			talk_free(t);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_extensions),
		cmocka_unit_test(test_pipelining),
		cmocka_unit_test(test_many_recipients),
		cmocka_unit_test(test_helo),
		cmocka_unit_test(test_ehlo_transient),
		cmocka_unit_test(test_greeting_refused),
		cmocka_unit_test(test_body),
		cmocka_unit_test(test_verdict_mix),
		cmocka_unit_test(test_rcpt_odd_2yz),
		cmocka_unit_test(test_nobody_accepted),
		cmocka_unit_test(test_lone_dot),
		cmocka_unit_test(test_mail_refused),
		cmocka_unit_test(test_size_limit),
		cmocka_unit_test(test_not_ascii),
#if WITH_IDN
		cmocka_unit_test(test_idn),
#endif
		cmocka_unit_test(test_smtputf8),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_idle_session_quits),
		cmocka_unit_test(test_mail_at_the_last_moment),
		cmocka_unit_test(test_not_connected),
		cmocka_unit_test(test_free_at_once),
		cmocka_unit_test(test_read_error),
		cmocka_unit_test(test_early_reply),
		cmocka_unit_test(test_early_acceptance),
		cmocka_unit_test(test_lost_after_dot),
		cmocka_unit_test(test_slow_peer),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_replies_ahead),
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_walk_refused),
		cmocka_unit_test(test_lmtp),
		cmocka_unit_test(test_lmtp_refused_rcpt),
		cmocka_unit_test(test_lmtp_many),
		cmocka_unit_test(test_lmtp_replies_end),
		cmocka_unit_test(test_lmtp_surplus_reply),
		cmocka_unit_test(test_lmtp_early_reply),
		cmocka_unit_test(test_lmtp_nobody),
		cmocka_unit_test(test_lmtp_lhlo_refused),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_starttls),
		cmocka_unit_test(test_response_injection),
		cmocka_unit_test(test_starttls_refused),
		cmocka_unit_test(test_starttls_not_offered),
		cmocka_unit_test(test_refused_before_tls),
		cmocka_unit_test(test_name_after_tls),
		cmocka_unit_test(test_handshake_fails),
		cmocka_unit_test(test_bad_certificate),
		cmocka_unit_test(test_implicit),
		cmocka_unit_test(test_login),
		cmocka_unit_test(test_login_fails),
		cmocka_unit_test(test_no_login_without_tls),
		cmocka_unit_test(test_walk_secure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
