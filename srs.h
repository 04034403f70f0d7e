/* srs: sender rewriting: forwarded mail bears a sender of ours, and bounces to it find their way
 * back. */
#ifndef SRS_H
#define SRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "status.h"

struct srs;

#if WITH_TLS

/*
 * Reads DATA_DIR/srs-key, makes it when there is none (durable, mode 0600). Its first line is the
 * key that signs, up to SRS_KEYS_MAX - 1 further ones are those from before, still believed: 32
 * bytes each, in base64. NULL with *st when it cannot be read, is damaged, or others may read it.
 */
struct srs *srs_open(const char *data_dir, struct status *st);
void srs_close(struct srs *s);

/*
 * SRS0=HASH=DAY=DOMAIN=USER at `domain` (normalised, ours) for a foreign sender: HASH is keyed
 * (HMAC-SHA256 over day, domain and user in lower case), DAY counts days modulo 1024 in base32.
 * A sender that is such an address of somebody else becomes SRS1 (only that hop's hash is ours).
 * A local part longer than ADDR_USER_MAX, or on the wire than the 64 octets of RFC 5321 4.5.3.1.1,
 * is refused, as is what would be no address: -1, and the sender stays as it is. now: wall clock,
 * s.
 */
int srs_forward(const struct srs *s, const struct addr *sender, const char *domain, int64_t now,
                struct addr *out);

/* Back to whom it came from. 0; or -1 with *st: 550 5.1.1 wrong hash or older than SRS_DAYS (any
 * day will do while the clock says less than CLOCK_RELEASE). Case may have changed on the way. */
int srs_reverse(const struct srs *s, const char *user, int64_t now, struct addr *out,
                struct status *st);

#else

/* Without TLS there is no hash: nothing is rewritten, and no address of that kind is ours. */
static inline struct srs *srs_open(const char *data_dir, struct status *st)
{
	(void)data_dir;
	status_set(st, 451, "4.3.0", "senders cannot be rewritten: built without TLS");
	return NULL;
}

static inline void srs_close(struct srs *s)
{
	(void)s;
}

static inline int srs_forward(const struct srs *s, const struct addr *sender, const char *domain,
                              int64_t now, struct addr *out)
{
	(void)s, (void)sender, (void)domain, (void)now, (void)out;
	return -1;
}

static inline int srs_reverse(const struct srs *s, const char *user, int64_t now, struct addr *out,
                              struct status *st)
{
	(void)s, (void)user, (void)now, (void)out;
	status_set(st, 550, "5.1.1", "no such address here");
	return -1;
}

#endif

/* Does this local part look like one of ours, whatever its hash? (SRS0 or SRS1 and one of "=-+",
 * any case) */
static inline bool srs_is_mine(const char *user)
{
	return (user[0] == 'S' || user[0] == 's') && (user[1] == 'R' || user[1] == 'r') &&
	       (user[2] == 'S' || user[2] == 's') && (user[3] == '0' || user[3] == '1') &&
	       (user[4] == '=' || user[4] == '-' || user[4] == '+');
}

#endif
