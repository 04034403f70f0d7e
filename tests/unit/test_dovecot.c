/* dovecot: against a server of the test's own, which says what each test wants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "dns_addr.h"
#include "dovecot.h"
#include "loop.h"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];

/* The server: accepts, says `greeting`, and `answer` to each line that begins with `when`. */
static struct {
	char path[108];
	struct loop_fd listener;
	struct loop_fd peer;
	struct loop_timer timer; /* for one byte at a time */
	const char *greeting, *when, *answer;
	bool slowly, close_after;
	char heard[16384];
	size_t heard_n;
	const char *left;
	int connections;
} S;

static void hang_up(void)
{
	if (S.peer.fd < 0)
		return;
	int fd = S.peer.fd;
	loop_timer_stop(&S.timer);
	loop_fd_unwatch(&S.peer);
	close(fd);
}

static void say_more(void *arg)
{
	(void)arg;
	if (*S.left && S.peer.fd >= 0 && send(S.peer.fd, S.left++, 1, MSG_NOSIGNAL) == 1)
		loop_timer_set(&S.timer, 0);
}

/* The client may have gone. */
static void say(const char *text)
{
	if (S.slowly) {
		S.left = text;
		say_more(NULL);
	} else {
		assert_true(send(S.peer.fd, text, strlen(text), MSG_NOSIGNAL) >= -1);
	}
}

static void server_read(void *arg, unsigned events)
{
	(void)arg;
	(void)events;
	size_t before = S.heard_n;
	/* A bound that the compiler sees. */
	ssize_t n = before < sizeof(S.heard) - 1
	                ? read(S.peer.fd, S.heard + before, sizeof(S.heard) - 1 - before)
	                : -1;
	if (n <= 0) {
		hang_up();
		return;
	}
	S.heard_n += (size_t)n;
	S.heard[S.heard_n] = '\0';
	if (!strstr(S.heard + before, S.when))
		return;
	say(S.answer);
	if (S.close_after)
		hang_up();
}

static void server_accept(void *arg, unsigned events)
{
	(void)arg;
	(void)events;
	hang_up();
	int fd = accept(S.listener.fd, NULL, NULL);
	assert_true(fd >= 0);
	assert_int_equal(loop_fd_watch(&S.peer, fd, LOOP_READ), 0);
	S.connections++;
	S.heard_n = 0;
	S.heard[0] = '\0';
	say(S.greeting);
}

static void server_start(const char *name, const char *greeting, const char *when,
                         const char *answer)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	memset(&S, 0, sizeof(S));
	snprintf(S.path, sizeof(S.path), "%s/%s", dir, name);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", S.path);
	S.greeting = greeting;
	S.when = when;
	S.answer = answer;
	loop_fd_init(&S.listener, server_accept, NULL);
	loop_fd_init(&S.peer, server_read, NULL);
	loop_timer_init(&S.timer, say_more, NULL);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(listen(fd, 10), 0);
	assert_int_equal(loop_fd_watch(&S.listener, fd, LOOP_READ), 0);
}

static void server_stop(void)
{
	int fd = S.listener.fd;
	hang_up();
	loop_fd_unwatch(&S.listener);
	close(fd);
	unlink(S.path);
}

/* ---- asking ---- */

static int told;

static void answered(void *arg, struct dovecot *d)
{
	(void)d;
	assert_ptr_equal(arg, &told);
	told++;
}

static void wait_told(struct dovecot *d)
{
	for (int i = 0; i < 20000 && !told; i++)
		loop_turn(10);
	assert_int_equal(told, 1);
	for (int i = 0; i < 3; i++)
		loop_turn(0);
	assert_int_equal(told, 1);
	assert_int_equal(d->io.watch.fd, -1);
}

static struct dovecot_paths here(void)
{
	return (struct dovecot_paths){NULL, NULL, dir};
}

static enum dovecot_result exists(struct dovecot *d, const char *user)
{
	struct dovecot_paths paths = here();
	told = 0;
	dovecot_exists(d, &paths, slice_of(user), answered, &told);
	assert_int_equal(told, 0);
	wait_told(d);
	return d->result;
}

static enum dovecot_result login(struct dovecot *d, const char *user, const char *password)
{
	struct dovecot_paths paths = here();
	struct dns_addr peer;
	assert_int_equal(dns_addr_parse(&peer, slice_of("192.0.2.7")), 0);
	told = 0;
	dovecot_authenticate(d, &paths, slice_of(user), slice_of(password), &peer, answered, &told);
	assert_int_equal(told, 0);
	wait_told(d);
	return d->result;
}

