/*
 * stat_export: one walk over all values in order of name, and a writer for each format.
 *
 * The values of the moment are few and come in any order; each step of the walk looks for the next
 * of them, so that they need neither sorting nor memory. What has one family (the name up to its
 * label) comes in one piece, as all the formats demand.
 */
#include "stat_export.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "config.h"

/* A name taken apart. Without a label both of its parts are empty. */
struct stat_name {
	struct slice family;
	struct slice label;
	struct slice text;
};

struct stat_export {
	struct buf *out;
	void (*put)(struct stat_export *e, const struct stat_value *v, const struct stat_name *n,
	            bool first);
	bool openmetrics;
	const struct stat_extra *extra;
	size_t extra_count;
	const char *extra_last;     /* name of the last one shown; "" before the first */
	char family[STAT_NAME_MAX]; /* of the last value; "" before the first */
	bool labelled;              /* it had a label */
};

/* ---- names and texts ---- */

static struct stat_name stat_split(const char *name)
{
	struct stat_name n = {.label = {"", 0}, .text = {"", 0}};
	size_t family = strcspn(name, "{");
	n.family = (struct slice){name, family};
	if (!name[family])
		return n;
	const char *label = name + family + 1;
	size_t length = strcspn(label, "=");
	n.label = (struct slice){label, length};
	if (!label[length])
		return n;
	const char *text = label + length + 1;
	size_t rest = strlen(text);
	n.text = (struct slice){text, rest > 0 ? rest - 1 : 0}; /* without the brace */
	return n;
}

/* Backslash, line end and, where they delimit, quotes get a backslash. */
static void stat_put_escaped(struct buf *out, struct slice s, bool quotes)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\n') {
			buf_puts(out, "\\n");
			continue;
		}
		if (s.p[i] == '\\' || (quotes && s.p[i] == '"'))
			buf_putc(out, '\\');
		buf_putc(out, s.p[i]);
	}
}

/* A string of JSON (RFC 8259 7), with its quotes. */
static void stat_put_json(struct buf *out, struct slice s)
{
	buf_putc(out, '"');
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c < ' ' || c == 0x7f) {
			buf_printf(out, "\\u%04x", c);
			continue;
		}
		if (c == '"' || c == '\\')
			buf_putc(out, '\\');
		buf_putc(out, (char)c);
	}
	buf_putc(out, '"');
}

/* Does the family belong to somebody else's names? */
static bool stat_is_in(const struct stat_name *n, const char *prefix)
{
	size_t length = strlen(prefix);
	return n->family.n > length && memcmp(n->family.p, prefix, length) == 0;
}

/* ---- metrics ---- */

