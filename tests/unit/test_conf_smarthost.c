/* conf_smarthost: blocks of chasq.conf, passwords, who goes where under which name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf.h"
#include "conf_reload.h"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];
static char err[512];

static void write_file(const char *name, const char *text, mode_t mode)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static int set_up(void **state)
{
	(void)state;
	if (temp_dir_make(dir, sizeof dir))
		return -1;
	write_file("secret", "hush\r\nnot this\n", 0640);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return temp_dir_remove();
}

static struct conf *load(const char *blocks, const char *override)
{
	char text[4096];
	snprintf(text, sizeof(text), "hostname: 'us.test'\n%s", blocks);
	write_file("chasq.conf", text, 0600);
	err[0] = '\0';
	return conf_load(dir, &override, override ? 1 : 0, err, sizeof(err));
}

static struct conf *load_good(const char *blocks)
{
	struct conf *c = load(blocks, NULL);
	assert_string_equal(err, "");
	assert_non_null(c);
	return c;
}

static void expect_error(const char *blocks, const char *expected)
{
	if (load(blocks, NULL))
		fail_msg("accepted: %s", blocks);
	if (!strstr(err, expected))
		fail_msg("\"%s\" lacks \"%s\"", err, expected);
}

static size_t find(const struct conf *c, const char *sender, size_t from)
{
	struct addr a;
	assert_int_equal(addr_parse(slice_of(sender), &a), 0);
	return conf_smarthost_find(&c->smarthosts, &a, from);
}

static void test_defaults(void **state)
{
	(void)state;
	struct conf *c = load_good("smarthost { address: 'mail.ISP.example' }\n"
	                           "smarthost { address: '[2001:db8::1]' tls: NONE }");
	assert_int_equal(c->smarthosts.count, 2);
	const struct conf_smarthost *s = c->smarthosts.item;
	assert_string_equal(s->host, "mail.isp.example");
	assert_int_equal(s->port, 587);
	assert_int_equal(s->tls, CONF_TLS_STARTTLS);
	assert_false(s->has_addr || s->insecure || s->pinned);
	assert_null(s->user);
	s++;
	assert_true(s->has_addr);
	assert_int_equal(s->port, 25);
	assert_int_equal(find(c, "a@b.test", 0), 0);
	assert_int_equal(find(c, "<>", 0), 0);
	assert_int_equal(find(c, "a@b.test", 1), 1);
	assert_int_equal(find(c, "a@b.test", 2), 2);
	conf_free(c);
}

#if WITH_TLS
static const char all_keys[] =
    "smarthost { address: 'a.test:2465' tls: IMPLICIT user: 'me' password_file: 'secret' "
    "auth: LOGIN sender: ['*@one.test', 'x@two.test'] "
    "fingerprint: 'AA:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:"
    "aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99' }\n"
    "smarthost { address: 'b.test' user: 'me' password_command: 'echo x' insecure: true }\n"
    "masquerade { from: 'root@us.test' to: 'me@out.test' }\n"
    "masquerade { from: '*@us.test' to: '*@out.test' }\n"
    "tls_roots: '/roots.pem'\n";

static void test_all_keys(void **state)
{
	(void)state;
	struct conf *c = load_good(all_keys);
	const struct conf_smarthost *s = c->smarthosts.item;
	assert_int_equal(s->port, 2465);
	assert_int_equal(s->tls, CONF_TLS_IMPLICIT);
	assert_int_equal(s->auth, CONF_AUTH_LOGIN);
	assert_true(s->pinned);
	assert_int_equal(s->sha256[0], 0xaa);
	assert_int_equal(s->sha256[31], 0x99);
	assert_string_equal(c->tls_roots, "/roots.pem");
	assert_int_equal(find(c, "any@ONE.test", 0), 0);
	assert_int_equal(find(c, "X@two.test", 0), 0);
	assert_int_equal(find(c, "y@two.test", 0), 1);
	/* What is printed means the same. */
	struct buf one, two;
	buf_init(&one, 65536);
	buf_init(&two, 65536);
	conf_print(c, &one, false);
	conf_free(c);
	write_file("chasq.conf", buf_str(&one), 0600);
	c = conf_load(dir, NULL, 0, err, sizeof(err));
	assert_non_null(c);
	conf_print(c, &two, false);
	assert_string_equal(buf_str(&one), buf_str(&two));
	assert_non_null(strstr(buf_str(&one), "\"*@one.test\""));
	buf_clear(&one);
	buf_clear(&two);
	conf_free(c);
}

static void test_override_replaces(void **state)
{
	(void)state;
	struct conf *c = load(all_keys, "smarthost { address: 'z.test' }");
	assert_non_null(c);
	assert_int_equal(c->smarthosts.count, 1);
	assert_string_equal(c->smarthosts.item[0].host, "z.test");
	assert_int_equal(c->masquerades.count, 2);
	conf_free(c);
}

