/* smtp: the words of SMTP commands: verbs, arguments, ESMTP parameters (RFC 5321 4.1). Replies are
 * in smtpreply.h, the message body in smtpbody.h. */
#ifndef SMTP_H
#define SMTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"

enum smtp_verb {
	SMTP_UNKNOWN,
	SMTP_HELO,
	SMTP_EHLO,
	SMTP_MAIL,
	SMTP_RCPT,
	SMTP_DATA,
	SMTP_BDAT,
	SMTP_RSET,
	SMTP_NOOP,
	SMTP_QUIT,
	SMTP_HELP,
	SMTP_VRFY,
	SMTP_EXPN,
	SMTP_STARTTLS,
	SMTP_AUTH,
	SMTP_HTTP, /* GET POST CONNECT HEAD PUT OPTIONS: somebody talks HTTP to us */
	SMTP_VERBS /* how many there are */
};

struct smtp_command {
	enum smtp_verb verb;
	struct slice name; /* as the client wrote it; hostile when unknown */
	struct slice args; /* blanks around it removed */
};

/* Splits a command line (line end removed). Slices point into line. Returns 0; or -1 when it holds
 * a NUL or another control character but TAB: 500 5.5.2, whatever the verb (which is still set). */
int smtp_command_parse(struct slice line, struct smtp_command *cmd);

/* The verb in capitals, for logs and counters; "unknown" for SMTP_UNKNOWN, "HTTP" for SMTP_HTTP. */
const char *smtp_verb_name(enum smtp_verb verb);

/* Skips "FROM:" or "TO:" (prefix, any case) at the start of args. Returns 0, or -1 without it. */
int smtp_args_skip(struct slice *args, const char *prefix);

struct smtp_param {
	struct slice key;
	struct slice value; /* empty when there is no "=" */
	bool has_value;
};

/* Takes the next ESMTP parameter off rest (RFC 5321 4.1.2). Returns 1; 0 at the end; -1 when it is
 * malformed: 501 5.5.4. Values may hold UTF-8 (RFC 6531 3.3) and "=". Compare keys with
 * slice_is_nocase. */
int smtp_param_next(struct slice *rest, struct smtp_param *p);

/* Value of SIZE= (RFC 1870): 1 to 20 digits. Returns 0, or -1 when malformed. A number past
 * INT64_MAX is stored as INT64_MAX: larger than any limit, so it is refused as too big. */
int smtp_size_parse(struct slice value, int64_t *size);

#endif
