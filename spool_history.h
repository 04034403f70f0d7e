/* spool_history: every attempt that was recorded of a message. */
#ifndef SPOOL_HISTORY_H
#define SPOOL_HISTORY_H

#include "spool.h"

/* An attempt as it was recorded. Strings are valid during the call. */
struct spool_attempt_seen {
	int64_t at;          /* wall clock, s */
	const size_t *rcpts; /* indexes into env->rcpt */
	size_t count;
	enum rcpt_state state;
	struct status status;
	const char *remote; /* may be "" */
};

/* Calls each for the attempts of a message, oldest first; env is what spool_load gave. 0, or -1 as
 * spool_load; nothing is set aside here. */
int spool_attempts(struct spool *sp, const struct envelope *env,
                   void (*each)(void *arg, const struct spool_attempt_seen *a), void *arg,
                   struct status *st);

#endif
