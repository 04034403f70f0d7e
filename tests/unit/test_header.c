/* Unit tests of header: scanning at every split, fields, address lists, dates, fields we write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "header.h"

static struct slice S(const char *s) {
	return slice_of(s);
}

/* ---- the scanner ------------------------------------------------------------------------------
 */

static void
scan(struct header_scan *h, const char *text, size_t n, size_t cut)
{
	header_scan_init(h);
	if (cut == 0) {
		size_t i;

		for (i = 0; i < n; i++)
			header_scan_feed(h, (struct slice){text + i, 1});
	} else {
		header_scan_feed(h, (struct slice){text, cut});
		header_scan_feed(h, (struct slice){text + cut, n - cut});
	}
	header_scan_end(h);
}

static const char message[] = "Received: from a\r\n\tby b; date\r\n"
                              "received: c\r\n"
                              "From: J\xc3\xb6rg <a@b>\r\n"
                              "Subject :  a\r\n folded\t subject \r\n"
                              "Message-Id:\r\n <1@x>\r\n"
                              "message-id: <2@x>\r\n"
                              "X-Rather-Long-Name-Of-Some-Private-Field: y\r\n"
                              "Receive: not counted\r\n"
                              "\r\n"
                              "Received: in the body\r\n"
                              "a line of forty bytes in all, this one..\r\n"
                              "plain\r\n";

static void test_scan(void **state)
{
	const char *body = strstr(message, "\r\n\r\n") + 4;
	struct header_scan h;
	size_t cut;

	(void)state;
	for (cut = 0; cut < sizeof(message); cut++) {
		scan(&h, message, sizeof(message) - 1, cut);
		assert_true(h.done);
		assert_false(h.malformed);
		assert_true(h.header_8bit);
		assert_false(h.body_8bit);
		assert_int_equal(h.size, body - message);
		assert_int_equal(h.longest, 43);
		assert_int_equal(h.count[HEADER_RECEIVED], 2);
		assert_int_equal(h.count[HEADER_FROM], 1);
		assert_int_equal(h.count[HEADER_SUBJECT], 1);
		assert_int_equal(h.count[HEADER_MESSAGE_ID], 2);
		assert_int_equal(h.count[HEADER_OTHER], 2);
		assert_int_equal(h.count[HEADER_DATE], 0);
		assert_string_equal(h.subject, "a folded  subject");
		assert_string_equal(h.message_id, "<1@x>");
	}
}

#define T(s) (s), sizeof(s) - 1

static void test_scan_cases(void **state)
{
	static const struct {
		const char *in;
		size_t n;
		int64_t size;
		int malformed;
		unsigned from;
		int body_8bit;
		int64_t longest;
	} cases[] = {
	    {T(""), 0, 0, 0, 0, 0},
	    {T("\r\n"), 2, 0, 0, 0, 0},
	    {T("\n"), 1, 0, 0, 0, 0},
	    {T("\r\n\xff"), 2, 0, 0, 1, 1},
	    {T("From: a\r\n"), 9, 0, 1, 0, 7},
	    {T("From: a"), 7, 0, 1, 0, 7},
	    {T("From: a\n\nb\n"), 9, 0, 1, 0, 7},
	    {T("From:\r\n\r\n"), 9, 0, 1, 0, 5},
	    {T("From: a\r\n\r\n\xc3\xa9\r\n"), 11, 0, 1, 1, 7},
	    {T("From: a\r\nhello world\r\n"), 9, 1, 1, 0, 11},
	    {T("From: a\r\nhello\r\n\r\n"), 9, 1, 1, 0, 7},
	    {T("From: a\r\nhello"), 9, 1, 1, 0, 7},
	    {T("From: a\r\n: x\r\n"), 9, 1, 1, 0, 7},
	    {T("From: a\r\nh\xc3\xa9: x\r\n"), 9, 1, 1, 1, 7},
	    {T("From: a\r\n\xc3\xa9\r\n"), 9, 1, 1, 1, 7},
	    {T("From: a\r\n\rx"), 9, 1, 1, 0, 7},
	    {T("From: a\r\n\r"), 9, 1, 1, 0, 7},
	    {T("From: a\r\n \r\n\r\n"), 14, 0, 1, 0, 7},
	    {T(" From: a\r\n"), 0, 1, 0, 0, 8},
	    {T("From a@b Mon\r\nFrom: a\r\n\r\n"), 0, 1, 0, 0, 12},
	    {T("From\0: a\r\n"), 0, 1, 0, 0, 8},
	    {T("From: a\0b\rc\r\n\r\n"), 15, 0, 1, 0, 11},
	    {T("From: a\r\r\n\r\n"), 12, 0, 1, 0, 8},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t cut;

		for (cut = 0; cut <= cases[i].n; cut++) {
			struct header_scan h;

			scan(&h, cases[i].in, cases[i].n, cut);
			assert_int_equal(h.size, cases[i].size);
			assert_int_equal(h.malformed, cases[i].malformed);
			assert_int_equal(h.count[HEADER_FROM], cases[i].from);
			assert_int_equal(h.body_8bit, cases[i].body_8bit);
			assert_int_equal(h.longest, cases[i].longest);
		}
	}
}

