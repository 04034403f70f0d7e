/*
 * Unit tests of smtpd: whole dialogues as data, cut at every byte; every state and verb; the
 * spool's and the client's failures. link: fake_spool.c fake_tls.c fake_spf.c
 * link: fake_resolve.c fake_hook.c
 */
#include "smtpd_help.h"
#include "valgrind.h"

#define E   "EHLO client.test\r\n"
#define M   "MAIL FROM:<a@client.test>\r\n"
#define R   "RCPT TO:<alice@here.test>\r\n"
#define D   "DATA\r\n"
#define Q   "QUIT\r\n"
#define X   "Subject: x\r\n\r\ntext\r\n.\r\n"
#define R4  "Received: a\r\nReceived: b\r\nReceived: c\r\nReceived: d\r\n"
#define R12 R4 R4 R4

/* What a client writes, the codes of the replies, whether the session has ended, and the messages
 * committed. */
static const struct dialogue {
	const char *name;
	const char *in;
	size_t n; /* of in; 0: a string */
	const char *codes;
	bool ended;
	unsigned messages;
	const char *body; /* behind our Received field; NULL: any */
	const char *rcpts;
} dialogues[] = {
    {"one message", E M R D X Q, 0, "250 250 250 354 250 221 ", true, 1,
     "Subject: x\r\n\r\ntext\r\n", "email alice@here.test alice@here.test\n"},
    {"two messages", E M R D X M R D X, 0, "250 250 250 354 250 250 250 354 250 ", false, 2, NULL,
     NULL},
    {"HELO", "helo c\r\n" M R D X, 0, "250 250 250 354 250 ", false, 1, NULL, NULL},
    {"null sender", E "MAIL FROM:<>\r\n" R D X, 0, "250 250 250 354 250 ", false, 1, NULL, NULL},
    {"no name", "EHLO\r\nHELO \r\n" M, 0, "501 501 503 ", false, 0, NULL, NULL},
    {"odd name", "EHLO (b;ad) name\r\n" M, 0, "250 250 ", false, 0, NULL, NULL},
    {"EHLO resets", E M R E D M, 0, "250 250 250 250 503 250 ", false, 0, NULL, NULL},
    {"refused EHLO does not", E M "EHLO\r\n" R, 0, "250 250 501 250 ", false, 0, NULL, NULL},
    {"RSET resets", E M R "RSET\r\n" R D M, 0, "250 250 250 250 503 503 250 ", false, 0, NULL,
     NULL},
    {"argument of DATA", E M R "DATA x\r\n" D X, 0, "250 250 250 501 354 250 ", false, 1, NULL,
     NULL},
    {"size",
     E "MAIL FROM:<a@b.test> SIZE=1048577\r\nMAIL FROM:<a@b.test> size=1048576 body=8bitmime\r\n",
     0, "250 552 250 ", false, 0, NULL, NULL},
    {"parameters",
     E "MAIL FROM:<a@b.test> FOO=1\r\nMAIL FROM:<a@b.test> SIZE\r\n"
       "MAIL FROM:<a@b.test> BODY=9BIT\r\nMAIL FROM:<a@b.test> =\r\nMAIL FROM:<a@b.test> "
       "RET=FULL\r\n" M
       "RCPT TO:<alice@here.test> NOTIFY=NEVER\r\nRCPT TO:<alice@here.test> =x\r\n",
     0, "250 555 501 501 501 555 250 555 501 ", false, 0, NULL, NULL},
    {"syntax",
     E "MAIL\r\nMAIL TO:<a@b.test>\r\nMAIL FROM:<a@b\r\n" M "RCPT\r\nRCPT FROM:<a@b.test>\r\n"
       "RCPT TO:<>\r\n",
     0, "250 501 501 501 250 501 501 501 ", false, 0, NULL, NULL},
    {"relay", E M "RCPT TO:<a@far.test>\r\n" D, 0, "250 250 550 554 ", false, 0, NULL, NULL},
    {"unknown user", E M "RCPT TO:<nobody@here.test>\r\n" R D X, 0, "250 250 550 250 354 250 ",
     false, 1, NULL, "email alice@here.test alice@here.test\n"},
    {"postmaster", E M "RCPT TO:<Postmaster>\r\n" D X, 0, "250 250 250 354 250 ", false, 1, NULL,
     "email postmaster@here.test postmaster@here.test\n"},
    {"alias", E M "RCPT TO:<list@here.test>\r\n" R R D X, 0, "250 250 250 250 250 354 250 ", false,
     1, NULL,
     "email alice@here.test list@here.test\nemail x@far.test list@here.test\n"
     "pipe cat -n list@here.test\nforward y@far.test list@here.test a.test/b.test\n"},
    {"half an alias", E M "RCPT TO:<half@here.test>\r\n" R D X, 0, "250 250 554 250 354 250 ",
     false, 1, NULL, "email alice@here.test alice@here.test\n"},
    {"alias to nothing", E M "RCPT TO:<nowhere@here.test>\r\n" D, 0, "250 250 550 554 ", false, 0,
     NULL, NULL},
    {"too large an alias", E M "RCPT TO:<many@here.test>\r\n" R D X, 0, "250 250 452 250 354 250 ",
     false, 1, NULL, "email alice@here.test alice@here.test\n"},
    {"aliases not known now", E M "RCPT TO:<busy@here.test>\r\n", 0, "250 250 451 ", false, 0, NULL,
     NULL},
    {"dots", E M R D ".\r\n" M R D "..\r\n.x\r\n...\r\nx.\r\n.\r\n", 0,
     "250 250 250 354 250 250 250 354 250 ", false, 2, ".\r\nx\r\n..\r\nx.\r\n", NULL},
    {"NUL in content", E M R D "a\0b\r\n.\r\n", sizeof(E M R D "a\0b\r\n.\r\n") - 1,
     "250 250 250 354 250 ", false, 1, NULL, NULL},
    {"bare LF in content", E M R D "a\nb\r\n.\r\n" Q, 0, "250 250 250 354 521 ", true, 0, NULL,
     NULL},
    {"bare CR in content", E M R D "a\rb\r\n.\r\n" Q, 0, "250 250 250 354 521 ", true, 0, NULL,
     NULL},
    {"bare LF before the dot", E M R D "a\n.\r\n" M Q, 0, "250 250 250 354 521 ", true, 0, NULL,
     NULL},
    {"bare LF behind the dot", E M R D "a\r\n.\n" M Q, 0, "250 250 250 354 521 ", true, 0, NULL,
     NULL},
    {"bare LF in a command", "NOOP\nNOOP\r\n", 0, "521 ", true, 0, NULL, NULL},
    {"bare LF first", "\n", 0, "521 ", true, 0, NULL, NULL},
    {"bare CR in a command", "NOOP\rNOOP\r\n", 0, "521 ", true, 0, NULL, NULL},
    {"two CRs", "NOOP\r\r\n", 0, "521 ", true, 0, NULL, NULL},
    {"NUL in a command", "NOOP \0\r\nNOOP\r\n", 14, "500 250 ", false, 0, NULL, NULL},
    {"empty line", "\r\nNOOP\r\n", 0, "500 250 ", false, 0, NULL, NULL},
    {"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n" E, 0, "554 ", true, 0, NULL, NULL},
    {"after QUIT", Q "NOOP\r\n", 0, "221 ", true, 0, NULL, NULL},
    {"loop",
     E M R D R12 R12 R12 R12 "Received: x\r\nReceived: y\r\nReceived: z\r\n\r\n.\r\nNOOP\r\n", 0,
     "250 250 250 354 554 250 ", false, 0, NULL, NULL},
    {"no loop", E M R D R12 R12 R12 R12 "Received: x\r\nReceived: y\r\n\r\nReceived: z\r\n.\r\n", 0,
     "250 250 250 354 250 ", false, 1, NULL, NULL},
    {"too many errors", "A\r\nB\r\nC\r\nD\r\nE\r\nF\r\nG\r\nH\r\nI\r\nJ\r\nK\r\n", 0,
     "500 500 500 500 500 500 500 500 500 421 ", true, 0, NULL, NULL},
};

