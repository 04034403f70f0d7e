/* test_remote: the SMTP courier against scripted servers on loopback addresses, with a fake
 * resolver, a fake spool and a fake TLS; what DANE, MTA-STS and domaininfo say is what a test
 * wants. link: fake_client_tls.c
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "dane.h"
#include "fake_client_tls.h"
#include "io.h"
#include "loop.h"
#include "remote.h"
#include "self.h"

/* ---- the fake resolver -------------------------------------------------------------------- */

struct fake_mx {
	const char *name;
	enum dns_result result;
	struct dns_mx_host mx[12];
};

struct fake_host {
	const char *name;
	const char *addrs; /* separated by blanks; NULL: result */
	enum dns_result result;
};

struct fake_tlsa {
	const char *name;
	enum dane_state state;
};

static const struct fake_mx *zone_mx;
static const struct fake_host *zone_host;
static const struct fake_tlsa *zone_tlsa;
static bool mx_secure, host_secure;
static const char *canonical; /* of all hosts */
static char tlsa_asked[512];
static char asked[4096]; /* names whose addresses were asked for */
static int queries;      /* without answer */
static struct dns_addr answer_addrs[16];

static bool slice_equals(struct slice s, const char *name)
{
	return s.n == strlen(name) && memcmp(s.p, name, s.n) == 0;
}

static void query_fire(void *arg)
{
	struct dns_query *q = arg;
	queries--;
	q->done(q->arg, q);
}

static void query_start(struct dns_query *q, void (*done)(void *, struct dns_query *), void *arg)
{
	*q = (struct dns_query){.done = done, .arg = arg, .result = DNS_NO_NAME};
	loop_timer_init(&q->second, query_fire, q);
	loop_timer_set(&q->second, 0);
	queries++;
}

void dns_mx(struct dns_query *q, struct slice name, void (*done)(void *, struct dns_query *),
            void *arg)
{
	query_start(q, done, arg);
	for (const struct fake_mx *m = zone_mx; m && m->name; m++) {
		if (!slice_equals(name, m->name))
			continue;
		q->result = m->result;
		q->secure = mx_secure;
		q->mx = m->mx;
		while (m->result == DNS_OK && m->mx[q->count].host)
			q->count++;
	}
}

int dns_addr_parse(struct dns_addr *a, struct slice text)
{
	char s[INET6_ADDRSTRLEN] = "";
	if (text.n >= sizeof s)
		return -1;
	memcpy(s, text.p, text.n);
	a->family = strchr(s, ':') ? AF_INET6 : AF_INET;
	return inet_pton(a->family, s, &a->ip) == 1 ? 0 : -1;
}

void dns_addresses(struct dns_query *q, struct slice name, void (*done)(void *, struct dns_query *),
                   void *arg)
{
	query_start(q, done, arg);
	snprintf(asked + strlen(asked), sizeof asked - strlen(asked), "%.*s ", (int)name.n, name.p);
	for (const struct fake_host *h = zone_host; h && h->name; h++) {
		if (!slice_equals(name, h->name))
			continue;
		q->result = h->addrs ? DNS_OK : h->result;
		q->secure = host_secure;
		q->canonical = canonical;
		q->addrs = answer_addrs;
		for (const char *p = h->addrs; p && *p; p += strspn(p, " ")) {
			struct slice one = {p, strcspn(p, " ")};
			assert_int_equal(dns_addr_parse(&answer_addrs[q->count++], one), 0);
			p += one.n;
		}
	}
}

/* The result is the index of the entry in the fake zone, for dane_take. */
void dns_tlsa(struct dns_query *q, struct slice host, uint16_t at,
              void (*done)(void *, struct dns_query *), void *arg)
{
	query_start(q, done, arg);
	snprintf(tlsa_asked + strlen(tlsa_asked), sizeof tlsa_asked - strlen(tlsa_asked), "%.*s ",
	         (int)host.n, host.p);
	(void)at;
	q->count = 0;
	for (size_t i = 0; zone_tlsa && zone_tlsa[i].name; i++)
		if (slice_equals(host, zone_tlsa[i].name))
			q->count = i + 1;
}

void dns_cancel(struct dns_query *q)
{
	if (!q->done)
		return;
	if (loop_timer_is_set(&q->second))
		queries--;
	loop_timer_stop(&q->second);
	q->done = NULL;
}

bool dns_is_null_mx(const struct dns_query *q)
{
	return q->count == 1 && q->mx[0].host[0] == '\0';
}

const char *dns_result_text(enum dns_result r)
{
	return r == DNS_NO_NAME ? "no such domain" : "some trouble";
}

const char *dns_addr_text(const struct dns_addr *a, char *out)
{
	return inet_ntop(a->family, &a->ip, out, INET6_ADDRSTRLEN);
}

socklen_t dns_addr_to_sockaddr(const struct dns_addr *a, uint16_t port, struct sockaddr_storage *s)
{
	memset(s, 0, sizeof *s);
	s->ss_family = a->family;
	if (a->family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)s;
		in6->sin6_port = htons(port);
		in6->sin6_addr = a->ip.v6;
		return sizeof *in6;
	}
	struct sockaddr_in *in = (struct sockaddr_in *)s;
	in->sin_port = htons(port);
	in->sin_addr = a->ip.v4;
	return sizeof *in;
}

/* ---- what is known ------------------------------------------------------------------------ */

static bool dane_matches;
static char dane_names[600];

void dane_take(struct dane_records *r, const struct dns_query *q)
{
	assert_int_equal(r->state, DANE_NONE);
	if (q->count > 0)
		r->state = zone_tlsa[q->count - 1].state;
}

void dane_clear(struct dane_records *r)
{
	*r = (struct dane_records){0};
}

bool dane_match(const struct dane_records *r, const struct tls *t, const char *const *names,
                size_t count, const char **why)
{
	assert_int_equal(r->state, DANE_USABLE);
	assert_non_null(t);
	dane_names[0] = '\0';
	for (size_t i = 0; i < count; i++)
		snprintf(dane_names + strlen(dane_names), sizeof dane_names - strlen(dane_names),
		         "%s ", names[i]);
	*why = "no TLSA record matches";
	return dane_matches;
}

static int sts_asked, sts_cancelled;
static const struct sts_policy *policy;
static struct loop_timer sts_timer;
static struct sts_query *sts_query;

static void sts_fire(void *arg)
{
	(void)arg;
	sts_query->done(sts_query->arg, policy);
}

void sts_find(struct sts *s, struct sts_query *q, const char *domain,
              void (*done)(void *arg, const struct sts_policy *p), void *arg)
{
	assert_non_null(s);
	assert_string_equal(domain, "d.example");
	q->done = done;
	q->arg = arg;
	sts_query = q;
	sts_asked++;
	loop_timer_init(&sts_timer, sts_fire, NULL);
	loop_timer_set(&sts_timer, 1);
}

void sts_cancel(struct sts_query *q)
{
	if (!q->done)
		return;
	sts_cancelled++;
	loop_timer_stop(&sts_timer);
}

bool sts_policy_lists(const struct sts_policy *p, const char *host)
{
	for (size_t i = 0; i < p->mx_count; i++)
		if (strcmp(p->mx[i], host) == 0)
			return true;
	return false;
}

static enum domaininfo_level level_now;
static char level_key[300], saw_key[300];
static enum domaininfo_level saw_level;
static int saw;
static int raise_at; /* the question at which another delivery has raised it; 0: never */

enum domaininfo_level domaininfo_level(const struct domaininfo *di, enum domaininfo_way way,
                                       const char *domain)
{
	assert_non_null(di);
	assert_int_equal(way, DOMAININFO_OUT);
	snprintf(level_key, sizeof level_key, "%s", domain);
	if (raise_at > 0 && --raise_at == 0)
		level_now = DOMAININFO_TLS_INSECURE;
	return level_now;
}

void domaininfo_saw(struct domaininfo *di, enum domaininfo_way way, const char *domain,
                    enum domaininfo_level level)
{
	assert_non_null(di);
	assert_int_equal(way, DOMAININFO_OUT);
	snprintf(saw_key, sizeof saw_key, "%s", domain);
	saw_level = level;
	saw++;
}

/* ---- the fake spool ----------------------------------------------------------------------- */

struct spool_reader {
	size_t at;
};

static int readers;
static bool open_fails;
static bool read_fails;
static size_t content_size;

struct spool_reader *spool_read_open(struct spool *sp, const char *id, struct status *st)
{
	(void)sp;
	assert_string_equal(id, "ID1");
	if (open_fails) {
		status_set(st, 451, "4.3.0", "cannot read the message");
		return NULL;
	}
	readers++;
	return calloc(1, sizeof(struct spool_reader));
}

