/*
 * Fuzz target of the journal's reader.
 *
 * The input is a segment of a journal. What a start finds in it is scanned and read; then the spool
 * is closed, which makes files of all of it, and opened again: what could be read is there with the
 * same content. No flush is made, and the disk says it is full, so that no segment is made.
 * link: fake_disk_aio.c
 */
#include "fuzz_dir.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#if defined(__linux__)
#include <sys/vfs.h>
#endif

#include "crc.h"
#include "disk.h"
#include "log.h"
#include "loop.h"
#include "spool.h"

#define MESSAGES 16

struct message {
	char id[SPOOL_ID_MAX + 1];
	bool whole;
	uint32_t crc; /* of its content */
};

struct found {
	size_t n;
	struct message m[MESSAGES];
};

int fstatvfs(int fd, struct statvfs *v)
{
	(void)fd;
	*v = (struct statvfs){.f_bsize = 4096, .f_frsize = 4096};
	return 0;
}

#if defined(__linux__)
/* A static C library has both in one object: its own must not be needed. */
int fstatfs(int fd, struct statfs *v)
{
	(void)fd, (void)v;
	errno = ENOSYS;
	return -1;
}
#endif

int fsync(int fd)
{
	(void)fd;
	return 0;
}

int fdatasync(int fd)
{
	return fsync(fd);
}

int syncfs(int fd)
{
	return fsync(fd);
}

static void on_found(void *arg, const struct spool_found *f)
{
	struct found *found = arg;
	if (found->n < MESSAGES)
		memcpy(found->m[found->n++].id, f->id, strlen(f->id) + 1);
}

/* True when all of it can be read. */
static bool read_all(struct spool *sp, struct message *m)
{
	struct envelope env;
	struct status st;
	char p[1000];
	ssize_t n;
	m->crc = 0;
	if (spool_load(sp, m->id, &env, &st))
		return false;
	envelope_clear(&env);
	struct spool_reader *r = spool_read_open(sp, m->id, &st);
	if (!r)
		return false;
	while ((n = spool_read(r, p, sizeof p, &st)) > 0)
		m->crc = crc_add(m->crc, p, (size_t)n);
	spool_read_close(r);
	return n == 0;
}

static struct spool *open_and_scan(struct found *found)
{
	struct status st;
	struct spool *sp = spool_open(fuzz_dir, &st);
	int more;
	CHECK(sp);
	found->n = 0;
	while ((more = spool_scan(sp, on_found, found, &st)) > 0) {
	}
	CHECK(more == 0);
	return sp;
}

static void clean(void)
{
	char command[200];
	snprintf(command, sizeof command, "cd %s/queue && rm -rf damaged m:* .journal.*", fuzz_dir);
	CHECK(system(command) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct found found, again;
	if (!fuzz_dir[0]) {
		fuzz_dir_make();
		CHECK(!loop_init() && !mkdir(fuzz_dir_path("queue"), 0700));
		log_to(fuzz_dir_nowhere());
		disk_init();
	}
	fuzz_dir_put("queue/.journal.0", data, size);
	struct spool *sp = open_and_scan(&found);
	for (size_t i = 0; i < found.n; i++)
		found.m[i].whole = read_all(sp, &found.m[i]);
	spool_close(sp);
	sp = open_and_scan(&again);
	for (size_t i = 0; i < found.n; i++) {
		struct message m = found.m[i];
		if (m.whole)
			CHECK(read_all(sp, &m) && m.crc == found.m[i].crc);
	}
	spool_close(sp);
	clean();
	return 0;
}
