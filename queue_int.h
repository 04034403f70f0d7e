/* queue_int: what the queue's files share: the index. */
#ifndef QUEUE_INT_H
#define QUEUE_INT_H

#include "loop.h"
#include "queue.h"
#include "queue_index.h"
#include "queue_lane.h"

struct queue_work;

/* A wait without an end: until the operator releases what is held. */
#define QUEUE_NEVER INT64_MAX

/* What the operator wants of a message. */
enum queue_removal { QUEUE_KEEP, QUEUE_DROP, QUEUE_BOUNCE };

struct queue {
	struct spool *spool;
	const struct conf *conf;
	struct queue_couriers couriers;
	const struct srs *srs; /* NULL: off */
	struct hold *hold;     /* NULL: nothing is held */
	size_t reserved;       /* messages coming in */
	struct queue_work *works;
	size_t active;     /* works */
	size_t deliveries; /* groups running */
	struct queue_lane *lanes;
	unsigned turn;                               /* of the lane that was served last */
	struct queue_group *waiting, **waiting_last; /* for a free delivery */
	bool was_quiet;                              /* one of them, a turn before */
	bool draining;
	size_t scan_held; /* names looked at after the scan */
	bool incomplete;  /* there was no memory for a message that the scan found */
	bool flushed;     /* all were to be due: so is what the scan finds from then on */
	void (*idle)(void *arg);
	void *idle_arg;
	struct loop_timer timer, scan_timer;
	struct queue_index index;
	struct queue_lane remote;  /* what those of domains are part of; not in the list */
	struct queue_lane failing; /* the same, of those that fail: a part of remote */
	struct loop_timer hurry;   /* while somebody waits in `remote` */
};

/* ---- queue.c: the index ---- */
/* The entry's ID in out. */
void queue_entry_id(const struct queue_entry *e, char out[SPOOL_ID_MAX + 1]);

/* Age in ms. */
int64_t queue_age(const struct queue_entry *e);

/* Is it older than give_up_send_after? */
bool queue_is_too_old(const struct queue *q, const struct queue_entry *e);

/* Puts an entry back to be tried in ms, or QUEUE_NEVER; one that is held waits in any case. */
void queue_put_back(struct queue *q, struct queue_entry *e, int64_t ms);

/* Makes an entry that waits due now. */
void queue_hurry(struct queue *q, struct queue_entry *e);

/* Forgets an entry; gone: as its message is no more, also that it was held. */
void queue_forget(struct queue *q, struct queue_entry *e);
void queue_gone(struct queue *q, struct queue_entry *e);

/* As queue_reserve, whatever max_queue_items is: for a notification. 0, or -1: no memory. */
int queue_expect(struct queue *q);

/* Wall clock, s. */
int64_t queue_wall(void);

/* Looks for work when the turn is over. */
void queue_wake(struct queue *q);

/* Random ms up to the jitter of the retry table. */
int64_t queue_jitter(void);

/* ---- queue_admin.c: the operator's wishes ---- */
/* The scan is over: looks whether a name that is held is still here, the next one with each call,
 * and forgets it if not. True while there is more. */
bool queue_admin_scanned(struct queue *q);

#endif
