/*
 * test_disk: the barrier and the atomic replacement. fsync and renameat of the C library are
 * replaced here: what was flushed, and in which order, is what the tests ask for, and they can make
 * it fail. So is the clock, which stands still but for what a flush is said to take.
 * link: fake_disk_aio.c
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "disk.h"
#include "disk_aio.h"
#include "fake_disk_aio.h"
#include "loop.h"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];
static int dir_fd;

/* ---- what was done to the disk: 'f' file flushed, 'd' directory, 'r' renamed, 'j' only data ----
 */

static char done_calls[256];
static size_t done_count;
static int fail_fd = -1; /* fsync of this descriptor says EIO */
static int fail_begin;   /* the begin of its flush says this instead */
static int fail_dirs;    /* fsync of every directory says EIO */
static int fail_rename;
static enum {
	SOUND,
	LOST,
	TOLD,
	NOTICED
} journal; /* of the file system: who knows that it failed */
static int64_t clock_us;
static int64_t flush_us; /* a flush of a file takes so long */

static void note(char c)
{
	if (done_count < sizeof done_calls - 1)
		done_calls[done_count++] = c;
	done_calls[done_count] = '\0';
}

static void forget(void)
{
	done_count = 0;
	done_calls[0] = '\0';
}

/* As ext4 does it when its journal could not be written. */
static int ask_journal(void)
{
	errno = journal == LOST ? EIO : EROFS;
	bool fails = journal == LOST || journal == NOTICED;
	if (journal == LOST)
		journal = TOLD;
	return fails ? -1 : 0;
}

int futimens(int fd, const struct timespec times[2])
{
	(void)fd, (void)times;
	if (journal == TOLD)
		journal = NOTICED;
	return 0; /* they are noted in memory */
}

int fsync(int fd)
{
	struct stat s;
	if (fstat(fd, &s) == 0)
		note(S_ISDIR(s.st_mode) ? 'd' : 'f');
	clock_us += flush_us;
	if (journal != SOUND)
		return ask_journal();
	if ((fd == fail_fd && !fail_begin) ||
	    (fail_dirs && done_count > 0 && done_calls[done_count - 1] == 'd')) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	(void)fd;
	note('j');
	return 0;
}

int sync_file_range(int fd, off64_t from, off64_t n, unsigned flags)
{
	(void)from, (void)n, (void)flags;
	errno = fail_begin;
	return fd == fail_fd && errno ? -1 : 0;
}

