/*
 * dns_channel: c-ares on our loop, a channel for each set of servers.
 *
 * We watch its sockets (socket-state callback) and run its timer. The newest channel takes the new
 * questions; when resolv.conf or dns_servers change, there is a newer one, and the one of before is
 * retired: it lives until its last flight has landed, or until DNS_CHANNELS_MAX newer ones exist.
 *
 * A channel is some 75 KB, so there is none as long as nobody asks: it is made for a question, and
 * goes when there was none for DNS_REST_MS. What it has learnt of its servers (which one did not
 * answer) is too old by then to be worth anything.
 *
 * DNSSEC is left to the servers: where all of a channel's are on loopback addresses, so that nobody
 * stands between, and the operator says that they validate, questions carry the AD bit and that of
 * the answer is believed (RFC 6840 5.7, 5.8; RFC 7672 2.1). c-ares has no such option: these
 * questions are built first and then sent.
 *
 * resolv.conf is small and local.
 */
#include "dns_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

/* ares_query is deprecated from 1.28 on, but its successor is not in 1.18. */
#define CARES_NO_DEPRECATED
#include <ares.h>

#include "config.h"
#include "dns_answer.h"
#include "memory.h"

struct dns_sock {
	struct loop_fd watch;
	struct dns_channel *channel;
};

struct dns_channel {
	struct dns_channel *next; /* the one before it in time */
	ares_channel ares;
	bool trusted; /* the servers validate, and are near enough to be believed */
	struct loop_timer timer;
	size_t flights;
	int64_t used; /* when there was the last one */
	struct dns_sock socks[DNS_SOCKS_MAX];
};

struct file_id {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed;
};

static struct {
	char *servers; /* NULL: those of resolv_conf */
	char *resolv_conf;
	int timeout_ms;
	int tries;
	int rest_ms;
	bool dnssec;
	struct dns_channel *list; /* the newest first */
	struct dns_channel *now;  /* takes the questions, the others are retired; NULL: none does */
	struct loop_timer sweep;
	struct loop_timer rest;
	int64_t checked;
	struct file_id conf_id;
} channels;

static void channel_schedule(struct dns_channel *c)
{
	struct timeval tv;
	const struct timeval *t = ares_timeout(c->ares, NULL, &tv);
	if (!t) {
		loop_timer_stop(&c->timer);
		return;
	}
	/* The bound keeps tries coming should the library's idea of a timeval differ from ours. */
	int64_t ms = (int64_t)t->tv_sec * 1000 + t->tv_usec / 1000 + 1;
	loop_timer_set(&c->timer, ms > 0 && ms < DNS_TICK_MS ? ms : DNS_TICK_MS);
}

