/*
 * local: what the local couriers share.
 *
 * The source is a filter over the spool's reader: it streams, holds one chunk at a time, and knows
 * the header only as far as it takes to find Return-Path fields. The header ends where header.c
 * says: at an empty line, or before the first line that is neither a field nor a continuation.
 *
 * Names are made harmless before anything is replaced, and the replaced text is not looked at
 * again: a local part of "%to%" is just five more characters to be freed of what is dangerous.
 */
#include "local.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "config.h"
#include "disk.h"
#include "status.h"

/* ---- the message -------------------------------------------------------------------------- */

/* Where the next byte of the header stands. All but the first two and DROP pass it on. */
enum {
	LOCAL_START,      /* at the start of a line */
	LOCAL_MATCH,      /* in what may become "Return-Path:"; held back */
	LOCAL_NAME,       /* in another field's name */
	LOCAL_NAME_BLANK, /* between a name and its colon */
	LOCAL_VALUE,
	LOCAL_DROP,
	LOCAL_DROP_START, /* at the start of the line after a dropped one */
	LOCAL_BODY
};

static const char local_match[] = "return-path";
#define LOCAL_MATCH_LEN (sizeof local_match - 1)

/* A spool that cannot be read now is our trouble and never the sender's. */
static void local_make_transient(struct status *st)
{
	if (status_class(st) != STATUS_TRANSIENT || st->code == 0)
		status_set(st, 451, "4.3.0", "the message cannot be read now");
}

const char *local_recipient(const struct delivery *d)
{
	const struct rcpt *r = &d->env->rcpt[d->rcpts[0]];
	const char *s = r->type == RCPT_PIPE ? r->original : r->address;
	return s ? s : "";
}

static void local_put_line(struct local_source *s, const char *name, const char *before,
                           const char *value, const char *after)
{
	char clean[ADDR_TEXT_MAX];
	status_clean(slice_of(value), clean, sizeof clean);
	buf_printf(&s->out, "%s: %s%s%s%s", name, before, clean, after, s->crlf ? "\r\n" : "\n");
}

int local_source_open(struct local_source *s, const struct delivery *d, bool crlf,
                      struct status *st)
{
	const char *to = local_recipient(d);
	*s = (struct local_source){.crlf = crlf, .state = LOCAL_START};
	buf_init(&s->out, COURIER_CHUNK + 4 * ADDR_TEXT_MAX);
	if (strcmp(d->from, "<>") == 0)
		local_put_line(s, "Return-Path", "", d->from, "");
	else
		local_put_line(s, "Return-Path", "<", d->from, ">");
	if (*to)
		local_put_line(s, "Delivered-To", "", to, "");
	s->reader = spool_read_open(d->spool, d->env->id, st);
	if (!s->reader)
		local_make_transient(st);
	else if (s->out.failed)
		status_set(st, 451, "4.3.0", "out of memory");
	if (s->reader && !s->out.failed)
		return 0;
	local_source_close(s);
	return -1;
}

/* Passes bytes on, CR LF as LF unless wanted as it is. */
static void local_pass(struct local_source *s, const char *p, size_t n)
{
	if (s->crlf) {
		buf_append(&s->out, p, n);
		return;
	}
	while (n > 0) {
		if (s->cr && *p != '\n')
			buf_putc(&s->out, '\r');
		s->cr = false;
		const char *cr = memchr(p, '\r', n);
		size_t run = cr ? (size_t)(cr - p) : n;
		buf_append(&s->out, p, run);
		s->cr = cr != NULL;
		run += s->cr;
		p += run;
		n -= run;
	}
}

static bool local_is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* The state after byte c of a line that is not held back. */
static unsigned char local_next_state(unsigned char state, char c)
{
	unsigned char u = (unsigned char)c;
	if (state == LOCAL_VALUE)
		return c == '\n' ? LOCAL_START : LOCAL_VALUE;
	if (c == ':')
		return LOCAL_VALUE;
	if (local_is_blank(c))
		return LOCAL_NAME_BLANK;
	return state == LOCAL_NAME && u > 32 && u < 127 ? LOCAL_NAME : LOCAL_BODY;
}

