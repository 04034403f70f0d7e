/*
 * user: the users of one domain.
 *
 * The file has chasquid's schema, map<string, Password>, with a scheme of our own, and all of it is
 * checked. A table is one buffer, in which each name is followed by what is stored for its password
 * (struct user_record, salt, hash), and one sorted array of matches into it: a name is found by its
 * key, and also by its key without drop characters, so that a user stored as "a.b" gets the mail
 * for "ab" and "A.B". Tables never change once loaded. Tools change the file, not a table: they
 * read all entries as they stand, and write all anew.
 */
#include "user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "addr.h"
#include "disk.h"
#include "kdf.h"
#include "sandbox.h"
#include "status.h"
#include "textfield.h"

/* Offsets in names: who comes for a local part with this key. */
struct user_match {
	uint32_t spelling;
	uint32_t name;
};

/* What is stored of a password, right behind the name's NUL: unaligned, so it is copied in and out.
 * Salt and hash follow. */
struct user_record {
	uint32_t log_n, r, p, iterations;
	uint16_t salt_n, hash_n;
	uint8_t scheme;
	bool never;
};

struct user_table {
	struct buf names; /* names, NUL-terminated, with their records; then further spellings */
	struct user_match *match;
	size_t match_count;
	size_t count;
	char *drop;
	const struct user_match *hashed; /* some user whose password is hashed, or NULL */
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

struct user_pbkdf2 {
	uint32_t iterations;
	struct buf salt, hash;
	int given[3];
};

static const struct text_field pbkdf2_fields[] = {
    {.name = "iterations",
     .number = 1,
     .type = TEXT_UINT32,
     .offset = offsetof(struct user_pbkdf2, iterations)},
    {.name = "salt", .number = 2, .type = TEXT_BUF, .offset = offsetof(struct user_pbkdf2, salt)},
    {.name = "hash", .number = 3, .type = TEXT_BUF, .offset = offsetof(struct user_pbkdf2, hash)},
};
static const struct text_message pbkdf2_table = TEXT_TABLE(pbkdf2_fields, struct user_pbkdf2);

struct user_denied {
	int given[1];
};

static const struct text_message denied_table = {NULL, 0, sizeof(struct user_denied), 0};

struct user_password {
	struct user_scrypt scrypt;
	struct user_plain plain;
	struct user_denied denied;
	struct user_pbkdf2 pbkdf2;
	int given[4];
};

/* Places in password_fields, and so in given. */
enum { GIVEN_SCRYPT, GIVEN_PLAIN, GIVEN_DENIED, GIVEN_PBKDF2 };

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
    {.name = "pbkdf2",
     .number = 100,
     .type = TEXT_MESSAGE,
     .oneof = 1,
     .offset = offsetof(struct user_password, pbkdf2),
     .message = &pbkdf2_table},
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

/* The name an entry is for. Returns 0, or -1 after text_fail. */
static int entry_key(struct text_reader *r, const struct user_entry *e, char key[ADDR_USER_MAX + 1])
{
	if (!e->key || !*e->key)
		return text_fail(r, TEXT_BAD, "users: a user without a name (key)");
	if (addr_user_key(e->key, key, ADDR_USER_MAX + 1) < 0)
		return text_fail(r, TEXT_BAD, "users: %s is too long or no name of a user", e->key);
	return 0;
}

/* What is longer than we compute with is left out: the record then never matches. */
static int put_value(struct buf *names, struct user_record *rec, const struct buf *salt,
                     const struct buf *hash)
{
	static const struct buf empty = {.max = 0};
	if (salt->len > USER_SALT_MAX || hash->len > USER_HASH_MAX || hash->len == 0) {
		rec->never = true;
		salt = hash = &empty;
	}
	rec->salt_n = (uint16_t)salt->len;
	rec->hash_n = (uint16_t)hash->len;
	if (buf_append(names, rec, sizeof(*rec)) < 0 ||
	    buf_append(names, buf_data(salt), salt->len) < 0)
		return -1;
	return buf_append(names, buf_data(hash), hash->len);
}

/* Adds the record of one password. Returns 0, or -1 when it does not fit. */
static int put_record(struct buf *names, const struct user_password *v)
{
	const struct user_scrypt *s = &v->scrypt;
	const struct user_pbkdf2 *k = &v->pbkdf2;
	struct user_record rec = {.scheme = USER_DENIED, .never = true};
	if (v->given[GIVEN_SCRYPT]) {
		rec.scheme = USER_SCRYPT;
		rec.log_n = s->log_n > UINT32_MAX ? UINT32_MAX : (uint32_t)s->log_n;
		rec.r = s->r < 0 ? 0 : (uint32_t)s->r;
		rec.p = s->p < 0 ? 0 : (uint32_t)s->p;
		rec.never = !kdf_scrypt_fits(rec.log_n, rec.r, rec.p) || s->key_len < 0 ||
		            (size_t)s->key_len != s->encrypted.len;
		return put_value(names, &rec, &s->salt, &s->encrypted);
	}
	if (v->given[GIVEN_PBKDF2]) {
		rec.scheme = USER_PBKDF2;
		rec.iterations = k->iterations;
		rec.never = !kdf_pbkdf2_fits(k->iterations);
		return put_value(names, &rec, &k->salt, &k->hash);
	}
	if (v->given[GIVEN_PLAIN]) {
		rec.scheme = USER_PLAIN;
		rec.never = false;
		/* A plain password has no salt: that of scrypt is empty in this entry. */
		return put_value(names, &rec, &s->salt, &v->plain.password);
	}
	return put_value(names, &rec, &s->salt, &s->encrypted);
}

static int take_entry(struct text_reader *r, void *parent, void *element)
{
	struct user_table *t = ((struct user_file *)parent)->table;
	struct user_entry *e = element;
	char key[ADDR_USER_MAX + 1];
	if (entry_key(r, e, key) < 0)
		return -1;
	if (buf_append(&t->names, key, strlen(key) + 1) < 0 || put_record(&t->names, &e->value) < 0)
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

/* The record behind a name; *size is its length with salt and hash. */
static struct user_record record_at(const struct user_table *t, uint32_t name, const char **salt,
                                    size_t *size)
{
	struct user_record rec;
	const char *p = name_at(t, name);
	p += strlen(p) + 1;
	memcpy(&rec, p, sizeof(rec));
	*salt = p + sizeof(rec);
	*size = sizeof(rec) + rec.salt_n + rec.hash_n;
	return rec;
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
	/* Of two entries of one name the later stands, as in any protobuf map. */
	if (c == 0)
		c = (x->name < y->name) - (x->name > y->name);
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
		const char *salt;
		size_t size;
		struct user_match m = {(uint32_t)at, (uint32_t)at};
		record_at(t, m.name, &salt, &size);
		size += strlen(name) + 1;
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
	for (size_t i = 0; i < t->match_count && !t->hashed; i++) {
		const char *salt;
		size_t size;
		struct user_record rec = record_at(t, t->match[i].name, &salt, &size);
		if (!rec.never && (rec.scheme == USER_SCRYPT || rec.scheme == USER_PBKDF2))
			t->hashed = &t->match[i];
	}
	return 0;
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
	text_open_fd(r, path, &fd);
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
	t->drop = strdup(drop_characters);
	if (!t->drop) {
		snprintf(err, err_size, "%s: out of memory", path);
		goto fail;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return t;
	if (fd < 0) {
		snprintf(err, err_size, "%s: %s", path, sandbox_reason(errno, path, SANDBOX_READ));
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
	if (t->names.data)
		kdf_wipe(t->names.data, t->names.size);
	buf_clear(&t->names);
	free(t->match);
	free(t->drop);
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

/* ---- secrets ---- */

/* What is stored behind a name. */
static void load_secret(const struct user_table *t, const char *name, struct user_secret *out)
{
	const char *salt;
	size_t size;
	struct user_record rec =
	    record_at(t, (uint32_t)(name - (t->names.data + t->names.off)), &salt, &size);
	memset(out, 0, sizeof(*out));
	out->scheme = rec.scheme;
	out->never = rec.never;
	out->log_n = rec.log_n;
	out->r = rec.r;
	out->p = rec.p;
	out->iterations = rec.iterations;
	out->salt_n = rec.salt_n;
	out->hash_n = rec.hash_n;
	memcpy(out->salt, salt, rec.salt_n);
	memcpy(out->hash, salt + rec.salt_n, rec.hash_n);
}

/* A secret that nobody knows, with the parameters of a hashed user of the table, if it has one. */
static void load_stand_in(const struct user_table *t, struct user_secret *out)
{
	if (t && t->hashed) {
		load_secret(t, name_at(t, t->hashed->name), out);
	} else {
		memset(out, 0, sizeof(*out));
		out->scheme = USER_PBKDF2;
		out->iterations = KDF_PBKDF2_ITERATIONS;
		out->salt_n = 16;
		out->hash_n = 32;
	}
	out->never = true;
}

bool user_secret_find(const struct user_table *t, const char *user, struct user_secret *out)
{
	const char *name = user_find(t, user);
	if (name)
		load_secret(t, name, out);
	if (!name || out->never)
		load_stand_in(t, out);
	return name != NULL;
}

int user_check(const struct user_table *t, const char *user, struct slice password)
{
	struct user_secret s;
	user_secret_find(t, user, &s);
	int rc = user_secret_check(&s, password);
	kdf_wipe(&s, sizeof(s));
	return rc;
}

void user_each(const struct user_table *t,
               void (*one)(void *arg, const char *name, enum user_scheme scheme), void *arg)
{
	for (size_t i = 0; t && i < t->match_count; i++) {
		const char *salt;
		size_t size;
		if (t->match[i].spelling != t->match[i].name)
			continue;
		struct user_record rec = record_at(t, t->match[i].name, &salt, &size);
		one(arg, name_at(t, t->match[i].name), rec.scheme);
	}
}

/* ---- changing the file ---- */

/* All entries of a file, as they stand there. */
struct user_edit {
	struct user_entry *item;
	size_t count;
	const char *key; /* whose entry is left out */
	bool found;      /* there was one */
	int given[1];
};

static int take_for_edit(struct text_reader *r, void *parent, void *element)
{
	struct user_edit *f = parent;
	struct user_entry *e = element, *grown;
	char key[ADDR_USER_MAX + 1];
	if (entry_key(r, e, key) < 0)
		return -1;
	if (strcmp(key, f->key) == 0) {
		f->found = true;
		return 0;
	}
	grown = realloc(f->item, (f->count + 1) * sizeof(*grown));
	if (!grown)
		return text_fail(r, TEXT_MEMORY, "users: more than fit into memory");
	f->item = grown;
	f->item[f->count++] = *e;
	text_init(&entry_table, e);
	return 0;
}

static const void *each_of_edit(const void *parent, size_t i)
{
	const struct user_edit *f = parent;
	return i < f->count ? &f->item[i] : NULL;
}

static const struct text_field edit_fields[] = {
    {.name = "users",
     .number = 1,
     .type = TEXT_MESSAGE,
     .repeated = true,
     .message = &entry_table,
     .take = take_for_edit,
     .each = each_of_edit},
};
static const struct text_message edit_table = TEXT_TABLE(edit_fields, struct user_edit);

static int edit_fail(char *err, size_t err_size, const char *path)
{
	snprintf(err, err_size, "%s: %s", path, strerror(errno));
	return -1;
}

/* Reads the entries of dir/name, none when it is not there. Returns 0, or -1 with err written. */
static int edit_read(struct user_edit *f, int dir, const char *name, const char *path, char *err,
                     size_t err_size)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? 0 : edit_fail(err, err_size, path);
	struct text_reader *r = malloc(sizeof(*r));
	int rc = -1;
	if (!r) {
		edit_fail(err, err_size, path);
	} else {
		text_open_fd(r, path, &fd);
		rc = text_read(r, &edit_table, f);
		if (rc < 0)
			snprintf(err, err_size, "%s", r->error);
	}
	free(r);
	close(fd);
	return rc;
}

/* Appends an entry. Returns 0, or -1 without memory. */
static int edit_add(struct user_edit *f, const struct user_secret *s)
{
	struct user_entry *grown = realloc(f->item, (f->count + 1) * sizeof(*grown));
	if (!grown)
		return -1;
	f->item = grown;
	struct user_entry *e = &f->item[f->count++];
	struct user_password *v = &e->value;
	text_init(&entry_table, e);
	e->key = strdup(f->key);
	struct buf *salt = &v->scrypt.salt, *hash = &v->scrypt.encrypted;
	if (s->scheme == USER_SCRYPT) {
		v->given[GIVEN_SCRYPT] = 1;
		v->scrypt.log_n = s->log_n;
		v->scrypt.r = (int32_t)s->r;
		v->scrypt.p = (int32_t)s->p;
		v->scrypt.key_len = (int32_t)s->hash_n;
	} else if (s->scheme == USER_PBKDF2) {
		v->given[GIVEN_PBKDF2] = 1;
		v->pbkdf2.iterations = s->iterations;
		salt = &v->pbkdf2.salt;
		hash = &v->pbkdf2.hash;
	} else if (s->scheme == USER_PLAIN) {
		v->given[GIVEN_PLAIN] = 1;
		hash = &v->plain.password;
	} else {
		v->given[GIVEN_DENIED] = 1;
	}
	if (!e->key || buf_append(salt, s->salt, s->salt_n) < 0 ||
	    buf_append(hash, s->hash, s->hash_n) < 0)
		return -1;
	return 0;
}

/* Writes all entries as dir/name. Returns 0, or -1 with errno. */
static int edit_write(const struct user_edit *f, int dir, const char *name)
{
	struct text_writer w;
	struct buf out;
	int rc = -1;
	buf_init(&out, USER_TABLE_MAX);
	text_writer_init(&w, &out);
	text_put_struct(&w, &edit_table, f);
	if (out.failed)
		errno = ENOMEM;
	else
		rc = disk_replace_kept(dir, name, buf_data(&out), out.len, USER_FILE_MODE);
	int saved = errno;
	buf_clear(&out);
	errno = saved;
	return rc;
}

/* The directory of a path, locked against others who change files in it; *name is its last part.
 * Returns the descriptor, or -1 with errno. */
static int edit_lock(char *path, const char **name)
{
	char *slash = strrchr(path, '/');
	*name = slash ? slash + 1 : path;
	if (slash)
		*slash = '\0';
	int dir = disk_open_dir(!slash ? "." : (slash == path ? "/" : path));
	int rc = dir;
	while (dir >= 0 && (rc = flock(dir, LOCK_EX)) < 0 && errno == EINTR)
		;
	if (dir >= 0 && rc < 0) {
		close(dir);
		return -1;
	}
	return dir;
}

/* Leaves the user's entry out and, with s, adds a new one. Returns 0, 1 when without s there was
 * nothing to do, or -1 with err written. */
static int edit(const char *path, const char *user, const struct user_secret *s, char *err,
                size_t err_size)
{
	char key[ADDR_USER_MAX + 1], *real = realpath(path, NULL);
	const char *name;
	struct user_edit f;
	int rc = -1;
	if (!real && errno == ENOENT)
		real = strdup(path);
	int dir = real ? edit_lock(real, &name) : -1;
	if (dir < 0) {
		free(real);
		return edit_fail(err, err_size, path);
	}
	text_init(&edit_table, &f);
	f.key = key;
	if (!*user || addr_user_key(user, key, sizeof(key)) < 0) {
		snprintf(err, err_size, "%s: this is not a name of a user", user);
	} else if (edit_read(&f, dir, name, path, err, err_size) == 0) {
		if (!s && !f.found)
			rc = 1;
		else if ((s && edit_add(&f, s) < 0) || edit_write(&f, dir, name) < 0)
			edit_fail(err, err_size, path);
		else
			rc = 0;
	}
	for (size_t i = 0; i < f.count; i++)
		text_clear(&entry_table, &f.item[i]);
	free(f.item);
	close(dir);
	free(real);
	return rc;
}

int user_put(const char *path, const char *user, const struct user_secret *s, char *err,
             size_t err_size)
{
	return edit(path, user, s, err, err_size);
}

int user_remove(const char *path, const char *user, char *err, size_t err_size)
{
	return edit(path, user, NULL, err, err_size);
}
