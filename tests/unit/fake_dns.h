/* fake_dns: a resolver for tests that answers from a text, from the loop's next turn on. */
#ifndef FAKE_DNS_H
#define FAKE_DNS_H

#include "dns.h"

struct fake_dns {
	unsigned asked;   /* questions so far */
	unsigned waiting; /* without an answer yet */
	unsigned fail_at; /* this question (from 1 on) gets fail_with */
	enum dns_result fail_with;
	const char *truncated; /* answers of this type are */
	bool silent;           /* no answer comes */
};

extern struct fake_dns fake_dns;

/* The zone, kept: lines "NAME TYPE VALUE", the value to the end of the line. TYPE is A, AAAA, MX
 * (VALUE the host alone; its place is its preference), TXT or PTR (NAME an address). A value
 * "!failure", "!timeout", "!nodata", "!memory" is what happens. NAME "*" is any name that has no
 * line of its own. Unknown names do not exist. Resets all above. */
void fake_dns_zone(const char *zone);

#endif
