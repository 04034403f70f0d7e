/*
 * buf: bounded buffers.
 *
 * Every byte a peer can make us keep is in one of these, so every such byte has a bound. Memory
 * grows by doubling, past BUF_LARGE by a quarter, and is given back when the content is gone: a
 * hundred idle sessions must cost what idle sessions cost, not what they needed at their busiest.
 */
#include "buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bytes.h"
#include "config.h"

static char buf_nothing[1];
static char *buf_spare; /* BUF_SPARE bytes, or NULL */

struct slice slice_of(const char *s)
{
	return (struct slice){s, strlen(s)};
}

bool slice_is(struct slice a, const char *s)
{
	return strlen(s) == a.n && (a.n == 0 || memcmp(a.p, s, a.n) == 0);
}

bool slice_is_nocase(struct slice a, const char *s)
{
	/* Most words that are compared differ in their first letter. */
	if (a.n > 0 && ((a.p[0] ^ s[0]) & ~0x20))
		return false;
	return strlen(s) == a.n && (a.n == 0 || strncasecmp(a.p, s, a.n) == 0);
}

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){.max = max};
}

/* Frees the memory, or keeps it for the next who wants as much: what a stream has read is mostly
 * gone when that is served, and then the next one reads. */
static void buf_give_back(struct buf *b)
{
	if (b->size == BUF_SPARE && !buf_spare)
		buf_spare = b->data;
	else
		free(b->data);
	b->data = NULL;
	b->size = 0;
}

void buf_clear(struct buf *b)
{
	buf_give_back(b);
	buf_init(b, b->max);
}

char *buf_data(const struct buf *b)
{
	return b->data ? b->data + b->off : buf_nothing;
}

struct slice buf_slice(const struct buf *b)
{
	return (struct slice){buf_data(b), b->len};
}

/* Makes b->size >= want in steps that keep copying linear, but no larger than the content may be.
 * Returns 0, or -1 when there is no memory. */
static int buf_grow(struct buf *b, size_t want)
{
	size_t size = b->size ? b->size : BUF_FIRST;
	while (size < want)
		size = size > SIZE_MAX / 2 ? want : size + (size < BUF_LARGE ? size : size / 4);
	if (size > b->max && want <= b->max)
		size = b->max;
	char *p = NULL;
	if (!b->data && size == BUF_SPARE) {
		p = buf_spare;
		buf_spare = NULL;
	}
	if (!p && !(p = realloc(b->data, size)))
		return -1;
	b->data = p;
	b->size = size;
	return 0;
}

/* Makes room for n bytes behind the content, which fits the maximum. */
static int buf_make_room(struct buf *b, size_t n)
{
	if (!b->data)
		return buf_grow(b, n);
	if (n <= b->size - b->off - b->len)
		return 0;
	if (b->off > 0) {
		memmove(b->data, b->data + b->off, b->len);
		b->off = 0;
	}
	if (n <= b->size - b->len)
		return 0;
	return buf_grow(b, b->len + n);
}

static size_t buf_left(const struct buf *b)
{
	return b->len < b->max ? b->max - b->len : 0;
}

char *buf_space(struct buf *b, size_t n, size_t *room)
{
	size_t left = buf_left(b);
	if (n > left)
		n = left;
	*room = n;
	if (n > 0 && buf_make_room(b, n)) {
		b->failed = true;
		*room = 0;
		return NULL;
	}
	return buf_data(b) + b->len;
}

void buf_added(struct buf *b, size_t n)
{
	b->len += n;
}

/* Is there room for n bytes as it is? Nearly always there is. */
static bool buf_has_room(const struct buf *b, size_t n)
{
	return n <= b->size - b->off - b->len && b->len + n <= b->max && !b->failed;
}

int buf_append(struct buf *b, const void *p, size_t n)
{
	if (!buf_has_room(b, n)) {
		if (b->failed)
			return -1;
		if (n > buf_left(b) || buf_make_room(b, n)) {
			b->failed = true;
			return -1;
		}
	}
	if (n > 0)
		memcpy(b->data + b->off + b->len, p, n);
	b->len += n;
	return 0;
}

int buf_puts(struct buf *b, const char *s)
{
	return buf_append(b, s, strlen(s));
}

int buf_putc(struct buf *b, char c)
{
	if (!buf_has_room(b, 1))
		return buf_append(b, &c, 1);
	b->data[b->off + b->len++] = c;
	return 0;
}

int buf_puts_list(struct buf *b, const char *const *list)
{
	int rc = 0;
	while (*list && !rc)
		rc = buf_puts(b, *list++);
	return rc;
}

int buf_put_number(struct buf *b, int64_t n)
{
	char digits[BYTES_NUMBER];
	size_t len = (size_t)(bytes_put_number(digits, n) - digits);
	return buf_append(b, digits, len);
}

int buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	char small[256];
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(small, sizeof small, fmt, ap);
	int rc = -1;
	if (n >= 0 && (size_t)n < sizeof small) {
		rc = buf_append(b, small, (size_t)n);
	} else if (n < 0 || b->failed || (size_t)n > buf_left(b) ||
	           buf_make_room(b, (size_t)n + 1)) {
		b->failed = true;
	} else {
		vsnprintf(b->data + b->off + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
		rc = 0;
	}
	va_end(again);
	return rc;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int rc = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return rc;
}

void buf_consume(struct buf *b, size_t n)
{
	if (n < b->len) {
		b->off += n;
		b->len -= n;
		return;
	}
	b->off = 0;
	b->len = 0;
	if (b->size > BUF_KEEP)
		buf_give_back(b);
}

void buf_truncate(struct buf *b, size_t n)
{
	if (n < b->len)
		b->len = n;
}

const char *buf_str(struct buf *b)
{
	if (b->failed || buf_make_room(b, 1)) {
		b->failed = true;
		return "";
	}
	b->data[b->off + b->len] = '\0';
	return b->data + b->off;
}
