/*
 * disk: the only place that waits for the disk.
 *
 * The barrier is what makes a slow disk serve many: sessions whose messages are complete wait
 * together, one flush of each file and one of the directory makes all of them durable, and while it
 * runs the other sessions' bytes pile up in their sockets and join the next batch. While there are
 * such bytes a batch waits for more messages, for as long as the last flush took: that costs at
 * most as much as the flush it may save, and with a slow disk every busy session is in each flush.
 *
 * Every flush of a batch is begun before the first is waited for: on file systems with a journal
 * the first wait commits for all. But each asks the device to empty its cache once more, so many
 * files of one file system are flushed by one call for all of it, when that has little else to
 * write.
 */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/utsname.h>
#include <sys/vfs.h>
#endif

#include "config.h"
#include "loop.h"
#include "stat.h"

STAT_COUNTER(stat_batches, "disk/batches",
             "Flushes to disk, each of one or more files (group commits)");
STAT_COUNTER(stat_synced, "disk/synced", "Files flushed to disk");

static struct {
	struct loop_batch batch;
	struct disk_sync *asked; /* the next batch, newest first */
	struct disk_sync *done;  /* flushed, callbacks still to run, oldest first */
} D;

static void disk_flush(void *arg)
{
	(void)arg;
	disk_sync_now();
}

void disk_init(void)
{
	loop_batch_init(&D.batch, disk_flush, NULL);
	D.asked = D.done = NULL;
}

void disk_sync(struct disk_sync *s)
{
	s->error = 0;
	s->flushed = false;
	s->waiting = true;
	s->next = D.asked;
	D.asked = s;
	loop_batch_ask(&D.batch);
}

static bool disk_unlink(struct disk_sync **list, struct disk_sync *s)
{
	for (; *list; list = &(*list)->next) {
		if (*list == s) {
			*list = s->next;
			return true;
		}
	}
	return false;
}

void disk_sync_cancel(struct disk_sync *s)
{
	if (s->waiting && !disk_unlink(&D.asked, s))
		disk_unlink(&D.done, s);
	s->waiting = false;
}

/*
 * A file system that could not write its own journal tells that once, to who waited for it first;
 * others with files in the same part of it hear that all is well. It learns what has happened when
 * something is to be changed: from then on every flush fails. So files are changed before they are
 * flushed, as somebody else may have been told, and one is changed again behind a flush that
 * failed.
 */
static void disk_touch(int fd)
{
	if (futimens(fd, NULL))
		return; /* the flush says so, too */
}

/* Returns 0, or the errno of a flush that has returned rc. */
static int disk_flushed(int fd, int rc)
{
	int error = rc ? errno : 0;
	if (error)
		disk_touch(fd);
	return error;
}

/* Flushes the directory of s unless a request before it in the list has the same one. */
static void disk_flush_dir(const struct disk_sync *list, struct disk_sync *s)
{
	const struct disk_sync *other = list;
	while (other->dir_fd != s->dir_fd)
		other = other->next;
	if (other != s)
		s->dir_error = other->dir_error;
	else
		s->dir_error = disk_flushed(s->dir_fd, fsync(s->dir_fd));
}

#if defined(SYNC_FILE_RANGE_WRITE)
#define DISK_BEGIN SYNC_FILE_RANGE_WRITE
#define DISK_WAIT  SYNC_FILE_RANGE_WAIT_AFTER

/* Returns 0, or the errno of pages that could not be written: fsync may not be told of them again.
 */
static int disk_range(int fd, unsigned flags)
{
	if (!sync_file_range(fd, 0, 0, flags))
		return 0;
	/* No such call here (an old kernel, a sandbox), or not for this kind of file. */
	bool none = errno == ENOSYS || errno == EINVAL || errno == ESPIPE || errno == EPERM;
	return none ? 0 : errno;
}
#else
#define DISK_BEGIN 0
#define DISK_WAIT  0

static int disk_range(int fd, unsigned flags)
{
	(void)fd;
	(void)flags;
	return 0;
}
#endif

int disk_begin_flush(int fd)
{
	return disk_range(fd, DISK_BEGIN);
}

int disk_write_out(int fd)
{
	return disk_range(fd, DISK_BEGIN | DISK_WAIT);
}

#if defined(__linux__) && defined(SYNC_FILE_RANGE_WRITE)
/* Since Linux 5.8. */
bool disk_has_syncfs(void)
{
	struct utsname u;
	char *end;
	if (uname(&u))
		return false;
	long major = strtol(u.release, &end, 10);
	long minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
	return major > 5 || (major == 5 && minor >= 8);
}

/* What is known to take one call better than many. Others have logs for single files. */
#define DISK_EXT4 0xEF53

/* Would a flush of everything wait for little that is not ours? */
static bool disk_is_quiet(void)
{
	char text[4096];
	int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	const char *dirty = strstr(text, "\nDirty:");
	const char *written = strstr(text, "\nWriteback:");
	return dirty && written &&
	       strtoll(dirty + 7, NULL, 10) + strtoll(written + 11, NULL, 10) <=
	           DISK_OTHERS_MAX / 1024;
}

