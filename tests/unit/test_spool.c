/*
 * test_spool: messages go in and come out as they were. The clock and the source of chance of the C
 * library are replaced here, so that the tests can turn the one back and make the other repeat.
 * link: fake_disk_aio.c
 */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/random.h>
#include <time.h>

#include "spool_help.h"
#include "valgrind.h"

static int64_t clock_shift;  /* s, added to the wall clock */
static int64_t clock_frozen; /* s; 0: it goes on */
static bool chance_frozen;

/* Where time_t has outgrown long, musl has the call under another name only. */
#if !defined(SYS_clock_gettime)
#define SYS_clock_gettime SYS_clock_gettime64
#endif

int clock_gettime(clockid_t which, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, which, ts);
	if (which == CLOCK_REALTIME) {
		ts->tv_sec += (time_t)clock_shift;
		if (clock_frozen)
			*ts = (struct timespec){.tv_sec = (time_t)clock_frozen, .tv_nsec = 5000000};
	}
	return rc;
}

ssize_t getrandom(void *p, size_t n, unsigned flags)
{
	if (!chance_frozen)
		return syscall(SYS_getrandom, p, n, flags);
	memset(p, 7, n);
	return (ssize_t)n;
}

static int setup_clock(void **state)
{
	clock_shift = clock_frozen = 0;
	chance_frozen = false;
	srand(4);
	return setup(state);
}

/* ---- content ---- */

static void round_trip(const char *p, size_t n, size_t piece)
{
	struct envelope env;
	simple_envelope(&env);
	store(&env, p, n, piece, NULL);
	expect_content(env.id, piece, p, n);
	expect_content(env.id, 0, p, n);
	assert_int_equal(spool_remove(sp, env.id, &st), 0);
	assert_false(exists(env.id));
	envelope_clear(&env);
}

static void test_every_byte(void **state)
{
	(void)state;
	static char p[256 * 256];
	for (size_t i = 0; i < 256; i++)
		p[i] = (char)i;
	static const size_t pieces[] = {0, 1, 2, 3, 7, 255, 256};
	for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
		round_trip(p, 256, pieces[i]);
	/* Every pair, so that what follows an escape matters. */
	for (size_t i = 0; i < sizeof p / 2; i++) {
		p[2 * i] = (char)(i >> 7);
		p[2 * i + 1] = (char)(i * 2 + (i >> 7) % 2);
	}
	round_trip(p, sizeof p, 0);
	round_trip(p, sizeof p, sizeof p);
}

static void test_lines_of_any_length(void **state)
{
	(void)state;
	static char p[700000];
	for (size_t first = 0; first <= 5000; first += 501) {
		size_t n = 0;
		for (size_t len = first; len <= first + 520 && n + len + 2 < sizeof p; len += 13) {
			memset(p + n, 'a' + (int)(len % 26), len);
			memcpy(p + n + len, "\r\n", 2);
			n += len + 2;
		}
		round_trip(p, n, 0);
		round_trip(p, n, 1024);
	}
	static const size_t limits[] = {998, 999, 1000, 1001, 1002, 1999, 2000, 2001, 5000};
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		size_t n = limits[i];
		memset(p, 'x', n); /* no line end at all */
		round_trip(p, n, 0);
		round_trip(p, n, n);
		memcpy(p + n, "\r\nshort\r\n", 9);
		round_trip(p, n + 9, n);
		round_trip(p, n + 9, n + 1);
		round_trip(p, n + 9, 500);
	}
}

static void test_random_content(void **state)
{
	(void)state;
	static char p[30000];
	static const char often[] = "\r\n\r\n.\"\\\xc3\xa9\xe2\x80#'x";
	for (int i = 0; i < 150; i++) {
		size_t n = (size_t)rand() % (i < 100 ? 300 : sizeof p);
		for (size_t k = 0; k < n; k++)
			p[k] =
			    rand() % 2 ? (char)rand() : often[(size_t)rand() % (sizeof often - 1)];
		round_trip(p, n, i % 3 ? 0 : (size_t)i + 1);
	}
}

