/*
 * test_monitor_auth: passwords, names and tokens, asked by requests of our own making.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base64.h"
#include "loop.h"
#include "monitor_auth.h"
#include "temp_dir.h"

/* ---- what stands around it ---- */

static int code; /* of the last answer; 0 none */
static char fields[200];

void httpd_answer_text(struct httpd_conn *c, int the_code, const char *extra, const char *text)
{
	(void)c;
	assert_non_null(text);
	code = the_code;
	snprintf(fields, sizeof(fields), "%s", extra ? extra : "");
}

static char dir[TEMP_DIR_MAX];
static char path[64], hostname[] = "mx.example", err[200];
static struct conf conf;

static void write_file(const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static int open_with(const char *text, mode_t mode)
{
	*err = '\0';
	write_file(text, mode);
	conf = (struct conf){.hostname = hostname, .monitoring_password_file = path};
	return monitor_auth_open(&conf, err, sizeof(err));
}

static struct httpd_request request(const char *host)
{
	struct httpd_request r = {.path = "/",
	                          .host = host,
	                          .port = "1100",
	                          .authorization = "",
	                          .origin = "",
	                          .fetch_site = "",
	                          .accept = ""};
	r.peer = (struct dns_addr){.family = AF_INET, .ip.v4.s_addr = htonl(INADDR_LOOPBACK)};
	return r;
}

/* "Basic ..." */
static const char *login(const char *what)
{
	static char text[1000];
	struct buf b;
	buf_init(&b, sizeof(text));
	assert_int_equal(base64_encode(slice_of(what), &b), 0);
	snprintf(text, sizeof(text), "Basic %s", buf_str(&b));
	buf_clear(&b);
	return text;
}

/* 0 when the request may be answered, or what it was answered with. */
static int admit(const struct httpd_request *r)
{
	code = 0;
	bool in = monitor_auth_admit(NULL, r);
	assert_int_equal(in, code == 0);
	return code;
}

static int enter(const char *authorization)
{
	struct httpd_request r = request("localhost");
	r.authorization = authorization;
	return admit(&r);
}

static int set_up(void **state)
{
	(void)state;
	assert_int_equal(loop_init(), 0);
	snprintf(path, sizeof(path), "%s/password", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	monitor_auth_close();
	unlink(path);
	loop_done();
	return 0;
}

/* ---- tests ---- */

static void names(void **state)
{
	static const char *const good[] = {"localhost", "LocalHost",   "mx.example", "MX.EXAMPLE",
	                                   "127.0.0.1", "192.168.1.1", "::1",        "fd00::1"};
	static const char *const bad[] = {"",
	                                  "evil.test",
	                                  "localhost.evil.test",
	                                  "mx.example.",
	                                  "x.mx.example",
	                                  "127.0.0.1.evil.test",
	                                  "127.1",
	                                  "1",
	                                  "localhos"};
	(void)state;
	conf = (struct conf){.hostname = hostname};
	assert_int_equal(monitor_auth_open(&conf, err, sizeof(err)), 0);
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		struct httpd_request r = request(good[i]);
		assert_int_equal(admit(&r), 0);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct httpd_request r = request(bad[i]);
		if (admit(&r) != 421)
			fail_msg("%s: %d", bad[i], code);
	}
	/* Before the password: who came by a wrong name learns nothing. */
	assert_int_equal(open_with("u:p\n", 0600), 0);
	struct httpd_request r = request("evil.test");
	assert_int_equal(admit(&r), 421);
}

static void passwords(void **state)
{
	(void)state;
	assert_int_equal(open_with("operator:pass:w\xc3\xb6rd \n# more\n", 0640), 0);
	assert_int_equal(enter(""), 401);
	assert_string_equal(fields,
	                    "WWW-Authenticate: Basic realm=\"chasq\", charset=\"UTF-8\"\r\n");
	assert_int_equal(enter(login("operator:pass:w\xc3\xb6rd ")), 0);
	static const char *const wrong[] = {"operator:pass:w\xc3\xb6rd",
	                                    "operator:pass",
	                                    "operator:",
	                                    "operator",
	                                    ":",
	                                    "",
	                                    "x:pass:w\xc3\xb6rd ",
	                                    "operator:pass:w\xc3\xb6rd x",
	                                    "operator:pass:w\xc3\xb6rD "};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		assert_int_equal(enter(login(wrong[i])), 401);
	char text[200], longer[MONITOR_LOGIN_MAX + 2];
	snprintf(text, sizeof(text), "bAsIc   %s", login("operator:pass:w\xc3\xb6rd ") + 6);
	assert_int_equal(enter(text), 0);
	snprintf(text, sizeof(text), "Bearer %s", login("operator:pass:w\xc3\xb6rd ") + 6);
	assert_int_equal(enter(text), 401);
	assert_int_equal(enter("Basic"), 401);
	assert_int_equal(enter("Basic ***"), 401);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(enter(login(longer)), 401);
}

static void a_nul_hides_nothing(void **state)
{
	(void)state;
	assert_int_equal(open_with("u:p\n", 0600), 0);
	assert_int_equal(enter("Basic dTpwAHg="), 401); /* "u:p", NUL, "x" */
	assert_int_equal(enter("Basic dTpwAA=="), 401);
	assert_int_equal(enter("Basic dTpw"), 0);
}

static void files(void **state)
{
	char text[MONITOR_LOGIN_MAX + 10];
	(void)state;
	assert_int_equal(open_with("old:one\n", 0600), 0);
	static const char *const bad[] = {"", "\n", "user\n", ":p\n", "user:\n", "\nuser:p\n"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		if (open_with(bad[i], 0600) == 0 || strncmp(err, path, strlen(path)) != 0)
			fail_msg("\"%s\": %s", bad[i], err);
		assert_int_equal(enter(login("old:one")), 0); /* it stays */
	}
	assert_int_equal(open_with("user:p\n", 0604), -1);
	assert_non_null(strstr(err, "open to all"));
	assert_int_equal(open_with("user:p\n", 0602), -1);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	text[1] = ':';
	assert_int_equal(open_with(text, 0600), -1);
	unlink(path);
	assert_int_equal(monitor_auth_open(&conf, err, sizeof(err)), -1);
	assert_int_equal(enter(login("old:one")), 0);
	assert_int_equal(open_with("new:two", 0600), 0);
	assert_int_equal(enter(login("old:one")), 401);
	assert_int_equal(enter(login("new:two")), 0);
	/* A shorter one leaves nothing of the longer. */
	assert_int_equal(open_with("n:t", 0600), 0);
	assert_int_equal(enter(login("n:t")), 0);
	conf.monitoring_password_file = NULL;
	assert_int_equal(monitor_auth_open(&conf, err, sizeof(err)), 0);
	assert_int_equal(enter(""), 0);
}

static void guessing(void **state)
{
	(void)state;
	assert_int_equal(open_with("u:p\n", 0600), 0);
	loop_refresh();
	for (int i = 0; i < MONITOR_FAILURES_HOUR; i++) {
		assert_int_equal(enter(""), 401); /* no guess */
		assert_int_equal(enter(login("u:p")), 0);
		assert_int_equal(enter(login("u:x")), 401);
	}
	assert_int_equal(enter(login("u:x")), 429);
	assert_int_equal(enter(login("u:p")), 429); /* or it would tell */
	assert_int_equal(enter(""), 401);
	struct httpd_request r = request("localhost");
	r.peer.ip.v4.s_addr = htonl(INADDR_LOOPBACK + 1);
	r.authorization = login("u:p");
	assert_int_equal(admit(&r), 0);
}

static int act(const char *origin, const char *site, const char *form)
{
	struct httpd_request r = request("localhost");
	r.method = HTTPD_POST;
	r.origin = origin;
	r.fetch_site = site;
	r.form = slice_of(form);
	code = 0;
	bool in = monitor_auth_admit_action(NULL, &r);
	assert_int_equal(in, code == 0);
	return code;
}

static void actions(void **state)
{
	char form[100], wrong[110];
	(void)state;
	conf = (struct conf){.hostname = hostname};
	assert_int_equal(monitor_auth_open(&conf, err, sizeof(err)), 0);
	assert_int_equal(strlen(monitor_auth_token()), 32);
	assert_int_equal(strspn(monitor_auth_token(), "0123456789abcdef"), 32);
	snprintf(form, sizeof(form), "do=flush&token=%s", monitor_auth_token());
	assert_false(monitor_auth_may_act());
	assert_int_equal(act("", "", form), 403); /* no password, no actions */
	assert_int_equal(open_with("u:p\n", 0600), 0);
	assert_true(monitor_auth_may_act());
	assert_int_equal(act("", "", form), 0);
	assert_int_equal(act("http://localhost:1100", "same-origin", form), 0);
	assert_int_equal(act("https://LOCALHOST:1100", "", form), 0);
	static const char *const origins[] = {"null",
	                                      "http://evil.test",
	                                      "http://localhost",
	                                      "http://localhost:1101",
	                                      "localhost:1100",
	                                      "http://localhost:1100.evil.test",
	                                      "http://",
	                                      "file://localhost:1100"};
	for (size_t i = 0; i < sizeof(origins) / sizeof(*origins); i++)
		if (act(origins[i], "", form) != 403)
			fail_msg("%s", origins[i]);
	static const char *const sites[] = {"cross-site", "same-site", "none", "x"};
	for (size_t i = 0; i < sizeof(sites) / sizeof(*sites); i++)
		assert_int_equal(act("", sites[i], form), 403);
	snprintf(wrong, sizeof(wrong), "%s", form);
	wrong[strlen(wrong) - 1] ^= 1;
	assert_int_equal(act("", "", wrong), 403);
	wrong[strlen(wrong) - 1] = '\0';
	assert_int_equal(act("", "", wrong), 403);
	snprintf(wrong, sizeof(wrong), "%s0", form);
	assert_int_equal(act("", "", wrong), 403);
	assert_int_equal(act("", "", "token="), 403);
	assert_int_equal(act("", "", ""), 403);
	/* Another process, another token. */
	monitor_auth_close();
	assert_int_equal(open_with("u:p\n", 0600), 0);
	assert_int_equal(act("", "", form), 403);
}

static void an_ipv6_origin(void **state)
{
	char form[100];
	(void)state;
	assert_int_equal(open_with("u:p\n", 0600), 0);
	struct httpd_request r = request("::1");
	snprintf(form, sizeof(form), "token=%s", monitor_auth_token());
	r.form = slice_of(form);
	r.origin = "http://[::1]:1100";
	assert_true(monitor_auth_admit_action(NULL, &r));
	r.port = "";
	assert_false(monitor_auth_admit_action(NULL, &r));
	r.origin = "http://[::1]";
	assert_true(monitor_auth_admit_action(NULL, &r));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(names),    TEST(passwords), TEST(a_nul_hides_nothing), TEST(files),
	    TEST(guessing), TEST(actions),   TEST(an_ipv6_origin),
	};
	if (temp_dir_make(dir, sizeof dir))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
