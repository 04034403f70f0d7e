/*
 * queue_lane: limits on deliveries at the same time.
 *
 * A lane (a domain, a smarthost, or a local courier) takes so many at a time, and so do all domains
 * together, so that dead hosts leave room for local mail; a group that finds it full waits in it. A
 * message all of whose groups would wait is parked in the lane as a bare entry, so that ten
 * thousand messages for one dead host cost ten thousand entries, not envelopes, and hold no place
 * that others need.
 *
 * The places of all domains are shared in three ways. A lane that has some gets another only while
 * it has fewer than there are free: n lanes that want all leave one share in n + 1 to newcomers.
 * What a lane may have at all (window) doubles with each delivery that reached somebody, and halves
 * with each that did not; down to one by that, it fails. The lanes that fail are together as one
 * lane in this. And of those that may have it, a place goes to the lane with the fewest, or served
 * least recently.
 *
 * So one delivery at a time finds out whether a place that fails is back. Groups that wait for such
 * a place get its answer, since each keeps a message in memory; parked messages wait for their
 * turn, but not beyond their time.
 *
 * Which places are dead is not known before they were tried. So when all are taken and somebody
 * waits who has none, one that is not known to fail and has been quiet for QUEUE_HURRY_MS makes
 * room: it counts as failed, and will have all of its time among those that fail. Nobody is given
 * up for want of an answer that was not waited for.
 */
#include "queue_lane.h"

#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "queue_work.h"

static void queue_lane_init(struct queue_lane *l, unsigned limit, unsigned window)
{
	l->limit = limit;
	l->window = window < limit ? window : limit;
	l->last = &l->first;
	l->parked_last = &l->parked;
}

static void queue_lane_free(struct queue *q, struct queue_lane *lane)
{
	struct queue_lane **p = &q->lanes;
	while (*p != lane)
		p = &(*p)->next;
	*p = lane->next;
	free(lane->why);
	free(lane);
}

static bool queue_lane_is_unused(const struct queue_lane *l)
{
	return l->groups == 0 && !l->parked;
}

static bool queue_lane_is_remembered(const struct queue_lane *l)
{
	return l->failing && loop_now() - l->failed < QUEUE_LANE_FAILING_MS;
}

/* Frees lanes that nobody uses; of those that fail, QUEUE_LANE_FAILING_MAX are remembered. */
static void queue_lanes_tidy(struct queue *q)
{
	struct queue_lane *next;
	struct queue_lane *oldest = NULL;
	size_t count = 0;
	for (struct queue_lane *l = q->lanes; l; l = next) {
		next = l->next;
		if (!queue_lane_is_unused(l))
			continue;
		if (!queue_lane_is_remembered(l)) {
			queue_lane_free(q, l);
			continue;
		}
		count++;
		if (!oldest || l->failed < oldest->failed)
			oldest = l;
	}
	if (count > QUEUE_LANE_FAILING_MAX)
		queue_lane_free(q, oldest);
}

static struct queue_lane *queue_lane_find(struct queue *q, const char *key)
{
	struct queue_lane *l = q->lanes;
	while (l && strcmp(l->key, key) != 0)
		l = l->next;
	return l;
}

struct queue_lane *queue_lane_get(struct queue *q, const char *key, unsigned limit, bool remote)
{
	struct queue_lane *l = queue_lane_find(q, key);
	if (l) {
		l->limit = limit; /* of the courier that new deliveries begin with */
		if (l->window > limit || !remote)
			l->window = limit;
		return l;
	}
	l = calloc(1, sizeof *l);
	if (!l || strlen(key) >= sizeof l->key) {
		free(l);
		return NULL;
	}
	memcpy(l->key, key, strlen(key) + 1);
	queue_lane_init(l, limit, remote ? QUEUE_LANE_START : limit);
	l->all = remote ? &q->remote : NULL;
	l->next = q->lanes;
	q->lanes = l;
	return l;
}

void queue_lane_leave(struct queue *q, struct queue_lane *lane)
{
	lane->groups--;
	if (queue_lane_is_unused(lane))
		queue_lanes_tidy(q);
}

static unsigned queue_lane_used(const struct queue_lane *l)
{
	return l->active + l->expected;
}

/* Has a lane all it may have, in itself and beside the others of the lane that it is a part of? */
static bool queue_lane_has_enough(const struct queue_lane *l)
{
	const struct queue_lane *top = l->all;
	unsigned used = queue_lane_used(l);
	if (used >= l->window)
		return true;
	while (top && top->all)
		top = top->all;
	if (!top || used == 0)
		return false;
	return queue_lane_used(top) + used >= top->limit;
}