static void test_empty_and_prepend(void **state)
{
	(void)state;
	static char big[SPOOL_PREPEND_MAX + 2];
	struct envelope env;
	round_trip("", 0, 1);
	static const char *const cases[][2] = {
	    {"", ""},
	    {"A: 1\r\n", ""},
	    {"", "body"},
	    {"A: \"\\\xff\r\nB:\r\n\tx\r\n", "C: 2\r\n\r\nx\r\n"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char want[100];
		simple_envelope(&env);
		store(&env, cases[i][1], strlen(cases[i][1]), 0, cases[i][0]);
		snprintf(want, sizeof want, "%s%s", cases[i][0], cases[i][1]);
		for (size_t piece = 0; piece < 4; piece++)
			expect_content(env.id, piece, want, strlen(want));
		struct envelope got;
		assert_int_equal(spool_load(sp, env.id, &got, &st), 0);
		assert_int_equal(got.size, strlen(want));
		envelope_clear(&got);
		envelope_clear(&env);
	}
	simple_envelope(&env);
	memset(big, 'h', SPOOL_PREPEND_MAX + 1);
	big[SPOOL_PREPEND_MAX] = '\0';
	store(&env, "x", 1, 0, big);
	big[SPOOL_PREPEND_MAX] = 'x';
	expect_content(env.id, 0, big, SPOOL_PREPEND_MAX + 1);
	/* One more is too many. */
	struct spool_writer *w = spool_begin(sp, &env, &st);
	spool_prepend(w, big, SPOOL_PREPEND_MAX + 1);
	struct outcome o = commit(w);
	assert_int_equal(o.st.code / 100, 4);
	assert_false(exists(env.id));
	envelope_clear(&env);
}

static size_t resident_kb(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
	fclose(f);
	return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE) / 1024;
}

static void test_memory_is_constant(void **state)
{
	(void)state;
	static char block[50000];
	struct envelope env;
	uint32_t want = 0;
	for (size_t i = 0; i < sizeof block; i++)
		block[i] = i % 80 == 79 ? '\n' : i % 80 == 78 ? '\r' : (char)(i * 31);
	simple_envelope(&env);
	struct spool_writer *w = spool_begin(sp, &env, &st);
	/* Of 10 MB. An emulator's translation of our code is counted, too. */
	size_t most = resident_kb() + (getenv("CHASQ_EMULATED") ? 16384 : 1024);
	if (under_address_sanitizer() || under_valgrind())
		most = SIZE_MAX;
	for (size_t i = 0; i < 200; i += valgrind_step(10)) {
		spool_append(w, block, sizeof block);
		want++;
	}
	assert_true(resident_kb() < most);
	struct outcome o = commit(w);
	assert_int_equal(o.st.code, 250);
	struct spool_reader *r = spool_read_open(sp, env.id, &st);
	assert_non_null(r);
	static char got[50000];
	size_t have = 0;
	for (ssize_t n; (n = spool_read(r, got + have, sizeof got - have, &st)) != 0;) {
		assert_true(n > 0);
		have += (size_t)n;
		if (have == sizeof got) {
			assert_memory_equal(got, block, sizeof got);
			have = 0;
			want--;
		}
	}
	assert_int_equal(want, 0);
	assert_true(resident_kb() < most);
	spool_read_close(r);
	envelope_clear(&env);
}

/* ---- envelopes ---- */

static void expect_equal(const struct envelope *a, const struct envelope *b)
{
	assert_string_equal(a->id, b->id);
	assert_string_equal(a->from, b->from);
	assert_int_equal(a->created, b->created);
	assert_int_equal(a->submitted, b->submitted);
	assert_int_equal(a->header_8bit, b->header_8bit);
	assert_int_equal(a->to_count, b->to_count);
	for (size_t i = 0; i < a->to_count; i++)
		assert_string_equal(a->to[i], b->to[i]);
	assert_int_equal(a->rcpt_count, b->rcpt_count);
	for (size_t i = 0; i < a->rcpt_count; i++) {
		assert_string_equal(a->rcpt[i].address, b->rcpt[i].address);
		assert_string_equal(a->rcpt[i].original, b->rcpt[i].original);
		assert_int_equal(a->rcpt[i].type, b->rcpt[i].type);
		assert_int_equal(a->rcpt[i].state, b->rcpt[i].state);
		assert_int_equal(!a->rcpt[i].via, !b->rcpt[i].via);
		if (a->rcpt[i].via)
			assert_string_equal(a->rcpt[i].via, b->rcpt[i].via);
	}
}

