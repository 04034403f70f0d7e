/* queue_work: one round of one message: its recipients in groups that go the same way. */
#ifndef QUEUE_WORK_H
#define QUEUE_WORK_H

#include "dsn.h"
#include "queue_int.h"

/* Recipients of one message that go the same way: one delivery. */
struct queue_group {
	struct queue_work *work;
	const struct courier *courier;
	struct queue_lane *lane; /* NULL when it is over */
	size_t *rcpts;
	bool *told; /* which of them have their verdict */
	bool running;
	bool cut;                      /* queue_group_cut */
	char *from;                    /* the sender rewritten; NULL: it stays */
	bool refused;                  /* the courier could not begin: `why`, told by the timer */
	struct queue_group *wait_next; /* in a lane or in the queue's list */
	struct queue_group *next;      /* of the work */
	struct delivery delivery;
	struct loop_timer timer;
	struct status why;
};

/* A message being worked on. */
struct queue_work {
	struct queue *q;
	struct queue_entry *entry;
	struct queue_group *groups;
	size_t smarthost_index; /* in the configuration */
	bool skipped;           /* in this round somebody was held back, */
	bool released;          /* and then something was released */
	bool foreign;           /* its sender is to be rewritten where it is forwarded */
	size_t open;            /* groups not done */
	bool unsaved;           /* a verdict is not on disk */
	struct dsn *dsn;
	struct queue_work *next;
	char smarthost[24]; /* the lane of remote recipients, "" when each domain has its own */
	struct envelope env;
};

/* Loads the entry's message and starts its deliveries, or parks it. */
void queue_work_start(struct queue *q, struct queue_entry *e);

/* Starts a group of a round, or lets it wait where there is no place. */
void queue_group_start(struct queue_group *g);

/* A group that waits, or never began, gets this for an answer. */
void queue_group_refuse(struct queue_group *g, const struct status *why);

/* A delivery that is under way ends: nobody has been reached, and others wait. */
void queue_group_cut(struct queue_group *g);

/* What is held has changed, or the message is to go: ends groups that wait with nobody left. */
void queue_work_recheck(struct queue_work *w);

/* Stops all work at once; verdicts that came are recorded. */
void queue_work_stop_all(struct queue *q);

#endif
