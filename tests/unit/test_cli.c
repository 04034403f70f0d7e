/*
 * cli: sendmail and its family against a daemon of our own making. A child runs the tool; the test
 * answers on the socket with a script and keeps what the tool said.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "cli.h"
#include "cli_int.h"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];
static char said[1 << 20];    /* by the tool, to the socket */
static char printed[1 << 16]; /* by the tool, on standard output and error */
static char login[64];

static int set_up(void **state)
{
	char path[128];
	(void)state;
	if (temp_dir_make(dir, sizeof dir))
		return -1;
	snprintf(path, sizeof(path), "%s/chasq.conf", dir);
	FILE *f = fopen(path, "w");
	if (!f || fputs("hostname: 'x.test' data_dir: 'data'", f) < 0 || fclose(f) != 0)
		return -1;
	snprintf(path, sizeof(path), "%s/data", dir);
	f = popen("id -un", "r");
	if (!f || !fgets(login, sizeof(login), f))
		return -1;
	login[strcspn(login, "\n")] = '\0';
	return pclose(f) == 0 ? mkdir(path, 0700) : -1;
}

static int tear_down(void **state)
{
	(void)state;
	return temp_dir_remove();
}

/* What the daemon answers to a line that begins so; the last entry has no line. */
struct answer {
	const char *line;
	const char *reply;
};

static const struct answer good[] = {
    {"SUBMIT", "220 mx.host.test ESMTP\r\n"},
    {"EHLO ", "250-mx.host.test\r\n250-8BITMIME\r\n250 PIPELINING\r\n"},
    {"MAIL ", "250 2.1.0 ok\r\n"},
    {"RCPT TO:<nobody@", "550 5.1.1 no such user\r\n"},
    {"RCPT TO:<far@", "550 5.7.1 no relaying\r\n"},
    {"RCPT TO:<later@", "450 4.2.0 try later\r\n"},
    {"RCPT ", "250 2.1.5 ok\r\n"},
    {"DATA", "354 go\r\n"},
    {".\r\n", "250 2.0.0 queued\r\n"},
    {"QUIT", ""},
    {"QUEUE",
     "OK\nm1\t0\t0\theld\t3\t2048\ta@b.test\t451 4.4.1 \033[2Jnobody\t5\tx@y.test\t|p \"q\"\n"
     "END\n"},
    {"RELOAD", "ERROR not allowed: only root\n"},
    {"FLUSH", "OK\nflushed\t1\nEND\n"},
    {"SHOW m1", "OK\nid\tm1\ncreated\t0\nnext\t0\nstate\theld\nfrom\ta@b.test\n"
                "rcpt\tpending\tEMAIL\tx@y.test\tx@y.test\t\t\t\n"
                "rcpt\tfailed\tFORWARD\tz@y.test\tall@y.test\th1/h2\tmx [::1]\t550 5.1.1 no\n"
                "attempt\t0\tfailed\tmx [::1]\t550 5.1.1 no\t0,1,7\n"
                "header\tSubject: \033x\ncut\theader\nEND\n"},
    {"SHOW", "ERROR there is no such message\n"},
    {"RAW m1", "OK\n4\na\r\n\n3\nEND0\nEND\n"},
    {"RAW m2", "OK\n4\nabcdERROR the checksum is wrong\n"},
    {"HOLD far.test", "OK\nheld\tfar.test\nEND\n"},
    {"HOLD", "OK\nEND\n"},
    {"RELEASE", "ERROR not now: the disk is full\n"},
    {"REMOVE", "OK\nremoved\tm1\nEND\n"},
    {"RESOLVE alice", "OK\nEMAIL\tbob@x.test\t\nFORWARD\tc@x.test\th1/h2\nEND\n"},
    {"RESOLVE", "ERROR there is no such user\n"},
    {"STATUS", "OK\nversion\t9.9\npid\t42\nhostname\tx.test\nuptime\t7200\nqueue\t1\noldest\t0\n"
               "active\t2\nsessions\t3\nlocal\t4\ncertificates\t5\nsandbox\tdoor, wall; not: "
               "roof\nlistens\tsmtp\t:25\n"
               "counter\ta/b\t7\ncounter\ta/zero\t0\nhistogram\tdelay\t2\t90\nEND\n"},
    {"TRACE FOLLOW 100 m1", "OK\n0\tinfo\tqueue\tm1\tqueued size=1\nEND\n"},
    {"TRACE 5", "OK\n0\terror\tdaemon\t-\tfailed\nEND\n"},
    {"CONFIG", "OK\nhostname: \"x\" # chasq.conf:1\nEND\n"},
    {"STOP", "OK\nstopping\t42\nEND\n"},
    {"DOMAININFO LIST", "OK\na.test\tPLAIN\tTLS_SECURE\t-\n"
                        "a-long-\303\261ame.test\tTLS_CLIENT\tPLAIN\t2026-11-22T08:00Z\nEND\n"},
    {"DOMAININFO SHOW", "OK\ndomain\ta.test\nincoming\tPLAIN\t-\nEND\n"},
    {"DOMAININFO FORGET", "ERROR a.test: this domain is not known\n"},
    {NULL, NULL},
};

