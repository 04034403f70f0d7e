/* test_io: streams over socket pairs, and over TCP where what TCP does matters. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "io.h"
#include "loop.h"
#include "self.h"

static struct io io;
static int peer = -1;
static int events[16]; /* how many of each */
static int all_events;
static void (*on_event)(enum io_event ev);

static void handle(void *arg, enum io_event ev)
{
	assert_ptr_equal(arg, &io);
	events[ev]++;
	all_events++;
	if (on_event)
		on_event(ev);
}

static int setup(void **state)
{
	(void)state;
	memset(events, 0, sizeof events);
	all_events = 0;
	on_event = NULL;
	peer = -1;
	return loop_init();
}

static int teardown(void **state)
{
	(void)state;
	io_close(&io);
	io_close(&io);
	if (peer >= 0)
		close(peer);
	loop_done();
	return 0;
}

static void turns(int n)
{
	while (n-- > 0)
		assert_int_equal(loop_turn(0), 0);
}

static void until(enum io_event ev, int64_t ms)
{
	int64_t end = now_ms() + ms;
	while (!events[ev] && now_ms() < end)
		assert_int_equal(loop_turn(20), 0);
	assert_int_equal(events[ev], 1);
}

static void open_pair(size_t in_max, size_t out_max)
{
	int p[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p), 0);
	io_init(&io, in_max, out_max, handle, &io);
	assert_int_equal(io_open(&io, p[0]), 0);
	peer = p[1];
}

/* A listening socket of ours, and its address. */
static int listen_tcp(struct sockaddr_in *a)
{
	socklen_t len = sizeof *a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(fd, (struct sockaddr *)a, sizeof *a), 0);
	assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)a, &len), 0);
	return fd;
}

static int connect_tcp(const struct sockaddr_in *a)
{
	struct sockaddr_storage to = {.ss_family = AF_INET};
	memcpy(&to, a, sizeof *a);
	return io_connect(&io, &to, sizeof *a);
}

/* A TCP connection: ours is the accepted side, peer the other, blocking. */
static void open_tcp(size_t in_max, size_t out_max)
{
	struct sockaddr_in a;
	int fd = listen_tcp(&a);
	peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(peer, (struct sockaddr *)&a, sizeof a), 0);
	int got = accept(fd, NULL, NULL);
	close(fd);
	assert_int_equal(io_nonblock(got), 0);
	io_init(&io, in_max, out_max, handle, &io);
	assert_int_equal(io_open(&io, got), 0);
}

static void test_reading(void **state)
{
	(void)state;
	open_pair(100, 100);
	turns(1);
	assert_int_equal(all_events, 0);
	assert_int_equal(write(peer, "hello", 5), 5);
	turns(2);
	assert_int_equal(events[IO_READ], 1);
	assert_int_equal(io.in.len, 5);
	assert_memory_equal(buf_data(&io.in), "hello", 5);
	assert_int_equal(write(peer, "\0!", 2), 2);
	shutdown(peer, SHUT_WR);
	turns(5);
	assert_int_equal(events[IO_READ], 2);
	assert_int_equal(events[IO_EOF], 1); /* once */
	assert_memory_equal(buf_data(&io.in), "hello\0!", 7);
	/* The other half goes on. */
	assert_int_equal(io_write(&io, "bye", 3), 0);
	turns(2);
	assert_int_equal(events[IO_DRAINED], 1);
	char got[10];
	assert_int_equal(read(peer, got, sizeof got), 3);
	assert_int_equal(events[IO_ERROR], 0);
}

