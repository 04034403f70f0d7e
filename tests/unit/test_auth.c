/* auth: users files and hashing children, the delay, the throttle, the way to Dovecot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "auth.h"
#include "dns_addr.h"
#include "loop.h"
#include "temp_dir.h"
#include "valgrind.h"

#if WITH_TLS

static char dir[TEMP_DIR_MAX];
static struct conf conf;
static struct conf_domain domains[3];
static char socket_path[64];

static struct user_table *table(const char *text)
{
	char path[64], err[256];
	snprintf(path, sizeof(path), "%s/users", dir);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	struct user_table *t = user_load(path, ".", err, sizeof(err));
	assert_non_null(t);
	unlink(path);
	return t;
}

/* Passwords: ana@a.org and both@ "secret" (PBKDF2, few iterations), sam@a.org the same by scrypt,
 * ben@b.org "b" plain, rita@b.org receives only. c.org has no users. */
#define SALT "salt: '0123456789abcdef' "
#define PBKDF2                                                                                     \
	"value { pbkdf2 { iterations: 1000 " SALT "hash: "                                         \
	"'\\266\\042\\226\\037\\056\\005\\000\\140\\226\\023\\310\\047\\350\\153\\112\\205\\254\\" \
	"103\\330\\347\\236\\001\\105\\026\\134\\124\\377\\247\\126\\232\\066\\137' } } }"
#define SCRYPT                                                                                     \
	"value { scrypt { logN: 14 r: 8 p: 1 keyLen: 32 " SALT "encrypted: "                       \
	"'\\343\\133\\201\\270\\102\\007\\201\\126\\256\\343\\133\\365\\253\\320\\123\\147\\070\\" \
	"254\\235\\050\\277\\242\\120\\164\\015\\260\\074\\335\\355\\372\\176\\046' } } }"
/* A second's work under valgrind: the same with less of it. */
#define SCRYPT_CHEAP                                                                               \
	"value { scrypt { logN: 10 r: 8 p: 1 keyLen: 32 " SALT "encrypted: "                       \
	"'\\113\\261\\160\\006\\372\\156\\373\\077\\012\\320\\365\\025\\121\\250\\005\\105\\065\\" \
	"000\\007\\147\\100\\304\\206\\151\\315\\121\\357\\055\\230\\253\\373\\337' } } }"

static int set_up(void **state)
{
	(void)state;
	if (!*socket_path && temp_dir_make(dir, sizeof dir))
		return -1;
	if (loop_init() < 0)
		return -1;
	snprintf(socket_path, sizeof(socket_path), "%s/dovecot", dir);
	memset(&conf, 0, sizeof(conf));
	memset(domains, 0, sizeof(domains));
	domains[0].name = "a.org";
#define A_ORG(of_sam) \
	"users { key: 'ana' " PBKDF2 "users { key: 's.am' " of_sam "users { key: 'both' " PBKDF2
	domains[0].users = table(under_valgrind() ? A_ORG(SCRYPT_CHEAP) : A_ORG(SCRYPT));
	domains[1].name = "b.org";
	domains[1].users = table("users { key: 'ben' value { plain { password: 'b' } } }"
	                         "users { key: 'rita' value { denied {} } }"
	                         "users { key: 'both' " PBKDF2);
	domains[2].name = "c.org";
	conf.domain = domains;
	conf.domain_count = 3;
	conf.dovecot_client_path = conf.dovecot_userdb_path = socket_path;
	auth_init(&conf);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	auth_done();
	user_free(domains[0].users);
	user_free(domains[1].users);
	loop_done();
	/* No child is left. */
	return waitpid(-1, NULL, WNOHANG) == -1 ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	return temp_dir_remove();
}

static struct dns_addr address(const char *text)
{
	struct dns_addr a;
	assert_int_equal(dns_addr_parse(&a, slice_of(text)), 0);
	return a;
}

static void count(void *arg, struct auth *a)
{
	(void)a;
	++*(int *)arg;
}

static void wait_for(const int *told, int n)
{
	for (int i = 0; i < 10000 && *told < n; i++)
		loop_turn(10);
	assert_int_equal(*told, n);
}

