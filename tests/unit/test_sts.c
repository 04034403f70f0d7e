/* test_sts: policies and records as texts; the cache on disk; who is asked when, with a resolver
 * and a fetcher that the test steers. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "dns.h"
#include "https.h"
#include "log.h"
#include "loop.h"
#include "sts_int.h"
#include "temp_dir.h"

/* ---- the fake resolver and fetcher --------------------------------------------------------- */

static const char *records[4]; /* the TXT records of every domain */
static enum dns_result txt_result;
static bool txt_truncated;
static char txt_asked[300]; /* the last name */
static int txt_count;
static struct slice txt_answer[4];

static void txt_fire(void *arg)
{
	struct dns_query *q = arg;
	q->done(q->arg, q);
}

void dns_txt(struct dns_query *q, struct slice name, void (*done)(void *, struct dns_query *),
             void *arg)
{
	*q = (struct dns_query){.done = done, .arg = arg, .result = txt_result};
	snprintf(txt_asked, sizeof txt_asked, "%.*s", (int)name.n, name.p);
	txt_count++;
	for (size_t i = 0; txt_result == DNS_OK && i < 4 && records[i]; i++)
		txt_answer[q->count++] = slice_of(records[i]);
	q->txt = txt_answer;
	q->truncated = txt_truncated;
	loop_timer_init(&q->second, txt_fire, q);
	loop_timer_set(&q->second, 0);
}

void dns_cancel(struct dns_query *q)
{
	if (q->done)
		loop_timer_stop(&q->second);
}

struct https {
	char host[300];
	void (*done)(void *, const struct status *, struct slice);
	void *arg;
	struct https *next;
};

static struct https *gets; /* under way, oldest first */
static int get_count, get_open, get_most;
static bool get_without_memory;

struct https *https_get(const struct https_request *request, struct tls_roots *roots,
                        void (*done)(void *, const struct status *, struct slice), void *arg)
{
	struct https **p = &gets;
	assert_null(roots);
	assert_string_equal(request->path, "/.well-known/mta-sts.txt");
	assert_string_equal(request->type, "text/plain");
	get_count++;
	if (get_without_memory)
		return NULL;
	struct https *h = calloc(1, sizeof *h);
	assert_non_null(h);
	snprintf(h->host, sizeof h->host, "%s", request->host);
	h->done = done;
	h->arg = arg;
	while (*p)
		p = &(*p)->next;
	*p = h;
	if (++get_open > get_most)
		get_most = get_open;
	return h;
}

static void get_unlink(struct https *h)
{
	struct https **p = &gets;
	while (*p != h)
		p = &(*p)->next;
	*p = h->next;
	get_open--;
}

void https_cancel(struct https *h)
{
	get_unlink(h);
	free(h);
}

/* Ends the oldest fetch: with a text, or NULL: it failed. */
static void get_done(const char *text)
{
	struct https *h = gets;
	struct status st;
	assert_non_null(h);
	get_unlink(h);
	status_set(&st, text ? 250 : 451, NULL, text ? "fetched" : "no way");
	h->done(h->arg, &st, slice_of(text ? text : ""));
	free(h);
}

/* ---- helpers ------------------------------------------------------------------------------- */

#define POLICY_A "version: STSv1\r\nmode: enforce\r\nmx: a.test\r\nmax_age: 86400\r\n"
#define POLICY_B "version: STSv1\nmode: testing\nmx: b.test\nmax_age: 86400\n"
#define START    (CLOCK_RELEASE + 1000000)

static char top[TEMP_DIR_MAX];
static struct sts *sts;
static int64_t clock_s;

static int64_t clock_now(void)
{
	return clock_s;
}

struct asked {
	struct sts_query q;
	int dones;
	bool any;
	struct sts_policy first; /* mode, max_age, count of the answer */
	char mx[256];
	struct asked *cancels; /* in done */
	const char *again;     /* asks in done */
};

static void on_done(void *arg, const struct sts_policy *p)
{
	struct asked *a = arg;
	a->dones++;
	a->any = p != NULL;
	a->mx[0] = '\0';
	if (p) {
		a->first.mode = p->mode;
		a->first.max_age = p->max_age;
		a->first.mx_count = p->mx_count;
		snprintf(a->mx, sizeof a->mx, "%s", p->mx_count > 0 ? p->mx[0] : "");
	}
	if (a->cancels)
		sts_cancel(&a->cancels->q);
	if (a->again) {
		const char *domain = a->again;
		a->again = NULL;
		sts_find(sts, &a->q, domain, on_done, a);
	}
}

static void turns(int n)
{
	while (n-- > 0)
		assert_int_equal(loop_turn(0), 0);
}

static void ask(struct asked *a, const char *domain)
{
	int before = a->dones;
	sts_find(sts, &a->q, domain, on_done, a);
	assert_int_equal(a->dones, before);
	turns(6);
}

static void open_it(void)
{
	struct status st;
	sts = sts_open(top, NULL, clock_now, &st);
	assert_non_null(sts);
}

static void reopen(void)
{
	sts_close(sts);
	open_it();
}

static void record(const char *text)
{
	memset(records, 0, sizeof records);
	records[0] = text;
	txt_result = text ? DNS_OK : DNS_NO_NAME;
}

static int setup(void **state)
{
	(void)state;
	assert_int_equal(temp_dir_make(top, sizeof top), 0);
	assert_int_equal(loop_init(), 0);
	log_to(open("/dev/null", O_WRONLY | O_CLOEXEC));
	clock_s = START;
	txt_truncated = get_without_memory = false;
	txt_count = get_count = get_most = 0;
	record("v=STSv1; id=1;");
	open_it();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sts_close(sts);
	sts = NULL;
	assert_null(gets);
	loop_done();
	return temp_dir_remove();
}

static const char *path_of(const char *name)
{
	static char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/sts-cache/%s", top, name);
	return path;
}

static bool on_disk(const char *name)
{
	return access(path_of(name), F_OK) == 0;
}

