/* test_proc: child processes: every kind of end, floods, input files, no leaks. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "loop.h"
#include "proc.h"
#include "self.h"
#include "temp_dir.h"

struct run {
	struct proc proc;
	int dones;
};

static char dir[TEMP_DIR_MAX];

static void on_done(void *arg)
{
	struct run *r = arg;
	r->dones++;
}

/* A file of n bytes; its position is at its end. */
static int input_of(size_t n)
{
	int fd = memfd_create("test_proc", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)n), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), n);
	return fd;
}

/* Turns until *flag reaches want; the time is bounded. */
static void turn_until(const int *flag, int want, int64_t ms)
{
	int64_t end = now_ms() + ms;
	while (*flag < want && now_ms() < end)
		assert_int_equal(loop_turn(20), 0);
}

/* Starts a shell script. spec.in_fd 0 is none; another is taken. */
static void start_sh(struct run *r, const char *script, struct proc_spec spec)
{
	const char *argv[] = {"/bin/sh", "-c", script, NULL};
	if (spec.in_fd == 0)
		spec.in_fd = -1;
	spec.argv = argv;
	spec.done = on_done;
	spec.arg = r;
	if (!spec.output_max)
		spec.output_max = 1000;
	proc_start(&r->proc, &spec);
	if (spec.in_fd >= 0)
		close(spec.in_fd);
	assert_int_equal(r->dones, 0);
}

static void finish(struct run *r, int64_t ms)
{
	turn_until(&r->dones, 1, ms);
	assert_int_equal(r->dones, 1);
}

static void expect(struct run *r, enum proc_result result, int code)
{
	assert_int_equal(r->proc.result, result);
	assert_int_equal(r->proc.code, code);
}

/* Waits until no child is left, not even a zombie. */
static void expect_no_children(void)
{
	int64_t end = now_ms() + 5000;
	for (;;) {
		siginfo_t si;
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD)
			return;
		assert_true(now_ms() < end);
		loop_turn(10);
	}
}

static int fds_before;

static int setup(void **state)
{
	(void)state;
	if (loop_init())
		return -1;
	fds_before = count_fds();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	expect_no_children();
	assert_int_equal(count_fds(), fds_before);
	loop_done();
	return 0;
}

static void test_exit_codes(void **state)
{
	(void)state;
	static const int codes[] = {0, 1, 75, 255};
	for (size_t i = 0; i < 4; i++) {
		struct run r = {0};
		char script[32];
		char text[64];
		snprintf(script, sizeof script, "exit %d", codes[i]);
		start_sh(&r, script, (struct proc_spec){0});
		finish(&r, 5000);
		expect(&r, PROC_EXITED, codes[i]);
		snprintf(script, sizeof script, "exit status %d", codes[i]);
		assert_string_equal(proc_result_text(&r.proc, text, sizeof text), script);
		proc_cancel(&r.proc);
	}
}

/* Under valgrind and qemu vfork is a fork, and the failed exec does not reach the parent; musl's
 * posix_spawn has a pipe for that. */
static bool spawn_reports(void)
{
	char *argv[] = {(char[]){"/nonexistent"}, NULL};
	pid_t pid;
	if (getenv("CHASQ_EMULATED"))
		return false;
	if (posix_spawn(&pid, argv[0], NULL, NULL, argv, NULL))
		return true;
	waitpid(pid, NULL, 0);
	return false;
}

