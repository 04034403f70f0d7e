/*
 * cli_table: text that comes from strangers, on a pipe and on a terminal of our own making.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "cli_table.h"
#include "status.h"

static char printed[1 << 20];

/* Runs fn with standard output on a pipe or, with columns > 0, on a terminal of that width. */
static const char *run(void (*fn)(void), unsigned short columns)
{
	int fd[2], status;
	size_t n = 0;
	ssize_t got;
	if (columns == 0) {
		assert_int_equal(pipe(fd), 0);
	} else {
		fd[0] = posix_openpt(O_RDWR | O_NOCTTY);
		assert_true(fd[0] >= 0 && grantpt(fd[0]) == 0 && unlockpt(fd[0]) == 0);
		fd[1] = open(ptsname(fd[0]), O_RDWR | O_NOCTTY);
		struct winsize w = {.ws_col = columns, .ws_row = 24};
/* musl takes an int, on MIPS a negative one. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
		assert_int_equal(ioctl(fd[1], TIOCSWINSZ, &w), 0);
#pragma GCC diagnostic pop
	}
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (dup2(fd[1], 1) < 0)
			_exit(1);
		close(fd[0]);
		close(fd[1]);
		fn();
		fflush(stdout);
		_exit(0);
	}
	close(fd[1]);
	while ((got = read(fd[0], printed + n, sizeof(printed) - 1 - n)) > 0)
		n += (size_t)got;
	printed[n] = '\0';
	close(fd[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return printed;
}

static const char *put(const char *s)
{
	static struct buf b;
	buf_clear(&b);
	buf_init(&b, 10000);
	cli_put(&b, s);
	return buf_str(&b);
}

static const char *cut(const char *s, size_t width)
{
	static struct buf b;
	buf_clear(&b);
	buf_init(&b, 10000);
	size_t columns = cli_put_cut(&b, s, width);
	assert_int_equal(columns, cli_text_width(buf_str(&b)));
	assert_true(cli_text_width(buf_str(&b)) <= width);
	return buf_str(&b);
}

static const char *json(const char *s)
{
	static struct buf b;
	buf_clear(&b);
	buf_init(&b, 10000);
	cli_put_json(&b, s);
	return buf_str(&b);
}

static void test_characters(void **state)
{
	(void)state;
	assert_string_equal(put("plain \303\274 \346\227\245"), "plain \303\274 \346\227\245");
	assert_string_equal(put("\033[2J\r\n\t\177"), "?[2J????");
	assert_string_equal(put("\302\233x"), "?x");                      /* C1: CSI */
	assert_string_equal(put("a\342\200\256b\342\201\246c"), "a?b?c"); /* RLO, LRI */
	assert_string_equal(put("a\330\234\357\273\277\342\200\213b"), "a???b");
	assert_string_equal(put("\377\303"), "??");
	assert_string_equal(put("\360\237\230\200"), "\360\237\230\200");
	assert_int_equal(cli_text_width("abc"), 3);
	assert_int_equal(cli_text_width("\303\274"), 1);
	assert_int_equal(cli_text_width("u\314\210"), 1); /* combining */
	assert_int_equal(cli_text_width("\346\227\245\346\234\254"), 4);
	assert_int_equal(cli_text_width("\360\237\230\200"), 2);
	assert_int_equal(cli_text_width("\033"), 1);
	assert_int_equal(cli_text_width(""), 0);
}

static void test_cutting(void **state)
{
	(void)state;
	setenv("LC_ALL", "C.UTF-8", 1);
	assert_string_equal(cut("abcdef", 6), "abcdef");
	assert_string_equal(cut("abcdefg", 6), "abcde\342\200\246");
	assert_string_equal(cut("\346\227\245\346\234\254\350\252\236", 4),
	                    "\346\227\245\342\200\246");
	assert_string_equal(cut("abc", 1), "\342\200\246");
	assert_string_equal(cut("abc", 0), "");
	setenv("LC_ALL", "C", 1);
	assert_string_equal(cut("abcdefg", 6), "abc...");
	assert_string_equal(cut("abcdefg", 2), "");
	unsetenv("LC_ALL");
}

static void test_json(void **state)
{
	(void)state;
	assert_string_equal(json("a\"b\\c"), "\"a\\\"b\\\\c\"");
	assert_string_equal(json("\n\033\177"), "\"\\u000a\\u001b\\u007f\"");
	assert_string_equal(json("\342\200\256\303\274"), "\"\\u202e\303\274\"");
	assert_string_equal(json("\377"), "\"\\ufffd\"");
	assert_string_equal(json("\363\240\200\201"), "\"\\udb40\\udc01\""); /* a tag */
}

/* Any bytes: nothing comes out that a terminal obeys, and it is UTF-8 as wide as it says. */
static void test_any_bytes(void **state)
{
	char s[64];
	(void)state;
	srand(1);
	for (int i = 0; i < 20000; i++) {
		size_t n = 1 + (size_t)rand() % (sizeof(s) - 1);
		for (size_t k = 0; k < n; k++)
			s[k] = (char)(1 + rand() % 255);
		s[n] = '\0';
		const char *out = put(s);
		assert_int_equal(cli_text_width(out), cli_text_width(s));
		for (const char *p = out; *p;) {
			size_t len = status_utf8_len(p, strlen(p));
			assert_true(len > 0 && (unsigned char)*p >= ' ' && *p != 0x7f);
			p += len;
		}
		cut(s, (size_t)rand() % 70);
	}
}

static const struct cli_column table_columns[] = {
    {"ID", false, false}, {"N", true, false}, {"FROM", false, true}, {"TO", false, true}};

static void small_table(void)
{
	struct cli_table t;
	cli_table_open(&t, table_columns, 4);
	cli_table_row(&t, (const char *const[]){"a1", "10", "x@y", "\303\274@z"}, NULL);
	cli_table_row(&t, (const char *const[]){"a22", "7", "long@y", "z"}, "why\n");
	cli_table_close(&t);
}

static void empty_table(void)
{
	struct cli_table t;
	cli_table_open(&t, table_columns, 4);
	cli_table_close(&t);
}

static char wide[1100];

/* More rows than are kept, each too wide. */
static void big_table(void)
{
	char id[20];
	struct cli_table t;
	memset(wide, 'w', 1000);
	cli_table_open(&t, table_columns, 4);
	for (int i = 0; i < CLI_TABLE_ROWS * 2; i++) {
		snprintf(id, sizeof(id), "id%05d", i);
		cli_table_row(&t, (const char *const[]){id, "1", wide, "short@z"}, wide);
	}
	cli_table_close(&t);
}

static void test_tables(void **state)
{
	(void)state;
	setenv("TERM", "xterm", 1);
	unsetenv("NO_COLOR");
	assert_string_equal(run(empty_table, 0), "");
	assert_string_equal(run(small_table, 0), "ID    N  FROM    TO\n"
	                                         "a1   10  x@y     \303\274@z\n"
	                                         "a22   7  long@y  z\n"
	                                         "     why?\n");
	assert_non_null(strstr(run(small_table, 100), "\033[1mID    N  FROM    TO\033[0m\r\n"));
	setenv("NO_COLOR", "1", 1);
	assert_null(strchr(run(small_table, 100), '\033'));
	unsetenv("NO_COLOR");
	setenv("TERM", "dumb", 1);
	assert_null(strchr(run(small_table, 100), '\033'));
}

static void test_wide_tables(void **state)
{
	(void)state;
	setenv("NO_COLOR", "1", 1);
	for (int i = 0; i < 3; i++) {
		size_t width = i == 0 ? 80 : i == 1 ? 132 : CLI_WIDTH_MIN, lines = 0;
		char *p = (char *)run(big_table, i == 0 ? 0 : i == 1 ? 132 : 20);
		for (char *end; (end = strchr(p, '\n')) != NULL; p = end + 1, lines++) {
			*end = '\0';
			if (end > p && end[-1] == '\r')
				end[-1] = '\0';
			assert_int_equal(cli_text_width(p), lines == 0 ? cli_text_width(p) : width);
			assert_true(lines % 2 == 0 || strstr(p, "  short@z"));
		}
		assert_int_equal(lines, 1 + 2 * 2 * CLI_TABLE_ROWS);
	}
	unsetenv("NO_COLOR");
}

static void wrapped(void)
{
	fputs("name: ", stdout);
	cli_print_wrapped("one two three four five six seven eight nine ten "
	                  "aWordThatIsLongerThanTheWholeLineCanHoldWhateverIsDone end\033",
	                  6, 4);
}

static void test_wrapping(void **state)
{
	(void)state;
	assert_string_equal(run(wrapped, 0),
	                    "name: one two three four five six seven eight nine ten "
	                    "aWordThatIsLongerThanTheWholeLineCanHoldWhateverIsDone end?\n");
	assert_string_equal(run(wrapped, 40), "name: one two three four five six seven\r\n"
	                                      "    eight nine ten\r\n"
	                                      "    aWordThatIsLongerThanTheWholeLineCan\r\n"
	                                      "    HoldWhateverIsDone end?\r\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_characters), cmocka_unit_test(test_cutting),
	    cmocka_unit_test(test_json),       cmocka_unit_test(test_any_bytes),
	    cmocka_unit_test(test_tables),     cmocka_unit_test(test_wide_tables),
	    cmocka_unit_test(test_wrapping),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
