/* valgrind: whether this runs under it. Code takes thirty times as long there: loops that try each
 * of many like cases try a part of them. */
#ifndef VALGRIND_H
#define VALGRIND_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static inline bool under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");
	return preload && strstr(preload, "valgrind");
}

#endif
