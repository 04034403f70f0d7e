/*
 * spool_journal: a log of new messages: one flush makes a whole batch of them durable.
 *
 * Two files in queue/, written in full when they are made and then over again from their beginning
 * in turns: a flush has data to write, and nothing of the file system's. Each turn has a number,
 * the generation, which every record bears: what follows the last record of a turn is left from an
 * earlier one. A message is a record with the very text that its file would have; an attempt is
 * one; and DONE says that a message is gone, or is a file. A segment is written over only when
 * every message in it is done, so a record of DONE is never needed longer than it stands.
 *
 * Invariants. Nobody is told that a message is ours before the flush behind its record. There is
 * always place for the DONE of each message in memory. After an error of writing or flushing no
 * message goes into the journal again, since what the kernel could not write it may call clean:
 * what is in memory becomes files, new messages are files, and the next start makes a new journal.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_journal_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc.h"
#include "log.h"

/* More than this goes to the file without being copied. */
#define JOURNAL_OUT_MAX 32768

/* ---- writing ---- */

/* Nothing that is written later is of use: a reader stops where this is missing. */
static void journal_break(struct journal *j, struct journal_segment *seg, int error)
{
	if (!seg->error)
		seg->error = error;
	if (!j->broken)
		log_error("-", "journal given up", LOG_S("error", strerror(error)));
	j->broken = true;
}

static void journal_pwrite(struct journal *j, const char *p, size_t n, size_t at)
{
	struct journal_segment *seg = &j->seg[j->active];
	while (n > 0 && !seg->error) {
		ssize_t got = pwrite(seg->fd, p, n, (off_t)at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			journal_break(j, seg, got ? errno : ENOSPC);
			return;
		}
		p += got;
		n -= (size_t)got;
		at += (size_t)got;
	}
}

static void journal_out(struct journal *j)
{
	journal_pwrite(j, buf_data(&j->out), j->out.len, j->at - j->out.len);
	buf_truncate(&j->out, 0);
}

static void journal_append(struct journal *j, const char *p, size_t n)
{
	if (j->out.len + n > j->out.max)
		journal_out(j);
	if (n > j->out.max) {
		journal_pwrite(j, p, n, j->at);
	} else if (buf_append(&j->out, p, n)) {
		journal_break(j, &j->seg[j->active], ENOMEM);
		buf_clear(&j->out);
		return;
	}
	j->at += n;
}

void journal_put(struct journal *j, enum journal_kind kind, uint64_t number, struct slice text,
                 uint32_t crc)
{
	char id[SPOOL_ID_MAX + 1];
	char head[JOURNAL_FRAME];
	if (j->broken || j->closed)
		return;
	spool_id_text(number, id);
	int n = snprintf(head, sizeof head,
	                 "record { generation: %llu kind: %s id: \"%s\" length: %lu crc32: %lu",
	                 (unsigned long long)j->generation, journal_kind_name[kind], id,
	                 (unsigned long)text.n, (unsigned long)crc);
	uint32_t sum = crc_add(0, head, (size_t)n);
	n += snprintf(head + n, sizeof head - (size_t)n, " head_crc32: %lu%s", (unsigned long)sum,
	              journal_before[kind]);
	journal_append(j, head, (size_t)n);
	journal_append(j, text.p, text.n);
	journal_append(j, journal_behind[kind], strlen(journal_behind[kind]));
}

void journal_write(struct journal *j)
{
	size_t end = j->at;
	if (j->out.len == 0)
		return;
	journal_put(j, JOURNAL_END, 0, (struct slice){"", 0}, 0);
	journal_out(j);
	j->at = end;
}

/* ---- place ---- */

/* With the DONE of every message, that of a new one, and the end. */
static bool journal_fits(const struct journal *j, size_t n)
{
	size_t entries = j->seg[0].entries + j->seg[1].entries;
	return j->at + n + (entries + 3) * JOURNAL_FRAME <= JOURNAL_BYTES;
}

bool journal_make_place(struct journal *j, size_t n)
{
	if (j->broken || j->closed)
		return false;
	if (journal_fits(j, n))
		return true;
	if (j->seg[!j->active].entries > 0)
		return false;
	journal_write(j);
	j->active = !j->active;
	j->generation++;
	j->at = 0;
	return !j->broken && journal_fits(j, n);
}

/* ---- flushing ---- */

static int journal_prepare(void *arg)
{
	struct journal_segment *seg = arg;
	struct journal *j = seg->journal;
	if (seg == &j->seg[j->active])
		journal_write(j);
	return seg->error;
}

static void journal_synced(void *arg, int error)
{
	struct journal_segment *seg = arg;
	struct journal *j = seg->journal;
	if (error)
		journal_break(j, seg, error);
	journal_flushed(j, (unsigned)(seg - j->seg), error);
	journal_relieve(j);
}

