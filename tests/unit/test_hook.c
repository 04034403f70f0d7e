/* hook: real programs in a directory of hooks: every kind of end, the environment, the line. */
#include "config.h"

#if WITH_HOOKS

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "hook.h"
#include "log.h"
#include "loop.h"
#include "self.h"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];
static int log_fd = -1;

struct run {
	struct hook hook;
	int dones;
};

static int make_dir(void **state)
{
	(void)state;
	if (temp_dir_make(dir, sizeof dir) || chdir(dir) < 0 || mkdir("hooks", 0700) < 0)
		return -1;
	log_fd = open("log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	log_to(log_fd);
	return log_fd < 0;
}

static int remove_dir(void **state)
{
	(void)state;
	close(log_fd);
	return temp_dir_remove();
}

static int set_up(void **state)
{
	(void)state;
	return loop_init();
}

/* No child is left, not even a zombie. */
static int tear_down(void **state)
{
	(void)state;
	int64_t end = now_ms() + 5000;
	siginfo_t si;
	int rc;
	while ((rc = waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT)) == 0 && now_ms() < end)
		loop_turn(10);
	loop_done();
	unlink("hooks/alias-resolve");
	unlink("hooks/rcpt");
	unlink("hooks/post-data");
	return rc == 0;
}

/* Logged since the last call. */
static const char *logged(void)
{
	static char log[65536];
	static off_t at;
	ssize_t n = pread(log_fd, log, sizeof log - 1, at);
	log[n < 0 ? 0 : n] = '\0';
	at += n < 0 ? 0 : n;
	return log;
}

static void write_file(const char *path, const char *text, mode_t mode)
{
	unlink(path);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(close(fd), 0);
}

static void script(const char *path, const char *body)
{
	char text[2000];
	snprintf(text, sizeof text, "#!/bin/sh\n%s\n", body);
	write_file(path, text, 0700);
}

static void on_done(void *arg, struct hook *h)
{
	struct run *r = arg;
	assert_ptr_equal(h, &r->hook);
	r->dones++;
}

static void turn_until(const int *count, int want, int64_t ms)
{
	int64_t end = now_ms() + ms;
	while (*count < want && now_ms() < end)
		assert_int_equal(loop_turn(20), 0);
	assert_int_equal(*count, want);
}

static void run(struct run *r, enum hook_name name, const char *arg1, const struct hook_session *s,
                int in_fd)
{
	r->dones = 0;
	hook_start(&r->hook, name, "ID1", arg1, s, in_fd, on_done, r);
	assert_int_equal(r->dones, 0);
	turn_until(&r->dones, 1, 20000);
}

static void expect_output(const struct run *r, const char *want)
{
	char got[HOOK_OUTPUT_MAX + 1];
	assert_int_equal(r->hook.result, HOOK_DONE);
	memcpy(got, r->hook.output.p, r->hook.output.n);
	got[r->hook.output.n] = '\0';
	assert_string_equal(got, want);
}

/* Runs hooks/rcpt with this body and looks at how it ends. */
static void expect(const char *body, enum hook_result result, const char *text)
{
	struct run r = {.dones = 0};
	script("hooks/rcpt", body);
	run(&r, HOOK_RCPT, NULL, NULL, -1);
	assert_int_equal(r.hook.result, result);
	if (!strstr(r.hook.text, text))
		fail_msg("\"%s\" lacks \"%s\"", r.hook.text, text);
	if (result != HOOK_DONE)
		assert_true(*r.hook.text);
	hook_cancel(&r.hook);
}

