/*
 * spf_try: checks a sender as the daemon does.
 *
 *   spf_try [--servers SERVERS] IP HELO SENDER
 *
 * SENDER "" or "<>" checks the HELO identity. Prints one line each: result, identity and domain,
 * mechanism, problem, explanation.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "dns.h"
#include "loop.h"
#include "spf.h"

static bool told;

static void answered(void *arg, const struct spf_answer *a)
{
	(void)arg;
	told = true;
	printf("result: %s\n", spf_result_name(a->result));
	printf("%s: %s\n", a->helo_identity ? "helo" : "mailfrom", a->domain);
	printf("mechanism: %s\n", a->mechanism);
	printf("problem: %s\n", a->problem);
	printf("explanation: %s\n", a->explanation);
}

int main(int argc, char **argv)
{
	const char *servers = NULL;
	if (argc > 2 && strcmp(argv[1], "--servers") == 0) {
		servers = argv[2];
		argc -= 2;
		argv += 2;
	}
	struct spf_question q = {.receiver = "mx.example.net", .now = (int64_t)time(NULL)};
	if (argc != 4 || dns_addr_parse(&q.ip, slice_of(argv[1])) != 0) {
		fputs("usage: spf_try [--servers SERVERS] IP HELO SENDER\n", stderr);
		return 2;
	}
	q.helo = argv[2];
	q.sender = argv[3];
	if (loop_init() != 0 || dns_init(servers, false) != 0 || !spf_start(&q, answered, NULL)) {
		fputs("spf_try: cannot start\n", stderr);
		return 1;
	}
	while (!told)
		if (loop_turn(-1) < 0)
			return 1;
	dns_done();
	loop_done();
	return 0;
}
