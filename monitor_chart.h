/* monitor_chart: what happened in the last hour, a point a minute, and drawings of it. */
#ifndef MONITOR_CHART_H
#define MONITOR_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "monitor.h"

/* Counters first: their points are what came in that minute. Of gauges, the value at its end. */
enum monitor_series {
	MONITOR_RECEIVED,
	MONITOR_DELIVERED,
	MONITOR_DEFERRED,
	MONITOR_FAILED,
	MONITOR_QUEUE,
	MONITOR_SESSIONS,
	MONITOR_SERIES
};

/* Begins to take a sample each MONITOR_SAMPLE_MS. setup is kept; its queue may come later. */
void monitor_chart_open(const struct monitor_setup *setup);

/* Ends it and forgets all samples. */
void monitor_chart_close(void);

/* Takes one sample, `minutes` after the last one: what came in meanwhile is spread over them. The
 * timer calls it. */
void monitor_chart_note(const int64_t values[MONITOR_SERIES], int64_t minutes);

/* What a counter has counted in the last hour, up to now. */
int64_t monitor_chart_sum(enum monitor_series s);

/* Appends a <figure> with the series as inline SVG. It has a title and a description in words; its
 * colours are those of the page's style. */
void monitor_chart_draw(struct buf *out, enum monitor_series s);

#endif
