/*
 * Fuzz target of alias. Any file is read or refused with a reason; whatever was read resolves, in
 * bounded time, to canonical addresses, commands and hosts without doubles, or to a status.
 */
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

static void resolve(const struct conf *c, const char *user, const char *domain)
{
	static struct results r;
	struct addr a = {.user = ""};
	struct status st = {.code = 0};
	if (strlen(user) > ADDR_USER_MAX)
		return;
	snprintf(a.user, sizeof(a.user), "%s", user);
	snprintf(a.domain, sizeof(a.domain), "%s", domain);
	int rc = alias_resolve(c, &a, note, &r, &st);
	check(rc == 0 ? r.count > 0 : st.code >= 400 && st.code < 600);
	while (r.count > 0)
		free(r.item[--r.count]);
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
	log_level_now = LOG_LEVEL_ERROR;
	int fd = memfd_create("aliases", MFD_CLOEXEC);
	check(fd >= 0);
	check(write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	domains[0].aliases = alias_load(path, a, plus, dot, err, sizeof(err));
	domains[1].aliases = alias_load(path, b, plus, dot, err, sizeof(err));
	close(fd);
	check((domains[0].aliases == NULL) == (err[0] != '\0'));
	if (domains[0].aliases && domains[1].aliases)
		resolve_names(&c, data, size);
	alias_free(domains[0].aliases);
	alias_free(domains[1].aliases);
	return 0;
}
