/*
 * loop_end: what is done once a turn, and at its end.
 *
 * The lines that a turn writes to a log go out together, and an answer that is given behind them
 * goes out behind them: whoever has read it finds the lines. What is asked for while the end runs
 * is done in it, if it comes first; answers wait for the next turn, which select() begins at once.
 */
#include "loop_end.h"

#include <stddef.h>

static struct {
	bool turning;
	struct loop_end *list[LOOP_END_KINDS];
	struct loop_end *due; /* of those that are being run */
} E;

static void loop_end_link(struct loop_end **list, struct loop_end *e)
{
	e->next = *list;
	e->at = list;
	if (e->next)
		e->next->at = &e->next;
	*list = e;
}

bool loop_end_ask(struct loop_end *e, enum loop_end_kind kind)
{
	if (!E.turning)
		return false;
	if (!e->at)
		loop_end_link(&E.list[kind], e);
	return true;
}

void loop_end_stop(struct loop_end *e)
{
	if (!e->at)
		return;
	*e->at = e->next;
	if (e->next)
		e->next->at = e->at;
	e->at = NULL;
	e->next = NULL;
}

bool loop_end_waits(void)
{
	return E.list[LOOP_END_FIRST] != NULL;
}

/* One may stop any other, or ask again. */
static void loop_end_do(enum loop_end_kind kind)
{
	struct loop_end *e;
	while ((e = E.list[kind])) {
		loop_end_stop(e);
		loop_end_link(&E.due, e);
	}
	while ((e = E.due)) {
		loop_end_stop(e);
		e->run(e->arg);
	}
}

void loop_end_begin(void)
{
	E.turning = true;
}

void loop_end_run(void)
{
	loop_end_do(LOOP_END_FIRST);
	loop_end_do(LOOP_END_LAST);
	loop_end_do(LOOP_END_FIRST);
}

void loop_end_over(void)
{
	loop_end_run();
	E.turning = false;
}
