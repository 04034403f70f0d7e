/* test_dane: which TLSA records can be used, and what they say of the certificates that a server
 * shows in a real handshake; with it, tls_chain. */
#include "tls_help.h"

#include "dane.h"
#include "tls_chain.h"

/* ---- records ---- */

static struct dns_tlsa tlsa_of(uint8_t usage, uint8_t selector, uint8_t matching, const void *p,
                               size_t n)
{
	return (struct dns_tlsa){usage, selector, matching, {p, n}};
}

static enum dane_state state_of(enum dns_result result, bool secure, const struct dns_tlsa *t,
                                size_t count)
{
	struct dane_records r = {0};
	struct dns_query q = {.result = result, .secure = secure, .tlsa = t, .count = count};
	dane_take(&r, &q);
	enum dane_state state = r.state;
	assert_true((state == DANE_USABLE) == (r.count > 0));
	dane_clear(&r);
	assert_int_equal(r.state, DANE_NONE);
	assert_null(r.block);
	return state;
}

static void test_state(void **state)
{
	(void)state;
	char digest[64] = "";
	struct dns_tlsa good = tlsa_of(3, 1, 1, digest, 32);
	struct dns_tlsa pkix = tlsa_of(1, 1, 1, digest, 32);
	struct dns_tlsa mixed[] = {pkix, good};
	assert_int_equal(state_of(DNS_OK, true, &good, 1), DANE_USABLE);
	assert_int_equal(state_of(DNS_OK, true, mixed, 2), DANE_USABLE);
	assert_int_equal(state_of(DNS_OK, true, &pkix, 1), DANE_UNUSABLE);
	assert_int_equal(state_of(DNS_OK, true, NULL, 0), DANE_NONE);
	assert_int_equal(state_of(DNS_OK, false, &good, 1), DANE_NONE);
	assert_int_equal(state_of(DNS_OK, false, &pkix, 1), DANE_NONE);
	for (int secure = 0; secure <= 1; secure++) {
		assert_int_equal(state_of(DNS_NO_NAME, secure, NULL, 0), DANE_NONE);
		assert_int_equal(state_of(DNS_NO_DATA, secure, NULL, 0), DANE_NONE);
		assert_int_equal(state_of(DNS_BAD_NAME, secure, NULL, 0), DANE_NONE);
		assert_int_equal(state_of(DNS_SERVER_FAILURE, secure, NULL, 0), DANE_FAILED);
		assert_int_equal(state_of(DNS_TIMEOUT, secure, NULL, 0), DANE_FAILED);
		assert_int_equal(state_of(DNS_NO_MEMORY, secure, NULL, 0), DANE_FAILED);
	}
}

/* Every usage, selector and matching type, with every length that could be taken for right. */
static void test_usable(void **state)
{
	(void)state;
	static const size_t lengths[] = {
	    0, 1, 20, 28, 31, 32, 33, 48, 63, 64, 65, DANE_DATA_MAX, DANE_DATA_MAX + 1, 65535};
	char *data = calloc(1, 65535);
	assert_non_null(data);
	int usable = 0;
	for (unsigned i = 0; i < 6 * 4 * 5; i++) {
		static const uint8_t last[] = {0, 1, 2, 3, 4, 255};
		uint8_t usage = last[i % 6];
		uint8_t selector = (uint8_t)(i / 6 % 4 == 3 ? 255 : i / 6 % 4);
		uint8_t matching = (uint8_t)(i / 24 == 4 ? 255 : i / 24);
		for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++) {
			size_t n = lengths[k];
			bool fits = matching == 0   ? n > 0 && n <= DANE_DATA_MAX
			            : matching == 1 ? n == 32
			                            : n == 64;
			bool want =
			    (usage == 2 || usage == 3) && selector <= 1 && matching <= 2 && fits;
			struct dns_tlsa t = tlsa_of(usage, selector, matching, data, n);
			assert_int_equal(state_of(DNS_OK, true, &t, 1),
			                 want ? DANE_USABLE : DANE_UNUSABLE);
			usable += want;
		}
	}
	assert_int_equal(usable, 4 * (11 + 1 + 1));
	free(data);
}

