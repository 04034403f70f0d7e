/* test_log: no value can forge a line, a key or a terminal sequence; lines are cut, errno is kept.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "log.h"

/* Datagrams keep apart what came with one write(). */
static int ends[2];
static char line[4 * LOG_LINE_MAX];

static int setup(void **state)
{
	(void)state;
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends))
		return -1;
	log_to(ends[1]);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	log_to(2);
	log_level_now = LOG_LEVEL_INFO;
	close(ends[0]);
	close(ends[1]);
	return 0;
}

/* The one line that was written; "" when there was none. */
static const char *logged(void)
{
	ssize_t n = recv(ends[0], line, sizeof line - 1, 0);
	line[n > 0 ? n : 0] = '\0';
	assert_int_equal(recv(ends[0], &(char){0}, 1, MSG_PEEK), -1);
	if (n > 0) {
		assert_true(n <= LOG_LINE_MAX);
		assert_int_equal(strlen(line), n);
		assert_int_equal(line[n - 1], '\n');
		assert_ptr_equal(strchr(line, '\n'), line + n - 1);
	}
	return line;
}

static void test_plain(void **state)
{
	(void)state;
	log_info("-", "started");
	assert_string_equal(logged(), "- started\n");
	log_info("0abc~", "mail accepted", LOG_S("from", "a@b.example"), LOG_N("size", -5),
	         LOG_S("relay", NULL));
	assert_string_equal(logged(), "0abc~ mail accepted from=a@b.example size=-5 relay=\"\"\n");
	log_error("-", "gone", LOG_N("n", INT64_MIN));
	assert_string_equal(logged(), "error - gone n=-9223372036854775808\n");
	log_info("-", "utf", LOG_S("name", "gr\xc3\xbc\xc3\x9f \xe2\x80\x9cx\xe2\x80\x9d"));
	assert_string_equal(logged(),
	                    "- utf name=\"gr\xc3\xbc\xc3\x9f \xe2\x80\x9cx\xe2\x80\x9d\"\n");
}

static void test_levels(void **state)
{
	(void)state;
	int asked = 0;
	log_debug("-", "x", LOG_N("n", ++asked));
	assert_string_equal(logged(), "");
	/* What is neither written nor kept as a trace costs nothing. */
	int once = LOG_TRACE_LEVEL < LOG_LEVEL_DEBUG ? 0 : 1;
	assert_int_equal(asked, once);
	log_level_now = LOG_LEVEL_DEBUG;
	log_debug("-", "x", LOG_N("n", asked = 1));
	assert_string_equal(logged(), "- x n=1\n");
	log_level_now = LOG_LEVEL_ERROR;
	log_info("-", "x");
	assert_string_equal(logged(), "");
	log_error("-", "x");
	assert_string_equal(logged(), "error - x\n");
}

static void test_hostile_values(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
	    {"a\n- forged key=1", "\"a\\x0a- forged key=1\""},
	    {"a\r\nb", "\"a\\x0d\\x0ab\""},
	    {"x to=root", "\"x to=root\""},
	    {"x=y", "\"x=y\""},
	    {"\" to=\"root", "\"\\\" to=\\\"root\""},
	    {"\\", "\"\\\\\""},
	    {"\\\" x", "\"\\\\\\\" x\""},
	    {"\x1b[2J\x7f\t", "\"\\x1b[2J\\x7f\\x09\""},
	    {"\x9b"
	     "2J",
	     "\"\\x9b2J\""},
	    {"\xc2\x9b"
	     "2J",
	     "\"\xc2\\x9b2J\""},
	    {"a\xe2\x80\xaegpj.exe\xe2\x80\xac", "\"a\\xe2\\x80\\xaegpj.exe\\xe2\\x80\\xac\""},
	    {"\xe2\x81\xa6x\xe2\x81\xa9", "\"\\xe2\\x81\\xa6x\\xe2\\x81\\xa9\""},
	    {"\xe2\x80\xa8", "\"\\xe2\\x80\\xa8\""},
	    {"\xe2\x80\xaf\xe2\x81\xa5\xe2\x80", "\xe2\x80\xaf\xe2\x81\xa5\xe2\x80"},
	    {" ", "\" \""},
	    {"", "\"\""},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char want[100];
		log_info("-", "e", LOG_S("k", cases[i][0]), LOG_N("n", 1));
		snprintf(want, sizeof want, "- e k=%s n=1\n", cases[i][1]);
		assert_string_equal(logged(), want);
	}
	log_info("id\nx", "e");
	assert_string_equal(logged(), "\"id\\x0ax\" e\n");
}

/* Reads a value as a person would: the bare word, or what stands in quotes, undone. */
static size_t undo(const char *s, char *out)
{
	size_t n = 0;
	bool quoted = *s == '"';
	for (s += quoted; quoted ? *s != '"' : *s != ' ' && *s != '\n'; s++) {
		if (*s != '\\') {
			out[n++] = *s;
		} else if (*++s != 'x') {
			out[n++] = *s;
		} else {
			char hex[3] = {s[1], s[2], 0};
			out[n++] = (char)strtol(hex, NULL, 16);
			s += 2;
		}
	}
	assert_string_equal(s + quoted, " end=1\n");
	return n;
}

static void test_any_bytes_survive(void **state)
{
	(void)state;
	srand(2);
	for (int i = 0; i < 20000; i++) {
		char value[41];
		char back[200];
		size_t n = (size_t)rand() % 40;
		for (size_t k = 0; k < n; k++)
			value[k] = (char)(i < 255 ? i + 1 : rand() % 255 + 1);
		value[n] = '\0';
		log_info("-", "e", LOG_S("k", value), LOG_N("end", 1));
		const char *got = logged();
		assert_memory_equal(got, "- e k=", 6);
		assert_int_equal(undo(got + 6, back), n);
		assert_memory_equal(back, value, n);
		for (; *got && *got != '\n'; got++)
			assert_true((unsigned char)*got >= ' ' && *got != 127);
	}
}

static void test_cut(void **state)
{
	(void)state;
	char value[2 * LOG_LINE_MAX];
	for (size_t n = LOG_LINE_MAX - 100; n < LOG_LINE_MAX + 100; n++) {
		for (int kind = 0; kind < 2; kind++) {
			memset(value, kind ? '\n' : 'v', n);
			value[0] = kind ? ' ' : 'v';
			value[n] = '\0';
			log_info("-", "event", LOG_S("k", value), LOG_S("last", "here"));
			const char *got = logged();
			bool whole = strstr(got, " last=here\n") != NULL;
			bool fits = !kind && n + strlen("- event k= last=here") <= LOG_LINE_MAX - 5;
			assert_int_equal(whole, fits);
			if (!whole)
				assert_string_equal(got + strlen(got) - 4, "...\n");
		}
	}
	memset(value, 'e', sizeof value - 1);
	value[sizeof value - 1] = '\0';
	log_error(value, value, LOG_S("k", value));
	assert_string_equal(logged(), "error ...\n");
}

static void test_errno_is_kept(void **state)
{
	(void)state;
	errno = ENOSPC;
	log_info("-", "x");
	assert_int_equal(errno, ENOSPC);
	logged();
	log_to(-1);
	errno = ENOENT;
	log_error("-", "nobody hears this");
	assert_int_equal(errno, ENOENT);
	log_to(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_plain, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_hostile_values, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_any_bytes_survive, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_cut, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_errno_is_kept, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
