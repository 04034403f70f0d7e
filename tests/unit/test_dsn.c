/* Tests of dsn: the spool, the resolve and the list of domains are fakes.
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
#include "crc.h"
#include "dsn_int.h"
#include "fake_message.h"
#include "log.h"
#include "loop.h"
#include "resolve.h"
#include "temp_dir.h"

#define ORIGINAL                                                                                \
	"Received: from x\r\nMessage-ID: <orig.1@far.example>\r\nSubject: the original\r\n\r\n" \
	"Hello\r\n--not a boundary\r\n.\r\n"

static struct conf conf;
static struct envelope env;
static struct status got;
static int dones;
static bool starting;

/* ---- fakes -------------------------------------------------------------------------------- */

struct resolve {
	struct loop_timer timer;
	struct addr addr;
	void (*done)(void *arg, const struct status *st, const struct resolve_found *found,
	             size_t count);
	void *arg;
	bool ended;
};

static int alias_code; /* the resolve fails with it */
static size_t alias_results;
static const char *alias_target; /* instead of the address asked for */
static bool no_resolve;          /* there is no memory for it */
static int resolves;             /* under way */
static int64_t resolve_ms;       /* what it takes */

const struct conf_domain *conf_domain_find(const struct conf *c, const char *name)
{
	static const struct conf_domain ours = {.name = NULL};
	(void)c;
	return strcmp(name, "ours.example") == 0 || strcmp(name, "localhost") == 0 ? &ours : NULL;
}

static void answer(void *arg)
{
	struct resolve *r = arg;
	char text[ADDR_TEXT_MAX];
	struct resolve_found found[] = {{ALIAS_EMAIL, alias_target ? alias_target : text, NULL},
	                                {ALIAS_PIPE, "/bin/prog", NULL},
	                                {ALIAS_FORWARD, "a@b.example", "h1/h2"}};
	struct status st;
	assert_int_equal(addr_format(&r->addr, text, sizeof text), 0);
	status_set(&st, alias_code ? alias_code : 250, NULL, "fake: resolve");
	r->ended = true;
	resolves--;
	r->done(r->arg, &st, alias_code ? NULL : found, alias_code ? 0 : alias_results);
	/* What was handed out lives no longer. */
	memset(text, 'x', sizeof text - 1);
	free(r);
}

struct resolve *resolve_start(const struct conf *c, const char *id, const struct addr *a,
                              void (*done)(void *arg, const struct status *st,
                                           const struct resolve_found *found, size_t count),
                              void *arg)
{
	assert_ptr_equal(c, &conf);
	assert_string_equal(id, env.id);
	struct resolve *r = no_resolve ? NULL : calloc(1, sizeof *r);
	if (!r)
		return NULL;
	*r = (struct resolve){.addr = *a, .done = done, .arg = arg};
	resolves++;
	loop_timer_init(&r->timer, answer, r);
	loop_timer_set(&r->timer, resolve_ms);
	return r;
}

void resolve_cancel(struct resolve *r)
{
	if (!r || r->ended)
		return;
	resolves--;
	loop_timer_stop(&r->timer);
	free(r);
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
	alias_target = NULL;
	no_resolve = false;
	resolve_ms = 0;
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
	assert_int_equal(resolves, 0);
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
	char dir[TEMP_DIR_MAX], name[TEMP_DIR_MAX + 16], command[200];
	const struct buf *b = &fake_message.written;
	assert_int_equal(temp_dir_make(dir, sizeof dir), 0);
	snprintf(name, sizeof name, "%s/message", dir);
	FILE *message = fopen(name, "w");
	assert_non_null(message);
	assert_int_equal(fwrite(buf_data(b), 1, b->len, message), b->len);
	assert_int_equal(fclose(message), 0);
	snprintf(command, sizeof command,
	         "PYTHONUTF8=1 /usr/bin/python3 tests/unit/dsn_check.py <%s 2>&1", name);
	if (access("tests/unit/dsn_check.py", R_OK))
		fail_msg("run this at the top of the tree");
	FILE *f = popen(command, "r");
	assert_non_null(f);
	size_t n = fread(out, 1, sizeof out - 1, f);
	out[n] = '\0';
	int rc = pclose(f);
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
	has(s, "encodings: quoted-printable 7bit 7bit\n");
	assert_int_equal(count(s, "Action: failed\n"), 2);
	assert_int_equal(count(s, "\n1 Action: delivered"), 0);
	has(s, "2 Remote-MTA: dns; mx.example?\n");
	has(s, "2 Diagnostic-Code: smtp; 550 5.1.1 J?rgen ?? z\n");
	has(s, "    550 5.1.1 J\xc3\xbcrgen ?? z\n");
}

