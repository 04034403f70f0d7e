/*
 * conf: chasq.conf.
 *
 * The file and each override are read by one table into a struct of raw keys; an override replaces
 * whole what it gives. Then every key is checked and moved into struct conf. Each raw key remembers
 * where it was given, so that any complaint names file, line and key. What domains/ holds is in
 * confdomain.c.
 */
#include "conf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "addr.h"
#include "confdomain.h"
#include "confvalue.h"
#include "log.h"

/* ---- the keys ---- */

enum key {
	KEY_HOSTNAME,
	KEY_MAX_DATA_SIZE_MB,
	KEY_SMTP_ADDRESS,
	KEY_MDA_BIN,
	KEY_MDA_ARGS,
	KEY_DATA_DIR,
	KEY_SUFFIX_SEPARATORS,
	KEY_DROP_CHARACTERS,
	KEY_MAX_QUEUE_ITEMS,
	KEY_GIVE_UP_SEND_AFTER,
	KEY_MAILDIR,
	KEY_LOCAL_LINE_ENDS,
	KEY_DNS_SERVERS,
	KEY_REMOTE_SMTP_PORT,
	KEY_TRUSTED_NETWORK,
	KEY_TRUSTED_NETWORK_PUBLIC,
	KEY_DOVECOT_AUTH,
	KEY_DOVECOT_USERDB_PATH,
	KEY_DOVECOT_CLIENT_PATH,
	KEY_TRUSTED_NETWORK_RATE,
	KEY_SUBMISSION_ADDRESS,
	KEY_SUBMISSION_OVER_TLS_ADDRESS,
	KEY_SENDER_LOGIN_CHECK,
	KEY_USER,
	KEY_TLS_ROOTS,
	KEY_SMARTHOST,
	KEY_MASQUERADE,
	KEY_DNSSEC_RESOLVER,
	KEY_DOMAININFO_EXPIRE,
	KEY_SYSTEM_ALIASES,
	KEY_LMTP_ADDRESS,
	KEY_UNSUPPORTED, /* from here on: known, but without effect */
	KEY_MONITORING_ADDRESS = KEY_UNSUPPORTED,
	KEY_MAIL_LOG_PATH,
	KEY_HAPROXY_INCOMING,
	KEYS
};

enum line_ends { LINE_ENDS_LF, LINE_ENDS_CRLF };

static const struct text_enum line_ends_names[] = {
    {"LF", LINE_ENDS_LF}, {"CRLF", LINE_ENDS_CRLF}, {NULL, 0}};

struct conf_keys {
	char *hostname;
	int64_t max_data_size_mb;
	struct text_strings smtp_address;
	char *mda_bin;
	struct text_strings mda_args;
	char *data_dir;
	char *suffix_separators;
	char *drop_characters;
	int64_t max_queue_items;
	char *give_up_send_after;
	char *domaininfo_expire;
	char *maildir;
	char *lmtp_address;
	char *dns_servers;
	int64_t remote_smtp_port;
	char *tls_roots;
	struct conf_smarthosts smarthost;
	struct conf_masquerades masquerade;
	struct text_strings trusted_network;
	int64_t trusted_network_rate;
	char *user;
	struct text_strings submission_address;
	struct text_strings submission_over_tls_address;
	char *monitoring_address;
	char *mail_log_path;
	char *dovecot_userdb_path;
	char *dovecot_client_path;
	int given[KEYS];
	const char *source[KEYS]; /* the file it was given in */
	int local_line_ends;
	bool trusted_network_public;
	bool sender_login_check;
	bool dovecot_auth;
	bool dnssec_resolver;
	bool system_aliases;
	bool haproxy_incoming;
};

#define KEY_FIELD(key, num, kind, member, text) \
	[key] = {.name = (text),                \
	         .number = (num),               \
	         .type = (kind),                \
	         .presence = true,              \
	         .offset = offsetof(struct conf_keys, member)}
