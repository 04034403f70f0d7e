/*
 * stat: counters, gauges and histograms: a sorted list of static variables, complete before main.
 * Fixed names only: a label never comes from a peer, so the list has a bound at compile time.
 */
#include "stat.h"

#include <stdio.h>
#include <string.h>

const struct stat_kind stat_counter = {.type = STAT_TYPE_COUNTER},
                       stat_gauge = {.type = STAT_TYPE_GAUGE};

static struct stat_value *stat_list;

void stat_register(struct stat_value *v)
{
	struct stat_value **p = &stat_list;
	while (*p && strcmp((*p)->name, v->name) < 0)
		p = &(*p)->next;
	v->next = *p;
	*p = v;
}

void stat_sort_in(struct stat_value *v, int64_t value)
{
	const struct stat_kind *k = v->kind;
	size_t i = 0;
	if (value < 0)
		value = 0;
	while (i < k->count && value > k->bounds[i])
		i++;
	k->counts[i]++;
	v->value += value;
}

/* Shows each value of a vector as one of its own. */
static void stat_each_label(void (*each)(void *arg, const struct stat_value *v), void *arg,
                            const struct stat_value *v)
{
	char name[STAT_NAME_MAX];
	struct stat_value one = {.name = name, .help = v->help, .kind = &stat_counter};
	const char *label = v->kind->labels;
	for (size_t i = 0; i < v->kind->count; i++) {
		size_t n = strcspn(label, " ");
		snprintf(name, sizeof name, "%s%.*s}", v->name, (int)n, label);
		one.value = (int64_t)v->kind->counts[i];
		each(arg, &one);
		label += n;
		label += *label == ' ';
	}
}

void stat_each(void (*each)(void *arg, const struct stat_value *v), void *arg)
{
	for (const struct stat_value *v = stat_list; v; v = v->next) {
		if (v->kind->labels)
			stat_each_label(each, arg, v);
		else
			each(arg, v);
	}
}
