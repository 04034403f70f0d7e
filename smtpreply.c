/*
 * smtpreply: SMTP replies, ours and a peer's.
 *
 * Ours: no line longer than RFC 5321 allows, the enhanced code on each, and no byte in a text that
 * could end a line or be taken for another reply. A peer's: bytes of a stranger, read in constant
 * memory; anything that is not a reply is BAD at once, so the client never waits for the end of
 * nonsense.
 */
#include "smtpreply.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bytes.h"
#include "smtp.h"

/* ---- the server's side ------------------------------------------------------------------------
 */

/* How much of text goes into a line of at most max bytes: all of it, or up to the last blank, or
 * as many whole characters as fit. */
static size_t line_cut(struct slice text, size_t max)
{
	size_t n = 0;
	size_t i;

	if (text.n <= max)
		return text.n;
	for (i = max; i > max / 2; i--)
		if (text.p[i] == ' ')
			return i;
	/* The text is clean, so every character has a length. */
	while (n + status_utf8_len(text.p + n, text.n - n) <= max)
		n += status_utf8_len(text.p + n, text.n - n);
	return n;
}

/* What stands before the text of a line: the code, a hyphen, and the enhanced code with a blank. */
struct head {
	char s[24];
	size_t n;
};

static void head_print(struct head *h, int code, const int enh[3])
{
	char *p = h->s;

	*p++ = (char)('0' + code / 100 % 10);
	*p++ = (char)('0' + code / 10 % 10);
	*p++ = (char)('0' + code % 10);
	*p++ = '-';
	if (enh[0]) {
		p = bytes_put_number(p, enh[0] % 10);
		*p++ = '.';
		p = bytes_put_number(p, enh[1] % 1000);
		*p++ = '.';
		p = bytes_put_number(p, enh[2] % 1000);
		*p++ = ' ';
	}
	h->n = (size_t)(p - h->s);
}

/* Writes one paragraph (clean, no line end) as one or more lines; `more` says another follows. */
static void paragraph(struct buf *out, struct head *h, struct slice text, bool more)
{
	do {
		size_t n = line_cut(text, SMTP_REPLY_LINE - 2 - h->n);

		h->s[3] = n == text.n && !more ? ' ' : '-';
		buf_append(out, h->s, h->n);
		buf_append(out, text.p, n);
		buf_append(out, "\r\n", 2);
		text.p += n;
		text.n -= n;
		if (text.n > 0 && *text.p == ' ') {
			text.p++;
			text.n--;
		}
	} while (text.n > 0);
}

int smtp_reply_status(struct buf *out, const struct status *st)
{
	struct head h;

	head_print(&h, st->code, st->enh);
	paragraph(out, &h, slice_of(st->text), false);
	return out->failed ? -1 : 0;
}

int smtp_reply_printf(struct buf *out, int code, const char *enh, const char *fmt, ...)
{
	char text[SMTP_REPLY_TEXT];
	char clean[SMTP_REPLY_TEXT];
	struct head h;
	int numbers[3] = {0, 0, 0};
	const char *p = text;
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	if (enh)
		status_enh_parse(slice_of(enh), numbers);
	head_print(&h, code, numbers);
	while (p) {
		const char *end = strchr(p, '\n');
		struct slice line = {p, end ? (size_t)(end - p) : strlen(p)};

		line.n = status_clean(line, clean, sizeof(clean));
		line.p = clean;
		paragraph(out, &h, line, end != NULL);
		p = end ? end + 1 : NULL;
	}
	return out->failed ? -1 : 0;
}

/* ---- the client's side ------------------------------------------------------------------------
 */

void smtp_reply_init(struct smtp_reply *r, smtp_reply_line_fn *fn, void *arg)
{
	*r = (struct smtp_reply){.fn = fn, .arg = arg, .result = SMTP_REPLY_MORE};
}

static enum smtp_reply_result bad(struct smtp_reply *r, const char *why)
{
	r->error = why;
	r->result = SMTP_REPLY_BAD;
	return r->result;
}

