/* log: one line an event, `<id> <event> key=value ...`, hostile bytes escaped. */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
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

/* A key, which is a literal, with a string (NULL counts as "") or a number. */
#define LOG_S(key, value) "s" key, log_string(value)
#define LOG_N(key, value) "n" key, (int64_t)(value)

/* log_error("-", "spool damaged", LOG_S("file", name), LOG_N("errno", errno)); */
#define log_error(...) LOG_AT(LOG_LEVEL_ERROR, __VA_ARGS__, (char *)NULL)
#define log_info(...)  LOG_AT(LOG_LEVEL_INFO, __VA_ARGS__, (char *)NULL)
#define log_debug(...) LOG_AT(LOG_LEVEL_DEBUG, __VA_ARGS__, (char *)NULL)
#define LOG_AT(level, ...)                                     \
	((level) != LOG_LEVEL_DEBUG || log_takes(level)        \
	     ? log_write(LOG_OF(LOG_KIND, level), __VA_ARGS__) \
	     : (void)0)

/* Kind and level in one number, as log_write takes them. */
#define LOG_OF(kind, level) ((unsigned)(kind)*4 + (unsigned)(level))

/* What is written: this level and those before it. */
extern enum log_level log_level_now;

/* Does anything become of an event? The lowest level comes too often to find out by doing. */
static inline bool log_takes(enum log_level level)
{
	return level <= log_level_now || (int)level <= LOG_TRACE_LEVEL;
}

/* Has the compiler see to it that a string is one. */
static inline const char *log_string(const char *s)
{
	return s;
}

struct log_sink;

/* Lines go to this descriptor (default 2, standard error; with systemd's priority prefixes "<6>"
 * when that is the journal: JOURNAL_STREAM, sd-daemon(3)); -1: nowhere. */
void log_to(int fd);

/* Lines go to a sink, which stays the caller's; NULL: to the descriptor again. */
void log_use(struct log_sink *sink);

/*
 * Keeps the event as a trace, and when its level is written, writes one line, at most LOG_LINE_MAX
 * bytes (cut, marked with "..."). id is the session or message the event belongs to, "-" when none.
 * Keys with their values follow, as LOG_S and LOG_N make them, and NULL. Values are quoted when
 * they hold anything but plain printable characters; control bytes become \xNN, so no peer can
 * forge a line or a key. errno is kept.
 */
void log_write(unsigned what, const char *id, const char *event, ...) __attribute__((sentinel));

#endif
