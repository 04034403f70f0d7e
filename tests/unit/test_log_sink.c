/* test_log_sink: lines reach files, streams and the system's log, never wait for any of them, and
 * what is lost is told. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "log.h"
#include "log_sink.h"
#include "loop.h"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];
static char err[256];
static char line[8192];

static int setup(void **state)
{
	(void)state;
	return temp_dir_make(dir, sizeof dir) || chdir(dir) || loop_init();
}

static int teardown(void **state)
{
	(void)state;
	loop_done();
	return temp_dir_remove();
}

static struct log_sink *open_sink(const char *where, bool with_time)
{
	struct log_sink *s = log_sink_open(where, "chasq", with_time, err, sizeof err);
	if (!s)
		fail_msg("%s", err);
	return s;
}

static void put(struct log_sink *s, const char *text)
{
	log_sink_write(s, LOG_LEVEL_INFO, text, strlen(text));
}

static const char *content(const char *path)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, line, sizeof line - 1);
	line[n > 0 ? n : 0] = '\0';
	close(fd);
	return line;
}

/* ---- files ---- */

static void test_file(void **state)
{
	(void)state;
	struct stat st;
	umask(022);
	struct log_sink *s = open_sink("log", false);
	errno = EBADMSG;
	put(s, "one");
	assert_int_equal(errno, EBADMSG);
	put(s, "two");
	assert_string_equal(content("log"), "one\ntwo\n");
	assert_int_equal(stat("log", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	/* Rotation: nothing is lost between the two. */
	assert_int_equal(rename("log", "old"), 0);
	put(s, "three");
	assert_int_equal(log_sink_reopen(s), 0);
	put(s, "four");
	assert_string_equal(content("old"), "one\ntwo\nthree\n");
	assert_string_equal(content("log"), "four\n");
	/* A name that cannot be opened leaves the old file in use. */
	assert_int_equal(unlink("log"), 0);
	assert_int_equal(mkdir("log", 0700), 0);
	assert_int_equal(log_sink_reopen(s), -1);
	assert_int_equal(errno, EISDIR);
	put(s, "five");
	assert_int_equal(rmdir("log"), 0);
	assert_int_equal(log_sink_lost(s), 0);
	log_sink_close(s);
	s = open_sink("old", false); /* appends */
	put(s, "more");
	assert_string_equal(content("old"), "one\ntwo\nthree\nmore\n");
	log_sink_close(s);
	assert_null(log_sink_open("not/there", "chasq", true, err, sizeof err));
	assert_string_equal(err, "not/there: No such file or directory");
	log_sink_close(NULL);
}

static void test_time(void **state)
{
	(void)state;
	struct log_sink *s = open_sink("log", true);
	struct tm tm;
	int us;
	char rest[20];
	put(s, "hello");
	memset(&tm, 0, sizeof tm);
	assert_int_equal(sscanf(content("log"), "%4d-%2d-%2d %2d:%2d:%2d.%6d %s", &tm.tm_year,
	                        &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &us,
	                        rest),
	                 8);
	assert_string_equal(rest, "hello");
	assert_int_equal(strlen(line), strlen("2026-11-22 10:00:00.000000 hello\n"));
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	tm.tm_isdst = -1;
	assert_in_range(mktime(&tm), time(NULL) - 3, time(NULL) + 1);
	log_sink_close(s);
}

static void test_full_disk(void **state)
{
	(void)state;
	struct log_sink *s = open_sink("/dev/full", true);
	put(s, "one");
	put(s, "two");
	assert_int_equal(log_sink_lost(s), 2);
	log_sink_close(s);
	/* There is room again: the loss is told first. */
	assert_int_equal(symlink("/dev/full", "log"), 0);
	s = open_sink("log", false);
	put(s, "one");
	put(s, "two");
	put(s, "three");
	assert_int_equal(unlink("log"), 0);
	assert_int_equal(log_sink_reopen(s), 0);
	put(s, "four");
	put(s, "five");
	assert_string_equal(content("log"), "error - log lines lost n=3\nfour\nfive\n");
	assert_int_equal(log_sink_lost(s), 3);
	log_sink_close(s);
}

/* A line that was written in part does not run into the next one. */
static void test_torn_line(void **state)
{
	(void)state;
	struct rlimit old;
	struct rlimit small;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 10;
	signal(SIGXFSZ, SIG_IGN);
	struct log_sink *s = open_sink("log", false);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	put(s, "first");
	put(s, "second");
	put(s, "third");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	put(s, "fourth");
	signal(SIGXFSZ, SIG_DFL);
	assert_string_equal(content("log"), "first\nseco\nerror - log lines lost n=2\nfourth\n");
	log_sink_close(s);
}

/* ---- turns ---- */

/* Calls it within a turn of the loop. */
static void in_turn(void (*call)(void *), void *arg)
{
	struct loop_timer t;
	loop_timer_init(&t, call, arg);
	loop_timer_set(&t, 0);
	while (loop_timer_is_set(&t))
		assert_int_equal(loop_turn(10), 0);
}

static void put_three(void *sink)
{
	put(sink, "first");
	put(sink, "second");
	put(sink, "third");
}

static void put_three_and_look(void *sink)
{
	put_three(sink);
	assert_string_equal(content("log"), "");
}

static void put_error(void *sink)
{
	put(sink, "before");
	log_sink_write(sink, LOG_LEVEL_ERROR, "error", 5);
	assert_string_equal(content("log"), "first\nsecond\nthird\nbefore\nerror\n");
	put(sink, "behind");
}

static void reopen_and_put(void *sink)
{
	put(sink, "old");
	assert_int_equal(rename("log", "old"), 0);
	assert_int_equal(log_sink_reopen(sink), 0);
	put(sink, "new");
}

static void test_turn(void **state)
{
	(void)state;
	struct log_sink *s = open_sink("log", false);
	in_turn(put_three_and_look, s);
	assert_string_equal(content("log"), "first\nsecond\nthird\n");
	in_turn(put_error, s);
	assert_string_equal(content("log"), "first\nsecond\nthird\nbefore\nerror\nbehind\n");
	assert_int_equal(truncate("log", 0), 0);
	in_turn(reopen_and_put, s);
	assert_string_equal(content("old"), "old\n");
	assert_string_equal(content("log"), "new\n");
	log_sink_close(s);
}

static void put_many(void *sink)
{
	char text[64];
	for (int i = 0; i < 3 * LOG_TURN_BYTES / 60; i++) {
		snprintf(text, sizeof text, "%059d", i);
		put(sink, text);
	}
	assert_int_equal(strlen(content("log")) % 60, 0);
	assert_true(*line);
}

static void close_it(void *sink)
{
	put_three(sink);
	log_sink_close(sink);
}

static void test_turn_of_many_lines(void **state)
{
	(void)state;
	struct log_sink *s = open_sink("log", false);
	in_turn(put_many, s);
	int64_t size = 0;
	FILE *f = fopen("log", "r");
	for (int i = 0; fgets(line, sizeof line, f); i++) {
		assert_int_equal(strtol(line, NULL, 10), i);
		size += (int64_t)strlen(line);
	}
	fclose(f);
	assert_int_equal(size, 3 * LOG_TURN_BYTES / 60 * 60);
	assert_int_equal(truncate("log", 0), 0);
	in_turn(close_it, s);
	assert_string_equal(content("log"), "first\nsecond\nthird\n");
}

static void test_turn_torn(void **state)
{
	(void)state;
	struct rlimit old;
	struct rlimit small;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 10;
	signal(SIGXFSZ, SIG_IGN);
	struct log_sink *s = open_sink("log", false);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	in_turn(put_three, s);
	assert_int_equal(log_sink_lost(s), 2);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	put(s, "fourth");
	signal(SIGXFSZ, SIG_DFL);
	assert_string_equal(content("log"), "first\nseco\nerror - log lines lost n=2\nfourth\n");
	log_sink_close(s);
	s = open_sink("/dev/full", true);
	in_turn(put_three, s);
	assert_int_equal(log_sink_lost(s), 3);
	log_sink_close(s);
}

static void put_and_abort(void *sink)
{
	put_three(sink);
	abort();
}

/* What was said before a fault is not lost with the turn. */
static void test_turn_ends_in_a_fault(void **state)
{
	(void)state;
	int wait_status;
	signal(SIGABRT, SIG_DFL); /* cmocka has its own */
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		in_turn(put_and_abort, open_sink("log", false));
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &wait_status, 0), pid);
	assert_true(WIFSIGNALED(wait_status));
	assert_int_equal(WTERMSIG(wait_status), SIGABRT);
	assert_string_equal(content("log"), "first\nsecond\nthird\n");
}