static void test_exists(void **state)
{
	(void)state;
	assert_false(hook_exists(HOOK_RCPT));
	script("hooks/rcpt", "exit 0");
	assert_true(hook_exists(HOOK_RCPT));
	assert_false(hook_exists(HOOK_POST_DATA));
	assert_false(hook_exists(HOOK_ALIAS_RESOLVE));
	chmod("hooks/rcpt", 0);
	assert_true(hook_exists(HOOK_RCPT));
	unlink("hooks/rcpt");
	assert_int_equal(symlink("nowhere", "hooks/rcpt"), 0);
	assert_false(hook_exists(HOOK_RCPT));
	unlink("hooks/rcpt");
	/* Going round in links is no answer: it may have been there. */
	assert_int_equal(symlink("rcpt", "hooks/rcpt"), 0);
	assert_true(hook_exists(HOOK_RCPT));
	unlink("hooks/rcpt");
	assert_int_equal(rename("hooks", "away"), 0);
	assert_false(hook_exists(HOOK_RCPT));
	write_file("hooks", "", 0600);
	assert_false(hook_exists(HOOK_RCPT));
	unlink("hooks");
	assert_int_equal(rename("away", "hooks"), 0);
}

/* While mail pours in, what is not there is not asked for each time. */
static void test_looks(void **state)
{
	(void)state;
	int64_t began = loop_now();
	for (int i = 0; i < HOOK_LOOKS; i++)
		assert_false(hook_exists(HOOK_ALIAS_RESOLVE));
	script("hooks/alias-resolve", "exit 0");
	assert_false(hook_exists(HOOK_ALIAS_RESOLVE));
	while (!hook_exists(HOOK_ALIAS_RESOLVE)) {
		assert_true(loop_now() - began < HOOK_LOOK_MS);
		assert_int_equal(loop_turn(10), 0);
	}
	/* What is there is looked at each time. */
	for (int i = 0; i < 2 * HOOK_LOOKS; i++)
		assert_true(hook_exists(HOOK_ALIAS_RESOLVE));
	unlink("hooks/alias-resolve");
	assert_false(hook_exists(HOOK_ALIAS_RESOLVE));
}

static void test_exit_codes(void **state)
{
	(void)state;
	expect("exit 0", HOOK_DONE, "");
	expect("echo one; echo 'go away'; exit 20", HOOK_REJECT, "go away");
	expect("echo one; printf 'torn'; exit 20", HOOK_REJECT, "one");
	expect("printf 'torn'; exit 20", HOOK_REJECT, "refused by local policy");
	expect("exit 20", HOOK_REJECT, "refused by local policy");
	expect("exit 1", HOOK_FAILED, "the hook rcpt failed: exit status 1");
	expect("echo later; exit 75", HOOK_FAILED, "later");
	expect("exit 19", HOOK_FAILED, "exit status 19");
	expect("exit 21", HOOK_FAILED, "exit status 21");
	expect("kill -KILL $$", HOOK_FAILED, "killed by signal 9");
	expect("echo said; kill -TERM $$", HOOK_FAILED, "said");
	expect("printf 'a\\r\\033[2J\\377b\\001\\n'; exit 20", HOOK_REJECT, "a ?[2J?b?");
	expect("echo; exit 1", HOOK_FAILED, "exit status 1");
}

static void test_only_stdout_is_output(void **state)
{
	(void)state;
	struct run r = {.dones = 0};
	script("hooks/post-data", "echo out; echo 'a complaint' >&2; echo more >&2; echo out2");
	logged();
	run(&r, HOOK_POST_DATA, NULL, NULL, -1);
	expect_output(&r, "out\nout2\n");
	const char *log = logged();
	assert_non_null(strstr(log, "ID1 hook stderr hook=post-data text=\"a complaint"));
	/* Floods of stderr are cut, not punished. */
	script("hooks/post-data", "head -c 100000 /dev/zero >&2; echo out");
	run(&r, HOOK_POST_DATA, NULL, NULL, -1);
	expect_output(&r, "out\n");
	hook_cancel(&r.hook);
}

