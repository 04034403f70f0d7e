/* test_https: answers as texts, whole and in pieces; then GETs from a server in the same loop,
 * under TLS, with a resolver that the test steers. */
#include "tls_help.h"

#include <arpa/inet.h>

#include "dns.h"
#include "https.h"
#include "https_answer.h"

/* ---- answers ------------------------------------------------------------------------------- */

#define OK    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
#define LEN5  "Content-Length: 5\r\n"
#define CHNK  "Transfer-Encoding: chunked\r\n"
#define HELLO OK LEN5 "\r\nhello"

struct answer_case {
	const char *text;
	const char *content; /* NULL: must fail */
	const char *why;     /* a part of the reason */
};

static const struct answer_case cases[] = {
    {HELLO, "hello", NULL},
    {HELLO "rubbish behind it", "hello", NULL},
    {OK "Content-Length: 0\r\n\r\n", "", NULL},
    {OK "content-LENGTH:5\t \r\n\r\nhello", "hello", NULL},
    {"HTTP/1.0 200\r\nCONTENT-TYPE: Text/Plain;charset=utf-8\r\n\r\nhello", "hello", NULL},
    {"HTTP/1.1 200 \r\nContent-Type: text/plain ; x=\"y;z\"\r\n" LEN5 "\r\nhello", "hello", NULL},
    {"HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 5\n\nhello", "hello", NULL},
    {OK "Content-Encoding: identity\r\nX-Empty:\r\n" LEN5 "\r\nhello", "hello", NULL},
    {OK CHNK "\r\n5\r\nhello\r\n0\r\n\r\n", "hello", NULL},
    {OK CHNK "\r\n2\r\nhe\r\n003;a=\"b\"\r\nllo\r\n000\r\nX: y\r\n\r\n", "hello", NULL},
    {OK "transfer-encoding: Chunked\r\n\r\nA \t;x\r\n0123456789\r\n0\r\n\r\n", "0123456789", NULL},
    {OK CHNK "\r\n0\r\n\r\n", "", NULL},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" HELLO, "hello", NULL},
    {OK "\r\nhello", "hello", NULL}, /* up to a clean end */
    {OK "\r\n", "", NULL},

    {"", NULL, "too early"},
    {"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n", NULL, "too early"},
    {OK LEN5 "\r\nhell", NULL, "too early"},
    {OK CHNK "\r\n5\r\nhello\r\n0\r\n", NULL, "too early"},
    {OK CHNK "\r\n5\r\nhello\r\n", NULL, "too early"},
    {"HTTP/1.1 301 Moved Permanently\r\nLocation: /\r\n\r\n", NULL, "301 (redirects"},
    {"HTTP/1.1 302 Found\r\n\r\n", NULL, "302"},
    {"HTTP/1.1 204 No Content\r\n\r\n", NULL, "204"},
    {"HTTP/1.1 206 Partial\r\nContent-Type: text/plain\r\n\r\nx", NULL, "206"},
    {"HTTP/1.1 404 Not Found\r\n\r\n", NULL, "404"},
    {"HTTP/1.1 101 Switching\r\n\r\n", NULL, "101"},
    {"HTTP/1.1 999 ?\r\n\r\n", NULL, "999"},
    {"HTTP/2 200 OK\r\n\r\n", NULL, "HTTP/1"},
    {"HTTP/1.1  200 OK\r\n\r\n", NULL, "HTTP/1"},
    {"HTTP/1.1 2000 OK\r\n\r\n", NULL, "HTTP/1"},
    {"http/1.1 200 OK\r\n\r\n", NULL, "HTTP/1"},
    {"220 mx.test ESMTP\r\n", NULL, "HTTP/1"},
    {"\r\n" HELLO, NULL, "HTTP/1"},
    {"HTTP/1.1 200 OK\r\n" LEN5 "\r\nhello", NULL, "no media type"},
    {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" LEN5 "\r\nhello", NULL, "media type"},
    {"HTTP/1.1 200 OK\r\nContent-Type: text/plainer\r\n" LEN5 "\r\nhello", NULL, "media type"},
    {"HTTP/1.1 200 OK\r\nContent-Type: text/plain, text/html\r\n" LEN5 "\r\nhello", NULL,
     "media type"},
    {OK "Content-Type: text/plain\r\n" LEN5 "\r\nhello", NULL, "two media types"},
    {OK LEN5 CHNK "\r\n5\r\nhello\r\n0\r\n\r\n", NULL, "two ways"},
    {OK CHNK LEN5 "\r\n5\r\nhello\r\n0\r\n\r\n", NULL, "two ways"},
    {"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n" CHNK "\r\n0\r\n\r\n", NULL, "two ways"},
    {OK LEN5 LEN5 "\r\nhello", NULL, "two lengths"},
    {OK "Content-Length: 5, 5\r\n\r\nhello", NULL, "malformed length"},
    {OK "Content-Length: +5\r\n\r\nhello", NULL, "malformed length"},
    {OK "Content-Length: \r\n\r\nhello", NULL, "malformed length"},
    {OK "Content-Length: 0x5\r\n\r\nhello", NULL, "malformed length"},
    {OK "Content-Length: 101\r\n\r\n", NULL, "more than 100"},
    {OK "Content-Length: 99999999999999999999999999999999\r\n\r\n", NULL, "more than 100"},
    {OK CHNK CHNK "\r\n0\r\n\r\n", NULL, "transfer coding"},
    {OK "Transfer-Encoding: gzip, chunked\r\n\r\n", NULL, "transfer coding"},
    {OK "Transfer-Encoding: identity\r\n\r\n", NULL, "transfer coding"},
    {OK "Content-Encoding: gzip\r\n" LEN5 "\r\nhello", NULL, "content coding"},
    {OK " folded\r\n" LEN5 "\r\nhello", NULL, "malformed header"},
    {OK "Name : x\r\n" LEN5 "\r\nhello", NULL, "malformed header"},
    {OK ": x\r\n" LEN5 "\r\nhello", NULL, "malformed header"},
    {OK "no colon\r\n" LEN5 "\r\nhello", NULL, "malformed header"},
    {OK "X: a\rb\r\n" LEN5 "\r\nhello", NULL, "control"},
    {OK "X: a\001b\r\n" LEN5 "\r\nhello", NULL, "control"},
    {OK "\r\r\nhello", NULL, "control"},
    {"HTTP/1.1 103 Early\r\nbroken\r\n\r\n" HELLO, NULL, "malformed header"},
    {OK CHNK "\r\n\r\nhello", NULL, "chunk"},
    {OK CHNK "\r\n5 5\r\nhello\r\n0\r\n\r\n", NULL, "chunk"},
    {OK CHNK "\r\n0x5\r\nhello\r\n0\r\n\r\n", NULL, "chunk"},
    {OK CHNK "\r\n-5\r\nhello\r\n0\r\n\r\n", NULL, "chunk"},
    {OK CHNK "\r\n4\r\nhello\r\n0\r\n\r\n", NULL, "chunk"},
    {OK CHNK "\r\n5\r\nhelloX\r\n0\r\n\r\n", NULL, "chunk"},
    {OK CHNK "\r\n65\r\n", NULL, "more than 100"},
    {OK CHNK "\r\n5\r\nhello\r\n60\r\n", NULL, "more than 100"},
    {OK CHNK "\r\nffffffffffffffff\r\n", NULL, "more than 100"},
    {OK CHNK "\r\n10000000000000005\r\nhello\r\n0\r\n\r\n", NULL, "more than 100"},
    {OK CHNK "\r\n0\r\nbroken trailer\r\n\r\n", NULL, "malformed header"},
};

static enum https_progress feed(struct https_answer *a, const char *text, size_t n, size_t step,
                                bool clean)
{
	enum https_progress p = HTTPS_MORE;
	https_answer_init(a, "text/plain", 100);
	for (size_t i = 0; i < n && p == HTTPS_MORE; i += step)
		p = https_answer_feed(a, (struct slice){text + i, n - i < step ? n - i : step});
	return p == HTTPS_MORE ? https_answer_end(a, clean) : p;
}

static void test_answers(void **state)
{
	(void)state;
	static const size_t steps[] = {1, 2, 7, 100000};
	for (size_t i = 0; i < 4 * sizeof cases / sizeof cases[0]; i++) {
		const struct answer_case *c = &cases[i / 4];
		struct https_answer a;
		enum https_progress p = feed(&a, c->text, strlen(c->text), steps[i % 4], true);
		if (p != (c->content ? HTTPS_WHOLE : HTTPS_BAD))
			fail_msg("%s: %s", c->text, a.why);
		if (c->content)
			assert_string_equal(buf_str(&a.content), c->content);
		else if (!strstr(a.why, c->why))
			fail_msg("%s: %s", c->text, a.why);
		https_answer_clear(&a);
	}
}

static void test_answer_cut_short(void **state)
{
	(void)state;
	struct https_answer a;
	static const char text[] = OK "\r\nhello";
	assert_int_equal(feed(&a, text, sizeof text - 1, 5, false), HTTPS_BAD);
	https_answer_clear(&a);
	assert_int_equal(feed(&a, HELLO, sizeof HELLO - 1, 5, false), HTTPS_WHOLE);
	https_answer_clear(&a);
	static const char nul[] = OK "X: \0\r\n" LEN5 "\r\nhello";
	assert_int_equal(feed(&a, nul, sizeof nul - 1, 5, true), HTTPS_BAD);
	https_answer_clear(&a);
}

/* The same piece again and again: must end, with little kept. */
static void endless(const char *start, const char *piece, size_t most, const char *why)
{
	struct https_answer a;
	enum https_progress p;
	size_t fed = 0;
	https_answer_init(&a, "text/plain", 100);
	p = https_answer_feed(&a, slice_of(start));
	while (p == HTTPS_MORE && fed <= most) {
		p = https_answer_feed(&a, slice_of(piece));
		fed += strlen(piece);
	}
	assert_int_equal(p, HTTPS_BAD);
	assert_non_null(strstr(a.why, why));
	assert_true(a.line.size <= 2 * HTTPS_HEADER_MAX && a.content.size <= 256);
	https_answer_clear(&a);
}

static void test_endless(void **state)
{
	(void)state;
	endless("", "HTTP/1.1 ", HTTPS_HEADER_MAX, "too long");
	endless("HTTP/1.1 200 ", "x", HTTPS_HEADER_MAX, "too long");
	endless(OK, "X: y\r\n", HTTPS_HEADER_MAX, "too long");
	endless("", "HTTP/1.1 100 Continue\r\n\r\n", HTTPS_HEADER_MAX, "too long");
	endless(OK "\r\n", "x", 101, "more than");
	endless(OK CHNK "\r\n", "1\r\nx\r\n", 101 * 6, "more than");
	endless(OK CHNK "\r\n", "0", HTTPS_CHUNK_LINE_MAX, "too long");
	endless(OK CHNK "\r\n1;", "x", HTTPS_CHUNK_LINE_MAX, "too long");
	endless(OK CHNK "\r\n1\r\nx", "y", HTTPS_CHUNK_LINE_MAX, "too long");
	endless(OK CHNK "\r\n0\r\n", "T: x\r\n", HTTPS_HEADER_MAX, "too long");
}

#if WITH_TLS

/* ---- the fake resolver --------------------------------------------------------------------- */

static const char *addresses; /* separated by blanks */
static struct dns_addr found[8];
static int port;

static void dns_fire(void *arg)
{
	struct dns_query *q = arg;
	q->done(q->arg, q);
}

void dns_addresses(struct dns_query *q, struct slice name, void (*done)(void *, struct dns_query *),
                   void *arg)
{
	char text[256], *rest = text, *word;
	assert_true(slice_is(name, "mta-sts.far.test"));
	*q = (struct dns_query){.done = done, .arg = arg, .result = DNS_NO_NAME, .addrs = found};
	snprintf(text, sizeof text, "%s", addresses);
	while ((word = strsep(&rest, " ")) && *word) {
		found[q->count].family = AF_INET;
		assert_int_equal(inet_pton(AF_INET, word, &found[q->count++].ip.v4), 1);
		q->result = DNS_OK;
	}
	loop_timer_init(&q->second, dns_fire, q);
	loop_timer_set(&q->second, 0);
}

void dns_cancel(struct dns_query *q)
{
	if (q->done)
		loop_timer_stop(&q->second);
}

const char *dns_result_text(enum dns_result r)
{
	return r == DNS_NO_NAME ? "no such domain" : "?";
}

/* Every address has the server's port, whatever is asked for. */
socklen_t dns_addr_to_sockaddr(const struct dns_addr *a, uint16_t asked, struct sockaddr_storage *s)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	assert_int_equal(asked, HTTPS_PORT);
	in.sin_addr = a->ip.v4;
	memcpy(s, &in, sizeof in);
	return sizeof in;
}

