/*
 * https: one GET over TLS.
 *
 * The addresses of the host are tried in turn until one of them lets us in with a certificate that
 * is good for the name; only then the request is sent, and from there on there is no second try.
 * Each address gets an equal share of the time that is left, so a dead one does not eat that of the
 * next. The answer is read by https_answer.c, which bounds what is kept of it; the limit of time
 * holds for everything together. `done` comes once, with all else already ended.
 */
#include "https.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "config.h"
#include "dns.h"
#include "https_answer.h"
#include "io.h"
#include "loop.h"

/* What is taken from the socket at a time, and the longest request. */
#define HTTPS_IN  4096
#define HTTPS_OUT 1024

#define HTTPS_LATE "no connection in time"

struct https {
	struct https_request request;
	struct tls_roots *roots;
	void (*done)(void *arg, const struct status *st, struct slice content);
	void *arg;
	int64_t ends; /* ms, monotonic */
	struct loop_timer limit;
	struct dns_query addresses;
	size_t at; /* the next address */
	struct io io;
	struct https_answer answer;
	bool asked; /* the request went out */
	char why[160];
};

static void https_free(struct https *h)
{
	loop_timer_stop(&h->limit);
	dns_cancel(&h->addresses);
	io_close(&h->io);
	https_answer_clear(&h->answer);
	free(h);
}

static void https_finish(struct https *h, const struct status *st)
{
	io_close(&h->io);
	loop_timer_stop(&h->limit);
	h->done(h->arg, st, buf_slice(&h->answer.content));
	https_free(h);
}

static void https_fail(struct https *h, const char *why)
{
	struct status st;
	status_set(&st, 451, "4.4.0", "https://%s%s: %s", h->request.host, h->request.path, why);
	buf_truncate(&h->answer.content, 0);
	https_finish(h, &st);
}

static void on_limit(void *arg)
{
	struct https *h = arg;
	if (!WITH_TLS)
		https_fail(h, "this program was built without TLS");
	else if (h->asked)
		https_fail(h, "the answer took too long");
	else
		https_fail(h, *h->why ? h->why : HTTPS_LATE);
}

/* ---- one address ---- */

static void https_next(struct https *h);

static void https_give_up_address(struct https *h, const char *why)
{
	snprintf(h->why, sizeof h->why, "%s", why);
	io_close(&h->io);
	https_next(h);
}

static void https_secure(struct https *h)
{
	struct tls *t = tls_connect(h->roots, h->request.host, h->io.watch.fd);
	if (io_start_tls(&h->io, t))
		https_give_up_address(h, "out of memory");
}

static void https_ask(struct https *h)
{
	const struct tls_peer *peer = tls_peer(io_tls(&h->io));
	if (!peer->chain_good || !peer->name_good) {
		https_give_up_address(h, *peer->why ? peer->why : "the certificate is not good");
		return;
	}
	h->asked = true;
	io_deadline(&h->io, 0);
	if (io_printf(&h->io,
	              "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: chasq\r\n"
	              "Accept: %s\r\nConnection: close\r\n\r\n",
	              h->request.path, h->request.host, h->request.type))
		https_fail(h, "the request is too long");
}

static void https_judge(struct https *h, enum https_progress progress)
{
	struct status st;
	if (progress == HTTPS_BAD) {
		https_fail(h, h->answer.why);
	} else if (progress == HTTPS_WHOLE) {
		status_set(&st, 250, NULL, "fetched");
		https_finish(h, &st);
	}
}

static void https_read(struct https *h)
{
	struct io *io = &h->io;
	enum https_progress progress = https_answer_feed(&h->answer, buf_slice(&io->in));
	buf_consume(&io->in, io->in.len);
	io_update(io);
	https_judge(h, progress);
}

static void https_broken(struct https *h)
{
	const struct io *io = &h->io;
	const char *why = io->error == EPROTO && io->tls ? tls_error(io->tls) : strerror(io->error);
	char copy[sizeof h->why];
	snprintf(copy, sizeof copy, "%s", why);
	if (h->asked)
		https_fail(h, copy);
	else
		https_give_up_address(h, copy);
}

static void on_io(void *arg, enum io_event ev)
{
	struct https *h = arg;
	/* Between IO_CONNECTED and IO_SECURED the stream tells of nothing but errors. */
	switch (ev) {
	case IO_CONNECTED:
		https_secure(h);
		break;
	case IO_SECURED:
		https_ask(h);
		break;
	case IO_READ:
		https_read(h);
		break;
	case IO_EOF:
		https_judge(h, https_answer_end(&h->answer, tls_peer(io_tls(&h->io))->ended));
		break;
	case IO_ERROR:
		https_broken(h);
		break;
	case IO_TIMEOUT:
		https_give_up_address(h, HTTPS_LATE);
		break;
	case IO_DRAINED:
	case IO_CLOSED:
		break;
	}
}

static int https_connect(struct https *h, const struct dns_addr *addr)
{
	struct sockaddr_storage to;
	socklen_t len = dns_addr_to_sockaddr(addr, HTTPS_PORT, &to);
	return io_connect(&h->io, &to, len);
}

static void https_next(struct https *h)
{
	size_t count = h->addresses.count < HTTPS_ADDRS_MAX ? h->addresses.count : HTTPS_ADDRS_MAX;
	while (h->at < count) {
		int64_t left = h->ends - loop_now();
		int64_t share = left / (int64_t)(count - h->at);
		io_init(&h->io, HTTPS_IN, HTTPS_OUT, on_io, h);
		if (https_connect(h, &h->addresses.addrs[h->at++]) == 0) {
			io_deadline(&h->io, share > 0 ? share : 1);
			return;
		}
		snprintf(h->why, sizeof h->why, "%s", strerror(errno));
	}
	https_fail(h, h->why);
}

static void on_addresses(void *arg, struct dns_query *q)
{
	struct https *h = arg;
	if (q->result != DNS_OK)
		https_fail(h, dns_result_text(q->result));
	else
		https_next(h);
}

struct https *https_get(const struct https_request *request, struct tls_roots *roots,
                        void (*done)(void *arg, const struct status *st, struct slice content),
                        void *arg)
{
	struct https *h = calloc(1, sizeof *h);
	if (!h)
		return NULL;
	h->request = *request;
	h->roots = roots;
	h->done = done;
	h->arg = arg;
	h->ends = loop_now() + request->limit_ms;
	io_init(&h->io, HTTPS_IN, HTTPS_OUT, on_io, h);
	https_answer_init(&h->answer, request->type, request->max);
	loop_timer_init(&h->limit, on_limit, h);
	loop_timer_set(&h->limit, WITH_TLS ? request->limit_ms : 0);
	if (WITH_TLS)
		dns_addresses(&h->addresses, slice_of(request->host), on_addresses, h);
	return h;
}

void https_cancel(struct https *h)
{
	if (h)
		https_free(h);
}
