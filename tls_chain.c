/*
 * tls_chain: the certificates the other side sent.
 *
 * They are the library's, parsed in the handshake; slices of them are given out. A verification
 * parses the one anchor anew, so that nothing else is in the list the library trusts: about 3 KB
 * while it lasts, and as many signatures to check as the chain is long.
 */
#include "tls_chain.h"

#include <string.h>

#include "tls_int.h"

static const mbedtls_x509_crt *tls_chain_first(const struct tls *t)
{
	return t && t->ready ? mbedtls_ssl_get_peer_cert(&t->ssl) : NULL;
}

static struct slice tls_chain_slice(const mbedtls_x509_buf *b)
{
	return (struct slice){(const char *)b->p, b->len};
}

void tls_chain_get(const struct tls *t, struct tls_chain *c)
{
	c->count = 0;
	for (const mbedtls_x509_crt *crt = tls_chain_first(t); crt && c->count < TLS_CHAIN_MAX;
	     crt = crt->next)
		c->cert[c->count++] = (struct tls_chain_cert){tls_chain_slice(&crt->raw),
		                                              tls_chain_slice(&crt->pk_raw)};
}

bool tls_chain_digest_is(struct slice data, struct slice digest)
{
	unsigned char got[64];
	if (digest.n != 32 && digest.n != 64)
		return false;
	mbedtls_md_type_t type = digest.n == 32 ? MBEDTLS_MD_SHA256 : MBEDTLS_MD_SHA512;
	return mbedtls_md(mbedtls_md_info_from_type(type), (const unsigned char *)data.p, data.n,
	                  got) == 0 &&
	       memcmp(got, digest.p, digest.n) == 0;
}

/* ---- verification ---- */

/* What is said of a chain with several flaws is the first of them here. */
static const struct {
	uint32_t flags;
	const char *text;
} tls_chain_flaws[] = {
    {MBEDTLS_X509_BADCERT_NOT_TRUSTED, "the certificate is not by the authority"},
    {MBEDTLS_X509_BADCERT_CN_MISMATCH, "the certificate is for another name"},
    {TLS_USAGE_FLAGS, "the certificate is not for a server"},
    {TLS_WEAK_FLAGS, "a certificate of the chain is too weak"},
    {MBEDTLS_X509_BADCERT_EXPIRED, "a certificate of the chain is expired"},
    {MBEDTLS_X509_BADCERT_FUTURE, "a certificate of the chain is not valid yet"},
};

static const char *tls_chain_why(uint32_t flags)
{
	/* All set: the library gave up. */
	for (size_t i = 0;
	     flags != UINT32_MAX && i < sizeof tls_chain_flaws / sizeof *tls_chain_flaws; i++)
		if (flags & tls_chain_flaws[i].flags)
			return tls_chain_flaws[i].text;
	return flags ? "the certificate cannot be verified" : "";
}

/* The library's flags for the chain from crt to the anchor, without names. */
static uint32_t tls_chain_flags(const mbedtls_x509_crt *crt, struct slice anchor)
{
	uint32_t flags = UINT32_MAX;
	mbedtls_x509_crt top;
	mbedtls_x509_crt_init(&top);
	/* The library does not change the chain, it only asks for it without const. */
	if (mbedtls_x509_crt_parse_der(&top, (const unsigned char *)anchor.p, anchor.n) == 0)
		mbedtls_x509_crt_verify((mbedtls_x509_crt *)crt, &top, NULL, NULL, &flags, NULL,
		                        NULL);
	mbedtls_x509_crt_free(&top);
	return flags;
}

bool tls_chain_verify(const struct tls *t, struct slice anchor, const char *const *names,
                      size_t count, const char **why)
{
	const mbedtls_x509_crt *crt = tls_chain_first(t);
	bool named = false;
	if (!crt) {
		*why = "the other side showed no certificate";
		return false;
	}
	for (size_t i = 0; i < count && !named; i++)
		named = tls_cert_is_for(crt, names[i]);
	uint32_t flags = tls_chain_flags(crt, anchor);
	/* What a certificate may be used for was looked at in the handshake. */
	flags |= mbedtls_ssl_get_verify_result(&t->ssl) & TLS_USAGE_FLAGS;
	if (!named)
		flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
	*why = tls_chain_why(flags);
	return flags == 0;
}