/* ---- the server ---------------------------------------------------------------------------- */

static struct tls_roots *roots;
static struct tls_certs *certs;
static struct loop_fd door;
static bool plain, cut, polite;
static const char *reply;
static int visitors;
static char sni[256]; /* of the last visitor */
static struct loop_timer drip;
static int drip_ms;

static void on_drip(void *arg)
{
	(void)arg;
	if (right.io.watch.fd >= 0 && strstr(buf_str(&right.got), "\r\n\r\n") && *reply)
		io_write(&right.io, reply++, 1);
	loop_timer_set(&drip, drip_ms);
}

/* The request has come: answers, all at once, or (with `drip` set) byte by byte. */
static void serve(struct end *e, enum io_event ev)
{
	if (ev == IO_READ) {
		assert_int_equal(buf_append(&e->got, buf_data(&e->io.in), e->io.in.len), 0);
		buf_consume(&e->io.in, e->io.in.len);
		io_update(&e->io);
		if (!strstr(buf_str(&e->got), "\r\n\r\n") || loop_timer_is_set(&drip))
			return;
		snprintf(sni, sizeof sni, "%s", tls_peer(io_tls(&e->io))->sni);
		io_write(&e->io, reply, strlen(reply));
		io_flush(&e->io);
		if (cut)
			shutdown(e->io.watch.fd, SHUT_WR);
		if (polite)
			io_finish(&e->io);
	} else if (ev == IO_EOF || ev == IO_ERROR) {
		io_close(&e->io);
	}
}

