/* tls_ticket: clients of ours that come back take up their last session (RFC 5077). */
#ifndef TLS_TICKET_H
#define TLS_TICKET_H

#include "tls_int.h"

/* The keys of a server's tickets; they go with its certificates. */
struct tls_tickets;

/* Makes the server give tickets, and take them back, for connections of TLS 1.2; those of TLS 1.3
 * get none. NULL: it gives none, for want of memory, because the library cannot, or because
 * TLS_TICKET_SECONDS is 0; that is no fault. The tickets outlive conf. */
struct tls_tickets *tls_tickets_new(mbedtls_ssl_config *conf);
void tls_tickets_free(struct tls_tickets *k);

/* Wipes keys that are too old; to be called now and then. k may be NULL. */
void tls_tickets_age(struct tls_tickets *k);

/* The library is about to work on this connection: what it calls back is about it. */
void tls_tickets_enter(struct tls *t);

#endif
