/* The journal: what is in it is read, tried and removed like a file; what a power cut leaves of the
 * journal's files is what was promised.
 * link: fake_disk_aio.c
 */
#include "journal_help.h"

#include <errno.h>
#include <sys/statvfs.h>
#if defined(__linux__)
#include <sys/vfs.h>
#endif
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "config.h"
#include "crc.h"
#include "spool_history.h"
#include "spool_journal_int.h"
#include "valgrind.h"

/* ---- calls that can fail ---- */

static int fail_writes, fail_flushes, fail_fsyncs; /* errno, 0: as always */
static unsigned flushes;

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	struct iovec io = {(void *)(uintptr_t)p, n};
	errno = fail_writes;
	return fail_writes ? -1 : pwritev(fd, &io, 1, at);
}

int fdatasync(int fd)
{
	(void)fd;
	flushes++;
	errno = fail_flushes;
	return fail_flushes ? -1 : 0;
}

static bool dir_flushed;

int fsync(int fd)
{
	struct stat s;
	if (fstat(fd, &s) == 0 && S_ISDIR(s.st_mode))
		dir_flushed = true;
	errno = fail_fsyncs;
	return fail_fsyncs ? -1 : 0;
}

static int fail_removals; /* errno, of segments */

int unlinkat(int dir_fd, const char *name, int flags)
{
	if (fail_removals && strncmp(name, ".journal.", 9) == 0) {
		errno = fail_removals;
		return -1;
	}
	return (int)syscall(SYS_unlinkat, dir_fd, name, flags);
}

static int fail_files;  /* errno of write: of what goes to files, not to the journal */
static int64_t file_us; /* or it takes so long, on a clock that stands still */

ssize_t write(int fd, const void *p, size_t n)
{
	struct iovec io = {(void *)(uintptr_t)p, n};
	still_us += file_us;
	errno = fail_files;
	return fail_files ? -1 : writev(fd, &io, 1);
}

int syncfs(int fd)
{
	return fsync(fd);
}

static uint64_t free_bytes; /* 0: as it is */

int fstatvfs(int fd, struct statvfs *v)
{
	(void)fd;
	*v = (struct statvfs){.f_bsize = 4096, .f_frsize = 4096};
	v->f_bavail = (fsblkcnt_t)(free_bytes / 4096);
	return 0;
}

#if defined(__linux__)
/* A static C library has both in one object: its own must not be needed. */
int fstatfs(int fd, struct statfs *v)
{
	(void)fd, (void)v;
	errno = ENOSYS;
	return -1;
}
#endif

#define SEGMENTS 8

static int begin(void **state)
{
	shift_s = still_us = file_us = 0;
	free_bytes = SPOOL_FREE_MIN + SEGMENTS * (uint64_t)JOURNAL_SHARE * JOURNAL_BYTES;
	fail_writes = fail_flushes = fail_fsyncs = fail_files = fail_removals = 0;
	int rc = setup_journal(state);
	if (!rc)
		settle();
	return rc;
}

/* ---- helpers ---- */

static size_t segments(void)
{
	size_t n = 0;
	for (int i = 0; i < SEGMENTS; i++)
		n += access(journal_path(i), F_OK) == 0;
	return n;
}

static bool readable(const char *id)
{
	struct envelope env;
	if (spool_load(sp, id, &env, &st))
		return false;
	envelope_clear(&env);
	return true;
}

/* As cut_power() when nothing but the first bytes of the first segment has changed since. */
static void cut_again(size_t n)
{
	static const char *const places[] = {"queue", "queue/damaged"};
	char path[PATH_MAX + 64];
	if (sp)
		spool_close(sp);
	sp = NULL;
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, places[i]);
		DIR *d = opendir(path);
		for (const struct dirent *e; d && (e = readdir(d));) {
			snprintf(path, sizeof path, "%s/%s/%s", dir, places[i], e->d_name);
			if (e->d_name[0] == 'm' || e->d_name[0] == 'j')
				unlink(path);
		}
		if (d)
			closedir(d);
	}
	put_image(0, n);
	for (int i = 1; i < SEGMENTS; i++)
		if (taken[i])
			put_image(i, 4096);
}

static size_t files(void)
{
	char damaged[128];
	snprintf(damaged, sizeof damaged, "%s/queue/damaged", dir);
	return count_entries("queue") - (access(damaged, F_OK) == 0);
}

static void fill(char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (i + 2) % 78 == 0   ? '\r'
		       : (i + 1) % 78 == 0 ? '\n'
		                           : (char)('a' + (i * 7 + seed) % 26);
}

/* ---- a message in memory ---- */

static void test_in_memory(void **state)
{
	(void)state;
	struct envelope env, got;
	int fds = count_fds();
	store_text(&env, "Subject: a\r\n\r\nbody\r\n");
	assert_int_equal(files(), 0);
	assert_int_equal(count_fds(), fds);
	expect_content(env.id, 0, "Subject: a\r\n\r\nbody\r\n", 20);
	assert_int_equal(spool_load(sp, env.id, &got, &st), 0);
	assert_string_equal(got.from, "from@a.example");
	assert_string_equal(got.rcpt[0].address, "rcpt@b.example");
	envelope_clear(&got);
	assert_int_equal(spool_remove(sp, env.id, &st), 0);
	assert_int_equal(spool_load(sp, env.id, &got, &st), -1);
	assert_int_equal(rescan()->count, 0);
	envelope_clear(&env);
}

