/* test_lmtp: the courier for LMTP against a scripted server on a UNIX socket and on TCP, with a
 * message in memory and a fake resolver.
 * link: fake_message.c
 */
#include "lmtp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "dns.h"
#include "fake_message.h"
#include "io.h"
#include "log.h"
#include "loop.h"
#include "self.h"
#include "temp_dir.h"

/* ---- the resolver ------------------------------------------------------------------------- */

static struct dns_addr answers[2];
static int queries; /* without answer */

static void query_fire(void *arg)
{
	struct dns_query *q = arg;
	queries--;
	q->done(q->arg, q);
}

/* two.example has two addresses, and nobody is at the first; addresses as text are their own. */
void dns_addresses(struct dns_query *q, struct slice name, dns_done_fn *fn, void *arg)
{
	*q = (struct dns_query){.done = fn, .arg = arg, .result = DNS_NO_NAME, .addrs = answers};
	if (slice_is_nocase(name, "two.example")) {
		dns_addr_parse(&answers[0], slice_of("127.0.0.9"));
		dns_addr_parse(&answers[1], slice_of("127.0.0.1"));
		q->count = 2;
	} else if (dns_addr_parse(&answers[0], name) == 0) {
		q->count = 1;
	}
	if (q->count > 0)
		q->result = DNS_OK;
	loop_timer_init(&q->second, query_fire, q);
	loop_timer_set(&q->second, 0);
	queries++;
}

void dns_cancel(struct dns_query *q)
{
	if (!q->done)
		return;
	queries -= loop_timer_is_set(&q->second);
	loop_timer_stop(&q->second);
	q->done = NULL;
}

const char *dns_result_text(enum dns_result r)
{
	return r == DNS_NO_NAME ? "no such domain" : "some trouble";
}

/* ---- the server --------------------------------------------------------------------------- */

enum mood {
	GOOD,
	MIXED, /* b: 550 to RCPT; after the content a: 250, c: 452, d: 552 */
	TOO_FEW,
	GREETING_554,
	LHLO_500,
	DATA_554,
	DROP_AT_RCPT,
	EARLY, /* a reply ahead of the dot */
	MUTE
};

static struct {
	struct loop_fd watch;
	struct io io;
	enum mood mood;
	int connections;
	bool used;
	bool in_data;
	int accepted;
	char log[4096];
	char content[4096];
} server;

static char dir[TEMP_DIR_MAX];
static char path[60]; /* of the socket */
static char log_path[60];

static void server_say(const char *s)
{
	io_write(&server.io, s, strlen(s));
}

static void server_dot(void)
{
	static const char *const mixed[] = {"250 2.0.0 stored\r\n", "452 4.2.2 c is full\r\n",
	                                    "552 5.2.3 too big for d\r\n"};
	server.in_data = false;
	if (server.mood == TOO_FEW) {
		server_say(mixed[0]);
		io_finish(&server.io);
		return;
	}
	for (int i = 0; i < server.accepted; i++)
		server_say(server.mood == MIXED ? mixed[i % 3] : mixed[0]);
}

static void server_rcpt(const char *line)
{
	if (server.mood == DROP_AT_RCPT) {
		io_finish(&server.io);
	} else if (server.mood == MIXED && strstr(line, "<b@")) {
		server_say("550 5.1.1 no b\r\n");
	} else {
		server.accepted++;
		server_say("250 2.1.5 ok\r\n");
	}
}

static void server_line(const char *line)
{
	size_t used = strlen(server.log);
	if (server.in_data && strcmp(line, ".") != 0) {
		used = strlen(server.content);
		snprintf(server.content + used, sizeof server.content - used, "%s|", line);
		if (server.mood == EARLY)
			server_say("550 5.3.4 too big\r\n");
		return;
	}
	snprintf(server.log + used, sizeof server.log - used, "%s|", line);
	if (strcmp(line, ".") == 0) {
		server_dot();
	} else if (strncmp(line, "LHLO ", 5) == 0) {
		server_say(server.mood == LHLO_500 ? "500 5.5.1 what?\r\n"
		                                   : "250-s\r\n250 PIPELINING\r\n");
	} else if (strncmp(line, "MAIL ", 5) == 0) {
		server.accepted = 0;
		server_say("250 2.1.0 ok\r\n");
	} else if (strncmp(line, "RCPT ", 5) == 0) {
		server_rcpt(line);
	} else if (strcmp(line, "DATA") == 0) {
		server.in_data = server.mood != DATA_554;
		server_say(server.in_data ? "354 go\r\n" : "554 5.6.0 no\r\n");
	} else {
		server_say("221 2.0.0 bye\r\n");
		io_finish(&server.io);
	}
}

