/*
 * bytes: all mail passes here, so these look at a word of bytes a step. Words are copied out of the
 * text, never cast: any alignment and either byte order will do. Where a byte of a word matches, a
 * borrow may make others look as if they did: so words only tell that there is one, never which.
 */
#include "bytes.h"

#include <string.h>

/* A byte in all places of a word. */
#define EVERY(byte) ((size_t)-1 / 255 * (byte))

static bool bytes_is_plain(unsigned char c)
{
	return c >= ' ' && c <= '~' && c != '"' && c != '\\';
}

/* Each term has the high bit of a byte that is not plain: 0x80 and up; DEL; controls; '"'; '\'. */
static bool bytes_word_is_plain(size_t w)
{
	size_t odd = w | (w + EVERY(1)) | (w - EVERY(' '));
	odd |= ((w ^ EVERY('"')) - EVERY(1)) | ((w ^ EVERY('\\')) - EVERY(1));
	return (odd & EVERY(0x80)) == 0;
}

size_t bytes_plain_run(const void *p, size_t n)
{
	const unsigned char *s = p;
	size_t i = 0;
	size_t w;
	for (; n - i >= sizeof w; i += sizeof w) {
		memcpy(&w, s + i, sizeof w);
		if (!bytes_word_is_plain(w))
			break;
	}
	while (i < n && bytes_is_plain(s[i]))
		i++;
	return i;
}

size_t bytes_print_run(const void *p, size_t n)
{
	const unsigned char *s = p;
	size_t i = 0;
	size_t w;
	for (; n - i >= sizeof w; i += sizeof w) {
		memcpy(&w, s + i, sizeof w);
		if (((w | (w + EVERY(1)) | (w - EVERY(' '))) & EVERY(0x80)) != 0)
			break;
	}
	while (i < n && s[i] >= ' ' && s[i] <= '~')
		i++;
	return i;
}

bool bytes_have_8bit(const void *p, size_t n)
{
	const unsigned char *s = p;
	size_t all = 0;
	size_t w;
	for (; n >= sizeof w; n -= sizeof w, s += sizeof w) {
		memcpy(&w, s, sizeof w);
		all |= w;
	}
	for (; n > 0; n--, s++)
		all |= *s & 0x80U;
	return (all & EVERY(0x80)) != 0;
}

char *bytes_put(char *p, const char *s)
{
	size_t n = strlen(s);
	memcpy(p, s, n);
	return p + n;
}

char *bytes_put_number(char *p, int64_t n)
{
	char digits[BYTES_NUMBER];
	char *first = digits + sizeof digits;
	uint64_t left = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
	do
		*--first = (char)('0' + left % 10);
	while ((left /= 10) > 0);
	if (n < 0)
		*--first = '-';
	size_t len = (size_t)(digits + sizeof digits - first);
	memcpy(p, first, len);
	return p + len;
}
