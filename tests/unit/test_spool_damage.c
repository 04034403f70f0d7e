/*
 * test_spool_damage: what crashes and rotten media leave behind. A message is set aside, or it is
 * what it was; never another message. Also: what else may lie in the queue's directory, and files
 * that chasquid wrote.
 */
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>

#include "spool_help.h"
#include "valgrind.h"

static const char content[] = "Subject: \xc3\xa9 \"q\" \\x\r\n\r\nLine\r\n.\r\n\x01\xff\r\nno end";
static const char prepended[] = "Received: by us\r\n";

/* The file of a message with three attempts, its parts, and what it says. */
static struct {
	char *p;
	size_t n;
	size_t committed;  /* the length without attempts */
	size_t attempt[4]; /* where each begins, and where the last ends */
	struct envelope env;
} good;

static size_t file_size(const char *id)
{
	struct stat s;
	assert_int_equal(stat(path_of(id), &s), 0);
	return (size_t)s.st_size;
}

static void attempt(struct envelope *env, const size_t *rcpts, size_t n, enum rcpt_state state,
                    const char *text)
{
	struct status what;
	status_parse(slice_of(text), &what);
	assert_int_equal(
	    spool_attempt(sp, env, rcpts, n, state, &what, "mx [192.0.2.1]:25", false, &st), 0);
}

static int setup_good(void **state)
{
	static const size_t zero[] = {0};
	static const size_t one_two[] = {1, 2};
	if (setup(state))
		return -1;
	srand(5);
	memset(&good, 0, sizeof good);
	simple_envelope(&good.env);
	good.env.submitted = good.env.header_8bit = true;
	envelope_add_rcpt(&good.env, RCPT_PIPE, "/bin/x \"y\"", "to@b.example", NULL);
	envelope_add_rcpt(&good.env, RCPT_FORWARD, "c@d", "to@b.example", "m1/m2");
	store(&good.env, content, sizeof content - 1, 0, prepended);
	good.committed = good.attempt[0] = file_size(good.env.id);
	attempt(&good.env, zero, 1, RCPT_PENDING, "450 4.2.0 later");
	good.attempt[1] = file_size(good.env.id);
	attempt(&good.env, one_two, 2, RCPT_SENT, "250 2.0.0 done");
	good.attempt[2] = file_size(good.env.id);
	attempt(&good.env, zero, 1, RCPT_FAILED, "550 5.1.1 \"no\"");
	good.attempt[3] = file_size(good.env.id);
	good.p = slurp(path_of(good.env.id), &good.n);
	assert_int_equal(good.n, good.attempt[3]);
	return 0;
}

static int teardown_good(void **state)
{
	free(good.p);
	envelope_clear(&good.env);
	return teardown(state);
}

static void put_good(size_t n)
{
	put_file(path_of(good.env.id), good.p, n);
}

/* Is the envelope that of the good file, some verdicts missing at most? */
static void expect_same_but_verdicts(const struct envelope *e)
{
	const struct envelope *g = &good.env;
	assert_string_equal(e->id, g->id);
	assert_string_equal(e->from, g->from);
	assert_int_equal(e->created, g->created);
	assert_true(e->submitted && e->header_8bit);
	assert_int_equal(e->to_count, 1);
	assert_string_equal(e->to[0], g->to[0]);
	assert_int_equal(e->rcpt_count, 3);
	assert_int_equal(e->size, strlen(prepended) + sizeof content - 1);
	for (size_t i = 0; i < 3; i++) {
		assert_string_equal(e->rcpt[i].address, g->rcpt[i].address);
		assert_string_equal(e->rcpt[i].original, g->rcpt[i].original);
		assert_int_equal(e->rcpt[i].type, g->rcpt[i].type);
		assert_true(e->rcpt[i].state == RCPT_PENDING ||
		            e->rcpt[i].state == g->rcpt[i].state);
	}
	assert_null(e->rcpt[0].via);
	assert_string_equal(e->rcpt[2].via, "m1/m2");
	assert_true(e->last_attempt == 0 || e->last_attempt >= g->created);
}

static bool content_is_good(const char *id)
{
	char *got;
	size_t n;
	size_t pre = strlen(prepended);
	if (read_all(id, 0, &got, &n)) {
		free(got);
		return false;
	}
	assert_int_equal(n, pre + sizeof content - 1);
	assert_memory_equal(got, prepended, pre);
	assert_memory_equal(got + pre, content, sizeof content - 1);
	free(got);
	return true;
}

