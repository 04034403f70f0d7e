/*
 * Unit tests of what a session of smtpd waits for beside disk, passwords and SPF: where addresses
 * lead to, hooks/rcpt, hooks/post-data; and of the way back of bounces to rewritten senders.
 * link: fake_spool.c fake_tls.c fake_spf.c fake_resolve.c fake_hook.c
 */
#include <fcntl.h>
#include <unistd.h>

#include "disk.h"
#include "smtpd_help.h"
#include "temp_dir.h"

static struct smtpd_peer user;

#define E  "EHLO client.test\r\n"
#define M  "MAIL FROM:<a@client.test>\r\n"
#define R  "RCPT TO:<alice@here.test>\r\n"
#define R2 "RCPT TO:<bob@here.test>\r\n"
#define D  "DATA\r\n"
#define X  "Subject: x\r\n\r\ntext\r\n.\r\n"
#define A  "AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n"

static void begin(struct talk *t, const struct smtpd_peer *peer)
{
	fake_reset();
	fake_hook_reset();
	fake.temp_fd = -1;
	fake_spf = (struct fake_spf){.asked = 0};
	fake_resolve = (struct fake_resolve){.asked = 0};
	fake_setup.certs = peer->tls ? fake_certs : NULL;
	fake_setup.srs = NULL;
	talk_start(t, peer);
}

static void end(struct talk *t)
{
	talk_end(t);
	assert_int_equal(fake_resolve.waiting, 0);
	assert_int_equal(fake_hook.waiting, 0);
	assert_int_equal(fake_spf.waiting, 0);
	assert_int_equal(fake_open(), 0);
	assert_int_equal(fake.reserved, 0);
	if (fake.temp_fd >= 0)
		assert_int_equal(fcntl(fake.temp_fd, F_GETFD), -1);
}

static int64_t count(const char *what)
{
	char name[STAT_NAME_MAX];
	snprintf(name, sizeof name, "chasquid/smtpIn/hookResults{result=post-data:%s}", what);
	return counter(name);
}

/* ---- the waits ------------------------------------------------------------------------------ */

/* What is waited for, and how often it was given up so far. */
static const struct wait {
	const char *name;
	bool login, rcpt_hook, post_hook;
	const char *before;
	const char *last; /* the command that waits */
	const char *reply;
	enum smtpd_state state; /* behind it */
} waits[] = {
    {"owner", true, false, false, E A, "MAIL FROM:<boss@here.test>\r\n", "250 2.1.0", SMTPD_MAIL},
    {"not the owner", true, false, false, E A, "MAIL FROM:<bob@here.test>\r\n", "553 5.7.1",
     SMTPD_READY},
    {"address", false, false, false, E M, R, "250 2.1.5", SMTPD_RCPT},
    {"no such address", false, false, false, E M, "RCPT TO:<nobody@here.test>\r\n", "550 5.1.1",
     SMTPD_MAIL},
    {"rcpt hook", false, true, false, E M, R, "250 2.1.5", SMTPD_RCPT},
    {"post-data hook", false, false, true, E M R D, X, "250 2.0.0 queued", SMTPD_READY},
};

static unsigned given_up(void)
{
	return fake_resolve.cancelled + fake_hook.cancelled;
}

/* Brings a session to the wait. */
static void until_wait(struct talk *t, const struct wait *w)
{
	struct buf codes;
	begin(t, w->login ? &user : &stranger);
	fake_hook.there[HOOK_RCPT] = w->rcpt_hook;
	fake_hook.there[HOOK_POST_DATA] = w->post_hook;
	/* Line by line: behind AUTH none may wait in the same piece of input. */
	talk_give(t, w->before, strlen(w->before));
	buf_consume(&t->out, t->out.len);
	t->hold = true;
	talk_give(t, w->last, strlen(w->last));
	if (w->rcpt_hook)
		assert_true(fake_resolve_run());
	talk_settle(t);
	assert_string_equal(talk_codes(t, &codes), "");
	buf_clear(&codes);
	assert_int_equal(t->s->state, SMTPD_CHECK);
	assert_false(loop_timer_is_set(&smtpd_io(t->s)->timer));
	assert_int_equal(fake_resolve.waiting + fake_hook.waiting, 1);
}

