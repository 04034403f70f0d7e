/*
 * disk: the only place that waits for the disk.
 *
 * The barrier is what makes a slow disk serve many: sessions whose messages are complete wait
 * together, and all that has come together while a flush was under way is flushed at once.
 *
 * Files that were only written over, the journal's, are flushed here: that is short, and what piles
 * up meanwhile in the other sessions' sockets joins the next batch. While there are such bytes a
 * batch waits for more messages, for as long as the last flush took: that costs at most as much as
 * the flush it may save, and with a slow disk every busy session is in each flush.
 *
 * All others are flushed by the kernel while the loop goes on (disk_aio), a batch at a time: many
 * flushes at once share the commit of the file system's journal. Where the kernel does not do it
 * they are flushed here, too: every flush is begun before the first is waited for.
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
#endif

#include "config.h"
#include "disk_aio.h"
#include "loop.h"
#include "stat.h"

STAT_COUNTER(stat_batches, "disk/batches",
             "Flushes to disk, each of one or more files (group commits)");
STAT_COUNTER(stat_synced, "disk/synced", "Files flushed to disk");

/* Oldest first. */
struct disk_list {
	struct disk_sync *first;
	struct disk_sync *last;
};

/* A file and its directory are two. */
enum { DISK_FLUSHES = DISK_AIO_MAX > 2 ? DISK_AIO_MAX : 2 };

static struct {
	struct loop_batch batch;
	struct disk_list asked;
	struct disk_list away;   /* being flushed by the kernel */
	struct disk_list done;   /* flushed, callbacks still to run */
	int error[DISK_FLUSHES]; /* of its flushes, by their numbers; */
	int fd[DISK_FLUSHES];    /* of what each was */
	unsigned begun, left;
	bool doubt; /* a flush of the loop's has failed meanwhile */
} D;

/* ---- lists ---- */

static void disk_append(struct disk_list *l, struct disk_sync *s)
{
	s->next = NULL;
	if (l->first)
		l->last->next = s;
	else
		l->first = s;
	l->last = s;
}

static struct disk_sync *disk_pop(struct disk_list *l)
{
	struct disk_sync *s = l->first;
	if (s)
		l->first = s->next;
	return s;
}

static bool disk_unlink(struct disk_list *l, struct disk_sync *s)
{
	struct disk_sync *before = NULL;
	for (struct disk_sync *i = l->first; i; before = i, i = i->next) {
		if (i != s)
			continue;
		if (before)
			before->next = s->next;
		else
			l->first = s->next;
		if (l->last == s)
			l->last = before;
		return true;
	}
	return false;
}

void disk_sync(struct disk_sync *s)
{
	s->error = s->dir_error = 0;
	s->waiting = true;
	disk_append(&D.asked, s);
	loop_batch_ask(&D.batch);
}

void disk_sync_cancel(struct disk_sync *s)
{
	if (s->waiting && !disk_unlink(&D.asked, s) && !disk_unlink(&D.away, s))
		disk_unlink(&D.done, s);
	s->waiting = false;
}

/* ---- flushing ---- */

/*
 * A file system that could not write its own journal tells that once, to who waited for it first;
 * others with files in the same part of it hear that all is well. It learns what has happened when
 * something is to be changed: from then on every flush fails. So files, and directories that are
 * flushed alone, are changed before they are flushed, as somebody else may have been told, and one
 * is changed again behind a flush that failed.
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
#else
bool disk_has_syncfs(void)
{
	return false;
}
#endif

/* The next batch may wait as long as this flush took. */
static void disk_took(int64_t us)
{
	int64_t most = us < DISK_BATCH_MAX_US ? us : DISK_BATCH_MAX_US;
	D.batch.most_us = most > LOOP_BATCH_US ? most : LOOP_BATCH_US;
}

/* The first request of the list with the same directory. */
static struct disk_sync *disk_same_dir(const struct disk_list *l, const struct disk_sync *s)
{
	struct disk_sync *other = l->first;
	while (other->dir_fd != s->dir_fd)
		other = other->next;
	return other;
}

/* What is to be done before the first flush of a batch begins. */
static void disk_prepare(struct disk_list *l)
{
	for (struct disk_sync *s = l->first; s; s = s->next)
		if (s->prepare)
			s->error = s->prepare(s->arg);
	for (struct disk_sync *s = l->first; s; s = s->next)
		if (s->fd >= 0 && !s->data_only)
			disk_touch(s->fd);
		else if (s->dir_fd >= 0 && disk_same_dir(l, s) == s)
			disk_touch(s->dir_fd);
}

/* Flushes what has no error yet. Pages that could not be written count as clean: a flush that
 * succeeds after one that did not proves nothing. */
static void disk_wait(struct disk_list *l)
{
	for (struct disk_sync *s = l->first; s; s = s->next)
		if (s->fd >= 0 && !s->error)
			s->error =
			    disk_flushed(s->fd, s->data_only ? fdatasync(s->fd) : fsync(s->fd));
	for (struct disk_sync *s = l->first; s; s = s->next) {
		const struct disk_sync *other = s->dir_fd < 0 ? NULL : disk_same_dir(l, s);
		if (other == s && !s->dir_error)
			s->dir_error = disk_flushed(s->dir_fd, fsync(s->dir_fd));
		else if (other)
			s->dir_error = other->dir_error;
	}
}

