/* fake_spf: see the header. An answer waits for fake_spf_run. */
#include "fake_spf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct spf_check {
	char sender[ADDR_TEXT_MAX];
	char helo[300];
	void (*done)(void *arg, const struct spf_answer *answer);
	void *arg;
	struct spf_check *next;
};

struct fake_spf fake_spf;
static struct spf_check *checks;

static const char *const results[] = {"none",     "neutral",   "pass",     "fail",
                                      "softfail", "temperror", "permerror"};

const char *spf_result_name(enum spf_result r)
{
	return results[r];
}

struct spf_check *spf_start(const struct spf_question *question,
                            void (*done)(void *arg, const struct spf_answer *answer), void *arg)
{
	struct spf_check **last = &checks;
	if (fake_spf.no_memory)
		return NULL;
	struct spf_check *c = calloc(1, sizeof *c);
	if (!c)
		abort();
	fake_spf.asked++;
	fake_spf.waiting++;
	fake_spf.ip = question->ip;
	snprintf(fake_spf.sender, sizeof fake_spf.sender, "%s", question->sender);
	snprintf(fake_spf.helo, sizeof fake_spf.helo, "%s", question->helo);
	snprintf(fake_spf.receiver, sizeof fake_spf.receiver, "%s", question->receiver);
	memcpy(c->sender, fake_spf.sender, sizeof c->sender);
	memcpy(c->helo, fake_spf.helo, sizeof c->helo);
	c->done = done;
	c->arg = arg;
	while (*last)
		last = &(*last)->next;
	*last = c;
	return c;
}

static void unlink_check(struct spf_check *c)
{
	struct spf_check **p = &checks;
	while (*p != c)
		p = &(*p)->next; /* a check that is not there crashes */
	*p = c->next;
	fake_spf.waiting--;
}

void spf_cancel(struct spf_check *c)
{
	unlink_check(c);
	fake_spf.cancelled++;
	free(c);
}

static void judge(const struct spf_check *c, struct spf_answer *a)
{
	struct addr from;
	a->helo_identity = strcmp(c->sender, "<>") == 0;
	if (a->helo_identity)
		addr_domain_normalise(slice_of(c->helo), a->domain, sizeof a->domain);
	else if (addr_parse(slice_of(c->sender), &from) == 0)
		memcpy(a->domain, from.domain, sizeof a->domain);
	size_t n = strcspn(a->domain, ".-");
	for (size_t i = 0; i < sizeof results / sizeof results[0]; i++)
		if (slice_is((struct slice){a->domain, n}, results[i]))
			a->result = (enum spf_result)i;
	if (a->result == SPF_FAIL && strncmp(a->domain + n, "-why", 4) == 0)
		snprintf(a->explanation, sizeof a->explanation, "go away");
	if (a->result == SPF_TEMPERROR || a->result == SPF_PERMERROR)
		snprintf(a->problem, sizeof a->problem, "it is \"broken\"");
	if (a->result != SPF_NONE && !a->problem[0])
		snprintf(a->mechanism, sizeof a->mechanism, "ip4:192.0.2.0/24");
}

bool fake_spf_run(void)
{
	struct spf_check *c = checks;
	struct spf_answer answer = {.result = SPF_NONE};
	if (!c)
		return false;
	judge(c, &answer);
	unlink_check(c);
	c->done(c->arg, &answer);
	free(c);
	return true;
}
