/*
 * dsn: delivery status notifications: multipart/report (RFC 3462) with a text for people, the
 * delivery-status for programs (RFC 3464; RFC 6533 when an address is not ASCII), and the original
 * message or its header.
 *
 * A notification is made by a list of phases, each called again until it says that it is through,
 * DSN_STEP bytes a turn. Every value that comes from outside passes dsn_text(): one line, bounded,
 * so no reply of a server can add a field or a part; the boundary is random, so no message can end
 * its part early. No line is longer than 998 bytes (RFC 5322 2.1.1).
 */
#include "dsn.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "addr.h"
#include "alias.h"
#include "config.h"
#include "courier.h"
#include "header.h"
#include "log.h"
#include "loop.h"
#include "stat.h"

#define DSN_LINE_MAX  998
#define DSN_CHUNK     4096
#define DSN_RANDOM    16
#define DSN_PUT_MAX   2048 /* what one dsn_put makes; its values are bounded to fit */
#define DSN_VALUE_MAX ADDR_TEXT_MAX

STAT_COUNTER(stat_written, "dsn/written");
STAT_COUNTER(stat_dropped, "dsn/dropped");

struct dsn {
	const struct conf *conf;
	struct spool *sp;
	const struct envelope *env;
	int64_t now;
	void (*done)(void *arg, const struct status *st);
	void *arg;
	struct loop_timer timer;
	struct spool_reader *reader;
	struct spool_writer *writer; /* NULL: there is nobody to notify */
	struct header_scan scan;
	char domain[ADDR_DOMAIN_MAX + 1]; /* ours, for our own address; ASCII */
	char host[ADDR_DOMAIN_MAX + 1];
	char random[2 * DSN_RANDOM + 1];
	size_t phase;
	size_t i;       /* the recipient that is next in this phase */
	uint64_t moved; /* bytes of the original seen in this phase */
	size_t turn;    /* bytes done in this turn */
	size_t column;  /* of the line being copied */
	bool whole;     /* the original fits */
	bool stranger;  /* the sender is in none of our domains */
	bool text_8bit;
	bool utf8; /* an address is not ASCII */
};

/* ---- recipients --------------------------------------------------------------------------- */

static bool dsn_concerns(const struct rcpt *r)
{
	return r->state != RCPT_SENT;
}

/* The address as the sender knows it. The command line of a pipe is not for others. */
static const char *dsn_original(const struct rcpt *r)
{
	if (r->original && *r->original)
		return r->original;
	return r->type == RCPT_PIPE || !r->address ? "unknown" : r->address;
}

static const char *dsn_final(const struct rcpt *r)
{
	return r->type == RCPT_PIPE || !r->address ? dsn_original(r) : r->address;
}

/* Has a recipient before i the same original address? Then it was told with that one. */
static bool dsn_is_told(const struct envelope *env, size_t i)
{
	const char *original = dsn_original(&env->rcpt[i]);
	for (size_t k = 0; k < i; k++)
		if (dsn_concerns(&env->rcpt[k]) &&
		    strcmp(dsn_original(&env->rcpt[k]), original) == 0)
			return true;
	return false;
}

static bool dsn_has_remote(const struct rcpt *r)
{
	return r->remote && *r->remote;
}

/* What may be said about a failure: the last status, or one with code 0 when there was none. */
static void dsn_reason(const struct dsn *d, const struct rcpt *r, struct status *st)
{
	if (!r->last) {
		*st = (struct status){0};
		return;
	}
	*st = *r->last;
	if (r->type == RCPT_PIPE) {
		status_set(st, r->last->code, NULL, "the program behind this address failed");
		memcpy(st->enh, r->last->enh, sizeof st->enh);
	}
	char *mark = strstr(st->text, COURIER_OUTPUT_MARK);
	if (mark && d->stranger && !dsn_has_remote(r))
		*mark = '\0';
}

static bool dsn_is_ascii(const char *s)
{
	while (*s && (unsigned char)*s < 128)
		s++;
	return !*s;
}

