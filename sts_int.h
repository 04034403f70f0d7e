/* sts_int: what the files of sts share; for them and their tests. */
#ifndef STS_INT_H
#define STS_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "sts.h"
#include "text.h"

/* Longest id of a TXT record (RFC 8461 3.1). */
#define STS_ID_MAX 32

/* Longest max_age, s: a year (RFC 8461 3.2). */
#define STS_AGE_MAX 31557600

/* ---- sts_policy.c ---- */

/* Is the record one of MTA-STS at all: "v=STSv1" and a semicolon? */
bool sts_record_is_ours(struct slice record);

/* Reads the id of such a record (RFC 8461 3.1). Returns 0, or -1 when the record is malformed. */
int sts_record_id(struct slice record, char id[STS_ID_MAX + 1]);

/* May this be an id? */
bool sts_id_is_good(struct slice id);

/* Adds a pattern, normalised. Returns 0, or -1 with *st: malformed, too many, no memory. */
int sts_policy_add(struct sts_policy *p, struct slice pattern, struct status *st);

/* ---- sts_cache.c ---- */

/* A policy as it was fetched. */
struct sts_cached {
	char id[STS_ID_MAX + 1]; /* of the TXT record that made us fetch it */
	int64_t fetched;         /* wall clock, s */
	struct sts_policy policy;
};

struct sts_cache;

/* Opens DATA_DIR/sts-cache, makes it when missing, reads what is in it; files that cannot be
 * understood are removed. NULL with *st. */
struct sts_cache *sts_cache_open(const char *data_dir, struct status *st);
void sts_cache_close(struct sts_cache *c);

/* Is the policy past its time? Never when the clock is not believed. */
bool sts_cached_is_over(const struct sts_cached *e, int64_t now);

/* Reads the policy of a domain. Returns 0 with *e to be cleared by sts_policy_clear(&e->policy), or
 * -1 when there is none. */
int sts_cache_load(struct sts_cache *c, const char *domain, struct sts_cached *e);

/* Keeps the policy of a domain in place of the old one. When there are STS_CACHE_MAX of others,
 * that which expires first goes, be it the new one. Troubles are logged. */
void sts_cache_store(struct sts_cache *c, const char *domain, const struct sts_cached *e,
                     int64_t now);

/* Removes what is past its time. */
void sts_cache_expire(struct sts_cache *c, int64_t now);

/* A domain whose policy is to be fetched anew, and marks it as seen in this round; NULL: none left,
 * and the next call begins a new round. Lives until the cache is next changed. */
const char *sts_cache_next_due(struct sts_cache *c, int64_t now);

/* Reads and writes the content of a file. Reading returns 0 (as sts_cache_load), or -1: not a
 * cached policy of a domain that is named like this, or no memory. */
int sts_cached_read(struct text_reader *r, const char *domain, struct sts_cached *e);
int sts_cached_write(struct buf *out, const char *domain, const struct sts_cached *e);

/* The file name for a domain: "p:" and the domain, in which all but a-z, 0-9, '-', '.', '_' and
 * what is not ASCII is "%XX". Returns 0, or -1 when it is too long for a file name. */
int sts_cache_name(const char *domain, char *out, size_t size);

#endif