static void server_event(void *arg, enum io_event ev)
{
	(void)arg;
	if (ev == IO_CLOSED || ev == IO_ERROR) {
		io_close(&server.io);
		server.used = false;
		return;
	}
	if (ev == IO_EOF) {
		io_finish(&server.io);
		return;
	}
	while (!server.io.finishing && server.io.in.len > 0) {
		const char *p = buf_data(&server.io.in);
		const char *end = memchr(p, '\n', server.io.in.len);
		char line[1024];
		if (!end)
			break;
		size_t n = (size_t)(end - p) + 1;
		assert_true(n >= 2 && n < sizeof line && p[n - 2] == '\r');
		memcpy(line, p, n - 2);
		line[n - 2] = '\0';
		buf_consume(&server.io.in, n);
		server_line(line);
	}
	io_update(&server.io);
}

static void server_ready(void *arg, unsigned events)
{
	(void)arg;
	(void)events;
	int fd = accept4(server.watch.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0 && !server.used);
	server.used = true;
	server.in_data = false;
	server.connections++;
	io_init(&server.io, 8192, 8192, server_event, NULL);
	assert_int_equal(io_open(&server.io, fd), 0);
	if (server.mood != MUTE)
		server_say(server.mood == GREETING_554 ? "554 5.3.2 go away\r\n"
		                                       : "220 s LMTP\r\n");
}

static int server_socket(const struct sockaddr *sa, socklen_t len, int backlog)
{
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, sa, len), 0);
	assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static int unix_socket(int backlog)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
	return server_socket((const struct sockaddr *)&un, sizeof un, backlog);
}

static void server_watch(int fd)
{
	assert_int_equal(loop_fd_watch(&server.watch, fd, LOOP_READ), 0);
}

/* Listens on 127.0.0.1; returns the port. */
static unsigned server_listen_tcp(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof in;
	int fd = server_socket((struct sockaddr *)&in, sizeof in, 8);
	getsockname(fd, (struct sockaddr *)&in, &len);
	server_watch(fd);
	return ntohs(in.sin_port);
}

static void server_close(void)
{
	int fd = server.watch.fd;
	if (server.used)
		io_close(&server.io);
	server.used = false;
	loop_fd_unwatch(&server.watch);
	if (fd >= 0)
		close(fd);
}

/* ---- deliveries --------------------------------------------------------------------------- */

#define RCPTS 5

static struct envelope env;
static struct conf conf;
static struct courier courier;
static struct delivery d;
static char address[200];
static const size_t indexes[] = {0, 1, 3, 4}; /* 2 goes another way */
static int verdicts[RCPTS];
static struct status verdict[RCPTS];
static char remotes[RCPTS][400];
static int done;
static int fds_before;
static int log_fd;

static void on_verdict(struct delivery *of, size_t rcpt, const struct status *st,
                       const char *remote)
{
	assert_ptr_equal(of, &d);
	assert_true(rcpt < RCPTS && rcpt != 2);
	assert_int_equal(done, 0);
	verdicts[rcpt]++;
	verdict[rcpt] = *st;
	snprintf(remotes[rcpt], sizeof remotes[rcpt], "%s", remote);
}

static void on_done(struct delivery *of)
{
	assert_ptr_equal(of, &d);
	done++;
}