static void expect_set_aside(const char *id)
{
	char path[PATH_MAX];
	assert_false(exists(id));
	snprintf(path, sizeof path, "%s/queue/damaged/m:%s", dir, id);
	assert_int_equal(unlink(path), 0);
}

/* Never acknowledged: gone from the scan's view, kept for a person to see. */
static void test_every_truncation_before_the_mark(void **state)
{
	(void)state;
	struct envelope env;
	for (size_t n = 0; n < good.committed; n += valgrind_step(5)) {
		put_good(n);
		assert_int_equal(rescan()->count, 0);
		expect_set_aside(good.env.id);
		/* Nor is it believed by those who did not scan. */
		put_good(n);
		assert_int_equal(spool_load(sp, good.env.id, &env, &st), -1);
		assert_int_equal(st.code / 100, 5);
		expect_set_aside(good.env.id);
		put_good(n);
		char *got;
		size_t got_n;
		assert_int_equal(read_all(good.env.id, 0, &got, &got_n), -1);
		assert_null(got);
		expect_set_aside(good.env.id);
	}
}

static void test_every_torn_attempt(void **state)
{
	(void)state;
	for (size_t n = good.committed; n <= good.n; n++) {
		struct envelope env;
		int whole = 0;
		while (whole < 3 && good.attempt[whole + 1] <= n)
			whole++;
		put_good(n);
		/* Read before the scan: the torn one is passed over. */
		assert_int_equal(spool_load(sp, good.env.id, &env, &st), 0);
		expect_same_but_verdicts(&env);
		envelope_clear(&env);
		const struct scanned *s = rescan();
		assert_int_equal(s->count, 1);
		assert_int_equal(s->created[0], good.env.created);
		assert_int_equal(s->last_attempt[0] > 0, whole > 0);
		assert_int_equal(file_size(good.env.id), good.attempt[whole]);
		/* The next one stands on a line of its own. */
		assert_int_equal(spool_load(sp, good.env.id, &env, &st), 0);
		attempt(&env, (size_t[]){0}, 1, RCPT_SENT, "250 2.0.0 at last");
		envelope_clear(&env);
		assert_int_equal(spool_load(sp, good.env.id, &env, &st), 0);
		assert_int_equal(env.rcpt[0].state, RCPT_SENT);
		assert_int_equal(env.rcpt[1].state, whole >= 2 ? RCPT_SENT : RCPT_PENDING);
		assert_int_equal(env.rcpt[2].state, whole >= 2 ? RCPT_SENT : RCPT_PENDING);
		envelope_clear(&env);
		assert_true(content_is_good(good.env.id));
	}
}

static void test_bad_attempt_in_the_middle(void **state)
{
	(void)state;
	for (size_t at = good.attempt[1]; at < good.attempt[2] - 1; at += valgrind_step(5)) {
		struct envelope env;
		char old = good.p[at];
		static const char other[] = {'0', ' ', '"', '\0', '\n', '}', '#', '\xff'};
		for (size_t i = 0; i < sizeof other; i++) {
			if (other[i] == old)
				continue;
			good.p[at] = other[i];
			put_good(good.n);
			assert_int_equal(rescan()->count, 1);
			assert_int_equal(file_size(good.env.id), good.n);
			assert_int_equal(spool_load(sp, good.env.id, &env, &st), 0);
			expect_same_but_verdicts(&env);
			/* The ones before and behind it count, it does not. */
			assert_int_equal(env.rcpt[0].state, RCPT_FAILED);
			assert_int_equal(env.rcpt[1].state, RCPT_PENDING);
			assert_int_equal(env.rcpt[2].state, RCPT_PENDING);
			envelope_clear(&env);
		}
		good.p[at] = old;
	}
}