int clock_gettime(clockid_t which, struct timespec *ts)
{
	(void)which;
	*ts = (struct timespec){.tv_sec = (time_t)(1000 + clock_us / 1000000),
	                        .tv_nsec = (long)(clock_us % 1000000 * 1000)};
	return 0;
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	note('r');
	if (fail_rename) {
		errno = EROFS;
		return -1;
	}
	return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

/* ---- requests ---- */

struct request {
	struct disk_sync sync;
	int done;
	int error;
	int place; /* in the order of the callbacks */
	struct request *cancel;
	struct request *renew;
	int now;
};

static int places;

static void request_done(void *arg, int error)
{
	struct request *r = arg;
	r->done++;
	r->error = error;
	r->place = places++;
	if (r->cancel)
		disk_sync_cancel(&r->cancel->sync);
	if (r->renew)
		disk_sync(&r->renew->sync);
	if (r->now)
		disk_sync_now();
}

static int new_file(void)
{
	int fd = temp_dir_file(dir);
	assert_true(fd >= 0);
	return fd;
}

static void prepare(struct request *r, int fd, int directory)
{
	*r = (struct request){
	    .sync = {.fd = fd, .dir_fd = directory, .done = request_done, .arg = r}};
}

static void turn(void)
{
	assert_int_equal(loop_turn(0), 0);
}

static int setup(void **state)
{
	(void)state;
	if (temp_dir_make(dir, sizeof dir) || loop_init())
		return -1;
	disk_init();
	dir_fd = disk_open_dir(dir);
	places = 0;
	fail_fd = -1;
	fail_begin = fail_dirs = 0;
	fake_aio_missing = true;
	fake_aio_slow = false;
	journal = SOUND;
	clock_us = flush_us = 0;
	forget();
	return dir_fd >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	close(dir_fd);
	loop_done();
	return temp_dir_remove();
}

static void test_one_directory_flush_a_batch(void **state)
{
	(void)state;
	struct request r[5];
	for (int i = 0; i < 5; i++) {
		prepare(&r[i], new_file(), i == 3 ? -1 : dir_fd);
		disk_sync(&r[i].sync);
		assert_int_equal(r[i].done, 0);
	}
	turn();
	assert_string_equal(done_calls, "fffffd"); /* files first */
	for (int i = 0; i < 5; i++) {
		assert_int_equal(r[i].done, 1);
		assert_int_equal(r[i].error, 0);
		assert_int_equal(r[i].place, i);
		close(r[i].sync.fd);
	}
	turn();
	assert_int_equal(places, 5);
	forget();
	prepare(&r[0], -1, dir_fd);
	disk_sync(&r[0].sync);
	turn();
	assert_string_equal(done_calls, "d");
	assert_int_equal(r[0].done, 1);
}

static void test_several_directories(void **state)
{
	(void)state;
	struct request r[4];
	int other = disk_open_dir("/tmp");
	for (int i = 0; i < 4; i++) {
		prepare(&r[i], -1, i % 2 ? other : dir_fd);
		disk_sync(&r[i].sync);
	}
	fail_fd = other;
	disk_sync_now(); /* the same for an orderly end, without the loop */
	assert_string_equal(done_calls, "dd");
	for (int i = 0; i < 4; i++)
		assert_int_equal(r[i].error, i % 2 ? EIO : 0);
	disk_sync_now();
	assert_int_equal(places, 4);
	close(other);
}

static void test_error_hits_only_its_own(void **state)
{
	(void)state;
	struct request r[4];
	for (int i = 0; i < 4; i++) {
		prepare(&r[i], new_file(), dir_fd);
		disk_sync(&r[i].sync);
	}
	close(r[1].sync.fd);
	fail_fd = r[2].sync.fd;
	turn();
	static const int want[] = {0, EBADF, EIO, 0};
	for (int i = 0; i < 4; i++) {
		assert_int_equal(r[i].done, 1);
		assert_int_equal(r[i].error, want[i]);
		if (i != 1)
			close(r[i].sync.fd);
	}
}

/* The kernel tells of pages that it could not write once: whoever is told first, the file is lost.
 */
static void test_error_at_the_begin_of_a_flush(void **state)
{
	(void)state;
	static const int says[] = {EIO, ENOSPC, EDQUOT, ENOSYS, EINVAL, ESPIPE};
	for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
		struct request r[2];
		for (int k = 0; k < 2; k++) {
			prepare(&r[k], new_file(), dir_fd);
			disk_sync(&r[k].sync);
		}
		fail_fd = r[1].sync.fd;
		fail_begin = says[i];
		turn();
		assert_int_equal(r[0].error, 0);
		assert_int_equal(r[1].error, i < 3 ? says[i] : 0);
		for (int k = 0; k < 2; k++)
			close(r[k].sync.fd);
	}
}

/* ---- by the kernel, while the loop goes on ---- */

/* Asks for the flush of a file and its directory. */
static void ask(struct request *r)
{
	prepare(r, new_file(), dir_fd);
	disk_sync(&r->sync);
}

/* As the journal does. */
static void ask_data(struct request *r)
{
	prepare(r, new_file(), -1);
	r->sync.data_only = true;
	disk_sync(&r->sync);
}

static void drop(struct request *r, int n)
{
	for (int i = 0; i < n; i++)
		close(r[i].sync.fd);
}

/* With fewer at a time they are too many for one batch. */
static void skip_small(void)
{
	if (DISK_AIO_MAX < 8)
		skip();
}

static void test_away(void **state)
{
	(void)state;
	struct request r[4], over[2];
	skip_small();
	fake_aio_missing = false;
	fake_aio_slow = true;
	ask(&r[0]);
	ask(&r[1]);
	ask_data(&over[0]);
	turn();
	assert_string_equal(done_calls, "ffdj");
	assert_int_equal(over[0].done, 1); /* the loop went on */
	assert_int_equal(r[0].done, 0);
	/* Who comes meanwhile waits for the next batch, but for the journal. */
	forget();
	ask(&r[2]);
	ask_data(&over[1]);
	turn();
	assert_string_equal(done_calls, "j");
	assert_int_equal(over[1].done, 1);
	forget();
	disk_sync_now();
	assert_string_equal(done_calls, "fd");
	for (int i = 0; i < 3; i++)
		assert_int_equal(r[i].place, i + 2);
	/* The next batch begins by itself when one is back. */
	fake_aio_slow = false;
	ask(&r[3]);
	for (int i = 0; i < 3; i++)
		turn();
	assert_int_equal(r[3].done, 1);
	drop(r, 4);
	drop(over, 2);
}

