/*
 * cli_daemon: the daemon on a terminal: resolve, domaininfo, reload, stop, status, trace, config.
 */
#include "cli_int.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sysexits.h>
#include <time.h>

#include "cli_table.h"

static bool is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* Prints an answer as a table; `empty` when it has no lines. Returns the exit code. */
static int print_table(const struct cli_call *call, const char *command,
                       const struct cli_column *column, size_t columns, const char *empty)
{
	struct cli_answer a = {.live = false};
	char *field[CLI_FIELDS];
	struct cli_table t;
	int code = cli_answer_open(&a, call->tool, call->dir, "%s", command);
	cli_table_open(&t, column, columns);
	while (code == EX_OK && cli_answer_fields(&a, field) > 0)
		cli_table_row(&t, (const char *const *)field, NULL);
	if (t.count == 0 && a.ended)
		puts(empty);
	cli_table_close(&t);
	if (code == EX_UNAVAILABLE && is(call->tool, "resolve"))
		code = EX_NOUSER;
	return cli_answer_close(&a, code);
}

/* ---- resolve, domaininfo ---- */

int cli_resolve(int argc, char **argv)
{
	static const struct cli_column columns[] = {
	    {"TYPE", false, false}, {"DESTINATION", false, false}, {"VIA", false, false}};
	char command[CONTROL_LINE_MAX];
	struct cli_call call = {
	    .usage = "usage: chasq resolve ADDRESS [-C DIR]\n"
	             "Shows where mail for an address goes, by aliases, users and hooks, as the\n"
	             "server sees them; or says why it goes nowhere.\n",
	    .least = 1,
	    .most = 1};
	int code = cli_options(&call, argc, argv);
	if (code >= 0)
		return code;
	int n = snprintf(command, sizeof(command), "RESOLVE %s", call.word[0]);
	if (n < 0 || (size_t)n >= sizeof(command))
		return cli_misused(&call);
	return print_table(&call, command, columns, 3, "it goes nowhere");
}

/* One domain, or what was done to it. */
static int ask_domain(const struct cli_call *call, const char *verb)
{
	struct cli_answer a = {.live = false};
	char *field[CLI_FIELDS];
	int code =
	    cli_answer_open(&a, call->tool, call->dir, "DOMAININFO %s %s", verb, call->word[1]);
	size_t n;
	while (code == EX_OK && (n = cli_answer_fields(&a, field)) > 0) {
		printf("%-10s ", field[0]);
		cli_print_wrapped(field[1], 11, 11);
		if (n > 2)
			printf("%-10s last seen %s\n", "", field[2]);
	}
	return cli_answer_close(&a, code);
}

int cli_domaininfo(int argc, char **argv)
{
	static const struct cli_column columns[] = {{"DOMAIN", false, true},
	                                            {"INCOMING", false, false},
	                                            {"OUTGOING", false, false},
	                                            {"LAST SEEN", false, false}};
	struct cli_call call = {
	    .usage =
	        "usage: chasq domaininfo [list | show DOMAIN | forget DOMAIN] [-C DIR]\n"
	        "Shows how well protected the mail of each domain has been, which is demanded\n"
	        "from then on; or forgets what is known of one, when it cannot be met any\n"
	        "more.\n",
	    .most = 2};
	int code = cli_options(&call, argc, argv);
	if (code >= 0)
		return code;
	const char *verb = call.words ? call.word[0] : "list";
	if (is(verb, "list") && call.words < 2)
		return print_table(&call, "DOMAININFO LIST", columns, 4, "no domain is known");
	if (call.words < 2 || strchr(call.word[1], ' ') ||
	    (!is(verb, "show") && !is(verb, "forget")))
		return cli_misused(&call);
	return ask_domain(&call, is(verb, "show") ? "SHOW" : "FORGET");
}

/* ---- reload, stop ---- */

int cli_say_reload(const char *tool, const char *dir)
{
	struct cli_answer a = {.live = false};
	char *line;
	size_t lines = 0, refused = 0;
	int code = cli_answer_open(&a, tool, dir, "RELOAD");
	if (code == EX_UNAVAILABLE) {
		fprintf(stderr, "%s: nothing was changed\n", tool);
		code = EX_CONFIG;
	}
	for (; code == EX_OK && (line = cli_answer_line(&a)); lines++) {
		if (strncmp(line, "refused", 7) == 0) {
			refused++;
			fprintf(stderr, "%s: %s\n", tool, line);
		} else {
			cli_print_wrapped(line, 0, 4);
		}
	}
	if (lines == 0 && a.ended)
		puts("nothing has changed");
	code = cli_answer_close(&a, code);
	return code == EX_OK && refused > 0 ? EX_UNAVAILABLE : code;
}

