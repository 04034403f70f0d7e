/*
 * smtpd_log: what an SMTP server session tells the mail log, and the debug lines that make its
 * trace worth reading.
 *
 * Reasons in the mail log are chasquid's where it has them, since filters look for them; else the
 * text of the reply. A command's argument is shown for names and addresses only: a password comes
 * with AUTH or, from a client that has lost its place, as a command that nobody knows.
 */
#define LOG_KIND LOG_SESSION

#include "smtpd_log.h"

#include <stdio.h>
#include <string.h>

#include "bytes.h"
#include "log.h"
#include "loop.h"
#include "maillog.h"

/* "192.0.2.1:25", "[2001:db8::1]:25", or the name of a user of this machine. */
#define PEER_MAX (sizeof((struct smtpd *)0)->who + 10)

static const char *smtpd_peer(const struct smtpd *s, char out[PEER_MAX])
{
	bool v6 = s->peer.mode != SMTPD_LOCAL && s->peer.addr.family == AF_INET6;
	char *p = bytes_put(bytes_put(out, v6 ? "[" : ""), s->who);
	if (s->peer.mode != SMTPD_LOCAL)
		p = bytes_put_number(bytes_put(p, v6 ? "]:" : ":"), s->peer.port);
	*p = '\0';
	return out;
}

bool smtpd_log_may(const struct smtpd *s, bool refusal)
{
	static struct {
		int64_t at, told; /* loop_now(): lines were added; 0: never */
		int64_t lines;    /* that may be written */
		uint64_t left_out;
	} may = {.lines = SMTPD_LOG_BURST};
	bool ours = s->login || s->peer.trusted || s->peer.mode == SMTPD_LOCAL;
	int64_t kept = ours ? 0 : refusal ? SMTPD_LOG_BURST / 4 : SMTPD_LOG_BURST / 2;
	int64_t now = loop_now();
	int64_t more = (now - may.at) * SMTPD_LOG_RATE / 1000;
	if (more > 0) {
		may.lines = may.lines + more < SMTPD_LOG_BURST ? may.lines + more : SMTPD_LOG_BURST;
		may.at = now;
	}
	if (may.lines <= kept) {
		may.left_out++;
		return false;
	}
	may.lines--;
	if (may.left_out > 0 && now - may.told >= SMTPD_LOG_TELL_MS) {
		log_error("-", "lines about clients left out", LOG_N("n", may.left_out));
		may.told = now;
		may.left_out = 0;
	}
	return true;
}

void smtpd_log_closed(const struct smtpd *s, const char *why)
{
	if (smtpd_log_may(s, false))
		log_info(s->id, "smtpd closed", LOG_S("why", why), LOG_S("peer", s->who));
}

void smtpd_log_connect(const struct smtpd *s)
{
	char peer[PEER_MAX];
	char proxy[INET6_ADDRSTRLEN];
	if (!smtpd_log_may(s, false))
		return;
	if (s->peer.proxied)
		log_info(s->id, "smtpd connect", LOG_S("peer", s->who), LOG_N("port", s->peer.port),
		         LOG_S("proxy", dns_addr_text(&s->peer.proxy, proxy)));
	else
		log_info(s->id, "smtpd connect", LOG_S("peer", s->who),
		         LOG_N("port", s->peer.port));
	maillog_connect(smtpd_peer(s, peer));
}

static bool smtpd_may_show(enum smtp_verb verb)
{
	return verb == SMTP_HELO || verb == SMTP_EHLO || verb == SMTP_MAIL || verb == SMTP_RCPT ||
	       verb == SMTP_VRFY;
}

void smtpd_log_command(const struct smtpd *s, const struct smtp_command *cmd)
{
	char args[SMTPD_LOG_ARGS_MAX];
	args[0] = '\0'; /* the rest is not worth clearing */
	if (!log_takes(LOG_LEVEL_DEBUG))
		return;
	if (smtpd_may_show(cmd->verb))
		status_clean(cmd->args, args, sizeof args);
	if (args[0])
		log_debug(s->id, "smtpd command", LOG_S("verb", smtp_verb_name(cmd->verb)),
		          LOG_S("args", args));
	else
		log_debug(s->id, "smtpd command", LOG_S("verb", smtp_verb_name(cmd->verb)));
}

void smtpd_log_reply(const struct smtpd *s, const struct status *st)
{
	if (st->code >= 400)
		log_debug(s->id, "smtpd reply", LOG_N("code", st->code), LOG_S("text", st->text));
}

static bool smtpd_is_reply(const struct status *st, enum smtpd_reply reply)
{
	struct status fixed;
	smtpd_status(reply, &fixed);
	return st->code == fixed.code && memcmp(st->enh, fixed.enh, sizeof fixed.enh) == 0 &&
	       strcmp(st->text, fixed.text) == 0;
}