static void test_every_flipped_bit(void **state)
{
	(void)state;
	size_t loaded = 0;
	size_t read = 0;
	/* One of each byte, each time another, or all. */
	size_t step = valgrind_step(9);
	for (size_t bit = 0; bit < 8 * good.n; bit += step) {
		struct envelope env;
		good.p[bit / 8] ^= (char)(1U << bit % 8);
		put_good(good.n);
		const struct scanned *s = rescan();
		if (s->count) {
			assert_string_equal(s->id[0], good.env.id);
			assert_int_equal(s->created[0], good.env.created);
			assert_true(s->last_attempt[0] == 0 || s->last_attempt[0] >= s->created[0]);
		}
		if (bit / 8 >= good.committed)
			assert_int_equal(s->count, 1); /* a lost verdict does no harm */
		if (s->count && spool_load(sp, good.env.id, &env, &st) == 0) {
			expect_same_but_verdicts(&env);
			envelope_clear(&env);
			loaded++;
		}
		put_good(good.n); /* whether or not the envelope was refused */
		read += content_is_good(good.env.id);
		good.p[bit / 8] ^= (char)(1U << bit % 8);
	}
	/* Flips in the content show when it is read, those in the head when it is loaded. */
	assert_true(loaded >= 8 * (good.n - good.committed) / step);
	assert_true(read >= 8 * (good.n - good.committed) / step);
	assert_true(loaded < 8 * good.n && read < 8 * good.n);
}

/* A block of zeros, or of another file, in place of what was written: what a power cut leaves. */
static void test_lost_blocks(void **state)
{
	(void)state;
	char *copy = malloc(good.n);
	assert_non_null(copy);
	memcpy(copy, good.p, good.n);
	for (size_t at = 0; at < good.n; at += 13 * valgrind_step(5)) {
		for (size_t n = 1; at + n <= good.n; n = n * 3 + 1) {
			struct envelope env;
			for (int kind = 0; kind < 3; kind++) {
				memset(good.p + at, kind == 1 ? '\n' : 0, n);
				if (kind == 2)
					memcpy(good.p + at, copy + (good.n - n) / 2, n);
				put_good(good.n);
				rescan();
				if (exists(good.env.id) &&
				    !spool_load(sp, good.env.id, &env, &st)) {
					expect_same_but_verdicts(&env);
					envelope_clear(&env);
				}
				put_good(good.n);
				content_is_good(good.env.id);
				memcpy(good.p + at, copy + at, n);
			}
		}
	}
	free(copy);
}

/* Of what is in a piece already, nothing can change. */
static void test_changed_while_read(void **state)
{
	(void)state;
	enum { LINES = 3 * SPOOL_READ_AHEAD / 4 };
	static char text[4 * LINES];
	char p[8];
	struct envelope env;
	for (size_t i = 0; i < LINES; i++)
		memcpy(text + 4 * i, "ab\r\n", 4);
	simple_envelope(&env);
	store(&env, text, sizeof text, 0, NULL);
	struct spool_reader *r = spool_read_open(sp, env.id, &st);
	assert_non_null(r);
	assert_int_equal(spool_read(r, p, sizeof p, &st), sizeof p);
	assert_int_equal(truncate(path_of(env.id), 300), 0);
	ssize_t n;
	while ((n = spool_read(r, p, sizeof p, &st)) > 0) {
	}
	assert_int_equal(n, -1);
	assert_int_equal(st.code / 100, 5);
	spool_read_close(r);
	expect_set_aside(env.id);
	envelope_clear(&env);
}

static void test_wrong_name(void **state)
{
	(void)state;
	struct envelope env;
	put_file(path_of("0000000000A"), good.p, good.n);
	assert_int_equal(spool_load(sp, "0000000000A", &env, &st), -1);
	expect_set_aside("0000000000A");
	assert_int_equal(spool_load(sp, good.env.id, &env, &st), 0);
	envelope_clear(&env);
}

static void test_damaged_is_bounded(void **state)
{
	(void)state;
	char id[20];
	struct stat s;
	for (int i = 0; i < SPOOL_DAMAGED_MAX + 30; i++) {
		snprintf(id, sizeof id, "bad%03d", i);
		put_file(path_of(id), "x", 1);
		struct timespec times[2] = {{.tv_sec = 1000000 + i}, {.tv_sec = 1000000 + i}};
		utimensat(AT_FDCWD, path_of(id), times, 0);
		spool_set_aside(sp, id, "a test");
		assert_false(exists(id));
	}
	assert_int_equal(count_entries("queue/damaged"), SPOOL_DAMAGED_MAX);
	/* A directory, which cannot be removed so, does not shield the others. */
	char path[PATH_MAX];
	struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	mkdir(path_of("folder"), 0700);
	utimensat(AT_FDCWD, path_of("folder"), times, 0);
	for (int k = 0; k < 3; k++) {
		spool_set_aside(sp, k ? id : "folder", "a test");
		snprintf(id, sizeof id, "more%d", k);
		put_file(path_of(id), "x", 1);
	}
	spool_set_aside(sp, id, "a test");
	assert_int_equal(count_entries("queue/damaged"), SPOOL_DAMAGED_MAX + 1);
	snprintf(path, sizeof path, "%s/queue/damaged/m:%s", dir, id);
	assert_int_equal(stat(path, &s), 0); /* the oldest went */
	snprintf(path, sizeof path, "%s/queue/damaged/m:bad029", dir);
	assert_int_equal(stat(path, &s), -1);
}

