/* dns: the asynchronous resolver: mail hosts, addresses, texts, through c-ares on the loop. */
#ifndef DNS_H
#define DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "dns_addr.h"
#include "loop.h"

enum dns_result {
	DNS_OK,
	DNS_NO_NAME,        /* NXDOMAIN: the name does not exist; permanent */
	DNS_NO_DATA,        /* the name exists, but has no such record */
	DNS_SERVER_FAILURE, /* SERVFAIL (bogus too), REFUSED, malformed, no server; transient */
	DNS_TIMEOUT,        /* no answer in time; transient */
	DNS_BAD_NAME,       /* not a legal name, nothing was asked; permanent */
	DNS_NO_MEMORY,      /* or DNS_FLIGHTS_MAX reached; transient */
};

struct dns_mx_host {
	const char *host; /* without the final dot; "" for the null MX (RFC 7505) */
	uint16_t preference;
};

struct dns_tlsa { /* RFC 6698 2.1 */
	uint8_t usage, selector, matching;
	struct slice data;
};

struct dns_query;
typedef void dns_done_fn(void *arg, struct dns_query *q);

/*
 * One query, embedded in its owner, zeroed before its first use. From `done` on, the answer is in
 * the public part and belongs to the struct: it lives until the next query is started on it or
 * until dns_cancel(), which must be called before the struct goes away.
 *
 * A started query ends in exactly one `done`, called from the loop, never from inside a call of
 * this module; in it the owner may start the next query on the same struct, cancel or free it.
 */
struct dns_query {
	enum dns_result result;
	bool truncated; /* there were more records than the limits of config.h let through */
	bool secure;    /* validated, absence too (RFC 6840 5.8); see dns_init */
	size_t count;   /* of the array that belongs to the question; 0 unless DNS_OK */
	const struct dns_mx_host *mx;
	const struct dns_addr *addrs;
	const struct slice *txt;  /* one a record; a NUL that is not counted follows the bytes */
	const char *const *names; /* of PTR, without the final dot */
	const struct dns_tlsa *tlsa;
	const char *canonical; /* of addresses: where the chain of CNAMEs ended; "": none */

	/* private */
	dns_done_fn *done;
	void *arg;
	struct dns_query *prev, *next;
	struct dns_flight *flights[2];
	struct loop_timer second;
	void *block;
	int state;
};

/* Starts the resolver; loop_init() comes first. servers, "127.0.0.1:5353,[::1]:53", is copied; NULL
 * or "": those of DNS_RESOLV_CONF. dnssec says that they validate, which is believed of them when
 * all are on loopback addresses (RFC 7672 2.1). Returns 0, or -1 when there is no memory or the
 * list cannot be understood. */
int dns_init(const char *servers, bool dnssec);

/* Ends the resolver. Queries under way are cancelled: their callbacks do not come. */
void dns_done(void);
/* Reads resolv.conf anew now (otherwise a change is noticed within a second of the next query).
 * With either, queries under way end with the servers they were started with. */
void dns_reload(void);
/* Other servers from now on, as dns_init. 0, or -1 and nothing has changed. */
int dns_set_servers(const char *servers, bool dnssec);

/* MX records (RFC 5321 5.1): lowest preference first, random order within one preference. Records
 * with a malformed host are left out; when none is left, DNS_SERVER_FAILURE. A "." beside other
 * hosts is left out; alone it is the null MX. For all names: letters, digits, '-', '_', one final
 * dot may follow; the bytes are copied; search domains are never applied. */
void dns_mx(struct dns_query *q, struct slice name, dns_done_fn *done, void *arg);

/* A and AAAA, asked together, at most DNS_ADDRS_MAX / 2 of each; in turn, so that few tries reach
 * both, IPv6 first when DNS_PREFER_IPV6. One family that answers is success; when both fail, a
 * transient failure of either wins, then DNS_NO_DATA. Without asking: addresses written as text,
 * names in the hosts file (it wins over DNS, as in resolv.h's order "hosts dns"), "localhost" and
 * names below it (RFC 6761 6.3); these are never secure. Asked ones are when each family that
 * answered is; one that failed, and so brought no address, does not undo it. */
void dns_addresses(struct dns_query *q, struct slice name, dns_done_fn *done, void *arg);

/* A (AF_INET) or AAAA (AF_INET6) alone, from DNS only: neither hosts file nor addresses as text. As
 * with dns_txt, labels may hold any visible ASCII (RFC 7208 7.3), as far as c-ares goes along:
 * since 1.22 many marks, '+' and '=' among them, are a DNS_BAD_NAME. */
void dns_family(struct dns_query *q, struct slice name, sa_family_t family, dns_done_fn *done,
                void *arg);

/* TLSA records of a TCP port of a host, _25._tcp.HOST (RFC 6698 3). */
void dns_tlsa(struct dns_query *q, struct slice host, uint16_t port, dns_done_fn *done, void *arg);

/* TXT records, the character strings of each joined without separator (RFC 7208 3.3). */
void dns_txt(struct dns_query *q, struct slice name, dns_done_fn *done, void *arg);

/* The host names of an address (PTR below in-addr.arpa or ip6.arpa). */
void dns_ptr(struct dns_query *q, const struct dns_addr *addr, dns_done_fn *done, void *arg);

/* No callback comes any more; frees the answer. Harmless on an idle, finished or zeroed struct. */
void dns_cancel(struct dns_query *q);

/* True when the domain takes no mail: a single MX, with the host "." (RFC 7505 3). */
bool dns_is_null_mx(const struct dns_query *q);

/* Name and version of the library behind it, for -V. */
void dns_library(char *out, size_t size);
/* A few words for log and DSN, such as "no such domain". Never NULL. */
const char *dns_result_text(enum dns_result r);

#endif
