/*
 * smtpd_reply: one table says all that never changes: code, enhanced code (RFC 3463, 5248), and a
 * text that is clean and short enough as it is.
 */
#include "smtpd_reply.h"

#include <string.h>

/* clang-format off */
static const struct {
	int code;
	unsigned char enh[3];
	const char *text;
} replies[] = {
	[SMTPD_OK]                = {250, {2, 0, 0}, "ok"},
	[SMTPD_OK_MAIL]           = {250, {2, 1, 0}, "sender ok"},
	[SMTPD_OK_RCPT]           = {250, {2, 1, 5}, "recipient ok"},
	[SMTPD_OK_VRFY]           = {252, {2, 1, 5}, "not verified; send the mail and see"},
	[SMTPD_GO_AHEAD]          = {354, {0, 0, 0}, "end with a line that is a single dot"},
	[SMTPD_HELP]              = {214, {2, 0, 0}, "EHLO STARTTLS AUTH MAIL RCPT DATA RSET NOOP VRFY HELP QUIT"},
	[SMTPD_BYE]               = {221, {2, 0, 0}, "bye"},
	[SMTPD_LEAVING]           = {421, {4, 3, 2}, "shutting down, try again later"},
	[SMTPD_IDLE]              = {421, {4, 4, 2}, "idle for too long"},
	[SMTPD_CROWDED]           = {421, {4, 3, 2}, "others wait for your place, try again later"},
	[SMTPD_TOO_LONG]          = {421, {4, 4, 2}, "session lasted too long"},
	[SMTPD_TOO_MANY_ERRORS]   = {421, {4, 7, 0}, "too many errors"},
	[SMTPD_TOO_MANY_COMMANDS] = {421, {4, 7, 0}, "too many commands without a message"},
	[SMTPD_TOO_MANY_RCPTS]    = {452, {4, 5, 3}, "too many recipients"},
	[SMTPD_NO_MEMORY]         = {451, {4, 3, 0}, "out of memory, try again later"},
	[SMTPD_LINE_TOO_LONG]     = {500, {5, 5, 2}, "line too long"},
	[SMTPD_CONTROL]           = {500, {5, 5, 2}, "control character in a command"},
	[SMTPD_UNKNOWN]           = {500, {5, 5, 1}, "command unknown"},
	[SMTPD_NOT_DONE]          = {502, {5, 5, 1}, "command not implemented"},
	[SMTPD_NO_ARGUMENTS]      = {501, {5, 5, 4}, "no argument allowed"},
	[SMTPD_NEED_NAME]         = {501, {5, 5, 4}, "your host name is missing"},
	[SMTPD_NEED_FROM]         = {501, {5, 5, 4}, "syntax: MAIL FROM:<address>"},
	[SMTPD_NEED_TO]           = {501, {5, 5, 4}, "syntax: RCPT TO:<address>"},
	[SMTPD_BAD_PARAM]         = {501, {5, 5, 4}, "malformed parameter"},
	[SMTPD_UNKNOWN_PARAM]     = {555, {5, 5, 4}, "parameter not recognised"},
	[SMTPD_NEED_EHLO]         = {503, {5, 5, 1}, "EHLO or HELO first"},
	[SMTPD_NEED_MAIL]         = {503, {5, 5, 1}, "MAIL first"},
	[SMTPD_MAIL_TWICE]        = {503, {5, 5, 1}, "sender already given"},
	[SMTPD_NO_RCPT]           = {554, {5, 5, 1}, "no valid recipients"},
	[SMTPD_NO_RELAY]          = {550, {5, 7, 1}, "relaying is not allowed"},
	[SMTPD_NO_USER]           = {550, {5, 1, 1}, "unknown user"},
	[SMTPD_NOT_HTTP]          = {554, {5, 7, 0}, "this is SMTP, not HTTP"},
	[SMTPD_BARE]              = {521, {5, 5, 2}, "CR or LF alone; lines end with CRLF"},
	[SMTPD_TOO_BIG]           = {552, {5, 3, 4}, "message too big"},
	[SMTPD_LOOP]              = {554, {5, 4, 6}, "mail loop: too many Received fields"},
	[SMTPD_TOO_FAST]          = {450, {4, 7, 1}, "too many messages from your host, try again later"},
	[SMTPD_USER_NOT_NOW]      = {451, {4, 3, 0}, "cannot tell now whether there is such a user"},
	[SMTPD_NOT_OWN]           = {553, {5, 7, 1}, "this sender address is not that of your login"},
	[SMTPD_TOO_MANY_SENDERS]  = {421, {4, 7, 0}, "too many senders in one connection, connect again"},
	[SMTPD_LOW_LEVEL]         = {550, {5, 7, 3}, "this domain's mail has come over TLS before: use STARTTLS"},
	[SMTPD_TLS_READY]         = {220, {2, 0, 0}, "begin TLS"},
	[SMTPD_TLS_TWICE]         = {503, {5, 5, 1}, "TLS is in use already"},
	[SMTPD_TLS_NOT_NOW]       = {454, {4, 7, 0}, "TLS is not available now"},
	[SMTPD_NEED_TLS]          = {530, {5, 7, 0}, "STARTTLS and AUTH first"},
	[SMTPD_NEED_AUTH]         = {530, {5, 7, 0}, "AUTH first"},
	[SMTPD_AUTH_GOOD]         = {235, {2, 7, 0}, "welcome"},
	[SMTPD_AUTH_BAD]          = {535, {5, 7, 8}, "user and password do not match"},
	[SMTPD_AUTH_TOO_OFTEN]    = {421, {4, 7, 0}, "too many failed logins"},
	[SMTPD_AUTH_NOT_NOW]      = {454, {4, 7, 0}, "logging in is not possible now, try again later"},
	[SMTPD_AUTH_TWICE]        = {503, {5, 5, 1}, "you have logged in already"},
	[SMTPD_AUTH_IN_MAIL]      = {503, {5, 5, 1}, "not within a transaction"},
	[SMTPD_AUTH_NEEDS_TLS]    = {538, {5, 7, 11}, "encryption required: STARTTLS first"},
	[SMTPD_AUTH_SYNTAX]       = {501, {5, 5, 4}, "syntax: AUTH mechanism"},
	[SMTPD_AUTH_MECHANISM]    = {504, {5, 5, 4}, "mechanism not supported; there are PLAIN and LOGIN"},
	[SMTPD_AUTH_MALFORMED]    = {501, {5, 5, 2}, "malformed response"},
	[SMTPD_AUTH_CANCELLED]    = {501, {5, 7, 0}, "authentication cancelled"},
	[SMTPD_AUTH_TOO_LONG]     = {500, {5, 5, 6}, "response too long"},
	[SMTPD_NEED_UTF8]         = {553, {5, 6, 7}, "this address is not ASCII, and SMTPUTF8 was not asked for"},
	[SMTPD_HEADER_8BIT]       = {554, {5, 6, 7}, "the header is not ASCII, and SMTPUTF8 was not asked for"},
	[SMTPD_HEADER_NOT_UTF8]   = {554, {5, 6, 7}, "the header is not UTF-8"},
};
/* clang-format on */

void smtpd_status(enum smtpd_reply reply, struct status *st)
{
	st->code = replies[reply].code;
	for (int i = 0; i < 3; i++)
		st->enh[i] = replies[reply].enh[i];
	memcpy(st->text, replies[reply].text, strlen(replies[reply].text) + 1);
}

int smtpd_fail(struct status *st, enum smtpd_reply reply)
{
	smtpd_status(reply, st);
	return -1;
}
