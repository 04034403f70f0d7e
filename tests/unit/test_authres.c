/*
 * Unit tests of authres: fields written, also with hostile parts; fields in our name taken out of
 * messages cut anywhere, and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "authres.h"

/* ---- writing -------------------------------------------------------------------------------- */

static const struct authres_spf good = {
    .result = "pass",
    .identity = "mailfrom",
    .mailfrom = "user@dom.test",
    .helo = "client.test",
    .client_ip = "192.0.2.1",
    .mechanism = "mx",
};

/* Compares, and empties. Folding is left out of it. */
static void unfolded(struct buf *out, const char *want)
{
	char *p = buf_data(out);
	size_t n = 0;
	for (size_t i = 0; i < out->len; i++)
		if (out->len - i < 3 || memcmp(p + i, "\r\n ", 3) != 0)
			p[n++] = p[i];
		else
			i++;
	buf_truncate(out, n);
	if (strcmp(buf_str(out), want) != 0)
		fail_msg("%s", buf_str(out));
	buf_clear(out);
}

static void written(const struct authres_spf *spf, const char *results, const char *received)
{
	struct buf out;
	buf_init(&out, 1 << 16);
	assert_int_equal(authres_write(&out, "here.test", spf), 0);
	unfolded(&out, results);
	assert_int_equal(authres_write_received_spf(&out, "here.test", spf), 0);
	unfolded(&out, received);
}

static void test_write(void **state)
{
	struct authres_spf spf = good;
	(void)state;
	written(&spf, "Authentication-Results: here.test; spf=pass smtp.mailfrom=user@dom.test\r\n",
	        "Received-SPF: pass receiver=here.test; client-ip=192.0.2.1;"
	        " envelope-from=\"user@dom.test\"; helo=client.test; identity=mailfrom;"
	        " mechanism=mx\r\n");
	spf.identity = "helo";
	spf.mailfrom = "<>";
	spf.client_ip = "2001:db8::1";
	spf.reason = "fine (really\\!)";
	written(&spf,
	        "Authentication-Results: here.test; spf=pass (fine ?really?!?)"
	        " smtp.helo=client.test\r\n",
	        "Received-SPF: pass (here.test: fine ?really?!?) receiver=here.test;"
	        " client-ip=\"2001:db8::1\"; helo=client.test; identity=helo; mechanism=mx\r\n");
	/* Dots in odd places make a quoted string. */
	spf = (struct authres_spf){.result = "none",
	                           .identity = "helo",
	                           .helo = "a.b.",
	                           .problem = "a..b",
	                           .mechanism = ".a"};
	written(&spf, "Authentication-Results: here.test; spf=none smtp.helo=\"a.b.\"\r\n",
	        "Received-SPF: none receiver=here.test; helo=\"a.b.\"; identity=helo;"
	        " mechanism=\".a\"; problem=\"a..b\"\r\n");
	/* Parts may be missing. */
	written(&(struct authres_spf){.result = "none"},
	        "Authentication-Results: here.test; spf=none\r\n",
	        "Received-SPF: none receiver=here.test\r\n");
}

static void test_write_hostile(void **state)
{
	struct authres_spf spf = {
	    .result = "permerror",
	    .mailfrom = "\"a\\\"b\r\nX: y\"@d.test",
	    .helo = "x; spf=pass\r\n\r\n(\"\\",
	    .problem = "\x80\x01\xc3\xbc \"q\"",
	};
	struct buf out;
	(void)state;
	written(&spf,
	        "Authentication-Results: here.test; spf=permerror smtp.mailfrom=\"\\\"a\\\\\\\"b"
	        " X: y\\\"@d.test\"\r\n",
	        "Received-SPF: permerror receiver=here.test; envelope-from=\"\\\"a\\\\\\\"b X:"
	        " y\\\"@d.test\"; helo=\"x; spf=pass (\\\"\\\\\"; problem=\"??? \\\"q\\\"\"\r\n");
	/* Long parts stay within the limits of lines and of the value. */
	static char huge[5000];
	memset(huge, '"', sizeof huge - 1);
	spf = (struct authres_spf){huge, huge, huge, huge, huge, huge, huge, huge};
	spf.result = "none";
	buf_init(&out, 1 << 16);
	assert_int_equal(authres_write(&out, "here.test", &spf), 0);
	assert_int_equal(authres_write_received_spf(&out, "here.test", &spf), 0);
	for (struct slice s = buf_slice(&out); s.n > 0;) {
		const char *lf = memchr(s.p, '\n', s.n);
		assert_non_null(lf);
		assert_true(lf - s.p < 999);
		s.n -= (size_t)(lf - s.p) + 1;
		s.p = lf + 1;
	}
	buf_clear(&out);
	/* No room. */
	buf_init(&out, 50);
	assert_int_equal(authres_write(&out, "here.test", &good), -1);
	assert_true(out.failed);
	buf_clear(&out);
}