#define USERDB_HELLO "VERSION\t1\t2\nSPID\t4711\n"
#define CLIENT_HELLO \
	"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t4711\nCUID\t1\nCOOKIE\t0123abcd\nDONE\n"

struct answer_case {
	const char *answer;
	enum dovecot_result result;
	const char *user;
};

static void test_exists(void **state)
{
	(void)state;
	static const struct answer_case cases[] = {
	    {"USER\t1\tana@x.org\tuid=5\thome=/a b\n", DOVECOT_YES, ""},
	    {"USER\t1\n", DOVECOT_YES, ""},
	    {"NOTFOUND\t1\n", DOVECOT_NO, ""},
	    {"NOTFOUND\t1\tuser=x\n", DOVECOT_NO, ""},
	    {"FAIL\t1\n", DOVECOT_TROUBLE, ""},
	    {"FAIL\t1\ttemp\n", DOVECOT_TROUBLE, ""},
	    {"USER\t11\tana\n", DOVECOT_TROUBLE, ""},
	    {"USER\t2\tana\n", DOVECOT_TROUBLE, ""},
	    {"USERS\t1\n", DOVECOT_TROUBLE, ""},
	    {"OK\t1\n", DOVECOT_TROUBLE, ""},
	    {"\n", DOVECOT_TROUBLE, ""},
	    {"\t1\n", DOVECOT_TROUBLE, ""},
	    {"\377\376\001garbage\n", DOVECOT_TROUBLE, ""},
	};
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(*cases); i++) {
		struct dovecot d = {0};
		server_start("auth-userdb", USERDB_HELLO, "USER\t", cases[i / 2].answer);
		S.slowly = i % 2 == 1;
		assert_int_equal(exists(&d, "ana@x.org"), cases[i / 2].result);
		assert_string_equal(S.heard, "VERSION\t1\t1\nUSER\t1\tana@x.org\tservice=smtp\n");
		assert_true((d.result == DOVECOT_TROUBLE) == (*d.why != '\0'));
		server_stop();
	}
}

static void test_authenticate(void **state)
{
	(void)state;
	static const struct answer_case cases[] = {
	    {"OK\t1\tuser=Ana@x.org\n", DOVECOT_YES, "Ana@x.org"},
	    {"OK\t1\n", DOVECOT_YES, ""},
	    {"OK\t1\tuser=\n", DOVECOT_YES, ""},
	    {"OK\t1\tuser=a b\n", DOVECOT_YES, ""},
	    {"OK\t1\tusers=a\tuser\n", DOVECOT_YES, ""},
	    {"FAIL\t1\tuser=ana\n", DOVECOT_NO, ""},
	    {"FAIL\t1\n", DOVECOT_NO, ""},
	    {"FAIL\t1\tuser=ana\tcode=user_disabled\n", DOVECOT_NO, ""},
	    {"FAIL\t1\tuser=temp\ttemperature\n", DOVECOT_NO, ""},
	    {"FAIL\t1\tuser=ana\ttemp\n", DOVECOT_TROUBLE, ""},
	    {"FAIL\t1\tcode=temp_fail\tuser=ana\n", DOVECOT_TROUBLE, ""},
	    {"FAIL\t2\n", DOVECOT_TROUBLE, ""},
	    {"OK\t2\n", DOVECOT_TROUBLE, ""},
	    {"OK\t1x\n", DOVECOT_TROUBLE, ""},
	    {"OK\n", DOVECOT_TROUBLE, ""},
	    {"CONT\t1\t\n", DOVECOT_TROUBLE, ""},
	    {"USER\t1\n", DOVECOT_TROUBLE, ""},
	    {"hello?\n", DOVECOT_TROUBLE, ""},
	};
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(*cases); i++) {
		struct dovecot d = {0};
		char hello[100];
		server_start("auth-client", CLIENT_HELLO, "AUTH\t", cases[i / 2].answer);
		S.slowly = i % 2 == 1;
		assert_int_equal(login(&d, "ana@x.org", "ge heim"), cases[i / 2].result);
		assert_string_equal(d.user, cases[i / 2].user);
		snprintf(hello, sizeof(hello), "VERSION\t1\t1\nCPID\t%ld\n", (long)getpid());
		assert_memory_equal(S.heard, hello, strlen(hello));
		assert_string_equal(
		    S.heard + strlen(hello),
		    "AUTH\t1\tPLAIN\tservice=smtp\tsecured\tnologin\trip=192.0.2.7\t"
		    "resp=YW5hQHgub3JnAGFuYUB4Lm9yZwBnZSBoZWlt\n");
		server_stop();
	}
}

