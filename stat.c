/*
 * stat: counters and gauges, a sorted list of static variables. Fixed names only: a label never
 * comes from a peer, so the list has a bound at compile time.
 */
#include "stat.h"

#include <string.h>

static struct stat_counter *stat_list;

static void stat_register(struct stat_counter *c)
{
	struct stat_counter **p = &stat_list;
	while (*p && strcmp((*p)->name, c->name) < 0)
		p = &(*p)->next;
	c->next = *p;
	*p = c;
	c->known = 1;
}

void stat_add(struct stat_counter *c, int64_t n)
{
	if (!c->known)
		stat_register(c);
	c->value += n;
}

void stat_each(void (*each)(void *arg, const char *name, int64_t value), void *arg)
{
	for (const struct stat_counter *c = stat_list; c; c = c->next)
		each(arg, c->name, c->value);
}
