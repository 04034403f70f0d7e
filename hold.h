/* hold: messages and domains that the operator holds back; kept in DATA_DIR/held. */
#ifndef HOLD_H
#define HOLD_H

#include <stdbool.h>
#include <stddef.h>

#include "status.h"

struct hold;

/* Reads DATA_DIR/held (none: nothing is held). A damaged file is set aside as held.damaged, logged,
 * and counts as empty. NULL with *st when there is no memory or the file cannot be read. */
struct hold *hold_open(const char *data_dir, struct status *st);
void hold_close(struct hold *h);

/* Holds a message ID or a domain (normalised), durably. 0 (also when it was held before), or -1
 * with *st: disk, memory, or HOLD_MAX are held already. */
int hold_add(struct hold *h, const char *what, struct status *st);

/* Releases. 0, or -1 with *st: 550 when it was not held. */
int hold_remove(struct hold *h, const char *what, struct status *st);

bool hold_has(const struct hold *h, const char *what);

/* The n-th of all, sorted; NULL past the end. Valid until the next change. */
const char *hold_nth(const struct hold *h, size_t n);

#endif
