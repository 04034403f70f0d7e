/* queue_int: what the queue's files share: the index, and the work on one message. */
#ifndef QUEUE_INT_H
#define QUEUE_INT_H

#include "dsn.h"
#include "loop.h"
#include "queue.h"

/* A message in the index. Kept small: a router may hold a hundred thousand. */
struct queue_entry {
	uint64_t number;          /* the ID when it is one of ours, else 0 */
	char *name;               /* the ID when it is not */
	struct envelope *kept;    /* what could not be written to disk about it, else NULL */
	int64_t due;              /* monotonic ms */
	int64_t born;             /* monotonic ms; ages do not follow the wall clock's jumps */
	int64_t created;          /* wall clock, s: what the file says */
	uint32_t slot;            /* in the heap, from 1; 0 while not in it */
	bool active;              /* being worked on, or parked in a lane */
	bool finished;            /* delivered, but its file could not be removed */
	struct queue_entry *next; /* free list, or a lane's parked ones */
};

/* Deliveries that share a limit: to one domain or smarthost, to all, or by one local courier. */
struct queue_lane {
	char key[ADDR_DOMAIN_MAX + 2];
	struct queue_lane *all; /* the lane that this one is a part of, or NULL */
	unsigned limit;
	unsigned groups;           /* that refer to it */
	unsigned active;           /* of them, running */
	struct queue_group *first; /* of them, waiting */
	struct queue_group **last;
	struct queue_entry *parked; /* messages that wait for this lane alone, unloaded */
	struct queue_entry **parked_last;
	struct queue_lane *next;
};

/* Recipients of one message that go the same way: one delivery. */
struct queue_group {
	struct delivery delivery;
	struct queue_work *work;
	const struct courier *courier;
	struct queue_lane *lane;
	size_t *rcpts;
	bool *told; /* which of them have their verdict */
	bool running;
	char *from;   /* the sender rewritten; NULL: it stays */
	bool refused; /* the courier could not begin: `why`, told by the timer */
	struct status why;
	struct loop_timer timer;
	struct queue_group *wait_next; /* in a lane or in the queue's list */
	struct queue_group *next;      /* of the work */
};

/* A message being worked on. */
struct queue_work {
	struct queue *q;
	struct queue_entry *entry;
	struct envelope env;
	struct queue_group *groups;
	char smarthost[16]; /* the lane of remote recipients, "" when each domain has its own */
	bool foreign;       /* its sender is to be rewritten where it is forwarded */
	size_t open;        /* groups not done */
	bool unsaved;       /* a verdict is not on disk */
	struct dsn *dsn;
	struct queue_work *next;
};

struct queue {
	struct spool *spool;
	const struct conf *conf;
	struct queue_couriers couriers;
	const struct srs *srs; /* NULL: off */
	struct loop_timer timer, scan_timer;
	struct queue_entry **heap; /* heap[1..heap_count] */
	size_t heap_count, heap_size;
	struct queue_entry *spare; /* free entries */
	size_t spare_count;
	size_t length;   /* entries in use */
	size_t reserved; /* messages coming in */
	struct queue_work *works;
	size_t active;     /* works */
	size_t deliveries; /* groups running */
	struct queue_lane *lanes;
	struct queue_lane remote; /* what those of domains are part of; not in the list */
	struct queue_group *waiting, **waiting_last; /* for a free delivery */
	bool draining;
	void (*idle)(void *arg);
	void *idle_arg;
};

/* ---- queue.c: the index ---- */
/* The entry's ID in out. */
void queue_entry_id(const struct queue_entry *e, char out[SPOOL_ID_MAX + 1]);

/* Age in ms. */
int64_t queue_age(const struct queue_entry *e);

/* Puts an entry back to be tried in ms; forgets one whose message is gone. */
void queue_put_back(struct queue *q, struct queue_entry *e, int64_t ms);
void queue_forget(struct queue *q, struct queue_entry *e);

/* Looks for work when the turn is over. */
void queue_wake(struct queue *q);

/* Random ms up to the jitter of the retry table. */
int64_t queue_jitter(void);

/* ---- queue_work.c: one message ---- */
/* Loads the entry's message and starts its deliveries, or parks it. */
void queue_work_start(struct queue *q, struct queue_entry *e);

/* When nothing is due: brings back parked messages that no delivery's end would, as the one brought
 * back before them was damaged or goes another way. */
void queue_lanes_fill(struct queue *q);
void queue_lane_init_remote(struct queue *q);

/* Stops all work at once; verdicts that came are recorded. */
void queue_work_stop_all(struct queue *q);

#endif
