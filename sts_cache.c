/*
 * sts_cache: the policies on disk, one file a domain: DATA_DIR/sts-cache/p:DOMAIN, protobuf text
 * format (docs/sts.proto).
 *
 * In memory there is an index of at most STS_CACHE_MAX entries, without the lists of hosts. Files
 * are replaced in one step, so one that cannot be understood is no torn one but somebody's; as it
 * says nothing and is only a cache, it goes. A wall clock from before this version was released is
 * not believed: then nothing is over and nothing is removed. A policy that seems to come from such
 * a time, or from the future, is to be fetched anew as soon as possible.
 */
#define LOG_KIND LOG_DELIVERY

#include "sts_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "addr.h"
#include "disk.h"
#include "log.h"
#include "stat.h"
#include "textfield.h"

STAT_COUNTER(stat_expired, "chasquid/sts/cache/expired",
             "Policies removed because their time was over");
STAT_COUNTER(stat_io, "chasquid/sts/cache/ioErrors",
             "Files that could not be read, written or removed");
STAT_COUNTER(stat_invalid, "chasquid/sts/cache/invalid", "Files whose policy is not valid");
STAT_COUNTER(stat_marshal, "chasquid/sts/cache/marshalErrors", "Policies too long for a file");
STAT_COUNTER(stat_unmarshal, "chasquid/sts/cache/unmarshalErrors", "Files that are no text format");

#define STS_DIR "sts-cache"

/* disk_replace puts six characters around a name while it writes. */
#define STS_NAME_MAX (NAME_MAX - 6)

struct item {
	char *domain;
	int64_t fetched;
	int64_t max_age;
	enum sts_mode mode;
	unsigned round; /* in which it was last to be fetched anew; 0: none */
};

struct sts_cache {
	int dir;
	unsigned round;
	size_t count;
	struct item *item;
};

/* ---- files ---- */

struct file {
	int given[6];
	char *domain;
	char *id;
	int64_t fetched;
	int64_t max_age;
	int mode;
	struct text_strings mx;
};

enum { GIVEN_DOMAIN, GIVEN_ID, GIVEN_FETCHED, GIVEN_MAX_AGE, GIVEN_MODE };

static const struct text_enum modes[] = {
    {"NONE", STS_NONE}, {"TESTING", STS_TESTING}, {"ENFORCE", STS_ENFORCE}, {NULL, 0}};

static const struct text_field file_fields[] = {
    {.name = "domain",
     .number = 1,
     .type = TEXT_STRING,
     .offset = offsetof(struct file, domain),
     .max = ADDR_DOMAIN_MAX},
    {.name = "id",
     .number = 2,
     .type = TEXT_STRING,
     .offset = offsetof(struct file, id),
     .max = STS_ID_MAX},
    {.name = "fetched",
     .number = 3,
     .type = TEXT_INT64,
     .presence = true,
     .offset = offsetof(struct file, fetched)},
    {.name = "max_age",
     .number = 4,
     .type = TEXT_INT64,
     .presence = true,
     .offset = offsetof(struct file, max_age)},
    {.name = "mode",
     .number = 5,
     .type = TEXT_ENUM,
     .presence = true,
     .offset = offsetof(struct file, mode),
     .names = modes},
    {.name = "mx",
     .number = 6,
     .type = TEXT_STRING,
     .repeated = true,
     .offset = offsetof(struct file, mx),
     .max = ADDR_DOMAIN_MAX,
     .limit = STS_MX_MAX},
};
static const struct text_message file_table = TEXT_TABLE(file_fields, struct file);

/* Is all there and as the writer leaves it? */
static bool file_is_good(const struct file *f, const char *domain)
{
	return f->domain && strcmp(f->domain, domain) == 0 && f->id &&
	       sts_id_is_good(slice_of(f->id)) && f->given[GIVEN_FETCHED] && f->fetched >= 0 &&
	       f->fetched <= INT64_MAX - STS_AGE_MAX && f->given[GIVEN_MAX_AGE] &&
	       f->max_age >= 0 && f->max_age <= STS_AGE_MAX && f->given[GIVEN_MODE] &&
	       (f->mode == STS_NONE || f->mx.count > 0);
}