/* Runs the callbacks. What is left when one of them flushes again comes first: nothing is called
 * twice, and everything in the order it was asked for. */
static void disk_end(struct disk_list *l)
{
	struct disk_sync *s;
	while ((s = disk_pop(l))) {
		stat_add(&stat_synced, 1);
		disk_append(&D.done, s);
	}
	stat_add(&stat_batches, 1);
	while ((s = disk_pop(&D.done))) {
		s->waiting = false;
		s->done(s->arg, s->error ? s->error : s->dir_error);
	}
}

/* ---- by the kernel ---- */

/* Who has changed a directory since its flush began will not be told of its error again; nor is
 * anybody else when the request was cancelled. */
static void disk_pass_on(int dir_fd, int error)
{
	for (struct disk_sync *s = D.asked.first; s; s = s->next)
		if (s->dir_fd == dir_fd)
			s->dir_error = error;
}

static void disk_back(void)
{
	bool failed = D.doubt;
	for (unsigned n = 0; n < D.begun; n++)
		if (D.error[n])
			disk_pass_on(D.fd[n], D.error[n]);
	for (struct disk_sync *s = D.away.first; s; s = s->next) {
		if (s->fd >= 0 && !s->error)
			s->error = D.error[s->number];
		if (s->dir_fd >= 0 && !s->dir_error)
			s->dir_error = D.error[s->dir_number];
		failed |= s->error || s->dir_error;
	}
	D.doubt = false;
	/* Others may have heard that all is well: see disk_touch. */
	for (struct disk_sync *s = D.away.first; failed && s; s = s->next)
		disk_touch(s->fd >= 0 ? s->fd : s->dir_fd);
	if (failed)
		disk_wait(&D.away);
	disk_end(&D.away);
	if (D.asked.first)
		loop_batch_ask(&D.batch);
}

static void disk_ended(unsigned number, int error)
{
	D.error[number] = error;
	if (--D.left == 0)
		disk_back();
}

/* Has a descriptor flushed. Returns the number of its flush. */
static unsigned disk_send(int fd)
{
	unsigned number = D.begun++;
	D.fd[number] = fd;
	if (disk_aio_begin(number, fd))
		D.left++;
	else
		D.error[number] = disk_flushed(fd, fsync(fd));
	return number;
}

static void disk_send_away(void)
{
	disk_prepare(&D.away);
	D.begun = 0;
	for (struct disk_sync *s = D.away.first; s; s = s->next)
		if (s->fd >= 0 && !s->error)
			s->number = disk_send(s->fd);
	for (struct disk_sync *s = D.away.first; s; s = s->next) {
		if (s->dir_fd < 0)
			continue;
		const struct disk_sync *other = disk_same_dir(&D.away, s);
		s->dir_number = other == s ? disk_send(s->dir_fd) : other->dir_number;
	}
}

/* ---- batches ---- */

/* Flushes here, and runs the callbacks. */
static void disk_flush_here(struct disk_list *l)
{
	int64_t begun = loop_now_us();
	disk_prepare(l);
	for (struct disk_sync *s = l->first; s; s = s->next)
		if (s->fd >= 0 && !s->data_only && !s->error)
			s->error = disk_begin_flush(s->fd);
	disk_wait(l);
	for (const struct disk_sync *s = l->first; s && D.left > 0; s = s->next)
		D.doubt |= s->error || s->dir_error;
	loop_refresh();
	disk_took(loop_now_us() - begun);
	disk_end(l);
}

/* What is asked for is flushed here, or goes away when nothing is, or waits. */
static void disk_flush(void *arg)
{
	struct disk_list asked = D.asked;
	struct disk_list here = {NULL, NULL};
	struct disk_sync *s;
	bool kernel = disk_aio_is_there();
	unsigned room = kernel && D.left == 0 ? DISK_FLUSHES : 0;
	(void)arg;
	D.asked.first = NULL;
	while ((s = disk_pop(&asked))) {
		bool goes = room >= 2;
		if (s->data_only || s->here || !kernel) {
			disk_append(&here, s);
			continue;
		}
		disk_append(goes ? &D.away : &D.asked, s);
		room -= goes ? 2 : 0;
	}
	bool sent = D.left == 0 && D.away.first;
	if (sent)
		disk_send_away();
	if (here.first)
		disk_flush_here(&here);
	if (sent && D.left == 0 && D.away.first)
		disk_back();
}

void disk_sync_now(void)
{
	while (D.left > 0 && disk_aio_wait())
		;
	struct disk_list here = D.asked;
	D.asked.first = NULL;
	loop_batch_stop(&D.batch);
	if (here.first)
		disk_flush_here(&here);
}

void disk_init(void)
{
	loop_batch_init(&D.batch, disk_flush, NULL);
	disk_aio_init(disk_ended);
	D.asked.first = D.away.first = D.done.first = NULL;
	D.left = 0;
	D.doubt = false;
}

/* ---- files ---- */

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
