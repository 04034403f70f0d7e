/*
 * tls: one connection's TLS.
 *
 * Nothing here waits: a step does what it can with the bytes that are there and says what it wants.
 * A step takes at most TLS_STEP bytes from the socket, so a peer that sends handshake messages or
 * tickets without end gets its turn like all others, and no more.
 *
 * The library encrypts a piece once and wants it offered again, as long as it was, until it is
 * gone; `writing` remembers that length, since more may have been put behind it. While such a piece
 * is under way nothing else may be sent: what the library itself wants to say in a read (an alert)
 * and cannot is therefore a failure, not something to wait for.
 *
 * A peer can make us hold one record each way: about 45 KB a connection.
 */
#include "tls_int.h"

#include <arpa/inet.h>
#include <errno.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mbedtls/net_sockets.h>

#include "tls_ticket.h"

/* ---- the library ---- */

int tls_random(void *unused, unsigned char *p, size_t n)
{
	(void)unused;
	while (n > 0) {
		/* Never waits: a board that has just booted fails a handshake instead. */
		ssize_t got = getrandom(p, n, GRND_NONBLOCK);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return MBEDTLS_ERR_SSL_NO_RNG;
		p += got;
		n -= (size_t)got;
	}
	return 0;
}

int tls_lib_start(void)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined(MBEDTLS_PSA_CRYPTO_C)
	return psa_crypto_init() == PSA_SUCCESS ? 0 : -1; /* harmless when done already */
#else
	return 0;
#endif
}

void tls_library(char *out, size_t size)
{
	snprintf(out, size, "mbedtls %s", MBEDTLS_VERSION_STRING);
}

/*
 * What we speak, best first. ECDSA comes before RSA, since that is how the server's certificate is
 * chosen; ChaCha20 before AES, for which most routers have no hardware. No key exchange without
 * forward secrecy; CBC is for old peers, whose alternative would be no TLS at all.
 */
static const int tls_suites[] = {
    0x1303, /* TLS 1.3: ChaCha20-Poly1305, AES-128-GCM, AES-256-GCM */
    0x1301,
    0x1302,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
};

#define TLS_SUITES (sizeof tls_suites / sizeof tls_suites[0])

/* Those of them that the library was built with: it takes an unknown one for a fault of its own. */
static const int *tls_suites_here(void)
{
	static int here[TLS_SUITES + 1];
	size_t n = 0;
	for (size_t i = 0; i < TLS_SUITES; i++) {
		const int *s = mbedtls_ssl_list_ciphersuites();
		while (*s != 0 && *s != tls_suites[i])
			s++;
		if (*s != 0)
			here[n++] = *s;
	}
	return here;
}

/*
 * 3.6 as a client offers RSA-PSS before PKCS #1, as TLS 1.3 needs it, but cannot check PSS when the
 * server then speaks TLS 1.2 and takes the first it likes. So PKCS #1, which TLS 1.3 passes over,
 * comes first.
 */
static void tls_order_signatures(mbedtls_ssl_config *conf)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
	static const uint16_t order[] = {
	    MBEDTLS_TLS1_3_SIG_ECDSA_SECP256R1_SHA256, MBEDTLS_TLS1_3_SIG_ECDSA_SECP384R1_SHA384,
	    MBEDTLS_TLS1_3_SIG_ECDSA_SECP521R1_SHA512, MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA256,
	    MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA384,       MBEDTLS_TLS1_3_SIG_RSA_PKCS1_SHA512,
	    MBEDTLS_TLS1_3_SIG_RSA_PSS_RSAE_SHA256,    MBEDTLS_TLS1_3_SIG_RSA_PSS_RSAE_SHA384,
	    MBEDTLS_TLS1_3_SIG_RSA_PSS_RSAE_SHA512,    MBEDTLS_TLS1_3_SIG_NONE,
	};
	mbedtls_ssl_conf_sig_algs(conf, order);
#else
	(void)conf;
#endif
}

/* Groups for the key exchange and for ECDSA certificates. The server's order decides, and the
 * library's own begins with the slowest: P-256 first halves the cost of a handshake. */
static void tls_order_groups(mbedtls_ssl_config *conf)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
	static const uint16_t order[] = {
	    MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1, MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
	    MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1, MBEDTLS_SSL_IANA_TLS_GROUP_SECP521R1,
	    MBEDTLS_SSL_IANA_TLS_GROUP_NONE};
	mbedtls_ssl_conf_groups(conf, order);