/* The first so many usable ones are kept, each with its own bytes, and nothing of the answer. */
static void test_many(void **state)
{
	(void)state;
	struct dns_tlsa t[1000];
	char data[1000][32];
	struct dane_records r = {0};
	struct dns_query q = {.result = DNS_OK, .secure = true, .tlsa = t, .count = 1000};
	for (size_t i = 0; i < 1000; i++) {
		memset(data[i], (int)i, 32);
		t[i] = tlsa_of(i % 3 == 0 ? 3 : 0, 1, 1, data[i], 32);
	}
	for (int round = 0; round < 2; round++) {
		dane_take(&r, &q);
		memset(round == 1 ? data[0] : data[999], 255, 32);
		assert_int_equal(r.state, DANE_USABLE);
		assert_int_equal(r.count, DANE_RECORDS_MAX);
		for (size_t i = 0; i < r.count; i++) {
			assert_int_equal(r.record[i].usage, 3);
			assert_int_equal(r.record[i].n, 32);
			assert_int_equal(r.record[i].data[0], i * 3);
			assert_int_equal(r.record[i].data[31], i * 3);
		}
	}
	q.count = 4;
	dane_take(&r, &q);
	assert_int_equal(r.count, 2);
	q.result = DNS_TIMEOUT;
	dane_take(&r, &q);
	assert_int_equal(r.state, DANE_FAILED);
	assert_int_equal(r.count, 0);
	assert_null(r.block);
}

static void test_no_tls(void **state)
{
	(void)state;
	const char *why = NULL;
	const char *name = "mail.example.org";
	struct tls_chain chain = {.count = 1};
	struct dane_records r = {0};
	assert_false(dane_match(&r, NULL, &name, 1, &why));
	assert_non_null(why);
	assert_string_not_equal(why, "");
	tls_chain_get(NULL, &chain);
	assert_int_equal(chain.count, 0);
	why = NULL;
	assert_false(tls_chain_verify(NULL, slice_of("x"), &name, 1, &why));
	assert_string_not_equal(why, "");
}

#if WITH_TLS

/* ---- what openssl makes of a certificate ---- */

#define DATA_SIZE 8192

/* The data of a record for NAME.pem. Returns how many bytes. */
static size_t data_for(const char *name, unsigned selector, unsigned matching, char *out)
{
	static const char *const digests[] = {"cat", "openssl dgst -sha256 -binary",
	                                      "openssl dgst -sha512 -binary"};
	if (selector == 0)
		shell("openssl x509 -in %s.pem -outform DER | %s >data", name, digests[matching]);
	else
		shell("openssl x509 -in %s.pem -noout -pubkey | openssl pkey -pubin -outform DER |"
		      " %s >data",
		      name, digests[matching]);
	FILE *f = fopen(in_top("data"), "rb");
	assert_non_null(f);
	size_t n = fread(out, 1, DATA_SIZE, f);
	fclose(f);
	assert_true(n > 0 && n < DATA_SIZE);
	return n;
}

/* Reads "USAGE SELECTOR MATCHING NAME", more of them after commas. */
static void take(struct dane_records *r, const char *text)
{
	struct dns_tlsa t[4];
	char data[4][DATA_SIZE];
	struct dns_query q = {.result = DNS_OK, .secure = true, .tlsa = t};
	for (; text; text = strchr(text, ',')) {
		unsigned u, s, m;
		char name[32];
		text += *text == ',';
		assert_int_equal(sscanf(text, "%u %u %u %31[a-z0-9-]", &u, &s, &m, name), 4);
		assert_true(q.count < 4);
		size_t n = data_for(name, s, m, data[q.count]);
		t[q.count] = tlsa_of((uint8_t)u, (uint8_t)s, (uint8_t)m, data[q.count], n);
		q.count++;
	}
	dane_take(r, &q);
	assert_int_equal(r->state, DANE_USABLE);
	assert_int_equal(r->count, q.count);
}

/* ---- handshakes ---- */

static struct tls_roots *roots; /* which trust nothing of what is shown here */

static struct child server = {0, -1};

static void shake_hands(void)
{
	struct tls *t = tls_connect(roots, "mx.test", left.io.watch.fd);
	assert_int_equal(io_start_tls(&left.io, t), 0);
	until(&left.events[IO_SECURED]);
}

