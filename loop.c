/*
 * loop: one select() for everything.
 *
 * The rules, each of which a known server broke once:
 *  - Time-outs use the monotonic clock; it is read once a turn.
 *  - A timer is unlinked before it fires; one that is set during a turn fires next turn at the
 *    earliest, so a timer that sets itself again cannot starve the descriptors.
 *  - Interest is looked at again before each callback: an earlier callback of the same turn may
 *    have closed the descriptor, or closed it and opened another under the same number.
 *  - Listening sockets are served last, when the turn's other work has freed what it could.
 *  - A descriptor at or past FD_SETSIZE is refused, never given to FD_SET.
 *  - Signals and children arrive through a self-pipe; handlers do nothing but write to it.
 *  - What goes out once a turn (loop_end.c) does so at its end, and before the disk is waited for.
 *  - No callback runs the loop.
 */
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "loop_end.h"

static struct {
	bool stop;
	int64_t now_us;
	struct loop_fd pipe_watch;
	struct loop_fd *fds[FD_SETSIZE];
	unsigned born[FD_SETSIZE]; /* the turn in which fds[i] was set */
	unsigned turn;
	int fd_end; /* one past the highest watched fd */
	int fd_count;
	fd_set reading;
	fd_set writing;
	struct loop_timer *timers;
	struct loop_child *children;
	struct loop_batch *batches;
	struct loop_batch *batches_due; /* those this turn is going to run */
	void (*on_signal[NSIG])(int);
} L;

/* Not in L: a value of its own would bring all of L's zeros into the file. */
static int loop_pipe[2] = {-1, -1};

static volatile sig_atomic_t loop_pending[NSIG];

