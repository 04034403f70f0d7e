/* fuzz_spf: a check with a resolver that answers from the input: its first three lines are the
 * client's address, HELO and sender; the rest is the zone, as tests/unit/fake_dns.h says.
 * link: fake_dns.c
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fake_dns.h"
#include "loop.h"
#include "spf.h"
#include "spf_macro.h"
#include "status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { QUESTIONS_MAX = 123 };

static void answered(void *arg, const struct spf_answer *a)
{
	int *answers = arg;
	struct status st;
	(*answers)++;
	/* All that is said to others is one harmless line. */
	const char *const said[] = {a->domain, a->mechanism, a->problem, a->explanation};
	for (size_t i = 0; i < 4; i++) {
		status_set(&st, 250, NULL, "%s", said[i]);
		if (strcmp(st.text, said[i]) != 0)
			abort();
	}
	if (a->explanation[0] && a->result != SPF_FAIL)
		abort();
	if ((a->problem[0] != '\0') != (a->result == SPF_TEMPERROR || a->result == SPF_PERMERROR))
		abort();
	if (fake_dns.asked > QUESTIONS_MAX)
		abort();
}

/* Macro strings by themselves: what is valid expands to what fits. */
static void macros(struct slice text, const struct spf_question *q)
{
	char name[SPF_NAME_SIZE];
	char out[64];
	struct slice sender = slice_of(q->sender);
	struct spf_values v = {
	    sender, sender, sender, slice_of(q->helo), slice_of(q->helo), slice_of("r"),
	    sender, &q->ip, q->now};
	if (spf_macro_is_valid(text, SPF_IN_DOMAIN)) {
		if (spf_macro_domain(text, &v, name) == SPF_NAME_OK && name[0] == '\0')
			abort();
		spf_macro_wants_p(text);
	}
	if (spf_macro_is_valid(text, SPF_IN_EXPLANATION))
		spf_macro_text(text, &v, out, sizeof out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spf_question q = {.receiver = "mx.example.net", .now = 1};
	int answers = 0;
	static bool ready;
	if (!ready && loop_init() != 0)
		abort();
	ready = true;
	char *text = calloc(1, size + 1);
	if (!text)
		abort();
	memcpy(text, data, size);
	char *rest = text;
	const char *ip = strsep(&rest, "\n");
	q.helo = rest ? strsep(&rest, "\n") : "";
	q.sender = rest ? strsep(&rest, "\n") : "";
	if (dns_addr_parse(&q.ip, slice_of(ip)) == 0) {
		fake_dns_zone(rest ? rest : "");
		macros(slice_of(rest ? rest : ""), &q);
		if (!spf_start(&q, answered, &answers))
			abort();
		for (int i = 0; i < 500 && answers == 0; i++)
			loop_turn(0);
		if (answers != 1 || fake_dns.waiting != 0)
			abort();
	}
	free(text);
	return 0;
}
