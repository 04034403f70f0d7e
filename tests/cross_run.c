/* Stands in for a program of another machine: starts it under its emulator, by the name it was
 * called with. For end-to-end tests, that run the program by its path and by the names of mail
 * programs.
 *
 *   cc -DRUN='"qemu-s390x-static", "-L", "/usr/s390x-linux-gnu"' -DPROGRAM='"/path/chasq"' -o chasq
 * cross_run.c
 *
 * Native, and no shell script: to those the kernel gives their path for a name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *run[] = {RUN, "-0", argv[0], PROGRAM};
	size_t n = sizeof(run) / sizeof(*run);
	char **all = calloc(n + (size_t)argc, sizeof(*all));

	if (all == NULL)
		return 70;
	memcpy(all, run, sizeof(run));
	/* With the NULL at the end. */
	memcpy(all + n, argv + 1, (size_t)argc * sizeof(*all));
	execvp(all[0], all);
	perror(all[0]);
	return 71;
}
