/*
 * cli_table: text and tables for a terminal.
 *
 * Addresses and replies come from strangers: nothing is printed that a terminal would obey, and
 * what turns the direction of text (Unicode's bidirectional controls) could make a line read as
 * another. Widths are counted here, not by the C library, whose answer depends on the locale.
 * Memory is bounded: rows are kept until the columns' widths are settled, later ones are printed as
 * they come.
 */
#include "cli_table.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "status.h"

#define GAP 2 /* blanks between columns */

/* ---- the terminal ---- */

bool cli_on_terminal(void)
{
	return isatty(STDOUT_FILENO);
}

size_t cli_width(void)
{
	struct winsize w = {.ws_col = 0};
	if (!cli_on_terminal() || ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col == 0)
		return CLI_WIDTH;
	return w.ws_col < CLI_WIDTH_MIN ? CLI_WIDTH_MIN : w.ws_col;
}

const char *cli_style(enum cli_style style)
{
	static const char *const sequence[] = {
	    [CLI_PLAIN] = "\033[0m", [CLI_BOLD] = "\033[1m",  [CLI_DIM] = "\033[2m",
	    [CLI_GOOD] = "\033[32m", [CLI_WARN] = "\033[33m", [CLI_BAD] = "\033[31m"};
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
	if (!cli_on_terminal() || (no && *no) || !term || !*term || strcmp(term, "dumb") == 0)
		return "";
	return sequence[style];
}

/* ---- characters ---- */

struct range {
	uint32_t first, last;
};

static bool in_ranges(const struct range *r, size_t count, uint32_t c)
{
	for (size_t i = 0; i < count; i++)
		if (c >= r[i].first && c <= r[i].last)
			return true;
	return false;
}

/* Controls, and what has no form of its own but changes that of others: C0, C1, soft hyphen, Arabic
 * letter mark, zero-width and bidirectional characters, separators, interlinear marks, tags. */
static const struct range harmful[] = {{0, 0x1f},        {0x7f, 0x9f},     {0xad, 0xad},
                                       {0x61c, 0x61c},   {0x180e, 0x180e}, {0x200b, 0x200f},
                                       {0x2028, 0x202e}, {0x2060, 0x206f}, {0xfeff, 0xfeff},
                                       {0xfff9, 0xfffc}, {0xfffe, 0xffff}, {0xe0000, 0xe0fff}};

/* Combining marks of the scripts that are seen in addresses. */
static const struct range combining[] = {
    {0x300, 0x36f},   {0x483, 0x489},   {0x591, 0x5bd},   {0x5bf, 0x5bf},    {0x5c1, 0x5c2},
    {0x610, 0x61a},   {0x64b, 0x65f},   {0x670, 0x670},   {0x6d6, 0x6dc},    {0x900, 0x902},
    {0x93c, 0x93c},   {0x941, 0x948},   {0x94d, 0x94d},   {0xe31, 0xe31},    {0xe34, 0xe3a},
    {0xe47, 0xe4e},   {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x20d0, 0x20ff},  {0x302a, 0x302d},
    {0x3099, 0x309a}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}, {0xe0100, 0xe01ef}};

/* East Asian wide and full width (UAX 11), and pictures. */
static const struct range wide[] = {
    {0x1100, 0x115f},   {0x2e80, 0x303e},   {0x3041, 0x4dbf},   {0x4e00, 0xa4cf},  {0xa960, 0xa97f},
    {0xac00, 0xd7a3},   {0xf900, 0xfaff},   {0xfe30, 0xfe6f},   {0xff00, 0xff60},  {0xffe0, 0xffe6},
    {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd}};

#define IN(ranges, c) in_ranges((ranges), sizeof(ranges) / sizeof(*(ranges)), (c))

/* One character: its bytes as they may be printed and its columns. */
struct glyph {
	const char *p;
	size_t n;
	size_t columns;
	uint32_t code;
	size_t taken; /* bytes of the string */
};

static struct glyph next_glyph(const char *s)
{
	struct glyph g = {.p = "?", .n = 1, .columns = 1, .code = '?', .taken = 1};
	const unsigned char *u = (const unsigned char *)s;
	size_t len = status_utf8_len(s, strnlen(s, 4));
	if (len == 0)
		return g;
	g.code = len == 1 ? u[0] : u[0] & (0xffU >> (len + 1));
	for (size_t i = 1; i < len; i++)
		g.code = (g.code << 6) | (u[i] & 0x3f);
	g.taken = len;
	if (IN(harmful, g.code) && !IN(combining, g.code))
		return g;
	g.p = s;
	g.n = len;
	if (g.code >= 0x300)
		g.columns = IN(combining, g.code) ? 0 : IN(wide, g.code) ? 2 : 1;
	return g;
}

