/*
 * monitor_queue: the queue as a table, and the page of one message.
 *
 * Both are made in units while they are sent: MONITOR_STEP envelopes in a unit of the queue, some
 * recipients or attempts in one of a message. So a queue of any length costs the loop a bounded
 * step a turn and the memory of one envelope. A message may be delivered and gone between two
 * units; then its page ends early.
 */
#include "monitor_int.h"

#include <stdlib.h>
#include <string.h>

#include "monitor_auth.h"
#include "monitor_page.h"
#include "queue.h"
#include "spool_history.h"

/* Recipients or attempts in one unit: each takes 10 KB at worst. */
#define UNIT_ROWS 16

/* Attempts shown: the newest. */
#define ATTEMPTS_SHOWN 96

/* Recipients named in a row of a table. */
#define NAMED_RCPTS 2

static const struct smtpd_setup *queue_setup(void)
{
	return monitor_state.setup->smtpd;
}

/* ---- parts of both pages ---- */

static void put_next(struct buf *out, const struct queue_item *item)
{
	int64_t wait = item->next - queue_setup()->now();
	if (item->active)
		page_put(out, "<span class=\"tag good\">being delivered</span>");
	else if (item->held)
		page_put(out, "<span class=\"tag warn\">held</span>");
	else if (wait <= 0)
		page_put(out, "now");
	else
		page_put(out, "<span class=\"nb\">in %a</span>", wait);
}

/* What a person calls a recipient: for a program, the address that led to it. */
static const char *rcpt_name(const struct rcpt *r)
{
	return r->type == RCPT_PIPE && r->original ? r->original : r->address;
}

/* The latest verdict that was not a success. */
static const struct status *last_trouble(const struct envelope *env)
{
	for (size_t i = 0; i < env->rcpt_count; i++)
		if (env->rcpt[i].state != RCPT_SENT && env->rcpt[i].last)
			return env->rcpt[i].last;
	return NULL;
}

/* The first names, and how many more there are. */
static void put_names(struct buf *out, const char *name, size_t i, size_t count)
{
	if (i < NAMED_RCPTS)
		page_put(out, i > 0 ? "<br>%b" : "%b", name);
	if (i == NAMED_RCPTS)
		page_put(out, "<br><small>and %d more</small>", (int64_t)(count - NAMED_RCPTS));
}

static void put_row(struct buf *out, const struct queue_item *item, const struct envelope *env)
{
	const struct status *trouble = last_trouble(env);
	page_put(out, "{ID|<a class=\"id\" href=\"/message/%u\">%e</a>^From|%b^To|<span>", item->id,
	         item->id, env->from);
	for (size_t i = 0; i < env->rcpt_count; i++)
		put_names(out, rcpt_name(&env->rcpt[i]), i, env->rcpt_count);
	page_put(out, "</span>^Age|<span class=\"nb\">%a</span>^Next attempt|",
	         queue_setup()->now() - item->created);
	put_next(out, item);
	page_put(out, "^Last error|");
	if (trouble)
		page_put(out, "%S", trouble);
	page_put(out, "}");
}

/* A message whose file cannot be read now is there all the same. */
static void put_unread(struct buf *out, const struct queue_item *item, const struct status *st)
{
	if (status_class(st) != STATUS_TRANSIENT)
		return;
	page_put(out,
	         "{ID|<a class=\"id\" href=\"/message/%u\">%e</a>^From|^To|^Age|%a^Next attempt|",
	         item->id, item->id, queue_setup()->now() - item->created);
	put_next(out, item);
	page_put(out, "^Last error|%S}", st);
}

static void put_table(struct buf *out)
{
	page_put(out, "[The oldest first.|ID|From|To|Age|Next attempt|Last error]");
}

void monitor_queue_oldest(struct buf *out, size_t max)
{
	struct queue_item items[MONITOR_STEP];
	size_t n =
	    queue_list(queue_setup()->queue, "", items, max < MONITOR_STEP ? max : MONITOR_STEP);
	if (n > 0)
		put_table(out);
	for (size_t i = 0; i < n; i++) {
		struct envelope env = {.from = NULL};
		struct status st;
		if (spool_load(queue_setup()->spool, items[i].id, &env, &st) == 0)
			put_row(out, &items[i], &env);
		else
			put_unread(out, &items[i], &st);
		envelope_clear(&env);
	}
	page_put(out, n > 0 ? "~" : "<p class=\"soft\">No message waits.</p>\n");
}

/* ---- the queue ---- */

struct queue_view {
	size_t batch_count, batch_at;
	size_t rows, looked;
	char *begin; /* the page up to the table; NULL once it was sent */
	char filter[MONITOR_FILTER_MAX + 1];
	char after[SPOOL_ID_MAX + 1]; /* looked at last */
	struct queue_item batch[MONITOR_BATCH];
};

