/* user: the users of one domain, from domains/DOMAIN/users. */
#ifndef USER_H
#define USER_H

#include <stdbool.h>
#include <stddef.h>

#include <stdint.h>

#include "buf.h"
#include "config.h"

struct user_table;

/* How a password is stored. */
enum user_scheme {
	USER_DENIED, /* receives only: no password is right */
	USER_PLAIN,  /* hash is the password itself */
	USER_SCRYPT,
	USER_PBKDF2, /* HMAC-SHA256 */
};

/* What is stored of one password; a value: copied, given to a child. */
struct user_secret {
	enum user_scheme scheme;
	bool never;           /* the answer is no, after as much work as for others */
	uint32_t log_n, r, p; /* scrypt */
	uint32_t iterations;  /* PBKDF2 */
	size_t salt_n, hash_n;
	unsigned char salt[USER_SALT_MAX];
	unsigned char hash[USER_HASH_MAX];
};

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

/*
 * What is stored for this user (as user_find finds it). For one who is unknown, receives only, or
 * has a secret that we cannot compute (parameters past config.h's bounds): a stand-in that costs
 * what the hashed users of this table cost, and always says no. Returns whether the user exists.
 */
bool user_secret_find(const struct user_table *t, const char *user, struct user_secret *out);

/* Is this the password? Takes long, by design, and for scrypt 128 * r * 2^log_n bytes: for a child
 * or a tool. 1, 0, or -1 when it cannot be told (memory, or built without hashes). */
int user_secret_check(const struct user_secret *s, struct slice password);

/* user_secret_find and user_secret_check in one, for tools: 1, 0, -1. */
int user_check(const struct user_table *t, const char *user, struct slice password);

/* A new secret for this password: PBKDF2 with a fresh salt. Takes long. 0, or -1 with errno. */
int user_secret_new(struct user_secret *out, struct slice password);

/*
 * For tools: change the users file. The user's entry is replaced or added, or removed, and the
 * whole file written anew in one durable step, under a lock; its owner, group and mode stay, a new
 * file has USER_FILE_MODE and the directory's group. Comments do not survive. user: any spelling.
 * Return 0; user_remove 1 when there is no such user; or -1 after writing the reason into err.
 */
int user_put(const char *path, const char *user, const struct user_secret *s, char *err,
             size_t err_size);
int user_remove(const char *path, const char *user, char *err, size_t err_size);

/* Names and schemes for a list, in order of name: calls one(arg, name, scheme) for each. */
void user_each(const struct user_table *t,
               void (*one)(void *arg, const char *name, enum user_scheme scheme), void *arg);

/* Copies a local part without the drop characters; without what begins at the first of the
 * separators, or, with keep_suffix, with all of that unchanged. Both sets hold UTF-8 characters. */
void user_clean(const char *user, const char *separators, const char *drop, bool keep_suffix,
                char out[ADDR_USER_MAX + 1]);

#endif
