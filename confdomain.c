/*
 * confdomain: the domains/ directory: which domains are ours, and their users and aliases. One of
 * them, the hostname when it is ours and localhost otherwise, may also have those of the system.
 *
 * A domain is a directory (or a link to one) in domains/, named as the domain in any spelling. What
 * is in memory changes only as a whole: a directory that cannot be understood keeps the old list, a
 * file that cannot be read keeps the old table, and either is tried again at each refresh but
 * logged once. A domain that is new and cannot be read is ours all the same, marked `unread`: its
 * mail has to wait instead of being refused.
 */
#include "confdomain.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "addr.h"
#include "log.h"

#define DOMAINS_DIR "domains"

/* The files of a domain: places in conf_domain.file. */
enum conf_file { CONF_USERS, CONF_ALIASES, CONF_SYSTEM, CONF_FILES };

struct domain_list {
	struct conf_domain *item;
	size_t count;
};

/* Differs from the stamp of any file: not read yet. */
static const struct conf_stamp never = {-1, -1, 0};

static struct conf_stamp stamp_of(const char *path)
{
	struct stat st;
	struct conf_stamp s = {0, 0, 0};
	if (stat(path, &st) == 0) {
		s.mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
		s.size = (int64_t)st.st_size;
		s.inode = (uint64_t)st.st_ino;
	}
	return s;
}

static bool same_stamp(const struct conf_stamp *a, const struct conf_stamp *b)
{
	return a->mtime == b->mtime && a->size == b->size && a->inode == b->inode;
}

static void free_domain(struct conf_domain *d)
{
	user_free(d->users);
	alias_free(d->aliases);
	alias_free(d->system);
	free(d->name);
	free(d->entry);
}

static void free_list(struct domain_list *l)
{
	while (l->count > 0)
		free_domain(&l->item[--l->count]);
	free(l->item);
	l->item = NULL;
}

static int compare_domains(const void *a, const void *b)
{
	return strcmp(((const struct conf_domain *)a)->name, ((const struct conf_domain *)b)->name);
}

/* ---- the directory ---- */

/* Adds a domain; entry may be NULL. Returns 0, or -1 without memory. */
static int list_add(struct domain_list *l, const char *name, const char *entry)
{
	struct conf_domain *grown = realloc(l->item, (l->count + 1) * sizeof(*grown));
	if (!grown)
		return -1;
	l->item = grown;
	struct conf_domain *d = &l->item[l->count];
	memset(d, 0, sizeof(*d));
	d->name = strdup(name);
	d->entry = entry ? strdup(entry) : NULL;
	for (int i = 0; i < CONF_FILES; i++)
		d->file[i] = (struct conf_watch){never, never};
	if (!d->name || (entry && !d->entry)) {
		free(d->name);
		free(d->entry);
		return -1;
	}
	l->count++;
	return 0;
}

