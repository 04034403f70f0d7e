/*
 * handshake: the least that a TLS server on mbedTLS can do: one connection after the other, a full
 * handshake, and the end. No sessions are kept, and nothing is read or written beyond it.
 *
 *   handshake CHAIN KEY ADDRESS PORT
 *
 * Suites are the client's choice; P-256 is the first group, as with chasq.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#if __has_include(<mbedtls/build_info.h>)
#include <mbedtls/build_info.h>
#else
#include <mbedtls/version.h>
#endif
#include <mbedtls/net_sockets.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#endif

static mbedtls_ssl_config conf;
static mbedtls_ssl_context ssl;
static mbedtls_x509_crt chain;
static mbedtls_pk_context key;

static void die(const char *what)
{
	fprintf(stderr, "handshake: %s\n", what);
	exit(1);
}

static int random_bytes(void *unused, unsigned char *p, size_t n)
{
	(void)unused;
	return getrandom(p, n, 0) == (ssize_t)n ? 0 : MBEDTLS_ERR_SSL_NO_RNG;
}

static int key_load(const char *path)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
	return psa_crypto_init() != PSA_SUCCESS ||
	       mbedtls_pk_parse_keyfile(&key, path, NULL, random_bytes, NULL);
#else
	return mbedtls_pk_parse_keyfile(&key, path, NULL);
#endif
}

static void order_groups(void)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
	static const uint16_t order[] = {MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
	                                 MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
	                                 MBEDTLS_SSL_IANA_TLS_GROUP_NONE};
	mbedtls_ssl_conf_groups(&conf, order);
#else
	static const mbedtls_ecp_group_id order[] = {
	    MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_CURVE25519, MBEDTLS_ECP_DP_NONE};
	mbedtls_ssl_conf_curves(&conf, order);
#endif
}

static void set_up(const char *chain_path, const char *key_path)
{
	mbedtls_ssl_init(&ssl);
	mbedtls_ssl_config_init(&conf);
	mbedtls_x509_crt_init(&chain);
	mbedtls_pk_init(&key);
	if (mbedtls_x509_crt_parse_file(&chain, chain_path))
		die(chain_path);
	if (key_load(key_path))
		die(key_path);
	if (mbedtls_ssl_config_defaults(&conf, MBEDTLS_SSL_IS_SERVER, MBEDTLS_SSL_TRANSPORT_STREAM,
	                                MBEDTLS_SSL_PRESET_DEFAULT))
		die("mbedtls_ssl_config_defaults");
	mbedtls_ssl_conf_rng(&conf, random_bytes, NULL);
	order_groups();
	if (mbedtls_ssl_conf_own_cert(&conf, &chain, &key) || mbedtls_ssl_setup(&ssl, &conf))
		die("mbedtls_ssl_setup");
}

static int listen_on(const char *address, const char *port)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (inet_pton(AF_INET, address, &a.sin_addr) != 1 ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 128) < 0)
		die("listen");
	return fd;
}

static void serve(int fd)
{
	int one = 1;
	mbedtls_net_context net = {.fd = fd};
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
	if (mbedtls_ssl_handshake(&ssl) == 0)
		mbedtls_ssl_close_notify(&ssl);
	mbedtls_ssl_session_reset(&ssl);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fprintf(stderr, "usage: handshake CHAIN KEY ADDRESS PORT\n");
		return 2;
	}
	set_up(argv[1], argv[2]);
	int listener = listen_on(argv[3], argv[4]);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			serve(fd);
	}
}
