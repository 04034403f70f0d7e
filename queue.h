/* queue: which message is tried when, and by which courier. */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "courier.h"
#include "spool.h"
#include "srs.h"

struct queue;

/* The ways a recipient can go; a queue takes its couriers when it is made. */
struct queue_couriers {
	struct courier local;
	struct courier pipe;
	struct courier remote;
};

/* Makes a queue over a spool and starts the scan of what is there. conf, couriers and srs are kept;
 * without srs (NULL) senders stay as they are. NULL when there is no memory. */
struct queue *queue_new(struct spool *sp, const struct conf *conf,
                        const struct queue_couriers *couriers, const struct srs *srs);

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

/* Makes all waiting messages (id NULL) or one due now. Returns how many. */
size_t queue_flush(struct queue *q, const char *id);

/* What the index knows of a message. next is the wall clock time of the next attempt, s. */
struct queue_item {
	char id[SPOOL_ID_MAX + 1];
	int64_t created;
	int64_t next;
	bool active;
};

/* Copies up to max items with IDs behind `after` ("" for the first), in order of ID. */
size_t queue_list(const struct queue *q, const char *after, struct queue_item *items, size_t max);

/* ms to wait before the next attempt for a message of this age, by the retry table, without the
 * random part. */
int64_t queue_delay(int64_t age_ms);

/* How a recipient goes: also for those who want to know in advance. */
enum queue_route { QUEUE_LOCAL, QUEUE_PIPE, QUEUE_REMOTE };
enum queue_route queue_route(const struct conf *conf, const struct rcpt *r);

#endif
