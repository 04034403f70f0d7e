/* resolve: files, a real hook and a Dovecot of our own, side by side. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "auth.h"
#include "log.h"
#include "loop.h"
#include "resolve.h"
#include "self.h"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];
static int log_fd = -1;
static struct conf conf;
static struct conf_domain domains[2];

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

static void write_file(const char *path, const char *text, mode_t mode)
{
	unlink(path);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(close(fd), 0);
}

static void hook_is(const char *body)
{
	char text[4000];
	/* The looks in vain of a test before it are forgotten. */
	int64_t end = now_ms() + HOOK_LOOK_MS;
	while (access("hooks/alias-resolve", F_OK) && now_ms() <= end)
		loop_turn(10);
	snprintf(text, sizeof text, "#!/bin/sh\necho \"$1\" >> asked\n%s\n", body);
	write_file("hooks/alias-resolve", text, 0700);
}

/* What the hook was asked since the last call, blanks in between. */
static const char *asked(void)
{
	static char text[20000];
	int fd = open("asked", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	unlink("asked");
	while (n > 0 && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	for (char *p = text; *p; p++)
		if (*p == '\n')
			*p = ' ';
	return text;
}

/* ---- Dovecot -------------------------------------------------------------------------------- */

/* Knows the users in `known`, each between blanks; says FAIL for "trouble". */
static struct {
	struct loop_fd listener, client;
	const char *known;
	int questions;
} D;

static void client_ready(void *arg, unsigned events)
{
	char in[2000], user[600] = "", key[610], reply[700];
	(void)arg;
	(void)events;
	ssize_t n = read(D.client.fd, in, sizeof in - 1);
	in[n < 0 ? 0 : n] = '\0';
	const char *line = strstr(in, "USER\t1\t");
	if (line && sscanf(line, "USER\t1\t%599[^\t\n]", user) == 1) {
		D.questions++;
		snprintf(key, sizeof key, " %s ", user);
		snprintf(reply, sizeof reply,
		         strcmp(user, "trouble@a.test") == 0 ? "FAIL\t1\n"
		         : strstr(D.known, key)              ? "USER\t1\t%s\n"
		                                             : "NOTFOUND\t1\n",
		         user);
		assert_true(write(D.client.fd, reply, strlen(reply)) > 0);
	}
	if (n > 0 && !line)
		return;
	int fd = D.client.fd;
	loop_fd_unwatch(&D.client);
	close(fd);
}

static void listener_ready(void *arg, unsigned events)
{
	static const char hello[] = "VERSION\t1\t1\nSPID\t1\n";
	(void)arg;
	(void)events;
	int fd = accept(D.listener.fd, NULL, NULL);
	assert_true(fd >= 0);
	assert_int_equal(D.client.fd, -1); /* one question at a time */
	if (write(fd, hello, sizeof hello - 1) < 0) {
		close(fd); /* it is gone already */
		return;
	}
	assert_int_equal(loop_fd_watch(&D.client, fd, LOOP_READ), 0);
}

static void dovecot_begin(void)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(sun.sun_path, sizeof sun.sun_path, "%s", conf.dovecot_userdb_path);
	unlink(sun.sun_path);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof sun), 0);
	assert_int_equal(listen(fd, 10), 0);
	loop_fd_init(&D.listener, listener_ready, NULL);
	loop_fd_init(&D.client, client_ready, NULL);
	assert_int_equal(loop_fd_watch(&D.listener, fd, LOOP_READ), 0);
	D.questions = 0;
	D.known = "";
	conf.dovecot_auth = true;
}

static void dovecot_end(void)
{
	int fd = D.listener.fd;
	loop_fd_unwatch(&D.listener);
	close(fd);
	fd = D.client.fd;
	loop_fd_unwatch(&D.client);
	if (fd >= 0)
		close(fd);
}

/* ---- the files ------------------------------------------------------------------------------ */

