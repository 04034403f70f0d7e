/*
 * Fuzzes the users file. Whatever it is, it is read or refused with a reason. Read: each user named
 * is found, under a name that is found again; asking for a secret of whoever it is gives one
 * that can be checked; a user changed, added and removed leaves all others as they were.
 */
#include <stdint.h>

#include "addr.h"
#include "fuzz_dir.h"
#include "user.h"

#define USERS "users"

struct seen {
	const struct user_table *t;
	size_t count;
	char first[ADDR_USER_MAX + 1];
};

/* Only what is cheap: the real ones take as long as they should. */
static void check_password(const struct user_secret *s)
{
	static const struct slice word = {"password", 8};
	bool cheap = s->scheme == USER_PLAIN || s->scheme == USER_DENIED ||
	             (s->scheme == USER_SCRYPT && s->log_n <= 4 && s->r * s->p <= 8) ||
	             (s->scheme == USER_PBKDF2 && s->iterations <= 1000);
	CHECK(s->salt_n <= sizeof(s->salt) && s->hash_n <= sizeof(s->hash));
	if (!cheap)
		return;
	int rc = user_secret_check(s, word);
	CHECK(rc >= -1 && rc <= 1 && !(rc == 1 && s->never));
}

/* A secret of each kind is kept as it is. */
static void keep(const struct user_secret *s)
{
	char err[512];
	struct user_secret again;
	const char *path = fuzz_dir_path("kept");
	unlink(path);
	CHECK(user_put(path, "u", s, err, sizeof(err)) == 0);
	struct user_table *t = user_load(path, ".", err, sizeof(err));
	CHECK(t && user_count(t) == 1);
	if (user_secret_find(t, "u", &again) && !again.never)
		CHECK(again.scheme == s->scheme && again.hash_n == s->hash_n &&
		      memcmp(again.hash, s->hash, s->hash_n) == 0);
	user_free(t);
	CHECK(user_remove(path, "nobody", err, sizeof(err)) == 1);
	CHECK(user_put(path, "", s, err, sizeof(err)) == -1);
	unlink(path);
}

static void on_user(void *arg, const char *name, enum user_scheme scheme)
{
	struct seen *s = arg;
	struct user_secret secret;
	char key[ADDR_USER_MAX + 1];
	CHECK(addr_user_key(name, key, sizeof(key)) == 0 && strcmp(key, name) == 0);
	const char *found = user_find(s->t, name);
	CHECK(found && strcmp(found, name) == 0);
	CHECK(user_secret_find(s->t, name, &secret));
	CHECK(secret.scheme == scheme || secret.never || scheme == USER_DENIED);
	check_password(&secret);
	if (s->count < 3 && secret.hash_n > 0 && !secret.never)
		keep(&secret);
	if (s->count++ == 0)
		snprintf(s->first, sizeof(s->first), "%s", name);
}

/* Adds one, changes one, removes both; the others stay. */
static void edit(struct seen *s)
{
	static const struct user_secret plain = {.scheme = USER_PLAIN, .hash_n = 1, .hash = "x"};
	char err[512];
	size_t count = s->count;
	bool there = user_exists(s->t, "new-one");
	const char *path = fuzz_dir_path(USERS);
	if (user_put(path, "New-One", &plain, err, sizeof(err)) != 0) {
		CHECK(err[0] != '\0');
		return;
	}
	if (count > 0)
		CHECK(user_put(path, s->first, &plain, err, sizeof(err)) == 0);
	struct user_table *t = user_load(path, ".", err, sizeof(err));
	CHECK(t && user_exists(t, "new-one") && user_count(t) == count + (there ? 0 : 1));
	CHECK(user_check(t, "new-one", (struct slice){"x", 1}) == 1);
	CHECK(user_check(t, "new-one", (struct slice){"y", 1}) == 0);
	user_free(t);
	CHECK(user_remove(path, "new-one", err, sizeof(err)) == 0);
	t = user_load(path, ".", err, sizeof(err));
	CHECK(t && user_count(t) == count - (there ? 1 : 0));
	user_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char err[512] = "";
	char clean[ADDR_USER_MAX + 1];
	struct seen s = {.count = 0};
	if (!fuzz_dir[0]) {
		struct user_secret fresh;
		fuzz_dir_make();
		/* Takes long: once. */
		CHECK(user_secret_new(&fresh, (struct slice){"password", 8}) == 0);
		CHECK(user_secret_check(&fresh, (struct slice){"password", 8}) == 1);
		keep(&fresh);
		keep(&(struct user_secret){.scheme = USER_DENIED});
		keep(&(struct user_secret){.scheme = USER_SCRYPT,
		                           .log_n = 14,
		                           .r = 8,
		                           .p = 1,
		                           .salt_n = 16,
		                           .hash_n = 32});
		struct user_table *none = user_load(fuzz_dir_path("none"), ".", err, sizeof(err));
		CHECK(none && user_count(none) == 0);
		user_free(none);
		CHECK(!user_load(fuzz_dir, ".", err, sizeof(err)) && err[0]);
		CHECK(user_put(fuzz_dir, "u", &fresh, err, sizeof(err)) == -1);
		err[0] = '\0';
	}
	fuzz_dir_put(USERS, data, size);
	struct user_table *t = user_load(fuzz_dir_path(USERS), ".", err, sizeof(err));
	CHECK((t == NULL) == (err[0] != '\0'));
	if (t) {
		struct user_secret secret;
		s.t = t;
		user_each(t, on_user, &s);
		CHECK(s.count == user_count(t));
		if (!user_secret_find(t, "nobody-at-all", &secret))
			CHECK(secret.never || secret.scheme == USER_DENIED);
		user_clean(s.first, "+-", ".", size % 2, clean);
		edit(&s);
	}
	user_free(t);
	return 0;
}
