/* tls: TLS on mbedTLS 2.28 and 3.6; nothing else includes its headers for it. */
#ifndef TLS_H
#define TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"

/* One connection's TLS; struct io owns and drives it. */
struct tls;

/* What a step wants next. */
enum tls_want {
	TLS_DONE,
	TLS_WANT_READ,  /* again when the socket can be read */
	TLS_WANT_WRITE, /* again when it can be written */
	TLS_CLOSED,     /* the peer said it will send no more */
	TLS_FAILED,     /* see tls_error; errno is EPROTO, or what the socket said */
};

/* What is known about the other side after the handshake. */
struct tls_peer {
	bool chain_good; /* leads to a root we trust, all certificates in their time */
	bool name_good;  /* the certificate is for the name that was asked for */
	bool not_yet;    /* nothing wrong but a validity that has not begun: is our clock set? */
	bool has_cert;
	bool resumed; /* server side: by a ticket of ours, without a key exchange */
	bool ended; /* it has said that it sends no more: no one in between cut the stream short */
	unsigned char sha256[32]; /* fingerprint of its certificate (DER) */
	const char *why;          /* plain words when chain or name are not good, else "" */
	char version[12];         /* "TLSv1.2" */
	char cipher[64];          /* "TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256" */
	char sni[256]; /* server side: the name asked for, checked to be a host name, or "" */
};

/* ---- the server's certificates ---- */

struct tls_certs;
#if WITH_TLS

/*
 * Loads DIR/NAME/fullchain.pem and privkey.pem for each NAME (directories and links to them, in
 * order of name). One that is incomplete or does not load is skipped with a line in the log. Never
 * NULL but for lack of memory; perhaps with none loaded.
 */
struct tls_certs *tls_certs_open(const char *dir);
void tls_certs_close(struct tls_certs *c);
size_t tls_certs_count(const struct tls_certs *c);

/* When the first of the certificates in use runs out, in s since 1970; 0: there is none. */
int64_t tls_certs_expiry(const struct tls_certs *c);

/* Reads what has changed on disk. A new pair that does not load or match keeps the old one; why is
 * logged once. Connections under way keep what they began with. Returns how many were read anew. */
size_t tls_certs_refresh(struct tls_certs *c);

/* TLS for an accepted connection: TLS 1.2 at least, certificate by SNI among the names in the
 * certificates (wildcards too), ECDSA preferred when the client can, default the first; session
 * tickets in TLS 1.2, no renegotiation. NULL when there is no memory or no certificate. c is kept.
 */
struct tls *tls_accept(struct tls_certs *c, int fd);

/* ---- the client's roots ---- */

struct tls_roots;

/* Indexes a bundle (file) or a directory of certificates, without keeping them parsed; path NULL or
 * "": SSL_CERT_FILE, SSL_CERT_DIR, then the usual places. The index is made anew when the file
 * changes. NULL when there is no memory; a path without certificates is logged, and then nothing
 * is trusted. */
struct tls_roots *tls_roots_open(const char *path);
void tls_roots_close(struct tls_roots *r);

/* As if it had been opened with this path; connections under way are judged by it. 0, or -1 without
 * memory, and nothing has changed. */
int tls_roots_set(struct tls_roots *r, const char *path);
size_t tls_roots_count(const struct tls_roots *r);

/* TLS for a connection of ours: SNI and the name to check are always set (name: ASCII host name).
 * The handshake itself accepts any certificate: what it is worth is in tls_peer, and for the caller
 * to judge before anything is sent. NULL when there is no memory. roots is kept. */
struct tls *tls_connect(struct tls_roots *roots, const char *name, int fd);

/* ---- steps, for io.c ---- */

enum tls_want tls_handshake(struct tls *t);

/* Bytes read or written go to *done. Only with TLS_DONE is *done > 0. What was offered to a
 * tls_write that had to wait comes first in the next one; more may stand behind it. */
enum tls_want tls_read(struct tls *t, void *p, size_t n, size_t *done);
enum tls_want tls_write(struct tls *t, const void *p, size_t n, size_t *done);

/* Decrypted bytes that wait inside: select() does not know of them. */
size_t tls_pending(const struct tls *t);

/* Says that we will send no more (close_notify); all was written before. */
enum tls_want tls_shutdown(struct tls *t);

/* Frees it; the descriptor is the caller's. */
void tls_free(struct tls *t);

/* ---- questions ---- */

/* Valid after the handshake; before it, all is empty. Never NULL. */
const struct tls_peer *tls_peer(const struct tls *t);

/* Why it failed, in plain words. Never NULL. */
const char *tls_error(const struct tls *t);

/* Name and version of the library, for -V. */
void tls_library(char *out, size_t size);

#else

#include "tls_none.h"

#endif
#endif
