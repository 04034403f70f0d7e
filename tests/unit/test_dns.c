/* test_dns: the resolver against tests/tools/dnsd.py: every result, order, limits, cancelling,
 * changes of resolv.conf. Run from the top of the tree. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "config.h"
#include "dns_int.h"
#include "loop.h"
#include "self.h"
#include "temp_dir.h"

struct ask {
	struct dns_query q;
	int dones;
	void *again;
};

struct server {
	pid_t pid;
	int port;
	int pipe;
	char zone[96];
};

static char dir[TEMP_DIR_MAX];
static struct server main_server;
static int fds_before;

/* ---- the server ---- */

static void file_write(const char *path, const char *text)
{
	char fresh[128];
	snprintf(fresh, sizeof fresh, "%s.new", path);
	FILE *f = fopen(fresh, "we");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(rename(fresh, path), 0);
}

static void server_start(struct server *s, const char *name, const char *zone)
{
	int fds[2];
	char line[64] = "";
	size_t len = 0;
	snprintf(s->zone, sizeof s->zone, "%s/%s", dir, name);
	file_write(s->zone, zone);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		dup2(fds[1], 1);
		execlp("python3", "python3", "tests/tools/dnsd.py", "--with-parent", s->zone,
		       (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	while (len + 1 < sizeof line && !strchr(line, '\n')) {
		ssize_t n = read(fds[0], line + len, sizeof line - 1 - len);
		if (n <= 0) {
			print_error("tests/tools/dnsd.py does not start: it needs python3, and "
			            "this the top of the tree\n");
			unlink(s->zone);
			rmdir(dir);
			exit(1);
		}
		len += (size_t)n;
	}
	assert_int_equal(sscanf(line, "ready %d", &s->port), 1);
	s->pipe = fds[0];
}

static void server_stop(struct server *s)
{
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	close(s->pipe);
	unlink(s->zone);
}

/* ---- asking ---- */

static const char *servers_of(const struct server *s)
{
	static char text[32];
	snprintf(text, sizeof text, "127.0.0.1:%d", s->port);
	return text;
}

static void resolver_setup(const char *servers, bool dnssec)
{
	char hosts[96];
	snprintf(hosts, sizeof hosts, "%s/hosts", dir);
	struct dns_setup setup = {
	    .servers = servers, .hosts = hosts, .timeout_ms = 300, .tries = 2, .dnssec = dnssec};
	assert_int_equal(dns_init_setup(&setup), 0);
}

static void resolver(const char *servers)
{
	resolver_setup(servers, false);
}

static void on_done(void *arg, struct dns_query *q)
{
	struct ask *a = arg;
	assert_ptr_equal(q, &a->q);
	a->dones++;
}

static void finish(struct ask *a)
{
	int64_t end = now_ms() + 10000;
	assert_int_equal(a->dones, 0);
	while (!a->dones && now_ms() < end)
		assert_int_equal(loop_turn(20), 0);
	assert_int_equal(a->dones, 1);
	for (int i = 0; i < 3; i++)
		loop_turn(1);
	assert_int_equal(a->dones, 1);
}

typedef void start_fn(struct dns_query *, struct slice, void (*)(void *, struct dns_query *),
                      void *);

static void ask(struct ask *a, start_fn *start, const char *name)
{
	a->dones = 0;
	start(&a->q, slice_of(name), on_done, a);
	finish(a);
}

static void expect(start_fn *start, const char *name, enum dns_result result)
{
	struct ask a = {0};
	ask(&a, start, name);
	if (a.q.result != result)
		fail_msg("%s: %s, not %s", name, dns_result_text(a.q.result),
		         dns_result_text(result));
	if (result != DNS_OK)
		assert_int_equal(a.q.count, 0);
	dns_cancel(&a.q);
}

/* All addresses as text, one blank apart. */
static const char *addresses(const struct dns_query *q)
{
	static char out[2048];
	size_t len = 0;
	out[0] = '\0';
	for (size_t i = 0; i < q->count; i++) {
		char text[INET6_ADDRSTRLEN];
		len += (size_t)snprintf(out + len, sizeof out - len, "%s%s", i ? " " : "",
		                        dns_addr_text(&q->addrs[i], text));
	}
	return out;
}

static void expect_addresses(const char *name, const char *want)
{
	struct ask a = {0};
	ask(&a, dns_addresses, name);
	if (a.q.result != DNS_OK)
		fail_msg("%s: %s", name, dns_result_text(a.q.result));
	assert_string_equal(addresses(&a.q), want);
	dns_cancel(&a.q);
}

static void tlsa(struct dns_query *q, struct slice name, dns_done_fn *done, void *arg)
{
	dns_tlsa(q, name, 25, done, arg);
}

static void family4(struct dns_query *q, struct slice name, dns_done_fn *done, void *arg)
{
	dns_family(q, name, AF_INET, done, arg);
}

static void family6(struct dns_query *q, struct slice name, dns_done_fn *done, void *arg)
{
	dns_family(q, name, AF_INET6, done, arg);
}

static int setup(void **state)
{
	(void)state;
	fds_before = count_fds();
	if (loop_init())
		return -1;
	resolver(servers_of(&main_server));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	dns_done();
	loop_done();
	assert_int_equal(count_fds(), fds_before);
	return 0;
}

/* ---- cases ---- */

static void test_mx_order_and_shuffle(void **state)
{
	(void)state;
	int first_b = 0;
	for (int i = 0; i < 40; i++) {
		struct ask a = {0};
		ask(&a, dns_mx, "order.test");
		assert_int_equal(a.q.result, DNS_OK);
		assert_int_equal(a.q.count, 4);
		assert_string_equal(a.q.mx[0].host, "A.order.test");
		assert_int_equal(a.q.mx[0].preference, 5);
		assert_int_equal(a.q.mx[1].preference, 10);
		assert_int_equal(a.q.mx[2].preference, 10);
		assert_string_equal(a.q.mx[3].host, "d.order.test");
		assert_int_equal(a.q.mx[3].preference, 40000);
		first_b += strcmp(a.q.mx[1].host, "b.order.test") == 0;
		assert_false(dns_is_null_mx(&a.q));
		dns_cancel(&a.q);
	}
	assert_true(first_b > 2 && first_b < 38);
}

static void test_null_mx(void **state)
{
	(void)state;
	struct ask a = {0};
	ask(&a, dns_mx, "null.test");
	assert_int_equal(a.q.result, DNS_OK);
	assert_true(dns_is_null_mx(&a.q));
	assert_string_equal(a.q.mx[0].host, "");
	ask(&a, dns_mx, "halfnull.test");
	assert_int_equal(a.q.count, 1);
	assert_false(dns_is_null_mx(&a.q));
	assert_string_equal(a.q.mx[0].host, "mx.halfnull.test");
	dns_cancel(&a.q);
}

static void test_mx_bad_hosts_dropped(void **state)
{
	(void)state;
	struct ask a = {0};
	ask(&a, dns_mx, "oddmx.test");
	assert_int_equal(a.q.result, DNS_OK);
	assert_int_equal(a.q.count, 1);
	assert_string_equal(a.q.mx[0].host, "good.oddmx.test");
	dns_cancel(&a.q);
	expect(dns_mx, "allodd.test", DNS_SERVER_FAILURE);
}

static void test_mx_many(void **state)
{
	(void)state;
	struct ask a = {0};
	ask(&a, dns_mx, "many.test");
	assert_int_equal(a.q.result, DNS_OK);
	assert_int_equal(a.q.count, DNS_MX_MAX);
	assert_true(a.q.truncated);
	for (size_t i = 0; i < a.q.count; i++)
		assert_int_equal(a.q.mx[i].preference, i + 1);
	dns_cancel(&a.q);
}

static void test_mx_through_cname(void **state)
{
	(void)state;
	struct ask a = {0};
	ask(&a, dns_mx, "alias.test.");
	assert_int_equal(a.q.result, DNS_OK);
	assert_int_equal(a.q.count, 4);
	dns_cancel(&a.q);
	expect(dns_mx, "dangling.test", DNS_NO_NAME);
}

static void test_results(void **state)
{
	(void)state;
	expect(dns_mx, "unknown.test", DNS_NO_NAME);
	expect(dns_mx, "onlytxt.test", DNS_NO_DATA);
	expect(dns_mx, "servfail.test", DNS_SERVER_FAILURE);
	expect(dns_mx, "refused.test", DNS_SERVER_FAILURE);
	expect(dns_txt, "outside.example", DNS_SERVER_FAILURE);
	expect(dns_mx, "drop.test", DNS_TIMEOUT);
	expect(dns_txt, "drop.test", DNS_TIMEOUT);
	expect(dns_addresses, "unknown.test", DNS_NO_NAME);
	expect(dns_addresses, "onlytxt.test", DNS_NO_DATA);
	expect(dns_addresses, "servfail.test", DNS_SERVER_FAILURE);
	expect(dns_addresses, "drop.test", DNS_TIMEOUT);
	expect(dns_mx, "slow.test", DNS_OK);
}

/* Depending on the version, c-ares hands garbage on or asks again until the tries are used up. */
static void test_garbage(void **state)
{
	(void)state;
	struct ask a = {0};
	static start_fn *const starts[] = {dns_mx, dns_addresses, dns_txt};
	for (size_t i = 0; i < 3; i++) {
		ask(&a, starts[i], "garbage.test");
		assert_true(a.q.result == DNS_SERVER_FAILURE || a.q.result == DNS_TIMEOUT);
	}
	dns_cancel(&a.q);
}

static void test_nobody_listens(void **state)
{
	(void)state;
	resolver("127.0.0.1:1");
	struct ask a = {0};
	ask(&a, dns_mx, "order.test");
	assert_true(a.q.result == DNS_SERVER_FAILURE || a.q.result == DNS_TIMEOUT);
	dns_cancel(&a.q);
}

/* The second server answers when the first one is dead. */
static void test_second_server(void **state)
{
	(void)state;
	char two[64];
	snprintf(two, sizeof two, "127.0.0.1:1,%s", servers_of(&main_server));
	resolver(two);
	expect(dns_mx, "order.test", DNS_OK);
	expect(dns_mx, "unknown.test", DNS_NO_NAME);
}

static void test_bad_names(void **state)
{
	(void)state;
	char label[304];
	char name[304];
	memset(label, 'a', 300);
	memcpy(label + 300, ".b", 3);
	memset(name, 'a', sizeof name);
	for (size_t i = 60; i < sizeof name; i += 60)
		name[i] = '.';
	name[254] = '\0';
	const char *const bad[] = {"",         ".",       "..", "a..b",     ".a",
	                           "a..",      label,     name, "a b.test", "\xc3\xa4.test",
	                           "a/b.test", "x\n.test"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		expect(dns_mx, bad[i], DNS_BAD_NAME);
		expect(dns_addresses, bad[i], DNS_BAD_NAME);
		expect(tlsa, bad[i], DNS_BAD_NAME);
		if (!strchr(bad[i], '/')) {
			expect(dns_txt, bad[i], DNS_BAD_NAME);
			expect(family4, bad[i], DNS_BAD_NAME);
		}
	}
	struct ask a = {0};
	static start_fn *const starts[] = {dns_mx, dns_txt, dns_addresses, tlsa, family4};
	for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
		a.dones = 0;
		starts[i](&a.q, (struct slice){"order\0.test", 11}, on_done, &a);
		finish(&a);
		assert_int_equal(a.q.result, DNS_BAD_NAME);
	}
	name[253] = '\0';
	expect(dns_mx, name, DNS_SERVER_FAILURE); /* legal, only outside the zones */
	expect(tlsa, name, DNS_BAD_NAME);         /* no room for what goes before */
	name[245] = '\0';
	expect(tlsa, name, DNS_BAD_NAME);
	name[244] = '\0';
	expect(tlsa, name, DNS_SERVER_FAILURE);
}

static void test_addresses(void **state)
{
	(void)state;
	expect_addresses("both.test", DNS_PREFER_IPV6 ? "2001:db8::1 192.0.2.1 192.0.2.2"
	                                              : "192.0.2.1 192.0.2.2 2001:db8::1");
	expect_addresses("four.test", "192.0.2.4");
	expect_addresses("six.test", "2001:db8::6");
	expect_addresses("many.test",
	                 DNS_PREFER_IPV6
	                     ? "2001:db8::1 192.0.2.1 2001:db8::2 192.0.2.2 2001:db8::3"
	                     : "192.0.2.1 2001:db8::1 192.0.2.2 2001:db8::2 2001:db8::3");
	expect_addresses("toboth.test", DNS_PREFER_IPV6 ? "2001:db8::1 192.0.2.1 192.0.2.2"
	                                                : "192.0.2.1 192.0.2.2 2001:db8::1");
	/* one family fails */
	expect_addresses("fourfail.test", "192.0.2.5");
	expect_addresses("sixfail.test", "2001:db8::7");
	/* a failure of one family is no verdict on the name */
	expect(dns_addresses, "nonefail.test", DNS_SERVER_FAILURE);
	struct ask a = {0};
	ask(&a, dns_addresses, "crowd.test");
	assert_int_equal(a.q.count, DNS_ADDRS_MAX);
	assert_true(a.q.truncated);
	dns_cancel(&a.q);
}

/* With tries that last long, a family that never answers costs DNS_SECOND_MS only. */
static void test_second_family_late(void **state)
{
	(void)state;
	struct dns_setup s = {.servers = servers_of(&main_server), .timeout_ms = 60000};
	assert_int_equal(dns_init_setup(&s), 0);
	struct ask a = {0};
	int64_t begin = now_ms();
	ask(&a, dns_addresses, "fourdrop.test");
	assert_int_equal(a.q.result, DNS_OK);
	assert_string_equal(addresses(&a.q), "192.0.2.8");
	assert_true(now_ms() - begin >= DNS_SECOND_MS - 20);
	dns_cancel(&a.q);
}

static void test_without_asking(void **state)
{
	(void)state;
	char path[96];
	snprintf(path, sizeof path, "%s/hosts", dir);
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	fputs("# comment\n127.0.0.9 board.lan board # x hidden\n\nbad line here\n", f);
	for (int i = 0; i < 2000; i++)
		fputs("127.0.0.77 ", f); /* an overlong line */
	fputs("\nfe80::1 BOARD.lan.\n192.0.2.99 both.test\n127.0.0.5\n", f);
	fclose(f);
	resolver("127.0.0.1:1");
	expect_addresses("Board.LAN", DNS_PREFER_IPV6 ? "fe80::1 127.0.0.9" : "127.0.0.9 fe80::1");
	expect_addresses("board", "127.0.0.9");
	expect_addresses("both.test.", "192.0.2.99");
	expect_addresses("192.0.2.7", "192.0.2.7");
	expect_addresses("2001:db8::9", "2001:db8::9");
	expect_addresses("localhost", DNS_PREFER_IPV6 ? "::1 127.0.0.1" : "127.0.0.1 ::1");
	expect_addresses("x.LocalHost", DNS_PREFER_IPV6 ? "::1 127.0.0.1" : "127.0.0.1 ::1");
	resolver(servers_of(&main_server));
	expect(dns_addresses, "hidden.test", DNS_NO_NAME);
	expect(dns_addresses, "notlocalhost.test", DNS_NO_NAME);
	unlink(path);
}

static void test_txt(void **state)
{
	(void)state;
	struct ask a = {0};
	ask(&a, dns_txt, "onlytxt.test");
	assert_int_equal(a.q.result, DNS_OK);
	assert_int_equal(a.q.count, 2);
	assert_true(slice_is(a.q.txt[0], "v=spf1 -all"));
	assert_string_equal(a.q.txt[0].p, "v=spf1 -all");
	assert_int_equal(a.q.txt[1].n, 600);
	ask(&a, dns_txt, "rawtxt.test"); /* a NUL inside */
	assert_int_equal(a.q.result, DNS_OK);
	assert_int_equal(a.q.txt[0].n, 3);
	assert_memory_equal(a.q.txt[0].p, "a\0b", 4);
	ask(&a, dns_txt, "manytxt.test");
	assert_int_equal(a.q.count, DNS_TXT_MAX);
	assert_true(a.q.truncated);
	dns_cancel(&a.q);
}

static void test_ptr(void **state)
{
	(void)state;
	struct ask a = {0};
	struct dns_addr addr;
	assert_int_equal(dns_addr_parse(&addr, slice_of("192.0.2.1")), 0);
	dns_ptr(&a.q, &addr, on_done, &a);
	finish(&a);
	assert_int_equal(a.q.result, DNS_OK);
	assert_int_equal(a.q.count, 2);
	assert_string_equal(a.q.names[0], "both.test");
	assert_string_equal(a.q.names[1], "two.test");
	assert_int_equal(dns_addr_parse(&addr, slice_of("2001:db8::1")), 0);
	a.dones = 0;
	dns_ptr(&a.q, &addr, on_done, &a);
	finish(&a);
	assert_int_equal(a.q.result, DNS_OK);
	assert_string_equal(a.q.names[0], "six.test");
	assert_int_equal(dns_addr_parse(&addr, slice_of("192.0.2.77")), 0);
	a.dones = 0;
	dns_ptr(&a.q, &addr, on_done, &a);
	finish(&a);
	assert_int_equal(a.q.result, DNS_NO_NAME);
	dns_cancel(&a.q);
}

/* What a verbose domain has: 40 records, 8 KB. */
static void test_txt_of_real_domains(void **state)
{
	(void)state;
	struct ask a = {0};
	ask(&a, dns_txt, "wordy.test");
	assert_int_equal(a.q.result, DNS_OK);
	assert_int_equal(a.q.count, 40);
	assert_false(a.q.truncated);
	assert_int_equal(a.q.txt[39].n, 200);
	dns_cancel(&a.q);
}

static void test_family(void **state)
{
	(void)state;
	struct ask a = {0};
	ask(&a, family4, "both.test");
	assert_int_equal(a.q.result, DNS_OK);
	assert_string_equal(addresses(&a.q), "192.0.2.1 192.0.2.2");
	ask(&a, family6, "toboth.test");
	assert_int_equal(a.q.result, DNS_OK);
	assert_string_equal(addresses(&a.q), "2001:db8::1");
	ask(&a, family6, "crowd.test");
	assert_int_equal(a.q.count, DNS_FAMILY_MAX);
	assert_true(a.q.truncated);
	dns_cancel(&a.q);
	expect(family6, "four.test", DNS_NO_DATA);
	expect(family4, "six.test", DNS_NO_DATA);
	expect(family6, "unknown.test", DNS_NO_NAME);
	expect(family4, "unknown.test", DNS_NO_NAME);
	expect(family6, "fourfail.test", DNS_SERVER_FAILURE);
	expect(family4, "sixfail.test", DNS_TIMEOUT);
	expect(family4, "localhost", DNS_SERVER_FAILURE); /* asked like any name */
	expect(family4, "192.0.2.1", DNS_SERVER_FAILURE);
}

/* Macros of SPF make any name. Newer versions of c-ares refuse some. */
static void test_odd_names(void **state)
{
	(void)state;
	static const char *const names[] = {"a+b=c.odd.test", "x\\y.odd.test", "\\1.odd.test",
	                                    "!#$%&'*/?^`{|}~.odd.test", "\"@;(),:<>[].odd.test"};
	struct ask a = {0};
	char library[32];
	int minor = 0;
	dns_library(library, sizeof library);
	assert_int_equal(sscanf(library, "c-ares 1.%d", &minor), 1);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		ask(&a, family4, names[i]);
		if (minor >= 22 && a.q.result == DNS_BAD_NAME)
			continue;
		assert_int_equal(a.q.result, DNS_OK);
		char want[32];
		snprintf(want, sizeof want, "127.0.9.%d", (int)i + 1);
		assert_string_equal(addresses(&a.q), want);
	}
	dns_cancel(&a.q);
	expect(dns_txt, "a/b.odd.test", DNS_OK);
	expect(family4, "a b.odd.test", DNS_BAD_NAME);
	expect(family4, "a\x7f.odd.test", DNS_BAD_NAME);
	expect(dns_txt, "\xc3\xa4.odd.test", DNS_BAD_NAME);
}

