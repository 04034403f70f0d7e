/*
 * smtpd_hook: what hooks are told of a session, and hooks/post-data.
 *
 * The hook reads its message from a file, complete: through a pipe it would take half a message for
 * a whole one when we die. So content goes to a file without a name while it comes in, beside the
 * spool, from DATA on if there is a hook then; if it is gone when the content ends, the message
 * goes without it. What the hook writes stands in front of the message when it is a block of header
 * fields, and nowhere otherwise: a line that is none would end the header there, or let it be read
 * in two ways.
 */
#define LOG_KIND LOG_SESSION

#include "smtpd_hook.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "smtpd_spf.h"
#include "stat.h"

enum { STAT_SKIP, STAT_SUCCESS, STAT_BAD_OUTPUT, STAT_FAIL, STAT_RESULTS };
STAT_VECTOR(stat_results, "chasquid/smtpIn/hookResults", "result", "Messages at hooks/post-data",
            STAT_RESULTS, "post-data:skip post-data:success post-data:badoutput post-data:fail");
STAT_COUNTER(stat_rejects, "smtpd/post_data_rejects",
             "Messages that hooks/post-data refused for good; part of post-data:fail");

/* Longest line of a header (RFC 5322 2.1.1). */
#define FIELD_LINE_MAX 998

struct smtpd_post {
	int fd;
	int error; /* of writing, as in errno */
	struct hook hook;
	size_t n; /* of what is not written yet */
	char waiting[SMTPD_COPY_SIZE];
};

/* ---- the session ---------------------------------------------------------------------------- */

/* <> counts, as it does for chasquid. */
static bool smtpd_is_from_here(const struct smtpd *s)
{
	const char *at = strrchr(s->txn->env.from, '@');
	return !at || conf_domain_find(s->setup->conf, at + 1);
}

void smtpd_hook_session(const struct smtpd *s, struct hook_session *out)
{
	const struct envelope *env = &s->txn->env;
	*out = (struct hook_session){
	    .peer = s->peer.mode == SMTPD_LOCAL ? NULL : &s->peer.addr,
	    .port = s->peer.port,
	    .helo = s->helo,
	    .from = env->from,
	    .to = (const char *const *)env->to,
	    .to_count = env->to_count,
	    .login = s->login ? s->login->text : NULL,
	    .tls = s->secured,
	    .from_local = smtpd_is_from_here(s),
	    .spf_pass = smtpd_spf_passed(s),
	};
}

/* ---- the copy ------------------------------------------------------------------------------- */

void smtpd_post_clear(struct smtpd_txn *t)
{
	struct smtpd_post *x = t->post;
	if (!x)
		return;
	t->post = NULL;
	hook_cancel(&x->hook);
	close(x->fd);
	free(x);
}

int smtpd_post_begin(struct smtpd *s, struct status *st)
{
	if (!hook_exists(HOOK_POST_DATA))
		return 0;
	struct smtpd_post *x = calloc(1, sizeof *x);
	if (!x)
		return smtpd_fail(st, SMTPD_NO_MEMORY);
	x->fd = spool_temp_file(s->setup->spool, st);
	if (x->fd < 0) {
		free(x);
		return -1;
	}
	s->txn->post = x;
	return 0;
}

static void smtpd_post_write(struct smtpd_post *x)
{
	const char *p = x->waiting;
	while (x->n > 0 && !x->error) {
		ssize_t n = write(x->fd, p, x->n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			x->error = n < 0 ? errno : ENOSPC;
			break;
		}
		p += n;
		x->n -= (size_t)n;
	}
	x->n = 0;
}

/* A CR comes before each LF and nowhere else: bare ones have ended the session. */
void smtpd_post_append(struct smtpd *s, const char *p, size_t n)
{
	struct smtpd_post *x = s->txn->post;
	for (const char *end = p + n; x && p < end; p++) {
		if (*p == '\r')
			continue;
		if (x->n == sizeof x->waiting)
			smtpd_post_write(x);
		x->waiting[x->n++] = *p;
	}
}

/* ---- what it wrote -------------------------------------------------------------------------- */

