/*
 * control_ask: questions and orders to the daemon: addresses, domains, state, events,
 * configuration.
 *
 * What is short is made at once, in at most CONTROL_TEXT_MAX bytes, and sent as fast as the client
 * reads. Events are followed by looking from time to time, and by number: what the ring has lost
 * meanwhile is passed over.
 */
#include "control_int.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "domaininfo.h"
#include "listen.h"
#include "log.h"
#include "queue.h"
#include "resolve.h"
#include "sandbox.h"
#include "stat.h"
#include "tls.h"
#include "trace.h"

/* ---- RESOLVE ---- */

static const char *const type_names[] = {
    [ALIAS_EMAIL] = "EMAIL", [ALIAS_PIPE] = "PIPE", [ALIAS_FORWARD] = "FORWARD"};

static void resolved(void *arg, const struct status *st, const struct resolve_found *found,
                     size_t count)
{
	struct control_conn *c = arg;
	*(struct resolve **)c->state = NULL;
	if (status_class(st) != STATUS_DONE) {
		control_refuse(c, st);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		control_field(&c->text, type_names[found[i].type]);
		control_field(&c->text, found[i].address);
		control_field(&c->text, found[i].via);
		buf_putc(&c->text, '\n');
	}
	control_text(c, "%s", "");
}

static void resolve_free(void *state)
{
	resolve_cancel(*(struct resolve **)state);
}

void control_resolve(struct control_conn *c, const char *arg)
{
	const struct conf *conf = control_setup()->smtpd->conf;
	char text[ADDR_TEXT_MAX], here[ADDR_DOMAIN_MAX + 1];
	struct addr a;
	addr_domain_normalise(slice_of(conf->hostname), here, sizeof(here));
	if (addr_parse_local(slice_of(arg), here, &a) < 0) {
		control_error(c, "this is not an address");
		return;
	}
	if (!conf_domain_find(conf, a.domain)) {
		if (addr_format(&a, text, sizeof(text)) < 0)
			text[0] = '\0';
		buf_puts(&c->text, "EMAIL");
		control_field(&c->text, text);
		control_text(c, "\t\n");
		return;
	}
	struct resolve **r = control_state(c, sizeof(struct resolve *));
	if (!r)
		return;
	c->state_free = resolve_free;
	*r = resolve_start(conf, "-", &a, resolved, c);
	if (*r)
		control_wait(c);
	else
		control_error(c, "not now: out of memory");
}

/* ---- DOMAININFO ---- */

static struct domaininfo *the_domains(void)
{
	return control_setup()->smtpd->domaininfo;
}

static const char *seen_text(int64_t seen, char out[24])
{
	time_t at = (time_t)seen;
	struct tm tm;
	if (seen <= 0 || (int64_t)at != seen || !gmtime_r(&at, &tm) ||
	    strftime(out, 24, "%Y-%m-%dT%H:%MZ", &tm) == 0)
		return "-";
	return out;
}

static void list_domains(struct control_conn *c)
{
	struct domaininfo_entry e[CONTROL_LIST_STEP];
	char seen[24], *after = c->state;
	size_t n = domaininfo_list(the_domains(), after, e, CONTROL_LIST_STEP), i = 0;
	for (; i < n && control_room(c); i++)
		buf_printf(
		    &c->io.out, "%s\t%s\t%s\t%s\n", e[i].domain,
		    domaininfo_level_name(e[i].level[DOMAININFO_IN]),
		    domaininfo_level_name(e[i].level[DOMAININFO_OUT]),
		    seen_text(e[i].seen[0] > e[i].seen[1] ? e[i].seen[0] : e[i].seen[1], seen));
	if (i > 0)
		memcpy(after, e[i - 1].domain, strlen(e[i - 1].domain) + 1);
	if (n > 0)
		io_update(&c->io);
	else
		control_end(c);
}