static void test_away_more_than_fit(void **state)
{
	(void)state;
	struct request r[DISK_AIO_MAX + 1];
	skip_small();
	fake_aio_missing = false;
	fake_aio_slow = true;
	for (int i = 0; i < DISK_AIO_MAX; i++)
		ask(&r[i]);
	turn();
	assert_int_equal(fake_aio_count(), DISK_AIO_MAX / 2 + 1); /* and one directory for all */
	fake_aio_slow = false;
	for (int i = 0; i < 6; i++)
		turn();
	disk_sync_now();
	for (int i = 0; i < DISK_AIO_MAX; i++)
		assert_int_equal(r[i].place, i);
	drop(r, DISK_AIO_MAX);
}

static void test_away_error(void **state)
{
	(void)state;
	struct request r[3];
	skip_small();
	fake_aio_missing = false;
	for (int i = 0; i < 3; i++)
		ask(&r[i]);
	fail_fd = r[1].sync.fd;
	turn();
	turn();
	/* The others are asked once more. */
	assert_string_equal(done_calls, "fffdffd");
	for (int i = 0; i < 3; i++)
		assert_int_equal(r[i].error, i == 1 ? EIO : 0);
	drop(r, 3);
	forget();
	fail_dirs = 1;
	ask(&r[0]);
	turn();
	turn();
	assert_int_equal(r[0].error, EIO);
	drop(r, 1);
}

static void test_away_cancelled(void **state)
{
	(void)state;
	struct request r[4];
	skip_small();
	fake_aio_missing = false;
	fake_aio_slow = true;
	for (int i = 0; i < 3; i++)
		ask(&r[i]);
	turn();
	disk_sync_cancel(&r[2].sync);
	disk_sync_cancel(&r[0].sync);
	drop(r, 1);
	ask(&r[3]);
	disk_sync_now();
	static const int want[] = {0, 1, 0, 1};
	for (int i = 0; i < 4; i++)
		assert_int_equal(r[i].done, want[i]);
	/* All of them. */
	ask(&r[0]);
	turn();
	disk_sync_cancel(&r[0].sync);
	disk_sync_now();
	assert_int_equal(r[0].done, 0);
	drop(r, 4);
}

/* A file system that has lost what it was to write says so but once, perhaps to somebody else. */
static void test_told_once(void **state)
{
	(void)state;
	enum { MOST = 5 };
	struct request r[MOST];
	int other = disk_open_dir("/tmp");
	for (int n = 1; n <= MOST; n++)
		for (int how = 0; how < 8; how++) {
			bool files = how & 1;
			fake_aio_missing = how & 2;
			for (int i = 0; i < n; i++) {
				prepare(&r[i], files ? new_file() : -1, i ? other : dir_fd);
				disk_sync(&r[i].sync);
			}
			journal = how & 4 ? TOLD : LOST;
			for (int turns = 0; turns < 2 * MOST; turns++)
				turn();
			journal = SOUND;
			for (int i = 0; i < n; i++) {
				assert_int_equal(r[i].done, 1);
				assert_int_not_equal(r[i].error, 0);
				if (files)
					close(r[i].sync.fd);
			}
		}
	close(other);
}

/* Nor is it said again to who has changed a directory while its flush was under way. */
static void test_told_to_the_batch_before(void **state)
{
	(void)state;
	struct request r[3];
	skip_small();
	fake_aio_missing = false;
	fake_aio_slow = true;
	for (int cancelled = 0; cancelled < 2; cancelled++) {
		int other = disk_open_dir("/tmp");
		fail_dirs = 1;
		prepare(&r[0], -1, dir_fd);
		disk_sync(&r[0].sync);
		turn();
		fail_dirs = 0;
		prepare(&r[1], -1, dir_fd);
		prepare(&r[2], -1, other);
		disk_sync(&r[1].sync);
		disk_sync(&r[2].sync);
		if (cancelled)
			disk_sync_cancel(&r[0].sync);
		disk_aio_wait();
		turn();
		assert_int_equal(r[0].done, !cancelled);
		disk_aio_wait();
		assert_int_equal(r[1].error, EIO);
		assert_int_equal(r[2].done, 1);
		assert_int_equal(r[2].error, 0);
		/* The next one is flushed anew. */
		prepare(&r[1], -1, dir_fd);
		disk_sync(&r[1].sync);
		disk_sync_now();
		assert_int_equal(r[1].done, 1);
		assert_int_equal(r[1].error, 0);
		close(other);
	}
}

