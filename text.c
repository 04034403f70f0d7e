/*
 * text: protobuf text format as a stream, after
 * https://protobuf.dev/reference/protobuf/textformat-spec.
 *
 * The reader pulls: it holds one small buffer of input and, of a string, never more than one
 * decoded escape, so a value of any size passes through in constant memory. Names and numbers are
 * limited to TEXT_TOKEN_MAX and nesting to TEXT_DEPTH_MAX. It knows syntax only; what a field means
 * is textfield's matter. Strictness is that of protoc: no '+' sign, no unknown escapes, no raw NUL
 * or newline in a string, no lone surrogate. Extension and Any names are errors: no schema here has
 * any.
 *
 * The writer is canonical: the same values always give the same bytes.
 */
#include "text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "bytes.h"

/* What text_next expects next. */
enum {
	AT_FIELD,      /* a field, or the end of the message */
	AT_SEPARATOR,  /* the same, but ',' or ';' may come first */
	AT_VALUE,      /* ':' and the value of a field */
	AT_LIST_FIRST, /* the first element of a list, or its end */
	AT_LIST_NEXT,  /* ',' and an element, or the end */
	AT_STRING,     /* inside a string value */
	AT_END,
	AT_ERROR,
};

/* How nest[] tells a list whose field had no ':' (only messages may be in it) from '[', others. */
#define NEST_MESSAGES 'm'

/* Classes of bytes. */
#define STOPS_READ 1 /* ends a run of plain bytes in a literal that is read */
#define SPACE      4
#define NAME       8 /* letter, digit, underscore */

static const unsigned char class[256] = {
    1, 0, 0, 0, 0, 0, 0, 0, 0, 4, 5, 4, 4, 4, 0, 0, /* 0x00: \t \n \v \f \r */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0x10 */
    4, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, /* 0x20: blank " ' */
    8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 0, 0, 0, 0, 0, 0, /* 0x30: digits */
    0, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, /* 0x40: letters */
    8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 0, 1, 0, 0, 8, /* 0x50: \ _ */
    0, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, /* 0x60: letters */
    8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 0, 0, 0, 0, 0, /* 0x70: DEL */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0x80 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0x90 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0xa0 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0xb0 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0xc0 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0xd0 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0xe0 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0xf0 */
};

#define DIGITS "0123456789"
#define HEX    "0123456789abcdefABCDEF"

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static bool is_name(int c)
{
	return c >= 0 && (class[c] & NAME);
}

/* ---- errors ---- */

static int text_vfail(struct text_reader *r, enum text_fault fault, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));

static int text_vfail(struct text_reader *r, enum text_fault fault, const char *fmt, va_list ap)
{
	if (r->state == AT_ERROR)
		return -1;
	r->state = AT_ERROR;
	r->fault = fault;
	int n = snprintf(r->error, sizeof(r->error), "%s:%d: ", r->name, r->line);
	if (n >= 0 && (size_t)n < sizeof(r->error))
		vsnprintf(r->error + n, sizeof(r->error) - (size_t)n, fmt, ap);
	return -1;
}

int text_fail(struct text_reader *r, enum text_fault fault, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	text_vfail(r, fault, fmt, ap);
	va_end(ap);
	return -1;
}

/* Like text_fail, for what is wrong at the place being read rather than with the last field. */
static enum text_event text_wrong(struct text_reader *r, enum text_fault fault, const char *fmt,
                                  ...) __attribute__((format(printf, 3, 4)));

static enum text_event text_wrong(struct text_reader *r, enum text_fault fault, const char *fmt,
                                  ...)
{
	va_list ap;
	va_start(ap, fmt);
	if (r->state != AT_ERROR)
		r->line = r->at_line;
	text_vfail(r, fault, fmt, ap);
	va_end(ap);
	return TEXT_ERROR;
}

