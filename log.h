/* log: one line an event, `<id> <event> key=value ...`, hostile bytes escaped. */
#ifndef LOG_H
#define LOG_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* What an event is about: each has a ring of its own in trace.h. */
enum log_kind { LOG_DAEMON, LOG_SESSION, LOG_DELIVERY, LOG_QUEUE, LOG_KINDS };

/* A file whose events are of another kind defines this before its includes. */
#ifndef LOG_KIND
#define LOG_KIND LOG_DAEMON
#endif

/* A key with a string (NULL counts as "") or, when s is log_number, a number. */
struct log_pair {
	const char *key;
	const char *s;
	int64_t n;
};

extern const char log_number[1];

#define LOG_S(key, value)         \
	{                         \
		(key), (value), 0 \
	}
#define LOG_N(key, value)                           \
	{                                           \
		(key), log_number, (int64_t)(value) \
	}

/* log_error("-", "spool damaged", LOG_S("file", name), LOG_N("errno", errno)); */
#define log_error(...) LOG_AT(LOG_LEVEL_ERROR, __VA_ARGS__, {NULL, NULL, 0})
#define log_info(...)  LOG_AT(LOG_LEVEL_INFO, __VA_ARGS__, {NULL, NULL, 0})
#define log_debug(...) LOG_AT(LOG_LEVEL_DEBUG, __VA_ARGS__, {NULL, NULL, 0})
#define LOG_AT(level, id, event, ...)                                                              \
	((level) <= log_level_now || (level) <= LOG_TRACE_LEVEL                                    \
	     ? log_write((level), LOG_KIND, (id), (event), (const struct log_pair[]){__VA_ARGS__}) \
	     : (void)0)

/* What is written: this level and those before it. */
extern enum log_level log_level_now;

struct log_sink;

/* Lines go to this descriptor (default 2, standard error; with systemd's priority prefixes "<6>"
 * when that is the journal: JOURNAL_STREAM, sd-daemon(3)); -1: nowhere. */
void log_to(int fd);

/* Lines go to a sink, which stays the caller's; NULL: to the descriptor again. */
void log_use(struct log_sink *sink);

/*
 * Keeps the event as a trace, and when its level is written, writes one line, at most LOG_LINE_MAX
 * bytes (cut, marked with "..."). id is the session or message the event belongs to, "-" when none.
 * pairs ends with a NULL key. Values are quoted when they hold anything but plain printable
 * characters; control bytes become \xNN, so no peer can forge a line or a key. errno is kept.
 */
void log_write(enum log_level level, enum log_kind kind, const char *id, const char *event,
               const struct log_pair *pairs);

#endif
