/*
 * crc: eight bytes a step (slicing by eight): 8 KB of tables, made at first use. Every byte of mail
 * passes here twice; the simple loop, with one table, would take many times as long.
 *
 * A step waits for the one before it, most of its time. So of a long text the two halves of a block
 * are gone through side by side, and the first is then moved past the second: what a checksum
 * becomes behind CRC_LANE zero bytes is linear in its bits, and 32 words tell it.
 *
 * Most processors can do better, and say so at run time: ARM of 64 bits has an instruction for
 * eight bytes of just this checksum; x86 multiplies polynomials, which folds 64 bytes a step, or
 * 16, into as many that have the same checksum.
 */
#include "crc.h"

#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <wmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "config.h"

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

/* Takes n bytes into a checksum that is complemented. */
static uint32_t crc_table_add(uint32_t crc, const unsigned char *s, size_t n)
{
	for (; n >= (size_t)2 * CRC_LANE; n -= (size_t)2 * CRC_LANE, s += 2 * CRC_LANE)
		crc = crc_block(crc, s);
	for (; n >= 8; n -= 8, s += 8)
		crc = crc_eight(crc, s);
	for (; n > 0; n--, s++)
		crc = crc_table[0][(crc ^ *s) & 0xff] ^ (crc >> 8);
	return crc;
}

/* ---- by the processor ---- */

#if CRC_MACHINE && defined(__x86_64__)
#define CRC_BLOCK 16

static bool crc_has_machine(void)
{
	/* The compiler's own way to ask is 5 KB. */
	const unsigned pclmul = 1U << 1;
	unsigned a, b, c, d;
	return __get_cpuid(1, &a, &b, &c, &d) && (c & pclmul);
}

static __m128i crc_load(const unsigned char *s)
{
	return _mm_loadu_si128((const __m128i *)(const void *)s);
}

/* x moved as far as the factors say (x^n modulo the polynomial, bits reversed), and y added. */
__attribute__((target("pclmul"))) static __m128i crc_fold(__m128i x, __m128i factors, __m128i y)
{
	return _mm_xor_si128(y, _mm_xor_si128(_mm_clmulepi64_si128(x, factors, 0x00),
	                                      _mm_clmulepi64_si128(x, factors, 0x11)));
}

/* n is a multiple of CRC_BLOCK. Four lanes of 128 bits, 512 bits further with each step, as long as
 * there is so much. */
__attribute__((target("pclmul"))) static uint32_t crc_machine(uint32_t crc, const unsigned char *s,
                                                              size_t n)
{
	const __m128i by_512 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4); /* x^480, x^544 */
	const __m128i by_128 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0); /* x^96, x^160 */
	const unsigned char *end = s + n;
	unsigned char left[CRC_BLOCK];
	__m128i x[4];
	x[0] = _mm_xor_si128(crc_load(s), _mm_cvtsi32_si128((int)crc));
	s += CRC_BLOCK;
	if (n >= sizeof x) {
		for (int i = 1; i < 4; i++, s += CRC_BLOCK)
			x[i] = crc_load(s);
		for (; (size_t)(end - s) >= sizeof x; s += sizeof x)
			for (int i = 0; i < 4; i++)
				x[i] = crc_fold(x[i], by_512, crc_load(s + CRC_BLOCK * i));
		for (int i = 1; i < 4; i++)
			x[0] = crc_fold(x[0], by_128, x[i]);
	}
	for (; s < end; s += CRC_BLOCK)
		x[0] = crc_fold(x[0], by_128, crc_load(s));
	memcpy(left, &x[0], sizeof left);
	return crc_table_add(0, left, sizeof left);
}
#elif CRC_MACHINE && defined(__aarch64__) && defined(__linux__)
#define CRC_BLOCK 8

static bool crc_has_machine(void)
{
	return getauxval(AT_HWCAP) & HWCAP_CRC32;
}

/* n is a multiple of CRC_BLOCK. */
static uint32_t crc_machine(uint32_t crc, const unsigned char *s, size_t n)
{
	for (; n > 0; n -= CRC_BLOCK, s += CRC_BLOCK) {
		uint64_t w = (uint64_t)crc_word(s) | (uint64_t)crc_word(s + 4) << 32;
		__asm__(".arch_extension crc\n\tcrc32x %w0, %w0, %1" : "+r"(crc) : "r"(w));
	}
	return crc;
}
#else
#define CRC_BLOCK 8

static bool crc_has_machine(void)
{
	return false;
}

static uint32_t crc_machine(uint32_t crc, const unsigned char *s, size_t n)
{
	return crc_table_add(crc, s, n);
}
#endif

uint32_t crc_add(uint32_t crc, const void *p, size_t n)
{
	static bool ready, machine;
	const unsigned char *s = p;
	if (!ready) {
		crc_init();
		machine = crc_has_machine();
		ready = true;
	}
	size_t first = machine ? n - n % CRC_BLOCK : 0;
	crc = ~crc;
	if (first > 0) {
		crc = crc_machine(crc, s, first);
		s += first; /* where it is not, they may be NULL */
	}
	return ~crc_table_add(crc, s, n - first);
}
