/*
 * bare: the least that a mail server can do, to know what the machine would allow: a select()
 * server that takes the SMTP dialogue and stores, and nothing else. It is also the sink that relays
 * send to.
 *
 *   bare none|file|syncfs|log DIR ADDRESS PORT [COUNT]
 *
 * none: forgets the messages. file: one file a message, an fsync each. syncfs: one file a message,
 * one syncfs for all that ended in a turn. log: all that ended in a turn is appended to one file,
 * written full beforehand so that only data is flushed, with one fdatasync. With the last two a
 * turn is over when no socket is readable. With COUNT it says on standard output each time that so
 * many more messages have come: messages, connections, CLOCK_MONOTONIC in seconds.
 *
 * It believes its client: replies are taken to fit into the socket's buffer, and there is no
 * time-out and no limit on a message, which "log" has in memory.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define INPUT_MAX 65536
#define LOG_BYTES ((off_t)64 << 20)

enum store { STORE_NONE, STORE_FILE, STORE_SYNCFS, STORE_LOG };
enum state { STATE_FREE, STATE_COMMAND, STATE_DATA, STATE_PARKED };

struct text {
	char *bytes;
	size_t length, room;
};

struct session {
	enum state state;
	int file;         /* file, syncfs: that of the message being taken, or -1 */
	struct text text; /* log: the message being taken */
	size_t have;
	char *input;
};

static const char *const store_names[] = {"none", "file", "syncfs", "log"};
static enum store store;
static int directory, log_file;
static off_t log_at;
static struct text batch;
static struct session sessions[FD_SETSIZE];
static int parked;
static long messages, connections, announce_at;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void text_add(struct text *t, const char *bytes, size_t n)
{
	if (t->length + n > t->room) {
		t->room = (t->length + n) * 2;
		t->bytes = realloc(t->bytes, t->room);
		if (!t->bytes)
			die("realloc");
	}
	memcpy(t->bytes + t->length, bytes, n);
	t->length += n;
}