ssize_t spool_read(struct spool_reader *r, char *p, size_t n, struct status *st)
{
	if (read_fails && r->at >= content_size / 2) {
		status_set(st, 451, "4.3.0", "message damaged");
		return -1;
	}
	if (n > content_size - r->at)
		n = content_size - r->at;
	for (size_t i = 0; i < n; i++) {
		size_t column = (r->at + i) % 64;
		p[i] = "x\r\n"[column < 62 ? 0 : column - 61];
	}
	r->at += n;
	return (ssize_t)n;
}

void spool_read_close(struct spool_reader *r)
{
	readers--;
	free(r);
}

/* ---- servers ------------------------------------------------------------------------------ */

enum mood {
	GOOD,
	CLOSED, /* not listening */
	GREET_554,
	GREET_421,
	GREET_US,
	EHLO_451,
	MAIL_451,
	DROP_AT_RCPT,
	DROP_AFTER_DOT,
	RCPT_MIX, /* a: 550, b: 451, others fine */
	DOT_554,
	TLS,       /* offers STARTTLS, and AUTH for any password but "wrong" */
	TLS_454,   /* refuses it then */
	EARLY_552, /* refuses after some content and closes */
	UTF8,      /* offers SMTPUTF8 */
	SHY        /* accepts the first recipient, then 421 */
};

#define SERVERS  8
#define SESSIONS 32

static uint16_t port;

static struct server {
	struct loop_fd watch;
	enum mood mood;
	int connections;
	int messages;
	int quits;
	const char *once; /* a line that begins so is answered with `last`, and the session ends */
	const char *last; /* NULL: with nothing */
	char ehlo[1024];
	char log[2048];
} server[SERVERS]; /* at 127.0.0.2 and on; the last at ::1 */

static struct session {
	struct io io;
	struct server *s;
	bool used;
	bool in_data;
	int rcpts;
} session[SESSIONS];

static bool starts(const char *line, const char *with)
{
	return strncmp(line, with, strlen(with)) == 0;
}

static void session_end(struct session *x)
{
	io_finish(&x->io);
}

static void session_data_line(struct session *x, const char *line)
{
	if (x->s->mood == EARLY_552) {
		io_printf(&x->io, "552 5.3.4 enough\r\n");
		session_end(x);
	} else if (strcmp(line, ".") == 0) {
		x->in_data = false;
		if (x->s->mood == DROP_AFTER_DOT) {
			session_end(x);
			return;
		}
		x->s->messages += x->s->mood != DOT_554;
		io_printf(&x->io,
		          x->s->mood == DOT_554 ? "554 5.6.0 no\r\n" : "250 2.0.0 taken\r\n");
	}
}

static void session_rcpt(struct session *x, const char *line)
{
	enum mood mood = x->s->mood;
	if (mood == DROP_AT_RCPT)
		session_end(x);
	else if (mood == RCPT_MIX && starts(line, "RCPT TO:<a@"))
		io_printf(&x->io, "550 5.1.1 no a\r\n");
	else if (mood == RCPT_MIX && starts(line, "RCPT TO:<b@"))
		io_printf(&x->io, "451 4.2.0 b later\r\n");
	else if (mood == SHY && x->rcpts++ > 0)
		io_printf(&x->io, "421 4.3.2 enough\r\n");
	else
		io_printf(&x->io, "250 2.1.5 ok\r\n");
}

static void session_line(struct session *x, const char *line)
{
	struct server *s = x->s;
	if (s->once && starts(line, s->once)) {
		s->once = NULL;
		if (s->last)
			io_printf(&x->io, "%s", s->last);
		session_end(x);
		return;
	}
	if (x->in_data) {
		session_data_line(x, line);
		return;
	}
	snprintf(s->log + strlen(s->log), sizeof s->log - strlen(s->log), "%s|", line);
	if (starts(line, "EHLO ") && s->mood == UTF8) {
		io_printf(&x->io, "250-s\r\n250 SMTPUTF8\r\n");
	} else if (starts(line, "EHLO ") && (s->mood == TLS || s->mood == TLS_454)) {
		io_printf(&x->io, "250-s\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n");
	} else if (starts(line, "STARTTLS")) {
		io_printf(&x->io, s->mood == TLS ? "220 go\r\n" : "454 4.7.0 no\r\n");
	} else if (starts(line, "AUTH")) {
		io_printf(&x->io,
		          strstr(line, "AHdyb25n") ? "535 5.7.8 no\r\n" : "235 2.7.0 ok\r\n");
	} else if (starts(line, "EHLO ")) {
		snprintf(s->ehlo, sizeof s->ehlo, "%s", line + 5);
		io_printf(&x->io,
		          s->mood == EHLO_451 ? "451 4.0.0 no\r\n" : "250-s\r\n250 8BITMIME\r\n");
	} else if (starts(line, "MAIL")) {
		io_printf(&x->io, s->mood == MAIL_451 ? "451 4.3.1 no\r\n" : "250 2.0.0 ok\r\n");
	} else if (starts(line, "RCPT")) {
		session_rcpt(x, line);
	} else if (starts(line, "DATA")) {
		x->in_data = true;
		io_printf(&x->io, "354 go\r\n");
	} else if (starts(line, "QUIT")) {
		s->quits++;
		io_printf(&x->io, "221 2.0.0 bye\r\n");
		session_end(x);
	} else {
		io_printf(&x->io, "250 2.0.0 ok\r\n");
	}
}

static void session_event(void *arg, enum io_event ev)
{
	struct session *x = arg;
	if (ev == IO_CLOSED || ev == IO_ERROR) {
		io_close(&x->io);
		x->used = false;
		return;
	}
	if (ev == IO_EOF) {
		session_end(x);
		return;
	}
	while (!x->io.finishing && x->io.in.len > 0) {
		char *p = buf_data(&x->io.in);
		char *end = memchr(p, '\n', x->io.in.len);
		if (!end)
			break;
		size_t n = (size_t)(end - p) + 1;
		char line[1024];
		snprintf(line, sizeof line, "%.*s", (int)(n < 2 ? 0 : n - 2), p);
		buf_consume(&x->io.in, n);
		session_line(x, line);
	}
	io_update(&x->io);
}

