/*
 * io: buffered non-blocking streams.
 *
 * What the loop is asked for follows from the stream's state in one function, io_update: reading
 * while `in` has room, nobody paused and no end was seen; writing while connecting or while `out`
 * holds bytes. Nobody sets interest anywhere else. While TLS is being set up, the handshake says
 * what it waits for. Bytes that TLS has decrypted already are invisible to select(): a timer of 0
 * ms stands for them.
 *
 * A step of a handshake is a signature or so: milliseconds, on a router a good part of a second. So
 * one is taken a turn, for all streams together, and who is ready for one meanwhile queues up.
 * Between two of them everybody else has a turn.
 *
 * Under TLS, reading waits for input and writing for output only: tls.c sees to it that neither
 * ever waits for the other, so a stream that is paused cannot stall what it sends.
 *
 * Callbacks come from the loop alone. The owner may close the stream in its callback, so nothing
 * is touched after calling it: each event is the last act of its function.
 */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"

static struct {
	struct io *first; /* those that wait, linked by `behind`; its `again` timer is set */
	unsigned turn;    /* in which the last step was taken */
} io_steps;

static unsigned io_overfull; /* streams whose input has more memory than its bound */

static void io_note_over(struct io *io)
{
	bool over = io->in.size > io->in.max;
	if (over && !io->over)
		io_overfull++;
	else if (!over && io->over)
		io_overfull--;
	io->over = over;
}

/* Was all sent that stands before a hole, and the owner not told of it? Nobody may wait for what
 * comes behind. */
static bool io_has_hole(const struct io *io)
{
	return io->out.failed && io->out.len == 0 && !io->finishing && !io->error;
}

/* What select() does not know of is read in the next turn; and there, not within the owner's
 * functions, a stream without memory fails. */
static void io_read_again(struct io *io, bool reading)
{
	if (!io_has_hole(io) && (!reading || !io->tls || tls_pending(io->tls) == 0))
		loop_timer_stop(&io->again);
	else if (!loop_timer_is_set(&io->again))
		loop_timer_set(&io->again, 0);
}

void io_update(struct io *io)
{
	unsigned want = 0;
	io_note_over(io);
	if (io->watch.fd < 0)
		return;
	if (io->queued) {
		loop_fd_want(&io->watch, 0);
		return;
	}
	if (io->connecting || io->plain > 0) {
		want = LOOP_WRITE;
	} else if (io->securing) {
		want = io->want == TLS_WANT_READ ? LOOP_READ : LOOP_WRITE;
	} else {
		bool room = io->in.len < io->in.max && (!io->paused || io->broken);
		if (!io->eof && (io->finishing || room))
			want |= LOOP_READ;
		/* Not for what is sent when the turn ends. */
		if ((io->out.len > 0 || io->ending) && !io->broken && !io->later.at)
			want |= LOOP_WRITE;
	}
	io_read_again(io, (want & LOOP_READ) && !io->securing && !io->finishing);
	loop_fd_want(&io->watch, want);
}

/* What a step of TLS comes to, in the words of read() and write(). */
static ssize_t io_tls_result(enum tls_want want, size_t done)
{
	if (want == TLS_DONE)
		return (ssize_t)done;
	if (want == TLS_CLOSED)
		return 0;
	if (want != TLS_FAILED)
		errno = EAGAIN;
	return -1;
}

static ssize_t io_recv(struct io *io, void *p, size_t n)
{
	size_t done = 0;
	if (!io->tls)
		return recv(io->watch.fd, p, n, 0); /* all are sockets: read() takes longer */
	enum tls_want want = tls_read(io->tls, p, n, &done);
	return io_tls_result(want, done);
}

/* Sends from out and takes away what was sent. */
static ssize_t io_send(struct io *io)
{
	size_t done = 0;
	ssize_t n;
	if (!io->tls || io->plain > 0) {
		n = send(io->watch.fd, buf_data(&io->out), io->plain > 0 ? io->plain : io->out.len,
		         MSG_NOSIGNAL);
		if (n > 0 && io->plain > 0)
			io->plain -= (size_t)n;
	} else {
		enum tls_want want = tls_write(io->tls, buf_data(&io->out), io->out.len, &done);
		n = io_tls_result(want, done);
	}
	if (n > 0)
		buf_consume(&io->out, (size_t)n);
	return n;
}

