/*
 * conf: chasq.conf is read, kept and asked.
 *
 * The file and each override are read by one table (conf_keys.c) into a struct of raw keys; an
 * override replaces whole what it gives. Then every key is checked and moved into struct conf
 * (conf_take.c). What domains/ holds is in confdomain.c; printing and taking over a new file while
 * running in conf_reload.c.
 */
#include "conf.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf_int.h"
#include "confdomain.h"
#include "confvalue.h"

/* ---- reading ---- */

static int no_memory(struct conf_loader *l)
{
	snprintf(l->err, l->err_size, "%s: out of memory", l->file);
	return -1;
}

static size_t value_size(const struct text_field *f)
{
	if (f->type == TEXT_MESSAGE)
		return sizeof(struct conf_smarthosts); /* a list of blocks: pointer and count */
	if (f->repeated)
		return sizeof(struct text_strings);
	if (f->type == TEXT_STRING)
		return sizeof(char *);
	return f->type == TEXT_INT64 ? sizeof(int64_t)
	                             : (f->type == TEXT_ENUM ? sizeof(int) : sizeof(bool));
}

/* Swaps what `from` gives into the keys so far. */
static void merge(struct conf_keys *to, struct conf_keys *from, const char *source)
{
	for (size_t i = 0; i < KEYS; i++) {
		char hold[sizeof(struct text_strings)];
		const struct text_field *f = &conf_key_fields[i];
		char *a = (char *)to + f->offset, *b = (char *)from + f->offset;
		if (!from->given[i])
			continue;
		memcpy(hold, a, value_size(f));
		memcpy(a, b, value_size(f));
		memcpy(b, hold, value_size(f));
		to->given[i] = from->given[i];
		to->source[i] = source;
	}
}

static void clear_keys(struct conf_keys *k)
{
	conf_smarthost_clear(&k->smarthost);
	conf_masquerade_clear(&k->masquerade);
	text_clear(&conf_key_table, k);
}

/* Reads all fields from an opened reader and merges them. */
static int read_keys(struct conf_loader *l, struct text_reader *r)
{
	struct conf_keys k;
	text_init(&conf_key_table, &k);
	int rc = text_read(r, &conf_key_table, &k);
	if (rc < 0)
		snprintf(l->err, l->err_size, "%s", r->error);
	else
		merge(&l->k, &k, r->name);
	clear_keys(&k);
	return rc;
}

