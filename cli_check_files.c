/*
 * cli_check_files: files and directories, who may read and write them, room on the disk, and the
 * server's certificates.
 *
 * Root looks at them as the user that the server becomes, with that one's effective rights, and
 * takes its own back afterwards. Paths are relative to the configuration directory, where conf_load
 * went.
 */
#include "cli_check_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"
#include "tls_report.h"

#define MB (1024 * 1024)

/* ---- rights ---- */

/* What is asked of a file. */
enum want {
	WANT_READ = 1 << 0,
	WANT_RUN = 1 << 1,
	WANT_WRITE = 1 << 2,
	WANT_SECRET = 1 << 3, /* others must not read it */
	WANT_MAYBE = 1 << 4   /* it need not be there */
};

/* Our own supplementary groups, while those of the server's user are in effect. */
static gid_t groups[NGROUPS_MAX];
static int group_count;

/* Takes on the rights of the server's user, as far as this process can. */
static void become_user(const struct check *c)
{
	if (!c->root || !c->has_user)
		return;
	group_count = getgroups(NGROUPS_MAX, groups);
	if (group_count < 0 || setgroups(1, &c->user.gid) || setegid(c->user.gid) ||
	    seteuid(c->user.uid))
		perror("check: the rights of the server's user");
}

static void become_root(const struct check *c)
{
	if (!c->root || !c->has_user)
		return;
	if (seteuid(0) || setegid(getgid()) ||
	    (group_count >= 0 && setgroups((size_t)group_count, groups)))
		perror("check: taking back the rights of root");
}

/* Can the server's rights be seen at all? */
static bool knows_rights(const struct check *c)
{
	return c->has_user ? c->root || geteuid() == c->user.uid : true;
}

static const char *who(const struct check *c)
{
	static char text[80];
	if (!c->has_user)
		return "the server";
	snprintf(text, sizeof text, "user %s", c->conf->user);
	return text;
}

static int access_of(unsigned want)
{
	return (want & WANT_READ ? R_OK : 0) | (want & WANT_WRITE ? W_OK : 0) |
	       (want & WANT_RUN ? X_OK : 0);
}

/* Says what stands in the way of `want`; errno says what the kernel said. */
static void say_denied(struct check *c, const char *path, unsigned want)
{
	const char *what = "read";
	if (want & WANT_WRITE)
		what = "write to";
	else if (want & WANT_RUN)
		what = "run";
	if (errno != EACCES && errno != EPERM)
		check_say(c, CHECK_ERROR, "%s: %s", path, strerror(errno));
	else if (want & WANT_WRITE)
		check_say(c, CHECK_ERROR,
		          "%s: %s cannot %s it: give it the directory and all in it (chown -R %s)",
		          path, who(c), what, c->has_user ? c->conf->user : "USER");
	else if (want & WANT_RUN)
		check_say(c, CHECK_ERROR, "%s: %s cannot %s it: chmod a+rx", path, who(c), what);
	else
		check_say(c, CHECK_ERROR,
		          "%s: %s cannot %s it: chgrp it to the group of that user and chmod g+r, "
		          "and let the user enter the directories above (chmod g+x)",
		          path, who(c), what);
}

/* Would the server lose a file that others may not read any more? It has no group but its own. */
static bool needs_group(const struct check *c, const struct stat *st)
{
	if (!c->has_user || st->st_uid == c->user.uid)
		return false;
	return st->st_gid != c->user.gid || !(st->st_mode & S_IRGRP);
}

/* Looks at one file or directory. True when there is nothing to say. */
static bool look_at(struct check *c, const char *path, unsigned want)
{
	struct stat st;
	bool good = true;
	become_user(c);
	int rc = stat(path, &st);
	bool denied = rc == 0 && faccessat(AT_FDCWD, path, access_of(want), AT_EACCESS) != 0;
	int error = errno;
	become_root(c);
	if (rc && error == ENOENT && (want & WANT_MAYBE))
		return true;
	errno = error;
	if ((rc || denied) && (knows_rights(c) || (error != EACCES && error != EPERM))) {
		say_denied(c, path, want);
		return false;
	}
	if (stat(path, &st))
		return false; /* not for us to see, and that was said */
	if ((want & WANT_SECRET) && (st.st_mode & S_IROTH)) {
		check_say(c, CHECK_WARNING,
		          "%s: every user of this machine can read it, and it is secret: %schmod "
		          "o-rwx %s",
		          path,
		          needs_group(c, &st) ? "chgrp it to the group of the server's user and "
		                                "chmod g+r, then "
		                              : "",
		          path);
		good = false;
	}
	if ((st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX)) {
		check_say(c, CHECK_ERROR,
		          "%s: every user of this machine can change it: chmod o-w %s", path, path);
		good = false;
	}
	return good;
}

