/* rate: how much each host may do in an hour, in a bounded table. */
#ifndef RATE_H
#define RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "dns.h"

/* Zeroed before its first use. */
struct rate {
	struct {
		struct dns_addr addr; /* family 0: free */
		int64_t full_at;      /* ms: the time to which it has used up its share */
	} host[RATE_HOSTS];
};

/*
 * Takes one from the share of a host, an IPv6 host being its /64 network. A host that was quiet for
 * an hour may take per_hour at once, after that they come back evenly. now is monotonic, ms;
 * per_hour 0 means no limit. False when it has none left. When the table is full, the host that has
 * used least is forgotten.
 */
bool rate_take(struct rate *r, const struct dns_addr *addr, int64_t per_hour, int64_t now);

/* Would it have none left? Takes nothing. */
bool rate_is_used_up(const struct rate *r, const struct dns_addr *addr, int64_t per_hour,
                     int64_t now);

#endif