static void put_file(const char *name, const char *text)
{
	FILE *f = fopen(path_of(name), "we");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void put_policy(const char *domain, int64_t fetched, int64_t max_age, const char *more)
{
	char name[300], text[600];
	snprintf(name, sizeof name, "p:%s", domain);
	snprintf(text, sizeof text, "domain: \"%s\"\nid: \"1\"\nfetched: %lld\nmax_age: %lld\n%s\n",
	         domain, (long long)fetched, (long long)max_age, more);
	put_file(name, text);
}

#define ENFORCE_A "mode: ENFORCE mx: \"a.test\""

static void assert_policy(const struct asked *a, int dones, const char *mx)
{
	assert_int_equal(a->dones, dones);
	assert_true(a->any);
	assert_string_equal(a->mx, mx);
}

/* The domain's policy is fetched and kept. */
static void fetch(const char *domain, const char *text)
{
	struct asked a = {.dones = 0};
	ask(&a, domain);
	assert_int_equal(a.dones, 0);
	get_done(text);
	assert_int_equal(a.dones, 1);
}

/* ---- texts --------------------------------------------------------------------------------- */

static bool parses(const char *text, struct sts_policy *p)
{
	struct status st = {0};
	if (sts_policy_parse(slice_of(text), p, &st) == 0)
		return true;
	assert_int_equal(status_class(&st), STATUS_TRANSIENT);
	assert_int_not_equal(strlen(st.text), 0);
	assert_int_equal(p->mx_count, 0);
	return false;
}

static void test_policies_that_are_good(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum sts_mode mode;
		int64_t max_age;
		size_t count;
	} cases[] = {
	    /* RFC 8461 3.2 */
	    {"version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\n"
	     "mx: backupmx.example.com\nmax_age: 604800\n",
	     STS_ENFORCE, 604800, 3},
	    {POLICY_A, STS_ENFORCE, 86400, 1},
	    {POLICY_B, STS_TESTING, 86400, 1},
	    {"mode:none\nmax_age:0\nversion:STSv1", STS_NONE, 0, 0},
	    {"version: STSv1 \t\r\nmode:\t none\r\nmax_age: 31557600", STS_NONE, 31557600, 0},
	    {"version: STSv1\nmode: none\nmx: a.test\nmax_age: 0000000001\n\n\r\n", STS_NONE, 1, 1},
	    /* The first of a field counts. */
	    {"version: STSv1\nmode: testing\nmode: enforce\nmax_age: 5\nmax_age: x\nversion: "
	     "v2\nmx: a\n",
	     STS_TESTING, 5, 1},
	    {"version: STSv1\nmode: none\nmax_age: 9\nx-new_field.1: g\xc3\xbcnstig und = ; gut\n",
	     STS_NONE, 9, 0},
	    {"Mode: enforce\nversion: STSv1\nmode: none\nmax_age: 9\n", STS_NONE, 9, 0},
	    {"version: STSv1\nmode: enforce\nmx: A.Test.\nmx: *.B.Test\nmx: 1\nmax_age: 1",
	     STS_ENFORCE, 1, 3},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct sts_policy p;
		if (!parses(cases[i].text, &p))
			fail_msg("refused: %s", cases[i].text);
		assert_int_equal(p.mode, cases[i].mode);
		assert_int_equal(p.max_age, cases[i].max_age);
		assert_int_equal(p.mx_count, cases[i].count);
		sts_policy_clear(&p);
		assert_int_equal(p.mx_count, 0);
	}
	struct sts_policy p;
	assert_true(parses(cases[9].text, &p));
	assert_string_equal(p.mx[0], "a.test");
	assert_string_equal(p.mx[1], "*.b.test");
	sts_policy_clear(&p);
}

#define V "version: STSv1\n"
static void test_policies_that_are_not(void **state)
{
	(void)state;
	static const char *const cases[] = {
	    "",
	    "\n",
	    "mode: none\nmax_age: 1\n",
	    V "max_age: 1\n",
	    V "mode: none\n",
	    V "mode: enforce\nmax_age: 1\n",
	    V "mode: testing\nmax_age: 1\n",
	    V "mode: Enforce\nmx: a\nmax_age: 1\n",
	    V "mode: enforce2\nmx: a\nmax_age: 1\n",
	    V "mode:\nmx: a\nmax_age: 1\n",
	    "version: STSv2\nmode: none\nmax_age: 1\n",
	    "version: stsv1\nmode: none\nmax_age: 1\n",
	    "version: STSv2\nversion: STSv1\nmode: none\nmax_age: 1\n",
	    V "mode: none\nmax_age: -1\n",
	    V "mode: none\nmax_age: +1\n",
	    V "mode: none\nmax_age: 1.5\n",
	    V "mode: none\nmax_age: \n",
	    V "mode: none\nmax_age: 31557601\n",
	    V "mode: none\nmax_age: 00000000001\n",
	    V "mode: none\nmax_age: 99999999999999999999999\n",
	    V "mode: none\nmax_age: 1 2\n",
	    V "mode: none\nmax_age: 1\nhello\n",
	    V "mode: none\nmax_age: 1\n: x\n",
	    V "mode: none\nmax_age: 1\nx:\n",
	    V "mode: none\nmax_age: 1\n-x: y\n",
	    V "mode: none\nmax_age: 1\nx y: z\n",
	    V "mode : none\nmax_age: 1\n",
	    " " V "mode: none\nmax_age: 1\n",
	    "\xef\xbb\xbf" V "mode: none\nmax_age: 1\n",
	    V "mode: none\nmax_age: 1\nx: \xff\n",
	    V "mode: none\nmax_age: 1\nx: a\001b\n",
	    V "mode: none\nmax_age: 1\nx: a\tb\n",
	    V "mode: none\nmax_age: 1\nx: a\177\n",
	    V "mode: none\rmax_age: 1\n",
	    V "mode: none\nmax_age: 1\r",
	    V "mode: none\nmax_age: 1\r\r\n",
	    V "mode: none\nmax_age: 1\nabcdefghijklmnopqrstuvwxyz1234567: x\n",
	    V "mode: enforce\nmx:\nmax_age: 1\n",
	    V "mode: enforce\nmx: .\nmax_age: 1\n",
	    V "mode: enforce\nmx: *\nmax_age: 1\n",
	    V "mode: enforce\nmx: *.\nmax_age: 1\n",
	    V "mode: enforce\nmx: *a.test\nmax_age: 1\n",
	    V "mode: enforce\nmx: *.*.test\nmax_age: 1\n",
	    V "mode: enforce\nmx: a.*.test\nmax_age: 1\n",
	    V "mode: enforce\nmx: .a.test\nmax_age: 1\n",
	    V "mode: enforce\nmx: a..test\nmax_age: 1\n",
	    V "mode: enforce\nmx: a.test..\nmax_age: 1\n",
	    V "mode: enforce\nmx: a.test b.test\nmax_age: 1\n",
	    V "mode: enforce\nmx: a.test, b.test\nmax_age: 1\n",
	    V "mode: enforce\nmx: -a.test\nmax_age: 1\n",
	    V "mode: enforce\nmx: a/b.test\nmax_age: 1\n",
	    V "mode: enforce\nmx: \xc3\xbc.test\nmax_age: 1\n",
	    V "mode: enforce\nmx: [192.0.2.1]\nmax_age: 1\n",
	};
	struct sts_policy p;
	struct status st;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (parses(cases[i], &p))
			fail_msg("taken: %s", cases[i]);
	static const char nul[] = V "mode: none\nmax_age: 1\nx: a\0b\n";
	assert_int_equal(sts_policy_parse((struct slice){nul, sizeof nul - 1}, &p, &st), -1);
	static const char nul_in_mx[] = V "mode: none\nmax_age: 1\nmx: a\0\n";
	assert_int_equal(sts_policy_parse((struct slice){nul_in_mx, sizeof nul_in_mx - 1}, &p, &st),
	                 -1);
}