static void ask(struct auth *a, const char *id, const char *password, const char *from, int *told)
{
	struct dns_addr peer = address(from);
	auth_ask(a, slice_of(id), slice_of(password), &peer, count, told);
}

/* Each from an address of its own: the throttle is another test's. */
static enum auth_result answer(struct auth *a, const char *id, const char *password)
{
	static int number;
	char from[32];
	int told = 0;
	number++;
	snprintf(from, sizeof(from), "192.0.2.%d", number % 250);
	memset(a, 0, sizeof(*a));
	ask(a, id, password, from, &told);
	assert_int_equal(told, 0);
	wait_for(&told, 1);
	return a->result;
}

static void test_good_logins(void **state)
{
	(void)state;
	static const struct {
		const char *id, *password, *user, *domain;
	} cases[] = {
	    {"ana@a.org", "secret", "ana", "a.org"},
	    {"ANA@A.Org.", "secret", "ana", "a.org"},
	    {"ana", "secret", "ana", "a.org"},
	    {"s.am@a.org", "secret", "s.am", "a.org"},
	    {"SAM@a.org", "secret", "s.am", "a.org"},
	    {"ben@b.org", "b", "ben", "b.org"},
	    {"ben", "b", "ben", "b.org"},
	    {"both@b.org", "secret", "both", "b.org"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct auth a;
		if (answer(&a, cases[i].id, cases[i].password) != AUTH_YES)
			fail_msg("%s", cases[i].id);
		assert_string_equal(a.user.user, cases[i].user);
		assert_string_equal(a.user.domain, cases[i].domain);
	}
}

static void test_bad_logins(void **state)
{
	(void)state;
	static const struct {
		const char *id, *password;
	} cases[] = {
	    {"ana@a.org", "Secret"},
	    {"ana@a.org", ""},
	    {"ana@b.org", "secret"},
	    {"rita@b.org", ""},
	    {"ben@b.org", "bb"},
	    {"both", "secret"}, /* ambiguous */
	    {"nobody@c.org", "x"},
	    {"ana@d.org", "secret"},
	    {"nobody", "x"},
	    {"", ""},
	    {"@", "x"},
	    {"a@b@c@", "x"},
	    {"ana@a.org\n", "secret"},
	};
	struct auth a[sizeof(cases) / sizeof(*cases)];
	int told = 0;
	memset(a, 0, sizeof(a));
	int64_t begun = loop_now();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char from[32];
		snprintf(from, sizeof(from), "198.51.100.%zu", i);
		ask(&a[i], cases[i].id, cases[i].password, from, &told);
	}
	while (told == 0)
		loop_turn(10);
	assert_true(loop_now() - begun >= AUTH_DELAY_MS);
	wait_for(&told, (int)(sizeof(cases) / sizeof(*cases)));
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (a[i].result != AUTH_NO)
			fail_msg("%s", cases[i].id);
}

static void test_long_input(void **state)
{
	(void)state;
	char text[AUTH_PASSWORD_MAX + 2];
	struct auth a;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(answer(&a, "ana@a.org", text), AUTH_NO);
	assert_int_equal(answer(&a, text, "secret"), AUTH_NO);
}

static void test_unread_domain_is_trouble(void **state)
{
	(void)state;
	struct auth a;
	domains[0].unread = true;
	assert_int_equal(answer(&a, "ana@a.org", "secret"), AUTH_TROUBLE);
}

static void test_many_at_once(void **state)
{
	(void)state;
	enum { N = AUTH_WAITING + 5 };
	struct auth a[N];
	int told = 0, good = 0, trouble = 0;
	memset(a, 0, sizeof(a));
	for (int i = 0; i < N; i++) {
		char from[32];
		snprintf(from, sizeof(from), "203.0.113.%d", i);
		ask(&a[i], "ana@a.org", "secret", from, &told);
	}
	wait_for(&told, N);
	for (int i = 0; i < N; i++) {
		good += a[i].result == AUTH_YES;
		trouble += a[i].result == AUTH_TROUBLE;
	}
	assert_int_equal(good, AUTH_WAITING);
	assert_int_equal(trouble, 5);
}