void loop_refresh(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	L.now_us = (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t loop_now_us(void)
{
	return L.now_us;
}

int64_t loop_now(void)
{
	return L.now_us / 1000;
}

unsigned loop_turn_number(void)
{
	return L.turn;
}

/* ---- signals and children ---- */

static void loop_on_signal(int signo)
{
	int saved = errno;
	loop_pending[signo] = 1;
	/* A full pipe is fine: the wake-up is already in it. */
	if (write(loop_pipe[1], "", 1) < 0) {
	}
	errno = saved;
}

int loop_signal(int signo, void (*got)(int signo))
{
	struct sigaction sa = {.sa_handler = loop_on_signal, .sa_flags = SA_RESTART};
	sigemptyset(&sa.sa_mask);
	L.on_signal[signo] = got;
	return sigaction(signo, &sa, NULL);
}

void loop_child_watch(struct loop_child *c, pid_t pid, void (*ended)(void *, int), void *arg)
{
	*c = (struct loop_child){.pid = pid, .ended = ended, .arg = arg, .next = L.children};
	L.children = c;
}

void loop_child_unwatch(struct loop_child *c)
{
	for (struct loop_child **p = &L.children; *p; p = &(*p)->next) {
		if (*p == c) {
			*p = c->next;
			break;
		}
	}
	c->pid = 0;
	c->next = NULL;
}

/* Reaps every child that has ended, also those nobody watches any more. */
static void loop_reap(int signo)
{
	(void)signo;
	int wait_status;
	pid_t pid;
	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
		struct loop_child *c = L.children;
		while (c && c->pid != pid)
			c = c->next;
		if (!c)
			continue;
		loop_child_unwatch(c);
		c->ended(c->arg, wait_status);
	}
}

static void loop_pipe_ready(void *arg, unsigned events)
{
	(void)arg;
	(void)events;
	char junk[64];
	while (read(loop_pipe[0], junk, sizeof junk) > 0) {
	}
	for (int s = 1; s < NSIG; s++) {
		if (!loop_pending[s])
			continue;
		loop_pending[s] = 0;
		if (L.on_signal[s])
			L.on_signal[s](s);
	}
}

/* ---- start and end ---- */

static void loop_limit_fds(void)
{
	struct rlimit rl;
	if (getrlimit(RLIMIT_NOFILE, &rl))
		return;
	rlim_t want = FD_SETSIZE;
	if (rl.rlim_max != RLIM_INFINITY && rl.rlim_max < want)
		want = rl.rlim_max;
	if (rl.rlim_cur == want)
		return;
	rl.rlim_cur = want;
	setrlimit(RLIMIT_NOFILE, &rl); /* what we did not get shows in loop_fd_room */
}

/* What our children leave behind is handed to us and reaped, not to the first process of a
 * container, which may never wait for it. */
static void loop_adopt_orphans(void)
{
#if defined(PR_SET_CHILD_SUBREAPER)
	prctl(PR_SET_CHILD_SUBREAPER, 1);
#endif
}

int loop_init(void)
{
	loop_done();
	loop_limit_fds();
	loop_adopt_orphans();
	/* The call that meets a closed pipe, or a limit on the size of files, says so. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	if (pipe2(loop_pipe, O_NONBLOCK | O_CLOEXEC))
		return -1;
	loop_refresh();
	loop_fd_init(&L.pipe_watch, loop_pipe_ready, NULL);
	if (loop_fd_watch(&L.pipe_watch, loop_pipe[0], LOOP_READ))
		return -1;
	return loop_signal(SIGCHLD, loop_reap);
}

void loop_done(void)
{
	for (int s = 1; s < NSIG; s++) {
		if (L.on_signal[s])
			signal(s, SIG_DFL);
		loop_pending[s] = 0;
	}
	if (loop_pipe[0] >= 0) {
		close(loop_pipe[0]);
		close(loop_pipe[1]);
	}
	memset(&L, 0, sizeof L);
	loop_pipe[0] = loop_pipe[1] = -1;
	FD_ZERO(&L.reading);
	FD_ZERO(&L.writing);
}

void loop_stop(void)
{
	L.stop = true;
}

/* ---- descriptors ---- */

int loop_fd_room(void)
{
	struct rlimit rl;
	int top = FD_SETSIZE;
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < (rlim_t)top)
		top = (int)rl.rlim_cur;
	return top - L.fd_count;
}

void loop_fd_init(struct loop_fd *w, void (*ready)(void *, unsigned), void *arg)
{
	*w = (struct loop_fd){.fd = -1, .ready = ready, .arg = arg};
}

int loop_fd_watch(struct loop_fd *w, int fd, unsigned want)
{
	if (fd < 0 || fd >= FD_SETSIZE || L.fds[fd]) {
		errno = EMFILE;
		return -1;
	}
	w->fd = fd;
	L.fds[fd] = w;
	L.born[fd] = L.turn;
	L.fd_count++;
	if (fd >= L.fd_end)
		L.fd_end = fd + 1;
	w->want = 0;
	loop_fd_want(w, want);
	return 0;
}

/* musl's macros divide the descriptor, an int, by a size_t. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"

static void loop_mark(fd_set *set, int fd, bool on)
{
	if (on)
		FD_SET(fd, set);
	else
		FD_CLR(fd, set);
}

static bool loop_is_marked(const fd_set *set, int fd)
{
	return FD_ISSET(fd, set) != 0;
}

#pragma GCC diagnostic pop

void loop_fd_want(struct loop_fd *w, unsigned want)
{
	if (w->fd < 0 || w->want == want)
		return;
	w->want = want;
	loop_mark(&L.reading, w->fd, want & LOOP_READ);
	loop_mark(&L.writing, w->fd, want & LOOP_WRITE);
}

void loop_fd_unwatch(struct loop_fd *w)
{
	if (w->fd < 0)
		return;
	loop_fd_want(w, 0);
	L.fds[w->fd] = NULL;
	L.fd_count--;
	w->fd = -1;
	while (L.fd_end > 0 && !L.fds[L.fd_end - 1])
		L.fd_end--;
}

/* ---- timers: a pairing heap; L.timers is the root, the one due first ---- */

/* Joins two heaps; either may be NULL. Neither root has siblings. */
static struct loop_timer *loop_heap_join(struct loop_timer *a, struct loop_timer *b)
{
	if (!a)
		return b;
	if (!b)
		return a;
	if (b->due < a->due) {
		struct loop_timer *t = a;
		a = b;
		b = t;
	}
	b->prev = a;
	b->next = a->child;
	if (a->child)
		a->child->prev = b;
	a->child = b;
	return a;
}

/* Joins a list of siblings into one heap: pairs from the left, then the pairs from the right. */
static struct loop_timer *loop_heap_join_all(struct loop_timer *t)
{
	struct loop_timer *pairs = NULL;
	while (t) {
		struct loop_timer *a = t;
		struct loop_timer *b = t->next;
		t = b ? b->next : NULL;
		a->prev = a->next = NULL;
		if (b)
			b->prev = b->next = NULL;
		a = loop_heap_join(a, b);
		a->next = pairs;
		pairs = a;
	}
	struct loop_timer *root = NULL;
	while (pairs) {
		struct loop_timer *rest = pairs->next;
		pairs->next = NULL;
		root = loop_heap_join(root, pairs);
		pairs = rest;
	}
	return root;
}

void loop_timer_init(struct loop_timer *t, void (*fire)(void *), void *arg)
{
	*t = (struct loop_timer){.fire = fire, .arg = arg};
}

bool loop_timer_is_set(const struct loop_timer *t)
{
	return t->set;
}

void loop_timer_set(struct loop_timer *t, int64_t ms)
{
	/* At least 1 us on, so that it is not due in the turn that sets it. */
	int64_t due = L.now_us + (ms > 0 ? ms * 1000 : 1);
	if (t->set && t->due == due)
		return; /* many are set anew for each thing that a turn brings */
	loop_timer_stop(t);
	t->due = due;
	t->set = true;
	L.timers = loop_heap_join(L.timers, t);
}

void loop_timer_stop(struct loop_timer *t)
{
	if (!t->set)
		return;
	struct loop_timer *below = loop_heap_join_all(t->child);
	if (t == L.timers) {
		L.timers = below;
	} else {
		if (t->prev->child == t)
			t->prev->child = t->next;
		else
			t->prev->next = t->next;
		if (t->next)
			t->next->prev = t->prev;
		L.timers = loop_heap_join(L.timers, below);
	}
	t->child = t->next = t->prev = NULL;
	t->set = false;
}

/* Fires what was due when the turn began. */
static void loop_fire_timers(void)
{
	int64_t limit = L.now_us;
	while (L.timers && L.timers->due <= limit) {
		struct loop_timer *t = L.timers;
		loop_timer_stop(t);
		t->fire(t->arg);
	}
}

/* ---- batches ---- */

void loop_batch_init(struct loop_batch *b, void (*run)(void *), void *arg)
{
	*b = (struct loop_batch){.run = run, .arg = arg, .most_us = LOOP_BATCH_US};
}

void loop_batch_ask(struct loop_batch *b)
{
	if (b->asked)
		return;
	b->asked = true;
	b->asked_us = L.now_us;
	b->next = L.batches;
	L.batches = b;
}

static void loop_batch_unlink(struct loop_batch **list, const struct loop_batch *b)
{
	for (; *list; list = &(*list)->next) {
		if (*list == b) {
			*list = b->next;
			return;
		}
	}
}

void loop_batch_stop(struct loop_batch *b)
{
	loop_batch_unlink(&L.batches, b);
	loop_batch_unlink(&L.batches_due, b);
	b->asked = false;
}

static void loop_run_batches(bool quiet)
{
	struct loop_batch *b = L.batches;
	struct loop_batch *keep = NULL;
	L.batches = NULL;
	while (b) {
		struct loop_batch *next = b->next;
		bool run = quiet || L.now_us - b->asked_us >= b->most_us;
		struct loop_batch **list = run ? &L.batches_due : &keep;
		b->next = *list;
		*list = b;
		b = next;
	}
	L.batches = keep;
	while ((b = L.batches_due)) {
		L.batches_due = b->next;
		b->asked = false;
		b->run(b->arg);
	}
}

/* ---- a turn ---- */

static void loop_dispatch(int end, const fd_set *r, const fd_set *w, bool last)
{
	for (int fd = 0; fd < end; fd++) {
		struct loop_fd *f = L.fds[fd];
		unsigned events = 0;
		if (!f || f->last != last || L.born[fd] == L.turn)
			continue;
		if (loop_is_marked(r, fd))
			events |= LOOP_READ;
		if (loop_is_marked(w, fd))
			events |= LOOP_WRITE;
		events &= f->want;
		if (events)
			f->ready(f->arg, events);
	}
}

/* How long select() may wait, in us; -1 for ever. */
static int64_t loop_patience(int wait_ms)
{
	int64_t us = wait_ms < 0 ? -1 : (int64_t)wait_ms * 1000;
	if (L.batches)
		return 0;
	if (L.timers) {
		int64_t left = L.timers->due - L.now_us;
		if (left < 0)
			left = 0;
		if (us < 0 || left < us)
			us = left;
	}
	return us;
}

int loop_turn(int wait_ms)
{
	loop_refresh();
	int64_t us = loop_patience(wait_ms);
	struct timeval tv = {.tv_sec = (time_t)(us / 1000000),
	                     .tv_usec = (suseconds_t)(us % 1000000)};
	fd_set r = L.reading;
	fd_set w = L.writing;
	int end = L.fd_end;
	int n = select(end, &r, &w, NULL, us < 0 ? NULL : &tv);
	if (n < 0 && errno != EINTR)
		return -1;
	loop_refresh();
	L.turn++;
	loop_end_begin();
	loop_fire_timers();
	if (n > 0) {
		loop_dispatch(end, &r, &w, false);
		loop_dispatch(end, &r, &w, true);
	}
	if (L.batches) {
		loop_end_run();
		loop_refresh();
		loop_run_batches(n == 0);
	}
	loop_end_over();
	return 0;
}

int loop_run(void)
{
	L.stop = false;
	while (!L.stop)
		if (loop_turn(-1))
			return -1;
	return 0;
}
