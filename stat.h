/* stat: counters. A module defines its own as static variables; they register at first use. */
#ifndef STAT_H
#define STAT_H

#include <stdint.h>

/* name is "module/what" or "module/what{label}". */
struct stat_counter {
	const char *name;
	int64_t value;
	struct stat_counter *next;
	int known;
};

#define STAT_COUNTER(var, counter_name) static struct stat_counter var = {.name = (counter_name)}

/* Adds n (may be negative, for gauges). */
void stat_add(struct stat_counter *c, int64_t n);

/* Calls each for every counter used so far, in order of name. */
void stat_each(void (*each)(void *arg, const char *name, int64_t value), void *arg);

#endif
