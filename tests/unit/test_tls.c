/* test_tls: TLS between two streams of ours, with openssl's client and server, and with hostile
 * peers; certificates and roots. */
#include "tls_help.h"

#if WITH_TLS

static struct tls_roots *roots;

/* ---- helpers ---- */

static struct tls_certs *certs_of(const char *dir)
{
	struct tls_certs *c = tls_certs_open(in_top(dir));
	assert_non_null(c);
	return c;
}

static void secure(struct tls_certs *c, const char *name)
{
	assert_int_equal(io_start_tls(&right.io, tls_accept(c, right.io.watch.fd)), 0);
	assert_int_equal(io_start_tls(&left.io, tls_connect(roots, name, left.io.watch.fd)), 0);
	until(&left.events[IO_SECURED]);
	until(&right.events[IO_SECURED]);
}

/* Both ends speak TLS. */
static void ends_secure(struct tls_certs *c, const char *name)
{
	ends_open();
	secure(c, name);
}

static const struct tls_peer *seen_by(const struct end *e)
{
	return tls_peer(io_tls(&e->io));
}

/* Does the server's certificate of the left end belong to NAME.pem? */
static bool served(const char *name)
{
	char hex[65];
	char want[65] = "";
	char pem[64];
	for (int i = 0; i < 32; i++)
		snprintf(hex + i * 2, 3, "%02X", seen_by(&left)->sha256[i]);
	snprintf(pem, sizeof pem, "%s.pem", name);
	shell("openssl x509 -in %s -noout -fingerprint -sha256 | sed 's/.*=//;s/://g' >print", pem);
	FILE *f = fopen(in_top("print"), "r");
	assert_non_null(f);
	assert_non_null(fgets(want, sizeof want, f));
	fclose(f);
	return memcmp(hex, want, 64) == 0;
}

static void say(struct end *from, struct end *to, const char *text)
{
	assert_int_equal(io_write(&from->io, text, strlen(text)), 0);
	until_got(to, text);
}

/* An accepted connection of `fd`, as the right end. */
static void accept_right(int fd)
{
	int got = accept(fd, NULL, NULL);
	assert_true(got >= 0);
	assert_int_equal(io_nonblock(got), 0);
	end_init(&right, got);
}

/* ---- certificates of ours ---- */

static void test_talk(void **state)
{
	(void)state;
	struct tls_certs *c = certs_of("both");
	assert_int_equal(tls_certs_count(c), 3);
	ends_secure(c, "mail.example.org");
	assert_true(seen_by(&left)->has_cert);
	assert_true(seen_by(&left)->chain_good);
	assert_true(seen_by(&left)->name_good);
	assert_string_equal(seen_by(&left)->why, "");
	assert_string_equal(seen_by(&right)->sni, "mail.example.org");
	assert_string_equal(seen_by(&right)->version, seen_by(&left)->version);
	assert_string_equal(seen_by(&right)->cipher, seen_by(&left)->cipher);
	assert_int_equal(strncmp(seen_by(&left)->version, "TLSv1.", 6), 0);
	assert_non_null(strstr(seen_by(&left)->cipher, "CHACHA20"));
	assert_false(seen_by(&right)->has_cert);
	assert_true(served("ec")); /* before the RSA one of the same name */
	say(&left, &right, "EHLO you\r\n");
	say(&right, &left, "250 me\r\n");
	assert_int_equal(left.events[IO_DRAINED], 1);
	ends_close();
	tls_certs_close(c);
}

static void test_sni(void **state)
{
	(void)state;
	static const struct {
		const char *name, *cert, *sni;
	} cases[] = {
	    {"OTHER.example.net", "other", "other.example.net"},
	    {"mail.example.org.", "ec", "mail.example.org"},
	    {"a.wild.example.org", "rsa", "a.wild.example.org"},
	    {"a.b.wild.example.org", "ec", "a.b.wild.example.org"},
	    {"wild.example.org", "ec", "wild.example.org"},
	    {"nobody.example.com", "ec", "nobody.example.com"}, /* default: the first's name */
	    {"under_score.example", "ec", "under_score.example"},
	    {"sp ace\r\n", "ec", ""},
	    {"..", "ec", ""},
	    {"127.0.0.1", "ec", ""},
	};
	struct tls_certs *c = certs_of("both");
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		ends_secure(c, cases[i].name);
		assert_string_equal(seen_by(&right)->sni, cases[i].sni);
		assert_true(served(cases[i].cert));
		ends_close();
	}
	tls_certs_close(c);
}

static void test_certs_that_do_not_load(void **state)
{
	(void)state;
	site("bad", "a-mismatch", "rsa.pem", "ec");
	site("bad", "b-good", "other.pem", "other");
	site("bad", "c-swapped", "other.key", "other");
	shell("mkdir -p bad/d-empty bad/e-half bad/f-dirs/fullchain.pem bad/f-dirs/privkey.pem");
	shell("cp rsa.pem bad/e-half/fullchain.pem && echo hello >bad/README");
	shell("mkdir bad/g-null && : >bad/g-null/fullchain.pem && : >bad/g-null/privkey.pem");
	shell("mkdir bad/h-long && head -c 400000 /dev/zero >bad/h-long/fullchain.pem");
	shell("ln -s ../rsa-only/x bad/i-link && ln -s nowhere bad/j-dangling");
	shell("mkdir bad/.hidden && cp bad/b-good/* bad/.hidden/");
	struct tls_certs *c = certs_of("bad");
	assert_int_equal(tls_certs_count(c), 2);
	assert_int_equal(tls_certs_refresh(c), 0);
	ends_secure(c, "mail.example.org");
	assert_true(served("rsa"));
	ends_close();
	tls_certs_close(c);
	c = certs_of("there is no such directory");
	assert_int_equal(tls_certs_count(c), 0);
	assert_null(tls_accept(c, 0));
	assert_int_equal(io_start_tls(&left.io, NULL), -1);
	tls_certs_close(c);
	tls_certs_close(NULL);
}