static void test_one_flush_for_many(void **state)
{
	(void)state;
	struct outcome o[50] = {{.done = 0}};
	struct envelope env;
	simple_envelope(&env);
	unsigned before = flushes;
	for (int i = 0; i < 50; i++) {
		struct spool_writer *w = spool_begin(sp, &env, &st);
		spool_append(w, "x\r\n", 3);
		spool_commit(w, on_done, &o[i]);
	}
	for (int i = 0; i < 50; i++)
		turns_until(&o[i]);
	assert_int_equal(flushes - before, 1);
	assert_int_equal(files(), 0);
	assert_int_equal(rescan()->count, 50); /* an orderly end makes files of them */
	assert_int_equal(files(), 50);
	envelope_clear(&env);
}

static void test_large_is_a_file(void **state)
{
	(void)state;
	static char content[3 * JOURNAL_MESSAGE_MAX];
	struct envelope env;
	fill(content, sizeof content, 1);
	for (size_t n = JOURNAL_MESSAGE_MAX / 2; n <= sizeof content;
	     n += under_valgrind() ? 50021 : 5003) {
		simple_envelope(&env);
		store(&env, content, n, 0, "X-Before: all\r\n");
		if (n > JOURNAL_MESSAGE_MAX)
			assert_true(exists(env.id));
		char *got;
		size_t got_n;
		assert_int_equal(read_all(env.id, 0, &got, &got_n), 0);
		assert_int_equal(got_n, n + 15);
		assert_memory_equal(got + 15, content, n);
		free(got);
		assert_int_equal(spool_remove(sp, env.id, &st), 0);
		envelope_clear(&env);
	}
	assert_int_equal(files(), 0);
}

static void test_age(void **state)
{
	(void)state;
	struct envelope env;
	store_text(&env, "x\r\n");
	struct spool_reader *r = spool_read_open(sp, env.id, &st);
	assert_non_null(r);
	shift_s += JOURNAL_AGE_MS / 1000 - 2;
	loop_turn(0);
	loop_turn(0);
	assert_false(exists(env.id));
	shift_s += 3;
	for (int i = 0; i < 100 && !exists(env.id); i++)
		loop_turn(10);
	settle();
	assert_true(exists(env.id));
	char p[10];
	assert_int_equal(spool_read(r, p, sizeof p, &st), 3); /* who reads it goes on */
	assert_int_equal(spool_read(r, p, sizeof p, &st), 0);
	spool_read_close(r);
	expect_content(env.id, 0, "x\r\n", 3);
	take_image();
	assert_int_equal(spool_remove(sp, env.id, &st), 0);
	take_image();
	cut_power();
	assert_int_equal(rescan()->count, 0); /* its record is done */
	envelope_clear(&env);
}

/* A burst stays in the journal, for which segments are made, and is there after a power cut. */
static void test_burst(void **state)
{
	(void)state;
	static char content[30000];
	static struct envelope env[200];
	fill(content, sizeof content, 2);
	for (int i = 0; i < 200; i++) {
		simple_envelope(&env[i]);
		store(&env[i], content, sizeof content, 0, NULL);
		settle();
	}
	assert_int_equal(files(), 0);
	assert_true(segments() > 3);
	take_image();
	cut_power();
	assert_int_equal(rescan()->count, 200);
	assert_int_equal(files(), 0);
	for (int i = 0; i < 200; i++)
		expect_content(env[i].id, 4096, content, sizeof content);
	for (int ends = 0; ends < 10 && files() < 200; ends++) /* under valgrind more than one */
		assert_int_equal(rescan()->count, 200);        /* an orderly end */
	assert_int_equal(files(), 200);
	assert_true(segments() <= JOURNAL_KEEP);
	for (int i = 0; i < 200; i++)
		envelope_clear(&env[i]);
}

/* A start finds many messages: there is place for new ones all the same, soon and for long. */
static void test_room_beside_many(void **state)
{
	(void)state;
	static char content[30000];
	struct envelope env;
	fill(content, sizeof content, 2);
	for (size_t n = 0; n < 4 * JOURNAL_BYTES; n += sizeof content) {
		simple_envelope(&env);
		store(&env, content, sizeof content, 0, NULL);
		settle();
		envelope_clear(&env);
	}
	take_image();
	cut_power();
	rescan();
	settle();
	for (int i = 0; i < 2; i++) {
		store_text(&env, "x\r\n");
		assert_false(exists(env.id));
		envelope_clear(&env);
		shift_s += JOURNAL_IDLE_MS / 1000 + 1;
		settle();
	}
}

/* Without room for more segments the oldest become files, and then new ones. */
static void test_no_room(void **state)
{
	(void)state;
	static char content[30000];
	static struct envelope env[200];
	free_bytes = SPOOL_FREE_MIN + 2 * (uint64_t)JOURNAL_BYTES;
	fill(content, sizeof content, 2);
	for (int i = 0; i < 200; i++) {
		simple_envelope(&env[i]);
		store(&env[i], content, sizeof content, 0, NULL);
	}
	settle();
	assert_true(files() > 0 && files() < 200);
	for (int i = 0; i < 200; i++) {
		expect_content(env[i].id, 4096, content, sizeof content);
		envelope_clear(&env[i]);
	}
	assert_int_equal(rescan()->count, 200);
}