#define KEY_LIST(key, num, member, text) \
	[key] = {.name = (text),         \
	         .number = (num),        \
	         .type = TEXT_STRING,    \
	         .repeated = true,       \
	         .offset = offsetof(struct conf_keys, member)}

#define KEY_BLOCK(key, num, member, table, taker, text)        \
	[key] = {.name = (text),                               \
	         .number = (num),                              \
	         .type = TEXT_MESSAGE,                         \
	         .repeated = true,                             \
	         .offset = offsetof(struct conf_keys, member), \
	         .message = &(table),                          \
	         .take = (taker)}

static int add_smarthost(struct text_reader *r, void *parent, void *element)
{
	return conf_smarthost_add(&((struct conf_keys *)parent)->smarthost, r, element);
}

static int add_masquerade(struct text_reader *r, void *parent, void *element)
{
	return conf_masquerade_add(&((struct conf_keys *)parent)->masquerade, r, element);
}

/* Numbers up to 18 are chasquid's. */
static const struct text_field key_fields[KEYS] = {
    KEY_FIELD(KEY_HOSTNAME, 1, TEXT_STRING, hostname, "hostname"),
    KEY_FIELD(KEY_MAX_DATA_SIZE_MB, 2, TEXT_INT64, max_data_size_mb, "max_data_size_mb"),
    KEY_LIST(KEY_SMTP_ADDRESS, 3, smtp_address, "smtp_address"),
    KEY_FIELD(KEY_MDA_BIN, 7, TEXT_STRING, mda_bin, "mail_delivery_agent_bin"),
    KEY_LIST(KEY_MDA_ARGS, 8, mda_args, "mail_delivery_agent_args"),
    KEY_FIELD(KEY_DATA_DIR, 9, TEXT_STRING, data_dir, "data_dir"),
    KEY_FIELD(KEY_SUFFIX_SEPARATORS, 10, TEXT_STRING, suffix_separators, "suffix_separators"),
    KEY_FIELD(KEY_DROP_CHARACTERS, 11, TEXT_STRING, drop_characters, "drop_characters"),
    KEY_FIELD(KEY_MAX_QUEUE_ITEMS, 17, TEXT_INT64, max_queue_items, "max_queue_items"),
    KEY_FIELD(KEY_GIVE_UP_SEND_AFTER, 18, TEXT_STRING, give_up_send_after, "give_up_send_after"),
    KEY_FIELD(KEY_MAILDIR, 100, TEXT_STRING, maildir, "maildir"),
    [KEY_LOCAL_LINE_ENDS] = {.name = "local_line_ends",
                             .number = 101,
                             .type = TEXT_ENUM,
                             .presence = true,
                             .offset = offsetof(struct conf_keys, local_line_ends),
                             .names = line_ends_names},
    KEY_FIELD(KEY_DNS_SERVERS, 102, TEXT_STRING, dns_servers, "dns_servers"),
    KEY_FIELD(KEY_REMOTE_SMTP_PORT, 103, TEXT_INT64, remote_smtp_port, "remote_smtp_port"),
    KEY_LIST(KEY_TRUSTED_NETWORK, 104, trusted_network, "trusted_network"),
    KEY_FIELD(KEY_TRUSTED_NETWORK_PUBLIC, 105, TEXT_BOOL, trusted_network_public,
              "trusted_network_public"),
    KEY_FIELD(KEY_TRUSTED_NETWORK_RATE, 106, TEXT_INT64, trusted_network_rate,
              "trusted_network_rate"),
    KEY_FIELD(KEY_SENDER_LOGIN_CHECK, 107, TEXT_BOOL, sender_login_check, "sender_login_check"),
    KEY_FIELD(KEY_USER, 108, TEXT_STRING, user, "user"),
    KEY_FIELD(KEY_TLS_ROOTS, 110, TEXT_STRING, tls_roots, "tls_roots"),
    KEY_BLOCK(KEY_SMARTHOST, 111, smarthost, conf_smarthost_table, add_smarthost, "smarthost"),
    KEY_BLOCK(KEY_MASQUERADE, 112, masquerade, conf_masquerade_table, add_masquerade, "masquerade"),
    KEY_FIELD(KEY_DNSSEC_RESOLVER, 113, TEXT_BOOL, dnssec_resolver, "dnssec_resolver"),
    KEY_FIELD(KEY_DOMAININFO_EXPIRE, 114, TEXT_STRING, domaininfo_expire, "domaininfo_expire"),
    KEY_FIELD(KEY_SYSTEM_ALIASES, 116, TEXT_BOOL, system_aliases, "system_aliases"),
    KEY_FIELD(KEY_LMTP_ADDRESS, 117, TEXT_STRING, lmtp_address, "lmtp_address"),
    KEY_LIST(KEY_SUBMISSION_ADDRESS, 4, submission_address, "submission_address"),
    KEY_LIST(KEY_SUBMISSION_OVER_TLS_ADDRESS, 5, submission_over_tls_address,
             "submission_over_tls_address"),
    KEY_FIELD(KEY_MONITORING_ADDRESS, 6, TEXT_STRING, monitoring_address, "monitoring_address"),
    KEY_FIELD(KEY_MAIL_LOG_PATH, 12, TEXT_STRING, mail_log_path, "mail_log_path"),
    KEY_FIELD(KEY_DOVECOT_AUTH, 13, TEXT_BOOL, dovecot_auth, "dovecot_auth"),
    KEY_FIELD(KEY_DOVECOT_USERDB_PATH, 14, TEXT_STRING, dovecot_userdb_path, "dovecot_userdb_path"),
    KEY_FIELD(KEY_DOVECOT_CLIENT_PATH, 15, TEXT_STRING, dovecot_client_path, "dovecot_client_path"),
    KEY_FIELD(KEY_HAPROXY_INCOMING, 16, TEXT_BOOL, haproxy_incoming, "haproxy_incoming"),
};
static const struct text_message key_table = TEXT_TABLE(key_fields, struct conf_keys);

