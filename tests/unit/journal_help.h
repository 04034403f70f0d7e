/* journal_help: for tests of the journal: a clock that can be shifted, the segments' files, and a
 * pause until what is done in the background is done. */
#ifndef JOURNAL_HELP_H
#define JOURNAL_HELP_H

#include "spool_help.h"

#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "config.h"

static int64_t shift_s;
static int64_t still_us; /* the clock stands still there; 0: it goes */

/* Where time_t has outgrown long, musl has the call under another name only. */
#if !defined(SYS_clock_gettime)
#define SYS_clock_gettime SYS_clock_gettime64
#endif

/* By the kernel: a static program has no other one to look for. */
int clock_gettime(clockid_t which, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, which, ts);
	if (which == CLOCK_MONOTONIC && still_us)
		*ts = (struct timespec){.tv_sec = (time_t)(still_us / 1000000),
		                        .tv_nsec = (long)(still_us % 1000000 * 1000)};
	else if (which == CLOCK_MONOTONIC)
		ts->tv_sec += (time_t)shift_s;
	return rc;
}

static const char *journal_path(int i)
{
	static char path[128];
	snprintf(path, sizeof path, "%s/queue/.journal.%d", dir, i);
	return path;
}

/* The next start finds no segment. */
static inline void close_without_journal(void)
{
	spool_close(sp);
	sp = NULL;
	for (int i = 0; i < JOURNAL_SEGMENTS; i++)
		unlink(journal_path(i));
}

/* What is done in the background is done, and nothing but time goes on. What children did ends with
 * flushes of a few turns. */
static inline void settle(void)
{
	for (int quiet = 0; quiet < 8;) {
		siginfo_t child = {.si_pid = 0};
		bool any = waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) == 0;
		quiet = any ? 0 : quiet + 1;
		assert_int_equal(loop_turn(2), 0);
	}
}

/* Also what is done by and by: until some pauses go by without a file that comes or goes. How long
 * a turn takes says nothing where others work, too. */
static inline void settle_slowly(void)
{
	for (int quiet = 0; quiet < 4;) {
		size_t before = count_entries("queue");
		settle();
		assert_int_equal(loop_turn(3 * JOURNAL_PAUSE_MS), 0);
		quiet = count_entries("queue") == before ? quiet + 1 : 0;
	}
}

/* ---- a power cut ---- */

static char image[JOURNAL_SEGMENTS][JOURNAL_BYTES]; /* what the disk has of the segments */
static bool taken[JOURNAL_SEGMENTS];                /* such a segment is there */

static inline void take_image(void)
{
	for (int i = 0; i < JOURNAL_SEGMENTS; i++) {
		int fd = open(journal_path(i), O_RDONLY);
		taken[i] = fd >= 0;
		if (!taken[i])
			continue;
		assert_int_equal(read(fd, image[i], sizeof image[i]), sizeof image[i]);
		close(fd);
	}
}

/* Only the first bytes of it are other than in the file. */
static inline void put_image(int i, size_t n)
{
	int fd = open(journal_path(i), O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(disk_write(fd, image[i], n), 0);
	close(fd);
}

/* Ends the spool as a power cut would: there are the segments of the image, and no file. */
static inline void cut_power(void)
{
	char command[256];
	spool_close(sp);
	sp = NULL;
	snprintf(command, sizeof command, "cd %s/queue && rm -rf m:* damaged .journal.*", dir);
	assert_int_equal(system(command), 0);
	for (int i = 0; i < JOURNAL_SEGMENTS; i++)
		if (taken[i])
			put_image(i, sizeof image[i]);
}

#endif