/* Fails because c (-1: the end of the input) came instead of what was wanted. */
static enum text_event text_expected(struct text_reader *r, const char *wanted, int c)
{
	if (c < 0)
		return text_wrong(r, TEXT_TRUNCATED, "the input ends where %s was expected",
		                  wanted);
	if (c < ' ' || c > '~')
		return text_wrong(r, TEXT_BAD, "expected %s, found byte 0x%02x", wanted,
		                  (unsigned)c);
	return text_wrong(r, TEXT_BAD, "expected %s, found '%c'", wanted, c);
}

/* ---- input ---- */

void text_open(struct text_reader *r, const char *name,
               ssize_t (*fill)(void *arg, char *p, size_t n), void *arg)
{
	memset(r, 0, offsetof(struct text_reader, buf));
	r->name = name;
	r->line = r->at_line = 1;
	r->fill = fill;
	r->arg = arg;
	r->p = r->end = r->buf;
}

static ssize_t text_fill_from_fd(void *arg, char *p, size_t n)
{
	const int *fd = arg;
	ssize_t got;
	do
		got = read(*fd, p, n);
	while (got < 0 && errno == EINTR);
	return got;
}

void text_open_fd(struct text_reader *r, const char *name, int *fd)
{
	text_open(r, name, text_fill_from_fd, fd);
}

void text_open_memory(struct text_reader *r, const char *name, const char *p, size_t n)
{
	text_open(r, name, NULL, NULL);
	r->p = p;
	r->end = p + n;
	r->filled = n;
}

uint64_t text_offset(const struct text_reader *r)
{
	return r->filled - (uint64_t)(r->end - r->p);
}

/* Gets more input. False at its end, and when the source fails (then the error is set). */
static bool text_refill(struct text_reader *r)
{
	if (!r->fill)
		return false;
	ssize_t n = r->fill(r->arg, r->buf, sizeof(r->buf));
	if (n <= 0) {
		r->fill = NULL;
		if (n < 0)
			text_wrong(r, TEXT_IO, "cannot be read");
		return false;
	}
	r->p = r->buf;
	r->end = r->buf + n;
	r->filled += (uint64_t)n;
	return true;
}

/* The next byte, which stays; -1 at the end. */
static int text_peek(struct text_reader *r)
{
	if (r->p == r->end && !text_refill(r))
		return -1;
	return (unsigned char)*r->p;
}

static void text_skip_comment(struct text_reader *r)
{
	while (text_peek(r) >= 0) {
		const char *nl = memchr(r->p, '\n', (size_t)(r->end - r->p));
		r->p = nl ? nl : r->end;
		if (nl)
			return;
	}
}

/* Passes over blanks and comments. Returns the byte behind them, as text_peek. */
static int text_skip_space(struct text_reader *r)
{
	int c;
	while ((c = text_peek(r)) >= 0) {
		if (c == '#')
			text_skip_comment(r);
		else if (!(class[c] & SPACE))
			break;
		else if (*r->p++ == '\n')
			r->at_line++;
	}
	return c;
}

/* ---- tokens ---- */

/* Appends c to the token, which holds n characters. Returns 0, or -1 when it is full. */
static int text_token_add(struct text_reader *r, size_t *n, int c)
{
	if (*n + 1 >= sizeof(r->token))
		return text_wrong(r, TEXT_BAD, "a name or number is too long");
	r->token[(*n)++] = (char)c;
	r->token[*n] = '\0';
	return 0;
}

static int text_get_name(struct text_reader *r, size_t n)
{
	for (; is_name(text_peek(r)); r->p++)
		if (text_token_add(r, &n, *r->p) < 0)
			return -1;
	return 0;
}

/* Consumes all that could belong to a number, so that "1x" is one bad number. */
static int text_get_number(struct text_reader *r, size_t n)
{
	size_t start = n;
	for (int c; (c = text_peek(r)) >= 0; r->p++) {
		bool exponent = n > start && (r->token[n - 1] | 0x20) == 'e' &&
		                (r->token[start + 1] | 0x20) != 'x';
		if (!is_name(c) && c != '.' && !(exponent && (c == '+' || c == '-')))
			break;
		if (text_token_add(r, &n, c) < 0)
			return -1;
	}
	return 0;
}

