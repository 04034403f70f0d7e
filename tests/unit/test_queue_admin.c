/* queue_admin: hold, release, remove, flush and find, whatever a message is doing.
 * link: fake_disk_aio.c
 */
#include "queue_help.h"

#include "queue_dest.h"
#include "queue_int.h"

/* A queue that gives nothing up. */
static bool disk_is_read_only;

int unlinkat(int dir_fd, const char *path, int flags)
{
	if (disk_is_read_only && strncmp(path, "m:", 2) == 0) {
		errno = EROFS;
		return -1;
	}
	return (int)syscall(SYS_unlinkat, dir_fd, path, flags);
}

static int admin_set_up(void **state)
{
	disk_is_read_only = false;
	queue_dest_clear();
	return set_up(state);
}

static int admin_tear_down(void **state)
{
	disk_is_read_only = false;
	return tear_down(state);
}

static void hold(struct world *w, const char *what)
{
	struct status st;
	assert_int_equal(queue_hold(w->queue, what, &st), 0);
}

static void release(struct world *w, const char *what)
{
	struct status st;
	assert_int_equal(queue_release_hold(w->queue, what, &st), 0);
}

static void take_away(struct world *w, const char *id, bool bounce)
{
	struct status st;
	assert_int_equal(queue_remove(w->queue, id, bounce, &st), 0);
}

static struct queue_item item_of(const struct world *w, const char *id)
{
	struct queue_item item;
	assert_int_equal(queue_find(w->queue, id, &item), 0);
	assert_string_equal(item.id, id);
	return item;
}

static size_t runs_for(const char *rcpt)
{
	size_t n = 0;
	for (size_t i = 0; i < run_count; i++)
		n += strcmp(runs[i].rcpt, rcpt) == 0;
	return n;
}

/* The queue sleeps: nothing is due, ever. */
static void assert_asleep(const struct world *w)
{
	turns(5);
	assert_false(loop_timer_is_set(&w->queue->timer));
}

/* A notification is on its way to this sender; it is served. */
static void assert_bounced(const char *sender)
{
	assert_int_equal(runs_for(sender), 1);
	assert_string_equal(run_for(sender)->from, "<>");
	answer_run(run_for(sender), 250, NULL);
	turns(5);
}

/* ---- hold ---- */

static void test_hold_waiting(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	struct status st;
	answer = "451";
	put(w, "a@far.test", "u@here.test", id);
	turns(5);
	assert_int_equal(run_count, 1);
	hold(w, id);
	hold(w, id); /* once more is no harm */
	assert_asleep(w);
	pass(30 * HOUR);
	assert_int_equal(run_count, 1);
	assert_true(item_of(w, id).held);
	assert_int_equal(item_of(w, id).next, 0);
	assert_string_equal(queue_held_nth(w->queue, 0), id);
	assert_null(queue_held_nth(w->queue, 1));
	assert_int_equal(queue_flush(w->queue, NULL), 0);
	assert_int_equal(queue_flush(w->queue, id), 0);
	turns(5);
	assert_int_equal(run_count, 1);
	/* One real attempt comes before it is given up. */
	answer = NULL;
	release(w, id);
	turns(5);
	assert_int_equal(run_count, 2);
	assert_false(item_of(w, id).held);
	assert_int_equal(queue_release_hold(w->queue, id, &st), -1);
	assert_int_equal(st.code, 550);
	answer_run(&runs[1], 451, NULL);
	turns(50);
	assert_false(on_disk(w, id));
	assert_bounced("a@far.test");
}

static void test_hold_active(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	put(w, "a@far.test", "u@here.test", id);
	hold(w, id);
	assert_int_equal(open_runs(), 1);
	answer_run(&runs[0], 451, NULL);
	pass(2 * HOUR);
	assert_int_equal(run_count, 1);
	release(w, id);
	turns(5);
	assert_int_equal(run_count, 2);
	/* One that succeeds is gone, and so is what was said of it. */
	hold(w, id);
	answer_run(&runs[1], 250, NULL);
	turns(5);
	assert_int_equal(queue_length(w->queue), 0);
	assert_null(queue_held_nth(w->queue, 0));
}

