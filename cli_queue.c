/*
 * cli_queue: the queue on a terminal: queue and mailq, show, flush, hold, release, remove.
 *
 * The daemon answers with lines of fields; here they become a table, a page, or JSON. Memory is
 * that of cli_answer and cli_table, whatever the length of the queue; show holds the recipients of
 * one message.
 */
#include "cli_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "cli_table.h"

/* ---- queue ---- */

/* Fields of a line of QUEUE. */
enum { ID, CREATED, NEXT, STATE, ATTEMPTS, SIZE, FROM, LAST_ERROR, LEFT, RCPT };

static const struct cli_column queue_columns[] = {
    {"ID", false, false},  {"AGE", true, false},  {"NEXT", true, false},
    {"SIZE", true, false}, {"FROM", false, true}, {"TO", false, true},
};

static long long number(const char *s)
{
	return strtoll(s, NULL, 10);
}

static const char *size_text(long long n, char out[24])
{
	static const char units[] = "KMGT";
	double size = (double)n / 1024;
	size_t i = 0;
	if (n < 1000) {
		snprintf(out, 24, n > 0 ? "%lld" : "-", n);
		return out;
	}
	for (; size >= 999.5 && units[i + 1]; i++)
		size /= 1024;
	snprintf(out, 24, size < 9.95 ? "%.1f%c" : "%.0f%c", size, units[i]);
	return out;
}

/* "a, b and 3 more", as many as there are. */
static void list_recipients(struct buf *out, char *const field[CLI_FIELDS], size_t n)
{
	size_t shown = n > RCPT ? n - RCPT : 0;
	long long left = number(field[LEFT]);
	buf_truncate(out, 0);
	for (size_t i = 0; i < shown; i++)
		buf_printf(out, "%s%s", i ? ", " : "", field[RCPT + i]);
	if (left > (long long)shown)
		buf_printf(out, ", +%lld", left - (long long)shown);
}

static void queue_row(struct cli_table *t, char *const field[CLI_FIELDS], size_t n, long long now)
{
	char age[24], next[24], size[24];
	struct buf to;
	buf_init(&to, CLI_LINE_MAX * 2);
	list_recipients(&to, field, n);
	const char *wait = strcmp(field[STATE], "waiting") == 0
	                       ? cli_span(number(field[NEXT]) - now, next)
	                       : field[STATE];
	const char *cell[] = {field[ID],   cli_span(now - number(field[CREATED]), age),
	                      wait,        size_text(number(field[SIZE]), size),
	                      field[FROM], buf_str(&to)};
	cli_table_row(t, cell, field[LAST_ERROR]);
	buf_clear(&to);
}

static int queue_table(struct cli_answer *a)
{
	char *field[CLI_FIELDS], size[24];
	long long now = (long long)time(NULL), bytes = 0;
	size_t n, count = 0;
	struct cli_table t;
	cli_table_open(&t, queue_columns, sizeof(queue_columns) / sizeof(*queue_columns));
	for (; (n = cli_answer_fields(a, field)) > 0; count++) {
		queue_row(&t, field, n, now);
		bytes += number(field[SIZE]);
	}
	cli_table_close(&t);
	if (count == 0 && a->ended)
		puts("the queue is empty");
	else if (count > 0)
		printf("%zu message%s, %s%s\n", count, count == 1 ? "" : "s",
		       size_text(bytes, size), bytes < 1000 ? " bytes" : "");
	return EX_OK;
}

static void json_item(struct buf *b, char *const field[CLI_FIELDS], size_t n)
{
	buf_puts(b, "{\"id\":");
	cli_put_json(b, field[ID]);
	buf_printf(b, ",\"created\":%lld,\"next\":%lld,\"state\":", number(field[CREATED]),
	           number(field[NEXT]));
	cli_put_json(b, field[STATE]);
	buf_printf(b, ",\"attempts\":%lld,\"size\":%lld,\"from\":", number(field[ATTEMPTS]),
	           number(field[SIZE]));
	cli_put_json(b, field[FROM]);
	buf_puts(b, ",\"error\":");
	cli_put_json(b, field[LAST_ERROR]);
	buf_printf(b, ",\"recipients_left\":%lld,\"recipients\":[", number(field[LEFT]));
	for (size_t i = RCPT; i < n; i++) {
		buf_puts(b, i > RCPT ? "," : "");
		cli_put_json(b, field[i]);
	}
	buf_puts(b, "]}");
}

