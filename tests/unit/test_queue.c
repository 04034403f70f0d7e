/* queue: retries, lanes, bounces, restarts, and clocks that lie.
 * link: fake_disk_aio.c
 */
#include "queue_help.h"

/* ---- tests ---- */

static void test_delay_table(void **state)
{
	(void)state;
	assert_int_equal(queue_delay(0), 60000);
	assert_int_equal(queue_delay(59999), 60000);
	assert_int_equal(queue_delay(60000), 300000);
	assert_int_equal(queue_delay(299999), 300000);
	assert_int_equal(queue_delay(300000), 600000);
	assert_int_equal(queue_delay(600000), 1200000);
	assert_int_equal(queue_delay(INT64_MAX), 1200000);
}

static void test_routes(void **state)
{
	struct world *w = *state;
	struct rcpt r = {.address = (char *)"user@here.test"};
	assert_int_equal(queue_route(&w->conf, &r), QUEUE_LOCAL);
	r.address = (char *)"\"a@b\"@far.test";
	assert_int_equal(queue_route(&w->conf, &r), QUEUE_REMOTE);
	r.address = (char *)"postmaster";
	assert_int_equal(queue_route(&w->conf, &r), QUEUE_LOCAL);
	r.type = RCPT_FORWARD;
	assert_int_equal(queue_route(&w->conf, &r), QUEUE_REMOTE);
	r.type = RCPT_PIPE;
	assert_int_equal(queue_route(&w->conf, &r), QUEUE_PIPE);
}

static void test_sent_is_removed(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	put(w, "a@far.test", "user@here.test", id);
	assert_int_equal(open_runs(), 1);
	assert_true(on_disk(w, id));
	answer_run(&runs[0], 250, "2.0.0");
	turns(3);
	assert_false(on_disk(w, id));
	assert_int_equal(queue_length(w->queue), 0);
}

static void test_one_transaction_a_domain(void **state)
{
	struct world *w = *state;
	put(w, "a@here.test", "x@far.test y@other.test z@far.test u@here.test v@here.test |/bin/x",
	    NULL);
	assert_int_equal(run_count, 5);
	assert_int_equal(run_for("x@far.test")->count, 2);
	assert_string_equal(run_for("x@far.test")->d->domain, "far.test");
	assert_int_equal(run_for("y@other.test")->count, 1);
	assert_int_equal(run_for("u@here.test")->count, 1);
	assert_int_equal(run_for("/bin/x")->count, 1);
}

/* A local courier that takes several gets them all, whatever their domain; pipes are others'. */
static void test_one_transaction_for_local(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	w->batch = true;
	world_restart(w);
	put(w, "a@here.test", "u@here.test x@far.test |/bin/x v@second.test w@here.test", id);
	assert_int_equal(run_count, 3);
	struct run *r = run_for("u@here.test");
	assert_int_equal(r->count, 3);
	assert_null(r->d->domain);
	assert_int_equal(run_for("/bin/x")->count, 1);
	/* Each has a verdict of its own, and only those that are open go again. */
	struct status st;
	struct delivery *d = r->d;
	static const int codes[] = {250, 550, 451};
	r->open = false;
	for (size_t i = 0; i < 3; i++) {
		status_set(&st, codes[i], NULL, "answer");
		d->verdict(d, d->rcpts[i], &st, "mx.here.test unix:/x");
	}
	d->done(d);
	answer_run(run_for("x@far.test"), 250, "2.0.0");
	answer_run(run_for("/bin/x"), 250, "2.0.0");
	turns(5);
	assert_true(on_disk(w, id));
	pass(3 * MINUTE);
	assert_int_equal(run_count, 4);
	assert_string_equal(runs[3].rcpt, "w@here.test");
	assert_int_equal(runs[3].count, 1);
}

/* All that goes to a smarthost goes in one delivery, up to its limit, but not `via` another host.
 */
static void test_one_transaction_a_smarthost(void **state)
{
	struct world *w = *state;
	static struct conf_pattern any;
	static struct conf_smarthost host = {.sender = &any, .sender_count = 1};
	char many[REMOTE_RCPTS_MAX * 20 + 100] = "";
	w->conf.smarthosts = (struct conf_smarthosts){&host, 1};
	put(w, "a@here.test", "x@far.test y@other.test u@here.test", NULL);
	assert_int_equal(run_count, 2);
	assert_int_equal(run_for("x@far.test")->count, 2);
	assert_int_equal(run_for("u@here.test")->count, 1);
	for (int i = 0; i <= REMOTE_RCPTS_MAX; i++)
		snprintf(many + strlen(many), sizeof many - strlen(many), "%su%d@d%d.test",
		         i ? " " : "", i, i);
	put(w, "a@here.test", many, NULL);
	assert_int_equal(run_count, 4);
	assert_int_equal(runs[2].count + runs[3].count, REMOTE_RCPTS_MAX + 1);
	/* Another sender's mail goes to each domain. */
	any = (struct conf_pattern){.domain = w->domain[0].name};
	put(w, "b@there.test", "x@far.test y@other.test", NULL);
	assert_int_equal(run_count, 6);
}

