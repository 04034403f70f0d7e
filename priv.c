/*
 * priv: giving up root for good.
 *
 * The order is what the kernel allows: groups, while still root; group; user; then what is left of
 * capabilities. Real, effective and saved IDs are all set, and each is looked at afterwards: system
 * calls that report success have been known not to do all of it (limits of processes, security
 * modules, user namespaces).
 */
#include "priv.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int priv_fail(char *err, size_t err_size, const char *what)
{
	snprintf(err, err_size, "giving up root: %s: %s", what, strerror(errno));
	return -1;
}

int priv_find(const char *name, struct priv_user *user, char *err, size_t err_size)
{
	errno = 0;
	const struct passwd *pw = getpwnam(name);
	if (!pw) {
		snprintf(err, err_size, "user: there is no user \"%s\"%s%s", name,
		         errno ? ": " : "", errno ? strerror(errno) : "");
		return -1;
	}
	if (pw->pw_uid == 0 || pw->pw_gid == 0) {
		snprintf(err, err_size, "user: \"%s\" is root, or in root's group", name);
		return -1;
	}
	*user = (struct priv_user){pw->pw_uid, pw->pw_gid};
	return 0;
}

int priv_make_dir(const char *path, const struct priv_user *user)
{
	if (mkdir(path, 0700))
		return errno == EEXIST ? 0 : -1;
	/* Not by name: where others may write, a link could have taken its place. */
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	/* Only now may others enter it, whatever the umask says. */
	int rc = fchown(fd, user->uid, user->gid) || fchmod(fd, 0711) ? -1 : 0;
	int saved = errno;
	close(fd);
	errno = saved;
	return rc;
}

int priv_give_file(const char *path, const struct priv_user *user)
{
	struct stat st;
	/* Not by name: the user may own the directory, and have put a link to another's file there.
	 */
	int fd = open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP || errno == ENXIO ? 0 : -1; /* /dev/stdout, a FIFO */
	int rc = fstat(fd, &st);
	if (rc == 0 && S_ISREG(st.st_mode)) {
		errno = EMLINK;
		rc = st.st_nlink > 1 ? -1 : fchown(fd, user->uid, user->gid);
	}
	int saved = errno;
	close(fd);
	errno = saved;
	return rc;
}

/* Empties all sets; whoever has no capability may do that, too. */
static int priv_drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct set[_LINUX_CAPABILITY_U32S_3];
	memset(set, 0, sizeof set);
	/* Kernels before 4.3 have no ambient set. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) && errno != EINVAL)
		return -1;
	if (syscall(SYS_capset, &head, set))
		return -1;
	memset(set, 0xff, sizeof set);
	if (syscall(SYS_capget, &head, set))
		return -1;
	for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		if (set[i].effective || set[i].permitted || set[i].inheritable) {
			errno = EPERM;
			return -1;
		}
	}
	return 0;
}

/* Is the process the user, in every way it can be asked, and can it not become root again? */
static bool priv_is(const struct priv_user *user)
{
	uid_t uid[3];
	gid_t gid[3];
	gid_t group;
	int groups = getgroups(1, &group);
	if (getresuid(&uid[0], &uid[1], &uid[2]) || getresgid(&gid[0], &gid[1], &gid[2]))
		return false;
	for (int i = 0; i < 3; i++)
		if (uid[i] != user->uid || gid[i] != user->gid)
			return false;
	return groups == 0 && setuid(0) && seteuid(0) && setgid(0) && setegid(0) &&
	       setgroups(0, NULL);
}

int priv_drop(const struct priv_user *user, bool no_new_privs, char *err, size_t err_size)
{
	if (setgroups(0, NULL))
		return priv_fail(err, err_size, "setgroups");
	if (setresgid(user->gid, user->gid, user->gid))
		return priv_fail(err, err_size, "setresgid");
	if (setresuid(user->uid, user->uid, user->uid))
		return priv_fail(err, err_size, "setresuid");
	if (priv_drop_capabilities())
		return priv_fail(err, err_size, "capabilities");
	if (no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return priv_fail(err, err_size, "no_new_privs");
	if (!priv_is(user)) {
		snprintf(err, err_size, "giving up root: the process could become root again");
		return -1;
	}
	return 0;
}

int priv_can_use(const char *path)
{
	if (access(path, R_OK | W_OK | X_OK) == 0 || errno == ENOENT)
		return 0;
	return -1;
}