static void on_visitor(void *arg, unsigned events)
{
	(void)arg, (void)events;
	int fd = accept(door.fd, NULL, NULL);
	assert_true(fd >= 0);
	assert_int_equal(io_nonblock(fd), 0);
	end_clear(&right);
	end_init(&right, fd);
	right.on = serve;
	visitors++;
	if (plain)
		io_write(&right.io, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
	else
		assert_int_equal(io_start_tls(&right.io, tls_accept(certs, fd)), 0);
}

static int fresh_server(void **state)
{
	(void)state;
	assert_int_equal(loop_init(), 0);
	int fd = listen_tcp(&port);
	assert_int_equal(io_nonblock(fd), 0);
	loop_fd_init(&door, on_visitor, NULL);
	loop_timer_init(&drip, on_drip, NULL);
	assert_int_equal(loop_fd_watch(&door, fd, LOOP_READ), 0);
	memset(&right, 0, sizeof right);
	end_init(&right, -1);
	certs = tls_certs_open(in_top("good"));
	roots = tls_roots_open(in_top("ca.pem"));
	addresses = "127.0.0.1";
	plain = cut = polite = false;
	reply = HELLO;
	visitors = 0;
	return 0;
}

static int end_server(void **state)
{
	(void)state;
	int fd = door.fd;
	end_clear(&right);
	loop_timer_stop(&drip);
	loop_fd_unwatch(&door);
	close(fd);
	tls_certs_close(certs);
	tls_roots_close(roots);
	loop_done();
	return 0;
}

/* ---- GETs ---------------------------------------------------------------------------------- */

static struct {
	int dones;
	bool good;
	char text[1024]; /* content, or why not */
	int64_t took;    /* ms */
} got;

static void on_done(void *arg, const struct status *st, struct slice content)
{
	(void)arg;
	got.dones++;
	got.good = status_class(st) == STATUS_DONE;
	if (got.good)
		snprintf(got.text, sizeof got.text, "%.*s", (int)content.n, content.p);
	else
		snprintf(got.text, sizeof got.text, "%s", st->text);
	assert_true(got.good || (content.n == 0 && status_class(st) == STATUS_TRANSIENT));
}

static struct https *start(int64_t limit)
{
	static struct https_request request = {.host = "mta-sts.far.test",
	                                       .path = "/.well-known/mta-sts.txt",
	                                       .type = "text/plain",
	                                       .max = 100};
	request.limit_ms = limit;
	got.dones = 0;
	loop_refresh();
	struct https *h = https_get(&request, roots, on_done, NULL);
	assert_non_null(h);
	assert_int_equal(got.dones, 0);
	return h;
}

static void get(int64_t limit)
{
	start(limit);
	int64_t begun = now_ms();
	until(&got.dones);
	got.took = now_ms() - begun;
	assert_int_equal(got.dones, 1);
}

static void assert_got(const char *content)
{
	if (!got.good)
		fail_msg("%s", got.text);
	assert_string_equal(got.text, content);
}

static void assert_failed(const char *why)
{
	assert_false(got.good);
	if (!strstr(got.text, why) || !strstr(got.text, "https://mta-sts.far.test/.well-known"))
		fail_msg("'%s' is not in '%s'", why, got.text);
}

static void test_get(void **state)
{
	(void)state;
	get(10000);
	assert_got("hello");
	assert_string_equal(sni, "mta-sts.far.test");
	assert_string_equal(buf_str(&right.got), "GET /.well-known/mta-sts.txt HTTP/1.1\r\n"
	                                         "Host: mta-sts.far.test\r\nUser-Agent: chasq\r\n"
	                                         "Accept: text/plain\r\nConnection: close\r\n\r\n");
	assert_int_equal(visitors, 1);
	reply = "HTTP/1.1 404 Not Found\r\n\r\n";
	get(10000);
	assert_failed("HTTP status 404");
	assert_int_equal(visitors, 2);
}

/* Content without length: only the server itself can say where it ends. */
static void test_end_of_stream(void **state)
{
	(void)state;
	reply = OK "\r\nhello";
	polite = true;
	get(10000);
	assert_got("hello");
	polite = false;
	cut = true;
	get(10000);
	assert_failed("too early");
	reply = "";
	get(10000);
	assert_failed("too early");
	reply = HELLO;
	get(10000);
	assert_got("hello");
}

static void test_certificates(void **state)
{
	(void)state;
	static const char *const bad[] = {"self", "other"};
	for (size_t i = 0; i < 2; i++) {
		tls_certs_close(certs);
		certs = tls_certs_open(in_top(bad[i]));
		get(10000);
		assert_failed("certificate");
		for (int n = 0; n < 20; n++)
			loop_turn(5);
		assert_int_equal(right.got.len, 0);
	}
	/* Nothing is trusted. */
	tls_certs_close(certs);
	certs = tls_certs_open(in_top("good"));
	tls_roots_close(roots);
	roots = tls_roots_open(in_top("cnf"));
	get(10000);
	assert_failed("certificate");
	assert_int_equal(right.got.len, 0);
}

static void test_no_tls(void **state)
{
	(void)state;
	plain = true;
	get(10000);
	assert_false(got.good);
	assert_int_equal(right.got.len > 0 && strstr(buf_str(&right.got), "GET") != NULL, 0);
}

static void test_addresses(void **state)
{
	/* qemu-user leaves what SO_ERROR says in its host's numbers, which mean another thing on
	 * MIPS. */
	const char *refused = getenv("CHASQ_EMULATED") ? "" : "refused";
	(void)state;
	addresses = "127.0.0.7 127.0.0.8 127.0.0.1";
	get(10000);
	assert_got("hello");
	addresses = "127.0.0.7 127.0.0.8";
	get(10000);
	assert_failed(refused);
	addresses = "127.0.0.7 127.0.0.8 127.0.0.7 127.0.0.7 127.0.0.1";
	assert_int_equal(HTTPS_ADDRS_MAX, 4);
	get(10000);
	assert_failed(refused);
	addresses = "";
	get(10000);
	assert_failed("no such domain");
}

/* A listener that never says anything takes its share of the time, and no more. */
static void test_dead_address(void **state)
{
	(void)state;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET, "127.0.0.6", &a.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 5), 0);
	addresses = "127.0.0.6 127.0.0.1";
	get(4000);
	assert_got("hello");
	assert_true(got.took >= 1900 && got.took < 4000);
	addresses = "127.0.0.6";
	get(300);
	assert_failed("in time");
	close(fd);
}

