/* test_bytes: every value in every place of a word, at any alignment, against one byte a step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bytes.h"

#define SIZE 40

static size_t slow_run(const unsigned char *p, size_t n)
{
	size_t i = 0;
	while (i < n && p[i] >= 0x20 && p[i] < 0x7f && p[i] != '"' && p[i] != '\\')
		i++;
	return i;
}

static size_t slow_print_run(const unsigned char *p, size_t n)
{
	size_t i = 0;
	while (i < n && p[i] >= 0x20 && p[i] < 0x7f)
		i++;
	return i;
}

static size_t slow_line_run(const unsigned char *p, size_t n)
{
	size_t i = 0;
	while (i < n && p[i] != '\r' && p[i] != '\n')
		i++;
	return i;
}

static void test_each_place(void **state)
{
	(void)state;
	unsigned char text[SIZE];
	for (size_t at = 0; at < SIZE; at++)
		for (unsigned value = 0; value < 256; value++)
			for (size_t from = 0; from <= 9; from++) {
				/* With neighbours at the ends of what is plain. */
				memset(text, value & 1 ? '~' : ' ', SIZE);
				text[at] = (unsigned char)value;
				size_t n = SIZE - from;
				bool eight = value >= 0x80 && at >= from;
				assert_int_equal(bytes_plain_run(text + from, n),
				                 slow_run(text + from, n));
				assert_int_equal(bytes_print_run(text + from, n),
				                 slow_print_run(text + from, n));
				assert_int_equal(bytes_line_run(text + from, n),
				                 slow_line_run(text + from, n));
				assert_int_equal(bytes_have_8bit(text + from, n), eight);
			}
}

static void test_many_odd_bytes(void **state)
{
	(void)state;
	unsigned char text[SIZE];
	uint32_t x = 1;
	for (int round = 0; round < 20000; round++) {
		bool eight = false;
		for (size_t i = 0; i < SIZE; i++) {
			x = x * 1664525 + 1013904223;
			text[i] = (unsigned char)(x >> 28 ? 'a' + (x >> 24 & 15) : x >> 16);
			eight = eight || text[i] >= 0x80;
		}
		assert_int_equal(bytes_plain_run(text, SIZE), slow_run(text, SIZE));
		assert_int_equal(bytes_print_run(text, SIZE), slow_print_run(text, SIZE));
		assert_int_equal(bytes_have_8bit(text, SIZE), eight);
	}
}

static void test_nothing(void **state)
{
	(void)state;
	assert_int_equal(bytes_plain_run("\n", 0), 0);
	assert_int_equal(bytes_print_run("\n", 0), 0);
	assert_false(bytes_have_8bit("\xff", 0));
}

static void test_numbers(void **state)
{
	(void)state;
	static const int64_t numbers[] = {0,   1,    9,         10,        99,        100,
	                                  -1,  -10,  INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN,
	                                  255, 1000, 1000000,   -99};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		char got[BYTES_NUMBER + 3] = "";
		char want[32];
		*bytes_put_number(bytes_put(got, "<"), numbers[i]) = '\0';
		snprintf(want, sizeof want, "<%lld", (long long)numbers[i]);
		assert_string_equal(got, want);
		assert_true(strlen(got) <= BYTES_NUMBER + 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_each_place),
	    cmocka_unit_test(test_many_odd_bytes),
	    cmocka_unit_test(test_nothing),
	    cmocka_unit_test(test_numbers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