/* Is what is beyond ASCII in the header UTF-8? Nothing else counts. */
static void test_scan_utf8(void **state)
{
	static const struct {
		const char *in;
		bool is_8bit;
		bool not_utf8;
	} cases[] = {
	    {"A: b\r\n\r\n\xff", false, false},
	    {"A: \xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7\r\n \xc3\xa9\r\n\r\n\xff", true, false},
	    {"A: \xc3\xa9", true, false},
	    {"A: \xc3", true, true},
	    {"A: \xe9\r\n\r\n", true, true},
	    {"A: \xe2\x82\r\nB: \xac\r\n\r\n", true, true},
	    {"A: \xac\xc3\xa9\r\n\r\n", true, true},
	    {"A: \xc3\xa9\xc3\r\nB: c\r\n\r\n", true, true},
	    {"A: \xc0\xaf\r\n\r\n", true, true},
	    {"A: \xed\xa0\x80\r\n\r\n", true, true},
	    {"A: \xf5\x80\x80\x80\r\nB: \xc3\xa9\r\n\r\n", true, true},
	};
	struct header_scan h;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		scan(&h, cases[i].in, strlen(cases[i].in), 0);
		assert_int_equal(h.header_8bit, cases[i].is_8bit);
		assert_int_equal(h.header_not_utf8, cases[i].not_utf8);
	}
}

static void test_scan_capture_bound(void **state)
{
	char text[2 * HEADER_CAPTURE_MAX + 100];
	size_t pad;

	(void)state;
	for (pad = 0; pad < 4; pad++) {
		struct header_scan h;
		size_t n = (size_t)snprintf(text, sizeof(text), "Subject: %.*s", (int)pad, "xxxx");

		while (n + 8 < sizeof(text)) {
			memcpy(text + n, "\xe2\x82\xac", 3);
			n += 3;
		}
		memcpy(text + n, "\r\n\r\n", 4);
		scan(&h, text, n + 4, 0);
		assert_true(strlen(h.subject) >= HEADER_CAPTURE_MAX - 4);
		assert_true(strlen(h.subject) < HEADER_CAPTURE_MAX);
		assert_null(strchr(h.subject, '?'));
	}
}

static void test_scan_hostile_capture(void **state)
{
	static const char text[] = "Subject: a\0b\x1b[0m\rc\r\n\r\n\r\n";
	struct header_scan h;

	(void)state;
	scan(&h, T(text), 0);
	assert_string_equal(h.subject, "a?b?[0mc");
}

/* ---- fields -----------------------------------------------------------------------------------
 */

static void test_next(void **state)
{
	struct slice rest = S(message);
	struct header_field f;
	size_t total = 0;
	int n;

	(void)state;
	for (n = 0; header_next(&rest, &f) == 1; n++) {
		assert_ptr_equal(f.raw.p, message + total);
		total += f.raw.n;
		if (n == 0) {
			assert_int_equal(f.id, HEADER_RECEIVED);
			assert_true(slice_is(f.value, "from a\r\n\tby b; date"));
		} else if (n == 3) {
			assert_true(slice_is(f.name, "Subject"));
			assert_true(slice_is(f.value, "a\r\n folded\t subject"));
		} else if (n == 4) {
			assert_true(slice_is(f.value, "<1@x>"));
		}
	}
	assert_int_equal(n, 8);
	assert_int_equal(header_next(&rest, &f), 0);
	assert_int_equal(memcmp(rest.p, "\r\nReceived: in", 14), 0);
}

