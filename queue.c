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
#include "memory.h"
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

bool queue_is_too_old(const struct queue *q, const struct queue_entry *e)
{
	return queue_age(e) >= q->conf->give_up_send_after * 1000;
}

/* ---- entries ---- */

/* Takes a place that was expected into use under an ID. NULL when there is no memory. */
static struct queue_entry *queue_new_entry(struct queue *q, const char *id)
{
	struct queue_entry *e = queue_index_take(&q->index, id);
	if (!e)
		return NULL;
	e->held = q->hold && hold_has(q->hold, id);
	stat_add(&stat_length, 1);
	return e;
}

void queue_entry_id(const struct queue_entry *e, char out[SPOOL_ID_MAX + 1])
{
	if (e->ours)
		spool_id_text(e->number, out);
	else
		memcpy(out, e->name, strlen(e->name) + 1);
}

void queue_put_back(struct queue *q, struct queue_entry *e, int64_t ms)
{
	e->active = false;
	if (e->held && !e->finished && e->removal == QUEUE_KEEP)
		ms = QUEUE_NEVER;
	queue_index_put(&q->index, e, ms == QUEUE_NEVER ? QUEUE_NEVER : loop_now() + ms);
	queue_wake(q);
}

void queue_hurry(struct queue *q, struct queue_entry *e)
{
	if (e->due > loop_now())
		queue_index_put(&q->index, e, loop_now());
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
	queue_index_give(&q->index, e, q->reserved);
	stat_add(&stat_length, -1);
}

int queue_expect(struct queue *q)
{
	if (queue_index_expect(&q->index, q->reserved + 1))
		return -1;
	q->reserved++;
	return 0;
}

int queue_reserve(struct queue *q, struct status *st)
{
	if (q->index.length + q->reserved >= (size_t)q->conf->max_queue_items) {
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
	queue_index_trim(&q->index, q->reserved);
}

/* ---- arrivals ---- */

static void queue_arrived(void *arg, const char *id, int64_t created)
{
	struct queue *q = arg;
	struct queue_entry *e = queue_new_entry(q, id);
	if (!e) {
		log_error(id, "no memory to try a message; it waits on disk for a restart",
		          LOG_N("length", q->index.length));
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
	struct queue_entry *e = NULL;
	if (!queue_index_expect(&q->index, q->reserved + 1))
		e = queue_new_entry(q, f->id);
	if (!e) {
		log_error(f->id, "no memory to try a message; it waits on disk for a restart",
		          LOG_N("length", q->index.length));
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
	queue_put_back(q, e, wait > 0 && !q->flushed ? wait : 0);
}

/* As each of them is searched in the whole queue, one name a turn. */
static void queue_scan_held(void *arg)
{
	struct queue *q = arg;
	if (queue_admin_scanned(q))
		loop_timer_set(&q->scan_timer, 0);
}

static void queue_scan(void *arg)
{
	struct queue *q = arg;
	struct status st;
	int more = spool_scan(q->spool, queue_found, q, &st);
	if (more > 0) {
		loop_timer_set(&q->scan_timer, more > 1 ? JOURNAL_RETRY_MS : 0);
	} else if (more < 0) {
		log_error("-", "queue scan failed", LOG_S("reason", st.text));
	} else {
		memory_started();
		log_info("-", "queue scanned", LOG_N("messages", q->index.length));
		loop_timer_init(&q->scan_timer, queue_scan_held, q);
		queue_scan_held(q);
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
	if (q->index.heap_count == 0 || q->index.heap[1]->due == QUEUE_NEVER ||
	    q->active >= QUEUE_ACTIVE_MAX) {
		loop_timer_stop(&q->timer);
		return;
	}
	int64_t wait = q->index.heap[1]->due - loop_now();
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
	return q->index.heap_count > 0 && q->index.heap[1]->due <= loop_now();
}

/* Starts some of what is due; the loop goes round between one batch and the next. */
static void queue_pump(void *arg)
{
	struct queue *q = arg;
	int64_t begun = loop_now_us();
	if (q->draining) {
		queue_report_idle(q);
		return;
	}
	for (int i = 0; i < QUEUE_STEP && q->active < QUEUE_ACTIVE_MAX && queue_is_due(q); i++) {
		struct queue_entry *e = q->index.heap[1];
		queue_index_out(&q->index, e);
		e->active = true;
		queue_work_start(q, e);
		loop_refresh();
		if (loop_now_us() - begun >= QUEUE_STEP_US)
			break;
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
	loop_timer_stop(&q->hurry);
	spool_on_commit(q->spool, NULL, NULL);
	stat_add(&stat_length, -(int64_t)q->index.length);
	queue_index_clear(&q->index);
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
	return q->index.length;
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
