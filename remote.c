/*
 * remote: the SMTP courier.
 *
 * An attempt is a list of hosts and a position on it, host and address. remote_advance() is the
 * whole ladder: called at the start and after everything that ended without all recipients settled,
 * it looks up what must be known next, takes the next address, or gives up. Each step of it waits
 * for exactly one callback, or ends the attempt.
 *
 * Which hosts these are is found in remote_hosts.c. Before any is looked for, a session that an
 * earlier message left (remote_pool.c) is tried; what fails on it but for a recipient counts for
 * nothing, since the peer may have been about to close it, and the ladder begins at its first rung.
 *
 * A host that takes no more connections may do so because of those we have: then the delivery waits
 * for one of these instead of failing.
 *
 * Connections belong to this module; the session on one (smtpc) knows neither hosts nor ladder. How
 * well a host must be protected is decided in remote_tls.c. A host that offers TLS and then cannot
 * do it is tried a second time without, at the same address, where its policy has nothing against
 * it.
 */
#define LOG_KIND LOG_DELIVERY

#include "remote_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "remote_hosts.h"
#include "stat.h"

/* The first labels of smtpOut/tlsCount are those of enum remote_level. */
#define STAT_TLS_FAILED 3
enum { STAT_PASS, STAT_FAIL, STAT_VERDICTS };
enum { STAT_BY_DANE, STAT_BY_CONF, STAT_AUTHORITIES };
STAT_VECTOR(stat_tls, "chasquid/smtpOut/tlsCount", "result",
            "Outgoing connections by the TLS they got", STAT_TLS_FAILED + 1,
            "plain tls:insecure tls:secure tls:failed");
STAT_VECTOR(stat_levels, "chasquid/smtpOut/securityLevelChecks", "result",
            "Hosts compared with the TLS that their domain has shown before", STAT_VERDICTS,
            "pass fail");
STAT_VECTOR(stat_sts, "chasquid/smtpOut/sts/security", "result",
            "Hosts compared with the enforced MTA-STS policy of their domain", STAT_VERDICTS,
            "pass fail");
STAT_VECTOR(stat_refused, "remote/refused", "by",
            "Hosts not used because of what DANE or the configuration demands", STAT_AUTHORITIES,
            "DANE configuration");
STAT_VECTOR(stat_recipients, "remote/recipients", "result",
            "Verdicts on recipients delivered by SMTP", STATUS_PERMANENT + 1,
            "delivered transient permanent");
STAT_COUNTER(stat_connections, "remote/connections", "Connections to other mail servers begun");
STAT_COUNTER(stat_reused, "remote/reused",
             "Deliveries begun on a connection that an earlier one had left");
STAT_COUNTER(stat_sts_testing, "remote/sts_testing_failures",
             "Hosts that an MTA-STS policy in testing mode would have refused");
STAT_COUNTER(stat_host_failures, "remote/host_failures", "Hosts that could not be used");

struct remote_self remote_self;

static struct attempt *attempts; /* the newest first */

/* ---- verdicts and the end ---- */

