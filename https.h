/* https: one GET over TLS, for small texts of verified origin (RFC 9110, 9112, 9525). */
#ifndef HTTPS_H
#define HTTPS_H

#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "status.h"
#include "tls.h"

/* What is wanted. Strings are kept until done. */
struct https_request {
	const char *host; /* ASCII host name: asked of DNS, SNI, and checked in the certificate */
	const char *path; /* "/.well-known/mta-sts.txt" */
	const char *type; /* media type that must come, "text/plain"; parameters are allowed */
	size_t max;       /* most bytes of content */
	int64_t limit_ms; /* for all of it */
};

struct https;

/*
 * Starts a GET on port HTTPS_PORT. Certificate: chain to the roots and name, or nothing is sent.
 * Any status but 200 is a failure, redirects included. `done` comes once, from the loop and never
 * from inside this call: class 2 with the content, which lives until it returns; else why not, in
 * words (always transient). The session is freed behind it. NULL when there is no memory. Without
 * WITH_TLS it always fails.
 */
struct https *https_get(const struct https_request *request, struct tls_roots *roots,
                        void (*done)(void *arg, const struct status *st, struct slice content),
                        void *arg);

/* Ends it; done does not come. */
void https_cancel(struct https *h);

#endif