/* Segments go again when nothing asks for them. */
static void test_taken_back(void **state)
{
	(void)state;
	static char content[30000];
	struct envelope env;
	fill(content, sizeof content, 2);
	for (int i = 0; i < 300; i++) {
		simple_envelope(&env);
		store(&env, content, sizeof content, 0, NULL);
		if (segments() < 6)
			settle();
		else
			assert_int_equal(spool_remove(sp, env.id, &st), 0);
		envelope_clear(&env);
	}
	assert_true(segments() >= 6);
	shift_s += JOURNAL_AGE_MS / 1000 + 1;
	settle_slowly();
	shift_s += JOURNAL_IDLE_MS / 1000 + 1;
	settle_slowly();
	assert_int_equal(segments(), JOURNAL_KEEP);
	store_text(&env, "x\r\n");
	assert_false(exists(env.id));
	envelope_clear(&env);
}

/* A reader that is slow is in nobody's way, and reads on. */
static void test_slow_reader(void **state)
{
	(void)state;
	static char content[30000], got[sizeof content];
	struct envelope env, first;
	free_bytes = 3 * (uint64_t)JOURNAL_SHARE * JOURNAL_BYTES;
	fill(content, sizeof content, 2);
	simple_envelope(&first);
	store(&first, content, sizeof content, 0, NULL);
	settle();
	struct spool_reader *r = spool_read_open(sp, first.id, &st);
	assert_non_null(r);
	assert_int_equal(spool_remove(sp, first.id, &st), 0);
	for (int i = 0; i < 400; i++) {
		simple_envelope(&env);
		store(&env, content, sizeof content, 0, NULL);
		assert_false(exists(env.id));
		assert_int_equal(spool_remove(sp, env.id, &st), 0);
		envelope_clear(&env);
	}
	size_t n = 0;
	ssize_t part;
	while ((part = spool_read(r, got + n, sizeof got - n, &st)) > 0)
		n += (size_t)part;
	assert_int_equal(part, 0);
	assert_int_equal(n, sizeof content);
	assert_memory_equal(got, content, n);
	spool_read_close(r);
	envelope_clear(&first);
}

/* What a reader holds is set aside, which has a generation of its own: records that follow in
 * another segment still count. */
static void test_power_cut_beside_a_reader(void **state)
{
	(void)state;
	static char content[30000];
	struct envelope env, first;
	fill(content, sizeof content, 2);
	simple_envelope(&first);
	store(&first, content, sizeof content, 0, NULL);
	struct spool_reader *r = spool_read_open(sp, first.id, &st);
	assert_non_null(r);
	assert_int_equal(spool_remove(sp, first.id, &st), 0);
	for (size_t n = 0; n < JOURNAL_BYTES + 10 * sizeof content; n += sizeof content) {
		simple_envelope(&env);
		store(&env, content, sizeof content, 0, NULL);
		assert_int_equal(spool_remove(sp, env.id, &st), 0);
		envelope_clear(&env);
		settle();
	}
	simple_envelope(&env);
	store(&env, content, sizeof content, 0, NULL);
	settle();
	take_image();
	spool_read_close(r);
	cut_power();
	assert_int_equal(rescan()->count, 1);
	expect_content(env.id, 4096, content, sizeof content);
	envelope_clear(&env);
	envelope_clear(&first);
}

static void try(struct envelope *env, const char *text)
{
	struct status what;
	size_t r = 0;
	assert_int_equal(status_parse(slice_of(text), &what), 0);
	assert_int_equal(
	    spool_attempt(sp, env, &r, 1, RCPT_PENDING, &what, "mx.example", true, &st), 0);
}

static void count(void *arg, const struct spool_attempt_seen *a)
{
	(void)a;
	++*(int *)arg;
}

/* In memory, while the file is written, and in the file: every attempt once, in every place. */
static void test_attempts(void **state)
{
	(void)state;
	struct envelope env;
	int seen = 0;
	store_text(&env, "x\r\n");
	try(&env, "451 4.0.0 one");
	try(&env, "451 4.0.0 two");
	loop_turn(5);
	loop_turn(5);
	assert_int_equal(spool_attempts(sp, &env, count, &seen, &st), 0);
	assert_int_equal(seen, 2);
	take_image();
	cut_power();
	assert_int_equal(rescan()->count, 1);
	seen = 0;
	assert_int_equal(spool_attempts(sp, &env, count, &seen, &st), 0);
	assert_int_equal(seen, 2);
	try(&env, "451 4.0.0 three");
	seen = 0;
	assert_int_equal(spool_attempts(sp, &env, count, &seen, &st), 0);
	assert_int_equal(seen, 3);
	envelope_clear(&env);
}

static void test_many_attempts(void **state)
{
	(void)state;
	struct envelope env;
	int seen = 0;
	store_text(&env, "x\r\n");
	for (int i = 0; i < 400; i++)
		try(&env, "451 4.0.0 something that is said at length, and again and again");
	assert_int_equal(spool_attempts(sp, &env, count, &seen, &st), 0);
	loop_turn(5);
	loop_turn(5);
	loop_turn(5);
	assert_true(exists(env.id)); /* too many for memory */
	assert_int_equal(rescan()->count, 1);
	seen = 0;
	assert_int_equal(spool_attempts(sp, &env, count, &seen, &st), 0);
	assert_int_equal(seen, 400);
	envelope_clear(&env);
}