static void envelope_round_trip(struct envelope *env)
{
	struct envelope got;
	store(env, "x\r\n", 3, 0, NULL);
	assert_int_equal(spool_load(sp, env->id, &got, &st), 0);
	expect_equal(env, &got);
	assert_int_equal(got.size, 3);
	assert_int_equal(got.attempts, 0);
	assert_int_equal(got.last_attempt, 0);
	envelope_clear(&got);
}

static void test_envelopes(void **state)
{
	(void)state;
	struct envelope env = {.from = NULL};
	static char via[SPOOL_VIA_MAX + 1];
	for (size_t i = 0; i < SPOOL_VIA_MAX; i++)
		via[i] = i % 2 ? '/' : 'a'; /* as many hosts as fit */
	envelope_set_from(&env, "<>");
	envelope_add_rcpt(&env, RCPT_EMAIL, "a@b", "a@b", NULL);
	for (int flags = 0; flags < 4; flags++) {
		env.submitted = flags & 1;
		env.header_8bit = flags & 2;
		envelope_round_trip(&env);
	}
	envelope_set_from(&env, "\"a \\\"b\\\\ @<>\"@[IPv6:::1]");
	envelope_add_to(&env, "gr\xc3\xbc\xc3\x9f@\xe4\xbe\x8b\xe3\x81\x88.\xe3\x83\x86");
	envelope_add_to(&env, "'x'#y@b\xc2\x85");
	envelope_add_rcpt(&env, RCPT_PIPE, "/bin/cat > \"$HOME/x\" | a\tb\\n\n}", "p@b", NULL);
	envelope_add_rcpt(&env, RCPT_FORWARD, "f@b", "o@b", "mx1.example");
	envelope_add_rcpt(&env, RCPT_FORWARD, "f@b", "o@b", "mx1.example/[192.0.2.1]/mx3");
	envelope_add_rcpt(&env, RCPT_FORWARD, "f@b", "o@b", via);
	envelope_add_rcpt(&env, RCPT_EMAIL, "from: \"x\" rcpt { }", "data: \"x\"", NULL);
	envelope_round_trip(&env);
	envelope_clear(&env);
}

static void test_thousand_recipients(void **state)
{
	(void)state;
	struct envelope env = {.from = NULL};
	char address[300];
	envelope_set_from(&env, "a@b");
	for (int i = 0; i < SPOOL_RCPTS_MAX; i++) {
		int n = snprintf(address, sizeof address, "%d", i);
		memset(address + n, 'l', (size_t)(250 - n));
		memcpy(address + 250, "@b.c", 5);
		assert_int_equal(envelope_add_to(&env, address), 0);
		assert_int_equal(envelope_add_rcpt(&env, RCPT_EMAIL, address, address, NULL), 0);
	}
	assert_int_equal(envelope_add_to(&env, address), -1);
	assert_int_equal(envelope_add_rcpt(&env, RCPT_EMAIL, "a", "a", NULL), -1);
	envelope_round_trip(&env);
	envelope_clear(&env);
}