static void test_tlsa(void **state)
{
	(void)state;
	struct ask a = {0};
	ask(&a, tlsa, "Mx.Signed.test.");
	assert_int_equal(a.q.result, DNS_OK);
	assert_int_equal(a.q.count, 3);
	assert_false(a.q.truncated);
	assert_int_equal(a.q.tlsa[0].usage, 3);
	assert_int_equal(a.q.tlsa[0].selector, 1);
	assert_int_equal(a.q.tlsa[0].matching, 2);
	assert_int_equal(a.q.tlsa[0].data.n, 4);
	assert_memory_equal(a.q.tlsa[0].data.p, "\xde\xad\0\xef", 4);
	assert_int_equal(a.q.tlsa[1].usage, 255); /* not for the resolver to judge */
	assert_int_equal(a.q.tlsa[2].data.n, 2);
	a.dones = 0;
	dns_tlsa(&a.q, slice_of("mx.signed.test"), 587, on_done, &a);
	finish(&a);
	assert_int_equal(a.q.result, DNS_NO_NAME);
	ask(&a, tlsa, "alias.signed.test");
	assert_int_equal(a.q.result, DNS_OK);
	assert_int_equal(a.q.count, 3);
	ask(&a, tlsa, "manytlsa.test");
	assert_int_equal(a.q.result, DNS_OK);
	assert_int_equal(a.q.count, DNS_TLSA_MAX);
	assert_true(a.q.truncated);
	ask(&a, tlsa, "bigtlsa.test");
	assert_int_equal(a.q.result, DNS_OK);
	assert_int_equal(a.q.count, 3);
	assert_true(a.q.truncated);
	dns_cancel(&a.q);
	expect(tlsa, "none.signed.test", DNS_NO_NAME);
	expect(tlsa, "bogus.signed.test", DNS_SERVER_FAILURE);
	/* newer versions of c-ares refuse a message with such a record */
	ask(&a, tlsa, "emptytlsa.test");
	assert_true(a.q.result == DNS_OK ? a.q.tlsa[0].data.n == 0
	                                 : a.q.result == DNS_SERVER_FAILURE);
	/* too short to be any */
	ask(&a, tlsa, "shorttlsa.test");
	assert_true(a.q.result == DNS_SERVER_FAILURE || a.q.result == DNS_TIMEOUT);
	dns_cancel(&a.q);
}

