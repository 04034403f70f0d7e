/*
 * spool_memory: messages that are in the journal and in memory, and how they become files.
 *
 * An entry is waiting (its record is not flushed yet), live, or filing (its file is written and
 * waits for the barrier). Only live and filing ones are found. Entries leave when they are done, or
 * for their files: when they are JOURNAL_AGE_MS old, when the pool is three quarters full, when the
 * segment they are in is needed next, and at the end. A file is written under its final name while
 * the record still stands, so whatever is cut short is begun again from the journal; the record is
 * done when file and directory are flushed.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_journal_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc.h"
#include "log.h"
#include "stat.h"

STAT_COUNTER(stat_journal, "spool/journal", "Messages written to the journal");
STAT_COUNTER(stat_filed, "spool/filed", "Messages of the journal that became files");

/* Files begun in one turn: a turn must stay short. */
#define JOURNAL_STEP 32

/* ---- lists ---- */

static struct spool_entry **journal_bucket(struct journal *j, uint64_t number)
{
	uint64_t mixed = number * UINT64_C(0x9E3779B97F4A7C15);
	return &j->bucket[(size_t)(mixed >> 32) & (JOURNAL_BUCKETS - 1)];
}

struct spool_entry *journal_entry_find(const struct journal *j, uint64_t number)
{
	struct spool_entry *e = *journal_bucket((struct journal *)j, number);
	while (e && e->number != number)
		e = e->chain;
	return e;
}

static void journal_unlist(struct spool_entry *e)
{
	struct journal_list *list = e->list;
	if (!list)
		return;
	*(e->older ? &e->older->newer : &list->oldest) = e->newer;
	*(e->newer ? &e->newer->older : &list->newest) = e->older;
	e->older = e->newer = NULL;
	e->list = NULL;
}

static void journal_entry_move(struct spool_entry *e, struct journal_list *to)
{
	journal_unlist(e);
	e->list = to;
	e->older = to->newest;
	*(to->newest ? &to->newest->newer : &to->oldest) = e;
	to->newest = e;
}

/* Back to the others after its file could not be made: it is the oldest again. */
static void journal_entry_return(struct spool_entry *e)
{
	struct journal *j = e->journal;
	journal_unlist(e);
	e->list = &j->live;
	e->newer = j->live.oldest;
	*(e->newer ? &e->newer->older : &j->live.newest) = e;
	j->live.oldest = e;
}

/* ---- entries ---- */

struct spool_entry *journal_entry_new(struct journal *j, uint64_t number, struct buf *text)
{
	struct spool_entry *e = calloc(1, sizeof *e);
	if (!e)
		return NULL;
	e->journal = j;
	e->number = number;
	e->text = *text;
	e->text.max = text->len + JOURNAL_ATTEMPTS_MAX;
	e->fd = -1;
	buf_init(text, text->max);
	e->segment = j->active;
	j->seg[e->segment].entries++;
	e->since = loop_now();
	return e;
}

void journal_entry_show(struct spool_entry *e)
{
	struct spool_entry **bucket = journal_bucket(e->journal, e->number);
	e->chain = *bucket;
	*bucket = e;
	journal_entry_move(e, &e->journal->live);
}

static void journal_entry_free(struct spool_entry *e)
{
	buf_clear(&e->text);
	free(e);
}

static void journal_stop_filing(struct spool_entry *e)
{
	struct journal *j = e->journal;
	if (e->fd < 0)
		return;
	disk_sync_cancel(&e->sync);
	close(e->fd);
	e->fd = -1;
	j->filing_count--;
	j->used_filing -= e->counted;
}

void journal_entry_drop(struct spool_entry *e)
{
	struct journal *j = e->journal;
	struct spool_entry **at = journal_bucket(j, e->number);
	journal_stop_filing(e);
	while (*at && *at != e)
		at = &(*at)->chain;
	if (*at)
		*at = e->chain;
	journal_unlist(e);
	j->seg[e->segment].entries--;
	j->used -= e->counted;
	if (!j->live.oldest)
		loop_timer_stop(&j->timer);
	if (e->holds == 0)
		journal_entry_free(e);
}

struct spool_entry *journal_hold(struct spool *sp, const char *id)
{
	uint64_t number = sp->journal ? spool_id_number(id) : 0;
	struct spool_entry *e = number ? journal_entry_find(sp->journal, number) : NULL;
	if (e)
		e->holds++;
	return e;
}

void journal_let_go(struct spool_entry *e)
{
	if (--e->holds == 0 && !e->list)
		journal_entry_free(e);
}

struct slice journal_text(const struct spool_entry *e)
{
	return buf_slice(&e->text);
}