static void test_answered(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
		const struct wait *w = &waits[i];
		struct talk t;
		until_wait(&t, w);
		/* Input stays where it is, and is served then. */
		talk_give(&t, "NOOP\r\n", 6);
		assert_int_equal(t.out.len, 0);
		t.hold = false;
		talk_settle(&t);
		said(&t, w->reply);
		said(&t, "\r\n250 2.0.0 ok\r\n");
		assert_int_equal(t.s->state, w->state);
		assert_true(loop_timer_is_set(&smtpd_io(t.s)->timer));
		assert_int_equal(given_up(), 0);
		end(&t);
	}
}

static void test_interrupted(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
		const struct wait *w = &waits[i];
		struct talk t;
		/* The connection is lost. */
		until_wait(&t, w);
		smtpd_io(t.s)->error = 104;
		talk_event(&t, IO_ERROR);
		talk_settle(&t);
		assert_null(t.s);
		assert_int_equal(given_up(), 1);
		assert_int_equal(fake.committed, 0);
		end(&t);
		/* The daemon ends. */
		until_wait(&t, w);
		end(&t);
		assert_int_equal(given_up(), 1);
		/* The client has closed its side only: it gets the reply. */
		until_wait(&t, w);
		talk_eof(&t);
		assert_non_null(t.s);
		t.hold = false;
		talk_settle(&t);
		said(&t, w->reply);
		assert_null(t.s);
		end(&t);
		/* We stop: the command is still answered. */
		until_wait(&t, w);
		smtpd_ask_to_leave(t.s);
		assert_false(smtpd_is_ending(t.s));
		t.hold = false;
		talk_settle(&t);
		said(&t, w->reply);
		if (t.s)
			expect(&t, "NOOP\r\n", "421 ");
		assert_null(t.s);
		end(&t);
		/* It cannot take replies any more. */
		until_wait(&t, w);
		smtpd_io(t.s)->broken = true;
		t.hold = false;
		talk_settle(&t);
		assert_null(t.s);
		end(&t);
	}
}

static void test_no_memory(void **state)
{
	struct talk t;
	(void)state;
	begin(&t, &stranger);
	fake_resolve.no_memory = true;
	expect(&t, E M R D, "250 250 451 554 ");
	fake_resolve.no_memory = false;
	expect(&t, R D X, "250 354 250 ");
	end(&t);
	begin(&t, &user);
	fake_resolve.no_memory = true;
	expect(&t, E A "MAIL FROM:<boss@here.test>\r\nMAIL FROM:<alice@here.test>\r\n",
	       "250 235 451 250 ");
	end(&t);
}

/* One after the other, in the order they came. */
static void test_pipeline(void **state)
{
	struct talk t;
	(void)state;
	begin(&t, &stranger);
	expect(&t, E M, "250 250 ");
	t.hold = true;
	static const char three[] = R R2 "RCPT TO:<nobody@here.test>\r\n";
	talk_give(&t, three, sizeof three - 1);
	assert_int_equal(fake_resolve.asked, 1);
	assert_string_equal(fake_resolve.last, "alice@here.test");
	assert_true(fake_resolve_run());
	talk_settle(&t);
	assert_int_equal(fake_resolve.asked, 2);
	assert_string_equal(fake_resolve.last, "bob@here.test");
	t.hold = false;
	talk_settle(&t);
	said(&t, "250 2.1.5 recipient ok\r\n250 2.1.5 recipient ok\r\n550 5.1.1");
	expect(&t, D X, "354 250 ");
	assert_string_equal(fake.to, "alice@here.test\nbob@here.test\n");
	/* Those of others need no question, nor do those that are there already. */
	unsigned asked = fake_resolve.asked;
	expect(&t, M "RCPT TO:<x@far.test>\r\n" R R, "250 550 250 250 ");
	assert_int_equal(fake_resolve.asked, asked + 1);
	end(&t);
	begin(&t, &local);
	expect(&t, E M "RCPT TO:<x@far.test>\r\n" D X, "250 250 250 354 250 ");
	assert_int_equal(fake_resolve.asked, 0);
	/* <postmaster> may be in any domain of ours. */
	expect(&t, M "RCPT TO:<postmaster>\r\n" D X, "250 250 354 250 ");
	assert_string_equal(fake_resolve.last, "postmaster");
	assert_string_equal(fake.to, "postmaster@here.test\n");
	end(&t);
}

