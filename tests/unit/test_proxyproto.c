/*
 * Unit tests of proxyproto: headers as proxies send them, and all that is near them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include <cmocka.h>

#include "proxyproto.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define BYTES(s)  (s), sizeof(s) - 1

static struct proxyproto p;

/* All of it at once, from memory of just that size, so that a sanitizer sees what is read. */
static enum proxyproto_result feed(const char *bytes, size_t n, size_t *taken)
{
	char *copy = malloc(n ? n : 1);
	assert_non_null(copy);
	memcpy(copy, bytes, n);
	memset(&p, 0, sizeof p);
	enum proxyproto_result result = proxyproto_feed(&p, copy, n, taken);
	assert_true(*taken <= n);
	assert_true(result != PROXYPROTO_MORE || *taken == n);
	assert_true(result != PROXYPROTO_BAD || p.why);
	free(copy);
	return result;
}

/* The same in single bytes: the same result, and the same end. */
static void expect_bytewise(const char *bytes, size_t n, enum proxyproto_result want, size_t end)
{
	enum proxyproto_result result = PROXYPROTO_MORE;
	size_t i = 0, taken = 0;
	memset(&p, 0, sizeof p);
	for (; i < n && result == PROXYPROTO_MORE; i += taken)
		result = proxyproto_feed(&p, bytes + i, 1, &taken);
	assert_int_equal(result, want);
	assert_int_equal(i, end);
}

/* It is a header as a whole; what comes behind it is left, and every start of it is too short. */
static void expect_whole(const char *bytes, size_t n, enum proxyproto_result want)
{
	char more[PROXYPROTO_MAX + 64];
	size_t taken;
	assert_int_equal(feed(bytes, n, &taken), want);
	assert_int_equal(taken, n);
	memcpy(more, bytes, n);
	memcpy(more + n, "EHLO x\r\nPROXY TCP4 ", 19);
	for (size_t k = n + 1; k <= n + 19; k++) {
		assert_int_equal(feed(more, k, &taken), want);
		assert_int_equal(taken, n);
	}
	for (size_t k = 0; k < n; k++)
		assert_int_equal(feed(bytes, k, &taken), PROXYPROTO_MORE);
	expect_bytewise(more, n + 19, want, n);
}

static void expect_client(const char *bytes, size_t n, const char *ip, uint16_t port)
{
	char text[INET6_ADDRSTRLEN];
	size_t taken;
	expect_whole(bytes, n, PROXYPROTO_CLIENT);
	assert_int_equal(feed(bytes, n, &taken), PROXYPROTO_CLIENT);
	assert_string_equal(dns_addr_text(&p.client, text), ip);
	assert_int_equal(p.port, port);
}

static void expect_bad(const char *bytes, size_t n)
{
	size_t taken;
	if (feed(bytes, n, &taken) != PROXYPROTO_BAD)
		fail_msg("%.100s was not refused", bytes);
	expect_bytewise(bytes, n, PROXYPROTO_BAD, taken);
}

/* ---- version 1 ---- */

#define LONGEST                                              \
	"PROXY TCP6 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff " \
	"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"

