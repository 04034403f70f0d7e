/*
 * conf_keys: the keys of chasq.conf: how each is written there, and where its value lies in struct
 * conf. A new key gets a line in each of the two tables, and its check in conf_take.c.
 */
#include "conf_int.h"

#include <string.h>

#include "log.h"

const struct text_enum conf_line_ends[] = {
    {"LF", LINE_ENDS_LF}, {"CRLF", LINE_ENDS_CRLF}, {NULL, 0}};
const struct text_enum conf_levels[] = {
    {"error", LOG_LEVEL_ERROR}, {"info", LOG_LEVEL_INFO}, {"debug", LOG_LEVEL_DEBUG}, {NULL, 0}};

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
const struct text_field conf_key_fields[KEYS] = {
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
                             .names = conf_line_ends},
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
    KEY_FIELD(KEY_LOG_PATH, 118, TEXT_STRING, log_path, "log_path"),
    KEY_FIELD(KEY_LOG_LEVEL, 119, TEXT_STRING, log_level, "log_level"),
    KEY_FIELD(KEY_MONITORING_PASSWORD_FILE, 120, TEXT_STRING, monitoring_password_file,
              "monitoring_password_file"),
    KEY_FIELD(KEY_CONTROL_MODE, 121, TEXT_STRING, control_mode, "control_mode"),
    KEY_FIELD(KEY_CONTROL_OWNER, 122, TEXT_STRING, control_owner, "control_owner"),
    KEY_LIST(KEY_CONTROL_USERS, 123, control_users, "control_users"),
    KEY_FIELD(KEY_HAPROXY_INCOMING, 16, TEXT_BOOL, haproxy_incoming, "haproxy_incoming"),
    KEY_LIST(KEY_HAPROXY_TRUSTED, 134, haproxy_trusted, "haproxy_trusted"),
    KEY_FIELD(KEY_SANDBOX, 130, TEXT_BOOL, sandbox, "sandbox"),
    KEY_LIST(KEY_SANDBOX_READABLE, 131, sandbox_readable, "sandbox_readable"),
    KEY_LIST(KEY_SANDBOX_WRITABLE, 132, sandbox_writable, "sandbox_writable"),
};
const struct text_message conf_key_table = TEXT_TABLE(conf_key_fields, struct conf_keys);

/* trusted_network_public follows from the networks. */
#define SLOT(kind, member)                                 \
	{                                                  \
		SLOT_##kind, offsetof(struct conf, member) \
	}

