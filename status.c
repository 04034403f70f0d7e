/*
 * status: SMTP code, enhanced status code and text: the only currency between disk, DNS, couriers,
 * replies, log and DSN.
 *
 * Invariant: the text of a struct status is one line of well-formed UTF-8 without control
 * characters, at most STATUS_TEXT_MAX - 1 bytes. It may be written into a reply, a log line, a
 * queue file or a DSN field without further care for its bytes. Everything that fills one goes
 * through status_clean.
 */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bytes.h"

/* Ranges of the second byte of a UTF-8 character where they differ from 80..BF (RFC 3629 4). */
static unsigned char utf8_second_min(unsigned char first)
{
	if (first == 0xe0)
		return 0xa0;
	if (first == 0xf0)
		return 0x90;
	return 0x80;
}

static unsigned char utf8_second_max(unsigned char first)
{
	if (first == 0xed)
		return 0x9f;
	if (first == 0xf4)
		return 0x8f;
	return 0xbf;
}

size_t status_utf8_len(const char *p, size_t n)
{
	const unsigned char *u = (const unsigned char *)p;
	size_t want;
	size_t i;

	if (n == 0)
		return 0;
	if (u[0] < 0x80)
		return 1;
	if (u[0] < 0xc2 || u[0] > 0xf4)
		return 0;
	want = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
	if (n < want || u[1] < utf8_second_min(u[0]) || u[1] > utf8_second_max(u[0]))
		return 0;
	for (i = 2; i < want; i++)
		if (u[i] < 0x80 || u[i] > 0xbf)
			return 0;
	return want;
}

/* What stands for the control character (or bad byte) c, or 0 when c is neither. */
static char clean_replacement(unsigned char c)
{
	if (c == '\r' || c == '\n' || c == '\t')
		return ' ';
	return c < 0x20 || c == 0x7f ? '?' : 0;
}

size_t status_clean(struct slice in, char *out, size_t size)
{
	size_t i = 0;
	size_t n = 0;

	while (i < in.n) {
		size_t left = in.n - i < size - 1 - n ? in.n - i : size - 1 - n;
		size_t run = bytes_print_run(in.p + i, left);

		if (run > 0) {
			memmove(out + n, in.p + i, run);
			n += run;
			i += run;
			continue;
		}
		size_t len = status_utf8_len(in.p + i, in.n - i);
		char other = len == 0 ? '?' : clean_replacement((unsigned char)in.p[i]);

		/* U+0080..U+009F are control characters too: terminals obey them. */
		if (len == 2 && (unsigned char)in.p[i] == 0xc2 && (unsigned char)in.p[i + 1] < 0xa0)
			other = '?';
		if (n + (other ? 1 : len) >= size)
			break;
		if (other) {
			out[n++] = other;
		} else {
			memmove(out + n, in.p + i, len);
			n += len;
		}
		i += len ? len : 1;
	}
	while (n > 0 && out[n - 1] == ' ')
		n--;
	out[n] = '\0';
	return n;
}

static size_t number_parse(struct slice in, size_t digits, int *value)
{
	size_t i;

	*value = 0;
	for (i = 0; i < in.n && i < digits && in.p[i] >= '0' && in.p[i] <= '9'; i++)
		*value = *value * 10 + (in.p[i] - '0');
	return i;
}

size_t status_enh_parse(struct slice in, int enh[3])
{
	int got[3];
	size_t pos = 0;
	int i;

	for (i = 0; i < 3; i++) {
		struct slice rest = {in.p + pos, in.n - pos};
		size_t n = number_parse(rest, i == 0 ? 1 : 3, &got[i]);

		if (n == 0)
			return 0;
		pos += n;
		if (i < 2 && (pos == in.n || in.p[pos++] != '.'))
			return 0;
	}
	if (pos < in.n && in.p[pos] != ' ')
		return 0;
	if (got[0] != 2 && got[0] != 4 && got[0] != 5)
		return 0;
	memcpy(enh, got, sizeof(got));
	return pos;
}

void status_set_text(struct status *st, int code, const char *enh, const char *text)
{
	st->code = code;
	memset(st->enh, 0, sizeof(st->enh));
	if (enh)
		status_enh_parse(slice_of(enh), st->enh);
	status_clean(slice_of(text), st->text, sizeof(st->text));
}

void status_set(struct status *st, int code, const char *enh, const char *fmt, ...)
{
	/* Apart from st->text, which may be an argument; longer, so that a character that vsnprintf
	 * cut lies behind the place where status_clean cuts. */
	char text[STATUS_TEXT_MAX + 4];
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	status_set_text(st, code, enh, text);
}

enum status_result status_class(const struct status *st)
{
	switch (st->code / 100) {
	case 2:
		return STATUS_DONE;
	case 5:
		return STATUS_PERMANENT;
	default:
		return STATUS_TRANSIENT;
	}
}

/* Takes an enhanced code of the class of st->code off the text; none is taken otherwise. */
static struct slice enh_take(struct status *st, struct slice text)
{
	int enh[3];
	size_t n = status_enh_parse(text, enh);

	memset(st->enh, 0, sizeof(st->enh));
	if (n == 0 || enh[0] != st->code / 100)
		return text;
	memcpy(st->enh, enh, sizeof(enh));
	text.p += n;
	text.n -= n;
	while (text.n > 0 && *text.p == ' ') {
		text.p++;
		text.n--;
	}
	return text;
}

void status_from_reply(struct status *st, int code, struct slice text)
{
	st->code = code;
	if (code < 200 || code > 599) {
		st->code = 451;
		memset(st->enh, 0, sizeof(st->enh));
		st->enh[0] = 4;
		st->enh[1] = 5;
	} else {
		text = enh_take(st, text);
		if (st->enh[0] == 0 && code / 100 != 3)
			st->enh[0] = code / 100;
	}
	status_clean(text, st->text, sizeof(st->text));
}

size_t status_print(const struct status *st, char *out, size_t size)
{
	char all[STATUS_PRINT_MAX + 32];

	if (st->enh[0])
		snprintf(all, sizeof(all), "%03d %d.%d.%d %s", st->code, st->enh[0], st->enh[1],
		         st->enh[2], st->text);
	else
		snprintf(all, sizeof(all), "%03d %s", st->code, st->text);
	return status_clean(slice_of(all), out, size);
}

int status_format(const struct status *st, struct buf *out)
{
	char text[STATUS_PRINT_MAX];

	return buf_append(out, text, status_print(st, text, sizeof(text)));
}

int status_parse(struct slice in, struct status *st)
{
	int code;

	if (number_parse(in, 3, &code) != 3 || code < 200 || code > 599)
		return -1;
	if (in.n > 3 && in.p[3] != ' ')
		return -1;
	st->code = code;
	in.p += in.n > 3 ? 4 : 3;
	in.n -= in.n > 3 ? 4 : 3;
	in = enh_take(st, in);
	status_clean(in, st->text, sizeof(st->text));
	return 0;
}
