/*
 * control: the UNIX socket, with sessions, queue and spool of our own making behind it.
 * link: fake_control.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "config.h"
#include "control.h"
#include "domaininfo.h"
#include "fake_control.h"
#include "log.h"
#include "loop.h"
#include "temp_dir.h"
#include "trace.h"

static char dir[400];

#define RELOADED "OK\nchanged hostname: a -> b\nrefused data_dir: why not\nEND\n"

/* ---- a client ---- */

static int client(void)
{
	int fd = control_connect(dir);
	assert_true(fd >= 0);
	assert_int_equal(io_nonblock(fd), 0);
	return fd;
}

static void turns(int n)
{
	while (n-- > 0)
		loop_turn(0);
}

/* Reads what comes, until the end or until it holds `until`. */
static const char *hear(int fd, const char *until)
{
	static char text[2000000];
	size_t n = 0;
	for (int i = 0; i < 20000; i++) {
		loop_turn(1);
		ssize_t got = recv(fd, text + n, sizeof(text) - 1 - n, 0);
		if (got < 0 && errno == EAGAIN)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
		text[n] = '\0';
		if (until && strstr(text, until))
			break;
	}
	text[n] = '\0';
	return text;
}

static const char *ask(const char *line)
{
	int fd = client();
	assert_int_equal(send(fd, line, strlen(line), 0), strlen(line));
	const char *text = hear(fd, NULL);
	close(fd);
	turns(3);
	return text;
}

static int set_up(void **state)
{
	char err[512];
	(void)state;
	log_level_now = LOG_LEVEL_ERROR;
	if (temp_dir_make(dir, sizeof dir))
		return -1;
	fake_control_conf =
	    (struct conf){.data_dir = dir, .hostname = (char *)"here.test", .control_mode = 0666};
	fake_control = (struct fake_control){.messages = 3, .content = 1000, .attempts = 2};
	if (loop_init() < 0 || chmod(dir, 0755) < 0)
		return -1;
	return control_open(&fake_control_setup, err, sizeof(err));
}

static int tear_down(void **state)
{
	(void)state;
	control_close();
	assert_int_equal(control_sessions(), 0);
	loop_done();
	return temp_dir_remove();
}

static void test_commands(void **state)
{
	static const char first[] =
	    "OK\nm00000\t910\t4700\twaiting\t2\t12345\ta@b.test\t451 4.4.1 nobody there\t3\t"
	    "x y@c.test\t|prog\tz@d.test\nm00001\t910\t4700\twaiting\t0\t0\t\t"
	    "the disk is on fire\t0\nm00002\t910\t";
	(void)state;
	const char *text = ask("QUEUE\n");
	if (strncmp(text, first, sizeof(first) - 1) != 0)
		fail_msg("%s", text);
	assert_string_equal(text + strlen(text) - 5, "\nEND\n");
	assert_string_equal(ask("QUEUE x\n"), "ERROR QUEUE takes no argument\n");
	assert_string_equal(ask("FLUSH\r\n"), "OK\nflushed\t3\nEND\n");
	assert_string_equal(ask("FLUSH m00002\n"), "OK\nflushed\t1\nEND\n");
	assert_string_equal(ask("FLUSH m00000\n"),
	                    "ERROR this message is held, or on its way already\n");
	assert_string_equal(ask("FLUSH m00009\n"), "ERROR there is no such message\n");
	assert_string_equal(ask("FLUSH a..b\n"), "ERROR this is neither a message nor a domain\n");
	assert_string_equal(ask("RELOAD\n"), RELOADED);
	fake_control.reload_result = -1;
	assert_string_equal(ask("RELOAD\n"), "ERROR chasq.conf:3: no such key OK\n");
	assert_string_equal(ask("CONFIG\n"), "OK\nhostname: \"a\" # chasq.conf:1\nEND\n");
	assert_string_equal(ask("queue\n"), "ERROR unknown command\n");
	assert_string_equal(ask("\n"), "ERROR unknown command\n");
	fake_control.messages = 0;
	assert_string_equal(ask("QUEUE\n"), "OK\nEND\n");
}

static size_t count_lines(const char *text)
{
	size_t lines = 0;
	for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++)
		lines++;
	return lines;
}

