/*
 * spool_memory: the index of the messages that are in the journal.
 *
 * An entry says where the text of a message is; the text itself is in the journal's segment only,
 * and is read from there. Lines of attempts that came since are in memory too, counted in
 * JOURNAL_POOL. A message is found here while it is live; from the moment its file is written
 * (spool_filing) the file is the message, and its entry only waits for the DONE.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_journal_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc.h"
#include "stat.h"

STAT_COUNTER(stat_journal, "spool/journal", "Messages written to the journal");

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
	struct journal_list *list = &e->journal->list[e->state];
	if (e->state == JOURNAL_GONE)
		return;
	*(e->older ? &e->older->newer : &list->oldest) = e->newer;
	*(e->newer ? &e->newer->older : &list->newest) = e->older;
	e->older = e->newer = NULL;
	list->count--;
	e->journal->count--;
	e->state = JOURNAL_GONE;
}

void journal_entry_move(struct spool_entry *e, enum journal_state to)
{
	struct journal_list *list = &e->journal->list[to];
	journal_unlist(e);
	e->state = (uint8_t)to;
	e->older = list->newest;
	*(list->newest ? &list->newest->newer : &list->oldest) = e;
	list->newest = e;
	list->count++;
	e->journal->count++;
}

/* ---- entries ---- */

struct spool_entry *journal_entry_new(struct journal *j, uint64_t number, unsigned segment,
                                      size_t offset, size_t length)
{
	struct spool_entry *e = calloc(1, sizeof *e);
	if (!e)
		return NULL;
	e->journal = j;
	e->number = number;
	e->offset = (uint32_t)offset;
	e->length = (uint32_t)length;
	e->since = (uint32_t)(loop_now() / 1000);
	e->segment = (uint8_t)segment;
	j->seg[segment].entries++;
	return e;
}

void journal_entry_show(struct spool_entry *e)
{
	struct spool_entry **bucket = journal_bucket(e->journal, e->number);
	e->chain = *bucket;
	*bucket = e;
	e->u.tried.text = NULL;
	e->u.tried.n = 0;
	journal_entry_move(e, JOURNAL_LIVE);
	if (e->journal->count == JOURNAL_FILL)
		journal_relieve_soon(e->journal);
	else if (!loop_timer_is_set(&e->journal->timer))
		loop_timer_set(&e->journal->timer, JOURNAL_AGE_MS);
}

static void journal_entry_free(struct spool_entry *e)
{
	e->journal->used -= e->u.tried.n;
	free(e->u.tried.text);
	free(e);
}

/* Its record is of no use any more. */
static void journal_entry_hide(struct spool_entry *e)
{
	struct journal *j = e->journal;
	if (e->state == JOURNAL_ENDED)
		return;
	spool_fresh_drop(e);
	if (e->state == JOURNAL_WAITING || e->state == JOURNAL_TOLD) {
		e->u.tried.text = NULL;
		e->u.tried.n = 0;
	}
	struct spool_entry **at = journal_bucket(j, e->number);
	while (*at && *at != e)
		at = &(*at)->chain;
	if (*at)
		*at = e->chain;
	j->seg[e->segment].entries--;
}

void journal_entry_drop(struct spool_entry *e)
{
	journal_entry_hide(e);
	journal_unlist(e);
	if (e->holds == 0)
		journal_entry_free(e);
}

void journal_end(struct spool_entry *e)
{
	journal_entry_hide(e);
	journal_entry_move(e, JOURNAL_ENDED);
	journal_write_soon(e->journal);
}

void journal_drop_ended(struct journal *j, unsigned segment)
{
	struct spool_entry *next;
	for (struct spool_entry *e = j->list[JOURNAL_ENDED].oldest; e; e = next) {
		next = e->newer;
		if (segment == JOURNAL_NONE || e->segment == segment)
			journal_entry_drop(e);
	}
}

int journal_entry_add(struct spool_entry *e, const char *p, size_t n)
{
	struct journal *j = e->journal;
	char *grown = realloc(e->u.tried.text, e->u.tried.n + n);
	if (!grown)
		return -1;
	memcpy(grown + e->u.tried.n, p, n);
	e->u.tried.text = grown;
	e->u.tried.n += n;
	j->used += n;
	return 0;
}

void journal_flushing(struct journal *j, unsigned segment)
{
	struct spool_entry *next;
	for (struct spool_entry *e = j->list[JOURNAL_WAITING].oldest; e; e = next) {
		next = e->newer;
		if (e->segment == segment)
			journal_entry_move(e, JOURNAL_TOLD);
	}
}

/* The oldest of those in the flush of a segment. */
static struct spool_entry *journal_told(const struct journal *j, unsigned segment)
{
	struct spool_entry *e = j->list[JOURNAL_TOLD].oldest;
	while (e && e->segment != segment)
		e = e->newer;
	return e;
}

void journal_flushed(struct journal *j, unsigned segment, int error)
{
	struct spool_entry *e;
	/* One of those told may end another of them. */
	while ((e = journal_told(j, segment))) {
		void (*done)(void *, int) = e->u.wait.done;
		void *arg = e->u.wait.arg;
		if (error) {
			journal_withdraw(e);
			journal_entry_drop(e);
		} else {
			stat_add(&stat_journal, 1);
			journal_entry_show(e);
		}
		done(arg, error);
	}
}

/* ---- the rest of the spool ---- */

