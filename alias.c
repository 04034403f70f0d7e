/*
 * alias: the aliases of one domain: reading them, and finding one.
 *
 * A table is one buffer and a sorted array of offsets into it: about the size of the file, and it
 * never changes once loaded. What reads a right-hand side of the file reads those that a hook
 * prints. alias_system.c has sendmail's grammar, alias_walk.c the resolution.
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

#include "alias_int.h"
#include "config.h"
#include "sandbox.h"
#include "text.h"
#include "user.h"

/* ---- items ---- */

int alias_fail(struct alias_loader *l, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(l->err, l->err_size, "%s:%d: ", l->path, l->line);
	va_start(ap, fmt);
	if (n >= 0 && (size_t)n < l->err_size)
		vsnprintf(l->err + n, l->err_size - (size_t)n, fmt, ap);
	va_end(ap);
	return -1;
}

struct slice alias_trim(struct slice s)
{
	while (s.n > 0 && (*s.p == ' ' || *s.p == '\t' || *s.p == '\r')) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' || s.p[s.n - 1] == '\r'))
		s.n--;
	return s;
}

size_t alias_find_unquoted(struct slice s, const char *set)
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
		return alias_fail(l, "more aliases than ALIAS_TABLE_MAX or the memory allow");
	return 0;
}

int alias_put_item(struct alias_loader *l, enum alias_type type, struct slice text)
{
	char letter = alias_letter(type);
	if (put(l, &letter, 1) < 0 || put(l, text.p, text.n) < 0)
		return -1;
	return put(l, "", 1);
}

int alias_put_address(struct alias_loader *l, enum alias_type type, struct slice text)
{
	struct addr a;
	char form[ADDR_TEXT_MAX];
	if (addr_parse_local(text, l->t->domain, &a) < 0)
		return alias_fail(l, "\"%.*s\" is not a mail address", (int)text.n, text.p);
	if (strcmp(a.domain, l->t->domain) == 0)
		a.domain[0] = '\0';
	if (addr_format(&a, form, sizeof(form)) < 0)
		return alias_fail(l, "\"%.*s\" is too long", (int)text.n, text.p);
	return alias_put_item(l, type, slice_of(form));
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
		return alias_fail(l, "an empty host behind \"via\"");
	if (is_v6(host))
		snprintf(name, sizeof(name), "%.*s", (int)host.n, host.p);
	else if (addr_domain_normalise(host, name, sizeof(name)) < 0)
		return alias_fail(l, "\"%.*s\" behind \"via\" is not a host", (int)host.n, host.p);
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
		if (put_host(l, alias_trim((struct slice){hosts.p, n}), first) < 0)
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
	size_t n = alias_find_unquoted(item, " \t");
	struct slice address = {item.p, n},
	             rest = alias_trim((struct slice){item.p + n, item.n - n});
	if (rest.n == 0)
		return alias_put_address(l, ALIAS_EMAIL, address);
	if (slice_is(address, "via"))
		return alias_fail(l, "no address before \"via\"");
	if (rest.n < 3 || memcmp(rest.p, "via", 3) != 0 ||
	    (rest.n > 3 && rest.p[3] != ' ' && rest.p[3] != '\t'))
		return alias_fail(l, "\"%.*s\" is not a mail address", (int)item.n, item.p);
	if (alias_put_address(l, ALIAS_FORWARD, address) < 0)
		return -1;
	return put_hosts(l, alias_trim((struct slice){rest.p + 3, rest.n - 3}));
}

static int read_items(struct alias_loader *l, struct slice rest)
{
	for (;;) {
		size_t n = alias_find_unquoted(rest, ",");
		struct slice item = alias_trim((struct slice){rest.p, n});
		if (item.n > 0 && read_item(l, item) < 0)
			return -1;
		if (n == rest.n)
			return 0;
		rest.p += n + 1;
		rest.n -= n + 1;
	}
}

/* A right-hand side, trimmed and not empty, and its end. */
static int read_right(struct alias_loader *l, struct slice right)
{
	int rc;
	if (*right.p == '|') {
		struct slice command = alias_trim((struct slice){right.p + 1, right.n - 1});
		rc = command.n > 0 ? alias_put_item(l, ALIAS_PIPE, command)
		                   : alias_fail(l, "no command behind the '|'");
	} else {
		rc = read_items(l, right);
	}
	return rc < 0 ? -1 : put(l, "", 1);
}