/* ---- hooks/rcpt ----------------------------------------------------------------------------- */

static void test_rcpt_hook(void **state)
{
	struct talk t;
	(void)state;
	begin(&t, &stranger);
	fake_hook.there[HOOK_RCPT] = true;
	expect(&t, E M "RCPT TO:<Alice+x@HERE.test>\r\n" R, "250 250 550 250 ");
	/* Who does not exist is no matter for the hook. */
	assert_int_equal(fake_hook.runs, 1);
	assert_string_equal(fake_hook.arg1, "alice@here.test");
	assert_string_equal(fake_hook.session, "192.0.2.1 4000 client.test a@client.test  - 0 0 0");
	fake_hook.result = HOOK_REJECT;
	fake_hook.text = "not from you";
	expect(&t, "RCPT TO:<list@here.test>\r\n" R2, "550 550 ");
	said(&t, "550 5.7.1 not from you\r\n");
	assert_string_equal(fake_hook.session,
	                    "192.0.2.1 4000 client.test a@client.test alice@here.test - 0 0 0");
	fake_hook.result = HOOK_FAILED;
	fake_hook.text = "come again";
	expect(&t, R2, "451 ");
	said(&t, "451 4.3.0 come again\r\n");
	/* One that was taken is not asked about again; what was refused leaves nothing behind. */
	unsigned runs = fake_hook.runs;
	expect(&t, R D X, "250 354 250 ");
	assert_int_equal(fake_hook.runs, runs);
	assert_string_equal(fake.rcpts, "email alice@here.test alice@here.test\n");
	assert_string_equal(fake.to, "alice@here.test\n");
	/* Refused alone: no recipient. It counts as an error. */
	fake_hook.result = HOOK_REJECT;
	expect(&t, M R D, "250 550 554 ");
	/* Gone again. */
	fake_hook.there[HOOK_RCPT] = false;
	expect(&t, R D X, "250 354 250 ");
	end(&t);
	/* Users who log in are asked about, those of this machine not. */
	begin(&t, &user);
	fake_hook.there[HOOK_RCPT] = true;
	expect(&t, E A "MAIL FROM:<>\r\nRCPT TO:<x@far.test>\r\n", "250 235 250 250 ");
	assert_string_equal(fake_hook.arg1, "x@far.test");
	assert_string_equal(fake_hook.session,
	                    "192.0.2.1 4000 client.test <>  alice@here.test 1 1 0");
	end(&t);
	begin(&t, &local);
	fake_hook.there[HOOK_RCPT] = true;
	expect(&t, E M R D X, "250 250 250 354 250 ");
	assert_int_equal(fake_hook.runs, 0);
	end(&t);
}

/* ---- hooks/post-data ------------------------------------------------------------------------ */