static void test_number_and_length_of_mx(void **state)
{
	(void)state;
	char text[20000] = V "mode: enforce\nmax_age: 1\n";
	struct sts_policy p;
	for (int i = 0; i < STS_MX_MAX; i++)
		snprintf(text + strlen(text), 40, "mx: mx%d.test\n", i);
	assert_true(parses(text, &p));
	assert_int_equal(p.mx_count, STS_MX_MAX);
	sts_policy_clear(&p);
	snprintf(text + strlen(text), 40, "mx: one-more.test\n");
	assert_false(parses(text, &p));
	char label[64];
	memset(label, 'a', 63);
	label[63] = '\0';
	snprintf(text, sizeof text, V "mode: enforce\nmax_age: 1\nmx: %s.%s.%s.%.61s\n", label,
	         label, label, label);
	assert_true(parses(text, &p));
	assert_int_equal(strlen(p.mx[0]), 253);
	sts_policy_clear(&p);
	snprintf(text, sizeof text, V "mode: enforce\nmax_age: 1\nmx: %s.%s.%s.%.62s\n", label,
	         label, label, label);
	assert_false(parses(text, &p));
	snprintf(text, sizeof text, V "mode: enforce\nmax_age: 1\nmx: %sa.test\n", label);
	assert_false(parses(text, &p));
}

static void test_which_hosts_are_listed(void **state)
{
	(void)state;
	static const struct {
		const char *host;
		bool listed;
	} cases[] = {
	    {"mail.example.com", true},
	    {"MAIL.Example.COM.", true},
	    {"mail.example.com..", false},
	    {"mail.example.comx", false},
	    {"xmail.example.com", false},
	    {"example.com", false},
	    {"a.mail.example.com", false},
	    {"a.example.net", true},
	    {"A.EXAMPLE.NET.", true},
	    {"xn--mnchen-3ya.example.net", true},
	    {"example.net", false},
	    {".example.net", false},
	    {"a.b.example.net", false},
	    {"aexample.net", false},
	    {"*.example.net", true},
	    {"a.example.net.evil.test", false},
	    {"", false},
	    {".", false},
	    {"single", true},
	};
	struct sts_policy p;
	assert_true(parses(V "mode: enforce\nmax_age: 1\nmx: mail.example.com\nmx: *.Example.net.\n"
	                     "mx: single\n",
	                   &p));
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (sts_policy_lists(&p, cases[i].host) != cases[i].listed)
			fail_msg("%s", cases[i].host);
	char longer[400];
	memset(longer, 'a', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	assert_false(sts_policy_lists(&p, longer));
	sts_policy_clear(&p);
	assert_false(sts_policy_lists(&p, "mail.example.com"));
	assert_string_equal(sts_mode_name(STS_TESTING), "testing");
}

static void test_records(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *id; /* NULL: malformed; "-": not one of ours */
	} cases[] = {
	    {"v=STSv1; id=20160831085700Z;", "20160831085700Z"},
	    {"v=STSv1;id=a", "a"},
	    {"v=STSv1 \t; \tid=a ; ", "a"},
	    {"v=STSv1; x=y; id=a; z.1-_=%;", "a"},
	    {"v=STSv1; id=a; id=b;", "a"},
	    {"v=STSv1; id=12345678901234567890123456789012", "12345678901234567890123456789012"},
	    {"v=STSv1; id=123456789012345678901234567890123", NULL},
	    {"v=STSv1;", NULL},
	    {"v=STSv1; id=;", NULL},
	    {"v=STSv1; id=a-b;", NULL},
	    {"v=STSv1; id=a b;", NULL},
	    {"v=STSv1; id=a;;", NULL},
	    {"v=STSv1;; id=a", NULL},
	    {"v=STSv1; ID=a;", NULL},
	    {"v=STSv1; id", NULL},
	    {"v=STSv1; id =a", NULL},
	    {"v=STSv1; id=a; rest", NULL},
	    {"v=STSv1; id=a; x=", NULL},
	    {"v=STSv1; id=a; x=b=c", NULL},
	    {"v=STSv1; id=a; x=b c", NULL},
	    {"v=STSv1; id=a; x=\xc3\xbc", NULL},
	    {"v=STSv1", "-"},
	    {"v=STSv10; id=a", "-"},
	    {"v=STSv1 id=a", "-"},
	    {" v=STSv1; id=a", "-"},
	    {"V=STSv1; id=a", "-"},
	    {"v=stsv1; id=a", "-"},
	    {"v=spf1 -all", "-"},
	    {"", "-"},
	};
	char id[STS_ID_MAX + 1];
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct slice s = slice_of(cases[i].text);
		bool ours = !cases[i].id || strcmp(cases[i].id, "-") != 0;
		if (sts_record_is_ours(s) != ours)
			fail_msg("ours? %s", cases[i].text);
		bool good = sts_record_id(s, id) == 0;
		if (good != (ours && cases[i].id))
			fail_msg("%s", cases[i].text);
		if (good)
			assert_string_equal(id, cases[i].id);
	}
	assert_int_equal(sts_record_id((struct slice){"v=STSv1; id=a\0", 14}, id), -1);
}

