/*
 * Fuzzes the directory of certificates, and what a client asks for. Between form feeds: the name
 * asked for, or, if that begins like a record of TLS, what the client sends instead of a handshake;
 * chain and key of one directory, chain and key of another; what then comes in the place of the
 * first chain. Files are taken or left out; a client whose name is a host name comes to a
 * certificate if there is any, and what the server says of that name is it, or nothing; new files
 * never take away what worked.
 */
#include <signal.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fuzz_dir.h"
#include "log.h"
#include "tls_int.h"

enum { S_NAME, S_CHAIN, S_KEY, S_CHAIN2, S_KEY2, S_NEXT, SECTIONS };

struct section {
	const uint8_t *p;
	size_t n;
};

static void split(const uint8_t *data, size_t size, struct section s[SECTIONS])
{
	for (int i = 0; i < SECTIONS; i++) {
		const uint8_t *ff = size > 0 ? memchr(data, '\f', size) : NULL;
		size_t n = ff ? (size_t)(ff - data) : size;
		s[i] = (struct section){data, n};
		data += ff ? n + 1 : n;
		size -= ff ? n + 1 : n;
	}
}

static void put(const char *name, const struct section *s)
{
	unlink(fuzz_dir_path(name));
	if (s->n > 0)
		fuzz_dir_put(name, s->p, s->n);
}

/* Lets both talk. True when both are through. */
static bool shake_hands(struct tls *server, struct tls *client)
{
	enum tls_want a = TLS_WANT_READ;
	enum tls_want b = TLS_WANT_READ;
	for (int i = 0; i < 100; i++) {
		if (a != TLS_DONE && a != TLS_FAILED)
			a = tls_handshake(client);
		if (b != TLS_DONE && b != TLS_FAILED)
			b = tls_handshake(server);
		if (a == TLS_FAILED || b == TLS_FAILED)
			return false;
	}
	return a == TLS_DONE && b == TLS_DONE;
}

static void talk(struct tls *server, struct tls *client, const char *name)
{
	char in[4];
	size_t n;
	bool good = shake_hands(server, client);
	const struct tls_peer *peer = tls_peer(server);
	CHECK(tls_error(server) && tls_error(client));
	if (!good)
		return;
	CHECK(peer->sni[0] == '\0' || strcasecmp(peer->sni, name) == 0);
	CHECK(tls_peer(client)->has_cert);
	CHECK(tls_write(client, "data", 4, &n) == TLS_DONE && n == 4);
	CHECK(tls_read(server, in, sizeof(in), &n) == TLS_DONE && n == 4);
	CHECK(memcmp(in, "data", 4) == 0);
	CHECK(tls_shutdown(client) == TLS_DONE);
	CHECK(tls_read(server, in, sizeof(in), &n) == TLS_CLOSED);
	CHECK(tls_pending(server) == 0);
}

/* After a failure there is nothing but failure, and a reason. */
static void check_failed(struct tls *t)
{
	char in[4];
	size_t n;
	CHECK(tls_handshake(t) == TLS_FAILED && tls_error(t)[0] != '\0');
	CHECK(tls_read(t, in, sizeof(in), &n) == TLS_FAILED);
	CHECK(tls_write(t, "x", 1, &n) == TLS_FAILED);
	CHECK(tls_shutdown(t) != TLS_WANT_READ && tls_pending(t) == 0);
}

/* What is no handshake, to either side. */
static void send_raw(struct tls *t, int fd, const struct section *s)
{
	enum tls_want w = TLS_WANT_READ;
	if (!t)
		return;
	CHECK(send(fd, s->p, s->n, MSG_NOSIGNAL) >= 0);
	shutdown(fd, SHUT_WR);
	if (s->n % 2)
		shutdown(fd, SHUT_RD);
	for (int i = 0; i < 20 && w != TLS_FAILED; i++)
		w = tls_handshake(t);
	CHECK(w != TLS_DONE);
	if (w == TLS_FAILED)
		check_failed(t);
}