static bool has_text(const char *s, const char *part)
{
	return s && strcasestr(s, part);
}

/* Does the filter's text stand in its ID, sender, a recipient or what was said of one? */
static bool view_matches(const struct queue_view *v, const struct envelope *env)
{
	if (!*v->filter || has_text(env->id, v->filter) || has_text(env->from, v->filter))
		return true;
	for (size_t i = 0; i < env->rcpt_count; i++) {
		const struct rcpt *r = &env->rcpt[i];
		char text[STATUS_PRINT_MAX] = "";
		if (r->last)
			status_print(r->last, text, sizeof text);
		if (has_text(r->address, v->filter) || has_text(r->original, v->filter) ||
		    has_text(text, v->filter))
			return true;
	}
	return false;
}

static void view_begin(struct buf *out, struct queue_view *v, const struct httpd_request *r)
{
	const struct queue *q = queue_setup()->queue;
	page_begin(out, NULL, PAGE_QUEUE);
	page_put(out, "<h1>Queue</h1>\n<p class=\"sub\">Messages: %d", (int64_t)queue_length(q));
	if (queue_length(q) > 0)
		page_put(out, ", the oldest from %a ago", queue_setup()->now() - queue_oldest(q));
	page_put(out, "</p>\n");
	monitor_notice(out, r);
	page_put(out,
	         "<form action=\"/queue\" role=\"search\"><label>Text in ID, address or error "
	         "<input type=\"search\" name=\"q\" maxlength=\"100\" value=\"%e\"></label>"
	         "<button>Filter</button>%s</form>\n",
	         v->filter, *v->filter ? "<a class=\"button\" href=\"/queue\">Show all</a>" : "");
	if (monitor_auth_may_act() && queue_length(q) > 0) {
		page_form(out, NULL);
		page_put(out, "<button name=\"do\" value=\"flush\">Try all now</button></form>\n");
	}
	put_table(out);
}

static void view_end(struct buf *out, const struct queue_view *v, bool more)
{
	page_put(out, "~");
	if (v->rows == 0)
		page_put(out, "<p class=\"soft\">No message %s.</p>\n",
		         *v->filter ? "matches here" : "waits");
	if (more)
		page_put(out,
		         "<p><a class=\"button\" rel=\"next\" href=\"/queue?q=%u&amp;after=%u\">"
		         "Younger ones</a></p>\n",
		         v->filter, v->after);
	page_end(out);
}

/* Fetches the next batch of the index; false at its end. */
static bool view_fetch(struct queue_view *v)
{
	if (v->batch_at == v->batch_count) {
		v->batch_at = 0;
		v->batch_count =
		    queue_list(queue_setup()->queue, v->after, v->batch, MONITOR_BATCH);
	}
	return v->batch_count > 0;
}

static bool view_next(void *arg, struct buf *out)
{
	struct queue_view *v = arg;
	if (v->begin) {
		buf_puts(out, v->begin);
		free(v->begin);
		v->begin = NULL;
		return false;
	}
	for (size_t i = 0; i < MONITOR_STEP; i++) {
		struct envelope env = {.from = NULL};
		struct status st;
		if (!view_fetch(v)) {
			view_end(out, v, false);
			return true;
		}
		if (v->rows == MONITOR_ROWS || v->looked == MONITOR_SCAN_MAX) {
			view_end(out, v, true);
			return true;
		}
		const struct queue_item *item = &v->batch[v->batch_at++];
		memcpy(v->after, item->id, sizeof v->after);
		v->looked++;
		if (spool_load(queue_setup()->spool, item->id, &env, &st) < 0) {
			put_unread(out, item, &st);
		} else if (view_matches(v, &env)) {
			put_row(out, item, &env);
			v->rows++;
		}
		envelope_clear(&env);
	}
	return false;
}

static void view_free(void *arg)
{
	struct queue_view *v = arg;
	free(v->begin);
	free(v);
}

void monitor_queue(struct httpd_conn *c, const struct httpd_request *r)
{
	struct queue_view *v = calloc(1, sizeof *v);
	struct buf out;
	buf_init(&out, MONITOR_UNIT_MAX);
	if (!v) {
		out.failed = true;
		page_send(c, 503, &out);
		return;
	}
	httpd_param(r->query, "q", v->filter, sizeof v->filter);
	httpd_param(r->query, "after", v->after, sizeof v->after);
	view_begin(&out, v, r);
	v->begin = out.failed ? NULL : strdup(buf_str(&out));
	if (!v->begin) {
		out.failed = true;
		page_send(c, 503, &out);
		free(v);
		return;
	}
	buf_clear(&out);
	page_stream(c, 200, view_next, v, view_free);
}

