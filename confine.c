/*
 * confine: which parts of the disk the configuration needs, and entering the sandbox with them.
 *
 * Whatever a reload reads may have been replaced by then, so it is the directory around a file that
 * stays in reach, not the file: for the configuration the one above its own directory, which
 * OpenWrt's init script replaces as a whole. Links in the configuration (certs into the directory
 * of an ACME client) are followed now; where a later one leads out of reach, a reload says so.
 *
 * Programs of pipe aliases and hooks run under the same rules. They find the system, /tmp, and what
 * sandbox_readable and sandbox_writable name. A delivery agent is another matter: it may be setuid
 * and writes to the homes of users, so where one is set there is neither no_new_privs nor Landlock.
 */
#include "confine.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "disk.h"
#include "log.h"
#include "sandbox.h"

/* Programs, libraries, their data and settings, on every system that we know; state of the running
 * system. Homes, mail, web sites, other servers' data and mounted disks are not among them. */
static const char *const readable[] = {"/bin",
                                       "/dev",
                                       "/etc",
                                       "/gnu",
                                       "/lib",
                                       "/lib32",
                                       "/lib64",
                                       "/libexec",
                                       "/nix",
                                       "/opt",
                                       "/proc",
                                       "/rom",
                                       "/run",
                                       "/sbin",
                                       "/sys",
                                       "/usr",
                                       "/var/lib/ca-certificates",
                                       "/var/run"};
static const char *const writable[] = {"/tmp",      "/var/tmp",    "/dev/shm",
                                       "/dev/null", "/dev/zero",   "/dev/full",
                                       "/dev/tty",  "/dev/random", "/dev/urandom"};

/* What of the configuration directory is looked through for links; files in it are, too. */
static const char *const config_dirs[] = {CHASQ_CERTS_DIR, "domains", HOOK_DIR};

/* Directories inside each other, links included. */
enum { WALK_DEPTH = 8 };

struct confine {
	struct sandbox_plan plan;
	size_t entries;             /* of the configuration that may still be looked at */
	struct conf_report *report; /* NULL: the plan is being made */
	bool no_memory, full;
};

/* ---- one path ---- */

static void add(struct confine *b, const char *path, enum sandbox_right right)
{
	if (sandbox_plan_add(&b->plan, path, right) == 0)
		return;
	if (errno == ENOMEM)
		b->no_memory = true;
	else if (errno == E2BIG)
		b->full = true;
}

/* Cuts the last part off; "/" and a name alone stay "/" and become ".". */
static void cut_name(char *path)
{
	char *slash = strrchr(path, '/');
	if (!slash)
		memcpy(path, ".", 2);
	else
		slash[slash == path] = '\0';
}

/* A file and, so that another can take its place, its directory. */
static void add_around(struct confine *b, const char *path, enum sandbox_right right)
{
	char real[PATH_MAX];
	struct stat st;
	if (!realpath(path, real) || stat(real, &st))
		return;
	add(b, real, right);
	if (S_ISDIR(st.st_mode))
		return;
	cut_name(real);
	if (S_ISREG(st.st_mode) && strcmp(real, "/") != 0)
		add(b, real, right);
}

/* ---- the configuration ---- */

static void walk(struct confine *b, const char *dir, int depth);

static void follow(struct confine *b, const char *path, int depth)
{
	char real[PATH_MAX];
	struct stat st;
	if (!realpath(path, real) || stat(real, &st))
		return;
	if (b->report) {
		if (!sandbox_allows(real, SANDBOX_READ))
			buf_printf(
			    &b->report->text,
			    "note: %s leads to %s: the sandbox does not let it be read before "
			    "a restart\n",
			    path, real);
		return;
	}
	add_around(b, real, SANDBOX_READ);
	if (S_ISDIR(st.st_mode))
		walk(b, real, depth + 1);
}

static bool is_walked(const char *name)
{
	for (size_t i = 0; i < sizeof(config_dirs) / sizeof(*config_dirs); i++)
		if (strcmp(name, config_dirs[i]) == 0)
			return true;
	return false;
}

