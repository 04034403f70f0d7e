/*
 * cli_dialog: a conversation with a mail server, shown as it goes, and what its TLS is worth.
 *
 * No message is sent. The name servers, root certificates and our own name are those of chasq.conf
 * when it can be read, for the answer to be the one a delivery gets; else the system's. All that
 * comes from the server is made harmless before it is shown.
 */
#include "cli_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "addr.h"
#include "cli_probe.h"
#include "conf.h"
#include "confvalue.h"
#include "dane.h"
#include "log.h"
#include "loop.h"
#include "remote_tls.h"
#include "status.h"
#include "tls_report.h"

static const char usage[] =
    "usage: chasq dialog [options] HOST[:PORT]\n"
    "Talks to a mail server without sending a message, shows the dialogue, and tells\n"
    "what its TLS and its certificate are worth.\n"
    "  -t none|starttls|tls  how TLS begins: not at all; when the server offers it\n"
    "                        (the default); or at once, as on port 465\n"
    "  -4, -6                only by IPv4, only by IPv6\n"
    "  -s NAME               the name asked for, and expected in the certificate\n"
    "                        (else HOST)\n"
    "  --mx                  HOST is a domain: tries its mail servers in order\n"
    "  --rcpt ADDRESS        asks whether the server takes mail for ADDRESS\n"
    "  -C DIR                configuration directory\n";

struct dialog {
	char host[ADDR_DOMAIN_MAX + 1]; /* ASCII, or an address as text */
	const char *name;               /* -s */
	uint16_t port;
	sa_family_t family; /* AF_UNSPEC: both */
	enum smtpc_tls tls;
	bool mx;
	char rcpt[ADDR_TEXT_MAX];
	const char *dir;
	struct conf *conf; /* NULL: none can be read */
	struct tls_roots *roots;
	char ehlo[ADDR_DOMAIN_MAX + 1];
	/* of the host that is talked to */
	const char *expect;
	struct tls_report_chain chain;
	struct dane_records dane;
	bool dane_asked;
	bool dane_good;
	const char *dane_why;
};

/* ---- what is shown ---- */

static void show_line(void *arg, char direction, const char *text)
{
	(void)arg;
	printf("  %c %s\n", direction, text);
	fflush(stdout);
}

static void show(const char *label, const char *text)
{
	char clean[600];
	status_clean(slice_of(text), clean, sizeof clean);
	printf("  %-12s %s\n", label, clean);
}

static void show_dates(const struct tls_report *r)
{
	char from[16] = "", to[16] = "", text[96], left[48];
	struct tm tm;
	int64_t now = (int64_t)time(NULL);
	time_t t = (time_t)r->begins;
	if (gmtime_r(&t, &tm))
		strftime(from, sizeof from, "%Y-%m-%d", &tm);
	t = (time_t)r->ends;
	if (gmtime_r(&t, &tm))
		strftime(to, sizeof to, "%Y-%m-%d", &tm);
	if (now < r->begins)
		snprintf(left, sizeof left, "NOT VALID YET");
	else if (now > r->ends)
		snprintf(left, sizeof left, "EXPIRED %lld days ago",
		         (long long)((now - r->ends) / 86400));
	else
		snprintf(left, sizeof left, "%lld days left", (long long)((r->ends - now) / 86400));
	snprintf(text, sizeof text, "%s to %s, %s", from, to, left);
	show("valid", text);
}

static void show_chain(const struct tls_report_chain *c)
{
	for (size_t i = 0; i < c->count; i++) {
		const struct tls_report *r = &c->cert[i];
		printf("\nCertificate %zu of %zu%s\n", i + 1, c->count,
		       i == 0 ? ", the server's own" : "");
		show("for", r->subject);
		if (*r->names)
			show("names", r->names);
		show("issued by", r->own_issuer ? "itself" : r->issuer);
		show_dates(r);
		show("key", r->key);
		if (i == 0)
			show("fingerprint", r->sha256);
	}
	if (c->count > 1 && !c->in_order)
		puts("  The certificates are not in order: each should be issued by the next one.");
}

static void show_level(enum remote_level level)
{
	static const char *const texts[] = {
	    [REMOTE_PLAIN] = "mail would go out unencrypted, readable on its way",
	    [REMOTE_TLS_INSECURE] = "encrypted, but nobody vouches for whose server this is",
	    [REMOTE_TLS_SECURE] = "encrypted, and this is the right server",
	};
	printf("  %-12s %s: %s\n", "level", remote_level_name(level), texts[level]);
}

