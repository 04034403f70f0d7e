/* domaininfo: how well protected the mail of each domain has been, both ways. */
#ifndef DOMAININFO_H
#define DOMAININFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* From the weakest to the strongest; the numbers are those on disk. Incoming mail knows PLAIN and
 * TLS_CLIENT, outgoing mail PLAIN, TLS_INSECURE and TLS_SECURE. */
enum domaininfo_level {
	DOMAININFO_PLAIN,
	DOMAININFO_TLS_CLIENT,
	DOMAININFO_TLS_INSECURE,
	DOMAININFO_TLS_SECURE
};

enum domaininfo_way { DOMAININFO_IN, DOMAININFO_OUT };

struct domaininfo;

/* What is known of a domain. seen: when a connection last had that level, wall clock, s. */
struct domaininfo_entry {
	const char *domain;             /* normalised; lives until the next call */
	enum domaininfo_level level[2]; /* by way */
	int64_t seen[2];
};

/*
 * Reads what DATA_DIR/domaininfo knows (the directory is made when missing); a file that cannot be
 * understood is logged, left alone and, as far as its name tells a domain, counts as the strongest
 * levels: damage must not open a door. Files whose name tells no domain, or whose content names
 * another one, are logged and ignored. expire_s: a level that no connection has had for so long
 * counts no more; 0: never. now is the wall clock, s; before CLOCK_RELEASE nothing expires. NULL
 * with *st when the directory cannot be read or there is no memory.
 */
struct domaininfo *domaininfo_open(const char *data_dir, int64_t expire_s, int64_t (*now)(void),
                                   struct status *st);

/* As if it had been opened with this expire_s. */
void domaininfo_set_expire(struct domaininfo *di, int64_t expire_s);
void domaininfo_close(struct domaininfo *di);

/* The level a connection must come up to: PLAIN for a domain never seen. The domain is normalised
 * (addr_domain_normalise). Of di NULL nothing is known. */
enum domaininfo_level domaininfo_level(const struct domaininfo *di, enum domaininfo_way way,
                                       const char *domain);

/*
 * Notes that a connection had this level. A higher one than known is recorded, durably, before the
 * return; a lower one changes nothing. Whoever calls has made sure that the other side speaks for
 * the domain. When there is no room or the disk refuses, that is logged and the level is known
 * until the restart, or not at all: mail goes on. Blocks for a flush when a file is written. di may
 * be NULL.
 */
void domaininfo_saw(struct domaininfo *di, enum domaininfo_way way, const char *domain,
                    enum domaininfo_level level);

/* Removes a domain, its file too. 0, or -1 with *st: it is not known, or the disk refuses. */
int domaininfo_forget(struct domaininfo *di, const char *domain, struct status *st);

/* The entry of a domain; 0, or -1 when it is not known. */
int domaininfo_find(const struct domaininfo *di, const char *domain, struct domaininfo_entry *e);

/* Copies up to max entries whose names sort behind `after` ("" for the first), in order of name.
 * Their names live until the next call that changes something. Returns how many. */
size_t domaininfo_list(const struct domaininfo *di, const char *after, struct domaininfo_entry *e,
                       size_t max);

/* "PLAIN", "TLS_CLIENT", "TLS_INSECURE", "TLS_SECURE". */
const char *domaininfo_level_name(enum domaininfo_level level);

#endif
