/*
 * listen_proxy: connections that a proxy passes on (haproxy_incoming): each begins with the header
 * that says whose it is, and becomes a session when that is there.
 *
 * Only the addresses in haproxy_trusted are listened to, for whoever writes a header chooses the
 * address that all else goes by. Headers waited for are bounded in number, size and time; when
 * there are too many, the oldest makes way, since a real proxy sends its header at once. What
 * comes behind the header stays in the kernel: it is the session's, be it SMTP or TLS. The limits
 * on clients count once the client is known, that on descriptors before.
 */
#include "listen_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "proxyproto.h"
#include "stat.h"

STAT_COUNTER(stat_headers, "listen/proxy_headers_refused",
             "Connections of proxies closed for a header that was wrong, late or one too many");

struct listen_header {
	struct loop_fd watch;
	struct loop_timer timer;
	const struct listen_door *door;
	struct dns_addr proxy;
	uint16_t port;
	struct proxyproto header;
	struct listen_header *next;
};

/* Takes h from the list and frees it. Returns the descriptor, not watched any more. */
static int listen_header_end(struct listen_header *h)
{
	int fd = h->watch.fd;
	struct listen_header **at = &listen_self.headers;
	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
	listen_self.header_count--;
	loop_fd_unwatch(&h->watch);
	loop_timer_stop(&h->timer);
	free(h);
	return fd;
}

/* Nothing is said to a peer who does not speak the protocol: it could be anything. */
static void listen_header_drop(struct listen_header *h, const char *why)
{
	listen_log_refusal(&h->proxy, why);
	stat_add(&stat_headers, 1);
	close(listen_header_end(h));
}

static void listen_header_late(void *arg)
{
	listen_header_drop(arg, "PROXY header: waited for too long");
}

/* The header is there: who it is comes in. */
static void listen_header_done(struct listen_header *h, bool known)
{
	const struct listen_door *door = h->door;
	struct smtpd_peer peer = {.mode = door->mode,
	                          .addr = known ? h->header.client : h->proxy,
	                          .port = known ? h->header.port : h->port,
	                          .proxied = true,
	                          .unknown = !known,
	                          .proxy = h->proxy};
	listen_admit(listen_header_end(h), door, &peer);
}

static void listen_header_bad(struct listen_header *h)
{
	char why[100];
	snprintf(why, sizeof why, "PROXY header: %s", h->header.why);
	listen_header_drop(h, why);
}

/* Looks at what has come, and then takes out what belongs to the header: at least a byte, so that
 * select() does not report the same bytes for ever. */
static void listen_header_ready(void *arg, unsigned events)
{
	struct listen_header *h = arg;
	unsigned char bytes[PROXYPROTO_MAX];
	size_t taken;
	(void)events;
	ssize_t n = recv(h->watch.fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	if (n <= 0 && h->header.n == 0) {
		/* A look whether the port is open: proxies and monitors do that all day. */
		log_debug("-", "listen: closed before a PROXY header");
		close(listen_header_end(h));
		return;
	}
	if (n <= 0) {
		listen_header_drop(h, "PROXY header: cut off");
		return;
	}
	enum proxyproto_result result = proxyproto_feed(&h->header, bytes, (size_t)n, &taken);
	if (result == PROXYPROTO_BAD)
		listen_header_bad(h);
	else if (recv(h->watch.fd, bytes, taken, MSG_DONTWAIT) != (ssize_t)taken)
		listen_header_drop(h, "PROXY header: cut off");
	else if (result != PROXYPROTO_MORE)
		listen_header_done(h, result == PROXYPROTO_CLIENT);
}

static void listen_header_add(struct listen_header *h)
{
	struct listen_header **end = &listen_self.headers;
	if (listen_self.header_count >= LISTEN_PROXY_MAX)
		listen_header_drop(listen_self.headers, "PROXY header: too many waited for");
	while (*end)
		end = &(*end)->next;
	*end = h;
	listen_self.header_count++;
}

void listen_proxy_wait(int fd, const struct listen_door *door, const struct dns_addr *a,
                       uint16_t port)
{
	if (!conf_is_proxy(listen_self.setup->conf, a)) {
		listen_refuse(fd, door, a, "is reached through its proxy only",
		              "haproxy_incoming: the address is not in haproxy_trusted");
		return;
	}
	/* The full look, for which others may have to go, waits until the client is known. */
	if (loop_fd_room() < listen_self.reserve) {
		listen_refuse(fd, door, a, "too many connections", "too many connections");
		return;
	}
	struct listen_header *h = calloc(1, sizeof *h);
	if (!h) {
		listen_refuse(fd, door, a, "out of memory", "out of memory");
		return;
	}
	h->door = door;
	h->proxy = *a;
	h->port = port;
	loop_fd_init(&h->watch, listen_header_ready, h);
	loop_timer_init(&h->timer, listen_header_late, h);
	if (loop_fd_watch(&h->watch, fd, LOOP_READ)) {
		free(h);
		listen_refuse(fd, door, a, "out of descriptors", "no descriptor");
		return;
	}
	loop_timer_set(&h->timer, LISTEN_PROXY_MS);
	listen_header_add(h);
	/* It is there already as a rule. */
	listen_header_ready(h, LOOP_READ);
}

void listen_proxy_close(void)
{
	while (listen_self.headers)
		close(listen_header_end(listen_self.headers));
}