static void show_dane(const struct dialog *d)
{
	if (!d->dane_asked || d->dane.state == DANE_NONE)
		return;
	if (d->dane.state == DANE_FAILED)
		show("DANE", "the records cannot be looked up: mail would wait");
	else if (d->dane.state == DANE_UNUSABLE)
		show("DANE", "there are records, but none that can be used");
	else if (d->dane_good)
		show("DANE", "the certificate is the one that DNS promises");
	else
		show("DANE", d->dane_why);
}

/* What the connection is worth to a delivery that nobody demands anything of. */
static enum remote_level level_of(const struct dialog *d, const struct cli_probe *p)
{
	if (!p->secured)
		return REMOTE_PLAIN;
	if (d->dane_asked && d->dane.state == DANE_USABLE)
		return d->dane_good ? REMOTE_TLS_SECURE : REMOTE_TLS_INSECURE;
	return p->peer.chain_good && p->peer.name_good ? REMOTE_TLS_SECURE : REMOTE_TLS_INSECURE;
}

static void show_report(const struct dialog *d, const struct cli_probe *p)
{
	char text[STATUS_TEXT_MAX + 32];
	/* A server that has not answered EHLO has said nothing of TLS yet. */
	bool too_early = !p->secured && p->failed <= PROBE_EHLO;
	if (p->secured)
		show_chain(&d->chain);
	puts("\nTLS report");
	if (p->secured) {
		snprintf(text, sizeof text, "%s, %s", p->peer.version, p->peer.cipher);
		show("protocol", text);
		if (p->peer.chain_good && p->peer.name_good)
			snprintf(text, sizeof text, "yes: by an authority we trust, for %s",
			         d->expect);
		else
			snprintf(text, sizeof text, "no: %s",
			         *p->peer.why ? p->peer.why : "there is no certificate");
		show("verified", text);
		if (p->peer.not_yet)
			show("", "Is the clock of this machine right?");
		show_dane(d);
	} else if (!too_early && d->tls == SMTPC_TLS_STARTTLS && !p->offers_tls) {
		show("protocol", "none: the server does not offer STARTTLS");
	} else if (too_early || (d->tls != SMTPC_TLS_NONE && p->failed != PROBE_OVER)) {
		show("protocol", "none: it did not come to that");
	} else {
		show("protocol", "none: TLS was not begun");
	}
	if (p->failed != PROBE_HANDSHAKE && !too_early)
		show_level(level_of(d, p));
}

/* ---- one host ---- */

static void on_secured(void *arg, const struct tls *t)
{
	struct dialog *d = arg;
	const char *names[] = {d->expect, d->host};
	const struct tls_peer *peer = tls_peer(t);
	char text[128];
	snprintf(text, sizeof text, "TLS begins: %s, %s", peer->version, peer->cipher);
	show_line(NULL, '*', text);
	tls_report_peer(t, d->expect, &d->chain);
	if (d->dane_asked && d->dane.state == DANE_USABLE)
		d->dane_good = dane_match(&d->dane, t, names, d->mx ? 2 : 1, &d->dane_why);
}

/* The exit code for a conversation. */
static int code_of(const struct cli_probe *p)
{
	if (p->failed == PROBE_OVER)
		return EX_OK;
	if (p->code == 0)
		return p->failed == PROBE_CONNECT ? EX_UNAVAILABLE : EX_PROTOCOL;
	if (p->code < 500)
		return EX_TEMPFAIL;
	return p->failed == PROBE_RCPT ? EX_NOUSER : EX_UNAVAILABLE;
}

static void ask_dane(struct dialog *d, const char *host)
{
	struct dns_query q = {0};
	d->dane_asked = d->conf && d->conf->dnssec_resolver;
	dane_clear(&d->dane);
	if (!d->dane_asked)
		return;
	cli_probe_tlsa(&q, host, d->port, loop_now() + CLI_PROBE_MS);
	dane_take(&d->dane, &q);
	dns_cancel(&q);
}

/* Talks to one address. Returns the exit code; *connected tells whether anybody answered. */
static int talk(struct dialog *d, const char *host, const struct dns_addr *a, bool *connected)
{
	char ip[INET6_ADDRSTRLEN];
	struct cli_probe p;
	struct cli_probe_ask ask = {.addr = *a,
	                            .port = d->port,
	                            .tls = d->tls,
	                            .roots = d->roots,
	                            .name = d->expect,
	                            .ehlo = d->ehlo,
	                            .rcpt = *d->rcpt ? d->rcpt : NULL,
	                            .line = show_line,
	                            .secured = on_secured,
	                            .arg = d};
	printf("%s [%s]:%u\n", host, dns_addr_text(a, ip), (unsigned)d->port);
	fflush(stdout);
	loop_refresh();
	ask.end = loop_now() + CLI_CHECK_MS;
	d->chain.count = 0;
	cli_probe(&ask, &p);
	*connected = p.failed != PROBE_CONNECT;
	if (p.failed != PROBE_OVER)
		printf("  * %s\n", p.why);
	if (*connected)
		show_report(d, &p);
	else
		puts("");
	return code_of(&p);
}

