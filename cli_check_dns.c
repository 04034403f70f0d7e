/*
 * cli_check_dns: what the rest of the world finds in DNS about this server and its domains.
 *
 * A server whose name has no public address serves a local network; then most of this does not
 * matter, and is told as a note and not as an error. So is what belongs to sending directly, when a
 * smarthost sends for us.
 */
#include "cli_check_int.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "addr.h"
#include "cli_probe.h"
#include "https.h"
#include "loop.h"
#include "spf.h"
#include "status.h"
#include "sts.h"

/* ---- addresses ---- */

/* Both families, from DNS only: the hosts file knows us by other addresses than the world. */
static enum dns_result look_up(struct check *c, const char *name, struct check_addrs *out)
{
	static const sa_family_t families[] = {AF_INET, AF_INET6};
	enum dns_result result[2];
	out->count = 0;
	for (int i = 0; i < 2; i++) {
		struct dns_query q = {0};
		result[i] = cli_probe_family(&q, name, families[i], c->end);
		for (size_t k = 0; k < q.count; k++)
			check_addrs_add(out, &q.addrs[k]);
		dns_cancel(&q);
	}
	if (out->count > 0)
		return DNS_OK;
	return result[0] == DNS_NO_NAME || result[0] == DNS_NO_DATA ? result[1] : result[0];
}

static bool is_definite(enum dns_result r)
{
	return r == DNS_OK || r == DNS_NO_NAME || r == DNS_NO_DATA || r == DNS_BAD_NAME;
}

/* Does this address belong to us: to an interface, or to our name? */
static bool is_ours(const struct check *c, const struct dns_addr *a)
{
	return check_addrs_have(&c->own, a) || check_addrs_have(&c->host, a);
}

/* The addresses by which the world sees us. */
static void public_addresses(const struct check *c, struct check_addrs *out)
{
	out->count = 0;
	for (size_t i = 0; i < c->host.count; i++)
		if (check_addr_is_public(&c->host.addr[i]))
			check_addrs_add(out, &c->host.addr[i]);
	for (size_t i = 0; i < c->source.count; i++)
		if (check_addr_is_public(&c->source.addr[i]))
			check_addrs_add(out, &c->source.addr[i]);
}

/* ---- this server ---- */

static void say_host_addresses(struct check *c)
{
	char ip[INET6_ADDRSTRLEN];
	size_t open = 0;
	for (size_t i = 0; i < c->host.count; i++) {
		const struct dns_addr *a = &c->host.addr[i];
		const char *text = dns_addr_text(a, ip);
		bool here = check_addrs_have(&c->own, a);
		if (!check_addr_is_public(a)) {
			check_say(c, CHECK_NOTE,
			          "%s has the address %s, which only the local network can reach",
			          c->conf->hostname, text);
			continue;
		}
		open++;
		check_say(c, here ? CHECK_OK : CHECK_NOTE, "%s has the address %s%s",
		          c->conf->hostname, text,
		          here ? ""
		               : ", which is none of this machine: right when a router passes "
		                 "port 25 on to it, else correct the record");
	}
	c->lan = open == 0;
}

static void look_at_hostname(struct check *c)
{
	const char *name = c->conf->hostname;
	enum dns_result r = look_up(c, name, &c->host);
	if (!is_definite(r)) {
		c->no_dns = true;
		check_say(
		    c, CHECK_WARNING,
		    "the name servers do not answer (%s): mail for other domains has to wait; "
		    "is this machine online? See %s",
		    dns_result_text(r),
		    c->conf->dns_servers ? "dns_servers in chasq.conf" : DNS_RESOLV_CONF);
		return;
	}
	if (r == DNS_OK) {
		say_host_addresses(c);
		return;
	}
	c->lan = true;
	check_say(
	    c, CHECK_NOTE,
	    "%s is not known in public DNS: right for a server of a local network; to get mail "
	    "from the Internet, set hostname to a name with an A or AAAA record that leads here",
	    name);
}

