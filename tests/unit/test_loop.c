/* test_loop: the rules at the head of loop.c, each with a case that would break it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "loop.h"
#include "self.h"

static int setup(void **state)
{
	(void)state;
	return loop_init();
}

static int teardown(void **state)
{
	(void)state;
	loop_done();
	return 0;
}

static void turn(void)
{
	assert_int_equal(loop_turn(0), 0);
}

static void wait_a_ms(void)
{
	usleep(1100);
}

static void count(void *arg)
{
	++*(int *)arg;
}

static void unexpected(void *arg)
{
	(void)arg;
	fail();
}

/* ---- timers ---- */

#define TIMERS 300

static struct model {
	struct loop_timer timer;
	int64_t due;
} model[TIMERS];
static int64_t fired_due;
static int fired_count;

static void model_fired(void *arg)
{
	struct model *m = arg;
	assert_false(loop_timer_is_set(&m->timer));
	assert_true(m->due >= fired_due); /* in order */
	assert_true(m->due <= loop_now_us());
	fired_due = m->due;
	m->due = -1;
	fired_count++;
}

static void model_check(void)
{
	int64_t first = INT64_MAX;
	for (int i = 0; i < TIMERS; i++) {
		assert_int_equal(loop_timer_is_set(&model[i].timer), model[i].due >= 0);
		if (model[i].due >= 0 && model[i].due < first)
			first = model[i].due;
	}
	assert_true(first > loop_now_us()); /* nothing is overdue */
}

static void test_timers_against_model(void **state)
{
	(void)state;
	srand(3);
	for (int i = 0; i < TIMERS; i++) {
		loop_timer_init(&model[i].timer, model_fired, &model[i]);
		model[i].due = -1;
	}
	for (int round = 0; round < 400; round++) {
		for (int i = 0; i < 50; i++) {
			struct model *m = &model[rand() % TIMERS];
			if (rand() % 3 == 0) {
				loop_timer_stop(&m->timer);
				m->due = -1;
			} else {
				int64_t ms = rand() % 12 - 1;
				loop_timer_set(&m->timer, ms);
				m->due = loop_now_us() + (ms > 0 ? ms * 1000 : 1);
			}
		}
		if (round % 4 == 0)
			wait_a_ms();
		fired_due = 0;
		turn();
		model_check();
	}
	assert_true(fired_count > 1000);
	for (int i = 0; i < TIMERS; i++)
		loop_timer_stop(&model[i].timer);
}

struct again {
	struct loop_timer timer;
	int fired;
};

static void set_again(void *arg)
{
	struct again *a = arg;
	assert_false(loop_timer_is_set(&a->timer));
	a->fired++;
	if (a->fired % 2) {
		usleep(100);
		loop_refresh(); /* even when the clock goes on within the turn */
	}
	assert_true(a->fired < 1000);
	loop_timer_set(&a->timer, 0);
}

static void test_zero_timer_fires_next_turn(void **state)
{
	(void)state;
	struct again a = {.fired = 0};
	loop_timer_init(&a.timer, set_again, &a);
	loop_timer_set(&a.timer, 0);
	assert_int_equal(a.fired, 0);
	for (int i = 1; i <= 20; i++) {
		assert_int_equal(loop_turn(1000), 0);
		assert_int_equal(a.fired, i);
	}
	loop_timer_stop(&a.timer);
	loop_timer_stop(&a.timer);
	wait_a_ms();
	turn();
	assert_int_equal(a.fired, 20);
}

static struct loop_timer pair[2];

static void stop_the_other(void *arg)
{
	int *fired = arg;
	++*fired;
	loop_timer_stop(&pair[0]);
	loop_timer_stop(&pair[1]);
}

static void test_timer_stops_another_that_is_due(void **state)
{
	(void)state;
	int fired = 0;
	for (int i = 0; i < 2; i++) {
		loop_timer_init(&pair[i], stop_the_other, &fired);
		loop_timer_set(&pair[i], 0);
	}
	wait_a_ms();
	turn();
	turn();
	assert_int_equal(fired, 1);
}