static int set_up(void **state)
{
	static char names[][8] = {"a.test", "b.test"}, plus[] = "+", dot[] = ".";
	static char dovecot[] = "dovecot";
	(void)state;
	memset(domains, 0, sizeof domains);
	conf = (struct conf){.hostname = names[1],
	                     .suffix_separators = plus,
	                     .drop_characters = dot,
	                     .domain = domains,
	                     .domain_count = 2,
	                     .dovecot_userdb_path = dovecot,
	                     .dovecot_client_path = dovecot};
	domains[0].name = names[0];
	domains[1].name = names[1];
	D.listener.fd = D.client.fd = -1;
	if (loop_init() < 0)
		return -1;
	auth_init(&conf);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	int64_t end = now_ms() + 5000;
	siginfo_t si;
	int rc;
	if (conf.dovecot_auth)
		dovecot_end();
	while ((rc = waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT)) == 0 && now_ms() < end)
		loop_turn(10);
	auth_done();
	loop_done();
	for (int i = 0; i < 2; i++) {
		alias_free(domains[i].aliases);
		user_free(domains[i].users);
	}
	unlink("hooks/alias-resolve");
	asked();
	return rc == 0;
}

static void files(int i, const char *aliases, const char *users)
{
	char err[256] = "";
	alias_free(domains[i].aliases);
	user_free(domains[i].users);
	write_file("f", aliases, 0600);
	domains[i].aliases = alias_load("f", domains[i].name, "+", ".", err, sizeof err);
	write_file("f", users, 0600);
	domains[i].users = user_load("f", ".", err, sizeof err);
	assert_string_equal(err, "");
}

/* ---- asking --------------------------------------------------------------------------------- */

struct answer {
	int dones;
	char text[20000];
};

static void on_done(void *arg, const struct status *st, const struct resolve_found *found,
                    size_t count)
{
	struct answer *a = arg;
	size_t n = 0;
	a->dones++;
	a->text[0] = '\0';
	if (status_class(st) != STATUS_DONE) {
		assert_int_equal(count, 0);
		snprintf(a->text, sizeof a->text, "%d %d.%d.%d", st->code, st->enh[0], st->enh[1],
		         st->enh[2]);
		return;
	}
	assert_true(count > 0);
	for (size_t i = 0; i < count; i++)
		n += (size_t)snprintf(a->text + n, sizeof a->text - n, "%s%s%s%s%s", i ? " " : "",
		                      found[i].type == ALIAS_PIPE ? "|" : "", found[i].address,
		                      found[i].type == ALIAS_FORWARD ? ">" : "",
		                      found[i].via ? found[i].via : "");
}

static struct resolve *start(struct answer *a, const char *address)
{
	struct addr to = {.user = "postmaster"};
	a->dones = 0;
	if (strcmp(address, "postmaster") != 0)
		assert_int_equal(addr_parse(slice_of(address), &to), 0);
	struct resolve *r = resolve_start(&conf, "ID", &to, on_done, a);
	assert_non_null(r);
	assert_int_equal(a->dones, 0);
	return r;
}

static const char *resolve(const char *address)
{
	static struct answer a;
	int64_t end = now_ms() + 60000;
	start(&a, address);
	while (a.dones == 0 && now_ms() < end)
		assert_int_equal(loop_turn(20), 0);
	assert_int_equal(a.dones, 1);
	return a.text;
}

#define USERS(x) "users { key: '" x "' }"

/* ---- tests ---------------------------------------------------------------------------------- */

static void test_files_alone(void **state)
{
	(void)state;
	files(0, "c: |prog -x\nv: w@x.test via h.test/i.test\n", USERS("u"));
	assert_string_equal(resolve("u+tag@a.test"), "u@a.test");
	assert_string_equal(resolve("c@a.test"), "|prog -x");
	assert_string_equal(resolve("v@a.test"), "w@x.test>h.test/i.test");
	assert_string_equal(resolve("nobody@a.test"), "550 5.1.1");
	assert_string_equal(resolve("Some.One+x@elsewhere.test"), "Some.One+x@elsewhere.test");
	assert_string_equal(asked(), "");
}

