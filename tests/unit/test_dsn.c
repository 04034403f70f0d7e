/* Tests of dsn: the spool, the aliases and the list of domains are fakes.
 * link: fake_message.c
 */
#include "dsn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "courier.h"
#include "fake_message.h"
#include "log.h"
#include "loop.h"

#define ORIGINAL                                                                                \
	"Received: from x\r\nMessage-ID: <orig.1@far.example>\r\nSubject: the original\r\n\r\n" \
	"Hello\r\n--not a boundary\r\n.\r\n"

static struct conf conf;
static struct envelope env;
static struct status got;
static int dones;
static bool starting;

/* ---- fakes -------------------------------------------------------------------------------- */

static int alias_code; /* alias_resolve fails with it */
static int alias_results;

const struct conf_domain *conf_domain_find(const struct conf *c, const char *name)
{
	static const struct conf_domain ours = {.name = NULL};
	(void)c;
	return strcmp(name, "ours.example") == 0 || strcmp(name, "localhost") == 0 ? &ours : NULL;
}

int alias_resolve(const struct conf *c, const struct addr *a, alias_found_fn *found, void *arg,
                  struct status *st)
{
	char text[ADDR_TEXT_MAX];
	(void)c;
	if (alias_code) {
		status_set(st, alias_code, NULL, "fake: alias_resolve");
		return -1;
	}
	if (alias_results > 0 && addr_format(a, text, sizeof text) == 0 &&
	    found(arg, ALIAS_EMAIL, text, NULL))
		return -1;
	if (alias_results > 1 && found(arg, ALIAS_PIPE, "/bin/prog", NULL))
		return -1;
	if (alias_results > 2 && found(arg, ALIAS_FORWARD, "a@b.example", "h1/h2"))
		return -1;
	return 0;
}

/* ---- the harness -------------------------------------------------------------------------- */

static void on_done(void *arg, const struct status *st)
{
	assert_ptr_equal(arg, &dones);
	assert_false(starting);
	got = *st;
	dones++;
}

static int setup(void **state)
{
	static char hostname[] = "mx.ours.example";
	(void)state;
	assert_int_equal(loop_init(), 0);
	conf = (struct conf){.hostname = hostname};
	fake_message_reset(slice_of(ORIGINAL));
	alias_code = 0;
	alias_results = 1;
	dones = 0;
	got = (struct status){0};
	envelope_clear(&env);
	snprintf(env.id, sizeof env.id, "TESTID");
	envelope_set_from(&env, "sender@far.example");
	env.created = 1700000000;
	env.last_attempt = 1700003600;
	log_to(-1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	envelope_clear(&env);
	fake_message_reset(slice_of(""));
	loop_done();
	log_to(STDERR_FILENO);
	return 0;
}

static void add(enum rcpt_type type, const char *address, const char *original,
                enum rcpt_state state, int code, const char *enh, const char *text,
                const char *remote)
{
	struct status st;
	assert_int_equal(envelope_add_rcpt(&env, type, address, original, NULL), 0);
	struct rcpt *r = &env.rcpt[env.rcpt_count - 1];
	r->state = state;
	status_set(&st, code, enh, "%s", text);
	if (code)
		assert_int_equal(envelope_set_verdict(r, state, &st, remote), 0);
}

static struct dsn *start(void)
{
	struct status st = {0};
	dones = 0;
	starting = true;
	struct dsn *d = dsn_start(&conf, NULL, &env, 1700010000, on_done, &dones, &st);
	starting = false;
	if (!d)
		got = st;
	return d;
}

static int finish(void)
{
	int turns = 0;
	for (; !dones && turns < 10000; turns++) {
		fake_message_turn();
		loop_turn(1000);
	}
	fake_message_turn();
	assert_int_equal(dones, 1);
	assert_int_equal(fake_message.readers, 0);
	assert_int_equal(fake_message.writers, 0);
	return turns;
}

/* Makes a notification and returns its text. */
static const char *make(void)
{
	assert_non_null(start());
	finish();
	assert_int_equal(got.code, 250);
	assert_int_equal(fake_message.commits, 1);
	assert_int_equal(fake_message.aborts, 0);
	return buf_str(&fake_message.written);
}

static void has(const char *text, const char *what)
{
	if (!strstr(text, what))
		fail_msg("there is no \"%s\" in:\n%s", what, text);
}

static void has_not(const char *text, const char *what)
{
	if (strstr(text, what))
		fail_msg("there is \"%s\" in:\n%s", what, text);
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0;
	for (; (text = strstr(text, what)); text += strlen(what))
		n++;
	return n;
}

/* What Python's parser says about the notification just made. */
static const char *judge(void)
{
	static char out[1 << 16];
	char name[] = "/tmp/test_dsn.XXXXXX";
	char command[200];
	int fd = mkstemp(name);
	const struct buf *b = &fake_message.written;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, buf_data(b), b->len), b->len);
	close(fd);
	snprintf(command, sizeof command,
	         "PYTHONUTF8=1 /usr/bin/python3 tests/unit/dsn_check.py <%s 2>&1", name);
	if (access("tests/unit/dsn_check.py", R_OK))
		fail_msg("run this at the top of the tree");
	FILE *f = popen(command, "r");
	assert_non_null(f);
	size_t n = fread(out, 1, sizeof out - 1, f);
	out[n] = '\0';
	int rc = pclose(f);
	unlink(name);
	if (rc)
		fail_msg("%s\n%s", out, buf_data(b));
	return out;
}

