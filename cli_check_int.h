/* cli_check_int: what the files of check share. */
#ifndef CLI_CHECK_INT_H
#define CLI_CHECK_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"
#include "config.h"
#include "dns_addr.h"
#include "priv.h"
#include "tls.h"

enum check_level {
	CHECK_OK,
	CHECK_NOTE,    /* good to know; nothing to do, or it could not be looked at */
	CHECK_WARNING, /* works, but not for everybody or not for long */
	CHECK_ERROR    /* does not work */
};

struct check_addrs {
	size_t count;
	struct dns_addr addr[CHECK_ADDRS_MAX];
};

struct check {
	const char *domain; /* normalised; NULL: all of ours */
	const char *target; /* a server to be reached by port 25, ASCII; NULL: none was named */
	uint16_t target_port;
	struct conf *conf;
	struct tls_roots *roots;
	int64_t end; /* loop_now() */
	bool root;   /* this process is */
	bool has_user;
	struct priv_user user;              /* that the server becomes */
	bool running;                       /* the server is */
	bool lan;                           /* our name is not in public DNS */
	bool no_dns;                        /* the name servers do not answer */
	char other_mx[ADDR_DOMAIN_MAX + 1]; /* a mail server of one of our domains that is not us */
	struct check_addrs own;             /* of our interfaces, but for loopback */
	struct check_addrs source;          /* that connections to the Internet come from */
	struct check_addrs host;            /* of our name in DNS */
	size_t errors;
	size_t warnings;
	int width; /* of the terminal; 0: none, a finding is one line */
};

/* ---- cli_check.c ---- */

/* A heading for the findings that follow. */
void check_group(const char *title);

/* A finding: what is the case, and what to do about it. */
void check_say(struct check *c, enum check_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Is the time for all of it over? */
bool check_is_late(const struct check *c);

bool check_addrs_have(const struct check_addrs *list, const struct dns_addr *a);
void check_addrs_add(struct check_addrs *list, const struct dns_addr *a);

/* Can anybody on the Internet have it: not loopback, private, link-local, or none at all? */
bool check_addr_is_public(const struct dns_addr *a);

/* ---- cli_check_files.c: files, rights, room, certificates ---- */

void check_files(struct check *c);
void check_certificates(struct check *c);

/* ---- cli_check_ports.c: our listeners, smarthosts, the way out ---- */

void check_ports(struct check *c);
void check_way_out(struct check *c);

/* ---- cli_check_dns.c: what DNS says of us and our domains ---- */

void check_dns(struct check *c);

#endif
