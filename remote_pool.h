/* remote_pool: sessions with other servers that are kept for the next message to the same place. */
#ifndef REMOTE_POOL_H
#define REMOTE_POOL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "config.h"
#include "remote_login.h"
#include "remote_tls.h"
#include "smtpc.h"

/* "host [address]:port LEVEL" */
#define REMOTE_TEXT (ADDR_DOMAIN_MAX + INET6_ADDRSTRLEN + 20)

/*
 * A session, and what decides whether a message may use it. The first user fills it in, and it is
 * handed on as it is: what was looked up and demanded when it was opened counts for all of its
 * life, which is why that is short.
 */
struct remote_link {
	struct smtpc *client;          /* ready, and without a mail */
	char to[ADDR_DOMAIN_MAX + 32]; /* where to: a domain, the hosts of via, or a smarthost */
	char ehlo[ADDR_DOMAIN_MAX + 1];
	char key[ADDR_DOMAIN_MAX + 1]; /* under which domaininfo knows it; "": not at all */
	char remote[REMOTE_TEXT];
	enum remote_level level;
	struct conf_smarthosts smarthosts; /* held: the login points into them */
	struct remote_login login;         /* of the session: what a peer may not repeat */
	int64_t opened;                    /* loop_now() */
	unsigned messages;                 /* it has taken */
	unsigned epoch;                    /* remote_pool_epoch() when it was opened */

	/* private */
	struct remote_link *next;
};

/* Grows with each remote_pool_clear: links of an older one are not kept. */
unsigned remote_pool_epoch(void);

/* May it take another message: by its age, by how many it had, and by the epoch? */
bool remote_pool_wants(const struct remote_link *l);

/* Takes l, which remote_pool_wants; from now on it closes itself when the peer does, or when nobody
 * takes it for SMTPC_IDLE_MS. Where REMOTE_IDLE_MAX are kept, the one kept longest is closed. May
 * be called from the `done` of its client's mail. */
void remote_pool_keep(struct remote_link *l);

/* The session for this place and EHLO name that was used last, now the caller's, who says so to the
 * client (smtpc_hand_on); NULL when there is none. */
struct remote_link *remote_pool_take(const char *to, const char *ehlo);

/* Closes those kept longest until a new connection makes at most QUEUE_REMOTE_MAX with `in_use` and
 * the kept ones. Not from inside a callback of a session. */
void remote_pool_make_room(size_t in_use);

/* Says QUIT to all and closes them in the background; the configuration has changed. */
void remote_pool_clear(void);

/* Says QUIT, waits for nothing, closes and frees all. */
void remote_pool_done(void);

/* Frees a link that is not kept, with its client, if there is one: at once. NULL is harmless. */
void remote_link_free(struct remote_link *l);

#endif
