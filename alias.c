/*
 * alias: the aliases of one domain and their resolution.
 *
 * A table is one buffer and a sorted array of offsets into it: about the size of the file, and it
 * never changes once loaded. Resolution is a walk over the tables, bounded in depth, in steps and
 * in results. An alias that leads back to itself means the user of that name, so "a: a,
 * copy@example" adds a copy. Results are gathered first and handed out when the walk has ended
 * well.
 */
#include "alias.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "conf.h"
#include "config.h"
#include "log.h"
#include "user.h"

/*
 * An entry in the text: its key, NUL, then items, then NUL. An item: the letter of its type, the
 * address (without "@domain" when that is the table's own) or command, NUL, and for a forward the
 * hosts, NUL.
 */
struct alias_table {
	struct buf text;
	uint32_t *entry; /* offsets, sorted by key */
	size_t count;
	const char *domain;
};

static const char item_letter[] = {[ALIAS_EMAIL] = 'E', [ALIAS_PIPE] = 'P', [ALIAS_FORWARD] = 'F'};

/* ---- reading ---- */

struct alias_loader {
	struct alias_table *t;
	const char *path;
	const char *separators;
	const char *drop;
	size_t entry_room;
	int line;
	char *err;
	size_t err_size;
};

static int fail(struct alias_loader *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Writes "file:line: reason". Returns -1. */
static int fail(struct alias_loader *l, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(l->err, l->err_size, "%s:%d: ", l->path, l->line);
	va_start(ap, fmt);
	if (n >= 0 && (size_t)n < l->err_size)
		vsnprintf(l->err + n, l->err_size - (size_t)n, fmt, ap);
	va_end(ap);
	return -1;
}

static struct slice trim(struct slice s)
{
	while (s.n > 0 && (*s.p == ' ' || *s.p == '\t' || *s.p == '\r')) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' || s.p[s.n - 1] == '\r'))
		s.n--;
	return s;
}

/* Offset of the first byte that is one of the set and stands outside double quotes; s.n if none. */
static size_t find_unquoted(struct slice s, const char *set)
{
	bool quoted = false;
	size_t i;
	for (i = 0; i < s.n; i++) {
		if (quoted && s.p[i] == '\\' && i + 1 < s.n)
			i++;
		else if (s.p[i] == '"')
			quoted = !quoted;
		else if (!quoted && strchr(set, s.p[i]))
			break;
	}
	return i;
}

static int put(struct alias_loader *l, const void *p, size_t n)
{
	if (buf_append(&l->t->text, p, n) < 0)
		return fail(l, "more aliases than ALIAS_TABLE_MAX or the memory allow");
	return 0;
}

static int put_item(struct alias_loader *l, enum alias_type type, struct slice text)
{
	if (put(l, &item_letter[type], 1) < 0 || put(l, text.p, text.n) < 0)
		return -1;
	return put(l, "", 1);
}

/* Reads an address and adds it in its stored form. */
static int put_address(struct alias_loader *l, enum alias_type type, struct slice text)
{
	struct addr a;
	char form[ADDR_TEXT_MAX];
	if (addr_parse_local(text, l->t->domain, &a) < 0)
		return fail(l, "\"%.*s\" is not a mail address", (int)text.n, text.p);
	if (strcmp(a.domain, l->t->domain) == 0)
		a.domain[0] = '\0';
	if (addr_format(&a, form, sizeof(form)) < 0)
		return fail(l, "\"%.*s\" is too long", (int)text.n, text.p);
	return put_item(l, type, slice_of(form));
}

/* Takes ":port" off a host that may have one: IPv6 addresses with a port stand in brackets. */
static struct slice take_port(struct slice *host)
{
	const char *colon = memrchr(host->p, ':', host->n);
	size_t at = colon ? (size_t)(colon - host->p) : 0;
	size_t n = colon ? host->n - at - 1 : 0;
	bool lone = colon && (memchr(host->p, ':', at) == NULL || host->p[at - 1] == ']');
	long port = 0;
	for (size_t i = 0; i < n && lone; i++)
		port = colon[1 + i] >= '0' && colon[1 + i] <= '9' && port <= 65535
		           ? port * 10 + (colon[1 + i] - '0')
		           : 65536;
	if (!lone || n == 0 || port < 1 || port > 65535)
		return slice_of("");
	host->n = at;
	return (struct slice){colon, n + 1};
}

/* An IPv6 address, as it is or in brackets? */
static bool is_v6(struct slice host)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr v6;
	if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
		host = (struct slice){host.p + 1, host.n - 2};
	if (host.n >= sizeof(text))
		return false;
	memcpy(text, host.p, host.n);
	text[host.n] = '\0';
	return inet_pton(AF_INET6, text, &v6) == 1;
}

