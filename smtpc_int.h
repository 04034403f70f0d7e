/* smtpc_int: what the two files of the SMTP client share: the session, its steps, how it fails. */
#ifndef SMTPC_INT_H
#define SMTPC_INT_H

#include "addr.h"
#include "config.h"
#include "smtpbody.h"
#include "smtpc.h"

enum state {
	S_CONNECT,
	S_GREETING,
	S_EHLO,
	S_HELO,
	S_LHLO,
	S_STARTTLS,
	S_HANDSHAKE,
	S_AUTH,
	S_CREDENTIALS,
	S_READY,
	S_MAIL,
	S_RCPT,
	S_DATA,
	S_BODY,
	S_FINAL,
	S_RSET,
	S_QUIT,
	S_CLOSE,
	S_STATES
};

enum mark {
	R_OPEN,     /* no answer yet */
	R_ACCEPTED, /* 25x to RCPT */
	R_SETTLED,  /* has its verdict; if RCPT was sent, its reply is still counted */
	R_SKIP      /* has its verdict and no RCPT is sent for it */
};

struct smtpc {
	enum state state;
	const char *id;
	const char *ehlo;
	void (*ready)(void *arg, const struct status *st);
	void (*ended)(void *arg);
	void *arg;
	const struct smtpc_mail *mail; /* NULL between transactions */
	int64_t end;                   /* of the whole session, loop_now() */
	int64_t heard;                 /* smtpc_heard() */
	size_t unsent;                 /* when the time-out began to run */
	/* Commands of the envelope: 0 is MAIL, 1 to count the RCPTs, count + 1 DATA. */
	size_t sent;
	size_t answered;
	size_t accepted; /* recipients with a 25x; in LMTP without a reply to the content */
	size_t replied;  /* LMTP: recipients before this one have theirs */
	enum smtpc_trouble trouble;
	enum smtpc_mechanism mechanism; /* the one chosen */
	unsigned responses;             /* parts of the login that were sent */
	bool lmtp;
	bool utf8; /* the transaction is under SMTPUTF8 */
	bool told_ready;
	bool quitting;
	bool abandoned; /* nothing of the envelope is to be sent any more */
	bool in_data;   /* from the 354 to the reply to the content */
	bool dot_sent;  /* the final dot has left us: a link lost now may mean a duplicate */
	bool broken;    /* the stream is */
	bool secured;   /* the handshake is through and judged good enough */
	struct io io;
	struct loop_timer kick; /* what callers ask for happens in the next turn */
	struct smtp_body_out body;
	struct smtpc_security security;
	struct smtp_reply reply;
	struct smtp_caps caps;
	char greeting[ADDR_DOMAIN_MAX + 1];
	unsigned char mark[SPOOL_RCPTS_MAX]; /* enum mark */
};

struct step {
	const char *name;
	int64_t limit_ms; /* for the reply, from the last time our side was sent */
	enum state (*send)(struct smtpc *c);    /* on entry; may be NULL */
	enum state (*drained)(struct smtpc *c); /* all was sent; may be NULL */
	enum state (*got)(struct smtpc *c, const struct smtp_reply *r);
};

/* ---- smtpc.c ---- */
extern const struct step smtpc_steps[S_STATES];

/* Tells the caller, once, that the session may be used, or why not. */
void smtpc_tell_ready(struct smtpc *c, const struct status *st);

/* A refusal as it was given; what is neither 4yz nor 5yz does not belong here: put into words. */
const struct status *smtpc_refusal(const struct smtpc *c, const struct smtp_reply *r,
                                   struct status *buffer);

/* The connection or the host is of no use any more. */
enum state smtpc_fail(struct smtpc *c, const struct status *st);
enum state smtpc_fail_unexpected(struct smtpc *c, const struct smtp_reply *r);

/* ---- smtpc_open.c: from the connection to ready ---- */
/* What happens when the connection is there, and when the handshake is through. */
enum state smtpc_connected(struct smtpc *c);
enum state smtpc_judge(struct smtpc *c);
/* Steps of the table. */
enum state smtpc_got_greeting(struct smtpc *c, const struct smtp_reply *r);
enum state smtpc_send_ehlo(struct smtpc *c);
enum state smtpc_got_ehlo(struct smtpc *c, const struct smtp_reply *r);
enum state smtpc_send_helo(struct smtpc *c);
enum state smtpc_send_lhlo(struct smtpc *c);
enum state smtpc_got_helo(struct smtpc *c, const struct smtp_reply *r);
enum state smtpc_send_starttls(struct smtpc *c);
enum state smtpc_got_starttls(struct smtpc *c, const struct smtp_reply *r);
enum state smtpc_begin_tls(struct smtpc *c);
enum state smtpc_send_auth(struct smtpc *c);
enum state smtpc_send_credentials(struct smtpc *c);
enum state smtpc_got_auth(struct smtpc *c, const struct smtp_reply *r);

/* Replaces a text of the peer's that repeats the password or token, or its base64. */
void smtpc_hide_secret(const struct smtpc *c, struct status *st);

#endif