const struct conf_slot conf_slots[KEYS] = {
    [KEY_HOSTNAME] = SLOT(STRING, hostname),
    [KEY_MAX_DATA_SIZE_MB] = SLOT(NUMBER, max_data_size_mb),
    [KEY_SMTP_ADDRESS] = SLOT(LIST, smtp_address),
    [KEY_SUBMISSION_ADDRESS] = SLOT(LIST, submission_address),
    [KEY_SUBMISSION_OVER_TLS_ADDRESS] = SLOT(LIST, submission_over_tls_address),
    [KEY_SENDER_LOGIN_CHECK] = SLOT(BOOL, sender_login_check),
    [KEY_USER] = SLOT(STRING, user),
    [KEY_MDA_BIN] = SLOT(STRING, mda_bin),
    [KEY_MDA_ARGS] = SLOT(LIST, mda_args),
    [KEY_DATA_DIR] = SLOT(STRING, data_dir),
    [KEY_SUFFIX_SEPARATORS] = SLOT(STRING, suffix_separators),
    [KEY_DROP_CHARACTERS] = SLOT(STRING, drop_characters),
    [KEY_MAX_QUEUE_ITEMS] = SLOT(NUMBER, max_queue_items),
    [KEY_GIVE_UP_SEND_AFTER] = SLOT(SECONDS, give_up_send_after),
    [KEY_MAILDIR] = SLOT(STRING, maildir),
    [KEY_LMTP_ADDRESS] = SLOT(STRING, lmtp_address),
    [KEY_LOCAL_LINE_ENDS] = SLOT(LINE_ENDS, local_crlf),
    [KEY_DNS_SERVERS] = SLOT(STRING, dns_servers),
    [KEY_REMOTE_SMTP_PORT] = SLOT(NUMBER, remote_smtp_port),
    [KEY_TRUSTED_NETWORK] = SLOT(NETS, trusted),
    [KEY_TLS_ROOTS] = SLOT(STRING, tls_roots),
    [KEY_SMARTHOST] = SLOT(SMARTHOSTS, smarthosts),
    [KEY_MASQUERADE] = SLOT(MASQUERADES, masquerades),
    [KEY_TRUSTED_NETWORK_RATE] = SLOT(NUMBER, trusted_rate),
    [KEY_DOVECOT_AUTH] = SLOT(BOOL, dovecot_auth),
    [KEY_DOVECOT_USERDB_PATH] = SLOT(STRING, dovecot_userdb_path),
    [KEY_DOVECOT_CLIENT_PATH] = SLOT(STRING, dovecot_client_path),
    [KEY_SYSTEM_ALIASES] = SLOT(BOOL, system_aliases),
    [KEY_DNSSEC_RESOLVER] = SLOT(BOOL, dnssec_resolver),
    [KEY_DOMAININFO_EXPIRE] = SLOT(SECONDS, domaininfo_expire),
    [KEY_LOG_PATH] = SLOT(STRING, log_path),
    [KEY_LOG_LEVEL] = SLOT(LEVEL, log_level),
    [KEY_MAIL_LOG_PATH] = SLOT(STRING, mail_log_path),
    [KEY_MONITORING_ADDRESS] = SLOT(STRING, monitoring_address),
    [KEY_MONITORING_PASSWORD_FILE] = SLOT(STRING, monitoring_password_file),
    [KEY_CONTROL_MODE] = SLOT(MODE, control_mode),
    [KEY_CONTROL_OWNER] = SLOT(STRING, control_owner),
    [KEY_CONTROL_USERS] = SLOT(LIST, control_users),
    [KEY_HAPROXY_INCOMING] = SLOT(BOOL, haproxy_incoming),
    [KEY_HAPROXY_TRUSTED] = SLOT(NETS, proxies),
    [KEY_SANDBOX] = SLOT(BOOL, sandbox),
    [KEY_SANDBOX_READABLE] = SLOT(LIST, sandbox_readable),
    [KEY_SANDBOX_WRITABLE] = SLOT(LIST, sandbox_writable),
};

static size_t slot_size(enum conf_slot_kind kind)
{
	switch (kind) {
	case SLOT_NONE:
		return 0;
	case SLOT_STRING:
		return sizeof(char *);
	case SLOT_BOOL:
	case SLOT_LINE_ENDS:
		return sizeof(bool);
	case SLOT_LIST:
	case SLOT_NETS: /* pointer and count, all of them */
	case SLOT_SMARTHOSTS:
	case SLOT_MASQUERADES:
		return sizeof(struct text_strings);
	default:
		return sizeof(int64_t);
	}
}

_Static_assert(sizeof(struct conf_smarthosts) == sizeof(struct text_strings) &&
                   sizeof(struct conf_masquerades) == sizeof(struct text_strings) &&
                   sizeof(struct conf_nets) == sizeof(struct text_strings),
               "lists are swapped as pointer and count");

void conf_origin_swap(struct conf *a, struct conf *b, enum conf_key key)
{
	int line = a->origins->line[key];
	bool by_hand = a->origins->by_hand[key];
	a->origins->line[key] = b->origins->line[key];
	a->origins->by_hand[key] = b->origins->by_hand[key];
	b->origins->line[key] = line;
	b->origins->by_hand[key] = by_hand;
}

void conf_slot_swap(struct conf *a, struct conf *b, enum conf_key key)
{
	char hold[sizeof(struct text_strings)];
	char *x = (char *)a + conf_slots[key].offset, *y = (char *)b + conf_slots[key].offset;
	size_t n = slot_size(conf_slots[key].kind);
	memcpy(hold, x, n);
	memcpy(x, y, n);
	memcpy(y, hold, n);
	conf_origin_swap(a, b, key);
}