/* ---- tests -------------------------------------------------------------------------------- */

static void test_one_remote(void **state)
{
	(void)state;
	add(RCPT_EMAIL, "bob@else.example", "bob@else.example", RCPT_FAILED, 550, "5.1.1",
	    "no such user", "mx.else.example [192.0.2.1]:25 PLAIN");
	const char *s = make();
	has(s, "From: Mail Delivery System <MAILER-DAEMON@mx.ours.example>\r\n");
	has(s, "To: <sender@far.example>\r\n");
	has(s, "In-Reply-To: <orig.1@far.example>\r\n");
	has(s, "References: <orig.1@far.example>\r\n");
	assert_string_equal(fake_message.env.from, "<>");
	assert_int_equal(fake_message.env.to_count, 1);
	assert_string_equal(fake_message.env.to[0], "sender@far.example");
	assert_int_equal(fake_message.env.rcpt_count, 1);
	assert_string_equal(fake_message.env.rcpt[0].address, "sender@far.example");
	assert_string_equal(fake_message.env.rcpt[0].original, "sender@far.example");
	has(s, ORIGINAL "\r\n--");
	s = judge();
	has(s, "types: text/plain message/delivery-status message/rfc822\n");
	has(s, "global: False\n");
	has(s, "encodings: 7bit 7bit 7bit\n");
	has(s, "0 Reporting-MTA: dns; mx.ours.example\n");
	has(s, "1 Original-Recipient: rfc822; bob@else.example\n");
	has(s, "1 Final-Recipient: rfc822; bob@else.example\n");
	has(s, "1 Action: failed\n1 Status: 5.1.1\n");
	has(s, "1 Remote-MTA: dns; mx.else.example\n");
	has(s, "1 Diagnostic-Code: smtp; 550 5.1.1 no such user\n");
	has(s, "original subject: the original\n");
	has(s, "  bob@else.example\n    The server mx.else.example answered:\n"
	       "    550 5.1.1 no such user\n");
}

