/* confdomain: the aliases of the system, read from a file of this test's own. */
#define ALIAS_SYSTEM_FILE "system-aliases"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

/* The module itself, for the path is fixed when it is compiled. */
#include "confdomain.c"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];
static int log_fd = -1;

static int set_up(void **state)
{
	(void)state;
	if (temp_dir_make(dir, sizeof dir) || chdir(dir) < 0)
		return -1;
	log_fd = open("log", O_RDWR | O_CREAT | O_APPEND, 0600);
	log_to(log_fd);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(log_fd);
	return temp_dir_remove();
}

/* The pause is longer than a tick of a file system's clock: a directory's time must change. */
static void shell(const char *command)
{
	usleep(20000);
	assert_int_equal(system(command), 0);
}

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int logged(const char *text)
{
	static char log[65536];
	ssize_t n = pread(log_fd, log, sizeof(log) - 1, 0);
	int count = 0;
	log[n < 0 ? 0 : n] = '\0';
	for (const char *p = log; (p = strstr(p, text)) != NULL; p++)
		count++;
	return count;
}

static struct conf *load(const char *file)
{
	char err[256] = "";
	write_file("chasq.conf", file);
	struct conf *c = conf_load(dir, NULL, 0, err, sizeof(err));
	if (!c)
		print_message("%s\n", err);
	return c;
}

static int note(void *arg, enum alias_type type, const char *address, const char *via)
{
	char *out = arg;
	size_t n = strlen(out);
	(void)via;
	snprintf(out + n, 1000 - n, "%s%s%s", n ? " " : "", type == ALIAS_PIPE ? "|" : "", address);
	return 0;
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

static void expect(const struct conf *c, const char *address, const char *want)
{
	char got[1000] = "";
	struct addr a;
	struct status st;
	assert_int_equal(addr_parse(slice_of(address), &a), 0);
	if (alias_walk(c, &a, nobody_knows, note, got, &st) < 0)
		snprintf(got, sizeof(got), "%d", st.code);
	assert_string_equal(got, want);
}

static const char at_localhost[] = "hostname: 'mx.test' data_dir: 'data' system_aliases: true";
static const char at_host[] = "hostname: 'Host.test' data_dir: 'data' system_aliases: true";

static void test_for_localhost(void **state)
{
	(void)state;
	write_file(ALIAS_SYSTEM_FILE, "root: ann@x.test\n");
	struct conf *c = load("hostname: 'mx.test' data_dir: 'data'");
	expect(c, "root@localhost", "550");
	conf_free(c);
	c = load(at_localhost);
	expect(c, "root@localhost", "ann@x.test");
	assert_int_equal(conf_refresh(c), 0);

	/* Other domains come and go, and localhost gets a directory of its own. */
	shell("mkdir -p domains/other.test");
	conf_refresh(c);
	expect(c, "root@localhost", "ann@x.test");
	expect(c, "root@other.test", "550");
	shell("mkdir -p domains/localhost");
	write_file("domains/localhost/aliases", "own: bob@x.test\n");
	conf_refresh(c);
	expect(c, "root@localhost", "ann@x.test");
	expect(c, "own@localhost", "bob@x.test");
	shell("rm -r domains");
	conf_refresh(c);
	expect(c, "root@localhost", "ann@x.test");
	expect(c, "own@localhost", "550");
	conf_free(c);
}

static void test_for_the_hostname(void **state)
{
	(void)state;
	write_file(ALIAS_SYSTEM_FILE, "root: ann@x.test\npostmaster: root\nown: system@x.test\n");
	shell("mkdir -p domains/HOST.test domains/other.test");
	write_file("domains/HOST.test/aliases", "own: bob@x.test\n*: all@x.test\n");
	struct conf *c = load(at_host);
	expect(c, "postmaster@host.test", "ann@x.test");
	/* The domain's own file wins, but its catch-all comes last. */
	expect(c, "own@host.test", "bob@x.test");
	expect(c, "root@host.test", "ann@x.test");
	expect(c, "else@host.test", "all@x.test");
	expect(c, "root@other.test", "550");
	expect(c, "root@localhost", "550");

	/* When the hostname is no domain of ours any more, localhost has them. */
	shell("rm -r domains/HOST.test");
	conf_refresh(c);
	expect(c, "root@localhost", "ann@x.test");
	shell("mkdir domains/host.test");
	conf_refresh(c);
	expect(c, "root@localhost", "550");
	expect(c, "root@host.test", "ann@x.test");
	conf_free(c);
	shell("rm -r domains");
}

static void test_changes(void **state)
{
	(void)state;
	write_file(ALIAS_SYSTEM_FILE, "root: ann@x.test\n");
	struct conf *c = load(at_localhost);
	write_file(ALIAS_SYSTEM_FILE, "root: bob@x.test\n# longer\n");
	assert_int_equal(conf_refresh(c), 1);
	expect(c, "root@localhost", "bob@x.test");
	int before = logged("system-aliases:2: no ':'");
	write_file(ALIAS_SYSTEM_FILE, "root: eve@x.test\nnot an aliases file\n");
	assert_int_equal(conf_refresh(c), 0);
	assert_int_equal(conf_refresh(c), 0);
	assert_int_equal(c->refused, 1);
	assert_int_equal(logged("system-aliases:2: no ':'"), before + 1);
	expect(c, "root@localhost", "bob@x.test");
	shell("rm " ALIAS_SYSTEM_FILE);
	assert_int_equal(conf_refresh(c), 1);
	expect(c, "root@localhost", "550");
	conf_free(c);

	/* At start it is an error, as in files of our own; later mail waits. */
	write_file(ALIAS_SYSTEM_FILE, "broken\n");
	assert_null(load(at_localhost));
	shell("mkdir -p domains/host.test; rm " ALIAS_SYSTEM_FILE);
	c = load(at_host);
	write_file(ALIAS_SYSTEM_FILE, "broken\n");
	shell("rm -r domains");
	conf_refresh(c);
	expect(c, "root@localhost", "451");
	conf_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_for_localhost),
	    cmocka_unit_test(test_for_the_hostname),
	    cmocka_unit_test(test_changes),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
