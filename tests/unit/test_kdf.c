/* Tests of kdf and base64: the vectors of RFC 7914, some from Python's hashlib, bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "base64.h"
#include "config.h"
#include "kdf.h"
#include "valgrind.h"

#if WITH_TLS

static const char *hex(const unsigned char *p, size_t n)
{
	static char out[257];
	for (size_t i = 0; i < n && 2 * i + 2 < sizeof(out); i++)
		snprintf(out + 2 * i, 3, "%02x", p[i]);
	return out;
}

static const struct {
	const char *password, *salt;
	size_t password_n, salt_n;
	uint32_t iterations;
	const char *key;
} pbkdf2_cases[] = {
    /* RFC 7914, section 11 */
    {"passwd", "salt", 6, 4, 1,
     "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
     "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"},
    /* RFC 7914, section 11 */
    {"Password", "NaCl", 8, 4, 80000,
     "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
     "a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d"},
    /* hashlib.pbkdf2_hmac('sha256', ...) */
    {"", "salt", 0, 4, 3, "5ddf839afa2d5fb4be56e1a0f48917617559bef61ec122bfca1c7f75ac8f401d"},
    {"password", "", 8, 0, 1000, "26939681d19995a2cefb7b90d13e1343f09b30f0"},
    {"pass\000word", "sa\000lt", 9, 5, 4096, "89b69d0516f829893c696226650a8687"},
    {"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
     "xxxxxxx",
     "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", 100, 60, 7,
     "e2248575ad954fb0e8065e6967b087d83cba0c7424b7547b3a936ff384764594"
     "1273bf77d339d09656770e37f102c2839559e2f98235bf379445a394f24ae3ea"
     "5edf6a6c010be64f9ec10800561b5b3d2cd3799cb3857bd67018858cffbf08dc"
     "090bf4fd"},
    {"p\303\244ssw\303\266rd", "\000\001\002\003\004\005\006\007\010\011\012\013\014\015\016\017",
     10, 16, 10000, "28b32f19fe11d53052ca7ee1b818d3e060e0869e46e3e5b0ef0a28e56b016a5a"},
};

static const struct {
	const char *password, *salt;
	uint32_t log_n, r, p;
	const char *key;
} scrypt_cases[] = {
    /* RFC 7914, section 12 (the fourth needs 1 GB) */
    {"", "", 4, 1, 1,
     "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
     "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906"},
    {"password", "NaCl", 10, 8, 16,
     "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
     "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"},
    {"pleaseletmein", "SodiumChloride", 14, 8, 1,
     "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
     "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"},
    /* hashlib.scrypt(...) */
    {"secret", "0123456789abcdef", 14, 8, 1,
     "e35b81b842078156aee35bf5abd0536738ac9d28bfa250740db03cddedfa7e26"},
    {"secret", "0123456789abcdef", 1, 1, 1,
     "c8b8029fc5f4785df02878f581f6799b5697d2525296b9f91fa33e7ecfd6b23f"},
    {"a", "b", 5, 3, 2,
     "8d5941b9c5964d934a4c0e71fc0d92b0e68bae363126248fc126dd85b7abedbb"
     "f2"},
    {"longlonglonglonglonglonglonglong", "saltsaltsaltsaltsaltsaltsaltsalt", 12, 16, 4,
     "3d5f126b9fa0b1050cbb5abd5c74cdd5bf61ad1a8b3de6c6399a465e341fa4af"},
};

static void test_pbkdf2(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(pbkdf2_cases) / sizeof(*pbkdf2_cases); i++) {
		unsigned char key[128];
		size_t n = strlen(pbkdf2_cases[i].key) / 2;
		assert_int_equal(kdf_pbkdf2(pbkdf2_cases[i].password, pbkdf2_cases[i].password_n,
		                            pbkdf2_cases[i].salt, pbkdf2_cases[i].salt_n,
		                            pbkdf2_cases[i].iterations, key, n),
		                 0);
		assert_string_equal(hex(key, n), pbkdf2_cases[i].key);
	}
}

static void test_scrypt(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(scrypt_cases) / sizeof(*scrypt_cases); i++) {
		unsigned char key[128];
		const char *password = scrypt_cases[i].password, *salt = scrypt_cases[i].salt;
		if (under_valgrind() && scrypt_cases[i].log_n > 10)
			continue;
		size_t n = strlen(scrypt_cases[i].key) / 2;
		assert_int_equal(kdf_scrypt(password, strlen(password), salt, strlen(salt),
		                            scrypt_cases[i].log_n, scrypt_cases[i].r,
		                            scrypt_cases[i].p, key, n),
		                 0);
		assert_string_equal(hex(key, n), scrypt_cases[i].key);
	}
}