static void test_refresh(void **state)
{
	(void)state;
	site("fresh", "x", "rsa.pem", "rsa");
	struct tls_certs *c = certs_of("fresh");
	assert_int_equal(tls_certs_refresh(c), 0);
	ends_secure(c, "mail.example.org");
	assert_true(served("rsa"));

	/* A pair whose key has not come yet keeps the old one, and so does a broken one. */
	shell("cat ec.pem >fresh/x/fullchain.pem");
	assert_int_equal(tls_certs_refresh(c), 0);
	assert_int_equal(tls_certs_count(c), 1);
	shell("echo rubbish >fresh/x/fullchain.pem; rm fresh/x/privkey.pem");
	assert_int_equal(tls_certs_refresh(c), 0);
	assert_int_equal(tls_certs_count(c), 1);

	/* The connection goes on with what it began with. */
	site("fresh", "x", "ec.pem", "ec");
	assert_int_equal(tls_certs_refresh(c), 1);
	assert_int_equal(tls_certs_refresh(c), 0);
	say(&left, &right, "still there?");
	say(&right, &left, "yes");
	ends_close();
	ends_secure(c, "mail.example.org");
	assert_true(served("ec"));

	/* A mode put right leaves time and size of the content as they are. */
	shell("sleep 0.05; chmod 400 fresh/x/privkey.pem");
	assert_int_equal(tls_certs_refresh(c), 1);

	site("fresh", "a", "other.pem", "other");
	assert_int_equal(tls_certs_refresh(c), 1);
	assert_int_equal(tls_certs_count(c), 2);
	shell("rm -r fresh/a");
	assert_int_equal(tls_certs_refresh(c), 0);
	assert_int_equal(tls_certs_count(c), 1);
	shell("rm -r fresh/x");
	tls_certs_refresh(c);
	assert_int_equal(tls_certs_count(c), 0);
	assert_null(tls_accept(c, -1));
	tls_certs_close(c); /* before the connection */
	say(&left, &right, "and still?");
	ends_close();
}

/* ---- what a peer's certificate is worth ---- */

#define DAY 86400

