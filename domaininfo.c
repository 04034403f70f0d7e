/*
 * domaininfo: what was seen of each domain.
 *
 * A table in memory, sorted by name, of at most DOMAININFO_MAX entries; a file for each that has
 * ever been above PLAIN (domaininfo_file.c). PLAIN says no more than not being known, so such
 * entries are never written, and the one seen least recently goes when there is no room. What is
 * above PLAIN never goes for somebody new: when the table is full of it, newcomers are not
 * recorded. Those known from incoming mail alone have half of the table, and of the second half of
 * that DOMAININFO_KIN_MAX at most go to one owner.
 *
 * Levels expire by the wall clock, since they outlive restarts. A clock that says less than
 * CLOCK_RELEASE is not believed: nothing expires and no date is written. Where a date is missing or
 * in the future, the level counts as seen at the moment it was read: in doubt it expires later,
 * never sooner. Such files are dated with the next mail, one at a time. A file may lag
 * DOMAININFO_TOUCH_S behind what was seen.
 */
#include "domaininfo.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "disk.h"
#include "domaininfo_int.h"
#include "log.h"

/* One way or the other was seen, or stands in the file. */
#define SEEN(way) (1U << (way))
/* A file of its own name exists; files under other spellings exist. */
#define HAS_FILE  4U
#define HAS_OTHER 8U
/* The file could not be understood: it stays until a level expires, or the domain is forgotten. */
#define IS_DAMAGED 16U
/* To be written again: it failed; its dates are not those that the configuration wants. */
#define UNSAVED 32U
#define UNDATED 64U

struct entry {
	int64_t seen[2]; /* 0: unknown */
	int64_t dated;   /* the newest date in the file */
	uint32_t used;   /* by the count of uses; wraps */
	unsigned char level[2];
	unsigned char flags;
	char domain[];
};

struct domaininfo {
	int dir_fd;
	int64_t expire_s;
	int64_t touch_s;
	int64_t (*now)(void);
	struct entry **entry; /* sorted by name; while loading, room for twice as many */
	size_t count;
	size_t strangers;  /* known from incoming mail alone */
	size_t to_mend;    /* UNSAVED or UNDATED; counted high, never low */
	size_t mend_at;    /* where to look on */
	int64_t mended;    /* when the last one was */
	int64_t told_full; /* when the log was told */
	int64_t told_disk;
	uint32_t uses;
};

/* ---- time ---- */

static bool is_believed(int64_t now)
{
	return now >= CLOCK_RELEASE;
}

/* Has so much time gone by, or the clock been set back? */
static bool has_passed(int64_t since, int64_t now, int64_t seconds)
{
	return since == 0 || now < since || now - since >= seconds;
}

/* The level that counts now. */
static enum domaininfo_level level_now(const struct domaininfo *di, const struct entry *e, int way,
                                       int64_t now)
{
	int64_t seen = e->seen[way];
	if (di->expire_s > 0 && is_believed(now) && seen > 0 && now - seen >= di->expire_s)
		return DOMAININFO_PLAIN;
	return (enum domaininfo_level)e->level[way];
}

static bool is_plain(const struct domaininfo *di, const struct entry *e, int64_t now)
{
	return level_now(di, e, DOMAININFO_IN, now) == DOMAININFO_PLAIN &&
	       level_now(di, e, DOMAININFO_OUT, now) == DOMAININFO_PLAIN;
}

static bool is_stranger(const struct entry *e)
{
	return !(e->flags & SEEN(DOMAININFO_OUT));
}

/* ---- the table ---- */

/* Where the domain is (*there) or would be. */
static size_t place_of(const struct domaininfo *di, const char *domain, bool *there)
{
	size_t low = 0, high = di->count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(domain, di->entry[mid]->domain);
		if (order == 0) {
			*there = true;
			return mid;
		}
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	*there = false;
	return low;
}

static struct entry *find(const struct domaininfo *di, const char *domain)
{
	bool there;
	size_t at = place_of(di, domain, &there);
	return there ? di->entry[at] : NULL;
}

static struct entry *entry_new(const char *domain)
{
	size_t n = strlen(domain) + 1;
	struct entry *e = calloc(1, sizeof *e + n);
	if (e)
		memcpy(e->domain, domain, n);
	return e;
}

