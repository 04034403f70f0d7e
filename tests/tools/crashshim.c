/*
 * crashshim: a preloaded library that ends its process, or makes a call fail, at the n-th call that
 * changes files: to test that nothing acknowledged is lost whatever the moment.
 *
 * Counted are the calls below on regular files and directories with descriptors above 2 (the log is
 * not the subject), in this process only: forked children and programs they run count nothing. What
 * the libc calls inside itself (stdio) is not seen. Environment:
 *   CRASHSHIM_AT=n       what to do happens at the n-th call, instead of it
 *   CRASHSHIM_TORN=1     if that is a write, half of it is written before the end
 *   CRASHSHIM_ERRNO=e    the call fails with this errno, the process goes on
 *   CRASHSHIM_UNTIL=m    so do all calls up to the m-th
 *   CRASHSHIM_TRACE=file gets a line "n name path" for each call
 * The end is exit_group(86): no handler runs, no buffer is flushed, as with SIGKILL.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pid_t owner;
static long at;
static long until;
static long calls;
static int fail_errno;
static int torn;
static int trace_fd = -1;

static long env_number(const char *name)
{
	const char *v = getenv(name);

	return v ? strtol(v, NULL, 10) : 0;
}

__attribute__((constructor)) static void begin(void)
{
	const char *trace = getenv("CRASHSHIM_TRACE");

	owner = getpid();
	at = env_number("CRASHSHIM_AT");
	until = env_number("CRASHSHIM_UNTIL");
	if (until < at)
		until = at;
	fail_errno = (int)env_number("CRASHSHIM_ERRNO");
	torn = (int)env_number("CRASHSHIM_TORN");
	if (trace)
		trace_fd = (int)syscall(SYS_openat, AT_FDCWD, trace,
		                        O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	unsetenv("LD_PRELOAD");
}

static void *next_symbol(const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);

	if (!p)
		syscall(SYS_exit_group, 87);
	return p;
}

/* The function behind a wrapper of the same name and type. */
#define NEXT(name)                                    \
	static __typeof__(&(name)) next;              \
	if (!next) {                                  \
		void *symbol = next_symbol(#name);    \
		memcpy(&next, &symbol, sizeof(next)); \
	}

static int is_file(int fd)
{
	struct stat st;

	return fd > 2 && fd != trace_fd && fstat(fd, &st) == 0 &&
	       (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

static void trace(const char *name, const char *path, int fd)
{
	char link[64];
	char target[512];
	char line[768];
	ssize_t n;
	int len;

	if (trace_fd < 0)
		return;
	if (!path) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = '\0';
		path = target;
	}
	len = snprintf(line, sizeof(line), "%ld %s %s\n", calls, name, path);
	if (len > 0)
		syscall(SYS_write, trace_fd, line, (size_t)len);
}

/* Counts a call. Returns 0 when it is to be made, or -1 with errno when it is to fail. Does not
 * return when it is the last one; then, of a write, half is written to fd. */
static int count(const char *name, const char *path, int fd, const void *data, size_t n)
{
	int saved = errno;

	if (getpid() != owner)
		return 0;
	calls++;
	trace(name, path, fd);
	if (at == 0 || calls < at || calls > until) {
		errno = saved;
		return 0;
	}
	if (fail_errno) {
		errno = fail_errno;
		return -1;
	}
	if (torn && data && n > 1)
		syscall(SYS_write, fd, data, n / 2);
	syscall(SYS_exit_group, 86);
	return -1;
}

static int count_fd(const char *name, int fd, const void *data, size_t n)
{
	return is_file(fd) ? count(name, NULL, fd, data, n) : 0;
}

/* ---- the wrappers ------------------------------------------------------------------------- */

ssize_t write(int fd, const void *p, size_t n)
{
	NEXT(write)
	return count_fd("write", fd, p, n) ? -1 : next(fd, p, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t off)
{
	NEXT(pwrite)
	return count_fd("pwrite", fd, NULL, 0) ? -1 : next(fd, p, n, off);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t off)
{
	NEXT(pwrite64)
	return count_fd("pwrite64", fd, NULL, 0) ? -1 : next(fd, p, n, off);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
	NEXT(writev)
	return count_fd("writev", fd, n > 0 ? v[0].iov_base : NULL, n > 0 ? v[0].iov_len : 0)
	           ? -1
	           : next(fd, v, n);
}

int fsync(int fd)
{
	NEXT(fsync)
	return count_fd("fsync", fd, NULL, 0) ? -1 : next(fd);
}

int fdatasync(int fd)
{
	NEXT(fdatasync)
	return count_fd("fdatasync", fd, NULL, 0) ? -1 : next(fd);
}

int syncfs(int fd)
{
	NEXT(syncfs)
	return count_fd("syncfs", fd, NULL, 0) ? -1 : next(fd);
}

int ftruncate(int fd, off_t len)
{
	NEXT(ftruncate)
	return count_fd("ftruncate", fd, NULL, 0) ? -1 : next(fd, len);
}

int ftruncate64(int fd, off64_t len)
{
	NEXT(ftruncate64)
	return count_fd("ftruncate64", fd, NULL, 0) ? -1 : next(fd, len);
}

int fchmod(int fd, mode_t mode)
{
	NEXT(fchmod)
	return count_fd("fchmod", fd, NULL, 0) ? -1 : next(fd, mode);
}

int unlink(const char *path)
{
	NEXT(unlink)
	return count("unlink", path, -1, NULL, 0) ? -1 : next(path);
}

int unlinkat(int dir, const char *path, int flags)
{
	NEXT(unlinkat)
	return count("unlinkat", path, -1, NULL, 0) ? -1 : next(dir, path, flags);
}

int rename(const char *from, const char *to)
{
	NEXT(rename)
	return count("rename", from, -1, NULL, 0) ? -1 : next(from, to);
}

int renameat(int d1, const char *from, int d2, const char *to)
{
	NEXT(renameat)
	return count("renameat", from, -1, NULL, 0) ? -1 : next(d1, from, d2, to);
}

int renameat2(int d1, const char *from, int d2, const char *to, unsigned flags)
{
	NEXT(renameat2)
	return count("renameat2", from, -1, NULL, 0) ? -1 : next(d1, from, d2, to, flags);
}

int link(const char *from, const char *to)
{
	NEXT(link)
	return count("link", from, -1, NULL, 0) ? -1 : next(from, to);
}

int linkat(int d1, const char *from, int d2, const char *to, int flags)
{
	NEXT(linkat)
	return count("linkat", from, -1, NULL, 0) ? -1 : next(d1, from, d2, to, flags);
}

int mkdir(const char *path, mode_t mode)
{
	NEXT(mkdir)
	return count("mkdir", path, -1, NULL, 0) ? -1 : next(path, mode);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
	NEXT(mkdirat)
	return count("mkdirat", path, -1, NULL, 0) ? -1 : next(dir, path, mode);
}

/* The mode argument of open() and its kin, which is there with O_CREAT only. */
#define OPEN_MODE(flags)                        \
	mode_t mode = 0;                        \
	if ((flags)&O_CREAT) {                  \
		va_list ap;                     \
		va_start(ap, flags);            \
		mode = (mode_t)va_arg(ap, int); \
		va_end(ap);                     \
	}

static int count_open(const char *name, const char *path, int flags)
{
	return flags & O_CREAT ? count(name, path, -1, NULL, 0) : 0;
}

int open(const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	NEXT(open)
	return count_open("open", path, flags) ? -1 : next(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	NEXT(open64)
	return count_open("open64", path, flags) ? -1 : next(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	NEXT(openat)
	return count_open("openat", path, flags) ? -1 : next(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...)
{
	OPEN_MODE(flags)
	NEXT(openat64)
	return count_open("openat64", path, flags) ? -1 : next(dir, path, flags, mode);
}