static void test_waits_for_the_first_timer(void **state)
{
	(void)state;
	int fired = 0;
	struct loop_timer t;
	loop_timer_init(&t, count, &fired);
	turn();
	loop_timer_set(&t, 30);
	int64_t start = now_ms();
	loop_refresh();
	while (!fired)
		assert_int_equal(loop_turn(-1), 0);
	assert_true(now_ms() - start >= 29);
	assert_true(now_ms() - start < 2000);
	/* Moved: only the new time counts. */
	loop_timer_set(&t, 1);
	loop_timer_set(&t, 100000);
	wait_a_ms();
	turn();
	assert_int_equal(fired, 1);
	loop_timer_stop(&t);
}

static void stop_loop(void *arg)
{
	(void)arg;
	loop_stop();
}

static void test_run_and_stop(void **state)
{
	(void)state;
	struct loop_timer t;
	loop_timer_init(&t, stop_loop, NULL);
	for (int i = 0; i < 3; i++) {
		loop_timer_set(&t, 1);
		assert_int_equal(loop_run(), 0);
	}
}

/* ---- descriptors ---- */

struct end {
	struct loop_fd watch;
	int fd;
	int ready;
	unsigned events;
};

static struct end ends[8];
static int order[64];
static int order_count;

static void end_ready(void *arg, unsigned events)
{
	struct end *e = arg;
	e->ready++;
	e->events = events;
	order[order_count++] = (int)(e - ends);
}

/* A pipe whose read end is watched by ends[i]; what is written to the fd returned makes it ready.
 */
static int open_end(int i)
{
	int p[2];
	assert_int_equal(pipe2(p, O_NONBLOCK | O_CLOEXEC), 0);
	ends[i] = (struct end){.fd = p[0]};
	loop_fd_init(&ends[i].watch, end_ready, &ends[i]);
	assert_int_equal(loop_fd_watch(&ends[i].watch, p[0], LOOP_READ), 0);
	order_count = 0;
	return p[1];
}

static void close_end(int i, int writer)
{
	loop_fd_unwatch(&ends[i].watch);
	loop_fd_unwatch(&ends[i].watch);
	close(ends[i].fd);
	close(writer);
}

static void test_readiness(void **state)
{
	(void)state;
	int w = open_end(0);
	turn();
	assert_int_equal(ends[0].ready, 0);
	assert_int_equal(write(w, "x", 1), 1);
	turn();
	turn(); /* as long as it is there */
	assert_int_equal(ends[0].ready, 2);
	assert_int_equal(ends[0].events, LOOP_READ);
	loop_fd_want(&ends[0].watch, 0);
	turn();
	assert_int_equal(ends[0].ready, 2);
	loop_fd_want(&ends[0].watch, LOOP_READ);
	turn();
	assert_int_equal(ends[0].ready, 3);
	struct end out = {.fd = w};
	loop_fd_init(&out.watch, end_ready, &out);
	assert_int_equal(loop_fd_watch(&out.watch, w, LOOP_WRITE), 0);
	order_count = 0;
	loop_fd_want(&ends[0].watch, 0);
	loop_fd_want(&out.watch, LOOP_READ | LOOP_WRITE);
	turn();
	assert_true(out.events & LOOP_WRITE);
	loop_fd_unwatch(&out.watch);
	close_end(0, w);
}

static void test_last_is_served_last(void **state)
{
	(void)state;
	int w[4];
	for (int i = 0; i < 4; i++)
		w[i] = open_end(i);
	ends[0].watch.last = ends[2].watch.last = true;
	for (int i = 0; i < 4; i++)
		assert_int_equal(write(w[i], "x", 1), 1);
	turn();
	static const int want[] = {1, 3, 0, 2};
	assert_int_equal(order_count, 4);
	assert_memory_equal(order, want, sizeof want);
	for (int i = 0; i < 4; i++)
		close_end(i, w[i]);
}

static void drop_second(void *arg, unsigned events)
{
	struct end *other = arg;
	assert_int_equal(events, LOOP_READ);
	loop_fd_unwatch(&other->watch);
}

static void test_unwatched_gets_no_event(void **state)
{
	(void)state;
	int w0 = open_end(0);
	int w1 = open_end(1);
	ends[0].watch.ready = drop_second;
	ends[0].watch.arg = &ends[1];
	assert_int_equal(write(w0, "x", 1), 1);
	assert_int_equal(write(w1, "x", 1), 1);
	turn();
	assert_int_equal(ends[1].ready, 0);
	close_end(0, w0);
	close_end(1, w1);
}

