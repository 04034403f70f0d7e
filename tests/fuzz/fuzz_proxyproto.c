/*
 * Fuzzes the header of a proxy. In one piece or in pieces, its size said by the first byte: the
 * same header is read, exactly up to its end, or refused with a reason at the same byte.
 */
#include <stdint.h>

#include "fuzz_dir.h"
#include "proxyproto.h"

/* Feeds pieces of step bytes. *used: where the header ended, or was refused. */
static enum proxyproto_result feed(struct proxyproto *p, const uint8_t *data, size_t size,
                                   size_t step, size_t *used)
{
	enum proxyproto_result r = PROXYPROTO_MORE;
	*used = 0;
	while (*used < size && r == PROXYPROTO_MORE) {
		size_t n = size - *used < step ? size - *used : step;
		size_t taken = SIZE_MAX;
		r = proxyproto_feed(p, data + *used, n, &taken);
		CHECK(taken <= n && (r != PROXYPROTO_MORE || taken == n));
		*used += taken;
	}
	CHECK(r == PROXYPROTO_BAD || *used <= PROXYPROTO_MAX);
	CHECK((r == PROXYPROTO_BAD) == (p->why != NULL));
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxyproto whole = {0};
	struct proxyproto cut = {0};
	char a[INET6_ADDRSTRLEN];
	char b[INET6_ADDRSTRLEN];
	size_t used;
	size_t cut_used;
	if (size < 2)
		return 0;
	enum proxyproto_result r = feed(&whole, data + 1, size - 1, size, &used);
	CHECK(feed(&cut, data + 1, size - 1, 1 + data[0] % 40U, &cut_used) == r);
	CHECK(r == PROXYPROTO_BAD || used == cut_used);
	if (r == PROXYPROTO_BAD)
		CHECK(strcmp(whole.why, cut.why) == 0);
	if (r != PROXYPROTO_CLIENT)
		return 0;
	CHECK(whole.client.family == AF_INET || whole.client.family == AF_INET6);
	CHECK(whole.port == cut.port);
	dns_addr_text(&whole.client, a);
	dns_addr_text(&cut.client, b);
	CHECK(strcmp(a, b) == 0);
	return 0;
}