/* The reason in chasquid's words. */
static void smtpd_reason(const struct status *st, char *out, size_t size)
{
	const char *text = st->text;
	const char *front = "";
	if (smtpd_is_reply(st, SMTPD_NO_RELAY)) {
		text = "relay not allowed";
	} else if (smtpd_is_reply(st, SMTPD_LOW_LEVEL)) {
		text = "security level check failed";
	} else if (st->code == 550 && st->enh[1] == 1 && st->enh[2] == 1) {
		text = "local user does not exist";
	} else if (st->enh[1] == 7 && st->enh[2] == 23) {
		front = "failed SPF: ";
		text += strncmp(text, "SPF: ", 5) == 0 ? 5 : 0;
	} else if (st->code == 501 && st->enh[1] == 1 &&
	           strncmp(text, "malformed address", 17) != 0) {
		front = "malformed address: ";
	} else if (st->code / 100 == 4 && st->enh[1] == 4 && st->enh[2] == 3) {
		front = "error checking if user exists: ";
	}
	snprintf(out, size, "%s%s", front, text);
}

/*
 * Is this refusal to be told? One for a trouble of our own (x.3.z: a full disk, no memory) is the
 * same for everybody who comes: it is an error once, and then counted for a while. A client that
 * tries again at once must not fill with lines what little room there is.
 */
static bool smtpd_log_tells(const struct status *st, const char *reason)
{
	static struct {
		int64_t told; /* when; 0 never */
		uint64_t since;
	} trouble;
	int64_t now = loop_now();
	if (status_class(st) != STATUS_TRANSIENT || st->enh[1] != 3)
		return true;
	trouble.since++;
	if (trouble.told && now - trouble.told < SMTPD_TROUBLE_LOG_MS)
		return false;
	log_error("-", "mail is put off", LOG_S("reason", reason), LOG_N("times", trouble.since));
	trouble.told = now ? now : 1;
	trouble.since = 0;
	return true;
}

void smtpd_log_rejected(const struct smtpd *s, const char *from, const char *to,
                        const struct status *st)
{
	char reason[STATUS_PRINT_MAX + 32];
	char peer[PEER_MAX];
	const struct envelope *env = s->txn ? &s->txn->env : NULL;
	char *one[] = {(char *)(uintptr_t)to};
	bool all = !to && env; /* the message as a whole */
	status_print(st, reason, sizeof reason);
	if (!smtpd_log_tells(st, reason)) {
		log_debug(s->id, "smtpd put off", LOG_S("from", from), LOG_S("reason", reason));
		return;
	}
	if (!smtpd_log_may(s, true))
		return;
	log_info(s->id, "smtpd rejected", LOG_S("from", from),
	         LOG_S("to", all && env->to_count > 0 ? env->to[0] : to), LOG_S("peer", s->who),
	         LOG_S("reason", reason));
	smtpd_reason(st, reason, sizeof reason);
	maillog_rejected(smtpd_peer(s, peer), from, all ? env->to : one,
	                 all ? env->to_count : to != NULL, reason);
}

void smtpd_log_refusal(const struct smtpd *s, enum smtpd_reply reply)
{
	char peer[PEER_MAX];
	struct status st;
	switch (reply) {
	case SMTPD_TOO_MANY_ERRORS:
	case SMTPD_TOO_MANY_COMMANDS:
	case SMTPD_TOO_MANY_SENDERS:
	case SMTPD_AUTH_TOO_OFTEN:
	case SMTPD_NOT_HTTP:
	case SMTPD_BARE:
	case SMTPD_NEED_FROM:
	case SMTPD_NEED_TO:
	case SMTPD_NEED_TLS:
	case SMTPD_NEED_AUTH:
		smtpd_status(reply, &st);
		if (smtpd_log_may(s, true))
			maillog_rejected(smtpd_peer(s, peer), s->txn ? s->txn->env.from : NULL,
			                 NULL, 0, st.text);
		break;
	default:
		break;
	}
}

void smtpd_log_queued(const struct smtpd *s)
{
	const struct smtpd_txn *t = s->txn;
	char peer[PEER_MAX];
	log_info(s->id, "smtpd queued", LOG_S("id", t->env.id), LOG_S("from", t->env.from),
	         LOG_S("to", t->env.to_count > 0 ? t->env.to[0] : NULL),
	         LOG_N("rcpts", t->env.to_count), LOG_N("size", t->size),
	         LOG_N("forged", t->filter.removed), LOG_S("peer", s->who),
	         LOG_S("login", s->login ? s->login->text : NULL));
	maillog_queued(t->env.id, t->env.from, smtpd_peer(s, peer), t->env.to, t->env.to_count);
}

void smtpd_log_auth(const struct smtpd *s, const char *user, bool good)
{
	char peer[PEER_MAX];
	maillog_auth(smtpd_peer(s, peer), user, good);
}
