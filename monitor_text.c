/*
 * monitor_text: the pages for machines.
 *
 * What may be long (the queue, the traces) is written as the client reads, some messages a turn,
 * and with one envelope in memory; what is gone meanwhile is left out. Values that strangers chose
 * become one clean line each, cut at MONITOR_VALUE_MAX. The queue has the form that chasquid's dump
 * has.
 */
#include "monitor_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "conf_reload.h"
#include "stat_export.h"
#include "stat_process.h"
#include "text.h"
#include "trace.h"

#define TEXT_PLAIN "text/plain; charset=utf-8"

/* A whole page leaves room for its header. */
#define TEXT_WHOLE_MAX (HTTPD_OUT_MAX - 2048)

/* The most that is written between two looks at the room. */
#define TEXT_UNIT_MAX (2 * MONITOR_VALUE_MAX + TEXT_LITERAL_SIZE(STATUS_PRINT_MAX) + 256)
_Static_assert(TEXT_UNIT_MAX <= HTTPD_PIECE, "a recipient of /debug/queue has to fit");

static const struct monitor_setup *text_setup;

void monitor_text_init(const struct monitor_setup *setup)
{
	text_setup = setup;
}

/* Clears the page. */
static void answer_page(struct httpd_conn *c, const char *type, struct buf *page)
{
	if (page->failed)
		httpd_answer_text(c, 500, NULL, NULL);
	else
		httpd_answer(c, 200, type, NULL, buf_slice(page));
	buf_clear(page);
}

/* ---- values ---- */

#define TEXT_EXTRAS_MAX (STAT_PROCESS_MAX + 1)

static size_t find_extras(struct stat_extra *extra)
{
	int64_t oldest = queue_oldest(text_setup->smtpd->queue);
	int64_t age = oldest > 0 ? text_setup->smtpd->now() - oldest : 0;
	size_t n = stat_process(extra);
	extra[n++] =
	    (struct stat_extra){"queue/oldest_seconds",
	                        "Age of the oldest message in the queue, in s", age > 0 ? age : 0};
	return n;
}

void monitor_text_metrics(struct httpd_conn *c, const struct httpd_request *r)
{
	struct stat_extra extra[TEXT_EXTRAS_MAX];
	bool openmetrics = strcasestr(r->accept, "application/openmetrics-text");
	struct buf page;
	buf_init(&page, TEXT_WHOLE_MAX);
	stat_export_metrics(&page, openmetrics, extra, find_extras(extra));
	answer_page(c, openmetrics ? STAT_OPENMETRICS_TYPE : STAT_PROMETHEUS_TYPE, &page);
}

void monitor_text_vars(struct httpd_conn *c, const struct httpd_request *r)
{
	struct stat_extra extra[TEXT_EXTRAS_MAX];
	struct buf page;
	(void)r;
	buf_init(&page, TEXT_WHOLE_MAX);
	stat_export_json(&page, extra, find_extras(extra));
	answer_page(c, "application/json; charset=utf-8", &page);
}

void monitor_text_config(struct httpd_conn *c, const struct httpd_request *r)
{
	struct buf page;
	(void)r;
	buf_init(&page, TEXT_WHOLE_MAX);
	conf_print(text_setup->smtpd->conf, &page, true);
	answer_page(c, TEXT_PLAIN, &page);
}

/* ---- lines ---- */

static void put_time(struct buf *out, const char *label, int64_t at, const char *end)
{
	char text[40] = "";
	struct tm tm;
	time_t t = (time_t)at;
	if (gmtime_r(&t, &tm))
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	buf_printf(out, "%s%s%s", label, text, end);
}

static void put_value(struct buf *out, const char *label, const char *s, const char *end)
{
	char line[MONITOR_VALUE_MAX + 1];
	status_clean(slice_of(s ? s : ""), line, sizeof(line));
	buf_printf(out, "%s%s%s", label, line, end);
}

/* Enough for this turn? */
static bool is_full(const struct buf *out)
{
	return out->len > HTTPD_PIECE || out->max - out->len < TEXT_UNIT_MAX;
}

/* ---- the queue ---- */

struct queue_dump {
	struct queue_item batch[MONITOR_BATCH];
	size_t count, at;
	char after[SPOOL_ID_MAX + 1]; /* the ID listed last */
	struct envelope env;
	size_t part; /* of env, 0: it is not loaded */
	bool begun;
};

static void queue_dump_free(void *state)
{
	struct queue_dump *d = state;
	envelope_clear(&d->env);
	free(d);
}

static void put_rcpt(struct buf *out, const struct rcpt *r)
{
	static const char states[][9] = {
	    [RCPT_PENDING] = "PENDING ", [RCPT_SENT] = "SENT ", [RCPT_FAILED] = "FAILED "};
	static const char types[][13] = {[RCPT_EMAIL] = " (EMAIL)\n",
	                                 [RCPT_PIPE] = " (PIPE)\n",
	                                 [RCPT_FORWARD] = " (FORWARD)\n"};
	char last[STATUS_PRINT_MAX] = "";
	if (r->last)
		status_print(r->last, last, sizeof(last));
	put_value(out, states[r->state], r->address, types[r->type]);
	put_value(out, "  original address: ", r->original, "\n");
	buf_puts(out, "  last failure: ");
	text_put_literal(out, last, r->state == RCPT_SENT ? 0 : strlen(last));
	buf_putc(out, '\n');
}

