/* monitor_int: what the files of the monitoring page share. */
#ifndef MONITOR_INT_H
#define MONITOR_INT_H

#include <stdint.h>

#include "buf.h"
#include "httpd.h"
#include "monitor.h"

/* Valid while the page is open. */
struct monitor_state {
	const struct monitor_setup *setup;
	int64_t started; /* wall clock, s */
};
extern struct monitor_state monitor_state;

/* What stands between the beginning and the end of a page that is made at once. */
void monitor_home(struct buf *out, const struct httpd_request *r);
void monitor_destinations(struct buf *out, const struct httpd_request *r);
void monitor_config(struct buf *out, const struct httpd_request *r);
void monitor_about(struct buf *out, const struct httpd_request *r);
void monitor_trace(struct buf *out, const struct httpd_request *r); /* /trace/ID */

/* Pages that are longer, or not always there: each answers a GET or HEAD that was admitted. */
void monitor_queue(struct httpd_conn *c, const struct httpd_request *r);
void monitor_message(struct httpd_conn *c, const struct httpd_request *r, const char *id);
void monitor_remove(struct httpd_conn *c, const char *id);
void monitor_traces(struct httpd_conn *c, const struct httpd_request *r);

/* POST /action, admitted: parameters do (flush, hold, release, remove, bounce) and what (ID or
 * domain; none is all, for flush). Answers 303 to a page that tells of it, or with a page that says
 * why not. */
void monitor_action(struct httpd_conn *c, const struct httpd_request *r);

/* Appends what the last action was, when the request comes from its answer (parameter done). */
void monitor_notice(struct buf *out, const struct httpd_request *r);

/* A page that says that something is not so; text is escaped. */
void monitor_sorry(struct httpd_conn *c, int code, const char *title, const char *text);

/* Appends a table of the oldest messages in the queue, at most MONITOR_STEP, or says that there are
 * none. */
void monitor_queue_oldest(struct buf *out, size_t max);

/* Appends a table of the events of an ID, oldest first; a message's follow those of the session
 * that brought it. What is written is bounded by MONITOR_EVENTS_MAX. */
void monitor_events(struct buf *out, const char *id);

#endif
