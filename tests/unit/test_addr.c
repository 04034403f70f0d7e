/* Unit tests of addr: paths, domains, literals, formatting, keys; nothing odd becomes a name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "addr.h"

#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X63 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

struct path_case {
	const char *in;
	const char *user; /* NULL: refused, and domain is the enhanced code */
	const char *domain;
	const char *rest;
};

static void check_paths(const struct path_case *cases, size_t n, enum addr_path kind)
{
	struct status st;
	struct slice rest;
	struct addr a;
	size_t i;

	for (i = 0; i < n; i++) {
		int rc = addr_parse_path(slice_of(cases[i].in), kind, &a, &rest, &st);

		if (!cases[i].user) {
			char enh[16];

			if (rc == 0)
				fail_msg("taken: %s", cases[i].in);
			snprintf(enh, sizeof(enh), "%d.%d.%d", st.enh[0], st.enh[1], st.enh[2]);
			assert_int_equal(st.code, strcmp(enh, "5.6.7") == 0 ? 553 : 501);
			assert_string_equal(enh, cases[i].domain);
			assert_true(addr_is_null(&a));
			continue;
		}
		if (rc != 0)
			fail_msg("refused: %s", cases[i].in);
		assert_string_equal(a.user, cases[i].user);
		assert_string_equal(a.domain, cases[i].domain);
		assert_true(slice_is(rest, cases[i].rest));
	}
}

static void test_path_good(void **state)
{
	static const struct path_case cases[] = {
		{"<a@b.example>", "a", "b.example", ""},
		{" \t<a@b> SIZE=10 BODY=8BITMIME", "a", "b", "SIZE=10 BODY=8BITMIME"},
		{"<A.b@EXAMPLE.Com.>", "A.b", "example.com", ""},
		{"a@b", "a", "b", ""},
		{"a@b  SIZE=3", "a", "b", "SIZE=3"},
		{"<@x.example,@[1.2.3.4]:a@b>", "a", "b", ""},
		{"<\"a b\"@c>", "a b", "c", ""},
		{"<\"a\\\"b\\\\c\"@d>", "a\"b\\c", "d", ""},
		{"<\"\\a\"@d>", "a", "d", ""},
		{"<\"a@b>c\"@d> X", "a@b>c", "d", "X"},
		{"<\"..\"@d>", "..", "d", ""},
		{"<a/b@d>", "a/b", "d", ""},
		{"<!#$%&'*+-/=?^_`{|}~0@d>", "!#$%&'*+-/=?^_`{|}~0", "d", ""},
		{"<a@[192.0.2.1]>", "a", "[192.0.2.1]", ""},
		{"<a@[ipv6:2001:DB8:0:0::1]>", "a", "[IPv6:2001:db8::1]", ""},
		{"<a@[IPv6:::ffff:192.0.2.1]>", "a", "[IPv6:::ffff:192.0.2.1]", ""},
		{"<" X64 "@b>", X64, "b", ""},
		{"<a@" X63 ".b>", "a", X63 ".b", ""},
		{"<-f@b>", "-f", "b", ""},
		{"<a@my_host.b>", "a", "my_host.b", ""},
#if WITH_IDN
		{"<\xc3\x89@b>", "\xc3\x89", "b", ""}, /* as it was written */
		{"<a@XN--BCHER-KVA.example>", "a",
		 "b\xc3\xbc"
		 "cher.example",
		 ""},
		{"<a@B\xc3\x9c"
		 "CHER.example>",
		 "a",
		 "b\xc3\xbc"
		 "cher.example",
		 ""},
		{"<a@bu\xcc\x88"
		 "cher.example>",
		 "a",
		 "b\xc3\xbc"
		 "cher.example",
		 ""},
#else
		{"<a@XN--BCHER-KVA.example>", "a", "xn--bcher-kva.example", ""},
#endif
	};

	(void)state;
	check_paths(cases, sizeof(cases) / sizeof(cases[0]), ADDR_MAIL);
	check_paths(cases, sizeof(cases) / sizeof(cases[0]), ADDR_RCPT);
}