static int listener(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/data/control", dir);
	unlink(sa.sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

/* Talks to the tool until it closes; lines of content are only kept. */
static void serve(int listening, const struct answer *answers)
{
	struct pollfd p = {.fd = listening, .events = POLLIN};
	bool content = false;
	size_t len = 0;
	char line[70000];
	said[0] = '\0';
	if (poll(&p, 1, 5000) != 1)
		return;
	FILE *f = fdopen(accept(listening, NULL, NULL), "r+");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		size_t n = strlen(line);
		assert_true(len + n < sizeof(said));
		memcpy(said + len, line, n + 1);
		len += n;
		const struct answer *a = answers;
		while (a->line && strncmp(line, a->line, strlen(a->line)) != 0)
			a++;
		if (content && strcmp(line, ".\r\n") != 0)
			continue;
		const char *reply = a->line ? a->reply : "500 what?\r\n";
		content = !content && strncmp(reply, "354", 3) == 0;
		if (send(fileno(f), reply, strlen(reply), MSG_NOSIGNAL) < 0)
			break;
		if (!strncmp(reply, "OK", 2) || !strncmp(reply, "ERROR", 5) || !*reply)
			break;
	}
	fclose(f);
}

static int run(const struct answer *answers, const char *input, size_t size, char **argv)
{
	char path[100], out[100];
	int argc = 0, status, listening = answers ? listener() : -1;
	while (argv[argc])
		argc++;
	snprintf(path, sizeof(path), "%s/input", dir);
	snprintf(out, sizeof(out), "%s/output", dir);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(input, 1, size, f), size);
	fclose(f);
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int in = open(path, O_RDONLY), to = open(out, O_RDWR | O_CREAT | O_TRUNC, 0600);
		if (in < 0 || to < 0 || dup2(in, 0) < 0 || dup2(to, 1) < 0 || dup2(to, 2) < 0)
			_exit(99);
		setenv("CHASQ_DIR", dir, 1);
		int code = cli_is_tool(argc, argv) ? cli_run(argc, argv) : 98;
		fflush(NULL);
		_exit(code);
	}
	if (answers) {
		serve(listening, answers);
		close(listening);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	f = fopen(out, "r");
	assert_non_null(f);
	printed[fread(printed, 1, sizeof(printed) - 1, f)] = '\0';
	fclose(f);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define RUN(answers, input, ...) \
	run((answers), (input), strlen(input), (char *[]){__VA_ARGS__, NULL})

static void expect_said(const char *text)
{
	if (!strstr(said, text))
		fail_msg("\"%s\" lacks \"%s\"; printed: %s", said, text, printed);
}

static void expect_not_said(const char *text)
{
	if (strstr(said, text))
		fail_msg("\"%s\" has \"%s\"", said, text);
}

static void test_a_message(void **state)
{
	char from[128];
	(void)state;
	assert_int_equal(RUN(good, "Subject: x\n\nhello\n..\n.y\n", "sendmail", "a@b.test", "root"),
	                 0);
	assert_string_equal(printed, "");
	snprintf(from, sizeof(from), "MAIL FROM:<%s@mx.host.test> BODY=8BITMIME\r\n", login);
	expect_said(from);
	expect_said("RCPT TO:<a@b.test>\r\nRCPT TO:<root@mx.host.test>\r\nDATA\r\n");
	expect_said("\r\nSubject: x\r\n\r\nhello\r\n...\r\n..y\r\n.\r\nQUIT\r\n");
	snprintf(from, sizeof(from), "<%s@mx.host.test>\r\nDate: ", login);
	expect_said(from);
	expect_said("Message-ID: <");
	expect_said("@mx.host.test>\r\n");
	expect_said("To: undisclosed-recipients:;\r\n");
}

static void test_nothing_is_added_that_is_there(void **state)
{
	(void)state;
	const char *message = "From: a@b.test\ndate: now\nMESSAGE-ID: <1@b>\nCc: c@d\n\nbody\n";
	assert_int_equal(
	    RUN(good, message, "/usr/sbin/sendmail", "-i", "-f", "<>", "--", "x@y.test"), 0);
	expect_said("MAIL FROM:<> BODY=8BITMIME\r\n");
	expect_said(
	    "DATA\r\nFrom: a@b.test\r\ndate: now\r\nMESSAGE-ID: <1@b>\r\nCc: c@d\r\n\r\nbody\r\n"
	    ".\r\n");
}

static void test_recipients_from_the_header(void **state)
{
	(void)state;
	const char *message =
	    "To: One <one@x.test>, two\nCC: (c) three@x.test,\n four@x.test\n"
	    "bcc: hidden@x.test, ONE <one@x.test>\nReturn-Path: <z@z>\nSubject: s\n\nb\n";
	assert_int_equal(
	    RUN(good, message, "sendmail", "-t", "-oi", "-oem", "-fme@x.test", "five@x.test"), 0);
	expect_said("MAIL FROM:<me@x.test>");
	expect_said(
	    "RCPT TO:<five@x.test>\r\nRCPT TO:<one@x.test>\r\nRCPT TO:<two@mx.host.test>\r\n"
	    "RCPT TO:<three@x.test>\r\nRCPT TO:<four@x.test>\r\nRCPT TO:<hidden@x.test>\r\nDATA");
	expect_said("CC: (c) three@x.test,\r\n four@x.test\r\nSubject: s\r\n\r\nb\r\n.\r\n");
	expect_not_said("\nbcc");
	expect_not_said("Return-Path");
	message = "To: old@x.test\nResent-To: new@x.test\nResent-Bcc: dark@x.test\n\n";
	assert_int_equal(RUN(good, message, "sendmail", "-t"), 0);
	expect_said("RCPT TO:<new@x.test>\r\nRCPT TO:<dark@x.test>\r\nDATA");
	expect_said("To: old@x.test\r\nResent-To: new@x.test\r\n\r\n.\r\n");
}

static void test_a_dot_ends_the_message(void **state)
{
	(void)state;
	static const char *const same[] = {"a\n.\nRCPT\n", "a\r\n.\r\nb", "a\n.\n"};
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(RUN(good, same[i], "sendmail", "x@y.test"), 0);
		expect_said("\r\n\r\na\r\n.\r\nQUIT");
	}
	assert_int_equal(RUN(good, "a\n.\nb\n", "sendmail", "-i", "x@y.test"), 0);
	expect_said("\r\n\r\na\r\n..\r\nb\r\n.\r\n");
	assert_int_equal(RUN(good, ".\nb\n", "sendmail", "x@y.test"), 0);
	expect_said("\r\n\r\n.\r\n");
	assert_int_equal(RUN(good, "a\n.b\n..\n.\rc\n.", "sendmail", "x@y.test"), 0);
	expect_said("\r\n\r\na\r\n..b\r\n...\r\n..\r\nc\r\n.\r\n");
}

