/*
 * disk_aio: flushes that the kernel makes while the loop goes on: by Linux's asynchronous I/O,
 * which knows fsync since 4.18. There is no library for it here: it is four system calls and an
 * eventfd, which tells select() that a flush has ended.
 *
 * It may be missing (an older kernel, one built without CONFIG_AIO, a container's filter), or not
 * know a file system: then callers flush for themselves.
 */
#include "disk_aio.h"

#include "config.h"

#if DISK_AIO_MAX == 1
#error "a file and its directory are two flushes: DISK_AIO_MAX must be 0, or 2 at least"
#endif

#if DISK_AIO_MAX > 0
#include <sys/syscall.h>
#endif

#if DISK_AIO_MAX > 0 && defined(SYS_io_submit) && defined(SYS_io_getevents)
#include <errno.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop.h"

static struct {
	aio_context_t context;
	struct loop_fd event; /* not watched before the first flush */
	bool missing;
	void (*ended)(unsigned number, int error);
} A;

/* Tells of those that have ended, of one at the least when it is to wait. Returns false with an
 * error. */
static bool aio_take(bool wait)
{
	struct io_event e[DISK_AIO_MAX];
	long n;
	do
		n = syscall(SYS_io_getevents, A.context, wait ? 1L : 0L, (long)DISK_AIO_MAX, e,
		            NULL);
	while (n < 0 && errno == EINTR);
	for (long i = 0; i < n; i++)
		A.ended((unsigned)e[i].data, e[i].res < 0 ? (int)-e[i].res : 0);
	return n >= 0;
}

static void aio_ready(void *arg, unsigned events)
{
	uint64_t count;
	(void)arg;
	(void)events;
	/* Reset before the events are taken: what ends in between is told of again. */
	if (read(A.event.fd, &count, sizeof count) > 0)
		aio_take(false);
}

bool disk_aio_is_there(void)
{
	if (A.missing || A.event.fd >= 0)
		return !A.missing;
	/* Where it fails, for lack of descriptors, it is asked for again with each batch. */
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return false;
	if (!loop_fd_watch(&A.event, fd, LOOP_READ)) {
		/* A filter may know the one call and not the other: nobody would hear of an end. */
		bool made = !syscall(SYS_io_setup, (long)DISK_AIO_MAX, &A.context);
		A.missing = !made || !aio_take(false);
		if (!A.missing)
			return true;
		if (made)
			syscall(SYS_io_destroy, A.context);
		A.context = 0;
		loop_fd_unwatch(&A.event);
	}
	close(fd);
	return false;
}

void disk_aio_init(void (*ended)(unsigned number, int error))
{
	A.ended = ended;
	if (A.context) {
		close(A.event.fd);
		syscall(SYS_io_destroy, A.context);
	}
	A.context = 0;
	A.missing = false;
	loop_fd_init(&A.event, aio_ready, NULL);
}

bool disk_aio_begin(unsigned number, int fd)
{
	struct iocb cb = {.aio_data = number,
	                  .aio_lio_opcode = IOCB_CMD_FSYNC,
	                  .aio_fildes = (uint32_t)fd,
	                  .aio_flags = IOCB_FLAG_RESFD,
	                  .aio_resfd = (uint32_t)A.event.fd};
	struct iocb *all[] = {&cb};
	if (disk_aio_is_there() && syscall(SYS_io_submit, A.context, 1L, all) == 1)
		return true;
	/* Before 4.18, or a file system without flushes. */
	A.missing = A.missing || errno == EINVAL;
	return false;
}

bool disk_aio_wait(void)
{
	return aio_take(true);
}

#else
bool disk_aio_is_there(void)
{
	return false;
}

void disk_aio_init(void (*ended)(unsigned number, int error))
{
	(void)ended;
}

bool disk_aio_begin(unsigned number, int fd)
{
	(void)number;
	(void)fd;
	return false;
}

bool disk_aio_wait(void)
{
	return false;
}
#endif
