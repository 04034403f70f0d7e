/*
 * dns: the resolver, c-ares on our loop.
 *
 * c-ares keeps the sockets, tries and time-outs; we watch its sockets (socket-state callback), run
 * its timer, and read the answers ourselves (dns_answer): one bad record must not cost the good
 * ones. A question to c-ares is a "flight" on the heap, because c-ares cannot take one back: a
 * cancelled query only cuts the link, and the flight lands unseen. What has ended waits in the
 * ready list until a timer delivers it; so no callback comes from inside a call, and none from
 * inside c-ares, and the owner may do in it what he likes.
 *
 * When resolv.conf changes, a new channel takes the new queries. The old one is retired: it lives
 * until its last flight has landed, or until DNS_CHANNELS_MAX newer ones exist.
 *
 * DNSSEC is left to the servers: where all of a channel's are on loopback addresses, so that nobody
 * stands between, and the operator says that they validate, questions carry the AD bit and that of
 * the answer is believed (RFC 6840 5.7, 5.8; RFC 7672 2.1). c-ares has no such option: these
 * questions are built first and then sent.
 *
 * Limits: DNS_FLIGHTS_MAX questions under way; an answer is at most 64 KB (DNS over TCP), of which
 * the limits in config.h are kept. resolv.conf is small and local.
 */
#include "dns.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/time.h>

/* ares_query is deprecated from 1.28 on, but its successor is not in 1.18. */
#define CARES_NO_DEPRECATED
#include <ares.h>

#include "config.h"
#include "dns_answer.h"
#include "dns_int.h"

enum { QUERY_IDLE, QUERY_ASKING, QUERY_READY };

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
	struct dns_sock socks[DNS_SOCKS_MAX];
};

struct dns_flight {
	struct dns_query *query; /* NULL once cancelled */
	struct dns_channel *channel;
	int type;
	int slot;
};

struct file_id {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed;
};

static struct {
	bool up;
	bool closing;
	char *servers;
	char *resolv_conf;
	char *hosts;
	int timeout_ms;
	int tries;
	bool dnssec;
	struct dns_channel *channels; /* the first one takes new queries, the others are retired */
	size_t flights;
	struct dns_query *ready_first;
	struct dns_query *ready_last;
	size_t ready_count;
	struct loop_timer deliver;
	int64_t checked;
	struct file_id conf_id;
} dns;

/* ---- queries and the ready list ---- */

static void query_ready_unlink(struct dns_query *q)
{
	*(q->prev ? &q->prev->next : &dns.ready_first) = q->next;
	*(q->next ? &q->next->prev : &dns.ready_last) = q->prev;
	q->prev = q->next = NULL;
	dns.ready_count--;
}

static void query_drop_answer(struct dns_query *q)
{
	free(q->block);
	q->block = NULL;
	q->count = 0;
	q->mx = NULL;
	q->addrs = NULL;
	q->txt = NULL;
	q->names = NULL;
	q->tlsa = NULL;
	q->canonical = "";
}

static void query_drop_flights(struct dns_query *q)
{
	for (int i = 0; i < 2; i++) {
		if (q->flights[i])
			q->flights[i]->query = NULL;
		q->flights[i] = NULL;
	}
	loop_timer_stop(&q->second);
}

static void query_begin(struct dns_query *q, dns_done_fn *done, void *arg)
{
	dns_cancel(q);
	q->result = DNS_SERVER_FAILURE;
	q->truncated = false;
	q->secure = false;
	q->done = done;
	q->arg = arg;
	q->state = QUERY_ASKING;
}

static void deliver_ready(void *arg);

static void deliver_soon(void)
{
	if (!loop_timer_is_set(&dns.deliver)) {
		loop_timer_init(&dns.deliver, deliver_ready, NULL);
		loop_timer_set(&dns.deliver, 0);
	}
}

/* Results that say something of the name, and may be signed. */
static bool result_is_answer(enum dns_result r)
{
	return r == DNS_OK || r == DNS_NO_DATA || r == DNS_NO_NAME;
}

static void query_finish(struct dns_query *q, enum dns_result result)
{
	query_drop_flights(q);
	q->result = result;
	q->secure = q->secure && result_is_answer(result);
	if (result != DNS_OK)
		query_drop_answer(q);
	q->state = QUERY_READY;
	q->next = NULL;
	q->prev = dns.ready_last;
	*(q->prev ? &q->prev->next : &dns.ready_first) = q;
	dns.ready_last = q;
	dns.ready_count++;
	deliver_soon();
}