static void test_odd_messages(void **state)
{
	(void)state;
	assert_int_equal(RUN(good, "", "sendmail", "x@y.test"), 0);
	expect_said("undisclosed-recipients:;\r\n\r\n.\r\n");
	assert_int_equal(RUN(good, "From root Mon Jan 1\nSubject: s\n\nb", "sendmail", "x@y.test"),
	                 0);
	expect_said("\r\nSubject: s\r\n\r\nb\r\n.\r\n");
	expect_not_said("From root");
	assert_int_equal(RUN(good, "Subject: s\nno field\nX: y\n", "sendmail", "x@y.test"), 0);
	expect_said("\r\nSubject: s\r\n\r\nno field\r\nX: y\r\n.\r\n");
	assert_int_equal(RUN(good, "Subject: cut", "sendmail", "x@y.test"), 0);
	expect_said("\r\nSubject: cut\r\n\r\n.\r\n");
	assert_int_equal(RUN(good, "a\rb\n", "sendmail", "x@y.test"), 0);
	expect_said("\r\n\r\na\r\nb\r\n.\r\n");
}

static void test_full_names(void **state)
{
	(void)state;
	assert_int_equal(RUN(good, "\n", "sendmail", "-F", "A \"B\" \\ C\nBcc: evil@x.test", "-f",
	                     "a@b.test", "x@y.test"),
	                 0);
	expect_said("From: \"A \\\"B\\\" \\\\ C Bcc: evil@x.test\" <a@b.test>\r\n");
	assert_int_equal(
	    RUN(good, "\n", "sendmail", "-F", "J\303\274rgen", "-f", "a@b.test", "x@y"), 0);
	expect_said("From: =?UTF-8?Q?J=C3=BCrgen?= <a@b.test>\r\n");
}

