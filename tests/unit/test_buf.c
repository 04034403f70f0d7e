/* test_buf: slices and bounded buffers: contents against a model, limits, sticky failure. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "buf.h"
#include "config.h"

static void expect(const struct buf *b, const char *s)
{
	assert_int_equal(b->len, strlen(s));
	assert_memory_equal(buf_data(b), s, b->len);
}

static void test_slices(void **state)
{
	(void)state;
	struct slice nul = {"a\0b", 3};
	assert_true(slice_is(slice_of(""), ""));
	assert_true(slice_is((struct slice){NULL, 0}, ""));
	assert_true(slice_is(slice_of("MAIL"), "MAIL"));
	assert_false(slice_is(slice_of("MAIL"), "MAI"));
	assert_false(slice_is(slice_of("MAI"), "MAIL"));
	assert_false(slice_is(nul, "a"));
	assert_true(slice_is_nocase(slice_of("mAiL"), "MAIL"));
	assert_false(slice_is_nocase(slice_of("mAiL "), "MAIL"));
	/* Only ASCII letters fold: '[' is not '{', a Latin-1 letter is itself. */
	assert_false(slice_is_nocase(slice_of("[\xe4"), "{\xe4"));
	assert_false(slice_is_nocase(slice_of("\xe4"), "\xc4"));
}

static void test_empty(void **state)
{
	(void)state;
	struct buf b;
	size_t room;
	buf_init(&b, 10);
	assert_non_null(buf_data(&b));
	assert_int_equal(buf_slice(&b).n, 0);
	assert_int_equal(buf_append(&b, NULL, 0), 0);
	buf_consume(&b, 5);
	buf_truncate(&b, 3);
	assert_string_equal(buf_str(&b), "");
	assert_false(b.failed);
	buf_clear(&b);
	buf_init(&b, 0);
	assert_non_null(buf_space(&b, 100, &room));
	assert_int_equal(room, 0);
	assert_false(b.failed);
	assert_int_equal(buf_putc(&b, 'x'), -1);
	assert_true(b.failed);
	buf_clear(&b);
	assert_false(b.failed);
}

static void test_limit_is_sticky(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 5);
	assert_int_equal(buf_puts(&b, "hello"), 0);
	assert_int_equal(buf_puts(&b, "!"), -1);
	expect(&b, "hello");
	buf_consume(&b, 3);
	/* There is room again, but a piece is missing: nothing may follow it. */
	assert_int_equal(buf_puts(&b, "x"), -1);
	assert_int_equal(buf_printf(&b, "%d", 1), -1);
	assert_string_equal(buf_str(&b), "");
	expect(&b, "lo");
	buf_clear(&b);
	assert_int_equal(b.max, 5);
	assert_int_equal(buf_puts(&b, "x"), 0);
	assert_string_equal(buf_str(&b), "x");
	assert_int_equal(buf_append(&b, "y", SIZE_MAX), -1);
	expect(&b, "x");
	buf_clear(&b);
}

static void test_printf(void **state)
{
	(void)state;
	char big[1001];
	for (size_t max = 990; max <= 1010; max++) {
		for (size_t n = 0; n <= 1000; n += n < 250 || n > 260 ? 10 : 1) {
			struct buf b;
			memset(big, 'a', n);
			big[n] = '\0';
			buf_init(&b, max);
			buf_puts(&b, "12345");
			buf_consume(&b, 2);
			int rc = buf_printf(&b, "%s", big);
			assert_int_equal(rc, n + 3 <= max ? 0 : -1);
			assert_int_equal(b.failed, rc != 0);
			assert_int_equal(b.len, rc ? 3 : n + 3);
			assert_memory_equal(buf_data(&b), "345", 3);
			assert_memory_equal(buf_data(&b) + 3, big, b.len - 3);
			buf_clear(&b);
		}
	}
}

static void test_pieces(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 8);
	assert_int_equal(buf_puts_all(&b, "ab", "", "c"), 0);
	assert_int_equal(buf_put_number(&b, -120), 0);
	expect(&b, "abc-120");
	assert_int_equal(buf_puts_all(&b, "d", "e"), -1);
	expect(&b, "abc-120d");
	assert_true(b.failed);
	buf_clear(&b);
}