#else
	static const mbedtls_ecp_group_id order[] = {
	    MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_CURVE25519, MBEDTLS_ECP_DP_SECP384R1,
	    MBEDTLS_ECP_DP_SECP521R1, MBEDTLS_ECP_DP_NONE};
	mbedtls_ssl_conf_curves(conf, order);
#endif
}

int tls_config_init(mbedtls_ssl_config *conf, int endpoint)
{
	mbedtls_ssl_config_init(conf);
	int rc = mbedtls_ssl_config_defaults(conf, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM,
	                                     MBEDTLS_SSL_PRESET_DEFAULT);
	if (rc != 0)
		return rc;
	tls_lib_least(conf);
	mbedtls_ssl_conf_rng(conf, tls_random, NULL);
	mbedtls_ssl_conf_ciphersuites(conf, tls_suites_here());
	tls_order_groups(conf);
	if (endpoint == MBEDTLS_SSL_IS_CLIENT)
		tls_order_signatures(conf);
#if defined(MBEDTLS_SSL_SESSION_TICKETS) && defined(MBEDTLS_SSL_CLI_C)
	/* For the client end: what a server's certificate was worth would have to be kept with each
	 * session, and a connection to a server serves many messages anyway. */
	mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
#endif
#if defined(MBEDTLS_SSL_RENEGOTIATION)
	mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
#endif
	return 0;
}

/* ---- names ---- */

static bool tls_is_label_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_';
}

bool tls_is_host(const char *p, size_t n)
{
	size_t label = 0;
	bool letter = false; /* in the last label: 192.0.2.1 is no name */
	if (n == 0 || n > 253)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '.') {
			if (label == 0 || i + 1 == n)
				return false;
			label = 0;
			letter = false;
			continue;
		}
		if (!tls_is_label_char(p[i]) || ++label > 63)
			return false;
		letter = letter || p[i] > '9' || p[i] == '-';
	}
	return letter;
}

/* Is this name of a certificate the host's? A wildcard stands for the whole first label only. */
static bool tls_name_is(const mbedtls_x509_buf *b, const char *host)
{
	const char *p = (const char *)b->p;
	size_t n = b->len;
	if (n > 2 && p[0] == '*' && p[1] == '.') {
		const char *dot = strchr(host, '.');
		if (!dot || dot == host)
			return false;
		host = dot;
		p++;
		n--;
	}
	return n > 0 && strlen(host) == n && strncasecmp(p, host, n) == 0;
}

/* The next name of a host in the certificate: alternative names (dNSName), then common names.
 * *state is 0 at first; NULL at the end. */
static const mbedtls_x509_buf *tls_cert_name(const mbedtls_x509_crt *crt, size_t *state)
{
	static const unsigned char common_name[] = {0x55, 0x04, 0x03};
	const unsigned dns_name = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2;
	size_t i = 0;
	for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s; s = s->next)
		if (s->buf.p && (unsigned)s->buf.tag == dns_name && i++ == *state)
			return (*state)++, &s->buf;
	for (const mbedtls_x509_name *s = &crt->subject; s; s = s->next)
		if (s->oid.p && s->oid.len == sizeof common_name &&
		    memcmp(s->oid.p, common_name, sizeof common_name) == 0 && i++ == *state)
			return (*state)++, &s->val;
	return NULL;
}

bool tls_cert_names(const mbedtls_x509_crt *crt, const char *host)
{
	size_t state = 0;
	for (const mbedtls_x509_buf *b; (b = tls_cert_name(crt, &state));)
		if (tls_name_is(b, host))
			return true;
	return false;
}

bool tls_cert_is_for(const mbedtls_x509_crt *crt, const char *host)
{
	if (crt->subject_alt_names.buf.p == NULL)
		return tls_cert_names(crt, host);
	const unsigned dns_name = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2;
	for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s; s = s->next)
		if ((unsigned)s->buf.tag == dns_name && tls_name_is(&s->buf, host))
			return true;
	return false;
}

void tls_cert_first_name(const mbedtls_x509_crt *crt, char *out, size_t size)
{
	size_t state = 0;
	const mbedtls_x509_buf *b = tls_cert_name(crt, &state);
	snprintf(out, size, "%.*s", b ? (int)b->len : 0, b ? (const char *)b->p : "");
}

/* ---- files ---- */

