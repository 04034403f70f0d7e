/*
 * textfield: structs in protobuf text format.
 *
 * One table describes a message: the reader stores by it and the writer writes by it, so the two
 * cannot disagree. The rules are protobuf's: a single field given twice, an unknown field, a number
 * out of range, an unknown enum value, a string that is not UTF-8 are errors. Stricter than
 * protobuf: a NUL in a string (it would end the C string early) and a number for an enum value that
 * has no name. Every string and array has a limit. Recursion is bounded by the tables' nesting.
 */
#include "textfield.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *member(void *s, size_t offset)
{
	return (char *)s + offset;
}

static const void *const_member(const void *s, size_t offset)
{
	return (const char *)s + offset;
}

static bool is_inside(const struct text_field *f)
{
	return f->type == TEXT_MESSAGE && !f->repeated;
}

static size_t field_max(const struct text_field *f)
{
	return f->max ? f->max : TEXT_STRING_MAX;
}

void text_init(const struct text_message *m, void *s)
{
	memset(s, 0, m->size);
	for (size_t i = 0; i < m->count; i++) {
		const struct text_field *f = &m->field[i];
		if (f->type == TEXT_BUF)
			buf_init(member(s, f->offset), field_max(f));
		else if (is_inside(f))
			text_init(f->message, member(s, f->offset));
	}
}

static void free_strings(struct text_strings *a)
{
	while (a->count > 0)
		free(a->item[--a->count]);
	free(a->item);
}

void text_clear(const struct text_message *m, void *s)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct text_field *f = &m->field[i];
		if (f->type == TEXT_BUF)
			buf_clear(member(s, f->offset));
		else if (is_inside(f))
			text_clear(f->message, member(s, f->offset));
		else if (f->type == TEXT_STRING && f->repeated)
			free_strings(member(s, f->offset));
		else if (f->type == TEXT_STRING)
			free(*(char **)member(s, f->offset));
		else if (f->type == TEXT_UINT32 && f->repeated)
			free(((struct text_numbers *)member(s, f->offset))->item);
	}
	text_init(m, s);
}

/* ---- reading ---- */

static int no_memory(struct text_reader *r, const struct text_field *f)
{
	return text_fail(r, TEXT_MEMORY, "%s: out of memory", f->name);
}

static int wrong_value(struct text_reader *r, const struct text_field *f, const char *wanted)
{
	return text_fail(r, TEXT_BAD, "%s: must be %s", f->name, wanted);
}

/* Says which words there are. */
static int wrong_word(struct text_reader *r, const struct text_field *f)
{
	char words[128] = "";
	size_t n = 0;
	for (const struct text_enum *e = f->names; e->name && n < sizeof words; e++)
		n += (size_t)snprintf(words + n, sizeof words - n, "%s%s", n ? ", " : "", e->name);
	return text_fail(r, TEXT_BAD, "%s: must be one of %s, without quotes", f->name, words);
}

/*
 * The number in the token, as sign and magnitude. Returns 0, or -1 when the token is not an integer
 * or does not fit 64 bits. Base 0 is right: the token is a valid number, so what begins with 0 is
 * octal or hexadecimal.
 */
static int token_number(const struct text_reader *r, bool *negative, uint64_t *magnitude)
{
	*negative = r->token[0] == '-';
	const char *t = r->token + *negative;
	if (*t < '0' || *t > '9')
		return -1;
	char *end;
	errno = 0;
	*magnitude = strtoull(t, &end, 0);
	return *end == '\0' && errno == 0 ? 0 : -1;
}

/* An integer from -low to high. */
static int read_number(struct text_reader *r, const struct text_field *f, uint64_t low,
                       uint64_t high, uint64_t *v)
{
	bool negative;
	uint64_t magnitude;
	if (token_number(r, &negative, &magnitude) < 0 || (negative && low == 0) ||
	    magnitude > (negative ? low : high))
		return text_fail(r, TEXT_BAD, "%s: %s is not an integer from %s%llu to %llu",
		                 f->name, r->token, low ? "-" : "", (unsigned long long)low,
		                 (unsigned long long)high);
	*v = negative ? 0 - magnitude : magnitude;
	return 0;
}

/* Two's complement bits to a signed number, without relying on the compiler's conversion. */
static int64_t to_signed(uint64_t v)
{
	return v <= INT64_MAX ? (int64_t)v : -(int64_t)(UINT64_MAX - v) - 1;
}