/* ---- handshakes: one step a turn ---- */

static void io_queue(struct io *io)
{
	struct io **p = &io_steps.first;
	while (*p)
		p = &(*p)->behind;
	*p = io;
	io->behind = NULL;
	io->queued = true;
	io_update(io);
	if (io_steps.first == io)
		loop_timer_set(&io->again, 0);
}

static void io_unqueue(struct io *io)
{
	struct io **p = &io_steps.first;
	if (!io->queued)
		return;
	while (*p != io)
		p = &(*p)->behind;
	*p = io->behind;
	io->queued = false;
	loop_timer_stop(&io->again);
	if (p == &io_steps.first && *p)
		loop_timer_set(&(*p)->again, 0);
}

/* All was sent: tells the peer. Returns true when there is nothing to wait for any more. */
static bool io_end(struct io *io)
{
	io->ending = io->tls && tls_shutdown(io->tls) == TLS_WANT_WRITE;
	return !io->ending && (shutdown(io->watch.fd, SHUT_WR) || io->eof);
}

static void io_fail(struct io *io, int error)
{
	io->error = error;
	io_unqueue(io);
	loop_fd_want(&io->watch, 0);
	loop_timer_stop(&io->again);
	if (io->finishing) {
		io_close(io);
		io->handle(io->arg, IO_CLOSED);
		return;
	}
	io->handle(io->arg, IO_ERROR);
}

static void io_finished(struct io *io)
{
	io_close(io);
	io->handle(io->arg, IO_CLOSED);
}

/* Throws away what a peer still sends to a stream that is ending. */
static void io_discard(struct io *io)
{
	char junk[1024];
	ssize_t n = read(io->watch.fd, junk, sizeof junk);
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	io->eof = true;
	if (n == 0 && (io->out.len > 0 || io->ending))
		io_update(io);
	else
		io_finished(io);
}

/* Where to read to. A wide read is for those who have much to say; it may leave more than the bound
 * only while few streams have that. */
static char *io_read_space(struct io *io, size_t *room)
{
	size_t max = io->in.max;
	bool wide = io->wide && io->full && io->in.len == 0 && io_overfull < IO_OVERFULL_MAX;
	if (wide)
		io->in.max = IO_READ_WIDE;
	char *p = buf_space(&io->in, wide ? IO_READ_WIDE : IO_READ_STEP, room);
	io->in.max = max;
	return p;
}

static void io_read_some(struct io *io)
{
	size_t room;
	char *p = io_read_space(io, &room);
	if (!p) {
		io_fail(io, ENOMEM);
		return;
	}
	if (room == 0) {
		io_update(io);
		return;
	}
	ssize_t n = io_recv(io, p, room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0 || (n == 0 && io->broken)) {
		io_fail(io, io->broken ? io->error : errno);
		return;
	}
	if (n == 0) {
		io->eof = true;
		io_update(io);
		io->handle(io->arg, IO_EOF);
		return;
	}
	buf_added(&io->in, (size_t)n);
	io->full = (size_t)n == room;
	io_update(io);
	io->handle(io->arg, IO_READ);
}

/*
 * Nothing can be sent any more. What the peer said before it closed may still be in the socket (a
 * server that refuses a message half way says why), so the stream is read to its end first.
 */
static void io_break(struct io *io, int error)
{
	/* Nor with a full buffer: its owner may wait for room for its answers, which never comes.
	 */
	if (io->finishing || io->eof || io->securing || error == EPROTO ||
	    io->in.len >= io->in.max) {
		io_fail(io, error);
		return;
	}
	io->broken = true;
	io->error = error;
	io_update(io);
}