/* ---- asking -------------------------------------------------------------------------------- */

static void test_fetched_and_kept(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	ask(&a, "far.test");
	assert_string_equal(txt_asked, "_mta-sts.far.test");
	assert_non_null(gets);
	assert_string_equal(gets->host, "mta-sts.far.test");
	get_done(POLICY_A);
	assert_policy(&a, 1, "a.test");
	assert_int_equal(a.first.mode, STS_ENFORCE);
	struct stat st;
	assert_int_equal(stat(path_of("p:far.test"), &st), 0);
	assert_int_equal(st.st_mode & 0777, STS_FILE_MODE);
	for (int i = 0; i < 2; i++) {
		ask(&a, "far.test");
		assert_policy(&a, 2 + i, "a.test");
		assert_int_equal(get_count, 1);
		reopen();
	}
	/* Another id: fetched anew. */
	record("v=STSv1; id=2;");
	ask(&a, "far.test");
	assert_int_equal(a.dones, 3);
	get_done(POLICY_B);
	assert_policy(&a, 4, "b.test");
	reopen();
	ask(&a, "far.test");
	assert_policy(&a, 5, "b.test");
	assert_int_equal(a.first.mode, STS_TESTING);
	assert_int_equal(get_count, 2);
}

static void test_mode_none(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	fetch("far.test", POLICY_A);
	record("v=STSv1; id=2;");
	ask(&a, "far.test");
	get_done(V "mode: none\nmax_age: 1000\n");
	assert_policy(&a, 1, "");
	assert_int_equal(a.first.mode, STS_NONE);
	reopen();
	ask(&a, "far.test");
	assert_policy(&a, 2, "");
	assert_int_equal(get_count, 2);
}

static void test_no_record(void **state)
{
	(void)state;
	static const enum dns_result results[] = {DNS_NO_NAME, DNS_NO_DATA,  DNS_SERVER_FAILURE,
	                                          DNS_TIMEOUT, DNS_BAD_NAME, DNS_NO_MEMORY};
	struct asked a = {.dones = 0};
	for (size_t i = 0; i < 6; i++) {
		txt_result = results[i];
		ask(&a, "far.test");
		assert_int_equal(a.dones, (int)i + 1);
		assert_false(a.any);
	}
	record("v=spf1 -all");
	ask(&a, "far.test");
	assert_false(a.any);
	record("v=STSv1; id=?;");
	ask(&a, "far.test");
	assert_false(a.any);
	record("v=STSv1; id=1;");
	txt_truncated = true;
	ask(&a, "far.test");
	assert_false(a.any);
	assert_int_equal(a.dones, 9);
	assert_int_equal(get_count, 0);
}

static void test_several_records(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	records[1] = "v=STSv1; id=1;";
	ask(&a, "far.test");
	assert_int_equal(a.dones, 1);
	assert_int_equal(get_count, 0);
	records[1] = "something else";
	records[2] = "v=STSv1";
	ask(&a, "far.test");
	get_done(POLICY_A);
	assert_policy(&a, 2, "a.test");
}

/* Who blocks DNS gains nothing while the cached policy holds. */
static void test_cached_holds_without_dns(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	fetch("far.test", POLICY_A);
	static const enum dns_result results[] = {DNS_NO_NAME, DNS_NO_DATA, DNS_SERVER_FAILURE,
	                                          DNS_TIMEOUT};
	for (size_t i = 0; i < 4; i++) {
		txt_result = results[i];
		ask(&a, "far.test");
		assert_policy(&a, (int)i + 1, "a.test");
	}
	clock_s = START + 86399;
	ask(&a, "far.test");
	assert_true(a.any);
	clock_s = START + 86400;
	ask(&a, "far.test");
	assert_false(a.any);
	assert_int_equal(get_count, 1);
}

static void test_cached_holds_without_server(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	fetch("far.test", POLICY_A);
	record("v=STSv1; id=2;");
	ask(&a, "far.test");
	get_done(NULL);
	assert_policy(&a, 1, "a.test");
	/* Remembered: not tried again so soon. */
	ask(&a, "far.test");
	assert_policy(&a, 2, "a.test");
	assert_int_equal(get_count, 2);
	/* Over: no policy, and still remembered. */
	clock_s = START + 86400;
	ask(&a, "far.test");
	assert_int_equal(a.dones, 3);
	assert_false(a.any);
	assert_int_equal(get_count, 2);
}

/* The cached one runs out while its successor is fetched in vain. */
static void test_cached_ends_during_fetch(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	fetch("far.test", POLICY_A);
	record("v=STSv1; id=2;");
	ask(&a, "far.test");
	clock_s = START + 86400;
	get_done(NULL);
	assert_int_equal(a.dones, 1);
	assert_false(a.any);
}

static void test_same_id_but_over(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	fetch("far.test", POLICY_A);
	clock_s = START + 90000;
	ask(&a, "far.test");
	assert_int_equal(a.dones, 0);
	get_done(POLICY_A);
	assert_policy(&a, 1, "a.test");
}

static void test_bad_policy_is_a_failed_fetch(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	ask(&a, "far.test");
	get_done("<html>not found</html>");
	assert_int_equal(a.dones, 1);
	assert_false(a.any);
	assert_false(on_disk("p:far.test"));
	ask(&a, "far.test");
	assert_int_equal(a.dones, 2);
	assert_int_equal(get_count, 1);
	get_without_memory = true;
	ask(&a, "other.test");
	assert_int_equal(a.dones, 3);
	assert_false(a.any);
}

