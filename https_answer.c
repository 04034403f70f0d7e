/*
 * https_answer: the answer to a GET as a state machine over lines and counted bytes.
 *
 * The server is somebody's, and we fetch from it because a stranger's mail made us: everything that
 * can be read in two ways is refused instead of guessed. Lines, interim answers and trailers share
 * one budget, HTTPS_HEADER_MAX; lines between chunks are short; content has the caller's limit. So
 * memory is bounded by these, and time by the caller's clock.
 */
#include "https_answer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "config.h"

enum {
	AT_STATUS,
	AT_FIELD,
	AT_INTERIM, /* fields of a 1xx answer */
	AT_COUNTED, /* content of a stated length */
	AT_REST,    /* content up to the end of the stream */
	AT_CHUNK_SIZE,
	AT_CHUNK,
	AT_CHUNK_END,
	AT_TRAILER,
	AT_DONE,
	AT_FAULT
};

__attribute__((format(printf, 2, 3))) static int fault(struct https_answer *a, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(a->why, sizeof a->why, fmt, ap);
	va_end(ap);
	a->state = AT_FAULT;
	return -1;
}

void https_answer_init(struct https_answer *a, const char *type, size_t max)
{
	*a = (struct https_answer){.type = type, .state = AT_STATUS};
	buf_init(&a->content, max);
	buf_init(&a->line, HTTPS_HEADER_MAX);
}

void https_answer_clear(struct https_answer *a)
{
	buf_clear(&a->content);
	buf_clear(&a->line);
}