static void test_next_cases(void **state)
{
	static const char *const bad[] = {"hello\r\n", "a b: c\r\n", ": x\r\n",         " a: b\r\n",
	                                  "a",         "a\r\n: b",   "\xc3\xa9: b\r\n", "\rx"};
	struct header_field f;
	struct slice s;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		s = S(bad[i]);
		assert_int_equal(header_next(&s, &f), -1);
		assert_ptr_equal(s.p, bad[i]);
	}
	s = S("A:\nB: x\n y");
	assert_int_equal(header_next(&s, &f), 1);
	assert_int_equal(f.value.n, 0);
	assert_int_equal(header_next(&s, &f), 1);
	assert_true(slice_is(f.value, "x\n y"));
	assert_int_equal(header_next(&s, &f), 0);
	s = S("\nx");
	assert_int_equal(header_next(&s, &f), 0);
}

/* ---- addresses --------------------------------------------------------------------------------
 */

static int collect(void *arg, const struct addr *a)
{
	struct buf *b = arg;
	char text[ADDR_TEXT_MAX];

	assert_int_equal(addr_format(a, text, sizeof(text)), 0);
	buf_printf(b, "%s|", text);
	return 0;
}

static int refuse(void *arg, const struct addr *a)
{
	(void)a;
	return ++*(int *)arg == 2;
}

static void test_addresses(void **state)
{
	static const struct {
		const char *in;
		int count;
		const char *want;
	} cases[] = {
	    {"", 0, ""},
	    {"a@b", 1, "a@b|"},
	    {"a", 1, "a|"},
	    {" a@b , c@d.example,", 2, "a@b|c@d.example|"},
	    {",,a@b,,", 1, "a@b|"},
	    {"<a@b>", 1, "a@b|"},
	    {"John Q. Public <jdoe@one.test>", 1, "jdoe@one.test|"},
	    /* RFC 5322 appendix A.1.2 */
	    {"Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>", 3,
	     "mary@x.test|jdoe@example.org|one@y.test|"},
	    {"<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>", 2,
	     "boss@nil.test|sysservices@example.net|"},
	    /* A.1.3 */
	    {"A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;", 3,
	     "c@a.test|joe@where.test|jdoe@one.test|"},
	    {"Undisclosed recipients:;", 0, ""},
	    /* A.5 */
	    {"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", 1,
	     "pete@silly.test|"},
	    {"A Group(Some people)\r\n     :Chris Jones <c@(Chris's host.)public.example>,\r\n"
	     "         joe@example.org,\r\n  John <jdoe@one.test> (my dear friend); (the end of "
	     "the group)",
	     3, "c@public.example|joe@example.org|jdoe@one.test|"},
	    {"(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", 0, ""},
	    /* A.6.1 and A.6.3 */
	    {"Joe Q. Public <john.q.public@example.com>", 1, "john.q.public@example.com|"},
	    {"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example", 2,
	     "mary@example.net|jdoe@test.example|"},
	    {"<@a,@b:c@d>", 1, "c@d|"},
	    {"Joe <c@d> , e . f @ g", 2, "c@d|e.f@g|"},
	    {"\"a b\"@c", 1, "\"a b\"@c|"},
	    {"\"a,b\" <c@d>", 1, "c@d|"},
	    {"a@[192.0.2.1], b@[ IPv6:::1 ]", -1, "a@[192.0.2.1]|"},
	    {"=?utf-8?q?J=C3=B6rg?= <j@x>", 1, "j@x|"},
	    {"J\xc3\xb6rg <j@x>", 1, "j@x|"},
	    {"a@b;", -1, "a@b|"},
	    {"a b", -1, ""},
	    {"a@b c@d", -1, ""},
	    {"<a@b> c", -1, "a@b|"},
	    {"<a@b", -1, ""},
	    {"<>", -1, ""},
	    {"<<a@b>>", -1, ""},
	    {"a@b>", -1, ""},
	    {"(a@b", -1, ""},
	    {"a)b@c", -1, ""},
	    {"\"a@b", -1, ""},
	    {"\"a", -1, ""},
	    {"g:a@b", -1, "a@b|"},
	    {"g:h:a@b;;", -1, ""},
	    {":a@b;", -1, ""},
	    {"a\\b@c", -1, ""},
	    {"a@b/c", -1, ""},
	    {"a@@b", -1, ""},
	    {"a..b@c", -1, ""},
	    {"a\x01@c", -1, ""},
	    {"<a:b@c>", -1, ""},
	    {"<a,b@c>", -1, ""},
	};
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 8192);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int count = header_addresses(S(cases[i].in), collect, &b);

		if (count != cases[i].count || strcmp(buf_str(&b), cases[i].want) != 0)
			fail_msg("%s -> %d %s", cases[i].in, count, buf_str(&b));
		buf_clear(&b);
	}
}