/* A host behind "via": a name, an address, or an address literal, and perhaps a port. */
static int put_host(struct alias_loader *l, struct slice host, bool first)
{
	char name[ADDR_DOMAIN_MAX + 1];
	struct slice port = take_port(&host);
	if (host.n == 0)
		return fail(l, "an empty host behind \"via\"");
	if (is_v6(host))
		snprintf(name, sizeof(name), "%.*s", (int)host.n, host.p);
	else if (addr_domain_normalise(host, name, sizeof(name)) < 0)
		return fail(l, "\"%.*s\" behind \"via\" is not a host", (int)host.n, host.p);
	if (!first && put(l, "/", 1) < 0)
		return -1;
	return put(l, name, strlen(name)) < 0 ? -1 : put(l, port.p, port.n);
}

static int put_hosts(struct alias_loader *l, struct slice hosts)
{
	bool first = true;
	for (;;) {
		const char *slash = memchr(hosts.p, '/', hosts.n);
		size_t n = slash ? (size_t)(slash - hosts.p) : hosts.n;
		if (put_host(l, trim((struct slice){hosts.p, n}), first) < 0)
			return -1;
		if (!slash)
			return put(l, "", 1);
		hosts.p += n + 1;
		hosts.n -= n + 1;
		first = false;
	}
}

/* address [ "via" host *( "/" host ) ] */
static int read_item(struct alias_loader *l, struct slice item)
{
	size_t n = find_unquoted(item, " \t");
	struct slice address = {item.p, n}, rest = trim((struct slice){item.p + n, item.n - n});
	if (rest.n == 0)
		return put_address(l, ALIAS_EMAIL, address);
	if (slice_is(address, "via"))
		return fail(l, "no address before \"via\"");
	if (rest.n < 3 || memcmp(rest.p, "via", 3) != 0 ||
	    (rest.n > 3 && rest.p[3] != ' ' && rest.p[3] != '\t'))
		return fail(l, "\"%.*s\" is not a mail address", (int)item.n, item.p);
	if (put_address(l, ALIAS_FORWARD, address) < 0)
		return -1;
	return put_hosts(l, trim((struct slice){rest.p + 3, rest.n - 3}));
}

static int read_items(struct alias_loader *l, struct slice rest)
{
	for (;;) {
		size_t n = find_unquoted(rest, ",");
		struct slice item = trim((struct slice){rest.p, n});
		if (item.n > 0 && read_item(l, item) < 0)
			return -1;
		if (n == rest.n)
			return 0;
		rest.p += n + 1;
		rest.n -= n + 1;
	}
}

static int read_name(struct alias_loader *l, struct slice name)
{
	char raw[ADDR_USER_MAX + 1], clean[ADDR_USER_MAX + 1], key[ADDR_USER_MAX + 1];
	if (memchr(name.p, '@', name.n))
		return fail(l, "the left side must be a name without @");
	if (name.n > ADDR_USER_MAX)
		return fail(l, "the name on the left is longer than %d bytes", ADDR_USER_MAX);
	memcpy(raw, name.p, name.n);
	raw[name.n] = '\0';
	user_clean(raw, l->separators, l->drop, true, clean);
	if (!*clean)
		return fail(l, "the name on the left has only characters that are dropped");
	if (addr_user_key(clean, key, sizeof(key)) < 0)
		return fail(l, "the name on the left is too long");
	return put(l, key, strlen(key) + 1);
}