static void test_cannot_start(void **state)
{
	(void)state;
	if (!spawn_reports())
		skip();
	char plain[128];
	char text[128];
	snprintf(plain, sizeof plain, "%s/plain", dir);
	int fd = open(plain, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	const char *missing[] = {"/nonexistent/program", NULL};
	const char *nowhere[] = {"no-such-program-in-path", NULL};
	const char *noexec[] = {plain, NULL};
	const struct {
		const char **argv;
		int e;
	} cases[] = {{missing, ENOENT}, {nowhere, ENOENT}, {noexec, EACCES}};
	for (size_t i = 0; i < 3; i++) {
		struct run r = {0};
		proc_start(&r.proc,
		           &(struct proc_spec){
		               .argv = cases[i].argv, .done = on_done, .in_fd = -1, .arg = &r});
		assert_int_equal(r.dones, 0);
		finish(&r, 1000);
		expect(&r, PROC_NOT_STARTED, cases[i].e);
		proc_result_text(&r.proc, text, sizeof text);
		assert_non_null(strstr(text, "could not be started: "));
		proc_cancel(&r.proc);
	}
	unlink(plain);
}

static void test_looked_up_in_path(void **state)
{
	(void)state;
	struct run r = {0};
	const char *argv[] = {"true", NULL};
	proc_start(&r.proc,
	           &(struct proc_spec){.argv = argv, .in_fd = -1, .done = on_done, .arg = &r});
	finish(&r, 5000);
	expect(&r, PROC_EXITED, 0);
	proc_cancel(&r.proc);
}

/* A directory without it, one with a file of that name that cannot be run, one too long; and no
 * shell for what is no program. */
static void test_path_is_searched(void **state)
{
	(void)state;
	if (!spawn_reports())
		skip();
	static char longest[PATH_MAX + 10];
	char plain[128], path[PATH_MAX + 400];
	const char *old = getenv("PATH");
	char saved[1000];
	snprintf(saved, sizeof saved, "%s", old ? old : PROC_PATH);
	memset(longest, 'x', sizeof longest - 1);
	snprintf(plain, sizeof plain, "%s/true", dir);
	int fd = open(plain, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "exit 0\n", 7), 7);
	close(fd);
	const struct {
		const char *before, *after;
		mode_t mode;
		enum proc_result result;
		int code;
	} cases[] = {{"/nonexistent:", ":/bin:/usr/bin", 0600, PROC_EXITED, 0},
	             {":", "", 0600, PROC_NOT_STARTED, EACCES},
	             {"", ":", 0600, PROC_NOT_STARTED, EACCES},
	             {"/etc/passwd:/nonexistent", "", 0600, PROC_NOT_STARTED, ENOENT},
	             {"", ":/bin:/usr/bin", 0700, PROC_NOT_STARTED, ENOEXEC}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct run r = {0};
		const char *argv[] = {"true", NULL};
		snprintf(path, sizeof path, "%s:%s%s%s", longest, cases[i].before, dir,
		         cases[i].after);
		setenv("PATH", path, 1);
		assert_int_equal(chmod(plain, cases[i].mode), 0);
		proc_start(&r.proc, &(struct proc_spec){
		                        .argv = argv, .done = on_done, .in_fd = -1, .arg = &r});
		finish(&r, 5000);
		expect(&r, cases[i].result, cases[i].code);
		proc_cancel(&r.proc);
	}
	setenv("PATH", saved, 1);
	unlink(plain);
}

static void test_signal_death(void **state)
{
	(void)state;
	struct run r = {0};
	start_sh(&r, "kill -USR1 $$", (struct proc_spec){0});
	finish(&r, 5000);
	expect(&r, PROC_SIGNALED, SIGUSR1);
	proc_cancel(&r.proc);
}

static void test_output_of_both(void **state)
{
	(void)state;
	struct run r = {0};
	start_sh(&r, "echo one; echo two >&2; echo three", (struct proc_spec){0});
	finish(&r, 5000);
	expect(&r, PROC_EXITED, 0);
	assert_string_equal(buf_str(&r.proc.output), "one\ntwo\nthree\n");
	assert_false(r.proc.truncated);
	proc_cancel(&r.proc);
}

