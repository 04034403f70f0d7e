/* authres: what we say of a message's origin in its header (RFC 8601, RFC 7208 9.1), and the
 * removal of what strangers said in our name. */
#ifndef AUTHRES_H
#define AUTHRES_H

#include <stdbool.h>
#include <stddef.h>

#include "addr.h"
#include "buf.h"
#include "config.h"

/* One check and its result. Strings may be hostile; NULL or "" leaves the part out. */
struct authres_spf {
	const char *result;   /* "pass" */
	const char *reason;   /* in words, as a comment */
	const char *identity; /* "mailfrom" or "helo" */
	const char *mailfrom; /* sender, canonical; "<>" is written as nothing */
	const char *helo;
	const char *client_ip;
	const char *mechanism; /* the one that matched */
	const char *problem;
};

/* Append one folded field each, name being ours (ASCII host name): 0, or -1 with out->failed. */
int authres_write_received_spf(struct buf *out, const char *name, const struct authres_spf *spf);
int authres_write(struct buf *out, const char *name, const struct authres_spf *spf);

/*
 * A filter between a message and its store that leaves out header fields which claim our name:
 * Authentication-Results whose authserv-id is one of ours (any case, A-labels or Unicode, quoted,
 * with comments and folding before it), Received-SPF with receiver= us or our name as the first
 * word of its comment. Such a field that is longer than AUTHRES_FIELD_MAX is left out whosever it
 * is, and so is one without a readable authserv-id. All else, and the body, passes unchanged byte
 * for byte; the pieces may be cut anywhere. Memory: one field of at most AUTHRES_FIELD_MAX.
 */
struct authres_filter {
	/* private */
	char name[ADDR_DOMAIN_MAX + 1];
	void (*put)(void *arg, const char *p, size_t n);
	void *arg;
	struct slice run; /* of the piece at hand: passes, and was not given out yet */
	struct buf held;  /* a field whose fate is open; without memory it is left out */
	unsigned char state;
	unsigned char started;
	char start[24]; /* of a line, while it may be one of the names */
	/* public */
	size_t removed; /* fields left out so far */
};

/* name is our host name. put gets what passes, in order. end: the message is over; clear
 * frees, and is harmless on a zeroed struct. */
void authres_filter_init(struct authres_filter *f, const char *name,
                         void (*put)(void *arg, const char *p, size_t n), void *arg);
void authres_filter_feed(struct authres_filter *f, const char *p, size_t n);
void authres_filter_end(struct authres_filter *f);
void authres_filter_clear(struct authres_filter *f);

#endif
