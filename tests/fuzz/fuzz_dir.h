/* fuzz_dir: a directory of its own for a fuzz target that reads files, removed at its end. Nothing
 * of one input is left for the next: the target removes what it makes. */
#ifndef FUZZ_DIR_H
#define FUZZ_DIR_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "temp_dir.h"

#define CHECK(what)                                             \
	do {                                                    \
		if (!(what)) {                                  \
			fprintf(stderr, "failed: %s\n", #what); \
			abort();                                \
		}                                               \
	} while (0)

static char fuzz_dir[TEMP_DIR_MAX]; /* "" before fuzz_dir_make */

static inline void fuzz_dir_make(void)
{
	CHECK(temp_dir_make(fuzz_dir, sizeof fuzz_dir) == 0);
}

/* A path in the directory; valid until it was called four times more. */
static inline const char *fuzz_dir_path(const char *name)
{
	static char path[4][160];
	static unsigned at;
	char *p = path[at++ % 4];
	CHECK((size_t)snprintf(p, sizeof(path[0]), "%s/%s", fuzz_dir, name) < sizeof(path[0]));
	return p;
}

static inline void fuzz_dir_put(const char *name, const void *p, size_t n)
{
	int fd = open(fuzz_dir_path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK(write(fd, p, n) == (ssize_t)n);
	close(fd);
}

/* Where the log goes: nowhere, but all of it is made. */
static inline int fuzz_dir_nowhere(void)
{
	return open("/dev/null", O_WRONLY | O_CLOEXEC);
}

#endif