void dns_cancel(struct dns_query *q)
{
	if (q->state == QUERY_READY)
		query_ready_unlink(q);
	query_drop_flights(q);
	query_drop_answer(q);
	q->state = QUERY_IDLE;
}

/* ---- address queries ---- */

/* The result when no family brought an address. A permanent one needs both to agree on it. */
static enum dns_result families_verdict(const struct dns_families *f)
{
	enum dns_result r = f->result[0];
	if (!f->asked[0] || (f->asked[1] && (r == DNS_NO_NAME ||
	                                     (r == DNS_NO_DATA && f->result[1] != DNS_NO_NAME))))
		r = f->result[1];
	return r;
}

static bool families_secure(const struct dns_families *f)
{
	bool any = false;
	for (int i = 0; i < 2; i++) {
		if (!f->landed[i] || !result_is_answer(f->result[i]))
			continue;
		if (!f->secure[i])
			return false;
		any = true;
	}
	return any;
}

static void families_finish(struct dns_query *q)
{
	struct dns_families *f = q->block;
	q->count = f->count[0] + f->count[1];
	dns_addr_alternate(f->addrs, f->count[0], f->start[1], f->count[1]);
	q->addrs = f->addrs;
	q->canonical = f->canonical;
	q->secure = families_secure(f);
	query_finish(q, q->count > 0 ? DNS_OK : families_verdict(f));
}

static void families_second_late(void *arg)
{
	families_finish(arg);
}

static void families_landed(struct dns_query *q, int slot, enum dns_result result, bool secure)
{
	struct dns_families *f = q->block;
	f->landed[slot] = true;
	f->result[slot] = result;
	f->secure[slot] = secure;
	if (f->landed[!slot] || !f->asked[!slot])
		families_finish(q);
	else if (result == DNS_OK)
		loop_timer_set(&q->second, DNS_SECOND_MS);
}

/* ---- flights ---- */

static enum dns_result result_of_ares(int status)
{
	switch (status) {
	case ARES_SUCCESS:
		return DNS_OK;
	case ARES_ENODATA:
		return DNS_NO_DATA;
	case ARES_ENOTFOUND:
		return DNS_NO_NAME;
	case ARES_EBADNAME:
		return DNS_BAD_NAME;
	case ARES_ENOMEM:
		return DNS_NO_MEMORY;
	case ARES_ETIMEOUT:
	case ARES_ECANCELLED:
	case ARES_EDESTRUCTION:
		return DNS_TIMEOUT;
	default:
		return DNS_SERVER_FAILURE;
	}
}

static void query_landed(struct dns_query *q, int type, int slot, enum dns_result result,
                         bool secure)
{
	if (type == DNS_TYPE_A || type == DNS_TYPE_AAAA) {
		families_landed(q, slot, result, secure);
	} else {
		q->secure = secure;
		query_finish(q, result);
	}
}

/* Called by c-ares, sometimes from inside ares_query and ares_send. */
static void flight_landed(void *arg, int status, int timeouts, unsigned char *abuf, int alen)
{
	struct dns_flight *f = arg;
	struct dns_query *q = f->query;
	int type = f->type;
	int slot = f->slot;
	bool secure =
	    f->channel->trusted && alen > 0 && dns_answer_is_authentic(abuf, (size_t)alen);
	(void)timeouts;
	dns.flights--;
	if (--f->channel->flights == 0 && f->channel != dns.channels)
		deliver_soon(); /* the retired channel can go */
	free(f);
	if (!q)
		return;
	q->flights[slot] = NULL;
	if (dns.closing) {
		dns_cancel(q);
		return;
	}
	enum dns_result r = result_of_ares(status);
	if (r == DNS_OK)
		r = alen > 0 ? dns_answer_read(q, type, abuf, (size_t)alen) : DNS_SERVER_FAILURE;
	query_landed(q, type, slot, r, secure);
}