static void test_mixed(void **state)
{
	(void)state;
	add(RCPT_EMAIL, "ok@else.example", "ok@else.example", RCPT_SENT, 250, "2.0.0", "fine",
	    "mx.else.example");
	add(RCPT_EMAIL, "far@else.example", "list@ours.example", RCPT_FAILED, 552, NULL, "too big",
	    "mx.else.example");
	add(RCPT_EMAIL, "slow@slow.example", "slow@slow.example", RCPT_PENDING, 451, "4.7.1",
	    "greylisted", "mx.slow.example");
	add(RCPT_EMAIL, "bob@ours.example", "list@ours.example", RCPT_FAILED, 550, "5.3.0",
	    "failed (exit status 1)" COURIER_OUTPUT_MARK "cannot open /var/mail/bob", NULL);
	add(RCPT_EMAIL, "never@slow.example", "never@slow.example", RCPT_PENDING, 0, NULL, "",
	    NULL);
	const char *s = make();
	has(s, "From: Mail Delivery System <MAILER-DAEMON@ours.example>\r\n");
	s = judge();
	has_not(s, "ok@else");
	has_not(s, "/var/mail/bob");
	has(s, "1 Original-Recipient: rfc822; list@ours.example\n"
	       "1 Final-Recipient: rfc822; far@else.example\n1 Action: failed\n1 Status: 5.0.0\n");
	has(s, "2 Status: 4.4.7\n2 Remote-MTA: dns; mx.slow.example\n"
	       "2 Diagnostic-Code: smtp; 451 4.7.1 greylisted\n");
	has(s, "3 Status: 5.3.0\n3 Diagnostic-Code: x-unix; 550 5.3.0 failed (exit status 1)\n");
	has(s,
	    "4 Final-Recipient: rfc822; never@slow.example\n4 Action: failed\n4 Status: 4.4.7\n");
	has_not(s, "4 Diagnostic-Code");
	has_not(s, "5 Action");
	const char *text = strstr(s, "---\n");
	assert_int_equal(count(text, "  list@ours.example\n"), 1);
	has(text, "  list@ours.example\n    The server mx.else.example answered:\n    552 too big\n"
	          "    550 5.3.0 failed (exit status 1)\n\n");
	has(text, "  slow@slow.example\n    It could not be delivered in time.\n");
}

/* Our own users may see what the program said. */
static void test_own_sender(void **state)
{
	(void)state;
	envelope_set_from(&env, "amy@ours.example");
	alias_results = 3;
	add(RCPT_EMAIL, "bob@ours.example", "bob@ours.example", RCPT_FAILED, 550, "5.3.0",
	    "failed" COURIER_OUTPUT_MARK "quota exceeded", NULL);
	make();
	const char *s = judge();
	has(s, "From: Mail Delivery System <MAILER-DAEMON@ours.example>\n");
	has(s, "550 5.3.0 failed" COURIER_OUTPUT_MARK "quota exceeded\n");
	const struct envelope *e = &fake_message.env;
	assert_int_equal(e->rcpt_count, 3);
	assert_string_equal(e->to[0], "amy@ours.example");
	assert_int_equal(e->rcpt[1].type, RCPT_PIPE);
	assert_string_equal(e->rcpt[1].original, "amy@ours.example");
	assert_int_equal(e->rcpt[2].type, RCPT_FORWARD);
	assert_string_equal(e->rcpt[2].via, "h1/h2");
}

static void test_pipe_secrecy(void **state)
{
	(void)state;
	add(RCPT_PIPE, "/opt/secret/prog --key=abc", "robot@ours.example", RCPT_FAILED, 554,
	    "5.3.0", "exec: /opt/secret/prog: secret output", NULL);
	add(RCPT_PIPE, "/opt/secret/other", "", RCPT_PENDING, 451, "4.3.0", "secret", NULL);
	const char *s = make();
	has_not(s, "secret");
	s = judge();
	has(s, "1 Final-Recipient: rfc822; robot@ours.example\n");
	has(s, "1 Diagnostic-Code: x-unix; 554 5.3.0 the program behind this address failed\n");
	has(s, "2 Final-Recipient: rfc822; unknown\n");
}

static void test_hostile(void **state)
{
	char text[STATUS_TEXT_MAX * 2];
	char address[3000];
	(void)state;
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	memcpy(text, "a\r\nBcc: evil@x\r\n\r\n--boundary\r\n", 31);
	memset(address, 'y', sizeof address - 1);
	address[sizeof address - 1] = '\0';
	memcpy(address, "bob\r\n\r\nAction: delivered\r\n", 26);
	envelope_set_from(&env, "\"a> <b\"@far.example");
	fake_message_reset(slice_of("Message-ID: <a b@x>\r\nSubject: x\r\n\r\nx"));
	add(RCPT_EMAIL, address, address, RCPT_FAILED, 550, "5.1.1", text,
	    "[192.0.2.1]\r\nX: y [192.0.2.1]:25");
	add(RCPT_EMAIL, "c@d.example", "c@d.example", RCPT_FAILED, 550, "5.1.1",
	    "J\xc3\xbcrgen \xff\x01 z", "mx.example\xff [192.0.2.1]:25");
	const char *s = make();
	assert_int_equal(count(s, "\r\n--boundary"), 0);
	assert_int_equal(count(s, "\nBcc:"), 0);
	assert_int_equal(count(s, "\nX:"), 0);
	s = judge();
	has(s, "In-Reply-To: None\n");
	has(s, "types: text/plain message/delivery-status message/rfc822\n");
	has(s, "encodings: 8bit 7bit 7bit\n");
	assert_int_equal(count(s, "Action: failed\n"), 2);
	assert_int_equal(count(s, "\n1 Action: delivered"), 0);
	has(s, "2 Remote-MTA: dns; mx.example?\n");
	has(s, "2 Diagnostic-Code: smtp; 550 5.1.1 J?rgen ?? z\n");
	has(s, "    550 5.1.1 J\xc3\xbcrgen ?? z\n");
}

