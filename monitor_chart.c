/*
 * monitor_chart: what happened in the last hour, a point a minute, and drawings of it.
 *
 * A timer reads counters of stat and some gauges once a minute by the monotonic clock, so a step of
 * the wall clock moves nothing. Points are in a ring; memory is static and small. A turn of the
 * loop that came late (a suspended machine has no monotonic time, but a loaded one has) fills the
 * minutes that it missed, so the axis stays true.
 *
 * A drawing is one <path> of integers in a box of 300 by 60 units, which CSS stretches.
 */
#include "monitor_chart.h"

#include <string.h>

#include "loop.h"
#include "monitor_page.h"
#include "queue.h"
#include "stat.h"

#define CHART_WIDTH  300
#define CHART_HEIGHT 60

static struct {
	const struct monitor_setup *setup;
	struct loop_timer timer;
	int64_t due;                  /* of the next sample, monotonic ms */
	int64_t last[MONITOR_SERIES]; /* counters at the last sample */
	int64_t point[MONITOR_SERIES][MONITOR_SAMPLES];
	size_t next, count; /* in the ring */
} H;

/* Arrays, not pointers: nothing to relocate. */
static const struct chart_look {
	char name[16], unit[12];
	bool alert, gauge;
} looks[] = {
    [MONITOR_RECEIVED] = {"Received", "messages", false, false},
    [MONITOR_DELIVERED] = {"Delivered", "recipients", false, false},
    [MONITOR_DEFERRED] = {"Deferred", "attempts", true, false},
    [MONITOR_FAILED] = {"Bounced", "recipients", true, false},
    [MONITOR_QUEUE] = {"In the queue", "messages", false, true},
    [MONITOR_SESSIONS] = {"Server sessions", "connections", false, true},
};

/* ---- samples ---- */

/* Values whose names begin and end like this are added up. */
static const struct {
	char head[15], tail[10];
	enum monitor_series series;
} counters[] = {
    {"smtpd/messages", "", MONITOR_RECEIVED},
    {"queue/rcpt{", "sent}", MONITOR_DELIVERED},
    {"queue/rcpt{", "deferred}", MONITOR_DEFERRED},
    {"queue/rcpt{", "failed}", MONITOR_FAILED},
};

static void chart_count(void *arg, const struct stat_value *v)
{
	int64_t *values = arg;
	size_t n = strlen(v->name);
	for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++) {
		size_t head = strlen(counters[i].head), tail = strlen(counters[i].tail);
		bool fits = tail == 0 ? n == head : n >= head + tail;
		if (fits && memcmp(v->name, counters[i].head, head) == 0 &&
		    strcmp(v->name + n - tail, counters[i].tail) == 0)
			values[counters[i].series] += v->value;
	}
}

static void chart_read(int64_t values[MONITOR_SERIES])
{
	const struct queue *q = H.setup ? H.setup->smtpd->queue : NULL;
	memset(values, 0, MONITOR_SERIES * sizeof values[0]);
	stat_each(chart_count, values);
	values[MONITOR_QUEUE] = q ? (int64_t)queue_length(q) : 0;
	values[MONITOR_SESSIONS] = H.setup && H.setup->sessions ? (int64_t)H.setup->sessions() : 0;
}

void monitor_chart_note(const int64_t values[MONITOR_SERIES], int64_t minutes)
{
	int64_t rest[MONITOR_SERIES];
	if (minutes < 1)
		minutes = 1;
	if (minutes > MONITOR_SAMPLES)
		minutes = MONITOR_SAMPLES;
	for (size_t s = 0; s < MONITOR_SERIES; s++)
		rest[s] = values[s] - H.last[s];
	for (int64_t m = minutes; m > 0; m--) {
		for (size_t s = 0; s < MONITOR_SERIES; s++) {
			int64_t part = looks[s].gauge ? values[s] : rest[s] / m;
			H.point[s][H.next] = part;
			rest[s] -= part;
		}
		H.next = (H.next + 1) % MONITOR_SAMPLES;
		if (H.count < MONITOR_SAMPLES)
			H.count++;
	}
	memcpy(H.last, values, sizeof H.last);
}

static void chart_due(void *arg)
{
	int64_t values[MONITOR_SERIES];
	int64_t late = loop_now() - H.due;
	int64_t minutes = 1 + (late > 0 ? late / MONITOR_SAMPLE_MS : 0);
	(void)arg;
	chart_read(values);
	monitor_chart_note(values, minutes);
	H.due += minutes * MONITOR_SAMPLE_MS;
	loop_timer_set(&H.timer, H.due - loop_now());
}

