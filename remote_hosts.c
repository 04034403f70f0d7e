/*
 * remote_hosts: which hosts an attempt tries, and at which addresses.
 *
 * The hosts of one MX preference are looked up before the first of them is tried: whether we are
 * among them decides whether any of them may be tried at all (RFC 5321 5.1). Hosts further down are
 * not asked for before they are needed.
 *
 * Whether DANE may be asked about a host is found on the way: only where DNSSEC vouches for every
 * step from the domain to the address (RFC 7672 2.2). Its TLSA records are looked up when its turn
 * comes, so those of hosts that are not tried are not.
 *
 * Mail for which a smarthost is configured knows no other hosts than the smarthosts that match its
 * sender, in order of appearance.
 */
#define LOG_KIND LOG_DELIVERY

#include "remote_hosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "confvalue.h"
#include "log.h"
#include "stat.h"

/* In the order of enum sts_mode. */
STAT_VECTOR(stat_modes, "chasquid/smtpOut/sts/mode", "mode",
            "Deliveries by their domain's MTA-STS policy", STS_ENFORCE + 1, "none testing enforce");

bool remote_is_our_name(const char *name)
{
	return slice_is_nocase(slice_of(name), remote_self.setup.conf->hostname);
}

/* ---- look-ups ---- */

/* Leaves out the host that turned out to be us, and those that are no more preferred; where the
 * operator set the order only itself. */
static void remote_cut_loop(struct attempt *a, size_t host)
{
	unsigned limit = a->host[host].preference;
	log_info(a->d->env->id, "remote host is ourselves", LOG_S("host", a->host[host].name));
	a->loop = true;
	if (a->fixed) {
		a->host[host].count = 0;
		return;
	}
	while (a->host_count > 0 && a->host[a->host_count - 1].preference >= limit)
		a->host_count--;
}

static void remote_resolved(struct attempt *a)
{
	struct remote_host *h = &a->host[a->resolved++];
	for (size_t i = 0; i < h->count; i++) {
		if (remote_self.setup.is_ours(&h->addr[i], h->port)) {
			remote_cut_loop(a, a->resolved - 1);
			return;
		}
	}
}

/* Without memory for the name that DANE needs, the host has no address. */
static void remote_take_addresses(struct attempt *a, struct remote_host *h,
                                  const struct dns_query *q)
{
	struct status st;
	h->secure = q->secure && a->mx_secure;
	if (h->secure && *q->canonical) {
		h->canonical = strdup(q->canonical);
		if (!h->canonical) {
			status_set(&st, 451, "4.3.0", "out of memory");
			remote_note(a, &st, "");
			return;
		}
	}
	h->count = q->count < REMOTE_ADDRS_MAX ? q->count : REMOTE_ADDRS_MAX;
	memcpy(h->addr, q->addrs, h->count * sizeof h->addr[0]);
}

static void on_addresses(void *arg, struct dns_query *q)
{
	struct attempt *a = arg;
	struct remote_host *h = &a->host[a->resolved];
	if (q->result == DNS_OK) {
		remote_take_addresses(a, h, q);
	} else {
		struct status st;
		status_set(&st, 451, "4.4.4", "no address for mail host %s: %s", h->name,
		           dns_result_text(q->result));
		remote_note(a, &st, "");
	}
	remote_resolved(a);
	remote_advance(a);
}

bool remote_hosts_must_resolve(const struct attempt *a)
{
	return a->resolved <= a->at_host ||
	       (a->resolved < a->host_count &&
	        a->host[a->resolved].preference == a->host[a->at_host].preference);
}

bool remote_hosts_resolve(struct attempt *a)
{
	if (a->host[a->resolved].known) {
		remote_resolved(a);
		return false;
	}
	dns_addresses(&a->lookup, slice_of(a->host[a->resolved].name), on_addresses, a);
	return true;
}

/* ---- TLSA ---- */

static void on_tlsa(void *arg, struct dns_query *q)
{
	struct attempt *a = arg;
	const struct remote_host *h = &a->host[a->at_host];
	dane_clear(&a->dane);
	dane_take(&a->dane, q);
	/* RFC 7672 2.2.2: the end of the CNAMEs first, the name itself where that has none. */
	if (a->dane.state == DANE_NONE && a->tlsa_base != h->name) {
		a->tlsa_base = h->name;
		dns_tlsa(&a->lookup, slice_of(h->name), h->port, on_tlsa, a);
		return;
	}
	a->dane_known = true;
	remote_advance(a);
}

/* Only the list of hosts that DNS gave is secure, so hosts of the operator's have no records. */
bool remote_hosts_find_tlsa(struct attempt *a)
{
	const struct remote_host *h = &a->host[a->at_host];
	if (!WITH_TLS || a->dane_known || !h->secure || !remote_self.setup.conf->dnssec_resolver)
		return false;
	a->tlsa_base = h->canonical ? h->canonical : h->name;
	dns_tlsa(&a->lookup, slice_of(a->tlsa_base), h->port, on_tlsa, a);
	return true;
}

