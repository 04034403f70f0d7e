/* conf: chasq.conf and what the directory beside it says about domains. */
#ifndef CONF_H
#define CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "alias.h"
#include "conf_smarthost.h"
#include "conf_watch.h"
#include "config.h"
#include "dns.h"
#include "textfield.h"
#include "user.h"

struct conf_net {
	struct dns_addr addr;
	int bits; /* of the prefix */
};

struct conf_nets {
	struct conf_net *item;
	size_t count;
};

/* One of our own domains. */
struct conf_domain {
	char *name;                           /* normalised */
	struct user_table *users;             /* NULL: none */
	struct alias_table *aliases, *system; /* its own; for one domain also the system's */
	bool unread; /* its files could not be read so far: mail for it has to wait */
	/* private */
	char *entry;               /* in domains/; NULL for a localhost that has no directory */
	struct conf_watch file[3]; /* users, aliases, the system's */
};

/* Keys of chasq.conf(5): chasquid's names, meanings and defaults where it has them. */
struct conf {
	char *dir;      /* as given with -c; the process works in it */
	char *hostname; /* ASCII */
	int64_t max_data_size_mb;
	struct text_strings smtp_address;
	struct text_strings submission_address;
	struct text_strings submission_over_tls_address;
	bool sender_login_check;
	char *user;    /* to become when started as root; NULL: none */
	char *mda_bin; /* NULL: Maildir */
	struct text_strings mda_args;
	char *maildir;      /* with %replacements% */
	char *lmtp_address; /* NULL: mda_bin or Maildir */
	char *data_dir;
	char *suffix_separators;
	char *drop_characters;
	bool local_crlf;   /* local_line_ends: CRLF */
	char *dns_servers; /* NULL: those of the system */
	int64_t remote_smtp_port;
	char *tls_roots; /* NULL: the system's */
	struct conf_smarthosts smarthosts;
	struct conf_masquerades masquerades;
	bool system_aliases; /* ALIAS_SYSTEM_FILE counts for the hostname, or localhost */
	bool dovecot_auth;
	char *dovecot_userdb_path; /* NULL: looked for, see dovecot.h */
	char *dovecot_client_path;
	char *log_path;                    /* see log_sink_open; NULL: standard error */
	int64_t log_level;                 /* enum log_level */
	char *mail_log_path;               /* see log_sink_open; "" is nowhere */
	char *monitoring_address;          /* NULL: no monitoring */
	char *monitoring_password_file;    /* NULL: none */
	int64_t control_mode;              /* of the control socket's file */
	char *control_owner;               /* "user:group", "user", ":group"; NULL: ours */
	struct text_strings control_users; /* may command, besides root and our own user */
	int64_t max_queue_items;
	int64_t give_up_send_after; /* seconds */
	bool dnssec_resolver;       /* the resolver on this machine validates (RFC 4035) */
	int64_t domaininfo_expire;  /* seconds; 0: never */
	struct conf_nets trusted;
	int64_t trusted_rate; /* messages an hour of each trusted host; 0: no limit */
	bool sandbox;         /* Landlock and seccomp */
	struct text_strings sandbox_readable, sandbox_writable;
	struct conf_domain *domain; /* sorted by name */
	size_t domain_count;
	bool haproxy_incoming;    /* connections begin with the header of a proxy */
	struct conf_nets proxies; /* haproxy_trusted: where those proxies are */
	size_t refused;           /* by the last conf_refresh: files that stay as they were */
	char refused_why[256];    /* why the first of them does */
	/* private */
	struct conf_watch domains_dir;
	struct conf_origins *origins;
	struct text_strings overrides;
};

/* Reads DIR/chasq.conf (chasquid.conf when there is no chasq.conf), then the overrides (each a
 * fragment in the same format, "-o" in text for messages), then domains/. Changes the working
 * directory to DIR. Returns NULL after writing "file:line: key: reason" into err (err_size bytes).
 * The caller frees with conf_free. What is taken over later while running: conf_reload.h. */
struct conf *conf_load(const char *dir, const char *const *overrides, size_t override_count,
                       char *err, size_t err_size);
void conf_free(struct conf *c);

/* Reads users and aliases of all domains again, and looks for new domains, when their files have
 * changed. A file that has become bad keeps its old content; why is logged once, and told in
 * refused_why. Returns how many files were read anew. Pointers to domains do not outlive it. */
size_t conf_refresh(struct conf *c);

/* The domain with this normalised name, or NULL when it is not ours. "localhost" always is. */
const struct conf_domain *conf_domain_find(const struct conf *c, const char *name);

/* May this address relay through us without authentication? */
bool conf_is_trusted(const struct conf *c, const struct dns_addr *from);

/* May this address say, with the header of a proxy, whose connection it passes on? */
bool conf_is_proxy(const struct conf *c, const struct dns_addr *from);

/* For tools: the data directory that DIR's file names, also when the rest of it is bad, or else the
 * default. NULL only without memory; the caller frees. */
char *conf_find_data_dir(const char *dir);

#endif