struct queue_lane *queue_lane_full(struct queue_lane *l)
{
	while (l && !queue_lane_has_enough(l))
		l = l->all;
	return l;
}

/* ---- deliveries that nobody answers ---- */

/* The delivery to a domain not known to fail that has been quiet for longest, and since when; not
 * the last one of a message, which has all of its time. */
static struct queue_group *queue_quietest(const struct queue *q, int64_t *since)
{
	struct queue_group *found = NULL;
	*since = INT64_MAX;
	for (const struct queue_work *w = q->works; w; w = w->next) {
		if (queue_is_too_old(q, w->entry))
			continue;
		for (struct queue_group *g = w->groups; g; g = g->next) {
			if (!g->running || g->refused || !g->courier->quiet_since ||
			    g->lane->all != &q->remote)
				continue;
			int64_t quiet = g->courier->quiet_since(g->courier->self, &g->delivery);
			if (quiet < *since) {
				*since = quiet;
				found = g;
			}
		}
	}
	return found;
}

static void queue_lane_make_room(void *arg)
{
	struct queue *q = arg;
	int64_t since;
	if (q->draining || (!q->remote.first && !q->remote.parked))
		return;
	struct queue_group *g = queue_quietest(q, &since);
	int64_t left = g ? since + QUEUE_HURRY_MS - loop_now() : QUEUE_HURRY_MS;
	bool cut = left <= 0 && q->was_quiet;
	loop_timer_set(&q->hurry, left > 0 ? left : 0);
	/* Perhaps it was us who had no time: what has come is looked at behind the timers. */
	q->was_quiet = left <= 0 && !cut;
	if (cut)
		queue_group_cut(g);
}

void queue_lane_init_remote(struct queue *q)
{
	queue_lane_init(&q->remote, QUEUE_REMOTE_MAX, QUEUE_REMOTE_MAX);
	queue_lane_init(&q->failing, QUEUE_REMOTE_MAX, QUEUE_REMOTE_MAX);
	q->failing.all = &q->remote;
	loop_timer_init(&q->hurry, queue_lane_make_room, q);
}

void queue_lane_hurry(struct queue *q)
{
	bool waits = q->remote.first || q->remote.parked;
	if (waits && !loop_timer_is_set(&q->hurry))
		loop_timer_set(&q->hurry, 0);
}