static void test_attempt_without_a_file(void **state)
{
	(void)state;
	struct envelope env;
	struct status what;
	size_t r = 0;
	store_text(&env, "x");
	assert_int_equal(spool_remove(sp, env.id, &st), 0);
	assert_int_equal(spool_remove(sp, env.id, &st), 0);
	status_set(&what, 250, "2.0.0", "ok");
	assert_int_equal(spool_attempt(sp, &env, &r, 1, RCPT_SENT, &what, NULL, true, &st), -1);
	assert_int_equal(st.code / 100, 4);
	assert_int_equal(env.rcpt[0].state, RCPT_SENT); /* known in memory */
	assert_false(exists(env.id));
	/* On a full disk half a record is no record. */
	envelope_clear(&env);
	store_text(&env, "x");
	struct rlimit old;
	size_t n;
	free(slurp(path_of(env.id), &n));
	getrlimit(RLIMIT_FSIZE, &old);
	struct rlimit rl = {n + 20, old.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &rl);
	int rc = spool_attempt(sp, &env, &r, 1, RCPT_SENT, &what, NULL, true, &st);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(rc, -1);
	assert_int_equal(st.code, 452);
	size_t after;
	free(slurp(path_of(env.id), &after));
	assert_int_equal(after, n);
	envelope_clear(&env);
}

/* A record that could not even be cut off again does not take the next one with it. */
static void test_torn_record_that_stays(void **state)
{
	(void)state;
	for (size_t cut = good.attempt[2] + 1; cut < good.n; cut++) {
		struct envelope env;
		put_good(cut);
		assert_int_equal(spool_load(sp, good.env.id, &env, &st), 0);
		assert_int_equal(env.rcpt[0].state, RCPT_PENDING);
		attempt(&env, (size_t[]){0}, 1, RCPT_SENT, "250 2.0.0 at last");
		envelope_clear(&env);
		assert_int_equal(spool_load(sp, good.env.id, &env, &st), 0);
		/* Without its newline alone the torn one counts too. */
		assert_int_equal(env.rcpt[0].state, RCPT_SENT);
		assert_int_equal(env.rcpt[1].state, RCPT_SENT);
		envelope_clear(&env);
	}
}

/* Files as long as a file system allows, without content: the scan must not read them through. */
static void test_huge_holes(void **state)
{
	(void)state;
	off_t huge = (off_t)1 << 42;
	put_file(path_of("hole"), "", 0);
	if (truncate(path_of("hole"), huge)) {
		print_message("no file of %lld bytes here\n", (long long)huge);
		skip();
	}
	put_good(good.n);
	assert_int_equal(truncate(path_of(good.env.id), huge), 0);
	const struct scanned *s = rescan();
	assert_int_equal(s->count, 0);
	expect_set_aside("hole");
	expect_set_aside(good.env.id);
	/* What a power cut leaves of attempts is a hole too, but a small one. */
	put_good(good.n);
	assert_int_equal(truncate(path_of(good.env.id), (off_t)good.n + 500000), 0);
	s = rescan();
	assert_int_equal(s->count, 1);
	assert_true(content_is_good(good.env.id));
}

/* ---- the scan ---- */