static size_t dialogue_size(const struct dialogue *d)
{
	return d->n ? d->n : strlen(d->in);
}

/* Checks what became of a dialogue; the greeting is checked, too. */
static void dialogue_check(const struct dialogue *d, struct talk *t)
{
	struct buf codes;
	const char *got = talk_codes(t, &codes);
	if (strncmp(got, "220 ", 4) != 0 || strcmp(got + 4, d->codes) != 0)
		fail_msg("%s: got %s, want 220 %s", d->name, got, d->codes);
	buf_clear(&codes);
	if ((t->s == NULL) != d->ended)
		fail_msg("%s: ended %d", d->name, t->s == NULL);
	if (fake.committed != d->messages)
		fail_msg("%s: %u messages", d->name, fake.committed);
	if (d->rcpts)
		assert_string_equal(fake.rcpts, d->rcpts);
	if (d->body) {
		const char *all = buf_str(&fake.content);
		const char *body = strstr(all, "+0000\r\n");
		assert_non_null(body);
		assert_string_equal(body + 7, d->body);
	}
	talk_end(t);
	assert_int_equal(fake_open(), 0);
	assert_int_equal(fake.reserved, 0);
	assert_int_equal(fake.begun, fake.committed + fake.aborted);
}

static void test_dialogues(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof dialogues / sizeof dialogues[0]; i++) {
		const struct dialogue *d = &dialogues[i];
		size_t size = dialogue_size(d);
		struct talk t;
		for (size_t cut = 0; cut <= size; cut += valgrind_step(7)) {
			fake_reset();
			talk_start(&t, &stranger);
			talk_give(&t, d->in, cut);
			talk_give(&t, d->in + cut, size - cut);
			dialogue_check(d, &t);
		}
	}
}

