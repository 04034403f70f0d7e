/* auth: is this the password of that user? Users files first, then Dovecot. */
#ifndef AUTH_H
#define AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "addr.h"
#include "base64.h"
#include "buf.h"
#include "conf.h"
#include "config.h"
#include "loop.h"

enum auth_result {
	AUTH_YES,
	AUTH_NO,
	AUTH_TROUBLE, /* cannot tell now: 454 4.7.0 */
};

/*
 * One question, embedded in its owner, zeroed before its first use. A started question ends in
 * exactly one `done`, from the loop, unless it is cancelled. In `done` the owner may ask again or
 * free the struct.
 */
struct auth {
	enum auth_result result;
	struct addr user; /* with AUTH_YES: who it is, normalised, with the domain that was found;
	                     the domain is empty when only Dovecot knows the bare user */

	/* private */
	void (*done)(void *arg, struct auth *a);
	void *arg;
	struct auth_job *job;
	struct loop_timer timer;
};

#if WITH_TLS && WITH_AUTH

/* Sets up and ends what is shared; loop_init comes before. conf is kept. Before auth_done, which
 * kills the children, all questions are answered or cancelled. */
void auth_init(const struct conf *conf);
void auth_done(void);

/*
 * Asks. id is "user@domain", or a bare user where one domain of ours is unambiguous (the only one
 * that has this user) or Dovecot knows it. peer is who asks, for the throttle. Both strings and the
 * password are copied, the password is wiped after use. Hashing runs in a child, AUTH_CHILDREN at a
 * time; at most AUTH_WAITING questions are undecided, more get AUTH_TROUBLE. AUTH_NO comes at a
 * multiple of AUTH_DELAY_MS, and costs the same hashing for an unknown user as for a known one.
 */
void auth_ask(struct auth *a, struct slice id, struct slice password, const struct dns_addr *peer,
              void (*done)(void *arg, struct auth *a), void *arg);

/* Is there such a user, in our files or for Dovecot? AUTH_YES also without a password (receive
 * only). Neither delay nor throttle: for RCPT. */
void auth_exists(struct auth *a, const struct addr *user, void (*done)(void *arg, struct auth *a),
                 void *arg);

/* No callback comes any more. Harmless on an idle or zeroed struct. */
void auth_cancel(struct auth *a);

/* False while an address (of IPv6: its /64) has failed too often lately: AUTH_FAILURES_MAX, of
 * which one is forgotten every AUTH_FORGET_MS; open questions count until they are answered. The
 * door then says 421 or refuses AUTH. */
bool auth_may_try(const struct dns_addr *peer);

/* SASL PLAIN (RFC 4616): base64 to id and password. authzid, when given, must equal authcid.
 * The slices point into out, which is cleared before. 0, or -1 with *why in plain words. */
int auth_plain_decode(struct slice base64, struct buf *out, struct slice *id,
                      struct slice *password, const char **why);

#else

/* No password is asked for. */
static inline void auth_init(const struct conf *conf)
{
	(void)conf;
}

static inline void auth_done(void)
{
}

static inline void auth_cancel(struct auth *a)
{
	(void)a;
}

#endif
#endif
