/* alias: the file and the resolution. */
#include <setjmp.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "alias.h"
#include "conf.h"
#include "log.h"
#include "temp_dir.h"
#include "valgrind.h"

static char dir[TEMP_DIR_MAX];
static char path[64];
static char err[256];

static int set_up(void **state)
{
	(void)state;
	log_level_now = LOG_LEVEL_ERROR;
	if (temp_dir_make(dir, sizeof dir))
		return -1;
	snprintf(path, sizeof(path), "%s/f", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return temp_dir_remove();
}

static void write_file(const char *text, size_t n)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static struct alias_table *load(const char *text, const char *domain)
{
	write_file(text, strlen(text));
	err[0] = '\0';
	return alias_load(path, domain, "+", ".", err, sizeof(err));
}

/* A configuration of two domains: a.test and b.test. */
static struct conf_domain domains[3];
static struct conf conf;

static void conf_open(const char *aliases_a, const char *users_a, const char *aliases_b,
                      const char *users_b)
{
	static char name_a[] = "a.test", name_b[] = "b.test", local[] = "localhost";
	static char host[] = "b.test", plus[] = "+", dot[] = ".";
	memset(domains, 0, sizeof(domains));
	conf = (struct conf){.hostname = host,
	                     .suffix_separators = plus,
	                     .drop_characters = dot,
	                     .domain = domains,
	                     .domain_count = 3};
	domains[0].name = name_a;
	domains[0].aliases = load(aliases_a, name_a);
	assert_string_equal(err, "");
	write_file(users_a, strlen(users_a));
	domains[0].users = user_load(path, dot, err, sizeof(err));
	domains[1].name = name_b;
	domains[1].aliases = load(aliases_b, name_b);
	assert_string_equal(err, "");
	write_file(users_b, strlen(users_b));
	domains[1].users = user_load(path, dot, err, sizeof(err));
	domains[2].name = local;
	assert_string_equal(err, "");
}

static void conf_close(void)
{
	for (int i = 0; i < 3; i++) {
		alias_free(domains[i].aliases);
		user_free(domains[i].users);
	}
}

static int note(void *arg, enum alias_type type, const char *address, const char *via)
{
	struct buf *b = arg;
	return buf_printf(b, "%s%s%s%s%s", b->len ? " " : "", type == ALIAS_PIPE ? "|" : "",
	                  address, type == ALIAS_FORWARD ? ">" : "", via ? via : "");
}

/* There is nobody else to ask. */
static int nobody_knows(void *arg, enum alias_question q, const struct addr *a, const char **items)
{
	(void)arg;
	(void)q;
	(void)a;
	*items = NULL;
	return 0;
}

/* The destinations, separated by blanks, or the status. */
static const char *resolve(const char *address)
{
	static struct buf b;
	static char result[20000];
	struct status st = {.code = 0};
	struct addr a = {.user = "postmaster"};
	if (strcmp(address, "postmaster") != 0)
		assert_int_equal(addr_parse(slice_of(address), &a), 0);
	buf_init(&b, sizeof(result) - 1);
	if (alias_walk(&conf, &a, nobody_knows, note, &b, &st) == 0)
		snprintf(result, sizeof(result), "%s", buf_str(&b));
	else
		snprintf(result, sizeof(result), "%d %d.%d.%d", st.code, st.enh[0], st.enh[1],
		         st.enh[2]);
	buf_clear(&b);
	return result;
}

static void test_grammar(void **state)
{
	(void)state;
	conf_open("# comment\n"
	          "\n"
	          "  one :  x@elsewhere.test  \r\n"
	          "list: p@x.test,, q@x.test ,\n"
	          "empty: ,\n"
	          "pipe: | /bin/prog -a, \"b: c\"\n"
	          "fwd: u@far.test via Relay.Test / [192.0.2.1] / 2001:db8::1 , v@far.test\n"
	          "ports: u@far.test via Relay.Test:2525/192.0.2.1:26 /[2001:db8::1]:465/"
	          "[IPv6:2001:db8::1]:1/[2001:db8::1]\n"
	          "quoted: \"a, b\"@x.test\n"
	          "twice: first@x.test\n"
	          "twice: second@x.test\n"
	          "Up.Per: up@X.TEST\n"
	          "last: end@x.test",
	          "users { key: 'empty' }", "", "");
	assert_int_equal(alias_count(domains[0].aliases), 10);
	assert_string_equal(resolve("one@a.test"), "x@elsewhere.test");
	assert_string_equal(resolve("list@a.test"), "p@x.test q@x.test");
	assert_string_equal(resolve("empty@a.test"), "empty@a.test");
	assert_string_equal(resolve("pipe@a.test"), "|/bin/prog -a, \"b: c\"");
	assert_string_equal(resolve("fwd@a.test"),
	                    "u@far.test>relay.test/[192.0.2.1]/2001:db8::1 v@far.test");
	assert_string_equal(resolve("ports@a.test"),
	                    "u@far.test>relay.test:2525/192.0.2.1:26/[2001:db8::1]:465/"
	                    "[IPv6:2001:db8::1]:1/[2001:db8::1]");
	assert_string_equal(resolve("quoted@a.test"), "\"a, b\"@x.test");
	assert_string_equal(resolve("twice@a.test"), "second@x.test");
	assert_string_equal(resolve("UPPER@a.test"), "up@x.test");
	assert_string_equal(resolve("last@a.test"), "end@x.test");
	conf_close();
}

static void test_bad_lines_say_where(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *expect;
	} cases[] = {
	    {"a: b\nno colon\n", "/f:2: no ':'"},
	    {": x@y.test\n", "/f:1: nothing on the left"},
	    {"a:\n", "/f:1: nothing on the right"},
	    {"a@b: c\n", "/f:1: the left side must be a name without @"},
	    {"a: |  \n", "/f:1: no command"},
	    {"a: via host\n", "/f:1: no address before"},
	    {"a: x@y.test via \n", "/f:1: an empty host"},
	    {"a: x@y.test via h//i\n", "/f:1: an empty host"},
	    {"a: x@y.test via b ad\n", "is not a host"},
	    {"a: x@y.test via h:0\n", "is not a host"},
	    {"a: x@y.test via h:65536\n", "is not a host"},
	    {"a: x@y.test via h:\n", "is not a host"},
	    {"a: x@y.test via :25\n", "an empty host"},
	    {"a: x@y.test to h\n", "is not a mail address"},
	    {"a: x@y@z.test\n", "is not a mail address"},
	    {"a: x@-bad-.test\n", "is not a mail address"},
	    {"a: x\001@y.test\n", "/f:1: a control character"},
	    {"a: x\377@y.test\n", "/f:1: not valid UTF-8"},
	    {"...: b\n", "only characters that are dropped"},
	    {"a123456789b123456789c123456789d123456789e123456789f123456789g1234: b\n", "longer"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_null(load(cases[i].text, "a.test"));
		if (!strstr(err, cases[i].expect))
			fail_msg("case %zu: %s", i, err);
	}
	assert_null(alias_load(dir, "a.test", "+", ".", err, sizeof(err)));
	write_file("a: b\0c\n", 7);
	assert_null(alias_load(path, "a.test", "+", ".", err, sizeof(err)));
}

static void test_long_lines(void **state)
{
	(void)state;
	static char text[ALIAS_LINE_MAX + 100];
	memset(text, 'x', sizeof(text));
	write_file(text, sizeof(text));
	assert_null(alias_load(path, "a.test", "+", ".", err, sizeof(err)));
	assert_non_null(strstr(err, "/f:1: longer than"));
	memcpy(text, "a: |", 4);
	write_file(text, ALIAS_LINE_MAX - 1);
	struct alias_table *t = alias_load(path, "a.test", "+", ".", err, sizeof(err));
	assert_non_null(t);
	assert_int_equal(alias_count(t), 1);
	alias_free(t);
}

static void test_no_file_is_no_alias(void **state)
{
	(void)state;
	struct alias_table *t = alias_load("/nonexistent/aliases", "a.test", "+", ".", err, 256);
	assert_non_null(t);
	assert_int_equal(alias_count(t), 0);
	assert_int_equal(alias_count(NULL), 0);
	alias_free(t);
}

static void test_suffix_and_drop_characters(void **state)
{
	(void)state;
	conf_open("sales+x: exact@x.test\nsales: clean@x.test\nj.doe: jd@x.test\n",
	          "users { key: 'user' } users { key: 'a.b' } users { key: 'with+plus' }", "", "");
	assert_string_equal(resolve("sales+x@a.test"), "exact@x.test");
	assert_string_equal(resolve("s.ales+x@a.test"), "exact@x.test");
	assert_string_equal(resolve("sales+y@a.test"), "clean@x.test");
	assert_string_equal(resolve("SALES@a.test"), "clean@x.test");
	assert_string_equal(resolve("jdoe+z@a.test"), "jd@x.test");
	assert_string_equal(resolve("User+Tag@a.test"), "user@a.test");
	assert_string_equal(resolve("u.s.e.r@a.test"), "user@a.test");
	assert_string_equal(resolve("ab@a.test"), "a.b@a.test");
	assert_string_equal(resolve("a.b+t@a.test"), "a.b@a.test");
	assert_string_equal(resolve("with+plus@a.test"), "with+plus@a.test");
	assert_string_equal(resolve("with@a.test"), "550 5.1.1");
	assert_string_equal(resolve("+tag@a.test"), "550 5.1.1");
	assert_string_equal(resolve("nobody@a.test"), "550 5.1.1");
	assert_string_equal(resolve("any.one+x@elsewhere.test"), "any.one+x@elsewhere.test");
	conf_close();
}

static void test_catch_all_comes_last(void **state)
{
	(void)state;
	conf_open("*: all@x.test\nknown: k@x.test\nself: self, s@x.test\n", "users { key: 'user' }",
	          "*: *@c.test, * via relay.test\n", "");
	assert_string_equal(resolve("user@a.test"), "user@a.test");
	assert_string_equal(resolve("us.er+tag@a.test"), "user@a.test");
	assert_string_equal(resolve("known+tag@a.test"), "k@x.test");
	assert_string_equal(resolve("other@a.test"), "all@x.test");
	assert_string_equal(resolve("self@a.test"), "s@x.test");
	assert_string_equal(resolve("So.me+tag@b.test"),
	                    "So.me+tag@c.test So.me+tag@b.test>relay.test");
	conf_close();
}

static void test_alias_that_names_itself_means_the_user(void **state)
{
	(void)state;
	conf_open("a: a, copy@x.test\n"
	          "p: q, p1@x.test\n"
	          "q: p, q1@x.test\n"
	          "ghost: ghost, g@x.test\n"
	          "only: only\n"
	          "s: s+tag, s@x.test\n"
	          "*: *\n",
	          "users { key: 'a' } users { key: 'p' } users { key: 's' }", "", "");
	assert_string_equal(resolve("a@a.test"), "a@a.test copy@x.test");
	assert_string_equal(resolve("a+t@a.test"), "a@a.test copy@x.test");
	assert_string_equal(resolve("p@a.test"), "p@a.test q1@x.test p1@x.test");
	assert_string_equal(resolve("ghost@a.test"), "g@x.test");
	assert_string_equal(resolve("only@a.test"), "550 5.1.1");
	assert_string_equal(resolve("s@a.test"), "s@a.test s@x.test");
	assert_string_equal(resolve("unknown@a.test"), "550 5.1.1");
	conf_close();
}

static void test_chains_over_domains(void **state)
{
	(void)state;
	conf_open("a: b@b.test, u\nfwd: u@b.test via h\n", "users { key: 'u' }",
	          "b: u@A.TEST, U@a.test, c@b.test\nc: |prog\n", "");
	assert_string_equal(resolve("a@a.test"), "u@a.test |prog");
	assert_string_equal(resolve("b@b.test"), "u@a.test |prog");
	assert_string_equal(resolve("fwd@a.test"), "u@b.test>h");
	conf_close();
}

static void test_missing_users(void **state)
{
	(void)state;
	conf_open("some: gone, here, away@b.test\nall: gone, away@b.test\n",
	          "users { key: 'here' }", "", "");
	assert_string_equal(resolve("some@a.test"), "here@a.test");
	assert_string_equal(resolve("all@a.test"), "550 5.1.1");
	assert_string_equal(resolve("x@localhost"), "550 5.1.1");
	conf_close();
}

static void test_depth(void **state)
{
	(void)state;
	conf_open("a1: a2\na2: a3\na3: a4\na4: a5\na5: a6\na6: a7\na7: a8\na8: a9\na9: u\n"
	          "a0: a1\nb: c@b.test\n",
	          "users { key: 'u' }", "c: b@a.test\n", "");
	assert_string_equal(resolve("a1@a.test"), "u@a.test");
	assert_string_equal(resolve("a0@a.test"), "554 5.4.6");
	assert_string_equal(resolve("b@a.test"), "550 5.1.1");
	conf_close();
}

/* Aliases that double at each level must not take for ever, nor can one address become too many. */
static void test_bounds(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 1 << 20);
	for (int i = 0; i < 9; i++) {
		buf_printf(&b, "n%d: ", i);
		for (int k = 0; k < 10; k++)
			buf_printf(&b, "n%d+%d, ", i + 1, k);
		buf_puts(&b, "\n");
	}
	buf_puts(&b, "n9: u\nmany: ");
	for (int i = 0; i <= ALIAS_RESULTS_MAX; i++)
		buf_printf(&b, "m%d@x.test,", i);
	buf_puts(&b, "\nmuch: |");
	for (int i = 0; i < 40000; i++)
		buf_putc(&b, 'x');
	for (int i = 1; i < 9; i++) {
		buf_printf(&b, "\nmuch%d: |%d", i, i);
		for (int k = 0; k < 40000; k++)
			buf_putc(&b, 'x');
	}
	buf_puts(&b, "\nheavy: much, much1, much2, much3, much4, much5, much6, much7, much8\n");
	conf_open(buf_str(&b), "users { key: 'u' }", "", "");
	assert_string_equal(resolve("n1@a.test"), "451 4.3.0");
	assert_string_equal(resolve("n8@a.test"), "u@a.test");
	assert_string_equal(resolve("many@a.test"), "451 4.3.0");
	assert_string_equal(resolve("heavy@a.test"), "451 4.3.0");
	conf_close();
	buf_clear(&b);
}

