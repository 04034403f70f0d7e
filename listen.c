/*
 * listen: listening sockets, admission, and the lives of SMTP server sessions.
 *
 * Nothing that a stranger can do here ends the daemon or starves its other work: sessions are
 * bounded in all and per address, who only sits on a place loses it when it is needed, descriptors
 * are kept back for deliveries, DNS and children, and when accept() itself runs out of them,
 * listening pauses. A refused client is told 421 with one write that may fail. Listening sockets
 * are served last in a turn, after what could free a place.
 */
#include "listen_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io.h"
#include "log.h"
#include "loop.h"
#include "memory.h"
#include "stat.h"

STAT_COUNTER(stat_refused, "listen/refused",
             "Connections refused at the door: too many, or no memory");
STAT_COUNTER(stat_turned_out, "listen/turned_out",
             "Sessions ended because others waited for their places");
STAT_COUNTER(stat_paused, "listen/paused",
             "Times that accepting connections was suspended for an error");

/* A place for a session, in a list. */
struct listen_place {
	struct smtpd *session;
	struct dns_addr addr;
	struct listen_place *next;
	struct listen_place *prev;
};

struct listen_state listen_self;

/* ---- admission ------------------------------------------------------------------------------ */

/* The same client as far as limits go: an IPv6 client has a whole /64 (RFC 6177). */
static bool listen_same_client(const struct dns_addr *a, const struct dns_addr *b)
{
	if (a->family == AF_INET6 && b->family == AF_INET6)
		return memcmp(&a->ip.v6, &b->ip.v6, 8) == 0;
	return dns_addr_equal(a, b);
}

/* Has this client as many sessions as one may have? One whose last reply was given has left, though
 * its socket lingers: as many of those again are let in, but not more, since their places are not
 * free yet. */
static bool listen_has_enough(const struct dns_addr *a)
{
	size_t here = 0;
	size_t leaving = 0;
	for (const struct listen_place *p = listen_self.places; p; p = p->next) {
		if (!listen_same_client(&p->addr, a))
			continue;
		if (smtpd_is_ending(p->session))
			leaving++;
		else
			here++;
	}
	return here >= LISTEN_PER_ADDRESS_MAX ||
	       here + leaving >= (size_t)2 * LISTEN_PER_ADDRESS_MAX;
}

/* Is there a place for one more, once so many of the sessions have gone? Each has a socket, which
 * is counted already, and may open a spool file. */
static bool listen_has_place(size_t gone)
{
	size_t left = listen_self.sessions - gone;
	return left < LISTEN_SESSIONS_MAX &&
	       loop_fd_room() + (int)gone - (int)left - 2 >= listen_self.reserve;
}

static void listen_leave(struct listen_place *p)
{
	if (p->prev)
		p->prev->next = p->next;
	else
		listen_self.places = p->next;
	if (p->next)
		p->next->prev = p->prev;
	listen_self.sessions--;
	free(p);
}

/* Turns out the stranger who has longest brought nothing, so that those who take places and sit on
 * them shut nobody out. False when nobody has been here long enough. */
static bool listen_make_room(void)
{
	struct listen_place *found = NULL;
	int64_t longest = LISTEN_GRACE_MS;
	for (struct listen_place *p = listen_self.places; p; p = p->next) {
		int64_t ms = smtpd_fruitless_ms(p->session);
		if (ms >= longest) {
			longest = ms;
			found = p;
		}
	}
	if (!found)
		return false;
	smtpd_turn_out(found->session);
	listen_leave(found);
	stat_add(&stat_turned_out, 1);
	return true;
}

/* Why this client cannot come in now, or NULL. Who has enough gets nobody else's place, and nobody
 * goes where that would not be enough. */
static const char *listen_refusal(const struct dns_addr *a)
{
	if (listen_has_enough(a))
		return "too many connections from your address";
	if (listen_has_place(0) ||
	    (listen_self.sessions > 0 && listen_has_place(1) && listen_make_room()))
		return NULL;
	return "too many connections";
}

void listen_log_refusal(const struct dns_addr *a, const char *why)
{
	char ip[INET6_ADDRSTRLEN];
	stat_add(&stat_refused, 1);
	if (listen_self.logged && loop_now() - listen_self.logged < LISTEN_LOG_MS) {
		listen_self.not_logged++;
		return;
	}
	log_info("-", "listen refused", LOG_S("peer", dns_addr_text(a, ip)), LOG_S("reason", why),
	         LOG_N("unlogged", listen_self.not_logged));
	listen_self.logged = loop_now();
	listen_self.not_logged = 0;
}

void listen_refuse(int fd, const struct listen_door *door, const struct dns_addr *a,
                   const char *say, const char *why)
{
	char text[STATUS_TEXT_MAX];
	int n = snprintf(text, sizeof text, "421 4.7.0 %.255s %s, try again later\r\n",
	                 listen_self.setup->conf->hostname, say);
	/* A client that begins with TLS would not understand. */
	if (!door->tls && send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) == n)
		shutdown(fd, SHUT_WR);
	close(fd);
	listen_log_refusal(a, why);
}

/* ---- sessions ------------------------------------------------------------------------------- */

static void listen_session_ended(void *arg)
{
	listen_leave(arg);
	memory_freed();
}

