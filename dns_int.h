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
	int rest_ms;             /* DNS_REST_MS */
	bool dnssec;             /* as for dns_init() */
};

/* dns_init() with all that can be chosen. */
int dns_init_setup(const struct dns_setup *setup);

/* ---- dns_channel.c ---- */

struct dns_channel;

/* Called by c-ares when a question has landed: an ARES_ status, and the answer's bytes. */
typedef void dns_landed_fn(void *arg, int status, int timeouts, unsigned char *answer, int n);

/* Makes ready what dns_channel_now() needs. Returns 0, or -1 as dns_init(). */
int dns_channels_open(const struct dns_setup *setup);

/* Flights still under way land with ARES_EDESTRUCTION. */
void dns_channels_close(void);

/* As dns_reload() and dns_set_servers(). */
void dns_channels_renew(void);
int dns_channels_set(const char *servers, bool dnssec);

/* The channel for a new question: looks at resolv.conf first, at most once in DNS_CHECK_MS. NULL
 * without memory, or when resolv.conf cannot be read. It lives as long as it has flights. */
struct dns_channel *dns_channel_now(void);

/* Asks; `landed` is called once, perhaps from inside, and has to call dns_channel_landed(). In the
 * name a '.' or '\\' that belongs to a label is escaped. */
void dns_channel_ask(struct dns_channel *c, const char *name, int type, dns_landed_fn *landed,
                     void *arg);
void dns_channel_landed(struct dns_channel *c);

/* Do its servers validate, and are they near enough to be believed? */
bool dns_channel_is_trusted(const struct dns_channel *c);

/* ---- dns_hosts.c ---- */

/* Adds to the struct dns_families of q what is known of a name without asking: from a hosts file
 * (hosts(5), at most DNS_HOSTS_BYTES of it), or as "localhost" and the names below it (RFC 6761
 * 6.3). */
void dns_hosts_find(struct dns_query *q, const char *path, const char *name);

#endif