/* One byte at a time in, or a few bytes at a time out, makes no difference. */
static void test_dialogues_slowly(void **state)
{
	static const size_t sips[] = {0, 1, 7, 100};
	(void)state;
	for (size_t i = 0; i < sizeof dialogues / sizeof dialogues[0]; i++) {
		const struct dialogue *d = &dialogues[i];
		size_t size = dialogue_size(d);
		struct talk t;
		for (size_t j = 0; j < sizeof sips / sizeof sips[0]; j++) {
			fake_reset();
			talk_start(&t, &stranger);
			t.sip = sips[j];
			if (sips[j])
				talk_give(&t, d->in, size);
			for (size_t k = 0; !sips[j] && k < size; k++)
				talk_give(&t, d->in + k, 1);
			dialogue_check(d, &t);
		}
	}
}

/* Each state and each verb. */
static void test_order(void **state)
{
	static const char *const verbs[] = {
	    "HELO x\r\n",
	    E,
	    M,
	    R,
	    D,
	    "RSET\r\n",
	    "NOOP\r\n",
	    Q,
	    "HELP\r\n",
	    "VRFY\r\n",
	    "EXPN\r\n",
	    "FROB\r\n",
	    "STARTTLS\r\n",
	    "AUTH PLAIN\r\n",
	    "BDAT 1\r\n",
	    "GET /\r\n",
	};
	static const struct {
		const char *before;
		const char *codes[16];
	} states[] = {
	    {"",
	     {"250", "250", "503", "503", "503", "250", "250", "221", "214", "252", "502", "500",
	      "502", "502", "502", "554"}},
	    {E,
	     {"250", "250", "250", "503", "503", "250", "250", "221", "214", "252", "502", "500",
	      "502", "502", "502", "554"}},
	    {E M,
	     {"250", "250", "503", "250", "554", "250", "250", "221", "214", "252", "502", "500",
	      "502", "502", "502", "554"}},
	    {E M R,
	     {"250", "250", "503", "250", "354", "250", "250", "221", "214", "252", "502", "500",
	      "502", "502", "502", "554"}},
	};
	(void)state;
	for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
		for (size_t j = 0; j < sizeof verbs / sizeof verbs[0]; j++) {
			struct talk t;
			struct buf codes;
			fake_reset();
			talk_start(&t, &stranger);
			talk_give(&t, states[i].before, strlen(states[i].before));
			buf_consume(&t.out, t.out.len);
			talk_give(&t, verbs[j], strlen(verbs[j]));
			talk_codes(&t, &codes);
			if (codes.len != 4 || strncmp(buf_str(&codes), states[i].codes[j], 3) != 0)
				fail_msg("state %zu, %s: got %s", i, verbs[j], buf_str(&codes));
			buf_clear(&codes);
			talk_end(&t);
			assert_int_equal(fake.reserved, 0);
			assert_int_equal(fake_open(), 0);
		}
	}
}

