/*
 * load: sends messages over many sessions at once and says how that went. No pipelining: every
 * command waits for its reply, as with Postfix's smtp-source.
 *
 *   load [-1] [-s SESSIONS] [-m MESSAGES] [-l BYTES] [-f SENDER] -t RECIPIENT ADDRESS PORT
 *
 * Sessions are kept open, with -1 each message has a connection of its own. Each session comes from
 * an address of its own out of 127.0.1.1 to 127.0.1.20, since servers limit what one host may do. A
 * message refused with 4yz is tried again after RETRY_MS; 5yz ends the run, and so do STALLED_MS
 * without a reply.
 *
 * Output, one line: messages, seconds, ms from the final dot to its 250 at p50 and p99, how often
 * it was refused, connections, CLOCK_MONOTONIC at the start.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SOURCES    20
#define RETRY_MS   5
#define STALLED_MS 60000
#define LINE_WIDTH 72

enum step {
	STEP_CLOSED,
	STEP_GREETING,
	STEP_EHLO,
	STEP_MAIL,
	STEP_RCPT,
	STEP_DATA,
	STEP_BODY,
	STEP_RSET,
	STEP_QUIT
};

struct session {
	int fd;
	enum step step;
	size_t sent;   /* of the message */
	bool blocked;  /* waits for EPOLLOUT */
	double dot;    /* when the final dot was sent */
	double resume; /* not before this time; 0: now */
	size_t have;
	char input[4096];
};

static struct sockaddr_in target = {.sin_family = AF_INET};
static char *commands[STEP_QUIT + 1];
static char *message;
static size_t message_length;
static struct session *sessions;
static int session_count = 1, waiting, poller;
static bool one_each;
static long total = 1000, started, done, refused, connections;
static double *latency;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void make_message(size_t length, const char *from, const char *to)
{
	message = malloc(length + 512);
	if (!message)
		die("malloc");
	size_t at = (size_t)snprintf(
	    message, 512, "From: <%.100s>\r\nTo: <%.100s>\r\nSubject: load\r\n\r\n", from, to);
	while (at < length) {
		size_t n = length - at < LINE_WIDTH ? length - at : LINE_WIDTH;
		memset(message + at, 'X', n);
		memcpy(message + at + n, "\r\n", 2);
		at += n + 2;
	}
	memcpy(message + at, ".\r\n", 3);
	message_length = at + 3;
}

static void make_commands(const char *from, const char *to)
{
	static char mail[300], rcpt[300];
	snprintf(mail, sizeof(mail), "MAIL FROM:<%s>\r\n", from);
	snprintf(rcpt, sizeof(rcpt), "RCPT TO:<%s>\r\n", to);
	commands[STEP_EHLO] = "EHLO load.test\r\n";
	commands[STEP_MAIL] = mail;
	commands[STEP_RCPT] = rcpt;
	commands[STEP_DATA] = "DATA\r\n";
	commands[STEP_RSET] = "RSET\r\n";
	commands[STEP_QUIT] = "QUIT\r\n";
}

static void watch(struct session *s, int operation)
{
	struct epoll_event e = {.events = EPOLLIN | (s->blocked ? EPOLLOUT : 0u), .data.ptr = s};
	if (epoll_ctl(poller, operation, s->fd, &e) < 0)
		die("epoll_ctl");
}

static void session_open(struct session *s)
{
	int one = 1;
	uint32_t last = (uint32_t)(s - sessions) % SOURCES + 1;
	struct sockaddr_in source = {.sin_family = AF_INET,
	                             .sin_addr.s_addr = htonl(0x7f000100 + last)};
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		die("socket");
	setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (bind(s->fd, (struct sockaddr *)&source, sizeof(source)) < 0)
		die("bind");
	if (connect(s->fd, (struct sockaddr *)&target, sizeof(target)) < 0 && errno != EINPROGRESS)
		die("connect");
	connections++;
	s->step = STEP_GREETING;
	s->have = 0;
	s->blocked = false;
	watch(s, EPOLL_CTL_ADD);
}

static void session_wait(struct session *s)
{
	s->resume = now() + RETRY_MS / 1e3;
	waiting++;
}

static void session_close(struct session *s)
{
	close(s->fd);
	s->step = STEP_CLOSED;
	if (started < total)
		session_wait(s);
}

static void session_body(struct session *s)
{
	ssize_t n = send(s->fd, message + s->sent, message_length - s->sent, MSG_NOSIGNAL);
	bool was_blocked = s->blocked;
	if (n > 0)
		s->sent += (size_t)n;
	s->blocked = s->sent < message_length;
	if (s->blocked != was_blocked)
		watch(s, EPOLL_CTL_MOD);
	s->dot = now();
}

static void session_enter(struct session *s, enum step step)
{
	s->step = step;
	if (step == STEP_MAIL)
		started++;
	if (step == STEP_BODY) {
		s->sent = 0;
		session_body(s);
	} else {
		/* An error shows when the reply is read. */
		(void)!send(s->fd, commands[step], strlen(commands[step]), MSG_NOSIGNAL);
	}
}

