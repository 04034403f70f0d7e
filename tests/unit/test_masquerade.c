/* masquerade: senders in the header, whatever the pieces they come in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config.h"
#include "masquerade.h"

static char us[] = "us.test", root[] = "root";
static struct conf_masquerade rule[] = {
    {.from = {root, us}, .to = {"me", "out.test"}},
    {.from = {NULL, us}, .to = {"", "out.test"}, .keep_user = true},
};
static const struct conf_masquerades rules = {rule, 2};

struct source {
	const char *p;
	size_t left;
	size_t step;
	bool fails;
};

static ssize_t source_read(void *arg, char *p, size_t n, struct status *st)
{
	struct source *s = arg;
	if (s->fails && s->left == 0) {
		status_set(st, 451, "4.3.0", "broken");
		return -1;
	}
	if (n > s->step)
		n = s->step;
	if (n > s->left)
		n = s->left;
	memcpy(p, s->p, n);
	s->p += n;
	s->left -= n;
	return (ssize_t)n;
}

static void check_steps(const char *in, size_t len, const char *want, size_t want_len, size_t step,
                        size_t piece)
{
	struct source s = {in, len, step, false};
	struct masquerade m;
	struct buf out;
	struct status st;
	char chunk[512];
	ssize_t n;
	buf_init(&out, 1 << 20);
	masquerade_init(&m, &rules, "us.test", source_read, &s);
	while ((n = masquerade_read(&m, chunk, piece, &st)) > 0)
		assert_int_equal(buf_append(&out, chunk, (size_t)n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(out.len, want_len);
	assert_memory_equal(buf_data(&out), want, want_len);
	masquerade_clear(&m);
	buf_clear(&out);
}

static void check(const char *in, const char *want)
{
	static const size_t steps[] = {1, 2, 7, 100000};
	for (size_t i = 0; i < 4; i++)
		for (size_t k = 0; k < 3; k++)
			check_steps(in, strlen(in), want, strlen(want), steps[i],
			            k == 2 ? 512 : steps[k]);
}

static void test_fields(void **state)
{
	(void)state;
	check("", "");
	check("\r\n", "\r\n");
	check("From: root@us.test", "From: me@out.test");
	check("From: root@us.test\r\n\r\nFrom: root@us.test\r\n",
	      "From: me@out.test\r\n\r\nFrom: root@us.test\r\n");
	check("to: root@us.test\r\nSENDER :  ann@us.test \r\nReply-To:\r\n\troot@us.test\r\n\r\n",
	      "to: root@us.test\r\nSENDER :  ann@out.test \r\nReply-To:\r\n\tme@out.test\r\n\r\n");
	check("X: 1\r\n y\r\nno field\r\nFrom: root@us.test\r\n",
	      "X: 1\r\n y\r\nno field\r\nFrom: root@us.test\r\n");
	check("From:\r\nSubject: x\r\n\r\n", "From:\r\nSubject: x\r\n\r\n");
	check("From: root@us.test\n\nbody\n", "From: me@out.test\n\nbody\n");
}

static void test_lists(void **state)
{
	(void)state;
	static const struct {
		const char *in, *want;
	} cases[] = {
	    {"root", "me@out.test"},
	    {"root (Cron root@us.test)", "me@out.test (Cron root@us.test)"},
	    {"(x) root@us.test (y)", "(x) me@out.test (y)"},
	    {"\"root@us.test\" <root@us.test>", "\"root@us.test\" <me@out.test>"},
	    {"root@us.test <ann@us.test>", "root@us.test <ann@out.test>"},
	    {"a@b.test, root@us.test,\r\n ann@us.test", "a@b.test, me@out.test,\r\n ann@out.test"},
	    {"G: root@us.test, x@y.test;", "G: me@out.test, x@y.test;"},
	    {"\"a,b\" <root@us.test>, \"ro\\\"ot\"@us.test",
	     "\"a,b\" <me@out.test>, \"ro\\\"ot\"@out.test"},
	    {"< root@us.test >", "< root@us.test >"},
	    {"<@route:root@us.test>", "<@route:root@us.test>"},
	    {"root@[1.2.3.4]", "root@[1.2.3.4]"},
	    {"root@us.test.example", "root@us.test.example"},
	    {"xroot@us.testing", "xroot@us.testing"},
	    {"<>", "<>"},
	    {"(open", "(open"},
	    {"\"open", "\"open"},
	    {"<root@us.test", "<root@us.test"},
	    {">,<,>;:(", ">,<,>;:("},
	    {"\\", "\\"},
	    {",,root@us.test,,", ",,me@out.test,,"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf out;
		buf_init(&out, 1000);
		assert_int_equal(masquerade_value(&rules, "us.test", slice_of(cases[i].in), &out),
		                 0);
		assert_string_equal(buf_str(&out), cases[i].want);
		buf_clear(&out);
	}
}

#if WITH_IDN
/* An ASCII header stays so; what stood there beyond ASCII and is no business of ours, too. */
static void test_unicode(void **state)
{
	(void)state;
	static char home[] = "home.test";
	static struct conf_masquerade unicode = {.from = {NULL, home},
	                                         .to = {"", "b\xc3\xbc"
	                                                    "cher.test"},
	                                         .keep_user = true};
	static const struct conf_masquerades to_unicode = {&unicode, 1};
	static const struct {
		const char *in, *want;
	} cases[] = {
	    {"ann@home.test", "ann@xn--bcher-kva.test"},
	    {"\xc3\xbc <\xc3\xbc@home.test>, a@\xc3\xbc.test",
	     "\xc3\xbc <\xc3\xbc@xn--bcher-kva.test>, a@\xc3\xbc.test"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf out;
		buf_init(&out, 1000);
		masquerade_value(&to_unicode, "us.test", slice_of(cases[i].in), &out);
		assert_string_equal(buf_str(&out), cases[i].want);
		buf_clear(&out);
	}
}
#endif

/* Fields too long to be looked at, with and without lines in them, stay as they are. */
static void test_long_fields(void **state)
{
	(void)state;
	struct buf in, want;
	buf_init(&in, 1 << 20);
	buf_init(&want, 1 << 20);
	buf_puts(&in, "X: ");
	for (size_t i = 0; i < 3 * MASQUERADE_FIELD_MAX; i++)
		buf_putc(&in, 'x');
	buf_puts(&in, "\r\nFrom: root@us.test,\r\n");
	for (size_t i = 0; i < MASQUERADE_FIELD_MAX / 8; i++)
		buf_puts(&in, " root@us.test,\r\n");
	buf_append(&want, buf_data(&in), in.len);
	buf_puts(&in, "From: root@us.test\r\n\r\n");
	buf_puts(&want, "From: me@out.test\r\n\r\n");
	static const size_t steps[] = {1, 1000, 100000};
	for (size_t i = 0; i < 3; i++)
		check_steps(buf_data(&in), in.len, buf_data(&want), want.len, steps[i], 512);
	buf_clear(&in);
	buf_clear(&want);
}

static void test_source_fails(void **state)
{
	(void)state;
	static const char *const texts[] = {"From: a", "From: a\r\n\r\nbody"};
	for (size_t i = 0; i < 2; i++) {
		struct source s = {texts[i], strlen(texts[i]), 3, true};
		struct masquerade m;
		struct status st = {.code = 0};
		char chunk[10];
		ssize_t n;
		masquerade_init(&m, &rules, "us.test", source_read, &s);
		while ((n = masquerade_read(&m, chunk, sizeof chunk, &st)) > 0)
			continue;
		assert_int_equal(n, -1);
		assert_int_equal(st.code, 451);
		masquerade_clear(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_lists),
#if WITH_IDN
		cmocka_unit_test(test_unicode),
#endif
		cmocka_unit_test(test_long_fields),
		cmocka_unit_test(test_source_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
