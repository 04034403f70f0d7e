/*
 * authres: Authentication-Results and Received-SPF: writes ours, leaves out those in our name.
 *
 * The filter follows lines and fields, nothing else. A field of another name costs the comparison
 * of its first bytes and passes in the pieces it came in; one of these two names is held until its
 * end is seen, and judged. The header section ends at the first empty line only: a line that is
 * neither a field nor a continuation does not end it, since some readers look for fields behind it.
 * What cannot be read is taken for forged. From the body on a piece is handed on untouched.
 */
#include "authres.h"

#include <stdio.h>
#include <string.h>

#include "addr.h"
#include "header.h"

/* ---- writing -------------------------------------------------------------------------------- */

/* Longest value of a pair: any address fits, and a quoted one stays below the limit of a line. */
#define PART_MAX  400
#define VALUE_MAX (2 * PART_MAX + 3)

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_dot_between(const char *s, size_t i)
{
	return s[i] == '.' && i > 0 && s[i + 1] != '\0' && s[i + 1] != '.';
}

/* A value as a dot-atom (RFC 7208 9.1; some of `more` allowed, too) or else as a quoted string. */
static const char *value_print(const char *s, const char *more, char out[VALUE_MAX])
{
	char clean[PART_MAX + 1];
	size_t n = header_text(slice_of(s), false, clean, sizeof clean);
	size_t len = 0;
	bool quoted = n == 0;
	for (size_t i = 0; i < n; i++)
		if (!is_alnum(clean[i]) && !strchr("-_+", clean[i]) && !strchr(more, clean[i]) &&
		    !is_dot_between(clean, i))
			quoted = true;
	if (!quoted)
		return memcpy(out, clean, n + 1);
	out[len++] = '"';
	for (size_t i = 0; i < n; i++) {
		if (clean[i] == '"' || clean[i] == '\\')
			out[len++] = '\\';
		out[len++] = clean[i];
	}
	out[len++] = '"';
	out[len] = '\0';
	return out;
}

/* Appends `key=value`, the key with what separates it from the pair before. */
static void pair_write(struct buf *out, const char *key, const char *value, const char *more)
{
	char text[VALUE_MAX];
	if (value && value[0])
		buf_printf(out, "%s=%s", key, value_print(value, more, text));
}

/* The sender in ASCII as far as it can be, "" for nobody. */
static const char *sender_print(const char *sender, char out[ADDR_TEXT_MAX])
{
	struct addr a;
	char ascii[ADDR_DOMAIN_MAX + 1];
	out[0] = '\0';
	if (!sender || strcmp(sender, "<>") == 0)
		return out;
	if (addr_parse(slice_of(sender), &a) == 0 &&
	    addr_domain_to_ascii(a.domain, ascii, sizeof ascii) == 0) {
		memcpy(a.domain, ascii, strlen(ascii) + 1);
		if (addr_format(&a, out, ADDR_TEXT_MAX) == 0)
			return out;
	}
	header_text(slice_of(sender), false, out, ADDR_TEXT_MAX);
	return out;
}

static void comment_write(struct buf *out, const char *before, const char *text)
{
	char clean[PART_MAX + 1];
	if (!text || !text[0])
		return;
	header_text(slice_of(text), false, clean, sizeof clean);
	for (char *p = clean; *p; p++)
		if (strchr("()\\", *p))
			*p = '?';
	buf_printf(out, " (%s%s)", before, clean);
}

/* Writes the field and forgets its value. */
static int field_write(struct buf *out, const char *field, struct buf *value)
{
	int rc = -1;
	if (value->failed)
		out->failed = true;
	else
		rc = header_write(out, field, buf_slice(value));
	buf_clear(value);
	return rc;
}

int authres_write_received_spf(struct buf *out, const char *name, const struct authres_spf *spf)
{
	struct buf v;
	char sender[ADDR_TEXT_MAX];
	char before[ADDR_DOMAIN_MAX + 3];
	buf_init(&v, 8 * VALUE_MAX);
	snprintf(before, sizeof before, "%s: ", name);
	buf_puts(&v, spf->result);
	comment_write(&v, before, spf->reason);
	pair_write(&v, " receiver", name, "");
	pair_write(&v, "; client-ip", spf->client_ip, "");
	pair_write(&v, "; envelope-from", sender_print(spf->mailfrom, sender), "");
	pair_write(&v, "; helo", spf->helo, "");
	pair_write(&v, "; identity", spf->identity, "");
	pair_write(&v, "; mechanism", spf->mechanism, "");
	pair_write(&v, "; problem", spf->problem, "");
	return field_write(out, "Received-SPF", &v);
}