/* Does one of the names lead back to the address? */
static bool leads_back(struct check *c, const struct dns_query *q, const struct dns_addr *a)
{
	struct check_addrs found;
	for (size_t i = 0; i < q->count && i < 4; i++)
		if (look_up(c, q->names[i], &found) == DNS_OK && check_addrs_have(&found, a))
			return true;
	return false;
}

static void look_at_reverse(struct check *c, const struct dns_addr *a)
{
	char ip[INET6_ADDRSTRLEN];
	struct dns_query q = {0};
	enum check_level bad = c->conf->smarthosts.count > 0 ? CHECK_NOTE : CHECK_WARNING;
	enum dns_result r = cli_probe_ptr(&q, a, c->end);
	dns_addr_text(a, ip);
	if (r == DNS_NO_NAME || r == DNS_NO_DATA)
		check_say(
		    c, bad,
		    "%s has no name in DNS (no PTR record): many servers refuse mail from such "
		    "addresses; ask your provider to set it to %s",
		    ip, c->conf->hostname);
	else if (r != DNS_OK)
		check_say(c, CHECK_NOTE, "the name of %s cannot be looked up: %s", ip,
		          dns_result_text(r));
	else if (!leads_back(c, &q, a))
		check_say(
		    c, bad,
		    "%s is called %s in DNS, but that name does not lead back to it: many "
		    "servers refuse mail from such addresses; ask your provider to set the PTR "
		    "record to %s",
		    ip, q.names[0], c->conf->hostname);
	else
		check_say(c, CHECK_OK, "%s is called %s, and that leads back to it", ip,
		          q.names[0]);
	dns_cancel(&q);
}

/* ---- MX ---- */

/* Is this mail server us? By name, or by an address. */
static bool mx_is_us(struct check *c, const char *host)
{
	struct check_addrs found;
	if (strcasecmp(host, c->conf->hostname) == 0)
		return true;
	if (look_up(c, host, &found) != DNS_OK)
		return false;
	for (size_t i = 0; i < found.count; i++)
		if (is_ours(c, &found.addr[i]))
			return true;
	return false;
}

static void say_no_mx(struct check *c, const char *name, enum dns_result r)
{
	enum check_level level = c->lan ? CHECK_NOTE : CHECK_WARNING;
	struct check_addrs found;
	if (r == DNS_NO_NAME)
		check_say(c, level, "%s is not in public DNS: %s", name,
		          c->lan ? "right for a domain of a local network"
		                 : "nobody outside can write to it");
	else if (look_up(c, name, &found) == DNS_OK && mx_is_us(c, name))
		check_say(c, CHECK_OK,
		          "%s has no MX record, but its own address is ours, and will do", name);
	else
		check_say(
		    c, level,
		    "%s has no MX record, so mail for it does not come here: add one: %s. MX 10 "
		    "%s.",
		    name, name, c->conf->hostname);
}

static void look_at_mx(struct check *c, const char *name)
{
	struct dns_query q = {0};
	enum dns_result r = cli_probe_mx(&q, name, c->end);
	const char *first = NULL, *other = NULL;
	for (size_t i = 0; i < q.count && i < CLI_PROBE_HOSTS_MAX; i++) {
		bool us = mx_is_us(c, q.mx[i].host);
		if (us && !first)
			first = q.mx[i].host;
		else if (!us && !other)
			other = q.mx[i].host;
	}
	if (r == DNS_NO_NAME || r == DNS_NO_DATA)
		say_no_mx(c, name, r);
	else if (r != DNS_OK)
		check_say(c, CHECK_WARNING, "%s: its MX cannot be looked up: %s", name,
		          dns_result_text(r));
	else if (dns_is_null_mx(&q))
		check_say(c, CHECK_WARNING,
		          "%s says in DNS that it takes no mail (MX 0 .): replace that record",
		          name);
	else if (first)
		check_say(c, CHECK_OK, "mail for %s comes to %s, which is this server", name,
		          first);
	else
		check_say(
		    c, c->lan ? CHECK_NOTE : CHECK_WARNING,
		    "mail for %s goes to %s, which is not this server: right when that one passes "
		    "it on; else set its MX to %s",
		    name, other ? other : "nobody", c->conf->hostname);
	if (other && !*c->other_mx)
		snprintf(c->other_mx, sizeof c->other_mx, "%s", other);
	dns_cancel(&q);
}

