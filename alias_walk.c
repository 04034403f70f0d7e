/*
 * alias_walk: the resolution of an address. Part of alias.h.
 *
 * A walk over the tables of files, and over what `know` tells of the rest, bounded in depth, in
 * steps and in results. It waits for nobody: when an answer is missing it ends, and begins anew
 * once the answer is there. An alias that leads back to itself means the user of that name, so
 * "a: a, copy@example" adds a copy. Results are gathered first and handed out when the walk has
 * ended well.
 */
#include "alias_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf.h"
#include "config.h"
#include "log.h"
#include "user.h"

/* An alias being expanded, what the files and what the hook say of it, and those that led to it. */
struct alias_frame {
	const char *items[2];
	const struct alias_frame *up;
};

struct alias_walk {
	const struct conf *conf;
	struct status *st;
	alias_know_fn *know; /* NULL: the files alone, for now */
	void *arg;
	bool asking; /* an answer of `know` is missing */
	unsigned steps;
	struct buf found; /* records: letter, address, NUL, hosts, NUL */
	size_t count;
	uint32_t hash[ALIAS_RESULTS_MAX];
	uint32_t offset[ALIAS_RESULTS_MAX];
	struct buf missing; /* users, for the log */
};

static bool is_active(const struct alias_frame *f, const char *items)
{
	while (f && f->items[0] != items && f->items[1] != items)
		f = f->up;
	return items && f;
}

static uint32_t hash_of(const char *p, size_t n)
{
	uint32_t h = 2166136261U; /* FNV-1a */
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)p[i]) * 16777619U;
	return h;
}

static int too_much(struct alias_walk *w)
{
	status_set(w->st, 451, "4.3.0", "the aliases of this address lead to too many others");
	return -1;
}

/* Adds a destination unless it is there. */
static int add_found(struct alias_walk *w, enum alias_type type, const char *address,
                     const char *via)
{
	size_t offset = w->found.len;
	buf_putc(&w->found, alias_letter(type));
	buf_append(&w->found, address, strlen(address) + 1);
	buf_append(&w->found, via, strlen(via) + 1);
	if (w->found.failed)
		return too_much(w);
	const char *record = buf_data(&w->found) + offset;
	size_t n = w->found.len - offset;
	uint32_t hash = hash_of(record, n);
	for (size_t i = 0; i < w->count; i++) {
		const char *other = buf_data(&w->found) + w->offset[i];
		size_t end = i + 1 < w->count ? w->offset[i + 1] : offset;
		if (w->hash[i] == hash && end - w->offset[i] == n &&
		    memcmp(other, record, n) == 0) {
			buf_truncate(&w->found, offset);
			return 0;
		}
	}
	if (w->count == ALIAS_RESULTS_MAX)
		return too_much(w);
	w->hash[w->count] = hash;
	w->offset[w->count++] = (uint32_t)offset;
	return 0;
}

static int add_address(struct alias_walk *w, enum alias_type type, const struct addr *a,
                       const char *via)
{
	char form[ADDR_TEXT_MAX];
	if (addr_format(a, form, sizeof(form)) < 0) {
		status_set(w->st, 550, "5.1.3", "the address is too long");
		return -1;
	}
	return add_found(w, type, form, via);
}

static int add_user(struct alias_walk *w, const struct conf_domain *d, const char *name)
{
	struct addr a = {.user = ""};
	snprintf(a.user, sizeof(a.user), "%s", name);
	snprintf(a.domain, sizeof(a.domain), "%s", d->name);
	return add_address(w, ALIAS_EMAIL, &a, "");
}

static int walk_address(struct alias_walk *w, const struct addr *a, const struct alias_frame *up,
                        unsigned depth);

/* Walks on to what one list of an alias says; a is the address that led here. */
static int expand(struct alias_walk *w, const struct conf_domain *d, const char *items,
                  const struct addr *a, const struct alias_frame *frame, unsigned depth)
{
	while (items && *items) {
		char letter = *items++;
		const char *text = items, *via = "";
		items += strlen(items) + 1;
		if (letter == alias_letter(ALIAS_PIPE)) {
			if (add_found(w, ALIAS_PIPE, text, "") < 0)
				return -1;
			continue;
		}
		if (letter == alias_letter(ALIAS_FORWARD)) {
			via = items;
			items += strlen(items) + 1;
		}
		struct addr to;
		if (addr_parse_local(slice_of(text), d->name, &to) < 0)
			continue; /* it was parsed before */
		if (strcmp(to.user, "*") == 0)
			memcpy(to.user, a->user, sizeof(to.user));
		int rc = *via ? add_address(w, ALIAS_FORWARD, &to, via)
		              : walk_address(w, &to, frame, depth + 1);
		if (rc < 0)
			return -1;
	}
	return 0;
}

