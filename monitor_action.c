/*
 * monitor_action: what can be done from the pages: try now, hold, release, remove.
 *
 * An action is a POST of a form that carried the token (monitor_auth). It is answered with a
 * redirection (303), so that loading the page again does not repeat it; the page then tells what
 * was done by a word of a fixed list, never by text from the request. Removing asks once more, on a
 * page of its own, since there is no script that could.
 */
#include "monitor_int.h"

#include <string.h>

#include "addr.h"
#include "log.h"
#include "monitor_page.h"
#include "queue.h"

static const struct action {
	char name[8], done[52];
} actions[] = {
    {"flush", "It is tried now."},
    {"hold", "Held back: no attempt is made until it is released."},
    {"release", "Released."},
    {"remove", "Removed. Its sender is not told."},
    {"bounce", "Removed. Its sender gets a notification."},
};

enum { ACTION_FLUSH, ACTION_HOLD, ACTION_RELEASE, ACTION_REMOVE, ACTION_BOUNCE, ACTIONS };

static struct queue *action_queue(void)
{
	return monitor_state.setup->smtpd->queue;
}

static int action_find(const char *name)
{
	for (int i = 0; i < ACTIONS; i++)
		if (strcmp(name, actions[i].name) == 0)
			return i;
	return -1;
}

void monitor_notice(struct buf *out, const struct httpd_request *r)
{
	char done[16];
	int i = httpd_param(r->query, "done", done, sizeof done) > 0 ? action_find(done) : -1;
	if (i >= 0)
		page_put(out, "<p class=\"note good\" role=\"status\">%s</p>\n", actions[i].done);
}

void monitor_sorry(struct httpd_conn *c, int code, const char *title, const char *text)
{
	struct buf out;
	buf_init(&out, MONITOR_UNIT_MAX);
	page_begin(&out, title, PAGE_NOWHERE);
	page_put(&out, "<h1>%s</h1>\n<p class=\"note bad\">%e</p>\n", title, text);
	page_end(&out);
	page_send(c, code, &out);
}

/* Does it. 0, or -1 with *st. */
static int action_do(int action, const char *what, struct status *st)
{
	struct queue *q = action_queue();
	switch (action) {
	case ACTION_FLUSH:
		if (queue_flush(q, *what ? what : NULL) > 0 || !*what)
			return 0;
		status_set(st, 550, NULL, "It is not here, held back, or being delivered already.");
		return -1;
	case ACTION_HOLD:
		return queue_hold(q, what, st);
	case ACTION_RELEASE:
		return queue_release_hold(q, what, st);
	default:
		return queue_remove(q, what, action == ACTION_BOUNCE, st);
	}
}

/* What goes on with the page that fits: the message's, the destinations', the queue's. */
static void action_back(struct httpd_conn *c, int action, const char *what, bool message)
{
	struct buf to;
	buf_init(&to, 1024);
	page_put(&to, "Location: /%s%u?done=%s\r\n",
	         message && action < ACTION_REMOVE ? "message/"
	         : *what && !message               ? "destinations"
	                                           : "queue",
	         message && action < ACTION_REMOVE ? what : "", actions[action].name);
	if (to.failed)
		httpd_answer_text(c, 503, NULL, NULL);
	else
		httpd_answer_text(c, 303, buf_str(&to), NULL);
	buf_clear(&to);
}

void monitor_action(struct httpd_conn *c, const struct httpd_request *r)
{
	char name[16], given[ADDR_DOMAIN_MAX + 1], domain[ADDR_DOMAIN_MAX + 1];
	struct queue_item item;
	struct status st;
	int action = httpd_param(r->form, "do", name, sizeof name) > 0 ? action_find(name) : -1;
	if (action < 0 ||
	    (httpd_param(r->form, "what", given, sizeof given) < 0 && action != ACTION_FLUSH)) {
		monitor_sorry(c, 400, "Not understood", "The form is not one of ours.");
		return;
	}
	const char *what = given;
	bool message = *given && queue_find(action_queue(), given, &item) == 0;
	/* What is no message is a domain, as a person writes it. */
	if (*given && !message && (action == ACTION_HOLD || action == ACTION_RELEASE) &&
	    addr_domain_normalise(slice_of(given), domain, sizeof domain) == 0)
		what = domain;
	if (action_do(action, what, &st) < 0) {
		monitor_sorry(c, status_class(&st) == STATUS_PERMANENT ? 404 : 503, "Not done",
		              st.text);
		return;
	}
	log_info(message ? what : "-", "monitor action", LOG_S("do", name), LOG_S("what", what));
	action_back(c, action, what, message);
}

void monitor_remove(struct httpd_conn *c, const char *id)
{
	struct queue_item item;
	struct buf out;
	if (queue_find(action_queue(), id, &item) < 0) {
		monitor_sorry(c, 404, "No such message", "It is not in the queue, or no longer.");
		return;
	}
	buf_init(&out, MONITOR_UNIT_MAX);
	page_begin(&out, "Remove", PAGE_QUEUE);
	page_put(&out,
	         "<h1>Remove message <span class=\"id\">%e</span>?</h1>\n<p>It is taken out of the "
	         "queue for good. Recipients that have it keep it; the others never get it.</p>\n",
	         id);
	page_form(&out, id);
	page_put(&out,
	         "<button class=\"danger\" name=\"do\" value=\"bounce\">Remove and tell its "
	         "sender</button><button class=\"danger\" name=\"do\" value=\"remove\">Remove "
	         "silently</button><a class=\"button\" href=\"/message/%u\">Keep it</a></form>\n",
	         id);
	page_end(&out);
	page_send(c, 200, &out);
}