int alias_check_bytes(struct alias_loader *l, struct slice line)
{
	for (size_t i = 0; i < line.n; i++) {
		unsigned char c = (unsigned char)line.p[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return alias_fail(l, "a control character");
	}
	if (!text_is_utf8(line.p, line.n))
		return alias_fail(l, "not valid UTF-8");
	return 0;
}

int alias_read_right(struct slice right, const char *source, const char *domain, struct buf *items,
                     char *err, size_t err_size)
{
	struct alias_table t = {.text = *items, .domain = domain};
	struct alias_loader l = {
	    .t = &t, .path = source, .line = 1, .err = err, .err_size = err_size};
	int rc = 0;
	while (right.n > 0 && strchr(" \t\r\n", *right.p)) {
		right.p++;
		right.n--;
	}
	while (right.n > 0 && strchr(" \t\r\n", right.p[right.n - 1]))
		right.n--;
	if (right.n > 0)
		rc = alias_check_bytes(&l, right) < 0 ? -1 : read_right(&l, right);
	*items = t.text;
	return rc;
}

/* ---- a file ---- */

int alias_read_name(struct alias_loader *l, struct slice name)
{
	char raw[ADDR_USER_MAX + 1], clean[ADDR_USER_MAX + 1], key[ADDR_USER_MAX + 1];
	if (memchr(name.p, '@', name.n))
		return alias_fail(l, "the left side must be a name without @");
	if (name.n > ADDR_USER_MAX)
		return alias_fail(l, "the name on the left is longer than %d bytes", ADDR_USER_MAX);
	memcpy(raw, name.p, name.n);
	raw[name.n] = '\0';
	user_clean(raw, l->separators, l->drop, true, clean);
	if (!*clean)
		return alias_fail(l, "the name on the left has only characters that are dropped");
	if (addr_user_key(clean, key, sizeof(key)) < 0)
		return alias_fail(l, "the name on the left is too long or no name of a user");
	return put(l, key, strlen(key) + 1);
}

int alias_add_entry(struct alias_loader *l, size_t offset)
{
	struct alias_table *t = l->t;
	if (t->count == l->entry_room) {
		size_t room = l->entry_room ? 2 * l->entry_room : 16;
		uint32_t *grown = realloc(t->entry, room * sizeof(*grown));
		if (!grown)
			return alias_fail(l, "out of memory");
		t->entry = grown;
		l->entry_room = room;
	}
	t->entry[t->count++] = (uint32_t)offset;
	return 0;
}

/* A line of our own grammar. */
static int read_line(struct alias_loader *l, struct slice line)
{
	line = alias_trim(line);
	if (line.n == 0 || *line.p == '#')
		return 0;
	const char *colon = memchr(line.p, ':', line.n);
	if (alias_check_bytes(l, line) < 0)
		return -1;
	if (!colon)
		return alias_fail(l, "no ':' in this line");
	struct slice left = alias_trim((struct slice){line.p, (size_t)(colon - line.p)});
	struct slice right =
	    alias_trim((struct slice){colon + 1, line.n - (size_t)(colon + 1 - line.p)});
	if (left.n == 0 || right.n == 0)
		return alias_fail(l, "nothing on the %s of the ':'",
		                  left.n == 0 ? "left" : "right");
	size_t offset = l->t->text.len;
	if (alias_read_name(l, left) < 0 || alias_add_entry(l, offset) < 0)
		return -1;
	return read_right(l, right);
}

/* Takes the complete lines off the front of what was read; at the end also an unended one. */
static int read_lines(struct alias_loader *l, struct buf *in, bool end)
{
	while (in->len > 0) {
		const char *p = buf_data(in), *newline = memchr(p, '\n', in->len);
		if (!newline && !end)
			break;
		size_t n = newline ? (size_t)(newline - p) : in->len;
		l->line++;
		if (l->take(l, (struct slice){p, n}) < 0)
			return -1;
		buf_consume(in, newline ? n + 1 : n);
	}
	if (in->len == in->max) {
		l->line++;
		return alias_fail(l, "longer than %d bytes", ALIAS_LINE_MAX);
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
			alias_fail(l, "out of memory");
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

/* Gives back what doubling took too much. */
static void shrink(struct alias_table *t)
{
	char *text = t->text.len > 0 ? realloc(t->text.data, t->text.len) : NULL;
	uint32_t *entry = t->count > 0 ? realloc(t->entry, t->count * sizeof(*entry)) : NULL;
	if (text) {
		t->text.data = text;
		t->text.size = t->text.len;
	}
	if (entry)
		t->entry = entry;
}

struct alias_table *alias_load_with(struct alias_loader *l)
{
	struct alias_table *t = l->t = calloc(1, sizeof(*t));
	if (!t) {
		snprintf(l->err, l->err_size, "%s: out of memory", l->path);
		return NULL;
	}
	buf_init(&t->text, ALIAS_TABLE_MAX);
	t->domain = l->domain;
	int fd = open(l->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return t;
	if (fd < 0) {
		snprintf(l->err, l->err_size, "%s: %s", l->path,
		         sandbox_reason(errno, l->path, SANDBOX_READ));
		alias_free(t);
		return NULL;
	}
	int rc = read_file(l, fd);
	close(fd);
	if (rc == 0 && l->end)
		rc = l->end(l);
	if (rc < 0) {
		alias_free(t);
		return NULL;
	}
	sort_entries(t);
	shrink(t);
	return t;
}

struct alias_table *alias_load(const char *path, const char *domain, const char *suffix_separators,
                               const char *drop_characters, char *err, size_t err_size)
{
	struct alias_loader l = {.take = read_line,
	                         .path = path,
	                         .domain = domain,
	                         .separators = suffix_separators,
	                         .drop = drop_characters,
	                         .err = err,
	                         .err_size = err_size};
	return alias_load_with(&l);
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

const char *alias_find(const struct alias_table *t, const char *key)
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