static int dns_code(enum dns_result r)
{
	bool permanent = r == DNS_NO_NAME || r == DNS_NO_DATA || r == DNS_BAD_NAME;
	return permanent ? EX_NOHOST : EX_TEMPFAIL;
}

/* Tries the addresses of a host until one of them answers. */
static int talk_host(struct dialog *d, const char *host, bool *connected)
{
	struct dns_query q = {0};
	size_t tried = 0;
	int code = EX_NOHOST;
	d->expect = d->name ? d->name : host;
	loop_refresh();
	enum dns_result r = cli_probe_addresses(&q, host, loop_now() + CLI_CHECK_MS);
	if (r != DNS_OK) {
		printf("%s: %s\n", host, dns_result_text(r));
		dns_cancel(&q);
		return dns_code(r);
	}
	ask_dane(d, host);
	for (size_t i = 0; i < q.count && !*connected; i++) {
		if (d->family != AF_UNSPEC && q.addrs[i].family != d->family)
			continue;
		tried++;
		code = talk(d, host, &q.addrs[i], connected);
	}
	if (tried == 0)
		printf("%s: has no address of IPv%d\n", host, d->family == AF_INET ? 4 : 6);
	dns_cancel(&q);
	return code;
}

/* Tries the mail servers of a domain until one of them answers. */
static int talk_mx(struct dialog *d)
{
	struct dns_query q = {0};
	bool connected = false;
	int code = EX_NOHOST;
	loop_refresh();
	enum dns_result r = cli_probe_mx(&q, d->host, loop_now() + CLI_CHECK_MS);
	if (r == DNS_NO_DATA) {
		printf("%s has no MX record: mail for it goes to the host of that name\n\n",
		       d->host);
		code = talk_host(d, d->host, &connected);
	} else if (r != DNS_OK) {
		printf("%s: %s\n", d->host, dns_result_text(r));
		code = dns_code(r);
	} else if (dns_is_null_mx(&q)) {
		printf("%s takes no mail at all: its MX record says so\n", d->host);
	} else {
		printf("Mail servers of %s:\n", d->host);
		for (size_t i = 0; i < q.count; i++)
			printf("  %5u %s\n", (unsigned)q.mx[i].preference, q.mx[i].host);
		puts("");
		for (size_t i = 0; i < q.count && i < CLI_PROBE_HOSTS_MAX && !connected; i++)
			code = talk_host(d, q.mx[i].host, &connected);
	}
	dns_cancel(&q);
	return code;
}

/* ---- options ---- */

static int misused(const char *what, const char *word)
{
	if (what)
		fprintf(stderr, "dialog: %s: %s\n", word, what);
	fputs(usage, stderr);
	return EX_USAGE;
}

static int take_tls(struct dialog *d, const char *word)
{
	static const char *const words[] = {[SMTPC_TLS_NONE] = "none",
	                                    [SMTPC_TLS_STARTTLS] = "starttls",
	                                    [SMTPC_TLS_IMPLICIT] = "tls"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if (strcmp(word, words[i]) == 0) {
			d->tls = (enum smtpc_tls)i;
			return EX_OK;
		}
	}
	return misused("is none of none, starttls, tls", word);
}

static int take_rcpt(struct dialog *d, const char *word)
{
	struct addr a;
	if (addr_parse(slice_of(word), &a) || addr_is_null(&a))
		return misused("is not a mail address", word);
	if (addr_format_wire(&a, false, d->rcpt, sizeof d->rcpt))
		return misused("has characters that this probe cannot send", word);
	return EX_OK;
}

