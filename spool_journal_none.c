/*
 * spool_journal_none: the journal of a build without one: every message is a file at once.
 */
#include "spool_journal.h"

#include "config.h"

#if !WITH_JOURNAL

void journal_open(struct spool *sp)
{
	(void)sp;
}

void journal_close(struct spool *sp)
{
	(void)sp;
}

bool journal_count(struct spool *sp, const struct buf *text, size_t *counted)
{
	(void)sp, (void)text, (void)counted;
	return false;
}

void journal_uncount(struct spool *sp, size_t counted)
{
	(void)sp, (void)counted;
}

struct spool_entry *journal_commit(struct spool *sp, const char *id, const struct buf *text,
                                   uint32_t crc, void (*done)(void *arg, int error), void *arg)
{
	(void)sp, (void)id, (void)text, (void)crc, (void)done, (void)arg;
	return NULL;
}

void journal_abort(struct spool_entry *e)
{
	(void)e;
}

struct spool_entry *journal_hold(struct spool *sp, const char *id)
{
	(void)sp, (void)id;
	return NULL;
}

void journal_let_go(struct spool_entry *e)
{
	(void)e;
}

size_t journal_size(const struct spool_entry *e)
{
	(void)e;
	return 0;
}

ssize_t journal_read(const struct spool_entry *e, char *p, size_t n, uint64_t at)
{
	(void)e, (void)p, (void)n, (void)at;
	return 0;
}

size_t journal_numbers(const struct spool *sp, uint64_t *numbers, size_t max)
{
	(void)sp, (void)numbers, (void)max;
	return 0;
}

int journal_attempt(struct spool *sp, const char *id, const struct buf *line, bool durable)
{
	(void)sp, (void)id, (void)line, (void)durable;
	return -1;
}

bool journal_remove(struct spool *sp, const char *id)
{
	(void)sp, (void)id;
	return false;
}

void journal_push_out(struct spool *sp, const char *id)
{
	(void)sp, (void)id;
}

#endif