static void test_full_input_stops_reading(void **state)
{
	(void)state;
	char got[64];
	open_pair(10, 10);
	assert_int_equal(write(peer, "0123456789abcdefghij", 20), 20);
	turns(10);
	assert_int_equal(events[IO_READ], 1); /* no spinning either */
	assert_int_equal(io.in.len, 10);
	assert_int_equal(io.watch.want, 0);
	buf_consume(&io.in, 4);
	turns(2);
	assert_int_equal(io.in.len, 6); /* not before the owner says so */
	io_update(&io);
	turns(2);
	assert_int_equal(io.in.len, 10);
	memcpy(got, buf_data(&io.in), 10);
	assert_memory_equal(got, "456789abcd", 10);
	buf_consume(&io.in, 10);
	io_pause(&io, true);
	turns(3);
	assert_int_equal(io.in.len, 0);
	io_pause(&io, false);
	turns(3);
	assert_memory_equal(buf_data(&io.in), "efghij", 6);
	assert_false(io.in.failed);
}

static void ignore(void *arg, enum io_event ev)
{
	(void)arg;
	(void)ev;
}

/* Behind one that was full, a wide read takes more than the bound at once; what is left of it is
 * served before more is read, and only a few streams may have so much. */
static void test_wide_reads(void **state)
{
	(void)state;
	static const char much[5000];
	static struct io wide[IO_OVERFULL_MAX + 2];
	enum { MANY = sizeof wide / sizeof *wide };
	int far[MANY];
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < MANY; i++) {
			int p[2];
			assert_int_equal(
			    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p),
			    0);
			io_init(&wide[i], 100, 10, ignore, NULL);
			wide[i].wide = true;
			assert_int_equal(io_open(&wide[i], p[0]), 0);
			far[i] = p[1];
			/* Not the first one, which most messages need no more than. */
			assert_int_equal(write(far[i], much, 150), 150);
			turns(1);
			assert_int_equal(wide[i].in.len, 100);
			buf_consume(&wide[i].in, 100);
			io_update(&wide[i]);
			assert_int_equal(write(far[i], much, sizeof much - 50), sizeof much - 50);
			turns(1);
			assert_int_equal(wide[i].in.len, i < IO_OVERFULL_MAX ? sizeof much : 100);
			assert_int_equal(write(far[i], much, 50), 50);
			turns(1);
		}
		/* Back-pressure as ever, also for what has little left in much memory. */
		buf_consume(&wide[0].in, sizeof much - 200);
		io_update(&wide[0]);
		turns(2);
		assert_int_equal(wide[0].in.len, 200);
		buf_consume(&wide[0].in, 150);
		io_update(&wide[0]);
		turns(1);
		assert_int_equal(wide[0].in.len, 100);
		/* One has done: another one's turn. */
		wide[1].wide = false;
		buf_consume(&wide[1].in, wide[1].in.len);
		io_update(&wide[1]);
		buf_consume(&wide[MANY - 1].in, 100);
		io_update(&wide[MANY - 1]);
		turns(1);
		assert_int_equal(wide[1].in.len, 50);
		assert_int_equal(wide[MANY - 1].in.len, sizeof much - 100 + 50);
		for (int i = 0; i < MANY; i++) {
			assert_false(wide[i].in.failed);
			io_close(&wide[i]);
			close(far[i]);
		}
	}
}

static void test_full_output(void **state)
{
	(void)state;
	static char big[1 << 20];
	static char got[1 << 20];
	size_t total = 0;
	open_pair(10, sizeof big);
	for (size_t i = 0; i < sizeof big; i++)
		big[i] = (char)(i * 7 + (i >> 9));
	assert_int_equal(io_room(&io), sizeof big);
	assert_int_equal(io_write(&io, big, sizeof big), 0);
	assert_int_equal(io_room(&io), 0);
	assert_int_equal(all_events, 0); /* events come from the loop only */
	assert_int_equal(io_write(&io, "x", 1), -1);
	assert_true(io.out.failed);
	while (total < sizeof big) {
		turns(1);
		size_t left = sizeof got - total;
		ssize_t n = read(peer, got + total, left < 10000 ? left : 10000);
		if (n > 0)
			total += (size_t)n;
		assert_int_equal(io_unsent(&io) > 0, events[IO_DRAINED] == 0);
	}
	turns(3);
	assert_int_equal(events[IO_DRAINED], 1);
	assert_memory_equal(got, big, sizeof big);
	/* What did not fit never comes: whoever waits for it learns so, once. */
	assert_int_equal(events[IO_ERROR], 1);
	assert_int_equal(io.error, ENOMEM);
}

