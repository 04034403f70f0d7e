/* fuzz_dns: DNS messages. The first byte chooses the type that is asked for. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "dns_answer.h"

/* As an address query has it: room for two of each family. */
static struct dns_families *families_new(void)
{
	struct dns_families *f = calloc(1, sizeof *f + 4 * sizeof(struct dns_addr));
	if (f) {
		f->room = 2;
		f->start[1] = 2;
	}
	return f;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Touches all that the owner of a query would read. */
static size_t walk(const struct dns_query *q)
{
	size_t n = 0;
	for (size_t i = 0; i < q->count; i++) {
		if (q->mx)
			n += strlen(q->mx[i].host);
		if (q->names)
			n += strlen(q->names[i]);
		if (q->txt)
			n += q->txt[i].n + (q->txt[i].p[q->txt[i].n] != '\0' ? SIZE_MAX / 2 : 0);
		for (size_t j = 0; q->tlsa && j < q->tlsa[i].data.n; j++)
			n += q->tlsa[i].data.p[j] != 0;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int types[] = {DNS_TYPE_A,   DNS_TYPE_AAAA, DNS_TYPE_MX,
	                            DNS_TYPE_TXT, DNS_TYPE_PTR,  DNS_TYPE_TLSA};
	struct dns_query q = {0};
	if (size < 2)
		return 0;
	int type = types[data[0] % 6];
	if (type == DNS_TYPE_A || type == DNS_TYPE_AAAA)
		q.block = families_new();
	uint8_t *copy = malloc(size - 1); /* an exact fit: reading past it shows */
	if (!copy || (data[0] % 6 < 2 && !q.block))
		abort();
	memcpy(copy, data + 1, size - 1);
	enum dns_result r = dns_answer_read(&q, type, copy, size - 1);
	if (r == DNS_OK &&
	    walk(&q) > (DNS_MX_MAX + DNS_PTR_MAX) * DNS_NAME_SIZE + DNS_TXT_BYTES + DNS_TLSA_BYTES)
		abort();
	const struct dns_families *f = q.block;
	if (data[0] % 6 < 2 && strlen(f->canonical) > 253)
		abort();
	free(copy);
	free(q.block);
	return 0;
}
