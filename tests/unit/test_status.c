/* Unit tests of status: the classes, enhanced codes of peers, harmless text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "status.h"

static void test_set(void **state)
{
	struct status st;

	(void)state;
	status_set(&st, 550, "5.1.1", "no user \"%s\" here", "a\r\nb");
	assert_int_equal(st.code, 550);
	assert_int_equal(st.enh[0], 5);
	assert_int_equal(st.enh[1], 1);
	assert_int_equal(st.enh[2], 1);
	assert_string_equal(st.text, "no user \"a  b\" here");
	status_set(&st, 354, NULL, "go");
	assert_int_equal(st.enh[0], 0);
	/* The old text as an argument. */
	status_set(&st, 451, "4.0.0", "again: %s", st.text);
	assert_string_equal(st.text, "again: go");
}

static void test_set_cuts_at_character(void **state)
{
	struct status st;
	char text[STATUS_TEXT_MAX * 2];
	size_t pad;
	size_t i;

	(void)state;
	for (pad = 0; pad < 4; pad++) {
		memset(text, 'x', sizeof(text));
		for (i = pad; i + 3 < sizeof(text); i += 3)
			memcpy(text + i, "\xe2\x82\xac", 3);
		text[i] = '\0';
		status_set(&st, 250, NULL, "%s", text);
		assert_true(strlen(st.text) >= STATUS_TEXT_MAX - 3);
		assert_null(strchr(st.text, '?'));
		for (i = 0; st.text[i];) {
			size_t n = status_utf8_len(st.text + i, strlen(st.text + i));

			assert_true(n > 0);
			i += n;
		}
	}
}

static void test_class(void **state)
{
	static const struct {
		int code;
		enum status_result want;
	} cases[] = {{250, STATUS_DONE},      {221, STATUS_DONE},      {299, STATUS_DONE},
	             {354, STATUS_TRANSIENT}, {421, STATUS_TRANSIENT}, {550, STATUS_PERMANENT},
	             {599, STATUS_PERMANENT}, {0, STATUS_TRANSIENT},   {600, STATUS_TRANSIENT},
	             {-1, STATUS_TRANSIENT},  {199, STATUS_TRANSIENT}};
	struct status st = {0};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		st.code = cases[i].code;
		assert_int_equal(status_class(&st), cases[i].want);
	}
}

static void test_from_reply(void **state)
{
	static const struct {
		int code;
		const char *text;
		const char *want;
	} cases[] = {
	    {550, "5.1.1 no such user", "550 5.1.1 no such user"},
	    {550, "no such user", "550 5.0.0 no such user"},
	    {450, "5.1.1 odd class", "450 4.0.0 5.1.1 odd class"},
	    {250, "2.0.0", "250 2.0.0"},
	    {250, "2.1.5   ok", "250 2.1.5 ok"},
	    {550, "5.1.1000 x", "550 5.0.0 5.1.1000 x"},
	    {550, "5.1.1-x", "550 5.0.0 5.1.1-x"},
	    {550, "5.1", "550 5.0.0 5.1"},
	    {550, "5.", "550 5.0.0 5."},
	    {550, "5.123.999 x", "550 5.123.999 x"},
	    {550, "", "550 5.0.0"},
	    {354, "send", "354 send"},
	    {999, "5.1.1 mad", "451 4.5.0 5.1.1 mad"},
	    {120, "soon", "451 4.5.0 soon"},
	    {-7, "", "451 4.5.0"},
	    {554, "5.7.1 a\r\n550 b\x1b[2J\x7f\x80", "554 5.7.1 a  550 b?[2J??"},
	    {554,
	     "\xc2\x9b"
	     "31m \xc3\xa9",
	     "554 5.0.0 ?31m \xc3\xa9"},
	};
	struct status st;
	char out[STATUS_PRINT_MAX];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		status_from_reply(&st, cases[i].code, slice_of(cases[i].text));
		status_print(&st, out, sizeof(out));
		assert_string_equal(out, cases[i].want);
	}
}

