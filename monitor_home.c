/*
 * monitor_home: the pages that are made at once: the overview, destinations, the configuration in
 * effect, what was built. Each is short, whatever is in the queue: what can be long is cut here and
 * has a page of its own.
 */
#include "monitor_int.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "conf_reload.h"
#include "disk.h"
#include "monitor_auth.h"
#include "monitor_chart.h"
#include "monitor_page.h"
#include "queue.h"
#include "queue_dest.h"
#include "tls.h"

/* Rows of the overview's tables. */
#define HOME_ROWS 6

static const struct smtpd_setup *home_setup(void)
{
	return monitor_state.setup->smtpd;
}

/* ---- what needs attention ---- */

/* A list that begins with its first item. */
struct home_list {
	struct buf *out;
	size_t count;
};

static struct buf *home_item(struct home_list *l)
{
	page_put(l->out, l->count++ == 0 ? "<ul class=\"note warn\">\n<li>" : "\n<li>");
	return l->out;
}

/* Files in queue/damaged/: SPOOL_DAMAGED_MAX at most. */
static int64_t home_count_damaged(const char *data_dir)
{
	char path[PATH_MAX];
	int64_t count = 0;
	snprintf(path, sizeof path, "%s/queue/damaged", data_dir);
	DIR *d = opendir(path);
	if (!d)
		return 0;
	for (const struct dirent *e = readdir(d); e; e = readdir(d))
		if (e->d_name[0] != '.' && count <= SPOOL_DAMAGED_MAX)
			count++;
	closedir(d);
	return count;
}

static void home_warn_held(struct home_list *l)
{
	int64_t held = 0;
	while (queue_held_nth(home_setup()->queue, (size_t)held))
		held++;
	if (held > 0)
		page_put(home_item(l),
		         "Domains and messages <a href=\"/destinations#held\">held back</a>: %d.",
		         held);
}

/* In days, as chasq check counts them; a clock that is wrong has a line of its own. */
static void home_warn_certs(struct home_list *l)
{
	int64_t left = tls_certs_expiry(home_setup()->certs) - home_setup()->now();
	if (tls_certs_count(home_setup()->certs) == 0)
		page_put(home_item(l), "No certificate: neither TLS nor logins are offered.");
	else if (home_setup()->now() < CLOCK_RELEASE)
		return;
	else if (left < 0)
		page_put(home_item(l),
		         "A certificate has expired %a ago: does its renewal still run?", -left);
	else if (left < CHECK_CERT_DAYS * 86400)
		page_put(home_item(l), "A certificate expires in %a: does its renewal still run?",
		         left);
}

static void home_warn(struct home_list *l)
{
	const struct conf *conf = home_setup()->conf;
	struct status st;
	int64_t damaged = home_count_damaged(conf->data_dir);
	if (spool_has_room(home_setup()->spool, 0, &st) < 0)
		page_put(home_item(l), "No mail is taken: %S", &st);
	if (home_setup()->now() < CLOCK_RELEASE)
		page_put(home_item(l), "The clock is wrong: it is before the release of this "
		                       "version. Nothing is given up for its age meanwhile.");
	if (damaged > 0)
		page_put(home_item(l), "Damaged files in queue/damaged: %d. The log says why.",
		         damaged);
	home_warn_held(l);
	if (conf->refused > 0)
		page_put(home_item(l), "Files that could not be taken over: %d. %B",
		         (int64_t)conf->refused, conf->refused_why);
	if (WITH_TLS)
		home_warn_certs(l);
	if (geteuid() == 0)
		page_put(home_item(l), "The server runs as root: set user in chasq.conf.");
	page_put(l->out,
	         l->count > 0
	             ? "</ul>\n"
	             : "<p class=\"note good\">All is well: nothing needs attention.</p>\n");
}

/* ---- the overview ---- */

/* hint is markup of ours. */
static void home_tile(struct buf *out, const char *name, int64_t n, const char *hint)
{
	page_put(out, "<div><dt>%s</dt><dd>%d <small>%s</small></dd></div>\n", name, n, hint);
}

static void home_tiles(struct buf *out)
{
	const struct queue *q = home_setup()->queue;
	static const char hour[] = "in the last hour";
	bool no_inodes = false;
	page_put(out, "<dl class=\"tiles\">\n<div><dt>In the queue</dt><dd>%d <small>",
	         (int64_t)queue_length(q));
	if (queue_length(q) > 0)
		page_put(out, "oldest: %a", home_setup()->now() - queue_oldest(q));
	else
		page_put(out, "nothing waits");
	page_put(out, "</small></dd></div>\n");
	home_tile(out, "Deliveries", (int64_t)queue_active(q), "under way");
	home_tile(out, "Sessions", (int64_t)monitor_state.setup->sessions(), "connected");
	home_tile(out, "Received", monitor_chart_sum(MONITOR_RECEIVED), hour);
	home_tile(out, "Delivered", monitor_chart_sum(MONITOR_DELIVERED), hour);
	home_tile(out, "Deferred", monitor_chart_sum(MONITOR_DEFERRED), hour);
	home_tile(out, "Bounced", monitor_chart_sum(MONITOR_FAILED), hour);
	int fd = disk_open_dir(home_setup()->conf->data_dir);
	if (fd >= 0) {
		page_put(out, "<div><dt>Free on disk</dt><dd>%z</dd></div>\n",
		         disk_free(fd, &no_inodes));
		close(fd);
	}
	page_put(out, "</dl>\n");
}