static void expect_canonical(const char *name, const char *want)
{
	struct ask a = {0};
	ask(&a, dns_addresses, name);
	assert_int_equal(a.q.result, DNS_OK);
	assert_string_equal(a.q.canonical, want);
	dns_cancel(&a.q);
	assert_string_equal(a.q.canonical, "");
}

static void test_canonical(void **state)
{
	(void)state;
	expect_canonical("both.test", "");
	expect_canonical("toboth.test", "both.test");
	expect_canonical("TOTOBOTH.test.", "both.test");
	expect_canonical("192.0.2.1", "");
	expect_canonical("localhost", "");
	expect_canonical("overodd.test", ""); /* the chain leads over what is no host name */
	expect(dns_addresses, "dangling.test", DNS_NO_NAME);
}

static void expect_secure(start_fn *start, const char *name, enum dns_result result, bool secure)
{
	struct ask a = {0};
	ask(&a, start, name);
	if (a.q.result != result || a.q.secure != secure)
		fail_msg("%s: %s, %ssecure", name, dns_result_text(a.q.result),
		         a.q.secure ? "" : "not ");
	dns_cancel(&a.q);
}

/* The AD bit, of presence and of absence. */
static void test_secure(void **state)
{
	(void)state;
	char path[96];
	snprintf(path, sizeof path, "%s/hosts", dir);
	resolver_setup(servers_of(&main_server), true);
	expect_secure(dns_mx, "signed.test", DNS_OK, true);
	expect_secure(dns_txt, "signed.test", DNS_OK, true);
	expect_secure(tlsa, "mx.signed.test", DNS_OK, true);
	expect_secure(dns_addresses, "mx.signed.test", DNS_OK, true);
	expect_secure(family4, "mx.signed.test", DNS_OK, true);
	expect_secure(family6, "mx.signed.test", DNS_NO_DATA, true);
	expect_secure(dns_mx, "mx.signed.test", DNS_NO_DATA, true);
	expect_secure(dns_txt, "unknown.signed.test", DNS_NO_NAME, true);
	expect_secure(tlsa, "none.signed.test", DNS_NO_NAME, true);
	expect_secure(dns_addresses, "unknown.signed.test", DNS_NO_NAME, true);
	/* large answers come by TCP */
	expect_secure(dns_txt, "large.signed.test", DNS_OK, true);
	/* failures say nothing, but one family's does not undo what the other one said */
	expect_secure(dns_mx, "bogus.signed.test", DNS_SERVER_FAILURE, false);
	expect_secure(tlsa, "bogus.signed.test", DNS_SERVER_FAILURE, false);
	expect_secure(dns_mx, "drop.signed.test", DNS_TIMEOUT, false);
	expect_secure(dns_addresses, "fourfail.signed.test", DNS_OK, true);
	expect_secure(dns_addresses, "fourdrop.signed.test", DNS_OK, true);
	expect_secure(dns_addresses, "halffail.signed.test", DNS_SERVER_FAILURE, false);
	/* out of the signed zone, and to such names */
	expect_secure(dns_mx, "order.test", DNS_OK, false);
	expect_secure(dns_mx, "unknown.test", DNS_NO_NAME, false);
	expect_secure(dns_addresses, "both.test", DNS_OK, false);
	expect_secure(dns_addresses, "out.signed.test", DNS_OK, false);
	expect_secure(dns_addresses, "half.signed.test", DNS_OK,
	              false); /* A is signed, AAAA is not */
	/* known without asking */
	file_write(path, "127.0.0.9 mx.signed.test\n");
	expect_secure(dns_addresses, "mx.signed.test", DNS_OK, false);
	unlink(path);
	expect_secure(dns_addresses, "192.0.2.1", DNS_OK, false);
	expect_secure(dns_addresses, "localhost", DNS_OK, false);
	/* many at once find their answers again */
	struct ask a[40] = {{.dones = 0}};
	for (int i = 0; i < 40; i++)
		(i % 2 ? dns_mx : tlsa)(&a[i].q, slice_of(i % 2 ? "signed.test" : "mx.signed.test"),
		                        on_done, &a[i]);
	for (int64_t end = now_ms() + 10000; !a[39].dones && now_ms() < end;)
		loop_turn(20);
	for (int i = 0; i < 40; i++) {
		if (!a[i].dones)
			finish(&a[i]);
		assert_int_equal(a[i].q.result, DNS_OK);
		assert_true(a[i].q.secure);
		assert_true(i % 2 ? a[i].q.mx != NULL : a[i].q.tlsa != NULL);
		dns_cancel(&a[i].q);
	}
}

