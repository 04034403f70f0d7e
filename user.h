/* user: the users of one domain, from domains/DOMAIN/users. */
#ifndef USER_H
#define USER_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"

struct user_table;

/* Reads a users file (protobuf text format, chasquid's schema). A file that is not there is an
 * empty table. drop_characters (kept) do not count when names are compared. NULL after writing
 * "file:line: reason" into err. */
struct user_table *user_load(const char *path, const char *drop_characters, char *err,
                             size_t err_size);
void user_free(struct user_table *t);

/* Users in the table; 0 for NULL. */
size_t user_count(const struct user_table *t);

/*
 * The name (addr_user_key of what the file says; the table's storage) of the user whom this local
 * part without suffix means, or NULL: the one spelled so wins over one that differs in dropped
 * characters. A NULL table has no users.
 */
const char *user_find(const struct user_table *t, const char *user);
bool user_exists(const struct user_table *t, const char *user);

/* Copies a local part without the drop characters; without what begins at the first of the
 * separators, or, with keep_suffix, with all of that unchanged. Both sets hold UTF-8 characters. */
void user_clean(const char *user, const char *separators, const char *drop, bool keep_suffix,
                char out[ADDR_USER_MAX + 1]);

#endif