/* With a server of ours. */
static void handshake(const char *certs)
{
	struct tls_certs *c = tls_certs_open(in_top(certs));
	assert_non_null(c);
	ends_open();
	assert_int_equal(io_start_tls(&right.io, tls_accept(c, right.io.watch.fd)), 0);
	tls_certs_close(c);
	shake_hands();
	until(&right.events[IO_SECURED]);
}

/* With openssl's, which does not care what a certificate may be used for. */
static void handshake_openssl(const char *pair)
{
	char cmd[256];
	snprintf(cmd, sizeof cmd,
	         "exec openssl s_server -accept 127.0.0.1:0 -cert %s.pem -key %s.key "
	         "-tls1_2 -cipher ALL@SECLEVEL=0",
	         pair, pair);
	child_start(&server, cmd);
	until_child("ACCEPT 127.0.0.1:");
	until_child("\n");
	int port = (int)strtol(strstr(child_out(), "ACCEPT 127.0.0.1:") + 17, NULL, 10);
	end_init(&right, -1);
	end_init(&left, connect_tcp(port));
	shake_hands();
}

static void hang_up(void)
{
	ends_close();
	child_end(&server);
}

struct matching {
	const char *certs, *records, *name, *domain;
	int64_t moved;
	const char *why; /* NULL: it matches */
};

static void run_matching(const struct matching *m)
{
	const char *names[] = {m->name, m->domain};
	const char *why = NULL;
	struct dane_records r = {0};
	take(&r, m->records);
	clock_moved = m->moved;
	if (strncmp(m->certs, "openssl ", 8) == 0)
		handshake_openssl(m->certs + 8);
	else
		handshake(m->certs);
	bool good = dane_match(&r, io_tls(&left.io), names, m->domain ? 2 : 1, &why);
	clock_moved = 0;
	assert_non_null(why);
	if (good != !m->why || !strstr(why, m->why ? m->why : ""))
		print_error("%s, %s, %s: %s\n", m->certs, m->records, m->name, why);
	assert_int_equal(good, !m->why);
	assert_non_null(strstr(why, m->why ? m->why : ""));
	assert_int_equal(why[0] == '\0', good);
	hang_up();
	dane_clear(&r);
}

static void run_all(const struct matching *m, size_t n)
{
	for (size_t i = 0; i < n; i += valgrind_step(3)) /* a handshake each */
		run_matching(&m[i]);
}

#define RUN_ALL(cases) run_all(cases, sizeof(cases) / sizeof(cases)[0])
#define DAY            86400
#define SELF           "self.example.org"
#define DEEP           "deep.example.org"
#define NO_RECORD      "no TLSA record matches"
#define NOT_BY         "not by the authority"

/* Its own certificate, whatever its names and dates say (RFC 7671 5.1). */
static void test_own(void **state)
{
	(void)state;
	static const struct matching cases[] = {
	    {"self-only", "3 0 0 self", SELF, NULL, 0, NULL},
	    {"self-only", "3 0 1 self", SELF, NULL, 0, NULL},
	    {"self-only", "3 0 2 self", SELF, NULL, 0, NULL},
	    {"self-only", "3 1 0 self", SELF, NULL, 0, NULL},
	    {"self-only", "3 1 1 self", SELF, NULL, 0, NULL},
	    {"self-only", "3 1 2 self", SELF, NULL, 0, NULL},
	    {"self-only", "3 1 1 self", "another.test", NULL, 0, NULL},
	    {"self-only", "3 1 1 self", SELF, NULL, 60 * DAY, NULL},
	    {"self-only", "3 0 1 self", "another.test", NULL, -5 * DAY, NULL},
	    {"openssl client", "3 1 1 client", "another.test", NULL, 0, NULL},
	    {"deep-only", "3 1 1 deep", "another.test", NULL, 60 * DAY, NULL},
	    {"deep-only", "3 1 2 self, 3 0 1 ca, 3 0 1 deep", DEEP, NULL, 0, NULL},
	    {"self-only", "3 0 0 deep", SELF, NULL, 0, NO_RECORD},
	    {"self-only", "3 0 1 deep", SELF, NULL, 0, NO_RECORD},
	    {"self-only", "3 1 0 deep", SELF, NULL, 0, NO_RECORD},
	    {"self-only", "3 1 2 deep", SELF, NULL, 0, NO_RECORD},
	    /* Only the first of the chain is its own. */
	    {"deep-only", "3 1 1 inter", DEEP, NULL, 0, NO_RECORD},
	    {"whole", "3 1 1 ca", DEEP, NULL, 0, NO_RECORD},
	    /* The same key in another certificate: the selector says what counts. */
	    {"again-only", "3 1 1 self", SELF, NULL, 0, NULL},
	    {"again-only", "3 0 1 self", SELF, NULL, 0, NO_RECORD},
	};
	RUN_ALL(cases);
}

