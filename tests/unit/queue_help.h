/* queue_help: a queue over a spool in a temporary directory, with a clock, a disk and couriers that
 * do as they are told. For tests. */
#ifndef QUEUE_HELP_H
#define QUEUE_HELP_H

#include "queue.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "disk.h"
#include "log.h"
#include "loop.h"
#include "temp_dir.h"

/* ---- the world: a clock and a disk that obey the test ---- */

#define MINUTE   60
#define HOUR     3600
#define THE_DAY  1800000000LL /* a believable wall clock */
#define RUNS_MAX 4096

static int64_t mono_us = 1000000;
static int64_t wall_s = THE_DAY;
static bool disk_is_full;

int clock_gettime(clockid_t id, struct timespec *ts)
{
	if (id == CLOCK_REALTIME)
		*ts = (struct timespec){.tv_sec = (time_t)wall_s};
	else
		*ts = (struct timespec){.tv_sec = (time_t)(mono_us / 1000000),
		                        .tv_nsec = (long)(mono_us % 1000000) * 1000};
	return 0;
}

ssize_t write(int fd, const void *p, size_t n)
{
	struct stat s;
	if (disk_is_full && fstat(fd, &s) == 0 && S_ISREG(s.st_mode)) {
		errno = ENOSPC;
		return -1;
	}
	return (ssize_t)syscall(SYS_write, fd, p, n);
}

static inline void turns(int n)
{
	while (n-- > 0) {
		mono_us += 100;
		loop_turn(0);
	}
}

/* Lets time pass in steps of a second, both clocks alike. */
static inline void pass(int64_t seconds)
{
	while (seconds-- > 0) {
		mono_us += 1000000;
		wall_s++;
		turns(2);
	}
}

/* ---- a courier that does as it is told ---- */

struct run {
	struct delivery *d;
	char rcpt[200];
	char from[ADDR_TEXT_MAX];
	size_t count;
	int64_t at; /* monotonic s */
	bool open;
	bool answered; /* somebody was reached */
};

static struct run runs[RUNS_MAX];
static size_t run_count;
static size_t stops;
static int refuse_starts;
static const char *answer; /* given at once from the loop; NULL: the test answers */

static inline void answer_run(struct run *r, int code, const char *enh)
{
	struct status st;
	struct delivery *d = r->d;
	size_t count = d->count;
	r->open = false;
	status_set(&st, code, enh, "answer %d", code);
	for (size_t i = 0; i < count; i++)
		d->verdict(d, d->rcpts[i], &st, "peer.test [192.0.2.1]:25 PLAIN");
	d->done(d);
}

static struct loop_timer answer_timer;

static inline void answer_open(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < run_count; i++)
		if (runs[i].open && answer)
			answer_run(&runs[i], atoi(answer), answer[0] == '5' ? "5.1.1" : NULL);
}

static inline int fake_start(void *self, struct delivery *d, struct status *st)
{
	(void)self;
	if (refuse_starts > 0) {
		refuse_starts--;
		status_set(st, 451, "4.3.0", "not now");
		return -1;
	}
	assert_true(run_count < RUNS_MAX);
	struct run *r = &runs[run_count++];
	*r = (struct run){.d = d, .count = d->count, .at = mono_us / 1000000, .open = true};
	snprintf(r->rcpt, sizeof r->rcpt, "%s", d->env->rcpt[d->rcpts[0]].address);
	snprintf(r->from, sizeof r->from, "%s", d->from);
	assert_int_equal(d->rewritten, strcmp(d->from, d->env->from) != 0);
	if (answer)
		loop_timer_set(&answer_timer, 0);
	return 0;
}

static inline void fake_stop(void *self, struct delivery *d)
{
	(void)self;
	stops++;
	for (size_t i = 0; i < run_count; i++)
		if (runs[i].d == d)
			runs[i].open = false;
}

static inline int64_t fake_quiet_since(void *self, const struct delivery *d)
{
	(void)self;
	for (size_t i = run_count; i-- > 0;)
		if (runs[i].d == d)
			return runs[i].answered ? INT64_MAX : runs[i].at * 1000;
	return INT64_MAX;
}

static inline struct courier fake_courier(const char *name, unsigned parallel, bool batch)
{
	return (struct courier){.name = name,
	                        .start = fake_start,
	                        .stop = fake_stop,
	                        .parallel = parallel,
	                        .batch = batch};
}

/* As a courier whose hosts could not be reached. */
static inline void fail_run(struct run *r)
{
	r->d->unreached = true;
	answer_run(r, 451, "4.4.1");
}

/* ---- set-up ---- */

struct world {
	char dir[TEMP_DIR_MAX];
	struct conf conf;
	struct conf_domain domain[3];
	bool batch; /* local recipients go together */
	struct spool *spool;
	struct srs *srs;
	struct hold *hold;
	struct courier local, pipe, remote;
	struct queue *queue;
};

static inline void world_queue(struct world *w, struct srs *srs)
{
	const struct queue_setup setup = {.spool = w->spool,
	                                  .conf = &w->conf,
	                                  .couriers = {&w->local, &w->pipe, &w->remote},
	                                  .srs = srs,
	                                  .hold = w->hold};
	w->queue = queue_new(&setup);
	assert_non_null(w->queue);
}

