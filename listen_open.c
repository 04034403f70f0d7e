/*
 * listen_open: listening sockets: opened, taken over from systemd, and changed while running.
 *
 * A listener has a place in a list for as long as it is configured, also while its address is not
 * there. At a reload those that stay are never closed. One that goes first lets in who has
 * connected already; so does one that has to make way for another on the same port.
 */
#include "listen_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io.h"
#include "log.h"
#include "maillog.h"

/* The first inherited descriptor (sd_listen_fds). */
#define LISTEN_FDS_START 3

static const struct listen_door listen_doors[] = {
    {"smtp_address", "smtp", SMTPD_MX, false},
    {"submission_address", "submission", SMTPD_SUBMISSION, false},
    {"submission_over_tls_address", "submission_tls", SMTPD_SUBMISSION, true},
};
#define LISTEN_DOORS (sizeof listen_doors / sizeof listen_doors[0])

static void listen_ready(void *arg, unsigned events)
{
	struct listener *l = arg;
	(void)events;
	for (int i = 0; i < LISTEN_ACCEPTS; i++)
		if (!listen_accept(l))
			return;
}

/* ---- opening -------------------------------------------------------------------------------- */

bool listen_is_wildcard(const struct dns_addr *a)
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
	if (io_nonblock(fd) || (listen_self.started && listen_allow(fd)) ||
	    loop_fd_watch(&l->watch, fd, listen_self.started ? LOOP_READ : 0)) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	l->watch.last = true;
	if (loop_timer_is_set(&listen_self.pause))
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
	if (fd < 0 && errno == EADDRNOTAVAIL && listen_self.give_up_root && l->port < 1024)
		fd = listen_socket(&l->addr, l->port, true);
	return fd < 0 ? -1 : listen_watch(l, fd);
}

/* Room for the text of an address with its port. */
#define LISTEN_TEXT (INET6_ADDRSTRLEN + 10)

static const char *listen_text(const struct listener *l, char out[LISTEN_TEXT])
{
	char ip[INET6_ADDRSTRLEN];
	bool v6 = l->addr.family == AF_INET6;
	snprintf(out, LISTEN_TEXT, "%s%s%s:%u", v6 ? "[" : "", dns_addr_text(&l->addr, ip),
	         v6 ? "]" : "", l->port);
	return out;
}

static void listen_log_opened(const struct listener *l)
{
	char ip[INET6_ADDRSTRLEN], text[LISTEN_TEXT];
	log_info("-", "listen opened", LOG_S("for", l->door->key),
	         LOG_S("address", dns_addr_text(&l->addr, ip)), LOG_N("port", l->port));
	maillog_listen(listen_text(l, text));
}

