/* fake_spool: spool, queue and configuration that tests of the SMTP server can steer. */
#ifndef FAKE_SPOOL_H
#define FAKE_SPOOL_H

#include "smtpd.h"

struct fake_spool {
	/* What is to happen. */
	bool no_room;     /* spool_has_room says 452 */
	bool queue_full;  /* queue_reserve says 452 */
	bool begin_fails; /* spool_begin says 451 */
	bool commit_fails;
	bool temp_fails; /* spool_temp_file says 452 */
	bool temp_full;  /* nothing can be written to its file */
	/* What happened. */
	unsigned begun;
	unsigned committed;
	unsigned aborted;
	int reserved; /* places taken and not given back */
	int temp_fd;  /* the temporary file made last */
	/* The message committed last. */
	char id[32];
	char from[512];
	char to[4096];    /* a line each */
	char rcpts[8192]; /* "type address original via", a line each */
	struct buf content;
	char prepended[1024]; /* what stands before it */
	bool submitted;
	bool header_8bit;
};

extern struct fake_spool fake;

/* The configuration the fakes know: host here.test; ours are here.test and localhost; for users and
 * aliases see fake_resolve.h. 127.0.0.9 is trusted, 127.0.0.5 a proxy. */
extern struct conf fake_conf;
extern struct smtpd_setup fake_setup;

/* Forgets all; every writer must be gone. */
void fake_reset(void);

/* Writers that are neither committed nor aborted. */
unsigned fake_open(void);

/* Lets one waiting commit end. False when none was waiting. */
bool fake_spool_run(void);

#endif