static bool is_directory(const char *entry)
{
	struct stat st;
	char path[sizeof(DOMAINS_DIR) + NAME_MAX + 1];
	snprintf(path, sizeof(path), DOMAINS_DIR "/%s", entry);
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int read_entries(DIR *dir, struct domain_list *l, char *err, size_t err_size)
{
	struct dirent *e;
	while (errno = 0, (e = readdir(dir)) != NULL) {
		char name[ADDR_DOMAIN_MAX + 1];
		if (e->d_name[0] == '.' || !is_directory(e->d_name))
			continue;
		if (addr_domain_normalise(slice_of(e->d_name), name, sizeof(name)) < 0) {
			snprintf(err, err_size, DOMAINS_DIR "/%s: this is not the name of a domain",
			         e->d_name);
			return -1;
		}
		if (list_add(l, name, e->d_name) < 0) {
			snprintf(err, err_size, DOMAINS_DIR ": out of memory");
			return -1;
		}
	}
	if (errno) {
		snprintf(err, err_size, DOMAINS_DIR ": %s", strerror(errno));
		return -1;
	}
	return 0;
}

/* Sorts, refuses two spellings of one domain, and adds localhost. */
static int finish_list(struct domain_list *l, char *err, size_t err_size)
{
	bool localhost = false;
	if (l->count > 0)
		qsort(l->item, l->count, sizeof(*l->item), compare_domains);
	for (size_t i = 0; i < l->count; i++) {
		localhost = localhost || strcmp(l->item[i].name, "localhost") == 0;
		if (i == 0 || strcmp(l->item[i - 1].name, l->item[i].name) != 0)
			continue;
		snprintf(err, err_size,
		         DOMAINS_DIR "/%s: this is the same domain as " DOMAINS_DIR "/%s",
		         l->item[i].entry, l->item[i - 1].entry);
		return -1;
	}
	if (localhost)
		return 0;
	if (list_add(l, "localhost", NULL) < 0) {
		snprintf(err, err_size, DOMAINS_DIR ": out of memory");
		return -1;
	}
	qsort(l->item, l->count, sizeof(*l->item), compare_domains);
	return 0;
}

/* Lists the domains, without their files. */
static int scan(struct domain_list *l, char *err, size_t err_size)
{
	DIR *dir = opendir(DOMAINS_DIR);
	int rc = 0;
	if (dir) {
		rc = read_entries(dir, l, err, err_size);
		closedir(dir);
	} else if (errno == ENOENT) {
		log_info("-", "no " DOMAINS_DIR " directory, only localhost is ours");
	} else {
		snprintf(err, err_size, DOMAINS_DIR ": %s", strerror(errno));
		rc = -1;
	}
	return rc < 0 ? -1 : finish_list(l, err, err_size);
}

/* ---- the files ---- */

/* Is this the domain that the system's aliases are for? */
static bool is_system(const struct conf *c, const struct conf_domain *d)
{
	char host[ADDR_DOMAIN_MAX + 1];
	if (!c->system_aliases)
		return false;
	if (addr_domain_normalise(slice_of(c->hostname), host, sizeof(host)) < 0 ||
	    !conf_domain_find(c, host))
		return strcmp(d->name, "localhost") == 0;
	return strcmp(d->name, host) == 0;
}

/* Has the domain such a file? A localhost without directory has none of its own. */
static bool has_file(const struct conf *c, const struct conf_domain *d, enum conf_file which)
{
	return which == CONF_SYSTEM ? is_system(c, d) : d->entry != NULL;
}

static void file_path(const struct conf_domain *d, enum conf_file which, char *path, size_t size)
{
	if (which == CONF_SYSTEM)
		snprintf(path, size, "%s", ALIAS_SYSTEM_FILE);
	else
		snprintf(path, size, DOMAINS_DIR "/%s/%s", d->entry,
		         which == CONF_USERS ? "users" : "aliases");
}

/* Replaces a table by what its file says now. Returns 0, or -1 with err written and nothing
 * changed.
 */
static int load_file(const struct conf *c, struct conf_domain *d, enum conf_file which,
                     const char *path, char *err, size_t err_size)
{
	if (which == CONF_USERS) {
		struct user_table *t = user_load(path, c->drop_characters, err, err_size);
		if (!t)
			return -1;
		user_free(d->users);
		d->users = t;
		return 0;
	}
	struct alias_table **to = which == CONF_SYSTEM ? &d->system : &d->aliases;
	struct alias_table *t = (which == CONF_SYSTEM ? alias_load_system : alias_load)(
	    path, d->name, c->suffix_separators, c->drop_characters, err, err_size);
	if (!t)
		return -1;
	alias_free(*to);
	*to = t;
	return 0;
}

/* Reads a file anew if it has changed. Returns 1 when it was read, 0 when there was nothing to do,
 * -1 when it is bad, -2 when it is as bad as before; err says why. */
static int read_file(const struct conf *c, struct conf_domain *d, enum conf_file which, char *err,
                     size_t err_size)
{
	char path[sizeof(DOMAINS_DIR) + NAME_MAX + sizeof("/aliases") + sizeof(ALIAS_SYSTEM_FILE)];
	struct conf_watch *w = &d->file[which];
	if (!has_file(c, d, which))
		return 0;
	file_path(d, which, path, sizeof(path));
	struct conf_stamp now = stamp_of(path);
	if (same_stamp(&now, &w->good))
		return 0;
	if (load_file(c, d, which, path, err, err_size) < 0) {
		int rc = same_stamp(&now, &w->bad) ? -2 : -1;
		w->bad = now;
		return rc;
	}
	w->good = now;
	return 1;
}

/* The system's aliases are for another domain now. */
static void drop_system(const struct conf *c, struct conf_domain *d)
{
	if (has_file(c, d, CONF_SYSTEM))
		return;
	alias_free(d->system);
	d->system = NULL;
	d->file[CONF_SYSTEM] = (struct conf_watch){never, never};
}

static int load_domain(const struct conf *c, struct conf_domain *d, char *err, size_t err_size)
{
	for (int i = 0; i < CONF_FILES; i++)
		if (read_file(c, d, (enum conf_file)i, err, err_size) < 0)
			return -1;
	log_info("-", "domain", LOG_S("name", d->name), LOG_N("users", user_count(d->users)),
	         LOG_N("aliases", alias_count(d->aliases) + alias_count(d->system)));
	return 0;
}

int confdomain_load(struct conf *c, char *err, size_t err_size)
{
	struct domain_list l = {NULL, 0};
	c->domains_dir.bad = never;
	c->domains_dir.good = stamp_of(DOMAINS_DIR);
	int rc = scan(&l, err, err_size);
	c->domain = l.item;
	c->domain_count = l.count;
	for (size_t i = 0; rc == 0 && i < c->domain_count; i++)
		rc = load_domain(c, &c->domain[i], err, err_size);
	return rc;
}

void confdomain_clear(struct conf *c)
{
	struct domain_list l = {c->domain, c->domain_count};
	free_list(&l);
	c->domain = NULL;
	c->domain_count = 0;
}

/* ---- refresh ---- */

/* Moves what is known of a domain into the new list. Its name stays the same string: its aliases
 * keep it. Under another spelling in domains/ its files are others. */
static void move_domain(struct conf_domain *to, struct conf_domain *from)
{
	struct conf_domain fresh = *to;
	if (!to->entry != !from->entry)
		return;
	*to = *from;
	*from = fresh;
	if (to->entry && from->entry && strcmp(to->entry, from->entry) != 0) {
		char *entry = to->entry;
		to->entry = from->entry;
		from->entry = entry;
		to->file[CONF_USERS] = from->file[CONF_USERS];
		to->file[CONF_ALIASES] = from->file[CONF_ALIASES];
	}
}

/* Takes the new list, with what is known of domains that stay. */
static void take_list(struct conf *c, struct domain_list *l)
{
	struct domain_list old = {c->domain, c->domain_count};
	size_t k = 0;
	for (size_t i = 0; i < l->count; i++) {
		int order = -1;
		while (k < old.count && (order = strcmp(old.item[k].name, l->item[i].name)) < 0)
			log_info("-", "domain removed", LOG_S("name", old.item[k++].name));
		if (k < old.count && order == 0)
			move_domain(&l->item[i], &old.item[k++]);
		else
			log_info("-", "domain added", LOG_S("name", l->item[i].name));
	}
	c->domain = l->item;
	c->domain_count = l->count;
	while (k < old.count)
		log_info("-", "domain removed", LOG_S("name", old.item[k++].name));
	free_list(&old);
}

/* Notes that something stays as it was; logs it when that is news. */
static void refuse(struct conf *c, const char *event, const char *domain, const char *why,
                   bool news)
{
	if (c->refused++ == 0)
		snprintf(c->refused_why, sizeof(c->refused_why), "%s", why);
	if (news)
		log_error("-", event, LOG_S("domain", domain), LOG_S("reason", why));
}

static void refresh_list(struct conf *c)
{
	struct domain_list l = {NULL, 0};
	char err[256] = "";
	struct conf_stamp now = stamp_of(DOMAINS_DIR);
	if (same_stamp(&now, &c->domains_dir.good))
		return;
	if (scan(&l, err, sizeof(err)) < 0) {
		refuse(c, "the list of domains stays as it was", "", err,
		       !same_stamp(&now, &c->domains_dir.bad));
		c->domains_dir.bad = now;
		free_list(&l);
		return;
	}
	c->domains_dir.good = now;
	take_list(c, &l);
}

static size_t refresh_domain(struct conf *c, struct conf_domain *d)
{
	size_t count = 0;
	drop_system(c, d);
	for (int i = 0; i < CONF_FILES; i++) {
		char err[256] = "";
		int rc = read_file(c, d, (enum conf_file)i, err, sizeof(err));
		if (rc < 0)
			refuse(c, "a file stays as it was", d->name, err, rc == -1);
		count += rc > 0;
	}
	d->unread =
	    (d->entry && (!d->users || !d->aliases)) || (has_file(c, d, CONF_SYSTEM) && !d->system);
	return count;
}

void confdomain_forget(struct conf *c)
{
	for (size_t i = 0; i < c->domain_count; i++)
		for (int k = 0; k < CONF_FILES; k++)
			c->domain[i].file[k].good = never;
}

size_t confdomain_refresh(struct conf *c)
{
	size_t count = 0;
	c->refused = 0;
	refresh_list(c);
	for (size_t i = 0; i < c->domain_count; i++)
		count += refresh_domain(c, &c->domain[i]);
	return count;
}
