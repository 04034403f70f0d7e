/*
 * Fuzz target of domaininfo's files. The first line of the input is a file's name, the rest its
 * content. A name that tells a domain leads back to a name that tells the same one, and is never a
 * path; whatever was understood survives being written and read; what was not counts as the
 * strongest levels, never as less.
 */
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "domaininfo_int.h"
#include "fuzz_dir.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_name(const char *domain)
{
	char file[NAME_MAX + 1], again[ADDR_DOMAIN_MAX + 1];
	check(domaininfo_file_name(domain, file) == 0);
	check(strncmp(file, "s:", 2) == 0 && file[2] && !strchr(file, '/'));
	for (const char *p = file; *p; p++)
		check(*p > ' ' && *p < 127);
	check(domaininfo_file_domain(file, again) == 0 && strcmp(domain, again) == 0);
}

static void check_written(const struct domaininfo_record *r)
{
	char why[DOMAININFO_WHY_MAX];
	struct domaininfo_record again;
	struct buf b;
	buf_init(&b, DOMAININFO_FILE_MAX);
	check(domaininfo_file_format(r, &b) == 0);
	again = *r;
	check(domaininfo_file_parse(buf_data(&b), b.len, &again, why) == DOMAININFO_GOOD);
	for (int way = 0; way < 2; way++) {
		check(again.level[way] == r->level[way]);
		check(again.seen[way] == (r->level[way] > DOMAININFO_PLAIN ? r->seen[way] : 0));
	}
	buf_clear(&b);
}

static int on_file(void *arg, const char *file)
{
	char *name = arg;
	if (strncmp(file, "s:", 2) == 0)
		snprintf(name, NAME_MAX + 1, "%s", file);
	return 0;
}

/* On disk, too: what was written is there under its name, and is read again. */
static void check_file(const struct domaininfo_record *r)
{
	char name[NAME_MAX + 1] = "", why[DOMAININFO_WHY_MAX];
	struct domaininfo_record again;
	bool more;
	int dir = open(fuzz_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(dir >= 0 && domaininfo_file_write(dir, r) == 0);
	CHECK(domaininfo_file_each(dir, on_file, name, &more) == 0 && !more);
	CHECK(domaininfo_file_read(dir, name, &again, why) == DOMAININFO_GOOD);
	CHECK(strcmp(again.domain, r->domain) == 0 && again.level[1] == r->level[1]);
	CHECK(unlinkat(dir, name, 0) == 0);
	CHECK(domaininfo_file_read(dir, name, &again, why) == DOMAININFO_GONE);
	CHECK(domaininfo_file_read(dir, "no-name", &again, why) == DOMAININFO_STRANGE);
	CHECK(mkdirat(dir, name, 0700) == 0);
	CHECK(domaininfo_file_read(dir, name, &again, why) == DOMAININFO_STRANGE);
	CHECK(domaininfo_file_write(dir, r) == -1);
	CHECK(unlinkat(dir, name, AT_REMOVEDIR) == 0);
	CHECK(domaininfo_level_name(r->level[0])[0] != '\0');
	close(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[NAME_MAX + 1], why[DOMAININFO_WHY_MAX];
	struct domaininfo_record r;
	const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
	size_t n = end ? (size_t)(end - data) : 0;
	if (!fuzz_dir[0])
		fuzz_dir_make();
	if (!end || n >= sizeof(name))
		return 0;
	memcpy(name, data, n);
	name[n] = '\0';
	domaininfo_file_is_left_over(name);
	if (domaininfo_file_domain(name, r.domain) < 0)
		return 0;
	check_name(r.domain);
	switch (domaininfo_file_parse((const char *)end + 1, size - n - 1, &r, why)) {
	case DOMAININFO_GOOD:
		check(r.level[DOMAININFO_IN] <= DOMAININFO_TLS_CLIENT);
		check(r.level[DOMAININFO_OUT] <= DOMAININFO_TLS_SECURE);
		check(r.seen[DOMAININFO_IN] >= 0 && r.seen[DOMAININFO_OUT] >= 0);
		check_written(&r);
		check_file(&r);
		break;
	case DOMAININFO_DAMAGED:
		check(r.level[DOMAININFO_IN] == DOMAININFO_TLS_CLIENT);
		check(r.level[DOMAININFO_OUT] == DOMAININFO_TLS_SECURE);
		break;
	case DOMAININFO_STRANGE:
		break;
	default:
		abort();
	}
	return 0;
}