static void test_retry_follows_table(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	answer = "451";
	put(w, "a@far.test", "user@here.test", id);
	pass(20 * HOUR - 10 * MINUTE);
	assert_true(on_disk(w, id));
	/* 1 + 5 + 10 + 20 minutes, each with up to a minute more. */
	for (size_t i = 1; i < run_count; i++) {
		int64_t age = runs[i - 1].at - runs[0].at;
		int64_t wait = runs[i].at - runs[i - 1].at;
		int64_t least = queue_delay(age * 1000) / 1000;
		assert_in_range((uintmax_t)wait, (uintmax_t)least, (uintmax_t)least + 62);
	}
	assert_in_range(run_count, 54, 64);
	answer = "250";
	pass(25 * MINUTE);
	assert_false(on_disk(w, id));
}

static void test_gives_up(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	answer = "451";
	put(w, "a@other.test", "user@far.test", id);
	pass(20 * HOUR - 1);
	assert_true(on_disk(w, id));
	answer = NULL;
	pass(22 * MINUTE);
	assert_string_equal(runs[run_count - 1].rcpt, "user@far.test");
	answer_run(&runs[run_count - 1], 451, NULL);
	turns(50);
	assert_false(on_disk(w, id));
	/* The notification is on its way to the sender. */
	assert_string_equal(run_for("a@other.test")->d->from, "<>");
	assert_int_equal(queue_length(w->queue), 1);
}

static void test_failure_bounces(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	put(w, "a@far.test", "user@here.test other@here.test", id);
	answer_run(run_for("user@here.test"), 550, "5.1.1");
	turns(20);
	assert_true(on_disk(w, id)); /* one is open still */
	answer_run(run_for("other@here.test"), 250, NULL);
	turns(50);
	assert_false(on_disk(w, id));
	assert_string_equal(run_for("a@far.test")->d->from, "<>");
}

/* The file turns out to be damaged while another recipient has to wait: what is known of the
 * message is in memory, and its sender learns of all who will not get it. */
static void test_damage_is_told(void **state)
{
	struct world *w = *state;
	struct status st;
	char id[SPOOL_ID_MAX + 1], path[200], aside[200];
	put(w, "a@far.test", "u@here.test v@here.test x@other.test", id);
	snprintf(path, sizeof path, "%s/queue/m:%s", w->dir, id);
	snprintf(aside, sizeof aside, "%s/queue/aside", w->dir);
	assert_int_equal(rename(path, aside), 0);
	answer_run(run_for("u@here.test"), 250, NULL);
	answer_run(run_for("v@here.test"), 554, "5.3.0");
	answer_run(run_for("x@other.test"), 451, NULL);
	turns(5);
	pass(5 * MINUTE);
	struct run *note = run_for("a@far.test");
	assert_string_equal(note->from, "<>");
	char text[8192] = "";
	struct spool_reader *r = spool_read_open(w->spool, note->d->env->id, &st);
	assert_non_null(r);
	assert_true(spool_read(r, text, sizeof text - 1, &st) > 0);
	spool_read_close(r);
	assert_non_null(strstr(text, "v@here.test"));
	assert_non_null(strstr(text, "x@other.test"));
	assert_null(strstr(text, "u@here.test"));
	answer_run(note, 250, NULL);
	turns(5);
	assert_int_equal(queue_length(w->queue), 0);
}

static void test_null_sender_gets_no_bounce(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	put(w, "<>", "user@here.test", id);
	answer_run(&runs[0], 550, "5.1.1");
	turns(50);
	assert_false(on_disk(w, id));
	assert_int_equal(run_count, 1);
	assert_int_equal(queue_length(w->queue), 0);
}

static void test_bounce_needs_disk(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	put(w, "a@far.test", "user@here.test", id);
	disk_is_full = true;
	answer_run(&runs[0], 550, "5.1.1");
	turns(50);
	assert_true(on_disk(w, id));
	pass(5 * MINUTE);
	assert_true(on_disk(w, id));
	assert_int_equal(run_count, 1); /* refused for good is not tried again */
	disk_is_full = false;
	pass(30 * MINUTE);
	assert_false(on_disk(w, id));
	assert_string_equal(run_for("a@far.test")->d->from, "<>");
}

static void test_full_disk_makes_no_double(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	put(w, "a@far.test", "user@here.test other@here.test", id);
	disk_is_full = true;
	answer_run(run_for("user@here.test"), 250, NULL);
	answer_run(run_for("other@here.test"), 451, NULL);
	turns(10);
	answer = "250";
	pass(3 * MINUTE);
	assert_int_equal(run_count, 3);
	assert_string_equal(runs[2].rcpt, "other@here.test");
	assert_false(on_disk(w, id));
}

static void test_restart_remembers(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	put(w, "a@far.test", "user@here.test other@here.test", id);
	answer_run(run_for("user@here.test"), 250, NULL);
	answer_run(run_for("other@here.test"), 451, NULL);
	turns(10);
	world_restart(w);
	assert_int_equal(queue_length(w->queue), 1);
	pass(50);
	assert_int_equal(run_count, 0); /* not early */
	pass(80);
	assert_int_equal(run_count, 1);
	assert_string_equal(runs[0].rcpt, "other@here.test");
	assert_int_equal(runs[0].d->env->attempts, 1);
}