/* ---- streams ---- */

/* Puts the write end of a pipe in the place of standard output, and back. */
static int pipe_out[2];
static int kept;

static void redirect(void)
{
	fflush(stdout);
	kept = dup(1);
	assert_int_equal(pipe(pipe_out), 0);
	fcntl(pipe_out[0], F_SETFL, O_NONBLOCK);
	dup2(pipe_out[1], 1);
	close(pipe_out[1]);
}

static void restore(void)
{
	dup2(kept, 1);
	close(kept);
	close(pipe_out[0]);
}

static void test_stuck_reader(void **state)
{
	(void)state;
	redirect();
	struct log_sink *s = open_sink("<stdout>", false);
	char text[64];
	int written = 0;
	/* Nobody reads: this must neither block nor lose order. */
	for (; log_sink_lost(s) == 0 && written < 100000; written++) {
		snprintf(text, sizeof text, "line %d", written);
		put(s, text);
	}
	put(s, "lost too");
	unsigned long long lost = log_sink_lost(s);
	FILE *f = fdopen(dup(pipe_out[0]), "r");
	int next = 0;
	bool told = false;
	for (int turns = 0; turns < 100000 && !told; turns++) {
		loop_turn(0);
		while (fgets(line, sizeof line, f)) {
			int got;
			unsigned long long n;
			if (sscanf(line, "line %d", &got) == 1) {
				if (got != next)
					break;
				next++;
			} else if (sscanf(line, "error - log lines lost n=%llu", &n) == 1) {
				told = n == lost;
			}
		}
		clearerr(f);
	}
	fclose(f);
	log_sink_close(s);
	restore();
	assert_int_equal(lost, 2);
	assert_true(written < 100000);
	assert_int_equal(next, written - 1);
	assert_true(told);
}

