/* temp_dir: a directory of its own for a unit test or a fuzz target, one at a time. It goes when
 * the test says so, and at the end of the program, however that failed; what one leaves that was
 * killed goes with the TMPDIR that tests/check.sh and tests/fuzz.sh make for it. */
#ifndef TEMP_DIR_H
#define TEMP_DIR_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__linux__)
#include <sched.h>
#include <sys/mount.h>
#endif

#define TEMP_DIR_MAX 48

static struct {
	char path[TEMP_DIR_MAX];         /* "": there is none */
	char mounted[TEMP_DIR_MAX + 16]; /* "": nothing */
	pid_t owner;                     /* a child that ends removes nothing */
	bool at_exit;
} temp_dir_made;

static inline void temp_dir_unmount(void)
{
#if defined(__linux__)
	if (*temp_dir_made.mounted)
		umount2(temp_dir_made.mounted, MNT_DETACH);
#endif
	*temp_dir_made.mounted = '\0';
}

/* Mounts a file system in memory with these options at a directory in it, which goes with the
 * program at the latest. False where that is not allowed. */
static inline bool temp_dir_mount(const char *name, const char *options)
{
#if defined(__linux__)
	char path[sizeof temp_dir_made.mounted];
	snprintf(path, sizeof path, "%s/%s", temp_dir_made.path, name);
	if (unshare(CLONE_NEWNS) || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", path, "tmpfs", 0, options))
		return false;
	memcpy(temp_dir_made.mounted, path, sizeof path);
	return true;
#else
	(void)name, (void)options;
	return false;
#endif
}

/* With all that is in it. Returns 0, or -1 when it is still there. */
static inline int temp_dir_remove(void)
{
	char command[TEMP_DIR_MAX + 16];
	if (!*temp_dir_made.path || temp_dir_made.owner != getpid())
		return 0;
	temp_dir_unmount();
	snprintf(command, sizeof command, "rm -rf '%s'", temp_dir_made.path);
	*temp_dir_made.path = '\0';
	return system(command) ? -1 : 0; /* NOLINT(cert-env33-c) */
}

static inline void temp_dir_remove_at_exit(void)
{
	temp_dir_remove();
}

/* Whether a program may be run from there; a container's memory is often closed to that. */
static inline bool temp_dir_may_run(const char *dir)
{
	char path[TEMP_DIR_MAX + 8];
	snprintf(path, sizeof path, "%s/run", dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	if (fd < 0)
		return false;
	close(fd);
	bool may = access(path, X_OK) == 0;
	unlink(path);
	return may;
}

/* Makes one: in $TMPDIR unless that is long (a socket's path is short), in memory, or in /tmp.
 * Returns 0 with its path in dir, or -1. */
static inline int temp_dir_make(char *dir, size_t size)
{
	const char *const places[] = {getenv("TMPDIR"), "/dev/shm", "/tmp"};
	char path[TEMP_DIR_MAX];
	temp_dir_remove();
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		if (!places[i] || strlen(places[i]) > 28)
			continue;
		snprintf(path, sizeof path, "%.28s/chasq-test.XXXXXX", places[i]);
		if (!mkdtemp(path))
			continue;
		memcpy(temp_dir_made.path, path, sizeof path);
		temp_dir_made.owner = getpid();
		if (!temp_dir_made.at_exit && atexit(temp_dir_remove_at_exit))
			return -1;
		temp_dir_made.at_exit = true;
		if (temp_dir_may_run(path) && (size_t)snprintf(dir, size, "%s", path) < size)
			return 0;
		temp_dir_remove();
	}
	return -1;
}

/* Makes a file without a name there. Returns its descriptor, or -1 with errno. */
static inline int temp_dir_file(const char *dir)
{
	char path[TEMP_DIR_MAX + 20];
	snprintf(path, sizeof path, "%s/file-XXXXXX", dir);
	int fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

#endif