static void test_without_peer(void **state)
{
	(void)state;
	struct dovecot d = {0};
	struct dovecot_paths paths = here();
	server_start("auth-client", CLIENT_HELLO, "AUTH\t", "OK\t1\n");
	told = 0;
	dovecot_authenticate(&d, &paths, slice_of("u"), slice_of(""), NULL, answered, &told);
	wait_told(&d);
	assert_int_equal(d.result, DOVECOT_YES);
	assert_non_null(strstr(S.heard, "\tno-penalty\tresp=dQB1AA==\n"));
	server_stop();
}

static void test_bad_greetings(void **state)
{
	(void)state;
	static const char *const bad[] = {
	    "VERSION\t2\t1\nSPID\t1\nDONE\n",
	    "VERSION\nSPID\t1\nDONE\n",
	    "VERSION\t11\t1\n",
	    "VERSION\t1\t1\n", /* and then closes */
	    "",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		for (int userdb = 0; userdb < 2; userdb++) {
			struct dovecot d = {0};
			server_start(userdb ? "auth-userdb" : "auth-client", bad[i], "", "");
			S.close_after = true;
			if (userdb) {
				/* This protocol's client is silent until greeted. */
				struct dovecot_paths paths = here();
				told = 0;
				dovecot_exists(&d, &paths, slice_of("u"), answered, &told);
				for (int k = 0; k < 5; k++)
					loop_turn(1);
				hang_up();
				wait_told(&d);
			} else {
				login(&d, "u", "p");
			}
			assert_int_equal(d.result, DOVECOT_TROUBLE);
			server_stop();
		}
	}
}

static void test_endless_talk_is_cut(void **state)
{
	(void)state;
	static char line[DOVECOT_LINE_MAX + 2], lines[DOVECOT_INPUT_MAX + 100];
	struct dovecot d = {0};
	memset(line, 'x', DOVECOT_LINE_MAX + 1);
	server_start("auth-client", line, "AUTH\t", "");
	assert_int_equal(login(&d, "u", "p"), DOVECOT_TROUBLE);
	assert_string_equal(d.why, "Dovecot sent a line that is too long");
	server_stop();
	for (size_t n = 0; n + 10 < sizeof(lines); n += 7)
		memcpy(lines + n, "MECH\tX\n", 8);
	server_start("auth-client", lines, "AUTH\t", "");
	assert_int_equal(login(&d, "u", "p"), DOVECOT_TROUBLE);
	assert_string_equal(d.why, "Dovecot says too much");
	server_stop();
}

static void test_unsafe_names_are_not_sent(void **state)
{
	(void)state;
	static const char *const bad[] = {
	    "",      "a b",           "a\tb",           "a\nb",       "a\rb",
	    "a\001", "a\177",         "a\302\240b",     "a\302\205b", "\343\200\200a",
	    "a\377", "a\342\200\250", "a\341\232\200b", "a\303",
	};
	struct dovecot d = {0};
	server_start("auth-client", CLIENT_HELLO, "AUTH\t", "OK\t1\n");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(login(&d, bad[i], "p"), DOVECOT_NO);
		assert_int_equal(exists(&d, bad[i]), DOVECOT_NO);
	}
	struct dovecot_paths paths = here();
	told = 0;
	dovecot_authenticate(&d, &paths, slice_of("u"), (struct slice){"a\0b", 3}, NULL, answered,
	                     &told);
	wait_told(&d);
	assert_int_equal(d.result, DOVECOT_NO);
	assert_int_equal(S.connections, 0);
	assert_int_equal(login(&d, "\303\261and\303\272\360\237\220\216@x", "p"), DOVECOT_YES);
	server_stop();
}

