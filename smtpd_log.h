/* smtpd_log: what an SMTP server session tells the mail log and its trace. For the files of smtpd.
 */
#ifndef SMTPD_LOG_H
#define SMTPD_LOG_H

#include "smtp.h"
#include "smtpd_int.h"

/*
 * May a client cause another line now? SMTPD_LOG_BURST at once and SMTPD_LOG_RATE a second, for all
 * clients together; what is left out is counted and told. For lines that cost a client next to
 * nothing: not for messages, logins and wrong passwords, which have limits of their own. Half of
 * the burst is kept back for refusals, by which a client can be banned, and a quarter for trusted
 * hosts and our own users: who comes and goes a thousand times hides neither.
 */
bool smtpd_log_may(const struct smtpd *s, bool refusal);

/* A client has come, and gone. */
void smtpd_log_connect(const struct smtpd *s);
void smtpd_log_closed(const struct smtpd *s, const char *why);

/* A command, with its argument where that is the name or address that it is for: never what could
 * be a password. At debug level. */
void smtpd_log_command(const struct smtpd *s, const struct smtp_command *cmd);

/* A reply of 400 or more, at debug level. */
void smtpd_log_reply(const struct smtpd *s, const struct status *st);

/* A sender, recipient (NULL: that of the whole transaction) or message is refused, in both logs. */
void smtpd_log_rejected(const struct smtpd *s, const char *from, const char *to,
                        const struct status *st);

/* A fixed reply is given: in the mail log when it refuses a client rather than a message. */
void smtpd_log_refusal(const struct smtpd *s, enum smtpd_reply reply);

/* The message of the transaction is queued. */
void smtpd_log_queued(const struct smtpd *s);

/* Somebody has tried to log in; user is what the client said. */
void smtpd_log_auth(const struct smtpd *s, const char *user, bool good);

#endif