/* The bit is worth nothing when it comes from afar, or nobody said that the server validates. */
static void test_not_trusted(void **state)
{
	(void)state;
	static const char *const afar[] = {"192.0.2.1:53", "[2001:db8::1]:53",
	                                   "[::ffff:192.0.2.1]:53"};
	char servers[128];
	char six[64];
	expect_secure(dns_mx, "signed.test", DNS_OK, false);
	for (size_t i = 0; i < sizeof afar / sizeof *afar; i++) {
		snprintf(servers, sizeof servers, "%s,%s", servers_of(&main_server), afar[i]);
		resolver_setup(servers, true);
		expect_secure(dns_mx, "signed.test", DNS_OK, false);
		expect_secure(dns_addresses, "mx.signed.test", DNS_OK, false);
		expect_secure(dns_mx, "unknown.signed.test", DNS_NO_NAME, false);
	}
	/* all of them near */
	snprintf(six, sizeof six, "[::1]:%d", main_server.port);
	snprintf(servers, sizeof servers, "%s,%s,127.9.9.9:1", servers_of(&main_server), six);
	resolver_setup(servers, true);
	expect_secure(dns_mx, "signed.test", DNS_OK, true);
}

static void test_tcp(void **state)
{
	(void)state;
	struct ask a = {0};
	ask(&a, dns_mx, "truncate.test");
	assert_int_equal(a.q.result, DNS_OK);
	assert_string_equal(a.q.mx[0].host, "mx.truncate.test");
	ask(&a, dns_txt, "large.test");
	assert_int_equal(a.q.result, DNS_OK);
	assert_int_equal(a.q.txt[0].n, 5000);
	dns_cancel(&a.q);
}

