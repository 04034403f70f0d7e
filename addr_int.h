/* addr_int: what the files of addr share, and nobody else. */
#ifndef ADDR_INT_H
#define ADDR_INT_H

#include "addr.h"

/* Limits of a name in the DNS, in octets of its text form (RFC 1035 2.3.4). */
#define ADDR_LABEL_MAX 63
#define ADDR_NAME_MAX  253

static inline bool addr_char_is_ascii(char c)
{
	return (unsigned char)c < 0x80;
}

static inline char addr_char_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static inline bool addr_char_is_alnum(char c)
{
	char l = addr_char_lower(c);

	return (c >= '0' && c <= '9') || (l >= 'a' && l <= 'z');
}

/* Copies n bytes as a string. Returns 0, or -1 when they do not fit. */
int addr_copy(char *out, size_t size, const char *p, size_t n);

/* Is s made of labels of 1 to 63 letters, digits, underscores and hyphens, the last not at the
 * ends, 253 octets in all and no final dot? */
bool addr_is_dns_name(const char *s);

#if WITH_IDN

/* A name in lower case that is well-formed UTF-8 or has A-labels -> its normal form
 * (addr_domain_normalise). Returns 0, or -1. */
int addr_idn_normalise(const char *name, char *out, size_t size);

/* The same -> A-labels. Returns 0, or -1. */
int addr_idn_to_ascii(const char *name, char *out, size_t size);

/*
 * A word of a local part (ASCII letters and digits, anything that is not ASCII; n bytes of
 * well-formed UTF-8, at most ADDR_USER_MAX) -> its form in the key: width and case mapped, NFC.
 * Returns 0, or -1 when RFC 8265 does not allow it or it does not fit.
 */
int addr_idn_fold(const char *word, size_t n, char *out, size_t size);

#else

static inline int addr_idn_normalise(const char *name, char *out, size_t size)
{
	(void)name;
	(void)out;
	(void)size;
	return -1;
}

static inline int addr_idn_to_ascii(const char *name, char *out, size_t size)
{
	return addr_idn_normalise(name, out, size);
}

static inline int addr_idn_fold(const char *word, size_t n, char *out, size_t size)
{
	(void)n;
	return addr_idn_normalise(word, out, size);
}

#endif

#endif
