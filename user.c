/*
 * user: the users of one domain.
 *
 * The file has chasquid's schema, map<string, Password>, and all of it is checked; what is kept is
 * the names, for receiving needs no more. A table is one buffer of names and one sorted array of
 * matches into it: a name is found by its key, and also by its key without drop characters, so that
 * a user stored as "a.b" gets the mail for "ab" and "A.B". Tables never change once loaded.
 */
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "addr.h"
#include "status.h"
#include "textfield.h"

/* Offsets in names: who comes for a local part with this key. */
struct user_match {
	uint32_t spelling;
	uint32_t name;
};

struct user_table {
	struct buf names; /* NUL-terminated, one after the other */
	struct user_match *match;
	size_t match_count;
	size_t count;
	const char *drop;
};

/* ---- the file's schema ---- */

struct user_scrypt {
	uint64_t log_n;
	int32_t r, p, key_len;
	struct buf salt, encrypted;
	int given[6];
};

static const struct text_field scrypt_fields[] = {
    {.name = "logN",
     .number = 1,
     .type = TEXT_UINT64,
     .offset = offsetof(struct user_scrypt, log_n)},
    {.name = "r", .number = 2, .type = TEXT_INT32, .offset = offsetof(struct user_scrypt, r)},
    {.name = "p", .number = 3, .type = TEXT_INT32, .offset = offsetof(struct user_scrypt, p)},
    {.name = "keyLen",
     .number = 4,
     .type = TEXT_INT32,
     .offset = offsetof(struct user_scrypt, key_len)},
    {.name = "salt", .number = 5, .type = TEXT_BUF, .offset = offsetof(struct user_scrypt, salt)},
    {.name = "encrypted",
     .number = 6,
     .type = TEXT_BUF,
     .offset = offsetof(struct user_scrypt, encrypted)},
};
static const struct text_message scrypt_table = TEXT_TABLE(scrypt_fields, struct user_scrypt);

struct user_plain {
	struct buf password;
	int given[1];
};

static const struct text_field plain_fields[] = {
    {.name = "password",
     .number = 1,
     .type = TEXT_BUF,
     .offset = offsetof(struct user_plain, password)},
};
static const struct text_message plain_table = TEXT_TABLE(plain_fields, struct user_plain);

struct user_denied {
	int given[1];
};

static const struct text_message denied_table = {NULL, 0, sizeof(struct user_denied), 0};

struct user_password {
	struct user_scrypt scrypt;
	struct user_plain plain;
	struct user_denied denied;
	int given[3];
};

static const struct text_field password_fields[] = {
    {.name = "scrypt",
     .number = 2,
     .type = TEXT_MESSAGE,
     .oneof = 1,
     .offset = offsetof(struct user_password, scrypt),
     .message = &scrypt_table},
    {.name = "plain",
     .number = 3,
     .type = TEXT_MESSAGE,
     .oneof = 1,
     .offset = offsetof(struct user_password, plain),
     .message = &plain_table},
    {.name = "denied",
     .number = 4,
     .type = TEXT_MESSAGE,
     .oneof = 1,
     .offset = offsetof(struct user_password, denied),
     .message = &denied_table},
};
static const struct text_message password_table = TEXT_TABLE(password_fields, struct user_password);

struct user_entry {
	char *key;
	struct user_password value;
	int given[2];
};

static const struct text_field entry_fields[] = {
    {.name = "key",
     .number = 1,
     .type = TEXT_STRING,
     .max = ADDR_USER_MAX,
     .offset = offsetof(struct user_entry, key)},
    {.name = "value",
     .number = 2,
     .type = TEXT_MESSAGE,
     .offset = offsetof(struct user_entry, value),
     .message = &password_table},
};
static const struct text_message entry_table = TEXT_TABLE(entry_fields, struct user_entry);

struct user_file {
	struct user_table *table;
	int given[1];
};

static int take_entry(struct text_reader *r, void *parent, void *element)
{
	struct user_table *t = ((struct user_file *)parent)->table;
	struct user_entry *e = element;
	char key[ADDR_USER_MAX + 1];
	if (!e->key || !*e->key)
		return text_fail(r, TEXT_BAD, "users: a user without a name (key)");
	if (addr_user_key(e->key, key, sizeof(key)) < 0)
		return text_fail(r, TEXT_BAD, "users: the name %s is too long", e->key);
	if (buf_append(&t->names, key, strlen(key) + 1) < 0)
		return text_fail(r, TEXT_MEMORY, "users: more than fit into memory");
	t->count++;
	return 0;
}

static const struct text_field file_fields[] = {
    {.name = "users",
     .number = 1,
     .type = TEXT_MESSAGE,
     .repeated = true,
     .message = &entry_table,
     .take = take_entry},
};
static const struct text_message file_table = TEXT_TABLE(file_fields, struct user_file);

/* ---- the table ---- */

/* Is the character of n bytes at p one of the set? UTF-8 synchronises itself, so a plain search
 * cannot hit the middle of another character. */
static bool in_set(const char *set, const char *p, size_t n)
{
	return *set && memmem(set, strlen(set), p, n) != NULL;
}

