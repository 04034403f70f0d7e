/* smtpd: one SMTP server session (RFC 5321, 6152, 1870, 2034, 2920, 3207, 4954, 6409): a function
 * of bytes. */
#ifndef SMTPD_H
#define SMTPD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "io.h"
#include "queue.h"
#include "rate.h"
#include "spool.h"
#include "srs.h"
#include "tls.h"

/* What a session needs to know of the world. All is kept. */
struct smtpd_setup {
	const struct conf *conf;
	struct spool *spool;
	struct queue *queue;
	struct tls_certs *certs;       /* NULL or empty: neither TLS nor AUTH is offered */
	struct rate *rate;             /* counts messages of trusted hosts; NULL: nobody does */
	struct domaininfo *domaininfo; /* NULL: nothing is remembered */
	struct srs *srs;      /* NULL: no bounce to a rewritten sender finds its way back */
	int64_t (*now)(void); /* wall clock, s */
	bool stopping;        /* answer 421 at the next command */
};

enum smtpd_mode {
	SMTPD_MX,         /* anybody, for our domains; relays for trusted networks and logins */
	SMTPD_SUBMISSION, /* users who log in; relays (RFC 6409) */
	SMTPD_LOCAL, /* the UNIX socket: a user of this machine, known by credentials; relays */
};

/* Who is at the other end. */
struct smtpd_peer {
	enum smtpd_mode mode;
	struct dns_addr addr; /* its address; not LOCAL */
	uint16_t port;
	bool tls;     /* TLS begins with the first byte (RFC 8314) */
	bool trusted; /* may relay without login; MX only */
	bool proxied; /* `proxy` has passed the connection on, and says who it is */
	bool unknown; /* or does not: addr is the proxy's own, which says nothing of the client */
	struct dns_addr proxy;
	char user[64]; /* LOCAL: login name, or "uid N" */
};

struct smtpd;

/*
 * A session on a closed stream of its own (smtpd_io). peer is copied. `ended` is called once, from
 * the loop, when the stream is closed and the session about to be freed: also when the peer is lost
 * while a message is being committed, and then only after the commit. NULL when there is no memory.
 */
struct smtpd *smtpd_new(const struct smtpd_setup *setup, const struct smtpd_peer *peer,
                        void (*ended)(void *arg), void *arg);

/* Its stream, for io_open, and for tests. Call smtpd_start once it is open: that writes the
 * greeting, or begins the handshake, and from then on the session lives on the stream's events. */
struct io *smtpd_io(struct smtpd *s);
void smtpd_start(struct smtpd *s);

/* Ends the session at its next command with 421 (at once when it is idle between commands). A
 * message under way is still taken. `ended` does not come from inside this call. */
void smtpd_ask_to_leave(struct smtpd *s);

/* How long, in ms, it has brought no message, nor LISTEN_WORTH bytes of one a second, for who needs
 * its place; -1 when the place is its own: a trusted host, a user who is logged in, or one that
 * waits for us. */
int64_t smtpd_fruitless_ms(const struct smtpd *s);

/* Ends it for another client's sake: says 421 as well as it goes without waiting, closes and frees
 * at once, without `ended`. Only where smtpd_fruitless_ms is not -1. */
void smtpd_turn_out(struct smtpd *s);

/* True when the last reply was given and only the closing of the stream is waited for. */
bool smtpd_is_ending(const struct smtpd *s);

/* Closes and frees at once, without `ended`. A message that is not acknowledged yet is dropped. */
void smtpd_free(struct smtpd *s);

#endif