static void test_slow(void **state)
{
	(void)state;
	drip_ms = 200;
	loop_timer_set(&drip, 0);
	get(3000);
	assert_failed("took too long");
	assert_true(got.took >= 2900 && got.took < 6000);
	/* Silence. */
	reply = "";
	drip_ms = 5;
	get(2000);
	assert_failed("took too long");
	for (int i = 0; i < 20 && right.io.watch.fd >= 0; i++)
		assert_int_equal(loop_turn(5), 0);
	/* Slow, but in time: one byte a record. */
	reply = HELLO;
	get(9000);
	assert_got("hello");
}

static void test_cancel(void **state)
{
	(void)state;
	for (int n = 0; n < 12; n++) {
		struct https *h = start(10000);
		for (int i = 0; i < n && got.dones == 0; i++)
			assert_int_equal(loop_turn(20), 0);
		if (got.dones == 0) {
			https_cancel(h);
			got.dones = -1;
		}
		for (int i = 0; i < 10; i++)
			assert_int_equal(loop_turn(1), 0);
		assert_int_equal(got.dones, got.dones < 0 ? -1 : 1);
	}
	https_cancel(NULL);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, fresh_server, end_server)

static int make_sites(void **state)
{
	(void)state;
	assert_int_equal(temp_dir_make(top, sizeof top), 0);
	shell("printf '[req]\\ndistinguished_name=dn\\n[dn]\\n' >cnf");
	shell("openssl req -config cnf -x509 -newkey " KEY_EC " -nodes -keyout ca.key -out ca.pem "
	      "-days 3650 -subj '/O=chasq/CN=Test CA' -addext basicConstraints=critical,CA:true");
	issue("right", "ca", KEY_EC, "DNS:mta-sts.far.test", "-addext basicConstraints=CA:false");
	issue("wrong", "ca", KEY_EC, "DNS:far.test", "-addext basicConstraints=CA:false");
	issue("alone", NULL, KEY_EC, "DNS:mta-sts.far.test", "-addext basicConstraints=CA:false");
	site("good", "x", "right.pem", "right");
	site("other", "x", "wrong.pem", "wrong");
	site("self", "x", "alone.pem", "alone");
	log_to(open("/dev/null", O_WRONLY | O_CLOEXEC));
	return 0;
}

static int remove_sites(void **state)
{
	(void)state;
	return temp_dir_remove();
}

#endif

int main(void)
{
	const struct CMUnitTest answers[] = {
	    cmocka_unit_test(test_answers),
	    cmocka_unit_test(test_answer_cut_short),
	    cmocka_unit_test(test_endless),
	};
	int failed = cmocka_run_group_tests(answers, NULL, NULL);
#if WITH_TLS
	const struct CMUnitTest gets[] = {
	    CASE(test_get),    CASE(test_end_of_stream), CASE(test_certificates),
	    CASE(test_no_tls), CASE(test_addresses),     CASE(test_dead_address),
	    CASE(test_slow),   CASE(test_cancel),
	};
	failed += cmocka_run_group_tests(gets, make_sites, remove_sites);
#endif
	return failed;
}
