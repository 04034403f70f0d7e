/*
 * crc: eight bytes a step (slicing by eight): 8 KB of tables, made at first use. Every byte of mail
 * passes here twice; the simple loop, with one table, would take four times as long.
 */
#include "crc.h"

#include <stdbool.h>

static uint32_t crc_table[8][256];

static void crc_init(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? 0xEDB88320U ^ (c >> 1) : c >> 1;
		crc_table[0][i] = c;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int t = 1; t < 8; t++)
			crc_table[t][i] =
			    (crc_table[t - 1][i] >> 8) ^ crc_table[0][crc_table[t - 1][i] & 0xff];
}

/* Byte by byte: the same on both byte orders and at any alignment. */
static uint32_t crc_word(const unsigned char *s)
{
	return (uint32_t)s[0] | (uint32_t)s[1] << 8 | (uint32_t)s[2] << 16 | (uint32_t)s[3] << 24;
}

/* What four bytes that are followed by four bytes of table `t` and on come to. */
static uint32_t crc_four(uint32_t w, int t)
{
	return crc_table[t + 3][w & 0xff] ^ crc_table[t + 2][(w >> 8) & 0xff] ^
	       crc_table[t + 1][(w >> 16) & 0xff] ^ crc_table[t][w >> 24];
}

uint32_t crc_add(uint32_t crc, const void *p, size_t n)
{
	static bool ready;
	const unsigned char *s = p;
	if (!ready) {
		crc_init();
		ready = true;
	}
	crc = ~crc;
	for (; n >= 8; n -= 8, s += 8)
		crc = crc_four(crc ^ crc_word(s), 4) ^ crc_four(crc_word(s + 4), 0);
	for (; n > 0; n--, s++)
		crc = crc_table[0][(crc ^ *s) & 0xff] ^ (crc >> 8);
	return ~crc;
}