#if WITH_IDN
static void test_write_idn(void **state)
{
	struct authres_spf spf = good;
	(void)state;
	spf.mailfrom = "\xc3\xa9@m\xc3\xbcll.test";
	spf.mechanism = NULL;
	spf.client_ip = NULL;
	written(&spf,
	        "Authentication-Results: here.test; spf=pass"
	        " smtp.mailfrom=\"?@xn--mll-hoa.test\"\r\n",
	        "Received-SPF: pass receiver=here.test; envelope-from=\"?@xn--mll-hoa.test\";"
	        " helo=client.test; identity=mailfrom\r\n");
}
#endif

/* ---- the filter ----------------------------------------------------------------------------- */

static void take(void *arg, const char *p, size_t n)
{
	assert_true(n > 0);
	assert_int_equal(buf_append(arg, p, n), 0);
}

/* Feeds in pieces of `step`, the first of `cut` bytes. */
static size_t filter(struct slice in, size_t cut, size_t step, const char *name, struct buf *out)
{
	struct authres_filter f;
	buf_init(out, 1 << 24);
	authres_filter_init(&f, name, take, out);
	for (size_t at = 0; at < in.n;) {
		size_t n = at == 0 && cut > 0 ? cut : step;
		if (n > in.n - at)
			n = in.n - at;
		authres_filter_feed(&f, in.p + at, n);
		at += n;
	}
	authres_filter_end(&f);
	authres_filter_clear(&f);
	return f.removed;
}

/* Field by field: goes, or stays. Each stands between two others. */
static const char *const goes[] = {
    "Authentication-Results: here.test; spf=pass\r\n",
    "Authentication-Results:here.test;none\r\n",
    "authentication-results: HERE.Test; none\r\n",
    "Authentication-Results : here.test; none\r\n",
    "Authentication-Results\t \t:\there.test ; none\r\n",
    "Authentication-Results:\r\n\there.test;\r\n spf=pass\r\n",
    "Authentication-Results:\r\n \r\n here.test;\r\n spf=pass\r\n",
    "Authentication-Results\r\n : here.test; spf=pass\r\n",
    "Authentication-Results: here.test\r\n",
    "Authentication-Results: here.test 1; none\r\n",
    "Authentication-Results: here.test (c) 1 (d); none\r\n",
    "Authentication-Results: (a comment) here.test; none\r\n",
    "Authentication-Results: (a (nested \\) one) ) (b)\r\n\t(c)here.test; none\r\n",
    "Authentication-Results: \"here.test\"; none\r\n",
    "Authentication-Results: \"he\\re.te\\st\" ; none\r\n",
    "Authentication-Results: here.test.; none\r\n",
    "Authentication-Results: here.test..; none\r\n",
    "Authentication-Results: \" here.test\t\"; none\r\n",
    "Authentication-Results: here.test\xc2\xa0; none\r\n",
    "Authentication-Results: \xef\xbb\xbfhere.test\xe2\x80\xa8; none\r\n",
    /* Nobody can tell whose these are. */
    "Authentication-Results:\r\n",
    "Authentication-Results: ; spf=pass\r\n",
    "Authentication-Results: spf=pass smtp.mailfrom=a@b.test\r\n",
    "Authentication-Results: (here.test; none\r\n",
    "Authentication-Results: \"here.test; none\r\n",
    "Authentication-Results: here(x).test; none\r\n",
    "Authentication-Results: x y; none\r\n",
    "Authentication-Results: =?us-ascii?q?here.test?=; none\r\n",
    "Authentication-Results: x\0here.test; none\r\n",
    "Authentication-Results: \x01here.test; none\r\n",
    "Received-SPF: pass (here.test: domain of a@b designates) client-ip=1.2.3.4\r\n",
    "Received-SPF: pass ( HERE.test ) x=y\r\n",
    "Received-SPF: pass (x) (\\here.test: y)\r\n",
    "Received-SPF: pass (fine) receiver=here.test; client-ip=1.2.3.4\r\n",
    "received-spf: pass client-ip=1.2.3.4; RECEIVER = (us) \"here.test\"; x=y\r\n",
    "Received-SPF: pass\r\n client-ip=1.2.3.4;\r\n\treceiver\r\n =\r\n here.test;\r\n",
    "Received-SPF: pass receiver=<here.test>\r\n",
    "Received-SPF: pass (receiver=there.test\r\n",
    "Received-SPF: pass \"receiver=there.test\r\n",
};