static void test_failures_are_forgotten(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	char domain[32];
	get_without_memory = true;
	for (int i = 0; i < STS_FAILED_MAX + 1; i++) {
		snprintf(domain, sizeof domain, "d%d.test", i);
		ask(&a, domain);
	}
	assert_int_equal(get_count, STS_FAILED_MAX + 1);
	snprintf(domain, sizeof domain, "d%d.test", STS_FAILED_MAX);
	ask(&a, domain);
	assert_int_equal(get_count, STS_FAILED_MAX + 1);
	/* One had to make room; all the others are remembered. */
	for (int i = 0; i < STS_FAILED_MAX + 1; i++) {
		snprintf(domain, sizeof domain, "d%d.test", i);
		if (i != 1) /* forgotten for the first, when that was asked again */
			ask(&a, domain);
	}
	assert_true(get_count <= STS_FAILED_MAX + 3);
}

static void test_max_age_0(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	fetch("far.test", POLICY_A);
	record("v=STSv1; id=2;");
	ask(&a, "far.test");
	get_done(V "mode: enforce\nmx: c.test\nmax_age: 0\n");
	assert_policy(&a, 1, "c.test");
	assert_false(on_disk("p:far.test"));
	record(NULL);
	ask(&a, "far.test");
	assert_false(a.any);
}

static void test_names(void **state)
{
	(void)state;
	char longest[301];
	memset(longest, 'a', 300);
	longest[300] = '\0';
	static const char *const cases[] = {
	    "",        "a/b.test",   "../../etc/passwd", "a\nb.test", ".",
	    "..",      "UPPER.test", "dot.test.",        "a b",       "[192.0.2.1]",
	    "-a.test", "\xff.test",  "a_b.test"};
	struct asked a = {.dones = 0};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		ask(&a, cases[i]);
		assert_int_equal(a.dones, (int)i + 1);
		assert_false(a.any);
	}
	ask(&a, longest);
	assert_int_equal(a.dones, 14);
	assert_int_equal(txt_count, 0);
	/* A name, but there is none of that length with mta-sts. before it. */
	for (int i = 60; i < 248; i += 61)
		longest[i] = '.';
	longest[250] = '\0';
	ask(&a, longest);
	assert_int_equal(a.dones, 15);
	assert_int_equal(txt_count, 0);
#if WITH_IDN
	ask(&a, "xn--a.test");
	assert_int_equal(a.dones, 16);
	assert_int_equal(txt_count, 0);
	static const char unicode[] = "\xc3\xb1\x61nd\xc3\xba.test";
	ask(&a, unicode);
	assert_string_equal(txt_asked, "_mta-sts.xn--and-6ma2c.test");
	assert_string_equal(gets->host, "mta-sts.xn--and-6ma2c.test");
	get_done(POLICY_A);
	assert_true(on_disk("p:\xc3\xb1\x61nd\xc3\xba.test"));
	reopen();
	ask(&a, unicode);
	assert_policy(&a, 18, "a.test");
	assert_int_equal(get_count, 1);
#endif
}

static void test_file_names(void **state)
{
	(void)state;
	char name[NAME_MAX + 1], longer[300];
	assert_int_equal(sts_cache_name("a.test", name, sizeof name), 0);
	assert_string_equal(name, "p:a.test");
	assert_int_equal(sts_cache_name("../A%\n", name, sizeof name), 0);
	assert_string_equal(name, "p:..%2F%41%25%0A");
	memset(longer, 'a', sizeof longer);
	longer[NAME_MAX - 8] = '\0';
	assert_int_equal(sts_cache_name(longer, name, sizeof name), 0);
	longer[NAME_MAX - 8] = 'a';
	longer[NAME_MAX - 7] = '\0';
	assert_int_equal(sts_cache_name(longer, name, sizeof name), -1);
}

/* ---- sharing, waiting, cancelling ---------------------------------------------------------- */

static void test_shared(void **state)
{
	(void)state;
	struct asked a = {.dones = 0}, b = {.dones = 0}, c = {.dones = 0};
	sts_find(sts, &a.q, "far.test", on_done, &a);
	sts_find(sts, &b.q, "far.test", on_done, &b);
	turns(5);
	sts_find(sts, &c.q, "far.test", on_done, &c);
	turns(5);
	assert_int_equal(txt_count, 1);
	sts_cancel(&b.q);
	get_done(POLICY_A);
	assert_policy(&a, 1, "a.test");
	assert_int_equal(b.dones, 0);
	assert_policy(&c, 1, "a.test");
	assert_int_equal(get_count, 1);
}

static void test_cancel_and_ask_in_done(void **state)
{
	(void)state;
	struct asked a = {.dones = 0}, b = {.dones = 0}, c = {.dones = 0};
	a.cancels = &b;
	c.again = "far.test";
	ask(&a, "far.test");
	ask(&b, "far.test");
	ask(&c, "far.test");
	get_done(POLICY_A);
	assert_int_equal(a.dones, 1);
	assert_int_equal(b.dones, 0);
	assert_int_equal(c.dones, 1);
	turns(5);
	assert_policy(&c, 2, "a.test");
	/* The last that waits is cancelled by the first. */
	record("v=STSv1; id=2;");
	struct asked d = {.cancels = &b};
	ask(&d, "far.test");
	ask(&b, "far.test");
	get_done(POLICY_B);
	assert_policy(&d, 1, "b.test");
	assert_int_equal(b.dones, 0);
}