static void test_authority(void **state)
{
	(void)state;
	static const struct matching cases[] = {
	    /* A root, sent. */
	    {"whole", "2 0 0 ca", DEEP, NULL, 0, NULL},
	    {"whole", "2 0 1 ca", DEEP, NULL, 0, NULL},
	    {"whole", "2 0 2 ca", DEEP, NULL, 0, NULL},
	    {"whole", "2 1 0 ca", DEEP, NULL, 0, NULL},
	    {"whole", "2 1 1 ca", DEEP, NULL, 0, NULL},
	    {"whole", "2 1 2 ca", DEEP, NULL, 0, NULL},
	    /* One in between. */
	    {"whole", "2 1 1 inter", DEEP, NULL, 0, NULL},
	    {"deep-only", "2 0 1 inter", DEEP, NULL, 0, NULL},
	    /* One that is in DNS alone. */
	    {"deep-only", "2 0 0 ca", DEEP, NULL, 0, NULL},
	    {"broken-chain", "2 0 0 inter", DEEP, NULL, 0, NULL},
	    {"broken-chain", "2 0 0 ca", DEEP, NULL, 0, NOT_BY},
	    {"deep-only", "2 0 0 fake", DEEP, NULL, 0, NOT_BY},
	    {"deep-only", "2 0 0 self", DEEP, NULL, 0, NOT_BY},
	    {"deep-only", "2 1 0 ca", DEEP, NULL, 0, NO_RECORD},
	    {"deep-only", "2 0 1 ca", DEEP, NULL, 0, NO_RECORD},
	    /* One of several. */
	    {"whole", "2 1 1 self, 3 1 1 self, 2 0 0 fake, 2 0 1 ca", DEEP, NULL, 0, NULL},
	    {"deep-only", "2 0 0 self, 2 0 0 fake, 2 0 0 ca", DEEP, NULL, 0, NULL},
	    /* Another. */
	    {"whole", "2 1 1 fake", DEEP, NULL, 0, NO_RECORD},
	    {"forged", "2 0 0 inter", DEEP, NULL, 0, NOT_BY},
	    /* It was sent, but it did not issue what leads to it: its name is not enough. */
	    {"beside", "2 1 1 ca", SELF, NULL, 0, NOT_BY},
	    {"forged", "2 0 1 ca", "forged.example.org", NULL, 0, NOT_BY},
	    {"forged", "2 1 1 ca", "forged.example.org", NULL, 0, NOT_BY},
	    /* The certificate of a server is no authority. */
	    {"rogue", "2 1 1 ec", "rogue.example.org", NULL, 0, NOT_BY},
	    {"rogue", "2 0 0 ec", "rogue.example.org", NULL, 0, NOT_BY},
	    /* The server's own: only when there is nobody above it. */
	    {"self-only", "2 0 1 self", SELF, NULL, 0, NULL},
	    {"self-only", "2 0 1 self", "another.test", NULL, 0, "another name"},
	    {"self-only", "2 1 1 self", SELF, NULL, 60 * DAY, "expired"},
	    {"deep-only", "2 0 1 deep", DEEP, NULL, 0, NOT_BY},
	    /* Dates and use count. */
	    {"whole", "2 1 1 ca", DEEP, NULL, 60 * DAY, "expired"},
	    {"whole", "2 1 1 ca", DEEP, NULL, -5 * DAY, "not valid yet"},
	    {"deep-only", "2 0 1 inter", DEEP, NULL, 60 * DAY, "expired"},
	    {"openssl client", "2 0 0 ca", "client.example.org", NULL, 0, "not for a server"},
	    {"openssl weak", "2 0 0 ca", "weak.example.org", NULL, 0, "too weak"},
	};
	RUN_ALL(cases);
}