/* Runs a dialogue with strangers and compares the codes behind the greeting. */
#if WITH_IDN
#define UTF8_OFFER "250-SMTPUTF8\r\n"
#else
#define UTF8_OFFER ""
#endif

static void test_texts(void **state)
{
	struct talk t;
	(void)state;
	fake_reset();
	talk_start(&t, &stranger);
	assert_string_equal(buf_str(&t.out), "220 here.test ESMTP\r\n");
	expect(&t, E, "250 ");
	assert_string_equal(
	    buf_str(&t.out),
	    "250-here.test\r\n250-PIPELINING\r\n250-SIZE 1048576\r\n250-8BITMIME\r\n"
	    "250-ENHANCEDSTATUSCODES\r\n" UTF8_OFFER "250 HELP\r\n");
	expect(&t, M "RCPT TO:<x@far.test>\r\n", "250 550 ");
	assert_non_null(strstr(buf_str(&t.out), "550 5.7.1 relaying is not allowed\r\n"));
	expect(&t, R D X, "250 354 250 ");
	assert_non_null(strstr(buf_str(&t.out), "\r\n250 2.0.0 queued as id1\r\n"));
	expect(&t, "HELO x\r\n", "250 ");
	assert_string_equal(buf_str(&t.out), "250 here.test\r\n");
	talk_end(&t);
}

static void test_trace(void **state)
{
	struct talk t;
	const char *field;
	(void)state;
	fake_reset();
	talk_start(&t, &stranger);
	expect(&t, "EHLO we(ird;\x80\r\n" M R D X, "250 250 250 354 250 ");
	field = buf_str(&fake.content);
	assert_int_equal(strncmp(field, "Authentication-Results: here.test; spf=none ", 44), 0);
	assert_non_null(strstr(field, "\r\nReceived-SPF: none ("));
	field = strstr(field, "\r\nReceived: ");
	assert_non_null(field);
	assert_int_equal(strncmp(field + 2, "Received: from we?ird?", 22), 0);
	assert_non_null(strstr(field, "[192.0.2.1]"));
	assert_non_null(strstr(field, "by here.test with ESMTP id id1"));
	assert_non_null(strstr(field, "for <alice@here.test>"));
	assert_non_null(strstr(field, "Tue, 14 Nov 2023 22:13:20 +0000\r\nSubject: x\r\n"));
	/* Several recipients: none is named. */
	expect(&t, "HELO c.test\r\n" M R "RCPT TO:<bob@here.test>\r\n" D X,
	       "250 250 250 250 354 250 ");
	field = buf_str(&fake.content);
	assert_null(strstr(field, "for <"));
	assert_non_null(strstr(field, "with SMTP id id2"));
	talk_end(&t);
	talk_start(&t, &local);
	expect(&t, E M "RCPT TO:<x@far.test>\r\n" D X, "250 250 250 354 250 ");
	field = buf_str(&fake.content);
	assert_non_null(strstr(field, "from joe"));
	assert_non_null(strstr(field, "by here.test with local id id3"));
	assert_string_equal(fake.rcpts, "email x@far.test x@far.test\n");
	talk_end(&t);
	talk_start(&t, &friendly);
	expect(&t, E "MAIL FROM:<>\r\nRCPT TO:<x@far.test>\r\n" D X, "250 250 250 354 250 ");
	assert_string_equal(fake.from, "<>");
	assert_string_equal(fake.to, "x@far.test\n");
	talk_end(&t);
}

#if WITH_IDN

#define MU "MAIL FROM:<a@client.test> SMTPUTF8\r\n"
#define U  "\xc3\xbc"

