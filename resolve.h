/* resolve: where an address leads to: aliases, users, hooks/alias-resolve, Dovecot. */
#ifndef RESOLVE_H
#define RESOLVE_H

#include "alias.h"
#include "conf.h"
#include "status.h"

struct resolve;

/* One destination: canonical address or command line; via as in alias_found_fn. */
struct resolve_found {
	enum alias_type type;
	const char *address;
	const char *via; /* FORWARD: hosts, separated by '/'; else NULL */
};

/*
 * Resolves an address as alias_walk does, asking hooks/alias-resolve beside the files, and Dovecot
 * (with dovecot_auth; auth_init comes before) for users that the files do not know. `done` comes
 * once, from the loop, never from inside this call: class 2 with the destinations, each once, which
 * live until it returns; else why not: 550 5.1.1 no such user (also when every destination is
 * missing), 554 5.4.6 a circle, 451 a hook that failed, Dovecot that does not answer, limits,
 * memory. The resolve is freed behind it. At most RESOLVE_ASKS_MAX runs of the hook and questions
 * to Dovecot, none begun after RESOLVE_TOTAL_MS. NULL when there is no memory. conf is kept, and
 * may be refreshed meanwhile. id is for the log.
 */
struct resolve *resolve_start(const struct conf *conf, const char *id, const struct addr *a,
                              void (*done)(void *arg, const struct status *st,
                                           const struct resolve_found *found, size_t count),
                              void *arg);

/* Ends it; done does not come. Harmless on NULL, and within `done`. */
void resolve_cancel(struct resolve *r);

#endif
