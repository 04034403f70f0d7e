/* dovecot: asks Dovecot's authentication server over its UNIX sockets. */
#ifndef DOVECOT_H
#define DOVECOT_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "config.h"
#include "dns_addr.h"
#include "io.h"

/* Where to ask. A socket whose path is NULL or "" is looked for in dir (NULL: DOVECOT_DIR), anew at
 * each question, so a Dovecot that comes up late or was started again is found. All are kept. */
struct dovecot_paths {
	const char *userdb; /* else auth-chasquid-userdb or auth-userdb */
	const char *client; /* else auth-chasquid-client or auth-client */
	const char *dir;
};

enum dovecot_result {
	DOVECOT_YES,
	DOVECOT_NO,
	DOVECOT_TROUBLE, /* cannot tell now; why says more */
};

/*
 * One question and its connection, embedded in its owner, zeroed before its first use. It ends in
 * exactly one `done`, from the loop, unless it is cancelled. In `done` the owner may ask again or
 * free the struct.
 */
struct dovecot {
	enum dovecot_result result;
	const char *why;                                /* plain words, with DOVECOT_TROUBLE */
	char user[ADDR_USER_MAX + ADDR_DOMAIN_MAX + 2]; /* authenticated as, in Dovecot's spelling;
	                                                    "" when it did not say */

	/* private */
	struct io io;
	struct loop_timer soon;
	void (*done)(void *arg, struct dovecot *d);
	void *arg;
	struct buf request; /* what is said after the greeting */
	size_t taken;       /* bytes of input */
	int state;
	bool used;
};

/*
 * Is there such a user (userdb protocol)? Is this the password (client protocol, SASL PLAIN; peer,
 * who may be NULL, is told to Dovecot for its log and penalties)? Names with blanks or control
 * characters, or that are not UTF-8, and passwords with NUL are answered DOVECOT_NO without asking.
 * Strings are copied.
 */
void dovecot_exists(struct dovecot *d, const struct dovecot_paths *paths, struct slice user,
                    void (*done)(void *arg, struct dovecot *d), void *arg);
void dovecot_authenticate(struct dovecot *d, const struct dovecot_paths *paths, struct slice user,
                          struct slice password, const struct dns_addr *peer,
                          void (*done)(void *arg, struct dovecot *d), void *arg);

/* No callback comes any more; the connection is closed. Harmless on an idle or zeroed struct. */
void dovecot_cancel(struct dovecot *d);

#endif
