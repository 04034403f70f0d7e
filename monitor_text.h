/* monitor_text: the pages for machines: metrics and dumps as text. */
#ifndef MONITOR_TEXT_H
#define MONITOR_TEXT_H

#include "httpd.h"
#include "monitor.h"

/* Call once; the setup is kept. */
void monitor_text_init(const struct monitor_setup *setup);

/* Each answers a GET or HEAD. */

/* /metrics: OpenMetrics for who accepts it, else Prometheus' older text format. */
void monitor_text_metrics(struct httpd_conn *c, const struct httpd_request *r);

/* /debug/vars: the same values as JSON, as Go's expvar writes them. */
void monitor_text_vars(struct httpd_conn *c, const struct httpd_request *r);

/* /debug/queue: the whole queue as text, as fast as the client reads, a message's envelope in
 * memory at a time. */
void monitor_text_queue(struct httpd_conn *c, const struct httpd_request *r);

/* /debug/config: the configuration in effect, with the origin of each line. No passwords: it holds
 * none. */
void monitor_text_config(struct httpd_conn *c, const struct httpd_request *r);

/* /debug/traces: the last events, oldest first. Parameters: kind (a name of trace_kind), id, and n:
 * only the last n. */
void monitor_text_traces(struct httpd_conn *c, const struct httpd_request *r);

#endif
