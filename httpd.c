/*
 * httpd: connections and answers.
 *
 * A connection either waits for a request or sends an answer, never both: while it sends, nothing
 * is read, so what a client pipelines waits in its own buffers. Each state has a deadline: idle,
 * the request from its first byte to its last, and the answer, of which the client has to take a
 * least amount in each period. Places are few, in all and per client; a newcomer may take that of a
 * client that has long said nothing. Mail comes first: descriptors are left to it. Answers to what
 * could not be read are fixed texts and end the connection.
 */
#include "httpd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "httpd_int.h"
#include "log.h"
#include "stat.h"

STAT_COUNTER(stat_requests, "httpd/requests", "HTTP requests answered");
STAT_COUNTER(stat_bad, "httpd/bad", "HTTP requests that could not be read");
STAT_COUNTER(stat_refused, "httpd/refused", "HTTP connections refused: too many");

/* "%08zx\r\n" before a piece, CRLF behind it, and the empty last one (RFC 9112 7.1). */
#define CHUNK_HEAD     10
#define CHUNK_LAST     "0\r\n\r\n"
#define CHUNK_OVERHEAD (CHUNK_HEAD + 2 + sizeof(CHUNK_LAST))

/* ---- a connection's life ---- */

static void stream_free(struct httpd_conn *c)
{
	if (c->more && c->free_state)
		c->free_state(c->state);
	c->more = NULL;
	loop_timer_stop(&c->again);
}

void httpd_conn_free(struct httpd_conn *c)
{
	struct httpd *h = c->httpd;
	struct httpd_conn **at = &h->conns;
	stream_free(c);
	io_close(&c->io);
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	h->count--;
	free(c);
	loop_fd_want(&h->watch, LOOP_READ);
}

/* The time to send begins anew. */
static void send_deadline(struct httpd_conn *c)
{
	c->unsent = io_unsent(&c->io);
	io_deadline(&c->io, HTTPD_SEND_MS);
}

/* From waiting for a request to answering it. */
static void answer_begin(struct httpd_conn *c)
{
	c->waiting = false;
	c->answered = false;
	io_pause(&c->io, true);
}

/* What could not be read: where the next request would begin is not known. */
static void refuse_request(struct httpd_conn *c, int code)
{
	stat_add(&stat_bad, 1);
	c->head_only = false;
	c->close = true;
	answer_begin(c);
	httpd_answer_text(c, code, code == 405 ? "Allow: GET, HEAD, POST\r\n" : NULL, NULL);
	buf_consume(&c->io.in, c->io.in.len);
	send_deadline(c);
}

static void serve_request(struct httpd_conn *c)
{
	struct httpd_request r;
	const struct httpd_setup *setup = &c->httpd->setup;
	int code = httpd_head_request(&c->head, buf_data(&c->io.in), &r);
	if (code) {
		refuse_request(c, code);
		return;
	}
	r.peer = c->peer;
	c->head_only = r.method == HTTPD_HEAD;
	c->old = c->head.old;
	c->close = c->head.close || c->old || ++c->requests >= HTTPD_REQUESTS_MAX;
	answer_begin(c);
	stat_add(&stat_requests, 1);
	setup->serve(setup->arg, c, &r);
	if (!c->answered)
		httpd_answer_text(c, 500, NULL, NULL);
	buf_consume(&c->io.in, c->head.size + c->head.body);
	send_deadline(c);
	if (c->io.out.failed)
		httpd_conn_free(c);
}

/* Looks at what has come in. c may be gone afterwards. */
static void read_request(struct httpd_conn *c)
{
	struct slice in = buf_slice(&c->io.in);
	if (in.n > 0 && !c->started) {
		c->started = true;
		io_deadline(&c->io, HTTPD_REQUEST_MS);
	}
	int code = httpd_head_read(&c->head, in);
	if (code) {
		refuse_request(c, code);
	} else if (c->head.size > 0 && in.n - c->head.size >= c->head.body) {
		serve_request(c);
	} else if (c->head.size == in.n && c->head.expects && !c->head.old) {
		/* RFC 9110 10.1.1; once, for more bytes come next. */
		static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
		io_write(&c->io, go_on, sizeof(go_on) - 1);
	}
}

static void conn_rest(struct httpd_conn *c)
{
	c->waiting = true;
	c->started = false;
	c->since = loop_now();
	c->head = (struct httpd_head){.size = 0};
	io_deadline(&c->io, HTTPD_IDLE_MS);
	io_pause(&c->io, false);
}

/* c may be gone afterwards. */
static void wait_for_request(struct httpd_conn *c)
{
	conn_rest(c);
	read_request(c);
}

