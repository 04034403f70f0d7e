/*
 * sts_policy: the text of a policy and the TXT record that announces it (RFC 8461 3.1, 3.2). Pure.
 *
 * A policy is either understood as a whole or not at all: half of one would bind mail to hosts, or
 * leave it unprotected, as nobody has asked for. What the RFC lets grow (unknown fields) is passed
 * over once its syntax has been checked.
 */
#include "sts.h"

#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "sts_int.h"

static const char *const mode_names[] = {
    [STS_NONE] = "none", [STS_TESTING] = "testing", [STS_ENFORCE] = "enforce"};

const char *sts_mode_name(enum sts_mode mode)
{
	return mode_names[mode];
}

/* ---- words ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static struct slice skip(struct slice s, size_t n)
{
	return (struct slice){s.p + n, s.n - n};
}

static struct slice trim_start(struct slice s)
{
	while (s.n > 0 && is_blank(s.p[0]))
		s = skip(s, 1);
	return s;
}

static struct slice trim(struct slice s)
{
	s = trim_start(s);
	while (s.n > 0 && is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

static bool starts_with(struct slice s, const char *word)
{
	size_t n = strlen(word);
	return s.n >= n && memcmp(s.p, word, n) == 0;
}

/* Length of the name of a field: a letter or digit, and up to 31 more, or "_-.". 0: none. */
static size_t name_length(struct slice s)
{
	size_t n = 0;
	while (n < s.n && n < 33 &&
	       (is_alnum(s.p[n]) || (n > 0 && strchr("_-.", s.p[n]) != NULL && s.p[n] != '\0')))
		n++;
	return n > 32 ? 0 : n;
}

/* ---- the TXT record ---- */

bool sts_record_is_ours(struct slice record)
{
	if (!starts_with(record, "v=STSv1"))
		return false;
	record = trim_start(skip(record, 7));
	return record.n > 0 && record.p[0] == ';';
}

bool sts_id_is_good(struct slice id)
{
	for (size_t i = 0; i < id.n; i++)
		if (!is_alnum(id.p[i]))
			return false;
	return id.n >= 1 && id.n <= STS_ID_MAX;
}

/* The value of a field of another kind: printable ASCII but blank, ';' and '='. */
static bool is_record_value(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~' || s.p[i] == '=')
			return false;
	return s.n > 0;
}

int sts_record_id(struct slice record, char id[STS_ID_MAX + 1])
{
	id[0] = '\0';
	if (!sts_record_is_ours(record))
		return -1;
	struct slice rest = trim_start(skip(record, 7));
	while (rest.n > 0) {
		/* rest begins with the semicolon in front of a field, or of nothing. */
		rest = skip(rest, 1);
		const char *end = rest.n > 0 ? memchr(rest.p, ';', rest.n) : NULL;
		size_t n = end ? (size_t)(end - rest.p) : rest.n;
		struct slice field = trim((struct slice){rest.p, n});
		rest = skip(rest, n);
		if (field.n == 0 && rest.n == 0)
			break;
		n = name_length(field);
		if (n == 0 || n == field.n || field.p[n] != '=' ||
		    !is_record_value(skip(field, n + 1)))
			return -1;
		struct slice value = skip(field, n + 1);
		if (n != 2 || !starts_with(field, "id") || id[0] != '\0')
			continue;
		if (!sts_id_is_good(value))
			return -1;
		memcpy(id, value.p, value.n);
		id[value.n] = '\0';
	}
	return id[0] != '\0' ? 0 : -1;
}

/* ---- the policy ---- */

void sts_policy_clear(struct sts_policy *p)
{
	for (size_t i = 0; i < p->mx_count; i++)
		free(p->mx[i]);
	*p = (struct sts_policy){.mode = STS_NONE};
}

static int fault(struct status *st, const char *what)
{
	status_set(st, 451, "4.7.0", "the MTA-STS policy is not good: %s", what);
	return -1;
}

/* A host name in lower case without its final dot. Returns 0, or -1. */
static int normalise_host(struct slice in, char out[ADDR_DOMAIN_MAX + 1])
{
	if (in.n > 0 && in.p[in.n - 1] == '.')
		in.n--;
	if (in.n == 0 || in.n > ADDR_DOMAIN_MAX || memchr(in.p, '\0', in.n))
		return -1;
	for (size_t i = 0; i < in.n; i++)
		out[i] = (char)(in.p[i] >= 'A' && in.p[i] <= 'Z' ? in.p[i] - 'A' + 'a' : in.p[i]);
	out[in.n] = '\0';
	return 0;
}

