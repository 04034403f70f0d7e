/*
 * test_httpd: requests as bytes to detached connections, whole and byte by byte; then limits in
 * number and time over real sockets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "httpd_int.h"

/* ---- a server ---- */

static int served, states;
static char page[4096]; /* what the last request was */

struct count {
	size_t left, piece;
	bool pause; /* every second call gives nothing */
};

static bool more(void *state, struct buf *out)
{
	struct count *n = state;
	n->pause = !n->pause;
	if (n->left > 0 && !n->pause)
		return false;
	assert_true(out->max - out->len >= HTTPD_PIECE);
	for (size_t i = 0; i < n->piece; i++)
		buf_putc(out, (char)('a' + i % 26));
	n->left--;
	return n->left == 0;
}

static void free_count(void *state)
{
	states--;
	free(state);
}

static void start(struct httpd_conn *c, size_t left, size_t piece)
{
	struct count *n = calloc(1, sizeof(*n));
	assert_non_null(n);
	*n = (struct count){.left = left, .piece = piece};
	states++;
	httpd_stream(c, 200, "text/plain", NULL, more, n, free_count);
}

static void serve(void *arg, struct httpd_conn *c, const struct httpd_request *r)
{
	static char big[HTTPD_OUT_MAX];
	char value[16] = "";
	assert_ptr_equal(arg, &served);
	served++;
	int n =
	    httpd_param(r->method == HTTPD_POST ? r->form : r->query, "a", value, sizeof(value));
	snprintf(page, sizeof(page),
	         "%d %.200s host=%s port=%s auth=%s origin=%s site=%s accept=%s q=%.*s a=%d:%s",
	         (int)r->method, r->path, r->host, r->port, r->authorization, r->origin,
	         r->fetch_site, r->accept, (int)r->query.n, r->query.p, n, value);
	if (strcmp(r->path, "/none") == 0)
		return;
	if (strcmp(r->path, "/big") == 0)
		httpd_answer(c, 200, "text/plain", NULL, (struct slice){big, sizeof(big)});
	else if (strcmp(r->path, "/large") == 0)
		httpd_answer(c, 200, "text/plain", NULL,
		             (struct slice){memset(big, 'x', sizeof(big)), sizeof(big) - 1024});
	else if (strcmp(r->path, "/stream") == 0)
		start(c, 3, 30);
	else if (strcmp(r->path, "/endless") == 0)
		start(c, 1000000, HTTPD_PIECE);
	else if (strcmp(r->path, "/overflow") == 0)
		start(c, 1, HTTPD_OUT_MAX);
	else if (strcmp(r->path, "/missing") == 0)
		httpd_answer_text(c, 404, "X-Extra: 1\r\n", NULL);
	else
		httpd_answer(c, 200, "text/plain", NULL, slice_of(page));
}

static const struct httpd_setup the_setup = {
    .serve = serve, .arg = &served, .headers = "X-Common: yes\r\n"};

static struct httpd H;
static struct buf said; /* everything that was answered */

static int set_up(void **state)
{
	(void)state;
	assert_int_equal(loop_init(), 0);
	H = (struct httpd){.setup = the_setup};
	loop_fd_init(&H.watch, NULL, NULL);
	buf_init(&said, 1 << 20);
	served = 0;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	while (H.conns)
		httpd_conn_free(H.conns);
	assert_int_equal(H.count, 0);
	assert_int_equal(states, 0);
	buf_clear(&said);
	loop_done();
	return 0;
}

static struct httpd_conn *connected(void)
{
	const struct dns_addr peer = {.family = AF_INET};
	struct httpd_conn *c = httpd_conn_new(&H, &peer);
	assert_non_null(c);
	return c;
}

/* The client reads all. */
static void drain(struct httpd_conn *c)
{
	while (H.conns == c && !c->io.finishing && (c->io.out.len > 0 || c->more)) {
		assert_int_equal(buf_append(&said, buf_data(&c->io.out), c->io.out.len), 0);
		bool none = c->io.out.len == 0;
		buf_consume(&c->io.out, c->io.out.len);
		if (none)
			loop_turn(0);
		else
			c->io.handle(c->io.arg, IO_DRAINED);
	}
}

