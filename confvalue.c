/*
 * confvalue: how single values of chasq.conf are written: times, addresses, networks.
 * Pure functions of strings.
 */
#include "confvalue.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

/* Nanoseconds of a unit, and its length; 0 when there is none at s. */
static int64_t duration_unit(const char *s, size_t *len)
{
	static const struct {
		const char *name;
		int64_t ns;
	} units[] = {{"ns", 1},       {"us", 1000},      {"\302\265s", 1000}, {"\316\274s", 1000},
	             {"ms", 1000000}, {"s", 1000000000}, {"m", 60000000000},  {"h", 3600000000000}};
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
		*len = strlen(units[i].name);
		if (strncmp(s, units[i].name, *len) == 0 && (i != 6 || s[1] != 's'))
			return units[i].ns;
	}
	return 0;
}

/* Adds one number with its unit to *ns, moves *s behind it. Returns 0, or -1. */
static int duration_part(const char **s, int64_t *ns)
{
	int64_t whole = 0, part = 0, scale = 1;
	const char *p = *s;
	bool digits = false;
	for (; isdigit((unsigned char)*p); p++, digits = true) {
		if (whole > INT64_MAX / 10 - 1)
			return -1;
		whole = whole * 10 + (*p - '0');
	}
	if (*p == '.') {
		for (p++; isdigit((unsigned char)*p); p++, digits = true) {
			if (scale < 100000) { /* finer than 1/100 s of an hour does not count */
				part = part * 10 + (*p - '0');
				scale *= 10;
			}
		}
	}
	size_t len;
	int64_t unit = duration_unit(p, &len);
	if (!digits || unit == 0 || whole > INT64_MAX / unit - 1)
		return -1;
	int64_t add = whole * unit + part * unit / scale;
	if (*ns > INT64_MAX - add)
		return -1;
	*ns += add;
	*s = p + len;
	return 0;
}

int conf_duration(const char *s, int64_t *seconds)
{
	int64_t ns = 0;
	bool negative = *s == '-';
	if (*s == '-' || *s == '+')
		s++;
	if (!*s)
		return -1;
	if (strcmp(s, "0") == 0) {
		*seconds = 0;
		return 0;
	}
	while (*s)
		if (duration_part(&s, &ns) < 0)
			return -1;
	*seconds = (negative ? -ns : ns) / 1000000000;
	return 0;
}

int confvalue_split_address(const char *s, char host[ADDR_DOMAIN_MAX + 1],
                            char port[CONFVALUE_PORT])
{
	const char *colon = strrchr(s, ':'), *end = colon ? colon : s + strlen(s);
	size_t skip = 0;
	if (*s == '[') {
		const char *close = strchr(s, ']');
		if (!close || (close[1] && close[1] != ':'))
			return -1;
		colon = close[1] ? close + 1 : NULL;
		end = close;
		skip = 1;
	} else if (colon && strchr(s, ':') != colon) {
		return -1; /* an IPv6 address has to stand in brackets */
	}
	size_t n = (size_t)(end - s) - skip;
	if (n > ADDR_DOMAIN_MAX || (colon && strlen(colon + 1) >= CONFVALUE_PORT))
		return -1;
	memcpy(host, s + skip, n);
	host[n] = '\0';
	snprintf(port, CONFVALUE_PORT, "%s", colon ? colon + 1 : "");
	return 0;
}

bool confvalue_is_port(const char *port)
{
	char *end;
	long n = strtol(port, &end, 10);
	return isdigit((unsigned char)*port) && *end == '\0' && n > 0 && n <= 65535;
}

static bool is_service(const char *s)
{
	return confvalue_is_port(s) || strcmp(s, "smtp") == 0 || strcmp(s, "submission") == 0 ||
	       strcmp(s, "submissions") == 0;
}

bool confvalue_is_listener(const char *s)
{
	char host[ADDR_DOMAIN_MAX + 1], port[CONFVALUE_PORT];
	struct dns_addr a;
	if (strcmp(s, "systemd") == 0)
		return true;
	return confvalue_split_address(s, host, port) == 0 && is_service(port) &&
	       (!*host || strcmp(host, "localhost") == 0 ||
	        dns_addr_parse(&a, slice_of(host)) == 0);
}

int confvalue_parse_lmtp(const char *s, struct confvalue_lmtp *out)
{
	char port[CONFVALUE_PORT];
	*out = (struct confvalue_lmtp){.path = NULL};
	if (strncmp(s, "unix:", 5) == 0) {
		out->path = s + 5;
		return *out->path && strlen(out->path) < sizeof(((struct sockaddr_un *)0)->sun_path)
		           ? 0
		           : -1;
	}
	if (confvalue_split_address(s, out->host, port) < 0 || !*out->host ||
	    !confvalue_is_port(port))
		return -1;
	out->port = (uint16_t)strtoul(port, NULL, 10);
	return 0;
}

