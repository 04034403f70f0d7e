/* courier: what a courier is, and the local ones: Maildir, MDA and pipe. */
#ifndef COURIER_H
#define COURIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "spool.h"

/*
 * One piece of work: some recipients of one message that go the same way. The queue owns it and
 * keeps it, and all it points to, until `done`.
 *
 * The courier calls `verdict` exactly once for each recipient (an index into env->rcpt) and `done`
 * exactly once, last; both from the loop, never from inside start. After stop, which does not come
 * from inside `verdict`, it calls neither. remote is NULL or "" when nobody was reached.
 */
struct delivery {
	struct spool *spool;
	const struct envelope *env;
	const size_t *rcpts; /* indexes into env->rcpt */
	size_t count;
	const char *domain; /* remote: where to, normalised; when no smarthost takes it */
	const char *from;   /* the envelope sender to use, "<>" for none */
	bool rewritten;     /* from is not env->from: masquerade and smarthosts go by that one */
	bool unreached; /* set by the courier before `done`: nobody there could be given it now */
	void (*verdict)(struct delivery *d, size_t rcpt, const struct status *st,
	                const char *remote);
	void (*done)(struct delivery *d);
	void *state; /* the courier's */
	void *arg;   /* the queue's */
};

struct courier {
	const char *name;
	/* Begins. 0, or -1 with *st filled (transient): then nothing will be called. */
	int (*start)(void *self, struct delivery *d, struct status *st);
	/* Ends at once, silently: descriptors closed, children killed, memory freed. */
	void (*stop)(void *self, struct delivery *d);
	/* Since when nothing has come of a delivery that has found nobody yet to give the message
	 * to: loop_now(); INT64_MAX when it has. NULL: it never waits for strangers. */
	int64_t (*quiet_since)(void *self, const struct delivery *d);
	void *self;
	/* Deliveries at the same time: in all, and for the remote courier to one domain. */
	unsigned parallel;
	bool batch; /* takes several recipients of a message in one delivery; else count is 1 */
};

/* The local couriers, without batch; lmtp.h has another. conf is kept. */

/* Maildir at conf->maildir, see chasq.conf(5). Done when file and directory entry are durable; a
 * recipient whose name cannot be a file name is refused for good; all trouble with disk and
 * permissions is transient. */
struct courier courier_maildir(const struct conf *conf);

/* The program conf->mda_bin with conf->mda_args. Exit 0 done; 75, a time-out, a program that cannot
 * be started (127 counts as such), and a message that cannot be read or copied: transient; all else
 * permanent. What the program printed is logged, and its first line ends the status text
 * (COURIER_OUTPUT_MARK). */
struct courier courier_mda(const struct conf *conf);

/* The command line in the recipient's address, split at blanks, no shell; every failure of the
 * program is permanent. A message that cannot be read or copied, or no process, is transient. The
 * status text given to verdict names neither command nor output: the log does. */
struct courier courier_pipe(const struct conf *conf);

/* In a status text: behind this comes what a program printed. The operator and our own users may
 * see it, strangers may not. */
#define COURIER_OUTPUT_MARK " -- it said: "

#endif