static const char *const stays[] = {
    "Authentication-Results: there.test; spf=pass\r\n",
    "Authentication-Results: x.here.test; spf=pass\r\n",
    "Authentication-Results: here.test.example; spf=pass\r\n",
    "Authentication-Results: there.test (here.test); x=pass (here.test;)\r\n",
    "Authentication-Results: there.test 1;\r\n\tspf=pass smtp.mailfrom=here.test\r\n",
    "Authentication-Results: \"there.test; here.test\"; none\r\n",
    "Authentication-Results: (a (b) c) there.test; none\r\n",
    "Authentication-Results: (a (b) here.test; \\) (c)) there.test (d (e)) ; none\r\n",
    "X-Authentication-Results: here.test; spf=pass\r\n",
    "Authentication-Results-X: here.test; spf=pass\r\n",
    "Authentication-Result: here.test; spf=pass\r\n",
    "Authentication-Results\r\n",
    "Authentication-Results here.test\r\n",
    "A: b\r\n",
    "Subject: x\r\n Authentication-Results: here.test; none\r\n",
    "Received: by here.test\r\n",
    "Received-SPF: pass (there.test: domain of a@here.test) receiver=there.test\r\n",
    "Received-SPF: pass (there.test: receiver=here.test)\r\n",
    "Received-SPF: pass receiver=there.test; helo=\"x; receiver=here.test\"\r\n",
    "Received-SPF: pass x-receiver=here.test; helo=receiver\r\n",
    "Received-SPF: pass receiver=here.test.example\r\n",
    "Received-SPF: pass receiver=<UNKNOWN>\r\n",
    "Received-SPFX: pass receiver=here.test\r\n",
    "no field at all\r\n",
    "R\r\n",
};

/* The length of a case: one holds a NUL, all but its end. */
static size_t case_size(const char *text)
{
	size_t n = strlen(text);
	return text[n - 1] == '\n' ? n : n + 1 + strlen(text + n + 1);
}

static void check_field(const char *text, bool stay, bool lf)
{
	static const char before[] = "From: a@b.test\r\n";
	static const char after[] =
	    "To: c@d.test\r\n\r\nAuthentication-Results: here.test; body\r\n";
	struct buf in;
	struct buf want;
	struct buf got;
	buf_init(&in, 1 << 16);
	buf_init(&want, 1 << 16);
	buf_puts(&in, before);
	buf_append(&in, text, case_size(text));
	buf_puts(&in, after);
	buf_puts(&want, before);
	if (stay)
		buf_append(&want, text, case_size(text));
	buf_puts(&want, after);
	for (struct buf *b = &in; lf; b = &want) {
		size_t n = 0;
		char *p = buf_data(b);
		for (size_t i = 0; i < b->len; i++)
			if (p[i] != '\r')
				p[n++] = p[i];
		buf_truncate(b, n);
		if (b == &want)
			break;
	}
	for (size_t cut = 0; cut < in.len; cut++) {
		size_t removed = filter(buf_slice(&in), cut, cut ? in.len : 1, "here.test", &got);
		if (removed != !stay || got.len != want.len ||
		    memcmp(buf_data(&got), buf_data(&want), got.len) != 0)
			fail_msg("%s (cut %zu, removed %zu) became %s", text, cut, removed,
			         buf_str(&got));
		buf_clear(&got);
	}
	buf_clear(&in);
	buf_clear(&want);
}

static void test_fields(void **state)
{
	(void)state;
	for (int lf = 0; lf < 2; lf++) {
		for (size_t i = 0; i < sizeof goes / sizeof goes[0]; i++)
			check_field(goes[i], false, lf);
		for (size_t i = 0; i < sizeof stays / sizeof stays[0]; i++)
			check_field(stays[i], true, lf);
	}
}

