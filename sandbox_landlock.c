/*
 * sandbox_landlock: keeps the process and its children to some parts of the disk, with the kernel's
 * Landlock, by raw system calls: C libraries have no functions for them, and many toolchains no
 * header. All constants are our own.
 *
 * A rule belongs to the file or directory that is there when it is made, so what is to be replaced
 * later is reached through the directory above it. Files that are open stay so; sockets, pipes and
 * connections are no matter of Landlock's file rules.
 *
 * Versions: 2 (Linux 5.19) is the least that serves, as the first forbids all renaming between
 * directories, and a Maildir lives by that; 3 adds truncation, 5 control of devices; 6 signals and
 * abstract sockets. The network stays open: a mail server connects to whom it likes, and a
 * reload may open a door anywhere. What later versions add is not ours to forbid.
 */
#include "sandbox_int.h"

#if defined(__linux__)

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In the common numbering. */
enum { CALL_CREATE_RULESET = 444, CALL_ADD_RULE = 445, CALL_RESTRICT_SELF = 446 };
enum { CREATE_VERSION = 1, RULE_PATH_BENEATH = 1 };
enum { VERSION_LEAST = 2, VERSION_TRUNCATE = 3, VERSION_IOCTL_DEV = 5, VERSION_SCOPE = 6 };

enum {
	FS_EXECUTE = 1 << 0,
	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_REMOVE_DIR = 1 << 4,
	FS_REMOVE_FILE = 1 << 5,
	FS_MAKE_CHAR = 1 << 6,
	FS_MAKE_DIR = 1 << 7,
	FS_MAKE_REG = 1 << 8,
	FS_MAKE_SOCK = 1 << 9,
	FS_MAKE_FIFO = 1 << 10,
	FS_MAKE_BLOCK = 1 << 11,
	FS_MAKE_SYM = 1 << 12,
	FS_REFER = 1 << 13,
	FS_TRUNCATE = 1 << 14,
	FS_IOCTL_DEV = 1 << 15,

	FS_ALL = (1 << 16) - 1,
	FS_OF_READ = FS_EXECUTE | FS_READ_FILE | FS_READ_DIR,
	/* Devices are nobody's to make or to control. */
	FS_OF_WRITE = FS_ALL & ~(FS_MAKE_CHAR | FS_MAKE_BLOCK | FS_IOCTL_DEV),
	/* What a rule for a file may name. */
	FS_OF_FILE = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
};
enum { SCOPE_ABSTRACT_UNIX = 1 << 0, SCOPE_SIGNAL = 1 << 1 };

/* The kernel takes a longer one than it knows if the rest is 0. */
struct landlock_ruleset {
	uint64_t fs, net, scoped;
};
struct landlock_path {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

static uint32_t rights_handled(int version)
{
	uint32_t all = FS_ALL;
	if (version < VERSION_IOCTL_DEV)
		all &= ~(uint32_t)FS_IOCTL_DEV;
	if (version < VERSION_TRUNCATE)
		all &= ~(uint32_t)FS_TRUNCATE;
	return all;
}

/* Returns 0, or an errno. */
static int add_path(int ruleset, const struct sandbox_path *p, uint32_t handled)
{
	struct stat st;
	int fd = open(p->path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : errno; /* it went meanwhile */
	int rc = fstat(fd, &st);
	if (rc == 0) {
		uint32_t rights = p->right == SANDBOX_WRITE ? FS_OF_WRITE : FS_OF_READ;
		if (!S_ISDIR(st.st_mode))
			rights &= FS_OF_FILE;
		struct landlock_path rule = {.allowed = rights & handled, .parent_fd = fd};
		rc =
		    (int)syscall(sandbox_call(CALL_ADD_RULE), ruleset, RULE_PATH_BENEATH, &rule, 0);
	}
	int e = rc ? errno : 0;
	close(fd);
	return e;
}

static enum sandbox_result fail(char *why, const char *what, int error)
{
	snprintf(why, SANDBOX_WHY, "%.100s: %s", what, strerror(error));
	return SANDBOX_FAILED;
}

static enum sandbox_result restrict_to(const struct sandbox_plan *plan, int ruleset,
                                       uint32_t handled, char *why)
{
	for (size_t i = 0; i < plan->count; i++) {
		int e = add_path(ruleset, &plan->item[i], handled);
		if (e)
			return fail(why, plan->item[i].path, e);
	}
	if (syscall(sandbox_call(CALL_RESTRICT_SELF), ruleset, 0) == 0)
		return SANDBOX_DONE;
	if (errno != E2BIG && errno != EPERM)
		return fail(why, "restrict_self", errno);
	/* Too many of them around us, or a filter of somebody else's does not let us. */
	snprintf(why, SANDBOX_WHY, "%s", strerror(errno));
	return SANDBOX_MISSING;
}

enum sandbox_result sandbox_landlock(const struct sandbox_plan *plan, int *version, char *why)
{
	long create = sandbox_call(CALL_CREATE_RULESET);
	*version = (int)syscall(create, NULL, 0, CREATE_VERSION);
	if (*version < 0) {
		/* ENOSYS: built without; EOPNOTSUPP: switched off; EPERM: a filter around us. */
		snprintf(why, SANDBOX_WHY, "%s",
		         errno == EPERM ? "a filter forbids it" : "the kernel has none");
		return SANDBOX_MISSING;
	}
	if (*version < VERSION_LEAST) {
		snprintf(why, SANDBOX_WHY, "the kernel's is too old");
		return SANDBOX_MISSING;
	}
	uint32_t handled = rights_handled(*version);
	struct landlock_ruleset attr = {.fs = handled};
	if (*version >= VERSION_SCOPE)
		attr.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
	int ruleset = (int)syscall(create, &attr, sizeof(attr), 0);
	if (ruleset < 0)
		return fail(why, "create_ruleset", errno);
	enum sandbox_result result = restrict_to(plan, ruleset, handled, why);
	close(ruleset);
	return result;
}

#else

#include <stdio.h>

enum sandbox_result sandbox_landlock(const struct sandbox_plan *plan, int *version, char *why)
{
	(void)plan;
	*version = 0;
	snprintf(why, SANDBOX_WHY, "this system has none");
	return SANDBOX_MISSING;
}

#endif
