/*
 * listen: listening sockets, admission, and the lives of SMTP server sessions.
 *
 * Nothing that a stranger can do here ends the daemon or starves its other work: sessions are
 * bounded in all and per address, descriptors are kept back for deliveries, DNS and children, and
 * when accept() itself runs out of them, listening pauses. A refused client is told 421 with one
 * write that may fail. Listening sockets are served last in a turn, after what could free a place.
 */
#include "listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io.h"
#include "log.h"
#include "loop.h"
#include "stat.h"

STAT_COUNTER(stat_refused, "listen/refused");
STAT_COUNTER(stat_paused, "listen/paused");

/* The first inherited descriptor (sd_listen_fds). */
#define LISTEN_FDS_START 3

/* What comes in at an address. */
struct listen_door {
	const char *key;  /* in chasq.conf */
	const char *name; /* of inherited sockets */
	enum smtpd_mode mode;
	bool tls; /* from the first byte */
};

static const struct listen_door listen_doors[] = {
    {"smtp_address", "smtp", SMTPD_MX, false},
    {"submission_address", "submission", SMTPD_SUBMISSION, false},
    {"submission_over_tls_address", "submission_tls", SMTPD_SUBMISSION, true},
};

struct listener {
	struct loop_fd watch; /* fd -1: its address is not there yet */
	const struct listen_door *door;
	struct dns_addr addr;
	uint16_t port;
	bool wildcard;
};

/* A place for a session, in a list. */
struct listen_place {
	struct smtpd *session;
	struct dns_addr addr;
	struct listen_place *next;
	struct listen_place *prev;
};

static struct {
	const struct smtpd_setup *setup;
	struct listener listeners[LISTEN_MAX];
	size_t count;
	struct loop_timer pause; /* set: nothing is accepted */
	struct loop_timer retry; /* set: some listener is not open yet */
	struct listen_place *places;
	size_t sessions;
	bool give_up_root;
	bool started;
	int reserve;    /* descriptors that sessions may not use */
	int64_t logged; /* when a refusal was logged last, loop_now(); 0 never */
	int64_t not_logged;
} L;

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
	for (const struct listen_place *p = L.places; p; p = p->next) {
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

/* Why this client cannot come in now, or NULL. */
static const char *listen_refusal(const struct dns_addr *a)
{
	if (L.sessions >= LISTEN_SESSIONS_MAX)
		return "too many connections";
	if (listen_has_enough(a))
		return "too many connections from your address";
	/* Each session has a socket, which is counted already, and may open a spool file. */
	if (loop_fd_room() - (int)L.sessions - 2 < L.reserve)
		return "too many connections";
	return NULL;
}

static void listen_log_refusal(const struct dns_addr *a, const char *why)
{
	char ip[INET6_ADDRSTRLEN];
	stat_add(&stat_refused, 1);
	if (L.logged && loop_now() - L.logged < LISTEN_LOG_MS) {
		L.not_logged++;
		return;
	}
	log_info("-", "listen refused", LOG_S("peer", dns_addr_text(a, ip)), LOG_S("reason", why),
	         LOG_N("unlogged", L.not_logged));
	L.logged = loop_now();
	L.not_logged = 0;
}

/* Takes fd: says 421 as well as it goes without waiting, and closes. A client that begins with TLS
 * would not understand. */
static void listen_refuse(int fd, const struct listen_door *door, const struct dns_addr *a,
                          const char *why)
{
	char text[STATUS_TEXT_MAX];
	int n = snprintf(text, sizeof text, "421 4.7.0 %.255s %s, try again later\r\n",
	                 L.setup->conf->hostname, why);
	if (!door->tls && send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) == n)
		shutdown(fd, SHUT_WR);
	close(fd);
	listen_log_refusal(a, why);
}

/* ---- sessions ------------------------------------------------------------------------------- */

static void listen_leave(struct listen_place *p)
{
	if (p->prev)
		p->prev->next = p->next;
	else
		L.places = p->next;
	if (p->next)
		p->next->prev = p->prev;
	L.sessions--;
	free(p);
}

static void listen_session_ended(void *arg)
{
	listen_leave(arg);
}

