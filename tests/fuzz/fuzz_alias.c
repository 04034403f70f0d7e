/*
 * Fuzz target of alias. Any file is read or refused with a reason; whatever was read resolves, in
 * bounded time, to canonical addresses, commands and hosts without doubles, or to a status.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alias.h"
#include "conf.h"
#include "log.h"

#define RESULTS 2000

struct results {
	char *item[RESULTS];
	size_t count;
	const char *hooked;
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static int note(void *arg, enum alias_type type, const char *address, const char *via)
{
	struct results *r = arg;
	struct addr a;
	char text[ADDR_TEXT_MAX];
	size_t size = strlen(address) + (via ? strlen(via) : 0) + 3;
	char *item = malloc(size);
	check(item != NULL);
	snprintf(item, size, "%d%s/%s", (int)type, address, via ? via : "");
	for (size_t i = 0; i < r->count; i++)
		check(strcmp(r->item[i], item) != 0);
	r->item[r->count++] = item;
	check(r->count <= ALIAS_RESULTS_MAX);
	check((type == ALIAS_FORWARD) == (via != NULL) && (!via || *via));
	if (type == ALIAS_PIPE) {
		check(*address != '\0');
		return 0;
	}
	check(addr_parse(slice_of(address), &a) == 0);
	check(addr_format(&a, text, sizeof(text)) == 0 && strcmp(text, address) == 0);
	return 0;
}

/* There is nobody else to ask. */
static int nobody_knows(void *arg, enum alias_question q, const struct addr *a, const char **items)
{
	(void)arg;
	(void)q;
	(void)a;
	*items = NULL;
	return 0;
}

static void resolve(const struct conf *c, const char *user, const char *domain)
{
	static struct results r;
	struct addr a = {.user = ""};
	struct status st = {.code = 0};
	if (strlen(user) > ADDR_USER_MAX)
		return;
	snprintf(a.user, sizeof(a.user), "%s", user);
	snprintf(a.domain, sizeof(a.domain), "%s", domain);
	int rc = alias_walk(c, &a, nobody_knows, note, &r, &st);
	check(rc == 0 ? r.count > 0 : st.code >= 400 && st.code < 600);
	while (r.count > 0)
		free(r.item[--r.count]);
}

/* Says of some names that they are hooked, or users of Dovecot, and of some that it cannot tell. */
static int know(void *arg, enum alias_question q, const struct addr *a, const char **items)
{
	struct results *r = arg;
	size_t n = strlen(a->user);
	check(strcmp(a->domain, "a.test") == 0 || strcmp(a->domain, "b.test") == 0);
	if (n % 7 == 3)
		return 1;
	if (q == ALIAS_USER)
		*items = n % 3 == 0 ? "" : NULL;
	else
		*items = r->hooked;
	return 0;
}

static void walk(const struct conf *c, const char *user, const char *items)
{
	static struct results r;
	struct addr a = {.user = "", .domain = "a.test"};
	struct status st = {.code = 0};
	snprintf(a.user, sizeof(a.user), "%s", user);
	r.hooked = items;
	int rc = alias_walk(c, &a, know, note, &r, &st);
	check(rc == 0 ? r.count > 0 : rc > 0 || (st.code >= 400 && st.code < 600));
	while (r.count > 0)
		free(r.item[--r.count]);
}

/* The data as what a hook prints: read or refused with a reason; if read, it resolves. */
static void hook_output(const struct conf *c, const uint8_t *data, size_t size)
{
	struct buf items;
	char err[256] = "";
	buf_init(&items, ALIAS_RESULTS_BYTES);
	int rc = alias_read_right((struct slice){(const char *)data, size}, "hook", "a.test",
	                          &items, err, sizeof(err));
	check((rc < 0) == (err[0] != '\0'));
	if (rc == 0 && items.len > 0) {
		check(buf_data(&items)[items.len - 1] == '\0');
		walk(c, "x", buf_data(&items));
		walk(c, "x.y+tag", buf_data(&items));
	}
	walk(c, "ab+c", NULL);
	buf_clear(&items);
}

/* Each name on a left side, and some more. */
static void resolve_names(const struct conf *c, const uint8_t *data, size_t size)
{
	char line[200];
	size_t n = 0, names = 0;
	resolve(c, "postmaster", "");
	resolve(c, "user+tag", "a.test");
	resolve(c, "x", "b.test");
	resolve(c, "x", "elsewhere.test");
	for (size_t i = 0; i < size && names < 20; i++) {
		if (data[i] == '\n')
			n = 0;
		else if (data[i] != ':' && n + 5 < sizeof(line))
			line[n++] = (char)data[i];
		if (data[i] != ':' || n == 0)
			continue;
		line[n] = '\0';
		if (text_is_utf8(line, strlen(line)) && line[0]) {
			resolve(c, line, "a.test");
			memcpy(line + n, "+tag", 5);
			resolve(c, line, "a.test");
		}
		n = 0;
		names++;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char a[] = "a.test", b[] = "b.test", plus[] = "+", dot[] = ".";
	char path[40], err[256] = "";
	struct conf_domain domains[2] = {{.name = a}, {.name = b}};
	struct conf c = {.hostname = b,
	                 .suffix_separators = plus,
	                 .drop_characters = dot,
	                 .domain = domains,
	                 .domain_count = 2};
	/* Lines of the system's aliases that are left out are told. */
	static int nowhere = -1;
	if (nowhere < 0)
		log_to(nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC));
	int fd = memfd_create("aliases", MFD_CLOEXEC);
	check(fd >= 0);
	check(write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	domains[0].aliases = alias_load(path, a, plus, dot, err, sizeof(err));
	domains[1].aliases = alias_load(path, b, plus, dot, err, sizeof(err));
	check((domains[0].aliases == NULL) == (err[0] != '\0'));
	err[0] = '\0';
	domains[0].system = alias_load_system(path, a, plus, dot, err, sizeof(err));
	check((domains[0].system == NULL) == (err[0] != '\0'));
	close(fd);
	if (domains[1].aliases || domains[0].system)
		resolve_names(&c, data, size);
	hook_output(&c, data, size);
	alias_free(domains[0].system);
	alias_free(domains[0].aliases);
	alias_free(domains[1].aliases);
	return 0;
}