/* ---- channels ---- */

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
	    .timeout = dns.timeout_ms,
	    .tries = dns.tries,
	    .lookups = lookups,
	    .sock_state_cb = sock_state,
	    .sock_state_cb_data = c,
	    .ednspsz = DNS_UDP_SIZE,
	    .resolvconf_path = dns.servers ? no_conf : dns.resolv_conf,
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
	if (dns.servers && ares_set_servers_ports_csv(c->ares, dns.servers) != ARES_SUCCESS) {
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
	c->trusted = dns.dnssec && channel_is_local(c);
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
	for (struct dns_channel **p = &dns.channels; *p;) {
		struct dns_channel *c = *p;
		if (c == dns.channels || (c->flights > 0 && kept < DNS_CHANNELS_MAX)) {
			kept++;
			p = &c->next;
			continue;
		}
		*p = c->next;
		channel_free(c);
	}
}

static struct file_id conf_identify(void)
{
	struct stat st;
	if (stat(dns.resolv_conf, &st))
		return (struct file_id){0};
	return (struct file_id){st.st_dev, st.st_ino, st.st_size, st.st_mtim};
}

/* Returns 0, or -1 when the channel in use stays. */
static int channel_renew(void)
{
	struct file_id id = conf_identify(); /* before the reading: a later change shows */
	struct dns_channel *c = channel_new();
	if (!c)
		return -1;
	dns.conf_id = id;
	c->next = dns.channels;
	dns.channels = c;
	channels_sweep();
	return 0;
}

static void conf_check(void)
{
	if (!dns.up || dns.servers || loop_now() - dns.checked < DNS_CHECK_MS)
		return;
	dns.checked = loop_now();
	struct file_id id = conf_identify();
	if (id.dev != dns.conf_id.dev || id.ino != dns.conf_id.ino || id.size != dns.conf_id.size ||
	    id.changed.tv_sec != dns.conf_id.changed.tv_sec ||
	    id.changed.tv_nsec != dns.conf_id.changed.tv_nsec)
		channel_renew();
}

/* ---- start and end ---- */

static void deliver_ready(void *arg)
{
	(void)arg;
	/* Those that come up meanwhile wait for the next turn. */
	for (size_t n = dns.ready_count; n > 0 && dns.ready_first; n--) {
		struct dns_query *q = dns.ready_first;
		query_ready_unlink(q);
		q->state = QUERY_IDLE;
		q->done(q->arg, q);
	}
	if (dns.up)
		channels_sweep();
}

static char *copy_or(const char *s, const char *otherwise)
{
	return strdup(s && *s ? s : otherwise);
}

int dns_init_setup(const struct dns_setup *setup)
{
	dns_done();
	if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
		return -1;
	dns.up = true;
	dns.timeout_ms = setup->timeout_ms > 0 ? setup->timeout_ms : DNS_TRY_MS;
	dns.tries = setup->tries > 0 ? setup->tries : DNS_TRIES;
	dns.dnssec = setup->dnssec;
	dns.checked = loop_now();
	dns.resolv_conf = copy_or(setup->resolv_conf, DNS_RESOLV_CONF);
	dns.hosts = copy_or(setup->hosts, DNS_HOSTS);
	if (!dns.resolv_conf || !dns.hosts)
		goto fail;
	if (setup->servers && *setup->servers && !(dns.servers = strdup(setup->servers)))
		goto fail;
	if (channel_renew() == 0)
		return 0;
fail:
	dns_done();
	return -1;
}

int dns_init(const char *servers, bool dnssec)
{
	return dns_init_setup(&(struct dns_setup){.servers = servers, .dnssec = dnssec});
}

void dns_done(void)
{
	if (!dns.up)
		return;
	dns.up = false;
	dns.closing = true;
	while (dns.ready_first)
		dns_cancel(dns.ready_first);
	while (dns.channels) {
		struct dns_channel *c = dns.channels;
		dns.channels = c->next;
		channel_free(c);
	}
	loop_timer_stop(&dns.deliver);
	free(dns.servers);
	free(dns.resolv_conf);
	free(dns.hosts);
	memset(&dns, 0, sizeof dns);
	ares_library_cleanup();
}

void dns_reload(void)
{
	if (dns.up)
		channel_renew();
}

int dns_set_servers(const char *servers, bool dnssec)
{
	char *before = dns.servers;
	bool dnssec_before = dns.dnssec;
	bool given = servers && *servers;
	char *copy = dns.up && given ? strdup(servers) : NULL;
	if (!dns.up || (given && !copy))
		return -1;
	dns.servers = copy;
	dns.dnssec = dnssec;
	if (channel_renew() == 0) {
		free(before);
		return 0;
	}
	dns.servers = before;
	dns.dnssec = dnssec_before;
	free(copy);
	return -1;
}

