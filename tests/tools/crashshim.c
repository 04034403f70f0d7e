/*
 * crashshim: a preloaded library that ends its process, or makes a call fail, at the n-th call that
 * changes files: to test that nothing acknowledged is lost whatever the moment.
 *
 * Counted are the calls below on regular files and directories with descriptors above 2 (the log is
 * not the subject), in this process only: forked children count nothing, but what a rule says holds
 * for them, and programs they run do as they like. What the libc calls inside itself (stdio) is not
 * seen. Environment:
 *   CRASHSHIM_AT=n       what to do happens at the n-th call, instead of it
 *   CRASHSHIM_TORN=1     if that is a write, half of it is written before the end
 *   CRASHSHIM_LOST=1     before the end, of what pwrite() has written since the last flush of its
 *                        file some sectors are as before again: as when the power goes
 *   CRASHSHIM_ERRNO=e    the call fails with this errno, the process goes on
 *   CRASHSHIM_UNTIL=m    so do all calls up to the m-th
 *   CRASHSHIM_TRACE=file gets a line "n name path" for each call
 *   CRASHSHIM_RULE=file  while this file exists, calls fail as its one line says
 *
 * A rule is "errno names path": names is a list with commas, path a part of the path, with a $ its
 * end; both may be left out from the end. With errno 0 a flush is not made, but says that it was.
 * A flush that the kernel is to make (io_submit) is made at once, by the fsync() below; not with
 * CRASHSHIM_NO_AIO=1, as if the kernel did not know that.
 * close(), sync_file_range() and opening to write what is there do not count, but can fail so. Each
 * failure is a line "fail name path" in the trace, but for those of children.
 *
 * The end is exit_group(86): no handler runs, no buffer is flushed, as with SIGKILL.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdarg.h>
#include <stdint.h>
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
static int lost;
static int trace_fd = -1;
static const char *rule;

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
	lost = (int)env_number("CRASHSHIM_LOST");
	rule = getenv("CRASHSHIM_RULE");
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

	return fd > 2 && (fd != trace_fd || getpid() != owner) && fstat(fd, &st) == 0 &&
	       (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

/* The path of a call that has a descriptor only. */
static const char *path_of(const char *path, int fd, char *target, size_t size)
{
	char link[64];
	ssize_t n;

	if (path)
		return path;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, target, size - 1);
	target[n < 0 ? 0 : n] = '\0';
	return target;
}

static void trace(const char *what, const char *name, const char *path, int fd)
{
	char target[512];
	char line[768];
	int len;

	/* In a child the number may be somebody else's. */
	if (trace_fd < 0 || getpid() != owner)
		return;
	path = path_of(path, fd, target, sizeof(target));
	len = snprintf(line, sizeof(line), "%s %s %s\n", what, name, path);
	if (len > 0)
		syscall(SYS_write, trace_fd, line, (size_t)len);
}

/* openat64 goes as openat. */
static int is_listed(const char *list, const char *name)
{
	size_t n = strlen(name);

	if (n > 2 && strcmp(name + n - 2, "64") == 0)
		n -= 2;
	for (; list; list = strchr(list, ',')) {
		list += *list == ',';
		if (strncmp(list, name, n) == 0 && (list[n] == ',' || list[n] == '\0'))
			return 1;
	}
	return 0;
}

static int has_part(const char *path, char *part)
{
	size_t n = strlen(part);
	size_t len = strlen(path);

	if (n == 0 || part[n - 1] != '$')
		return strstr(path, part) != NULL;
	part[--n] = '\0';
	return len >= n && strcmp(path + len - n, part) == 0;
}

/* Does the rule make this call fail? Then -1, with its errno. */
static int ruled_out(const char *name, const char *path, int fd)
{
	char text[512];
	char target[512];
	char names[256] = "";
	char part[256] = "";
	int error = 0;
	int saved = errno;
	int rule_fd = rule ? (int)syscall(SYS_openat, AT_FDCWD, rule, O_RDONLY | O_CLOEXEC, 0) : -1;
	ssize_t n;

	errno = saved;
	if (rule_fd < 0)
		return 0;
	n = read(rule_fd, text, sizeof(text) - 1);
	syscall(SYS_close, rule_fd);
	text[n < 0 ? 0 : n] = '\0';
	n = sscanf(text, "%d %255s %255s", &error, names, part);
	errno = saved;
	if (n < 1 || (n > 1 && !is_listed(names, name)) ||
	    (n > 2 && !has_part(path_of(path, fd, target, sizeof(target)), part)))
		return 0;
	trace("fail", name, path, fd);
	errno = error;
	return -1;
}