static void test_passwords(void **state)
{
	(void)state;
	char out[20], why[200];
	struct conf *c =
	    load_good("smarthost { address: 'a.test' user: 'me' password_file: 'secret' }");
	const struct conf_smarthost *s = c->smarthosts.item;
	assert_int_equal(conf_smarthost_password(s, out, sizeof(out), why, sizeof(why)), 0);
	assert_string_equal(out, "hush");
	write_file("secret", "changed", 0600);
	assert_int_equal(conf_smarthost_password(s, out, sizeof(out), why, sizeof(why)), 0);
	assert_string_equal(out, "changed");
	write_file("secret", "12345678901234567890", 0600);
	assert_int_equal(conf_smarthost_password(s, out, sizeof(out), why, sizeof(why)), -1);
	assert_string_equal(why, "secret: its first line is too long");
	write_file("secret", "x", 0604);
	assert_int_equal(conf_smarthost_password(s, out, sizeof(out), why, sizeof(why)), -1);
	conf_free(c);
	expect_error("smarthost { address: 'a.test' user: 'me' password_file: 'secret' }",
	             "secret: holds a password and is open to all users");
	expect_error("smarthost { address: 'a.test' user: 'me' password_file: 'none' }",
	             "none: No such file");
}
#endif

static void test_errors(void **state)
{
	(void)state;
	expect_error("smarthost { }", "chasq.conf:2: smarthost address \"\" is not host");
	expect_error("smarthost { address: 'a b' }", "is not a name a host may have");
	expect_error("smarthost { address: 'a:0' }", "is not host or host:port");
	expect_error("smarthost { address: ':25' }", "is not host or host:port");
	expect_error("smarthost { address: 'a' tls: MAYBE }",
	             "tls: must be one of STARTTLS, IMPLICIT, NONE");
	expect_error("smarthost { address: 'a' port: 25 }", "port");
	expect_error("smarthost { address: 'a' tls: NONE user: 'x' password_file: 'secret' }",
	             "in the clear");
	expect_error("smarthost { address: 'a' tls: NONE password_file: 'secret' }",
	             "needs a user");
	expect_error("smarthost { address: 'a' tls: NONE fingerprint: 'aa' }", "64 hex digits");
	expect_error("smarthost { address: 'a' tls: NONE sender: '@b' }", "is not user@domain");
	expect_error("smarthost { address: 'a' tls: NONE sender: '<>' }", "is not user@domain");
	expect_error("masquerade { from: '*' }", "masquerade needs");
	expect_error("masquerade { from: '*' to: '*' }", "masquerade needs");
	expect_error("masquerade { from: '*@*' to: 'a@b' }", "is not user@domain");
#if WITH_TLS
	expect_error("smarthost { address: 'a' user: 'x' }", "needs password_file or");
	expect_error("smarthost { address: 'a' user: 'x' password_file: 'a' "
	             "password_command: 'b' }",
	             "not both");
	expect_error("smarthost { address: 'a' insecure: true fingerprint: "
	             "'aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899' }",
	             "contradict");
	expect_error("smarthost { address: 'a' fingerprint: "
	             "'aabbccddeeff00112233445566778899aabbccddeeff0011223344556677889900' }",
	             "64 hex digits");
#else
	expect_error("smarthost { address: 'a' }", "without TLS");
#endif
}

static void test_masquerade(void **state)
{
	(void)state;
	static const struct {
		const char *from, *to;
	} cases[] = {
	    {"root@us.test", "me@out.test"},    {"ROOT@us.test", "me@out.test"},
	    {"ann@us.test", "ann@out.test"},    {"ann@sub.us.test", "ann@sub.us.test"},
	    {"x@third.test", "all@other.test"}, {"<>", "<>"},
	};
	struct conf *c = load_good("masquerade { from: 'root@us.test' to: 'me@out.test' }\n"
	                           "masquerade { from: '*@us.test' to: '*@OUT.test' }\n"
	                           "masquerade { from: '*@third.test' to: 'all@other.test' }\n");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct addr a;
		char text[ADDR_TEXT_MAX];
		assert_int_equal(addr_parse(slice_of(cases[i].from), &a), 0);
		conf_masquerade_apply(&c->masquerades, &a);
		assert_int_equal(addr_format(&a, text, sizeof(text)), 0);
		assert_string_equal(text, cases[i].to);
	}
	conf_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_masquerade),
#if WITH_TLS
		cmocka_unit_test(test_all_keys),
		cmocka_unit_test(test_override_replaces),
		cmocka_unit_test(test_passwords),
#endif
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