static void test_order_of_questions(void **state)
{
	(void)state;
	files(0, "list: m@x.test\n", USERS("user"));
	hook_is("");
	assert_string_equal(resolve("No.Body+Tag@a.test"), "550 5.1.1");
	assert_string_equal(asked(), "no.body+tag@a.test nobody@a.test *@a.test");
	assert_string_equal(resolve("nobody@a.test"), "550 5.1.1");
	assert_string_equal(asked(), "nobody@a.test *@a.test");
	assert_string_equal(resolve("user@a.test"), "user@a.test");
	assert_string_equal(asked(), "user@a.test");
	assert_string_equal(resolve("us.er+tag@a.test"), "user@a.test");
	assert_string_equal(asked(), "us.er+tag@a.test user@a.test");
	assert_string_equal(resolve("list@a.test"), "m@x.test");
	assert_string_equal(asked(), "list@a.test");
	assert_string_equal(resolve("x@elsewhere.test"), "x@elsewhere.test");
	assert_string_equal(asked(), "");
}

static void test_what_a_hook_may_say(void **state)
{
	(void)state;
	files(0, "both: file@x.test\n", USERS("user") USERS("other"));
	hook_is("case $1 in\n"
	        "mail@*) echo '  one@x.test , user, OTHER@A.test  ';;\n"
	        "pipe@*) echo '| /bin/prog -a, b';;\n"
	        "via@*) echo 'u@far.test via Relay.test:2525/[192.0.2.1]';;\n"
	        "star+*) echo '*@b.test via h.test, *@x.test';;\n"
	        "both@*) echo 'file@x.test, hook@x.test';;\n"
	        "clean@*) echo 'cl@x.test';;\n"
	        "user@*) echo 'user, copy@x.test';;\n"
	        "gone@*) echo 'missing, missing@b.test';;\n"
	        "some@*) echo 'missing, other';;\n"
	        "comma@*) echo ', ,';;\n"
	        "crlf@*) printf '\\r\\n x@x.test\\r\\n\\n';;\n"
	        "noend@*) printf 'x@x.test';;\n"
	        "esac");
	assert_string_equal(resolve("mail@a.test"),
	                    "one@x.test user@a.test copy@x.test other@a.test");
	assert_string_equal(resolve("pipe@a.test"), "|/bin/prog -a, b");
	assert_string_equal(resolve("via@a.test"), "u@far.test>relay.test:2525/[192.0.2.1]");
	assert_string_equal(resolve("Star+Tag@a.test"), "Star+Tag@b.test>h.test Star+Tag@x.test");
	assert_string_equal(resolve("both@a.test"), "file@x.test hook@x.test");
	assert_string_equal(resolve("cle.an+tag@a.test"), "cl@x.test");
	assert_string_equal(resolve("user@a.test"), "user@a.test copy@x.test");
	assert_string_equal(resolve("gone@a.test"), "550 5.1.1");
	assert_string_equal(resolve("some@a.test"), "other@a.test");
	assert_string_equal(resolve("comma@a.test"), "550 5.1.1");
	assert_string_equal(resolve("crlf@a.test"), "x@x.test");
	assert_string_equal(resolve("noend@a.test"), "x@x.test");
}

static void test_catch_all_of_a_hook(void **state)
{
	(void)state;
	files(0, "", USERS("user"));
	files(1, "*: file@x.test\n", "");
	hook_is("case $1 in '*@'*) echo '*@c.test';; esac");
	assert_string_equal(resolve("us.er+tag@a.test"), "user@a.test");
	assert_string_equal(resolve("any.one+x@a.test"), "any.one+x@c.test");
	assert_string_equal(resolve("any@b.test"), "file@x.test any@c.test");
}

static void test_hooks_that_fail(void **state)
{
	static const char *const bodies[] = {
	    "exit 1",
	    "exit 20",
	    "echo u@x.test; exit 75",
	    "kill -9 $$",
	    "echo a@x.test; echo b@x.test",
	    "echo a b c",
	    "echo x@y@z",
	    "echo '|'",
	    "echo 'x via h'",
	    "printf 'a\\377@x.test'",
	    "printf 'a\\001b'",
	    "while :; do echo a@x.test,; done",
	};
	(void)state;
	files(0, "list: m@x.test\nchain: next\n", USERS("user") USERS("next"));
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		bool good = strstr(bodies[i], "x via h") != NULL;
		hook_is(bodies[i]);
		/* Never "no such user", and never half of the list. */
		assert_string_equal(resolve("nobody@a.test"), good ? "x@a.test>h" : "451 4.3.0");
		assert_string_equal(resolve("list@a.test"),
		                    good ? "m@x.test x@a.test>h" : "451 4.3.0");
	}
	hook_is("case $1 in next@*) exit 1;; esac");
	assert_string_equal(resolve("chain@a.test"), "451 4.3.0");
	chmod("hooks/alias-resolve", 0600);
	assert_string_equal(resolve("user@a.test"), "451 4.3.0");
	unlink("hooks/alias-resolve");
	mkdir("hooks/alias-resolve", 0700);
	assert_string_equal(resolve("user@a.test"), "451 4.3.0");
	rmdir("hooks/alias-resolve");
	assert_string_equal(resolve("user@a.test"), "user@a.test");
}