static void test_stop_records_verdicts(void **state)
{
	struct world *w = *state;
	struct status st;
	put(w, "a@far.test", "x@far.test y@far.test", NULL);
	status_set(&st, 250, "2.0.0", "ok");
	runs[0].d->verdict(runs[0].d, 0, &st, "peer");
	world_close(w);
	assert_int_equal(stops, 1);
	answer = NULL;
	world_open(w);
	pass(200);
	assert_int_equal(run_count, 1);
	assert_int_equal(runs[0].count, 1);
	assert_string_equal(runs[0].rcpt, "y@far.test");
}

/* Boots in 1970, takes mail, then learns the time; and the other way round. */
static void test_clock_jumps_do_not_bounce(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	answer = "451";
	wall_s = 100;
	put(w, "a@here.test", "user@far.test", id);
	wall_s = THE_DAY;
	pass(HOUR);
	assert_true(on_disk(w, id));
	wall_s += 10LL * 365 * 24 * HOUR;
	pass(HOUR);
	assert_true(on_disk(w, id));
	wall_s = 5;
	pass(HOUR);
	world_restart(w); /* 1970 again */
	pass(HOUR);
	assert_true(on_disk(w, id));
	wall_s = THE_DAY;
	world_restart(w); /* a message from 1970 is as new as its discovery */
	pass(HOUR);
	assert_true(on_disk(w, id));
	assert_in_range(run_count, 2, 6);
	pass(20 * HOUR);
	assert_false(on_disk(w, id));
}

static void test_future_message_is_new(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	answer = "451";
	wall_s = THE_DAY + 1000LL * 24 * HOUR;
	put(w, "a@here.test", "user@far.test", id);
	wall_s = THE_DAY;
	world_restart(w);
	pass(5 * MINUTE);
	assert_in_range(run_count, 1, 3);
	assert_true(on_disk(w, id));
}

/* However old it is, it is tried once before it is given up. */
static void test_old_message_is_tried(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	answer = "451";
	put(w, "a@here.test", "user@far.test", id);
	world_close(w);
	wall_s += 30 * HOUR;
	mono_us += 1000;
	answer = NULL;
	world_open(w);
	assert_int_equal(run_count, 1);
	answer_run(&runs[0], 250, NULL);
	turns(5);
	assert_false(on_disk(w, id));
}

/* A clock that comes up years ahead ends nothing; a machine that was off for some days does. */
static void test_clock_leaps_years(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	answer = "451";
	put(w, "a@here.test", "user@far.test", id);
	wall_s += 3650LL * 24 * HOUR;
	world_restart(w);
	pass(HOUR);
	assert_true(on_disk(w, id));
	wall_s -= 3650LL * 24 * HOUR;
	world_restart(w);
	pass(HOUR);
	assert_true(on_disk(w, id));
	wall_s += 3LL * 24 * HOUR;
	world_restart(w);
	pass(HOUR);
	assert_false(on_disk(w, id));
}

static void test_lane_limits(void **state)
{
	struct world *w = *state;
	for (int i = 0; i < 30; i++)
		put(w, "a@here.test", "user@dead.test", NULL);
	put(w, "a@here.test", "user@live.test", NULL);
	assert_int_equal(open_runs(), 4); /* three to dead.test, one to live.test */
	answer_run(run_for("user@live.test"), 250, NULL);
	turns(5);
	assert_int_equal(queue_length(w->queue), 30);
	/* Each that ends makes room for one more, and all get their turn. */
	for (int i = 0; i < 30; i++) {
		size_t at = 0;
		while (!runs[at].open)
			at++;
		answer_run(&runs[at], 451, NULL);
		turns(5);
	}
	assert_int_equal(run_count, 31);
	assert_int_equal(open_runs(), 0);
	assert_int_equal(queue_length(w->queue), 30);
}

/* Hosts that do not answer hold many places for long, but never all. */
static void test_dead_hosts_leave_room(void **state)
{
	struct world *w = *state;
	char to[100];
	for (int i = 0; i < QUEUE_ACTIVE_MAX + 10; i++) {
		snprintf(to, sizeof to, "user@d%d.test", i);
		put(w, "a@here.test", to, NULL);
	}
	assert_int_equal(open_runs(), QUEUE_REMOTE_MAX);
	put(w, "a@here.test", "user@here.test", NULL);
	put(w, "a@here.test", "user@here.test other@late.test", NULL);
	assert_int_equal(open_runs(), QUEUE_REMOTE_MAX + 2);
	/* Each that ends makes room for one more, and all get their turn. */
	for (size_t i = 0; i < run_count; i++) {
		assert_true(runs[i].open);
		answer_run(&runs[i], 250, NULL);
		turns(5);
	}
	assert_int_equal(run_count, QUEUE_ACTIVE_MAX + 13);
	assert_int_equal(queue_length(w->queue), 0);
}

/* Of a hundred places of which nothing is known yet none answers: each makes room for the next, so
 * that one behind them has its turn within a second of the time there is. Who has answered stays,
 * and nobody is hurried while nobody waits. */