static void channel_tick(void *arg)
{
	struct dns_channel *c = arg;
	ares_process_fd(c->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	channel_schedule(c);
}

static void sock_ready(void *arg, unsigned events)
{
	struct dns_sock *s = arg;
	struct dns_channel *c = s->channel;
	int fd = s->watch.fd;
	ares_process_fd(c->ares, events & LOOP_READ ? fd : ARES_SOCKET_BAD,
	                events & LOOP_WRITE ? fd : ARES_SOCKET_BAD);
	channel_schedule(c);
}

/* c-ares tells what it wants of a socket; nothing means that it closes it. A socket that cannot be
 * watched makes its queries time out. */
static void sock_state(void *data, ares_socket_t fd, int readable, int writable)
{
	struct dns_channel *c = data;
	struct dns_sock *free_sock = NULL;
	unsigned want = (readable ? LOOP_READ : 0) | (writable ? LOOP_WRITE : 0);
	for (size_t i = 0; i < DNS_SOCKS_MAX; i++) {
		struct dns_sock *s = &c->socks[i];
		if (s->watch.fd == fd) {
			if (want)
				loop_fd_want(&s->watch, want);
			else
				loop_fd_unwatch(&s->watch);
			return;
		}
		if (s->watch.fd < 0 && !free_sock)
			free_sock = s;
	}
	if (want && free_sock)
		loop_fd_watch(&free_sock->watch, fd, want);
}

static int channel_ares_init(struct dns_channel *c)
{
	static char no_conf[] = "/dev/null";
	static char lookups[] = "b";
	struct ares_options o = {
	    .flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS,
	    .timeout = channels.timeout_ms,
	    .tries = channels.tries,
	    .lookups = lookups,
	    .sock_state_cb = sock_state,
	    .sock_state_cb_data = c,
	    .ednspsz = DNS_UDP_SIZE,
	    .resolvconf_path = channels.servers ? no_conf : channels.resolv_conf,
	};
	int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
	           ARES_OPT_SOCK_STATE_CB | ARES_OPT_EDNSPSZ | ARES_OPT_RESOLVCONF;
#if ARES_VERSION >= 0x011700
	/* Its cache knows no bound in memory; boards have a caching forwarder where it matters. */
	o.qcache_max_ttl = 0;
	mask |= ARES_OPT_QUERY_CACHE;
#endif
	if (ares_init_options(&c->ares, &o, mask) != ARES_SUCCESS)
		return -1;
	if (channels.servers &&
	    ares_set_servers_ports_csv(c->ares, channels.servers) != ARES_SUCCESS) {
		ares_destroy(c->ares);
		return -1;
	}
	return 0;
}

/* True when all servers of the channel are on loopback addresses. */
static bool channel_is_local(const struct dns_channel *c)
{
	struct ares_addr_port_node *servers = NULL;
	if (ares_get_servers_ports(c->ares, &servers) != ARES_SUCCESS)
		return false;
	bool local = servers != NULL;
	for (const struct ares_addr_port_node *s = servers; s && local; s = s->next) {
		struct in6_addr v6;
		memcpy(&v6, &s->addr.addr6, sizeof v6);
		if (s->family == AF_INET)
			local = ntohl(s->addr.addr4.s_addr) >> 24 == IN_LOOPBACKNET;
		else
			local = s->family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6);
	}
	ares_free_data(servers);
	return local;
}

static struct dns_channel *channel_new(void)
{
	struct dns_channel *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	loop_timer_init(&c->timer, channel_tick, c);
	for (size_t i = 0; i < DNS_SOCKS_MAX; i++) {
		c->socks[i].channel = c;
		loop_fd_init(&c->socks[i].watch, sock_ready, &c->socks[i]);
	}
	if (channel_ares_init(c)) {
		free(c);
		return NULL;
	}
	c->trusted = channels.dnssec && channel_is_local(c);
	return c;
}

/* Flights still under way land as DNS_TIMEOUT. Never called from inside c-ares. */
static void channel_free(struct dns_channel *c)
{
	ares_destroy(c->ares);
	for (size_t i = 0; i < DNS_SOCKS_MAX; i++)
		loop_fd_unwatch(&c->socks[i].watch);
	loop_timer_stop(&c->timer);
	free(c);
}

/* Frees the retired channels that are done, and those too many. */
static void channels_sweep(void)
{
	size_t kept = 0;
	for (struct dns_channel **p = &channels.list; *p;) {
		struct dns_channel *c = *p;
		if (c == channels.now || (c->flights > 0 && kept < DNS_CHANNELS_MAX)) {
			kept++;
			p = &c->next;
			continue;
		}
		*p = c->next;
		channel_free(c);
	}
}