static void server_ready(void *arg, unsigned events)
{
	struct server *s = arg;
	struct session *x = session;
	(void)events;
	int fd = accept4(s->watch.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	while (x->used)
		assert_true(++x < session + SESSIONS);
	*x = (struct session){.s = s, .used = true};
	s->connections++;
	io_init(&x->io, 8192, 8192, session_event, x);
	assert_int_equal(io_open(&x->io, fd), 0);
	if (s->mood == GREET_554)
		io_printf(&x->io, "554 5.3.2 go away\r\n");
	else if (s->mood == GREET_421)
		io_printf(&x->io, "421 4.3.2 busy\r\n");
	else
		io_printf(&x->io, "220 %s ESMTP\r\n",
		          s->mood == GREET_US ? "US.example" : "them.example");
}

/* A socket listening on the address; -1 when that is impossible. */
static int listen_on(int index, uint16_t at)
{
	char text[32];
	struct dns_addr a = {0};
	struct sockaddr_storage sa;
	snprintf(text, sizeof text, index == SERVERS - 1 ? "::1" : "127.0.0.%d", index + 2);
	dns_addr_parse(&a, slice_of(text));
	socklen_t len = dns_addr_to_sockaddr(&a, at, &sa);
	int one = 1;
	int fd = socket(a.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&sa, len) || listen(fd, 16)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void servers_close(void)
{
	for (int i = 0; i < SERVERS; i++) {
		int fd = server[i].watch.fd;
		loop_fd_unwatch(&server[i].watch);
		if (fd >= 0)
			close(fd);
	}
}

/* All servers on one port. False when somebody else has it on one of the addresses. */
static bool servers_listen(void)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	port = 0;
	for (int i = 0; i < SERVERS; i++)
		loop_fd_init(&server[i].watch, server_ready, &server[i]);
	for (int i = 0; i < SERVERS; i++) {
		int fd = listen_on(i, port);
		if (fd < 0 && i == SERVERS - 1)
			return true; /* a machine without IPv6 */
		if (fd < 0) {
			servers_close();
			return false;
		}
		assert_int_equal(loop_fd_watch(&server[i].watch, fd, LOOP_READ), 0);
		if (port == 0) {
			getsockname(fd, (struct sockaddr *)&sa, &len);
			port = ntohs(((struct sockaddr_in *)&sa)->sin_port);
		}
	}
	return true;
}

static void set_mood(int i, enum mood mood)
{
	server[i].mood = mood;
	if (mood == CLOSED) {
		int fd = server[i].watch.fd;
		loop_fd_unwatch(&server[i].watch);
		close(fd);
	}
}

/* ---- deliveries --------------------------------------------------------------------------- */

#define RCPTS 4

static struct rcpt rcpts[RCPTS];
static struct envelope env;
static struct conf conf;
static struct delivery d;
static struct courier courier;
static const size_t indexes[RCPTS] = {2, 0, 3, 1};
static int verdicts[RCPTS];
static struct status verdict[RCPTS];
static char remotes[RCPTS][400];
static int done;
static const char *our_addr;
static bool ours_any_port;
static int fds_before;

static bool is_ours(const struct dns_addr *a, uint16_t at)
{
	char text[INET6_ADDRSTRLEN];
	assert_true(at == port || ours_any_port);
	return our_addr && strcmp(dns_addr_text(a, text), our_addr) == 0;
}

static void on_verdict(struct delivery *of, size_t rcpt, const struct status *st,
                       const char *remote)
{
	assert_ptr_equal(of, &d);
	assert_true(rcpt < RCPTS);
	assert_int_equal(done, 0);
	verdicts[rcpt]++;
	verdict[rcpt] = *st;
	snprintf(remotes[rcpt], sizeof remotes[rcpt], "%s", remote);
}

static void on_done(struct delivery *of)
{
	assert_ptr_equal(of, &d);
	done++;
}

static int setup(void **state)
{
	(void)state;
	static char addresses[RCPTS][16] = {"a@d.example", "b@d.example", "c@d.example",
	                                    "e@d.example"};
	static char from[] = "s@sender.example";
	static char hostname[] = "us.example";
	fds_before = count_fds();
	loop_init();
	memset(server, 0, sizeof server);
	memset(session, 0, sizeof session);
	memset(verdicts, 0, sizeof verdicts);
	for (int i = 0; !servers_listen(); i++)
		assert_true(i < 20);
	env = (struct envelope){.id = "ID1", .from = from, .rcpt = rcpts, .rcpt_count = RCPTS};
	env.size = content_size = 1000;
	for (int i = 0; i < RCPTS; i++)
		rcpts[i] = (struct rcpt){.address = addresses[i], .type = RCPT_EMAIL};
	conf = (struct conf){.hostname = hostname, .remote_smtp_port = port};
	struct remote_setup plain_setup = {.conf = &conf, .is_ours = is_ours};
	courier = courier_remote(&plain_setup);
	d = (struct delivery){.env = &env,
	                      .rcpts = indexes,
	                      .count = RCPTS,
	                      .domain = "d.example",
	                      .from = from,
	                      .verdict = on_verdict,
	                      .done = on_done};
	done = 0;
	asked[0] = '\0';
	our_addr = NULL;
	zone_mx = NULL;
	zone_host = NULL;
	zone_tlsa = NULL;
	mx_secure = host_secure = false;
	canonical = "";
	tlsa_asked[0] = dane_names[0] = level_key[0] = saw_key[0] = '\0';
	dane_matches = false;
	policy = NULL;
	sts_asked = sts_cancelled = saw = raise_at = 0;
	level_now = DOMAININFO_PLAIN;
	fake_client_tls = (struct fake_client_tls){.peer = {.why = "why not"}};
	open_fails = read_fails = false;
	return 0;
}

static bool sessions_open(void)
{
	for (int i = 0; i < SESSIONS; i++)
		if (session[i].used)
			return true;
	return false;
}

static void turn_until_closed(void)
{
	int64_t end = loop_now() + 2 * IO_LINGER_MS + 2 * SMTPC_IDLE_MS;
	while (loop_now() < end && sessions_open())
		loop_turn(10);
	assert_false(sessions_open());
}

/* Sessions kept for the next message end. */
static void let_go(void)
{
	remote_close();
	turn_until_closed();
}

static int teardown(void **state)
{
	(void)state;
	let_go();
	servers_close();
	loop_done();
	assert_int_equal(readers, 0);
	assert_int_equal(queries, 0);
	assert_int_equal(fake_client_tls.open, 0);
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

static void deliver(void)
{
	struct status st;
	assert_int_equal(courier.start(courier.self, &d, &st), 0);
	assert_int_equal(done, 0);
	for (int i = 0; i < 3000 && !done; i++)
		loop_turn(10);
	assert_int_equal(done, 1);
	for (size_t i = 0; i < d.count; i++)
		assert_int_equal(verdicts[d.rcpts[i]], 1);
	assert_int_equal(readers, 0);
	assert_int_equal(queries, 0);
	assert_null(d.state);
}

/* All recipients got this. */
static void expect(int code, int subject, int detail)
{
	for (int i = 0; i < RCPTS; i++) {
		assert_int_equal(verdict[i].code, code);
		assert_int_equal(verdict[i].enh[1], subject);
		assert_int_equal(verdict[i].enh[2], detail);
	}
}

static const struct fake_mx three_mx[] = {
    {"d.example",
     DNS_OK,
     {{"mx1.example", 10}, {"mx2.example", 20}, {"mx3.example", 20}, {NULL, 0}}},
    {.name = NULL}};
static const struct fake_host three_hosts[] = {{"mx1.example", "127.0.0.2 127.0.0.3", DNS_OK},
                                               {"mx2.example", "127.0.0.4", DNS_OK},
                                               {"mx3.example", "127.0.0.5", DNS_OK},
                                               {"d.example", "127.0.0.6", DNS_OK},
                                               {NULL, NULL, DNS_OK}};

static void use_three(void)
{
	zone_mx = three_mx;
	zone_host = three_hosts;
}

static void expect_level(const char *host_and_addr, const char *level)
{
	char want[400];
	snprintf(want, sizeof want, "%s:%u %s", host_and_addr, (unsigned)port, level);
	for (int i = 0; i < RCPTS; i++)
		assert_string_equal(remotes[i], want);
}

static void expect_remote(const char *host_and_addr)
{
	expect_level(host_and_addr, "PLAIN");
}

static void test_first_mx(void **state)
{
	(void)state;
	use_three();
	deliver();
	expect(250, 0, 0);
	assert_string_equal(verdict[0].text, "taken");
	expect_remote("mx1.example [127.0.0.2]");
	assert_string_equal(asked, "mx1.example ");
	assert_int_equal(server[0].messages, 1);
	let_go();
	assert_int_equal(server[0].quits, 1);
	assert_string_equal(server[0].ehlo,
	                    REMOTE_EHLO_SENDER_DOMAIN ? "sender.example" : "us.example");
	assert_non_null(strstr(server[0].log, "|MAIL FROM:<s@sender.example> BODY=8BITMIME|"
	                                      "RCPT TO:<c@d.example>|RCPT TO:<a@d.example>|"
	                                      "RCPT TO:<e@d.example>|RCPT TO:<b@d.example>|DATA|"));
}

static void test_null_sender(void **state)
{
	(void)state;
	use_three();
	d.from = "<>";
	deliver();
	expect(250, 0, 0);
	assert_string_equal(server[0].ehlo, "us.example");
	assert_non_null(strstr(server[0].log, "|MAIL FROM:<> "));
}

/* Each way a host can fail as a host leads to its next address, and to the next host. */
static void test_fallback(void **state)
{
	(void)state;
	use_three();
	set_mood(0, CLOSED);
	set_mood(1, GREET_554);
	set_mood(2, DROP_AT_RCPT);
	deliver();
	expect(250, 0, 0);
	assert_false(d.unreached);
	expect_remote("mx3.example [127.0.0.5]");
	for (int i = 1; i <= 3; i++)
		assert_int_equal(server[i].connections, 1);
	assert_int_equal(server[1].quits, 1);
}

static void test_fallback_more(void **state)
{
	(void)state;
	use_three();
	set_mood(0, GREET_421);
	set_mood(1, EHLO_451);
	set_mood(2, MAIL_451);
	deliver();
	expect(250, 0, 0);
	assert_int_equal(server[1].quits, 1);
	assert_int_equal(server[2].quits, 1);
	expect_remote("mx3.example [127.0.0.5]");
}

static void test_all_dead(void **state)
{
	(void)state;
	use_three();
	for (int i = 0; i < 4; i++)
		set_mood(i, CLOSED);
	deliver();
	expect(451, 4, 1);
	assert_true(d.unreached);
	expect_remote("mx3.example [127.0.0.5]");
	assert_string_equal(asked, "mx1.example mx2.example mx3.example ");
}

/* What a host has against one sender does not hold up the mail of others. */
static void test_a_sender_refused(void **state)
{
	(void)state;
	use_three();
	for (int i = 0; i < 4; i++)
		set_mood(i, i == 2 ? MAIL_451 : CLOSED);
	deliver();
	assert_int_equal(verdict[0].code, 451);
	assert_false(d.unreached);
}

/* Permanent only when all hosts said so. */
static void test_all_permanent(void **state)
{
	(void)state;
	use_three();
	for (int i = 0; i < 4; i++)
		set_mood(i, GREET_554);
	deliver();
	expect(554, 3, 2);
	assert_false(d.unreached);
	assert_string_equal(verdict[0].text, "go away");
}

static void test_one_transient(void **state)
{
	(void)state;
	use_three();
	for (int i = 0; i < 4; i++)
		set_mood(i, i == 1 ? GREET_421 : GREET_554);
	deliver();
	expect(421, 3, 2);
	expect_remote("mx1.example [127.0.0.3]");
}

static void test_verdict_mix(void **state)
{
	(void)state;
	use_three();
	set_mood(0, RCPT_MIX);
	deliver();
	assert_int_equal(verdict[0].code, 550);
	assert_false(d.unreached);
	assert_int_equal(verdict[1].code, 451);
	assert_string_equal(verdict[1].text, "b later");
	assert_int_equal(verdict[2].code, 250);
	assert_int_equal(verdict[3].code, 250);
	assert_int_equal(server[1].connections + server[2].connections, 0);
}

/* Only the recipients that are still open go to the next host. */
static void test_mix_then_next_host(void **state)
{
	(void)state;
	zone_mx = three_mx;
	static const struct fake_host hosts[] = {{"mx1.example", "127.0.0.2", DNS_OK},
	                                         {"mx2.example", "127.0.0.3", DNS_OK},
	                                         {"mx3.example", "127.0.0.4", DNS_OK},
	                                         {NULL, NULL, DNS_OK}};
	zone_host = hosts;
	static const size_t three[] = {0, 1, 2};
	d.rcpts = three;
	d.count = 3;
	set_mood(0, SHY);
	set_mood(1, RCPT_MIX);
	deliver();
	assert_int_equal(verdict[0].code, 550);
	assert_int_equal(verdict[1].code, 451);
	assert_int_equal(verdict[2].code, 250);
	assert_int_equal(server[1].messages, 1);
	assert_int_equal(server[2].connections, 0);
}

static void test_message_refused(void **state)
{
	(void)state;
	use_three();
	set_mood(0, DOT_554);
	deliver();
	expect(554, 6, 0);
	let_go();
	assert_int_equal(server[0].quits, 1);
	assert_int_equal(server[1].connections, 0);
}

/* A host that refuses while we still send is heard at once, and the rest stays here. */
static void test_refused_early(void **state)
{
	(void)state;
	use_three();
	set_mood(0, EARLY_552);
	content_size = 20 * 1000 * 1000;
	deliver();
	expect(552, 3, 4);
	assert_int_equal(server[0].quits, 0);
	assert_int_equal(server[1].connections, 0);
}

static void test_lost_after_dot(void **state)
{
	(void)state;
	use_three();
	set_mood(0, DROP_AFTER_DOT);
	deliver();
	expect(451, 4, 2);
	assert_int_equal(server[1].connections, 0);
}

static void test_five_hosts(void **state)
{
	(void)state;
	static const struct fake_mx mx[] = {{"d.example",
	                                     DNS_OK,
	                                     {{"h1", 1},
	                                      {"h2", 1},
	                                      {"h3", 2},
	                                      {"h4", 3},
	                                      {"h5", 4},
	                                      {"h6", 5},
	                                      {"h7", 6},
	                                      {NULL, 0}}},
	                                    {.name = NULL}};
	static const struct fake_host hosts[] = {
	    {"h1", "127.0.0.2", DNS_OK}, {"h2", "127.0.0.3", DNS_OK}, {"h3", "127.0.0.4", DNS_OK},
	    {"h4", "127.0.0.5", DNS_OK}, {"h5", "127.0.0.6", DNS_OK}, {"h6", "127.0.0.7", DNS_OK},
	    {NULL, NULL, DNS_OK}};
	zone_mx = mx;
	zone_host = hosts;
	for (int i = 0; i < REMOTE_HOSTS_MAX; i++)
		set_mood(i, GREET_421);
	deliver();
	expect(421, 3, 2);
	assert_int_equal(server[4].connections, 1);
	assert_int_equal(server[5].connections, 0);
}

static void test_no_mx(void **state)
{
	(void)state;
	static const struct fake_mx mx[] = {{.name = "d.example", .result = DNS_NO_DATA},
	                                    {.name = NULL}};
	zone_mx = mx;
	zone_host = three_hosts;
	deliver();
	expect(250, 0, 0);
	expect_remote("d.example [127.0.0.6]");
}

static void test_dns_failures(void **state)
{
	static const struct {
		struct fake_mx mx[2];
		int code, subject, detail;
	} cases[] = {
	    {{{"d.example", DNS_OK, {{"", 0}, {NULL, 0}}}, {.name = NULL}}, 556, 1, 10},
	    {{{.name = "d.example", .result = DNS_NO_NAME}, {.name = NULL}}, 550, 1, 2},
	    {{{.name = "d.example", .result = DNS_BAD_NAME}, {.name = NULL}}, 550, 1, 2},
	    {{{.name = "d.example", .result = DNS_SERVER_FAILURE}, {.name = NULL}}, 451, 4, 3},
	    {{{.name = "d.example", .result = DNS_TIMEOUT}, {.name = NULL}}, 451, 4, 3},
	    {{{.name = "d.example", .result = DNS_NO_MEMORY}, {.name = NULL}}, 451, 4, 3},
	    {{{.name = "d.example", .result = DNS_NO_DATA}, {.name = NULL}}, 451, 4, 4},
	    {{{"d.example", DNS_OK, {{"nowhere", 1}, {"nothing", 2}, {NULL, 0}}}, {.name = NULL}},
	     451,
	     4,
	     4},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		zone_mx = cases[i].mx;
		deliver();
		expect(cases[i].code, cases[i].subject, cases[i].detail);
		assert_string_equal(remotes[0], "");
		teardown(state);
		setup(state);
	}
}

static void test_unresolvable_host(void **state)
{
	(void)state;
	static const struct fake_host hosts[] = {{"mx1.example", NULL, DNS_TIMEOUT},
	                                         {"mx3.example", "127.0.0.4", DNS_OK},
	                                         {NULL, NULL, DNS_OK}};
	zone_mx = three_mx;
	zone_host = hosts;
	deliver();
	expect(250, 0, 0);
	expect_remote("mx3.example [127.0.0.4]");
}

/* We are one of the two hosts of preference 20: neither of them may be used. */
static void test_loop_by_address(void **state)
{
	(void)state;
	use_three();
	our_addr = "127.0.0.5";
	deliver();
	expect(250, 0, 0);
	teardown(state);
	setup(state);
	use_three();
	our_addr = "127.0.0.5";
	set_mood(0, CLOSED);
	set_mood(1, GREET_421);
	deliver();
	expect(421, 3, 2);
	assert_int_equal(server[2].connections + server[3].connections, 0);
}

static void test_loop_all(void **state)
{
	(void)state;
	use_three();
	our_addr = "127.0.0.3";
	deliver();
	expect(554, 4, 6);
	assert_int_equal(server[0].connections, 0);
}

static void test_loop_by_name(void **state)
{
	(void)state;
	static const struct fake_mx mx[] = {
	    {"d.example",
	     DNS_OK,
	     {{"mx1.example", 5}, {"mx2.example", 7}, {"us.Example", 7}, {NULL, 0}}},
	    {.name = NULL}};
	zone_mx = mx;
	zone_host = three_hosts;
	set_mood(0, GREET_554);
	set_mood(1, GREET_554);
	deliver();
	expect(554, 3, 2);
	assert_int_equal(server[2].connections, 0);
	assert_string_equal(asked, "mx1.example ");
}

static void test_loop_by_greeting(void **state)
{
	(void)state;
	use_three();
	set_mood(0, GREET_US);
	deliver();
	expect(250, 0, 0);
	assert_int_equal(server[0].quits, 1);
	assert_int_equal(server[1].connections, 0);
	teardown(state);
	setup(state);
	use_three();
	for (int i = 0; i < 4; i++)
		set_mood(i, GREET_US);
	deliver();
	expect(554, 4, 6);
}

static void test_literal(void **state)
{
	(void)state;
	d.domain = "[127.0.0.4]";
	deliver();
	expect(250, 0, 0);
	expect_remote("[127.0.0.4] [127.0.0.4]");
	assert_string_equal(asked, "");
}

static void test_literal_malformed(void **state)
{
	(void)state;
	d.domain = "[127.0.0.4";
	deliver();
	expect(550, 1, 2);
}

static void test_literal_loop(void **state)
{
	(void)state;
	d.domain = "[127.0.0.4]";
	our_addr = "127.0.0.4";
	deliver();
	expect(554, 4, 6);
}

static void test_literal_v6(void **state)
{
	(void)state;
	if (server[SERVERS - 1].watch.fd < 0)
		skip();
	d.domain = "[IPv6:::1]";
	deliver();
	expect(250, 0, 0);
	expect_remote("[IPv6:::1] [::1]");
}

static void test_via(void **state)
{
	(void)state;
	static char via[] = "gone.example/mx2.example/mx3.example";
	use_three();
	for (int i = 0; i < RCPTS; i++) {
		rcpts[i].type = RCPT_FORWARD;
		rcpts[i].via = via;
	}
	set_mood(2, CLOSED);
	deliver();
	expect(250, 0, 0);
	expect_remote("mx3.example [127.0.0.5]");
	assert_string_equal(asked, "gone.example mx2.example mx3.example ");
	/* Ourselves are left out, the others stay. */
	teardown(state);
	setup(state);
	use_three();
	rcpts[2].type = RCPT_FORWARD;
	rcpts[2].via = via;
	our_addr = "127.0.0.4";
	deliver();
	expect(250, 0, 0);
	expect_remote("mx3.example [127.0.0.5]");
}

static void test_spool_trouble(void **state)
{
	(void)state;
	use_three();
	open_fails = true;
	deliver();
	expect(451, 3, 0);
	assert_int_equal(server[0].quits, 1);
	teardown(state);
	setup(state);
	use_three();
	read_fails = true;
	content_size = 100000;
	deliver();
	expect(451, 3, 0);
	assert_string_equal(verdict[0].text, "message damaged");
	for (int i = 0; i < SERVERS; i++)
		assert_int_equal(server[i].messages, 0);
	assert_int_equal(server[1].connections, 0);
}

static void test_large(void **state)
{
	(void)state;
	use_three();
	content_size = 20 * 1000 * 1000;
	env.size = content_size;
	deliver();
	expect(250, 0, 0);
}

/* Stopped at any time: silent, and nothing is left behind. */
static void test_stop(void **state)
{
	for (int turns = 0; turns < 30; turns++) {
		struct status st;
		use_three();
		set_mood(0, CLOSED);
		assert_int_equal(courier.start(courier.self, &d, &st), 0);
		for (int i = 0; i < turns && !done; i++)
			loop_turn(5);
		int before = verdicts[0];
		if (!done)
			courier.stop(courier.self, &d);
		for (int i = 0; i < 10; i++)
			loop_turn(1);
		assert_int_equal(verdicts[0], before);
		teardown(state);
		setup(state);
	}
}

/* ---- TLS ---- */

static void test_levels(void **state)
{
	for (int i = 0; i < 4; i++) {
		use_three();
		server[0].mood = TLS;
		fake_client_tls.peer.has_cert = true;
		fake_client_tls.peer.chain_good = i & 1;
		fake_client_tls.peer.name_good = i & 2;
		deliver();
		expect(250, 0, 0);
		expect_level("mx1.example [127.0.0.2]", i == 3 ? "TLS_SECURE" : "TLS_INSECURE");
		assert_string_equal(fake_client_tls.name, "mx1.example");
		assert_int_equal(fake_client_tls.handshakes, 1);
		teardown(state);
		setup(state);
	}
}

/* TLS that cannot be begun is no reason to keep the mail, where nobody asked for it. */
static void test_plain_after_tls(void **state)
{
	for (int i = 0; i < 2; i++) {
		use_three();
		server[0].mood = i == 0 ? TLS : TLS_454;
		fake_client_tls.fails = true;
		deliver();
		expect(250, 0, 0);
		expect_remote("mx1.example [127.0.0.2]");
		assert_int_equal(server[0].connections, 2);
		assert_int_equal(server[0].messages, 1);
		teardown(state);
		setup(state);
	}
}

static void test_via_port(void **state)
{
	(void)state;
	char via[100];
	use_three();
	snprintf(via, sizeof via, "mx1.example:1/127.0.0.9:%u/mx2.example:%u", (unsigned)port,
	         (unsigned)port);
	rcpts[2].type = RCPT_FORWARD;
	rcpts[2].via = via;
	conf.remote_smtp_port = 9;
	d.count = 1;
	/* The port that is_ours is asked about differs. */
	ours_any_port = true;
	deliver();
	ours_any_port = false;
	assert_int_equal(verdict[2].code, 250);
	assert_string_equal(asked, "mx1.example mx2.example ");
	assert_int_equal(server[2].messages, 1);
}

/* RFC 6531: that a host does not offer SMTPUTF8 is final when no other one does. */
static void test_smtputf8(void **state)
{
	/* Of the second and third host; the first, at two addresses, never offers it. */
	static const struct {
		enum mood second, third;
		int code, subject, detail;
		const char *remote;
	} cases[] = {{UTF8, GOOD, 250, 0, 0, "mx2.example [127.0.0.4]"},
	             {GOOD, UTF8, 250, 0, 0, "mx3.example [127.0.0.5]"},
	             {GOOD, GOOD, 550, 6, 7, "mx3.example [127.0.0.5]"},
	             {MAIL_451, GOOD, 550, 6, 7, "mx3.example [127.0.0.5]"},
	             {EHLO_451, GOOD, 451, 0, 0, "mx2.example [127.0.0.4]"},
	             {GOOD, CLOSED, 451, 4, 1, "mx3.example [127.0.0.5]"}};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		if (i > 0) {
			teardown(state);
			setup(state);
		}
		use_three();
		env.header_8bit = true;
		set_mood(2, cases[i].second);
		set_mood(3, cases[i].third);
		deliver();
		expect(cases[i].code, cases[i].subject, cases[i].detail);
		expect_remote(cases[i].remote);
		for (int s = 0; s < SERVERS; s++)
			assert_int_equal(strstr(server[s].log, " SMTPUTF8|") != NULL,
			                 server[s].mood == UTF8 && server[s].connections > 0);
	}
}

#if WITH_IDN
/* Those who need it wait for no worse reason than the others, and the others for no better. */
static void test_smtputf8_some(void **state)
{
	(void)state;
	static char unicode[] = "j\xc3\xbcrgen@d.example";
	for (int lost = 0; lost < 2; lost++) {
		if (lost) {
			teardown(state);
			setup(state);
		}
		use_three();
		rcpts[2].address = unicode; /* the first to be sent */
		for (int i = 0; i < SERVERS; i++)
			set_mood(i, lost ? DROP_AT_RCPT : GOOD);
		deliver();
		for (int i = 0; i < RCPTS; i++)
			assert_int_equal(verdict[i].code, lost ? 451 : i == 2 ? 550 : 250);
	}
}

/* The hosts of via are known by their Unicode names, and looked for by the others. */
static void test_via_unicode(void **state)
{
	(void)state;
	char via[100];
	static const struct fake_host hosts[] = {{"xn--and-6ma2c.test", "127.0.0.4", DNS_OK},
	                                         {NULL, NULL, DNS_OK}};
	zone_host = hosts;
	snprintf(via, sizeof via,
	         "\xc3\xb1.test/[::1]:9/\xc3\xb1"
	         "and\xc3\xba.test:%u",
	         (unsigned)port);
	rcpts[2].type = RCPT_FORWARD;
	rcpts[2].via = via;
	d.count = 1;
	ours_any_port = true;
	deliver();
	ours_any_port = false;
	assert_int_equal(verdict[2].code, 250);
	assert_string_equal(asked, "xn--ida.test xn--and-6ma2c.test ");
	assert_int_equal(strncmp(remotes[2], "xn--and-6ma2c.test [127.0.0.4]", 30), 0);
}
#endif

/* ---- DANE, MTA-STS, domaininfo ---- */

static struct tls_peer good_peer = {
    .has_cert = true, .chain_good = true, .name_good = true, .why = ""};

/* All that has a say, and hosts that offer TLS. Call before a test says what is known. */
static void use_security(void)
{
	static char domaininfo, sts;
	struct remote_setup all = {.conf = &conf,
	                           .is_ours = is_ours,
	                           .domaininfo = (struct domaininfo *)&domaininfo,
	                           .sts = (struct sts *)&sts};
	courier = courier_remote(&all);
	conf.dnssec_resolver = true;
	use_three();
	for (int i = 0; i < 5; i++)
		server[i].mood = TLS;
	fake_client_tls.peer.has_cert = true;
}

static void again(void **state)
{
	teardown(state);
	setup(state);
	use_security();
}

static void expect_refused(const char *text)
{
	expect(454, 7, 5);
	if (strcmp(verdict[0].text, text) != 0)
		fail_msg("%s", verdict[0].text);
	for (int i = 0; i < SERVERS; i++)
		assert_int_equal(server[i].messages, 0);
	assert_int_equal(saw, 0);
}

static void test_domaininfo(void **state)
{
	static const struct {
		enum mood mood;
		bool good;
		enum domaininfo_level got;
	} kinds[] = {{GOOD, false, DOMAININFO_PLAIN},
	             {TLS, false, DOMAININFO_TLS_INSECURE},
	             {TLS, true, DOMAININFO_TLS_SECURE}};
	static const enum domaininfo_level levels[] = {DOMAININFO_PLAIN, DOMAININFO_TLS_INSECURE,
	                                               DOMAININFO_TLS_SECURE};
	for (int level = 0; level < 3; level++) {
		for (int i = 0; i < 3; i++) {
			again(state);
			level_now = levels[level];
			for (int k = 0; k < 5; k++)
				server[k].mood = kinds[i].mood;
			if (kinds[i].good)
				fake_client_tls.peer = good_peer;
			deliver();
			assert_string_equal(level_key, "d.example");
			assert_int_equal(verdict[0].code, i >= level ? 250 : 454);
			assert_int_equal(saw, i >= level ? 1 : 0);
			if (i < level)
				continue;
			assert_string_equal(saw_key, "d.example");
			assert_int_equal(saw_level, kinds[i].got);
		}
	}
}

static void test_domaininfo_texts(void **state)
{
	again(state);
	level_now = DOMAININFO_TLS_SECURE;
	deliver();
	expect_refused("mx3.example must be TLS_SECURE (domaininfo), got TLS_INSECURE: why not");
	assert_int_equal(server[0].connections + server[1].connections, 2);
	again(state);
	level_now = DOMAININFO_TLS_INSECURE;
	for (int i = 0; i < 5; i++)
		server[i].mood = GOOD;
	deliver();
	expect_refused("mx3.example must be TLS_INSECURE (domaininfo), got PLAIN: "
	               "the host does not offer STARTTLS");
	assert_int_equal(server[0].quits, 1);
	again(state);
	level_now = DOMAININFO_TLS_INSECURE;
	for (int i = 0; i < 5; i++)
		server[i].mood = TLS_454;
	deliver();
	expect_refused("mx3.example must be TLS_INSECURE (domaininfo), got PLAIN: "
	               "STARTTLS refused: 454 no");
	assert_int_equal(server[0].connections, 1);
	again(state);
	level_now = DOMAININFO_TLS_INSECURE;
	fake_client_tls.fails = true;
	deliver();
	expect(454, 7, 5);
	assert_int_equal(server[0].connections, 1);
	assert_null(strstr(server[0].log, "MAIL"));
}

/* A host that is not good enough is passed over for one that is. */
static void test_domaininfo_next_host(void **state)
{
	again(state);
	level_now = DOMAININFO_TLS_INSECURE;
	server[0].mood = server[1].mood = GOOD;
	deliver();
	expect(250, 0, 0);
	expect_level("mx2.example [127.0.0.4]", "TLS_INSECURE");
}

/* Between the look at the level and the end of EHLO another delivery may have shown TLS; and before
 * the second, plain try. */
static void test_domaininfo_raised(void **state)
{
	again(state);
	raise_at = 2;
	for (int i = 0; i < 5; i++)
		server[i].mood = GOOD;
	deliver();
	expect(454, 7, 5);
	assert_null(strstr(server[0].log, "MAIL"));
	again(state);
	raise_at = 2;
	for (int i = 0; i < 5; i++)
		server[i].mood = TLS_454;
	deliver();
	expect(454, 7, 5);
	assert_int_equal(server[0].connections, 2);
	assert_null(strstr(server[0].log, "MAIL"));
	const char *first = strstr(server[0].log, "STARTTLS");
	assert_non_null(first);
	assert_non_null(strstr(first + 1, "STARTTLS"));
}

/* Hosts of via go by their own normalised names; addresses and smarthosts by none. */
static void test_domaininfo_keys(void **state)
{
	static char via[] = "MX2.Example.", address[] = "127.0.0.4";
	again(state);
	zone_host =
	    (const struct fake_host[]){{"mx2.example", "127.0.0.4", DNS_OK}, {NULL, NULL, DNS_OK}};
	rcpts[2].type = RCPT_FORWARD;
	rcpts[2].via = via;
	deliver();
	expect(250, 0, 0);
	assert_string_equal(level_key, "mx2.example");
	assert_string_equal(saw_key, "mx2.example");
	assert_int_equal(sts_asked, 0);
	again(state);
	rcpts[2].type = RCPT_FORWARD;
	rcpts[2].via = address;
	level_now = DOMAININFO_TLS_SECURE;
	deliver();
	expect(250, 0, 0);
	assert_int_equal(saw, 0);
	again(state);
	d.domain = "[127.0.0.4]";
	level_now = DOMAININFO_TLS_SECURE;
	deliver();
	expect(250, 0, 0);
	assert_int_equal(saw + sts_asked, 0);
}

/* We are the host: nothing was learnt about the domain. */
static void test_domaininfo_not_of_us(void **state)
{
	again(state);
	for (int i = 0; i < 5; i++)
		server[i].mood = GREET_US;
	deliver();
	expect(554, 4, 6);
	assert_int_equal(saw, 0);
}

static char listed3[] = "mx3.example", listed_d[] = "d.example";
static struct sts_policy sts_some = {.mx_count = 2, .mx = {listed3, listed_d}};

static void test_sts_enforce(void **state)
{
	again(state);
	sts_some.mode = STS_ENFORCE;
	policy = &sts_some;
	fake_client_tls.peer = good_peer;
	deliver();
	expect(250, 0, 0);
	expect_level("mx3.example [127.0.0.5]", "TLS_SECURE");
	for (int i = 0; i < 3; i++)
		assert_int_equal(server[i].connections, 0);
	assert_int_equal(sts_asked, 1);
	assert_int_equal(saw_level, DOMAININFO_TLS_SECURE);
	again(state);
	policy = &sts_some;
	deliver();
	expect_refused("mx3.example must be TLS_SECURE (MTA-STS), got TLS_INSECURE: why not");
	again(state);
	policy = &sts_some;
	server[3].mood = GOOD;
	deliver();
	expect_refused("mx3.example must be TLS_SECURE (MTA-STS), got PLAIN: "
	               "the host does not offer STARTTLS");
	again(state);
	static struct sts_policy nobody = {.mode = STS_ENFORCE, .mx_count = 1, .mx = {listed_d}};
	policy = &nobody;
	deliver();
	expect_refused("mx3.example may not be used (MTA-STS): "
	               "the domain's policy does not list it");
	assert_string_equal(remotes[0], "");
}

static void test_sts_testing_and_none(void **state)
{
	for (int i = 0; i < 4; i++) {
		again(state);
		sts_some.mode = i & 1 ? STS_TESTING : STS_NONE;
		policy = i == 0 ? NULL : &sts_some;
		deliver();
		expect(250, 0, 0);
		expect_level("mx1.example [127.0.0.2]", "TLS_INSECURE");
	}
	again(state);
	sts_some.mode = STS_TESTING;
	policy = &sts_some;
	level_now = DOMAININFO_TLS_SECURE;
	deliver();
	expect(454, 7, 5);
}

static void test_sts_without_mx(void **state)
{
	static const struct fake_mx mx[] = {{.name = "d.example", .result = DNS_NO_DATA},
	                                    {.name = NULL}};
	again(state);
	zone_mx = mx;
	sts_some.mode = STS_ENFORCE;
	policy = &sts_some;
	deliver();
	expect_refused("d.example must be TLS_SECURE (MTA-STS), got TLS_INSECURE: why not");
}

static const struct fake_tlsa all_tlsa[] = {{"mx1.example", DANE_USABLE},
                                            {"mx2.example", DANE_USABLE},
                                            {"mx3.example", DANE_USABLE},
                                            {"d.example", DANE_USABLE},
                                            {.name = NULL}};

static void use_dane(void **state)
{
	again(state);
	mx_secure = host_secure = true;
	zone_tlsa = all_tlsa;
}

static void test_dane_match(void **state)
{
	use_dane(state);
	dane_matches = true;
	sts_some.mode = STS_ENFORCE; /* does not list mx1, but has no say */
	policy = &sts_some;
	level_now = DOMAININFO_TLS_SECURE;
	deliver();
	expect(250, 0, 0);
	expect_level("mx1.example [127.0.0.2]", "TLS_SECURE");
	assert_string_equal(tlsa_asked, "mx1.example ");
	assert_string_equal(dane_names, "mx1.example d.example ");
	assert_int_equal(saw_level, DOMAININFO_TLS_SECURE);
}

/* A certificate that authorities vouch for does not help. */
static void test_dane_mismatch(void **state)
{
	use_dane(state);
	fake_client_tls.peer = good_peer;
	deliver();
	expect_refused("mx3.example must be TLS_SECURE (DANE), got TLS_INSECURE: "
	               "no TLSA record matches");
	assert_string_equal(tlsa_asked, "mx1.example mx2.example mx3.example ");
}

static void test_dane_unusable(void **state)
{
	static const struct fake_tlsa tlsa[] = {{"mx1.example", DANE_UNUSABLE}, {.name = NULL}};
	use_dane(state);
	zone_tlsa = tlsa;
	deliver();
	expect(250, 0, 0);
	expect_level("mx1.example [127.0.0.2]", "TLS_INSECURE");
	use_dane(state);
	zone_tlsa = tlsa;
	server[0].mood = TLS_454;
	server[1].mood = GOOD;
	deliver();
	expect(250, 0, 0);
	expect_level("mx2.example [127.0.0.4]", "TLS_INSECURE");
	assert_null(strstr(server[0].log, "MAIL"));
	assert_null(strstr(server[1].log, "MAIL"));
	assert_int_equal(server[0].connections, 1);
}

static void test_dane_failed(void **state)
{
	static const struct fake_tlsa one[] = {{"mx1.example", DANE_FAILED}, {.name = NULL}};
	static const struct fake_tlsa all[] = {{"mx1.example", DANE_FAILED},
	                                       {"mx2.example", DANE_FAILED},
	                                       {"mx3.example", DANE_FAILED},
	                                       {.name = NULL}};
	use_dane(state);
	zone_tlsa = one;
	deliver();
	expect(250, 0, 0);
	expect_level("mx2.example [127.0.0.4]", "TLS_INSECURE");
	assert_int_equal(server[0].connections + server[1].connections, 0);
	use_dane(state);
	zone_tlsa = all;
	deliver();
	expect_refused("mx3.example may not be used (DANE): "
	               "its TLSA records cannot be looked up or read");
}

/* RFC 7672 2.2: every step must be secure; without MX there is one step less. */
static void test_dane_not_asked(void **state)
{
	static const struct fake_mx no_mx[] = {{.name = "d.example", .result = DNS_NO_DATA},
	                                       {.name = NULL}};
	static char via[] = "mx2.example";
	for (int i = 0; i < 4; i++) {
		use_dane(state);
		mx_secure = i != 0;
		host_secure = i != 1;
		conf.dnssec_resolver = i != 2;
		if (i == 3) {
			rcpts[2].type = RCPT_FORWARD;
			rcpts[2].via = via;
		}
		deliver();
		expect(250, 0, 0);
		assert_string_equal(tlsa_asked, "");
	}
	use_dane(state);
	zone_mx = no_mx;
	mx_secure = false;
	dane_matches = true;
	deliver();
	expect(250, 0, 0);
	assert_string_equal(tlsa_asked, "d.example ");
	assert_string_equal(dane_names, "d.example d.example ");
	expect_level("d.example [127.0.0.6]", "TLS_SECURE");
}

/* RFC 7672 2.2.2: where the CNAMEs end first, and then the name they begin with. */
static void test_dane_canonical(void **state)
{
	static const struct fake_tlsa end[] = {
	    {"real.example", DANE_USABLE}, {"mx1.example", DANE_FAILED}, {.name = NULL}};
	use_dane(state);
	canonical = "real.example";
	zone_tlsa = end;
	dane_matches = true;
	deliver();
	expect(250, 0, 0);
	assert_string_equal(tlsa_asked, "real.example ");
	assert_string_equal(dane_names, "real.example mx1.example d.example ");
	assert_string_equal(fake_client_tls.name, "real.example");
	use_dane(state);
	canonical = "real.example";
	dane_matches = true;
	deliver();
	expect(250, 0, 0);
	assert_string_equal(tlsa_asked, "real.example mx1.example ");
	assert_string_equal(dane_names, "mx1.example d.example ");
	assert_string_equal(fake_client_tls.name, "mx1.example");
}

/* Stopped while it asks. */
static void test_stop_in_look_ups(void **state)
{
	for (int turns = 0; turns < 20; turns++) {
		struct status st;
		use_dane(state);
		canonical = "real.example";
		assert_int_equal(courier.start(courier.self, &d, &st), 0);
		for (int i = 0; i < turns && !done; i++)
			loop_turn(5);
		if (!done)
			courier.stop(courier.self, &d);
		for (int i = 0; i < 10; i++)
			loop_turn(1);
		assert_int_equal(queries, 0);
	}
}

/* ---- smarthosts ---- */

static char smart_names[2][16] = {"mx1.example", "mx2.example"};
static char smart_user[] = "me", smart_command[100];
static struct conf_pattern any_sender;
static struct conf_smarthost smart[2];

static void use_smarthosts(const char *command)
{
	use_three();
	snprintf(smart_command, sizeof smart_command, "%s", command ? command : "");
	for (int i = 0; i < 2; i++) {
		smart[i] = (struct conf_smarthost){.host = smart_names[i],
		                                   .port = port,
		                                   .sender = &any_sender,
		                                   .sender_count = 1,
		                                   .user = command ? smart_user : NULL,
		                                   .password_command = smart_command};
		server[2 * i].mood = TLS;
	}
	conf.smarthosts = (struct conf_smarthosts){smart, 2};
	fake_client_tls.peer.has_cert = true;
	fake_client_tls.peer.chain_good = fake_client_tls.peer.name_good = true;
	d.domain = "/smarthost0";
}

static void test_smarthost(void **state)
{
	(void)state;
	use_smarthosts(NULL);
	deliver();
	expect(250, 0, 0);
	expect_level("mx1.example [127.0.0.2]", "TLS_SECURE");
	assert_string_equal(asked, "mx1.example ");
}

/* A smarthost is the operator's: nobody else has a say, and nothing is remembered. */
static void test_smarthost_by_conf_alone(void **state)
{
	use_dane(state);
	zone_tlsa = (const struct fake_tlsa[]){{"mx1.example", DANE_FAILED}, {.name = NULL}};
	level_now = DOMAININFO_TLS_SECURE;
	use_smarthosts(NULL);
	smart[0].insecure = true;
	fake_client_tls.peer.chain_good = false;
	deliver();
	expect(250, 0, 0);
	expect_level("mx1.example [127.0.0.2]", "TLS_INSECURE");
	assert_string_equal(tlsa_asked, "");
	assert_string_equal(level_key, "");
	assert_int_equal(saw + sts_asked, 0);
}

static void test_smarthost_fallback(void **state)
{
	(void)state;
	use_smarthosts(NULL);
	set_mood(0, CLOSED);
	set_mood(1, GREET_554); /* mx1 has two addresses */
	deliver();
	expect(250, 0, 0);
	expect_level("mx2.example [127.0.0.4]", "TLS_SECURE");
}

/* Never plain, never with a bad certificate, never for good. */
static void test_smarthost_needs_tls(void **state)
{
	for (int i = 0; i < 4; i++) {
		use_smarthosts(NULL);
		fake_client_tls.fails = i == 0;
		fake_client_tls.peer.chain_good = i != 1;
		server[0].mood = server[1].mood = server[2].mood = i < 2    ? TLS
		                                                   : i == 2 ? TLS_454
		                                                            : GOOD;
		fake_client_tls.peer.not_yet = i == 1;
		deliver();
		assert_int_equal(verdict[0].code / 100, 4);
		if (i == 1)
			assert_non_null(strstr(verdict[0].text, "clock"));
		for (int k = 0; k < 3; k++)
			assert_null(strstr(server[k].log, "MAIL"));
		teardown(state);
		setup(state);
	}
}

static void test_smarthost_pinned(void **state)
{
	for (int i = 0; i < 2; i++) {
		use_smarthosts(NULL);
		smart[0].pinned = smart[1].pinned = true;
		fake_client_tls.peer.sha256[31] = (unsigned char)i;
		fake_client_tls.peer.chain_good = false;
		deliver();
		assert_int_equal(verdict[0].code, i == 0 ? 250 : 454);
		teardown(state);
		setup(state);
	}
}

static void test_smarthost_login(void **state)
{
	use_smarthosts("echo secret");
	deliver();
	expect(250, 0, 0);
	assert_non_null(strstr(server[0].log, "|AUTH PLAIN AG1lAHNlY3JldA==|MAIL"));
	teardown(state);
	setup(state);
	/* The first one's is wrong: the second one gets the mail. */
	use_smarthosts("echo wrong");
	smart[1].user = NULL;
	deliver();
	expect(250, 0, 0);
	expect_level("mx2.example [127.0.0.4]", "TLS_SECURE");
	assert_int_equal(server[0].connections, 1);
	assert_int_equal(server[1].connections, 0);
	uint16_t same = smart[0].port;
	teardown(state);
	setup(state);
	/* And is not asked again with the same. */
	use_smarthosts("echo wrong");
	smart[0].port = same;
	ours_any_port = true;
	conf.smarthosts.count = 1;
	deliver();
	expect(454, 7, 8);
	assert_int_equal(server[0].connections, 0);
	teardown(state);
	setup(state);
	use_smarthosts("exit 1");
	conf.smarthosts.count = 1;
	deliver();
	expect(454, 7, 0);
	assert_non_null(strstr(verdict[0].text, "exit"));
}

static void test_masquerade(void **state)
{
	(void)state;
	static char domain[] = "sender.example";
	struct conf_masquerade m = {.from = {NULL, domain}, .to = {"me", "out.example"}};
	use_three();
	conf.masquerades = (struct conf_masquerades){&m, 1};
	deliver();
	expect(250, 0, 0);
	assert_non_null(strstr(server[0].log, "|MAIL FROM:<me@out.example>"));
}

/* A rewritten sender is nobody's in the rules: the smarthost is that of the true one. */
static void test_rewritten_sender(void **state)
{
	(void)state;
	static char ours[] = "ours.example", theirs[] = "sender.example";
	static struct conf_pattern sender = {NULL, theirs};
	struct conf_masquerade m = {.from = {NULL, ours}, .to = {"me", "out.example"}};
	use_smarthosts(NULL);
	smart[0].sender = smart[1].sender = &sender;
	conf.masquerades = (struct conf_masquerades){&m, 1};
	d.from = "SRS0=ABCDEFGH=AA=sender.example=u@ours.example";
	d.rewritten = true;
	deliver();
	expect(250, 0, 0);
	assert_string_equal(asked, "mx1.example ");
	assert_non_null(
	    strstr(server[0].log, "|MAIL FROM:<SRS0=ABCDEFGH=AA=sender.example=u@ours.example>"));
}

/* ---- one connection for several messages ---- */

/* The same delivery once more. */
static void deliver_again(void)
{
	done = 0;
	memset(verdicts, 0, sizeof verdicts);
	deliver();
}

static void test_kept(void **state)
{
	(void)state;
	use_three();
	for (int i = 0; i < 3; i++) {
		deliver_again();
		expect(250, 0, 0);
		expect_remote("mx1.example [127.0.0.2]");
	}
	assert_int_equal(server[0].connections, 1);
	assert_int_equal(server[0].messages, 3);
	assert_int_equal(server[0].quits, 0);
	assert_string_equal(asked, "mx1.example "); /* once */
	assert_null(strstr(server[0].log, "RSET"));
	d.domain = "127.0.0.4"; /* whatever that is, it is another place */
	deliver_again();
	assert_int_equal(server[0].messages, 3);
	d.domain = "d.example";
	let_go();
	assert_int_equal(server[0].quits, 1);
}

/* Wherever a kept session ends before it has the message, the message is delivered once, at once,
 * over a new one; nothing of the old one is told. */
static void test_kept_and_lost(void **state)
{
	static const struct {
		const char *at, *reply;
	} ends[] = {{"MAIL", NULL},
	            {"MAIL", "421 4.3.2 too many messages\r\n"},
	            {"MAIL", "451 4.7.1 too many messages\r\n"},
	            {"MAIL", "garbage\r\n"},
	            {"RCPT", NULL},
	            {"RCPT", "421 4.3.2 closing\r\n"},
	            {"DATA", NULL},
	            {"DATA", "421 4.3.2 closing\r\n"},
	            {"x", NULL}};
	for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
		use_three();
		env.size = content_size = 500000; /* more than is on the way before the end shows */
		deliver_again();
		server[0].once = ends[i].at;
		server[0].last = ends[i].reply;
		deliver_again();
		expect(250, 0, 0);
		expect_remote("mx1.example [127.0.0.2]");
		assert_int_equal(server[0].connections, 2);
		assert_int_equal(server[0].messages, 2);
		teardown(state);
		setup(state);
	}
}

