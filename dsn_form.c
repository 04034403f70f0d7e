/*
 * dsn_form: how a notification writes what is beyond ASCII. There are two forms. The global one is
 * UTF-8 everywhere, for an addressee whose server must have SMTPUTF8 anyway; the other is ASCII,
 * which every server takes and every reader of mail shows: addresses in A-labels or escaped, text
 * in quoted-printable.
 *
 * Pure. What comes in is hostile: each value that leaves is one line without control characters,
 * bounded, and of the form it says.
 */
#include "dsn_int.h"

#include <stdio.h>
#include <string.h>

#include "header.h"
#include "status.h"

/* What an encoded word holds, so that with "=?utf-8?q?" and "?=" and "To: " before or " :;" behind
 * no line is longer than 76 (RFC 2047 2); and the longest character of it. */
#define WORD_BYTES 57
#define WORD_CHAR  12

/* RFC 2045 6.7: 76, with room for the "=" of a soft line break. */
#define QP_COLUMNS 75

bool dsn_is_ascii(const char *s)
{
	while (*s && (unsigned char)*s < 128)
		s++;
	return !*s;
}

/* ---- addresses ---------------------------------------------------------------------------- */

int dsn_address_ascii(const char *address, char *out, size_t size)
{
	struct addr a;
	char domain[ADDR_DOMAIN_MAX + 1];
	if (addr_parse(slice_of(address), &a) || !dsn_is_ascii(a.user) ||
	    addr_domain_to_ascii(a.domain, domain, sizeof domain))
		return -1;
	memcpy(a.domain, domain, sizeof domain);
	return addr_format(&a, out, size);
}

/* The code point of a well-formed character of len bytes. */
static unsigned long char_value(const char *p, size_t len)
{
	unsigned long value = (unsigned char)p[0];
	if (len > 1)
		value &= 0x7fUL >> len;
	for (size_t i = 1; i < len; i++)
		value = value << 6 | ((unsigned char)p[i] & 0x3fU);
	return value;
}

/* utf-8-addr-xtext, or -unitext when UTF-8 may stay (RFC 6533 3), of clean text. Returns 0, or -1
 * when it does not fit. */
static int address_escape(const char *s, bool utf8, char *out, size_t size)
{
	size_t n = 0;
	size_t left = strlen(s);
	while (left > 0) {
		size_t len = status_utf8_len(s, left);
		bool plain = len > 1 ? utf8 : *s > ' ' && !strchr("\\+=", *s);
		int wrote = plain ? snprintf(out + n, size - n, "%.*s", (int)len, s)
		                  : snprintf(out + n, size - n, "\\x{%02lX}", char_value(s, len));
		if (wrote < 0 || (size_t)wrote >= size - n)
			return -1;
		n += (size_t)wrote;
		s += len;
		left -= len;
	}
	return n > 0 ? 0 : -1;
}

/* A domain in A-labels is shorter than an escaped one. */
static int address_escape_short(const char *address, char *out, size_t size)
{
	struct addr a;
	char domain[ADDR_DOMAIN_MAX + 1];
	char shorter[ADDR_TEXT_MAX];
	if (addr_parse(slice_of(address), &a) ||
	    addr_domain_to_ascii(a.domain, domain, sizeof domain))
		return -1;
	memcpy(a.domain, domain, sizeof domain);
	if (addr_format(&a, shorter, sizeof shorter))
		return -1;
	return address_escape(shorter, false, out, size);
}

void dsn_typed(const char *address, bool global, char out[DSN_TYPED_MAX])
{
	static const char utf8[] = "utf-8; ";
	static const char rfc822[] = "rfc822; ";
	char *value = out + sizeof utf8 - 1;
	size_t room = DSN_TYPED_MAX - (sizeof utf8 - 1);
	char clean[ADDR_TEXT_MAX];
	char ascii[ADDR_TEXT_MAX];
	header_text(slice_of(address), true, clean, sizeof clean);
	memcpy(out, utf8, sizeof utf8);
	if (!dsn_is_ascii(clean)) {
		if (global && !strchr(clean, '\\')) {
			snprintf(value, room, "%s", clean);
			return;
		}
		if (!global && dsn_address_ascii(address, ascii, sizeof ascii) == 0)
			snprintf(clean, sizeof clean, "%s", ascii);
		else if (address_escape(clean, global, value, room) == 0 ||
		         address_escape_short(address, value, room) == 0)
			return;
	}
	header_text(slice_of(clean), false, ascii, sizeof ascii);
	snprintf(out, DSN_TYPED_MAX, "%s%s", rfc822, ascii);
}