/* What a flush that is not made says: with the errno 0 of a rule, a lie. */
static int said(int error)
{
	return error ? -1 : 0;
}

/* ---- what a power cut takes back ---- */

#define SECTOR 512

/* What stood where a pwrite() that is not flushed has written, oldest first. */
static struct {
	int fd;
	off64_t at;
	size_t n;
	char *old;
} unflushed[4096];
static size_t unflushed_count;

/* The descriptor may be for writing only. */
static int read_old(int fd, char *old, size_t n, off64_t off)
{
	char path[512];
	int again = (int)syscall(SYS_openat, AT_FDCWD, path_of(NULL, fd, path, sizeof(path)),
	                         O_RDONLY | O_CLOEXEC, 0);
	long got = again < 0 ? -1 : syscall(SYS_pread64, again, old, n, off);

	if (again >= 0)
		syscall(SYS_close, again);
	return got == (long)n ? 0 : -1;
}

static void note_pwrite(int fd, size_t n, off64_t off)
{
	size_t i = unflushed_count;
	char *old;

	if (!lost || getpid() != owner || !is_file(fd))
		return;
	old = malloc(n ? n : 1);
	if (!old || i == sizeof(unflushed) / sizeof(unflushed[0]) || read_old(fd, old, n, off))
		syscall(SYS_exit_group, 88);
	unflushed[i].fd = fd;
	unflushed[i].at = off;
	unflushed[i].n = n;
	unflushed[i].old = old;
	unflushed_count++;
}

/* fd -1: everything was flushed. */
static void note_flush(int fd)
{
	size_t kept = 0;

	for (size_t i = 0; i < unflushed_count; i++) {
		if (fd < 0 || unflushed[i].fd == fd)
			free(unflushed[i].old);
		else
			unflushed[kept++] = unflushed[i];
	}
	unflushed_count = kept;
}

/* Of each sector, all that was written from a certain call on is lost: which one is drawn. */
static size_t sector_keeps(int fd, off64_t sector)
{
	uint64_t x = ((uint64_t)at << 40) ^ ((uint64_t)fd << 32) ^ (uint64_t)sector;

	x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
	return (size_t)((x ^ (x >> 31)) % (unflushed_count + 1));
}

static void lose_unflushed(void)
{
	for (size_t i = unflushed_count; i-- > 0;) {
		size_t done = 0;
		while (done < unflushed[i].n) {
			off64_t from = unflushed[i].at + (off64_t)done;
			size_t n = SECTOR - (size_t)(from % SECTOR);
			if (n > unflushed[i].n - done)
				n = unflushed[i].n - done;
			if (i >= sector_keeps(unflushed[i].fd, from / SECTOR))
				syscall(SYS_pwrite64, unflushed[i].fd, unflushed[i].old + done, n,
				        from);
			done += n;
		}
	}
}

/* ---- counting ---- */

/* Counts a call. Returns 0 when it is to be made, or -1 with errno when it is to fail. Does not
 * return when it is the last one; then, of a write, half is written to fd, from off unless that is
 * negative. */
static int count_at(const char *name, const char *path, int fd, const void *data, size_t n,
                    off64_t off)
{
	int saved = errno;
	char number[32];

	if (getpid() != owner)
		return ruled_out(name, path, fd);
	calls++;
	snprintf(number, sizeof(number), "%ld", calls);
	trace(number, name, path, fd);
	if (ruled_out(name, path, fd))
		return -1;
	if (at == 0 || calls < at || calls > until) {
		errno = saved;
		return 0;
	}
	if (fail_errno) {
		errno = fail_errno;
		return -1;
	}
	if (torn && data && n > 1 && off >= 0)
		syscall(SYS_pwrite64, fd, data, n / 2, off);
	else if (torn && data && n > 1)
		syscall(SYS_write, fd, data, n / 2);
	if (lost && data && off >= 0) {
		note_pwrite(fd, n, off);
		syscall(SYS_pwrite64, fd, data, n, off);
	}
	if (lost)
		lose_unflushed();
	syscall(SYS_exit_group, 86);
	return -1;
}

