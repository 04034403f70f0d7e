/*
 * sandbox: what the process gives up once it runs, and with it all that it starts.
 *
 * A hole in the parser of a network protocol, or in a content filter that a hook runs, is to meet
 * a process that can do little more than mail: no new privileges, no calls that administer the
 * machine, no files but those it needs, and no look into the memory of the server for a program
 * that it has started. Each measure stands alone; a system without one of them runs with the
 * others, and sandbox_text tells the operator what is in force.
 *
 * None of this can be taken back, so whoever wants more reach restarts.
 */
#include "sandbox.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include "config.h"
#include "sandbox_int.h"

/* The text in two parts: what is, and what is not. */
struct account {
	char in_force[128], missing[3 * SANDBOX_WHY];
};

static struct {
	struct sandbox_plan plan; /* in force when confined */
	bool confined, filtered, filter_tried;
	char filter_why[SANDBOX_WHY];
	char text[sizeof(struct account) + 16];
} S;

/* ---- the plan ---- */

/* Is path the directory, or below it? */
static bool plan_is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);
	if (strncmp(path, dir, n) != 0)
		return false;
	return !path[n] || path[n] == '/' || (n > 0 && dir[n - 1] == '/');
}

static bool plan_has(const struct sandbox_plan *plan, const char *real, enum sandbox_right right)
{
	for (size_t i = 0; i < plan->count; i++)
		if (plan->item[i].right >= right && plan_is_below(real, plan->item[i].path))
			return true;
	return false;
}

int sandbox_plan_add(struct sandbox_plan *plan, const char *path, enum sandbox_right right)
{
	char real[PATH_MAX];
	if (!realpath(path, real))
		return -1;
	if (plan_has(plan, real, right))
		return 0;
	if (plan->count == SANDBOX_PATHS_MAX) {
		errno = E2BIG;
		return -1;
	}
	struct sandbox_path *item = realloc(plan->item, (plan->count + 1) * sizeof(*item));
	if (!item)
		return -1;
	plan->item = item;
	item[plan->count] = (struct sandbox_path){strdup(real), right};
	if (!item[plan->count].path)
		return -1;
	plan->count++;
	return 0;
}

/* Resolves the part of the path that is there. 0, or -1: none is. */
static int plan_resolve(const char *path, char real[PATH_MAX])
{
	char part[PATH_MAX];
	size_t n = strlen(path);
	if (n >= sizeof(part))
		return -1;
	memcpy(part, path, n + 1);
	while (!realpath(*part ? part : ".", real)) {
		char *slash = strrchr(part, '/');
		if (!*part || strcmp(part, "/") == 0)
			return -1;
		if (!slash)
			*part = '\0';
		else
			slash[slash == part] = '\0';
	}
	return 0;
}

bool sandbox_plan_covers(const struct sandbox_plan *plan, const char *path,
                         enum sandbox_right right)
{
	char real[PATH_MAX];
	return plan_resolve(path, real) == 0 && plan_has(plan, real, right);
}

void sandbox_plan_clear(struct sandbox_plan *plan)
{
	while (plan->count > 0)
		free(plan->item[--plan->count].path);
	free(plan->item);
	*plan = (struct sandbox_plan){NULL, 0};
}

bool sandbox_allows(const char *path, enum sandbox_right right)
{
	return !WITH_SANDBOX || !S.confined || sandbox_plan_covers(&S.plan, path, right);
}

const char *sandbox_reason(int error, const char *path, enum sandbox_right right)
{
	if (error != EACCES || sandbox_allows(path, right))
		return strerror(error);
	return right == SANDBOX_WRITE
	           ? "the sandbox does not let it be written (see sandbox_writable)"
	           : "the sandbox does not let it be read (see sandbox_readable)";
}

/* ---- what every system has ---- */

/* Keys, passwords and mail are in our memory: no file may get it, and no program of our own user,
 * which every hook and pipe is. */
static int close_memory(char *err, size_t err_size)
{
	struct rlimit none = {0, 0};
	const char *what = "RLIMIT_CORE";
	int rc = setrlimit(RLIMIT_CORE, &none);
#if defined(__linux__)
	if (rc == 0 && !SANDBOX_DEBUG) {
		what = "PR_SET_DUMPABLE";
		rc = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	}
#endif
	if (rc)
		snprintf(err, err_size, "sandbox: %s: %s", what, strerror(errno));
	return rc;
}

