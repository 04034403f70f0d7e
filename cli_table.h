/* cli_table: text and tables for a terminal. Whatever a string holds, it cannot command one. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "buf.h"
#include "config.h"

/* Columns of a line: those of the terminal on standard output, else CLI_WIDTH; and whether it is
 * one. */
size_t cli_width(void);
bool cli_on_terminal(void);

/* Ways to stand out: on a terminal, unless NO_COLOR is set or it is a dumb one. */
enum cli_style { CLI_PLAIN, CLI_BOLD, CLI_DIM, CLI_GOOD, CLI_WARN, CLI_BAD };

/* The sequence that begins a style (CLI_PLAIN: ends it), or "". */
const char *cli_style(enum cli_style style);

/* Columns that a string takes when printed by cli_put: combining characters take none, East Asian
 * wide ones two. */
size_t cli_text_width(const char *s);

/* Appends s without what could move the cursor or turn the direction of text: control, format and
 * bidirectional characters and bytes that are not UTF-8 become '?'. */
void cli_put(struct buf *out, const char *s);

/* The same, cut with an ellipsis to `width` columns. Returns how many it takes. */
size_t cli_put_cut(struct buf *out, const char *s, size_t width);

/* Prints text behind a line that has `at` columns already, broken at blanks on a terminal, further
 * lines indented by `indent`, and ends the line. */
void cli_print_wrapped(const char *s, size_t at, size_t indent);

/* Appends s as a string of JSON (RFC 8259), quotes included: always valid, and harmless too. */
void cli_put_json(struct buf *out, const char *s);

struct cli_column {
	const char *title;
	bool right; /* aligned */
	bool cut;   /* may be narrower than its content */
};

/* A table on standard output. The first CLI_TABLE_ROWS rows settle how wide columns are. */
struct cli_table {
	const struct cli_column *column;
	size_t columns;
	size_t width[CLI_COLUMNS];
	struct buf rows; /* cells and notes, NUL-terminated */
	size_t count;
	bool settled;
};

/* column is kept; at most CLI_COLUMNS. */
void cli_table_open(struct cli_table *t, const struct cli_column *column, size_t columns);

/* Adds a row; note (NULL: none) goes below it, behind the first column, cut to the width. */
void cli_table_row(struct cli_table *t, const char *const *cell, const char *note);

/* Prints what is left; nothing at all, not even the heading, when there was no row. */
void cli_table_close(struct cli_table *t);

#endif
