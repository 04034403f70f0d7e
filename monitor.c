/*
 * monitor: the monitoring page, metrics and dumps over HTTP: its listener and its routes.
 *
 * Off unless monitoring_address is set. The order of checks is the same for every request: may this
 * client see anything (monitor_auth), is there such a path, does it take this method, and for a
 * POST does it come from a form of ours. Every answer carries headers that forbid scripts, frames,
 * foreign resources, forms to elsewhere, guessing of types and keeping.
 */
#include "monitor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "conf.h"
#include "confvalue.h"
#include "log.h"
#include "monitor_auth.h"
#include "monitor_chart.h"
#include "monitor_int.h"
#include "monitor_page.h"
#include "monitor_text.h"

/* Markup is the pages' own; the stylesheet and the icon are files of this origin. Nothing else is
 * loaded, run, framed or sent anywhere (CSP level 3). */
#define MONITOR_HEADERS                                                                   \
	"Content-Security-Policy: default-src 'none'; style-src 'self'; img-src 'self'; " \
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'\r\n"                 \
	"X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n"                    \
	"Referrer-Policy: same-origin\r\nCache-Control: no-store\r\n"                     \
	"Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n"

struct monitor_state monitor_state;

static struct {
	struct monitor_setup setup;
	struct httpd *http;
	struct dns_addr addr;
	uint16_t port;
} N;

/* ---- routes ---- */

/* A page that is made at once. */
static void monitor_whole(struct httpd_conn *c, const struct httpd_request *r,
                          enum page_place place,
                          void (*body)(struct buf *out, const struct httpd_request *r))
{
	struct buf out;
	buf_init(&out, 4 * MONITOR_UNIT_MAX);
	page_begin(&out, NULL, place);
	body(&out, r);
	page_end(&out);
	page_send(c, 200, &out);
}

enum monitor_route {
	ROUTE_ACTION,
	ROUTE_REMOVE,
	ROUTE_MESSAGE,
	ROUTE_TRACE,
	ROUTE_HOME,
	ROUTE_QUEUE,
	ROUTE_DESTINATIONS,
	ROUTE_TRACES,
	ROUTE_CONFIG,
	ROUTE_ABOUT,
	ROUTE_STYLE,
	ROUTE_ICON,
	ROUTE_METRICS,
	ROUTE_DEBUG_VARS,
	ROUTE_DEBUG_QUEUE,
	ROUTE_DEBUG_CONFIG,
	ROUTE_DEBUG_TRACES,
	ROUTE_NONE
};

/* By enum monitor_route. A path that ends with '/' (but the first) serves all below it. */
static const char paths[][14] = {
    "/action",       "/remove/",      "/message/", "/trace/",     "/",
    "/queue",        "/destinations", "/traces",   "/config",     "/about",
    PAGE_STYLE,      PAGE_ICON,       "/metrics",  "/debug/vars", "/debug/queue",
    "/debug/config", "/debug/traces",
};

static enum monitor_route monitor_find(const char *path)
{
	size_t i = 0;
	for (; i < ROUTE_NONE; i++) {
		size_t n = strlen(paths[i]);
		bool below = n > 1 && paths[i][n - 1] == '/';
		if (below ? strncmp(path, paths[i], n) == 0 && path[n]
		          : strcmp(path, paths[i]) == 0)
			break;
	}
	return (enum monitor_route)i;
}

