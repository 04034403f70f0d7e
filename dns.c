/*
 * dns: the resolver, c-ares on our loop.
 *
 * c-ares (dns_channel) keeps the sockets, tries and time-outs; we read the answers ourselves
 * (dns_answer): one bad record must not cost the good ones. A question to c-ares is a "flight" on
 * the heap, because c-ares cannot take one back: a cancelled query only cuts the link, and the
 * flight lands unseen. What has ended waits in the ready list until a timer delivers it; so no
 * callback comes from inside a call, and none from inside c-ares, and the owner may do in it what
 * he likes.
 *
 * Limits: DNS_FLIGHTS_MAX questions under way; an answer is at most 64 KB (DNS over TCP), of which
 * the limits in config.h are kept.
 */
#include "dns.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ares_query is deprecated from 1.28 on, but its successor is not in 1.18. */
#define CARES_NO_DEPRECATED
#include <ares.h>

#include "config.h"
#include "dns_answer.h"
#include "dns_int.h"

enum { QUERY_IDLE, QUERY_ASKING, QUERY_READY };

struct dns_flight {
	struct dns_query *query; /* NULL once cancelled */
	struct dns_channel *channel;
	int type;
	int slot;
};

static struct {
	bool up;
	bool closing;
	char *hosts;
	size_t flights;
	struct dns_query *ready_first;
	struct dns_query *ready_last;
	size_t ready_count;
	struct loop_timer deliver;
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

/* Called by c-ares, sometimes from inside dns_channel_ask(). */
static void flight_landed(void *arg, int status, int timeouts, unsigned char *abuf, int alen)
{
	struct dns_flight *f = arg;
	struct dns_query *q = f->query;
	int type = f->type;
	int slot = f->slot;
	bool secure = dns_channel_is_trusted(f->channel) && alen > 0 &&
	              dns_answer_is_authentic(abuf, (size_t)alen);
	(void)timeouts;
	dns.flights--;
	dns_channel_landed(f->channel);
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
}

int dns_init_setup(const struct dns_setup *setup)
{
	dns_done();
	dns.hosts = strdup(setup->hosts ? setup->hosts : DNS_HOSTS);
	if (dns.hosts && dns_channels_open(setup) == 0) {
		dns.up = true;
		return 0;
	}
	free(dns.hosts);
	dns.hosts = NULL;
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
	dns_channels_close();
	loop_timer_stop(&dns.deliver);
	free(dns.hosts);
	memset(&dns, 0, sizeof dns);
}

void dns_reload(void)
{
	if (dns.up)
		dns_channels_renew();
}

int dns_set_servers(const char *servers, bool dnssec)
{
	return dns.up ? dns_channels_set(servers, dnssec) : -1;
}

/* ---- asking ---- */

static void flight_start(struct dns_query *q, const char *name, int type, int slot)
{
	char escaped[2 * DNS_NAME_SIZE];
	size_t n = 0;
	struct dns_channel *c = dns.up ? dns_channel_now() : NULL;
	struct dns_flight *f = NULL;
	if (c && dns.flights < DNS_FLIGHTS_MAX)
		f = malloc(sizeof *f);
	if (!f) {
		query_landed(q, type, slot, DNS_NO_MEMORY, false);
		return;
	}
	*f = (struct dns_flight){q, c, type, slot};
	q->flights[slot] = f;
	dns.flights++;
	for (const char *p = name; *p; p++) {
		if (*p == '\\')
			escaped[n++] = '\\';
		escaped[n++] = *p;
	}
	escaped[n] = '\0';
	dns_channel_ask(c, escaped, type, flight_landed, f);
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