/* A client that asks for the name, or sends bytes of its own. */
static void connect_to(struct tls_certs *certs, struct tls_roots *roots, const struct section *s)
{
	int p[2];
	char name[300];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p) == 0);
	struct tls *server = tls_accept(certs, p[0]);
	CHECK((server != NULL) == (tls_certs_count(certs) > 0));
	if (server && s->n > 0 && s->p[0] >= 0x14 && s->p[0] <= 0x17) {
		send_raw(server, p[1], s);
	} else if (server) {
		snprintf(name, sizeof(name), "%.*s", (int)s->n, (const char *)s->p);
		struct tls *client = tls_connect(roots, name, p[1]);
		if (client)
			talk(server, client, name);
		tls_free(client);
	}
	tls_free(server);
	close(p[0]);
	close(p[1]);
}

static void connect_raw(struct tls_roots *roots, const struct section *s)
{
	int p[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p) == 0);
	struct tls *client = tls_connect(roots, "a.test", p[0]);
	send_raw(client, p[1], s);
	tls_free(client);
	close(p[0]);
	close(p[1]);
}

static void on_certificate(void *arg, const mbedtls_x509_crt *crt)
{
	CHECK(!tls_cert_is_for(crt, "") && !tls_cert_is_for(crt, "no-such-name.example"));
	++*(unsigned *)arg;
}

/* The pair by itself, as the check of a configuration looks at it. */
static void look(bool works)
{
	const char *file = NULL;
	const char *why = NULL;
	unsigned seen = 0;
	int rc = tls_pair_look(fuzz_dir_path("a/fullchain.pem"), fuzz_dir_path("a/privkey.pem"),
	                       on_certificate, &seen, &file, &why);
	CHECK(rc == 0 || (file && why));
	CHECK(!works || rc == 0);
	CHECK(rc != 0 || seen == 1);
}

static void set_up(void)
{
	fuzz_dir_make();
	signal(SIGPIPE, SIG_IGN); /* as in the daemon */
	log_to(fuzz_dir_nowhere());
	struct tls_certs *none = tls_certs_open(fuzz_dir_path("missing"));
	CHECK(none && tls_certs_count(none) == 0 && !tls_accept(none, -1));
	tls_certs_close(none);
	tls_certs_close(NULL);
	CHECK(mkdir(fuzz_dir_path("a"), 0700) == 0 && mkdir(fuzz_dir_path("b"), 0700) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct section s[SECTIONS];
	if (!fuzz_dir[0])
		set_up();
	split(data, size, s);
	put("a/fullchain.pem", &s[S_CHAIN]);
	put("a/privkey.pem", &s[S_KEY]);
	put("b/fullchain.pem", &s[S_CHAIN2]);
	put("b/privkey.pem", &s[S_KEY2]);
	struct tls_certs *certs = tls_certs_open(fuzz_dir);
	/* As many trust the first chain's, in a file, as those in a directory. */
	struct tls_roots *roots = tls_roots_open(fuzz_dir_path(size % 2 ? "a/fullchain.pem" : "b"));
	CHECK(certs && roots);
	look(false);
	size_t count = tls_certs_count(certs);
	CHECK(count <= 2 && (count > 0 || tls_certs_expiry(certs) == 0));
	connect_to(certs, roots, &s[S_NAME]);
	if (s[S_NAME].n > 0 && s[S_NAME].p[0] < ' ')
		connect_raw(roots, &s[S_NAME]);
	put("a/fullchain.pem", &s[S_NEXT]);
	tls_certs_refresh(certs);
	setenv("SSL_CERT_FILE", fuzz_dir_path("b/fullchain.pem"), 1);
	CHECK(tls_roots_set(roots, NULL) == 0 && tls_roots_count(roots) <= size);
	CHECK(tls_certs_count(certs) >= count);
	connect_to(certs, roots, &s[S_NAME]);
	/* A directory that goes takes its certificate along, but not the last one in use. */
	CHECK(rename(fuzz_dir_path("b"), fuzz_dir_path("a/b")) == 0);
	tls_certs_refresh(certs);
	CHECK(tls_certs_count(certs) <= count + 1);
	CHECK(rename(fuzz_dir_path("a/b"), fuzz_dir_path("b")) == 0);
	tls_certs_close(certs);
	tls_roots_close(roots);
	return 0;
}
