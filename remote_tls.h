/* remote_tls: how well a connection must be protected, how well it is, and what follows. */
#ifndef REMOTE_TLS_H
#define REMOTE_TLS_H

#include <stdbool.h>

#include "conf.h"
#include "dane.h"
#include "domaininfo.h"
#include "smtpc.h"
#include "status.h"
#include "sts.h"
#include "tls.h"

/* From the weakest to the strongest. */
enum remote_level {
	REMOTE_PLAIN,
	REMOTE_TLS_INSECURE, /* encrypted, but with whom? */
	REMOTE_TLS_SECURE,   /* and the certificate is good: chain and name, or the pinned one, or
	                        one that DANE names */
};

/* "PLAIN", "TLS_INSECURE", "TLS_SECURE". */
const char *remote_level_name(enum remote_level level);

/* Who demands something of a connection, in the order of authority. */
enum remote_authority {
	REMOTE_BY_DANE,
	REMOTE_BY_STS,
	REMOTE_BY_DOMAININFO,
	REMOTE_BY_NOBODY, /* opportunistic: TLS when it is offered */
	REMOTE_BY_CONF,   /* the operator, for a smarthost */
	REMOTE_AUTHORITIES
};

/* "DANE", "MTA-STS", "domaininfo", "opportunistic", "configuration". */
const char *remote_authority_name(enum remote_authority by);

/* What a domain's MTA-STS policy means for one host. */
enum remote_sts {
	REMOTE_STS_NONE,
	REMOTE_STS_TESTING, /* asks for nothing; what it would refuse is reported */
	REMOTE_STS_TESTING_UNLISTED,
	REMOTE_STS_ENFORCE,
	REMOTE_STS_ENFORCE_UNLISTED,
	REMOTE_STS_STATES
};

/* What the authorities know of a mail host before it is tried. Zero: nothing. */
struct remote_known {
	enum dane_state dane;
	enum remote_sts sts;
	enum domaininfo_level level; /* of the domain, outgoing */
};

/* What a host must come up to. */
struct remote_policy {
	enum smtpc_tls tls;
	enum remote_level min;
	enum remote_authority by;
	const char *refused;     /* why it may not be used now, whatever it brings; NULL: it may */
	enum remote_sts testing; /* one of the TESTING states when there is something to report */
	bool by_tlsa;            /* the certificate is judged by the records below */
	const struct dane_records *dane;
	const char *const *names; /* for dane_match */
	size_t name_count;
	const unsigned char *pinned; /* SHA-256 of the only certificate accepted; NULL: by its chain
	                              */
};

/* The order of authority: the policy for a mail host. With by_tlsa the caller fills in dane and
 * names, which are kept. */
struct remote_policy remote_policy_for(const struct remote_known *known);

/* The policy for a smarthost: as it is configured. s is kept. */
struct remote_policy remote_policy_smarthost(const struct conf_smarthost *s);

/* Judges what a handshake brought: *level is what the connection is worth, *why (else "") why it is
 * not TLS_SECURE; it lives as long as t. 0 when the policy is content, else -1. */
int remote_policy_judge(const struct remote_policy *p, const struct tls *t,
                        enum remote_level *level, const char **why);

/* The status, transient, of a host that does not come up to the policy. why: what is wrong. */
void remote_policy_refuse(const struct remote_policy *p, const char *host, enum remote_level got,
                          const char *why, struct status *st);

/* After TLS could not be begun with a host that offers it: may it be tried again without? */
bool remote_policy_allows_plain(const struct remote_policy *p);

/* What the MTA-STS policy in testing mode would have refused the connection for; NULL: nothing. */
const char *remote_policy_reports(const struct remote_policy *p, enum remote_level got);

/* The same level as domaininfo has it. */
enum domaininfo_level remote_level_known_as(enum remote_level level);

#endif