/* Could a channel be made again? Root was given up, and the sandbox entered, after the first. */
static bool conf_is_readable(void)
{
	int fd = open(channels.servers ? "/dev/null" : channels.resolv_conf,
	              O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT;
	close(fd);
	return true;
}

static void channels_tidy(void *arg)
{
	struct dns_channel *c = channels.now;
	(void)arg;
	if (c && c->flights == 0 && loop_now() - c->used >= channels.rest_ms && conf_is_readable())
		channels.now = NULL;
	channels_sweep();
	memory_freed();
}

static struct file_id conf_identify(void)
{
	struct stat st;
	if (stat(channels.resolv_conf, &st))
		return (struct file_id){0};
	return (struct file_id){st.st_dev, st.st_ino, st.st_size, st.st_mtim};
}

static bool conf_is_same(void)
{
	struct file_id id = conf_identify();
	return id.dev == channels.conf_id.dev && id.ino == channels.conf_id.ino &&
	       id.size == channels.conf_id.size &&
	       id.changed.tv_sec == channels.conf_id.changed.tv_sec &&
	       id.changed.tv_nsec == channels.conf_id.changed.tv_nsec;
}

/* Returns 0, or -1 when the channel in use stays. */
static int channel_renew(void)
{
	struct file_id id = conf_identify(); /* before the reading: a later change shows */
	struct dns_channel *c = channel_new();
	if (!c)
		return -1;
	channels.conf_id = id;
	channels.checked = loop_now();
	c->used = loop_now();
	c->next = channels.list;
	channels.list = channels.now = c;
	channels_sweep();
	loop_timer_set(&channels.rest, channels.rest_ms);
	return 0;
}

/* ---- for dns.c ---- */

static char *copy_or(const char *s, const char *otherwise)
{
	return strdup(s && *s ? s : otherwise);
}

int dns_channels_open(const struct dns_setup *setup)
{
	bool given = setup->servers && *setup->servers;
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		return -1;
	loop_timer_init(&channels.sweep, channels_tidy, NULL);
	loop_timer_init(&channels.rest, channels_tidy, NULL);
	channels.timeout_ms = setup->timeout_ms > 0 ? setup->timeout_ms : DNS_TRY_MS;
	channels.tries = setup->tries > 0 ? setup->tries : DNS_TRIES;
	channels.rest_ms = setup->rest_ms > 0 ? setup->rest_ms : DNS_REST_MS;
	channels.dnssec = setup->dnssec;
	channels.resolv_conf = copy_or(setup->resolv_conf, DNS_RESOLV_CONF);
	channels.servers = given ? strdup(setup->servers) : NULL;
	if (!channels.resolv_conf || (given && !channels.servers) || channel_renew()) {
		dns_channels_close();
		return -1;
	}
	/* It was to show that it can be made; when nobody asks soon, it goes. */
	channels.now->used -= channels.rest_ms;
	loop_timer_set(&channels.rest, 0);
	return 0;
}

void dns_channels_close(void)
{
	channels.now = NULL;
	while (channels.list) {
		struct dns_channel *c = channels.list;
		channels.list = c->next;
		channel_free(c);
	}
	loop_timer_stop(&channels.sweep);
	loop_timer_stop(&channels.rest);
	free(channels.servers);
	free(channels.resolv_conf);
	memset(&channels, 0, sizeof channels);
	ares_library_cleanup();
}

void dns_channels_renew(void)
{
	if (channels.now)
		channel_renew();
}

int dns_channels_set(const char *servers, bool dnssec)
{
	char *before = channels.servers;
	bool dnssec_before = channels.dnssec;
	bool given = servers && *servers;
	char *copy = given ? strdup(servers) : NULL;
	if (given && !copy)
		return -1;
	channels.servers = copy;
	channels.dnssec = dnssec;
	if (channel_renew() == 0) {
		free(before);
		return 0;
	}
	channels.servers = before;
	channels.dnssec = dnssec_before;
	free(copy);
	return -1;
}

struct dns_channel *dns_channel_now(void)
{
	if (!channels.now) {
		channel_renew();
	} else if (!channels.servers && loop_now() - channels.checked >= DNS_CHECK_MS) {
		channels.checked = loop_now();
		if (!conf_is_same())
			channel_renew();
	}
	return channels.now;
}

/* ares_query() with the AD bit. */
static void channel_ask_trusted(struct dns_channel *c, const char *name, int type,
                                dns_landed_fn *landed, void *arg)
{
	unsigned char *query = NULL;
	int n = 0;
	int e = ares_create_query(name, DNS_CLASS_IN, type, (uint16_t)dns_answer_random(), 1,
	                          &query, &n, DNS_UDP_SIZE);
	if (e != ARES_SUCCESS) {
		landed(arg, e, 0, NULL, 0);
		return;
	}
	dns_answer_want_authentic(query, (size_t)n);
	ares_send(c->ares, query, n, landed, arg);
	ares_free_string(query);
}

void dns_channel_ask(struct dns_channel *c, const char *name, int type, dns_landed_fn *landed,
                     void *arg)
{
	c->flights++;
	if (c->trusted)
		channel_ask_trusted(c, name, type, landed, arg);
	else
		ares_query(c->ares, name, DNS_CLASS_IN, type, landed, arg);
	channel_schedule(c);
}

void dns_channel_landed(struct dns_channel *c)
{
	c->used = loop_now();
	if (--c->flights > 0)
		return;
	if (c == channels.now)
		loop_timer_set(&channels.rest, channels.rest_ms);
	else
		loop_timer_set(&channels.sweep, 0);
}

bool dns_channel_is_trusted(const struct dns_channel *c)
{
	return c->trusted;
}