static void test_utf8_addresses(void **state)
{
	(void)state;
	fake_message_reset(slice_of("Subject: \xc3\xa9\r\n\r\nplain\r\n"));
	add(RCPT_EMAIL, "j\xc3\xbcrgen@\xc3\xb1.example", "j\xc3\xbcrgen@\xc3\xb1.example",
	    RCPT_FAILED, 550, "5.1.1", "unbekannt: j\xc3\xbcrgen", "mx.example");
	make();
	const char *s = judge();
	has(s, "types: text/plain message/delivery-status message/rfc822\n");
	has(s, "global: True\n");
	has(s, "encodings: 8bit 8bit 8bit\n");
	has(s, "Original-Recipient: utf-8; j\xc3\xbcrgen@\xc3\xb1.example\n");
	has(s, "Diagnostic-Code: smtp; 550 5.1.1 unbekannt: j\xc3\xbcrgen\n");
}

/* A message of n bytes with a header of h. */
static char *big_message(size_t n, size_t h)
{
	char *s = malloc(n);
	memset(s, 'x', n);
	for (size_t i = 0; i + 2 < h; i += 80) {
		memcpy(s + i, "Subject: x", 10);
		size_t line = h - i < 160 ? h - i : 80;
		memcpy(s + i + line - 2, "\r\n", 2);
		if (line != 80)
			break;
	}
	memcpy(s + h, "\r\n", 2);
	for (size_t i = h + 80; i + 2 < n; i += 80)
		memcpy(s + i, "\r\n", 2);
	memcpy(s + n - 2, "\r\n", 2);
	return s;
}