/* Far more than both segments hold; what stays is there, what is done is not. */
static void test_wrap_around(void **state)
{
	(void)state;
	static char content[20000];
	struct envelope env, kept[3];
	int n = 8 * JOURNAL_BYTES / (int)sizeof content;
	free_bytes = SPOOL_FREE_MIN + 2 * (uint64_t)JOURNAL_BYTES;
	for (int i = 0; i < n; i++) {
		fill(content, sizeof content, (unsigned)i);
		simple_envelope(&env);
		store(&env, content, sizeof content, 0, NULL);
		int k = i == 3 ? 0 : i == n / 2 ? 1 : i == n - 1 ? 2 : -1;
		if (k >= 0)
			kept[k] = env;
		if (k >= 0)
			continue;
		assert_int_equal(spool_remove(sp, env.id, &st), 0);
		envelope_clear(&env);
	}
	settle();
	assert_true(exists(kept[0].id));
	assert_false(exists(kept[2].id));
	take_image();
	spool_remove(sp, kept[0].id, &st);
	spool_remove(sp, kept[1].id, &st);
	cut_power();
	const struct scanned *s = rescan();
	assert_true(s->count >= 1 && s->count <= 2);
	expect_content(kept[2].id, 0, content, sizeof content);
	assert_int_equal(count_entries("queue/damaged"), 0);
	for (int i = 0; i < 3; i++)
		envelope_clear(&kept[i]);
}

/* ---- damage ---- */

#define MESSAGES 4

struct written {
	struct envelope env[MESSAGES];
	char content[MESSAGES][300];
	size_t end[MESSAGES]; /* of the journal when it was acknowledged */
	size_t n;
};

/* The last one is removed again. */
static void write_some(struct written *w)
{
	for (int i = 0; i < MESSAGES; i++) {
		fill(w->content[i], sizeof w->content[i], (unsigned)i);
		simple_envelope(&w->env[i]);
		store(&w->env[i], w->content[i], sizeof w->content[i], 0, NULL);
		take_image();
		w->end[i] = sizeof image[0];
		while (image[0][w->end[i] - 1] == '\n')
			w->end[i]--;
		w->end[i]++;
	}
	try(&w->env[0], "451 4.0.0 later");
	assert_int_equal(spool_remove(sp, w->env[MESSAGES - 1].id, &st), 0);
	settle();
	take_image();
	w->n = sizeof image[0];
	while (image[0][w->n - 1] == '\n')
		w->n--;
	w->n++;
}

static void clear_some(struct written *w)
{
	for (int i = 0; i < MESSAGES; i++)
		envelope_clear(&w->env[i]);
}

static bool same_content(const struct written *w, int i)
{
	char *got;
	size_t n;
	bool same = read_all(w->env[i].id, 4096, &got, &n) == 0 && n == sizeof w->content[i] &&
	            memcmp(got, w->content[i], n) == 0;
	free(got);
	return same;
}

/* Every place takes a minute: a sample of them, with valgrind a smaller one, and always the last.
 */
static size_t next_of(size_t at, size_t last)
{
	size_t step = getenv("CHASQ_FULL") ? 1 : under_valgrind() ? 97 : 13;
	return at < last && at + step > last ? last : at + step;
}

static void test_every_truncation(void **state)
{
	(void)state;
	static char whole[JOURNAL_BYTES];
	struct written w;
	write_some(&w);
	memcpy(whole, image[0], sizeof whole);
	cut_power();
	for (size_t n = 0; n <= w.n; n = next_of(n, w.n)) {
		memset(image[0], '\n', w.n);
		memcpy(image[0], whole, n);
		cut_again(w.n);
		const struct scanned *s = rescan();
		for (int i = 0; i < MESSAGES - 1; i++)
			if (n >= w.end[i] || readable(w.env[i].id))
				assert_true(same_content(&w, i));
		assert_true(s->count <= MESSAGES);
		if (n == w.n)
			assert_int_equal(s->count, MESSAGES - 1);
		assert_int_equal(count_entries("queue/damaged"), 0);
	}
	clear_some(&w);
}

/* A byte that rots: every message is there as it was, or something was set aside. */
static void test_every_flipped_byte(void **state)
{
	(void)state;
	static char whole[JOURNAL_BYTES];
	struct written w;
	write_some(&w);
	memcpy(whole, image[0], sizeof whole);
	cut_power();
	for (size_t at = 0; at < w.n; at = next_of(at, w.n)) {
		memcpy(image[0], whole, w.n);
		image[0][at] ^= (char)(1 << at % 8);
		cut_again(w.n);
		rescan();
		size_t aside = count_entries("queue/damaged");
		size_t lost = 0;
		for (int i = 0; i < MESSAGES - 1; i++) {
			if (readable(w.env[i].id))
				assert_true(same_content(&w, i));
			else
				lost++;
		}
		assert_true(lost <= 1 && lost <= aside);
	}
	clear_some(&w);
}

/* ---- a disk that fails ---- */

static void expect_refused_then_file(int code)
{
	struct envelope env;
	simple_envelope(&env);
	struct spool_writer *w = spool_begin(sp, &env, &st);
	spool_append(w, "x\r\n", 3);
	struct outcome o = commit(w);
	assert_int_equal(o.st.code, code);
	assert_false(readable(env.id));
	fail_writes = fail_flushes = fail_fsyncs = 0;
	/* What could not be written once is not trusted again. */
	envelope_clear(&env);
	store_text(&env, "y\r\n");
	assert_true(exists(env.id));
	envelope_clear(&env);
}

