/* stat: counters, gauges and histograms. A module defines its own as static variables; they are
 * known from the start of the program, so each is exported with 0 before anything happened. */
#ifndef STAT_H
#define STAT_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"

enum stat_type { STAT_TYPE_COUNTER, STAT_TYPE_GAUGE, STAT_TYPE_HISTOGRAM };

/* Longest name of a value with its label and NUL, in bytes. */
#define STAT_NAME_MAX 96

/* What a value is beside its name. */
struct stat_kind {
	enum stat_type type;
	size_t count;          /* HISTOGRAM: of the bounds; a vector: of its values; else 0 */
	const int64_t *bounds; /* HISTOGRAM: upper ends, ascending */
	uint64_t *counts;      /* HISTOGRAM: observed up to each bound and not the one before; the
	                          last is for what is beyond all: one more than bounds. A vector's
	                          values, for stat alone */
	const char *labels;    /* NULL for all that stat_each shows */
};

/* That of all counters, that of all gauges. */
extern const struct stat_kind stat_counter, stat_gauge;

/*
 * name is "module/what" or "module/what{label=value}"; values of one label share a name, type and
 * help. Names that begin with "chasquid/" keep that server's meaning and spelling; ours are in
 * small letters. All is fixed at compile time: a label never comes from a peer.
 */
struct stat_value {
	const char *name;
	const char *help; /* one line */
	const struct stat_kind *kind;
	struct stat_value *next;
	int64_t value; /* HISTOGRAM: the sum of all observed */
};

/* Define a static variable that registers itself (a constructor function). */
#define STAT_COUNTER(var, stat_name, stat_help) \
	STAT_DEFINE(var, stat_name, stat_help, &stat_counter)
#define STAT_GAUGE(var, stat_name, stat_help) STAT_DEFINE(var, stat_name, stat_help, &stat_gauge)

/*
 * Counters that differ in the value of one label: count of them, added to by position in the list
 * of values, one string with blanks between them. About 10 bytes of data each, where counters of
 * their own take 70.
 */
#define STAT_VECTOR(var, stat_name, stat_label, stat_help, n, stat_labels)                     \
	static uint64_t var##_counts[n];                                                       \
	static const struct stat_kind var##_kind = {                                           \
	    STAT_TYPE_COUNTER, .count = (n), .counts = var##_counts, .labels = (stat_labels)}; \
	STAT_DEFINE(var, stat_name "{" stat_label "=", stat_help, &var##_kind)

/* The rest are the bounds, from config.h. */
#define STAT_HISTOGRAM(var, stat_name, stat_help, ...)                            \
	static const int64_t var##_bounds[] = {__VA_ARGS__};                      \
	static uint64_t var##_counts[sizeof(var##_bounds) / sizeof(int64_t) + 1]; \
	static const struct stat_kind var##_kind = {                              \
	    STAT_TYPE_HISTOGRAM, .count = sizeof(var##_bounds) / sizeof(int64_t), \
	    .bounds = var##_bounds, .counts = var##_counts};                      \
	STAT_DEFINE(var, stat_name, stat_help, &var##_kind)

#define STAT_DEFINE(var, stat_name, stat_help, stat_kind)                   \
	static struct stat_value var = {                                    \
	    .name = (stat_name), .help = (stat_help), .kind = (stat_kind)}; \
	STAT_REGISTER(var)
#if STAT_KEPT
#define STAT_REGISTER(var)                                            \
	__attribute__((constructor)) static void var##_register(void) \
	{                                                             \
		stat_register(&(var));                                \
	}                                                             \
	extern int stat_needs_semicolon
#else
#define STAT_REGISTER(var) extern int stat_needs_semicolon
#endif

/* For the macros above, and stat_observe. */
void stat_register(struct stat_value *v);
void stat_sort_in(struct stat_value *v, int64_t value);

/* Adds n; negative for gauges only. */
static inline void stat_add(struct stat_value *v, int64_t n)
{
	if (STAT_KEPT)
		v->value += n;
}

/* Adds n to a vector's value at position i, which is less than its count. */
static inline void stat_add_at(struct stat_value *v, size_t i, uint64_t n)
{
	if (STAT_KEPT)
		v->kind->counts[i] += n;
}

/* Notes one observation of a histogram. Negative ones (a clock that went back) count as 0. */
static inline void stat_observe(struct stat_value *v, int64_t value)
{
	if (STAT_KEPT)
		stat_sort_in(v, value);
}

/* Calls each for every value, in order of name: those of one family (the name up to its label) come
 * one after the other, a vector's in the order of its list. What it is given is valid during the
 * call. */
void stat_each(void (*each)(void *arg, const struct stat_value *v), void *arg);

#endif