/* Takes an entry out of the table and frees it. */
static void drop(struct domaininfo *di, size_t at)
{
	struct entry *e = di->entry[at];
	di->strangers -= is_stranger(e);
	di->count--;
	memmove(di->entry + at, di->entry + at + 1, (di->count - at) * sizeof(*di->entry));
	free(e);
}

/* ---- the log ---- */

static void tell_unknown(struct domaininfo *di, const char *domain, const char *why, int64_t now)
{
	if (!has_passed(di->told_full, now, DOMAININFO_TELL_S))
		return;
	di->told_full = now ? now : 1;
	log_error("-", "domaininfo: a domain is not remembered", LOG_S("domain", domain),
	          LOG_S("reason", why), LOG_N("domains", di->count));
}

static void tell_disk(struct domaininfo *di, const char *domain, int64_t now)
{
	int saved = errno;
	if (!has_passed(di->told_disk, now, DOMAININFO_TELL_S))
		return;
	di->told_disk = now ? now : 1;
	log_error("-", "domaininfo not written: known until the restart", LOG_S("domain", domain),
	          LOG_S("reason", strerror(saved)));
}

/* ---- files ---- */

struct removal {
	int dir_fd;
	const char *domain;
	char keep[NAME_MAX + 1]; /* "": none */
	size_t count;
};

