/*
 * rate: a share an hour for each host.
 *
 * One number a host is enough (the generic cell rate algorithm): the time at which the host would
 * have its whole share again. Each use moves it ahead by an hour divided by the share; it may not
 * be more than an hour ahead. A host that is not in the table has its whole share, so an entry
 * whose time has passed is as good as a free one.
 */
#include "rate.h"

#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#define HOUR_MS (INT64_C(60) * 60 * 1000)

static bool rate_is_same(const struct dns_addr *a, const struct dns_addr *b)
{
	if (a->family == AF_INET6 && b->family == AF_INET6)
		return memcmp(&a->ip.v6, &b->ip.v6, 8) == 0;
	return dns_addr_equal(a, b);
}

/* The host's place: its own, a free one, or that of the host that has used least. */
static size_t rate_place(const struct rate *r, const struct dns_addr *addr)
{
	size_t best = 0;
	for (size_t i = 0; i < RATE_HOSTS; i++) {
		if (r->host[i].addr.family && rate_is_same(&r->host[i].addr, addr))
			return i;
		if (r->host[i].full_at < r->host[best].full_at)
			best = i;
	}
	return best;
}

bool rate_take(struct rate *r, const struct dns_addr *addr, int64_t per_hour, int64_t now)
{
	if (per_hour <= 0)
		return true;
	int64_t step = HOUR_MS / per_hour;
	size_t i = rate_place(r, addr);
	if (!r->host[i].addr.family || !rate_is_same(&r->host[i].addr, addr)) {
		r->host[i].addr = *addr;
		r->host[i].full_at = now;
	}
	if (r->host[i].full_at < now)
		r->host[i].full_at = now;
	if (r->host[i].full_at - now > HOUR_MS - step)
		return false;
	r->host[i].full_at += step;
	return true;
}

bool rate_is_used_up(const struct rate *r, const struct dns_addr *addr, int64_t per_hour,
                     int64_t now)
{
	size_t i = rate_place(r, addr);
	return per_hour > 0 && r->host[i].addr.family && rate_is_same(&r->host[i].addr, addr) &&
	       r->host[i].full_at - now > HOUR_MS - HOUR_MS / per_hour;
}
