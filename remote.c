/*
 * remote: the SMTP courier.
 *
 * An attempt is a list of hosts and a position on it, host and address. remote_advance() is the
 * whole ladder: called at the start and after everything that ended without all recipients settled,
 * it looks up what must be known next, takes the next address, or gives up. Each step of it waits
 * for exactly one callback, or ends the attempt.
 *
 * The hosts of one MX preference are looked up before the first of them is tried: whether we are
 * among them decides whether any of them may be tried at all (RFC 5321 5.1). Hosts further down are
 * not asked for before they are needed.
 *
 * Connections belong to this module; the session on one (smtpc) knows neither hosts nor ladder.
 */
#include "remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "addr.h"
#include "config.h"
#include "log.h"
#include "smtpc.h"
#include "stat.h"

STAT_COUNTER(stat_connections, "remote/connections");
STAT_COUNTER(stat_host_failures, "remote/host_failures");
STAT_COUNTER(stat_delivered, "remote/recipients{delivered}");
STAT_COUNTER(stat_transient, "remote/recipients{transient}");
STAT_COUNTER(stat_permanent, "remote/recipients{permanent}");

/* "host [address]:port LEVEL" */
#define REMOTE_TEXT (ADDR_DOMAIN_MAX + INET6_ADDRSTRLEN + 20)

struct host {
	const char *name;
	unsigned preference;
	size_t count;
	struct dns_addr addr[REMOTE_ADDRS_MAX];
};

struct attempt {
	struct delivery *d;
	struct loop_timer kick;
	struct dns_query mx; /* keeps the names of the hosts */
	struct dns_query lookup;
	char *via; /* the same for via */
	char domain[ADDR_DOMAIN_MAX + 1];
	char ehlo[ADDR_DOMAIN_MAX + 1];
	struct host host[REMOTE_HOSTS_MAX];
	size_t host_count;
	size_t resolved;       /* hosts before this one have been looked up */
	size_t at_host;        /* the position */
	size_t at_addr;        /* the address to try next */
	bool loop;             /* a host was left out because it is us */
	bool noted;            /* that this connection failed; said once, not for each recipient */
	struct status failure; /* of hosts so far, the one that counts; code 0 when none */
	char failure_remote[REMOTE_TEXT];
	char remote[REMOTE_TEXT]; /* of the connection */
	struct smtpc *client;
	struct spool_reader *reader;
	struct smtpc_mail mail;
	size_t open;       /* recipients without verdict */
	bool *settled;     /* by position in d->rcpts */
	size_t *sent_rcpt; /* position in d->rcpts, by position in mail.rcpt */
	const char **sent_address;
};

static struct {
	const struct conf *conf;
	bool (*is_ours)(const struct dns_addr *a, uint16_t port);
} R;

static uint16_t remote_port(void)
{
	return (uint16_t)R.conf->remote_smtp_port;
}

/* ---- verdicts and the end ---- */

static void remote_settle(struct attempt *a, size_t pos, const struct status *st,
                          const char *remote)
{
	static struct stat_counter *const counters[] = {[STATUS_DONE] = &stat_delivered,
	                                                [STATUS_TRANSIENT] = &stat_transient,
	                                                [STATUS_PERMANENT] = &stat_permanent};
	stat_add(counters[status_class(st)], 1);
	a->settled[pos] = true;
	a->open--;
	a->d->verdict(a->d, a->d->rcpts[pos], st, remote);
}

static void remote_settle_all(struct attempt *a, const struct status *st, const char *remote)
{
	for (size_t i = 0; i < a->d->count; i++)
		if (!a->settled[i])
			remote_settle(a, i, st, remote);
}

static void remote_free(struct attempt *a)
{
	loop_timer_stop(&a->kick);
	dns_cancel(&a->mx);
	dns_cancel(&a->lookup);
	if (a->client)
		smtpc_free(a->client);
	if (a->reader)
		spool_read_close(a->reader);
	a->d->state = NULL;
	free(a->via);
	free(a->settled);
	free(a->sent_rcpt);
	free(a->sent_address);
	free(a);
}

/* Ends the attempt; it is gone afterwards. */
static void remote_finish(struct attempt *a)
{
	struct delivery *d = a->d;
	remote_free(a);
	d->done(d);
}

