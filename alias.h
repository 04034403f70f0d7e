/* alias: the aliases of one domain, from domains/DOMAIN/aliases, and their resolution. */
#ifndef ALIAS_H
#define ALIAS_H

#include <stdbool.h>
#include <stddef.h>

#include "addr.h"
#include "buf.h"
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

/*
 * The same for the file of a system in sendmail's grammar, /etc/aliases: names may be quoted, a
 * line that begins with a blank continues the one before, commands may stand among addresses,
 * "\name" is the user of that name in the alias of that name. A line with what is not supported
 * (files, :include: and other words in colons, commands that need a shell, "*") is logged and left
 * out.
 */
struct alias_table *alias_load_system(const char *path, const char *domain,
                                      const char *suffix_separators, const char *drop_characters,
                                      char *err, size_t err_size);
void alias_free(struct alias_table *t);

/*
 * Reads one right-hand side, blanks and line ends around it allowed, into items (set up by the
 * caller, empty) as a know function gives them; nothing at all leaves it empty. Returns 0, or -1
 * after writing "source:1: reason" into err.
 */
int alias_read_right(struct slice right, const char *source, const char *domain, struct buf *items,
                     char *err, size_t err_size);

/* Names on the left side; 0 for NULL. */
size_t alias_count(const struct alias_table *t);

enum alias_type { ALIAS_EMAIL, ALIAS_PIPE, ALIAS_FORWARD };

/* Gets each destination once: a canonical address or a command line, and for ALIAS_FORWARD the
 * hosts, separated by '/' (else NULL). Returns 0 to go on, -1 to end with what `st` says. */
typedef int alias_found_fn(void *arg, enum alias_type type, const char *address, const char *via);

/* What only others know: the hook's aliases of an address, and whether Dovecot has this user. */
enum alias_question { ALIAS_HOOK, ALIAS_USER };

/*
 * Answers: 0 with *items what alias_read_right made (kept until the walk ends), for a user
 * anything; NULL means no. 1 when it has to be asked first: the walk then ends, to be made again.
 * -1 with what `st` of the walk says. The address is in a domain of ours, its user is a key
 * (addr_user_key),
 * "*" for the catch-all.
 */
typedef int alias_know_fn(void *arg, enum alias_question q, const struct addr *a,
                          const char **items);

/*
 * All destinations of an address; `found` is called once all are known, so an error leaves nothing
 * half done. Looked up in this order: the alias with suffix, the user with suffix, the alias and
 * the user without suffix (drop characters never count), the user without suffix that `know` has
 * (with drop characters, then without), the catch-all "*". Each look-up of an alias asks the
 * domain's file, then the system's, and adds what `know` has for the address: as it is, without
 * suffix and drop characters, "*". One that is not in a domain of ours is its own destination;
 * <postmaster> is that of the first domain of ours that has one, the hostname's before others.
 * Missing users are left out while others remain.
 * Returns 0; 1 when `know` has; or -1 with *st: 550 5.1.1 when there is neither alias nor user, 554
 * 5.4.6 past ALIAS_DEPTH_MAX, 451 past the other limits, without memory, and for a domain whose
 * files could not be read; or what `found` made of it. arg is that of both functions.
 */
int alias_walk(const struct conf *conf, const struct addr *a, alias_know_fn *know,
               alias_found_fn *found, void *arg, struct status *st);

#endif