/* ---- one message ---- */

enum message_part { PART_HEAD, PART_RCPTS, PART_ATTEMPTS, PART_HEADER, PART_EVENTS, PART_OVER };

struct message_view {
	char *begin; /* with the notice */
	enum message_part part;
	size_t at;              /* row of the part */
	size_t attempts, first; /* recorded; the first of those shown */
	size_t seen;            /* while they are read */
	struct buf *out;
	struct queue_item item;
	struct envelope env;
};

/* By enum rcpt_state: class of the tag, and what it says of a recipient. */
static const char state_classes[][5] = {"warn", "good", "bad"};
static const char state_names[][10] = {"waiting", "delivered", "failed"};

static void put_actions(struct buf *out, const struct message_view *m)
{
	if (!monitor_auth_may_act())
		return;
	page_form(out, m->env.id);
	page_put(out,
	         "<button class=\"main\" name=\"do\" value=\"flush\">Try now</button>"
	         "<button name=\"do\" value=\"%s</button><a class=\"button danger\" "
	         "href=\"/remove/%u\">Remove\xe2\x80\xa6</a></form>\n",
	         m->item.held ? "release\">Release" : "hold\">Hold back", m->env.id);
}

static void put_facts(struct buf *out, const struct message_view *m)
{
	const struct envelope *env = &m->env;
	page_put(out, "<dl class=\"facts\"><dt>From</dt><dd>%B</dd>\n<dt>Addressed to</dt><dd>",
	         env->from);
	for (size_t i = 0; i < env->to_count && i < UNIT_ROWS; i++)
		page_put(out, i > 0 ? "<br>%B" : "%B", env->to[i]);
	if (env->to_count > UNIT_ROWS)
		page_put(out, "<br>and %d more", (int64_t)(env->to_count - UNIT_ROWS));
	page_put(out,
	         "</dd>\n<dt>Accepted</dt><dd>%t, %a ago</dd>\n<dt>Size</dt><dd>%z</dd>\n"
	         "<dt>Attempts</dt><dd>%d, the last one: %t</dd>\n<dt>Next attempt</dt><dd>",
	         env->created, queue_setup()->now() - env->created, (int64_t)env->size,
	         (int64_t)env->attempts, env->last_attempt);
	put_next(out, &m->item);
	page_put(out, "</dd></dl>\n");
}

static void put_rcpt(struct buf *out, const struct rcpt *r)
{
	static const char types[][11] = {"mail", "program", "by way of "};
	page_put(out, "{Recipient|<span>%B", r->address);
	if (r->original && strcmp(r->original, r->address) != 0)
		page_put(out, "<br><small>for %B</small>", r->original);
	page_put(out, "</span>^Type|%s%b^State|<span class=\"tag %s\">%s</span>^Last answer|",
	         types[r->type], r->type == RCPT_FORWARD && r->via ? r->via : "",
	         state_classes[r->state], state_names[r->state]);
	if (r->last)
		page_put(out, "%S", r->last);
	page_put(out, "^With|%B}", r->remote ? r->remote : "");
}

static void count_attempt(void *arg, const struct spool_attempt_seen *a)
{
	struct message_view *m = arg;
	(void)a;
	m->attempts++;
}

static void put_attempt(void *arg, const struct spool_attempt_seen *a)
{
	struct message_view *m = arg;
	size_t nth = m->seen++;
	if (nth < m->first + m->at || nth >= m->first + m->at + UNIT_ROWS)
		return;
	page_put(m->out, "{When|%t^Recipients|<span>", a->at);
	for (size_t i = 0; i < a->count; i++)
		if (a->rcpts[i] < m->env.rcpt_count)
			put_names(m->out, rcpt_name(&m->env.rcpt[a->rcpts[i]]), i, a->count);
	page_put(m->out, "</span>^Result|<span class=\"tag %s\">%s</span>^Answer|%S^With|%B}",
	         state_classes[a->state],
	         a->state == RCPT_PENDING ? "deferred" : state_names[a->state], &a->status,
	         a->remote ? a->remote : "");
}

static void part_rcpts(struct message_view *m, struct buf *out)
{
	size_t end = m->at + UNIT_ROWS;
	if (m->at == 0)
		page_put(out, "<h2>Recipients</h2>\n"
		              "[After aliases.|Recipient|Type|State|Last answer|With]");
	for (; m->at < end && m->at < m->env.rcpt_count; m->at++)
		put_rcpt(out, &m->env.rcpt[m->at]);
	if (m->at < m->env.rcpt_count)
		return;
	page_put(out, "~");
	m->part = PART_ATTEMPTS;
	m->at = 0;
}

