/* smtpd_int: what the session engine and its commands (smtpd_*.c) share. Private. */
#ifndef SMTPD_INT_H
#define SMTPD_INT_H

#include "authres.h"
#include "header.h"
#include "smtp.h"
#include "smtpbody.h"
#include "smtpd.h"
#include "smtpd_reply.h"

/* In the order of a session's life; commands are served in those before SMTPD_DATA. */
enum smtpd_state {
	SMTPD_START,     /* before EHLO or HELO */
	SMTPD_READY,     /* greeted, no transaction */
	SMTPD_MAIL,      /* a sender, no recipient */
	SMTPD_RCPT,      /* a sender and recipients */
	SMTPD_SASL,      /* a line of an AUTH exchange comes in */
	SMTPD_DATA,      /* content comes in */
	SMTPD_HANDSHAKE, /* TLS is waited for; from here on input stays where it is */
	SMTPD_CHECK,     /* a verdict on a password, sender, recipient or message is waited for */
	SMTPD_COMMIT,    /* the disk is waited for */
	SMTPD_END,       /* the last reply was given, the stream is being closed */
	SMTPD_GONE,      /* the stream is closed, the disk still waited for */
};

/* What becomes of the input after a step. */
enum smtpd_next {
	SMTPD_NEXT,  /* the next command */
	SMTPD_MORE,  /* more bytes are needed */
	SMTPD_WAIT,  /* parked; who resumes the session drives the input that is left */
	SMTPD_CLOSE, /* the last reply was given; s->why says why */
};

/* One message on its way in, from MAIL on. Made by smtpd_txn_begin, undone by smtpd_txn_clear. */
struct smtpd_txn {
	struct spool_writer *writer; /* NULL before DATA, and once the size is too big */
	struct smtpd_rcpt *rcpt;     /* a RCPT under way; NULL otherwise */
	struct smtpd_post *post;     /* the copy for hooks/post-data; NULL: no such hook at DATA */
	int64_t size;                /* content so far, without our own field */
	bool counted;                /* in the share of a trusted host, and it had one left */
	bool spf;                    /* its sender was checked */
	struct envelope env;
	struct smtp_body_in body;
	struct header_scan scan;
	struct authres_filter filter;
};

struct smtpd_sasl;

/* Who logged in. */
struct smtpd_login {
	struct addr addr; /* as auth.h says it */
	char text[ADDR_TEXT_MAX];
};

struct smtpd {
	const struct smtpd_setup *setup;
	void (*ended)(void *arg);
	void *arg;
	struct smtpd_txn *txn;     /* NULL when there is none */
	struct tls *tls;           /* prepared, not yet the stream's; NULL otherwise */
	struct smtpd_sasl *sasl;   /* an AUTH exchange under way */
	struct smtpd_spf *spf;     /* checks of senders; NULL: none so far */
	struct smtpd_owner *owner; /* whose address a sender is, being asked; NULL otherwise */
	struct smtpd_login *login; /* NULL: nobody */
	char *helo;                /* the name given with EHLO, harmless; NULL before it */
	const char *why;           /* the session ends */
	int64_t ends, brought; /* loop_now() when its time is over; of its last message or start */
	enum smtpd_state state;
	unsigned errors;
	unsigned idle;     /* commands since the last message that brought none nearer */
	unsigned failures; /* logins that failed */
	bool esmtp;
	bool utf8;             /* MAIL asked for SMTPUTF8: counts until the transaction is over */
	bool secured, leaving; /* the stream is TLS; asked to go */
	bool lost;             /* the stream is gone, its SPF check is still waited for */
	bool long_line;        /* the rest of a line is thrown away */
	struct smtpd_peer peer;
	struct io io;
	struct loop_timer again; /* drives input that is left over from a turn */
	char id[12];             /* for the log */
	char who[INET6_ADDRSTRLEN > 64 ? INET6_ADDRSTRLEN : 64]; /* the peer, for log and trace */
};

/* The one place that changes the state; sets the time limit that goes with it. */
void smtpd_enter(struct smtpd *s, enum smtpd_state state);

/* Gives a reply; each command gets exactly one. Counts errors: the one too many becomes 421, and
 * s->why is set then. */
void smtpd_say(struct smtpd *s, enum smtpd_reply reply);
void smtpd_say_status(struct smtpd *s, const struct status *st);

/* A reply without enhanced code (greetings, RFC 2034 3); each \n in text begins a new line. */
void smtpd_say_text(struct smtpd *s, int code, const char *text);

/* The same for what is refused of a message, with a line in the log. to may be NULL. */
void smtpd_reject(struct smtpd *s, const char *from, const char *to, const struct status *st);

/* Begins a transaction: takes a place in the queue. 0, or -1 with *st and none begun. Ends one,
 * whatever there is of it. */
int smtpd_txn_begin(struct smtpd *s, const char *from, int64_t size, struct status *st);
void smtpd_txn_clear(struct smtpd *s);

/* The message size limit, in bytes. */
int64_t smtpd_size_max(const struct smtpd *s);

/* Opens the spool and puts our fields in. 0, or -1 with *st. */
int smtpd_content_begin(struct smtpd *s, struct status *st);

/* Serves one command line (line end removed). */
enum smtpd_next smtpd_command(struct smtpd *s, struct slice line);

/* Gives the reply as the last one. */
enum smtpd_next smtpd_say_last(struct smtpd *s, enum smtpd_reply reply, const char *why);

/* Goes on after a wait, from the loop: serves what input is left, or ends when s->why is set. */
void smtpd_resume(struct smtpd *s);

#endif