static void monitor_answer(struct httpd_conn *c, const struct httpd_request *r,
                           enum monitor_route route)
{
	switch (route) {
	case ROUTE_ACTION:
		monitor_action(c, r);
		break;
	case ROUTE_REMOVE:
		monitor_remove(c, r->path + strlen("/remove/"));
		break;
	case ROUTE_MESSAGE:
		monitor_message(c, r, r->path + strlen("/message/"));
		break;
	case ROUTE_TRACE:
		monitor_whole(c, r, PAGE_TRACES, monitor_trace);
		break;
	case ROUTE_HOME:
		monitor_whole(c, r, PAGE_HOME, monitor_home);
		break;
	case ROUTE_QUEUE:
		monitor_queue(c, r);
		break;
	case ROUTE_DESTINATIONS:
		monitor_whole(c, r, PAGE_DESTINATIONS, monitor_destinations);
		break;
	case ROUTE_TRACES:
		monitor_traces(c, r);
		break;
	case ROUTE_CONFIG:
		monitor_whole(c, r, PAGE_CONFIG, monitor_config);
		break;
	case ROUTE_ABOUT:
		monitor_whole(c, r, PAGE_ABOUT, monitor_about);
		break;
	case ROUTE_STYLE:
		httpd_answer(c, 200, "text/css; charset=utf-8", NULL, slice_of(page_style));
		break;
	case ROUTE_ICON:
		httpd_answer(c, 200, "image/svg+xml", NULL, slice_of(page_icon));
		break;
	case ROUTE_METRICS:
		monitor_text_metrics(c, r);
		break;
	case ROUTE_DEBUG_VARS:
		monitor_text_vars(c, r);
		break;
	case ROUTE_DEBUG_QUEUE:
		monitor_text_queue(c, r);
		break;
	case ROUTE_DEBUG_CONFIG:
		monitor_text_config(c, r);
		break;
	case ROUTE_DEBUG_TRACES:
		monitor_text_traces(c, r);
		break;
	case ROUTE_NONE:
		monitor_sorry(c, 404, "Not found", "There is no such page.");
		break;
	}
}

static void monitor_serve(void *arg, struct httpd_conn *c, const struct httpd_request *r)
{
	(void)arg;
	if (!monitor_auth_admit(c, r))
		return;
	enum monitor_route route = monitor_find(r->path);
	bool post = r->method == HTTPD_POST;
	if (route != ROUTE_NONE && post != (route == ROUTE_ACTION))
		httpd_answer_text(c, 405, post ? "Allow: GET, HEAD\r\n" : "Allow: POST\r\n", NULL);
	else if (route <= ROUTE_REMOVE && !monitor_auth_may_act())
		monitor_sorry(c, 403, "Not possible", "Actions need a monitoring_password_file.");
	else if (!post || route == ROUTE_NONE || monitor_auth_admit_action(c, r))
		monitor_answer(c, r, route);
}

/* ---- listening ---- */

/* Of conf->monitoring_address, which conf_take has checked: localhost or an address, and loopback
 * or with a password. */
static void monitor_read_address(const char *s, struct dns_addr *a, uint16_t *port)
{
	char host[ADDR_DOMAIN_MAX + 1], number[CONFVALUE_PORT];
	if (confvalue_split_address(s, host, number) < 0)
		return;
	dns_addr_parse(a, slice_of(strcasecmp(host, "localhost") ? host : "127.0.0.1"));
	*port = (uint16_t)strtoul(number, NULL, 10);
}

/* NULL with err. */
static struct httpd *monitor_listen(const struct dns_addr *a, uint16_t port, char *err,
                                    size_t err_size)
{
	const struct httpd_setup setup = {.serve = monitor_serve, .headers = MONITOR_HEADERS};
	struct httpd *h = httpd_open(a, port, &setup);
	if (!h)
		snprintf(err, err_size, "monitoring_address: port %u: %s", port, strerror(errno));
	return h;
}

int monitor_open(const struct monitor_setup *setup, char *err, size_t err_size)
{
	N.setup = *setup;
	monitor_state.setup = &N.setup;
	monitor_state.started = setup->smtpd->now();
	monitor_text_init(&N.setup);
	return monitor_reload(err, err_size);
}

int monitor_reload(char *err, size_t err_size)
{
	const struct conf *conf = N.setup.smtpd->conf;
	struct dns_addr addr = {.family = AF_UNSPEC};
	struct httpd *http = NULL;
	uint16_t port = 0;
	page_init(conf->hostname);
	if (!conf->monitoring_address) {
		monitor_close();
		return 0;
	}
	/* What is no address fails there. */
	monitor_read_address(conf->monitoring_address, &addr, &port);
	bool same = N.http && port == N.port && dns_addr_equal(&addr, &N.addr);
	if (!same && !(http = monitor_listen(&addr, port, err, err_size)))
		return -1;
	if (monitor_auth_open(conf, err, err_size) < 0) {
		httpd_close(http);
		return -1;
	}
	if (same)
		return 0;
	if (!N.http)
		monitor_chart_open(&N.setup);
	httpd_close(N.http);
	N.http = http;
	N.addr = addr;
	N.port = port;
	log_info("-", "monitoring page", LOG_S("address", conf->monitoring_address));
	return 0;
}

void monitor_close(void)
{
	httpd_close(N.http);
	N.http = NULL;
	monitor_auth_close();
	monitor_chart_close();
}
