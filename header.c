/*
 * header: the header section of a message.
 *
 * Two ways of reading: the scanner sees every message that passes, in pieces and constant memory,
 * and only counts and notes; header_next and header_addresses take apart what is in memory, for a
 * message that names its own recipients. Writing: whatever text a peer supplied, a field we write
 * is one field: no line end, control character or bracket of the text survives where it could end a
 * part early.
 */
#include "header.h"

#include <string.h>

#include "bytes.h"
#include "status.h"

/* Lines are folded here; longer words are cut in two, with room for a name before them (RFC 5322
 * 2.1.1: 78 wanted, 998 allowed). */
#define FOLD_AT  78
#define WORD_MAX 900

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_space(char c)
{
	return is_blank(c) || c == '\r' || c == '\n';
}

/* RFC 5322 3.6.8: printable ASCII without the colon. */
static bool is_ftext(char c)
{
	return c > 32 && c < 127 && c != ':';
}

static void skip(struct slice *s, size_t n)
{
	s->p += n;
	s->n -= n;
}

static const struct {
	const char *name;
	enum header_id id;
} fields[] = {
    {"Auto-Submitted", HEADER_AUTO_SUBMITTED},
    {"Bcc", HEADER_BCC},
    {"Cc", HEADER_CC},
    {"Date", HEADER_DATE},
    {"Delivered-To", HEADER_DELIVERED_TO},
    {"From", HEADER_FROM},
    {"Message-ID", HEADER_MESSAGE_ID},
    {"Received", HEADER_RECEIVED},
    {"References", HEADER_REFERENCES},
    {"Resent-Bcc", HEADER_RESENT_BCC},
    {"Resent-Cc", HEADER_RESENT_CC},
    {"Resent-To", HEADER_RESENT_TO},
    {"Return-Path", HEADER_RETURN_PATH},
    {"Sender", HEADER_SENDER},
    {"Subject", HEADER_SUBJECT},
    {"To", HEADER_TO},
};

enum header_id header_id(struct slice name)
{
	size_t i;

	for (i = 0; i < sizeof(fields) / sizeof(fields[0]) && name.n > 0; i++)
		if (((name.p[0] ^ fields[i].name[0]) & ~0x20) == 0 &&
		    slice_is_nocase(name, fields[i].name))
			return fields[i].id;
	return HEADER_OTHER;
}

/* ---- the scanner ------------------------------------------------------------------------------
 */

enum scan_state {
	SCAN_START, /* at the start of a line of the header section */
	SCAN_CR,    /* behind a CR there */
	SCAN_NAME,
	SCAN_BLANK, /* blanks between name and colon, an obsolete form */
	SCAN_VALUE,
	SCAN_BODY
};

void header_scan_init(struct header_scan *h)
{
	memset(h, 0, sizeof(*h));
}

/* Where the value of the current field is kept; NULL when it is not. */
static char *scan_capture(struct header_scan *h)
{
	if (h->count[h->id] != 1)
		return NULL;
	if (h->id == HEADER_MESSAGE_ID)
		return h->message_id;
	return h->id == HEADER_SUBJECT ? h->subject : NULL;
}

static void capture_add(struct header_scan *h, char c)
{
	char *value = scan_capture(h);

	if (!value || c == '\r' || c == '\n' || h->kept + 1 >= HEADER_CAPTURE_MAX)
		return;
	if (h->kept == 0 && is_blank(c))
		return;
	value[h->kept++] = c ? c : '?';
}

/* Makes a captured value one clean line; drops a character that the bound cut in two. */
static void capture_clean(char *value)
{
	size_t n = strlen(value);
	size_t i;

	for (i = n > 3 ? n - 3 : 0; n + 1 == HEADER_CAPTURE_MAX && i < n; i++)
		if ((unsigned char)value[i] >= 0xc2 && status_utf8_len(value + i, n - i) == 0)
			n = i;
	status_clean((struct slice){value, n}, value, HEADER_CAPTURE_MAX);
}

