/* test_spf: check_host() with a fake resolver: the examples of RFC 7208 appendix A, identities,
 * results, limits, bombs, and the end of a check at any moment.
 * link: fake_dns.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "fake_dns.h"
#include "loop.h"
#include "spf.h"

/* Questions one check may ask (spf.c). */
enum { QUESTIONS_MAX = 123 };

static struct spf_answer last;
static int answers;

static void answered(void *arg, const struct spf_answer *answer)
{
	struct spf_check **c = arg;
	last = *answer;
	answers++;
	if (c)
		spf_cancel(*c); /* is harmless here */
}

static struct spf_check *start(const char *ip, const char *helo, const char *sender)
{
	struct spf_question q = {
	    .helo = helo, .sender = sender, .receiver = "mx.example.net", .now = 5};
	assert_int_equal(dns_addr_parse(&q.ip, slice_of(ip)), 0);
	memset(&last, 0xee, sizeof last);
	answers = 0;
	return spf_start(&q, answered, NULL);
}

static void run(const char *ip, const char *helo, const char *sender)
{
	assert_non_null(start(ip, helo, sender));
	assert_int_equal(answers, 0);
	for (int i = 0; i < 1000 && answers == 0; i++)
		loop_turn(0);
	assert_int_equal(answers, 1);
	assert_int_equal(fake_dns.waiting, 0);
}

static void is_at(int line, enum spf_result want)
{
	if (last.result != want)
		fail_msg("line %d: %s (%s, %s), not %s", line, spf_result_name(last.result),
		         last.mechanism, last.problem, spf_result_name(want));
}

/* The result for a sender in example.com. */
#define FOR(ip, want)                                                \
	do {                                                         \
		run(ip, "mx.example.org", "strong-bad@example.com"); \
		is_at(__LINE__, want);                               \
	} while (0)

static char zone[32768];

static void zone_set(const char *first, const char *second)
{
	int n = snprintf(zone, sizeof zone, "%s%s", first, second);
	assert_true(n >= 0 && (size_t)n < sizeof zone);
	fake_dns_zone(zone);
}

/* A record for example.com, and more zone. */
static void record(const char *text, const char *more)
{
	char line[8192];
	int n = snprintf(line, sizeof line, "example.com TXT %s\n", text);
	assert_true(n >= 0 && (size_t)n < sizeof line);
	zone_set(line, more);
}

/* ---- appendix A --------------------------------------------------------------------------- */

static const char appendix[] = "example.com MX mail-a.example.com\n"
                               "example.com MX mail-b.example.com\n"
                               "example.com A 192.0.2.10\n"
                               "example.com A 192.0.2.11\n"
                               "amy.example.com A 192.0.2.65\n"
                               "bob.example.com A 192.0.2.66\n"
                               "mail-a.example.com A 192.0.2.129\n"
                               "mail-b.example.com A 192.0.2.130\n"
                               "example.org MX mail-c.example.org\n"
                               "mail-c.example.org A 192.0.2.140\n"
                               "192.0.2.10 PTR example.com\n"
                               "192.0.2.11 PTR example.com\n"
                               "192.0.2.65 PTR amy.example.com\n"
                               "192.0.2.66 PTR bob.example.com\n"
                               "192.0.2.129 PTR mail-a.example.com\n"
                               "192.0.2.130 PTR mail-b.example.com\n"
                               "192.0.2.140 PTR mail-c.example.org\n"
                               "10.0.0.4 PTR bob.example.com\n";

static void test_appendix_a1(void **state)
{
	static const struct {
		const char *record;
		const char *pass[4];
		const char *fail[3];
	} cases[] = {
	    {"v=spf1 +all", {"192.0.2.1", "10.0.0.4", "2001:db8::1"}, {0}},
	    {"v=spf1 a -all", {"192.0.2.10", "192.0.2.11"}, {"192.0.2.12", "192.0.2.129"}},
	    {"v=spf1 a:example.org -all", {0}, {"192.0.2.10", "192.0.2.140"}},
	    {"v=spf1 mx -all", {"192.0.2.129", "192.0.2.130"}, {"192.0.2.131", "192.0.2.10"}},
	    {"v=spf1 mx:example.org -all", {"192.0.2.140"}, {"192.0.2.129"}},
	    {"v=spf1 mx mx:example.org -all",
	     {"192.0.2.129", "192.0.2.130", "192.0.2.140"},
	     {"192.0.2.10"}},
	    {"v=spf1 mx/30 mx:example.org/30 -all",
	     {"192.0.2.128", "192.0.2.131", "192.0.2.140", "192.0.2.143"},
	     {"192.0.2.132", "192.0.2.127", "192.0.2.144"}},
	    {"v=spf1 ptr -all", {"192.0.2.65", "192.0.2.10"}, {"192.0.2.140", "10.0.0.4"}},
	    {"v=spf1 ip4:192.0.2.128/28 -all", {"192.0.2.129", "192.0.2.143"}, {"192.0.2.65"}},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		record(cases[i].record, appendix);
		for (size_t j = 0; j < 4 && cases[i].pass[j]; j++)
			FOR(cases[i].pass[j], SPF_PASS);
		for (size_t j = 0; j < 3 && cases[i].fail[j]; j++)
			FOR(cases[i].fail[j], SPF_FAIL);
	}
}