static void test_dead_hosts_make_room(void **state)
{
	struct world *w = *state;
	char to[100];
	for (int i = 0; i < QUEUE_REMOTE_MAX; i++) {
		snprintf(to, sizeof to, "user@d%d.test", i);
		put(w, "a@here.test", to, NULL);
	}
	pass(30);
	assert_int_equal(open_runs(), QUEUE_REMOTE_MAX);
	assert_int_equal(stops, 0);
	runs[0].answered = true;
	put(w, "a@here.test", "user@late.test", NULL);
	turns(5);
	assert_int_equal(stops, 1);
	assert_true(runs[0].open);
	assert_true(run_for("user@late.test")->open);
	run_for("user@late.test")->answered = true;

	for (int i = 0; i < 100; i++) {
		snprintf(to, sizeof to, "user@e%d.test", i);
		put(w, "a@here.test", to, NULL);
	}
	put(w, "a@here.test", "user@last.test", NULL);
	for (int i = 0; i < 100 / (QUEUE_REMOTE_MAX - 2) + 1; i++) {
		pass(1);
		turns(3 * QUEUE_REMOTE_MAX);
	}
	assert_true(run_for("user@last.test")->open);
	assert_true(runs[0].open);
	assert_true(run_for("user@late.test")->open);
	assert_int_equal(queue_length(w->queue), QUEUE_REMOTE_MAX + 102);
}

/* It was the server that had no time: answers that have come meanwhile are looked at first. */
static void test_a_slow_server_hurries_nobody(void **state)
{
	struct world *w = *state;
	char to[100];
	for (int i = 0; i < QUEUE_REMOTE_MAX + 10; i++) {
		snprintf(to, sizeof to, "user@d%d.test", i);
		put(w, "a@here.test", to, NULL);
	}
	assert_int_equal(run_count, QUEUE_REMOTE_MAX);
	mono_us += 60 * INT64_C(1000000);
	turns(1);
	for (size_t i = 0; i < run_count; i++)
		runs[i].answered = true;
	turns(20);
	assert_int_equal(stops, 0);
}

/* The last try that there is time for has all of its time. */
static void test_last_try_is_waited_for(void **state)
{
	struct world *w = *state;
	char to[100];
	answer = "451";
	for (int i = 0; i < QUEUE_REMOTE_MAX + 10; i++) {
		snprintf(to, sizeof to, "user@d%d.test", i);
		put(w, "a@here.test", to, NULL);
	}
	world_close(w);
	wall_s += 30 * HOUR;
	answer = NULL;
	world_open(w);
	assert_int_equal(open_runs(), QUEUE_REMOTE_MAX);
	pass(30);
	assert_int_equal(stops, 0);
	assert_int_equal(run_count, QUEUE_REMOTE_MAX);
	for (int i = 0; i < QUEUE_REMOTE_MAX + 10; i++) {
		answer_run(&runs[i], 250, NULL);
		turns(5);
	}
	assert_int_equal(queue_length(w->queue), 0);
}

/* Nor is a message given up because another one was not waited for. */
static void test_cut_gives_nobody_up(void **state)
{
	struct world *w = *state;
	char old[2][SPOOL_ID_MAX + 1];
	char to[100];
	answer = "451";
	put(w, "a@here.test", "user@slow.test", old[0]);
	put(w, "a@here.test", "user@slow.test user@live.test", old[1]);
	pass(HOUR);
	answer = NULL;
	run_count = 0;
	w->conf.give_up_send_after = HOUR;
	for (int i = 0; i < 3; i++)
		put(w, "a@here.test", "user@slow.test", NULL);
	assert_int_equal(open_runs(), 3);
	pass(1);
	for (int i = 0; open_runs() < QUEUE_REMOTE_MAX - 1; i++) {
		snprintf(to, sizeof to, "user@d%d.test", i);
		put(w, "a@here.test", to, NULL);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(queue_flush(w->queue, old[i]), 1);
	turns(10);
	assert_int_equal(open_runs(), QUEUE_REMOTE_MAX);
	put(w, "a@here.test", "user@late.test", NULL);
	turns(10);
	assert_true(run_for("user@late.test")->open);
	assert_int_equal(stops, 1);
	answer_run(run_for("user@live.test"), 250, NULL);
	turns(10);
	for (size_t i = 0; i < run_count; i++)
		assert_string_not_equal(runs[i].rcpt, "a@here.test");
	for (int i = 0; i < 2; i++)
		assert_true(on_disk(w, old[i]));
}

static size_t open_runs_for(const char *rcpt)
{
	size_t n = 0;
	for (size_t i = 0; i < run_count; i++)
		n += runs[i].open && strcmp(runs[i].rcpt, rcpt) == 0;
	return n;
}

static void put_many(struct world *w, const char *to, int count)
{
	while (count-- > 0)
		put(w, "a@here.test", to, NULL);
}

/* Those to one place that are open now get the same answer. */
static void answer_for(const char *rcpt, bool reached)
{
	size_t count = run_count;
	for (size_t i = 0; i < count; i++) {
		if (!runs[i].open || strcmp(runs[i].rcpt, rcpt) != 0)
			continue;
		if (reached)
			answer_run(&runs[i], 250, NULL);
		else
			fail_run(&runs[i]);
	}
	turns(20);
}

/* A place that fails is down to one delivery, and grows again when that succeeds. */
static void test_failing_lane_shrinks(void **state)
{
	static const unsigned grown[] = {1, 2, 8, 10, 10};
	struct world *w = *state;
	w->remote.parallel = 10;
	put_many(w, "user@dead.test", 60);
	assert_int_equal(open_runs(), QUEUE_LANE_START);
	answer_for("user@dead.test", false);
	assert_int_equal(open_runs(), 1);
	answer_for("user@dead.test", false);
	for (size_t i = 0; i < sizeof grown / sizeof *grown; i++) {
		assert_int_equal(open_runs(), grown[i]);
		answer_for("user@dead.test", true);
	}
}

/* The places are shared: many that want all of them leave some for one that is new, and it gets as
 * many as they when it wants them. */
static void test_lanes_share(void **state)
{
	struct world *w = *state;
	static const char *const names[] = {"u@a.test", "u@b.test", "u@c.test", "u@d.test"};
	w->remote.parallel = 20;
	for (size_t i = 0; i < 3; i++)
		put_many(w, names[i], 40);
	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < 3; i++)
			answer_for(names[i], true);
	for (size_t i = 0; i < 3; i++)
		assert_in_range(open_runs_for(names[i]), 6, 10);
	assert_in_range(open_runs(), QUEUE_REMOTE_MAX - 9, QUEUE_REMOTE_MAX - 5);
	put_many(w, names[3], 10);
	assert_int_equal(open_runs_for(names[3]), QUEUE_LANE_START);
	answer_for(names[3], true);
	assert_in_range(open_runs_for(names[3]), QUEUE_LANE_START, 6);
}

