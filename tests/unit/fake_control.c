/*
 * fake_control: what stands behind the control socket. Addresses and texts are hostile: a line end
 * or a tab in one must not make a line or a field of an answer.
 */
#include "fake_control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "listen.h"
#include "queue.h"
#include "resolve.h"
#include "spool_history.h"

struct fake_control fake_control;
struct conf fake_control_conf;

static int64_t now(void)
{
	return 1000;
}

struct smtpd_setup fake_control_smtpd = {.conf = &fake_control_conf, .now = now};

static int reload(struct conf_report *report, char *err, size_t err_size)
{
	fake_control.reloads++;
	if (fake_control.reload_result < 0)
		snprintf(err, err_size, "chasq.conf:3: no such\tkey\nOK");
	else
		buf_puts(&report->text, "changed hostname: a -> b\nrefused data_dir: why\tnot\n");
	return fake_control.reload_result;
}

static void stop(void)
{
	fake_control.stopped++;
}

const struct control_setup fake_control_setup = {
    .smtpd = &fake_control_smtpd, .reload = reload, .stop = stop};

/* ---- sessions ---- */

struct smtpd {
	struct io io;
	void (*ended)(void *arg);
	void *arg;
	char user[64];
};

static void session_event(void *arg, enum io_event ev)
{
	struct smtpd *s = arg;
	if (ev == IO_READ) {
		io_write(&s->io, buf_data(&s->io.in), s->io.in.len);
		buf_consume(&s->io.in, s->io.in.len);
		return;
	}
	if (ev == IO_DRAINED)
		return;
	io_close(&s->io);
	fake_control.session = NULL;
	s->ended(s->arg);
	free(s);
}

struct smtpd *smtpd_new(const struct smtpd_setup *setup, const struct smtpd_peer *peer,
                        void (*ended)(void *arg), void *arg)
{
	struct smtpd *s = calloc(1, sizeof(*s));
	if (!s || setup != &fake_control_smtpd || peer->mode != SMTPD_LOCAL)
		abort();
	io_init(&s->io, 4096, 4096, session_event, s);
	s->ended = ended;
	s->arg = arg;
	memcpy(s->user, peer->user, sizeof(s->user));
	fake_control.session = &s->io;
	return s;
}

struct io *smtpd_io(struct smtpd *s)
{
	return &s->io;
}

void smtpd_start(struct smtpd *s)
{
	io_printf(&s->io, "220 %s\r\n", s->user);
}

void smtpd_ask_to_leave(struct smtpd *s)
{
	(void)s;
	fake_control.asked_to_leave++;
}

void smtpd_free(struct smtpd *s)
{
	io_close(&s->io);
	fake_control.session = NULL;
	free(s);
}

size_t listen_sessions(void)
{
	return 7;
}

/* ---- queue ---- */

size_t queue_length(const struct queue *q)
{
	(void)q;
	return fake_control.messages;
}

size_t queue_active(const struct queue *q)
{
	(void)q;
	return 1;
}

int64_t queue_oldest(const struct queue *q)
{
	(void)q;
	return 910;
}

static size_t number_of(const char *id)
{
	char again[16];
	unsigned n = 0;
	if (sscanf(id, "m%5u", &n) != 1)
		return SIZE_MAX;
	snprintf(again, sizeof(again), "m%05u", n);
	return strcmp(again, id) == 0 ? n : SIZE_MAX;
}

static void make_item(size_t n, struct queue_item *item)
{
	*item = (struct queue_item){.created = 1000 - 90, .next = 1000 + 3700, .active = n == 3};
	snprintf(item->id, sizeof(item->id), "m%05zu", n);
	for (size_t i = 0; i < 3; i++)
		item->held = item->held || strcmp(item->id, fake_control.held[i]) == 0;
}

int queue_find(const struct queue *q, const char *id, struct queue_item *item)
{
	size_t n = number_of(id);
	(void)q;
	if (n >= fake_control.messages)
		return -1;
	make_item(n, item);
	return 0;
}

size_t queue_list(const struct queue *q, const char *after, struct queue_item *items, size_t max)
{
	size_t first = *after ? number_of(after) + 1 : 0, n = 0;
	(void)q;
	for (; n < max && first + n < fake_control.messages; n++)
		make_item(first + n, &items[n]);
	return n;
}

size_t queue_flush(struct queue *q, const char *id)
{
	(void)q;
	return id ? strcmp(id, "m00002") == 0 : fake_control.messages;
}

const char *queue_held_nth(const struct queue *q, size_t n)
{
	(void)q;
	return n < 3 && fake_control.held[n][0] ? fake_control.held[n] : NULL;
}

int queue_hold(struct queue *q, const char *what, struct status *st)
{
	(void)q;
	for (size_t i = 0; i < 3; i++)
		if (!fake_control.held[i][0]) {
			snprintf(fake_control.held[i], 64, "%.63s", what);
			return 0;
		}
	status_set(st, 452, "4.3.0", "too much is held");
	return -1;
}

int queue_release_hold(struct queue *q, const char *what, struct status *st)
{
	(void)q;
	for (size_t i = 0; i < 3; i++)
		if (strcmp(fake_control.held[i], what) == 0) {
			memmove(fake_control.held[i], fake_control.held[i + 1 < 3 ? i + 1 : i],
			        i + 1 < 3 ? (2 - i) * 64 : 0);
			fake_control.held[2][0] = '\0';
			return 0;
		}
	status_set(st, 550, "5.1.0", "it is not held");
	return -1;
}

int queue_remove(struct queue *q, const char *id, bool bounce, struct status *st)
{
	(void)q;
	(void)st;
	snprintf(fake_control.removed, sizeof(fake_control.removed), "%.60s%s", id,
	         bounce ? " bounce" : "");
	return 0;
}