static void test_appendix_a2(void **state)
{
	(void)state;
	zone_set("example.org TXT v=spf1 include:example.com include:example.net -all\n"
	         "la.example.org TXT v=spf1 redirect=example.org\n"
	         "example.com TXT v=spf1 mx -all\n"
	         "example.net TXT v=spf1 ip4:198.51.100.0/24 -all\n",
	         appendix);
	run("192.0.2.129", "h", "a@la.example.org");
	is_at(__LINE__, SPF_PASS);
	assert_string_equal(last.mechanism, "include:example.com");
	assert_string_equal(last.domain, "la.example.org");
	run("198.51.100.9", "h", "a@example.org");
	is_at(__LINE__, SPF_PASS);
	assert_string_equal(last.mechanism, "include:example.net");
	run("203.0.113.1", "h", "a@la.example.org");
	is_at(__LINE__, SPF_FAIL);
	assert_string_equal(last.mechanism, "all");
}

static void test_appendix_a3(void **state)
{
	(void)state;
	zone_set("example.com TXT v=spf1 mx include:mobile-users._spf.%{d} "
	         "include:remote-users._spf.%{d} -all\n"
	         "mobile-users._spf.example.com TXT v=spf1 exists:%{l1r+}.%{d}\n"
	         "remote-users._spf.example.com TXT v=spf1 exists:%{ir}.%{l1r+}.%{d}\n"
	         "mary.mobile-users._spf.example.com A 127.0.0.2\n"
	         "fred.mobile-users._spf.example.com A 127.0.0.2\n"
	         "15.15.168.192.joel.remote-users._spf.example.com A 127.0.0.2\n"
	         "16.15.168.192.joel.remote-users._spf.example.com A 127.0.0.2\n",
	         appendix);
	run("203.0.113.1", "h", "mary@example.com");
	is_at(__LINE__, SPF_PASS);
	run("203.0.113.1", "h", "fred+x@example.com");
	is_at(__LINE__, SPF_PASS);
	run("192.168.15.15", "h", "joel@example.com");
	is_at(__LINE__, SPF_PASS);
	run("192.168.15.17", "h", "joel@example.com");
	is_at(__LINE__, SPF_FAIL);
	run("192.168.15.15", "h", "moe@example.com");
	is_at(__LINE__, SPF_FAIL);
}

static void test_appendix_a4(void **state)
{
	(void)state;
	zone_set("example.com TXT v=spf1 -include:ip4._spf.%{d} -include:ptr._spf.%{d} +all\n"
	         "ip4._spf.example.com TXT v=spf1 -ip4:192.0.2.0/24 +all\n"
	         "ptr._spf.example.com TXT v=spf1 -ptr:example.com +all\n",
	         appendix);
	FOR("192.0.2.65", SPF_PASS);
	FOR("192.0.2.140", SPF_FAIL);
	FOR("10.0.0.4", SPF_FAIL);
}

/* ---- identities --------------------------------------------------------------------------- */

static void test_identities(void **state)
{
	(void)state;
	fake_dns_zone("helo.example.org TXT v=spf1 exists:%{l}.%{s}.%{o}.%{h}.x -all\n"
	              "postmaster.postmaster@helo.example.org.helo.example.org.helo.example.org.x "
	              "A 127.0.0.1\n"
	              "example.com TXT v=spf1 +all\n"
	              "xn--mnchen-3ya.example TXT v=spf1 exists:%{d}.x -all\n"
	              "xn--mnchen-3ya.example.x A 127.0.0.1\n"
	              "odd.example TXT v=spf1 exists:%{l}.odd.example -all\n"
	              "a!#$%&'*b=.odd.example A 127.0.0.1\n"
	              "com TXT v=spf1 +all\n");
	run("192.0.2.1", "helo.example.org", "<>");
	is_at(__LINE__, SPF_PASS);
	assert_true(last.helo_identity);
	assert_string_equal(last.domain, "helo.example.org");
	run("192.0.2.1", "HELO.example.ORG.", NULL);
	assert_true(last.helo_identity);
	assert_string_equal(last.domain, "helo.example.org");
	is_at(__LINE__, SPF_FAIL); /* the h macro is as it was said: with its dot */
	run("192.0.2.1", "helo.example.org", "");
	is_at(__LINE__, SPF_PASS);
	run("192.0.2.1", "helo.example.org", "a@example.com");
	is_at(__LINE__, SPF_PASS);
	assert_false(last.helo_identity);
	run("192.0.2.1", "h", "@example.com");
	is_at(__LINE__, SPF_PASS);
	run("192.0.2.1", "h", "example.com");
	is_at(__LINE__, SPF_PASS);
	run("192.0.2.1", "h", "\"a@b\"@example.com");
	is_at(__LINE__, SPF_PASS);
	run("192.0.2.1", "h", "a@m\xc3\xbcnchen.example");
	is_at(__LINE__, WITH_IDN ? SPF_PASS : SPF_NONE);
	run("192.0.2.1", "h", "a!#$%&'*b=@odd.example");
	is_at(__LINE__, SPF_PASS);
	run("192.0.2.1", "h", "\xc3\xa9@odd.example");
	is_at(__LINE__, SPF_FAIL);
	/* What is no domain, or has one label (RFC 7208 4.3). */
	static const char *const none[] = {"a@com",        "a@[192.0.2.1]", "a@[IPv6:::1]",
	                                   "a@",           "a@a..com",      "a@exa mple.com",
	                                   "a@nx.example", "a@.com",        "a@-.example.com"};
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		run("192.0.2.1", "h", none[i]);
		is_at(__LINE__, SPF_NONE);
	}
	run("192.0.2.1", "[192.0.2.1]", "<>");
	is_at(__LINE__, SPF_NONE);
	assert_string_equal(last.domain, "");
	run("192.0.2.1", NULL, NULL);
	is_at(__LINE__, SPF_NONE);
}