static void test_judgement(void **state)
{
	(void)state;
	static const struct {
		const char *certs, *name;
		int64_t moved;
		bool chain, host, not_yet;
		const char *why;
	} cases[] = {
	    {"both", "mail.example.org", 0, true, true, false, ""},
	    {"both", "nobody.example.com", 0, true, false, false, "another name"},
	    {"rsa-only", "x.wild.example.org", 0, true, true, false, ""},
	    {"rsa-only", "x.y.wild.example.org", 0, true, false, false, "another name"},
	    {"other-only", "127.0.0.1", 0, true, true, false, ""},
	    {"other-only", "::1", 0, true, true, false, ""},
	    {"other-only", "127.0.0.2", 0, true, false, false, "another name"},
	    {"rsa-only", "127.0.0.1", 0, true, false, false, "another name"},
	    {"deep-only", "deep.example.org", 0, true, true, false, ""},
	    {"broken-chain", "deep.example.org", 0, false, true, false, "not trusted"},
	    {"self-only", "self.example.org", 0, false, true, false, "self-signed"},
	    {"self-only", "example.org", 0, false, false, false, "for another name, self-signed"},
	    {"both", "mail.example.org", 60 * DAY, false, true, false, "expired"},
	    {"both", "mail.example.org", -5 * DAY, false, true, true, "not valid yet"},
	    {"both", "nobody.example.com", -5 * DAY, false, false, false, "not valid yet"},
	    {"self-only", "self.example.org", -5 * DAY, false, true, false, "not valid yet"},
	    {"both", "mail.example.org", INT64_MIN, false, true, true, "not valid yet"},
	    {"self-only", "self.example.org", INT64_MIN, false, true, false, "self-signed"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct tls_certs *c = certs_of(cases[i].certs);
		clock_moved = cases[i].moved;
		ends_secure(c, cases[i].name);
		const struct tls_peer *p = seen_by(&left);
		if (p->chain_good != cases[i].chain || p->name_good != cases[i].host ||
		    p->not_yet != cases[i].not_yet || !strstr(p->why, cases[i].why))
			print_error("case %zu: %s\n", i, p->why);
		assert_int_equal(p->chain_good, cases[i].chain);
		assert_int_equal(p->name_good, cases[i].host);
		assert_int_equal(p->not_yet, cases[i].not_yet);
		assert_non_null(strstr(p->why, cases[i].why));
		assert_int_equal(p->why[0] == '\0', p->chain_good && p->name_good);
		clock_moved = 0;
		ends_close();
		tls_certs_close(c);
	}
}

static bool trusted_with(struct tls_roots *r)
{
	struct tls_certs *c = certs_of("both");
	struct tls_roots *saved = roots;
	roots = r;
	ends_secure(c, "mail.example.org");
	bool good = seen_by(&left)->chain_good;
	if (tls_roots_count(r) == 0)
		assert_non_null(strstr(seen_by(&left)->why, "no root certificates"));
	roots = saved;
	ends_close();
	tls_certs_close(c);
	return good;
}

static void test_roots(void **state)
{
	(void)state;
	struct tls_roots *r = tls_roots_open(in_top("no such file"));
	assert_int_equal(tls_roots_count(r), 0);
	assert_false(trusted_with(r));
	/* It comes, in the middle of other things; and it goes. */
	shell("(echo some words; cat self.pem rsa.key; echo -----BEGIN CERTIFICATE-----; echo AAAA;"
	      "echo -----END CERTIFICATE-----; echo -----BEGIN CERTIFICATE-----; cat ca.pem ca.pem;"
	      "sed 's/$/\\r/' inter.pem; head -c 20000 /dev/zero | tr '\\0' 'A') >'no such file'");
	assert_true(trusted_with(r));
	assert_int_equal(tls_roots_count(r), 3);
	shell("cp self.pem 'no such file'");
	assert_false(trusted_with(r));
	assert_int_equal(tls_roots_count(r), 1);
	tls_roots_close(r);
	tls_roots_close(NULL);

	/* A directory, with the same certificate under several names. */
	shell("mkdir dir && cp ca.pem dir/one.pem && ln -s one.pem dir/12345678.0 && cat ca.pem "
	      "self.pem inter.pem >dir/bundle.crt && mkdir dir/sub && ln -s none dir/dangling");
	r = tls_roots_open(in_top("dir"));
	assert_int_equal(tls_roots_count(r), 3);
	assert_true(trusted_with(r));
	tls_roots_close(r);

	unsetenv("SSL_CERT_FILE");
	setenv("SSL_CERT_DIR", in_top("dir"), 1);
	r = tls_roots_open(NULL);
	assert_int_equal(tls_roots_count(r), 3);
	assert_true(trusted_with(r));
	setenv("SSL_CERT_FILE", in_top("self.pem"), 1);
	assert_false(trusted_with(r));
	assert_int_equal(tls_roots_count(r), 1);
	tls_roots_close(r);
	unsetenv("SSL_CERT_FILE");
	unsetenv("SSL_CERT_DIR");
}

/* Other roots while running; what cannot be read trusts nobody. */
static void test_other_roots(void **state)
{
	(void)state;
	struct tls_roots *r = tls_roots_open(in_top("ca.pem"));
	assert_true(trusted_with(r));
	assert_int_equal(tls_roots_set(r, in_top("self.pem")), 0);
	assert_false(trusted_with(r));
	assert_int_equal(tls_roots_set(r, in_top("none at all")), 0);
	assert_int_equal(tls_roots_count(r), 0);
	assert_false(trusted_with(r));
	setenv("SSL_CERT_FILE", in_top("ca.pem"), 1);
	assert_int_equal(tls_roots_set(r, NULL), 0);
	assert_true(trusted_with(r));
	unsetenv("SSL_CERT_FILE");
	tls_roots_close(r);
}

/* A certificate without an issuer among the roots but with its name: signatures decide. */
static void test_root_of_the_same_name(void **state)
{
	(void)state;
	shell("openssl req -config cnf -x509 -newkey " KEY_EC
	      " -nodes -keyout fake.key -out fake.pem "
	      "-days 3650 -subj '/O=CHASQ/CN=test ca' -addext basicConstraints=critical,CA:true");
	struct tls_roots *r = tls_roots_open(in_top("fake.pem"));
	assert_false(trusted_with(r));
	/* The real one stands behind it. */
	shell("cat ca.pem >>fake.pem");
	assert_true(trusted_with(r));
	tls_roots_close(r);
}

/* The root's name is written in another type of string, and in other letters, than the issuer's. */
static void test_root_in_other_letters(void **state)
{
	(void)state;
	shell("printf '[req]\\ndistinguished_name=dn\\nstring_mask=nombstr\\n[dn]\\n' >cnf2");
	shell("openssl req -config cnf2 -x509 -key ca.key -out type.pem -days 30 -subj "
	      "'/O=CHASQ/CN=test ca' -addext basicConstraints=critical,CA:true");
	shell("openssl asn1parse -in type.pem | grep -q 'PRINTABLESTRING *:test ca'");
	shell("openssl asn1parse -in ca.pem | grep -q 'UTF8STRING *:Test CA'");
	struct tls_roots *r = tls_roots_open(in_top("type.pem"));
	assert_int_equal(tls_roots_count(r), 1);
	assert_true(trusted_with(r));
	tls_roots_close(r);
}

static void test_usual_roots(void **state)
{
	(void)state;
	if (access(TLS_ROOTS_FILE, R_OK))
		skip();
	shell("grep -c BEGIN %s >number", TLS_ROOTS_FILE);
	FILE *f = fopen(in_top("number"), "r");
	size_t wanted = 0;
	assert_int_equal(fscanf(f, "%zu", &wanted), 1);
	fclose(f);
	struct tls_roots *r = tls_roots_open("");
	assert_true(tls_roots_count(r) * 100 >= wanted * 95);
	assert_true(tls_roots_count(r) * 16 <= 8192);
	tls_roots_close(r);
	r = tls_roots_open(TLS_ROOTS_DIR);
	assert_true(tls_roots_count(r) * 100 >= wanted * 95);
	tls_roots_close(r);
}

/* ---- streams ---- */

static struct {
	size_t sent, taken, total;
	bool slow;
} flow[2];

static unsigned char pattern(size_t i)
{
	return (unsigned char)(i * 7 + (i >> 8) + (i >> 16));
}

static void flow_fill(struct end *e, int n)
{
	unsigned char p[3000];
	while (flow[n].sent < flow[n].total && io_room(&e->io) > sizeof p) {
		size_t k = flow[n].total - flow[n].sent;
		k = k < sizeof p ? k : sizeof p;
		for (size_t i = 0; i < k; i++)
			p[i] = pattern(flow[n].sent + i);
		assert_int_equal(io_write(&e->io, p, k), 0);
		flow[n].sent += k;
	}
}

static void flow_take(struct end *e, int n, size_t most)
{
	const unsigned char *p = (const unsigned char *)buf_data(&e->io.in);
	size_t k = e->io.in.len < most ? e->io.in.len : most;
	for (size_t i = 0; i < k; i++)
		assert_int_equal(p[i], pattern(flow[n].taken + i));
	flow[n].taken += k;
	buf_consume(&e->io.in, k);
	io_update(&e->io);
}

static void on_flow(struct end *e, enum io_event ev)
{
	int n = e == &right;
	assert_true(ev == IO_READ || ev == IO_DRAINED || ev == IO_SECURED);
	if (ev == IO_READ && !flow[!n].slow)
		flow_take(e, !n, SIZE_MAX);
	else if (ev == IO_DRAINED)
		flow_fill(e, n);
}

static void test_much_both_ways(void **state)
{
	(void)state;
	struct tls_certs *c = certs_of("both");
	ends_secure(c, "mail.example.org");
	memset(flow, 0, sizeof flow);
	size_t total = (10 << 20) / valgrind_step(5);
	flow[0].total = flow[1].total = total;
	flow[0].slow = true; /* right takes what left says in its own time */
	left.on = right.on = on_flow;
	flow_fill(&left, 0);
	flow_fill(&right, 1);
	int64_t end = now_ms() + 60000;
	for (int i = 0; flow[0].taken + flow[1].taken < 2 * total && now_ms() < end; i++) {
		assert_int_equal(loop_turn(1), 0);
		if (i % 3 == 0)
			flow_take(&right, 0, 5000);
		if (flow[0].sent == flow[0].total && i % 100 == 0)
			io_pause(&left.io, i % 200 == 0);
		if (flow[0].taken > 1 << 20)
			flow[0].slow = false;
	}
	io_pause(&left.io, false);
	while (flow[1].taken < total && now_ms() < end)
		assert_int_equal(loop_turn(1), 0);
	assert_int_equal(flow[0].taken, total);
	assert_int_equal(flow[1].taken, total);
	assert_int_equal(left.events[IO_ERROR] + right.events[IO_ERROR], 0);
	ends_close();
	tls_certs_close(c);
}

/* A record that is bigger than `in` is there for the next turns though the socket is empty. */
static void test_decrypted_already(void **state)
{
	(void)state;
	static char big[16000];
	struct tls_certs *c = certs_of("both");
	ends_secure(c, "mail.example.org");
	memset(big, 'b', sizeof big);
	right.io.in.max = 1000;
	io_pause(&right.io, true);
	assert_int_equal(io_write(&left.io, big, sizeof big), 0);
	until(&left.events[IO_DRAINED]);
	turns(3);
	assert_int_equal(right.got.len, 0);
	io_pause(&right.io, false);
	for (int i = 0; i < 40 && right.got.len < sizeof big; i++)
		assert_int_equal(loop_turn(100), 0);
	assert_int_equal(right.got.len, sizeof big);
	/* And then there is nothing to do. */
	int64_t start = now_ms();
	assert_int_equal(loop_turn(30), 0);
	assert_true(now_ms() - start >= 25);
	ends_close();
	tls_certs_close(c);
}

static void test_end_of_both(void **state)
{
	(void)state;
	struct tls_certs *c = certs_of("both");
	ends_secure(c, "mail.example.org");
	io_write(&left.io, "QUIT\r\n", 6);
	io_finish(&left.io);
	until(&right.events[IO_EOF]);
	assert_string_equal(buf_str(&right.got), "QUIT\r\n");
	io_write(&right.io, "221 bye\r\n", 9);
	io_finish(&right.io);
	until(&left.events[IO_CLOSED]);
	until(&right.events[IO_CLOSED]);
	assert_null(io_tls(&right.io));
	ends_close();

	/* One that is just gone. */
	ends_secure(c, "mail.example.org");
	io_close(&left.io);
	until(&right.events[IO_EOF]);
	ends_close();
	tls_certs_close(c);
}

/* The end does not come before what was said, however slow the peer takes it. */
static void test_end_with_much_unsent(void **state)
{
	(void)state;
	struct tls_certs *c = certs_of("both");
	ends_secure(c, "mail.example.org");
	int small = 4096;
	setsockopt(left.io.watch.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
	memset(flow, 0, sizeof flow);
	flow[0].total = 60000;
	right.on = on_flow;
	flow_fill(&left, 0);
	io_finish(&left.io);
	until(&right.events[IO_READ]);
	int64_t end = now_ms() + 5000;
	right.on = NULL;
	while (!right.events[IO_EOF] && now_ms() < end)
		assert_int_equal(loop_turn(10), 0);
	assert_int_equal(flow[0].taken + right.got.len, flow[0].sent);
	assert_int_equal(flow[0].sent, 60000);
	ends_close();
	tls_certs_close(c);
}

/* ---- STARTTLS ---- */

static struct tls_certs *door;

/* A server that knows one command. */
static void on_door(struct end *e, enum io_event ev)
{
	if (ev != IO_READ)
		return;
	const char *line = buf_str(&e->io.in);
	if (!io_tls(&e->io) && strstr(line, "EHLO")) {
		buf_consume(&e->io.in, e->io.in.len);
		io_printf(&e->io, "250-me\r\n250 STARTTLS\r\n");
	} else if (!io_tls(&e->io) && strstr(line, "STARTTLS\r\n")) {
		io_printf(&e->io, "220 go ahead\r\n");
		assert_int_equal(io_start_tls(&e->io, tls_accept(door, e->io.watch.fd)), 0);
		assert_int_equal(e->io.in.len, 0);
	} else {
		buf_append(&e->got, buf_data(&e->io.in), e->io.in.len);
		buf_consume(&e->io.in, e->io.in.len);
	}
	io_update(&e->io);
}

/* What stands behind STARTTLS in the clear is never a command (RFC 3207 5, CVE-2011-0411). */
static void test_commands_injected(void **state)
{
	(void)state;
	door = certs_of("both");
	ends_open();
	right.on = on_door;
	io_printf(&left.io, "STARTTLS\r\nRSET\r\nMAIL FROM:<evil@example.com>\r\n");
	until_got(&left, "220 go ahead\r\n");
	assert_int_equal(
	    io_start_tls(&left.io, tls_connect(roots, "mail.example.org", left.io.watch.fd)), 0);
	assert_int_equal(io_start_tls(&left.io, NULL), -1);
	/* What is written before the handshake is done goes under TLS. */
	io_printf(&left.io, "NOOP\r\n");
	io_flush(&left.io);
	until(&left.events[IO_SECURED]);
	until_got(&right, "NOOP\r\n");
	assert_string_equal(buf_str(&right.got), "NOOP\r\n");
	/* A second time is refused. */
	assert_int_equal(io_start_tls(&left.io, tls_connect(roots, "x.example", -1)), -1);
	ends_close();

	/* In a packet of its own it ends the handshake. */
	ends_open();
	right.on = on_door;
	io_printf(&left.io, "STARTTLS\r\n");
	until_got(&left, "220 go ahead\r\n");
	io_printf(&left.io, "MAIL FROM:<evil@example.com>\r\n");
	until(&right.events[IO_ERROR]);
	assert_int_equal(right.io.error, EPROTO);
	assert_int_equal(right.got.len, 0);
	assert_string_not_equal(tls_error(io_tls(&right.io)), "");
	assert_int_equal(right.events[IO_SECURED], 0);
	ends_close();
	tls_certs_close(door);
}

static void on_220(struct end *e, enum io_event ev)
{
	if (ev == IO_READ && !io_tls(&e->io))
		assert_int_equal(
		    io_start_tls(&e->io, tls_connect(roots, "mail.example.org", e->io.watch.fd)),
		    0);
	else if (ev == IO_READ)
		buf_append(&e->got, buf_data(&e->io.in), e->io.in.len);
	buf_consume(&e->io.in, e->io.in.len);
	io_update(&e->io);
}

/* CVE-2021-38371 and its kin: answers that were not asked for under TLS. */
static void test_replies_injected(void **state)
{
	(void)state;
	struct tls_certs *c = certs_of("both");
	ends_open();
	left.on = on_220;
	io_printf(&right.io, "220 go\r\n250 I am trusted\r\n");
	assert_int_equal(io_start_tls(&right.io, tls_accept(c, right.io.watch.fd)), 0);
	until(&left.events[IO_SECURED]);
	io_printf(&right.io, "250 really\r\n");
	until_got(&left, "250 really\r\n");
	assert_string_equal(buf_str(&left.got), "250 really\r\n");
	ends_close();
	tls_certs_close(c);
}

/* An end before the handshake sends what was said in the clear, and no more. */
static void test_end_before_the_handshake(void **state)
{
	(void)state;
	struct tls_certs *c = certs_of("both");
	ends_open();
	io_printf(&right.io, "220 go\r\n");
	assert_int_equal(io_start_tls(&right.io, tls_accept(c, right.io.watch.fd)), 0);
	io_printf(&right.io, "this is secret");
	io_finish(&right.io);
	until(&left.events[IO_EOF]);
	assert_string_equal(buf_str(&left.got), "220 go\r\n");
	io_close(&left.io);
	until(&right.events[IO_CLOSED]);
	ends_close();
	tls_certs_close(c);
}

/* Tests and fuzzers use streams without a descriptor. */
static void test_detached(void **state)
{
	(void)state;
	struct tls_certs *c = certs_of("both");
	end_init(&right, -1);
	assert_int_equal(io_start_tls(&right.io, tls_accept(c, -1)), 0);
	assert_non_null(io_tls(&right.io));
	assert_string_equal(seen_by(&right)->sni, "");
	assert_string_equal(seen_by(&right)->why, "");
	io_printf(&right.io, "250 ok\r\n");
	assert_int_equal(right.io.out.len, 8);
	io_finish(&right.io);
	until(&right.events[IO_CLOSED]);
	end_clear(&right);
	tls_certs_close(c);
}

/* ---- peers that are slow or hostile ---- */

/* Moves one byte each way between two sockets; returns how many. */
static size_t carry(int a, int b)
{
	char ch;
	size_t n = 0;
	if (read(a, &ch, 1) == 1)
		n += write(b, &ch, 1) == 1;
	if (read(b, &ch, 1) == 1)
		n += write(a, &ch, 1) == 1;
	return n;
}

static void test_byte_by_byte(void **state)
{
	(void)state;
	int p[2];
	int q[2];
	struct tls_certs *c = certs_of("both");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, q), 0);
	end_init(&left, p[0]);
	end_init(&right, q[0]);
	assert_int_equal(io_start_tls(&right.io, tls_accept(c, right.io.watch.fd)), 0);
	assert_int_equal(
	    io_start_tls(&left.io, tls_connect(roots, "mail.example.org", left.io.watch.fd)), 0);
	io_printf(&left.io, "EHLO slow\r\n");
	size_t bytes = 0;
	for (int i = 0; i < 40000 && !strstr(buf_str(&right.got), "slow\r\n"); i++) {
		bytes += carry(p[1], q[1]);
		turns(1);
		if (bytes % 500 == 0 && bytes > 0 && i % 50 == 0) {
			/* Half a record is no reason to be awake. */
			turns(3);
			int64_t start = now_ms();
			assert_int_equal(loop_turn(12), 0);
			assert_true(now_ms() - start >= 10);
		}
	}
	assert_string_equal(buf_str(&right.got), "EHLO slow\r\n");
	assert_true(bytes > 700);
	io_finish(&left.io);
	for (int i = 0; i < 1000 && !right.events[IO_EOF]; i++) {
		carry(p[1], q[1]);
		turns(1);
	}
	assert_int_equal(right.events[IO_EOF], 1);
	close(p[1]);
	close(q[1]);
	ends_close();
	tls_certs_close(c);
}

