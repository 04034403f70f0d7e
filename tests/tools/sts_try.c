/*
 * sts_try: asks for the MTA-STS policies of domains as the daemon does.
 *
 *   sts_try [-v] [-s DNS_SERVERS] [-r ROOTS] [-d DATA_DIR] [-w MS] DOMAIN...
 *
 * All are asked for at once; each answer is a line: "DOMAIN enforce max_age=86400
 * mx=a.test,b.test", or "DOMAIN -" when it has no policy. With -w it goes on for so long, for the
 * refresh to be seen.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"
#include "dns.h"
#include "log.h"
#include "loop.h"
#include "sts.h"

struct question {
	struct sts_query q;
	const char *domain;
};

static int waiting;

static int64_t now(void)
{
	return (int64_t)time(NULL);
}

static void answered(void *arg, const struct sts_policy *p)
{
	const struct question *question = arg;
	printf("%s %s", question->domain, p ? sts_mode_name(p->mode) : "-");
	if (p)
		printf(" max_age=%lld mx=", (long long)p->max_age);
	for (size_t i = 0; p && i < p->mx_count; i++)
		printf("%s%s", i > 0 ? "," : "", p->mx[i]);
	putchar('\n');
	fflush(stdout);
	waiting--;
}

static int ask(struct sts *s, char **domains, int count, int64_t after)
{
	struct question *all = calloc((size_t)count + 1, sizeof *all);
	int rc = all ? 0 : -1;
	for (int i = 0; all && i < count; i++) {
		all[i].domain = domains[i];
		waiting++;
		sts_find(s, &all[i].q, domains[i], answered, &all[i]);
	}
	while (rc == 0 && waiting > 0)
		rc = loop_turn(-1);
	for (int64_t end = loop_now() + after; rc == 0 && loop_now() < end;)
		rc = loop_turn(20);
	free(all);
	return rc;
}

int main(int argc, char **argv)
{
	const char *servers = NULL, *roots_path = NULL, *dir = ".";
	struct status st;
	int64_t after = 0;
	int option;
	while ((option = getopt(argc, argv, "vs:r:d:w:")) != -1) {
		if (option == 'v')
			log_level_now = LOG_LEVEL_DEBUG;
		else if (option == 's')
			servers = optarg;
		else if (option == 'r')
			roots_path = optarg;
		else if (option == 'd')
			dir = optarg;
		else if (option == 'w')
			after = strtol(optarg, NULL, 10);
		else
			return 2;
	}
	if (loop_init() < 0 || dns_init(servers, false) < 0)
		return 1;
	disk_init();
	struct tls_roots *roots = tls_roots_open(roots_path);
	struct sts *s = roots ? sts_open(dir, roots, now, &st) : NULL;
	if (!s) {
		fprintf(stderr, "sts_try: %s\n", roots ? st.text : "out of memory");
		return 1;
	}
	int rc = ask(s, argv + optind, argc - optind, after);
	sts_close(s);
	tls_roots_close(roots);
	dns_done();
	loop_done();
	return rc < 0;
}
