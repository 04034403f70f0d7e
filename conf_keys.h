/* conf_keys: the keys of chasq.conf and how they are written. Private to conf. */
#ifndef CONF_KEYS_H
#define CONF_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "conf_smarthost.h"
#include "textfield.h"

/* In the order in which conf_print writes them. */
enum conf_key {
	KEY_HOSTNAME,
	KEY_MAX_DATA_SIZE_MB,
	KEY_SMTP_ADDRESS,
	KEY_SUBMISSION_ADDRESS,
	KEY_SUBMISSION_OVER_TLS_ADDRESS,
	KEY_SENDER_LOGIN_CHECK,
	KEY_USER,
	KEY_MDA_BIN,
	KEY_MDA_ARGS,
	KEY_DATA_DIR,
	KEY_SUFFIX_SEPARATORS,
	KEY_DROP_CHARACTERS,
	KEY_MAX_QUEUE_ITEMS,
	KEY_GIVE_UP_SEND_AFTER,
	KEY_MAILDIR,
	KEY_LMTP_ADDRESS,
	KEY_LOCAL_LINE_ENDS,
	KEY_DNS_SERVERS,
	KEY_REMOTE_SMTP_PORT,
	KEY_TRUSTED_NETWORK,
	KEY_TRUSTED_NETWORK_PUBLIC,
	KEY_TLS_ROOTS,
	KEY_SMARTHOST,
	KEY_MASQUERADE,
	KEY_TRUSTED_NETWORK_RATE,
	KEY_DOVECOT_AUTH,
	KEY_DOVECOT_USERDB_PATH,
	KEY_DOVECOT_CLIENT_PATH,
	KEY_SYSTEM_ALIASES,
	KEY_DNSSEC_RESOLVER,
	KEY_DOMAININFO_EXPIRE,
	KEY_LOG_PATH,
	KEY_LOG_LEVEL,
	KEY_MAIL_LOG_PATH,
	KEY_MONITORING_ADDRESS,
	KEY_MONITORING_PASSWORD_FILE,
	KEY_CONTROL_MODE,
	KEY_CONTROL_OWNER,
	KEY_CONTROL_USERS,
	KEY_HAPROXY_INCOMING,
	KEY_HAPROXY_TRUSTED,
	KEY_SANDBOX,
	KEY_SANDBOX_READABLE,
	KEY_SANDBOX_WRITABLE,
	KEYS
};

/* The keys as they were written. */
struct conf_keys {
	char *hostname;
	int64_t max_data_size_mb;
	struct text_strings smtp_address, submission_address, submission_over_tls_address;
	char *mda_bin;
	struct text_strings mda_args;
	char *data_dir, *suffix_separators, *drop_characters, *user;
	int64_t max_queue_items;
	char *give_up_send_after, *domaininfo_expire;
	char *maildir, *lmtp_address, *dns_servers, *tls_roots;
	int64_t remote_smtp_port;
	struct conf_smarthosts smarthost;
	struct conf_masquerades masquerade;
	struct text_strings trusted_network, haproxy_trusted;
	int64_t trusted_network_rate;
	char *dovecot_userdb_path, *dovecot_client_path;
	char *log_path, *log_level, *mail_log_path;
	char *monitoring_address, *monitoring_password_file;
	char *control_mode, *control_owner;
	struct text_strings control_users, sandbox_readable, sandbox_writable;
	int given[KEYS];
	const char *source[KEYS]; /* the file it was given in */
	int local_line_ends;
	bool trusted_network_public, sender_login_check, dovecot_auth, dnssec_resolver;
	bool system_aliases, haproxy_incoming, sandbox;
};

extern const struct text_field conf_key_fields[KEYS];
extern const struct text_message conf_key_table;
extern const struct text_enum conf_line_ends[], conf_levels[];
enum { LINE_ENDS_LF, LINE_ENDS_CRLF };

#endif