static void remote_finish_with(struct attempt *a, const struct status *st, const char *remote)
{
	remote_settle_all(a, st, remote);
	remote_finish(a);
}

/* Notes that a host failed. One transient failure makes the whole attempt transient. */
static void remote_note(struct attempt *a, const struct status *st, const char *remote)
{
	log_info(a->d->env->id, "remote host failed", LOG_S("remote", remote),
	         LOG_N("code", st->code), LOG_S("text", st->text));
	stat_add(&stat_host_failures, 1);
	a->noted = true;
	if (a->failure.code != 0 && status_class(&a->failure) == STATUS_TRANSIENT &&
	    status_class(st) == STATUS_PERMANENT)
		return;
	a->failure = *st;
	snprintf(a->failure_remote, sizeof a->failure_remote, "%s", remote);
}

static void remote_give_up(struct attempt *a)
{
	struct status st;
	if (a->failure.code != 0)
		st = a->failure;
	else if (a->loop)
		status_set(&st, 554, "5.4.6", "mail loop: the best mail host of %s is this one",
		           a->domain);
	else
		status_set(&st, 451, "4.4.4", "no mail host for %s", a->domain);
	remote_finish_with(a, &st, a->failure_remote);
}

/* ---- one connection ---- */

static void remote_advance(struct attempt *a);

static ssize_t on_content(void *arg, char *p, size_t n, struct status *st)
{
	struct attempt *a = arg;
	return spool_read(a->reader, p, n, st);
}

static void on_verdict(void *arg, size_t rcpt, const struct status *st, enum smtpc_scope scope)
{
	struct attempt *a = arg;
	if (scope == SMTPC_RCPT)
		remote_settle(a, a->sent_rcpt[rcpt], st, a->remote);
	else if (!a->noted)
		remote_note(a, st, a->remote);
}

static void on_mail_done(void *arg)
{
	struct attempt *a = arg;
	spool_read_close(a->reader);
	a->reader = NULL;
}

static void remote_send(struct attempt *a)
{
	struct delivery *d = a->d;
	struct status st;
	size_t n = 0;
	a->reader = spool_read_open(d->spool, d->env->id, &st);
	if (!a->reader) {
		remote_settle_all(a, &st, "");
		return;
	}
	for (size_t i = 0; i < d->count; i++) {
		if (a->settled[i])
			continue;
		a->sent_rcpt[n] = i;
		a->sent_address[n++] = d->env->rcpt[d->rcpts[i]].address;
	}
	a->mail = (struct smtpc_mail){.from = d->from,
	                              .rcpt = a->sent_address,
	                              .count = n,
	                              .size = d->env->size,
	                              .read = on_content,
	                              .verdict = on_verdict,
	                              .done = on_mail_done,
	                              .arg = a};
	smtpc_send(a->client, &a->mail);
}

static bool is_our_name(const char *name)
{
	return slice_is_nocase(slice_of(name), R.conf->hostname);
}

static void on_ready(void *arg, const struct status *st)
{
	struct attempt *a = arg;
	if (status_class(st) != STATUS_DONE) {
		remote_note(a, st, a->remote);
		return;
	}
	if (is_our_name(smtpc_greeting_name(a->client))) {
		log_info(a->d->env->id, "remote is ourselves", LOG_S("remote", a->remote));
		a->loop = true;
		a->at_addr = a->host[a->at_host].count;
	} else {
		remote_send(a);
	}
	smtpc_quit(a->client);
}

static void on_ended(void *arg)
{
	struct attempt *a = arg;
	smtpc_free(a->client);
	a->client = NULL;
	if (a->open > 0)
		remote_advance(a);
	else
		remote_finish(a);
}

/* Opens a socket that is connecting. Its fd, or -1 with errno. */
static int remote_socket(const struct dns_addr *addr)
{
	struct sockaddr_storage sa;
	socklen_t len = dns_addr_to_sockaddr(addr, remote_port(), &sa);
	int fd = socket(addr->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&sa, len) == 0 || errno == EINPROGRESS)
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* Begins a session with an address of the host at the position. Returns 0 when `ended` will come,
 * or -1 when it failed at once (noted). */