static int read_bool(struct text_reader *r, const struct text_field *f, bool *v)
{
	static const char words[6][6] = {"false", "f", "False", "true", "t", "True"};
	bool negative;
	uint64_t n;
	if (token_number(r, &negative, &n) == 0 && !negative && n <= 1) {
		*v = n;
		return 0;
	}
	for (int i = 0; i < 6; i++) {
		if (strcmp(r->token, words[i]) == 0) {
			*v = i >= 3;
			return 0;
		}
	}
	return text_fail(r, TEXT_BAD, "%s: %s is neither true nor false", f->name, r->token);
}

static int read_enum(struct text_reader *r, const struct text_field *f, int *v)
{
	bool negative;
	uint64_t n;
	bool number = token_number(r, &negative, &n) == 0 && n <= INT32_MAX;
	for (const struct text_enum *e = f->names; e->name; e++) {
		if (number ? (int64_t)e->value == (negative ? -(int64_t)n : (int64_t)n)
		           : strcmp(e->name, r->token) == 0) {
			*v = e->value;
			return 0;
		}
	}
	return wrong_word(r, f);
}

static int append_number(struct text_reader *r, const struct text_field *f, struct text_numbers *a,
                         uint32_t v)
{
	if (a->count >= (f->limit ? f->limit : TEXT_REPEATED_MAX))
		return text_fail(r, TEXT_BAD, "%s: given too often", f->name);
	if ((a->count & (a->count - 1)) == 0) { /* full: the capacity is a power of two */
		size_t size = (a->count ? 2 * a->count : 1) * sizeof(*a->item);
		uint32_t *item = realloc(a->item, size);
		if (!item)
			return no_memory(r, f);
		a->item = item;
	}
	a->item[a->count++] = v;
	return 0;
}

/* Takes v. */
static int append_string(struct text_reader *r, const struct text_field *f, struct text_strings *a,
                         char *v)
{
	int rc = -1;
	char **item = a->item;
	if (a->count >= (f->limit ? f->limit : TEXT_REPEATED_MAX))
		rc = text_fail(r, TEXT_BAD, "%s: given too often", f->name);
	else if ((a->count & (a->count - 1)) == 0 &&
	         !(item = realloc(a->item, (a->count ? 2 * a->count : 1) * sizeof(*item))))
		rc = no_memory(r, f);
	else
		rc = 0;
	if (rc < 0 || !item) {
		free(v);
		return -1;
	}
	a->item = item;
	a->item[a->count++] = v;
	return 0;
}

static int read_scalar(struct text_reader *r, const struct text_field *f, void *s)
{
	void *to = member(s, f->offset);
	uint64_t v = 0;
	switch (f->type) {
	case TEXT_BOOL:
		return read_bool(r, f, to);
	case TEXT_ENUM:
		return read_enum(r, f, to);
	case TEXT_INT32:
		if (read_number(r, f, (uint64_t)INT32_MAX + 1, INT32_MAX, &v) < 0)
			return -1;
		*(int32_t *)to = (int32_t)to_signed(v);
		return 0;
	case TEXT_INT64:
		if (read_number(r, f, (uint64_t)INT64_MAX + 1, INT64_MAX, &v) < 0)
			return -1;
		*(int64_t *)to = to_signed(v);
		return 0;
	case TEXT_UINT64:
		return read_number(r, f, 0, UINT64_MAX, to);
	case TEXT_UINT32:
		if (read_number(r, f, 0, UINT32_MAX, &v) < 0)
			return -1;
		if (f->repeated)
			return append_number(r, f, to, (uint32_t)v);
		*(uint32_t *)to = (uint32_t)v;
		return 0;
	case TEXT_MESSAGE:
		return wrong_value(r, f, "a message in { }");
	default:
		return wrong_value(r, f, "a string in quotes");
	}
}

static int read_bytes(struct text_reader *r, const struct text_field *f, struct buf *b)
{
	char piece[256];
	ssize_t n;
	while ((n = text_bytes_read(r, piece, sizeof(piece))) > 0) {
		if ((size_t)n > b->max - b->len)
			return text_fail(r, TEXT_BAD, "%s: longer than %zu bytes", f->name, b->max);
		if (buf_append(b, piece, (size_t)n) < 0)
			return no_memory(r, f);
	}
	return n < 0 ? -1 : 0;
}