static int reopened_writer;

/* Closes the other's descriptor and opens a new one, not ready, under the same number. */
static void reopen_second(void *arg, unsigned events)
{
	struct end *e = arg;
	int number = ends[1].fd;
	int p[2];
	(void)events;
	loop_fd_unwatch(&ends[1].watch);
	close(number);
	assert_int_equal(pipe2(p, O_NONBLOCK), 0);
	if (p[0] != number) {
		assert_int_equal(dup2(p[0], number), number);
		close(p[0]);
	}
	reopened_writer = p[1];
	assert_int_equal(loop_fd_watch(&ends[1].watch, number, LOOP_READ), 0);
	loop_fd_want(&e->watch, 0);
}

static void test_same_number_within_a_turn(void **state)
{
	(void)state;
	int w0 = open_end(0);
	int w1 = open_end(1);
	ends[0].watch.ready = reopen_second;
	assert_int_equal(write(w0, "x", 1), 1);
	assert_int_equal(write(w1, "x", 1), 1);
	turn();
	assert_int_equal(ends[1].ready, 0); /* the readiness was the old one's */
	turn();
	assert_int_equal(ends[1].ready, 0);
	assert_int_equal(write(reopened_writer, "x", 1), 1);
	turn();
	assert_int_equal(ends[1].ready, 1);
	close(reopened_writer);
	close_end(0, w0);
	close_end(1, w1);
}

