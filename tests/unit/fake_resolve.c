/* fake_resolve: see the header. An answer waits for fake_resolve_run. */
#include "fake_resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

struct resolve {
	struct addr addr;
	void (*done)(void *arg, const struct status *st, const struct resolve_found *found,
	             size_t count);
	void *arg;
	bool ended;
	struct resolve *next;
};

struct fake_resolve fake_resolve;
static struct resolve *questions;

struct resolve *resolve_start(const struct conf *conf, const char *id, const struct addr *a,
                              void (*done)(void *arg, const struct status *st,
                                           const struct resolve_found *found, size_t count),
                              void *arg)
{
	struct resolve **last = &questions;
	(void)conf, (void)id;
	if (fake_resolve.no_memory)
		return NULL;
	struct resolve *r = calloc(1, sizeof *r);
	if (!r)
		abort();
	*r = (struct resolve){.addr = *a, .done = done, .arg = arg};
	fake_resolve.asked++;
	fake_resolve.waiting++;
	addr_format(a, fake_resolve.last, sizeof fake_resolve.last);
	while (*last)
		last = &(*last)->next;
	*last = r;
	return r;
}

static void unlink_question(struct resolve *r)
{
	struct resolve **p = &questions;
	while (*p != r)
		p = &(*p)->next; /* one that is not there crashes */
	*p = r->next;
	fake_resolve.waiting--;
}

void resolve_cancel(struct resolve *r)
{
	if (!r || r->ended)
		return;
	unlink_question(r);
	fake_resolve.cancelled++;
	free(r);
}

static bool is_user(const char *user)
{
	return addr_user_equal(user, "alice") || addr_user_equal(user, "bob") ||
	       addr_user_equal(user, "postmaster") || strncmp(user, "user+", 5) == 0;
}

static size_t many(struct resolve_found *found, char (*text)[32])
{
	size_t count = 2 * SPOOL_RCPTS_MAX;
	for (size_t i = 0; i < count; i++) {
		snprintf(text[i], sizeof text[i], "u%zu@here.test", i);
		found[i].address = text[i];
	}
	return count;
}

/* Where it leads to; 0 with *st why not, or nothing. */
static size_t look_up(const struct resolve *r, const char *self, struct resolve_found *found,
                      struct status *st)
{
	static char text[2 * SPOOL_RCPTS_MAX][32];
	static const struct resolve_found list[] = {{ALIAS_EMAIL, "alice@here.test", NULL},
	                                            {ALIAS_EMAIL, "x@far.test", NULL},
	                                            {ALIAS_PIPE, "cat -n", NULL},
	                                            {ALIAS_FORWARD, "y@far.test", "a.test/b.test"}};
	const char *user = r->addr.user;
	status_set(st, 250, "2.1.5", "ok");
	if (is_user(user)) {
		found[0].address = self;
		return 1;
	}
	if (strcmp(user, "list") == 0) {
		memcpy(found, list, sizeof list);
		return 4;
	}
	if (strcmp(user, "boss") == 0) {
		found[0].address = "alice@here.test";
		return 1;
	}
	if (strcmp(user, "many") == 0)
		return many(found, text);
	if (strcmp(user, "loop") == 0 || strcmp(user, "half") == 0)
		status_set(st, 554, "5.4.6", "aliases in a loop");
	else if (strcmp(user, "busy") == 0)
		status_set(st, 451, "4.3.0", "try later");
	else
		status_set(st, 550, "5.1.1", "unknown user");
	return 0;
}

bool fake_resolve_run(void)
{
	static struct resolve_found found[2 * SPOOL_RCPTS_MAX];
	struct resolve *r = questions;
	struct status st;
	char self[ADDR_TEXT_MAX];
	if (!r)
		return false;
	if (!r->addr.domain[0])
		snprintf(r->addr.domain, sizeof r->addr.domain, "here.test");
	addr_format(&r->addr, self, sizeof self);
	memset(found, 0, sizeof found);
	size_t count = look_up(r, self, found, &st);
	unlink_question(r);
	r->ended = true;
	r->done(r->arg, &st, count > 0 ? found : NULL, count);
	free(r);
	return true;
}