static int remote_connect(struct attempt *a, const struct dns_addr *addr)
{
	char text[INET6_ADDRSTRLEN];
	snprintf(a->remote, sizeof a->remote, "%.*s [%s]:%u PLAIN", ADDR_DOMAIN_MAX,
	         a->host[a->at_host].name, dns_addr_text(addr, text), (unsigned)remote_port());
	a->noted = false;
	log_debug(a->d->env->id, "remote connect", LOG_S("remote", a->remote));
	stat_add(&stat_connections, 1);
	a->client = smtpc_new(a->d->env->id, a->ehlo, on_ready, on_ended, a);
	int fd = a->client ? remote_socket(addr) : -1;
	if (fd >= 0 && io_open_connecting(smtpc_io(a->client), fd) == 0)
		return 0;
	struct status st;
	status_set(&st, 451, "4.4.1", "cannot connect: %s",
	           a->client ? strerror(errno) : "out of memory");
	if (a->client)
		smtpc_free(a->client);
	a->client = NULL;
	remote_note(a, &st, a->remote);
	return -1;
}

/* ---- the ladder ---- */

/* Leaves out the host that turned out to be us, and those that are no more preferred: with `via`
 * the operator set the order, so there only itself. */
static void remote_cut_loop(struct attempt *a, size_t host)
{
	unsigned limit = a->host[host].preference;
	log_info(a->d->env->id, "remote host is ourselves", LOG_S("host", a->host[host].name));
	a->loop = true;
	if (a->via) {
		a->host[host].count = 0;
		return;
	}
	while (a->host_count > 0 && a->host[a->host_count - 1].preference >= limit)
		a->host_count--;
}

static void remote_resolved(struct attempt *a)
{
	struct host *h = &a->host[a->resolved++];
	for (size_t i = 0; i < h->count; i++) {
		if (R.is_ours(&h->addr[i], remote_port())) {
			remote_cut_loop(a, a->resolved - 1);
			return;
		}
	}
}

static void on_addresses(void *arg, struct dns_query *q)
{
	struct attempt *a = arg;
	struct host *h = &a->host[a->resolved];
	if (q->result == DNS_OK) {
		h->count = q->count < REMOTE_ADDRS_MAX ? q->count : REMOTE_ADDRS_MAX;
		memcpy(h->addr, q->addrs, h->count * sizeof h->addr[0]);
	} else {
		struct status st;
		status_set(&st, 451, "4.4.4", "no address for mail host %s: %s", h->name,
		           dns_result_text(q->result));
		remote_note(a, &st, "");
	}
	remote_resolved(a);
	remote_advance(a);
}

/* Is there something to look up before the host at the position may be tried? */
static bool remote_must_resolve(const struct attempt *a)
{
	return a->resolved <= a->at_host ||
	       (a->resolved < a->host_count &&
	        a->host[a->resolved].preference == a->host[a->at_host].preference);
}

static void remote_resolve(struct attempt *a)
{
	char normal[ADDR_DOMAIN_MAX + 1], ascii[ADDR_DOMAIN_MAX + 1];
	const char *name = a->host[a->resolved].name;
	/* Hosts of `via` are as the operator wrote them. */
	if (a->via && addr_domain_normalise(slice_of(name), normal, sizeof normal) == 0 &&
	    addr_domain_to_ascii(normal, ascii, sizeof ascii) == 0)
		name = ascii;
	dns_addresses(&a->lookup, slice_of(name), on_addresses, a);
}

static void remote_advance(struct attempt *a)
{
	while (a->at_host < a->host_count) {
		const struct host *h = &a->host[a->at_host];
		if (remote_must_resolve(a)) {
			remote_resolve(a);
			return;
		}
		if (a->at_addr >= h->count) {
			a->at_host++;
			a->at_addr = 0;
		} else if (remote_connect(a, &h->addr[a->at_addr++]) == 0) {
			return;
		}
	}
	remote_give_up(a);
}

/* ---- the list of hosts ---- */

static void remote_add_host(struct attempt *a, const char *name, unsigned preference)
{
	if (is_our_name(name))
		a->loop = true;
	else if (a->host_count < REMOTE_HOSTS_MAX)
		a->host[a->host_count++] = (struct host){.name = name, .preference = preference};
}

