/* test_spf_macro: macro strings, with all examples of RFC 7208 7.4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "spf_macro.h"

static struct dns_addr ip;
static struct spf_values v;

static void setup_values(const char *address)
{
	assert_int_equal(dns_addr_parse(&ip, slice_of(address)), 0);
	v = (struct spf_values){
	    .sender = slice_of("strong-bad@email.example.com"),
	    .local = slice_of("strong-bad"),
	    .sender_domain = slice_of("email.example.com"),
	    .domain = slice_of("email.example.com"),
	    .helo = slice_of("mx.example.org"),
	    .receiver = slice_of("mx.example.net"),
	    .validated = slice_of("mx.example.org"),
	    .ip = &ip,
	    .now = 1700000000,
	};
}

static void text_is(const char *in, const char *want)
{
	char out[300];
	assert_true(spf_macro_is_valid(slice_of(in), SPF_IN_EXPLANATION));
	spf_macro_text(slice_of(in), &v, out, sizeof out);
	assert_string_equal(out, want);
}

static void domain_is(const char *in, const char *want)
{
	char out[SPF_NAME_SIZE];
	assert_true(spf_macro_is_valid(slice_of(in), SPF_IN_DOMAIN));
	assert_int_equal(spf_macro_domain(slice_of(in), &v, out), SPF_NAME_OK);
	assert_string_equal(out, want);
}

static void test_examples_of_the_rfc(void **state)
{
	static const char *const cases[][2] = {
	    {"%{s}", "strong-bad@email.example.com"},
	    {"%{o}", "email.example.com"},
	    {"%{d}", "email.example.com"},
	    {"%{d4}", "email.example.com"},
	    {"%{d3}", "email.example.com"},
	    {"%{d2}", "example.com"},
	    {"%{d1}", "com"},
	    {"%{dr}", "com.example.email"},
	    {"%{d2r}", "example.email"},
	    {"%{l}", "strong-bad"},
	    {"%{l-}", "strong.bad"},
	    {"%{lr}", "strong-bad"},
	    {"%{lr-}", "bad.strong"},
	    {"%{l1r-}", "strong"},
	};
	static const char *const names[][2] = {
	    {"%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"},
	    {"%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"},
	    {"%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"},
	    {"%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"},
	    {"%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"},
	};
	(void)state;
	setup_values("192.0.2.3");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		text_is(cases[i][0], cases[i][1]);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		domain_is(names[i][0], names[i][1]);
	setup_values("2001:db8::cb01");
	domain_is("%{ir}.%{v}._spf.%{d2}", "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d."
	                                   "0.1.0.0.2.ip6._spf.example.com");
}

static void test_other_letters(void **state)
{
	(void)state;
	setup_values("192.0.2.3");
	text_is("%{c} %{r} %{t} %{h} %{p} %{i} %{v}",
	        "192.0.2.3 mx.example.net 1700000000 mx.example.org mx.example.org 192.0.2.3 "
	        "in-addr");
	text_is("a%%b%_c%-d", "a%b c%20d");
	text_is("", "");
	setup_values("2001:db8::1");
	text_is("%{c} %{v}", "2001:db8::1 ip6");
	text_is("%{i}", "2.0.0.1.0.d.b.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1");
}

static void test_escape_and_delimiters(void **state)
{
	(void)state;
	setup_values("192.0.2.3");
	v.local = slice_of("a+b=c/d_e,f g~h");
	text_is("%{l}", "a+b=c/d_e,f g~h");
	text_is("%{L}", "a%2Bb%3Dc%2Fd_e%2Cf%20g~h");
	text_is("%{l+=/_,}", "a.b.c.d.e.f g~h");
	text_is("%{l2r+=/_,}", "b.a");
	text_is("%{L1R+=}", "a");
	v.local = slice_of("a..b");
	text_is("%{lr}", "b..a");
	text_is("%{l1}", "b");
	v.local = slice_of("");
	text_is("<%{l}%{lr}%{l3-}>", "<>");
	/* Parts in numbers beyond all bounds are all of them. */
	text_is("%{d999999999999999999999999}", "email.example.com");
	text_is("%{D}%{DR}", "email.example.comcom.example.email");
}

