/*
 * cli_check_ports: do our listeners answer, as whom, and with which TLS; do smarthosts; and is
 * there a way out by port 25?
 *
 * Each is asked as a client would ask it, as far as EHLO under TLS; nobody logs in.
 */
#include "cli_check_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli_probe.h"
#include "confvalue.h"
#include "loop.h"
#include "remote_tls.h"

/* ---- our listeners ---- */

struct door {
	const char *key;
	const char *name; /* for people */
	uint16_t port;    /* the usual one */
	bool logins;
	bool tls; /* from the first byte */
};

static const struct door doors[] = {
    {"smtp_address", "mail from other servers", 25, false, false},
    {"submission_address", "mail programs", 587, true, false},
    {"submission_over_tls_address", "mail programs, with TLS at once", 465, true, true},
};

static void probe(struct check *c, const struct dns_addr *a, uint16_t port, enum smtpc_tls tls,
                  const char *name, bool proxied, struct cli_probe *out)
{
	struct cli_probe_ask ask = {.addr = *a,
	                            .port = port,
	                            .tls = tls,
	                            .roots = c->roots,
	                            .name = name,
	                            .ehlo = c->conf->hostname,
	                            .proxied = proxied,
	                            .end = c->end};
	cli_probe(&ask, out);
}

/* Where a listener can be reached from here. 0, or -1: at no address that is known. */
static int reach(const struct door *door, const char *address, struct dns_addr *a, uint16_t *port)
{
	static const struct {
		const char *name;
		uint16_t port;
	} names[] = {{"smtp", 25}, {"submission", 587}, {"submissions", 465}};
	char host[ADDR_DOMAIN_MAX + 1] = "", text[CONFVALUE_PORT] = "";
	static const struct dns_addr any4 = {.family = AF_INET}, any6 = {.family = AF_INET6};
	*port = door->port;
	if (strcmp(address, "systemd") != 0) {
		if (confvalue_split_address(address, host, text))
			return -1;
		*port = (uint16_t)strtoul(text, NULL, 10);
		for (size_t i = 0; i < sizeof names / sizeof *names; i++)
			if (strcmp(text, names[i].name) == 0)
				*port = names[i].port;
	}
	if (!*host || strcasecmp(host, "localhost") == 0)
		snprintf(host, sizeof host, "127.0.0.1");
	if (dns_addr_parse(a, slice_of(host)))
		return -1;
	if (dns_addr_equal(a, &any4))
		return dns_addr_parse(a, slice_of("127.0.0.1"));
	return dns_addr_equal(a, &any6) ? dns_addr_parse(a, slice_of("::1")) : 0;
}

static void say_silent(struct check *c, const struct door *door, const char *where,
                       const struct cli_probe *p, bool systemd)
{
	if (systemd && p->failed == PROBE_CONNECT)
		check_say(
		    c, door->logins ? CHECK_NOTE : CHECK_WARNING,
		    "nobody answers at %s, so no %s: %s is \"systemd\", the default; set it to "
		    "\":%u\", or enable chasq.socket, if you want that",
		    where, door->logins ? "mail programs can log in there" : "mail comes in",
		    door->key, (unsigned)door->port);
	else if (p->failed == PROBE_CONNECT && !c->running)
		check_say(c, CHECK_NOTE, "%s: nobody answers, as chasq is not running", where);
	else if (p->failed == PROBE_CONNECT)
		check_say(
		    c, CHECK_ERROR,
		    "%s (%s): nobody answers, though %s says so (%s): reload or restart chasq, "
		    "and see its log",
		    where, door->name, door->key, p->why);
	else if (p->code == 421)
		check_say(c, CHECK_WARNING, "%s is too busy to talk now: %s", where, p->why);
	else
		check_say(c, CHECK_ERROR, "%s (%s) does not work: %s", where, door->name, p->why);
}

/* Tells what the certificate is worth that clients get to see. */
static void say_verified(struct check *c, const char *where, const struct cli_probe *p)
{
	if (p->peer.chain_good && p->peer.name_good)
		check_say(c, CHECK_OK, "%s: the certificate shown there is trusted, and for %s",
		          where, c->conf->hostname);
	else
		check_say(c, CHECK_WARNING,
		          "%s: %s. Other servers send their mail all the same; mail programs will "
		          "complain",
		          where, *p->peer.why ? p->peer.why : "the certificate is not verified");
}