/* Takes fd. */
static void listen_begin(int fd, const struct listen_door *door, const struct dns_addr *a,
                         uint16_t port)
{
	struct smtpd_peer peer = {.mode = door->mode,
	                          .addr = *a,
	                          .port = port,
	                          .tls = door->tls,
	                          .trusted =
	                              door->mode == SMTPD_MX && conf_is_trusted(L.setup->conf, a)};
	struct listen_place *p = calloc(1, sizeof *p);
	if (!p) {
		listen_refuse(fd, door, a, "out of memory");
		return;
	}
	p->addr = *a;
	p->session = smtpd_new(L.setup, &peer, listen_session_ended, p);
	if (!p->session) {
		free(p);
		listen_refuse(fd, door, a, "out of memory");
		return;
	}
	if (io_open(smtpd_io(p->session), fd)) {
		smtpd_free(p->session);
		free(p);
		listen_log_refusal(a, "no descriptor");
		return;
	}
	p->next = L.places;
	if (p->next)
		p->next->prev = p;
	L.places = p;
	L.sessions++;
	smtpd_start(p->session);
}

/* ---- accept --------------------------------------------------------------------------------- */

static void listen_want(unsigned want)
{
	for (size_t i = 0; i < L.count; i++)
		loop_fd_want(&L.listeners[i].watch, want);
}

static void listen_resume(void *arg)
{
	(void)arg;
	listen_want(LOOP_READ);
}

/* select() would report the listener again at once, and the loop would spin. */
static void listen_pause(int error)
{
	log_error("-", "listen paused", LOG_S("reason", strerror(error)),
	          LOG_N("sessions", L.sessions));
	stat_add(&stat_paused, 1);
	listen_want(0);
	loop_timer_set(&L.pause, LISTEN_PAUSE_MS);
}

static uint16_t listen_port_of(const struct sockaddr_storage *sa)
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

/* Accepts one connection. Returns false when there is none, or after a pause began. */
static bool listen_accept(const struct listener *l)
{
	struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof sa;
	struct dns_addr a;
	int fd = accept4(l->watch.fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			listen_pause(errno);
			return false;
		}
		/* What else there is (ECONNABORTED, network errors) concerns one connection. */
		return errno != EAGAIN && errno != EWOULDBLOCK;
	}
	if (dns_addr_from_sockaddr(&a, (struct sockaddr *)&sa)) {
		close(fd);
		return true;
	}
	const char *why = listen_refusal(&a);
	if (why)
		listen_refuse(fd, l->door, &a, why);
	else
		listen_begin(fd, l->door, &a, listen_port_of(&sa));
	return true;
}

static void listen_ready(void *arg, unsigned events)
{
	struct listener *l = arg;
	(void)events;
	for (int i = 0; i < LISTEN_ACCEPTS; i++)
		if (!listen_accept(l))
			return;
}

/* ---- opening -------------------------------------------------------------------------------- */

static bool listen_is_wildcard(const struct dns_addr *a)
{
	if (a->family == AF_INET)
		return a->ip.v4.s_addr == htonl(INADDR_ANY);
	return IN6_IS_ADDR_UNSPECIFIED(&a->ip.v6);
}

/* Lets clients connect, unless that was the case already. 0, or -1 with errno. */
static int listen_allow(int fd)
{
	int listening = 0;
	socklen_t size = sizeof listening;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size))
		return -1;
	return listening ? 0 : listen(fd, LISTEN_BACKLOG);
}

/* Takes a bound socket, which is the listener's from here on. 0, or -1 with errno. */
static int listen_watch(struct listener *l, int fd)
{
	if (io_nonblock(fd) || (L.started && listen_allow(fd)) ||
	    loop_fd_watch(&l->watch, fd, L.started ? LOOP_READ : 0)) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	l->watch.last = true;
	if (loop_timer_is_set(&L.pause))
		loop_fd_want(&l->watch, 0);
	return 0;
}

/* Makes a bound socket, also for an address that is not there. The descriptor, or -1 with
 * errno. */