static void test_syntax(void **state)
{
	static const struct {
		const char *text;
		bool domain, modifier, explanation;
	} cases[] = {
	    {"%{d}", true, true, true},
	    {"a.b", true, true, true},
	    {"a.b.", true, true, true},
	    {"%{c}", false, true, true},
	    {"%{r}", false, true, true},
	    {"%{T}", false, true, true},
	    {"%{P}.b", true, true, true},
	    {"a b", false, false, true},
	    {"", false, true, true},
	    {"a", false, true, true},
	    {".", false, true, true},
	    {"a.", false, true, true},
	    {".com", true, true, true},
	    {"a.1", false, true, true},
	    {"a.1a", true, true, true},
	    {"a.a-b", true, true, true},
	    {"a.1-2", true, true, true},
	    {"a.-b", false, true, true},
	    {"a.b-", false, true, true},
	    {"a.b_c", false, true, true},
	    {"%{d}com", false, true, true},
	    {"%{d}.com", true, true, true},
	    {"%{d}.", false, true, true},
	    {"a.b%%", true, true, true},
	    {"a.b/c.de", true, true, true},
	    {"%{x}", false, false, false},
	    {"%{}", false, false, false},
	    {"%{d", false, false, false},
	    {"%{", false, false, false},
	    {"%", false, false, false},
	    {"a%", false, false, false},
	    {"%a", false, false, false},
	    {"%(d)", false, false, false},
	    {"%{d0}", false, false, false},
	    {"%{d00}", false, false, false},
	    {"%{d010}", true, true, true},
	    {"%{dr2}", false, false, false},
	    {"%{drr}", false, false, false},
	    {"%{d-r}", false, false, false},
	    {"%{d*}", false, false, false},
	    {"%{d:}", false, false, false},
	    {"a\tb.com", false, false, false},
	    {"a\x7f.com", false, false, false},
	    {"\xc3\xa9.com", false, false, false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct slice s = slice_of(cases[i].text);
		bool good = spf_macro_is_valid(s, SPF_IN_DOMAIN) == cases[i].domain &&
		            spf_macro_is_valid(s, SPF_IN_MODIFIER) == cases[i].modifier &&
		            spf_macro_is_valid(s, SPF_IN_EXPLANATION) == cases[i].explanation;
		if (!good)
			fail_msg("%s", cases[i].text);
	}
	/* A NUL is no end. */
	assert_false(spf_macro_is_valid((struct slice){"a.b\0", 4}, SPF_IN_EXPLANATION));
	assert_false(spf_macro_is_valid((struct slice){"%{d\0}", 5}, SPF_IN_EXPLANATION));
	assert_false(spf_macro_is_valid((struct slice){"%\0", 2}, SPF_IN_EXPLANATION));
}

static void test_wants_p(void **state)
{
	(void)state;
	assert_true(spf_macro_wants_p(slice_of("a.%{p}")));
	assert_true(spf_macro_wants_p(slice_of("%{d}%{P2r}.a")));
	assert_false(spf_macro_wants_p(slice_of("p.%{d}.%%{p}")));
	assert_false(spf_macro_wants_p(slice_of("")));
}

static void append(char *out, size_t size, const char *text, int times)
{
	size_t n = strlen(out);
	while (times-- > 0)
		n += (size_t)snprintf(out + n, size - n, "%s", text);
	assert_true(n < size);
}

/* RFC 7208 7.3: a name of more than 253 bytes loses labels at its left. */
static void test_long_names(void **state)
{
	char label[65];
	char spec[4096] = "";
	char out[SPF_NAME_SIZE];
	(void)state;
	setup_values("192.0.2.3");
	memset(label, 'x', 63);
	label[63] = '.';
	label[64] = '\0';
	append(spec, sizeof spec, label, 4);
	append(spec, sizeof spec, "ab.com", 1); /* 262: two labels too many */
	assert_int_equal(spf_macro_domain(slice_of(spec), &v, out), SPF_NAME_OK);
	assert_int_equal(strlen(out), 3 * 64 + 6);
	assert_string_equal(out, spec + 64);
	/* Exactly 253, and 254. */
	memset(spec, 'a', sizeof spec);
	memcpy(spec + 250, ".de", 4);
	assert_int_equal(spf_macro_domain(slice_of(spec), &v, out), SPF_NAME_OK);
	assert_int_equal(strlen(out), 253);
	memcpy(spec, "b.", 2);
	memset(spec + 2, 'a', 249);
	memcpy(spec + 251, ".de.", 5);
	assert_int_equal(spf_macro_domain(slice_of(spec), &v, out), SPF_NAME_OK);
	assert_string_equal(out + 249, ".de");
	/* What has no dot near its end cannot be cut. */
	memset(spec, 'a', 4000);
	memcpy(spec + 4000, "%{d1}", 6);
	assert_int_equal(spf_macro_domain(slice_of(spec), &v, out), SPF_NAME_BAD);
	/* Thousands of labels. */
	spec[0] = '\0';
	append(spec, sizeof spec, "%{S}", 800);
	append(spec, sizeof spec, ".x.org.", 1);
	assert_int_equal(spf_macro_domain(slice_of(spec), &v, out), SPF_NAME_OK);
	assert_true(strlen(out) <= 253 && strlen(out) > 240);
	assert_string_equal(out + strlen(out) - 9, "com.x.org");
	/* Nothing left. */
	v.local = slice_of("");
	assert_int_equal(spf_macro_domain(slice_of("%{l}"), &v, out), SPF_NAME_BAD);
	v.local = slice_of(".");
	assert_int_equal(spf_macro_domain(slice_of("%{l}"), &v, out), SPF_NAME_BAD);
}

static void test_foreign_bytes(void **state)
{
	char out[SPF_NAME_SIZE];
	char text[50];
	(void)state;
	setup_values("192.0.2.3");
	v.local = slice_of("\xc3\xa9");
	assert_int_equal(spf_macro_domain(slice_of("%{l}.com"), &v, out), SPF_NAME_FOREIGN);
	domain_is("%{L}.com", "%C3%A9.com");
	spf_macro_text(slice_of("no, %{l}"), &v, text, sizeof text);
	assert_string_equal(text, "");
	v.local = slice_of("a\r\nb");
	spf_macro_text(slice_of("no, %{l}"), &v, text, sizeof text);
	assert_string_equal(text, "");
	spf_macro_text(slice_of("no, %{L}"), &v, text, sizeof text);
	assert_string_equal(text, "no, a%0D%0Ab");
	spf_macro_text(slice_of("no, %{d}"), &v, text, 8);
	assert_string_equal(text, "no, ema");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_examples_of_the_rfc),
	    cmocka_unit_test(test_other_letters),
	    cmocka_unit_test(test_escape_and_delimiters),
	    cmocka_unit_test(test_syntax),
	    cmocka_unit_test(test_wants_p),
	    cmocka_unit_test(test_long_names),
	    cmocka_unit_test(test_foreign_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