/* Nor to who is away when the loop hears of it. */
static void test_told_to_the_loop(void **state)
{
	(void)state;
	struct request r[2];
	skip_small();
	fake_aio_missing = false;
	fake_aio_slow = true;
	ask(&r[0]);
	turn();
	journal = LOST;
	prepare(&r[1], new_file(), -1);
	r[1].sync.here = true;
	disk_sync(&r[1].sync);
	turn();
	assert_int_equal(r[1].error, EIO);
	assert_int_equal(r[0].done, 0);
	disk_sync_now();
	journal = SOUND;
	assert_int_equal(r[0].error, EROFS);
	drop(r, 2);
}

static void test_cancel(void **state)
{
	(void)state;
	struct request r[5];
	for (int i = 0; i < 5; i++)
		prepare(&r[i], -1, dir_fd);
	disk_sync_cancel(&r[0].sync); /* harmless before it is asked */
	for (int i = 0; i < 5; i++)
		disk_sync(&r[i].sync);
	disk_sync_cancel(&r[0].sync);
	disk_sync_cancel(&r[0].sync);
	r[1].cancel = &r[3]; /* within a callback of the same batch */
	r[2].cancel = &r[1]; /* one that is through */
	turn();
	assert_int_equal(r[0].done, 0);
	assert_int_equal(r[1].done, 1);
	assert_int_equal(r[2].done, 1);
	assert_int_equal(r[3].done, 0);
	assert_int_equal(r[4].done, 1);
	disk_sync(&r[0].sync); /* and may be asked again */
	turn();
	assert_int_equal(r[0].done, 1);
	/* All cancelled: nothing happens. */
	forget();
	disk_sync(&r[0].sync);
	disk_sync_cancel(&r[0].sync);
	turn();
	assert_string_equal(done_calls, "");
}

static void test_asked_within_a_callback(void **state)
{
	(void)state;
	struct request r[3];
	for (int i = 0; i < 3; i++)
		prepare(&r[i], -1, dir_fd);
	r[0].renew = &r[2];
	disk_sync(&r[0].sync);
	disk_sync(&r[1].sync);
	turn();
	assert_int_equal(r[1].done, 1);
	assert_int_equal(r[2].done, 0); /* the next batch, with a flush of its own */
	forget();
	turn();
	assert_string_equal(done_calls, "d");
	assert_int_equal(r[2].done, 1);
}

static void test_flushed_within_a_callback(void **state)
{
	(void)state;
	struct request r[4];
	for (int i = 0; i < 4; i++)
		prepare(&r[i], -1, dir_fd);
	r[0].renew = &r[3];
	r[0].now = 1;
	for (int i = 0; i < 3; i++)
		disk_sync(&r[i].sync);
	turn();
	for (int i = 0; i < 4; i++) {
		assert_int_equal(r[i].done, 1);
		assert_int_equal(r[i].place, i); /* in the order they were asked for */
	}
	assert_string_equal(done_calls, "dd");
}

static void expect_content(const char *name, const char *want)
{
	char got[100] = "";
	int fd = openat(dir_fd, name, O_RDONLY);
	assert_true(fd >= 0);
	assert_true(read(fd, got, sizeof got - 1) >= 0);
	close(fd);
	assert_string_equal(got, want);
}

static void expect_missing(const char *name)
{
	assert_int_equal(faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW), -1);
}

static void ready(void *arg, unsigned events)
{
	(void)arg;
	(void)events;
}

/* How long a request waits while a socket always has something to read. */
static int64_t waits_us(struct request *r)
{
	static const int64_t step = 100;
	prepare(r, new_file(), -1);
	int64_t start = clock_us;
	int64_t waited = 0;
	turn();
	disk_sync(&r->sync);
	for (; !r->done; waited = clock_us - start) {
		assert_true(waited < 1000000);
		clock_us += step;
		turn();
	}
	close(r->sync.fd);
	return waited - flush_us;
}

