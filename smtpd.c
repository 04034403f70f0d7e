/*
 * smtpd: the engine of an SMTP server session: events, input, replies, content, the end.
 *
 * A session is a function of bytes: it sees a stream and the spool, and makes no system call of its
 * own. Invariants:
 *  - Input is served by smtpd_drive alone. It stops when there is no complete command, when the
 *    client has not taken its replies (back-pressure), after a bounded number of commands, and
 *    while TLS, the disk, or a verdict on a password, sender, recipient or message is waited for;
 *    each of these is followed by an event that drives again.
 *  - Each complete command gets exactly one reply, also the end of content.
 *  - 250 for a message is given in the spool's callback only.
 *  - A bare CR or LF, in a command or in content, ends the session: two servers that disagree on
 *    where a line ends let a message be smuggled in (RFC 5321 2.3.8).
 *  - smtpd_enter alone changes the state and sets the time limit.
 *  - The session is freed in the last event of its stream, or in the commit's callback when the
 *    stream went before; in both as the last act.
 */
#define LOG_KIND LOG_SESSION

#include "smtpd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bytes.h"
#include "log.h"
#include "smtpd_auth.h"
#include "smtpd_hook.h"
#include "smtpd_int.h"
#include "smtpd_log.h"
#include "smtpd_rcpt.h"
#include "smtpd_spf.h"
#include "smtpd_tls.h"
#include "smtpreply.h"
#include "stat.h"

#if SMTPD_IN_MAX < SMTPD_LINE_MAX || SMTPD_OUT_MAX < SMTPD_OUT_MARK + SMTP_REPLY_TEXT + 512
#error "SMTPD_IN_MAX or SMTPD_OUT_MAX is too small"
#endif

STAT_GAUGE(stat_sessions, "smtpd/sessions", "SMTP server sessions open");
STAT_COUNTER(stat_connections, "smtpd/connections", "SMTP server sessions begun");
STAT_COUNTER(stat_messages, "smtpd/messages", "Messages accepted by SMTP");
STAT_COUNTER(stat_loops, "chasquid/smtpIn/loopsDetected",
             "Messages refused for too many Received fields");
STAT_COUNTER(stat_bare, "smtpd/bare_line_ends",
             "Sessions ended for a CR or LF alone (SMTP smuggling)");
STAT_HISTOGRAM(stat_seconds, "smtpd/session_seconds", "How long SMTP server sessions lasted, in s",
               SMTPD_SECONDS_BOUNDS);
STAT_HISTOGRAM(stat_bytes, "smtpd/message_bytes", "Sizes of the messages accepted, in bytes",
               SMTPD_BYTES_BOUNDS);

/* The replies we know of; a hook or another module may bring others. */
/* clang-format off */
#define SMTPD_CODES(X)                                                                          \
	X(214) X(220) X(221) X(235) X(250) X(252) X(334) X(354) X(421) X(450) X(451) X(452)     \
	X(454) X(500) X(501) X(502) X(503) X(504) X(521) X(530) X(535) X(538) X(550) X(551)     \
	X(552) X(553) X(554) X(555) X(556)
/* clang-format on */
#define SMTPD_CODE(code)       code,
#define SMTPD_CODE_LABEL(code) #code " "
static const short smtpd_codes[] = {SMTPD_CODES(SMTPD_CODE)};
#define SMTPD_CODE_COUNT (sizeof smtpd_codes / sizeof *smtpd_codes)
STAT_VECTOR(stat_replies, "chasquid/smtpIn/responseCodeCount", "code", "Replies of the SMTP server",
            SMTPD_CODE_COUNT + 1, SMTPD_CODES(SMTPD_CODE_LABEL) "other");

static void smtpd_drive(struct smtpd *s);
static void smtpd_finish(struct smtpd *s);

/* ---- replies -------------------------------------------------------------------------------- */

static void smtpd_count(int code)
{
	size_t i = 0;
	while (i < SMTPD_CODE_COUNT && smtpd_codes[i] != code)
		i++;
	stat_add_at(&stat_replies, i, 1);
}

void smtpd_say_text(struct smtpd *s, int code, const char *text)
{
	smtpd_count(code);
	smtp_reply_printf(&s->io.out, code, NULL, "%s", text);
}

