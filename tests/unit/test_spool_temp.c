/* Tests of spool_temp_file, also where the file system makes no files without a name. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk.h"
#include "loop.h"
#include "spool.h"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];
static struct spool *spool;
static bool old_file_system;
static bool disk_full;
static bool no_unlink;

/* In front of the library's. */
int openat(int at, const char *path, int flags, ...)
{
	bool unnamed = (flags & O_TMPFILE) == O_TMPFILE;
	unsigned mode = 0;
	if (unnamed || flags & O_CREAT) {
		va_list ap;
		va_start(ap, flags);
		mode = va_arg(ap, unsigned);
		va_end(ap);
		if (disk_full || (unnamed && old_file_system)) {
			errno = disk_full ? ENOSPC : EOPNOTSUPP;
			return -1;
		}
	}
	return (int)syscall(SYS_openat, at, path, flags, mode);
}

int unlinkat(int at, const char *path, int flags)
{
	if (no_unlink) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_unlinkat, at, path, flags);
}

static int count(const char *path)
{
	int n = 0;
	const struct dirent *e;
	DIR *d = opendir(path);
	assert_non_null(d);
	while ((e = readdir(d)))
		n++;
	closedir(d);
	return n - 2;
}

static const char *in_queue(const char *name)
{
	static char path[100];
	snprintf(path, sizeof path, "%s/queue/%s", dir, name);
	return path;
}

static int setup(void **state)
{
	struct status st;
	(void)state;
	assert_int_equal(temp_dir_make(dir, sizeof dir), 0);
	old_file_system = disk_full = no_unlink = false;
	assert_int_equal(loop_init(), 0);
	disk_init();
	spool = spool_open(dir, &st);
	assert_non_null(spool);
	/* The journal's files do without their names. */
	unlink(in_queue(".journal.0"));
	unlink(in_queue(".journal.1"));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	spool_close(spool);
	loop_done();
	return temp_dir_remove();
}

/* Empty, to be written and read, private, closed on exec, on the queue's disk, without a name. */
static void check_file(void)
{
	struct status st;
	struct stat info;
	struct stat queue;
	char text[8];
	int fd = spool_temp_file(spool, &st);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &info), 0);
	assert_int_equal(stat(in_queue(""), &queue), 0);
	assert_true(S_ISREG(info.st_mode));
	assert_int_equal(info.st_mode & 0777, 0600);
	assert_int_equal(info.st_size, 0);
	assert_int_equal(info.st_nlink, 0);
	assert_int_equal(info.st_dev, queue.st_dev);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(write(fd, "hello", 5), 5);
	assert_int_equal(pread(fd, text, sizeof text, 0), 5);
	assert_int_equal(count(in_queue("")), 0);
	close(fd);
}

static void test_without_a_name(void **state)
{
	(void)state;
	check_file();
	check_file();
}

static void test_with_a_name(void **state)
{
	(void)state;
	old_file_system = true;
	check_file();
	check_file();
}

/* A crash came between create and unlink; or somebody planted a link. */
static void test_leftover(void **state)
{
	(void)state;
	old_file_system = true;
	int fd = creat(in_queue(".temp"), 0644);
	assert_int_equal(write(fd, "old", 3), 3);
	close(fd);
	check_file();
	assert_int_equal(symlink("/dev/null", in_queue(".temp")), 0);
	check_file();
}

static void not_reported(void *arg, const struct spool_found *f)
{
	(void)arg;
	fail_msg("reported: %s", f->id);
}

static void test_scan_ignores_it(void **state)
{
	struct status st;
	int rc;
	(void)state;
	close(creat(in_queue(".temp"), 0600));
	while ((rc = spool_scan(spool, not_reported, NULL, &st)) > 0)
		;
	assert_int_equal(rc, 0);
	assert_int_equal(count(in_queue("")), 1);
}

static void test_failures(void **state)
{
	struct status st;
	(void)state;
	disk_full = true;
	assert_int_equal(spool_temp_file(spool, &st), -1);
	assert_int_equal(st.code, 452);
	disk_full = false;
	old_file_system = no_unlink = true;
	int next = dup(0);
	close(next);
	assert_int_equal(spool_temp_file(spool, &st), -1);
	assert_int_equal(st.code, 451);
	assert_int_equal(dup(0), next);
	close(next);
	no_unlink = false;
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_without_a_name),  CASE(test_with_a_name), CASE(test_leftover),
	    CASE(test_scan_ignores_it), CASE(test_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
