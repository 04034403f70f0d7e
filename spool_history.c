/*
 * spool_history: the attempts of a message one by one, as spool_read finds them. Nothing is kept:
 * a message that was tried for weeks costs no more memory than one.
 */
#include "spool_history.h"

#include <errno.h>
#include <string.h>

#include "spool_int.h"

struct spool_history {
	const struct envelope *env;
	void (*each)(void *arg, const struct spool_attempt_seen *a);
	void *arg;
	size_t rcpts[SPOOL_RCPTS_MAX];
};

/* An attempt as it is in the file: recipients that are none of the message's are left out, as
 * spool_load does. */
static void spool_history_take(void *arg, const struct spool_attempt_text *text)
{
	struct spool_history *h = arg;
	struct spool_attempt_seen a = {.at = text->at.seconds,
	                               .rcpts = h->rcpts,
	                               .state = (enum rcpt_state)text->status,
	                               .remote = text->remote ? text->remote : ""};
	for (size_t i = 0; i < text->rcpt.count && a.count < SPOOL_RCPTS_MAX; i++)
		if (text->rcpt.item[i] < h->env->rcpt_count)
			h->rcpts[a.count++] = text->rcpt.item[i];
	spool_attempt_status(text, &a.status);
	if (a.count > 0)
		h->each(h->arg, &a);
}

int spool_attempts(struct spool *sp, const struct envelope *env,
                   void (*each)(void *arg, const struct spool_attempt_seen *a), void *arg,
                   struct status *st)
{
	struct spool_history h = {.env = env, .each = each, .arg = arg};
	return spool_read_history(sp, env->id, spool_history_take, &h, st);
}