void smtpd_say_status(struct smtpd *s, const struct status *st)
{
	struct status cut;
	if (st->code >= 500 && ++s->errors >= SMTPD_ERRORS_MAX) {
		smtpd_status(SMTPD_TOO_MANY_ERRORS, &cut);
		smtpd_log_refusal(s, SMTPD_TOO_MANY_ERRORS);
		s->why = "too many errors";
		st = &cut;
	}
	smtpd_log_reply(s, st);
	smtpd_count(st->code);
	/* RFC 6531 3.7.4.1: UTF-8 is for clients that have asked for it. */
	if (!s->utf8 && bytes_have_8bit(st->text, strlen(st->text))) {
		struct status shown = *st;
		header_text(slice_of(st->text), false, shown.text, sizeof shown.text);
		smtp_reply_status(&s->io.out, &shown);
	} else {
		smtp_reply_status(&s->io.out, st);
	}
}

void smtpd_say(struct smtpd *s, enum smtpd_reply reply)
{
	struct status st;
	smtpd_status(reply, &st);
	smtpd_log_refusal(s, reply);
	smtpd_say_status(s, &st);
}

void smtpd_reject(struct smtpd *s, const char *from, const char *to, const struct status *st)
{
	smtpd_log_rejected(s, from, to, st);
	smtpd_say_status(s, st);
}

/* ---- state ---------------------------------------------------------------------------------- */

/* Starts the time limit anew: for a command, or the next piece of content. */
static void smtpd_arm(struct smtpd *s)
{
	int64_t left = s->ends - loop_now();
	int64_t ms = SMTPD_COMMAND_MS;
	if (s->state >= SMTPD_END)
		return; /* io_finish has its own */
	if (s->state == SMTPD_DATA)
		ms = SMTPD_CONTENT_MS;
	else if (s->state == SMTPD_HANDSHAKE)
		ms = SMTPD_HANDSHAKE_MS;
	if (ms > left)
		ms = left > 0 ? left : 1;
	/* What we wait for ourselves has its own limit. */
	io_deadline(&s->io, s->state == SMTPD_COMMIT || s->state == SMTPD_CHECK ? 0 : ms);
}

void smtpd_enter(struct smtpd *s, enum smtpd_state state)
{
	static const char *const names[] = {"start",     "ready", "mail",   "rcpt", "sasl", "data",
	                                    "handshake", "check", "commit", "end",  "gone"};
	/* A trace has the commands, which say as much. */
	if (log_level_now >= LOG_LEVEL_DEBUG)
		log_debug(s->id, "smtpd state", LOG_S("old", names[s->state]),
		          LOG_S("new", names[state]));
	s->state = state;
	s->io.wide = state == SMTPD_DATA;
	smtpd_arm(s);
}

/* ---- the transaction ------------------------------------------------------------------------ */

int64_t smtpd_size_max(const struct smtpd *s)
{
	int64_t mb = s->setup->conf->max_data_size_mb;
	return mb < INT64_MAX / 1048576 ? mb * 1048576 : INT64_MAX;
}

int smtpd_txn_begin(struct smtpd *s, const char *from, int64_t size, struct status *st)
{
	struct smtpd_txn *t;
	if (queue_reserve(s->setup->queue, st))
		return -1;
	if (spool_has_room(s->setup->spool, (uint64_t)size, st))
		goto fail;
	smtpd_status(SMTPD_NO_MEMORY, st);
	t = calloc(1, sizeof *t);
	if (!t)
		goto fail;
	if (envelope_set_from(&t->env, from)) {
		free(t);
		goto fail;
	}
	t->env.submitted = s->login || s->peer.mode == SMTPD_LOCAL;
	t->env.size = (uint64_t)size;
	s->txn = t;
	return 0;
fail:
	queue_release(s->setup->queue);
	return -1;
}

void smtpd_txn_clear(struct smtpd *s)
{
	struct smtpd_txn *t = s->txn;
	s->utf8 = false;
	if (!t)
		return;
	s->txn = NULL;
	if (t->writer)
		spool_abort(t->writer);
	authres_filter_clear(&t->filter);
	smtpd_rcpt_clear(t);
	smtpd_post_clear(t);
	envelope_clear(&t->env);
	free(t);
	queue_release(s->setup->queue);
}