/* Writes the next part of the envelope: an address of To, the end of these, a recipient. The end is
 * told by part 0. */
static void put_part(struct queue_dump *d, struct buf *out)
{
	size_t i = d->part++ - 1;
	if (i < d->env.to_count) {
		put_value(out, i == 0 ? "" : " ", d->env.to[i], "");
	} else if (i == d->env.to_count) {
		buf_puts(out, "]\n");
	} else if (i - d->env.to_count <= d->env.rcpt_count) {
		put_rcpt(out, &d->env.rcpt[i - d->env.to_count - 1]);
	} else {
		buf_putc(out, '\n');
		envelope_clear(&d->env);
		d->part = 0;
	}
}

/* Opens the next message. */
static void put_item(struct queue_dump *d, struct buf *out)
{
	const struct queue_item *item = &d->batch[d->at++];
	struct status st = {.code = 0};
	buf_printf(out, "## Item %s\n", item->id);
	put_time(out, "created at: ", item->created, " +0000 UTC\n");
	if (spool_load(text_setup->smtpd->spool, item->id, &d->env, &st) == 0) {
		d->part = 1;
		put_value(out, "from: ", d->env.from, "\nto: [");
	} else {
		buf_printf(out, "(%s)\n\n", st.text);
	}
}

static bool queue_dump_more(void *state, struct buf *out)
{
	struct queue_dump *d = state;
	struct queue *q = text_setup->smtpd->queue;
	int opened = 0;
	if (!d->begun) {
		put_time(out, "# Queue status\n\ndate: ", text_setup->smtpd->now(), " +0000 UTC\n");
		buf_printf(out, "length: %zu\n\n", queue_length(q));
		d->begun = true;
	}
	while (!is_full(out)) {
		if (d->part > 0) {
			put_part(d, out);
		} else if (d->at < d->count) {
			if (++opened > MONITOR_STEP)
				return false;
			put_item(d, out);
		} else {
			d->at = 0;
			d->count = queue_list(q, d->after, d->batch, MONITOR_BATCH);
			if (d->count == 0)
				return true;
			memcpy(d->after, d->batch[d->count - 1].id, sizeof(d->after));
		}
	}
	return false;
}

void monitor_text_queue(struct httpd_conn *c, const struct httpd_request *r)
{
	struct queue_dump *d = calloc(1, sizeof(*d));
	(void)r;
	if (d)
		httpd_stream(c, 200, TEXT_PLAIN, NULL, queue_dump_more, d, queue_dump_free);
	else
		httpd_answer_text(c, 503, NULL, NULL);
}

/* ---- traces ---- */

struct trace_dump {
	unsigned kinds;
	char id[TRACE_ID_MAX + 1]; /* "": any */
	uint64_t at, last;         /* it ends with what was the newest when it began */
};

static bool trace_dump_next(struct trace_dump *d, struct trace_event *e)
{
	return trace_next(d->kinds, *d->id ? d->id : NULL, &d->at, e) && e->seq <= d->last;
}

static bool trace_dump_more(void *state, struct buf *out)
{
	static const char levels[][6] = {
	    [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug"};
	struct trace_dump *d = state;
	struct trace_event e;
	while (!is_full(out)) {
		if (!trace_dump_next(d, &e))
			return true;
		put_time(out, "", e.at / 1000, "");
		buf_printf(out, ".%03d %s %s %s %s\n", (int)(e.at % 1000), trace_kind_name(e.kind),
		           levels[e.level], e.id, e.text);
	}
	return false;
}

/* Passes over all but the last n. */
static void trace_dump_skip(struct trace_dump *d, unsigned long n)
{
	struct trace_dump count = *d;
	struct trace_event e;
	unsigned long there = 0;
	while (trace_dump_next(&count, &e))
		there++;
	while (there-- > n && trace_dump_next(d, &e)) {
	}
}

void monitor_text_traces(struct httpd_conn *c, const struct httpd_request *r)
{
	char kind[16], number[12], *end = number;
	struct trace_dump *d = calloc(1, sizeof(*d));
	if (!d) {
		httpd_answer_text(c, 503, NULL, NULL);
		return;
	}
	bool one = httpd_param(r->query, "kind", kind, sizeof(kind)) > 0;
	bool some = httpd_param(r->query, "n", number, sizeof(number)) > 0;
	unsigned long n = some ? strtoul(number, &end, 10) : 0;
	if ((one && trace_kind(kind) < 0) || (some && *end)) {
		free(d);
		httpd_answer_text(c, 400, NULL,
		                  "There is no such kind of trace, or n is no number.");
		return;
	}
	d->kinds = one ? TRACE_OF(trace_kind(kind)) : TRACE_ALL;
	d->last = trace_newest();
	httpd_param(r->query, "id", d->id, sizeof(d->id));
	if (some)
		trace_dump_skip(d, n);
	httpd_stream(c, 200, TEXT_PLAIN, NULL, trace_dump_more, d, free);
}
