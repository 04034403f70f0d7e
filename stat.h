/* stat: counters, gauges and histograms. A module defines its own as static variables; they are
 * known from the start of the program, so each is exported with 0 before anything happened. */
#ifndef STAT_H
#define STAT_H

#include <stddef.h>
#include <stdint.h>

enum stat_type { STAT_TYPE_COUNTER, STAT_TYPE_GAUGE, STAT_TYPE_HISTOGRAM };

/* Longest name of a value with its label and NUL, in bytes. */
#define STAT_NAME_MAX 96

/*
 * name is "module/what" or "module/what{label=value}"; values of one label share a name, type and
 * help. Names that begin with "chasquid/" keep that server's meaning and spelling; ours are in
 * small letters. All is fixed at compile time: a label never comes from a peer.
 */
struct stat_value {
	const char *name;
	const char *help; /* one line */
	enum stat_type type;
	int64_t value;         /* HISTOGRAM: the sum of all observed */
	const int64_t *bounds; /* HISTOGRAM: upper ends, ascending; else NULL */
	uint64_t *counts;      /* HISTOGRAM: observed up to each bound and not the one before; the
	                          last is for what is beyond all: one more than bounds. A vector's
	                          values, for stat alone */
	size_t bound_count;
	const char *labels; /* NULL for all that stat_each shows */
	struct stat_value *next;
};

/* Define a static variable that registers itself (a constructor function). */
#define STAT_COUNTER(var, stat_name, stat_help) \
	STAT_DEFINE(var, stat_name, stat_help, STAT_TYPE_COUNTER)
#define STAT_GAUGE(var, stat_name, stat_help) \
	STAT_DEFINE(var, stat_name, stat_help, STAT_TYPE_GAUGE)

/*
 * Counters that differ in the value of one label: count of them, added to by position in the list
 * of values, one string with blanks between them. About 10 bytes of data each, where counters of
 * their own take 100.
 */
#define STAT_VECTOR(var, stat_name, stat_label, stat_help, count, stat_labels) \
	static uint64_t var##_counts[count];                                   \
	static struct stat_value var = {.name = stat_name "{" stat_label "=",  \
	                                .help = (stat_help),                   \
	                                .type = STAT_TYPE_COUNTER,             \
	                                .counts = var##_counts,                \
	                                .bound_count = (count),                \
	                                .labels = (stat_labels)};              \
	STAT_REGISTER(var)

/* The rest are the bounds, from config.h. */
#define STAT_HISTOGRAM(var, stat_name, stat_help, ...)                                          \
	static const int64_t var##_bounds[] = {__VA_ARGS__};                                    \
	static uint64_t var##_counts[sizeof(var##_bounds) / sizeof(int64_t) + 1];               \
	static struct stat_value var = {.name = (stat_name),                                    \
	                                .help = (stat_help),                                    \
	                                .type = STAT_TYPE_HISTOGRAM,                            \
	                                .bounds = var##_bounds,                                 \
	                                .counts = var##_counts,                                 \
	                                .bound_count = sizeof(var##_bounds) / sizeof(int64_t)}; \
	STAT_REGISTER(var)

#define STAT_DEFINE(var, stat_name, stat_help, stat_type)                   \
	static struct stat_value var = {                                    \
	    .name = (stat_name), .help = (stat_help), .type = (stat_type)}; \
	STAT_REGISTER(var)
#define STAT_REGISTER(var)                                            \
	__attribute__((constructor)) static void var##_register(void) \
	{                                                             \
		stat_register(&(var));                                \
	}                                                             \
	extern int stat_needs_semicolon

void stat_register(struct stat_value *v);

/* Adds n; negative for gauges only. */
static inline void stat_add(struct stat_value *v, int64_t n)
{
	v->value += n;
}

/* Adds n to a vector's value at position i, which is less than its count. */
static inline void stat_add_at(struct stat_value *v, size_t i, uint64_t n)
{
	v->counts[i] += n;
}

/* Notes one observation of a histogram. Negative ones (a clock that went back) count as 0. */
void stat_observe(struct stat_value *v, int64_t value);

/* Calls each for every value, in order of name: those of one family (the name up to its label) come
 * one after the other, a vector's in the order of its list. What it is given is valid during the
 * call. */
void stat_each(void (*each)(void *arg, const struct stat_value *v), void *arg);

#endif
