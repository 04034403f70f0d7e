/* tls_chain: the certificates the other side sent, for who judges them by other roots than ours. */
#ifndef TLS_CHAIN_H
#define TLS_CHAIN_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "config.h"
#include "tls.h"

/* Its own certificate first. The bytes belong to the connection and live as long. */
struct tls_chain {
	size_t count;
	struct tls_chain_cert {
		struct slice whole; /* DER of the certificate */
		struct slice key;   /* DER of its SubjectPublicKeyInfo */
	} cert[TLS_CHAIN_MAX];
};

#if WITH_TLS

/* What the other side sent; no more than the first TLS_CHAIN_MAX. Empty before the handshake has
 * ended and when t is NULL. */
void tls_chain_get(const struct tls *t, struct tls_chain *c);

/* Is it the digest of data? 32 bytes are SHA-256, 64 are SHA-512, others never. */
bool tls_chain_digest_is(struct slice data, struct slice digest);

/*
 * Does the peer's own certificate lead, through those it sent, to `anchor` (DER), which is all that
 * is trusted? The anchor is one of those sent or not, signed by itself or by another (RFC 7671
 * 5.2), but an authority's; the peer's own certificate is its own anchor only when it is
 * self-signed. All must be in their time, the peer's own for servers and for one of the names:
 * ASCII host names, a wildcard stands for one whole first label, and the common name counts only
 * where there are no alternative ones (RFC 6125 6.4). Otherwise *why tells, in words that live for
 * ever.
 */
bool tls_chain_verify(const struct tls *t, struct slice anchor, const char *const *names,
                      size_t count, const char **why);

#else

static inline void tls_chain_get(const struct tls *t, struct tls_chain *c)
{
	(void)t;
	c->count = 0;
}
static inline bool tls_chain_digest_is(struct slice data, struct slice digest)
{
	(void)data, (void)digest;
	return false;
}
static inline bool tls_chain_verify(const struct tls *t, struct slice anchor,
                                    const char *const *names, size_t count, const char **why)
{
	(void)t, (void)anchor, (void)names, (void)count;
	*why = "TLS is left out";
	return false;
}

#endif
#endif