/* Says in the journal that it is gone, or a file. */
static void journal_end(struct spool_entry *e)
{
	struct journal *j = e->journal;
	journal_put(j, JOURNAL_DONE, e->number, (struct slice){"", 0}, 0);
	journal_entry_drop(e);
	journal_write(j);
}

/* ---- files ---- */

static bool journal_file_begins(int fd, const struct buf *text)
{
	char block[4096];
	size_t at = 0;
	while (at < text->len) {
		size_t want = text->len - at < sizeof block ? text->len - at : sizeof block;
		ssize_t n = pread(fd, block, want, (off_t)at);
		if (n <= 0 || memcmp(block, buf_data(text) + at, (size_t)n) != 0)
			return false;
		at += (size_t)n;
	}
	return true;
}

/* Opens the message's file, whole and not flushed. Returns a descriptor for appending, or -1 with
 * errno. A file that is there already was cut short, or is as good as the record. */
static int journal_file_open(const struct spool_entry *e)
{
	char id[SPOOL_ID_MAX + 1];
	int dir_fd = e->journal->spool->dir_fd;
	int flags = O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	spool_id_text(e->number, id);
	struct spool_name name = spool_file_name(id);
	int fd = openat(dir_fd, name.s, O_WRONLY | O_CREAT | O_EXCL | flags, 0600);
	if (fd < 0 && errno == EEXIST) {
		fd = openat(dir_fd, name.s, O_RDWR | flags);
		if (fd >= 0 && journal_file_begins(fd, &e->text))
			return fd;
		if (fd >= 0)
			close(fd);
		if (unlinkat(dir_fd, name.s, 0) && errno != ENOENT)
			return -1;
		fd = openat(dir_fd, name.s, O_WRONLY | O_CREAT | O_EXCL | flags, 0600);
	}
	if (fd < 0 || !disk_write(fd, buf_data(&e->text), e->text.len))
		return fd;
	int error = errno;
	close(fd);
	unlinkat(dir_fd, name.s, 0);
	errno = error;
	return -1;
}

static void journal_file_failed(struct spool_entry *e, int error)
{
	char id[SPOOL_ID_MAX + 1];
	spool_id_text(e->number, id);
	log_error(id, "no file yet", LOG_S("error", strerror(error)));
	e->journal->retry_at = loop_now() + JOURNAL_RETRY_MS;
}

static void journal_filed(void *arg, int error)
{
	struct spool_entry *e = arg;
	struct journal *j = e->journal;
	char id[SPOOL_ID_MAX + 1];
	journal_stop_filing(e);
	if (error) {
		/* Pages that could not be written count as clean now. */
		spool_id_text(e->number, id);
		unlinkat(j->spool->dir_fd, spool_file_name(id).s, 0);
		journal_entry_return(e);
		journal_file_failed(e, error);
	} else {
		stat_add(&stat_filed, 1);
		journal_end(e);
	}
	if (j->filing_count == 0)
		journal_relieve(j);
}

/* Writes the file of a live entry, to be flushed with the next batch. Returns 0, or an errno. */
static int journal_file_start(struct spool_entry *e)
{
	struct journal *j = e->journal;
	e->fd = journal_file_open(e);
	if (e->fd < 0) {
		int error = errno;
		journal_file_failed(e, error);
		return error;
	}
	j->filing_count++;
	j->used_filing += e->counted;
	journal_entry_move(e, &j->filing);
	e->sync = (struct disk_sync){
	    .fd = e->fd, .dir_fd = j->spool->dir_fd, .done = journal_filed, .arg = e};
	disk_sync(&e->sync);
	return 0;
}

static bool journal_is_due(const struct journal *j, const struct spool_entry *e)
{
	return j->broken || loop_now() - e->since >= JOURNAL_AGE_MS ||
	       j->used - j->used_filing > JOURNAL_POOL - JOURNAL_POOL / 4 ||
	       (e->segment != j->active && j->at > JOURNAL_BYTES / 2);
}

void journal_relieve(struct journal *j)
{
	struct spool_entry *e;
	if (j->closed)
		return;
	if (j->broken && j->seg[0].entries + j->seg[1].entries == 0)
		journal_unlink(j);
	if (loop_now() >= j->retry_at && j->filing_count == 0)
		while (j->filing_count < JOURNAL_STEP && (e = j->live.oldest) &&
		       journal_is_due(j, e) && !journal_file_start(e))
			;
	e = j->live.oldest;
	if (!e || loop_timer_is_set(&j->timer))
		return;
	int64_t at = e->since + JOURNAL_AGE_MS;
	if (at < j->retry_at)
		at = j->retry_at;
	int64_t left = at - loop_now();
	/* Those under way come back here when they are flushed. */
	if (left > 0)
		loop_timer_set(&j->timer, left);
}