static void test_outputs_apart(void **state)
{
	(void)state;
	struct run r = {0};
	start_sh(&r, "echo one; echo two >&2; echo three; head -c 5000 /dev/zero >&2",
	         (struct proc_spec){.errors_max = 100, .strict = true});
	finish(&r, 5000);
	expect(&r, PROC_EXITED, 0);
	assert_string_equal(buf_str(&r.proc.output), "one\nthree\n");
	assert_int_equal(r.proc.errors.len, 100);
	assert_memory_equal(buf_data(&r.proc.errors), "two\n\0\0", 6);
	assert_false(r.proc.truncated);
	proc_cancel(&r.proc);
	/* Either may end before the other. */
	r.dones = 0;
	start_sh(&r, "exec >&-; sleep 0.1; echo late >&2", (struct proc_spec){.errors_max = 100});
	finish(&r, 5000);
	assert_string_equal(buf_str(&r.proc.errors), "late\n");
	assert_int_equal(r.proc.output.len, 0);
	r.dones = 0;
	start_sh(&r, "exec 2>&-; sleep 0.1; echo late", (struct proc_spec){.errors_max = 100});
	finish(&r, 5000);
	assert_string_equal(buf_str(&r.proc.output), "late\n");
	assert_int_equal(r.proc.errors.len, 0);
	r.dones = 0;
	/* What is left when the child has ended is read from both. */
	start_sh(&r, "(exec >&-; head -c 200000 /dev/zero >&2) & exec >&-; exit 0",
	         (struct proc_spec){.errors_max = 1000000});
	finish(&r, 5000);
	assert_int_equal(r.proc.errors.len, 200000);
	proc_cancel(&r.proc);
}

static void test_environment(void **state)
{
	(void)state;
	struct run r = {0};
	const char *envp[] = {"A=1", NULL};
	setenv("SECRET", "x", 1);
	start_sh(&r, "/usr/bin/env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= | sort",
	         (struct proc_spec){0});
	finish(&r, 5000);
	assert_string_equal(buf_str(&r.proc.output), "LANG=C\nPATH=" PROC_PATH "\n");
	r.dones = 0;
	start_sh(&r, "echo $A$SECRET", (struct proc_spec){.envp = envp});
	finish(&r, 5000);
	assert_string_equal(buf_str(&r.proc.output), "1\n");
	proc_cancel(&r.proc);
}

static void test_input_arrives(void **state)
{
	(void)state;
	struct run r = {0};
	start_sh(&r, "wc -c", (struct proc_spec){.in_fd = input_of(3000000)});
	finish(&r, 20000);
	expect(&r, PROC_EXITED, 0);
	assert_int_equal(atoi(buf_str(&r.proc.output)), 3000000);
	proc_cancel(&r.proc);
}

static void test_empty_input_and_none(void **state)
{
	(void)state;
	struct run r = {0};
	start_sh(&r, "wc -c", (struct proc_spec){.in_fd = input_of(0)});
	finish(&r, 5000);
	assert_int_equal(atoi(buf_str(&r.proc.output)), 0);
	r.dones = 0;
	start_sh(&r, "readlink /proc/self/fd/0", (struct proc_spec){0});
	finish(&r, 5000);
	assert_string_equal(buf_str(&r.proc.output), "/dev/null\n");
	proc_cancel(&r.proc);
}

/* All system calls but close_range, as kernels before 5.9. */
static void forget_close_range(void)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {sizeof code / sizeof *code, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(77);
}

static const char *list_of_descriptors(struct run *r)
{
	*r = (struct run){0};
	start_sh(r, "cd /proc/self/fd && echo *", (struct proc_spec){0});
	finish(r, 5000);
	return buf_str(&r->proc.output);
}

/* Also what is not close-on-exec stays out, with the system call and without. */
static void test_descriptors_are_closed(void **state)
{
	(void)state;
	struct run alone;
	struct run r;
	list_of_descriptors(&alone);
	assert_int_equal(dup2(2, 50), 50);
	assert_int_equal(dup2(2, FD_SETSIZE - 1), FD_SETSIZE - 1);
	assert_string_equal(list_of_descriptors(&r), buf_str(&alone.proc.output));
	proc_cancel(&r.proc);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		forget_close_range();
		_exit(strcmp(list_of_descriptors(&r), buf_str(&alone.proc.output)) != 0);
	}
	close(50);
	close(FD_SETSIZE - 1);
	proc_cancel(&alone.proc);
	int wait_status;
	assert_int_equal(waitpid(pid, &wait_status, 0), pid);
	if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 77)
		skip();
	assert_int_equal(wait_status, 0);
}

