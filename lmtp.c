/*
 * lmtp: the courier for local mail that another server keeps.
 *
 * A delivery is one session of smtpc with one transaction; after the content the server says of
 * each recipient what became of it. The addresses of the server's name are tried in turn until a
 * session is ready. Once it is, the transaction has the last word: whom it leaves open waits for
 * the next attempt.
 *
 * There is neither TLS nor a login in it: the server is on this machine, or on a network that the
 * operator trusts.
 */
#define LOG_KIND LOG_DELIVERY

#include "lmtp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "addr.h"
#include "config.h"
#include "confvalue.h"
#include "dns.h"
#include "io.h"
#include "log.h"
#include "smtpc.h"
#include "stat.h"

STAT_COUNTER(stat_connections, "lmtp/connections", "Connections to the LMTP server");
STAT_COUNTER(stat_failures, "lmtp/failures",
             "Connections to the LMTP server that could not be used");

/* "host [address]:port LMTP" or "HOSTNAME unix:PATH" */
#define LMTP_REMOTE (ADDR_DOMAIN_MAX + sizeof(struct sockaddr_un) + 20)

struct lmtp {
	struct delivery *d;
	char *configured; /* lmtp_address and hostname as they were at the start: they may change */
	char *hostname;
	struct confvalue_lmtp server; /* in `configured` */
	struct loop_timer kick;
	struct dns_query lookup;
	size_t at; /* the address to try next; a socket's path is the only one */
	char remote[LMTP_REMOTE];
	struct status failure; /* of the address tried last */
	struct smtpc *client;
	struct spool_reader *reader;
	struct smtpc_mail mail;
	const char **address; /* of the recipients */
	size_t open;          /* recipients without verdict */
};

/* ---- verdicts and the end ---- */

static void lmtp_settle(struct lmtp *a, size_t pos, const struct status *st)
{
	a->open--;
	a->d->verdict(a->d, a->d->rcpts[pos], st, a->remote);
}

/* Trouble with the server as such, or with our disk, ends no message for good. */
static void lmtp_make_transient(struct status *st)
{
	struct status given = *st;
	if (status_class(st) != STATUS_TRANSIENT)
		status_set(st, 451, "4.3.0", "%d %s", given.code, given.text);
}

static void lmtp_settle_all(struct lmtp *a, struct status *st)
{
	lmtp_make_transient(st);
	for (size_t i = 0; i < a->d->count; i++)
		lmtp_settle(a, i, st);
}

static void lmtp_free(struct lmtp *a)
{
	loop_timer_stop(&a->kick);
	dns_cancel(&a->lookup);
	if (a->client)
		smtpc_free(a->client);
	if (a->reader)
		spool_read_close(a->reader);
	a->d->state = NULL;
	free(a->address);
	free(a->configured);
	free(a->hostname);
	free(a);
}

static void lmtp_finish(struct lmtp *a)
{
	struct delivery *d = a->d;
	lmtp_free(a);
	d->done(d);
}

static void lmtp_failed(struct lmtp *a, const struct status *st)
{
	log_info(a->d->env->id, "lmtp server failed", LOG_S("address", a->configured),
	         LOG_S("remote", a->remote), LOG_N("code", st->code), LOG_S("text", st->text));
	stat_add(&stat_failures, 1);
	a->failure = *st;
}

/* ---- the session ---- */

static void lmtp_next(struct lmtp *a);

static ssize_t on_content(void *arg, char *p, size_t n, struct status *st)
{
	struct lmtp *a = arg;
	ssize_t got = spool_read(a->reader, p, n, st);
	if (got < 0)
		lmtp_make_transient(st);
	return got;
}

static void on_verdict(void *arg, size_t rcpt, const struct status *st, enum smtpc_scope scope)
{
	(void)scope; /* there is no other server */
	lmtp_settle(arg, rcpt, st);
}

static void on_mail_done(void *arg)
{
	struct lmtp *a = arg;
	spool_read_close(a->reader);
	a->reader = NULL;
}

static void lmtp_send(struct lmtp *a)
{
	struct delivery *d = a->d;
	struct status st;
	a->reader = spool_read_open(d->spool, d->env->id, &st);
	if (!a->reader) {
		lmtp_settle_all(a, &st);
		return;
	}
	for (size_t i = 0; i < d->count; i++)
		a->address[i] = d->env->rcpt[d->rcpts[i]].address;
	a->mail = (struct smtpc_mail){.from = d->from,
	                              .rcpt = a->address,
	                              .count = d->count,
	                              .size = d->env->size,
	                              .header_8bit = d->env->header_8bit,
	                              .read = on_content,
	                              .verdict = on_verdict,
	                              .done = on_mail_done,
	                              .arg = a};
	smtpc_send(a->client, &a->mail);
}

static void on_ready(void *arg, const struct status *st)
{
	struct lmtp *a = arg;
	if (status_class(st) != STATUS_DONE) {
		lmtp_failed(a, st);
		return;
	}
	lmtp_send(a);
	smtpc_quit(a->client);
}

static void on_ended(void *arg)
{
	struct lmtp *a = arg;
	smtpc_free(a->client);
	a->client = NULL;
	if (a->open > 0)
		lmtp_next(a);
	else
		lmtp_finish(a);
}

/* ---- the connection ---- */

/* How many addresses there are to try. */
static size_t lmtp_addresses(const struct lmtp *a)
{
	return a->server.path ? 1 : a->lookup.count;
}