static void test_cancel(void **state)
{
	(void)state;
	struct ask *a = calloc(20, sizeof *a);
	assert_non_null(a);
	for (int i = 0; i < 20; i++) {
		if (i % 2)
			dns_addresses(&a[i].q, slice_of(i % 4 == 1 ? "both.test" : "board"),
			              on_done, &a[i]);
		else
			dns_mx(&a[i].q, slice_of(i % 4 ? "drop.test" : "order.test"), on_done,
			       &a[i]);
		if (i == 10)
			loop_turn(50);
	}
	/* at once, in flight, landed and waiting */
	for (int i = 0; i < 20; i++) {
		dns_cancel(&a[i].q);
		dns_cancel(&a[i].q);
	}
	free(a);
	int64_t end = now_ms() + 1200; /* all land, drop.test by time-out */
	while (now_ms() < end)
		loop_turn(20);
	expect(dns_mx, "order.test", DNS_OK);
}

/* In `done` the struct may be used again, freed, and others cancelled. */
static void on_done_again(void *arg, struct dns_query *q)
{
	struct ask *a = arg;
	if (++a->dones < 5)
		dns_mx(q, slice_of(a->dones % 2 ? "a..b" : "order.test"), on_done_again, a);
}

static void on_done_cancel_other(void *arg, struct dns_query *q)
{
	struct ask *a = arg;
	struct ask *other = a->again;
	a->dones++;
	dns_cancel(&other->q);
	free(other);
	dns_cancel(q);
}

static void test_done_may_do_all(void **state)
{
	(void)state;
	struct ask a = {0};
	dns_mx(&a.q, slice_of("order.test"), on_done_again, &a);
	int64_t end = now_ms() + 5000;
	while (a.dones < 5 && now_ms() < end)
		loop_turn(20);
	assert_int_equal(a.dones, 5);
	dns_cancel(&a.q);
	a.dones = 0;
	a.again = calloc(1, sizeof a);
	assert_non_null(a.again);
	dns_mx(&a.q, slice_of("a..b"), on_done_cancel_other, &a);
	dns_mx(&((struct ask *)a.again)->q, slice_of("c..d"), on_done, a.again);
	finish(&a);
}

