/*
 * httpd_request: a request as bytes.
 *
 * Strict where two readers could disagree on where a request ends or for whom it is (RFC
 * 9112 11.2): lines end in CRLF and hold no other CR, LF or NUL; nothing is folded; no blank stands
 * before a colon; Host, Content-Length and what decides on access come once. A body has a
 * Content-Length or there is none. After any fault the connection ends, so that nothing behind it
 * is taken for a request. The head is looked at in place and only once, however small the pieces
 * are in which it comes; its bytes are changed when all is there, for decoding and NULs.
 */
#include "httpd_int.h"

#include <string.h>
#include <strings.h>

#include "text.h"

/* ---- words ---- */

static bool is_one_of(char c, const char *set)
{
	return c && strchr(set, c);
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) ||
	       is_one_of(c, "-._");
}

static bool is_token_char(char c)
{
	return is_name_char(c) || is_one_of(c, "!#$%&'*+^`|~");
}

static bool is_token(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!is_token_char(s.p[i]))
			return false;
	return s.n > 0;
}

static bool is_printable(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x20 || s.p[i] > 0x7e)
			return false;
	return true;
}

static struct slice trim(struct slice s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

/* Is the word in this list, separated by commas? */
static bool list_has(struct slice list, const char *word)
{
	while (list.n > 0) {
		const char *comma = memchr(list.p, ',', list.n);
		size_t n = comma ? (size_t)(comma - list.p) : list.n;
		if (slice_is_nocase(trim((struct slice){list.p, n}), word))
			return true;
		n += comma ? 1 : 0;
		list.p += n;
		list.n -= n;
	}
	return false;
}

static struct slice slice_at(const char *base, struct httpd_span s)
{
	return (struct slice){base + s.at, s.n};
}

static struct httpd_span span_of(const char *base, struct slice s)
{
	return (struct httpd_span){(size_t)(s.p - base), s.n};
}

/* The length of the host at the start of "host", "host:port", "[v6]:port", brackets included, or 0
 * when this is none of them. */
static size_t host_length(struct slice a)
{
	size_t i = 0;
	if (a.n > 0 && a.p[0] == '[') {
		do {
			i++;
		} while (i < a.n && is_one_of(a.p[i], "0123456789abcdefABCDEF:."));
		if (i == a.n || a.p[i++] != ']')
			return 0;
	} else {
		while (i < a.n && is_name_char(a.p[i]))
			i++;
	}
	size_t host = i;
	if (i < a.n && (a.p[i] != ':' || a.n - i < 2 || a.n - i > 6))
		return 0;
	while (++i < a.n)
		if (!is_digit(a.p[i]))
			return 0;
	return host;
}

/* ---- the first line ---- */

static int read_method(struct httpd_head *h, struct slice word)
{
	static const char ours[][5] = {"GET", "HEAD", "POST"};
	static const char others[][8] = {"PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH"};
	for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++) {
		if (slice_is(word, ours[i])) {
			h->method = (enum httpd_method)i;
			return 0;
		}
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (slice_is(word, others[i]))
			return 405;
	return 501;
}

/* Only HTTP/1.x is understood. */
static int read_version(struct httpd_head *h, struct slice v)
{
	if (v.n != 8 || memcmp(v.p, "HTTP/", 5) != 0 || !is_digit(v.p[5]) || v.p[6] != '.' ||
	    !is_digit(v.p[7]))
		return 400;
	h->old = v.p[7] == '0';
	return v.p[5] == '1' ? 0 : 505;
}

/* "/path?query" or "http://host/path?query" (RFC 9112 3.2). */
static int read_target(struct httpd_head *h, const char *base, struct slice t)
{
	static const char scheme[] = "http://";
	size_t n = sizeof(scheme) - 1;
	if (!is_printable(t) || memchr(t.p, '#', t.n))
		return 400;
	if (t.n > n && strncasecmp(t.p, scheme, n) == 0) {
		size_t end = n;
		while (end < t.n && t.p[end] != '/')
			end++;
		h->authority = (struct httpd_span){(size_t)(t.p - base) + n, end - n};
		t = (struct slice){t.p + end, t.n - end};
		if (host_length(slice_at(base, h->authority)) == 0)
			return 400;
	}
	if (t.n == 0 || t.p[0] != '/')
		return 400;
	const char *mark = memchr(t.p, '?', t.n);
	h->path = (struct httpd_span){(size_t)(t.p - base), mark ? (size_t)(mark - t.p) : t.n};
	h->query = (struct httpd_span){h->path.at + h->path.n, 0};
	if (mark) {
		h->query.at++;
		h->query.n = t.n - h->path.n - 1;
	}
	return 0;
}

static int read_first_line(struct httpd_head *h, const char *base, struct slice line)
{
	const char *sp = memchr(line.p, ' ', line.n);
	const char *last = memrchr(line.p, ' ', line.n);
	if (!sp || last < sp + 2)
		return 400;
	struct slice method = {line.p, (size_t)(sp - line.p)};
	struct slice target = {sp + 1, (size_t)(last - sp) - 1};
	struct slice version = {last + 1, line.n - (size_t)(last - line.p) - 1};
	int code = read_version(h, version);
	if (code == 0)
		code = is_token(method) && !memchr(target.p, ' ', target.n) ? 0 : 400;
	if (code == 0)
		code = read_method(h, method);
	return code ? code : read_target(h, base, target);
}

/* ---- fields ---- */

static int take_length(struct httpd_head *h, struct slice v)
{
	if (h->sized || v.n == 0)
		return 400;
	h->sized = true;
	for (size_t i = 0; i < v.n; i++) {
		if (!is_digit(v.p[i]))
			return 400;
		if (h->body <= HTTPD_BODY_MAX)
			h->body = h->body * 10 + (size_t)(v.p[i] - '0');
	}
	return h->body > HTTPD_BODY_MAX ? 413 : 0;
}

/* Kept for later; what comes twice is ambiguous, but for Accept. */
static int take_field(struct httpd_head *h, const char *base, enum httpd_field f, struct slice v)
{
	if (!is_printable(v))
		return 400;
	if (h->given & (1U << f))
		return f == HTTPD_ACCEPT ? 0 : 400;
	h->given |= 1U << f;
	h->field[f] = span_of(base, v);
	return 0;
}

static int read_field(struct httpd_head *h, const char *base, struct slice line)
{
	static const char kept[HTTPD_FIELDS][15] = {"Host", "Authorization", "Origin",
	                                            "Sec-Fetch-Site", "Accept"};
	const char *colon = memchr(line.p, ':', line.n);
	struct slice name = {line.p, colon ? (size_t)(colon - line.p) : 0};
	if (!is_token(name))
		return 400; /* also a folded line */
	struct slice v = {colon + 1, line.n - name.n - 1};
	for (size_t i = 0; i < v.n; i++)
		if (((unsigned char)v.p[i] < 0x20 && v.p[i] != '\t') || v.p[i] == 0x7f)
			return 400;
	v = trim(v);
	if (slice_is_nocase(name, "Content-Length"))
		return take_length(h, v);
	if (slice_is_nocase(name, "Transfer-Encoding"))
		h->coded = true;
	if (slice_is_nocase(name, "Connection") && list_has(v, "close"))
		h->close = true;
	if (slice_is_nocase(name, "Expect")) {
		h->expects = slice_is_nocase(v, "100-continue");
		return h->expects ? 0 : 417;
	}
	for (unsigned f = 0; f < HTTPD_FIELDS; f++)
		if (slice_is_nocase(name, kept[f]))
			return take_field(h, base, (enum httpd_field)f, v);
	return 0;
}

/* The empty line is there: do the fields go together? */
static int check_head(struct httpd_head *h, const char *base)
{
	bool has_host = h->given & (1U << HTTPD_HOST);
	if (h->coded)
		return h->sized || h->old ? 400 : 501;
	if (has_host ? host_length(slice_at(base, h->field[HTTPD_HOST])) == 0 : !h->old)
		return 400;
	/* RFC 9112 3.2.2: a host in the first line counts, not the field. */
	if (has_host && h->authority.n == 0)
		h->authority = h->field[HTTPD_HOST];
	return 0;
}

static int read_line(struct httpd_head *h, const char *base, struct slice line)
{
	if (line.n == 0 && h->lines == 0)
		return 0; /* RFC 9112 2.2: empty lines before a request */
	if (line.n == 0) {
		h->size = h->seen + 1;
		return check_head(h, base);
	}
	if (h->lines > HTTPD_FIELDS_MAX)
		return 431;
	return h->lines++ == 0 ? read_first_line(h, base, line) : read_field(h, base, line);
}

int httpd_head_read(struct httpd_head *h, struct slice in)
{
	for (; h->size == 0 && h->seen < in.n; h->seen++) {
		char c = in.p[h->seen];
		bool cr = h->seen > h->line && in.p[h->seen - 1] == '\r';
		if (c == '\0' || (c == '\n') != cr)
			return 400;
		if (h->lines == 0 && h->seen - h->line >= HTTPD_LINE_MAX)
			return 414;
		if (h->seen >= HTTPD_HEAD_MAX)
			return 431;
		if (c != '\n')
			continue;
		int code =
		    read_line(h, in.p, (struct slice){in.p + h->line, h->seen - 1 - h->line});
		if (code)
			return code;
		h->line = h->seen + 1;
	}
	return 0;
}

/* ---- what the pages get ---- */

static int hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* Decodes %XX, and '+' where it stands for a blank, into out, which may be where in is. The length,
 * or -1 when it does not fit, is malformed, holds NUL or is not UTF-8. */
static int decode(struct slice in, bool plus, char *out, size_t size)
{
	size_t n = 0;
	for (size_t i = 0; i < in.n; i++) {
		char c = in.p[i];
		if (c == '%') {
			int high = i + 2 < in.n ? hex_value(in.p[i + 1]) : -1;
			int low = i + 2 < in.n ? hex_value(in.p[i + 2]) : -1;
			if (high < 0 || low < 0)
				return -1;
			c = (char)(high * 16 + low);
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if (c == '\0' || n + 1 >= size)
			return -1;
		out[n++] = c;
	}
	if (size == 0 || !text_is_utf8(out, n))
		return -1;
	out[n] = '\0';
	return (int)n;
}

int httpd_param(struct slice form, const char *name, char *out, size_t size)
{
	size_t len = strlen(name);
	int got = -1;
	while (form.n > 0) {
		const char *end = memchr(form.p, '&', form.n);
		size_t n = end ? (size_t)(end - form.p) : form.n;
		if (n > len && form.p[len] == '=' && memcmp(form.p, name, len) == 0) {
			got =
			    decode((struct slice){form.p + len + 1, n - len - 1}, true, out, size);
			break;
		}
		n += end ? 1 : 0;
		form.p += n;
		form.n -= n;
	}
	if (got < 0 && size > 0)
		*out = '\0';
	return got;
}

/* Has it C0 or C1 control characters (valid UTF-8)? */
static bool has_controls(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f ||
		    (s[0] == '\xc2' && (unsigned char)s[1] < 0xa0))
			return true;
	return false;
}

/* There is a byte before it, which is of no use any more; the one behind it may be the path's. */
static void split_authority(struct httpd_request *r, char *p, struct httpd_span a)
{
	if (a.n == 0)
		return;
	char *host = memmove(p + a.at - 1, p + a.at, a.n);
	size_t n = host_length((struct slice){host, a.n});
	host[a.n] = '\0';
	if (n < a.n)
		r->port = host + n + 1;
	r->host = host;
	if (*r->host == '[') {
		r->host++;
		n--;
	}
	host[n] = '\0'; /* the colon, the bracket, or the end */
}

int httpd_head_request(const struct httpd_head *h, char *p, struct httpd_request *r)
{
	const char *field[HTTPD_FIELDS];
	struct slice path = slice_at(p, h->path);
	for (size_t f = 0; f < HTTPD_FIELDS; f++) {
		field[f] = "";
		if (f != HTTPD_HOST && (h->given & (1U << f))) {
			field[f] = p + h->field[f].at;
			p[h->field[f].at + h->field[f].n] = '\0';
		}
	}
	*r = (struct httpd_request){.method = h->method,
	                            .path = path.p,
	                            .host = "",
	                            .port = "",
	                            .authorization = field[HTTPD_AUTHORIZATION],
	                            .origin = field[HTTPD_ORIGIN],
	                            .fetch_site = field[HTTPD_FETCH_SITE],
	                            .accept = field[HTTPD_ACCEPT],
	                            .query = slice_at(p, h->query)};
	if (h->method == HTTPD_POST)
		r->form = (struct slice){p + h->size, h->body};
	split_authority(r, p, h->authority);
	return decode(path, false, p + h->path.at, path.n + 1) < 0 || has_controls(path.p) ? 400
	                                                                                   : 0;
}
