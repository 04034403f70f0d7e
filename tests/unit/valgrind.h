/* valgrind: whether this runs under it. Code takes thirty times as long there: loops that try each
 * of many like cases try a part of them. And whether it is built with the address sanitizer: both
 * keep what was freed, so what a process takes says nothing of the code. */
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

/* gcc says so, clang is asked. */
static inline bool under_address_sanitizer(void)
{
#if defined(__SANITIZE_ADDRESS__)
	return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
	return true;
#else
	return false;
#endif
#else
	return false;
#endif
}

/* The step of a loop over like cases: each of them, or each nth under valgrind. */
static inline size_t valgrind_step(size_t nth)
{
	return under_valgrind() ? nth : 1;
}

#endif