static void test_flush(void **state)
{
	(void)state;
	char got[10];
	static char big[1 << 20];
	open_pair(10, sizeof big);
	io_flush(&io);
	io_printf(&io, "%d %s", 250, "ok");
	io_flush(&io);
	assert_int_equal(io_unsent(&io), 0);
	assert_int_equal(read(peer, got, sizeof got), 6);
	assert_memory_equal(got, "250 ok", 6);
	turns(3);
	assert_int_equal(all_events, 0); /* all went: no IO_DRAINED */
	io_write(&io, big, sizeof big);
	io_flush(&io);
	assert_true(io_unsent(&io) > 0);
	close(peer);
	peer = -1;
	io_flush(&io); /* an error is kept for the loop */
	assert_int_equal(all_events, 0);
	until(IO_ERROR, 1000);
	assert_true(io.error == EPIPE || io.error == ECONNRESET);
	turns(3);
	assert_int_equal(all_events, 1);
}

static char said[20];

static void say_lines(void *arg)
{
	char got[10];
	(void)arg;
	if (io.watch.fd >= 0)
		assert_int_equal(read(peer, got, sizeof got), -1);
	strcat(said, "lines ");
}

static void flush_behind_lines(void *arg)
{
	struct loop_end *lines = arg;
	char got[10];
	io_write(&io, "one", 3);
	io_flush(&io);
	assert_int_equal(read(peer, got, sizeof got), 3);
	assert_true(loop_end_ask(lines, LOOP_END_FIRST));
	io_write(&io, "two", 3);
	io_flush(&io);
	assert_int_equal(io_unsent(&io), 3);
}

static void flush_and_close(void *arg)
{
	flush_behind_lines(arg);
	io_close(&io);
}

/* An answer does not overtake the lines of the log that stand before it. */
static void test_flush_behind_lines(void **state)
{
	(void)state;
	struct loop_timer t;
	struct loop_end lines = {.run = say_lines};
	char got[10];
	open_pair(10, 100);
	said[0] = '\0';
	loop_timer_init(&t, flush_behind_lines, &lines);
	loop_timer_set(&t, 0);
	turns(1);
	assert_string_equal(said, "lines ");
	assert_int_equal(io_unsent(&io), 0);
	assert_int_equal(events[IO_DRAINED], 1);
	assert_int_equal(read(peer, got, sizeof got), 3);
	assert_memory_equal(got, "two", 3);
	loop_timer_init(&t, flush_and_close, &lines);
	loop_timer_set(&t, 0);
	turns(2);
	/* A stream that is closed does not wait. */
	assert_string_equal(said, "lines lines ");
	assert_int_equal(read(peer, got, sizeof got), 3);
	assert_memory_equal(got, "two", 3);
	assert_int_equal(read(peer, got, sizeof got), 0);
	assert_int_equal(all_events, 1);
}

/* A server that says why and closes while we are still sending: what it said comes first. */
static void test_last_words_of_a_peer_that_closed(void **state)
{
	(void)state;
	static char big[4 << 20];
	open_pair(100, sizeof big);
	io_write(&io, big, sizeof big);
	turns(3);
	io_pause(&io, true);
	assert_int_equal(write(peer, "552 too big", 11), 11);
	/* An orderly close: what we sent has been read. */
	while (read(peer, big, sizeof big) > 0) {
	}
	close(peer);
	peer = -1;
	until(IO_READ, 1000);
	assert_int_equal(events[IO_ERROR], 0);
	assert_memory_equal(buf_data(&io.in), "552 too big", 11);
	until(IO_ERROR, 1000);
	assert_int_equal(io.error, EPIPE);
	assert_int_equal(events[IO_EOF], 0);
	int before = all_events;
	turns(3);
	assert_int_equal(all_events, before);
}

