/* smtpc: one SMTP client session (RFC 5321): a table of steps over a stream. */
#ifndef SMTPC_H
#define SMTPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "io.h"
#include "smtpreply.h"
#include "status.h"

/* Whom a verdict is about. */
enum smtpc_scope {
	SMTPC_RCPT,    /* this message for this recipient: final for this attempt */
	SMTPC_MESSAGE, /* the host does not take it, perhaps for its sender: another may */
	SMTPC_HOST     /* the host or the connection: another may. Transient, or 5.6.7 */
};

/* One message for some recipients, given to a session; it and all it points to are kept until
 * `done`. Addresses are canonical (addr_format). count is 1 to SPOOL_RCPTS_MAX. */
struct smtpc_mail {
	const char *from; /* "<>" for none */
	const char *const *rcpt;
	size_t count;
	uint64_t size;    /* of the content in bytes, 0 when not known */
	bool header_8bit; /* the header is not ASCII: needs SMTPUTF8, see smtpc_send */
	/* Content from its beginning, up to n bytes: as spool_read. Not called before a 354; -1
	 * ends the session before the final dot. */
	ssize_t (*read)(void *arg, char *p, size_t n, struct status *st);
	/* Exactly once a recipient, before done. Class 2: the peer has taken the message. */
	void (*verdict)(void *arg, size_t rcpt, const struct status *st, enum smtpc_scope scope);
	/* Exactly once, last. The session may be given another mail when smtpc_is_ready. */
	void (*done)(void *arg);
	void *arg;
};

struct smtpc;
struct tls_peer;
struct tls_roots;
enum smtpc_tls { SMTPC_TLS_NONE, SMTPC_TLS_STARTTLS, SMTPC_TLS_IMPLICIT };
/* BEST: PLAIN, or LOGIN where only that is offered. With XOAUTH2 the secret is a token. */
enum smtpc_mechanism { SMTPC_AUTH_BEST, SMTPC_AUTH_PLAIN, SMTPC_AUTH_LOGIN, SMTPC_AUTH_XOAUTH2 };

struct smtpc_login {
	const char *user;
	const char *secret;
	enum smtpc_mechanism mechanism;
};

/* How a session is protected. Zero: not at all. What it points to is kept. */
struct smtpc_security {
	enum smtpc_tls tls; /* STARTTLS is used when it is offered */
	bool required;      /* no STARTTLS, no session */
	struct tls_roots *roots;
	const char *name; /* of the host, ASCII: for SNI and the check of the certificate */
	/* Between the handshake and the first command under it: 0 to go on, or -1 with *st, which
	 * goes to ready. Gets the session's arg. NULL: anybody is good enough. */
	int (*judge)(void *arg, const struct tls_peer *peer, struct status *st);
	const struct smtpc_login *login; /* NULL: none. Never given without TLS */
};

/* What a session that did not get ready failed of, beside its status. */
enum smtpc_trouble {
	SMTPC_NO_TROUBLE,   /* neither of these */
	SMTPC_TLS_TROUBLE,  /* STARTTLS refused, or the handshake failed; not: judged */
	SMTPC_TLS_MISSING,  /* STARTTLS is required and not offered */
	SMTPC_LOGIN_TROUBLE /* the credentials were refused */
};

/* A client session on a stream that the caller opens (smtpc_io, io_connect). id is for the
 * log, ehlo the name we give (ASCII); both are kept. Callbacks come from the loop only: `ready`
 * once, class 2 when greeting, EHLO (or HELO), TLS and login are through, else why not; the session
 * then ends by itself. `ended` once, last, when the connection is closed, whoever closed it; the
 * session may be freed in it. NULL when there is no memory. */
struct smtpc *smtpc_new(const char *id, const char *ehlo,
                        void (*ready)(void *arg, const struct status *st), void (*ended)(void *arg),
                        void *arg);
struct io *smtpc_io(struct smtpc *c);

/* Says how the session is to be protected; before the stream is opened. Wrong credentials are a
 * transient status, for the message is not to blame. */
void smtpc_secure(struct smtpc *c, const struct smtpc_security *security);
enum smtpc_trouble smtpc_trouble(const struct smtpc *c);
/* Makes it LMTP (RFC 2033), before the stream is opened: LHLO, and after the final dot a reply for
 * each recipient accepted, in their order: its verdict. Whose reply does not come is transient, and
 * so are all when one comes ahead of the dot. */
void smtpc_speak_lmtp(struct smtpc *c);

/* When the peer gave a sign of life last: loop_now(), also during a handshake; 0: it has not. */
int64_t smtpc_heard(const struct smtpc *c);

/* Once ready: the extensions offered; what the peer calls itself (under STARTTLS: after EHLO). */
const struct smtp_caps *smtpc_caps(const struct smtpc *c);
const char *smtpc_greeting_name(const struct smtpc *c);

/* Starts a transaction. Only when smtpc_is_ready; may be called from ready and done.
 *
 * Recipients: a 25x to RCPT leaves the decision to the reply to the content; 5yz is permanent, all
 * else transient. A refusal of MAIL FROM is of the message's scope; a 421, a lost or silent
 * connection and garbage of the host's, but not once the dot is sent, for the peer may have the
 * message then. Domains go out in A-labels, unless a local part or the header is not ASCII and the
 * peer offers SMTPUTF8, which is then used (RFC 6531). Where it does not, a recipient with such a
 * local part fails with 550 5.6.7, and all do when it is the sender or, but for LMTP and without
 * SMTPD_STRICT_HEADER, the header; in the host's scope. A peer's SIZE limit (RFC 1870) below the
 * message fails it with 552 5.3.4. 8-bit content goes out as it is: re-coding breaks signatures. */
void smtpc_send(struct smtpc *c, const struct smtpc_mail *mail);
bool smtpc_is_ready(const struct smtpc *c);

/* A ready session gets another owner. id is kept, and login: that of smtpc_secure, if any. */
void smtpc_hand_on(struct smtpc *c, const char *id, const struct smtpc_login *login,
                   void (*ended)(void *arg), void *arg);

/* Says QUIT and closes as soon as what is under way is through; `ended` follows. */
void smtpc_quit(struct smtpc *c);
/* Closes and frees at once, silently, with QUIT to a ready peer. Not in verdict, ready, done. */
void smtpc_free(struct smtpc *c);

#endif