/* What the spool is told of the header, and what our field says. */
static void test_utf8_header(void **state)
{
	static const struct {
		const char *in, *codes, *with;
		bool committed, noted;
	} cases[] = {
	    {E M R D X, "250 250 250 354 250 ", "with ESMTP id", true, false},
	    {E MU R D X, "250 250 250 354 250 ", "with UTF8SMTP id", true, false},
	    {E MU R D "Subject: " U "\r\n\r\n.\r\n", "250 250 250 354 250 ", "with UTF8SMTP id",
	     true, true},
	    {E M R D "Subject: " U "\r\n\r\n.\r\n", "250 250 250 354 554 ", NULL, false, false},
	    {E MU R D "Subject: \xfc\r\n\r\n.\r\n", "250 250 250 354 554 ", NULL, false, false},
	    {E M R D "Subject: x\r\n\r\n\xfc\r\n.\r\n", "250 250 250 354 250 ", "with ESMTP id",
	     true, false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct talk t;
		fake_reset();
		talk_start(&t, &stranger);
		expect(&t, cases[i].in, cases[i].codes);
		assert_int_equal(fake.committed, cases[i].committed);
		assert_int_equal(fake.header_8bit, cases[i].noted);
		if (cases[i].with)
			assert_non_null(strstr(buf_str(&fake.content), cases[i].with));
		assert_false(t.s->utf8);
		talk_end(&t);
	}
}

/* A MAIL that is refused asks for nothing. */
static void test_utf8_refused(void **state)
{
	struct talk t;
	(void)state;
	fake_reset();
	talk_start(&t, &friendly);
	fake.queue_full = true;
	expect(&t, E MU, "250 452 ");
	assert_false(t.s->utf8);
	fake.queue_full = false;
	expect(&t, "MAIL FROM:<" U "@client.test>\r\n", "553 ");
	talk_end(&t);
}

/* Our fields are ASCII: a recipient that is not goes unnamed. */
static void test_utf8_trace(void **state)
{
	struct talk t;
	const char *field;
	(void)state;
	fake_reset();
	talk_start(&t, &friendly);
	expect(&t, E MU "RCPT TO:<a@b" U ".test>\r\n" D X, "250 250 250 354 250 ");
	assert_non_null(strstr(buf_str(&fake.content), "\tfor <a@xn--b-eha.test>;"));
	expect(&t, MU "RCPT TO:<" U "@far.test>\r\n" D X, "250 250 354 250 ");
	field = strstr(buf_str(&fake.content), "Received: ");
	assert_non_null(field);
	assert_null(strstr(field, "for <"));
	assert_null(strchr(field, '\xc3'));
	talk_end(&t);
}

/* RFC 6531 3.7.4.1: replies go beyond ASCII for those who asked for it. */
static void test_utf8_replies(void **state)
{
	(void)state;
	for (int asked = 0; asked < 2; asked++) {
		struct talk t;
		fake_reset();
		fake_hook_reset();
		fake_hook.there[HOOK_RCPT] = true;
		fake_hook.result = HOOK_REJECT;
		fake_hook.text = "n" U "n";
		talk_start(&t, &stranger);
		expect(&t, asked ? E MU R : E M R, "250 250 550 ");
		assert_non_null(
		    strstr(buf_str(&t.out), asked ? "550 5.7.1 n" U "n\r\n" : "550 5.7.1 n?n\r\n"));
		talk_end(&t);
	}
	fake_hook_reset();
}

#endif

static void test_long_lines(void **state)
{
	static const size_t sizes[] = {
	    SMTPD_LINE_MAX - 1, SMTPD_LINE_MAX, SMTPD_LINE_MAX + 1, SMTPD_IN_MAX - 1, SMTPD_IN_MAX,
	    SMTPD_IN_MAX + 1,   1000000};
	static char line[1000000];
	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct talk t;
		const char *want = sizes[i] <= SMTPD_LINE_MAX ? "250 250 " : "500 250 ";
		struct buf codes;
		fake_reset();
		memset(line, 'x', sizeof line);
		memcpy(line, "NOOP ", 5);
		memcpy(line + sizes[i] - 2, "\r\n", 2);
		talk_start(&t, &stranger);
		buf_consume(&t.out, t.out.len);
		talk_give(&t, line, sizes[i] - 1);
		assert_true(smtpd_io(t.s)->in.size <= 2 * SMTPD_IN_MAX);
		talk_give(&t, "\n", 1);
		talk_give(&t, "NOOP\r\n", 6);
		talk_codes(&t, &codes);
		assert_string_equal(buf_str(&codes), want);
		buf_clear(&codes);
		/* A bare line end in the part that is thrown away. */
		memcpy(line + sizes[i] - 3, "xx\n", 3);
		buf_consume(&t.out, t.out.len);
		talk_give(&t, line, sizes[i]);
		assert_null(t.s);
		talk_codes(&t, &codes);
		assert_string_equal(buf_str(&codes), "521 ");
		buf_clear(&codes);
		talk_end(&t);
	}
}

