/*
 * proc_spawn: the way from fork to exec.
 *
 * vfork, because a server that holds some megabytes must start a program on a machine that has few
 * left, and because the error of exec comes back through the shared memory. Until it has become
 * another program the child lives in our memory and on our stack, so it makes system calls and
 * writes to its own variables and to one of ours, the error: no allocation, no library that keeps
 * state. We stand still meanwhile. All signals are blocked on the way: a handler of ours that ran
 * in the child would write to our variables. The child sets what exec is to inherit; nothing is
 * restored afterwards but our own mask.
 *
 * posix_spawn can neither set limits nor close what somebody who started us left open.
 */
#include "proc_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"

/* What the exit status says where vfork is an honest fork (emulators) and the error gets lost: as a
 * shell says it. */
#define SPAWN_EXIT 127

/* ---- limits ---- */

/* The C libraries do not agree on the type of a resource's name. */
#if defined(__GLIBC__)
typedef __rlimit_resource_t spawn_resource;
#else
typedef int spawn_resource;
#endif

int proc_spawn_limit(int resource, rlim_t max)
{
	const spawn_resource which = (spawn_resource)resource;
	struct rlimit r, soft;
	if (getrlimit(which, &r))
		return -1;
	soft = r;
	if (r.rlim_max > max) /* RLIM_INFINITY is the largest */
		r.rlim_max = max;
	if (r.rlim_cur > r.rlim_max)
		r.rlim_cur = r.rlim_max;
	if (setrlimit(which, &r) == 0)
		return 0;
	/* valgrind keeps the hard limit of descriptors. */
	soft.rlim_cur = r.rlim_cur;
	return setrlimit(which, &soft);
}

/* A quarter of what we may start ourselves stays ours: while a child fills its share, others can be
 * started. */
static int spawn_limit_processes(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NPROC, &r))
		return -1;
	rlim_t share = r.rlim_cur - r.rlim_cur / 4;
	return proc_spawn_limit(RLIMIT_NPROC,
	                        share < PROC_PROCESSES_MAX ? share : PROC_PROCESSES_MAX);
}

static int spawn_limits(int64_t limit_ms)
{
	rlim_t seconds = (rlim_t)(limit_ms / 1000 + 1);
	return proc_spawn_limit(RLIMIT_CORE, 0) || spawn_limit_processes() ||
	               proc_spawn_limit(RLIMIT_DATA, PROC_MEMORY_MAX) ||
	               proc_spawn_limit(RLIMIT_NOFILE, PROC_FILES_MAX) ||
	               (limit_ms > 0 && proc_spawn_limit(RLIMIT_CPU, seconds * PROC_CPU_FACTOR))
	           ? -1
	           : 0;
}

/* ---- in the child ---- */

/* Ignored signals would stay so through exec, SIGPIPE among them. Those that cannot be set are
 * SIGKILL and the like, and the C library's own. */
static void spawn_signals(void)
{
	struct sigaction sa = {.sa_handler = SIG_DFL};
	sigemptyset(&sa.sa_mask);
	for (int i = 1; i < NSIG; i++)
		sigaction(i, &sa, NULL);
}

/* Makes fd the child's descriptor `to`. dup2 onto itself would leave it close-on-exec. */
static int spawn_move(int fd, int to)
{
	if (fd < 0)
		return -1;
	return fd == to ? fcntl(fd, F_SETFD, 0) : dup2(fd, to);
}

/* Closes all from 3. Before Linux 5.9, those that can be ours: the loop has none above. */
static void spawn_close(void)
{
#if defined(SYS_close_range)
	if (syscall(SYS_close_range, STDERR_FILENO + 1U, ~0U, 0U) == 0)
		return;
#endif
	for (int fd = STDERR_FILENO + 1; fd < FD_SETSIZE; fd++)
		close(fd);
}

void proc_spawn_clean(void)
{
	spawn_signals();
	spawn_close();
}

static int spawn_descriptors(const struct proc_spawn *s)
{
	int in = s->in_fd >= 0 ? s->in_fd : open("/dev/null", O_RDONLY);
	if (spawn_move(in, STDIN_FILENO) < 0 || spawn_move(s->out_fd, STDOUT_FILENO) < 0 ||
	    spawn_move(s->err_fd, STDERR_FILENO) < 0)
		return -1;
	return 0;
}

/* Tries argv[0] in the directory of n bytes; an empty one is the current. */
static void spawn_exec_in(const struct proc_spawn *s, const char *dir, size_t n)
{
	char path[PATH_MAX];
	const char *name = s->argv[0];
	size_t len = strlen(name);
	if (n + len + 2 > sizeof(path)) {
		errno = ENAMETOOLONG;
		return;
	}
	memcpy(path, dir, n);
	if (n > 0)
		path[n++] = '/';
	memcpy(path + n, name, len + 1);
	execve(path, (char *const *)s->argv, (char *const *)s->envp);
}

/* Returns an errno, if at all: "not allowed" anywhere says more than "not there" everywhere. */
static int spawn_exec(const struct proc_spawn *s, const char *path)
{
	bool denied = false;
	if (strchr(s->argv[0], '/')) {
		execve(s->argv[0], (char *const *)s->argv, (char *const *)s->envp);
		return errno;
	}
	for (;; path++) {
		size_t n = strcspn(path, ":");
		spawn_exec_in(s, path, n);
		if (errno == EACCES)
			denied = true;
		else if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG)
			return errno;
		path += n;
		if (!*path)
			return denied ? EACCES : ENOENT;
	}
}

/* The child's life until it is another program. Returns why it is not. */
static int spawn_child(const struct proc_spawn *s, const char *path)
{
	sigset_t none;
	sigemptyset(&none);
	if (setpgid(0, 0))
		return errno;
	if (spawn_descriptors(s) || spawn_limits(s->limit_ms))
		return errno;
	proc_spawn_clean();
	if (sigprocmask(SIG_SETMASK, &none, NULL))
		return errno;
	return spawn_exec(s, path);
}

/* ---- in the parent ---- */

/* Nothing but the fork: what the compiler keeps in this frame is changed by the child, too. */
static __attribute__((noinline)) pid_t spawn_fork(const struct proc_spawn *s, const char *path,
                                                  volatile int *error)
{
	/* POSIX allows the child exec and _exit alone; what it calls here can stand shared memory,
	 * see above. */
	pid_t pid = vfork(); /* NOLINT(clang-analyzer-security.insecureAPI.vfork) */
	if (pid == 0) {
		*error = spawn_child(s, path); /* NOLINT(clang-analyzer-unix.Vfork) */
		_exit(SPAWN_EXIT);
	}
	return pid;
}

int proc_spawn_start(const struct proc_spawn *s, pid_t *pid)
{
	const char *path = getenv("PATH");
	volatile int error = 0;
	sigset_t all, before;
	sigfillset(&all);
	if (sigprocmask(SIG_SETMASK, &all, &before))
		return errno;
	*pid = spawn_fork(s, path ? path : PROC_PATH, &error);
	if (*pid < 0)
		error = errno;
	else if (!error)
		setpgid(*pid, *pid); /* where vfork is a fork, the child may still be about to */
	else
		while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
			;
	sigprocmask(SIG_SETMASK, &before, NULL);
	return error;
}
