/* queue_dest: the last destinations, however many there are. */
#include "queue_dest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static struct status status(int code, const char *text)
{
	struct status st;
	status_set(&st, code, NULL, "%s", text);
	return st;
}

static void test_counts(void **state)
{
	const struct status good = status(250, "ok");
	const struct status bad = status(451, "later");
	const struct status worse = status(550, "never");
	(void)state;
	queue_dest_clear();
	assert_null(queue_dest_nth(0));
	queue_dest_note("far.test", RCPT_SENT, &good, "mx.far.test [192.0.2.1]:25 TLS_SECURE", 100);
	assert_int_equal(queue_dest_nth(0)->last_bad, 0);
	queue_dest_note("far.test", RCPT_PENDING, &bad, NULL, 101);
	queue_dest_note("local", RCPT_SENT, &good, NULL, 102);
	queue_dest_note("far.test", RCPT_FAILED, &worse, "mx2\r\n\x1b", 103);
	queue_dest_note("far.test", RCPT_SENT, &good, "mx3", 104);
	const struct queue_dest *d = queue_dest_nth(0);
	assert_string_equal(d->name, "far.test");
	assert_int_equal(d->count[RCPT_SENT], 2);
	assert_int_equal(d->count[RCPT_PENDING], 1);
	assert_int_equal(d->count[RCPT_FAILED], 1);
	assert_int_equal(d->last, 104);
	assert_int_equal(d->last_bad, 103);
	assert_int_equal(d->bad.code, 550);
	assert_string_equal(d->remote, "mx3");
	d = queue_dest_nth(1);
	assert_string_equal(d->name, "local");
	assert_string_equal(d->remote, "");
	assert_int_equal(d->last, 102);
	assert_null(queue_dest_nth(2));
	/* What a peer calls itself is made harmless. */
	queue_dest_note("evil.test", RCPT_FAILED, &worse, "mx\r\n\x1b", 105);
	for (const char *p = queue_dest_nth(0)->remote; *p; p++)
		assert_true(*p >= ' ');
	queue_dest_clear();
	assert_null(queue_dest_nth(0));
}

static void test_oldest_makes_room(void **state)
{
	const struct status good = status(250, "ok");
	char name[400];
	(void)state;
	queue_dest_clear();
	for (int i = 0; i < 3 * QUEUE_DEST_MAX; i++) {
		snprintf(name, sizeof name, "d%d.test", i);
		queue_dest_note("often.test", RCPT_SENT, &good, NULL, i);
		queue_dest_note(name, RCPT_SENT, &good, NULL, i);
		assert_string_equal(queue_dest_nth(0)->name, name);
		assert_string_equal(queue_dest_nth(1)->name, "often.test");
	}
	assert_int_equal(queue_dest_nth(1)->count[RCPT_SENT], 3 * QUEUE_DEST_MAX);
	assert_null(queue_dest_nth(QUEUE_DEST_MAX));
	for (size_t i = 0; i < QUEUE_DEST_MAX; i++) {
		assert_non_null(queue_dest_nth(i));
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(queue_dest_nth(i)->name, queue_dest_nth(k)->name);
		if (i > 1)
			assert_int_equal(queue_dest_nth(i)->last, 3 * QUEUE_DEST_MAX - (int)i);
	}
	/* A name that is too long is cut, and stays one. */
	memset(name, 'x', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	queue_dest_note(name, RCPT_SENT, &good, NULL, 1000);
	queue_dest_note(name, RCPT_SENT, &good, NULL, 1000);
	assert_int_equal(queue_dest_nth(0)->count[RCPT_SENT], 2);
	queue_dest_clear();
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_counts),
	                                   cmocka_unit_test(test_oldest_makes_room)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
