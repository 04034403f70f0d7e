/*
 * dane: what TLSA records say about a mail host's certificate.
 *
 * dane_take copies the records that can be used, at most DANE_RECORDS_MAX of at most DANE_DATA_MAX
 * bytes, into one block, since the answer goes with its query. One match is enough: a record that
 * does not match says nothing against one that does, whatever its digest (RFC 7671 8.1, 9).
 *
 * Each authority that is tried costs the signatures of a chain, and both the records and the chain
 * are a stranger's: so a certificate that was sent is tried once however many records name it, and
 * no more than DANE_ANCHORS_MAX are tried.
 */
#include "dane.h"

#include <stdlib.h>
#include <string.h>

#include "tls_chain.h"

enum { DANE_TA = 2, DANE_EE = 3 };         /* usages (RFC 7218) */
enum { DANE_CERT = 0, DANE_SPKI = 1 };     /* selectors */
enum { DANE_FULL = 0, DANE_SHA2_512 = 2 }; /* matching types; 1 is SHA2-256 */

/* ---- the records ---- */

static bool dane_is_usable(const struct dns_tlsa *t)
{
	static const size_t digest_n[] = {0, 32, 64};
	if ((t->usage != DANE_TA && t->usage != DANE_EE) || t->selector > DANE_SPKI ||
	    t->matching > DANE_SHA2_512)
		return false;
	if (t->matching == DANE_FULL)
		return t->data.n > 0 && t->data.n <= DANE_DATA_MAX;
	return t->data.n == digest_n[t->matching];
}

/* Copies the usable records; 0, or -1: no memory. */
static int dane_copy(struct dane_records *r, const struct dns_query *q)
{
	size_t size = 0;
	size_t usable = 0;
	for (size_t i = 0; i < q->count && usable < DANE_RECORDS_MAX; i++) {
		if (!dane_is_usable(&q->tlsa[i]))
			continue;
		size += q->tlsa[i].data.n;
		usable++;
	}
	if (usable == 0)
		return 0;
	r->block = malloc(size);
	if (!r->block)
		return -1;
	unsigned char *at = r->block;
	for (size_t i = 0; r->count < usable; i++) {
		const struct dns_tlsa *t = &q->tlsa[i];
		if (!dane_is_usable(t))
			continue;
		memcpy(at, t->data.p, t->data.n);
		r->record[r->count++] =
		    (struct dane_record){t->usage, t->selector, t->matching, t->data.n, at};
		at += t->data.n;
	}
	return 0;
}

void dane_take(struct dane_records *r, const struct dns_query *q)
{
	dane_clear(r);
	switch (q->result) {
	case DNS_OK:
		if (!q->secure || q->count == 0)
			return;
		r->state = DANE_FAILED;
		if (dane_copy(r, q) == 0)
			r->state = r->count > 0 ? DANE_USABLE : DANE_UNUSABLE;
		return;
	case DNS_NO_NAME:
	case DNS_NO_DATA:
	case DNS_BAD_NAME: /* with _25._tcp before it too long for DNS: no record can exist */
		return;
	case DNS_SERVER_FAILURE:
	case DNS_TIMEOUT:
	case DNS_NO_MEMORY:
		break;
	}
	r->state = DANE_FAILED;
}

void dane_clear(struct dane_records *r)
{
	free(r->block);
	*r = (struct dane_records){0};
}

/* ---- the certificates ---- */

static bool dane_record_is(const struct dane_record *r, const struct tls_chain_cert *c)
{
	struct slice shown = r->selector == DANE_CERT ? c->whole : c->key;
	struct slice data = {(const char *)r->data, r->n};
	if (r->matching != DANE_FULL)
		return tls_chain_digest_is(shown, data);
	return shown.n == data.n && memcmp(shown.p, data.p, data.n) == 0;
}

/* Does a record of this usage name the certificate? */
static bool dane_names_cert(const struct dane_records *r, unsigned char usage,
                            const struct tls_chain_cert *c)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->record[i].usage == usage && dane_record_is(&r->record[i], c))
			return true;
	return false;
}

/* Is the record a whole certificate of an authority that was not sent? DNS is then where it is to
 * be found (RFC 7671 5.2.1). */
static bool dane_brings_anchor(const struct dane_record *r, const struct tls_chain *chain)
{
	if (r->usage != DANE_TA || r->selector != DANE_CERT || r->matching != DANE_FULL)
		return false;
	for (size_t i = 0; i < chain->count; i++)
		if (dane_record_is(r, &chain->cert[i]))
			return false;
	return true;
}

/* The authorities to try, those that were sent first. Returns how many. */
static size_t dane_anchors(const struct dane_records *r, const struct tls_chain *chain,
                           struct slice anchor[DANE_ANCHORS_MAX])
{
	size_t n = 0;
	for (size_t i = 0; i < chain->count && n < DANE_ANCHORS_MAX; i++)
		if (dane_names_cert(r, DANE_TA, &chain->cert[i]))
			anchor[n++] = chain->cert[i].whole;
	for (size_t i = 0; i < r->count && n < DANE_ANCHORS_MAX; i++)
		if (dane_brings_anchor(&r->record[i], chain))
			anchor[n++] =
			    (struct slice){(const char *)r->record[i].data, r->record[i].n};
	return n;
}

bool dane_match(const struct dane_records *r, const struct tls *t, const char *const *names,
                size_t count, const char **why)
{
	struct tls_chain chain;
	struct slice anchor[DANE_ANCHORS_MAX];
	tls_chain_get(t, &chain);
	*why = "";
	if (chain.count == 0) {
		*why = "the other side showed no certificate";
		return false;
	}
	if (dane_names_cert(r, DANE_EE, &chain.cert[0]))
		return true;
	*why = "no TLSA record matches the certificate";
	size_t n = dane_anchors(r, &chain, anchor);
	for (size_t i = 0; i < n; i++)
		if (tls_chain_verify(t, anchor[i], names, count, why))
			return true;
	return false;
}
