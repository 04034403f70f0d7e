/*
 * tls_report: certificates as people read them.
 *
 * Nothing here decides whom to trust: that is tls_roots.c and tls_chain.c. A certificate is parsed
 * anew from its bytes, so files and connections go the same way.
 */
#include "tls_report.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls_int.h"

/* ---- one certificate ---- */

static void put_name(struct tls_report *r, const char *p, size_t n)
{
	size_t used = strlen(r->names);
	/* One that does not fit as a whole would be another name. */
	if (used + n + 3 <= sizeof r->names)
		snprintf(r->names + used, sizeof r->names - used, "%s%.*s", used > 0 ? ", " : "",
		         (int)n, p);
}

static void read_names(const mbedtls_x509_crt *crt, struct tls_report *r)
{
	const unsigned dns_name = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2;
	const unsigned ip_address = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 7;
	for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s; s = s->next) {
		char text[INET6_ADDRSTRLEN];
		if (!s->buf.p)
			continue;
		if ((unsigned)s->buf.tag == dns_name)
			put_name(r, (const char *)s->buf.p, s->buf.len);
		else if ((unsigned)s->buf.tag == ip_address &&
		         (s->buf.len == 4 || s->buf.len == 16) &&
		         inet_ntop(s->buf.len == 4 ? AF_INET : AF_INET6, s->buf.p, text,
		                   sizeof text))
			put_name(r, text, strlen(text));
	}
}

static void read_key(const mbedtls_x509_crt *crt, struct tls_report *r)
{
	const char *kind = "another kind of key";
	if (mbedtls_pk_can_do(&crt->pk, MBEDTLS_PK_RSA))
		kind = "RSA";
	else if (mbedtls_pk_can_do(&crt->pk, MBEDTLS_PK_ECKEY))
		kind = "EC";
	snprintf(r->key, sizeof r->key, "%s %u bits", kind,
	         (unsigned)mbedtls_pk_get_bitlen(&crt->pk));
}

static bool same_bytes(const mbedtls_x509_buf *a, const mbedtls_x509_buf *b)
{
	return a->len == b->len && memcmp(a->p, b->p, a->len) == 0;
}

static void fingerprint(const mbedtls_x509_crt *crt, struct tls_report *r)
{
	unsigned char sum[32] = {0};
	mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), crt->raw.p, crt->raw.len, sum);
	for (size_t i = 0; i < sizeof sum; i++)
		snprintf(r->sha256 + 2 * i, 3, "%02x", sum[i]);
}

static void describe(const mbedtls_x509_crt *crt, const char *host, struct tls_report *r)
{
	memset(r, 0, sizeof *r);
	/* One that does not fit is told as far as it goes. */
	if (mbedtls_x509_dn_gets(r->subject, sizeof r->subject, &crt->subject) < 0)
		r->subject[sizeof r->subject - 1] = '\0';
	if (mbedtls_x509_dn_gets(r->issuer, sizeof r->issuer, &crt->issuer) < 0)
		r->issuer[sizeof r->issuer - 1] = '\0';
	read_names(crt, r);
	read_key(crt, r);
	fingerprint(crt, r);
	r->begins = tls_seconds_of(&crt->valid_from);
	r->ends = tls_seconds_of(&crt->valid_to);
	r->own_issuer = same_bytes(&crt->issuer_raw, &crt->subject_raw);
	r->for_host = host && tls_cert_is_for(crt, host);
}

int tls_report_cert(struct slice der, const char *host, struct tls_report *r)
{
	mbedtls_x509_crt crt;
	mbedtls_x509_crt_init(&crt);
	int rc = mbedtls_x509_crt_parse_der(&crt, (const unsigned char *)der.p, der.n);
	if (rc == 0)
		describe(&crt, host, r);
	mbedtls_x509_crt_free(&crt);
	return rc ? -1 : 0;
}

/* ---- chains ---- */

struct look {
	const char *host;
	struct tls_report_chain *chain;
};

/* Takes a parsed list. */
static void take_chain(void *arg, const mbedtls_x509_crt *crt)
{
	const char *host = ((struct look *)arg)->host;
	struct tls_report_chain *c = ((struct look *)arg)->chain;
	c->in_order = true;
	for (; crt && crt->raw.p && c->count < TLS_CHAIN_MAX; crt = crt->next) {
		describe(crt, host, &c->cert[c->count++]);
		if (crt->next && crt->next->raw.p &&
		    !same_bytes(&crt->issuer_raw, &crt->next->subject_raw))
			c->in_order = false;
	}
}

void tls_report_peer(const struct tls *t, const char *host, struct tls_report_chain *c)
{
	struct look look = {host, c};
	c->count = 0;
	if (t && t->ready)
		take_chain(&look, mbedtls_ssl_get_peer_cert(&t->ssl));
}

int tls_report_files(const char *chain_path, const char *key_path, const char *host,
                     struct tls_report_chain *c, const char **file, const char **why)
{
	c->count = 0;
	*file = chain_path;
	*why = "no memory";
	struct look look = {host, c};
	return tls_lib_start() == 0
	           ? tls_pair_look(chain_path, key_path, take_chain, &look, file, why)
	           : -1;
}