/* Guesses that are decided and held back do not keep others out. */
static void test_delayed_take_no_place(void **state)
{
	(void)state;
	struct auth a[AUTH_WAITING], other;
	int told = 0, told_other = 0;
	memset(a, 0, sizeof(a));
	for (int i = 0; i < AUTH_WAITING; i++) {
		char from[32];
		snprintf(from, sizeof(from), "203.0.113.%d", i);
		ask(&a[i], "ana@elsewhere.org", "guess", from, &told);
	}
	ask(&other, "ana@a.org", "secret", "192.0.2.1", &told_other);
	wait_for(&told_other, 1);
	assert_int_equal(other.result, AUTH_YES);
	wait_for(&told, AUTH_WAITING);
	for (int i = 0; i < AUTH_WAITING; i++)
		assert_int_equal(a[i].result, AUTH_NO);
	test_many_at_once(state);
}

static void test_cancel_everywhere(void **state)
{
	(void)state;
	int told = 0;
	struct auth a[4];
	memset(a, 0, sizeof(a));
	auth_cancel(&a[0]);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 4; i++)
			ask(&a[i], "sam@a.org", "secret", "192.0.2.1", &told);
		for (int i = 0; i < round; i++)
			loop_turn(1);
		auth_cancel(&a[2]);
		auth_cancel(&a[0]);
		auth_cancel(&a[3]);
		wait_for(&told, round + 1);
		assert_int_equal(a[1].result, AUTH_YES);
		auth_cancel(&a[1]);
		/* Those who left count as failed. */
		auth_done();
		auth_init(&conf);
	}
	ask(&a[0], "sam@a.org", "secret", "192.0.2.1", &told);
	auth_cancel(&a[0]);
}

static void test_throttle(void **state)
{
	(void)state;
	struct auth a[AUTH_FAILURES_MAX + 1];
	struct dns_addr bad = address("192.0.2.66"), good = address("192.0.2.67");
	int told = 0;
	memset(a, 0, sizeof(a));
	/* A good login leaves nothing behind. */
	ask(&a[0], "ben@b.org", "b", "192.0.2.66", &told);
	wait_for(&told, 1);
	for (int i = 0; i < AUTH_FAILURES_MAX; i++) {
		assert_true(auth_may_try(&bad));
		ask(&a[i], "nobody@c.org", "x", "192.0.2.66", &told);
	}
	assert_false(auth_may_try(&bad));
	assert_true(auth_may_try(&good));
	ask(&a[AUTH_FAILURES_MAX], "ben@b.org", "b", "192.0.2.66", &told);
	wait_for(&told, AUTH_FAILURES_MAX + 2);
	assert_int_equal(a[AUTH_FAILURES_MAX].result, AUTH_TROUBLE);
	assert_false(auth_may_try(&bad));
}

static void test_throttle_of_networks(void **state)
{
	(void)state;
	struct auth a[AUTH_FAILURES_MAX];
	struct dns_addr same = address("2001:db8:1:2:ffff::9"), other = address("2001:db8:1:3::1");
	int told = 0;
	memset(a, 0, sizeof(a));
	for (int i = 0; i < AUTH_FAILURES_MAX; i++) {
		char from[64];
		snprintf(from, sizeof(from), "2001:db8:1:2::%x", i);
		ask(&a[i], "nobody@c.org", "x", from, &told);
	}
	assert_false(auth_may_try(&same));
	assert_true(auth_may_try(&other));
	wait_for(&told, AUTH_FAILURES_MAX);
}

/* More addresses than the table holds do not make it forget the worst. */
static void test_throttle_table_is_bounded(void **state)
{
	(void)state;
	struct auth a[AUTH_FAILURES_MAX];
	struct dns_addr bad = address("192.0.2.66");
	int told = 0;
	memset(a, 0, sizeof(a));
	for (int i = 0; i < AUTH_FAILURES_MAX; i++)
		ask(&a[i], "nobody@c.org", "x", "192.0.2.66", &told);
	wait_for(&told, AUTH_FAILURES_MAX);
	for (int i = 0; i < 2 * AUTH_ADDRESSES_MAX; i++) {
		char from[64];
		snprintf(from, sizeof(from), "10.1.%d.%d", i / 200, i % 200);
		ask(&a[0], "ben@b.org", "b", from, &told);
		auth_cancel(&a[0]);
	}
	assert_false(auth_may_try(&bad));
}