static void test_long_lists(void **state)
{
	(void)state;
	fake_control.messages = 1000;
	const char *text = ask("QUEUE\n");
	assert_int_equal(count_lines(text), 1002);
	assert_non_null(strstr(text, "\nm00999\t"));
	assert_int_equal(fake_control.loads, 1000);
}

/* No turn looks at more than a step, and a client that reads nothing is not waited for. */
static void test_lists_go_in_steps(void **state)
{
	(void)state;
	fake_control.messages = 100000;
	int fd = client();
	assert_int_equal(send(fd, "QUEUE\n", 6, 0), 6);
	unsigned before = 0;
	for (int i = 0; i < 100; i++) {
		loop_turn(0);
		assert_true(fake_control.loads - before <= CONTROL_LIST_STEP);
		before = fake_control.loads;
	}
	for (int i = 0; i < 3000; i++)
		loop_turn(0);
	assert_true(fake_control.loads < 10000); /* the socket is full */
	close(fd);
	turns(5);
	fake_control.loads = 0;
	fd = client();
	assert_int_equal(send(fd, "FLUSH d.test\n", 13, 0), 13);
	turns(10);
	assert_in_range(fake_control.loads, 1, 10 * CONTROL_LIST_STEP);
	close(fd); /* noticed when it is answered */
	fake_control.messages = 200;
	turns(100);
	assert_string_equal(ask("FLUSH D.test.\n"), "OK\nflushed\t1\nEND\n");
	assert_string_equal(ask("FLUSH e.test\n"), "OK\nflushed\t0\nEND\n");
}

static void test_show(void **state)
{
	(void)state;
	assert_string_equal(
	    ask("SHOW m00000\n"),
	    "OK\nid\tm00000\ncreated\t910\nnext\t4700\nstate\twaiting\nattempts\t2\n"
	    "size\t12345\nfrom\ta@b.test\n"
	    "rcpt\tpending\tEMAIL\tx y@c.test\to @c\t\tmx [1.2.3.4]\t451 4.4.1 nobody there\n"
	    "rcpt\tpending\tPIPE\tprog\to\t\t\t\n"
	    "rcpt\tpending\tFORWARD\tz@d.test\to\th1/h2\t\t\n"
	    "attempt\t950\tpending\tmx [1.2.3.4]\t451 4.4.1 try later\t0,2\n"
	    "attempt\t951\tpending\tmx [1.2.3.4]\t451 4.4.1 try later\t0,2\n"
	    "header\tSubject: a b\nheader\tX: ?[2J\nheader\t folded\nEND\n");
	assert_string_equal(ask("SHOW m00001\n"), "ERROR not now: the disk is on fire\n");
	assert_string_equal(ask("SHOW m00009\n"), "ERROR there is no such message\n");
	assert_string_equal(ask("SHOW ../control\n"), "ERROR there is no such message\n");
	assert_string_equal(ask("SHOW\n"), "ERROR there is no such message\n");
	fake_control.content = 20; /* only a header, and not all of it is read */
	fake_control.broken_at = 20;
	assert_non_null(strstr(ask("SHOW m00000\n"), "cut\theader\tthe checksum is wrong\nEND\n"));
	fake_control.broken_at = 0;
	fake_control.rcpts = 900;
	fake_control.attempts = 20000; /* the newest of them are kept */
	const char *text = ask("SHOW m00002\n");
	assert_non_null(strstr(text, "\nattempt\t20949\t"));
	assert_null(strstr(text, "\nattempt\t950\t"));
	assert_true(count_lines(text) > 1903);
	assert_string_equal(text + strlen(text) - 5, "\nEND\n");
}

static void test_raw(void **state)
{
	(void)state;
	fake_control.content = 100000;
	const char *text = ask("RAW m00000\n");
	char *at;
	assert_memory_equal(text, "OK\n", 3);
	unsigned long n, total = 0;
	for (text += 3; (n = strtoul(text, &at, 10)) > 0; text = at + 1 + n) {
		assert_int_equal(*at, '\n');
		if (total == 0)
			assert_memory_equal(at + 1, "Subject: a\tb\r\nX: \033[2J\r\n", 21);
		total += n;
	}
	assert_int_equal(total, 100000);
	assert_string_equal(at, "\nEND\n");
	fake_control.broken_at = 50000;
	text = ask("RAW m00000\n");
	assert_non_null(strstr(text, "ERROR the checksum is wrong\n"));
	assert_null(strstr(text, "END\n"));
	assert_string_equal(ask("RAW m00001\n"), "ERROR not now: the disk is on fire\n");
	assert_string_equal(ask("RAW m7\n"), "ERROR there is no such message\n");
}

