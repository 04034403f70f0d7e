/* queue_lane: limits on deliveries at the same time, and who waits for a place. */
#ifndef QUEUE_LANE_H
#define QUEUE_LANE_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"
#include "status.h"

struct queue;
struct queue_entry;
struct queue_group;

/* Deliveries that share a limit: to one domain or smarthost, to all, or by one local courier. */
struct queue_lane {
	struct queue_lane *all; /* the lane that this one is a part of, or NULL */
	unsigned limit;
	unsigned window;    /* what it may have of this now: less when it fails, at least 1 */
	unsigned groups;    /* that refer to it */
	unsigned active;    /* of them, running */
	unsigned expected;  /* queue_lanes_fill: places given to what it has brought back */
	unsigned turn;      /* when it was served last, in numbers of queue->turn */
	bool failing;       /* down to one at a time, by failures: a part of queue->failing */
	int64_t failed;     /* the last of them, loop_now() */
	struct status *why; /* its status; NULL when there was no memory, or it does not fail */
	bool cut;           /* which it got from us: the place was not waited for */
	struct queue_group *first; /* groups waiting */
	struct queue_group **last;
	struct queue_entry *parked; /* messages that wait for this lane alone, unloaded */
	struct queue_entry **parked_last;
	struct queue_lane *next;
	char key[ADDR_DOMAIN_MAX + 2];
};

void queue_lane_init_remote(struct queue *q);

/* Finds or makes a lane; remote: of those that share QUEUE_REMOTE_MAX. NULL when there is no
 * memory. */
struct queue_lane *queue_lane_get(struct queue *q, const char *key, unsigned limit, bool remote);

/* A group leaves its lane; frees one that nobody uses any more, unless it is to be remembered. */
void queue_lane_leave(struct queue *q, struct queue_lane *lane);

/* The lane that has no place left: this one, or the one it is part of. NULL when there is room. */
struct queue_lane *queue_lane_full(struct queue_lane *l);

/* Parks a message. */
void queue_lane_park(struct queue *q, struct queue_lane *l, struct queue_entry *e);

/* Somebody may have begun to wait: if it is for a place of any domain, deliveries that have been
 * quiet for QUEUE_HURRY_MS make room, with the next turn or when it is so. */
void queue_lane_hurry(struct queue *q);

/* Takes out a message that is parked somewhere, a group that waits somewhere. False: it does not.
 */
bool queue_lane_unpark_one(struct queue *q, const struct queue_entry *e);
bool queue_lane_unwait(struct queue *q, const struct queue_group *g);

/* A delivery of this lane ended: starts groups that wait for a place, or brings back a parked
 * message; in any of the lanes that share the place. why: NULL, or the status of one that could
 * reach nobody. Then the groups that wait in this lane have it for an answer when the lane is down
 * to one at a time, and so will parked messages whose time is up; these not, nor groups of such,
 * when the delivery was cut (queue_group_cut). */
void queue_lane_ended(struct queue *q, struct queue_lane *l, const struct status *why, bool cut);

/* When nothing is due: brings back parked messages for all places that are free. */
void queue_lanes_fill(struct queue *q);

/* Frees all lanes and forgets what is parked in them. */
void queue_lanes_clear(struct queue *q);

#endif
