/* fuzz_sts: by the first byte the text of a policy, a TXT record, or a file of the cache. What is
 * taken must be within the limits, and survive the file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "sts_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DOMAIN "far.test"

static void check(const struct sts_policy *p)
{
	if (p->max_age < 0 || p->max_age > STS_AGE_MAX || p->mx_count > STS_MX_MAX ||
	    (p->mode != STS_NONE && p->mx_count == 0))
		abort();
	for (size_t i = 0; i < p->mx_count; i++) {
		const char *host = p->mx[i][0] == '*' ? p->mx[i] + 2 : p->mx[i];
		if (!addr_domain_is_valid_hostname(host) || !sts_policy_lists(p, p->mx[i]))
			abort();
	}
}

static int read_back(const char *p, size_t n, struct sts_cached *e)
{
	struct text_reader *r = malloc(sizeof *r);
	if (!r)
		abort();
	text_open_memory(r, "fuzz", p, n);
	int rc = sts_cached_read(r, DOMAIN, e);
	free(r);
	return rc;
}

static void survive(const struct sts_cached *e)
{
	struct sts_cached again;
	struct buf out;
	buf_init(&out, 1 << 20);
	if (sts_cached_write(&out, DOMAIN, e) || read_back(buf_data(&out), out.len, &again))
		abort();
	if (strcmp(e->id, again.id) != 0 || e->fetched != again.fetched ||
	    e->policy.mode != again.policy.mode || e->policy.max_age != again.policy.max_age ||
	    e->policy.mx_count != again.policy.mx_count)
		abort();
	for (size_t i = 0; i < e->policy.mx_count; i++)
		if (strcmp(e->policy.mx[i], again.policy.mx[i]) != 0)
			abort();
	sts_policy_clear(&again.policy);
	buf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sts_cached e = {.id = "1", .fetched = 1};
	struct status st;
	if (size == 0)
		return 0;
	struct slice in = {(const char *)data + 1, size - 1};
	if (data[0] % 3 == 1) {
		if (sts_record_id(in, e.id) == 0 && !sts_id_is_good(slice_of(e.id)))
			abort();
		return 0;
	}
	int rc =
	    data[0] % 3 == 0 ? sts_policy_parse(in, &e.policy, &st) : read_back(in.p, in.n, &e);
	if (rc == 0) {
		check(&e.policy);
		survive(&e);
	}
	sts_policy_clear(&e.policy);
	return 0;
}