static void home_destinations(struct buf *out, size_t max)
{
	const struct queue_dest *d;
	int64_t now = home_setup()->now();
	page_put(out,
	         queue_dest_nth(0)
	             ? "[The latest first; recipients are counted since the start.|Destination|"
	               "Sent|Deferred|Failed|Last|Last trouble]"
	             : "<p class=\"soft\">No delivery since the start.</p>\n");
	for (size_t i = 0; i < max && (d = queue_dest_nth(i)) != NULL; i++) {
		page_put(out,
		         "{Destination|<span>%b<br><small>%b</small></span>^Sent|%d^Deferred|%d"
		         "^Failed|%d^Last|<span class=\"nb\">%a ago</span>^Last trouble|",
		         d->name, d->remote, (int64_t)d->count[RCPT_SENT],
		         (int64_t)d->count[RCPT_PENDING], (int64_t)d->count[RCPT_FAILED],
		         now - d->last);
		if (d->last_bad)
			page_put(out, "<span>%a ago: %S</span>", now - d->last_bad, &d->bad);
		page_put(out, "}");
	}
	if (queue_dest_nth(0))
		page_put(out, "~");
}

void monitor_home(struct buf *out, const struct httpd_request *r)
{
	struct home_list list = {out, 0};
	(void)r;
	page_put(out,
	         "<h1>Mail at a glance</h1>\n<p class=\"sub\">chasq " CHASQ_VERSION
	         ", running for %a, since %t</p>\n",
	         home_setup()->now() - monitor_state.started, monitor_state.started);
	home_warn(&list);
	home_tiles(out);
	page_put(out, "<h2>The last hour</h2>\n<div class=\"charts\">\n");
	for (enum monitor_series s = 0; s < MONITOR_SERIES; s++)
		monitor_chart_draw(out, s);
	page_put(out, "</div>\n<h2>Waiting longest</h2>\n");
	monitor_queue_oldest(out, HOME_ROWS);
	page_put(out, "<p><a href=\"/queue\">The whole queue</a></p>\n"
	              "<h2>Deliveries by destination</h2>\n");
	home_destinations(out, HOME_ROWS);
	page_put(out, "<p><a href=\"/destinations\">All destinations</a></p>\n");
}

/* ---- destinations, and what is held ---- */

static void home_held(struct buf *out)
{
	const struct queue *q = home_setup()->queue;
	const char *what;
	bool act = monitor_auth_may_act();
	page_put(out, "<h2 id=\"held\">Held back</h2>\n");
	page_put(out, queue_held_nth(q, 0)
	                  ? "[No attempt is made until it is released.|Domain or message|Action]"
	                  : "<p class=\"soft\">No domain and no message is held back.</p>\n");
	for (size_t i = 0; (what = queue_held_nth(q, i)) != NULL; i++) {
		page_put(out, "{What|%B^Action|", what);
		if (act) {
			page_form(out, what);
			page_put(out,
			         "<button name=\"do\" value=\"release\">Release</button></form>");
		}
		page_put(out, "}");
	}
	if (queue_held_nth(q, 0))
		page_put(out, "~");
	if (!act)
		return;
	page_form(out, NULL);
	page_put(out, "<label>Domain <input name=\"what\" required maxlength=\"255\" "
	              "autocomplete=\"off\"></label>"
	              "<button name=\"do\" value=\"hold\">Hold back</button></form>\n");
}

void monitor_destinations(struct buf *out, const struct httpd_request *r)
{
	page_put(out, "<h1>Destinations</h1>\n");
	monitor_notice(out, r);
	home_destinations(out, SIZE_MAX);
	home_held(out);
}

/* ---- configuration, about ---- */

void monitor_config(struct buf *out, const struct httpd_request *r)
{
	const struct conf *conf = home_setup()->conf;
	struct buf text;
	(void)r;
	buf_init(&text, MONITOR_UNIT_MAX);
	page_put(out,
	         "<h1>Configuration in effect</h1>\n<p class=\"sub\">Read from <code>%e</code>; "
	         "each line says where it comes from.</p>\n"
	         "<pre tabindex=\"0\" aria-label=\"Configuration\">",
	         conf->dir);
	conf_print(conf, &text, true);
	page_lines(out, buf_slice(&text));
	page_put(out, "</pre>\n<h2>Domains</h2>\n<ul>");
	for (size_t i = 0; i < conf->domain_count; i++)
		page_put(out, "<li>%B", conf->domain[i].name);
	page_put(out, "</ul>\n");
	out->failed = out->failed || text.failed;
	buf_clear(&text);
}

void monitor_about(struct buf *out, const struct httpd_request *r)
{
	(void)r;
	page_put(
	    out,
	    "<h1>About</h1>\n<dl class=\"facts\"><dt>Program</dt><dd>chasq " CHASQ_VERSION
	    ", a mail server for small machines</dd>\n<dt>Process</dt><dd>%d, as user %d</dd>\n"
	    "<dt>Actions</dt><dd>%s</dd></dl>\n"
	    "<p class=\"soft\">The manual: chasq(8), chasq.conf(5).</p>\n"
	    "<h2>Build options and libraries</h2>\n<pre>",
	    (int64_t)getpid(), (int64_t)geteuid(),
	    monitor_auth_may_act() ? "with password"
	                           : "none: they need <code>monitoring_password_file</code>");
	page_lines(out, slice_of(monitor_state.setup->build));
	page_put(out, "</pre>\n");
}