static void test_hold_parked(void **state)
{
	struct world *w = *state;
	char id[6][SPOOL_ID_MAX + 1];
	for (int i = 0; i < 6; i++)
		put(w, "a@here.test", "u@dead.test", id[i]);
	assert_int_equal(open_runs(), 3);
	hold(w, id[5]);
	hold(w, id[3]);
	put(w, "a@here.test", "u@dead.test", NULL); /* parked behind them */
	for (size_t i = 0; i < 5; i++) {
		answer_run(&runs[i], 250, NULL);
		turns(10);
	}
	assert_int_equal(run_count, 5);
	assert_int_equal(queue_length(w->queue), 2);
	assert_asleep(w);
	release(w, id[5]);
	turns(5);
	assert_int_equal(run_count, 6);
	assert_int_equal(open_runs(), 1);
}

/* Messages parked behind one that is held when its turn has come are not forgotten. */
static void test_hold_does_not_block_the_lane(void **state)
{
	struct world *w = *state;
	char id[9][SPOOL_ID_MAX + 1];
	for (int i = 0; i < 9; i++)
		put(w, "a@here.test", "u@dead.test", id[i]);
	for (size_t i = 0; i < 3; i++)
		answer_run(&runs[i], 250, NULL);
	for (size_t i = 3; i < 6; i++)
		hold(w, id[i]);
	turns(20);
	assert_int_equal(run_count, 6);
	assert_int_equal(open_runs(), 3);
	/* Nor are they behind a domain. */
	hold(w, "dead.test");
	answer_run(&runs[3], 451, NULL);
	answer_run(&runs[4], 250, NULL);
	answer_run(&runs[5], 250, NULL);
	assert_asleep(w);
	assert_int_equal(queue_length(w->queue), 4);
	release(w, "dead.test");
	turns(20);
	assert_int_equal(run_count, 7);
}

/* A delivery that has not begun does not begin. */
static void test_hold_waiting_group(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	for (int i = 0; i < 3; i++)
		put(w, "a@here.test", "u@dead.test", NULL);
	put(w, "a@here.test", "b@dead.test c@live.test", id);
	assert_int_equal(run_count, 4);
	hold(w, id);
	turns(5);
	assert_true(item_of(w, id).active);
	answer_run(run_for("c@live.test"), 250, NULL);
	turns(5);
	assert_false(item_of(w, id).active);
	for (size_t i = 0; i < 3; i++)
		answer_run(&runs[i], 250, NULL);
	turns(5);
	assert_int_equal(queue_length(w->queue), 1);
	assert_int_equal(run_count, 4);
	release(w, id);
	turns(5);
	assert_int_equal(runs_for("b@dead.test"), 1);
	assert_int_equal(runs_for("c@live.test"), 1);
}

static void test_hold_domain(void **state)
{
	struct world *w = *state;
	struct envelope env;
	struct status st;
	char id[SPOOL_ID_MAX + 1];
	hold(w, "far.test");
	hold(w, "here.test");
	put(w, "a@away.test", "x@far.test y@other.test u@here.test |/bin/x v@second.test", id);
	assert_int_equal(run_count, 2);
	answer_run(run_for("y@other.test"), 250, NULL);
	answer_run(run_for("v@second.test"), 250, NULL);
	assert_asleep(w);
	assert_int_equal(spool_load(w->spool, id, &env, &st), 0);
	for (size_t i = 0; i < env.rcpt_count; i++)
		assert_int_equal(env.rcpt[i].last != NULL, i == 1 || i == 4);
	envelope_clear(&env);
	pass(30 * HOUR);
	assert_int_equal(run_count, 2);
	assert_false(item_of(w, id).held);
	assert_int_equal(item_of(w, id).next, 0);
	assert_int_equal(queue_flush(w->queue, NULL), 0);
	/* While one is held, none is given up. */
	release(w, "far.test");
	turns(5);
	assert_int_equal(run_count, 3);
	answer_run(run_for("x@far.test"), 451, NULL);
	turns(20);
	assert_true(on_disk(w, id));
	assert_true(item_of(w, id).next > wall_s);
	answer = "250";
	pass(25 * MINUTE);
	assert_int_equal(runs_for("x@far.test"), 2);
	release(w, "here.test");
	turns(10);
	assert_int_equal(runs_for("/bin/x"), 1);
	assert_int_equal(runs_for("u@here.test"), 1);
	assert_int_equal(queue_length(w->queue), 0);
}

