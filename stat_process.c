/*
 * stat_process: memory and descriptors of this process, and since when it runs.
 *
 * It began when the wall clock says it did, less what the monotonic clock has counted since: right
 * also on a board whose clock is set a while after it has booted.
 */
#include "stat_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static int64_t process_began; /* ms, monotonic */

static int64_t process_clock(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

__attribute__((constructor)) static void process_note_begin(void)
{
	process_began = process_clock(CLOCK_MONOTONIC);
}

/* Bytes of memory, virtual and resident. 0, or -1. */
static int process_memory(int64_t *whole, int64_t *resident)
{
	char text[128];
	char *end;
	int64_t page = sysconf(_SC_PAGESIZE);
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0 || page <= 0)
		return -1;
	text[n] = '\0';
	*whole = strtoll(text, &end, 10) * page;
	*resident = strtoll(end, &end, 10) * page;
	return *resident > 0 ? 0 : -1;
}

/* Open descriptors, or -1. */
static int64_t process_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	const struct dirent *e;
	int64_t count = -1; /* the directory's own */
	if (!d)
		return -1;
	while ((e = readdir(d)))
		count += e->d_name[0] != '.';
	closedir(d);
	return count;
}

size_t stat_process(struct stat_extra *out)
{
	size_t n = 0;
	int64_t whole, resident;
	int64_t fds = process_descriptors();
	int64_t up = process_clock(CLOCK_MONOTONIC) - process_began;
	struct rlimit limit;
	if (process_memory(&whole, &resident) == 0) {
		out[n++] = (struct stat_extra){"process/resident_memory_bytes",
		                               "Memory in RAM (RSS), in bytes", resident};
		out[n++] = (struct stat_extra){"process/virtual_memory_bytes",
		                               "Address space, in bytes", whole};
	}
	if (fds >= 0)
		out[n++] = (struct stat_extra){"process/open_fds", "Open descriptors", fds};
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		out[n++] = (struct stat_extra){"process/max_fds", "Most descriptors it may open",
		                               (int64_t)limit.rlim_cur};
	out[n++] =
	    (struct stat_extra){"process/start_time_seconds", "When it began, in s since 1970",
	                        (process_clock(CLOCK_REALTIME) - up + 500) / 1000};
	out[n++] =
	    (struct stat_extra){"process/uptime_seconds", "For how long it runs, in s", up / 1000};
	return n;
}