static void test_mapped_address(void **state)
{
	(void)state;
	record("v=spf1 ip6:::ffff:192.0.2.1 exists:%{i}.%{v}.x a -all",
	       "example.com A 192.0.2.1\n");
	FOR("::ffff:192.0.2.1", SPF_PASS);
	assert_string_equal(last.mechanism, "a");
}

/* ---- results ------------------------------------------------------------------------------ */

static void test_qualifiers(void **state)
{
	(void)state;
	record(
	    "v=spf1 -ip4:192.0.2.1 ~ip4:192.0.2.2 ?ip4:192.0.2.3 +ip4:192.0.2.4 ip6:2001:db8::/33",
	    "");
	FOR("192.0.2.1", SPF_FAIL);
	assert_string_equal(last.mechanism, "ip4:192.0.2.1");
	FOR("192.0.2.2", SPF_SOFTFAIL);
	FOR("192.0.2.3", SPF_NEUTRAL);
	FOR("192.0.2.4", SPF_PASS);
	FOR("192.0.2.5", SPF_NEUTRAL);
	assert_string_equal(last.mechanism, "default");
	assert_string_equal(last.problem, "");
	FOR("2001:db8:7fff::1", SPF_PASS);
	FOR("2001:db8:8000::1", SPF_NEUTRAL);
	assert_int_equal(fake_dns.asked, 7);
}

static void test_prefixes(void **state)
{
	(void)state;
	record("v=spf1 a:a.x.com/0 -all", "a.x.com A 1.2.3.4\na.x.com AAAA 2001:db8::1\n");
	FOR("192.0.2.1", SPF_PASS);
	FOR("2001:db8::2", SPF_FAIL);
	record("v=spf1 a:a.x.com/31//127 -all", "a.x.com A 192.0.2.4\na.x.com AAAA 2001:db8::2\n");
	FOR("192.0.2.5", SPF_PASS);
	FOR("192.0.2.6", SPF_FAIL);
	FOR("2001:db8::3", SPF_PASS);
	FOR("2001:db8::1", SPF_FAIL);
	record("v=spf1 ip4:0.0.0.0/0 -all", "");
	FOR("192.0.2.5", SPF_PASS);
	FOR("::2", SPF_FAIL);
}

static void test_records_found(void **state)
{
	(void)state;
	fake_dns_zone(
	    "example.com TXT other\nexample.com TXT V=SPF1 +all\nexample.com TXT v=spf10 -all\n");
	FOR("192.0.2.1", SPF_PASS);
	fake_dns.truncated = "TXT";
	FOR("192.0.2.1", SPF_TEMPERROR);
	fake_dns_zone("example.com TXT v=spf1 +all\nexample.com TXT v=spf1 +all\n");
	fake_dns.truncated = "TXT";
	FOR("192.0.2.1", SPF_PERMERROR);
	assert_string_equal(last.problem, "example.com: more than one SPF record");
	fake_dns_zone("example.com TXT other\n");
	FOR("192.0.2.1", SPF_NONE);
	fake_dns_zone("example.com TXT !nodata\n");
	FOR("192.0.2.1", SPF_NONE);
	fake_dns_zone("example.com TXT !failure\n");
	FOR("192.0.2.1", SPF_TEMPERROR);
	assert_string_equal(last.problem, "example.com: DNS server failure");
	/* An error anywhere counts before anything is evaluated (4.6). */
	record("v=spf1 a:x.org -ip4:192.0.2.1 ip4:1.2.3 -all", "");
	FOR("192.0.2.1", SPF_PERMERROR);
	assert_string_equal(last.problem, "example.com: ip4:1.2.3: syntax error");
	assert_int_equal(fake_dns.asked, 1);
	record("v=spf1 +all redirect=a.b redirect=c.d", "");
	FOR("192.0.2.1", SPF_PERMERROR);
}

