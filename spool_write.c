/*
 * spool_write: how a message comes in: its text is formed, and goes to the journal or to a file.
 *
 * A text begins in memory. Past JOURNAL_MESSAGE_MAX, or when the journal has no place for it, the
 * file is made and gets what there is; from then on each piece of content is written when it has
 * come, and the buffer is there no longer than that takes, but for a few lines. The text is the
 * same, byte for byte, and so is what commit promises: done with class 2 comes after the barrier
 * behind the record in the journal, or behind the file.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "crc.h"
#include "disk.h"
#include "log.h"
#include "memory.h"
#include "spool_fresh.h"
#include "spool_journal.h"
#include "stat.h"

STAT_COUNTER(stat_committed, "chasquid/queue/putCount",
             "Messages taken into the queue, notifications too");
STAT_COUNTER(stat_aborted, "spool/aborted", "Messages given up before they were complete");
STAT_COUNTER(stat_failed, "spool/failed",
             "Messages that could not be stored: disk full, or an error of it");

/* No end mark is longer. */
#define SPOOL_MARK_MAX 384

struct spool_writer {
	struct spool *sp;
	char id[SPOOL_ID_MAX + 1];
	int64_t created;
	int fd;    /* -1: not in a file, or it could not be made */
	int error; /* errno of the first trouble, 0 when none */
	struct buf out;
	struct buf line; /* the beginning of a line whose end has not come yet */
	struct buf prepend;
	struct spool_text mark;
	bool in_file; /* else all of it is in out */
	bool large;   /* so it was said: not for the journal */
	bool head_written;
	size_t summed;             /* bytes of out that are in crc and offset */
	size_t counted;            /* of the journal's pool */
	uint64_t offset;           /* of the file */
	uint32_t crc;              /* of the file up to there */
	uint64_t mark_at;          /* offset of the mark */
	struct spool_entry *entry; /* while its record is being flushed */
	struct envelope env;       /* for spool_fresh; empty: not wanted */
	uint64_t checked;          /* offset, in steps, at which free space was looked at */
	struct disk_sync sync;
	void (*done)(void *arg, const char *id, const struct status *st);
	void *arg;
};

/* What a buffer may hold when it is to be flushed: one literal more than what starts a flush. */
#define SPOOL_PIECE_MAX (SPOOL_WRITE_MAX + TEXT_LITERAL_SIZE(SPOOL_LITERAL_MAX) + 64)

/* The buffer is empty: it gives its memory back. */
static void spool_empty(struct spool_writer *w)
{
	if (w->out.size > 2 * SPOOL_WRITE_BUF)
		memory_freed();
	buf_consume(&w->out, w->out.len);
}

static void spool_shrink(struct spool_writer *w)
{
	spool_empty(w);
	buf_clear(&w->out);
	w->out.max = SPOOL_PIECE_MAX;
}

/* Messages whose size was not told beforehand must not eat the last free space either. */
static void spool_check_space(struct spool_writer *w)
{
	bool no_inodes;
	if (w->offset / SPOOL_CHECK_STEP == w->checked)
		return;
	w->checked = w->offset / SPOOL_CHECK_STEP;
	if (disk_free(w->fd, &no_inodes) < SPOOL_FREE_MIN && !w->error)
		w->error = ENOSPC;
	/* The disk works while the rest comes in. */
	if (!w->error)
		w->error = disk_begin_flush(w->fd);
}

static void spool_write_out(struct spool_writer *w)
{
	spool_check_space(w);
	if (!w->error && disk_write(w->fd, buf_data(&w->out), w->out.len))
		w->error = errno;
	spool_empty(w);
	w->summed = 0;
}

