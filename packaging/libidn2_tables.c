/*
 * libidn2_tables: the tables of Unicode inside libidn2, smaller, for a static program.
 *
 * What libunistring holds for any program, libidn2 asks for a part of: of scripts only the five
 * that rules of IDNA2008 name, of categories only the marks and format characters that joining
 * looks through, of decompositions only the canonical ones. This program runs where libidn2 is
 * made, in its directory "unistring", between configure and make. It reads the tables in the
 * library's headers and writes the headers again, in their own format and without what nothing asks
 * for; equal blocks become one, and blocks get the size that costs least. The library's code stays
 * as it is. Before it writes, it looks up each code point in the new table. For libidn2 2.3.3 and
 * others with the same format of headers; with another it does not compile.
 *
 *     cc -I. -o libidn2_tables libidn2_tables.c && ./libidn2_tables
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the headers expect of those that include them. */
typedef uint32_t ucs4_t;
typedef struct {
	unsigned int code : 21, start : 1, end : 1;
} uc_interval_t;
typedef struct {
	unsigned int nintervals;
	const uc_interval_t *intervals;
	const char *name;
} uc_script_t;

#include "unictype/bidi_of.h"
#include "unictype/categ_of.h"
#include "unictype/combiningclass.h"
#include "unictype/joiningtype_of.h"
#include "unictype/scripts.h"
#include "uninorm/decomposition-table1.h"
#include "uninorm/decomposition-table2.h"

#define POINTS 0x110000

