/*
 * Fuzz target of dane and tls_chain: the input is the TLSA records of a host, which are taken and
 * matched against a server of ours that showed a certificate and its authority. What is taken is
 * usable and the same bytes; what matches does so by a record that was made of the certificates.
 *
 * A record of the input: usage, selector, matching type, a byte that says where its data come from
 * (0 to 3: the certificate, its key, the authority, its key; others: the input), two bytes of
 * length, and for the latter the data.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dane.h"
#include "fuzz_dir.h"
#include "log.h"
#include "tls_chain.h"

#define RECORDS 40

static struct tls *client;
static struct tls_chain chain;

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* ---- the server ---- */

static const char make_certificates[] =
    "cd %s && exec >/dev/null 2>&1 && mkdir x && "
    "printf '[req]\\ndistinguished_name=dn\\n[dn]\\n' >cnf && "
    "openssl req -config cnf -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "
    "ca.key -out ca.pem -days 30 -subj /CN=CA -addext basicConstraints=critical,CA:true && "
    "openssl req -config cnf -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "
    "x/privkey.pem -out own.pem -days 30 -subj /CN=mx.test -CA ca.pem -CAkey ca.key && "
    "cat own.pem ca.pem >x/fullchain.pem";

static void shake_hands(void)
{
	char cmd[1024];
	int p[2];
	fuzz_dir_make();
	snprintf(cmd, sizeof cmd, make_certificates, fuzz_dir);
	check(system(cmd) == 0);
	log_to(fuzz_dir_nowhere());
	struct tls_certs *certs = tls_certs_open(fuzz_dir);
	struct tls_roots *roots = tls_roots_open(fuzz_dir);
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p) == 0);
	struct tls *server = tls_accept(certs, p[0]);
	client = tls_connect(roots, "mx.test", p[1]);
	enum tls_want a = TLS_WANT_READ;
	enum tls_want b = TLS_WANT_READ;
	for (int i = 0; client && i < 1000 && (a != TLS_DONE || b != TLS_DONE); i++) {
		a = tls_handshake(client);
		b = tls_handshake(server);
	}
	tls_free(server);
	tls_certs_close(certs);
	tls_chain_get(client, &chain);
	check(!WITH_TLS || (a == TLS_DONE && b == TLS_DONE && chain.count == 2));
}

/* ---- the records ---- */

/* What the server showed, as data for a record. */
static struct slice own_data(unsigned from)
{
	const struct tls_chain_cert *c = &chain.cert[from / 2];
	return from % 2 == 0 ? c->whole : c->key;
}

/* Takes the next record off the input. */
static bool read_record(const uint8_t **p, size_t *n, struct dns_tlsa *t)
{
	if (*n < 6)
		return false;
	const uint8_t *h = *p;
	size_t size = (size_t)h[4] << 8 | h[5];
	*p += 6;
	*n -= 6;
	if (h[3] < 4 && h[3] / 2 < chain.count) {
		*t = (struct dns_tlsa){h[0], h[1], h[2], own_data(h[3])};
		return true;
	}
	size = size < *n ? size : *n;
	*t = (struct dns_tlsa){h[0], h[1], h[2], {(const char *)*p, size}};
	*p += size;
	*n -= size;
	return true;
}

/* Could the record match anything? By its bytes; digests are beyond what an input can hit. */
static bool may_match(const struct dane_record *r)
{
	struct slice data = {(const char *)r->data, r->n};
	for (size_t i = 0; i < chain.count; i++) {
		struct slice c = r->selector == 0 ? chain.cert[i].whole : chain.cert[i].key;
		if (tls_chain_digest_is(c, data) ||
		    (r->matching == 0 && c.n == data.n && memcmp(c.p, data.p, c.n) == 0))
			return true;
	}
	/* An authority of its own: the library says whether it is one. */
	return r->usage == 2 && r->selector == 0 && r->matching == 0;
}

static void check_records(const struct dane_records *r, const struct dns_tlsa *t, size_t count)
{
	size_t at = 0;
	check((r->state == DANE_USABLE) == (r->count > 0) && r->count <= DANE_RECORDS_MAX);
	check(r->state == DANE_USABLE || r->state == (count > 0 ? DANE_UNUSABLE : DANE_NONE));
	for (size_t i = 0; i < r->count; i++, at++) {
		const struct dane_record *d = &r->record[i];
		check((d->usage == 2 || d->usage == 3) && d->selector <= 1 && d->matching <= 2);
		check(d->matching == 0 ? d->n > 0 && d->n <= DANE_DATA_MAX
		                       : d->n == (d->matching == 1 ? 32 : 64));
		while (at < count && !(t[at].usage == d->usage && t[at].selector == d->selector &&
		                       t[at].matching == d->matching && t[at].data.n == d->n &&
		                       memcmp(t[at].data.p, d->data, d->n) == 0))
			at++;
		check(at < count);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"mx.test", "example.org"};
	struct dns_tlsa t[RECORDS];
	struct dane_records r = {0};
	struct dns_query q = {.result = DNS_OK, .secure = true, .tlsa = t};
	const char *why = NULL;
	static bool begun;
	if (!begun)
		shake_hands();
	begun = true;
	while (q.count < RECORDS && read_record(&data, &size, &t[q.count]))
		q.count++;
	/* No answer is not an answer that there is none. */
	for (int no = DNS_OK + 1; no <= DNS_NO_MEMORY; no++) {
		struct dns_query bad = {.result = (enum dns_result)no};
		dane_take(&r, &bad);
		check(r.state == DANE_NONE || r.state == DANE_FAILED);
		check(dane_match(&r, client, names, 2, &why) == false || r.state == DANE_NONE);
	}
	dane_take(&r, &q);
	check_records(&r, t, q.count);
	bool good = dane_match(&r, client, names, 2, &why);
	check(why && good == (why[0] == '\0'));
	bool may = false;
	for (size_t i = 0; i < r.count; i++)
		may = may || may_match(&r.record[i]);
	check(may || !good);
	/* With other names only the server's own certificate can do. */
	if (good && !dane_match(&r, client, &names[1], 1, &why))
		check(why[0] != '\0');
	dane_clear(&r);
	return 0;
}