static int listen_socket(const struct dns_addr *a, uint16_t port, bool not_there)
{
	struct sockaddr_storage sa;
	socklen_t len = dns_addr_to_sockaddr(a, port, &sa);
	int one = 1;
	int only = !listen_is_wildcard(a);
	int fd = socket(a->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
	    (!not_there || setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof one) == 0) &&
	    (a->family == AF_INET ||
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) == 0) &&
	    bind(fd, (struct sockaddr *)&sa, len) == 0)
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* Opens a listener that has its address. 0, or -1 with errno. */
static int listen_try(struct listener *l)
{
	int fd = listen_socket(&l->addr, l->port, false);
	/* No IPv6 in this kernel, or switched off: the wildcard then means IPv4. */
	if (fd < 0 && l->wildcard && l->addr.family == AF_INET6 &&
	    (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) {
		struct dns_addr any = {.family = AF_INET};
		fd = listen_socket(&any, l->port, false);
	}
	/* Only root may bind it, so it is now or never. */
	if (fd < 0 && errno == EADDRNOTAVAIL && L.give_up_root && l->port < 1024)
		fd = listen_socket(&l->addr, l->port, true);
	return fd < 0 ? -1 : listen_watch(l, fd);
}

static void listen_log_opened(const struct listener *l)
{
	char ip[INET6_ADDRSTRLEN];
	log_info("-", "listen opened", LOG_S("for", l->door->key),
	         LOG_S("address", dns_addr_text(&l->addr, ip)), LOG_N("port", l->port));
}

static void listen_try_again(void *arg)
{
	bool missing = false;
	(void)arg;
	for (size_t i = 0; i < L.count; i++) {
		struct listener *l = &L.listeners[i];
		if (l->watch.fd >= 0)
			continue;
		if (listen_try(l))
			missing = true;
		else
			listen_log_opened(l);
	}
	if (missing)
		loop_timer_set(&L.retry, LISTEN_RETRY_MS);
}

/* A number, or one of the names of RFC 8314 and IANA. 0, or -1. */
static int listen_parse_port(const char *s, uint16_t *port)
{
	static const struct {
		const char *name;
		uint16_t port;
	} names[] = {{"smtp", 25}, {"submission", 587}, {"submissions", 465}};
	char *end;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (strcmp(s, names[i].name) == 0) {
			*port = names[i].port;
			return 0;
		}
	}
	if (*s < '0' || *s > '9')
		return -1;
	unsigned long n = strtoul(s, &end, 10);
	if (*end || n == 0 || n > 65535)
		return -1;
	*port = (uint16_t)n;
	return 0;
}

/* Reads "host:port", ":port" or "[v6]:port". 0, or -1. */
static int listen_parse(const char *s, struct dns_addr *a, uint16_t *port)
{
	const char *colon = strrchr(s, ':');
	if (!colon || listen_parse_port(colon + 1, port))
		return -1;
	struct slice host = {s, (size_t)(colon - s)};
	if (host.n == 0) {
		*a = (struct dns_addr){.family = AF_INET6};
		return 0;
	}
	if (slice_is_nocase(host, "localhost"))
		host = slice_of("127.0.0.1");
	bool brackets = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
	if (brackets)
		host = (struct slice){host.p + 1, host.n - 2};
	if (dns_addr_parse(a, host))
		return -1;
	/* Without brackets an IPv6 address and its port cannot be told apart. */
	return (a->family == AF_INET6) == brackets ? 0 : -1;
}

static struct listener *listen_add(const struct listen_door *door, const struct dns_addr *a,
                                   uint16_t port)
{
	if (L.count == LISTEN_MAX)
		return NULL;
	struct listener *l = &L.listeners[L.count++];
	*l = (struct listener){
	    .door = door, .addr = *a, .port = port, .wildcard = listen_is_wildcard(a)};
	loop_fd_init(&l->watch, listen_ready, l);
	return l;
}

static int listen_open_address(const struct listen_door *door, const char *address, char *err,
                               size_t err_size)
{
	struct dns_addr a;
	uint16_t port;
	struct listener *l;
	if (listen_parse(address, &a, &port)) {
		snprintf(err, err_size, "%s: \"%s\" is not host:port", door->key, address);
		return -1;
	}
	l = listen_add(door, &a, port);
	if (!l) {
		snprintf(err, err_size, "%s: more than %d addresses", door->key, LISTEN_MAX);
		return -1;
	}
	if (listen_try(l) == 0)
		return 0;
	if (errno == EADDRNOTAVAIL) {
		log_error("-", "listen address not there yet, trying again",
		          LOG_S("address", address));
		loop_timer_set(&L.retry, LISTEN_RETRY_MS);
		return 0;
	}
	snprintf(err, err_size, "%s: cannot listen on \"%s\": %s", door->key, address,
	         strerror(errno));
	return -1;
}

/* ---- sockets from systemd ------------------------------------------------------------------- */

/* The n-th of names separated by colons; empty when there is none. */
static struct slice listen_name(const char *names, int n)
{
	while (n-- > 0 && names)
		if ((names = strchr(names, ':')))
			names++;
	if (!names)
		return slice_of("");
	return (struct slice){names, strcspn(names, ":")};
}

/* Takes an inherited socket. 0, or -1 with errno. */
static int listen_inherit(const struct listen_door *door, int fd)
{
	struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
	socklen_t len = sizeof sa;
	int listening = 0;
	socklen_t size = sizeof listening;
	struct dns_addr a;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) ||
	    getsockname(fd, (struct sockaddr *)&sa, &len))
		return -1;
	errno = EINVAL;
	if (!listening || dns_addr_from_sockaddr(&a, (struct sockaddr *)&sa))
		return -1;
	struct listener *l = listen_add(door, &a, listen_port_of(&sa));
	if (!l) {
		errno = EMFILE;
		return -1;
	}
	return listen_watch(l, fd);
}