static void test_loop_runs_while_hashing(void **state)
{
	(void)state;
	struct auth a = {0};
	int told = 0, turns = 0;
	ask(&a, "sam@a.org", "secret", "192.0.2.1", &told);
	while (!told && ++turns < 100000)
		loop_turn(1);
	assert_int_equal(a.result, AUTH_YES);
	assert_true(turns > 5);
}

/* ---- Dovecot ---- */

static struct loop_fd listener, peer_fd;
static const char *hello, *says;
static char heard[4096];

static void dovecot_read(void *arg, unsigned events)
{
	(void)arg;
	(void)events;
	size_t n = strlen(heard);
	ssize_t got = read(peer_fd.fd, heard + n, sizeof(heard) - 1 - n);
	if (got > 0) {
		heard[n + (size_t)got] = '\0';
		if (strstr(heard, "AUTH\t") || strstr(heard, "USER\t"))
			assert_true(send(peer_fd.fd, says, strlen(says), MSG_NOSIGNAL) > 0);
		return;
	}
	int fd = peer_fd.fd;
	loop_fd_unwatch(&peer_fd);
	close(fd);
}

static void dovecot_accept(void *arg, unsigned events)
{
	(void)arg;
	(void)events;
	int fd = accept(listener.fd, NULL, NULL);
	assert_int_equal(loop_fd_watch(&peer_fd, fd, LOOP_READ), 0);
	memset(heard, 0, sizeof(heard));
	assert_true(send(fd, hello, strlen(hello), MSG_NOSIGNAL) > 0);
}

static void dovecot_start(const char *greeting)
{
	hello = greeting;
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", socket_path);
	loop_fd_init(&listener, dovecot_accept, NULL);
	loop_fd_init(&peer_fd, dovecot_read, NULL);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(listen(fd, 10), 0);
	assert_int_equal(loop_fd_watch(&listener, fd, LOOP_READ), 0);
	conf.dovecot_auth = true;
}

static void dovecot_stop(void)
{
	for (int i = 0; i < 5; i++)
		loop_turn(0);
	int fd = listener.fd;
	loop_fd_unwatch(&listener);
	close(fd);
	unlink(socket_path);
}

static void test_dovecot_has_the_last_word(void **state)
{
	(void)state;
	static const struct {
		const char *id, *password, *says;
		enum auth_result result;
		const char *user, *domain;
	} cases[] = {
	    {"ana@a.org", "secret", NULL, AUTH_YES, "ana", "a.org"},
	    {"ana@a.org", "other", "OK\t1\n", AUTH_YES, "ana", "a.org"},
	    {"ana@a.org", "other", "FAIL\t1\n", AUTH_NO, NULL, NULL},
	    {"ana@a.org", "other", "FAIL\t1\ttemp\n", AUTH_TROUBLE, NULL, NULL},
	    {"Dora@C.org", "x", "OK\t1\n", AUTH_YES, "dora", "c.org"},
	    {"dora", "x", "OK\t1\n", AUTH_YES, "dora", ""},
	    {"dora", "x", "OK\t1\tuser=dora@d.org\n", AUTH_YES, "dora", "d.org"},
	    {"dora", "x", "OK\t1\tuser=dora\n", AUTH_YES, "dora", ""},
	    {"dora@c.org", "x", "OK\t1\tuser=other@a.org\n", AUTH_YES, "dora", "c.org"},
	    {"dora", "x", "FAIL\t1\n", AUTH_NO, NULL, NULL},
	    {"@", "x", NULL, AUTH_NO, NULL, NULL},
	};
	dovecot_start("VERSION\t1\t2\nSPID\t1\nDONE\n");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct auth a;
		says = cases[i].says;
		heard[0] = '\0';
		if (answer(&a, cases[i].id, cases[i].password) != cases[i].result)
			fail_msg("case %zu: %d", i, (int)a.result);
		assert_true((says == NULL) == (heard[0] == '\0'));
		if (cases[i].user) {
			assert_string_equal(a.user.user, cases[i].user);
			assert_string_equal(a.user.domain, cases[i].domain);
		}
	}
	dovecot_stop();
	struct auth a;
	assert_int_equal(answer(&a, "ana@a.org", "other"), AUTH_TROUBLE);
	assert_int_equal(answer(&a, "ana@a.org", "secret"), AUTH_YES);
}