static void test_hmac(void **state)
{
	(void)state;
	unsigned char mac[32];
	char long_key[131];
	/* RFC 4231, 4.3 and 4.7 */
	assert_int_equal(kdf_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, mac), 0);
	assert_string_equal(hex(mac, sizeof(mac)),
	                    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	memset(long_key, 0xaa, sizeof(long_key));
	assert_int_equal(kdf_hmac_sha256(long_key, sizeof(long_key),
	                                 "Test Using Larger Than Block-Size Key - Hash Key First",
	                                 54, mac),
	                 0);
	assert_string_equal(hex(mac, sizeof(mac)),
	                    "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void test_refuses_what_is_out_of_bounds(void **state)
{
	(void)state;
	static const uint32_t bad[][3] = {
	    {0, 8, 1},
	    {14, 0, 1},
	    {14, 8, 0},
	    {KDF_SCRYPT_LOGN_MAX + 1, 1, 1},
	    {63, 1, 1},
	    {64, 1, 1},
	    {UINT32_MAX, 8, 1},
	    {14, KDF_SCRYPT_R_MAX + 1, 1},
	    {14, UINT32_MAX, UINT32_MAX},
	    {14, 8, KDF_SCRYPT_P_MAX + 1},
	    {KDF_SCRYPT_LOGN_MAX, KDF_SCRYPT_R_MAX, 1},
	};
	unsigned char key[32];
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		errno = 0;
		assert_int_equal(
		    kdf_scrypt("p", 1, "s", 1, bad[i][0], bad[i][1], bad[i][2], key, 32), -1);
		assert_int_equal(errno, EINVAL);
		assert_false(kdf_scrypt_fits(bad[i][0], bad[i][1], bad[i][2]));
	}
	assert_true(kdf_scrypt_fits(14, 8, 1));
	assert_true(kdf_scrypt_fits(15, 8, 1));
	assert_int_equal(kdf_pbkdf2("p", 1, "s", 1, 0, key, 32), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(kdf_pbkdf2("p", 1, "s", 1, KDF_PBKDF2_ITERATIONS_MAX + 1U, key, 32), -1);
}

#endif

static void test_equal_and_wipe(void **state)
{
	(void)state;
	char a[] = "abcd", zero[4] = {0};
	assert_true(kdf_equal("abcd", "abcd", 4));
	assert_false(kdf_equal("abcd", "abce", 4));
	assert_false(kdf_equal("abcd", "\341bcd", 4));
	assert_true(kdf_equal("a", "b", 0));
	kdf_wipe(a, 4);
	assert_memory_equal(a, zero, 4);
}

static void test_base64(void **state)
{
	(void)state;
	static const struct {
		const char *plain;
		size_t n;
		const char *text;
	} cases[] = {
	    {"", 0, ""},
	    {"f", 1, "Zg=="},
	    {"fo", 2, "Zm8="},
	    {"foo", 3, "Zm9v"},
	    {"foob", 4, "Zm9vYg=="},
	    {"fooba", 5, "Zm9vYmE="},
	    {"foobar", 6, "Zm9vYmFy"},
	    {"\0u\0p", 4, "AHUAcA=="},
	    {"\377\376\375", 3, "//79"},
	    {"\373\357\276", 3, "++++"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf b;
		buf_init(&b, 100);
		assert_int_equal(base64_encode((struct slice){cases[i].plain, cases[i].n}, &b), 0);
		assert_string_equal(buf_str(&b), cases[i].text);
		buf_clear(&b);
		assert_int_equal(base64_decode(slice_of(cases[i].text), &b), 0);
		assert_int_equal(b.len, cases[i].n);
		assert_memory_equal(buf_data(&b), cases[i].plain, cases[i].n);
		buf_clear(&b);
	}
}

static void test_base64_is_strict(void **state)
{
	(void)state;
	static const char *const bad[] = {"Z",     "Zg",     "Zg=",     "Zg==Zg==", "Zm=v", "====",
	                                  "=g==",  "Zh==",   "Zm9=",    "Zm9v\n",   "Zm 9", "Zm-_",
	                                  "Zm9vY", "Zm\xff", "Zm9v===", "Z==="};
	struct buf b;
	buf_init(&b, 100);
	buf_puts(&b, "before");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		if (base64_decode(slice_of(bad[i]), &b) != -1)
			fail_msg("taken: %s", bad[i]);
		assert_string_equal(buf_str(&b), "before");
	}
	assert_int_equal(base64_decode((struct slice){"Zm9\0", 4}, &b), -1);
	buf_clear(&b);
	buf_init(&b, 4);
	assert_int_equal(base64_decode(slice_of("Zm9vYmFy"), &b), -1);
	assert_true(b.failed);
	buf_clear(&b);
	assert_int_equal(base64_encode(slice_of("abcd"), &b), -1);
	buf_clear(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#if WITH_TLS
		cmocka_unit_test(test_pbkdf2),
		cmocka_unit_test(test_scrypt),
		cmocka_unit_test(test_hmac),
		cmocka_unit_test(test_refuses_what_is_out_of_bounds),
#endif
		cmocka_unit_test(test_equal_and_wipe),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_base64_is_strict),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
