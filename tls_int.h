/* tls_int: what the files of tls share. */
#ifndef TLS_INT_H
#define TLS_INT_H

#include <stdint.h>
#include <sys/types.h>

#include "tls.h"
#include "tls_lib.h"

/* ---- a connection ---- */

struct tls_conf;

struct tls {
	mbedtls_ssl_context ssl; /* first: callbacks of the library get its address only */
	int fd;
	int sock_error; /* errno of the socket, 0 while it works */
	bool ready;     /* the handshake is done */
	bool failed;    /* TLS itself has failed: nothing goes on */
	bool said_end;
	size_t room;             /* bytes the step may still take from the socket */
	size_t writing;          /* bytes the library has taken for a write that must be repeated */
	struct tls_conf *conf;   /* server: counted */
	struct tls_roots *roots; /* client */
	char name[256];          /* client: to be found in the certificate */
	struct tls_peer peer;
	char why[160];
	char error[128];
};

/* Settings that both ends share. 0, or a code of the library. */
int tls_config_init(mbedtls_ssl_config *conf, int endpoint);

/* A connection; conf outlives it. NULL when there is no memory. */
struct tls *tls_new(const mbedtls_ssl_config *conf, int fd);

/* ---- names ---- */
/* A host name (letters, digits, '-', '_', dots between labels), no address? */
bool tls_is_host(const char *p, size_t n);

/* Does the certificate name this host? Alternative names and the common name, wildcards too. */
bool tls_cert_names(const mbedtls_x509_crt *crt, const char *host);

/* As above, but the common name counts only where there are no alternative names (RFC 6125 6.4.4):
 * for a certificate of somebody else. */
bool tls_cert_is_for(const mbedtls_x509_crt *crt, const char *host);

/* The first name of the certificate, in out, or "". */
void tls_cert_first_name(const mbedtls_x509_crt *crt, char *out, size_t size);

/* ---- files ---- */
/* Tells one state of a file from another. The time of its last change counts as well: a key that
 * could not be read is looked at again when its mode has been put right. */
struct tls_stamp {
	int64_t sec;
	int64_t nsec;
	int64_t change_sec;
	int64_t change_nsec;
	int64_t size;
	uint64_t dev;
	uint64_t ino;
};

/* All zero when there is no such file. */
void tls_stamp_get(struct tls_stamp *s, const char *path);
bool tls_stamp_same(const struct tls_stamp *a, const struct tls_stamp *b);

/* ---- the other files ---- */

void tls_conf_release(struct tls_conf *conf);
/* Seconds since 1970 of a date in a certificate, also where time_t ends in 2038. */
int64_t tls_seconds_of(const mbedtls_x509_time *t);
/* Loads a chain and its key; `look` gets the chain as soon as it is read. 0, or -1 with the file
 * that is to blame and why. */
int tls_pair_look(const char *chain, const char *key,
                  void (*look)(void *arg, const mbedtls_x509_crt *crt), void *arg,
                  const char **file, const char **why);
/* Fills the chain_good, name_good, not_yet of t->peer, and t->why. */
void tls_roots_judge(struct tls_roots *r, struct tls *t, mbedtls_x509_crt *chain);

#endif
