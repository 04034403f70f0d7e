/* talk: a client of an SMTP session on a detached stream: gives bytes, takes replies. For tests. */
#ifndef TALK_H
#define TALK_H

#include <stdlib.h>
#include <string.h>

#include "fake_hook.h"
#include "fake_resolve.h"
#include "fake_spf.h"
#include "fake_spool.h"
#include "fake_tls.h"
#include "smtpd_int.h"

struct talk {
	struct smtpd *s; /* NULL once it has ended */
	bool hold;       /* commits, verdicts of all kinds and handshakes wait */
	size_t sip;      /* takes so many bytes of replies at a time; 0: all */
	struct buf out;  /* all replies so far */
};

static inline void talk_ended(void *arg)
{
	struct talk *t = arg;
	t->s = NULL;
}

static inline void talk_event(struct talk *t, enum io_event ev)
{
	if (t->s && !smtpd_io(t->s)->finishing)
		smtpd_io(t->s)->handle(smtpd_io(t->s)->arg, ev);
}

/* Takes what replies there are; true when there were any. */
static inline bool talk_take(struct talk *t)
{
	struct io *io = smtpd_io(t->s);
	size_t n = io->out.len;
	/* A client that takes all at once: io_flush has sent it, and no event tells of that. */
	bool flushed = !t->sip && n < SMTPD_OUT_MARK;
	if (n == 0)
		return false;
	if (t->sip && t->sip < n && !io->finishing)
		n = t->sip;
	buf_append(&t->out, buf_data(&io->out), n);
	buf_consume(&io->out, n);
	if (io->out.len == 0 && !flushed)
		talk_event(t, IO_DRAINED);
	return true;
}

/* Runs the session until it waits for us. */
static inline void talk_settle(struct talk *t)
{
	bool more = true;
	while (t->s && more) {
		more = talk_take(t);
		if (t->s && !t->hold &&
		    (fake_spool_run() || fake_auth_run() || fake_spf_run() || fake_resolve_run() ||
		     fake_hook_run()))
			more = true;
		if (t->s && !t->hold && t->s->state == SMTPD_HANDSHAKE) {
			talk_event(t, IO_SECURED);
			more = true;
		}
		if (t->s && (loop_timer_is_set(&t->s->again) || smtpd_io(t->s)->finishing)) {
			talk_take(t);
			loop_turn(1);
			more = true;
		}
	}
}

static inline void talk_start(struct talk *t, const struct smtpd_peer *peer)
{
	*t = (struct talk){.s = smtpd_new(&fake_setup, peer, talk_ended, t)};
	if (!t->s)
		abort();
	buf_init(&t->out, 4 << 20);
	smtpd_start(t->s);
	talk_settle(t);
}

/* Gives the session n bytes, as fast as it takes them. Returns how many it took: not all when it
 * ended, or a commit is held. */
static inline size_t talk_give(struct talk *t, const char *p, size_t n)
{
	size_t given = 0;
	while (given < n && t->s && !smtpd_io(t->s)->finishing) {
		size_t room;
		char *space = buf_space(&smtpd_io(t->s)->in, n - given, &room);
		if (!space)
			abort();
		if (room == 0)
			break;
		memcpy(space, p + given, room);
		buf_added(&smtpd_io(t->s)->in, room);
		given += room;
		talk_event(t, IO_READ);
		talk_settle(t);
	}
	return given;
}

static inline void talk_eof(struct talk *t)
{
	if (t->s)
		smtpd_io(t->s)->eof = true;
	talk_event(t, IO_EOF);
	talk_settle(t);
}

static inline void talk_end(struct talk *t)
{
	if (t->s)
		smtpd_free(t->s);
	t->s = NULL;
	buf_clear(&t->out);
}

/* The codes of all replies in out: "220 250 ". Aborts when it is not a sequence of whole replies.
 */
static inline const char *talk_codes(struct talk *t, struct buf *codes)
{
	struct slice rest = buf_slice(&t->out);
	buf_init(codes, 1 << 20);
	while (rest.n > 0) {
		const char *lf = memchr(rest.p, '\n', rest.n);
		if (!lf || rest.n < 6 || lf[-1] != '\r')
			abort();
		if (rest.p[3] == ' ')
			buf_printf(codes, "%.3s ", rest.p);
		else if (rest.p[3] != '-')
			abort();
		rest.n -= (size_t)(lf - rest.p) + 1;
		rest.p = lf + 1;
	}
	return buf_str(codes);
}

#endif
