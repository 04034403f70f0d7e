/* test_maillog: the lines are chasquid's, byte for byte, and no value can forge one or a part. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "log.h"
#include "maillog.h"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];
static char err[256];
static char text[16 * MAILLOG_LINE_MAX];

static int setup(void **state)
{
	(void)state;
	return temp_dir_make(dir, sizeof dir) || chdir(dir) || maillog_open("log", err, sizeof err);
}

static int teardown(void **state)
{
	(void)state;
	maillog_close();
	return temp_dir_remove();
}

/* What was written since the last call, without the times in front of the lines. */
static const char *written(void)
{
	static char out[sizeof text];
	FILE *f = fopen("log", "r");
	size_t n = 0;
	while (fgets(text, sizeof text, f)) {
		assert_true(strlen(text) > 27 && text[26] == ' ' && text[19] == '.');
		assert_true(strlen(text) <= MAILLOG_LINE_MAX + 27);
		n += (size_t)snprintf(out + n, sizeof out - n, "%s", text + 27);
	}
	out[n] = '\0';
	fclose(f);
	assert_int_equal(truncate("log", 0), 0);
	return out;
}

static void test_lines(void **state)
{
	(void)state;
	char *to[] = {(char *)"to1@b", (char *)"to2@c"};
	struct status st;
	maillog_listen("1.2.3.4:4321");
	maillog_connect("1.2.3.4:4321");
	maillog_auth("1.2.3.4:4321", "user@domain", false);
	maillog_auth("1.2.3.4:4321", "user@domain", true);
	maillog_rejected("1.2.3.4:4321", "from@a", to, 2, "error");
	maillog_rejected("[2001:db8::1]:25", "from@a", NULL, 0, "error with words");
	maillog_rejected("root", NULL, to, 1, NULL);
	maillog_rejected("1.2.3.4:1", "", NULL, 0, "");
	maillog_queued("qid", "from@a", "1.2.3.4:4321", to, 2);
	status_set(&st, 250, "2.0.0", "ok");
	maillog_attempt("qid", "from@a", "to1@b", &st);
	status_set(&st, 451, "4.4.1", "no host");
	maillog_attempt("qid", "from@a", "to1@b", &st);
	status_set(&st, 550, NULL, "no");
	maillog_attempt("qid", "<>", "to1@b", &st);
	maillog_waits("qid", "from@a", 83);
	maillog_waits("qid", "from@a", 0);
	maillog_waits("qid", "from@a", 59);
	maillog_waits("qid", "from@a", 7205);
	maillog_done("qid", "from@a");
	maillog_done("qid", NULL);
	assert_string_equal(written(),
	                    "daemon listening on 1.2.3.4:4321\n"
	                    "1.2.3.4:4321 connected\n"
	                    "1.2.3.4:4321 auth failed for user@domain\n"
	                    "1.2.3.4:4321 auth succeeded for user@domain\n"
	                    "1.2.3.4:4321 rejected from=from@a to=[to1@b to2@c] - error\n"
	                    "[2001:db8::1]:25 rejected from=from@a - error with words\n"
	                    "root rejected to=[to1@b]\n"
	                    "1.2.3.4:1 rejected\n"
	                    "qid from=from@a queued ip=1.2.3.4:4321 to=[to1@b to2@c]\n"
	                    "qid from=from@a to=to1@b sent\n"
	                    "qid from=from@a to=to1@b failed (temporary): 451 4.4.1 no host\n"
	                    "qid from=<> to=to1@b failed (permanent): 550 no\n"
	                    "qid from=from@a completed loop, next in 1m23s\n"
	                    "qid from=from@a completed loop, next in 0s\n"
	                    "qid from=from@a completed loop, next in 59s\n"
	                    "qid from=from@a completed loop, next in 2h0m5s\n"
	                    "qid from=from@a all done\n"
	                    "qid all done\n");
}

static void test_hostile(void **state)
{
	(void)state;
	char *to[] = {(char *)"\"a] - relay not allowed\"@b", (char *)"x\ny@z"};
	maillog_rejected("1.2.3.4:5", "\"a to=[b] - x\"@c", to, 2,
	                 "bad\r\n9.9.9.9:1 rejected\\ [x]");
	assert_string_equal(written(),
	                    "1.2.3.4:5 rejected from=\"a\\x20to=\\x5bb\\x5d\\x20-\\x20x\"@c "
	                    "to=[\"a\\x5d\\x20-\\x20relay\\x20not\\x20allowed\"@b x\\x0ay@z] - "
	                    "bad\\x0d\\x0a9.9.9.9:1 rejected\\x5c [x]\n");
	maillog_auth("1.2.3.4:5", "a\x1b[2J\x80 b\t\x7f\xc2\x85\xe2\x80\xa8", false);
	assert_string_equal(written(),
	                    "1.2.3.4:5 auth failed for a\\x1b\\x5b2J\\x80\\x20b\\x09\\x7f"
	                    "\\xc2\\x85\\xe2\\x80\\xa8\n");
	maillog_auth("1.2.3.4:5", "gr\xc3\xbc\xc3\x9f@\xe4\xbe\x8b.test", true);
	assert_string_equal(written(),
	                    "1.2.3.4:5 auth succeeded for gr\xc3\xbc\xc3\x9f@\xe4\xbe\x8b.test\n");
	maillog_connect("two words\n");
	assert_string_equal(written(), "two\\x20words\\x0a connected\n");
	maillog_done("id from=x\n", "a");
	assert_string_equal(written(), "id\\x20from=x\\x0a from=a all done\n");
}

