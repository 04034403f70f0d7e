/* test_stat_export: the formats for machines, of values made for it and of all that the program
 * has.
 */
#include "stat_export.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "control.h"
#include "listen.h"
#include "lmtp.h"
#include "queue.h"
#include "remote.h"
#include "smtpd.h"
#include "smtpd_reply.h"
#include "stat_process.h"
#include "sts.h"
#include "valgrind.h"

/* Whoever is named here is linked, with all that it needs: all modules with values. */
static void (*volatile const linked[])(void) = {
    (void (*)(void))smtpd_new,       (void (*)(void))queue_new,   (void (*)(void))sts_open,
    (void (*)(void))courier_maildir, (void (*)(void))courier_mda, (void (*)(void))courier_lmtp,
    (void (*)(void))courier_remote,  (void (*)(void))listen_open, (void (*)(void))control_open,
};

STAT_COUNTER(plain, "test/a", "line\nend, back\\slash, \"quotes\"");
STAT_GAUGE(level, "test/b.c-level", "a gauge");
STAT_VECTOR(verdicts, "test/v", "result", "a vector", 2, "good bad:worse");
STAT_COUNTER(theirs, "chasquid/test/putCount", "of the other server");
STAT_VECTOR(theirs_by, "chasquid/test/x", "code", "with a label", 2, "250 other");
STAT_HISTOGRAM(sizes, "test/size_bytes", "a histogram", 1, 250, 1000000, 2500000, 31415926500);

static const struct stat_extra extras[] = {
    {"test/zz", "the last", 7},           {"process/test_fds", "somebody's", 9},
    {"test/a_b{file=one}", "by file", 1}, {"test/a_b{file=a\"b\\c\nd}e}", "by file", 2},
    {"test/aa", "between", INT64_MIN},
};
#define EXTRAS (sizeof extras / sizeof *extras)

static char *export(bool openmetrics)
{
	struct buf out;
	buf_init(&out, 1 << 20);
	stat_export_metrics(&out, openmetrics, extras, EXTRAS);
	assert_false(out.failed);
	char *text = strdup(buf_str(&out));
	buf_clear(&out);
	return text;
}

static void has(const char *text, const char *want)
{
	if (!strstr(text, want))
		fail_msg("there is no %s in:\n%s", want, text);
}

/* ---- the formats ---- */

#define BUCKETS                                                   \
	"chasq_test_size_bytes_bucket{le=\"1.0\"} 1\n"            \
	"chasq_test_size_bytes_bucket{le=\"250.0\"} 1\n"          \
	"chasq_test_size_bytes_bucket{le=\"1e+06\"} 3\n"          \
	"chasq_test_size_bytes_bucket{le=\"2.5e+06\"} 3\n"        \
	"chasq_test_size_bytes_bucket{le=\"3.14159265e+10\"} 3\n" \
	"chasq_test_size_bytes_bucket{le=\"+Inf\"} 4\n"           \
	"chasq_test_size_bytes_sum 40000000503\n"                 \
	"chasq_test_size_bytes_count 4\n"

static void test_openmetrics(void **state)
{
	(void)state;
	char *text = export(true);
	has(text, "# HELP chasq_test_a line\\nend, back\\\\slash, \\\"quotes\\\"\n"
	          "# TYPE chasq_test_a counter\nchasq_test_a_total 5\n"
	          "# HELP chasq_test_a_b by file\n# TYPE chasq_test_a_b gauge\n"
	          "chasq_test_a_b{file=\"a\\\"b\\\\c\\nd}e\"} 2\n"
	          "chasq_test_a_b{file=\"one\"} 1\n"
	          "# HELP chasq_test_aa between\n# TYPE chasq_test_aa gauge\n"
	          "chasq_test_aa -9223372036854775808\n"
	          "# HELP chasq_test_b_c_level a gauge\n# TYPE chasq_test_b_c_level gauge\n"
	          "chasq_test_b_c_level -3\n");
	has(text, "# TYPE chasq_test_size_bytes histogram\n" BUCKETS);
	has(text, "# HELP chasq_test_v a vector\n# TYPE chasq_test_v counter\n"
	          "chasq_test_v_total{result=\"good\"} 0\n"
	          "chasq_test_v_total{result=\"bad:worse\"} 6\n"
	          "# HELP chasq_test_zz the last\n# TYPE chasq_test_zz gauge\nchasq_test_zz 7\n"
	          "# EOF\n");
	has(text, "# TYPE chasquid_test_putCount unknown\nchasquid_test_putCount 8\n");
	has(text, "# TYPE chasquid_test_x unknown\nchasquid_test_x{code=\"250\"} 2\n"
	          "chasquid_test_x{code=\"other\"} 0\n");
	has(text, "# TYPE process_test_fds gauge\nprocess_test_fds 9\n");
	assert_string_equal(text + strlen(text) - 6, "# EOF\n");
	free(text);
}