/* ---- content -------------------------------------------------------------------------------- */

/* The recipient for our Received field, where there is only one: others are nobody's business (RFC
 * 5321 7.2). In ASCII, or not at all: the header must not need SMTPUTF8 because of us. */
static const char *smtpd_only_rcpt(const struct envelope *env, char out[ADDR_TEXT_MAX])
{
	struct addr a;
	char ascii[ADDR_DOMAIN_MAX + 1];
	if (env->to_count == 1 && !bytes_have_8bit(env->to[0], strlen(env->to[0])))
		return env->to[0];
	if (env->to_count != 1 || addr_parse(slice_of(env->to[0]), &a) ||
	    addr_domain_to_ascii(a.domain, ascii, sizeof ascii))
		return NULL;
	memcpy(a.domain, ascii, strlen(ascii) + 1);
	return addr_is_ascii(&a) && addr_format(&a, out, ADDR_TEXT_MAX) == 0 ? out : NULL;
}

/* Minutes east of UTC, as it is here. Asked once a second: to ask costs as much as a command. */
static int smtpd_offset(time_t now)
{
	static time_t asked = -1;
	static int offset;
	struct tm tm;
	if (now != asked)
		offset = localtime_r(&now, &tm) ? (int)(tm.tm_gmtoff / 60) : 0;
	asked = now;
	return offset;
}

/* Our Received field. Where a user sits who logged in, and what the machine there is called, is
 * nobody's business either. */
static int smtpd_trace(struct smtpd *s, struct buf *out)
{
	const struct envelope *env = &s->txn->env;
	char to[ADDR_TEXT_MAX];
	bool local = s->peer.mode == SMTPD_LOCAL;
	char tls[SMTPD_TLS_TEXT];
	time_t now = (time_t)s->setup->now();
	struct header_trace trace = {
	    .helo = s->login ? NULL
	            : local  ? s->who
	                     : s->helo,
	    .ip = local || s->login ? NULL : s->who,
	    .by = s->setup->conf->hostname,
	    .with =
	        local ? "local" : header_protocol(s->esmtp, s->secured, s->login != NULL, s->utf8),
	    .tls = smtpd_tls_text(s, tls),
	    .id = env->id,
	    .for_addr = smtpd_only_rcpt(env, to),
	    .time = now,
	    .offset = smtpd_offset(now),
	};
	return header_received(out, &trace);
}

static void smtpd_content_put(void *session, const char *p, size_t n)
{
	struct smtpd *s = session;
	spool_append(s->txn->writer, p, n);
	smtpd_post_append(s, p, n);
}

int smtpd_content_begin(struct smtpd *s, struct status *st)
{
	struct smtpd_txn *t = s->txn;
	struct buf field;
	t->writer = spool_begin(s->setup->spool, &t->env, st);
	if (!t->writer)
		return -1;
	buf_init(&field, SMTPD_FIELDS_MAX);
	int rc = smtpd_post_begin(s, st);
	if (rc == 0 && (smtpd_spf_fields(s, &field) || smtpd_trace(s, &field)))
		rc = smtpd_fail(st, SMTPD_NO_MEMORY);
	if (rc) {
		smtpd_post_clear(t);
		spool_abort(t->writer);
		t->writer = NULL;
	} else {
		smtpd_content_put(s, buf_data(&field), field.len);
		smtp_body_in_init(&t->body);
		header_scan_init(&t->scan);
		t->scan.head_only = true;
		authres_filter_init(&t->filter, s->setup->conf->hostname, smtpd_content_put, s);
		t->size = 0;
	}
	buf_clear(&field);
	return rc;
}

static void smtpd_content_take(struct smtpd *s, const char *p, size_t n)
{
	struct smtpd_txn *t = s->txn;
	if (!t->scan.done)
		header_scan_feed(&t->scan, (struct slice){p, n});
	t->size += (int64_t)n;
	if (!t->writer)
		return;
	if (t->size > smtpd_size_max(s)) {
		/* The rest is read and not kept: the reply must wait for the end. */
		spool_abort(t->writer);
		t->writer = NULL;
		smtpd_post_clear(t);
	} else {
		authres_filter_feed(&t->filter, p, n);
	}
}