/* Once the final dot is sent, nothing is tried again: the peer may have the message. */
static void test_kept_lost_after_dot(void **state)
{
	(void)state;
	use_three();
	deliver();
	server[0].once = ".";
	deliver_again();
	expect(451, 4, 2);
	assert_int_equal(server[0].connections, 1);
	assert_int_equal(server[1].connections + server[2].connections, 0);
}

/* A peer that closes, with and without a word, while nothing is sent. */
static void test_kept_closed_by_peer(void **state)
{
	for (int i = 0; i < 2; i++) {
		use_three();
		deliver_again();
		for (struct session *x = session; x < session + SESSIONS; x++) {
			if (!x->used)
				continue;
			if (i == 1)
				io_printf(&x->io, "421 4.4.2 idle\r\n");
			session_end(x);
		}
		turn_until_closed();
		deliver_again();
		expect(250, 0, 0);
		assert_int_equal(server[0].connections, 2);
		assert_int_equal(server[0].quits, 0);
		teardown(state);
		setup(state);
	}
}

static void test_kept_idle(void **state)
{
	(void)state;
	use_three();
	deliver();
	turn_until_closed();
	assert_int_equal(server[0].quits, 1);
	deliver_again();
	assert_int_equal(server[0].connections, 2);
}

static void test_kept_reload(void **state)
{
	(void)state;
	use_three();
	deliver();
	remote_reload();
	deliver_again();
	expect(250, 0, 0);
	assert_int_equal(server[0].connections, 2);
	assert_int_equal(server[0].quits, 1);
}

