/* sts: the MTA-STS policies of other domains (RFC 8461), for sending to them. */
#ifndef STS_H
#define STS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "config.h"
#include "status.h"
#include "tls.h"

enum sts_mode { STS_NONE, STS_TESTING, STS_ENFORCE };

/* A policy (RFC 8461 3.2). mx: patterns, lower-case ASCII, no final dot. */
struct sts_policy {
	enum sts_mode mode;
	int64_t max_age; /* s, 0 to 31557600 */
	size_t mx_count;
	char *mx[STS_MX_MAX];
};

/* Reads the text of a policy. 0, or -1 with *st. cleared: frees, leaves an empty one. */
int sts_policy_parse(struct slice text, struct sts_policy *p, struct status *st);
void sts_policy_clear(struct sts_policy *p);

/* Does the policy list this mail host (ASCII)? "*.example" matches one label (RFC 8461 4.1). */
bool sts_policy_lists(const struct sts_policy *p, const char *host);

struct sts;

/* Opens the cache DATA_DIR/sts-cache (made when missing) and starts the refresh in the background.
 * roots is kept; now is the wall clock, s. NULL with *st. */
struct sts *sts_open(const char *data_dir, struct tls_roots *roots, int64_t (*now)(void),
                     struct status *st);
void sts_close(struct sts *s);

/* A question, embedded in its owner, zeroed before its first use. */
struct sts_query {
	/* private */
	struct sts *sts;
	struct sts_flight *flight;
	void (*done)(void *arg, const struct sts_policy *p);
	void *arg;
	struct sts_query *next;
};

/*
 * The policy that holds for a domain (normalised): asks for _mta-sts TXT; the cached one when its
 * id is the same or a newer one cannot be fetched and it has not expired; else the fetched one,
 * which is cached. `done` comes once, from the loop, never from inside this call; p lives until it
 * returns, NULL when the domain has none. Several questions for one domain share a fetch. A
 * fetch that failed is not tried again for STS_RETRY_MS.
 */
void sts_find(struct sts *s, struct sts_query *q, const char *domain,
              void (*done)(void *arg, const struct sts_policy *p), void *arg);

/* done does not come any more. Harmless on an idle or zeroed struct. */
void sts_cancel(struct sts_query *q);

/* "none", "testing", "enforce". */
const char *sts_mode_name(enum sts_mode mode);

#endif