static void test_parallel(void **state)
{
	(void)state;
	enum { N = 500 };
	static struct ask a[N];
	int left = N;
	memset(a, 0, sizeof a);
	resolver(servers_of(&main_server));
	for (int i = 0; i < N; i++) {
		char name[64];
		snprintf(name, sizeof name, "n%d.%s.test", i, i % 5 ? "wild" : "nowhere");
		dns_addresses(&a[i].q, slice_of(name), on_done, &a[i]);
	}
	int64_t end = now_ms() + 30000;
	while (left > 0 && now_ms() < end) {
		loop_turn(20);
		left = 0;
		for (int i = 0; i < N; i++)
			left += !a[i].dones;
	}
	int lost = 0;
	for (int i = 0; i < N; i++) {
		assert_int_equal(a[i].dones, 1);
		if (a[i].q.result == DNS_TIMEOUT)
			lost++; /* the machine may be too busy for the short test time-outs */
		else if (i % 5)
			assert_string_equal(addresses(&a[i].q), "127.0.0.3");
		else
			assert_int_equal(a[i].q.result, DNS_NO_NAME);
		dns_cancel(&a[i].q);
	}
	assert_true(lost < N / 10);
}

static void test_too_many(void **state)
{
	(void)state;
	static struct ask a[DNS_FLIGHTS_MAX + 1];
	memset(a, 0, sizeof a);
	for (int i = 0; i <= DNS_FLIGHTS_MAX; i++)
		dns_txt(&a[i].q, slice_of("drop.test"), on_done, &a[i]);
	finish(&a[DNS_FLIGHTS_MAX]);
	assert_int_equal(a[DNS_FLIGHTS_MAX].q.result, DNS_NO_MEMORY);
	for (int i = 0; i <= DNS_FLIGHTS_MAX; i++)
		dns_cancel(&a[i].q);
}

static void test_done_while_asking(void **state)
{
	(void)state;
	struct ask a[3] = {{.dones = 0}};
	dns_mx(&a[0].q, slice_of("drop.test"), on_done, &a[0]);
	dns_addresses(&a[1].q, slice_of("both.test"), on_done, &a[1]);
	dns_mx(&a[2].q, slice_of("a..b"), on_done, &a[2]);
	loop_turn(0);
	dns_done();
	for (int i = 0; i < 3; i++)
		loop_turn(10);
	assert_int_equal(a[0].dones + a[1].dones, 0);
	/* and before the start */
	struct ask b = {0};
	ask(&b, dns_mx, "order.test");
	assert_int_equal(b.q.result, DNS_NO_MEMORY);
	ask(&b, dns_addresses, "order.test");
	assert_int_equal(b.q.result, DNS_NO_MEMORY);
	for (int i = 0; i < 3; i++)
		dns_cancel(&a[i].q);
	assert_int_equal(dns_init("this is no list", false), -1);
	resolver(servers_of(&main_server));
	expect(dns_mx, "order.test", DNS_OK);
}

/* Other servers while running: what is under way ends with the old ones. */
static void test_other_servers(void **state)
{
	(void)state;
	struct ask a = {.dones = 0};
	struct dns_setup s = {.servers = "127.0.0.1:1", .timeout_ms = 300, .tries = 2};
	assert_int_equal(dns_init_setup(&s), 0);
	dns_mx(&a.q, slice_of("order.test"), on_done, &a);
	assert_int_equal(dns_set_servers("no list of servers", false), -1);
	assert_int_equal(dns_set_servers(servers_of(&main_server), false), 0);
	expect(dns_mx, "order.test", DNS_OK);
	int64_t end = now_ms() + 10000;
	while (!a.dones && now_ms() < end)
		loop_turn(20);
	assert_int_equal(a.dones, 1);
	assert_int_not_equal(a.q.result, DNS_OK);
	dns_cancel(&a.q);
	/* A bad list changes nothing. */
	assert_int_equal(dns_set_servers("nor this", true), -1);
	expect(dns_mx, "order.test", DNS_OK);
	dns_done();
	assert_int_equal(dns_set_servers(NULL, false), -1);
	resolver(servers_of(&main_server));
}

/* c-ares reads no ports in resolv.conf, so the two servers are told apart by silence: nobody
 * listens on port 53 of these addresses, and c-ares fails over to what the change brings. */
static void test_resolv_conf_changes(void **state)
{
	(void)state;
	char path[96];
	struct ask a[8] = {{.dones = 0}};
	snprintf(path, sizeof path, "%s/resolv.conf", dir);
	file_write(path, "nameserver 127.0.0.53\nsearch example.test\n");
	struct dns_setup s = {.resolv_conf = path, .timeout_ms = 300, .tries = 2};
	assert_int_equal(dns_init_setup(&s), 0);
	ask(&a[0], dns_mx, "order.test");
	assert_true(a[0].q.result == DNS_SERVER_FAILURE || a[0].q.result == DNS_TIMEOUT);
	/* 192.0.2.0/24 goes nowhere: these stay in flight while the file changes under them */
	for (int i = 0; i < 8; i++) {
		char text[64];
		snprintf(text, sizeof text, "nameserver 192.0.2.%d\n", i + 1);
		file_write(path, text);
		if (i == 3)
			unlink(path);
		dns_reload();
		a[i].dones = 0;
		dns_addresses(&a[i].q, slice_of("four.test"), on_done, &a[i]);
		if (i % 3 == 0)
			loop_turn(1);
	}
	int64_t end = now_ms() + 10000;
	for (int i = 0; i < 8; i++) {
		while (!a[i].dones && now_ms() < end)
			loop_turn(20);
		assert_int_equal(a[i].dones, 1);
		assert_true(a[i].q.result == DNS_SERVER_FAILURE || a[i].q.result == DNS_TIMEOUT);
		dns_cancel(&a[i].q);
	}
	unlink(path);
}

/* A socket for questions at 127.0.0.54, port 53; -1: it cannot be had here. */
static int server_54(void)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(53)};
	to.sin_addr.s_addr = htonl(0x7F000036);
	if (bind(sock, (struct sockaddr *)&to, sizeof to) == 0)
		return sock;
	close(sock);
	return -1;
}

/* The swap that a router's reconnect makes, noticed without being told; needs port 53. */
static void test_resolv_conf_noticed(void **state)
{
	(void)state;
	char path[96];
	char fake[96];
	snprintf(path, sizeof path, "%s/resolv.conf", dir);
	snprintf(fake, sizeof fake, "nameserver 127.0.0.54\n");
	int sock = server_54();
	if (sock < 0)
		skip();
	file_write(path, "nameserver 127.0.0.53\n");
	struct dns_setup s = {.resolv_conf = path, .timeout_ms = 5000, .tries = 1};
	assert_int_equal(dns_init_setup(&s), 0);
	int64_t end = now_ms() + DNS_CHECK_MS + 100;
	while (now_ms() < end)
		loop_turn(20);
	file_write(path, fake);
	struct ask a = {0};
	dns_mx(&a.q, slice_of("order.test"), on_done, &a);
	for (int i = 0; i < 5; i++)
		loop_turn(5);
	char packet[512];
	ssize_t n = recv(sock, packet, sizeof packet, MSG_DONTWAIT);
	close(sock);
	assert_true(n > 12);
	/* no search domain was added */
	assert_memory_equal(packet + 12, "\5order\4test", 12);
	dns_cancel(&a.q);
	unlink(path);
}