static int take_host(struct dialog *d, const char *word)
{
	char host[ADDR_DOMAIN_MAX + 1], normal[ADDR_DOMAIN_MAX + 1], port[CONFVALUE_PORT] = "";
	struct dns_addr a;
	if (*d->host)
		return misused("is one argument too many", word);
	/* An IPv6 address alone has colons, too. */
	if (dns_addr_parse(&a, slice_of(word)) == 0)
		snprintf(host, sizeof host, "%s", word);
	else if (confvalue_split_address(word, host, port) || !*host ||
	         (*port && !confvalue_is_port(port)))
		return misused("is not HOST or HOST:PORT", word);
	if (dns_addr_parse(&a, slice_of(host)) == 0)
		snprintf(d->host, sizeof d->host, "%s", host);
	else if (addr_domain_normalise(slice_of(host), normal, sizeof normal) ||
	         addr_domain_to_ascii(normal, d->host, sizeof d->host))
		return misused("is not a host name", word);
	d->port = (uint16_t)strtoul(port, NULL, 10);
	return EX_OK;
}

/* The value of an option with one: behind its letter, or the next argument. NULL: there is none. */
static const char *value_of(int argc, char **argv, int *i)
{
	const char *s = argv[*i];
	if (s[1] != '-' && s[2])
		return s + 2;
	return *i + 1 < argc ? argv[++*i] : NULL;
}

static int take_option(struct dialog *d, int argc, char **argv, int *i)
{
	const char *s = argv[*i];
	if (strcmp(s, "-4") == 0 || strcmp(s, "-6") == 0) {
		d->family = s[1] == '4' ? AF_INET : AF_INET6;
		return EX_OK;
	}
	if (strcmp(s, "--mx") == 0) {
		d->mx = true;
		return EX_OK;
	}
	bool rcpt = strcmp(s, "--rcpt") == 0;
	if (!rcpt && (s[1] == '\0' || !strchr("tsC", s[1])))
		return misused("is no option of dialog", s);
	const char *value = value_of(argc, argv, i);
	if (!value)
		return misused("needs a value", s);
	if (rcpt)
		return take_rcpt(d, value);
	if (s[1] == 't')
		return take_tls(d, value);
	if (s[1] == 'C') {
		d->dir = value;
	} else {
		struct dns_addr a;
		d->name = value;
		if (!addr_domain_is_valid_hostname(value) && dns_addr_parse(&a, slice_of(value)))
			return misused("is not a host name", value);
	}
	return EX_OK;
}

/* ---- the whole ---- */

static int set_up(struct dialog *d)
{
	char err[512];
	const char *dir = d->dir ? d->dir : getenv("CHASQ_DIR");
	bool demanded = dir && *dir;
	/* What the configuration has to say is for check. */
	log_to(-1);
	d->conf = conf_load(demanded ? dir : CONF_DIR, NULL, 0, err, sizeof err);
	if (!d->conf && demanded) {
		fprintf(stderr, "dialog: %s\n", err);
		return EX_CONFIG;
	}
	if (d->conf)
		snprintf(d->ehlo, sizeof d->ehlo, "%s", d->conf->hostname);
	else if (gethostname(d->ehlo, sizeof d->ehlo - 1) ||
	         !addr_domain_is_valid_hostname(d->ehlo))
		snprintf(d->ehlo, sizeof d->ehlo, "localhost");
	if (loop_init() ||
	    dns_init(d->conf ? d->conf->dns_servers : NULL, d->conf && d->conf->dnssec_resolver)) {
		fputs("dialog: the name servers cannot be used\n", stderr);
		return EX_OSERR;
	}
	d->roots = tls_roots_open(d->conf ? d->conf->tls_roots : NULL);
	if (!d->roots) {
		fputs("dialog: out of memory\n", stderr);
		return EX_OSERR;
	}
	return EX_OK;
}

int cli_dialog(int argc, char **argv)
{
	static struct dialog d;
	bool connected = false;
	int code = EX_OK;
	d = (struct dialog){.tls = SMTPC_TLS_STARTTLS, .dane_why = ""};
	for (int i = 1; i < argc && code == EX_OK; i++) {
		if (strcmp(argv[i], "--help") == 0) {
			fputs(usage, stdout);
			return EX_OK;
		}
		code = argv[i][0] == '-' ? take_option(&d, argc, argv, &i) : take_host(&d, argv[i]);
	}
	if (code != EX_OK)
		return code;
	if (!*d.host)
		return misused(NULL, NULL);
	if (d.port == 0)
		d.port = d.tls == SMTPC_TLS_IMPLICIT ? 465 : 25;
	code = set_up(&d);
	if (code == EX_OK)
		code = d.mx ? talk_mx(&d) : talk_host(&d, d.host, &connected);
	dane_clear(&d.dane);
	tls_roots_close(d.roots);
	dns_done();
	conf_free(d.conf);
	loop_done();
	return fflush(stdout) == 0 ? code : EX_IOERR;
}