/* The header section ends; the body begins at the given offset. */
static void scan_done(struct header_scan *h, int64_t body, bool malformed)
{
	h->done = true;
	h->size = body;
	h->malformed = malformed;
	h->state = SCAN_BODY;
	capture_clean(h->message_id);
	capture_clean(h->subject);
}

static void scan_name_end(struct header_scan *h)
{
	size_t n = h->kept < sizeof(h->name) ? h->kept : 0; /* a longer name is none we know */

	h->id = header_id((struct slice){h->name, n});
	h->count[h->id]++;
	h->kept = 0;
	h->state = SCAN_VALUE;
}

/* c is the first byte of a line. Returns false when the line is neither field nor continuation. */
static bool scan_start(struct header_scan *h, char c)
{
	if (is_blank(c) && h->offset > 0) {
		h->state = SCAN_VALUE;
		capture_add(h, c);
	} else if (c == '\r') {
		h->state = SCAN_CR;
	} else if (c == '\n') {
		scan_done(h, h->offset + 1, false);
	} else if (is_ftext(c)) {
		h->state = SCAN_NAME;
		h->name[0] = c;
		h->kept = 1;
	} else {
		return false;
	}
	return true;
}

/* c is a byte behind the name's first. The same result. */
static bool scan_name(struct header_scan *h, char c)
{
	if (c == ':') {
		scan_name_end(h);
	} else if (is_blank(c)) {
		h->state = SCAN_BLANK;
	} else if (h->state == SCAN_NAME && is_ftext(c)) {
		if (h->kept < sizeof(h->name))
			h->name[h->kept++] = c;
	} else {
		return false;
	}
	return true;
}

/* c is a byte of a value that is beyond ASCII, or follows one. */
static void scan_8bit(struct header_scan *h, char c)
{
	bool ascii = (unsigned char)c < 0x80;

	h->header_8bit = true;
	if (!ascii)
		h->utf8[h->pending++] = c;
	if (!ascii && status_utf8_len(h->utf8, h->pending) == h->pending) {
		h->pending = 0;
	} else if (ascii || h->pending == sizeof(h->utf8)) {
		h->header_not_utf8 = true;
		h->pending = 0;
	}
}

static void scan_byte(struct header_scan *h, char c)
{
	bool good = true;

	switch (h->state) {
	case SCAN_START:
		good = scan_start(h, c);
		break;
	case SCAN_CR:
		good = c == '\n';
		if (good)
			scan_done(h, h->offset + 1, false);
		break;
	case SCAN_NAME:
	case SCAN_BLANK:
		good = scan_name(h, c);
		break;
	case SCAN_VALUE:
		if (c == '\n')
			h->state = SCAN_START;
		if ((unsigned char)c >= 0x80 || h->pending > 0)
			scan_8bit(h, c);
		capture_add(h, c);
		break;
	default:
		break;
	}
	if (!good)
		scan_done(h, h->line, true);
	if (h->state == SCAN_BODY && (unsigned char)c >= 0x80)
		h->body_8bit = true;
}

/* Counts line lengths of a piece that stands at an offset: h->line is the start of the line under
 * way. */
static void scan_lines(struct header_scan *h, struct slice in, int64_t at)
{
	while (in.n > 0) {
		const char *lf = memchr(in.p, '\n', in.n);
		size_t n = lf ? (size_t)(lf - in.p) : in.n;
		int64_t len = at + (int64_t)n - h->line;

		if (n > 0)
			h->cr = in.p[n - 1] == '\r';
		if (len > 0 && h->cr)
			len--;
		if (len > h->longest)
			h->longest = len;
		if (!lf)
			return;
		at += (int64_t)n + 1;
		h->line = at;
		h->cr = false;
		skip(&in, n + 1);
	}
}

