/*
 * io: buffered non-blocking streams.
 *
 * What the loop is asked for follows from the stream's state in one function, io_update: reading
 * while `in` has room, nobody paused and no end was seen; writing while connecting or while `out`
 * holds bytes. Nobody sets interest anywhere else.
 *
 * Callbacks come from the loop alone. The owner may close the stream in its callback, so nothing
 * is touched after calling it: each event is the last act of its function.
 */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"

void io_update(struct io *io)
{
	unsigned want = 0;
	if (io->watch.fd < 0)
		return;
	if (io->connecting) {
		want = LOOP_WRITE;
	} else {
		bool room = io->in.len < io->in.max && (!io->paused || io->broken);
		if (!io->eof && (io->finishing || room))
			want |= LOOP_READ;
		if (io->out.len > 0 && !io->broken)
			want |= LOOP_WRITE;
	}
	loop_fd_want(&io->watch, want);
}

static void io_fail(struct io *io, int error)
{
	io->error = error;
	loop_fd_want(&io->watch, 0);
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
	if (n == 0 && io->out.len > 0)
		io_update(io);
	else
		io_finished(io);
}

static void io_read_some(struct io *io)
{
	size_t room;
	char *p = buf_space(&io->in, IO_READ_STEP, &room);
	if (!p) {
		io_fail(io, ENOMEM);
		return;
	}
	if (room == 0) {
		io_update(io);
		return;
	}
	ssize_t n = read(io->watch.fd, p, room);
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
	if (io->finishing || io->eof || io->in.len >= io->in.max) {
		io_fail(io, error);
		return;
	}
	io->broken = true;
	io->error = error;
	io_update(io);
}

static void io_write_some(struct io *io)
{
	ssize_t n = write(io->watch.fd, buf_data(&io->out), io->out.len);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			io_break(io, errno);
		return;
	}
	buf_consume(&io->out, (size_t)n);
	if (io->out.len > 0)
		return;
	io_update(io);
	if (!io->finishing)
		io->handle(io->arg, IO_DRAINED);
	else if (io->eof || shutdown(io->watch.fd, SHUT_WR))
		io_finished(io);
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
	else if (!reads)
		io_write_some(io);
	else if (io->finishing)
		io_discard(io);
	else
		io_read_some(io);
}

static void io_timed_out(void *arg)
{
	struct io *io = arg;
	if (io->finishing)
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
	buf_init(&io->in, in_max);
	buf_init(&io->out, out_max);
}

int io_open(struct io *io, int fd)
{
	io->error = 0;
	io->connecting = io->paused = io->eof = io->finishing = io->broken = io->wrote = false;
	if (loop_fd_watch(&io->watch, fd, 0)) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	io_update(io);
	return 0;
}

int io_open_connecting(struct io *io, int fd)
{
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
	if (io->watch.fd < 0 || io->connecting || io->finishing || io->out.len == 0)
		return;
	ssize_t n = write(io->watch.fd, buf_data(&io->out), io->out.len);
	if (n > 0)
		buf_consume(&io->out, (size_t)n);
	/* An error shows again when the loop writes what is left; if all was sent, at the next
	 * read. */
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

void io_deadline(struct io *io, int64_t ms)
{
	if (ms > 0)
		loop_timer_set(&io->timer, ms);
	else
		loop_timer_stop(&io->timer);
}

void io_finish(struct io *io)
{
	io->finishing = true;
	buf_clear(&io->in);
	io_deadline(io, IO_LINGER_MS);
	if (io->watch.fd < 0 || io->broken ||
	    (io->out.len == 0 && (io->eof || shutdown(io->watch.fd, SHUT_WR))))
		loop_timer_set(&io->timer, 0); /* done; events come from the loop only */
	io_update(io);
}

void io_close(struct io *io)
{
	int fd = io->watch.fd;
	loop_timer_stop(&io->timer);
	loop_fd_unwatch(&io->watch);
	if (fd >= 0)
		close(fd);
	buf_clear(&io->in);
	buf_clear(&io->out);
}

int io_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -1;
	return fcntl(fd, F_SETFD, FD_CLOEXEC);
}
