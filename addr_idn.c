/*
 * addr_idn: names beyond ASCII, through libidn2.
 *
 * Domains: IDNA2008 (RFC 5890 to 5893), after the mapping of UTS 46 for lookups, which makes one of
 * what people type: case, width, ideographic full stops, NFC. Non-transitional: the sharp s and the
 * final sigma are letters of their own. libidn2 maps, and tests what RFC 5891 5.4 asks of one that
 * looks names up: NFC, hyphens, leading combining marks, disallowed and unassigned code points,
 * ZERO WIDTH (NON-)JOINER in context, the Bidi rule within a label, A-labels that lead back to
 * themselves. What it does not do at lookups is done here: the contextual rules "O" (its test for
 * registrations has them) and the Bidi rule across the labels of a name.
 *
 * Local parts: libidn2 offers its tables in no other way than for labels of domains. The letters
 * and digits of IDNA2008 are those of the IdentifierClass of PRECIS (RFC 8264), so a word of a
 * local part is mapped and tested as if it were a label. UTS 46 maps more than width and case; what
 * PRECIS refuses there is in the table not_precis.
 *
 * The Unicode version is that of the library (libidn2 2.3.3: 12). What was assigned later is
 * refused.
 */
#include "addr_int.h"

#if WITH_IDN

#include <idn2.h>
#include <stdint.h>
#include <string.h>

enum result { GOOD, TOO_LONG, REFUSED };

/* Any form -> A-labels. */
static enum result lookup(const char *name, char *out, size_t size)
{
	uint8_t *ascii = NULL;
	enum result result = REFUSED;

	switch (
	    idn2_lookup_u8((const uint8_t *)name, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL)) {
	case IDN2_OK:
		if (addr_is_dns_name((char *)ascii) &&
		    addr_copy(out, size, (char *)ascii, strlen((char *)ascii)) == 0)
			result = GOOD;
		idn2_free(ascii);
		return result;
	case IDN2_PUNYCODE_BIG_OUTPUT:
	case IDN2_TOO_BIG_LABEL:
	case IDN2_TOO_BIG_DOMAIN:
		return TOO_LONG;
	default:
		return REFUSED;
	}
}

/* A-labels -> Unicode, not yet checked. */
static int decode(const char *ascii, char *out, size_t size)
{
	char *text = NULL;
	int rc;

	if (idn2_to_unicode_8z8z(ascii, &text, 0) != IDN2_OK)
		return -1;
	rc = addr_copy(out, size, text, strlen(text));
	idn2_free(text);
	return rc;
}

static bool is_ascii(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n && addr_char_is_ascii(s[i]))
		i++;
	return i == n;
}

/* The code point of len bytes at p, which are well-formed. */
static uint32_t code_point(const char *p, size_t len)
{
	uint32_t c = (unsigned char)p[0];
	size_t i;

	if (len > 1)
		c &= 0x7fU >> len;
	for (i = 1; i < len; i++)
		c = c << 6 | ((unsigned char)p[i] & 0x3f);
	return c;
}

struct range {
	uint32_t first, last;
};

/*
 * What UTS 46 maps or drops and PRECIS refuses: compatibility forms but for width (RFC 8264 9.17)
 * and ignorable code points (9.13); made from Unicode 14. Ranges run over what libidn2 refuses
 * anyway; such code points assigned later would be folded.
 */
