/* spf_record: reads SPF records and their terms (RFC 7208 4.6.1, 5, 6, 12). Pure. */
#ifndef SPF_RECORD_H
#define SPF_RECORD_H

#include <stdbool.h>

#include "buf.h"
#include "dns_addr.h"
#include "spf.h"

enum spf_kind {
	SPF_ALL,
	SPF_INCLUDE,
	SPF_A,
	SPF_MX,
	SPF_PTR,
	SPF_IP4,
	SPF_IP6,
	SPF_EXISTS,
	SPF_REDIRECT,
	SPF_EXP,
	SPF_UNKNOWN /* a modifier of another name: ignored (6) */
};

struct spf_term {
	enum spf_kind kind;
	enum spf_result result;    /* of a mechanism that matches: its qualifier */
	struct slice text;         /* as written, without the qualifier */
	struct slice domain;       /* domain-spec; n is 0 when there is none */
	struct dns_addr net;       /* of ip4 and ip6 */
	unsigned prefix4, prefix6; /* CIDR lengths: of a and mx both, else the one that applies */
};

/* Does the text of a TXT record begin with the version, followed by a blank or nothing (4.5)? */
bool spf_record_is_spf(struct slice txt);

/* Takes the next term off *rest, which is a record without its version. Returns 1, 0 at the end, or
 * -1 when it is malformed; t->text is then what is wrong. */
int spf_record_next(struct slice *rest, struct spf_term *t);

/*
 * Checks a whole record, version included (4.6: an error anywhere counts before any evaluation).
 * *terms is what spf_record_next reads; *redirect and *exp are domain-specs, n is 0 for none.
 * Returns NULL, or what is wrong, a constant, with *wrong the term.
 */
const char *spf_record_check(struct slice record, struct slice *terms, struct slice *redirect,
                             struct slice *exp, struct slice *wrong);

#endif
