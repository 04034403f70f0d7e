/* bytes: what can be told of many bytes at once, a machine word a step. */
#ifndef BYTES_H
#define BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many bytes from p on are ASCII that stands for itself within quotes: from blank to tilde,
 * neither '"' nor '\'. */
size_t bytes_plain_run(const void *p, size_t n);

/* How many bytes from p on are printable ASCII: from blank to tilde. */
size_t bytes_print_run(const void *p, size_t n);

/* How many bytes from p on are neither CR nor LF. */
size_t bytes_line_run(const void *p, size_t n);

/* Is any of the bytes 0x80 or more? */
bool bytes_have_8bit(const void *p, size_t n);

/* Write at p, without a NUL: a string; a number in decimal, of at most BYTES_NUMBER bytes. Return
 * where it ends. */
#define BYTES_NUMBER 20
char *bytes_put(char *p, const char *s);
char *bytes_put_number(char *p, int64_t n);

#endif