/* The transaction is over, with st as its reply. */
static void smtpd_txn_end(struct smtpd *s, const struct status *st)
{
	struct smtpd_txn *t = s->txn;
	if (status_class(st) == STATUS_DONE) {
		smtpd_log_queued(s);
		stat_add(&stat_messages, 1);
		stat_observe(&stat_bytes, t->size);
		s->idle = 0;
		smtpd_say_status(s, st);
	} else {
		smtpd_reject(s, t->env.from, NULL, st);
	}
	smtpd_txn_clear(s);
}

static void smtpd_end(struct smtpd *s)
{
	void (*ended)(void *) = s->ended;
	void *arg = s->arg;
	ended(arg);
	smtpd_free(s);
}

static void smtpd_committed(void *arg, const char *id, const struct status *st)
{
	struct smtpd *s = arg;
	struct status ok = *st;
	char text[SPOOL_ID_MAX + sizeof "queued as "];
	if (status_class(st) == STATUS_DONE) {
		*bytes_put(bytes_put(text, "queued as "), id) = '\0';
		status_set_text(&ok, 250, "2.0.0", text);
	}
	s->brought = loop_now();
	s->txn->writer = NULL;
	smtpd_txn_end(s, &ok);
	if (s->state == SMTPD_GONE) {
		smtpd_end(s);
		return;
	}
	smtpd_enter(s, SMTPD_READY);
	smtpd_resume(s);
}

/* What RFC 6409 8 lets us add to a submitted message; it stands before our Received field. */
static void smtpd_add_fields(struct smtpd *s, struct buf *out)
{
	struct smtpd_txn *t = s->txn;
	time_t now = (time_t)s->setup->now();
	char date[HEADER_DATE_MAX];
	if (t->scan.count[HEADER_DATE] == 0) {
		header_date(now, smtpd_offset(now), date);
		buf_printf(out, "Date: %s\r\n", date);
	}
	if (t->scan.count[HEADER_MESSAGE_ID] == 0)
		buf_printf(out, "Message-ID: <%.64s@%.255s>\r\n", t->env.id,
		           s->setup->conf->hostname);
}

enum smtpd_next smtpd_content_refuse(struct smtpd *s, const struct status *st)
{
	smtpd_txn_end(s, st);
	smtpd_enter(s, SMTPD_READY);
	return s->why ? SMTPD_CLOSE : SMTPD_NEXT;
}

enum smtpd_next smtpd_content_commit(struct smtpd *s, struct slice fields)
{
	struct smtpd_txn *t = s->txn;
	struct status st;
	struct buf front;
	bool eight = t->scan.header_8bit;
	for (size_t i = 0; i < fields.n && !eight; i++)
		eight = (unsigned char)fields.p[i] >= 0x80;
	buf_init(&front, SPOOL_PREPEND_MAX);
	buf_append(&front, fields.p, fields.n);
	if (s->login)
		smtpd_add_fields(s, &front);
	if (front.failed) {
		buf_clear(&front);
		smtpd_status(SMTPD_NO_MEMORY, &st);
		return smtpd_content_refuse(s, &st);
	}
	if (front.len > 0)
		spool_prepend(t->writer, buf_data(&front), front.len);
	buf_clear(&front);
	if (eight)
		spool_note_8bit_header(t->writer);
	smtpd_post_clear(t);
	smtpd_enter(s, SMTPD_COMMIT);
	spool_commit(t->writer, smtpd_committed, s);
	return SMTPD_WAIT;
}

/* Is the header as the client said it would be (RFC 6531 3.2, RFC 6532 3.2)? 0, or -1 with *st. */
static int smtpd_check_header(const struct smtpd *s, struct status *st)
{
	const struct header_scan *h = &s->txn->scan;
	if (s->utf8 && h->header_not_utf8)
		return smtpd_fail(st, SMTPD_HEADER_NOT_UTF8);
	if (SMTPD_STRICT_HEADER && !s->utf8 && h->header_8bit)
		return smtpd_fail(st, SMTPD_HEADER_8BIT);
	return 0;
}

