/* proc: child processes with a file as input, bounded output, and a time limit. */
#ifndef PROC_H
#define PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "buf.h"
#include "loop.h"

enum proc_result {
	PROC_EXITED,      /* code is the exit code */
	PROC_SIGNALED,    /* code is the signal */
	PROC_TIMED_OUT,   /* it was killed, whatever it said then */
	PROC_FLOODED,     /* the same, for more output than `strict` allows */
	PROC_NOT_STARTED, /* code is the errno (EAGAIN: PROC_MAX or descriptors are used up) */
};

/* What to run. Read by proc_start only; argv and envp need not live longer. */
struct proc_spec {
	/* NULL at the end. argv[0] without '/' is looked up in the daemon's own PATH. */
	const char *const *argv;
	/* NULL at the end. NULL itself: PATH (PROC_PATH) and LANG=C, nothing else. */
	const char *const *envp;
	/* stdin: a file, complete, that the child reads from its beginning. -1: /dev/null. It stays
	 * the caller's, who may close it as soon as proc_start has returned: the child has its own
	 * copy. A pipe is refused (ESPIPE): when its writer dies, the reader takes half for whole.
	 */
	int in_fd;
	/* Called once from the loop, never from inside proc_start. */
	void (*done)(void *arg);
	void *arg;
	/* Bytes of output to keep; what exceeds them is read and dropped. */
	size_t output_max;
	/* Of stderr, which then comes apart from stdout; 0: both are one output. */
	size_t errors_max;
	/* More than output_max bytes of output: the group is killed at once (PROC_FLOODED). */
	bool strict;
	/* Time limit in ms; 0: none. */
	int64_t limit_ms;
};

/*
 * A child, embedded in its owner, zeroed before its first use. The result is public from `done` on
 * and lives until proc_cancel(), which must be called before the struct goes away, or until the
 * next proc_start() on it. In `done` the owner may start again, cancel, or free the struct.
 */
struct proc {
	enum proc_result result;
	int code;
	struct buf output;
	struct buf errors; /* stderr, with errors_max */
	bool truncated;    /* there was more output than output_max */

	/* private */
	struct loop_fd out, err;
	struct loop_timer timer;
	void (*done)(void *arg);
	void *arg;
	struct proc_child *child;
	bool strict;
	int phase;
	int wait_status;
};

/*
 * Starts the child in a process group of its own, with default signal actions, an empty mask, no
 * descriptor above 2, no core dumps, and limits on processes, memory, descriptors and CPU time
 * (PROC_*_MAX, PROC_CPU_FACTOR). Errors come through `done` as PROC_NOT_STARTED.
 *
 * The exit status decides alone: a child that does not read its input, or closes it, is no
 * failure. At limit_ms the group gets SIGTERM, after PROC_TERM_MS SIGKILL. Once the child itself
 * has ended, output that others hold open is read for PROC_DRAIN_MS at most; then the group is
 * killed.
 *
 * Who leaves the group (setsid) is a daemon by intention, as is who stays behind in it without our
 * pipes once the child has ended well: both live on, under their limits, and are reaped by the
 * loop.
 */
void proc_start(struct proc *p, const struct proc_spec *spec);

/* Kills the group of a running child at once (SIGKILL; it is reaped later, by the loop), drops the
 * callback, frees the output. Harmless on an idle, finished or zeroed struct. */
void proc_cancel(struct proc *p);

/* "exit status 75", "killed by signal 9", "time limit exceeded", ... for log and DSN, in `out`. */
const char *proc_result_text(const struct proc *p, char *out, size_t n);

#endif