int authres_write(struct buf *out, const char *name, const struct authres_spf *spf)
{
	struct buf v;
	char text[VALUE_MAX];
	char sender[ADDR_TEXT_MAX];
	bool helo = spf->identity && strcmp(spf->identity, "helo") == 0;
	buf_init(&v, 4 * VALUE_MAX);
	buf_printf(&v, "%s; spf=%s", value_print(name, "", text), spf->result);
	comment_write(&v, "", spf->reason);
	if (helo)
		pair_write(&v, " smtp.helo", spf->helo, "");
	else
		pair_write(&v, " smtp.mailfrom", sender_print(spf->mailfrom, sender), "@");
	return field_write(out, "Authentication-Results", &v);
}

/* ---- reading what others wrote -------------------------------------------------------------- */

static const char *const names[] = {"Authentication-Results", "Received-SPF"};
#define NAME_RESULTS 0
#define NAMES        2

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip(struct slice *s, size_t n)
{
	s->p += n;
	s->n -= n;
}

/* Skips a comment with those within it; s begins with '('. False when it has no end. */
static bool comment_skip(struct slice *s)
{
	unsigned depth = 0;
	while (s->n > 0) {
		char c = s->p[0];
		skip(s, c == '\\' && s->n > 1 ? 2 : 1);
		if (c == '(')
			depth++;
		else if (c == ')' && --depth == 0)
			return true;
	}
	return false;
}

/* Skips blanks, line ends and comments. False when a comment has no end. */
static bool cfws_skip(struct slice *s)
{
	while (s->n > 0) {
		if (is_blank(s->p[0]))
			skip(s, 1);
		else if (s->p[0] != '(')
			break;
		else if (!comment_skip(s))
			return false;
	}
	return true;
}

/* A word of a field, without quotes and pairs. */
struct word {
	char text[512];
	size_t n;
};

/* False when there is no more room. */
static bool word_add(struct word *w, char c)
{
	if (w->n == sizeof w->text)
		return false;
	w->text[w->n++] = c;
	return true;
}

/* Takes a quoted string; s begins with its quote. False when it has no end or is too long. */
static bool quoted_take(struct slice *s, struct word *w)
{
	w->n = 0;
	for (skip(s, 1); s->n > 0; skip(s, 1)) {
		if (s->p[0] == '"') {
			skip(s, 1);
			return true;
		}
		if (s->p[0] == '\\' && s->n > 1)
			skip(s, 1);
		else if (s->p[0] == '\r' || s->p[0] == '\n')
			continue;
		if (!word_add(w, s->p[0]))
			return false;
	}
	return false;
}

/* Takes what comes before a blank or one of `stop`. False when it is too long. */
static bool token_take(struct slice *s, const char *stop, struct word *w)
{
	for (w->n = 0; s->n > 0 && !is_blank(s->p[0]); skip(s, 1)) {
		if (s->p[0] && strchr(stop, s->p[0]))
			break;
		if (!word_add(w, s->p[0]))
			return false;
	}
	return true;
}

static bool is_our_name(const char *name, const struct word *w)
{
	char ours[ADDR_DOMAIN_MAX + 1];
	char theirs[ADDR_DOMAIN_MAX + 1];
	struct slice text = {w->text, w->n};
	/* In a quoted string; and some readers take off more dots than one. */
	while (text.n > 0 && is_blank(text.p[0]))
		skip(&text, 1);
	while (text.n > 0 && (is_blank(text.p[text.n - 1]) || text.p[text.n - 1] == '.'))
		text.n--;
	if (slice_is_nocase(text, name))
		return true;
	return addr_domain_normalise(text, theirs, sizeof theirs) == 0 &&
	       addr_domain_normalise(slice_of(name), ours, sizeof ours) == 0 &&
	       strcmp(ours, theirs) == 0;
}

/* Beyond ASCII and no name: a blank or a mark that some reader skips may be in it. */
static bool is_odd(const struct word *w)
{
	char name[ADDR_DOMAIN_MAX + 1];
	bool ascii = true;
	for (size_t i = 0; i < w->n; i++)
		ascii = ascii && (unsigned char)w->text[i] < 0x80;
	return !ascii &&
	       addr_domain_normalise((struct slice){w->text, w->n}, name, sizeof name) != 0;
}