/* What is given up becomes files; a minute later there is a new journal. */
static void expect_new_journal(void)
{
	struct envelope env;
	settle();
	assert_int_equal(segments(), 0);
	shift_s += JOURNAL_AGAIN_MS / 1000 + 1;
	settle();
	assert_int_equal(segments(), 2);
	size_t before = files();
	store_text(&env, "after\r\n");
	assert_false(exists(env.id));
	assert_int_equal(files(), before);
	expect_content(env.id, 0, "after\r\n", 7);
	take_image();
	cut_power();
	assert_int_equal(rescan()->count, 1); /* the files are gone */
	expect_content(env.id, 0, "after\r\n", 7);
	envelope_clear(&env);
}

static void test_write_fails(void **state)
{
	(void)state;
	struct envelope env;
	store_text(&env, "before\r\n");
	fail_writes = ENOSPC;
	expect_refused_then_file(452);
	settle();
	assert_true(exists(env.id)); /* what was in the journal */
	assert_int_equal(segments(), 0);
	assert_int_equal(rescan()->count, 2);
	envelope_clear(&env);
}

/* A journal of before in which all is done leaves nothing to be looked for beside new messages. */
static void test_nothing_of_before(void **state)
{
	(void)state;
	struct scanned s = {.count = 0};
	struct envelope env;
	int more;
	store_text(&env, "before\r\n");
	assert_int_equal(spool_remove(sp, env.id, &st), 0);
	envelope_clear(&env);
	settle();
	take_image();
	cut_power();
	spool_reopen();
	store_text(&env, "after\r\n");
	assert_false(exists(env.id));
	while ((more = spool_scan(sp, on_found, &s, &st)) > 0)
		;
	assert_int_equal(more, 0);
	assert_int_equal(s.count, 0);
	assert_false(sp->journal->unsure);
	envelope_clear(&env);
}

/* A record whose first line finds no memory begins nowhere: what is withdrawn is not the end of the
 * one before. */
static void test_no_memory_for_a_record(void **state)
{
	(void)state;
	struct envelope env, refused;
	store_text(&env, "before\r\n");
	simple_envelope(&refused);
	struct spool_writer *w = spool_begin(sp, &refused, &st);
	spool_append(w, "x\r\n", 3);
	sp->journal->out.failed = true;
	fail_files = EIO; /* what there is becomes a file later */
	assert_int_equal(commit(w).st.code, 451);
	fail_files = 0;
	expect_content(env.id, 0, "before\r\n", 8);
	shift_s += JOURNAL_RETRY_MS / 1000 + 1;
	settle();
	assert_true(exists(env.id));
	assert_int_equal(rescan()->count, 1);
	envelope_clear(&env);
	envelope_clear(&refused);
}

/* Files made in a turn that comes so long after the last. */
static size_t made_after(int64_t us)
{
	size_t before = count_entries("queue");
	still_us += us;
	assert_int_equal(loop_turn(0), 0);
	return count_entries("queue") - before;
}

/* However urgent files are, sessions have as much of the time. */
static void test_slices(void **state)
{
	(void)state;
	struct envelope env;
	for (int i = 0; i < 100; i++) {
		store_text(&env, "x\r\n");
		envelope_clear(&env);
	}
	settle();
	loop_refresh();
	still_us = loop_now_us();
	fail_writes = ENOSPC;
	file_us = JOURNAL_SLICE_US / 10;
	expect_refused_then_file(452);
	made_after(1);
	assert_int_equal(made_after(1), 1);
	assert_int_equal(made_after(1), 1);
	assert_int_equal(made_after(6 * file_us), 6);
	assert_int_equal(made_after(1), 1);
	assert_int_equal(made_after(60 * file_us), 10);
	assert_int_equal(made_after(file_us), 1);
	still_us = file_us = 0;
}

static void test_new_journal(void **state)
{
	(void)state;
	struct envelope env;
	store_text(&env, "before\r\n");
	struct spool_reader *r = spool_read_open(sp, env.id, &st);
	fail_writes = EIO;
	expect_refused_then_file(451);
	settle();
	assert_true(exists(env.id));
	assert_true(segments() > 0); /* one is being read */
	spool_read_close(r);
	expect_new_journal();
	envelope_clear(&env);
}

/* What is left of a journal that was given up would bring messages back: first it has to go. */
static void test_given_up_and_stays(void **state)
{
	(void)state;
	struct envelope env;
	store_text(&env, "before\r\n");
	fail_writes = ENOSPC;
	fail_removals = ENOSPC;
	expect_refused_then_file(452);
	settle();
	size_t before = segments();
	assert_true(before > 0);
	shift_s += JOURNAL_AGAIN_MS / 1000 + 1;
	settle();
	assert_int_equal(segments(), before);
	fail_removals = 0;
	shift_s += JOURNAL_RETRY_MS / 1000 + 1;
	expect_new_journal();
	envelope_clear(&env);
}

static void test_flush_fails(void **state)
{
	(void)state;
	struct envelope env;
	store_text(&env, "before\r\n");
	fail_flushes = EIO;
	expect_refused_then_file(451);
	assert_int_equal(rescan()->count, 2);
	expect_content(env.id, 0, "before\r\n", 8);
	envelope_clear(&env);
	store_text(&env, "after\r\n"); /* a new journal */
	assert_false(exists(env.id));
	envelope_clear(&env);
}

