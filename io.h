/* io: a buffered non-blocking byte stream over a socket. */
#ifndef IO_H
#define IO_H

#include <stdint.h>
#include <sys/socket.h>

#include "buf.h"
#include "loop.h"
#include "loop_end.h"
#include "tls.h"

enum io_event {
	IO_CONNECTED, /* a connect begun with io_connect succeeded */
	IO_READ,      /* bytes were added to in */
	IO_DRAINED,   /* out became empty */
	IO_EOF,       /* the peer will send no more; in may still hold bytes */
	IO_ERROR,     /* the stream is broken; io->error has the errno */
	IO_TIMEOUT,   /* the deadline passed */
	IO_CLOSED,    /* io_finish is through: the fd is closed */
	IO_SECURED,   /* the handshake of io_start_tls is done */
};

/*
 * The owner takes bytes from `in` (buf_consume) and adds to `out` with io_write. The stream reads
 * while in has room and reading is not paused; it writes while out is not empty. Events come from
 * the loop only, never from inside one of the calls below; after io_close none comes any more.
 *
 * A stream with fd -1 is detached: nothing is read or written. Tests and fuzzers add to `in`
 * themselves, call the owner's handler, and look at `out`.
 */
struct io {
	bool connecting, paused, eof, finishing;
	bool wide; /* the owner's: reads may be of IO_READ_WIDE bytes, whatever the bound of `in` */
	bool full; /* the last read took all that it had room for */
	bool over; /* `in` has more memory than its bound */
	bool securing; /* from io_start_tls to the end of the handshake */
	bool queued;   /* waits for its turn to take a step of it */
	bool ending;   /* the last record of TLS waits to be sent */
	bool broken;   /* nothing can be sent any more; reported when the input has been read */
	bool wrote;    /* the last act was a write */
	enum tls_want want; /* what the handshake, or the end, waits for */
	int error;
	struct tls *tls;   /* NULL while plain */
	struct io *behind; /* the next of those that wait for a step of their handshake */
	size_t plain;      /* bytes at the front of out that still go without TLS */
	struct loop_fd watch;
	struct buf out;
	struct buf in;
	void (*handle)(void *arg, enum io_event ev);
	void *arg;
	int64_t until; /* when IO_TIMEOUT is due; the timer may come earlier */
	struct loop_timer timer;
	struct loop_timer again; /* for input that select() cannot see */
	struct loop_end later;   /* for what io_flush has put off */
};

/* A closed stream whose buffers hold at most in_max and out_max bytes. */
void io_init(struct io *io, size_t in_max, size_t out_max, void (*handle)(void *, enum io_event),
             void *arg);

/* Takes a connected non-blocking fd; TCP is told to send at once (no Nagle). Returns 0, or -1 with
 * errno (EMFILE past FD_SETSIZE), and then the fd is closed. */
int io_open(struct io *io, int fd);

/* Connects to an address: IO_CONNECTED or IO_ERROR follows. 0, or -1 with errno (EAGAIN: a UNIX
 * server has no room now). */
int io_connect(struct io *io, const struct sockaddr_storage *to, socklen_t len);

/* Adds to out. 0, or -1 when it is full (sticky in out.failed): the owner then ends the session, or
 * IO_ERROR with ENOMEM comes when the rest is sent. */
int io_write(struct io *io, const void *p, size_t n);
int io_printf(struct io *io, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Tries to send at once, or when the turn ends if lines of the log wait for that. No event when all
 * could be sent at once (see io_unsent); errors come from the loop. Does what io_update does. */
void io_flush(struct io *io);

/* Bytes waiting to be sent; and room before out is full. */
size_t io_unsent(const struct io *io);
size_t io_room(const struct io *io);

/* Recomputes what the loop is asked for: after touching the buffers directly. */
void io_update(struct io *io);

/* Stops or restarts reading: back-pressure. */
void io_pause(struct io *io, bool paused);

/*
 * Takes t and makes the stream, which is connected, speak TLS. What out holds now is still sent
 * plain (a server's reply to STARTTLS). What in holds, and all that comes later, is never taken for
 * plain input: in is emptied, since whoever sent it ahead of the handshake may not be the peer
 * (RFC 3207 5: commands injected by one in the middle). IO_SECURED follows, and no IO_READ or
 * IO_DRAINED before it; or IO_ERROR with error EPROTO and the reason in tls_error(io_tls(io)).
 * Afterwards error is EPROTO when TLS itself failed. A peer that goes away without its last TLS
 * record gives IO_EOF as well: SMTP has ends of its own. Returns 0, or -1 when t is NULL or the
 * stream cannot begin TLS any more; t is freed then.
 */
int io_start_tls(struct io *io, struct tls *t);

/* For tls_peer and tls_error; NULL while plain. Gone after io_close. A detached stream has it
 * too, and its test gives IO_SECURED itself. */
const struct tls *io_tls(const struct io *io);

/* IO_TIMEOUT comes ms from now unless moved; 0 means none. */
void io_deadline(struct io *io, int64_t ms);

/* Ends the stream politely: sends what is left in out, shuts down our side, throws input away until
 * the peer closes or IO_LINGER_MS have passed (a close with unread input would make the kernel
 * reset the connection and destroy our last reply on its way), then closes. IO_CLOSED is the one
 * event that still comes. */
void io_finish(struct io *io);

/* Closes at once, frees both buffers. Harmless on a closed stream. */
void io_close(struct io *io);

/* Puts a fd in non-blocking, close-on-exec mode. Returns 0, or -1 with errno. */
int io_nonblock(int fd);

#endif
