/* Unit tests of rate: a share an hour, many hosts in a small table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "rate.h"

#define HOUR (INT64_C(3600) * 1000)

static struct rate rate;

static struct dns_addr host(uint32_t n)
{
	struct dns_addr a = {.family = AF_INET};
	a.ip.v4.s_addr = htonl(n);
	return a;
}

static int64_t take(const struct dns_addr *a, int64_t per_hour, int64_t now, int tries)
{
	int64_t n = 0;
	while (tries-- > 0)
		n += rate_take(&rate, a, per_hour, now);
	return n;
}

static void test_share(void **state)
{
	static const int64_t shares[] = {1, 2, 7, 60, 1000, 3600000};
	(void)state;
	for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
		struct dns_addr a = host(100 + (uint32_t)i);
		int64_t now = 12345;
		int tries = shares[i] > 5000 ? 5000 : (int)shares[i];
		assert_int_equal(take(&a, shares[i], now, tries), tries);
		if (shares[i] > 5000)
			continue;
		assert_int_equal(take(&a, shares[i], now, 10), 0);
		/* Half an hour later there is half of it, an hour later all and not more. */
		now += HOUR / 2 + shares[i];
		assert_int_equal(take(&a, shares[i], now, 2000), shares[i] / 2);
		now += 5 * HOUR;
		assert_int_equal(take(&a, shares[i], now, 2000), shares[i]);
	}
	struct dns_addr a = host(1);
	assert_int_equal(take(&a, 0, 1, 10000), 10000);
}

static void test_hosts(void **state)
{
	(void)state;
	rate = (struct rate){.host[0].full_at = 0};
	for (uint32_t i = 1; i <= RATE_HOSTS; i++) {
		struct dns_addr a = host(i);
		assert_int_equal(take(&a, 10, 1000, (int)(i == 1 ? 10 : 5)), i == 1 ? 10 : 5);
	}
	/* A new host pushes out one that has used little, never the one that has used all. */
	for (uint32_t i = 1000; i < 3000; i++) {
		struct dns_addr a = host(i);
		assert_true(rate_take(&rate, &a, 10, 1001));
	}
	struct dns_addr first = host(1);
	assert_false(rate_take(&rate, &first, 10, 1002));
}

static void test_ipv6(void **state)
{
	struct dns_addr a, b, c;
	(void)state;
	rate = (struct rate){.host[0].full_at = 0};
	assert_int_equal(dns_addr_parse(&a, slice_of("fd00:1:2:3::1")), 0);
	assert_int_equal(dns_addr_parse(&b, slice_of("fd00:1:2:3:ffff::9")), 0);
	assert_int_equal(dns_addr_parse(&c, slice_of("fd00:1:2:4::1")), 0);
	assert_true(rate_take(&rate, &a, 1, 5));
	assert_false(rate_take(&rate, &b, 1, 5));
	assert_true(rate_take(&rate, &c, 1, 5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_share),
	    cmocka_unit_test(test_hosts),
	    cmocka_unit_test(test_ipv6),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