/* What a local part leads to: an alias not being expanded yet, or a user. */
struct alias_target {
	const char *items[2]; /* by the files, by the hook; NULL: nothing */
	char user[ADDR_USER_MAX + 1];
	bool loop; /* there is an alias, but it is being expanded */
};

/* Asks `know`. *items is NULL for no. -1 ends the walk. */
static int ask(struct alias_walk *w, enum alias_question q, const struct conf_domain *d,
               const char *user, const char **items)
{
	struct addr a = {.user = ""};
	*items = NULL;
	if (!w->know)
		return 0;
	snprintf(a.user, sizeof(a.user), "%s", user);
	snprintf(a.domain, sizeof(a.domain), "%s", d->name);
	int rc = w->know(w->arg, q, &a, items);
	if (rc > 0)
		w->asking = true;
	return rc ? -1 : 0;
}

/* One look-up of an alias, by key in the files and by user for the hook. 1 when there is one to be
 * expanded, 0, or -1. */
static int look_up(struct alias_walk *w, const struct conf_domain *d, const char *key,
                   const char *user, const struct alias_frame *up, struct alias_target *t)
{
	t->items[0] = alias_find(d->aliases, key);
	if (!t->items[0])
		t->items[0] = alias_find(d->system, key);
	t->items[1] = NULL;
	bool active = is_active(up, t->items[0]);
	if (!active) {
		if (ask(w, ALIAS_HOOK, d, user, &t->items[1]) < 0)
			return -1;
		active = is_active(up, t->items[1]);
	}
	t->loop = t->loop || active;
	if (active)
		t->items[0] = t->items[1] = NULL;
	return t->items[0] || t->items[1];
}

/* The first two pairs of the order: with suffix, and without. A user is looked up with its drop
 * characters: user_find prefers the exact name and leaves them out itself. 1 when t has something.
 */
static int look_up_with(struct alias_walk *w, const struct conf_domain *d, const char *local,
                        bool suffix, const struct alias_frame *up, struct alias_target *t)
{
	const struct conf *c = w->conf;
	char name[ADDR_USER_MAX + 1], key[ADDR_USER_MAX + 1], whole[ADDR_USER_MAX + 1];
	user_clean(local, c->suffix_separators, c->drop_characters, suffix, name);
	if (addr_user_key(name, key, sizeof(key)) < 0 ||
	    addr_user_key(local, whole, sizeof(whole)) < 0)
		return 0;
	if (*key) {
		int rc = look_up(w, d, key, suffix ? whole : key, up, t);
		if (rc)
			return rc;
	}
	user_clean(local, c->suffix_separators, "", suffix, name);
	const char *user = user_find(d->users, name);
	if (!user)
		return 0;
	snprintf(t->user, sizeof(t->user), "%s", user);
	return 1;
}

/* A user whom the files do not know, without suffix: Dovecot would make one of it. */
static int look_up_user(struct alias_walk *w, const struct conf_domain *d, const char *local,
                        struct alias_target *t)
{
	const struct conf *c = w->conf;
	const char *drop[] = {"", c->drop_characters};
	char name[ADDR_USER_MAX + 1], key[ADDR_USER_MAX + 1], before[ADDR_USER_MAX + 1] = "";
	for (size_t i = 0; i < 2; i++) {
		const char *yes;
		user_clean(local, c->suffix_separators, drop[i], false, name);
		if (addr_user_key(name, key, sizeof(key)) < 0 || strcmp(key, before) == 0)
			continue;
		if (ask(w, ALIAS_USER, d, key, &yes) < 0)
			return -1;
		if (yes) {
			snprintf(t->user, sizeof(t->user), "%s", key);
			return 1;
		}
		memcpy(before, key, sizeof(before));
	}
	return 0;
}

/* The order of look-ups. 1 with what it leads to, 0 when that is nothing, or -1. */
static int find_target(struct alias_walk *w, const struct conf_domain *d, const char *local,
                       const struct alias_frame *up, struct alias_target *t)
{
	*t = (struct alias_target){.user = ""};
	int rc = look_up_with(w, d, local, true, up, t);
	if (rc == 0)
		rc = look_up_with(w, d, local, false, up, t);
	if (rc == 0)
		rc = look_up_user(w, d, local, t);
	if (rc == 0 && !t->loop)
		rc = look_up(w, d, "*", "*", up, t);
	return rc;
}

static void note_missing(struct alias_walk *w, const struct conf_domain *d, const char *user)
{
	size_t n = strlen(user) + 1 + strlen(d->name);
	if (n + 1 <= w->missing.max - w->missing.len)
		buf_printf(&w->missing, "%s%s@%s", w->missing.len ? " " : "", user, d->name);
}