static long listen_env(const char *name)
{
	const char *s = getenv(name);
	return s ? strtol(s, NULL, 10) : 0;
}

static int listen_open_systemd(const struct listen_door *door, char *err, size_t err_size)
{
	const char *names = getenv("LISTEN_FDNAMES");
	long count = listen_env("LISTEN_PID") == getpid() ? listen_env("LISTEN_FDS") : 0;
	for (int i = 0; i < count && i < FD_SETSIZE; i++) {
		int fd = LISTEN_FDS_START + i;
		if (!slice_is(listen_name(names, i), door->name))
			continue;
		if (listen_inherit(door, fd)) {
			snprintf(err, err_size, "%s: inherited descriptor %d: %s", door->key, fd,
			         strerror(errno));
			return -1;
		}
	}
	return 0;
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* Opens the addresses of one key. Users may log in with TLS only, so there must be certificates. */
static int listen_open_door(const struct listen_door *door, const struct text_strings *list,
                            char *err, size_t err_size)
{
	size_t before = L.count;
	for (size_t i = 0; i < list->count; i++) {
		const char *address = list->item[i];
		int rc = strcmp(address, "systemd") == 0
		             ? listen_open_systemd(door, err, err_size)
		             : listen_open_address(door, address, err, err_size);
		if (rc)
			return -1;
	}
	if (L.count == before || door->mode != SMTPD_SUBMISSION)
		return 0;
	if (L.setup->certs && tls_certs_count(L.setup->certs) > 0)
		return 0;
	snprintf(err, err_size, "%s: %s", door->key,
	         WITH_TLS ? "users log in with TLS only, and no certificate could be loaded: put "
	                    "fullchain.pem and privkey.pem into certs/NAME/"
	                  : "users log in with TLS only, which this chasq was built without");
	return -1;
}

int listen_open(const struct smtpd_setup *setup, bool give_up_root, char *err, size_t err_size)
{
	const struct conf *conf = setup->conf;
	const struct text_strings *const lists[] = {&conf->smtp_address, &conf->submission_address,
	                                            &conf->submission_over_tls_address};
	int room = loop_fd_room();
	memset(&L, 0, sizeof L);
	L.setup = setup;
	L.give_up_root = give_up_root;
	L.reserve = room / 2 < LISTEN_FD_RESERVE ? room / 2 : LISTEN_FD_RESERVE;
	loop_timer_init(&L.pause, listen_resume, NULL);
	loop_timer_init(&L.retry, listen_try_again, NULL);
	for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		if (listen_open_door(&listen_doors[i], lists[i], err, err_size)) {
			listen_close();
			return -1;
		}
	}
	if (L.count == 0) {
		snprintf(err, err_size,
		         "smtp_address: no address to listen on, and no socket named smtp from "
		         "systemd");
		return -1;
	}
	return 0;
}

int listen_start(char *err, size_t err_size)
{
	L.started = true;
	for (size_t i = 0; i < L.count; i++) {
		struct listener *l = &L.listeners[i];
		if (l->watch.fd < 0)
			continue;
		if (listen_allow(l->watch.fd)) {
			snprintf(err, err_size, "%s: cannot listen on port %u: %s", l->door->key,
			         l->port, strerror(errno));
			listen_close();
			return -1;
		}
		loop_fd_want(&l->watch, LOOP_READ);
		listen_log_opened(l);
	}
	return 0;
}

static void listen_close_listeners(void)
{
	loop_timer_stop(&L.pause);
	loop_timer_stop(&L.retry);
	for (size_t i = 0; i < L.count; i++) {
		int fd = L.listeners[i].watch.fd;
		loop_fd_unwatch(&L.listeners[i].watch);
		if (fd >= 0)
			close(fd);
	}
	L.count = 0;
}

void listen_stop(void)
{
	listen_close_listeners();
	for (struct listen_place *p = L.places; p; p = p->next)
		smtpd_ask_to_leave(p->session);
}

void listen_close(void)
{
	struct listen_place *next;
	listen_close_listeners();
	for (struct listen_place *p = L.places; p; p = next) {
		next = p->next;
		smtpd_free(p->session);
		listen_leave(p);
	}
}

size_t listen_sessions(void)
{
	return L.sessions;
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
	for (size_t i = 0; i < L.count; i++) {
		const struct listener *l = &L.listeners[i];
		if (l->port != port)
			continue;
		if (l->wildcard
		        ? (l->addr.family == AF_INET6 || a->family == AF_INET) && listen_is_local(a)
		        : dns_addr_equal(&l->addr, a))
			return true;
	}
	return false;
}