int cli_reload(int argc, char **argv)
{
	struct cli_call call = {
	    .usage =
	        "usage: chasq reload [-C DIR]     or newaliases\n"
	        "Has the server read its configuration, users, aliases and certificates again,\n"
	        "and says what changed and what was refused. Nothing is dropped.\n"
	        "Exits 69 when something was refused, 78 when the file is bad and nothing\n"
	        "changed.\n",
	    .letters = "c:A:v"};
	int code = cli_options(&call, argc, argv);
	return code >= 0 ? code : cli_say_reload(call.tool, call.dir);
}

/* The daemon's end of the connection is closed by its end. */
static int wait_for_end(struct cli_answer *a)
{
	struct pollfd p = {.fd = a->fd, .events = POLLIN};
	char c;
	if (poll(&p, 1, CLI_STOP_S * 1000) == 1 && recv(a->fd, &c, 1, 0) <= 0) {
		puts("stopped");
		return EX_OK;
	}
	fprintf(stderr, "%s: it has not ended after %d s\n", a->tool, CLI_STOP_S);
	return EX_TEMPFAIL;
}

int cli_stop(int argc, char **argv)
{
	struct cli_answer a = {.live = true};
	char *field[CLI_FIELDS];
	struct cli_call call = {.usage = "usage: chasq stop [-C DIR]\n"
	                                 "Ends the server, as SIGTERM does, and waits until it has "
	                                 "ended.\n"};
	int code = cli_options(&call, argc, argv);
	if (code >= 0)
		return code;
	code = cli_answer_open(&a, call.tool, call.dir, "STOP");
	while (code == EX_OK && cli_answer_fields(&a, field) > 0) {
		printf("stopping, process %s\n", field[1]);
		fflush(stdout);
	}
	if (a.ended)
		code = wait_for_end(&a);
	return cli_answer_close(&a, code);
}

/* ---- status ---- */

/* What the summary says. */
struct summary {
	char version[32], hostname[256], uptime[24], oldest[24];
	long long pid, queue, active, sessions, local, certificates, expiry;
	char sandbox[400];
	bool shown;
	bool all; /* counters of 0 too */
};

static void label(const char *name)
{
	printf("%s%-14s%s", cli_style(CLI_BOLD), name, cli_style(CLI_PLAIN));
}

/* In one piece, once all of it is there. */
static void print_summary(struct summary *s)
{
	char text[600], span[24];
	if (s->shown)
		return;
	s->shown = true;
	label("chasq");
	snprintf(text, sizeof(text), "%s on %s, process %lld, up %s", s->version, s->hostname,
	         s->pid, s->uptime);
	cli_print_wrapped(text, 14, 14);
	long long age = (long long)time(NULL) - strtoll(s->oldest, NULL, 10);
	label("queue");
	printf("%lld message%s%s%s\n", s->queue, s->queue == 1 ? "" : "s",
	       s->queue ? ", the oldest for " : "",
	       s->queue ? cli_span(age > 0 ? age : 1, span) : "");
	label("deliveries");
	printf("%lld under way\n", s->active);
	label("sessions");
	printf("%lld, and %lld of this machine's users\n", s->sessions, s->local);
	label("certificates");
	printf("%lld", s->certificates);
	long long left = s->expiry - (long long)time(NULL);
	if (s->expiry > 0)
		printf(left < 0 ? ", the first expired %s ago" : ", the first expires in %s",
		       cli_span(left < 0 ? -left : left, span));
	puts("");
	label("sandbox");
	cli_print_wrapped(s->sandbox, 14, 14);
}

static void note_summary(struct summary *s, const char *name, const char *value)
{
	long long n = strtoll(value, NULL, 10);
	if (is(name, "version"))
		snprintf(s->version, sizeof(s->version), "%s", value);
	else if (is(name, "hostname"))
		snprintf(s->hostname, sizeof(s->hostname), "%s", value);
	else if (is(name, "uptime"))
		snprintf(s->uptime, sizeof(s->uptime), "%s",
		         cli_span(n > 0 ? n : 1, (char[24]){0}));
	else if (is(name, "sandbox"))
		snprintf(s->sandbox, sizeof(s->sandbox), "%s", value);
	else if (is(name, "oldest"))
		snprintf(s->oldest, sizeof(s->oldest), "%s", value);
	else if (is(name, "pid"))
		s->pid = n;
	else if (is(name, "queue"))
		s->queue = n;
	else if (is(name, "active"))
		s->active = n;
	else if (is(name, "sessions"))
		s->sessions = n;
	else if (is(name, "local"))
		s->local = n;
	else if (is(name, "certificates"))
		s->certificates = n;
	else if (is(name, "expiry"))
		s->expiry = n;
}

static void status_line(struct summary *s, struct cli_table *t, char *const f[CLI_FIELDS])
{
	char text[400];
	const char *cell[2] = {f[1], f[2]};
	bool listens = is(f[0], "listens"), counter = is(f[0], "counter");
	bool histogram = is(f[0], "histogram");
	if (!listens && !counter && !histogram) {
		note_summary(s, f[0], f[1]);
		return;
	}
	print_summary(s);
	if (listens) {
		label("listens");
		snprintf(text, sizeof(text), "%s for %s", f[2], f[1]);
		cli_print_wrapped(text, 14, 14);
		return;
	}
	if (!s->all && is(f[2], "0"))
		return;
	if (histogram) {
		snprintf(text, sizeof(text), "%s, %s in all", f[1], f[3]);
		cell[0] = text;
	}
	cli_table_row(t, cell, NULL);
}