void monitor_chart_open(const struct monitor_setup *setup)
{
	memset(&H, 0, sizeof H);
	H.setup = setup;
	chart_read(H.last);
	H.due = loop_now() + MONITOR_SAMPLE_MS;
	loop_timer_init(&H.timer, chart_due, NULL);
	loop_timer_set(&H.timer, MONITOR_SAMPLE_MS);
}

void monitor_chart_close(void)
{
	loop_timer_stop(&H.timer);
	memset(&H, 0, sizeof H);
}

int64_t monitor_chart_sum(enum monitor_series s)
{
	int64_t values[MONITOR_SERIES];
	chart_read(values);
	int64_t sum = values[s] - H.last[s];
	for (size_t i = 0; i < H.count; i++)
		sum += H.point[s][i];
	return sum;
}

/* ---- drawings ---- */

/* The i-th point of the axis, 0 an hour ago; those before the first sample are 0. */
static int64_t chart_at(enum monitor_series s, size_t i)
{
	if (i + H.count < MONITOR_SAMPLES)
		return 0;
	return H.point[s][(H.next + i) % MONITOR_SAMPLES];
}

/* Height above the ground of a value, in units; a value that is not 0 can be seen. */
static int chart_height(int64_t value, int64_t peak)
{
	if (value <= 0)
		return 0;
	int h = (int)((double)value * (CHART_HEIGHT - 2) / (double)peak);
	return h > 1 ? h : 1;
}

static void chart_bars(struct buf *out, enum monitor_series s, int64_t peak)
{
	const int step = CHART_WIDTH / MONITOR_SAMPLES;
	buf_puts(out, "<path class=\"bar\" d=\"");
	for (size_t i = 0; i < MONITOR_SAMPLES; i++) {
		int h = chart_height(chart_at(s, i), peak);
		if (h > 0)
			buf_printf(out, "M%d %dv-%dh%dv%dz", (int)i * step, CHART_HEIGHT, h,
			           step - 1, h);
	}
	buf_puts(out, "\"/>");
}

static void chart_line(struct buf *out, enum monitor_series s, int64_t peak, size_t first)
{
	const int step = CHART_WIDTH / MONITOR_SAMPLES;
	struct buf line;
	buf_init(&line, 16 * (MONITOR_SAMPLES + 1));
	for (size_t i = first; i < MONITOR_SAMPLES; i++)
		buf_printf(&line, "%c%d %d", i == first ? 'M' : 'L', ((int)i + 1) * step,
		           CHART_HEIGHT - chart_height(chart_at(s, i), peak));
	buf_printf(out, "<path class=\"area\" d=\"%sV%dH%dz\"/>", buf_str(&line), CHART_HEIGHT,
	           ((int)first + 1) * step);
	buf_printf(out, "<path class=\"line\" d=\"%s\"/>", buf_str(&line));
	buf_clear(&line);
}

void monitor_chart_draw(struct buf *out, enum monitor_series s)
{
	const struct chart_look *look = &looks[s];
	int64_t values[MONITOR_SERIES], peak = 0;
	chart_read(values);
	for (size_t i = 0; i < MONITOR_SAMPLES; i++)
		if (chart_at(s, i) > peak)
			peak = chart_at(s, i);
	int64_t shown = look->gauge ? values[s] : monitor_chart_sum(s);
	if (look->gauge && shown > peak)
		peak = shown; /* since the last sample */
	page_put(out,
	         "<figure><figcaption>%s <span>%d %s</span></figcaption><svg class=\"chart%s\" "
	         "viewBox=\"0 0 300 60\" preserveAspectRatio=\"none\" role=\"img\" "
	         "aria-labelledby=\"t%d d%d\"><title id=\"t%d\">%s</title><desc id=\"d%d\">"
	         "In the last %d minutes: %d %s%s, at most %d%s.</desc>",
	         look->name, shown, look->unit, look->alert ? " alert" : "", (int64_t)s, (int64_t)s,
	         (int64_t)s, look->name, (int64_t)s, (int64_t)H.count, shown, look->unit,
	         look->gauge ? " now" : "", peak, look->gauge ? "" : " in one");
	if (peak > 0 && look->gauge && H.count > 0)
		chart_line(out, s, peak, MONITOR_SAMPLES - H.count);
	else if (peak > 0 && !look->gauge)
		chart_bars(out, s, peak);
	page_put(out,
	         "</svg><div class=\"axis\" aria-hidden=\"true\"><span>%d min ago</span><span>"
	         "peak %d%s</span><span>now</span></div></figure>\n",
	         (int64_t)MONITOR_SAMPLES, peak, look->gauge ? "" : " a minute");
}
