/*
 * monitor_events: the traces: the last events of each kind, and those of one session or message.
 *
 * Events are read from rings that the log overwrites; nothing here keeps a pointer into them over a
 * turn. A list of many is made newest first, from the numbers of the events that fit.
 */
#include "monitor_int.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "monitor_page.h"
#include "queue.h"
#include "trace.h"

/* Events in one unit: an event is 1 KB, escaped 8 at worst. */
#define EVENTS_UNIT 16

#define EVENT_COLUMNS "When|Kind|ID|Event]"

static void put_event(struct buf *out, const struct trace_event *e)
{
	page_put(out,
	         "{When|<span class=\"nb\">%t<small>.%s</small></span>^Kind|<span "
	         "class=\"nb\">%s</span>^ID|",
	         e->at / 1000,
	         (const char[]){(char)('0' + e->at % 1000 / 100), (char)('0' + e->at % 100 / 10),
	                        (char)('0' + e->at % 10), '\0'},
	         trace_kind_name(e->kind));
	if (strcmp(e->id, "-") != 0)
		page_put(out, "<a class=\"id\" href=\"/trace/%u\">%e</a>", e->id, e->id);
	page_put(out, "^Event|<span%s>%B</span>}",
	         e->level == LOG_LEVEL_ERROR ? " class=\"bad\"" : "", e->text);
}

/* ---- of one ID ---- */

/* The session that said that it queued the message: "... id=ID ..." among its events. */
static bool find_session(const char *id, char *session, size_t size)
{
	struct trace_event e;
	uint64_t seq = 0;
	size_t n = strlen(id);
	while (trace_next(TRACE_OF(LOG_SESSION), NULL, &seq, &e)) {
		const char *at = strstr(e.text, " id=");
		if (!at || strncmp(at + 4, id, n) != 0 || (at[4 + n] && at[4 + n] != ' ') ||
		    strlen(e.id) >= size || strcmp(e.id, id) == 0)
			continue;
		memcpy(session, e.id, strlen(e.id) + 1);
		return true;
	}
	return false;
}

/* Writes the events of an ID below a head; how many are left of max. */
static size_t events_of(struct buf *out, const char *id, const char *head, size_t max)
{
	struct trace_event e;
	uint64_t seq = 0;
	size_t left = max;
	while (left > 0 && trace_next(TRACE_ALL, id, &seq, &e)) {
		/* Room for the longest event, and the page's end. */
		if (out->max - out->len < 32768)
			break;
		if (left-- == max)
			page_put(out, head);
		put_event(out, &e);
	}
	if (left < max)
		page_put(out, "~");
	return left;
}

void monitor_events(struct buf *out, const char *id)
{
	char session[64];
	size_t left = MONITOR_EVENTS_MAX;
	if (find_session(id, session, sizeof session))
		left =
		    events_of(out, session, "[The session that brought it.|" EVENT_COLUMNS, left);
	left = events_of(out, id, "[Its own events.|" EVENT_COLUMNS, left);
	if (left == MONITOR_EVENTS_MAX)
		page_put(out, "<p class=\"soft\">No event is kept of it (any more).</p>\n");
}

void monitor_trace(struct buf *out, const struct httpd_request *r)
{
	const char *id = r->path + strlen("/trace/");
	struct queue_item item;
	page_put(out, "<h1>Trace of <span class=\"id\">%b</span></h1>\n", id);
	if (queue_find(monitor_state.setup->smtpd->queue, id, &item) == 0)
		page_put(out, "<p><a href=\"/message/%u\">The message in the queue</a></p>\n", id);
	monitor_events(out, id);
}

/* ---- of all ---- */

struct events_view {
	unsigned kinds;
	int kind; /* -1: all */
	bool begun;
	size_t count;                     /* of seq, those still to be shown */
	uint64_t seq[MONITOR_EVENTS_MAX]; /* ascending */
};

/* The numbers of the newest events. */
static void events_find(struct events_view *v)
{
	struct trace_event e;
	uint64_t seq = 0;
	while (trace_next(v->kinds, NULL, &seq, &e)) {
		if (v->count == MONITOR_EVENTS_MAX) {
			v->count--;
			memmove(v->seq, v->seq + 1, v->count * sizeof v->seq[0]);
		}
		v->seq[v->count++] = seq;
	}
}

static void events_head(struct buf *out, const struct events_view *v)
{
	page_begin(out, NULL, PAGE_TRACES);
	page_put(out, "<h1>Traces</h1>\n<nav class=\"kinds\" aria-label=\"Kinds\">");
	for (int k = -1; k < LOG_KINDS; k++) {
		const char *name = k < 0 ? "all" : trace_kind_name((enum log_kind)k);
		page_put(out, "<a href=\"/traces?kind=%s\"%s>%s</a>", name,
		         v->kind == k ? " aria-current=\"page\"" : "", name);
	}
	page_put(out, "</nav>\n[The last events, the newest first.|" EVENT_COLUMNS);
}

static bool events_next(void *arg, struct buf *out)
{
	struct events_view *v = arg;
	struct trace_event e;
	if (!v->begun) {
		v->begun = true;
		events_head(out, v);
		return false;
	}
	for (size_t i = 0; i < EVENTS_UNIT && v->count > 0; i++) {
		uint64_t want = v->seq[--v->count], seq = want - 1;
		/* Not there: overwritten meanwhile. */
		if (trace_next(v->kinds, NULL, &seq, &e) && seq == want)
			put_event(out, &e);
	}
	if (v->count > 0)
		return false;
	page_put(out, "~");
	page_end(out);
	return true;
}

void monitor_traces(struct httpd_conn *c, const struct httpd_request *r)
{
	char kind[16];
	struct events_view *v = calloc(1, sizeof *v);
	if (!v) {
		httpd_answer_text(c, 503, NULL, NULL);
		return;
	}
	v->kind = httpd_param(r->query, "kind", kind, sizeof kind) > 0 ? trace_kind(kind) : -1;
	v->kinds = v->kind < 0 ? TRACE_ALL : TRACE_OF(v->kind);
	events_find(v);
	page_stream(c, 200, events_next, v, free);
}
