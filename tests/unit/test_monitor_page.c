/* monitor_page: whatever the bytes are, what comes out is text.
 *
 * link: fake_monitor.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "monitor_page.h"
#include "text.h"

static char out_text[1 << 16];

/* page_put of one string, as a C string. */
static const char *put(const char *fmt, const char *s)
{
	struct buf b;
	buf_init(&b, sizeof out_text - 1);
	page_put(&b, fmt, s);
	assert_false(b.failed);
	memcpy(out_text, buf_data(&b), b.len);
	out_text[b.len] = '\0';
	buf_clear(&b);
	return out_text;
}

static const char *put_number(const char *fmt, int64_t n)
{
	struct buf b;
	buf_init(&b, sizeof out_text - 1);
	page_put(&b, fmt, n);
	assert_false(b.failed);
	memcpy(out_text, buf_data(&b), b.len);
	out_text[b.len] = '\0';
	buf_clear(&b);
	return out_text;
}

/* No markup, no quote, no control, valid UTF-8: safe in text and in both kinds of attribute. */
static void assert_text(const char *s)
{
	assert_true(text_is_utf8(s, strlen(s)));
	for (const char *p = s; *p; p++) {
		assert_null(strchr("<>\"'", *p));
		assert_false((unsigned char)*p < ' ' || *p == 0x7f);
		/* Every '&' begins an entity of ours. */
		assert_true(*p != '&' || strncmp(p, "&lt;", 4) == 0 || strncmp(p, "&gt;", 4) == 0 ||
		            strncmp(p, "&amp;", 5) == 0 || strncmp(p, "&#34;", 5) == 0 ||
		            strncmp(p, "&#39;", 5) == 0);
	}
}

static void test_each_byte(void **state)
{
	(void)state;
	for (int c = 1; c < 256; c++) {
		char in[4] = {'a', (char)c, 'b', '\0'};
		assert_text(put("%e", in));
		assert_int_equal(out_text[0], 'a');
		assert_int_equal(out_text[strlen(out_text) - 1], 'b');
	}
}

static void test_each_pair_of_bytes(void **state)
{
	(void)state;
	for (int c = 1; c < 256; c++) {
		for (int d = 1; d < 256; d++) {
			char in[3] = {(char)c, (char)d, '\0'};
			assert_text(put("%e", in));
		}
	}
}

/* Encodes a character; its length. */
static size_t encode(uint32_t c, char *p)
{
	if (c < 0x80) {
		p[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		p[0] = (char)(0xc0 | c >> 6);
		p[1] = (char)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		p[0] = (char)(0xe0 | c >> 12);
		p[1] = (char)(0x80 | (c >> 6 & 63));
		p[2] = (char)(0x80 | (c & 63));
		return 3;
	}
	p[0] = (char)(0xf0 | c >> 18);
	p[1] = (char)(0x80 | (c >> 12 & 63));
	p[2] = (char)(0x80 | (c >> 6 & 63));
	p[3] = (char)(0x80 | (c & 63));
	return 4;
}

static void test_each_character(void **state)
{
	static const uint32_t hidden[] = {0x80,   0x9f,   0xad,   0x61c,   0x200b,   0x200e, 0x200f,
	                                  0x2028, 0x202a, 0x202e, 0x2066,  0x2069,   0xfeff, 0xfff9,
	                                  0xfdd0, 0xfffe, 0xffff, 0x1fffe, 0x10ffff, 0xe0041};
	static const uint32_t seen[] = {0xa0, 0xe9, 0x5d0, 0x645, 0x4e2d, 0xfffd, 0x1f600};
	char in[5], want[16];
	(void)state;
	for (uint32_t c = 0x80; c < 0x110000; c += c < 0x30000 ? 1 : 97) {
		in[encode(c, in)] = '\0';
		assert_text(put("%e", in));
	}
	for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++) {
		in[encode(hidden[i], in)] = '\0';
		snprintf(want, sizeof want, "\\u{%04lX}", (unsigned long)hidden[i]);
		assert_string_equal(put("%e", in), want);
	}
	for (size_t i = 0; i < sizeof seen / sizeof seen[0]; i++) {
		in[encode(seen[i], in)] = '\0';
		assert_string_equal(put("%e", in), in);
	}
}