static void test_cannot_run(void **state)
{
	(void)state;
	struct run r = {.dones = 0};
	write_file("hooks/rcpt", "#!/bin/sh\nexit 0\n", 0600);
	run(&r, HOOK_RCPT, NULL, NULL, -1);
	assert_int_equal(r.hook.result, HOOK_FAILED);
	assert_non_null(strstr(r.hook.text, "the hook rcpt failed: "));
	write_file("hooks/rcpt", "#!/nonexistent/shell\n", 0700);
	run(&r, HOOK_RCPT, NULL, NULL, -1);
	assert_int_equal(r.hook.result, HOOK_FAILED);
	write_file("hooks/rcpt", "no program\n", 0700);
	run(&r, HOOK_RCPT, NULL, NULL, -1);
	assert_int_equal(r.hook.result, HOOK_FAILED);
	unlink("hooks/rcpt");
	assert_int_equal(mkdir("hooks/rcpt", 0700), 0);
	assert_true(hook_exists(HOOK_RCPT));
	run(&r, HOOK_RCPT, NULL, NULL, -1);
	assert_int_equal(r.hook.result, HOOK_FAILED);
	rmdir("hooks/rcpt");
	/* Taken away since it was looked up. */
	run(&r, HOOK_RCPT, NULL, NULL, -1);
	assert_int_equal(r.hook.result, HOOK_FAILED);
	assert_true(*r.hook.text);
	hook_cancel(&r.hook);
}

static bool is_dead(const char *pid_file)
{
	char text[32] = "", path[64], line[256] = "";
	FILE *f = fopen(pid_file, "re");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof text, f));
	fclose(f);
	snprintf(path, sizeof path, "/proc/%d/stat", atoi(text));
	f = fopen(path, "re");
	if (!f)
		return true;
	char *got = fgets(line, sizeof line, f);
	fclose(f);
	return !got || strstr(line, ") Z");
}

static void expect_dead(const char *pid_file)
{
	int64_t end = now_ms() + 3000;
	while (!is_dead(pid_file) && now_ms() < end)
		loop_turn(10);
	assert_true(is_dead(pid_file));
	unlink(pid_file);
}

static void test_hang(void **state)
{
	(void)state;
	struct run r = {.dones = 0};
	int64_t begin = now_ms();
	script("hooks/alias-resolve", "sleep 100 & echo $! > pid; echo 'x@y.test'; wait");
	run(&r, HOOK_ALIAS_RESOLVE, "a@b.test", NULL, -1);
	assert_int_equal(r.hook.result, HOOK_FAILED);
	assert_string_equal(r.hook.text, "the hook alias-resolve failed: time limit exceeded");
	assert_true(now_ms() - begin >= HOOK_SHORT_MS - 50);
	assert_true(now_ms() - begin < HOOK_SHORT_MS + PROC_TERM_MS + 2000);
	expect_dead("pid");
	hook_cancel(&r.hook);
}

static void test_flood(void **state)
{
	(void)state;
	struct run r = {.dones = 0};
	int64_t begin = now_ms();
	script("hooks/post-data", "sleep 100 & echo $! > pid; while :; do echo X-Flood: yes; done");
	run(&r, HOOK_POST_DATA, NULL, NULL, -1);
	assert_int_equal(r.hook.result, HOOK_FAILED);
	assert_string_equal(r.hook.text, "the hook post-data failed: too much output");
	assert_true(now_ms() - begin < 10000);
	expect_dead("pid");
	char body[100];
	snprintf(body, sizeof body, "head -c %d /dev/zero", HOOK_OUTPUT_MAX);
	script("hooks/post-data", body);
	run(&r, HOOK_POST_DATA, NULL, NULL, -1);
	assert_int_equal(r.hook.result, HOOK_DONE);
	assert_int_equal(r.hook.output.n, HOOK_OUTPUT_MAX);
	hook_cancel(&r.hook);
}