static void test_postmaster_without_domain(void **state)
{
	(void)state;
	conf_open("postmaster: pa@x.test\n", "", "", "users { key: 'postmaster' }");
	assert_string_equal(resolve("postmaster"), "postmaster@b.test");
	conf_close();
	conf_open("", "", "", "");
	assert_string_equal(resolve("postmaster"), "550 5.1.1");
	conf_close();
	conf_open("*: ca@x.test\n", "", "", "");
	assert_string_equal(resolve("postmaster"), "ca@x.test");
	conf_close();
}

static void test_unread_domain_is_transient(void **state)
{
	(void)state;
	conf_open("", "", "", "");
	domains[0].unread = true;
	assert_string_equal(resolve("x@a.test"), "451 4.3.5");
	conf_close();
}

static int refuse(void *arg, enum alias_type type, const char *address, const char *via)
{
	(void)type;
	(void)address;
	(void)via;
	status_set(arg, 452, "4.5.3", "enough");
	return -1;
}

static void test_callback_may_end_it(void **state)
{
	(void)state;
	struct status st;
	struct addr a;
	conf_open("", "", "", "");
	assert_int_equal(addr_parse(slice_of("x@y.test"), &a), 0);
	assert_int_equal(alias_walk(&conf, &a, nobody_knows, refuse, &st, &st), -1);
	assert_int_equal(st.code, 452);
	conf_close();
}