bool journal_file_all(struct journal *j)
{
	bool failed = false;
	j->closed = true;
	disk_sync_now();
	while (j->live.oldest && !failed) {
		size_t before = j->seg[0].entries + j->seg[1].entries;
		for (int i = 0; i < JOURNAL_STEP && j->live.oldest && !failed; i++)
			failed = journal_file_start(j->live.oldest) != 0;
		/* One that could not be flushed is live again. */
		size_t begun = j->filing_count;
		disk_sync_now();
		failed = failed || before - begun != j->seg[0].entries + j->seg[1].entries;
	}
	return !j->live.oldest && !j->filing.oldest;
}

/* ---- the rest of the spool ---- */

bool journal_count(struct spool *sp, const struct buf *text, size_t *counted)
{
	struct journal *j = sp->journal;
	if (!j || j->broken || text->len > JOURNAL_MESSAGE_MAX ||
	    j->used - *counted + text->size > JOURNAL_POOL) {
		if (j)
			j->used -= *counted;
		*counted = 0;
		return false;
	}
	j->used += text->size - *counted;
	*counted = text->size;
	return true;
}

void journal_uncount(struct spool *sp, size_t counted)
{
	if (sp->journal)
		sp->journal->used -= counted;
}

struct spool_entry *journal_commit(struct spool *sp, const char *id, struct buf *text,
                                   size_t counted, uint32_t crc, void (*done)(void *arg, int error),
                                   void *arg)
{
	struct journal *j = sp->journal;
	if (!j || !journal_make_place(j, text->len + JOURNAL_FRAME))
		return NULL;
	struct spool_entry *e = journal_entry_new(j, spool_id_number(id), text);
	if (!e)
		return NULL;
	e->counted = counted;
	e->done = done;
	e->arg = arg;
	journal_put(j, JOURNAL_MESSAGE, e->number, buf_slice(&e->text), crc);
	journal_entry_move(e, &j->waiting);
	journal_ask_flush(j);
	return e;
}

void journal_flushed(struct journal *j, unsigned segment, int error)
{
	struct spool_entry *e = j->waiting.oldest;
	struct journal_list due = {NULL, NULL};
	while (e) {
		struct spool_entry *next = e->newer;
		if (e->segment == segment)
			journal_entry_move(e, &due);
		e = next;
	}
	/* One of those told may end another of them. */
	while ((e = due.oldest)) {
		void (*done)(void *, int) = e->done;
		void *arg = e->arg;
		if (error) {
			journal_entry_drop(e);
		} else {
			stat_add(&stat_journal, 1);
			journal_entry_show(e);
		}
		done(arg, error);
	}
}

void journal_abort(struct spool_entry *e)
{
	journal_end(e);
}

int journal_attempt(struct spool *sp, const char *id, const struct buf *line, bool durable)
{
	uint64_t number = sp->journal ? spool_id_number(id) : 0;
	struct spool_entry *e = number ? journal_entry_find(sp->journal, number) : NULL;
	if (!e)
		return -1;
	struct journal *j = e->journal;
	bool fits = e->text.len + line->len <= e->text.max;
	bool place = fits && journal_make_place(j, line->len + JOURNAL_FRAME);
	int error = !place && e->fd < 0 ? journal_file_start(e) : 0;
	if (error)
		return error;
	/* Its file has the same lines in the same order. */
	if (e->fd >= 0) {
		struct stat s;
		if (fstat(e->fd, &s))
			return errno;
		if (disk_write(e->fd, buf_data(line), line->len)) {
			error = errno;
			return ftruncate(e->fd, s.st_size) ? errno : error;
		}
	}
	if (fits && buf_append(&e->text, buf_data(line), line->len))
		e->text.failed = false;
	if (e->fd < 0) {
		j->used += e->text.size - e->counted;
		e->counted = e->text.size;
	}
	if (place) {
		journal_put(j, JOURNAL_ATTEMPT, number, buf_slice(line),
		            crc_add(0, buf_data(line), line->len));
		journal_write(j);
		if (durable)
			journal_ask_flush(j);
	}
	return place && j->broken ? EIO : 0;
}

bool journal_remove(struct spool *sp, const char *id)
{
	uint64_t number = sp->journal ? spool_id_number(id) : 0;
	struct spool_entry *e = number ? journal_entry_find(sp->journal, number) : NULL;
	if (!e)
		return false;
	if (e->fd >= 0)
		unlinkat(sp->dir_fd, spool_file_name(id).s, 0);
	journal_end(e);
	return true;
}

void journal_push_out(struct spool *sp, const char *id)
{
	uint64_t number = sp->journal ? spool_id_number(id) : 0;
	struct spool_entry *e = number ? journal_entry_find(sp->journal, number) : NULL;
	if (!e)
		return;
	int fd = journal_file_open(e);
	if (fd < 0)
		return;
	close(fd);
	journal_end(e);
}