static void test_path_bad(void **state)
{
	static const struct path_case cases[] = {
		{"", NULL, "5.1.7", ""},
		{"  ", NULL, "5.1.7", ""},
		{"<", NULL, "5.1.7", ""},
		{">", NULL, "5.1.7", ""},
		{"<a", NULL, "5.1.8", ""},
		{"<a>", NULL, "5.1.8", ""},
		{"<postmaster>", NULL, "5.1.8", ""},
		{"<a@b", NULL, "5.1.7", ""},
		{"a@b>", NULL, "5.1.7", ""},
		{"<a@b>SIZE=1", NULL, "5.1.7", ""},
		{"<a@b>>", NULL, "5.1.7", ""},
		{"<<a@b>>", NULL, "5.1.7", ""},
		{"< a@b>", NULL, "5.1.7", ""},
		{"<a@b >", NULL, "5.1.7", ""},
		{"<a b@c>", NULL, "5.1.8", ""},
		{"<a@b@c>", NULL, "5.1.8", ""},
		{"<@b>", NULL, "5.1.7", ""},
		{"<\"\"@b>", NULL, "5.1.7", ""},
		{"<\"a@b>", NULL, "5.1.7", ""},
		{"<\"a\\", NULL, "5.1.7", ""},
		{"<\"a\"b@c>", NULL, "5.1.8", ""},
		{"<.a@b>", NULL, "5.1.7", ""},
		{"<a.@b>", NULL, "5.1.7", ""},
		{"<a..b@c>", NULL, "5.1.7", ""},
		{"<..@c>", NULL, "5.1.7", ""},
		{"<a(c)@b>", NULL, "5.1.8", ""},
		{"<x" X64 "@b>", NULL, "5.1.7", ""},
		{"<\"x" X64 "\"@b>", NULL, "5.1.7", ""},
		{"<a@x" X63 ">", NULL, "5.1.8", ""},
		{"<a@>", NULL, "5.1.8", ""},
		{"<a@.>", NULL, "5.1.8", ""},
		{"<a@..>", NULL, "5.1.8", ""},
		{"<a@../../etc>", NULL, "5.1.8", ""},
		{"<a@b/c>", NULL, "5.1.8", ""},
		{"<a@b..c>", NULL, "5.1.8", ""},
		{"<a@.b>", NULL, "5.1.8", ""},
		{"<a@b..>", NULL, "5.1.8", ""},
		{"<a@-b>", NULL, "5.1.8", ""},
		{"<a@b->", NULL, "5.1.8", ""},
		{"<a@b%c>", NULL, "5.1.8", ""},
		{"<a@[1.2.3]>", NULL, "5.1.8", ""},
		{"<a@[1.2.3.256]>", NULL, "5.1.8", ""},
		{"<a@[::1]>", NULL, "5.1.8", ""},
		{"<a@[IPv6:1.2.3.4]>", NULL, "5.1.8", ""},
		{"<a@[IPv6:fe80::1%eth0]>", NULL, "5.1.8", ""},
		{"<a@[x:y]>", NULL, "5.1.8", ""},
		{"<a@[]>", NULL, "5.1.8", ""},
		{"<a@[1.2.3.4>", NULL, "5.1.8", ""},
		{"<a@[1.2.3.4]x>", NULL, "5.1.7", ""},
		{"<@a b@c>", NULL, "5.1.7", ""},
		{"<@a,b@c>", NULL, "5.1.7", ""},
		{"<@a:>", NULL, "5.1.7", ""},
		{"<@a/b:c@d>", NULL, "5.1.8", ""},
		{"<a\n@b>", NULL, "5.1.7", ""},
		{"<a@b\n>", NULL, "5.1.8", ""},
		{"<a@b\x7f>", NULL, "5.1.8", ""},
		{"<a@b> \x01", NULL, "5.1.7", ""},
		{"<a@b> \xff", NULL, "5.1.7", ""},
		{"<@\xff:a@b>", NULL, "5.1.8", ""},
		{"<\"a\r\nb\"@c>", NULL, "5.1.7", ""},
		{"<\"a\\\nb\"@c>", NULL, "5.1.7", ""},
		{"<a\x7f@b>", NULL, "5.1.7", ""},
		{"<\xff@b>", NULL, "5.1.7", ""},
		{"<\xc0\xaf@b>", NULL, "5.1.7", ""},
		{"<\xed\xa0\x80@b>", NULL, "5.1.7", ""},
		{"<\xc2\x85@b>", NULL, "5.1.7", ""},
		{"<a@\xff>", NULL, "5.1.8", ""},
		{"<a@\xc0\xae>", NULL, "5.1.8", ""},
		{"<a@\xed\xa0\x80>", NULL, "5.1.8", ""},
		{"<a@\xf4\x90\x80\x80>", NULL, "5.1.8", ""},
		{"<\"\xff\"@b>", NULL, "5.1.7", ""},
		{"<\"a\\\xff\"@b>", NULL, "5.1.7", ""},
#if WITH_IDN
		{"<a@xn--a>", NULL, "5.1.8", ""},
		{"<a@xn--example->", NULL, "5.1.8", ""},
		{"<a@b\xef\xbc\x8f"
		 "c>",
		 NULL, "5.1.8", ""},                                 /* wide '/' */
		{"<a@\xe3\x80\x82\xe3\x80\x82>", NULL, "5.1.8", ""}, /* ideographic full stops */
		{"<a@\xc2\xad>", NULL, "5.1.8", ""},                 /* soft hyphen alone */
#else
		{"<a@b\xc3\xbc"
		 "cher.example>",
		 NULL, "5.6.7", ""},
		{"<\xc3\xa9@b>", NULL, "5.6.7", ""},
		{"<\"\xc3\xa9 \"@b>", NULL, "5.6.7", ""},
		{"<@\xc3\xa9:a@b>", NULL, "5.6.7", ""},
#endif
	};

	(void)state;
	check_paths(cases, sizeof(cases) / sizeof(cases[0]), ADDR_MAIL);
}

