/* dsn_int: how a notification writes what is beyond ASCII (RFC 6533). For dsn.c alone. */
#ifndef DSN_INT_H
#define DSN_INT_H

#include <stdbool.h>
#include <stddef.h>

#include "addr.h"
#include "config.h"

#define DSN_LINE_MAX 998 /* bytes of a line, without its end (RFC 5322 2.1.1) */

/* Room for a typed address, NUL included: the longest that leaves room for the name of its field.
 */
#define DSN_TYPED_MAX (DSN_LINE_MAX - 20)

/* Room for dsn_to of an address, NUL included: every byte of it may become three, and each encoded
 * word of at least 46 bytes brings 15 of its own. */
#define DSN_TO_MAX (4 * ADDR_TEXT_MAX + 32)

bool dsn_is_ascii(const char *s);

/* The address with its domain in A-labels. Returns 0; or -1 when it is none, or its local part is
 * beyond ASCII: then no server without SMTPUTF8 can be told of it. */
int dsn_address_ascii(const char *address, char *out, size_t size);

/*
 * "type; address", one clean line, as delivery-status fields have it. Type rfc822 for what is
 * ASCII. Else, for global: utf-8 and the address itself, or its utf-8-addr-unitext form when it has
 * a backslash, which a reader could take for one of that form. Without global: rfc822 with A-labels
 * where that is enough, else utf-8 and utf-8-addr-xtext (RFC 6533 3). If that were too long for a
 * line: rfc822 with '?' for what is not ASCII.
 */
void dsn_typed(const char *address, bool global, char out[DSN_TYPED_MAX]);

/*
 * The value of a To field. Without global it is ASCII: an address that cannot be is an empty group
 * with the address for a name (RFC 6857 3.1.8), in encoded words (RFC 2047), folded.
 */
void dsn_to(const char *address, bool global, char out[DSN_TO_MAX]);

/* Quoted-printable (RFC 2045 6.7) of text whose lines, the last too, end with CRLF; fed in pieces.
 * Zeroed to begin; then the end of a text is the beginning of the next. */
struct dsn_qp {
	size_t column;
	char held; /* a blank or CR: what follows tells how it is written; 0: none */
};

/* What n bytes become at most: each "=XX" and a soft line break before it, one held before. */
#define DSN_QP_MAX(n) (6 * (n) + 6)

/* Writes to out, which has room for DSN_QP_MAX(n). Returns how much. */
size_t dsn_qp_encode(struct dsn_qp *q, const char *p, size_t n, char *out);

#endif
