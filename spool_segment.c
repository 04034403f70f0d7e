/*
 * spool_segment: the files of the journal: how many there are, and whose turn it is.
 *
 * There is one from the start; one or two ahead of the active one are made in the background, by a
 * child, as long as the disk has room, up to JOURNAL_SEGMENTS; after JOURNAL_IDLE_MS without need
 * those beyond JOURNAL_KEEP go again. A new one is written under another name and gets its own
 * when it is whole and flushed: a child that outlives its parent cannot write over what a later
 * daemon uses.
 *
 * Order. Records of DONE speak of messages in older segments. So the oldest segment is always the
 * first to be written over or removed. One that readers still need when its records are all done
 * is made to say that it is empty, which spoils no text of a message: the END at its beginning is
 * shorter than what stands before the first text.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_journal_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

/* Free segments there should be at any time. */
#define JOURNAL_AHEAD 2

struct spool_name journal_name(unsigned segment)
{
	struct spool_name name;
	snprintf(name.s, sizeof name.s, ".journal.%u", segment % 100);
	return name;
}

/* ---- whose turn it is ---- */

size_t journal_segments(const struct journal *j)
{
	size_t n = 0;
	for (unsigned i = 0; i < JOURNAL_NAMES; i++)
		n += j->seg[i].fd >= 0;
	return n;
}

/* The one with the oldest records after those of generation `after`, or JOURNAL_NONE. */
static unsigned journal_oldest(const struct journal *j, uint64_t after)
{
	unsigned found = JOURNAL_NONE;
	for (unsigned i = 0; i < JOURNAL_NAMES; i++) {
		const struct journal_segment *seg = &j->seg[i];
		if (seg->fd >= 0 && i != j->active && seg->generation > after &&
		    (found == JOURNAL_NONE || seg->generation < j->seg[found].generation))
			found = i;
	}
	return found;
}

static bool journal_is_blank(const struct journal *j, unsigned i)
{
	const struct journal_segment *seg = &j->seg[i];
	return seg->fd >= 0 && i != j->active && seg->generation == 0 && seg->pins == 0;
}

unsigned journal_next(const struct journal *j)
{
	for (unsigned i = 0; i < JOURNAL_NAMES; i++)
		if (journal_is_blank(j, i) && j->seg[i].size == JOURNAL_BYTES)
			return i;
	unsigned i = journal_oldest(j, 0);
	bool ready = i != JOURNAL_NONE && j->seg[i].entries == 0 && j->seg[i].pins == 0 &&
	             j->seg[i].size == JOURNAL_BYTES && !j->seg[i].sync.waiting;
	return ready ? i : JOURNAL_NONE;
}

static size_t journal_free_segments(const struct journal *j)
{
	size_t n = 0;
	for (unsigned i = 0; i < JOURNAL_NAMES; i++)
		n += journal_is_blank(j, i);
	unsigned i = journal_oldest(j, 0);
	while (i != JOURNAL_NONE && j->seg[i].entries == 0) {
		n++;
		i = journal_oldest(j, j->seg[i].generation);
	}
	return n;
}

size_t journal_spare(const struct journal *j)
{
	size_t have = journal_segments(j);
	bool more = have < JOURNAL_SEGMENTS && loop_now() >= j->make_at;
	return journal_free_segments(j) + (more ? JOURNAL_SEGMENTS - have : 0);
}

/* ---- making ---- */

/* Returns 0, or -1 with errno. */
static int journal_write_end(int fd, uint64_t generation)
{
	char head[JOURNAL_FRAME];
	size_t n = journal_head(head, generation, JOURNAL_END, 0, 0, 0);
	memcpy(head + n, journal_behind[JOURNAL_END], strlen(journal_behind[JOURNAL_END]));
	n += strlen(journal_behind[JOURNAL_END]);
	ssize_t got = pwrite(fd, head, n, 0);
	if (got >= 0 && (size_t)got < n)
		errno = ENOSPC;
	return got == (ssize_t)n ? 0 : -1;
}

int journal_wipe(struct journal *j, unsigned segment)
{
	struct journal_segment *seg = &j->seg[segment];
	if (journal_write_end(seg->fd, ++j->generation) || fdatasync(seg->fd))
		return -1;
	seg->generation = 0;
	journal_drop_ended(j, segment);
	return 0;
}

/* A flush of the journal that comes meanwhile carries what the disk has got of this, so that is
 * given to it in pieces: all at once, sessions would wait for all of it. Unless there is a hurry.
 */