static void finish_on_read(enum io_event ev)
{
	if (ev == IO_READ)
		io_finish(&io);
}

static void test_finish_when_broken(void **state)
{
	(void)state;
	open_pair(100, 100);
	io_pause(&io, true);
	assert_int_equal(write(peer, "0123456789", 10), 10);
	close(peer);
	peer = -1;
	on_event = finish_on_read;
	int64_t start = now_ms();
	io_write(&io, "x", 1);
	until(IO_CLOSED, 1000);
	assert_true(now_ms() - start < IO_LINGER_MS);
	assert_int_equal(events[IO_READ], 1);
	assert_int_equal(events[IO_ERROR], 0);
}

/* An owner that takes no input before its output has gone would wait for ever. */
static void test_full_when_broken(void **state)
{
	(void)state;
	open_pair(10, 100);
	assert_int_equal(write(peer, "0123456789", 10), 10);
	turns(3);
	close(peer);
	peer = -1;
	io_write(&io, "x", 1);
	until(IO_ERROR, 1000);
	assert_int_equal(io.error, EPIPE);
}

static void test_connect(void **state)
{
	(void)state;
	struct sockaddr_in a;
	int fd = listen_tcp(&a);
	io_init(&io, 100, 100, handle, &io);
	assert_int_equal(connect_tcp(&a), 0);
	io_write(&io, "EHLO", 4); /* waits for the connection */
	until(IO_CONNECTED, 5000);
	assert_int_equal(all_events, 1);
	int no_delay = 0;
	socklen_t len = sizeof no_delay;
	assert_int_equal(getsockopt(io.watch.fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &len), 0);
	assert_true(no_delay != 0);
	peer = accept(fd, NULL, NULL);
	char got[10];
	turns(2);
	assert_int_equal(read(peer, got, sizeof got), 4);
	assert_int_equal(events[IO_DRAINED], 1);
	close(fd);
}

static void test_connect_refused(void **state)
{
	(void)state;
	struct sockaddr_in a;
	int fd = listen_tcp(&a);
	close(fd);
	io_init(&io, 100, 100, handle, &io);
	assert_int_equal(connect_tcp(&a), 0);
	until(IO_ERROR, 5000);
	/* qemu-user leaves what SO_ERROR says in its host's numbers. */
	if (!getenv("CHASQ_EMULATED"))
		assert_int_equal(io.error, ECONNREFUSED);
	assert_int_not_equal(io.error, 0);
	turns(3);
	assert_int_equal(all_events, 1);
}

static void test_finish_while_connecting(void **state)
{
	(void)state;
	struct sockaddr_in a;
	int fd = listen_tcp(&a);
	io_init(&io, 100, 100, handle, &io);
	assert_int_equal(connect_tcp(&a), 0);
	io_write(&io, "QUIT", 4);
	io_finish(&io);
	peer = accept(fd, NULL, NULL);
	close(fd);
	turns(5);
	char got[10];
	assert_int_equal(read(peer, got, sizeof got), 4);
	assert_int_equal(read(peer, got, sizeof got), 0);
	close(peer);
	peer = -1;
	until(IO_CLOSED, 5000);
	assert_int_equal(all_events, 1);
}

static void test_reset_by_peer(void **state)
{
	(void)state;
	struct linger now = {1, 0};
	open_tcp(100, 100);
	setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(peer);
	peer = -1;
	until(IO_ERROR, 5000);
	assert_int_equal(io.error, ECONNRESET);
	turns(3);
	assert_int_equal(all_events, 1);
}

static void test_deadline(void **state)
{
	(void)state;
	open_pair(100, 100);
	int64_t start = now_ms();
	loop_refresh(); /* limits count from the loop's clock, that of the last turn */
	io_deadline(&io, 20);
	until(IO_TIMEOUT, 5000);
	assert_true(now_ms() - start >= 19);
	io_deadline(&io, 20);
	io_deadline(&io, 0);
	usleep(30000);
	turns(3);
	assert_int_equal(events[IO_TIMEOUT], 1);
	io_deadline(&io, 5);
	io_deadline(&io, 100000);
	usleep(10000);
	turns(3);
	assert_int_equal(events[IO_TIMEOUT], 1);
	io_deadline(&io, 1);
	io_close(&io);
	usleep(2000);
	turns(3);
	assert_int_equal(all_events, 1);
}

