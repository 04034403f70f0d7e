/*
 * dsn: delivery status notifications: multipart/report (RFC 6522) with a text for people, the
 * delivery-status for programs (RFC 3464), and the original message or its header.
 *
 * An addressee who can only be told by a server with SMTPUTF8 gets the types of RFC 6533, in UTF-8.
 * Everybody else gets a notification that needs no such server, whatever the addresses and the
 * original are: its header is ASCII, and so are its parts, but for an 8-bit message/rfc822, which
 * may not be encoded (RFC 2046 5.2.1). For the forms of addresses see dsn_int.h.
 *
 * A notification is made by a list of phases, each called again until it says that it is through,
 * DSN_STEP bytes a turn. Every value that comes from outside passes dsn_text(): one line, bounded,
 * so no reply of a server can add a field or a part; the boundary is random, so no message can end
 * its part early. No line is longer than 998 bytes (RFC 5322 2.1.1).
 */
#define LOG_KIND LOG_QUEUE

#include "dsn.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "addr.h"
#include "config.h"
#include "courier.h"
#include "dsn_int.h"
#include "header.h"
#include "log.h"
#include "loop.h"
#include "resolve.h"
#include "stat.h"

#define DSN_CHUNK     4096
#define DSN_PIECE     256 /* encoded at a time */
#define DSN_RANDOM    16
#define DSN_PUT_MAX   2048 /* what one dsn_put makes; its values are bounded to fit */
#define DSN_VALUE_MAX ADDR_TEXT_MAX

STAT_COUNTER(stat_written, "chasquid/queue/dsnQueued", "Delivery status notifications queued");
STAT_COUNTER(stat_dropped, "dsn/dropped",
             "Notifications not written: there is no way to the sender");

struct dsn {
	const struct conf *conf;
	struct spool *sp;
	const struct envelope *env;
	int64_t now;
	void (*done)(void *arg, const struct status *st);
	void *arg;
	struct resolve *resolve; /* where the sender leads to; asked first */
	struct spool_reader *reader;
	struct spool_writer *writer; /* NULL: there is nobody to notify */
	size_t phase;
	size_t i;         /* the recipient that is next in this phase */
	uint64_t moved;   /* bytes of the original seen in this phase */
	size_t turn;      /* bytes done in this turn */
	size_t column;    /* of the line being copied */
	bool encoded;     /* the part under way is in quoted-printable */
	bool whole;       /* the original fits */
	bool lost;        /* the original is damaged: it does not go back */
	bool stranger;    /* the sender is in none of our domains */
	bool global;      /* for an addressee with SMTPUTF8 (RFC 6533) */
	bool text_8bit;   /* the text for people is beyond ASCII */
	bool status_8bit; /* what it or the delivery-status is made of is */
	struct loop_timer timer;
	struct dsn_qp qp;
	char random[2 * DSN_RANDOM + 1];
	struct header_scan scan;
	char domain[ADDR_DOMAIN_MAX + 1]; /* ours, for our own address; ASCII */
	char host[ADDR_DOMAIN_MAX + 1];
};

/* ---- recipients --------------------------------------------------------------------------- */

static bool dsn_concerns(const struct rcpt *r)
{
	return r->state != RCPT_SENT;
}

/* The command line of a pipe is not for others. */
static bool dsn_has_address(const struct rcpt *r)
{
	return r->type != RCPT_PIPE && r->address && *r->address;
}

/* The address as the sender knows it. */
static const char *dsn_original(const struct rcpt *r)
{
	if (r->original && *r->original)
		return r->original;
	return dsn_has_address(r) ? r->address : "unknown";
}

