/*
 * kdf: keys from passwords, and keyed hashes.
 *
 * SHA-256, HMAC and PBKDF2 are mbedTLS's; scrypt stands on them. Memory is that of the parameters
 * (scrypt: 128 * r * 2^log_n bytes and a little), freed and wiped before the return. Parameters out
 * of bounds are refused before anything is allocated: they may come from a file.
 */
#include "kdf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#if WITH_TLS
#include <mbedtls/md.h>
#include <mbedtls/pkcs5.h>
#include <mbedtls/version.h>
#endif

bool kdf_pbkdf2_fits(uint32_t iterations)
{
	return iterations >= 1 && iterations <= KDF_PBKDF2_ITERATIONS_MAX;
}

bool kdf_scrypt_fits(uint32_t log_n, uint32_t r, uint32_t p)
{
	return log_n >= 1 && log_n <= KDF_SCRYPT_LOGN_MAX && r >= 1 && r <= KDF_SCRYPT_R_MAX &&
	       p >= 1 && p <= KDF_SCRYPT_P_MAX &&
	       ((uint64_t)128 * r << log_n) <= KDF_SCRYPT_MEMORY_MAX;
}

bool kdf_equal(const void *a, const void *b, size_t n)
{
	const volatile unsigned char *x = a, *y = b;
	unsigned char differ = 0;
	for (size_t i = 0; i < n; i++)
		differ |= (unsigned char)(x[i] ^ y[i]);
	return differ == 0;
}

void kdf_wipe(void *p, size_t n)
{
	volatile unsigned char *at = p;
	while (n-- > 0)
		*at++ = 0;
}

#if WITH_TLS

/* ---- PBKDF2 ---- */

/* The one difference between the library's versions. Returns 0, or its error. */
static int library_pbkdf2(const void *password, size_t password_n, const void *salt, size_t salt_n,
                          uint32_t iterations, void *out, size_t n)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03030000
	return mbedtls_pkcs5_pbkdf2_hmac_ext(MBEDTLS_MD_SHA256, password, password_n, salt, salt_n,
	                                     iterations, (uint32_t)n, out);
#else
	mbedtls_md_context_t md;
	mbedtls_md_init(&md);
	int rc = mbedtls_md_setup(&md, mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), 1);
	if (rc == 0)
		rc = mbedtls_pkcs5_pbkdf2_hmac(&md, password, password_n, salt, salt_n, iterations,
		                               (uint32_t)n, out);
	mbedtls_md_free(&md);
	return rc;
#endif
}

int kdf_pbkdf2(const void *password, size_t password_n, const void *salt, size_t salt_n,
               uint32_t iterations, void *out, size_t n)
{
	if (!kdf_pbkdf2_fits(iterations) || n > UINT32_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (library_pbkdf2(password, password_n, salt, salt_n, iterations, out, n) == 0)
		return 0;
	errno = ENOMEM;
	return -1;
}

int kdf_hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, unsigned char out[32])
{
	const mbedtls_md_info_t *sha256 = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
	return sha256 && mbedtls_md_hmac(sha256, key, key_n, p, n, out) == 0 ? 0 : -1;
}

/* ---- scrypt, RFC 7914 ---- */

#define SALSA_WORDS 16
#define SALSA_BYTES 64

static uint32_t rotate(uint32_t v, int bits)
{
	return v << bits | v >> (32 - bits);
}

static void quarter_round(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
	*b ^= rotate(*a + *d, 7);
	*c ^= rotate(*b + *a, 9);
	*d ^= rotate(*c + *b, 13);
	*a ^= rotate(*d + *c, 18);
}

