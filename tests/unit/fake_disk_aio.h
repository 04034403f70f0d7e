/* fake_disk_aio: flushes of which the test says when they end. */
#ifndef FAKE_DISK_AIO_H
#define FAKE_DISK_AIO_H

#include <stdbool.h>

/* Is the kernel without them? Not until a test says so. */
extern bool fake_aio_missing;

/* Do they wait for disk_aio_wait()? Else each ends with the next turn. */
extern bool fake_aio_slow;

/* How many are under way. */
unsigned fake_aio_count(void);

#endif
