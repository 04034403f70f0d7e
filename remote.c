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
 * Connections belong to this module; the session on one (smtpc) knows neither hosts nor ladder. How
 * well a host must be protected is decided in remote_tls.c. A host that offers TLS and then cannot
 * do it is tried a second time without, at the same address, where its policy has nothing against
 * it.
 *
 * Mail for which a smarthost is configured knows no other hosts than the smarthosts that match its
 * sender, in order of appearance.
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
#include "confvalue.h"
#include "log.h"
#include "masquerade.h"
#include "remote_login.h"
#include "remote_tls.h"
#include "smtpc.h"
#include "stat.h"

STAT_COUNTER(stat_connections, "remote/connections");
STAT_COUNTER(stat_tls_failures, "remote/tls_failures");
STAT_COUNTER(stat_host_failures, "remote/host_failures");
STAT_COUNTER(stat_delivered, "remote/recipients{delivered}");
STAT_COUNTER(stat_transient, "remote/recipients{transient}");
STAT_COUNTER(stat_permanent, "remote/recipients{permanent}");

/* "host [address]:port LEVEL" */
#define REMOTE_TEXT (ADDR_DOMAIN_MAX + INET6_ADDRSTRLEN + 20)

struct host {
	const char *name;
	const struct conf_smarthost *smart; /* NULL: any other host */
	unsigned preference;
	uint16_t port;
	bool known; /* its addresses need no look-up */
	size_t count;
	struct dns_addr addr[REMOTE_ADDRS_MAX];
};

struct attempt {
	struct delivery *d;
	struct loop_timer kick;
	struct dns_query mx; /* keeps the names of the hosts */
	struct dns_query lookup;
	char *via; /* the same for via */
	char from[ADDR_TEXT_MAX];
	char domain[ADDR_DOMAIN_MAX + 1];
	char ehlo[ADDR_DOMAIN_MAX + 1];
	struct host host[REMOTE_HOSTS_MAX];
	size_t host_count;
	size_t resolved;       /* hosts before this one have been looked up */
	size_t at_host;        /* the position */
	size_t at_addr;        /* the address to try next */
	bool fixed;            /* the hosts and their order are the operator's, not DNS's */
	bool loop;             /* a host was left out because it is us */
	bool without_tls;      /* the next try is a second one of the same address, plain */
	bool noted;            /* that this connection failed; said once, not for each recipient */
	struct status failure; /* of hosts so far, the one that counts; code 0 when none */
	char failure_remote[REMOTE_TEXT];
	char remote[REMOTE_TEXT]; /* of the connection */
	size_t remote_len;        /* of it without the level */
	char address[INET6_ADDRSTRLEN];
	struct remote_policy policy;
	struct remote_login login;
	bool logged_in; /* the login of the host at the position is there */
	struct smtpc *client;
	struct spool_reader *reader;
	struct masquerade content; /* what is read of it */
	struct smtpc_mail mail;
	size_t open;       /* recipients without verdict */
	bool *settled;     /* by position in d->rcpts */
	size_t *sent_rcpt; /* position in d->rcpts, by position in mail.rcpt */
	const char **sent_address;
};

static struct {
	const struct conf *conf;
	struct tls_roots *roots;
	char domain[ADDR_DOMAIN_MAX + 1]; /* our host name, normalised */
	bool (*is_ours)(const struct dns_addr *a, uint16_t port);
} R;

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
	masquerade_clear(&a->content);
	remote_login_clear(&a->login);
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
		status_set(&st, 554, "5.4.6", "mail loop: the best mail host for %s is this one",
		           a->d->env->rcpt[a->d->rcpts[0]].address);
	else
		status_set(&st, 451, "4.4.4", "no mail host for %s", a->domain);
	remote_finish_with(a, &st, a->failure_remote);
}

/* ---- one connection ---- */

static void remote_advance(struct attempt *a);
static int remote_connect(struct attempt *a, size_t at);

static ssize_t on_spooled(void *arg, char *p, size_t n, struct status *st)
{
	struct attempt *a = arg;
	return spool_read(a->reader, p, n, st);
}