static void test_kept_for_so_many(void **state)
{
	(void)state;
	use_three();
	for (int i = 0; i < REMOTE_REUSE_MAX + 1; i++)
		deliver_again();
	assert_int_equal(server[0].connections, 2);
	assert_int_equal(server[0].quits, 1);
	assert_int_equal(server[0].messages, REMOTE_REUSE_MAX + 1);
}

/* What the domain has shown meanwhile is demanded of a kept session, too. */
static void test_kept_not_good_enough(void **state)
{
	again(state);
	for (int i = 0; i < 5; i++)
		server[i].mood = GOOD;
	deliver();
	expect_level("mx1.example [127.0.0.2]", "PLAIN");
	level_now = DOMAININFO_TLS_INSECURE;
	deliver_again();
	expect(454, 7, 5);
	assert_int_equal(server[0].messages, 1);
	assert_int_equal(server[0].quits, 2);
	/* And one that has what is demanded now serves. */
	again(state);
	deliver();
	level_now = DOMAININFO_TLS_INSECURE;
	deliver_again();
	expect(250, 0, 0);
	expect_level("mx1.example [127.0.0.2]", "TLS_INSECURE");
	assert_int_equal(server[0].connections, 1);
}

/* A login is for the mail of its smarthost alone. */
static void test_kept_login(void **state)
{
	static char domain[] = "other.example";
	static struct conf_pattern other = {.domain = domain};
	(void)state;
	use_smarthosts("echo secret");
	smart[1].host = smart[0].host;
	smart[1].user = NULL;
	smart[0].sender = &other;
	d.from = "s@other.example";
	for (int i = 0; i < 2; i++)
		deliver_again();
	assert_int_equal(server[0].connections, 1);
	const char *first = strstr(server[0].log, "AUTH PLAIN");
	assert_non_null(first);
	assert_null(strstr(first + 1, "AUTH PLAIN"));
	d.from = "s@sender.example";
	deliver_again();
	expect(250, 0, 0);
	assert_int_equal(server[0].connections, 2);
	assert_null(strstr(first + 1, "AUTH PLAIN"));
	d.from = "s@other.example";
	deliver_again();
	assert_int_equal(server[0].connections, 2);
	assert_int_equal(server[0].messages, 4);
}

