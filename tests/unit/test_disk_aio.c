/* test_disk_aio: flushes that the real kernel makes, where it does. */
#include "disk_aio.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#endif

#include <cmocka.h>

#include "config.h"
#include "loop.h"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];
enum { ROOM = DISK_AIO_MAX > 4 ? DISK_AIO_MAX : 4 };

static unsigned ends[ROOM];
static int error_of[ROOM];
static unsigned again; /* begun when one has ended: so many */
static int again_fd;

static void ended(unsigned number, int error)
{
	ends[number]++;
	error_of[number] = error;
	if (again > 0)
		assert_true(disk_aio_begin(--again, again_fd));
}

static int setup(void **state)
{
	(void)state;
	memset(ends, 0, sizeof ends);
	again = 0;
	if (temp_dir_make(dir, sizeof dir) || loop_init())
		return -1;
	disk_aio_init(ended);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	disk_aio_init(ended); /* closes what is open */
	loop_done();
	return temp_dir_remove();
}

static int new_file(void)
{
	int fd = temp_dir_file(dir);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), 1);
	return fd;
}

static void skip_without(void)
{
	int fd = new_file();
	bool there = disk_aio_is_there() && disk_aio_begin(0, fd);
	close(fd);
	if (!there) {
		print_message("this kernel makes no flushes for others\n");
		skip();
	}
	assert_true(disk_aio_wait());
	memset(ends, 0, sizeof ends);
}

/* The descriptors are not needed until then. */
static void test_from_the_loop(void **state)
{
	(void)state;
	skip_without();
	int fd = new_file();
	int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(disk_aio_begin(0, fd));
	assert_true(disk_aio_begin(3, dir_fd));
	close(fd);
	close(dir_fd);
	assert_int_equal(ends[0] + ends[3], 0);
	for (int i = 0; i < 1000 && ends[0] + ends[3] < 2; i++)
		loop_turn(10);
	assert_int_equal(ends[0], 1);
	assert_int_equal(ends[3], 1);
	assert_int_equal(error_of[0], 0);
}

/* All that may be, each with its own end; others begin meanwhile. */
static void test_all_at_once(void **state)
{
	(void)state;
	skip_without();
	if (DISK_AIO_MAX < ROOM)
		skip();
	int fd = again_fd = new_file();
	for (unsigned i = 0; i < ROOM; i++)
		assert_true(disk_aio_begin(i, fd));
	again = 4;
	unsigned n = 0;
	while (n < ROOM + 4) {
		assert_true(disk_aio_wait());
		n = 0;
		for (unsigned i = 0; i < ROOM; i++)
			n += ends[i];
	}
	for (unsigned i = 0; i < ROOM; i++)
		assert_int_equal(ends[i], i < 4 ? 2 : 1);
	close(fd);
}

/* What cannot be flushed is not begun, and the others go on. */
static void test_not_begun(void **state)
{
	(void)state;
	skip_without();
	int fd = new_file();
	assert_false(disk_aio_begin(0, 1000000));
	assert_true(disk_aio_begin(1, fd));
	assert_true(disk_aio_wait());
	assert_int_equal(ends[0], 0);
	assert_int_equal(ends[1], 1);
	close(fd);
}

#if defined(__linux__) && defined(SYS_io_getevents)
/* A container's filter that forgot it: an end would never be told of. */
static void test_filtered(void **state)
{
	(void)state;
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_getevents, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	int status;
	skip_without();
	pid_t pid = fork();
	if (pid == 0) {
		disk_aio_init(ended);
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
			_exit(2);
		_exit(disk_aio_is_there() || disk_aio_begin(0, 0));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 2)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}
#else
static void test_filtered(void **state)
{
	(void)state;
	skip();
}
#endif

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_from_the_loop),
	    CASE(test_all_at_once),
	    CASE(test_not_begun),
	    CASE(test_filtered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