static void test_waits_as_long_as_a_flush_takes(void **state)
{
	(void)state;
	const int64_t slow = LOOP_BATCH_US * 2 + 1000;
	struct request r;
	struct loop_fd busy;
	int p[2];
	assert_int_equal(pipe2(p, O_NONBLOCK | O_CLOEXEC), 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	loop_fd_init(&busy, ready, NULL);
	assert_int_equal(loop_fd_watch(&busy, p[0], LOOP_READ), 0);
	assert_int_equal(waits_us(&r), LOOP_BATCH_US);
	flush_us = slow;
	assert_int_equal(waits_us(&r), LOOP_BATCH_US);
	assert_int_equal(waits_us(&r), slow);
	flush_us = DISK_BATCH_MAX_US * 10; /* one that was very slow */
	assert_int_equal(waits_us(&r), slow);
	flush_us = 10;
	assert_int_equal(waits_us(&r), DISK_BATCH_MAX_US);
	assert_int_equal(waits_us(&r), LOOP_BATCH_US);
	flush_us = slow;
	waits_us(&r);
	/* And not at all when there is nothing to wait for. */
	loop_fd_want(&busy, 0);
	assert_int_equal(waits_us(&r), 100);
	loop_fd_unwatch(&busy);
	close(p[0]);
	close(p[1]);
}

static void test_replace(void **state)
{
	(void)state;
	struct stat s;
	umask(022);
	assert_int_equal(disk_replace(dir_fd, "a", "one", 3, 0640), 0);
	assert_string_equal(done_calls, "frd"); /* content, then the name, then the directory */
	expect_content("a", "one");
	assert_int_equal(fstatat(dir_fd, "a", &s, 0), 0);
	assert_int_equal(s.st_mode & 07777, 0640);
	/* What a crash left, here a link to something else, is in nobody's way. */
	assert_int_equal(symlinkat("a", dir_fd, ".a.new"), 0);
	assert_int_equal(disk_replace(dir_fd, "a", "", 0, 0600), 0);
	expect_content("a", "");
	expect_missing(".a.new");
	assert_int_equal(disk_replace(dir_fd, "a", "two", 3, 0600), 0);
	fail_rename = 1;
	assert_int_equal(disk_replace(dir_fd, "a", "three", 5, 0600), -1);
	assert_int_equal(errno, EROFS);
	fail_rename = 0;
	expect_content("a", "two");
	expect_missing(".a.new");
	char name[300];
	memset(name, 'n', 299);
	name[299] = '\0';
	assert_int_equal(disk_replace(dir_fd, name, "x", 1, 0600), -1);
	assert_int_equal(errno, ENAMETOOLONG);
}

static void test_replace_on_a_full_disk(void **state)
{
	(void)state;
	struct rlimit old;
	struct rlimit rl;
	char big[5000] = "";
	assert_int_equal(disk_replace(dir_fd, "a", "old", 3, 0600), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	rl = old;
	rl.rlim_cur = 4096;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &rl), 0);
	int rc = disk_replace(dir_fd, "a", big, sizeof big, 0600);
	int error = errno;
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(rc, -1);
	assert_int_equal(error, EFBIG);
	expect_content("a", "old");
	expect_missing(".a.new");
}