/* What is released while others of the message are served gets its attempt before age counts. */
static void test_release_in_a_round(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	hold(w, "far.test");
	answer = "451";
	put(w, "a@away.test", "x@far.test y@other.test", id);
	pass(21 * HOUR);
	answer = NULL;
	pass(HOUR / 2);
	assert_int_equal(open_runs(), 1);
	release(w, "far.test");
	answer_run(run_for("y@other.test"), 451, NULL);
	turns(10);
	assert_true(on_disk(w, id));
	assert_int_equal(runs_for("x@far.test"), 1);
	answer_run(run_for("x@far.test"), 451, NULL);
	answer_run(run_for("y@other.test"), 451, NULL);
	turns(50);
	assert_false(on_disk(w, id));
	assert_bounced("a@away.test");
}

/* A group of several domains, as to a smarthost, goes without those that are held. */
static void test_hold_in_a_shared_group(void **state)
{
	struct world *w = *state;
	static struct conf_pattern any;
	static struct conf_smarthost host = {
	    .host = (char *)"relay.test", .sender = &any, .sender_count = 1};
	w->conf.smarthosts = (struct conf_smarthosts){&host, 1};
	for (int i = 0; i < 3; i++)
		put(w, "a@here.test", "u@dead.test", NULL);
	put(w, "a@here.test", "x@far.test y@other.test u@here.test", NULL);
	assert_int_equal(run_count, 4); /* the one to the smarthost waits */
	hold(w, "far.test");
	answer_run(&runs[0], 250, NULL);
	turns(5);
	assert_int_equal(run_count, 5);
	assert_string_equal(runs[4].rcpt, "y@other.test");
	assert_int_equal(runs[4].count, 1);
	answer_run(&runs[4], 250, NULL);
	answer_run(run_for("u@here.test"), 250, NULL);
	turns(5);
	release(w, "far.test");
	answer_run(&runs[1], 250, NULL);
	turns(5);
	assert_int_equal(runs_for("x@far.test"), 1);
	/* Destinations: the smarthost, and here. */
	assert_string_equal(queue_dest_nth(0)->name, "relay.test");
	assert_int_equal(queue_dest_nth(0)->count[RCPT_SENT], 3);
	assert_string_equal(queue_dest_nth(1)->name, "local");
	assert_null(queue_dest_nth(2));
}

static void test_hold_outlives_a_restart(void **state)
{
	struct world *w = *state;
	char id[3][SPOOL_ID_MAX + 1];
	char path[1000];
	answer = "451";
	for (int i = 0; i < 3; i++)
		put(w, "a@here.test", "u@far.test", id[i]);
	hold(w, id[0]);
	hold(w, id[1]);
	hold(w, "other.test");
	hold(w, "localhost");
	world_close(w);
	snprintf(path, sizeof path, "%s/queue/m:%s", w->dir, id[1]);
	assert_int_equal(unlink(path), 0);
	world_open(w);
	put(w, "a@here.test", "u@other.test", NULL);
	pass(HOUR);
	assert_int_equal(runs_for("u@far.test"), run_count);
	assert_true(run_count > 0);
	assert_true(item_of(w, id[0]).held);
	assert_int_equal(item_of(w, id[0]).next, 0);
	/* Of one that is gone nothing stays. */
	assert_string_equal(queue_held_nth(w->queue, 0), id[0]);
	assert_string_equal(queue_held_nth(w->queue, 1), "localhost");
	assert_string_equal(queue_held_nth(w->queue, 2), "other.test");
	assert_null(queue_held_nth(w->queue, 3));
}

