/* dns_int: what the parts of the resolver and its tests share. */
#ifndef DNS_INT_H
#define DNS_INT_H

#include "dns.h"

/* Where to ask. NULL and 0 take the defaults of config.h; all is copied. */
struct dns_setup {
	const char *servers;     /* as for dns_init() */
	const char *resolv_conf; /* DNS_RESOLV_CONF */
	const char *hosts;       /* DNS_HOSTS */
	int timeout_ms;          /* DNS_TRY_MS */
	int tries;               /* DNS_TRIES */
	bool dnssec;             /* as for dns_init() */
};

/* dns_init() with all that can be chosen. */
int dns_init_setup(const struct dns_setup *setup);

/* Adds to the struct dns_families of q what is known of a name without asking: from a hosts file
 * (hosts(5), at most DNS_HOSTS_BYTES of it), or as "localhost" and the names below it (RFC 6761
 * 6.3). */
void dns_hosts_find(struct dns_query *q, const char *path, const char *name);

#endif