/* The limits, and that they are those of the child alone. */
static void test_limits(void **state)
{
	(void)state;
	struct run r = {0};
	char want[100];
	struct rlimit before, after;
	if (!spawn_reports())
		skip(); /* valgrind has limits of its own */
	assert_int_equal(getrlimit(RLIMIT_NPROC, &before), 0);
	start_sh(&r, "ulimit -Hc; ulimit -Hd; ulimit -Sn; ulimit -Ht",
	         (struct proc_spec){.limit_ms = 9500});
	finish(&r, 5000);
	snprintf(want, sizeof want, "0\n%lu\n%d\n%d\n", (unsigned long)PROC_MEMORY_MAX / 1024,
	         PROC_FILES_MAX, 10 * PROC_CPU_FACTOR);
	assert_string_equal(buf_str(&r.proc.output), want);
	proc_cancel(&r.proc);
	r = (struct run){0};
	start_sh(&r, "grep processes /proc/self/limits", (struct proc_spec){0});
	finish(&r, 5000);
	unsigned long soft = 0, hard = 0;
	assert_int_equal(sscanf(buf_str(&r.proc.output), "Max processes %lu %lu", &soft, &hard), 2);
	assert_true(soft > 0 && soft == hard && hard <= PROC_PROCESSES_MAX &&
	            hard < before.rlim_cur);
	proc_cancel(&r.proc);
	assert_int_equal(getrlimit(RLIMIT_NPROC, &after), 0);
	assert_memory_equal(&before, &after, sizeof before);
}

/* Neither our pipes nor our signal state reach the child. */
static void test_child_is_clean(void **state)
{
	(void)state;
	static const char list[] = "cd /proc/self/fd && echo *";
	struct run other = {0};
	struct run r = {0};
	char alone[1000];
	sigset_t usr2;
	sigset_t old;
	start_sh(&r, list, (struct proc_spec){0});
	finish(&r, 5000);
	snprintf(alone, sizeof alone, "%s", buf_str(&r.proc.output));
	r.dones = 0;
	start_sh(&other, "sleep 100", (struct proc_spec){.in_fd = input_of(1)});
	start_sh(&r, list, (struct proc_spec){0});
	finish(&r, 5000);
	assert_string_equal(buf_str(&r.proc.output), alone);
	r.dones = 0;
	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	sigprocmask(SIG_BLOCK, &usr2, &old);
	start_sh(&r, "grep -E '^Sig(Blk|Ign)' /proc/self/status", (struct proc_spec){0});
	sigprocmask(SIG_SETMASK, &old, NULL);
	finish(&r, 5000);
	proc_cancel(&other.proc);
	unsigned long long blocked = 1;
	unsigned long long ignored = 1;
	assert_int_equal(
	    sscanf(buf_str(&r.proc.output), "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
	assert_true(blocked == 0);
	/* glibc keeps its own two signals (32, 33) ignored. */
	assert_true((ignored & ~0x180000000ULL) == 0);
	proc_cancel(&r.proc);
}

static void test_timeout_term(void **state)
{
	(void)state;
	struct run r = {0};
	int64_t begin = now_ms();
	start_sh(&r, "sleep 100; echo woken", (struct proc_spec){.limit_ms = 200});
	finish(&r, 10000);
	expect(&r, PROC_TIMED_OUT, 0);
	assert_true(now_ms() - begin >= 190 && now_ms() - begin < 200 + PROC_TERM_MS);
	proc_cancel(&r.proc);
}

static void test_timeout_ignores_term(void **state)
{
	(void)state;
	struct run r = {0};
	int64_t begin = now_ms();
	start_sh(&r, "trap '' TERM; echo here; while :; do sleep 1; done",
	         (struct proc_spec){.limit_ms = 300});
	finish(&r, 20000);
	expect(&r, PROC_TIMED_OUT, 0);
	assert_true(now_ms() - begin >= 300 + PROC_TERM_MS - 10);
	assert_string_equal(buf_str(&r.proc.output), "here\n");
	proc_cancel(&r.proc);
}

static bool pid_alive(const char *path)
{
	char text[32] = "";
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof text, f));
	fclose(f);
	/* A killed orphan may stay a zombie where nobody plays init. */
	char stat_path[64];
	char line[256] = "";
	snprintf(stat_path, sizeof stat_path, "/proc/%d/stat", atoi(text));
	f = fopen(stat_path, "re");
	if (!f)
		return false;
	char *got = fgets(line, sizeof line, f);
	fclose(f);
	return got && !strstr(line, ") Z");
}