/* The flush fails, but the record is there all the same: who was refused is not brought back. */
static void test_refused_stays_refused(void **state)
{
	(void)state;
	struct envelope env, refused;
	store_text(&env, "before\r\n");
	simple_envelope(&refused);
	struct spool_writer *w = spool_begin(sp, &refused, &st);
	spool_append(w, "refused\r\n", 9);
	fail_flushes = EIO;
	struct outcome o = commit(w);
	assert_int_equal(o.st.code, 451);
	take_image();
	assert_non_null(memmem(image[0], sizeof image[0], "  \"refused\\r\\n\"", 15));
	fail_flushes = 0;
	cut_power();
	assert_int_equal(rescan()->count, 1);
	expect_content(env.id, 0, "before\r\n", 8);
	assert_int_equal(count_entries("queue/damaged"), 0);
	envelope_clear(&env);
	envelope_clear(&refused);
}

/* It cannot be made: everything is a file, until it can. */
static void test_not_made(void **state)
{
	(void)state;
	struct envelope env;
	close_without_journal();
	free_bytes = SPOOL_FREE_MIN;
	spool_reopen();
	store_text(&env, "x\r\n");
	assert_true(exists(env.id));
	envelope_clear(&env);
	free_bytes *= 2;
	expect_new_journal();
}

/* A full disk hides nothing of what is in the journal. */
static void test_replay_full(void **state)
{
	(void)state;
	struct envelope env;
	store_text(&env, "x\r\n");
	take_image();
	free_bytes = 4096;
	fail_fsyncs = ENOSPC;
	cut_power();
	assert_int_equal(rescan()->count, 1);
	expect_content(env.id, 0, "x\r\n", 3);
	fail_fsyncs = 0;
	shift_s += JOURNAL_AGE_MS / 1000 + 1;
	settle();
	assert_true(exists(env.id));
	expect_content(env.id, 0, "x\r\n", 3);
	envelope_clear(&env);
}

/* Its file cannot be flushed: the record stands, and it is tried again. */
static void test_filing_fails(void **state)
{
	(void)state;
	struct envelope env;
	int seen = 0;
	store_text(&env, "x\r\n");
	fail_fsyncs = EIO;
	shift_s += JOURNAL_AGE_MS / 1000 + 1;
	settle();
	expect_content(env.id, 0, "x\r\n", 3);
	take_image();
	cut_power();
	fail_fsyncs = 0;
	assert_int_equal(rescan()->count, 1);
	expect_content(env.id, 0, "x\r\n", 3);
	/* Once more, and now it succeeds in the end. */
	fail_fsyncs = EIO;
	shift_s += JOURNAL_AGE_MS / 1000 + 1;
	settle();
	try(&env, "451 4.0.0 one");
	fail_fsyncs = 0;
	shift_s += JOURNAL_RETRY_MS / 1000 + 1;
	settle();
	assert_true(exists(env.id));
	expect_content(env.id, 0, "x\r\n", 3);
	assert_int_equal(spool_attempts(sp, &env, count, &seen, &st), 0);
	assert_int_equal(seen, 1);
	take_image();
	cut_power();
	assert_int_equal(rescan()->count, 0); /* its record is done */
	envelope_clear(&env);
}

/* The file was begun and cut short at any length: the record makes it whole. */
static void test_file_cut_short(void **state)
{
	(void)state;
	struct envelope env;
	char *file;
	size_t n;
	store_text(&env, "x\r\n");
	take_image();
	spool_reopen();
	file = slurp(path_of(env.id), &n);
	for (size_t at = 0; at <= n; at = at < n ? next_of(at, n) : n + 1) {
		cut_power();
		put_file(path_of(env.id), file, at);
		assert_int_equal(rescan()->count, 1);
		expect_content(env.id, 0, "x\r\n", 3);
	}
	/* A file that says more than the record stays. */
	try(&env, "451 4.0.0 later");
	free(file);
	file = slurp(path_of(env.id), &n);
	cut_power();
	put_file(path_of(env.id), file, n);
	assert_int_equal(rescan()->count, 1);
	int seen = 0;
	assert_int_equal(spool_attempts(sp, &env, count, &seen, &st), 0);
	assert_int_equal(seen, 1);
	free(file);
	envelope_clear(&env);
}

/* ---- starts and ends that are cut short ---- */

/* Who was killed may have named a segment and not flushed that. */
static void test_name_of_before(void **state)
{
	(void)state;
	struct envelope env;
	for (int i = 0; i < 2; i++) {
		spool_reopen();
		dir_flushed = false;
		store_text(&env, "x\r\n");
		assert_true(dir_flushed); /* once */
		envelope_clear(&env);
		dir_flushed = false;
		store_text(&env, "x\r\n");
		assert_false(dir_flushed);
		assert_false(exists(env.id));
		envelope_clear(&env);
	}
	/* What cannot be flushed is not used. */
	spool_reopen();
	fail_fsyncs = EIO;
	expect_refused_then_file(451);
}

/* An end that cannot make files of all does not bring back what was done. */
static void test_end_without_room(void **state)
{
	(void)state;
	struct envelope done, kept;
	store_text(&done, "done\r\n");
	store_text(&kept, "kept\r\n");
	assert_int_equal(spool_remove(sp, done.id, &st), 0);
	fail_files = ENOSPC;
	spool_close(sp);
	sp = NULL;
	fail_files = 0;
	assert_int_equal(rescan()->count, 1);
	expect_content(kept.id, 0, "kept\r\n", 6);
	envelope_clear(&done);
	envelope_clear(&kept);
}