/* Is it a line of a header that no reader takes for something else? first: no field before it. */
static bool smtpd_is_field_line(struct slice line, bool first)
{
	size_t n = 0;
	for (size_t i = 0; i < line.n; i++) {
		unsigned char c = (unsigned char)line.p[i];
		if ((c < ' ' && c != '\t') || c == 0x7f)
			return false;
	}
	if (line.n > FIELD_LINE_MAX)
		return false;
	if (line.n > 0 && (*line.p == ' ' || *line.p == '\t')) {
		/* A continuation says something, or it looks like an empty line. */
		while (n < line.n && (line.p[n] == ' ' || line.p[n] == '\t'))
			n++;
		return !first && n < line.n;
	}
	while (n < line.n && line.p[n] > ' ' && line.p[n] < 0x7f && line.p[n] != ':')
		n++;
	return n > 0 && n < line.n && line.p[n] == ':';
}

/* Appends the fields with CRLF line ends. 0, or -1 when it is no block of them, or no memory. */
static int smtpd_read_fields(struct slice in, struct buf *out)
{
	struct header_scan scan;
	const char *p = in.p;
	const char *end = p + in.n;
	header_scan_init(&scan);
	header_scan_feed(&scan, in);
	if (scan.header_not_utf8)
		return -1;
	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		if (!lf || !smtpd_is_field_line((struct slice){p, (size_t)(lf - p)}, p == in.p))
			return -1;
		buf_append(out, p, (size_t)(lf - p));
		buf_append(out, "\r\n", 2);
		p = lf + 1;
	}
	return out->failed ? -1 : 0;
}

/* ---- the run -------------------------------------------------------------------------------- */

/* The message is good. What the hook has to say of it beyond that must not stop it. */
static enum smtpd_next smtpd_post_accept(struct smtpd *s, struct slice output)
{
	struct buf fields;
	buf_init(&fields, SPOOL_PREPEND_MAX);
	if (smtpd_read_fields(output, &fields)) {
		stat_add_at(&stat_results, STAT_BAD_OUTPUT, 1);
		log_error(s->id, "hook output ignored: no header fields, or not fit for a message",
		          LOG_S("hook", "post-data"), LOG_N("bytes", output.n));
		buf_clear(&fields);
	} else {
		stat_add_at(&stat_results, STAT_SUCCESS, 1);
	}
	enum smtpd_next next = smtpd_content_commit(s, buf_slice(&fields));
	buf_clear(&fields);
	return next;
}

static void smtpd_post_done(void *arg, struct hook *h)
{
	struct smtpd *s = arg;
	struct status st;
	enum smtpd_next next;
	if (h->result == HOOK_DONE) {
		next = smtpd_post_accept(s, h->output);
	} else {
		bool reject = h->result == HOOK_REJECT;
		stat_add_at(&stat_results, STAT_FAIL, 1);
		stat_add(&stat_rejects, reject);
		status_set_text(&st, reject ? 554 : 451, reject ? "5.7.1" : "4.3.0", h->text);
		next = smtpd_content_refuse(s, &st);
	}
	if (next != SMTPD_WAIT)
		smtpd_resume(s);
}

static void smtpd_copy_failed(int error, struct status *st)
{
	bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
	status_set(st, full ? 452 : 451, full ? "4.3.1" : "4.3.0",
	           "the message cannot be copied for a check: %s", strerror(error));
}

enum smtpd_next smtpd_post_run(struct smtpd *s)
{
	struct smtpd_post *x = s->txn->post;
	struct hook_session session;
	struct status st;
	if (!x || !hook_exists(HOOK_POST_DATA)) {
		stat_add_at(&stat_results, STAT_SKIP, 1);
		return smtpd_content_commit(s, (struct slice){NULL, 0});
	}
	smtpd_post_write(x);
	if (x->error) {
		smtpd_copy_failed(x->error, &st);
		return smtpd_content_refuse(s, &st);
	}
	smtpd_hook_session(s, &session);
	smtpd_enter(s, SMTPD_CHECK);
	hook_start(&x->hook, HOOK_POST_DATA, s->id, NULL, &session, x->fd, smtpd_post_done, s);
	return SMTPD_WAIT;
}
