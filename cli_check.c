/*
 * cli_check: looks at a set-up and tells in plain words what is wrong with it, and what to do.
 *
 * Nothing is changed, no message is sent, no password is used. All goes on in this process, beside
 * the server, which is looked at from outside. What cannot be looked at, for want of rights or
 * answers, is said and is no error. All of it ends within CLI_CHECK_MS, and a few seconds.
 */
#include "cli_int.h"

#include <ifaddrs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "addr.h"
#include "cli_check_int.h"
#include "confvalue.h"
#include "control.h"
#include "dns.h"
#include "log.h"
#include "loop.h"
#include "status.h"

/* Exit code when there are errors: 1 as of grep and test, so that scripts need no table. */
#define CHECK_EXIT_ERRORS 1

/* Columns before the text of a finding. */
#define CHECK_INDENT 11

static const char usage[] =
    "usage: chasq check [-C DIR] [-t HOST[:PORT]] [DOMAIN]\n"
    "Looks at configuration, files, certificates, ports and DNS of this server and\n"
    "all its domains, or one, and says what is wrong and what to do. Best run as\n"
    "root.\n"
    "  -t HOST  sees whether this server, any that takes mail, can be reached\n"
    "           (port 25)\n"
    "  -C DIR   configuration directory\n"
    "Exit code: 0 no errors (there may be warnings), 1 errors, 64 wrong usage.\n";

/* ---- findings ---- */

static const struct {
	const char *word;
	const char *color;
} levels[] = {
    [CHECK_OK] = {"ok", "\033[32m"},
    [CHECK_NOTE] = {"note", ""},
    [CHECK_WARNING] = {"warning", "\033[33m"},
    [CHECK_ERROR] = {"error", "\033[31m"},
};

void check_group(const char *title)
{
	printf("\n%s\n", title);
}

/* Prints a text at the column where it begins, in lines of the terminal's width. */
static void print_wrapped(const char *text, int width)
{
	int room = width - CHECK_INDENT - 1, column = 0;
	while (*text) {
		size_t bytes = strcspn(text, " ");
		int wide = 0;
		for (size_t i = 0; i < bytes; i++)
			wide += ((unsigned char)text[i] & 0xc0) != 0x80;
		if (column > 0 && column + 1 + wide > room) {
			printf("\n%*s", CHECK_INDENT, "");
			column = 0;
		} else if (column > 0) {
			putchar(' ');
			column++;
		}
		printf("%.*s", (int)bytes, text);
		column += wide;
		text += bytes;
		text += strspn(text, " ");
	}
	putchar('\n');
}

void check_say(struct check *c, enum check_level level, const char *fmt, ...)
{
	char text[2048];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	status_clean(slice_of(text), text, sizeof text);
	c->errors += level == CHECK_ERROR;
	c->warnings += level == CHECK_WARNING;
	const char *color = c->width > 0 ? levels[level].color : "";
	printf("  %s%-*s%s", color, CHECK_INDENT - 2, levels[level].word, *color ? "\033[m" : "");
	if (c->width > CHECK_INDENT + 20)
		print_wrapped(text, c->width);
	else
		puts(text);
	fflush(stdout);
}

bool check_is_late(const struct check *c)
{
	loop_refresh();
	return loop_now() >= c->end;
}

/* ---- addresses ---- */

bool check_addrs_have(const struct check_addrs *list, const struct dns_addr *a)
{
	for (size_t i = 0; i < list->count; i++)
		if (dns_addr_equal(&list->addr[i], a))
			return true;
	return false;
}

void check_addrs_add(struct check_addrs *list, const struct dns_addr *a)
{
	if (list->count < CHECK_ADDRS_MAX && !check_addrs_have(list, a))
		list->addr[list->count++] = *a;
}

bool check_addr_is_public(const struct dns_addr *a)
{
	static const struct dns_addr none4 = {.family = AF_INET}, none6 = {.family = AF_INET6};
	struct conf_net net = {.addr = *a, .bits = a->family == AF_INET ? 32 : 128};
	return !confvalue_net_is_private(&net) && !dns_addr_equal(a, &none4) &&
	       !dns_addr_equal(a, &none6);
}