static void walk_entry(struct confine *b, const char *dir, const char *name, int depth)
{
	char path[PATH_MAX];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (n < 0 || (size_t)n >= sizeof(path) || lstat(path, &st))
		return;
	if (S_ISLNK(st.st_mode))
		follow(b, path, depth);
	else if (S_ISDIR(st.st_mode) && (depth > 0 || is_walked(name)))
		walk(b, path, depth + 1);
}

/* Looks for links. */
static void walk(struct confine *b, const char *dir, int depth)
{
	DIR *d = depth < WALK_DEPTH ? opendir(dir) : NULL;
	if (!d)
		return;
	for (const struct dirent *e = readdir(d); e && b->entries > 0; e = readdir(d)) {
		b->entries--;
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			walk_entry(b, dir, e->d_name, depth);
	}
	closedir(d);
}

/* The directory above, unless that is the whole disk. */
static void add_config_dir(struct confine *b, const char *dir)
{
	char real[PATH_MAX];
	if (!realpath(dir, real))
		return;
	add(b, real, SANDBOX_READ);
	cut_name(real);
	if (strcmp(real, "/") != 0)
		add(b, real, SANDBOX_READ);
}

static void add_config(struct confine *b, const struct conf *c)
{
	char named[PATH_MAX];
	add_config_dir(b, ".");
	/* As it was named: a link may be what is replaced. */
	if (*c->dir == '/' && strlen(c->dir) < sizeof(named)) {
		memcpy(named, c->dir, strlen(c->dir) + 1);
		cut_name(named);
		if (strcmp(named, "/") != 0)
			add(b, named, SANDBOX_READ);
	}
	walk(b, ".", 0);
}

/* ---- keys ---- */

/* The part of `maildir` before what differs from user to user. */
static void maildir_root(const struct conf *c, char out[PATH_MAX])
{
	size_t n = strcspn(c->maildir, "%");
	snprintf(out, PATH_MAX, "%.*s", (int)(n < PATH_MAX ? n : PATH_MAX - 1), c->maildir);
	if (c->maildir[n])
		cut_name(out);
}

/* What is not there yet will be made, in the nearest directory that is. The whole disk is too much,
 * so there the first directory is made now. */
static void add_maildir(struct confine *b, const struct conf *c)
{
	char root[PATH_MAX], there[PATH_MAX];
	maildir_root(c, root);
	memcpy(there, root, sizeof(there));
	while (access(there, F_OK) && strcmp(there, "/") != 0 && strcmp(there, ".") != 0)
		cut_name(there);
	if (strcmp(there, "/") == 0 && !c->lmtp_address) {
		if (disk_make_dirs(root, 0700))
			log_error("-", "maildir is out of the sandbox's reach: make its directory",
			          LOG_S("path", root), LOG_S("error", strerror(errno)));
		memcpy(there, root, sizeof(there));
	}
	if (strcmp(there, "/") != 0)
		add(b, there, SANDBOX_WRITE);
}

static void add_log(struct confine *b, const char *path)
{
	if (path && *path && *path != '<')
		add_around(b, path, SANDBOX_WRITE);
}

static void add_list(struct confine *b, const char *key, const struct text_strings *list,
                     enum sandbox_right right)
{
	for (size_t i = 0; i < list->count; i++) {
		if (access(list->item[i], F_OK))
			log_error("-", "the sandbox cannot let a path through that is not there",
			          LOG_S("key", key), LOG_S("path", list->item[i]),
			          LOG_S("error", strerror(errno)));
		add(b, list->item[i], right);
	}
}

static void add_keys(struct confine *b, const struct conf *c)
{
	add(b, c->data_dir, SANDBOX_WRITE);
	add_maildir(b, c);
	add_log(b, c->log_path);
	add_log(b, c->mail_log_path);
	add_list(b, "sandbox_writable", &c->sandbox_writable, SANDBOX_WRITE);
	add_list(b, "sandbox_readable", &c->sandbox_readable, SANDBOX_READ);
	if (c->monitoring_password_file)
		add_around(b, c->monitoring_password_file, SANDBOX_READ);
	for (size_t i = 0; i < c->smarthosts.count; i++)
		if (c->smarthosts.item[i].password_file)
			add_around(b, c->smarthosts.item[i].password_file, SANDBOX_READ);
}