/* Returns the string, for the caller to free, or NULL on error. */
static char *read_string(struct text_reader *r, const struct text_field *f)
{
	struct buf b;
	char *v = NULL;
	buf_init(&b, field_max(f));
	if (read_bytes(r, f, &b) < 0)
		goto done;
	if (b.len && memchr(buf_data(&b), '\0', b.len)) {
		text_fail(r, TEXT_BAD, "%s: a NUL byte in a string", f->name);
	} else if (!text_is_utf8(buf_data(&b), b.len)) {
		text_fail(r, TEXT_BAD, "%s: not valid UTF-8", f->name);
	} else if ((v = malloc(b.len + 1)) == NULL) {
		no_memory(r, f);
	} else {
		memcpy(v, buf_data(&b), b.len);
		v[b.len] = '\0';
	}
done:
	buf_clear(&b);
	return v;
}

/* Stores the string value that begins. Returns 1 when it is left to the caller. */
static int read_quoted(struct text_reader *r, const struct text_field *f, void *s, bool top)
{
	if (f->type == TEXT_BUF)
		return read_bytes(r, f, member(s, f->offset));
	if (f->type == TEXT_STREAM && top)
		return 1;
	if (f->type == TEXT_ENUM)
		return wrong_word(r, f);
	if (f->type != TEXT_STRING)
		return wrong_value(r, f,
		                   f->type == TEXT_MESSAGE ? "a message in { }"
		                   : f->type == TEXT_BOOL  ? "true or false, without quotes"
		                                           : "a number, without quotes");
	char *v = read_string(r, f);
	if (!v)
		return -1;
	if (f->repeated)
		return append_string(r, f, member(s, f->offset), v);
	*(char **)member(s, f->offset) = v;
	return 0;
}

static int read_message(struct text_reader *r, const struct text_message *m, void *s, bool top);

/* Reads an element, hands it to take(), and frees what that left. */
static int read_element(struct text_reader *r, const struct text_field *f, void *s)
{
	int line = r->line;
	void *element = malloc(f->message->size);
	if (!element)
		return no_memory(r, f);
	text_init(f->message, element);
	int rc = read_message(r, f->message, element, false);
	if (rc == 0) {
		r->line = line;
		rc = f->take(r, s, element);
	}
	text_clear(f->message, element);
	free(element);
	return rc;
}

/* Stores the value that begins with ev. Returns 1 when it is left to the caller. */
static int read_value(struct text_reader *r, const struct text_field *f, void *s,
                      enum text_event ev, bool top)
{
	switch (ev) {
	case TEXT_SCALAR:
		return read_scalar(r, f, s);
	case TEXT_BYTES:
		return read_quoted(r, f, s, top);
	case TEXT_OPEN:
		if (f->type != TEXT_MESSAGE)
			return wrong_value(r, f, "a single value, not a message");
		if (f->repeated)
			return read_element(r, f, s);
		return read_message(r, f->message, member(s, f->offset), false);
	default:
		return -1;
	}
}

static int read_list(struct text_reader *r, const struct text_field *f, void *s)
{
	if (!f->repeated)
		return wrong_value(r, f, "a single value, not a list");
	if (!r->colon && f->type != TEXT_MESSAGE)
		return text_fail(r, TEXT_BAD, "%s: needs a ':'", f->name);
	enum text_event ev;
	while ((ev = text_next(r)) != TEXT_LIST_END)
		if (read_value(r, f, s, ev, false) < 0)
			return -1;
	return 0;
}

/* True when a field that excludes f was given. */
static const struct text_field *oneof_rival(const struct text_message *m, const int *given,
                                            const struct text_field *f)
{
	for (size_t i = 0; f->oneof && i < m->count; i++)
		if (m->field[i].oneof == f->oneof && &m->field[i] != f && given[i])
			return &m->field[i];
	return NULL;
}

/* Reads the field just named. Returns 0, -1, or 1 when its value is left to the caller. */
static int read_field(struct text_reader *r, const struct text_message *m, void *s, bool top)
{
	int *given = member(s, m->given);
	size_t i = 0;
	while (i < m->count && strcmp(m->field[i].name, r->token) != 0)
		i++;
	if (i == m->count) {
		if (r->skip_unknown)
			return text_skip(r);
		return text_fail(r, TEXT_BAD, "%s: unknown field%s", r->token,
		                 top ? "" : " in this { }");
	}
	const struct text_field *f = &m->field[i], *rival = oneof_rival(m, given, f);
	if (given[i] && !f->repeated)
		return text_fail(r, TEXT_BAD, "%s: given twice, first on line %d", f->name,
		                 given[i]);
	if (rival)
		return text_fail(r, TEXT_BAD, "%s: excludes %s, which is given too", f->name,
		                 rival->name);
	if (!given[i])
		given[i] = r->line;
	enum text_event ev = text_next(r);
	return ev == TEXT_LIST ? read_list(r, f, s) : read_value(r, f, s, ev, top);
}