static void pass(int ms)
{
	for (int64_t end = now_ms() + ms; now_ms() < end;)
		loop_turn(5);
}

/* A question after a rest reads the file, though DNS_CHECK_MS is not over. One that cannot be read
 * any more keeps the channel that was made of it. */
static void test_resolv_conf_after_rest(void **state)
{
	(void)state;
	char path[96];
	struct ask a = {0};
	char packet[512];
	snprintf(path, sizeof path, "%s/resolv.conf", dir);
	int sock = server_54();
	if (sock < 0)
		skip();
	for (int unreadable = 0; unreadable < 2; unreadable++) {
		file_write(path,
		           unreadable ? "nameserver 127.0.0.54\n" : "nameserver 127.0.0.53\n");
		struct dns_setup s = {
		    .resolv_conf = path, .timeout_ms = 5000, .tries = 1, .rest_ms = 30};
		assert_int_equal(dns_init_setup(&s), 0);
		if (unreadable) {
			/* Nobody may open it, root neither. */
			assert_int_equal(unlink(path), 0);
			assert_int_equal(symlink("resolv.conf", path), 0);
		} else {
			ask(&a, dns_mx, "order.test");
			pass(60);
			file_write(path, "nameserver 127.0.0.54\n");
		}
		pass(60);
		dns_mx(&a.q, slice_of("order.test"), on_done, &a);
		pass(20);
		assert_true(recv(sock, packet, sizeof packet, MSG_DONTWAIT) > 12);
		dns_cancel(&a.q);
		unlink(path);
	}
	close(sock);
	resolver(servers_of(&main_server));
}

/* Where nobody asks there is no channel; questions find another one that is like it. */
static void test_rest(void **state)
{
	(void)state;
	char servers[64];
	struct ask a = {.dones = 0};
	snprintf(servers, sizeof servers, "127.0.0.1:1,%s", servers_of(&main_server));
	struct dns_setup s = {.servers = servers, .timeout_ms = 300, .tries = 2, .rest_ms = 20};
	s.dnssec = true;
	assert_int_equal(dns_init_setup(&s), 0);
	for (int i = 0; i < 5; i++) {
		pass(i * 15);
		expect(dns_mx, "order.test", DNS_OK);
		pass(i * 15);
		expect_secure(dns_mx, "signed.test", DNS_OK, true);
	}
	/* What is under way is not disturbed: it takes its tries. */
	int64_t begun = now_ms();
	ask(&a, dns_mx, "drop.test");
	assert_int_equal(a.q.result, DNS_TIMEOUT);
	assert_true(now_ms() - begun >= 300 + 600);
	/* Nor does other news wake what rests. */
	pass(60);
	dns_reload();
	assert_int_equal(dns_set_servers("no list", false), -1);
	expect(dns_mx, "order.test", DNS_OK);
	pass(60);
	assert_int_equal(dns_set_servers(servers_of(&main_server), false), 0);
	pass(60);
	expect(dns_mx, "order.test", DNS_OK);
	pass(60);
	dns_done();
	resolver(servers_of(&main_server));
}

static void test_zone_is_read_again(void **state)
{
	(void)state;
	struct server s;
	server_start(&s, "second", "new.test A 127.0.0.1\n");
	resolver(servers_of(&s));
	expect_addresses("new.test", "127.0.0.1");
	file_write(s.zone, "new.test A 127.0.0.2\n");
	expect_addresses("new.test", "127.0.0.2");
	server_stop(&s);
}

static void test_addr(void **state)
{
	(void)state;
	struct dns_addr a;
	struct dns_addr b;
	struct sockaddr_storage ss;
	char text[INET6_ADDRSTRLEN];
	static const char *const good[] = {"127.0.0.1", "::1", "2001:db8::ff"};
	static const char *const bad[] = {"", "1.2.3", "1.2.3.4.5", "x", ":", "01.2.3.4 ", "[::1]"};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(dns_addr_parse(&a, slice_of(good[i])), 0);
		assert_string_equal(dns_addr_text(&a, text), good[i]);
		assert_true(dns_addr_to_sockaddr(&a, 25, &ss) > 0);
		assert_int_equal(dns_addr_from_sockaddr(&b, (struct sockaddr *)&ss), 0);
		assert_true(dns_addr_equal(&a, &b));
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(dns_addr_parse(&a, slice_of(bad[i])), -1);
	assert_int_equal(dns_addr_parse(&a, slice_of("::ffff:192.0.2.1")), 0);
	dns_addr_to_sockaddr(&a, 25, &ss);
	assert_int_equal(dns_addr_from_sockaddr(&b, (struct sockaddr *)&ss), 0);
	assert_string_equal(dns_addr_text(&b, text), "192.0.2.1");
	assert_false(dns_addr_equal(&a, &b));
	ss.ss_family = AF_UNIX;
	assert_int_equal(dns_addr_from_sockaddr(&b, (struct sockaddr *)&ss), -1);
}

/* ---- the zone ---- */

