/* test_trace: the rings keep the newest whole events of each kind, for readers however slow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "log.h"
#include "trace.h"

static void add(enum log_kind kind, const char *id, const char *text)
{
	trace_add(LOG_LEVEL_INFO, kind, id, text, strlen(text));
}

/* Events behind seq; checks that they come in order. */
static size_t count(unsigned kinds, const char *id, uint64_t seq)
{
	struct trace_event e;
	size_t n = 0;
	for (uint64_t before = seq; trace_next(kinds, id, &seq, &e); n++, before = seq) {
		assert_true(e.seq > before && e.seq == seq);
		assert_true(kinds & TRACE_OF(e.kind));
		if (id)
			assert_string_equal(e.id, id);
	}
	return n;
}

static void test_kinds_and_ids(void **state)
{
	(void)state;
	struct trace_event e;
	uint64_t seq = trace_newest();
	uint64_t start = seq;
	time_t now = time(NULL);
	add(LOG_SESSION, "s1", "smtpd connect peer=x");
	add(LOG_QUEUE, "m1", "deferred");
	trace_add(LOG_LEVEL_ERROR, LOG_SESSION, "s2", "worse than it looks", 5);
	add(LOG_DELIVERY, "m1", "smtpc reply");
	assert_int_equal(trace_newest(), start + 4);
	assert_true(trace_next(TRACE_ALL, NULL, &seq, &e));
	assert_string_equal(e.id, "s1");
	assert_string_equal(e.text, "smtpd connect peer=x");
	assert_int_equal(e.seq, start + 1);
	assert_int_equal(e.level, LOG_LEVEL_INFO);
	assert_int_equal(e.kind, LOG_SESSION);
	assert_in_range(e.at / 1000, now, now + 2);
	assert_true(trace_next(TRACE_OF(LOG_SESSION), NULL, &seq, &e));
	assert_string_equal(e.text, "worse");
	assert_int_equal(e.level, LOG_LEVEL_ERROR);
	assert_false(trace_next(TRACE_OF(LOG_SESSION), NULL, &seq, &e));
	assert_int_equal(seq, start + 3); /* nothing found: it stays */
	assert_int_equal(count(TRACE_ALL, "m1", start), 2);
	assert_int_equal(count(TRACE_OF(LOG_QUEUE), "m1", start), 1);
	assert_int_equal(count(TRACE_ALL, "m", start), 0);
	assert_int_equal(count(TRACE_ALL, NULL, UINT64_MAX), 0);
	assert_int_equal(count(0, NULL, 0), 0);
}

static void test_names(void **state)
{
	(void)state;
	for (int k = 0; k < LOG_KINDS; k++)
		assert_int_equal(trace_kind(trace_kind_name((enum log_kind)k)), k);
	assert_string_equal(trace_kind_name(LOG_SESSION), "session");
	assert_int_equal(trace_kind("sessions"), -1);
	assert_int_equal(trace_kind(""), -1);
}

/* All sizes, many times around: whatever is found is whole, newest, and in order. */
static void test_wraparound(void **state)
{
	(void)state;
	static char text[TRACE_TEXT_MAX + 1];
	srand(5);
	for (int i = 0; i < 20000; i++) {
		int n = i % 7 == 0 ? rand() % TRACE_TEXT_MAX : rand() % 80;
		char id[8];
		n = snprintf(text, sizeof text, "%d %*s", i, n, "");
		if (n >= (int)sizeof text)
			n = TRACE_TEXT_MAX;
		snprintf(id, sizeof id, "q%d", i % 10);
		trace_add(LOG_LEVEL_DEBUG, LOG_QUEUE, id, text, (size_t)n);
		if (i % 500 > 0)
			continue;
		struct trace_event e;
		uint64_t seq = 0;
		int last = -1;
		size_t bytes = 0;
		while (trace_next(TRACE_OF(LOG_QUEUE), NULL, &seq, &e)) {
			if (e.text[0] == 'd')
				continue; /* of the test before */
			assert_true(last < 0 || atoi(e.text) == last + 1);
			last = atoi(e.text);
			bytes += strlen(e.text);
			assert_true(strlen(e.text) <= TRACE_TEXT_MAX);
		}
		assert_int_equal(last, i);
		assert_true(bytes < TRACE_RING_BYTES);
		if (i > 2000)
			assert_true(bytes > TRACE_RING_BYTES / 4);
	}
	/* Other kinds are not washed away by it. */
	assert_int_equal(count(TRACE_OF(LOG_SESSION), NULL, 0), 2);
}