/* Takes fd. */
static void listen_begin(int fd, const struct listen_door *door, const struct smtpd_peer *peer)
{
	struct listen_place *p = calloc(1, sizeof *p);
	if (!p) {
		listen_refuse(fd, door, &peer->addr, "out of memory", "out of memory");
		return;
	}
	p->addr = peer->addr;
	p->session = smtpd_new(listen_self.setup, peer, listen_session_ended, p);
	if (!p->session) {
		free(p);
		listen_refuse(fd, door, &peer->addr, "out of memory", "out of memory");
		return;
	}
	if (io_open(smtpd_io(p->session), fd)) {
		smtpd_free(p->session);
		free(p);
		listen_log_refusal(&peer->addr, "no descriptor");
		return;
	}
	p->next = listen_self.places;
	if (p->next)
		p->next->prev = p;
	listen_self.places = p;
	listen_self.sessions++;
	smtpd_start(p->session);
}

void listen_admit(int fd, const struct listen_door *door, struct smtpd_peer *peer)
{
	const char *why = listen_refusal(&peer->addr);
	if (why) {
		listen_refuse(fd, door, &peer->addr, why, why);
		return;
	}
	peer->mode = door->mode;
	peer->tls = door->tls;
	peer->trusted = door->mode == SMTPD_MX && !peer->unknown &&
	                conf_is_trusted(listen_self.setup->conf, &peer->addr);
	listen_begin(fd, door, peer);
}

/* ---- accept --------------------------------------------------------------------------------- */

static void listen_want(unsigned want)
{
	for (size_t i = 0; i < listen_self.count; i++)
		if (listen_self.listeners[i].door)
			loop_fd_want(&listen_self.listeners[i].watch, want);
}

void listen_resume(void *arg)
{
	(void)arg;
	listen_want(LOOP_READ);
}

/* select() would report the listener again at once, and the loop would spin. */
static void listen_pause(int error)
{
	log_error("-", "listen paused", LOG_S("reason", strerror(error)),
	          LOG_N("sessions", listen_self.sessions));
	stat_add(&stat_paused, 1);
	listen_want(0);
	loop_timer_set(&listen_self.pause, LISTEN_PAUSE_MS);
}

uint16_t listen_port_of(const struct sockaddr_storage *sa)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	if (sa->ss_family == AF_INET) {
		memcpy(&v4, sa, sizeof v4);
		return ntohs(v4.sin_port);
	}
	memcpy(&v6, sa, sizeof v6);
	return ntohs(v6.sin6_port);
}

bool listen_accept(const struct listener *l)
{
	struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof sa;
	struct smtpd_peer peer = {.mode = l->door->mode};
	int fd = accept4(l->watch.fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			listen_pause(errno);
			return false;
		}
		/* What else there is (ECONNABORTED, network errors) concerns one connection. */
		return errno != EAGAIN && errno != EWOULDBLOCK;
	}
	if (dns_addr_from_sockaddr(&peer.addr, (struct sockaddr *)&sa)) {
		close(fd);
		return true;
	}
	peer.port = listen_port_of(&sa);
	if (WITH_PROXY && listen_self.setup->conf->haproxy_incoming)
		listen_proxy_wait(fd, l->door, &peer.addr, peer.port);
	else
		listen_admit(fd, l->door, &peer);
	return true;
}

/* ---- the end -------------------------------------------------------------------------------- */

static void listen_close_one(struct listener *l)
{
	int fd = l->watch.fd;
	loop_fd_unwatch(&l->watch);
	if (fd >= 0)
		close(fd);
	l->door = NULL;
}

static void listen_close_listeners(void)
{
	loop_timer_stop(&listen_self.pause);
	loop_timer_stop(&listen_self.retry);
	for (size_t i = 0; i < listen_self.count; i++)
		if (listen_self.listeners[i].door)
			listen_close_one(&listen_self.listeners[i]);
	listen_self.count = 0;
}

void listen_stop(void)
{
	listen_close_listeners();
	if (WITH_PROXY)
		listen_proxy_close();
	for (struct listen_place *p = listen_self.places; p; p = p->next)
		smtpd_ask_to_leave(p->session);
}

void listen_close(void)
{
	struct listen_place *next;
	listen_close_listeners();
	if (WITH_PROXY)
		listen_proxy_close();
	for (struct listen_place *p = listen_self.places; p; p = next) {
		next = p->next;
		smtpd_free(p->session);
		listen_leave(p);
	}
}

size_t listen_sessions(void)
{
	return listen_self.sessions;
}

/* Is it an address of this machine? */
static bool listen_is_local(const struct dns_addr *a)
{
	struct ifaddrs *list;
	struct dns_addr here;
	bool found = listen_is_wildcard(a) ||
	             (a->family == AF_INET && ntohl(a->ip.v4.s_addr) >> 24 == IN_LOOPBACKNET);
	if (found || getifaddrs(&list))
		return found;
	for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next)
		found = i->ifa_addr && dns_addr_from_sockaddr(&here, i->ifa_addr) == 0 &&
		        dns_addr_equal(&here, a);
	freeifaddrs(list);
	return found;
}

bool listen_is_ours(const struct dns_addr *a, uint16_t port)
{
	for (size_t i = 0; i < listen_self.count; i++) {
		const struct listener *l = &listen_self.listeners[i];
		if (!l->door || l->port != port)
			continue;
		if (l->wildcard
		        ? (l->addr.family == AF_INET6 || a->family == AF_INET) && listen_is_local(a)
		        : dns_addr_equal(&l->addr, a))
			return true;
	}
	return false;
}