void journal_ask_flush(struct journal *j)
{
	struct journal_segment *seg = &j->seg[j->active];
	if (seg->sync.waiting)
		return;
	seg->sync = (struct disk_sync){.fd = seg->fd,
	                               .dir_fd = -1,
	                               .data_only = true,
	                               .prepare = journal_prepare,
	                               .done = journal_synced,
	                               .arg = seg};
	disk_sync(&seg->sync);
}

/* ---- opening ---- */

/* Makes a segment's file, every block of it written. Returns 0, or -1 with errno. */
static int journal_fill(int fd)
{
	static const size_t step = 262144;
	char *blank = malloc(step);
	int rc = blank ? 0 : -1;
	if (blank)
		memset(blank, '\n', step);
	for (size_t left = JOURNAL_BYTES; !rc && left > 0;) {
		size_t n = left < step ? left : step;
		rc = disk_write(fd, blank, n);
		left -= n;
	}
	free(blank);
	return rc ? -1 : fsync(fd);
}

static int journal_open_segment(struct journal *j, unsigned i)
{
	int dir_fd = j->spool->dir_fd;
	const char *name = journal_name(i);
	struct stat s;
	int fd = openat(dir_fd, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 && !fstat(fd, &s) && S_ISREG(s.st_mode) && s.st_size == JOURNAL_BYTES) {
		j->seg[i].fd = fd;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	bool no_inodes;
	if (disk_free(dir_fd, &no_inodes) < 2 * (int64_t)JOURNAL_BYTES + SPOOL_FREE_MIN) {
		errno = ENOSPC;
		return -1;
	}
	if (unlinkat(dir_fd, name, 0) && errno != ENOENT)
		return -1;
	fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	j->seg[i].fd = fd;
	if (!journal_fill(fd))
		return 0;
	int saved = errno;
	unlinkat(dir_fd, name, 0);
	errno = saved;
	return -1;
}

/* Makes both segments say that they are empty, durably. Returns 0, or -1 with errno. */
static int journal_begin(struct journal *j)
{
	buf_clear(&j->out);
	j->broken = j->closed = false;
	for (unsigned i = 2; i-- > 0;) {
		struct journal_segment *seg = &j->seg[i];
		j->active = i;
		j->at = 0;
		j->generation++;
		seg->error = 0;
		journal_put(j, JOURNAL_END, 0, (struct slice){"", 0}, 0);
		journal_out(j);
		if (seg->error || fsync(seg->fd)) {
			errno = seg->error ? seg->error : errno;
			return -1;
		}
	}
	j->at = 0;
	return fsync(j->spool->dir_fd);
}

static void journal_free(struct journal *j)
{
	struct journal_list *lists[] = {&j->waiting, &j->filing, &j->live};
	j->closed = true;
	for (size_t i = 0; i < 3; i++)
		while (lists[i]->oldest)
			journal_entry_drop(lists[i]->oldest);
	loop_timer_stop(&j->timer);
	for (unsigned i = 0; i < 2; i++) {
		disk_sync_cancel(&j->seg[i].sync);
		if (j->seg[i].fd >= 0)
			close(j->seg[i].fd);
	}
	buf_clear(&j->out);
	j->spool->journal = NULL;
	free(j);
}

void journal_unlink(const struct journal *j)
{
	for (unsigned i = 0; i < 2; i++)
		unlinkat(j->spool->dir_fd, journal_name(i), 0);
}

static void journal_fire(void *arg)
{
	journal_relieve(arg);
}

static struct journal *journal_new(struct spool *sp)
{
	struct journal *j = calloc(1, sizeof *j);
	if (!j)
		return NULL;
	j->spool = sp;
	j->closed = true;
	for (unsigned i = 0; i < 2; i++) {
		j->seg[i].journal = j;
		j->seg[i].fd = -1;
	}
	buf_init(&j->out, JOURNAL_OUT_MAX);
	loop_timer_init(&j->timer, journal_fire, j);
	return j;
}

void journal_open(struct spool *sp)
{
	struct journal *j = journal_new(sp);
	const char *why = "replay";
	errno = ENOMEM;
	if (!j || journal_replay(j) || !journal_file_all(j))
		goto fail;
	why = "making it";
	if (JOURNAL_BYTES == 0) {
		journal_unlink(j);
		journal_free(j);
		return;
	}
	if (!journal_open_segment(j, 0) && !journal_open_segment(j, 1) && !journal_begin(j)) {
		sp->journal = j;
		return;
	}
	int error = errno;
	journal_unlink(j);
	errno = error;
fail:
	log_info("-", "no journal", LOG_S("at", why), LOG_S("error", strerror(errno)));
	if (j)
		journal_free(j);
}

void journal_close(struct spool *sp)
{
	struct journal *j = sp->journal;
	if (!j)
		return;
	if (journal_file_all(j)) {
		if (j->broken || journal_begin(j))
			journal_unlink(j);
	} else {
		log_error("-", "messages stay in the journal", LOG_S("until", "the next start"));
	}
	journal_free(j);
}