static int read_message(struct text_reader *r, const struct text_message *m, void *s, bool top)
{
	enum text_event ev;
	while ((ev = text_next(r)) == TEXT_FIELD) {
		int rc = read_field(r, m, s, top);
		if (rc != 0)
			return rc;
	}
	return ev == TEXT_ERROR ? -1 : 0;
}

int text_read(struct text_reader *r, const struct text_message *m, void *s)
{
	return read_message(r, m, s, true);
}

/* ---- writing ---- */

static void put_enum(struct text_writer *w, const struct text_field *f, int v)
{
	for (const struct text_enum *e = f->names; e->name; e++) {
		if (e->value == v) {
			text_put_word(w, f->name, e->name);
			return;
		}
	}
	text_put_int(w, f->name, v);
}

static void put_repeated(struct text_writer *w, const struct text_field *f, const void *s)
{
	const void *v = const_member(s, f->offset);
	if (f->type == TEXT_STRING) {
		const struct text_strings *a = v;
		for (size_t i = 0; i < a->count; i++)
			text_put_string(w, f->name, a->item[i]);
	} else if (f->type == TEXT_UINT32) {
		const struct text_numbers *a = v;
		for (size_t i = 0; i < a->count; i++)
			text_put_uint(w, f->name, a->item[i]);
	} else if (f->type == TEXT_MESSAGE && f->each) {
		const void *element;
		for (size_t i = 0; (element = f->each(s, i)) != NULL; i++) {
			text_put_open(w, f->name, f->one_line);
			text_put_struct(w, f->message, element);
			text_put_close(w);
		}
	}
}

/* Writes the message, and takes that back when there was nothing to say. */
static void put_inside(struct text_writer *w, const struct text_field *f, const void *v, bool given)
{
	struct text_writer before = *w;
	size_t len = w->out->len;
	text_put_open(w, f->name, f->one_line);
	size_t empty = w->out->len;
	text_put_struct(w, f->message, v);
	if (!given && w->out->len == empty) {
		buf_truncate(w->out, len);
		*w = before;
	} else {
		text_put_close(w);
	}
}

/* Writes one field unless it has its default value and is not `forced`. */
static void put_single(struct text_writer *w, const struct text_field *f, const void *v,
                       bool forced)
{
	int64_t i = 0;
	switch (f->type) {
	case TEXT_BOOL:
		if (*(const bool *)v || forced)
			text_put_bool(w, f->name, *(const bool *)v);
		return;
	case TEXT_ENUM:
		if (*(const int *)v || forced)
			put_enum(w, f, *(const int *)v);
		return;
	case TEXT_INT32:
		i = *(const int32_t *)v;
		break;
	case TEXT_INT64:
		i = *(const int64_t *)v;
		break;
	case TEXT_UINT32:
		i = *(const uint32_t *)v;
		break;
	case TEXT_UINT64:
		if (*(const uint64_t *)v || forced)
			text_put_uint(w, f->name, *(const uint64_t *)v);
		return;
	case TEXT_STRING: {
		const char *p = *(char *const *)v;
		if ((p && *p) || forced)
			text_put_string(w, f->name, p ? p : "");
		return;
	}
	case TEXT_BUF: {
		const struct buf *b = v;
		if (b->len || forced)
			text_put_bytes(w, f->name, buf_data(b), b->len);
		return;
	}
	default:
		return;
	}
	if (i || forced)
		text_put_int(w, f->name, i);
}

void text_put_fields(struct text_writer *w, const struct text_message *m, const void *s,
                     size_t first, size_t end)
{
	const int *given = const_member(s, m->given);
	for (size_t i = first; i < end && i < m->count; i++) {
		const struct text_field *f = &m->field[i];
		const void *v = const_member(s, f->offset);
		if (f->repeated)
			put_repeated(w, f, s);
		else if (f->type == TEXT_MESSAGE)
			put_inside(w, f, v, given[i] != 0);
		else
			put_single(w, f, v, f->presence && given[i] != 0);
	}
}

void text_put_struct(struct text_writer *w, const struct text_message *m, const void *s)
{
	text_put_fields(w, m, s, 0, m->count);
}