static void find_own(struct check *c)
{
	struct ifaddrs *all, *i;
	struct conf_net loop4 = {.addr = {.family = AF_INET}, .bits = 8};
	struct dns_addr a, loop6;
	dns_addr_parse(&loop4.addr, slice_of("127.0.0.0"));
	dns_addr_parse(&loop6, slice_of("::1"));
	if (getifaddrs(&all))
		return;
	for (i = all; i; i = i->ifa_next)
		if (i->ifa_addr && dns_addr_from_sockaddr(&a, i->ifa_addr) == 0 &&
		    !confvalue_net_has(&loop4, &a) && !dns_addr_equal(&a, &loop6))
			check_addrs_add(&c->own, &a);
	freeifaddrs(all);
}

/* What the kernel would choose; no packet is sent. */
static void find_source(struct check *c, const char *far)
{
	struct sockaddr_storage sa;
	struct dns_addr a;
	socklen_t len = sizeof sa;
	int fd = -1;
	if (dns_addr_parse(&a, slice_of(far)) == 0)
		fd = socket(a.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (connect(fd, (struct sockaddr *)&sa, dns_addr_to_sockaddr(&a, 25, &sa)) == 0 &&
	    getsockname(fd, (struct sockaddr *)&sa, &len) == 0 &&
	    dns_addr_from_sockaddr(&a, (struct sockaddr *)&sa) == 0)
		check_addrs_add(&c->source, &a);
	close(fd);
}

/* ---- the configuration ---- */

/* Whoever may send a header chooses the address that trust and limits go by. */
static void check_proxies(struct check *c)
{
	char ip[INET6_ADDRSTRLEN];
	const struct conf_nets *nets = &c->conf->proxies;
	for (size_t i = 0; c->conf->haproxy_incoming && i < nets->count; i++)
		if (!confvalue_net_is_private(&nets->item[i]) &&
		    nets->item[i].bits < (nets->item[i].addr.family == AF_INET ? 32 : 64))
			check_say(c, CHECK_WARNING,
			          "haproxy_trusted: %s/%d holds public addresses: all who have one "
			          "of them can pretend to be anybody, trusted networks included; "
			          "name the proxies alone",
			          dns_addr_text(&nets->item[i].addr, ip), nets->item[i].bits);
}

static int load(struct check *c, const char *dir)
{
	char err[512];
	bool old = false;
	char path[4096];
	snprintf(path, sizeof path, "%s/chasq.conf", dir);
	old = access(path, F_OK) != 0;
	snprintf(path, sizeof path, "Configuration in %s", dir);
	check_group(path);
	c->conf = conf_load(dir, NULL, 0, err, sizeof err);
	if (!c->conf) {
		check_say(c, CHECK_ERROR, "%s", err);
		if (!c->root)
			check_say(c, CHECK_NOTE,
			          "if that is for want of rights: run chasq check as root");
		return -1;
	}
	check_say(c, CHECK_OK, "%s is good: this server is %s and has %zu domain%s",
	          old ? "chasquid.conf" : "chasq.conf", c->conf->hostname, c->conf->domain_count,
	          c->conf->domain_count == 1 ? "" : "s");
	if (c->domain && !conf_domain_find(c->conf, c->domain))
		check_say(c, CHECK_ERROR,
		          "%s is not one of our domains: to take mail for it, make the directory "
		          "domains/%s",
		          c->domain, c->domain);
	if (!strchr(c->conf->hostname, '.'))
		check_say(
		    c, CHECK_WARNING,
		    "hostname: %s is not a full name; other servers may refuse mail from it: "
		    "set hostname in chasq.conf to the name under which this machine is known",
		    c->conf->hostname);
	check_proxies(c);
	return 0;
}

static void check_clock(struct check *c)
{
	char text[32] = "";
	time_t now = time(NULL);
	struct tm tm;
	if (gmtime_r(&now, &tm))
		strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
	if ((int64_t)now < CLOCK_RELEASE)
		check_say(c, CHECK_ERROR,
		          "the clock says %s UTC, which cannot be: set it, by NTP at best; "
		          "until then certificates seem not to be valid yet",
		          text);
	else
		check_say(c, CHECK_OK, "the clock says %s UTC (compare it with yours)", text);
}

static void check_user(struct check *c)
{
	char err[512];
	const char *name = c->conf->user;
	if (!name) {
		if (c->root)
			check_say(c, CHECK_WARNING,
			          "no user is set: started as root, the server stays root; "
			          "set user in chasq.conf");
		return;
	}
	if (priv_find(name, &c->user, err, sizeof err)) {
		check_say(c, CHECK_ERROR, "%s: make that user, or set another one as user", err);
		return;
	}
	c->has_user = true;
	if (!c->root && geteuid() != c->user.uid)
		check_say(c, CHECK_NOTE,
		          "what the server may read is not looked at: that needs root, "
		          "or to be the user %s",
		          name);
}

static void check_running(struct check *c)
{
	int fd = control_connect(c->conf->data_dir);
	c->running = fd >= 0;
	if (fd >= 0) {
		close(fd);
		check_say(c, CHECK_OK, "chasq is running");
	} else {
		check_say(c, CHECK_ERROR,
		          "chasq is not running (there is no answer at %s/control): start it, and "
		          "if it ends again, its log says why",
		          c->conf->data_dir);
	}
}

/* ---- the whole ---- */

static void look(struct check *c)
{
	check_clock(c);
	check_user(c);
	check_running(c);
	check_files(c);
	check_certificates(c);
	loop_refresh();
	c->end = loop_now() + CLI_CHECK_MS;
	check_ports(c);
	find_own(c);
	/* Any address far away; these belong to nobody (RFC 5737, RFC 3849). */
	find_source(c, "198.51.100.1");
	find_source(c, "2001:db8::1");
	check_dns(c);
	check_way_out(c);
}

static int sum_up(const struct check *c)
{
	if (c->errors + c->warnings == 0)
		puts("\nAll is well.");
	else
		printf("\n%zu error%s, %zu warning%s.\n", c->errors, c->errors == 1 ? "" : "s",
		       c->warnings, c->warnings == 1 ? "" : "s");
	if (fflush(stdout))
		return EX_IOERR;
	return c->errors > 0 ? CHECK_EXIT_ERRORS : EX_OK;
}

static int run(struct check *c, const char *dir)
{
	/* What the modules would log is told here in other words. */
	log_to(-1);
	if (load(c, dir) == 0) {
		if (loop_init() || dns_init(c->conf->dns_servers, c->conf->dnssec_resolver) ||
		    !(c->roots = tls_roots_open(c->conf->tls_roots)))
			check_say(c, CHECK_ERROR, "out of memory");
		else
			look(c);
		tls_roots_close(c->roots);
		dns_done();
		loop_done();
		conf_free(c->conf);
	}
	return sum_up(c);
}

static int misused(const char *word, const char *what)
{
	if (word)
		fprintf(stderr, "check: %s: %s\n", word, what);
	fputs(usage, stderr);
	return EX_USAGE;
}

static int take_target(struct check *c, const char *word, char host[ADDR_DOMAIN_MAX + 1])
{
	char port[CONFVALUE_PORT] = "", name[ADDR_DOMAIN_MAX + 1];
	if (confvalue_split_address(word, host, port) || !*host ||
	    (*port && !confvalue_is_port(port)))
		return misused(word, "is not HOST or HOST:PORT");
	struct dns_addr a;
	if (dns_addr_parse(&a, slice_of(host)) &&
	    (addr_domain_normalise(slice_of(host), name, sizeof name) ||
	     addr_domain_to_ascii(name, host, ADDR_DOMAIN_MAX + 1)))
		return misused(word, "is not a host name");
	c->target = host;
	c->target_port = *port ? (uint16_t)strtoul(port, NULL, 10) : 25;
	return EX_OK;
}

static int width_of_terminal(void)
{
	struct winsize size;
	const char *term = getenv("TERM");
	if (!isatty(STDOUT_FILENO) || !term || strcmp(term, "dumb") == 0)
		return 0;
	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

int cli_check(int argc, char **argv)
{
	static struct check c;
	static char domain[ADDR_DOMAIN_MAX + 1], target[ADDR_DOMAIN_MAX + 1];
	const char *dir = getenv("CHASQ_DIR");
	c = (struct check){.root = geteuid() == 0, .width = width_of_terminal()};
	for (int i = 1; i < argc; i++) {
		const char *s = argv[i];
		if (strcmp(s, "--help") == 0) {
			fputs(usage, stdout);
			return EX_OK;
		}
		bool option = s[0] == '-' && (s[1] == 'C' || s[1] == 't');
		if (option && (s[2] || i + 1 < argc)) {
			const char *value = s[2] ? s + 2 : argv[++i];
			if (s[1] == 'C')
				dir = value;
			else if (take_target(&c, value, target) != EX_OK)
				return EX_USAGE;
		} else if (*s == '-') {
			return misused(s, option ? "needs a value" : "is no option of check");
		} else if (c.domain || addr_domain_normalise(slice_of(s), domain, sizeof domain)) {
			return misused(s,
			               c.domain ? "is one argument too many" : "is not a domain");
		} else {
			c.domain = domain;
		}
	}
	return run(&c, dir && *dir ? dir : CONF_DIR);
}