/* Sends, step bytes at a time, as long as the stream would read. True while it is open. */
static bool say(struct httpd_conn *c, const char *p, size_t n, size_t step)
{
	for (size_t at = 0; at < n && H.conns == c && !c->io.finishing; at += step) {
		size_t k = n - at < step ? n - at : step;
		if (buf_append(&c->io.in, p + at, k) < 0)
			fail_msg("more than the stream would have read");
		c->io.handle(c->io.arg, IO_READ);
		drain(c);
	}
	return H.conns == c && !c->io.finishing;
}

/* One connection for these bytes; its answers, with Date left out. */
static const char *answers(const char *p, size_t n, size_t step, bool *open)
{
	struct httpd_conn *c = connected();
	buf_truncate(&said, 0);
	*open = say(c, p, n, step);
	if (H.conns == c)
		httpd_conn_free(c);
	char *text = (char *)(uintptr_t)buf_str(&said), *date;
	while ((date = strstr(text, "Date: ")))
		memmove(date, strchr(date, '\n') + 1, strlen(strchr(date, '\n') + 1) + 1);
	return text;
}

static const char *ask(const char *request)
{
	bool open;
	return answers(request, strlen(request), strlen(request), &open);
}

/* ---- requests ---- */

#define HOST "Host: h\r\n"
#define GET  "GET / HTTP/1.1\r\n" HOST

struct request_case {
	const char *text;
	int code;
	bool open;        /* afterwards */
	const char *page; /* a part of what was understood */
};