static int remove_if_of(void *arg, const char *file)
{
	struct removal *r = arg;
	char domain[ADDR_DOMAIN_MAX + 1];
	struct stat st;
	if (domaininfo_file_domain(file, domain) || strcmp(domain, r->domain) != 0 ||
	    strcmp(file, r->keep) == 0)
		return 0;
	if (fstatat(r->dir_fd, file, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return 0;
	if (unlinkat(r->dir_fd, file, 0))
		return errno == ENOENT ? 0 : -1;
	r->count++;
	return 0;
}

/* Removes all files of a domain, however spelt; but keep_own keeps the one of its proper name.
 * Returns how many, or -1 with errno. */
static int remove_files(const struct domaininfo *di, const char *domain, bool keep_own)
{
	struct removal r = {.dir_fd = di->dir_fd, .domain = domain};
	bool more;
	if (keep_own && domaininfo_file_name(domain, r.keep))
		return -1;
	if (domaininfo_file_each(di->dir_fd, remove_if_of, &r, &more))
		return -1;
	if (r.count > 0 && fsync(di->dir_fd))
		return -1;
	return (int)r.count;
}

/* Writes an entry's file; when that fails, it is tried again later. */
static void save(struct domaininfo *di, struct entry *e, int64_t now)
{
	struct domaininfo_record r;
	bool undated = false;
	snprintf(r.domain, sizeof r.domain, "%s", e->domain);
	for (int way = 0; way < 2; way++) {
		r.level[way] = (enum domaininfo_level)e->level[way];
		r.seen[way] = di->expire_s > 0 ? e->seen[way] : 0;
		if (di->expire_s > 0 && r.level[way] > DOMAININFO_PLAIN && r.seen[way] == 0)
			undated = true;
	}
	e->flags &= (unsigned char)~(UNSAVED | UNDATED | IS_DAMAGED);
	if (domaininfo_file_write(di->dir_fd, &r)) {
		tell_disk(di, e->domain, now);
		e->flags |= UNSAVED;
		di->to_mend++;
		return;
	}
	e->flags |= HAS_FILE;
	e->dated = now;
	if (undated) {
		e->flags |= UNDATED;
		di->to_mend++;
	}
	/* What other spellings say is in the new file, unless it has become less. */
	if ((e->flags & HAS_OTHER) && remove_files(di, e->domain, true) >= 0)
		e->flags &= (unsigned char)~HAS_OTHER;
}

/* Is it time for this one to be written again? */
static bool is_mendable(const struct domaininfo *di, const struct entry *e, int64_t now)
{
	if (e->flags & UNSAVED)
		return true;
	return (e->flags & UNDATED) && !(e->flags & IS_DAMAGED) &&
	       (di->expire_s == 0 || is_believed(now));
}

/* Writes one of the files that need it. */
static void mend(struct domaininfo *di, int64_t now)
{
	if (di->to_mend == 0 || !has_passed(di->mended, now, DOMAININFO_MEND_S))
		return;
	di->mended = now ? now : 1;
	for (size_t i = 0; i < di->count; i++) {
		struct entry *e = di->entry[(di->mend_at + i) % di->count];
		if (!is_mendable(di, e, now))
			continue;
		di->mend_at = (di->mend_at + i + 1) % di->count;
		for (int way = 0; way < 2; way++)
			if (e->level[way] > DOMAININFO_PLAIN && e->seen[way] == 0 &&
			    is_believed(now))
				e->seen[way] = now;
		save(di, e, now);
		return;
	}
	if (di->expire_s == 0 || is_believed(now))
		di->to_mend = 0;
}

/* ---- loading ---- */

struct loader {
	struct domaininfo *di;
	int64_t now;
	size_t bad;     /* files not taken */
	size_t dropped; /* domains, for want of room */
	bool no_memory;
};

static int by_name(const void *a, const void *b)
{
	const struct entry *const *x = a, *const *y = b;
	return strcmp((*x)->domain, (*y)->domain);
}

/* The strongest first: what we send to before what comes in, then the last seen, then by name. */
static int by_strength(const void *a, const void *b)
{
	const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;
	static const int ways[] = {DOMAININFO_OUT, DOMAININFO_IN};
	for (size_t i = 0; i < 2; i++)
		if (x->level[ways[i]] != y->level[ways[i]])
			return x->level[ways[i]] > y->level[ways[i]] ? -1 : 1;
	for (size_t i = 0; i < 2; i++)
		if (x->seen[ways[i]] != y->seen[ways[i]])
			return x->seen[ways[i]] > y->seen[ways[i]] ? -1 : 1;
	return by_name(a, b);
}

/* Two files of one domain: the higher level, and of equal ones the later date. */
static void merge(struct entry *to, const struct entry *from)
{
	for (int way = 0; way < 2; way++) {
		if (from->level[way] > to->level[way] ||
		    (from->level[way] == to->level[way] && from->seen[way] > to->seen[way])) {
			to->level[way] = from->level[way];
			to->seen[way] = from->seen[way];
		}
	}
	to->flags |= from->flags;
	if (from->dated > to->dated)
		to->dated = from->dated;
}

static void sort(struct domaininfo *di, int (*order)(const void *, const void *))
{
	if (di->count > 1)
		qsort(di->entry, di->count, sizeof(*di->entry), order);
}

/* Sorts what was loaded, merges doubles and keeps the strongest, at most DOMAININFO_MAX. */
static void settle(struct loader *l)
{
	struct domaininfo *di = l->di;
	size_t kept = 0;
	sort(di, by_name);
	for (size_t i = 0; i < di->count; i++) {
		if (kept > 0 && by_name(&di->entry[kept - 1], &di->entry[i]) == 0) {
			merge(di->entry[kept - 1], di->entry[i]);
			free(di->entry[i]);
		} else {
			di->entry[kept++] = di->entry[i];
		}
	}
	di->count = kept;
	if (di->count <= DOMAININFO_MAX)
		return;
	sort(di, by_strength);
	l->dropped += di->count - DOMAININFO_MAX;
	while (di->count > DOMAININFO_MAX)
		free(di->entry[--di->count]);
	sort(di, by_name);
}

/* The dates of what was read: of the future or missing, they are now; see above. */
static void take_dates(const struct loader *l, struct entry *e, const struct domaininfo_record *r)
{
	for (int way = 0; way < 2; way++) {
		bool has_date = r->seen[way] > 0, future = r->seen[way] > l->now;
		if (r->level[way] == DOMAININFO_PLAIN)
			continue;
		e->seen[way] = r->seen[way];
		if (is_believed(l->now) && (future || (!has_date && l->di->expire_s > 0)))
			e->seen[way] = l->now;
		if (has_date != (l->di->expire_s > 0) || (future && is_believed(l->now)))
			e->flags |= UNDATED;
		if (r->seen[way] > e->dated)
			e->dated = r->seen[way];
	}
}

static int add_record(struct loader *l, const char *file, const struct domaininfo_record *r,
                      bool damaged)
{
	struct domaininfo *di = l->di;
	char own[NAME_MAX + 1];
	struct entry *e = entry_new(r->domain);
	if (!e) {
		l->no_memory = true;
		return -1;
	}
	bool is_own = domaininfo_file_name(r->domain, own) == 0 && strcmp(own, file) == 0;
	e->flags = is_own ? HAS_FILE : HAS_OTHER;
	for (int way = 0; way < 2; way++) {
		e->level[way] = (unsigned char)r->level[way];
		if (r->level[way] > DOMAININFO_PLAIN)
			e->flags |= (unsigned char)SEEN(way);
	}
	take_dates(l, e, r);
	if (damaged)
		e->flags = (unsigned char)((e->flags & ~UNDATED) | IS_DAMAGED);
	if (di->count == (size_t)2 * DOMAININFO_MAX)
		settle(l);
	di->entry[di->count++] = e;
	return 0;
}

static int load_file(void *arg, const char *file)
{
	struct loader *l = arg;
	struct domaininfo_record r;
	char why[DOMAININFO_WHY_MAX];
	if (strcmp(file, ".") == 0 || strcmp(file, "..") == 0)
		return 0;
	if (domaininfo_file_is_left_over(file)) {
		unlinkat(l->di->dir_fd, file, 0);
		return 0;
	}
	enum domaininfo_verdict verdict = domaininfo_file_read(l->di->dir_fd, file, &r, why);
	if (verdict == DOMAININFO_GOOD)
		return add_record(l, file, &r, false);
	if (verdict == DOMAININFO_GONE)
		return 0;
	if (l->bad++ < DOMAININFO_TELL_MAX) {
		if (verdict == DOMAININFO_DAMAGED)
			log_error("-",
			          "domaininfo damaged: the strongest levels count until"
			          " chasq domaininfo forget",
			          LOG_S("domain", r.domain), LOG_S("file", file),
			          LOG_S("reason", why));
		else
			log_error("-", "domaininfo file ignored", LOG_S("file", file),
			          LOG_S("reason", why));
	}
	return verdict == DOMAININFO_DAMAGED ? add_record(l, file, &r, true) : 0;
}

static void finish_load(struct loader *l, bool more)
{
	struct domaininfo *di = l->di;
	settle(l);
	for (size_t i = 0; i < di->count; i++) {
		di->strangers += is_stranger(di->entry[i]);
		di->to_mend += (di->entry[i]->flags & UNDATED) != 0;
	}
	if (l->dropped > 0 || more)
		log_error("-", "domaininfo full: the weakest are not remembered",
		          LOG_N("domains", di->count), LOG_N("left out", l->dropped),
		          LOG_N("names not looked at", more));
	if (l->bad > DOMAININFO_TELL_MAX)
		log_error("-", "domaininfo has more bad files", LOG_N("files", l->bad));
}

static int load(struct domaininfo *di, const char *path, struct status *st)
{
	struct loader l = {.di = di, .now = di->now()};
	bool more;
	int rc = domaininfo_file_each(di->dir_fd, load_file, &l, &more);
	if (rc && !l.no_memory)
		status_set(st, 451, "4.3.0", "%s: %s", path, strerror(errno));
	else if (rc)
		status_set(st, 451, "4.3.0", "out of memory");
	else
		finish_load(&l, more);
	return rc;
}

void domaininfo_set_expire(struct domaininfo *di, int64_t expire_s)
{
	bool dates = (di->expire_s > 0) != (expire_s > 0);
	int64_t now = di->now();
	di->expire_s = expire_s;
	/* Files get dates, or lose them. Without them all counts as seen now, as at a start. */
	for (size_t i = 0; dates && i < di->count; i++) {
		struct entry *e = di->entry[i];
		for (int way = 0; way < 2; way++)
			if (e->level[way] > DOMAININFO_PLAIN && expire_s > 0 && is_believed(now))
				e->seen[way] = now;
		if ((e->flags & HAS_FILE) && !(e->flags & (UNDATED | UNSAVED | IS_DAMAGED))) {
			e->flags |= UNDATED;
			di->to_mend++;
		}
	}
	/* A level must not be lost with the crash that comes before the next touch. */
	di->touch_s = expire_s / 4 < DOMAININFO_TOUCH_S ? expire_s / 4 : DOMAININFO_TOUCH_S;
}

struct domaininfo *domaininfo_open(const char *data_dir, int64_t expire_s, int64_t (*now)(void),
                                   struct status *st)
{
	char path[PATH_MAX];
	struct domaininfo *di = calloc(1, sizeof *di);
	int n = snprintf(path, sizeof path, "%s/domaininfo", data_dir);
	if (!di) {
		status_set(st, 451, "4.3.0", "out of memory");
		return NULL;
	}
	*di = (struct domaininfo){.dir_fd = -1, .now = now};
	domaininfo_set_expire(di, expire_s);
	di->entry = calloc((size_t)2 * DOMAININFO_MAX, sizeof(*di->entry));
	if (!di->entry) {
		status_set(st, 451, "4.3.0", "out of memory");
		goto fail;
	}
	if (n < 0 || (size_t)n >= sizeof path)
		errno = ENAMETOOLONG;
	else if (disk_make_dirs(path, 0770) == 0)
		di->dir_fd = disk_open_dir(path);
	if (di->dir_fd < 0) {
		status_set(st, 451, "4.3.0", "%s: %s", path, strerror(errno));
		goto fail;
	}
	if (load(di, path, st))
		goto fail;
	/* When no smaller block is to be had, this one stays. */
	struct entry **smaller = realloc(di->entry, DOMAININFO_MAX * sizeof(*di->entry));
	if (smaller)
		di->entry = smaller;
	return di;
fail:
	domaininfo_close(di);
	return NULL;
}

void domaininfo_close(struct domaininfo *di)
{
	if (!di)
		return;
	while (di->count > 0)
		free(di->entry[--di->count]);
	free(di->entry);
	if (di->dir_fd >= 0)
		close(di->dir_fd);
	free(di);
}

/* ---- what is seen ---- */

enum domaininfo_level domaininfo_level(const struct domaininfo *di, enum domaininfo_way way,
                                       const char *domain)
{
	const struct entry *e = di ? find(di, domain) : NULL;
	return e ? level_now(di, e, (int)way, di->now()) : DOMAININFO_PLAIN;
}

/* The last two labels: whose domain it is, as well as names can tell. */
static const char *kin_of(const char *domain)
{
	const char *p = domain + strlen(domain);
	for (int dots = 0; p > domain && (p[-1] != '.' || ++dots < 2);)
		p--;
	return p;
}

static bool is_kin(const struct entry *e, const char *kin)
{
	return is_stranger(e) && strcmp(kin_of(e->domain), kin) == 0;
}

static bool has_many_kin(const struct domaininfo *di, const char *kin)
{
	size_t n = 0;
	if (di->strangers < DOMAININFO_MAX / 4)
		return false;
	for (size_t i = 0; i < di->count; i++)
		n += is_kin(di->entry[i], kin);
	return n >= DOMAININFO_KIN_MAX;
}

/* Removes the PLAIN entry that was seen least recently; of strangers only, if so, or of this kin
 * (else NULL). It takes its file along: that says nothing that counts. Returns 0, or -1 when there
 * is none. */
static int displace(struct domaininfo *di, bool stranger, const char *kin, int64_t now)
{
	size_t oldest = di->count;
	for (size_t i = 0; i < di->count; i++) {
		const struct entry *e = di->entry[i];
		if ((stranger && !is_stranger(e)) || !is_plain(di, e, now) ||
		    (kin && !is_kin(e, kin)))
			continue;
		if (oldest == di->count || di->uses - e->used > di->uses - di->entry[oldest]->used)
			oldest = i;
	}
	if (oldest == di->count)
		return -1;
	const struct entry *e = di->entry[oldest];
	char file[NAME_MAX + 1];
	if (e->flags & HAS_OTHER)
		remove_files(di, e->domain, false);
	else if ((e->flags & HAS_FILE) && domaininfo_file_name(e->domain, file) == 0)
		unlinkat(di->dir_fd, file, 0);
	drop(di, oldest);
	return 0;
}

/* A new entry, or NULL after saying why there is none. */
static struct entry *insert(struct domaininfo *di, enum domaininfo_way way, const char *domain,
                            int64_t now)
{
	bool there;
	const char *kin = way == DOMAININFO_IN ? kin_of(domain) : NULL;
	bool crowd = way == DOMAININFO_IN && di->strangers >= DOMAININFO_MAX / 2;
	if (kin && !has_many_kin(di, kin))
		kin = NULL;
	if ((kin || crowd || di->count == DOMAININFO_MAX) && displace(di, crowd, kin, now)) {
		tell_unknown(di, domain, "full", now);
		return NULL;
	}
	struct entry *e = entry_new(domain);
	if (!e) {
		tell_unknown(di, domain, "out of memory", now);
		return NULL;
	}
	size_t at = place_of(di, domain, &there);
	memmove(di->entry + at + 1, di->entry + at, (di->count - at) * sizeof(*di->entry));
	di->entry[at] = e;
	di->count++;
	di->strangers++; /* until it is marked as seen in the other way */
	return e;
}

static void mark_seen(struct domaininfo *di, struct entry *e, enum domaininfo_way way)
{
	di->strangers -= is_stranger(e);
	e->flags |= (unsigned char)SEEN(way);
	di->strangers += is_stranger(e);
	e->used = ++di->uses;
}

/* Has what the file should say changed, or is its date too old? */
static bool needs_save(const struct domaininfo *di, const struct entry *e, enum domaininfo_way way,
                       bool changed, int64_t now)
{
	bool above = e->level[DOMAININFO_IN] > DOMAININFO_PLAIN ||
	             e->level[DOMAININFO_OUT] > DOMAININFO_PLAIN;
	if (changed)
		return above || (e->flags & (HAS_FILE | HAS_OTHER));
	return di->expire_s > 0 && e->level[way] > DOMAININFO_PLAIN && is_believed(now) &&
	       !(e->flags & IS_DAMAGED) && has_passed(e->dated, now, di->touch_s);
}

void domaininfo_saw(struct domaininfo *di, enum domaininfo_way way, const char *domain,
                    enum domaininfo_level level)
{
	if (!di || !*domain || strlen(domain) > ADDR_DOMAIN_MAX)
		return;
	int64_t now = di->now();
	struct entry *e = find(di, domain);
	if (!e && !(e = insert(di, way, domain, now)))
		return;
	mark_seen(di, e, way);
	if (level >= level_now(di, e, (int)way, now)) {
		bool changed = level != e->level[way];
		e->level[way] = (unsigned char)level;
		if (is_believed(now))
			e->seen[way] = now;
		else if (changed)
			e->seen[way] = 0;
		if (needs_save(di, e, way, changed, now))
			save(di, e, now);
	}
	mend(di, now);
}

/* ---- the operator's questions ---- */

int domaininfo_forget(struct domaininfo *di, const char *domain, struct status *st)
{
	bool there;
	int removed = remove_files(di, domain, false);
	if (removed < 0) {
		status_set(st, 451, "4.3.0", "removing the file: %s", strerror(errno));
		return -1;
	}
	size_t at = place_of(di, domain, &there);
	if (there)
		drop(di, at);
	if (there || removed > 0)
		return 0;
	status_set(st, 550, "5.1.2", "this domain is not known");
	return -1;
}

static void show(const struct domaininfo *di, const struct entry *e, int64_t now,
                 struct domaininfo_entry *out)
{
	out->domain = e->domain;
	for (int way = 0; way < 2; way++) {
		out->level[way] = level_now(di, e, way, now);
		out->seen[way] = e->seen[way];
	}
}

int domaininfo_find(const struct domaininfo *di, const char *domain, struct domaininfo_entry *e)
{
	const struct entry *found = find(di, domain);
	if (!found)
		return -1;
	show(di, found, di->now(), e);
	return 0;
}

size_t domaininfo_list(const struct domaininfo *di, const char *after, struct domaininfo_entry *e,
                       size_t max)
{
	bool there;
	size_t n = 0, at = place_of(di, after, &there);
	int64_t now = di->now();
	for (at += there; n < max && at < di->count; n++, at++)
		show(di, di->entry[at], now, &e[n]);
	return n;
}