static void io_write_some(struct io *io)
{
	if (io->out.len > 0 && io_send(io) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			io_break(io, errno);
		else
			io_update(io);
		return;
	}
	if (io->out.len > 0 && !io->securing) {
		io_update(io);
		return;
	}
	if (io->finishing && io_end(io)) {
		io_finished(io);
		return;
	}
	io_update(io);
	if (!io->finishing && !io->securing)
		io->handle(io->arg, IO_DRAINED);
}

static void io_step(struct io *io)
{
	io_steps.turn = loop_turn_number();
	io->want = tls_handshake(io->tls);
	loop_refresh(); /* the peer's time begins when ours is over */
	if (io->want == TLS_WANT_READ || io->want == TLS_WANT_WRITE) {
		io_update(io);
		return;
	}
	if (io->want != TLS_DONE) {
		io_fail(io, EPROTO);
		return;
	}
	io->securing = false;
	io_update(io);
	io->handle(io->arg, IO_SECURED);
}

static void io_handshake(struct io *io)
{
	if (io_steps.first || io_steps.turn == loop_turn_number())
		io_queue(io);
	else
		io_step(io);
}

static void io_connect_done(struct io *io)
{
	int error = 0;
	socklen_t len = sizeof error;
	if (getsockopt(io->watch.fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = errno;
	io->connecting = false;
	if (error) {
		io_fail(io, error);
		return;
	}
	io_update(io);
	if (!io->finishing)
		io->handle(io->arg, IO_CONNECTED);
}

/* One act a turn, since the owner may be gone after it; reading and writing take turns, so that
 * neither starves the other. */
static void io_ready(void *arg, unsigned events)
{
	struct io *io = arg;
	bool both = events == (LOOP_READ | LOOP_WRITE);
	bool reads = (events & LOOP_READ) && (!both || io->wrote);
	io->wrote = !reads;
	if (io->connecting)
		io_connect_done(io);
	else if (io->securing && io->plain == 0)
		io_handshake(io);
	else if (!reads)
		io_write_some(io);
	else if (io->finishing)
		io_discard(io);
	else
		io_read_some(io);
}

static void io_again(void *arg)
{
	struct io *io = arg;
	if (io->queued) {
		io_unqueue(io);
		io_step(io);
	} else if (io_has_hole(io)) {
		io_fail(io, ENOMEM);
	} else {
		io_read_some(io);
	}
}

static bool io_can_send(const struct io *io)
{
	return io->watch.fd >= 0 && io->out.len > 0 && !io->connecting && !io->broken &&
	       (!io->securing || io->plain > 0);
}

/* The turn is over: sends what waited for its lines. */
static void io_later(void *arg)
{
	struct io *io = arg;
	if (io_can_send(io))
		io_write_some(io);
	else
		io_update(io);
}

static void io_timed_out(void *arg)
{
	struct io *io = arg;
	if (io->until > loop_now_us())
		loop_timer_set(&io->timer, (io->until - loop_now_us() + 999) / 1000);
	else if (io->finishing)
		io_finished(io);
	else
		io->handle(io->arg, IO_TIMEOUT);
}

void io_init(struct io *io, size_t in_max, size_t out_max, void (*handle)(void *, enum io_event),
             void *arg)
{
	*io = (struct io){.handle = handle, .arg = arg};
	loop_fd_init(&io->watch, io_ready, io);
	loop_timer_init(&io->timer, io_timed_out, io);
	loop_timer_init(&io->again, io_again, io);
	io->later = (struct loop_end){.run = io_later, .arg = io};
	buf_init(&io->in, in_max);
	buf_init(&io->out, out_max);
}

/* Streams write whole answers and blocks. Waiting for more (Nagle) only adds the peer's delayed
 * acknowledgement, 40 ms, to every exchange that ends in two writes: a TLS handshake for one. */
static void io_no_delay(int fd)
{
	int on = 1;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)) {
		/* Not a TCP socket. */
	}
}

