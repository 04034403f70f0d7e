/* What came last is not read back: what is kept of it is what the disk says, no longer than that
 * is so, and no more than there are places. */
#include "journal_help.h"

#include <stdint.h>
#include <sys/uio.h>

#include "config.h"

/* Not static: the C library's header may have made the function that counts an inline one. */
unsigned reads;

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
	struct iovec io = {p, n};
	reads++;
	return preadv(fd, &io, 1, at);
}

static int begin(void **state)
{
	shift_s = 0;
	int rc = setup_journal(state);
	if (!rc)
		settle();
	return rc;
}

/* How often the disk is read to load the message. */
static unsigned reads_to_load(const char *id)
{
	struct envelope env;
	unsigned before = reads;
	assert_int_equal(spool_load(sp, id, &env, &st), 0);
	assert_string_equal(env.id, id);
	envelope_clear(&env);
	return reads - before;
}

static void same_text(const char *a, const char *b)
{
	assert_int_equal(!a, !b);
	if (a && b)
		assert_string_equal(a, b);
}

static void same_envelope(const struct envelope *a, const struct envelope *b)
{
	assert_string_equal(a->id, b->id);
	assert_string_equal(a->from, b->from);
	assert_int_equal(a->to_count, b->to_count);
	for (size_t i = 0; i < a->to_count; i++)
		assert_string_equal(a->to[i], b->to[i]);
	assert_int_equal(a->rcpt_count, b->rcpt_count);
	for (size_t i = 0; i < a->rcpt_count; i++) {
		const struct rcpt *x = &a->rcpt[i], *y = &b->rcpt[i];
		assert_string_equal(x->address, y->address);
		assert_string_equal(x->original, y->original);
		same_text(x->via, y->via);
		assert_int_equal(x->type, y->type);
		assert_int_equal(x->state, y->state);
		assert_int_equal(!x->last, !y->last);
		same_text(x->remote, y->remote);
	}
	assert_int_equal(a->created, b->created);
	assert_int_equal(a->last_attempt, b->last_attempt);
	assert_int_equal(a->attempts, b->attempts);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->submitted, b->submitted);
	assert_int_equal(a->header_8bit, b->header_8bit);
}

static void test_as_the_disk_has_it(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		struct envelope env, kept, read;
		simple_envelope(&env);
		if (i & 1) {
			assert_int_equal(envelope_add_to(&env, "more@c.example"), 0);
			assert_int_equal(envelope_add_rcpt(&env, RCPT_PIPE, "prog -x \"a b\"",
			                                   "more@c.example", NULL),
			                 0);
			assert_int_equal(envelope_add_rcpt(&env, RCPT_FORWARD, "f@d.example",
			                                   "more@c.example", "a.example/b:26"),
			                 0);
		}
		if (i & 2)
			assert_int_equal(envelope_set_from(&env, "<>"), 0);
		env.submitted = i & 4;
		env.header_8bit = i & 8;
		store(&env, "Subject: x\r\n\r\nbody\r\n", 20, 0, i & 2 ? "X-Before: a\r\n" : NULL);
		unsigned before = reads;
		assert_int_equal(spool_load(sp, env.id, &kept, &st), 0);
		spool_unload(sp, &kept);
		assert_null(kept.from);
		assert_int_equal(spool_load(sp, env.id, &kept, &st), 0);
		assert_int_equal(reads, before);
		/* It was given out: now the head is read, where the mark says. */
		assert_int_equal(spool_load(sp, env.id, &read, &st), 0);
		assert_int_equal(reads, before + 1);
		same_envelope(&kept, &read);
		envelope_clear(&read);
		spool_reopen();
		assert_int_equal(spool_load(sp, env.id, &read, &st), 0);
		assert_true(reads > before);
		same_envelope(&kept, &read);
		envelope_clear(&kept);
		envelope_clear(&read);
		envelope_clear(&env);
	}
}

/* One look at the disk for all of a small message's content, which is compared with its checksum.
 */
static void test_content(void **state)
{
	(void)state;
	static const char text[] = "Subject: a\r\n\r\nbody of it\r\n";
	struct envelope env;
	store_text(&env, text);
	unsigned before = reads;
	expect_content(env.id, 4096, text, sizeof text - 1);
	assert_int_equal(reads - before, 1);

	size_t n;
	char *segment = slurp(journal_path(0), &n);
	char *at = memmem(segment, n, "body of it", 10);
	assert_non_null(at);
	int fd = open(journal_path(0), O_WRONLY);
	assert_int_equal(pwrite(fd, "B", 1, at - segment), 1);
	close(fd);
	free(segment);
	char *got;
	assert_int_equal(read_all(env.id, 0, &got, &n), -1);
	assert_int_equal(st.code, 554);
	free(got);
	envelope_clear(&env);
}

