/*
 * spool_journal: a log of new messages: one flush makes a whole batch of them durable.
 *
 * Segments are files in queue/, written in full when they are made and then over again from their
 * beginning in turns: a flush has data to write, and nothing of the file system's. Each turn has a
 * number, the generation, which every record bears: what follows the last record of a turn is left
 * from an earlier one. A message is a record with the very text that its file would have; an
 * attempt is one; and DONE says which messages are gone, or are files. A segment is written over
 * only when every message in it and in all older ones is done, so a record of DONE is never needed
 * longer than it stands.
 *
 * Invariants. Nobody is told that a message is ours before the flush behind its record. The active
 * segment keeps place for the DONE of each message there is; where many single ones have used it
 * up, they wait in memory for the next segment. After an error of writing or flushing no message
 * goes into the journal, since what the kernel could not write it may call clean: what is there
 * becomes files, new messages are files, and when all are, a new journal is tried.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_journal_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "crc.h"
#include "log.h"

/* More than this goes to the file without being copied. */
#define JOURNAL_OUT_MAX 32768

/* Messages in one record of DONE. */
#define JOURNAL_DONE_STEP 256

#if JOURNAL_BYTES && JOURNAL_BYTES < 2 * JOURNAL_MESSAGE_MAX
#error "JOURNAL_BYTES is too small for JOURNAL_MESSAGE_MAX"
#endif

#if JOURNAL_BYTES > JOURNAL_BYTES_MAX
#error "JOURNAL_BYTES must be 1 GB at most"
#endif

#if JOURNAL_SEGMENTS > JOURNAL_NAMES || JOURNAL_SEGMENTS < 2
#error "JOURNAL_SEGMENTS must be 2 to 64"
#endif

/* ---- writing ---- */

