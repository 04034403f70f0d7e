/* fake_client_tls: see the header. */
#include "fake_client_tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

struct fake_client_tls fake_client_tls;

struct tls {
	int fd;
};

struct tls *tls_connect(struct tls_roots *roots, const char *name, int fd)
{
	(void)roots;
	struct tls *t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->fd = fd;
	fake_client_tls.open++;
	fake_client_tls.handshakes++;
	snprintf(fake_client_tls.name, sizeof fake_client_tls.name, "%s", name);
	return t;
}

enum tls_want tls_handshake(struct tls *t)
{
	(void)t;
	return fake_client_tls.fails ? TLS_FAILED : TLS_DONE;
}

static enum tls_want result(ssize_t n, enum tls_want again, size_t *done)
{
	*done = n > 0 ? (size_t)n : 0;
	if (n > 0)
		return TLS_DONE;
	if (n == 0)
		return TLS_CLOSED;
	return errno == EAGAIN || errno == EINTR ? again : TLS_FAILED;
}

enum tls_want tls_read(struct tls *t, void *p, size_t n, size_t *done)
{
	return result(read(t->fd, p, n), TLS_WANT_READ, done);
}

enum tls_want tls_write(struct tls *t, const void *p, size_t n, size_t *done)
{
	return result(write(t->fd, p, n), TLS_WANT_WRITE, done);
}

size_t tls_pending(const struct tls *t)
{
	(void)t;
	return 0;
}

enum tls_want tls_shutdown(struct tls *t)
{
	(void)t;
	return TLS_DONE;
}

void tls_free(struct tls *t)
{
	if (t)
		fake_client_tls.open--;
	free(t);
}

const struct tls_peer *tls_peer(const struct tls *t)
{
	(void)t;
	return &fake_client_tls.peer;
}

const char *tls_error(const struct tls *t)
{
	(void)t;
	return "the handshake was to fail";
}