static void test_format_parse(void **state)
{
	static const char *const bad[] = {"",      "5",     "55",     "550x", "199 x",
	                                  "600 x", "5a0 x", " 550 x", "-550"};
	struct status a;
	struct status b;
	struct buf out;
	size_t i;

	(void)state;
	buf_init(&out, 4096);
	status_set(&a, 550, "5.7.23", "r\xc3\xa9sum\xc3\xa9 50%% off");
	assert_int_equal(status_format(&a, &out), 0);
	assert_string_equal(buf_str(&out), "550 5.7.23 r\xc3\xa9sum\xc3\xa9 50% off");
	assert_int_equal(status_parse(buf_slice(&out), &b), 0);
	assert_int_equal(b.code, 550);
	assert_memory_equal(a.enh, b.enh, sizeof(a.enh));
	assert_string_equal(a.text, b.text);
	buf_clear(&out);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(status_parse(slice_of(bad[i]), &b), -1);
	assert_int_equal(b.code, 550);
	assert_int_equal(status_parse(slice_of("354"), &b), 0);
	assert_string_equal(b.text, "");
	assert_int_equal(status_parse(slice_of("421 5.1.1 x"), &b), 0);
	assert_int_equal(b.enh[0], 0);
	assert_string_equal(b.text, "5.1.1 x");
}

static void test_format_longest(void **state)
{
	struct status st;
	struct status back;
	char text[STATUS_TEXT_MAX + 1];
	char out[STATUS_PRINT_MAX];

	(void)state;
	memset(text, 'x', sizeof(text));
	text[STATUS_TEXT_MAX] = '\0';
	status_set(&st, 550, "5.123.456", "%s", text);
	assert_int_equal(strlen(st.text), STATUS_TEXT_MAX - 1);
	assert_int_equal(status_print(&st, out, sizeof(out)), STATUS_TEXT_MAX - 1 + 14);
	assert_int_equal(status_parse(slice_of(out), &back), 0);
	assert_string_equal(back.text, st.text);
	assert_int_equal(status_print(&st, out, 6), 5);
	assert_string_equal(out, "550 5");
	assert_int_equal(status_print(&st, out, 1), 0);
}

static void test_clean_every_byte(void **state)
{
	char out[16];
	int c;

	(void)state;
	for (c = 0; c < 256; c++) {
		char in[3] = {'a', (char)c, 'b'};
		struct slice s = {in, 3};
		char want = (char)c;

		if (c == '\r' || c == '\n' || c == '\t')
			want = ' ';
		else if (c < 32 || c > 126)
			want = '?';
		assert_int_equal(status_clean(s, out, sizeof(out)), 3);
		assert_int_equal(out[0], 'a');
		assert_int_equal(out[1], want);
		assert_int_equal(out[2], 'b');
		assert_int_equal(out[3], 0);
	}
	assert_int_equal(status_clean(slice_of("a \t\r\n"), out, sizeof(out)), 1);
	assert_int_equal(status_clean(slice_of(" \t\r\n"), out, sizeof(out)), 0);
}

static void test_utf8(void **state)
{
	static const struct {
		const char *s;
		size_t want;
	} cases[] = {{"a", 1},
	             {"\x7f", 1},
	             {"\x80", 0},
	             {"\xc0\x80", 0},
	             {"\xc1\xbf", 0},
	             {"\xc2\x80", 2},
	             {"\xc2", 0},
	             {"\xc2\x41", 0},
	             {"\xdf\xbf", 2},
	             {"\xe0\x9f\xbf", 0},
	             {"\xe0\xa0\x80", 3},
	             {"\xed\x9f\xbf", 3},
	             {"\xed\xa0\x80", 0},
	             {"\xee\x80\x80", 3},
	             {"\xef\xbf\xbf", 3},
	             {"\xe2\x82", 0},
	             {"\xf0\x8f\xbf\xbf", 0},
	             {"\xf0\x90\x80\x80", 4},
	             {"\xf4\x8f\xbf\xbf", 4},
	             {"\xf4\x90\x80\x80", 0},
	             {"\xf0\x90\x80", 0},
	             {"\xf5\x80\x80\x80", 0},
	             {"\xff", 0}};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(status_utf8_len(cases[i].s, strlen(cases[i].s)), cases[i].want);
	assert_int_equal(status_utf8_len("", 0), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_set),
	    cmocka_unit_test(test_set_cuts_at_character),
	    cmocka_unit_test(test_class),
	    cmocka_unit_test(test_from_reply),
	    cmocka_unit_test(test_format_parse),
	    cmocka_unit_test(test_format_longest),
	    cmocka_unit_test(test_clean_every_byte),
	    cmocka_unit_test(test_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