/* Bytes of the raw address, network order. */
static const unsigned char *addr_bytes(const struct dns_addr *a)
{
	return a->family == AF_INET ? (const unsigned char *)&a->ip.v4
	                            : (const unsigned char *)&a->ip.v6;
}

static bool prefix_equal(const unsigned char *a, const unsigned char *b, int bits)
{
	size_t whole = (size_t)bits / 8;
	unsigned rest = (unsigned)bits % 8, mask = (0xff00U >> rest) & 0xffU;
	return memcmp(a, b, whole) == 0 && (rest == 0 || ((a[whole] ^ b[whole]) & mask) == 0);
}

bool confvalue_net_is_private(const struct conf_net *net)
{
	static const struct {
		sa_family_t family;
		int bits;
		unsigned char raw[16];
	} private_nets[] = {
	    {AF_INET, 8, {10}},           /* RFC 1918 */
	    {AF_INET, 12, {172, 16}},     /* RFC 1918 */
	    {AF_INET, 16, {192, 168}},    /* RFC 1918 */
	    {AF_INET, 8, {127}},          /* loopback */
	    {AF_INET, 16, {169, 254}},    /* link-local, RFC 3927 */
	    {AF_INET, 10, {100, 64}},     /* carrier-grade NAT, RFC 6598 */
	    {AF_INET6, 128, {[15] = 1}},  /* loopback */
	    {AF_INET6, 10, {0xfe, 0x80}}, /* link-local */
	    {AF_INET6, 7, {0xfc}},        /* unique local, RFC 4193 */
	};
	for (size_t i = 0; i < sizeof(private_nets) / sizeof(*private_nets); i++)
		if (net->addr.family == private_nets[i].family &&
		    net->bits >= private_nets[i].bits &&
		    prefix_equal(addr_bytes(&net->addr), private_nets[i].raw, private_nets[i].bits))
			return true;
	return false;
}

bool confvalue_net_is_whole(const struct conf_net *net)
{
	int all = net->addr.family == AF_INET ? 32 : 128;
	const unsigned char *p = addr_bytes(&net->addr);
	for (int i = net->bits; i < all; i++)
		if (p[i / 8] & (0x80U >> (i % 8)))
			return false;
	return true;
}

int confvalue_parse_net(const char *s, struct conf_net *net)
{
	const char *slash = strchr(s, '/');
	size_t n = slash ? (size_t)(slash - s) : strlen(s);
	if (dns_addr_parse(&net->addr, (struct slice){s, n}) < 0)
		return -1;
	int all = net->addr.family == AF_INET ? 32 : 128;
	net->bits = all;
	if (!slash)
		return 0;
	char *end;
	long bits = strtol(slash + 1, &end, 10);
	if (!isdigit((unsigned char)slash[1]) || *end || bits > all)
		return -1;
	net->bits = (int)bits;
	return 0;
}

bool confvalue_net_has(const struct conf_net *net, const struct dns_addr *a)
{
	return net->addr.family == a->family &&
	       prefix_equal(addr_bytes(&net->addr), addr_bytes(a), net->bits);
}

bool confvalue_is_loopback(const struct dns_addr *a)
{
	if (a->family == AF_INET)
		return ntohl(a->ip.v4.s_addr) >> 24 == IN_LOOPBACKNET;
	return IN6_IS_ADDR_LOOPBACK(&a->ip.v6);
}

const char *confvalue_bad_replacement(const char *template)
{
	static const char *const known[] = {"%from%", "%from_user%", "%from_domain%",
	                                    "%to%",   "%to_user%",   "%to_domain%"};
	static char word[32];
	for (const char *p = strchr(template, '%'); p; p = strchr(p, '%')) {
		size_t n = 1 + strspn(p + 1, "abcdefghijklmnopqrstuvwxyz_");
		if (n == 1 || p[n] != '%') {
			p++; /* a percent sign that stands for itself */
			continue;
		}
		size_t i = 0;
		while (i < sizeof(known) / sizeof(*known) &&
		       (strlen(known[i]) != n + 1 || strncmp(known[i], p, n + 1) != 0))
			i++;
		if (i == sizeof(known) / sizeof(*known)) {
			snprintf(word, sizeof(word), "%.*s", (int)(n + 1), p);
			return word;
		}
		p += n + 1;
	}
	return NULL;
}