static void test_what_is_not_utf8(void **state)
{
	(void)state;
	assert_string_equal(put("%e", "a\xff"
	                              "b"),
	                    "a\xef\xbf\xbd"
	                    "b");
	assert_string_equal(put("%e", "\xc3"), "\xef\xbf\xbd");
	assert_string_equal(put("%e", "\xc0\xbc"), "\xef\xbf\xbd\xef\xbf\xbd"); /* overlong '<' */
	assert_string_equal(put("%e", "\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
	assert_string_equal(put("%e", "\xe2\x80<b>"), "\xef\xbf\xbd\xef\xbf\xbd&lt;b&gt;");
}

static void test_long_names(void **state)
{
	char name[1025];
	(void)state;
	memset(name, 'x', 1024);
	name[1024] = '\0';
	assert_int_equal(strlen(put("%e", name)), 1024);
	memset(name, '"', 1024);
	assert_int_equal(strlen(put("%e", name)), 5 * 1024);
	/* %b is cut at a character, never within an entity. */
	put("%b", name);
	assert_int_equal(strlen(out_text),
	                 strlen("<bdi dir=\"ltr\"></bdi>") + 5 * MONITOR_SHOWN_MAX + 3);
	assert_non_null(strstr(out_text, "&#34;\xe2\x80\xa6</bdi>"));
	for (size_t i = 0; i < 1024; i += 2)
		memcpy(name + i, "\xc3\xa9", 2);
	assert_true(text_is_utf8(put("%b", name), strlen(out_text)));
	name[MONITOR_SHOWN_MAX * 2] = '\0';
	assert_null(strstr(put("%b", name), "\xe2\x80\xa6"));
}

static void test_marks_of_the_format_in_values(void **state)
{
	(void)state;
	assert_string_equal(put("x%ey", "%s%n{ID|^To|}[a|b]~"), "x%s%n{ID|^To|}[a|b]~y");
	assert_string_equal(put("%u", "a b/<>\"?&=%\xff~-._9Z"),
	                    "a%20b%2F%3C%3E%22%3F%26%3D%25%FF~-._9Z");
}

static void test_tables(void **state)
{
	(void)state;
	assert_string_equal(put("{ID|%e}", "<"), "<tr role=\"row\"><td role=\"cell\" "
	                                         "data-label=\"ID\">&lt;</td></tr>\n");
	assert_string_equal(put("{A|1^B|%e}", "2"),
	                    "<tr role=\"row\"><td role=\"cell\" data-label=\"A\">1</td>"
	                    "<td role=\"cell\" data-label=\"B\">2</td></tr>\n");
	assert_string_equal(put("[C|A|B]%e~", ""),
	                    "<table role=\"table\"><caption>C</caption><thead role=\"rowgroup\">"
	                    "<tr role=\"row\"><th role=\"columnheader\" scope=\"col\">A</th>"
	                    "<th role=\"columnheader\" scope=\"col\">B</th></tr></thead>"
	                    "<tbody role=\"rowgroup\">\n</tbody></table>\n");
}

static void test_numbers(void **state)
{
	static const struct {
		const char *fmt, *want;
		int64_t n;
	} cases[] = {
	    {"%d", "-9223372036854775808", INT64_MIN},
	    {"%a", "0 s", -5},
	    {"%a", "59 s", 59},
	    {"%a", "1 min", 60},
	    {"%a", "1 h 0 min", 3600},
	    {"%a", "23 h 59 min", 86399},
	    {"%a", "2 d 3 h", 2 * 86400 + 3 * 3600},
	    {"%z", "1023 bytes", 1023},
	    {"%z", "1.0 KB", 1024},
	    {"%z", "3.5 KB", 3584},
	    {"%z", "999.9 KB", 1023999},
	    {"%z", "0.9 MB", 1024000},
	    {"%z", "1.5 GB", 1610612736},
	    {"%t", "never", 0},
	    {"%t", "<time datetime=\"2026-11-22T04:05:06+0000\">2026-11-22 04:05:06</time>",
	     1795320306},
	};
	(void)state;
	setenv("TZ", "UTC", 1);
	tzset();
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_string_equal(put_number(cases[i].fmt, cases[i].n), cases[i].want);
	put_number("%z", INT64_MAX);
	assert_non_null(strstr(out_text, " TB"));
}

static void test_lines(void **state)
{
	struct buf b;
	(void)state;
	buf_init(&b, 1000);
	page_lines(&b, (struct slice){"A: <b>\r\n\tc\rd\0e\n", 15});
	assert_string_equal(buf_str(&b), "A: &lt;b&gt;\n\tc\\u{000D}d\\u{0000}e\n");
	buf_clear(&b);
}

static void test_full_buffer_stays_failed(void **state)
{
	struct buf b;
	(void)state;
	buf_init(&b, 10);
	page_put(&b, "%e and %d", "<<<<", (int64_t)5);
	assert_true(b.failed);
	assert_true(b.len <= 10);
	buf_clear(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_each_byte),
	    cmocka_unit_test(test_each_pair_of_bytes),
	    cmocka_unit_test(test_each_character),
	    cmocka_unit_test(test_what_is_not_utf8),
	    cmocka_unit_test(test_long_names),
	    cmocka_unit_test(test_marks_of_the_format_in_values),
	    cmocka_unit_test(test_tables),
	    cmocka_unit_test(test_numbers),
	    cmocka_unit_test(test_lines),
	    cmocka_unit_test(test_full_buffer_stays_failed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
