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

/* The place `back` places before that of the message which came last. */
static struct journal_fresh *fresh_at(const struct journal *j, size_t back)
{
	const struct journal_fresh *f =
	    &j->fresh[(j->fresh_last + SPOOL_FRESH_MAX - back) % SPOOL_FRESH_MAX];
	return (struct journal_fresh *)f;
}

/* A place that is free, else one that may be taken; NULL: none. */
static struct journal_fresh *fresh_place(struct journal *j)
{
	struct journal_fresh *found = NULL;
	int64_t now = loop_now();
	for (size_t back = 0; back < SPOOL_FRESH_MAX; back++) {
		struct journal_fresh *f = fresh_at(j, back);
		if (!f->number)
			return f;
		bool better = f->loaded && (!found || !found->loaded);
		if (better || (!found && now - f->since >= SPOOL_FRESH_MS))
			found = f;
	}
	return found;
}

/* Who is asked for has come a moment ago. */
static struct journal_fresh *fresh_of(const struct journal *j, uint64_t number)
{
	for (size_t back = 0; back < SPOOL_FRESH_MAX; back++) {
		struct journal_fresh *f = fresh_at(j, back);
		if (f->number == number)
			return f;
	}
	return NULL;
}

static void fresh_clear(struct journal_fresh *f)
{
	envelope_clear(&f->what.env);
	f->number = 0;
}

bool spool_fresh_wants(const struct spool *sp, uint64_t n)
{
	return sp->journal && n <= SPOOL_FRESH_HEAD && fresh_place(sp->journal);
}

void spool_fresh_put(struct spool_entry *e, struct envelope *env, const struct spool_mark *mark)
{
	struct journal_fresh *f = env->from ? fresh_place(e->journal) : NULL;
	if (!f)
		return;
	fresh_clear(f);
	f->number = e->number;
	f->since = loop_now();
	f->loaded = false;
	e->journal->fresh_last = (size_t)(f - e->journal->fresh);
	f->what = (struct spool_fresh){.env = *env, .mark = *mark};
	*env = (struct envelope){.from = NULL};
}

const struct spool_fresh *spool_fresh_find(const struct spool *sp, const char *id)
{
	uint64_t number = sp->journal ? spool_id_number(id) : 0;
	const struct journal_fresh *f = number ? fresh_of(sp->journal, number) : NULL;
	const struct spool_entry *e = f ? journal_entry_find(sp->journal, number) : NULL;
	return e && e->state == JOURNAL_LIVE ? &f->what : NULL;
}

int spool_fresh_load(struct spool *sp, const char *id, struct envelope *env)
{
	const struct spool_fresh *what = spool_fresh_find(sp, id);
	if (!what || envelope_copy(env, &what->env))
		return -1;
	fresh_of(sp->journal, spool_id_number(id))->loaded = true;
	return 0;
}

void spool_fresh_drop(struct spool_entry *e)
{
	struct journal_fresh *f = fresh_of(e->journal, e->number);
	if (f)
		fresh_clear(f);
}