/* Asks one listener. *judged: its certificate, which all show, was told of. */
static void look_at_listener(struct check *c, const struct door *door, const char *address,
                             bool *judged)
{
	struct dns_addr a;
	struct cli_probe p;
	char where[INET6_ADDRSTRLEN + 32], ip[INET6_ADDRSTRLEN];
	uint16_t port;
	if (reach(door, address, &a, &port)) {
		check_say(c, CHECK_NOTE, "%s: %s cannot be tried from here", door->key, address);
		return;
	}
	snprintf(where, sizeof where, "%s port %u", dns_addr_text(&a, ip), (unsigned)port);
	/* Who connects to an address of this machine comes from there. */
	if (c->conf->haproxy_incoming && !conf_is_proxy(c->conf, &a)) {
		check_say(c, CHECK_NOTE,
		          "%s (%s) was not tried: haproxy_incoming is set, and this machine is not "
		          "in haproxy_trusted",
		          where, door->name);
		return;
	}
	probe(c, &a, port, door->tls ? SMTPC_TLS_IMPLICIT : SMTPC_TLS_STARTTLS, c->conf->hostname,
	      c->conf->haproxy_incoming, &p);
	if (p.failed != PROBE_OVER) {
		say_silent(c, door, where, &p, strcmp(address, "systemd") == 0);
		return;
	}
	if (strcasecmp(p.greeting, c->conf->hostname) != 0)
		check_say(
		    c, CHECK_ERROR,
		    "%s (%s): another server answers there, which calls itself %s: stop it, or "
		    "set hostname; see which one it is with: ss -ltnp 'sport = %u'",
		    where, door->name, p.greeting, (unsigned)port);
	else if (!p.secured && door->logins)
		check_say(c, CHECK_ERROR,
		          "%s (%s) does not offer TLS, so nobody can log in: see Certificates",
		          where, door->name);
	else if (!p.secured)
		check_say(c, WITH_TLS ? CHECK_WARNING : CHECK_OK,
		          "%s (%s) answers as %s, without TLS", where, door->name, p.greeting);
	else
		check_say(c, CHECK_OK, "%s (%s) answers as %s, with TLS", where, door->name,
		          p.greeting);
	if (p.secured && !*judged && strcasecmp(p.greeting, c->conf->hostname) == 0) {
		say_verified(c, where, &p);
		*judged = true;
	}
}

void check_ports(struct check *c)
{
	const struct text_strings *const lists[] = {&c->conf->smtp_address,
	                                            &c->conf->submission_address,
	                                            &c->conf->submission_over_tls_address};
	bool judged = false;
	check_group("Ports");
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		for (size_t k = 0; k < lists[i]->count && !check_is_late(c); k++)
			look_at_listener(c, &doors[i], lists[i]->item[k], &judged);
	if (lists[0]->count + lists[1]->count + lists[2]->count == 0)
		check_say(c, CHECK_NOTE,
		          "no port is open: mail comes from this machine only (sendmail)");
	if (check_is_late(c))
		check_say(c, CHECK_WARNING, "the rest is not looked at: it all took too long");
}

/* ---- smarthosts ---- */

struct judge {
	const struct conf_smarthost *host;
	enum remote_level level;
	bool content;
	char why[256];
};

static void on_secured(void *arg, const struct tls *t)
{
	struct judge *j = arg;
	struct remote_policy policy = remote_policy_smarthost(j->host);
	const char *why;
	j->content = remote_policy_judge(&policy, t, &j->level, &why) == 0;
	snprintf(j->why, sizeof j->why, "%s", why);
}

/* What is wrong with a smarthost that was reached, or good. */
static void say_smarthost(struct check *c, const char *where, const struct judge *j,
                          const struct cli_probe *p)
{
	const struct conf_smarthost *s = j->host;
	if (p->secured && !j->content)
		check_say(
		    c, CHECK_ERROR,
		    "%s: %s, so no mail is sent there: see chasq dialog %s:%u, and if that is "
		    "the right server, set fingerprint in smarthost",
		    where, *j->why ? j->why : "the certificate is not good", s->host,
		    (unsigned)s->port);
	else if (p->failed != PROBE_OVER)
		check_say(c, CHECK_ERROR, "%s does not work: %s", where, p->why);
	else if (!p->secured && s->tls != CONF_TLS_NONE)
		check_say(c, CHECK_ERROR,
		          "%s does not offer TLS, so no mail is sent there: is the port right? 465 "
		          "wants tls: IMPLICIT",
		          where);
	else if (s->user && !(p->caps.ext & SMTP_EXT_AUTH))
		check_say(c, CHECK_ERROR,
		          "%s does not offer to log in: port 587 or 465 is for that at most "
		          "providers",
		          where);
	else
		check_say(c, CHECK_OK, "%s answers%s%s%s", where, p->secured ? ", with " : "",
		          p->secured ? remote_level_name(j->level) : " without TLS",
		          s->user ? "; offers to log in (the password was not tried)" : "");
}