static void test_sockets_are_found_anew(void **state)
{
	(void)state;
	struct dovecot d = {0};
	assert_int_equal(login(&d, "u", "p"), DOVECOT_TROUBLE);
	server_start("auth-client", CLIENT_HELLO, "AUTH\t", "OK\t1\n");
	assert_int_equal(login(&d, "u", "p"), DOVECOT_YES);
	server_stop();
	assert_int_equal(login(&d, "u", "p"), DOVECOT_TROUBLE);
	server_start("auth-chasquid-client", CLIENT_HELLO, "AUTH\t", "FAIL\t1\n");
	assert_int_equal(login(&d, "u", "p"), DOVECOT_NO);
	/* A socket nobody listens on any more is passed over. */
	char left[108];
	snprintf(left, sizeof(left), "%s", S.path);
	int fd = S.listener.fd;
	loop_fd_unwatch(&S.listener);
	hang_up();
	close(fd);
	assert_int_equal(login(&d, "u", "p"), DOVECOT_TROUBLE);
	server_start("auth-client", CLIENT_HELLO, "AUTH\t", "OK\t1\n");
	assert_int_equal(login(&d, "u", "p"), DOVECOT_YES);
	server_stop();
	unlink(left);
}

static void test_configured_paths(void **state)
{
	(void)state;
	struct dovecot d = {0};
	struct dovecot_paths paths = here();
	char path[128], longer[300];
	server_start("elsewhere", USERDB_HELLO, "USER\t", "USER\t1\n");
	snprintf(path, sizeof(path), "%s/elsewhere", dir);
	paths.userdb = path;
	told = 0;
	dovecot_exists(&d, &paths, slice_of("u"), answered, &told);
	wait_told(&d);
	assert_int_equal(d.result, DOVECOT_YES);
	server_stop();
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	paths.userdb = longer;
	told = 0;
	dovecot_exists(&d, &paths, slice_of("u"), answered, &told);
	wait_told(&d);
	assert_int_equal(d.result, DOVECOT_TROUBLE);
}

static void test_lost_in_the_middle(void **state)
{
	(void)state;
	struct dovecot d = {0};
	server_start("auth-client", CLIENT_HELLO, "AUTH\t", "OK\t1"); /* no line end */
	S.close_after = true;
	assert_int_equal(login(&d, "u", "p"), DOVECOT_TROUBLE);
	assert_string_equal(d.why, "Dovecot closed the connection");
	/* The answer and the end at once. */
	S.answer = "OK\t1\n";
	assert_int_equal(login(&d, "u", "p"), DOVECOT_YES);
	server_stop();
}

static void test_silence_times_out(void **state)
{
	(void)state;
	struct dovecot d = {0};
	struct dovecot_paths paths = here();
	server_start("auth-userdb", "VERSION\t1\t2\n", "USER", "");
	told = 0;
	dovecot_exists(&d, &paths, slice_of("u"), answered, &told);
	for (int i = 0; i < 5; i++)
		loop_turn(1);
	assert_true(loop_timer_is_set(&d.io.timer));
	io_deadline(&d.io, 1);
	wait_told(&d);
	assert_int_equal(d.result, DOVECOT_TROUBLE);
	assert_string_equal(d.why, "Dovecot does not answer");
	server_stop();
}

static void test_cancel(void **state)
{
	(void)state;
	struct dovecot_paths paths = here();
	server_start("auth-client", CLIENT_HELLO, "AUTH\t", "OK\t1\n");
	for (int turns = 0; turns < 8; turns++) {
		struct dovecot d = {0};
		told = 0;
		dovecot_cancel(&d);
		dovecot_authenticate(&d, &paths, slice_of("u"), slice_of("p"), NULL, answered,
		                     &told);
		for (int i = 0; i < turns && !told; i++)
			loop_turn(1);
		int before = told;
		dovecot_cancel(&d);
		for (int i = 0; i < 5; i++)
			loop_turn(1);
		assert_int_equal(told, before);
	}
	server_stop();
}

static int set_up(void **state)
{
	(void)state;
	return temp_dir_make(dir, sizeof dir) || loop_init();
}

static int tear_down(void **state)
{
	(void)state;
	loop_done();
	return temp_dir_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_exists),
	    cmocka_unit_test(test_authenticate),
	    cmocka_unit_test(test_without_peer),
	    cmocka_unit_test(test_bad_greetings),
	    cmocka_unit_test(test_endless_talk_is_cut),
	    cmocka_unit_test(test_unsafe_names_are_not_sent),
	    cmocka_unit_test(test_sockets_are_found_anew),
	    cmocka_unit_test(test_configured_paths),
	    cmocka_unit_test(test_lost_in_the_middle),
	    cmocka_unit_test(test_silence_times_out),
	    cmocka_unit_test(test_cancel),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