/* What could be written but not read again would be lost after it was accepted. */
static void test_envelopes_that_do_not_fit(void **state)
{
	(void)state;
	static char longest[TEXT_STRING_MAX + 2];
	memset(longest, 'a', TEXT_STRING_MAX);
	struct {
		const char *from, *to, *address, *original, *via;
	} bad[] = {{"", "t", "a", "o", NULL},
	           {"\xff", "t", "a", "o", NULL},
	           {"f", "\xc3", "a", "o", NULL},
	           {"f", "t", "\xc0\x80", "o", NULL},
	           {"f", "t", "a", "\xed\xa0\x80", NULL},
	           {"f", "t", "a", "o", ""},
	           {"f", "t", "a", "o", "a//b"},
	           {"f", "t", "a", "o", "/a"},
	           {"f", "t", "a", "o", "\xe4"},
	           {"f", "t", "a", "o", longest},
	           {longest, "t", "a", "o", NULL},
	           {"f", longest, "a", "o", NULL},
	           {"f", "t", longest, "o", NULL},
	           {"f", "t", "a", longest, NULL},
	           {NULL, "t", "a", "o", NULL},
	           {"f", "t", NULL, NULL, NULL}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		bool bound = bad[i].from == longest || bad[i].to == longest ||
		             bad[i].address == longest || bad[i].original == longest;
		for (int over = !bound; over < 2; over++) {
			struct envelope env = {.from = NULL};
			longest[TEXT_STRING_MAX] = bound && over ? 'x' : '\0';
			if (bad[i].from)
				envelope_set_from(&env, bad[i].from);
			envelope_add_to(&env, bad[i].to);
			if (bad[i].address)
				envelope_add_rcpt(&env, bad[i].via ? RCPT_FORWARD : RCPT_EMAIL,
				                  bad[i].address, bad[i].original, bad[i].via);
			if (!over) {
				envelope_round_trip(&env); /* exactly as long as may be */
			} else {
				assert_null(spool_begin(sp, &env, &st));
				assert_int_equal(st.code / 100, 4);
			}
			envelope_clear(&env);
		}
		longest[TEXT_STRING_MAX] = '\0';
	}
	assert_int_equal(count_entries("queue"), 4); /* those that did fit */
}

/* ---- identifiers ---- */

static void test_id_numbers(void **state)
{
	(void)state;
	static const uint64_t numbers[] = {
	    1,          63,        64, 4095, 4096, 1ULL << 32, (1ULL << 60) + 5, (1ULL << 63) - 1,
	    1ULL << 63, UINT64_MAX};
	char last[SPOOL_ID_MAX + 1] = "";
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		char id[SPOOL_ID_MAX + 1];
		spool_id_text(numbers[i], id);
		assert_int_equal(strlen(id), 11);
		assert_true(spool_id_number(id) == numbers[i]);
		assert_true(strcmp(last, id) < 0); /* sorts alike */
		assert_null(strpbrk(id, "/.: \t\n"));
		memcpy(last, id, sizeof last);
	}
	static const char *const others[] = {"",
	                                     "0",
	                                     "0000000000",
	                                     "mid1234",
	                                     "G0000000000",
	                                     "000000000001",
	                                     "0000000000.",
	                                     "~~~~~~~~~~~",
	                                     "0000000000\xff",
	                                     "\3770000000000",
	                                     "0000/000001"};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		assert_true(spool_id_number(others[i]) == 0);
}

static void test_ids_ascend(void **state)
{
	(void)state;
	char last[SPOOL_ID_MAX + 1] = "";
	for (int i = 0; i < 200; i++) {
		struct envelope env;
		simple_envelope(&env);
		if (i == 50)
			clock_shift = -3600L * 24 * 365 * 20; /* a reset clock */
		if (i == 100)
			clock_frozen = 5;
		if (i == 150)
			chance_frozen = true;
		struct spool_writer *w = spool_begin(sp, &env, &st);
		assert_non_null(w);
		assert_true(strcmp(env.id, last) > 0);
		memcpy(last, env.id, sizeof last);
		if (i % 2)
			spool_abort(w);
		else
			commit(w);
		envelope_clear(&env);
	}
}

static void test_ids_are_unique_after_a_restart(void **state)
{
	(void)state;
	char first[SPOOL_ID_MAX + 1] = "";
	clock_frozen = 1000000000;
	chance_frozen = true;
	spool_reopen();
	for (int i = 0; i < 5; i++) {
		struct envelope env;
		store_text(&env, "x\r\n");
		assert_true(strcmp(env.id, first) > 0);
		memcpy(first, env.id, sizeof first);
		assert_int_equal(env.created, 1000000000);
		envelope_clear(&env);
		spool_reopen();
	}
	assert_int_equal(rescan()->count, 5);
}

/* ---- commits and aborts ---- */

static int told;