/* ---- the configuration's files ---- */

static bool look_at_domains(struct check *c)
{
	char path[PATH_MAX];
	bool good = true;
	DIR *d = opendir("domains");
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "domains/%s/users", e->d_name);
		good &= look_at(c, path, WANT_READ | WANT_SECRET | WANT_MAYBE);
		snprintf(path, sizeof path, "domains/%s/aliases", e->d_name);
		good &= look_at(c, path, WANT_READ | WANT_MAYBE);
	}
	if (d)
		closedir(d);
	return good;
}

static bool look_at_programs(struct check *c)
{
	static const char *const hooks[] = {"alias-resolve", "rcpt", "post-data"};
	char path[PATH_MAX];
	bool good = true;
	for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++) {
		snprintf(path, sizeof path, HOOK_DIR "/%s", hooks[i]);
		good &= look_at(c, path, WANT_RUN | WANT_MAYBE);
	}
	if (c->conf->mda_bin)
		good &= look_at(c, c->conf->mda_bin, WANT_RUN);
	return good;
}

static bool look_at_secrets(struct check *c)
{
	const struct conf_smarthosts *list = &c->conf->smarthosts;
	bool good = true;
	for (size_t i = 0; i < list->count; i++)
		if (list->item[i].password_file)
			good &= look_at(c, list->item[i].password_file, WANT_READ | WANT_SECRET);
	if (c->conf->monitoring_password_file)
		good &= look_at(c, c->conf->monitoring_password_file, WANT_READ | WANT_SECRET);
	return good;
}

/* ---- the data directory ---- */

static void look_for_damage(struct check *c)
{
	char path[PATH_MAX];
	size_t count = 0;
	snprintf(path, sizeof path, "%s/queue/damaged", c->conf->data_dir);
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));)
		count += e->d_name[0] != '.';
	if (d)
		closedir(d);
	if (count > 0)
		check_say(c, CHECK_WARNING,
		          "%zu file%s in %s could not be read as messages and were set aside: look "
		          "at them (they are text), and check the disk",
		          count, count == 1 ? "" : "s", path);
}

static void look_at_room(struct check *c)
{
	const char *dir = c->conf->data_dir;
	bool no_inodes = false;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	long long left = (long long)disk_free(fd, &no_inodes);
	close(fd);
	if (no_inodes)
		check_say(c, CHECK_ERROR,
		          "the disk of %s can hold no more files, and mail is refused: remove some",
		          dir);
	else if (left < SPOOL_FREE_MIN)
		check_say(c, CHECK_ERROR,
		          "the disk of %s is full (%lld MB free), and mail is refused: make room",
		          dir, left / MB);
	else if (left < CHECK_FREE_LOW)
		check_say(
		    c, CHECK_WARNING,
		    "only %lld MB are free on the disk of %s: a few large messages fill it, and "
		    "mail is then refused",
		    left / MB, dir);
	else
		check_say(c, CHECK_OK, "%lld MB are free for the queue", left / MB);
}

static void look_at_data(struct check *c)
{
	static const char *const parts[] = {"queue", "domaininfo", "sts-cache"};
	const char *dir = c->conf->data_dir;
	char path[PATH_MAX];
	struct stat st;
	if (stat(dir, &st) && errno == ENOENT) {
		check_say(c, CHECK_NOTE,
		          "%s is not there yet: the server makes it when it starts as "
		          "root",
		          dir);
		return;
	}
	bool good = look_at(c, dir, WANT_READ | WANT_WRITE | WANT_RUN);
	for (size_t i = 0; good && i < sizeof parts / sizeof *parts; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, parts[i]);
		unsigned secret = i == 0 ? WANT_SECRET : 0;
		/* A closed door above keeps strangers out as well. */
		if (stat(dir, &st) == 0 && !(st.st_mode & S_IXOTH))
			secret = 0;
		good &= look_at(c, path, WANT_READ | WANT_WRITE | WANT_RUN | WANT_MAYBE | secret);
	}
	if (good && knows_rights(c))
		check_say(c, CHECK_OK, "%s can be written to", dir);
	look_at_room(c);
	look_for_damage(c);
}

void check_files(struct check *c)
{
	check_group("Files");
	bool good = look_at(c, access("chasq.conf", F_OK) == 0 ? "chasq.conf" : "chasquid.conf",
	                    WANT_READ | WANT_MAYBE);
	good &= look_at_domains(c);
	good &= look_at_secrets(c);
	good &= look_at_programs(c);
	if (good && knows_rights(c))
		check_say(c, CHECK_OK,
		          "%s can read all of the configuration; others cannot read "
		          "what is secret",
		          who(c));
	look_at_data(c);
}