/* One array, whatever happens. */
static int queue_json(struct cli_answer *a)
{
	char *field[CLI_FIELDS];
	size_t n, count = 0;
	struct buf b;
	buf_init(&b, CLI_LINE_MAX * 6);
	putchar('[');
	for (; (n = cli_answer_fields(a, field)) > 0; count++) {
		json_item(&b, field, n);
		printf("%s\n%s", count ? "," : "", buf_str(&b));
		buf_clear(&b);
	}
	puts(count ? "\n]" : "]");
	return EX_OK;
}

static int list_queue(const char *tool, const char *dir, int (*print)(struct cli_answer *a))
{
	struct cli_answer a = {.live = false};
	int code = cli_answer_open(&a, tool, dir, "QUEUE");
	if (code == EX_OK)
		code = print(&a);
	return cli_answer_close(&a, code);
}

int cli_list_queue(const char *tool, const char *dir)
{
	return list_queue(tool, dir, queue_table);
}

int cli_queue(int argc, char **argv)
{
	static const struct option names[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
	struct cli_call call = {
	    .usage = "usage: chasq queue [-j] [-C DIR]     or mailq\n"
	             "Lists the messages that wait to be delivered, the oldest first, each with\n"
	             "the reason why it waits below it.\n"
	             "  -j, --json  as a JSON array of objects; times in seconds since 1970\n",
	    .letters = "jc:A:v", /* -c and -v: what the mailq of others takes means nothing here */
	    .names = names};
	int code = cli_options(&call, argc, argv);
	if (code >= 0)
		return code;
	if (call.option['c'] && !call.dir)
		call.dir = call.option['c'];
	return list_queue(call.tool, call.dir, call.option['j'] ? queue_json : queue_table);
}

/* ---- show ---- */

/* The recipients of the message that is shown, by their numbers in the attempts. */
struct shown {
	char *rcpt[CLI_RCPTS_MAX];
	size_t count;
	const char *part; /* of the page: where we are */
};

static void part(struct shown *s, const char *title)
{
	if (s->part && strcmp(s->part, title) == 0)
		return;
	s->part = title;
	printf("\n%s%s%s\n", cli_style(CLI_BOLD), title, cli_style(CLI_PLAIN));
}

static const char *time_text(long long at, char out[32])
{
	time_t t = (time_t)at;
	struct tm tm;
	if (!localtime_r(&t, &tm) || strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		return "-";
	return out;
}

static enum cli_style state_style(const char *state)
{
	if (strcmp(state, "sent") == 0)
		return CLI_GOOD;
	return strcmp(state, "failed") == 0 ? CLI_BAD : CLI_WARN;
}

static void show_value(const char *name, const char *value)
{
	printf("%-10s", name);
	cli_print_wrapped(value, 10, 10);
}

static void show_head(char *const f[CLI_FIELDS])
{
	char text[96], stamp[32], span[24];
	long long n = number(f[1]), now = (long long)time(NULL);
	snprintf(text, sizeof(text), "%s", f[1]);
	if (strcmp(f[0], "created") == 0)
		snprintf(text, sizeof(text), "%s (%s ago)", time_text(n, stamp),
		         n < now ? cli_span(now - n, span) : "0s");
	else if (strcmp(f[0], "next") == 0 && n <= now)
		snprintf(text, sizeof(text), "now");
	else if (strcmp(f[0], "next") == 0)
		snprintf(text, sizeof(text), "%s (in %s)", time_text(n, stamp),
		         cli_span(n - now, span));
	show_value(f[0], strcmp(f[0], "from") == 0 ? f[1] : text);
}

static void show_rcpt(struct shown *s, char *const f[CLI_FIELDS])
{
	char text[CLI_LINE_MAX];
	part(s, "RECIPIENTS");
	if (s->count < CLI_RCPTS_MAX)
		s->rcpt[s->count++] = strdup(f[3]);
	printf("%s%-10s%s", cli_style(state_style(f[1])), f[1], cli_style(CLI_PLAIN));
	bool alias = *f[4] && strcmp(f[3], f[4]) != 0;
	snprintf(text, sizeof(text), "%s%s%s%s%s%s", strcmp(f[2], "PIPE") == 0 ? "|" : "", f[3],
	         *f[5] ? " via " : "", f[5], alias ? " for " : "", alias ? f[4] : "");
	cli_print_wrapped(text, 10, 10);
	if (*f[7]) {
		snprintf(text, sizeof(text), "%s%s%s", f[7], *f[6] ? " - " : "", f[6]);
		printf("%10s", "");
		cli_print_wrapped(text, 10, 10);
	}
}

/* What the numbers stand for: the first three, and how many more. */
static void put_rcpts(const struct shown *s, const char *list, char *text, size_t size)
{
	size_t shown = 0, more = 0, at = 0;
	text[0] = '\0';
	while (*list) {
		char *end;
		unsigned long i = strtoul(list, &end, 10);
		if (end == list)
			break;
		list = *end == ',' ? end + 1 : end;
		if (shown < 3 && i < s->count && s->rcpt[i] && at < size) {
			at += (size_t)snprintf(text + at, size - at, "%s%s", shown ? ", " : "for ",
			                       s->rcpt[i]);
			shown++;
		} else {
			more++;
		}
	}
	if (more > 0 && at < size)
		snprintf(text + at, size - at, " and %zu more", more);
}

static void show_attempt(struct shown *s, char *const f[CLI_FIELDS])
{
	char text[CLI_LINE_MAX], stamp[32];
	part(s, "ATTEMPTS");
	printf("%s  %s%-8s%s", time_text(number(f[1]), stamp), cli_style(state_style(f[2])), f[2],
	       cli_style(CLI_PLAIN));
	cli_print_wrapped(f[3], 29, 10);
	printf("%10s", "");
	cli_print_wrapped(f[4], 10, 10);
	put_rcpts(s, f[5], text, sizeof(text));
	printf("%10s", "");
	cli_print_wrapped(text, 10, 10);
}

static void show_line(struct shown *s, char *const f[CLI_FIELDS])
{
	if (strcmp(f[0], "rcpt") == 0) {
		show_rcpt(s, f);
	} else if (strcmp(f[0], "attempt") == 0) {
		show_attempt(s, f);
	} else if (strcmp(f[0], "header") == 0) {
		part(s, "HEADER");
		cli_print_wrapped(f[1], 0, 4);
	} else if (strcmp(f[0], "cut") == 0) {
		printf("... (%s: ", f[1]);
		cli_print_wrapped(*f[2] ? f[2] : "there is more)", 16, 4);
	} else {
		show_head(f);
	}
}

static int show_message(const char *tool, const char *dir, const char *id)
{
	struct cli_answer a = {.live = false};
	char *field[CLI_FIELDS];
	struct shown *s = calloc(1, sizeof(*s));
	if (!s) {
		fprintf(stderr, "%s: out of memory\n", tool);
		return EX_OSERR;
	}
	int code = cli_answer_open(&a, tool, dir, "SHOW %s", id);
	while (code == EX_OK && cli_answer_fields(&a, field) > 0)
		show_line(s, field);
	for (size_t i = 0; i < s->count; i++)
		free(s->rcpt[i]);
	free(s);
	return cli_answer_close(&a, code);
}

/* The content byte for byte. */
static int show_raw(const char *tool, const char *dir, const char *id)
{
	struct cli_answer a = {.live = true};
	char *line, *end;
	int code = cli_answer_open(&a, tool, dir, "RAW %s", id);
	while (code == EX_OK && (line = cli_answer_line(&a)) != NULL) {
		unsigned long n = strtoul(line, &end, 10);
		if (*end || end == line) {
			fprintf(stderr, "%s: %s\n", tool, line);
			code = EX_IOERR;
		} else if (cli_answer_copy(&a, n) < 0) {
			break;
		}
	}
	return cli_answer_close(&a, code);
}

int cli_show(int argc, char **argv)
{
	static const struct option names[] = {{"raw", no_argument, NULL, 'r'}, {NULL, 0, NULL, 0}};
	struct cli_call call = {
	    .usage = "usage: chasq show ID [--raw] [-C DIR]\n"
	             "Shows a message of the queue: its envelope, what became of each recipient,\n"
	             "every attempt, its header section.\n"
	             "  --raw  the message itself, byte for byte, instead\n",
	    .letters = "r",
	    .names = names,
	    .least = 1,
	    .most = 1};
	int code = cli_options(&call, argc, argv);
	if (code >= 0)
		return code;
	return (call.option['r'] ? show_raw : show_message)(call.tool, call.dir, call.word[0]);
}

/* ---- orders ---- */

int cli_say_flush(const char *tool, const char *dir, const char *what)
{
	struct cli_answer a = {.live = false};
	char *field[CLI_FIELDS];
	int code = cli_answer_open(&a, tool, dir, "FLUSH%s%s", what ? " " : "", what ? what : "");
	while (code == EX_OK && cli_answer_fields(&a, field) > 0)
		printf("flushed %s message%s\n", field[1], strcmp(field[1], "1") == 0 ? "" : "s");
	return cli_answer_close(&a, code);
}

int cli_flush(int argc, char **argv)
{
	struct cli_call call = {
	    .usage = "usage: chasq flush [ID | DOMAIN] [-C DIR]\n"
	             "Tries waiting messages now: all, one, or those for a domain. What is held\n"
	             "stays held.\n",
	    .most = 1};
	int code = cli_options(&call, argc, argv);
	return code >= 0 ? code : cli_say_flush(call.tool, call.dir, call.word[0]);
}

/* Has the daemon do something to what the call names, if anything, and prints its answer. */
static int order(const struct cli_call *call, const char *verb, const char *option,
                 const char *empty)
{
	char command[CONTROL_LINE_MAX];
	int n = snprintf(command, sizeof(command), "%s%s%s%s", verb, call->words ? " " : "",
	                 call->words ? call->word[0] : "", option);
	if (n < 0 || (size_t)n >= sizeof(command))
		return cli_misused(call);
	return cli_ask(call->tool, call->dir, command, empty);
}

int cli_hold(int argc, char **argv)
{
	bool hold = strcmp(argv[0], "hold") == 0;
	struct cli_call call = {
	    .usage = hold
	                 ? "usage: chasq hold [ID | DOMAIN] [-C DIR]\n"
	                   "Holds a message, or all mail for a domain, back: it is not tried, and\n"
	                   "does not grow too old, until it is released. Without argument: lists\n"
	                   "what is held.\n"
	                 : "usage: chasq release ID | DOMAIN [-C DIR]\n"
	                   "Releases what was held; it is tried at once.\n",
	    .least = hold ? 0 : 1,
	    .most = 1};
	int code = cli_options(&call, argc, argv);
	if (code >= 0)
		return code;
	return order(&call, hold ? "HOLD" : "RELEASE", "", "nothing is held");
}

int cli_remove(int argc, char **argv)
{
	static const struct option names[] = {{"bounce", no_argument, NULL, 'b'},
	                                      {NULL, 0, NULL, 0}};
	struct cli_call call = {.usage = "usage: chasq remove ID [--bounce] [-C DIR]\n"
	                                 "Removes a message from the queue.\n"
	                                 "  --bounce  and tells its sender\n",
	                        .letters = "b",
	                        .names = names,
	                        .least = 1,
	                        .most = 1};
	int code = cli_options(&call, argc, argv);
	if (code >= 0)
		return code;
	if (strchr(call.word[0], ' '))
		return cli_misused(&call);
	return order(&call, "REMOVE", call.option['b'] ? " BOUNCE" : "", NULL);
}
