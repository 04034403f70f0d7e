/* remote: the SMTP courier: which hosts to try, in which order, and how securely. */
#ifndef REMOTE_H
#define REMOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "conf.h"
#include "courier.h"
#include "dns.h"
#include "domaininfo.h"
#include "sts.h"
#include "tls.h"

/* What it works with; all is kept. Any pointer but conf and is_ours may be NULL: then nothing is
 * trusted, remembered, or asked of MTA-STS. */
struct remote_setup {
	const struct conf *conf;
	struct tls_roots *roots;
	/* Do we listen on an address? */
	bool (*is_ours)(const struct dns_addr *a, uint16_t port);
	struct domaininfo *domaininfo;
	struct sts *sts;
};

/*
 * The courier for recipients that are not ours. All of a delivery go the same way, in one
 * transaction: to the hosts of the first recipient's `via` ("host" or "host:port"; A and AAAA of
 * each, in that order); else to the smarthosts that match the sender; else to an address literal;
 * or to the mail hosts of d->domain: MX, or A and AAAA when there is no MX (RFC 5321 5.1). At most
 * REMOTE_HOSTS_MAX hosts with REMOTE_ADDRS_MAX addresses each, at the port conf->remote_smtp_port
 * where none is said. The sender, in envelope and header, is given the name that masquerade says.
 *
 * Verdicts: no such domain, null MX (RFC 7505) and 5yz of a host about message or recipient are
 * permanent; other DNS trouble is transient; when hosts as such fail (no connection, greeting,
 * EHLO, a lost link) it is permanent if all of them said 5yz. What a host says of one recipient
 * holds for this attempt; the recipients left open by a failing host go to the next. `remote` is
 * "host [address]:port LEVEL" (remote_level_name), "" when no host was reached for. A smarthost's
 * wrong certificate, refused login or missing password is transient.
 *
 * A host that does not come up to what DANE, MTA-STS or domaininfo demand (remote_tls.h) gets no
 * mail: transient, and the next host is tried. How well protected the mail was is noted for
 * d->domain, or the host of `via`; smarthosts go by their configuration alone.
 *
 * A connection that has delivered is kept for the next message to the same domain, hosts of `via`
 * or smarthost (remote_pool.h), which then goes without look-ups. Where it turns out to be of no
 * use, the delivery begins as if there had been none, and nothing is counted or noted.
 *
 * A host that is_ours (or one with our name), and for MX those no more preferred, are left out; 554
 * 5.4.6 when none remains. One instance a process; *setup is copied. stop must not be called from
 * inside verdict.
 */
struct courier courier_remote(const struct remote_setup *setup);

/* The configuration has changed, or what it names: connections kept are not used any more. */
void remote_reload(void);

/* The end: says QUIT to the servers whose connections are kept. When no delivery is under way. */
void remote_close(void);

#endif
