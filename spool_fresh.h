/* spool_fresh: the messages that came last, as they were when they came. Of the spool alone. */
#ifndef SPOOL_FRESH_H
#define SPOOL_FRESH_H

#include <stdbool.h>
#include <stdint.h>

#include "envelope.h"
#include "spool_text.h"

struct spool;
struct spool_entry;

/* What a file's end mark says, and where it stands. */
struct spool_mark {
	uint64_t at;
	uint64_t size;
	uint64_t head_end;
	uint64_t data_end;
	int64_t created;
	uint32_t crc32;
	uint32_t head_crc32;
	bool header_8bit;
};

/* A place for one, in the journal; private. */
struct journal_fresh {
	int64_t since;       /* loop_now() */
	struct envelope env; /* without verdicts; without a sender: it was given out */
	struct spool_mark mark;
};

/* Would a message whose head takes n bytes be kept? */
bool spool_fresh_wants(const struct spool *sp, uint64_t n);

/* Keeps what is known of a message that is live in the journal, until an attempt to deliver it is
 * recorded, it is removed or has become a file, or newer ones need its place. Takes what env has;
 * one without a sender is none. */
void spool_fresh_put(struct spool_entry *e, struct envelope *env, const struct spool_mark *mark);

/* Gives out the envelope of a live message; a newer one may then have its place. 0, or -1: there is
 * none, and *env is untouched. */
int spool_fresh_take(struct spool *sp, const char *id, struct envelope *env);

/* Takes it back, unchanged, and empties *env, if the message has its place still. */
void spool_fresh_return(struct spool *sp, struct envelope *env);

/* What is kept of a live message's mark, until the next call that changes anything; NULL: nothing.
 */
const struct spool_mark *spool_fresh_mark(const struct spool *sp, const char *id);

/* Forgets it. */
void spool_fresh_drop(struct spool_entry *e);

#endif
