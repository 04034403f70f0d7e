/*
 * usersecret: passwords against what is stored of them, and new secrets. Part of user.h; apart from
 * user.c because all of this is slow by design and belongs into a child or a tool.
 */
#include "user.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "kdf.h"

#if WITH_TLS

/* As much work as a hashed password is, for nothing. */
static int burn(struct slice password)
{
	unsigned char salt[16] = {0}, out[32];
	return kdf_pbkdf2(password.p, password.n, salt, sizeof(salt), KDF_PBKDF2_ITERATIONS, out,
	                  sizeof(out));
}

int user_secret_check(const struct user_secret *s, struct slice password)
{
	unsigned char key[USER_HASH_MAX];
	int rc = -1;
	switch (s->scheme) {
	case USER_PLAIN:
		if (s->hash_n == password.n && kdf_equal(s->hash, password.p, password.n))
			return !s->never;
		return burn(password);
	case USER_SCRYPT:
		rc = kdf_scrypt(password.p, password.n, s->salt, s->salt_n, s->log_n, s->r, s->p,
		                key, s->hash_n);
		break;
	case USER_PBKDF2:
		rc = kdf_pbkdf2(password.p, password.n, s->salt, s->salt_n, s->iterations, key,
		                s->hash_n);
		break;
	case USER_DENIED:
		return burn(password);
	}
	if (rc == 0)
		rc = !s->never && s->hash_n > 0 && kdf_equal(key, s->hash, s->hash_n);
	kdf_wipe(key, sizeof(key));
	return rc;
}

int user_secret_new(struct user_secret *out, struct slice password)
{
	memset(out, 0, sizeof(*out));
	out->scheme = USER_PBKDF2;
	out->iterations = KDF_PBKDF2_ITERATIONS;
	out->salt_n = 16;
	out->hash_n = 32;
	/* May wait, early after the start of a machine: a salt that repeats is none. */
	if (getrandom(out->salt, out->salt_n, 0) != (ssize_t)out->salt_n)
		return -1;
	return kdf_pbkdf2(password.p, password.n, out->salt, out->salt_n, out->iterations,
	                  out->hash, out->hash_n);
}

#else

int user_secret_check(const struct user_secret *s, struct slice password)
{
	if (s->scheme == USER_PLAIN && !s->never)
		return s->hash_n == password.n && kdf_equal(s->hash, password.p, password.n);
	return s->never && s->scheme == USER_DENIED ? 0 : -1;
}

int user_secret_new(struct user_secret *out, struct slice password)
{
	(void)password;
	memset(out, 0, sizeof(*out));
	errno = ENOSYS;
	return -1;
}

#endif
