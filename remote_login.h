/* remote_login: the password or token for a smarthost, from a file or a program. */
#ifndef REMOTE_LOGIN_H
#define REMOTE_LOGIN_H

#include "conf.h"
#include "proc.h"
#include "smtpc.h"
#include "status.h"

/*
 * One login, embedded in its owner, zeroed before its first use. A started one ends in exactly one
 * `done`, from the loop: class 2 and `login` is filled until remote_login_clear, or a transient
 * status that says why there is none.
 */
struct remote_login {
	struct smtpc_login login;

	/* private */
	const struct conf_smarthost *host;
	struct loop_timer kick;
	struct proc proc;
	char *secret;
	struct status why;
	void (*done)(void *arg, const struct status *st);
	void *arg;
};

/* Gets the secret of a smarthost with a user. s is kept. While it was refused lately
 * (remote_login_refused) and has not changed since, the answer is transient without asking the host
 * again: wrong passwords lock accounts. */
void remote_login_start(struct remote_login *l, const struct conf_smarthost *s,
                        void (*done)(void *arg, const struct status *st), void *arg);

/* The host said that this login is wrong. */
void remote_login_refused(const struct remote_login *l);

/* A login that is there moves to another owner, `to`, which holds none; from holds none then. */
void remote_login_move(struct remote_login *to, struct remote_login *from);

/* Wipes the secret; a program under way is ended; no callback comes. Harmless when idle. */
void remote_login_clear(struct remote_login *l);

#endif