static void expect_dead(const char *path)
{
	int64_t end = now_ms() + 3000;
	while (pid_alive(path) && now_ms() < end)
		loop_turn(10);
	assert_false(pid_alive(path));
	unlink(path);
}

/* The time limit takes the grandchildren along, also those that ignore SIGTERM. */
static void test_timeout_kills_group(void **state)
{
	(void)state;
	struct run r = {0};
	char path[128];
	char script[400];
	snprintf(path, sizeof path, "%s/pid", dir);
	snprintf(script, sizeof script,
	         "(trap '' TERM; echo $$ >/dev/null; exec sleep 100) & echo $! > %s; sleep 100",
	         path);
	start_sh(&r, script, (struct proc_spec){.limit_ms = 400});
	finish(&r, 10000);
	expect(&r, PROC_TIMED_OUT, 0);
	expect_dead(path);
	proc_cancel(&r.proc);
}

static void test_grandchild_holds_output(void **state)
{
	(void)state;
	struct run r = {0};
	char path[128];
	char script[256];
	int64_t begin = now_ms();
	snprintf(path, sizeof path, "%s/pid", dir);
	snprintf(script, sizeof script, "echo early; sleep 100 & echo $! > %s; exit 3", path);
	start_sh(&r, script, (struct proc_spec){.limit_ms = 60000});
	finish(&r, 10000);
	expect(&r, PROC_EXITED, 3);
	assert_true(now_ms() - begin < PROC_DRAIN_MS + 1500);
	assert_string_equal(buf_str(&r.proc.output), "early\n");
	expect_dead(path);
	proc_cancel(&r.proc);
}

/* A helper left behind that holds nothing of ours may live. */
static void test_daemon_may_live(void **state)
{
	(void)state;
	struct run r = {0};
	char path[128];
	char script[256];
	char text[32] = "";
	snprintf(path, sizeof path, "%s/pid", dir);
	snprintf(script, sizeof script, "sleep 100 >/dev/null 2>&1 & echo $! > %s", path);
	start_sh(&r, script, (struct proc_spec){0});
	finish(&r, 5000);
	expect(&r, PROC_EXITED, 0);
	assert_true(pid_alive(path));
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof text, f));
	fclose(f);
	kill(atoi(text), SIGKILL);
	unlink(path);
	proc_cancel(&r.proc);
}

/* Whose parent has ended comes to us, and does not stay a zombie: teardown looks. */
static void test_orphans_are_reaped(void **state)
{
	(void)state;
	struct run r = {0};
	int adopts = 0; /* stays so where the kernel does not know it, as under qemu-user */
	prctl(PR_GET_CHILD_SUBREAPER, &adopts);
	if (!adopts)
		skip();
	start_sh(&r, "for i in 1 2 3; do setsid sleep 0.2 >/dev/null 2>&1 & done",
	         (struct proc_spec){0});
	finish(&r, 5000);
	expect(&r, PROC_EXITED, 0);
	proc_cancel(&r.proc);
	siginfo_t si = {0};
	assert_int_equal(waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT), 0);
}

static void test_output_flood(void **state)
{
	(void)state;
	struct run r = {0};
	start_sh(&r, "head -c 10000000 /dev/zero; exit 7", (struct proc_spec){.output_max = 1000});
	finish(&r, 30000);
	expect(&r, PROC_EXITED, 7);
	assert_int_equal(r.proc.output.len, 1000);
	assert_true(r.proc.truncated);
	assert_false(r.proc.output.failed);
	proc_cancel(&r.proc);
}