static void test_exit_codes(void **state)
{
	(void)state;
	assert_int_equal(RUN(good, "x\n", "sendmail", "ok@x.test", "nobody@x.test"), EX_NOUSER);
	assert_non_null(strstr(printed, "sendmail: <nobody@x.test>: 550 5.1.1 no such user"));
	expect_not_said("DATA");
	assert_int_equal(RUN(good, "x\n", "sendmail", "far@x.test"), EX_UNAVAILABLE);
	assert_int_equal(RUN(good, "x\n", "sendmail", "later@x.test"), EX_TEMPFAIL);
	assert_int_equal(RUN(NULL, "x\n", "sendmail", "a@x.test"), EX_TEMPFAIL);
	assert_non_null(strstr(printed, "chasq is not running"));
	assert_int_equal(RUN(NULL, "x\n", "sendmail"), EX_USAGE);
	assert_int_equal(RUN(NULL, "x\n", "sendmail", "-t"), EX_DATAERR);
	assert_int_equal(RUN(NULL, "To: a b c@@\n\n", "sendmail", "-t"), EX_DATAERR);
	assert_int_equal(RUN(NULL, "x\n", "sendmail", "-bd"), EX_USAGE);
	assert_int_equal(RUN(NULL, "x\n", "sendmail", "-Z"), EX_USAGE);
	assert_int_equal(RUN(NULL, "x\n", "sendmail", "-f", "a b c", "x@y"), EX_USAGE);
	assert_int_equal(RUN(NULL, "x\n", "sendmail", "a@b@c"), EX_USAGE);
	static const struct answer full[] = {{"SUBMIT", "421 4.7.0 busy\r\n"}, {NULL, NULL}};
	assert_int_equal(RUN(full, "x\n", "sendmail", "a@x.test"), EX_TEMPFAIL);
	static const struct answer error[] = {{"SUBMIT", "ERROR not now: too many connections\n"},
	                                      {NULL, NULL}};
	assert_int_equal(RUN(error, "x\n", "sendmail", "a@x.test"), EX_TEMPFAIL);
	assert_non_null(strstr(printed, "too many connections"));
	static const struct answer gone[] = {{"SUBMIT", ""}, {NULL, NULL}};
	assert_int_equal(RUN(gone, "x\n", "sendmail", "a@x.test"), EX_TEMPFAIL);
	static const struct answer refused[] = {{"SUBMIT", "220 h.test\r\n"},
	                                        {"EHLO", "250 h.test\r\n"},
	                                        {"MAIL", "250 ok\r\n"},
	                                        {"RCPT", "250 ok\r\n"},
	                                        {"DATA", "354 go\r\n"},
	                                        {".\r\n", "552 5.3.4 too big\r\n"},
	                                        {NULL, NULL}};
	assert_int_equal(RUN(refused, "x\n", "sendmail", "a@x.test"), EX_UNAVAILABLE);
	assert_non_null(strstr(printed, "552 5.3.4 too big"));
}