static int raw; /* the hostile peer's end */

/* The other end of one of ours is a plain socket. */
static void open_raw(struct end *e)
{
	int p[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p), 0);
	end_init(e, p[0]);
	raw = p[1];
}

static void start_server(struct tls_certs *c)
{
	open_raw(&right);
	assert_int_equal(io_start_tls(&right.io, tls_accept(c, right.io.watch.fd)), 0);
}

static void put_raw(const void *p, size_t n)
{
	assert_int_equal(write(raw, p, n), n);
}

static void test_no_tls_at_all(void **state)
{
	(void)state;
	static const char *const said[] = {
	    "EHLO printer\r\n",
	    "GET / HTTP/1.0\r\n\r\n",
	    "220 hello\r\n",
	    "\x16\x03\x01\xff\xff",
	    "\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff",
	    "\x80\x2e\x01\x03\x01\x15\x10",
	    "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	    "",
	};
	struct tls_certs *c = certs_of("both");
	for (size_t i = 0; i < 2 * sizeof said / sizeof said[0]; i++) {
		struct end *e = i % 2 ? &left : &right;
		open_raw(e);
		int fd = e->io.watch.fd;
		struct tls *t = i % 2 ? tls_connect(roots, "a.example", fd) : tls_accept(c, fd);
		assert_int_equal(io_start_tls(&e->io, t), 0);
		put_raw(said[i / 2], strlen(said[i / 2]));
		shutdown(raw, SHUT_WR);
		until(&e->events[IO_ERROR]);
		assert_int_equal(e->io.error, EPROTO);
		assert_string_not_equal(tls_error(io_tls(&e->io)), "");
		assert_int_equal(e->events[IO_READ] + e->events[IO_SECURED], 0);
		io_finish(&e->io);
		close(raw);
		until(&e->events[IO_CLOSED]);
		end_clear(e);
	}
	tls_certs_close(c);
}