static void test_addresses_bounds(void **state)
{
	char text[4096];
	struct buf b;
	size_t n;
	int seen = 0;

	(void)state;
	buf_init(&b, 1 << 16);
	memset(text, 'x', sizeof(text));
	assert_int_equal(header_addresses((struct slice){text, sizeof(text)}, collect, &b), -1);
	/* A display name may be long, comments deep. */
	memcpy(text + sizeof(text) - 8, " <a@b>, ", 8);
	assert_int_equal(header_addresses((struct slice){text, sizeof(text)}, collect, &b), 1);
	memset(text, '(', 2048);
	memset(text + 2048, ')', 2048);
	assert_int_equal(header_addresses((struct slice){text, sizeof(text)}, collect, &b), 0);
	assert_int_equal(header_addresses((struct slice){text, 4095}, collect, &b), -1);
	for (n = 0; n + 4 <= sizeof(text); n += 4)
		memcpy(text + n, "a@b,", 4);
	assert_int_equal(header_addresses((struct slice){text, n}, collect, &b), 1024);
	assert_int_equal(header_addresses((struct slice){text, n}, refuse, &seen), -1);
	assert_int_equal(seen, 2);
	assert_int_equal(header_addresses((struct slice){"a\0@b", 4}, collect, &b), -1);
	buf_clear(&b);
}

/* ---- dates ------------------------------------------------------------------------------------
 */

static void check_date(int64_t t, int offset, const char *want)
{
	char out[HEADER_DATE_MAX];

	header_date(t, offset, out);
	assert_string_equal(out, want);
}

static void test_date(void **state)
{
	int64_t t;

	(void)state;
	check_date(0, 0, "Thu, 01 Jan 1970 00:00:00 +0000");
	check_date(1057049557, 120, "Tue, 01 Jul 2003 10:52:37 +0200");
	check_date(880127706, -360, "Fri, 21 Nov 1997 09:55:06 -0600");
	check_date(-1, 0, "Wed, 31 Dec 1969 23:59:59 +0000");
	check_date(951782400, 0, "Tue, 29 Feb 2000 00:00:00 +0000");
	check_date(978307199, 0, "Sun, 31 Dec 2000 23:59:59 +0000");
	check_date(978307200, 0, "Mon, 01 Jan 2001 00:00:00 +0000");
	check_date(1709210096, 345, "Thu, 29 Feb 2024 18:19:56 +0545");
	check_date(2147483648, -210, "Mon, 18 Jan 2038 23:44:08 -0330");
	check_date(4102444800, 0, "Fri, 01 Jan 2100 00:00:00 +0000");
	check_date(4107542400, 0, "Mon, 01 Mar 2100 00:00:00 +0000");
	check_date(INT64_MAX, 60, "Fri, 31 Dec 9999 23:59:59 +0100");
	check_date(INT64_MIN, -60, "Mon, 01 Jan 1900 00:00:00 -0100");
	check_date(0, 100000, "Thu, 01 Jan 1970 00:00:00 +0000");
	for (t = -2208988800; t < 253402300800; t += 86400 * 97 + 3607) {
		time_t tt = (time_t)t;
		struct tm tm;
		char want[64];

		if (tt != t) /* 32 bits: the C library does not know that date */
			continue;
		assert_non_null(gmtime_r(&tt, &tm));
		strftime(want, sizeof(want), "%a, %d %b %Y %H:%M:%S +0000", &tm);
		check_date(t, 0, want);
	}
}