/* The lines of a turn wait for a reader like any others, in their order. */
static void test_stuck_reader_of_a_turn(void **state)
{
	(void)state;
	redirect();
	struct log_sink *s = open_sink("<stdout>", false);
	memset(line, 'x', sizeof line);
	fcntl(1, F_SETFL, O_NONBLOCK);
	while (write(1, line, sizeof line) > 0)
		continue;
	while (write(1, line, 1) > 0)
		continue;
	in_turn(put_three, s);
	put(s, "fourth");
	unsigned long long lost = log_sink_lost(s);
	FILE *f = fdopen(dup(pipe_out[0]), "r");
	char got[100] = "";
	for (int turns = 0; turns < 1000 && !strstr(got, "fourth"); turns++) {
		char *p;
		while ((p = fgets(line, sizeof line, f))) {
			p += strspn(p, "x");
			snprintf(got + strlen(got), sizeof got - strlen(got), "%s", p);
		}
		clearerr(f);
		loop_turn(10);
	}
	fclose(f);
	log_sink_close(s);
	restore();
	assert_int_equal(lost, 0);
	assert_string_equal(got, "first\nsecond\nthird\nfourth\n");
}

static void test_reader_gone(void **state)
{
	(void)state;
	redirect();
	struct log_sink *s = open_sink("<stdout>", false);
	close(pipe_out[0]);
	put(s, "nobody"); /* neither a signal nor a queue */
	unsigned long long lost = log_sink_lost(s);
	log_sink_close(s);
	pipe_out[0] = dup(0);
	restore();
	assert_int_equal(lost, 1);
}

