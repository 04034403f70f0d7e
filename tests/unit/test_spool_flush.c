/* The journal and its files when flushes overlap and fail: nobody is told that a message is ours
 * before a flush that began behind its record, and an error that the kernel tells once is believed
 * of all it may be about.
 * link: fake_disk_aio.c
 */
#include "journal_help.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>

#include "config.h"
#include "fake_disk_aio.h"
#include "spool_journal.h"

/* ---- calls that can fail, a child that is slow ---- */

static pid_t parent;
static int fail_parent, fail_child; /* fsync: an errno, 0: as always */
static ino_t fail_inode;            /* pwrite at the beginning of this file fails */
static bool slow_child, slow_dirs;  /* it, or only its flush of a directory, waits for `go` */
static bool fail_dirs;              /* EIO for directories, once for each open description */
static int flush_s;                 /* our own flush takes so long */
static int fail_piece;              /* errno of what is written ahead, 0: as always */
static int *pieces;                 /* how often that was done; shared with children */
static int fail_begin, begins;      /* the same of what is only begun to be written */
static char go[128];

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	struct iovec io = {(void *)(uintptr_t)p, n};
	struct stat s;
	if (fail_inode && at == 0 && fstat(fd, &s) == 0 && s.st_ino == fail_inode) {
		errno = EIO;
		return -1;
	}
	return pwritev(fd, &io, 1, at);
}

/* What is written now is what a power cut leaves. */
static char durable[JOURNAL_BYTES];

int fdatasync(int fd)
{
	return pread(fd, durable, sizeof durable, 0) < 0 ? -1 : 0;
}

static bool is_dir(int fd)
{
	struct stat s;
	return fstat(fd, &s) == 0 && S_ISDIR(s.st_mode);
}

/* As the kernel does: it notes in the open description who was told. */
static bool is_told(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	bool tell = fail_dirs && is_dir(fd) && !(flags & O_NONBLOCK);
	if (tell)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	errno = EIO;
	return tell;
}

int fsync(int fd)
{
	bool child = getpid() != parent;
	bool slow = slow_child || (slow_dirs && is_dir(fd));
	for (int i = 0; child && slow && i < 1000 && access(go, F_OK) != 0; i++)
		nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
	if (!child)
		shift_s += flush_s;
	if (is_told(fd))
		return -1;
	errno = child ? fail_child : fail_parent;
	return errno ? -1 : 0;
}

int syncfs(int fd)
{
	return fsync(fd);
}

int sync_file_range(int fd, off_t at, off_t n, unsigned flags)
{
	(void)fd, (void)at, (void)n;
	bool piece = flags & SYNC_FILE_RANGE_WAIT_AFTER;
	++*(piece ? pieces : &begins);
	errno = piece ? fail_piece : fail_begin;
	return errno ? -1 : 0;
}

/* Lets the child go on. */
static void let_go(void)
{
	slow_child = slow_dirs = false;
	put_file(go, "", 0);
}

