/*
 * addr: mail addresses, domains and address literals.
 *
 * An address comes from a stranger and ends up in file names, commands, log lines and other
 * servers' envelopes. So it is taken apart once, here, and kept in a form where nothing has to be
 * parsed again: the local part without its quotes, the domain in one spelling only. What is not an
 * address by RFC 5321 (and 6531) is refused, with two exceptions that real senders need: missing
 * angle brackets, and underscores in domains. An empty local part ("" in quotes) is legal there but
 * nowhere in use, and is refused.
 */
#include "addr_int.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#if WITH_IDN
#include <idn2.h>
#endif

#include "bytes.h"

/* RFC 5322 3.2.3, with UTF-8 as in RFC 6531 3.3. */
static bool is_atext(char c)
{
	return !addr_char_is_ascii(c) || addr_char_is_alnum(c) ||
	       (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* C0 and DEL. */
static bool is_control(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f;
}

static bool is_beyond_ascii(struct slice s)
{
	while (s.n > 0 && addr_char_is_ascii(s.p[s.n - 1]))
		s.n--;
	return s.n > 0;
}

static bool all_ascii(const char *s)
{
	return !bytes_have_8bit(s, strlen(s));
}

/* Well-formed UTF-8 without control characters (C0, DEL, C1)? */
static bool is_text(struct slice s)
{
	size_t i = bytes_print_run(s.p, s.n);

	while (i < s.n) {
		size_t len = status_utf8_len(s.p + i, s.n - i);

		if (len == 0 || is_control(s.p[i]))
			return false;
		if (len == 2 && (unsigned char)s.p[i] == 0xc2 && (unsigned char)s.p[i + 1] < 0xa0)
			return false;
		i += len;
	}
	return true;
}

static void skip(struct slice *s, size_t n)
{
	s->p += n;
	s->n -= n;
}

/* Takes c off the front of s if it is there. */
static bool take(struct slice *s, char c)
{
	if (s->n == 0 || s->p[0] != c)
		return false;
	skip(s, 1);
	return true;
}

int addr_copy(char *out, size_t size, const char *p, size_t n)
{
	if (n >= size)
		return -1;
	memmove(out, p, n);
	out[n] = '\0';
	return 0;
}

/* ---- domains ----------------------------------------------------------------------------------
 */

bool addr_is_literal(const char *domain)
{
	return domain[0] == '[';
}

int addr_literal(const char *domain, unsigned char raw[16])
{
	char text[INET6_ADDRSTRLEN];
	size_t n = strlen(domain);

	if (n < 2 || domain[0] != '[' || domain[n - 1] != ']')
		return 0;
	if (strncasecmp(domain + 1, "IPv6:", 5) == 0) {
		if (addr_copy(text, sizeof(text), domain + 6, n - 7) != 0)
			return 0;
		return inet_pton(AF_INET6, text, raw) == 1 ? 6 : 0;
	}
	if (addr_copy(text, sizeof(text), domain + 1, n - 2) != 0)
		return 0;
	return inet_pton(AF_INET, text, raw) == 1 ? 4 : 0;
}

static int literal_normalise(struct slice in, char *out, size_t size)
{
	char text[INET6_ADDRSTRLEN + 8];
	unsigned char raw[16];
	size_t n = 0;
	int family;

	if (memchr(in.p, '\0', in.n) || addr_copy(text, sizeof(text), in.p, in.n) != 0)
		return -1;
	family = addr_literal(text, raw);
	if (family == 0)
		return -1;
	text[n++] = '[';
	if (family == 6) {
		memcpy(text + n, "IPv6:", 5);
		n += 5;
	}
	inet_ntop(family == 6 ? AF_INET6 : AF_INET, raw, text + n,
	          (socklen_t)(sizeof(text) - n - 1));
	n += strlen(text + n);
	text[n++] = ']';
	return addr_copy(out, size, text, n);
}

/* Labels of 1 to 63 letters, digits and hyphens, the latter not at the ends; underscores if wanted.
 */
static bool is_dns_name(const char *s, bool underscore)
{
	size_t label = 0;
	size_t i;

	for (i = 0; s[i]; i++) {
		bool end = s[i + 1] == '.' || s[i + 1] == '\0';

		if (s[i] == '.') {
			if (label == 0 || end)
				return false;
			label = 0;
			continue;
		}
		if (s[i] == '-' && (label == 0 || end))
			return false;
		if (!addr_char_is_alnum(s[i]) && s[i] != '-' && !(underscore && s[i] == '_'))
			return false;
		if (++label > ADDR_LABEL_MAX)
			return false;
	}
	return i > 0 && i <= ADDR_NAME_MAX;
}

bool addr_domain_is_valid_hostname(const char *s)
{
	return is_dns_name(s, false);
}

bool addr_is_dns_name(const char *s)
{
	return is_dns_name(s, true);
}

static bool has_a_label(const char *s)
{
	while (s) {
		if (strncmp(s, "xn--", 4) == 0)
			return true;
		s = strchr(s, '.');
		if (s)
			s++;
	}
	return false;
}

/* The bytes of the dot at the end of a name: in ASCII, ideographic, wide or narrow (UTS 46 2.3). */
static size_t final_dot(struct slice s)
{
	static const char *const dots[] = {".", "\xe3\x80\x82", "\xef\xbc\x8e", "\xef\xbd\xa1"};
	size_t i;

	if (s.n == 0 || (addr_char_is_ascii(s.p[s.n - 1]) && s.p[s.n - 1] != '.'))
		return 0;
	for (i = 0; i < sizeof(dots) / sizeof(dots[0]); i++) {
		size_t n = strlen(dots[i]);

		if (s.n >= n && memcmp(s.p + s.n - n, dots[i], n) == 0)
			return n;
	}
	return 0;
}

static int name_normalise(struct slice in, char *out, size_t size)
{
	char name[ADDR_DOMAIN_MAX + 1];
	bool ascii = true;
	size_t i;

	in.n -= final_dot(in);
	if (in.n == 0 || in.n >= sizeof(name))
		return -1;
	for (i = 0; i < in.n; i++) {
		name[i] = addr_char_lower(in.p[i]);
		ascii = ascii && addr_char_is_ascii(name[i]);
	}
	name[in.n] = '\0';
	if (!ascii || (WITH_IDN && has_a_label(name)))
		return is_text(in) ? addr_idn_normalise(name, out, size) : -1;
	/* Up to a NUL it might be one. */
	if (strlen(name) != in.n || !is_dns_name(name, true))
		return -1;
	return addr_copy(out, size, name, in.n);
}

int addr_domain_normalise(struct slice in, char *out, size_t size)
{
	int rc;

	if (size == 0)
		return -1;
	if (in.n > 0 && in.p[0] == '[')
		rc = literal_normalise(in, out, size);
	else
		rc = name_normalise(in, out, size);
	if (rc != 0)
		out[0] = '\0';
	return rc;
}

int addr_domain_to_ascii(const char *domain, char *out, size_t size)
{
	if (addr_is_literal(domain) || all_ascii(domain))
		return addr_copy(out, size, domain, strlen(domain));
	return addr_idn_to_ascii(domain, out, size);
}

/* ---- reading ----------------------------------------------------------------------------------
 */

/* What of an address was wrong. */
enum trouble {
	OK,
	BAD_SYNTAX,
	BAD_LOCAL,
	BAD_LENGTH,
	NOT_ALLOWED,
	BAD_DOMAIN,
	NO_DOMAIN,
	NOT_ASCII
};

/* Takes a quoted string off in (the opening quote is still there), without quotes, into user. */
static enum trouble quoted_take(struct slice *in, char *user)
{
	size_t n = 0;

	skip(in, 1);
	while (in->n > 0 && in->p[0] != '"') {
		if (in->p[0] == '\\') {
			skip(in, 1);
			if (in->n == 0)
				return BAD_LOCAL;
		}
		if (n == ADDR_USER_MAX)
			return BAD_LENGTH;
		user[n++] = in->p[0];
		skip(in, 1);
	}
	user[n] = '\0';
	return take(in, '"') && n > 0 && is_text((struct slice){user, n}) ? OK : BAD_LOCAL;
}

/* Is this a Dot-string (RFC 5321 4.1.2)? */
static bool is_dot_string(struct slice s)
{
	size_t i;

	for (i = 0; i < s.n; i++) {
		if (s.p[i] == '.') {
			if (i == 0 || i + 1 == s.n || s.p[i - 1] == '.')
				return false;
		} else if (!is_atext(s.p[i])) {
			return false;
		}
	}
	return s.n > 0;
}

static enum trouble dot_string_take(struct slice *in, char *user)
{
	struct slice local = {in->p, 0};

	while (local.n < in->n && (is_atext(in->p[local.n]) || in->p[local.n] == '.'))
		local.n++;
	if (!is_dot_string(local) || (is_beyond_ascii(local) && !is_text(local)))
		return BAD_LOCAL;
	if (local.n < in->n && !is_blank(in->p[local.n]) && is_control(in->p[local.n]))
		return BAD_LOCAL;
	if (addr_copy(user, ADDR_USER_MAX + 1, local.p, local.n) != 0)
		return BAD_LENGTH;
	skip(in, local.n);
	return OK;
}

static enum trouble local_take(struct slice *in, char *user)
{
	bool quoted = in->n > 0 && in->p[0] == '"';
	enum trouble t = quoted ? quoted_take(in, user) : dot_string_take(in, user);
	char key[ADDR_USER_MAX + 1];

	if (t != OK || all_ascii(user))
		return t;
	if (!WITH_IDN)
		return NOT_ASCII;
	return addr_user_key(user, key, sizeof(key)) == 0 ? OK : NOT_ALLOWED;
}

static bool ends_domain(char c)
{
	return is_blank(c) || c == '>' || c == ',' || c == ':';
}

/* Takes what may be a domain off in: up to a blank or '>', or a literal with its brackets. */
static struct slice domain_token(struct slice *in)
{
	struct slice token = {in->p, 0};
	const char *stop = in->n > 0 && in->p[0] == '[' ? memchr(in->p, ']', in->n) : NULL;

	if (stop)
		token.n = (size_t)(stop - in->p) + 1;
	else
		while (token.n < in->n && !ends_domain(in->p[token.n]))
			token.n++;
	skip(in, token.n);
	return token;
}

static enum trouble domain_take(struct slice *in, char *out)
{
	struct slice token = domain_token(in);

	if (addr_domain_normalise(token, out, ADDR_DOMAIN_MAX + 1) == 0)
		return OK;
	if (!WITH_IDN && is_text(token) && is_beyond_ascii(token))
		return NOT_ASCII;
	return BAD_DOMAIN;
}

/* Takes local@domain, or a local part alone, off in. */
static enum trouble mailbox_take(struct slice *in, struct addr *out)
{
	enum trouble t = local_take(in, out->user);

	if (t != OK)
		return t;
	if (!take(in, '@'))
		return NO_DOMAIN;
	return domain_take(in, out->domain);
}

/* Takes a source route "@a,@b:" off in; RFC 5321 3.6.1: accepted and ignored. */
static enum trouble route_drop(struct slice *in)
{
	char domain[ADDR_DOMAIN_MAX + 1];
	enum trouble t;

	if (in->n == 0 || in->p[0] != '@')
		return OK;
	do {
		if (!take(in, '@'))
			return BAD_SYNTAX;
		t = domain_take(in, domain);
		if (t != OK)
			return t;
	} while (take(in, ','));
	return take(in, ':') ? OK : BAD_SYNTAX;
}

static enum trouble path_take(struct slice *in, enum addr_path kind, struct addr *out)
{
	bool angle = take(in, '<');
	bool null = angle && kind == ADDR_MAIL && in->n > 0 && in->p[0] == '>';
	enum trouble t = OK;

	if (!null)
		t = route_drop(in);
	if (t == OK && !null)
		t = mailbox_take(in, out);
	if (t == NO_DOMAIN && kind == ADDR_RCPT && strcasecmp(out->user, "postmaster") == 0) {
		addr_copy(out->user, sizeof(out->user), "postmaster", 10);
		t = OK;
	}
	if (t == OK && angle && !take(in, '>'))
		return BAD_SYNTAX;
	if (t == OK && in->n > 0 && !is_blank(in->p[0]))
		return BAD_SYNTAX;
	return t;
}

int addr_parse_path(struct slice in, enum addr_path kind, struct addr *out, struct slice *rest,
                    struct status *st)
{
	static const struct {
		int code;
		const char *enh[2]; /* for MAIL and RCPT (RFC 3463 3.2, RFC 6531 3.5) */
		const char *text;
	} troubles[] = {
	    [BAD_SYNTAX] = {501, {"5.1.7", "5.1.3"}, "malformed address"},
	    [BAD_LOCAL] = {501, {"5.1.7", "5.1.3"}, "malformed local part of the address"},
	    [BAD_LENGTH] = {501, {"5.1.7", "5.1.3"}, "local part of the address too long"},
	    [NOT_ALLOWED] = {501,
	                     {"5.1.7", "5.1.3"},
	                     "local part of the address not allowed (RFC 8265)"},
	    [BAD_DOMAIN] = {501, {"5.1.8", "5.1.2"}, "malformed domain of the address"},
	    [NO_DOMAIN] = {501, {"5.1.8", "5.1.2"}, "address without a domain"},
	    [NOT_ASCII] = {553,
	                   {"5.6.7", "5.6.7"},
	                   "internationalised addresses are not taken here"},
	};
	enum trouble t;

	memset(out, 0, sizeof(*out));
	while (in.n > 0 && is_blank(in.p[0]))
		skip(&in, 1);
	*rest = in;
	t = path_take(rest, kind, out);
	/* Nothing of a command may hold these (the parameters are checked again where they are
	 * read). */
	if (t == OK && !is_text(*rest))
		t = BAD_SYNTAX;
	if (t != OK) {
		memset(out, 0, sizeof(*out));
		status_set_text(st, troubles[t].code, troubles[t].enh[kind == ADDR_RCPT],
		                troubles[t].text);
		return -1;
	}
	while (rest->n > 0 && is_blank(rest->p[0]))
		skip(rest, 1);
	return 0;
}

int addr_parse(struct slice in, struct addr *out)
{
	memset(out, 0, sizeof(*out));
	if (slice_is(in, "<>"))
		return 0;
	if (mailbox_take(&in, out) != OK || in.n > 0) {
		memset(out, 0, sizeof(*out));
		return -1;
	}
	return 0;
}

int addr_parse_local(struct slice in, const char *domain, struct addr *out)
{
	enum trouble t;

	memset(out, 0, sizeof(*out));
	t = mailbox_take(&in, out);
	if (t == NO_DOMAIN &&
	    addr_copy(out->domain, sizeof(out->domain), domain, strlen(domain)) == 0)
		t = OK;
	if (t == OK && in.n == 0)
		return 0;
	memset(out, 0, sizeof(*out));
	return -1;
}

/* ---- writing ----------------------------------------------------------------------------------
 */

struct writer {
	char *out;
	size_t size;
	size_t n; /* what was written, or would have been */
};

static void put(struct writer *w, char c)
{
	if (w->n < w->size)
		w->out[w->n] = c;
	w->n++;
}

static void put_string(struct writer *w, const char *s)
{
	while (*s)
		put(w, *s++);
}

static void put_local(struct writer *w, const char *user)
{
	if (is_dot_string(slice_of(user))) {
		put_string(w, user);
		return;
	}
	put(w, '"');
	for (; *user; user++) {
		if (*user == '"' || *user == '\\')
			put(w, '\\');
		put(w, *user);
	}
	put(w, '"');
}

static void put_mailbox(struct writer *w, const char *user, const char *domain)
{
	put_local(w, user);
	if (domain[0]) {
		put(w, '@');
		put_string(w, domain);
	}
}

/* Ends the string. Returns 0, or -1 (and "") when it did not fit. */
static int put_end(struct writer *w)
{
	put(w, '\0');
	if (w->n <= w->size)
		return 0;
	if (w->size > 0)
		w->out[0] = '\0';
	return -1;
}

int addr_format(const struct addr *a, char *out, size_t size)
{
	struct writer w = {out, size, 0};

	if (addr_is_null(a))
		put_string(&w, "<>");
	else
		put_mailbox(&w, a->user, a->domain);
	return put_end(&w);
}

int addr_format_wire(const struct addr *a, bool utf8, char *out, size_t size)
{
	struct writer w = {out, size, 0};
	char ascii[ADDR_DOMAIN_MAX + 1];
	const char *domain = a->domain;

	if (!utf8) {
		if (!all_ascii(a->user) || addr_domain_to_ascii(domain, ascii, sizeof(ascii)) != 0)
			return -1;
		domain = ascii;
	}
	put(&w, '<');
	if (!addr_is_null(a))
		put_mailbox(&w, a->user, domain);
	put(&w, '>');
	return put_end(&w);
}

bool addr_is_null(const struct addr *a)
{
	return a->user[0] == '\0' && a->domain[0] == '\0';
}

bool addr_is_ascii(const struct addr *a)
{
	return all_ascii(a->user) && all_ascii(a->domain);
}

/* ---- comparing --------------------------------------------------------------------------------
 */

/* The letters and digits (and all that is not ASCII) at the start of s. */
static size_t word_length(const char *s)
{
	size_t n = 0;

	while (s[n] && (!addr_char_is_ascii(s[n]) || addr_char_is_alnum(s[n])))
		n++;
	return n;
}

int addr_user_key(const char *user, char *out, size_t size)
{
	bool ascii = all_ascii(user);
	size_t at = 0;

	while (*user && at < size) {
		size_t n = ascii ? 0 : word_length(user);

		if (n == 0 || !is_beyond_ascii((struct slice){user, n})) {
			out[at++] = addr_char_lower(*user++);
			continue;
		}
		if (addr_idn_fold(user, n, out + at, size - at) != 0)
			break;
		at += strlen(out + at);
		user += n;
	}
	if (!*user && at < size) {
		out[at] = '\0';
		return 0;
	}
	if (size > 0)
		out[0] = '\0';
	return -1;
}

bool addr_user_equal(const char *a, const char *b)
{
	char key_a[ADDR_USER_MAX + 1];
	char key_b[ADDR_USER_MAX + 1];

	return addr_user_key(a, key_a, sizeof(key_a)) == 0 &&
	       addr_user_key(b, key_b, sizeof(key_b)) == 0 && strcmp(key_a, key_b) == 0;
}

bool addr_is_file_name(const char *s)
{
	struct slice name = slice_of(s);

	return name.n > 0 && name.n <= 255 && is_text(name) && s[0] != '.' && s[0] != '-' &&
	       !memchr(s, '/', name.n);
}

void addr_library(char *out, size_t size)
{
#if WITH_IDN
	snprintf(out, size, "libidn2 %s", idn2_check_version(NULL));
#else
	snprintf(out, size, "no IDN");
#endif
}
