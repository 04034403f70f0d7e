/* test_spf_record: the grammar of records and terms (RFC 7208 4.5, 4.6, 5, 6, 12). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "spf_record.h"

static void test_version(void **state)
{
	static const char *const good[] = {"v=spf1", "v=spf1 ", "V=SPF1 all", "v=spf1  -all"};
	static const char *const bad[] = {"",        "v=spf",      "v=spf10",     "v=spf1\tall",
	                                  " v=spf1", "v=spf1.all", "spf2.0/pra ", "v=spf1-all"};
	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		assert_true(spf_record_is_spf(slice_of(good[i])));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(spf_record_is_spf(slice_of(bad[i])));
}

static const char *check(const char *record)
{
	struct slice terms, redirect, exp, wrong;
	char exact[600]; /* no NUL behind the record: reading past its end shows */
	size_t n = strlen(record);
	char *copy = malloc(n);
	assert_non_null(copy);
	memcpy(copy, record, n);
	const char *why =
	    spf_record_check((struct slice){copy, n}, &terms, &redirect, &exp, &wrong);
	if (why) {
		assert_true(wrong.n < sizeof exact);
		memcpy(exact, wrong.p, wrong.n);
	}
	free(copy);
	return why;
}

static void test_good_records(void **state)
{
	static const char *const good[] = {
	    "v=spf1",
	    "v=spf1    ",
	    "v=spf1 all",
	    "v=spf1 +ALL -All ~all ?all",
	    "v=spf1 a mx ptr",
	    "v=spf1 a/0 a/32 a//0 a//128 a/24//64 mx/8 MX//48 mx/8//8",
	    "v=spf1 a:example.com a:example.com/24 a:example.com//64 a:example.com/24//64",
	    "v=spf1 a:foo:bar.example.com mx:%%%_/.example.com/27 a:a/1.example.com/24",
	    "v=spf1 ptr:example.com ptr:%{d2}",
	    "v=spf1 ip4:192.0.2.0 ip4:192.0.2.1/0 IP4:192.0.2.255/32 -ip4:0.0.0.0/1",
	    "v=spf1 ip6:2001:db8:: ip6:::/0 ip6:::1/128 ip6:2001:DB8::192.0.2.1/64",
	    "v=spf1 ip6:::ffff:1.2.3.4",
	    "v=spf1 include:example.com ?include:%{d}",
	    "v=spf1 exists:%{i}.%{s1}.100/86400.rate.%{d}",
	    "v=spf1 redirect=example.com exp=%{d2} Unknown.Mod-1_x=anything%{c}%{r}%{t} x=",
	    "v=spf1 a=b all=c redirect.x=d redirect=e.com",
	    "v=spf1 exp=ex.com a redirect=example.com.",
	};
	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (check(good[i]))
			fail_msg("%s", good[i]);
}

static void test_bad_records(void **state)
{
	static const char *const bad[] = {
	    "v=spf1 foo",
	    "v=spf1 al",
	    "v=spf1 alll",
	    "v=spf1 all:example.com",
	    "v=spf1 all/24",
	    "v=spf1 all:",
	    "v=spf1 all\tmx",
	    "v=spf1 \tall",
	    "v=spf1 --all",
	    "v=spf1 *all",
	    "v=spf1 -",
	    "v=spf1 -all,",
	    "v=spf1 a,b",
	    "v=spf1 a:",
	    "v=spf1 a/",
	    "v=spf1 a//",
	    "v=spf1 a/33",
	    "v=spf1 a/024",
	    "v=spf1 a/00",
	    "v=spf1 a/-1",
	    "v=spf1 a//129",
	    "v=spf1 a//064",
	    "v=spf1 a/24/64",
	    "v=spf1 a//64/24",
	    "v=spf1 a/24//",
	    "v=spf1 a/24//1234",
	    "v=spf1 a/99999999999999999999",
	    "v=spf1 a24",
	    "v=spf1 a:192.0.2.1",
	    "v=spf1 a:example",
	    "v=spf1 a:example.",
	    "v=spf1 a:example.com/",
	    "v=spf1 a:example.com/24/",
	    "v=spf1 a:example.com..",
	    "v=spf1 a:/24",
	    "v=spf1 a:ex%ample.com",
	    "v=spf1 a:%{c}.com",
	    "v=spf1 mx:",
	    "v=spf1 ptr:",
	    "v=spf1 ptr/24",
	    "v=spf1 ptr:%{d}/24",
	    "v=spf1 ip4",
	    "v=spf1 ip4:",
	    "v=spf1 ip4:1.2.3",
	    "v=spf1 ip4:1.2.3.4.5",
	    "v=spf1 ip4:1.2.3.256",
	    "v=spf1 ip4:1.2.3.04",
	    "v=spf1 ip4:1.2.3.4/33",
	    "v=spf1 ip4:1.2.3.4/024",
	    "v=spf1 ip4:1.2.3.4/",
	    "v=spf1 ip4:1.2.3.4//24",
	    "v=spf1 ip4:1.2.3.4/24//64",
	    "v=spf1 ip4:::1",
	    "v=spf1 ip4:%{i}",
	    "v=spf1 ip4=1.2.3.4 ip4:1.2.3.4:25",
	    "v=spf1 ip6",
	    "v=spf1 ip6:1.2.3.4",
	    "v=spf1 ip6:::1/129",
	    "v=spf1 ip6:::1//64",
	    "v=spf1 ip6:2001:db8",
	    "v=spf1 ip6:2001::db8::1",
	    "v=spf1 ip6:[::1]",
	    "v=spf1 ip6:fe80::1%eth0",
	    "v=spf1 ip:1.2.3.4",
	    "v=spf1 include",
	    "v=spf1 include:",
	    "v=spf1 include/24",
	    "v=spf1 exists",
	    "v=spf1 exists:",
	    "v=spf1 exists/24",
	    "v=spf1 redirect=",
	    "v=spf1 redirect=example",
	    "v=spf1 redirect:example.com",
	    "v=spf1 -redirect=example.com",
	    "v=spf1 redirect=a.com redirect=a.com",
	    "v=spf1 redirect=a.com REDIRECT=b.com",
	    "v=spf1 exp=a.com Exp=b.com",
	    "v=spf1 exp=",
	    "v=spf1 exp=%{r}.com",
	    "v=spf1 =a",
	    "v=spf1 1a=b",
	    "v=spf1 .a=b",
	    "v=spf1 x=%",
	    "v=spf1 x=%{z}",
	    "v=spf1 x=\xc3\xa9",
	    "v=spf1 all \xa0",
	    "v=spf1 mx a:%{d}.x.\x01com",
	};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (!check(bad[i]))
			fail_msg("%s", bad[i]);
}