void tls_stamp_get(struct tls_stamp *s, const char *path)
{
	struct stat st;
	*s = (struct tls_stamp){0};
	if (stat(path, &st))
		return;
	s->sec = (int64_t)st.st_mtim.tv_sec;
	s->nsec = (int64_t)st.st_mtim.tv_nsec;
	s->change_sec = (int64_t)st.st_ctim.tv_sec;
	s->change_nsec = (int64_t)st.st_ctim.tv_nsec;
	s->size = (int64_t)st.st_size;
	s->dev = (uint64_t)st.st_dev;
	s->ino = (uint64_t)st.st_ino;
}

bool tls_stamp_same(const struct tls_stamp *a, const struct tls_stamp *b)
{
	return a->sec == b->sec && a->nsec == b->nsec && a->change_sec == b->change_sec &&
	       a->change_nsec == b->change_nsec && a->size == b->size && a->dev == b->dev &&
	       a->ino == b->ino;
}

/* ---- the socket, for the library ---- */

static int tls_sock_error(struct tls *t, int code, int again)
{
	if (errno == EAGAIN || errno == EINTR)
		return again;
	t->sock_error = errno;
	return code;
}

static int tls_sock_send(void *arg, const unsigned char *p, size_t n)
{
	struct tls *t = arg;
	ssize_t put = write(t->fd, p, n);
	if (put < 0)
		return tls_sock_error(t, MBEDTLS_ERR_NET_SEND_FAILED, MBEDTLS_ERR_SSL_WANT_WRITE);
	return (int)put;
}

static int tls_sock_recv(void *arg, unsigned char *p, size_t n)
{
	struct tls *t = arg;
	if (t->room == 0)
		return MBEDTLS_ERR_SSL_WANT_READ; /* select() will say so again */
	ssize_t got = read(t->fd, p, n < t->room ? n : t->room);
	if (got < 0)
		return tls_sock_error(t, MBEDTLS_ERR_NET_RECV_FAILED, MBEDTLS_ERR_SSL_WANT_READ);
	t->room -= (size_t)got;
	return (int)got;
}

/* ---- failures ---- */

struct tls_words {
	int code;
	const char *text;
};

static const struct tls_words tls_alerts[] = {
    {MBEDTLS_SSL_ALERT_MSG_UNEXPECTED_MESSAGE, "unexpected message"},
    {MBEDTLS_SSL_ALERT_MSG_BAD_RECORD_MAC, "bad record"},
    {MBEDTLS_SSL_ALERT_MSG_RECORD_OVERFLOW, "record too long"},
    {MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE, "no common parameters"},
    {MBEDTLS_SSL_ALERT_MSG_BAD_CERT, "bad certificate"},
    {MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_CERT, "unsupported certificate"},
    {MBEDTLS_SSL_ALERT_MSG_CERT_REVOKED, "certificate revoked"},
    {MBEDTLS_SSL_ALERT_MSG_CERT_EXPIRED, "certificate expired"},
    {MBEDTLS_SSL_ALERT_MSG_CERT_UNKNOWN, "certificate not accepted"},
    {MBEDTLS_SSL_ALERT_MSG_ILLEGAL_PARAMETER, "illegal parameter"},
    {MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA, "unknown certificate authority"},
    {MBEDTLS_SSL_ALERT_MSG_ACCESS_DENIED, "access denied"},
    {MBEDTLS_SSL_ALERT_MSG_DECODE_ERROR, "cannot decode"},
    {MBEDTLS_SSL_ALERT_MSG_DECRYPT_ERROR, "cannot decrypt"},
    {MBEDTLS_SSL_ALERT_MSG_PROTOCOL_VERSION, "protocol version"},
    {MBEDTLS_SSL_ALERT_MSG_INSUFFICIENT_SECURITY, "insufficient security"},
    {MBEDTLS_SSL_ALERT_MSG_INTERNAL_ERROR, "internal error"},
    {MBEDTLS_SSL_ALERT_MSG_INAPROPRIATE_FALLBACK, "inappropriate fallback"},
    {MBEDTLS_SSL_ALERT_MSG_USER_CANCELED, "cancelled"},
    {MBEDTLS_SSL_ALERT_MSG_NO_RENEGOTIATION, "no renegotiation"},
    {MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_EXT, "unsupported extension"},
    {MBEDTLS_SSL_ALERT_MSG_UNRECOGNIZED_NAME, "unrecognized name"},
    {0, NULL},
};

