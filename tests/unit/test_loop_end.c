/* test_loop_end: what is asked for in a turn is done at its end, in its order, once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loop_end.h"

static char done[20];
static struct loop_end first, second, last;
static struct loop_end *stops, *asks;

static void run(void *arg)
{
	strcat(done, arg);
	if (stops)
		loop_end_stop(stops);
	if (asks)
		assert_true(loop_end_ask(asks, LOOP_END_FIRST));
	stops = asks = NULL;
}

static int setup(void **state)
{
	(void)state;
	done[0] = '\0';
	stops = asks = NULL;
	first = (struct loop_end){.run = run, .arg = "1"};
	second = (struct loop_end){.run = run, .arg = "2"};
	last = (struct loop_end){.run = run, .arg = "3"};
	return 0;
}

static void test_order(void **state)
{
	(void)state;
	assert_false(loop_end_ask(&first, LOOP_END_FIRST)); /* no turn */
	loop_end_begin();
	assert_false(loop_end_waits());
	assert_true(loop_end_ask(&last, LOOP_END_LAST));
	assert_false(loop_end_waits());
	assert_true(loop_end_ask(&first, LOOP_END_FIRST));
	assert_true(loop_end_ask(&second, LOOP_END_FIRST));
	assert_true(loop_end_ask(&first, LOOP_END_FIRST)); /* twice is once */
	assert_true(loop_end_waits());
	assert_string_equal(done, "");
	loop_end_run();
	assert_string_equal(done, "123");
	assert_false(loop_end_waits());
	assert_true(loop_end_ask(&second, LOOP_END_FIRST));
	loop_end_over();
	assert_string_equal(done, "1232");
	assert_false(loop_end_ask(&first, LOOP_END_FIRST));
}

static void test_stop(void **state)
{
	(void)state;
	loop_end_begin();
	loop_end_ask(&first, LOOP_END_FIRST);
	loop_end_ask(&second, LOOP_END_FIRST);
	loop_end_ask(&last, LOOP_END_LAST);
	loop_end_stop(&last);
	loop_end_stop(&last);
	stops = &second; /* while both are due */
	loop_end_over();
	assert_string_equal(done, "1");
}

static void test_ask_again(void **state)
{
	(void)state;
	loop_end_begin();
	loop_end_ask(&last, LOOP_END_LAST);
	asks = &first; /* a line that an answer brings */
	loop_end_over();
	assert_string_equal(done, "31");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_order, setup),
	    cmocka_unit_test_setup(test_stop, setup),
	    cmocka_unit_test_setup(test_ask_again, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