/* The first flight of a client of ours. */
static size_t hello(unsigned char *p, size_t size)
{
	open_raw(&left);
	assert_int_equal(
	    io_start_tls(&left.io, tls_connect(roots, "mail.example.org", left.io.watch.fd)), 0);
	turns(3);
	ssize_t n = read(raw, p, size);
	assert_true(n > 100);
	close(raw);
	end_clear(&left);
	return (size_t)n;
}

#define MANY 8

/* How many of the sockets have an answer to read. */
static int answered(const int *fds)
{
	int n = 0;
	for (int i = 0; i < MANY; i++) {
		char c;
		n += recv(fds[i], &c, 1, MSG_PEEK) == 1;
	}
	return n;
}

/* A handshake at a time has its step, and the others have theirs between two of them. */
static void test_a_step_a_turn(void **state)
{
	(void)state;
	static struct end many[MANY];
	int fds[MANY];
	unsigned char first[2048];
	size_t n = hello(first, sizeof first);
	struct tls_certs *c = certs_of("both");
	for (int i = 0; i < MANY; i++) {
		open_raw(&many[i]);
		fds[i] = raw;
		struct io *io = &many[i].io;
		assert_int_equal(io_start_tls(io, tls_accept(c, io->watch.fd)), 0);
		put_raw(first, n);
	}
	ends_open();
	int done = 0;
	for (int turn = 1; done < MANY - 1 && turn < 10 * MANY; turn++) {
		size_t heard = right.got.len;
		assert_int_equal(write(left.io.watch.fd, "x", 1), 1);
		turns(1);
		int now = answered(fds);
		assert_in_range(now - done, 0, 1);
		assert_int_equal(right.got.len, heard + 1);
		/* One of those that wait goes away. */
		if (now > done && now == 2)
			end_clear(&many[MANY - 2]);
		done = now;
	}
	assert_int_equal(done, MANY - 1);
	for (int i = 0; i < MANY; i++) {
		end_clear(&many[i]);
		close(fds[i]);
	}
	ends_close();
	tls_certs_close(c);
}

