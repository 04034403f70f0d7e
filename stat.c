/*
 * stat: counters, gauges and histograms: a sorted list of static variables, complete before main.
 * Fixed names only: a label never comes from a peer, so the list has a bound at compile time.
 */
#include "stat.h"

#include <stdio.h>
#include <string.h>

static struct stat_value *stat_list;

void stat_register(struct stat_value *v)
{
	struct stat_value **p = &stat_list;
	while (*p && strcmp((*p)->name, v->name) < 0)
		p = &(*p)->next;
	v->next = *p;
	*p = v;
}

void stat_observe(struct stat_value *v, int64_t value)
{
	size_t i = 0;
	if (value < 0)
		value = 0;
	while (i < v->bound_count && value > v->bounds[i])
		i++;
	v->counts[i]++;
	v->value += value;
}

/* Shows each value of a vector as one of its own. */
static void stat_each_label(void (*each)(void *arg, const struct stat_value *v), void *arg,
                            const struct stat_value *v)
{
	char name[STAT_NAME_MAX];
	struct stat_value one = {.name = name, .help = v->help, .type = v->type};
	const char *label = v->labels;
	for (size_t i = 0; i < v->bound_count; i++) {
		size_t n = strcspn(label, " ");
		snprintf(name, sizeof name, "%s%.*s}", v->name, (int)n, label);
		one.value = (int64_t)v->counts[i];
		each(arg, &one);
		label += n;
		label += *label == ' ';
	}
}

void stat_each(void (*each)(void *arg, const struct stat_value *v), void *arg)
{
	for (const struct stat_value *v = stat_list; v; v = v->next) {
		if (v->labels)
			stat_each_label(each, arg, v);
		else
			each(arg, v);
	}
}
