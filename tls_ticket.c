/*
 * tls_ticket: the server's session tickets.
 *
 * A ticket is the session, encrypted by a key of ours, kept by the client and shown with its next
 * hello: a return costs no signature and no key exchange. We keep nothing but two keys, so what
 * clients do cannot fill memory.
 *
 * A key makes tickets for TLS_TICKET_SECONDS and opens them for as long again, then it is wiped:
 * who steals it can read the sessions of twice that time, and no more. Keys are in memory only.
 * They are of one set of certificates: a new certificate has new keys, so that nobody goes on with
 * a session of one that was taken back. A ticket counts for the name that was asked for when it was
 * given, and for no other (RFC 6066 3).
 *
 * The form: key name 4, time of issue 4, nonce 12, AES-256-GCM of the session, tag 16. The name
 * that was asked for is authenticated with it, not part of it. Should the wall clock jump, tickets
 * are too old or from the future, and a full handshake follows.
 *
 * TLS 1.3 gets none: senders of Microsoft's hang up when a ticket comes behind that handshake.
 */
#include "tls_ticket.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(MBEDTLS_SSL_SESSION_TICKETS) && defined(MBEDTLS_SSL_SRV_C) && defined(MBEDTLS_GCM_C)

#include <mbedtls/gcm.h>

#define TICKET_NAME  4
#define TICKET_TIME  4
#define TICKET_NONCE 12
#define TICKET_TAG   16
#define TICKET_HEAD  (TICKET_NAME + TICKET_TIME)
#define TICKET_FRAME (TICKET_HEAD + TICKET_NONCE + TICKET_TAG)
#define TICKET_PLAIN 512 /* a session without certificates has about 100 bytes */

struct tls_ticket_key {
	bool set;
	int64_t born; /* s since 1970 */
	unsigned char name[TICKET_NAME];
	mbedtls_gcm_context gcm;
};

struct tls_tickets {
	struct tls_ticket_key keys[2];
	unsigned newest; /* which makes tickets; the other one only opens them */
};

/* The library does not say which connection it calls back for. */
static struct tls *tls_ticket_of;

void tls_tickets_enter(struct tls *t)
{
	tls_ticket_of = t;
}

/* ---- keys ---- */

static bool tls_ticket_is_within(int64_t begin, int64_t now, int64_t seconds)
{
	return now >= begin && now - begin < seconds;
}

static void tls_ticket_key_wipe(struct tls_ticket_key *k)
{
	if (k->set)
		mbedtls_gcm_free(&k->gcm);
	mbedtls_platform_zeroize(k, sizeof *k);
}

static int tls_ticket_key_make(struct tls_ticket_key *k, int64_t now)
{
	unsigned char secret[32];
	mbedtls_gcm_init(&k->gcm);
	k->set = true;
	k->born = now;
	int rc = tls_random(NULL, secret, sizeof secret);
	if (rc == 0)
		rc = tls_random(NULL, k->name, sizeof k->name);
	if (rc == 0)
		rc = mbedtls_gcm_setkey(&k->gcm, MBEDTLS_CIPHER_ID_AES, secret, 256);
	mbedtls_platform_zeroize(secret, sizeof secret);
	if (rc)
		tls_ticket_key_wipe(k);
	return rc;
}

void tls_tickets_age(struct tls_tickets *k)
{
	int64_t now = (int64_t)time(NULL);
	if (!k)
		return;
	const struct tls_ticket_key *key = &k->keys[k->newest];
	if (key->set && !tls_ticket_is_within(key->born, now, TLS_TICKET_SECONDS)) {
		k->newest = !k->newest;
		tls_ticket_key_wipe(&k->keys[k->newest]);
	}
	struct tls_ticket_key *old = &k->keys[!k->newest];
	if (!tls_ticket_is_within(old->born, now, 2 * (int64_t)TLS_TICKET_SECONDS))
		tls_ticket_key_wipe(old);
}

/* ---- tickets ---- */

static void tls_ticket_put_time(unsigned char *p, int64_t now)
{
	for (int i = 0; i < TICKET_TIME; i++)
		p[i] = (unsigned char)((uint64_t)now >> (24 - 8 * i));
}

/* Seconds since a time that was put, as far as 32 bits tell; many when it is yet to come. */
static uint32_t tls_ticket_get_age(const unsigned char *p, int64_t now)
{
	uint32_t t = 0;
	for (int i = 0; i < TICKET_TIME; i++)
		t = t << 8 | p[i];
	return (uint32_t)now - t;
}

/* What is authenticated with the session: the head, and the name of this connection. */
static size_t tls_ticket_binding(const unsigned char *head, unsigned char *out)
{
	size_t n = strlen(tls_ticket_of->peer.sni);
	memcpy(out, head, TICKET_HEAD);
	memcpy(out + TICKET_HEAD, tls_ticket_of->peer.sni, n);
	return TICKET_HEAD + n;
}

#define TICKET_BINDING (TICKET_HEAD + sizeof tls_ticket_of->peer.sni)

