/*
 * queue_work: one round of one message: its recipients are sorted into groups that go the same way,
 * each group becomes a delivery of a courier, and when all are done the message is removed, put
 * back, or bounced.
 *
 * Limits: queue_lane.c. A group that finds its lane full waits in it; a message all of whose groups
 * would wait is parked there.
 *
 * What the operator holds back is left out of the round: a recipient when groups are made, and once
 * more when a group that waited begins. A message with nothing else to do then waits for the
 * release. Age does not count while anything is held, and a release is followed by a round before
 * it counts again.
 *
 * Nothing is deleted before its successor is durable: verdicts are recorded when a delivery is
 * done, a notification is committed before the original goes. A message whose last open recipients
 * were served needs no record: its removal is one.
 */
#define LOG_KIND LOG_QUEUE

#include "queue_work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "log.h"
#include "maillog.h"
#include "memory.h"
#include "queue_dest.h"
#include "queue_sender.h"
#include "stat.h"

STAT_VECTOR(stat_rcpt, "queue/rcpt", "state", "What became of attempts to deliver, by recipient", 3,
            "deferred sent failed");
STAT_VECTOR(stat_attempts, "chasquid/queue/deliverAttempts", "recipient_type",
            "Attempts to deliver, by recipient", 4, "pipe forward email:local email:remote");
STAT_COUNTER(stat_bounced, "queue/bounced",
             "Messages that ended with a notification to the sender");
STAT_COUNTER(stat_deliveries, "queue/deliveries",
             "Deliveries begun, each of the recipients of a message that go the same way");
STAT_GAUGE(stat_active, "queue/active_deliveries", "Deliveries under way");
STAT_HISTOGRAM(stat_delay, "queue/delay_seconds",
               "Time from acceptance to the final verdict on a recipient, in s",
               QUEUE_DELAY_BOUNDS);

static void queue_work_round_done(struct queue_work *w);

/* ---- groups ---- */

static void queue_group_free(struct queue_group *g)
{
	free(g->rcpts);
	free(g->told);
	free(g->from);
	free(g);
}

static bool queue_same_status(const struct rcpt *a, const struct rcpt *b)
{
	if (a->state != b->state || !a->last || !b->last || a->last->code != b->last->code)
		return false;
	if (memcmp(a->last->enh, b->last->enh, sizeof a->last->enh) != 0 ||
	    strcmp(a->last->text, b->last->text) != 0)
		return false;
	return strcmp(a->remote ? a->remote : "", b->remote ? b->remote : "") == 0;
}

/* True when every recipient of the message is served or was before: then its removal says it all.
 */
static bool queue_is_all_sent(const struct envelope *env)
{
	for (size_t i = 0; i < env->rcpt_count; i++)
		if (env->rcpt[i].state != RCPT_SENT)
			return false;
	return true;
}

/* Writes what became of the group's recipients, equal verdicts in one record. */
static void queue_group_record(struct queue_group *g)
{
	struct queue_work *w = g->work;
	struct status st;
	for (size_t i = 0; i < g->delivery.count; i++) {
		size_t same[64];
		size_t n = 0;
		if (!g->told[i])
			continue;
		const struct rcpt *r = &w->env.rcpt[g->rcpts[i]];
		for (size_t k = i; k < g->delivery.count && n < sizeof same / sizeof *same; k++) {
			if (!g->told[k] || !queue_same_status(r, &w->env.rcpt[g->rcpts[k]]))
				continue;
			same[n++] = g->rcpts[k];
			g->told[k] = false;
		}
		if (n == 0)
			continue;
		struct status what = *r->last;
		char *remote = r->remote ? strdup(r->remote) : NULL;
		if (spool_attempt(w->q->spool, &w->env, same, n, r->state, &what, remote,
		                  r->state != RCPT_PENDING, &st)) {
			log_error(w->env.id, "attempt not recorded", LOG_S("reason", st.text));
			w->unsaved = true;
		}
		free(remote);
	}
}

