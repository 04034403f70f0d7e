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
 * most SPOOL_FRESH_HEAD bytes. When all are taken a newcomer gets that of the newest message whose
 * envelope was loaded (it waits for something, and the older ones are due before it), else that of
 * one which has been here for SPOOL_FRESH_MS.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_fresh.h"

#include "spool_journal_int.h"

/* The place of a message, any free one for number 0; -1: none. */
static int fresh_of(const struct journal *j, uint64_t number)
{
	for (int i = 0; i < SPOOL_FRESH_MAX; i++)
		if (j->fresh_number[i] == number)
			return i;
	return -1;
}

/* A place that is free, else one that may be taken; -1: none. */
static int fresh_place(const struct journal *j)
{
	int found = -1;
	int64_t now = loop_now();
	if (j->fresh_used < SPOOL_FRESH_MAX)
		return fresh_of(j, 0);
	for (int back = 0; back < SPOOL_FRESH_MAX; back++) {
		int i = (j->fresh_last + SPOOL_FRESH_MAX - back) % SPOOL_FRESH_MAX;
		if (j->fresh[i].loaded)
			return i;
		if (found < 0 && now - j->fresh[i].since >= SPOOL_FRESH_MS)
			found = i;
	}
	return found;
}

static void fresh_clear(struct journal *j, int i)
{
	if (!j->fresh_number[i])
		return;
	envelope_clear(&j->fresh[i].what.env);
	j->fresh_number[i] = 0;
	j->fresh_used--;
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
	fresh_clear(j, i);
	j->fresh[i] = (struct journal_fresh){.since = loop_now(), .what = {*env, *mark}};
	j->fresh_number[i] = e->number;
	j->fresh_last = i;
	j->fresh_used++;
	*env = (struct envelope){.from = NULL};
}

const struct spool_fresh *spool_fresh_find(const struct spool *sp, const char *id)
{
	uint64_t number = sp->journal ? spool_id_number(id) : 0;
	int i = number ? fresh_of(sp->journal, number) : -1;
	const struct spool_entry *e = i >= 0 ? journal_entry_find(sp->journal, number) : NULL;
	return e && e->state == JOURNAL_LIVE ? &sp->journal->fresh[i].what : NULL;
}

int spool_fresh_load(struct spool *sp, const char *id, struct envelope *env)
{
	const struct spool_fresh *what = spool_fresh_find(sp, id);
	if (!what || envelope_copy(env, &what->env))
		return -1;
	sp->journal->fresh[fresh_of(sp->journal, spool_id_number(id))].loaded = true;
	return 0;
}

void spool_fresh_drop(struct spool_entry *e)
{
	int i = fresh_of(e->journal, e->number);
	if (i >= 0)
		fresh_clear(e->journal, i);
}
