/* smtpd_help: for unit tests of SMTP sessions: whom they are with, what is expected of them, and
 * the beginning and the end of each of the programs. */
#ifndef SMTPD_HELP_H
#define SMTPD_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "log.h"
#include "stat.h"
#include "talk.h"

static struct smtpd_peer stranger; /* from 192.0.2.1 */
static struct smtpd_peer friendly; /* the same, trusted */
static struct smtpd_peer local;

static inline int start(void **state)
{
	(void)state;
	setenv("TZ", "UTC0", 1);
	log_level_now = LOG_LEVEL_ERROR;
	stranger = (struct smtpd_peer){.mode = SMTPD_MX, .addr.family = AF_INET, .port = 4000};
	stranger.addr.ip.v4.s_addr = htonl(0xc0000201);
	friendly = stranger;
	friendly.trusted = true;
	local = (struct smtpd_peer){.mode = SMTPD_LOCAL, .user = "joe"};
	return loop_init();
}

static inline int stop(void **state)
{
	(void)state;
	fake_reset();
	buf_clear(&fake.content);
	buf_clear(&fake_hook.input);
	loop_done();
	return 0;
}

/* Gives commands and expects replies with these codes, each with a blank behind it. */
static inline void expect(struct talk *t, const char *in, const char *want)
{
	struct buf codes;
	buf_consume(&t->out, t->out.len);
	talk_give(t, in, strlen(in));
	talk_codes(t, &codes);
	if (strcmp(buf_str(&codes), want) != 0)
		fail_msg("%s: got %s, want %s", in, buf_str(&t->out), want);
	buf_clear(&codes);
}

/* They hold this text. */
static inline void said(struct talk *t, const char *want)
{
	if (!strstr(buf_str(&t->out), want))
		fail_msg("%s does not hold %s", buf_str(&t->out), want);
}

/* ---- counters ---- */

struct counter {
	const char *name;
	int64_t value;
};

static inline void counter_seen(void *arg, const struct stat_value *v)
{
	struct counter *c = arg;
	if (strcmp(v->name, c->name) == 0)
		c->value = v->value;
}

/* 0 also when there is none of this name. */
static inline int64_t counter(const char *name)
{
	struct counter c = {.name = name};
	stat_each(counter_seen, &c);
	return c.value;
}

#endif
