/*
 * dovecot_try: asks Dovecot as the daemon does.
 *
 *   dovecot_try [-u USERDB] [-c CLIENT] [-d DIR]
 *
 * Each line of standard input is a question, `exists USER` or `auth USER PASSWORD`; each answer a
 * line: yes [USER], no, or trouble and why. Without -u or -c that socket is looked for in DIR.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dovecot.h"
#include "loop.h"

static struct dovecot question;
static bool told;

static void answered(void *arg, struct dovecot *d)
{
	(void)arg;
	told = true;
	if (d->result == DOVECOT_YES)
		printf("yes%s%s\n", *d->user ? " " : "", d->user);
	else if (d->result == DOVECOT_NO)
		puts("no");
	else
		printf("trouble: %s\n", d->why);
	fflush(stdout);
}

static int ask(const struct dovecot_paths *paths, char *line)
{
	char *rest = line + strcspn(line, "\n");
	struct dns_addr peer;
	*rest = '\0';
	rest = line;
	const char *verb = strsep(&rest, " "), *user = strsep(&rest, " ");
	if (!user || dns_addr_parse(&peer, slice_of("192.0.2.9")) < 0)
		return -1;
	told = false;
	if (strcmp(verb, "exists") == 0)
		dovecot_exists(&question, paths, slice_of(user), answered, NULL);
	else if (strcmp(verb, "auth") == 0 && rest)
		dovecot_authenticate(&question, paths, slice_of(user), slice_of(rest), &peer,
		                     answered, NULL);
	else
		return -1;
	while (!told)
		if (loop_turn(-1) < 0)
			return -1;
	return 0;
}

int main(int argc, char **argv)
{
	struct dovecot_paths paths = {NULL, NULL, NULL};
	char line[1024];
	int option;
	while ((option = getopt(argc, argv, "u:c:d:")) != -1) {
		if (option == 'u')
			paths.userdb = optarg;
		else if (option == 'c')
			paths.client = optarg;
		else if (option == 'd')
			paths.dir = optarg;
		else
			return 2;
	}
	if (loop_init() < 0)
		return 1;
	while (fgets(line, sizeof(line), stdin)) {
		if (ask(&paths, line) < 0) {
			fputs("dovecot_try: bad question\n", stderr);
			return 2;
		}
	}
	loop_done();
	return 0;
}