/* Goes on where it was; what was overwritten meanwhile is passed over, and nothing comes twice. */
static void test_slow_reader(void **state)
{
	(void)state;
	struct trace_event e;
	uint64_t seq = trace_newest();
	int got = 0;
	int last = -1;
	for (int i = 0; i < 5000; i++) {
		char text[64];
		snprintf(text, sizeof text, "%d and some more text to fill the ring", i);
		add(LOG_DELIVERY, "d", text);
		if (i % 3 == 0 && trace_next(TRACE_ALL, i % 2 ? "d" : NULL, &seq, &e)) {
			assert_true(atoi(e.text) > last);
			last = atoi(e.text);
			got++;
		}
	}
	assert_int_equal(got, 1667);
	assert_true(last > 4000); /* it was pushed on */
	while (trace_next(TRACE_ALL, "d", &seq, &e)) {
		assert_int_equal(atoi(e.text), last + 1);
		last++;
	}
	assert_int_equal(last, 4999);
	/* Two readers, each with its own place. */
	uint64_t a = 0;
	uint64_t b = trace_newest() - 5;
	size_t left = count(TRACE_OF(LOG_DELIVERY), NULL, 0);
	for (size_t i = 0; i < left; i++) {
		uint64_t before = b;
		assert_true(trace_next(TRACE_OF(LOG_DELIVERY), NULL, &a, &e));
		if (trace_next(TRACE_OF(LOG_DELIVERY), NULL, &b, &e))
			assert_int_equal(b, before + 1);
	}
	assert_int_equal(a, trace_newest());
}

static void test_hostile(void **state)
{
	(void)state;
	struct trace_event e;
	uint64_t seq = trace_newest();
	char id[4 * TRACE_ID_MAX];
	static char text[4 * TRACE_TEXT_MAX];
	add(LOG_QUEUE, "a\nb\x1b[2J \xc2\x9b", "x");
	assert_true(trace_next(TRACE_ALL, "a\nb\x1b[2J \xc2\x9b", &seq, &e));
	assert_string_equal(e.id, "a?b?[2J???");
	memset(id, 'i', sizeof id - 1);
	id[sizeof id - 1] = '\0';
	memset(text, 't', sizeof text - 1);
	add(LOG_QUEUE, id, text);
	assert_true(trace_next(TRACE_ALL, id, &seq, &e));
	assert_int_equal(strlen(e.id), TRACE_ID_MAX);
	assert_int_equal(strlen(e.text), TRACE_TEXT_MAX);
	assert_string_equal(e.text + TRACE_TEXT_MAX - 4, "t...");
	/* Cut between characters. */
	for (size_t i = 0; i + 2 < sizeof text; i += 2)
		memcpy(text + i, "\xc3\xbc", 2);
	for (int odd = 0; odd < 2; odd++) {
		add(LOG_QUEUE, "", text + odd);
		assert_true(trace_next(TRACE_ALL, "", &seq, &e));
		size_t n = strlen(e.text);
		assert_memory_equal(e.text + n - 5, "\xc3\xbc...", 5);
	}
}

/* log_write keeps what the log does not take, and the text is the line's. */
static void test_from_log(void **state)
{
	(void)state;
	struct trace_event e;
	uint64_t seq = trace_newest();
	log_to(-1);
	log_level_now = LOG_LEVEL_ERROR;
	log_debug("s\n9", "smtpd command", LOG_S("verb", "MAIL"), LOG_S("args", "a b\n"));
	log_error("-", "gone", LOG_N("n", 1));
	assert_true(trace_next(TRACE_ALL, "s\n9", &seq, &e));
	assert_string_equal(e.text, "smtpd command verb=MAIL args=\"a b\\x0a\"");
	assert_int_equal(e.level, LOG_LEVEL_DEBUG);
	assert_int_equal(e.kind, LOG_DAEMON);
	assert_true(trace_next(TRACE_ALL, "-", &seq, &e));
	assert_string_equal(e.text, "gone n=1");
	log_to(2);
	log_level_now = LOG_LEVEL_INFO;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_kinds_and_ids), cmocka_unit_test(test_names),
	    cmocka_unit_test(test_wraparound),    cmocka_unit_test(test_slow_reader),
	    cmocka_unit_test(test_hostile),       cmocka_unit_test(test_from_log),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
