/*
 * dns_hosts: names whose addresses are known without asking. The hosts file is small, local and
 * read anew each time; of one that is not, DNS_HOSTS_BYTES.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "config.h"
#include "dns_answer.h"
#include "dns_int.h"

static bool line_names(const char *p, const char *name)
{
	static const char blank[] = " \t\r\n";
	size_t want = strlen(name);
	for (p += strspn(p, blank); *p; p += strspn(p, blank)) {
		size_t n = strcspn(p, blank);
		size_t bare = p[n - 1] == '.' ? n - 1 : n;
		if (bare == want && strncasecmp(p, name, want) == 0)
			return true;
		p += n;
	}
	return false;
}

/* hosts(5): "address name name ... # comment". */
static void file_find(struct dns_query *q, const char *path, const char *name)
{
	char line[512];
	size_t read = 0;
	bool fresh = true; /* at the start of a line, not in the rest of an overlong one */
	FILE *f = fopen(path, "re");
	if (!f)
		return;
	while (read < DNS_HOSTS_BYTES && fgets(line, sizeof line, f)) {
		size_t n = strlen(line);
		bool whole = n > 0 && line[n - 1] == '\n';
		read += n;
		line[strcspn(line, "#")] = '\0';
		char *start = line + strspn(line, " \t");
		size_t len = strcspn(start, " \t\r\n");
		struct dns_addr a;
		if (fresh && dns_addr_parse(&a, (struct slice){start, len}) == 0 &&
		    line_names(start + len, name))
			dns_answer_add_address(q, &a);
		fresh = whole;
	}
	fclose(f);
}

static bool name_is_localhost(const char *name)
{
	static const char local[] = "localhost";
	size_t n = strlen(name);
	size_t l = sizeof local - 1;
	return n >= l && strcasecmp(name + n - l, local) == 0 && (n == l || name[n - l - 1] == '.');
}

void dns_hosts_find(struct dns_query *q, const char *path, const char *name)
{
	struct dns_families *f = q->block;
	file_find(q, path, name);
	if (f->count[0] + f->count[1] > 0 || !name_is_localhost(name))
		return;
	struct dns_addr a = {.family = AF_INET6, .ip.v6 = IN6ADDR_LOOPBACK_INIT};
	dns_answer_add_address(q, &a);
	a = (struct dns_addr){.family = AF_INET};
	a.ip.v4.s_addr = htonl(INADDR_LOOPBACK);
	dns_answer_add_address(q, &a);
}