static void on_mx_hosts(struct attempt *a, const struct dns_query *q)
{
	unsigned limit = UINT16_MAX + 1U;
	for (size_t i = 0; i < q->count; i++)
		if (is_our_name(q->mx[i].host) && q->mx[i].preference < limit)
			limit = q->mx[i].preference;
	for (size_t i = 0; i < q->count; i++)
		if (q->mx[i].preference < limit)
			remote_add_host(a, q->mx[i].host, q->mx[i].preference);
	a->loop = limit <= UINT16_MAX;
	remote_advance(a);
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
		remote_advance(a);
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

/* "host/host/host", in order. */
static void remote_begin_via(struct attempt *a)
{
	char *rest = a->via;
	char *name;
	unsigned order = 0;
	while ((name = strsep(&rest, "/")) != NULL)
		if (*name != '\0')
			remote_add_host(a, name, order++);
	remote_advance(a);
}

static void remote_begin_literal(struct attempt *a)
{
	unsigned char raw[16];
	struct dns_addr addr = {.family = AF_INET};
	remote_add_host(a, a->domain, 0);
	if (addr_literal(a->domain, raw) == 6) {
		addr.family = AF_INET6;
		memcpy(&addr.ip.v6, raw, sizeof addr.ip.v6);
	} else {
		memcpy(&addr.ip.v4, raw, sizeof addr.ip.v4);
	}
	a->host[0].addr[0] = addr;
	a->host[0].count = 1;
	remote_resolved(a);
	remote_advance(a);
}

static void remote_begin(void *arg)
{
	struct attempt *a = arg;
	struct status st;
	if (a->via)
		remote_begin_via(a);
	else if (addr_is_literal(a->domain))
		remote_begin_literal(a);
	else if (a->domain[0] != '\0')
		dns_mx(&a->mx, slice_of(a->domain), on_mx, a);
	else {
		status_set(&st, 550, "5.1.2", "%s is no domain name", a->d->domain);
		remote_finish_with(a, &st, "");
	}
}

/* ---- the courier ---- */

static void remote_choose_ehlo(struct attempt *a)
{
	char name[ADDR_DOMAIN_MAX + 1];
	struct addr from;
	if (REMOTE_EHLO_SENDER_DOMAIN && addr_parse(slice_of(a->d->from), &from) == 0 &&
	    from.domain[0] != '\0' && !addr_is_literal(from.domain) &&
	    addr_domain_to_ascii(from.domain, a->ehlo, sizeof a->ehlo) == 0)
		return;
	if (addr_domain_normalise(slice_of(R.conf->hostname), name, sizeof name) ||
	    addr_domain_to_ascii(name, a->ehlo, sizeof a->ehlo))
		snprintf(a->ehlo, sizeof a->ehlo, "%s", R.conf->hostname);
}

static int remote_start(void *self, struct delivery *d, struct status *st)
{
	(void)self;
	struct attempt *a = calloc(1, sizeof *a);
	if (!a)
		goto fail;
	const struct rcpt *first = &d->env->rcpt[d->rcpts[0]];
	bool via = first->type == RCPT_FORWARD && first->via;
	a->d = d;
	a->open = d->count;
	a->settled = calloc(d->count, sizeof *a->settled);
	a->sent_rcpt = calloc(d->count, sizeof *a->sent_rcpt);
	a->sent_address = calloc(d->count, sizeof *a->sent_address);
	if (via)
		a->via = strdup(first->via);
	loop_timer_init(&a->kick, remote_begin, a);
	d->state = a;
	if (!a->settled || !a->sent_rcpt || !a->sent_address || (via && !a->via)) {
		remote_free(a);
		goto fail;
	}
	if (addr_domain_to_ascii(d->domain, a->domain, sizeof a->domain))
		a->domain[0] = '\0';
	remote_choose_ehlo(a);
	loop_timer_set(&a->kick, 0);
	return 0;
fail:
	status_set(st, 451, "4.3.0", "out of memory");
	return -1;
}

static void remote_stop(void *self, struct delivery *d)
{
	(void)self;
	if (d->state)
		remote_free(d->state);
}

struct courier courier_remote(const struct conf *conf,
                              bool (*is_ours)(const struct dns_addr *a, uint16_t port))
{
	R.conf = conf;
	R.is_ours = is_ours;
	return (struct courier){.name = "remote",
	                        .start = remote_start,
	                        .stop = remote_stop,
	                        .parallel = REMOTE_DOMAIN_PARALLEL};
}