/* The second of two smarthosts takes mail while the first is down, and for that message alone. */
static void test_kept_fallback(void **state)
{
	(void)state;
	use_smarthosts(NULL);
	set_mood(0, CLOSED);
	set_mood(1, GREET_554);
	for (int i = 0; i < 2; i++) {
		deliver_again();
		expect(250, 0, 0);
	}
	assert_int_equal(server[2].connections, 2);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_first_mx),
		CASE(test_null_sender),
		CASE(test_fallback),
		CASE(test_fallback_more),
		CASE(test_all_dead),
		CASE(test_a_sender_refused),
		CASE(test_all_permanent),
		CASE(test_one_transient),
		CASE(test_verdict_mix),
		CASE(test_mix_then_next_host),
		CASE(test_message_refused),
		CASE(test_lost_after_dot),
		CASE(test_five_hosts),
		CASE(test_refused_early),
		CASE(test_no_mx),
		CASE(test_dns_failures),
		CASE(test_unresolvable_host),
		CASE(test_loop_by_address),
		CASE(test_loop_all),
		CASE(test_loop_by_name),
		CASE(test_loop_by_greeting),
		CASE(test_literal),
		CASE(test_literal_malformed),
		CASE(test_literal_loop),
		CASE(test_literal_v6),
		CASE(test_via),
		CASE(test_spool_trouble),
		CASE(test_large),
		CASE(test_stop),
		CASE(test_levels),
		CASE(test_plain_after_tls),
		CASE(test_via_port),
		CASE(test_smtputf8),