static void test_input(void **state)
{
	(void)state;
	struct run r = {.dones = 0};
	int fd = memfd_create("message", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "Subject: x\n\nbody\n", 17), 17);
	script("hooks/post-data", "cat; readlink /proc/self/fd/0 >&2");
	run(&r, HOOK_POST_DATA, NULL, NULL, fd);
	expect_output(&r, "Subject: x\n\nbody\n");
	run(&r, HOOK_POST_DATA, NULL, NULL, fd); /* from its beginning again */
	expect_output(&r, "Subject: x\n\nbody\n");
	close(fd);
	script("hooks/post-data", "readlink /proc/self/fd/0; pwd; echo $#");
	run(&r, HOOK_POST_DATA, NULL, NULL, -1);
	char want[100];
	snprintf(want, sizeof want, "/dev/null\n%s\n0\n", dir);
	expect_output(&r, want);
	script("hooks/rcpt", "echo \"$# <$1>\"");
	run(&r, HOOK_RCPT, "\"a b $(id) \\\"\"@x.test", NULL, -1);
	expect_output(&r, "1 <\"a b $(id) \\\"\"@x.test>\n");
	run(&r, HOOK_RCPT, "", NULL, -1);
	expect_output(&r, "1 <>\n");
	hook_cancel(&r.hook);
}

#define SHOW "/usr/bin/env | grep -v -e ^SHLVL= -e ^_= -e ^OLDPWD= | sort"

static void test_environment(void **state)
{
	(void)state;
	struct run r = {.dones = 0};
	static const char *const to[] = {"b@x.test", "\"c d\"@y.test", "e\nf@z.test"};
	struct dns_addr peer;
	struct hook_session s = {.peer = &peer,
	                         .port = 1025,
	                         .helo = "Ev$il`.\n(x) [1:2]-\303\261_\"",
	                         .from = "a@x.test",
	                         .to = to,
	                         .to_count = 3,
	                         .login = "u@x.test",
	                         .tls = true,
	                         .from_local = false,
	                         .spf_pass = true};
	assert_int_equal(dns_addr_parse(&peer, slice_of("192.0.2.7")), 0);
	setenv("USER", "mail", 1);
	setenv("SHELL", "/bin/sh", 1);
	setenv("PATH", "/usr/bin:/bin", 1);
	setenv("PWD", dir, 1);
	setenv("OTHER", "inherited", 1);
	script("hooks/post-data", SHOW);
	script("hooks/alias-resolve", SHOW);
	run(&r, HOOK_POST_DATA, NULL, &s, -1);
	char want[2000], head[300];
	snprintf(want, sizeof want,
	         "AUTH_AS=u@x.test\nEHLO_DOMAIN=Evil.x[1:2]-\n"
	         "EHLO_DOMAIN_RAW=Ev$il`.?(x) [1:2]-\303\261_\"\nFROM_LOCAL_DOMAIN=0\n"
	         "MAIL_FROM=a@x.test\nON_TLS=1\nPATH=/usr/bin:/bin\nPWD=%s\n"
	         "RCPT_TO=b@x.test \"c d\"@y.test e?f@z.test\nREMOTE_ADDR=192.0.2.7:1025\n"
	         "SHELL=/bin/sh\nSPF_PASS=1\nUSER=mail\n",
	         dir);
	expect_output(&r, want);

	/* Nothing known: empty, but there. */
	s = (struct hook_session){.from = "<>", .from_local = true};
	unsetenv("USER");
	unsetenv("PATH");
	run(&r, HOOK_POST_DATA, NULL, &s, -1);
	snprintf(head, sizeof head, "PATH=%s\nPWD=%s\n", PROC_PATH, dir);
	snprintf(want, sizeof want,
	         "AUTH_AS=\nEHLO_DOMAIN=\nEHLO_DOMAIN_RAW=\nFROM_LOCAL_DOMAIN=1\nMAIL_FROM=<>\n"
	         "ON_TLS=0\n%sRCPT_TO=\nREMOTE_ADDR=\nSHELL=/bin/sh\nSPF_PASS=0\nUSER=\n",
	         head);
	expect_output(&r, want);
	assert_int_equal(dns_addr_parse(&peer, slice_of("2001:db8::1")), 0);
	s.peer = &peer;
	s.port = 25;
	script("hooks/rcpt", "echo $REMOTE_ADDR");
	run(&r, HOOK_RCPT, NULL, &s, -1);
	expect_output(&r, "[2001:db8::1]:25\n");

	/* No session; nor what the daemon itself was started with. */
	run(&r, HOOK_POST_DATA, NULL, NULL, -1);
	snprintf(want, sizeof want, "%sSHELL=/bin/sh\nUSER=\n", head);
	expect_output(&r, want);
	setenv("PATH", "/usr/bin:/bin", 1);
	run(&r, HOOK_ALIAS_RESOLVE, "a@x.test", NULL, -1);
	assert_int_equal(r.hook.result, HOOK_DONE);
	assert_null(memmem(r.hook.output.p, r.hook.output.n, "OTHER=", 6));
	assert_null(memmem(r.hook.output.p, r.hook.output.n, "REMOTE_ADDR", 11));
	hook_cancel(&r.hook);
}

