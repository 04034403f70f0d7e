/*
 * queue: the index of waiting messages: which is due when.
 *
 * A heap of small entries and one timer, set to the first of them: an idle queue of any length
 * wakes nobody. Times are monotonic; the wall clock is asked once a message, when the scan finds
 * it, and is not believed when it says something impossible (boards boot in 1970): then the message
 * counts as new. So nothing is bounced for age because a clock jumped.
 *
 * An entry is reserved before a message is taken (queue_reserve), so that the commit, after which
 * 250 is said, needs no memory.
 */
#define LOG_KIND LOG_QUEUE

#include "queue_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "log.h"
#include "queue_work.h"
#include "stat.h"

STAT_GAUGE(stat_length, "queue/length", "Messages in the queue, waiting or being delivered");

/* ---- time ---- */

int64_t queue_wall(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec;
}

int64_t queue_delay(int64_t age_ms)
{
	static const struct {
		int64_t age;
		int64_t wait;
	} table[] = QUEUE_RETRY_TABLE;
	size_t row = 0;
	while (row + 1 < sizeof table / sizeof *table && age_ms / 1000 >= table[row].age)
		row++;
	return table[row].wait * 1000;
}

int64_t queue_jitter(void)
{
	uint32_t chance = 0;
	if (getrandom(&chance, sizeof chance, GRND_NONBLOCK) != sizeof chance)
		chance = (uint32_t)loop_now_us();
	return QUEUE_RETRY_JITTER > 0 ? chance % (QUEUE_RETRY_JITTER * 1000U) : 0;
}

int64_t queue_age(const struct queue_entry *e)
{
	return loop_now() - e->born;
}

/* ---- the heap ---- */

static void queue_heap_set(struct queue *q, size_t slot, struct queue_entry *e)
{
	q->heap[slot] = e;
	e->slot = (uint32_t)slot;
}

static void queue_heap_up(struct queue *q, size_t slot, struct queue_entry *e)
{
	while (slot > 1 && q->heap[slot / 2]->due > e->due) {
		queue_heap_set(q, slot, q->heap[slot / 2]);
		slot /= 2;
	}
	queue_heap_set(q, slot, e);
}

static void queue_heap_down(struct queue *q, size_t slot, struct queue_entry *e)
{
	for (;;) {
		size_t child = slot * 2;
		if (child > q->heap_count)
			break;
		if (child < q->heap_count && q->heap[child + 1]->due < q->heap[child]->due)
			child++;
		if (q->heap[child]->due >= e->due)
			break;
		queue_heap_set(q, slot, q->heap[child]);
		slot = child;
	}
	queue_heap_set(q, slot, e);
}

static void queue_heap_remove(struct queue *q, struct queue_entry *e)
{
	size_t slot = e->slot;
	struct queue_entry *last = q->heap[q->heap_count--];
	e->slot = 0;
	if (last == e)
		return;
	if (slot > 1 && q->heap[slot / 2]->due > last->due)
		queue_heap_up(q, slot, last);
	else
		queue_heap_down(q, slot, last);
}

/* ---- entries ---- */

/* Makes sure that there are n spare entries, and room for all in the heap. */
static int queue_make_spare(struct queue *q, size_t n)
{
	size_t need = q->length + n + 1;
	if (need > q->heap_size) {
		size_t size = q->heap_size ? q->heap_size * 2 : 64;
		while (size < need)
			size *= 2;
		struct queue_entry **p = realloc(q->heap, size * sizeof q->heap[0]);
		if (!p)
			return -1;
		q->heap = p;
		q->heap_size = size;
	}
	while (q->spare_count < n) {
		struct queue_entry *e = calloc(1, sizeof *e);
		if (!e)
			return -1;
		e->next = q->spare;
		q->spare = e;
		q->spare_count++;
	}
	return 0;
}

static void queue_free_entry(struct queue_entry *e)
{
	if (e->kept)
		envelope_clear(e->kept);
	free(e->kept);
	free(e->name);
	free(e);
}

/* Takes a spare entry into use under an ID. NULL when there is no memory. */
static struct queue_entry *queue_new_entry(struct queue *q, const char *id)
{
	uint64_t number = spool_id_number(id);
	char *name = number ? NULL : strdup(id);
	if ((!number && !name) || queue_make_spare(q, q->reserved > 0 ? q->reserved : 1)) {
		free(name);
		return NULL;
	}
	struct queue_entry *e = q->spare;
	q->spare = e->next;
	q->spare_count--;
	*e = (struct queue_entry){.number = number, .name = name};
	e->held = q->hold && hold_has(q->hold, id);
	q->length++;
	stat_add(&stat_length, 1);
	return e;
}