#if WITH_IDN
		CASE(test_smtputf8_some),
		CASE(test_via_unicode),
#endif
		CASE(test_domaininfo),
		CASE(test_domaininfo_texts),
		CASE(test_domaininfo_next_host),
		CASE(test_domaininfo_raised),
		CASE(test_domaininfo_keys),
		CASE(test_domaininfo_not_of_us),
		CASE(test_sts_enforce),
		CASE(test_sts_testing_and_none),
		CASE(test_sts_without_mx),
		CASE(test_dane_match),
		CASE(test_dane_mismatch),
		CASE(test_dane_unusable),
		CASE(test_dane_failed),
		CASE(test_dane_not_asked),
		CASE(test_dane_canonical),
		CASE(test_stop_in_look_ups),
		CASE(test_smarthost_by_conf_alone),
		CASE(test_smarthost),
		CASE(test_smarthost_fallback),
		CASE(test_smarthost_needs_tls),
		CASE(test_smarthost_pinned),
		CASE(test_smarthost_login),
		CASE(test_masquerade),
		CASE(test_rewritten_sender),
		CASE(test_kept),
		CASE(test_kept_and_lost),
		CASE(test_kept_lost_after_dot),
		CASE(test_kept_closed_by_peer),
		CASE(test_kept_idle),
		CASE(test_kept_reload),
		CASE(test_kept_for_so_many),
		CASE(test_kept_not_good_enough),
		CASE(test_kept_login),
		CASE(test_kept_fallback),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
