/*
 * proxyproto: reads the header of the PROXY protocol, byte by byte. Pure.
 *
 * Whoever writes this header says who a client is, so nothing is guessed: what is not exactly one
 * of the forms of the protocol is bad, at the first byte that shows it. A header has an end that it
 * tells itself (the line end of version 1, the length of version 2), and at most PROXYPROTO_MAX
 * bytes.
 */
#include "proxyproto.h"

#include <stdbool.h>
#include <string.h>

/* "PROXY " is the start of version 1; its longest line has two IPv6 addresses. */
#define V1_START     "PROXY "
#define V1_START_LEN (sizeof V1_START - 1)
#define V1_MAX       107

/* Version 2: a signature, version and command, family and transport, and the length of the rest. */
#define V2_FIXED 16
static const unsigned char v2_signature[] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                             0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
enum { V2_LOCAL = 0x20, V2_PROXY = 0x21 };
enum { V2_UNSPEC = 0x00, V2_TCP4 = 0x11, V2_TCP6 = 0x21, V2_UNIX = 0x31 };
enum { TLV_CRC32C = 3, TLV_HEAD = 3 };

#if PROXYPROTO_MAX < 16 + 216
#error "PROXYPROTO_MAX is too small for the addresses of version 2"
#endif

static enum proxyproto_result bad(struct proxyproto *p, const char *why)
{
	p->why = why;
	return PROXYPROTO_BAD;
}

/* ---- version 1 ------------------------------------------------------------------------------ */

/* Takes the word before the next blank from the front of *rest, and the blank. False: no blank. */
static bool take_word(struct slice *rest, struct slice *word)
{
	const char *blank = memchr(rest->p, ' ', rest->n);
	if (!blank)
		return false;
	*word = (struct slice){rest->p, (size_t)(blank - rest->p)};
	rest->p += word->n + 1;
	rest->n -= word->n + 1;
	return true;
}

/* A decimal number up to 65535 without leading zeros. 0, or -1. */
static int read_port(struct slice s, uint16_t *port)
{
	unsigned long value = 0;
	if (s.n == 0 || s.n > 5 || (s.p[0] == '0' && s.n > 1))
		return -1;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -1;
		value = value * 10 + (unsigned long)(s.p[i] - '0');
	}
	*port = (uint16_t)value;
	return value <= 65535 ? 0 : -1;
}

/* An address of that family. 0, or -1. */
static int read_address(struct slice s, sa_family_t family, struct dns_addr *a)
{
	return dns_addr_parse(a, s) == 0 && a->family == family ? 0 : -1;
}

/* IPv4 that came to an IPv6 socket of the proxy is IPv4, as it is at our own sockets. */
static void set_client(struct proxyproto *p, const struct dns_addr *a, uint16_t port)
{
	struct sockaddr_storage s;
	dns_addr_to_sockaddr(a, port, &s);
	dns_addr_from_sockaddr(&p->client, (const struct sockaddr *)&s);
	p->port = port;
}

/* The whole line is there. */
static enum proxyproto_result read_v1(struct proxyproto *p)
{
	struct slice rest = {(const char *)p->bytes + V1_START_LEN, p->n - V1_START_LEN - 1};
	struct slice protocol, from, to, port;
	struct dns_addr a, ours;
	uint16_t n, our_port;
	sa_family_t family = AF_INET;
	if (rest.n == 0 || rest.p[rest.n - 1] != '\r' || memchr(rest.p, '\r', rest.n - 1) ||
	    memchr(rest.p, '\0', rest.n))
		return bad(p, "a line end that is not CR LF");
	rest.n--;
	if (slice_is(rest, "UNKNOWN"))
		return PROXYPROTO_OWN;
	if (!take_word(&rest, &protocol))
		return bad(p, "words are missing");
	if (slice_is(protocol, "UNKNOWN")) /* what follows is to be ignored */
		return PROXYPROTO_OWN;
	if (slice_is(protocol, "TCP6"))
		family = AF_INET6;
	else if (!slice_is(protocol, "TCP4"))
		return bad(p, "neither TCP4, TCP6 nor UNKNOWN");
	if (!take_word(&rest, &from) || !take_word(&rest, &to) || !take_word(&rest, &port))
		return bad(p, "words are missing");
	if (read_address(from, family, &a) || read_address(to, family, &ours))
		return bad(p, "an address that is none of its family");
	if (read_port(port, &n) || read_port(rest, &our_port))
		return bad(p, "a port that is none");
	set_client(p, &a, n);
	return PROXYPROTO_CLIENT;
}