static void test_path_special(void **state)
{
	static const struct path_case mail[] = {
	    {"<>", "", "", ""},
	    {" <> SIZE=1", "", "", "SIZE=1"},
	    {"<>x", NULL, "5.1.7", ""},
	};
	static const struct path_case rcpt[] = {
	    {"<>", NULL, "5.1.3", ""},
	    {"<a>", NULL, "5.1.2", ""},
	    {"<a b>", NULL, "5.1.2", ""},
	    {"<a@b c>", NULL, "5.1.3", ""},
	    {"<postmaster>", "postmaster", "", ""},
	    {"<PostMaster> X=1", "postmaster", "", "X=1"},
	    {"postmaster", "postmaster", "", ""},
	    {"<Postmaster@B>", "Postmaster", "b", ""},
	};

	(void)state;
	check_paths(mail, sizeof(mail) / sizeof(mail[0]), ADDR_MAIL);
	check_paths(rcpt, sizeof(rcpt) / sizeof(rcpt[0]), ADDR_RCPT);
}

/* The code names the part that holds the NUL. */
static void test_path_nul(void **state)
{
	static const struct {
		const char *in;
		int enh;
	} cases[] = {{"<a\0b@c>", 7}, {"<\"\0b\"@c>", 7}, {"<ab@c\0d>", 8}, {"<a@b> \0X", 7}};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct status st;
		struct slice rest;
		struct addr a;
		size_t n = strlen(cases[i].in);

		n += 1 + strlen(cases[i].in + n + 1);
		assert_int_equal(
		    addr_parse_path((struct slice){cases[i].in, n}, ADDR_MAIL, &a, &rest, &st), -1);
		assert_int_equal(st.code, 501);
		assert_int_equal(st.enh[2], cases[i].enh);
	}
}