static bool number_is_valid(const char *t)
{
	if (t[0] == '0' && (t[1] | 0x20) == 'x') {
		size_t n = strspn(t + 2, HEX);
		return n > 0 && t[2 + n] == '\0';
	}
	size_t digits = strspn(t, DIGITS);
	if (t[digits] == '\0')
		return t[0] != '0' || strspn(t, "01234567") == digits;
	t += digits;
	if (*t == '.') {
		size_t n = strspn(t + 1, DIGITS);
		digits += n;
		t += n + 1;
	}
	if (digits == 0)
		return false;
	if ((*t | 0x20) == 'e') {
		t += t[1] == '+' || t[1] == '-' ? 2 : 1;
		size_t n = strspn(t, DIGITS);
		if (n == 0)
			return false;
		t += n;
	}
	if ((*t | 0x20) == 'f')
		t++;
	return *t == '\0';
}

/* ---- values ---- */

static enum text_event text_push(struct text_reader *r, char kind, int state, enum text_event ev)
{
	if (r->depth == sizeof(r->nest))
		return text_wrong(r, TEXT_BAD, "nested too deeply");
	r->nest[r->depth++] = kind;
	r->state = state;
	r->p++;
	return ev;
}

static char text_nest(const struct text_reader *r)
{
	return r->depth ? r->nest[r->depth - 1] : '\0';
}

static bool text_in_list(const struct text_reader *r)
{
	return text_nest(r) == '[' || text_nest(r) == NEST_MESSAGES;
}

/* A value is complete. */
static void text_value_done(struct text_reader *r)
{
	r->state = text_in_list(r) ? AT_LIST_NEXT : AT_SEPARATOR;
}

/* True, with the error set, when the input ends right behind a token and more had to come: what is
 * there may be the first part of a token. */
static bool text_is_torn(struct text_reader *r)
{
	if (text_peek(r) >= 0)
		return false;
	if (r->depth > 0)
		text_expected(r, "the end of a message", -1);
	return r->state == AT_ERROR;
}

static enum text_event text_scalar(struct text_reader *r, int c)
{
	size_t n = 0;
	r->token[0] = '\0';
	if (c == '-') {
		r->p++;
		text_token_add(r, &n, c);
		c = text_skip_space(r);
	}
	if (is_digit(c) || c == '.') {
		if (text_get_number(r, n) < 0 || text_is_torn(r))
			return TEXT_ERROR;
		if (!number_is_valid(r->token + n))
			return text_wrong(r, TEXT_BAD, "%s is not a number", r->token);
	} else if (is_name(c)) {
		if (text_get_name(r, n) < 0 || text_is_torn(r))
			return TEXT_ERROR;
		if (n && strcasecmp(r->token, "-inf") != 0 &&
		    strcasecmp(r->token, "-infinity") != 0 && strcasecmp(r->token, "-nan") != 0)
			return text_wrong(r, TEXT_BAD, "%s is not a number", r->token);
	} else {
		return text_expected(r, n ? "a number" : "a value", c);
	}
	text_value_done(r);
	return TEXT_SCALAR;
}

/* One value that begins with c. messages: nothing but a message is allowed. */
static enum text_event text_value(struct text_reader *r, int c, bool messages)
{
	if (c == '{' || c == '<')
		return text_push(r, (char)c, AT_FIELD, TEXT_OPEN);
	if (messages)
		return text_expected(r, "':' or a message", c);
	if (c != '"' && c != '\'')
		return text_scalar(r, c);
	r->p++;
	r->quote = (char)c;
	r->spilled = r->spill_at = 0;
	r->state = AT_STRING;
	return TEXT_BYTES;
}

static enum text_event text_field_value(struct text_reader *r)
{
	int c = text_skip_space(r);
	r->colon = c == ':';
	if (r->colon) {
		r->p++;
		c = text_skip_space(r);
	}
	if (c == '[')
		return text_push(r, r->colon ? '[' : NEST_MESSAGES, AT_LIST_FIRST, TEXT_LIST);
	return text_value(r, c, !r->colon);
}