static void test_no_descriptor_past_fd_setsize(void **state)
{
	(void)state;
	struct rlimit rl;
	struct rlimit old;
	struct loop_fd w;
	loop_fd_init(&w, end_ready, NULL);
	assert_int_equal(loop_fd_watch(&w, FD_SETSIZE, LOOP_READ), -1);
	assert_int_equal(errno, EMFILE);
	assert_int_equal(w.fd, -1);
	assert_int_equal(loop_fd_watch(&w, -1, LOOP_READ), -1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	assert_true(old.rlim_cur <= FD_SETSIZE);
	rl = old;
	rl.rlim_cur = FD_SETSIZE + 16;
	if (rl.rlim_max >= rl.rlim_cur && setrlimit(RLIMIT_NOFILE, &rl) == 0) {
		int fd = fcntl(0, F_DUPFD, FD_SETSIZE);
		assert_int_equal(fd, FD_SETSIZE);
		assert_int_equal(loop_fd_watch(&w, fd, LOOP_READ), -1);
		close(fd);
		setrlimit(RLIMIT_NOFILE, &old);
	}
	if (old.rlim_max >= FD_SETSIZE) {
		int fd = fcntl(0, F_DUPFD, FD_SETSIZE - 1);
		assert_int_equal(fd, FD_SETSIZE - 1);
		assert_int_equal(loop_fd_watch(&w, fd, 0), 0);
		turn();
		loop_fd_unwatch(&w);
		close(fd);
	}
}

static void test_one_watcher_a_descriptor(void **state)
{
	(void)state;
	struct loop_fd second;
	int w = open_end(0);
	loop_fd_init(&second, end_ready, NULL);
	assert_int_equal(loop_fd_watch(&second, ends[0].fd, LOOP_READ), -1);
	assert_int_equal(write(w, "x", 1), 1);
	turn();
	assert_int_equal(ends[0].ready, 1);
	close_end(0, w);
}

static void test_fd_room(void **state)
{
	(void)state;
	struct rlimit rl;
	struct rlimit old;
	int before = loop_fd_room();
	int w = open_end(0);
	assert_int_equal(loop_fd_room(), before - 1);
	close_end(0, w);
	assert_int_equal(loop_fd_room(), before);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	rl = old;
	rl.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
	assert_true(loop_fd_room() <= 64);
	setrlimit(RLIMIT_NOFILE, &old);
}

/* ---- signals and children ---- */

static int got_signals[NSIG];

static void got_signal(int signo)
{
	got_signals[signo]++;
}

static void test_signals(void **state)
{
	(void)state;
	assert_int_equal(loop_signal(SIGUSR1, got_signal), 0);
	assert_int_equal(loop_signal(SIGHUP, got_signal), 0);
	assert_int_equal(loop_signal(SIGKILL, got_signal), -1);
	/* As many as fit into no pipe: the loop is not blocked, and hears of it. */
	for (int i = 0; i < 100000; i++)
		raise(SIGUSR1);
	assert_int_equal(got_signals[SIGUSR1], 0);
	assert_int_equal(loop_turn(5000), 0);
	assert_int_equal(got_signals[SIGUSR1], 1);
	raise(SIGHUP);
	raise(SIGUSR1);
	assert_int_equal(loop_turn(5000), 0);
	assert_int_equal(got_signals[SIGHUP], 1);
	assert_int_equal(got_signals[SIGUSR1], 2);
	turn();
	assert_int_equal(got_signals[SIGUSR1], 2);
	/* A signal in the middle of the waiting ends it. */
	if (fork() == 0) {
		usleep(50000);
		kill(getppid(), SIGUSR1);
		_exit(0);
	}
	int64_t start = now_ms();
	while (got_signals[SIGUSR1] < 3 && now_ms() - start < 10000)
		assert_int_equal(loop_turn(10000), 0);
	assert_int_equal(got_signals[SIGUSR1], 3);
	assert_true(now_ms() - start < 5000);
	raise(SIGPIPE); /* ignored */
	while (waitpid(-1, NULL, 0) > 0) {
	}
}

struct child {
	struct loop_child watch;
	int ended;
	int status;
	struct child *drop;
};

static void child_ended(void *arg, int wait_status)
{
	struct child *c = arg;
	assert_int_equal(c->watch.pid, 0);
	c->ended++;
	c->status = wait_status;
	if (c->drop)
		loop_child_unwatch(&c->drop->watch);
}

static pid_t start_child(int how)
{
	pid_t pid = fork();
	if (pid == 0) {
		if (how < 0)
			raise(-how);
		_exit(how);
	}
	assert_true(pid > 0);
	return pid;
}

static void test_children(void **state)
{
	(void)state;
	struct child c[20] = {0};
	int all = 0;
	for (int i = 0; i < 20; i++)
		loop_child_watch(&c[i].watch, start_child(i == 19 ? -SIGKILL : i), child_ended,
		                 &c[i]);
	int64_t end = now_ms() + 10000;
	while (all < 20 && now_ms() < end) {
		assert_int_equal(loop_turn(100), 0);
		all = 0;
		for (int i = 0; i < 20; i++)
			all += c[i].ended;
	}
	for (int i = 0; i < 19; i++) {
		assert_int_equal(c[i].ended, 1);
		assert_int_equal(WEXITSTATUS(c[i].status), i);
	}
	assert_true(WIFSIGNALED(c[19].status));
}

/* Runs the loop until no child is left. */
static void reap_all(void)
{
	siginfo_t si;
	int64_t end = now_ms() + 10000;
	while (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && now_ms() < end)
		loop_turn(10);
	assert_int_equal(errno, ECHILD);
}

static void test_child_unwatched(void **state)
{
	(void)state;
	struct child a = {.ended = 0};
	struct child b = {.ended = 0};
	loop_child_watch(&a.watch, start_child(0), child_ended, &a);
	loop_child_unwatch(&a.watch);
	loop_child_unwatch(&a.watch);
	reap_all(); /* no zombie stays, though nobody waits */
	assert_int_equal(a.ended, 0);
	/* Both have ended; whoever is told first takes the other's watch away. */
	a.drop = &b;
	b.drop = &a;
	loop_child_watch(&a.watch, start_child(1), child_ended, &a);
	loop_child_watch(&b.watch, start_child(2), child_ended, &b);
	usleep(50000);
	reap_all();
	assert_int_equal(a.ended + b.ended, 1);
}

/* ---- batches ---- */

static void test_batch_runs_when_quiet(void **state)
{
	(void)state;
	int runs = 0;
	struct loop_batch b;
	loop_batch_init(&b, count, &runs);
	turn();
	loop_batch_ask(&b);
	loop_batch_ask(&b);
	assert_int_equal(runs, 0);
	/* Waiting for it is not waiting for something to happen. */
	int64_t start = now_ms();
	assert_int_equal(loop_turn(-1), 0);
	assert_true(now_ms() - start < 1000);
	assert_int_equal(runs, 1);
	turn();
	assert_int_equal(runs, 1);
}

static void test_batch_waits_while_busy(void **state)
{
	(void)state;
	int runs = 0;
	struct loop_batch b;
	int w = open_end(0);
	assert_int_equal(write(w, "x", 1), 1); /* never read: always something to do */
	loop_batch_init(&b, count, &runs);
	turn();
	loop_batch_ask(&b);
	int64_t asked = loop_now_us();
	do {
		order_count = 0;
		turn();
		loop_refresh();
		if (!runs)
			assert_true(loop_now_us() - asked < LOOP_BATCH_US + 200000);
	} while (!runs);
	assert_true(loop_now_us() - asked >= LOOP_BATCH_US);
	assert_int_equal(runs, 1);
	close_end(0, w);
}

static struct loop_batch batches[3];
static int batch_runs[3];

static void batch_stops_others(void *arg)
{
	++*(int *)arg;
	for (int i = 0; i < 3; i++)
		loop_batch_stop(&batches[i]);
}

static void batch_renews_others(void *arg)
{
	++*(int *)arg;
	for (int i = 0; i < 3; i++) {
		loop_batch_stop(&batches[i]);
		loop_batch_ask(&batches[i]);
	}
}

static void ask_batches(void (*run)(void *))
{
	for (int i = 0; i < 3; i++) {
		loop_batch_init(&batches[i], run, &batch_runs[i]);
		loop_batch_ask(&batches[i]);
		batch_runs[i] = 0;
	}
}

static int all_batch_runs(void)
{
	return batch_runs[0] + batch_runs[1] + batch_runs[2];
}

static void test_batch_stopped_by_another(void **state)
{
	(void)state;
	turn();
	ask_batches(count);
	loop_batch_stop(&batches[1]);
	turn();
	assert_int_equal(all_batch_runs(), 2);
	assert_int_equal(batch_runs[1], 0);
	ask_batches(batch_stops_others);
	turn();
	turn();
	assert_int_equal(all_batch_runs(), 1);
	/* Stopped and asked again in the middle: runs next turn, each once. */
	ask_batches(batch_renews_others);
	turn();
	assert_int_equal(all_batch_runs(), 1);
	for (int i = 0; i < 3; i++)
		batches[i].run = count;
	turn();
	assert_int_equal(all_batch_runs(), 4);
	turn();
	assert_int_equal(all_batch_runs(), 4);
}

static void ask_again(void *arg)
{
	++*(int *)arg;
	loop_batch_ask(&batches[0]);
}

static void test_batch_asked_while_running(void **state)
{
	(void)state;
	int runs = 0;
	loop_batch_init(&batches[0], ask_again, &runs);
	loop_batch_ask(&batches[0]);
	for (int i = 1; i <= 5; i++) {
		turn();
		assert_int_equal(runs, i);
	}
	loop_batch_stop(&batches[0]);
}

static void test_init_again(void **state)
{
	(void)state;
	struct loop_timer t;
	struct loop_batch b;
	int w = open_end(0);
	assert_int_equal(write(w, "x", 1), 1);
	loop_timer_init(&t, unexpected, NULL);
	loop_timer_set(&t, 0);
	loop_batch_init(&b, unexpected, NULL);
	loop_batch_ask(&b);
	loop_done();
	loop_done();
	assert_int_equal(loop_init(), 0);
	wait_a_ms();
	turn();
	assert_int_equal(ends[0].ready, 0);
	close(ends[0].fd);
	close(w);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_timers_against_model),
	    CASE(test_zero_timer_fires_next_turn),
	    CASE(test_timer_stops_another_that_is_due),
	    CASE(test_waits_for_the_first_timer),
	    CASE(test_run_and_stop),
	    CASE(test_readiness),
	    CASE(test_last_is_served_last),
	    CASE(test_unwatched_gets_no_event),
	    CASE(test_same_number_within_a_turn),
	    CASE(test_no_descriptor_past_fd_setsize),
	    CASE(test_one_watcher_a_descriptor),
	    CASE(test_fd_room),
	    CASE(test_signals),
	    CASE(test_children),
	    CASE(test_child_unwatched),
	    CASE(test_batch_runs_when_quiet),
	    CASE(test_batch_waits_while_busy),
	    CASE(test_batch_stopped_by_another),
	    CASE(test_batch_asked_while_running),
	    CASE(test_init_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