/* What a file says as the system's, for domain a.test; a.test has the user "user". */
static const char *system_resolve(const char *text, const char *address)
{
	static char result[1000];
	conf_open("own: own@x.test\n", "users { key: 'user' }", "", "");
	write_file(text, strlen(text));
	err[0] = '\0';
	domains[0].system = alias_load_system(path, "a.test", "+", ".", err, sizeof(err));
	snprintf(result, sizeof(result), "%s", err);
	if (domains[0].system)
		snprintf(result, sizeof(result), "%s", resolve(address));
	alias_free(domains[0].system);
	conf_close();
	return result;
}

static void test_system_grammar(void **state)
{
	(void)state;
	static const struct {
		const char *text, *address, *expect;
	} cases[] = {
	    {"root: ann@x.test\n", "root@a.test", "ann@x.test"},
	    {"Root:ann@x.test , user", "ROOT@a.test", "ann@x.test user@a.test"},
	    {"# comment\n\npostmaster:\troot\nroot: user\n", "postmaster@a.test", "user@a.test"},
	    {"a: one@x.test,\n\ttwo@x.test\n  , three@x.test\n", "a@a.test",
	     "one@x.test two@x.test three@x.test"},
	    {"a: one@x.test,\n# in between\n\n\n two@x.test\n", "a@a.test",
	     "one@x.test two@x.test"},
	    {"a: one@x.test\r\n\ttwo@x.test\r\n", "a@a.test", "550 5.1.1"},
	    {"a:\n user\nb: c@x.test\n", "a@a.test", "user@a.test"},
	    {"a: user\n  \nb: c@x.test", "b@a.test", "c@x.test"},
	    {"\"a b\": c@x.test\n", "\"a b\"@a.test", "c@x.test"},
	    {"\"a:b\": c@x.test\n", "\"a:b\"@a.test", "c@x.test"},
	    {"a: \"|/bin/prog -x, y\"\n", "a@a.test", "|/bin/prog -x, y"},
	    {"a: |\"/bin/prog -x, y\"\n", "a@a.test", "|/bin/prog -x, y"},
	    {"a: |/bin/prog\n", "a@a.test", "|/bin/prog"},
	    {"a: user, \"|/bin/prog\", b@x.test\n", "a@a.test", "user@a.test |/bin/prog b@x.test"},
	    {"a: \"b@x.test\", \"user\"\n", "a@a.test", "b@x.test user@a.test"},
	    {"a: \"b c\"@x.test, \"d e\"\n\"d e\": f@x.test\n", "a@a.test",
	     "\"b c\"@x.test f@x.test"},
	    {"user: \\user, copy@x.test\n", "user@a.test", "user@a.test copy@x.test"},
	    {"a: one@x.test\na: two@x.test\n", "a@a.test", "two@x.test"},
	    {"own: system@x.test\n", "own@a.test", "own@x.test"},
	    {"a: b@x.test\n", "a+tag@a.test", "b@x.test"},
	    {"a:\n", "a@a.test", "550 5.1.1"},
	    {"", "user@a.test", "user@a.test"},
	    {"n\303\261: n@x.test\n", "N\303\221@a.test", "n@x.test"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *got = system_resolve(cases[i].text, cases[i].address);
		if (strcmp(got, cases[i].expect) != 0)
			fail_msg("case %zu: %s", i, got);
	}
}

/* Lines that are not supported do no harm to the others; what is no aliases file is refused. */
static void test_system_lines_left_out(void **state)
{
	(void)state;
	static const char *const lines[] = {
	    "a: /var/mail/archive",
	    "a: user, /dev/null",
	    "a: \"/dev/null\"",
	    "a: :include:/etc/list",
	    "a: \":include:/etc/list\"",
	    "a: user, :fail: gone away",
	    "a: :blackhole:",
	    "a: \\user",
	    "a: |",
	    "a: \"|\"",
	    "a: \"|/bin/sh -c 'x; y'\"",
	    "a: \"|exec /bin/x $USER\"",
	    "a: \"|/bin/x \\\"q\\\"\"",
	    "a: |/bin/x > /tmp/y",
	    "a: user, x@y@z",
	    "a: Joe <joe@x.test>",
	    "a: joe (Joe)",
	    "*: user",
	    "a@b: user",
	    ": user",
	    "...: user",
	    "a: user via host",
	    "a123456789b123456789c123456789d123456789e123456789f123456789g1234: user",
	    "a: user,\n\t/dev/null"};
	char text[400];
	log_level_now = LOG_LEVEL_ERROR;
	int fd = open("/dev/null", O_WRONLY);
	log_to(fd);
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
		snprintf(text, sizeof(text), "b: one@x.test\n%s\nc: two@x.test\n", lines[i]);
		if (strcmp(system_resolve(text, "a@a.test"), "550 5.1.1") != 0)
			fail_msg("case %zu: %s", i, err);
		assert_string_equal(system_resolve(text, "b@a.test"), "one@x.test");
		assert_string_equal(system_resolve(text, "c@a.test"), "two@x.test");
	}
	log_to(2);
	close(fd);
	static const struct {
		const char *text, *expect;
	} broken[] = {
	    {"a: user\nnot an alias\n", "/f:2: no ':'"},
	    {"a: b\001\n", "/f:1: a control character"},
	    {"a: \377\n", "/f:1: not valid UTF-8"},
	    {"  user\n", "/f:1: a line that continues nothing"},
	};
	for (size_t i = 0; i < sizeof(broken) / sizeof(*broken); i++)
		if (!strstr(system_resolve(broken[i].text, "a@a.test"), broken[i].expect))
			fail_msg("case %zu: %s", i, err);
}

