/* priv: giving up root for good. */
#ifndef PRIV_H
#define PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A user to become. */
struct priv_user {
	uid_t uid;
	gid_t gid; /* its group in passwd */
};

/* Looks the user up. 0; or -1 with a text in err, also for one that is root. */
int priv_find(const char *name, struct priv_user *user, char *err, size_t err_size);

/* Makes a directory for the user, mode 0711, as everybody on the machine comes to the control
 * socket in it, unless something is there: that is never touched. 0, or -1 with errno. */
int priv_make_dir(const char *path, const struct priv_user *user);

/* Gives the user a file that root has made. What is no regular file (a device, a link, a FIFO)
 * stays as it is; one with a second name is refused. 0, or -1 with errno. */
int priv_give_file(const char *path, const struct priv_user *user);

/*
 * Becomes the user, with its own group and no other, without capabilities, and checks that there is
 * no way back. no_new_privs: neither this process nor its children gain rights by running a setuid
 * program. 0, or -1 with a text in err: the process must then end.
 */
int priv_drop(const struct priv_user *user, bool no_new_privs, char *err, size_t err_size);

/* May this process read, write and enter the directory? One that is not there counts as good. 0, or
 * -1 with errno. */
int priv_can_use(const char *path);

#endif