static void test_include(void **state)
{
	static const struct {
		const char *inner;
		enum spf_result want;
	} cases[] = {
	    {"i.com TXT v=spf1 +all\n", SPF_SOFTFAIL},
	    {"i.com TXT v=spf1 -all\n", SPF_PASS},
	    {"i.com TXT v=spf1 ~all\n", SPF_PASS},
	    {"i.com TXT v=spf1 ?all\n", SPF_PASS},
	    {"i.com TXT v=spf1\n", SPF_PASS},
	    {"i.com TXT !timeout\n", SPF_TEMPERROR},
	    {"i.com TXT v=spf1 x\n", SPF_PERMERROR},
	    {"i.com TXT none\n", SPF_PERMERROR},
	    {"", SPF_PERMERROR},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		record("v=spf1 ~include:i.com +all", cases[i].inner);
		FOR("192.0.2.1", cases[i].want);
	}
	record("v=spf1 include:%{l}.c..x.com +all", "");
	FOR("192.0.2.1", SPF_PERMERROR);
	char long_name[400];
	memset(long_name, 'x', sizeof long_name);
	memcpy(long_name, "v=spf1 include:", 15);
	memcpy(long_name + 300, "%{d1} +all", 11);
	record(long_name, "");
	FOR("192.0.2.1", SPF_PERMERROR);
	record("v=spf1 include:%{d1} +all", "");
	FOR("192.0.2.1", SPF_PERMERROR);
	/* RFC 8616 4: such a name matches nothing. */
	record("v=spf1 include:%{l}.x.com +all", "");
	run("192.0.2.1", "h", "\xc3\xa9@example.com");
	is_at(__LINE__, SPF_PASS);
	/* The d macro is that of the record, the o macro that of the sender. */
	record("v=spf1 include:i.com -all", "i.com TXT v=spf1 exists:%{o}.%{d}.x\n"
	                                    "example.com.i.com.x A 127.0.0.1\n");
	FOR("192.0.2.1", SPF_PASS);
}

static void test_redirect(void **state)
{
	(void)state;
	record("v=spf1 redirect=r.com ip4:192.0.2.9 exp=e.com",
	       "r.com TXT v=spf1 a -all exp=e2.%{d}\ne.com TXT wrong\nr.com A 192.0.2.1\n"
	       "e2.r.com TXT %{d} says no\n");
	FOR("192.0.2.9", SPF_PASS);
	FOR("192.0.2.1", SPF_PASS);
	FOR("192.0.2.2", SPF_FAIL);
	assert_string_equal(last.explanation, "r.com says no");
	record("v=spf1 redirect=r.com", "");
	FOR("192.0.2.2", SPF_PERMERROR);
	assert_string_equal(last.problem, "example.com: r.com: no SPF record there");
	record("v=spf1 redirect=%{l}..com", "");
	FOR("192.0.2.2", SPF_PERMERROR);
	record("v=spf1 redirect=r.com", "r.com TXT !failure\n");
	FOR("192.0.2.2", SPF_TEMPERROR);
	/* Not with a mechanism "all", wherever that stands (5.1). */
	record("v=spf1 redirect=r.com ?all", "r.com TXT v=spf1 -all\n");
	FOR("192.0.2.2", SPF_NEUTRAL);
	/* In an include, it belongs to that. */
	record("v=spf1 include:i.com ~all",
	       "i.com TXT v=spf1 redirect=r.com\nr.com TXT v=spf1 a:r.com\n"
	       "r.com A 192.0.2.7\n");
	FOR("192.0.2.7", SPF_PASS);
	FOR("192.0.2.8", SPF_SOFTFAIL);
}

static void test_exists(void **state)
{
	(void)state;
	record("v=spf1 exists:%{ir}.x.com -all", "1.2.0.192.x.com A 127.0.0.2\n");
	FOR("192.0.2.1", SPF_PASS);
	FOR("192.0.2.2", SPF_FAIL);
	record("v=spf1 exists:e.x.com -all", "e.x.com A 127.0.0.2\n"); /* A for IPv6 too (5.7) */
	FOR("2001:db8::1", SPF_PASS);
	record("v=spf1 exists:e.x.com -all", "e.x.com AAAA ::1\n");
	FOR("2001:db8::1", SPF_FAIL);
	record("v=spf1 exists:e.x.com -all", "e.x.com A !timeout\n");
	FOR("192.0.2.1", SPF_TEMPERROR);
}

static void test_dns_trouble(void **state)
{
	static const char *const troubles[] = {"!failure", "!timeout", "!memory"};
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		char more[100];
		snprintf(more, sizeof more, "m.com MX %s\na.com A %s\nb.com MX a.com\n",
		         troubles[i], troubles[i]);
		record("v=spf1 mx:m.com +all", more);
		FOR("192.0.2.1", SPF_TEMPERROR);
		record("v=spf1 mx:b.com +all", more);
		FOR("192.0.2.1", SPF_TEMPERROR);
		record("v=spf1 a:a.com +all", more);
		FOR("192.0.2.1", SPF_TEMPERROR);
		assert_memory_equal(last.problem, "example.com: a:a.com: ", 22);
	}
	/* A host that matches before the one that fails. */
	record("v=spf1 mx:m.com +all",
	       "m.com MX a.com\nm.com MX b.com\na.com A 192.0.2.1\nb.com A !failure\n");
	FOR("192.0.2.1", SPF_PASS);
	/* Addresses beyond the resolver's limit: perhaps one of them matches. */
	static const char *const cut[] = {"v=spf1 a:a.com +all", "v=spf1 mx:m.com +all"};
	for (size_t i = 0; i < 2; i++) {
		record(cut[i], "a.com A 192.0.2.2\nm.com MX a.com\n");
		fake_dns.truncated = "A";
		FOR("192.0.2.1", SPF_TEMPERROR);
		assert_non_null(strstr(last.problem, "too many addresses"));
		FOR("192.0.2.2", SPF_PASS);
	}
	record("v=spf1 exists:a.com -all", "a.com A 192.0.2.2\n");
	fake_dns.truncated = "A";
	FOR("192.0.2.1", SPF_PASS);
}

