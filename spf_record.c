/*
 * spf_record: the grammar of SPF records (RFC 7208 12). Pure; records are hostile bytes.
 *
 * Names of mechanisms and modifiers are read without regard to case. A term with '=' behind a name
 * is a modifier, all else a mechanism.
 */
#include "spf_record.h"

#include <string.h>
#include <strings.h>

#include "spf_macro.h"

static const char version[] = "v=spf1";

enum argument { NOTHING, MUST, MAY, MAY_CIDR, NETWORK };

static const struct mechanism {
	const char *name;
	enum spf_kind kind;
	enum argument argument;
} mechanisms[] = {
    {"all", SPF_ALL, NOTHING}, {"include", SPF_INCLUDE, MUST}, {"a", SPF_A, MAY_CIDR},
    {"mx", SPF_MX, MAY_CIDR},  {"ptr", SPF_PTR, MAY},          {"ip4", SPF_IP4, NETWORK},
    {"ip6", SPF_IP6, NETWORK}, {"exists", SPF_EXISTS, MUST},
};

bool spf_record_is_spf(struct slice txt)
{
	size_t n = sizeof version - 1;
	return txt.n >= n && strncasecmp(txt.p, version, n) == 0 && (txt.n == n || txt.p[n] == ' ');
}

/* The length of the name at the start: a letter, then letters, digits, '-', '_', '.'. */
static size_t name_length(struct slice s)
{
	size_t n = 0;
	while (n < s.n) {
		char c = s.p[n];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		bool other = (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
		if (!letter && !(other && n > 0))
			break;
		n++;
	}
	return n;
}

/*
 * Takes "/24" or, with slashes 2, "//64" off the end of s. Nothing is taken when s does not end in
 * slashes and digits: *prefix stays. Returns 0, or -1 when the number is not one of 0..max, written
 * without leading zeros.
 */
static int prefix_take(struct slice *s, size_t slashes, unsigned max, unsigned *prefix)
{
	unsigned value = 0;
	size_t i = s->n;
	while (i > 0 && s->p[i - 1] >= '0' && s->p[i - 1] <= '9')
		i--;
	size_t digits = s->n - i;
	if (digits == 0 || i < slashes || memcmp(s->p + i - slashes, "//", slashes) != 0)
		return 0;
	if (digits > 3 || (digits > 1 && s->p[i] == '0'))
		return -1;
	for (; i < s->n; i++)
		value = value * 10 + (unsigned)(s->p[i] - '0');
	if (value > max)
		return -1;
	s->n -= digits + slashes;
	*prefix = value;
	return 0;
}

/* Behind ':': a domain-spec. */
static int domain_read(struct slice s, struct spf_term *t)
{
	if (s.n == 0 || *s.p != ':')
		return -1;
	t->domain = (struct slice){s.p + 1, s.n - 1};
	return spf_macro_is_valid(t->domain, SPF_IN_DOMAIN) ? 0 : -1;
}

static int network_read(struct slice s, struct spf_term *t)
{
	sa_family_t family = t->kind == SPF_IP6 ? AF_INET6 : AF_INET;
	if (s.n == 0 || *s.p != ':')
		return -1;
	s.p++;
	s.n--;
	if (family == AF_INET ? prefix_take(&s, 1, 32, &t->prefix4)
	                      : prefix_take(&s, 1, 128, &t->prefix6))
		return -1;
	return dns_addr_parse(&t->net, s) == 0 && t->net.family == family ? 0 : -1;
}

static int argument_read(struct slice s, enum argument kind, struct spf_term *t)
{
	t->prefix4 = 32;
	t->prefix6 = 128;
	switch (kind) {
	case NOTHING:
		return s.n == 0 ? 0 : -1;
	case NETWORK:
		return network_read(s, t);
	case MAY_CIDR:
		if (prefix_take(&s, 2, 128, &t->prefix6) || prefix_take(&s, 1, 32, &t->prefix4))
			return -1;
		return s.n == 0 ? 0 : domain_read(s, t);
	case MAY:
		return s.n == 0 ? 0 : domain_read(s, t);
	default:
		return domain_read(s, t);
	}
}

static int modifier_read(struct slice name, struct slice value, struct spf_term *t)
{
	t->kind = SPF_UNKNOWN;
	if (slice_is_nocase(name, "redirect"))
		t->kind = SPF_REDIRECT;
	else if (slice_is_nocase(name, "exp"))
		t->kind = SPF_EXP;
	t->domain = value;
	return spf_macro_is_valid(value, t->kind == SPF_UNKNOWN ? SPF_IN_MODIFIER : SPF_IN_DOMAIN)
	           ? 0
	           : -1;
}

static int term_read(struct slice s, struct spf_term *t)
{
	static const char qualifiers[] = "+-~?";
	static const enum spf_result results[] = {SPF_PASS, SPF_FAIL, SPF_SOFTFAIL, SPF_NEUTRAL};
	const char *q = memchr(qualifiers, *s.p, sizeof qualifiers - 1);
	*t = (struct spf_term){.result = q ? results[q - qualifiers] : SPF_PASS, .text = s};
	if (q) {
		s.p++;
		s.n--;
		t->text = s;
	}
	size_t n = name_length(s);
	if (!q && n > 0 && n < s.n && s.p[n] == '=')
		return modifier_read((struct slice){s.p, n},
		                     (struct slice){s.p + n + 1, s.n - n - 1}, t);
	for (size_t i = 0; i < sizeof mechanisms / sizeof *mechanisms; i++) {
		if (!slice_is_nocase((struct slice){s.p, n}, mechanisms[i].name))
			continue;
		t->kind = mechanisms[i].kind;
		return argument_read((struct slice){s.p + n, s.n - n}, mechanisms[i].argument, t);
	}
	return -1;
}

int spf_record_next(struct slice *rest, struct spf_term *t)
{
	while (rest->n > 0 && *rest->p == ' ') {
		rest->p++;
		rest->n--;
	}
	if (rest->n == 0)
		return 0;
	const char *end = memchr(rest->p, ' ', rest->n);
	struct slice s = {rest->p, end ? (size_t)(end - rest->p) : rest->n};
	rest->p += s.n;
	rest->n -= s.n;
	return term_read(s, t) == 0 ? 1 : -1;
}

const char *spf_record_check(struct slice record, struct slice *terms, struct slice *redirect,
                             struct slice *exp, struct slice *wrong)
{
	struct spf_term t = {.text = {NULL, 0}};
	int got;
	*terms = (struct slice){record.p + sizeof version - 1, record.n - (sizeof version - 1)};
	*redirect = *exp = (struct slice){NULL, 0};
	struct slice rest = *terms;
	while ((got = spf_record_next(&rest, &t)) > 0) {
		struct slice *keep = t.kind == SPF_REDIRECT ? redirect : exp;
		if (t.kind != SPF_REDIRECT && t.kind != SPF_EXP)
			continue;
		*wrong = t.text;
		if (keep->n > 0)
			return "a modifier given twice";
		*keep = t.domain;
	}
	*wrong = t.text;
	return got < 0 ? "syntax error" : NULL;
}
