/* sandbox_int: what each system has to offer. Private to sandbox. */
#ifndef SANDBOX_INT_H
#define SANDBOX_INT_H

#include <stddef.h>
#include <stdint.h>

#include "sandbox.h"

/* What became of a measure. why (the size is SANDBOX_WHY) is written for SANDBOX_MISSING and
 * SANDBOX_FAILED. */
enum sandbox_result {
	SANDBOX_DONE,
	SANDBOX_MISSING, /* this system has none, or does not let us */
	SANDBOX_FAILED,  /* it has, but it went wrong */
};
enum { SANDBOX_WHY = 160 };

/* Keeps the process to the paths of the plan. version: that of the interface in use. */
enum sandbox_result sandbox_landlock(const struct sandbox_plan *plan, int *version, char *why);

/* Installs the filter of system calls. */
enum sandbox_result sandbox_seccomp(char *why);

/* pledge and unveil: what OpenBSD has instead of all the others. */
enum sandbox_result sandbox_openbsd(const struct sandbox_setup *setup, char *why);

#if defined(__linux__)
struct sock_filter;

/* Writes the filter's program; returns its length, 0 on an unknown architecture or when it does not
 * fit. */
size_t sandbox_seccomp_program(struct sock_filter *out, size_t max);

/* The kernel's name of the architecture (AUDIT_ARCH_*) that this was built for; 0: unknown. */
uint32_t sandbox_seccomp_arch(void);

/* The call with this number in the common numbering of all architectures (since Linux 5.1), as it
 * is numbered here. */
long sandbox_call(long common);
#endif

#endif