/* Any bytes: one line, and each part is where it belongs. */
static void test_any_bytes(void **state)
{
	(void)state;
	srand(3);
	for (int i = 0; i < 3000; i++) {
		char value[3][40];
		for (int k = 0; k < 3; k++) {
			size_t n = 1 + (size_t)rand() % 38;
			for (size_t j = 0; j < n; j++)
				value[k][j] = (char)(rand() % 255 + 1);
			value[k][n] = '\0';
		}
		char *to[] = {value[1]};
		maillog_rejected("1.2.3.4:5", value[0], to, 1, value[2]);
		char line[2000];
		snprintf(line, sizeof line, "%s", written());
		size_t n = strlen(line);
		assert_int_equal(strcspn(line, "\n"), n - 1);
		char *word = strtok(line, " ");
		assert_string_equal(word, "1.2.3.4:5");
		assert_string_equal(strtok(NULL, " "), "rejected");
		assert_memory_equal(strtok(NULL, " "), "from=", 5);
		word = strtok(NULL, " ");
		assert_memory_equal(word, "to=[", 4);
		assert_int_equal(word[strlen(word) - 1], ']');
		assert_int_equal(strcspn(word + 4, "[]"), strlen(word) - 5);
		assert_string_equal(strtok(NULL, " "), "-");
	}
}

static void test_long(void **state)
{
	(void)state;
	static char from[3000];
	static char many[200][40];
	char *to[200];
	memset(from, ' ', sizeof from - 1);
	for (int i = 0; i < 200; i++) {
		snprintf(many[i], sizeof many[i], "recipient%d@example.test", i);
		to[i] = many[i];
	}
	maillog_rejected("1.2.3.4:5", from, to, 200, from);
	const char *line = written();
	assert_non_null(strstr(line, "...\n"));
	assert_non_null(strstr(line, "\\x20... to=[recipient0@example.test "));
	assert_non_null(strstr(line, "] - "));
	maillog_queued("id", "a@b", "1.2.3.4:5", to, 200);
	line = written();
	const char *plus = strstr(line, " +");
	assert_non_null(plus);
	int shown = 0;
	for (const char *p = line; (p = strstr(p, "recipient")); p++)
		shown++;
	assert_int_equal(shown + atoi(plus + 2), 200);
	assert_true(shown > 20);
	assert_string_equal(plus + strlen(plus) - 2, "]\n");
}

static void test_open_and_close(void **state)
{
	(void)state;
	maillog_connect("1.2.3.4:1");
	assert_int_equal(maillog_open("not/there", err, sizeof err), -1);
	assert_string_equal(err, "not/there: No such file or directory");
	maillog_connect("1.2.3.4:2"); /* the old one stays */
	assert_string_equal(written(), "1.2.3.4:1 connected\n1.2.3.4:2 connected\n");
	assert_int_equal(rename("log", "old"), 0);
	assert_int_equal(maillog_reopen(), 0);
	maillog_connect("1.2.3.4:3");
	assert_string_equal(written(), "1.2.3.4:3 connected\n");
	assert_int_equal(maillog_open("", err, sizeof err), 0);
	maillog_connect("1.2.3.4:4");
	maillog_listen("x");
	maillog_auth("x", "x", true);
	maillog_rejected("x", NULL, NULL, 0, NULL);
	maillog_queued("x", NULL, "x", NULL, 0);
	maillog_attempt("x", NULL, "x", &(struct status){.code = 250});
	maillog_waits("x", NULL, 1);
	maillog_done("x", NULL);
	assert_int_equal(maillog_reopen(), 0);
	assert_string_equal(written(), "");
}

/* A mail log that cannot be written is told in the log, once. */
static void test_full_disk(void **state)
{
	(void)state;
	int ends[2];
	char got[256];
	assert_int_equal(pipe(ends), 0);
	log_to(ends[1]);
	assert_int_equal(maillog_open("/dev/full", err, sizeof err), 0);
	maillog_connect("1.2.3.4:1");
	maillog_connect("1.2.3.4:2");
	log_to(2);
	close(ends[1]);
	ssize_t n = read(ends[0], got, sizeof got - 1);
	close(ends[0]);
	got[n > 0 ? n : 0] = '\0';
	assert_string_equal(got, "error - the mail log loses lines so_far=1\n");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_lines), TEST(test_hostile),        TEST(test_any_bytes),
	    TEST(test_long),  TEST(test_open_and_close), TEST(test_full_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
