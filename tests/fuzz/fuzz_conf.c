/*
 * Fuzzes chasq.conf: what stands before a form feed is the file at the start, what stands behind it
 * the file at a reload, and behind another one what "-o" says. Each is taken, or refused with a
 * reason. What was taken is printed, and what was printed is taken again and prints the same; a bad
 * file at a reload leaves all as it was.
 */
#include <stdint.h>
#include <sys/stat.h>

#include "conf.h"
#include "conf_reload.h"
#include "fuzz_dir.h"
#include "log.h"

#define TEXT_MAX (1 << 20)

static char err[1024];

/* overrides: a string, or NULL. */
static struct conf *load(const void *p, size_t n, const char *override)
{
	unlink(fuzz_dir_path("chasq.conf"));
	unlink(fuzz_dir_path("chasquid.conf"));
	if (n > 0)
		fuzz_dir_put(n % 8 == 1 ? "chasquid.conf" : "chasq.conf", p, n);
	err[0] = '\0';
	struct conf *c = conf_load(fuzz_dir, &override, override ? 1 : 0, err, sizeof(err));
	CHECK((c == NULL) == (err[0] != '\0'));
	return c;
}

static void print(const struct conf *c, struct buf *out)
{
	buf_init(out, TEXT_MAX);
	conf_print(c, out, false);
	CHECK(!out->failed);
}

static bool same(const struct buf *a, const struct buf *b)
{
	return a->len == b->len && memcmp(buf_data(a), buf_data(b), a->len) == 0;
}

static void check_printed(const struct conf *c)
{
	struct buf first;
	struct buf second;
	print(c, &first);
	struct conf *again = load(buf_data(&first), first.len, NULL);
	if (!again)
		fprintf(stderr, "%s\n%.*s", err, (int)first.len, buf_data(&first));
	CHECK(again != NULL);
	print(again, &second);
	CHECK(same(&first, &second));
	buf_clear(&second);
	buf_init(&second, TEXT_MAX);
	conf_print(c, &second, true);
	CHECK(second.len > first.len);
	buf_clear(&first);
	buf_clear(&second);
	conf_free(again);
}

static void remove_domain(void)
{
	unlink(fuzz_dir_path("domains/d.test/users"));
	unlink(fuzz_dir_path("domains/d.test/aliases"));
	rmdir(fuzz_dir_path("domains/d.test"));
	rmdir(fuzz_dir_path("domains"));
}

static void reload(struct conf *c, const uint8_t *p, size_t n)
{
	static const char *const refuse[] = {
	    "tls_roots", "log_level",  "monitoring_address", "trusted_network",
	    "smarthost", "masquerade", "haproxy_trusted",    "max_data_size_mb"};
	struct conf_report report;
	struct buf before;
	struct buf after;
	fuzz_dir_put("chasq.conf", p, n);
	/* A domain comes with it, whose files are good or not. */
	if (n % 3 == 0) {
		CHECK(mkdir(fuzz_dir_path("domains"), 0700) == 0);
		CHECK(mkdir(fuzz_dir_path("domains/d.test"), 0700) == 0);
		fuzz_dir_put("domains/d.test/users", p, n % 2 ? n : 0);
		fuzz_dir_put("domains/d.test/aliases", p, n % 2 ? n : 0);
	}
	print(c, &before);
	conf_report_init(&report);
	err[0] = '\0';
	if (conf_reload(c, &report, err, sizeof(err)) == 0) {
		for (size_t i = 0; i < sizeof(refuse) / sizeof(refuse[0]); i++)
			if (n % 2 && conf_reload_changed(c, &report, refuse[i]))
				conf_reload_refuse(c, &report, refuse[i], "it is not there");
		conf_reload_end(c, &report);
		print(c, &after);
		CHECK(same(&before, &after) == (report.changed == 0));
	} else {
		CHECK(err[0] != '\0');
		print(c, &after);
		CHECK(same(&before, &after));
	}
	buf_clear(&before);
	buf_clear(&after);
	conf_report_clear(&report);
	remove_domain();
	check_printed(c);
}

/* Who goes where, under which name, with which password. No command is run. */
static void smarthosts(const struct conf *c)
{
	static const struct addr from[] = {{"x", "one.test"}, {"root", "us.test"}, {"", ""}};
	struct conf_smarthosts held = conf_smarthost_hold(&c->smarthosts);
	char secret[CONF_PASSWORD_MAX];
	for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
		struct addr a = from[i];
		size_t n = conf_smarthost_find(&held, &a, 0);
		CHECK(n <= held.count);
		conf_masquerade_apply(&c->masquerades, &a);
	}
	for (size_t i = 0; i < held.count; i++)
		if (held.item[i].password_file)
			conf_smarthost_password(&held.item[i], secret, sizeof(secret), err,
			                        sizeof(err));
	conf_smarthost_clear(&held);
}

/* The directory is not there under its name: what was read is still good. */
static void look_elsewhere(struct conf *c)
{
	char away[sizeof(fuzz_dir) + 8];
	snprintf(away, sizeof(away), "%s.away", fuzz_dir);
	CHECK(rename(fuzz_dir, away) == 0);
	CHECK(conf_refresh(c) == 0);
	CHECK(conf_domain_find(c, "localhost") != NULL);
	CHECK(rename(away, fuzz_dir) == 0);
}

static void questions(const struct conf *c)
{
	static const char *const from[] = {"127.0.0.1", "192.0.2.1", "2001:db8::1", "::1"};
	for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
		struct dns_addr a;
		CHECK(dns_addr_parse(&a, slice_of(from[i])) == 0);
		conf_is_trusted(c, &a);
		conf_is_proxy(c, &a);
	}
	CHECK(conf_domain_find(c, "localhost") != NULL);
	CHECK(conf_domain_find(c, "~") == NULL);
	smarthosts(c);
}

/* A string of the bytes; what stands behind a NUL is cut off. */
static char *text_of(const uint8_t *p, size_t n)
{
	char *text = malloc(n + 1);
	CHECK(text != NULL);
	memcpy(text, p, n);
	text[n] = '\0';
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int here = -1; /* it goes to the configuration's directory */
	if (here < 0) {
		fuzz_dir_make();
		log_to(fuzz_dir_nowhere());
		fuzz_dir_put("secret", "hush\r\n", 6);
		here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	const uint8_t *ff = size > 0 ? memchr(data, '\f', size) : NULL;
	size_t n = ff ? (size_t)(ff - data) : size;
	const uint8_t *more = ff ? memchr(ff + 1, '\f', size - n - 1) : NULL;
	char *override = more ? text_of(more + 1, size - (size_t)(more + 1 - data)) : NULL;
	struct conf *c = load(data, n, override);
	char *where = conf_find_data_dir(fuzz_dir);
	CHECK(where != NULL);
	free(where);
	if (c) {
		questions(c);
		look_elsewhere(c);
		check_printed(c);
		if (ff)
			reload(c, ff + 1, more ? (size_t)(more - ff - 1) : size - n - 1);
	}
	conf_free(c);
	free(override);
	CHECK(fchdir(here) == 0);
	return 0;
}