/* Takes c if it goes on like Return-Path; true then. Else passes on what was held. */
static bool local_match_byte(struct local_source *s, char c)
{
	char lower = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
	if (s->held == LOCAL_MATCH_LEN && c == ':') {
		s->held = 0;
		s->state = LOCAL_DROP;
		return true;
	}
	if (s->held < LOCAL_MATCH_LEN && lower == local_match[s->held]) {
		s->name[s->held++] = c;
		return true;
	}
	local_pass(s, s->name, s->held);
	s->held = 0;
	s->state = LOCAL_NAME;
	return false;
}

static void local_header_byte(struct local_source *s, char c)
{
	if (s->state == LOCAL_DROP) {
		if (c == '\n')
			s->state = LOCAL_DROP_START;
		return;
	}
	if (s->state == LOCAL_DROP_START) {
		s->state = local_is_blank(c) ? LOCAL_DROP : LOCAL_START;
		if (s->state == LOCAL_DROP)
			return;
	}
	if (s->state == LOCAL_START) {
		s->state = LOCAL_MATCH;
		if (c == '\r' || c == '\n')
			s->state = LOCAL_BODY;
		else if (local_is_blank(c))
			s->state = LOCAL_VALUE;
	}
	if (s->state == LOCAL_MATCH && local_match_byte(s, c))
		return;
	local_pass(s, &c, 1);
	if (s->state != LOCAL_BODY)
		s->state = local_next_state(s->state, c);
}

static void local_feed(struct local_source *s, const char *p, size_t n)
{
	for (; n > 0 && s->state != LOCAL_BODY; n--)
		local_header_byte(s, *p++);
	local_pass(s, p, n);
}

static void local_end(struct local_source *s)
{
	s->ended = true;
	local_pass(s, s->name, s->held);
	s->held = 0;
	if (s->cr)
		buf_putc(&s->out, '\r');
	s->cr = false;
}

/* Reads on until there is something to hand out, or the end. Returns 0, or -1 with s->st. */
static int local_read(struct local_source *s)
{
	char chunk[COURIER_CHUNK];
	while (s->out.len == 0 && !s->ended) {
		ssize_t n = spool_read(s->reader, chunk, sizeof chunk, &s->st);
		if (n < 0) {
			local_make_transient(&s->st);
			return -1;
		}
		if (n == 0)
			local_end(s);
		else
			local_feed(s, chunk, (size_t)n);
		if (s->out.failed) {
			status_set(&s->st, 451, "4.3.0", "out of memory");
			return -1;
		}
	}
	return 0;
}

/* Makes s->out not empty. 1, 0 at the end, -1. */
static int local_want(struct local_source *s)
{
	if (s->broken)
		return -1;
	if (local_read(s)) {
		s->broken = true;
		return -1;
	}
	return s->out.len > 0;
}

int local_source_next(struct local_source *s, struct slice *piece)
{
	buf_consume(&s->out, s->taken);
	s->taken = 0;
	int rc = local_want(s);
	if (rc <= 0)
		return rc;
	*piece = buf_slice(&s->out);
	s->taken = piece->n;
	return 1;
}

void local_source_close(struct local_source *s)
{
	if (s->reader)
		spool_read_close(s->reader);
	s->reader = NULL;
	buf_clear(&s->out);
}

/* ---- the copy ----------------------------------------------------------------------------- */

static void local_copy_end(struct local_copy *c, int error)
{
	local_copy_stop(c);
	c->done(c->arg, error);
}

static void local_copy_step(void *arg)
{
	struct local_copy *c = arg;
	for (size_t n = 0; n < COURIER_STEP;) {
		struct slice piece;
		int rc = local_source_next(&c->source, &piece);
		if (rc <= 0) {
			local_copy_end(c, rc < 0 ? LOCAL_COPY_BROKEN : 0);
			return;
		}
		if (disk_write(c->fd, piece.p, piece.n)) {
			local_copy_end(c, errno);
			return;
		}
		n += piece.n;
	}
	loop_timer_set(&c->timer, 0);
}

int local_copy_start(struct local_copy *c, const struct delivery *d, bool crlf, int fd,
                     void (*done)(void *arg, int error), void *arg, struct status *st)
{
	if (local_source_open(&c->source, d, crlf, st))
		return -1;
	c->fd = fd;
	c->done = done;
	c->arg = arg;
	loop_timer_init(&c->timer, local_copy_step, c);
	loop_timer_set(&c->timer, 0);
	return 0;
}

