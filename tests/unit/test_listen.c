/*
 * Unit tests of listen: real sockets on the loopback network: addresses, limits, the end.
 * link: fake_spool.c fake_tls.c fake_spf.c
 * link: fake_resolve.c fake_hook.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_resolve.h"
#include "fake_spf.h"
#include "fake_spool.h"
#include "fake_tls.h"
#include "listen.h"
#include "log.h"
#include "valgrind.h"

static char err[512];
static time_t ahead; /* s, of the clock */

int clock_gettime(clockid_t id, struct timespec *ts)
{
	(void)id;
	timespec_get(ts, TIME_UTC);
	ts->tv_sec += ahead;
	return 0;
}

static int socket_at(const char *ip, uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	inet_pton(AF_INET, ip, &sa.sin_addr);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
	return fd;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in sa;
	socklen_t len = sizeof sa;
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	return ntohs(sa.sin_port);
}

static uint16_t free_port(void)
{
	int fd = socket_at("127.0.0.1", 0);
	uint16_t port = port_of(fd);
	close(fd);
	return port;
}

/* A client from that address. */
static int client(const char *from, const char *to, uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket_at(from, 0);
	inet_pton(AF_INET, to, &sa.sin_addr);
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa)) {
		close(fd);
		return -1;
	}
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

/* Runs the loop until the client gets something: returned; "" at the end of the stream, NULL when
 * nothing comes. */
static const char *hear(int fd)
{
	static char text[2048];
	for (int i = 0; i < 200; i++) {
		ssize_t n = recv(fd, text, sizeof text - 1, 0);
		if (n >= 0) {
			text[n] = '\0';
			return text;
		}
		if (errno == ECONNRESET)
			return "";
		loop_turn(10);
	}
	return NULL;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void assert_hears(int fd, const char *start)
{
	const char *text = hear(fd);
	if (!text || strncmp(text, start, strlen(start)) != 0)
		fail_msg("got %s, want %s", text ? text : "nothing", start);
}

/* Runs the loop until n sessions are left. */
static void assert_sessions(size_t n)
{
	for (int i = 0; i < 200 && listen_sessions() != n; i++)
		loop_turn(10);
	assert_int_equal(listen_sessions(), n);
}

static int open_at(char *address)
{
	fake_conf.smtp_address = (struct text_strings){&address, 1};
	return listen_open(&fake_setup, false, err, sizeof err) || listen_start(err, sizeof err)
	           ? -1
	           : 0;
}

static void open_ipv4(uint16_t port)
{
	char address[64];
	snprintf(address, sizeof address, "127.0.0.1:%u", port);
	assert_int_equal(open_at(address), 0);
}

static bool is_ours(const char *ip, uint16_t port)
{
	struct dns_addr a;
	assert_int_equal(dns_addr_parse(&a, slice_of(ip)), 0);
	return listen_is_ours(&a, port);
}

static void test_bad_addresses(void **state)
{
	char bad[][64] = {"",
	                  "25",
	                  "127.0.0.1",
	                  "127.0.0.1:",
	                  "[::1]",
	                  "::1:25",
	                  "127.0.0.1:0",
	                  "127.0.0.1:65536",
	                  "mail:25",
	                  "[1.2.3.4]:25",
	                  "127.0.0.1:2x",
	                  "127.0.0.1:-1",
	                  "[]:25",
	                  "[::1]:99999999999999999999"};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		err[0] = '\0';
		assert_int_equal(open_at(bad[i]), -1);
		assert_non_null(strstr(err, "is not host:port"));
	}
	fake_conf.smtp_address = (struct text_strings){NULL, 0};
	assert_int_equal(listen_open(&fake_setup, false, err, sizeof err), -1);
	assert_non_null(strstr(err, "no address to listen on"));
	char systemd[] = "systemd";
	assert_int_equal(open_at(systemd), -1);
	assert_non_null(strstr(err, "no address to listen on"));
}

