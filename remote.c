/*
 * remote: the SMTP courier.
 *
 * An attempt is a list of hosts and a position on it, host and address. remote_advance() is the
 * whole ladder: called at the start and after everything that ended without all recipients settled,
 * it looks up what must be known next, takes the next address, or gives up. Each step of it waits
 * for exactly one callback, or ends the attempt.
 *
 * Which hosts these are is found in remote_hosts.c.
 *
 * Connections belong to this module; the session on one (smtpc) knows neither hosts nor ladder. How
 * well a host must be protected is decided in remote_tls.c. A host that offers TLS and then cannot
 * do it is tried a second time without, at the same address, where its policy has nothing against
 * it.
 */
#include "remote_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "stat.h"

STAT_COUNTER(stat_connections, "remote/connections");
STAT_COUNTER(stat_tls_failures, "remote/tls_failures");
STAT_COUNTER(stat_host_failures, "remote/host_failures");
STAT_COUNTER(stat_delivered, "remote/recipients{delivered}");
STAT_COUNTER(stat_transient, "remote/recipients{transient}");
STAT_COUNTER(stat_permanent, "remote/recipients{permanent}");

struct remote_self remote_self;

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

void remote_finish_with(struct attempt *a, const struct status *st, const char *remote)
{
	remote_settle_all(a, st, remote);
	remote_finish(a);
}

void remote_note(struct attempt *a, const struct status *st, const char *remote)
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

static int remote_connect(struct attempt *a, size_t at);

static ssize_t on_spooled(void *arg, char *p, size_t n, struct status *st)
{
	struct attempt *a = arg;
	return spool_read(a->reader, p, n, st);
}

static ssize_t on_content(void *arg, char *p, size_t n, struct status *st)
{
	struct attempt *a = arg;
	if (remote_self.conf->masquerades.count == 0)
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
	masquerade_init(&a->content, &remote_self.conf->masquerades, remote_self.domain, on_spooled,
	                a);
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
	if (remote_is_our_name(smtpc_greeting_name(a->client))) {
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
	const struct remote_host *h = &a->host[a->at_host];
	struct smtpc *c = smtpc_new(a->d->env->id, a->ehlo, on_ready, on_ended, a);
	if (!c)
		return NULL;
	a->policy = h->smart ? remote_policy_smarthost(h->smart)
	                     : remote_policy_for(a->fixed ? "" : a->d->domain, h->name);
	struct smtpc_security security = {.tls = a->policy.tls,
	                                  .required = a->policy.min > REMOTE_PLAIN,
	                                  .roots = remote_self.roots,
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
	const struct remote_host *h = &a->host[a->at_host];
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

void remote_advance(struct attempt *a)
{
	while (a->at_host < a->host_count) {
		const struct remote_host *h = &a->host[a->at_host];
		if (remote_hosts_must_resolve(a)) {
			if (remote_hosts_resolve(a))
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

/* ---- the courier ---- */

/* The sender as the world is to see it. */
static void remote_choose_from(struct attempt *a)
{
	struct addr from;
	if (addr_parse(slice_of(a->d->from), &from) == 0 &&
	    conf_masquerade_apply(&remote_self.conf->masquerades, &from) &&
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
	if (addr_domain_to_ascii(remote_self.domain, a->ehlo, sizeof a->ehlo))
		snprintf(a->ehlo, sizeof a->ehlo, "%s", remote_self.conf->hostname);
}

static void remote_begin(void *arg)
{
	remote_hosts_begin(arg);
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
	remote_self.conf = conf;
	remote_self.roots = roots;
	if (addr_domain_normalise(slice_of(conf->hostname), remote_self.domain,
	                          sizeof remote_self.domain))
		snprintf(remote_self.domain, sizeof remote_self.domain, "%s", conf->hostname);
	remote_self.is_ours = is_ours;
	return (struct courier){.name = "remote",
	                        .start = remote_start,
	                        .stop = remote_stop,
	                        .parallel = REMOTE_DOMAIN_PARALLEL};
}