static void test_post_verdicts(void **state)
{
	struct talk t;
	int64_t before = count("success");
	(void)state;
	begin(&t, &stranger);
	fake_hook.there[HOOK_POST_DATA] = true;
	fake_hook.output = "X-Spam: no\n";
	expect(&t, E "MAIL FROM:<a@pass.test>\r\n" R R2 D X, "250 250 250 250 354 250 ");
	assert_int_equal(fake_hook.name, HOOK_POST_DATA);
	assert_string_equal(fake_hook.arg1, "");
	assert_string_equal(fake_hook.session, "192.0.2.1 4000 client.test a@pass.test "
	                                       "alice@here.test,bob@here.test - 0 0 1");
	assert_string_equal(fake.prepended, "X-Spam: no\r\n");
	assert_false(fake.header_8bit);
	assert_int_equal(count("success"), before + 1);
	/* What it reads is the message as it is queued, with LF. */
	const char *seen = buf_str(&fake_hook.input);
	assert_int_equal(strncmp(seen, "Authentication-Results: here.test; spf=pass", 43), 0);
	assert_non_null(strstr(seen, "\nReceived: from client.test ([192.0.2.1])\n\tby here.test"));
	assert_non_null(strstr(seen, "+0000\nSubject: x\n\ntext\n"));
	assert_null(strchr(seen, '\r'));
	fake_hook.result = HOOK_REJECT;
	fake_hook.text = "this is spam";
	before = count("fail");
	expect(&t, M R D X, "250 250 354 554 ");
	said(&t, "554 5.7.1 this is spam\r\n");
	assert_int_equal(count("fail"), before + 1);
	fake_hook.result = HOOK_FAILED;
	fake_hook.text = "the hook post-data failed: exit status 1";
	before = count("fail");
	expect(&t, M R D X "NOOP\r\n", "250 250 354 451 250 ");
	said(&t, "451 4.3.0 the hook post-data failed: exit status 1\r\n");
	assert_int_equal(count("fail"), before + 1);
	assert_int_equal(fake.committed, 1);
	assert_int_equal(fake.aborted, 2);
	/* Everything else is looked at before. */
	unsigned runs = fake_hook.runs;
	expect(&t, M R D, "250 250 354 ");
	for (int i = 0; i <= SMTPD_RECEIVED_MAX; i++)
		talk_give(&t, "Received: x\r\n", 13);
	expect(&t, ".\r\n", "554 ");
	assert_int_equal(fake_hook.runs, runs);
	end(&t);
}

/* Every message is for the hook, whichever door it came by. */
static void test_post_doors(void **state)
{
	struct talk t;
	(void)state;
	begin(&t, &local);
	fake_hook.there[HOOK_POST_DATA] = true;
	expect(&t, E "MAIL FROM:<joe@here.test>\r\n" R D X, "250 250 250 354 250 ");
	assert_string_equal(fake_hook.session,
	                    "- 0 client.test joe@here.test alice@here.test - 0 1 0");
	assert_true(fake.submitted);
	end(&t);
	begin(&t, &user);
	fake_hook.there[HOOK_POST_DATA] = true;
	fake_hook.output = "X-A: 1\n\tmore\nX-B: \xc3\xa4\n";
	expect(&t, E A "MAIL FROM:<alice@here.test>\r\n" R D X, "250 235 250 250 354 250 ");
	assert_string_equal(fake_hook.session, "192.0.2.1 4000 client.test alice@here.test "
	                                       "alice@here.test alice@here.test 1 1 0");
	/* All that stands in front is given in one piece. */
	assert_string_equal(
	    fake.prepended,
	    "X-A: 1\r\n\tmore\r\nX-B: \xc3\xa4\r\n"
	    "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <id1@here.test>\r\n");
	assert_true(fake.header_8bit);
	assert_true(fake.submitted);
	end(&t);
	begin(&t, &stranger);
	expect(&t, E M R D X, "250 250 250 354 250 ");
	assert_false(fake.submitted);
	assert_int_equal(fake_hook.runs, 0);
	assert_int_equal(fake.temp_fd, -1);
	end(&t);
}

