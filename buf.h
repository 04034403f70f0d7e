/* buf: a byte buffer that grows on demand up to a mandatory maximum. */
#ifndef BUF_H
#define BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that belong to somebody else. Network data travels as slices: NUL is a byte like any other.
 */
struct slice {
	const char *p;
	size_t n;
};

/* A slice of a string constant or C string. */
struct slice slice_of(const char *s);

/* True when the slice is exactly s; _nocase folds ASCII letters only. */
bool slice_is(struct slice a, const char *s);
bool slice_is_nocase(struct slice a, const char *s);

/*
 * The content is data[off .. off+len). Consuming moves off; space is reclaimed when needed. An
 * append that would take len past max, or that finds no memory, changes nothing and sets `failed`,
 * which stays set until buf_clear: check it once before use.
 */
struct buf {
	char *data;
	size_t off;
	size_t len;
	size_t size;
	size_t max;
	bool failed;
};

/* Makes an empty buffer that never holds more than max bytes. Allocates nothing. */
void buf_init(struct buf *b, size_t max);

/* Frees the memory and resets `failed`; the buffer is empty and can be used again. */
void buf_clear(struct buf *b);

/* First byte of the content. Never NULL. Valid until the next call that adds. */
char *buf_data(const struct buf *b);

/* The content as a slice. */
struct slice buf_slice(const struct buf *b);

/* Adds bytes. Returns 0, or -1 with `failed` set. */
int buf_append(struct buf *b, const void *p, size_t n);
int buf_puts(struct buf *b, const char *s);
int buf_putc(struct buf *b, char c);

/* Adds strings, one behind the other: buf_puts_all(b, "by ", name). The same result. */
#define buf_puts_all(b, ...) buf_puts_list((b), (const char *const[]){__VA_ARGS__, NULL})
int buf_puts_list(struct buf *b, const char *const *list);

/* Adds a number in decimal. The same result. */
int buf_put_number(struct buf *b, int64_t n);

/* printf into the buffer. Returns 0, or -1 with `failed` set. */
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

/*
 * Makes room for up to n more bytes behind the content and returns where they go; *room tells how
 * many fit (less than n when the maximum is near, 0 when full). buf_added() then tells how many
 * were written. A full buffer is no failure here: it is how back-pressure starts. NULL and
 * `failed` when there is no memory.
 */
char *buf_space(struct buf *b, size_t n, size_t *room);
void buf_added(struct buf *b, size_t n);

/* Drops n bytes (at most the content) from the front. An emptied buffer gives its memory back
 * when that is more than BUF_KEEP. */
void buf_consume(struct buf *b, size_t n);

/* Cuts the content to its first n bytes. */
void buf_truncate(struct buf *b, size_t n);

/* The content as a C string: adds a NUL behind it that does not count. Returns "" when `failed`. */
const char *buf_str(struct buf *b);

#endif