static void on_commit(void *arg, const char *id, int64_t created)
{
	const struct outcome *o = arg;
	assert_int_equal(o->done, 0); /* before the done of the message */
	assert_true(exists(id));
	assert_true(created > 1000000000);
	told++;
}

static void test_commit(void **state)
{
	(void)state;
	struct outcome o = {.done = 0};
	struct envelope env;
	simple_envelope(&env);
	told = 0;
	spool_on_commit(sp, on_commit, &o);
	struct spool_writer *w = spool_begin(sp, &env, &st);
	assert_true(env.created > 1000000000);
	spool_commit(w, on_done, &o);
	assert_int_equal(told, 0);
	turns_until(&o);
	assert_int_equal(told, 1);
	assert_int_equal(o.st.code, 250);
	spool_on_commit(sp, NULL, NULL);
	envelope_clear(&env);
}

static void test_abort(void **state)
{
	(void)state;
	static char big[100000];
	struct envelope env;
	int fds = count_fds();
	for (size_t n = 0; n < sizeof big; n = n * 10 + 1) {
		simple_envelope(&env);
		struct spool_writer *w = spool_begin(sp, &env, &st);
		spool_append(w, big, n);
		assert_true(exists(env.id));
		spool_abort(w);
		assert_false(exists(env.id));
		envelope_clear(&env);
	}
	assert_int_equal(count_entries("queue"), 0);
	assert_int_equal(count_fds(), fds);
}

static struct spool_writer *to_abort;

static void abort_other(void *arg, const char *id, const struct status *what)
{
	on_done(arg, id, what);
	if (to_abort)
		spool_abort(to_abort);
	to_abort = NULL;
}

static void test_abort_while_a_commit_waits(void **state)
{
	(void)state;
	struct outcome o[3] = {{.done = 0}};
	struct envelope env[3];
	struct spool_writer *w[3];
	int fds = count_fds();
	for (int i = 0; i < 3; i++) {
		simple_envelope(&env[i]);
		w[i] = spool_begin(sp, &env[i], &st);
		spool_append(w[i], "x", 1);
		spool_commit(w[i], abort_other, &o[i]);
	}
	spool_abort(w[1]);
	to_abort = w[2]; /* flushed already, when the first hears of its own */
	turns_until(&o[0]);
	for (int i = 0; i < 5; i++)
		loop_turn(0);
	assert_int_equal(o[1].done, 0);
	assert_int_equal(o[2].done, 0);
	assert_true(exists(env[0].id));
	assert_false(exists(env[1].id));
	assert_false(exists(env[2].id));
	assert_int_equal(count_fds(), fds);
	for (int i = 0; i < 3; i++)
		envelope_clear(&env[i]);
}

/* ---- full disks ---- */

static void test_write_fails(void **state)
{
	(void)state;
	static char content[30000];
	struct rlimit old;
	struct envelope env;
	int fds = count_fds();
	memset(content, 'x', sizeof content);
	simple_envelope(&env);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	for (rlim_t limit = 1; limit < 30000; limit += limit < 600 ? 7 : 1009) {
		struct rlimit rl = {limit, old.rlim_max};
		setrlimit(RLIMIT_FSIZE, &rl);
		struct spool_writer *w = spool_begin(sp, &env, &st);
		struct outcome o = {.st = st, .done = 1};
		if (w) {
			spool_append(w, content, sizeof content);
			o = commit(w);
		}
		setrlimit(RLIMIT_FSIZE, &old);
		assert_int_equal(o.st.code, 452);
		assert_int_equal(count_entries("queue"), 0);
	}
	assert_int_equal(count_fds(), fds);
	store(&env, content, sizeof content, 0, NULL); /* and all is well again */
	envelope_clear(&env);
}