/* ---- output ------------------------------------------------------------------------------- */

static void dsn_append(struct dsn *d, const char *p, size_t n)
{
	spool_append(d->writer, p, n);
	d->turn += n;
}

static void dsn_put(struct dsn *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void dsn_put(struct dsn *d, const char *fmt, ...)
{
	char out[DSN_PUT_MAX];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(out, sizeof out, fmt, ap);
	va_end(ap);
	if (n > 0)
		dsn_append(d, out, (size_t)n < sizeof out ? (size_t)n : sizeof out - 1);
}

struct dsn_value {
	char s[DSN_VALUE_MAX];
};

/* One harmless, bounded line of anything. */
static const char *dsn_text(const char *s, bool utf8, struct dsn_value *out)
{
	header_text(slice_of(s), utf8, out->s, sizeof out->s);
	return out->s;
}

/* The host of "host [address]:port LEVEL". */
static const char *dsn_remote_host(const struct rcpt *r, struct dsn_value *out)
{
	size_t n = strcspn(r->remote, " ");
	header_text((struct slice){r->remote, n}, false, out->s, sizeof out->s);
	return out->s;
}

static const char *dsn_date(int64_t t, char out[HEADER_DATE_MAX])
{
	time_t when = (time_t)t;
	struct tm local;
	int offset = localtime_r(&when, &local) ? (int)(local.tm_gmtoff / 60) : 0;
	header_date(t, offset, out);
	return out;
}

/* The head of a part of the report. */
static void dsn_put_part(struct dsn *d, const char *type, const char *description, bool is_8bit)
{
	dsn_put(d,
	        "\r\n--%s\r\n"
	        "Content-Type: %s\r\n"
	        "Content-Description: %s\r\n"
	        "Content-Transfer-Encoding: %s\r\n"
	        "\r\n",
	        d->random, type, description, is_8bit ? "8bit" : "7bit");
}

/* ---- phases: each returns 1 to be called again, 0 when through, -1 with *st --------------- */

/* Reads the original for its Message-ID, and to know whether it can be attached. */
static int dsn_scan(struct dsn *d, struct status *st)
{
	char chunk[DSN_CHUNK];
	ssize_t n = spool_read(d->reader, chunk, sizeof chunk, st);
	if (n < 0)
		return -1;
	header_scan_feed(&d->scan, (struct slice){chunk, (size_t)n});
	d->moved += (uint64_t)n;
	d->turn += (size_t)n;
	if (n == 0)
		header_scan_end(&d->scan);
	bool too_long = d->moved > DSN_ORIGINAL_MAX;
	if (n > 0 && !too_long)
		return 1;
	/* Longer lines are no mail that can be passed on as it is (RFC 2045 2.8). */
	d->whole = !too_long && d->scan.longest <= DSN_LINE_MAX;
	spool_read_close(d->reader);
	d->reader = spool_read_open(d->sp, d->env->id, st);
	return d->reader ? 0 : -1;
}

static bool dsn_original_8bit(const struct dsn *d)
{
	return d->scan.header_8bit || (d->whole && d->scan.body_8bit);
}

/* Only a Message-ID that looks like one may go into a header of ours. */
static bool dsn_has_message_id(const struct dsn *d)
{
	const char *id = d->scan.message_id;
	size_t n = strlen(id);
	return n > 2 && id[0] == '<' && id[n - 1] == '>' && !strpbrk(id, " ,") && dsn_is_ascii(id);
}

static int dsn_put_header(struct dsn *d, struct status *st)
{
	char date[HEADER_DATE_MAX];
	struct dsn_value to;
	(void)st;
	dsn_put(d,
	        "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n"
	        "To: <%s>\r\n"
	        "Subject: Your mail could not be delivered\r\n"
	        "Date: %s\r\n"
	        "Message-ID: <dsn.%s@%s>\r\n",
	        d->domain, dsn_text(d->env->from, true, &to), dsn_date(d->now, date), d->random,
	        d->domain);
	if (dsn_has_message_id(d))
		dsn_put(d, "In-Reply-To: %s\r\nReferences: %s\r\n", d->scan.message_id,
		        d->scan.message_id);
	dsn_put(d,
	        "Auto-Submitted: auto-replied\r\n"
	        "MIME-Version: 1.0\r\n"
	        "Content-Type: multipart/report; report-type=delivery-status;\r\n"
	        "\tboundary=\"%s\"\r\n"
	        "Content-Transfer-Encoding: %s\r\n",
	        d->random, d->text_8bit || d->utf8 || dsn_original_8bit(d) ? "8bit" : "7bit");
	return 0;
}

static int dsn_put_greeting(struct dsn *d, struct status *st)
{
	char date[HEADER_DATE_MAX];
	(void)st;
	dsn_put_part(d, "text/plain; charset=utf-8", "What happened", d->text_8bit || d->utf8);
	dsn_put(d,
	        "Hello,\r\n"
	        "\r\n"
	        "this is the mail server %s. A message that you sent\r\n"
	        "could not be delivered to the addresses below, and is not tried any more.\r\n"
	        "\r\n",
	        d->host);
	if (d->env->created > 0)
		dsn_put(d, "It was received on %s.\r\n\r\n", dsn_date(d->env->created, date));
	return 0;
}

static void dsn_put_reason(struct dsn *d, const struct rcpt *r)
{
	struct status what;
	struct dsn_value host;
	char text[STATUS_PRINT_MAX];
	dsn_reason(d, r, &what);
	status_print(&what, text, sizeof text);
	if (r->state == RCPT_PENDING)
		dsn_put(d, "    It could not be delivered in time.\r\n");
	if (!what.code)
		return;
	if (dsn_has_remote(r))
		dsn_put(d, "    The server %s answered:\r\n", dsn_remote_host(r, &host));
	dsn_put(d, "    %s\r\n", text);
}

/* An address the sender wrote, once, with all that went wrong behind it. */
static int dsn_put_address(struct dsn *d, struct status *st)
{
	const struct envelope *env = d->env;
	struct dsn_value value;
	(void)st;
	if (d->i == env->rcpt_count)
		return 0;
	size_t first = d->i++;
	if (!dsn_concerns(&env->rcpt[first]) || dsn_is_told(env, first))
		return 1;
	const char *original = dsn_original(&env->rcpt[first]);
	dsn_put(d, "  %s\r\n", dsn_text(original, true, &value));
	for (size_t i = first; i < env->rcpt_count; i++)
		if (dsn_concerns(&env->rcpt[i]) &&
		    strcmp(dsn_original(&env->rcpt[i]), original) == 0)
			dsn_put_reason(d, &env->rcpt[i]);
	dsn_put(d, "\r\n");
	return 1;
}

static int dsn_put_advice(struct dsn *d, struct status *st)
{
	char date[HEADER_DATE_MAX];
	(void)st;
	dsn_put(d,
	        "Recipients that are not named here are not affected.\r\n"
	        "\r\n"
	        "Please check the spelling of the address. If it is right, the reason above\r\n"
	        "may help whoever looks after mail at the other side. %s\r\n"
	        "is attached. This notice was written by a program.\r\n",
	        d->whole ? "Your message" : "The header of your message");
	dsn_put_part(d, d->utf8 ? "message/global-delivery-status" : "message/delivery-status",
	             "Delivery report", d->utf8);
	dsn_put(d, "Reporting-MTA: dns; %s\r\n", d->host);
	if (d->env->created > 0)
		dsn_put(d, "Arrival-Date: %s\r\n", dsn_date(d->env->created, date));
	return 0;
}

/* RFC 3464 2.3.4: the status of the failure; when only time ran out, RFC 3463 says 4.4.7. */
static void dsn_put_status(struct dsn *d, const struct rcpt *r)
{
	const int *enh = r->last ? r->last->enh : NULL;
	if (r->state == RCPT_PENDING)
		dsn_put(d, "Status: 4.4.7\r\n");
	else if (enh && enh[0] == 5)
		dsn_put(d, "Status: %d.%d.%d\r\n", enh[0], enh[1], enh[2]);
	else
		dsn_put(d, "Status: 5.0.0\r\n");
}

static void dsn_put_diagnostic(struct dsn *d, const struct rcpt *r)
{
	struct status what;
	struct dsn_value host;
	char text[STATUS_PRINT_MAX];
	char line[STATUS_PRINT_MAX];
	dsn_reason(d, r, &what);
	if (!what.code)
		return;
	status_print(&what, text, sizeof text);
	header_text(slice_of(text), d->utf8, line, sizeof line);
	if (dsn_has_remote(r))
		dsn_put(d, "Remote-MTA: dns; %s\r\n", dsn_remote_host(r, &host));
	dsn_put(d, "Diagnostic-Code: %s; %s\r\n", dsn_has_remote(r) ? "smtp" : "x-unix", line);
}

/* The fields of a recipient (RFC 3464 2.3). */
static int dsn_put_recipient(struct dsn *d, struct status *st)
{
	const char *type = d->utf8 ? "utf-8" : "rfc822";
	char date[HEADER_DATE_MAX];
	struct dsn_value value;
	(void)st;
	if (d->i == d->env->rcpt_count)
		return 0;
	const struct rcpt *r = &d->env->rcpt[d->i++];
	if (!dsn_concerns(r))
		return 1;
	dsn_put(d, "\r\nOriginal-Recipient: %s; %s\r\n", type,
	        dsn_text(dsn_original(r), d->utf8, &value));
	dsn_put(d, "Final-Recipient: %s; %s\r\n", type, dsn_text(dsn_final(r), d->utf8, &value));
	dsn_put(d, "Action: failed\r\n");
	dsn_put_status(d, r);
	dsn_put_diagnostic(d, r);
	if (d->env->last_attempt > 0)
		dsn_put(d, "Last-Attempt-Date: %s\r\n", dsn_date(d->env->last_attempt, date));
	return 1;
}

static int dsn_put_original_head(struct dsn *d, struct status *st)
{
	(void)st;
	dsn_put_part(d, d->whole ? "message/rfc822" : "text/rfc822-headers",
	             d->whole ? "Undelivered message" : "Header of the undelivered message",
	             dsn_original_8bit(d));
	return 0;
}

/* Copies as it is. */
static void dsn_append_whole(struct dsn *d, const char *p, size_t n)
{
	dsn_append(d, p, n);
	if (n > 0)
		d->column = p[n - 1] != '\n';
}

/* Copies of each line what a line may hold. */
static void dsn_append_cut(struct dsn *d, const char *p, size_t n)
{
	while (n > 0) {
		size_t run = 0;
		size_t room = DSN_LINE_MAX - d->column;
		while (run < n && p[run] != '\r' && p[run] != '\n')
			run++;
		dsn_append(d, p, run < room ? run : room);
		d->column += run < room ? run : room;
		if (run < n && p[run] == '\n') {
			dsn_append(d, "\r\n", 2);
			d->column = 0;
		}
		run += run < n;
		p += run;
		n -= run;
	}
}

/* How much of the original is copied. */
static uint64_t dsn_copy_end(const struct dsn *d)
{
	if (d->whole || !d->scan.done || d->scan.size > DSN_ORIGINAL_MAX)
		return DSN_ORIGINAL_MAX;
	return (uint64_t)d->scan.size;
}

static int dsn_copy(struct dsn *d, struct status *st)
{
	char chunk[DSN_CHUNK];
	uint64_t left = dsn_copy_end(d) - d->moved;
	/* Of a whole message the end is read, too: only there the spool tells that it is sound. */
	ssize_t n = d->whole || left > 0 ? spool_read(d->reader, chunk, sizeof chunk, st) : 0;
	if (n < 0)
		return -1;
	if (n == 0) {
		if (d->column > 0)
			dsn_append(d, "\r\n", 2);
		return 0;
	}
	size_t take = (uint64_t)n < left ? (size_t)n : (size_t)left;
	d->moved += take;
	if (d->whole)
		dsn_append_whole(d, chunk, take);
	else
		dsn_append_cut(d, chunk, take);
	return 1;
}

static int dsn_put_end(struct dsn *d, struct status *st)
{
	(void)st;
	dsn_put(d, "\r\n--%s--\r\n", d->random);
	return 0;
}

static int (*const dsn_phases[])(struct dsn *d, struct status *st) = {
    dsn_scan,          dsn_put_header,        dsn_put_greeting, dsn_put_address, dsn_put_advice,
    dsn_put_recipient, dsn_put_original_head, dsn_copy,         dsn_put_end,
};
#define DSN_PHASES (sizeof dsn_phases / sizeof *dsn_phases)

/* ---- the work ----------------------------------------------------------------------------- */

void dsn_cancel(struct dsn *d)
{
	if (!d)
		return;
	loop_timer_stop(&d->timer);
	if (d->reader)
		spool_read_close(d->reader);
	if (d->writer)
		spool_abort(d->writer);
	free(d);
}

static void dsn_finish(struct dsn *d, const struct status *what)
{
	void (*done)(void *, const struct status *) = d->done;
	void *arg = d->arg;
	struct status st = *what;
	dsn_cancel(d);
	done(arg, &st);
}

static void dsn_committed(void *arg, const char *id, const struct status *st)
{
	struct dsn *d = arg;
	d->writer = NULL;
	if (status_class(st) == STATUS_DONE) {
		stat_add(&stat_written, 1);
		log_info(d->env->id, "dsn", LOG_S("id", id), LOG_S("to", d->env->from));
	}
	dsn_finish(d, st);
}

static void dsn_step(void *arg)
{
	struct dsn *d = arg;
	struct status st = {0};
	if (!d->writer) {
		status_set(&st, 250, "2.0.0", "nobody to notify");
		dsn_finish(d, &st);
		return;
	}
	for (d->turn = 0; d->turn < DSN_STEP && d->phase < DSN_PHASES;) {
		int rc = dsn_phases[d->phase](d, &st);
		if (rc < 0) {
			if (status_class(&st) != STATUS_TRANSIENT || st.code == 0)
				status_set(&st, 451, "4.3.0", "the message cannot be read now");
			dsn_finish(d, &st);
			return;
		}
		if (rc == 0) {
			d->phase++;
			d->i = 0;
			d->moved = 0;
		}
	}
	if (d->phase < DSN_PHASES)
		loop_timer_set(&d->timer, 0);
	else
		spool_commit(d->writer, dsn_committed, d);
}

/* ---- start -------------------------------------------------------------------------------- */

/* The domain of an address, if it is ours. */
static bool dsn_our_domain(const struct dsn *d, const char *address, struct addr *a)
{
	return addr_parse(slice_of(address), a) == 0 && conf_domain_find(d->conf, a->domain);
}

/* Chooses the domain we write from: one the sender had to do with. */
static void dsn_choose_names(struct dsn *d)
{
	const struct envelope *env = d->env;
	struct addr a;
	bool ours = dsn_our_domain(d, env->from, &a);
	d->stranger = !ours;
	for (size_t i = 0; !ours && i < env->rcpt_count; i++)
		ours = dsn_our_domain(d, dsn_original(&env->rcpt[i]), &a);
	if (addr_domain_to_ascii(d->conf->hostname, d->host, sizeof d->host))
		memcpy(d->host, "localhost", sizeof "localhost");
	if (!ours || addr_domain_to_ascii(a.domain, d->domain, sizeof d->domain))
		memcpy(d->domain, d->host, sizeof d->domain);
}

static void dsn_choose_encoding(struct dsn *d)
{
	for (size_t i = 0; i < d->env->rcpt_count; i++) {
		const struct rcpt *r = &d->env->rcpt[i];
		if (!dsn_concerns(r))
			continue;
		d->utf8 |= !dsn_is_ascii(dsn_original(r)) || !dsn_is_ascii(dsn_final(r));
		d->text_8bit |= r->last && !dsn_is_ascii(r->last->text);
	}
}

static void dsn_make_random(struct dsn *d)
{
	unsigned char bytes[DSN_RANDOM] = {0};
	/* A machine that just came up may have none yet: then time and place must do. */
	if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != (ssize_t)sizeof bytes) {
		uint64_t seed = (uint64_t)loop_now_us() * 2654435761U ^ (uint64_t)(uintptr_t)d;
		memcpy(bytes, &seed, sizeof seed);
	}
	for (size_t i = 0; i < sizeof bytes; i++)
		snprintf(d->random + 2 * i, 3, "%02x", bytes[i]);
}