static void test_post_output(void **state)
{
	static char long_line[1100];
	static const struct {
		const char *in;
		const char *out; /* NULL: no block of fields */
	} cases[] = {
	    {"", ""},
	    {"A: b\n", "A: b\r\n"},
	    {"A:\n", "A:\r\n"},
	    {"A:b\n c\n\td\nE: f\n", "A:b\r\n c\r\n\td\r\nE: f\r\n"},
	    {"A: \xc3\xa4\n", "A: \xc3\xa4\r\n"},
	    {"A: b\tc\n", "A: b\tc\r\n"},
	    {"A: b", NULL},
	    {"\n", NULL},
	    {"A: b\n\n", NULL},
	    {"A: b\n\nbody\n", NULL},
	    {"\nA: b\n", NULL},
	    {"hello\n", NULL},
	    {"hello world: x\n", NULL},
	    {"A : b\n", NULL},
	    {": b\n", NULL},
	    {" A: b\n", NULL},
	    {"A: b\n \t\nC: d\n", NULL},
	    {"A: b\r\n", NULL},
	    {"A: b\rC: d\n", NULL},
	    {"A: b\x01\n", NULL},
	    {"A: b\x7f\n", NULL},
	    {"A: b\x1b[2J\n", NULL},
	    {"\xc3\xa4: b\n", NULL},
	    {"A: \xc3\n", NULL},
	    {"A: \xff\n", NULL},
	    {"From me Mon\nA: b\n", NULL},
	    {long_line, NULL},
	};
	struct talk t;
	(void)state;
	snprintf(long_line, sizeof long_line, "A: %01000d\n", 1);
	begin(&t, &stranger);
	fake_hook.there[HOOK_POST_DATA] = true;
	expect(&t, E, "250 ");
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int64_t bad = count("badoutput");
		fake_hook.output = cases[i].in;
		expect(&t, M R D X, "250 250 354 250 ");
		const char *want = cases[i].out ? cases[i].out : "";
		if (strcmp(fake.prepended, want) != 0)
			fail_msg("%s: got %s", cases[i].in, fake.prepended);
		assert_int_equal(count("badoutput"), bad + !cases[i].out);
	}
	end(&t);
}

static void test_post_copy(void **state)
{
	struct talk t;
	struct buf want;
	(void)state;
	begin(&t, &stranger);
	fake_hook.there[HOOK_POST_DATA] = true;
	fake.temp_fails = true;
	expect(&t, E M R D, "250 250 250 452 ");
	assert_int_equal(fake_open(), 0);
	fake.temp_fails = false;
	fake.temp_full = true;
	fake.temp_fd = -1;
	expect(&t, D X, "354 452 ");
	said(&t, "452 4.3.1 ");
	assert_int_equal(fake_hook.runs, 0);
	fake.temp_full = false;
	/* Larger than what is written at a time, in pieces of all sizes. */
	buf_init(&want, 1 << 20);
	expect(&t, M R D, "250 250 354 ");
	for (unsigned i = 0; i < 3000; i++) {
		char line[200];
		int n = snprintf(line, sizeof line, "%0*u\r\n", (int)(i % 120) + 1, i);
		talk_give(&t, line, (size_t)n);
		buf_append(&want, line, (size_t)n - 2);
		buf_putc(&want, '\n');
	}
	expect(&t, ".\r\n", "250 ");
	const char *got = strstr(buf_str(&fake_hook.input), "+0000\n");
	assert_non_null(got);
	assert_string_equal(got + 6, buf_str(&want));
	buf_clear(&want);
	/* Too big: the copy goes with the message. */
	unsigned runs = fake_hook.runs;
	expect(&t, M R D, "250 250 354 ");
	for (size_t n = 0; n <= 1 << 20; n += 62)
		talk_give(&t, "012345678901234567890123456789012345678901234567890123456789\r\n",
		          62);
	assert_int_equal(fcntl(fake.temp_fd, F_GETFD), -1);
	expect(&t, ".\r\n", "552 ");
	assert_int_equal(fake_hook.runs, runs);
	/* It comes and goes while content comes in: who is not there at DATA has no copy. */
	fake_hook.there[HOOK_POST_DATA] = false;
	expect(&t, M R D, "250 250 354 ");
	fake_hook.there[HOOK_POST_DATA] = true;
	expect(&t, X, "250 ");
	assert_int_equal(fake_hook.runs, runs);
	expect(&t, M R D, "250 250 354 ");
	fake_hook.there[HOOK_POST_DATA] = false;
	expect(&t, X, "250 ");
	assert_int_equal(fake_hook.runs, runs);
	end(&t);
	/* Lost in content. */
	begin(&t, &stranger);
	fake_hook.there[HOOK_POST_DATA] = true;
	expect(&t, E M R D "text\r\n", "250 250 250 354 ");
	talk_eof(&t);
	assert_null(t.s);
	end(&t);
}