/* Appends a character to an encoded word of a phrase (RFC 2047 5 (3)). Returns how much. */
static size_t word_char(const char *p, size_t len, char out[WORD_CHAR + 1])
{
	size_t n = 0;
	bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
	             (*p >= '0' && *p <= '9') || *p == '-' || *p == '/' || *p == '!';
	if (plain) {
		out[0] = *p;
		return 1;
	}
	for (size_t i = 0; i < len; i++)
		n += (size_t)snprintf(out + n, WORD_CHAR + 1 - n, "=%02X", (unsigned char)p[i]);
	return n;
}

/* An empty group named by clean text. out has room. */
static void to_group(const char *s, char out[DSN_TO_MAX])
{
	char c[WORD_CHAR + 1];
	size_t left = strlen(s);
	size_t at = (size_t)snprintf(out, DSN_TO_MAX, "=?utf-8?q?");
	size_t used = 0;
	while (left > 0) {
		size_t len = status_utf8_len(s, left);
		size_t n = word_char(s, len, c);
		if (used + n > WORD_BYTES) {
			at += (size_t)snprintf(out + at, DSN_TO_MAX - at, "?=\r\n =?utf-8?q?");
			used = 0;
		}
		memcpy(out + at, c, n);
		at += n;
		used += n;
		s += len;
		left -= len;
	}
	snprintf(out + at, DSN_TO_MAX - at, "?= :;");
}

void dsn_to(const char *address, bool global, char out[DSN_TO_MAX])
{
	char clean[ADDR_TEXT_MAX];
	char ascii[ADDR_TEXT_MAX];
	header_text(slice_of(address), true, clean, sizeof clean);
	if (!global && !dsn_is_ascii(clean)) {
		if (dsn_address_ascii(address, ascii, sizeof ascii)) {
			to_group(clean, out);
			return;
		}
		snprintf(clean, sizeof clean, "%s", ascii);
	}
	snprintf(out, DSN_TO_MAX, "<%s>", clean);
}

/* ---- quoted-printable --------------------------------------------------------------------- */

/* Writes one byte, as it is or as "=XX", on this line or, behind a soft break, the next. */
static char *qp_byte(struct dsn_qp *q, char c, bool plain, char *to)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t width = plain ? 1 : 3;
	if (q->column + width > QP_COLUMNS) {
		memcpy(to, "=\r\n", 3);
		to += 3;
		q->column = 0;
	}
	q->column += width;
	if (plain) {
		*to++ = c;
		return to;
	}
	*to++ = '=';
	*to++ = hex[(unsigned char)c >> 4];
	*to++ = hex[(unsigned char)c & 15];
	return to;
}

/* Writes the byte that was held: a CR alone, and a blank that would end a line, are encoded. */
static char *qp_release(struct dsn_qp *q, bool last, char *to)
{
	char c = q->held;
	q->held = 0;
	return c ? qp_byte(q, c, c != '\r' && !last, to) : to;
}

size_t dsn_qp_encode(struct dsn_qp *q, const char *p, size_t n, char *out)
{
	char *to = out;
	for (size_t i = 0; i < n; i++) {
		char c = p[i];
		if (c == '\n' && q->held == '\r') {
			memcpy(to, "\r\n", 2);
			to += 2;
			*q = (struct dsn_qp){0};
			continue;
		}
		to = qp_release(q, c == '\r', to);
		if (c == ' ' || c == '\t' || c == '\r')
			q->held = c;
		else
			to = qp_byte(q, c, c > ' ' && c < 127 && c != '=', to);
	}
	return (size_t)(to - out);
}
