/* spf_macro: the macro strings of SPF records (RFC 7208 7). Pure. */
#ifndef SPF_MACRO_H
#define SPF_MACRO_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "config.h"
#include "dns_addr.h"

/* A name as text, with NUL: RFC 7208 7.3 allows 253 bytes. */
#define SPF_NAME_SIZE 254

/* What the letters stand for. Each is at most SPF_VALUE_MAX bytes; of longer ones that many count.
 */
struct spf_values {
	struct slice sender;        /* s: local part, '@', domain */
	struct slice local;         /* l */
	struct slice sender_domain; /* o */
	struct slice domain;        /* d: of the record being evaluated */
	struct slice helo;          /* h */
	struct slice receiver;      /* r */
	struct slice validated;     /* p */
	const struct dns_addr *ip;  /* c, i, v */
	int64_t now;                /* t */
};

#define SPF_VALUE_MAX 400

enum spf_place {
	SPF_IN_DOMAIN,      /* a domain-spec: the letters c, r, t are not allowed */
	SPF_IN_MODIFIER,    /* the value of an unknown modifier: all letters */
	SPF_IN_EXPLANATION, /* all letters, and blanks */
};

/* Is it a macro-string (RFC 7208 7.1: printable ASCII, each '%' begins a macro)? A domain-spec also
 * has to end in a macro, or in '.' and a top label, behind which one dot may follow. */
bool spf_macro_is_valid(struct slice text, enum spf_place place);

/* Does the valid macro-string have a %{p}, whose value costs look-ups? */
bool spf_macro_wants_p(struct slice text);

enum spf_name {
	SPF_NAME_OK,
	SPF_NAME_BAD,     /* empty, or a label so long that no cutting helps */
	SPF_NAME_FOREIGN, /* bytes that are not ASCII came out: matches nothing (RFC 8616 4) */
};

/* Expands a valid domain-spec: without its final dot; when longer than 253 bytes, labels are cut
 * off its left (RFC 7208 7.3). Whether the labels are legal is left to the resolver. */
enum spf_name spf_macro_domain(struct slice spec, const struct spf_values *v,
                               char out[SPF_NAME_SIZE]);

/* Expands a valid explanation, cut to fit; "" when something else than printable ASCII came out. */
void spf_macro_text(struct slice text, const struct spf_values *v, char *out, size_t size);

#endif
