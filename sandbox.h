/* sandbox: what the process gives up once it runs, and with it all that it starts. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

enum sandbox_right {
	SANDBOX_READ,  /* read and run what is there */
	SANDBOX_WRITE, /* and write, make, rename and remove */
};

/* A file, or a directory with all below it. */
struct sandbox_path {
	char *path; /* absolute, without links */
	enum sandbox_right right;
};

/* The parts of the disk that stay in reach; the rest is out of it. Zeroed when new. */
struct sandbox_plan {
	struct sandbox_path *item;
	size_t count;
};

/* Adds a path, links in it resolved; one that is covered already, or is not there, adds nothing. 0;
 * or -1 with errno: ENOENT and other reasons why it is not in reach now, ENOMEM, E2BIG past
 * SANDBOX_PATHS_MAX. */
int sandbox_plan_add(struct sandbox_plan *plan, const char *path, enum sandbox_right right);

/* Does the plan cover the path, or, where it is not there yet, the directory that is to hold it? */
bool sandbox_plan_covers(const struct sandbox_plan *plan, const char *path,
                         enum sandbox_right right);
void sandbox_plan_clear(struct sandbox_plan *plan);

/* What to give up. */
struct sandbox_setup {
	bool no_new_privs; /* setuid programs give no rights; Landlock needs it */
	bool filter;       /* system calls that no mail server needs */
	/* The caller's until it has been entered, then taken. NULL: the whole disk stays. */
	struct sandbox_plan *plan;
	const char *why_not; /* a literal: why one of them is left out, for sandbox_text */
};

/*
 * Takes the calls away that no mail server needs, from this process and its children, for ever.
 * Without no_new_privs it takes root (CAP_SYS_ADMIN), so whoever gives up root keeping new
 * privileges does it before. A kernel that cannot do it, or refuses, is no error: sandbox_text
 * tells. 0, or -1 with a text in err.
 */
int sandbox_filter(char *err, size_t err_size);

/* Enters the sandbox, for ever: no core, no look into our memory for others of our user, then what
 * the setup says. 0, also where the kernel has less to offer; or -1 with a text in err. */
int sandbox_enter(const struct sandbox_setup *setup, char *err, size_t err_size);

/* What is in force, a line: "no_new_privs, Landlock 7, ...; not: ...". Static. */
const char *sandbox_text(void);

/* May this path be used in the sandbox that is in force? Always, while there is none. Other
 * permissions are not looked at. */
bool sandbox_allows(const char *path, enum sandbox_right right);

/* strerror, but where it was the sandbox that denied access (EACCES), that, with the key to change.
 */
const char *sandbox_reason(int error, const char *path, enum sandbox_right right);

#endif