void local_copy_stop(struct local_copy *c)
{
	loop_timer_stop(&c->timer);
	local_source_close(&c->source);
}

/* ---- names -------------------------------------------------------------------------------- */

/* Blanks and control characters outside ASCII: C1, the spaces of Unicode, its line separators. */
static bool local_is_wide_blank(const char *p, size_t n)
{
	static const char *const blanks[] = {"\xe1\x9a\x80", "\xe2\x80\xa8", "\xe2\x80\xa9",
	                                     "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};
	const unsigned char *u = (const unsigned char *)p;
	if (n == 2)
		return u[0] == 0xc2 && u[1] <= 0xa0;
	if (n != 3)
		return false;
	if (u[0] == 0xe2 && u[1] == 0x80 && u[2] <= 0x8a)
		return true;
	for (size_t i = 0; i < sizeof blanks / sizeof *blanks; i++)
		if (memcmp(p, blanks[i], 3) == 0)
			return true;
	return false;
}

/* May the character of n bytes at p stay? `first`: nothing is before it. */
static bool local_may_stay(const char *p, size_t n, bool first)
{
	if (n != 1)
		return n > 1 && !local_is_wide_blank(p, n);
	if ((unsigned char)*p <= ' ' || *p == 127 || strchr("/;\"'\\|*&$%()[]{}`!", *p))
		return false;
	/* "-x" would be an option, ".." another directory. */
	return !first || (*p != '-' && *p != '.');
}

/* Copies at most size - 1 bytes of what is harmless. */
static void local_clean(const char *in, char *out, size_t size)
{
	size_t n = 0;
	while (*in) {
		size_t length = status_utf8_len(in, strlen(in));
		if (length >= size - n)
			break;
		if (local_may_stay(in, length, n == 0)) {
			memcpy(out + n, in, length);
			n += length;
		}
		in += length ? length : 1;
	}
	out[n] = '\0';
}

static void local_join(struct local_name *name, const char *user, const char *domain)
{
	char all[ADDR_TEXT_MAX];
	snprintf(all, sizeof all, "%s%s%s", user, *domain ? "@" : "", domain);
	local_clean(user, name->user, sizeof name->user);
	local_clean(domain, name->domain, sizeof name->domain);
	local_clean(all, name->all, sizeof name->all);
}

static int local_name_set(struct local_name *name, const char *address)
{
	struct addr a;
	*name = (struct local_name){.all = ""};
	if (strcmp(address, "<>") == 0) {
		memcpy(name->all, "<>", 3);
		memcpy(name->user, "<>", 3);
		return 0;
	}
	if (addr_parse_local(slice_of(address), "", &a))
		return -1;
	local_join(name, a.user, a.domain);
	return 0;
}

int local_names_set(struct local_names *names, const char *from, const char *to)
{
	local_name_set(&names->from, from);
	return local_name_set(&names->to, to);
}

/* The value of the %name% at p, and its length in the template; NULL when there is none. */
static const char *local_lookup(const struct local_names *names, const char *p, size_t *length)
{
	const struct {
		const char *name;
		const char *value;
	} table[] = {
	    {"%from%", names->from.all},           {"%from_user%", names->from.user},
	    {"%from_domain%", names->from.domain}, {"%to%", names->to.all},
	    {"%to_user%", names->to.user},         {"%to_domain%", names->to.domain},
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		*length = strlen(table[i].name);
		if (strncmp(p, table[i].name, *length) == 0)
			return table[i].value;
	}
	return NULL;
}

char *local_expand(const char *template, const struct local_names *names)
{
	struct buf out;
	buf_init(&out, COURIER_ARG_MAX);
	while (*template) {
		size_t length;
		const char *value = local_lookup(names, template, &length);
		if (value)
			buf_puts(&out, value);
		else
			buf_putc(&out, *template);
		template += value ? length : 1;
	}
	const char *s = buf_str(&out);
	char *copy = out.failed ? NULL : strdup(s);
	buf_clear(&out);
	return copy;
}