/* From now on it is a file. */
static void spool_spill(struct spool_writer *w)
{
	w->fd = openat(w->sp->dir_fd, spool_file_name(w->id).s,
	               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (w->fd < 0 && !w->error)
		w->error = errno;
	journal_uncount(w->sp, w->counted);
	w->counted = 0;
	w->in_file = true;
	spool_write_out(w);
	if (w->head_written)
		spool_shrink(w);
}

/* Takes what is new into the checksum; it goes to the file, or stays in memory while it may. */
static void spool_flush(struct spool_writer *w)
{
	size_t n = w->out.len - w->summed;
	if (w->out.failed && !w->error)
		w->error = ENOMEM;
	w->crc = crc_add(w->crc, buf_data(&w->out) + w->summed, n);
	w->offset += n;
	w->summed += n;
	if (w->in_file)
		spool_write_out(w);
	else if (w->large || !journal_count(w->sp, &w->out, &w->counted))
		spool_spill(w);
}

/* The same when that is at least so much. */
static void spool_flush_from(struct spool_writer *w, size_t least)
{
	if (w->out.len - w->summed >= least)
		spool_flush(w);
}

/* One literal on a line of its own. */
static void spool_put_literal(struct spool_writer *w, const char *p, size_t n)
{
	text_put_literal_line(&w->out, p, n);
	spool_flush_from(w, SPOOL_WRITE_MAX);
}

static void spool_free_writer(struct spool_writer *w)
{
	if (w->fd >= 0)
		close(w->fd);
	journal_uncount(w->sp, w->counted);
	buf_clear(&w->out);
	buf_clear(&w->line);
	buf_clear(&w->prepend);
	envelope_clear(&w->env);
	free(w);
}

static void spool_discard(struct spool_writer *w)
{
	if (w->fd >= 0)
		unlinkat(w->sp->dir_fd, spool_file_name(w->id).s, 0);
	spool_free_writer(w);
}

static void spool_put_head(struct spool_writer *w, struct envelope *env)
{
	struct text_writer text;
	struct spool_text head = {
	    .id = w->id, .from = env->from, .submitted = env->submitted, .env = env};
	head.to = (struct text_strings){env->to, env->to_count};
	size_t room;
	text_writer_init(&text, &w->out);
	w->out.max = SPOOL_HEAD_MAX;
	/* Small messages fit: theirs does not grow, time and again. */
	(void)buf_space(&w->out, SPOOL_WRITE_BUF / 2, &room);
	text_put_fields(&text, &spool_message, &head, SPOOL_F_ID, SPOOL_F_DATA);
	spool_flush(w);
	w->mark.head_end = w->offset;
	w->mark.head_crc32 = w->crc;
	w->head_written = true;
	if (w->in_file)
		spool_shrink(w);
	else
		w->out.max = JOURNAL_MESSAGE_MAX + SPOOL_PIECE_MAX;
	buf_puts(&w->out, "data:\n");
}

struct spool_writer *spool_begin(struct spool *sp, struct envelope *env, struct status *st)
{
	struct timespec ts;
	if (!spool_envelope_fits(env)) {
		status_set(st, 451, "4.3.0", "the message's envelope cannot be stored");
		return NULL;
	}
	struct spool_writer *w = calloc(1, sizeof *w);
	if (!w) {
		spool_trouble(st, "the message cannot be stored", ENOMEM);
		return NULL;
	}
	w->sp = sp;
	w->large = env->size > JOURNAL_MESSAGE_MAX;
	buf_init(&w->out, SPOOL_HEAD_MAX);
	buf_init(&w->line, SPOOL_LITERAL_MAX);
	buf_init(&w->prepend, SPOOL_PREPEND_MAX);
	w->fd = -1;
	uint64_t id = spool_issue_id(sp);
	spool_id_text(id, w->id);
	if (id == 0)
		w->error = ENOMEM;
	w->created = spool_now(&ts);
	w->mark.created.seconds = w->created;
	w->mark.created.nanos = (int32_t)ts.tv_nsec;
	spool_put_head(w, env);
	if (w->error) {
		spool_trouble(st, "the message cannot be stored", w->error);
		spool_discard(w);
		return NULL;
	}
	memcpy(env->id, w->id, sizeof env->id);
	env->created = w->created;
	/* Without memory for it, it is read from the disk. */
	if (!w->in_file && spool_fresh_wants(sp, w->mark.head_end) && envelope_copy(&w->env, env))
		envelope_clear(&w->env);
	return w;
}

void spool_append(struct spool_writer *w, const char *p, size_t n)
{
	w->mark.size += n;
	while (n > 0) {
		if (w->line.len == 0) {
			size_t took = text_put_plain_lines(&w->out, p, n, SPOOL_LITERAL_MAX);
			spool_flush_from(w, SPOOL_WRITE_MAX);
			p += took;
			n -= took;
		}
		const char *end = memchr(p, '\n', n);
		size_t part = end ? (size_t)(end - p) + 1 : n;
		size_t room = SPOOL_LITERAL_MAX - w->line.len;
		bool cut = part > room;
		if (cut)
			part = room;
		if (w->line.len == 0 && (end || cut)) {
			spool_put_literal(w, p, part);
		} else {
			buf_append(&w->line, p, part);
			if (end || cut) {
				spool_put_literal(w, buf_data(&w->line), w->line.len);
				buf_truncate(&w->line, 0);
			}
		}
		p += part;
		n -= part;
	}
	spool_flush_from(w, SPOOL_WRITE_BUF);
	if (w->line.failed && !w->error)
		w->error = ENOMEM;
}

void spool_prepend(struct spool_writer *w, const char *p, size_t n)
{
	if (buf_append(&w->prepend, p, n) && !w->error)
		w->error = EFBIG;
	w->mark.size += n;
}

void spool_note_8bit_header(struct spool_writer *w)
{
	w->mark.header_8bit = true;
}

static void spool_put_prepend(struct spool_writer *w)
{
	struct slice left = buf_slice(&w->prepend);
	if (left.n == 0)
		return;
	buf_puts(&w->out, "prepend:\n");
	while (left.n > 0) {
		size_t n = left.n < SPOOL_LITERAL_MAX ? left.n : SPOOL_LITERAL_MAX;
		const char *end = memchr(left.p, '\n', n);
		if (end)
			n = (size_t)(end - left.p) + 1;
		spool_put_literal(w, left.p, n);
		left.p += n;
		left.n -= n;
	}
}

static char *spool_add_number(char *p, const char *before, int64_t n)
{
	return bytes_put_number(bytes_put(p, before), n);
}

static void spool_put_mark(struct spool_writer *w)
{
	char line[SPOOL_MARK_MAX];
	const struct spool_text *mark = &w->mark;
	char *p = spool_add_number(line, SPOOL_MARK, mark->created.seconds);
	p = spool_add_number(p, " nanos: ", mark->created.nanos);
	p = spool_add_number(p, " } size: ", (int64_t)mark->size);
	p = spool_add_number(p, " crc32: ", mark->crc32);
	p = spool_add_number(p, " head_end: ", (int64_t)mark->head_end);
	p = spool_add_number(p, " head_crc32: ", mark->head_crc32);
	p = spool_add_number(p, " data_end: ", (int64_t)mark->data_end);
	if (mark->header_8bit)
		p = bytes_put(p, " header_8bit: true");
	p = spool_add_number(p, " mark_crc32: ", crc_add(0, line, (size_t)(p - line)));
	*p++ = '\n';
	buf_append(&w->out, line, (size_t)(p - line));
}

/* It is durable in the journal: what is known of it need not be read back. */
static void spool_keep_fresh(struct spool_writer *w)
{
	const struct spool_text *t = &w->mark;
	struct spool_mark mark = {.at = w->mark_at,
	                          .size = t->size,
	                          .head_end = t->head_end,
	                          .data_end = t->data_end,
	                          .created = t->created.seconds,
	                          .header_8bit = t->header_8bit,
	                          .crc32 = t->crc32,
	                          .head_crc32 = t->head_crc32};
	w->env.size = t->size;
	w->env.header_8bit = t->header_8bit;
	spool_fresh_put(w->entry, &w->env, &mark);
}

static void spool_synced(void *arg, int error)
{
	struct spool_writer *w = arg;
	struct spool *sp = w->sp;
	struct status st;
	char id[SPOOL_ID_MAX + 1];
	int64_t created = w->created;
	void (*done)(void *, const char *, const struct status *) = w->done;
	void *done_arg = w->arg;
	memcpy(id, w->id, sizeof id);
	if (w->error)
		error = w->error;
	if (error) {
		spool_trouble(&st, "the message cannot be stored", error);
		log_debug(id, "spool failed", LOG_S("error", strerror(error)));
		stat_add(&stat_failed, 1);
		spool_discard(w);
	} else {
		status_set_text(&st, 250, "2.0.0", "stored");
		stat_add(&stat_committed, 1);
		spool_count_written();
		if (w->entry)
			spool_keep_fresh(w);
		spool_free_writer(w);
		if (sp->committed)
			sp->committed(sp->committed_arg, id, created);
	}
	done(done_arg, id, &st);
}

void spool_commit(struct spool_writer *w,
                  void (*done)(void *arg, const char *id, const struct status *st), void *arg)
{
	w->done = done;
	w->arg = arg;
	if (w->line.len > 0)
		spool_put_literal(w, buf_data(&w->line), w->line.len);
	if (w->mark.size == w->prepend.len)
		spool_put_literal(w, "", 0); /* a field without a value is no text format */
	spool_flush(w);
	w->mark.data_end = w->offset;
	spool_put_prepend(w);
	spool_flush(w);
	w->mark_at = w->offset;
	w->mark.crc32 = w->crc;
	spool_put_mark(w);
	spool_flush(w);
	if (!w->in_file && !w->error) {
		w->entry = journal_commit(w->sp, w->id, &w->out, w->crc, spool_synced, w);
		if (w->entry) {
			journal_uncount(w->sp, w->counted);
			w->counted = 0;
			spool_shrink(w);
			return;
		}
		spool_spill(w);
	}
	/* With an error there is nothing to flush, but the answer still comes from the loop. */
	w->sync = (struct disk_sync){.fd = w->error ? -1 : w->fd,
	                             .dir_fd = w->error ? -1 : w->sp->dir_fd,
	                             .done = spool_synced,
	                             .arg = w};
	disk_sync(&w->sync);
}

void spool_abort(struct spool_writer *w)
{
	disk_sync_cancel(&w->sync);
	if (w->entry)
		journal_abort(w->entry);
	stat_add(&stat_aborted, 1);
	spool_discard(w);
}