static const struct range not_precis[] = {
    {0xaa, 0xb5},       {0xb9, 0xba},       {0x132, 0x133},     {0x149, 0x149},
    {0x17f, 0x17f},     {0x1c4, 0x1cc},     {0x1f1, 0x1f3},     {0x2b0, 0x2b8},
    {0x2e0, 0x2e4},     {0x34f, 0x34f},     {0x3d0, 0x3d6},     {0x3f0, 0x3f2},
    {0x3f5, 0x3f5},     {0x3f9, 0x3f9},     {0x587, 0x587},     {0x675, 0x678},
    {0xe33, 0xe33},     {0xeb3, 0xeb3},     {0xedc, 0xedd},     {0xf0c, 0xf0c},
    {0xf77, 0xf77},     {0xf79, 0xf79},     {0x10fc, 0x10fc},   {0x180b, 0x180f},
    {0x1d2c, 0x1d2e},   {0x1d30, 0x1d3a},   {0x1d3c, 0x1d4d},   {0x1d4f, 0x1d6a},
    {0x1d78, 0x1d78},   {0x1d9b, 0x1dbf},   {0x1e9a, 0x1e9b},   {0x200b, 0x200b},
    {0x2060, 0x20a8},   {0x2102, 0x2124},   {0x2128, 0x2128},   {0x212c, 0x2131},
    {0x2133, 0x2149},   {0x2160, 0x217f},   {0x2460, 0x24ea},   {0x2c7c, 0x2c7d},
    {0x2d6f, 0x2d6f},   {0x2e9f, 0x2fd5},   {0x3038, 0x303a},   {0x309f, 0x309f},
    {0x30ff, 0x30ff},   {0x3192, 0x319f},   {0x3244, 0x33ff},   {0xa69c, 0xa69d},
    {0xa770, 0xa770},   {0xa7f2, 0xa7f4},   {0xa7f8, 0xa7f9},   {0xab5c, 0xab5f},
    {0xab69, 0xab69},   {0xfb00, 0xfb17},   {0xfb20, 0xfb28},   {0xfb4f, 0xfe0f},
    {0xfe80, 0xfeff},   {0x10781, 0x107b8}, {0x1bca0, 0x1bca3}, {0x1d400, 0x1d7ff},
    {0x1ee00, 0x1fbf9}, {0xe0100, 0xe01ef},
};

/* Is a code point of s in the table, which is sorted? */
static bool has_any(const char *s, size_t n, const struct range *table, size_t count)
{
	size_t i = 0;

	while (i < n) {
		size_t len = status_utf8_len(s + i, n - i);
		size_t low = 0;
		size_t high = count;
		uint32_t c;

		if (len == 0)
			return true;
		c = code_point(s + i, len);
		while (low < high) {
			size_t middle = (low + high) / 2;

			if (c < table[middle].first)
				high = middle;
			else if (c > table[middle].last)
				low = middle + 1;
			else
				return true;
		}
		i += len;
	}
	return false;
}

/* Rule 4 of RFC 5893 2, which libidn2 does not look at: European and Arabic digits are not mixed.
 */
static bool mixes_digits(const char *s, size_t n)
{
	static const struct range european[] = {{'0', '9'}, {0x6f0, 0x6f9}};
	static const struct range arabic[] = {{0x660, 0x669}, {0x10d30, 0x10d39}};

	return has_any(s, n, arabic, sizeof(arabic) / sizeof(arabic[0])) &&
	       has_any(s, n, european, sizeof(european) / sizeof(european[0]));
}

/* Is there a code point that is written from right to left? The blocks that Unicode keeps for them
 * will do, as what is not a letter or digit there is not allowed in names; without U+06F0 to
 * U+06F9, which count as European digits. */
static bool is_rtl(const char *s, size_t n)
{
	static const struct range table[] = {{0x590, 0x6ef},     {0x6fa, 0x8ff},
	                                     {0xfb1d, 0xfdff},   {0xfe70, 0xfeff},
	                                     {0x10800, 0x10fff}, {0x1e800, 0x1efff}};

	return has_any(s, n, table, sizeof(table) / sizeof(table[0]));
}

/* Is u (n bytes) a U-label of IDNA2008 and a (m bytes) its A-label; or are they the same in ASCII?
 * The test for registrations is the strictest that libidn2 has. */
static bool is_label_pair(const char *u, size_t n, const char *a, size_t m)
{
	char label[ADDR_DOMAIN_MAX + 1];
	uint8_t *again = NULL;
	bool same;

	if (is_ascii(u, n))
		return n == m && memcmp(u, a, n) == 0;
	if (mixes_digits(u, n) || addr_copy(label, sizeof(label), u, n) != 0 ||
	    idn2_register_u8((uint8_t *)label, NULL, &again, 0) != IDN2_OK)
		return false;
	same = strlen((char *)again) == m && memcmp(again, a, m) == 0;
	idn2_free(again);
	return same;
}