static void remote_settle(struct attempt *a, size_t pos, const struct status *st,
                          const char *remote)
{
	stat_add_at(&stat_recipients, status_class(st), 1);
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

/* The session of the attempt is over. */
static void remote_drop_client(struct attempt *a)
{
	if (a->client) {
		smtpc_free(a->client);
		remote_self.sessions--;
	}
	a->client = NULL;
	remote_link_free(a->link);
	a->link = NULL;
}

static bool remote_is_same_place(const struct attempt *a, const struct attempt *b)
{
	return strcmp(a->to, b->to) == 0 && strcmp(a->ehlo, b->ehlo) == 0;
}

/* An attempt is over, and may have left a session: who has waited longest for one looks. */
static void remote_wake(const struct attempt *over)
{
	struct attempt *first = NULL;
	for (struct attempt *a = attempts; a; a = a->next)
		if (a->waiting && remote_is_same_place(a, over))
			first = a;
	if (first)
		loop_timer_set(&first->kick, 0);
}

static void remote_free(struct attempt *a)
{
	struct attempt **p = &attempts;
	while (*p && *p != a)
		p = &(*p)->next;
	if (*p) /* it was begun */
		*p = a->next;
	remote_wake(a);
	loop_timer_stop(&a->kick);
	remote_drop_client(a);
	if (a->reader)
		spool_read_close(a->reader);
	masquerade_clear(&a->content);
	remote_login_clear(&a->login);
	remote_hosts_clear(a);
	conf_smarthost_clear(&a->smarthosts);
	a->d->state = NULL;
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
	a->d->unreached = status_class(st) == STATUS_TRANSIENT && !a->reached;
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

/* ---- a connection for several messages ---- */

static void on_ended(void *arg);
static void remote_send(struct attempt *a);

/* What others must know of the session of this attempt. NULL without memory, or when it is for this
 * message alone. */
static struct remote_link *remote_link_new(const struct attempt *a)
{
	const struct conf_smarthost *smart = a->host[a->at_host].smart;
	struct remote_link *l = NULL;
	if (a->to[0] != '\0' && (!smart || smart == &a->smarthosts.item[a->first_smarthost]))
		l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	snprintf(l->to, sizeof l->to, "%s", a->to);
	snprintf(l->ehlo, sizeof l->ehlo, "%s", a->ehlo);
	snprintf(l->key, sizeof l->key, "%s", a->key);
	snprintf(l->remote, sizeof l->remote, "%s", a->remote);
	l->level = a->level;
	l->opened = a->begun;
	l->epoch = a->epoch;
	return l;
}

/* The message is delivered: leaves the session to the next one. False when it is not to be kept. */
static bool remote_keep(struct attempt *a)
{
	struct remote_link *l = a->link ? a->link : remote_link_new(a);
	if (!l)
		return false;
	l->client = a->client;
	l->messages++;
	if (!remote_pool_wants(l)) {
		l->client = NULL;
		a->link = l;
		return false;
	}
	if (!a->link) {
		remote_login_move(&l->login, &a->login);
		l->smarthosts = a->smarthosts;
		a->smarthosts = (struct conf_smarthosts){.item = NULL};
	}
	a->client = NULL;
	a->link = NULL;
	remote_self.sessions--;
	remote_pool_keep(l);
	return true;
}

/* Takes a session that another message left. What was demanded when it was opened it has; what has
 * been learnt since, by others or by this attempt, may be more. False when there is none. */
static bool remote_reuse(struct attempt *a)
{
	struct domaininfo *di = remote_self.setup.domaininfo;
	struct remote_link *l = a->to[0] != '\0' ? remote_pool_take(a->to, a->ehlo) : NULL;
	if (!l)
		return false;
	if (l->level < a->policy.min ||
	    (di && *l->key &&
	     remote_level_known_as(l->level) < domaininfo_level(di, DOMAININFO_OUT, l->key))) {
		remote_link_free(l);
		return false;
	}
	a->answered = true;
	a->link = l;
	a->client = l->client;
	l->client = NULL;
	remote_self.sessions++;
	a->level = l->level;
	snprintf(a->remote, sizeof a->remote, "%s", l->remote);
	log_debug(a->d->env->id, "remote session taken", LOG_S("remote", a->remote),
	          LOG_N("messages", l->messages));
	stat_add(&stat_reused, 1);
	smtpc_hand_on(a->client, a->d->env->id, l->login.secret ? &l->login.login : NULL, on_ended,
	              a);
	remote_send(a);
	return true;
}

/* The hosts have as many connections as they want, and perhaps it is we who have them: takes one
 * that is kept, or waits while others are at work there. False when nobody is, or for too long. */
static bool remote_wait(struct attempt *a)
{
	const struct attempt *other = attempts;
	/* By another configuration its name is another's. */
	if (a->epoch != remote_pool_epoch())
		return false;
	if (a->patience == 0)
		a->patience = loop_now() + REMOTE_CROWDED_MS;
	if (remote_reuse(a))
		return true;
	while (other && (other == a || other->waiting || !remote_is_same_place(other, a)))
		other = other->next;
	a->waiting = other && a->to[0] != '\0' && loop_now() < a->patience;
	if (a->waiting)
		loop_timer_set(&a->kick, a->patience - loop_now());
	return a->waiting;
}

/* ---- one connection ---- */

static int remote_connect(struct attempt *a, size_t at, bool plain);

static ssize_t on_spooled(void *arg, char *p, size_t n, struct status *st)
{
	struct attempt *a = arg;
	return spool_read(a->reader, p, n, st);
}

static ssize_t on_content(void *arg, char *p, size_t n, struct status *st)
{
	struct attempt *a = arg;
	return a->masked ? masquerade_read(&a->content, p, n, st) : on_spooled(a, p, n, st);
}

static void on_verdict(void *arg, size_t rcpt, const struct status *st, enum smtpc_scope scope)
{
	struct attempt *a = arg;
	/* A recipient that the host cannot be told of must not decide for those whose link is lost.
	 */
	bool better =
	    status_class(st) == STATUS_TRANSIENT && status_class(&a->failure) == STATUS_PERMANENT;
	/* On a session that has had other messages it may be them that are too many. */
	bool final = scope == SMTPC_MESSAGE && status_class(st) == STATUS_PERMANENT && !a->link;
	if (scope == SMTPC_RCPT || final) {
		remote_settle(a, a->sent_rcpt[rcpt], st, a->remote);
		return;
	}
	/* What a host has against one sender must not hold up the others' mail to it. */
	a->reached |= scope == SMTPC_MESSAGE;
	smtpc_quit(a->client);
	if (a->link)
		log_debug(a->d->env->id, "remote session of no use", LOG_S("remote", a->remote),
		          LOG_N("code", st->code), LOG_S("text", st->text));
	else if (!a->noted || better)
		remote_note(a, st, a->remote);
}

static void on_mail_done(void *arg)
{
	struct attempt *a = arg;
	spool_read_close(a->reader);
	a->reader = NULL;
	masquerade_clear(&a->content);
	if (a->open == 0 && remote_keep(a))
		remote_finish(a);
	else
		smtpc_quit(a->client);
}

/* Gives the session the message. Where it cannot be read, all have their verdict and the session
 * is at its end. */
static void remote_send(struct attempt *a)
{
	struct delivery *d = a->d;
	struct status st;
	size_t n = 0;
	a->reader = spool_read_open(d->spool, d->env->id, &st);
	if (!a->reader) {
		remote_settle_all(a, &st, "");
		smtpc_quit(a->client);
		return;
	}
	/* For all of the message: rules may come and go meanwhile. */
	a->masked = remote_self.setup.conf->masquerades.count > 0;
	masquerade_init(&a->content, &remote_self.setup.conf->masquerades, remote_self.domain,
	                on_spooled, a);
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
	                              .header_8bit = d->env->header_8bit,
	                              .read = on_content,
	                              .verdict = on_verdict,
	                              .done = on_mail_done,
	                              .arg = a};
	smtpc_send(a->client, &a->mail);
}

/* ---- how well it is protected ---- */

static void remote_set_level(struct attempt *a, enum remote_level level)
{
	a->level = level;
	snprintf(a->remote + a->remote_len, sizeof a->remote - a->remote_len, " %s",
	         remote_level_name(level));
}

/* Under which name domaininfo knows the host: the mail domain; a host of `via` goes by its own, and
 * of the operator's own hosts and of addresses nothing is remembered. */
static void remote_set_key(struct attempt *a, const struct remote_host *h)
{
	a->key[0] = '\0';
	if (h->known || h->smart)
		return;
	if (!a->via)
		snprintf(a->key, sizeof a->key, "%s", a->d->domain);
	else if (addr_domain_normalise(slice_of(h->name), a->key, sizeof a->key))
		a->key[0] = '\0';
}

/* What the host at the position must come up to, as is known now. */
static void remote_set_policy(struct attempt *a)
{
	const struct remote_host *h = &a->host[a->at_host];
	remote_set_key(a, h);
	if (h->smart) {
		a->policy = remote_policy_smarthost(h->smart);
		return;
	}
	struct remote_known known = {.dane = a->dane.state, .sts = h->sts};
	if (remote_self.setup.domaininfo && *a->key)
		known.level =
		    domaininfo_level(remote_self.setup.domaininfo, DOMAININFO_OUT, a->key);
	a->policy = remote_policy_for(&known);
	if (!a->policy.by_tlsa)
		return;
	/* RFC 7672 3.2.2: the TLSA base domain, the host, the mail domain. */
	size_t n = 0;
	a->tls_names[n++] = a->tlsa_base;
	if (a->tlsa_base != h->name)
		a->tls_names[n++] = h->name;
	a->tls_names[n++] = a->domain;
	a->policy.dane = &a->dane;
	a->policy.names = a->tls_names;
	a->policy.name_count = n;
}

/* The one line that says what was demanded, by whom, and what was got. */
static void remote_log_security(struct attempt *a, const char *fault)
{
	const struct tls *t = a->client ? io_tls(smtpc_io(a->client)) : NULL;
	const struct tls_peer *peer = t && a->level > REMOTE_PLAIN ? tls_peer(t) : NULL;
	log_info(
	    a->d->env->id, "remote security", LOG_S("demanded", remote_level_name(a->policy.min)),
	    LOG_S("by", remote_authority_name(a->policy.by)),
	    LOG_S("got", remote_level_name(a->level)), LOG_S("remote", a->remote),
	    LOG_S("version", peer ? peer->version : ""), LOG_S("cipher", peer ? peer->cipher : ""),
	    LOG_S("certificate", *fault ? fault : "good"));
}

static void remote_count_refusal(enum remote_authority by)
{
	switch (by) {
	case REMOTE_BY_DANE:
		stat_add_at(&stat_refused, STAT_BY_DANE, 1);
		break;
	case REMOTE_BY_STS:
		stat_add_at(&stat_sts, STAT_FAIL, 1);
		break;
	case REMOTE_BY_DOMAININFO:
		stat_add_at(&stat_levels, STAT_FAIL, 1);
		break;
	case REMOTE_BY_CONF:
		stat_add_at(&stat_refused, STAT_BY_CONF, 1);
		break;
	default:
		break;
	}
}

/* The host does not come up to the policy. */
static void remote_refuse(struct attempt *a, const char *why, struct status *st)
{
	remote_count_refusal(a->policy.by);
	remote_policy_refuse(&a->policy, a->host[a->at_host].name, a->level, why, st);
	remote_log_security(a, why);
}

static int on_judge(void *arg, const struct tls_peer *peer, struct status *st)
{
	struct attempt *a = arg;
	enum remote_level level;
	(void)peer;
	int rc = remote_policy_judge(&a->policy, io_tls(smtpc_io(a->client)), &level, &a->fault);
	remote_set_level(a, level);
	if (rc)
		remote_refuse(a, a->fault, st);
	return rc;
}

/* The session is ready: is it good enough by what is known now, which another delivery may have
 * changed since it began? Remembers and logs how good it is. */
static bool remote_is_good_enough(struct attempt *a)
{
	remote_set_policy(a);
	if (a->level < a->policy.min) {
		struct status st;
		remote_refuse(a, "another connection has just had more", &st);
		remote_note(a, &st, a->remote);
		return false;
	}
	stat_add_at(&stat_tls, a->level, 1);
	if (a->policy.by == REMOTE_BY_STS)
		stat_add_at(&stat_sts, STAT_PASS, 1);
	remote_log_security(a, a->level == REMOTE_PLAIN ? "none" : a->fault);
	const char *report = remote_policy_reports(&a->policy, a->level);
	if (report) {
		log_info(a->d->env->id, "MTA-STS in testing mode would refuse",
		         LOG_S("remote", a->remote), LOG_S("why", report));
		stat_add(&stat_sts_testing, 1);
	}
	if (remote_self.setup.domaininfo && *a->key) {
		stat_add_at(&stat_levels, STAT_PASS, 1);
		domaininfo_saw(remote_self.setup.domaininfo, DOMAININFO_OUT, a->key,
		               remote_level_known_as(a->level));
	}
	return true;
}

/* ---- one session ---- */

/* A refusal that is about TLS says who demands it. */
static const struct status *remote_explain(struct attempt *a, enum smtpc_trouble trouble,
                                           const struct status *st, struct status *buffer)
{
	if (trouble != SMTPC_TLS_TROUBLE && trouble != SMTPC_TLS_MISSING)
		return st;
	remote_refuse(a, st->text, buffer);
	return buffer;
}

static void remote_not_ready(struct attempt *a, const struct status *given)
{
	enum smtpc_trouble trouble = smtpc_trouble(a->client);
	struct status buffer;
	const struct status *st = given;
	if (trouble == SMTPC_TLS_TROUBLE && remote_policy_allows_plain(&a->policy)) {
		log_info(a->d->env->id, "remote TLS failed, trying without",
		         LOG_S("remote", a->remote), LOG_S("text", st->text));
		stat_add_at(&stat_tls, STAT_TLS_FAILED, 1);
		a->without_tls = true;
		return;
	}
	st = remote_explain(a, trouble, given, &buffer);
	remote_note(a, st, a->remote);
	a->crowded |= given->code == 421;
	if (WITH_TLS && trouble == SMTPC_LOGIN_TROUBLE) {
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
	a->answered = true;
	if (remote_is_our_name(smtpc_greeting_name(a->client))) {
		log_info(a->d->env->id, "remote is ourselves", LOG_S("remote", a->remote));
		a->loop = true;
		a->at_addr = a->host[a->at_host].count;
	} else if (remote_is_good_enough(a)) {
		remote_send(a);
		return;
	}
	smtpc_quit(a->client);
}

static void on_ended(void *arg)
{
	struct attempt *a = arg;
	bool kept = a->link != NULL;
	remote_drop_client(a);
	if (kept && a->open > 0 && !a->crowded) {
		remote_hosts_begin(a);
		return;
	}
	bool plain = a->without_tls;
	a->without_tls = false;
	if (plain && remote_connect(a, a->at_addr - 1, true) == 0)
		return;
	if (a->open > 0)
		remote_advance(a);
	else
		remote_finish(a);
}

/* The name for SNI and the check of the certificate: of a literal, what certificates have; with
 * DANE the one that has the records (RFC 7672 8.1). */
static const char *remote_tls_name(const struct attempt *a, const struct remote_host *h)
{
	if (a->policy.by_tlsa)
		return a->tlsa_base;
	return addr_is_literal(h->name) ? a->address : h->name;
}

/* Makes a session for the host at the position, without TLS if its policy allows it. NULL without
 * memory. */
static struct smtpc *remote_client(struct attempt *a, bool plain)
{
	const struct remote_host *h = &a->host[a->at_host];
	struct smtpc *c = smtpc_new(a->d->env->id, a->ehlo, on_ready, on_ended, a);
	if (!c)
		return NULL;
	struct smtpc_security security = {.tls = a->policy.tls,
	                                  .required = a->policy.min > REMOTE_PLAIN,
	                                  .roots = remote_self.setup.roots,
	                                  .name = remote_tls_name(a, h),
	                                  .judge = on_judge,
	                                  .login = a->logged_in ? &a->login.login : NULL};
	if (plain && remote_policy_allows_plain(&a->policy))
		security.tls = SMTPC_TLS_NONE;
	smtpc_secure(c, &security);
	return c;
}

/* The host at the position may not be used at all. */
static void remote_refuse_host(struct attempt *a)
{
	struct status st;
	a->level = REMOTE_PLAIN;
	snprintf(a->remote, sizeof a->remote, "%s", a->host[a->at_host].name);
	remote_refuse(a, a->policy.refused, &st);
	remote_note(a, &st, "");
	a->at_addr = a->host[a->at_host].count;
}

/* Begins a session with an address, by its number, of the host at the position. Returns 0 when
 * `ended` will come, or -1 when it failed at once (noted). plain: without TLS, where the policy has
 * nothing against it. */
static int remote_connect(struct attempt *a, size_t at, bool plain)
{
	const struct remote_host *h = &a->host[a->at_host];
	const struct dns_addr *addr = &h->addr[at];
	struct sockaddr_storage to;
	socklen_t len = dns_addr_to_sockaddr(addr, h->port, &to);
	remote_set_policy(a);
	if (a->policy.refused) {
		remote_refuse_host(a);
		return -1;
	}
	a->fault = "";
	a->remote_len =
	    (size_t)snprintf(a->remote, sizeof a->remote, "%.*s [%s]:%u", ADDR_DOMAIN_MAX, h->name,
	                     dns_addr_text(addr, a->address), (unsigned)h->port);
	remote_set_level(a, REMOTE_PLAIN);
	a->noted = false;
	log_debug(a->d->env->id, "remote connect", LOG_S("remote", a->remote));
	stat_add(&stat_connections, 1);
	remote_pool_make_room(remote_self.sessions);
	a->client = remote_client(a, plain);
	remote_self.sessions += a->client != NULL;
	if (a->client && io_connect(smtpc_io(a->client), &to, len) == 0)
		return 0;
	struct status st;
	status_set(&st, 451, "4.4.1", "cannot connect: %s",
	           a->client ? strerror(errno) : "out of memory");
	remote_drop_client(a);
	remote_note(a, &st, a->remote);
	return -1;
}

/* ---- the ladder ---- */

static void remote_give_up(struct attempt *a)
{
	struct status st;
	if (a->crowded && !a->reached && remote_wait(a))
		return;
	if (a->failure.code != 0)
		st = a->failure;
	else if (a->loop)
		status_set(&st, 554, "5.4.6", "mail loop: the best mail host for %s is this one",
		           a->d->env->rcpt[a->d->rcpts[0]].address);
	else
		status_set(&st, 451, "4.4.4", "no mail host for %s", a->domain);
	remote_finish_with(a, &st, a->failure_remote);
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
	if (!WITH_TLS || !s || !s->user || a->logged_in)
		return false;
	remote_login_start(&a->login, s, on_login, a);
	return true;
}

void remote_advance(struct attempt *a)
{
	a->moved = loop_now();
	while (a->at_host < a->host_count) {
		const struct remote_host *h = &a->host[a->at_host];
		if (remote_hosts_must_resolve(a)) {
			if (remote_hosts_resolve(a))
				return;
		} else if (a->at_addr >= h->count) {
			remote_hosts_next(a);
		} else if (remote_hosts_find_tlsa(a) || remote_get_login(a) ||
		           remote_connect(a, a->at_addr++, false) == 0) {
			return;
		}
	}
	remote_give_up(a);
}

/* ---- the courier ---- */

/* The sender as the world is to see it. */
static void remote_choose_from(struct attempt *a)
{
	const struct conf_masquerades *rules = &remote_self.setup.conf->masquerades;
	struct addr from;
	if (rules->count > 0 && !a->d->rewritten && addr_parse(slice_of(a->d->from), &from) == 0 &&
	    conf_masquerade_apply(rules, &from) && addr_format(&from, a->from, sizeof a->from) == 0)
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
		snprintf(a->ehlo, sizeof a->ehlo, "%s", remote_self.setup.conf->hostname);
}

static void remote_begin(void *arg)
{
	struct attempt *a = arg;
	if (a->waiting) {
		a->waiting = false;
		remote_give_up(a);
		return;
	}
	a->begun = a->moved = loop_now();
	a->epoch = remote_pool_epoch();
	remote_hosts_name(a);
	if (!remote_reuse(a))
		remote_hosts_begin(a);
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
		a->via = remote_hosts_via(first->via);
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
	a->next = attempts;
	attempts = a;
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

static int64_t remote_quiet_since(void *self, const struct delivery *d)
{
	const struct attempt *a = d->state;
	(void)self;
	if (!a || a->answered)
		return INT64_MAX;
	int64_t heard = a->client ? smtpc_heard(a->client) : 0;
	return heard > a->moved ? heard : a->moved;
}

void remote_close(void)
{
	remote_pool_done();
}

void remote_reload(void)
{
	remote_pool_clear();
	const char *name = remote_self.setup.conf->hostname;
	if (addr_domain_normalise(slice_of(name), remote_self.domain, sizeof remote_self.domain))
		snprintf(remote_self.domain, sizeof remote_self.domain, "%s", name);
}

struct courier courier_remote(const struct remote_setup *setup)
{
	remote_self.setup = *setup;
	remote_reload();
	return (struct courier){.name = "remote",
	                        .start = remote_start,
	                        .stop = remote_stop,
	                        .quiet_since = remote_quiet_since,
	                        .parallel = REMOTE_DOMAIN_PARALLEL,
	                        .batch = true};
}