static void listen_try_again(void *arg)
{
	bool missing = false;
	(void)arg;
	for (size_t i = 0; i < listen_self.count; i++) {
		struct listener *l = &listen_self.listeners[i];
		if (!l->door || l->watch.fd >= 0)
			continue;
		if (listen_try(l))
			missing = true;
		else
			listen_log_opened(l);
	}
	if (missing)
		loop_timer_set(&listen_self.retry, LISTEN_RETRY_MS);
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
	size_t at = 0;
	while (at < listen_self.count && listen_self.listeners[at].door)
		at++;
	if (at == LISTEN_MAX)
		return NULL;
	if (at == listen_self.count)
		listen_self.count++;
	struct listener *l = &listen_self.listeners[at];
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
		loop_timer_set(&listen_self.retry, LISTEN_RETRY_MS);
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
	l->inherited = true;
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

/* Users may log in with TLS only, so there must be certificates. NULL when all is well. */
static const char *listen_without_certs(const struct listen_door *door)
{
	if (door->mode == SMTPD_SUBMISSION && !WITH_AUTH)
		return "users do not log in here: this chasq was built without";
	if (door->mode != SMTPD_SUBMISSION ||
	    (listen_self.setup->certs && tls_certs_count(listen_self.setup->certs) > 0))
		return NULL;
	return WITH_TLS ? "users log in with TLS only, and no certificate could be loaded: put "
	                  "fullchain.pem and privkey.pem into certs/NAME/"
	                : "users log in with TLS only, which this chasq was built without";
}

/* Opens the addresses of one key. */
static int listen_open_door(const struct listen_door *door, const struct text_strings *list,
                            char *err, size_t err_size)
{
	size_t before = listen_self.count;
	for (size_t i = 0; i < list->count; i++) {
		const char *address = list->item[i];
		int rc = strcmp(address, "systemd") == 0
		             ? listen_open_systemd(door, err, err_size)
		             : listen_open_address(door, address, err, err_size);
		if (rc)
			return -1;
	}
	if (listen_self.count == before)
		return 0;
	const char *why = listen_without_certs(door);
	if (!why)
		return 0;
	snprintf(err, err_size, "%s: %s", door->key, why);
	return -1;
}

/* What the configuration says for the door with this index. */
static const struct text_strings *listen_list(size_t door)
{
	const struct conf *conf = listen_self.setup->conf;
	const struct text_strings *const lists[LISTEN_DOORS] = {
	    &conf->smtp_address, &conf->submission_address, &conf->submission_over_tls_address};
	return lists[door];
}

int listen_open(const struct smtpd_setup *setup, bool give_up_root, char *err, size_t err_size)
{
	int room = loop_fd_room();
	memset(&listen_self, 0, sizeof listen_self);
	listen_self.setup = setup;
	listen_self.give_up_root = give_up_root;
	listen_self.reserve = room / 2 < LISTEN_FD_RESERVE ? room / 2 : LISTEN_FD_RESERVE;
	loop_timer_init(&listen_self.pause, listen_resume, NULL);
	loop_timer_init(&listen_self.retry, listen_try_again, NULL);
	for (size_t i = 0; i < LISTEN_DOORS; i++) {
		if (listen_open_door(&listen_doors[i], listen_list(i), err, err_size)) {
			listen_close();
			return -1;
		}
	}
	if (listen_self.count == 0) {
		snprintf(err, err_size,
		         "smtp_address: no address to listen on, and no socket named smtp from "
		         "systemd");
		return -1;
	}
	return 0;
}

int listen_start(char *err, size_t err_size)
{
	listen_self.started = true;
	for (size_t i = 0; i < listen_self.count; i++) {
		struct listener *l = &listen_self.listeners[i];
		if (!l->door || l->watch.fd < 0)
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

/* ---- another configuration ------------------------------------------------------------------ */

static struct listener *listen_find(const struct dns_addr *a, uint16_t port)
{
	for (size_t i = 0; i < listen_self.count; i++) {
		struct listener *l = &listen_self.listeners[i];
		if (l->door && !l->inherited && l->port == port && dns_addr_equal(&l->addr, a))
			return l;
	}
	return NULL;
}

/* Marks the listeners that stay. */
static void listen_mark(struct buf *report)
{
	char text[LISTEN_TEXT];
	struct dns_addr a;
	uint16_t port;
	for (size_t i = 0; i < listen_self.count; i++)
		listen_self.listeners[i].wanted = listen_self.listeners[i].inherited;
	for (size_t d = 0; d < LISTEN_DOORS; d++) {
		const struct text_strings *list = listen_list(d);
		for (size_t i = 0; i < list->count; i++) {
			struct listener *l = listen_parse(list->item[i], &a, &port) == 0
			                         ? listen_find(&a, port)
			                         : NULL;
			if (!l || l->wanted)
				continue;
			l->wanted = true;
			if (l->door != &listen_doors[d])
				buf_printf(report, "listening on %s for %s\n", listen_text(l, text),
				           listen_doors[d].key);
			l->door = &listen_doors[d];
		}
	}
}

/* Takes in who has connected already, and closes the socket; the place stays. */
static void listen_shut(struct listener *l)
{
	int fd = l->watch.fd;
	if (fd < 0)
		return;
	for (int i = 0; listen_self.started && i < LISTEN_BACKLOG && listen_accept(l); i++)
		;
	loop_fd_unwatch(&l->watch);
	close(fd);
}

/* Listeners that are not wanted leave this port. Returns whether there were any. */
static bool listen_make_way(uint16_t port)
{
	bool any = false;
	for (size_t i = 0; i < listen_self.count; i++) {
		struct listener *l = &listen_self.listeners[i];
		if (!l->door || l->wanted || l->port != port || l->watch.fd < 0)
			continue;
		listen_shut(l);
		any = true;
	}
	return any;
}

static const char *listen_why(int error, uint16_t port)
{
	return error == EACCES && port < 1024
	           ? "a port below 1024 is for root, and root was given up at the start: restart, "
	             "or give CAP_NET_BIND_SERVICE"
	           : strerror(error);
}

/* Opens an address that is new. NULL, or why not. */
static const char *listen_open_new(const struct listen_door *door, const struct dns_addr *a,
                                   uint16_t port, struct buf *report)
{
	char text[LISTEN_TEXT];
	const char *why = listen_without_certs(door);
	struct listener *l = why ? NULL : listen_add(door, a, port);
	if (!l)
		return why ? why : "too many addresses";
	l->wanted = true;
	int rc = listen_try(l);
	if (rc && errno == EADDRINUSE && listen_make_way(port))
		rc = listen_try(l);
	if (rc == 0) {
		listen_log_opened(l);
		buf_printf(report, "listening on %s for %s\n", listen_text(l, text), door->key);
	} else if (errno == EADDRNOTAVAIL) {
		loop_timer_set(&listen_self.retry, LISTEN_RETRY_MS);
		buf_printf(report, "listening on %s for %s as soon as the address is there\n",
		           listen_text(l, text), door->key);
	} else {
		why = listen_why(errno, port);
		l->door = NULL;
	}
	return why;
}

/* All of a door's listeners stay, since it did not get all that it should. */
static void listen_keep(const struct listen_door *door)
{
	for (size_t i = 0; i < listen_self.count; i++) {
		struct listener *l = &listen_self.listeners[i];
		if (l->door && !l->wanted && (!door || l->door == door)) {
			l->wanted = true;
			if (l->watch.fd < 0 && listen_try(l))
				loop_timer_set(&listen_self.retry, LISTEN_RETRY_MS);
		}
	}
}

/* Opens what is new of a door. Returns how many were refused. */
static size_t listen_reload_door(size_t d, struct buf *report)
{
	const struct listen_door *door = &listen_doors[d];
	const struct text_strings *list = listen_list(d);
	size_t refused = 0;
	for (size_t i = 0; i < list->count; i++) {
		const char *address = list->item[i];
		struct dns_addr a;
		uint16_t port;
		if (strcmp(address, "systemd") == 0)
			continue;
		const char *why = NULL;
		if (listen_parse(address, &a, &port))
			why = "not host:port";
		else if (!listen_find(&a, port))
			why = listen_open_new(door, &a, port, report);
		if (!why)
			continue;
		refused++;
		log_error("-", "listen refused an address", LOG_S("for", door->key),
		          LOG_S("address", address), LOG_S("reason", why));
		buf_printf(report, "refused %s \"%s\": %s\n", door->key, address, why);
	}
	if (refused > 0)
		listen_keep(door);
	return refused;
}

size_t listen_reload(struct buf *report)
{
	char text[LISTEN_TEXT];
	size_t refused = 0, wanted = 0;
	listen_mark(report);
	for (size_t d = 0; d < LISTEN_DOORS; d++)
		refused += listen_reload_door(d, report);
	for (size_t i = 0; i < listen_self.count; i++)
		wanted += listen_self.listeners[i].door && listen_self.listeners[i].wanted;
	if (wanted == 0) {
		buf_puts(report, "refused smtp_address: no address to listen on would be left\n");
		listen_keep(NULL);
		return refused + 1;
	}
	for (size_t i = 0; i < listen_self.count; i++) {
		struct listener *l = &listen_self.listeners[i];
		if (!l->door || l->wanted)
			continue;
		listen_shut(l);
		log_info("-", "listen closed", LOG_S("for", l->door->key),
		         LOG_S("address", listen_text(l, text)));
		buf_printf(report, "no longer listening on %s\n", text);
		l->door = NULL;
	}
	return refused;
}
