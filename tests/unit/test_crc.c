/* test_crc: known vectors, and the same result for any split and any alignment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crc.h"

static uint32_t crc_of(const char *s)
{
	return crc_add(0, s, strlen(s));
}

/* The definition, a bit at a time. */
static uint32_t slow(const unsigned char *p, size_t n)
{
	uint32_t c = 0xffffffffU;
	for (size_t i = 0; i < n; i++) {
		c ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? 0xedb88320U ^ (c >> 1) : c >> 1;
	}
	return ~c;
}

static void test_known(void **state)
{
	(void)state;
	static const unsigned char zeros[32];
	unsigned char ones[32];
	memset(ones, 0xff, sizeof ones);
	assert_int_equal(crc_of(""), 0);
	assert_int_equal(crc_of("a"), 0xe8b7be43U);
	assert_int_equal(crc_of("123456789"), 0xcbf43926U);
	assert_int_equal(crc_of("The quick brown fox jumps over the lazy dog"), 0x414fa339U);
	assert_int_equal(crc_add(0, zeros, sizeof zeros), 0x190a55adU);
	assert_int_equal(crc_add(0, ones, sizeof ones), 0xff6cab0bU);
	assert_int_equal(crc_add(0x12345678U, NULL, 0), 0x12345678U);
}

static void test_any_split_and_alignment(void **state)
{
	(void)state;
	unsigned char data[160];
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (unsigned char)(i * 37 + 11);
	for (size_t start = 0; start < 8; start++) {
		for (size_t n = 0; n <= 150; n++) {
			uint32_t want = slow(data + start, n);
			for (size_t cut = 0; cut <= n; cut++) {
				uint32_t first = crc_add(0, data + start, cut);
				assert_int_equal(crc_add(first, data + start + cut, n - cut), want);
			}
		}
	}
}

/* Long ones are gone through in blocks, of two halves each. */
static void test_long(void **state)
{
	(void)state;
	static unsigned char data[9000];
	uint32_t x = 1;
	for (size_t i = 0; i < sizeof data; i++) {
		x = x * 1664525 + 1013904223;
		data[i] = (unsigned char)(x >> 24);
	}
	for (size_t n = 500; n < sizeof data; n += n % 512 < 500 ? 500 - n % 512 : 1) {
		uint32_t want = slow(data, n);
		assert_int_equal(crc_add(0, data, n), want);
		assert_int_equal(crc_add(crc_add(0, data, n / 3), data + n / 3, n - n / 3), want);
	}
	memset(data, 0, sizeof data);
	assert_int_equal(crc_add(0, data, sizeof data), slow(data, sizeof data));
}

static void test_every_bit_counts(void **state)
{
	(void)state;
	unsigned char data[64] = "A message that somebody waits for.";
	uint32_t want = crc_add(0, data, sizeof data);
	for (size_t bit = 0; bit < 8 * sizeof data; bit++) {
		data[bit / 8] ^= (unsigned char)(1U << bit % 8);
		assert_int_not_equal(crc_add(0, data, sizeof data), want);
		data[bit / 8] ^= (unsigned char)(1U << bit % 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_known),
	    cmocka_unit_test(test_any_split_and_alignment),
	    cmocka_unit_test(test_long),
	    cmocka_unit_test(test_every_bit_counts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
