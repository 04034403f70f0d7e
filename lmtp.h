/* lmtp: the courier for local mail that another server keeps (RFC 2033). */
#ifndef LMTP_H
#define LMTP_H

#include "courier.h"

/*
 * The server at conf->lmtp_address; conf is kept. All recipients of a delivery go in one
 * transaction, with the content as it is: the server adds Return-Path and what else it wants.
 *
 * Verdicts: 5yz about the message or a recipient is permanent; all else is transient, also when the
 * server as such refuses (greeting, LHLO), for that is not the mail's fault. `remote` is
 * "host [address]:port LMTP", or "HOSTNAME unix:PATH" with our own name; "" when nobody was
 * reached for. stop must not be called from inside verdict.
 */
struct courier courier_lmtp(const struct conf *conf);

#endif