static void test_session(void **state)
{
	uint16_t port = free_port();
	(void)state;
	open_ipv4(port);
	int fd = client("127.0.0.1", "127.0.0.1", port);
	assert_hears(fd, "220 here.test ESMTP\r\n");
	assert_int_equal(listen_sessions(), 1);
	say(fd, "EHLO x\r\nMAIL FROM:<a@b.test>\r\n");
	assert_hears(fd, "250-here.test\r\n");
	say(fd, "RCPT TO:<a@far.test>\r\n");
	assert_hears(fd, "550 5.7.1");
	say(fd, "QUIT\r\n");
	assert_hears(fd, "221 ");
	assert_string_equal(hear(fd), "");
	close(fd);
	assert_sessions(0);
	/* The trusted network may relay. */
	fd = client("127.0.0.9", "127.0.0.1", port);
	assert_hears(fd, "220 ");
	say(fd, "EHLO x\r\nMAIL FROM:<a@b.test>\r\n");
	assert_hears(fd, "250");
	say(fd, "RCPT TO:<a@far.test>\r\n");
	assert_hears(fd, "250 ");
	close(fd);
	assert_sessions(0);
	assert_int_equal(fake.reserved, 0);
	listen_close();
}

static void test_in_use(void **state)
{
	char address[64];
	int fd = socket_at("127.0.0.1", 0);
	(void)state;
	assert_int_equal(listen(fd, 1), 0);
	snprintf(address, sizeof address, "127.0.0.1:%u", port_of(fd));
	assert_int_equal(open_at(address), -1);
	assert_non_null(strstr(err, strerror(EADDRINUSE)));
	close(fd);
}

/* An address of nobody: waited for. */
static void test_not_there(void **state)
{
	char address[] = "192.0.2.1:2525";
	(void)state;
	assert_int_equal(open_at(address), 0);
	assert_true(is_ours("192.0.2.1", 2525));
	loop_turn(10);
	listen_close();
	assert_false(is_ours("192.0.2.1", 2525));
}

/* On a machine of the other byte order qemu-user leaves the lengths as they are in what recvfrom()
 * brings from the kernel about interfaces: musl's getifaddrs(), which asks so, does not come back.
 */
static bool can_ask_for_interfaces(void)
{
#ifdef __GLIBC__
	return true;
#else
	return !getenv("CHASQ_EMULATED") || htons(1) != 1;
#endif
}

static void test_is_ours(void **state)
{
	if (!can_ask_for_interfaces())
		skip();
	uint16_t port = free_port();
	char address[64];
	(void)state;
	open_ipv4(port);
	assert_true(is_ours("127.0.0.1", port));
	assert_false(is_ours("127.0.0.2", port));
	assert_false(is_ours("127.0.0.1", (uint16_t)(port ^ 1)));
	listen_close();
	snprintf(address, sizeof address, ":%u", port);
	assert_int_equal(open_at(address), 0);
	assert_true(is_ours("127.0.0.1", port));
	assert_true(is_ours("127.3.2.1", port));
	assert_true(is_ours("0.0.0.0", port));
	assert_true(is_ours("::", port));
	assert_false(is_ours("192.0.2.1", port));
	assert_false(is_ours("2001:db8::1", port));
	int fd = client("127.0.0.1", "127.0.0.3", port);
	assert_hears(fd, "220 ");
	/* IPv4 through the IPv6 socket is IPv4: the trusted network is recognised. */
	int friendly = client("127.0.0.9", "127.0.0.1", port);
	assert_hears(friendly, "220 ");
	say(friendly, "EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<a@far.test>\r\n");
	const char *text = hear(friendly);
	assert_non_null(text);
	assert_null(strstr(text, "550"));
	close(friendly);
	close(fd);
	listen_close();
	snprintf(address, sizeof address, "0.0.0.0:%u", port);
	assert_int_equal(open_at(address), 0);
	assert_true(is_ours("127.3.2.1", port));
	assert_false(is_ours("::1", port));
	listen_close();
}