static const struct request_case cases[] = {
    {GET "\r\n", 200, true, "0 / host=h port= auth= origin= site= accept= q= a=-1:"},
    {"\r\n\r\n" GET "\r\n", 200, true, "0 / host=h"},
    {"HEAD /x HTTP/1.1\r\n" HOST "\r\n", 200, true, "1 /x host=h"},
    {"GET /a/../b//c%2F%41%c3%a9+%25?a=1+2%26&b HTTP/1.1\r\nhost:\tH.Example:80 \r\n\r\n", 200,
     true,
     "0 /a/../b//c/A\xc3\xa9+% host=H.Example port=80 auth= origin= site= accept= q=a=1+2%26&b "
     "a=4:1 2&"},
    {"GET /? HTTP/1.1\r\nHost: [::1]:1100\r\n\r\n", 200, true, "0 / host=::1 port=1100"},
    {"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", 200, true, "0 / host=::1 port= "},
    {"GET http://other:1/p?a=b HTTP/1.1\r\n" HOST "\r\n", 200, true, "0 /p host=other port=1"},
    {"GET / HTTP/1.7\r\n" HOST "\r\n", 200, true, "0 / host=h"},
    {"GET / HTTP/1.0\r\n\r\n", 200, false, "0 / host= port="},
    {"GET / HTTP/1.0\r\n" HOST "Connection: keep-alive\r\n\r\n", 200, false, "0 / host=h"},
    {GET "Connection: x, Close\r\n\r\n", 200, false, "0 /"},
    {GET "Authorization: Basic eDp5\r\nOrigin: http://h\r\nsec-fetch-site: none\r\nAccept: "
         "*/*\r\nAccept: text/x\r\n\r\n",
     200, true, "auth=Basic eDp5 origin=http://h site=none accept=*/* q="},
    {GET "X: \x80\xff \t ~\r\nY:\r\nAccept:\r\n\r\n", 200, true, "accept= q="},
    {GET "Content-Length: 5\r\n\r\nhello", 200, true, "0 /"},
    {"POST /f?a=no HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\nb=1&a=%41+c", 200, true,
     "2 /f host=h port= auth= origin= site= accept= q=a=no a=3:A c"},
    {"POST / HTTP/1.1\r\n" HOST "\r\n", 200, true, "2 / host=h"},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 4096\r\n\r\n", 0, true, NULL},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 4097\r\n\r\n", 413, false, NULL},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999999999\r\n\r\n", 413, false,
     NULL},
    {"GET /none HTTP/1.1\r\n" HOST "\r\n", 500, true, "/none"},
    {"GET /big HTTP/1.1\r\n" HOST "\r\n", 500, true, "/big"},
    {"GET /missing HTTP/1.1\r\n" HOST "\r\n", 404, true, "/missing"},

    /* two readers could disagree (RFC 9112 11.2) */
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400, false, NULL},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
     400, false, NULL},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501, false, NULL},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n", 501, false, NULL},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, false, NULL},
    {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding : chunked\r\n\r\n", 400, false, NULL},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, false,
     NULL},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nhello", 400, false, NULL},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\nhello", 400, false, NULL},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\nhello", 400, false, NULL},
    {"POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n", 400, false, NULL},
    {GET "X: a\r\n b\r\n\r\n", 400, false, NULL},
    {"GET / HTTP/1.1\r\n X: a\r\n" HOST "\r\n", 400, false, NULL},
    {GET "X: a\rb\r\n\r\n", 400, false, NULL},
    {GET "X: a\r\r\n\r\n", 400, false, NULL},
    {GET "X: a\n\r\n", 400, false, NULL},
    {"GET / HTTP/1.1\nHost: h\n\n", 400, false, NULL},
    {GET "X: a\x01\r\n\r\n", 400, false, NULL},
    {GET "X: a\x7f\r\n\r\n", 400, false, NULL},
    {GET "no colon\r\n\r\n", 400, false, NULL},
    {GET ": x\r\n\r\n", 400, false, NULL},
    {GET "X y: z\r\n\r\n", 400, false, NULL},
    {GET "X\xc3\xa9: z\r\n\r\n", 400, false, NULL},

    /* for whom is it? */
    {"GET / HTTP/1.1\r\n\r\n", 400, false, NULL},
    {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, false, NULL},
    {GET HOST "\r\n", 400, false, NULL},
    {"GET / HTTP/1.0\r\n" HOST HOST "\r\n", 400, false, NULL},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, false, NULL},
    {"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400, false, NULL},
    {"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400, false, NULL},
    {"GET / HTTP/1.1\r\nHost: h:\r\n\r\n", 400, false, NULL},
    {"GET / HTTP/1.1\r\nHost: h:123456\r\n\r\n", 400, false, NULL},
    {"GET / HTTP/1.1\r\nHost: h:1x\r\n\r\n", 400, false, NULL},
    {"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400, false, NULL},
    {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, false, NULL},
    {"GET / HTTP/1.1\r\nHost: [x]\r\n\r\n", 400, false, NULL},
    {"GET / HTTP/1.1\r\nHost: h\xc3\xa9\r\n\r\n", 400, false, NULL},
    {"GET http://u@x/ HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET http://x HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET http:/// HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET https://x/ HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {GET "Authorization: a\r\nAuthorization: b\r\n\r\n", 400, false, NULL},
    {GET "Origin: \x80\r\n\r\n", 400, false, NULL},

    /* the first line */
    {"GET /\r\n\r\n", 400, false, NULL},
    {"GET\r\n\r\n", 400, false, NULL},
    {"GET  / HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET /  HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET / x HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {" GET / HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET / HTTP/1.1 \r\n" HOST "\r\n", 400, false, NULL},
    {"GET x HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET * HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET /#x HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET /%4 HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET /%zz HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET /%00 HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET /%0a HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET /%7f HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET /%c2%85 HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET /%ff HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET /%c0%af HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"GET / HTTP/2.0\r\n" HOST "\r\n", 505, false, NULL},
    {"GET / HTTP/0.9\r\n" HOST "\r\n", 505, false, NULL},
    {"GET / HTTP/11\r\n" HOST "\r\n", 400, false, NULL},
    {"GET / http/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, false, NULL},
    {"get / HTTP/1.1\r\n" HOST "\r\n", 501, false, NULL},
    {"BREW / HTTP/1.1\r\n" HOST "\r\n", 501, false, NULL},
    {"PUT / HTTP/1.1\r\n" HOST "\r\n", 405, false, NULL},
    {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 405, false, NULL},
    {"TRACE / HTTP/1.1\r\n" HOST "\r\n", 405, false, NULL},
    {"CONNECT h:25 HTTP/1.1\r\n" HOST "\r\n", 405, false, NULL},
    {"<b>/ HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"G<T / HTTP/1.1\r\n" HOST "\r\n", 400, false, NULL},
    {"EHLO x\r\n", 400, false, NULL},
    {"\x16\x03\x01\x02\r\n", 400, false, NULL},
    {GET "Expect: more\r\n\r\n", 417, false, NULL},
};

static void every_request(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct request_case *k = &cases[i];
		for (size_t step = 1; step <= 4096; step = step * 5 + 2) {
			char first[32];
			bool open;
			served = 0;
			*page = '\0';
			const char *got = answers(k->text, strlen(k->text), step, &open);
			snprintf(first, sizeof(first), "HTTP/1.1 %d ", k->code);
			if (k->code ? strncmp(got, first, strlen(first)) != 0 : *got)
				fail_msg("%s: wanted %d, got %.60s", k->text, k->code, got);
			if (open != k->open || served != (k->page ? 1 : 0))
				fail_msg("%s: open %d, served %d", k->text, open, served);
			if (k->page && !strstr(page, k->page))
				fail_msg("%s: understood %s", k->text, page);
			if (k->code >= 400 && strstr(got, "<"))
				fail_msg("%s: says it back", k->text);
			if (k->code && !k->open && !strstr(got, "\r\nConnection: close\r\n"))
				fail_msg("%s: closes without saying", k->text);
			if (k->code && !strstr(got, "\r\nX-Common: yes\r\n"))
				fail_msg("%s: without the common fields", k->text);
		}
	}
}

static void a_nul_is_refused(void **state)
{
	static const char text[] = GET "X: a\0b\r\n\r\n";
	bool open;
	(void)state;
	assert_non_null(strstr(answers(text, sizeof(text) - 1, 4096, &open), " 400 "));
	assert_false(open);
	assert_int_equal(served, 0);
}

static void sizes_are_bounded(void **state)
{
	char text[HTTPD_HEAD_MAX + 100];
	bool open;
	(void)state;
	/* The longest line that is taken, and one byte more. */
	for (int extra = 0; extra < 2; extra++) {
		size_t n = (size_t)(HTTPD_LINE_MAX - 16 + extra);
		memset(text, 'x', sizeof(text));
		memcpy(text, "GET /", 5);
		memcpy(text + 5 + n, " HTTP/1.1\r\n" HOST "\r\n",
		       sizeof(" HTTP/1.1\r\n" HOST "\r\n"));
		const char *got = answers(text, strlen(text), 1000, &open);
		assert_non_null(strstr(got, extra ? " 414 " : " 200 "));
	}
	/* A field without end, in the head's length. */
	memset(text, 'x', sizeof(text));
	memcpy(text, GET "X: ", sizeof(GET "X: ") - 1);
	assert_non_null(strstr(answers(text, sizeof(text), 1000, &open), " 431 "));
	assert_false(open);
	/* Empty lines without end. */
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 2 ? '\n' : '\r';
	assert_non_null(strstr(answers(text, sizeof(text), 1000, &open), " 431 "));
	/* Fields: Host and these. */
	for (size_t count = HTTPD_FIELDS_MAX - 1; count <= HTTPD_FIELDS_MAX; count++) {
		struct buf b;
		buf_init(&b, sizeof(text));
		buf_puts(&b, GET);
		for (size_t i = 0; i < count; i++)
			buf_puts(&b, "X: y\r\n");
		buf_puts(&b, "\r\n");
		const char *got = answers(buf_data(&b), b.len, 100, &open);
		assert_non_null(strstr(got, count < HTTPD_FIELDS_MAX ? " 200 " : " 431 "));
		buf_clear(&b);
	}
}

static void parameters(void **state)
{
	static const struct {
		const char *form, *value; /* NULL: none */
	} list[] = {{"a=1", "1"},
	            {"b=2&a=1", "1"},
	            {"a=1&a=2", "1"},
	            {"a=", ""},
	            {"aa=3&a=1", "1"},
	            {"a=%3d%26", "=&"},
	            {"a=1+%2b", "1 +"},
	            {"a=%c3%A9", "\xc3\xa9"},
	            {"", NULL},
	            {"a", NULL},
	            {"b=a=1", NULL},
	            {"a=%", NULL},
	            {"a=%1", NULL},
	            {"a=%g0", NULL},
	            {"a=%00", NULL},
	            {"a=%ff", NULL},
	            {"a=1234567", "1234567"},
	            {"a=12345678", NULL},
	            {"&&a=x&", "x"},
	            {"A=1", NULL}};
	(void)state;
	for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++) {
		char out[8];
		int n = httpd_param(slice_of(list[i].form), "a", out, sizeof(out));
		if (list[i].value
		        ? n != (int)strlen(list[i].value) || strcmp(out, list[i].value) != 0
		        : n != -1)
			fail_msg("%s: %d %s", list[i].form, n, n < 0 ? "" : out);
	}
	assert_int_equal(httpd_param(slice_of("a=1"), "a", NULL, 0), -1);
}

/* ---- answers ---- */

static void an_answer_is_whole(void **state)
{
	(void)state;
	assert_string_equal(ask("GET /missing HTTP/1.1\r\n" HOST "\r\n"),
	                    "HTTP/1.1 404 Not Found\r\nX-Common: yes\r\n"
	                    "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 14\r\n"
	                    "X-Extra: 1\r\n\r\n404 Not Found\n");
	assert_non_null(strstr(ask("PUT / HTTP/1.1\r\n"), "\r\nAllow: GET, HEAD, POST\r\n"));
}

static void the_date_is_told_when_the_clock_is_right(void **state)
{
	struct httpd_conn *c = connected();
	(void)state;
	assert_true(say(c, GET "\r\n", strlen(GET "\r\n"), 100));
	bool there = strstr(buf_str(&said), "\r\nDate: ") != NULL;
	assert_int_equal(there, time(NULL) >= CLOCK_RELEASE);
}

static void head_is_get_without_body(void **state)
{
	char get[1024], head[1024];
	static const char *const paths[] = {"/hello", "/missing", "/none"};
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		snprintf(get, sizeof(get), "GET %s HTTP/1.1\r\n" HOST "\r\n", paths[i]);
		snprintf(head, sizeof(head), "HEAD %s HTTP/1.1\r\n" HOST "\r\n", paths[i]);
		snprintf(get, sizeof(get), "%s", ask(get));
		snprintf(head, sizeof(head), "%s", ask(head));
		char *end = strstr(get, "\r\n\r\n");
		assert_non_null(end);
		end[4] = '\0';
		assert_string_equal(get, head);
	}
	const char *got = ask("HEAD /stream HTTP/1.1\r\n" HOST "\r\n" GET "\r\n");
	assert_non_null(strstr(got, "Transfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\n"));
}

#define ALPHA30 "abcdefghijklmnopqrstuvwxyzabcd"

static void a_stream_is_chunked(void **state)
{
	(void)state;
	const char *got = ask("GET /stream HTTP/1.1\r\n" HOST "\r\n");
	assert_non_null(strstr(got, "Transfer-Encoding: chunked\r\n\r\n"
	                            "0000001e\r\n" ALPHA30 "\r\n0000001e\r\n" ALPHA30
	                            "\r\n0000001e\r\n" ALPHA30 "\r\n0\r\n\r\n"));
	got = ask("GET /stream HTTP/1.0\r\n\r\n");
	assert_null(strstr(got, "chunked"));
	assert_non_null(strstr(got, "Connection: close\r\n\r\n" ALPHA30 ALPHA30 ALPHA30));
	assert_int_equal(states, 0);
}

static void a_piece_too_long_ends_it(void **state)
{
	bool open;
	static const char text[] = "GET /overflow HTTP/1.1\r\n" HOST "\r\n";
	(void)state;
	const char *got = answers(text, strlen(text), 100, &open);
	assert_false(open);
	assert_null(strstr(got, "\r\n0\r\n"));
	assert_int_equal(states, 0);
}

static void pipelined_requests_take_turns(void **state)
{
	static const char text[] = "GET /1 HTTP/1.1\r\n" HOST "\r\nPOST /2 HTTP/1.1\r\n" HOST
	                           "Content-Length: 3\r\n\r\na=b\r\nGET /stream HTTP/1.1\r\n" HOST
	                           "\r\nGET /4 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"
	                           "GET /5 HTTP/1.1\r\n" HOST "\r\n";
	(void)state;
	struct httpd_conn *c = connected();
	assert_int_equal(buf_append(&c->io.in, text, sizeof(text) - 1), 0);
	c->io.handle(c->io.arg, IO_READ);
	assert_int_equal(served, 1); /* not before this is sent */
	assert_true(c->io.paused);
	c->io.handle(c->io.arg, IO_READ);
	assert_int_equal(served, 1);
	drain(c);
	assert_int_equal(served, 4); /* close is close */
	assert_true(c->io.finishing);
	assert_non_null(strstr(page, "0 /4 "));
	for (size_t step = 1; step < 100; step += 7) {
		bool open;
		served = 0;
		answers(text, sizeof(text) - 1, step, &open);
		assert_int_equal(served, 4);
		assert_false(open);
	}
}

static void requests_on_a_connection_are_counted(void **state)
{
	struct httpd_conn *c = connected();
	(void)state;
	for (int i = 1; i < HTTPD_REQUESTS_MAX; i++) {
		buf_truncate(&said, 0);
		assert_true(say(c, GET "\r\n", strlen(GET "\r\n"), 100));
		assert_null(strstr(buf_str(&said), "Connection: close"));
	}
	assert_false(say(c, GET "\r\n", strlen(GET "\r\n"), 100));
	assert_non_null(strstr(buf_str(&said), "Connection: close"));
}

static void a_client_that_asks_may_send_its_body(void **state)
{
	static const char head[] = "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n"
	                           "Expect: 100-Continue\r\n\r\n";
	(void)state;
	struct httpd_conn *c = connected();
	assert_true(say(c, head, strlen(head), 10));
	assert_string_equal(buf_str(&said), "HTTP/1.1 100 Continue\r\n\r\n");
	assert_int_equal(served, 0);
	assert_true(say(c, "a=1", 3, 1));
	assert_int_equal(served, 1);
	assert_non_null(strstr(page, "a=1:1"));
	assert_null(strstr(strstr(buf_str(&said), "Continue") + 1, "Continue"));
}

static void silence_is_bounded(void **state)
{
	(void)state;
	struct httpd_conn *c = connected();
	c->io.handle(c->io.arg, IO_TIMEOUT); /* idle: nothing to say */
	assert_null(H.conns);
	c = connected();
	assert_true(say(c, "GET /", 5, 1));
	int64_t due = c->io.timer.due;
	usleep(3000);
	loop_refresh();
	assert_true(say(c, " HTTP", 5, 1)); /* the time is not begun again */
	assert_int_equal(c->io.timer.due, due);
	assert_true(due - loop_now_us() <= HTTPD_REQUEST_MS * 1000);
	c->io.handle(c->io.arg, IO_TIMEOUT);
	drain(c);
	assert_non_null(strstr(buf_str(&said), "HTTP/1.1 408 "));
	assert_true(c->io.finishing);
}

static void a_reader_has_to_read(void **state)
{
	(void)state;
	struct httpd_conn *c = connected();
	static const char text[] = "GET /large HTTP/1.1\r\n" HOST "\r\n";
	buf_append(&c->io.in, text, strlen(text));
	c->io.handle(c->io.arg, IO_READ);
	assert_true(c->io.out.len > HTTPD_OUT_MAX / 2);
	buf_consume(&c->io.out, HTTPD_SEND_MIN);
	c->io.handle(c->io.arg, IO_TIMEOUT);
	assert_non_null(H.conns);
	buf_consume(&c->io.out, HTTPD_SEND_MIN - 1);
	c->io.handle(c->io.arg, IO_TIMEOUT);
	assert_null(H.conns);
}

static void a_client_may_leave(void **state)
{
	static const char text[] = "GET /endless HTTP/1.1\r\n" HOST "\r\n";
	static const enum io_event events[] = {IO_ERROR, IO_CLOSED, IO_TIMEOUT};
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct httpd_conn *c = connected();
		buf_append(&c->io.in, text, strlen(text));
		c->io.handle(c->io.arg, IO_READ);
		assert_int_equal(states, 1);
		c->io.handle(c->io.arg, events[i]);
		assert_int_equal(states, 0);
		assert_null(H.conns);
	}
	struct httpd_conn *c = connected();
	c->io.handle(c->io.arg, IO_EOF);
	assert_null(H.conns);
}

/* ---- over sockets ---- */

static struct sockaddr_in server;

static struct httpd *listening(void)
{
	const struct dns_addr a = {.family = AF_INET, .ip.v4.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(server);
	struct httpd *h = httpd_open(&a, 0, &the_setup);
	assert_non_null(h);
	assert_int_equal(getsockname(h->watch.fd, (struct sockaddr *)&server, &len), 0);
	return h;
}

static int dial(unsigned last)
{
	struct sockaddr_in from = {.sin_family = AF_INET,
	                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK + last)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&server, sizeof(server)), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

static void turns(int n)
{
	while (n-- > 0)
		loop_turn(1);
}

/* Reads until this was said, or the end; what was said. */
static const char *hear(int fd, const char *until)
{
	buf_truncate(&said, 0);
	for (int i = 0; i < 1000; i++) {
		char p[4096];
		ssize_t n = read(fd, p, sizeof(p));
		if (n > 0)
			buf_append(&said, p, (size_t)n);
		if (n == 0 || (until && strstr(buf_str(&said), until)))
			break;
		loop_turn(2);
	}
	return buf_str(&said);
}

static void tell(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void a_connection_is_kept(void **state)
{
	struct httpd *h = listening();
	int fd = dial(0);
	(void)state;
	for (int i = 0; i < 5; i++) {
		tell(fd, GET "\r\n");
		assert_non_null(strstr(hear(fd, "a=-1:"), "HTTP/1.1 200 OK"));
	}
	assert_int_equal(h->count, 1);
	tell(fd, GET "Connection: close\r\n\r\n");
	assert_non_null(strstr(hear(fd, NULL), "a=-1:"));
	close(fd);
	turns(5);
	assert_int_equal(h->count, 0);
	fd = dial(0); /* a client that says all at once and closes its side */
	tell(fd, GET "\r\n" GET "\r\n");
	shutdown(fd, SHUT_WR);
	assert_non_null(strstr(strstr(hear(fd, NULL), "a=-1:") + 1, "a=-1:"));
	close(fd);
	fd = dial(0); /* the answer arrives although more is sent */
	tell(fd, "NONSENSE\r\nand more of it\r\n");
	turns(3);
	assert_true(send(fd, "x", 1, MSG_NOSIGNAL) <= 1);
	assert_non_null(strstr(hear(fd, NULL), "HTTP/1.1 400"));
	close(fd);
	httpd_close(h);
}

static void a_slow_reader_gets_all(void **state)
{
	struct httpd *h = listening();
	int fd = dial(0), small = 16384;
	size_t got = 0;
	(void)state;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	tell(fd, "GET /endless HTTP/1.1\r\n" HOST "\r\n");
	turns(50);
	for (int i = 0; i < 20000 && got < 300000; i++) {
		char p[1000];
		ssize_t n = read(fd, p, sizeof(p));
		got += n > 0 ? (size_t)n : 0;
		loop_turn(n > 0 ? 0 : 1);
		assert_int_equal(h->count, 1);
		assert_true(h->conns->io.out.len <= HTTPD_OUT_MAX);
	}
	assert_true(got >= 300000);
	assert_int_equal(states, 1);
	close(fd);
	turns(50);
	assert_int_equal(h->count, 0);
	assert_int_equal(states, 0);
	fd = dial(0); /* closing it frees what is under way */
	tell(fd, "GET /endless HTTP/1.1\r\n" HOST "\r\n");
	turns(20);
	assert_int_equal(states, 1);
	httpd_close(h);
	assert_int_equal(states, 0);
	close(fd);
}

static void places_are_few(void **state)
{
	struct httpd *h = listening();
	int fd[HTTPD_CONNECTIONS_MAX + 1];
	unsigned n = 0;
	(void)state;
	for (; n < HTTPD_PER_ADDRESS_MAX; n++)
		fd[n] = dial(0);
	turns(20);
	assert_int_equal(h->count, HTTPD_PER_ADDRESS_MAX);
	int more_of_it = dial(0);
	assert_non_null(strstr(hear(more_of_it, NULL), "HTTP/1.1 503"));
	close(more_of_it);
	for (; n < HTTPD_CONNECTIONS_MAX; n++)
		fd[n] = dial(n);
	turns(20);
	assert_int_equal(h->count, HTTPD_CONNECTIONS_MAX);
	fd[n] = dial(n); /* waits in the backlog */
	tell(fd[n], GET "\r\n");
	turns(20);
	assert_int_equal(h->count, HTTPD_CONNECTIONS_MAX);
	assert_int_equal(served, 0);
	close(fd[0]); /* until one leaves */
	assert_non_null(strstr(hear(fd[n], "a=-1:"), "200 OK"));
	for (unsigned i = 1; i <= n; i++)
		close(fd[i]);
	turns(50);
	assert_int_equal(h->count, 0);
	httpd_close(h);
}

static void who_says_nothing_gives_way(void **state)
{
	struct httpd *h = listening();
	int fd[HTTPD_PER_ADDRESS_MAX];
	(void)state;
	for (int i = 0; i < HTTPD_PER_ADDRESS_MAX; i++) {
		fd[i] = dial(0);
		turns(2);
		tell(fd[i], i == 0 ? "GET /endless HTTP/1.1\r\n" HOST "\r\n" : "GET / HT");
	}
	turns(20);
	for (struct httpd_conn *c = h->conns; c; c = c->next)
		c->since -= HTTPD_GRACE_MS * (c->next ? 1 : 5);
	int newcomer = dial(0);
	tell(newcomer, GET "\r\n");
	assert_non_null(strstr(hear(newcomer, "a=-1:"), "200 OK"));
	assert_int_equal(h->count, HTTPD_PER_ADDRESS_MAX);
	assert_int_equal(states, 1); /* not the one that is being answered */
	for (int i = 0; i < HTTPD_PER_ADDRESS_MAX; i++)
		close(fd[i]);
	close(newcomer);
	httpd_close(h);
}

static void descriptors_are_left_to_mail(void **state)
{
	struct httpd *h = listening();
	(void)state;
	assert_true(h->reserve > 0 && h->reserve <= HTTPD_FD_RESERVE);
	h->reserve = loop_fd_room() + 1;
	int fd = dial(0);
	assert_non_null(strstr(hear(fd, NULL), "HTTP/1.1 503"));
	assert_int_equal(h->count, 0);
	close(fd);
	httpd_close(h);
	httpd_close(NULL);
}

static void an_address_in_use_is_told(void **state)
{
	struct httpd *h = listening();
	const struct dns_addr a = {.family = AF_INET, .ip.v4.s_addr = htonl(INADDR_LOOPBACK)};
	(void)state;
	assert_null(httpd_open(&a, ntohs(server.sin_port), &the_setup));
	assert_int_equal(errno, EADDRINUSE);
	httpd_close(h);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(every_request),
	    TEST(a_nul_is_refused),
	    TEST(sizes_are_bounded),
	    TEST(parameters),
	    TEST(an_answer_is_whole),
	    TEST(the_date_is_told_when_the_clock_is_right),
	    TEST(head_is_get_without_body),
	    TEST(a_stream_is_chunked),
	    TEST(a_piece_too_long_ends_it),
	    TEST(pipelined_requests_take_turns),
	    TEST(requests_on_a_connection_are_counted),
	    TEST(a_client_that_asks_may_send_its_body),
	    TEST(silence_is_bounded),
	    TEST(a_reader_has_to_read),
	    TEST(a_client_may_leave),
	    TEST(a_connection_is_kept),
	    TEST(a_slow_reader_gets_all),
	    TEST(places_are_few),
	    TEST(who_says_nothing_gives_way),
	    TEST(descriptors_are_left_to_mail),
	    TEST(an_address_in_use_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
