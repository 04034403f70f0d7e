/*
 * proc: child processes.
 *
 * A child has one pipe to us, its output (stdout and stderr in one), or two, when the owner wants
 * them apart. The first bytes of each are kept and the rest is thrown away, so that it never blocks
 * on us. What must be waited for, the process itself, is a small record on the heap: when its owner
 * goes first, the record stays until the child is reaped, and frees itself.
 *
 * Phases: RUNNING -> (time limit) TERMINATING -> KILLED, and from each of them, when the child has
 * ended, DRAINING until its output is at its end; then `done`. A flood goes to KILLED at once. One
 * timer serves them all.
 *
 * The one rule with teeth: whoever reads the input takes its end for the end of the message. So it
 * is a file that was complete before the child began, and no pipe: even when this process is killed
 * in the middle, the child reads on to the true end.
 *
 * Limits: PROC_MAX children; a bounded step a turn for each pipe; output_max bytes each.
 */
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"
#include "log.h"
#include "proc_spawn.h"
#include "sandbox.h"

enum { PHASE_IDLE, PHASE_FAILED, PHASE_RUNNING, PHASE_TERMINATING, PHASE_KILLED, PHASE_DRAINING };

struct proc_child {
	struct loop_child watch;
	struct proc *owner; /* NULL: nobody waits for the result any more */
	pid_t group;
};

static int proc_count; /* children not reaped yet */

/* ---- the pipe ---- */

static void pipe_end_close(struct loop_fd *w)
{
	int fd = w->fd;
	loop_fd_unwatch(w);
	if (fd >= 0)
		close(fd);
}

static void pair_close(int fds[2])
{
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

/* A pipe whose ends lie above 2, out of the way of the child's own, both close-on-exec; the end we
 * read from does not block. Returns 0, or -1 with errno. */
static int pair_open(int fds[2])
{
	if (pipe2(fds, O_CLOEXEC)) {
		fds[0] = fds[1] = -1;
		return -1;
	}
	for (int i = 0; i < 2; i++) {
		if (fds[i] > 2)
			continue;
		int up = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (up < 0)
			goto fail;
		close(fds[i]);
		fds[i] = up;
	}
	if (fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0)
		return 0;
fail:;
	int saved = errno;
	pair_close(fds);
	errno = saved;
	return -1;
}

/* ---- the end ---- */

/* The group may be gone already; then nothing happens. */
static void group_kill(const struct proc *p, int signo)
{
	if (p->child)
		kill(-p->child->group, signo);
}

/* Lets go of the process: it is still reaped, by its record. */
static void child_release(struct proc *p)
{
	if (!p->child)
		return;
	p->child->owner = NULL;
	if (p->child->watch.pid == 0)
		free(p->child);
	p->child = NULL;
}

/* Is output still to come? */
static bool proc_is_open(const struct proc *p)
{
	return p->out.fd >= 0 || p->err.fd >= 0;
}

/* Closes everything but the result. An open output is held by somebody we do not want to wait for.
 */
static void proc_close(struct proc *p)
{
	if (proc_is_open(p))
		group_kill(p, SIGKILL);
	pipe_end_close(&p->out);
	pipe_end_close(&p->err);
	loop_timer_stop(&p->timer);
	child_release(p);
	p->phase = PHASE_IDLE;
}

static void proc_finish(struct proc *p)
{
	if (p->result == PROC_EXITED && WIFSIGNALED(p->wait_status)) {
		p->result = PROC_SIGNALED;
		p->code = WTERMSIG(p->wait_status);
	} else if (p->result == PROC_EXITED) {
		p->code = WEXITSTATUS(p->wait_status);
	}
	proc_close(p);
	p->done(p->arg);
}

static void proc_child_ended(void *arg, int wait_status)
{
	struct proc_child *c = arg;
	struct proc *p = c->owner;
	proc_count--;
	if (!p) {
		free(c);
		return;
	}
	p->wait_status = wait_status;
	if (p->result != PROC_EXITED) {
		/* It was killed for cause; those it started must not go on. */
		group_kill(p, SIGKILL);
		proc_finish(p);
	} else if (!proc_is_open(p)) {
		proc_finish(p);
	} else {
		p->phase = PHASE_DRAINING;
		loop_timer_set(&p->timer, PROC_DRAIN_MS);
	}
}

static void proc_timer(void *arg)
{
	struct proc *p = arg;
	switch (p->phase) {
	case PHASE_RUNNING:
		p->result = PROC_TIMED_OUT;
		p->phase = PHASE_TERMINATING;
		group_kill(p, SIGTERM);
		loop_timer_set(&p->timer, PROC_TERM_MS);
		break;
	case PHASE_TERMINATING:
		p->phase = PHASE_KILLED;
		group_kill(p, SIGKILL);
		loop_timer_set(&p->timer, PROC_TERM_MS);
		break;
	default:
		proc_finish(p);
	}
}

/* ---- output ---- */

/* Reads a step of a pipe, keeps what fits. Returns whether something was lost. */
static bool proc_take(struct proc *p, struct loop_fd *from, struct buf *to)
{
	char step[PROC_STEP];
	ssize_t n = read(from->fd, step, sizeof step);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		pipe_end_close(from);
		if (p->phase == PHASE_DRAINING && !proc_is_open(p))
			proc_finish(p);
		return false;
	}
	size_t room = to->max - to->len;
	size_t keep = (size_t)n < room ? (size_t)n : room;
	return (keep > 0 && buf_append(to, step, keep)) || keep < (size_t)n;
}

