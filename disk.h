/* disk: durable files: the group-commit barrier, atomic replacement, free space. */
#ifndef DISK_H
#define DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A wish to have a file, and the entry in its directory, durable. Embedded in its owner; both
 * descriptors stay the caller's and open until `done`. error is 0 or an errno.
 */
struct disk_sync {
	int fd;                    /* -1: only the directory */
	int dir_fd;                /* -1: only the file's content */
	bool data_only;            /* it was only written over: its size and place stay */
	bool here;                 /* not by the kernel: done comes before anything else happens */
	int (*prepare)(void *arg); /* NULL, or called just before the flush: 0, or an errno */
	void (*done)(void *arg, int error);
	void *arg;
	struct disk_sync *next;
	bool waiting;
	int error;
	int dir_error;
	unsigned number, dir_number; /* of the flushes the kernel makes */
};

/* Sets up the barrier; after loop_init. */
void disk_init(void);

/*
 * Group commit: notes the request; with others, each directory once, it is flushed at the end of a
 * turn by the loop, or from then on by the kernel. `done` runs when that has ended, from the loop;
 * never before this returns.
 */
void disk_sync(struct disk_sync *s);

/* Forgets a request that is waiting: done never comes. */
void disk_sync_cancel(struct disk_sync *s);

/* Flushes what is noted now, and runs the callbacks: for an orderly end. */
void disk_sync_now(void);

/* Has the kernel begin to write what the file holds, without waiting: a large one is then not all
 * to be written when it is flushed. Returns 0, or the errno of what could not be written. */
int disk_begin_flush(int fd);

/* The same, and waits until it is written. It may still be in the device's cache, and is not
 * durable. */
int disk_write_out(int fd);

/* Does syncfs say when something could not be written? */
bool disk_has_syncfs(void);

/* Writes all n bytes. Returns 0, or -1 with errno (ENOSPC for a write of nothing). */
int disk_write(int fd, const void *p, size_t n);

/*
 * Replaces dir/name with the given content, durably and in one step: a reader sees the old file or
 * the new one. Blocks for the flush: for small files that change rarely. Returns 0, or -1 with
 * errno and the old file in place; or the new one, when only the flush of the directory failed.
 */
int disk_replace(int dir_fd, const char *name, const void *p, size_t n, unsigned mode);

/* The same for a file that somebody else may own: owner, group and mode of the old file stay (-1
 * and EPERM when we may not give it them); a new one has `mode` and, if possible, the directory's
 * group. */
int disk_replace_kept(int dir_fd, const char *name, const void *p, size_t n, unsigned mode);

/* Makes a directory and those above it, durably. Returns 0 (also when it was there), or -1 with
 * errno (ENOTDIR when something else has the name). */
int disk_make_dirs(const char *path, unsigned mode);

/* Opens a directory for use as dir_fd. Returns it, or -1 with errno. */
int disk_open_dir(const char *path);

/*
 * Keeps a directory for this process alone, as long as the descriptor is open; waits up to `ms` for
 * who has it, as only a start may. Returns 0, also where the file system knows no locks, or -1 with
 * EWOULDBLOCK: somebody has it still.
 */
int disk_lock(int dir_fd, int ms);

/* Free space for us on the file system of the descriptor, in bytes; INT64_MAX when unknown. Also
 * says in *no_inodes when no new file can be made. */
int64_t disk_free(int fd, bool *no_inodes);

#endif