static void test_journal(void **state)
{
	(void)state;
	struct stat st;
	char name[64];
	redirect();
	fstat(1, &st);
	snprintf(name, sizeof name, "%llu:%llu", (unsigned long long)st.st_dev,
	         (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", name, 1);
	struct log_sink *s = open_sink("<stdout>", true);
	put(s, "hello");
	log_sink_write(s, LOG_LEVEL_ERROR, "oh", 2);
	log_sink_write(s, LOG_LEVEL_DEBUG, "hm", 2);
	log_sink_close(s);
	log_to(1);
	log_error("-", "direct");
	log_info("-", "direct");
	setenv("JOURNAL_STREAM", "1:2", 1);
	log_info("-", "looked at once");
	log_to(1);
	log_info("-", "plain");
	log_to(2);
	bool others[] = {log_sink_is_journal(1), false, false, false};
	static const char *const bad[] = {"", "7", "x:y"};
	for (int i = 0; i < 3; i++) {
		setenv("JOURNAL_STREAM", bad[i], 1);
		others[i + 1] = log_sink_is_journal(1);
	}
	unsetenv("JOURNAL_STREAM");
	ssize_t n = read(pipe_out[0], line, sizeof line - 1);
	line[n > 0 ? n : 0] = '\0';
	restore();
	for (int i = 0; i < 4; i++)
		assert_false(others[i]);
	assert_string_equal(line, "<6>hello\n<3>oh\n<7>hm\n<3>error - direct\n<6>- direct\n"
	                          "<6>- looked at once\n- plain\n");
}

/* ---- the system's log ---- */

/* A fake of it. */
#define SOCKET "socket"
#define SYSLOG "<syslog:" SOCKET ">"

static int syslogd(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = SOCKET};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	unlink(SOCKET);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
	return fd;
}

/* The next line that came, without what stands in front; NULL: none. */
static const char *heard(int fd)
{
	ssize_t n = recv(fd, line, sizeof line - 1, 0);
	line[n > 0 ? n : 0] = '\0';
	const char *colon = strstr(line, "]: ");
	return n > 0 && colon ? colon + 3 : NULL;
}

static void test_syslog(void **state)
{
	(void)state;
	char want[64];
	char month[4];
	int day, hour, minute, second, pri;
	int fd = syslogd();
	struct log_sink *s = open_sink(SYSLOG, true);
	put(s, "hello");
	assert_string_equal(heard(fd), "hello");
	snprintf(want, sizeof want, " chasq[%ld]: hello", (long)getpid());
	assert_string_equal(strstr(line, " chasq["), want);
	assert_int_equal(sscanf(line, "<%d>%3s %2d %2d:%2d:%2d chasq[", &pri, month, &day, &hour,
	                        &minute, &second),
	                 6);
	assert_int_equal(pri, 22);
	assert_int_equal(strlen(line), strlen("<22>Nov 22 10:00:00") + strlen(want));
	log_sink_write(s, LOG_LEVEL_ERROR, "oh", 2);
	heard(fd);
	assert_memory_equal(line, "<19>", 4);
	log_sink_write(s, LOG_LEVEL_DEBUG, "hm", 2);
	heard(fd);
	assert_memory_equal(line, "<23>", 4);
	assert_int_equal(log_sink_reopen(s), 0);
	log_sink_close(s);
	close(fd);
}

static void test_syslog_full(void **state)
{
	(void)state;
	int fd = syslogd();
	struct log_sink *s = open_sink(SYSLOG, false);
	char text[64];
	int written = 0;
	for (; log_sink_lost(s) == 0 && written < 100000; written++) {
		snprintf(text, sizeof text, "line %d", written);
		put(s, text);
	}
	assert_true(written < 100000);
	put(s, "lost");
	put(s, "lost");
	assert_int_equal(log_sink_lost(s), 3);
	/* A little room is not for saying that there is little room. */
	assert_string_equal(heard(fd), "line 0");
	put(s, "lost");
	assert_int_equal(log_sink_lost(s), 4);
	/* It reads on, slowly: all that was taken comes in order, then the count, once. */
	int next = 1;
	int told = 0;
	for (int turns = 0; turns < 100000 && (!told || next < written - 1); turns++) {
		const char *got = heard(fd);
		if (got && strncmp(got, "line ", 5) == 0)
			assert_int_equal(atoi(got + 5), next++);
		else if (got)
			told += strcmp(got, "error - log lines lost n=4") == 0;
		loop_turn(0);
	}
	assert_int_equal(next, written - 1);
	assert_int_equal(told, 1);
	put(s, "after");
	assert_string_equal(heard(fd), "after");
	assert_null(heard(fd));
	log_sink_close(s);
	close(fd);
}

static void test_syslog_missing_and_restarted(void **state)
{
	(void)state;
	unlink(SOCKET);
	struct log_sink *s = open_sink(SYSLOG, false);
	put(s, "early");
	int fd = syslogd();
	put(s, "second"); /* within the second in which it was tried: waits */
	assert_null(heard(fd));
	int64_t start = loop_now();
	const char *got = NULL;
	for (int i = 0; i < 200 && !(got = heard(fd)); i++)
		loop_turn(20);
	assert_string_equal(got, "early");
	loop_refresh();
	assert_in_range(loop_now() - start, LOG_RETRY_MS / 2, LOG_RETRY_MS * 3);
	assert_string_equal(heard(fd), "second");
	/* Restarted: the new one gets the very next line, if it was not tried a moment ago. */
	for (loop_refresh(), start = loop_now(); loop_now() < start + LOG_RETRY_MS + 20;)
		loop_turn(50);
	close(fd);
	fd = syslogd();
	put(s, "new one");
	assert_string_equal(heard(fd), "new one");
	/* Restarted at once again: after a second, by the loop alone. */
	close(fd);
	fd = syslogd();
	put(s, "third");
	assert_null(heard(fd));
	for (int i = 0; i < 200 && !(got = heard(fd)); i++)
		loop_turn(20);
	assert_string_equal(got, "third");
	assert_int_equal(log_sink_lost(s), 0);
	log_sink_close(s);
	close(fd);
}

/* Never there: fewer and fewer wake-ups. */
static void test_syslog_missing_for_long(void **state)
{
	(void)state;
	unlink(SOCKET);
	struct log_sink *s = open_sink(SYSLOG, false);
	int wakes = 0;
	loop_refresh();
	put(s, "waits");
	int64_t end = loop_now() + 2 * LOG_RETRY_MS + LOG_RETRY_MS / 2;
	for (; loop_now() < end; wakes++)
		assert_int_equal(loop_turn((int)(end - loop_now())), 0);
	assert_in_range(wakes, 1, 2); /* after 1, and for the end; then after 3 */
	log_sink_close(s);
}

/* Gone for good: memory is bounded, nothing blocks, nothing spins. */
static void test_syslog_gone(void **state)
{
	(void)state;
	int fd = syslogd();
	struct log_sink *s = open_sink(SYSLOG, false);
	close(fd);
	unlink(SOCKET);
	for (int i = 0; i < 10000; i++)
		put(s, "a line of a usual length, as there are many in the log");
	assert_true(log_sink_lost(s) > 9000 && log_sink_lost(s) < 10000);
	int turns = 0;
	loop_refresh();
	for (int64_t start = loop_now(); loop_now() < start + 300; turns++)
		loop_turn(100);
	assert_true(turns < 20);
	memset(line, 'x', sizeof line);
	log_sink_write(s, LOG_LEVEL_INFO, line, sizeof line); /* longer than any line of ours */
	log_sink_close(s);
}

/* log_use: lines of the log go there. */
static void test_log_use(void **state)
{
	(void)state;
	struct log_sink *s = open_sink("log", false);
	log_use(s);
	log_info("-", "to the sink", LOG_S("k", "a\nb"));
	log_debug("-", "not written");
	log_use(NULL);
	log_sink_close(s);
	assert_string_equal(content("log"), "- to the sink k=\"a\\x0ab\"\n");
}

/* In a directory of another user, root follows no link, and makes no file behind one. */
static void test_links_of_others(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(mkdir("others", 0755), 0);
	assert_int_equal(chown("others", 65534, 65534), 0);
	assert_int_equal(symlink("../old", "others/log"), 0);
	assert_null(log_sink_open("others/log", "chasq", false, err, sizeof err));
	assert_int_equal(access("old", F_OK), -1);
	assert_int_equal(unlink("others/log"), 0);
	close(open("old", O_CREAT | O_WRONLY, 0600));
	assert_int_equal(link("old", "others/log"), 0);
	assert_null(log_sink_open("others/log", "chasq", false, err, sizeof err));
	assert_int_equal(unlink("others/log"), 0);
	log_sink_close(open_sink("others/log", false));
	unlink("others/log");
	rmdir("others");
	/* Of root's own links, as /dev/stdout is one, nothing is to be feared. */
	assert_int_equal(symlink("old", "log"), 0);
	log_sink_close(open_sink("log", false));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_file),
	    TEST(test_time),
	    TEST(test_full_disk),
	    TEST(test_turn),
	    TEST(test_turn_of_many_lines),
	    TEST(test_turn_torn),
	    TEST(test_turn_ends_in_a_fault),
	    TEST(test_stuck_reader),
	    TEST(test_stuck_reader_of_a_turn),
	    TEST(test_reader_gone),
	    TEST(test_journal),
	    TEST(test_syslog),
	    TEST(test_syslog_full),
	    TEST(test_syslog_gone),
	    TEST(test_syslog_missing_and_restarted),
	    TEST(test_syslog_missing_for_long),
	    TEST(test_log_use),
	    TEST(test_torn_line),
	    TEST(test_links_of_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