static void test_hold(void **state)
{
	(void)state;
	assert_string_equal(ask("HOLD\n"), "OK\nEND\n");
	assert_string_equal(ask("HOLD C.test\n"), "OK\nheld\tc.test\nEND\n");
	/* The pipe is tried all the same. */
	assert_non_null(strstr(ask("QUEUE\n"), "\nm00000\t910\t4700\twaiting\t"));
	assert_string_equal(ask("HOLD m00002\n"), "OK\nheld\tm00002\nEND\n");
	assert_non_null(strstr(ask("QUEUE\n"), "\nm00002\t910\t4700\theld\t"));
	assert_string_equal(ask("HOLD\n"), "OK\nc.test\nm00002\nEND\n");
	assert_string_equal(ask("HOLD m00007\n"), "ERROR there is no such message\n");
	assert_string_equal(ask("HOLD z.test\n"), "OK\nheld\tz.test\nEND\n");
	assert_string_equal(ask("HOLD y.test\n"), "ERROR not now: too much is held\n");
	fake_control.messages = 1; /* m00002 has gone, but is held still */
	assert_string_equal(ask("RELEASE m00002\n"), "OK\nreleased\tm00002\nEND\n");
	assert_string_equal(ask("RELEASE c.test\n"), "OK\nreleased\tc.test\nEND\n");
	assert_string_equal(ask("RELEASE c.test\n"), "ERROR it is not held\n");
	assert_string_equal(ask("RELEASE \n"), "ERROR this is neither a message nor a domain\n");
}

static void test_remove(void **state)
{
	(void)state;
	assert_string_equal(ask("REMOVE m00002\n"), "OK\nremoved\tm00002\nEND\n");
	assert_string_equal(fake_control.removed, "m00002");
	assert_string_equal(ask("REMOVE m00002 BOUNCE\n"), "OK\nremoved\tm00002\nEND\n");
	assert_string_equal(fake_control.removed, "m00002 bounce");
	fake_control.removed[0] = '\0';
	assert_memory_equal(ask("REMOVE m00002 all\n"), "ERROR REMOVE takes", 18);
	assert_memory_equal(ask("REMOVE m00003\n"), "ERROR there is no such", 22);
	assert_memory_equal(ask("REMOVE\n"), "ERROR there is no such", 22);
	assert_string_equal(fake_control.removed, "");
}

static void test_resolve(void **state)
{
	(void)state;
	assert_string_equal(ask("RESOLVE a@else.test\n"), "OK\nEMAIL\ta@else.test\t\nEND\n");
	assert_string_equal(ask("RESOLVE a b@@\n"), "ERROR this is not an address\n");
	static const struct {
		const char *line, *reply;
	} cases[] = {
	    {"RESOLVE alice@HERE.test\n", "OK\nEMAIL\tbob@here.test\t\nPIPE\tcat x\t\n"
	                                  "FORWARD\tc@here.test\th1/h2\nEND\n"},
	    {"RESOLVE nobody\n", "ERROR there is no such user here\n"},
	    {"RESOLVE slow@here.test\n", "ERROR not now: the hook failed\n"},
	};
	for (size_t i = 0; i < 3; i++) {
		int fd = client();
		assert_true(send(fd, cases[i].line, strlen(cases[i].line), 0) > 0);
		turns(5);
		fake_control_resolve();
		assert_string_equal(hear(fd, NULL), cases[i].reply);
		close(fd);
		turns(5);
	}
	assert_int_equal(fake_control.resolving, 3);
	assert_int_equal(fake_control.cancelled, 0);
	int fd = client();
	assert_int_equal(send(fd, "RESOLVE slow\n", 13, 0), 13);
	turns(5);
	control_close(); /* ends the question too */
	assert_int_equal(fake_control.cancelled, 1);
	close(fd);
}