/* ---- ptr and the p macro ------------------------------------------------------------------ */

static void test_ptr(void **state)
{
	(void)state;
	record("v=spf1 ptr -all", "192.0.2.1 PTR a.EXAMPLE.com\na.example.COM A 192.0.2.1\n");
	FOR("192.0.2.1", SPF_PASS);
	record("v=spf1 ptr -all", "192.0.2.1 PTR badexample.com\nbadexample.com A 192.0.2.1\n");
	FOR("192.0.2.1", SPF_FAIL);
	record("v=spf1 ptr:x.org -all", "192.0.2.1 PTR b.x.org\nb.x.org A 192.0.2.2\n");
	FOR("192.0.2.1", SPF_FAIL);
	/* Trouble means no names (5.5). */
	record("v=spf1 ptr -all", "192.0.2.1 PTR !failure\n");
	FOR("192.0.2.1", SPF_FAIL);
	record("v=spf1 ptr -all", "192.0.2.1 PTR x.org\n192.0.2.1 PTR example.com\nx.org A "
	                          "!timeout\nexample.com A 192.0.2.1\n");
	FOR("192.0.2.1", SPF_PASS);
	record("v=spf1 ptr -all", "2001:db8::1 PTR example.com\nexample.com AAAA 2001:db8::1\n");
	FOR("2001:db8::1", SPF_PASS);
	/* Ten names; the rest is ignored (4.6.4). */
	char more[2000] = "";
	size_t n = 0;
	for (int i = 0; i < 10; i++)
		n += (size_t)snprintf(more + n, sizeof more - n, "192.0.2.1 PTR n%d.org\n", i);
	snprintf(more + n, sizeof more - n, "192.0.2.1 PTR example.com\nexample.com A 192.0.2.1\n");
	record("v=spf1 ptr -all", more);
	FOR("192.0.2.1", SPF_FAIL);
	assert_int_equal(fake_dns.asked, 12);
}

static void test_p_macro(void **state)
{
	static const char names[] =
	    "192.0.2.1 PTR o.org\n192.0.2.1 PTR a.example.com\n"
	    "192.0.2.1 PTR forged.com\n192.0.2.1 PTR Example.com\n"
	    "o.org A 192.0.2.1\na.example.com A 192.0.2.1\nExample.com A 192.0.2.1\n"
	    "a.example.com.x A 127.0.0.1\nExample.com.x A 127.0.0.1\n"
	    "o.org.x A 127.0.0.1\nunknown.x A 127.0.0.1\n"
	    "i.com TXT v=spf1 exists:%{p}.x\n"
	    "e.com TXT you are %{p}\n";
	(void)state;
	record("v=spf1 -exists:%{p}.x exp=e.%{p1}", names);
	FOR("192.0.2.1", SPF_FAIL);
	assert_string_equal(last.explanation, "you are Example.com");
	/* Asked for once: record, PTR and 4 names, exists, explanation. */
	assert_int_equal(fake_dns.asked, 8);
	record("v=spf1 include:i.com ptr:nowhere.org -all", names);
	FOR("192.0.2.1", SPF_PASS);
	assert_int_equal(fake_dns.asked, 8);
	/* No names at all. */
	record("v=spf1 exists:%{p}.x -all", names);
	FOR("192.0.2.2", SPF_PASS);
	/* Its look-up is one of the ten (4.6.4). */
	record("v=spf1 a a a a a a a a a exists:%{p}.x", "example.com A 192.0.2.9\n");
	FOR("192.0.2.2", SPF_PERMERROR);
	/* Only the explanation wants it. */
	record("v=spf1 -all exp=e.com", names);
	FOR("192.0.2.1", SPF_FAIL);
	assert_string_equal(last.explanation, "you are Example.com");
}

/* ---- explanations ------------------------------------------------------------------------- */

static void test_explanations(void **state)
{
	static const char *const none[] = {
	    "",
	    "e.org TXT !failure\n",
	    "e.org TXT one\ne.org TXT two\n",
	    "e.org TXT bad %x\n",
	    "e.org TXT bad %{d\n",
	    "e.org TXT caf\xc3\xa9\n",
	    "e.org TXT a\tb\n",
	    "e.org A 1.2.3.4\n",
	    "e.org TXT from %{s}\n",
	};
	(void)state;
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		record("v=spf1 -all exp=e.org", none[i]);
		run("192.0.2.1", "h", "\xc3\xa9@example.com");
		is_at(__LINE__, SPF_FAIL);
		assert_string_equal(last.explanation, "");
		assert_string_equal(last.problem, "");
	}
	record("v=spf1 -all exp=%{l}.e.org", "");
	run("192.0.2.1", "h", "\xc3\xa9@example.com");
	is_at(__LINE__, SPF_FAIL);
	record("v=spf1 -all exp=e.org", "e.org TXT %{c} may not, %{r} says at %{t}: see "
	                                "http://%{d}/why?s=%{S};i=%{I}\n");
	FOR("192.0.2.1", SPF_FAIL);
	assert_string_equal(last.explanation,
	                    "192.0.2.1 may not, mx.example.net says at 5: see "
	                    "http://example.com/why?s=strong-bad%40example.com;i=192.0.2.1");
	record("v=spf1 ~all exp=e.org", "e.org TXT no\n");
	FOR("192.0.2.1", SPF_SOFTFAIL);
	assert_string_equal(last.explanation, "");
	assert_int_equal(fake_dns.asked, 1);
	/* That of an included record is not used. */
	record("v=spf1 -include:i.com",
	       "i.com TXT v=spf1 ip4:192.0.2.1 -all exp=e.org\ne.org TXT no\n");
	FOR("192.0.2.1", SPF_FAIL);
	assert_string_equal(last.explanation, "");
	/* Cut. */
	char more[1000] = "e.org TXT ";
	memset(more + 10, 'x', 900);
	memcpy(more + 910, "\n", 2);
	record("v=spf1 -all exp=e.org", more);
	FOR("192.0.2.1", SPF_FAIL);
	assert_int_equal(strlen(last.explanation), SPF_EXPLANATION_MAX);
}