/* Codes that both versions have; what else a hostile or broken peer can cause gets its number. */
static const struct tls_words tls_codes[] = {
    {MBEDTLS_ERR_SSL_CONN_EOF, "the other side closed the connection"},
    {MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY, "the other side closed the connection"},
    {MBEDTLS_ERR_SSL_INVALID_RECORD, "what came is not TLS"},
    {MBEDTLS_ERR_SSL_INVALID_MAC, "a record was damaged"},
    {MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE, "unexpected message"},
    {MBEDTLS_ERR_SSL_UNEXPECTED_RECORD, "unexpected record"},
    {MBEDTLS_ERR_SSL_ALLOC_FAILED, "no memory"},
    {MBEDTLS_ERR_X509_ALLOC_FAILED, "no memory"},
    {MBEDTLS_ERR_SSL_NO_RNG, "the kernel has no random bytes yet"},
    {MBEDTLS_ERR_SSL_WANT_WRITE, "the other side does not take our answers"},
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    {MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION, "no common version of TLS"},
    {MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE, "no common parameters"},
    {MBEDTLS_ERR_SSL_DECODE_ERROR, "malformed message"},
    {MBEDTLS_ERR_SSL_ILLEGAL_PARAMETER, "illegal parameter"},
    {MBEDTLS_ERR_SSL_BAD_CERTIFICATE, "bad certificate"},
#else
    {MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION, "no common version of TLS"},
    {MBEDTLS_ERR_SSL_NO_CIPHER_CHOSEN, "no common parameters"},
    {MBEDTLS_ERR_SSL_NO_USABLE_CIPHERSUITE, "no common parameters"},
    {MBEDTLS_ERR_SSL_BAD_HS_CLIENT_HELLO, "what came is no greeting of TLS"},
    {MBEDTLS_ERR_SSL_BAD_HS_SERVER_HELLO, "what came is no greeting of TLS"},
    {MBEDTLS_ERR_SSL_BAD_HS_CERTIFICATE, "bad certificate"},
#endif
    {0, NULL},
};

static const char *tls_words_of(const struct tls_words *table, int code)
{
	while (table->text && table->code != code)
		table++;
	return table->text;
}

/* Writes down why; errno is what the caller of the step gets. */
static enum tls_want tls_fail(struct tls *t, int code)
{
	const char *text = tls_words_of(tls_codes, code);
	if (t->sock_error) {
		snprintf(t->error, sizeof t->error, "%s", strerror(t->sock_error));
		errno = t->sock_error;
		return TLS_FAILED;
	}
	if (code == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE) {
		int alert = tls_lib_alert(&t->ssl);
		text = tls_words_of(tls_alerts, alert);
		snprintf(t->error, sizeof t->error, "the other side said: %s (alert %d)",
		         text ? text : "something else", alert);
	} else if (text) {
		snprintf(t->error, sizeof t->error, "%s", text);
	} else {
		snprintf(t->error, sizeof t->error, "TLS error -0x%04x", (unsigned)-code);
	}
	t->failed = true;
	errno = EPROTO;
	return TLS_FAILED;
}

/* What a step that is not through comes to. */
static enum tls_want tls_not_yet(struct tls *t, int code)
{
	if (code == MBEDTLS_ERR_SSL_WANT_READ)
		return TLS_WANT_READ;
	if (code == MBEDTLS_ERR_SSL_WANT_WRITE)
		return TLS_WANT_WRITE;
	return tls_fail(t, code);
}

static bool tls_is_dead(const struct tls *t)
{
	if (t->failed)
		errno = EPROTO;
	return t->failed;
}

/* ---- beginning and end ---- */

#if defined(__GLIBC__)

/*
 * The library takes two buffers of a whole record, 17 KB each, of which most sessions never use
 * more than a page or two. Pieces of glibc's heap it gets cleared, and so all of their pages; as
 * mappings of their own they cost what was used of them, and go back when the session ends. glibc
 * maps what its heap has no room for: so that has none for a moment. 0.05 ms, and 20 KB a session.
 */
static int tls_setup(mbedtls_ssl_context *ssl, const mbedtls_ssl_config *conf)
{
	mallopt(M_MMAP_THRESHOLD, 16384);
	mallopt(M_TOP_PAD, 0);
	malloc_trim(0);
	int rc = mbedtls_ssl_setup(ssl, conf);
	/* As memory_started() and glibc have them. */
	mallopt(M_MMAP_THRESHOLD, MEMORY_LARGE_MIN);
	mallopt(M_TOP_PAD, 128 * 1024);
	return rc;
}