/* What would not fit is cut, recipients between two. */
static void test_long_values(void **state)
{
	(void)state;
	struct run r = {.dones = 0};
	static char address[301], helo[200001];
	const char *to[1000];
	memset(address, 'a', 300);
	memset(helo, 'h', 200000);
	for (int i = 0; i < 1000; i++)
		to[i] = address;
	struct hook_session s = {
	    .helo = helo, .from = helo, .to = to, .to_count = 1000, .login = helo};
	script("hooks/rcpt", "echo ${#EHLO_DOMAIN} ${#EHLO_DOMAIN_RAW} ${#MAIL_FROM} ${#AUTH_AS} "
	                     "${#RCPT_TO}");
	run(&r, HOOK_RCPT, NULL, &s, -1);
	char want[200];
	int max = HOOK_VALUE_MAX;
	int rcpts = (max - 8 + 1) / 301;
	snprintf(want, sizeof want, "%d %d %d %d %d\n", max - 12, max - 16, max - 10, max - 8,
	         rcpts * 301 - 1);
	expect_output(&r, want);
	hook_cancel(&r.hook);
}

/* Each notes when it begins and ends; never more than HOOK_PARALLEL are between the two. */
static void test_side_by_side(void **state)
{
	(void)state;
	enum { N = HOOK_PARALLEL + HOOK_WAITING };
	static struct run r[N + 1];
	int done = 0, refused = 0;
	memset(r, 0, sizeof r);
	char body[200];
	/* The first ones wait for each other. */
	snprintf(body, sizeof body,
	         "echo + >> trace; while [ $(grep -c + trace) -lt %d ]; do sleep 0.05; done; "
	         "echo - >> trace; echo $1",
	         HOOK_PARALLEL);
	script("hooks/rcpt", body);
	for (int i = 0; i <= N; i++) {
		char arg[20];
		snprintf(arg, sizeof arg, "%d", i);
		hook_start(&r[i].hook, HOOK_RCPT, "ID2", arg, NULL, -1, on_done, &r[i]);
	}
	int64_t end = now_ms() + 60000;
	while (done <= N && now_ms() < end) {
		loop_turn(20);
		done = 0;
		for (int i = 0; i <= N; i++)
			done += r[i].dones;
	}
	for (int i = 0; i <= N; i++) {
		char want[20];
		assert_int_equal(r[i].dones, 1);
		snprintf(want, sizeof want, "%d\n", i);
		if (r[i].hook.result == HOOK_FAILED)
			refused++;
		else
			expect_output(&r[i], want);
		if (i == N)
			assert_non_null(strstr(r[i].hook.text, "too many wait"));
		hook_cancel(&r[i].hook);
	}
	assert_int_equal(refused, 1);
	FILE *f = fopen("trace", "re");
	int c, now = 0, most = 0;
	assert_non_null(f);
	while ((c = fgetc(f)) != EOF) {
		now += (c == '+') - (c == '-');
		most = now > most ? now : most;
	}
	fclose(f);
	unlink("trace");
	assert_int_equal(now, 0);
	assert_int_equal(most, HOOK_PARALLEL);
}

