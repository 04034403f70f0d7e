/*
 * smtpd: the engine of an SMTP server session: events, input, replies, content, the end.
 *
 * A session is a function of bytes: it sees a stream and the spool, and makes no system call of its
 * own. Invariants:
 *  - Input is served by smtpd_drive alone. It stops when there is no complete command, when the
 *    client has not taken its replies (back-pressure), after a bounded number of commands, and
 *    while TLS, a check of a password or sender or the disk is waited for; each of these is
 *    followed by an event that drives again.
 *  - Each complete command gets exactly one reply, also the end of content.
 *  - 250 for a message is given in the spool's callback only.
 *  - A bare CR or LF, in a command or in content, ends the session: two servers that disagree on
 *    where a line ends let a message be smuggled in (RFC 5321 2.3.8).
 *  - smtpd_enter alone changes the state and sets the time limit.
 *  - The session is freed in the last event of its stream, or in the commit's callback when the
 *    stream went before; in both as the last act.
 */
#include "smtpd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "smtpd_auth.h"
#include "smtpd_int.h"
#include "smtpd_spf.h"
#include "smtpd_tls.h"
#include "smtpreply.h"
#include "stat.h"

#if SMTPD_IN_MAX < SMTPD_LINE_MAX || SMTPD_OUT_MAX < SMTPD_OUT_MARK + SMTP_REPLY_TEXT + 512
#error "SMTPD_IN_MAX or SMTPD_OUT_MAX is too small"
#endif

STAT_COUNTER(stat_sessions, "smtpd/sessions");
STAT_COUNTER(stat_connections, "smtpd/connections");
STAT_COUNTER(stat_messages, "smtpd/messages");
STAT_COUNTER(stat_loops, "smtpd/loops");
STAT_COUNTER(stat_bare, "smtpd/bareLineEnds");
static struct stat_counter stat_replies[] = {
    {.name = "smtpd/replies{2xx}"},
    {.name = "smtpd/replies{3xx}"},
    {.name = "smtpd/replies{4xx}"},
    {.name = "smtpd/replies{5xx}"},
};

static void smtpd_drive(struct smtpd *s);
static void smtpd_finish(struct smtpd *s);

/* ---- replies -------------------------------------------------------------------------------- */

static void smtpd_count(int code)
{
	if (code >= 200 && code < 600)
		stat_add(&stat_replies[code / 100 - 2], 1);
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
		s->why = "too many errors";
		st = &cut;
	}
	smtpd_count(st->code);
	smtp_reply_status(&s->io.out, st);
}

void smtpd_say(struct smtpd *s, enum smtpd_reply reply)
{
	struct status st;
	smtpd_status(reply, &st);
	smtpd_say_status(s, &st);
}

void smtpd_reject(struct smtpd *s, const char *from, const char *to, const struct status *st)
{
	char text[STATUS_PRINT_MAX];
	const char *reason = text;
	status_print(st, text, sizeof text);
	log_info(s->id, "smtpd rejected", LOG_S("from", from), LOG_S("to", to),
	         LOG_S("peer", s->who), LOG_S("reason", reason));
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
	log_debug(s->id, "smtpd state", LOG_S("old", names[s->state]), LOG_S("new", names[state]));
	s->state = state;
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
	s->txn = t;
	return 0;
fail:
	queue_release(s->setup->queue);
	return -1;
}

void smtpd_txn_clear(struct smtpd *s)
{
	struct smtpd_txn *t = s->txn;
	if (!t)
		return;
	s->txn = NULL;
	if (t->writer)
		spool_abort(t->writer);
	authres_filter_clear(&t->filter);
	envelope_clear(&t->env);
	free(t);
	queue_release(s->setup->queue);
}

/* ---- content -------------------------------------------------------------------------------- */

/* Our Received field. It names the recipient only when there is one: others are nobody's business
 * (RFC 5321 7.2). Where a user sits who logged in, and what the machine there is called, is
 * nobody's business either. */
static int smtpd_trace(struct smtpd *s, struct buf *out)
{
	const struct envelope *env = &s->txn->env;
	bool local = s->peer.mode == SMTPD_LOCAL;
	char tls[SMTPD_TLS_TEXT];
	time_t now = (time_t)s->setup->now();
	struct tm tm;
	struct header_trace trace = {
	    .helo = s->login ? NULL
	            : local  ? s->who
	                     : s->helo,
	    .ip = local || s->login ? NULL : s->who,
	    .by = s->setup->conf->hostname,
	    .with =
	        local ? "local" : header_protocol(s->esmtp, s->secured, s->login != NULL, false),
	    .tls = smtpd_tls_text(s, tls),
	    .id = env->id,
	    .for_addr = env->to_count == 1 ? env->to[0] : NULL,
	    .time = now,
	    .offset = localtime_r(&now, &tm) ? (int)(tm.tm_gmtoff / 60) : 0,
	};
	return header_received(out, &trace);
}

static void smtpd_content_put(void *writer, const char *p, size_t n)
{
	spool_append(writer, p, n);
}