/* Which of the group's recipients has this index in the envelope? They are in ascending order. */
static size_t queue_group_find(const struct queue_group *g, size_t rcpt)
{
	size_t low = 0;
	size_t high = g->delivery.count - 1;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (g->rcpts[middle] < rcpt)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* What the group's destination is called for people. */
static const char *queue_dest_name(const struct queue_group *g)
{
	const struct conf_smarthosts *hosts = &g->work->q->conf->smarthosts;
	const char *key = g->lane->key;
	if (strcmp(key, g->work->smarthost) == 0 && g->work->smarthost_index < hosts->count)
		return hosts->item[g->work->smarthost_index].host;
	return key[0] == '/' ? key + 1 : key;
}

static void queue_verdict(struct delivery *d, size_t rcpt, const struct status *st,
                          const char *remote)
{
	struct queue_group *g = d->arg;
	struct envelope *env = &g->work->env;
	struct rcpt *r = &env->rcpt[rcpt];
	size_t i = queue_group_find(g, rcpt);
	static const char *const words[] = {"deferred", "sent", "failed"};
	enum rcpt_state state = RCPT_PENDING;
	if (status_class(st) == STATUS_DONE)
		state = RCPT_SENT;
	else if (status_class(st) == STATUS_PERMANENT)
		state = RCPT_FAILED;
	stat_add_at(&stat_rcpt, state, 1);
	if (state != RCPT_PENDING)
		stat_observe(&stat_delay, queue_age(g->work->entry) / 1000);
	queue_dest_note(queue_dest_name(g), state, st, remote, queue_wall());
	g->told[i] = envelope_set_verdict(r, state, st, remote) == 0;
	if (!g->told[i])
		g->work->unsaved = true;
	char text[STATUS_PRINT_MAX];
	status_print(st, text, sizeof text);
	log_info(env->id, words[state], LOG_S("from", env->from),
	         LOG_S("to", r->type == RCPT_PIPE ? r->original : r->address),
	         LOG_S("original", r->original), LOG_S("by", g->courier->name),
	         LOG_S("remote", remote), LOG_S("status", text));
	maillog_attempt(env->id, env->from, r->type == RCPT_PIPE ? r->original : r->address, st);
}

/* Counts a delivery that begins (1) or is over (-1). */
static void queue_count_running(struct queue_group *g, int change)
{
	g->running = change > 0;
	g->work->q->deliveries += (size_t)change;
	stat_add(&stat_active, change);
	for (struct queue_lane *l = g->lane; l; l = l->all)
		l->active += (unsigned)change;
}

static void queue_count_attempts(const struct queue_group *g)
{
	stat_add(&stat_deliveries, 1);
	for (size_t i = 0; i < g->delivery.count; i++) {
		const struct rcpt *r = &g->work->env.rcpt[g->rcpts[i]];
		bool local = g->courier == g->work->q->couriers.local;
		/* In the order of the labels. */
		size_t kind = r->type == RCPT_PIPE      ? 0
		              : r->type == RCPT_FORWARD ? 1
		              : local                   ? 2
		                                        : 3;
		stat_add_at(&stat_attempts, kind, 1);
	}
}

/* What those were told whom the delivery has not reached; NULL when it has reached its place. What
 * others of it were told before the connection was lost is about them alone. */
static const struct status *queue_group_unreached(const struct queue_group *g)
{
	for (size_t i = 0; g->delivery.unreached && i < g->delivery.count; i++) {
		const struct rcpt *r = &g->work->env.rcpt[g->rcpts[i]];
		if (r->state == RCPT_PENDING && r->last)
			return r->last;
	}
	return NULL;
}

/* The delivery is over: frees its place, and ends the round when it was the last. */
static void queue_group_done(struct delivery *d)
{
	struct queue_group *g = d->arg;
	struct queue_work *w = g->work;
	struct queue *q = w->q;
	struct queue_lane *lane = g->lane;
	w->open--;
	if (w->open > 0 || !queue_is_all_sent(&w->env))
		queue_group_record(g);
	if (g->running) {
		queue_count_running(g, -1);
		queue_lane_ended(q, lane, queue_group_unreached(g), g->cut);
	}
	queue_lane_leave(q, lane);
	g->lane = NULL;
	struct queue_group *waiting = q->waiting;
	if (waiting && !q->draining) {
		q->waiting = waiting->wait_next;
		if (!q->waiting)
			q->waiting_last = &q->waiting;
		queue_group_start(waiting);
	}
	if (w->open == 0)
		queue_work_round_done(w);
	else
		queue_wake(q);
}

/* The courier could not even begin. Told by a timer: a chain of refusals must not recurse. */
static void queue_group_refused(void *arg)
{
	struct queue_group *g = arg;
	for (size_t i = 0; i < g->delivery.count; i++)
		queue_verdict(&g->delivery, g->rcpts[i], &g->why, NULL);
	queue_group_done(&g->delivery);
}

void queue_group_refuse(struct queue_group *g, const struct status *why)
{
	g->why = *why;
	g->refused = true;
	loop_timer_set(&g->timer, 0);
}

void queue_group_cut(struct queue_group *g)
{
	struct queue_work *w = g->work;
	struct status why;
	status_set(&why, 451, "4.4.1", "no answer so far, and mail for others waits");
	g->courier->stop(g->courier->self, &g->delivery);
	g->delivery.unreached = true;
	g->cut = true;
	for (size_t i = 0; i < g->delivery.count; i++)
		if (!g->told[i] && w->env.rcpt[g->rcpts[i]].state == RCPT_PENDING)
			queue_verdict(&g->delivery, g->rcpts[i], &why, NULL);
	queue_group_done(&g->delivery);
}

/* May no attempt be made for the recipient now? */
static bool queue_is_held(const struct queue_work *w, const struct rcpt *r)
{
	const struct hold *hold = w->q->hold;
	const char *address = r->type == RCPT_PIPE ? r->original : r->address;
	const char *at = address ? strrchr(address, '@') : NULL;
	if (w->entry->held || w->entry->removal != QUEUE_KEEP)
		return true;
	return hold && at && hold_has(hold, at + 1);
}

/* Leaves out the recipients that are held back by now. */
static void queue_group_drop_held(struct queue_group *g)
{
	struct queue_work *w = g->work;
	size_t count = 0;
	for (size_t i = 0; i < g->delivery.count; i++) {
		if (queue_is_held(w, &w->env.rcpt[g->rcpts[i]]))
			w->skipped = true;
		else
			g->rcpts[count++] = g->rcpts[i];
	}
	g->delivery.count = count;
}

/* Starts a group, or lets it wait where there is no place. */
void queue_group_start(struct queue_group *g)
{
	struct queue *q = g->work->q;
	struct queue_group ***last = NULL;
	struct queue_lane *full = queue_lane_full(g->lane);
	queue_group_drop_held(g);
	if (g->delivery.count == 0) {
		g->refused = true; /* nobody is there to be told */
		loop_timer_set(&g->timer, 0);
		return;
	}
	if (full)
		last = &full->last;
	else if (q->deliveries >= QUEUE_DELIVERIES_MAX || q->draining)
		last = &q->waiting_last;
	if (last) {
		g->wait_next = NULL;
		**last = g;
		*last = &g->wait_next;
		queue_lane_hurry(q);
		return;
	}
	queue_count_running(g, 1);
	queue_count_attempts(g);
	queue_sender_choose(g);
	g->refused = g->courier->start(g->courier->self, &g->delivery, &g->why) != 0;
	if (g->refused)
		loop_timer_set(&g->timer, 0);
}

void queue_work_recheck(struct queue_work *w)
{
	for (struct queue_group *g = w->groups; g; g = g->next) {
		bool all = g->lane && !g->running;
		for (size_t i = 0; i < g->delivery.count && all; i++)
			all = queue_is_held(w, &w->env.rcpt[g->rcpts[i]]);
		if (all && queue_lane_unwait(w->q, g))
			queue_group_start(g);
	}
}

/* ---- sorting recipients into groups ---- */

/* Remote recipients of a message for a smarthost share its lane, whatever their domain. */
static void queue_work_find_smarthost(struct queue_work *w, const struct addr *from)
{
	const struct conf *conf = w->q->conf;
	size_t i = conf_smarthost_find(&conf->smarthosts, from, 0);
	w->smarthost_index = i;
	if (i < conf->smarthosts.count)
		snprintf(w->smarthost, sizeof w->smarthost, "/smarthost%u", (unsigned)i);
}

/* What the lane of a recipient is called, and its courier. */
static const struct courier *queue_way(const struct queue_work *w, const struct rcpt *r,
                                       const char **key)
{
	const struct queue *q = w->q;
	const char *at = strrchr(r->address, '@');
	switch (queue_route(q->conf, r)) {
	case QUEUE_LOCAL:
		*key = "/local";
		return q->couriers.local;
	case QUEUE_PIPE:
		*key = "/pipe";
		return q->couriers.pipe;
	case QUEUE_REMOTE:
		break;
	}
	/* In a file that is not ours a name may be longer than any domain's. */
	*key = at && strlen(at + 1) <= ADDR_DOMAIN_MAX ? at + 1 : "";
	if (w->smarthost[0] && !(r->type == RCPT_FORWARD && r->via))
		*key = w->smarthost;
	return q->couriers.remote;
}

/* Do they go out with the same sender? */
static bool queue_same_sender(const struct queue_work *w, const struct rcpt *a,
                              const struct rcpt *b)
{
	const char *x = queue_sender_way_back(w, a);
	const char *y = queue_sender_way_back(w, b);
	return x && y ? strcmp(x, y) == 0 : x == y;
}

/* Does the recipient go with this group? */
static bool queue_goes_with(const struct queue_group *g, const struct courier *courier,
                            const char *key, const struct rcpt *r)
{
	const struct rcpt *other = &g->work->env.rcpt[g->rcpts[0]];
	if (courier != g->courier || !courier->batch)
		return false;
	if (strcmp(g->lane->key, key) != 0)
		return false;
	if (courier == g->work->q->couriers.remote && g->delivery.count >= REMOTE_RCPTS_MAX)
		return false;
	return strcmp(r->via ? r->via : "", other->via ? other->via : "") == 0 &&
	       queue_same_sender(g->work, r, other);
}

/* A group without recipients yet. NULL when there is no memory. */
static struct queue_group *queue_group_new(struct queue_work *w, const struct courier *courier,
                                           const char *key)
{
	struct queue *q = w->q;
	struct queue_group *g = calloc(1, sizeof *g);
	size_t most = courier->batch ? w->env.rcpt_count : 1;
	if (!g)
		return NULL;
	g->rcpts = calloc(most, sizeof *g->rcpts);
	g->told = calloc(most, sizeof *g->told);
	bool remote = courier == q->couriers.remote;
	if (g->rcpts && g->told)
		g->lane = queue_lane_get(q, key, courier->parallel, remote);
	if (!g->lane) {
		queue_group_free(g);
		return NULL;
	}
	g->work = w;
	g->courier = courier;
	g->lane->groups++;
	loop_timer_init(&g->timer, queue_group_refused, g);
	g->delivery = (struct delivery){.spool = q->spool,
	                                .env = &w->env,
	                                .rcpts = g->rcpts,
	                                .from = w->env.from,
	                                .verdict = queue_verdict,
	                                .done = queue_group_done,
	                                .arg = g};
	g->delivery.domain = remote ? g->lane->key : NULL;
	g->next = w->groups;
	w->groups = g;
	w->open++;
	return g;
}

/* Adds recipient i to a group, a new one when none fits. Returns 0, or -1 without memory. */
static int queue_sort_rcpt(struct queue_work *w, size_t i)
{
	struct rcpt *r = &w->env.rcpt[i];
	const char *key;
	const struct courier *courier = queue_way(w, r, &key);
	struct queue_group *g = w->groups;
	while (g && !queue_goes_with(g, courier, key, r))
		g = g->next;
	if (!g && !(g = queue_group_new(w, courier, key)))
		return -1;
	g->rcpts[g->delivery.count++] = i;
	return 0;
}

/* ---- works ---- */

static void queue_work_free(struct queue_work *w)
{
	struct queue *q = w->q;
	struct queue_work **p = &q->works;
	while (w->groups) {
		struct queue_group *g = w->groups;
		w->groups = g->next;
		queue_group_free(g);
	}
	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	q->active--;
	envelope_clear(&w->env);
	free(w);
	memory_freed();
	queue_wake(q);
}

/* What is not on disk stays in memory, with the entry. */
static void queue_work_keep(struct queue_work *w)
{
	struct envelope *kept = w->unsaved ? malloc(sizeof *kept) : NULL;
	if (!kept)
		return;
	*kept = w->env;
	w->entry->kept = kept;
	w->env = (struct envelope){.from = NULL};
}

/* Puts the message back, to be tried in ms. */
static void queue_work_put_back(struct queue_work *w, int64_t ms)
{
	struct queue *q = w->q;
	struct queue_entry *e = w->entry;
	queue_work_keep(w);
	queue_work_free(w);
	queue_put_back(q, e, ms);
}

/* Puts the message back for a later try. */
static void queue_work_later(struct queue_work *w)
{
	int64_t wait = queue_delay(queue_age(w->entry)) + queue_jitter();
	log_info(w->env.id, "waits", LOG_N("seconds", wait / 1000));
	maillog_waits(w->env.id, w->env.from, wait / 1000);
	queue_work_put_back(w, wait);
}

/* The message's work is done. */
static void queue_work_remove(struct queue_work *w)
{
	struct queue *q = w->q;
	struct queue_entry *e = w->entry;
	struct status st;
	if (spool_remove(q->spool, w->env.id, &st)) {
		/* It must not be delivered again: this run of the program remembers. */
		log_error(w->env.id, "not removed", LOG_S("reason", st.text));
		e->finished = true;
		queue_work_free(w);
		queue_put_back(q, e, queue_delay(queue_age(e)));
		return;
	}
	log_info(w->env.id, "removed", LOG_S("from", w->env.from));
	maillog_done(w->env.id, w->env.from);
	queue_work_free(w);
	queue_gone(q, e);
}

/* Those that were never refused, only too old at last. */
static void queue_observe_given_up(const struct queue_work *w)
{
	for (size_t i = 0; i < w->env.rcpt_count; i++)
		if (w->env.rcpt[i].state == RCPT_PENDING)
			stat_observe(&stat_delay, queue_age(w->entry) / 1000);
}

static void queue_bounced(void *arg, const struct status *st)
{
	struct queue_work *w = arg;
	w->dsn = NULL;
	queue_release(w->q);
	if (status_class(st) == STATUS_DONE) {
		stat_add(&stat_bounced, 1);
		queue_observe_given_up(w);
		queue_work_remove(w);
		return;
	}
	log_error(w->env.id, "notification not written; the message stays",
	          LOG_S("reason", st->text));
	queue_work_later(w);
}

static void queue_work_bounce(struct queue_work *w)
{
	struct status st;
	if (envelope_is_bounce(&w->env)) {
		log_error(w->env.id, "dropped: a notification that cannot be delivered",
		          LOG_S("to", w->env.rcpt[0].original));
		queue_work_remove(w);
		return;
	}
	if (queue_expect(w->q)) {
		log_error(w->env.id, "no memory for a notification; the message stays");
		queue_work_later(w);
		return;
	}
	w->dsn = dsn_start(w->q->conf, w->q->spool, &w->env, queue_wall(), queue_bounced, w, &st);
	if (!w->dsn)
		queue_bounced(w, &st);
}

/* The operator wants the message away: what is open fails, and that is written down before a
 * notification says it. */
static void queue_work_take_away(struct queue_work *w)
{
	struct status why;
	struct status st;
	size_t open[SPOOL_RCPTS_MAX];
	size_t count = 0;
	size_t failed = 0;
	bool bounce = w->entry->removal == QUEUE_BOUNCE && !envelope_is_bounce(&w->env);
	for (size_t i = 0; i < w->env.rcpt_count; i++) {
		failed += w->env.rcpt[i].state == RCPT_FAILED;
		if (w->env.rcpt[i].state == RCPT_PENDING)
			open[count++] = i;
	}
	log_info(w->env.id, "taken away by the operator", LOG_N("open", count),
	         LOG_S("bounce", bounce ? "yes" : "no"));
	status_set(&why, 554, "5.7.0", "removed from the queue by the operator");
	if (bounce && count > 0 &&
	    spool_attempt(w->q->spool, &w->env, open, count, RCPT_FAILED, &why, NULL, true, &st)) {
		log_error(w->env.id, "removal not recorded; the message stays",
		          LOG_S("reason", st.text));
		while (count > 0)
			w->env.rcpt[open[--count]].state = RCPT_PENDING;
		queue_work_later(w);
		return;
	}
	stat_add_at(&stat_rcpt, RCPT_FAILED, count);
	for (size_t i = 0; i < count; i++)
		maillog_attempt(w->env.id, w->env.from, w->env.rcpt[open[i]].original, &why);
	if (bounce && count + failed > 0)
		queue_work_bounce(w);
	else
		queue_work_remove(w);
}

/* All deliveries of the round are done, or there was nothing to deliver. */
static void queue_work_round_done(struct queue_work *w)
{
	size_t pending = 0;
	size_t failed = 0;
	size_t held = 0;
	if (w->entry->removal != QUEUE_KEEP) {
		queue_work_take_away(w);
		return;
	}
	for (size_t i = 0; i < w->env.rcpt_count; i++) {
		const struct rcpt *r = &w->env.rcpt[i];
		pending += r->state == RCPT_PENDING;
		failed += r->state == RCPT_FAILED;
		held += r->state == RCPT_PENDING && queue_is_held(w, r);
	}
	if (held > 0 && held == pending) {
		log_info(w->env.id, "held back", LOG_N("recipients", held));
		queue_work_put_back(w, QUEUE_NEVER);
	} else if (w->released && pending > 0) {
		queue_work_put_back(w, 0);
	} else if (pending > 0 && (held > 0 || !queue_is_too_old(w->q, w->entry)))
		queue_work_later(w);
	else if (pending + failed > 0)
		queue_work_bounce(w);
	else
		queue_work_remove(w);
}

/* A full lane when all groups would have to wait; NULL when at least one can start. */
static struct queue_lane *queue_work_blocked(const struct queue_work *w)
{
	const struct queue_group *g = w->groups;
	while (g && queue_lane_full(g->lane))
		g = g->next;
	return g || !w->groups ? NULL : queue_lane_full(w->groups->lane);
}

/* The time of a message is up, and all it waits for are places that fail: they have answered it. */
static bool queue_work_put_off(struct queue_work *w)
{
	struct queue_group *g = w->groups;
	if (!queue_is_too_old(w->q, w->entry))
		return false;
	while (g && g->lane->why && !g->lane->cut)
		g = g->next;
	if (g)
		return false;
	for (g = w->groups; g; g = g->next)
		queue_group_refuse(g, g->lane->why);
	return true;
}

/* Gives the message back before any of its groups was started. */
static void queue_work_undo(struct queue_work *w)
{
	for (struct queue_group *g = w->groups; g; g = g->next)
		queue_lane_leave(w->q, g->lane);
	queue_work_keep(w);
	spool_unload(w->q->spool, &w->env);
	queue_work_free(w);
}

/* There is no message any more. Is its sender owed a notification, since a recipient failed for
 * good (as all do that meet a damaged file)? Then what is open fails, too. */
static bool queue_work_fail(struct queue_work *w)
{
	struct status why;
	size_t failed = 0;
	for (size_t i = 0; i < w->env.rcpt_count; i++)
		failed += w->env.rcpt[i].state == RCPT_FAILED;
	status_set(&why, 554, "5.3.0", "the stored message is damaged");
	for (size_t i = 0; failed > 0 && i < w->env.rcpt_count; i++) {
		if (w->env.rcpt[i].state != RCPT_PENDING)
			continue;
		(void)envelope_set_verdict(&w->env.rcpt[i], RCPT_FAILED, &why, NULL);
		stat_add_at(&stat_rcpt, RCPT_FAILED, 1);
	}
	return failed > 0;
}

/* Gets the envelope: what is kept in memory is newer than what the disk has, and enough to tell the
 * sender when the file is gone. */
static int queue_work_load(struct queue_work *w, struct status *st)
{
	struct queue_entry *e = w->entry;
	char id[SPOOL_ID_MAX + 1];
	queue_entry_id(e, id);
	int rc = spool_load(w->q->spool, id, &w->env, st);
	if (!e->kept)
		return rc;
	envelope_clear(&w->env);
	w->env = *e->kept;
	free(e->kept);
	e->kept = NULL;
	w->unsaved = true;
	return rc && status_class(st) == STATUS_PERMANENT && !queue_work_fail(w) ? -1 : 0;
}

static void queue_work_begin(struct queue_work *w)
{
	struct queue *q = w->q;
	struct queue_entry *e = w->entry;
	struct addr from;
	int rc = 0;
	if (e->removal != QUEUE_KEEP) {
		queue_work_take_away(w);
		return;
	}
	if (addr_parse(slice_of(w->env.from), &from) == 0) {
		queue_sender_begin(w, &from);
		queue_work_find_smarthost(w, &from);
	}
	for (size_t i = 0; i < w->env.rcpt_count && !rc; i++) {
		if (w->env.rcpt[i].state != RCPT_PENDING)
			continue;
		if (queue_is_held(w, &w->env.rcpt[i]))
			w->skipped = true;
		else
			rc = queue_sort_rcpt(w, i);
	}
	struct queue_lane *full = rc ? NULL : queue_work_blocked(w);
	if (full && queue_work_put_off(w))
		return;
	if (rc || full) {
		if (full)
			queue_lane_park(q, full, e); /* first: a lane with somebody parked stays */
		queue_work_undo(w);
		if (!full)
			queue_put_back(q, e, queue_delay(0));
		return;
	}
	if (w->open == 0) {
		queue_work_round_done(w);
		return;
	}
	for (struct queue_group *g = w->groups; g; g = g->next)
		queue_group_start(g);
}

void queue_work_start(struct queue *q, struct queue_entry *e)
{
	struct status st;
	char id[SPOOL_ID_MAX + 1];
	struct queue_work *w = calloc(1, sizeof *w);
	if (!w) {
		queue_put_back(q, e, queue_delay(0));
		return;
	}
	w->q = q;
	w->entry = e;
	w->next = q->works;
	q->works = w;
	q->active++;
	if (e->finished) {
		queue_entry_id(e, w->env.id);
		queue_work_remove(w);
		return;
	}
	if (queue_work_load(w, &st)) {
		bool gone = status_class(&st) == STATUS_PERMANENT;
		queue_entry_id(e, id);
		log_error(id, gone ? "forgotten" : "not read", LOG_S("reason", st.text));
		queue_work_free(w);
		if (gone)
			queue_gone(q, e);
		else
			queue_put_back(q, e, queue_delay(queue_age(e)));
		return;
	}
	queue_work_begin(w);
}

/* ---- the end ---- */

static void queue_work_stop(struct queue_work *w)
{
	struct queue *q = w->q;
	struct queue_entry *e = w->entry;
	if (w->dsn) {
		dsn_cancel(w->dsn);
		queue_release(q);
	}
	for (struct queue_group *g = w->groups; g; g = g->next) {
		loop_timer_stop(&g->timer);
		if (!g->running)
			continue;
		if (!g->refused)
			g->courier->stop(g->courier->self, &g->delivery);
		queue_group_record(g);
		queue_count_running(g, -1);
	}
	queue_work_free(w);
	queue_forget(q, e);
}

void queue_work_stop_all(struct queue *q)
{
	struct queue_work *next;
	for (struct queue_work *w = q->works; w; w = next) {
		next = w->next;
		queue_work_stop(w);
	}
	q->waiting = NULL;
	q->waiting_last = &q->waiting;
	queue_lanes_clear(q);
}