static int add_entry(struct alias_loader *l, size_t offset)
{
	struct alias_table *t = l->t;
	if (t->count == l->entry_room) {
		size_t room = l->entry_room ? 2 * l->entry_room : 16;
		uint32_t *grown = realloc(t->entry, room * sizeof(*grown));
		if (!grown)
			return fail(l, "out of memory");
		t->entry = grown;
		l->entry_room = room;
	}
	t->entry[t->count++] = (uint32_t)offset;
	return 0;
}

/* Control characters and broken UTF-8 have no meaning here and would travel on. */
static int check_bytes(struct alias_loader *l, struct slice line)
{
	for (size_t i = 0; i < line.n; i++) {
		unsigned char c = (unsigned char)line.p[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return fail(l, "a control character");
	}
	if (!text_is_utf8(line.p, line.n))
		return fail(l, "not valid UTF-8");
	return 0;
}

static int read_line(struct alias_loader *l, struct slice line)
{
	l->line++;
	line = trim(line);
	if (line.n == 0 || *line.p == '#')
		return 0;
	const char *colon = memchr(line.p, ':', line.n);
	if (check_bytes(l, line) < 0)
		return -1;
	if (!colon)
		return fail(l, "no ':' in this line");
	struct slice left = trim((struct slice){line.p, (size_t)(colon - line.p)});
	struct slice right = trim((struct slice){colon + 1, line.n - (size_t)(colon + 1 - line.p)});
	if (left.n == 0 || right.n == 0)
		return fail(l, "nothing on the %s of the ':'", left.n == 0 ? "left" : "right");
	size_t offset = l->t->text.len;
	if (read_name(l, left) < 0 || add_entry(l, offset) < 0)
		return -1;
	int rc;
	if (*right.p == '|') {
		struct slice command = trim((struct slice){right.p + 1, right.n - 1});
		rc = command.n > 0 ? put_item(l, ALIAS_PIPE, command)
		                   : fail(l, "no command behind the '|'");
	} else {
		rc = read_items(l, right);
	}
	return rc < 0 ? -1 : put(l, "", 1);
}

/* Takes the complete lines off the front of what was read; at the end also an unended one. */
static int read_lines(struct alias_loader *l, struct buf *in, bool end)
{
	while (in->len > 0) {
		const char *p = buf_data(in), *newline = memchr(p, '\n', in->len);
		if (!newline && !end)
			break;
		size_t n = newline ? (size_t)(newline - p) : in->len;
		if (read_line(l, (struct slice){p, n}) < 0)
			return -1;
		buf_consume(in, newline ? n + 1 : n);
	}
	if (in->len == in->max) {
		l->line++;
		return fail(l, "longer than %d bytes", ALIAS_LINE_MAX);
	}
	return 0;
}

static int read_file(struct alias_loader *l, int fd)
{
	struct buf in;
	int rc = -1;
	buf_init(&in, ALIAS_LINE_MAX);
	for (;;) {
		size_t room;
		char *p = buf_space(&in, ALIAS_LINE_MAX, &room);
		if (!p) {
			fail(l, "out of memory");
			break;
		}
		ssize_t n = read(fd, p, room);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			snprintf(l->err, l->err_size, "%s: %s", l->path, strerror(errno));
			break;
		}
		buf_added(&in, (size_t)n);
		rc = read_lines(l, &in, n == 0);
		if (rc < 0 || n == 0)
			break;
		rc = -1;
	}
	buf_clear(&in);
	return rc;
}

static const char *text_at(const struct alias_table *t, uint32_t offset)
{
	return buf_data(&t->text) + offset;
}

/* qsort() passes no context; tables are only built in the one thread there is. */
static const struct alias_table *sorting;

static int entry_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int c = strcmp(text_at(sorting, x), text_at(sorting, y));
	return c ? c : (x > y) - (x < y);
}