/* Any number of places that fail, known as such, leave half of the deliveries to others. */
static void test_failing_lanes_leave_room(void **state)
{
	struct world *w = *state;
	char to[100];
	w->remote.parallel = 10;
	for (int i = 0; i < 20; i++) {
		snprintf(to, sizeof to, "user@d%d.test", i);
		put_many(w, to, 2);
		answer_for(to, false);
		answer_for(to, false);
		assert_int_equal(open_runs(), 0);
	}
	assert_int_equal(queue_length(w->queue), 40);
	pass(3 * MINUTE); /* all are due again */
	assert_int_equal(open_runs(), QUEUE_REMOTE_MAX / 2);
	put_many(w, "user@live.test", 3);
	assert_int_equal(open_runs_for("user@live.test"), 3);
	/* All get their turn, and one that is back is free of the others. */
	for (int i = 0; i < 20; i++) {
		snprintf(to, sizeof to, "user@d%d.test", i);
		assert_in_range(open_runs(), 1, QUEUE_REMOTE_MAX);
		answer_for(to, true);
	}
	for (int i = 0; i < 20; i++) {
		snprintf(to, sizeof to, "user@d%d.test", i);
		answer_for(to, true);
		answer_for(to, true);
	}
	answer_for("user@live.test", true);
	assert_int_equal(queue_length(w->queue), 0);
}

/* A message to several places is not kept in memory for one that fails; it was put off with what
 * another found there. */
static void test_failing_lane_puts_off(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	struct envelope env;
	struct status st;
	w->remote.parallel = 10;
	put_many(w, "b@dead.test", 1);
	answer_for("b@dead.test", false); /* window 1 */
	pass(3 * MINUTE);
	assert_int_equal(open_runs_for("b@dead.test"), 1);
	put(w, "a@here.test", "b@dead.test c@live.test", id);
	assert_int_equal(open_runs_for("b@dead.test"), 1);
	answer_for("c@live.test", true);
	answer_for("b@dead.test", false);
	assert_int_equal(open_runs(), 0);
	assert_int_equal(queue_active(w->queue), 0);
	assert_int_equal(spool_load(w->spool, id, &env, &st), 0);
	assert_int_equal(env.rcpt[0].state, RCPT_PENDING);
	assert_int_equal(env.rcpt[1].state, RCPT_SENT);
	assert_string_equal(env.rcpt[0].last->text, "put off, after another message: answer 451");
	envelope_clear(&env);
	pass(15 * MINUTE);
	answer_for("b@dead.test", true);
	answer_for("b@dead.test", true);
	assert_int_equal(queue_length(w->queue), 0);
}

/* A place that refuses somebody and then hangs up: what it said of one is nothing that others are
 * told. */
static void test_put_off_is_no_refusal(void **state)
{
	struct world *w = *state;
	char first[SPOOL_ID_MAX + 1], id[SPOOL_ID_MAX + 1];
	struct envelope env;
	struct status st;
	put_many(w, "b@dead.test", 1);
	answer_for("b@dead.test", false); /* window 1 */
	put(w, "a@here.test", "x@dead.test y@dead.test", first);
	put(w, "a@here.test", "b@dead.test c@live.test", id);
	assert_int_equal(open_runs_for("x@dead.test"), 1);
	assert_int_equal(open_runs_for("b@dead.test"), 0);
	for (size_t i = 0; i < run_count; i++) {
		struct delivery *d = runs[i].d;
		if (!runs[i].open || runs[i].count != 2)
			continue;
		runs[i].open = false;
		d->unreached = true;
		status_set(&st, 550, "5.1.1", "no such user");
		d->verdict(d, d->rcpts[0], &st, "");
		status_set(&st, 451, "4.4.2", "connection lost");
		d->verdict(d, d->rcpts[1], &st, "");
		d->done(d);
	}
	answer_for("c@live.test", true);
	assert_int_equal(spool_load(w->spool, id, &env, &st), 0);
	assert_int_equal(env.rcpt[0].state, RCPT_PENDING);
	assert_string_equal(env.rcpt[0].last->text,
	                    "put off, after another message: connection lost");
	envelope_clear(&env);
}