static void test_limits(void **state)
{
	static int fds[LISTEN_SESSIONS_MAX];
	uint16_t port = free_port();
	size_t n = 0;
	(void)state;
	open_ipv4(port);
	for (int address = 1; n < LISTEN_SESSIONS_MAX; address++) {
		char from[32];
		snprintf(from, sizeof from, "127.0.1.%d", address);
		for (int i = 0; i < LISTEN_PER_ADDRESS_MAX && n < LISTEN_SESSIONS_MAX; i++) {
			fds[n] = client(from, "127.0.0.1", port);
			assert_hears(fds[n++], "220 ");
		}
		if (n == LISTEN_SESSIONS_MAX)
			break;
		int fd = client(from, "127.0.0.1", port);
		assert_hears(fd, "421 4.7.0 here.test too many connections from your address");
		assert_string_equal(hear(fd), "");
		close(fd);
	}
	int fd = client("127.0.2.1", "127.0.0.1", port);
	assert_hears(fd, "421 4.7.0 here.test too many connections, try again later\r\n");
	close(fd);
	assert_int_equal(listen_sessions(), LISTEN_SESSIONS_MAX);
	/* One that has said goodbye makes room for its address, though its socket is still open. */
	say(fds[0], "QUIT\r\n");
	assert_hears(fds[0], "221 ");
	close(fds[n - 1]);
	assert_sessions(LISTEN_SESSIONS_MAX - 1);
	fd = client("127.0.1.1", "127.0.0.1", port);
	assert_hears(fd, "220 ");
	close(fd);
	for (size_t i = 0; i + 1 < n; i++)
		close(fds[i]);
	assert_sessions(0);
	listen_close();
}

static void bring(int fd, size_t bytes)
{
	char text[4096];
	memset(text, 'x', sizeof text);
	memcpy(text + sizeof text - 2, "\r\n", 2);
	for (size_t n = 0; n < bytes; n += sizeof text) {
		assert_int_equal(send(fd, text, sizeof text, MSG_NOSIGNAL), sizeof text);
		for (int i = 0; i < 8; i++)
			loop_turn(0);
	}
}

/* Who brings a message keeps the place while others who bring nothing have theirs. */
static void test_making_room(void **state)
{
	static int fds[LISTEN_SESSIONS_MAX];
	uint16_t port = free_port();
	size_t n = 0;
	char from[32];
	(void)state;
	open_ipv4(port);
	for (; n < LISTEN_SESSIONS_MAX; n++) {
		snprintf(from, sizeof from, "127.0.1.%d", (int)n % 100 + 1);
		fds[n] = client(from, "127.0.0.1", port);
		assert_hears(fds[n], "220 ");
		if (n > 0)
			continue;
		say(fds[0], "EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@here.test>\r\n");
		assert_hears(fds[0], "250-here.test");
		assert_true(fake_resolve_run());
		assert_hears(fds[0], "250 2.1.5");
		say(fds[0], "DATA\r\n");
		assert_hears(fds[0], "354 ");
		ahead++;
	}
	for (int i = 0; i < 3; i++) {
		ahead += LISTEN_GRACE_MS / 1000;
		bring(fds[0], (size_t)LISTEN_WORTH * LISTEN_GRACE_MS / 1000 + LISTEN_WORTH);
		snprintf(from, sizeof from, "127.0.2.%d", i + 1);
		int fd = client(from, "127.0.0.1", port);
		assert_hears(fd, "220 ");
		close(fd);
		assert_sessions(LISTEN_SESSIONS_MAX - 1);
		fd = client("127.0.3.1", "127.0.0.1", port);
		assert_hears(fd, "220 ");
		assert_hears(fds[i + 1], "421 4.3.2");
		close(fds[i + 1]);
		fds[i + 1] = fd;
	}
	say(fds[0], ".\r\n");
	for (int i = 0; i < 200 && !fake_spool_run(); i++)
		loop_turn(10);
	assert_hears(fds[0], "250 2.0.0");
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	assert_sessions(0);
	listen_close();
}

/* With few descriptors, half of them are kept back; and a session counts for two. Nobody loses a
 * place that would be no place for another. */