static void test_long_messages(void **state)
{
	(void)state;
	static char message[600000];
	size_t n = (size_t)snprintf(message, sizeof(message), "Subject: long\n\n");
	while (n + 64 < sizeof(message))
		n += (size_t)snprintf(message + n, 65, ".%062zu\n", n);
	assert_int_equal(run(good, message, n, (char *[]){"sendmail", "-oi", "x@y.test", NULL}), 0);
	size_t lines = 0;
	for (const char *p = said; (p = strstr(p, "\r\n..0")) != NULL; p++)
		lines++;
	assert_int_equal(lines, (n - 15) / 64);
	memset(message, 'x', 300000);
	memcpy(message, "X: y", 4);
	assert_int_equal(run(NULL, message, 300000, (char *[]){"sendmail", "x@y.test", NULL}),
	                 EX_DATAERR);
	assert_non_null(strstr(printed, "header is longer"));
}

#define TABLE                                                    \
	"ID  AGE  NEXT  SIZE  FROM      TO\n"                    \
	"m1  %s  held  2.0K  a@b.test  x@y.test, |p \"q\", +3\n" \
	"    451 4.4.1 ?[2Jnobody\n1 message, 2.0K\n"

static void expect_table(void)
{
	char text[400], age[24];
	snprintf(text, sizeof(text), TABLE, cli_span((long long)time(NULL), age));
	const char *p = strstr(text, "AGE");
	/* The heading is as wide as the age. */
	char line[400];
	snprintf(line, sizeof(line), "%.*s%*s%s", (int)(p - text), text, (int)strlen(age) - 3, "",
	         p);
	assert_string_equal(printed, line);
}

static void test_queue(void **state)
{
	(void)state;
	assert_int_equal(RUN(good, "", "/usr/bin/mailq"), 0);
	expect_table();
	assert_int_equal(RUN(good, "", "mailq", "-v", "-Ax"), 0);
	assert_int_equal(RUN(good, "", "chasq", "queue"), 0);
	assert_int_equal(RUN(good, "", "sendmail", "-bp"), 0);
	expect_table();
	assert_int_equal(RUN(good, "", "chasq", "queue", "-j"), 0);
	assert_string_equal(
	    printed, "[\n{\"id\":\"m1\",\"created\":0,\"next\":0,\"state\":\"held\",\"attempts\":3,"
	             "\"size\":2048,\"from\":\"a@b.test\",\"error\":\"451 4.4.1 ?[2Jnobody\","
	             "\"recipients_left\":5,\"recipients\":[\"x@y.test\",\"|p \\\"q\\\"\"]}\n]\n");
	static const struct answer none[] = {{"QUEUE", "OK\nEND\n"}, {NULL, NULL}};
	assert_int_equal(RUN(none, "", "mailq"), 0);
	assert_string_equal(printed, "the queue is empty\n");
	assert_int_equal(RUN(none, "", "chasq", "queue", "--json"), 0);
	assert_string_equal(printed, "[]\n");
	/* A daemon that goes away: what there was, and that it is not all. */
	static const struct answer half[] = {{"QUEUE", "OK\nm1\t0\t0\theld\t3\t4\ta@b\nm2\t0"},
	                                     {NULL, NULL}};
	assert_int_equal(RUN(half, "", "chasq", "queue", "-j"), EX_TEMPFAIL);
	assert_non_null(strstr(printed, "\"recipients\":[]}\n]\n"));
	assert_non_null(strstr(printed, "queue: the answer is incomplete\n"));
	assert_int_equal(RUN(NULL, "", "chasq", "queue", "x"), EX_USAGE);
	assert_int_equal(RUN(NULL, "", "chasq", "queue", "-C", "/nonexistent"), EX_TEMPFAIL);
}