static void test_hold_refused(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	struct status st;
	static const char *const strange[] = {"", "nothing", "Far.test", "a b.test", "0000000000A"};
	for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
		assert_int_equal(queue_hold(w->queue, strange[i], &st), -1);
		assert_int_equal(st.code, 550);
	}
	put(w, "a@here.test", "u@far.test", id);
	disk_is_full = true;
	assert_int_equal(queue_hold(w->queue, id, &st), -1);
	assert_int_equal(status_class(&st), STATUS_TRANSIENT);
	assert_false(item_of(w, id).held);
	disk_is_full = false;
	hold(w, id);
	hold(w, "other.test");
	disk_is_full = true;
	assert_int_equal(queue_release_hold(w->queue, id, &st), -1);
	assert_int_equal(status_class(&st), STATUS_TRANSIENT);
	assert_true(item_of(w, id).held);
	queue_free(w->queue);
	hold_close(w->hold);
	w->hold = NULL;
	world_queue(w, NULL);
	turns(10);
	assert_int_equal(queue_hold(w->queue, id, &st), -1);
	assert_int_equal(queue_release_hold(w->queue, id, &st), -1);
	assert_null(queue_held_nth(w->queue, 0));
}

/* ---- remove ---- */

static void test_remove_waiting(void **state)
{
	struct world *w = *state;
	char id[2][SPOOL_ID_MAX + 1];
	struct status st;
	answer = "451";
	put(w, "a@away.test", "u@far.test v@far.test", id[0]);
	put(w, "a@away.test", "u@far.test", id[1]);
	turns(5);
	take_away(w, id[0], false);
	assert_false(on_disk(w, id[0]));
	assert_int_equal(queue_length(w->queue), 1);
	assert_int_equal(queue_remove(w->queue, id[0], false, &st), -1);
	assert_int_equal(st.code, 550);
	assert_int_equal(queue_remove(w->queue, id[0], true, &st), -1);
	answer = NULL;
	take_away(w, id[1], true);
	turns(50);
	assert_false(on_disk(w, id[1]));
	assert_int_equal(run_count, 3);
	assert_bounced("a@away.test");
	assert_int_equal(queue_length(w->queue), 0);
}

static void test_remove_null_sender(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	answer = "451";
	put(w, "<>", "u@far.test", id);
	turns(5);
	take_away(w, id, true);
	turns(50);
	assert_false(on_disk(w, id));
	assert_int_equal(run_count, 1);
	assert_int_equal(queue_length(w->queue), 0);
}

static void test_remove_active(void **state)
{
	struct world *w = *state;
	char id[3][SPOOL_ID_MAX + 1];
	for (int i = 0; i < 3; i++)
		put(w, i == 1 ? "b@away.test" : "a@away.test", "u@far.test", id[i]);
	assert_int_equal(open_runs(), 3);
	for (int i = 0; i < 3; i++)
		take_away(w, id[i], i != 2);
	turns(20);
	for (int i = 0; i < 3; i++)
		assert_true(on_disk(w, id[i]));
	answer_run(&runs[0], 250, NULL); /* what succeeds has succeeded */
	answer_run(&runs[1], 451, NULL);
	answer_run(&runs[2], 451, NULL);
	turns(50);
	for (int i = 0; i < 3; i++)
		assert_false(on_disk(w, id[i]));
	assert_int_equal(run_count, 4);
	assert_bounced("b@away.test");
	assert_int_equal(queue_length(w->queue), 0);
}