static enum text_event text_list(struct text_reader *r)
{
	bool first = r->state == AT_LIST_FIRST;
	int c = text_skip_space(r);
	if (c == ']') {
		r->p++;
		r->depth--;
		text_value_done(r);
		return TEXT_LIST_END;
	}
	if (!first) {
		if (c != ',')
			return text_expected(r, "',' or ']'", c);
		r->p++;
		c = text_skip_space(r);
	}
	return text_value(r, c, text_nest(r) == NEST_MESSAGES);
}

static enum text_event text_message(struct text_reader *r)
{
	int c = text_skip_space(r);
	if (r->state == AT_SEPARATOR && (c == ',' || c == ';')) {
		r->p++;
		c = text_skip_space(r);
	}
	if (r->state == AT_ERROR)
		return TEXT_ERROR;
	if (is_name(c) && !is_digit(c)) {
		r->token[0] = '\0';
		r->line = r->at_line;
		if (text_get_name(r, 0) < 0)
			return TEXT_ERROR;
		if (text_peek(r) < 0) /* a torn name is no unknown name */
			return text_expected(r, "':' or a message", -1);
		r->state = AT_VALUE;
		return TEXT_FIELD;
	}
	char open = text_nest(r);
	if ((c == '}' && open == '{') || (c == '>' && open == '<')) {
		r->p++;
		r->depth--;
		text_value_done(r);
		return TEXT_CLOSE;
	}
	if (c < 0 && !open) {
		r->state = AT_END;
		return TEXT_END;
	}
	if (c == '[')
		return text_wrong(r, TEXT_BAD, "names in [ ] (extensions, Any) are not known here");
	return text_expected(r,
	                     open == '{'   ? "a field name or '}'"
	                     : open == '<' ? "a field name or '>'"
	                                   : "a field name",
	                     c);
}

enum text_event text_next(struct text_reader *r)
{
	if (r->state == AT_STRING) {
		char rest[256];
		while (text_bytes_read(r, rest, sizeof(rest)) > 0)
			;
	}
	switch (r->state) {
	case AT_FIELD:
	case AT_SEPARATOR:
		return text_message(r);
	case AT_VALUE:
		return text_field_value(r);
	case AT_LIST_FIRST:
	case AT_LIST_NEXT:
		return text_list(r);
	case AT_END:
		return TEXT_END;
	default:
		return TEXT_ERROR;
	}
}

int text_skip(struct text_reader *r)
{
	unsigned depth = r->depth;
	do {
		if (text_next(r) == TEXT_ERROR)
			return -1;
	} while (r->depth > depth);
	return 0;
}

/* ---- strings ---- */