/* More replies than the buffer holds: all come, in order, with a client that reads slowly. */
static void test_back_pressure(void **state)
{
	struct talk t;
	struct buf codes;
	(void)state;
	fake_reset();
	talk_start(&t, &stranger);
	buf_consume(&t.out, t.out.len);
	t.sip = 3;
	for (int i = 0; i < 2000; i++)
		talk_give(&t, "NOOP\r\n", 6);
	talk_settle(&t);
	talk_codes(&t, &codes);
	assert_int_equal(codes.len, 4 * 2000);
	buf_clear(&codes);
	/* All in one piece, to a client that reads fast. */
	static char many[6 * 1000 + 1];
	for (int i = 0; i < 1000; i++)
		memcpy(many + 6 * (size_t)i, "NOOP\r\n", 6);
	t.sip = 0;
	buf_consume(&t.out, t.out.len);
	talk_give(&t, many, sizeof many - 1);
	talk_codes(&t, &codes);
	assert_int_equal(codes.len, 4 * 1000);
	buf_clear(&codes);
	/* A client that reads nothing: commands stay unread. */
	struct io *io = smtpd_io(t.s);
	for (int i = 0; i < 500; i++)
		buf_puts(&io->in, "NOOP\r\n");
	io->handle(io->arg, IO_READ);
	while (loop_timer_is_set(&t.s->again))
		loop_turn(1);
	assert_true(io->out.len >= SMTPD_OUT_MARK && io->out.len < SMTPD_OUT_MARK + 100);
	assert_true(io->in.len > 0);
	talk_end(&t);
}

static void test_floods(void **state)
{
	struct talk t;
	(void)state;
	fake_reset();
	talk_start(&t, &stranger);
	for (int i = 0; i < SMTPD_IDLE_COMMANDS_MAX; i++)
		talk_give(&t, "NOOP\r\n", 6);
	assert_non_null(t.s);
	expect(&t, "NOOP\r\n", "421 ");
	assert_null(t.s);
	talk_end(&t);
	/* Recipients past the limit are refused, and those before it kept. */
	talk_start(&t, &stranger);
	expect(&t, E M, "250 250 ");
	for (int i = 0; i < SMTPD_RCPTS_MAX; i++) {
		char line[100];
		snprintf(line, sizeof line, "RCPT TO:<user+%d@here.test>\r\n", i);
		expect(&t, line, "250 ");
	}
	for (int i = 0; i < 500; i++)
		expect(&t, R, "452 ");
	expect(&t, D X, "354 250 ");
	talk_end(&t);
}

static void test_too_big(void **state)
{
	static const char line[] =
	    "0123456789012345678901234567890123456789012345678901234567890\r\n";
	struct talk t;
	(void)state;
	fake_reset();
	talk_start(&t, &stranger);
	expect(&t, E M R D, "250 250 250 354 ");
	for (size_t n = 0; n <= 1 << 20; n += sizeof line - 1)
		talk_give(&t, line, sizeof line - 1);
	assert_int_equal(fake.aborted, 1);
	assert_int_equal(fake_open(), 0);
	expect(&t, "more\r\n.\r\n" M R D X, "552 250 250 354 250 ");
	assert_int_equal(fake.committed, 1);
	/* Exactly the limit fits. */
	expect(&t, M R D, "250 250 354 ");
	for (size_t n = 0; n < 1 << 20; n += 64)
		talk_give(&t, "01234567890123456789012345678901234567890123456789012345678901\r\n",
		          64);
	expect(&t, ".\r\n", "250 ");
	/* One byte more does not; and then a bare LF still ends the session. */
	expect(&t, M R D "1", "250 250 354 ");
	for (size_t n = 0; n < 1 << 20; n += 64)
		talk_give(&t, "01234567890123456789012345678901234567890123456789012345678901\r\n",
		          64);
	expect(&t, "\n", "521 ");
	assert_null(t.s);
	talk_end(&t);
}

