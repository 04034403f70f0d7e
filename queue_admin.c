/*
 * queue_admin: what operators see of the queue, and do to it: list, flush, hold, release, remove.
 *
 * All go over the index without reading a message: a list of a hundred thousand costs a walk. What
 * is held is written to disk before it counts (hold.c). A removal without notification is one
 * unlink, at once; one with it goes through a round of the message (queue_work.c), as does any of a
 * message that is being worked on, whose deliveries go on to their end.
 */
#define LOG_KIND LOG_QUEUE

#include "queue.h"

#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "log.h"
#include "queue_work.h"

/* ---- the walk ---- */

static void queue_each_parked(const struct queue_lane *l,
                              void (*each)(void *, struct queue_entry *), void *arg)
{
	for (struct queue_entry *e = l->parked; e; e = e->next)
		each(arg, e);
}

static void queue_each(const struct queue *q, void (*each)(void *, struct queue_entry *), void *arg)
{
	for (size_t i = 1; i <= q->index.heap_count; i++)
		each(arg, q->index.heap[i]);
	for (const struct queue_work *w = q->works; w; w = w->next)
		each(arg, w->entry);
	for (const struct queue_lane *l = q->lanes; l; l = l->next)
		queue_each_parked(l, each, arg);
	queue_each_parked(&q->remote, each, arg);
	queue_each_parked(&q->failing, each, arg);
}

struct queue_search {
	const char *id;
	uint64_t number;
	struct queue_entry *found;
};

static void queue_compare_id(void *arg, struct queue_entry *e)
{
	struct queue_search *s = arg;
	if (e->ours ? e->number == s->number : strcmp(e->name, s->id) == 0)
		s->found = e;
}

static struct queue_entry *queue_search(const struct queue *q, const char *id)
{
	struct queue_search s = {.id = id, .number = spool_id_number(id)};
	queue_each(q, queue_compare_id, &s);
	return s.found;
}

static struct queue_work *queue_find_work(const struct queue *q, const struct queue_entry *e)
{
	struct queue_work *w = q->works;
	while (w && w->entry != e)
		w = w->next;
	return w;
}

/* ---- questions ---- */

static void queue_describe(const struct queue_entry *e, struct queue_item *item)
{
	int64_t now = queue_wall();
	queue_entry_id(e, item->id);
	item->created = e->created;
	item->active = e->active;
	item->held = e->held;
	item->next = e->active ? now : 0;
	if (!e->active && e->due != QUEUE_NEVER)
		item->next = now + (e->due - loop_now()) / 1000;
}

int queue_find(const struct queue *q, const char *id, struct queue_item *item)
{
	const struct queue_entry *e = queue_search(q, id);
	if (!e)
		return -1;
	queue_describe(e, item);
	return 0;
}

static void queue_compare_age(void *arg, struct queue_entry *e)
{
	int64_t *age = arg;
	if (queue_age(e) > *age)
		*age = queue_age(e);
}

int64_t queue_oldest(const struct queue *q)
{
	int64_t age = -1;
	queue_each(q, queue_compare_age, &age);
	if (age < 0)
		return 0;
	int64_t since = queue_wall() - age / 1000;
	return since > 0 ? since : 1;
}

static int queue_compare(const void *a, const void *b)
{
	return strcmp(((const struct queue_item *)a)->id, ((const struct queue_item *)b)->id);
}

/* The max smallest IDs behind `after`. */
struct queue_page {
	const char *after;
	uint64_t after_number; /* 0: it is none of ours */
	uint64_t last_number;  /* of the last item, when there are max; or 0 */
	struct queue_item *items;
	size_t max;
	size_t count;
};

/* As most are not on the page, and have a number, they are not looked at any closer. */
static bool queue_page_passes(const struct queue_page *page, const struct queue_entry *e)
{
	return e->ours && ((page->after_number && e->number <= page->after_number) ||
	                   (page->last_number && e->number >= page->last_number));
}

/* A sorted array that each entry is tried against. */
static void queue_consider(void *arg, struct queue_entry *e)
{
	struct queue_page *page = arg;
	struct queue_item one;
	size_t at = page->max - 1;
	if (queue_page_passes(page, e))
		return;
	queue_describe(e, &one);
	if (strcmp(one.id, page->after) <= 0)
		return;
	if (page->count < page->max) {
		page->items[page->count++] = one;
		if (page->count < page->max)
			return;
		qsort(page->items, page->max, sizeof one, queue_compare);
	} else {
		if (strcmp(one.id, page->items[at].id) >= 0)
			return;
		for (; at > 0 && strcmp(page->items[at - 1].id, one.id) > 0; at--)
			page->items[at] = page->items[at - 1];
		page->items[at] = one;
	}
	page->last_number = spool_id_number(page->items[page->max - 1].id);
}

size_t queue_list(const struct queue *q, const char *after, struct queue_item *items, size_t max)
{
	struct queue_page page = {
	    .after = after, .after_number = spool_id_number(after), .items = items, .max = max};
	if (max == 0)
		return 0;
	queue_each(q, queue_consider, &page);
	if (page.count < max)
		qsort(items, page.count, sizeof *items, queue_compare);
	return page.count;
}

