/* bytes: what can be told of many bytes at once, a machine word a step. */
#ifndef BYTES_H
#define BYTES_H

#include <stdbool.h>
#include <stddef.h>

/* How many bytes from p on are ASCII that stands for itself within quotes: from blank to tilde,
 * neither '"' nor '\'. */
size_t bytes_plain_run(const void *p, size_t n);

/* Is any of the bytes 0x80 or more? */
bool bytes_have_8bit(const void *p, size_t n);

#endif