static void part_attempts(struct message_view *m, struct buf *out)
{
	struct status st;
	m->out = out;
	m->seen = 0;
	if (m->at == 0) {
		if (spool_attempts(queue_setup()->spool, &m->env, count_attempt, m, &st) < 0)
			m->attempts = 0;
		m->first = m->attempts > ATTEMPTS_SHOWN ? m->attempts - ATTEMPTS_SHOWN : 0;
		page_put(out, "<h2>Attempts</h2>\n");
		page_put(out, m->attempts > 0
		                  ? "[The newest come last.|When|Recipients|Result|Answer|With]"
		                  : "<p class=\"soft\">None was recorded.</p>\n");
	}
	if (m->attempts > 0)
		(void)spool_attempts(queue_setup()->spool, &m->env, put_attempt, m, &st);
	m->at += UNIT_ROWS;
	if (m->first + m->at < m->attempts)
		return;
	if (m->attempts > 0)
		page_put(out, "~");
	m->part = PART_HEADER;
}

/* Where the header section ends in what was read: behind its last line. */
static size_t header_end(const char *p, size_t n)
{
	const char *end = memmem(p, n, "\r\n\r\n", 4);
	return end ? (size_t)(end - p) + 2 : n;
}

static void part_header(struct message_view *m, struct buf *out)
{
	struct status st;
	char *text = malloc(MONITOR_HEADER_MAX);
	struct spool_reader *r =
	    text ? spool_read_open(queue_setup()->spool, m->env.id, &st) : NULL;
	size_t n = 0;
	ssize_t got = 1;
	while (r && n < MONITOR_HEADER_MAX && got > 0) {
		got = spool_read(r, text + n, MONITOR_HEADER_MAX - n, &st);
		n += got > 0 ? (size_t)got : 0;
	}
	if (r)
		spool_read_close(r);
	page_put(out,
	         "<h2>Header</h2>\n<pre tabindex=\"0\" aria-label=\"Header\"><bdi dir=\"ltr\">");
	if (n > 0)
		page_lines(out, (struct slice){text, header_end(text, n)});
	else
		page_put(out, "It cannot be read.");
	page_put(out, "</bdi></pre>\n");
	free(text);
	m->part = PART_EVENTS;
}

static bool message_next(void *arg, struct buf *out)
{
	struct message_view *m = arg;
	switch (m->part) {
	case PART_HEAD:
		buf_puts(out, m->begin);
		put_actions(out, m);
		put_facts(out, m);
		m->part = PART_RCPTS;
		break;
	case PART_RCPTS:
		part_rcpts(m, out);
		break;
	case PART_ATTEMPTS:
		part_attempts(m, out);
		break;
	case PART_HEADER:
		part_header(m, out);
		break;
	case PART_EVENTS:
		page_put(out, "<h2>Trace</h2>\n");
		monitor_events(out, m->env.id);
		page_end(out);
		m->part = PART_OVER;
		break;
	case PART_OVER:
		break;
	}
	return m->part == PART_OVER;
}

static void message_free(void *arg)
{
	struct message_view *m = arg;
	envelope_clear(&m->env);
	free(m->begin);
	free(m);
}

/* The beginning of a page; what follows says whether the message is there. */
static void message_begin(struct buf *out, const struct httpd_request *r, const char *id)
{
	buf_init(out, MONITOR_UNIT_MAX);
	page_begin(out, id, PAGE_QUEUE);
	page_put(out, "<h1>Message <span class=\"id\">%b</span></h1>\n", id);
	monitor_notice(out, r);
}

void monitor_message(struct httpd_conn *c, const struct httpd_request *r, const char *id)
{
	struct message_view *m = calloc(1, sizeof *m);
	struct status st = {.code = 0};
	struct buf out;
	message_begin(&out, r, id);
	if (m && queue_find(queue_setup()->queue, id, &m->item) == 0 &&
	    spool_load(queue_setup()->spool, id, &m->env, &st) == 0 &&
	    (m->begin = strdup(buf_str(&out))) != NULL) {
		buf_clear(&out);
		page_stream(c, 200, message_next, m, message_free);
		return;
	}
	bool unread = !m || m->env.id[0] || st.code / 100 == 4;
	if (m)
		message_free(m);
	if (unread) {
		out.failed = true;
		page_send(c, 503, &out);
		return;
	}
	page_put(&out, "<p>It is not in the queue, or no longer. What is still known of it:</p>\n");
	monitor_events(&out, id);
	page_end(&out);
	page_send(c, 404, &out);
}
