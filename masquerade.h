/* masquerade: gives the senders in a message's header the names they have outside. */
#ifndef MASQUERADE_H
#define MASQUERADE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "buf.h"
#include "conf_smarthost.h"
#include "status.h"

/*
 * A filter over content with CRLF line ends: the addresses in From, Sender and Reply-To fields that
 * match a rule are replaced; names and comments around them, and all else, stay byte for byte.
 * Addresses without a domain are looked up as if in `domain`. A field longer than
 * MASQUERADE_FIELD_MAX goes through as it is. Embedded in its owner.
 */
struct masquerade {
	const struct conf_masquerades *rules; /* kept, like domain and arg */
	const char *domain;
	ssize_t (*read)(void *arg, char *p, size_t n, struct status *st);
	void *arg;
	struct buf in;  /* of the header: not looked at yet */
	struct buf out; /* not handed out yet */
	bool body;      /* the header is over, the rest goes straight through */
	bool inside;    /* a field too long to be looked at goes through */
	bool ended;     /* the source has */
};

void masquerade_init(struct masquerade *m, const struct conf_masquerades *rules, const char *domain,
                     ssize_t (*read)(void *arg, char *p, size_t n, struct status *st), void *arg);

/* Up to n (> 0) bytes, as spool_read; also -1 with a transient *st without memory. */
ssize_t masquerade_read(struct masquerade *m, char *p, size_t n, struct status *st);
void masquerade_clear(struct masquerade *m);

/* The value of a field with an address list: appends it to out with the addresses replaced. 0, or
 * -1 with out->failed. */
int masquerade_value(const struct conf_masquerades *rules, const char *domain, struct slice value,
                     struct buf *out);

#endif
