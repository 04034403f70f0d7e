/*
 * crc: four bytes a step (slicing by four): 4 KB of tables, made at first use. Every byte of mail
 * passes here twice, so the simple loop's rate, a third of this, would show.
 */
#include "crc.h"

#include <stdbool.h>

static uint32_t crc_table[4][256];

static void crc_init(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? 0xEDB88320U ^ (c >> 1) : c >> 1;
		crc_table[0][i] = c;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int t = 1; t < 4; t++)
			crc_table[t][i] =
			    (crc_table[t - 1][i] >> 8) ^ crc_table[0][crc_table[t - 1][i] & 0xff];
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
	for (; n >= 4; n -= 4, s += 4) {
		/* Byte by byte: the same on both byte orders and at any alignment. */
		crc ^= (uint32_t)s[0] | (uint32_t)s[1] << 8 | (uint32_t)s[2] << 16 |
		       (uint32_t)s[3] << 24;
		crc = crc_table[3][crc & 0xff] ^ crc_table[2][(crc >> 8) & 0xff] ^
		      crc_table[1][(crc >> 16) & 0xff] ^ crc_table[0][crc >> 24];
	}
	for (; n > 0; n--, s++)
		crc = crc_table[0][(crc ^ *s) & 0xff] ^ (crc >> 8);
	return ~crc;
}