static void test_system_long_lines(void **state)
{
	(void)state;
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs("a: u", f);
	for (int i = 0; i < ALIAS_LINE_MAX / 8 + 1; i++)
		fprintf(f, ",\n  u%05d", i);
	fclose(f);
	assert_null(alias_load_system(path, "a.test", "+", ".", err, sizeof(err)));
	assert_non_null(strstr(err, "longer than"));
	assert_null(alias_load_system(dir, "a.test", "+", ".", err, sizeof(err)));
	struct alias_table *t = alias_load_system("/nonexistent/x", "a.test", "+", ".", err, 256);
	assert_int_equal(alias_count(t), 0);
	alias_free(t);
}

static void test_right_sides(void **state)
{
	(void)state;
	static const struct {
		const char *text, *items, *error;
	} cases[] = {
	    {"", "", NULL},
	    {" \r\n\t\n", "", NULL},
	    {"\n u, V@A.test ,w@x.test\n\n", "Eu.EV.Ew@x.test..", NULL},
	    {"| /bin/x , y \n", "P/bin/x , y..", NULL},
	    {"u via H.test / i.test:26", "Fu.h.test/i.test:26..", NULL},
	    {",", ".", NULL},
	    {"a@x.test\nb@x.test", NULL, "src:1: a control character"},
	    {"|", NULL, "no command"},
	    {"a@b@c", NULL, "not a mail address"},
	    {"\377", NULL, "not valid UTF-8"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct buf items;
		buf_init(&items, 100);
		int rc = alias_read_right(slice_of(cases[i].text), "src", "a.test", &items, err,
		                          sizeof(err));
		assert_int_equal(rc, cases[i].error ? -1 : 0);
		if (cases[i].error && !strstr(err, cases[i].error))
			fail_msg("case %zu: %s", i, err);
		for (size_t k = 0; k < items.len; k++)
			if (buf_data(&items)[k] == '\0')
				buf_data(&items)[k] = '.';
		if (cases[i].items)
			assert_string_equal(buf_str(&items), cases[i].items);
		buf_clear(&items);
	}
	struct buf small;
	buf_init(&small, 5);
	assert_int_equal(
	    alias_read_right(slice_of("toolong@x.test"), "src", "a.test", &small, err, sizeof(err)),
	    -1);
	buf_clear(&small);
	buf_init(&small, 100);
	assert_int_equal(
	    alias_read_right((struct slice){"a\0b", 3}, "src", "a.test", &small, err, sizeof(err)),
	    -1);
	buf_clear(&small);
}

/* Answers the n-th question first, the others not at all, and notes what was asked. */
struct knower {
	char asked[500];
	int allowed;
};

static int know(void *arg, enum alias_question q, const struct addr *a, const char **items)
{
	struct knower *k = arg;
	size_t n = strlen(k->asked);
	if (k->allowed-- <= 0)
		return 1;
	snprintf(k->asked + n, sizeof(k->asked) - n, "%c%s@%s ", q == ALIAS_HOOK ? 'h' : 'u',
	         a->user, a->domain);
	if (q == ALIAS_HOOK && strcmp(a->user, "hooked") == 0)
		*items = "Ex@x.test\0";
	return 0;
}

static int never(void *arg, enum alias_type type, const char *address, const char *via)
{
	(void)arg;
	(void)type;
	(void)address;
	(void)via;
	fail_msg("found something");
	return 0;
}

static int fine(void *arg, enum alias_type type, const char *address, const char *via)
{
	(void)type;
	(void)via;
	assert_int_equal(((struct knower *)arg)->allowed >= 0, 1);
	assert_string_equal(address, "x@x.test");
	return 0;
}

static void test_walk_waits_for_answers(void **state)
{
	(void)state;
	struct knower k = {.allowed = 0};
	struct status st;
	struct addr a;
	conf_open("", "users { key: 'user' }", "", "");
	assert_int_equal(addr_parse(slice_of("No.Body+T@a.test"), &a), 0);
	for (int n = 0; n < 5; n++) {
		k = (struct knower){.allowed = n};
		assert_int_equal(alias_walk(&conf, &a, know, never, &k, &st), 1);
	}
	k = (struct knower){.allowed = 5};
	assert_int_equal(alias_walk(&conf, &a, know, never, &k, &st), -1);
	assert_int_equal(st.code, 550);
	assert_string_equal(k.asked, "hno.body+t@a.test hnobody@a.test uno.body@a.test "
	                             "unobody@a.test h*@a.test ");
	assert_int_equal(addr_parse(slice_of("hooked@a.test"), &a), 0);
	k = (struct knower){.allowed = 1};
	assert_int_equal(alias_walk(&conf, &a, know, fine, &k, &st), 0);
	conf_close();
}

/* KB of memory this process has for itself. */
static long memory_kb(void)
{
	char line[200];
	long kb = -1;
	FILE *f = fopen("/proc/self/smaps_rollup", "re");
	while (f && kb < 0 && fgets(line, sizeof(line), f))
		sscanf(line, "Pss: %ld", &kb);
	if (f)
		fclose(f);
	return kb;
}

/* Neither a sanitizer nor valgrind nor an emulator (tests/cross.sh), which take time and memory of
 * their own. */
static bool is_plain(void)
{
	return !under_address_sanitizer() && !under_valgrind() && !getenv("CHASQ_EMULATED");
}

/* 100,000 aliases: under a second and 10 MB, by a wide margin on a PC. */
static void test_many_aliases(void **state)
{
	(void)state;
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	for (int i = 0; i < 100000; i++)
		fprintf(f, "alias%d: someone%d@example%d.test\n", i * 7919 % 100000, i, i % 100);
	fclose(f);
	struct timespec a, b;
	long before = memory_kb();
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	struct alias_table *t = alias_load(path, "a.test", "+", ".", err, sizeof(err));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	long kb = memory_kb() - before;
	long ms = (long)((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000);
	assert_non_null(t);
	assert_int_equal(alias_count(t), 100000);
	print_message("100000 aliases: %ld ms, %ld KB\n", ms, kb);
	if (is_plain()) {
		assert_true(ms < 1000);
		assert_in_range(kb, 1, 10000);
	}
	alias_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_grammar),
	    cmocka_unit_test(test_bad_lines_say_where),
	    cmocka_unit_test(test_long_lines),
	    cmocka_unit_test(test_no_file_is_no_alias),
	    cmocka_unit_test(test_suffix_and_drop_characters),
	    cmocka_unit_test(test_catch_all_comes_last),
	    cmocka_unit_test(test_alias_that_names_itself_means_the_user),
	    cmocka_unit_test(test_chains_over_domains),
	    cmocka_unit_test(test_missing_users),
	    cmocka_unit_test(test_depth),
	    cmocka_unit_test(test_bounds),
	    cmocka_unit_test(test_postmaster_without_domain),
	    cmocka_unit_test(test_unread_domain_is_transient),
	    cmocka_unit_test(test_callback_may_end_it),
	    cmocka_unit_test(test_system_grammar),
	    cmocka_unit_test(test_system_lines_left_out),
	    cmocka_unit_test(test_system_long_lines),
	    cmocka_unit_test(test_right_sides),
	    cmocka_unit_test(test_walk_waits_for_answers),
	    cmocka_unit_test(test_many_aliases),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