static void test_terms(void **state)
{
	struct slice rest =
	    slice_of("  ~A:ex.com/24//64  mx -ip6:2001:db8::/33 x=y ptr ?exists:%{d} "
	             "include:a.b bad:x all");
	struct spf_term t;
	(void)state;
	assert_int_equal(spf_record_next(&rest, &t), 1);
	assert_true(t.kind == SPF_A && t.result == SPF_SOFTFAIL);
	assert_true(t.prefix4 == 24 && t.prefix6 == 64);
	assert_true(slice_is(t.domain, "ex.com") && slice_is(t.text, "A:ex.com/24//64"));
	assert_int_equal(spf_record_next(&rest, &t), 1);
	assert_true(t.kind == SPF_MX && t.result == SPF_PASS && t.domain.n == 0);
	assert_true(t.prefix4 == 32 && t.prefix6 == 128);
	assert_int_equal(spf_record_next(&rest, &t), 1);
	assert_true(t.kind == SPF_IP6 && t.result == SPF_FAIL && t.prefix6 == 33);
	assert_true(t.net.family == AF_INET6 && t.net.ip.v6.s6_addr[0] == 0x20);
	assert_int_equal(spf_record_next(&rest, &t), 1);
	assert_int_equal(t.kind, SPF_UNKNOWN);
	assert_int_equal(spf_record_next(&rest, &t), 1);
	assert_int_equal(t.kind, SPF_PTR);
	assert_int_equal(spf_record_next(&rest, &t), 1);
	assert_true(t.kind == SPF_EXISTS && t.result == SPF_NEUTRAL);
	assert_int_equal(spf_record_next(&rest, &t), 1);
	assert_int_equal(t.kind, SPF_INCLUDE);
	assert_int_equal(spf_record_next(&rest, &t), -1);
	assert_true(slice_is(t.text, "bad:x"));
	assert_int_equal(spf_record_next(&rest, &t), 1);
	assert_int_equal(t.kind, SPF_ALL);
	assert_int_equal(spf_record_next(&rest, &t), 0);
}

static void test_modifiers(void **state)
{
	struct slice terms, redirect, exp, wrong;
	(void)state;
	struct slice record = slice_of("v=spf1 exp=e.com a redirect=%{d}.r.com");
	assert_null(spf_record_check(record, &terms, &redirect, &exp, &wrong));
	assert_true(slice_is(redirect, "%{d}.r.com") && slice_is(exp, "e.com"));
	assert_true(slice_is(terms, " exp=e.com a redirect=%{d}.r.com"));
	record = slice_of("v=spf1 a ip4:1.2.3 redirect=%{d}.r.com");
	assert_non_null(spf_record_check(record, &terms, &redirect, &exp, &wrong));
	assert_true(slice_is(wrong, "ip4:1.2.3"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_version),     cmocka_unit_test(test_good_records),
	    cmocka_unit_test(test_bad_records), cmocka_unit_test(test_terms),
	    cmocka_unit_test(test_modifiers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