static void test_reserve(void **state)
{
	struct rlimit old;
	uint16_t port = free_port();
	int fds[64];
	int n = 0;
	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	struct rlimit few = {80, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	open_ipv4(port);
	for (;; n++) {
		fds[n] = client("127.0.0.1", "127.0.0.1", port);
		const char *text = hear(fds[n]);
		assert_non_null(text);
		if (strncmp(text, "220 ", 4) != 0) {
			assert_int_equal(strncmp(text, "421 4.7.0", 9), 0);
			break;
		}
		assert_true(n < 25);
	}
	assert_true(n >= 10);
	struct rlimit fewer = {70, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &fewer), 0);
	ahead += 2 * LISTEN_GRACE_MS / 1000;
	for (int i = 0; i < 3; i++) {
		int fd = client("127.0.0.2", "127.0.0.1", port);
		assert_hears(fd, "421 4.7.0 here.test too many connections");
		close(fd);
	}
	assert_int_equal(listen_sessions(), n);
	for (int i = 0; i <= n; i++)
		close(fds[i]);
	assert_sessions(0);
	listen_close();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

/* accept() finds no descriptor: listening pauses, without spinning, and goes on. */
static void test_no_descriptors(void **state)
{
	struct rlimit old;
	uint16_t port = free_port();
	(void)state;
	if (under_valgrind())
		skip(); /* valgrind's accept() closes what is past the limit */
	open_ipv4(port);
	int fd = client("127.0.0.1", "127.0.0.1", port);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	struct rlimit none = {(rlim_t)fd + 1, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	for (int i = 0; i < 10; i++)
		loop_turn(5);
	assert_int_equal(listen_sessions(), 0);
	int64_t before = loop_now();
	loop_turn(200);
	assert_true(loop_now() - before >= 190);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_hears(fd, "220 ");
	close(fd);
	assert_sessions(0);
	listen_close();
}

static void test_systemd(void **state)
{
	char pid[32];
	char systemd[] = "systemd";
	(void)state;
	loop_done();
	/* The numbers are given: what is there moves away. */
	int saved[3];
	int kept[3];
	for (int i = 0; i < 3; i++) {
		saved[i] = fcntl(3 + i, F_DUPFD, 20);
		kept[i] = fcntl(3 + i, F_GETFD);
	}
	int other = socket_at("127.0.0.1", 0);
	int first = socket_at("127.0.0.1", 0);
	int second = socket_at("127.0.0.2", 0);
	assert_int_equal(listen(other, 1) | listen(first, 1) | listen(second, 1), 0);
	int high[3] = {fcntl(first, F_DUPFD, 40), fcntl(other, F_DUPFD, 40),
	               fcntl(second, F_DUPFD, 40)};
	close(other);
	close(first);
	close(second);
	uint16_t port1 = port_of(high[0]);
	uint16_t port2 = port_of(high[2]);
	for (int i = 0; i < 3; i++) {
		dup2(high[i], 3 + i);
		close(high[i]);
	}
	assert_int_equal(loop_init(), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(fcntl(3 + i, F_GETFD), 0);
	snprintf(pid, sizeof pid, "%ld", (long)getpid());
	setenv("LISTEN_PID", "1", 1);
	setenv("LISTEN_FDS", "3", 1);
	setenv("LISTEN_FDNAMES", "smtp:submission:smtp", 1);
	assert_int_equal(open_at(systemd), -1);
	setenv("LISTEN_PID", pid, 1);
	assert_int_equal(open_at(systemd), 0);
	assert_true(is_ours("127.0.0.1", port1));
	assert_true(is_ours("127.0.0.2", port2));
	assert_int_equal(fcntl(3, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(4, F_GETFD), 0);
	int fd = client("127.0.0.1", "127.0.0.2", port2);
	assert_hears(fd, "220 ");
	close(fd);
	assert_sessions(0);
	listen_close();
	close(4);
	/* A name for what is no listening socket. */
	setenv("LISTEN_FDS", "1", 1);
	assert_int_equal(dup2(0, 3), 3);
	assert_int_equal(open_at(systemd), -1);
	assert_non_null(strstr(err, "inherited descriptor 3"));
	close(3);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	for (int i = 0; i < 3; i++) {
		if (saved[i] < 0)
			continue;
		dup2(saved[i], 3 + i);
		fcntl(3 + i, F_SETFD, kept[i]);
		close(saved[i]);
	}
}

/* Users log in with TLS only: without a certificate there is no door for them. */
static void test_submission(void **state)
{
	uint16_t port = free_port();
	char address[64];
	char *list = address;
	(void)state;
	snprintf(address, sizeof address, "127.0.0.1:%u", port);
	fake_conf.smtp_address = (struct text_strings){NULL, 0};
	fake_conf.submission_address = (struct text_strings){&list, 1};
	fake_setup.certs = fake_no_certs;
	assert_int_equal(listen_open(&fake_setup, false, err, sizeof err), -1);
	assert_non_null(strstr(err, "submission_address: users log in with TLS only"));
	fake_setup.certs = fake_certs;
	assert_int_equal(listen_open(&fake_setup, true, err, sizeof err), 0);
	/* Bound, but nobody can come in yet. */
	assert_int_equal(client("127.0.0.1", "127.0.0.1", port), -1);
	assert_int_equal(listen_start(err, sizeof err), 0);
	/* Trust in a network does not count here. */
	int fd = client("127.0.0.9", "127.0.0.1", port);
	assert_hears(fd, "220 here.test ESMTP\r\n");
	say(fd, "EHLO x\r\n");
	assert_hears(fd, "250-");
	say(fd, "MAIL FROM:<a@b.test>\r\n");
	assert_hears(fd, "530 5.7.0");
	close(fd);
	assert_sessions(0);
	listen_close();
	/* TLS from the first byte: nothing is said before it. */
	fake_conf.submission_over_tls_address = fake_conf.submission_address;
	fake_conf.submission_address = (struct text_strings){NULL, 0};
	assert_int_equal(listen_open(&fake_setup, false, err, sizeof err), 0);
	assert_int_equal(listen_start(err, sizeof err), 0);
	fd = client("127.0.0.1", "127.0.0.1", port);
	assert_string_equal(hear(fd), "");
	close(fd);
	assert_sessions(0);
	listen_close();
	assert_int_equal(fake_tls.open, 0);
	fake_conf.submission_over_tls_address = (struct text_strings){NULL, 0};
	fake_setup.certs = NULL;
}

static void test_stop(void **state)
{
	uint16_t port = free_port();
	(void)state;
	open_ipv4(port);
	int idle = client("127.0.0.1", "127.0.0.1", port);
	int busy = client("127.0.0.1", "127.0.0.1", port);
	assert_hears(idle, "220 ");
	assert_hears(busy, "220 ");
	say(busy, "HELO x\r\nMAIL FROM:<a@b.test>\r\n");
	assert_hears(busy, "250 here.test\r\n250 2.1.0");
	listen_stop();
	assert_int_equal(client("127.0.0.1", "127.0.0.1", port), -1);
	assert_hears(idle, "421 4.3.2");
	assert_string_equal(hear(idle), "");
	close(idle);
	assert_sessions(1);
	say(busy, "NOOP\r\n");
	assert_hears(busy, "421 4.3.2");
	close(busy);
	assert_sessions(0);
	listen_close();
	/* At once. */
	open_ipv4(port);
	busy = client("127.0.0.1", "127.0.0.1", port);
	assert_hears(busy, "220 ");
	listen_close();
	assert_int_equal(listen_sessions(), 0);
	assert_string_equal(hear(busy), "");
	close(busy);
}

/* ---- another configuration ---- */

static struct buf report;

/* Takes over these addresses, "" for none. Returns the report. */
static const char *reload_to(const char *mx, const char *submission)
{
	static char text[2][3][64];
	static char *list[2][3];
	struct text_strings *to[] = {&fake_conf.smtp_address, &fake_conf.submission_address};
	const char *from[] = {mx, submission};
	for (int i = 0; i < 2; i++) {
		size_t n = 0;
		for (const char *p = from[i]; *p; p += strspn(p, " ")) {
			size_t len = strcspn(p, " ");
			snprintf(text[i][n], sizeof text[i][n], "%.*s", (int)len, p);
			list[i][n] = text[i][n];
			n++;
			p += len;
		}
		*to[i] = (struct text_strings){list[i], n};
	}
	buf_clear(&report);
	buf_init(&report, 4000);
	listen_reload(&report);
	return buf_str(&report);
}

static const char *at(const char *ip, uint16_t port)
{
	static char text[4][64];
	static unsigned n;
	char *s = text[n++ % 4];
	snprintf(s, sizeof text[0], "%s:%u", ip, port);
	return s;
}

static void assert_greeted(const char *ip, uint16_t port)
{
	int fd = client("127.0.0.1", ip, port);
	assert_true(fd >= 0);
	assert_hears(fd, "220 ");
	close(fd);
}

static void assert_closed(const char *ip, uint16_t port)
{
	assert_int_equal(client("127.0.0.1", ip, port), -1);
}

static void test_reload(void **state)
{
	uint16_t a = free_port(), b = free_port();
	char both[128];
	(void)state;
	open_ipv4(a);
	int session = client("127.0.0.1", "127.0.0.1", a);
	assert_hears(session, "220 ");
	assert_string_equal(reload_to(at("127.0.0.1", a), ""), "");
	/* One more. */
	snprintf(both, sizeof both, "%s %s", at("127.0.0.1", a), at("127.0.0.1", b));
	assert_non_null(strstr(reload_to(both, ""), "listening on 127.0.0.1:"));
	assert_greeted("127.0.0.1", a);
	assert_greeted("127.0.0.1", b);
	assert_true(is_ours("127.0.0.1", b));
	assert_string_equal(reload_to(both, ""), "");
	/* The first one goes; who has connected before comes in still, and the session stays. */
	int late = client("127.0.0.1", "127.0.0.1", a);
	assert_non_null(strstr(reload_to(at("127.0.0.1", b), ""), "no longer listening on "));
	assert_closed("127.0.0.1", a);
	assert_false(is_ours("127.0.0.1", a));
	assert_hears(late, "220 ");
	say(session, "NOOP\r\n");
	assert_hears(session, "250 ");
	assert_greeted("127.0.0.1", b);
	/* Its place is taken again. */
	reload_to(both, "");
	assert_greeted("127.0.0.1", a);
	close(session);
	close(late);
	assert_sessions(0);
	listen_close();
	buf_clear(&report);
}

static void test_reload_refusals(void **state)
{
	uint16_t a = free_port(), b = free_port(), taken;
	int other = socket_at("127.0.0.1", 0);
	char both[128];
	(void)state;
	taken = port_of(other);
	assert_int_equal(listen(other, 1), 0);
	open_ipv4(a);
	/* In use: the old one stays, since the new one cannot be had. */
	const char *text = reload_to(at("127.0.0.1", taken), "");
	assert_non_null(strstr(text, "refused smtp_address \"127.0.0.1:"));
	assert_non_null(strstr(text, strerror(EADDRINUSE)));
	assert_null(strstr(text, "no longer"));
	assert_greeted("127.0.0.1", a);
	close(other);
	/* It can be had now. */
	assert_null(strstr(reload_to(at("127.0.0.1", taken), ""), "refused"));
	assert_closed("127.0.0.1", a);
	assert_greeted("127.0.0.1", taken);
	/* Never without any. */
	assert_non_null(strstr(reload_to("", ""), "no address to listen on would be left"));
	assert_non_null(strstr(reload_to("systemd", ""), "no address to listen on would be left"));
	assert_greeted("127.0.0.1", taken);
	/* Users need certificates. */
	snprintf(both, sizeof both, "%s", at("127.0.0.1", taken));
	fake_setup.certs = fake_no_certs;
	assert_non_null(strstr(reload_to(both, at("127.0.0.1", b)), "refused submission_address"));
	assert_closed("127.0.0.1", b);
	fake_setup.certs = fake_certs;
	assert_non_null(strstr(reload_to(both, at("127.0.0.1", b)), " for submission_address\n"));
	assert_greeted("127.0.0.1", b);
	/* The same address behind another key: it is not opened anew. */
	assert_non_null(strstr(reload_to(at("127.0.0.1", b), ""), " for smtp_address\n"));
	assert_greeted("127.0.0.1", b);
	assert_closed("127.0.0.1", taken);
	/* An address that is not there yet. */
	snprintf(both, sizeof both, "%s 192.0.2.1:%u", at("127.0.0.1", b), b);
	assert_non_null(strstr(reload_to(both, ""), "as soon as the address is there\n"));
	assert_null(strstr(reload_to(at("127.0.0.1", b), ""), "refused"));
	assert_sessions(0);
	listen_close();
	fake_setup.certs = NULL;
	fake_conf.submission_address = (struct text_strings){NULL, 0};
	buf_clear(&report);
}

/* From one address to all of the same port: the old listener makes way, and nobody is lost. */
static void test_reload_makes_way(void **state)
{
	uint16_t a = free_port();
	char all[16];
	(void)state;
	open_ipv4(a);
	int late = client("127.0.0.1", "127.0.0.1", a);
	snprintf(all, sizeof all, "0.0.0.0:%u", a);
	const char *text = reload_to(all, "");
	assert_null(strstr(text, "refused"));
	assert_non_null(strstr(text, "listening on 0.0.0.0:"));
	assert_non_null(strstr(text, "no longer listening on 127.0.0.1:"));
	assert_hears(late, "220 ");
	assert_greeted("127.0.0.2", a);
	/* And back. */
	text = reload_to(at("127.0.0.1", a), "");
	assert_non_null(strstr(text, "no longer listening on 0.0.0.0:"));
	assert_greeted("127.0.0.1", a);
	assert_closed("127.0.0.2", a);
	/* What has made way in vain comes back. */
	int other = socket_at("127.0.0.2", a);
	assert_int_equal(listen(other, 1), 0);
	assert_non_null(strstr(reload_to(all, ""), "refused"));
	assert_greeted("127.0.0.1", a);
	close(other);
	close(late);
	assert_sessions(0);
	listen_close();
	buf_clear(&report);
}

/* ---- behind a proxy ---- */

static int proxied(uint16_t port, const char *header)
{
	int fd = client("127.0.0.5", "127.0.0.1", port);
	say(fd, header);
	return fd;
}

/* What a session that got this header says to a recipient elsewhere; checked: SPF asks about this
 * address, or about none. */
static void assert_relays(uint16_t port, const char *header, const char *checked, const char *reply)
{
	char ip[INET6_ADDRSTRLEN];
	int fd = proxied(port, header);
	assert_hears(fd, "220 ");
	say(fd, "EHLO x\r\nMAIL FROM:<a@b.test>\r\n");
	assert_hears(fd, "250-here.test\r\n");
	assert_int_equal(fake_spf_run(), checked != NULL);
	if (checked) {
		assert_string_equal(dns_addr_text(&fake_spf.ip, ip), checked);
		assert_hears(fd, "250 2.1.0");
	}
	say(fd, "RCPT TO:<a@far.test>\r\n");
	assert_hears(fd, reply);
	close(fd);
	assert_sessions(0);
}

static void test_proxy(void **state)
{
	uint16_t port = free_port();
	(void)state;
	fake_conf.haproxy_incoming = true;
	open_ipv4(port);
	/* It is the client who is trusted, or is not. */
	assert_relays(port, "PROXY TCP4 127.0.0.9 127.0.0.1 1 25\r\n", NULL, "250 ");
	assert_relays(port, "PROXY TCP4 127.0.0.8 127.0.0.1 1 25\r\n", NULL, "550 5.7.1");
	assert_relays(port, "PROXY TCP4 192.0.2.9 127.0.0.1 1 25\r\n", "192.0.2.9", "550 5.7.1");
	/* Who is unknown is no machine of ours either. */
	assert_relays(port, "PROXY UNKNOWN\r\n", "127.0.0.5", "550 5.7.1");
	/* What comes along with the header is the session's, and waits for the greeting. */
	int fd = proxied(port, "PROXY TCP4 192.0.2.9 127.0.0.1 1 25\r\nEHLO x\r\n");
	assert_hears(fd, "220 here.test ESMTP\r\n");
	assert_hears(fd, "250-here.test\r\n");
	close(fd);
	/* No other may connect, whatever it says. */
	fd = client("127.0.0.9", "127.0.0.1", port);
	assert_hears(fd, "421 4.7.0 here.test is reached through its proxy only");
	close(fd);
	/* Nor a proxy without a header, nor with one that is wrong or late in part. */
	fd = proxied(port, "EHLO x\r\n");
	assert_string_equal(hear(fd), "");
	close(fd);
	fd = proxied(port, "PROXY TCP4 192.0.2.9 127.0.0.1 1 ");
	loop_turn(0);
	shutdown(fd, SHUT_WR);
	assert_string_equal(hear(fd), "");
	close(fd);
	assert_sessions(0);
	listen_close();
	fake_conf.haproxy_incoming = false;
}

/* As many clients as one may have, each in the proxy's connection. */
static void test_proxy_limits(void **state)
{
	uint16_t port = free_port();
	int fds[LISTEN_PER_ADDRESS_MAX + 1];
	(void)state;
	fake_conf.haproxy_incoming = true;
	open_ipv4(port);
	for (int i = 0; i < LISTEN_PER_ADDRESS_MAX; i++) {
		fds[i] = proxied(port, "PROXY TCP4 192.0.2.9 127.0.0.1 1 25\r\n");
		assert_hears(fds[i], "220 ");
	}
	fds[LISTEN_PER_ADDRESS_MAX] = proxied(port, "PROXY TCP4 192.0.2.9 127.0.0.1 1 25\r\n");
	assert_hears(fds[LISTEN_PER_ADDRESS_MAX],
	             "421 4.7.0 here.test too many connections from your address");
	int other = proxied(port, "PROXY TCP4 192.0.2.8 127.0.0.1 1 25\r\n");
	assert_hears(other, "220 ");
	close(other);
	for (int i = 0; i <= LISTEN_PER_ADDRESS_MAX; i++)
		close(fds[i]);
	assert_sessions(0);
	listen_close();
	fake_conf.haproxy_incoming = false;
}

/* Headers that do not come: the oldest makes way, and none of them is a session. */
static void test_proxy_half_open(void **state)
{
	uint16_t port = free_port();
	int fds[LISTEN_PROXY_MAX + 8];
	size_t n = sizeof fds / sizeof *fds;
	(void)state;
	fake_conf.haproxy_incoming = true;
	open_ipv4(port);
	int room = loop_fd_room();
	for (size_t i = 0; i < n; i++) {
		fds[i] = proxied(port, "PROXY TCP4 ");
		loop_turn(10);
	}
	assert_int_equal(listen_sessions(), 0);
	for (size_t i = 0; i < 8; i++)
		assert_string_equal(hear(fds[i]), "");
	assert_int_equal(room - loop_fd_room(), LISTEN_PROXY_MAX);
	int fd = proxied(port, "PROXY TCP4 192.0.2.9 127.0.0.1 1 25\r\n");
	assert_hears(fd, "220 ");
	say(fds[n - 1], "192.0.2.9 127.0.0.1 1 25\r\n");
	assert_hears(fds[n - 1], "220 ");
	assert_int_equal(listen_sessions(), 2);
	/* The end closes them all. */
	listen_stop();
	assert_string_equal(hear(fds[n - 2]), "");
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	close(fd);
	assert_sessions(0);
	listen_close();
	fake_conf.haproxy_incoming = false;
}

static int start(void **state)
{
	(void)state;
	log_to(open("/dev/null", O_WRONLY | O_CLOEXEC));
	fake_reset();
	return loop_init();
}

static int stop(void **state)
{
	(void)state;
	buf_clear(&fake.content);
	loop_done();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_bad_addresses),    cmocka_unit_test(test_session),
	    cmocka_unit_test(test_in_use),           cmocka_unit_test(test_not_there),
	    cmocka_unit_test(test_is_ours),          cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_making_room),      cmocka_unit_test(test_reserve),
	    cmocka_unit_test(test_no_descriptors),   cmocka_unit_test(test_systemd),
	    cmocka_unit_test(test_submission),       cmocka_unit_test(test_stop),
	    cmocka_unit_test(test_reload),           cmocka_unit_test(test_reload_refusals),
	    cmocka_unit_test(test_reload_makes_way), cmocka_unit_test(test_proxy),
	    cmocka_unit_test(test_proxy_limits),     cmocka_unit_test(test_proxy_half_open),
	};
	return cmocka_run_group_tests(tests, start, stop);
}