/* ---- asking ---- */

/* ares_query() with the AD bit. */
static void flight_send_trusted(struct dns_channel *c, const char *name, struct dns_flight *f)
{
	unsigned char *query = NULL;
	int n = 0;
	int e = ares_create_query(name, DNS_CLASS_IN, f->type, (uint16_t)dns_answer_random(), 1,
	                          &query, &n, DNS_UDP_SIZE);
	if (e != ARES_SUCCESS) {
		flight_landed(f, e, 0, NULL, 0);
		return;
	}
	dns_answer_want_authentic(query, (size_t)n);
	ares_send(c->ares, query, n, flight_landed, f);
	ares_free_string(query);
}

static void flight_start(struct dns_query *q, const char *name, int type, int slot)
{
	char escaped[2 * DNS_NAME_SIZE];
	size_t n = 0;
	struct dns_channel *c = dns.channels;
	struct dns_flight *f = NULL;
	if (c && dns.flights < DNS_FLIGHTS_MAX)
		f = malloc(sizeof *f);
	if (!f) {
		query_landed(q, type, slot, DNS_NO_MEMORY, false);
		return;
	}
	*f = (struct dns_flight){q, c, type, slot};
	q->flights[slot] = f;
	c->flights++;
	dns.flights++;
	for (const char *p = name; *p; p++) {
		if (*p == '\\')
			escaped[n++] = '\\';
		escaped[n++] = *p;
	}
	escaped[n] = '\0';
	if (c->trusted)
		flight_send_trusted(c, escaped, f);
	else
		ares_query(c->ares, escaped, DNS_CLASS_IN, type, flight_landed, f);
	channel_schedule(c);
}

static bool any_byte(uint8_t c)
{
	return c > 0x20 && c < 0x7F;
}

/* Copies a name of labels of such bytes without its final dot. Returns 0, or -1 when it is none. */
static int name_copy(char out[DNS_NAME_SIZE], struct slice name, bool (*legal)(uint8_t c))
{
	size_t label = 0;
	if (name.n > 0 && name.p[name.n - 1] == '.')
		name.n--;
	if (name.n == 0 || name.n > 253)
		return -1;
	for (size_t i = 0; i < name.n; i++) {
		if (name.p[i] == '.') {
			if (label == 0)
				return -1;
			label = 0;
		} else if (!legal((uint8_t)name.p[i]) || ++label > 63) {
			return -1;
		}
	}
	if (label == 0)
		return -1;
	memcpy(out, name.p, name.n);
	out[name.n] = '\0';
	return 0;
}

static void ask(struct dns_query *q, struct slice name, bool (*legal)(uint8_t c), int type,
                dns_done_fn *done, void *arg)
{
	char text[DNS_NAME_SIZE];
	query_begin(q, done, arg);
	if (name_copy(text, name, legal)) {
		query_finish(q, DNS_BAD_NAME);
		return;
	}
	conf_check();
	flight_start(q, text, type, 0);
}

void dns_mx(struct dns_query *q, struct slice name, dns_done_fn *done, void *arg)
{
	ask(q, name, dns_answer_name_byte, DNS_TYPE_MX, done, arg);
}

void dns_txt(struct dns_query *q, struct slice name, dns_done_fn *done, void *arg)
{
	ask(q, name, any_byte, DNS_TYPE_TXT, done, arg);
}

void dns_tlsa(struct dns_query *q, struct slice host, uint16_t port, dns_done_fn *done, void *arg)
{
	char name[DNS_NAME_SIZE + 16] = "";
	size_t n = 0;
	if (host.n > 0 && host.n < DNS_NAME_SIZE) {
		n = (size_t)snprintf(name, sizeof name, "_%u._tcp.", port);
		memcpy(name + n, host.p, host.n);
		n += host.n;
	}
	ask(q, (struct slice){name, n}, dns_answer_name_byte, DNS_TYPE_TLSA, done, arg);
}