static void test_prometheus(void **state)
{
	(void)state;
	char *text = export(false);
	has(text, "# HELP chasq_test_a_total line\\nend, back\\\\slash, \"quotes\"\n"
	          "# TYPE chasq_test_a_total counter\nchasq_test_a_total 5\n");
	has(text, "# TYPE chasq_test_size_bytes histogram\n" BUCKETS);
	has(text, "# TYPE chasq_test_v_total counter\n");
	has(text, "# TYPE chasquid_test_putCount untyped\nchasquid_test_putCount 8\n");
	assert_null(strstr(text, "# EOF"));
	free(text);
}

static void test_json(void **state)
{
	struct buf out;
	time_t release = CLOCK_RELEASE;
	char date[64];
	(void)state;
	buf_init(&out, 1 << 20);
	stat_export_json(&out, extras, EXTRAS);
	const char *text = buf_str(&out);
	strftime(date, sizeof date, "\"chasquid/sourceDateStr\": \"%Y-%m-%d ", gmtime(&release));
	has(text, date);
	has(text, "\"chasquid/version\": \"" CHASQ_VERSION "\",\n");
	has(text, "\"chasquid/test/putCount\": 8,\n"
	          "\"chasquid/test/x\": {\"250\": 2, \"other\": 0},\n");
	has(text, "\"test/a_b\": {\"a\\\"b\\\\c\\u000ad}e\": 2, \"one\": 1},\n");
	has(text, "\"test/size_bytes\": {\"le\": {\"1\": 1, \"250\": 1, \"1000000\": 3, "
	          "\"2500000\": 3, \"31415926500\": 3, \"+Inf\": 4}, \"sum\": 40000000503, "
	          "\"count\": 4},\n");
	has(text, "\"test/zz\": 7\n}\n");
	buf_clear(&out);
	/* With the label's object last. */
	stat_export_json(&out, &(struct stat_extra){"x/y{z=w}", "", 1}, 1);
	has(buf_str(&out), "\"x/y\": {\"w\": 1}\n}\n");
	buf_clear(&out);
}

/* What does not fit is noticed. */
static void test_bounded(void **state)
{
	struct buf out;
	(void)state;
	buf_init(&out, 200);
	stat_export_metrics(&out, true, NULL, 0);
	assert_true(out.failed);
	buf_clear(&out);
}

/* ---- all that is registered ---- */

struct registry {
	char family[256][STAT_NAME_MAX];
	size_t families;
	size_t values;
};

static bool is_metric_name(const char *s)
{
	if (!*s || strspn(s, "0123456789") > 0)
		return false;
	return s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/")] ==
	       '\0';
}

/* Names that one of another family would claim. */
static void check_suffix(const char *family)
{
	static const char *const reserved[] = {"_total", "_sum",     "_bucket",
	                                       "_count", "_created", "_info"};
	size_t n = strlen(family);
	for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
		size_t k = strlen(reserved[i]);
		if (n > k && strcmp(family + n - k, reserved[i]) == 0)
			fail_msg("%s ends in %s", family, reserved[i]);
	}
}

static void check_family(struct registry *r, const struct stat_value *v, const char *family)
{
	bool is_theirs = strncmp(family, "chasquid/", 9) == 0;
	for (size_t i = 0; i < r->families; i++)
		if (strcmp(r->family[i], family) == 0)
			fail_msg("%s is not in one piece", family);
	assert_true(r->families < sizeof r->family / sizeof r->family[0]);
	snprintf(r->family[r->families++], STAT_NAME_MAX, "%s", family);
	if (strstr(family, "test/"))
		return;
	if (strlen(v->help) < 5 || strpbrk(v->help, "\n\\\""))
		fail_msg("%s has no good help: %s", v->name, v->help);
	if (!is_metric_name(family))
		fail_msg("%s is no legal name", family);
	check_suffix(family);
	for (const char *s = family; *s && !is_theirs; s++)
		if (*s >= 'A' && *s <= 'Z')
			fail_msg("%s is not in small letters", family);
}