static void test_damaged_hello(void **state)
{
	(void)state;
	unsigned char good[2048];
	unsigned char bad[2048];
	size_t n = hello(good, sizeof good);
	struct tls_certs *c = certs_of("both");
	srand(1);
	for (size_t i = 0; i < 400; i += valgrind_step(7)) {
		memcpy(bad, good, n);
		for (int k = rand() % 4; k >= 0; k--)
			bad[i % 3 ? (size_t)rand() % n : 5 + i % (n - 5)] = (unsigned char)rand();
		start_server(c);
		put_raw(bad, i % 5 ? n : (size_t)rand() % n);
		shutdown(raw, SHUT_WR);
		for (int k = 0; k < 20 && !right.events[IO_ERROR]; k++)
			turns(1);
		assert_int_equal(right.events[IO_ERROR], 1);
		assert_int_equal(right.events[IO_SECURED], 0);
		close(raw);
		end_clear(&right);
	}
	tls_certs_close(c);
}

static void test_reset_in_the_handshake(void **state)
{
	(void)state;
	unsigned char first[2048];
	size_t n = hello(first, sizeof first);
	struct tls_certs *c = certs_of("both");
	for (size_t part = 0; part < 2; part++) {
		int port;
		int fd = listen_tcp(&port);
		raw = connect_tcp(port);
		accept_right(fd);
		close(fd);
		assert_int_equal(io_start_tls(&right.io, tls_accept(c, right.io.watch.fd)), 0);
		put_raw(first, part ? n : n / 2);
		for (int i = 0; i < 5; i++)
			assert_int_equal(loop_turn(5), 0);
		struct linger now = {1, 0};
		setsockopt(raw, SOL_SOCKET, SO_LINGER, &now, sizeof now);
		close(raw);
		until(&right.events[IO_ERROR]);
		assert_int_equal(right.io.error, EPROTO);
		assert_string_equal(tls_error(io_tls(&right.io)), strerror(ECONNRESET));
		end_clear(&right);
	}
	tls_certs_close(c);
}

/* Damage after the handshake. */
static void test_forged_record(void **state)
{
	(void)state;
	static const char record[] = "\x17\x03\x03\x00\x20"
	                             "0123456789012345678901234567890";
	struct tls_certs *c = certs_of("both");
	ends_secure(c, "mail.example.org");
	assert_int_equal(write(left.io.watch.fd, record, 37), 37);
	until(&right.events[IO_ERROR]);
	assert_int_equal(right.io.error, EPROTO);
	assert_string_not_equal(tls_error(io_tls(&right.io)), "");
	assert_int_equal(right.got.len, 0);
	io_printf(&right.io, "250 too late\r\n");
	io_finish(&right.io);
	until(&right.events[IO_CLOSED]);
	ends_close();
	tls_certs_close(c);
}

/* ---- openssl as the client ---- */

struct ssl_client {
	const char *certs, *args, *say, *sees;
	const char *cipher; /* in what we know of the connection; NULL: the handshake fails */
};

static void on_echo(struct end *e, enum io_event ev)
{
	if (ev == IO_SECURED)
		io_printf(&e->io, "220 hello under TLS\r\n");
	else
		on_door(e, ev);
}

static void run_ssl_client(const struct ssl_client *s)
{
	char cmd[512];
	struct child child = {0, -1};
	int port;
	int fd = listen_tcp(&port);
	door = certs_of(s->certs);
	snprintf(cmd, sizeof cmd,
	         "exec openssl s_client -connect 127.0.0.1:%d -CAfile ca.pem "
	         "-verify_return_error %s",
	         port, s->args);
	child_start(&child, cmd);
	accept_right(fd);
	right.on = on_echo;
	if (strstr(s->args, "-starttls"))
		io_printf(&right.io, "220 me\r\n");
	else
		io_start_tls(&right.io, tls_accept(door, right.io.watch.fd));
	if (s->cipher) {
		until(&right.events[IO_SECURED]);
		assert_non_null(strstr(seen_by(&right)->cipher, s->cipher));
		/* OpenSSL ends a renegotiation in which data arrives. */
		until_child("220 hello under TLS");
		child_say(&child, s->say);
		until_child(s->sees);
	} else {
		until(&right.events[IO_ERROR]);
		until_child(s->sees);
	}
	child_end(&child);
	if (s->cipher && !strstr(s->sees, "renegotiation"))
		until(&right.events[IO_EOF]);
	assert_int_equal(right.events[IO_SECURED], s->cipher != NULL);
	close(fd);
	end_clear(&right);
	tls_certs_close(door);
}