void remote_hosts_next(struct attempt *a)
{
	a->at_host++;
	a->at_addr = 0;
	a->logged_in = false;
	a->dane_known = false;
	dane_clear(&a->dane);
}

void remote_hosts_clear(struct attempt *a)
{
	dns_cancel(&a->mx);
	dns_cancel(&a->lookup);
	if (WITH_STS)
		sts_cancel(&a->sts);
	dane_clear(&a->dane);
	for (size_t i = 0; i < REMOTE_HOSTS_MAX; i++)
		free(a->host[i].canonical);
	free(a->via);
}

/* ---- MTA-STS ---- */

static enum remote_sts sts_of_host(const struct sts_policy *p, const char *host)
{
	bool listed = sts_policy_lists(p, host);
	switch (p->mode) {
	case STS_ENFORCE:
		return listed ? REMOTE_STS_ENFORCE : REMOTE_STS_ENFORCE_UNLISTED;
	case STS_TESTING:
		return listed ? REMOTE_STS_TESTING : REMOTE_STS_TESTING_UNLISTED;
	default:
		return REMOTE_STS_NONE;
	}
}

static void on_policy(void *arg, const struct sts_policy *p)
{
	struct attempt *a = arg;
	if (p)
		stat_add_at(&stat_modes, p->mode, 1);
	for (size_t i = 0; p && i < a->host_count; i++)
		a->host[i].sts = sts_of_host(p, a->host[i].name);
	remote_advance(a);
}

/* The list of hosts is complete: what does the domain's policy say of them? */
static void remote_ask_policy(struct attempt *a)
{
	if (WITH_STS && remote_self.setup.sts && a->host_count > 0)
		sts_find(remote_self.setup.sts, &a->sts, a->d->domain, on_policy, a);
	else
		remote_advance(a);
}

/* ---- the list of hosts ---- */

/* Adds a host, with its address when that needs no look-up (NULL: it does). Ourselves by name are
 * left out. */
static void remote_add(struct attempt *a, const struct remote_host *h, const struct dns_addr *addr)
{
	if (!h->smart && remote_is_our_name(h->name)) {
		a->loop = true;
		return;
	}
	if (a->host_count >= REMOTE_HOSTS_MAX)
		return;
	struct remote_host *to = &a->host[a->host_count++];
	*to = *h;
	if (addr) {
		to->addr[0] = *addr;
		to->count = 1;
		to->known = true;
	}
}

static void remote_add_host(struct attempt *a, const char *name, unsigned preference)
{
	struct remote_host h = {.name = name,
	                        .preference = preference,
	                        .port = (uint16_t)remote_self.setup.conf->remote_smtp_port};
	remote_add(a, &h, NULL);
}

static void on_mx_hosts(struct attempt *a, const struct dns_query *q)
{
	unsigned limit = UINT16_MAX + 1U;
	for (size_t i = 0; i < q->count; i++)
		if (remote_is_our_name(q->mx[i].host) && q->mx[i].preference < limit)
			limit = q->mx[i].preference;
	for (size_t i = 0; i < q->count; i++)
		if (q->mx[i].preference < limit)
			remote_add_host(a, q->mx[i].host, q->mx[i].preference);
	a->loop = limit <= UINT16_MAX;
	a->mx_secure = q->secure;
	remote_ask_policy(a);
}

static void on_mx(void *arg, struct dns_query *q)
{
	struct attempt *a = arg;
	struct status st;
	switch (q->result) {
	case DNS_OK:
		if (!dns_is_null_mx(q)) {
			on_mx_hosts(a, q);
			return;
		}
		status_set(&st, 556, "5.1.10", "%s takes no mail (null MX)", a->domain);
		break;
	case DNS_NO_DATA:
		remote_add_host(a, a->domain, 0);
		a->mx_secure = true;
		remote_ask_policy(a);
		return;
	case DNS_NO_NAME:
	case DNS_BAD_NAME:
		status_set(&st, 550, "5.1.2", "%s: %s", a->domain, dns_result_text(q->result));
		break;
	default:
		status_set(&st, 451, "4.4.3", "cannot look up the mail hosts of %s: %s", a->domain,
		           dns_result_text(q->result));
		break;
	}
	remote_finish_with(a, &st, "");
}

/* "host", "host:port", "[IPv6]:port" or an address. The name is cut to the host in place. */
static void remote_add_via(struct attempt *a, char *name, unsigned order)
{
	char host[ADDR_DOMAIN_MAX + 1], port[CONFVALUE_PORT];
	struct remote_host h = {.name = name,
	                        .preference = order,
	                        .port = (uint16_t)remote_self.setup.conf->remote_smtp_port};
	struct dns_addr addr;
	if (confvalue_split_address(name, host, port) == 0 && *host) {
		size_t skip = strncasecmp(host, "IPv6:", 5) == 0 ? 5 : 0; /* RFC 5321 4.1.3 */
		memcpy(name, host + skip, strlen(host + skip) + 1);
		if (confvalue_is_port(port))
			h.port = (uint16_t)strtoul(port, NULL, 10);
	}
	remote_add(a, &h, dns_addr_parse(&addr, slice_of(name)) == 0 ? &addr : NULL);
}