static void test_remove_parked(void **state)
{
	struct world *w = *state;
	char id[6][SPOOL_ID_MAX + 1];
	for (int i = 0; i < 6; i++)
		put(w, "a@away.test", "u@dead.test", id[i]);
	assert_int_equal(open_runs(), 3);
	take_away(w, id[5], false);
	assert_false(on_disk(w, id[5]));
	take_away(w, id[3], true);
	turns(50);
	assert_false(on_disk(w, id[3]));
	assert_bounced("a@away.test");
	for (size_t i = 0; i < 3; i++)
		answer_run(&runs[i], 250, NULL);
	turns(10);
	assert_int_equal(runs_for("u@dead.test"), 4);
	assert_int_equal(queue_length(w->queue), 1);
}

/* While one delivery is under way and another waits for a place. */
static void test_remove_waiting_group(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	for (int i = 0; i < 3; i++)
		put(w, "a@here.test", "u@dead.test", NULL);
	put(w, "a@away.test", "b@dead.test c@live.test", id);
	take_away(w, id, true);
	answer_run(run_for("c@live.test"), 250, NULL);
	turns(50);
	assert_false(on_disk(w, id));
	assert_int_equal(runs_for("b@dead.test"), 0);
	assert_bounced("a@away.test");
	/* With nothing but groups that wait, it need not wait. */
	put(w, "c@away.test", "b@dead.test d@late.test", id);
	answer_run(run_for("d@late.test"), 250, NULL);
	turns(5);
	take_away(w, id, true);
	turns(50);
	assert_false(on_disk(w, id));
	assert_bounced("c@away.test");
	for (size_t i = 0; i < 3; i++)
		answer_run(&runs[i], 250, NULL);
	turns(5);
	assert_int_equal(queue_length(w->queue), 0);
}

static void test_remove_held(void **state)
{
	struct world *w = *state;
	char id[3][SPOOL_ID_MAX + 1];
	hold(w, "far.test");
	for (int i = 0; i < 3; i++)
		put(w, "a@away.test", "u@far.test", id[i]);
	hold(w, id[0]);
	hold(w, id[1]);
	take_away(w, id[0], false);
	take_away(w, id[1], true);
	turns(50);
	assert_false(on_disk(w, id[0]));
	assert_false(on_disk(w, id[1]));
	assert_bounced("a@away.test");
	take_away(w, id[2], true);
	turns(50);
	assert_false(on_disk(w, id[2]));
	assert_int_equal(runs_for("u@far.test"), 0);
	assert_string_equal(queue_held_nth(w->queue, 0), "far.test");
	assert_null(queue_held_nth(w->queue, 1));
}

/* The notification is being written already: one is enough, and it is not taken back. */
static void test_remove_with_dsn_under_way(void **state)
{
	for (int bounce = 0; bounce < 2; bounce++) {
		struct world *w = *state;
		char id[SPOOL_ID_MAX + 1];
		put(w, bounce ? "b@away.test" : "a@away.test", "u@far.test", id);
		answer_run(run_for("u@far.test"), 550, "5.1.1");
		assert_true(item_of(w, id).active);
		take_away(w, id, bounce);
		hold(w, id);
		turns(50);
		assert_false(on_disk(w, id));
		assert_null(queue_held_nth(w->queue, 0));
		assert_bounced(bounce ? "b@away.test" : "a@away.test");
		assert_int_equal(queue_length(w->queue), 0);
	}
}

/* A notification that cannot be written: the message stays and is bounced later, or dropped if that
 * was asked. */