static void close_it(enum io_event ev)
{
	(void)ev;
	io_close(&io);
}

static void test_closed_in_its_callback(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		open_pair(100, 100);
		on_event = close_it;
		all_events = 0;
		io_deadline(&io, 1);
		if (i == 0)
			assert_int_equal(write(peer, "x", 1), 1);
		if (i == 1)
			shutdown(peer, SHUT_WR);
		if (i == 2)
			io_write(&io, "x", 1);
		if (i != 3)
			io_deadline(&io, 0);
		usleep(2000);
		turns(3);
		assert_int_equal(all_events, 1);
		assert_int_equal(io.watch.fd, -1);
		close(peer);
		peer = -1;
	}
}

/* Reads all the peer gets; the time is bounded by the linger time. Returns the end's errno or 0. */
static size_t peer_reads(char *p, size_t size, int *error)
{
	size_t total = 0;
	int64_t end = now_ms() + 10000;
	fcntl(peer, F_SETFL, O_NONBLOCK);
	while (now_ms() < end) {
		loop_turn(1);
		ssize_t n = read(peer, p + total, size - total);
		if (n > 0)
			total += (size_t)n;
		if (n == 0 || (n < 0 && errno != EAGAIN)) {
			*error = n < 0 ? errno : 0;
			return total;
		}
	}
	fail();
	return 0;
}

/* Unread input at a close makes TCP reset the connection, and the peer may lose our last words. */
static void test_finish_delivers_the_last_words(void **state)
{
	(void)state;
	static char junk[100000];
	static char words[50000];
	static char got[60000];
	int error;
	open_tcp(4096, sizeof words);
	fcntl(peer, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 20 && write(peer, junk, sizeof junk) > 0; i++) {
	}
	turns(3);
	memset(words, 'w', sizeof words);
	assert_int_equal(io_write(&io, words, sizeof words), 0);
	io_finish(&io);
	assert_int_equal(io.in.len, 0);
	assert_int_equal(peer_reads(got, sizeof got, &error), sizeof words);
	assert_int_equal(error, 0);
	assert_memory_equal(got, words, sizeof words);
	assert_int_equal(events[IO_CLOSED], 0); /* still throwing input away */
	close(peer);
	peer = -1;
	until(IO_CLOSED, 5000);
	assert_int_equal(all_events - events[IO_READ], 1);
	assert_int_equal(io.watch.fd, -1);
}

static void test_finish_with_nothing_left(void **state)
{
	(void)state;
	char got[10];
	open_pair(100, 100);
	io_finish(&io);
	turns(2);
	assert_int_equal(read(peer, got, sizeof got), 0); /* our side is shut */
	assert_int_equal(all_events, 0);
	assert_int_equal(write(peer, "more", 4), 4);
	turns(3);
	assert_int_equal(all_events, 0); /* thrown away */
	shutdown(peer, SHUT_WR);
	until(IO_CLOSED, 1000);
	turns(3);
	assert_int_equal(all_events, 1);
}

static void test_finish_after_eof(void **state)
{
	(void)state;
	open_pair(100, 100);
	shutdown(peer, SHUT_WR);
	until(IO_EOF, 1000);
	io_finish(&io);
	assert_int_equal(events[IO_CLOSED], 0); /* from the loop only */
	turns(3);
	assert_int_equal(events[IO_CLOSED], 1);
	assert_int_equal(all_events, 2);
}