char *remote_hosts_via(const char *via)
{
	char normal[ADDR_DOMAIN_MAX + 1], ascii[ADDR_DOMAIN_MAX + 1];
	struct buf out;
	/* No label becomes more than four times as long. */
	buf_init(&out, 4 * strlen(via) + 1);
	while (*via != '\0') {
		size_t host = strcspn(via, "/:");
		/* What is no name, an address for one, stays as it is. */
		if (addr_domain_normalise((struct slice){via, host}, normal, sizeof normal) == 0 &&
		    addr_domain_to_ascii(normal, ascii, sizeof ascii) == 0) {
			buf_puts(&out, ascii);
			via += host;
		}
		size_t rest = strcspn(via, "/");
		rest += via[rest] == '/';
		buf_append(&out, via, rest);
		via += rest;
	}
	char *copy = out.failed ? NULL : strdup(buf_str(&out));
	buf_clear(&out);
	return copy;
}

/* "host/host/host", in order. */
static void remote_begin_via(struct attempt *a)
{
	char *rest = a->via;
	char *name;
	unsigned order = 0;
	a->fixed = true;
	while ((name = strsep(&rest, "/")) != NULL)
		if (*name != '\0')
			remote_add_via(a, name, order++);
	remote_advance(a);
}

/* There is no such domain, and never was: a queue file need not be ours. */
static void remote_finish_bad_domain(struct attempt *a)
{
	struct status st;
	status_set(&st, 550, "5.1.2", "%s is no domain name", a->d->domain);
	remote_finish_with(a, &st, "");
}

static void remote_begin_literal(struct attempt *a)
{
	unsigned char raw[16];
	int family = addr_literal(a->domain, raw);
	struct dns_addr addr = {.family = AF_INET};
	struct remote_host h = {.name = a->domain,
	                        .port = (uint16_t)remote_self.setup.conf->remote_smtp_port};
	if (family == 0) {
		remote_finish_bad_domain(a);
		return;
	}
	if (family == 6) {
		addr.family = AF_INET6;
		memcpy(&addr.ip.v6, raw, sizeof addr.ip.v6);
	} else {
		memcpy(&addr.ip.v4, raw, sizeof addr.ip.v4);
	}
	remote_add(a, &h, &addr);
	remote_advance(a);
}

/* The sender by which smarthosts are chosen. 0, or -1: none is. */
static int remote_smarthost_sender(const struct attempt *a, struct addr *sender)
{
	/* No masquerade changed a sender that is rewritten. */
	return addr_parse(slice_of(a->d->rewritten ? a->d->env->from : a->from), sender);
}

/* All smarthosts that take this sender's mail. False when there is none. */
static bool remote_begin_smarthost(struct attempt *a)
{
	const struct conf_smarthosts *list = &a->smarthosts;
	struct addr sender;
	if (remote_smarthost_sender(a, &sender))
		return false;
	a->smarthosts = conf_smarthost_hold(&remote_self.setup.conf->smarthosts);
	size_t i = conf_smarthost_find(list, &sender, 0);
	for (; i < list->count; i = conf_smarthost_find(list, &sender, i + 1)) {
		const struct conf_smarthost *s = &list->item[i];
		struct remote_host h = {
		    .name = s->host, .smart = s, .preference = (unsigned)i, .port = s->port};
		remote_add(a, &h, s->has_addr ? &s->addr : NULL);
		a->fixed = true;
	}
	return a->fixed;
}

void remote_hosts_name(struct attempt *a)
{
	const struct conf_smarthosts *list = &remote_self.setup.conf->smarthosts;
	struct addr sender;
	int n;
	a->first_smarthost = list->count;
	if (!a->via && list->count > 0 && remote_smarthost_sender(a, &sender) == 0)
		a->first_smarthost = conf_smarthost_find(list, &sender, 0);
	if (a->via)
		n = snprintf(a->to, sizeof a->to, "via %s", a->via);
	else if (a->first_smarthost < list->count)
		n = snprintf(a->to, sizeof a->to, "smarthost %zu", a->first_smarthost);
	else
		n = snprintf(a->to, sizeof a->to, "%s", a->domain);
	if ((size_t)n >= sizeof a->to)
		a->to[0] = '\0';
}

void remote_hosts_begin(struct attempt *a)
{
	struct status st;
	if (a->via)
		remote_begin_via(a);
	else if (remote_begin_smarthost(a))
		remote_advance(a);
	else if (addr_is_literal(a->domain))
		remote_begin_literal(a);
	else if (a->domain[0] != '\0')
		dns_mx(&a->mx, slice_of(a->domain), on_mx, a);
	else if (a->d->domain[0] == '/') {
		/* A smarthost's lane, and there is no smarthost for it any more. */
		status_set(&st, 451, "4.3.5", "the configuration has changed");
		remote_finish_with(a, &st, "");
	} else {
		remote_finish_bad_domain(a);
	}
}
