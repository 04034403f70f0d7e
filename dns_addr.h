/* dns_addr: an IPv4 or IPv6 address. */
#ifndef DNS_ADDR_H
#define DNS_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "buf.h"

struct dns_addr {
	sa_family_t family; /* AF_INET or AF_INET6 */
	union {
		struct in_addr v4;
		struct in6_addr v6;
	} ip;
};

/* Addresses from and to text: 0, or -1; out, filled with at most INET6_ADDRSTRLEN bytes. */
int dns_addr_parse(struct dns_addr *a, struct slice text);
const char *dns_addr_text(const struct dns_addr *a, char *out);

/* To a socket address: its length. From one (IPv4-mapped IPv6 becomes IPv4): 0, or -1. */
socklen_t dns_addr_to_sockaddr(const struct dns_addr *a, uint16_t port, struct sockaddr_storage *s);
int dns_addr_from_sockaddr(struct dns_addr *a, const struct sockaddr *s);
bool dns_addr_equal(const struct dns_addr *a, const struct dns_addr *b);

/* Puts two runs of one list, `count` at its beginning and `more` at `start`, in turn and without a
 * gap (RFC 8305 4): whoever tries them in order loses one connection, not all of them, when one
 * family leads nowhere. At most DNS_ADDRS_MAX in all. */
void dns_addr_alternate(struct dns_addr *list, size_t count, size_t start, size_t more);

#endif
