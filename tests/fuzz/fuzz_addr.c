/*
 * Fuzz target of addr. Any input: an address that is taken has one canonical text, which reads back
 * the same; a domain has one spelling, which is safe as a file name; each user has a key, and a
 * key is its own key without new punctuation.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_domain(const char *domain)
{
	char again[ADDR_DOMAIN_MAX + 1];
	char ascii[ADDR_DOMAIN_MAX + 1];
	unsigned char raw[16];
	const char *p;

	check(addr_is_file_name(domain));
	for (p = domain; *p && !addr_is_literal(domain); p++)
		check((unsigned char)*p >= 0x80 || (*p >= '0' && *p <= '9') ||
		      (*p >= 'a' && *p <= 'z') || strchr("-_.", *p));
	check(addr_domain_normalise(slice_of(domain), again, sizeof(again)) == 0);
	check(strcmp(domain, again) == 0);
	check(addr_domain_to_ascii(domain, ascii, sizeof(ascii)) == 0);
	check(addr_domain_normalise(slice_of(ascii), again, sizeof(again)) == 0);
	check(strcmp(domain, again) == 0);
	check(addr_is_literal(domain) == (addr_literal(domain, raw) != 0));
}

static size_t count_punctuation(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (unsigned char)*s < 0x80 && !(*s >= '0' && *s <= '9') &&
		     !(*s >= 'a' && *s <= 'z') && !(*s >= 'A' && *s <= 'Z');
	return n;
}

static void check_key(const char *user, const char *key)
{
	char again[ADDR_USER_MAX + 1];

	check(addr_user_key(key, again, sizeof(again)) == 0);
	check(strcmp(key, again) == 0);
	check(count_punctuation(key) == count_punctuation(user));
	check(addr_user_equal(user, key));
}

static void check_addr(const struct addr *a)
{
	char text[ADDR_TEXT_MAX];
	char key[ADDR_USER_MAX + 1];
	struct addr back;
	const char *p;

	for (p = a->user; *p; p++)
		check((unsigned char)*p >= ' ' && *p != 0x7f);
	if (a->domain[0])
		check_domain(a->domain);
	check(addr_format(a, text, sizeof(text)) == 0);
	if (a->domain[0] || !a->user[0]) {
		check(addr_parse(slice_of(text), &back) == 0);
		check(memcmp(a, &back, sizeof(back)) == 0 || strcmp(a->user, back.user) == 0);
		check(strcmp(a->domain, back.domain) == 0);
	}
	check(addr_format_wire(a, true, text, sizeof(text)) == 0);
	check(addr_user_key(a->user, key, sizeof(key)) == 0);
	check_key(a->user, key);
}

/* Any bytes as the name of a user, as a file may give it. */
static void check_user(const uint8_t *data, size_t size)
{
	char user[3 * ADDR_USER_MAX + 1];
	char key[ADDR_USER_MAX + 1];

	if (size >= sizeof(user))
		return;
	memcpy(user, data, size);
	user[size] = '\0';
	if (addr_user_key(user, key, sizeof(key)) == 0)
		check_key(user, key);
	else
		check(key[0] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = {(const char *)data, size};
	char domain[ADDR_DOMAIN_MAX + 1];
	enum addr_path kind;
	struct status st;
	struct slice rest;
	struct addr a;

	for (kind = ADDR_MAIL; kind <= ADDR_RCPT; kind++) {
		if (addr_parse_path(in, kind, &a, &rest, &st) == 0) {
			check(rest.p >= in.p && rest.p + rest.n == in.p + in.n);
			check_addr(&a);
		} else {
			check(st.code == 501 || (!WITH_IDN && st.code == 553));
			check(addr_is_null(&a));
		}
	}
	if (addr_parse(in, &a) == 0)
		check_addr(&a);
	if (addr_parse_local(in, "d.example", &a) == 0)
		check_addr(&a);
	if (addr_domain_normalise(in, domain, sizeof(domain)) == 0)
		check_domain(domain);
	if (size > 0)
		check_user(data, size);
	return 0;
}
