/* The scan at start-up: no turn of it is long, whatever lies in the queue. */
#include "spool_help.h"

#include <time.h>

#define MANY (SPOOL_SCAN_SORT + 500)
#define BIG  (4 * 1024 * 1024)

struct seen {
	size_t count;
	char last[SPOOL_ID_MAX + 1];
	uint64_t inode;
	bool ascending; /* inodes */
	long pause_ms;  /* in each call */
};

static void on_seen(void *arg, const struct spool_found *f)
{
	struct seen *s = arg;
	struct stat file;
	struct timespec pause = {.tv_nsec = s->pause_ms * 1000000};
	assert_int_equal(stat(path_of(f->id), &file), 0);
	s->ascending &= (uint64_t)file.st_ino >= s->inode;
	s->inode = (uint64_t)file.st_ino;
	s->count++;
	snprintf(s->last, sizeof s->last, "%s", f->id);
	nanosleep(&pause, NULL);
}

/* Scans all; as the loop does, the clock is read before each turn. Returns the turns. */
static size_t scan(struct seen *s)
{
	size_t turns = 0;
	int more;
	s->ascending = true;
	do {
		size_t before = s->count;
		loop_refresh();
		more = spool_scan(sp, on_seen, s, &st);
		turns++;
		assert_true(s->count - before <=
		            SPOOL_SCAN_STEP / 3 + 1); /* open, mark, attempts */
	} while (more > 0);
	assert_int_equal(more, 0);
	assert_int_equal(spool_scan(sp, on_seen, s, &st), 0); /* it stays over */
	return turns;
}

static char *one_message(size_t *n)
{
	struct envelope env;
	store_text(&env, "Subject: x\r\n\r\nx\r\n");
	char *file = slurp(path_of(env.id), n);
	assert_int_equal(spool_remove(sp, env.id, &st), 0);
	envelope_clear(&env);
	return file;
}

/* Puts so many into the queue, names of ours and of others in turn. */
static void put_many(size_t count)
{
	size_t n;
	char *file = one_message(&n);
	char id[SPOOL_ID_MAX + 1];
	for (size_t i = 0; i < count; i++) {
		spool_id_text(((uint64_t)1 << 60) + i, id);
		if (i % 100 == 0)
			snprintf(id, sizeof id, "theirs%lu", (unsigned long)i);
		put_file(path_of(id), file, n);
	}
	free(file);
}

static void test_many(void **state)
{
	(void)state;
	struct seen s = {.count = 0};
	put_many(MANY);
	spool_reopen();
	size_t turns = scan(&s);
	assert_int_equal(s.count, MANY);
	assert_true(turns >= MANY * 3 / SPOOL_SCAN_STEP);
}

/* Each once, and in the order of the disk. */
static void test_order(void **state)
{
	(void)state;
	struct seen s = {.count = 0};
	size_t n;
	char *file = one_message(&n);
	for (uint64_t i = 0; i < 500; i++) {
		char id[SPOOL_ID_MAX + 1];
		spool_id_text(((uint64_t)1 << 60) + i * 7919 % 500, id);
		put_file(path_of(id), file, n);
	}
	free(file);
	spool_reopen();
	scan(&s);
	assert_int_equal(s.count, 500);
	assert_true(s.ascending);
}

/* When a step takes long, it is the last of its turn. */
static void test_slow(void **state)
{
	(void)state;
	struct seen s = {.pause_ms = SPOOL_SCAN_US / 1000 + 1};
	put_many(20);
	spool_reopen();
	assert_true(scan(&s) >= 20);
	assert_int_equal(s.count, 20);
}

/* A file of so many bytes that ends as given takes many turns, and is then a message, or not. */
static void scan_large(const char *head, const char *filler, const char *tail, size_t count)
{
	struct seen s = {.count = 0};
	size_t n = strlen(filler);
	char *file = malloc(BIG + 4096);
	assert_non_null(file);
	size_t len = (size_t)snprintf(file, 2048, "%s", head);
	for (; len + n <= BIG; len += n)
		memcpy(file + len, filler, n);
	len += (size_t)snprintf(file + len, 2048, "%s", tail);
	put_file(path_of("large"), file, len);
	free(file);
	spool_reopen();
	size_t turns = scan(&s);
	assert_int_equal(s.count, count);
	/* A step reads a block and some; a long one would show here, as it does the work of many.
	 */
	assert_true(turns > BIG / (SPOOL_SCAN_STEP * 8192));
	assert_int_equal(count_entries("queue/damaged"), 1 - count);
}

static const char envelope_head[] = "ID: \"large\"\nfrom: \"a@b\"\nTo: \"c@d\"\n"
                                    "rcpt {\n  address: \"c@d\"\n}\ndata: \"Subject: x\\n";

static void test_large_foreign(void **state)
{
	(void)state;
	scan_large(envelope_head, "a line of some length in it\\n",
	           "\"\ncreated_at_ts: {\n  seconds: 1750000000\n}\n", 1);
}

static void test_large_unfinished(void **state)
{
	(void)state;
	scan_large(envelope_head, "a line of some length in it\"\n\"", "\"\n", 0);
}

static void test_large_torn(void **state)
{
	(void)state;
	scan_large(envelope_head, "a line of some length in it\"\n\"", "half", 0);
}

/* Ours, with attempts without end. */
static void test_large_attempts(void **state)
{
	(void)state;
	size_t n;
	char *head = one_message(&n);
	scan_large(
	    head,
	    "attempt { rcpt: 0 at { seconds: 1 } status: PENDING text: \"451 x\" crc32: 1 }\n", "",
	    1);
	free(head);
}

/* The end may come in the middle of a file; and messages go on coming meanwhile. */
static void test_broken_off(void **state)
{
	(void)state;
	struct seen s = {.count = 0};
	test_large_foreign(state);
	put_many(10);
	spool_reopen();
	int fds = count_fds();
	while (count_fds() <= fds)
		assert_int_equal(spool_scan(sp, on_seen, &s, &st), 1);
	struct envelope env;
	store_text(&env, "Subject: new\r\n\r\n");
	assert_int_equal(spool_scan(sp, on_seen, &s, &st), 1);
	assert_true(s.count <= 11);
	spool_reopen();
	s.count = 0;
	scan(&s);
	assert_int_equal(s.count, 12);
	envelope_clear(&env);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_many),
	    T(test_order),
	    T(test_slow),
	    T(test_large_foreign),
	    T(test_large_unfinished),
	    T(test_large_torn),
	    T(test_large_attempts),
	    T(test_broken_off),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
