/*
 * control: the UNIX socket, with sessions, queue and spool of our own making behind it.
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

#include "control.h"
#include "domaininfo.h"
#include "log.h"
#include "loop.h"

static char dir[400];
static struct conf conf;
static struct smtpd_setup setup;

/* ---- what stands behind the socket ---- */

struct smtpd {
	struct io io;
	void (*ended)(void *arg);
	void *arg;
	char user[64];
};

static struct smtpd *session; /* the last one */
static int asked_to_leave;

static void session_event(void *arg, enum io_event ev)
{
	struct smtpd *s = arg;
	if (ev == IO_READ) {
		io_write(&s->io, buf_data(&s->io.in), s->io.in.len);
		buf_consume(&s->io.in, s->io.in.len);
		return;
	}
	if (ev == IO_DRAINED)
		return;
	io_close(&s->io);
	session = NULL;
	s->ended(s->arg);
	free(s);
}

struct smtpd *smtpd_new(const struct smtpd_setup *the_setup, const struct smtpd_peer *peer,
                        void (*ended)(void *arg), void *arg)
{
	assert_ptr_equal(the_setup, &setup);
	assert_int_equal(peer->mode, SMTPD_LOCAL);
	session = calloc(1, sizeof(*session));
	assert_non_null(session);
	io_init(&session->io, 4096, 4096, session_event, session);
	session->ended = ended;
	session->arg = arg;
	memcpy(session->user, peer->user, sizeof(session->user));
	return session;
}

struct io *smtpd_io(struct smtpd *s)
{
	return &s->io;
}

void smtpd_start(struct smtpd *s)
{
	io_printf(&s->io, "220 %s\r\n", s->user);
}

void smtpd_ask_to_leave(struct smtpd *s)
{
	assert_ptr_equal(s, session);
	asked_to_leave++;
}

void smtpd_free(struct smtpd *s)
{
	io_close(&s->io);
	session = NULL;
	free(s);
}

static size_t messages;

size_t queue_length(const struct queue *q)
{
	(void)q;
	return messages;
}

size_t queue_active(const struct queue *q)
{
	(void)q;
	return 1;
}

size_t queue_flush(struct queue *q, const char *id)
{
	(void)q;
	return id ? strcmp(id, "m00002") == 0 : messages;
}

size_t queue_list(const struct queue *q, const char *after, struct queue_item *items, size_t max)
{
	size_t first = *after ? (size_t)strtoul(after + 1, NULL, 10) + 1 : 0, n = 0;
	(void)q;
	for (; n < max && first + n < messages; n++) {
		items[n] = (struct queue_item){.created = 1000 - 90, .next = 1000 + 3700};
		snprintf(items[n].id, sizeof(items[n].id), "m%05zu", first + n);
	}
	return n;
}

int spool_load(struct spool *sp, const char *id, struct envelope *env, struct status *st)
{
	(void)sp;
	*env = (struct envelope){.from = NULL};
	if (strcmp(id, "m00001") == 0) {
		status_set(st, 451, "4.3.0", "the disk is on fire");
		return -1;
	}
	env->size = 12345;
	assert_int_equal(envelope_set_from(env, "a@b.test"), 0);
	assert_int_equal(envelope_add_rcpt(env, RCPT_EMAIL, "x\ny@c.test", "o", NULL), 0);
	for (int i = 0; i < CONTROL_RCPTS_SHOWN; i++)
		assert_int_equal(envelope_add_rcpt(env, RCPT_PIPE, "prog", "o", NULL), 0);
	return 0;
}

static int64_t now(void)
{
	return 1000;
}

static size_t reload(void)
{
	return 3;
}

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
	static char text[200000];
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
	snprintf(dir, sizeof(dir), "/tmp/chasq-test-control-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	conf.data_dir = dir;
	setup = (struct smtpd_setup){.conf = &conf, .now = now};
	messages = 3;
	asked_to_leave = 0;
	if (loop_init() < 0 || chmod(dir, 0755) < 0)
		return -1;
	return control_open(&setup, reload, err, sizeof(err));
}