static const char *dsn_final(const struct rcpt *r)
{
	return dsn_has_address(r) ? r->address : dsn_original(r);
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

/* ---- output ------------------------------------------------------------------------------- */

static void dsn_append_raw(struct dsn *d, const char *p, size_t n)
{
	spool_append(d->writer, p, n);
	d->turn += n;
}

static void dsn_append(struct dsn *d, const char *p, size_t n)
{
	char out[DSN_QP_MAX(DSN_PIECE)];
	if (!d->encoded) {
		dsn_append_raw(d, p, n);
		return;
	}
	for (size_t at = 0; at < n; at += DSN_PIECE) {
		size_t piece = n - at < DSN_PIECE ? n - at : DSN_PIECE;
		dsn_append_raw(d, out, dsn_qp_encode(&d->qp, p + at, piece, out));
	}
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
	struct dsn_value name;
	size_t n = strcspn(r->remote, " ");
	header_text((struct slice){r->remote, n}, true, name.s, sizeof name.s);
	if (dsn_is_ascii(name.s) || addr_domain_to_ascii(name.s, out->s, sizeof out->s))
		header_text(slice_of(name.s), false, out->s, sizeof out->s);
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

enum dsn_encoding { DSN_7BIT, DSN_8BIT, DSN_QP };

/* How a part goes. Of the types that may be encoded. */
static enum dsn_encoding dsn_encoding(const struct dsn *d, bool is_8bit)
{
	if (!is_8bit)
		return DSN_7BIT;
	return d->global ? DSN_8BIT : DSN_QP;
}

/* The head of a part of the report. Each part ends with a line end. */
static void dsn_put_part(struct dsn *d, const char *type, const char *description,
                         enum dsn_encoding encoding)
{
	static const char *const names[] = {"7bit", "8bit", "quoted-printable"};
	d->encoded = false;
	dsn_put(d,
	        "\r\n--%s\r\n"
	        "Content-Type: %s\r\n"
	        "Content-Description: %s\r\n"
	        "Content-Transfer-Encoding: %s\r\n"
	        "\r\n",
	        d->random, type, description, names[encoding]);
	d->encoded = encoding == DSN_QP;
}

/* ---- phases: each returns 1 to be called again, 0 when through, -1 with *st --------------- */

/* Reads the original for its Message-ID, and to know whether it can be attached. Of one that turns
 * out to be damaged nothing is believed. */
static int dsn_scan(struct dsn *d, struct status *st)
{
	char chunk[DSN_CHUNK];
	ssize_t n = d->lost ? -1 : spool_read(d->reader, chunk, sizeof chunk, st);
	if (n < 0) {
		d->lost = d->lost || status_class(st) == STATUS_PERMANENT;
		header_scan_init(&d->scan);
		return d->lost ? 0 : -1;
	}
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

/* How the original, or its header, goes back. */
struct dsn_original {
	const char *type;
	const char *description;
	enum dsn_encoding encoding;
};

static void dsn_original_form(const struct dsn *d, struct dsn_original *o)
{
	const struct header_scan *scan = &d->scan;
	bool is_8bit = scan->header_8bit || (d->whole && scan->body_8bit);
	bool utf8 = scan->header_8bit && !scan->header_not_utf8;
	o->encoding = dsn_encoding(d, is_8bit);
	if (d->whole) {
		o->type = utf8 ? "message/global" : "message/rfc822";
		o->description = "Undelivered message";
		if (is_8bit && !utf8)
			o->encoding = DSN_8BIT;
	} else {
		o->type = utf8 ? "message/global-headers" : "text/rfc822-headers";
		o->description = "Header of the undelivered message";
	}
}

static bool dsn_is_8bit(const struct dsn *d)
{
	struct dsn_original o;
	dsn_original_form(d, &o);
	return o.encoding == DSN_8BIT || (d->global && (d->text_8bit || d->status_8bit));
}

/* Only a Message-ID that looks like one may go into a header of ours. */
static bool dsn_has_message_id(const struct dsn *d)
{
	const char *id = d->scan.message_id;
	size_t n = strlen(id);
	return n > 2 && id[0] == '<' && id[n - 1] == '>' && !strpbrk(id, " ,") &&
	       (d->global || dsn_is_ascii(id));
}

/* RFC 6522 3: report-type is the subtype of the second part. */
static const char *dsn_status_type(const struct dsn *d)
{
	return d->global ? "global-delivery-status" : "delivery-status";
}

static int dsn_put_header(struct dsn *d, struct status *st)
{
	char date[HEADER_DATE_MAX];
	char to[DSN_TO_MAX];
	(void)st;
	if (d->global)
		spool_note_8bit_header(d->writer);
	dsn_to(d->env->from, d->global, to);
	dsn_put(d, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n", d->domain);
	dsn_put(d, "To: %s\r\n", to);
	dsn_put(d,
	        "Subject: Your mail could not be delivered\r\n"
	        "Date: %s\r\n"
	        "Message-ID: <dsn.%s@%s>\r\n",
	        dsn_date(d->now, date), d->random, d->domain);
	if (dsn_has_message_id(d))
		dsn_put(d, "In-Reply-To: %s\r\nReferences: %s\r\n", d->scan.message_id,
		        d->scan.message_id);
	dsn_put(d,
	        "Auto-Submitted: auto-replied\r\n"
	        "MIME-Version: 1.0\r\n"
	        "Content-Type: multipart/report; report-type=%s;\r\n"
	        "\tboundary=\"%s\"\r\n"
	        "Content-Transfer-Encoding: %s\r\n",
	        dsn_status_type(d), d->random, dsn_is_8bit(d) ? "8bit" : "7bit");
	return 0;
}

static int dsn_put_greeting(struct dsn *d, struct status *st)
{
	char date[HEADER_DATE_MAX];
	(void)st;
	dsn_put_part(d, "text/plain; charset=utf-8", "What happened",
	             dsn_encoding(d, d->text_8bit));
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
	char type[40];
	(void)st;
	dsn_put(d, "Recipients that are not named here are not affected.\r\n"
	           "\r\n");
	if (d->lost)
		dsn_put(d, "The copy of your message on this server is damaged. It cannot be "
		           "delivered, nor\r\n"
		           "be attached here: please send it again. This notice was written by a "
		           "program.\r\n");
	else
		dsn_put(
		    d,
		    "Please check the spelling of the address. If it is right, the reason above\r\n"
		    "may help whoever looks after mail at the other side. %s\r\n"
		    "is attached. This notice was written by a program.\r\n",
		    d->whole ? "Your message" : "The header of your message");
	snprintf(type, sizeof type, "message/%s", dsn_status_type(d));
	dsn_put_part(d, type, "Delivery report", d->global && d->status_8bit ? DSN_8BIT : DSN_7BIT);
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
	header_text(slice_of(text), d->global, line, sizeof line);
	if (dsn_has_remote(r))
		dsn_put(d, "Remote-MTA: dns; %s\r\n", dsn_remote_host(r, &host));
	dsn_put(d, "Diagnostic-Code: %s; %s\r\n", dsn_has_remote(r) ? "smtp" : "x-unix", line);
}

/* The fields of a recipient (RFC 3464 2.3). */
static int dsn_put_recipient(struct dsn *d, struct status *st)
{
	char date[HEADER_DATE_MAX];
	char typed[DSN_TYPED_MAX];
	(void)st;
	if (d->i == d->env->rcpt_count)
		return 0;
	const struct rcpt *r = &d->env->rcpt[d->i++];
	if (!dsn_concerns(r))
		return 1;
	dsn_typed(dsn_original(r), d->global, typed);
	dsn_put(d, "\r\nOriginal-Recipient: %s\r\n", typed);
	dsn_typed(dsn_final(r), d->global, typed);
	dsn_put(d, "Final-Recipient: %s\r\n", typed);
	dsn_put(d, "Action: failed\r\n");
	dsn_put_status(d, r);
	dsn_put_diagnostic(d, r);
	if (d->env->last_attempt > 0)
		dsn_put(d, "Last-Attempt-Date: %s\r\n", dsn_date(d->env->last_attempt, date));
	return 1;
}

static int dsn_put_original_head(struct dsn *d, struct status *st)
{
	struct dsn_original o;
	(void)st;
	if (d->lost)
		return 0;
	dsn_original_form(d, &o);
	dsn_put_part(d, o.type, o.description, o.encoding);
	return 0;
}

/* Copies as it is. */
static void dsn_append_whole(struct dsn *d, const char *p, size_t n)
{
	dsn_append(d, p, n);
	if (n > 0)
		d->column = p[n - 1] != '\n';
}

/* How much of a run of bytes a line may still hold. What is beyond is cut at a character. */
static size_t dsn_cut(struct dsn *d, const char *p, size_t n)
{
	size_t i = 0;
	for (; i < n && d->column < DSN_LINE_MAX; i++, d->column++)
		if (d->column >= DSN_LINE_MAX - 3 && ((unsigned char)p[i] & 0xc0) != 0x80)
			break;
	if (i < n)
		d->column = DSN_LINE_MAX;
	return i;
}

/* Copies of each line what a line may hold. */
static void dsn_append_cut(struct dsn *d, const char *p, size_t n)
{
	while (n > 0) {
		size_t run = 0;
		while (run < n && p[run] != '\r' && p[run] != '\n')
			run++;
		dsn_append(d, p, dsn_cut(d, p, run));
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
	if (d->lost)
		return 0;
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
	d->encoded = false;
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
	resolve_cancel(d->resolve);
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

/* Whatever the reason: the original must stay. */
static void dsn_fail(struct dsn *d, struct status *st)
{
	if (status_class(st) != STATUS_TRANSIENT || st->code == 0)
		status_set(st, 451, "4.3.0", "the message cannot be read now");
	dsn_finish(d, st);
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
			dsn_fail(d, &st);
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
		d->text_8bit |=
		    !dsn_is_ascii(dsn_original(r)) || (r->last && !dsn_is_ascii(r->last->text));
		d->status_8bit |= d->text_8bit || !dsn_is_ascii(dsn_final(r));
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

/* Fills the envelope of the notification. Returns 0, or -1 with *st. */
static int dsn_route(const struct dsn *d, const struct resolve_found *found, size_t count,
                     struct envelope *e, struct status *st)
{
	static const enum rcpt_type types[] = {
	    [ALIAS_EMAIL] = RCPT_EMAIL, [ALIAS_PIPE] = RCPT_PIPE, [ALIAS_FORWARD] = RCPT_FORWARD};
	const char *from = d->env->from;
	bool failed = envelope_set_from(e, "<>") || envelope_add_to(e, from);
	for (size_t i = 0; !failed && i < count; i++)
		failed = envelope_add_rcpt(e, types[found[i].type], found[i].address, from,
		                           found[i].via) != 0;
	if (!failed)
		return 0;
	status_set(st, 451, "4.3.0", "out of memory");
	return -1;
}

/* Can an address be told to a server without SMTPUTF8? */
static bool dsn_is_for_all(const char *address)
{
	char ascii[ADDR_TEXT_MAX];
	return dsn_is_ascii(address) || dsn_address_ascii(address, ascii, sizeof ascii) == 0;
}

/*
 * Is the notification for servers with SMTPUTF8 alone? Not when an alias leads from a sender who
 * needs it to one who does not: what the others can read, those with SMTPUTF8 read, too.
 */
static bool dsn_is_global(const struct dsn *d, const struct envelope *e)
{
	if (dsn_is_for_all(d->env->from))
		return false;
	for (size_t i = 0; i < e->rcpt_count; i++)
		if (e->rcpt[i].type != RCPT_PIPE && dsn_is_for_all(e->rcpt[i].address))
			return false;
	return true;
}

/* Opens what is needed. Returns 0, or -1 with *st. */
static int dsn_open(struct dsn *d, const struct resolve_found *found, size_t count,
                    struct status *st)
{
	struct envelope e = {.from = NULL};
	if (dsn_route(d, found, count, &e, st) == 0)
		d->reader = spool_read_open(d->sp, d->env->id, st);
	d->lost = !d->reader && status_class(st) == STATUS_PERMANENT;
	d->global = dsn_is_global(d, &e);
	if (d->reader || d->lost)
		d->writer = spool_begin(d->sp, &e, st);
	envelope_clear(&e);
	return d->writer ? 0 : -1;
}

/* Ends, well, without a writer: there is nobody to notify. */
static void dsn_drop(struct dsn *d, const char *why)
{
	log_error(d->env->id, "dsn dropped: no way to the sender", LOG_S("to", d->env->from),
	          LOG_S("reason", why));
	stat_add(&stat_dropped, 1);
	loop_timer_set(&d->timer, 0);
}

static void dsn_resolved(void *arg, const struct status *st, const struct resolve_found *found,
                         size_t count)
{
	struct dsn *d = arg;
	struct status why = *st;
	d->resolve = NULL;
	if (status_class(st) == STATUS_PERMANENT)
		dsn_drop(d, st->text);
	else if (status_class(st) != STATUS_DONE || dsn_open(d, found, count, &why))
		dsn_fail(d, &why);
	else
		loop_timer_set(&d->timer, 0);
}

/* Asks where the sender leads to. Returns 0, or -1 without memory. */
static int dsn_resolve(struct dsn *d)
{
	struct addr a;
	if (addr_parse(slice_of(d->env->from), &a)) {
		dsn_drop(d, "the sender is no address");
		return 0;
	}
	d->resolve = resolve_start(d->conf, d->env->id, &a, dsn_resolved, d);
	return d->resolve ? 0 : -1;
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
	dsn_make_random(d);
	dsn_choose_names(d);
	dsn_choose_encoding(d);
	if (dsn_resolve(d)) {
		status_set(st, 451, "4.3.0", "out of memory");
		dsn_cancel(d);
		return NULL;
	}
	return d;
}