static void test_scan_leaves_out_what_came_since(void **state)
{
	(void)state;
	struct envelope env;
	struct scanned s = {.count = 0};
	char old[40][SPOOL_ID_MAX + 1];
	for (int i = 0; i < 40; i++) {
		store_text(&env, "x");
		memcpy(old[i], env.id, sizeof old[i]);
		envelope_clear(&env);
	}
	spool_reopen();
	struct spool_writer *w = NULL;
	int steps = 0;
	int more;
	do {
		for (int i = 0; i < 40; i++) {
			store_text(&env, "new");
			envelope_clear(&env);
		}
		if (!w) {
			simple_envelope(&env);
			w = spool_begin(sp, &env, &st); /* one that is being written */
			envelope_clear(&env);
		}
		more = spool_scan(sp, on_found, &s, &st);
	} while (more > 0 && ++steps < 200);
	assert_int_equal(more, 0);
	assert_true(steps >= 1); /* in steps */
	assert_int_equal(spool_scan(sp, on_found, &s, &st), 0);
	assert_int_equal(s.count, 40);
	for (int i = 0; i < 40; i++) {
		bool found = false;
		for (size_t k = 0; k < s.count; k++)
			found = found || strcmp(s.id[k], old[i]) == 0;
		assert_true(found);
	}
	assert_int_equal(commit(w).st.code, 250);
}

static void test_scan_passes_over_other_names(void **state)
{
	(void)state;
	struct envelope env;
	char path[300];
	store_text(&env, "x");
	static const char *const names[] = {"m:", "x", ".temp", "m", "mm:0", "M:000"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/queue/%s", dir, names[i]);
		put_file(path, "x", 1);
	}
	char id[SPOOL_ID_MAX + 2];
	memset(id, 'x', sizeof id - 1);
	id[sizeof id - 1] = '\0';
	put_file(path_of(id), "x", 1);
	mkdir(path_of("directory"), 0700);
	assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
	assert_int_equal(symlink("/etc/passwd", path_of("link")), 0);
	put_file(path_of("zero"), "", 0);
	const struct scanned *s = rescan();
	assert_int_equal(s->count, 1);
	assert_false(exists("directory"));
	assert_false(exists("fifo"));
	assert_int_equal(faccessat(AT_FDCWD, path_of("link"), F_OK, AT_SYMLINK_NOFOLLOW), -1);
	assert_false(exists("zero"));
	assert_true(exists(id));
	assert_true(exists(env.id));
	envelope_clear(&env);
}

static void test_missing_message(void **state)
{
	(void)state;
	struct envelope env;
	assert_int_equal(spool_load(sp, "0000000000A", &env, &st), -1);
	assert_int_equal(st.code / 100, 5);
	assert_null(env.from);
	assert_null(spool_read_open(sp, "0000000000A", &st));
	char id[SPOOL_ID_MAX + 10];
	memset(id, 'x', sizeof id - 1);
	id[sizeof id - 1] = '\0';
	assert_null(spool_read_open(sp, id, &st));
	assert_int_equal(count_entries("queue/damaged"), 0);
}

/* ---- chasquid ---- */

static const char foreign[] =
    "ID:  \"mid1234\"\n"
    "from:  \"someone@testserver\"\n"
    "To:  \"someone@testserver\"\n"
    "To:  \"x@y\"\n"
    "rcpt:  {\n"
    "  address:  \"someone@testserver\"\n"
    "}\n"
    "rcpt:  {\n"
    "  address:  \"user111@dodo\"\n"
    "  type:  FORWARD\n"
    "  last_failure_message:  \"all servers returned\\ntransient\"\n"
    "  original_address:  \"chain-1-1@dodo\"\n"
    "  via:  \"primary\"\n"
    "  via:  \"second\"\n"
    "}\n"
    "rcpt:  {\n"
    "  address:  \"gone@dodo\"\n"
    "  status:  FAILED\n"
    "  last_failure_message:  \"550 5.1.1 no\"\n"
    "}\n"
    "data:  \"Subject: Prueba\\n\\nCrece \\x00\\xff\\u0085\xc3\xa9\\nEnd\\n\"\n"
    "created_at_ts:  {\n"
    "  seconds:  1750000000\n"
    "  nanos:  123456789\n"
    "}\n";
static const char foreign_content[] =
    "Subject: Prueba\r\n\r\nCrece \0\xff\xc2\x85\xc3\xa9\r\nEnd\r\n";

static void expect_foreign(const struct envelope *env)
{
	assert_string_equal(env->id, "mid1234");
	assert_string_equal(env->from, "someone@testserver");
	assert_int_equal(env->to_count, 2);
	assert_int_equal(env->rcpt_count, 3);
	assert_false(env->submitted || env->header_8bit);
	assert_int_equal(env->created, 1750000000);
	assert_string_equal(env->rcpt[0].address, "someone@testserver");
	assert_string_equal(env->rcpt[0].original, "someone@testserver");
	assert_int_equal(env->rcpt[0].type, RCPT_EMAIL);
	assert_int_equal(env->rcpt[1].type, RCPT_FORWARD);
	assert_string_equal(env->rcpt[1].original, "chain-1-1@dodo");
	assert_string_equal(env->rcpt[1].via, "primary/second");
	assert_int_equal(env->rcpt[2].state, RCPT_FAILED);
}