void queue_entry_id(const struct queue_entry *e, char out[SPOOL_ID_MAX + 1])
{
	if (e->number)
		spool_id_text(e->number, out);
	else
		memcpy(out, e->name, strlen(e->name) + 1);
}

void queue_put_back(struct queue *q, struct queue_entry *e, int64_t ms)
{
	e->active = false;
	if (e->held && !e->finished && e->removal == QUEUE_KEEP)
		ms = QUEUE_NEVER;
	e->due = ms == QUEUE_NEVER ? QUEUE_NEVER : loop_now() + ms;
	if (e->slot)
		queue_heap_remove(q, e);
	queue_heap_up(q, ++q->heap_count, e);
	queue_wake(q);
}

void queue_hurry(struct queue *q, struct queue_entry *e)
{
	if (e->due > loop_now()) {
		e->due = loop_now();
		queue_heap_up(q, e->slot, e);
	}
	queue_wake(q);
}

void queue_gone(struct queue *q, struct queue_entry *e)
{
	char id[SPOOL_ID_MAX + 1];
	struct status st;
	queue_entry_id(e, id);
	if (e->held && hold_remove(q->hold, id, &st))
		log_error(id, "gone, but held still", LOG_S("reason", st.text));
	queue_forget(q, e);
}

void queue_forget(struct queue *q, struct queue_entry *e)
{
	if (e->slot)
		queue_heap_remove(q, e);
	queue_free_entry(e);
	q->length--;
	stat_add(&stat_length, -1);
}

int queue_expect(struct queue *q)
{
	if (queue_make_spare(q, q->reserved + 1))
		return -1;
	q->reserved++;
	return 0;
}

int queue_reserve(struct queue *q, struct status *st)
{
	if (q->length + q->reserved >= (size_t)q->conf->max_queue_items) {
		status_set(st, 452, "4.3.1", "the queue is full; try again later");
		return -1;
	}
	if (queue_expect(q)) {
		status_set(st, 452, "4.3.1", "no memory for another message; try again later");
		return -1;
	}
	return 0;
}

void queue_release(struct queue *q)
{
	q->reserved--;
	while (q->spare_count > q->reserved) {
		struct queue_entry *e = q->spare;
		q->spare = e->next;
		q->spare_count--;
		free(e);
	}
}

/* ---- arrivals ---- */

static void queue_arrived(void *arg, const char *id, int64_t created)
{
	struct queue *q = arg;
	struct queue_entry *e = queue_new_entry(q, id);
	if (!e) {
		log_error(id, "no memory to try a message; it waits on disk for a restart",
		          LOG_N("length", q->length));
		return;
	}
	e->born = loop_now();
	e->created = created;
	queue_put_back(q, e, 0);
}

/*
 * When was it born, and when is it due? Believes the clock where it can: both the message's time
 * and ours must be after this program was released, and the message neither from the future nor
 * left alone for so long that the clock is the likelier to be wrong.
 */
static void queue_found(void *arg, const struct spool_found *f)
{
	struct queue *q = arg;
	struct queue_entry *e = queue_new_entry(q, f->id);
	if (!e) {
		log_error(f->id, "no memory to try a message; it waits on disk for a restart",
		          LOG_N("length", q->length));
		q->incomplete = true;
		return;
	}
	int64_t now = queue_wall();
	int64_t latest = f->last_attempt > f->created ? f->last_attempt : f->created;
	bool believed = now >= CLOCK_RELEASE && f->created >= CLOCK_RELEASE && f->created <= now &&
	                now - latest <= CLOCK_LEAP;
	int64_t age = believed ? (now - f->created) * 1000 : 0;
	int64_t wait = 0;
	e->created = f->created;
	e->born = loop_now() - age;
	if (believed && f->last_attempt >= f->created && f->last_attempt <= now) {
		int64_t age_then = (f->last_attempt - f->created) * 1000;
		wait = queue_delay(age_then) - (now - f->last_attempt) * 1000;
	} else if (f->last_attempt) {
		wait = queue_delay(age);
	}
	queue_put_back(q, e, wait > 0 ? wait : 0);
}

