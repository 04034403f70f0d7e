/* stat_export: all values of stat, and some of the moment, as text for machines. */
#ifndef STAT_EXPORT_H
#define STAT_EXPORT_H

#include <stdbool.h>

#include "buf.h"
#include "stat.h"

/* Values that are asked for at the time of an export: gauges, in any order, joined with the others.
 * name is as that of a stat_value, but a label's value may be any UTF-8, and differ from export to
 * export. Of equal names one is taken.
 */
struct stat_extra {
	const char *name;
	const char *help;
	int64_t value;
};

/* Media types of the two forms of stat_export_metrics. */
#define STAT_OPENMETRICS_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define STAT_PROMETHEUS_TYPE  "text/plain; version=0.0.4; charset=utf-8"

/* Appends OpenMetrics 1.0 (with # EOF), or Prometheus' older text format. "queue/length" becomes
 * chasq_queue_length (counters get _total), "chasquid/smtpIn/commandCount{command=EHLO}" becomes
 * chasquid_smtpIn_commandCount{command="EHLO"}, of unknown type as that server exports it, and
 * "process/open_fds" becomes process_open_fds, the name all programs have for it. */
void stat_export_metrics(struct buf *out, bool openmetrics, const struct stat_extra *extra,
                         size_t count);

/* Appends one JSON object as Go's expvar writes it: names as keys, labels as objects in them, the
 * version and its date as strings. A histogram is an object: sum, count, le (cumulative). */
void stat_export_json(struct buf *out, const struct stat_extra *extra, size_t count);

#endif
