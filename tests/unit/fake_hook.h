/* fake_hook: hooks without programs, that tests of the SMTP server can steer. */
#ifndef FAKE_HOOK_H
#define FAKE_HOOK_H

#include "addr.h"
#include "hook.h"

struct fake_hook {
	/* What is to happen. */
	bool there[HOOK_POST_DATA + 1];
	enum hook_result result;
	const char *output; /* of HOOK_DONE */
	const char *text;   /* of the others */
	/* What happened. */
	unsigned runs;
	unsigned cancelled; /* runs ended before their answer */
	int waiting;
	/* The last run. */
	enum hook_name name;
	char arg1[ADDR_TEXT_MAX];
	char session[2048]; /* "peer port helo from to,to login tls local spf" */
	struct buf input;   /* of the file */
};

extern struct fake_hook fake_hook;

/* Forgets all; every run must be gone. */
void fake_hook_reset(void);

/* Answers the run that waits longest; false when none does. */
bool fake_hook_run(void);

#endif
