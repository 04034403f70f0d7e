/* status: the outcome of anything: SMTP code, enhanced status code, one line of text. */
#ifndef STATUS_H
#define STATUS_H

#include <stddef.h>

#include "buf.h"
#include "config.h"

enum status_result {
	STATUS_DONE,      /* 2yz */
	STATUS_TRANSIENT, /* 4yz, and everything that is neither 2yz nor 5yz: try again */
	STATUS_PERMANENT  /* 5yz */
};

/*
 * enh is class, subject, detail (RFC 3463); enh[0] == 0 means there is none. text is one line of
 * valid UTF-8 without control characters, whatever the functions below were given. A zeroed struct
 * is a valid "nothing yet" and counts as transient.
 */
struct status {
	int code;
	int enh[3];
	char text[STATUS_TEXT_MAX];
};

/* Bytes that are always enough for status_print, NUL included. */
#define STATUS_PRINT_MAX (STATUS_TEXT_MAX + 20)

/* Sets all. enh is "5.1.1", or NULL for none. The text is cleaned (status_clean) and cut to fit. */
void status_set(struct status *st, int code, const char *enh, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The same with a text as it is. */
void status_set_text(struct status *st, int code, const char *enh, const char *text);

/* The class of a status: done, transient or permanent. */
enum status_result status_class(const struct status *st);

/*
 * Takes the reply of a peer: its code, and its text, which may begin with an enhanced status code.
 * That one is used when its class is the reply's (RFC 2034 4, RFC 3463 2), else x.0.0. Hostile
 * bytes are made harmless. A code outside 200..599 becomes 451 4.5.0 (RFC 3463 3.6).
 */
void status_from_reply(struct status *st, int code, struct slice text);

/* Reads "5.1.1" at the start of in (followed by a blank or the end). Returns its length, or 0 when
 * there is none; the class must be 2, 4 or 5, subject and detail have at most three digits. */
size_t status_enh_parse(struct slice in, int enh[3]);

/* Writes "550 5.1.1 text" ("354 text" when there is no enhanced code). The first appends to out,
 * returns 0 or -1 as buf does; the second fills out (cut at a UTF-8 border), returns the length. */
int status_format(const struct status *st, struct buf *out);
size_t status_print(const struct status *st, char *out, size_t size);

/* Reads what status_format wrote. Returns 0, or -1 when there is no code in 200..599 at the start
 * (st is unchanged then). Text that has no enhanced code, or one of another class, is all text. */
int status_parse(struct slice in, struct status *st);

/*
 * Makes one harmless line of anything: CR, LF and TAB become a blank, other control characters
 * (C1 included) and bytes that are not UTF-8 become '?', trailing blanks go; cut at a UTF-8
 * border. out is NUL terminated, size >= 1. Returns the length. in may lie inside out.
 */
size_t status_clean(struct slice in, char *out, size_t size);

/* Length of the well-formed UTF-8 character at p (1 to 4; RFC 3629: no overlong forms, surrogates
 * or values over U+10FFFF), or 0 when there is none within n bytes. */
size_t status_utf8_len(const char *p, size_t n);

#endif