static void test_loops_and_limits(void **state)
{
	(void)state;
	files(0, "chain: n1\n", USERS("end"));
	hook_is("case $1 in\n"
	        "n*@a.test) n=${1#n}; n=${n%@*}; echo \"n$((n + 1))\";;\n"
	        "a@*) echo b@b.test;;\n"
	        "b@*) echo a@a.test;;\n"
	        "esac");
	assert_string_equal(resolve("chain@a.test"), "554 5.4.6");
	assert_string_equal(resolve("a@a.test"), "550 5.1.1");
	asked();
	/* One question an address: more members than questions are allowed. */
	struct buf b;
	buf_init(&b, 100000);
	buf_puts(&b, "all: ");
	for (int i = 0; i <= RESOLVE_ASKS_MAX; i++)
		buf_printf(&b, "m%d,", i);
	buf_puts(&b, "\nfew: ");
	for (int i = 0; i < 20; i++)
		buf_printf(&b, "end+%d,", i);
	files(0, buf_str(&b), USERS("end"));
	buf_clear(&b);
	hook_is("");
	assert_string_equal(resolve("few@a.test"), "end@a.test");
	hook_is("echo u@x.test");
	assert_string_equal(resolve("all@a.test"), "451 4.3.0");
	const char *p = asked();
	int count = 1;
	while ((p = strchr(p, ' ')) != NULL) {
		p++;
		count++;
	}
	assert_in_range(count, 21, RESOLVE_ASKS_MAX + 22);
}

static void test_dovecot(void **state)
{
	(void)state;
	files(0,
	      "list: dove, file, gone\nghosts: gone, gone2\nself: self, c@x.test\n*: all@x.test\n",
	      USERS("file"));
	files(1, "", "");
	dovecot_begin();
	D.known = " dove@b.test dove@a.test dot.ted@b.test self@a.test ";
	assert_string_equal(resolve("Dove@b.test"), "dove@b.test");
	assert_int_equal(D.questions, 1);
	assert_string_equal(resolve("dove+tag@b.test"), "dove@b.test");
	assert_string_equal(resolve("do.ve+tag@b.test"), "dove@b.test");
	assert_string_equal(resolve("dot.ted@b.test"), "dot.ted@b.test");
	assert_string_equal(resolve("nobody@b.test"), "550 5.1.1");
	assert_string_equal(resolve("dove@x.test"), "dove@x.test");
	/* Before the catch-all, behind the files. */
	assert_string_equal(resolve("dove+tag@a.test"), "dove@a.test");
	D.questions = 0;
	assert_string_equal(resolve("file@a.test"), "file@a.test");
	assert_int_equal(D.questions, 0);
	assert_string_equal(resolve("else@a.test"), "all@x.test");
	assert_string_equal(resolve("self@a.test"), "self@a.test c@x.test");
	files(0, "list: dove, file, gone\nghosts: gone, gone2\n", USERS("file"));
	assert_string_equal(resolve("list@a.test"), "dove@a.test file@a.test");
	assert_string_equal(resolve("ghosts@a.test"), "550 5.1.1");
	assert_string_equal(resolve("trouble@a.test"), "451 4.3.0");
	conf.dovecot_auth = false;
	assert_string_equal(resolve("dove@b.test"), "550 5.1.1");
	dovecot_end();
	conf.dovecot_auth = true;
	assert_string_equal(resolve("dove@b.test"), "451 4.3.0");
	assert_string_equal(resolve("file@a.test"), "file@a.test");
}