/* ---- reading ---- */

struct conf_loader {
	struct conf_keys k;
	const char *file; /* for messages */
	char *err;
	size_t err_size;
};

static int fail(struct conf_loader *l, enum key key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Writes "file:line: key: reason", or only key and reason for a default. Returns -1. */
static int fail(struct conf_loader *l, enum key key, const char *fmt, ...)
{
	va_list ap;
	int n;
	if (l->k.given[key])
		n = snprintf(l->err, l->err_size, "%s:%d: %s: ", l->k.source[key], l->k.given[key],
		             key_fields[key].name);
	else
		n = snprintf(l->err, l->err_size, "%s: %s: ", l->file, key_fields[key].name);
	va_start(ap, fmt);
	if (n >= 0 && (size_t)n < l->err_size)
		vsnprintf(l->err + n, l->err_size - (size_t)n, fmt, ap);
	va_end(ap);
	return -1;
}

static int no_memory(struct conf_loader *l)
{
	snprintf(l->err, l->err_size, "%s: out of memory", l->file);
	return -1;
}

static size_t value_size(const struct text_field *f)
{
	if (f->type == TEXT_MESSAGE)
		return sizeof(struct conf_smarthosts); /* a list of blocks: pointer and count */
	if (f->repeated)
		return sizeof(struct text_strings);
	if (f->type == TEXT_STRING)
		return sizeof(char *);
	return f->type == TEXT_INT64 ? sizeof(int64_t)
	                             : (f->type == TEXT_ENUM ? sizeof(int) : sizeof(bool));
}

/* Swaps what `from` gives into the keys so far. */
static void merge(struct conf_keys *to, struct conf_keys *from, const char *source)
{
	for (size_t i = 0; i < KEYS; i++) {
		char hold[sizeof(struct text_strings)];
		const struct text_field *f = &key_fields[i];
		char *a = (char *)to + f->offset, *b = (char *)from + f->offset;
		if (!from->given[i])
			continue;
		memcpy(hold, a, value_size(f));
		memcpy(a, b, value_size(f));
		memcpy(b, hold, value_size(f));
		to->given[i] = from->given[i];
		to->source[i] = source;
	}
}

static void clear_keys(struct conf_keys *k)
{
	conf_smarthost_clear(&k->smarthost);
	conf_masquerade_clear(&k->masquerade);
	text_clear(&key_table, k);
}

/* Reads all fields from an opened reader and merges them. */
static int read_keys(struct conf_loader *l, struct text_reader *r)
{
	struct conf_keys k;
	text_init(&key_table, &k);
	int rc = text_read(r, &key_table, &k);
	if (rc < 0)
		snprintf(l->err, l->err_size, "%s", r->error);
	else
		merge(&l->k, &k, r->name);
	clear_keys(&k);
	return rc;
}

static ssize_t fill_from_fd(void *arg, char *p, size_t n)
{
	ssize_t got;
	do
		got = read(*(int *)arg, p, n);
	while (got < 0 && errno == EINTR);
	return got;
}

static int open_path(const char *dir, const char *name, char *path)
{
	snprintf(path, PATH_MAX, "%s/%s", dir, name);
	return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* chasq.conf in the directory, or else chasquid.conf: fills path (of PATH_MAX bytes). Returns the
 * descriptor, or -1 with errno. */
static int open_file(const char *dir, char *path)
{
	int fd = open_path(dir, "chasq.conf", path);
	if (fd < 0 && errno == ENOENT) {
		fd = open_path(dir, "chasquid.conf", path);
		if (fd < 0 && errno == ENOENT)
			fd = open_path(dir, "chasq.conf", path);
	}
	return fd;
}

/* Reads the file of a directory; path (PATH_MAX bytes) has to outlive the loader. */
static int read_file(struct conf_loader *l, struct text_reader *r, const char *dir, char *path)
{
	int fd = open_file(dir, path);
	if (fd < 0) {
		snprintf(l->err, l->err_size, "%s: %s", path, strerror(errno));
		return -1;
	}
	l->file = path;
	text_open(r, path, fill_from_fd, &fd);
	int rc = read_keys(l, r);
	close(fd);
	return rc;
}

/* ---- checking and moving ---- */

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

static int take_number(struct conf_loader *l, enum key key, int64_t given, int64_t otherwise,
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

static int take_listeners(struct conf_loader *l, enum key key, struct text_strings *to,
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

static int take_addresses(struct conf_loader *l, struct conf *c)
{
	if (take_listeners(l, KEY_SMTP_ADDRESS, &c->smtp_address, &l->k.smtp_address) < 0 ||
	    take_listeners(l, KEY_SUBMISSION_ADDRESS, &c->submission_address,
	                   &l->k.submission_address) < 0)
		return -1;
	return take_listeners(l, KEY_SUBMISSION_OVER_TLS_ADDRESS, &c->submission_over_tls_address,
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
	if (list->count == 0)
		return 0;
	c->trusted = calloc(list->count, sizeof(*c->trusted));
	if (!c->trusted)
		return no_memory(l);
	for (size_t i = 0; i < list->count; i++) {
		struct conf_net *net = &c->trusted[c->trusted_count++];
		const char *s = list->item[i];
		if (confvalue_parse_net(s, net) < 0)
			return fail(l, KEY_TRUSTED_NETWORK, "\"%s\" is not address/bits", s);
		if (!confvalue_net_is_whole(net))
			return fail(l, KEY_TRUSTED_NETWORK,
			            "\"%s\" has bits set behind the first %d", s, net->bits);
		if (!confvalue_net_is_private(net) && !l->k.trusted_network_public)
			return fail(l, KEY_TRUSTED_NETWORK,
			            "\"%s\" holds public addresses: strangers could send mail "
			            "through this server (trusted_network_public: true allows it)",
			            s);
	}
	return 0;
}

/* Behind a proxy every stranger has the proxy's address. */
static int warn_unsupported(struct conf_loader *l)
{
	if (l->k.haproxy_incoming && l->k.trusted_network.count > 0)
		return fail(l, KEY_HAPROXY_INCOMING,
		            "not supported, and dangerous together with trusted_network");
	for (size_t i = KEY_UNSUPPORTED; i < KEYS; i++) {
		const bool *value = (const bool *)((const char *)&l->k + key_fields[i].offset);
		if (l->k.given[i] && (key_fields[i].type != TEXT_BOOL || *value))
			log_info("-", "key not supported, ignored",
			         LOG_S("key", key_fields[i].name), LOG_S("file", l->k.source[i]),
			         LOG_N("line", l->k.given[i]));
	}
	return 0;
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
	if (confvalue_parse_lmtp(s, &address) < 0)
		return fail(l, KEY_LMTP_ADDRESS, "\"%s\" is not unix:PATH or host:port", s);
	if (c->mda_bin)
		return fail(l, KEY_LMTP_ADDRESS, "mail_delivery_agent_bin is set too: one of them");
	c->lmtp_address = take_string(&l->k.lmtp_address, "");
	return 0;
}

static int take_duration(struct conf_loader *l, enum key key, const char *s, int64_t *seconds)
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

static void take_remote(struct conf_loader *l, struct conf *c)
{
	if (l->k.tls_roots && *l->k.tls_roots)
		c->tls_roots = take_string(&l->k.tls_roots, "");
	c->smarthosts = l->k.smarthost;
	l->k.smarthost = (struct conf_smarthosts){NULL, 0};
	c->masquerades = l->k.masquerade;
	l->k.masquerade = (struct conf_masquerades){NULL, 0};
}

static int take_all(struct conf_loader *l, struct conf *c)
{
	take_remote(l, c);
	c->local_crlf = l->k.local_line_ends == LINE_ENDS_CRLF;
	c->sender_login_check = !l->k.given[KEY_SENDER_LOGIN_CHECK] || l->k.sender_login_check;
	c->dnssec_resolver = l->k.dnssec_resolver;
	c->system_aliases = l->k.system_aliases;
	if (l->k.user && *l->k.user)
		c->user = take_string(&l->k.user, "");
	c->suffix_separators = take_string(&l->k.suffix_separators, "+");
	c->drop_characters = take_string(&l->k.drop_characters, ".");
	if (!c->suffix_separators || !c->drop_characters)
		return no_memory(l);
	if (take_hostname(l, c) < 0 || take_limits(l, c) < 0 || take_paths(l, c) < 0 ||
	    take_lmtp(l, c) < 0 || take_addresses(l, c) < 0 || take_dns_servers(l, c) < 0 ||
	    take_networks(l, c) < 0 || take_dovecot(l, c) < 0)
		return -1;
	return warn_unsupported(l);
}

/* ---- loading ---- */

static int read_all(struct conf_loader *l, const char *dir, char *path,
                    const char *const *overrides, size_t override_count)
{
	struct text_reader *r = malloc(sizeof(*r));
	if (!r)
		return no_memory(l);
	int rc = read_file(l, r, dir, path);
	for (size_t i = 0; rc == 0 && i < override_count; i++) {
		text_open_memory(r, "-o", overrides[i], strlen(overrides[i]));
		rc = read_keys(l, r);
	}
	free(r);
	return rc;
}

struct conf *conf_load(const char *dir, const char *const *overrides, size_t override_count,
                       char *err, size_t err_size)
{
	struct conf *c = calloc(1, sizeof(*c));
	struct conf_loader l = {.file = dir, .err = err, .err_size = err_size};
	char path[PATH_MAX];
	if (!c || !(c->dir = strdup(dir))) {
		free(c);
		no_memory(&l);
		return NULL;
	}
	text_init(&key_table, &l.k);
	int rc = read_all(&l, dir, path, overrides, override_count);
	if (rc == 0)
		rc = take_all(&l, c);
	clear_keys(&l.k);
	if (rc == 0 && chdir(dir) < 0) {
		snprintf(err, err_size, "%s: %s", dir, strerror(errno));
		rc = -1;
	}
	if (rc == 0)
		rc = conf_smarthost_check(&c->smarthosts, err, err_size);
	if (rc == 0)
		rc = confdomain_load(c, err, err_size);
	if (rc == 0)
		return c;
	conf_free(c);
	return NULL;
}

static void free_strings(struct text_strings *s)
{
	while (s->count > 0)
		free(s->item[--s->count]);
	free(s->item);
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	confdomain_clear(c);
	free_strings(&c->smtp_address);
	free_strings(&c->submission_address);
	free_strings(&c->submission_over_tls_address);
	free(c->user);
	free_strings(&c->mda_args);
	free(c->trusted);
	free(c->dir);
	free(c->hostname);
	free(c->mda_bin);
	free(c->maildir);
	free(c->lmtp_address);
	free(c->data_dir);
	free(c->suffix_separators);
	free(c->drop_characters);
	free(c->dns_servers);
	free(c->tls_roots);
	conf_smarthost_clear(&c->smarthosts);
	conf_masquerade_clear(&c->masquerades);
	free(c->dovecot_userdb_path);
	free(c->dovecot_client_path);
	free(c);
}

size_t conf_refresh(struct conf *c)
{
	return confdomain_refresh(c);
}

char *conf_find_data_dir(const char *dir)
{
	struct text_reader *r = malloc(sizeof(*r));
	char path[PATH_MAX], err[1], found[PATH_MAX];
	struct conf_loader l = {.file = dir, .err = err, .err_size = sizeof(err)};
	if (!r)
		return NULL;
	text_init(&key_table, &l.k);
	const char *data_dir = CONF_DATA_DIR;
	if (read_file(&l, r, dir, path) == 0 && l.k.data_dir && *l.k.data_dir)
		data_dir = l.k.data_dir;
	snprintf(found, sizeof(found), "%s%s%s", *data_dir == '/' ? "" : dir,
	         *data_dir == '/' ? "" : "/", data_dir);
	clear_keys(&l.k);
	free(r);
	return strdup(found);
}

/* ---- questions ---- */

const struct conf_domain *conf_domain_find(const struct conf *c, const char *name)
{
	size_t low = 0, high = c->domain_count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(name, c->domain[mid].name);
		if (order == 0)
			return &c->domain[mid];
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

bool conf_is_trusted(const struct conf *c, const struct dns_addr *from)
{
	for (size_t i = 0; i < c->trusted_count; i++)
		if (confvalue_net_has(&c->trusted[i], from))
			return true;
	return false;
}

static void print_list(struct text_writer *w, enum key key, const struct text_strings *list)
{
	for (size_t i = 0; i < list->count; i++)
		text_put_string(w, key_fields[key].name, list->item[i]);
}

static void print_networks(struct text_writer *w, const struct conf *c)
{
	bool public = false;
	for (size_t i = 0; i < c->trusted_count; i++) {
		char text[INET6_ADDRSTRLEN], net[INET6_ADDRSTRLEN + 5];
		snprintf(net, sizeof(net), "%s/%d", dns_addr_text(&c->trusted[i].addr, text),
		         c->trusted[i].bits);
		text_put_string(w, key_fields[KEY_TRUSTED_NETWORK].name, net);
		public = public || !confvalue_net_is_private(&c->trusted[i]);
	}
	if (public)
		text_put_bool(w, key_fields[KEY_TRUSTED_NETWORK_PUBLIC].name, true);
}

void conf_print(const struct conf *c, struct buf *out)
{
	struct text_writer w;
	char seconds[24];
	text_writer_init(&w, out);
	snprintf(seconds, sizeof(seconds), "%llds", (long long)c->give_up_send_after);
	text_put_string(&w, key_fields[KEY_HOSTNAME].name, c->hostname);
	text_put_int(&w, key_fields[KEY_MAX_DATA_SIZE_MB].name, c->max_data_size_mb);
	print_list(&w, KEY_SMTP_ADDRESS, &c->smtp_address);
	print_list(&w, KEY_SUBMISSION_ADDRESS, &c->submission_address);
	print_list(&w, KEY_SUBMISSION_OVER_TLS_ADDRESS, &c->submission_over_tls_address);
	text_put_bool(&w, key_fields[KEY_SENDER_LOGIN_CHECK].name, c->sender_login_check);
	if (c->user)
		text_put_string(&w, key_fields[KEY_USER].name, c->user);
	if (c->mda_bin) {
		text_put_string(&w, key_fields[KEY_MDA_BIN].name, c->mda_bin);
		print_list(&w, KEY_MDA_ARGS, &c->mda_args);
	}
	text_put_string(&w, key_fields[KEY_DATA_DIR].name, c->data_dir);
	text_put_string(&w, key_fields[KEY_SUFFIX_SEPARATORS].name, c->suffix_separators);
	text_put_string(&w, key_fields[KEY_DROP_CHARACTERS].name, c->drop_characters);
	text_put_int(&w, key_fields[KEY_MAX_QUEUE_ITEMS].name, c->max_queue_items);
	text_put_string(&w, key_fields[KEY_GIVE_UP_SEND_AFTER].name, seconds);
	text_put_string(&w, key_fields[KEY_MAILDIR].name, c->maildir);
	if (c->lmtp_address)
		text_put_string(&w, key_fields[KEY_LMTP_ADDRESS].name, c->lmtp_address);
	text_put_word(&w, key_fields[KEY_LOCAL_LINE_ENDS].name,
	              line_ends_names[c->local_crlf ? LINE_ENDS_CRLF : LINE_ENDS_LF].name);
	if (c->dns_servers)
		text_put_string(&w, key_fields[KEY_DNS_SERVERS].name, c->dns_servers);
	text_put_int(&w, key_fields[KEY_REMOTE_SMTP_PORT].name, c->remote_smtp_port);
	print_networks(&w, c);
	if (c->tls_roots)
		text_put_string(&w, key_fields[KEY_TLS_ROOTS].name, c->tls_roots);
	conf_smarthost_print(&c->smarthosts, &w);
	conf_masquerade_print(&c->masquerades, &w);
	text_put_int(&w, key_fields[KEY_TRUSTED_NETWORK_RATE].name, c->trusted_rate);
	text_put_bool(&w, key_fields[KEY_DOVECOT_AUTH].name, c->dovecot_auth);
	if (c->dovecot_userdb_path)
		text_put_string(&w, key_fields[KEY_DOVECOT_USERDB_PATH].name,
		                c->dovecot_userdb_path);
	if (c->dovecot_client_path)
		text_put_string(&w, key_fields[KEY_DOVECOT_CLIENT_PATH].name,
		                c->dovecot_client_path);
	text_put_bool(&w, key_fields[KEY_SYSTEM_ALIASES].name, c->system_aliases);
	text_put_bool(&w, key_fields[KEY_DNSSEC_RESOLVER].name, c->dnssec_resolver);
	if (c->domaininfo_expire > 0) {
		snprintf(seconds, sizeof(seconds), "%llds", (long long)c->domaininfo_expire);
		text_put_string(&w, key_fields[KEY_DOMAININFO_EXPIRE].name, seconds);
	}
}