int cli_status(int argc, char **argv)
{
	static const struct option names[] = {{"all", no_argument, NULL, 'a'}, {NULL, 0, NULL, 0}};
	static const struct cli_column columns[] = {{"COUNTER", false, true},
	                                            {"VALUE", true, false}};
	struct cli_answer a = {.live = false};
	char *field[CLI_FIELDS];
	struct summary s = {.shown = false};
	struct cli_table t;
	struct cli_call call = {.usage = "usage: chasq status [-a] [-C DIR]\n"
	                                 "Shows how the server does, then its counters.\n"
	                                 "  -a, --all  those that are 0, too\n",
	                        .letters = "a",
	                        .names = names};
	int code = cli_options(&call, argc, argv);
	if (code >= 0)
		return code;
	s.all = call.option['a'];
	code = cli_answer_open(&a, call.tool, call.dir, "STATUS");
	cli_table_open(&t, columns, 2);
	while (code == EX_OK && cli_answer_fields(&a, field) > 0)
		status_line(&s, &t, field);
	if (code == EX_OK)
		print_summary(&s);
	if (t.count > 0)
		putchar('\n');
	cli_table_close(&t);
	return cli_answer_close(&a, code);
}

/* ---- trace ---- */

static void print_event(char *const f[CLI_FIELDS])
{
	char text[CLI_LINE_MAX], stamp[32] = "-";
	time_t at = (time_t)(strtoll(f[0], NULL, 10) / 1000);
	struct tm tm;
	if (localtime_r(&at, &tm))
		strftime(stamp, sizeof(stamp), "%m-%d %H:%M:%S", &tm);
	snprintf(text, sizeof(text), "%s %s", f[3], f[4]);
	enum cli_style style = is(f[1], "error")   ? CLI_BAD
	                       : is(f[1], "debug") ? CLI_DIM
	                                           : CLI_PLAIN;
	printf("%s %s%-8s ", stamp, style ? cli_style(style) : "", f[2]);
	cli_print_wrapped(text, 24, 4);
	fputs(style ? cli_style(CLI_PLAIN) : "", stdout);
}

int cli_trace(int argc, char **argv)
{
	static const struct option names[] = {{"follow", no_argument, NULL, 'f'},
	                                      {"lines", required_argument, NULL, 'n'},
	                                      {NULL, 0, NULL, 0}};
	struct cli_call call = {
	    .usage = "usage: chasq trace [ID | KIND] [-f] [-n N] [-C DIR]\n"
	             "Shows the last events that the server keeps: all, those of a session or\n"
	             "message, or of a kind: session, delivery, queue, daemon.\n"
	             "  -f, --follow   and goes on with what comes\n"
	             "  -n, --lines N  this many\n",
	    .letters = "fn:",
	    .names = names,
	    .most = 1};
	char *field[CLI_FIELDS], *end = NULL;
	int code = cli_options(&call, argc, argv);
	if (code >= 0)
		return code;
	unsigned long count = CLI_TRACE_COUNT;
	const char *n = call.option['n'];
	if (n)
		count = strtoul(n, &end, 10);
	if (n && (*end || end == n || *n == '-'))
		return cli_misused(&call);
	bool follow = call.option['f'];
	struct cli_answer a = {.live = follow};
	code = cli_answer_open(&a, call.tool, call.dir, "TRACE %s%lu%s%s", follow ? "FOLLOW " : "",
	                       count, call.words ? " " : "", call.words ? call.word[0] : "");
	struct timeval forever = {.tv_sec = 0};
	if (follow && code == EX_OK)
		setsockopt(a.fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
	while (code == EX_OK && cli_answer_fields(&a, field) > 0) {
		print_event(field);
		if (follow && fflush(stdout) != 0)
			break;
	}
	if (follow && code == EX_OK && ferror(stdout))
		a.ended = true; /* by our reader */
	return cli_answer_close(&a, code);
}

/* ---- config ---- */

int cli_config(int argc, char **argv)
{
	struct cli_answer a = {.live = false};
	char *line;
	struct cli_call call = {
	    .usage = "usage: chasq config [-C DIR]\n"
	             "Shows the configuration in effect, each value with where it comes from.\n"};
	int code = cli_options(&call, argc, argv);
	if (code >= 0)
		return code;
	code = cli_answer_open(&a, call.tool, call.dir, "CONFIG");
	while (code == EX_OK && (line = cli_answer_line(&a)))
		cli_print_wrapped(line, 0, 4);
	return cli_answer_close(&a, code);
}