static void test_spool_failures(void **state)
{
	struct talk t;
	(void)state;
	fake_reset();
	talk_start(&t, &stranger);
	expect(&t, E, "250 ");
	fake.queue_full = true;
	expect(&t, M R, "452 503 ");
	fake.queue_full = false;
	fake.no_room = true;
	expect(&t, M, "452 ");
	assert_int_equal(fake.reserved, 0);
	fake.no_room = false;
	fake.begin_fails = true;
	expect(&t, M R D, "250 250 451 ");
	fake.begin_fails = false;
	fake.commit_fails = true;
	expect(&t, D X, "354 452 ");
	assert_int_equal(fake.reserved, 0);
	fake.commit_fails = false;
	expect(&t, M R D X, "250 250 354 250 ");
	talk_end(&t);
}

/* While the disk is waited for, nothing is read, and the client may go. */
static void test_waiting(void **state)
{
#define F "RCPT TO:<x@far.test>\r\n" /* needs no look-up */
	struct talk t;
	(void)state;
	fake_reset();
	talk_start(&t, &friendly);
	t.hold = true;
	expect(&t, E M F D X M "NOOP\r\n", "250 250 250 354 ");
	assert_int_equal(fake_open(), 1);
	assert_false(loop_timer_is_set(&smtpd_io(t.s)->timer));
	assert_true(fake_spool_run());
	talk_settle(&t);
	expect(&t, "", "");
	assert_int_equal(fake.committed, 1);
	expect(&t, F D X, "250 354 ");
	/* The client is gone: the message stays. */
	smtpd_io(t.s)->error = 104;
	talk_event(&t, IO_ERROR);
	assert_non_null(t.s);
	assert_true(fake_spool_run());
	assert_null(t.s);
	assert_int_equal(fake.committed, 2);
	assert_int_equal(fake.reserved, 0);
	talk_end(&t);
	/* It has closed its side only: it gets the reply. */
	talk_start(&t, &friendly);
	t.hold = true;
	expect(&t, E M F D X "NOOP\r\n", "250 250 250 354 ");
	talk_eof(&t);
	assert_non_null(t.s);
	t.hold = false;
	buf_consume(&t.out, t.out.len);
	talk_settle(&t);
	assert_null(t.s);
	assert_string_equal(buf_str(&t.out), "250 2.0.0 queued as id3\r\n250 2.0.0 ok\r\n");
	talk_end(&t);
	/* We end: what is not acknowledged is dropped. */
	talk_start(&t, &friendly);
	t.hold = true;
	expect(&t, E M F D X, "250 250 250 354 ");
	talk_end(&t);
	assert_int_equal(fake_open(), 0);
	assert_int_equal(fake.reserved, 0);
#undef F
}

static void test_lost(void **state)
{
	static const char *const before[] = {"", E, E M, E M R, E M R D, E M R D "text\r\n", "NO"};
	(void)state;
	for (size_t i = 0; i < sizeof before / sizeof before[0]; i++) {
		for (int how = 0; how < 3; how++) {
			struct talk t;
			fake_reset();
			talk_start(&t, &stranger);
			talk_give(&t, before[i], strlen(before[i]));
			if (how == 0)
				talk_eof(&t);
			else
				talk_event(&t, how == 1 ? IO_ERROR : IO_TIMEOUT);
			talk_settle(&t);
			assert_null(t.s);
			assert_int_equal(fake.committed, 0);
			assert_int_equal(fake.reserved, 0);
			assert_int_equal(fake_open(), 0);
			if (how == 2)
				assert_non_null(strstr(buf_str(&t.out), "421 4.4.2 idle"));
			talk_end(&t);
		}
	}
}

static void test_replies_are_clean(void **state)
{
	(void)state;
	for (int i = 0; i < SMTPD_REPLIES; i++) {
		struct status st, clean;
		char enh[32];
		smtpd_status((enum smtpd_reply)i, &st);
		snprintf(enh, sizeof enh, "%d.%d.%d", st.enh[0], st.enh[1], st.enh[2]);
		status_set_text(&clean, st.code, st.code == 354 ? NULL : enh, st.text);
		assert_string_equal(st.text, clean.text);
		assert_true(st.text[0]);
		assert_memory_equal(st.enh, clean.enh, sizeof st.enh);
		assert_true(st.code == 354 || st.enh[0] == st.code / 100);
	}
}