static bool disk_wants_flush(const struct disk_sync *s)
{
	return s->fd >= 0 && !s->data_only && !s->error;
}

/* Is there much to flush on the file system of `first`, and one call for all of it right? */
static bool disk_has_many(const struct disk_sync *first, const struct stat *on)
{
	struct stat s;
	struct statfs fs;
	size_t n = 0;
	for (const struct disk_sync *f = first; f; f = f->next)
		n += disk_wants_flush(f);
	if (n < DISK_MANY)
		return false;
	n = 0;
	for (const struct disk_sync *f = first; f; f = f->next)
		n += disk_wants_flush(f) && !fstat(f->fd, &s) && s.st_dev == on->st_dev;
	return n >= DISK_MANY && !fstatfs(first->fd, &fs) && fs.f_type == DISK_EXT4 &&
	       disk_has_syncfs() && disk_is_quiet();
}

/* Waits for what is being written of a file. True when all of it was. What could not be is told but
 * once: it is an error of the file's flush. */
static bool disk_is_written(struct disk_sync *f)
{
	if (!sync_file_range(f->fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE))
		return true;
	if (errno == EIO || errno == ENOSPC || errno == EDQUOT)
		f->error = errno;
	return false;
}

/*
 * Flushes many files of one file system by one call. That call does not say whose error it was, nor
 * what it has told others before: so each file is asked for its own. Nor does it say that a file
 * system has given up before: so one file is flushed by itself. Whose `flushed` is not set behind
 * this is to be flushed by itself.
 */
static void disk_flush_many(struct disk_sync *list)
{
	struct stat on, s;
	struct disk_sync *first = list;
	while (first && !disk_wants_flush(first))
		first = first->next;
	if (!first || fstat(first->fd, &on) || !disk_has_many(first, &on) ||
	    disk_flushed(first->fd, syncfs(first->fd)))
		return;
	first->error = disk_flushed(first->fd, fsync(first->fd));
	if (first->error)
		return;
	first->flushed = true;
	for (struct disk_sync *f = first->next; f; f = f->next)
		f->flushed = disk_wants_flush(f) && !fstat(f->fd, &s) && s.st_dev == on.st_dev &&
		             disk_is_written(f);
}
#else
bool disk_has_syncfs(void)
{
	return false;
}

static void disk_flush_many(struct disk_sync *list)
{
	(void)list;
}
#endif

/* Appends a batch, turned round, to what is left when a callback flushes again: nothing is called
 * twice, and everything in the order it was asked for. */
static void disk_put_done(struct disk_sync *list)
{
	struct disk_sync **end = &D.done;
	while (*end)
		end = &(*end)->next;
	struct disk_sync *oldest = NULL;
	while (list) {
		struct disk_sync *s = list;
		list = s->next;
		s->next = oldest;
		oldest = s;
	}
	*end = oldest;
}

/* The next batch may wait as long as this flush took. */
static void disk_took(int64_t us)
{
	int64_t most = us < DISK_BATCH_MAX_US ? us : DISK_BATCH_MAX_US;
	D.batch.most_us = most > LOOP_BATCH_US ? most : LOOP_BATCH_US;
}

void disk_sync_now(void)
{
	struct disk_sync *list = D.asked;
	struct disk_sync *s;
	int64_t begun = loop_now_us();
	if (!list)
		return;
	D.asked = NULL;
	loop_batch_stop(&D.batch);
	for (s = list; s; s = s->next)
		if (s->prepare)
			s->error = s->prepare(s->arg);
	for (s = list; s; s = s->next)
		if (s->fd >= 0 && !s->data_only && !s->error) {
			disk_touch(s->fd);
			s->error = disk_begin_flush(s->fd);
		}
	/* Pages that could not be written count as clean: a flush that succeeds after one that did
	 * not proves nothing. */
	disk_flush_many(list);
	for (s = list; s; s = s->next)
		if (s->fd >= 0 && !s->error && !s->flushed)
			s->error =
			    disk_flushed(s->fd, s->data_only ? fdatasync(s->fd) : fsync(s->fd));
	for (s = list; s; s = s->next) {
		s->dir_error = 0;
		if (s->dir_fd >= 0)
			disk_flush_dir(list, s);
		stat_add(&stat_synced, 1);
	}
	stat_add(&stat_batches, 1);
	loop_refresh();
	disk_took(loop_now_us() - begun);
	disk_put_done(list);
	while ((s = D.done)) {
		D.done = s->next;
		s->waiting = false;
		s->done(s->arg, s->error ? s->error : s->dir_error);
	}
}

int disk_write(int fd, const void *p, size_t n)
{
	const char *from = p;
	while (n > 0) {
		ssize_t w = write(fd, from, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			if (w == 0)
				errno = ENOSPC;
			return -1;
		}
		from += w;
		n -= (size_t)w;
	}
	return 0;
}