/* Takes what needs no look at each byte: of a value that is not kept, up to its line end. */
static size_t scan_run(struct header_scan *h, struct slice in)
{
	bool plain = h->state == SCAN_VALUE && h->pending == 0 && !scan_capture(h);

	return plain ? bytes_print_run(in.p, in.n) : 0;
}

void header_scan_feed(struct header_scan *h, struct slice in)
{
	int64_t at = h->offset;
	struct slice rest = in;

	while (rest.n > 0 && !h->done) {
		size_t n = scan_run(h, rest);

		if (n == 0) {
			n = 1;
			scan_byte(h, rest.p[0]);
		}
		h->offset += (int64_t)n;
		skip(&rest, n);
		if (h->state == SCAN_START) {
			size_t line = (size_t)(rest.p - in.p);

			scan_lines(h, (struct slice){in.p, line}, at);
			at = h->offset;
			in = rest;
		}
	}
	if (in.n == 0 || (h->done && h->head_only))
		return;
	if (!h->body_8bit)
		h->body_8bit = bytes_have_8bit(rest.p, rest.n);
	scan_lines(h, in, at);
	h->offset += (int64_t)rest.n;
}

void header_scan_end(struct header_scan *h)
{
	if (h->done)
		return;
	h->header_not_utf8 |= h->pending > 0;
	if (h->state == SCAN_START || h->state == SCAN_VALUE)
		scan_done(h, h->offset, false);
	else
		scan_done(h, h->line, true);
}

/* ---- fields in memory -------------------------------------------------------------------------
 */

/* Length of the line at the start of s, its line end included. */
static size_t line_length(struct slice s)
{
	const char *lf = memchr(s.p, '\n', s.n);

	return lf ? (size_t)(lf - s.p) + 1 : s.n;
}