static void test_make_dirs(void **state)
{
	(void)state;
	char path[200];
	struct stat s;
	snprintf(path, sizeof path, "%s/a//b/c/", dir);
	assert_int_equal(disk_make_dirs(path, 0700), 0);
	assert_string_equal(done_calls, "ddd"); /* each new entry is durable */
	assert_int_equal(stat(path, &s), 0);
	assert_true(S_ISDIR(s.st_mode));
	assert_int_equal(s.st_mode & 0777, 0700);
	forget();
	assert_int_equal(disk_make_dirs(path, 0700), 0);
	assert_int_equal(disk_make_dirs("/", 0700), 0);
	assert_int_equal(disk_make_dirs("/tmp", 0700), 0);
	assert_string_equal(done_calls, "");
	assert_int_equal(disk_make_dirs("", 0700), -1);
	/* Something that is no directory has the name. */
	close(openat(dir_fd, "f", O_CREAT | O_WRONLY, 0600));
	snprintf(path, sizeof path, "%s/f", dir);
	assert_int_equal(disk_make_dirs(path, 0700), -1);
	assert_int_equal(errno, ENOTDIR);
	snprintf(path, sizeof path, "%s/f/g", dir);
	assert_int_equal(disk_make_dirs(path, 0700), -1);
	assert_int_equal(errno, ENOTDIR);
	/* A link to a directory is as good as one. */
	assert_int_equal(symlinkat("a", dir_fd, "l"), 0);
	snprintf(path, sizeof path, "%s/l/x", dir);
	assert_int_equal(disk_make_dirs(path, 0700), 0);
	/* Relative to where we are. */
	assert_int_equal(fchdir(dir_fd), 0);
	assert_int_equal(disk_make_dirs("r/s", 0700), 0);
	assert_int_equal(faccessat(dir_fd, "r/s", F_OK, 0), 0);
	assert_int_equal(chdir("/"), 0);
	char long_path[5000];
	memset(long_path, 'x', sizeof long_path - 1);
	long_path[sizeof long_path - 1] = '\0';
	assert_int_equal(disk_make_dirs(long_path, 0700), -1);
	assert_int_equal(errno, ENAMETOOLONG);
}

/* Made, but not for good: it must not be found there the next time. */
static void test_make_dirs_not_durable(void **state)
{
	(void)state;
	char path[200];
	snprintf(path, sizeof path, "%s/a/b", dir);
	fail_dirs = 1;
	assert_int_equal(disk_make_dirs(path, 0700), -1);
	assert_int_equal(errno, EIO);
	expect_missing("a");
	fail_dirs = 0;
	forget();
	assert_int_equal(disk_make_dirs(path, 0700), 0);
	assert_string_equal(done_calls, "dd");
}

static void test_lock(void **state)
{
	(void)state;
	int other = disk_open_dir(dir);
	assert_true(other >= 0);
	assert_int_equal(disk_lock(dir_fd, 0), 0);
	assert_int_equal(disk_lock(other, 50), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	close(dir_fd);
	assert_int_equal(disk_lock(other, 0), 0);
	close(other);
	dir_fd = disk_open_dir(dir);
}

static void test_write(void **state)
{
	(void)state;
	int fd = new_file();
	int p[2];
	static char big[300000];
	assert_int_equal(disk_write(fd, "abc", 3), 0);
	assert_int_equal(disk_write(fd, "", 0), 0);
	assert_int_equal(disk_write(fd, big, sizeof big), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), 3 + sizeof big);
	close(fd);
	assert_int_equal(disk_write(fd, "x", 1), -1);
	assert_int_equal(errno, EBADF);
	/* Short writes: a full pipe takes a part, then says so. */
	assert_int_equal(pipe2(p, O_NONBLOCK), 0);
	assert_int_equal(disk_write(p[1], big, sizeof big), -1);
	assert_int_equal(errno, EAGAIN);
	close(p[0]);
	close(p[1]);
}

static void test_free_space(void **state)
{
	(void)state;
	bool no_inodes = true;
	assert_true(disk_free(dir_fd, &no_inodes) > 0);
	assert_false(no_inodes);
	no_inodes = true;
	assert_int_equal(disk_free(-1, &no_inodes), INT64_MAX);
	assert_false(no_inodes);
	assert_int_equal(disk_open_dir("/nonexistent"), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(disk_open_dir("/dev/null"), -1);
	assert_int_equal(errno, ENOTDIR);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_one_directory_flush_a_batch),
	    CASE(test_several_directories),
	    CASE(test_error_hits_only_its_own),
	    CASE(test_error_at_the_begin_of_a_flush),
	    CASE(test_away),
	    CASE(test_away_more_than_fit),
	    CASE(test_away_error),
	    CASE(test_away_cancelled),
	    CASE(test_told_once),
	    CASE(test_told_to_the_batch_before),
	    CASE(test_told_to_the_loop),
	    CASE(test_cancel),
	    CASE(test_asked_within_a_callback),
	    CASE(test_flushed_within_a_callback),
	    CASE(test_waits_as_long_as_a_flush_takes),
	    CASE(test_replace),
	    CASE(test_replace_on_a_full_disk),
	    CASE(test_make_dirs),
	    CASE(test_make_dirs_not_durable),
	    CASE(test_lock),
	    CASE(test_write),
	    CASE(test_free_space),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
