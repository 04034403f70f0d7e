/* smtpreply: SMTP replies (RFC 5321 4.2): building them, and reading those of a peer bit by bit. */
#ifndef SMTPREPLY_H
#define SMTPREPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "config.h"
#include "status.h"

/* Appends a complete reply, one line or several; the enhanced code stands on every line (RFC 2034).
 * A long text goes over several lines of at most SMTP_REPLY_LINE. 0, or -1 with out->failed. */
int smtp_reply_status(struct buf *out, const struct status *st);

/* The same from parts: enh is "2.0.0" or NULL; each \n in the text begins a new line of the reply.
 * Hostile bytes in arguments are made harmless, but pass none that may hold \n. The whole text is
 * cut at SMTP_REPLY_TEXT. */
int smtp_reply_printf(struct buf *out, int code, const char *enh, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

enum smtp_reply_result { SMTP_REPLY_MORE, SMTP_REPLY_COMPLETE, SMTP_REPLY_BAD };

/* Called for each line of a reply: its number from 0, and its text (without code and line end, cut
 * at SMTP_REPLY_LINE bytes). */
typedef void smtp_reply_line_fn(void *arg, unsigned number, struct slice text);

struct smtp_reply {
	int code;             /* 200..599, set from the first line on */
	unsigned lines;       /* complete lines so far */
	struct status status; /* valid when COMPLETE: all lines joined by blanks, cut to fit */
	const char *error;    /* why it is BAD */
	/* private */
	smtp_reply_line_fn *fn;
	void *arg;
	size_t len; /* of the line under way, even what was not kept */
	size_t kept;
	enum smtp_reply_result result;
	char line[SMTP_REPLY_LINE];
};

/* Ready for the next reply. fn may be NULL. */
void smtp_reply_init(struct smtp_reply *r, smtp_reply_line_fn *fn, void *arg);

/*
 * Reads as much of in as belongs to the reply; *used tells how much. Strict: "ddd", "ddd text" or
 * "ddd-text", the same code on all lines; CRLF or a bare LF end a line; at most SMTP_REPLY_LINE_MAX
 * bytes a line and SMTP_REPLY_LINES_MAX lines. COMPLETE and BAD stay until the next init.
 */
enum smtp_reply_result smtp_reply_feed(struct smtp_reply *r, struct slice in, size_t *used);

/* What an EHLO reply offered. */
enum smtp_ext {
	SMTP_EXT_SIZE = 1 << 0,
	SMTP_EXT_8BITMIME = 1 << 1,
	SMTP_EXT_PIPELINING = 1 << 2,
	SMTP_EXT_STARTTLS = 1 << 3,
	SMTP_EXT_SMTPUTF8 = 1 << 4,
	SMTP_EXT_ENHANCEDSTATUSCODES = 1 << 5,
	SMTP_EXT_DSN = 1 << 6,
	SMTP_EXT_CHUNKING = 1 << 7,
	SMTP_EXT_AUTH = 1 << 8,
	SMTP_EXT_AUTH_PLAIN = 1 << 9, /* the mechanisms behind AUTH */
	SMTP_EXT_AUTH_LOGIN = 1 << 10,
	SMTP_EXT_REQUIRETLS = 1 << 11,
	SMTP_EXT_AUTH_XOAUTH2 = 1 << 12
};

struct smtp_caps {
	unsigned ext; /* enum smtp_ext */
	int64_t size; /* limit the peer declared; 0 = none */
};

/* Notes the keyword of one line of an EHLO reply. Fits behind smtp_reply_init (arg is a struct
 * smtp_caps, zeroed by the caller); line 0 is the peer's name and is skipped. */
void smtp_caps_line(void *arg, unsigned number, struct slice text);

#endif
