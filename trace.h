/* trace: the last events of each kind, in rings of fixed size. Fed by log_write. */
#ifndef TRACE_H
#define TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "log.h"

/* An event, valid until the next log_write. id and text point into the ring, NUL-terminated. */
struct trace_event {
	uint64_t seq; /* grows by one an event, over all kinds; from 1 */
	int64_t at;   /* wall clock, ms */
	enum log_level level;
	enum log_kind kind;
	const char *id; /* session or message, "-" for none */
	const char
	    *text; /* "event key=value ...", escaped as in the log, without ID and line end */
};

/* A bit a kind, for trace_next. */
#define TRACE_OF(kind) (1U << (kind))
#define TRACE_ALL      (TRACE_OF(LOG_KINDS) - 1)

/* Keeps an event; the oldest of its kind make room. A text longer than TRACE_TEXT_MAX is cut. Needs
 * no memory but the rings (TRACE_RING_BYTES a kind, static). */
void trace_add(enum log_level level, enum log_kind kind, const char *id, const char *text,
               size_t n);

/* The first event behind *seq (0: from the oldest on) among these kinds, and with this ID (NULL:
 * any); sets *seq to it. False when there is none. So a slow reader goes on where it was; what was
 * overwritten meanwhile is passed over. */
bool trace_next(unsigned kinds, const char *id, uint64_t *seq, struct trace_event *e);

/* The number of the newest event; 0 when there was none. */
uint64_t trace_newest(void);

/* "session", "delivery", "queue" or "daemon"; and back, -1 for another word. */
const char *trace_kind_name(enum log_kind kind);
int trace_kind(const char *name);

#endif