static enum sandbox_result set_no_new_privs(char *why)
{
#if defined(__linux__)
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		return SANDBOX_DONE;
	snprintf(why, SANDBOX_WHY, "%s", strerror(errno));
	return errno == EINVAL ? SANDBOX_MISSING : SANDBOX_FAILED;
#else
	snprintf(why, SANDBOX_WHY, "this system has none");
	return SANDBOX_MISSING;
#endif
}

/* ---- entering ---- */

static void note(char *to, size_t size, const char *between, const char *what, const char *why)
{
	size_t n = strlen(to);
	snprintf(to + n, size - n, "%s%s%s%s%s", n > 0 ? between : "", what, why ? " (" : "",
	         why ? why : "", why ? ")" : "");
}

static void account_for(struct account *a, enum sandbox_result result, const char *what,
                        const char *why)
{
	if (result == SANDBOX_DONE)
		note(a->in_force, sizeof(a->in_force), ", ", what, NULL);
	else
		note(a->missing, sizeof(a->missing), ", ", what, why);
}

int sandbox_filter(char *err, size_t err_size)
{
	enum sandbox_result result = sandbox_seccomp(S.filter_why);
	S.filter_tried = true;
	S.filtered = result == SANDBOX_DONE;
	if (result != SANDBOX_FAILED)
		return 0;
	snprintf(err, err_size, "sandbox: seccomp: %s", S.filter_why);
	return -1;
}

static int enter_disk(const struct sandbox_setup *s, struct account *a, char *err, size_t err_size)
{
	char why[SANDBOX_WHY] = "", what[32] = "Landlock";
	int version = 0;
	enum sandbox_result result = SANDBOX_MISSING;
	if (!WITH_SANDBOX || !s->plan)
		snprintf(why, sizeof(why), "%s", s->why_not);
	else
		result = sandbox_landlock(s->plan, &version, why);
	if (result == SANDBOX_FAILED) {
		snprintf(err, err_size, "sandbox: Landlock: %s", why);
		return -1;
	}
	if (result == SANDBOX_DONE) {
		snprintf(what, sizeof(what), "Landlock %d", version);
		S.confined = true;
	}
	account_for(a, result, what, why);
	return 0;
}

/* The measures of Linux, those that others need first. */
static int enter_linux(const struct sandbox_setup *s, struct account *a, char *err, size_t err_size)
{
	char why[SANDBOX_WHY] = "";
	enum sandbox_result result = SANDBOX_MISSING;
	if (WITH_SANDBOX && s->no_new_privs)
		result = set_no_new_privs(why);
	else
		snprintf(why, sizeof(why), "%s", s->why_not);
	if (result == SANDBOX_FAILED) {
		snprintf(err, err_size, "sandbox: no_new_privs: %s", why);
		return -1;
	}
	account_for(a, result, "no_new_privs", why);
	if (enter_disk(s, a, err, err_size))
		return -1;
	if (WITH_SANDBOX && s->filter && !S.filter_tried && sandbox_filter(err, err_size))
		return -1;
	account_for(a, S.filtered ? SANDBOX_DONE : SANDBOX_MISSING, "seccomp",
	            S.filter_tried ? S.filter_why : s->why_not);
	return 0;
}

int sandbox_enter(const struct sandbox_setup *s, char *err, size_t err_size)
{
	struct account a = {"", ""};
	char why[SANDBOX_WHY] = "";
	if (close_memory(err, err_size))
		return -1;
	account_for(&a, SANDBOX_DONE, SANDBOX_DEBUG ? "no core" : "no core, memory closed", NULL);
	enum sandbox_result openbsd = sandbox_openbsd(s, why);
	if (openbsd == SANDBOX_FAILED) {
		snprintf(err, err_size, "sandbox: %s", why);
		return -1;
	}
	if (openbsd == SANDBOX_DONE) {
		account_for(&a, SANDBOX_DONE, s->plan ? "pledge, unveil" : "pledge", NULL);
		S.confined = s->plan != NULL;
	} else if (enter_linux(s, &a, err, err_size)) {
		return -1;
	}
	if (WITH_SANDBOX && S.confined && s->plan) {
		S.plan = *s->plan;
		*s->plan = (struct sandbox_plan){NULL, 0};
	}
	snprintf(S.text, sizeof(S.text), "%s%s%s", a.in_force, *a.missing ? "; not: " : "",
	         a.missing);
	return 0;
}

const char *sandbox_text(void)
{
	return *S.text ? S.text : "none";
}
