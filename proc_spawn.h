/* proc_spawn: the way from fork to exec, and the limits of a child. */
#ifndef PROC_SPAWN_H
#define PROC_SPAWN_H

#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

/* What to start, all of it the caller's. */
struct proc_spawn {
	const char *const *argv; /* argv[0] without '/' is looked up in our own PATH */
	const char *const *envp;
	int in_fd;          /* becomes 0; -1: /dev/null */
	int out_fd, err_fd; /* become 1 and 2; both above 2 themselves */
	int64_t limit_ms;   /* the time the caller will give it, for RLIMIT_CPU; 0: any */
};

/*
 * Starts a program in a process group of its own, with these three descriptors and no other, with
 * default signal actions, an empty mask, and limits (PROC_*_MAX). Returns 0 with its pid, or an
 * errno, that of exec included; nothing is left behind then. No shell is tried for what is no
 * program (ENOEXEC).
 */
int proc_spawn_start(const struct proc_spawn *s, pid_t *pid);

/* Lowers a limit of this process, soft and hard, to at most max; what is lower stays. Returns 0, or
 * -1 with errno. Safe between fork and exec. */
int proc_spawn_limit(int resource, rlim_t max);

/* Gives all signals their default action, and closes all descriptors above 2. Safe between fork and
 * exec. */
void proc_spawn_clean(void);

#endif
