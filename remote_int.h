/* remote_int: what the files of the SMTP courier share: the attempt. */
#ifndef REMOTE_INT_H
#define REMOTE_INT_H

#include "addr.h"
#include "config.h"
#include "masquerade.h"
#include "remote.h"
#include "remote_login.h"
#include "remote_pool.h"
#include "remote_tls.h"
#include "smtpc.h"

struct remote_host {
	const char *name;
	const struct conf_smarthost *smart; /* NULL: any other host */
	unsigned preference;
	uint16_t port;
	bool known;          /* its addresses need no look-up */
	bool secure;         /* DNSSEC vouches for the way from the domain to its addresses */
	enum remote_sts sts; /* what the domain's MTA-STS policy says of it */
	char *canonical;     /* where its name leads by CNAME; NULL: nowhere */
	size_t count;
	struct dns_addr addr[REMOTE_ADDRS_MAX];
};

struct attempt {
	struct attempt *next; /* the one that began before it */
	struct delivery *d;
	struct conf_smarthosts smarthosts; /* held while hosts point into them */
	char *via;                         /* keeps the name of the host, where `mx` does not */
	size_t host_count;
	size_t resolved;        /* hosts before this one have been looked up */
	size_t at_host;         /* the position */
	size_t at_addr;         /* the address to try next */
	size_t first_smarthost; /* that matches; only its sessions are kept */
	bool fixed;             /* the hosts and their order are the operator's, not DNS's */
	bool loop;              /* a host was left out because it is us */
	bool without_tls;       /* the next try is a second one of the same address, plain */
	bool reached;   /* a host has refused the message, for now, and not the connection */
	bool noted;     /* that this connection failed; said once, not for each recipient */
	bool mx_secure; /* DNSSEC vouches for the list of hosts, or there is none */
	bool answered;  /* a session was ready */
	bool crowded;   /* a host says that it has too many connections */
	bool waiting;   /* for one that another attempt has */
	bool masked;    /* the message is read through `content` */
	/* Of the host at the position: */
	bool dane_known;          /* looked up, or not to be */
	bool logged_in;           /* the login is there */
	enum remote_level level;  /* of the connection */
	const char *fault;        /* why it is not TLS_SECURE; "" when it is, or plain */
	const char *tlsa_base;    /* the name whose records are in `dane` (RFC 7672 2.2.2) */
	const char *tls_names[3]; /* for dane_match */

	struct smtpc *client;
	struct remote_link *link; /* of the client, when it was taken from the pool; else NULL */
	int64_t begun;            /* loop_now() */
	int64_t moved;            /* when the ladder was stepped on last */
	int64_t patience;         /* when it has waited long enough; 0: it has not begun */
	unsigned epoch;           /* of the pool when it began */
	struct spool_reader *reader;
	size_t open;       /* recipients without verdict */
	bool *settled;     /* by position in d->rcpts */
	size_t *sent_rcpt; /* position in d->rcpts, by position in mail.rcpt */
	const char **sent_address;
	struct loop_timer kick;
	struct smtpc_mail mail;
	struct masquerade content;
	struct dns_query mx; /* keeps the names of the hosts */
	struct dns_query lookup;
	struct remote_host host[REMOTE_HOSTS_MAX];
	struct status failure; /* of hosts so far, the one that counts; code 0 when none */
	char failure_remote[REMOTE_TEXT];
	char remote[REMOTE_TEXT]; /* of the connection, */
	size_t remote_len;        /* and so much of it without the level */
	char address[INET6_ADDRSTRLEN];
	char from[ADDR_TEXT_MAX];
	char domain[ADDR_DOMAIN_MAX + 1];
	char ehlo[ADDR_DOMAIN_MAX + 1];
	char to[ADDR_DOMAIN_MAX + 32]; /* for the pool; "": no session is taken or kept */
	struct sts_query sts;
	/* Of the host at the position: */
	struct dane_records dane;
	char key[ADDR_DOMAIN_MAX + 1]; /* under which domaininfo knows it; "": not at all */
	struct remote_policy policy;
	struct remote_login login;
};

/* What courier_remote() was given. */
extern struct remote_self {
	struct remote_setup setup;
	char domain[ADDR_DOMAIN_MAX + 1]; /* our host name, normalised */
	size_t sessions;                  /* of attempts */
} remote_self;

/* ---- remote.c ---- */

/* Goes on with the attempt: the next look-up, the next address, or the end. */
void remote_advance(struct attempt *a);

/* Notes that a host failed. One transient failure makes the whole attempt transient. */
void remote_note(struct attempt *a, const struct status *st, const char *remote);

/* All recipients still open get this, and the attempt ends; it is gone afterwards. */
void remote_finish_with(struct attempt *a, const struct status *st, const char *remote);

#endif