static void test_foreign(void **state)
{
	(void)state;
	struct envelope env;
	put_file(path_of("mid1234"), foreign, sizeof foreign - 1);
	const struct scanned *s = rescan();
	assert_int_equal(s->count, 1);
	assert_string_equal(s->id[0], "mid1234");
	assert_int_equal(s->created[0], 1750000000);
	assert_int_equal(s->last_attempt[0], 0);
	assert_int_equal(spool_load(sp, "mid1234", &env, &st), 0);
	expect_foreign(&env);
	assert_int_equal(env.rcpt[0].state, RCPT_PENDING);
	assert_int_equal(env.rcpt[1].state, RCPT_PENDING);
	assert_string_equal(env.rcpt[1].last->text, "all servers returned transient");
	assert_int_equal(status_class(env.rcpt[1].last), STATUS_TRANSIENT);
	assert_int_equal(status_class(env.rcpt[2].last), STATUS_PERMANENT);
	for (size_t piece = 0; piece < 80; piece++)
		expect_content("mid1234", piece, foreign_content, sizeof foreign_content - 1);
	attempt(&env, (size_t[]){0, 1}, 2, RCPT_SENT, "250 2.0.0 ok");
	envelope_clear(&env);
	s = rescan();
	assert_int_equal(s->count, 1);
	assert_true(s->last_attempt[0] > 1750000000);
	assert_int_equal(spool_load(sp, "mid1234", &env, &st), 0);
	expect_foreign(&env);
	assert_int_equal(env.rcpt[0].state, RCPT_SENT);
	assert_int_equal(env.rcpt[1].state, RCPT_SENT);
	assert_int_equal(env.attempts, 1);
	envelope_clear(&env);
	expect_content("mid1234", 0, foreign_content, sizeof foreign_content - 1);
	assert_int_equal(spool_remove(sp, "mid1234", &st), 0);
}

static void put_foreign_data(const char *literal)
{
	char file[1000];
	int n = snprintf(file, sizeof file,
	                 "ID: \"f\" from: \"<>\" rcpt { address: \"a\" }\n%s%s\ncreated_at_ts: "
	                 "{seconds: 1}\n",
	                 *literal ? "data: " : "", literal);
	put_file(path_of("f"), file, (size_t)n);
}

static void test_foreign_line_ends(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
	    {"\"\"", ""},
	    {"", ""}, /* a field with its default value is left out */
	    {"\"a\"", "a\r\n"},
	    {"\"\\n\"", "\r\n"},
	    {"\"\\n\\n\\n\"", "\r\n\r\n\r\n"},
	    {"\"a\\r\\nb\\n\\r\\n\"", "a\r\nb\r\n\r\n"},
	    {"\"a\\r\\n\" 'b\\r' '\\nc'", "a\r\nb\r\nc\r\n"},
	    {"\"\\000\"", "\0\r\n"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t n = i == 7 ? 3 : strlen(cases[i][1]);
		put_foreign_data(cases[i][0]);
		for (size_t piece = 0; piece < 8; piece++)
			expect_content("f", piece, cases[i][1], n);
	}
}

/* As some other tool may print it, and what else text format allows. */
static void test_foreign_in_other_words(void **state)
{
	(void)state;
	static const char file[] =
	    "# a note\ncreated_at_ts {\n  seconds: 0x10\n}\nTo: ['a', \"b\"]\n"
	    "rcpt: [{ address: 'a' type: 1; }, < address: \"b\", >]\n"
	    "data: 'x' # here\n '\\n'\nfrom: \"\\x3c>\"ID: 'o'\n";
	struct envelope env;
	put_file(path_of("o"), file, sizeof file - 1);
	assert_int_equal(spool_load(sp, "o", &env, &st), 0);
	assert_string_equal(env.from, "<>");
	assert_true(envelope_is_bounce(&env));
	assert_int_equal(env.rcpt_count, 2);
	assert_int_equal(env.rcpt[0].type, RCPT_PIPE);
	assert_int_equal(env.created, 16);
	envelope_clear(&env);
	expect_content("o", 0, "x\r\n", 3);
}

