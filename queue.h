/* queue: which message is tried when, and by which courier. */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "courier.h"
#include "hold.h"
#include "spool.h"
#include "srs.h"

struct queue;

/* The ways a recipient can go. All are kept. */
struct queue_couriers {
	const struct courier *local;
	const struct courier *pipe;
	const struct courier *remote;
};

/* What a queue works with. All is kept; without srs (NULL) senders stay as they are, without hold
 * nothing is held back. */
struct queue_setup {
	struct spool *spool;
	const struct conf *conf;
	struct queue_couriers couriers;
	const struct srs *srs;
	struct hold *hold;
};

/* Makes a queue over a spool and starts the scan of what is there. NULL when there is no memory. */
struct queue *queue_new(const struct queue_setup *setup);

/* From now on deliveries begin with this local courier, which is kept; those under way keep theirs.
 */
void queue_set_local(struct queue *q, const struct courier *local);

/* Stops all deliveries at once and frees the queue; the messages stay. */
void queue_free(struct queue *q);

/* Starts nothing new; calls idle once no delivery is under way (perhaps at once). */
void queue_drain(struct queue *q, void (*idle)(void *arg), void *arg);

/*
 * Reserves a place for a message that is coming in: 0, or -1 with 452 4.3.1 in *st when
 * max_queue_items are there. Each reservation ends with queue_release, also after a commit.
 */
int queue_reserve(struct queue *q, struct status *st);
void queue_release(struct queue *q);

/* Messages waiting or under way; deliveries under way. */
size_t queue_length(const struct queue *q);
size_t queue_active(const struct queue *q);

/* Makes all waiting messages (id NULL) or one due now, but those held. Returns how many. What the
 * scan of the start has yet to find belongs to all, and is not counted. */
size_t queue_flush(struct queue *q, const char *id);

/*
 * Holds a message (an ID, which must be here) or a domain (normalised; with a dot, a literal, or
 * one of ours) back: no attempt is made, and none counts as too old, until it is released. A
 * delivery under way goes on to its end. Recipients in other domains are served; a program is in
 * the domain of its alias. It holds over a restart. 0, or -1 with *st (550: there is no such).
 */
int queue_hold(struct queue *q, const char *what, struct status *st);

/* Releases; a message is due now, and so are all that may wait for a domain. 0, or -1 with *st. */
int queue_release_hold(struct queue *q, const char *what, struct status *st);

/*
 * Removes a message: its open recipients fail, with a notification to the sender if `bounce`. It is
 * done at once or soon after, and when a delivery is under way at its end; one that succeeds
 * meanwhile has succeeded. 0, or -1 with *st: 550, there is no such message; 4yz, the disk or a
 * stop is in the way.
 */
int queue_remove(struct queue *q, const char *id, bool bounce, struct status *st);

/* What the index knows of a message. next is the wall clock time of the next attempt, s; 0 when
 * there is none before something is released. */
struct queue_item {
	char id[SPOOL_ID_MAX + 1];
	int64_t created;
	int64_t next;
	bool active;
	bool held; /* the message itself is */
};

/* One message. 0, or -1: it is not here. */
int queue_find(const struct queue *q, const char *id, struct queue_item *item);

/* When the oldest of all was accepted (s, by the wall clock as it is now); 0: the queue is empty.
 */
int64_t queue_oldest(const struct queue *q);

/* The domains and IDs held, sorted; see hold_nth. */
const char *queue_held_nth(const struct queue *q, size_t n);

/* Copies up to max items with IDs behind `after` ("" for the first), in order of ID. */
size_t queue_list(const struct queue *q, const char *after, struct queue_item *items, size_t max);

/* ms to wait before the next attempt for a message of this age, by the retry table, without the
 * random part. */
int64_t queue_delay(int64_t age_ms);

/* How a recipient goes: also for those who want to know in advance. */
enum queue_route { QUEUE_LOCAL, QUEUE_PIPE, QUEUE_REMOTE };
enum queue_route queue_route(const struct conf *conf, const struct rcpt *r);

#endif
