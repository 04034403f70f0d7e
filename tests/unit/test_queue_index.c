/* The index of waiting messages: order, reuse of places, nothing left behind. */
#include "queue_index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "spool.h"

#define MANY 5000

static uint32_t seed = 1;

static uint32_t chance(uint32_t below)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 8) % below;
}

static struct queue_entry *take(struct queue_index *x, uint64_t number)
{
	char id[SPOOL_ID_MAX + 1];
	spool_id_text(number, id);
	struct queue_entry *e = queue_index_take(x, id);
	assert_non_null(e);
	assert_true(e->ours && e->number == number && !e->slot && !e->kept && !e->held);
	return e;
}

static void check_heap(const struct queue_index *x)
{
	for (size_t i = 1; i <= x->heap_count; i++) {
		assert_int_equal(x->heap[i]->slot, i);
		if (i > 1)
			assert_true(x->heap[i / 2]->due <= x->heap[i]->due);
	}
}

/* Entries come, are moved and go at random; what is first is always the least. */
static void test_order(void **state)
{
	(void)state;
	struct queue_index x = {.heap = NULL};
	for (uint64_t i = 1; i <= MANY; i++)
		queue_index_put(&x, take(&x, i), chance(1000));
	assert_int_equal(x.length, MANY);
	check_heap(&x);
	for (size_t i = 0; i < MANY; i++)
		queue_index_put(&x, x.heap[1 + chance(MANY)], chance(1000));
	check_heap(&x);
	for (size_t i = 0; i < MANY / 2; i++)
		queue_index_give(&x, x.heap[1 + chance((uint32_t)x.heap_count)], 0);
	check_heap(&x);
	int64_t last = -1;
	while (x.heap_count > 0) {
		struct queue_entry *e = x.heap[1];
		assert_true(e->due >= last);
		last = e->due;
		queue_index_out(&x, e);
		queue_index_out(&x, e); /* harmless */
		queue_index_give(&x, e, 0);
	}
	assert_int_equal(x.length, 0);
	queue_index_clear(&x);
}

/* Entries stay where they are, and each is there once. */
static void test_places(void **state)
{
	(void)state;
	struct queue_index x = {.heap = NULL};
	static struct queue_entry *e[MANY];
	for (uint64_t i = 0; i < MANY; i++)
		e[i] = take(&x, i + 1);
	for (size_t round = 0; round < 20000; round++) {
		size_t i = chance(MANY);
		if (e[i])
			queue_index_give(&x, e[i], 0);
		e[i] = e[i] ? NULL : take(&x, i + 1);
	}
	size_t count = 0;
	for (uint64_t i = 0; i < MANY; i++) {
		assert_true(!e[i] || e[i]->number == i + 1);
		count += e[i] != NULL;
	}
	assert_int_equal(x.length, count);
	/* No more than the places that are left over in blocks, and one block. */
	for (size_t i = 0; i < MANY; i++)
		if (e[i])
			queue_index_give(&x, e[i], 0);
	assert_int_equal(x.length, 0);
	assert_true(x.room <= 4096 * 2 / sizeof(struct queue_entry));
	assert_true(x.heap_size <= 64);
	queue_index_clear(&x);
}

/* What was expected is there, however much is given back meanwhile. */
static void test_expected(void **state)
{
	(void)state;
	struct queue_index x = {.heap = NULL};
	struct queue_entry *e[300];
	assert_int_equal(queue_index_expect(&x, 300), 0);
	for (size_t i = 0; i < 300; i++) {
		struct queue_entry *other = take(&x, 1000 + i);
		queue_index_give(&x, other, 300 - i);
		assert_true(x.room >= 300 - i);
		assert_true(x.heap_size > x.length + 300 - i);
		e[i] = take(&x, 1 + i);
		queue_index_put(&x, e[i], 0);
	}
	queue_index_clear(&x);
	assert_int_equal(x.length + x.room + x.heap_size, 0);
}

/* Names of chasquid's, and what is kept of a message, are the index's own. */
static void test_names(void **state)
{
	(void)state;
	struct queue_index x = {.heap = NULL};
	struct queue_entry *e = queue_index_take(&x, "a name of theirs");
	assert_non_null(e);
	assert_false(e->ours);
	assert_string_equal(e->name, "a name of theirs");
	e->kept = calloc(1, sizeof *e->kept);
	assert_non_null(e->kept);
	e->kept->from = strdup("a@b");
	queue_index_put(&x, e, 5);
	queue_index_clear(&x); /* a leak would show in the build with ASan */
}

static void test_small(void **state)
{
	(void)state;
	assert_true(sizeof(struct queue_entry) <= 48);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_order),    cmocka_unit_test(test_places),
	    cmocka_unit_test(test_expected), cmocka_unit_test(test_names),
	    cmocka_unit_test(test_small),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
