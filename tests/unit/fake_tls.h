/* fake_tls: TLS without cryptography and passwords without files, that tests of the SMTP server can
 * steer. On a detached stream TLS is a mark: bytes stay as they are. */
#ifndef FAKE_TLS_H
#define FAKE_TLS_H

#include "auth.h"
#include "tls.h"

struct fake_tls {
	/* What is to happen. */
	bool accept_fails; /* tls_accept: no memory */
	bool throttled;    /* auth_may_try says no */
	bool trouble;      /* every answer is AUTH_TROUBLE */
	/* What happened. */
	int open;     /* struct tls not freed */
	int asked;    /* questions so far */
	int waiting;  /* questions without an answer */
	char id[300]; /* of the last question */
	char password[300];
};

extern struct fake_tls fake_tls;

/* One certificate, or none. */
extern struct tls_certs *const fake_certs;
extern struct tls_certs *const fake_no_certs;

/* Answers the question that waits: the password "secret" is that of every user of here.test, "bare"
 * has no domain. False when none waits. */
bool fake_auth_run(void);

#endif