static void test_full_file_system(void **state)
{
	(void)state;
	static char block[8192];
	char path[128];
	struct envelope env;
	simple_envelope(&env);
	spool_close(sp);
	sp = NULL;
	bool mounted = temp_dir_mount("queue", "size=8m,nr_inodes=20");
	if (mounted) {
		snprintf(path, sizeof path, "%s/queue/.journal.0", dir);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	spool_reopen();
	if (!mounted) {
		envelope_clear(&env);
		skip();
	}
	assert_int_equal(spool_has_room(sp, 100, &st), 0);
	assert_int_equal(spool_has_room(sp, 9 << 20, &st), -1);
	assert_int_equal(st.code, 452);
	assert_int_equal(spool_has_room(sp, (uint64_t)1 << 62, &st), -1);
	/* Stops by itself before the last space is gone, and the space comes back. */
	struct spool_writer *w = spool_begin(sp, &env, &st);
	for (int i = 0; i < 2000; i++)
		spool_append(w, block, sizeof block);
	struct outcome o = commit(w);
	assert_int_equal(o.st.code, 452);
	assert_int_equal(count_entries("queue"), 0);
	assert_int_equal(spool_has_room(sp, 100, &st), 0);
	/* No place for another file. */
	int made = 0;
	while ((w = spool_begin(sp, &env, &st)) && made < 100) {
		made++;
		assert_int_equal(commit(w).st.code, 250);
	}
	assert_null(w);
	assert_int_equal(st.code, 452);
	assert_true(made > 5);
	assert_int_equal(spool_has_room(sp, 100, &st), -1);
	assert_int_equal(st.code, 452);
	envelope_clear(&env);
	spool_close(sp);
	temp_dir_unmount();
	sp = spool_open(dir, &st);
}

static void test_open_fails(void **state)
{
	(void)state;
	char path[200];
	snprintf(path, sizeof path, "%s/file", dir);
	put_file(path, "x", 1);
	assert_null(spool_open(path, &st));
	assert_int_equal(st.code / 100, 4);
	snprintf(path, sizeof path, "%s/new/deeper", dir);
	struct spool *other = spool_open(path, &st);
	assert_non_null(other);
	spool_close(other);
}

/* ---- attempts ---- */

static void attempt(struct envelope *env, size_t r, enum rcpt_state state, const char *text,
                    const char *remote, bool durable)
{
	struct status what;
	assert_int_equal(status_parse(slice_of(text), &what), 0);
	assert_int_equal(spool_attempt(sp, env, &r, 1, state, &what, remote, durable, &st), 0);
}

static void expect_verdict(const struct rcpt *r, enum rcpt_state state, const char *text,
                           const char *remote)
{
	char got[STATUS_PRINT_MAX];
	assert_int_equal(r->state, state);
	assert_non_null(r->last);
	status_print(r->last, got, sizeof got);
	assert_string_equal(got, text);
	if (remote)
		assert_string_equal(r->remote, remote);
	else
		assert_null(r->remote);
}

static void test_attempts(void **state)
{
	(void)state;
	struct envelope env;
	struct envelope got;
	int fds = count_fds();
	simple_envelope(&env);
	envelope_add_rcpt(&env, RCPT_EMAIL, "b@x", "b@x", NULL);
	envelope_add_rcpt(&env, RCPT_EMAIL, "c@x", "c@x", NULL);
	clock_frozen = 1700000000;
	store(&env, "x\r\n", 3, 0, NULL);
	clock_frozen = 1700000100;
	attempt(&env, 0, RCPT_PENDING, "451 4.3.0 try \"later\"", "mx.x [192.0.2.1]:25", false);
	attempt(&env, 1, RCPT_SENT, "250 2.0.0 ok", NULL, true);
	clock_frozen = 1700000200;
	attempt(&env, 0, RCPT_FAILED, "550 5.1.1 gr\xc3\xbc\xc3\x9f", "mx2", true);
	for (int pass = 0; pass < 2; pass++) {
		/* In memory as on disk. */
		const struct envelope *e = pass ? &got : &env;
		if (pass)
			assert_int_equal(spool_load(sp, env.id, &got, &st), 0);
		expect_verdict(&e->rcpt[0], RCPT_FAILED, "550 5.1.1 gr\xc3\xbc\xc3\x9f", "mx2");
		expect_verdict(&e->rcpt[1], RCPT_SENT, "250 2.0.0 ok", NULL);
		assert_int_equal(e->rcpt[2].state, RCPT_PENDING);
		assert_null(e->rcpt[2].last);
		assert_int_equal(e->last_attempt, 1700000200);
		assert_int_equal(e->attempts, 2); /* rounds */
		assert_int_equal(e->created, 1700000000);
	}
	envelope_clear(&got);
	for (int i = 0; i < 5; i++)
		loop_turn(0);
	assert_int_equal(count_fds(), fds);
	const struct scanned *s = rescan();
	assert_int_equal(s->count, 1);
	assert_string_equal(s->id[0], env.id);
	assert_int_equal(s->created[0], 1700000000);
	assert_int_equal(s->last_attempt[0], 1700000200);
	expect_content(env.id, 0, "x\r\n", 3);
	envelope_clear(&env);
}

static void test_attempt_of_many(void **state)
{
	(void)state;
	struct envelope env;
	struct envelope got;
	struct status what;
	size_t which[SPOOL_RCPTS_MAX];
	size_t n = 0;
	simple_envelope(&env);
	for (size_t i = 1; i < SPOOL_RCPTS_MAX; i++)
		envelope_add_rcpt(&env, RCPT_EMAIL, "b@x", "b@x", NULL);
	store(&env, "x", 1, 0, NULL);
	for (size_t i = 0; i < SPOOL_RCPTS_MAX; i += 3)
		which[n++] = SPOOL_RCPTS_MAX - 1 - i;
	status_set(&what, 250, "2.0.0", "ok");
	assert_int_equal(spool_attempt(sp, &env, which, n, RCPT_SENT, &what, "mx", true, &st), 0);
	assert_int_equal(spool_load(sp, env.id, &got, &st), 0);
	expect_equal(&env, &got);
	for (size_t i = 0; i < SPOOL_RCPTS_MAX; i++)
		assert_int_equal(got.rcpt[SPOOL_RCPTS_MAX - 1 - i].state,
		                 i % 3 ? RCPT_PENDING : RCPT_SENT);
	envelope_clear(&got);
	for (int i = 0; i < 5; i++)
		loop_turn(0);
	assert_int_equal(rescan()->count, 1);
	envelope_clear(&env);
}

static void test_hostile_verdicts(void **state)
{
	(void)state;
	static char longest[5000];
	memset(longest, '\\', sizeof longest - 1);
	const char *const words[] = {"}\nattempt { rcpt: 0 status: SENT }",
	                             "x\n"
	                             "created_at_ts { seconds: 1",
	                             "\" crc32: 1 }\n",
	                             "\xff\xc0\x80\x9b",
	                             "\x01\x7f\t",
	                             longest};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		struct envelope env;
		struct envelope got;
		size_t r = 0;
		struct status what;
		store_text(&env, "x");
		status_from_reply(&what, 451, slice_of(words[i]));
		assert_int_equal(
		    spool_attempt(sp, &env, &r, 1, RCPT_PENDING, &what, words[i], false, &st), 0);
		assert_int_equal(spool_load(sp, env.id, &got, &st), 0);
		assert_int_equal(got.attempts, 1); /* it was read back */
		assert_int_equal(got.rcpt[0].state, RCPT_PENDING);
		assert_string_equal(got.rcpt[0].last->text, what.text);
		assert_int_equal(got.created, env.created);
		envelope_clear(&got);
		envelope_clear(&env);
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup_clock, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_every_byte),
	    CASE(test_lines_of_any_length),
	    CASE(test_random_content),
	    CASE(test_empty_and_prepend),
	    CASE(test_memory_is_constant),
	    CASE(test_envelopes),
	    CASE(test_thousand_recipients),
	    CASE(test_envelopes_that_do_not_fit),
	    CASE(test_id_numbers),
	    CASE(test_ids_ascend),
	    CASE(test_ids_are_unique_after_a_restart),
	    CASE(test_commit),
	    CASE(test_abort),
	    CASE(test_abort_while_a_commit_waits),
	    CASE(test_write_fails),
	    CASE(test_full_file_system),
	    CASE(test_open_fails),
	    CASE(test_attempts),
	    CASE(test_attempt_of_many),
	    CASE(test_hostile_verdicts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
