/*
 * text_literal: bytes as literals of the text format, and as UTF-8.
 *
 * A literal shows what a person can read, UTF-8 too, and escapes the rest: any bytes come back as
 * they were, on any terminal.
 */
#include "text.h"

#include <string.h>

#include "bytes.h"

/* Length of the well-formed UTF-8 sequence of two bytes or more at p, 0 when there is none. */
static size_t utf8_sequence(const unsigned char *p, size_t n)
{
	unsigned c = p[0];
	size_t len = c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
	if (len == 0 || n < len)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	bool overlong = (c == 0xe0 && p[1] < 0xa0) || (c == 0xf0 && p[1] < 0x90);
	bool surrogate = c == 0xed && p[1] >= 0xa0;
	bool too_big = c == 0xf4 && p[1] >= 0x90;
	return overlong || surrogate || too_big ? 0 : len;
}

bool text_is_utf8(const void *p, size_t n)
{
	const unsigned char *s = p, *end = s + n;
	while (s < end) {
		size_t len = *s < 0x80 ? 1 : utf8_sequence(s, (size_t)(end - s));
		if (len == 0)
			return false;
		s += len;
	}
	return true;
}

/* U+0080 to U+009F: control characters that would act on a terminal. */
static bool utf8_is_control(const unsigned char *p, size_t len)
{
	return len == 2 && p[0] == 0xc2 && p[1] < 0xa0;
}

/* What stands behind the backslash for it; NUL: its digits. */
static char text_simple_escape(unsigned char c)
{
	switch (c) {
	case '\n':
		return 'n';
	case '\r':
		return 'r';
	case '\t':
		return 't';
	case '"':
	case '\\':
		return (char)c;
	default:
		return '\0';
	}
}

/* Writes the escape for what is at p. Returns how many bytes of it that covers. */
static size_t text_put_escape(struct buf *b, const unsigned char *p, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	char out[6] = {'\\', text_simple_escape(p[0])};
	size_t used = 1, len = 2;
	if (!out[1] && p[0] >= 0x80 && utf8_is_control(p, utf8_sequence(p, n))) {
		memcpy(out + 1, "u00", 3);
		out[4] = hex[p[1] >> 4];
		out[5] = hex[p[1] & 15];
		used = 2;
		len = 6;
	} else if (!out[1]) {
		out[1] = 'x';
		out[2] = hex[p[0] >> 4];
		out[3] = hex[p[0] & 15];
		len = 4;
	}
	buf_append(b, out, len);
	return used;
}

int text_put_literal(struct buf *b, const void *data, size_t n)
{
	const unsigned char *p = data, *end = p + n, *run = p;
	buf_putc(b, '"');
	for (;;) {
		p += bytes_plain_run(p, (size_t)(end - p));
		if (p == end)
			break;
		size_t len = *p < 0x80 ? 0 : utf8_sequence(p, (size_t)(end - p));
		if (len && !utf8_is_control(p, len)) {
			p += len;
			continue;
		}
		if (p > run)
			buf_append(b, run, (size_t)(p - run));
		p += text_put_escape(b, p, (size_t)(end - p));
		run = p;
	}
	if (p > run)
		buf_append(b, run, (size_t)(p - run));
	buf_putc(b, '"');
	return b->failed ? -1 : 0;
}

size_t text_put_plain_lines(struct buf *b, const char *p, size_t n, size_t most)
{
	static const char begin[] = "  \"\\t", end[] = "\\r\\n\"\n";
	const size_t more = sizeof begin - 1 + sizeof end - 1 - 2;
	size_t took = 0;
	size_t room;
	char *to = b->failed ? NULL : buf_space(b, n + n / 8 + more, &room);
	char *from = to;
	while (to && n - took >= 2) {
		size_t left = n - took < most ? n - took : most;
		size_t tab = p[took] == '\t'; /* a folded line of a header */
		size_t run = bytes_plain_run(p + took + tab, left - tab);
		size_t line = tab + run + 2;
		bool whole =
		    line <= left && p[took + line - 2] == '\r' && p[took + line - 1] == '\n';
		if (!whole || (size_t)(to - from) + line + more > room)
			break;
		memcpy(to, begin, sizeof begin - 1);
		to += tab ? 5 : 3;
		memcpy(to, p + took + tab, run);
		memcpy(to + run, end, sizeof end - 1);
		to += run + sizeof end - 1;
		took += line;
	}
	if (to)
		buf_added(b, (size_t)(to - from));
	return took;
}

int text_put_literal_line(struct buf *b, const void *data, size_t n)
{
	buf_append(b, "  ", 2);
	text_put_literal(b, data, n);
	return buf_putc(b, '\n');
}