static int begin(void **state)
{
	parent = getpid();
	fake_aio_missing = true;
	fake_aio_slow = false;
	if (!pieces)
		pieces = mmap(NULL, sizeof *pieces, PROT_READ | PROT_WRITE,
		              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(pieces != MAP_FAILED);
	shift_s = 0;
	fail_parent = fail_child = fail_piece = fail_begin = begins = 0;
	fail_inode = 0;
	slow_child = slow_dirs = fail_dirs = false;
	flush_s = 0;
	int rc = setup_journal(state);
	snprintf(go, sizeof go, "%s/go", dir);
	if (!rc)
		settle();
	return rc;
}

/* ---- one flush for several ---- */

static struct spool_writer *begun(const char *text, size_t times)
{
	struct envelope env;
	simple_envelope(&env);
	struct spool_writer *w = spool_begin(sp, &env, &st);
	assert_non_null(w);
	while (times-- > 0)
		spool_append(w, text, strlen(text));
	envelope_clear(&env);
	return w;
}

static bool is_durable(const char *text)
{
	return memmem(durable, sizeof durable, text, strlen(text)) != NULL;
}

static void on_second(void *arg, const char *id, const struct status *what)
{
	on_done(arg, id, what);
	assert_int_equal(what->code, 250);
	assert_true(is_durable("second"));
	expect_content(id, 0, "second\r\n", 8);
}

static struct outcome second;

/* As a session does that had more input waiting. */
static void on_first(void *arg, const char *id, const struct status *what)
{
	on_done(arg, id, what);
	spool_commit(begun("second\r\n", 1), on_second, &second);
}

/* A message that comes between a flush and its callback is not in it. */
static void test_commit_behind_flush(void **state)
{
	(void)state;
	struct outcome first = {.done = 0}, other = {.done = 0};
	second = (struct outcome){.done = 0};
	spool_commit(begun("a large one\r\n", JOURNAL_MESSAGE_MAX / 8), on_first, &first);
	spool_commit(begun("other\r\n", 1), on_done, &other);
	turns_until(&other);
	assert_int_equal(first.done, 1);
	assert_true(is_durable("other"));
	turns_until(&second);
	assert_int_equal(count_entries("queue"), 1);
}

static struct envelope tried;

static void on_try(void *arg, const char *id, const struct status *what)
{
	size_t r = 0;
	struct status sent;
	on_done(arg, id, what);
	status_set(&sent, 250, "2.0.0", "behind the flush");
	assert_int_equal(spool_attempt(sp, &tried, &r, 1, RCPT_SENT, &sent, "", true, &st), 0);
}

/* Nor is an attempt, which has its own. */
static void test_attempt_behind_flush(void **state)
{
	(void)state;
	struct outcome first = {.done = 0}, other = {.done = 0};
	store_text(&tried, "x\r\n");
	spool_commit(begun("a large one\r\n", JOURNAL_MESSAGE_MAX / 8), on_try, &first);
	spool_commit(begun("other\r\n", 1), on_done, &other);
	turns_until(&other);
	settle();
	assert_true(is_durable("behind the flush"));
	envelope_clear(&tried);
}

/* ---- errors ---- */

/* The journal is given up because of another segment while a record waits to be written. */
static void test_other_segment_fails(void **state)
{
	(void)state;
	struct envelope first, env;
	struct stat s;
	store_text(&first, "first\r\n");
	settle();
	struct spool_reader *r = spool_read_open(sp, first.id, &st);
	assert_non_null(r);
	assert_int_equal(spool_remove(sp, first.id, &st), 0);
	assert_int_equal(stat(journal_path(0), &s), 0);
	/* When the next segment is begun this one is to say that it is empty. */
	fail_inode = s.st_ino;
	struct outcome o = {.st = {.code = 250}};
	for (int i = 0; i < 2 * JOURNAL_BYTES / 10000 && o.st.code == 250; i++) {
		o = commit(begun("a line of text\r\n", 400));
		if (o.st.code != 250)
			break;
		assert_int_equal(spool_load(sp, o.id, &env, &st), 0);
		envelope_clear(&env);
		assert_int_equal(spool_remove(sp, o.id, &st), 0);
	}
	assert_int_equal(o.st.code, 451);
	spool_read_close(r);
	envelope_clear(&first);
}

static void until_file(const char *id)
{
	for (int i = 0; i < 100 && !exists(id); i++)
		assert_int_equal(loop_turn(10), 0);
	assert_true(exists(id));
}

/* The pages of a file were not written, and who asks for its flush now is told that all is well. */
static void lose_pages(const char *id)
{
	put_file(path_of(id), "", 0);
}

static void expect_written_again(struct envelope *env)
{
	shift_s += JOURNAL_RETRY_MS / 1000 + 1;
	settle();
	expect_content(env->id, 0, "x\r\n", 3);
	envelope_clear(env);
}

/* An error of the file system, told once, may be about files that were made meanwhile. */
static void test_error_told_once(void **state)
{
	(void)state;
	struct envelope one, two;
	store_text(&one, "x\r\n");
	shift_s += 5;
	settle();
	store_text(&two, "x\r\n");
	slow_child = true;
	fail_child = EIO;
	shift_s += JOURNAL_AGE_MS / 1000 - 4;
	until_file(one.id);
	assert_int_equal(loop_turn(0), 0);
	assert_false(exists(two.id));
	shift_s += 5;
	until_file(two.id);
	lose_pages(one.id);
	lose_pages(two.id);
	fail_child = 0;
	let_go();
	settle();
	expect_written_again(&one);
	expect_content(two.id, 0, "x\r\n", 3);
	envelope_clear(&two);
}

/* Our own flush of an attempt in the file is told of the error, and the child is not. */
static void told_to_us(void)
{
	struct envelope env;
	struct status sent;
	size_t r = 0;
	store_text(&env, "x\r\n");
	settle();
	slow_child = true;
	shift_s += JOURNAL_AGE_MS / 1000 + 1;
	until_file(env.id);
	fail_parent = EIO;
	status_set(&sent, 250, "2.0.0", "sent");
	assert_int_equal(spool_attempt(sp, &env, &r, 1, RCPT_SENT, &sent, "", true, &st), 0);
	lose_pages(env.id);
	fake_aio_slow = true;
	for (int i = 0; i < 5; i++)
		assert_int_equal(loop_turn(10), 0);
	fail_parent = 0;
	let_go();
	settle();
	fake_aio_slow = false;
	disk_sync_now();
	expect_written_again(&env);
}

static void test_error_told_to_us(void **state)
{
	(void)state;
	told_to_us();
}

/* The same where the kernel makes our flushes: the child must not be through before we know. */
static void test_error_told_to_the_kernel(void **state)
{
	(void)state;
	fake_aio_missing = false;
	told_to_us();
}

/* A disk that does not keep up with deliveries holds the loop up before it takes all descriptors.
 */
static void test_records_of_a_slow_disk(void **state)
{
	(void)state;
	struct envelope env;
	struct status sent;
	size_t r = 0;
	struct outcome o =
	    commit(begun("larger than the journal takes\r\n", JOURNAL_MESSAGE_MAX / 30));
	assert_int_equal(o.st.code, 250);
	assert_int_equal(spool_load(sp, o.id, &env, &st), 0);
	status_set(&sent, 250, "2.0.0", "sent");
	fake_aio_missing = false;
	fake_aio_slow = true;
	int before = count_fds();
	for (int i = 0; i < 3 * SPOOL_RECORDS_MAX; i++) {
		assert_int_equal(spool_attempt(sp, &env, &r, 1, RCPT_SENT, &sent, "", true, &st),
		                 0);
		assert_int_equal(loop_turn(0), 0);
		assert_int_equal(loop_turn(0), 0);
		assert_in_range(count_fds(), before, before + SPOOL_RECORDS_MAX);
	}
	disk_sync_now();
	assert_int_equal(count_fds(), before);
	envelope_clear(&env);
}

/* Our own flush of the directory is told of an error; so is the child, whose files it may mean. */
static void test_error_told_to_both(void **state)
{
	(void)state;
	struct envelope env;
	struct outcome o;
	store_text(&env, "x\r\n");
	settle();
	slow_child = fail_dirs = true;
	shift_s += JOURNAL_AGE_MS / 1000 + 1;
	until_file(env.id);
	assert_int_equal(loop_turn(0), 0);
	lose_pages(env.id);
	o = commit(begun("larger than the journal takes\r\n", JOURNAL_MESSAGE_MAX / 30));
	assert_int_equal(o.st.code, 451);
	fail_dirs = false;
	let_go();
	settle();
	expect_written_again(&env);
}

/* The child that flushes the name of a new segment is told, and the one for files is not. */
static void test_error_told_to_another_child(void **state)
{
	(void)state;
	struct envelope env;
	close_without_journal();
	spool_reopen();
	slow_dirs = fail_dirs = true;
	store_text(&env, "x\r\n");
	for (int i = 0; i < 500 && access(journal_path(1), F_OK) != 0; i++)
		assert_int_equal(loop_turn(10), 0);
	assert_int_equal(access(journal_path(1), F_OK), 0);
	shift_s += JOURNAL_AGE_MS / 1000 + 1;
	until_file(env.id);
	lose_pages(env.id);
	let_go();
	settle();
	fail_dirs = false;
	expect_written_again(&env);
}

/* A child that is ended at the end of the program may have been told. */
static void test_error_told_to_the_dead(void **state)
{
	(void)state;
	struct envelope env;
	store_text(&env, "x\r\n");
	slow_child = true;
	shift_s += JOURNAL_AGE_MS / 1000 + 1;
	until_file(env.id);
	assert_int_equal(loop_turn(10), 0);
	lose_pages(env.id);
	spool_reopen();
	expect_content(env.id, 0, "x\r\n", 3);
	envelope_clear(&env);
}

/* An end has its time: what is no file by then is in the journal, and there again. */
static void test_end_in_time(void **state)
{
	(void)state;
	static struct outcome kept[JOURNAL_FILES_MAX * 2];
	const size_t count = JOURNAL_FILES_MAX * 2;
	struct envelope env;
	for (size_t i = 0; i < count; i++) {
		store_text(&env, "x\r\n");
		memcpy(kept[i].id, env.id, sizeof kept[i].id);
		envelope_clear(&env);
	}
	flush_s = JOURNAL_STOP_MS / 1000 + 1;
	spool_close(sp);
	sp = NULL;
	flush_s = 0;
	size_t files = 0;
	for (size_t i = 0; i < count; i++)
		if (exists(kept[i].id)) {
			/* As a program does that knows nothing of the journal. */
			assert_int_equal(unlink(path_of(kept[i].id)), 0);
			kept[i].id[0] = '\0';
			files++;
		}
	assert_int_equal(files, JOURNAL_FILES_MAX);
	spool_reopen();
	while (journal_replay_go_on(sp) > 0) {
	}
	for (size_t i = 0; i < count; i++) {
		if (!kept[i].id[0])
			continue;
		expect_content(kept[i].id, 0, "x\r\n", 3);
		assert_int_equal(spool_remove(sp, kept[i].id, &st), 0);
	}
	spool_reopen();
	assert_int_equal(count_entries("queue"), 0);
}

/* A child of a daemon that was killed has put its file, not yet whole, where ours was. */
static void test_file_of_another_child(void **state)
{
	(void)state;
	char path[128];
	struct stat s;
	struct outcome o;
	snprintf(path, sizeof path, "%s/queue/.journal.new", dir);
	close_without_journal();
	slow_child = true;
	spool_reopen();
	bool whole = false;
	for (int i = 0; i < 200 && !whole; i++) {
		char c = '\n';
		assert_int_equal(loop_turn(10), 0);
		int fd = open(path, O_RDONLY);
		whole = fd >= 0 && read(fd, &c, 1) == 1 && c == 'r';
		if (fd >= 0)
			close(fd);
	}
	assert_true(whole);
	unlink(path);
	put_file(path, "\n\n\n\n", 4);
	let_go();
	settle();
	o = commit(begun("x\r\n", 1));
	assert_int_equal(o.st.code, 250);
	for (int i = 0; i < JOURNAL_SEGMENTS; i++)
		if (stat(journal_path(i), &s) == 0)
			assert_int_equal(s.st_size, JOURNAL_BYTES);
}

/* A new segment is given to the disk in pieces; what one of them tells, the
 * flush does not. The last is that flush's. */
static void test_segment_in_pieces(void **state)
{
	(void)state;
	close_without_journal();
	fail_piece = EIO;
	spool_reopen();
	settle();
	assert_int_equal(access(journal_path(0), F_OK), 0);
	assert_int_not_equal(access(journal_path(1), F_OK), 0);
	fail_piece = 0;
	*pieces = 0;
	shift_s += JOURNAL_AGAIN_MS / 1000 + 1;
	for (int i = 0; i < 500 && access(journal_path(1), F_OK) != 0; i++)
		assert_int_equal(loop_turn(10), 0);
	assert_int_equal(access(journal_path(1), F_OK), 0);
	assert_int_equal(*pieces, JOURNAL_BYTES / JOURNAL_PIECE - 1);
}

/* A large message's file is begun to be written when it is made; what that tells, no flush does. */
static void test_large_file_begun(void **state)
{
	(void)state;
	static char text[JOURNAL_EARLY + 2];
	struct envelope env;
	store_text(&env, "x\r\n");
	shift_s += JOURNAL_AGE_MS / 1000 + 1;
	until_file(env.id);
	assert_int_equal(begins, 0);
	envelope_clear(&env);
	for (size_t i = 0; i + 1 < sizeof text; i++)
		text[i] = i % 64 == 63 ? '\n' : 'x';
	store_text(&env, text);
	fail_begin = EIO;
	shift_s += JOURNAL_AGE_MS / 1000 + 1;
	for (int i = 0; i < 500 && begins == 0; i++)
		assert_int_equal(loop_turn(10), 0);
	assert_int_equal(begins, 1);
	assert_false(exists(env.id));
	fail_begin = 0;
	shift_s += JOURNAL_RETRY_MS / 1000 + 1;
	until_file(env.id);
	settle();
	expect_content(env.id, 0, text, strlen(text));
	envelope_clear(&env);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_commit_behind_flush, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_attempt_behind_flush, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_other_segment_fails, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_error_told_once, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_error_told_to_us, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_error_told_to_the_kernel, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_records_of_a_slow_disk, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_error_told_to_both, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_error_told_to_another_child, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_error_told_to_the_dead, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_end_in_time, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_file_of_another_child, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_segment_in_pieces, begin, teardown),
	    cmocka_unit_test_setup_teardown(test_large_file_begun, begin, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