static void reply(int fd, const char *text)
{
	/* A client that is gone is noticed when it is read from. */
	(void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* ---- the store --------------------------------------------------------------------------------
 */

static void log_open(void)
{
	static char zeros[1 << 20];
	log_file = openat(directory, "log", O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (log_file < 0)
		die("log");
	for (off_t at = 0; at < LOG_BYTES; at += (off_t)sizeof(zeros))
		if (pwrite(log_file, zeros, sizeof(zeros), at) != (ssize_t)sizeof(zeros))
			die("log");
	if (fsync(log_file) < 0)
		die("log");
}

static void message_begin(struct session *s)
{
	char name[32];
	s->text.length = 0;
	if (store != STORE_FILE && store != STORE_SYNCFS)
		return;
	snprintf(name, sizeof(name), "m%ld.%d", messages, (int)(s - sessions));
	s->file = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (s->file < 0)
		die(name);
}

static void message_add(struct session *s, const char *bytes, size_t n)
{
	if (store == STORE_LOG)
		text_add(&s->text, bytes, n);
	else if (s->file >= 0 && write(s->file, bytes, n) != (ssize_t)n)
		die("write");
}

static void announce(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("%ld %ld %.6f\n", messages, connections,
	       (double)now.tv_sec + (double)now.tv_nsec / 1e9);
	fflush(stdout);
}

static void message_done(int fd)
{
	sessions[fd].state = STATE_COMMAND;
	reply(fd, "250 2.0.0 kept\r\n");
	if (++messages % announce_at == 0)
		announce();
}

/* The message is whole: it is answered now, or with all others of this turn. */
static void message_end(struct session *s, int fd)
{
	if (store == STORE_FILE && fsync(s->file) < 0)
		die("fsync");
	if (s->file >= 0)
		close(s->file);
	s->file = -1;
	if (store == STORE_NONE || store == STORE_FILE) {
		message_done(fd);
		return;
	}
	if (store == STORE_LOG)
		text_add(&batch, s->text.bytes, s->text.length);
	s->state = STATE_PARKED;
	parked++;
}

static void flush_store(void)
{
	if (store == STORE_SYNCFS) {
		if (syncfs(directory) < 0)
			die("syncfs");
		return;
	}
	if (log_at + (off_t)batch.length > LOG_BYTES)
		log_at = 0;
	if (pwrite(log_file, batch.bytes, batch.length, log_at) != (ssize_t)batch.length)
		die("log");
	if (fdatasync(log_file) < 0)
		die("fdatasync");
	log_at += (off_t)batch.length;
	batch.length = 0;
}

/* ---- the dialogue -----------------------------------------------------------------------------
 */

static void session_close(int fd)
{
	struct session *s = &sessions[fd];
	if (s->file >= 0)
		close(s->file);
	s->state = STATE_FREE;
	close(fd);
}

static void command(struct session *s, int fd, const char *line)
{
	if (strncasecmp(line, "EHLO", 4) == 0) {
		reply(fd,
		      "250-bare.test\r\n250-PIPELINING\r\n250-SIZE 100000000\r\n250 8BITMIME\r\n");
	} else if (strncasecmp(line, "DATA", 4) == 0) {
		reply(fd, "354 go on\r\n");
		s->state = STATE_DATA;
		message_begin(s);
	} else if (strncasecmp(line, "QUIT", 4) == 0) {
		reply(fd, "221 2.0.0 bye\r\n");
		session_close(fd);
	} else {
		reply(fd, "250 2.0.0 ok\r\n");
	}
}

/* Takes one line, or a piece of a message; says how many bytes of the input that were, 0 for none.
 */
static size_t session_step(struct session *s, int fd)
{
	char *end;
	if (s->state == STATE_COMMAND) {
		end = memchr(s->input, '\n', s->have);
		if (!end)
			return 0;
		*end = '\0';
		command(s, fd, s->input);
		return (size_t)(end - s->input) + 1;
	}
	if (s->state != STATE_DATA)
		return 0;
	end = memmem(s->input, s->have, "\r\n.\r\n", 5);
	size_t n = end ? (size_t)(end - s->input) + 2 : s->have > 4 ? s->have - 4 : 0;
	message_add(s, s->input, n);
	if (!end)
		return n;
	message_end(s, fd);
	return n + 3;
}

static void session_work(int fd)
{
	struct session *s = &sessions[fd];
	size_t used;
	while (s->have > 0 && (used = session_step(s, fd)) > 0 && s->state != STATE_FREE) {
		s->have -= used;
		memmove(s->input, s->input + used, s->have);
	}
}

static void session_read(int fd)
{
	struct session *s = &sessions[fd];
	ssize_t n = recv(fd, s->input + s->have, INPUT_MAX - s->have, 0);
	if (n <= 0) {
		session_close(fd);
		return;
	}
	s->have += (size_t)n;
	session_work(fd);
}

static void session_open(int listener)
{
	int one = 1, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (fd >= FD_SETSIZE) {
		close(fd);
		return;
	}
	struct session *s = &sessions[fd];
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (!s->input && !(s->input = malloc(INPUT_MAX)))
		die("malloc");
	s->state = STATE_COMMAND;
	s->file = -1;
	s->have = 0;
	connections++;
	reply(fd, "220 bare.test ESMTP\r\n");
}

/* ---- the loop ---------------------------------------------------------------------------------
 */

static void answer_parked(void)
{
	flush_store();
	for (int fd = 0; fd < FD_SETSIZE && parked > 0; fd++)
		if (sessions[fd].state == STATE_PARKED) {
			parked--;
			message_done(fd);
			session_work(fd);
		}
}

static void turn(int listener)
{
	fd_set readable;
	struct timeval now = {0, 0};
	int highest = listener;
	FD_ZERO(&readable);
	FD_SET(listener, &readable);
	for (int fd = 0; fd < FD_SETSIZE; fd++)
		if (sessions[fd].state == STATE_COMMAND || sessions[fd].state == STATE_DATA) {
			FD_SET(fd, &readable);
			if (fd > highest)
				highest = fd;
		}
	int n = select(highest + 1, &readable, NULL, NULL, parked > 0 ? &now : NULL);
	if (n < 0)
		die("select");
	if (n == 0) {
		answer_parked();
		return;
	}
	if (FD_ISSET(listener, &readable)) {
		FD_CLR(listener, &readable);
		session_open(listener);
	}
	for (int fd = 0; fd <= highest; fd++)
		if (FD_ISSET(fd, &readable))
			session_read(fd);
}

static int listen_on(const char *address, const char *port)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (inet_pton(AF_INET, address, &a.sin_addr) != 1 ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 512) < 0)
		die("listen");
	return fd;
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: bare none|file|syncfs|log DIR ADDRESS PORT [COUNT]\n");
		return 2;
	}
	while (store < STORE_LOG && strcmp(argv[1], store_names[store]) != 0)
		store++;
	directory = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		die(argv[2]);
	announce_at = argc > 5 && atol(argv[5]) > 0 ? atol(argv[5]) : LONG_MAX;
	if (store == STORE_LOG)
		log_open();
	int listener = listen_on(argv[3], argv[4]);
	for (;;)
		turn(listener);
}