static int walk_local(struct alias_walk *w, const struct conf_domain *d, const struct addr *a,
                      const struct alias_frame *up, unsigned depth)
{
	if (d->unread) {
		status_set(w->st, 451, "4.3.5", "the configuration of this domain is broken");
		return -1;
	}
	struct alias_target t;
	int rc = find_target(w, d, a->user, up, &t);
	if (rc < 0)
		return -1;
	if (rc == 0 && up)
		note_missing(w, d, a->user);
	if (t.user[0])
		return add_user(w, d, t.user);
	struct alias_frame frame = {{t.items[0], t.items[1]}, up};
	for (int i = 0; i < 2; i++)
		if (expand(w, d, t.items[i], a, &frame, depth) < 0)
			return -1;
	return 0;
}

static int walk_address(struct alias_walk *w, const struct addr *a, const struct alias_frame *up,
                        unsigned depth)
{
	if (depth >= ALIAS_DEPTH_MAX) {
		status_set(w->st, 554, "5.4.6", "the aliases of this address lead in a circle");
		return -1;
	}
	if (++w->steps > ALIAS_STEPS_MAX)
		return too_much(w);
	const struct conf_domain *d = conf_domain_find(w->conf, a->domain);
	return d ? walk_local(w, d, a, up, depth) : add_address(w, ALIAS_EMAIL, a, "");
}

/* Begins anew with this domain. Returns whether that is all: something was found, or has to be
 * asked; *rc says how it ended, but a "no" does not change it. */
static bool walk_domain(struct alias_walk *w, const struct addr *a, const char *domain, int *rc)
{
	struct addr try = *a;
	snprintf(try.domain, sizeof(try.domain), "%s", domain);
	w->count = 0;
	buf_truncate(&w->found, 0);
	int one = walk_address(w, &try, NULL, 0);
	bool end = w->asking || (one == 0 && w->count > 0);
	if (one < 0 || end)
		*rc = one;
	return end;
}

/* <postmaster> without domain (RFC 5321 4.5.1): the hostname's, else the first there is. Of the
 * others the files come first, so that not each of many domains is asked for. */
static int walk_domains(struct alias_walk *w, const struct addr *a)
{
	const struct conf *c = w->conf;
	alias_know_fn *know = w->know;
	char host[ADDR_DOMAIN_MAX + 1];
	int rc = 0;
	if (addr_domain_normalise(slice_of(c->hostname), host, sizeof(host)) == 0 &&
	    conf_domain_find(c, host) && walk_domain(w, a, host, &rc))
		return rc;
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < c->domain_count; i++) {
			w->know = pass == 0 ? NULL : know;
			bool end = walk_domain(w, a, c->domain[i].name, &rc);
			w->know = know;
			/* Found in the files: now with what is known beside them. */
			if (end && (pass > 0 || walk_domain(w, a, c->domain[i].name, &rc)))
				return rc;
		}
	}
	w->count = 0;
	return rc;
}

static int hand_out(struct alias_walk *w, alias_found_fn *found, void *arg)
{
	for (size_t i = 0; i < w->count; i++) {
		const char *p = buf_data(&w->found) + w->offset[i];
		const char *address = p + 1, *via = address + strlen(address) + 1;
		enum alias_type type = *p == alias_letter(ALIAS_PIPE)      ? ALIAS_PIPE
		                       : *p == alias_letter(ALIAS_FORWARD) ? ALIAS_FORWARD
		                                                           : ALIAS_EMAIL;
		if (found(arg, type, address, type == ALIAS_FORWARD ? via : NULL) < 0)
			return -1;
	}
	return 0;
}

static int walk(struct alias_walk *w, const struct addr *a, alias_found_fn *found)
{
	int rc = a->domain[0] ? walk_address(w, a, NULL, 0) : walk_domains(w, a);
	if (w->asking)
		return 1;
	if (rc == 0 && w->missing.len > 0)
		log_info("-", "an alias leads to missing users", LOG_S("alias", a->user),
		         LOG_S("missing", buf_str(&w->missing)));
	if (rc == 0 && w->count == 0) {
		status_set(w->st, 550, "5.1.1", "there is no such user here");
		rc = -1;
	}
	return rc == 0 ? hand_out(w, found, w->arg) : -1;
}

int alias_walk(const struct conf *conf, const struct addr *a, alias_know_fn *know,
               alias_found_fn *found, void *arg, struct status *st)
{
	struct alias_walk *w = malloc(sizeof(*w));
	if (!w) {
		status_set(st, 451, "4.3.0", "not enough memory to resolve the address");
		return -1;
	}
	w->conf = conf;
	w->st = st;
	w->know = know;
	w->arg = arg;
	w->asking = false;
	w->steps = 0;
	w->count = 0;
	buf_init(&w->found, ALIAS_RESULTS_BYTES);
	buf_init(&w->missing, ALIAS_MISSING_MAX);
	int rc = walk(w, a, found);
	buf_clear(&w->found);
	buf_clear(&w->missing);
	free(w);
	return rc;
}
