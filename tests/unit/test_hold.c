/* hold: a list that outlives restarts, crashes and damage. */
#include "hold.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cmocka.h>

#include "addr.h"
#include "disk.h"
#include "log.h"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];
static struct hold *h;
static struct status st;
static bool disk_is_full;

ssize_t write(int fd, const void *p, size_t n)
{
	struct stat s;
	if (disk_is_full && fstat(fd, &s) == 0 && S_ISREG(s.st_mode)) {
		errno = ENOSPC;
		return -1;
	}
	return (ssize_t)syscall(SYS_write, fd, p, n);
}

static void reopen(void)
{
	hold_close(h);
	h = hold_open(dir, &st);
	assert_non_null(h);
}

static int set_up(void **state)
{
	(void)state;
	log_to(-1);
	disk_is_full = false;
	h = NULL;
	if (temp_dir_make(dir, sizeof dir))
		return -1;
	reopen();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	disk_is_full = false;
	hold_close(h);
	h = NULL;
	return temp_dir_remove();
}

static const char *path_of(const char *name)
{
	static char path[100];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return path;
}

static void put_file(const char *p, size_t n)
{
	int fd = open(path_of("held"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(disk_write(fd, p, n), 0);
	close(fd);
}

static bool exists(const char *name)
{
	struct stat s;
	return lstat(path_of(name), &s) == 0;
}

static void expect(const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		assert_non_null(hold_nth(h, i));
		assert_string_equal(hold_nth(h, i), names[i]);
		assert_true(hold_has(h, names[i]));
	}
	assert_null(hold_nth(h, count));
}

static void test_add_and_remove(void **state)
{
	static const char *const all[] = {"0PBcAAAAAAA", "[IPv6:2001:db8::1]", "b\"\\.test",
	                                  "far.test", "m\xc3\xbcller.test"};
	(void)state;
	assert_null(hold_nth(h, 0));
	assert_false(exists("held"));
	for (size_t i = 5; i-- > 0;)
		assert_int_equal(hold_add(h, all[i], &st), 0);
	assert_int_equal(hold_add(h, all[2], &st), 0);
	expect(all, 5);
	reopen();
	expect(all, 5);
	assert_false(hold_has(h, "far.tes"));
	assert_false(hold_has(h, ""));
	assert_int_equal(hold_remove(h, "other.test", &st), -1);
	assert_int_equal(st.code, 550);
	assert_int_equal(hold_remove(h, all[0], &st), 0);
	expect(all + 1, 4);
	reopen();
	expect(all + 1, 4);
	for (size_t i = 1; i < 5; i++)
		assert_int_equal(hold_remove(h, all[i], &st), 0);
	reopen();
	expect(NULL, 0);
	assert_false(exists("held.damaged"));
}

static void test_bounds(void **state)
{
	char name[300];
	static const char *const bad[] = {"", "a b", "a\n", "\x7f", "\xff.test"};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(hold_add(h, bad[i], &st), -1);
	memset(name, 'x', sizeof name);
	name[ADDR_DOMAIN_MAX + 1] = '\0';
	assert_int_equal(hold_add(h, name, &st), -1);
	/* The longest names, as many as there may be, are read back. */
	name[ADDR_DOMAIN_MAX] = '\0';
	for (int i = 0; i < HOLD_MAX; i++) {
		snprintf(name, 10, "%09d", HOLD_MAX - i);
		name[9] = 'x';
		assert_int_equal(hold_add(h, name, &st), 0);
	}
	assert_int_equal(hold_add(h, name, &st), 0); /* is there */
	assert_int_equal(hold_add(h, "far.test", &st), -1);
	assert_int_equal(status_class(&st), STATUS_TRANSIENT);
	reopen();
	assert_non_null(hold_nth(h, HOLD_MAX - 1));
	assert_null(hold_nth(h, HOLD_MAX));
}

static void test_full_disk(void **state)
{
	static const char *const two[] = {"a.test", "b.test"};
	(void)state;
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(hold_add(h, two[i], &st), 0);
	disk_is_full = true;
	assert_int_equal(hold_add(h, "c.test", &st), -1);
	assert_int_equal(status_class(&st), STATUS_TRANSIENT);
	assert_int_equal(hold_remove(h, "a.test", &st), -1);
	assert_int_equal(status_class(&st), STATUS_TRANSIENT);
	expect(two, 2);
	disk_is_full = false;
	reopen();
	expect(two, 2);
}

/* Damage holds nothing, stops nothing, and can be looked at. */
static void test_damage(void **state)
{
	static const char *const bad[] = {"held: \"a.test",
	                                  "held: 1",
	                                  "hold: \"a.test\"",
	                                  "\xff",
	                                  "held: \"a.test\" held: \"\"",
	                                  "held: \"a.test\" held: \"b c\"",
	                                  "held: \"a.test\" held: \"b\\n\""};
	char *big = malloc(1 << 20);
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		put_file(bad[i], strlen(bad[i]));
		reopen();
		expect(NULL, 0);
		assert_false(exists("held"));
		assert_true(exists("held.damaged"));
		unlink(path_of("held.damaged"));
	}
	assert_non_null(big);
	memset(big, '\n', 1 << 20);
	put_file(big, 1 << 20);
	free(big);
	reopen();
	assert_true(exists("held.damaged"));
	/* What is no file at all is moved aside too. */
	unlink(path_of("held.damaged"));
	assert_int_equal(mkdir(path_of("held"), 0700), 0);
	reopen();
	assert_false(exists("held"));
	rmdir(path_of("held.damaged"));
	assert_int_equal(symlink("/etc/passwd", path_of("held")), 0);
	reopen();
	assert_false(exists("held"));
	assert_int_equal(mkfifo(path_of("held"), 0600), 0);
	reopen();
	assert_false(exists("held"));
	assert_int_equal(hold_add(h, "a.test", &st), 0);
	/* Every beginning of a good file is good or set aside. */
	static const char good[] = "held: \"a.test\"\nheld: \"b.test\"\n";
	for (size_t n = 0; n < sizeof good; n++) {
		put_file(good, n);
		reopen();
		assert_true(!hold_nth(h, 0) || hold_has(h, "a.test"));
	}
}

/* By hand: any order, doubles, comments. */
static void test_by_hand(void **state)
{
	static const char text[] = "# while the disk is replaced\nheld: ['b.test', \"a.test\"]\n"
	                           "held: \"b.test\"";
	static const char *const two[] = {"a.test", "b.test"};
	(void)state;
	put_file(text, sizeof text - 1);
	reopen();
	expect(two, 2);
	assert_int_equal(hold_remove(h, "b.test", &st), 0);
	reopen();
	expect(two, 1);
}

static void test_no_directory(void **state)
{
	(void)state;
	assert_null(hold_open("/nonexistent/here", &st));
	assert_int_equal(status_class(&st), STATUS_TRANSIENT);
	hold_close(NULL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {T(test_add_and_remove), T(test_bounds),
	                                   T(test_full_disk),      T(test_damage),
	                                   T(test_by_hand),        T(test_no_directory)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
