/* Tests of dsn_form: what is beyond ASCII in a notification, whatever its length. */
#include "dsn_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_typed(void **state)
{
	static const struct {
		const char *address;
		const char *ascii;
		const char *global;
	} cases[] = {
		{"a+b@c.example", "rfc822; a+b@c.example", "rfc822; a+b@c.example"},
		{"\"a \\\\b\"@c.example", "rfc822; \"a \\\\b\"@c.example",
		 "rfc822; \"a \\\\b\"@c.example"},
		{"\xc3\xa9+b@c.example", "utf-8; \\x{E9}\\x{2B}b@c.example",
		 "utf-8; \xc3\xa9+b@c.example"},
		{"\"\xc3\xa9\\\\\"@c.example", "utf-8; \"\\x{E9}\\x{5C}\\x{5C}\"@c.example",
		 "utf-8; \"\xc3\xa9\\x{5C}\\x{5C}\"@c.example"},
		{"\xe2\x82\xac\xf0\x9f\x90\xa7\xf4\x8f\xbf\xbf",
		 "utf-8; \\x{20AC}\\x{1F427}\\x{10FFFF}",
		 "utf-8; \xe2\x82\xac\xf0\x9f\x90\xa7\xf4\x8f\xbf\xbf"},
		{"\xc2\xa0\xdf\xbf\xe0\xa0\x80", "utf-8; \\x{A0}\\x{7FF}\\x{800}",
		 "utf-8; \xc2\xa0\xdf\xbf\xe0\xa0\x80"},
		{"\xff@c.example", "rfc822; ?@c.example", "rfc822; ?@c.example"},
#if WITH_IDN
		{"b@\xc3\xb1.example", "rfc822; b@xn--ida.example", "utf-8; b@\xc3\xb1.example"},
#endif
	};
	char typed[DSN_TYPED_MAX];
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		dsn_typed(cases[i].address, false, typed);
		assert_string_equal(typed, cases[i].ascii);
		dsn_typed(cases[i].address, true, typed);
		assert_string_equal(typed, cases[i].global);
	}
}

/* s, n times, behind what text has; returns text. */
static char *repeat(char *text, size_t size, const char *s, size_t n)
{
	size_t at = strlen(text);
	for (; n > 0; n--)
		at += (size_t)snprintf(text + at, size - at, "%s", s);
	return text;
}

/* Whatever the spool calls an address stays within a line, of the form it says. */
static void test_long_addresses(void **state)
{
	static const char *const parts[] = {"a", "\\", "\xf0\x9f\x90\xa7\xc3\xa9"};
	char typed[DSN_TYPED_MAX];
	char to[DSN_TO_MAX];
	char address[2000];
	(void)state;
	for (size_t n = 0; n < 300; n++) {
		address[0] = '\0';
		repeat(address, sizeof address, parts[n % 3], n);
		repeat(address, sizeof address, "\xc3\xa9", 1);
		dsn_typed(address, false, typed);
		assert_true(dsn_is_ascii(typed));
		assert_true(strlen(typed) < DSN_TYPED_MAX);
		assert_int_equal(strncmp(typed, "utf-8; ", 7) == 0, !strchr(typed, '?'));
		dsn_typed(address, true, typed);
		assert_true(strlen(typed) < DSN_TYPED_MAX);
		dsn_to(address, false, to);
		assert_true(dsn_is_ascii(to));
		assert_string_equal(to + strlen(to) - 5, "?= :;");
		assert_true(strcspn(to, "\r") <= 76 - strlen("To: "));
		for (const char *line = strstr(to, "\r\n"); line; line = strstr(line + 2, "\r\n"))
			assert_true(strcspn(line + 2, "\r") <= 76);
		dsn_to(address, true, to);
		assert_true(strlen(to) < ADDR_TEXT_MAX + 2);
	}
}

/* Decodes quoted-printable, strictly; returns the length. */
static size_t unquote(const char *p, size_t n, char *out)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t to = 0;
	size_t column = 0;
	for (size_t i = 0; i < n; i++, column++) {
		assert_true(column < 76);
		if (p[i] == '\r' || (p[i] == '=' && p[i + 1] == '\r')) {
			bool soft = p[i] == '=';
			i += soft;
			assert_true(i + 1 < n && p[i + 1] == '\n');
			assert_true(soft || i == 0 || (p[i - 1] != ' ' && p[i - 1] != '\t'));
			for (i++; !soft; soft = true)
				to += (size_t)snprintf(out + to, 3, "\r\n");
			column = (size_t)-1;
		} else if (p[i] == '=') {
			assert_true(i + 2 < n);
			const char *high = strchr(hex, p[i + 1]);
			const char *low = strchr(hex, p[i + 2]);
			assert_true(high && low);
			out[to++] = (char)((high - hex) << 4 | (low - hex));
			i += 2;
			column += 2;
		} else {
			assert_true(p[i] == '\t' || (p[i] >= ' ' && p[i] < 127));
			out[to++] = p[i];
		}
	}
	assert_true(n == 0 || (p[n - 1] != ' ' && p[n - 1] != '\t'));
	return to;
}

static void test_quoted_printable(void **state)
{
	static const char bytes[] = "aaaaaaaaaa  \t=\r\n\r\n\r\n\xc3\xa9.-\x7f";
	unsigned seed = 1;
	(void)state;
	for (int round = 0; round < 20000; round++) {
		char text[300];
		char back[300 + 3];
		size_t at = 0;
		struct dsn_qp q = {0};
		size_t n = (seed = seed * 1103515245U + 12345U) >> 16;
		n %= sizeof text;
		for (size_t i = 0; i < n; i++)
			text[i] = bytes[((seed = seed * 1103515245U + 12345U) >> 16) %
			                (sizeof bytes - 1)];
		char *out = malloc(DSN_QP_MAX(sizeof text) * 2);
		for (size_t from = 0, piece; from < n; from += piece) {
			piece = ((seed = seed * 1103515245U + 12345U) >> 16) % (n - from) + 1;
			size_t wrote = dsn_qp_encode(&q, text + from, piece, out + at);
			assert_true(wrote <= DSN_QP_MAX(piece));
			at += wrote;
		}
		at += dsn_qp_encode(&q, "\r\n", 2, out + at);
		assert_int_equal(q.column, 0);
		assert_int_equal(q.held, 0);
		assert_int_equal(unquote(out, at, back), n + 2);
		assert_memory_equal(back, text, n);
		free(out);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_typed),
	    cmocka_unit_test(test_long_addresses),
	    cmocka_unit_test(test_quoted_printable),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
