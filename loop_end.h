/* loop_end: work for the end of a turn: the lines of a log, then the answers that wait for them. */
#ifndef LOOP_END_H
#define LOOP_END_H

#include <stdbool.h>

/* In this order. */
enum loop_end_kind { LOOP_END_FIRST, LOOP_END_LAST, LOOP_END_KINDS };

/* Embedded in its owner; set run and arg, zero the rest. */
struct loop_end {
	void (*run)(void *arg);
	void *arg;
	struct loop_end *next;
	struct loop_end **at; /* what points here; NULL: not asked for */
};

/* Asks for run(arg), once, at the end of this turn: before anything waits, for the disk or in
 * select(). False when no turn is under way; then nothing was asked for. */
bool loop_end_ask(struct loop_end *e, enum loop_end_kind kind);

/* Takes it back. Harmless when it was not asked for. */
void loop_end_stop(struct loop_end *e);

/* Was anything asked for that comes first? */
bool loop_end_waits(void);

/* For loop.c: a turn begins; what was asked for is done, before something takes long; the same, and
 * the turn is over. */
void loop_end_begin(void);
void loop_end_run(void);
void loop_end_over(void);

#endif