/* The address at the position as a socket's, and into `remote`. */
static socklen_t lmtp_sockaddr(struct lmtp *a, struct sockaddr_storage *sa)
{
	char text[INET6_ADDRSTRLEN];
	if (!a->server.path) {
		const struct dns_addr *addr = &a->lookup.addrs[a->at];
		snprintf(a->remote, sizeof a->remote, "%s [%s]:%u LMTP", a->server.host,
		         dns_addr_text(addr, text), (unsigned)a->server.port);
		return dns_addr_to_sockaddr(addr, a->server.port, sa);
	}
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	snprintf(a->remote, sizeof a->remote, "%s unix:%s", a->hostname, a->server.path);
	snprintf(un.sun_path, sizeof un.sun_path, "%s", a->server.path);
	memcpy(sa, &un, sizeof un);
	return sizeof un;
}

/* Begins a session with the address at the position. 0 when `ended` will come, or -1 when it failed
 * at once. */
static int lmtp_connect(struct lmtp *a)
{
	struct sockaddr_storage sa;
	struct status st;
	socklen_t len = lmtp_sockaddr(a, &sa);
	stat_add(&stat_connections, 1);
	a->client = smtpc_new(a->d->env->id, a->hostname, on_ready, on_ended, a);
	if (!a->client) {
		status_set(&st, 451, "4.3.0", "out of memory");
		lmtp_failed(a, &st);
		return -1;
	}
	smtpc_speak_lmtp(a->client);
	if (io_connect(smtpc_io(a->client), &sa, len) == 0)
		return 0;
	status_set(&st, 451, "4.4.1", "cannot connect: %s", strerror(errno));
	smtpc_free(a->client);
	a->client = NULL;
	lmtp_failed(a, &st);
	return -1;
}

/* Tries the next address, or gives up. */
static void lmtp_next(struct lmtp *a)
{
	while (a->at < lmtp_addresses(a)) {
		int rc = lmtp_connect(a);
		a->at++;
		if (rc == 0)
			return;
	}
	lmtp_settle_all(a, &a->failure);
	lmtp_finish(a);
}

static void on_addresses(void *arg, struct dns_query *q)
{
	struct lmtp *a = arg;
	struct status st;
	if (q->result != DNS_OK) {
		status_set(&st, 451, "4.4.4", "no address for LMTP server %s: %s", a->server.host,
		           dns_result_text(q->result));
		lmtp_failed(a, &st);
	}
	lmtp_next(a);
}

static void lmtp_begin(void *arg)
{
	struct lmtp *a = arg;
	char normal[ADDR_DOMAIN_MAX + 1], ascii[ADDR_DOMAIN_MAX + 1];
	const char *name = a->server.host;
	if (a->server.path) {
		lmtp_next(a);
		return;
	}
	/* It is as the operator wrote it. */
	if (addr_domain_normalise(slice_of(name), normal, sizeof normal) == 0 &&
	    addr_domain_to_ascii(normal, ascii, sizeof ascii) == 0)
		name = ascii;
	dns_addresses(&a->lookup, slice_of(name), on_addresses, a);
}

/* ---- the courier ---- */

static int lmtp_start(void *self, struct delivery *d, struct status *st)
{
	const struct conf *conf = self;
	if (!conf->lmtp_address) { /* it changed while this delivery waited its turn */
		status_set(st, 451, "4.3.0", "no lmtp_address any more");
		return -1;
	}
	struct lmtp *a = calloc(1, sizeof *a);
	if (!a)
		goto fail;
	loop_timer_init(&a->kick, lmtp_begin, a);
	a->d = d;
	a->open = d->count;
	a->address = calloc(d->count, sizeof *a->address);
	a->configured = strdup(conf->lmtp_address);
	a->hostname = strdup(conf->hostname);
	if (!a->address || !a->configured || !a->hostname) {
		lmtp_free(a);
		goto fail;
	}
	confvalue_parse_lmtp(a->configured, &a->server); /* it is good, says conf */
	loop_timer_set(&a->kick, 0);
	d->state = a;
	return 0;
fail:
	status_set(st, 451, "4.3.0", "out of memory");
	return -1;
}

static void lmtp_stop(void *self, struct delivery *d)
{
	(void)self;
	if (d->state)
		lmtp_free(d->state);
}

/* Is it sure that what is sent there stays on this machine? */
static bool lmtp_is_here(const struct conf *conf)
{
	struct confvalue_lmtp server;
	struct dns_addr a;
	if (confvalue_parse_lmtp(conf->lmtp_address, &server) || server.path)
		return true;
	if (dns_addr_parse(&a, slice_of(server.host)))
		return strcmp(server.host, "localhost") == 0;
	if (a.family == AF_INET)
		return ntohl(a.ip.v4.s_addr) >> 24 == IN_LOOPBACKNET;
	return IN6_IS_ADDR_LOOPBACK(&a.ip.v6);
}

struct courier courier_lmtp(const struct conf *conf)
{
	if (!lmtp_is_here(conf))
		log_info("-", "local mail leaves this machine without protection",
		         LOG_S("lmtp_address", conf->lmtp_address));
	return (struct courier){.name = "lmtp",
	                        .start = lmtp_start,
	                        .stop = lmtp_stop,
	                        .self = (void *)conf,
	                        .parallel = LMTP_PARALLEL,
	                        .batch = true};
}
