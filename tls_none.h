/* tls_none: what tls.h offers when TLS is left out (WITH_TLS 0). Included by tls.h only. */
#ifndef TLS_NONE_H
#define TLS_NONE_H

/* Without TLS there are no certificates and nothing is trusted; no connection gets a struct tls. */
struct tls_certs {
	char none;
};
struct tls_roots {
	char none;
};

static inline struct tls_certs *tls_certs_open(const char *dir)
{
	static struct tls_certs none;
	(void)dir;
	return &none;
}
static inline void tls_certs_close(struct tls_certs *c)
{
	(void)c;
}
static inline size_t tls_certs_count(const struct tls_certs *c)
{
	(void)c;
	return 0;
}
static inline int64_t tls_certs_expiry(const struct tls_certs *c)
{
	(void)c;
	return 0;
}
static inline size_t tls_certs_refresh(struct tls_certs *c)
{
	(void)c;
	return 0;
}
static inline struct tls *tls_accept(struct tls_certs *c, int fd)
{
	(void)c, (void)fd;
	return NULL;
}
static inline struct tls_roots *tls_roots_open(const char *path)
{
	static struct tls_roots none;
	(void)path;
	return &none;
}
static inline int tls_roots_set(struct tls_roots *r, const char *path)
{
	(void)r, (void)path;
	return 0;
}
static inline void tls_roots_close(struct tls_roots *r)
{
	(void)r;
}
static inline size_t tls_roots_count(const struct tls_roots *r)
{
	(void)r;
	return 0;
}
static inline struct tls *tls_connect(struct tls_roots *r, const char *name, int fd)
{
	(void)r, (void)name, (void)fd;
	return NULL;
}
static inline enum tls_want tls_handshake(struct tls *t)
{
	(void)t;
	return TLS_FAILED;
}
static inline enum tls_want tls_read(struct tls *t, void *p, size_t n, size_t *done)
{
	(void)t, (void)p, (void)n;
	*done = 0;
	return TLS_FAILED;
}
static inline enum tls_want tls_write(struct tls *t, const void *p, size_t n, size_t *done)
{
	(void)t, (void)p, (void)n;
	*done = 0;
	return TLS_FAILED;
}
static inline size_t tls_pending(const struct tls *t)
{
	(void)t;
	return 0;
}
static inline enum tls_want tls_shutdown(struct tls *t)
{
	(void)t;
	return TLS_DONE;
}
static inline void tls_free(struct tls *t)
{
	(void)t;
}
static inline const struct tls_peer *tls_peer(const struct tls *t)
{
	static const struct tls_peer none = {.why = ""};
	(void)t;
	return &none;
}
static inline const char *tls_error(const struct tls *t)
{
	(void)t;
	return "";
}
static inline void tls_library(char *out, size_t size)
{
	if (size > 0)
		out[0] = '\0';
}

#endif