static enum auth_result exists(const char *user)
{
	struct addr addr;
	struct auth a = {0};
	int told = 0;
	assert_int_equal(addr_parse(slice_of(user), &addr), 0);
	auth_exists(&a, &addr, count, &told);
	assert_int_equal(told, 0);
	wait_for(&told, 1);
	return a.result;
}

static void test_exists(void **state)
{
	(void)state;
	int64_t begun = loop_now();
	assert_int_equal(exists("ana@a.org"), AUTH_YES);
	assert_int_equal(exists("rita@b.org"), AUTH_YES);
	assert_int_equal(exists("dora@a.org"), AUTH_NO);
	assert_int_equal(exists("dora@nowhere.org"), AUTH_NO);
	dovecot_start("VERSION\t1\t2\nSPID\t1\n");
	says = "USER\t1\tdora\n";
	assert_int_equal(exists("dora@a.org"), AUTH_YES);
	says = "NOTFOUND\t1\n";
	assert_int_equal(exists("dora@a.org"), AUTH_NO);
	says = "FAIL\t1\n";
	assert_int_equal(exists("dora@a.org"), AUTH_TROUBLE);
	dovecot_stop();
	domains[1].unread = true;
	assert_int_equal(exists("dora@b.org"), AUTH_TROUBLE);
	assert_int_equal(exists("ben@b.org"), AUTH_YES);
	assert_true(loop_now() - begun < AUTH_DELAY_MS);
}

/* ---- SASL ---- */

static void test_plain_decode(void **state)
{
	(void)state;
	static const struct {
		const char *message;
		size_t n;
		const char *id, *password; /* NULL: refused */
	} cases[] = {
	    {"\0u@d\0p", 6, "u@d", "p"}, {"u@d\0u@d\0p w", 11, "u@d", "p w"},
	    {"\0u\0", 3, "u", ""},       {"u@e\0u@d\0p", 9, NULL, NULL},
	    {"u@d\0\0p", 6, NULL, NULL}, {"\0\0p", 3, NULL, NULL},
	    {"u\0p", 3, NULL, NULL},     {"\0u\0p\0", 5, NULL, NULL},
	    {"", 0, NULL, NULL},         {"\0\0\0\0", 4, NULL, NULL},
	};
	struct buf text, out;
	const char *why;
	struct slice id, password;
	buf_init(&text, 100);
	buf_init(&out, 100);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		buf_clear(&text);
		assert_int_equal(base64_encode((struct slice){cases[i].message, cases[i].n}, &text),
		                 0);
		why = NULL;
		int rc = auth_plain_decode(buf_slice(&text), &out, &id, &password, &why);
		assert_int_equal(rc, cases[i].id ? 0 : -1);
		assert_true(rc == 0 || why);
		if (rc == 0) {
			assert_true(slice_is(id, cases[i].id));
			assert_true(slice_is(password, cases[i].password));
		}
	}
	assert_int_equal(auth_plain_decode(slice_of("AHUAc=="), &out, &id, &password, &why), -1);
	assert_string_equal(why, "not base64");
	buf_clear(&text);
	buf_clear(&out);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    T(test_good_logins),
	    T(test_bad_logins),
	    T(test_long_input),
	    T(test_unread_domain_is_trouble),
	    T(test_many_at_once),
	    T(test_delayed_take_no_place),
	    T(test_cancel_everywhere),
	    T(test_throttle),
	    T(test_throttle_of_networks),
	    T(test_throttle_table_is_bounded),
	    T(test_loop_runs_while_hashing),
	    T(test_dovecot_has_the_last_word),
	    T(test_exists),
	    cmocka_unit_test(test_plain_decode),
	};
	return cmocka_run_group_tests(tests, NULL, remove_dir);
}

#else

int main(void)
{
	return 0;
}

#endif
