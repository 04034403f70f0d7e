/* dane: what TLSA records say about a mail host's certificate (RFC 6698, 7671, 7672). */
#ifndef DANE_H
#define DANE_H

#include <stdbool.h>
#include <stddef.h>

#include "dns.h"
#include "tls.h"

/* What the look-up of a host's TLSA records came to. */
enum dane_state {
	DANE_NONE,     /* no secure records: DANE says nothing */
	DANE_USABLE,   /* records that can be matched: they are what the certificate is judged by */
	DANE_UNUSABLE, /* records, none of which can be: TLS, with anybody (RFC 7672 2.2) */
	DANE_FAILED,   /* a secure look-up failed: the host cannot be used now (RFC 7672 2.1.1) */
};

/* The usable records of a host, copied. Zeroed is empty. */
struct dane_records {
	enum dane_state state;
	size_t count;
	struct dane_record {
		unsigned char usage, selector, matching;
		size_t n;
		unsigned char *data; /* in the block below */
	} record[DANE_RECORDS_MAX];
	unsigned char *block;
};

/* Takes the answer to dns_tlsa. Usable are usage 2 and 3 with selector 0 and 1 and matching type 0,
 * 1 and 2 of the right length (RFC 7672 3.1.3: 0 and 1 are not). No memory: DANE_FAILED. */
void dane_take(struct dane_records *r, const struct dns_query *q);
void dane_clear(struct dane_records *r);

/*
 * Does what the peer showed match a record? Usage 3: its own certificate, whatever its names and
 * dates say (RFC 7671 5.1). Usage 2: a certificate of the chain it sent, from which its own leads
 * back in good order, in its time and with one of the names (RFC 7672 3.2.2). names: the host and,
 * where they differ, the mail domain. When it does not, why tells in plain words.
 */
bool dane_match(const struct dane_records *r, const struct tls *t, const char *const *names,
                size_t count, const char **why);

#endif
