/* kdf: keys from passwords: PBKDF2-HMAC-SHA256 (RFC 8018) and scrypt (RFC 7914); HMAC-SHA256. */
#ifndef KDF_H
#define KDF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"

#if WITH_TLS

/* Both fill out with n bytes and take long by design: call them in a child or a tool. Return 0; or
 * -1 with errno EINVAL for parameters out of bounds (kdf_*_fits), ENOMEM. */
int kdf_pbkdf2(const void *password, size_t password_n, const void *salt, size_t salt_n,
               uint32_t iterations, void *out, size_t n);
int kdf_scrypt(const void *password, size_t password_n, const void *salt, size_t salt_n,
               uint32_t log_n, uint32_t r, uint32_t p, void *out, size_t n);

/* HMAC-SHA256 (RFC 2104). 0, or -1 without memory. */
int kdf_hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, unsigned char out[32]);

#endif

/* Are the parameters within the bounds (KDF_*_MAX in config.h)? */
bool kdf_pbkdf2_fits(uint32_t iterations);
bool kdf_scrypt_fits(uint32_t log_n, uint32_t r, uint32_t p);

/* Same content? In a time that depends on n alone. */
bool kdf_equal(const void *a, const void *b, size_t n);

/* Overwrites, and is not optimised away. */
void kdf_wipe(void *p, size_t n);

#endif
