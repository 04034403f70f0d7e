/*
 * log_sink: lines on their way out: to a file, a standard stream, or the system's log.
 *
 * Whoever reads the other end may be slow, stuck or gone, and the daemon must not wait for it: so
 * syslog(3) is out of the question, and a stream is asked before each line. A line that is not
 * taken at once waits in a queue of LOG_QUEUE_BYTES, which the loop drains and each next line
 * tries; lines keep their order. What does not fit, or that a full disk refuses, is counted, and
 * the count is told in a line of its own once there is room again: before that no line says less
 * than it seems to.
 *
 * A datagram is a line. In files and streams a line that was written in part (a full disk) is
 * ended before the next one begins; and the lines of a turn of the loop are gathered and written
 * with one call, before the answers of that turn go out. Errors, and what comes when no turn is
 * under way, are written at once. A signal that ends the process for a fault writes what there is.
 */
#include "log_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "buf.h"
#include "loop.h"
#include "loop_end.h"

/* Facility mail (RFC 5424 6.2.1). */
#define FACILITY_MAIL 2

/* Longest "<22>Nov 22 10:00:00 tag[12345]: " or "2026-11-22 10:00:00.000000 ". */
#define HEAD_MAX 128

#define SYSLOG_AT "<syslog:"

enum sink_kind { SINK_FILE, SINK_STREAM, SINK_SYSLOG };

struct log_sink {
	enum sink_kind kind;
	int fd; /* -1: no system log to be reached */
	char *path;
	char *tag;
	bool time;
	bool journal; /* the stream is systemd's */
	bool torn;    /* the last line was written in part */
	size_t sent;  /* bytes that the last writev took */
	bool poll;    /* it may block: is asked for room first */
	pid_t pid;
	struct log_sink *next;
	int64_t patience;   /* until then, in ms */
	int64_t connect_at; /* not before; monotonic ms */
	unsigned long long lost;
	unsigned long long untold; /* of them */
	struct buf turn;           /* lines with their heads and ends, of this turn */
	struct buf waiting;        /* lines with their heads, behind their lengths */
	struct loop_end end;       /* of the turn */
	struct loop_fd watch;      /* for room, while lines wait */
	struct loop_timer retry;
};

static struct log_sink *sinks; /* all that are open */

static bool sink_tell(struct log_sink *s);

/* ---- the other end -------------------------------------------------------------------------- */

bool log_sink_is_journal(int fd)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct stat st;
	char *end;
	if (!stream || fstat(fd, &st))
		return false;
	unsigned long long device = strtoull(stream, &end, 10);
	if (*end != ':')
		return false;
	return device == (unsigned long long)st.st_dev &&
	       strtoull(end + 1, &end, 10) == (unsigned long long)st.st_ino && *end == '\0';
}

static int64_t sink_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Connects to the system's log, unless that was tried a moment ago. 0, or -1. */
static int sink_connect(struct log_sink *s)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int64_t now = sink_now();
	if (now < s->connect_at || strlen(s->path) >= sizeof sa.sun_path)
		return -1;
	s->connect_at = now + LOG_RETRY_MS;
	memcpy(sa.sun_path, s->path, strlen(s->path) + 1);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa)) {
		close(fd);
		return -1;
	}
	s->fd = fd;
	return 0;
}

/* Can nobody but root put a file into the directory of this one? */
static bool sink_is_in_roots_dir(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash == path ? strdup("/")
	            : slash       ? strndup(path, (size_t)(slash - path))
	                          : strdup(".");
	struct stat st;
	bool roots =
	    dir && stat(dir, &st) == 0 && st.st_uid == 0 && !(st.st_mode & (S_IWGRP | S_IWOTH));
	free(dir);
	return roots;
}

/* May be the name of a FIFO or a terminal, which must not hold us up. Whoever may write to the
 * log's directory (the server's own user, after a restart) could have put a link to any file there,
 * which root must neither make nor write to. */
