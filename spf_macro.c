/*
 * spf_macro: checks and expands macro strings (RFC 7208 7). Pure: text and values in, text out.
 *
 * Text and values are hostile. Whatever a record repeats, an expansion takes constant memory: of a
 * name only the right end can matter (it is cut from the left), of an explanation only the left
 * one. Time is the length of the text times SPF_VALUE_MAX.
 */
#include "spf_macro.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* One macro-expand. */
struct macro {
	char letter; /* lower case, or '%' '_' '-' */
	bool escape; /* the letter was in upper case */
	bool reverse;
	unsigned keep; /* parts at the right; 0: all */
	struct slice delimiters;
};

/* Where an expansion goes. */
struct sink {
	char *p;
	size_t size;
	size_t n;
	bool tail; /* when full, the older half goes; else what follows is dropped */
	bool lost;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool one_of(char c, const char *set)
{
	return c != '\0' && strchr(set, c) != NULL;
}

/* ---- syntax ------------------------------------------------------------------------------- */

/* Reads the macro at the start of in, whose first byte is '%'. Returns its length; 0 when
 * malformed. */
static size_t macro_take(struct slice in, struct macro *m)
{
	size_t i = 3;
	*m = (struct macro){0};
	if (in.n < 2)
		return 0;
	m->letter = in.p[1];
	if (m->letter != '{')
		return one_of(m->letter, "%_-") ? 2 : 0;
	if (in.n < 4)
		return 0;
	m->letter = lower(in.p[2]);
	m->escape = m->letter != in.p[2];
	if (!one_of(m->letter, "slodiphcrtv"))
		return 0;
	for (; i < in.n && is_digit(in.p[i]); i++)
		if (m->keep <= SPF_VALUE_MAX)
			m->keep = m->keep * 10 + (unsigned)(in.p[i] - '0');
	if (i > 3 && m->keep == 0)
		return 0;
	if (i < in.n && lower(in.p[i]) == 'r') {
		m->reverse = true;
		i++;
	}
	m->delimiters.p = in.p + i;
	while (i < in.n && one_of(in.p[i], ".-+,/_="))
		i++;
	m->delimiters.n = (size_t)(in.p + i - m->delimiters.p);
	return i < in.n && in.p[i] == '}' ? i + 1 : 0;
}

/* RFC 7208 7.1: letters and digits with at least one letter, or with a hyphen inside. */
static bool is_toplabel(struct slice s)
{
	bool letter = false;
	bool hyphen = false;
	for (size_t i = 0; i < s.n; i++) {
		if (is_alpha(s.p[i]))
			letter = true;
		else if (s.p[i] == '-' && i > 0 && i + 1 < s.n)
			hyphen = true;
		else if (!is_digit(s.p[i]))
			return false;
	}
	return letter || hyphen;
}

/* The literal text behind the last macro must be empty or end in a top label. */
static bool is_domain_end(struct slice tail, bool after_macro)
{
	if (tail.n == 0)
		return after_macro;
	if (tail.p[tail.n - 1] == '.')
		tail.n--;
	for (size_t i = tail.n; i > 0; i--)
		if (tail.p[i - 1] == '.')
			return is_toplabel((struct slice){tail.p + i, tail.n - i});
	return false;
}

bool spf_macro_is_valid(struct slice text, enum spf_place place)
{
	struct macro m;
	size_t tail = 0; /* where the last macro ended */
	for (size_t i = 0; i < text.n;) {
		char c = text.p[i];
		if (c != '%') {
			if (c < (place == SPF_IN_EXPLANATION ? 0x20 : 0x21) || c > 0x7e)
				return false;
			i++;
			continue;
		}
		size_t n = macro_take((struct slice){text.p + i, text.n - i}, &m);
		if (n == 0 || (place == SPF_IN_DOMAIN && one_of(m.letter, "crt")))
			return false;
		tail = i += n;
	}
	if (place != SPF_IN_DOMAIN)
		return true;
	return is_domain_end((struct slice){text.p + tail, text.n - tail}, tail > 0);
}

bool spf_macro_wants_p(struct slice text)
{
	struct macro m = {0};
	for (size_t i = 0; i < text.n;) {
		size_t n = 1;
		if (text.p[i] == '%')
			n = macro_take((struct slice){text.p + i, text.n - i}, &m);
		if (n == 0 || m.letter == 'p')
			return n != 0;
		i += n;
	}
	return false;
}

/* ---- expansion ---------------------------------------------------------------------------- */

static void sink_put(struct sink *s, char c)
{
	if (s->n == s->size) {
		s->lost = true;
		if (!s->tail)
			return;
		s->n = s->size / 2;
		memmove(s->p, s->p + s->size - s->n, s->n);
	}
	s->p[s->n++] = c;
}

static void sink_add(struct sink *s, struct slice text, bool escape)
{
	static const char hex[] = "0123456789ABCDEF";
	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];
		/* All but the unreserved characters of RFC 3986 2.3. */
		if (escape && !is_alpha(text.p[i]) && !is_digit(text.p[i]) &&
		    !one_of(text.p[i], "-._~")) {
			sink_put(s, '%');
			sink_put(s, hex[c >> 4]);
			sink_put(s, hex[c & 15]);
		} else {
			sink_put(s, text.p[i]);
		}
	}
}

