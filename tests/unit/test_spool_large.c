/* Large messages in the journal, and those that are too large for it: where they are kept, what a
 * power cut leaves of them, and what they leave to others. */
#include "journal_help.h"

#include "config.h"

#define MESSAGES 12

static char content[2 * JOURNAL_MESSAGE_MAX];

static int begin(void **state)
{
	shift_s = 0;
	for (size_t i = 0; i < sizeof content; i++)
		content[i] = (i + 2) % 78 == 0   ? '\r'
		             : (i + 1) % 78 == 0 ? '\n'
		                                 : (char)('a' + i * 7 % 26);
	int rc = setup_journal(state);
	if (!rc)
		settle();
	return rc;
}

/* Content of the i-th of some messages around the limits. */
static size_t size_of(int i)
{
	size_t most = JOURNAL_MESSAGE_MAX - JOURNAL_MESSAGE_MAX / 8;
	return most / MESSAGES * (size_t)(i + 1);
}

static void store_some(struct envelope env[MESSAGES])
{
	for (int i = 0; i < MESSAGES; i++) {
		simple_envelope(&env[i]);
		store(&env[i], content, size_of(i), 8192, i % 2 ? "X-Before: all\r\n" : NULL);
		settle();
		assert_false(exists(env[i].id));
	}
}

static void expect_message(const struct envelope *env, int i)
{
	size_t before = i % 2 ? 15 : 0;
	char *got;
	size_t n;
	assert_int_equal(read_all(env->id, 65536, &got, &n), 0);
	assert_int_equal(n, size_of(i) + before);
	assert_memory_equal(got + before, content, size_of(i));
	free(got);
}

static void test_power_cut(void **state)
{
	(void)state;
	struct envelope env[MESSAGES];
	store_some(env);
	take_image();
	cut_power();
	assert_int_equal(rescan()->count, MESSAGES);
	for (int i = 0; i < MESSAGES; i++)
		expect_message(&env[i], i);
	assert_int_equal(rescan()->count, MESSAGES); /* an orderly end: files */
	for (int i = 0; i < MESSAGES; i++) {
		assert_true(exists(env[i].id));
		expect_message(&env[i], i);
		envelope_clear(&env[i]);
	}
}

/* The last one was being written: any of its blocks is missing, or all behind one. The others are
 * there, and it is there as it was or not at all. */
static void test_power_cut_in_the_middle(void **state)
{
	(void)state;
	struct envelope small, large;
	store_text(&small, "x\r\n");
	settle();
	simple_envelope(&large);
	store(&large, content, size_of(MESSAGES - 1), 8192, NULL);
	take_image();
	static char whole[JOURNAL_BYTES];
	memcpy(whole, image[0], sizeof whole);
	size_t n = JOURNAL_MESSAGE_MAX + 8192;
	assert_non_null(memmem(whole, n, large.id, strlen(large.id)));
	for (size_t at = 4096; at < n; at += 4096 * 5) {
		for (int tail = 0; tail < 2; tail++) {
			size_t lost = tail ? n - at : 4096;
			memcpy(image[0], whole, sizeof whole);
			memset(image[0] + at, '\n', lost);
			cut_power();
			rescan();
			expect_content(small.id, 0, "x\r\n", 3);
			char *got;
			size_t got_n;
			if (read_all(large.id, 0, &got, &got_n) == 0) {
				assert_int_equal(got_n, size_of(MESSAGES - 1));
				assert_memory_equal(got, content, got_n);
			}
			free(got);
		}
	}
	memcpy(image[0], whole, sizeof whole);
	cut_power();
	rescan();
	expect_content(large.id, 0, content, size_of(MESSAGES - 1));
	envelope_clear(&small);
	envelope_clear(&large);
}

/* What is said to be too large is a file at once; without a word, from where it is. */
static void test_said_to_be_large(void **state)
{
	(void)state;
	struct envelope env;
	for (int i = 0; i < 3; i++) {
		static const size_t said[] = {0, 5, JOURNAL_MESSAGE_MAX + 1};
		simple_envelope(&env);
		env.size = said[i];
		struct spool_writer *w = spool_begin(sp, &env, &st);
		assert_non_null(w);
		spool_append(w, "x\r\n", 3);
		assert_int_equal(exists(env.id), said[i] > JOURNAL_MESSAGE_MAX);
		for (size_t at = 0; at < sizeof content; at += 8192)
			spool_append(w, content, 8192);
		assert_true(exists(env.id));
		spool_abort(w);
		assert_false(exists(env.id));
		envelope_clear(&env);
	}
}

/* Large messages that come in at the same time leave room for small ones, and what finds none is a
 * file, with nothing lost; when they are over there is room again. */
static void test_room_for_small_ones(void **state)
{
	(void)state;
	enum { MANY = JOURNAL_POOL / JOURNAL_MESSAGE_MAX * 4 };
	struct spool_writer *w[MANY];
	struct envelope env[MANY], small;
	int in_memory = 0;
	size_t n = size_of(MESSAGES - 1);
	for (int i = 0; i < MANY; i++) {
		simple_envelope(&env[i]);
		w[i] = spool_begin(sp, &env[i], &st);
		assert_non_null(w[i]);
	}
	for (size_t at = 0; at < n; at += 8192)
		for (int i = 0; i < MANY; i++)
			spool_append(w[i], content + at, n - at < 8192 ? n - at : 8192);
	for (int i = 0; i < MANY; i++)
		in_memory += !exists(env[i].id);
	assert_in_range(in_memory, 1, MANY / 2);
	store_text(&small, "x\r\n");
	assert_false(exists(small.id));
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(commit(w[i]).st.code, 250);
		expect_content(env[i].id, 65536, content, n);
		envelope_clear(&env[i]);
		settle();
	}
	simple_envelope(&env[0]);
	store(&env[0], content, n, 8192, NULL);
	assert_false(exists(env[0].id));
	envelope_clear(&env[0]);
	envelope_clear(&small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_power_cut, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_power_cut_in_the_middle, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_said_to_be_large, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_room_for_small_ones, begin, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