static void test_show(void **state)
{
	(void)state;
	assert_int_equal(RUN(good, "", "chasq", "show", "m1"), 0);
	assert_string_equal(said, "SHOW m1\n");
	assert_non_null(strstr(printed, "id        m1\n"));
	assert_non_null(strstr(printed, "\nRECIPIENTS\npending   x@y.test\n"
	                                "failed    z@y.test via h1/h2 for all@y.test\n"
	                                "          550 5.1.1 no - mx [::1]\n\nATTEMPTS\n"));
	assert_non_null(strstr(printed, "          550 5.1.1 no\n"
	                                "          for x@y.test, z@y.test and 1 more\n"
	                                "\nHEADER\nSubject: ?x\n... "));
	assert_int_equal(RUN(good, "", "chasq", "show", "m7"), EX_UNAVAILABLE);
	assert_string_equal(printed, "show: there is no such message\n");
	assert_int_equal(RUN(good, "", "chasq", "show", "--raw", "m1"), 0);
	assert_string_equal(printed, "a\r\n\nEND");
	assert_int_equal(RUN(good, "", "chasq", "show", "m2", "--raw"), EX_IOERR);
	assert_string_equal(printed, "show: ERROR the checksum is wrong\nabcd");
	assert_int_equal(RUN(NULL, "", "chasq", "show"), EX_USAGE);
	assert_int_equal(RUN(NULL, "", "chasq", "show", "a", "b"), EX_USAGE);
}

static void test_orders(void **state)
{
	(void)state;
	assert_int_equal(RUN(good, "", "newaliases"), EX_NOPERM);
	assert_non_null(strstr(printed, "newaliases: not allowed"));
	assert_int_equal(RUN(good, "", "sendmail", "-bi"), EX_NOPERM);
	assert_int_equal(RUN(good, "", "sendmail", "-q15m"), 0);
	assert_string_equal(said, "FLUSH\n");
	assert_int_equal(RUN(good, "", "chasq", "flush", "abc"), 0);
	assert_string_equal(said, "FLUSH abc\n");
	assert_string_equal(printed, "flushed 1 message\n");
	assert_int_equal(RUN(good, "", "chasq", "hold", "far.test"), 0);
	assert_string_equal(printed, "held far.test\n");
	assert_int_equal(RUN(good, "", "chasq", "hold"), 0);
	assert_string_equal(said, "HOLD\n");
	assert_string_equal(printed, "nothing is held\n");
	assert_int_equal(RUN(good, "", "chasq", "release", "m1"), EX_TEMPFAIL);
	assert_string_equal(said, "RELEASE m1\n");
	assert_int_equal(RUN(good, "", "chasq", "remove", "--bounce", "m1"), 0);
	assert_string_equal(said, "REMOVE m1 BOUNCE\n");
	assert_int_equal(RUN(good, "", "chasq", "remove", "m1"), 0);
	assert_string_equal(said, "REMOVE m1\n");
	static const struct answer reload[] = {{"RELOAD", "OK\nchanged hostname: a -> b\nEND\n"},
	                                       {NULL, NULL}};
	assert_int_equal(RUN(reload, "", "chasq", "reload"), 0);
	assert_string_equal(printed, "changed hostname: a -> b\n");
	static const struct answer refused[] = {
	    {"RELOAD", "OK\nchanged a: b -> c\nrefused data_dir: no\nEND\n"}, {NULL, NULL}};
	assert_int_equal(RUN(refused, "", "chasq", "reload"), EX_UNAVAILABLE);
	static const struct answer bad[] = {{"RELOAD", "ERROR chasq.conf:1: x\n"}, {NULL, NULL}};
	assert_int_equal(RUN(bad, "", "chasq", "reload"), EX_CONFIG);
	static const struct answer same[] = {{"RELOAD", "OK\nEND\n"}, {NULL, NULL}};
	assert_int_equal(RUN(same, "", "chasq", "reload"), 0);
	assert_string_equal(printed, "nothing has changed\n");
	assert_int_equal(RUN(good, "", "chasq", "stop"), 0);
	assert_string_equal(printed, "stopping, process 42\nstopped\n");
	assert_int_equal(RUN(NULL, "", "chasq", "release"), EX_USAGE);
	assert_int_equal(RUN(NULL, "", "chasq", "remove", "a b"), EX_USAGE);
	assert_int_equal(RUN(NULL, "", "chasq", "hold", "a\nSTOP"), EX_USAGE);
	assert_int_equal(RUN(NULL, "", "chasq", "hold", ""), EX_USAGE);
}

