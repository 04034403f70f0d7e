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

/* What is done in the background is done, and nothing but time goes on. */
static inline void settle(void)
{
	for (int quiet = 0; quiet < 3;) {
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

#endif