static void test_remove_when_disk_is_full(void **state)
{
	struct world *w = *state;
	char id[2][SPOOL_ID_MAX + 1];
	struct envelope env;
	struct status st;
	answer = "451";
	for (int i = 0; i < 2; i++)
		put(w, "a@away.test", "u@far.test", id[i]);
	turns(5);
	answer = NULL;
	disk_is_full = true;
	take_away(w, id[0], true);
	take_away(w, id[1], true);
	pass(5);
	assert_true(on_disk(w, id[0]));
	assert_int_equal(run_count, 2);
	take_away(w, id[1], false);
	assert_false(on_disk(w, id[1]));
	assert_int_equal(spool_load(w->spool, id[0], &env, &st), 0);
	assert_int_equal(env.rcpt[0].state, RCPT_PENDING);
	envelope_clear(&env);
	disk_is_full = false;
	pass(3 * MINUTE);
	assert_false(on_disk(w, id[0]));
	assert_int_equal(runs_for("u@far.test"), 2);
	assert_bounced("a@away.test");
}

/* Verdicts that are in memory only: the removal is written down all the same, once that works. */
static void test_remove_unsaved(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	struct envelope env;
	struct status st;
	bool recorded = false;
	put(w, "a@away.test", "u@here.test v@here.test", id);
	disk_is_full = true;
	answer_run(run_for("u@here.test"), 250, NULL);
	answer_run(run_for("v@here.test"), 451, NULL);
	turns(5);
	take_away(w, id, true);
	pass(5);
	assert_true(on_disk(w, id));
	disk_is_full = false;
	for (int i = 0; i < 150 && on_disk(w, id); i++) {
		mono_us += 1000000;
		loop_turn(0);
		if (!on_disk(w, id))
			break;
		assert_int_equal(spool_load(w->spool, id, &env, &st), 0);
		recorded |= env.rcpt[1].state == RCPT_FAILED && env.rcpt[1].last->enh[1] == 7;
		envelope_clear(&env);
	}
	assert_true(recorded);
	turns(20);
	assert_false(on_disk(w, id));
	assert_int_equal(run_count, 3);
	assert_bounced("a@away.test");
}

static void test_remove_finished(void **state)
{
	struct world *w = *state;
	char id[2][SPOOL_ID_MAX + 1];
	struct status st;
	for (int i = 0; i < 2; i++)
		put(w, "a@away.test", "u@far.test", id[i]);
	disk_is_read_only = true;
	answer_run(&runs[0], 250, NULL);
	answer_run(&runs[1], 250, NULL);
	turns(5);
	hold(w, id[1]); /* does not keep it from being removed */
	assert_int_equal(queue_remove(w->queue, id[0], true, &st), -1);
	assert_int_equal(status_class(&st), STATUS_TRANSIENT);
	disk_is_read_only = false;
	take_away(w, id[0], true);
	assert_false(on_disk(w, id[0]));
	assert_int_equal(queue_length(w->queue), 1);
	pass(5 * MINUTE);
	assert_int_equal(queue_length(w->queue), 0);
	assert_null(queue_held_nth(w->queue, 0));
	assert_int_equal(run_count, 2);
}

static bool drained;

static void on_idle(void *arg)
{
	(void)arg;
	drained = true;
}

static void test_remove_while_draining(void **state)
{
	struct world *w = *state;
	char id[6][SPOOL_ID_MAX + 1];
	struct status st;
	drained = false;
	for (int i = 0; i < 6; i++)
		put(w, "a@away.test", "u@far.test", id[i]);
	queue_drain(w->queue, on_idle, NULL);
	assert_int_equal(queue_remove(w->queue, id[4], true, &st), -1);
	assert_int_equal(status_class(&st), STATUS_TRANSIENT);
	take_away(w, id[3], false);
	hold(w, id[5]);
	take_away(w, id[0], true);
	take_away(w, id[1], false);
	for (size_t i = 0; i < 3; i++)
		answer_run(&runs[i], 451, NULL);
	turns(50);
	assert_true(drained);
	world_restart(w);
	turns(20);
	assert_bounced("a@away.test");
	assert_int_equal(runs_for("u@far.test"), 1); /* the fifth; the third waits for its time */
	answer_run(run_for("u@far.test"), 250, NULL);
	turns(5);
	assert_int_equal(queue_length(w->queue), 2);
	assert_true(item_of(w, id[5]).held);
	assert_false(item_of(w, id[2]).active);
}