static enum smtpd_next smtpd_content_end(struct smtpd *s)
{
	struct smtpd_txn *t = s->txn;
	struct status st;
	header_scan_end(&t->scan);
	if (!t->writer) {
		smtpd_status(SMTPD_TOO_BIG, &st);
	} else if (t->scan.count[HEADER_RECEIVED] > SMTPD_RECEIVED_MAX) {
		smtpd_status(SMTPD_LOOP, &st);
		stat_add(&stat_loops, 1);
	} else if (smtpd_check_header(s, &st) == 0) {
		authres_filter_end(&t->filter);
		return smtpd_post_run(s);
	}
	return smtpd_content_refuse(s, &st);
}

static enum smtpd_next smtpd_bare_line_end(struct smtpd *s)
{
	stat_add(&stat_bare, 1);
	smtpd_say(s, SMTPD_BARE);
	s->why = "bare CR or LF";
	return SMTPD_CLOSE;
}

/* Content that comes fast enough keeps the session as young as it is: whoever brings a large
 * message must not lose his place to those who come again and again. */
static void smtpd_brings(struct smtpd *s, size_t n)
{
	int64_t young = s->brought + (int64_t)n * 1000 / LISTEN_WORTH;
	s->brought = young < loop_now() ? young : loop_now();
}

static enum smtpd_next smtpd_content(struct smtpd *s)
{
	char *p = buf_data(&s->io.in);
	size_t used;
	size_t n;
	if (s->io.in.len == 0)
		return SMTPD_MORE;
	enum smtp_body_result r = smtp_body_decode(&s->txn->body, p, s->io.in.len, &used, &n);
	smtpd_content_take(s, p, n);
	buf_consume(&s->io.in, used);
	if (s->txn->writer)
		smtpd_brings(s, used);
	smtpd_arm(s);
	switch (r) {
	case SMTP_BODY_MORE:
		return SMTPD_MORE;
	case SMTP_BODY_END:
		return smtpd_content_end(s);
	default:
		return smtpd_bare_line_end(s);
	}
}

/* ---- command lines -------------------------------------------------------------------------- */

/* Is there a CR or LF alone in the first n bytes of a line? lf says that the last one is its LF. A
 * CR at the end of what is there may still get its LF. */
static bool smtpd_is_bare(const char *p, size_t n, bool lf)
{
	const char *cr = memchr(p, '\r', n);
	size_t expected = lf ? n - 2 : n - 1;
	if (!cr)
		return lf;
	return (size_t)(cr - p) != expected;
}

/* Serves one line, or says that there is none yet. */
static enum smtpd_next smtpd_line(struct smtpd *s)
{
	char *p = buf_data(&s->io.in);
	const char *lf = memchr(p, '\n', s->io.in.len);
	size_t n = lf ? (size_t)(lf - p) + 1 : s->io.in.len;
	enum smtpd_next next = SMTPD_NEXT;
	if (n == 0)
		return SMTPD_MORE;
	if (smtpd_is_bare(p, n, lf != NULL))
		return smtpd_bare_line_end(s);
	if (!lf) {
		if (n >= SMTPD_LINE_MAX || s->long_line) {
			/* The last byte stays: it may be the CR of the line's end. */
			s->long_line = true;
			buf_consume(&s->io.in, n - 1);
		}
		return SMTPD_MORE;
	}
	bool too_long = n > SMTPD_LINE_MAX || s->long_line;
	s->long_line = false;
	if (s->state == SMTPD_SASL && too_long)
		smtpd_sasl_too_long(s);
	else if (s->state == SMTPD_SASL)
		next = smtpd_sasl_line(s, (struct slice){p, n - 2});
	else if (too_long)
		smtpd_say(s, SMTPD_LINE_TOO_LONG);
	else
		next = smtpd_command(s, (struct slice){p, n - 2});
	if (s->secured)
		explicit_bzero(p, n); /* it may have been a password */
	buf_consume(&s->io.in, n);
	smtpd_arm(s);
	return s->why ? SMTPD_CLOSE : next;
}

/* ---- the drive and the end ------------------------------------------------------------------ */

/* Gives up what is under way and closes the stream once the replies are out. */
static void smtpd_finish(struct smtpd *s)
{
	smtpd_log_closed(s, s->why);
	smtpd_txn_clear(s);
	smtpd_enter(s, SMTPD_END);
	loop_timer_stop(&s->again);
	io_flush(&s->io);
	io_finish(&s->io);
}

