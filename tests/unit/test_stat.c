/* test_stat: values that register themselves: order, vectors, histograms. */
#include "stat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

STAT_COUNTER(last, "t/z", "the last");
STAT_COUNTER(first, "t/a", "the first");
STAT_GAUGE(level, "t/level", "up and down");
STAT_VECTOR(verdicts, "t/verdicts", "result", "what became of it", 3, "good bad:worse other");
STAT_HISTOGRAM(delay, "t/delay_seconds", "how long", 1, 10, 100);

struct seen {
	char text[1024];
	int64_t value;
	const char *name;
};

static void note(void *arg, const struct stat_value *v)
{
	struct seen *s = arg;
	size_t n = strlen(s->text);
	assert_null(v->kind->labels);
	snprintf(s->text + n, sizeof s->text - n, "%s=%lld;", v->name, (long long)v->value);
}

static void one(void *arg, const struct stat_value *v)
{
	struct seen *s = arg;
	if (strcmp(v->name, s->name) == 0)
		s->value = v->value;
}

static int64_t value(const char *name)
{
	struct seen s = {.name = name, .value = -1};
	stat_each(one, &s);
	return s.value;
}

static void test_order(void **state)
{
	struct seen s = {.text = ""};
	(void)state;
	stat_each(note, &s);
	assert_string_equal(s.text, "t/a=0;t/delay_seconds=0;t/level=0;t/verdicts{result=good}=0;"
	                            "t/verdicts{result=bad:worse}=0;t/verdicts{result=other}=0;"
	                            "t/z=0;");
}

static void test_values(void **state)
{
	(void)state;
	stat_add(&first, 2);
	stat_add(&first, 3);
	stat_add(&last, 1);
	stat_add(&level, 4);
	stat_add(&level, -1);
	stat_add_at(&verdicts, 1, 7);
	stat_add_at(&verdicts, 2, 1);
	assert_int_equal(value("t/a"), 5);
	assert_int_equal(value("t/z"), 1);
	assert_int_equal(value("t/level"), 3);
	assert_int_equal(value("t/verdicts{result=good}"), 0);
	assert_int_equal(value("t/verdicts{result=bad:worse}"), 7);
	assert_int_equal(value("t/verdicts{result=other}"), 1);
}

/* A bound belongs to its own part; what is beyond all to the last; a clock may go back. */
static void test_histogram(void **state)
{
	static const struct {
		int64_t value;
		size_t part;
	} cases[] = {{-5, 0}, {0, 0},  {1, 0},   {2, 1},   {10, 1},
	             {11, 2}, {99, 2}, {100, 2}, {101, 3}, {INT64_C(5000000000), 3}};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t before = delay_counts[cases[i].part];
		int64_t sum = delay.value;
		stat_observe(&delay, cases[i].value);
		assert_int_equal(delay_counts[cases[i].part], before + 1);
		assert_int_equal(delay.value, sum + (cases[i].value > 0 ? cases[i].value : 0));
	}
	assert_int_equal(delay.kind->count, 3);
	assert_int_equal(delay_counts[0] + delay_counts[1] + delay_counts[2] + delay_counts[3], 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_order),
	    cmocka_unit_test(test_values),
	    cmocka_unit_test(test_histogram),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
