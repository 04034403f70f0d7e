/* fake_resolve: where addresses lead to, for tests of the SMTP server. */
#ifndef FAKE_RESOLVE_H
#define FAKE_RESOLVE_H

#include "resolve.h"

struct fake_resolve {
	/* What is to happen. */
	bool no_memory; /* resolve_start says NULL */
	/* What happened. */
	unsigned asked;
	unsigned cancelled;
	int waiting; /* questions without an answer */
	char last[ADDR_TEXT_MAX];
};

extern struct fake_resolve fake_resolve;

/*
 * Answers the question that has waited longest; false when none waits. Users of here.test: alice,
 * bob, postmaster, user+anything. Aliases: list (two
 * addresses, a pipe, a forward), boss (alice), many (too many addresses). nowhere leads to nothing,
 * busy is 451, half and loop are 554, all others 550. <postmaster> without domain is here.test's.
 */
bool fake_resolve_run(void);

#endif
