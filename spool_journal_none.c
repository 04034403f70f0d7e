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

struct spool_entry *journal_commit(struct spool *sp, const char *id, struct buf *text,
                                   size_t counted, uint32_t crc, void (*done)(void *arg, int error),
                                   void *arg)
{
	(void)sp, (void)id, (void)text, (void)counted, (void)crc, (void)done, (void)arg;
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

struct slice journal_text(const struct spool_entry *e)
{
	(void)e;
	return (struct slice){"", 0};
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
