/*
 * conf_take: every key of chasq.conf is checked and moved into struct conf.
 *
 * Each raw key remembers where it was given, so that any complaint names file, line and key.
 * Passwords and the users of control_* are looked up when they are used.
 */
#include "conf_int.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

#include "addr.h"
#include "confvalue.h"
#include "log.h"

static int fail(struct conf_loader *l, enum conf_key key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Writes "file:line: key: reason", or only key and reason for a default. Returns -1. */
static int fail(struct conf_loader *l, enum conf_key key, const char *fmt, ...)
{
	va_list ap;
	int n;
	if (l->k.given[key])
		n = snprintf(l->err, l->err_size, "%s:%d: %s: ", l->k.source[key], l->k.given[key],
		             conf_key_fields[key].name);
	else
		n = snprintf(l->err, l->err_size, "%s: %s: ", l->file, conf_key_fields[key].name);
	va_start(ap, fmt);
	if (n >= 0 && (size_t)n < l->err_size)
		vsnprintf(l->err + n, l->err_size - (size_t)n, fmt, ap);
	va_end(ap);
	return -1;
}

/* The configuration asks for what is not in this program. */
static int left_out(struct conf_loader *l, enum conf_key key, const char *what, const char *option)
{
	return fail(l, key, "this build has no %s: %s 0", what, option);
}

static int no_memory(struct conf_loader *l)
{
	snprintf(l->err, l->err_size, "%s: out of memory", l->file);
	return -1;
}

/* Moves a string that was given, or copies the default. */
static char *take_string(char **from, const char *otherwise)
{
	char *s = *from;
	*from = NULL;
	return s ? s : strdup(otherwise);
}

/* As take_string, but "" means the default, as chasquid has it. */
static char *take_filled(char **from, const char *otherwise)
{
	if (*from && !**from) {
		free(*from);
		*from = NULL;
	}
	return take_string(from, otherwise);
}

/* Moves a list, or makes one of the defaults (at most 4). */
static int take_list(struct text_strings *to, struct text_strings *from,
                     const char *const *otherwise, size_t count)
{
	*to = *from;
	*from = (struct text_strings){NULL, 0};
	if (to->count > 0)
		return 0;
	free(to->item);
	to->item = calloc(count, sizeof(*to->item));
	for (size_t i = 0; to->item && i < count; i++) {
		to->item[i] = strdup(otherwise[i]);
		if (!to->item[i])
			return -1;
		to->count++;
	}
	return to->item ? 0 : -1;
}

static int take_number(struct conf_loader *l, enum conf_key key, int64_t given, int64_t otherwise,
                       int64_t max, int64_t *to)
{
	*to = l->k.given[key] ? given : otherwise;
	if (*to >= 1 && *to <= max)
		return 0;
	return fail(l, key, "%lld is not between 1 and %lld", (long long)*to, (long long)max);
}

static int take_hostname(struct conf_loader *l, struct conf *c)
{
	char own[256] = "", name[ADDR_DOMAIN_MAX + 1], ascii[ADDR_DOMAIN_MAX + 1];
	bool given = l->k.hostname && *l->k.hostname;
	if (!given && gethostname(own, sizeof(own) - 1) < 0)
		return fail(l, KEY_HOSTNAME, "the machine has none (%s): set it", strerror(errno));
	const char *s = given ? l->k.hostname : own;
	if (addr_domain_normalise(slice_of(s), name, sizeof(name)) < 0 ||
	    addr_domain_to_ascii(name, ascii, sizeof(ascii)) < 0 ||
	    !addr_domain_is_valid_hostname(ascii))
		return fail(l, KEY_HOSTNAME, "\"%s\"%s is not a name a host may have", s,
		            given ? "" : ", the machine's own,");
	c->hostname = strdup(ascii);
	return c->hostname ? 0 : no_memory(l);
}

static int take_listeners(struct conf_loader *l, enum conf_key key, struct text_strings *to,
                          struct text_strings *from)
{
	static const char *const otherwise[] = {"systemd"};
	if (take_list(to, from, otherwise, 1) < 0)
		return no_memory(l);
	for (size_t i = 0; i < to->count; i++)
		if (!confvalue_is_listener(to->item[i]))
			return fail(l, key,
			            "\"%s\" is not address:port, :port, [IPv6]:port or systemd",
			            to->item[i]);
	return 0;
}

/* The same, where users log in. */
static int take_logins(struct conf_loader *l, enum conf_key key, struct text_strings *to,
                       struct text_strings *from)
{
	if (take_listeners(l, key, to, from) < 0)
		return -1;
	for (size_t i = 0; !(WITH_TLS && WITH_AUTH) && i < to->count; i++)
		if (strcmp(to->item[i], "systemd") != 0)
			return WITH_TLS ? left_out(l, key, "logins", "WITH_AUTH")
			                : left_out(l, key, "TLS, and users log in with TLS only",
			                           "WITH_TLS");
	return 0;
}

static int take_addresses(struct conf_loader *l, struct conf *c)
{
	if (take_listeners(l, KEY_SMTP_ADDRESS, &c->smtp_address, &l->k.smtp_address) < 0 ||
	    take_logins(l, KEY_SUBMISSION_ADDRESS, &c->submission_address,
	                &l->k.submission_address) < 0)
		return -1;
	return take_logins(l, KEY_SUBMISSION_OVER_TLS_ADDRESS, &c->submission_over_tls_address,
	                   &l->k.submission_over_tls_address);
}

static int take_dns_servers(struct conf_loader *l, struct conf *c)
{
	char one[ADDR_DOMAIN_MAX + 20], host[ADDR_DOMAIN_MAX + 1], port[CONFVALUE_PORT];
	struct dns_addr a;
	if (!l->k.dns_servers || !*l->k.dns_servers)
		return 0;
	c->dns_servers = take_string(&l->k.dns_servers, "");
	for (const char *s = c->dns_servers; s;) {
		size_t n = strcspn(s, ",");
		snprintf(one, sizeof(one), "%.*s", (int)n, s);
		if (n >= sizeof(one) || confvalue_split_address(one, host, port) < 0 ||
		    dns_addr_parse(&a, slice_of(host)) < 0 || (*port && !confvalue_is_port(port)))
			return fail(l, KEY_DNS_SERVERS, "\"%s\" is not address or address:port",
			            one);
		s = s[n] ? s + n + 1 : NULL;
	}
	return 0;
}

/* Reads a list of networks. 0, or -1 after fail. */
static int take_nets(struct conf_loader *l, enum conf_key key, const struct text_strings *list,
                     struct conf_nets *to)
{
	if (list->count == 0)
		return 0;
	to->item = calloc(list->count, sizeof(*to->item));
	if (!to->item)
		return no_memory(l);
	for (size_t i = 0; i < list->count; i++) {
		struct conf_net *net = &to->item[to->count++];
		const char *s = list->item[i];
		if (confvalue_parse_net(s, net) < 0)
			return fail(l, key, "\"%s\" is not address/bits", s);
		if (!confvalue_net_is_whole(net))
			return fail(l, key, "\"%s\" has bits set behind the first %d", s,
			            net->bits);
	}
	return 0;
}

static int take_networks(struct conf_loader *l, struct conf *c)
{
	const struct text_strings *list = &l->k.trusted_network;
	c->trusted_rate = CONF_TRUSTED_RATE;
	/* 0 is a value of its own here. */
	if (l->k.given[KEY_TRUSTED_NETWORK_RATE] && l->k.trusted_network_rate == 0)
		c->trusted_rate = 0;
	else if (take_number(l, KEY_TRUSTED_NETWORK_RATE, l->k.trusted_network_rate,
	                     c->trusted_rate, 3600000, &c->trusted_rate) < 0)
		return -1;
	if (take_nets(l, KEY_TRUSTED_NETWORK, list, &c->trusted) < 0)
		return -1;
	for (size_t i = 0; i < c->trusted.count; i++)
		if (!confvalue_net_is_private(&c->trusted.item[i]) && !l->k.trusted_network_public)
			return fail(l, KEY_TRUSTED_NETWORK,
			            "\"%s\" holds public addresses: strangers could send mail "
			            "through this server (trusted_network_public: true allows it)",
			            list->item[i]);
	return 0;
}

static int take_proxies(struct conf_loader *l, struct conf *c)
{
	static char v4[] = "127.0.0.0/8", v6[] = "::1";
	static char *here[] = {v4, v6};
	static const struct text_strings otherwise = {here, 2};
	const struct text_strings *list = &l->k.haproxy_trusted;
	if (!WITH_PROXY && l->k.haproxy_incoming)
		return left_out(l, KEY_HAPROXY_INCOMING, "PROXY protocol", "WITH_PROXY");
	c->haproxy_incoming = l->k.haproxy_incoming;
	return take_nets(l, KEY_HAPROXY_TRUSTED, list->count > 0 ? list : &otherwise, &c->proxies);
}

static int take_paths(struct conf_loader *l, struct conf *c)
{
	static const char *const args[] = {"-f", "%from%", "-d", "%to_user%"};
	char dflt[PATH_MAX];
	c->data_dir = take_filled(&l->k.data_dir, CONF_DATA_DIR);
	if (!c->data_dir)
		return no_memory(l);
	int n = snprintf(dflt, sizeof(dflt), "%s/%s", c->data_dir, CONF_MAILDIR);
	if (n < 0 || (size_t)n >= sizeof(dflt))
		return fail(l, KEY_DATA_DIR, "too long for a path");
	c->maildir = take_filled(&l->k.maildir, dflt);
	if (l->k.mda_bin && *l->k.mda_bin)
		c->mda_bin = take_string(&l->k.mda_bin, "");
	if (!c->maildir || take_list(&c->mda_args, &l->k.mda_args, args, 4) < 0)
		return no_memory(l);
	const char *bad = confvalue_bad_replacement(c->maildir);
	if (bad)
		return fail(l, KEY_MAILDIR, "nothing is put in for %s", bad);
	for (size_t i = 0; i < c->mda_args.count; i++)
		if ((bad = confvalue_bad_replacement(c->mda_args.item[i])))
			log_error("-", "mail_delivery_agent_args: nothing is put in",
			          LOG_S("for", bad));
	if (c->mda_bin && strchr(c->mda_bin, '/') && access(c->mda_bin, X_OK) < 0)
		log_error("-", "mail_delivery_agent_bin cannot be run now",
		          LOG_S("path", c->mda_bin), LOG_S("error", strerror(errno)));
	return 0;
}

static int take_lmtp(struct conf_loader *l, struct conf *c)
{
	struct confvalue_lmtp address;
	const char *s = l->k.lmtp_address;
	if (!s || !*s)
		return 0;
	if (!WITH_LMTP)
		return left_out(l, KEY_LMTP_ADDRESS, "LMTP", "WITH_LMTP");
	if (confvalue_parse_lmtp(s, &address) < 0)
		return fail(l, KEY_LMTP_ADDRESS, "\"%s\" is not unix:PATH or host:port", s);
	if (c->mda_bin)
		return fail(l, KEY_LMTP_ADDRESS, "mail_delivery_agent_bin is set too: one of them");
	c->lmtp_address = take_string(&l->k.lmtp_address, "");
	return 0;
}

static int take_duration(struct conf_loader *l, enum conf_key key, const char *s, int64_t *seconds)
{
	if (conf_duration(s, seconds) < 0)
		return fail(l, key, "\"%s\" is not a time such as 20h, 90m or 1h30m", s);
	if (*seconds < 1)
		return fail(l, key, "\"%s\" is less than a second", s);
	return 0;
}

static int take_limits(struct conf_loader *l, struct conf *c)
{
	const char *s = l->k.give_up_send_after, *expire = l->k.domaininfo_expire;
	if (take_duration(l, KEY_GIVE_UP_SEND_AFTER, s && *s ? s : CONF_GIVE_UP_SEND_AFTER,
	                  &c->give_up_send_after) < 0)
		return -1;
	if (expire && *expire &&
	    take_duration(l, KEY_DOMAININFO_EXPIRE, expire, &c->domaininfo_expire) < 0)
		return -1;
	if (take_number(l, KEY_MAX_DATA_SIZE_MB, l->k.max_data_size_mb, CONF_MAX_DATA_SIZE_MB,
	                1024 * 1024, &c->max_data_size_mb) < 0 ||
	    take_number(l, KEY_MAX_QUEUE_ITEMS, l->k.max_queue_items, CONF_MAX_QUEUE_ITEMS,
	                100000000, &c->max_queue_items) < 0)
		return -1;
	return take_number(l, KEY_REMOTE_SMTP_PORT, l->k.remote_smtp_port, 25, 65535,
	                   &c->remote_smtp_port);
}

static int take_dovecot(struct conf_loader *l, struct conf *c)
{
	char *const *from[] = {&l->k.dovecot_userdb_path, &l->k.dovecot_client_path};
	char **to[] = {&c->dovecot_userdb_path, &c->dovecot_client_path};
	if (!WITH_DOVECOT && l->k.dovecot_auth)
		return left_out(l, KEY_DOVECOT_AUTH, "Dovecot", "WITH_DOVECOT");
	if (!WITH_AUTH && l->k.dovecot_auth)
		return left_out(l, KEY_DOVECOT_AUTH, "logins", "WITH_AUTH");
	c->dovecot_auth = l->k.dovecot_auth;
	for (size_t i = 0; i < 2; i++) {
		if (*from[i] && **from[i] && !(*to[i] = strdup(*from[i])))
			return no_memory(l);
		if (*to[i] && strlen(*to[i]) >= sizeof(((struct sockaddr_un *)0)->sun_path))
			return fail(l, i ? KEY_DOVECOT_CLIENT_PATH : KEY_DOVECOT_USERDB_PATH,
			            "too long for a socket's path");
	}
	return 0;
}

/* ---- logs, monitoring, control ---- */

/* "<syslog>", "<syslog:SOCKET>", "<stdout>", "<stderr>" or a path? */
static bool is_log(const char *s)
{
	return *s != '<' || (strncmp(s, "<syslog:/", 9) == 0 && s[strlen(s) - 1] == '>') ||
	       strcmp(s, "<syslog>") == 0 || strcmp(s, "<stdout>") == 0 ||
	       strcmp(s, "<stderr>") == 0;
}

static int take_logs(struct conf_loader *l, struct conf *c)
{
	const char *level = l->k.log_level;
	const struct text_enum *e = conf_levels;
	c->log_level = LOG_LEVEL_INFO;
	while (level && *level && e->name && strcmp(e->name, level) != 0)
		e++;
	if (!e->name)
		return fail(l, KEY_LOG_LEVEL, "\"%s\" is not error, info or debug", level);
	if (level && *level)
		c->log_level = e->value;
	if (l->k.log_path && *l->k.log_path)
		c->log_path = take_string(&l->k.log_path, "");
	c->mail_log_path = take_string(&l->k.mail_log_path, "<syslog>");
	if (!c->mail_log_path)
		return no_memory(l);
	if (c->log_path && !is_log(c->log_path))
		return fail(l, KEY_LOG_PATH, "\"%s\" is not <syslog>, <stdout>, <stderr> or a path",
		            c->log_path);
	if (!is_log(c->mail_log_path))
		return fail(l, KEY_MAIL_LOG_PATH,
		            "\"%s\" is not <syslog>, <stdout>, <stderr> or a path",
		            c->mail_log_path);
	return 0;
}

static int take_monitoring(struct conf_loader *l, struct conf *c)
{
	char host[ADDR_DOMAIN_MAX + 1], port[CONFVALUE_PORT];
	const char *s = l->k.monitoring_address;
	struct dns_addr a;
	if (l->k.monitoring_password_file && *l->k.monitoring_password_file)
		c->monitoring_password_file = take_string(&l->k.monitoring_password_file, "");
	if (!s || !*s)
		return 0;
	if (!WITH_MONITOR)
		return fail(l, KEY_MONITORING_ADDRESS,
		            "this chasq was built without the monitoring page");
	if (confvalue_split_address(s, host, port) < 0 || !confvalue_is_port(port) ||
	    dns_addr_parse(&a, slice_of(strcasecmp(host, "localhost") ? host : "127.0.0.1")) < 0)
		return fail(l, KEY_MONITORING_ADDRESS, "\"%s\" is not address:port or [IPv6]:port",
		            s);
	if (!confvalue_is_loopback(&a) && !c->monitoring_password_file)
		return fail(
		    l, KEY_MONITORING_ADDRESS,
		    "\"%s\" is not of this machine alone: strangers could look in and remove "
		    "mail (monitoring_password_file allows it)",
		    s);
	c->monitoring_address = take_string(&l->k.monitoring_address, "");
	return 0;
}

/* "user", "user:group" or ":group"? */
static bool is_owner(const char *s)
{
	const char *colon = strchr(s, ':');
	return *s && !strpbrk(s, "/ \t") && strcmp(s, ":") != 0 &&
	       (!colon || (colon[1] && !strchr(colon + 1, ':')));
}

static int take_control(struct conf_loader *l, struct conf *c)
{
	const char *mode = l->k.control_mode;
	if (!mode || !*mode)
		mode = CONF_CONTROL_MODE;
	size_t n = strspn(mode, "01234567");
	c->control_mode = n > 0 && n < 6 && !mode[n] ? strtol(mode, NULL, 8) : -1;
	if (c->control_mode < 0 || c->control_mode > 0777)
		return fail(l, KEY_CONTROL_MODE, "\"%s\" is not a mode such as 0660", mode);
	if ((c->control_mode & 0600) != 0600)
		return fail(l, KEY_CONTROL_MODE, "\"%s\" locks out the owner: 06.. it has to be",
		            mode);
	if (l->k.control_owner && *l->k.control_owner)
		c->control_owner = take_string(&l->k.control_owner, "");
	if (c->control_owner && !is_owner(c->control_owner))
		return fail(l, KEY_CONTROL_OWNER, "\"%s\" is not user:group, user or :group",
		            c->control_owner);
	c->control_users = l->k.control_users;
	l->k.control_users = (struct text_strings){NULL, 0};
	for (size_t i = 0; i < c->control_users.count; i++)
		if (!is_owner(c->control_users.item[i]) || strchr(c->control_users.item[i], ':'))
			return fail(l, KEY_CONTROL_USERS, "\"%s\" is not the name of a user",
			            c->control_users.item[i]);
	return 0;
}

static int take_reach(struct conf_loader *l, enum conf_key key, struct text_strings *from,
                      struct text_strings *to)
{
	*to = *from;
	*from = (struct text_strings){NULL, 0};
	for (size_t i = 0; i < to->count; i++)
		if (*to->item[i] != '/' || to->item[i][strspn(to->item[i], "/.")] == '\0')
			return fail(l, key, "\"%s\" is not the absolute path of a directory",
			            to->item[i]);
	return 0;
}

static int take_sandbox(struct conf_loader *l, struct conf *c)
{
	if (!WITH_SANDBOX && l->k.given[KEY_SANDBOX] && l->k.sandbox)
		return left_out(l, KEY_SANDBOX, "sandbox", "WITH_SANDBOX");
	c->sandbox = WITH_SANDBOX && (!l->k.given[KEY_SANDBOX] || l->k.sandbox);
	return take_reach(l, KEY_SANDBOX_READABLE, &l->k.sandbox_readable, &c->sandbox_readable) ||
	               take_reach(l, KEY_SANDBOX_WRITABLE, &l->k.sandbox_writable,
	                          &c->sandbox_writable)
	           ? -1
	           : 0;
}

static int take_remote(struct conf_loader *l, struct conf *c)
{
	if (!WITH_TLS && l->k.tls_roots && *l->k.tls_roots)
		return left_out(l, KEY_TLS_ROOTS, "TLS", "WITH_TLS");
	if (!WITH_TLS && l->k.dnssec_resolver)
		return left_out(l, KEY_DNSSEC_RESOLVER, "TLS, nor DANE", "WITH_TLS");
	c->dnssec_resolver = l->k.dnssec_resolver;
	if (l->k.tls_roots && *l->k.tls_roots)
		c->tls_roots = take_string(&l->k.tls_roots, "");
	c->smarthosts = l->k.smarthost;
	l->k.smarthost = (struct conf_smarthosts){NULL, 0};
	c->masquerades = l->k.masquerade;
	l->k.masquerade = (struct conf_masquerades){NULL, 0};
	return 0;
}

/* Notes where each key was given. */
static int take_origins(struct conf_loader *l, struct conf *c)
{
	const char *slash = strrchr(l->file, '/');
	c->origins = calloc(1, sizeof(*c->origins));
	if (!c->origins)
		return no_memory(l);
	/* One of two literals: it outlives the path. */
	c->origins->file = strcmp(slash ? slash + 1 : l->file, "chasquid.conf") == 0
	                       ? "chasquid.conf"
	                       : "chasq.conf";
	for (size_t i = 0; i < KEYS; i++) {
		c->origins->line[i] = l->k.given[i];
		c->origins->by_hand[i] = l->k.given[i] && strcmp(l->k.source[i], "-o") == 0;
	}
	return 0;
}

int conf_take_all(struct conf_loader *l, struct conf *c)
{
	if (take_origins(l, c) < 0 || take_remote(l, c) < 0)
		return -1;
	c->local_crlf = l->k.local_line_ends == LINE_ENDS_CRLF;
	c->sender_login_check = !l->k.given[KEY_SENDER_LOGIN_CHECK] || l->k.sender_login_check;
	c->system_aliases = l->k.system_aliases;
	if (l->k.user && *l->k.user)
		c->user = take_string(&l->k.user, "");
	c->suffix_separators = take_string(&l->k.suffix_separators, "+");
	c->drop_characters = take_string(&l->k.drop_characters, ".");
	if (!c->suffix_separators || !c->drop_characters)
		return no_memory(l);
	if (take_hostname(l, c) < 0 || take_limits(l, c) < 0 || take_paths(l, c) < 0 ||
	    take_lmtp(l, c) < 0 || take_addresses(l, c) < 0 || take_dns_servers(l, c) < 0 ||
	    take_networks(l, c) < 0 || take_proxies(l, c) < 0 || take_dovecot(l, c) < 0 ||
	    take_logs(l, c) < 0 || take_monitoring(l, c) < 0 || take_control(l, c) < 0 ||
	    take_sandbox(l, c) < 0)
		return -1;
	return 0;
}