int sts_cached_read(struct text_reader *r, const char *domain, struct sts_cached *e)
{
	struct file f;
	struct status st;
	*e = (struct sts_cached){.fetched = 0};
	r->skip_unknown = true;
	text_init(&file_table, &f);
	if (text_read(r, &file_table, &f) != 0) {
		stat_add(&stat_unmarshal, r->fault == TEXT_BAD);
		goto fail;
	}
	if (!file_is_good(&f, domain)) {
		stat_add(&stat_invalid, 1);
		text_fail(r, TEXT_BAD, "not a policy of this domain");
		goto fail;
	}
	for (size_t i = 0; i < f.mx.count; i++) {
		if (sts_policy_add(&e->policy, slice_of(f.mx.item[i]), &st)) {
			stat_add(&stat_invalid, 1);
			text_fail(r, TEXT_BAD, "%s", st.text);
			goto fail;
		}
	}
	snprintf(e->id, sizeof e->id, "%s", f.id);
	e->fetched = f.fetched;
	e->policy.mode = (enum sts_mode)f.mode;
	e->policy.max_age = f.max_age;
	text_clear(&file_table, &f);
	return 0;
fail:
	sts_policy_clear(&e->policy);
	text_clear(&file_table, &f);
	return -1;
}

int sts_cached_write(struct buf *out, const char *domain, const struct sts_cached *e)
{
	struct text_writer w;
	text_writer_init(&w, out);
	text_put_string(&w, "domain", domain);
	text_put_string(&w, "id", e->id);
	text_put_int(&w, "fetched", e->fetched);
	text_put_int(&w, "max_age", e->policy.max_age);
	text_put_word(&w, "mode", modes[e->policy.mode].name);
	for (size_t i = 0; i < e->policy.mx_count; i++)
		text_put_string(&w, "mx", e->policy.mx[i]);
	return out->failed ? -1 : 0;
}

int sts_cache_name(const char *domain, char *out, size_t size)
{
	size_t at = (size_t)snprintf(out, size, "p:");
	size_t max = size - 1 < STS_NAME_MAX ? size - 1 : STS_NAME_MAX;
	for (const char *p = domain; *p; p++) {
		unsigned char c = (unsigned char)*p;
		bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 0x80 ||
		             strchr("-._", c) != NULL;
		if (at + (plain ? 1 : 3) > max)
			return -1;
		if (plain)
			out[at++] = (char)c;
		else
			at += (size_t)snprintf(out + at, size - at, "%%%02X", c);
	}
	out[at] = '\0';
	return 0;
}

/* Reads a file: 0; -1 when that is not possible now; 1 when it is not there or not understood. */
static int cache_read(const struct sts_cache *c, const char *name, const char *domain,
                      struct sts_cached *e)
{
	struct text_reader *r = malloc(sizeof *r);
	int rc = -1;
	int fd = openat(c->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0) {
		rc = errno == ENOENT ? 1 : -1;
	} else if (r) {
		text_open_fd(r, name, &fd);
		rc = sts_cached_read(r, domain, e);
		if (rc) {
			rc = r->fault == TEXT_IO || r->fault == TEXT_MEMORY ? -1 : 1;
			log_error("-", "sts policy on disk not read", LOG_S("text", r->error));
		}
	}
	stat_add(&stat_io, rc < 0);
	if (fd >= 0)
		close(fd);
	free(r);
	return rc;
}

/* ---- the index ---- */

static struct item *cache_find(const struct sts_cache *c, const char *domain)
{
	for (size_t i = 0; i < c->count; i++)
		if (strcmp(c->item[i].domain, domain) == 0)
			return &c->item[i];
	return NULL;
}