static void zone_build(char *out, size_t size)
{
	static const char fixed[] =
	    "zone test\nzone in-addr.arpa\nzone ip6.arpa\n"
	    "order.test MX 40000 d.order.test.\norder.test MX 10 b.order.test\n"
	    "order.test MX 5 A.order.test\norder.test MX 10 c.order.test\n"
	    "null.test MX 0 .\nhalfnull.test MX 0 .\nhalfnull.test MX 10 mx.halfnull.test\n"
	    /* a blank in a label, and a good one */
	    "oddmx.test RAW 15 000a 03612062 0474657374 00\noddmx.test MX 20 good.oddmx.test\n"
	    "allodd.test RAW 15 000a 03612f62 0474657374 00\n"
	    "alias.test CNAME order.test\ndangling.test CNAME gone.test\n"
	    "onlytxt.test TXT 'v=spf1 ' -all\n"
	    "rawtxt.test RAW 16 03610062\n"
	    "servfail.test ! servfail\nrefused.test ! refused\ndrop.test ! drop\n"
	    "garbage.test ! garbage\nslow.test ! slow:200\nslow.test MX 1 mx.slow.test\n"
	    "both.test A 192.0.2.1\nboth.test A 192.0.2.2\nboth.test AAAA 2001:db8::1\n"
	    "many.test AAAA 2001:db8::1\nmany.test AAAA 2001:db8::2\nmany.test AAAA 2001:db8::3\n"
	    "many.test A 192.0.2.1\nmany.test A 192.0.2.2\n"
	    "four.test A 192.0.2.4\nsix.test AAAA 2001:db8::6\ntoboth.test CNAME both.test\n"
	    "fourfail.test A 192.0.2.5\nfourfail.test !AAAA servfail\n"
	    "sixfail.test AAAA 2001:db8::7\nsixfail.test !A drop\n"
	    "nonefail.test !A nxdomain\nnonefail.test !AAAA servfail\n"
	    "fourdrop.test A 192.0.2.8\nfourdrop.test !AAAA drop\n"
	    "truncate.test ! truncate\ntruncate.test MX 1 mx.truncate.test\n"
	    "*.wild.test A 127.0.0.3\n"
	    "1.2.0.192.in-addr.arpa PTR both.test.\n1.2.0.192.in-addr.arpa PTR two.test\n"
	    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR "
	    "six.test\n"
	    "totoboth.test CNAME ToBoth.test\n"
	    "overodd.test CNAME 'a b.test'\n'a b.test' CNAME both.test\n"
	    "a+b=c.odd.test A 127.0.9.1\n'x\\y.odd.test' A 127.0.9.2\n'\\1.odd.test' A 127.0.9.3\n"
	    "\"!#$%&'*/?^`{|}~.odd.test\" A 127.0.9.4\n'\"@;(),:<>[].odd.test' A 127.0.9.5\n"
	    "a/b.odd.test TXT slash\n"
	    "secure signed.test\nsigned.test MX 1 mx.signed.test\nsigned.test TXT signed\n"
	    "mx.signed.test A 127.0.8.1\n"
	    "_25._tcp.mx.signed.test TLSA 3 1 2 dead00ef\n"
	    "_25._tcp.mx.signed.test TLSA 255 255 255 00\n_25._tcp.mx.signed.test TLSA 3 1 1 "
	    "0102\n_25._tcp.emptytlsa.test TLSA 3 1 1\n"
	    "_25._tcp.alias.signed.test CNAME _25._tcp.mx.signed.test\n"
	    "_25._tcp.bogus.signed.test ! servfail\nbogus.signed.test ! servfail\n"
	    "_25._tcp.shorttlsa.test RAW 52 03\n_25._tcp.shorttlsa.test RAW 52 0301\n"
	    "drop.signed.test ! drop\n"
	    "fourfail.signed.test A 127.0.8.2\nfourfail.signed.test !AAAA servfail\n"
	    "fourdrop.signed.test A 127.0.8.2\nfourdrop.signed.test !AAAA drop\n"
	    "halffail.signed.test !AAAA servfail\nout.signed.test CNAME both.test\n"
	    "half.signed.test A 127.0.8.3\nhalf.signed.test AAAA 2001:db8::83\nhalf.signed.test "
	    "!AAAA insecure\n";
	size_t n = (size_t)snprintf(out, size, "%s", fixed);
	for (int i = 60; i > 0; i--)
		n += (size_t)snprintf(out + n, size - n, "many.test MX %d mx%d.many.test\n", i, i);
	for (int i = 1; i <= DNS_FAMILY_MAX + 6; i++)
		n += (size_t)snprintf(out + n, size - n,
		                      "crowd.test A 192.0.2.%d\ncrowd.test AAAA 2001:db8::%d\n", i,
		                      i);
	for (int i = 0; i < DNS_TXT_MAX + 20; i++)
		n += (size_t)snprintf(out + n, size - n, "manytxt.test TXT text%d\n", i);
	for (int i = 0; i < 40; i++)
		n += (size_t)snprintf(out + n, size - n, "wordy.test TXT %0200d\n", i);
	for (int i = 0; i < 20; i++)
		n += (size_t)snprintf(out + n, size - n,
		                      "_25._tcp.manytlsa.test TLSA 3 1 1 %064d\n", i);
	for (int i = 0; i < 4; i++)
		n += (size_t)snprintf(out + n, size - n,
		                      "_25._tcp.bigtlsa.test TLSA 3 0 0 %010000d\n", i);
	n += (size_t)snprintf(out + n, size - n, "large.signed.test TXT %05000d\n", 0);
	n += (size_t)snprintf(out + n, size - n, "onlytxt.test TXT %0600d\n", 0);
	snprintf(out + n, size - n, "large.test TXT %05000d\n", 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_addr),
	    CASE(test_mx_order_and_shuffle),
	    CASE(test_null_mx),
	    CASE(test_mx_bad_hosts_dropped),
	    CASE(test_mx_many),
	    CASE(test_mx_through_cname),
	    CASE(test_results),
	    CASE(test_garbage),
	    CASE(test_nobody_listens),
	    CASE(test_second_server),
	    CASE(test_bad_names),
	    CASE(test_addresses),
	    CASE(test_second_family_late),
	    CASE(test_without_asking),
	    CASE(test_txt),
	    CASE(test_txt_of_real_domains),
	    CASE(test_ptr),
	    CASE(test_family),
	    CASE(test_odd_names),
	    CASE(test_tlsa),
	    CASE(test_canonical),
	    CASE(test_secure),
	    CASE(test_not_trusted),
	    CASE(test_tcp),
	    CASE(test_cancel),
	    CASE(test_done_may_do_all),
	    CASE(test_parallel),
	    CASE(test_too_many),
	    CASE(test_done_while_asking),
	    CASE(test_other_servers),
	    CASE(test_resolv_conf_changes),
	    CASE(test_resolv_conf_noticed),
	    CASE(test_resolv_conf_after_rest),
	    CASE(test_rest),
	    CASE(test_zone_is_read_again),
	};
	static char zone[131072];
	if (temp_dir_make(dir, sizeof dir))
		return 1;
	zone_build(zone, sizeof zone);
	server_start(&main_server, "zone", zone);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	server_stop(&main_server);
	return failed;
}
