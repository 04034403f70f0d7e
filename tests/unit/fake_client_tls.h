/* fake_client_tls: TLS without cryptography for tests of the SMTP client: bytes stay as they are,
 * what the handshake brings is what the test says. */
#ifndef FAKE_CLIENT_TLS_H
#define FAKE_CLIENT_TLS_H

#include "tls.h"

struct fake_client_tls {
	/* What is to happen. */
	struct tls_peer peer;
	bool fails; /* the handshake */
	/* What happened. */
	int open;       /* struct tls not freed */
	int handshakes; /* connections begun */
	char name[300]; /* asked for last */
};

extern struct fake_client_tls fake_client_tls;

#endif