/* ---- certificates ---- */

static void say_dates(struct check *c, const char *name, const struct tls_report *r)
{
	int64_t now = (int64_t)time(NULL);
	long long days = (long long)((r->ends - now) / 86400);
	if (now < CLOCK_RELEASE)
		return; /* the clock is the trouble, and that was said */
	if (now < r->begins)
		check_say(
		    c, CHECK_ERROR,
		    "certs/%s: the certificate will not be valid for another %lld days: is the "
		    "clock right?",
		    name, (long long)((r->begins - now) / 86400) + 1);
	else if (now > r->ends)
		check_say(
		    c, CHECK_ERROR,
		    "certs/%s: the certificate expired %lld days ago: get a new one; does its "
		    "renewal still run?",
		    name, -days);
	else if (days < CHECK_CERT_DAYS)
		check_say(c, CHECK_WARNING,
		          "certs/%s: the certificate expires in %lld days: does its renewal still "
		          "run?",
		          name, days);
	else
		check_say(c, CHECK_OK, "certs/%s: for %s; %s, %lld days left", name,
		          *r->names ? r->names : r->subject, r->key, days);
}

/* Returns whether the certificate is for our name. */
static bool look_at_site(struct check *c, const char *name)
{
	static struct tls_report_chain chain;
	char cert[PATH_MAX], key[PATH_MAX];
	const char *file, *why;
	snprintf(cert, sizeof cert, CHASQ_CERTS_DIR "/%s/fullchain.pem", name);
	snprintf(key, sizeof key, CHASQ_CERTS_DIR "/%s/privkey.pem", name);
	become_user(c);
	errno = 0;
	int rc = tls_report_files(cert, key, c->conf->hostname, &chain, &file, &why);
	int error = errno;
	become_root(c);
	bool unseen = rc && error == EACCES && !knows_rights(c);
	if (unseen)
		check_say(c, CHECK_NOTE, "%s cannot be looked at without rights: run this as root",
		          file);
	else if (rc)
		check_say(c, CHECK_ERROR, "%s: %s: the server does not use this certificate", file,
		          why);
	else
		look_at(c, key, WANT_READ | WANT_SECRET);
	if (chain.count == 0)
		return unseen;
	if (rc == 0 || unseen)
		say_dates(c, name, &chain.cert[0]);
	if (chain.count > 1 && !chain.in_order)
		check_say(
		    c, CHECK_WARNING,
		    "%s: the certificates are not in order; each should be issued by the next "
		    "one, or some clients will not trust it",
		    cert);
	return chain.cert[0].for_host;
}

/* Returns how many there are; *ours: one of them is for our name. */
static size_t look_at_sites(struct check *c, bool *ours)
{
	struct stat st;
	size_t count = 0;
	DIR *d = opendir(CHASQ_CERTS_DIR);
	for (struct dirent *e; d && (e = readdir(d));) {
		char path[PATH_MAX];
		snprintf(path, sizeof path, CHASQ_CERTS_DIR "/%s", e->d_name);
		if (e->d_name[0] == '.' || stat(path, &st) || !S_ISDIR(st.st_mode))
			continue;
		count++;
		*ours |= look_at_site(c, e->d_name);
	}
	if (!d && errno != ENOENT) {
		check_say(c, CHECK_NOTE, CHASQ_CERTS_DIR " cannot be looked at: %s",
		          strerror(errno));
		*ours = true;
		count++;
	}
	if (d)
		closedir(d);
	return count;
}

/* Is there an address, and not what systemd may hand over? */
static bool names_address(const struct text_strings *list)
{
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->item[i], "systemd") != 0)
			return true;
	return false;
}

void check_certificates(struct check *c)
{
	bool ours = false;
	bool logins = names_address(&c->conf->submission_address) ||
	              names_address(&c->conf->submission_over_tls_address);
	check_group("Certificates");
	if (!WITH_TLS) {
		check_say(c, CHECK_NOTE, "this program was built without TLS and needs none");
		return;
	}
	size_t count = look_at_sites(c, &ours);
	if (count == 0)
		check_say(c, logins ? CHECK_ERROR : CHECK_WARNING,
		          "there is no certificate%s: put fullchain.pem and privkey.pem "
		          "into " CHASQ_CERTS_DIR "/%s",
		          logins ? ", and with an address for logins the server does not start"
		                 : ": mail comes in unencrypted, and nobody can log in",
		          c->conf->hostname);
	else if (!ours)
		check_say(c, CHECK_WARNING,
		          "no certificate is for the name of this server, %s: mail programs that "
		          "connect by that name will complain: get one for it",
		          c->conf->hostname);
}