/* The next message, or the end. */
static void session_next(struct session *s)
{
	session_enter(s, started < total ? STEP_MAIL : STEP_QUIT);
}

static void session_refused(struct session *s, const char *text)
{
	if (text[0] != '4') {
		fprintf(stderr, "load: %s", text);
		exit(1);
	}
	refused++;
	if (s->step >= STEP_MAIL && s->step <= STEP_BODY)
		started--;
	if (s->step < STEP_MAIL || strncmp(text, "421", 3) == 0)
		session_close(s);
	else
		session_wait(s);
}

static void session_reply(struct session *s, const char *text)
{
	if (text[0] != '2' && text[0] != '3') {
		session_refused(s, text);
		return;
	}
	switch (s->step) {
	case STEP_BODY:
		latency[done++] = now() - s->dot;
		if (one_each)
			session_enter(s, STEP_QUIT);
		else
			session_next(s);
		break;
	case STEP_EHLO:
	case STEP_RSET:
		session_next(s);
		break;
	case STEP_QUIT:
		close(s->fd);
		s->step = STEP_CLOSED;
		if (started < total)
			session_open(s);
		break;
	default:
		session_enter(s, s->step + 1);
		break;
	}
}

static void session_lost(struct session *s)
{
	if (s->step >= STEP_MAIL && s->step <= STEP_BODY)
		started--;
	refused += s->step != STEP_QUIT;
	session_close(s);
}

static void session_read(struct session *s)
{
	ssize_t n = recv(s->fd, s->input + s->have, sizeof(s->input) - 1 - s->have, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		session_lost(s);
		return;
	}
	s->have += (size_t)n;
	s->input[s->have] = '\0';
	if (s->input[s->have - 1] != '\n')
		return;
	/* Whole when the last line has a space behind its code. */
	char *line = s->input + s->have - 1;
	while (line > s->input && line[-1] != '\n')
		line--;
	if (strlen(line) > 3 && line[3] == '-')
		return;
	s->have = 0;
	session_reply(s, line);
}

static void resume_waiting(void)
{
	double t = now();
	for (int i = 0; i < session_count; i++) {
		struct session *s = &sessions[i];
		if (s->resume == 0 || s->resume > t)
			continue;
		s->resume = 0;
		waiting--;
		if (s->step != STEP_CLOSED)
			session_enter(s, STEP_RSET);
		else if (started < total)
			session_open(s);
	}
}

static void run(void)
{
	struct epoll_event events[256];
	while (done < total) {
		int n = epoll_wait(poller, events, 256, waiting > 0 ? RETRY_MS : STALLED_MS);
		if (n == 0 && waiting == 0) {
			fprintf(stderr, "load: no reply; %ld of %ld messages\n", done, total);
			exit(1);
		}
		for (int i = 0; i < n; i++) {
			struct session *s = events[i].data.ptr;
			if (s->blocked && events[i].events & EPOLLOUT)
				session_body(s);
			if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
				session_read(s);
		}
		if (waiting > 0)
			resume_waiting();
	}
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	const char *from = "load@client.test", *to = NULL;
	size_t length = 1024;
	int c;
	while ((c = getopt(argc, argv, "1s:m:l:f:t:")) != -1)
		switch (c) {
		case '1':
			one_each = true;
			break;
		case 's':
			session_count = atoi(optarg);
			break;
		case 'm':
			total = atol(optarg);
			break;
		case 'l':
			length = (size_t)atol(optarg);
			break;
		case 'f':
			from = optarg;
			break;
		case 't':
			to = optarg;
			break;
		default:
			return 2;
		}
	if (!to || argc - optind != 2 || session_count < 1 || total < 1 ||
	    inet_pton(AF_INET, argv[optind], &target.sin_addr) != 1) {
		fprintf(stderr,
		        "usage: load [-1] [-s SESSIONS] [-m MESSAGES] [-l BYTES] [-f SENDER] "
		        "-t RECIPIENT ADDRESS PORT\n");
		return 2;
	}
	target.sin_port = htons((uint16_t)atoi(argv[optind + 1]));
	make_message(length, from, to);
	make_commands(from, to);
	sessions = calloc((size_t)session_count, sizeof(*sessions));
	latency = calloc((size_t)total, sizeof(*latency));
	poller = epoll_create1(0);
	if (!sessions || !latency || poller < 0)
		die("load");
	double start = now();
	for (int i = 0; i < session_count && i < total; i++)
		session_open(&sessions[i]);
	run();
	double seconds = now() - start;
	qsort(latency, (size_t)total, sizeof(*latency), by_size);
	printf("%ld %.6f %.3f %.3f %ld %ld %.6f\n", total, seconds, 1e3 * latency[total / 2],
	       1e3 * latency[total * 99 / 100], refused, connections, start);
	return 0;
}