#else

static int tls_setup(mbedtls_ssl_context *ssl, const mbedtls_ssl_config *conf)
{
	return mbedtls_ssl_setup(ssl, conf);
}

#endif

struct tls *tls_new(const mbedtls_ssl_config *conf, int fd)
{
	struct tls *t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->fd = fd;
	t->peer.why = t->why;
	mbedtls_ssl_init(&t->ssl);
	if (tls_setup(&t->ssl, conf)) {
		tls_free(t);
		return NULL;
	}
	mbedtls_ssl_set_bio(&t->ssl, t, tls_sock_send, tls_sock_recv, NULL);
	return t;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	mbedtls_ssl_free(&t->ssl);
	tls_conf_release(t->conf);
	free(t);
}

/* ---- steps ---- */

static void tls_learn(struct tls *t)
{
	struct tls_peer *p = &t->peer;
	const mbedtls_x509_crt *crt = mbedtls_ssl_get_peer_cert(&t->ssl);
	snprintf(p->version, sizeof p->version, "%s", mbedtls_ssl_get_version(&t->ssl));
	snprintf(p->cipher, sizeof p->cipher, "%s", mbedtls_ssl_get_ciphersuite(&t->ssl));
	p->has_cert = crt && mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), crt->raw.p,
	                                crt->raw.len, p->sha256) == 0;
	/* The library does not change the chain, it only asks for it without const. */
	if (t->roots && crt)
		tls_roots_judge(t->roots, t, (mbedtls_x509_crt *)crt);
}

enum tls_want tls_handshake(struct tls *t)
{
	if (t->ready)
		return TLS_DONE;
	if (tls_is_dead(t))
		return TLS_FAILED;
	t->room = TLS_STEP;
	tls_tickets_enter(t);
	int rc;
	do {
		rc = mbedtls_ssl_handshake(&t->ssl);
	} while (rc == TLS_TICKET_CAME);
	if (rc != 0)
		return tls_not_yet(t, rc);
	t->ready = true;
	tls_learn(t);
	return TLS_DONE;
}

enum tls_want tls_read(struct tls *t, void *p, size_t n, size_t *done)
{
	*done = 0;
	if (tls_is_dead(t))
		return TLS_FAILED;
	t->room = TLS_STEP;
	int rc;
	do {
		rc = mbedtls_ssl_read(&t->ssl, p, n);
	} while (rc == TLS_TICKET_CAME);
	if (rc > 0) {
		*done = (size_t)rc;
		return TLS_DONE;
	}
	t->peer.ended = rc == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY;
	if (rc == 0 || rc == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY || rc == MBEDTLS_ERR_SSL_CONN_EOF)
		return TLS_CLOSED;
	return rc == MBEDTLS_ERR_SSL_WANT_WRITE ? tls_fail(t, rc) : tls_not_yet(t, rc);
}

enum tls_want tls_write(struct tls *t, const void *p, size_t n, size_t *done)
{
	*done = 0;
	if (tls_is_dead(t))
		return TLS_FAILED;
	if (t->writing > 0)
		n = t->writing;
	int rc = mbedtls_ssl_write(&t->ssl, p, n);
	t->writing = rc == MBEDTLS_ERR_SSL_WANT_WRITE ? n : 0;
	if (rc < 0)
		return rc == MBEDTLS_ERR_SSL_WANT_READ ? tls_fail(t, rc) : tls_not_yet(t, rc);
	*done = (size_t)rc;
	return TLS_DONE;
}

size_t tls_pending(const struct tls *t)
{
	return t->failed ? 0 : mbedtls_ssl_get_bytes_avail(&t->ssl);
}

enum tls_want tls_shutdown(struct tls *t)
{
	if (t->said_end || !t->ready)
		return TLS_DONE;
	if (tls_is_dead(t))
		return TLS_FAILED;
	int rc = mbedtls_ssl_close_notify(&t->ssl);
	t->said_end = rc == 0;
	return rc == 0 ? TLS_DONE : tls_not_yet(t, rc);
}

/* ---- questions ---- */

const struct tls_peer *tls_peer(const struct tls *t)
{
	return &t->peer;
}

const char *tls_error(const struct tls *t)
{
	return t ? t->error : "no memory for TLS";
}
