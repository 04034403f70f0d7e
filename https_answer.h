/* https_answer: reads the answer to a GET (RFC 9112), piece by piece. Pure: bytes in, content out.
 */
#ifndef HTTPS_ANSWER_H
#define HTTPS_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

enum https_progress {
	HTTPS_MORE,  /* wants more bytes, or their end */
	HTTPS_WHOLE, /* content is complete; what follows is not looked at */
	HTTPS_BAD    /* why says why; it stays so */
};

struct https_answer {
	struct buf content; /* complete only with HTTPS_WHOLE */
	int code;           /* status, 0 while unknown */
	char why[96];       /* in plain words, "" unless HTTPS_BAD */

	/* private */
	const char *type;
	struct buf line;
	size_t header; /* bytes of lines so far, interim answers and trailers included */
	size_t left;   /* of the chunk or of the content */
	int state;
	bool has_type;
	bool has_length;
	bool chunked;
	bool old; /* HTTP/1.0 */
};

/* Begins: type is the media type that must come (kept), max the most bytes of content. Only status
 * 200 is good; a content coding, a length that is said twice or in two ways, and folded or
 * malformed header lines are not. */
void https_answer_init(struct https_answer *a, const char *type, size_t max);

/* Takes the next bytes. */
enum https_progress https_answer_feed(struct https_answer *a, struct slice in);

/* No more bytes come. clean: the other side said so itself (TLS close_notify), without which
 * content of no stated length could have been cut short by anybody (RFC 9112 9.8). */
enum https_progress https_answer_end(struct https_answer *a, bool clean);

/* Frees what it holds. Harmless on a zeroed struct. */
void https_answer_clear(struct https_answer *a);

#endif