size_t cli_text_width(const char *s)
{
	size_t columns = 0;
	for (struct glyph g; *s; s += g.taken) {
		g = next_glyph(s);
		columns += g.columns;
	}
	return columns;
}

void cli_put(struct buf *out, const char *s)
{
	for (struct glyph g; *s; s += g.taken) {
		g = next_glyph(s);
		buf_append(out, g.p, g.n);
	}
}

/* Can the terminal show more than ASCII? */
static const char *ellipsis(void)
{
	static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
	const char *v = NULL;
	for (size_t i = 0; i < 3 && (!v || !*v); i++)
		v = getenv(names[i]);
	return v && (strcasestr(v, "utf-8") || strcasestr(v, "utf8")) ? "\xe2\x80\xa6" : "...";
}

size_t cli_put_cut(struct buf *out, const char *s, size_t width)
{
	const char *dots = ellipsis();
	size_t columns = cli_text_width(s), dots_columns = cli_text_width(dots), used = 0;
	if (columns <= width) {
		cli_put(out, s);
		return columns;
	}
	for (struct glyph g; *s; s += g.taken) {
		g = next_glyph(s);
		if (used + g.columns + dots_columns > width)
			break;
		buf_append(out, g.p, g.n);
		used += g.columns;
	}
	if (dots_columns > width)
		return used;
	buf_puts(out, dots);
	return used + dots_columns;
}

/* ---- lines ---- */

/* Prints what was gathered, and empties it. */
static void print(struct buf *b)
{
	fwrite(buf_data(b), 1, b->len, stdout);
	buf_truncate(b, 0);
}

/* The bytes of s that fit into `room` columns, if possible up to a blank. */
static size_t fitting(const char *s, size_t room)
{
	size_t at = 0, columns = 0, blank = 0;
	while (s[at]) {
		struct glyph g = next_glyph(s + at);
		if (columns + g.columns > room)
			return blank > 0 ? blank : at > 0 ? at : g.taken;
		if (g.code == ' ' && columns > 0)
			blank = at;
		columns += g.columns;
		at += g.taken;
	}
	return at;
}

void cli_print_wrapped(const char *s, size_t at, size_t indent)
{
	size_t width = cli_on_terminal() ? cli_width() : SIZE_MAX;
	char part[1024];
	struct buf out;
	buf_init(&out, CLI_LINE_MAX * 4);
	for (;;) {
		size_t room = width > at ? width - at : 1, n = fitting(s, room), done = 0;
		while (done < n) {
			size_t some = n - done < sizeof(part) - 1 ? n - done : sizeof(part) - 1;
			/* Not within a character, of which none is longer than 4 bytes. */
			for (int i = 0; i < 3 && some < n - done &&
			                ((unsigned char)s[done + some] & 0xc0) == 0x80;
			     i++)
				some--;
			memcpy(part, s + done, some);
			part[some] = '\0';
			cli_put(&out, part);
			done += some;
		}
		s += n;
		while (*s == ' ')
			s++;
		if (!*s)
			break;
		at = indent;
		buf_printf(&out, "\n%*s", (int)indent, "");
	}
	buf_putc(&out, '\n');
	print(&out);
	buf_clear(&out);
}

void cli_put_json(struct buf *out, const char *s)
{
	buf_putc(out, '"');
	for (struct glyph g; *s; s += g.taken) {
		g = next_glyph(s);
		if (*s == '"' || *s == '\\')
			buf_printf(out, "\\%c", *s);
		else if (g.p == s)
			buf_append(out, g.p, g.n);
		else if (status_utf8_len(s, strnlen(s, 4)) == 0)
			buf_puts(out, "\\ufffd");
		else if (g.code >= 0x10000)
			buf_printf(out, "\\u%04x\\u%04x",
			           (unsigned)(0xd800 + ((g.code - 0x10000) >> 10)),
			           (unsigned)(0xdc00 + (g.code & 0x3ff)));
		else
			buf_printf(out, "\\u%04x", (unsigned)g.code);
	}
	buf_putc(out, '"');
}

/* ---- tables ---- */