/* Parked behind a place that never comes back, messages still end when their time is up, and their
 * senders are told why. */
static void test_parked_expire(void **state)
{
	struct world *w = *state;
	w->remote.parallel = 10;
	put_many(w, "user@dead.test", 50);
	answer_for("user@dead.test", false);
	assert_int_equal(open_runs(), 1);
	for (int i = 0; i < 10; i++) {
		pass(2 * HOUR + MINUTE);
		answer_for("user@dead.test", false);
	}
	for (int i = 0; i < 12; i++) {
		pass(20 * MINUTE + MINUTE);
		answer = NULL;
		answer_for("user@dead.test", false);
		answer_for("a@here.test", true);
	}
	for (int i = 0; i < 30; i++)
		answer_for("a@here.test", true);
	assert_int_equal(queue_length(w->queue), 0);
}

/* What is brought back from a lane may leave it: its places go to those parked behind. */
static void test_parked_outlive_their_lane(void **state)
{
	struct world *w = *state;
	char path[1000];
	char id[12][SPOOL_ID_MAX + 1];
	for (int i = 0; i < 12; i++)
		put(w, "a@here.test", "user@dead.test", id[i]);
	assert_int_equal(open_runs(), 3);
	for (int i = 3; i < 6; i++) {
		snprintf(path, sizeof path, "%s/queue/m:%s", w->dir, id[i]);
		assert_int_equal(unlink(path), 0);
	}
	w->domain[1].name = (char *)"dead.test";
	answer = "250";
	for (int i = 0; i < 3; i++)
		answer_run(&runs[i], 250, NULL);
	turns(100);
	assert_int_equal(run_count, 9);
	assert_int_equal(queue_length(w->queue), 0);
}

/* A verdict that could not be written keeps the envelope in memory, but not a message alive whose
 * file is gone. */
static void test_kept_without_file_is_forgotten(void **state)
{
	struct world *w = *state;
	char path[1000];
	char id[SPOOL_ID_MAX + 1];
	put(w, "a@far.test", "user@here.test", id);
	snprintf(path, sizeof path, "%s/queue/m:%s", w->dir, id);
	assert_int_equal(unlink(path), 0);
	answer_run(&runs[0], 451, NULL);
	turns(5);
	assert_int_equal(queue_length(w->queue), 1);
	pass(3 * MINUTE);
	assert_int_equal(queue_length(w->queue), 0);
	assert_int_equal(run_count, 1);
}

static void test_group_waits_in_lane(void **state)
{
	struct world *w = *state;
	for (int i = 0; i < 3; i++)
		put(w, "a@here.test", "user@dead.test", NULL);
	put(w, "a@here.test", "b@dead.test c@live.test", NULL);
	assert_int_equal(run_count, 4);
	answer_run(run_for("c@live.test"), 250, NULL);
	answer_run(&runs[0], 451, NULL);
	turns(5);
	answer_run(run_for("b@dead.test"), 250, NULL);
	turns(5);
	assert_int_equal(queue_length(w->queue), 3);
}

static void test_refused_start_is_transient(void **state)
{
	struct world *w = *state;
	char id[SPOOL_ID_MAX + 1];
	refuse_starts = 3;
	put(w, "a@here.test", "u@here.test v@here.test x@far.test", id);
	turns(10);
	assert_int_equal(run_count, 0);
	assert_true(on_disk(w, id));
	pass(3 * MINUTE);
	assert_int_equal(run_count, 3);
}

static void test_reserve_bounds_the_queue(void **state)
{
	struct world *w = *state;
	struct status st;
	w->conf.max_queue_items = 3;
	put(w, "a@here.test", "u@here.test", NULL);
	assert_int_equal(queue_reserve(w->queue, &st), 0);
	assert_int_equal(queue_reserve(w->queue, &st), 0);
	assert_int_equal(queue_reserve(w->queue, &st), -1);
	assert_int_equal(st.code, 452);
	queue_release(w->queue);
	assert_int_equal(queue_reserve(w->queue, &st), 0);
	queue_release(w->queue);
	queue_release(w->queue);
}

static void test_flush_and_list(void **state)
{
	struct world *w = *state;
	char id[10][SPOOL_ID_MAX + 1];
	struct queue_item items[4];
	answer = "451";
	for (int i = 0; i < 10; i++)
		put(w, "a@here.test", "user@far.test", id[i]);
	turns(20);
	assert_int_equal(run_count, 10);
	assert_int_equal(queue_flush(w->queue, id[4]), 1);
	turns(5);
	assert_int_equal(run_count, 11);
	assert_int_equal(queue_flush(w->queue, "nothing"), 0);
	assert_int_equal(queue_flush(w->queue, NULL), 10);
	turns(20);
	assert_int_equal(run_count, 21);
	const char *after = "";
	for (int i = 0; i < 10;) {
		size_t n = queue_list(w->queue, after, items, 4);
		assert_int_equal(n, i < 8 ? 4 : 2);
		for (size_t k = 0; k < n; k++)
			assert_string_equal(items[k].id, id[i++]);
		after = id[i - 1];
	}
	assert_int_equal(queue_list(w->queue, id[9], items, 4), 0);
	assert_in_range((uintmax_t)(items[0].next - wall_s), 50, 130);
}

