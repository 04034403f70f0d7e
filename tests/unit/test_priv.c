/* Unit tests of priv: in children, for there is no way back. Those that need root are skipped
 * without it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "priv.h"
#include "temp_dir.h"

static char err[256];

static void test_find(void **state)
{
	struct priv_user user;
	(void)state;
	assert_int_equal(priv_find("nobody", &user, err, sizeof err), 0);
	assert_true(user.uid != 0 && user.gid != 0);
	assert_int_equal(priv_find("root", &user, err, sizeof err), -1);
	assert_non_null(strstr(err, "\"root\" is root"));
	assert_int_equal(priv_find("no such user", &user, err, sizeof err), -1);
	assert_non_null(strstr(err, "there is no user"));
}

/* Runs a check in a child; its result is the exit status. */
static int in_child(int (*check)(const struct priv_user *), const struct priv_user *user)
{
	int status;
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(check(user));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int dropped(const struct priv_user *user)
{
	gid_t groups[3] = {1, 2, 3};
	char text[4096] = "";
	if (setgroups(3, groups) || priv_drop(user, true, err, sizeof err))
		return 1;
	if (getuid() != user->uid || getegid() != user->gid || getgroups(0, NULL) != 0)
		return 2;
	if (setuid(0) == 0 || setresuid(0, 0, 0) == 0 || setgid(0) == 0 || seteuid(0) == 0)
		return 3;
	FILE *f = fopen("/proc/self/status", "r");
	if (!f || fread(text, 1, sizeof text - 1, f) == 0)
		return 4;
	fclose(f);
	if (!strstr(text, "CapPrm:\t0000000000000000\n") ||
	    !strstr(text, "CapEff:\t0000000000000000\n") ||
	    !strstr(text, "CapInh:\t0000000000000000\n"))
		return 5;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 6;
	return access("/", W_OK) == 0 ? 7 : 0;
}

/* Without no_new_privs, and with capabilities that would survive. */
static int kept(const struct priv_user *user)
{
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || priv_drop(user, false, err, sizeof err))
		return 1;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 0)
		return 2;
	return setuid(0) == 0 || chown("/", 1, 1) == 0 ? 3 : 0;
}

/* Whoever is not root cannot, and is told so. */
static int twice(const struct priv_user *user)
{
	if (geteuid() == 0 && priv_drop(user, true, err, sizeof err))
		return 1;
	err[0] = '\0';
	return priv_drop(user, true, err, sizeof err) == -1 && strstr(err, "setgroups") ? 0 : 2;
}

static void test_drop(void **state)
{
	struct priv_user user;
	(void)state;
	assert_int_equal(priv_find("nobody", &user, err, sizeof err), 0);
	assert_int_equal(in_child(twice, &user), 0);
	if (geteuid() != 0)
		skip();
	assert_int_equal(in_child(dropped, &user), 0);
	assert_int_equal(in_child(kept, &user), 0);
}

static void test_dirs(void **state)
{
	char dir[TEMP_DIR_MAX];
	char path[64];
	struct priv_user user = {getuid(), getgid()};
	struct stat st;
	(void)state;
	if (geteuid() == 0)
		assert_int_equal(priv_find("nobody", &user, err, sizeof err), 0);
	assert_int_equal(temp_dir_make(dir, sizeof dir), 0);
	snprintf(path, sizeof path, "%s/data", dir);
	assert_int_equal(priv_can_use(path), 0);
	mode_t mask = umask(077);
	assert_int_equal(priv_make_dir(path, &user), 0);
	umask(mask);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, user.uid);
	assert_int_equal(st.st_mode & 07777, 0711);
	/* One that is there stays as it is. */
	assert_int_equal(chmod(path, 0751), 0);
	assert_int_equal(chown(path, getuid(), getgid()), 0);
	assert_int_equal(priv_make_dir(path, &user), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, getuid());
	assert_int_equal(st.st_mode & 07777, 0751);
	assert_int_equal(priv_can_use(path), 0);
	rmdir(path);
	snprintf(path, sizeof path, "%s/none/data", dir);
	assert_int_equal(priv_make_dir(path, &user), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(temp_dir_remove(), 0);
}

static void test_files(void **state)
{
	char dir[TEMP_DIR_MAX];
	struct priv_user user;
	struct stat st;
	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(priv_find("nobody", &user, err, sizeof err), 0);
	assert_int_equal(temp_dir_make(dir, sizeof dir), 0);
	assert_int_equal(chdir(dir), 0);
	close(open("log", O_CREAT | O_WRONLY, 0600));
	close(open("other", O_CREAT | O_WRONLY, 0600));
	assert_int_equal(priv_give_file("log", &user), 0);
	assert_int_equal(stat("log", &st), 0);
	assert_int_equal(st.st_uid, user.uid);
	/* Another's file by a second name, by a link, and the machine's devices stay theirs. */
	assert_int_equal(link("other", "hard"), 0);
	assert_int_equal(priv_give_file("hard", &user), -1);
	assert_int_equal(symlink("other", "soft"), 0);
	assert_int_equal(priv_give_file("soft", &user), 0);
	assert_int_equal(stat("other", &st), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(priv_give_file("fifo", &user), 0);
	int fd = open("fifo", O_RDONLY | O_NONBLOCK);
	assert_int_equal(priv_give_file("fifo", &user), 0);
	close(fd);
	assert_int_equal(stat("fifo", &st), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(priv_give_file("none", &user), -1);
	assert_int_equal(temp_dir_remove(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_find),
	    cmocka_unit_test(test_drop),
	    cmocka_unit_test(test_dirs),
	    cmocka_unit_test(test_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