/* Closes with time for a few files only, and opens again: what was removed in the last turn stays
 * away, the others are there. */
static void expect_end_in_time(struct envelope *env, size_t count, size_t removed)
{
	loop_refresh();
	still_us = loop_now_us();
	file_us = JOURNAL_STOP_MS * 1000 / 4;
	assert_int_equal(spool_remove(sp, env[removed].id, &st), 0);
	spool_close(sp);
	sp = NULL;
	still_us = file_us = 0;
	rescan();
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(readable(env[i].id), i != removed);
		envelope_clear(&env[i]);
	}
}

/* There is no active segment yet in which to note what is done. */
static void test_end_behind_start(void **state)
{
	(void)state;
	static struct envelope env[30];
	for (int i = 0; i < 30; i++)
		store_text(&env[i], "x\r\n");
	take_image();
	cut_power();
	spool_reopen();
	while (journal_replay_go_on(sp) > 0) {
	}
	expect_end_in_time(env, 30, 20);
}

/* Nothing can be noted in a journal that was given up: what is in it has to become files. */
static void test_end_of_given_up(void **state)
{
	(void)state;
	static struct envelope env[30];
	for (int i = 0; i < 30; i++)
		store_text(&env[i], "x\r\n");
	settle();
	loop_refresh();
	still_us = loop_now_us();
	fail_writes = ENOSPC;
	file_us = JOURNAL_SLICE_US;
	expect_refused_then_file(452);
	expect_end_in_time(env, 30, 20);
}

/* A file that could not be made whole at the start goes with its message. */
static void test_file_not_made_whole(void **state)
{
	(void)state;
	struct envelope env;
	size_t n;
	store_text(&env, "x\r\n");
	take_image();
	spool_reopen();
	char *file = slurp(path_of(env.id), &n);
	cut_power();
	put_file(path_of(env.id), file, n);
	fail_files = EIO;
	assert_int_equal(rescan()->count, 1);
	fail_files = 0;
	assert_int_equal(spool_remove(sp, env.id, &st), 0);
	assert_false(exists(env.id));
	assert_int_equal(rescan()->count, 0);
	free(file);
	envelope_clear(&env);
}

/* Files of two journals side by side: nothing is passed over. */
static void test_same_generation(void **state)
{
	(void)state;
	static char other[JOURNAL_BYTES];
	struct envelope a, b;
	store_text(&a, "a\r\n");
	take_image();
	memcpy(other, image[0], sizeof other);
	memset(taken, 0, sizeof taken);
	cut_power();
	spool_reopen();
	settle();
	store_text(&b, "b\r\n");
	take_image();
	assert_memory_equal(image[0], other, 25); /* up to the generation */
	memcpy(image[1], other, sizeof other);
	taken[1] = true;
	cut_power();
	assert_int_equal(rescan()->count, 2);
	expect_content(a.id, 0, "a\r\n", 3);
	expect_content(b.id, 0, "b\r\n", 3);
	envelope_clear(&a);
	envelope_clear(&b);
}

#define OLD_ONES 99
#define CUTS     4

/* Messages of 30000 bytes, then a power cut, and the next start; each third one was removed. */
static void leave_many(struct envelope *env)
{
	static char content[30000];
	fill(content, sizeof content, 2);
	for (int i = 0; i < OLD_ONES; i++) {
		simple_envelope(&env[i]);
		store(&env[i], content, sizeof content, 0, NULL);
		settle();
	}
	for (int i = 0; i < OLD_ONES; i += 3)
		assert_int_equal(spool_remove(sp, env[i].id, &st), 0);
	settle();
	take_image();
	cut_power();
	spool_reopen();
}

static void expect_many(struct envelope *env)
{
	for (int i = 0; i < OLD_ONES; i++) {
		assert_int_equal(readable(env[i].id), i % 3 != 0);
		envelope_clear(&env[i]);
	}
}

/* New mail comes while the journal of before is being read, and the power goes at any time. */
static void test_read_beside_sessions(void **state)
{
	(void)state;
	static struct envelope env[OLD_ONES];
	struct envelope new[CUTS], gone;
	leave_many(env);
	for (int i = 0; i < CUTS; i++) {
		store_text(&new[i], "new\r\n");
		store_text(&gone, "gone\r\n");
		assert_false(exists(gone.id));
		assert_int_equal(spool_remove(sp, gone.id, &st), 0);
		envelope_clear(&gone);
		for (int step = 0; step < 30 * i; step++)
			assert_int_equal(journal_replay_go_on(sp), 1);
		shift_s += JOURNAL_AGE_MS / 1000 + 1;
		settle_slowly();
		assert_int_equal(files(), 0); /* they may be done */
		take_image();
		cut_power();
		spool_reopen();
	}
	assert_int_equal(rescan()->count, OLD_ONES * 2 / 3 + CUTS);
	assert_int_equal(count_entries("queue/damaged"), 0);
	for (int i = 0; i < CUTS; i++) {
		expect_content(new[i].id, 0, "new\r\n", 5);
		envelope_clear(&new[i]);
	}
	expect_many(env);
}