static void test_big_original(void **state)
{
	static const struct {
		size_t n;
		size_t header;
		bool whole;
	} cases[] = {
	    {DSN_ORIGINAL_MAX, 400, true},
	    {DSN_ORIGINAL_MAX + 1, 400, false},
	    {10 << 20, 400, false},
	    {1 << 20, DSN_ORIGINAL_MAX * 2, false},
	    {300000, DSN_ORIGINAL_MAX - 80, false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *big = big_message(cases[i].n, cases[i].header);
		fake_message_reset((struct slice){big, cases[i].n});
		env.size = cases[i].n;
		if (!i)
			add(RCPT_EMAIL, "b@c.example", "b@c.example", RCPT_FAILED, 550, "5.1.1",
			    "no", NULL);
		make();
		assert_true(fake_message.biggest_turn <= 4 * DSN_STEP);
		assert_true(fake_message.written.len < DSN_ORIGINAL_MAX + 4096);
		const char *s = judge();
		has(s, cases[i].whole ? " message/rfc822\n" : " text/rfc822-headers\n");
		assert_true(
		    fake_message.written.len >
		    (cases[i].header < DSN_ORIGINAL_MAX ? cases[i].header : DSN_ORIGINAL_MAX));
		free(big);
	}
}

/* Lines too long for mail: the header is attached, cut. */
static void test_long_lines(void **state)
{
	char *big = malloc(8000);
	(void)state;
	memset(big, 'x', 8000);
	memcpy(big, "Subject: a\r\nX-Long: ", 20);
	memcpy(big + 4000, "\r\nX-Last: z\r\n\r\n", 15);
	fake_message_reset((struct slice){big, 8000});
	fake_message.piece = 900;
	add(RCPT_EMAIL, "b@c.example", "b@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	has(make(), "x\r\nX-Last: z\r\n\r\n\r\n--");
	has(judge(), " text/rfc822-headers\n");
	free(big);
}

static void test_many(void **state)
{
	char address[40];
	(void)state;
	for (int i = 0; i < SPOOL_RCPTS_MAX; i++) {
		snprintf(address, sizeof address, "u%d@c.example", i);
		add(RCPT_EMAIL, address, address, RCPT_FAILED, 550, "5.1.1", "no", "mx");
	}
	assert_non_null(start());
	int turns = finish();
	assert_in_range(turns, 10, 1000);
	assert_true(fake_message.biggest_turn < DSN_STEP + 4096);
	assert_int_equal(count(buf_str(&fake_message.written), "Action: failed"), SPOOL_RCPTS_MAX);
}

static void test_odd_originals(void **state)
{
	static const char *const originals[] = {"",
	                                        "no header\r\n",
	                                        "\r\n",
	                                        "\r\nbody",
	                                        "Subject: x\r\n",
	                                        "Subject: x",
	                                        "Message-ID:\r\n <folded@x.example>\r\n\r\nx\r\n"};
	(void)state;
	add(RCPT_EMAIL, "b@c.example", "b@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	for (size_t i = 0; i < sizeof originals / sizeof *originals; i++) {
		fake_message_reset(slice_of(originals[i]));
		fake_message.piece = 1;
		make();
		judge();
	}
	has(judge(), "In-Reply-To: <folded@x.example>\n");
}

static void test_failures(void **state)
{
	(void)state;
	add(RCPT_EMAIL, "b@c.example", "b@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	fake_message.no_begin = true;
	assert_null(start());
	assert_int_equal(got.code, 452);
	fake_message_reset(slice_of(ORIGINAL));
	fake_message.no_open = true;
	assert_null(start());
	assert_int_equal(got.code, 451);
	assert_int_equal(fake_message.writers, 0);
	fake_message_reset(slice_of(ORIGINAL));
	fake_message.no_commit = true;
	assert_non_null(start());
	finish();
	assert_int_equal(got.code, 452);
	for (size_t at = 0; at < strlen(ORIGINAL); at += 7) {
		fake_message_reset(slice_of(ORIGINAL));
		fake_message.break_at = at;
		fake_message.break_code = at & 1 ? 451 : 554;
		assert_non_null(start());
		finish();
		assert_int_equal(got.code, 451);
		assert_int_equal(fake_message.commits, 0);
		assert_int_equal(fake_message.aborts, 1);
	}
	alias_code = 451;
	assert_null(start());
	assert_int_equal(status_class(&got), STATUS_TRANSIENT);
	envelope_set_from(&env, "<>");
	assert_null(start());
	assert_int_equal(got.code, 554);
	loop_turn(0);
	assert_int_equal(dones, 0);
}

/* Nobody to notify: done, and nothing is written. */
static void test_dropped(void **state)
{
	(void)state;
	add(RCPT_EMAIL, "b@c.example", "b@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	for (int i = 0; i < 3; i++) {
		alias_code = i == 0 ? 550 : 0;
		alias_results = i == 1 ? 0 : 1;
		envelope_set_from(&env, i == 2 ? "no address" : "gone@ours.example");
		assert_non_null(start());
		finish();
		assert_int_equal(got.code, 250);
		assert_int_equal(fake_message.commits, 0);
	}
}

static void test_cancel(void **state)
{
	size_t n = 300000;
	char *big = big_message(n, 40000);
	(void)state;
	add(RCPT_EMAIL, "b@c.example", "b@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	int turns;
	for (turns = 0; turns < 100; turns++) {
		fake_message_reset((struct slice){big, n});
		struct dsn *d = start();
		assert_non_null(d);
		for (int i = 0; i < turns && !dones; i++)
			loop_turn(1000);
		if (dones)
			break;
		dsn_cancel(d);
		assert_int_equal(fake_message.readers, 0);
		assert_int_equal(fake_message.writers, 0);
		assert_int_equal(fake_message.aborts, 1);
		loop_turn(0);
		assert_int_equal(dones, 0);
	}
	assert_in_range(turns, 5, 99);
	free(big);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    TEST(test_one_remote),    TEST(test_mixed),      TEST(test_own_sender),
	    TEST(test_pipe_secrecy),  TEST(test_hostile),    TEST(test_utf8_addresses),
	    TEST(test_big_original),  TEST(test_long_lines), TEST(test_many),
	    TEST(test_odd_originals), TEST(test_failures),   TEST(test_dropped),
	    TEST(test_cancel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