/* Section 3: four double rounds, columns and rows, then the input is added. */
static void salsa20_8(uint32_t block[SALSA_WORDS])
{
	uint32_t x[SALSA_WORDS];
	memcpy(x, block, sizeof(x));
	for (int i = 0; i < 4; i++) {
		quarter_round(&x[0], &x[4], &x[8], &x[12]);
		quarter_round(&x[5], &x[9], &x[13], &x[1]);
		quarter_round(&x[10], &x[14], &x[2], &x[6]);
		quarter_round(&x[15], &x[3], &x[7], &x[11]);
		quarter_round(&x[0], &x[1], &x[2], &x[3]);
		quarter_round(&x[5], &x[6], &x[7], &x[4]);
		quarter_round(&x[10], &x[11], &x[8], &x[9]);
		quarter_round(&x[15], &x[12], &x[13], &x[14]);
	}
	for (int i = 0; i < SALSA_WORDS; i++)
		block[i] += x[i];
}

static void xor_words(uint32_t *to, const uint32_t *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] ^= from[i];
}

/* Section 4: mixes the 2r blocks of b; y is room for as many. */
static void block_mix(uint32_t *b, uint32_t *y, size_t r)
{
	uint32_t x[SALSA_WORDS];
	memcpy(x, b + (2 * r - 1) * SALSA_WORDS, sizeof(x));
	for (size_t i = 0; i < 2 * r; i++) {
		xor_words(x, b + i * SALSA_WORDS, SALSA_WORDS);
		salsa20_8(x);
		/* Blocks with even numbers come first in the output. */
		memcpy(y + (i / 2 + (i % 2) * r) * SALSA_WORDS, x, sizeof(x));
	}
	memcpy(b, y, 2 * r * sizeof(x));
}

/* Section 5: x has 32r words, y as many, v 32r words 2^log_n times. */
static void ro_mix(uint32_t *x, uint32_t *y, uint32_t *v, size_t r, uint32_t log_n)
{
	size_t words = 2 * r * SALSA_WORDS, n = (size_t)1 << log_n;
	for (size_t i = 0; i < n; i++) {
		memcpy(v + i * words, x, words * sizeof(*x));
		block_mix(x, y, r);
	}
	for (size_t i = 0; i < n; i++) {
		/* Integerify: the last block, of which n needs no more than 32 bits. */
		size_t j = x[words - SALSA_WORDS] & (n - 1);
		xor_words(x, v + j * words, words);
		block_mix(x, y, r);
	}
}

static void load_words(uint32_t *to, const unsigned char *from, size_t n)
{
	for (size_t i = 0; i < n; i++, from += 4)
		to[i] = (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
		        (uint32_t)from[3] << 24;
}

static void store_words(unsigned char *to, const uint32_t *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < 4; k++)
			*to++ = (unsigned char)(from[i] >> (8 * k));
}

int kdf_scrypt(const void *password, size_t password_n, const void *salt, size_t salt_n,
               uint32_t log_n, uint32_t r, uint32_t p, void *out, size_t n)
{
	int rc = -1;
	if (!kdf_scrypt_fits(log_n, r, p)) {
		errno = EINVAL;
		return -1;
	}
	size_t lane = (size_t)2 * r * SALSA_BYTES, words = lane / 4;
	unsigned char *b = calloc(p, lane);
	uint32_t *x = calloc(2, lane);
	uint32_t *v = calloc((size_t)1 << log_n, lane);
	if (!b || !x || !v)
		errno = ENOMEM;
	else
		rc = kdf_pbkdf2(password, password_n, salt, salt_n, 1, b, p * lane);
	for (size_t i = 0; rc == 0 && i < p; i++) {
		load_words(x, b + i * lane, words);
		ro_mix(x, x + words, v, r, log_n);
		store_words(b + i * lane, x, words);
	}
	if (rc == 0)
		rc = kdf_pbkdf2(password, password_n, b, p * lane, 1, out, n);
	int saved = errno;
	if (x)
		kdf_wipe(x, 2 * lane);
	if (b)
		kdf_wipe(b, p * lane);
	free(v);
	free(x);
	free(b);
	errno = saved;
	return rc;
}

#endif
