/* monitor_chart: points a minute apart, and their drawings.
 *
 * link: fake_monitor.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loop.h"
#include "monitor_chart.h"
#include "stat.h"

STAT_COUNTER(messages, "smtpd/messages", "of this test");

static size_t sessions;

static size_t count_sessions(void)
{
	return sessions;
}

static struct smtpd_setup smtpd;
static const struct monitor_setup setup = {.smtpd = &smtpd, .sessions = count_sessions};

static int open_chart(void **state)
{
	(void)state;
	messages.value = 0;
	sessions = 0;
	loop_init();
	monitor_chart_open(&setup);
	return 0;
}

static int close_chart(void **state)
{
	(void)state;
	monitor_chart_close();
	loop_done();
	return 0;
}

static char drawn[16384];

static const char *draw(enum monitor_series s)
{
	struct buf b;
	buf_init(&b, sizeof drawn - 1);
	monitor_chart_draw(&b, s);
	assert_false(b.failed);
	memcpy(drawn, buf_data(&b), b.len);
	drawn[b.len] = '\0';
	buf_clear(&b);
	return drawn;
}

static void note(int64_t received, int64_t queue, int64_t minutes)
{
	int64_t values[MONITOR_SERIES] = {0};
	values[MONITOR_RECEIVED] = received;
	values[MONITOR_QUEUE] = queue;
	messages.value = received;
	monitor_chart_note(values, minutes);
}

static size_t bars(void)
{
	size_t n = 0;
	for (const char *p = drawn; (p = strstr(p, "v-")) != NULL; p++)
		n++;
	return n;
}

static void test_nothing_yet(void **state)
{
	(void)state;
	draw(MONITOR_RECEIVED);
	assert_non_null(strstr(drawn, "In the last 0 minutes: 0 messages"));
	assert_null(strstr(drawn, "<path"));
	assert_int_equal(monitor_chart_sum(MONITOR_RECEIVED), 0);
}

static void test_counts_are_differences(void **state)
{
	(void)state;
	note(5, 0, 1);
	note(5, 0, 1);
	note(12, 0, 1);
	messages.value = 14; /* two since the last sample */
	assert_int_equal(monitor_chart_sum(MONITOR_RECEIVED), 14);
	draw(MONITOR_RECEIVED);
	assert_int_equal(bars(), 2);
	assert_non_null(strstr(drawn, "In the last 3 minutes: 14 messages, at most 7 in one."));
	assert_non_null(strstr(drawn, "M295 60v-58h4v58z")); /* the last minute, the peak */
}

static void test_only_the_last_hour_counts(void **state)
{
	(void)state;
	note(1000, 0, 1);
	for (int i = 0; i < MONITOR_SAMPLES; i++)
		note(1000 + i, 0, 1);
	assert_int_equal(monitor_chart_sum(MONITOR_RECEIVED), MONITOR_SAMPLES - 1);
}

static void test_missed_minutes_are_filled(void **state)
{
	(void)state;
	note(10, 3, 4);
	assert_int_equal(monitor_chart_sum(MONITOR_RECEIVED), 10);
	draw(MONITOR_RECEIVED);
	assert_non_null(strstr(drawn, "In the last 4 minutes"));
	assert_int_equal(bars(), 4);
	draw(MONITOR_QUEUE);
	assert_non_null(strstr(drawn, "M285 2L290 2L295 2L300 2"));
	note(20, 3, INT64_MAX);
	assert_int_equal(monitor_chart_sum(MONITOR_RECEIVED), 10);
}

static void test_gauges(void **state)
{
	(void)state;
	sessions = 7;
	note(0, 10, 1);
	note(0, 5, 1);
	draw(MONITOR_QUEUE);
	assert_non_null(strstr(drawn, "at most 10."));
	assert_non_null(strstr(drawn, "M295 2L300 31"));
	assert_non_null(strstr(draw(MONITOR_SESSIONS), "7 connections now"));
}

static void test_small_values_are_seen(void **state)
{
	(void)state;
	note(1, 0, 1);
	note(1000000001, 0, 1);
	draw(MONITOR_RECEIVED);
	assert_non_null(strstr(drawn, "M290 60v-1h4v1z"));
}

#define CHART_TEST(f) cmocka_unit_test_setup_teardown(f, open_chart, close_chart)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CHART_TEST(test_nothing_yet),
	    CHART_TEST(test_counts_are_differences),
	    CHART_TEST(test_only_the_last_hour_counts),
	    CHART_TEST(test_missed_minutes_are_filled),
	    CHART_TEST(test_gauges),
	    CHART_TEST(test_small_values_are_seen),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