/* Each byte value in each part: what is taken has no control character and formats back. */
static void test_path_every_byte(void **state)
{
	static const size_t places[] = {2, 5, 7};
	size_t i;
	int c;

	(void)state;
	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		for (c = 0; c < 256; c++) {
			char in[] = "<aab@cde>";
			struct status st;
			struct slice rest;
			struct addr a;
			int rc;

			in[places[i]] = (char)c;
			rc = addr_parse_path((struct slice){in, 9}, ADDR_MAIL, &a, &rest, &st);
			if (c < 32 || c > 126)
				assert_int_equal(rc, -1);
			if (rc == 0 && places[i] == 7)
				assert_true((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
				            (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
				            c == '.');
		}
	}
	for (c = 1; c < 256; c++) {
		char in[] = "\"x\\yz\"@cde";
		struct addr a;
		int rc;

		in[3] = (char)c;
		rc = addr_parse((struct slice){in, 10}, &a);
		assert_int_equal(rc, c < 32 || c > 126 ? -1 : 0);
		if (rc == 0)
			assert_int_equal(a.user[1], c);
	}
}

static void test_format(void **state)
{
	static const struct {
		struct addr a;
		const char *want;
	} cases[] = {
		{{"", ""}, "<>"},
		{{"postmaster", ""}, "postmaster"},
		{{"a.b+c", "d.example"}, "a.b+c@d.example"},
		{{"a b", "d"}, "\"a b\"@d"},
		{{"a\"b\\c", "d"}, "\"a\\\"b\\\\c\"@d"},
		{{".a", "d"}, "\".a\"@d"},
		{{"a.", "d"}, "\"a.\"@d"},
		{{"a..b", "d"}, "\"a..b\"@d"},
		{{"a@b", "d"}, "\"a@b\"@d"},
		{{"<>", "d"}, "\"<>\"@d"},
#if WITH_IDN
		{{"\xc3\xa9", "d"}, "\xc3\xa9@d"},
#endif
		{{"a", "[IPv6:::1]"}, "a@[IPv6:::1]"},
	};
	char out[ADDR_TEXT_MAX];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct addr back;
		size_t n;

		assert_int_equal(addr_format(&cases[i].a, out, sizeof(out)), 0);
		assert_string_equal(out, cases[i].want);
		if (strchr(out, '@')) {
			assert_int_equal(addr_parse(slice_of(out), &back), 0);
			assert_string_equal(back.user, cases[i].a.user);
			assert_string_equal(back.domain, cases[i].a.domain);
		}
		n = strlen(cases[i].want);
		assert_int_equal(addr_format(&cases[i].a, out, n + 1), 0);
		assert_int_equal(addr_format(&cases[i].a, out, n), -1);
		assert_string_equal(out, "");
		assert_int_equal(addr_format(&cases[i].a, out, 0), -1);
	}
}

static void test_format_wire(void **state)
{
	struct addr a = {"a b", "x.example"};
	struct addr null = {"", ""};
	struct addr utf8 = {"\xc3\xa9", "x.example"};
	char out[ADDR_TEXT_MAX];

	(void)state;
	assert_int_equal(addr_format_wire(&a, false, out, sizeof(out)), 0);
	assert_string_equal(out, "<\"a b\"@x.example>");
	assert_int_equal(addr_format_wire(&null, false, out, sizeof(out)), 0);
	assert_string_equal(out, "<>");
	assert_int_equal(addr_format_wire(&utf8, false, out, sizeof(out)), -1);
	assert_int_equal(addr_format_wire(&utf8, true, out, sizeof(out)), 0);
	assert_string_equal(out, "<\xc3\xa9@x.example>");
#if WITH_IDN
	assert_int_equal(addr_parse(slice_of("a@b\xc3\xbc"
	                                     "cher.example"),
	                            &a),
	                 0);
	assert_false(addr_is_ascii(&a));
	assert_int_equal(addr_format_wire(&a, false, out, sizeof(out)), 0);
	assert_string_equal(out, "<a@xn--bcher-kva.example>");
	assert_int_equal(addr_format_wire(&a, true, out, sizeof(out)), 0);
	assert_string_equal(out, "<a@b\xc3\xbc"
	                         "cher.example>");
#endif
}

