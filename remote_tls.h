/* remote_tls: how well a connection must be protected, how well it is, and what follows. */
#ifndef REMOTE_TLS_H
#define REMOTE_TLS_H

#include <stdbool.h>

#include "conf.h"
#include "smtpc.h"
#include "status.h"
#include "tls.h"

/* From the weakest to the strongest. */
enum remote_level {
	REMOTE_PLAIN,
	REMOTE_TLS_INSECURE, /* encrypted, but with whom? */
	REMOTE_TLS_SECURE,   /* and the certificate is good: chain and name, or the pinned one */
};

/* "PLAIN", "TLS_INSECURE", "TLS_SECURE". */
const char *remote_level_name(enum remote_level level);

/* What a host must come up to. */
struct remote_policy {
	enum smtpc_tls tls;
	enum remote_level min;
	const unsigned char
	    *pinned; /* SHA-256 of the only certificate accepted; NULL: by its chain */
};

/* The policy for a mail host of a domain (normalised): TLS whenever it is offered. */
struct remote_policy remote_policy_for(const char *domain, const char *host);

/* The policy for a smarthost: as it is configured. s is kept. */
struct remote_policy remote_policy_smarthost(const struct conf_smarthost *s);

/* Judges what the handshake with `host` brought: *level is what the connection is worth. 0 when the
 * policy is content; else -1 and *st (transient) says what is wrong. */
int remote_policy_judge(const struct remote_policy *p, const char *host,
                        const struct tls_peer *peer, enum remote_level *level, struct status *st);

/* After TLS could not be begun with a host that offers it: may it be tried again without? */
bool remote_policy_allows_plain(const struct remote_policy *p);

#endif