static void show_domain(struct control_conn *c, const char *domain)
{
	struct domaininfo_entry e;
	char in[24], out[24];
	if (domaininfo_find(the_domains(), domain, &e) < 0)
		control_error(c, "%s: this domain is not known", domain);
	else
		control_text(c, "domain\t%s\nincoming\t%s\t%s\noutgoing\t%s\t%s\n", e.domain,
		             domaininfo_level_name(e.level[DOMAININFO_IN]),
		             seen_text(e.seen[DOMAININFO_IN], in),
		             domaininfo_level_name(e.level[DOMAININFO_OUT]),
		             seen_text(e.seen[DOMAININFO_OUT], out));
}

static void forget_domain(struct control_conn *c, const char *domain)
{
	struct status st;
	if (domaininfo_forget(the_domains(), domain, &st) < 0) {
		control_error(c, "%s: %s", domain, st.text);
		return;
	}
	log_info("-", "domaininfo forgotten", LOG_S("domain", domain), LOG_N("uid", c->uid));
	control_text(c, "forgotten\t%s\n", domain);
}

void control_domaininfo(struct control_conn *c, const char *arg)
{
	char domain[ADDR_DOMAIN_MAX + 1];
	bool show = strncmp(arg, "SHOW ", 5) == 0, forget = strncmp(arg, "FORGET ", 7) == 0;
	if (!the_domains()) {
		control_error(c, "nothing is remembered of domains");
	} else if (strcmp(arg, "LIST") == 0) {
		if (control_state(c, ADDR_DOMAIN_MAX + 1))
			control_begin(c, list_domains);
	} else if (!show && !forget) {
		control_error(c, "unknown command");
	} else if (addr_domain_normalise(slice_of(strchr(arg, ' ') + 1), domain, sizeof(domain)) <
	           0) {
		control_error(c, "this is not a domain");
	} else {
		(show ? show_domain : forget_domain)(c, domain);
	}
}

/* ---- STATUS ---- */

static void put_value(void *arg, const struct stat_value *v)
{
	struct buf *text = arg;
	bool histogram = v->kind->type == STAT_TYPE_HISTOGRAM;
	uint64_t count = 0;
	for (size_t i = 0; histogram && i <= v->kind->count; i++)
		count += v->kind->counts[i];
	if (histogram)
		buf_printf(text, "histogram\t%s\t%llu\t%lld\n", v->name, (unsigned long long)count,
		           (long long)v->value);
	else
		buf_printf(text, "counter\t%s\t%lld\n", v->name, (long long)v->value);
}

static void put_addresses(struct buf *text, const char *service, const struct text_strings *list)
{
	for (size_t i = 0; i < list->count; i++) {
		if (strcmp(list->item[i], "systemd") == 0 && !getenv("LISTEN_FDS"))
			continue; /* the default, and there are none */
		buf_printf(text, "listens\t%s", service);
		control_field(text, list->item[i]);
		buf_putc(text, '\n');
	}
}

void control_daemon_status(struct control_conn *c, const char *arg)
{
	const struct smtpd_setup *s = control_setup()->smtpd;
	struct buf *text = &c->text;
	(void)arg;
	buf_printf(text, "version\t%s\npid\t%ld\nhostname", CHASQ_VERSION, (long)getpid());
	control_field(text, s->conf->hostname);
	buf_printf(text, "\nuptime\t%lld\nqueue\t%zu\noldest\t%lld\nactive\t%zu\n",
	           (long long)control_uptime(), queue_length(s->queue),
	           (long long)queue_oldest(s->queue), queue_active(s->queue));
	buf_printf(text, "sessions\t%zu\nlocal\t%zu\ncertificates\t%zu\n", listen_sessions(),
	           control_sessions(), s->certs ? tls_certs_count(s->certs) : 0);
	buf_printf(text, "sandbox\t%s\n", sandbox_text());
	buf_printf(text, "expiry\t%lld\n", s->certs ? (long long)tls_certs_expiry(s->certs) : 0);
	put_addresses(text, "smtp", &s->conf->smtp_address);
	put_addresses(text, "submission", &s->conf->submission_address);
	put_addresses(text, "submission over TLS", &s->conf->submission_over_tls_address);
	if (s->conf->monitoring_address) {
		buf_puts(text, "listens\tmonitoring");
		control_field(text, s->conf->monitoring_address);
		buf_putc(text, '\n');
	}
	stat_each(put_value, text);
	control_text(c, "%s", "");
}