/* What libraries and modules look for by themselves. */
static void add_system(struct confine *b, const struct conf *c)
{
	const char *const roots[] = {c->tls_roots, getenv("SSL_CERT_FILE"), getenv("SSL_CERT_DIR"),
	                             TLS_ROOTS_FILE, TLS_ROOTS_DIR};
	for (size_t i = 0; i < sizeof(writable) / sizeof(*writable); i++)
		add(b, writable[i], SANDBOX_WRITE);
	for (size_t i = 0; i < sizeof(readable) / sizeof(*readable); i++)
		add(b, readable[i], SANDBOX_READ);
	for (size_t i = 0; i < sizeof(roots) / sizeof(*roots); i++)
		if (roots[i])
			add_around(b, roots[i], SANDBOX_READ);
	add_around(b, DNS_RESOLV_CONF, SANDBOX_READ);
	add_around(b, DNS_HOSTS, SANDBOX_READ);
}

/* ---- entering ---- */

static int make_plan(struct confine *b, const struct conf *c, char *err, size_t err_size)
{
	add_system(b, c);
	add_keys(b, c);
	add_config(b, c);
	if (b->no_memory)
		snprintf(err, err_size, "sandbox: out of memory");
	else if (b->full)
		snprintf(err, err_size,
		         "sandbox: links in the configuration lead to more than %d directories",
		         SANDBOX_PATHS_MAX);
	return b->no_memory || b->full ? -1 : 0;
}

int confine_as_root(const struct conf *c, char *err, size_t err_size)
{
	return WITH_SANDBOX && c->sandbox && c->mda_bin ? sandbox_filter(err, err_size) : 0;
}

int confine_enter(const struct conf *c, char *err, size_t err_size)
{
	struct confine b = {.entries = SANDBOX_ENTRIES_MAX};
	struct sandbox_setup setup = {
	    .no_new_privs = !c->mda_bin,
	    .filter = c->sandbox && (!c->mda_bin || geteuid() == 0),
	    .why_not = !WITH_SANDBOX ? "WITH_SANDBOX 0"
	               : c->sandbox  ? "mail_delivery_agent_bin"
	                             : "sandbox: false",
	};
	int rc = 0;
	if (WITH_SANDBOX && c->sandbox && !c->mda_bin) {
		rc = make_plan(&b, c, err, err_size);
		setup.plan = &b.plan;
	}
	if (rc == 0)
		rc = sandbox_enter(&setup, err, err_size);
	sandbox_plan_clear(&b.plan);
	return rc;
}

/* ---- a reload ---- */

static void check_key(struct conf *c, struct conf_report *r, const char *key, const char *path,
                      enum sandbox_right right)
{
	char why[PATH_MAX + 80];
	if (!path || !conf_reload_changed(c, r, key) || sandbox_allows(path, right))
		return;
	snprintf(why, sizeof(why), "the sandbox does not let %s be %s; restart to change it", path,
	         right == SANDBOX_WRITE ? "written" : "read");
	conf_reload_refuse(c, r, key, why);
}

void confine_check(struct conf *c, struct conf_report *report)
{
	struct confine b = {.entries = SANDBOX_ENTRIES_MAX, .report = report};
	char root[PATH_MAX];
	if (!WITH_SANDBOX)
		return;
	maildir_root(c, root);
	check_key(c, report, "maildir", root, SANDBOX_WRITE);
	check_key(c, report, "tls_roots", c->tls_roots, SANDBOX_READ);
	if (c->log_path && *c->log_path != '<')
		check_key(c, report, "log_path", c->log_path, SANDBOX_WRITE);
	if (*c->mail_log_path && *c->mail_log_path != '<')
		check_key(c, report, "mail_log_path", c->mail_log_path, SANDBOX_WRITE);
	check_key(c, report, "monitoring_password_file", c->monitoring_password_file, SANDBOX_READ);
	walk(&b, ".", 0);
}