static void test_foreign_truncated(void **state)
{
	(void)state;
	for (size_t n = 0; n < sizeof foreign - 1; n++) {
		char *got;
		size_t got_n;
		put_file(path_of("mid1234"), foreign, n);
		assert_int_equal(rescan()->count, 0);
		expect_set_aside("mid1234");
		put_file(path_of("mid1234"), foreign, n);
		assert_int_equal(read_all("mid1234", 0, &got, &got_n), -1);
		assert_null(got);
		expect_set_aside("mid1234");
	}
}

static void test_foreign_torn_attempts(void **state)
{
	(void)state;
	struct envelope env;
	struct status what;
	static size_t many[SPOOL_RCPTS_MAX];
	size_t end[3];
	char *file;
	size_t n;
	put_file(path_of("mid1234"), foreign, sizeof foreign - 1);
	assert_int_equal(spool_load(sp, "mid1234", &env, &st), 0);
	end[0] = sizeof foreign - 1;
	attempt(&env, (size_t[]){0}, 1, RCPT_SENT, "250 2.0.0 ok");
	end[1] = file_size("mid1234");
	/* A long one: longer than any block. */
	status_set(&what, 250, "2.0.0", "ok");
	for (size_t i = 0; i < SPOOL_RCPTS_MAX; i++)
		many[i] = 1;
	assert_int_equal(
	    spool_attempt(sp, &env, many, SPOOL_RCPTS_MAX, RCPT_SENT, &what, NULL, false, &st), 0);
	envelope_clear(&env);
	file = slurp(path_of("mid1234"), &n);
	end[2] = n;
	assert_true(end[2] - end[1] > 5000);
	for (size_t cut = end[0]; cut <= n;
	     cut += cut < end[1] + 300 || cut > n - 300 ? valgrind_step(7) : 97) {
		int whole = cut >= end[1] ? cut >= end[2] ? 2 : 1 : 0;
		put_file(path_of("mid1234"), file, cut);
		assert_int_equal(rescan()->count, 1);
		assert_int_equal(file_size("mid1234"), end[whole]);
		assert_int_equal(spool_load(sp, "mid1234", &env, &st), 0);
		expect_foreign(&env);
		assert_int_equal(env.rcpt[0].state, whole > 0 ? RCPT_SENT : RCPT_PENDING);
		assert_int_equal(env.rcpt[1].state, whole > 1 ? RCPT_SENT : RCPT_PENDING);
		envelope_clear(&env);
	}
	/* A rotten one is passed over here too. */
	for (size_t bit = 8 * end[0]; bit < 8 * (end[1] - 1); bit += valgrind_step(9)) {
		file[bit / 8] ^= (char)(1U << bit % 8);
		put_file(path_of("mid1234"), file, n);
		if (bit / 8 >= end[0] + strlen("attempt {")) {
			assert_int_equal(spool_load(sp, "mid1234", &env, &st), 0);
			expect_foreign(&env);
			assert_int_equal(env.rcpt[0].state, RCPT_PENDING);
			assert_int_equal(env.rcpt[1].state, RCPT_SENT);
			envelope_clear(&env);
		} else if (spool_load(sp, "mid1234", &env, &st) == 0) {
			envelope_clear(&env);
		}
		file[bit / 8] ^= (char)(1U << bit % 8);
	}
	free(file);
}

#define CASE(name)  cmocka_unit_test_setup_teardown(name, setup_good, teardown_good)
#define FRESH(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_every_truncation_before_the_mark),
	    CASE(test_every_torn_attempt),
	    CASE(test_bad_attempt_in_the_middle),
	    CASE(test_every_flipped_bit),
	    CASE(test_lost_blocks),
	    CASE(test_changed_while_read),
	    CASE(test_wrong_name),
	    CASE(test_damaged_is_bounded),
	    CASE(test_torn_record_that_stays),
	    CASE(test_huge_holes),
	    FRESH(test_attempt_without_a_file),
	    FRESH(test_scan_leaves_out_what_came_since),
	    FRESH(test_scan_passes_over_other_names),
	    FRESH(test_missing_message),
	    FRESH(test_foreign),
	    FRESH(test_foreign_line_ends),
	    FRESH(test_foreign_in_other_words),
	    FRESH(test_foreign_truncated),
	    FRESH(test_foreign_torn_attempts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
