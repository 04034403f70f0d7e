/* smtpbody: the message body on the wire (RFC 5321 4.5.2): ending, dot-stuffing, line ends. */
#ifndef SMTPBODY_H
#define SMTPBODY_H

#include <stddef.h>

#include "buf.h"

enum smtp_body_result { SMTP_BODY_MORE, SMTP_BODY_END, SMTP_BODY_BAD };

struct smtp_body_in {
	unsigned char state; /* zero = at the start */
};

void smtp_body_in_init(struct smtp_body_in *b);

/*
 * Decodes what follows DATA's 354, in place: dot-stuffing is removed, lines keep CRLF, and only
 * CRLF . CRLF (or .CRLF at the very start) ends it. The first *out bytes of data are then content;
 * *used bytes were taken (fewer than len only at the end, or when BAD: up to the offending byte).
 * Any bare CR or bare LF is BAD for good (RFC 5321 2.3.8; smuggling), though content before it came
 * out already. NUL is content.
 */
enum smtp_body_result smtp_body_decode(struct smtp_body_in *b, char *data, size_t len, size_t *used,
                                       size_t *out);

struct smtp_body_out {
	unsigned char state; /* zero = at the start */
};

void smtp_body_out_init(struct smtp_body_out *b);

/*
 * Appends content as it goes over the wire: dots stuffed, and every line end CRLF: a bare LF and a
 * bare CR both become CRLF, for none may leave us. A dot that has only NULs before it in its line
 * is doubled too (and stays so: a server that drops NUL would see an end). Pieces may be cut
 * anywhere; n bytes become at most 2 n + 2. finish ends an unended line and appends ".CRLF".
 * Returns 0, or -1 with out->failed.
 */
int smtp_body_encode(struct smtp_body_out *b, struct slice in, struct buf *out);
int smtp_body_finish(struct smtp_body_out *b, struct buf *out);

#endif