/* The next piece of a body. */
static void stream_more(struct httpd_conn *c)
{
	static const char hex[] = "0123456789abcdef";
	struct buf *out = &c->io.out; /* empty */
	bool framed = !c->old;
	if (framed)
		buf_puts(out, "00000000\r\n");
	size_t before = out->len;
	out->max -= CHUNK_OVERHEAD;
	bool end = c->more(c->state, out);
	out->max += CHUNK_OVERHEAD;
	size_t n = out->len - before;
	if (framed && n == 0)
		buf_truncate(out, before - CHUNK_HEAD);
	if (framed && n > 0) {
		char *size = buf_data(out) + before - CHUNK_HEAD;
		for (size_t i = 8, left = n; i-- > 0; left >>= 4)
			size[i] = hex[left & 15];
		buf_puts(out, "\r\n");
	}
	if (framed && end)
		buf_puts(out, CHUNK_LAST);
	if (out->failed) {
		httpd_conn_free(c);
		return;
	}
	if (end)
		stream_free(c);
	if (out->len == 0)
		loop_timer_set(&c->again, 0); /* nothing to send: no event would come */
	send_deadline(c);
	io_update(&c->io);
}

/* All that was written has been sent. */
static void conn_drained(struct httpd_conn *c)
{
	if (c->waiting)
		return; /* it was 100 */
	if (c->more) {
		stream_more(c);
	} else if (c->close) {
		io_finish(&c->io);
	} else {
		wait_for_request(c);
	}
}

static void conn_timed_out(struct httpd_conn *c)
{
	if (c->waiting && c->started)
		refuse_request(c, 408);
	else if (!c->waiting && c->unsent >= io_unsent(&c->io) + HTTPD_SEND_MIN)
		send_deadline(c);
	else
		httpd_conn_free(c);
}

static void conn_event(void *arg, enum io_event ev)
{
	struct httpd_conn *c = arg;
	if (ev == IO_READ) {
		if (c->waiting)
			read_request(c);
	} else if (ev == IO_DRAINED) {
		conn_drained(c);
	} else if (ev == IO_TIMEOUT) {
		conn_timed_out(c);
	} else if (ev != IO_EOF || c->waiting) {
		httpd_conn_free(c); /* closed, broken, or no further request comes */
	}
}

static void conn_again(void *arg)
{
	conn_drained(arg);
}

struct httpd_conn *httpd_conn_new(struct httpd *h, const struct dns_addr *peer)
{
	struct httpd_conn *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->httpd = h;
	c->peer = *peer;
	io_init(&c->io, HTTPD_HEAD_MAX + HTTPD_BODY_MAX, HTTPD_OUT_MAX, conn_event, c);
	loop_timer_init(&c->again, conn_again, c);
	c->next = h->conns;
	h->conns = c;
	h->count++;
	conn_rest(c);
	return c;
}

/* ---- answers ---- */

/* "404 Not Found": lines of one string, which needs no pointers that a loader has to relocate. */
static const char *status_line(int code)
{
	static const char lines[] = "200 OK\0"
	                            "303 See Other\0"
	                            "400 Bad Request\0"
	                            "401 Unauthorized\0"
	                            "403 Forbidden\0"
	                            "404 Not Found\0"
	                            "405 Method Not Allowed\0"
	                            "408 Request Timeout\0"
	                            "413 Content Too Large\0"
	                            "414 URI Too Long\0"
	                            "417 Expectation Failed\0"
	                            "421 Misdirected Request\0"
	                            "429 Too Many Requests\0"
	                            "431 Request Header Fields Too Large\0"
	                            "501 Not Implemented\0"
	                            "503 Service Unavailable\0"
	                            "505 HTTP Version Not Supported\0"
	                            "500 Internal Server Error";
	const char *line = lines;
	while (strtol(line, NULL, 10) != code && line + strlen(line) + 1 < lines + sizeof(lines))
		line += strlen(line) + 1;
	return line;
}

/* RFC 9110 6.6.1: only when the clock is right. */
static void put_date(struct buf *out)
{
	char text[40];
	struct tm tm;
	time_t now = time(NULL);
	if (now >= CLOCK_RELEASE && gmtime_r(&now, &tm) &&
	    strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0)
		buf_printf(out, "Date: %s\r\n", text);
}

/* length is that of the body, or says how its end will be known. */
static void put_head(struct httpd_conn *c, int code, const char *type, const char *extra,
                     const char *length)
{
	const char *headers = c->httpd->setup.headers;
	struct buf *out = &c->io.out;
	buf_printf(out, "HTTP/1.1 %s\r\n", status_line(code));
	put_date(out);
	buf_printf(out, "%sContent-Type: %s\r\n%s%s%s\r\n", headers ? headers : "", type, length,
	           c->close ? "Connection: close\r\n" : "", extra ? extra : "");
}

void httpd_answer(struct httpd_conn *c, int code, const char *type, const char *extra,
                  struct slice body)
{
	char length[48];
	size_t before = c->io.out.len;
	if (c->answered)
		return;
	snprintf(length, sizeof(length), "Content-Length: %zu\r\n", body.n);
	put_head(c, code, type, extra, length);
	if (body.n > io_room(&c->io)) {
		log_error("-", "http answer too long", LOG_N("size", body.n));
		buf_truncate(&c->io.out, before);
		httpd_answer_text(c, 500, NULL, NULL);
		return;
	}
	c->answered = true;
	io_write(&c->io, body.p, c->head_only ? 0 : body.n);
}