/* As soon as the server runs: what it has yet to find is due, too. */
static void test_flush_before_the_scan(void **state)
{
	struct world *w = *state;
	answer = "451";
	for (int i = 0; i < 3; i++)
		put(w, "a@here.test", "user@far.test", NULL);
	turns(20);
	assert_int_equal(run_count, 3);
	world_restart(w);
	assert_int_equal(run_count, 0);
	world_close(w);
	world_begin(w);
	assert_int_equal(queue_flush(w->queue, NULL), 0);
	turns(20);
	assert_int_equal(run_count, 3);
}

static bool drained;

static void on_idle(void *arg)
{
	(void)arg;
	drained = true;
}

static void test_drain(void **state)
{
	struct world *w = *state;
	drained = false;
	for (int i = 0; i < 5; i++)
		put(w, "a@here.test", "user@far.test", NULL);
	assert_int_equal(open_runs(), 3);
	queue_drain(w->queue, on_idle, NULL);
	turns(5);
	assert_false(drained);
	for (size_t i = 0; i < 3; i++)
		answer_run(&runs[i], 250, NULL);
	turns(5);
	assert_true(drained);
	assert_int_equal(run_count, 3);
}

static void test_idle_wakes_nobody(void **state)
{
	struct world *w = *state;
	answer = "451";
	put(w, "a@here.test", "user@far.test", NULL);
	turns(10);
	size_t before = run_count;
	pass(50);
	assert_int_equal(run_count, before);
	assert_int_equal(queue_length(w->queue), 1);
}

#if WITH_TLS

/* ---- senders ---- */

/* When is the sender rewritten, and at which domain? at NULL: it stays. */
static const struct sender_case {
	const char *from;
	const char *address;
	const char *original;
	enum rcpt_type type;
	bool submitted;
	bool off;
	const char *at;
} sender_cases[] = {
    {"a@far.test", "b@away.test", "u@here.test", RCPT_EMAIL, false, false, "here.test"},
    {"a@far.test", "b@away.test", "u@second.test", RCPT_EMAIL, false, false, "second.test"},
    {"a@far.test", "b@away.test", "u@here.test", RCPT_FORWARD, false, false, "here.test"},
    {"\"a b\"@far.test", "b@away.test", "\"u@x\"@here.test", RCPT_EMAIL, false, false, "here.test"},
    {"SRS0=a=b=c.test=d@far.test", "b@away.test", "u@here.test", RCPT_EMAIL, false, false,
     "here.test"},
    /* srs is off */
    {"a@far.test", "b@away.test", "u@here.test", RCPT_EMAIL, false, true, NULL},
    /* a login, or this machine */
    {"a@far.test", "b@away.test", "u@here.test", RCPT_EMAIL, true, false, NULL},
    /* the null sender, a sender of ours, one that cannot be read */
    {"<>", "b@away.test", "u@here.test", RCPT_EMAIL, false, false, NULL},
    {"a@here.test", "b@away.test", "u@here.test", RCPT_EMAIL, false, false, NULL},
    {"a@second.test", "b@away.test", "u@here.test", RCPT_EMAIL, false, false, NULL},
    {"no address", "b@away.test", "u@here.test", RCPT_EMAIL, false, false, NULL},
    /* a masquerade rule has its say: see the configuration */
    {"device@lan.test", "b@away.test", "u@here.test", RCPT_EMAIL, false, false, NULL},
    /* a relay for a trusted host: nobody of ours was addressed */
    {"a@far.test", "b@away.test", "b@away.test", RCPT_EMAIL, false, false, NULL},
    {"a@far.test", "b@away.test", "c@elsewhere.test", RCPT_EMAIL, false, false, NULL},
    {"a@far.test", "b@away.test", "postmaster", RCPT_EMAIL, false, false, NULL},
    /* mail of ours that goes on by other hosts */
    {"a@far.test", "u@here.test", "u@here.test", RCPT_FORWARD, false, false, NULL},
    {"a@far.test", "u@second.test", "u@here.test", RCPT_FORWARD, false, false, NULL},
    /* no way back */
    {"a@far.test", "b@away.test", "u@localhost", RCPT_EMAIL, false, false, NULL},
    /* here, and to a program */
    {"a@far.test", "v@here.test", "u@here.test", RCPT_EMAIL, false, false, NULL},
    {"a@far.test", "/bin/x a@far.test", "u@here.test", RCPT_PIPE, false, false, NULL},
    /* too long */
    {"a.sender.whose.name.is.very.long@a.domain.that.is.long.too.test", "b@away.test",
     "u@here.test", RCPT_EMAIL, false, false, NULL},
};

static void check_sender(const struct world *w, const struct sender_case *c, const char *from)
{
	struct addr rewritten;
	struct addr back;
	struct status st;
	char text[ADDR_TEXT_MAX];
	if (!c->at) {
		assert_string_equal(from, c->from);
		return;
	}
	assert_int_equal(addr_parse(slice_of(from), &rewritten), 0);
	assert_string_equal(rewritten.domain, c->at);
	assert_int_equal(srs_reverse(w->srs, rewritten.user, wall_s, &back, &st), 0);
	assert_int_equal(addr_format(&back, text, sizeof text), 0);
	assert_string_equal(text, c->from);
}

