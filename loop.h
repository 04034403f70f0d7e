/* loop: the select() loop: descriptors, timers, signals, children, batches. One per process. */
#ifndef LOOP_H
#define LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LOOP_READ  1U
#define LOOP_WRITE 2U

/* A watched descriptor, embedded in its owner. Clear it with loop_fd_init. */
struct loop_fd {
	int fd; /* -1 when not watched */
	unsigned want;
	void (*ready)(void *arg, unsigned events);
	void *arg;
	bool last; /* served after all others of a turn: listening sockets */
};

/* A timer, embedded in its owner; the links are those of a pairing heap, so setting one needs no
 * memory and cannot fail. */
struct loop_timer {
	int64_t due; /* monotonic us */
	struct loop_timer *child;
	struct loop_timer *next; /* next sibling */
	struct loop_timer *prev; /* previous sibling, or the parent for a first child */
	bool set;
	void (*fire)(void *arg);
	void *arg;
};

/* A child process being waited for, embedded in its owner. */
struct loop_child {
	pid_t pid; /* 0 when not waited for */
	void (*ended)(void *arg, int wait_status);
	void *arg;
	struct loop_child *next;
};

/*
 * Work gathered during turns and done once at the end of one: `run` is called at the end of the
 * first turn after loop_batch_ask() in which no descriptor was ready, or most_us microseconds after
 * the asking, whichever is first.
 */
struct loop_batch {
	void (*run)(void *arg);
	void *arg;
	int64_t most_us; /* LOOP_BATCH_US, until the owner says otherwise */
	bool asked;
	int64_t asked_us;
	struct loop_batch *next;
};

/* Creates the self-pipe and clears all state; raises RLIMIT_NOFILE to at most FD_SETSIZE; makes
 * this process the one that reaps what its children leave behind (Linux). Returns 0, or -1 with
 * errno. SIGPIPE is ignored from here on. */
int loop_init(void);

/* The number of the turn: another one in each. */
unsigned loop_turn_number(void);

/* Forgets everything and closes the self-pipe (for tests and leak checks). */
void loop_done(void);

/* Runs turns until loop_stop() was called. Returns 0, or -1 with errno if select() itself fails. */
int loop_run(void);

/* Runs one turn that waits at most wait_ms (-1: until something happens). For tests. */
int loop_turn(int wait_ms);

void loop_stop(void);

/* Monotonic time in ms and us, read once a turn. */
int64_t loop_now(void);
int64_t loop_now_us(void);

/* Reads the clock again now. After work that took long. */
void loop_refresh(void);

/* How many more descriptors fit below both FD_SETSIZE and RLIMIT_NOFILE. */
int loop_fd_room(void);

/* Sets up an unwatched struct. */
void loop_fd_init(struct loop_fd *w, void (*ready)(void *, unsigned), void *arg);

/* Starts watching fd for `want`. Returns 0, or -1 (EMFILE) when fd >= FD_SETSIZE: the caller
 * closes it. The fd stays the caller's. */
int loop_fd_watch(struct loop_fd *w, int fd, unsigned want);

/* Changes the interest; 0 means none for now. */
void loop_fd_want(struct loop_fd *w, unsigned want);

/* Stops watching; call before closing the fd. No callback comes any more, not even this turn. */
void loop_fd_unwatch(struct loop_fd *w);

/* Timers: set (or move) to fire in ms from now, next turn at the earliest. The timer is unlinked
 * before fire is called. loop_timer_stop is harmless on a timer that is not set. */
void loop_timer_init(struct loop_timer *t, void (*fire)(void *), void *arg);
void loop_timer_set(struct loop_timer *t, int64_t ms);
void loop_timer_stop(struct loop_timer *t);
bool loop_timer_is_set(const struct loop_timer *t);

/* Calls got(signo) from the loop when the signal arrives. Returns 0, or -1 with errno. */
int loop_signal(int signo, void (*got)(int signo));

/* Waits for c->pid; `ended` is called once, from the loop, with waitpid's status. */
void loop_child_watch(struct loop_child *c, pid_t pid, void (*ended)(void *, int), void *arg);
void loop_child_unwatch(struct loop_child *c);

/* Batches; see the struct. Asking twice is asking once. */
void loop_batch_init(struct loop_batch *b, void (*run)(void *), void *arg);
void loop_batch_ask(struct loop_batch *b);
void loop_batch_stop(struct loop_batch *b);

#endif