/* Sorts, and lets the last line of several for one name win. */
static void sort_entries(struct alias_table *t)
{
	size_t kept = 0;
	sorting = t;
	if (t->count > 0)
		qsort(t->entry, t->count, sizeof(*t->entry), entry_compare);
	for (size_t i = 0; i < t->count; i++) {
		if (kept > 0 &&
		    strcmp(text_at(t, t->entry[kept - 1]), text_at(t, t->entry[i])) == 0)
			kept--;
		t->entry[kept++] = t->entry[i];
	}
	t->count = kept;
}

struct alias_table *alias_load(const char *path, const char *domain, const char *suffix_separators,
                               const char *drop_characters, char *err, size_t err_size)
{
	struct alias_table *t = calloc(1, sizeof(*t));
	struct alias_loader l = {.t = t,
	                         .path = path,
	                         .separators = suffix_separators,
	                         .drop = drop_characters,
	                         .err = err,
	                         .err_size = err_size};
	if (!t) {
		snprintf(err, err_size, "%s: out of memory", path);
		return NULL;
	}
	buf_init(&t->text, ALIAS_TABLE_MAX);
	t->domain = domain;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return t;
	if (fd < 0) {
		snprintf(err, err_size, "%s: %s", path, strerror(errno));
		alias_free(t);
		return NULL;
	}
	int rc = read_file(&l, fd);
	close(fd);
	if (rc < 0) {
		alias_free(t);
		return NULL;
	}
	sort_entries(t);
	return t;
}

void alias_free(struct alias_table *t)
{
	if (!t)
		return;
	buf_clear(&t->text);
	free(t->entry);
	free(t);
}

size_t alias_count(const struct alias_table *t)
{
	return t ? t->count : 0;
}

/* ---- resolution ---- */

/* An alias being expanded, and those that led to it. */
struct alias_frame {
	const char *items;
	const struct alias_frame *up;
};

struct alias_walk {
	const struct conf *conf;
	struct status *st;
	unsigned steps;
	struct buf found; /* records: letter, address, NUL, hosts, NUL */
	size_t count;
	uint32_t hash[ALIAS_RESULTS_MAX];
	uint32_t offset[ALIAS_RESULTS_MAX];
};

