/* disk_aio: flushes that the kernel makes while the loop goes on. */
#ifndef DISK_AIO_H
#define DISK_AIO_H

#include <stdbool.h>

/* Forgets all flushes. `ended` is told of the end of each from now on, from the loop or from
 * disk_aio_wait; error is 0 or an errno. After loop_init. */
void disk_aio_init(void (*ended)(unsigned number, int error));

/* Does the kernel make flushes, as far as is known? */
bool disk_aio_is_there(void);

/* Begins a flush like fsync's, and gives it a number, which is back with its end; the descriptor
 * may be closed meanwhile. At most DISK_AIO_MAX are under way. Returns false when the kernel does
 * not do it: flush it yourself, then. */
bool disk_aio_begin(unsigned number, int fd);

/* Waits for the end of one or more that are under way. Returns false when that fails; then nobody
 * hears of them any more. */
bool disk_aio_wait(void);

#endif