static void test_questions(void **state)
{
	(void)state;
	assert_int_equal(RUN(good, "", "chasq", "resolve", "alice"), 0);
	assert_string_equal(printed, "TYPE     DESTINATION  VIA\nEMAIL    bob@x.test\n"
	                             "FORWARD  c@x.test     h1/h2\n");
	assert_int_equal(RUN(good, "", "chasq", "resolve", "bob"), EX_NOUSER);
	assert_string_equal(printed, "resolve: there is no such user\n");
	assert_int_equal(RUN(good, "", "chasq", "status"), 0);
	assert_non_null(strstr(printed, "chasq         9.9 on x.test, process 42, up 2h\n"
	                                "queue         1 message, the oldest for "));
	assert_non_null(strstr(printed, "sessions      3, and 4 of this machine's users\n"
	                                "certificates  5\nsandbox       door, wall; not: roof\n"
	                                "listens       :25 for smtp\n\n"
	                                "COUNTER           VALUE\n"
	                                "a/b                   7\n"
	                                "delay, 90 in all      2\n"));
	assert_int_equal(RUN(good, "", "chasq", "status", "-a"), 0);
	assert_non_null(strstr(printed, "\na/zero "));
	assert_int_equal(RUN(good, "", "chasq", "trace", "-f", "m1"), 0);
	assert_string_equal(said, "TRACE FOLLOW 100 m1\n");
	assert_non_null(strstr(printed, " queue    m1 queued size=1\n"));
	assert_int_equal(RUN(good, "", "chasq", "trace", "-n5"), 0);
	assert_non_null(strstr(printed, " daemon   - failed\n"));
	assert_int_equal(RUN(NULL, "", "chasq", "trace", "-n", "x"), EX_USAGE);
	assert_int_equal(RUN(NULL, "", "chasq", "trace", "-n", "-1"), EX_USAGE);
	assert_int_equal(RUN(good, "", "chasq", "config"), 0);
	assert_string_equal(printed, "hostname: \"x\" # chasq.conf:1\n");
}

static void test_help(void **state)
{
	static char *const names[] = {"queue",  "show",   "flush",   "hold",  "release",
	                              "remove", "status", "resolve", "trace", "domaininfo",
	                              "config", "reload", "stop",    "mailq", "help",
	                              "check",  "dialog"};
	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		assert_int_equal(RUN(NULL, "", "chasq", names[i], "--help"), 0);
		assert_non_null(strstr(printed, "usage: "));
		assert_int_equal(RUN(NULL, "", "chasq", names[i], "--no-such-option"), EX_USAGE);
		assert_non_null(strstr(printed, "usage: "));
		assert_int_equal(RUN(NULL, "", "chasq", "help"), 0);
		assert_non_null(strstr(printed, i == 13 ? "mailq" : names[i]));
	}
	assert_int_equal(RUN(NULL, "", "sendmail", "--help"), 0);
	assert_non_null(strstr(printed, "usage: sendmail"));
	assert_int_equal(RUN(NULL, "", "chasq", "-c", "x"), 98);
	assert_int_equal(RUN(NULL, "", "chasq"), 98);
}

static void test_domaininfo(void **state)
{
	static const char list[] = "DOMAIN            INCOMING    OUTGOING    LAST SEEN\n"
	                           "a.test            PLAIN       TLS_SECURE  -\n"
	                           "a-long-\303\261ame.test  TLS_CLIENT  PLAIN       "
	                           "2026-11-22T08:00Z\n";
	(void)state;
	assert_int_equal(RUN(good, "", "chasq", "domaininfo"), 0);
	assert_string_equal(printed, list);
	assert_int_equal(RUN(good, "", "chasq", "domaininfo", "list"), 0);
	assert_string_equal(printed, list);
	assert_string_equal(said, "DOMAININFO LIST\n");
	assert_int_equal(RUN(good, "", "chasq", "domaininfo", "show", "A.Test"), 0);
	assert_string_equal(said, "DOMAININFO SHOW A.Test\n");
	assert_string_equal(printed, "domain     a.test\nincoming   PLAIN\n"
	                             "           last seen -\n");
	assert_int_equal(RUN(good, "", "chasq", "domaininfo", "forget", "a.test"), EX_UNAVAILABLE);
	assert_string_equal(said, "DOMAININFO FORGET a.test\n");
	assert_non_null(strstr(printed, "not known"));
	static const struct answer none[] = {{"DOMAININFO LIST", "OK\nEND\n"}, {NULL, NULL}};
	assert_int_equal(RUN(none, "", "chasq", "domaininfo"), 0);
	assert_string_equal(printed, "no domain is known\n");
	assert_int_equal(RUN(NULL, "", "chasq", "domaininfo", "show"), EX_USAGE);
	assert_int_equal(RUN(NULL, "", "chasq", "domaininfo", "list", "x"), EX_USAGE);
	assert_int_equal(RUN(NULL, "", "chasq", "domaininfo", "forget", "a", "b"), EX_USAGE);
	assert_int_equal(RUN(NULL, "", "chasq", "domaininfo", "forget", "a\nFLUSH"), EX_USAGE);
	assert_int_equal(RUN(NULL, "", "chasq", "domaininfo", "remove", "a"), EX_USAGE);
	assert_int_equal(RUN(NULL, "", "chasq", "domaininfo", "-x"), EX_USAGE);
	assert_int_equal(RUN(NULL, "", "chasq", "domaininfo", "-C", "/nonexistent"), EX_TEMPFAIL);
}