static int64_t item_ends(const struct item *i)
{
	return i->fetched + i->max_age;
}

static void cache_forget(struct sts_cache *c, struct item *i)
{
	free(i->domain);
	*i = c->item[--c->count];
}

static void cache_remove(struct sts_cache *c, struct item *i)
{
	char name[NAME_MAX + 1];
	if (sts_cache_name(i->domain, name, sizeof name) == 0 && unlinkat(c->dir, name, 0) &&
	    errno != ENOENT) {
		stat_add(&stat_io, 1);
		log_error("-", "sts policy not removed", LOG_S("domain", i->domain),
		          LOG_N("errno", errno));
	}
	cache_forget(c, i);
}

/* Makes room for one that ends then. False when all others last longer. */
static bool cache_make_room(struct sts_cache *c, int64_t ends)
{
	struct item *first = NULL;
	if (c->count < STS_CACHE_MAX)
		return true;
	for (size_t i = 0; i < c->count; i++)
		if (!first || item_ends(&c->item[i]) < item_ends(first))
			first = &c->item[i];
	if (!first || item_ends(first) > ends)
		return false;
	cache_remove(c, first);
	return true;
}

/* Notes a policy that is on disk. Returns 0, or -1 when there is no memory or no room. */
static int cache_note(struct sts_cache *c, const char *domain, const struct sts_cached *e)
{
	struct item *i = cache_find(c, domain);
	if (!i) {
		char *copy = strdup(domain);
		struct item *grown = realloc(c->item, (c->count + 1) * sizeof *c->item);
		if (grown)
			c->item = grown;
		if (!copy || !grown) {
			free(copy);
			return -1;
		}
		i = &c->item[c->count++];
		*i = (struct item){.domain = copy};
	}
	i->fetched = e->fetched;
	i->max_age = e->policy.max_age;
	i->mode = e->policy.mode;
	return 0;
}

/* ---- opening ---- */

/* The domain a file is named after. Returns 0, or -1 when the name is not one of ours. */
static int domain_of(const char *name, char *out, size_t size)
{
	char again[NAME_MAX + 1];
	size_t n = strlen(name);
	if (n < 3 || n - 2 >= size || strncmp(name, "p:", 2) != 0 || strchr(name, '%'))
		return -1;
	memcpy(out, name + 2, n - 1);
	return sts_cache_name(out, again, sizeof again) == 0 && strcmp(again, name) == 0 ? 0 : -1;
}

static void cache_scan_file(struct sts_cache *c, const char *name)
{
	char domain[ADDR_DOMAIN_MAX + 1];
	struct sts_cached e;
	size_t n = strlen(name);
	/* Left behind by a crash while a file was being replaced. */
	bool torn = n > 4 && strncmp(name, ".p:", 3) == 0 && strcmp(name + n - 4, ".new") == 0;
	bool gone = torn;
	if (!torn) {
		if (domain_of(name, domain, sizeof domain))
			return;
		int rc = cache_read(c, name, domain, &e);
		if (rc == 0) {
			gone = !cache_make_room(c, e.fetched + e.policy.max_age) ||
			       cache_note(c, domain, &e);
			sts_policy_clear(&e.policy);
		} else {
			gone = rc > 0;
		}
	}
	if (gone && unlinkat(c->dir, name, 0) && errno != ENOENT)
		log_error("-", "sts policy not removed", LOG_S("file", name),
		          LOG_N("errno", errno));
}