const char *queue_held_nth(const struct queue *q, size_t n)
{
	return q->hold ? hold_nth(q->hold, n) : NULL;
}

/* ---- flush ---- */

size_t queue_flush(struct queue *q, const char *id)
{
	size_t count = 0;
	struct queue_entry *one = id ? queue_search(q, id) : NULL;
	if (one && one->slot && one->due != QUEUE_NEVER) {
		queue_hurry(q, one);
		return 1;
	}
	q->flushed |= !id;
	/* One that comes forward changes places with those before it, which had their turn. */
	for (size_t i = 1; !id && i <= q->index.heap_count; i++) {
		if (q->index.heap[i]->due == QUEUE_NEVER)
			continue;
		queue_hurry(q, q->index.heap[i]);
		count++;
	}
	return count;
}

/* ---- hold and release ---- */

/* A word that is no ID is a domain when it has a dot, is a literal, or is ours. */
static bool queue_is_domain(const struct queue *q, const char *what)
{
	char domain[ADDR_DOMAIN_MAX + 1];
	if (addr_domain_normalise(slice_of(what), domain, sizeof domain) ||
	    strcmp(domain, what) != 0)
		return false;
	return strpbrk(what, ".[") || conf_domain_find(q->conf, what);
}

/* Takes an entry out of the lane it is parked in. False when it is being worked on. */
static bool queue_take_waiting(struct queue *q, const struct queue_entry *e)
{
	return e->slot > 0 || queue_lane_unpark_one(q, e);
}

int queue_hold(struct queue *q, const char *what, struct status *st)
{
	struct queue_entry *e = queue_search(q, what);
	if (!e && !queue_is_domain(q, what)) {
		status_set(st, 550, "5.3.0", "there is no such message, and it is no domain");
		return -1;
	}
	if (!q->hold) {
		status_set(st, 451, "4.3.0", "nothing can be held back");
		return -1;
	}
	if (hold_add(q->hold, what, st))
		return -1;
	log_debug(e ? what : "-", "held", LOG_S("what", what));
	if (e)
		e->held = true;
	if (e && !e->finished && e->removal == QUEUE_KEEP && queue_take_waiting(q, e))
		queue_put_back(q, e, QUEUE_NEVER);
	for (struct queue_work *w = q->works; w; w = w->next)
		queue_work_recheck(w);
	/* It may have been brought back from a lane where others count on it. */
	loop_timer_set(&q->timer, 0);
	return 0;
}

int queue_release_hold(struct queue *q, const char *what, struct status *st)
{
	struct queue_entry *e = queue_search(q, what);
	if (!q->hold) {
		status_set(st, 550, "5.3.0", "it is not held");
		return -1;
	}
	if (hold_remove(q->hold, what, st))
		return -1;
	log_debug(e ? what : "-", "released", LOG_S("what", what));
	if (e)
		e->held = false;
	for (struct queue_work *w = q->works; w; w = w->next)
		w->released |= w->skipped;
	/* The order of the heap: see queue_flush. */
	for (size_t i = 1; i <= q->index.heap_count; i++)
		if (q->index.heap[i]->due == QUEUE_NEVER && !q->index.heap[i]->held &&
		    (!e || e == q->index.heap[i]))
			queue_hurry(q, q->index.heap[i]);
	return 0;
}

bool queue_admin_scanned(struct queue *q)
{
	struct status st;
	const char *what = q->incomplete ? NULL : queue_held_nth(q, q->scan_held);
	if (!what)
		return false;
	if (queue_is_domain(q, what) || queue_search(q, what)) {
		q->scan_held++;
		return true;
	}
	log_info(what, "held, but gone");
	return !hold_remove(q->hold, what, &st); /* else the next start tries again */
}

/* ---- remove ---- */

/* Removes a message that waits, and nobody is told. */
static int queue_drop(struct queue *q, struct queue_entry *e, const char *id, struct status *st)
{
	if (spool_remove(q->spool, id, st))
		return -1;
	log_info(id, "removed by the operator", LOG_S("bounce", "no"));
	queue_take_waiting(q, e);
	queue_gone(q, e);
	return 0;
}

int queue_remove(struct queue *q, const char *id, bool bounce, struct status *st)
{
	struct queue_entry *e = queue_search(q, id);
	struct queue_work *w = e ? queue_find_work(q, e) : NULL;
	if (!e) {
		status_set(st, 550, "5.3.0", "there is no such message");
		return -1;
	}
	if (!w && (!bounce || e->finished))
		return queue_drop(q, e, id, st);
	if (!w && q->draining) {
		status_set(st, 451, "4.3.2", "the server is stopping");
		return -1;
	}
	e->removal = bounce ? QUEUE_BOUNCE : QUEUE_DROP;
	if (w) {
		queue_work_recheck(w);
	} else {
		queue_take_waiting(q, e);
		queue_put_back(q, e, -loop_now()); /* before all that are due */
	}
	return 0;
}