static void test_time(void **state)
{
	struct talk t;
	(void)state;
	fake_reset();
	talk_start(&t, &stranger);
	const struct io *io = smtpd_io(t.s);
	int64_t limit = (loop_now() + SMTPD_COMMAND_MS) * 1000;
	assert_true(io->timer.set);
	assert_in_range(io->until, limit - 2000000, limit + 2000000);
	/* A command that does not end moves nothing. */
	int64_t until = io->until;
	loop_turn(2);
	talk_give(&t, "NOOP", 4);
	assert_int_equal(io->until, until);
	talk_give(&t, "\r\n", 2);
	assert_true(io->until > until);
	t.s->ends = loop_now() + 10;
	expect(&t, "NOOP\r\n", "250 ");
	assert_true(io->until <= (loop_now() + 11) * 1000);
	assert_true(io->timer.due <= io->until);
	while (t.s)
		loop_turn(5);
	talk_end(&t);
}

static void test_leave(void **state)
{
	struct talk t;
	(void)state;
	fake_reset();
	/* Idle: at once. */
	talk_start(&t, &stranger);
	expect(&t, E, "250 ");
	smtpd_ask_to_leave(t.s);
	assert_true(smtpd_is_ending(t.s));
	expect(&t, "", "");
	talk_settle(&t);
	assert_null(t.s);
	assert_string_equal(buf_str(&t.out), "421 4.3.2 shutting down, try again later\r\n");
	talk_end(&t);
	/* In a transaction: at the next command. */
	talk_start(&t, &stranger);
	expect(&t, E M, "250 250 ");
	smtpd_ask_to_leave(t.s);
	assert_false(smtpd_is_ending(t.s));
	expect(&t, R D, "421 ");
	assert_null(t.s);
	talk_end(&t);
	/* In content: the message is taken. */
	talk_start(&t, &stranger);
	expect(&t, E M R D, "250 250 250 354 ");
	smtpd_ask_to_leave(t.s);
	expect(&t, X, "250 421 ");
	assert_null(t.s);
	assert_int_equal(fake.committed, 1);
	talk_end(&t);
	/* By the set-up. */
	talk_start(&t, &stranger);
	fake_setup.stopping = true;
	expect(&t, "NOOP\r\n", "421 ");
	assert_null(t.s);
	talk_end(&t);
	assert_int_equal(fake.reserved, 0);
}

/* An idle session holds next to nothing beside its struct. */
static void test_memory(void **state)
{
	struct talk t;
	(void)state;
	fake_reset();
	talk_start(&t, &stranger);
	expect(&t, E M R D X "NOOP\r\n", "250 250 250 354 250 250 ");
	assert_true(smtpd_io(t.s)->in.size + smtpd_io(t.s)->out.size <= 2 * BUF_KEEP);
	assert_null(t.s->txn);
	assert_true(sizeof *t.s <= 1024);
	talk_end(&t);
}

static void test_counters(void **state)
{
	static const char name[] = "smtpd/sessions";
	static const char commands[] = "chasquid/smtpIn/commandCount{command=NOOP}";
	struct talk t;
	(void)state;
	assert_int_equal(counter(name), 0);
	int64_t before = counter(commands);
	talk_start(&t, &stranger);
	expect(&t, "NOOP\r\n", "250 ");
	assert_int_equal(counter(name), 1);
	assert_int_equal(counter(commands), before + 1);
	talk_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dialogues),
		cmocka_unit_test(test_dialogues_slowly),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_trace),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_back_pressure),
		cmocka_unit_test(test_floods),
		cmocka_unit_test(test_too_big),
		cmocka_unit_test(test_spool_failures),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_replies_are_clean),
		cmocka_unit_test(test_leave),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_counters),
#if WITH_IDN
		cmocka_unit_test(test_utf8_header),
		cmocka_unit_test(test_utf8_trace),
		cmocka_unit_test(test_utf8_replies),
		cmocka_unit_test(test_utf8_refused),
#endif
	};
	return cmocka_run_group_tests(tests, start, stop);
}