/* ---- limits ------------------------------------------------------------------------------- */

static void test_ten_terms(void **state)
{
	(void)state;
	record("v=spf1 a a a a a a a a a a ~all", "example.com A 192.0.2.9\n");
	FOR("192.0.2.1", SPF_SOFTFAIL);
	record("v=spf1 a a a a a a a a a a a ~all", "example.com A 192.0.2.9\n");
	FOR("192.0.2.1", SPF_PERMERROR);
	assert_string_equal(last.problem, "example.com: a: more than 10 terms that ask DNS");
	FOR("192.0.2.9", SPF_PASS); /* evaluation ends with a match */
	record("v=spf1 a a a a a a a a a a redirect=r.com", "example.com A 192.0.2.9\n");
	FOR("192.0.2.1", SPF_PERMERROR);
	/* Over includes: 1 + 4 + 1 + 4, and one more. */
	record("v=spf1 include:i.com include:i.com -all",
	       "i.com TXT v=spf1 a a a a\ni.com A 192.0.2.9\n");
	FOR("192.0.2.1", SPF_FAIL);
	record("v=spf1 include:i.com include:i.com a -all",
	       "i.com TXT v=spf1 a a a a\ni.com A 192.0.2.9\n");
	FOR("192.0.2.1", SPF_PERMERROR);
	/* Those that ask nothing, and the unknown, cost nothing. */
	record("v=spf1 ip4:1.1.1.1 ip4:1.1.1.1 ip4:1.1.1.1 ip4:1.1.1.1 ip4:1.1.1.1 ip4:1.1.1.1 "
	       "ip4:1.1.1.1 "
	       "ip6:::1 ip6:::1 ip6:::1 ip6:::1 ip6:::1 ip6:::1 ip6:::1 x=y y=z exp=e.org -all",
	       "");
	FOR("192.0.2.1", SPF_FAIL);
	/* Loops. */
	record("v=spf1 include:example.com", "");
	FOR("192.0.2.1", SPF_PERMERROR);
	assert_int_equal(fake_dns.asked, 11);
	record("v=spf1 redirect=example.com", "");
	FOR("192.0.2.1", SPF_PERMERROR);
	assert_int_equal(fake_dns.asked, 11);
}

static void test_void_lookups(void **state)
{
	(void)state;
	record("v=spf1 a:x.com mx:x.com -all", "");
	FOR("192.0.2.1", SPF_FAIL);
	record("v=spf1 a:x.com mx:x.com exists:x.com -all", "");
	FOR("192.0.2.1", SPF_PERMERROR);
	assert_string_equal(last.problem,
	                    "example.com: exists:x.com: too many look-ups without an answer");
	record("v=spf1 a ptr mx -all", "example.com MX nowhere.com\nexample.com A !nodata\n");
	FOR("192.0.2.1", SPF_PERMERROR);
	/* One host of an mx that is missing is not a void term; a name that is none was not asked.
	 */
	record("v=spf1 mx mx mx -all",
	       "example.com MX nx.com\nexample.com MX y.com\ny.com A 1.1.1.1\n");
	FOR("192.0.2.1", SPF_FAIL);
	record("v=spf1 a:%{l}..com a:%{l}..com a:%{l}..com mx -all", "example.com MX \n");
	FOR("192.0.2.1", SPF_FAIL);
	/* Names of the client that have no address are its own affair. */
	record("v=spf1 ptr -all",
	       "192.0.2.1 PTR a.com\n192.0.2.1 PTR b.com\n192.0.2.1 PTR c.com\n");
	FOR("192.0.2.1", SPF_FAIL);
}

static void test_mx_names(void **state)
{
	char more[2000] = "h.com A 192.0.2.9\n";
	(void)state;
	for (int i = 0; i < 10; i++)
		snprintf(more + strlen(more), sizeof more - strlen(more), "example.com MX h.com\n");
	record("v=spf1 mx -all", more);
	FOR("192.0.2.1", SPF_FAIL);
	snprintf(more + strlen(more), sizeof more - strlen(more), "example.com MX h.com\n");
	record("v=spf1 mx -all", more);
	FOR("192.0.2.9", SPF_PERMERROR);
	assert_string_equal(last.problem, "example.com: mx: more than 10 MX hosts");
}

