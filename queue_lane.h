/* queue_lane: limits on deliveries at the same time, and who waits for a place. */
#ifndef QUEUE_LANE_H
#define QUEUE_LANE_H

#include <stdbool.h>

#include "addr.h"

struct queue;
struct queue_entry;
struct queue_group;

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

void queue_lane_init_remote(struct queue *q);

/* Finds or makes a lane. NULL when there is no memory. */
struct queue_lane *queue_lane_get(struct queue *q, const char *key, unsigned limit);

/* A group leaves its lane; frees one that nobody uses any more. */
void queue_lane_leave(struct queue *q, struct queue_lane *lane);

/* The lane that has no place left: this one, or the one it is part of. NULL when there is room. */
struct queue_lane *queue_lane_full(struct queue_lane *l);

/* Parks a message. */
void queue_lane_park(struct queue_lane *l, struct queue_entry *e);

/* Takes out a message that is parked somewhere, a group that waits somewhere. False: it does not.
 */
bool queue_lane_unpark_one(struct queue *q, const struct queue_entry *e);
bool queue_lane_unwait(struct queue *q, const struct queue_group *g);

/* A delivery of this lane ended: starts a group that waits, or brings back a parked message. */
void queue_lane_next(struct queue *q, struct queue_lane *l);

/* When nothing is due: brings back parked messages that no delivery's end would, as the one brought
 * back before them was damaged or goes another way. */
void queue_lanes_fill(struct queue *q);

/* Frees all lanes and forgets what is parked in them. */
void queue_lanes_clear(struct queue *q);

#endif