void queue_lane_park(struct queue *q, struct queue_lane *l, struct queue_entry *e)
{
	e->next = NULL;
	*l->parked_last = e;
	l->parked_last = &e->next;
	queue_lane_hurry(q);
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

/* ---- who is next ---- */

static void queue_lane_prefer(struct queue *q, struct queue_lane **best, struct queue_lane *l,
                              bool parked)
{
	unsigned used = queue_lane_used(l);
	bool waits = (l->first && q->deliveries < QUEUE_DELIVERIES_MAX) || (l->parked && parked);
	if (!waits || queue_lane_full(l))
		return;
	if (l == &q->remote || l == &q->failing)
		used = 0; /* whoever waits there has no place yet */
	if (*best) {
		unsigned other =
		    *best == &q->remote || *best == &q->failing ? 0 : queue_lane_used(*best);
		if (used > other || (used == other && (int)(l->turn - (*best)->turn) > 0))
			return;
	}
	*best = l;
}

/* The lane that is to have the next place: of those that are not part of another `only`, else any;
 * parked: for a parked message, too. NULL when nobody waits who may have one. */
static struct queue_lane *queue_lane_choose(struct queue *q, struct queue_lane *only, bool parked)
{
	struct queue_lane *best = NULL;
	if (only) {
		queue_lane_prefer(q, &best, only, parked);
		return best;
	}
	queue_lane_prefer(q, &best, &q->remote, parked);
	queue_lane_prefer(q, &best, &q->failing, parked);
	for (struct queue_lane *l = q->lanes; l; l = l->next)
		queue_lane_prefer(q, &best, l, parked);
	return best;
}

/* Starts the group that waits first. It may find that it waits elsewhere now. */
static void queue_lane_start(struct queue_lane *l)
{
	struct queue_group *g = l->first;
	l->first = g->wait_next;
	if (!l->first)
		l->last = &l->first;
	queue_group_start(g);
}

/* Gives places to those that wait, up to `parked` of them to messages that are parked. Returns how
 * many of these are left. */
static unsigned queue_lanes_serve(struct queue *q, struct queue_lane *only, unsigned parked)
{
	struct queue_lane *l;
	while ((l = queue_lane_choose(q, only, parked > 0)) != NULL) {
		l->turn = ++q->turn;
		if (l->first && q->deliveries < QUEUE_DELIVERIES_MAX) {
			queue_lane_start(l);
			continue;
		}
		queue_lane_unpark(q, l);
		for (struct queue_lane *up = l; up; up = up->all)
			up->expected++;
		parked--;
	}
	return parked;
}

/* All that was expected is there, or will find its place taken. */
static void queue_lanes_expect_none(struct queue *q)
{
	q->remote.expected = q->failing.expected = 0;
	for (struct queue_lane *l = q->lanes; l; l = l->next)
		l->expected = 0;
}

void queue_lanes_fill(struct queue *q)
{
	queue_lanes_serve(q, NULL, QUEUE_ACTIVE_MAX);
	queue_lanes_expect_none(q);
	queue_lanes_tidy(q);
}

/* ---- places that fail ---- */

static void queue_lane_set_failing(struct queue *q, struct queue_lane *l, bool failing)
{
	if (failing == l->failing)
		return;
	l->failing = failing;
	l->all = failing ? &q->failing : &q->remote;
	if (failing)
		q->failing.active += l->active;
	else
		q->failing.active -= l->active;
}

/* A delivery of the lane has reached somebody, or it has not: why. Returns by how much the lane's
 * window has grown. */
static unsigned queue_lane_learn(struct queue *q, struct queue_lane *l, const struct status *why,
                                 bool cut)
{
	unsigned before = l->window;
	if (why) {
		l->window = before > 1 ? before / 2 : 1;
		if (l->window > 1)
			return 0;
		queue_lane_set_failing(q, l, true);
		l->failed = loop_now();
		l->cut = cut;
		if (!l->why)
			l->why = malloc(sizeof *l->why);
		if (l->why)
			status_set(l->why, why->code, NULL, "put off, after another message: %s",
			           why->text);
		if (l->why)
			memcpy(l->why->enh, why->enh, sizeof why->enh);
		return 0;
	}
	queue_lane_set_failing(q, l, false);
	free(l->why);
	l->why = NULL;
	l->window = before < l->limit / 2 ? before * 2 : l->limit;
	return l->window - before;
}

/* Those who wait in a lane that fails are not kept waiting for one try after the other. */
static void queue_lane_put_off(const struct queue *q, struct queue_lane *l)
{
	struct queue_group **p = &l->first;
	while (l->why && *p) {
		struct queue_group *g = *p;
		if (l->cut && queue_is_too_old(q, g->work->entry)) {
			p = &g->wait_next;
			continue;
		}
		*p = g->wait_next;
		if (!*p)
			l->last = p;
		queue_group_refuse(g, l->why);
	}
}

/* Brings back some of the parked messages whose time is up. */
static void queue_lane_expire(struct queue *q, struct queue_lane *l)
{
	struct queue_entry **p = &l->parked;
	int left = QUEUE_STEP;
	while (*p && left > 0) {
		struct queue_entry *e = *p;
		if (!queue_is_too_old(q, e)) {
			p = &e->next;
			continue;
		}
		*p = e->next;
		if (!*p)
			l->parked_last = p;
		queue_put_back(q, e, 0);
		left--;
	}
}

void queue_lane_ended(struct queue *q, struct queue_lane *l, const struct status *why, bool cut)
{
	unsigned more = 1;
	if (l->all) {
		more += queue_lane_learn(q, l, why, cut);
		if (l->failing) {
			queue_lane_put_off(q, l);
			queue_lane_expire(q, l);
			queue_lane_expire(q, &q->failing);
		}
	}
	if (q->draining)
		return;
	queue_lanes_serve(q, l->all ? NULL : l, more);
	queue_lanes_expect_none(q);
}

/* ---- taking out ---- */

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
	bool found = queue_parked_take(&q->remote, e) || queue_parked_take(&q->failing, e);
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
	/* It may have begun to wait before its lane began to fail, or ceased to. */
	struct queue_lane *lanes[] = {g->lane, &q->failing, &q->remote};
	for (size_t i = 0; i < sizeof lanes / sizeof *lanes; i++)
		if (queue_waiting_take(&lanes[i]->first, &lanes[i]->last, g))
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
	queue_lane_clear(q, &q->failing);
	while (q->lanes) {
		struct queue_lane *l = q->lanes;
		q->lanes = l->next;
		queue_lane_clear(q, l);
		free(l->why);
		free(l);
	}
}