/* A stop between the record of the removal and the notification: it comes after the restart. */
static void test_remove_and_restart(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	struct envelope env;
	struct status st;
	answer = "451";
	put(w, "a@away.test", "u@far.test", id);
	turns(5);
	answer = NULL;
	take_away(w, id, true);
	turns(1);
	assert_int_equal(spool_load(w->spool, id, &env, &st), 0);
	assert_int_equal(env.rcpt[0].state, RCPT_FAILED);
	assert_int_equal(env.rcpt[0].last->enh[1], 7);
	envelope_clear(&env);
	world_restart(w);
	pass(2 * MINUTE);
	assert_false(on_disk(w, id));
	assert_int_equal(runs_for("u@far.test"), 0);
	assert_bounced("a@away.test");
}

/* ---- questions ---- */

static void test_find_and_oldest(void **state)
{
	struct world *w = *state;
	char id[6][SPOOL_ID_MAX + 1];
	struct queue_item item;
	assert_int_equal(queue_oldest(w->queue), 0);
	assert_int_equal(queue_find(w->queue, "nothing", &item), -1);
	int64_t first = wall_s;
	for (int i = 0; i < 6; i++) {
		put(w, "a@here.test", "u@far.test", id[i]);
		pass(10);
	}
	assert_in_range((uintmax_t)queue_oldest(w->queue), (uintmax_t)first, (uintmax_t)first + 1);
	assert_true(item_of(w, id[0]).active);
	assert_true(item_of(w, id[5]).active); /* parked */
	assert_int_equal(item_of(w, id[5]).created, first + 50);
	answer_run(&runs[0], 250, NULL);
	turns(2);
	assert_in_range((uintmax_t)queue_oldest(w->queue), (uintmax_t)first + 9,
	                (uintmax_t)first + 11);
	wall_s += 1000 * HOUR; /* a clock that jumps makes nobody old */
	assert_in_range((uintmax_t)(wall_s - queue_oldest(w->queue)), 49, 51);
	answer_run(&runs[1], 451, NULL);
	turns(2);
	assert_in_range((uintmax_t)(item_of(w, id[1]).next - wall_s), 50, 130);
}

static void test_set_local(void **state)
{
	struct world *w = *state;
	static struct courier other;
	for (int i = 0; i < 5; i++)
		put(w, "a@here.test", "u@here.test", NULL);
	assert_int_equal(open_runs(), 4);
	other = fake_courier("other", 6, true);
	queue_set_local(w->queue, &other);
	put(w, "a@here.test", "u@here.test v@here.test", NULL);
	turns(5);
	assert_int_equal(open_runs(), 6); /* and the one that was parked */
	assert_int_equal(runs[4].count, 2);
	for (size_t i = 0; i < 6; i++)
		answer_run(&runs[i], 250, NULL);
	turns(5);
	assert_int_equal(run_count, 6);
	assert_int_equal(queue_length(w->queue), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, admin_set_up, admin_tear_down)
	const struct CMUnitTest tests[] = {
	    T(test_hold_waiting),
	    T(test_hold_active),
	    T(test_hold_parked),
	    T(test_hold_does_not_block_the_lane),
	    T(test_hold_waiting_group),
	    T(test_hold_domain),
	    T(test_release_in_a_round),
	    T(test_hold_in_a_shared_group),
	    T(test_hold_outlives_a_restart),
	    T(test_hold_refused),
	    T(test_remove_waiting),
	    T(test_remove_null_sender),
	    T(test_remove_active),
	    T(test_remove_parked),
	    T(test_remove_waiting_group),
	    T(test_remove_held),
	    T(test_remove_with_dsn_under_way),
	    T(test_remove_when_disk_is_full),
	    T(test_remove_unsaved),
	    T(test_remove_finished),
	    T(test_remove_while_draining),
	    T(test_remove_and_restart),
	    T(test_find_and_oldest),
	    T(test_set_local),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
