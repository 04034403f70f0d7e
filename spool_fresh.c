/*
 * spool_fresh: what is delivered at once need not be read back and parsed.
 *
 * Most messages leave a moment after they came. Of the latest of them that are in the journal the
 * envelope is kept, and what the end mark says: where the content is, and its checksum. Content is
 * still read from the disk, and compared with that checksum before its end is given out; the head
 * is not read, so it need not be compared.
 *
 * A message has its place here only while the journal's record is all there is of it: it goes with
 * the first recorded attempt, and with the record. SPOOL_FRESH_MAX places, each for a head of at
 * most SPOOL_FRESH_HEAD bytes, taken in turn. When all are, a newcomer gets the next one whose
 * envelope was given out, to be delivered, or that has been there for SPOOL_FRESH_MS.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_fresh.h"

#include "spool_journal_int.h"

/* The place of a message; -1: none. */
static int fresh_of(const struct journal *j, uint64_t number)
{
	for (int i = 0; i < SPOOL_FRESH_MAX; i++)
		if (j->fresh_number[i] == number)
			return i;
	return -1;
}

/* The next place that is free, or may be taken; -1: none. */
static int fresh_place(const struct journal *j)
{
	int64_t old = loop_now() - SPOOL_FRESH_MS;
	for (int step = 1; step <= SPOOL_FRESH_MAX; step++) {
		int i = (j->fresh_last + step) % SPOOL_FRESH_MAX;
		if (!j->fresh[i].env.from || j->fresh[i].since <= old)
			return i;
	}
	return -1;
}

bool spool_fresh_wants(const struct spool *sp, uint64_t n)
{
	return sp->journal && n <= SPOOL_FRESH_HEAD && fresh_place(sp->journal) >= 0;
}

void spool_fresh_put(struct spool_entry *e, struct envelope *env, const struct spool_mark *mark)
{
	struct journal *j = e->journal;
	int i = env->from ? fresh_place(j) : -1;
	if (i < 0)
		return;
	envelope_clear(&j->fresh[i].env);
	j->fresh[i] = (struct journal_fresh){loop_now(), *env, *mark};
	j->fresh_number[i] = e->number;
	j->fresh_last = i;
	*env = (struct envelope){.from = NULL};
}

/* The place of a live message; NULL: none. */
static struct journal_fresh *fresh_find(const struct spool *sp, const char *id)
{
	uint64_t number = sp->journal ? spool_id_number(id) : 0;
	int i = number ? fresh_of(sp->journal, number) : -1;
	const struct spool_entry *e = i >= 0 ? journal_entry_find(sp->journal, number) : NULL;
	return e && e->state == JOURNAL_LIVE ? &sp->journal->fresh[i] : NULL;
}

const struct spool_mark *spool_fresh_mark(const struct spool *sp, const char *id)
{
	const struct journal_fresh *place = fresh_find(sp, id);
	return place ? &place->mark : NULL;
}

int spool_fresh_take(struct spool *sp, const char *id, struct envelope *env)
{
	struct journal_fresh *place = fresh_find(sp, id);
	if (!place || !place->env.from)
		return -1;
	*env = place->env;
	place->env = (struct envelope){.from = NULL};
	return 0;
}

void spool_fresh_return(struct spool *sp, struct envelope *env)
{
	struct journal_fresh *place = env->from ? fresh_find(sp, env->id) : NULL;
	if (!place || place->env.from)
		return;
	place->env = *env;
	*env = (struct envelope){.from = NULL};
}

void spool_fresh_drop(struct spool_entry *e)
{
	int i = fresh_of(e->journal, e->number);
	if (i < 0)
		return;
	envelope_clear(&e->journal->fresh[i].env);
	e->journal->fresh_number[i] = 0;
}
