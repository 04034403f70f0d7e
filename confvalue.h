/* confvalue: how single values of chasq.conf are written. */
#ifndef CONFVALUE_H
#define CONFVALUE_H

#include <stdbool.h>

#include "conf.h"

/* Bytes for a port or the name of a service, NUL included. */
#define CONFVALUE_PORT 32

/* Splits "host", "host:port", "[IPv6]", "[IPv6]:port" or ":port"; what is not there is "". Returns
 * 0, or -1 when it is none of these, or too long. */
int confvalue_split_address(const char *s, char host[ADDR_DOMAIN_MAX + 1],
                            char port[CONFVALUE_PORT]);

/* A duration as Go writes it ("1h30m"), in whole seconds. 0, or -1. */
int conf_duration(const char *s, int64_t *seconds);

/* A number from 1 to 65535? */
bool confvalue_is_port(const char *port);

/* An address to listen on: address:port, :port, [IPv6]:port or "systemd"? */
bool confvalue_is_listener(const char *s);

/* Where a server of LMTP is: a socket's path, or host and port. */
struct confvalue_lmtp {
	const char *path; /* in the text that was read; NULL: host and port */
	char host[ADDR_DOMAIN_MAX + 1];
	uint16_t port;
};

/* Reads "unix:PATH", "host:port" or "[IPv6]:port". Returns 0, or -1. */
int confvalue_parse_lmtp(const char *s, struct confvalue_lmtp *out);

/* Reads "address/bits", or an address alone: all its bits. Returns 0, or -1. */
int confvalue_parse_net(const char *s, struct conf_net *net);

/* Are all bits behind the prefix 0? */
bool confvalue_net_is_whole(const struct conf_net *net);

/* Lies it wholly within addresses that no stranger on the Internet can have: RFC 1918, RFC 6598,
 * loopback, link-local, unique local? */
bool confvalue_net_is_private(const struct conf_net *net);

/* An address of this machine alone: 127.0.0.0/8, ::1? */
bool confvalue_is_loopback(const struct dns_addr *a);

/* The first %word% in a template that is none of %from% %from_user% %from_domain% %to% %to_user%
 * %to_domain%, in storage that lives until the next call; NULL when all are known. */
const char *confvalue_bad_replacement(const char *template);

/* Is the address in the network? */
bool confvalue_net_has(const struct conf_net *net, const struct dns_addr *a);

#endif