/* ---- SPF, DMARC, MTA-STS ---- */

/* Finds the record that begins with `start`. Returns what DNS said; *found. */
static enum dns_result find_txt(struct check *c, const char *name, const char *start, bool *found)
{
	struct dns_query q = {0};
	enum dns_result r = cli_probe_txt(&q, name, c->end);
	size_t n = strlen(start);
	*found = false;
	for (size_t i = 0; i < q.count; i++)
		if (q.txt[i].n >= n && strncasecmp(q.txt[i].p, start, n) == 0)
			*found = true;
	dns_cancel(&q);
	return r;
}

struct spf_wait {
	struct spf_answer answer;
	bool done;
};

static void on_spf(void *arg, const struct spf_answer *answer)
{
	struct spf_wait *w = arg;
	w->answer = *answer;
	w->done = true;
}

static void say_spf(struct check *c, const char *name, const char *ip, const struct spf_answer *a)
{
	const char *result = spf_result_name(a->result);
	if (a->result == SPF_PASS)
		check_say(c, CHECK_OK, "the SPF record of %s lets us send from %s", name, ip);
	else if (a->result == SPF_PERMERROR)
		check_say(c, CHECK_ERROR, "the SPF record of %s is broken: %s: correct it", name,
		          a->problem);
	else if (a->result == SPF_TEMPERROR)
		check_say(c, CHECK_NOTE, "the SPF record of %s cannot be looked up: %s", name,
		          a->problem);
	else
		check_say(
		    c, a->result == SPF_FAIL ? CHECK_ERROR : CHECK_WARNING,
		    "by the SPF record of %s, mail from %s is not ours (%s): add ip%d:%s or mx "
		    "to it, before \"all\"",
		    name, ip, result, strchr(ip, ':') ? 6 : 4, ip);
}

/* Would mail from our addresses pass? */
static void try_spf(struct check *c, const char *name)
{
	struct check_addrs list;
	char sender[ADDR_DOMAIN_MAX + 16], ip[INET6_ADDRSTRLEN];
	snprintf(sender, sizeof sender, "postmaster@%s", name);
	public_addresses(c, &list);
	for (size_t i = 0; i < list.count && !check_is_late(c); i++) {
		struct spf_wait wait = {.done = false};
		struct spf_question question = {.ip = list.addr[i],
		                                .helo = c->conf->hostname,
		                                .sender = sender,
		                                .receiver = c->conf->hostname,
		                                .now = (int64_t)time(NULL)};
		struct spf_check *s = spf_start(&question, on_spf, &wait);
		if (s && cli_probe_wait(&wait.done, c->end))
			say_spf(c, name, dns_addr_text(&list.addr[i], ip), &wait.answer);
		else if (s)
			spf_cancel(s);
	}
}

static void look_at_spf(struct check *c, const char *name)
{
	bool found;
	enum dns_result r = find_txt(c, name, "v=spf1", &found);
	bool relayed = c->conf->smarthosts.count > 0;
	if (!is_definite(r))
		check_say(c, CHECK_NOTE, "the SPF record of %s cannot be looked up: %s", name,
		          dns_result_text(r));
	else if (!found)
		check_say(
		    c, c->lan ? CHECK_NOTE : CHECK_WARNING,
		    "%s has no SPF record: large providers distrust mail from it; add: %s. TXT "
		    "\"v=spf1 %s -all\"",
		    name, name, relayed ? "include:(what your smarthost says)" : "mx");
	else if (relayed)
		check_say(c, CHECK_NOTE,
		          "%s has an SPF record; it must name your smarthost, for that one sends",
		          name);
	else
		try_spf(c, name);
}