static void check_value(void *arg, const struct stat_value *v)
{
	struct registry *r = arg;
	char family[STAT_NAME_MAX];
	char label[STAT_NAME_MAX] = "";
	char text[STAT_NAME_MAX] = "";
	char end[2] = "";
	r->values++;
	if (strlen(v->name) >= STAT_NAME_MAX - 1)
		fail_msg("%s is too long", v->name);
	int got = sscanf(v->name, "%[^{]{%[a-z_]=%[^} ]%1[}]", family, label, text, end);
	if (got != 1 && got != 4)
		fail_msg("%s is no name, or has an empty label", v->name);
	if (got == 1 && strchr(v->name, '{'))
		fail_msg("%s is half a name", v->name);
	if (r->families == 0 || strcmp(r->family[r->families - 1], family) != 0)
		check_family(r, v, family);
	if (v->kind->type == STAT_TYPE_HISTOGRAM) {
		assert_true(v->kind->count > 0);
		for (size_t i = 1; i < v->kind->count; i++)
			assert_true(v->kind->bounds[i - 1] < v->kind->bounds[i]);
	}
}

/* Two names must not become one when their odd characters do. */
static void check_no_twins(const struct registry *r)
{
	for (size_t i = 0; i < r->families; i++) {
		for (size_t k = i + 1; k < r->families; k++) {
			char a[STAT_NAME_MAX], b[STAT_NAME_MAX];
			memcpy(a, r->family[i], sizeof a);
			memcpy(b, r->family[k], sizeof b);
			for (char *s = a; (s = strpbrk(s, "/.-")); s++)
				*s = '_';
			for (char *s = b; (s = strpbrk(s, "/.-")); s++)
				*s = '_';
			if (strcmp(a, b) == 0)
				fail_msg("%s and %s are one", r->family[i], r->family[k]);
		}
	}
}

static void test_registry(void **state)
{
	static struct registry r;
	(void)state;
	for (size_t i = 0; i < sizeof linked / sizeof *linked; i++)
		assert_non_null(linked[i]);
	stat_each(check_value, &r);
	check_no_twins(&r);
	print_message("%u families, %u values\n", (unsigned)r.families, (unsigned)r.values);
	assert_true(r.families > 40 && r.values > 100);
}

struct search {
	char name[STAT_NAME_MAX];
	bool found;
};

static void search(void *arg, const struct stat_value *v)
{
	struct search *s = arg;
	s->found |= strcmp(v->name, s->name) == 0;
}

static void is_there(const char *name)
{
	struct search s = {.found = false};
	snprintf(s.name, sizeof s.name, "chasquid/%s", name);
	stat_each(search, &s);
	if (!s.found)
		fail_msg("there is no %s", s.name);
}