/* An authority is not for one name only (RFC 7672 3.2.2, 3.2.3). */
static void test_names(void **state)
{
	(void)state;
	static const struct matching cases[] = {
	    {"whole", "2 1 1 ca", "mx.another.test", NULL, 0, "another name"},
	    {"whole", "2 1 1 ca", "mx.another.test", "another.test", 0, "another name"},
	    {"whole", "2 1 1 ca", "mx.another.test", DEEP, 0, NULL},
	    {"whole", "2 1 1 ca", DEEP, "another.test", 0, NULL},
	    {"whole", "2 1 1 ca", "DEEP.Example.ORG", NULL, 0, NULL},
	    {"whole", "2 1 1 ca", "example.org", NULL, 0, "another name"},
	    {"whole", "2 1 1 ca", "x.deep.example.org", NULL, 0, "another name"},
	    {"whole", "2 1 1 ca", "", NULL, 0, "another name"},
	    /* Its common name, beside alternative ones, and alone. */
	    {"whole", "2 1 1 ca", "deep", NULL, 0, "another name"},
	    {"plain", "2 0 0 ca", "plain.example.org", NULL, 0, NULL},
	    {"plain", "2 0 0 ca", "example.org", "x.example.org", 0, "another name"},
	    {"rsa-only", "2 0 0 ca", "x.wild.example.org", NULL, 0, NULL},
	    {"rsa-only", "2 0 0 ca", "x.y.wild.example.org", NULL, 0, "another name"},
	    {"rsa-only", "2 0 0 ca", "wild.example.org", NULL, 0, "another name"},
	};
	RUN_ALL(cases);
}

/* Records that are no certificates, digests of nothing. */
static void test_garbage(void **state)
{
	(void)state;
	struct dns_tlsa t[DANE_RECORDS_MAX];
	char der[DATA_SIZE];
	const char *name = DEEP;
	const char *why;
	struct dane_records r = {0};
	struct dns_query q = {.result = DNS_OK, .secure = true, .tlsa = t};
	size_t n = data_for("ca", 0, 0, der);
	handshake("deep-only");
	for (size_t i = 0; i < 7; i++)
		t[q.count++] = tlsa_of(2, 0, 0, der, i == 0 ? 1 : n * i / 7);
	t[q.count++] = tlsa_of(2, 1, 0, der, n);
	t[q.count++] = tlsa_of(3, 1, 1, der, 32);
	dane_take(&r, &q);
	assert_int_equal(r.count, 9);
	assert_false(dane_match(&r, io_tls(&left.io), &name, 1, &why));
	assert_string_equal(why, "the certificate cannot be verified");
	assert_false(dane_match(&r, io_tls(&left.io), NULL, 0, &why));
	/* One that is whole; but without names nothing is right. */
	t[0] = tlsa_of(2, 0, 0, der, n);
	q.count = 1;
	dane_take(&r, &q);
	assert_true(dane_match(&r, io_tls(&left.io), &name, 1, &why));
	assert_false(dane_match(&r, io_tls(&left.io), NULL, 0, &why));
	/* No more are tried than the limit says, so that one behind them is not found. */
	for (q.count = 0; q.count <= DANE_ANCHORS_MAX; q.count++)
		t[q.count] = tlsa_of(2, 0, 0, der, q.count < DANE_ANCHORS_MAX ? 1 : n);
	dane_take(&r, &q);
	assert_false(dane_match(&r, io_tls(&left.io), &name, 1, &why));
	t[0] = t[DANE_ANCHORS_MAX];
	dane_take(&r, &q);
	assert_true(dane_match(&r, io_tls(&left.io), &name, 1, &why));
	dane_clear(&r);
	/* The server saw no certificate. */
	assert_false(dane_match(&r, io_tls(&right.io), &name, 1, &why));
	assert_non_null(strstr(why, "no certificate"));
	hang_up();
}

/* However many records bring a certificate that was sent, it is tried once: others get their turn.
 */
static void test_same_anchor(void **state)
{
	(void)state;
	struct dns_tlsa t[DANE_ANCHORS_MAX + 1];
	char ca[DATA_SIZE];
	char fake[DATA_SIZE];
	const char *name = "forged.example.org";
	const char *why;
	struct dane_records r = {0};
	struct dns_query q = {.result = DNS_OK, .secure = true, .tlsa = t};
	size_t n = data_for("ca", 0, 0, ca);
	while (q.count < DANE_ANCHORS_MAX)
		t[q.count++] = tlsa_of(2, 0, 0, ca, n);
	t[q.count++] = tlsa_of(2, 0, 0, fake, data_for("fake", 0, 0, fake));
	handshake("forged");
	dane_take(&r, &q);
	assert_true(dane_match(&r, io_tls(&left.io), &name, 1, &why));
	dane_clear(&r);
	hang_up();
}