static int sink_open_file(const char *path)
{
	bool careful = geteuid() == 0 && !sink_is_in_roots_dir(path);
	struct stat st;
	int fd = open(path,
	              O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
	                  (careful ? O_NOFOLLOW : 0),
	              0640);
	if (fd >= 0 && careful && (fstat(fd, &st) || (S_ISREG(st.st_mode) && st.st_nlink > 1))) {
		close(fd);
		errno = EMLINK;
		return -1;
	}
	return fd;
}

static void sink_disconnect(struct log_sink *s)
{
	loop_fd_unwatch(&s->watch);
	close(s->fd);
	s->fd = -1;
}

/* ---- one line ------------------------------------------------------------------------------- */

/* Sends a datagram. 0; EAGAIN: not now; ENOBUFS: not now, and nothing will tell when; or what is
 * wrong with the line. */
static int sink_send_syslog(struct log_sink *s, struct iovec *v, size_t count)
{
	struct msghdr m = {.msg_iov = v};
	m.msg_iovlen = (__typeof__(m.msg_iovlen))count; /* an int in musl */
	for (;;) {
		if (s->fd < 0 && sink_connect(s))
			return ENOBUFS;
		if (sendmsg(s->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		switch (errno) {
		case EINTR:
			break;
		case EAGAIN:
			return EAGAIN;
		case ENOBUFS:
		case ENOMEM:
			return ENOBUFS;
		case EMSGSIZE:
			return EMSGSIZE;
		default:
			sink_disconnect(s); /* it was restarted, or is gone */
		}
	}
}

/* The same for a file or stream; the line's end is among v. */
static int sink_send_stream(struct log_sink *s, const struct iovec *v, int count)
{
	struct iovec with[5] = {{(char *)"\n", 1}};
	struct pollfd ready = {.fd = s->fd, .events = POLLOUT};
	size_t total = 0;
	if (s->torn) {
		memcpy(with + 1, v, (size_t)count * sizeof *v);
		v = with;
		count++;
	}
	for (int i = 0; i < count; i++)
		total += v[i].iov_len;
	/* The descriptor is others' too, so it is not ours to make it non-blocking. A pipe that is
	 * ready takes PIPE_BUF bytes at least. */
	s->sent = 0;
	if (s->poll && poll(&ready, 1, 0) == 0)
		return EAGAIN;
	ssize_t n = writev(s->fd, v, count);
	if (n < 0)
		return errno == EINTR || errno == EWOULDBLOCK ? EAGAIN : errno;
	if (n > 0) {
		s->sent = (size_t)n - (v == with ? 1 : 0);
		s->torn = (size_t)n < total;
	}
	return (size_t)n < total ? ENOSPC : 0;
}

static int sink_send(struct log_sink *s, struct iovec *v, int count)
{
	if (s->kind == SINK_SYSLOG)
		return sink_send_syslog(s, v, (size_t)count);
	return sink_send_stream(s, v, count);
}

/* ---- the queue ------------------------------------------------------------------------------ */

/* Waits for room, or for time to pass: a full system log tells by select() when it has room, one
 * that is not there does not. */
static void sink_wait(struct log_sink *s, int error)
{
	loop_timer_set(&s->retry, s->patience);
	if (error == EAGAIN && s->watch.fd < 0 && s->fd >= 0)
		loop_fd_watch(&s->watch, s->fd, LOOP_WRITE); /* else the timer is enough */
}

static bool sink_is_not_now(int error)
{
	return error == EAGAIN || error == ENOBUFS;
}

/* Takes a line that cannot go now. */
static bool sink_queue(struct log_sink *s, const struct iovec *v, int count)
{
	struct buf *b = &s->waiting;
	uint16_t size = 0;
	for (int i = 0; i < count; i++)
		size = (uint16_t)(size + v[i].iov_len);
	if (b->len + sizeof size + size > LOG_QUEUE_BYTES)
		return false;
	size_t before = b->len;
	buf_append(b, &size, sizeof size);
	for (int i = 0; i < count; i++)
		buf_append(b, v[i].iov_base, v[i].iov_len);
	if (!b->failed)
		return true;
	buf_truncate(b, before); /* no memory: the lines before it stay */
	b->failed = false;
	return false;
}

static void sink_lose(struct log_sink *s)
{
	s->lost++;
	s->untold++;
}

/* Sends what waits, as far as it goes now. */
static void sink_drain(struct log_sink *s)
{
	while (s->waiting.len > 0) {
		uint16_t size;
		memcpy(&size, buf_data(&s->waiting), sizeof size);
		struct iovec v = {buf_data(&s->waiting) + sizeof size, size};
		int error = sink_send(s, &v, 1);
		if (sink_is_not_now(error)) {
			sink_wait(s, error);
			return;
		}
		if (error)
			sink_lose(s);
		buf_consume(&s->waiting, sizeof size + size);
	}
	s->patience = LOG_RETRY_MS;
	loop_fd_unwatch(&s->watch);
	loop_timer_stop(&s->retry);
}

/* The turn is over: writes its lines. Those that are not taken wait, or are lost. */
static void sink_end_turn(void *arg)
{
	struct log_sink *s = arg;
	struct iovec v = {buf_data(&s->turn), s->turn.len};
	if (s->turn.len == 0)
		return;
	int error = s->waiting.len > 0 ? EAGAIN : sink_send(s, &v, 1);
	size_t at = error == 0 ? v.iov_len : s->sent;
	while (at < s->turn.len) {
		char *line = buf_data(&s->turn) + at;
		const char *end = memchr(line, '\n', s->turn.len - at);
		v = (struct iovec){line, (size_t)(end - line) + 1};
		if (!sink_is_not_now(error) || !sink_queue(s, &v, 1))
			sink_lose(s);
		at += v.iov_len;
	}
	if (s->waiting.len > 0)
		sink_wait(s, error);
	buf_truncate(&s->turn, 0);
	loop_end_stop(&s->end);
}

/* Takes a line that may go at the end of the turn. */
static bool sink_gather(struct log_sink *s, const struct iovec *v, int count)
{
	struct buf *b = &s->turn;
	size_t size = 0;
	size_t room;
	for (int i = 0; i < count; i++)
		size += v[i].iov_len;
	if (s->kind == SINK_SYSLOG || size > LOG_TURN_BYTES ||
	    !loop_end_ask(&s->end, LOOP_END_FIRST))
		return false;
	if (b->len + size > LOG_TURN_BYTES)
		sink_end_turn(s);
	if (!b->data && !buf_space(b, LOG_TURN_BYTES, &room)) {
		buf_clear(b); /* no memory: it goes at once */
		return false;
	}
	for (int i = 0; i < count; i++)
		buf_append(b, v[i].iov_base, v[i].iov_len);
	return true;
}

static void sink_go_on(struct log_sink *s)
{
	int saved = errno;
	sink_end_turn(s);
	sink_drain(s);
	if (s->untold > 0 && s->waiting.len == 0)
		sink_tell(s);
	errno = saved;
}

static void sink_ready(void *arg, unsigned events)
{
	(void)events;
	sink_go_on(arg);
}

/* A host without a system log must not be woken for it each second. */
static void sink_retry(void *arg)
{
	struct log_sink *s = arg;
	if (s->patience < LOG_RETRY_MAX_MS)
		s->patience *= 2;
	sink_go_on(s);
}

/* ---- lines ---------------------------------------------------------------------------------- */

static const int sink_severity[] = {
    [LOG_LEVEL_ERROR] = 3,
    [LOG_LEVEL_INFO] = 6,
    [LOG_LEVEL_DEBUG] = 7,
};

/* What stands in front of a line. Its length. RFC 3164 4.1, as C libraries write it. */
static size_t sink_head(const struct log_sink *s, enum log_level level, char out[HEAD_MAX])
{
	static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
	                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	struct timespec now;
	struct tm tm;
	int n = 0;
	if (s->kind != SINK_SYSLOG && (s->journal || !s->time))
		return s->journal ? (size_t)snprintf(out, HEAD_MAX, "<%d>", sink_severity[level])
		                  : 0;
	clock_gettime(CLOCK_REALTIME, &now);
	if (!localtime_r(&now.tv_sec, &tm))
		memset(&tm, 0, sizeof tm);
	if (s->kind == SINK_SYSLOG)
		n = snprintf(out, HEAD_MAX, "<%d>%s %2d %02d:%02d:%02d %.40s[%ld]: ",
		             FACILITY_MAIL * 8 + sink_severity[level],
		             months[(unsigned)tm.tm_mon % 12], tm.tm_mday, tm.tm_hour, tm.tm_min,
		             tm.tm_sec, s->tag, (long)s->pid);
	else
		n = snprintf(out, HEAD_MAX, "%04d-%02d-%02d %02d:%02d:%02d.%06ld ",
		             tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
		             tm.tm_sec, (long)now.tv_nsec / 1000);
	return (size_t)n;
}

/* Sends a line, now or when the turn is over, or lets it wait. False when it is lost. */
static bool sink_put(struct log_sink *s, enum log_level level, const char *line, size_t n)
{
	char head[HEAD_MAX];
	struct iovec v[3] = {
	    {head, sink_head(s, level, head)}, {(char *)(uintptr_t)line, n}, {(char *)"\n", 1}};
	int count = s->kind == SINK_SYSLOG ? 2 : 3;
	if (s->waiting.len == 0 && level != LOG_LEVEL_ERROR && sink_gather(s, v, count))
		return true;
	sink_end_turn(s);
	if (s->waiting.len > 0)
		return sink_queue(s, v, count);
	int error = sink_send(s, v, count);
	if (!sink_is_not_now(error))
		return error == 0;
	bool taken = sink_queue(s, v, count);
	if (taken)
		sink_wait(s, error);
	return taken;
}

/* Tells how many lines were lost. While the queue is well filled that would only cost more. */
static bool sink_tell(struct log_sink *s)
{
	char line[64];
	if (s->waiting.len > LOG_QUEUE_BYTES / 2)
		return false;
	int n = snprintf(line, sizeof line, "error - log lines lost n=%llu", s->untold);
	if (!sink_put(s, LOG_LEVEL_ERROR, line, (size_t)n))
		return false;
	s->untold = 0;
	return true;
}

void log_sink_write(struct log_sink *s, enum log_level level, const char *line, size_t n)
{
	int saved = errno;
	if (s->waiting.len > 0)
		sink_drain(s);
	if ((s->untold > 0 && !sink_tell(s)) || n > LOG_QUEUE_BYTES / 4 ||
	    !sink_put(s, level, line, n))
		sink_lose(s);
	errno = saved;
}

unsigned long long log_sink_lost(const struct log_sink *s)
{
	return s->lost;
}

/* ---- open, close ---------------------------------------------------------------------------- */

/* Is it "<syslog>", or "<syslog:PATH>" with a path of *n bytes? */
static bool sink_is_syslog(const char *where, size_t *n)
{
	size_t all = strlen(where);
	*n = 0;
	if (strcmp(where, "<syslog>") == 0)
		return true;
	if (strncmp(where, SYSLOG_AT, sizeof SYSLOG_AT - 1) != 0 || where[all - 1] != '>')
		return false;
	*n = all - sizeof SYSLOG_AT; /* the NUL of the one is the '>' of the other */
	return *n > 0;
}

/* Finds out what `where` means. 0, or -1 with errno. */
static int sink_begin(struct log_sink *s, const char *where)
{
	size_t n;
	s->fd = -1;
	if (sink_is_syslog(where, &n)) {
		s->kind = SINK_SYSLOG;
		s->path =
		    n > 0 ? strndup(where + sizeof SYSLOG_AT - 1, n) : strdup(LOG_SYSLOG_PATH);
		return s->path ? 0 : -1;
	}
	if (strcmp(where, "<stderr>") == 0 || strcmp(where, "<stdout>") == 0) {
		s->kind = SINK_STREAM;
		struct stat st;
		s->fd = where[4] == 'e' ? STDERR_FILENO : STDOUT_FILENO;
		s->journal = log_sink_is_journal(s->fd);
		s->poll = fstat(s->fd, &st) || !S_ISREG(st.st_mode);
		return 0;
	}
	s->kind = SINK_FILE;
	s->path = strdup(where);
	s->fd = s->path ? sink_open_file(where) : -1;
	return s->fd < 0 ? -1 : 0;
}

/* The process ends for a fault: what was said before it matters most. */
static void sink_on_fault(int signo)
{
	for (struct log_sink *s = sinks; s; s = s->next) {
		struct pollfd ready = {.fd = s->fd, .events = POLLOUT};
		if (s->turn.len > 0 && s->pid == getpid() && poll(&ready, 1, 0) > 0 &&
		    write(s->fd, buf_data(&s->turn), s->turn.len) < 0) {
			/* There is nobody left to tell. */
		}
	}
	raise(signo); /* by default now */
}

/* A sanitizer may have been first. */
static void sink_guard(void)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
	struct sigaction act = {.sa_handler = sink_on_fault,
	                        .sa_flags = (int)SA_RESETHAND | SA_NODEFER};
	struct sigaction old;
	sigemptyset(&act.sa_mask);
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		if (!sigaction(faults[i], NULL, &old) && !(old.sa_flags & SA_SIGINFO) &&
		    old.sa_handler == SIG_DFL)
			sigaction(faults[i], &act, NULL);
}

struct log_sink *log_sink_open(const char *where, const char *tag, bool time, char *err,
                               size_t err_size)
{
	struct log_sink *s = calloc(1, sizeof *s);
	if (!s || !(s->tag = strdup(tag)) || sink_begin(s, where)) {
		snprintf(err, err_size, "%s: %s", where, strerror(errno));
		if (s) {
			free(s->path);
			free(s->tag);
		}
		free(s);
		return NULL;
	}
	s->time = time;
	s->pid = getpid();
	s->patience = LOG_RETRY_MS;
	s->end = (struct loop_end){.run = sink_end_turn, .arg = s};
	buf_init(&s->turn, LOG_TURN_BYTES);
	buf_init(&s->waiting, LOG_QUEUE_BYTES);
	loop_fd_init(&s->watch, sink_ready, s);
	loop_timer_init(&s->retry, sink_retry, s);
	if (s->kind == SINK_SYSLOG)
		sink_connect(s);
	s->next = sinks;
	sinks = s;
	sink_guard();
	return s;
}

void log_sink_close(struct log_sink *s)
{
	if (!s)
		return;
	sink_go_on(s);
	for (struct log_sink **p = &sinks; *p; p = &(*p)->next) {
		if (*p == s) {
			*p = s->next;
			break;
		}
	}
	loop_end_stop(&s->end);
	loop_timer_stop(&s->retry);
	loop_fd_unwatch(&s->watch);
	if (s->kind != SINK_STREAM && s->fd >= 0)
		close(s->fd);
	buf_clear(&s->turn);
	buf_clear(&s->waiting);
	free(s->path);
	free(s->tag);
	free(s);
}

int log_sink_reopen(struct log_sink *s)
{
	if (s->kind != SINK_FILE)
		return 0;
	int fd = sink_open_file(s->path);
	if (fd < 0)
		return -1;
	sink_go_on(s); /* what waits was written before */
	sink_disconnect(s);
	s->fd = fd;
	s->torn = false;
	if (s->waiting.len > 0)
		sink_wait(s, EAGAIN);
	return 0;
}