static void look_at_dmarc(struct check *c, const char *name)
{
	char record[ADDR_DOMAIN_MAX + 16];
	bool found;
	snprintf(record, sizeof record, "_dmarc.%s", name);
	if (is_definite(find_txt(c, record, "v=DMARC1", &found)))
		check_say(c, CHECK_NOTE,
		          found ? "%s has a DMARC record"
		                : "%s has no DMARC record, which is no fault",
		          name);
}

struct fetch {
	struct check *check;
	const char *name;
	bool done;
};

static void on_policy(void *arg, const struct status *st, struct slice content)
{
	struct fetch *f = arg;
	struct check *c = f->check;
	static struct sts_policy policy;
	struct status why = *st;
	f->done = true;
	if (status_class(st) != STATUS_DONE || sts_policy_parse(content, &policy, &why)) {
		check_say(
		    c, CHECK_WARNING,
		    "%s has an MTA-STS record, but its policy is no good, and nobody heeds it: %s",
		    f->name, why.text);
		return;
	}
	if (sts_policy_lists(&policy, c->conf->hostname) || policy.mode == STS_NONE)
		check_say(c, CHECK_OK, "the MTA-STS policy of %s (%s) names this server", f->name,
		          sts_mode_name(policy.mode));
	else
		check_say(
		    c, policy.mode == STS_ENFORCE ? CHECK_ERROR : CHECK_WARNING,
		    "the MTA-STS policy of %s (%s) does not name %s: servers that heed it do not "
		    "send mail here: add \"mx: %s\" to it",
		    f->name, sts_mode_name(policy.mode), c->conf->hostname, c->conf->hostname);
	sts_policy_clear(&policy);
}

static void look_at_sts(struct check *c, const char *name)
{
	char record[ADDR_DOMAIN_MAX + 16], host[ADDR_DOMAIN_MAX + 16];
	struct fetch f = {.check = c, .name = name};
	bool found;
	snprintf(record, sizeof record, "_mta-sts.%s", name);
	snprintf(host, sizeof host, "mta-sts.%s", name);
	find_txt(c, record, "v=STSv1", &found);
	if (!found)
		return;
	struct https_request request = {.host = host,
	                                .path = "/.well-known/mta-sts.txt",
	                                .type = "text/plain",
	                                .max = STS_POLICY_MAX,
	                                .limit_ms = CLI_PROBE_MS};
	struct https *h = https_get(&request, c->roots, on_policy, &f);
	if (h && !cli_probe_wait(&f.done, c->end + CLI_PROBE_MS))
		https_cancel(h);
}

/* ---- the whole ---- */

static void look_at_domain(struct check *c, const char *domain)
{
	char name[ADDR_DOMAIN_MAX + 1];
	if (addr_domain_to_ascii(domain, name, sizeof name) || strcmp(name, "localhost") == 0 ||
	    addr_is_literal(domain))
		return;
	look_at_mx(c, name);
	if (c->lan && !c->domain)
		return; /* what is public of a domain matters to servers that are */
	if (WITH_SPF)
		look_at_spf(c, name);
	look_at_dmarc(c, name);
	if (WITH_TLS && WITH_STS)
		look_at_sts(c, name);
}

void check_dns(struct check *c)
{
	struct check_addrs list;
	check_group("DNS");
	look_at_hostname(c);
	if (c->no_dns)
		return;
	public_addresses(c, &list);
	for (size_t i = 0; i < list.count && !c->lan && !check_is_late(c); i++)
		look_at_reverse(c, &list.addr[i]);
	if (c->domain)
		look_at_domain(c, c->domain);
	for (size_t i = 0; i < c->conf->domain_count && !c->domain; i++) {
		if (check_is_late(c)) {
			check_say(
			    c, CHECK_WARNING,
			    "the rest is not looked at: it all took too long. Name one domain: "
			    "chasq check %s",
			    c->conf->domain[i].name);
			return;
		}
		look_at_domain(c, c->conf->domain[i].name);
	}
	if (c->lan && !c->domain && c->conf->domain_count > 0)
		check_say(
		    c, CHECK_NOTE,
		    "SPF, DMARC and MTA-STS of the domains are not looked at: this server has no "
		    "public address. \"chasq check DOMAIN\" does");
}
