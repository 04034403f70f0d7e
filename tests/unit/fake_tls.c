/* fake_tls: see the header. */
#include "fake_tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fake_tls fake_tls;

/* ---- tls.h ---------------------------------------------------------------------------------- */

struct tls {
	char dummy;
};

struct tls_certs {
	size_t count;
};

static struct tls_certs one = {1};
static struct tls_certs none = {0};
struct tls_certs *const fake_certs = &one;
struct tls_certs *const fake_no_certs = &none;

size_t tls_certs_count(const struct tls_certs *c)
{
	return c->count;
}

struct tls *tls_accept(struct tls_certs *c, int fd)
{
	(void)fd;
	if (fake_tls.accept_fails || c->count == 0)
		return NULL;
	fake_tls.open++;
	return calloc(1, sizeof(struct tls));
}

enum tls_want tls_handshake(struct tls *t)
{
	(void)t;
	return TLS_FAILED;
}

enum tls_want tls_read(struct tls *t, void *p, size_t n, size_t *done)
{
	(void)t, (void)p, (void)n, (void)done;
	return TLS_FAILED;
}

enum tls_want tls_write(struct tls *t, const void *p, size_t n, size_t *done)
{
	(void)t, (void)p, (void)n, (void)done;
	return TLS_FAILED;
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
		fake_tls.open--;
	free(t);
}

const struct tls_peer *tls_peer(const struct tls *t)
{
	static const struct tls_peer peer = {.why = "",
	                                     .version = "TLSv1.3",
	                                     .cipher = "TLS1-3-AES-128-GCM-SHA256",
	                                     .sni = "evil.test"};
	(void)t;
	return &peer;
}

const char *tls_error(const struct tls *t)
{
	(void)t;
	return "no handshake here";
}

/* ---- auth.h --------------------------------------------------------------------------------- */

static struct auth *waiting;

static void fake_copy(struct slice in, char *out, size_t size)
{
	snprintf(out, size, "%.*s", (int)in.n, in.p);
}

void auth_ask(struct auth *a, struct slice id, struct slice password, const struct dns_addr *peer,
              void (*done)(void *arg, struct auth *a), void *arg)
{
	(void)peer;
	if (waiting)
		abort();
	waiting = a;
	a->done = done;
	a->arg = arg;
	fake_tls.asked++;
	fake_tls.waiting++;
	fake_copy(id, fake_tls.id, sizeof fake_tls.id);
	fake_copy(password, fake_tls.password, sizeof fake_tls.password);
}

void auth_cancel(struct auth *a)
{
	if (waiting == a && a) {
		waiting = NULL;
		fake_tls.waiting--;
	}
}

bool auth_may_try(const struct dns_addr *peer)
{
	(void)peer;
	return !fake_tls.throttled;
}

int auth_plain_decode(struct slice base64, struct buf *out, struct slice *id,
                      struct slice *password, const char **why)
{
	*why = "malformed";
	if (base64_decode(base64, out) || out->len < 2)
		return -1;
	const char *p = buf_data(out);
	const char *end = p + out->len;
	const char *first = memchr(p, '\0', out->len);
	const char *second = first ? memchr(first + 1, '\0', (size_t)(end - first - 1)) : NULL;
	if (!second)
		return -1;
	*id = (struct slice){first + 1, (size_t)(second - first - 1)};
	*password = (struct slice){second + 1, (size_t)(end - second - 1)};
	return 0;
}

bool fake_auth_run(void)
{
	struct auth *a = waiting;
	if (!a)
		return false;
	waiting = NULL;
	fake_tls.waiting--;
	memset(&a->user, 0, sizeof a->user);
	a->result = AUTH_NO;
	if (fake_tls.trouble)
		a->result = AUTH_TROUBLE;
	else if (strcmp(fake_tls.password, "secret") == 0 &&
	         addr_parse_local(slice_of(fake_tls.id),
	                          strcmp(fake_tls.id, "bare") == 0 ? "" : "here.test",
	                          &a->user) == 0)
		a->result = AUTH_YES;
	a->done(a->arg, a);
	return true;
}