static int setup(void **state)
{
	(void)state;
	static const char *const to[RCPTS] = {"a@d.example", "b@d.example", "far@far.example",
	                                      "c@d.example", "\"d d\"@e.example"};
	static char hostname[] = "us.example";
	assert_int_equal(temp_dir_make(dir, sizeof dir), 0);
	snprintf(path, sizeof path, "%s/lmtp", dir);
	snprintf(log_path, sizeof log_path, "%s/log", dir);
	log_fd = open(log_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	log_to(log_fd);
	fds_before = count_fds();
	assert_int_equal(loop_init(), 0);
	memset(&server, 0, sizeof server);
	loop_fd_init(&server.watch, server_ready, NULL);
	fake_message_reset(slice_of("Return-Path: <x>\r\nSubject: hi\r\n\r\n.one\r\n"));
	snprintf(env.id, sizeof env.id, "ID1");
	envelope_set_from(&env, "s@far.example");
	for (size_t i = 0; i < RCPTS; i++)
		envelope_add_rcpt(&env, RCPT_EMAIL, to[i], to[i], NULL);
	snprintf(address, sizeof address, "unix:%s", path);
	conf = (struct conf){.hostname = hostname, .lmtp_address = address};
	memset(verdicts, 0, sizeof verdicts);
	memset(verdict, 0, sizeof verdict);
	done = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	server_close();
	assert_int_equal(queries, 0);
	loop_done();
	envelope_clear(&env);
	assert_int_equal(fake_message.readers, 0);
	fake_message_reset(slice_of(""));
	assert_int_equal(count_fds(), fds_before);
	log_to(STDERR_FILENO);
	close(log_fd);
	return temp_dir_remove();
}

static void start(void)
{
	struct status st;
	courier = courier_lmtp(&conf);
	assert_true(courier.batch);
	assert_true(courier.parallel > 0);
	d = (struct delivery){.env = &env,
	                      .rcpts = indexes,
	                      .count = sizeof indexes / sizeof *indexes,
	                      .from = env.from,
	                      .verdict = on_verdict,
	                      .done = on_done};
	assert_int_equal(courier.start(courier.self, &d, &st), 0);
	assert_int_equal(done, 0);
}

static void deliver(void)
{
	start();
	for (int i = 0; i < 5000 && !done; i++)
		loop_turn(5);
	assert_int_equal(done, 1);
	for (size_t i = 0; i < RCPTS; i++)
		assert_int_equal(verdicts[i], i == 2 ? 0 : 1);
	assert_null(d.state);
	assert_int_equal(fake_message.readers, 0);
}

/* Everybody has this verdict. */
static void expect_all(int code, const char *enh, const char *text)
{
	for (size_t i = 0; i < RCPTS; i++) {
		char printed[STATUS_PRINT_MAX], want[30];
		if (i == 2)
			continue;
		snprintf(want, sizeof want, "%d %s ", code, enh);
		status_print(&verdict[i], printed, sizeof printed);
		if (strncmp(printed, want, strlen(want)) != 0 || !strstr(printed, text))
			fail_msg("\"%s\" is not %s%s", printed, want, text);
	}
}

static bool logged(const char *text)
{
	char all[8192];
	ssize_t n = pread(log_fd, all, sizeof all - 1, 0);
	all[n > 0 ? n : 0] = '\0';
	return strstr(all, text) != NULL;
}

/* ---- tests -------------------------------------------------------------------------------- */

/* One transaction; the content goes as it is, the server's business included. */
static void test_one_transaction(void **state)
{
	char want[100];
	(void)state;
	server_watch(unix_socket(8));
	deliver();
	expect_all(250, "2.0.0", "stored");
	assert_int_equal(server.connections, 1);
	assert_string_equal(server.log,
	                    "LHLO us.example|MAIL FROM:<s@far.example>|RCPT TO:<a@d.example>|"
	                    "RCPT TO:<b@d.example>|RCPT TO:<c@d.example>|"
	                    "RCPT TO:<\"d d\"@e.example>|DATA|.|QUIT|");
	assert_string_equal(server.content, "Return-Path: <x>|Subject: hi||..one|");
	snprintf(want, sizeof want, "us.example unix:%s", path);
	assert_string_equal(remotes[4], want);
}

/* What is under way goes on as it began; what has not begun is put off. */
static void test_configuration_changes(void **state)
{
	struct status st;
	(void)state;
	server_watch(unix_socket(8));
	conf.lmtp_address = strdup(address);
	conf.hostname = strdup("before.example");
	start();
	memset(conf.lmtp_address, 'x', strlen(conf.lmtp_address));
	memset(conf.hostname, 'x', strlen(conf.hostname));
	free(conf.lmtp_address);
	free(conf.hostname);
	conf.lmtp_address = NULL;
	for (int i = 0; i < 5000 && !done; i++)
		loop_turn(5);
	assert_int_equal(done, 1);
	expect_all(250, "2.0.0", "stored");
	assert_non_null(strstr(server.log, "LHLO before.example|"));
	assert_int_equal(courier.start(courier.self, &d, &st), -1);
	assert_int_equal(st.code, 451);
	assert_null(d.state);
}

static void test_each_its_verdict(void **state)
{
	(void)state;
	server.mood = MIXED;
	server_watch(unix_socket(8));
	deliver();
	assert_int_equal(verdict[0].code, 250);
	assert_int_equal(verdict[1].code, 550);
	assert_string_equal(verdict[1].text, "no b");
	assert_int_equal(verdict[3].code, 452);
	assert_string_equal(verdict[3].text, "c is full");
	assert_int_equal(verdict[4].code, 552);
	assert_int_equal(verdict[4].enh[2], 3);
}

static void test_too_few_replies(void **state)
{
	(void)state;
	server.mood = TOO_FEW;
	server_watch(unix_socket(8));
	deliver();
	assert_int_equal(verdict[0].code, 250);
	for (size_t i = 1; i < RCPTS; i++)
		if (i != 2)
			assert_int_equal(status_class(&verdict[i]), STATUS_TRANSIENT);
	assert_int_equal(server.connections, 1);
	assert_true(logged("possible duplicate"));
}

static void test_tcp(void **state)
{
	static const char *const hosts[] = {"127.0.0.1", "[127.0.0.1]"};
	char want[100];
	(void)state;
	unsigned port = server_listen_tcp();
	for (int i = 0; i < 2; i++) {
		snprintf(address, sizeof address, "%s:%u", hosts[i], port);
		memset(verdicts, 0, sizeof verdicts);
		done = 0;
		deliver();
		expect_all(250, "2.0.0", "stored");
		assert_int_equal(server.connections, i + 1);
		snprintf(want, sizeof want, "127.0.0.1 [127.0.0.1]:%u LMTP", port);
		assert_string_equal(remotes[0], want);
	}
	server_close();
	memset(verdicts, 0, sizeof verdicts);
	done = 0;
	deliver();
	expect_all(451, "4.4.1", "cannot connect");
}

/* Where nobody listens at the first address of the name, the next one is tried. */
static void test_next_address(void **state)
{
	char want[100];
	(void)state;
	unsigned port = server_listen_tcp();
	snprintf(address, sizeof address, "two.example:%u", port);
	deliver();
	expect_all(250, "2.0.0", "stored");
	snprintf(want, sizeof want, "two.example [127.0.0.1]:%u LMTP", port);
	assert_string_equal(remotes[0], want);
	assert_true(logged("lmtp server failed"));
	assert_int_equal(server.connections, 1);
	/* A server that refuses us as such is not the last one either. */
	server.mood = GREETING_554;
	memset(verdicts, 0, sizeof verdicts);
	done = 0;
	deliver();
	expect_all(451, "4.3.0", "554 go away");
}

static void test_no_server(void **state)
{
	(void)state;
	deliver();
	expect_all(451, "4.4.1", "No such file");
	assert_true(logged("lmtp server failed"));
	close(unix_socket(8)); /* its file stays */
	memset(verdicts, 0, sizeof verdicts);
	done = 0;
	deliver();
	expect_all(451, "4.4.1", "refused");
}

/* connect() on a UNIX socket does not wait for a place. */
static void test_full_backlog(void **state)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int clients[8];
	size_t count = 0;
	(void)state;
	int fd = unix_socket(0);
	snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
	for (bool full = false; !full; count++) {
		assert_true(count < 8);
		clients[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		full = connect(clients[count], (struct sockaddr *)&un, sizeof un) != 0;
	}
	assert_int_equal(errno, EAGAIN);
	deliver();
	expect_all(451, "4.4.1", "temporarily unavailable");
	while (count > 0)
		close(clients[--count]);
	close(fd);
}

/* Who refuses everybody refuses no message. */
static void test_server_refuses(void **state)
{
	(void)state;
	server_watch(unix_socket(8));
	server.mood = GREETING_554;
	deliver();
	expect_all(451, "4.3.0", "554 go away");
	memset(verdicts, 0, sizeof verdicts);
	done = 0;
	server.mood = LHLO_500;
	deliver();
	expect_all(451, "4.3.0", "500 what?");
	assert_string_equal(server.log, "QUIT|LHLO us.example|QUIT|");
}

static void test_message_refused(void **state)
{
	(void)state;
	server_watch(unix_socket(8));
	server.mood = DATA_554;
	deliver();
	expect_all(554, "5.6.0", "no");
}

static void test_connection_lost(void **state)
{
	(void)state;
	server_watch(unix_socket(8));
	server.mood = DROP_AT_RCPT;
	deliver();
	expect_all(451, "4.4.2", "connection lost");
	assert_int_equal(server.connections, 1);
}

static void test_early_reply(void **state)
{
	char *big = malloc(200001);
	(void)state;
	assert_non_null(big);
	for (size_t i = 0; i < 200000; i++)
		big[i] = "0123456789abcdef\r\n"[i % 18];
	big[200000] = '\0';
	fake_message_reset(slice_of(big));
	server_watch(unix_socket(8));
	server.mood = EARLY;
	deliver();
	expect_all(451, "4.5.0", "too big");
	fake_message_reset(slice_of(""));
	free(big);
}

static void test_unknown_host(void **state)
{
	(void)state;
	snprintf(address, sizeof address, "no.example:24");
	deliver();
	expect_all(451, "4.4.4", "no address for LMTP server no.example: no such domain");
	assert_string_equal(remotes[0], "");
}

/* A message that we cannot read now is not to be bounced. */
static void test_unreadable(void **state)
{
	(void)state;
	server_watch(unix_socket(8));
	fake_message.no_open = true;
	deliver();
	expect_all(451, "4.3.0", "no such message");
	assert_null(strstr(server.log, "MAIL"));
	memset(verdicts, 0, sizeof verdicts);
	done = 0;
	fake_message_reset(slice_of("A: b\r\n\r\nxxxxxxxxxxxxx\r\n"));
	fake_message.break_at = 10;
	fake_message.break_code = 554;
	deliver();
	expect_all(451, "4.3.0", "the disk is broken");
	assert_null(strstr(server.log, "|.|"));
}

/* Stopped after any number of turns it leaves nothing behind, and says nothing. */
static void test_stop(void **state)
{
	(void)state;
	unsigned port = server_listen_tcp();
	snprintf(address, sizeof address, "two.example:%u", port);
	bool over = false;
	for (int turns = 0; !over; turns++) {
		memset(verdicts, 0, sizeof verdicts);
		done = 0;
		start();
		for (int i = 0; i < turns && !done; i++)
			loop_turn(1);
		over = done;
		int before = verdicts[0];
		if (!done)
			courier.stop(courier.self, &d);
		for (int i = 0; i < 200 && (i < 5 || server.used); i++)
			loop_turn(1);
		assert_int_equal(verdicts[0], before);
		assert_int_equal(done, over);
		assert_int_equal(fake_message.readers, 0);
		assert_true(turns < 1000);
	}
}

static void test_mute_server_and_stop(void **state)
{
	(void)state;
	server.mood = MUTE;
	server_watch(unix_socket(8));
	start();
	for (int i = 0; i < 50; i++)
		loop_turn(1);
	assert_int_equal(server.connections, 1);
	assert_int_equal(done, 0);
	courier.stop(courier.self, &d);
}

static void test_note_about_other_machines(void **state)
{
	static const char *const here[] = {"127.0.0.3:24", "[::1]:24", "localhost:24"};
	static const char *const away[] = {"192.0.2.1:24", "[2001:db8::1]:24", "store.example:24"};
	(void)state;
	courier_lmtp(&conf);
	for (size_t i = 0; i < 3; i++) {
		snprintf(address, sizeof address, "%s", here[i]);
		courier_lmtp(&conf);
		assert_false(logged("without protection"));
	}
	for (size_t i = 0; i < 3; i++) {
		snprintf(address, sizeof address, "%s", away[i]);
		assert_int_equal(ftruncate(log_fd, 0), 0);
		courier_lmtp(&conf);
		assert_true(logged("without protection"));
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(test_one_transaction),
	    T(test_configuration_changes),
	    T(test_each_its_verdict),
	    T(test_too_few_replies),
	    T(test_tcp),
	    T(test_next_address),
	    T(test_no_server),
	    T(test_full_backlog),
	    T(test_server_refuses),
	    T(test_message_refused),
	    T(test_connection_lost),
	    T(test_early_reply),
	    T(test_unknown_host),
	    T(test_unreadable),
	    T(test_stop),
	    T(test_mute_server_and_stop),
	    T(test_note_about_other_machines),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