/* The most that a record can make us ask: exactly what spf.c says. */
static void test_bomb(void **state)
{
	char more[8000] = "h0.com A 192.0.2.9\nunknown.org TXT see %{p}\n";
	(void)state;
	for (int i = 0; i < 10; i++)
		snprintf(more + strlen(more), sizeof more - strlen(more),
		         "m.com MX h%d.com\n192.0.2.1 PTR n%d.com\n", i, i);
	record("v=spf1 mx:m.com mx:m.com mx:m.com mx:m.com mx:m.com mx:m.com mx:m.com mx:m.com "
	       "mx:m.com mx:m.com -all exp=%{p}.org",
	       more);
	FOR("192.0.2.1", SPF_FAIL);
	assert_string_equal(last.explanation, "see unknown");
	assert_int_equal(fake_dns.asked, QUESTIONS_MAX);
	/* Without any answer, the third term is the last. */
	fake_dns_zone("example.com TXT v=spf1 mx:m.com mx:m.com mx:m.com mx:m.com\n"
	              "m.com MX 1.com\nm.com MX 2.com\n");
	FOR("192.0.2.1", SPF_PERMERROR);
	assert_int_equal(fake_dns.asked, 10);
}

static void test_long_records(void **state)
{
	char big[SPF_RECORD_MAX + 10];
	char more[3 * SPF_RECORD_MAX];
	(void)state;
	memset(big, ' ', sizeof big);
	memcpy(big, "v=spf1 ", 7);
	memcpy(big + SPF_RECORD_MAX - 4, "+all", 5);
	record(big, "");
	FOR("192.0.2.1", SPF_PASS);
	memcpy(big + SPF_RECORD_MAX - 4, " +all", 6);
	record(big, "");
	FOR("192.0.2.1", SPF_PERMERROR);
	assert_string_equal(last.problem, "example.com: record too long");
	/* Those that include one another, together. */
	memset(big, ' ', sizeof big);
	big[SPF_RECORDS_MAX / 3 + 1] = '\0';
	memcpy(big, "v=spf1 include:b.com ", 21);
	int n = snprintf(more, sizeof more, "b.com TXT v=spf1 include:c.com%s\n", big + 21);
	snprintf(more + n, sizeof more - (size_t)n, "c.com TXT v=spf1 +all%s\n", big + 21);
	record(big, more);
	FOR("192.0.2.1", SPF_PASS);
	snprintf(more + n, sizeof more - (size_t)n, "c.com TXT v=spf1 +all%s           \n",
	         big + 21);
	record(big, more);
	FOR("192.0.2.1", SPF_PERMERROR);
}

static void test_checks_max(void **state)
{
	struct spf_check *c[SPF_CHECKS_MAX];
	(void)state;
	record("v=spf1 +all", "");
	for (size_t i = 0; i < SPF_CHECKS_MAX; i++)
		assert_non_null(c[i] = start("192.0.2.1", "h", "a@example.com"));
	assert_null(start("192.0.2.1", "h", "a@example.com"));
	for (size_t i = 0; i < SPF_CHECKS_MAX; i++)
		spf_cancel(c[i]);
	FOR("192.0.2.1", SPF_PASS);
}

/* ---- the end at any moment ---------------------------------------------------------------- */

/* Goes through everything: includes, a redirect, mx, ptr, %{p}, an explanation. */
static void zone_of_all(void)
{
	fake_dns_zone("example.com TXT v=spf1 a include:i.com exists:%{p}.x mx redirect=r.com\n"
	              "i.com TXT v=spf1 include:j.com ptr -all exp=e.com\n"
	              "j.com TXT v=spf1 a:a.com -all\n"
	              "r.com TXT v=spf1 a:a.com -all exp=e.com\n"
	              "e.com TXT %{p} %{d}\n"
	              "a.com A 192.0.2.9\n"
	              "example.com A 192.0.2.9\n"
	              "example.com MX a.com\nexample.com MX b.com\n"
	              "192.0.2.1 PTR n.com\nn.com A 192.0.2.1\n");
}

static void test_cancel_at_each_step(void **state)
{
	int turns = 0;
	(void)state;
	zone_of_all();
	FOR("192.0.2.1", SPF_FAIL);
	assert_string_equal(last.explanation, "n.com r.com");
	for (; turns < 200; turns++) {
		struct spf_check *c = start("192.0.2.1", "h", "a@example.com");
		for (int i = 0; i < turns && answers == 0; i++)
			loop_turn(0);
		if (answers > 0)
			break;
		spf_cancel(c);
		assert_int_equal(fake_dns.waiting, 0);
		loop_turn(0);
		assert_int_equal(answers, 0);
	}
	assert_in_range(turns, 10, 100);
	spf_cancel(NULL);
}