/* One client with many connections and a slow hook: the others do not wait behind all of it. */
static void test_one_peer_does_not_take_all(void **state)
{
	(void)state;
	enum { N = HOOK_PARALLEL + HOOK_WAITING / 2 };
	static struct run r[N + 1];
	struct run other = {.dones = 0};
	struct dns_addr greedy, honest;
	struct hook_session s = {.peer = &greedy};
	int done = 0;
	memset(r, 0, sizeof r);
	assert_int_equal(dns_addr_parse(&greedy, slice_of("192.0.2.1")), 0);
	assert_int_equal(dns_addr_parse(&honest, slice_of("2001:db8::1")), 0);
	script("hooks/rcpt", "case $REMOTE_ADDR in 192.*) sleep 1;; esac; echo ok");
	for (int i = 0; i <= N; i++)
		hook_start(&r[i].hook, HOOK_RCPT, "ID4", NULL, &s, -1, on_done, &r[i]);
	s.peer = &honest;
	hook_start(&other.hook, HOOK_RCPT, "ID5", NULL, &s, -1, on_done, &other);
	turn_until(&other.dones, 1, 20000);
	expect_output(&other, "ok\n");
	assert_int_equal(r[N].dones, 1);
	assert_non_null(strstr(r[N].hook.text, "too many wait"));
	for (int i = 0; i < N; i++)
		done += r[i].dones;
	assert_true(done <= HOOK_PARALLEL);
	for (int i = 0; i <= N; i++)
		hook_cancel(&r[i].hook);
	hook_cancel(&other.hook);
}

/* Cancelled while running, while waiting, after a refusal, twice, never started. */
static void test_cancel(void **state)
{
	(void)state;
	enum { N = HOOK_PARALLEL + HOOK_WAITING };
	static struct run r[N + 1];
	struct run last = {.dones = 0};
	memset(r, 0, sizeof r);
	hook_cancel(&r[0].hook);
	script("hooks/rcpt", "sleep 100");
	for (int i = 0; i <= N; i++)
		hook_start(&r[i].hook, HOOK_RCPT, "ID3", NULL, NULL, -1, on_done, &r[i]);
	loop_turn(20);
	assert_int_equal(r[N].dones, 1);
	for (int i = N; i >= 0; i -= 2)
		hook_cancel(&r[i].hook);
	/* Places became free: they are run. */
	for (int i = 0; i < 5; i++)
		loop_turn(20);
	for (int i = 0; i <= N; i++) {
		hook_cancel(&r[i].hook);
		hook_cancel(&r[i].hook);
		assert_int_equal(r[i].dones, i == N);
	}
	script("hooks/rcpt", "echo free");
	run(&last, HOOK_RCPT, NULL, NULL, -1);
	expect_output(&last, "free\n");
	hook_cancel(&last.hook);
}

static void on_done_again(void *arg, struct hook *h)
{
	struct run *r = arg;
	if (++r->dones < 3)
		hook_start(h, HOOK_RCPT, "ID4", NULL, NULL, -1, on_done_again, r);
	else
		hook_cancel(h);
}

static int freed;

static void on_done_free(void *arg, struct hook *h)
{
	hook_cancel(h);
	free(arg);
	freed++;
}

static void test_done_may_do_all(void **state)
{
	(void)state;
	struct run r = {.dones = 0};
	struct run *heap = calloc(1, sizeof *heap);
	script("hooks/rcpt", "echo x");
	hook_start(&r.hook, HOOK_RCPT, "ID4", NULL, NULL, -1, on_done_again, &r);
	turn_until(&r.dones, 3, 10000);
	assert_non_null(heap);
	hook_start(&heap->hook, HOOK_RCPT, "ID4", NULL, NULL, -1, on_done_free, heap);
	turn_until(&freed, 1, 10000);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_exists),          CASE(test_looks),
	    CASE(test_exit_codes),      CASE(test_only_stdout_is_output),
	    CASE(test_cannot_run),      CASE(test_hang),
	    CASE(test_flood),           CASE(test_input),
	    CASE(test_environment),     CASE(test_long_values),
	    CASE(test_side_by_side),    CASE(test_cancel),
	    CASE(test_done_may_do_all), CASE(test_one_peer_does_not_take_all),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

#else

int main(void)
{
	return 0;
}

#endif
