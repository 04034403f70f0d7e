/*
 * masquerade: senders in the header, rewritten on the way out.
 *
 * The content streams through; of the header one field at a time is in memory. A field is complete
 * when the first byte of the next line is there and does not continue it. In an address list the
 * scanner looks for addr-specs only (RFC 5322 3.4): what stands in angle brackets, or is the first
 * word of a mailbox without them. So a display name that looks like an address stays what it is.
 */
#include "masquerade.h"

#include <string.h>

#include "config.h"
#include "header.h"

/* ---- address lists ---- */

/* Behind the quoted string, comment or domain literal that begins at p[i]; n when it does not end.
 */
static size_t skip_group(const char *p, size_t i, size_t n)
{
	char open = p[i], close = open == '(' ? ')' : open == '[' ? ']' : '"';
	int depth = 1;
	for (i++; i < n; i++) {
		if (p[i] == '\\')
			i++;
		else if (p[i] == close && --depth == 0)
			return i + 1;
		else if (p[i] == open && open == '(')
			depth++;
	}
	return n;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Where the mailbox that begins at i ends: at a comma, semicolon, or colon behind a group's name.
 * The addr-spec in it is [*from, *to); empty when there is none. */
static size_t scan_mailbox(const char *p, size_t i, size_t n, size_t *from, size_t *to)
{
	bool angle = false;
	*from = n;
	*to = 0;
	while (i < n && (angle || !strchr(",;:", p[i]) || !p[i])) {
		char c = p[i];
		if (c == '<' || c == '>') {
			angle = c == '<';
			if (angle)
				*from = i + 1;
			else
				*to = i;
			i++;
			if (!angle) {
				while (i < n && !strchr(",;", p[i]))
					i = strchr("(\"", p[i]) ? skip_group(p, i, n) : i + 1;
				break;
			}
		} else if (is_blank(c)) {
			i++;
		} else if (c == '(') {
			i = skip_group(p, i, n);
		} else {
			size_t start = i;
			while (i < n && !is_blank(p[i]) && !strchr("(<>,;:", p[i]))
				i = p[i] == '"' || p[i] == '[' ? skip_group(p, i, n) : i + 1;
			if (!angle && *from == n) {
				*from = start;
				*to = i;
			}
			i += i == start; /* a stray character: never stand still */
		}
	}
	return i;
}

/* Appends the addr-spec, replaced when a rule says so. */
static void put_address(const struct conf_masquerades *rules, const char *domain, struct slice spec,
                        struct buf *out)
{
	struct addr a;
	char text[ADDR_TEXT_MAX], ascii[ADDR_DOMAIN_MAX + 1];
	if (addr_parse_local(spec, domain, &a) || !conf_masquerade_apply(rules, &a) ||
	    addr_domain_to_ascii(a.domain, ascii, sizeof ascii)) {
		buf_append(out, spec.p, spec.n);
		return;
	}
	/* A header that was ASCII stays so: it must not need SMTPUTF8 because of us. */
	memcpy(a.domain, ascii, strlen(ascii) + 1);
	if (addr_format(&a, text, sizeof text) == 0)
		buf_puts(out, text);
	else
		buf_append(out, spec.p, spec.n);
}

int masquerade_value(const struct conf_masquerades *rules, const char *domain, struct slice value,
                     struct buf *out)
{
	size_t at = 0;
	while (at < value.n) {
		size_t from, to;
		size_t end = scan_mailbox(value.p, at, value.n, &from, &to);
		bool group = end < value.n && value.p[end] == ':';
		if (end < value.n)
			end++; /* the separator */
		if (!group && from < to && to <= end) {
			buf_append(out, value.p + at, from - at);
			put_address(rules, domain, (struct slice){value.p + from, to - from}, out);
			at = to;
		}
		buf_append(out, value.p + at, end - at);
		at = end;
	}
	return out->failed ? -1 : 0;
}

/* ---- fields ---- */

static bool is_sender_field(const struct header_field *f)
{
	return f->id == HEADER_FROM || f->id == HEADER_SENDER ||
	       slice_is_nocase(f->name, "Reply-To");
}

/* Bytes of the first line or field in `in` once it is complete, else 0. */
static size_t field_size(const struct masquerade *m)
{
	const char *p = buf_data(&m->in);
	size_t n = m->in.len, i = 0;
	for (;;) {
		const char *end = memchr(p + i, '\n', n - i);
		if (!end)
			return m->ended ? n : 0;
		i = (size_t)(end - p) + 1;
		if (i <= 2 && (i == 1 || p[0] == '\r'))
			return i; /* the empty line */
		if (i == n)
			return m->ended ? n : 0;
		if (p[i] != ' ' && p[i] != '\t')
			return i;
	}
}

static void pass(struct masquerade *m, size_t n)
{
	buf_append(&m->out, buf_data(&m->in), n);
	buf_consume(&m->in, n);
}

static void take_field(struct masquerade *m, size_t n)
{
	const char *p = buf_data(&m->in);
	struct slice rest = {p, n};
	struct header_field f;
	/* The empty line, or the first line that is no field: the header is over. */
	if (header_next(&rest, &f) != 1) {
		m->body = true;
		pass(m, m->in.len);
		return;
	}
	if (!is_sender_field(&f) || f.value.n == 0) {
		pass(m, n);
		return;
	}
	buf_append(&m->out, p, (size_t)(f.value.p - p));
	masquerade_value(m->rules, m->domain, f.value, &m->out);
	size_t behind = (size_t)(f.value.p - p) + f.value.n;
	buf_append(&m->out, p + behind, n - behind);
	buf_consume(&m->in, n);
}

/* The rest of a field too long to be looked at: to the end of the line, then it is seen whether the
 * next one continues it. */
static void pass_long(struct masquerade *m)
{
	const char *p = buf_data(&m->in);
	const char *end = memchr(p, '\n', m->in.len);
	size_t n = end ? (size_t)(end - p) + 1 : m->in.len;
	if (end && n < m->in.len) {
		m->inside = p[n] == ' ' || p[n] == '\t';
	} else if (end && !m->ended) {
		n--; /* with the first byte of the next line it will be known */
		if (n == 0)
			return;
	}
	pass(m, n);
}

/* Reads more of the header. 0, or -1 with *st. */
static int fill(struct masquerade *m, struct status *st)
{
	size_t room;
	char *p = buf_space(&m->in, MASQUERADE_FIELD_MAX, &room);
	if (!p) {
		status_set(st, 451, "4.3.0", "out of memory");
		return -1;
	}
	ssize_t n = m->read(m->arg, p, room, st);
	if (n < 0)
		return -1;
	buf_added(&m->in, (size_t)n);
	m->ended = n == 0;
	return 0;
}

static int work(struct masquerade *m, struct status *st)
{
	while (m->out.len == 0 && !m->body) {
		size_t n = m->inside ? 0 : field_size(m);
		if (n > 0) {
			take_field(m, n);
		} else if (m->in.len == m->in.max || (m->inside && m->in.len > 1)) {
			m->inside = true;
			pass_long(m);
		} else if (m->ended) {
			pass(m, m->in.len);
			m->body = true;
		} else if (fill(m, st)) {
			return -1;
		}
	}
	if (m->out.failed) {
		status_set(st, 451, "4.3.0", "out of memory");
		return -1;
	}
	return 0;
}

/* ---- the interface ---- */

void masquerade_init(struct masquerade *m, const struct conf_masquerades *rules, const char *domain,
                     ssize_t (*read)(void *arg, char *p, size_t n, struct status *st), void *arg)
{
	*m = (struct masquerade){.rules = rules, .domain = domain, .read = read, .arg = arg};
	buf_init(&m->in, MASQUERADE_FIELD_MAX);
	/* Each address takes a few bytes at least and becomes ADDR_TEXT_MAX at most. */
	buf_init(&m->out, MASQUERADE_FIELD_MAX / 4 * ADDR_TEXT_MAX);
}

ssize_t masquerade_read(struct masquerade *m, char *p, size_t n, struct status *st)
{
	if (work(m, st))
		return -1;
	if (m->out.len > 0) {
		if (n > m->out.len)
			n = m->out.len;
		memcpy(p, buf_data(&m->out), n);
		buf_consume(&m->out, n);
		return (ssize_t)n;
	}
	return m->ended ? 0 : m->read(m->arg, p, n, st);
}

void masquerade_clear(struct masquerade *m)
{
	buf_clear(&m->in);
	buf_clear(&m->out);
}