static int open_path(const char *dir, const char *name, char *path)
{
	bool here = strcmp(dir, ".") == 0;
	snprintf(path, PATH_MAX, "%s%s%s", here ? "" : dir, here ? "" : "/", name);
	return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* chasq.conf in the directory, or else chasquid.conf: fills path (of PATH_MAX bytes). Returns the
 * descriptor, or -1 with errno. */
static int open_file(const char *dir, char *path)
{
	int fd = open_path(dir, "chasq.conf", path);
	if (fd < 0 && errno == ENOENT) {
		fd = open_path(dir, "chasquid.conf", path);
		if (fd < 0 && errno == ENOENT)
			fd = open_path(dir, "chasq.conf", path);
	}
	return fd;
}

/* Reads the file of a directory; path (PATH_MAX bytes) has to outlive the loader. */
static int read_file(struct conf_loader *l, struct text_reader *r, const char *dir, char *path)
{
	int fd = open_file(dir, path);
	if (fd < 0) {
		snprintf(l->err, l->err_size, "%s: %s", path, strerror(errno));
		return -1;
	}
	l->file = path;
	text_open_fd(r, path, &fd);
	int rc = read_keys(l, r);
	close(fd);
	return rc;
}

/* ---- loading ---- */

static int read_all(struct conf_loader *l, const char *dir, char *path,
                    const char *const *overrides, size_t override_count)
{
	struct text_reader *r = malloc(sizeof(*r));
	if (!r)
		return no_memory(l);
	int rc = read_file(l, r, dir, path);
	for (size_t i = 0; rc == 0 && i < override_count; i++) {
		text_open_memory(r, "-o", overrides[i], strlen(overrides[i]));
		rc = read_keys(l, r);
	}
	free(r);
	return rc;
}

static int keep_overrides(struct conf_loader *l, struct conf *c, const char *const *overrides,
                          size_t count)
{
	c->overrides.item = calloc(count > 0 ? count : 1, sizeof(char *));
	while (c->overrides.item && c->overrides.count < count) {
		char *s = strdup(overrides[c->overrides.count]);
		if (!s)
			break;
		c->overrides.item[c->overrides.count++] = s;
	}
	return c->overrides.item && c->overrides.count == count ? 0 : no_memory(l);
}

struct conf *conf_read(const char *dir, const char *const *overrides, size_t override_count,
                       char *err, size_t err_size)
{
	struct conf *c = calloc(1, sizeof(*c));
	struct conf_loader l = {.file = dir, .err = err, .err_size = err_size};
	char path[PATH_MAX];
	if (!c || !(c->dir = strdup(dir))) {
		free(c);
		no_memory(&l);
		return NULL;
	}
	text_init(&conf_key_table, &l.k);
	int rc = read_all(&l, dir, path, overrides, override_count);
	if (rc == 0)
		rc = conf_take_all(&l, c);
	if (rc == 0)
		rc = keep_overrides(&l, c, overrides, override_count);
	clear_keys(&l.k);
	if (rc == 0)
		return c;
	conf_free(c);
	return NULL;
}

/* Who relies on a hook must not get a server that does not ask it. */
static int refuse_hooks(const char *dir, char *err, size_t err_size)
{
	static const char *const hooks[] = {HOOK_DIR "/alias-resolve", HOOK_DIR "/rcpt",
	                                    HOOK_DIR "/post-data"};
	for (size_t i = 0; i < sizeof(hooks) / sizeof(*hooks); i++)
		if (access(hooks[i], F_OK) == 0) {
			snprintf(err, err_size, "%s/%s: this build has no hooks: WITH_HOOKS 0", dir,
			         hooks[i]);
			return -1;
		}
	return 0;
}

struct conf *conf_load(const char *dir, const char *const *overrides, size_t override_count,
                       char *err, size_t err_size)
{
	struct conf *c = conf_read(dir, overrides, override_count, err, err_size);
	if (!c)
		return NULL;
	int rc = chdir(dir);
	if (rc < 0)
		snprintf(err, err_size, "%s: %s", dir, strerror(errno));
	if (rc == 0 && !WITH_HOOKS)
		rc = refuse_hooks(dir, err, err_size);
	if (rc == 0)
		rc = conf_smarthost_check(&c->smarthosts, err, err_size);
	if (rc == 0)
		rc = confdomain_load(c, err, err_size);
	if (rc == 0)
		return c;
	conf_free(c);
	return NULL;
}

static void free_strings(struct text_strings *s)
{
	while (s->count > 0)
		free(s->item[--s->count]);
	free(s->item);
}

static void free_slot(struct conf *c, const struct conf_slot *slot)
{
	char *p = (char *)c + slot->offset;
	if (slot->kind == SLOT_STRING)
		free(*(char **)p);
	else if (slot->kind == SLOT_LIST)
		free_strings((struct text_strings *)p);
	else if (slot->kind == SLOT_NETS)
		free(*(struct conf_net **)p);
	else if (slot->kind == SLOT_SMARTHOSTS)
		conf_smarthost_clear((struct conf_smarthosts *)p);
	else if (slot->kind == SLOT_MASQUERADES)
		conf_masquerade_clear((struct conf_masquerades *)p);
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	confdomain_clear(c);
	for (size_t i = 0; i < KEYS; i++)
		free_slot(c, &conf_slots[i]);
	free_strings(&c->overrides);
	free(c->origins);
	free(c->dir);
	free(c);
}

void conf_enter(const struct conf *c)
{
	if (*c->dir == '/' && chdir(c->dir)) {
		/* There is none in its place, and what is left of ours is still good. */
	}
}

size_t conf_refresh(struct conf *c)
{
	conf_enter(c);
	return confdomain_refresh(c);
}

/* Takes data_dir from the line that gives it, whatever is wrong with the others. */
static void find_data_dir_line(struct conf_loader *l, struct text_reader *r, const char *path)
{
	FILE *f = fopen(path, "re");
	char line[PATH_MAX + 64];
	while (f && !l->k.data_dir && fgets(line, sizeof(line), f)) {
		const char *s = line + strspn(line, " \t");
		if (strncmp(s, "data_dir", 8) != 0)
			continue;
		text_open_memory(r, path, s, strlen(s));
		read_keys(l, r);
	}
	if (f)
		fclose(f);
}

char *conf_find_data_dir(const char *dir)
{
	struct text_reader *r = malloc(sizeof(*r));
	char path[PATH_MAX], err[1], found[PATH_MAX];
	struct conf_loader l = {.file = dir, .err = err, .err_size = sizeof(err)};
	if (!r)
		return NULL;
	text_init(&conf_key_table, &l.k);
	const char *data_dir = CONF_DATA_DIR;
	if (read_file(&l, r, dir, path) < 0)
		find_data_dir_line(&l, r, path);
	if (l.k.data_dir && *l.k.data_dir)
		data_dir = l.k.data_dir;
	snprintf(found, sizeof(found), "%s%s%s", *data_dir == '/' ? "" : dir,
	         *data_dir == '/' ? "" : "/", data_dir);
	clear_keys(&l.k);
	free(r);
	return strdup(found);
}

/* ---- questions ---- */

const struct conf_domain *conf_domain_find(const struct conf *c, const char *name)
{
	size_t low = 0, high = c->domain_count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(name, c->domain[mid].name);
		if (order == 0)
			return &c->domain[mid];
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

static bool nets_have(const struct conf_nets *nets, const struct dns_addr *from)
{
	for (size_t i = 0; i < nets->count; i++)
		if (confvalue_net_has(&nets->item[i], from))
			return true;
	return false;
}

bool conf_is_trusted(const struct conf *c, const struct dns_addr *from)
{
	return nets_have(&c->trusted, from);
}

bool conf_is_proxy(const struct conf *c, const struct dns_addr *from)
{
	return nets_have(&c->proxies, from);
}
