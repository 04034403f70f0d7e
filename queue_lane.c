/*
 * queue_lane: limits on deliveries at the same time.
 *
 * A lane (a domain, a smarthost, or a local courier) takes so many at a time, and so do all domains
 * together, so that dead hosts leave room for local mail; a group that finds it full waits in it. A
 * message all of whose groups would wait is parked in the lane as a bare entry, so that ten
 * thousand messages for one dead host cost ten thousand entries, not envelopes, and hold no place
 * that others need.
 */
#include "queue_lane.h"

#include <stdlib.h>
#include <string.h>

#include "queue_work.h"

static struct queue_lane *queue_lane_find(struct queue *q, const char *key)
{
	struct queue_lane *l = q->lanes;
	while (l && strcmp(l->key, key) != 0)
		l = l->next;
	return l;
}

struct queue_lane *queue_lane_get(struct queue *q, const char *key, unsigned limit)
{
	struct queue_lane *l = queue_lane_find(q, key);
	if (l) {
		l->limit = limit; /* of the courier that new deliveries begin with */
		return l;
	}
	l = calloc(1, sizeof *l);
	if (!l || strlen(key) >= sizeof l->key) {
		free(l);
		return NULL;
	}
	memcpy(l->key, key, strlen(key) + 1);
	l->limit = limit;
	l->last = &l->first;
	l->parked_last = &l->parked;
	l->next = q->lanes;
	q->lanes = l;
	return l;
}

static void queue_lane_free(struct queue *q, struct queue_lane *lane)
{
	struct queue_lane **p = &q->lanes;
	while (*p != lane)
		p = &(*p)->next;
	*p = lane->next;
	free(lane);
}

void queue_lane_leave(struct queue *q, struct queue_lane *lane)
{
	if (lane->all)
		lane->all->groups--;
	if (--lane->groups == 0 && !lane->parked)
		queue_lane_free(q, lane);
}

void queue_lane_init_remote(struct queue *q)
{
	q->remote.limit = QUEUE_REMOTE_MAX;
	q->remote.last = &q->remote.first;
	q->remote.parked_last = &q->remote.parked;
}

struct queue_lane *queue_lane_full(struct queue_lane *l)
{
	while (l && l->active < l->limit)
		l = l->all;
	return l;
}

void queue_lane_park(struct queue_lane *l, struct queue_entry *e)
{
	e->next = NULL;
	*l->parked_last = e;
	l->parked_last = &e->next;
}

/* Brings back the message that was parked first. */
static void queue_lane_unpark(struct queue *q, struct queue_lane *l)
{
	struct queue_entry *e = l->parked;
	l->parked = e->next;
	if (!l->parked)
		l->parked_last = &l->parked;
	queue_put_back(q, e, 0);
}

void queue_lanes_fill(struct queue *q)
{
	struct queue_lane *next;
	for (unsigned n = q->remote.groups; n < q->remote.limit && q->remote.parked; n++)
		queue_lane_unpark(q, &q->remote);
	for (struct queue_lane *l = q->lanes; l; l = next) {
		next = l->next;
		if (l->groups > 0)
			continue;
		for (unsigned n = 0; n < l->limit && l->parked; n++)
			queue_lane_unpark(q, l);
		if (!l->parked)
			queue_lane_free(q, l);
	}
}

void queue_lane_next(struct queue *q, struct queue_lane *l)
{
	while (l->first && !q->draining && !queue_lane_full(l)) {
		struct queue_group *g = l->first;
		l->first = g->wait_next;
		if (!l->first)
			l->last = &l->first;
		queue_group_start(g);
		/* Else it waits elsewhere, and its place here is for the next. */
		if (g->running || q->deliveries >= QUEUE_DELIVERIES_MAX)
			return;
	}
	if (l->parked && !q->draining && !queue_lane_full(l))
		queue_lane_unpark(q, l);
}

static bool queue_parked_take(struct queue_lane *l, const struct queue_entry *e)
{
	for (struct queue_entry **p = &l->parked; *p; p = &(*p)->next) {
		if (*p != e)
			continue;
		*p = e->next;
		if (!*p)
			l->parked_last = p;
		return true;
	}
	return false;
}

bool queue_lane_unpark_one(struct queue *q, const struct queue_entry *e)
{
	bool found = queue_parked_take(&q->remote, e);
	for (struct queue_lane *l = q->lanes; l && !found; l = l->next)
		found = queue_parked_take(l, e);
	return found;
}

static bool queue_waiting_take(struct queue_group **first, struct queue_group ***last,
                               const struct queue_group *g)
{
	for (struct queue_group **p = first; *p; p = &(*p)->wait_next) {
		if (*p != g)
			continue;
		*p = g->wait_next;
		if (!*p)
			*last = p;
		return true;
	}
	return false;
}

bool queue_lane_unwait(struct queue *q, const struct queue_group *g)
{
	for (struct queue_lane *l = g->lane; l; l = l->all)
		if (queue_waiting_take(&l->first, &l->last, g))
			return true;
	return queue_waiting_take(&q->waiting, &q->waiting_last, g);
}

static void queue_lane_clear(struct queue *q, struct queue_lane *l)
{
	while (l->parked) {
		struct queue_entry *e = l->parked;
		l->parked = e->next;
		queue_forget(q, e);
	}
}

void queue_lanes_clear(struct queue *q)
{
	queue_lane_clear(q, &q->remote);
	while (q->lanes) {
		struct queue_lane *l = q->lanes;
		q->lanes = l->next;
		queue_lane_clear(q, l);
		free(l);
	}
}