/* An end while it is read makes files of all. */
static void test_end_before_it_is_read(void **state)
{
	(void)state;
	static struct envelope env[OLD_ONES];
	leave_many(env);
	for (int step = 0; step < 50; step++)
		assert_int_equal(journal_replay_go_on(sp), 1);
	spool_close(sp);
	sp = NULL;
	assert_int_equal(files(), OLD_ONES * 2 / 3);
	assert_int_equal(rescan()->count, OLD_ONES * 2 / 3);
	expect_many(env);
}

static size_t put_record(char *p, int generation, const char *kind, uint64_t number)
{
	char id[SPOOL_ID_MAX + 1], head[256];
	bool end = number == 0;
	spool_id_text(number, id);
	int n = snprintf(
	    head, sizeof head, "record { generation: %d kind: %s id: \"%s\" length: %d crc32: %lu",
	    generation, kind, id, end ? 0 : 1, end ? 0UL : (unsigned long)crc_add(0, "x", 1));
	return (size_t)snprintf(p, 512, "%s head_crc32: %lu%s", head,
	                        (unsigned long)crc_add(0, head, (size_t)n),
	                        end ? "\n}\n" : " message {\nx} }\n");
}

static size_t put_done(char *p, int generation, const char *id)
{
	char head[256], text[64];
	int len = snprintf(text, sizeof text, "done: \"%s\"\n", id);
	int n =
	    snprintf(head, sizeof head,
	             "record { generation: %d kind: DONE id: \"00000000000\" length: %d crc32: %lu",
	             generation, len, (unsigned long)crc_add(0, text, (size_t)len));
	return (size_t)snprintf(p, 512, "%s head_crc32: %lu\n%s}\n", head,
	                        (unsigned long)crc_add(0, head, (size_t)n), text);
}

/* The clock went back, and an ID of before was given out again: neither message is lost. */
static void test_id_given_again(void **state)
{
	(void)state;
	struct envelope env;
	taken[0] = true;
	memset(image[0], '\n', sizeof image[0]);
	put_record(image[0], 5, "MESSAGE", 1);
	cut_power();
	spool_reopen();
	store_text(&env, "new\r\n");
	size_t n = put_record(image[0], 5, "MESSAGE", spool_id_number(env.id));
	n += put_done(image[0] + n, 5, env.id);
	put_record(image[0] + n, 5, "END", 0);
	put_image(0, sizeof image[0]);
	while (journal_replay_go_on(sp) > 0) {
	}
	expect_content(env.id, 0, "new\r\n", 5);
	assert_int_equal(count_entries("queue/damaged"), 1);
	envelope_clear(&env);
}

/* A start with so many messages in the journal; they are no real ones. */
static void leave_entries(uint64_t count)
{
	uint64_t number = 1;
	take_image();
	for (int i = 0; number <= count; i++) {
		size_t n = 0;
		assert_true(i < SEGMENTS);
		taken[i] = true;
		memset(image[i], '\n', sizeof image[i]);
		while (number <= count && n + 1024 < sizeof image[i])
			n += put_record(image[i] + n, i + 1, "MESSAGE", number++);
		put_record(image[i] + n, i + 1, "END", 0);
	}
	cut_power();
	spool_reopen();
	while (journal_replay_go_on(sp) > 0) {
	}
}

/* With nearly all places taken, many become files at a time. */
static void test_thinning(void **state)
{
	(void)state;
	struct envelope env;
	size_t before = 0;
	free_bytes = (uint64_t)JOURNAL_SEGMENTS * JOURNAL_SHARE * JOURNAL_BYTES * 2;
	leave_entries(JOURNAL_ENTRIES / 8 * 7 - 5);
	settle_slowly();
	for (int i = 0; i < 50; i++) {
		store_text(&env, "x\r\n");
		envelope_clear(&env);
		if (i != 10)
			continue;
		settle_slowly();
		before = files();
		assert_true(before > JOURNAL_ENTRIES / 16);
	}
	settle_slowly();
	assert_int_equal(files(), before);
}

/* As many as there may be are there again, and when they are done it is noted. */
static void test_full_of_done(void **state)
{
	(void)state;
	leave_entries(JOURNAL_ENTRIES);
	uint64_t number = JOURNAL_ENTRIES + 1;
	while (--number > 0) {
		char id[SPOOL_ID_MAX + 1];
		spool_id_text(number, id);
		assert_int_equal(spool_remove(sp, id, &st), 0);
	}
	for (int i = 0; i < 2; i++) /* no time for segments to be taken back */
		assert_int_equal(loop_turn(0), 0);
	take_image();
	cut_power();
	assert_int_equal(rescan()->count, 0);
	assert_int_equal(count_entries("queue/damaged"), 0); /* they are no real messages */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_in_memory, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_one_flush_for_many, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_large_is_a_file, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_age, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_burst, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_room_beside_many, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_no_room, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_taken_back, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_slow_reader, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_power_cut_beside_a_reader, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_attempts, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_many_attempts, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_wrap_around, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_every_truncation, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_every_flipped_byte, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_write_fails, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_no_memory_for_a_record, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_nothing_of_before, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_slices, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_new_journal, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_not_made, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_replay_full, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_given_up_and_stays, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_flush_fails, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_refused_stays_refused, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_filing_fails, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_file_cut_short, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_name_of_before, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_end_without_room, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_end_behind_start, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_end_of_given_up, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_file_not_made_whole, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_same_generation, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_read_beside_sessions, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_end_before_it_is_read, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_id_given_again, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_thinning, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_full_of_done, begin, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