static void test_chain(void **state)
{
	(void)state;
	static const char *const order[] = {"deep", "inter", "ca"};
	char data[DATA_SIZE];
	struct tls_chain c;
	handshake("whole");
	tls_chain_get(io_tls(&left.io), &c);
	assert_int_equal(c.count, 3);
	for (size_t i = 0; i < 3; i++) {
		size_t n = data_for(order[i], 0, 0, data);
		assert_int_equal(c.cert[i].whole.n, n);
		assert_memory_equal(c.cert[i].whole.p, data, n);
		n = data_for(order[i], 1, 0, data);
		assert_int_equal(c.cert[i].key.n, n);
		assert_memory_equal(c.cert[i].key.p, data, n);
		for (unsigned m = 1; m <= 2; m++) {
			n = data_for(order[i], 0, m, data);
			assert_int_equal(n, 32 * m);
			assert_true(tls_chain_digest_is(c.cert[i].whole, (struct slice){data, n}));
			assert_false(
			    tls_chain_digest_is(c.cert[i].whole, (struct slice){data, n - 1}));
			data[n - 1] = (char)(data[n - 1] ^ 1);
			assert_false(tls_chain_digest_is(c.cert[i].whole, (struct slice){data, n}));
		}
	}
	hang_up();
	assert_false(tls_chain_digest_is(slice_of("x"), (struct slice){data, 0}));

	/* A longer one: the first of it. */
	handshake("long");
	tls_chain_get(io_tls(&left.io), &c);
	assert_int_equal(c.count, TLS_CHAIN_MAX);
	hang_up();
}

static void make_more(void)
{
	make_certificates();
	site("whole", "x", "deep.pem inter.pem ca.pem", "deep");
	site("beside", "x", "self.pem ca.pem", "self");
	site("long", "x", "deep.pem inter.pem ca.pem ca.pem ca.pem ca.pem ca.pem ca.pem ca.pem",
	     "deep");
	/* An authority with the name of ours. */
	shell("openssl req -config cnf -x509 -newkey " KEY_EC " -nodes -keyout fake.key -out "
	      "fake.pem -days 30 -subj '/O=chasq/CN=Test CA' -addext "
	      "basicConstraints=critical,CA:true");
	issue("forged", "fake", KEY_EC, "DNS:forged.example.org", "");
	site("forged", "x", "forged.pem ca.pem", "forged");
	/* A server that issues. */
	issue("rogue", "ec", KEY_EC, "DNS:rogue.example.org", "");
	site("rogue", "x", "rogue.pem ec.pem ca.pem", "rogue");
	/* No alternative name. */
	shell("openssl req -config cnf -x509 -newkey " KEY_EC " -nodes -keyout plain.key -out "
	      "plain.pem -days 30 -CA ca.pem -CAkey ca.key -subj '/CN=plain.example.org'");
	site("plain", "x", "plain.pem", "plain");
	/* A new certificate for the old key. */
	shell(
	    "openssl req -config cnf -x509 -key self.key -out again.pem -days 30 -subj /CN=again");
	site("again-only", "x", "again.pem", "self");
}

#endif

static int setup_all(void **state)
{
	(void)state;
	if (!getenv("TEST_VERBOSE"))
		log_to(open("/dev/null", O_WRONLY | O_CLOEXEC));
#if WITH_TLS
	make_more();
	roots = tls_roots_open(in_top("no roots"));
	return roots && loop_init() == 0 ? 0 : -1;
#else
	return 0;
#endif
}

static int teardown_all(void **state)
{
	(void)state;
#if WITH_TLS
	loop_done();
	tls_roots_close(roots);
	assert_int_equal(temp_dir_remove(), 0);
#endif
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_usable),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_no_tls),
#if WITH_TLS
		cmocka_unit_test(test_own),
		cmocka_unit_test(test_authority),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_same_anchor),
		cmocka_unit_test(test_chain),
#endif
	};
	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