static void queue_scan(void *arg)
{
	struct queue *q = arg;
	struct status st;
	int more = spool_scan(q->spool, queue_found, q, &st);
	if (more > 0) {
		loop_timer_set(&q->scan_timer, 0);
	} else if (more < 0) {
		log_error("-", "queue scan failed", LOG_S("reason", st.text));
	} else {
		log_info("-", "queue scanned", LOG_N("messages", q->length));
		queue_admin_scanned(q);
	}
}

/* ---- the pump ---- */

void queue_wake(struct queue *q)
{
	if (q->draining) {
		if (q->idle)
			loop_timer_set(&q->timer, 0);
		return;
	}
	if (q->heap_count == 0 || q->heap[1]->due == QUEUE_NEVER || q->active >= QUEUE_ACTIVE_MAX) {
		loop_timer_stop(&q->timer);
		return;
	}
	int64_t wait = q->heap[1]->due - loop_now();
	loop_timer_set(&q->timer, wait > 0 ? wait : 0);
}

/* Draining: says so when nothing is under way but what waits for a place. */
static void queue_report_idle(struct queue *q)
{
	bool busy = q->deliveries > 0 || !q->idle;
	for (const struct queue_work *w = q->works; w && !busy; w = w->next)
		busy = w->dsn != NULL;
	if (busy)
		return;
	void (*idle)(void *) = q->idle;
	q->idle = NULL;
	idle(q->idle_arg);
}

static bool queue_is_due(const struct queue *q)
{
	return q->heap_count > 0 && q->heap[1]->due <= loop_now();
}

/* Starts some of what is due; the loop goes round between one batch and the next. */
static void queue_pump(void *arg)
{
	struct queue *q = arg;
	if (q->draining) {
		queue_report_idle(q);
		return;
	}
	for (int i = 0; i < QUEUE_STEP && q->active < QUEUE_ACTIVE_MAX; i++) {
		if (!queue_is_due(q))
			break;
		struct queue_entry *e = q->heap[1];
		queue_heap_remove(q, e);
		e->active = true;
		queue_work_start(q, e);
	}
	if (!queue_is_due(q))
		queue_lanes_fill(q);
	queue_wake(q);
}

struct queue *queue_new(const struct queue_setup *setup)
{
	struct queue *q = calloc(1, sizeof *q);
	if (!q)
		return NULL;
	q->spool = setup->spool;
	q->conf = setup->conf;
	q->couriers = setup->couriers;
	q->srs = setup->srs;
	q->hold = setup->hold;
	q->waiting_last = &q->waiting;
	queue_lane_init_remote(q);
	loop_timer_init(&q->timer, queue_pump, q);
	loop_timer_init(&q->scan_timer, queue_scan, q);
	loop_timer_set(&q->scan_timer, 0);
	spool_on_commit(q->spool, queue_arrived, q);
	return q;
}

void queue_set_local(struct queue *q, const struct courier *local)
{
	q->couriers.local = local;
}

void queue_free(struct queue *q)
{
	q->draining = true;
	q->idle = NULL;
	queue_work_stop_all(q);
	loop_timer_stop(&q->timer);
	loop_timer_stop(&q->scan_timer);
	spool_on_commit(q->spool, NULL, NULL);
	for (size_t i = 1; i <= q->heap_count; i++)
		queue_free_entry(q->heap[i]);
	while (q->spare) {
		struct queue_entry *e = q->spare;
		q->spare = e->next;
		free(e);
	}
	stat_add(&stat_length, -(int64_t)q->length);
	free(q->heap);
	free(q);
}

void queue_drain(struct queue *q, void (*idle)(void *arg), void *arg)
{
	q->draining = true;
	q->idle = idle;
	q->idle_arg = arg;
	loop_timer_stop(&q->scan_timer);
	queue_wake(q);
}

/* ---- questions ---- */

size_t queue_length(const struct queue *q)
{
	return q->length;
}

size_t queue_active(const struct queue *q)
{
	return q->deliveries;
}

enum queue_route queue_route(const struct conf *conf, const struct rcpt *r)
{
	const char *at = strrchr(r->address, '@');
	if (r->type == RCPT_PIPE)
		return QUEUE_PIPE;
	if (r->type == RCPT_FORWARD)
		return QUEUE_REMOTE;
	return !at || conf_domain_find(conf, at + 1) ? QUEUE_LOCAL : QUEUE_REMOTE;
}
