/* smtpd_hook: what hooks are told of a session, and hooks/post-data. For the files of smtpd alone.
 */
#ifndef SMTPD_HOOK_H
#define SMTPD_HOOK_H

#include "hook.h"
#include "smtpd_int.h"

/* In smtpd.c: commits the message with these fields (CRLF line ends) in front, or refuses it. What
 * is to become of the input: SMTPD_WAIT while the disk is waited for. */
enum smtpd_next smtpd_content_commit(struct smtpd *s, struct slice fields);
enum smtpd_next smtpd_content_refuse(struct smtpd *s, const struct status *st);

#if WITH_HOOKS

/* What a hook is told, for hook_start at once: pointers into the session. */
void smtpd_hook_session(const struct smtpd *s, struct hook_session *out);

/* Is there a hook, content will be copied for it. 0, or -1 with *st. */
int smtpd_post_begin(struct smtpd *s, struct status *st);

/* Adds a piece of what goes to the spool, with CRLF line ends; the copy has LF. An error is kept
 * for smtpd_post_run. */
void smtpd_post_append(struct smtpd *s, const char *p, size_t n);

/* The content is whole and good: has the hook judge it, if there is one, with the session parked in
 * SMTPD_CHECK. Ends in smtpd_content_commit or smtpd_content_refuse. */
enum smtpd_next smtpd_post_run(struct smtpd *s);

/* Drops the copy; kills a hook under way. */
void smtpd_post_clear(struct smtpd_txn *t);

#else

static inline void smtpd_hook_session(const struct smtpd *s, struct hook_session *out)
{
	(void)s, (void)out;
}

static inline int smtpd_post_begin(struct smtpd *s, struct status *st)
{
	(void)s, (void)st;
	return 0;
}

static inline void smtpd_post_append(struct smtpd *s, const char *p, size_t n)
{
	(void)s, (void)p, (void)n;
}

static inline enum smtpd_next smtpd_post_run(struct smtpd *s)
{
	return smtpd_content_commit(s, (struct slice){NULL, 0});
}

static inline void smtpd_post_clear(struct smtpd_txn *t)
{
	(void)t;
}

#endif

#endif