static void test_cancel(void **state)
{
	(void)state;
	struct asked a = {.dones = 0}, b = {.dones = 0};
	struct sts_query zero = {.sts = NULL};
	sts_cancel(&zero);
	sts_find(sts, &a.q, "far.test", on_done, &a);
	sts_cancel(&a.q);
	sts_cancel(&a.q);
	ask(&a, "far.test");
	assert_int_equal(get_open, 1);
	sts_cancel(&a.q);
	assert_int_equal(get_open, 0);
	sts_find(sts, &a.q, "no name", on_done, &a);
	sts_find(sts, &b.q, "no name", on_done, &b);
	sts_cancel(&a.q);
	turns(5);
	assert_int_equal(a.dones, 0);
	assert_int_equal(b.dones, 1);
	sts_find(sts, &a.q, "no name", on_done, &a);
	sts_cancel(&a.q);
	turns(5);
	assert_int_equal(a.dones, 0);
	/* A question that is asked again while it is under way. */
	ask(&a, "far.test");
	ask(&a, "near.test");
	assert_int_equal(get_open, 1);
	get_done(POLICY_A);
	assert_int_equal(a.dones, 1);
	/* Closing with all kinds under way: no answers. */
	struct asked more[STS_FLIGHTS_MAX + 2] = {{.dones = 0}};
	char domain[32];
	for (int i = 0; i < STS_FLIGHTS_MAX + 2; i++) {
		snprintf(domain, sizeof domain, "d%d.test", i);
		ask(&more[i], domain);
	}
	sts_find(sts, &a.q, "no name", on_done, &a);
	sts_find(sts, &b.q, "new.test", on_done, &b);
	reopen();
	turns(5);
	assert_int_equal(a.dones, 1);
	sts_cancel(&a.q);
	sts_cancel(&more[0].q);
}

static void test_some_wait(void **state)
{
	(void)state;
	enum { COUNT = STS_FLIGHTS_MAX * 2 + 1 };
	struct asked a[COUNT] = {{.dones = 0}};
	char domain[32];
	for (int i = 0; i < COUNT; i++) {
		snprintf(domain, sizeof domain, "d%d.test", i);
		ask(&a[i], domain);
	}
	turns(20);
	assert_int_equal(get_open, STS_FLIGHTS_MAX);
	/* One that waits and one that is served go away: the next gets the room. */
	sts_cancel(&a[STS_FLIGHTS_MAX].q);
	sts_cancel(&a[0].q);
	turns(5);
	assert_int_equal(get_open, STS_FLIGHTS_MAX);
	for (int i = 0; i < COUNT - 2; i++) {
		get_done(i % 2 ? NULL : POLICY_A);
		turns(5);
	}
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(a[i].dones, i != 0 && i != STS_FLIGHTS_MAX);
	assert_int_equal(get_most, STS_FLIGHTS_MAX);
	assert_int_equal(get_open, 0);
}

/* ---- the cache ----------------------------------------------------------------------------- */

static void test_clock_is_not_set(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	put_policy("far.test", START, 100, ENFORCE_A);
	clock_s = 1000;
	reopen();
	record(NULL);
	ask(&a, "far.test");
	assert_policy(&a, 1, "a.test");
	clock_s = START + 50;
	ask(&a, "far.test");
	assert_policy(&a, 2, "a.test");
	clock_s = START + 100;
	ask(&a, "far.test");
	assert_false(a.any);
	/* Fetched in 1970: it holds, and for no longer than from the release on. */
	clock_s = 1000;
	record("v=STSv1; id=7;");
	fetch("near.test", POLICY_A);
	ask(&a, "near.test");
	assert_policy(&a, 4, "a.test");
	clock_s = CLOCK_RELEASE + 86399;
	ask(&a, "near.test");
	assert_policy(&a, 5, "a.test");
	clock_s = CLOCK_RELEASE + 86400;
	record(NULL);
	ask(&a, "near.test");
	assert_int_equal(a.dones, 6);
	assert_false(a.any);
	/* Of such times themselves nothing is believed. */
	put_policy("old.test", 1000, 100, ENFORCE_A);
	clock_s = CLOCK_RELEASE - 1;
	reopen();
	ask(&a, "old.test");
	assert_policy(&a, 7, "a.test");
	clock_s = CLOCK_RELEASE;
	ask(&a, "old.test");
	assert_false(a.any);
}