static struct spool_entry *journal_find_id(const struct spool *sp, const char *id)
{
	uint64_t number = sp->journal ? spool_id_number(id) : 0;
	return number ? journal_entry_find(sp->journal, number) : NULL;
}

struct spool_entry *journal_hold(struct spool *sp, const char *id)
{
	struct spool_entry *e = journal_find_id(sp, id);
	if (!e || e->state != JOURNAL_LIVE || e->holds == UINT16_MAX)
		return NULL;
	e->holds++;
	sp->journal->seg[e->segment].pins++;
	return e;
}

void journal_let_go(struct spool_entry *e)
{
	struct journal *j = e->journal;
	j->seg[e->segment].pins--;
	if (--e->holds == 0 && e->state == JOURNAL_GONE)
		journal_entry_free(e);
	if (j->broken)
		journal_relieve_soon(j);
}

size_t journal_size(const struct spool_entry *e)
{
	return e->length + e->u.tried.n;
}

ssize_t journal_read(const struct spool_entry *e, char *p, size_t n, uint64_t at)
{
	if (at < e->length) {
		uint64_t left = e->length - at;
		return pread(e->journal->seg[e->segment].fd, p, n < left ? n : (size_t)left,
		             (off_t)(e->offset + at));
	}
	at -= e->length;
	if (at >= e->u.tried.n)
		return 0;
	size_t left = e->u.tried.n - (size_t)at;
	if (n > left)
		n = left;
	memcpy(p, e->u.tried.text + at, n);
	return (ssize_t)n;
}

bool journal_count(struct spool *sp, const struct buf *text, size_t *counted)
{
	struct journal *j = sp->journal;
	bool nowhere =
	    !j || j->broken || (j->active == JOURNAL_NONE && journal_next(j) == JOURNAL_NONE);
	if (nowhere || text->len > JOURNAL_MESSAGE_MAX ||
	    j->used - *counted + 2 * text->size > JOURNAL_POOL) {
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

struct spool_entry *journal_commit(struct spool *sp, const char *id, const struct buf *text,
                                   uint32_t crc, void (*done)(void *arg, int error), void *arg)
{
	struct journal *j = sp->journal;
	if (!j || j->count >= JOURNAL_COUNT_MAX ||
	    !journal_make_place(j, text->len + JOURNAL_FRAME))
		return NULL;
	struct spool_entry *e = journal_entry_new(j, spool_id_number(id), j->active, 0, text->len);
	if (!e)
		return NULL;
	e->u.wait.done = done;
	e->u.wait.arg = arg;
	e->offset = (uint32_t)journal_put(j, JOURNAL_MESSAGE, e->number, buf_slice(text), crc);
	journal_entry_move(e, JOURNAL_WAITING);
	journal_ask_flush(j);
	return e;
}

void journal_abort(struct spool_entry *e)
{
	journal_end(e);
}

int journal_attempt(struct spool *sp, const char *id, const struct buf *line, bool durable)
{
	struct spool_entry *e = journal_find_id(sp, id);
	if (!e || e->state != JOURNAL_LIVE)
		return -1;
	struct journal *j = e->journal;
	spool_fresh_drop(e);
	bool fits =
	    e->u.tried.n + line->len <= JOURNAL_ATTEMPTS_MAX && j->used + line->len <= JOURNAL_POOL;
	if (!fits || !journal_make_place(j, line->len + JOURNAL_FRAME) ||
	    journal_entry_add(e, buf_data(line), line->len)) {
		int error = journal_file_make(e);
		return error ? error : -1;
	}
	journal_put(j, JOURNAL_ATTEMPT, e->number, buf_slice(line),
	            crc_add(0, buf_data(line), line->len));
	if (durable) {
		/* Before what follows from it is written: a notification, say. */
		journal_write(j);
		journal_ask_flush(j);
	} else {
		journal_write_soon(j);
	}
	return 0;
}

bool journal_remove(struct spool *sp, const char *id)
{
	struct spool_entry *e = journal_find_id(sp, id);
	if (!e)
		return false;
	bool made = e->state != JOURNAL_LIVE;
	bool file = made || sp->journal->strays || sp->journal->unsure;
	journal_end(e);
	/* Its last verdicts stand in its file alone: the record would bring it back without. */
	if (made)
		journal_write_all(sp->journal);
	return !file; /* a file is removed by who has asked */
}

static bool journal_has_file(const struct spool_entry *e)
{
	return e && e->state >= JOURNAL_MADE && e->state <= JOURNAL_SPOILT;
}

bool journal_is_filing(const struct spool *sp, const char *id)
{
	return journal_has_file(journal_find_id(sp, id));
}

void journal_distrust(struct spool *sp, const char *id)
{
	struct spool_entry *e = journal_find_id(sp, id);
	if (!journal_has_file(e))
		return;
	journal_entry_move(e, JOURNAL_SPOILT);
	journal_relieve_soon(sp->journal);
}

void journal_push_out(struct spool *sp, const char *id)
{
	struct spool_entry *e = journal_find_id(sp, id);
	if (e && e->state == JOURNAL_LIVE)
		journal_file_make(e);
}

size_t journal_numbers(const struct spool *sp, uint64_t *numbers, size_t max)
{
	size_t n = 0;
	for (unsigned s = JOURNAL_LIVE; sp->journal && s < JOURNAL_ENDED; s++)
		for (const struct spool_entry *e = sp->journal->list[s].oldest; e;
		     e = e->newer, n++)
			if (n < max)
				numbers[n] = e->number;
	return n;
}