#define U_USER     "j\xc3\xbcrgen"
#define U_DOMAIN   "\xc3\xb1\x61nd\xc3\xba.example"
#define A_DOMAIN   "xn--and-6ma2c.example"
#define U_DIAG     "unbekannt: " U_USER
#define U_ORIGINAL "Message-ID: <\xc3\xb1@x>\r\nSubject: \xc3\xa9\r\n\r\nplain = plain\r\n"

/* The original came back as it was. */
static void came_back(const char *verdict, const char *original, size_t n)
{
	char want[60];
	snprintf(want, sizeof want, "original: %zu bytes, %08lx\n", n,
	         (unsigned long)crc_add(0, original, n));
	has(verdict, want);
}

static bool all_7bit(void)
{
	const char *s = buf_str(&fake_message.written);
	return strlen(s) == fake_message.written.len && dsn_is_ascii(s);
}

/* A sender whose server may know nothing of it learns it all in ASCII. */
static void test_utf8_recipient(void **state)
{
	static const char original[] = U_ORIGINAL;
	(void)state;
	fake_message_reset(slice_of(original));
	add(RCPT_EMAIL, U_USER "@\xc3\xb1.example", U_USER "@\xc3\xb1.example", RCPT_FAILED, 550,
	    "5.1.1", U_DIAG, "mx.example");
	add(RCPT_EMAIL, "\"\xc3\xa9 +=\\\\\"@c.example", "bob@c.example", RCPT_FAILED, 550, "5.6.7",
	    "no", "mx.example");
	make();
	assert_true(all_7bit());
	assert_false(fake_message.env.header_8bit);
	const char *s = judge();
	has(s, "To: <sender@far.example>\n");
	has(s, "In-Reply-To: None\n");
	has(s, "types: text/plain message/delivery-status message/global\n");
	has(s, "encodings: quoted-printable 7bit quoted-printable\n");
	has(s, "1 Original-Recipient: utf-8; j\\x{FC}rgen@\\x{F1}.example\n"
	       "1 Final-Recipient: utf-8; j\\x{FC}rgen@\\x{F1}.example\n");
	has(s, "1 decoded: " U_USER "@\xc3\xb1.example is mailbox\n");
	has(s, "2 Original-Recipient: rfc822; bob@c.example\n2 Final-Recipient: utf-8; "
	       "\"\\x{E9}\\x{20}\\x{2B}\\x{3D}\\x{5C}\\x{5C}\"@c.example\n");
	has(s, "2 decoded: \"\xc3\xa9 +=\\\\\"@c.example is mailbox\n");
	has(s, "Diagnostic-Code: smtp; 550 5.1.1 unbekannt: j?rgen\n");
	has(s, "original subject: \xc3\xa9\n");
	came_back(s, original, sizeof original - 1);
	has(s, "  " U_USER "@\xc3\xb1.example\n    The server mx.example answered:\n"
	       "    550 5.1.1 " U_DIAG "\n");
}

#if WITH_IDN
/* What A-labels can say needs no more than them; people read it in Unicode. */
static void test_idn_domains(void **state)
{
	(void)state;
	envelope_set_from(&env, "amy@" U_DOMAIN);
	add(RCPT_EMAIL, "bob@" U_DOMAIN, "bob@" U_DOMAIN, RCPT_FAILED, 550, "5.1.1", "no",
	    U_DOMAIN " [192.0.2.1]:25 PLAIN");
	make();
	assert_true(all_7bit());
	assert_false(fake_message.env.header_8bit);
	assert_string_equal(fake_message.env.rcpt[0].address, "amy@" U_DOMAIN);
	const char *s = judge();
	has(s, "To: <amy@" A_DOMAIN ">\n");
	has(s, "types: text/plain message/delivery-status message/rfc822\n");
	has(s, "encodings: quoted-printable 7bit 7bit\n");
	has(s, "1 Original-Recipient: rfc822; bob@" A_DOMAIN "\n"
	       "1 Final-Recipient: rfc822; bob@" A_DOMAIN "\n");
	has(s, "1 Remote-MTA: dns; " A_DOMAIN "\n");
	has(s, "  bob@" U_DOMAIN "\n    The server " A_DOMAIN " answered:\n");
	has(s, "original subject: the original\n");
}

