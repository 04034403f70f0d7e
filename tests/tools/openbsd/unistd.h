/* What OpenBSD's <unistd.h> has on top, so that sandbox_openbsd.c can be compiled elsewhere. */
#ifndef OPENBSD_UNISTD_H
#define OPENBSD_UNISTD_H

#include_next <unistd.h>

int pledge(const char *promises, const char *execpromises);
int unveil(const char *path, const char *permissions);

#endif