/* ---- writing ----------------------------------------------------------------------------------
 */

static void test_protocol(void **state)
{
	(void)state;
	assert_string_equal(header_protocol(false, false, false, false), "SMTP");
	assert_string_equal(header_protocol(true, false, false, false), "ESMTP");
	assert_string_equal(header_protocol(true, true, false, false), "ESMTPS");
	assert_string_equal(header_protocol(true, false, true, false), "ESMTPA");
	assert_string_equal(header_protocol(true, true, true, false), "ESMTPSA");
	assert_string_equal(header_protocol(true, false, false, true), "UTF8SMTP");
	assert_string_equal(header_protocol(true, true, true, true), "UTF8SMTPSA");
}

static void test_received(void **state)
{
	struct header_trace t = {.helo = "client.example",
	                         .ip = "192.0.2.1",
	                         .by = "mx.example",
	                         .with = "ESMTPS",
	                         .tls = "TLSv1.2 ECDHE-ECDSA-AES128",
	                         .id = "abc",
	                         .for_addr = "a@b.example",
	                         .time = 1057049557,
	                         .offset = 120};
	struct buf b;

	(void)state;
	buf_init(&b, 8192);
	assert_int_equal(header_received(&b, &t), 0);
	assert_string_equal(buf_str(&b), "Received: from client.example ([192.0.2.1])\r\n"
	                                 "\t(TLSv1.2 ECDHE-ECDSA-AES128)\r\n"
	                                 "\tby mx.example with ESMTPS id abc\r\n"
	                                 "\tfor <a@b.example>;\r\n"
	                                 "\tTue, 01 Jul 2003 10:52:37 +0200\r\n");
	buf_clear(&b);
	t = (struct header_trace){.ip = "2001:db8::1", .by = "mx.example", .with = "SMTP"};
	assert_int_equal(header_received(&b, &t), 0);
	assert_string_equal(buf_str(&b),
	                    "Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n"
	                    "\tby mx.example with SMTP;\r\n"
	                    "\tThu, 01 Jan 1970 00:00:00 +0000\r\n");
	buf_clear(&b);
	t = (struct header_trace){.by = "mx.example", .with = "local", .id = "1"};
	assert_int_equal(header_received(&b, &t), 0);
	assert_string_equal(buf_str(&b), "Received: by mx.example with local id 1;\r\n"
	                                 "\tThu, 01 Jan 1970 00:00:00 +0000\r\n");
	buf_clear(&b);
}

static void test_received_utf8(void **state)
{
	struct header_trace t = {.by = "m", .for_addr = "\xc3\xa9@b", .with = "ESMTP"};
	struct buf b;

	(void)state;
	buf_init(&b, 8192);
	assert_int_equal(header_received(&b, &t), 0);
	assert_null(strstr(buf_str(&b), "for"));
	buf_clear(&b);
	t.with = "UTF8SMTP";
	assert_int_equal(header_received(&b, &t), 0);
	assert_non_null(strstr(buf_str(&b), "for <\xc3\xa9@b>;"));
	buf_clear(&b);
}

/* One field, whatever the text: scan it and see. */
static void check_one_field(struct buf *b)
{
	struct slice rest = buf_slice(b);
	struct header_field f;
	struct header_scan h;

	assert_int_equal(header_next(&rest, &f), 1);
	assert_int_equal(rest.n, 0);
	header_scan_init(&h);
	header_scan_feed(&h, buf_slice(b));
	header_scan_end(&h);
	assert_false(h.malformed);
	assert_true(h.longest <= 998);
	assert_int_equal(h.size, b->len);
	assert_null(memchr(buf_data(b), '\0', b->len));
}