void user_clean(const char *user, const char *separators, const char *drop, bool keep_suffix,
                char out[ADDR_USER_MAX + 1])
{
	size_t len = strnlen(user, ADDR_USER_MAX), at = 0, n = 0;
	while (at < len) {
		size_t step = status_utf8_len(user + at, len - at);
		if (step == 0)
			step = 1;
		if (in_set(separators, user + at, step))
			break;
		if (!in_set(drop, user + at, step)) {
			memcpy(out + n, user + at, step);
			n += step;
		}
		at += step;
	}
	if (keep_suffix && at < len) {
		memcpy(out + n, user + at, len - at);
		n += len - at;
	}
	out[n] = '\0';
}

static const char *name_at(const struct user_table *t, uint32_t offset)
{
	return t->names.data + t->names.off + offset;
}

/* qsort() passes no context; tables are only built in the one thread there is. */
static const struct user_table *sorting;

/* By spelling; users spelled so stand before those who are so only without drop characters. */
static int match_compare(const void *a, const void *b)
{
	const struct user_match *x = a, *y = b;
	int c = strcmp(name_at(sorting, x->spelling), name_at(sorting, y->spelling));
	if (c == 0)
		c = (x->spelling != x->name) - (y->spelling != y->name);
	if (c == 0)
		c = strcmp(name_at(sorting, x->name), name_at(sorting, y->name));
	return c;
}

/* Leaves one match a spelling, and one name for those that were given twice. */
static void remove_doubles(struct user_table *t)
{
	size_t kept = 0;
	t->count = 0;
	for (size_t i = 0; i < t->match_count; i++) {
		const struct user_match *m = &t->match[i];
		if (kept > 0 &&
		    strcmp(name_at(t, t->match[kept - 1].spelling), name_at(t, m->spelling)) == 0)
			continue;
		t->match[kept++] = *m;
		t->count += m->spelling == m->name;
	}
	t->match_count = kept;
}

/* Makes the sorted array over the names read. Returns 0, or -1 when there is no memory. */
static int build(struct user_table *t)
{
	size_t end = t->names.len;
	t->match = calloc(2 * t->count + 1, sizeof(*t->match));
	if (!t->match)
		return -1;
	for (size_t at = 0; at < end;) {
		char clean[ADDR_USER_MAX + 1];
		const char *name = name_at(t, (uint32_t)at);
		size_t size = strlen(name) + 1;
		struct user_match m = {(uint32_t)at, (uint32_t)at};
		t->match[t->match_count++] = m;
		user_clean(name, "", t->drop, false, clean);
		if (*clean && strcmp(clean, name) != 0) {
			m.spelling = (uint32_t)t->names.len;
			if (buf_append(&t->names, clean, strlen(clean) + 1) < 0)
				return -1;
			t->match[t->match_count++] = m;
		}
		at += size;
	}
	sorting = t;
	qsort(t->match, t->match_count, sizeof(*t->match), match_compare);
	remove_doubles(t);
	return 0;
}

static ssize_t fill_from_fd(void *arg, char *p, size_t n)
{
	ssize_t got;
	do
		got = read(*(int *)arg, p, n);
	while (got < 0 && errno == EINTR);
	return got;
}

/* Reads all from the descriptor. Returns 0, or -1 with err written. */
static int read_users(struct user_table *t, int fd, const char *path, char *err, size_t err_size)
{
	struct text_reader *r = malloc(sizeof(*r));
	struct user_file f;
	int rc = -1;
	if (!r) {
		snprintf(err, err_size, "%s: out of memory", path);
		return -1;
	}
	text_init(&file_table, &f);
	f.table = t;
	text_open(r, path, fill_from_fd, &fd);
	if (text_read(r, &file_table, &f) < 0)
		snprintf(err, err_size, "%s", r->error);
	else if (build(t) < 0)
		snprintf(err, err_size, "%s: out of memory", path);
	else
		rc = 0;
	free(r);
	return rc;
}

struct user_table *user_load(const char *path, const char *drop_characters, char *err,
                             size_t err_size)
{
	struct user_table *t = calloc(1, sizeof(*t));
	int fd = -1;
	if (!t) {
		snprintf(err, err_size, "%s: out of memory", path);
		return NULL;
	}
	buf_init(&t->names, USER_TABLE_MAX);
	t->drop = drop_characters;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return t;
	if (fd < 0) {
		snprintf(err, err_size, "%s: %s", path, strerror(errno));
		goto fail;
	}
	int rc = read_users(t, fd, path, err, err_size);
	close(fd);
	if (rc == 0)
		return t;
fail:
	user_free(t);
	return NULL;
}

void user_free(struct user_table *t)
{
	if (!t)
		return;
	buf_clear(&t->names);
	free(t->match);
	free(t);
}

size_t user_count(const struct user_table *t)
{
	return t ? t->count : 0;
}

static const char *find_spelling(const struct user_table *t, const char *key)
{
	size_t low = 0, high = t->match_count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = strcmp(key, name_at(t, t->match[mid].spelling));
		if (c == 0)
			return name_at(t, t->match[mid].name);
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

const char *user_find(const struct user_table *t, const char *user)
{
	char clean[ADDR_USER_MAX + 1], key[ADDR_USER_MAX + 1];
	if (!t || t->match_count == 0 || addr_user_key(user, key, sizeof(key)) < 0)
		return NULL;
	const char *found = find_spelling(t, key);
	if (found)
		return found;
	user_clean(user, "", t->drop, false, clean);
	if (addr_user_key(clean, key, sizeof(key)) < 0)
		return NULL;
	return find_spelling(t, key);
}

bool user_exists(const struct user_table *t, const char *user)
{
	return user_find(t, user) != NULL;
}