/* Nothing that is written later is of use: a reader stops where this is missing. */
void journal_break(struct journal *j, struct journal_segment *seg, int error)
{
	if (!seg->error)
		seg->error = error;
	if (!j->broken)
		log_error("-", "journal given up", LOG_S("error", strerror(error)));
	j->broken = true;
	journal_relieve_soon(j);
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

size_t journal_head(char *head, uint64_t generation, enum journal_kind kind, uint64_t number,
                    size_t n, uint32_t crc)
{
	char id[SPOOL_ID_MAX + 1];
	char *p = head;
	spool_id_text(number, id);
	p = bytes_put_number(bytes_put(p, "record { generation: "), (int64_t)generation);
	p = bytes_put(bytes_put(p, " kind: "), journal_kind_name[kind]);
	p = bytes_put(bytes_put(bytes_put(p, " id: \""), id), "\"");
	p = bytes_put_number(bytes_put(p, " length: "), (int64_t)n);
	p = bytes_put_number(bytes_put(p, " crc32: "), crc);
	uint32_t sum = crc_add(0, head, (size_t)(p - head));
	p = bytes_put_number(bytes_put(p, " head_crc32: "), sum);
	p = bytes_put(p, journal_before[kind]);
	return (size_t)(p - head);
}

size_t journal_put(struct journal *j, enum journal_kind kind, uint64_t number, struct slice text,
                   uint32_t crc)
{
	char head[JOURNAL_FRAME];
	if (j->broken || j->closed)
		return 0;
	journal_append(j, head,
	               journal_head(head, j->seg[j->active].generation, kind, number, text.n, crc));
	if (j->broken)
		return 0; /* where it would be may be the end of another */
	size_t at = j->at;
	journal_append(j, text.p, text.n);
	journal_append(j, journal_behind[kind], strlen(journal_behind[kind]));
	return at;
}

void journal_withdraw(const struct spool_entry *e)
{
	const struct journal_segment *seg = &e->journal->seg[e->segment];
	const size_t n = sizeof JOURNAL_REFUSED - 1;
	if (e->offset >= n && pwrite(seg->fd, JOURNAL_REFUSED, n, (off_t)(e->offset - n)) < 0)
		return; /* nor was it written, then */
}

/* One record for up to JOURNAL_DONE_STEP of those who have ended. False when there is no place. */
static bool journal_put_done(struct journal *j)
{
	char text[JOURNAL_DONE_STEP * JOURNAL_DONE_BYTES + 1];
	char id[SPOOL_ID_MAX + 1];
	char *p = text;
	size_t count = j->list[JOURNAL_ENDED].count;
	if (count > JOURNAL_DONE_STEP)
		count = JOURNAL_DONE_STEP;
	if (j->at + count * JOURNAL_DONE_BYTES + 2 * JOURNAL_FRAME > JOURNAL_BYTES)
		return false;
	for (; count > 0; count--) {
		struct spool_entry *e = j->list[JOURNAL_ENDED].oldest;
		spool_id_text(e->number, id);
		p = bytes_put(bytes_put(p, "done: \""), id);
		p = bytes_put(p, count > 1 ? "\" " : "\"\n");
		journal_entry_drop(e);
	}
	size_t n = (size_t)(p - text);
	journal_put(j, JOURNAL_DONE, 0, (struct slice){text, n}, crc_add(0, text, n));
	return true;
}

void journal_write(struct journal *j)
{
	if (j->broken || j->closed) {
		journal_drop_ended(j, JOURNAL_NONE);
		journal_relieve_soon(j);
		/* Who waits for it must learn that it is not written. */
		if (j->out.len > 0 && j->active != JOURNAL_NONE && !j->seg[j->active].error)
			j->seg[j->active].error = EIO;
		buf_truncate(&j->out, 0);
	}
	if (j->active == JOURNAL_NONE)
		return;
	while (j->list[JOURNAL_ENDED].oldest && journal_put_done(j))
		;
	size_t end = j->at;
	if (j->out.len == 0)
		return;
	journal_put(j, JOURNAL_END, 0, (struct slice){"", 0}, 0);
	journal_out(j);
	j->at = end;
	loop_batch_stop(&j->batch);
}

void journal_write_soon(struct journal *j)
{
	loop_batch_ask(&j->batch);
}

/* ---- place ---- */

/* With the DONE of every message, that of a new one, and the end. */
static bool journal_fits(const struct journal *j, size_t n)
{
	size_t done = (j->count + 1) * JOURNAL_DONE_BYTES + 3 * JOURNAL_FRAME;
	return j->active != JOURNAL_NONE && j->at + n + done <= JOURNAL_BYTES;
}

bool journal_make_place(struct journal *j, size_t n)
{
	if (j->broken || j->closed)
		return false;
	if (journal_fits(j, n)) {
		/* When there are few segments the other one is needed soon. */
		if (j->at < JOURNAL_HALF && j->at + n >= JOURNAL_HALF)
			journal_relieve_soon(j);
		return true;
	}
	unsigned next = journal_next(j);
	if (next == JOURNAL_NONE)
		return false;
	journal_write(j);
	/* A crash in the middle of the first write must not bring the older records back. */
	if (j->seg[next].generation != 0 && journal_wipe(j, next)) {
		journal_break(j, &j->seg[next], errno);
		return false;
	}
	j->active = next;
	j->seg[next].generation = ++j->generation;
	j->at = 0;
	j->begun_at = loop_now();
	journal_relieve_soon(j);
	return !j->broken && journal_fits(j, n);
}

void journal_write_all(struct journal *j)
{
	journal_write(j);
	if (j->list[JOURNAL_ENDED].oldest &&
	    journal_make_place(j, JOURNAL_DONE_STEP * JOURNAL_DONE_BYTES))
		journal_write(j);
}

static void journal_batch(void *arg)
{
	journal_write_all(arg);
}

/* ---- flushing ---- */

static int journal_prepare(void *arg)
{
	struct journal_segment *seg = arg;
	struct journal *j = seg->journal;
	if (seg == &j->seg[j->active])
		journal_write(j);
	seg->flushing = true;
	seg->sync.dir_fd = j->names_fd;
	journal_flushing(j, (unsigned)(seg - j->seg));
	return seg->error;
}

static void journal_synced(void *arg, int error);

static void journal_named(struct journal *j)
{
	if (j->names_fd >= 0)
		close(j->names_fd);
	j->names_fd = -1;
}

static void journal_ask_flush_of(struct journal *j, unsigned segment)
{
	struct journal_segment *seg = &j->seg[segment];
	if (seg->sync.waiting) {
		seg->again = seg->flushing; /* else it will be prepared yet */
		return;
	}
	seg->sync = (struct disk_sync){.fd = seg->fd,
	                               .dir_fd = -1,
	                               .data_only = true,
	                               .prepare = journal_prepare,
	                               .done = journal_synced,
	                               .arg = seg};
	disk_sync(&seg->sync);
}

/* Others of the same batch have been told before: what they have put into the journal since is not
 * in this flush. */
static void journal_synced(void *arg, int error)
{
	struct journal_segment *seg = arg;
	struct journal *j = seg->journal;
	unsigned segment = (unsigned)(seg - j->seg);
	bool again = seg->again;
	seg->flushing = seg->again = false;
	if (error)
		journal_break(j, seg, error);
	else
		journal_named(j);
	if (again)
		journal_ask_flush_of(j, segment);
	journal_flushed(j, segment, error);
}

void journal_ask_flush(struct journal *j)
{
	journal_ask_flush_of(j, j->active);
}

/* ---- opening ---- */

static void journal_free(struct journal *j)
{
	j->closed = true;
	journal_stop_job(j);
	journal_replay_free(j);
	for (unsigned s = JOURNAL_WAITING; s < JOURNAL_STATES; s++)
		while (j->list[s].oldest)
			journal_entry_drop(j->list[s].oldest);
	loop_timer_stop(&j->timer);
	loop_batch_stop(&j->batch);
	for (unsigned i = 0; i < JOURNAL_NAMES; i++) {
		disk_sync_cancel(&j->seg[i].sync);
		journal_drop_segment(j, i, false);
	}
	journal_named(j);
	if (j->dir_fd >= 0)
		close(j->dir_fd);
	buf_clear(&j->out);
	j->spool->journal = NULL;
	free(j);
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
	j->dir_fd = openat(sp->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	j->names_fd = openat(sp->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	j->active = JOURNAL_NONE;
	j->begun_at = loop_now();
	for (unsigned i = 0; i < JOURNAL_NAMES; i++) {
		j->seg[i].journal = j;
		j->seg[i].fd = -1;
	}
	buf_init(&j->out, JOURNAL_OUT_MAX);
	loop_timer_init(&j->timer, journal_fire, j);
	loop_batch_init(&j->batch, journal_batch, j);
	return j;
}

/* Where the name of the first segment is taken there is no journal: somebody wants it so. */
static bool journal_is_unwanted(const struct spool *sp)
{
	struct stat s;
	return !fstatat(sp->dir_fd, journal_name(0).s, &s, AT_SYMLINK_NOFOLLOW) &&
	       S_ISDIR(s.st_mode);
}

int journal_open(struct spool *sp)
{
	errno = ENOMEM;
	struct journal *j = journal_new(sp);
	if (!j || j->dir_fd < 0 || j->names_fd < 0 || journal_replay_begin(j)) {
		/* Going on without it would hide messages, and bring back what is done meanwhile.
		 */
		int error = errno;
		log_error("-", "the journal cannot be read", LOG_S("error", strerror(error)));
		if (j)
			journal_free(j);
		errno = error;
		return -1;
	}
	sp->journal = j;
	unlinkat(sp->dir_fd, JOURNAL_NEW_FILE, 0); /* of a start that was cut short */
	j->broken = j->unwanted = JOURNAL_BYTES == 0 || journal_is_unwanted(sp);
	bool none = journal_segments(j) == 0;
	if (none && j->unwanted) {
		journal_free(j);
		return 0;
	}
	if (none && journal_make_first(j))
		log_info("-", "no journal yet", LOG_S("error", strerror(errno)));
	else if (none)
		journal_named(j);
	journal_relieve_soon(j);
	return 0;
}

void journal_close(struct spool *sp)
{
	struct journal *j = sp->journal;
	if (!j)
		return;
	size_t left = journal_file_all(j);
	if (left == 0)
		journal_empty(j);
	else
		log_info("-", "messages stay in the journal", LOG_N("messages", left));
	journal_free(j);
}