void httpd_answer_text(struct httpd_conn *c, int code, const char *extra, const char *text)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "%s\n", text ? text : status_line(code));
	size_t len = n < (int)sizeof(line) ? (size_t)n : sizeof(line) - 1;
	httpd_answer(c, code, "text/plain; charset=utf-8", extra, (struct slice){line, len});
}

void httpd_stream(struct httpd_conn *c, int code, const char *type, const char *extra,
                  bool (*more)(void *state, struct buf *out), void *state,
                  void (*free_state)(void *state))
{
	if (c->answered || c->head_only) {
		if (free_state)
			free_state(state);
	} else {
		c->more = more;
		c->state = state;
		c->free_state = free_state;
	}
	if (!c->answered)
		put_head(c, code, type, extra, c->old ? "" : "Transfer-Encoding: chunked\r\n");
	c->answered = true;
	io_update(&c->io);
}

/* ---- accept ---- */

/* The same client as far as limits go: an IPv6 client has a whole /64 (RFC 6177). */
static bool is_same_client(const struct dns_addr *a, const struct dns_addr *b)
{
	if (a->family == AF_INET6 && b->family == AF_INET6)
		return memcmp(&a->ip.v6, &b->ip.v6, 8) == 0;
	return dns_addr_equal(a, b);
}

static size_t conns_of(const struct httpd *h, const struct dns_addr *a)
{
	size_t n = 0;
	for (const struct httpd_conn *c = h->conns; c; c = c->next)
		n += is_same_client(&c->peer, a);
	return n;
}

/* Ends the connection of this client (NULL: of any) that waits longest for a request. False when
 * none waits long enough. */
static bool make_room(struct httpd *h, const struct dns_addr *a)
{
	struct httpd_conn *found = NULL;
	for (struct httpd_conn *c = h->conns; c; c = c->next)
		if (c->waiting && (!a || is_same_client(&c->peer, a)) &&
		    (!found || c->since < found->since))
			found = c;
	if (!found || loop_now() - found->since < HTTPD_GRACE_MS)
		return false;
	httpd_conn_free(found);
	return true;
}

/* Takes fd: says why as well as it goes without waiting, and closes. */
static void refuse_connection(int fd)
{
	static const char text[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"
	                           "Connection: close\r\n\r\n";
	stat_add(&stat_refused, 1);
	if (send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		shutdown(fd, SHUT_WR);
	close(fd);
}

/* Takes fd. */
static void conn_begin(struct httpd *h, int fd, const struct dns_addr *a)
{
	struct httpd_conn *c = NULL;
	if ((conns_of(h, a) >= HTTPD_PER_ADDRESS_MAX && !make_room(h, a)) ||
	    loop_fd_room() < h->reserve || !(c = httpd_conn_new(h, a)))
		refuse_connection(fd);
	else if (io_open(&c->io, fd) < 0)
		httpd_conn_free(c);
}

static void accept_resume(void *arg)
{
	struct httpd *h = arg;
	loop_fd_want(&h->watch, LOOP_READ);
}

static void accept_pause(struct httpd *h)
{
	loop_fd_want(&h->watch, 0); /* select() would report it again at once */
	loop_timer_set(&h->pause, HTTPD_PAUSE_MS);
}

static void accept_ready(void *arg, unsigned events)
{
	struct httpd *h = arg;
	struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof(sa);
	struct dns_addr a;
	(void)events;
	if (h->count >= HTTPD_CONNECTIONS_MAX && !make_room(h, NULL)) {
		accept_pause(h);
		return;
	}
	int fd = accept4(h->watch.fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		if (dns_addr_from_sockaddr(&a, (struct sockaddr *)&sa) == 0)
			conn_begin(h, fd, &a);
		else
			close(fd);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		log_error("-", "http accept failed", LOG_S("reason", strerror(errno)));
		accept_pause(h);
	}
}

/* ---- the socket ---- */

struct httpd *httpd_open(const struct dns_addr *a, uint16_t port, const struct httpd_setup *setup)
{
	struct sockaddr_storage sa;
	socklen_t len = dns_addr_to_sockaddr(a, port, &sa);
	int one = 1;
	int room = loop_fd_room();
	struct httpd *h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	h->setup = *setup;
	h->reserve = room / 2 < HTTPD_FD_RESERVE ? room / 2 : HTTPD_FD_RESERVE;
	loop_fd_init(&h->watch, accept_ready, h);
	loop_timer_init(&h->pause, accept_resume, h);
	int fd = socket(a->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&sa, len) < 0 || listen(fd, HTTPD_CONNECTIONS_MAX) < 0 ||
	    loop_fd_watch(&h->watch, fd, LOOP_READ) < 0) {
		int saved = errno;
		if (fd >= 0)
			close(fd);
		free(h);
		errno = saved;
		return NULL;
	}
	h->watch.last = true;
	return h;
}

void httpd_close(struct httpd *h)
{
	if (!h)
		return;
	int fd = h->watch.fd;
	loop_timer_stop(&h->pause);
	loop_fd_unwatch(&h->watch);
	if (fd >= 0)
		close(fd);
	for (struct httpd_conn *c = h->conns, *next; c; c = next) {
		next = c->next;
		httpd_conn_free(c);
	}
	free(h);
}
