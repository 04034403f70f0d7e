/* addr: mail addresses, domains and address literals (RFC 5321 4.1.2, 6531, 5890). */
#ifndef ADDR_H
#define ADDR_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "config.h"
#include "status.h"

/*
 * user: the local part without quotes, as the sender wrote it: valid UTF-8, no control characters,
 * and it has a key (addr_user_key). It may hold any other ASCII character, '/' and '@' and blanks
 * included: never make a file name or a command of it unchecked (addr_is_file_name).
 * domain: normalised (addr_domain_normalise), so two domains are equal when strcmp says so. Its
 * ASCII characters are only a-z 0-9 - _ . or those of an address literal in brackets: safe in file
 * names. Both empty: the null sender <>. Only the domain empty: <postmaster>.
 */
struct addr {
	char user[ADDR_USER_MAX + 1];
	char domain[ADDR_DOMAIN_MAX + 1];
};

/* Bytes that are always enough for addr_format and addr_format_wire, NUL included. */
#define ADDR_TEXT_MAX (2 * ADDR_USER_MAX + ADDR_DOMAIN_MAX + 6)

enum addr_path { ADDR_MAIL, ADDR_RCPT };

/*
 * Reads the path behind "MAIL FROM:" or "RCPT TO:": "<path>", blanks before it allowed, source
 * routes dropped, or the bare address that many devices send. <> only with ADDR_MAIL, <postmaster>
 * only with ADDR_RCPT. *rest is what follows: the ESMTP parameters, leading blanks removed.
 * Returns 0; or -1 with st set to 501 and 5.1.7 or 5.1.3 (syntax, local part), 5.1.8 or 5.1.2
 * (domain); without WITH_IDN to 553 5.6.7 for UTF-8 in it (RFC 6531 3.5). *out is then zeroed.
 */
int addr_parse_path(struct slice in, enum addr_path kind, struct addr *out, struct slice *rest,
                    struct status *st);

/* Reads user@domain (local part quoted or not, no brackets, nothing around it) or <>, as
 * addr_format writes it and operators do. Returns 0, or -1 with *out zeroed. */
int addr_parse(struct slice in, struct addr *out);

/* The same where the domain may be missing and is then `domain` (normalised by the caller; "" is
 * allowed and leaves it empty). <> is refused. */
int addr_parse_local(struct slice in, const char *domain, struct addr *out);

/* The canonical text: user@domain, the local part quoted when RFC 5321 needs it; "<>" for the null
 * sender; the user alone when there is no domain. Returns 0, or -1 when it does not fit. */
int addr_format(const struct addr *a, char *out, size_t size);

/* The path for the wire, in angle brackets. Without utf8 (no SMTPUTF8) the domain is written in
 * A-labels; -1 when that is impossible, the local part is not ASCII, or it does not fit. */
int addr_format_wire(const struct addr *a, bool utf8, char *out, size_t size);

/* The null sender? */
bool addr_is_null(const struct addr *a);

/* True when user and domain are ASCII (the domain as stored: U-labels are not ASCII). */
bool addr_is_ascii(const struct addr *a);

/*
 * Domain or address literal in any spelling -> the normal form: A-labels to Unicode, NFC, lower
 * case, no final dot; literals as [1.2.3.4] or [IPv6:2001:db8::1]. Labels: 1 to 63 octets as
 * A-label, at most 253 in all and ADDR_DOMAIN_MAX in Unicode; letters digits hyphens (none at the
 * ends) and underscores, which hosts in the wild have though RFC 5321 does not; beyond ASCII what
 * IDNA2008 allows (RFC 5891 5.4 with the tests of 4.2.3), mapped as UTS 46 does first, A-labels
 * only if they lead back to themselves. Without WITH_IDN only ASCII is taken and A-labels stay as
 * they are. Plain ASCII costs no call of libidn2. Returns 0, or -1 (out is then "").
 */
int addr_domain_normalise(struct slice in, char *out, size_t size);

/* Normalised domain -> A-labels for DNS, EHLO and the wire; literals unchanged. 0, or -1. */
int addr_domain_to_ascii(const char *domain, char *out, size_t size);

/* True for one or more LDH labels (RFC 1123 2.1; underscore refused), ASCII, no final dot, at most
 * 253 octets: what a host may be called in EHLO or a certificate. */
bool addr_domain_is_valid_hostname(const char *s);

/* Is the normalised domain an address literal? addr_literal also gives the raw address, network
 * order: returns 4 (first 4 bytes of raw set), 6 (all 16) or 0. */
bool addr_is_literal(const char *domain);
int addr_literal(const char *domain, unsigned char raw[16]);

/*
 * The key by which local parts are compared and looked up, as UsernameCaseMapped of RFC 8265: width
 * and case mapped, NFC. No ASCII punctuation ever comes out that was not there. Pure ASCII always
 * has a key, quoted specials and blanks included. Returns 0; or -1 (out is then "") when the key
 * does not fit (size ADDR_USER_MAX + 1 is enough for users of struct addr), user is no UTF-8, or
 * has what RFC 8264 does not allow in identifiers beyond ASCII (symbols, spaces, compatibility
 * forms, unassigned), or breaks a rule of context or the Bidi rule. Without WITH_IDN only ASCII has
 * a key.
 */
int addr_user_key(const char *user, char *out, size_t size);

/* Do two local parts have the same key? */
bool addr_user_equal(const char *a, const char *b);

/* May s be one component of a path: not empty, no '/', no control character, no leading '.' or
 * '-', at most 255 bytes? */
bool addr_is_file_name(const char *s);

/* Name and version of the IDN library ("libidn2 2.3.3"), or "no IDN"; cut to fit, size >= 1. */
void addr_library(char *out, size_t size);

#endif
