/* tls_lib: mbedTLS for the files of tls, and all that differs between 2.28 and 3.6. */
#ifndef TLS_LIB_H
#define TLS_LIB_H

#include <limits.h>

#if __has_include(<mbedtls/build_info.h>)
#include <mbedtls/build_info.h>
#else
#include <mbedtls/version.h>
#endif
#include <mbedtls/asn1.h>
#include <mbedtls/base64.h>
#include <mbedtls/md.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined(MBEDTLS_PSA_CRYPTO_C)
#include <psa/crypto.h>
#endif

#if defined(MBEDTLS_SSL_TLS_C) && !defined(MBEDTLS_SSL_KEEP_PEER_CERTIFICATE)
#error "chasq checks the peer's certificate: mbedTLS needs MBEDTLS_SSL_KEEP_PEER_CERTIFICATE"
#endif

/* ---- two versions of the library ---- */

/* Random bytes for the library, from the kernel. */
int tls_random(void *unused, unsigned char *p, size_t n);

#if MBEDTLS_VERSION_NUMBER >= 0x03000000

#define TLS_TICKET_CAME MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET

#define tls_lib_key(pk, p, n)      mbedtls_pk_parse_key((pk), (p), (n), NULL, 0, tls_random, NULL)
#define tls_lib_pair(cert_pk, key) mbedtls_pk_check_pair((cert_pk), (key), tls_random, NULL)
#define tls_lib_least(conf)        mbedtls_ssl_conf_min_tls_version((conf), MBEDTLS_SSL_VERSION_TLS1_2)

#else

#define MBEDTLS_PRIVATE(member) member
#define TLS_TICKET_CAME         INT_MIN /* no such error there; 1 would be a byte that was read */

#define tls_lib_key(pk, p, n)      mbedtls_pk_parse_key((pk), (p), (n), NULL, 0)
#define tls_lib_pair(cert_pk, key) mbedtls_pk_check_pair((cert_pk), (key))
#define tls_lib_least(conf)                                               \
	mbedtls_ssl_conf_min_version((conf), MBEDTLS_SSL_MAJOR_VERSION_3, \
	                             MBEDTLS_SSL_MINOR_VERSION_3)

#endif

/* The number of the alert that was received last. */
#define tls_lib_alert(ssl) ((ssl)->MBEDTLS_PRIVATE(in_msg)[1])

/* Begins with the library, once; 0, or -1. */
int tls_lib_start(void);

/* ---- flaws of a chain, as the library tells them ---- */

#define TLS_TIME_FLAGS (MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE)
#define TLS_USAGE_FLAGS                                                        \
	(MBEDTLS_X509_BADCERT_KEY_USAGE | MBEDTLS_X509_BADCERT_EXT_KEY_USAGE | \
	 MBEDTLS_X509_BADCERT_NS_CERT_TYPE)
#define TLS_WEAK_FLAGS \
	(MBEDTLS_X509_BADCERT_BAD_MD | MBEDTLS_X509_BADCERT_BAD_PK | MBEDTLS_X509_BADCERT_BAD_KEY)

#endif