static void test_smtp_passed_on(void **state)
{
	(void)state;
	assert_int_equal(RUN(good, "EHLO me\r\nQUIT\r\n", "sendmail", "-bs"), 0);
	assert_string_equal(said, "SUBMIT\nEHLO me\r\nQUIT\r\n");
	assert_non_null(strstr(printed, "220 mx.host.test ESMTP\r\n250-mx.host.test\r\n"));
}

/* A daemon that was taken over does not get at root's terminal. */
static void test_hostile_daemon(void **state)
{
	static const struct answer hostile[] = {
	    {"QUEUE", "ERROR \033]0;x\007\302\2332J\n"},
	    {"FLUSH", "OK\nflushed\t\033[2J\nEND\n"},
	    {"SHOW", "OK\nrcpt\t\033[31m\tEMAIL\tx@y.test\ncut\t\033c\nEND\n"},
	    {"TRACE", "OK\n0\tinfo\t\033[2J\tm1\ttext\nEND\n"},
	    {"STOP", "OK\nstopping\t\033[2J\nEND\n"},
	    {"RELOAD", "OK\nrefused \033[2J\nEND\n"},
	    {"DOMAININFO", "OK\n\033[1m\tx\t\033[2m\nEND\n"},
	    {NULL, NULL},
	};
	static char *const orders[][3] = {{"queue"},
	                                  {"flush"},
	                                  {"show", "m1"},
	                                  {"trace"},
	                                  {"stop"},
	                                  {"reload"},
	                                  {"domaininfo", "show", "a.test"}};
	static char parts[5000];
	(void)state;
	/* No character begins in the whole of a line. */
	memcpy(parts, "OK\n", 3);
	memset(parts + 3, '\200', sizeof(parts) - 3 - 6);
	memcpy(parts + sizeof(parts) - 6, "\nEND\n", 6);
	const struct answer bytes[] = {{"CONFIG", parts}, {NULL, NULL}};
	assert_int_equal(RUN(bytes, "", "chasq", "config"), 0);
	for (size_t i = 0; i < sizeof(orders) / sizeof(*orders); i++) {
		RUN(hostile, "", "chasq", orders[i][0], orders[i][1], orders[i][2]);
		if (strpbrk(printed, "\033\007") || strstr(printed, "\302\233") || !*printed)
			fail_msg("%s printed %s", orders[i][0], printed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_a_message),
	    cmocka_unit_test(test_nothing_is_added_that_is_there),
	    cmocka_unit_test(test_recipients_from_the_header),
	    cmocka_unit_test(test_a_dot_ends_the_message),
	    cmocka_unit_test(test_odd_messages),
	    cmocka_unit_test(test_full_names),
	    cmocka_unit_test(test_exit_codes),
	    cmocka_unit_test(test_long_messages),
	    cmocka_unit_test(test_queue),
	    cmocka_unit_test(test_show),
	    cmocka_unit_test(test_orders),
	    cmocka_unit_test(test_questions),
	    cmocka_unit_test(test_help),
	    cmocka_unit_test(test_domaininfo),
	    cmocka_unit_test(test_smtp_passed_on),
	    cmocka_unit_test(test_hostile_daemon),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
