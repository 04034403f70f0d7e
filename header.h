/* header: the header section of a message: scanning, address lists, dates, writing (RFC 5322). */
#ifndef HEADER_H
#define HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "buf.h"
#include "config.h"

/* Fields we know; the scanner counts them by these. */
enum header_id {
	HEADER_OTHER,
	HEADER_AUTO_SUBMITTED,
	HEADER_BCC,
	HEADER_CC,
	HEADER_DATE,
	HEADER_DELIVERED_TO,
	HEADER_FROM,
	HEADER_MESSAGE_ID,
	HEADER_RECEIVED,
	HEADER_REFERENCES,
	HEADER_RESENT_BCC,
	HEADER_RESENT_CC,
	HEADER_RESENT_TO,
	HEADER_RETURN_PATH,
	HEADER_SENDER,
	HEADER_SUBJECT,
	HEADER_TO,
	HEADER_IDS /* how many there are */
};

/* The field of that name, any case. */
enum header_id header_id(struct slice name);

/* Scans a message fed in pieces cut anywhere, in constant memory. Lines end with CRLF or LF. The
 * header section ends at an empty line or before the first line that is neither a field nor a
 * continuation of one: `malformed` is set then, and the body begins with that line. */
struct header_scan {
	unsigned count[HEADER_IDS];
	char message_id[HEADER_CAPTURE_MAX]; /* the first one, unfolded, cleaned (status_clean) */
	char subject[HEADER_CAPTURE_MAX];
	int64_t size; /* bytes of the header section, its empty line included: offset of the body */
	int64_t longest; /* longest line of the whole message in bytes, without its line end */
	bool done;       /* the header section is over */
	bool malformed;
	bool header_8bit;
	bool header_not_utf8; /* and not all of that is UTF-8 (RFC 6532) */
	bool body_8bit;
	bool head_only; /* the owner's, set after the init: the body is not looked at */
	/* private */
	int64_t offset; /* bytes fed so far */
	int64_t line;   /* offset of the line under way */
	size_t kept;
	bool cr; /* the last byte was one */
	unsigned char state, pending;
	enum header_id id;
	char name[32], utf8[4]; /* the latter: a character under way, of `pending` bytes */
};

/* end: the message is over; a header without empty line and body gets its size. */
void header_scan_init(struct header_scan *h);
void header_scan_feed(struct header_scan *h, struct slice in);
void header_scan_end(struct header_scan *h);

struct header_field {
	enum header_id id;
	struct slice name;
	struct slice value; /* folded as it is, blanks around it removed */
	struct slice raw;   /* the whole field with its line ends */
};

/* Takes the next field off a header section in memory (CRLF or LF). Returns 1; 0 at the empty line
 * or the end; -1 before a malformed line. rest is advanced only for 1. */
int header_next(struct slice *rest, struct header_field *f);

/* Called for each address; its domain is empty when there was none. Return non-zero to stop. */
typedef int header_addr_fn(void *arg, const struct addr *a);

/* Reads an address list (To, Cc, Bcc, From ...; RFC 5322 3.4, obsolete forms too): display names,
 * comments, quoted strings, groups, angle addresses. Returns how many there were; -1 when it is
 * malformed or fn stopped it (fn has seen those before). */
int header_addresses(struct slice value, header_addr_fn *fn, void *arg);

#define HEADER_DATE_MAX 40 /* bytes that are always enough for a date, NUL included */

/* "Tue, 01 Jul 2003 10:52:37 +0200" (RFC 5322 3.3): t is seconds since 1970 UTC, offset in minutes
 * east of it. Years are clamped to 1900..9999. */
void header_date(int64_t t, int offset, char out[HEADER_DATE_MAX]);

/* What a Received field says. Strings may be hostile; NULL or "" leaves the part out. */
struct header_trace {
	const char *helo;     /* the name the client gave */
	const char *ip;       /* its address, without brackets */
	const char *by;       /* our name */
	const char *with;     /* header_protocol */
	const char *tls;      /* comment on the TLS connection */
	const char *id;       /* queue ID */
	const char *for_addr; /* the only recipient, as addr_format writes it */
	int64_t time;
	int offset; /* of the local time, minutes */
};

/* Protocol keyword (RFC 3848, 6531): SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, UTF8SMTP... */
const char *header_protocol(bool esmtp, bool tls, bool auth, bool utf8);

/* Appends a folded Received field (RFC 5321 4.4), or any field: blanks become one each, folded at
 * 78 columns where they allow, before 998 elsewhere. No line end or control character of the parts
 * survives. name is the caller's constant, short. Return 0, or -1 with out->failed. */
int header_received(struct buf *out, const struct header_trace *t);
int header_write(struct buf *out, const char *name, struct slice value);

/* One line of text as a field of a delivery status wants it (RFC 3464): status_clean, and without
 * utf8 each non-ASCII character becomes '?'. Returns the length; size >= 1. */
size_t header_text(struct slice in, bool utf8, char *out, size_t size);

#endif
