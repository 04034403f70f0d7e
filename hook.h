/* hook: the operator's programs in hooks/ that have a say in what the server does. */
#ifndef HOOK_H
#define HOOK_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "config.h"
#include "dns_addr.h"
#include "loop.h"
#include "proc.h"

enum hook_name { HOOK_ALIAS_RESOLVE, HOOK_RCPT, HOOK_POST_DATA };

enum hook_result {
	HOOK_DONE,   /* exit 0: output is what it wrote to stdout */
	HOOK_REJECT, /* exit 20 */
	HOOK_FAILED, /* any other exit, a signal, the time limit, not startable, too much output */
};

/* What a hook is told of the session in its environment; see hooks(5). Strings may be hostile:
 * control characters become '?'. NULL counts as "". Read by hook_start only. */
struct hook_session {
	const struct dns_addr *peer; /* NULL: the local socket */
	unsigned short port;
	const char *helo;
	const char *from;      /* canonical; "<>" for none */
	const char *const *to; /* the RCPT addresses, canonical */
	size_t to_count;
	const char *login; /* user@domain */
	bool tls;
	bool from_local;
	bool spf_pass;
};

/* A run of a hook, embedded in its owner, zeroed before its first use. */
struct hook {
	enum hook_result result;
	struct slice output; /* of HOOK_DONE; from `done` on until hook_cancel or the next start */
	char text[STATUS_TEXT_MAX]; /* of the others: its last complete line of stdout, cleaned;
	                               when there is none or it did not end by itself, what
	                               happened, in words */

	/* private */
	struct proc proc;
	void (*done)(void *arg, struct hook *h);
	void *arg;
	struct loop_timer timer; /* for an end without a run */
	struct hook *next;
	struct hook_job *job;
};

#if WITH_HOOKS

/* Is there such a hook now? Looked up at each use, since operators put it there and take it away;
 * while mail pours in a new one may be seen HOOK_LOOK_MS late. What is there but cannot be run
 * counts, and then fails. */
bool hook_exists(enum hook_name name);

/*
 * Runs hooks/NAME in the configuration directory (where the daemon is) with one argument (NULL:
 * none) and stdin from the beginning of the file in_fd (-1: nothing), HOOK_PARALLEL at a time in
 * all; HOOK_WAITING others wait their turn (of one peer half of the places that are left), more
 * fail. Its environment is USER, PWD, SHELL and PATH and, unless session is NULL, that of hooks(5).
 * It is killed, with all it has started, at its time
 * limit (HOOK_SHORT_MS, for post-data HOOK_LONG_MS) and after more than HOOK_OUTPUT_MAX bytes of
 * output. What it wrote to stderr is logged under id. `done` comes once, from the loop, never from
 * inside this call; in it the owner may start again, or cancel and free the struct. in_fd is the
 * caller's and kept until `done`.
 */
void hook_start(struct hook *h, enum hook_name name, const char *id, const char *arg1,
                const struct hook_session *session, int in_fd,
                void (*done)(void *arg, struct hook *h), void *arg);

/* Kills it when it runs; no callback comes any more. Frees the output: call it before the struct
 * goes away. Harmless on an idle or zeroed struct. */
void hook_cancel(struct hook *h);

#else

/* conf_load refuses a directory with hooks: there is none, and none is started. */
static inline bool hook_exists(enum hook_name name)
{
	(void)name;
	return false;
}

static inline void hook_start(struct hook *h, enum hook_name name, const char *id, const char *arg1,
                              const struct hook_session *session, int in_fd,
                              void (*done)(void *arg, struct hook *h), void *arg)
{
	(void)h, (void)name, (void)id, (void)arg1, (void)session, (void)in_fd, (void)done,
	    (void)arg;
}

static inline void hook_cancel(struct hook *h)
{
	(void)h;
}

#endif

#endif