/* A sender who needs SMTPUTF8 anyway. */
static void test_utf8_sender(void **state)
{
	static const char original[] = U_ORIGINAL;
	(void)state;
	envelope_set_from(&env, U_USER "@" U_DOMAIN);
	fake_message_reset(slice_of(original));
	add(RCPT_EMAIL, U_USER "@" U_DOMAIN, U_USER "@" U_DOMAIN, RCPT_FAILED, 550, "5.1.1", U_DIAG,
	    "mx.example");
	add(RCPT_EMAIL, "bob@" U_DOMAIN, "bob@c.example", RCPT_FAILED, 550, "5.1.1", "no",
	    "mx.example");
	add(RCPT_EMAIL, "\"\xc3\xa9 \\\\x{41}\"@c.example", "bob@c.example", RCPT_FAILED, 550,
	    "5.1.1", "no", "mx.example");
	make();
	assert_true(fake_message.env.header_8bit);
	const char *s = judge();
	has(s, "To: <" U_USER "@" U_DOMAIN ">\n");
	has(s, "In-Reply-To: <\xc3\xb1@x>\nReferences: <\xc3\xb1@x>\n");
	has(s, "types: text/plain message/global-delivery-status message/global\n");
	has(s, "encodings: 8bit 8bit 8bit\n");
	has(s, "1 Original-Recipient: utf-8; " U_USER "@" U_DOMAIN "\n"
	       "1 Final-Recipient: utf-8; " U_USER "@" U_DOMAIN "\n");
	has(s, "Diagnostic-Code: smtp; 550 5.1.1 " U_DIAG "\n");
	has(s, "2 Original-Recipient: rfc822; bob@c.example\n"
	       "2 Final-Recipient: utf-8; bob@" U_DOMAIN "\n");
	has(s, "3 Final-Recipient: utf-8; \"\xc3\xa9\\x{20}\\x{5C}\\x{5C}x{41}\"@c.example\n");
	has(s, "3 decoded: \"\xc3\xa9 \\\\x{41}\"@c.example is mailbox\n");
	has(s, "  " U_USER "@" U_DOMAIN "\n");
	came_back(s, original, sizeof original - 1);
	/* The same with nothing else beyond ASCII. */
	envelope_clear(&env);
	envelope_set_from(&env, U_USER "@far.example");
	fake_message_reset(slice_of(ORIGINAL));
	add(RCPT_EMAIL, "bob@c.example", "bob@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	make();
	assert_true(fake_message.env.header_8bit);
	s = judge();
	has(s, "types: text/plain message/global-delivery-status message/rfc822\n");
	has(s, "encodings: 7bit 7bit 7bit\n");
	has(s, "1 Final-Recipient: rfc822; bob@c.example\n");
}

/* An alias leads such a sender to where SMTPUTF8 may be unknown; or it does not. */
static void test_utf8_sender_alias(void **state)
{
	static const struct {
		const char *target;
		size_t results;
		bool global;
	} cases[] = {
	    {"juergen@old.example", 1, false},
	    {"juergen@" U_DOMAIN, 2, false},
	    {NULL, 3, false}, /* the forward is ASCII */
	    {NULL, 2, true},
	    {"m\xc3\xbcller@far.example", 1, true},
	};
	(void)state;
	add(RCPT_EMAIL, "bob@c.example", "bob@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		fake_message_reset(slice_of(ORIGINAL));
		envelope_set_from(&env, U_USER "@ours.example");
		alias_target = cases[i].target;
		alias_results = cases[i].results;
		make();
		assert_int_equal(fake_message.env.header_8bit, cases[i].global);
		const char *s = judge();
		has(s, cases[i].global ? "global: True\n" : "global: False\n");
		has(s,
		    cases[i].global ? "to group: none\n" : "to group: " U_USER "@ours.example\n");
		if (!cases[i].global)
			assert_true(all_7bit());
	}
}
#endif

/* The header of the original goes back as what it is, whoever the recipients are. */
static void test_8bit_originals(void **state)
{
	static const struct {
		const char *original;
		const char *types;
		const char *encodings;
	} cases[] = {
	    {U_ORIGINAL, "message/global\n", "7bit 7bit quoted-printable\n"},
	    {"Subject: a\r\n\r\n\xc3\xa9\r\n", "message/rfc822\n", "7bit 7bit 8bit\n"},
	    {"Subject: a\r\n\r\n\xe9\r\n", "message/rfc822\n", "7bit 7bit 8bit\n"},
	    {"Subject: \xe9\r\n\r\nx\r\n", "message/rfc822\n", "7bit 7bit 8bit\n"},
	    {"Subject: \xe2\x82\r\nA: \xac\r\n\r\nx\r\n", "message/rfc822\n", "7bit 7bit 8bit\n"},
	    {"Subject: \xe2\x82\xac\xf0\x9f\x90\xa7\r\n\r\n\xff \t\r\n\t\r\n= \r\n",
	     "message/global\n", "7bit 7bit quoted-printable\n"},
	};
	(void)state;
	add(RCPT_EMAIL, "b@c.example", "b@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (size_t piece = 0; piece < 3; piece++) {
			fake_message_reset(slice_of(cases[i].original));
			fake_message.piece = piece;
			make();
			const char *s = judge();
			has(s, "types: text/plain message/delivery-status ");
			has(s, cases[i].types);
			has(s, cases[i].encodings);
			came_back(s, cases[i].original, strlen(cases[i].original));
		}
}

/* Of a long message with such a header the header goes back; its long lines end with a character.
 */
static void test_8bit_headers(void **state)
{
	static const char *const characters[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\xa7",
	                                         "\xe9"};
	char original[9000];
	(void)state;
	add(RCPT_EMAIL, "b@c.example", "b@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	for (size_t i = 0; i < 4; i++)
		for (size_t piece = 0; piece < 4; piece++) {
			size_t n = strlen(characters[i]);
			size_t at = (size_t)snprintf(original, sizeof original, "Subject: ");
			for (; at < 4000; at += n)
				memcpy(original + at, characters[i], n);
			snprintf(original + at, sizeof original - at,
			         "\r\nX-Last: z\r\n\r\nbody\r\n");
			fake_message_reset(slice_of(original));
			fake_message.piece = piece ? 900 + piece : 0;
			make();
			assert_true(all_7bit());
			const char *s = judge();
			has(s, i < 3 ? "message/global-headers\n" : "text/rfc822-headers\n");
			has(s, "encodings: 7bit 7bit quoted-printable\n");
		}
}

#if WITH_IDN
/* s, n times, behind what text has; returns text. */
static char *repeat(char *text, size_t size, const char *s, size_t n)
{
	size_t at = strlen(text);
	for (; n > 0; n--)
		at += (size_t)snprintf(text + at, size - at, "%s", s);
	return text;
}

/* The longest there are: whole while A-labels help. */
static void test_longest_addresses(void **state)
{
	char user[100] = "";
	char quoted[200] = "\"\xc3\xa9";
	char domain[300] = "";
	char ascii[300];
	char text[600];
	(void)state;
	repeat(user, sizeof user, "\xd0\xb6", 32);
	repeat(quoted, sizeof quoted, "\\\\", 62);
	repeat(quoted, sizeof quoted, "\"", 1);
	for (int i = 0; i < 3; i++)
		repeat(repeat(domain, sizeof domain, "\xd0\xb6", 40), sizeof domain, ".", 1);
	repeat(domain, sizeof domain, "example", 1);
	assert_int_equal(addr_domain_to_ascii(domain, ascii, sizeof ascii), 0);
	snprintf(text, sizeof text, "%s@%s", user, domain);
	add(RCPT_EMAIL, text, "bob@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	snprintf(text, sizeof text, "%s@%s", quoted, domain);
	add(RCPT_EMAIL, text, "bob@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	snprintf(text, sizeof text, "%s@c.example", user);
	add(RCPT_EMAIL, text, "bob@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	domain[0] = '\0';
	for (int i = 0; i < 62; i++)
		repeat(domain, sizeof domain, "\xc3\xb1.", 1);
	snprintf(text, sizeof text, "%s@%sx", quoted, domain);
	add(RCPT_EMAIL, text, "bob@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	make();
	const char *s = judge();
	snprintf(text, sizeof text, "1 decoded: %s@%s is mailbox\n", user, ascii);
	has(s, text);
	snprintf(text, sizeof text, "2 decoded: %s@%s is mailbox\n", quoted, ascii);
	has(s, text);
	snprintf(text, sizeof text, "3 decoded: %s@c.example is mailbox\n", user);
	has(s, text);
	has(s, "4 Final-Recipient: ");
	/* The sender may have such an address, too. */
	snprintf(text, sizeof text, "%s@ours.example", user);
	envelope_set_from(&env, text);
	alias_target = "a@b.example";
	fake_message_reset(slice_of(ORIGINAL));
	make();
	snprintf(text, sizeof text, "to group: %s@ours.example\n", user);
	has(judge(), text);
}
#endif

/* Hostile addresses that only an old or a forged spool file has, in both forms. */
static void test_hostile_addresses(void **state)
{
	static const char *const hostile[] = {
	    "\xc3\xa9\r\n\r\nAction: delivered\r\n",
	    "\xc3\xa9@x.example\r\nBcc: evil@x",
	    "\xff\xfe@x.example",
	    "\xc3@\xc3\xa9",
	    "\xc3\xa9\xc2\x80\xc2\x9f@x.example",
	    "\\x{D}\xc3\xa9\\x{A}Action: x",
	    "\xc3\xa9 > <a@b",
	    "\xed\xa0\x80\xf4\x90\x80\x80",
	    "\xc3\xa9?=\r\n =?utf-8?q?x?=",
	    "",
	};
	(void)state;
	for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++)
		add(RCPT_EMAIL, hostile[i], hostile[i], RCPT_FAILED, 550, "5.1.1", hostile[i],
		    hostile[i]);
	for (int global = 0; global < 1 + WITH_IDN; global++) {
		fake_message_reset(slice_of(ORIGINAL));
		envelope_set_from(&env, global ? U_USER "@far.example" : "sender@far.example");
		const char *s = make();
		assert_int_equal(count(s, "\nAction: "), sizeof hostile / sizeof *hostile);
		assert_int_equal(count(s, "\nAction: failed"), sizeof hostile / sizeof *hostile);
		assert_int_equal(count(s, "\nBcc"), 0);
		assert_true(global || all_7bit());
		s = judge();
		has(s, global ? "global: True\n" : "global: False\n");
	}
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

/* What is encoded grows; the steps do not. */
static void test_big_8bit(void **state)
{
	size_t n = DSN_ORIGINAL_MAX;
	char *big = big_message(n, 400);
	(void)state;
	for (size_t i = 482; i < n; i++)
		if (big[i] == 'x')
			big[i] = (char)0xe9;
	memcpy(big + 20, "\xc3\xa9", 2);
	fake_message_reset((struct slice){big, n});
	add(RCPT_EMAIL, "b@c.example", "b@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	make();
	assert_true(fake_message.biggest_turn <= 4 * DSN_STEP);
	assert_true(fake_message.written.len > 2 * n);
	assert_true(all_7bit());
	const char *s = judge();
	has(s, "encodings: 7bit 7bit quoted-printable\n");
	came_back(s, big, n);
	free(big);
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
	assert_non_null(start());
	finish();
	assert_int_equal(got.code, 452);
	fake_message_reset(slice_of(ORIGINAL));
	fake_message.no_open = true;
	assert_non_null(start());
	finish();
	assert_int_equal(got.code, 451);
	fake_message_reset(slice_of(ORIGINAL));
	fake_message.no_commit = true;
	assert_non_null(start());
	finish();
	assert_int_equal(got.code, 452);
	for (size_t at = 0; at < strlen(ORIGINAL); at += 7) {
		fake_message_reset(slice_of(ORIGINAL));
		fake_message.break_at = at;
		fake_message.break_code = 451;
		assert_non_null(start());
		finish();
		assert_int_equal(got.code, 451);
		assert_int_equal(fake_message.commits, 0);
		assert_int_equal(fake_message.aborts, 1);
	}
	envelope_set_from(&env, "<>");
	assert_null(start());
	assert_int_equal(got.code, 554);
	loop_turn(0);
	assert_int_equal(dones, 0);
}

/* A message that turns out to be damaged is not shown, wherever it breaks; but its sender learns of
 * it. */
static void test_damaged_original(void **state)
{
	(void)state;
	add(RCPT_EMAIL, "b@c.example", "b@c.example", RCPT_FAILED, 554, "5.3.0",
	    "the stored message is damaged", NULL);
	for (size_t at = 0; at < strlen(ORIGINAL); at += 7) {
		fake_message_reset(slice_of(ORIGINAL));
		fake_message.break_at = at;
		fake_message.break_code = 554;
		const char *note = make();
		has(note, "is damaged");
		has_not(note, "orig.1");
		has_not(note, "the original");
		has_not(note, "not a boundary");
	}
}

/* Who cannot tell now where the sender leads to may tell later: nothing is lost. */
static void test_resolve_failures(void **state)
{
	(void)state;
	add(RCPT_EMAIL, "b@c.example", "b@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	alias_code = 451;
	assert_non_null(start());
	finish();
	assert_int_equal(got.code, 451);
	assert_string_equal(got.text, "fake: resolve");
	assert_int_equal(fake_message.commits + fake_message.aborts, 0);
	no_resolve = true;
	assert_null(start());
	assert_int_equal(status_class(&got), STATUS_TRANSIENT);
	loop_turn(0);
	assert_int_equal(dones, 0);
	no_resolve = false;
	alias_code = 0;
	make();
}

/* Until it is known where the sender leads to nothing is opened; and it may be called off. */
static void test_resolve_takes_time(void **state)
{
	(void)state;
	add(RCPT_EMAIL, "b@c.example", "b@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	resolve_ms = 60000;
	for (int i = 0; i < 2; i++) {
		struct dsn *d = start();
		assert_non_null(d);
		for (int k = 0; k < 3 * i; k++)
			loop_turn(0);
		assert_int_equal(resolves, 1);
		assert_int_equal(fake_message.readers + fake_message.writers, 0);
		dsn_cancel(d);
		assert_int_equal(resolves, 0);
		loop_turn(0);
		assert_int_equal(dones, 0);
	}
	assert_int_equal(fake_message.aborts, 0);
	resolve_ms = 20;
	make();
}

/* Nobody to notify: done, and nothing is written. */
static void test_dropped(void **state)
{
	static const struct {
		const char *from;
		int code;
	} cases[] = {{"gone@ours.example", 550}, {"circle@ours.example", 554}, {"no address", 0}};
	(void)state;
	add(RCPT_EMAIL, "b@c.example", "b@c.example", RCPT_FAILED, 550, "5.1.1", "no", NULL);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		alias_code = cases[i].code;
		envelope_set_from(&env, cases[i].from);
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
	int opened = 0;
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
		assert_int_equal(resolves, 0);
		opened += fake_message.aborts > 0;
		assert_int_equal(fake_message.aborts, opened > 0);
		loop_turn(0);
		assert_int_equal(dones, 0);
	}
	assert_in_range(turns, 5, 99);
	assert_true(opened >= turns - 2);
	free(big);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(test_one_remote),
		TEST(test_mixed),
		TEST(test_own_sender),
		TEST(test_pipe_secrecy),
		TEST(test_hostile),
		TEST(test_utf8_recipient),
#if WITH_IDN
		TEST(test_idn_domains),
		TEST(test_utf8_sender),
		TEST(test_utf8_sender_alias),
		TEST(test_longest_addresses),
#endif
		TEST(test_8bit_originals),
		TEST(test_8bit_headers),
		TEST(test_hostile_addresses),
		TEST(test_big_original),
		TEST(test_big_8bit),
		TEST(test_long_lines),
		TEST(test_many),
		TEST(test_odd_originals),
		TEST(test_failures),
		TEST(test_damaged_original),
		TEST(test_resolve_failures),
		TEST(test_resolve_takes_time),
		TEST(test_dropped),
		TEST(test_cancel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