/* Where in the last level of a table the value of a code point is, or -1. */
#define PLACE(table, header, c)                                                 \
	((c) >> header##_0 >= header##_1 || table.level1[(c) >> header##_0] < 0 \
	     ? -1                                                               \
	     : place(table.level2[(unsigned)table.level1[(c) >> header##_0] +   \
	                          (((c) >> header##_2) & header##_3)],          \
	             (int)((c)&header##_4)))

static int place(int block, int in_block)
{
	return block < 0 ? -1 : block + in_block;
}

/* Value number i of those with `bits` each: of 5, packed into words of 16; of 4, into bytes. */
static unsigned packed(const void *values, int bits, int i)
{
	const uint16_t *words = values;
	const uint8_t *bytes = values;

	if (bits == 5)
		return ((words[i * 5 >> 4] | (uint32_t)words[(i * 5 >> 4) + 1] << 16) >>
		        (i * 5 % 16)) &
		       0x1f;
	return bits == 4 ? (bytes[i >> 1] >> (i % 2 * 4)) & 0xfU : bits == 8 ? bytes[i] : words[i];
}

/* ---- what libidn2 asks for, a function a table ---- */

static unsigned bidi(ucs4_t c)
{
	int i = PLACE(u_bidi_category, bidi_category_header, c);

	return i < 0 ? 0 : packed(u_bidi_category.level3, 5, i);
}

/* Bits of UC_CATEGORY_MASK_: Mn, Me and Cf; Cn for all others. */
static unsigned category(ucs4_t c)
{
	int i = PLACE(u_category, category_header, c);
	unsigned value = i < 0 ? 29 : packed(u_category.level3, 5, i);

	return value == 5 || value == 7 || value == 26 ? value : 29;
}

static unsigned combining(ucs4_t c)
{
	int i = PLACE(u_combclass, combclass_header, c);

	return i < 0 ? 0 : u_combclass.level3[i];
}

static unsigned joining(ucs4_t c)
{
	int i = PLACE(u_joining_type, joining_type_header, c);

	return i < 0 ? 0xf : packed(u_joining_type.level3, 4, i);
}

static const char *const script_names[] = {"Greek", "Hebrew", "Hiragana", "Katakana", "Han"};
#define SCRIPTS ((unsigned)(sizeof(script_names) / sizeof(script_names[0])))

static unsigned script(ucs4_t c)
{
	int i = PLACE(u_script, script_header, c);
	unsigned n = 0;

	if (i < 0 || u_script.level3[i] == 0xff)
		return 0xff;
	while (n < SCRIPTS && strcmp(scripts[u_script.level3[i]].name, script_names[n]) != 0)
		n++;
	return n < SCRIPTS ? n : 0xff;
}

/* The canonical decompositions, and the place of each in them, by its place in the old table. */
static uint8_t elements[sizeof(gl_uninorm_decomp_chars_table)];
static size_t elements_used;
static uint16_t moved[sizeof(gl_uninorm_decomp_chars_table)];

static unsigned decomposition(ucs4_t c)
{
	int i = PLACE(gl_uninorm_decomp_index_table, decomp_header, c);
	unsigned old = i < 0 ? 0xffff : gl_uninorm_decomp_index_table.level3[i];
	const uint8_t *p;

	if (old >= 0x8000)
		return 0xffff;
	if (moved[old] == 0) {
		moved[old] = (uint16_t)(elements_used / 3 + 1);
		p = &gl_uninorm_decomp_chars_table[3 * old];
		/* The highest bit: another element follows. */
		do {
			memcpy(elements + elements_used, p, 3);
			elements_used += 3;
			p += 3;
		} while (p[-3] & 0x80);
	}
	return moved[old] - 1U;
}

/* ---- tables of three levels ---- */

struct table {
	const char *path, *header, *type, *name;
	int bits;
	unsigned none;
	unsigned (*value)(ucs4_t c);
};

/* A table as it is to be written: code points of 1 << p a block of the last level, of 1 << (p + q)
 * a block of the middle one. -1 stands for a block of nothing. */
struct levels {
	int p, q;
	int count[3];
	int level1[POINTS], level2[POINTS];
	uint16_t level3[POINTS];
};

static uint16_t values[POINTS];

/* Where in `all`, `*count` long, the block of n is: found, or put at the end. */
static int block_put(void *all, int *count, const void *block, int n, size_t size)
{
	char *p = all;
	int i;

	for (i = 0; i < *count; i += n)
		if (memcmp(p + (size_t)i * size, block, (size_t)n * size) == 0)
			return i;
	memcpy(p + (size_t)i * size, block, (size_t)n * size);
	*count += n;
	return i;
}

static void levels_make(struct levels *l, int p, int q, unsigned none)
{
	static uint16_t empty[POINTS];
	static int row[POINTS];
	int c, i;

	memset(l->count, 0, sizeof(l->count));
	l->p = p;
	l->q = q;
	for (i = 0; i < 1 << p; i++)
		empty[i] = (uint16_t)none;
	for (c = 0; c < POINTS; c += 1 << (p + q)) {
		bool any = false;

		for (i = 0; i < 1 << q; i++) {
			const uint16_t *block = values + c + (i << p);

			row[i] =
			    memcmp(block, empty, sizeof(*block) << p) == 0
			        ? -1
			        : block_put(l->level3, &l->count[2], block, 1 << p, sizeof(*block));
			any |= row[i] >= 0;
		}
		l->level1[c >> (p + q)] =
		    any ? block_put(l->level2, &l->count[1], row, 1 << q, sizeof(*row)) : -1;
		if (any)
			l->count[0] = (c >> (p + q)) + 1;
	}
}

/* Bytes, with levels of short. */
static int levels_size(const struct levels *l, int bits)
{
	return 2 * (l->count[0] + l->count[1]) + (l->count[2] * bits + 7) / 8;
}

static void levels_check(const struct levels *l, const struct table *t)
{
	ucs4_t c;

	for (c = 0; c < POINTS; c++) {
		int high = (int)(c >> (l->p + l->q));
		int row = high < l->count[0] ? l->level1[high] : -1;
		int at = row < 0 ? -1 : l->level2[row + (int)((c >> l->p) & ((1U << l->q) - 1))];

		if ((at < 0 ? t->none : l->level3[at + (int)(c & ((1U << l->p) - 1))]) !=
		    t->value(c)) {
			fprintf(stderr, "libidn2_tables: %s: wrong at %04x\n", t->path,
			        (unsigned)c);
			exit(1);
		}
	}
}

/* ---- writing ---- */

static FILE *header_open(const char *path)
{
	FILE *f = fopen(path, "w");

	if (!f) {
		perror(path);
		exit(1);
	}
	return f;
}

static void header_close(FILE *f, const char *path)
{
	if (fclose(f) != 0) {
		perror(path);
		exit(1);
	}
}

/* The last level, `bits` a value. Five bits a value are read across the end of a word. */
static void values_write(FILE *f, const struct levels *l, int bits)
{
	uint32_t pending = 0;
	int unit = bits == 4 || bits == 8 ? 8 : 16;
	int held = 0;
	int i;

	for (i = 0; i < l->count[2]; i++) {
		pending |= (uint32_t)l->level3[i] << held;
		for (held += bits; held >= unit; held -= unit) {
			fprintf(f, "%u,\n", (unsigned)(pending & ((1U << unit) - 1)));
			pending >>= unit;
		}
	}
	fprintf(f, "%u\n", (unsigned)pending);
}

static void table_write(FILE *f, const struct table *t, const struct levels *l, bool declared)
{
	int i;

	if (!declared)
		fprintf(f, "static const %s %s =\n", t->type, t->name);
	else
		fprintf(f, "const %s %s =\n", t->type, t->name);
	fprintf(f, "{ {\n");
	for (i = 0; i < l->count[0]; i++)
		fprintf(f, "%d,\n", l->level1[i]);
	fprintf(f, "}, {\n");
	for (i = 0; i < l->count[1]; i++)
		fprintf(f, "%d,\n", l->level2[i]);
	fprintf(f, "}, {\n");
	values_write(f, l, t->bits);
	fprintf(f, "} };\n");
}

static void type_write(FILE *f, const struct table *t, const struct levels *l)
{
	int unit = t->bits == 4 || t->bits == 8 ? 8 : 16;

	fprintf(f, "#define %s_0 %d\n#define %s_1 %d\n", t->header, l->p + l->q, t->header,
	        l->count[0]);
	fprintf(f, "#define %s_2 %d\n#define %s_3 %d\n#define %s_4 %d\n", t->header, l->p,
	        t->header, (1 << l->q) - 1, t->header, (1 << l->p) - 1);
	fprintf(
	    f,
	    "typedef struct { short level1[%d]; short level2[%d]; unsigned %s level3[%d]; } %s;\n",
	    l->count[0], l->count[1], unit == 8 ? "char" : "short",
	    l->count[2] * t->bits / unit + 1, t->type);
}

/* Five of the library's entries, without lists of code points: those are for who asks by name. */
static void scripts_write(FILE *f)
{
	size_t i;

	fprintf(f, "static const uc_script_t scripts[] = {\n");
	for (i = 0; i < SCRIPTS; i++)
		fprintf(f, "{ 0, 0, \"%s\" },\n", script_names[i]);
	fprintf(f, "};\n");
}

static void elements_write(FILE *f)
{
	size_t i;

	fprintf(f, "const unsigned char gl_uninorm_decomp_chars_table[] = {\n");
	for (i = 0; i < elements_used; i++)
		fprintf(f, "%u,\n", (unsigned)elements[i]);
	fprintf(f, "};\n");
}

static void table_make(const struct table *t)
{
	static struct levels try, best;
	bool found = false;
	ucs4_t c;
	FILE *f;

	for (c = 0; c < POINTS; c++)
		values[c] = (uint16_t)t->value(c);
	/* 17 planes are no power of two: no block is larger than a plane. */
	for (int p = 4; p <= 8; p++)
		for (int q = 3; p + q <= 16; q++) {
			levels_make(&try, p, q, t->none);
			if (!found || levels_size(&try, t->bits) < levels_size(&best, t->bits))
				best = try;
			found = true;
		}
	levels_check(&best, t);

	f = header_open(t->path);
	fprintf(f, "/* Written by libidn2_tables. */\n");
	if (t->value == script)
		scripts_write(f);
	type_write(f, t, &best);
	if (t->value != decomposition) {
		table_write(f, t, &best, false);
	} else {
		const char *second = "uninorm/decomposition-table2.h";

		fprintf(f, "extern const unsigned char gl_uninorm_decomp_chars_table[];\n");
		fprintf(f, "extern const %s %s;\n", t->type, t->name);
		header_close(f, t->path);
		f = header_open(second);
		elements_write(f);
		table_write(f, t, &best, true);
	}
	header_close(f, t->path);
	printf("%s: %d bytes\n", t->path, levels_size(&best, t->bits));
}

int main(void)
{
	static const struct table tables[] = {
	    {"unictype/bidi_of.h", "bidi_category_header", "bidi_table", "u_bidi_category", 5, 0,
	     bidi},
	    {"unictype/categ_of.h", "category_header", "category_table", "u_category", 5, 29,
	     category},
	    {"unictype/combiningclass.h", "combclass_header", "combclass_table", "u_combclass", 8,
	     0, combining},
	    {"unictype/joiningtype_of.h", "joining_type_header", "joining_table", "u_joining_type",
	     4, 0xf, joining},
	    {"unictype/scripts.h", "script_header", "script_table", "u_script", 8, 0xff, script},
	    {"uninorm/decomposition-table1.h", "decomp_header", "decomp_index_table_t",
	     "gl_uninorm_decomp_index_table", 16, 0xffff, decomposition},
	};
	size_t i;

	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		table_make(&tables[i]);
	return 0;
}