static int tear_down(void **state)
{
	char command[600];
	(void)state;
	control_close();
	assert_int_equal(control_sessions(), 0);
	loop_done();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static void test_commands(void **state)
{
	(void)state;
	assert_string_equal(
	    ask("QUEUE\n"),
	    "OK\n"
	    "m00000 age=1m next=1h size=12345 from=a@b.test to=x y@c.test,|prog,|prog,"
	    "and 1 more\n"
	    "m00001 age=1m next=1h (the disk is on fire)\n"
	    "m00002 age=1m next=1h size=12345 from=a@b.test to=x y@c.test,|prog,|prog,"
	    "and 1 more\n");
	assert_string_equal(ask("FLUSH\r\n"), "OK\nflushed 3\n");
	assert_string_equal(ask("FLUSH m00002\n"), "OK\nflushed 1\n");
	assert_string_equal(ask("FLUSH m9\n"), "ERROR there is no such message waiting\n");
	assert_string_equal(ask("RELOAD\n"), "OK\nfiles read 3\n");
	assert_non_null(strstr(ask("STATUS\n"), "control/commands "));
	assert_string_equal(ask("queue\n"), "ERROR unknown command\n");
	assert_string_equal(ask("\n"), "ERROR unknown command\n");
	messages = 0;
	assert_string_equal(ask("QUEUE\n"), "OK\n");
}

static void test_long_lists(void **state)
{
	(void)state;
	messages = 1500;
	const char *text = ask("QUEUE\n");
	size_t lines = 0;
	for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++)
		lines++;
	assert_int_equal(lines, 1501);
	assert_non_null(strstr(text, "\nm01499 "));
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
	setup.domaininfo = domaininfo_open(dir, 0, later, &st);
	assert_non_null(setup.domaininfo);
	assert_string_equal(ask("DOMAININFO LIST\n"), "OK\n");
	domaininfo_saw(setup.domaininfo, DOMAININFO_OUT, "b.test", DOMAININFO_TLS_SECURE);
	domaininfo_saw(setup.domaininfo, DOMAININFO_IN, "a.test", DOMAININFO_TLS_CLIENT);
	assert_string_equal(ask("DOMAININFO LIST\n"),
	                    "OK\na.test\tTLS_CLIENT\tPLAIN\t2027-01-15T08:00Z\n"
	                    "b.test\tPLAIN\tTLS_SECURE\t2027-01-15T08:00Z\n");
	assert_string_equal(ask("DOMAININFO SHOW B.Test.\r\n"),
	                    "OK\ndomain: b.test\nincoming: PLAIN, last seen -\n"
	                    "outgoing: TLS_SECURE, last seen 2027-01-15T08:00Z\n");
	assert_string_equal(ask("DOMAININFO FORGET B.TEST\n"), "OK\nforgotten: b.test\n");
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
		domaininfo_saw(setup.domaininfo, DOMAININFO_OUT, name, DOMAININFO_PLAIN);
	}
	const char *text = ask("DOMAININFO LIST\n");
	size_t lines = 0;
	for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++)
		lines++;
	assert_int_equal(lines, 1502);
	assert_non_null(strstr(text, "\nd01499.test\tPLAIN\tPLAIN\t2027-"));
	domaininfo_close(setup.domaininfo);
	setup.domaininfo = NULL;
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
	assert_non_null(session);
	assert_int_equal(control_sessions(), 1);
	control_stop();
	assert_int_equal(asked_to_leave, 1);
	close(fd);
	turns(5);
	assert_null(session);
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
	assert_null(session);
	close(fd);
	close(quiet);
}

static void test_one_daemon_a_directory(void **state)
{
	char err[512] = "";
	(void)state;
	assert_int_equal(control_open(&setup, reload, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "already running"));
	turns(5);
	assert_string_equal(ask("RELOAD\n"), "OK\nfiles read 3\n");
	control_close();
	assert_int_equal(control_open(&setup, reload, err, sizeof(err)), 0); /* over the dead one */
	assert_string_equal(ask("RELOAD\n"), "OK\nfiles read 3\n");
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
			static const char *const lines[] = {"QUEUE\n", "DOMAININFO FORGET a.test\n",
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
		_exit(n > 0 && memcmp(text, "ERROR too many", 14) == 0 ? 0 : 5);
	}
	for (int i = 0; i < 5000 && waitpid(pid, &status, WNOHANG) == 0; i++)
		loop_turn(1);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	turns(10);
	assert_string_equal(ask("FLUSH\n"), "OK\nflushed 3\n");
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
	assert_string_equal(hear(last, NULL), "OK\nfiles read 3\n");
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
	assert_int_equal(control_open(&setup, reload, err, sizeof(err)), 0);
	assert_string_equal(ask("RELOAD\n"), "OK\nfiles read 3\n");
	control_close();
	snprintf(dir, sizeof(dir), "%s", base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_commands, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_long_lists, set_up, tear_down),
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
