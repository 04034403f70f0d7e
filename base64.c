/*
 * base64: RFC 4648 section 4. Both ways append to a bounded buffer; decoding accepts exactly one
 * text for each value, so that what was checked is what others see.
 */
#include "base64.h"

#include <stdint.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The value of a digit, or -1. */
static int value_of(char c)
{
	const char *at = c ? strchr(digits, c) : NULL;
	return at ? (int)(at - digits) : -1;
}

/* Decodes a group of four, of which the last `padding` are '='. Returns 0, or -1. */
static int decode_group(const char *p, unsigned padding, unsigned char out[3])
{
	uint32_t v = 0;
	for (unsigned i = 0; i < 4; i++) {
		int d = i < 4 - padding ? value_of(p[i]) : 0;
		if (d < 0)
			return -1;
		v = v << 6 | (uint32_t)d;
	}
	if (v & ((1U << (8 * padding)) - 1))
		return -1;
	for (int i = 0; i < 3; i++)
		out[i] = (unsigned char)(v >> (16 - 8 * i));
	return 0;
}

int base64_decode(struct slice in, struct buf *out)
{
	size_t before = out->len;
	if (in.n % 4 != 0)
		return -1;
	for (size_t at = 0; at < in.n; at += 4) {
		unsigned char group[3];
		unsigned padding = 0;
		if (at + 4 == in.n && in.p[at + 3] == '=')
			padding = in.p[at + 2] == '=' ? 2 : 1;
		if (decode_group(in.p + at, padding, group) < 0 ||
		    buf_append(out, group, 3 - padding) < 0) {
			buf_truncate(out, before);
			return -1;
		}
	}
	return 0;
}

int base64_encode(struct slice in, struct buf *out)
{
	for (size_t at = 0; at < in.n; at += 3) {
		char group[4] = "====";
		size_t n = in.n - at < 3 ? in.n - at : 3;
		uint32_t v = 0;
		for (size_t i = 0; i < 3; i++)
			v = v << 8 | (i < n ? (unsigned char)in.p[at + i] : 0U);
		for (size_t i = 0; i <= n; i++)
			group[i] = digits[v >> (18 - 6 * i) & 63];
		if (buf_append(out, group, 4) < 0)
			return -1;
	}
	return 0;
}