static int journal_fill(int fd, uint64_t generation, bool hurry)
{
	static const struct timespec pause = {.tv_nsec = JOURNAL_PIECE_US * 1000L};
	static const size_t step = 65536;
	char *blank = malloc(step);
	int error = blank ? 0 : ENOMEM;
	if (blank)
		memset(blank, '\n', step);
	for (size_t left = JOURNAL_BYTES; !error && left > 0;) {
		size_t n = left < step ? left : step;
		error = disk_write(fd, blank, n) ? errno : 0;
		left -= n;
		if (error || hurry || left == 0 || left % JOURNAL_PIECE != 0)
			continue;
		error = disk_write_out(fd);
		nanosleep(&pause, NULL);
	}
	free(blank);
	errno = error;
	return error || journal_write_end(fd, generation) ? -1 : fsync(fd);
}

int journal_fill_new(const struct journal *j)
{
	int dir_fd = j->spool->dir_fd;
	if (unlinkat(dir_fd, JOURNAL_NEW_FILE, 0) && errno != ENOENT)
		return errno;
	int fd = openat(dir_fd, JOURNAL_NEW_FILE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno;
	int error = journal_fill(fd, j->generation + 1, journal_free_segments(j) == 0) ? errno : 0;
	close(fd);
	if (error)
		unlinkat(dir_fd, JOURNAL_NEW_FILE, 0);
	return error;
}

/* The child of a daemon that was killed may have put its own file there, and still be at it. The
 * END at the beginning is the last it writes. */
static bool journal_is_filled(int fd)
{
	struct stat s;
	char c;
	return !fstat(fd, &s) && s.st_size == JOURNAL_BYTES && pread(fd, &c, 1, 0) == 1 &&
	       c != '\n';
}

int journal_name_new(struct journal *j)
{
	int dir_fd = j->spool->dir_fd;
	j->making = 0;
	while (j->making + 1 < JOURNAL_SEGMENTS && j->seg[j->making].fd >= 0)
		j->making++;
	if (j->seg[j->making].fd >= 0)
		return EEXIST;
	int fd = openat(dir_fd, JOURNAL_NEW_FILE, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno;
	if (!journal_is_filled(fd)) {
		close(fd);
		return EAGAIN;
	}
	if (renameat(dir_fd, JOURNAL_NEW_FILE, dir_fd, journal_name(j->making).s)) {
		int error = errno;
		close(fd);
		return error;
	}
	/* The child has written it with a generation that may be in use by now: it is read before
	 * all others, and is empty. */
	j->seg[j->making].fd = fd;
	j->seg[j->making].generation = 0;
	j->seg[j->making].size = JOURNAL_BYTES;
	j->seg[j->making].error = 0;
	/* Not to be used before its name is durable. */
	j->seg[j->making].pins = 1;
	return 0;
}

/* Is there room for one more, and for mail? The first two are small beside what mail needs. */
static bool journal_has_room(const struct journal *j)
{
	bool no_inodes;
	int64_t n = (int64_t)journal_segments(j) + 1;
	int64_t room = disk_free(j->spool->dir_fd, &no_inodes);
	int64_t want = n <= 2 ? JOURNAL_BYTES + SPOOL_FREE_MIN : n * JOURNAL_BYTES * JOURNAL_SHARE;
	return !no_inodes && room >= want;
}

int journal_make_first(struct journal *j)
{
	int error = journal_has_room(j) ? journal_fill_new(j) : ENOSPC;
	if (!error)
		error = journal_name_new(j);
	if (!error && fsync(j->spool->dir_fd)) {
		error = errno;
		journal_drop_segment(j, j->making, true);
	}
	if (error)
		j->make_at = loop_now() + JOURNAL_AGAIN_MS;
	else
		j->seg[j->making].pins = 0;
	errno = error;
	return error ? -1 : 0;
}

/* ---- tending ---- */

void journal_drop_segment(struct journal *j, unsigned segment, bool gone)
{
	struct journal_segment *seg = &j->seg[segment];
	disk_sync_cancel(&seg->sync);
	if (seg->fd < 0)
		return;
	close(seg->fd);
	seg->fd = -1;
	seg->generation = 0;
	seg->error = 0;
	seg->pins = 0;
	seg->flushing = seg->again = false;
	seg->stays =
	    gone && unlinkat(j->spool->dir_fd, journal_name(segment).s, 0) && errno != ENOENT;
	if (seg->stays)
		log_error("-", "journal's file stays", LOG_S("error", strerror(errno)));
}

/* Is a file still there that could not be removed? */
static bool journal_stays(struct journal *j)
{
	bool any = false;
	for (unsigned i = 0; i < JOURNAL_NAMES; i++) {
		struct journal_segment *seg = &j->seg[i];
		if (seg->stays)
			seg->stays =
			    unlinkat(j->spool->dir_fd, journal_name(i).s, 0) && errno != ENOENT;
		any |= seg->stays;
	}
	return any;
}

/* What was given up, and is not needed by anybody any more, goes; then it may be tried again. As
 * long as a file of it stays, a start would bring back what was delivered meanwhile. Returns in how
 * many ms to come back; -1: somebody else will. */
static int64_t journal_renew(struct journal *j)
{
	for (unsigned i = 0; i < JOURNAL_NAMES; i++)
		if (j->seg[i].entries + j->seg[i].pins > 0)
			return -1;
	if (j->count > 0 || j->job != JOURNAL_IDLE)
		return -1;
	for (unsigned i = 0; i < JOURNAL_NAMES; i++)
		journal_drop_segment(j, i, true);
	j->active = JOURNAL_NONE;
	buf_clear(&j->out);
	if (journal_stays(j))
		return JOURNAL_RETRY_MS;
	j->make_at = loop_now() + JOURNAL_AGAIN_MS;
	j->broken = j->unwanted;
	return -1;
}

/* Segments of another size (config.h has changed) go when they are free, and what readers hold is
 * out of the way of the others. */
static void journal_retire(struct journal *j)
{
	unsigned i = journal_oldest(j, 0);
	if (i != JOURNAL_NONE && j->seg[i].entries == 0 &&
	    (j->seg[i].pins > 0 || j->seg[i].size != JOURNAL_BYTES) && journal_wipe(j, i))
		journal_break(j, &j->seg[i], errno);
	for (i = 0; i < JOURNAL_NAMES; i++)
		if (journal_is_blank(j, i) && j->seg[i].size != JOURNAL_BYTES)
			journal_drop_segment(j, i, true);
}

/* Removes one. */
static void journal_take_back(struct journal *j)
{
	unsigned i = journal_next(j);
	if (i == JOURNAL_NONE)
		return;
	if (j->seg[i].generation != 0 && journal_wipe(j, i))
		journal_break(j, &j->seg[i], errno);
	else
		journal_drop_segment(j, i, true);
}

int64_t journal_tend(struct journal *j)
{
	int64_t again = j->broken ? journal_renew(j) : -1;
	if (j->broken)
		return again;
	journal_retire(j);
	if (j->broken)
		return 0;
	size_t have = journal_segments(j);
	int64_t idle = j->begun_at + JOURNAL_IDLE_MS - loop_now();
	bool too_many = have > JOURNAL_KEEP && journal_free_segments(j) > JOURNAL_AHEAD;
	if (too_many && idle <= 0 && j->job == JOURNAL_IDLE) {
		journal_take_back(j);
		return journal_segments(j) < have ? 0 : JOURNAL_IDLE_MS;
	}
	bool wanted = have < JOURNAL_SEGMENTS && journal_free_segments(j) < JOURNAL_AHEAD;
	if (wanted && loop_now() >= j->make_at && j->job == JOURNAL_IDLE &&
	    (!journal_has_room(j) || !journal_start_job(j, JOURNAL_MAKE)))
		j->make_at = loop_now() + JOURNAL_AGAIN_MS;
	if (wanted && j->make_at > loop_now())
		return j->make_at - loop_now();
	return have > JOURNAL_KEEP ? (idle > 0 ? idle : JOURNAL_IDLE_MS) : -1;
}

void journal_empty(struct journal *j)
{
	size_t have = journal_segments(j);
	unsigned i;
	j->active = JOURNAL_NONE;
	journal_drop_ended(j, JOURNAL_NONE);
	while ((i = journal_oldest(j, 0)) != JOURNAL_NONE) {
		bool gone = j->broken || have > JOURNAL_KEEP || j->seg[i].size != JOURNAL_BYTES;
		if (journal_wipe(j, i))
			gone = true;
		if (gone)
			journal_drop_segment(j, i, true);
		j->seg[i].generation = 0;
		have -= gone;
	}
	for (i = JOURNAL_NAMES; i-- > 0 && have > JOURNAL_KEEP;)
		if (j->seg[i].fd >= 0) {
			journal_drop_segment(j, i, true);
			have--;
		}
}