/* With the scan still to come. */
static inline void world_begin(struct world *w)
{
	struct status st;
	run_count = stops = 0;
	refuse_starts = 0;
	assert_int_equal(loop_init(), 0);
	disk_init();
	loop_timer_init(&answer_timer, answer_open, NULL);
	w->spool = spool_open(w->dir, &st);
	assert_non_null(w->spool);
	w->srs = srs_open(w->dir, &st);
	assert_int_equal(w->srs != NULL, WITH_TLS);
	w->hold = hold_open(w->dir, &st);
	assert_non_null(w->hold);
	w->local = fake_courier("local", 4, w->batch);
	w->pipe = fake_courier("pipe", 2, false);
	w->remote = fake_courier("remote", 3, true);
	w->remote.quiet_since = fake_quiet_since;
	world_queue(w, w->srs);
}

static inline void world_open(struct world *w)
{
	world_begin(w);
	turns(20);
}

static inline void world_close(struct world *w)
{
	queue_free(w->queue);
	disk_sync_now();
	spool_close(w->spool);
	srs_close(w->srs);
	hold_close(w->hold);
	loop_done();
}

static inline void world_restart(struct world *w)
{
	world_close(w);
	world_open(w);
}

static inline int set_up(void **state)
{
	static struct world w;
	memset(&w, 0, sizeof w);
	mono_us = 1000000;
	wall_s = THE_DAY;
	disk_is_full = false;
	answer = NULL;
	log_level_now = LOG_LEVEL_ERROR;
	log_to(open("/dev/null", O_WRONLY | O_CLOEXEC));
	assert_int_equal(temp_dir_make(w.dir, sizeof w.dir), 0);
	w.domain[0] = (struct conf_domain){.name = (char *)"here.test"};
	w.domain[1] = (struct conf_domain){.name = (char *)"localhost"};
	w.domain[2] = (struct conf_domain){.name = (char *)"second.test"};
	w.conf = (struct conf){.hostname = (char *)"mx.here.test",
	                       .max_queue_items = 200,
	                       .give_up_send_after = 20 * HOUR,
	                       .suffix_separators = (char *)"+",
	                       .drop_characters = (char *)".",
	                       .domain = w.domain,
	                       .domain_count = 3};
	/* Every message a file at once, to be seen: a journal's name that is taken leaves none. */
	char path[128];
	snprintf(path, sizeof path, "%s/queue", w.dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof path, "%s/queue/.journal.0", w.dir);
	assert_int_equal(mkdir(path, 0700), 0);
	world_open(&w);
	*state = &w;
	return 0;
}

static inline int tear_down(void **state)
{
	struct world *w = *state;
	disk_is_full = false;
	world_close(w);
	return temp_dir_remove();
}

/* ---- messages ---- */

static bool put_done;

static inline void on_put(void *arg, const char *id, const struct status *st)
{
	(void)id;
	assert_int_equal(status_class(st), STATUS_DONE);
	put_done = true;
	(void)arg;
}

/* Queues the message of an envelope, which is cleared. */
static inline void put_envelope(struct world *w, struct envelope *env, char id[SPOOL_ID_MAX + 1])
{
	struct status st;
	assert_int_equal(queue_reserve(w->queue, &st), 0);
	struct spool_writer *writer = spool_begin(w->spool, env, &st);
	assert_non_null(writer);
	static const char content[] = "Subject: x\r\nMessage-ID: <1@x>\r\n\r\nbody\r\n";
	spool_append(writer, content, sizeof content - 1);
	put_done = false;
	spool_commit(writer, on_put, NULL);
	while (!put_done)
		turns(1);
	queue_release(w->queue);
	if (id)
		memcpy(id, env->id, sizeof env->id);
	envelope_clear(env);
	turns(4);
}

/* Queues a message; to is a list of addresses separated by blanks, "|x" for a pipe. */
static inline void put(struct world *w, const char *from, const char *to, char id[SPOOL_ID_MAX + 1])
{
	struct envelope env = {.from = NULL};
	char list[4096];
	char *save = NULL;
	snprintf(list, sizeof list, "%s", to);
	assert_int_equal(envelope_set_from(&env, from), 0);
	for (char *t = strtok_r(list, " ", &save); t; t = strtok_r(NULL, " ", &save)) {
		enum rcpt_type type = *t == '|' ? RCPT_PIPE : RCPT_EMAIL;
		const char *original = *t == '|' ? "pipe@here.test" : t;
		assert_int_equal(envelope_add_to(&env, original), 0);
		assert_int_equal(
		    envelope_add_rcpt(&env, type, *t == '|' ? t + 1 : t, original, NULL), 0);
	}
	put_envelope(w, &env, id);
}

static inline size_t open_runs(void)
{
	size_t n = 0;
	for (size_t i = 0; i < run_count; i++)
		n += runs[i].open;
	return n;
}

static inline bool on_disk(const struct world *w, const char *id)
{
	char path[1000];
	struct stat s;
	snprintf(path, sizeof path, "%s/queue/m:%s", w->dir, id);
	return stat(path, &s) == 0;
}

static inline struct run *run_for(const char *rcpt)
{
	for (size_t i = run_count; i-- > 0;)
		if (strcmp(runs[i].rcpt, rcpt) == 0)
			return &runs[i];
	fail_msg("nothing was tried for %s", rcpt);
	return runs; /* not reached */
}

#endif