static void test_damaged_files(void **state)
{
	(void)state;
	static const struct {
		const char *name, *text;
		bool stays;
	} cases[] = {
	    {"p:a.test",
	     "domain: \"a.test\" id: \"1\" fetched: 1800000000 max_age: 86400 " ENFORCE_A, true},
	    {"p:new.test",
	     "domain: \"new.test\" id: \"1\" fetched: 1800000000 max_age: 86400 future: "
	     "7 " ENFORCE_A,
	     true},
	    {"pol:b.test", "{\"version\":\"STSv1\"}", true},
	    {"p:", "", true},
	    {"p:UP.test", "", true},
	    {"README", "", true},
	    {".p:x.test.new", "dom", false},
	    {"p:c.test", "", false},
	    {"p:d.test", "garbage", false},
	    {"p:e.test", "domain: \"a.test\" id: \"1\" fetched: 1 max_age: 1 " ENFORCE_A, false},
	    {"p:f.test", "domain: \"f.test\" id: \"1\" fetched: 1 max_age: 1 mode: ENFORCE", false},
	    {"p:g.test", "domain: \"g.test\" id: \"1\" fetched: 1 max_age: 1 mx: \"a\"", false},
	    {"p:h.test", "domain: \"h.test\" id: \"1\" fetched: 1 mode: NONE", false},
	    {"p:i.test", "domain: \"i.test\" id: \"1\" max_age: 1 mode: NONE", false},
	    {"p:j.test", "domain: \"j.test\" fetched: 1 max_age: 1 mode: NONE", false},
	    {"p:k.test", "domain: \"k.test\" id: \"?\" fetched: 1 max_age: 1 mode: NONE", false},
	    {"p:l.test", "domain: \"l.test\" id: \"1\" fetched: 1 max_age: 1 mode: OTHER", false},
	    {"p:m.test", "domain: \"m.test\" id: \"1\" fetched: 1 max_age: -1 mode: NONE", false},
	    {"p:n.test", "domain: \"n.test\" id: \"1\" fetched: 1 max_age: 31557601 mode: NONE",
	     false},
	    {"p:o.test",
	     "domain: \"o.test\" id: \"1\" fetched: 9223372036854775807 max_age: 1 mode: NONE",
	     false},
	    {"p:p.test",
	     "domain: \"p.test\" id: \"1\" fetched: 1 max_age: 1 mode: ENFORCE mx: \"*\"", false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		put_file(cases[i].name, cases[i].text);
	assert_int_equal(mkdir(path_of("p:dir.test"), 0700), 0);
	assert_int_equal(symlink("/etc/passwd", path_of("p:link.test")), 0);
	clock_s = 1800000000 + 5;
	reopen();
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (on_disk(cases[i].name) != cases[i].stays)
			fail_msg("%s", cases[i].name);
	struct asked a = {.dones = 0};
	record(NULL);
	ask(&a, "a.test");
	assert_policy(&a, 1, "a.test");
	ask(&a, "new.test");
	assert_policy(&a, 2, "a.test");
	/* Broken, or removed, while we run. */
	put_file("p:a.test", "{");
	ask(&a, "a.test");
	assert_false(a.any);
	assert_false(on_disk("p:a.test"));
	unlink(path_of("p:new.test"));
	ask(&a, "new.test");
	assert_false(a.any);
}

static int count_files(void)
{
	DIR *d = opendir(path_of(""));
	struct dirent *e;
	int n = 0;
	assert_non_null(d);
	while ((e = readdir(d)))
		n += strncmp(e->d_name, "p:", 2) == 0;
	closedir(d);
	return n;
}

static void test_cache_is_bounded(void **state)
{
	(void)state;
	char domain[32];
	for (int i = 0; i < STS_CACHE_MAX + 3; i++) {
		snprintf(domain, sizeof domain, "d%d.test", i);
		put_policy(domain, START, 2000 + i, ENFORCE_A);
	}
	reopen();
	assert_int_equal(count_files(), STS_CACHE_MAX);
	assert_false(on_disk("p:d0.test"));
	assert_false(on_disk("p:d2.test"));
	assert_true(on_disk("p:d3.test"));
	/* A new one takes the place of the one that ends first, unless that is itself. */
	fetch("late.test", V "mode: none\nmax_age: 5000\n");
	assert_true(on_disk("p:late.test"));
	assert_false(on_disk("p:d3.test"));
	fetch("soon.test", V "mode: none\nmax_age: 100\n");
	assert_false(on_disk("p:soon.test"));
	/* One that is there is only replaced. */
	record("v=STSv1; id=2;");
	fetch("late.test", V "mode: none\nmax_age: 90\n");
	assert_int_equal(count_files(), STS_CACHE_MAX);
	/* Without a clock nothing goes. */
	clock_s = 1;
	fetch("third.test", V "mode: none\nmax_age: 5000\n");
	assert_int_equal(count_files(), STS_CACHE_MAX);
}

static void test_disk_trouble(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	char cmd[128];
	struct status st;
	snprintf(cmd, sizeof cmd, "rm -rf %s/sts-cache", top);
	assert_int_equal(system(cmd), 0);
	ask(&a, "far.test");
	get_done(POLICY_A);
	assert_policy(&a, 1, "a.test"); /* it holds, though it cannot be kept */
	sts_close(sts);
	snprintf(cmd, sizeof cmd, "echo >%s/sts-cache", top);
	assert_int_equal(system(cmd), 0);
	sts = sts_open(top, NULL, clock_now, &st);
	assert_null(sts);
	assert_non_null(strstr(st.text, "sts-cache"));
	unlink(path_of(".."));
	snprintf(cmd, sizeof cmd, "rm %s/sts-cache", top);
	assert_int_equal(system(cmd), 0);
	open_it();
}

static void test_text_survives(void **state)
{
	(void)state;
	struct sts_cached e = {.fetched = START}, back;
	struct text_reader *r = malloc(sizeof *r);
	struct buf out;
	assert_non_null(r);
	assert_true(parses(V "mode: testing\nmax_age: 0\nmx: *.a.test\nmx: b.test\n", &e.policy));
	snprintf(e.id, sizeof e.id, "%s", "Id7");
	buf_init(&out, 10000);
	assert_int_equal(sts_cached_write(&out, "far.test", &e), 0);
	assert_string_equal(buf_str(&out),
	                    "domain: \"far.test\"\nid: \"Id7\"\nfetched: 1794491200\n"
	                    "max_age: 0\nmode: TESTING\nmx: \"*.a.test\"\n"
	                    "mx: \"b.test\"\n");
	text_open_memory(r, "test", buf_data(&out), out.len);
	assert_int_equal(sts_cached_read(r, "far.test", &back), 0);
	assert_string_equal(back.id, e.id);
	assert_int_equal(back.fetched, e.fetched);
	assert_int_equal(back.policy.mode, STS_TESTING);
	assert_int_equal(back.policy.mx_count, 2);
	assert_string_equal(back.policy.mx[0], "*.a.test");
	sts_policy_clear(&back.policy);
	sts_policy_clear(&e.policy);
	buf_clear(&out);
	free(r);
}

/* ---- the refresh --------------------------------------------------------------------------- */

/* Lets time pass, for timers too: the monotonic clock of the test. */
static int64_t moved_s;

int clock_gettime(clockid_t id, struct timespec *ts)
{
	static struct timespec base;
	(void)id;
	base.tv_nsec += 1000;
	if (base.tv_nsec >= 1000000000)
		base.tv_nsec = 0;
	*ts = base;
	ts->tv_sec += (time_t)moved_s + 1000;
	return 0;
}

static void pass(int64_t s)
{
	moved_s += s;
	clock_s += s;
	turns(10);
}

static void test_refresh(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	put_policy("old.test", START - 86400, 864000, ENFORCE_A);
	put_policy("short.test", START - 600, 1200, ENFORCE_A);
	put_policy("young.test", START - 80000, 864000, ENFORCE_A);
	put_policy("none.test", START - 86400, 864000, "mode: NONE");
	put_policy("over.test", START - 86400, 86400, ENFORCE_A);
	put_policy("future.test", START + 9999999, 864000, ENFORCE_A);
	reopen();
	turns(5);
	assert_int_equal(get_count, 0);
	pass(STS_REFRESH_MS / 60000);
	assert_false(on_disk("p:over.test"));
	/* One at a time, good or bad. */
	char seen[256] = "";
	for (int i = 0; i < 3; i++) {
		assert_int_equal(get_open, 1);
		snprintf(seen + strlen(seen), 64, "%.60s ", gets->host);
		get_done(strstr(gets->host, "old") ? POLICY_B : NULL);
		turns(5);
	}
	assert_int_equal(get_open, 0);
	assert_non_null(strstr(seen, "mta-sts.old.test "));
	assert_non_null(strstr(seen, "mta-sts.short.test "));
	assert_non_null(strstr(seen, "mta-sts.future.test "));
	assert_int_equal(txt_count, 0);
	/* The new one has the id of the old. */
	ask(&a, "old.test");
	assert_policy(&a, 1, "b.test");
	/* Next round: the failed one is over, the future one comes again, the new one does not. */
	pass(STS_REFRESH_MS / 1000);
	assert_false(on_disk("p:short.test"));
	assert_int_equal(get_open, 1);
	assert_string_equal(gets->host, "mta-sts.future.test");
	get_done(POLICY_A);
	turns(5);
	/* By and by the young one is a day old, and the new one has used up half of its time. */
	assert_int_equal(get_open, 0);
	for (int i = 0; i < 11; i++)
		pass(STS_REFRESH_MS / 1000);
	assert_int_equal(get_open, 1);
	while (gets) {
		get_done(NULL);
		turns(5);
	}
	assert_int_equal(get_count, 6);
}

static void test_refresh_with_bad_clock(void **state)
{
	(void)state;
	put_policy("over.test", START - 86400, 86400, ENFORCE_A);
	put_policy("old.test", START - 86400, 864000, ENFORCE_A);
	clock_s = 5;
	reopen();
	pass(STS_REFRESH_MS / 60000);
	pass(STS_REFRESH_MS / 1000);
	assert_int_equal(get_count, 0);
	assert_true(on_disk("p:over.test"));
	clock_s = START;
	pass(STS_REFRESH_MS / 1000);
	assert_false(on_disk("p:over.test"));
	assert_int_equal(get_open, 1);
}

static void test_refresh_gives_way(void **state)
{
	(void)state;
	struct asked a[STS_FLIGHTS_MAX] = {{.dones = 0}};
	char domain[32];
	put_policy("old.test", START - 86400, 864000, ENFORCE_A);
	reopen();
	pass(STS_REFRESH_MS / 60000);
	assert_int_equal(get_open, 1);
	assert_string_equal(gets->host, "mta-sts.old.test");
	/* Who asks for this domain does not wait for the refresh. */
	struct asked same = {.dones = 0};
	ask(&same, "old.test");
	assert_policy(&same, 1, "a.test");
	for (int i = 0; i < STS_FLIGHTS_MAX; i++) {
		snprintf(domain, sizeof domain, "d%d.test", i);
		ask(&a[i], domain);
	}
	turns(10);
	assert_int_equal(get_open, STS_FLIGHTS_MAX);
	assert_int_equal(get_most, STS_FLIGHTS_MAX);
	assert_string_equal(gets->host, "mta-sts.d0.test");
	pass(STS_FETCH_MS / 1000 + 1);
	assert_int_equal(get_open, STS_FLIGHTS_MAX); /* none while there is no room */
	for (int i = 0; i < STS_FLIGHTS_MAX; i++)
		get_done(POLICY_A);
	pass(STS_FETCH_MS / 1000 + 1);
	/* Then the next round has it. */
	pass(STS_REFRESH_MS / 1000 + 1);
	assert_int_equal(get_open, 1);
	assert_string_equal(gets->host, "mta-sts.old.test");
	/* Fetched under a new id meanwhile: the id stays that one. */
	record("v=STSv1; id=9;");
	ask(&same, "old.test");
	struct https *refresh = gets;
	gets = gets->next;
	get_done(POLICY_B);
	refresh->next = gets;
	gets = refresh;
	assert_policy(&same, 2, "b.test");
	get_done(POLICY_B);
	ask(&same, "old.test");
	assert_policy(&same, 3, "b.test");
	assert_int_equal(get_open, 0);
}

static void test_retry_after_a_while(void **state)
{
	(void)state;
	struct asked a = {.dones = 0};
	ask(&a, "far.test");
	get_done(NULL);
	pass(STS_RETRY_MS / 1000 - 1);
	ask(&a, "far.test");
	assert_int_equal(a.dones, 2);
	pass(2);
	ask(&a, "far.test");
	assert_int_equal(a.dones, 2);
	get_done(POLICY_A);
	assert_policy(&a, 3, "a.test");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_policies_that_are_good),
	    cmocka_unit_test(test_policies_that_are_not),
	    cmocka_unit_test(test_number_and_length_of_mx),
	    cmocka_unit_test(test_which_hosts_are_listed),
	    cmocka_unit_test(test_records),
	    cmocka_unit_test(test_file_names),
	    cmocka_unit_test(test_text_survives),
	    CASE(test_fetched_and_kept),
	    CASE(test_mode_none),
	    CASE(test_no_record),
	    CASE(test_several_records),
	    CASE(test_cached_holds_without_dns),
	    CASE(test_cached_holds_without_server),
	    CASE(test_cached_ends_during_fetch),
	    CASE(test_same_id_but_over),
	    CASE(test_bad_policy_is_a_failed_fetch),
	    CASE(test_failures_are_forgotten),
	    CASE(test_max_age_0),
	    CASE(test_names),
	    CASE(test_shared),
	    CASE(test_cancel_and_ask_in_done),
	    CASE(test_cancel),
	    CASE(test_some_wait),
	    CASE(test_clock_is_not_set),
	    CASE(test_damaged_files),
	    CASE(test_cache_is_bounded),
	    CASE(test_disk_trouble),
	    CASE(test_refresh),
	    CASE(test_refresh_with_bad_clock),
	    CASE(test_refresh_gives_way),
	    CASE(test_retry_after_a_while),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