static void test_finish_does_not_wait_for_ever(void **state)
{
	(void)state;
	static char big[4 << 20];
	open_pair(100, sizeof big);
	io_write(&io, big, sizeof big); /* more than the peer, which reads nothing, has room for */
	/* Taken before the turn: the deadline counts from the turn's beginning. */
	int64_t start = now_ms();
	turns(1);
	loop_refresh();
	io_finish(&io);
	io_flush(&io);
	until(IO_CLOSED, IO_LINGER_MS + 3000);
	assert_true(now_ms() - start >= IO_LINGER_MS - 1);
	assert_int_equal(all_events, 1);
}

static void test_finish_when_the_peer_is_gone(void **state)
{
	(void)state;
	struct linger now = {1, 0};
	open_tcp(100, 100);
	io_write(&io, "bye", 3);
	setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(peer);
	peer = -1;
	io_finish(&io);
	until(IO_CLOSED, 1000);
	turns(3);
	assert_int_equal(all_events, 1);
}

static void test_flush_while_finishing(void **state)
{
	(void)state;
	char got[10];
	open_pair(100, 100);
	io_write(&io, "bye", 3);
	io_finish(&io);
	io_flush(&io); /* must not take away what the shutdown waits for */
	turns(3);
	assert_int_equal(read(peer, got, sizeof got), 3);
	assert_int_equal(read(peer, got, sizeof got), 0);
}

static void test_detached(void **state)
{
	(void)state;
	io_init(&io, 100, 20, handle, &io);
	assert_int_equal(io_write(&io, "0123456789", 10), 0);
	io_flush(&io);
	io_pause(&io, true);
	io_update(&io);
	turns(3);
	assert_int_equal(io_unsent(&io), 10);
	assert_int_equal(all_events, 0);
	assert_int_equal(io_printf(&io, "%s", "0123456789!"), -1);
	io_deadline(&io, 1);
	until(IO_TIMEOUT, 1000);
	io_finish(&io);
	assert_int_equal(events[IO_CLOSED], 0);
	until(IO_CLOSED, 1000);
}

static void test_refused_past_fd_setsize(void **state)
{
	(void)state;
	struct rlimit rl;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &rl), 0);
	struct rlimit more = {FD_SETSIZE + 16, rl.rlim_max};
	io_init(&io, 10, 10, handle, &io);
	if (rl.rlim_max < more.rlim_cur || setrlimit(RLIMIT_NOFILE, &more))
		skip();
	int fd = fcntl(0, F_DUPFD, FD_SETSIZE);
	assert_int_equal(fd, FD_SETSIZE);
	assert_int_equal(io_open(&io, fd), -1);
	assert_int_equal(errno, EMFILE);
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* closed */
	setrlimit(RLIMIT_NOFILE, &rl);
}

static void test_nonblock(void **state)
{
	(void)state;
	int p[2];
	assert_int_equal(pipe(p), 0);
	assert_int_equal(io_nonblock(p[0]), 0);
	assert_true(fcntl(p[0], F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(p[0], F_GETFD) & FD_CLOEXEC);
	close(p[0]);
	close(p[1]);
	assert_int_equal(io_nonblock(p[0]), -1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_reading),
	    CASE(test_full_input_stops_reading),
	    CASE(test_wide_reads),
	    CASE(test_full_output),
	    CASE(test_flush),
	    CASE(test_flush_behind_lines),
	    CASE(test_last_words_of_a_peer_that_closed),
	    CASE(test_finish_when_broken),
	    CASE(test_full_when_broken),
	    CASE(test_connect),
	    CASE(test_connect_refused),
	    CASE(test_finish_while_connecting),
	    CASE(test_reset_by_peer),
	    CASE(test_deadline),
	    CASE(test_closed_in_its_callback),
	    CASE(test_finish_delivers_the_last_words),
	    CASE(test_finish_with_nothing_left),
	    CASE(test_finish_after_eof),
	    CASE(test_finish_does_not_wait_for_ever),
	    CASE(test_finish_when_the_peer_is_gone),
	    CASE(test_flush_while_finishing),
	    CASE(test_detached),
	    CASE(test_refused_past_fd_setsize),
	    CASE(test_nonblock),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
