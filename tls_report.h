/* tls_report: certificates as people read them: for tools. */
#ifndef TLS_REPORT_H
#define TLS_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "config.h"
#include "tls_chain.h"

/* One certificate. Texts are cut to fit, and may hold any bytes but NUL: clean them for display. */
struct tls_report {
	char subject[256];
	char issuer[256];
	char names[512]; /* alternative names, hosts and addresses, ", " between; "" when none */
	char key[32];    /* "EC 256 bits", "RSA 2048 bits" */
	char sha256[65]; /* of the whole, in hex */
	int64_t begins;  /* s since 1970, UTC */
	int64_t ends;
	bool own_issuer; /* signed by itself, or says so */
	bool for_host;   /* for the name that was asked for (RFC 6125 6.4); false without one */
};

/* A chain of a file or a connection, its own certificate first. */
struct tls_report_chain {
	size_t count;
	struct tls_report cert[TLS_CHAIN_MAX];
	bool in_order; /* each is issued by the one that follows */
};

#if WITH_TLS

/* Reads one certificate (DER). host may be NULL. 0, or -1 when it cannot be understood. */
int tls_report_cert(struct slice der, const char *host, struct tls_report *r);

/* What the other side of a connection sent; empty before the handshake has ended and for NULL. */
void tls_report_peer(const struct tls *t, const char *host, struct tls_report_chain *c);

/* Loads a chain and its key as the server does. 0; or -1 with the file that is to blame in *file
 * and *why. The chain is then what could be read of it. */
int tls_report_files(const char *chain_path, const char *key_path, const char *host,
                     struct tls_report_chain *c, const char **file, const char **why);

#else

static inline int tls_report_cert(struct slice der, const char *host, struct tls_report *r)
{
	(void)der, (void)host, (void)r;
	return -1;
}
static inline void tls_report_peer(const struct tls *t, const char *host,
                                   struct tls_report_chain *c)
{
	(void)t, (void)host;
	c->count = 0;
}
static inline int tls_report_files(const char *chain_path, const char *key_path, const char *host,
                                   struct tls_report_chain *c, const char **file, const char **why)
{
	(void)key_path, (void)host;
	c->count = 0;
	*file = chain_path;
	*why = "this program was built without TLS";
	return -1;
}

#endif
#endif