/* The code at the start of the line under way; 0 when there is none. */
static int line_code(const struct smtp_reply *r)
{
	const char *p = r->line;

	if (r->kept < 3 || p[0] < '2' || p[0] > '5' || p[1] < '0' || p[1] > '9' || p[2] < '0' ||
	    p[2] > '9')
		return 0;
	return (p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0');
}

/* Adds the text of a line to the status: the first that has any as it is, the others behind a blank
 * and without the enhanced code that RFC 2034 repeats. */
static void status_add(struct smtp_reply *r, struct slice text)
{
	struct status *st = &r->status;
	struct status line;
	size_t n = strlen(st->text);

	if (n == 0) {
		status_from_reply(st, r->code, text);
		return;
	}
	status_from_reply(&line, r->code, text);
	if (memcmp(line.enh, st->enh, sizeof(line.enh)) != 0)
		status_clean(text, line.text, sizeof(line.text));
	if (line.text[0] == '\0' || n + 2 >= sizeof(st->text))
		return;
	st->text[n++] = ' ';
	if (status_clean(slice_of(line.text), st->text + n, sizeof(st->text) - n) == 0)
		st->text[n - 1] = '\0';
}

static enum smtp_reply_result line_end(struct smtp_reply *r)
{
	struct slice text = {r->line + 4, 0};
	int code = line_code(r);
	char mark;

	if (r->kept == r->len && r->kept > 0 && r->line[r->kept - 1] == '\r')
		r->kept--;
	mark = r->kept > 3 ? r->line[3] : ' ';
	if (code == 0)
		return bad(r, "no reply code");
	if (mark != ' ' && mark != '-')
		return bad(r, "no blank or hyphen behind the reply code");
	if (r->lines > 0 && code != r->code)
		return bad(r, "different codes in one reply");
	if (r->lines >= SMTP_REPLY_LINES_MAX)
		return bad(r, "too many lines in a reply");
	if (r->kept > 4)
		text.n = r->kept - 4;
	r->code = code;
	status_add(r, text);
	if (r->fn)
		r->fn(r->arg, r->lines, text);
	r->lines++;
	r->len = 0;
	r->kept = 0;
	if (mark == ' ')
		r->result = SMTP_REPLY_COMPLETE;
	return r->result;
}

/* Nonsense must not have to end before it is seen to be nonsense. */
static bool start_is_bad(const struct smtp_reply *r)
{
	return (r->kept >= 3 && line_code(r) == 0) ||
	       (r->kept >= 1 && (r->line[0] < '2' || r->line[0] > '5'));
}

enum smtp_reply_result smtp_reply_feed(struct smtp_reply *r, struct slice in, size_t *used)
{
	*used = 0;
	while (*used < in.n && r->result == SMTP_REPLY_MORE) {
		char c = in.p[(*used)++];

		if (c == '\n') {
			line_end(r);
			continue;
		}
		if (r->len >= SMTP_REPLY_LINE_MAX)
			return bad(r, "reply line too long");
		if (r->kept < sizeof(r->line))
			r->line[r->kept++] = c;
		r->len++;
		if (r->len <= 3 && start_is_bad(r))
			return bad(r, "no reply code");
	}
	return r->result;
}

/* ---- EHLO -------------------------------------------------------------------------------------
 */

static const struct {
	const char *keyword;
	unsigned ext;
} extensions[] = {
    {"SIZE", SMTP_EXT_SIZE},
    {"8BITMIME", SMTP_EXT_8BITMIME},
    {"PIPELINING", SMTP_EXT_PIPELINING},
    {"STARTTLS", SMTP_EXT_STARTTLS},
    {"SMTPUTF8", SMTP_EXT_SMTPUTF8},
    {"ENHANCEDSTATUSCODES", SMTP_EXT_ENHANCEDSTATUSCODES},
    {"DSN", SMTP_EXT_DSN},
    {"CHUNKING", SMTP_EXT_CHUNKING},
    {"AUTH", SMTP_EXT_AUTH},
    {"REQUIRETLS", SMTP_EXT_REQUIRETLS},
};

static const struct {
	const char *keyword;
	unsigned ext;
} mechanisms[] = {
    {"PLAIN", SMTP_EXT_AUTH_PLAIN},
    {"LOGIN", SMTP_EXT_AUTH_LOGIN},
    {"XOAUTH2", SMTP_EXT_AUTH_XOAUTH2},
};

/* Takes the next word off in; words end at blanks or '=' (old servers write AUTH=LOGIN). Returns
 * false when there is none. */
static bool word_next(struct slice *in, struct slice *word)
{
	size_t from = 0;
	size_t to;

	while (from < in->n && strchr(" \t=\r", in->p[from]) && in->p[from])
		from++;
	for (to = from; to < in->n && !(strchr(" \t=\r", in->p[to]) && in->p[to]); to++)
		continue;
	*word = (struct slice){in->p + from, to - from};
	*in = (struct slice){in->p + to, in->n - to};
	return word->n > 0;
}

void smtp_caps_line(void *arg, unsigned number, struct slice text)
{
	struct smtp_caps *caps = arg;
	struct slice word;
	unsigned ext = 0;
	size_t i;

	if (number == 0 || !word_next(&text, &word))
		return;
	for (i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++)
		if (slice_is_nocase(word, extensions[i].keyword))
			ext = extensions[i].ext;
	caps->ext |= ext;
	if (ext == SMTP_EXT_SIZE && word_next(&text, &word))
		smtp_size_parse(word, &caps->size);
	while (ext == SMTP_EXT_AUTH && word_next(&text, &word))
		for (i = 0; i < sizeof(mechanisms) / sizeof(mechanisms[0]); i++)
			if (slice_is_nocase(word, mechanisms[i].keyword))
				caps->ext |= mechanisms[i].ext;
}