static void test_format_longest(void **state)
{
	struct addr a;
	char out[ADDR_TEXT_MAX];

	(void)state;
	memset(&a, 0, sizeof(a));
	memset(a.user, '"', ADDR_USER_MAX);
	memset(a.domain, 'x', ADDR_DOMAIN_MAX);
	assert_int_equal(addr_format_wire(&a, true, out, sizeof(out)), 0);
	assert_int_equal(strlen(out), ADDR_TEXT_MAX - 1);
	assert_int_equal(addr_format(&a, out, sizeof(out)), 0);
}

static void test_parse(void **state)
{
	static const char *const bad[] = {"",      "a",      "a@",    "@b",    "a@b ",  " a@b",
	                                  "<a@b>", "a@b,",   "a@b:c", "a b@c", "a@b>",  "<> ",
	                                  "<",     "@x:a@b", "a\n@b", "\"a",   "\"a\"", "a@b\n"};
	struct addr a;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (addr_parse(slice_of(bad[i]), &a) == 0)
			fail_msg("taken: %s", bad[i]);
		assert_true(addr_is_null(&a));
	}
	assert_int_equal(addr_parse((struct slice){"a\0b@c", 5}, &a), -1);
	assert_int_equal(addr_parse((struct slice){"a@b\0c", 5}, &a), -1);
	assert_int_equal(addr_parse((struct slice){"", 0}, &a), -1);
	assert_int_equal(addr_parse(slice_of("<>"), &a), 0);
	assert_true(addr_is_null(&a));
	assert_int_equal(addr_parse_local(slice_of("a"), "d.example", &a), 0);
	assert_string_equal(a.domain, "d.example");
	assert_int_equal(addr_parse_local(slice_of("\"a b\""), "", &a), 0);
	assert_string_equal(a.user, "a b");
	assert_string_equal(a.domain, "");
	assert_int_equal(addr_parse_local(slice_of("a@B"), "d.example", &a), 0);
	assert_string_equal(a.domain, "b");
	assert_int_equal(addr_parse_local(slice_of("<>"), "d", &a), -1);
	assert_int_equal(addr_parse_local(slice_of(""), "d", &a), -1);
	assert_int_equal(addr_parse_local(slice_of("a b"), "d", &a), -1);
	assert_int_equal(addr_parse_local(slice_of("a@"), "d", &a), -1);
}

static void test_domain_lengths(void **state)
{
	char name[400];
	char out[ADDR_DOMAIN_MAX + 1];
	size_t n;

	(void)state;
	for (n = 1; n < sizeof(name); n++) {
		size_t i;
		int want = n <= 253 && n % 2 == 1 ? 0 : -1;

		for (i = 0; i < n; i++)
			name[i] = i % 2 ? '.' : 'x';
		if (n % 2 == 0) /* ends in a dot, which is dropped */
			want = n - 1 <= 253 ? 0 : -1;
		assert_int_equal(addr_domain_normalise((struct slice){name, n}, out, sizeof(out)),
		                 want);
		memset(name, 'x', n);
		want = n <= 63 ? 0 : -1;
		assert_int_equal(addr_domain_normalise((struct slice){name, n}, out, sizeof(out)),
		                 want);
	}
	assert_int_equal(addr_domain_normalise(slice_of("abc"), out, 4), 0);
	assert_int_equal(addr_domain_normalise(slice_of("abc"), out, 3), -1);
	assert_int_equal(addr_domain_normalise(slice_of("abc"), out, 0), -1);
	assert_int_equal(addr_domain_normalise((struct slice){"[1.2.3.4\0]", 10}, out, sizeof(out)),
	                 -1);
}

