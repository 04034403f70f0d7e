/* dns: the asynchronous resolver: MX, addresses, TXT and PTR through c-ares on the loop. */
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
	DNS_SERVER_FAILURE, /* SERVFAIL, REFUSED, malformed answer, no server reachable; transient
	                     */
	DNS_TIMEOUT,        /* no answer in time; transient */
	DNS_BAD_NAME,       /* not a legal name, nothing was asked; permanent */
	DNS_NO_MEMORY,      /* or DNS_FLIGHTS_MAX reached; transient */
};

struct dns_mx_host {
	const char *host; /* without the final dot; "" for the null MX (RFC 7505) */
	uint16_t preference;
};

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
	size_t count;   /* of the array that belongs to the question; 0 unless DNS_OK */
	const struct dns_mx_host *mx;
	const struct dns_addr *addrs;
	const struct slice *txt;  /* one a record; a NUL that is not counted follows the bytes */
	const char *const *names; /* of PTR, without the final dot */

	/* private */
	void (*done)(void *arg, struct dns_query *q);
	void *arg;
	struct dns_query *prev, *next;
	struct dns_flight *flights[2];
	struct loop_timer second;
	void *block;
	int state;
};

/* Where to ask; for tests and the operator. NULL and 0 take the defaults of config.h. */
struct dns_setup {
	const char *servers;     /* "127.0.0.1:5353,[::1]:53"; NULL or "": those of resolv_conf */
	const char *resolv_conf; /* DNS_RESOLV_CONF */
	const char *hosts;       /* DNS_HOSTS */
	int timeout_ms;          /* DNS_TRY_MS */
	int tries;               /* DNS_TRIES */
};

/* Starts the resolver; loop_init() comes first. `servers` as above; the strings are copied.
 * Returns 0, or -1 when there is no memory or the list of servers cannot be understood. */
int dns_init(const char *servers);
int dns_init_setup(const struct dns_setup *setup);

/* Ends the resolver. Queries under way are cancelled: their callbacks do not come. */
void dns_done(void);

/* Reads resolv.conf anew now (otherwise a change is noticed within a second of the next query).
 * Queries under way end with the servers they were started with. */
void dns_reload(void);

/* MX records (RFC 5321 5.1): lowest preference first, random order within one preference. Records
 * with a malformed host are left out; when none is left, DNS_SERVER_FAILURE. A "." beside other
 * hosts is left out; alone it is the null MX. For all names: letters, digits, '-', '_', one final
 * dot may follow; the bytes are copied; search domains are never applied. */
void dns_mx(struct dns_query *q, struct slice name, void (*done)(void *arg, struct dns_query *q),
            void *arg);

/*
 * A and AAAA, asked together, IPv6 first when DNS_PREFER_IPV6, at most DNS_ADDRS_MAX / 2 of each.
 * One family that answers is success; when both fail, a transient failure of either wins, then
 * DNS_NO_DATA. Without asking: addresses written as text, names in the hosts file (it wins over
 * DNS, as in resolv.h's order "hosts dns"), "localhost" and names below it (RFC 6761 6.3).
 */
void dns_addresses(struct dns_query *q, struct slice name,
                   void (*done)(void *arg, struct dns_query *q), void *arg);

/* TXT records, the character strings of each joined without separator (RFC 7208 3.3). */
void dns_txt(struct dns_query *q, struct slice name, void (*done)(void *arg, struct dns_query *q),
             void *arg);

/* The host names of an address (PTR below in-addr.arpa or ip6.arpa). */
void dns_ptr(struct dns_query *q, const struct dns_addr *addr,
             void (*done)(void *arg, struct dns_query *q), void *arg);

/* No callback comes any more; frees the answer. Harmless on an idle, finished or zeroed struct. */
void dns_cancel(struct dns_query *q);

/* True when the domain takes no mail: a single MX, with the host "." (RFC 7505 3). */
bool dns_is_null_mx(const struct dns_query *q);

/* Name and version of the library behind it, for -V. */
void dns_library(char *out, size_t size);

/* A few words for log and DSN, such as "no such domain". Never NULL. */
const char *dns_result_text(enum dns_result r);

#endif