int io_open(struct io *io, int fd)
{
	io_no_delay(fd);
	io->error = 0;
	io->connecting = io->paused = io->eof = io->finishing = io->broken = io->wrote = false;
	io->securing = io->ending = false;
	if (loop_fd_watch(&io->watch, fd, 0)) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	io_update(io);
	return 0;
}

int io_connect(struct io *io, const struct sockaddr_storage *to, socklen_t len)
{
	int fd = socket(to->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (const struct sockaddr *)to, len) && errno != EINPROGRESS) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	if (io_open(io, fd))
		return -1;
	io->connecting = true;
	io_update(io);
	return 0;
}

int io_write(struct io *io, const void *p, size_t n)
{
	int rc = buf_append(&io->out, p, n);
	io_update(io);
	return rc;
}

int io_printf(struct io *io, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int rc = buf_vprintf(&io->out, fmt, ap);
	va_end(ap);
	io_update(io);
	return rc;
}

void io_flush(struct io *io)
{
	/* What is left of an ending stream goes by the loop, which shuts down behind it. */
	bool may = io->watch.fd >= 0 && !io->connecting && !io->finishing && io->out.len > 0 &&
	           (!io->securing || io->plain > 0);
	/* Whoever reads an answer shall find in the log what stands there of it. An error shows
	 * again when the loop writes what is left; if all was sent, at the next read. */
	if (may && !(loop_end_waits() && loop_end_ask(&io->later, LOOP_END_LAST)))
		io_send(io);
	io_update(io);
}

size_t io_unsent(const struct io *io)
{
	return io->out.len;
}

size_t io_room(const struct io *io)
{
	return io->out.max - io->out.len;
}

void io_pause(struct io *io, bool paused)
{
	io->paused = paused;
	io_update(io);
}

/* Every command puts the deadline off. Then the timer stays where it is, and looks when it fires:
 * to move it among those of all sessions costs more. */
void io_deadline(struct io *io, int64_t ms)
{
	int64_t before = io->until;
	io->until = loop_now_us() + ms * 1000;
	if (ms <= 0)
		loop_timer_stop(&io->timer);
	else if (!loop_timer_is_set(&io->timer) || io->until < before)
		loop_timer_set(&io->timer, ms);
}

static void io_drop_tls(struct io *io)
{
	io_unqueue(io);
	tls_free(io->tls);
	io->tls = NULL;
	io->plain = 0;
	io->securing = io->ending = false;
}

int io_start_tls(struct io *io, struct tls *t)
{
	if (!t || io->tls || io->broken || io->finishing) {
		tls_free(t);
		return -1;
	}
	io->tls = t;
	io->want = TLS_WANT_WRITE; /* the first step is taken as soon as the loop comes by */
	buf_consume(&io->in, io->in.len);
	if (io->watch.fd >= 0) {
		io->securing = true;
		io->plain = io->out.len;
	}
	io_update(io);
	return 0;
}

const struct tls *io_tls(const struct io *io)
{
	return io->tls;
}

void io_finish(struct io *io)
{
	/* Before the handshake is done only what goes plain can still be sent. */
	if (io->securing) {
		buf_truncate(&io->out, io->plain);
		io_drop_tls(io);
	}
	io->finishing = true;
	buf_clear(&io->in);
	io_deadline(io, IO_LINGER_MS);
	if (io->watch.fd < 0 || io->broken || (io->out.len == 0 && io_end(io))) {
		io->until = 0;
		loop_timer_set(&io->timer, 0); /* done; events come from the loop only */
	}
	io_update(io);
}

void io_close(struct io *io)
{
	int fd = io->watch.fd;
	loop_timer_stop(&io->timer);
	loop_timer_stop(&io->again);
	if (io->later.at && io_can_send(io))
		io_send(io); /* as io_flush would have */
	loop_end_stop(&io->later);
	loop_fd_unwatch(&io->watch);
	io_drop_tls(io);
	if (fd >= 0)
		close(fd);
	buf_clear(&io->in);
	io_note_over(io);
	buf_clear(&io->out);
}

int io_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -1;
	return fcntl(fd, F_SETFD, FD_CLOEXEC);
}