int smtpd_content_begin(struct smtpd *s, struct status *st)
{
	struct smtpd_txn *t = s->txn;
	struct buf field;
	t->writer = spool_begin(s->setup->spool, &t->env, st);
	if (!t->writer)
		return -1;
	buf_init(&field, SMTPD_FIELDS_MAX);
	int rc = smtpd_spf_fields(s, &field) || smtpd_trace(s, &field) ? -1 : 0;
	if (rc) {
		spool_abort(t->writer);
		t->writer = NULL;
		smtpd_status(SMTPD_NO_MEMORY, st);
	} else {
		spool_append(t->writer, buf_data(&field), field.len);
		smtp_body_in_init(&t->body);
		header_scan_init(&t->scan);
		authres_filter_init(&t->filter, s->setup->conf->hostname, smtpd_content_put,
		                    t->writer);
		t->size = 0;
	}
	buf_clear(&field);
	return rc;
}

static void smtpd_content_take(struct smtpd *s, const char *p, size_t n)
{
	struct smtpd_txn *t = s->txn;
	header_scan_feed(&t->scan, (struct slice){p, n});
	t->size += (int64_t)n;
	if (!t->writer)
		return;
	if (t->size > smtpd_size_max(s)) {
		/* The rest is read and not kept: the reply must wait for the end. */
		spool_abort(t->writer);
		t->writer = NULL;
	} else {
		authres_filter_feed(&t->filter, p, n);
	}
}

/* The transaction is over, with st as its reply. */
static void smtpd_txn_end(struct smtpd *s, const struct status *st)
{
	struct smtpd_txn *t = s->txn;
	const char *to = t->env.to_count > 0 ? t->env.to[0] : NULL;
	if (status_class(st) == STATUS_DONE) {
		log_info(s->id, "smtpd queued", LOG_S("id", t->env.id), LOG_S("from", t->env.from),
		         LOG_S("to", to), LOG_N("rcpts", t->env.to_count), LOG_N("size", t->size),
		         LOG_N("forged", t->filter.removed), LOG_S("peer", s->who),
		         LOG_S("login", s->login ? s->login->text : NULL));
		stat_add(&stat_messages, 1);
		s->idle = 0;
		smtpd_say_status(s, st);
	} else {
		smtpd_reject(s, t->env.from, to, st);
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
	if (status_class(st) == STATUS_DONE)
		status_set(&ok, 250, "2.0.0", "queued as %s", id);
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
static void smtpd_add_fields(struct smtpd *s)
{
	struct smtpd_txn *t = s->txn;
	time_t now = (time_t)s->setup->now();
	struct tm tm;
	char date[HEADER_DATE_MAX];
	char fields[512];
	int n = 0;
	if (t->scan.count[HEADER_DATE] == 0) {
		header_date(now, localtime_r(&now, &tm) ? (int)(tm.tm_gmtoff / 60) : 0, date);
		n = snprintf(fields, sizeof fields, "Date: %s\r\n", date);
	}
	if (t->scan.count[HEADER_MESSAGE_ID] == 0)
		n +=
		    snprintf(fields + n, sizeof fields - (size_t)n,
		             "Message-ID: <%.64s@%.255s>\r\n", t->env.id, s->setup->conf->hostname);
	if (n > 0)
		spool_prepend(t->writer, fields, (size_t)n);
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
	} else {
		authres_filter_end(&t->filter);
		if (s->login)
			smtpd_add_fields(s);
		smtpd_enter(s, SMTPD_COMMIT);
		spool_commit(t->writer, smtpd_committed, s);
		return SMTPD_WAIT;
	}
	smtpd_txn_end(s, &st);
	smtpd_enter(s, SMTPD_READY);
	return s->why ? SMTPD_CLOSE : SMTPD_NEXT;
}

static enum smtpd_next smtpd_bare_line_end(struct smtpd *s)
{
	stat_add(&stat_bare, 1);
	smtpd_say(s, SMTPD_BARE);
	s->why = "bare CR or LF";
	return SMTPD_CLOSE;
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
	log_info(s->id, "smtpd closed", LOG_S("why", s->why), LOG_S("peer", s->who));
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
	io_update(&s->io);
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
 * already. */
static void smtpd_gone(struct smtpd *s)
{
	loop_timer_stop(&s->again);
	if (s->state == SMTPD_COMMIT)
		smtpd_enter(s, SMTPD_GONE);
	else
		smtpd_end(s);
}

/* Ends without a word: nothing can be said, or nobody listens. */
static void smtpd_abandon(struct smtpd *s, const char *why)
{
	log_info(s->id, "smtpd closed", LOG_S("why", why), LOG_S("peer", s->who));
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
	if (s->why)
		smtpd_finish(s);
	else
		smtpd_drive(s);
}

static void smtpd_welcome(struct smtpd *s)
{
	char greeting[300];
	smtpd_enter(s, SMTPD_START);
	snprintf(greeting, sizeof greeting, "%.255s ESMTP", s->setup->conf->hostname);
	smtpd_say_text(s, 220, greeting);
	io_flush(&s->io);
	io_update(&s->io);
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
	log_info(s->id, "smtpd connect", LOG_S("peer", s->who), LOG_N("port", s->peer.port));
	s->ends = loop_now() + SMTPD_SESSION_MS;
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
	tls_free(s->tls);
	free(s->login);
	free(s->helo);
	free(s);
	stat_add(&stat_sessions, -1);
}