int sts_policy_add(struct sts_policy *p, struct slice pattern, struct status *st)
{
	char name[ADDR_DOMAIN_MAX + 1];
	if (normalise_host(pattern, name))
		return fault(st, "a malformed mx");
	if (!addr_domain_is_valid_hostname(strncmp(name, "*.", 2) == 0 ? name + 2 : name))
		return fault(st, "a malformed mx");
	if (p->mx_count >= STS_MX_MAX)
		return fault(st, "more mx than are supported");
	p->mx[p->mx_count] = strdup(name);
	if (!p->mx[p->mx_count]) {
		status_set(st, 451, "4.3.0", "out of memory");
		return -1;
	}
	p->mx_count++;
	return 0;
}

/* What has been seen of the fields of which the first counts. */
struct seen {
	bool version, mode, max_age;
};

static int take_mode(struct sts_policy *p, struct slice value, struct status *st)
{
	for (size_t i = 0; i < sizeof mode_names / sizeof mode_names[0]; i++) {
		if (slice_is(value, mode_names[i])) {
			p->mode = (enum sts_mode)i;
			return 0;
		}
	}
	return fault(st, "an unknown mode");
}

static int take_max_age(struct sts_policy *p, struct slice value, struct status *st)
{
	int64_t age = 0;
	for (size_t i = 0; i < value.n; i++) {
		if (!is_digit(value.p[i]))
			return fault(st, "a malformed max_age");
		age = age * 10 + (value.p[i] - '0');
		if (i >= 10 || age > STS_AGE_MAX)
			return fault(st, "max_age is more than a year");
	}
	if (value.n == 0)
		return fault(st, "a malformed max_age");
	p->max_age = age;
	return 0;
}

static int take_field(struct sts_policy *p, struct seen *seen, struct slice key, struct slice value,
                      struct status *st)
{
	bool *first = NULL;
	if (slice_is(key, "mx"))
		return sts_policy_add(p, value, st);
	if (slice_is(key, "version"))
		first = &seen->version;
	else if (slice_is(key, "mode"))
		first = &seen->mode;
	else if (slice_is(key, "max_age"))
		first = &seen->max_age;
	if (!first)
		return value.n > 0 ? 0 : fault(st, "a field without value");
	if (*first)
		return 0;
	*first = true;
	if (first == &seen->mode)
		return take_mode(p, value, st);
	if (first == &seen->max_age)
		return take_max_age(p, value, st);
	return slice_is(value, "STSv1") ? 0 : fault(st, "an unknown version");
}

static int take_line(struct sts_policy *p, struct seen *seen, struct slice line, struct status *st)
{
	size_t n = name_length(line);
	if (trim(line).n == 0)
		return 0; /* not in the grammar, but at the end of many policies */
	if (n == 0 || n == line.n || line.p[n] != ':')
		return fault(st, "a malformed line");
	struct slice value = trim(skip(line, n + 1));
	for (size_t i = 0; i < value.n; i++)
		if ((unsigned char)value.p[i] < 0x20 || value.p[i] == 0x7f)
			return fault(st, "control characters");
	return take_field(p, seen, (struct slice){line.p, n}, value, st);
}

static int check_whole(const struct sts_policy *p, const struct seen *seen, struct status *st)
{
	if (!seen->version)
		return fault(st, "no version");
	if (!seen->mode)
		return fault(st, "no mode");
	if (!seen->max_age)
		return fault(st, "no max_age");
	if (p->mode != STS_NONE && p->mx_count == 0)
		return fault(st, "no mx");
	return 0;
}

int sts_policy_parse(struct slice text, struct sts_policy *p, struct status *st)
{
	struct seen seen = {false, false, false};
	*p = (struct sts_policy){.mode = STS_NONE};
	if (!text_is_utf8(text.p, text.n)) {
		fault(st, "not UTF-8");
		return -1;
	}
	while (text.n > 0) {
		const char *lf = memchr(text.p, '\n', text.n);
		struct slice line = {text.p, lf ? (size_t)(lf - text.p) : text.n};
		text = skip(text, line.n + (lf ? 1 : 0));
		if (lf && line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		if (take_line(p, &seen, line, st))
			goto fail;
	}
	if (check_whole(p, &seen, st) == 0)
		return 0;
fail:
	sts_policy_clear(p);
	return -1;
}

bool sts_policy_lists(const struct sts_policy *p, const char *host)
{
	char name[ADDR_DOMAIN_MAX + 1];
	if (normalise_host(slice_of(host), name))
		return false;
	const char *dot = strchr(name, '.');
	for (size_t i = 0; i < p->mx_count; i++) {
		const char *mx = p->mx[i];
		if (strcmp(mx, name) == 0)
			return true;
		/* One label, which may not be empty (RFC 8461 4.1). */
		if (mx[0] == '*' && dot && dot != name && strcmp(mx + 1, dot) == 0)
			return true;
	}
	return false;
}