/*
 * Is `unicode` what `ascii` stands for, label by label? In a name with any right-to-left label,
 * each label must begin with a letter (RFC 5893 2, rules 1 to 6 for the others follow from what is
 * allowed in names).
 */
static bool is_name_pair(const char *unicode, const char *ascii)
{
	bool rtl = is_rtl(unicode, strlen(unicode));

	for (;;) {
		size_t n = strcspn(unicode, ".");
		size_t m = strcspn(ascii, ".");

		if (!is_label_pair(unicode, n, ascii, m))
			return false;
		if (rtl && ((unicode[0] >= '0' && unicode[0] <= '9') || unicode[0] == '_'))
			return false;
		unicode += n;
		ascii += m;
		if (!*unicode || !*ascii)
			return *unicode == *ascii;
		unicode++;
		ascii++;
	}
}

int addr_idn_to_ascii(const char *name, char *out, size_t size)
{
	return lookup(name, out, size) == GOOD ? 0 : -1;
}

int addr_idn_normalise(const char *name, char *out, size_t size)
{
	char ascii[ADDR_NAME_MAX + 1];

	if (lookup(name, ascii, sizeof(ascii)) != GOOD || decode(ascii, out, size) != 0)
		return -1;
	return strlen(out) <= ADDR_DOMAIN_MAX && is_name_pair(out, ascii) ? 0 : -1;
}

/* ---- local parts ------------------------------------------------------------------------------
 */

/* A piece of a word, short enough for a label. */
static enum result piece_fold(const char *p, size_t n, char *out, size_t size)
{
	char piece[ADDR_USER_MAX + 1];
	char ascii[ADDR_NAME_MAX + 1];
	enum result result;

	if (addr_copy(piece, sizeof(piece), p, n) != 0)
		return REFUSED;
	result = lookup(piece, ascii, sizeof(ascii));
	if (result != GOOD)
		return result;
	/* Wide punctuation must not turn into the real one: that would be another address. */
	if (strpbrk(ascii, "._") || (strchr(ascii, '-') && strncmp(ascii, "xn--", 4) != 0))
		return REFUSED;
	if (decode(ascii, out, size) != 0 || strpbrk(out, "-_") || !is_name_pair(out, ascii))
		return REFUSED;
	return GOOD;
}

/* Does the character at p mean the same whatever is beside it: no combining mark, nothing that only
 * some context allows, nothing that another may be composed with? */
static bool stands_alone(const char *p, size_t len)
{
	char out[ADDR_USER_MAX + 1];

	return piece_fold(p, len, out, sizeof(out)) == GOOD;
}

/* Where the first n bytes of a word can be cut in two, as near to the middle as may be from below;
 * 0 when nowhere. */
static size_t cut(const char *word, size_t n)
{
	size_t best = 0;
	size_t at = 0;
	bool before = false;

	while (at <= n / 2) {
		size_t len = status_utf8_len(word + at, n - at);
		bool alone = stands_alone(word + at, len);

		if (at > 0 && before && alone)
			best = at;
		before = alone;
		at += len;
	}
	return best;
}

int addr_idn_fold(const char *word, size_t n, char *out, size_t size)
{
	if (has_any(word, n, not_precis, sizeof(not_precis) / sizeof(not_precis[0])))
		return -1;
	while (n > 0) {
		size_t take = n;
		enum result result = piece_fold(word, take, out, size);

		/* What is too long for a label is folded in pieces. Not from right to left: the
		 * Bidi rule looks at the whole. */
		while (result == TOO_LONG && !is_rtl(word, n)) {
			take = cut(word, take);
			result = take > 0 ? piece_fold(word, take, out, size) : REFUSED;
		}
		if (result != GOOD)
			return -1;
		size -= strlen(out);
		out += strlen(out);
		word += take;
		n -= take;
	}
	return 0;
}

#endif