void cli_table_open(struct cli_table *t, const struct cli_column *column, size_t columns)
{
	*t = (struct cli_table){.column = column, .columns = columns};
	buf_init(&t->rows, CLI_TABLE_BYTES);
	for (size_t i = 0; i < columns; i++)
		t->width[i] = cli_text_width(column[i].title);
}

/* What goes beyond the line is taken from the widest of the columns that may be cut. */
static void settle(struct cli_table *t)
{
	size_t total = GAP * (t->columns - 1), width = cli_width();
	for (size_t i = 0; i < t->columns; i++)
		total += t->width[i];
	for (; total > width; total--) {
		size_t widest = t->columns;
		for (size_t i = 0; i < t->columns; i++)
			if (t->column[i].cut && t->width[i] > cli_text_width(t->column[i].title) &&
			    (widest == t->columns || t->width[i] > t->width[widest]))
				widest = i;
		if (widest == t->columns)
			break;
		t->width[widest]--;
	}
	t->settled = true;
}

static void print_row(const struct cli_table *t, const char *const *cell)
{
	struct buf line;
	buf_init(&line, CLI_LINE_MAX * 4);
	for (size_t i = 0; i < t->columns; i++) {
		bool last = i + 1 == t->columns;
		size_t columns = cli_text_width(cell[i]), width = t->width[i];
		if (columns > width && t->column[i].cut)
			columns = width;
		int pad = width > columns ? (int)(width - columns) : 0;
		if (t->column[i].right)
			buf_printf(&line, "%*s", pad, "");
		if (t->column[i].cut)
			pad += (int)(columns - cli_put_cut(&line, cell[i], width));
		else
			cli_put(&line, cell[i]);
		if (!last)
			buf_printf(&line, "%*s", (t->column[i].right ? 0 : pad) + GAP, "");
	}
	while (line.len > 0 && buf_data(&line)[line.len - 1] == ' ')
		buf_truncate(&line, line.len - 1);
	print(&line);
	buf_clear(&line);
}

static void print_note(const struct cli_table *t, const char *note)
{
	struct buf line;
	size_t indent = t->width[0] + GAP;
	buf_init(&line, CLI_LINE_MAX * 4);
	buf_printf(&line, "%s%*s", cli_style(CLI_DIM), (int)indent, "");
	cli_put_cut(&line, note, cli_width() > indent ? cli_width() - indent : 1);
	buf_printf(&line, "%s\n", cli_style(CLI_PLAIN));
	print(&line);
	buf_clear(&line);
}

static void print_rows(struct cli_table *t)
{
	const char *title[CLI_COLUMNS] = {""}, *cell[CLI_COLUMNS];
	const char *p = buf_data(&t->rows), *end = p + t->rows.len;
	settle(t);
	for (size_t i = 0; i < t->columns; i++)
		title[i] = t->column[i].title;
	fputs(cli_style(CLI_BOLD), stdout);
	print_row(t, title);
	printf("%s\n", cli_style(CLI_PLAIN));
	while (p < end) {
		for (size_t i = 0; i < t->columns; i++) {
			cell[i] = p;
			p += strlen(p) + 1;
		}
		print_row(t, cell);
		putchar('\n');
		if (*p)
			print_note(t, p);
		p += strlen(p) + 1;
	}
	buf_clear(&t->rows);
}

/* Keeps a row. False when there is no room. */
static bool keep(struct cli_table *t, const char *const *cell, const char *note)
{
	size_t before = t->rows.len;
	if (t->count >= CLI_TABLE_ROWS)
		return false;
	for (size_t i = 0; i < t->columns; i++)
		buf_append(&t->rows, cell[i], strlen(cell[i]) + 1);
	buf_append(&t->rows, note ? note : "", (note ? strlen(note) : 0) + 1);
	if (t->rows.failed) {
		buf_truncate(&t->rows, before);
		return false;
	}
	t->count++;
	for (size_t i = 0; i < t->columns; i++) {
		size_t columns = cli_text_width(cell[i]);
		if (columns > t->width[i])
			t->width[i] = columns;
	}
	return true;
}

void cli_table_row(struct cli_table *t, const char *const *cell, const char *note)
{
	if (!t->settled && keep(t, cell, note))
		return;
	if (!t->settled)
		print_rows(t);
	print_row(t, cell);
	putchar('\n');
	if (note && *note)
		print_note(t, note);
}

void cli_table_close(struct cli_table *t)
{
	if (!t->settled && t->count > 0)
		print_rows(t);
	buf_clear(&t->rows);
}
