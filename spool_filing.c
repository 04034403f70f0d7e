/*
 * spool_filing: how messages of the journal become files, and what the journal has done in the
 * background.
 *
 * A live message is due for a file when it is JOURNAL_AGE_MS old, when few segments or entries are
 * left (the oldest first), when the journal is given up, and at the end. Files are written in
 * slices, JOURNAL_SLICE_US a turn, and flushed many at a time by a child: one flush of the file
 * system, or of each file where the kernel does not tell of errors otherwise. The record is done
 * when they are durable. Until then whatever is cut short is begun again from the journal.
 *
 * LIVE -> (file written; from here on it is the message) MADE -> FLUSHING -> ENDED. When the flush
 * fails, pages that could not be written count as clean: SPOILT, and all of the file is written
 * over once more.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_journal_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "proc_spawn.h"
#include "stat.h"

STAT_COUNTER(stat_filed, "spool/filed", "Messages of the journal that became files");

#define FILING_BLOCK 16384

/* With fewer files than this each is flushed by itself: other files are not ours to wait for. */
#define FILING_FEW 8

/* ---- one file ---- */

/* Writes the text from the beginning of the file. Returns 0, or -1 with errno. */
static int filing_copy(const struct spool_entry *e, int fd)
{
	char block[FILING_BLOCK];
	size_t size = journal_size(e);
	size_t at = 0;
	while (at < size) {
		ssize_t n = journal_read(e, block, sizeof block, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = EIO; /* the segment was cut short */
		if (n <= 0 || disk_write(fd, block, (size_t)n))
			return -1;
		at += (size_t)n;
	}
	return 0;
}

/* Writes what stands behind it over with itself: attempts, to be flushed again. */
static int filing_touch(int fd, size_t from)
{
	char block[FILING_BLOCK];
	off_t at = (off_t)from;
	ssize_t n;
	while ((n = pread(fd, block, sizeof block, at)) > 0) {
		if (lseek(fd, at, SEEK_SET) < 0 || disk_write(fd, block, (size_t)n))
			return -1;
		at += n;
	}
	return n < 0 ? -1 : 0;
}

/* A file that is there already was cut short, or has attempts that the journal does not know. */
static int filing_open(int dir_fd, const char *name, bool *there)
{
	const int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	struct stat s;
	*there = false;
	int fd = openat(dir_fd, name, flags | O_CREAT | O_EXCL, 0600);
	if (fd >= 0 || errno != EEXIST)
		return fd;
	fd = openat(dir_fd, name, flags);
	if (fd >= 0 && !fstat(fd, &s) && S_ISREG(s.st_mode)) {
		*there = true;
		return fd;
	}
	if (fd >= 0)
		close(fd);
	if (unlinkat(dir_fd, name, 0))
		return -1;
	return openat(dir_fd, name, flags | O_CREAT | O_EXCL, 0600);
}

int journal_file_make(struct spool_entry *e)
{
	char id[SPOOL_ID_MAX + 1];
	int dir_fd = e->journal->spool->dir_fd;
	bool there;
	spool_id_text(e->number, id);
	struct spool_name name = spool_file_name(id);
	int fd = filing_open(dir_fd, name.s, &there);
	if (fd < 0)
		return errno;
	int rc = filing_copy(e, fd);
	if (!rc && there)
		rc = filing_touch(fd, journal_size(e));
	int error = rc ? errno : 0;
	/* What a flush of the journal finds to be written must not be hundreds of large files. */
	if (!error && journal_size(e) >= JOURNAL_EARLY)
		error = disk_begin_flush(fd);
	if (close(fd) && !error)
		error = errno;
	if (error && !there && unlinkat(dir_fd, name.s, 0))
		e->journal->strays = true;
	if (!error) {
		journal_entry_move(e, JOURNAL_MADE);
		journal_relieve_soon(e->journal);
	}
	return error;
}

static void filing_failed(struct spool_entry *e, int error)
{
	char id[SPOOL_ID_MAX + 1];
	struct journal *j = e->journal;
	spool_id_text(e->number, id);
	log_error(id, "no file yet", LOG_S("error", strerror(error)));
	j->retry_at = loop_now() + JOURNAL_RETRY_MS;
	/* What cannot be read must not be in the way of others. */
	if (error == EIO)
		journal_entry_move(e, (enum journal_state)e->state);
}

/* ---- the child ---- */

static int filing_sync_file(const struct journal *j, uint64_t number)
{
	char id[SPOOL_ID_MAX + 1];
	spool_id_text(number, id);
	int fd = openat(j->spool->dir_fd, spool_file_name(id).s,
	                O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : errno; /* delivered meanwhile */
	int error = fsync(fd) ? errno : 0;
	close(fd);
	return error;
}

/* Flushes all that are FLUSHING, and their names. Returns 0, or an errno. */
static int filing_sync(const struct journal *j)
{
	const struct journal_list *list = &j->list[JOURNAL_FLUSHING];
	int error = 0;
	bool each = list->count < FILING_FEW || !disk_has_syncfs();
#if defined(__linux__)
	if (!each && syncfs(j->dir_fd))
		error = errno;
#endif
	for (const struct spool_entry *e = list->oldest; each && e && !error; e = e->newer)
		error = filing_sync_file(j, e->number);
	if (!error && fsync(j->dir_fd))
		error = errno;
	return error;
}

static int filing_work(const struct journal *j)
{
	return j->job == JOURNAL_MAKE ? journal_fill_new(j) : filing_sync(j);
}

/* In the child. Nothing is held open but the directory, as 0: a child that outlives its parent must
 * not keep the ports from the next daemon. */
static void filing_child(struct journal *j)
{
	sigset_t none;
	if (dup2(j->dir_fd, 0) < 0)
		_exit(EMFILE & 127);
	j->dir_fd = j->spool->dir_fd = 0;
	proc_spawn_clean();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	proc_spawn_limit(RLIMIT_CORE, 0);
	_exit(filing_work(j) & 127);
}

/* Their files are to be written over. */
static void filing_spoil(struct journal *j, enum journal_state state)
{
	while (j->list[state].oldest)
		journal_entry_move(j->list[state].oldest, JOURNAL_SPOILT);
}

static void filing_flushed(struct journal *j, int error)
{
	struct journal_list *list = &j->list[JOURNAL_FLUSHING];
	if (error && list->oldest) {
		log_error("-", "files of the journal not flushed", LOG_S("error", strerror(error)));
		j->retry_at = loop_now() + JOURNAL_RETRY_MS;
	}
	if (error) {
		/* What has been made since may be meant, too: the error is told but once. */
		filing_spoil(j, JOURNAL_FLUSHING);
		filing_spoil(j, JOURNAL_MADE);
	}
	while (list->oldest) {
		stat_add(&stat_filed, 1);
		journal_end(list->oldest);
	}
}

static void filing_named(void *arg, int error)
{
	struct journal *j = arg;
	j->job = JOURNAL_IDLE;
	if (error) {
		/* It may be about their names, and the child that flushes them is not told. */
		filing_spoil(j, JOURNAL_MADE);
		journal_drop_segment(j, j->making, true);
		j->make_at = loop_now() + JOURNAL_AGAIN_MS;
	} else {
		j->seg[j->making].pins--;
	}
	journal_relieve_soon(j);
}

static void filing_made(struct journal *j, int error)
{
	if (!error)
		error = j->broken ? ECANCELED : journal_name_new(j);
	if (!error) {
		j->job = JOURNAL_NAME;
		j->name_sync = (struct disk_sync){
		    .fd = -1, .dir_fd = j->dir_fd, .done = filing_named, .arg = j};
		disk_sync(&j->name_sync);
		return;
	}
	if (error != ECANCELED)
		log_info("-", "no new segment of the journal", LOG_S("error", strerror(error)));
	j->make_at = loop_now() + JOURNAL_AGAIN_MS;
}

static void filing_child_ended(void *arg, int status)
{
	struct journal *j = arg;
	enum journal_job job = j->job;
	int error = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
	j->job = JOURNAL_IDLE;
	j->pid = 0;
	if (job == JOURNAL_MAKE)
		filing_made(j, error);
	else
		filing_flushed(j, error);
	journal_relieve_soon(j);
}

bool journal_start_job(struct journal *j, enum journal_job job)
{
	sigset_t all, before;
	if (j->job != JOURNAL_IDLE)
		return false;
	j->job = job;
	/* A handler that ran in the child would write to our self-pipe. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t pid = fork();
	if (pid == 0)
		filing_child(j);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0) {
		j->job = JOURNAL_IDLE;
		return false;
	}
	j->pid = pid;
	loop_child_watch(&j->child, pid, filing_child_ended, j);
	return true;
}

static void filing_end_child(struct journal *j)
{
	loop_child_unwatch(&j->child);
	kill(j->pid, SIGKILL);
	while (waitpid(j->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

void journal_stop_job(struct journal *j)
{
	if (j->job == JOURNAL_IDLE)
		return;
	if (j->job == JOURNAL_NAME) {
		disk_sync_cancel(&j->name_sync);
		journal_drop_segment(j, j->making, true);
	} else {
		filing_end_child(j);
	}
	if (j->job == JOURNAL_MAKE)
		unlinkat(j->spool->dir_fd, JOURNAL_NEW_FILE, 0);
	/* Who flushed may have been told of an error, which nobody will be told again. */
	filing_spoil(j, JOURNAL_FLUSHING);
	filing_spoil(j, JOURNAL_MADE);
	j->job = JOURNAL_IDLE;
}

/* ---- when ---- */

/* Is the journal running out of segments? With few of them half of the last one is waited for. */
static bool filing_is_tight(const struct journal *j, size_t spare)
{
	bool half = j->active == JOURNAL_NONE || j->at >= JOURNAL_HALF;
	return spare == 0 ? half : 4 * spare < JOURNAL_SEGMENTS;
}

#define JOURNAL_URGENT (JOURNAL_COUNT_MAX - JOURNAL_COUNT_MAX / 16)

/* Is there no time to lose? Else sessions come first. */
static bool filing_is_pressed(const struct journal *j, size_t spare)
{
	return j->broken || 8 * spare < JOURNAL_SEGMENTS || j->count > JOURNAL_URGENT;
}

/* Many at a time, or each new message would have an old one made a file and flushed. */
static void filing_watch_count(struct journal *j)
{
	if (j->count >= JOURNAL_FILL)
		j->thinning = true;
	else if (j->count < JOURNAL_FILL - JOURNAL_FILL / 8)
		j->thinning = false;
}

/* ms until it is due. */
static int64_t filing_wait(const struct journal *j, const struct spool_entry *e, bool tight)
{
	if (j->broken || j->thinning || (tight && e->segment != j->active))
		return 0;
	return (int64_t)e->since * 1000 + JOURNAL_AGE_MS - loop_now();
}

/* Who is next, with *wait ms until then; NULL when there is nobody. */
static struct spool_entry *filing_next(const struct journal *j, bool tight, int64_t *wait)
{
	int64_t retry = j->retry_at - loop_now();
	struct spool_entry *e = j->list[JOURNAL_SPOILT].oldest;
	*wait = 0;
	if (!e && (e = j->list[JOURNAL_LIVE].oldest))
		*wait = filing_wait(j, e, tight);
	if (*wait < retry)
		*wait = retry;
	return e;
}

/* When the slice that begins now is over: it has as long as sessions had since the last one, or
 * they would get little done where a turn is short. One file is made in any case. */
static int64_t filing_until(const struct journal *j)
{
	int64_t now = loop_now_us();
	int64_t theirs = now - j->sliced_us;
	return now + (theirs < 1 ? 1 : theirs < JOURNAL_SLICE_US ? theirs : JOURNAL_SLICE_US);
}

/* Returns ms until there is more to do, -1: nothing, or when the child has ended. */
static int64_t filing_step(struct journal *j)
{
	const struct journal_list *made = &j->list[JOURNAL_MADE];
	size_t spare = journal_spare(j);
	bool tight = filing_is_tight(j, spare);
	int64_t until = filing_until(j);
	struct spool_entry *e;
	int64_t wait;
	int error;
	filing_watch_count(j);
	while ((e = filing_next(j, tight, &wait)) && wait <= 0 && made->count < JOURNAL_FILES_MAX &&
	       loop_now_us() < until) {
		if ((error = journal_file_make(e)))
			filing_failed(e, error);
		loop_refresh();
	}
	j->sliced_us = loop_now_us();
	bool more = e && wait <= 0;
	if (made->count > 0 && j->job == JOURNAL_IDLE &&
	    (!more || made->count >= JOURNAL_FILES_MAX)) {
		while (made->oldest)
			journal_entry_move(made->oldest, JOURNAL_FLUSHING);
		if (!journal_start_job(j, JOURNAL_FLUSH)) {
			filing_flushed(j, EAGAIN);
			return JOURNAL_RETRY_MS;
		}
	}
	if (!e || (more && made->count >= JOURNAL_FILES_MAX))
		return -1;
	if (wait > 0)
		return wait;
	return filing_is_pressed(j, spare) ? 0 : JOURNAL_PAUSE_MS;
}

void journal_relieve(struct journal *j)
{
	if (j->closed)
		return;
	if (j->broken)
		journal_write(j);
	/* Files first: their flush must not wait for segments again and again. */
	int64_t wait = j->replay ? -1 : filing_step(j);
	int64_t other = journal_tend(j);
	if (wait < 0 || (other >= 0 && other < wait))
		wait = other;
	if (wait >= 0)
		loop_timer_set(&j->timer, wait);
	else
		loop_timer_stop(&j->timer);
}

void journal_relieve_soon(struct journal *j)
{
	if (!j->closed)
		loop_timer_set(&j->timer, 0);
}

/* Makes files of the next JOURNAL_FILES_MAX, or of as many as there is time for, and flushes them.
 * Returns 0, or an errno. */
static int filing_last(struct journal *j, int64_t until)
{
	struct journal_list *made = &j->list[JOURNAL_MADE];
	struct spool_entry *e;
	int error = 0;
	while (!error && made->count < JOURNAL_FILES_MAX && loop_now() < until &&
	       ((e = j->list[JOURNAL_SPOILT].oldest) || (e = j->list[JOURNAL_LIVE].oldest))) {
		error = journal_file_make(e);
		loop_refresh();
	}
	while (!error && made->oldest)
		journal_entry_move(made->oldest, JOURNAL_FLUSHING);
	if (!error && j->list[JOURNAL_FLUSHING].oldest)
		error = filing_sync(j);
	if (!error)
		filing_flushed(j, 0);
	loop_refresh();
	return error;
}

/* Messages whose only durable place is the journal; at least, while it is not all read. */
static size_t filing_left(const struct journal *j)
{
	return (j->replay ? 1 : 0) + j->list[JOURNAL_LIVE].count + j->list[JOURNAL_MADE].count +
	       j->list[JOURNAL_FLUSHING].count + j->list[JOURNAL_SPOILT].count;
}

size_t journal_file_all(struct journal *j)
{
	disk_sync_now();
	journal_stop_job(j);
	int error = journal_replay_all(j) ? errno : 0;
	journal_write_all(j); /* what is done is done, also when the end is cut short */
	/* A journal that was given up gets no DONE, and would bring back what was delivered. */
	int64_t until = j->broken ? INT64_MAX : loop_now() + JOURNAL_STOP_MS;
	while (!error && filing_left(j) > 0 && loop_now() < until)
		error = filing_last(j, until);
	if (error)
		log_error("-", "no file yet", LOG_S("error", strerror(error)));
	size_t left = filing_left(j);
	if (left > 0)
		journal_write_all(j);
	j->closed = true;
	return left;
}