/* The items of the alias with this key; NULL when there is none, or none with items. */
static const char *find_alias(const struct alias_table *t, const char *key)
{
	size_t low = 0, high = t ? t->count : 0;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const char *at = text_at(t, t->entry[mid]);
		int c = strcmp(key, at);
		if (c == 0) {
			at += strlen(at) + 1;
			return *at ? at : NULL;
		}
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

static bool is_active(const struct alias_frame *f, const char *items)
{
	while (f && f->items != items)
		f = f->up;
	return f != NULL;
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
	buf_putc(&w->found, item_letter[type]);
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

/* Walks on to what an alias says; a is the address that led here. */
static int expand(struct alias_walk *w, const struct conf_domain *d, const char *items,
                  const struct addr *a, const struct alias_frame *up, unsigned depth)
{
	struct alias_frame frame = {items, up};
	while (*items) {
		char letter = *items++;
		const char *text = items, *via = "";
		items += strlen(items) + 1;
		if (letter == item_letter[ALIAS_PIPE]) {
			if (add_found(w, ALIAS_PIPE, text, "") < 0)
				return -1;
			continue;
		}
		if (letter == item_letter[ALIAS_FORWARD]) {
			via = items;
			items += strlen(items) + 1;
		}
		struct addr to;
		if (addr_parse_local(slice_of(text), d->name, &to) < 0)
			continue; /* alias_load has parsed it before */
		if (strcmp(to.user, "*") == 0)
			memcpy(to.user, a->user, sizeof(to.user));
		int rc = *via ? add_address(w, ALIAS_FORWARD, &to, via)
		              : walk_address(w, &to, &frame, depth + 1);
		if (rc < 0)
			return -1;
	}
	return 0;
}

/* What a local part leads to: an alias not being expanded yet, or a user. */
struct alias_target {
	const char *items;
	const char *user;
};

/* The order of look-ups. A user is looked up with its drop characters: user_find prefers the exact
 * name and leaves them out itself. */
static struct alias_target find_target(const struct conf *c, const struct conf_domain *d,
                                       const char *local, const struct alias_frame *up)
{
	char name[ADDR_USER_MAX + 1], key[ADDR_USER_MAX + 1];
	struct alias_target t = {NULL, NULL};
	bool loop = false;
	for (int keep_suffix = 1; keep_suffix >= 0; keep_suffix--) {
		user_clean(local, c->suffix_separators, c->drop_characters, keep_suffix, name);
		if (addr_user_key(name, key, sizeof(key)) == 0)
			t.items = find_alias(d->aliases, key);
		if (t.items && !is_active(up, t.items))
			return t;
		loop = loop || t.items;
		t.items = NULL;
		user_clean(local, c->suffix_separators, "", keep_suffix, name);
		t.user = user_find(d->users, name);
		if (t.user)
			return t;
	}
	t.items = find_alias(d->aliases, "*");
	if (loop || is_active(up, t.items))
		t.items = NULL;
	return t;
}

static int walk_local(struct alias_walk *w, const struct conf_domain *d, const struct addr *a,
                      const struct alias_frame *up, unsigned depth)
{
	if (d->unread) {
		status_set(w->st, 451, "4.3.5", "the configuration of this domain is broken");
		return -1;
	}
	struct alias_target t = find_target(w->conf, d, a->user, up);
	if (t.items)
		return expand(w, d, t.items, a, up, depth);
	if (t.user)
		return add_user(w, d, t.user);
	if (up)
		log_info("-", "an alias leads to a missing user", LOG_S("user", a->user),
		         LOG_S("domain", d->name));
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

/* <postmaster> without domain (RFC 5321 4.5.1): the hostname's, else the first there is. */
static int walk_domains(struct alias_walk *w, const struct addr *a)
{
	char host[ADDR_DOMAIN_MAX + 1];
	struct addr try = *a;
	const struct conf *c = w->conf;
	int rc = 0;
	if (addr_domain_normalise(slice_of(c->hostname), host, sizeof(host)) < 0 ||
	    !conf_domain_find(c, host))
		host[0] = '\0';
	for (size_t i = host[0] ? 0 : 1; i <= c->domain_count; i++) {
		const char *domain = i == 0 ? host : c->domain[i - 1].name;
		snprintf(try.domain, sizeof(try.domain), "%s", domain);
		w->count = 0;
		buf_truncate(&w->found, 0);
		int one = walk_address(w, &try, NULL, 0);
		if (one == 0 && w->count > 0)
			return 0;
		if (one < 0)
			rc = -1;
	}
	w->count = 0;
	return rc;
}

static int hand_out(struct alias_walk *w, alias_found_fn *found, void *arg)
{
	for (size_t i = 0; i < w->count; i++) {
		const char *p = buf_data(&w->found) + w->offset[i];
		const char *address = p + 1, *via = address + strlen(address) + 1;
		enum alias_type type = *p == item_letter[ALIAS_PIPE]      ? ALIAS_PIPE
		                       : *p == item_letter[ALIAS_FORWARD] ? ALIAS_FORWARD
		                                                          : ALIAS_EMAIL;
		if (found(arg, type, address, type == ALIAS_FORWARD ? via : NULL) < 0)
			return -1;
	}
	return 0;
}

int alias_resolve(const struct conf *conf, const struct addr *a, alias_found_fn *found, void *arg,
                  struct status *st)
{
	struct alias_walk *w = malloc(sizeof(*w));
	if (!w) {
		status_set(st, 451, "4.3.0", "not enough memory to resolve the address");
		return -1;
	}
	w->conf = conf;
	w->st = st;
	w->steps = 0;
	w->count = 0;
	buf_init(&w->found, ALIAS_RESULTS_BYTES);
	int rc = a->domain[0] ? walk_address(w, a, NULL, 0) : walk_domains(w, a);
	if (rc == 0 && w->count == 0) {
		status_set(st, 550, "5.1.1", "there is no such user here");
		rc = -1;
	}
	if (rc == 0)
		rc = hand_out(w, found, arg);
	buf_clear(&w->found);
	free(w);
	return rc;
}