static bool has_control(const struct word *w)
{
	for (size_t i = 0; i < w->n; i++)
		if ((unsigned char)w->text[i] < 0x20 || w->text[i] == 0x7f)
			return true;
	return false;
}

/* Takes the authserv-id and what may stand between it and the first result (RFC 8601 2.2). */
static bool id_take(struct slice *s, struct word *id)
{
	struct word version;
	if (!cfws_skip(s) || s->n == 0)
		return false;
	if (s->p[0] == '"' ? !quoted_take(s, id) : !token_take(s, "()<>@,;:\\\"/[]?=", id))
		return false;
	if (id->n == 0 || has_control(id) || !cfws_skip(s))
		return false;
	if (s->n > 0 && s->p[0] >= '0' && s->p[0] <= '9' &&
	    (!token_take(s, "(;", &version) || !cfws_skip(s)))
		return false;
	return s->n == 0 || s->p[0] == ';';
}

static bool is_forged_results(const char *name, struct slice value)
{
	struct word id;
	return !id_take(&value, &id) || is_odd(&id) || is_our_name(name, &id);
}

/* Is our name the first word of this comment? "(NAME: domain of ..." is how many write it. */
static bool is_our_comment(const char *name, struct slice s)
{
	struct word w = {.n = 0};
	skip(&s, 1);
	while (s.n > 0 && is_blank(s.p[0]))
		skip(&s, 1);
	for (; s.n > 0 && !is_blank(s.p[0]) && !(s.p[0] && strchr(":;,()", s.p[0])); skip(&s, 1))
		if (s.p[0] != '\\' && !word_add(&w, s.p[0]))
			return true;
	return is_our_name(name, &w);
}

/* Is what follows the key `receiver` our name? Angle brackets are not allowed there and seen. */
static bool is_our_receiver(const char *name, struct slice *s)
{
	struct word w;
	if (!cfws_skip(s))
		return true;
	if (s->n == 0 || s->p[0] != '=')
		return false;
	skip(s, 1);
	while (s->n > 0 && (is_blank(s->p[0]) || s->p[0] == '<'))
		skip(s, 1);
	if (!cfws_skip(s))
		return true;
	if (s->n > 0 && s->p[0] == '"' ? !quoted_take(s, &w) : !token_take(s, ";(\">", &w))
		return true;
	return is_our_name(name, &w);
}

static bool is_forged_spf(const char *name, struct slice s)
{
	struct word w;
	while (s.n > 0) {
		char c = s.p[0];
		if (is_blank(c) || c == ';' || c == '=') {
			skip(&s, 1);
			continue;
		}
		if (c == '(' && is_our_comment(name, s))
			return true;
		bool whole = c == '('   ? comment_skip(&s)
		             : c == '"' ? quoted_take(&s, &w)
		                        : token_take(&s, ";=(\"", &w);
		if (!whole)
			return true;
		if (c != '(' && c != '"' &&
		    slice_is_nocase((struct slice){w.text, w.n}, "receiver") &&
		    is_our_receiver(name, &s))
			return true;
	}
	return false;
}

/* Judges a whole field, its name one of ours. Without a colon it is no field, and nobody's. */
static bool is_forged(const char *name, struct slice field)
{
	bool results = (field.p[0] | 0x20) == 'a';
	skip(&field, strlen(names[results ? NAME_RESULTS : NAME_RESULTS + 1]));
	while (field.n > 0 && is_blank(field.p[0]))
		skip(&field, 1);
	if (field.n == 0 || field.p[0] != ':')
		return false;
	skip(&field, 1);
	return results ? is_forged_results(name, field) : is_forged_spf(name, field);
}

/* ---- the filter ----------------------------------------------------------------------------- */

/* What becomes of a line's bytes; behind its end the same + NEXT, until the next line's first byte
 * tells whether the field goes on. */
enum { AT_NAME, PASS, HOLD, DROP, NEXT = DROP, PASSED, HELD, DROPPED, BODY };

/* What the first bytes of a line can be. */
enum line { LINE_OPEN, LINE_EMPTY, LINE_NAME, LINE_OTHER };

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Compares with a name. LINE_OPEN: the same so far; the byte behind the name is needed, too. */
static enum line name_match(const char *name, const char *p, size_t n)
{
	size_t i = 0;
	while (i < n && name[i] && lower(p[i]) == lower(name[i]))
		i++;
	if (i == n)
		return LINE_OPEN;
	return !name[i] && (is_blank(p[i]) || p[i] == ':') ? LINE_NAME : LINE_OTHER;
}

