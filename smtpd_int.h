/* smtpd_int: what the session engine (smtpd.c) and its commands (smtpd_cmd.c) share. Private. */
#ifndef SMTPD_INT_H
#define SMTPD_INT_H

#include "header.h"
#include "smtp.h"
#include "smtpbody.h"
#include "smtpd.h"

/* In the order of a session's life; commands are served in those before SMTPD_DATA. */
enum smtpd_state {
	SMTPD_START,  /* before EHLO or HELO */
	SMTPD_READY,  /* greeted, no transaction */
	SMTPD_MAIL,   /* a sender, no recipient */
	SMTPD_RCPT,   /* a sender and recipients */
	SMTPD_DATA,   /* content comes in */
	SMTPD_COMMIT, /* the disk is waited for; input stays where it is */
	SMTPD_END,    /* the last reply was given, the stream is being closed */
	SMTPD_GONE,   /* the stream is closed, the disk still waited for */
};

/* What becomes of the input after a step. */
enum smtpd_next {
	SMTPD_NEXT,  /* the next command */
	SMTPD_MORE,  /* more bytes are needed */
	SMTPD_WAIT,  /* parked; who resumes the session drives the input that is left */
	SMTPD_CLOSE, /* the last reply was given; s->why says why */
};

/* The replies that never change; their text is in smtpd.c. */
enum smtpd_reply {
	/* clang-format off */
	SMTPD_OK, SMTPD_OK_MAIL, SMTPD_OK_RCPT, SMTPD_OK_VRFY, SMTPD_GO_AHEAD, SMTPD_HELP,
	SMTPD_BYE, SMTPD_LEAVING, SMTPD_IDLE, SMTPD_TOO_LONG, SMTPD_TOO_MANY_ERRORS,
	SMTPD_TOO_MANY_COMMANDS, SMTPD_TOO_MANY_RCPTS, SMTPD_NO_MEMORY, SMTPD_LINE_TOO_LONG,
	SMTPD_CONTROL, SMTPD_UNKNOWN, SMTPD_NOT_DONE, SMTPD_NO_ARGUMENTS, SMTPD_NEED_NAME,
	SMTPD_NEED_FROM, SMTPD_NEED_TO, SMTPD_BAD_PARAM, SMTPD_UNKNOWN_PARAM, SMTPD_NEED_EHLO,
	SMTPD_NEED_MAIL, SMTPD_MAIL_TWICE, SMTPD_NO_RCPT, SMTPD_NO_RELAY, SMTPD_NO_USER,
	SMTPD_NOT_HTTP, SMTPD_BARE, SMTPD_TOO_BIG, SMTPD_LOOP
	/* clang-format on */
};

/* One message on its way in, from MAIL on. Made by smtpd_txn_begin, undone by smtpd_txn_clear. */
struct smtpd_txn {
	struct envelope env;
	struct spool_writer *writer; /* NULL before DATA, and once the size is too big */
	struct smtp_body_in body;
	struct header_scan scan;
	int64_t size; /* content so far, without our own field */
};

struct smtpd {
	const struct smtpd_setup *setup;
	struct smtpd_peer peer;
	struct io io;
	struct loop_timer again; /* drives input that is left over from a turn */
	void (*ended)(void *arg);
	void *arg;
	struct smtpd_txn *txn; /* NULL when there is none */
	char *helo;            /* the name given with EHLO, harmless; NULL before it */
	const char *why;       /* the session ends */
	int64_t ends;          /* loop_now() when its time is over */
	enum smtpd_state state;
	unsigned errors;
	unsigned idle; /* commands since the last message that brought none nearer */
	bool esmtp;
	bool leaving;   /* asked to */
	bool long_line; /* the rest of a line is thrown away */
	char id[12];    /* for the log */
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

/* A fixed reply as a status. */
void smtpd_status(enum smtpd_reply reply, struct status *st);

/* Begins a transaction: takes a place in the queue. 0, or -1 with *st and none begun. Ends one,
 * whatever there is of it. */
int smtpd_txn_begin(struct smtpd *s, const char *from, int64_t size, struct status *st);
void smtpd_txn_clear(struct smtpd *s);

/* The message size limit, in bytes. */
int64_t smtpd_size_max(const struct smtpd *s);

/* Opens the spool and puts the Received field in. 0, or -1 with *st. */
int smtpd_content_begin(struct smtpd *s, struct status *st);

/* Serves one command line (line end removed). */
enum smtpd_next smtpd_command(struct smtpd *s, struct slice line);

#endif