/* ---- spool ---- */

uint64_t spool_id_number(const char *id)
{
	return number_of(id) != SIZE_MAX;
}

int spool_load(struct spool *sp, const char *id, struct envelope *env, struct status *st)
{
	struct status last;
	(void)sp;
	fake_control.loads++;
	*env = (struct envelope){.from = NULL};
	if (strcmp(id, "m00001") == 0) {
		status_set(st, 451, "4.3.0", "the disk is on fire");
		return -1;
	}
	env->size = 12345;
	env->attempts = 2;
	status_set(&last, 451, "4.4.1", "nobody\tthere");
	bool good = envelope_set_from(env, "a@b.test") == 0 &&
	            envelope_add_rcpt(env, RCPT_EMAIL, "x\ny@c.test", "o\t@c", NULL) == 0 &&
	            envelope_set_verdict(env->rcpt, RCPT_PENDING, &last, "mx [1.2.3.4]") == 0 &&
	            envelope_add_rcpt(env, RCPT_PIPE, "prog", "o", NULL) == 0 &&
	            envelope_add_rcpt(env, RCPT_FORWARD, "z@d.test", "o", "h1/h2") == 0;
	for (size_t i = 0; good && i < fake_control.rcpts; i++)
		good = envelope_add_rcpt(env, RCPT_EMAIL, "more@c.test", "o", NULL) == 0;
	if (!good)
		abort();
	return 0;
}

int spool_attempts(struct spool *sp, const struct envelope *env,
                   void (*each)(void *arg, const struct spool_attempt_seen *a), void *arg,
                   struct status *st)
{
	static const size_t rcpts[] = {0, 2};
	struct spool_attempt_seen a = {.at = 950,
	                               .rcpts = rcpts,
	                               .count = 2,
	                               .state = RCPT_PENDING,
	                               .remote = "mx\n[1.2.3.4]"};
	(void)sp;
	(void)env;
	(void)st;
	status_set(&a.status, 451, "4.4.1", "try later");
	for (size_t i = 0; i < fake_control.attempts; i++, a.at++)
		each(arg, &a);
	return 0;
}

struct spool_reader {
	size_t at;
};

static const char head[] = "Subject: a\tb\r\nX: \033[2J\r\n folded\r\n\r\n";

struct spool_reader *spool_read_open(struct spool *sp, const char *id, struct status *st)
{
	(void)sp;
	if (strcmp(id, "m00001") == 0) {
		status_set(st, 451, "4.3.0", "the disk is on fire");
		return NULL;
	}
	return calloc(1, sizeof(struct spool_reader));
}

ssize_t spool_read(struct spool_reader *r, char *p, size_t n, struct status *st)
{
	size_t i = 0;
	if (fake_control.broken_at && r->at >= fake_control.broken_at) {
		status_set(st, 451, "4.3.0", "the checksum is wrong");
		return -1;
	}
	for (; i < n && r->at < fake_control.content; i++, r->at++)
		p[i] = r->at < sizeof(head) - 1 ? head[r->at] : r->at % 70 == 69 ? '\n' : 'x';
	return (ssize_t)i;
}

void spool_read_close(struct spool_reader *r)
{
	free(r);
}

/* ---- the rest ---- */

struct resolve {
	char user[ADDR_USER_MAX + 1];
	void (*done)(void *arg, const struct status *st, const struct resolve_found *found,
	             size_t count);
	void *arg;
};

static struct resolve *asked;

struct resolve *resolve_start(const struct conf *conf, const char *id, const struct addr *a,
                              void (*done)(void *arg, const struct status *st,
                                           const struct resolve_found *found, size_t count),
                              void *arg)
{
	struct resolve *r = calloc(1, sizeof(*r));
	if (!r || conf != &fake_control_conf || !id)
		abort();
	memcpy(r->user, a->user, sizeof(r->user));
	r->done = done;
	r->arg = arg;
	asked = r;
	fake_control.resolving++;
	return r;
}

void resolve_cancel(struct resolve *r)
{
	if (!r)
		return;
	fake_control.cancelled++;
	if (asked == r)
		asked = NULL;
	free(r);
}

void fake_control_resolve(void)
{
	static const struct resolve_found found[] = {{ALIAS_EMAIL, "bob@here.test", NULL},
	                                             {ALIAS_PIPE, "cat\tx", NULL},
	                                             {ALIAS_FORWARD, "c@here.test", "h1/h2"}};
	struct resolve *r = asked;
	struct status st = {.code = 250};
	if (!r)
		return;
	asked = NULL;
	if (strcmp(r->user, "slow") == 0)
		status_set(&st, 451, "4.3.0", "the hook failed");
	else if (strcmp(r->user, "alice") != 0)
		status_set(&st, 550, "5.1.1", "there is no such user here");
	r->done(r->arg, &st, found, st.code == 250 ? 3 : 0);
	free(r);
}

const struct conf_domain *conf_domain_find(const struct conf *c, const char *name)
{
	static const struct conf_domain here = {.name = NULL};
	(void)c;
	return strcmp(name, "here.test") == 0 ? &here : NULL;
}

void conf_print(const struct conf *c, struct buf *out, bool origins)
{
	(void)c;
	buf_printf(out, "hostname: \"a\"%s\n", origins ? " # chasq.conf:1" : "");
}

void conf_report_init(struct conf_report *r)
{
	*r = (struct conf_report){.changed = 0};
	buf_init(&r->text, 10000);
}

void conf_report_clear(struct conf_report *r)
{
	buf_clear(&r->text);
}