static enum line line_match(const char *p, size_t n)
{
	if (p[0] == '\n' || (n == 2 && memcmp(p, "\r\n", 2) == 0))
		return LINE_EMPTY;
	if (n == 1 && p[0] == '\r')
		return LINE_OPEN;
	for (size_t i = 0; i < NAMES; i++) {
		enum line m = name_match(names[i], p, n);
		if (m != LINE_OTHER)
			return m;
	}
	return LINE_OTHER;
}

void authres_filter_init(struct authres_filter *f, const char *name,
                         void (*put)(void *arg, const char *p, size_t n), void *arg)
{
	*f = (struct authres_filter){.put = put, .arg = arg, .state = PASSED};
	memcpy(f->name, name, strnlen(name, sizeof(f->name) - 1));
	buf_init(&f->held, AUTHRES_FIELD_MAX);
}

/* Gives out what has passed since the last time. */
static void filter_flush(struct authres_filter *f)
{
	size_t n = f->run.n;
	f->run.n = 0;
	if (n > 0)
		f->put(f->arg, f->run.p, n);
}

/* These bytes pass, with those before them if they are of one piece: nearly all of a message is. */
static void filter_pass(struct authres_filter *f, const char *p, size_t n)
{
	if (f->run.n == 0 || f->run.p + f->run.n != p) {
		filter_flush(f);
		f->run.p = p;
	}
	f->run.n += n;
}

/* Bytes of a line whose fate is known. */
static void filter_take(struct authres_filter *f, const char *p, size_t n)
{
	if (f->state == HOLD && buf_append(&f->held, p, n)) {
		buf_clear(&f->held);
		f->removed++;
		f->state = DROP;
	}
	if (f->state == PASS)
		filter_pass(f, p, n);
	if (p[n - 1] == '\n')
		f->state += NEXT;
}

/* The field is over: what was held is judged. */
static void filter_settle(struct authres_filter *f)
{
	if (f->held.len == 0)
		return;
	if (is_forged(f->name, buf_slice(&f->held)))
		f->removed++;
	else
		filter_pass(f, buf_data(&f->held), f->held.len);
	filter_flush(f); /* of what is freed now */
	buf_clear(&f->held);
}

/* Takes the first bytes of a line until they tell what it is; returns how many. */
static size_t filter_begin(struct authres_filter *f, const char *p, size_t n)
{
	size_t used = 0;
	size_t before = f->started;
	enum line m = LINE_OPEN;
	while (m == LINE_OPEN && used < n) {
		f->start[f->started++] = p[used++];
		m = line_match(f->start, f->started);
	}
	if (m == LINE_OPEN)
		return used;
	f->state = m == LINE_NAME ? HOLD : PASS;
	if (before == 0) {
		filter_take(f, p, used);
	} else {
		filter_take(f, f->start, f->started);
		filter_flush(f); /* the next line begins there, too */
	}
	if (m == LINE_EMPTY)
		f->state = BODY;
	return used;
}

/* A line, or a piece of one. */
static void filter_line(struct authres_filter *f, const char *p, size_t n)
{
	if (f->state >= PASSED && (*p == ' ' || *p == '\t')) {
		f->state -= NEXT;
	} else if (f->state >= PASSED) {
		filter_settle(f);
		f->state = AT_NAME;
		f->started = 0;
	}
	if (f->state == AT_NAME) {
		size_t used = filter_begin(f, p, n);
		p += used;
		n -= used;
	}
	if (n > 0)
		filter_take(f, p, n);
}

void authres_filter_feed(struct authres_filter *f, const char *p, size_t n)
{
	while (n > 0 && f->state != BODY) {
		const char *lf = memchr(p, '\n', n);
		size_t line = lf ? (size_t)(lf - p) + 1 : n;
		filter_line(f, p, line);
		p += line;
		n -= line;
	}
	if (n > 0)
		filter_pass(f, p, n);
	filter_flush(f); /* the piece is the caller's */
}

void authres_filter_end(struct authres_filter *f)
{
	if (f->state == AT_NAME && f->started > 0)
		filter_pass(f, f->start, f->started);
	filter_flush(f);
	filter_settle(f);
	f->state = BODY;
}

void authres_filter_clear(struct authres_filter *f)
{
	buf_clear(&f->held);
}
