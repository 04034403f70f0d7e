/* fake_disk_aio: flushes that fsync() makes, which tests replace, when they are begun; their ends
 * are told of later. */
#include "fake_disk_aio.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "disk_aio.h"
#include "loop.h"

bool fake_aio_missing;
bool fake_aio_slow;

struct flush {
	unsigned number;
	int error;
};

enum { ROOM = DISK_AIO_MAX > 0 ? DISK_AIO_MAX : 1 };

static struct {
	void (*ended)(unsigned number, int error);
	struct loop_batch batch;
	struct flush flush[ROOM];
	unsigned count;
} F;

static void fake_tell(void *arg)
{
	struct flush all[ROOM];
	unsigned n = F.count;
	(void)arg;
	memcpy(all, F.flush, n * sizeof *all);
	F.count = 0; /* others begin meanwhile */
	for (unsigned i = 0; i < n; i++)
		F.ended(all[i].number, all[i].error);
}

unsigned fake_aio_count(void)
{
	return F.count;
}

void disk_aio_init(void (*ended)(unsigned number, int error))
{
	F.ended = ended;
	F.count = 0;
	loop_batch_init(&F.batch, fake_tell, NULL);
}

bool disk_aio_is_there(void)
{
	return DISK_AIO_MAX > 0 && !fake_aio_missing;
}

bool disk_aio_begin(unsigned number, int fd)
{
	if (fake_aio_missing || F.count == ROOM)
		return false;
	F.flush[F.count].number = number;
	F.flush[F.count++].error = fsync(fd) ? errno : 0;
	if (!fake_aio_slow)
		loop_batch_ask(&F.batch);
	return true;
}

bool disk_aio_wait(void)
{
	loop_batch_stop(&F.batch);
	fake_tell(NULL);
	return true;
}