static void test_attempts_count(void **state)
{
	(void)state;
	struct envelope env, got;
	struct status why;
	const size_t first = 0;
	store_text(&env, "x\r\n");
	status_set(&why, 450, "4.2.0", "later");
	assert_int_equal(spool_attempt(sp, &env, &first, 1, RCPT_PENDING, &why, "mx", false, &st),
	                 0);
	assert_int_equal(spool_load(sp, env.id, &got, &st), 0);
	assert_int_equal(got.attempts, 1);
	assert_non_null(got.rcpt[0].last);
	assert_string_equal(got.rcpt[0].last->text, "later");
	envelope_clear(&got);
	expect_content(env.id, 0, "x\r\n", 3);
	envelope_clear(&env);
}

static void test_places(void **state)
{
	(void)state;
	char id[SPOOL_FRESH_MAX + 3][SPOOL_ID_MAX + 1];
	struct envelope env;
	for (size_t i = 0; i < SPOOL_FRESH_MAX + 1; i++) {
		store_text(&env, "x\r\n");
		memcpy(id[i], env.id, sizeof id[i]);
		envelope_clear(&env);
	}
	assert_true(reads_to_load(id[SPOOL_FRESH_MAX]) > 0); /* there was no place left */

	assert_int_equal(reads_to_load(id[5]), 0);
	store_text(&env, "x\r\n");
	assert_int_equal(reads_to_load(env.id), 0); /* in the place of one that was loaded */
	envelope_clear(&env);
	assert_true(reads_to_load(id[5]) > 0);

	assert_int_equal(spool_remove(sp, id[6], &st), 0);
	assert_int_equal(spool_load(sp, id[6], &env, &st), -1);
	for (int i = 0; i < 2; i++) { /* the place that is free, and that of the one before */
		store_text(&env, "x\r\n");
		if (i > 0)
			assert_int_equal(reads_to_load(env.id), 0);
		envelope_clear(&env);
	}
	for (size_t i = 0; i < SPOOL_FRESH_MAX; i++)
		if (i != 5 && i != 6)
			assert_int_equal(reads_to_load(id[i]), 0);

	/* All were loaded: each makes room. */
	for (size_t i = 0; i < SPOOL_FRESH_MAX; i++) {
		store_text(&env, "x\r\n");
		assert_int_equal(reads_to_load(env.id), 0);
		envelope_clear(&env);
	}
}

/* What is given back counts as it did before, unless there is no place for it any more. */
static void test_given_back(void **state)
{
	(void)state;
	struct envelope first, env, more;
	store_text(&first, "x\r\n");
	assert_int_equal(spool_load(sp, first.id, &env, &st), 0);
	for (size_t i = 0; i < SPOOL_FRESH_MAX; i++) {
		store_text(&more, "x\r\n");
		envelope_clear(&more);
	}
	spool_unload(sp, &env); /* its place was taken */
	assert_null(env.from);
	assert_true(reads_to_load(first.id) > 0);

	assert_int_equal(spool_load(sp, first.id, &env, &st), 0);
	const size_t rcpt = 0;
	struct status why;
	status_set(&why, 450, "4.2.0", "later");
	assert_int_equal(spool_attempt(sp, &env, &rcpt, 1, RCPT_PENDING, &why, NULL, false, &st),
	                 0);
	spool_unload(sp, &env);
	assert_int_equal(spool_load(sp, first.id, &env, &st), 0);
	assert_int_equal(env.attempts, 1);
	spool_unload(sp, &env);
	assert_int_equal(spool_remove(sp, first.id, &st), 0);
	spool_unload(sp, &env); /* empty: nothing */
	envelope_clear(&first);
}

/* One that was never asked for has its place for a while only. */
static void test_places_of_the_old(void **state)
{
	(void)state;
	struct envelope env;
	for (size_t i = 0; i < SPOOL_FRESH_MAX; i++) {
		store_text(&env, "x\r\n");
		envelope_clear(&env);
	}
	shift_s += SPOOL_FRESH_MS / 1000 + 1;
	assert_int_equal(loop_turn(0), 0);
	store_text(&env, "x\r\n");
	assert_int_equal(reads_to_load(env.id), 0);
	envelope_clear(&env);
}

static void test_long_heads_are_read(void **state)
{
	(void)state;
	struct envelope env;
	simple_envelope(&env);
	for (unsigned i = 0; i < SPOOL_FRESH_HEAD / 40; i++)
		assert_int_equal(envelope_add_rcpt(&env, RCPT_EMAIL, "somebody@there.example",
		                                   "somebody@there.example", NULL),
		                 0);
	store(&env, "x\r\n", 3, 0, NULL);
	assert_true(reads_to_load(env.id) > 0);
	envelope_clear(&env);
}

/* When it has become a file, the file is what counts. */
static void test_file(void **state)
{
	(void)state;
	struct envelope env, got;
	store_text(&env, "x\r\n");
	shift_s += JOURNAL_AGE_MS / 1000 + 1;
	for (int i = 0; i < 100 && !exists(env.id); i++)
		loop_turn(10);
	settle();
	assert_true(exists(env.id));
	assert_true(reads_to_load(env.id) > 0);
	assert_int_equal(unlink(path_of(env.id)), 0);
	assert_int_equal(spool_load(sp, env.id, &got, &st), -1);
	envelope_clear(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_as_the_disk_has_it, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_content, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_attempts_count, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_places, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_given_back, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_places_of_the_old, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_long_heads_are_read, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_file, begin, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