/* Too much output: the child goes, and those it started. When it has ended already, that is all
 * there is to wait for. */
static void proc_flood(struct proc *p)
{
	p->result = PROC_FLOODED;
	group_kill(p, SIGKILL);
	if (p->phase == PHASE_DRAINING) {
		proc_finish(p);
		return;
	}
	p->phase = PHASE_KILLED;
	loop_timer_set(&p->timer, PROC_TERM_MS);
}

/* proc_take may be the last that is done to p. */
static void proc_out_ready(void *arg, unsigned events)
{
	struct proc *p = arg;
	(void)events;
	if (!proc_take(p, &p->out, &p->output))
		return;
	p->truncated = true;
	if (p->strict && p->result == PROC_EXITED)
		proc_flood(p);
}

static void proc_err_ready(void *arg, unsigned events)
{
	struct proc *p = arg;
	(void)events;
	proc_take(p, &p->err, &p->errors);
}

/* ---- the start ---- */

/* Returns 0 or an errno. */
static int spawn(const struct proc_spec *spec, int out, int err, pid_t *pid)
{
	static const char *const minimal[] = {"PATH=" PROC_PATH, "LANG=C", NULL};
	const struct proc_spawn s = {.argv = spec->argv,
	                             .envp = spec->envp ? spec->envp : minimal,
	                             .in_fd = spec->in_fd,
	                             .out_fd = out,
	                             .err_fd = err,
	                             .limit_ms = spec->limit_ms};
	return proc_spawn_start(&s, pid);
}

static int input_rewind(int fd)
{
	return fd >= 0 && lseek(fd, 0, SEEK_SET) ? -1 : 0;
}

/* A pipe whose end is watched. Returns 0, or an errno. */
static int pipe_open(int fds[2], struct loop_fd *watch)
{
	if (pair_open(fds) || loop_fd_watch(watch, fds[0], LOOP_READ))
		return errno;
	fds[0] = -1;
	return 0;
}

/* Makes pipes and child. Returns 0, or an errno with all undone; the record is watched on success.
 * The pipes are watched first: what fails may not leave a child behind. */
static int proc_launch(struct proc *p, const struct proc_spec *spec)
{
	int out[2] = {-1, -1}, err[2] = {-1, -1};
	pid_t pid;
	int e = 0;
	p->child = calloc(1, sizeof *p->child);
	if (!p->child)
		e = ENOMEM;
	else if (input_rewind(spec->in_fd))
		e = errno;
	if (!e)
		e = pipe_open(out, &p->out);
	if (!e && spec->errors_max > 0)
		e = pipe_open(err, &p->err);
	if (!e)
		e = spawn(spec, out[1], err[1] >= 0 ? err[1] : out[1], &pid);
	pair_close(out);
	pair_close(err);
	if (e) {
		pipe_end_close(&p->out);
		pipe_end_close(&p->err);
		free(p->child);
		p->child = NULL;
		return e;
	}
	*p->child = (struct proc_child){.owner = p, .group = pid};
	loop_child_watch(&p->child->watch, pid, proc_child_ended, p->child);
	proc_count++;
	return 0;
}

void proc_start(struct proc *p, const struct proc_spec *spec)
{
	proc_cancel(p);
	*p = (struct proc){.done = spec->done, .arg = spec->arg, .strict = spec->strict};
	buf_init(&p->output, spec->output_max);
	buf_init(&p->errors, spec->errors_max);
	loop_fd_init(&p->out, proc_out_ready, p);
	loop_fd_init(&p->err, proc_err_ready, p);
	loop_timer_init(&p->timer, proc_timer, p);
	p->result = PROC_EXITED;
	p->phase = PHASE_RUNNING;
	int e = proc_count < PROC_MAX ? proc_launch(p, spec) : EAGAIN;
	if (e) {
		if (e == EACCES && !sandbox_allows(spec->argv[0], SANDBOX_READ))
			log_error("-", "the program cannot be run", LOG_S("path", spec->argv[0]),
			          LOG_S("error", sandbox_reason(e, spec->argv[0], SANDBOX_READ)));
		p->result = PROC_NOT_STARTED;
		p->code = e == EMFILE || e == ENFILE ? EAGAIN : e;
		p->phase = PHASE_FAILED;
		loop_timer_set(&p->timer, 0);
	} else if (spec->limit_ms > 0) {
		loop_timer_set(&p->timer, spec->limit_ms);
	}
}

void proc_cancel(struct proc *p)
{
	if (p->phase != PHASE_IDLE) {
		group_kill(p, SIGKILL);
		proc_close(p);
	}
	buf_clear(&p->output);
	buf_clear(&p->errors);
}

const char *proc_result_text(const struct proc *p, char *out, size_t n)
{
	switch (p->result) {
	case PROC_EXITED:
		snprintf(out, n, "exit status %d", p->code);
		break;
	case PROC_SIGNALED:
		snprintf(out, n, "killed by signal %d", p->code);
		break;
	case PROC_TIMED_OUT:
		snprintf(out, n, "time limit exceeded");
		break;
	case PROC_FLOODED:
		snprintf(out, n, "too much output");
		break;
	case PROC_NOT_STARTED:
		snprintf(out, n, "could not be started: %s", strerror(p->code));
		break;
	}
	return out;
}