static void test_v1(void **state)
{
	(void)state;
	expect_client(BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n"), "192.0.2.7", 56324);
	expect_client(BYTES("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"), "0.0.0.0", 0);
	expect_client(BYTES("PROXY TCP6 2001:db8::7 ::1 1 25\r\n"), "2001:db8::7", 1);
	expect_client(BYTES(LONGEST), "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
	/* IPv4 is IPv4, however it came to the proxy. */
	expect_client(BYTES("PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 9 25\r\n"), "192.0.2.7", 9);
	expect_client(BYTES("PROXY TCP6 ::FFFF:C000:207 ::1 9 25\r\n"), "192.0.2.7", 9);
	expect_whole(BYTES("PROXY UNKNOWN\r\n"), PROXYPROTO_OWN);
	expect_whole(BYTES("PROXY UNKNOWN ffff::1 1.2.3.4 x y z\r\n"), PROXYPROTO_OWN);
}

static void test_v1_bad(void **state)
{
	static const char *const bad[] = {
	    "EHLO client.test\r\n",
	    "proxy TCP4 192.0.2.7 198.51.100.1 1 25\r\n",
	    " PROXY TCP4 192.0.2.7 198.51.100.1 1 25\r\n",
	    "\r\nPROXY TCP4 192.0.2.7 198.51.100.1 1 25\r\n",
	    "\n",
	    "PROXY\r\n",
	    "PROXY \r\n",
	    "PROXY  TCP4 192.0.2.7 198.51.100.1 1 25\r\n",
	    "PROXY TCP4  192.0.2.7 198.51.100.1 1 25\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 1 25 \r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 1  25\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 1 25 26\r\n",
	    "PROXY TCP4 192.0.2.7\t198.51.100.1 1 25\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 1 25\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 1 25\r\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 1\r 25\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1\r\n",
	    "PROXY TCP4 192.0.2.7\r\n",
	    "PROXY TCP4\r\n",
	    "PROXY TCP4 \r\n",
	    "PROXY TCP 192.0.2.7 198.51.100.1 1 25\r\n",
	    "PROXY TCP5 192.0.2.7 198.51.100.1 1 25\r\n",
	    "PROXY tcp4 192.0.2.7 198.51.100.1 1 25\r\n",
	    "PROXY UDP4 192.0.2.7 198.51.100.1 1 25\r\n",
	    "PROXY UNKNOWNX\r\n",
	    "PROXY UNKNOWN\n",
	    "PROXY unknown\r\n",
	    /* The family is that of both addresses. */
	    "PROXY TCP4 2001:db8::1 198.51.100.1 1 25\r\n",
	    "PROXY TCP4 192.0.2.7 2001:db8::1 1 25\r\n",
	    "PROXY TCP6 192.0.2.7 2001:db8::1 1 25\r\n",
	    "PROXY TCP6 2001:db8::1 192.0.2.7 1 25\r\n",
	    "PROXY TCP4 ::ffff:192.0.2.7 198.51.100.1 1 25\r\n",
	    "PROXY TCP6 [2001:db8::1] 2001:db8::1 1 25\r\n",
	    "PROXY TCP6 fe80::1%eth0 2001:db8::1 1 25\r\n",
	    "PROXY TCP6 2001:db8::1::2 2001:db8::1 1 25\r\n",
	    "PROXY TCP4 192.0.2.256 198.51.100.1 1 25\r\n",
	    "PROXY TCP4 192.0.2.07 198.51.100.1 1 25\r\n",
	    "PROXY TCP4 192.0.2 198.51.100.1 1 25\r\n",
	    "PROXY TCP4 3221225991 198.51.100.1 1 25\r\n",
	    "PROXY TCP4 localhost 198.51.100.1 1 25\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 01 25\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 00 25\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 +1 25\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 1x 25\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 0x1 25\r\n",
	    "PROXY TCP4 192.0.2.7 198.51.100.1 4294967297 25\r\n",
	};
	char line[256];
	size_t taken;
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		expect_bad(bad[i], strlen(bad[i]));
	expect_bad(BYTES("PROXY TCP4 192.0.2.7\0 198.51.100.1 1 25\r\n"));
	expect_bad(BYTES("PROXY UNKNOWN \0\r\n"));
	/* The end of a line has to come within 107 bytes. */
	memset(line, 'x', sizeof line);
	memcpy(line, "PROXY UNKNOWN ", 14);
	assert_int_equal(feed(line, sizeof line, &taken), PROXYPROTO_BAD);
	assert_int_equal(taken, 107);
	memcpy(line + 105, "\r\n", 2);
	expect_whole(line, 107, PROXYPROTO_OWN);
	line[105] = 'x';
	memcpy(line + 106, "\r\n", 2);
	expect_bad(line, 108);
}

/* ---- version 2 ---- */

/* A header with that command, family and length; returns its length. */
static size_t v2(char out[PROXYPROTO_MAX + 64], int command, int family, const char *rest, size_t n)
{
	memcpy(out, SIGNATURE, 12);
	out[12] = (char)command;
	out[13] = (char)family;
	out[14] = (char)(n >> 8);
	out[15] = (char)n;
	memcpy(out + 16, rest, n);
	return 16 + n;
}

#define TCP4 "\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x00\x19"
#define TCP6                                         \
	"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07" \
	"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01" \
	"\xdc\x04\x00\x19"
#define MAPPED                                         \
	"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x07" \
	"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"   \
	"\xdc\x04\x00\x19"

static void test_v2(void **state)
{
	char h[PROXYPROTO_MAX + 64];
	static const char names[216] = "/run/client";
	(void)state;
	expect_client(h, v2(h, 0x21, 0x11, BYTES(TCP4)), "192.0.2.7", 56324);
	expect_client(h, v2(h, 0x21, 0x21, BYTES(TCP6)), "2001:db8::7", 56324);
	expect_client(h, v2(h, 0x21, 0x21, BYTES(MAPPED)), "192.0.2.7", 56324);
	expect_whole(h, v2(h, 0x21, 0x31, names, sizeof names), PROXYPROTO_OWN);
	/* The proxy for itself, or for whom it does not know: whatever stands there besides. */
	expect_whole(h, v2(h, 0x20, 0x00, "", 0), PROXYPROTO_OWN);
	expect_whole(h, v2(h, 0x20, 0x11, BYTES(TCP4)), PROXYPROTO_OWN);
	expect_whole(h, v2(h, 0x20, 0xff, BYTES("abc")), PROXYPROTO_OWN);
	expect_whole(h, v2(h, 0x21, 0x00, "", 0), PROXYPROTO_OWN);
	expect_whole(h, v2(h, 0x21, 0x00, BYTES("abc")), PROXYPROTO_OWN);
	/* Extensions, one of them empty. */
	expect_client(h,
	              v2(h, 0x21, 0x11,
	                 BYTES(TCP4 "\x04\x00\x03"
	                            "abc"
	                            "\x05\x00\x00")),
	              "192.0.2.7", 56324);
}

static void test_v2_bad(void **state)
{
	static const char zeros[PROXYPROTO_MAX] = "";
	char h[PROXYPROTO_MAX + 64];
	size_t taken;
	(void)state;
	for (int command = 0; command < 256; command++) {
		size_t n = v2(h, command, 0x11, BYTES(TCP4));
		if (command == 0x20 || command == 0x21)
			continue;
		expect_bad(h, n);
	}
	for (int family = 0; family < 256; family++) {
		size_t n = v2(h, 0x21, family, zeros, 216);
		enum proxyproto_result result = feed(h, n, &taken);
		bool good = family == 0 || family == 0x11 || family == 0x21 || family == 0x31;
		assert_int_equal(result == PROXYPROTO_BAD, !good);
	}
	for (size_t n = 0; n < 12; n++)
		expect_bad(h, v2(h, 0x21, 0x11, TCP4, n));
	for (size_t n = 0; n < 36; n++)
		expect_bad(h, v2(h, 0x21, 0x21, TCP6, n));
	for (size_t n = 0; n < 216; n++)
		expect_bad(h, v2(h, 0x21, 0x31, zeros, n));
	/* Extensions that do not add up. */
	expect_bad(h, v2(h, 0x21, 0x11, BYTES(TCP4 "\x04")));
	expect_bad(h, v2(h, 0x21, 0x11, BYTES(TCP4 "\x04\x00")));
	expect_bad(h, v2(h, 0x21, 0x11, BYTES(TCP4 "\x04\x00\x01")));
	expect_bad(h, v2(h, 0x21, 0x11,
	                 BYTES(TCP4 "\x04\xff\xff"
	                            "abc")));
	expect_bad(h, v2(h, 0x21, 0x11,
	                 BYTES(TCP4 "\x04\x00\x02"
	                            "a")));
	/* The length is refused before anything of it comes. */
	memcpy(h, SIGNATURE "\x20\x00\xff\xff", 16);
	assert_int_equal(feed(h, 16, &taken), PROXYPROTO_BAD);
	assert_int_equal(taken, 16);
	h[14] = (char)((PROXYPROTO_MAX - 16 + 1) >> 8);
	h[15] = (char)((PROXYPROTO_MAX - 16 + 1) & 0xff);
	assert_int_equal(feed(h, 16, &taken), PROXYPROTO_BAD);
	expect_whole(h, v2(h, 0x20, 0x00, zeros, PROXYPROTO_MAX - 16), PROXYPROTO_OWN);
}

/* The sum was made by another program, which knows that of "123456789" (e3069283). */
static void test_v2_checksum(void **state)
{
	char h[PROXYPROTO_MAX + 64];
	size_t taken;
	size_t n = v2(h, 0x21, 0x11,
	              BYTES(TCP4 "\x03\x00\x04"
	                         "\xfe\xdc\xba\x98"));
	(void)state;
	expect_bad(h, n);
	memcpy(h + n - 4, "\x0b\xc9\xf7\x04", 4);
	expect_client(h, n, "192.0.2.7", 56324);
	for (size_t i = 16; i < n; i++) {
		for (int bit = 0; bit < 8; bit++) {
			h[i] = (char)(h[i] ^ 1 << bit);
			/* Where the type is changed there is no sum any more. */
			enum proxyproto_result want = i == 28 ? PROXYPROTO_CLIENT : PROXYPROTO_BAD;
			assert_int_equal(feed(h, n, &taken), want);
			h[i] = (char)(h[i] ^ 1 << bit);
		}
	}
	expect_bad(h, v2(h, 0x21, 0x11,
	                 BYTES(TCP4 "\x03\x00\x03"
	                            "abc")));
}

/* ---- every byte changed, every start ---- */

/* Which of the results each change of one byte gives. */
static void count_changes(const char *bytes, size_t n, unsigned counts[4])
{
	char h[PROXYPROTO_MAX + 64];
	size_t taken;
	memset(counts, 0, 4 * sizeof *counts);
	for (size_t i = 0; i < n; i++) {
		memcpy(h, bytes, n);
		for (int c = 0; c < 256; c++) {
			h[i] = (char)c;
			enum proxyproto_result result = feed(h, n, &taken);
			counts[result]++;
			expect_bytewise(h, n, result, taken);
			if (result == PROXYPROTO_CLIENT)
				assert_true(p.client.family == AF_INET ||
				            p.client.family == AF_INET6);
		}
	}
}

static void test_every_change(void **state)
{
	static const char v1_line[] = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n";
	char h[PROXYPROTO_MAX + 64];
	unsigned counts[4];
	(void)state;
	count_changes(BYTES(v1_line), counts);
	/* Only digits may change, and stay digits; a line end that is none is waited for. */
	assert_int_equal(counts[PROXYPROTO_OWN], 0);
	assert_in_range(counts[PROXYPROTO_CLIENT], 44, 44 + 27 * 10);
	assert_int_equal(counts[PROXYPROTO_MORE], 255);
	size_t n = v2(h, 0x21, 0x11, BYTES(TCP4));
	count_changes(h, n, counts);
	/* 12 bytes of addresses may be any; a longer length waits, a shorter one is bad; LOCAL and
	 * UNSPEC are two changes. */
	assert_int_equal(counts[PROXYPROTO_CLIENT], 12 * 256 + 16);
	assert_int_equal(counts[PROXYPROTO_OWN], 2);
	assert_int_equal(counts[PROXYPROTO_MORE], 243 + PROXYPROTO_MAX / 256 - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_v1),          cmocka_unit_test(test_v1_bad),
	    cmocka_unit_test(test_v2),          cmocka_unit_test(test_v2_bad),
	    cmocka_unit_test(test_v2_checksum), cmocka_unit_test(test_every_change),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