/* A strict owner waits neither for the end of a flood nor for those who go on with it. */
static void test_strict_flood(void **state)
{
	(void)state;
	struct run r = {0};
	char path[128];
	char script[256];
	char text[64];
	int64_t begin = now_ms();
	snprintf(path, sizeof path, "%s/pid", dir);
	snprintf(script, sizeof script,
	         "sleep 100 >/dev/null 2>&1 & echo $! > %s; while :; do echo flood; done", path);
	start_sh(&r, script, (struct proc_spec){.output_max = 1000, .strict = true});
	finish(&r, 10000);
	expect(&r, PROC_FLOODED, 0);
	assert_true(now_ms() - begin < 5000);
	assert_true(r.proc.truncated);
	assert_int_equal(r.proc.output.len, 1000);
	assert_string_equal(proc_result_text(&r.proc, text, sizeof text), "too much output");
	expect_dead(path);
	r.dones = 0;
	/* The child has ended, its own child floods. */
	start_sh(&r, "(sleep 0.2; while :; do echo flood; done) & exit 0",
	         (struct proc_spec){.output_max = 1000, .strict = true});
	finish(&r, 5000);
	expect(&r, PROC_FLOODED, 0);
	r.dones = 0;
	start_sh(&r, "head -c 1000 /dev/zero",
	         (struct proc_spec){.output_max = 1000, .strict = true});
	finish(&r, 5000);
	expect(&r, PROC_EXITED, 0);
	assert_int_equal(r.proc.output.len, 1000);
	proc_cancel(&r.proc);
}

static void test_child_does_not_read(void **state)
{
	(void)state;
	struct run r = {0};
	start_sh(&r, "exit 0", (struct proc_spec){.in_fd = input_of(50000000)});
	finish(&r, 5000);
	expect(&r, PROC_EXITED, 0);
	r.dones = 0;
	start_sh(&r, "exec <&-; sleep 0.3; exit 5", (struct proc_spec){.in_fd = input_of(100000)});
	finish(&r, 5000);
	expect(&r, PROC_EXITED, 5);
	r.dones = 0;
	start_sh(&r, "sleep 100", (struct proc_spec){.in_fd = input_of(100000), .limit_ms = 300});
	finish(&r, 10000);
	expect(&r, PROC_TIMED_OUT, 0);
	proc_cancel(&r.proc);
}

static void test_pipe_as_input(void **state)
{
	(void)state;
	struct run r = {0};
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	start_sh(&r, "exit 0", (struct proc_spec){.in_fd = fds[0]});
	close(fds[1]);
	finish(&r, 1000);
	expect(&r, PROC_NOT_STARTED, ESPIPE);
	proc_cancel(&r.proc);
}

/* A child that is just beginning to read when we are killed still gets everything. */
static void test_we_are_killed(void **state)
{
	(void)state;
	struct run r = {0};
	char path[128];
	char script[256];
	char text[32] = "";
	if (prctl(PR_SET_CHILD_SUBREAPER, 1))
		skip();
	snprintf(path, sizeof path, "%s/size", dir);
	snprintf(script, sizeof script, "sleep 0.2; wc -c > %s", path);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		start_sh(&r, script, (struct proc_spec){.in_fd = input_of(3000000)});
		raise(SIGKILL);
	}
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof text, f));
	fclose(f);
	assert_int_equal(atoi(text), 3000000);
	unlink(path);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void test_cancel(void **state)
{
	(void)state;
	struct run *r = calloc(1, sizeof *r);
	assert_non_null(r);
	proc_cancel(&r->proc);
	char path[128];
	char script[256];
	snprintf(path, sizeof path, "%s/pid", dir);
	snprintf(script, sizeof script, "sleep 100 & echo $! > %s; echo up; wait", path);
	start_sh(r, script, (struct proc_spec){.in_fd = input_of(10)});
	while (r->proc.output.len == 0)
		loop_turn(10);
	proc_cancel(&r->proc);
	proc_cancel(&r->proc);
	assert_int_equal(r->dones, 0);
	free(r);
	expect_no_children();
	expect_dead(path);
}