/* The library's callback for a ticket to give. When it fails the client gets none. */
static int tls_ticket_write(void *arg, const mbedtls_ssl_session *session, unsigned char *start,
                            const unsigned char *end, size_t *n, uint32_t *lifetime)
{
	struct tls_tickets *k = arg;
	unsigned char binding[TICKET_BINDING];
	size_t room = (size_t)(end - start);
	int64_t now = (int64_t)time(NULL);
	*n = 0;
	*lifetime = TLS_TICKET_SECONDS;
	if (room < TICKET_FRAME)
		return MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL;
	tls_tickets_age(k);
	struct tls_ticket_key *key = &k->keys[k->newest];
	if (!key->set && tls_ticket_key_make(key, now))
		return MBEDTLS_ERR_SSL_NO_RNG;
	unsigned char *nonce = start + TICKET_HEAD;
	unsigned char *text = nonce + TICKET_NONCE;
	size_t size = room - TICKET_FRAME < TICKET_PLAIN ? room - TICKET_FRAME : TICKET_PLAIN;
	memcpy(start, key->name, TICKET_NAME);
	tls_ticket_put_time(start + TICKET_NAME, now);
	int rc = tls_random(NULL, nonce, TICKET_NONCE);
	if (rc == 0)
		rc = mbedtls_ssl_session_save(session, text, size, &size);
	if (rc == 0)
		rc = mbedtls_gcm_crypt_and_tag(
		    &key->gcm, MBEDTLS_GCM_ENCRYPT, size, nonce, TICKET_NONCE, binding,
		    tls_ticket_binding(start, binding), text, text, TICKET_TAG, text + size);
	if (rc)
		mbedtls_platform_zeroize(start, room);
	else
		*n = TICKET_FRAME + size;
	return rc;
}

static struct tls_ticket_key *tls_ticket_key_of(struct tls_tickets *k, const unsigned char *name)
{
	for (int i = 0; i < 2; i++)
		if (k->keys[i].set && memcmp(k->keys[i].name, name, TICKET_NAME) == 0)
			return &k->keys[i];
	return NULL;
}

/* The library's callback for a ticket that is shown. When it fails a full handshake follows. */
static int tls_ticket_parse(void *arg, mbedtls_ssl_session *session, unsigned char *p, size_t n)
{
	struct tls_tickets *k = arg;
	unsigned char binding[TICKET_BINDING];
	unsigned char plain[TICKET_PLAIN];
	int64_t now = (int64_t)time(NULL);
	if (n <= TICKET_FRAME || n > TICKET_FRAME + TICKET_PLAIN)
		return MBEDTLS_ERR_SSL_INVALID_MAC;
	tls_tickets_age(k);
	struct tls_ticket_key *key = tls_ticket_key_of(k, p);
	if (!key)
		return MBEDTLS_ERR_SSL_INVALID_MAC;
	if (tls_ticket_get_age(p + TICKET_NAME, now) >= TLS_TICKET_SECONDS)
		return MBEDTLS_ERR_SSL_SESSION_TICKET_EXPIRED;
	const unsigned char *nonce = p + TICKET_HEAD;
	const unsigned char *text = nonce + TICKET_NONCE;
	size_t size = n - TICKET_FRAME;
	int rc = mbedtls_gcm_auth_decrypt(&key->gcm, size, nonce, TICKET_NONCE, binding,
	                                  tls_ticket_binding(p, binding), text + size, TICKET_TAG,
	                                  text, plain);
	rc = rc ? MBEDTLS_ERR_SSL_INVALID_MAC : mbedtls_ssl_session_load(session, plain, size);
	mbedtls_platform_zeroize(plain, sizeof plain);
	tls_ticket_of->peer.resumed = rc == 0;
	return rc;
}

struct tls_tickets *tls_tickets_new(mbedtls_ssl_config *conf)
{
	struct tls_tickets *k = TLS_TICKET_SECONDS > 0 ? calloc(1, sizeof *k) : NULL;
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined(MBEDTLS_SSL_PROTO_TLS1_3)
	mbedtls_ssl_conf_new_session_tickets(conf, 0);
	mbedtls_ssl_conf_tls13_key_exchange_modes(conf,
	                                          MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL);
#endif
	if (k)
		mbedtls_ssl_conf_session_tickets_cb(conf, tls_ticket_write, tls_ticket_parse, k);
	return k;
}

void tls_tickets_free(struct tls_tickets *k)
{
	if (!k)
		return;
	tls_ticket_key_wipe(&k->keys[0]);
	tls_ticket_key_wipe(&k->keys[1]);
	free(k);
}

#else

void tls_tickets_enter(struct tls *t)
{
	(void)t;
}

void tls_tickets_age(struct tls_tickets *k)
{
	(void)k;
}

struct tls_tickets *tls_tickets_new(mbedtls_ssl_config *conf)
{
	(void)conf;
	return NULL;
}

void tls_tickets_free(struct tls_tickets *k)
{
	(void)k;
}

#endif