/* ---- SRS ------------------------------------------------------------------------------------ */

#if WITH_TLS

static void test_srs(void **state)
{
	char dir[TEMP_DIR_MAX];
	char in[600];
	char text[ADDR_TEXT_MAX];
	struct status st;
	struct addr from;
	struct addr ours;
	struct talk t;
	(void)state;
	assert_int_equal(temp_dir_make(dir, sizeof dir), 0);
	struct srs *srs = srs_open(dir, &st);
	assert_non_null(srs);
	assert_int_equal(addr_parse(slice_of("Wanderer@far.test"), &from), 0);
	assert_int_equal(srs_forward(srs, &from, "here.test", fake_setup.now(), &ours), 0);
	addr_format(&ours, text, sizeof text);
	snprintf(in, sizeof in, "RCPT TO:<%s>\r\n", text);
	begin(&t, &stranger);
	fake_setup.srs = srs;
	expect(&t, E "MAIL FROM:<>\r\n", "250 250 ");
	expect(&t, in, "250 ");
	assert_int_equal(fake_resolve.asked, 0);
	expect(&t, D X, "354 250 ");
	assert_string_equal(fake.from, "<>");
	addr_format(&from, text, sizeof text);
	assert_non_null(strstr(fake.rcpts, text));
	assert_non_null(strstr(fake.to, "@here.test"));
	/* Only bounces go back. */
	expect(&t, M, "250 ");
	expect(&t, in, "550 ");
	said(&t, "550 5.1.1");
	/* The hook has its say. */
	fake_hook.there[HOOK_RCPT] = true;
	fake_hook.result = HOOK_REJECT;
	expect(&t, "RSET\r\nMAIL FROM:<>\r\n", "250 250 ");
	expect(&t, in, "550 ");
	said(&t, "550 5.7.1");
	fake_hook.there[HOOK_RCPT] = false;
	/* A changed hash is nobody. */
	char *hash = strchr(in, '=') + 1;
	*hash = *hash == 'A' || *hash == 'a' ? 'b' : 'a';
	expect(&t, in, "550 ");
	said(&t, "550 5.1.1");
	*strchr(in, '=') = 'x';
	expect(&t, in, "550 ");
	end(&t);
	srs_close(srs);
	assert_int_equal(temp_dir_remove(), 0);
}

#else

static void test_srs(void **state)
{
	(void)state;
	skip();
}

#endif

static int start_all(void **state)
{
	int rc = start(state);
	disk_init();
	user = stranger;
	user.mode = SMTPD_SUBMISSION;
	user.tls = true;
	return rc;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_answered),   cmocka_unit_test(test_interrupted),
	    cmocka_unit_test(test_no_memory),  cmocka_unit_test(test_pipeline),
	    cmocka_unit_test(test_rcpt_hook),  cmocka_unit_test(test_post_verdicts),
	    cmocka_unit_test(test_post_doors), cmocka_unit_test(test_post_output),
	    cmocka_unit_test(test_post_copy),  cmocka_unit_test(test_srs),
	};
	return cmocka_run_group_tests(tests, start_all, stop);
}
