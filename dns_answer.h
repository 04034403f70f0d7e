/* dns_answer: reads DNS messages for dns.c. Pure, so that fuzzers can reach it. */
#ifndef DNS_ANSWER_H
#define DNS_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "dns.h"

#define DNS_NAME_SIZE 256 /* 253 and NUL are enough; on the wire a name has at most 255 bytes */

enum { DNS_CLASS_IN = 1 };
enum {
	DNS_TYPE_A = 1,
	DNS_TYPE_CNAME = 5,
	DNS_TYPE_PTR = 12,
	DNS_TYPE_MX = 15,
	DNS_TYPE_TXT = 16,
	DNS_TYPE_AAAA = 28,
	DNS_TYPE_TLSA = 52,
};

/* The block of an address query: both families, the preferred one in slot 0. */
struct dns_families {
	bool asked[2];
	bool landed[2];
	bool secure[2];
	enum dns_result result[2];
	char canonical[DNS_NAME_SIZE];
	size_t count[2];
	size_t start[2]; /* in addrs */
	size_t room;     /* for each family that is asked */
	struct dns_addr addrs[];
};

/*
 * Reads the answer section of a message for the records of one type (RFC 1035 4.1) into the answer
 * of q: its block, count, truncated and the array. For A and AAAA the block is a struct
 * dns_families that exists already; a name at which the CNAMEs end becomes its canonical one.
 * Returns DNS_OK, DNS_NO_DATA, DNS_NO_NAME, DNS_SERVER_FAILURE (malformed, or it says so) or
 * DNS_NO_MEMORY.
 */
enum dns_result dns_answer_read(struct dns_query *q, int type, const uint8_t *p, size_t n);

/* The AD bit: true when an answer has it (RFC 6840 5.8); sets it in a question (5.7). */
bool dns_answer_is_authentic(const uint8_t *p, size_t n);
void dns_answer_want_authentic(uint8_t *p, size_t n);

/* The slot of a family in struct dns_families: 0 for the preferred one. */
int dns_answer_family_slot(sa_family_t family);

/* Adds to the struct dns_families of q, or sets q->truncated when the family is full. */
void dns_answer_add_address(struct dns_query *q, const struct dns_addr *a);

/* True for the bytes of labels we ask for and believe: letters, digits, hyphen, underscore. */
bool dns_answer_name_byte(uint8_t c);

/* A random number, as good as the kernel gives it without waiting. */
uint32_t dns_answer_random(void);

#endif