static void test_hostname(void **state)
{
	static const char *const good[] = {"a", "localhost", "mx-1.Example.COM", "1.2.3.4",
	                                   "xn--bcher-kva.de"};
	static const char *const bad[] = {"",    ".",    "a.",       ".a",  "a..b",  "-a",
	                                  "a-",  "a.-b", "a_b",      "a b", "[::1]", "a/b",
	                                  "a;b", "a\nb", "\xc3\xa9", X64};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(addr_domain_is_valid_hostname(good[i]));
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(addr_domain_is_valid_hostname(bad[i]));
}

static void test_literal(void **state)
{
	unsigned char raw[16];

	(void)state;
	assert_int_equal(addr_literal("[192.0.2.1]", raw), 4);
	assert_memory_equal(raw, "\xc0\x00\x02\x01", 4);
	assert_int_equal(addr_literal("[IPv6:2001:db8::1]", raw), 6);
	assert_memory_equal(raw, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
	assert_int_equal(addr_literal("192.0.2.1", raw), 0);
	assert_int_equal(addr_literal("[", raw), 0);
	assert_int_equal(addr_literal("[]", raw), 0);
	assert_int_equal(addr_literal("[IPv6:", raw), 0);
	assert_int_equal(addr_literal("[IPv6:]", raw), 0);
	assert_int_equal(addr_literal("", raw), 0);
	assert_true(addr_is_literal("[1.2.3.4]"));
	assert_false(addr_is_literal("a"));
}

static void test_user_key(void **state)
{
	char key[ADDR_USER_MAX + 1];

	(void)state;
	assert_int_equal(addr_user_key("Joe.BLOGGS+Tag/..", key, sizeof(key)), 0);
	assert_string_equal(key, "joe.bloggs+tag/..");
	assert_int_equal(addr_user_key("abc", key, 3), -1);
	assert_int_equal(addr_user_key("", key, sizeof(key)), 0);
	assert_string_equal(key, "");
	assert_true(addr_user_equal("Joe", "jOE"));
	assert_false(addr_user_equal("joe", "joey"));
	assert_true(addr_user_equal(X64, "X" X63));
	assert_int_equal(addr_user_key("a", key, 0), -1);
#if !WITH_IDN
	assert_int_equal(addr_user_key("\xc3\xa9", key, sizeof(key)), -1);
	assert_string_equal(key, "");
#endif
}

static void test_file_name(void **state)
{
	static const char *const bad[] = {"",     ".",  "..", "a/b",   "/",
	                                  "a\nb", "-f", ".x", "a\x7f", "\xff"};
	char name[300];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(addr_is_file_name(bad[i]));
	assert_true(addr_is_file_name("a"));
	assert_true(addr_is_file_name("a..b c"));
	assert_true(addr_is_file_name("\xc3\xa9"));
	memset(name, 'x', sizeof(name));
	name[256] = '\0';
	assert_false(addr_is_file_name(name));
	name[255] = '\0';
	assert_true(addr_is_file_name(name));
}

static void test_library(void **state)
{
	char out[20];

	(void)state;
	addr_library(out, sizeof(out));
	assert_true(strncmp(out, WITH_IDN ? "libidn2 2." : "no IDN", WITH_IDN ? 10 : 7) == 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_path_good),    cmocka_unit_test(test_path_bad),
	    cmocka_unit_test(test_path_special), cmocka_unit_test(test_path_every_byte),
	    cmocka_unit_test(test_path_nul),     cmocka_unit_test(test_format),
	    cmocka_unit_test(test_format_wire),  cmocka_unit_test(test_format_longest),
	    cmocka_unit_test(test_parse),        cmocka_unit_test(test_domain_lengths),
	    cmocka_unit_test(test_hostname),     cmocka_unit_test(test_literal),
	    cmocka_unit_test(test_user_key),     cmocka_unit_test(test_file_name),
	    cmocka_unit_test(test_library),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
