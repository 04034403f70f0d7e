/* text: protobuf text format, read and written as a stream. Whole structs by tables of fields:
 * textfield.h. */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "buf.h"
#include "config.h"

/* FIELD is followed by a value, or by LIST, values and LIST_END. A value is SCALAR, BYTES, or OPEN,
 * fields and CLOSE. */
enum text_event {
	TEXT_ERROR = -1, /* error and fault say why; every later call says so again */
	TEXT_END,        /* the input is complete */
	TEXT_FIELD,      /* token is the name; line is its line */
	TEXT_OPEN,       /* a message begins */
	TEXT_CLOSE,      /* it ends */
	TEXT_LIST,       /* a list begins */
	TEXT_LIST_END,   /* it ends */
	TEXT_SCALAR,     /* token is an identifier or a number; the sign stands right before it */
	TEXT_BYTES,      /* a string begins: get it with text_bytes_read, or skip it by going on */
};

enum text_fault {
	TEXT_OK,
	TEXT_BAD,       /* not text format, or not what the table allows */
	TEXT_TRUNCATED, /* the input ends too early: the torn end of a file */
	TEXT_IO,        /* the source failed */
	TEXT_MEMORY,    /* malloc failed */
};

/* Owns no memory: needs no closing. Read name .. error; set skip_unknown; the rest is private. */
struct text_reader {
	const char *name;  /* of the source, for messages; kept */
	int line;          /* of the last FIELD; after an error, of the error */
	bool skip_unknown; /* table reader: pass over unknown fields instead of failing */
	enum text_fault fault;
	ssize_t (*fill)(void *arg, char *p, size_t n);
	void *arg;
	const char *p, *end;
	uint64_t filled;
	int at_line;
	int state;
	bool colon;
	char quote;
	unsigned char spill[4], spilled, spill_at;
	unsigned depth;
	char token[TEXT_TOKEN_MAX];
	char error[TEXT_ERROR_MAX]; /* "name:line: reason" */
	char nest[TEXT_DEPTH_MAX];
	char buf[TEXT_READ_BUF];
};

/* Reads from fill: it stores at most n bytes and returns how many, 0 at the end, -1 on error. */
void text_open(struct text_reader *r, const char *name,
               ssize_t (*fill)(void *arg, char *p, size_t n), void *arg);
/* Reads from *fd, which is kept until reading ends. */
void text_open_fd(struct text_reader *r, const char *name, int *fd);
/* Reads n bytes of memory, kept until reading ends. */
void text_open_memory(struct text_reader *r, const char *name, const char *p, size_t n);

/* The next event. Checks syntax only: nesting, separators, the form of numbers, strings. A value
 * that was not fetched is passed over. */
enum text_event text_next(struct text_reader *r);

/* After TEXT_BYTES: stores up to n (> 0) decoded bytes; 0 at the end of the value, -1 on error. */
ssize_t text_bytes_read(struct text_reader *r, char *p, size_t n);

/* After TEXT_FIELD: passes over its value. Returns 0, or -1. */
int text_skip(struct text_reader *r);

/* Bytes of the source consumed. After CLOSE: the offset just behind it; after a string that was
 * read to its end: behind the blanks and comments that follow, too. */
uint64_t text_offset(const struct text_reader *r);

/* Ends reading with "name:line: reason" in error. The first error stays. Returns -1. */
int text_fail(struct text_reader *r, enum text_fault fault, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Where output goes. Failures are sticky in out->failed; check that once. */
struct text_writer {
	struct buf *out;
	unsigned depth;
	unsigned line; /* depth of the outermost message that is on one line, 0 when none is */
};

void text_writer_init(struct text_writer *w, struct buf *out);

/* One field each, with indent and newline (or, within one line, blanks). Nothing is omitted here.
 */
void text_put_bool(struct text_writer *w, const char *name, bool v);
void text_put_int(struct text_writer *w, const char *name, int64_t v);
void text_put_uint(struct text_writer *w, const char *name, uint64_t v);
void text_put_word(struct text_writer *w, const char *name, const char *enum_name);
void text_put_string(struct text_writer *w, const char *name, const char *s);
void text_put_bytes(struct text_writer *w, const char *name, const void *p, size_t n);
/* A message around the fields put in between; one_line: itself and all within on one line. */
void text_put_open(struct text_writer *w, const char *name, bool one_line);
void text_put_close(struct text_writer *w);

/* Appends one quoted literal: at most TEXT_LITERAL_SIZE(n) bytes. Returns 0, or -1 (b->failed). */
int text_put_literal(struct buf *b, const void *data, size_t n);
#define TEXT_LITERAL_SIZE(n) (4 * (n) + 2)

/* The same on a line of its own, below a field's name: two blanks before it, a newline behind. */
int text_put_literal_line(struct buf *b, const void *data, size_t n);

/* The same for each of the lines at p that are plain, but for a tab in front, and end with CRLF, at
 * most `most` bytes each, as far as they are whole and b has room. Returns how many bytes of p that
 * were. */
size_t text_put_plain_lines(struct buf *b, const char *p, size_t n, size_t most);

/* True when the bytes are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool text_is_utf8(const void *p, size_t n);

#endif
