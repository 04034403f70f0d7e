/*
 * sandbox_openbsd: pledge and unveil. The kernel forgets unveil when a program is run, so what we
 * start is not kept by it: the promises for children stay open, as nobody knows what a hook needs.
 */
#include "sandbox_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__OpenBSD__)

/* fattr and chown: the control socket's mode and owner; getpw: control_users; id: limits of
 * children. */
static const char promises[] =
    "stdio rpath wpath cpath fattr chown flock inet unix dns getpw proc exec id";

enum sandbox_result sandbox_openbsd(const struct sandbox_setup *s, char *why)
{
	if (!s->plan && !s->filter) {
		snprintf(why, SANDBOX_WHY, "%s", s->why_not);
		return SANDBOX_MISSING;
	}
	for (size_t i = 0; s->plan && i < s->plan->count; i++) {
		const struct sandbox_path *p = &s->plan->item[i];
		if (unveil(p->path, p->right == SANDBOX_WRITE ? "rwxc" : "rx") && errno != ENOENT) {
			snprintf(why, SANDBOX_WHY, "unveil %.100s: %s", p->path, strerror(errno));
			return SANDBOX_FAILED;
		}
	}
	if ((s->plan && unveil(NULL, NULL)) || (s->filter && pledge(promises, NULL))) {
		snprintf(why, SANDBOX_WHY, "pledge: %s", strerror(errno));
		return SANDBOX_FAILED;
	}
	return SANDBOX_DONE;
}

#else

enum sandbox_result sandbox_openbsd(const struct sandbox_setup *s, char *why)
{
	(void)s;
	snprintf(why, SANDBOX_WHY, "this system has none");
	return SANDBOX_MISSING;
}

#endif