static int count(const char *name, const char *path, int fd, const void *data, size_t n)
{
	return count_at(name, path, fd, data, n, -1);
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
	if (is_file(fd) && count_at("pwrite", NULL, fd, p, n, off))
		return -1;
	note_pwrite(fd, n, off);
	return next(fd, p, n, off);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t off)
{
	NEXT(pwrite64)
	if (is_file(fd) && count_at("pwrite64", NULL, fd, p, n, off))
		return -1;
	note_pwrite(fd, n, off);
	return next(fd, p, n, off);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
	NEXT(writev)
	return count_fd("writev", fd, n > 0 ? v[0].iov_base : NULL, n > 0 ? v[0].iov_len : 0)
	           ? -1
	           : next(fd, v, n);
}

/* `flushed` is what is on the disk then: a descriptor's content, or -1, all. */
static int flush_counted(const char *name, int fd, int flushed, int (*next)(int))
{
	int rc = count_fd(name, fd, NULL, 0);
	int saved = errno;

	if (rc)
		return said(saved);
	rc = next(fd);
	if (!rc)
		note_flush(flushed);
	return rc;
}

int fsync(int fd)
{
	NEXT(fsync)
	return flush_counted("fsync", fd, fd, next);
}

int fdatasync(int fd)
{
	NEXT(fdatasync)
	return flush_counted("fdatasync", fd, fd, next);
}

/* ---- flushes that the kernel makes while a process goes on ---- */

static struct io_event ended[1024];
static long ended_count;

static long submit(long n, struct iocb **all)
{
	for (long i = 0; i < n; i++) {
		uint64_t one = 1;
		int rc;
		if (ended_count == sizeof(ended) / sizeof(ended[0]))
			return i;
		rc = fsync((int)all[i]->aio_fildes);
		ended[ended_count++] =
		    (struct io_event){.data = all[i]->aio_data, .res = rc ? -errno : 0};
		if (write((int)all[i]->aio_resfd, &one, sizeof(one)) < 0)
			return i;
	}
	return n;
}

static long take(long most, struct io_event *out)
{
	long n = ended_count < most ? ended_count : most;

	memcpy(out, ended, (size_t)n * sizeof(*out));
	ended_count -= n;
	memmove(ended, ended + n, (size_t)ended_count * sizeof(*ended));
	return n;
}

long syscall(long number, ...)
{
	long a[6];
	va_list ap;
	NEXT(syscall)

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_io_setup && getenv("CRASHSHIM_NO_AIO")) {
		errno = ENOSYS;
		return -1;
	}
	if (number == SYS_io_submit)
		return submit(a[1], (struct iocb **)a[2]);
	if (number == SYS_io_getevents)
		return take(a[2], (struct io_event *)a[3]);
	return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int syncfs(int fd)
{
	NEXT(syncfs)
	return flush_counted("syncfs", fd, -1, next);
}

/* Like the kernel's, a close that fails has closed. */
int close(int fd)
{
	NEXT(close)
	int failed = is_file(fd) && ruled_out("close", NULL, fd);
	int error = errno;
	int rc = next(fd);

	if (!failed)
		return rc;
	errno = error;
	return -1;
}

int sync_file_range(int fd, off64_t from, off64_t n, unsigned flags)
{
	NEXT(sync_file_range)
	return is_file(fd) && ruled_out("sync_file_range", NULL, fd) ? said(errno)
	                                                             : next(fd, from, n, flags);
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
	if (flags & O_CREAT)
		return count(name, path, -1, NULL, 0);
	return (flags & O_ACCMODE) != O_RDONLY ? ruled_out(name, path, -1) : 0;
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