static enum proxyproto_result step_v1(struct proxyproto *p)
{
	if (p->n <= V1_START_LEN)
		return p->bytes[p->n - 1] == (unsigned char)V1_START[p->n - 1]
		           ? PROXYPROTO_MORE
		           : bad(p, "no header");
	if (p->bytes[p->n - 1] == '\n')
		return read_v1(p);
	return p->n < V1_MAX ? PROXYPROTO_MORE : bad(p, "a line that is too long");
}

/* ---- version 2 ------------------------------------------------------------------------------ */

static size_t read_16(const unsigned char *b)
{
	return (size_t)b[0] << 8 | b[1];
}

/* CRC-32C (Castagnoli, reflected) of the header, the four bytes at `hole` taken for zeros. */
static uint32_t crc32c(const struct proxyproto *p, size_t hole)
{
	uint32_t crc = 0xffffffffU;
	for (size_t i = 0; i < p->n; i++) {
		crc ^= i >= hole && i < hole + 4 ? 0U : p->bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0U);
	}
	return ~crc;
}

/* What stands behind the addresses: nothing of it is needed, but it has to add up. */
static const char *check_extras(const struct proxyproto *p, size_t at)
{
	while (at < p->n) {
		const unsigned char *b = p->bytes + at;
		if (p->n - at < TLV_HEAD || p->n - at - TLV_HEAD < read_16(b + 1))
			return "an extension that is longer than the header";
		size_t n = read_16(b + 1);
		if (b[0] == TLV_CRC32C &&
		    (n != 4 || crc32c(p, at + TLV_HEAD) !=
		                   ((uint32_t)read_16(b + 3) << 16 | (uint32_t)read_16(b + 5))))
			return "a checksum that is wrong";
		at += TLV_HEAD + n;
	}
	return NULL;
}

/* The whole header is there. */
static enum proxyproto_result read_v2(struct proxyproto *p)
{
	const unsigned char *b = p->bytes + V2_FIXED;
	unsigned family = p->bytes[13];
	struct dns_addr a = {.family = AF_UNSPEC};
	size_t size = 0; /* of the addresses */
	/* Both ask that the rest be ignored. */
	if (p->bytes[12] == V2_LOCAL || family == V2_UNSPEC)
		return PROXYPROTO_OWN;
	if (family == V2_TCP4)
		size = 12;
	else if (family == V2_TCP6)
		size = 36;
	else if (family == V2_UNIX)
		size = 216;
	else
		return bad(p, "a family or transport that is not ours");
	if (p->n - V2_FIXED < size)
		return bad(p, "addresses that are cut short");
	const char *why = check_extras(p, V2_FIXED + size);
	if (why)
		return bad(p, why);
	if (family == V2_UNIX)
		return PROXYPROTO_OWN;
	a.family = family == V2_TCP4 ? AF_INET : AF_INET6;
	memcpy(&a.ip, b, family == V2_TCP4 ? sizeof a.ip.v4 : sizeof a.ip.v6);
	set_client(p, &a, (uint16_t)read_16(b + size - 4));
	return PROXYPROTO_CLIENT;
}

static enum proxyproto_result step_v2(struct proxyproto *p)
{
	if (p->n <= sizeof v2_signature && p->bytes[p->n - 1] != v2_signature[p->n - 1])
		return bad(p, "no header");
	if (p->n == V2_FIXED) {
		if (p->bytes[12] != V2_LOCAL && p->bytes[12] != V2_PROXY)
			return bad(p, "a version or command that is unknown");
		p->whole = V2_FIXED + read_16(p->bytes + 14);
		if (p->whole > sizeof p->bytes)
			return bad(p, "a header that is too long");
	}
	return p->n > 0 && p->n == p->whole ? read_v2(p) : PROXYPROTO_MORE;
}

enum proxyproto_result proxyproto_feed(struct proxyproto *p, const void *bytes, size_t n,
                                       size_t *taken)
{
	enum proxyproto_result result = PROXYPROTO_MORE;
	const unsigned char *b = bytes;
	size_t i = 0;
	/* Only who goes on after the end of a header finds it full. */
	while (i < n && result == PROXYPROTO_MORE && p->n < sizeof p->bytes) {
		p->bytes[p->n++] = b[i++];
		result = p->bytes[0] == v2_signature[0] ? step_v2(p) : step_v1(p);
	}
	*taken = i;
	return i < n && result == PROXYPROTO_MORE ? bad(p, "a header that is too long") : result;
}
