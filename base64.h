/* base64: the base64 of RFC 4648 section 4, with padding and without line ends. */
#ifndef BASE64_H
#define BASE64_H

#include "buf.h"

/* Adds the decoded bytes. Strict: no other characters, padding complete, unused bits zero. Returns
 * 0; or -1 when malformed or out is full, and out then has what it had. */
int base64_decode(struct slice in, struct buf *out);

/* Adds the encoded text. Returns 0, or -1 when out is full (out->failed). */
int base64_encode(struct slice in, struct buf *out);

#endif