/* Messages of odd shapes: their ends, their beginnings. */
static void test_shapes(void **state)
{
#define AR "Authentication-Results: here.test; none\r\n"
	static const struct {
		const char *in;
		const char *want;
	} cases[] = {
	    {"", ""},
	    {AR, ""},
	    {AR AR AR, ""},
	    {AR "\r\n" AR, "\r\n" AR},
	    {"\r\n" AR, "\r\n" AR},
	    {"\n" AR, "\n" AR},
	    {" " AR AR, " " AR},
	    {" \r\n" AR "x", " \r\nx"},
	    /* Behind a line that is no field some still look for fields. */
	    {"nothing\r\n" AR "\r\n" AR, "nothing\r\n\r\n" AR},
	    {"Authentication-Results: here.test; none", ""},
	    {"Authentication-Results", "Authentication-Results"},
	    {"Authentication-Results ", "Authentication-Results "},
	    {"Authentication-Resul", "Authentication-Resul"},
	    {"\r", "\r"},
	    {"\rAuthentication-Results: here.test\r\n", "\rAuthentication-Results: here.test\r\n"},
	    {"A: b\r\n" AR " more\r\n\tand more\r\n" AR "C: d\r\n e\r\n", "A: b\r\nC: d\r\n e\r\n"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct slice in = slice_of(cases[i].in);
		for (size_t cut = 0; cut <= in.n; cut++) {
			struct buf got;
			filter(in, cut, cut ? in.n : 1, "here.test", &got);
			assert_string_equal(buf_str(&got), cases[i].want);
			buf_clear(&got);
		}
	}
}

/* A field past the limit goes whosever it is; one of another name may be of any size. */
static void test_long(void **state)
{
	static const char end[] = "Subject: x\r\n\r\n";
	static const struct {
		const char *name;
		size_t size; /* of the field */
		bool folded;
		bool stays;
	} cases[] = {
	    {"Authentication-Results: there.test;", AUTHRES_FIELD_MAX, false, true},
	    {"Authentication-Results: there.test;", AUTHRES_FIELD_MAX, true, true},
	    {"Authentication-Results: there.test;", AUTHRES_FIELD_MAX + 1, false, false},
	    {"Authentication-Results: there.test;", AUTHRES_FIELD_MAX + 1, true, false},
	    {"Authentication-Results: here.test;", 10240, true, false},
	    {"Received-SPF: pass receiver=there.test;", 1 << 20, true, false},
	    {"Authentication-Results ", 10240, false, false},
	    {"Authentication-Result: here.test;", 1 << 20, false, true},
	    {"Authentication-Result: here.test;", 1 << 20, true, true},
	};
	static const size_t steps[] = {1, 7, 1000, 8192, 1 << 22};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct buf in;
		buf_init(&in, 1 << 22);
		buf_puts(&in, cases[i].name);
		while (in.len < cases[i].size - 2)
			buf_puts(&in,
			         cases[i].folded && in.len % 50 == 0 && in.len + 6 < cases[i].size
			             ? "\r\n\t"
			             : "x");
		buf_puts(&in, "\r\n");
		assert_int_equal(in.len, cases[i].size);
		buf_puts(&in, end);
		for (size_t j = 0; j < sizeof steps / sizeof steps[0]; j++) {
			struct buf got;
			size_t removed = filter(buf_slice(&in), 0, steps[j], "here.test", &got);
			if (removed != !cases[i].stays)
				fail_msg("case %zu, pieces of %zu", i, steps[j]);
			if (cases[i].stays)
				assert_memory_equal(buf_data(&got), buf_data(&in), in.len);
			else
				assert_string_equal(buf_str(&got), end);
			buf_clear(&got);
		}
		buf_clear(&in);
	}
}

#if WITH_IDN
static void test_idn(void **state)
{
	static const char *const ids[] = {
	    "xn--mll-hoa.test",
	    "XN--MLL-HOA.TEST.",
	    "m\xc3\xbcll.test",
	    "\"M\xc3\x9cLL.test\"",
	    "mu\xcc\x88ll.test",
	    "\xef\xbd\x8d\xc3\xbcll.test",
	    "m\xc3\xbcll\xe3\x80\x82test",
	    "m\xc2\xad\xc3\xbcll.test",
	};
	(void)state;
	for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
		char in[200];
		struct buf got;
		snprintf(in, sizeof in,
		         "Authentication-Results: %s; none\r\nReceived-SPF: pass receiver=%s\r\n"
		         "Received-SPF: pass (%.*s: x)\r\n",
		         ids[i], ids[i], (int)strcspn(ids[i] + (ids[i][0] == '"'), "\""),
		         ids[i] + (ids[i][0] == '"'));
		if (filter(slice_of(in), 0, 1, "xn--mll-hoa.test", &got) != 3)
			fail_msg("%s", in);
		assert_int_equal(got.len, 0);
		buf_clear(&got);
	}
}
#endif

/* The body comes out in the pieces it went in. */
static void count_pieces(void *arg, const char *p, size_t n)
{
	(void)p;
	if (n > 0)
		++*(unsigned *)arg;
}

static void test_body(void **state)
{
	static char body[65536];
	struct authres_filter f;
	unsigned pieces = 0;
	(void)state;
	memset(body, '\n', sizeof body);
	authres_filter_init(&f, "here.test", count_pieces, &pieces);
	authres_filter_feed(&f, "A: b\r\n\r\n", 8);
	pieces = 0;
	for (int i = 0; i < 10; i++)
		authres_filter_feed(&f, body, sizeof body);
	assert_int_equal(pieces, 10);
	authres_filter_end(&f);
	assert_int_equal(pieces, 10);
	authres_filter_clear(&f);
	memset(&f, 0, sizeof f);
	authres_filter_clear(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_write_hostile),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_body),
#if WITH_IDN
		cmocka_unit_test(test_write_idn),
		cmocka_unit_test(test_idn),
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