/* What chasquid exports, of the features that are here. */
static void test_names_of_chasquid(void **state)
{
	static const char *const names[] = {
	    "smtpIn/commandCount{command=unknown}",
	    "smtpIn/commandCount{command=HELO}",
	    "smtpIn/commandCount{command=STARTTLS}",
	    "smtpIn/commandCount{command=AUTH}",
	    "smtpIn/responseCodeCount{code=214}",
	    "smtpIn/responseCodeCount{code=556}",
	    "smtpIn/responseCodeCount{code=other}",
	    "smtpIn/spfResultCount{result=none}",
	    "smtpIn/spfResultCount{result=permerror}",
	    "smtpIn/loopsDetected",
	    "smtpIn/tlsCount{status=plain}",
	    "smtpIn/tlsCount{status=tls}",
	    "smtpIn/securityLevelChecks{result=skip}",
	    "smtpIn/securityLevelChecks{result=pass}",
	    "smtpIn/securityLevelChecks{result=fail}",
	    "smtpIn/hookResults{result=post-data:skip}",
	    "smtpIn/hookResults{result=post-data:fail}",
	    "smtpIn/hookResults{result=post-data:badoutput}",
	    "smtpIn/hookResults{result=post-data:success}",
	    "smtpIn/wrongProtoCount{command=GET}",
	    "smtpIn/wrongProtoCount{command=POST}",
	    "smtpIn/wrongProtoCount{command=CONNECT}",
	    "queue/putCount",
	    "queue/itemsWritten",
	    "queue/dsnQueued",
	    "queue/deliverAttempts{recipient_type=pipe}",
	    "queue/deliverAttempts{recipient_type=forward}",
	    "queue/deliverAttempts{recipient_type=email:local}",
	    "queue/deliverAttempts{recipient_type=email:remote}",
	    "smtpOut/tlsCount{result=plain}",
	    "smtpOut/tlsCount{result=tls:secure}",
	    "smtpOut/tlsCount{result=tls:insecure}",
	    "smtpOut/tlsCount{result=tls:failed}",
	    "smtpOut/securityLevelChecks{result=pass}",
	    "smtpOut/securityLevelChecks{result=fail}",
	    "smtpOut/sts/mode{mode=enforce}",
	    "smtpOut/sts/mode{mode=testing}",
	    "smtpOut/sts/mode{mode=none}",
	    "smtpOut/sts/security{result=pass}",
	    "smtpOut/sts/security{result=fail}",
	    "sts/cache/fetches",
	    "sts/cache/hits",
	    "sts/cache/expired",
	    "sts/cache/ioErrors",
	    "sts/cache/failedFetch",
	    "sts/cache/invalid",
	    "sts/cache/marshalErrors",
	    "sts/cache/unmarshalErrors",
	    "sts/cache/refreshCycles",
	    "sts/cache/refreshes",
	    "sts/cache/refreshErrors",
	    "aliases/hookResults{result=resolve:skip}",
	    "aliases/hookResults{result=resolve:fail}",
	    "aliases/hookResults{result=resolve:parse_err}",
	    "aliases/hookResults{result=resolve:success}",
	};
	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		is_there(names[i]);
}

/* Every fixed reply is counted under its own code. */
static void test_codes(void **state)
{
	char name[STAT_NAME_MAX];
	struct status st;
	(void)state;
	for (int reply = SMTPD_OK; reply <= SMTPD_HEADER_NOT_UTF8; reply++) {
		smtpd_status((enum smtpd_reply)reply, &st);
		snprintf(name, sizeof name, "smtpIn/responseCodeCount{code=%d}", st.code);
		is_there(name);
	}
}

/* ---- the process ---- */

static int64_t process_value(const char *name)
{
	struct stat_extra e[STAT_PROCESS_MAX];
	size_t n = stat_process(e);
	assert_true(n <= STAT_PROCESS_MAX);
	for (size_t i = 0; i < n; i++)
		if (strcmp(e[i].name, name) == 0)
			return e[i].value;
	return -1;
}

static void test_process(void **state)
{
	struct rlimit limit;
	(void)state;
	int64_t began = process_value("process/start_time_seconds");
	int64_t now = (int64_t)time(NULL);
	assert_true(began > now - 60 && began <= now + 1);
	assert_in_range(process_value("process/uptime_seconds"), 0, 60);
	getrlimit(RLIMIT_NOFILE, &limit);
	assert_int_equal(process_value("process/max_fds"), limit.rlim_cur);
	if (access("/proc/self/statm", R_OK))
		return;
	int64_t fds = process_value("process/open_fds");
	int64_t open = 0;
	for (int fd = 0; fd < 1024; fd++)
		open += fcntl(fd, F_GETFD) != -1;
	/* valgrind has some of its own, which only /proc shows. */
	if (!under_valgrind())
		assert_int_equal(fds, open);
	int one = dup(0);
	assert_int_equal(process_value("process/open_fds"), fds + 1);
	close(one);
	assert_int_equal(process_value("process/open_fds"), fds);
	int64_t memory = process_value("process/resident_memory_bytes");
	assert_true(memory > 100000 && memory < process_value("process/virtual_memory_bytes"));
}

static int setup(void **state)
{
	(void)state;
	stat_add(&plain, 5);
	stat_add(&level, -3);
	stat_add(&theirs, 8);
	stat_add_at(&theirs_by, 0, 2);
	stat_add_at(&verdicts, 1, 6);
	stat_observe(&sizes, 1);
	stat_observe(&sizes, 251);
	stat_observe(&sizes, 251);
	stat_observe(&sizes, INT64_C(40000000000));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_openmetrics), cmocka_unit_test(test_prometheus),
	    cmocka_unit_test(test_json),        cmocka_unit_test(test_bounded),
	    cmocka_unit_test(test_registry),    cmocka_unit_test(test_names_of_chasquid),
	    cmocka_unit_test(test_codes),       cmocka_unit_test(test_process),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