static void look_at_smarthost(struct check *c, const struct conf_smarthost *s)
{
	struct dns_query q = {0};
	struct judge j = {.host = s};
	struct remote_policy policy = remote_policy_smarthost(s);
	struct cli_probe p = {.failed = PROBE_CONNECT};
	char where[ADDR_DOMAIN_MAX + 48];
	snprintf(where, sizeof where, "smarthost %s port %u", s->host, (unsigned)s->port);
	if (!s->has_addr && cli_probe_addresses(&q, s->host, c->end) != DNS_OK) {
		check_say(c, CHECK_ERROR, "%s: %s: is the name right, and this machine online?",
		          where, dns_result_text(q.result));
		dns_cancel(&q);
		return;
	}
	size_t count = s->has_addr ? 1 : q.count;
	for (size_t i = 0; i < count && p.failed == PROBE_CONNECT && !check_is_late(c); i++) {
		struct cli_probe_ask ask = {.addr = s->has_addr ? s->addr : q.addrs[i],
		                            .port = s->port,
		                            .tls = policy.tls,
		                            .roots = c->roots,
		                            .name = s->host,
		                            .ehlo = c->conf->hostname,
		                            .end = c->end,
		                            .secured = on_secured,
		                            .arg = &j};
		cli_probe(&ask, &p);
	}
	dns_cancel(&q);
	if (p.failed == PROBE_CONNECT)
		check_say(c, CHECK_ERROR,
		          "%s cannot be reached (%s): is the port right, and not blocked by a "
		          "firewall?",
		          where, *p.why ? p.why : "no time was left");
	else
		say_smarthost(c, where, &j, &p);
}

/* ---- the way out ---- */

static void look_at_target(struct check *c, const char *host, uint16_t port)
{
	struct dns_query q = {0};
	struct cli_probe p = {.failed = PROBE_CONNECT};
	if (cli_probe_addresses(&q, host, c->end) != DNS_OK) {
		check_say(c, CHECK_WARNING, "%s: %s", host, dns_result_text(q.result));
		dns_cancel(&q);
		return;
	}
	for (size_t i = 0; i < q.count && p.failed == PROBE_CONNECT && !check_is_late(c); i++)
		probe(c, &q.addrs[i], port, SMTPC_TLS_STARTTLS, host, false, &p);
	dns_cancel(&q);
	if (p.failed == PROBE_CONNECT)
		check_say(
		    c, CHECK_ERROR,
		    "%s cannot be reached by port %u (%s): many providers block port 25 to the "
		    "outside; ask yours to open it, or send through a smarthost",
		    host, (unsigned)port, *p.why ? p.why : "no time was left");
	else if (p.code > 0)
		check_say(c, CHECK_WARNING, "%s is reached, but does not want to talk to us: %s",
		          host, p.why);
	else if (p.failed != PROBE_OVER)
		check_say(c, CHECK_WARNING, "%s is reached, but: %s", host, p.why);
	else
		check_say(c, CHECK_OK, "%s is reached by port %u%s", host, (unsigned)port,
		          p.secured ? ", with TLS" : ", without TLS");
}

void check_way_out(struct check *c)
{
	const struct conf_smarthosts *list = &c->conf->smarthosts;
	check_group("Sending");
	for (size_t i = 0; i < list->count && !check_is_late(c); i++)
		look_at_smarthost(c, &list->item[i]);
	if (c->target)
		look_at_target(c, c->target, c->target_port);
	else if (*c->other_mx && list->count == 0)
		look_at_target(c, c->other_mx, (uint16_t)c->conf->remote_smtp_port);
	else if (list->count == 0)
		check_say(
		    c, CHECK_NOTE,
		    "whether mail gets out was not tried, for want of a server to try: name one "
		    "that you write to, as in: chasq check -t mx.example.org");
}