static ssize_t on_content(void *arg, char *p, size_t n, struct status *st)
{
	struct attempt *a = arg;
	if (R.conf->masquerades.count == 0)
		return on_spooled(a, p, n, st);
	return masquerade_read(&a->content, p, n, st);
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
	masquerade_clear(&a->content);
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
	masquerade_init(&a->content, &R.conf->masquerades, R.domain, on_spooled, a);
	for (size_t i = 0; i < d->count; i++) {
		if (a->settled[i])
			continue;
		a->sent_rcpt[n] = i;
		a->sent_address[n++] = d->env->rcpt[d->rcpts[i]].address;
	}
	a->mail = (struct smtpc_mail){.from = a->from,
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

static void remote_set_level(struct attempt *a, enum remote_level level)
{
	snprintf(a->remote + a->remote_len, sizeof a->remote - a->remote_len, " %s",
	         remote_level_name(level));
}

static int on_judge(void *arg, const struct tls_peer *peer, struct status *st)
{
	struct attempt *a = arg;
	enum remote_level level;
	int rc = remote_policy_judge(&a->policy, a->host[a->at_host].name, peer, &level, st);
	remote_set_level(a, level);
	log_info(a->d->env->id, "remote secured", LOG_S("remote", a->remote),
	         LOG_S("version", peer->version), LOG_S("cipher", peer->cipher),
	         LOG_S("certificate", level == REMOTE_TLS_SECURE ? "good" : peer->why));
	return rc;
}

static void remote_not_ready(struct attempt *a, const struct status *st)
{
	enum smtpc_trouble trouble = smtpc_trouble(a->client);
	if (trouble == SMTPC_TLS_TROUBLE && remote_policy_allows_plain(&a->policy)) {
		log_info(a->d->env->id, "remote TLS failed, trying without",
		         LOG_S("remote", a->remote), LOG_S("text", st->text));
		stat_add(&stat_tls_failures, 1);
		a->without_tls = true;
		return;
	}
	remote_note(a, st, a->remote);
	if (trouble == SMTPC_LOGIN_TROUBLE) {
		log_error(a->d->env->id, "SMARTHOST REFUSES OUR CREDENTIALS, mail waits",
		          LOG_S("remote", a->remote), LOG_S("text", st->text));
		remote_login_refused(&a->login);
		a->at_addr = a->host[a->at_host].count; /* its other addresses know no better */
	}
}

static void on_ready(void *arg, const struct status *st)
{
	struct attempt *a = arg;
	if (status_class(st) != STATUS_DONE) {
		remote_not_ready(a, st);
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
	if (a->without_tls && remote_connect(a, a->at_addr - 1) == 0)
		return;
	if (a->open > 0)
		remote_advance(a);
	else
		remote_finish(a);
}

/* Opens a socket that is connecting. Its fd, or -1 with errno. */
static int remote_socket(const struct dns_addr *addr, uint16_t port)
{
	struct sockaddr_storage sa;
	socklen_t len = dns_addr_to_sockaddr(addr, port, &sa);
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

/* Makes a session for the host at the position. NULL without memory. */
static struct smtpc *remote_client(struct attempt *a)
{
	const struct host *h = &a->host[a->at_host];
	struct smtpc *c = smtpc_new(a->d->env->id, a->ehlo, on_ready, on_ended, a);
	if (!c)
		return NULL;
	a->policy = h->smart ? remote_policy_smarthost(h->smart)
	                     : remote_policy_for(a->fixed ? "" : a->d->domain, h->name);
	struct smtpc_security security = {.tls = a->policy.tls,
	                                  .required = a->policy.min > REMOTE_PLAIN,
	                                  .roots = R.roots,
	                                  /* of a literal, what certificates have */
	                                  .name = addr_is_literal(h->name) ? a->address : h->name,
	                                  .judge = on_judge,
	                                  .login = a->logged_in ? &a->login.login : NULL};
	if (a->without_tls && remote_policy_allows_plain(&a->policy))
		security.tls = SMTPC_TLS_NONE;
	a->without_tls = false;
	smtpc_secure(c, &security);
	return c;
}

/* Begins a session with an address, by its number, of the host at the position. Returns 0 when
 * `ended` will come, or -1 when it failed at once (noted). */
static int remote_connect(struct attempt *a, size_t at)
{
	const struct host *h = &a->host[a->at_host];
	const struct dns_addr *addr = &h->addr[at];
	a->remote_len =
	    (size_t)snprintf(a->remote, sizeof a->remote, "%.*s [%s]:%u", ADDR_DOMAIN_MAX, h->name,
	                     dns_addr_text(addr, a->address), (unsigned)h->port);
	remote_set_level(a, REMOTE_PLAIN);
	a->noted = false;
	log_debug(a->d->env->id, "remote connect", LOG_S("remote", a->remote));
	stat_add(&stat_connections, 1);
	a->client = remote_client(a);
	int fd = a->client ? remote_socket(addr, h->port) : -1;
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
	struct host *h = &a->host[a->resolved++];
	for (size_t i = 0; i < h->count; i++) {
		if (R.is_ours(&h->addr[i], h->port)) {
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

/* Looks up the next host. False when that took no time. */
static bool remote_resolve(struct attempt *a)
{
	char normal[ADDR_DOMAIN_MAX + 1], ascii[ADDR_DOMAIN_MAX + 1];
	const char *name = a->host[a->resolved].name;
	if (a->host[a->resolved].known) {
		remote_resolved(a);
		return false;
	}
	/* Hosts of `via` are as the operator wrote them. */
	if (a->via && addr_domain_normalise(slice_of(name), normal, sizeof normal) == 0 &&
	    addr_domain_to_ascii(normal, ascii, sizeof ascii) == 0)
		name = ascii;
	dns_addresses(&a->lookup, slice_of(name), on_addresses, a);
	return true;
}

static void on_login(void *arg, const struct status *st)
{
	struct attempt *a = arg;
	a->logged_in = status_class(st) == STATUS_DONE;
	if (!a->logged_in) {
		log_error(a->d->env->id, "smarthost not used", LOG_S("text", st->text));
		remote_note(a, st, "");
		a->at_addr = a->host[a->at_host].count;
	}
	remote_advance(a);
}

/* Asks for the password of the host at the position. False when it is there, or none is needed. */
static bool remote_get_login(struct attempt *a)
{
	const struct conf_smarthost *s = a->host[a->at_host].smart;
	if (!s || !s->user || a->logged_in)
		return false;
	remote_login_start(&a->login, s, on_login, a);
	return true;
}

static void remote_advance(struct attempt *a)
{
	while (a->at_host < a->host_count) {
		const struct host *h = &a->host[a->at_host];
		if (remote_must_resolve(a)) {
			if (remote_resolve(a))
				return;
		} else if (a->at_addr >= h->count) {
			a->at_host++;
			a->at_addr = 0;
			a->logged_in = false;
		} else if (remote_get_login(a) || remote_connect(a, a->at_addr++) == 0) {
			return;
		}
	}
	remote_give_up(a);
}

/* ---- the list of hosts ---- */

/* Adds a host, with its address when that needs no look-up (NULL: it does). Ourselves by name are
 * left out. */
static void remote_add(struct attempt *a, const struct host *h, const struct dns_addr *addr)
{
	if (!h->smart && is_our_name(h->name)) {
		a->loop = true;
		return;
	}
	if (a->host_count >= REMOTE_HOSTS_MAX)
		return;
	struct host *to = &a->host[a->host_count++];
	*to = *h;
	if (addr) {
		to->addr[0] = *addr;
		to->count = 1;
		to->known = true;
	}
}

static void remote_add_host(struct attempt *a, const char *name, unsigned preference)
{
	struct host h = {
	    .name = name, .preference = preference, .port = (uint16_t)R.conf->remote_smtp_port};
	remote_add(a, &h, NULL);
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

/* "host", "host:port", "[IPv6]:port" or an address. The name is cut to the host in place. */
static void remote_add_via(struct attempt *a, char *name, unsigned order)
{
	char host[ADDR_DOMAIN_MAX + 1], port[CONFVALUE_PORT];
	struct host h = {
	    .name = name, .preference = order, .port = (uint16_t)R.conf->remote_smtp_port};
	struct dns_addr addr;
	if (confvalue_split_address(name, host, port) == 0 && *host) {
		size_t skip = strncasecmp(host, "IPv6:", 5) == 0 ? 5 : 0; /* RFC 5321 4.1.3 */
		memcpy(name, host + skip, strlen(host + skip) + 1);
		if (confvalue_is_port(port))
			h.port = (uint16_t)strtoul(port, NULL, 10);
	}
	remote_add(a, &h, dns_addr_parse(&addr, slice_of(name)) == 0 ? &addr : NULL);
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

static void remote_begin_literal(struct attempt *a)
{
	unsigned char raw[16];
	struct dns_addr addr = {.family = AF_INET};
	struct host h = {.name = a->domain, .port = (uint16_t)R.conf->remote_smtp_port};
	if (addr_literal(a->domain, raw) == 6) {
		addr.family = AF_INET6;
		memcpy(&addr.ip.v6, raw, sizeof addr.ip.v6);
	} else {
		memcpy(&addr.ip.v4, raw, sizeof addr.ip.v4);
	}
	remote_add(a, &h, &addr);
	remote_advance(a);
}

/* All smarthosts that take this sender's mail. False when there is none. */
static bool remote_begin_smarthost(struct attempt *a)
{
	const struct conf_smarthosts *list = &R.conf->smarthosts;
	struct addr sender;
	if (addr_parse(slice_of(a->from), &sender))
		return false;
	size_t i = conf_smarthost_find(list, &sender, 0);
	for (; i < list->count; i = conf_smarthost_find(list, &sender, i + 1)) {
		const struct conf_smarthost *s = &list->item[i];
		struct host h = {
		    .name = s->host, .smart = s, .preference = (unsigned)i, .port = s->port};
		remote_add(a, &h, s->has_addr ? &s->addr : NULL);
		a->fixed = true;
	}
	return a->fixed;
}

static void remote_begin(void *arg)
{
	struct attempt *a = arg;
	struct status st;
	if (a->via)
		remote_begin_via(a);
	else if (remote_begin_smarthost(a))
		remote_advance(a);
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

/* The sender as the world is to see it. */
static void remote_choose_from(struct attempt *a)
{
	struct addr from;
	if (addr_parse(slice_of(a->d->from), &from) == 0 &&
	    conf_masquerade_apply(&R.conf->masquerades, &from) &&
	    addr_format(&from, a->from, sizeof a->from) == 0)
		return;
	snprintf(a->from, sizeof a->from, "%s", a->d->from);
}

static void remote_choose_ehlo(struct attempt *a)
{
	struct addr from;
	if (REMOTE_EHLO_SENDER_DOMAIN && addr_parse(slice_of(a->from), &from) == 0 &&
	    from.domain[0] != '\0' && !addr_is_literal(from.domain) &&
	    addr_domain_to_ascii(from.domain, a->ehlo, sizeof a->ehlo) == 0)
		return;
	if (addr_domain_to_ascii(R.domain, a->ehlo, sizeof a->ehlo))
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
	remote_choose_from(a);
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

struct courier courier_remote(const struct conf *conf, struct tls_roots *roots,
                              bool (*is_ours)(const struct dns_addr *a, uint16_t port))
{
	R.conf = conf;
	R.roots = roots;
	if (addr_domain_normalise(slice_of(conf->hostname), R.domain, sizeof R.domain))
		snprintf(R.domain, sizeof R.domain, "%s", conf->hostname);
	R.is_ours = is_ours;
	return (struct courier){.name = "remote",
	                        .start = remote_start,
	                        .stop = remote_stop,
	                        .parallel = REMOTE_DOMAIN_PARALLEL};
}