static void test_received_hostile(void **state)
{
	struct buf b;
	char text[1000];
	int c;

	(void)state;
	for (c = 1; c < 256; c++) {
		char s[] = {'a', (char)c, (char)c, '\n', 'X', ':', 'y', '\0'};
		struct header_trace t = {
		    .helo = s, .ip = s, .by = s, .with = s, .tls = s, .id = s, .for_addr = s};

		buf_init(&b, 8192);
		assert_int_equal(header_received(&b, &t), 0);
		check_one_field(&b);
		assert_null(strstr(buf_str(&b), "for"));
		if (strchr("()<>;@, \t\r\n\\\"", c))
			assert_non_null(strstr(buf_str(&b), "Received: from a??"));
		buf_clear(&b);
	}
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	for (c = 0; c < 2; c++) {
		struct header_trace t = {.helo = text,
		                         .ip = text,
		                         .by = text,
		                         .with = text,
		                         .tls = text,
		                         .id = text,
		                         .for_addr = text};

		buf_init(&b, c ? 8192 : 500);
		assert_int_equal(header_received(&b, &t), c ? 0 : -1);
		if (c)
			check_one_field(&b);
		buf_clear(&b);
	}
}

static void test_write(void **state)
{
	struct buf b;
	char text[5000];
	size_t i;

	(void)state;
	buf_init(&b, 16384);
	header_write(&b, "Subject", S(" a  b\r\n c\td "));
	header_write(&b, "X", S(""));
	header_write(&b, "To", S("a\r\nBcc: x@y\r\n\r\nbody\x01\xff"));
	assert_string_equal(buf_str(&b), "Subject: a b c d\r\nX:\r\nTo: a Bcc: x@y body??\r\n");
	buf_clear(&b);
	for (i = 0; i < sizeof(text); i++)
		text[i] = i % 10 == 9 ? ' ' : 'x';
	header_write(&b, "References", (struct slice){text, 500});
	check_one_field(&b);
	for (i = 0; i < b.len;) {
		const char *line = buf_str(&b) + i;
		size_t n = (size_t)(strchr(line, '\n') - line) - 1;

		assert_true(n <= 78 && n >= 10);
		i += n + 2;
	}
	buf_clear(&b);
	for (i = 0; i + 3 < sizeof(text); i += 3)
		memcpy(text + i, "\xe2\x82\xac", 3);
	header_write(&b, "Message-ID", (struct slice){text, i});
	check_one_field(&b);
	assert_null(strchr(buf_str(&b), '?'));
	buf_clear(&b);
	buf_init(&b, 20);
	assert_int_equal(header_write(&b, "Subject", S("a text too long for it")), -1);
	buf_clear(&b);
}

static void test_write_every_byte(void **state)
{
	struct buf b;
	int c;

	(void)state;
	buf_init(&b, 4096);
	for (c = 0; c < 256; c++) {
		char text[] = {'a', (char)c, 'b', '\r', (char)c, '\n', (char)c, 'X', ':', (char)c};

		assert_int_equal(header_write(&b, "X", (struct slice){text, sizeof(text)}), 0);
		check_one_field(&b);
		buf_clear(&b);
	}
}

static void test_text(void **state)
{
	char out[12];

	(void)state;
	assert_int_equal(header_text(S("a\r\n\xc3\xa9\xe2\x82\xac\x80z"), false, out, sizeof(out)),
	                 7);
	assert_string_equal(out, "a  ???z");
	assert_int_equal(header_text(S("\xc3\xa9\xe2\x82\xac"), true, out, sizeof(out)), 5);
	assert_string_equal(out, "\xc3\xa9\xe2\x82\xac");
	assert_int_equal(header_text(S("0123456789"), false, out, 10), 9);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_scan),
	    cmocka_unit_test(test_scan_cases),
	    cmocka_unit_test(test_scan_utf8),
	    cmocka_unit_test(test_scan_capture_bound),
	    cmocka_unit_test(test_scan_hostile_capture),
	    cmocka_unit_test(test_next),
	    cmocka_unit_test(test_next_cases),
	    cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_addresses_bounds),
	    cmocka_unit_test(test_date),
	    cmocka_unit_test(test_protocol),
	    cmocka_unit_test(test_received),
	    cmocka_unit_test(test_received_utf8),
	    cmocka_unit_test(test_received_hostile),
	    cmocka_unit_test(test_write),
	    cmocka_unit_test(test_write_every_byte),
	    cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
