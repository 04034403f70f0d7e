/* fake_spf: verdicts on senders that tests of the SMTP server can steer. */
#ifndef FAKE_SPF_H
#define FAKE_SPF_H

#include "addr.h"
#include "spf.h"

struct fake_spf {
	/* What is to happen. */
	bool no_memory; /* spf_start says NULL */
	/* What happened. */
	unsigned asked;
	unsigned cancelled;
	int waiting; /* checks without an answer */
	char sender[ADDR_TEXT_MAX];
	char helo[300];
	char receiver[300];
	struct dns_addr ip;
};

extern struct fake_spf fake_spf;

/* Answers the check that has waited longest: the result is the first label of the domain checked
 * ("fail.x.test", "fail-why.x.test" with an explanation), `none` when that is no result's name.
 * False when none waits. */
bool fake_spf_run(void);

#endif