static int hex_value(int c)
{
	if (is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Consumes up to max digits (at least min of them) of base 8 or 16. Returns their value or -1. */
static int32_t text_digits(struct text_reader *r, int min, int max, int base)
{
	int32_t v = 0;
	for (int n = 0; n < max; n++) {
		int c = text_peek(r), d = c < 0 ? -1 : hex_value(c);
		if (d < 0 || d >= base) {
			if (n >= min)
				break;
			return text_expected(r, "a digit in an escape", c);
		}
		if (v > (INT32_MAX >> 4))
			return text_wrong(r, TEXT_BAD, "a character past U+10FFFF");
		v = v * base + d;
		r->p++;
	}
	return v;
}

static void text_spill_utf8(struct text_reader *r, int32_t u)
{
	static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
	r->spilled = u < 0x80 ? 1 : u < 0x800 ? 2 : u < 0x10000 ? 3 : 4;
	for (unsigned i = r->spilled; i-- > 1; u >>= 6)
		r->spill[i] = (unsigned char)(0x80 | (u & 0x3f));
	r->spill[0] = (unsigned char)(r->spilled == 1 ? u : lead[r->spilled] | u);
}

/* \uXXXX or \UXXXXXXXX behind its letter; two \u that are a surrogate pair make one character. */
static int text_unicode(struct text_reader *r, int digits)
{
	int32_t u = text_digits(r, digits, digits, 16);
	if (u < 0)
		return -1;
	if (u >= 0xd800 && u < 0xdc00 && digits == 4 && text_peek(r) == '\\') {
		r->p++;
		if (text_peek(r) == 'u') {
			r->p++;
			int32_t low = text_digits(r, 4, 4, 16);
			if (low < 0)
				return -1;
			if (low >= 0xdc00 && low < 0xe000)
				u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
		}
	}
	if (u >= 0xd800 && u < 0xe000)
		return text_wrong(r, TEXT_BAD, "half a surrogate pair");
	if (u > 0x10ffff)
		return text_wrong(r, TEXT_BAD, "a character past U+10FFFF");
	text_spill_utf8(r, u);
	return 0;
}

/* Decodes the escape behind a backslash into spill. Returns 0, or -1. */
static int text_escape(struct text_reader *r)
{
	static const char letters[] = "nrt\"\\'?abfv", bytes[] = "\n\r\t\"\\'?\a\b\f\v";
	int c = text_peek(r);
	int32_t v;
	if (c >= '0' && c <= '7') {
		v = text_digits(r, 1, 3, 8);
		if (v > 255)
			return text_wrong(r, TEXT_BAD, "an octal escape past \\377");
	} else if (c == 'x') {
		r->p++;
		v = text_digits(r, 1, 2, 16);
	} else if (c == 'u' || c == 'U') {
		r->p++;
		return text_unicode(r, c == 'u' ? 4 : 8);
	} else {
		const char *l = c > 0 ? strchr(letters, c) : NULL;
		if (!l)
			return text_expected(r, "a known escape", c);
		r->p++;
		v = (unsigned char)bytes[l - letters];
	}
	if (v < 0)
		return -1;
	r->spill[0] = (unsigned char)v;
	r->spilled = 1;
	return 0;
}

/* Looks for another literal behind one that ended. False when the value is complete, or failed. */
static bool text_next_literal(struct text_reader *r)
{
	int c = text_skip_space(r);
	if (c == '"' || c == '\'') {
		r->p++;
		r->quote = (char)c;
		return true;
	}
	if (r->state != AT_ERROR)
		text_value_done(r);
	return false;
}

/* Copies plain bytes of a literal, at most n. Returns how many: the input has more when that is n.
 */
static size_t text_copy_run(struct text_reader *r, char *to, size_t n)
{
	size_t have = (size_t)(r->end - r->p), i = 0;
	if (n > have)
		n = have;
	if (r->quote == '"')
		i = bytes_plain_run(r->p, n);
	while (i < n && !(class[(unsigned char)r->p[i]] & STOPS_READ))
		i++;
	memcpy(to, r->p, i);
	r->p += i;
	return i;
}

/* Takes the usual end of a line of content, CR and LF escaped, with the beginning of the literal
 * for the next line: all mail has it. Returns 2, or 0 when it is not that, or not all there. */
static size_t text_copy_line_end(struct text_reader *r, char *to, size_t n)
{
	static const char usual[] = "\\r\\n\"\n";
	const size_t len = sizeof usual - 1;
	if (n < 2 || r->quote != '"' || (size_t)(r->end - r->p) <= len ||
	    memcmp(r->p, usual, len) != 0)
		return 0;
	const char *q = r->p + len;
	while (q < r->end && *q == ' ')
		q++;
	if (q == r->end || *q != '"')
		return 0;
	to[0] = '\r';
	to[1] = '\n';
	r->p = q + 1;
	r->at_line++;
	return 2;
}

/* Handles the byte that stopped a run: one of NUL, newline, both quotes, backslash. */
static int text_stop(struct text_reader *r)
{
	char c = *r->p;
	if (c == '\0')
		return text_wrong(r, TEXT_BAD, "a NUL byte in a string");
	if (c == '\n')
		return text_wrong(r, TEXT_BAD, "a string does not end on its line");
	r->p++;
	if (c == '\\') {
		r->spill_at = 0;
		return text_escape(r);
	}
	if (c == r->quote) {
		r->quote = '\0';
		return 0;
	}
	r->spill[0] = (unsigned char)c;
	r->spill_at = 0;
	r->spilled = 1;
	return 0;
}

ssize_t text_bytes_read(struct text_reader *r, char *p, size_t n)
{
	size_t got = 0;
	while (r->state == AT_STRING && got < n) {
		if (r->spill_at < r->spilled) {
			p[got++] = (char)r->spill[r->spill_at++];
			continue;
		}
		if (!r->quote) {
			if (!text_next_literal(r))
				break;
			continue;
		}
		if (r->p == r->end && !text_refill(r)) {
			text_wrong(r, TEXT_TRUNCATED, "the input ends inside a string");
			break;
		}
		got += text_copy_run(r, p + got, n - got);
		size_t line_end = text_copy_line_end(r, p + got, n - got);
		got += line_end;
		if (line_end > 0)
			continue;
		if (got < n && r->p < r->end && text_stop(r) < 0)
			break;
	}
	return r->state == AT_ERROR ? -1 : (ssize_t)got;
}

/* ---- writing ---- */

void text_writer_init(struct text_writer *w, struct buf *out)
{
	*w = (struct text_writer){.out = out};
}

/* A line, or a part of one: name, what stands between, value, what is behind it, and the end. */
static void text_put_line(struct text_writer *w, const char *name, const char *between,
                          struct slice value, const char *behind, char end)
{
	size_t indent = w->line ? 0 : 2 * (size_t)w->depth;
	size_t name_n = strlen(name);
	size_t between_n = strlen(between);
	size_t behind_n = strlen(behind);
	size_t n = indent + name_n + between_n + value.n + behind_n + 1;
	size_t room = 0;
	char *to = w->out->failed ? NULL : buf_space(w->out, n, &room);
	if (!to || room < n) {
		w->out->failed = true;
		return;
	}
	memset(to, ' ', indent);
	memcpy(to += indent, name, name_n);
	memcpy(to += name_n, between, between_n);
	memcpy(to += between_n, value.p, value.n);
	memcpy(to += value.n, behind, behind_n);
	to[behind_n] = end;
	buf_added(w->out, n);
}

/* What ends a field. */
static char text_end(const struct text_writer *w)
{
	return w->line ? ' ' : '\n';
}

void text_put_word(struct text_writer *w, const char *name, const char *enum_name)
{
	text_put_line(w, name, ": ", slice_of(enum_name), "", text_end(w));
}

void text_put_bool(struct text_writer *w, const char *name, bool v)
{
	text_put_word(w, name, v ? "true" : "false");
}

void text_put_int(struct text_writer *w, const char *name, int64_t v)
{
	char digits[BYTES_NUMBER + 1];
	*bytes_put_number(digits, v) = '\0';
	text_put_word(w, name, digits);
}

void text_put_uint(struct text_writer *w, const char *name, uint64_t v)
{
	char digits[BYTES_NUMBER + 1];
	snprintf(digits, sizeof digits, "%" PRIu64, v);
	text_put_word(w, name, digits);
}

void text_put_string(struct text_writer *w, const char *name, const char *s)
{
	text_put_bytes(w, name, s, strlen(s));
}

void text_put_bytes(struct text_writer *w, const char *name, const void *p, size_t n)
{
	struct slice value = {p, n};
	/* Nearly all are of this kind. */
	if (bytes_plain_run(p, n) == n) {
		text_put_line(w, name, ": \"", value, "\"", text_end(w));
		return;
	}
	text_put_line(w, name, ":", (struct slice){"", 0}, "", ' ');
	text_put_literal(w->out, p, n);
	buf_putc(w->out, text_end(w));
}

void text_put_open(struct text_writer *w, const char *name, bool one_line)
{
	bool within = w->line || one_line;
	text_put_line(w, name, " {", (struct slice){"", 0}, "", within ? ' ' : '\n');
	w->depth++;
	if (one_line && !w->line)
		w->line = w->depth;
}

void text_put_close(struct text_writer *w)
{
	bool outermost = w->line == w->depth;
	w->depth--;
	text_put_line(w, "}", "", (struct slice){"", 0}, "", w->line && !outermost ? ' ' : '\n');
	if (outermost)
		w->line = 0;
}