static void stat_put_metric(struct buf *out, const struct stat_name *n)
{
	if (!stat_is_in(n, "chasquid/") && !stat_is_in(n, "process/"))
		buf_puts(out, "chasq_");
	for (size_t i = 0; i < n->family.n; i++) {
		char c = n->family.p[i];
		bool legal =
		    (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
		buf_putc(out, legal ? c : '_');
	}
}

/* What is behind the name of a sample. The older format knows no families: there a counter's whole
 * name has it. */
static const char *stat_suffix(const struct stat_value *v, const struct stat_name *n)
{
	return v->kind->type == STAT_TYPE_COUNTER && !stat_is_in(n, "chasquid/") ? "_total" : "";
}

static const char *stat_type_word(const struct stat_export *e, const struct stat_value *v,
                                  const struct stat_name *n)
{
	static const char words[][10] = {[STAT_TYPE_COUNTER] = "counter",
	                                 [STAT_TYPE_GAUGE] = "gauge",
	                                 [STAT_TYPE_HISTOGRAM] = "histogram"};
	if (stat_is_in(n, "chasquid/"))
		return e->openmetrics ? "unknown" : "untyped";
	return words[v->kind->type];
}

static void stat_put_head(struct stat_export *e, const struct stat_value *v,
                          const struct stat_name *n)
{
	const char *suffix = e->openmetrics ? "" : stat_suffix(v, n);
	buf_puts(e->out, "# HELP ");
	stat_put_metric(e->out, n);
	buf_printf(e->out, "%s ", suffix);
	stat_put_escaped(e->out, slice_of(v->help), e->openmetrics);
	buf_puts(e->out, "\n# TYPE ");
	stat_put_metric(e->out, n);
	buf_printf(e->out, "%s %s\n", suffix, stat_type_word(e, v, n));
}

/* A bound as the one spelling of a float that OpenMetrics has: 1.0, 250.0, 1.5e+06. */
static void stat_put_bound(struct buf *out, int64_t bound)
{
	char digits[24];
	int n = snprintf(digits, sizeof digits, "%lld", (long long)bound);
	if (bound < 1000000) {
		buf_printf(out, "%s.0", digits);
		return;
	}
	int exponent = n - 1;
	while (digits[n - 1] == '0')
		n--;
	buf_printf(out, "%c%s%.*se+%02d", digits[0], n > 1 ? "." : "", n - 1, digits + 1, exponent);
}

static void stat_put_histogram(struct stat_export *e, const struct stat_value *v,
                               const struct stat_name *n)
{
	uint64_t below = 0;
	for (size_t i = 0; i <= v->kind->count; i++) {
		below += v->kind->counts[i];
		stat_put_metric(e->out, n);
		buf_puts(e->out, "_bucket{le=\"");
		if (i < v->kind->count)
			stat_put_bound(e->out, v->kind->bounds[i]);
		else
			buf_puts(e->out, "+Inf");
		buf_printf(e->out, "\"} %llu\n", (unsigned long long)below);
	}
	stat_put_metric(e->out, n);
	buf_printf(e->out, "_sum %lld\n", (long long)v->value);
	stat_put_metric(e->out, n);
	buf_printf(e->out, "_count %llu\n", (unsigned long long)below);
}

static void stat_put_sample(struct stat_export *e, const struct stat_value *v,
                            const struct stat_name *n, bool first)
{
	if (first)
		stat_put_head(e, v, n);
	if (v->kind->type == STAT_TYPE_HISTOGRAM) {
		stat_put_histogram(e, v, n);
		return;
	}
	stat_put_metric(e->out, n);
	buf_puts(e->out, stat_suffix(v, n));
	if (n->label.n > 0) {
		buf_printf(e->out, "{%.*s=\"", (int)n->label.n, n->label.p);
		stat_put_escaped(e->out, n->text, true);
		buf_puts(e->out, "\"}");
	}
	buf_printf(e->out, " %lld\n", (long long)v->value);
}

/* ---- JSON ---- */

static void stat_put_json_histogram(struct buf *out, const struct stat_value *v)
{
	uint64_t below = 0;
	buf_puts(out, "{\"le\": {");
	for (size_t i = 0; i < v->kind->count; i++) {
		below += v->kind->counts[i];
		buf_printf(out, "\"%lld\": %llu, ", (long long)v->kind->bounds[i],
		           (unsigned long long)below);
	}
	below += v->kind->counts[v->kind->count];
	buf_printf(out, "\"+Inf\": %llu}, \"sum\": %lld, \"count\": %llu}",
	           (unsigned long long)below, (long long)v->value, (unsigned long long)below);
}

static void stat_put_member(struct stat_export *e, const struct stat_value *v,
                            const struct stat_name *n, bool first)
{
	if (!first)
		buf_puts(e->out, ", ");
	else if (e->labelled)
		buf_puts(e->out, "}");
	if (first) {
		buf_puts(e->out, ",\n");
		stat_put_json(e->out, n->family);
		buf_puts(e->out, n->label.n > 0 ? ": {" : ": ");
	}
	e->labelled = n->label.n > 0;
	if (v->kind->type == STAT_TYPE_HISTOGRAM) {
		stat_put_json_histogram(e->out, v);
		return;
	}
	if (e->labelled) {
		stat_put_json(e->out, n->text);
		buf_puts(e->out, ": ");
	}
	buf_printf(e->out, "%lld", (long long)v->value);
}

/* The two strings that stand in no metrics. */
static void stat_put_version(struct buf *out)
{
	time_t date = (time_t)CLOCK_RELEASE;
	char text[32] = "";
	struct tm tm;
	if (gmtime_r(&date, &tm))
		strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S +0000 UTC", &tm);
	buf_puts(out, "\"chasquid/sourceDateStr\": ");
	stat_put_json(out, slice_of(text));
	buf_puts(out, ",\n\"chasquid/version\": ");
	stat_put_json(out, slice_of(CHASQ_VERSION));
}

/* ---- the walk ---- */

static void stat_show(struct stat_export *e, const struct stat_value *v)
{
	struct stat_name n = stat_split(v->name);
	bool first = !slice_is(n.family, e->family);
	if (first)
		snprintf(e->family, sizeof e->family, "%.*s", (int)n.family.n, n.family.p);
	e->put(e, v, &n, first);
}

/* Shows the values of the moment that come before a name; NULL: all the rest. */
static void stat_show_extra(struct stat_export *e, const char *before)
{
	for (;;) {
		const struct stat_extra *next = NULL;
		for (size_t i = 0; i < e->extra_count; i++) {
			const char *name = e->extra[i].name;
			if (strcmp(name, e->extra_last) > 0 &&
			    (!next || strcmp(name, next->name) < 0))
				next = &e->extra[i];
		}
		if (!next || (before && strcmp(next->name, before) >= 0))
			return;
		struct stat_value v = {.name = next->name,
		                       .help = next->help,
		                       .kind = &stat_gauge,
		                       .value = next->value};
		e->extra_last = next->name;
		stat_show(e, &v);
	}
}

static void stat_show_next(void *arg, const struct stat_value *v)
{
	struct stat_export *e = arg;
	stat_show_extra(e, v->name);
	stat_show(e, v);
}

static void stat_export_walk(struct stat_export *e)
{
	stat_each(stat_show_next, e);
	stat_show_extra(e, NULL);
}

void stat_export_metrics(struct buf *out, bool openmetrics, const struct stat_extra *extra,
                         size_t count)
{
	struct stat_export e = {.out = out,
	                        .put = stat_put_sample,
	                        .openmetrics = openmetrics,
	                        .extra = extra,
	                        .extra_count = count,
	                        .extra_last = ""};
	stat_export_walk(&e);
	if (openmetrics)
		buf_puts(out, "# EOF\n");
}

void stat_export_json(struct buf *out, const struct stat_extra *extra, size_t count)
{
	struct stat_export e = {.out = out,
	                        .put = stat_put_member,
	                        .extra = extra,
	                        .extra_count = count,
	                        .extra_last = ""};
	buf_puts(out, "{\n");
	stat_put_version(out);
	stat_export_walk(&e);
	buf_puts(out, e.labelled ? "}\n}\n" : "\n}\n");
}