static void test_openssl_client(void **state)
{
	(void)state;
	static const struct ssl_client cases[] = {
	    {"both", "-tls1_2 -servername mail.example.org -verify_hostname mail.example.org",
	     "x\n", "220 hello under TLS", "ECDHE-ECDSA-WITH-CHACHA20"},
	    {"both", "-servername mail.example.org -verify_hostname mail.example.org", "x\n",
	     "Verify return code: 0", "-SHA"},
	    {"both", "-tls1_2 -sigalgs RSA+SHA256:RSA-PSS+SHA256 -cipher aRSA", "x\n",
	     "220 hello under TLS", "ECDHE-RSA-WITH-CHACHA20"},
	    {"rsa-only", "-tls1_2 -cipher AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256", "x\n",
	     "220 hello under TLS", "ECDHE-RSA-WITH-AES-128-GCM"},
	    {"rsa-only", "-tls1_2 -cipher ECDHE-RSA-AES256-SHA@SECLEVEL=0", "x\n",
	     "220 hello under TLS", "ECDHE-RSA-WITH-AES-256-CBC"},
	    {"both",
	     "-tls1_2 -starttls smtp -servername other.example.net -verify_hostname "
	     "other.example.net",
	     "x\n", "220 hello under TLS", "ECDHE-ECDSA"},
	    {"deep-only", "-tls1_2 -servername deep.example.org -verify_hostname deep.example.org",
	     "x\n", "220 hello under TLS", "WITH-CHACHA20"},
	    {"both", "-tls1_2 -servername mail.example.org -cipher ALL:!ECDHE@SECLEVEL=0", "",
	     "alert", NULL},
	    {"both", "-tls1_1 -cipher ALL@SECLEVEL=0", "", "alert", NULL},
	    {"self-only", "-tls1_2", "", "self-signed certificate", NULL},
	    {"both", "-tls1_2 -servername mail.example.org", "R\n", "renegotiation", "ECDHE-ECDSA"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		run_ssl_client(&cases[i]);
}

/* ---- sessions taken up again ---- */

/* A client that comes to certs with the session it has in a file, or begins one. Returns whether
 * the session went on; both sides agree on it. */
static bool come_again(struct tls_certs *certs, const char *args)
{
	char cmd[512];
	struct child child = {0, -1};
	int port;
	int fd = listen_tcp(&port);
	snprintf(cmd, sizeof cmd, "exec openssl s_client -connect 127.0.0.1:%d -CAfile ca.pem %s",
	         port, args);
	child_start(&child, cmd);
	accept_right(fd);
	right.on = on_echo;
	io_start_tls(&right.io, tls_accept(certs, right.io.watch.fd));
	until(&right.events[IO_SECURED]);
	until_child("220 hello under TLS");
	until_child("Cipher is");
	bool resumed = seen_by(&right)->resumed;
	assert_int_equal(resumed, strstr(child_out(), "\nReused, TLSv1.2") != NULL);
	assert_int_equal(!resumed, strstr(child_out(), "\nNew, TLSv1.") != NULL);
	child_end(&child);
	close(fd);
	end_clear(&right);
	return resumed;
}

#define HERE "-tls1_2 -servername mail.example.org"

static void test_session_goes_on(void **state)
{
	(void)state;
	struct tls_certs *c = certs_of("both");
	assert_false(come_again(c, HERE " -sess_out session"));
	assert_true(come_again(c, HERE " -sess_in session"));
	assert_true(come_again(c, HERE " -sess_in session"));
	/* Not for another name, nor without one, nor with other certificates, nor older ones. */
	assert_false(come_again(c, "-tls1_2 -servername other.example.net -sess_in session"));
	assert_false(come_again(c, "-tls1_2 -servername x.wild.example.org -sess_in session"));
	assert_false(come_again(c, "-tls1_2 -noservername -sess_in session"));
	struct tls_certs *again = certs_of("both");
	assert_false(come_again(again, HERE " -sess_in session"));
	tls_certs_close(again);
	assert_int_equal(tls_certs_refresh(c), 0);
	assert_true(come_again(c, HERE " -sess_in session"));
	site("both", "d-new", "other.pem", "other");
	assert_int_equal(tls_certs_refresh(c), 1);
	assert_false(come_again(c, HERE " -sess_in session"));
	shell("rm -r both/d-new");
	tls_certs_close(c);
}

/* A session without a name goes on without one. */
static void test_session_without_a_name(void **state)
{
	(void)state;
	struct tls_certs *c = certs_of("both");
	assert_false(come_again(c, "-tls1_2 -noservername -sess_out session"));
	assert_true(come_again(c, "-tls1_2 -noservername -sess_in session"));
	assert_false(come_again(c, HERE " -sess_in session"));
	tls_certs_close(c);
}

static void test_session_ends(void **state)
{
	(void)state;
	struct tls_certs *c = certs_of("both");
	assert_false(come_again(c, HERE " -sess_out session"));
	clock_moved = TLS_TICKET_SECONDS - 100;
	assert_true(come_again(c, HERE " -sess_in session"));
	clock_moved = -100;
	assert_false(come_again(c, HERE " -sess_in session"));
	clock_moved = 0;
	/* The key is gone with the step back. */
	assert_false(come_again(c, HERE " -sess_in session -sess_out session"));
	clock_moved = TLS_TICKET_SECONDS + 100;
	assert_false(come_again(c, HERE " -sess_in session"));
	/* The next key; with it the one before opens what it made. */
	clock_moved = 0;
	tls_certs_close(c);
	c = certs_of("both");
	assert_false(come_again(c, HERE " -sess_out first"));
	clock_moved = TLS_TICKET_SECONDS - 100;
	assert_false(come_again(c, HERE " -sess_out second"));
	clock_moved = TLS_TICKET_SECONDS + 100;
	tls_certs_refresh(c);
	tls_certs_refresh(c);
	assert_true(come_again(c, HERE " -sess_in second"));
	assert_false(come_again(c, HERE " -sess_out third"));
	assert_true(come_again(c, HERE " -sess_in second"));
	assert_true(come_again(c, HERE " -sess_in third"));
	/* Keys go when nobody comes, too. */
	clock_moved = 4 * TLS_TICKET_SECONDS;
	tls_certs_refresh(c);
	clock_moved = TLS_TICKET_SECONDS + 100;
	assert_false(come_again(c, HERE " -sess_in third"));
	clock_moved = 0;
	tls_certs_close(c);
}

/* Any byte of a ticket that was changed means a full handshake. */
static void test_forged_ticket(void **state)
{
	(void)state;
	char der[4096];
	struct tls_certs *c = certs_of("both");
	assert_false(come_again(c, HERE " -sess_out session"));
	for (int i = 0; i < 6; i++) {
		shell("openssl sess_id -in session -outform DER -out der");
		FILE *f = fopen(in_top("der"), "r+");
		assert_non_null(f);
		size_t n = fread(der, 1, sizeof der, f);
		/* The field [10]: two headers, then the ticket. */
		size_t at = n - 1;
		while (at > 0 && memcmp(der + at, "\xaa\x81", 2) != 0)
			at--;
		assert_in_range(at, 1, n - 60);
		size_t size = (unsigned char)der[at + 5];
		at += 6 + (i < 5 ? (size_t)i * 5 : size - 1);
		assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
		fputc(der[at] ^ 1, f);
		fclose(f);
		shell("openssl sess_id -inform DER -in der -out forged");
		assert_false(come_again(c, HERE " -sess_in forged"));
	}
	assert_true(come_again(c, HERE " -sess_in session"));
	tls_certs_close(c);
}

/* Senders that hang up at a ticket speak TLS 1.3: there is none. */
static void test_no_tickets_in_tls13(void **state)
{
	(void)state;
	static const struct ssl_client s = {"both", "", "x\n", "220 hello under TLS", ""};
	run_ssl_client(&s);
	if (strstr(child_out(), "TLSv1.3"))
		assert_null(strstr(child_out(), "TLS session ticket:"));
	else
		assert_non_null(strstr(child_out(), "TLS session ticket:"));
}

/* ---- openssl as the server ---- */

static void run_ssl_server(const char *pair, const char *args, const char *name,
                           const char *version, const char *cipher)
{
	char cmd[512];
	struct child child = {0, -1};
	snprintf(cmd, sizeof cmd,
	         "exec openssl s_server -accept 127.0.0.1:0 -cert %s.pem -key %s.key -rev %s", pair,
	         pair, args);
	child_start(&child, cmd);
	until_child("ACCEPT 127.0.0.1:");
	until_child("\n");
	int port = (int)strtol(strstr(child_out(), "ACCEPT 127.0.0.1:") + 17, NULL, 10);
	end_init(&left, connect_tcp(port));
	io_start_tls(&left.io, tls_connect(roots, name, left.io.watch.fd));
	if (cipher) {
		until(&left.events[IO_SECURED]);
		const char *why = "";
		if (strcmp(pair, "client") == 0)
			why = "the certificate is not for a server";
		else if (strcmp(pair, "weak") == 0)
			why = "the certificate is too weak";
		assert_string_equal(seen_by(&left)->why, why);
		assert_int_equal(seen_by(&left)->chain_good, why[0] == '\0');
		assert_true(seen_by(&left)->name_good);
		assert_true(served(pair));
		assert_string_equal(seen_by(&left)->version, version);
		assert_non_null(strstr(seen_by(&left)->cipher, cipher));
		io_printf(&left.io, "stressed\n");
		until_got(&left, "desserts\n");
		/* Both say good-bye. */
		io_finish(&left.io);
		until(&left.events[IO_CLOSED]);
		until_child("CONNECTION CLOSED");
	} else {
		until(&left.events[IO_ERROR]);
		assert_int_equal(left.io.error, EPROTO);
		assert_non_null(strstr(tls_error(io_tls(&left.io)), version));
	}
	child_end(&child);
	end_clear(&left);
}

static void test_openssl_server(void **state)
{
	(void)state;
	run_ssl_server("rsa", "-tls1_2", "mail.example.org", "TLSv1.2", "ECDHE-RSA-WITH-CHACHA20");
	run_ssl_server("ec", "-tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384", "mail.example.org",
	               "TLSv1.2", "AES-256-GCM");
	run_ssl_server("client", "-tls1_2", "client.example.org", "TLSv1.2", "ECDHE-ECDSA");
	run_ssl_server("weak", "-tls1_2 -cipher ALL@SECLEVEL=0", "weak.example.org", "TLSv1.2",
	               "ECDHE-RSA");
	run_ssl_server("other", "-tls1_2", "127.0.0.1", "TLSv1.2", "ECDHE-ECDSA");
	run_ssl_server("rsa", "-tls1_2 -cipher AES128-SHA", "mail.example.org", "the other side",
	               NULL);
	run_ssl_server("rsa", "-no_tls1_2 -no_tls1_3 -cipher ALL@SECLEVEL=0", "mail.example.org",
	               "version", NULL);
}

/* TLS 1.3 where the library has it, tickets after the handshake included. */
static void test_tls13(void **state)
{
	(void)state;
	struct tls_certs *c = certs_of("both");
	ends_secure(c, "mail.example.org");
	bool has = strcmp(seen_by(&left)->version, "TLSv1.3") == 0;
	ends_close();
	tls_certs_close(c);
	if (!has)
		skip();
	run_ssl_server("rsa", "", "mail.example.org", "TLSv1.3", "TLS1-3");
	run_ssl_server("rsa", "-tls1_3 -num_tickets 20", "mail.example.org", "TLSv1.3", "TLS1-3");
	run_ssl_server("ec", "-tls1_3", "mail.example.org", "TLSv1.3", "TLS1-3");
}

static void test_library(void **state)
{
	(void)state;
	char name[64];
	tls_library(name, sizeof name);
	assert_int_equal(strncmp(name, "mbedtls ", 8), 0);
	assert_string_not_equal(tls_error(NULL), "");
}

static int setup_all(void **state)
{
	(void)state;
	if (!getenv("TEST_VERBOSE"))
		log_to(open("/dev/null", O_WRONLY | O_CLOEXEC));
	make_certificates();
	roots = tls_roots_open(in_top("ca.pem"));
	return roots && tls_roots_count(roots) == 1 ? 0 : -1;
}

static int teardown_all(void **state)
{
	(void)state;
	tls_roots_close(roots);
	assert_int_equal(temp_dir_remove(), 0);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	memset(&left, 0, sizeof left);
	memset(&right, 0, sizeof right);
	return loop_init();
}

static int teardown(void **state)
{
	(void)state;
	loop_done();
	return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_talk),
	    CASE(test_sni),
	    CASE(test_certs_that_do_not_load),
	    CASE(test_refresh),
	    CASE(test_judgement),
	    CASE(test_roots),
	    CASE(test_other_roots),
	    CASE(test_root_of_the_same_name),
	    CASE(test_root_in_other_letters),
	    CASE(test_usual_roots),
	    CASE(test_much_both_ways),
	    CASE(test_decrypted_already),
	    CASE(test_end_of_both),
	    CASE(test_end_with_much_unsent),
	    CASE(test_commands_injected),
	    CASE(test_replies_injected),
	    CASE(test_end_before_the_handshake),
	    CASE(test_detached),
	    CASE(test_byte_by_byte),
	    CASE(test_no_tls_at_all),
	    CASE(test_a_step_a_turn),
	    CASE(test_damaged_hello),
	    CASE(test_reset_in_the_handshake),
	    CASE(test_forged_record),
	    CASE(test_openssl_client),
	    CASE(test_session_goes_on),
	    CASE(test_session_without_a_name),
	    CASE(test_session_ends),
	    CASE(test_forged_ticket),
	    CASE(test_no_tickets_in_tls13),
	    CASE(test_openssl_server),
	    CASE(test_tls13),
	    CASE(test_library),
	};
	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}

#else

int main(void)
{
	return 0;
}

#endif
