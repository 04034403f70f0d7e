/*
 * bytes: all mail passes here, so these look at a word of bytes a step. Words are copied out of the
 * text, never cast: any alignment and either byte order will do. Where a byte of a word matches, a
 * borrow may make others look as if they did: so words only tell that there is one, never which.
 * Where the processor compares 16 bytes at once, that is done, and which it is is seen, too.
 */
#include "bytes.h"

#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "config.h"

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

#if BYTES_WIDE && (defined(__SSE2__) || (defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)))
#define BYTES_VECTOR 16

typedef signed char bytes_vector __attribute__((vector_size(BYTES_VECTOR)));

static bytes_vector bytes_load(const unsigned char *s)
{
	bytes_vector v;
	memcpy(&v, s, sizeof v);
	return v;
}

#if defined(__SSE2__)
/* The place of the first byte that is not 0 (then it is -1); BYTES_VECTOR: there is none. */
static size_t bytes_first(bytes_vector v)
{
	unsigned bits = (unsigned)_mm_movemask_epi8((__m128i)v);
	return bits ? (size_t)__builtin_ctz(bits) : BYTES_VECTOR;
}
#else
static size_t bytes_first(bytes_vector v)
{
	uint64_t half[2];
	memcpy(half, &v, sizeof half);
	if (half[0])
		return (size_t)__builtin_ctzll(half[0]) / 8;
	return half[1] ? 8 + (size_t)__builtin_ctzll(half[1]) / 8 : BYTES_VECTOR;
}
#endif

/* Adds what runs on, by whole vectors, to *i. True when it ends there. */
static bool bytes_plain_vectors(const unsigned char *s, size_t n, size_t *i)
{
	size_t at = BYTES_VECTOR;
	for (; at == BYTES_VECTOR && n - *i >= BYTES_VECTOR; *i += at) {
		bytes_vector v = bytes_load(s + *i);
		/* They are signed: those from 0x80 on are less than a blank, too. */
		at = bytes_first((v < ' ') | (v == 127) | (v == '"') | (v == '\\'));
	}
	return at < BYTES_VECTOR;
}

static bool bytes_line_vectors(const unsigned char *s, size_t n, size_t *i)
{
	size_t at = BYTES_VECTOR;
	for (; at == BYTES_VECTOR && n - *i >= BYTES_VECTOR; *i += at) {
		bytes_vector v = bytes_load(s + *i);
		at = bytes_first((v == '\r') | (v == '\n'));
	}
	return at < BYTES_VECTOR;
}
#else
static bool bytes_plain_vectors(const unsigned char *s, size_t n, size_t *i)
{
	(void)s;
	(void)n;
	(void)i;
	return false;
}

static bool bytes_line_vectors(const unsigned char *s, size_t n, size_t *i)
{
	(void)s;
	(void)n;
	(void)i;
	return false;
}
#endif

size_t bytes_line_run(const void *p, size_t n)
{
	const unsigned char *s = p;
	size_t i = 0;
	if (bytes_line_vectors(s, n, &i))
		return i;
	/* The LF first: in good mail it bounds the search for the CR to one line. */
	const unsigned char *lf = n > i ? memchr(s + i, '\n', n - i) : NULL;
	if (lf)
		n = (size_t)(lf - s);
	const unsigned char *cr = n > i ? memchr(s + i, '\r', n - i) : NULL;
	return cr ? (size_t)(cr - s) : n;
}

size_t bytes_plain_run(const void *p, size_t n)
{
	const unsigned char *s = p;
	size_t i = 0;
	size_t w;
	if (bytes_plain_vectors(s, n, &i))
		return i;
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
	if (n >= 0 && n <= 9) {
		*p = (char)('0' + n);
		return p + 1;
	}
	uint64_t left = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
	for (; left > UINT32_MAX; left /= 10)
		*--first = (char)('0' + left % 10);
	/* Half a processor's word can be a tenth of the cost. */
	uint32_t few = (uint32_t)left;
	do
		*--first = (char)('0' + few % 10);
	while ((few /= 10) > 0);
	if (n < 0)
		*--first = '-';
	size_t len = (size_t)(digits + sizeof digits - first);
	memcpy(p, first, len);
	return p + len;
}