void dns_ptr(struct dns_query *q, const struct dns_addr *addr, dns_done_fn *done, void *arg)
{
	static const char hex[] = "0123456789abcdef";
	char name[80] = "";
	uint8_t b[16];
	if (addr->family == AF_INET) {
		memcpy(b, &addr->ip.v4, 4);
		snprintf(name, sizeof name, "%u.%u.%u.%u.in-addr.arpa", b[3], b[2], b[1], b[0]);
	} else if (addr->family == AF_INET6) {
		memcpy(b, &addr->ip.v6, 16);
		for (size_t i = 0; i < 16; i++) {
			char *at = name + 4 * i;
			at[0] = hex[b[15 - i] & 15];
			at[2] = hex[b[15 - i] >> 4];
			at[1] = at[3] = '.';
		}
		memcpy(name + 64, "ip6.arpa", sizeof "ip6.arpa");
	}
	ask(q, slice_of(name), dns_answer_name_byte, DNS_TYPE_PTR, done, arg);
}

/* ---- addresses ---- */

/* True when the name needed no asking. */
static bool addresses_known(struct dns_query *q, struct slice written, const char *name)
{
	struct dns_families *f = q->block;
	struct dns_addr a;
	if (dns_addr_parse(&a, written) == 0) {
		dns_answer_add_address(q, &a);
		return true;
	}
	dns_hosts_find(q, dns.hosts, name);
	return f->count[0] + f->count[1] > 0;
}

/* Returns the block of an address query with room for so many of one family, or of each of the two,
 * or NULL after ending the query. */
static struct dns_families *families_begin(struct dns_query *q, size_t families, size_t room)
{
	struct dns_families *f = calloc(1, sizeof *f + families * room * sizeof(struct dns_addr));
	q->block = f;
	if (!f || !dns.up) {
		query_finish(q, DNS_NO_MEMORY);
		return NULL;
	}
	f->room = room;
	f->start[1] = (families - 1) * room;
	loop_timer_init(&q->second, families_second_late, q);
	return f;
}

void dns_family(struct dns_query *q, struct slice name, sa_family_t family, dns_done_fn *done,
                void *arg)
{
	char text[DNS_NAME_SIZE];
	int slot = dns_answer_family_slot(family);
	query_begin(q, done, arg);
	if (name_copy(text, name, any_byte)) {
		query_finish(q, DNS_BAD_NAME);
		return;
	}
	struct dns_families *f = families_begin(q, 1, DNS_FAMILY_MAX);
	if (!f)
		return;
	f->asked[slot] = true;
	conf_check();
	flight_start(q, text, family == AF_INET6 ? DNS_TYPE_AAAA : DNS_TYPE_A, slot);
}

void dns_addresses(struct dns_query *q, struct slice name, dns_done_fn *done, void *arg)
{
	char text[DNS_NAME_SIZE] = "";
	struct dns_addr literal;
	query_begin(q, done, arg);
	if (name_copy(text, name, dns_answer_name_byte) && dns_addr_parse(&literal, name)) {
		query_finish(q, DNS_BAD_NAME);
		return;
	}
	struct dns_families *f = families_begin(q, 2, DNS_ADDRS_MAX / 2);
	if (!f)
		return;
	if (addresses_known(q, name, text)) {
		families_finish(q);
		return;
	}
	f->asked[0] = f->asked[1] = true;
	conf_check();
	flight_start(q, text, DNS_TYPE_A, dns_answer_family_slot(AF_INET));
	if (q->state == QUERY_ASKING) /* not cancelled by a resolver that is closing */
		flight_start(q, text, DNS_TYPE_AAAA, dns_answer_family_slot(AF_INET6));
}

/* ---- results ---- */

bool dns_is_null_mx(const struct dns_query *q)
{
	return q->result == DNS_OK && q->mx && q->count == 1 && q->mx[0].host[0] == '\0';
}

const char *dns_result_text(enum dns_result r)
{
	static const char *const texts[] = {
	    [DNS_OK] = "found",
	    [DNS_NO_NAME] = "no such domain",
	    [DNS_NO_DATA] = "no such DNS record",
	    [DNS_SERVER_FAILURE] = "DNS server failure",
	    [DNS_TIMEOUT] = "no answer from DNS in time",
	    [DNS_BAD_NAME] = "not a legal domain name",
	    [DNS_NO_MEMORY] = "out of memory for DNS",
	};
	size_t i = (size_t)r;
	return i < sizeof texts / sizeof *texts ? texts[i] : "unknown DNS result";
}

void dns_library(char *out, size_t size)
{
	snprintf(out, size, "c-ares %s", ares_version(NULL));
}
