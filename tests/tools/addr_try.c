/*
 * addr_try: shows what addr makes of names. Reads lines "d HEX" (a domain) and "u HEX" (a local
 * part); writes one line for each: "HEX HEX" (normal form and A-labels), "HEX" (the key), or "-"
 * for what is refused. HEX is the bytes of the name in hexadecimal.
 */
#include <stdio.h>
#include <string.h>

#include "addr.h"

/* Decodes hexadecimal digits up to the end of the line. Returns the number of bytes, or -1. */
static int unhex(const char *in, char *out, size_t size)
{
	size_t n = 0;
	unsigned byte;

	for (; in[0] && in[0] != '\n'; in += 2) {
		if (n + 1 >= size || sscanf(in, "%2x", &byte) != 1)
			return -1;
		out[n++] = (char)byte;
	}
	out[n] = '\0';
	return (int)n;
}

static void put_hex(const char *s, char after)
{
	for (; *s; s++)
		printf("%02x", (unsigned char)*s);
	putchar(after);
}

static void try_domain(const char *name, size_t n)
{
	char normal[ADDR_DOMAIN_MAX + 1];
	char ascii[ADDR_DOMAIN_MAX + 1];

	if (addr_domain_normalise((struct slice){name, n}, normal, sizeof(normal)) != 0 ||
	    addr_domain_to_ascii(normal, ascii, sizeof(ascii)) != 0) {
		puts("-");
		return;
	}
	put_hex(normal, ' ');
	put_hex(ascii, '\n');
}

static void try_user(const char *user)
{
	char key[ADDR_USER_MAX + 1];

	if (addr_user_key(user, key, sizeof(key)) != 0)
		puts("-");
	else
		put_hex(key, '\n');
}

int main(void)
{
	static char line[8192];
	static char name[sizeof(line)];

	while (fgets(line, sizeof(line), stdin)) {
		int n = strlen(line) > 2 ? unhex(line + 2, name, sizeof(name)) : -1;

		if (n < 0)
			return 1;
		if (line[0] == 'd')
			try_domain(name, (size_t)n);
		else
			try_user(name);
	}
	return 0;
}
