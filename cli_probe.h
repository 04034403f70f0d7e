/* cli_probe: talks to an SMTP server to see how it answers; for tools, which wait. */
#ifndef CLI_PROBE_H
#define CLI_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "dns.h"
#include "smtpc.h"
#include "smtpreply.h"
#include "tls.h"

/* What to do. All is kept until cli_probe returns. */
struct cli_probe_ask {
	struct dns_addr addr;
	uint16_t port;
	enum smtpc_tls tls; /* STARTTLS is used when it is offered */
	struct tls_roots *roots;
	const char *name; /* for SNI and the check of the certificate */
	const char *ehlo;
	const char
	    *rcpt;    /* a path for the wire, "<user@domain>": MAIL FROM:<> and RCPT TO; or NULL */
	bool proxied; /* the header of a proxy, without a client, goes first */
	int64_t end;  /* loop_now() at which it is over in any case */
	/* May be NULL. A line as it went ('>': ours, '<': theirs, '*': a remark), made harmless. */
	void (*line)(void *arg, char direction, const char *text);
	/* May be NULL. After the handshake, before the first command under it. */
	void (*secured)(void *arg, const struct tls *t);
	void *arg;
};

enum cli_probe_step {
	PROBE_CONNECT,
	PROBE_HANDSHAKE, /* at once, or after STARTTLS */
	PROBE_GREETING,
	PROBE_EHLO,
	PROBE_STARTTLS,
	PROBE_MAIL,
	PROBE_RCPT,
	PROBE_QUIT,
	PROBE_OVER
};

/* What came of it. */
struct cli_probe {
	enum cli_probe_step failed; /* the step that did not go well; PROBE_OVER: all did */
	char why[STATUS_TEXT_MAX];  /* in plain words; "" when all went well */
	int code;                   /* of the reply that was a refusal, or 0 */
	char greeting[256];         /* what the server calls itself, or "" */
	bool offers_tls;            /* STARTTLS, before TLS */
	bool secured;
	struct tls_peer peer; /* when secured; `why` below is in it */
	char peer_why[256];
	struct smtp_caps caps; /* of the last EHLO */
};

/* Connects, talks as far as QUIT, and closes; each step has CLI_PROBE_MS. Runs the loop meanwhile.
 * Returns 0 when all went well, STARTTLS that is not offered included, else -1. */
int cli_probe(const struct cli_probe_ask *ask, struct cli_probe *out);

/* Runs the loop until *done, or end (loop_now()). False: time is up. */
bool cli_probe_wait(const bool *done, int64_t end);

/* A question to DNS, waited for. q is zeroed before its first use, and ended with dns_cancel. When
 * time is up the result is DNS_TIMEOUT. */
enum dns_result cli_probe_addresses(struct dns_query *q, const char *name, int64_t end);
enum dns_result cli_probe_family(struct dns_query *q, const char *name, sa_family_t family,
                                 int64_t end);
enum dns_result cli_probe_mx(struct dns_query *q, const char *name, int64_t end);
enum dns_result cli_probe_txt(struct dns_query *q, const char *name, int64_t end);
enum dns_result cli_probe_ptr(struct dns_query *q, const struct dns_addr *a, int64_t end);
enum dns_result cli_probe_tlsa(struct dns_query *q, const char *host, uint16_t port, int64_t end);

#endif