/* ---- TRACE ---- */

struct trace_view {
	unsigned kinds;
	uint64_t seq;
	bool follow;
	char id[CONTROL_LINE_MAX];
};

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug"};

static bool next_event(struct trace_view *v, struct trace_event *e)
{
	return trace_next(v->kinds, v->id[0] ? v->id : NULL, &v->seq, e);
}

static void trace_more(struct control_conn *c)
{
	struct trace_view *v = c->state;
	struct trace_event e;
	bool wrote = false;
	while (control_room(c)) {
		if (!next_event(v, &e)) {
			if (!v->follow)
				control_end(c);
			else if (!wrote)
				control_follow(c, CONTROL_FOLLOW_MS);
			else
				io_update(&c->io);
			return;
		}
		control_number(&c->io.out, e.at);
		control_field(&c->io.out, level_names[e.level]);
		control_field(&c->io.out, trace_kind_name(e.kind));
		control_field(&c->io.out, e.id);
		control_field(&c->io.out, e.text);
		buf_putc(&c->io.out, '\n');
		wrote = true;
	}
	io_update(&c->io);
}

/* Sets the place so that `count` events follow. */
static void seek_newest(struct trace_view *v, size_t count)
{
	struct trace_event e;
	struct trace_view all = *v;
	size_t there = 0;
	while (next_event(&all, &e))
		there++;
	for (; there > count; there--)
		next_event(v, &e);
}

void control_trace(struct control_conn *c, const char *arg)
{
	struct trace_view *v = control_state(c, sizeof(*v));
	size_t count = SIZE_MAX;
	char *end;
	if (!v)
		return;
	v->kinds = TRACE_ALL;
	v->follow = strncmp(arg, "FOLLOW", 6) == 0 && (!arg[6] || arg[6] == ' ');
	if (v->follow)
		arg += 6 + (arg[6] == ' ');
	unsigned long number = strtoul(arg, &end, 10);
	if (end > arg && (!*end || *end == ' ')) {
		count = (size_t)number;
		arg = end + (*end == ' ');
	}
	int kind = trace_kind(arg);
	if (kind >= 0)
		v->kinds = TRACE_OF(kind);
	else
		memcpy(v->id, arg, strlen(arg) + 1); /* a part of a line of that length */
	seek_newest(v, count);
	control_begin(c, trace_more);
}

/* ---- CONFIG, RELOAD, STOP ---- */

void control_config(struct control_conn *c, const char *arg)
{
	(void)arg;
	conf_print(control_setup()->smtpd->conf, &c->text, true);
	control_text(c, "%s", "");
}

/* Each line made harmless; the tab that a value may have has gone with the rest. */
static void put_lines(struct buf *out, struct buf *in)
{
	const char *p = buf_data(in), *end = p + in->len;
	while (p < end) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p));
		if (!line_end)
			line_end = end;
		control_field_slice(out, (struct slice){p, (size_t)(line_end - p)});
		buf_putc(out, '\n');
		p = line_end + 1;
	}
}

void control_reload(struct control_conn *c, const char *arg)
{
	struct conf_report report;
	char err[CONTROL_FIELD_BYTES] = "";
	(void)arg;
	conf_report_init(&report);
	if (control_setup()->reload(&report, err, sizeof(err)) < 0) {
		control_error(c, "%s", err);
	} else {
		put_lines(&c->text, &report.text);
		control_text(c, "%s", "");
	}
	conf_report_clear(&report);
}

/* A descriptor that stays until the process ends tells whoever asked that it has. */
void control_daemon_stop(struct control_conn *c, const char *arg)
{
	static int gone = -1;
	(void)arg;
	if (gone < 0)
		gone = fcntl(c->watch.fd, F_DUPFD_CLOEXEC, 0);
	buf_printf(&c->text, "stopping\t%ld\n", (long)getpid());
	control_say(c);
	control_setup()->stop();
}
