/* proxyproto: the header with which a proxy says whose connection it passes on (HAProxy's PROXY
 * protocol, versions 1 and 2). */
#ifndef PROXYPROTO_H
#define PROXYPROTO_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "dns_addr.h"

enum proxyproto_result {
	PROXYPROTO_MORE,   /* the header is not over yet */
	PROXYPROTO_CLIENT, /* it is: client and port say who is there */
	PROXYPROTO_OWN,    /* it is: the proxy speaks for itself, or does not know for whom */
	PROXYPROTO_BAD,    /* why says why; nothing may follow */
};

/* A header that comes in. All zero at the start. */
struct proxyproto {
	unsigned char bytes[PROXYPROTO_MAX]; /* of the header so far */
	size_t n;
	size_t whole; /* version 2: the header's length, once it is known */
	const char *why;
	struct dns_addr client; /* a mapped IPv4 address is the IPv4 address */
	uint16_t port;
};

/* Takes in the next bytes of a connection, in pieces of any size. *taken: how many of them belong
 * to the header; all of them after PROXYPROTO_MORE, and never one that comes behind it. */
enum proxyproto_result proxyproto_feed(struct proxyproto *p, const void *bytes, size_t n,
                                       size_t *taken);

#endif