static void smtpd_finish_saying(struct smtpd *s, enum smtpd_reply reply, const char *why)
{
	smtpd_say(s, reply);
	s->why = why;
	smtpd_finish(s);
}

/* Between commands, nothing begun, all replies taken? */
static bool smtpd_is_idle(const struct smtpd *s)
{
	return s->state <= SMTPD_READY && s->io.in.len == 0 && !s->long_line;
}

/* Serves what input there is, as far as it goes now, and sends the replies with one write. */
static void smtpd_drive(struct smtpd *s)
{
	enum smtpd_next next = SMTPD_NEXT;
	if (s->state >= SMTPD_HANDSHAKE)
		return;
	if (s->io.broken) {
		/* Who takes no replies may not go on, and would wait for ever for room for them. */
		s->why = "lost";
		smtpd_finish(s);
		return;
	}
	for (int n = 0; n < SMTPD_STEPS && io_unsent(&s->io) < SMTPD_OUT_MARK; n++) {
		next = s->state == SMTPD_DATA ? smtpd_content(s) : smtpd_line(s);
		if (next != SMTPD_NEXT)
			break;
	}
	if (s->io.out.failed) {
		s->why = "no memory for replies";
		next = SMTPD_CLOSE;
	} else if (next == SMTPD_MORE && s->io.eof) {
		s->why = s->state == SMTPD_DATA ? "lost in content" : "closed by peer";
		next = SMTPD_CLOSE;
	} else if (next == SMTPD_MORE && s->leaving && smtpd_is_idle(s)) {
		smtpd_say(s, SMTPD_LEAVING);
		s->why = "stopping";
		next = SMTPD_CLOSE;
	}
	if (next == SMTPD_CLOSE) {
		smtpd_finish(s);
		return;
	}
	io_flush(&s->io);
	if (s->state == SMTPD_HANDSHAKE && smtpd_tls_go(s)) {
		s->why = "TLS cannot begin";
		smtpd_finish(s);
		return;
	}
	/* Replies that wait bring IO_DRAINED; else nothing would come for the input that is left.
	 */
	if (next == SMTPD_NEXT && io_unsent(&s->io) < SMTPD_OUT_MARK)
		loop_timer_set(&s->again, 0);
}

static void smtpd_drive_again(void *arg)
{
	smtpd_drive(arg);
}

/* The stream is closed. A commit under way goes on: the message is whole, and it may be durable
 * already. So does a check of the sender, and keeps the client's place taken: the question to DNS
 * cannot be taken back, and who asks and goes, again and again, must not use them all up. */
static void smtpd_gone(struct smtpd *s)
{
	loop_timer_stop(&s->again);
	if (s->state == SMTPD_COMMIT)
		smtpd_enter(s, SMTPD_GONE);
	else if (s->state == SMTPD_CHECK && smtpd_spf_is_asking(s))
		s->lost = true;
	else
		smtpd_end(s);
}

/* Ends without a word: nothing can be said, or nobody listens. */
static void smtpd_abandon(struct smtpd *s, const char *why)
{
	smtpd_log_closed(s, why);
	io_close(&s->io);
	smtpd_gone(s);
}

static void smtpd_lost(struct smtpd *s)
{
	const char *why = smtpd_tls_why(s);
	smtpd_abandon(s, why ? why : strerror(s->io.error));
}

static void smtpd_timed_out(struct smtpd *s)
{
	if (s->state == SMTPD_HANDSHAKE)
		smtpd_abandon(s, "TLS handshake takes too long");
	else if (s->ends <= loop_now())
		smtpd_finish_saying(s, SMTPD_TOO_LONG, "session time");
	else
		smtpd_finish_saying(s, SMTPD_IDLE, "idle");
}

void smtpd_resume(struct smtpd *s)
{
	if (s->lost)
		smtpd_end(s);
	else if (s->why)
		smtpd_finish(s);
	else
		smtpd_drive(s);
}

static void smtpd_welcome(struct smtpd *s)
{
	char greeting[300];
	smtpd_enter(s, SMTPD_START);
	snprintf(greeting, sizeof greeting, "%.255s ESMTP", s->setup->conf->hostname);
	/* Not counted, as it answers no command. */
	smtp_reply_printf(&s->io.out, 220, NULL, "%s", greeting);
	io_flush(&s->io);
}

