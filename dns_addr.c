/*
 * dns_addr: an IPv4 or IPv6 address, to and from text and socket addresses. Pure.
 */
#include "dns_addr.h"

#include <arpa/inet.h>
#include <string.h>

#include "config.h"

int dns_addr_parse(struct dns_addr *a, struct slice text)
{
	char s[INET6_ADDRSTRLEN];
	if (text.n == 0 || text.n >= sizeof s || memchr(text.p, '\0', text.n))
		return -1;
	memcpy(s, text.p, text.n);
	s[text.n] = '\0';
	*a = (struct dns_addr){.family = strchr(s, ':') ? AF_INET6 : AF_INET};
	return inet_pton(a->family, s, &a->ip) == 1 ? 0 : -1;
}

const char *dns_addr_text(const struct dns_addr *a, char *out)
{
	if (!inet_ntop(a->family, &a->ip, out, INET6_ADDRSTRLEN))
		out[0] = '\0';
	return out;
}

socklen_t dns_addr_to_sockaddr(const struct dns_addr *a, uint16_t port, struct sockaddr_storage *s)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	memset(s, 0, sizeof *s);
	if (a->family == AF_INET6) {
		v6.sin6_addr = a->ip.v6;
		memcpy(s, &v6, sizeof v6);
		return sizeof v6;
	}
	v4.sin_addr = a->ip.v4;
	memcpy(s, &v4, sizeof v4);
	return sizeof v4;
}

int dns_addr_from_sockaddr(struct dns_addr *a, const struct sockaddr *s)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	*a = (struct dns_addr){.family = s->sa_family};
	if (s->sa_family == AF_INET) {
		memcpy(&v4, s, sizeof v4);
		a->ip.v4 = v4.sin_addr;
		return 0;
	}
	if (s->sa_family != AF_INET6)
		return -1;
	memcpy(&v6, s, sizeof v6);
	if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
		a->family = AF_INET;
		memcpy(&a->ip.v4, v6.sin6_addr.s6_addr + 12, sizeof a->ip.v4);
	} else {
		a->ip.v6 = v6.sin6_addr;
	}
	return 0;
}

bool dns_addr_equal(const struct dns_addr *a, const struct dns_addr *b)
{
	size_t n = a->family == AF_INET6 ? sizeof a->ip.v6 : sizeof a->ip.v4;
	return a->family == b->family && memcmp(&a->ip, &b->ip, n) == 0;
}

void dns_addr_alternate(struct dns_addr *list, size_t count, size_t start, size_t more)
{
	struct dns_addr both[DNS_ADDRS_MAX];
	size_t n = 0;
	if (count == 0 || more == 0) {
		memmove(list + count, list + start, more * sizeof *list);
		return;
	}
	for (size_t i = 0; n < count + more && n < DNS_ADDRS_MAX; i++) {
		if (i < count)
			both[n++] = list[i];
		if (i < more && n < DNS_ADDRS_MAX)
			both[n++] = list[start + i];
	}
	memcpy(list, both, n * sizeof *list);
}