/* Writes, flushes and closes a new file. Returns 0, or -1 with errno; fd is closed in any case. */
static int disk_fill(int fd, const void *p, size_t n)
{
	if (disk_write(fd, p, n) || fsync(fd)) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return close(fd);
}

/* Gives a new file owner, group and permissions. Closes it when that fails. Returns 0, or -1. */
static int disk_own(int fd, const struct stat *like)
{
	struct stat own;
	if (fstat(fd, &own) == 0 &&
	    ((own.st_uid == like->st_uid && own.st_gid == like->st_gid) ||
	     fchown(fd, like->st_uid, like->st_gid) == 0) &&
	    fchmod(fd, like->st_mode & 0777) == 0)
		return 0;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* disk_replace; with `like`, the file gets the owner, group and mode in there. */
static int disk_put(int dir_fd, const char *name, const void *p, size_t n, unsigned mode,
                    const struct stat *like)
{
	char temp[NAME_MAX + 1];
	int len = snprintf(temp, sizeof temp, ".%s.new", name);
	if (len < 0 || (size_t)len >= sizeof temp) {
		errno = ENAMETOOLONG;
		return -1;
	}
	/* A left-over of a crash is ours to write over; a link planted there is not followed. */
	if (unlinkat(dir_fd, temp, 0) && errno != ENOENT)
		return -1;
	int fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
	                like ? 0600 : mode);
	if (fd < 0)
		return -1;
	if ((like && disk_own(fd, like)) || disk_fill(fd, p, n) ||
	    renameat(dir_fd, temp, dir_fd, name)) {
		int saved = errno;
		unlinkat(dir_fd, temp, 0);
		errno = saved;
		return -1;
	}
	return fsync(dir_fd);
}

int disk_replace(int dir_fd, const char *name, const void *p, size_t n, unsigned mode)
{
	return disk_put(dir_fd, name, p, n, mode, NULL);
}

int disk_replace_kept(int dir_fd, const char *name, const void *p, size_t n, unsigned mode)
{
	struct stat like, dir;
	if (fstatat(dir_fd, name, &like, 0) == 0)
		return disk_put(dir_fd, name, p, n, mode, &like);
	if (errno != ENOENT || fstat(dir_fd, &dir))
		return -1;
	like = (struct stat){.st_uid = geteuid(), .st_gid = dir.st_gid, .st_mode = mode};
	int rc = disk_put(dir_fd, name, p, n, mode, &like);
	if (rc && errno == EPERM)
		rc = disk_put(dir_fd, name, p, n, mode, NULL);
	return rc;
}

/* Makes one directory, and its entry in the one above durable: a message is only as safe as the
 * directories it lies in. Returns 0, also when it was there, or -1 with errno. */
static int disk_make_dir(const char *path, unsigned mode)
{
	char above[PATH_MAX + 4];
	struct stat s;
	if (mkdir(path, mode)) {
		int saved = errno;
		bool there = stat(path, &s) == 0;
		if (there && S_ISDIR(s.st_mode))
			return 0;
		errno = there ? ENOTDIR : saved;
		return -1;
	}
	snprintf(above, sizeof above, "%s/..", path);
	int fd = disk_open_dir(above);
	if (fd < 0 && errno == EACCES)
		return 0; /* may be passed through, but not read */
	int rc = fd < 0 ? -1 : fsync(fd);
	int saved = errno;
	if (fd >= 0)
		close(fd);
	/* Found there the next time, it would pass for durable. */
	if (rc)
		rmdir(path);
	errno = saved;
	return rc;
}

int disk_make_dirs(const char *path, unsigned mode)
{
	char part[PATH_MAX];
	size_t n = strlen(path);
	if (n == 0 || n >= sizeof part) {
		errno = n ? ENAMETOOLONG : ENOENT;
		return -1;
	}
	memcpy(part, path, n + 1);
	for (size_t i = 1; i <= n; i++) {
		if (part[i] != '/' && part[i] != '\0')
			continue;
		char c = part[i];
		part[i] = '\0';
		if (disk_make_dir(part, mode))
			return -1;
		part[i] = c;
	}
	return 0;
}

int disk_open_dir(const char *path)
{
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int disk_lock(int dir_fd, int ms)
{
	const int step = 20;
	while (flock(dir_fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return 0;
		if (ms <= 0)
			return -1;
		nanosleep(&(struct timespec){.tv_nsec = step * 1000000L}, NULL);
		ms -= step;
	}
	return 0;
}

int64_t disk_free(int fd, bool *no_inodes)
{
	struct statvfs v;
	*no_inodes = false;
	if (fstatvfs(fd, &v))
		return INT64_MAX;
	/* Some file systems count no inodes and say 0 of 0. */
	*no_inodes = v.f_files > 0 && v.f_favail == 0;
	uint64_t unit = v.f_frsize ? v.f_frsize : v.f_bsize;
	uint64_t blocks = v.f_bavail;
	if (unit != 0 && blocks > (uint64_t)INT64_MAX / unit)
		return INT64_MAX;
	return (int64_t)(blocks * unit);
}