static void test_space(void **state)
{
	(void)state;
	struct buf b;
	size_t room;
	buf_init(&b, 100);
	char *p = buf_space(&b, 60, &room);
	assert_int_equal(room, 60);
	memset(p, 'x', 60);
	buf_added(&b, 60);
	p = buf_space(&b, 60, &room);
	assert_int_equal(room, 40);
	memset(p, 'y', 40);
	buf_added(&b, 40);
	assert_non_null(buf_space(&b, 60, &room));
	assert_int_equal(room, 0);
	assert_false(b.failed); /* back-pressure is no failure */
	buf_consume(&b, 59);
	p = buf_space(&b, 60, &room);
	assert_int_equal(room, 59);
	memset(p, 'z', 59);
	buf_added(&b, 59);
	assert_int_equal(b.len, 100);
	assert_int_equal(buf_data(&b)[0], 'x');
	assert_int_equal(buf_data(&b)[1], 'y');
	assert_int_equal(buf_data(&b)[41], 'z');
	buf_clear(&b);
}

static void test_str_at_the_limit(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 64);
	for (int i = 0; i < 64; i++)
		buf_putc(&b, 'a');
	assert_int_equal(strlen(buf_str(&b)), 64);
	assert_false(b.failed);
	buf_consume(&b, 1);
	assert_int_equal(strlen(buf_str(&b)), 63);
	buf_truncate(&b, 10);
	assert_string_equal(buf_str(&b), "aaaaaaaaaa");
	buf_clear(&b);
}

static void test_memory_is_given_back(void **state)
{
	(void)state;
	struct buf b;
	char big[10 * BUF_KEEP] = "";
	buf_init(&b, sizeof big);
	buf_append(&b, big, sizeof big);
	buf_consume(&b, sizeof big - 1);
	assert_non_null(b.data);
	buf_consume(&b, 1);
	assert_null(b.data);
	assert_int_equal(b.size, 0);
	buf_puts(&b, "small");
	char *kept = b.data;
	buf_consume(&b, 5);
	assert_ptr_equal(b.data, kept);
	buf_clear(&b);
}

/* Who reads next reads into the same block; it never belongs to two. */
static void test_one_block_is_kept(void **state)
{
	(void)state;
	struct buf a, b;
	size_t room;
	const size_t size = BUF_SPARE; /* 0 in builds with a sanitizer */
	if (!size)
		skip();
	buf_init(&a, size);
	buf_init(&b, size * 2);
	char *first = buf_space(&a, size, &room);
	char *second = buf_space(&b, size, &room);
	assert_ptr_not_equal(first, second);
	memset(first, 'a', size);
	memset(second, 'b', size);
	buf_added(&a, size);
	buf_added(&b, size);
	buf_consume(&a, size);
	assert_null(a.data);
	assert_ptr_equal(buf_space(&a, size, &room), first);
	buf_added(&a, 1);
	buf_clear(&a);
	/* What grows takes its content along, and not into that block. */
	assert_int_equal(buf_putc(&b, 'c'), 0);
	assert_int_equal(buf_data(&b)[0], 'b');
	assert_ptr_not_equal(b.data, first);
	buf_clear(&b);
}

/* Random calls; the model is an array that never moves anything. */
static void test_against_model(void **state)
{
	(void)state;
	static char model[1 << 20];
	size_t from = 0;
	size_t to = 0;
	struct buf b;
	buf_init(&b, 3000);
	srand(1);
	for (int i = 0; i < 20000 && to < sizeof model - 4096; i++) {
		size_t n = (size_t)rand() % 700;
		size_t room = 0;
		char *p;
		switch (rand() % 4) {
		case 0:
			if (n > b.max - b.len)
				continue;
			memset(model + to, i & 0xff, n);
			assert_int_equal(buf_append(&b, model + to, n), 0);
			to += n;
			break;
		case 1:
			p = buf_space(&b, n, &room);
			assert_non_null(p);
			assert_int_equal(room, n < 3000 - (to - from) ? n : 3000 - (to - from));
			memset(p, i & 0xff, room);
			memset(model + to, i & 0xff, room);
			buf_added(&b, room);
			to += room;
			break;
		case 2:
			buf_consume(&b, n);
			from += n < to - from ? n : to - from;
			break;
		default:
			buf_truncate(&b, n);
			to = n < to - from ? from + n : to;
		}
		assert_int_equal(b.len, to - from);
		assert_memory_equal(buf_data(&b), model + from, b.len);
		assert_false(b.failed);
	}
	buf_clear(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_slices),
	    cmocka_unit_test(test_empty),
	    cmocka_unit_test(test_limit_is_sticky),
	    cmocka_unit_test(test_printf),
	    cmocka_unit_test(test_pieces),
	    cmocka_unit_test(test_space),
	    cmocka_unit_test(test_str_at_the_limit),
	    cmocka_unit_test(test_memory_is_given_back),
	    cmocka_unit_test(test_one_block_is_kept),
	    cmocka_unit_test(test_against_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