struct dsn_route {
	struct envelope *env;
	const char *original;
	struct status *st;
};

static int dsn_found(void *arg, enum alias_type type, const char *address, const char *via)
{
	struct dsn_route *route = arg;
	enum rcpt_type as = type == ALIAS_PIPE      ? RCPT_PIPE
	                    : type == ALIAS_FORWARD ? RCPT_FORWARD
	                                            : RCPT_EMAIL;
	if (envelope_add_rcpt(route->env, as, address, route->original, via) == 0)
		return 0;
	status_set(route->st, 451, "4.3.0", "out of memory");
	return -1;
}

/* Fills the envelope of the notification. 1; 0 when there is nobody to notify; -1 with a 4yz *st.
 */
static int dsn_route(const struct dsn *d, struct envelope *e, struct status *st)
{
	const char *from = d->env->from;
	struct dsn_route route = {e, from, st};
	struct addr a;
	status_set(st, 451, "4.3.0", "out of memory");
	if (envelope_set_from(e, "<>") || envelope_add_to(e, from))
		return -1;
	if (addr_parse(slice_of(from), &a)) {
		log_error(d->env->id, "dsn dropped: the sender is no address", LOG_S("to", from));
		return 0;
	}
	if (alias_resolve(d->conf, &a, dsn_found, &route, st)) {
		if (status_class(st) != STATUS_PERMANENT)
			return -1;
		log_error(d->env->id, "dsn dropped: no way to the sender", LOG_S("to", from),
		          LOG_S("reason", st->text));
		return 0;
	}
	if (e->rcpt_count == 0)
		log_error(d->env->id, "dsn dropped: the sender's alias is empty",
		          LOG_S("to", from));
	return e->rcpt_count > 0;
}