static void masquerade_device(struct world *w)
{
	static struct conf_masquerade rule = {.from = {.domain = (char *)"lan.test"},
	                                      .to = {.user = "device", .domain = "here.test"}};
	w->conf.masquerades = (struct conf_masquerades){&rule, 1};
}

static void test_senders(void **state)
{
	struct world *w = *state;
	masquerade_device(w);
	answer = NULL;
	for (size_t i = 0; i < sizeof sender_cases / sizeof *sender_cases; i++) {
		const struct sender_case *c = &sender_cases[i];
		if (c->off) {
			queue_free(w->queue);
			world_queue(w, NULL);
		}
		struct envelope env = {.submitted = c->submitted};
		assert_int_equal(envelope_set_from(&env, c->from), 0);
		assert_int_equal(envelope_add_rcpt(&env, c->type, c->address, c->original,
		                                   c->type == RCPT_FORWARD ? "v.test" : NULL),
		                 0);
		size_t before = run_count;
		put_envelope(w, &env, NULL);
		assert_int_equal(run_count, before + 1);
		check_sender(w, c, runs[before].from);
		answer_run(&runs[before], 250, NULL);
		turns(4);
		assert_int_equal(queue_length(w->queue), 0);
		if (c->off)
			world_restart(w);
	}
}

/* Recipients with different ways back go apart; the sender has a new day with each try, and a
 * notification goes to the true one. */
static void test_senders_of_a_group(void **state)
{
	struct world *w = *state;
	struct envelope env = {.from = NULL};
	static const char *const original[] = {"u@here.test", "v@here.test", "b2@away.test",
	                                       "u@second.test", "w@here.test"};
	assert_int_equal(envelope_set_from(&env, "a@far.test"), 0);
	for (size_t i = 0; i < 5; i++) {
		char address[32];
		snprintf(address, sizeof address, "b%zu@away.test", i);
		assert_int_equal(envelope_add_rcpt(&env, RCPT_EMAIL, address, original[i], NULL),
		                 0);
	}
	put_envelope(w, &env, NULL);
	assert_int_equal(run_count, 3);
	assert_string_equal(run_for("b2@away.test")->from, "a@far.test");
	assert_int_equal(run_for("b2@away.test")->count, 1);
	struct run *r = run_for("b0@away.test");
	assert_int_equal(r->count, 3);
	assert_non_null(strstr(r->from, "@here.test"));
	assert_int_equal(run_for("b3@away.test")->count, 1);
	assert_non_null(strstr(run_for("b3@away.test")->from, "@second.test"));
	char first[ADDR_TEXT_MAX];
	snprintf(first, sizeof first, "%s", r->from);
	for (size_t i = 0; i < 3; i++)
		answer_run(&runs[i], &runs[i] == r ? 450 : 250, NULL);
	wall_s += 24 * HOUR; /* the clock alone: the message is not too old */
	pass(2 * MINUTE);
	r = run_for("b0@away.test");
	assert_int_equal(run_count, 4);
	assert_non_null(strstr(r->from, "@here.test"));
	assert_string_not_equal(r->from, first);
	answer_run(r, 550, "5.1.1");
	turns(10);
	assert_int_equal(run_count, 5);
	assert_string_equal(runs[4].rcpt, "a@far.test");
	assert_string_equal(runs[4].from, "<>");
	answer_run(&runs[4], 250, NULL);
	turns(4);
}

#endif

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delay_table),
		T(test_routes),
		T(test_sent_is_removed),
		T(test_one_transaction_a_domain),
		T(test_one_transaction_for_local),
		T(test_one_transaction_a_smarthost),
		T(test_retry_follows_table),
		T(test_gives_up),
		T(test_failure_bounces),
		T(test_damage_is_told),
		T(test_null_sender_gets_no_bounce),
		T(test_bounce_needs_disk),
		T(test_full_disk_makes_no_double),
		T(test_restart_remembers),
		T(test_stop_records_verdicts),
		T(test_clock_jumps_do_not_bounce),
		T(test_future_message_is_new),
		T(test_old_message_is_tried),
		T(test_clock_leaps_years),
		T(test_lane_limits),
		T(test_dead_hosts_leave_room),
		T(test_dead_hosts_make_room),
		T(test_a_slow_server_hurries_nobody),
		T(test_last_try_is_waited_for),
		T(test_cut_gives_nobody_up),
		T(test_failing_lane_shrinks),
		T(test_lanes_share),
		T(test_failing_lanes_leave_room),
		T(test_failing_lane_puts_off),
		T(test_put_off_is_no_refusal),
		T(test_parked_expire),
		T(test_parked_outlive_their_lane),
		T(test_kept_without_file_is_forgotten),
		T(test_group_waits_in_lane),
		T(test_refused_start_is_transient),
		T(test_reserve_bounds_the_queue),
		T(test_flush_and_list),
		T(test_flush_before_the_scan),
		T(test_drain),
		T(test_idle_wakes_nobody),
#if WITH_TLS
		T(test_senders),
		T(test_senders_of_a_group),
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
