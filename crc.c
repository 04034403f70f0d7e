/*
 * crc: eight bytes a step (slicing by eight): 8 KB of tables, made at first use. Every byte of mail
 * passes here twice; the simple loop, with one table, would take many times as long.
 *
 * A step waits for the one before it, most of its time. So of a long text the two halves of a block
 * are gone through side by side, and the first is then moved past the second: what a checksum
 * becomes behind CRC_LANE zero bytes is linear in its bits, and 32 words tell it.
 */
#include "crc.h"

#include <stdbool.h>

/* Bytes of half a block. */
#define CRC_LANE 512

static uint32_t crc_table[8][256];
static uint32_t crc_moved[32]; /* each bit of a checksum, CRC_LANE zero bytes later */

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
	for (int bit = 0; bit < 32; bit++) {
		uint32_t c = UINT32_C(1) << bit;
		for (int i = 0; i < CRC_LANE; i++)
			c = crc_table[0][c & 0xff] ^ (c >> 8);
		crc_moved[bit] = c;
	}
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

static uint32_t crc_eight(uint32_t crc, const unsigned char *s)
{
	return crc_four(crc ^ crc_word(s), 4) ^ crc_four(crc_word(s + 4), 0);
}

static uint32_t crc_block(uint32_t crc, const unsigned char *s)
{
	uint32_t second = 0;
	for (size_t i = 0; i < CRC_LANE; i += 8) {
		crc = crc_eight(crc, s + i);
		second = crc_eight(second, s + CRC_LANE + i);
	}
	for (int bit = 0; crc; bit++, crc >>= 1)
		if (crc & 1)
			second ^= crc_moved[bit];
	return second;
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
	for (; n >= (size_t)2 * CRC_LANE; n -= (size_t)2 * CRC_LANE, s += 2 * CRC_LANE)
		crc = crc_block(crc, s);
	for (; n >= 8; n -= 8, s += 8)
		crc = crc_eight(crc, s);
	for (; n > 0; n--, s++)
		crc = crc_table[0][(crc ^ *s) & 0xff] ^ (crc >> 8);
	return ~crc;
}