/* ---- words ---- */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* tchar (RFC 9110 5.6.2). */
static bool is_token_char(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct slice trim(struct slice s)
{
	while (s.n > 0 && is_blank(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

static bool has_control(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return true;
	}
	return false;
}

static int digit_of(char c, unsigned base)
{
	int v = -1;
	if (is_digit(c))
		v = c - '0';
	else if (c >= 'a' && c <= 'f')
		v = c - 'a' + 10;
	else if (c >= 'A' && c <= 'F')
		v = c - 'A' + 10;
	return v < (int)base ? v : -1;
}

/* Reads digits at the start of s, at most up to SIZE_MAX / 2; larger numbers stay there, which is
 * more than any limit. Returns how many digits there were. */
static size_t read_number(struct slice s, unsigned base, size_t *value)
{
	size_t i = 0;
	*value = 0;
	for (; i < s.n && digit_of(s.p[i], base) >= 0; i++) {
		size_t digit = (size_t)digit_of(s.p[i], base);
		*value =
		    *value > (SIZE_MAX / 2 - digit) / base ? SIZE_MAX / 2 : *value * base + digit;
	}
	return i;
}

/* ---- header ---- */

/* "HTTP/1.1 200 OK" */
static int take_status(struct https_answer *a, struct slice line)
{
	if (line.n < 12 || memcmp(line.p, "HTTP/1.", 7) != 0 || !is_digit(line.p[7]) ||
	    line.p[8] != ' ' || !is_digit(line.p[9]) || !is_digit(line.p[10]) ||
	    !is_digit(line.p[11]) || (line.n > 12 && line.p[12] != ' '))
		return fault(a, "no answer of HTTP/1");
	a->old = line.p[7] == '0';
	a->code = (line.p[9] - '0') * 100 + (line.p[10] - '0') * 10 + (line.p[11] - '0');
	if (a->code / 100 == 1 && a->code != 101) {
		a->state = AT_INTERIM;
		return 0;
	}
	if (a->code != 200)
		return fault(a, "HTTP status %d%s", a->code,
		             a->code / 100 == 3 ? " (redirects are not followed)" : "");
	a->state = AT_FIELD;
	return 0;
}

static int take_length(struct https_answer *a, struct slice value)
{
	if (a->has_length)
		return fault(a, "two lengths");
	if (value.n == 0 || read_number(value, 10, &a->left) != value.n)
		return fault(a, "a malformed length");
	a->has_length = true;
	return 0;
}

static int take_coding(struct https_answer *a, struct slice value)
{
	if (a->chunked || !slice_is_nocase(value, "chunked"))
		return fault(a, "a transfer coding that is not understood");
	a->chunked = true;
	return 0;
}

/* "text/plain; charset=utf-8" */
static int take_type(struct https_answer *a, struct slice value)
{
	const char *semicolon = value.n > 0 ? memchr(value.p, ';', value.n) : NULL;
	struct slice type = value;
	if (a->has_type)
		return fault(a, "two media types");
	if (semicolon)
		type = trim((struct slice){value.p, (size_t)(semicolon - value.p)});
	if (!slice_is_nocase(type, a->type))
		return fault(a, "the media type is not %s", a->type);
	a->has_type = true;
	return 0;
}

static int take_field(struct https_answer *a, struct slice line)
{
	size_t n = 0;
	while (n < line.n && is_token_char(line.p[n]))
		n++;
	if (n == 0 || n == line.n || line.p[n] != ':')
		return fault(a, "a malformed header line");
	struct slice name = {line.p, n};
	struct slice value = trim((struct slice){line.p + n + 1, line.n - n - 1});
	if (a->state != AT_FIELD)
		return 0;
	if (slice_is_nocase(name, "Content-Length"))
		return take_length(a, value);
	if (slice_is_nocase(name, "Transfer-Encoding"))
		return take_coding(a, value);
	if (slice_is_nocase(name, "Content-Type"))
		return take_type(a, value);
	if (slice_is_nocase(name, "Content-Encoding") && !slice_is_nocase(value, "identity"))
		return fault(a, "a content coding that was not asked for");
	return 0;
}

/* The empty line behind the fields: how does the content come? */
static int end_header(struct https_answer *a)
{
	if (!a->has_type)
		return fault(a, "no media type");
	if (a->chunked && (a->has_length || a->old))
		return fault(a, "two ways to say the length");
	if (a->has_length && a->left > a->content.max)
		return fault(a, "more than %zu bytes", a->content.max);
	if (a->chunked)
		a->state = AT_CHUNK_SIZE;
	else if (!a->has_length)
		a->state = AT_REST;
	else
		a->state = a->left > 0 ? AT_COUNTED : AT_DONE;
	return 0;
}

/* ---- chunks (RFC 9112 7.1) ---- */

static int take_chunk_size(struct https_answer *a, struct slice line)
{
	size_t n = read_number(line, 16, &a->left);
	struct slice rest = trim((struct slice){line.p + n, line.n - n});
	if (n == 0 || (rest.n > 0 && rest.p[0] != ';'))
		return fault(a, "a malformed chunk");
	if (a->left > a->content.max - a->content.len)
		return fault(a, "more than %zu bytes", a->content.max);
	a->state = a->left > 0 ? AT_CHUNK : AT_TRAILER;
	return 0;
}

static int take_line(struct https_answer *a, struct slice line)
{
	if (has_control(line))
		return fault(a, "control characters in the header");
	switch (a->state) {
	case AT_STATUS:
		return take_status(a, line);
	case AT_CHUNK_SIZE:
		return take_chunk_size(a, line);
	case AT_CHUNK_END:
		a->state = AT_CHUNK_SIZE;
		return line.n == 0 ? 0 : fault(a, "a malformed chunk");
	default:
		break;
	}
	if (line.n > 0)
		return take_field(a, line);
	if (a->state == AT_FIELD)
		return end_header(a);
	a->state = a->state == AT_INTERIM ? AT_STATUS : AT_DONE;
	return 0;
}

/* ---- bytes ---- */

/* Takes bytes up to the end of a line. Returns how many, or -1. */
static ptrdiff_t feed_line(struct https_answer *a, struct slice in)
{
	bool chunk = a->state == AT_CHUNK_SIZE || a->state == AT_CHUNK_END;
	const char *lf = memchr(in.p, '\n', in.n);
	size_t n = lf ? (size_t)(lf - in.p) + 1 : in.n;
	a->header += chunk ? 0 : n;
	if (a->header > HTTPS_HEADER_MAX || (chunk && a->line.len + n > HTTPS_CHUNK_LINE_MAX))
		return fault(a, "the header is too long");
	if (buf_append(&a->line, in.p, n))
		return fault(a, "out of memory");
	if (!lf)
		return (ptrdiff_t)n;
	struct slice line = buf_slice(&a->line);
	line.n--;
	/* Without its CR a line is one, too (RFC 9112 2.2). */
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	if (take_line(a, line))
		return -1;
	buf_consume(&a->line, a->line.len);
	return (ptrdiff_t)n;
}

/* Takes bytes of content. Returns how many, or -1. */
static ptrdiff_t feed_content(struct https_answer *a, struct slice in)
{
	size_t n = in.n;
	if (a->state == AT_REST) {
		if (n > a->content.max - a->content.len)
			return fault(a, "more than %zu bytes", a->content.max);
	} else if (n > a->left) {
		n = a->left;
	}
	if (buf_append(&a->content, in.p, n))
		return fault(a, "out of memory");
	if (a->state == AT_REST)
		return (ptrdiff_t)n;
	a->left -= n;
	if (a->left == 0)
		a->state = a->state == AT_CHUNK ? AT_CHUNK_END : AT_DONE;
	return (ptrdiff_t)n;
}

static enum https_progress progress(const struct https_answer *a)
{
	if (a->state == AT_FAULT)
		return HTTPS_BAD;
	return a->state == AT_DONE ? HTTPS_WHOLE : HTTPS_MORE;
}

enum https_progress https_answer_feed(struct https_answer *a, struct slice in)
{
	while (in.n > 0 && a->state != AT_DONE && a->state != AT_FAULT) {
		bool counted =
		    a->state == AT_COUNTED || a->state == AT_REST || a->state == AT_CHUNK;
		ptrdiff_t n = counted ? feed_content(a, in) : feed_line(a, in);
		if (n < 0)
			break;
		in.p += n;
		in.n -= (size_t)n;
	}
	return progress(a);
}

enum https_progress https_answer_end(struct https_answer *a, bool clean)
{
	if (a->state == AT_REST && clean)
		a->state = AT_DONE;
	else if (a->state != AT_DONE && a->state != AT_FAULT)
		fault(a, "the answer ends too early");
	return progress(a);
}
