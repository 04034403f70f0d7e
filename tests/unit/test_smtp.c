/* Unit tests of smtp: command lines, parameters, SIZE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "smtp.h"

static void test_command(void **state)
{
	static const struct {
		const char *line;
		enum smtp_verb verb;
		const char *name;
		const char *args;
	} cases[] = {
	    {"HELO a.example", SMTP_HELO, "HELO", "a.example"},
	    {"ehlo  [192.0.2.1] ", SMTP_EHLO, "ehlo", "[192.0.2.1]"},
	    {"MAIL FROM:<a@b> SIZE=1", SMTP_MAIL, "MAIL", "FROM:<a@b> SIZE=1"},
	    {"rCpT\tTO:<a@b>", SMTP_RCPT, "rCpT", "TO:<a@b>"},
	    {"DATA", SMTP_DATA, "DATA", ""},
	    {"DATA  \t ", SMTP_DATA, "DATA", ""},
	    {"BDAT 10 LAST", SMTP_BDAT, "BDAT", "10 LAST"},
	    {"RSET", SMTP_RSET, "RSET", ""},
	    {"NOOP x", SMTP_NOOP, "NOOP", "x"},
	    {"QUIT", SMTP_QUIT, "QUIT", ""},
	    {"HELP", SMTP_HELP, "HELP", ""},
	    {"VRFY a", SMTP_VRFY, "VRFY", "a"},
	    {"EXPN a", SMTP_EXPN, "EXPN", "a"},
	    {"STARTTLS", SMTP_STARTTLS, "STARTTLS", ""},
	    {"AUTH PLAIN =", SMTP_AUTH, "AUTH", "PLAIN ="},
	    {"GET / HTTP/1.1", SMTP_HTTP, "GET", "/ HTTP/1.1"},
	    {"post /", SMTP_HTTP, "post", "/"},
	    {"CONNECT a:25 HTTP/1.1", SMTP_HTTP, "CONNECT", "a:25 HTTP/1.1"},
	    {"HEAD /", SMTP_HTTP, "HEAD", "/"},
	    {"PUT /", SMTP_HTTP, "PUT", "/"},
	    {"OPTIONS *", SMTP_HTTP, "OPTIONS", "*"},
	    {"", SMTP_UNKNOWN, "", ""},
	    {" QUIT", SMTP_UNKNOWN, "", "QUIT"},
	    {"QUITE", SMTP_UNKNOWN, "QUITE", ""},
	    {"QUI", SMTP_UNKNOWN, "QUI", ""},
	    {"MAILFROM:<a@b>", SMTP_UNKNOWN, "MAILFROM:<a@b>", ""},
	    {"\xff\xfe x", SMTP_UNKNOWN, "\xff\xfe", "x"},
	};
	struct smtp_command c;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(smtp_command_parse(slice_of(cases[i].line), &c), 0);
		assert_int_equal(c.verb, cases[i].verb);
		assert_true(slice_is(c.name, cases[i].name));
		assert_true(slice_is(c.args, cases[i].args));
	}
}

static void test_command_every_byte(void **state)
{
	struct smtp_command cmd;
	int c;

	(void)state;
	for (c = 0; c < 256; c++) {
		char line[] = {'N', 'O', 'O', 'P', ' ', 'x', (char)c, 'y'};
		struct slice s = {line, sizeof(line)};
		int want = (c < 32 && c != '\t') || c == 127 ? -1 : 0;

		assert_int_equal(smtp_command_parse(s, &cmd), want);
		assert_int_equal(cmd.verb, SMTP_NOOP);
	}
}

static void test_verb_names(void **state)
{
	int v;

	(void)state;
	assert_string_equal(smtp_verb_name(SMTP_UNKNOWN), "unknown");
	assert_string_equal(smtp_verb_name(SMTP_HTTP), "HTTP");
	for (v = SMTP_UNKNOWN + 1; v < SMTP_HTTP; v++) {
		struct smtp_command c;

		assert_int_equal(
		    smtp_command_parse(slice_of(smtp_verb_name((enum smtp_verb)v)), &c), 0);
		assert_int_equal(c.verb, v);
	}
}

static void test_args_skip(void **state)
{
	struct slice s = slice_of("From:<a@b>");

	(void)state;
	assert_int_equal(smtp_args_skip(&s, "TO:"), -1);
	assert_int_equal(smtp_args_skip(&s, "FROM:"), 0);
	assert_true(slice_is(s, "<a@b>"));
	s = slice_of("FROM");
	assert_int_equal(smtp_args_skip(&s, "FROM:"), -1);
	assert_true(slice_is(s, "FROM"));
	s = slice_of("to:");
	assert_int_equal(smtp_args_skip(&s, "TO:"), 0);
	assert_int_equal(s.n, 0);
}

static void test_params(void **state)
{
	struct slice s = slice_of("  SIZE=1000 SMTPUTF8\tBODY=8BITMIME X-a1=b=c O=\xc3\xa9 ");
	struct smtp_param p;

	(void)state;
	assert_int_equal(smtp_param_next(&s, &p), 1);
	assert_true(slice_is(p.key, "SIZE") && p.has_value && slice_is(p.value, "1000"));
	assert_int_equal(smtp_param_next(&s, &p), 1);
	assert_true(slice_is(p.key, "SMTPUTF8") && !p.has_value && p.value.n == 0);
	assert_int_equal(smtp_param_next(&s, &p), 1);
	assert_true(slice_is(p.key, "BODY") && slice_is(p.value, "8BITMIME"));
	assert_int_equal(smtp_param_next(&s, &p), 1);
	assert_true(slice_is(p.key, "X-a1") && slice_is(p.value, "b=c"));
	assert_int_equal(smtp_param_next(&s, &p), 1);
	assert_true(slice_is(p.key, "O") && slice_is(p.value, "\xc3\xa9"));
	assert_int_equal(smtp_param_next(&s, &p), 0);
	assert_int_equal(smtp_param_next(&s, &p), 0);
}

static void test_params_malformed(void **state)
{
	static const char *const bad[] = {"=1",     "-A=1",   "A=",      "A= B",  "A_B=1",
	                                  "A\x01=", "A=\x01", "A=b\x7f", "<a@b>", "\xc3\xa9=1"};
	struct smtp_param p;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct slice s = slice_of(bad[i]);

		assert_int_equal(smtp_param_next(&s, &p), -1);
	}
}

static void test_size(void **state)
{
	static const struct {
		const char *s;
		int rc;
		int64_t want;
	} cases[] = {{"0", 0, 0},
	             {"1000", 0, 1000},
	             {"9223372036854775806", 0, INT64_MAX - 1},
	             {"9223372036854775807", 0, INT64_MAX},
	             {"9223372036854775808", 0, INT64_MAX},
	             {"18446744073709551616", 0, INT64_MAX},
	             {"99999999999999999999", 0, INT64_MAX},
	             {"00000000000000000012", 0, 12},
	             {"100000000000000000000", -1, 0},
	             {"", -1, 0},
	             {"-1", -1, 0},
	             {"+1", -1, 0},
	             {"1k", -1, 0},
	             {" 1", -1, 0},
	             {"0x10", -1, 0}};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t n = 0;

		assert_int_equal(smtp_size_parse(slice_of(cases[i].s), &n), cases[i].rc);
		assert_true(n == cases[i].want);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_command),    cmocka_unit_test(test_command_every_byte),
	    cmocka_unit_test(test_verb_names), cmocka_unit_test(test_args_skip),
	    cmocka_unit_test(test_params),     cmocka_unit_test(test_params_malformed),
	    cmocka_unit_test(test_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