static void test_dovecot_and_hook(void **state)
{
	(void)state;
	files(0, "", "");
	dovecot_begin();
	D.known = " dove@a.test ";
	hook_is("case $1 in alias@*) echo dove+x, dove, other@x.test;; esac");
	assert_string_equal(resolve("alias@a.test"), "dove@a.test other@x.test");
	assert_string_equal(asked(), "alias@a.test dove+x@a.test dove@a.test");
	assert_int_equal(D.questions, 1);
}

static void test_postmaster(void **state)
{
	(void)state;
	files(0, "postmaster: pa@x.test\n", "");
	files(1, "", "");
	hook_is("case $1 in postmaster@a.test) echo hook@x.test;; esac");
	assert_string_equal(resolve("postmaster"), "pa@x.test hook@x.test");
	hook_is("case $1 in postmaster@b.test) echo hook@x.test;; esac");
	assert_string_equal(resolve("postmaster"), "hook@x.test");
	files(0, "", "");
	hook_is("case $1 in postmaster@a.test) echo hook@x.test;; esac");
	assert_string_equal(resolve("postmaster"), "hook@x.test");
	hook_is("");
	assert_string_equal(resolve("postmaster"), "550 5.1.1");
	hook_is("exit 1");
	assert_string_equal(resolve("postmaster"), "451 4.3.0");
}

/* The tables are others when the hook has answered. */
static void test_files_change_meanwhile(void **state)
{
	(void)state;
	static struct answer a;
	files(0, "a: x@x.test, b\n", USERS("b"));
	hook_is("sleep 0.2");
	start(&a, "a@a.test");
	for (int i = 0; i < 3; i++)
		loop_turn(20);
	files(0, "a: y@x.test\n", "");
	int64_t end = now_ms() + 10000;
	while (a.dones == 0 && now_ms() < end)
		loop_turn(20);
	assert_string_equal(a.text, "y@x.test");
}

static void test_many_at_once(void **state)
{
	(void)state;
	enum { N = 40 };
	static struct answer a[N];
	char address[40];
	int done = 0;
	hook_is("sleep 0.05; echo \"${1%@*}@x.test\"");
	files(0, "", "");
	for (int i = 0; i < N; i++) {
		snprintf(address, sizeof address, "n%d@a.test", i);
		start(&a[i], address);
	}
	int64_t end = now_ms() + 30000;
	while (done < N && now_ms() < end) {
		loop_turn(20);
		done = 0;
		for (int i = 0; i < N; i++)
			done += a[i].dones;
	}
	for (int i = 0; i < N; i++) {
		assert_int_equal(a[i].dones, 1);
		snprintf(address, sizeof address, "n%d@x.test", i);
		assert_string_equal(a[i].text, address);
	}
}

static struct resolve *ending;

static void on_done_cancel(void *arg, const struct status *st, const struct resolve_found *found,
                           size_t count)
{
	(void)st;
	(void)found;
	(void)count;
	resolve_cancel(ending);
	++*(int *)arg;
}

static void test_cancel(void **state)
{
	(void)state;
	static struct answer a;
	files(0, "", "");
	resolve_cancel(NULL);
	hook_is("sleep 100");
	resolve_cancel(start(&a, "x@a.test"));
	struct resolve *r = start(&a, "x@a.test");
	for (int i = 0; i < 5; i++)
		loop_turn(20);
	resolve_cancel(r); /* the hook is running */
	unlink("hooks/alias-resolve");
	dovecot_begin();
	r = start(&a, "x@a.test");
	loop_turn(0);
	resolve_cancel(r); /* Dovecot is being asked */
	assert_int_equal(a.dones, 0);
	struct addr to;
	int dones = 0;
	assert_int_equal(addr_parse(slice_of("x@y.test"), &to), 0);
	ending = resolve_start(&conf, "ID", &to, on_done_cancel, &dones);
	for (int i = 0; i < 5 && dones == 0; i++)
		loop_turn(20);
	assert_int_equal(dones, 1);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_files_alone),
	    CASE(test_order_of_questions),
	    CASE(test_what_a_hook_may_say),
	    CASE(test_catch_all_of_a_hook),
	    CASE(test_hooks_that_fail),
	    CASE(test_loops_and_limits),
	    CASE(test_dovecot),
	    CASE(test_dovecot_and_hook),
	    CASE(test_postmaster),
	    CASE(test_files_change_meanwhile),
	    CASE(test_many_at_once),
	    CASE(test_cancel),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