static void test_status(void **state)
{
	(void)state;
	fake_control_conf.smtp_address = (struct text_strings){
	    .item = (char *[]){(char *)":25", (char *)"[::1]:2525"}, .count = 2};
	const char *text = ask("STATUS\n");
	assert_memory_equal(text, "OK\nversion\t", 11);
	assert_non_null(strstr(text, "\nhostname\there.test\nuptime\t0\nqueue\t3\noldest\t910\n"
	                             "active\t1\nsessions\t7\nlocal\t0\ncertificates\t0\n"
	                             "sandbox\tnone\nexpiry\t0\n"
	                             "listens\tsmtp\t:25\nlistens\tsmtp\t[::1]:2525\n"));
	assert_non_null(strstr(text, "\ncounter\tcontrol/commands\t"));
}

static void test_trace(void **state)
{
	char line[200];
	(void)state;
	for (int i = 0; i < 5; i++) {
		int n = snprintf(line, sizeof(line), "event%d\tx", i);
		trace_add(LOG_LEVEL_INFO, LOG_QUEUE, i == 3 ? "mine" : "other", line, (size_t)n);
	}
	const char *text = ask("TRACE 2 queue\n");
	assert_int_equal(count_lines(text), 4);
	assert_non_null(strstr(text, "\tinfo\tqueue\tmine\tevent3 x\n"));
	assert_non_null(strstr(text, "\tinfo\tqueue\tother\tevent4 x\nEND\n"));
	text = ask("TRACE mine\n");
	assert_int_equal(count_lines(text), 3);
	assert_non_null(strstr(text, "\tmine\tevent3"));
	assert_string_equal(ask("TRACE 5 nobody\n"), "OK\nEND\n");
	int fd = client();
	assert_int_equal(send(fd, "TRACE FOLLOW 1 queue\n", 21, 0), 21);
	assert_non_null(strstr(hear(fd, "event4"), "event4"));
	trace_add(LOG_LEVEL_ERROR, LOG_QUEUE, "-", "event5", 6);
	assert_non_null(strstr(hear(fd, "event5"), "\terror\tqueue\t-\tevent5\n"));
	/* It goes when its client goes, though nothing happens. */
	close(fd);
	turns(5);
	for (int i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
		assert_memory_equal(ask("TRACE 1\n"), "OK\n", 3);
}

/* The answer comes at once, the end of file only with the end of the process. */
static void test_stop(void **state)
{
	char line[100], c;
	(void)state;
	int fd = client();
	assert_int_equal(send(fd, "STOP\n", 5, 0), 5);
	snprintf(line, sizeof(line), "OK\nstopping\t%ld\nEND\n", (long)getpid());
	assert_string_equal(hear(fd, "END\n"), line);
	assert_int_equal(fake_control.stopped, 1);
	control_stop();
	control_close();
	assert_int_equal(recv(fd, &c, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	close(fd);
}

static void test_mode_and_owner(void **state)
{
	char path[500];
	struct stat st;
	(void)state;
	snprintf(path, sizeof(path), "%s/control", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	fake_control_conf.control_mode = 0620;
	assert_int_equal(control_apply(&fake_control_conf), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0620);
	log_to(-1);
	fake_control_conf.control_owner = (char *)"no-such-user-here:";
	assert_int_equal(control_apply(&fake_control_conf), -1);
	if (geteuid() == 0) {
		fake_control_conf.control_owner = (char *)"nobody:12345";
		assert_int_equal(control_apply(&fake_control_conf), 0);
		assert_int_equal(stat(path, &st), 0);
		assert_true(st.st_uid != 0 && st.st_gid == 12345);
		fake_control_conf.control_owner = (char *)":daemon";
		assert_int_equal(control_apply(&fake_control_conf), 0);
		assert_int_equal(stat(path, &st), 0);
		assert_true(st.st_uid != 0 && st.st_gid != 12345 && st.st_gid != 0);
	}
	log_to(2);
}

static int64_t later(void)
{
	return INT64_C(1800000000); /* 2027-01-15 08:00 UTC */
}

static void test_domains(void **state)
{
	struct status st;
	(void)state;
	assert_string_equal(ask("DOMAININFO LIST\n"), "ERROR nothing is remembered of domains\n");
	fake_control_smtpd.domaininfo = domaininfo_open(dir, 0, later, &st);
	assert_non_null(fake_control_smtpd.domaininfo);
	assert_string_equal(ask("DOMAININFO LIST\n"), "OK\nEND\n");
	domaininfo_saw(fake_control_smtpd.domaininfo, DOMAININFO_OUT, "b.test",
	               DOMAININFO_TLS_SECURE);
	domaininfo_saw(fake_control_smtpd.domaininfo, DOMAININFO_IN, "a.test",
	               DOMAININFO_TLS_CLIENT);
	assert_string_equal(ask("DOMAININFO LIST\n"),
	                    "OK\na.test\tTLS_CLIENT\tPLAIN\t2027-01-15T08:00Z\n"
	                    "b.test\tPLAIN\tTLS_SECURE\t2027-01-15T08:00Z\nEND\n");
	assert_string_equal(ask("DOMAININFO SHOW B.Test.\r\n"),
	                    "OK\ndomain\tb.test\nincoming\tPLAIN\t-\n"
	                    "outgoing\tTLS_SECURE\t2027-01-15T08:00Z\nEND\n");
	assert_string_equal(ask("DOMAININFO FORGET B.TEST\n"), "OK\nforgotten\tb.test\nEND\n");
	assert_string_equal(ask("DOMAININFO FORGET b.test\n"),
	                    "ERROR b.test: this domain is not known\n");
	assert_string_equal(ask("DOMAININFO SHOW b.test\n"),
	                    "ERROR b.test: this domain is not known\n");
	assert_string_equal(ask("DOMAININFO SHOW ../a\n"), "ERROR this is not a domain\n");
	assert_string_equal(ask("DOMAININFO SHOW \n"), "ERROR this is not a domain\n");
	assert_string_equal(ask("DOMAININFO SHOW\n"), "ERROR unknown command\n");
	assert_string_equal(ask("DOMAININFO\n"), "ERROR unknown command\n");
	assert_string_equal(ask("DOMAININFO LIST x\n"), "ERROR unknown command\n");
	/* Far more than an answer may have waiting. */
	for (int i = 0; i < 1500; i++) {
		char name[40];
		snprintf(name, sizeof(name), "d%05d.test", i);
		domaininfo_saw(fake_control_smtpd.domaininfo, DOMAININFO_OUT, name,
		               DOMAININFO_PLAIN);
	}
	const char *text = ask("DOMAININFO LIST\n");
	assert_int_equal(count_lines(text), 1503);
	assert_non_null(strstr(text, "\nd01499.test\tPLAIN\tPLAIN\t2027-"));
	domaininfo_close(fake_control_smtpd.domaininfo);
	fake_control_smtpd.domaininfo = NULL;
}

static void test_bad_lines(void **state)
{
	char line[CONTROL_LINE_MAX + 10];
	(void)state;
	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\0';
	assert_string_equal(ask(line), "ERROR line too long\n");
	int fd = client();
	assert_int_equal(send(fd, "QUE", 3, 0), 3);
	turns(5);
	assert_int_equal(send(fd, "UE\n", 3, 0), 3);
	assert_non_null(strstr(hear(fd, NULL), "OK\n"));
	close(fd);
	fd = client(); /* says nothing and goes */
	turns(5);
	close(fd);
	turns(5);
}

static void test_submission(void **state)
{
	(void)state;
	int fd = client();
	assert_int_equal(send(fd, "SUBMIT\nEHLO x\r\n", 15, 0), 15);
	const char *text = hear(fd, "EHLO x\r\n");
	assert_non_null(strstr(text, "220 "));
	assert_null(strstr(text, "SUBMIT"));
	assert_non_null(fake_control.session);
	assert_int_equal(control_sessions(), 1);
	control_stop();
	assert_int_equal(fake_control.asked_to_leave, 1);
	close(fd);
	turns(5);
	assert_null(fake_control.session);
	assert_int_equal(control_sessions(), 0);
	errno = 0;
	assert_int_equal(control_connect(dir), -1);
	assert_int_equal(errno, ECONNREFUSED);
}

static void test_sessions_end_with_the_daemon(void **state)
{
	(void)state;
	int fd = client(), quiet = client();
	assert_int_equal(send(fd, "SUBMIT\n", 7, 0), 7);
	hear(fd, "220 ");
	control_close();
	assert_null(fake_control.session);
	close(fd);
	close(quiet);
}

static void test_one_daemon_a_directory(void **state)
{
	char err[512] = "";
	(void)state;
	assert_int_equal(control_open(&fake_control_setup, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "already running"));
	turns(5);
	assert_string_equal(ask("RELOAD\n"), RELOADED);
	control_close();
	assert_int_equal(control_open(&fake_control_setup, err, sizeof(err)),
	                 0); /* over the dead one */
	assert_string_equal(ask("RELOAD\n"), RELOADED);
}

/* Another user may send mail, but not ask; and cannot take all places. */
static void test_other_users(void **state)
{
	int status;
	(void)state;
	if (geteuid() != 0)
		skip();
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char text[600];
		int fd = -1;
		if (setuid(65534) < 0)
			_exit(1);
		for (int i = 0; i < 3; i++) {
			static const char *const lines[] = {"STOP\n", "DOMAININFO FORGET a.test\n",
			                                    "SUBMIT\n"};
			const char *line = lines[i];
			fd = control_connect(dir);
			if (fd < 0 || send(fd, line, strlen(line), 0) < 0)
				_exit(2);
			ssize_t n = recv(fd, text, sizeof(text), 0);
			if (n <= 0 ||
			    memcmp(text, i == 2 ? "220 nobody" : "ERROR not allowed", 10) != 0)
				_exit(3);
		}
		for (int i = 0; i < CONTROL_PER_USER_MAX; i++) {
			fd = control_connect(dir);
			if (fd < 0)
				_exit(4);
		}
		ssize_t n = recv(fd, text, sizeof(text), 0);
		_exit(n > 0 && memcmp(text, "ERROR not now:", 14) == 0 ? 0 : 5);
	}
	for (int i = 0; i < 5000 && waitpid(pid, &status, WNOHANG) == 0; i++)
		loop_turn(1);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	turns(10);
	assert_string_equal(ask("FLUSH\n"), "OK\nflushed\t3\nEND\n");
}

/* Whom control_users names may ask, by name or number. */
static void test_control_users(void **state)
{
	int status;
	(void)state;
	if (geteuid() != 0)
		skip();
	fake_control_conf.control_users = (struct text_strings){
	    .item = (char *[]){(char *)"no-such-user", (char *)"12345"}, .count = 2};
	for (unsigned i = 0; i < 2; i++) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			char text[600];
			int fd = setuid(12345 + i) < 0 ? -1 : control_connect(dir);
			if (fd < 0 || send(fd, "RELOAD\n", 7, 0) < 0)
				_exit(2);
			ssize_t n = recv(fd, text, sizeof(text), MSG_WAITALL);
			_exit(n > 3 && memcmp(text, i == 0 ? "OK\nch" : "ERROR", 5) == 0 ? 0 : 3);
		}
		for (int k = 0; k < 5000 && waitpid(pid, &status, WNOHANG) == 0; k++)
			loop_turn(1);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

static void test_full_house(void **state)
{
	int fd[CONTROL_CONNECTIONS_MAX + 2];
	(void)state;
	if (geteuid() != 0)
		skip();
	for (int i = 0; i < CONTROL_CONNECTIONS_MAX + 1; i++)
		fd[i] = client();
	turns(CONTROL_CONNECTIONS_MAX * 2);
	int last = fd[CONTROL_CONNECTIONS_MAX];
	assert_int_equal(send(last, "RELOAD\n", 7, 0), 7);
	turns(20);
	char c;
	assert_int_equal(recv(last, &c, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
	for (int i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
		close(fd[i]);
	assert_string_equal(hear(last, NULL), RELOADED);
	close(last);
}

static void test_long_paths(void **state)
{
	char err[512], base[40];
	(void)state;
	control_close();
	snprintf(base, sizeof(base), "%.39s", dir);
	for (int i = 0; i < 8; i++) {
		size_t n = strlen(dir);
		snprintf(dir + n, sizeof(dir) - n, "/a-directory-with-a-long-name");
		assert_int_equal(mkdir(dir, 0755), 0);
	}
	assert_int_equal(control_open(&fake_control_setup, err, sizeof(err)), 0);
	assert_string_equal(ask("RELOAD\n"), RELOADED);
	control_close();
	snprintf(dir, sizeof(dir), "%s", base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_commands, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_long_lists, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_lists_go_in_steps, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_show, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_raw, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_hold, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_remove, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_resolve, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_status, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_trace, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_stop, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_mode_and_owner, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_control_users, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_domains, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_bad_lines, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_submission, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_sessions_end_with_the_daemon, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_one_daemon_a_directory, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_other_users, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_full_house, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_long_paths, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