static void smtpd_secured(struct smtpd *s)
{
	smtpd_tls_done(s);
	if (s->peer.tls)
		smtpd_welcome(s);
	else
		smtpd_enter(s, SMTPD_START);
	smtpd_drive(s);
}

static void smtpd_event(void *arg, enum io_event ev)
{
	struct smtpd *s = arg;
	switch (ev) {
	case IO_TIMEOUT:
		smtpd_timed_out(s);
		break;
	case IO_ERROR:
		smtpd_lost(s);
		break;
	case IO_CLOSED:
		smtpd_gone(s);
		break;
	case IO_SECURED:
		smtpd_secured(s);
		break;
	case IO_DRAINED:
		/* Mostly the client now reads the reply that it waits for. */
		if (s->io.in.len > 0 || s->io.eof || s->io.broken || s->io.out.failed || s->leaving)
			smtpd_drive(s);
		break;
	default:
		smtpd_drive(s);
	}
}

/* ---- the life of a session ------------------------------------------------------------------ */

/* Short, and unlikely to come again soon after a restart. */
static void smtpd_name(struct smtpd *s)
{
	static uint32_t last;
	if (last == 0)
		last = (uint32_t)s->setup->now() << 4;
	snprintf(s->id, sizeof s->id, "%08lx", (unsigned long)++last);
}

struct smtpd *smtpd_new(const struct smtpd_setup *setup, const struct smtpd_peer *peer,
                        void (*ended)(void *arg), void *arg)
{
	struct smtpd *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->setup = setup;
	s->peer = *peer;
	s->ended = ended;
	s->arg = arg;
	s->state = SMTPD_START;
	if (peer->mode == SMTPD_LOCAL)
		status_clean(slice_of(peer->user), s->who, sizeof s->who);
	else
		dns_addr_text(&peer->addr, s->who);
	smtpd_name(s);
	io_init(&s->io, SMTPD_IN_MAX, SMTPD_OUT_MAX, smtpd_event, s);
	loop_timer_init(&s->again, smtpd_drive_again, s);
	stat_add(&stat_sessions, 1);
	return s;
}

struct io *smtpd_io(struct smtpd *s)
{
	return &s->io;
}

void smtpd_start(struct smtpd *s)
{
	stat_add(&stat_connections, 1);
	smtpd_log_connect(s);
	s->ends = loop_now() + SMTPD_SESSION_MS;
	s->brought = loop_now();
	if (!s->peer.tls) {
		smtpd_welcome(s);
	} else if (smtpd_tls_begin(s) || smtpd_tls_go(s)) {
		s->why = "TLS cannot begin";
		smtpd_finish(s);
	}
}

void smtpd_ask_to_leave(struct smtpd *s)
{
	s->leaving = true;
	if (smtpd_is_idle(s))
		smtpd_finish_saying(s, SMTPD_LEAVING, "stopping");
}

int64_t smtpd_fruitless_ms(const struct smtpd *s)
{
	if (s->state > SMTPD_HANDSHAKE || s->peer.mode == SMTPD_LOCAL || s->peer.trusted ||
	    s->login)
		return -1;
	return loop_now() - s->brought;
}

void smtpd_turn_out(struct smtpd *s)
{
	if (s->state != SMTPD_HANDSHAKE)
		smtpd_say(s, SMTPD_CROWDED);
	s->why = "its place is needed";
	smtpd_finish(s);
	smtpd_free(s);
}

bool smtpd_is_ending(const struct smtpd *s)
{
	return s->state >= SMTPD_END;
}

void smtpd_free(struct smtpd *s)
{
	loop_timer_stop(&s->again);
	io_close(&s->io);
	smtpd_txn_clear(s);
	smtpd_sasl_clear(s);
	smtpd_spf_clear(s);
	smtpd_owner_clear(s);
	tls_free(s->tls);
	free(s->login);
	free(s->helo);
	if (s->ends) /* it was started */
		stat_observe(&stat_seconds, (loop_now() - (s->ends - SMTPD_SESSION_MS)) / 1000);
	free(s);
	stat_add(&stat_sessions, -1);
}