/* Splits, reverses, keeps and joins (RFC 7208 7.3). */
static void transform(struct sink *s, const struct macro *m, struct slice value)
{
	uint16_t start[SPF_VALUE_MAX + 2];
	struct slice d = m->delimiters.n > 0 ? m->delimiters : slice_of(".");
	size_t parts = 1;
	if (value.n > SPF_VALUE_MAX)
		value.n = SPF_VALUE_MAX;
	start[0] = 0;
	for (size_t i = 0; i < value.n; i++)
		if (memchr(d.p, value.p[i], d.n))
			start[parts++] = (uint16_t)(i + 1);
	start[parts] = (uint16_t)(value.n + 1);
	size_t first = m->keep > 0 && m->keep < parts ? parts - m->keep : 0;
	for (size_t i = first; i < parts; i++) {
		size_t part = m->reverse ? parts - 1 - i : i;
		size_t n = (size_t)(start[part + 1] - start[part] - 1);
		if (i > first)
			sink_put(s, '.');
		sink_add(s, (struct slice){value.p + start[part], n}, m->escape);
	}
}

/* The i macro: an IPv6 address as nibbles with dots. */
static struct slice address_dotted(const struct dns_addr *ip, char out[64])
{
	static const char hex[] = "0123456789abcdef";
	if (ip->family != AF_INET6)
		return slice_of(dns_addr_text(ip, out));
	for (size_t i = 0; i < 32; i++) {
		unsigned byte = ip->ip.v6.s6_addr[i / 2];
		out[2 * i] = hex[i % 2 ? byte & 15 : byte >> 4];
		out[2 * i + 1] = '.';
	}
	return (struct slice){out, 63};
}

static struct slice value_of(char letter, const struct spf_values *v, char room[64])
{
	switch (letter) {
	case 's':
		return v->sender;
	case 'l':
		return v->local;
	case 'o':
		return v->sender_domain;
	case 'd':
		return v->domain;
	case 'h':
		return v->helo;
	case 'r':
		return v->receiver;
	case 'p':
		return v->validated;
	case 'i':
		return address_dotted(v->ip, room);
	case 'c':
		return slice_of(dns_addr_text(v->ip, room));
	case 'v':
		return slice_of(v->ip->family == AF_INET6 ? "ip6" : "in-addr");
	default:
		snprintf(room, 64, "%" PRId64, v->now);
		return slice_of(room);
	}
}

static void expand(struct sink *s, struct slice text, const struct spf_values *v)
{
	for (size_t i = 0; i < text.n;) {
		struct macro m;
		char room[64];
		if (text.p[i] != '%') {
			sink_put(s, text.p[i++]);
			continue;
		}
		size_t n = macro_take((struct slice){text.p + i, text.n - i}, &m);
		if (n == 0)
			return;
		if (m.letter == '%')
			sink_put(s, '%');
		else if (m.letter == '_')
			sink_put(s, ' ');
		else if (m.letter == '-')
			sink_add(s, slice_of("%20"), false);
		else
			transform(s, &m, value_of(m.letter, v, room));
		i += n;
	}
}

enum spf_name spf_macro_domain(struct slice spec, const struct spf_values *v,
                               char out[SPF_NAME_SIZE])
{
	/* Half of it holds a dot, 253 bytes and the final dot. */
	char room[2 * (SPF_NAME_SIZE + 2)];
	struct sink s = {.p = room, .size = sizeof room, .tail = true};
	size_t start = 0;
	expand(&s, spec, v);
	if (s.n > 0 && s.p[s.n - 1] == '.')
		s.n--;
	if (s.lost || s.n >= SPF_NAME_SIZE) {
		start = s.n - SPF_NAME_SIZE;
		const char *dot = memchr(s.p + start, '.', s.n - start);
		if (!dot)
			return SPF_NAME_BAD;
		start = (size_t)(dot - s.p) + 1;
	}
	if (s.n == start)
		return SPF_NAME_BAD;
	for (size_t i = start; i < s.n; i++)
		if ((unsigned char)s.p[i] >= 0x80)
			return SPF_NAME_FOREIGN;
	memcpy(out, s.p + start, s.n - start);
	out[s.n - start] = '\0';
	return SPF_NAME_OK;
}

void spf_macro_text(struct slice text, const struct spf_values *v, char *out, size_t size)
{
	struct sink s = {.p = out, .size = size - 1};
	expand(&s, text, v);
	out[s.n] = '\0';
	for (size_t i = 0; i < s.n; i++)
		if (out[i] < 0x20 || out[i] > 0x7e)
			out[0] = '\0';
}
