/* Unit tests of sandbox: the plan, the filter's program run by an interpreter of the machine that
 * it is for, and the real thing in children, as there is no way back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "sandbox_int.h"
#include "temp_dir.h"

static char err[256];

/* ---- the plan ---- */

static char dir[PATH_MAX];

static const char *in_dir(const char *name)
{
	static char path[2 * PATH_MAX];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static void make_file(const char *name)
{
	int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
}

static int setup(void **state)
{
	char made[TEMP_DIR_MAX];
	(void)state;
	assert_int_equal(temp_dir_make(made, sizeof made), 0);
	assert_non_null(realpath(made, dir));
	assert_int_equal(mkdir(in_dir("in"), 0700), 0);
	assert_int_equal(mkdir(in_dir("read"), 0700), 0);
	assert_int_equal(mkdir(in_dir("outside"), 0700), 0);
	make_file("in/file");
	make_file("read/file");
	make_file("outside/file");
	assert_int_equal(symlink("outside/file", in_dir("link")), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return temp_dir_remove();
}

static void test_plan(void **state)
{
	struct sandbox_plan p = {NULL, 0};
	(void)state;
	assert_int_equal(sandbox_plan_add(&p, in_dir("in"), SANDBOX_READ), 0);
	assert_int_equal(sandbox_plan_add(&p, in_dir("in/file"), SANDBOX_READ), 0);
	assert_int_equal(p.count, 1); /* covered */
	assert_true(sandbox_plan_covers(&p, in_dir("in"), SANDBOX_READ));
	assert_true(sandbox_plan_covers(&p, in_dir("in/file"), SANDBOX_READ));
	assert_true(sandbox_plan_covers(&p, in_dir("in/none/yet"), SANDBOX_READ));
	assert_false(sandbox_plan_covers(&p, in_dir("in/file"), SANDBOX_WRITE));
	assert_false(sandbox_plan_covers(&p, in_dir("inside"), SANDBOX_READ));
	assert_false(sandbox_plan_covers(&p, in_dir("in/../outside/file"), SANDBOX_READ));
	assert_false(sandbox_plan_covers(&p, dir, SANDBOX_READ));
	assert_int_equal(sandbox_plan_add(&p, in_dir("in"), SANDBOX_WRITE), 0);
	assert_int_equal(p.count, 2);
	assert_true(sandbox_plan_covers(&p, in_dir("in/new"), SANDBOX_WRITE));
	/* A link is where it leads. */
	assert_false(sandbox_plan_covers(&p, in_dir("link"), SANDBOX_READ));
	assert_int_equal(sandbox_plan_add(&p, in_dir("link"), SANDBOX_READ), 0);
	assert_true(sandbox_plan_covers(&p, in_dir("outside/file"), SANDBOX_READ));
	assert_false(sandbox_plan_covers(&p, in_dir("outside"), SANDBOX_READ));
	assert_int_equal(sandbox_plan_add(&p, in_dir("none"), SANDBOX_READ), -1);
	assert_int_equal(errno, ENOENT);
	sandbox_plan_clear(&p);
	assert_false(sandbox_plan_covers(&p, in_dir("in"), SANDBOX_READ));
	/* All of the disk. */
	assert_int_equal(sandbox_plan_add(&p, "/", SANDBOX_READ), 0);
	assert_true(sandbox_plan_covers(&p, in_dir("in"), SANDBOX_READ));
	sandbox_plan_clear(&p);
}

static void test_plan_is_bounded(void **state)
{
	struct sandbox_plan p = {NULL, 0};
	char name[32];
	(void)state;
	for (int i = 0; i < SANDBOX_PATHS_MAX; i++) {
		snprintf(name, sizeof name, "outside/%d", i);
		assert_int_equal(mkdir(in_dir(name), 0700), 0);
		assert_int_equal(sandbox_plan_add(&p, in_dir(name), SANDBOX_READ), 0);
	}
	assert_int_equal(sandbox_plan_add(&p, in_dir("in"), SANDBOX_READ), -1);
	assert_int_equal(errno, E2BIG);
	sandbox_plan_clear(&p);
}

/* ---- the filter's program ---- */

static struct sock_filter program[512];
static size_t program_len;

/* Runs the program as the kernel does. Reads past seccomp_data, jumps past the end and instructions
 * that it has no use for fail the test. */
static uint32_t run(const struct seccomp_data *data)
{
	uint32_t a = 0;
	size_t at = 0;
	while (at < program_len) {
		const struct sock_filter *f = &program[at++];
		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(f->k % 4 == 0 && f->k + 4 <= sizeof *data);
			memcpy(&a, (const char *)data + f->k, 4);
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			at += a == f->k ? f->jt : f->jf;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			at += a > f->k ? f->jt : f->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			at += a >= f->k ? f->jt : f->jf;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			at += a & f->k ? f->jt : f->jf;
			break;
		case BPF_RET | BPF_K:
			return f->k;
		default:
			fail_msg("instruction %x", f->code);
		}
	}
	fail_msg("past the end");
	return 0;
}

#define ALLOWED   SECCOMP_RET_ALLOW
#define DENIED(e) (SECCOMP_RET_ERRNO | (uint32_t)(e))

static uint32_t call(long nr, uint64_t arg0, uint64_t arg1)
{
	struct seccomp_data d = {
	    .nr = (int)nr, .arch = sandbox_seccomp_arch(), .args = {arg0, arg1}};
	return run(&d);
}

static int make_program(void **state)
{
	(void)state;
	program_len = sandbox_seccomp_program(program, sizeof program / sizeof *program);
	return 0;
}

static void skip_unknown(void)
{
	if (sandbox_seccomp_arch() == 0)
		skip();
	assert_true(program_len > 100);
}

static void test_filter_denies(void **state)
{
	static const long numbers[] = {__NR_mount,
	                               __NR_umount2,
	                               __NR_pivot_root,
	                               __NR_unshare,
	                               __NR_setns,
	                               __NR_swapon,
	                               __NR_swapoff,
	                               __NR_acct,
	                               __NR_quotactl,
	                               __NR_name_to_handle_at,
	                               __NR_open_by_handle_at,
	                               __NR_process_vm_readv,
	                               __NR_process_vm_writev,
	                               __NR_reboot,
	                               __NR_kexec_load,
	                               __NR_init_module,
	                               __NR_delete_module,
	                               __NR_perf_event_open,
	                               __NR_add_key,
	                               __NR_request_key,
	                               __NR_keyctl,
	                               __NR_syslog,
	                               __NR_sethostname};
	(void)state;
	skip_unknown();
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		assert_int_equal(call(numbers[i], 0, 0), DENIED(EPERM));
	/* io_uring_setup, fsopen, pidfd_getfd, mount_setattr: the same numbers everywhere. */
	assert_int_equal(call(sandbox_call(425), 0, 0), DENIED(EPERM));
	assert_int_equal(call(sandbox_call(430), 0, 0), DENIED(EPERM));
	assert_int_equal(call(sandbox_call(438), 0, 0), DENIED(EPERM));
	assert_int_equal(call(sandbox_call(442), 0, 0), DENIED(EPERM));
	assert_int_equal(call(__NR_ptrace, 0, 0), SANDBOX_DEBUG ? ALLOWED : DENIED(EPERM));
}

static void test_filter_looks_at_arguments(void **state)
{
	(void)state;
	skip_unknown();
	static const int space[] = {0,
	                            CLONE_NEWNS,
	                            CLONE_NEWUTS,
	                            CLONE_NEWIPC,
	                            CLONE_NEWUSER,
	                            CLONE_NEWPID,
	                            CLONE_NEWNET,
	                            CLONE_NEWCGROUP};
	for (size_t i = 0; i < sizeof space / sizeof *space; i++) {
		uint64_t flags = CLONE_VM | CLONE_VFORK | SIGCHLD | (uint64_t)space[i];
#if defined(__s390x__)
		uint32_t got = call(__NR_clone, 0, flags); /* there the stack comes first */
#else
		uint32_t got = call(__NR_clone, flags, 0);
#endif
		assert_int_equal(got, i ? DENIED(EPERM) : ALLOWED);
	}
	assert_int_equal(call(__NR_ioctl, 0, TIOCSTI), DENIED(EPERM));
	/* The kernel looks at the lower half. */
	assert_int_equal(call(__NR_ioctl, 0, TIOCSTI | 0xdead00000000ULL), DENIED(EPERM));
	assert_int_equal(call(__NR_ioctl, 0, FIONREAD), ALLOWED);
	assert_int_equal(call(__NR_ioctl, TIOCSTI, 0), ALLOWED);
}

static void test_filter_lets_libraries_fall_back(void **state)
{
	(void)state;
	skip_unknown();
	assert_int_equal(call(sandbox_call(435), 0, 0), DENIED(ENOSYS)); /* clone3 */
	assert_int_equal(call(sandbox_call(SANDBOX_CALL_NEWEST), 0, 0), ALLOWED);
	for (long n = SANDBOX_CALL_NEWEST + 1; n < 1200; n++)
		assert_int_equal(call(sandbox_call(n), 0, 0), DENIED(ENOSYS));
#if !defined(__arm__)
	assert_int_equal(call(0x7fffffff, 0, 0), DENIED(ENOSYS));
	assert_int_equal(call(-1, 0, 0), DENIED(ENOSYS));
#endif
#if defined(__x86_64__)
	/* x32, which has its own numbers for some. */
	assert_int_equal(call(0x40000000 | __NR_read, 0, 0), DENIED(ENOSYS));
#endif
}

/* The calls that a C library and this program live by, and how many there are in all. */
static void test_filter_allows_the_rest(void **state)
{
	static const long numbers[] = {
	    __NR_read,       __NR_write,     __NR_openat,      __NR_close,      __NR_execve,
	    __NR_fsync,      __NR_renameat2, __NR_socket,      __NR_connect,    __NR_sendmsg,
	    __NR_prctl,      __NR_prlimit64, __NR_getrandom,   __NR_exit_group, __NR_wait4,
	    __NR_setuid,     __NR_setgroups, __NR_capset,      __NR_futex,      __NR_mprotect,
	    __NR_getdents64, __NR_ftruncate, __NR_linkat,      __NR_kill,       __NR_setpgid,
	    __NR_dup3,       __NR_pipe2,     __NR_sigaltstack, __NR_personality};
	size_t denied = 0;
	(void)state;
	skip_unknown();
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		assert_int_equal(call(numbers[i], 0, 0), ALLOWED);
	for (long n = 0; n <= SANDBOX_CALL_NEWEST; n++)
		denied += call(sandbox_call(n), 0, 0) != ALLOWED;
	print_message("%zu of %d system calls are denied\n", denied, SANDBOX_CALL_NEWEST + 1);
	assert_in_range(denied, 40, 70);
}

static void test_filter_knows_its_architecture(void **state)
{
	struct seccomp_data d = {.nr = (int)__NR_read};
	(void)state;
	skip_unknown();
	for (int bit = 0; bit < 32; bit++) {
		d.arch = sandbox_seccomp_arch() ^ (1U << bit);
		assert_int_equal(run(&d), DENIED(ENOSYS));
	}
	assert_int_equal(sandbox_seccomp_program(program, program_len - 1), 0);
}

/* ---- the real thing ---- */

/* Runs a check in a child; its result is the exit status. */
static int in_child(int (*check)(void))
{
	int status;
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(check());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool opens(const char *name, int flags)
{
	int fd = open(in_dir(name), flags | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

enum { NOTHING_HERE = 77 };

static int confined(void)
{
	static struct sandbox_plan p; /* the child ends with it, taken or not */
	struct sandbox_setup s = {.no_new_privs = true, .filter = true, .plan = &p};
	if (sandbox_plan_add(&p, in_dir("in"), SANDBOX_WRITE) ||
	    sandbox_plan_add(&p, in_dir("read"), SANDBOX_READ) ||
	    sandbox_plan_add(&p, "/dev/null", SANDBOX_WRITE))
		return 1;
	if (!sandbox_allows(in_dir("outside/file"), SANDBOX_WRITE)) /* not yet in force */
		return 2;
	if (sandbox_enter(&s, err, sizeof err))
		return 3;
	const char *landlock = strstr(sandbox_text(), "Landlock ");
	const char *missing = strstr(sandbox_text(), "not: ");
	if (!landlock || (missing && missing < landlock)) /* under valgrind, or an old kernel */
		return NOTHING_HERE;
	if (p.count != 0 || sandbox_allows(in_dir("outside/file"), SANDBOX_READ))
		return 4;
	if (opens("outside/file", O_RDONLY) || errno != EACCES)
		return 5;
	if (strstr(sandbox_reason(EACCES, in_dir("outside/file"), SANDBOX_READ),
	           "sandbox_readable") == NULL ||
	    strcmp(sandbox_reason(EACCES, in_dir("read/file"), SANDBOX_READ), strerror(EACCES)) !=
	        0)
		return 6;
	if (opens("outside/new", O_WRONLY | O_CREAT) || opens("read/file", O_WRONLY) ||
	    opens("read/new", O_WRONLY | O_CREAT) || opens("link", O_RDONLY))
		return 7;
	if (unlink(in_dir("read/file")) == 0 || truncate(in_dir("outside/file"), 0) == 0)
		return 8;
	if (!opens("read/file", O_RDONLY) || !opens("in/file", O_RDWR) ||
	    !opens("in/new", O_WRONLY | O_CREAT))
		return 9;
	/* A Maildir renames from one directory to another. */
	char from[PATH_MAX + 16];
	snprintf(from, sizeof from, "%s/in/new", dir);
	if (mkdir(in_dir("in/sub"), 0700) || rename(from, in_dir("in/sub/new")) ||
	    unlink(in_dir("in/sub/new")) || rmdir(in_dir("in/sub")))
		return 10;
	if (mknod(in_dir("in/device"), S_IFBLK | 0600, 0) == 0)
		return 11;
	return 0;
}

static void test_confined(void **state)
{
	(void)state;
	int rc = in_child(confined);
	if (rc == NOTHING_HERE)
		skip();
	assert_int_equal(rc, 0);
}

static int filtered(void)
{
	struct sandbox_setup s = {.no_new_privs = true, .filter = true, .why_not = "a reason"};
	if (sandbox_enter(&s, err, sizeof err))
		return 1;
	if (!strstr(sandbox_text(), "not: Landlock (a reason)"))
		return 2;
	if (!strstr(sandbox_text(), "seccomp,") && !strstr(sandbox_text(), "seccomp;"))
		return NOTHING_HERE;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2)
		return 3;
	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != (SANDBOX_DEBUG ? 1 : 0))
		return 4;
	if (unshare(CLONE_FILES) == 0 || errno != EPERM)
		return 5;
	if (syscall(sandbox_call(435), NULL, 0) == 0 || errno != ENOSYS)
		return 6;
	return syscall(sandbox_call(SANDBOX_CALL_NEWEST + 1)) == -1 && errno == ENOSYS ? 0 : 7;
}

static void test_filtered(void **state)
{
	(void)state;
	int rc = in_child(filtered);
	if (rc == NOTHING_HERE)
		skip();
	assert_int_equal(rc, 0);
}

static int left_out(void)
{
	struct sandbox_setup s = {.why_not = "a reason"};
	if (strcmp(sandbox_text(), "none") != 0 || sandbox_enter(&s, err, sizeof err))
		return 1;
	if (!strstr(sandbox_text(), "; not: no_new_privs (a reason), Landlock (a reason), "
	                            "seccomp (a reason)"))
		return 2;
	return sandbox_allows("/", SANDBOX_WRITE) ? 0 : 3;
}

static void test_left_out(void **state)
{
	(void)state;
	assert_int_equal(in_child(left_out), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_plan, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_plan_is_bounded, setup, teardown),
	    cmocka_unit_test_setup(test_filter_denies, make_program),
	    cmocka_unit_test_setup(test_filter_looks_at_arguments, make_program),
	    cmocka_unit_test_setup(test_filter_lets_libraries_fall_back, make_program),
	    cmocka_unit_test_setup(test_filter_allows_the_rest, make_program),
	    cmocka_unit_test_setup(test_filter_knows_its_architecture, make_program),
	    cmocka_unit_test_setup_teardown(test_confined, setup, teardown),
	    cmocka_unit_test(test_filtered),
	    cmocka_unit_test(test_left_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