static struct slice trim(struct slice s)
{
	while (s.n > 0 && is_space(s.p[0]))
		skip(&s, 1);
	while (s.n > 0 && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

int header_next(struct slice *rest, struct header_field *f)
{
	struct slice s = *rest;
	size_t name = 0;
	size_t colon;

	if (s.n == 0 || s.p[0] == '\n' || (s.n > 1 && s.p[0] == '\r' && s.p[1] == '\n'))
		return 0;
	while (name < s.n && is_ftext(s.p[name]))
		name++;
	for (colon = name; colon < s.n && is_blank(s.p[colon]); colon++)
		continue;
	if (name == 0 || colon == s.n || s.p[colon] != ':')
		return -1;
	do
		skip(&s, line_length(s));
	while (s.n > 0 && is_blank(s.p[0]));
	f->name = (struct slice){rest->p, name};
	f->id = header_id(f->name);
	f->raw = (struct slice){rest->p, rest->n - s.n};
	f->value = trim((struct slice){rest->p + colon + 1, f->raw.n - colon - 1});
	*rest = s;
	return 1;
}

/* ---- address lists ----------------------------------------------------------------------------
 */

/* The words of a list entry so far: an address when nothing else follows, or a display name. */
struct entry {
	char text[ADDR_TEXT_MAX + 1];
	size_t n;
	bool phrase;   /* words with only blanks between: no address */
	bool overflow; /* longer than any address */
	bool gap;      /* blanks or a comment since the last word */
};

static void entry_add(struct entry *e, char c)
{
	if (e->n < sizeof(e->text))
		e->text[e->n++] = c;
	else
		e->overflow = true;
}

/* Drops blanks and comments (RFC 5322 3.2.2) from the front. Returns 1 when there were any, 0 when
 * not, -1 when a comment has no end. */
static int cfws_drop(struct slice *s)
{
	size_t from = s->n;
	size_t depth = 0;

	while (s->n > 0) {
		char c = s->p[0];

		if (depth > 0 && c == '\\' && s->n > 1)
			skip(s, 1);
		else if (c == '(')
			depth++;
		else if (depth > 0 && c == ')')
			depth--;
		else if (depth == 0 && !is_space(c))
			break;
		skip(s, 1);
	}
	if (depth > 0)
		return -1;
	return s->n < from;
}

/* Takes a quoted string or [literal], up to the closing character, as it is but for line ends. */
static int enclosed_take(struct slice *s, char close, struct entry *e)
{
	entry_add(e, s->p[0]);
	skip(s, 1);
	while (s->n > 0) {
		char c = s->p[0];
		bool pair = c == '\\' && s->n > 1;

		if (c != '\r' && c != '\n')
			entry_add(e, c);
		skip(s, 1);
		if (pair) {
			entry_add(e, s->p[0]);
			skip(s, 1);
		} else if (c == close) {
			return 0;
		}
	}
	return -1;
}

static bool is_special(char c)
{
	return is_space(c) || c == '\0' || strchr("()<>[]:;@\\,.\"", c);
}

/* Takes one word, or one '.' or '@'. */
static int word_take(struct slice *s, struct entry *e)
{
	char c = s->p[0];
	bool joint = c == '.' || c == '@';

	if (e->gap && e->n > 0 && !joint && e->text[e->n - 1] != '.' && e->text[e->n - 1] != '@')
		e->phrase = true;
	e->gap = false;
	if (c == '"')
		return enclosed_take(s, '"', e);
	if (c == '[')
		return enclosed_take(s, ']', e);
	if (!joint && is_special(c))
		return -1;
	do {
		entry_add(e, s->p[0]);
		skip(s, 1);
	} while (!joint && s->n > 0 && !is_special(s->p[0]));
	return 0;
}

/* Takes words up to one of the characters of stop, or the end. Returns that (still there), 0 at the
 * end, -1 when something else is in the way. */
static int words_take(struct slice *s, const char *stop, struct entry *e)
{
	memset(e, 0, sizeof(*e));
	for (;;) {
		int gap = cfws_drop(s);

		if (gap < 0)
			return -1;
		if (gap)
			e->gap = true;
		if (s->n == 0)
			return 0;
		if (s->p[0] && strchr(stop, s->p[0]))
			return s->p[0];
		if (word_take(s, e) != 0)
			return -1;
	}
}

static int entry_report(const struct entry *e, header_addr_fn *fn, void *arg)
{
	struct addr a;

	if (e->phrase || e->overflow ||
	    addr_parse_local((struct slice){e->text, e->n}, "", &a) != 0)
		return -1;
	return fn(arg, &a) == 0 ? 0 : -1;
}

/* Takes "<route:address>" (the '<' is still there) and reports it. */
static int angle_take(struct slice *s, header_addr_fn *fn, void *arg)
{
	struct entry e;
	int stop;

	skip(s, 1);
	/* An obsolete route, "@a,@b:", is what comes before a stop that is not '>'. */
	while ((stop = words_take(s, ">,:", &e)) != '>') {
		if (stop <= 0 || (e.n > 0 && e.text[0] != '@'))
			return -1;
		skip(s, 1);
	}
	skip(s, 1);
	return entry_report(&e, fn, arg);
}

int header_addresses(struct slice value, header_addr_fn *fn, void *arg)
{
	bool group = false;
	int count = 0;

	while (value.n > 0) {
		struct entry e;
		int stop = words_take(&value, "<,:;", &e);
		int rc = 0;

		if (stop < 0)
			return -1;
		if (stop == '<') {
			rc = angle_take(&value, fn, arg);
			count++;
			if (rc == 0)
				stop = words_take(&value, ",;", &e);
			if (rc == 0 && e.n > 0)
				rc = -1;
		} else if (stop == ':') {
			rc = group || e.n == 0 ? -1 : 0;
			group = true;
		} else if (e.n > 0) {
			rc = entry_report(&e, fn, arg);
			count++;
		}
		if (rc != 0 || stop < 0 || (stop == ';' && !group))
			return -1;
		if (stop == ';')
			group = false;
		if (stop > 0)
			skip(&value, 1);
	}
	return group ? -1 : count;
}

/* ---- dates ------------------------------------------------------------------------------------
 */

static bool is_leap(int year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int month_days(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return days[month] + (month == 1 && is_leap(year));
}

/* Seconds since 1970 of 1900-01-01 00:00:00 and 9999-12-31 23:59:59. */
#define DATE_MIN INT64_C(-2208988800)
#define DATE_MAX INT64_C(253402300799)

/* 2001-01-01, in days from 1900-01-01: years need not be counted from there. */
#define DAYS_2001 36890

static void date_put_two(char *p, int n)
{
	p[0] = (char)('0' + n / 10);
	p[1] = (char)('0' + n % 10);
}

void header_date(int64_t t, int offset, char out[HEADER_DATE_MAX])
{
	static const char form[] = "Www, 00 Mmm 0000 00:00:00 +0000";
	static const char wdays[][4] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
	static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
	                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	int minutes;
	int days;
	int seconds;
	int wday;
	int year = 1900;
	int month = 0;

	if (offset <= -24 * 60 || offset >= 24 * 60)
		offset = 0;
	t = t < DATE_MIN ? DATE_MIN : t > DATE_MAX ? DATE_MAX : t;
	t += (int64_t)offset * 60;
	t = t < DATE_MIN ? DATE_MIN : t > DATE_MAX ? DATE_MAX : t;
	t -= DATE_MIN;
	days = (int)(t / 86400);
	seconds = (int)(t % 86400);
	wday = days % 7; /* 1900-01-01 was a Monday */
	if (days >= DAYS_2001) {
		/* By four years, until 2100, which is no leap year. */
		int fours = (days - DAYS_2001) / 1461 < 24 ? (days - DAYS_2001) / 1461 : 24;
		days -= DAYS_2001 + fours * 1461;
		year = 2001 + fours * 4;
	}
	while (days >= 365 + is_leap(year))
		days -= 365 + is_leap(year++);
	while (days >= month_days(year, month))
		days -= month_days(year, month++);
	minutes = offset < 0 ? -offset : offset;
	memcpy(out, form, sizeof(form));
	memcpy(out, wdays[wday], 3);
	date_put_two(out + 5, days + 1);
	memcpy(out + 8, months[month], 3);
	date_put_two(out + 12, year / 100);
	date_put_two(out + 14, year % 100);
	date_put_two(out + 17, seconds / 3600);
	date_put_two(out + 20, seconds / 60 % 60);
	date_put_two(out + 23, seconds % 60);
	out[26] = offset < 0 ? '-' : '+';
	date_put_two(out + 27, minutes / 60);
	date_put_two(out + 29, minutes % 60);
}

/* ---- writing ----------------------------------------------------------------------------------
 */

size_t header_text(struct slice in, bool utf8, char *out, size_t size)
{
	size_t n = status_clean(in, out, size);
	size_t from = 0;
	size_t to = 0;

	if (utf8 || !bytes_have_8bit(out, n))
		return n;
	while (from < n) {
		/* Clean text: every character has a length. */
		size_t len = status_utf8_len(out + from, n - from);

		out[to++] = len > 1 ? '?' : out[from];
		from += len;
	}
	out[to] = '\0';
	return to;
}

const char *header_protocol(bool esmtp, bool tls, bool auth, bool utf8)
{
	static const char *const names[2][2][2] = {
	    {{"ESMTP", "ESMTPA"}, {"ESMTPS", "ESMTPSA"}},
	    {{"UTF8SMTP", "UTF8SMTPA"}, {"UTF8SMTPS", "UTF8SMTPSA"}},
	};

	return esmtp ? names[utf8][tls][auth] : "SMTP";
}

/* Longest part of a Received field that comes from elsewhere. */
#define PART_MAX 256

/* May it stand in a word: letters, digits and what names and addresses are made of? */
static bool is_word(char c)
{
	switch (c) {
	case '(':
	case ')':
	case '<':
	case '>':
	case ',':
	case ';':
	case '@':
	case '\\':
	case '"':
		return false;
	default:
		return c > 32 && c < 127;
	}
}

/* A part as one word, with '?' for the rest, so that nothing can be taken for another clause, a
 * comment or the end. */
static const char *part_word(const char *s, char out[PART_MAX])
{
	size_t n = header_text(slice_of(s ? s : ""), false, out, PART_MAX);
	size_t i;

	for (i = 0; i < n; i++)
		if (!is_word(out[i]))
			out[i] = '?';
	return out;
}

static const char *part_comment(const char *s, char out[PART_MAX])
{
	size_t n = header_text(slice_of(s ? s : ""), false, out, PART_MAX);
	size_t i;

	for (i = 0; i < n; i++)
		if (strchr("()\\", out[i]))
			out[i] = '?';
	return out;
}

static void received_from(struct buf *out, const struct header_trace *t)
{
	char helo[PART_MAX];
	char ip[PART_MAX];
	const char *tag;

	part_word(t->helo, helo);
	part_word(t->ip, ip);
	tag = strchr(ip, ':') ? "IPv6:" : "";
	if (helo[0])
		buf_puts_all(out, "from ", helo);
	else if (ip[0])
		buf_puts_all(out, "from [", tag, ip, "]");
	if (ip[0])
		buf_puts_all(out, " ([", tag, ip, "])");
	if (helo[0] || ip[0])
		buf_puts(out, "\r\n\t");
}

/* The for clause is left out when the field could not hold the address: it is for information. */
static void received_for(struct buf *out, const struct header_trace *t)
{
	char clean[ADDR_TEXT_MAX];
	bool utf8 = t->with && strncmp(t->with, "UTF8", 4) == 0;

	if (!t->for_addr || !t->for_addr[0])
		return;
	header_text(slice_of(t->for_addr), utf8, clean, sizeof(clean));
	if (strcmp(clean, t->for_addr) == 0)
		buf_puts_all(out, "\r\n\tfor <", clean, ">");
}

int header_received(struct buf *out, const struct header_trace *t)
{
	char part[PART_MAX];
	char date[HEADER_DATE_MAX];

	buf_puts(out, "Received: ");
	received_from(out, t);
	if (part_comment(t->tls, part)[0])
		buf_puts_all(out, "(", part, ")\r\n\t");
	buf_puts_all(out, "by ", part_word(t->by, part));
	if (part_word(t->with, part)[0])
		buf_puts_all(out, " with ", part);
	if (part_word(t->id, part)[0])
		buf_puts_all(out, " id ", part);
	received_for(out, t);
	header_date(t->time, t->offset, date);
	buf_puts_all(out, ";\r\n\t", date, "\r\n");
	return out->failed ? -1 : 0;
}

/* Takes the next word off a trimmed value, cleaned, at most size - 1 bytes of it. */
static size_t piece_take(struct slice *value, char *word, size_t size)
{
	struct slice piece;

	while (value->n > 0 && is_space(value->p[0]))
		skip(value, 1);
	piece = (struct slice){value->p, 0};
	while (piece.n < value->n && !is_space(value->p[piece.n])) {
		size_t len = status_utf8_len(value->p + piece.n, value->n - piece.n);

		if (piece.n + len + 1 >= size)
			break;
		piece.n += len ? len : 1;
	}
	skip(value, piece.n);
	return status_clean(piece, word, size);
}

int header_write(struct buf *out, const char *name, struct slice value)
{
	char word[WORD_MAX];
	size_t column = strlen(name) + 1;
	bool first = true;

	buf_printf(out, "%s:", name);
	value = trim(value);
	while (value.n > 0) {
		size_t n = piece_take(&value, word, sizeof(word));

		if (!first && column + 1 + n > FOLD_AT) {
			buf_puts(out, "\r\n");
			column = 0;
		}
		buf_putc(out, ' ');
		buf_append(out, word, n);
		column += 1 + n;
		first = false;
	}
	buf_puts(out, "\r\n");
	return out->failed ? -1 : 0;
}