/* Opens what is needed. Returns 0, or -1 with *st. */
static int dsn_open(struct dsn *d, struct status *st)
{
	struct envelope e = {.from = NULL};
	int rc = dsn_route(d, &e, st);
	if (rc == 0)
		stat_add(&stat_dropped, 1);
	if (rc > 0)
		d->reader = spool_read_open(d->sp, d->env->id, st);
	if (d->reader)
		d->writer = spool_begin(d->sp, &e, st);
	envelope_clear(&e);
	return rc == 0 || d->writer ? 0 : -1;
}

struct dsn *dsn_start(const struct conf *conf, struct spool *sp, const struct envelope *env,
                      int64_t now, void (*done)(void *arg, const struct status *st), void *arg,
                      struct status *st)
{
	if (envelope_is_bounce(env)) {
		status_set(st, 554, "5.6.0", "a notification is not answered by another");
		return NULL;
	}
	struct dsn *d = calloc(1, sizeof *d);
	if (!d) {
		status_set(st, 451, "4.3.0", "out of memory");
		return NULL;
	}
	d->conf = conf;
	d->sp = sp;
	d->env = env;
	d->now = now;
	d->done = done;
	d->arg = arg;
	loop_timer_init(&d->timer, dsn_step, d);
	header_scan_init(&d->scan);
	if (dsn_open(d, st)) {
		dsn_cancel(d);
		return NULL;
	}
	dsn_make_random(d);
	dsn_choose_names(d);
	dsn_choose_encoding(d);
	loop_timer_set(&d->timer, 0);
	return d;
}