static int cache_scan(struct sts_cache *c)
{
	int fd = openat(c->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	if (!d) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while ((entry = readdir(d)))
		cache_scan_file(c, entry->d_name);
	return closedir(d);
}

struct sts_cache *sts_cache_open(const char *data_dir, struct status *st)
{
	char path[PATH_MAX];
	struct sts_cache *c = calloc(1, sizeof *c);
	if (!c) {
		status_set(st, 451, "4.3.0", "out of memory");
		return NULL;
	}
	c->dir = -1;
	c->round = 1;
	int n = snprintf(path, sizeof path, "%s/" STS_DIR, data_dir);
	if (n < 0 || (size_t)n >= sizeof path)
		errno = ENAMETOOLONG;
	else if (disk_make_dirs(path, 0700) == 0 && (c->dir = disk_open_dir(path)) >= 0 &&
	         cache_scan(c) == 0)
		return c;
	status_set(st, 451, "4.3.0", "cannot use %s/" STS_DIR ": %s", data_dir, strerror(errno));
	sts_cache_close(c);
	return NULL;
}

void sts_cache_close(struct sts_cache *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->count; i++)
		free(c->item[i].domain);
	free(c->item);
	if (c->dir >= 0)
		close(c->dir);
	free(c);
}

/* ---- policies ---- */

static bool is_over(int64_t ends, int64_t now)
{
	return now >= CLOCK_RELEASE && now >= ends;
}

bool sts_cached_is_over(const struct sts_cached *e, int64_t now)
{
	return is_over(e->fetched + e->policy.max_age, now);
}

int sts_cache_load(struct sts_cache *c, const char *domain, struct sts_cached *e)
{
	char name[NAME_MAX + 1];
	struct item *i = cache_find(c, domain);
	if (!i || sts_cache_name(domain, name, sizeof name))
		return -1;
	int rc = cache_read(c, name, domain, e);
	if (rc > 0)
		cache_remove(c, i);
	return rc ? -1 : 0;
}

void sts_cache_store(struct sts_cache *c, const char *domain, const struct sts_cached *e,
                     int64_t now)
{
	char name[NAME_MAX + 1];
	struct buf out;
	struct item *old = cache_find(c, domain);
	/* The domain takes back what it said before: not to be kept is also an answer. */
	if (e->policy.max_age == 0) {
		if (old)
			cache_remove(c, old);
		return;
	}
	if (sts_cache_name(domain, name, sizeof name))
		return;
	if (!old && c->count >= STS_CACHE_MAX &&
	    (now < CLOCK_RELEASE || !cache_make_room(c, e->fetched + e->policy.max_age)))
		return;
	buf_init(&out, TEXT_LITERAL_SIZE(ADDR_DOMAIN_MAX + 16) * (STS_MX_MAX + 4));
	if (sts_cached_write(&out, domain, e) ||
	    disk_replace(c->dir, name, buf_data(&out), out.len, STS_FILE_MODE)) {
		stat_add(out.failed ? &stat_marshal : &stat_io, 1);
		log_error("-", "sts policy not kept", LOG_S("domain", domain),
		          LOG_N("errno", out.failed ? ENOMEM : errno));
	} else if (cache_note(c, domain, e)) {
		unlinkat(c->dir, name, 0);
	}
	buf_clear(&out);
}

void sts_cache_expire(struct sts_cache *c, int64_t now)
{
	for (size_t i = 0; i < c->count;) {
		if (is_over(item_ends(&c->item[i]), now)) {
			stat_add(&stat_expired, 1);
			log_info("-", "sts policy expired", LOG_S("domain", c->item[i].domain));
			cache_remove(c, &c->item[i]);
		} else {
			i++;
		}
	}
}

static bool item_is_due(const struct item *i, int64_t now)
{
	int64_t limit = i->max_age / 2 < STS_REFRESH_AGE ? i->max_age / 2 : STS_REFRESH_AGE;
	return i->mode != STS_NONE && !is_over(item_ends(i), now) &&
	       (i->fetched > now || now - i->fetched >= limit);
}

const char *sts_cache_next_due(struct sts_cache *c, int64_t now)
{
	for (size_t i = 0; now >= CLOCK_RELEASE && i < c->count; i++) {
		struct item *item = &c->item[i];
		if (item->round != c->round && item_is_due(item, now)) {
			item->round = c->round;
			return item->domain;
		}
	}
	c->round = c->round == UINT_MAX ? 1 : c->round + 1;
	return NULL;
}