static void test_trouble_at_each_step(void **state)
{
	static const enum dns_result troubles[] = {DNS_NO_NAME, DNS_NO_DATA,  DNS_SERVER_FAILURE,
	                                           DNS_TIMEOUT, DNS_BAD_NAME, DNS_NO_MEMORY};
	(void)state;
	zone_of_all();
	FOR("192.0.2.1", SPF_FAIL);
	unsigned all = fake_dns.asked;
	for (unsigned at = 1; at <= all; at++) {
		for (size_t i = 0; i < 6; i++) {
			zone_of_all();
			fake_dns.fail_at = at;
			fake_dns.fail_with = troubles[i];
			run("192.0.2.1", "h", "a@example.com");
			/* No trouble may turn a "fail" into a "pass". */
			assert_int_not_equal(last.result, SPF_PASS);
			if (i >= 2 && i != 4 && last.result != SPF_FAIL)
				is_at(__LINE__, SPF_TEMPERROR);
		}
	}
}

/* The loop's clock, which a test may put forward. */
static int64_t skew_s;

int clock_gettime(clockid_t id, struct timespec *ts)
{
	(void)id;
	if (timespec_get(ts, TIME_UTC) != TIME_UTC)
		return -1;
	ts->tv_sec += (time_t)skew_s;
	return 0;
}

/* The record is answered, the question behind it is not. */
static void time_passes(void)
{
	loop_turn(0);
	fake_dns.silent = true;
	loop_turn(0);
	assert_int_equal(fake_dns.waiting, 1);
	skew_s += SPF_TOTAL_MS / 1000 - 2;
	loop_turn(0);
	loop_turn(0);
	assert_int_equal(answers, 0);
	skew_s += 4;
	for (int i = 0; i < 3; i++)
		loop_turn(0);
	assert_int_equal(answers, 1);
	assert_int_equal(fake_dns.waiting, 0);
}

static void test_total_time(void **state)
{
	(void)state;
	record("v=spf1 a -all", "");
	assert_non_null(start("192.0.2.1", "h", "a@example.com"));
	time_passes();
	assert_int_equal(last.result, SPF_TEMPERROR);
	assert_string_equal(last.problem, "example.com: a: not finished in time");
	/* The result is there, only its explanation is not. */
	record("v=spf1 -all exp=e.org", "e.org TXT no\n");
	assert_non_null(start("192.0.2.1", "h", "a@example.com"));
	time_passes();
	assert_int_equal(last.result, SPF_FAIL);
	assert_string_equal(last.explanation, "");
}

static void test_cancel_in_done(void **state)
{
	struct spf_check *c;
	struct spf_question q = {.helo = "h", .sender = "a@example.com"};
	(void)state;
	assert_int_equal(dns_addr_parse(&q.ip, slice_of("192.0.2.1")), 0);
	record("v=spf1 -all exp=e.org", "e.org TXT %{r}\n");
	answers = 0;
	c = spf_start(&q, answered, &c);
	assert_non_null(c);
	for (int i = 0; i < 20 && answers == 0; i++)
		loop_turn(0);
	assert_int_equal(answers, 1);
	assert_string_equal(last.explanation, "unknown");
}

static void test_hostile_texts(void **state)
{
	(void)state;
	record("v=spf1 a:\x1b[2J\xff", "");
	FOR("192.0.2.1", SPF_PERMERROR);
	assert_string_equal(last.problem, "example.com: a:?[2J?: syntax error");
	char big[1000];
	memset(big, 'x', sizeof big);
	memcpy(big, "v=spf1 ", 7);
	big[999] = '\0';
	record(big, "");
	FOR("192.0.2.1", SPF_PERMERROR);
	assert_true(strlen(last.problem) < 300);
	run("192.0.2.1", "\r\n\x01\xff%{d} %", "<>");
	is_at(__LINE__, SPF_NONE);
	memset(big, 'h', sizeof big - 1);
	run("192.0.2.1", big, "<>");
	is_at(__LINE__, SPF_NONE);
	memcpy(big + 900, "@example.com", 13);
	record("v=spf1 -all", "");
	run("192.0.2.1", big, big);
	is_at(__LINE__, SPF_FAIL);
}

static int setup(void **state)
{
	(void)state;
	return loop_init();
}

static int teardown(void **state)
{
	(void)state;
	loop_done();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_appendix_a1),
	    cmocka_unit_test(test_appendix_a2),
	    cmocka_unit_test(test_appendix_a3),
	    cmocka_unit_test(test_appendix_a4),
	    cmocka_unit_test(test_identities),
	    cmocka_unit_test(test_mapped_address),
	    cmocka_unit_test(test_qualifiers),
	    cmocka_unit_test(test_prefixes),
	    cmocka_unit_test(test_records_found),
	    cmocka_unit_test(test_include),
	    cmocka_unit_test(test_redirect),
	    cmocka_unit_test(test_exists),
	    cmocka_unit_test(test_dns_trouble),
	    cmocka_unit_test(test_ptr),
	    cmocka_unit_test(test_p_macro),
	    cmocka_unit_test(test_explanations),
	    cmocka_unit_test(test_ten_terms),
	    cmocka_unit_test(test_void_lookups),
	    cmocka_unit_test(test_mx_names),
	    cmocka_unit_test(test_bomb),
	    cmocka_unit_test(test_long_records),
	    cmocka_unit_test(test_checks_max),
	    cmocka_unit_test(test_cancel_at_each_step),
	    cmocka_unit_test(test_trouble_at_each_step),
	    cmocka_unit_test(test_total_time),
	    cmocka_unit_test(test_cancel_in_done),
	    cmocka_unit_test(test_hostile_texts),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
