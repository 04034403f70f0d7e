/* conf_smarthost: how mail leaves: through which smarthost, and under which name (masquerade). */
#ifndef CONF_SMARTHOST_H
#define CONF_SMARTHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "dns_addr.h"
#include "textfield.h"

/* "user@domain", "*@domain" or "*": NULL stands for any. Only "*" matches the null sender. */
struct conf_pattern {
	char *user;
	char *domain; /* normalised */
};

enum conf_smarthost_tls { CONF_TLS_STARTTLS, CONF_TLS_IMPLICIT, CONF_TLS_NONE };
enum conf_smarthost_auth { CONF_AUTH_BEST, CONF_AUTH_PLAIN, CONF_AUTH_LOGIN, CONF_AUTH_XOAUTH2 };

struct conf_smarthost {
	char *host;    /* ASCII name, or the address as text */
	bool has_addr; /* it is an address: `addr` */
	struct dns_addr addr;
	uint16_t port;
	enum conf_smarthost_tls tls;
	enum conf_smarthost_auth auth;
	char *user;          /* NULL: no login */
	char *password_file; /* one of these with a user; else NULL */
	char *password_command;
	bool insecure; /* any certificate will do */
	bool pinned;   /* the one with this fingerprint will do, no other */
	unsigned char sha256[32];
	struct conf_pattern *sender;
	size_t sender_count;
	unsigned holds; /* private: of the whole list, in its first item */
};

struct conf_smarthosts {
	struct conf_smarthost *item; /* in order of appearance */
	size_t count;
};

/* Senders that match `from` become `to`; with keep_user only the domain is replaced. */
struct conf_masquerade {
	struct conf_pattern from;
	struct addr to;
	bool keep_user;
};

struct conf_masquerades {
	struct conf_masquerade *item;
	size_t count;
};

/* For the tables of conf.c: a block as it is read; what `take` does with it. Checks all but files;
 * 0, or -1 after text_fail. */
extern const struct text_message conf_smarthost_table, conf_masquerade_table;
int conf_smarthost_add(struct conf_smarthosts *list, struct text_reader *r, void *element);
int conf_masquerade_add(struct conf_masquerades *list, struct text_reader *r, void *element);

/* Can the passwords be read? 0, or -1 with err written. */
int conf_smarthost_check(const struct conf_smarthosts *list, char *err, size_t err_size);

/* A list that stays as it is until conf_smarthost_clear, whatever becomes of the configuration. */
struct conf_smarthosts conf_smarthost_hold(const struct conf_smarthosts *list);

void conf_smarthost_clear(struct conf_smarthosts *list);
void conf_masquerade_clear(struct conf_masquerades *list);
void conf_smarthost_print(const struct conf_smarthosts *list, struct text_writer *w);
void conf_masquerade_print(const struct conf_masquerades *list, struct text_writer *w);

/* The first line of password_file, NUL terminated, into out. A file that others may read is
 * refused. 0, or -1 with the reason in why ("FILE: reason"). */
int conf_smarthost_password(const struct conf_smarthost *s, char *out, size_t size, char *why,
                            size_t why_size);

/* The first smarthost at or behind `from` that takes mail of this sender (after masquerade); count
 * when there is none. */
size_t conf_smarthost_find(const struct conf_smarthosts *list, const struct addr *sender,
                           size_t from);

/* Gives a sender the name it has outside, by the first rule that matches. The null sender stays.
 * True when it changed. */
bool conf_masquerade_apply(const struct conf_masquerades *list, struct addr *a);

#endif
