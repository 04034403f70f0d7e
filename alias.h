/* alias: the aliases of one domain, from domains/DOMAIN/aliases, and their resolution. */
#ifndef ALIAS_H
#define ALIAS_H

#include <stdbool.h>
#include <stddef.h>

#include "addr.h"
#include "status.h"

struct alias_table;
struct conf;

/*
 * Reads an aliases file; see aliases(5). A file that is not there is an empty table. The domain
 * (normalised; kept) completes addresses without one. NULL after writing "file:line: reason" into
 * err.
 */
struct alias_table *alias_load(const char *path, const char *domain, const char *suffix_separators,
                               const char *drop_characters, char *err, size_t err_size);
void alias_free(struct alias_table *t);

/* Names on the left side; 0 for NULL. */
size_t alias_count(const struct alias_table *t);

enum alias_type { ALIAS_EMAIL, ALIAS_PIPE, ALIAS_FORWARD };

/* Gets each destination once: a canonical address or a command line, and for ALIAS_FORWARD the
 * hosts, separated by '/' (else NULL). Returns 0 to go on, -1 to end with what `st` says. */
typedef int alias_found_fn(void *arg, enum alias_type type, const char *address, const char *via);

/*
 * All destinations of an address; `found` is called once all are known, so an error leaves nothing
 * half done. Looked up in this order: the alias with suffix, the user with suffix, the alias and
 * the user without suffix (drop characters never count), the catch-all "*". One that is not in a
 * domain of ours is its own destination; <postmaster> is that of the first domain of ours that has
 * one, the hostname's before others. Missing users are left out while others remain.
 * Returns 0; or -1 with *st: 550 5.1.1 when there is neither alias nor user, 554 5.4.6 past
 * ALIAS_DEPTH_MAX, 451 past the other limits, without memory, and for a domain whose files could
 * not be read; or what `found` made of it.
 */
int alias_resolve(const struct conf *conf, const struct addr *a, alias_found_fn *found, void *arg,
                  struct status *st);

#endif