static void test_cancel_of_failed_start(void **state)
{
	(void)state;
	struct run r = {0};
	const char *argv[] = {"/nonexistent", NULL};
	proc_start(&r.proc,
	           &(struct proc_spec){.argv = argv, .in_fd = -1, .done = on_done, .arg = &r});
	proc_cancel(&r.proc);
	for (int i = 0; i < 5; i++)
		loop_turn(1);
	assert_int_equal(r.dones, 0);
}

static void test_hundred(void **state)
{
	(void)state;
	static struct run r[PROC_MAX + 1];
	int n = 100;
	memset(r, 0, sizeof r);
	for (int i = 0; i < n; i++) {
		start_sh(&r[i], i % 2 ? "cat | wc -c" : "wc -c; exit 9",
		         (struct proc_spec){.in_fd = input_of(100000), .limit_ms = 60000});
	}
	for (int i = 0; i < n; i++) {
		turn_until(&r[i].dones, 1, 60000);
		assert_int_equal(r[i].dones, 1);
		expect(&r[i], PROC_EXITED, i % 2 ? 0 : 9);
		assert_int_equal(atoi(buf_str(&r[i].proc.output)), 100000);
		proc_cancel(&r[i].proc);
	}
	/* One more than PROC_MAX is refused, not started. */
	memset(r, 0, sizeof r);
	for (int i = 0; i <= PROC_MAX; i++)
		start_sh(&r[i], "exec sleep 100", (struct proc_spec){0});
	finish(&r[PROC_MAX], 1000);
	expect(&r[PROC_MAX], PROC_NOT_STARTED, EAGAIN);
	for (int i = 0; i <= PROC_MAX; i++)
		proc_cancel(&r[i].proc);
}

/* In `done` the struct may be started again, or freed. */
static void on_done_again(void *arg)
{
	struct run *r = arg;
	if (++r->dones < 3) {
		const char *argv[] = {"true", NULL};
		proc_start(&r->proc,
		           &(struct proc_spec){
		               .argv = argv, .in_fd = -1, .done = on_done_again, .arg = r});
		return;
	}
	proc_cancel(&r->proc);
}

static int freed;

static void on_done_free(void *arg)
{
	struct run *r = arg;
	proc_cancel(&r->proc);
	free(r);
	freed++;
}

static void test_done_may_do_all(void **state)
{
	(void)state;
	struct run r = {0};
	const char *argv[] = {"true", NULL};
	proc_start(&r.proc, &(struct proc_spec){
	                        .argv = argv, .in_fd = -1, .done = on_done_again, .arg = &r});
	turn_until(&r.dones, 3, 10000);
	assert_int_equal(r.dones, 3);
	struct run *h = calloc(1, sizeof *h);
	assert_non_null(h);
	proc_start(&h->proc,
	           &(struct proc_spec){.argv = argv, .in_fd = -1, .done = on_done_free, .arg = h});
	turn_until(&freed, 1, 10000);
	assert_int_equal(freed, 1);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_exit_codes),
	    CASE(test_cannot_start),
	    CASE(test_looked_up_in_path),
	    CASE(test_path_is_searched),
	    CASE(test_signal_death),
	    CASE(test_output_of_both),
	    CASE(test_outputs_apart),
	    CASE(test_environment),
	    CASE(test_input_arrives),
	    CASE(test_empty_input_and_none),
	    CASE(test_descriptors_are_closed),
	    CASE(test_limits),
	    CASE(test_child_is_clean),
	    CASE(test_timeout_term),
	    CASE(test_timeout_ignores_term),
	    CASE(test_timeout_kills_group),
	    CASE(test_grandchild_holds_output),
	    CASE(test_daemon_may_live),
	    CASE(test_orphans_are_reaped),
	    CASE(test_output_flood),
	    CASE(test_strict_flood),
	    CASE(test_child_does_not_read),
	    CASE(test_pipe_as_input),
	    CASE(test_we_are_killed),
	    CASE(test_cancel),
	    CASE(test_cancel_of_failed_start),
	    CASE(test_hundred),
	    CASE(test_done_may_do_all),
	};
	if (temp_dir_make(dir, sizeof dir))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
