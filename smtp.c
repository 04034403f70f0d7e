/*
 * smtp: the words of SMTP commands.
 *
 * Everything here looks at slices and points into them; nothing is copied, allocated or kept. What
 * a verb may do and when is the server's table (smtpd), not this one.
 */
#include "smtp.h"

#include <string.h>

#include "bytes.h"

/* Those of each message first. */
static const struct {
	const char *name;
	enum smtp_verb verb;
} verbs[] = {
    {"MAIL", SMTP_MAIL},    {"RCPT", SMTP_RCPT},         {"DATA", SMTP_DATA}, {"HELO", SMTP_HELO},
    {"EHLO", SMTP_EHLO},    {"BDAT", SMTP_BDAT},         {"RSET", SMTP_RSET}, {"NOOP", SMTP_NOOP},
    {"QUIT", SMTP_QUIT},    {"HELP", SMTP_HELP},         {"VRFY", SMTP_VRFY}, {"EXPN", SMTP_EXPN},
    {"AUTH", SMTP_AUTH},    {"STARTTLS", SMTP_STARTTLS}, {"HTTP", SMTP_HTTP}, {"GET", SMTP_HTTP},
    {"POST", SMTP_HTTP},    {"CONNECT", SMTP_HTTP},      {"HEAD", SMTP_HTTP}, {"PUT", SMTP_HTTP},
    {"OPTIONS", SMTP_HTTP},
};

#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static void skip(struct slice *s, size_t n)
{
	s->p += n;
	s->n -= n;
}

static void trim(struct slice *s)
{
	while (s->n > 0 && is_blank(s->p[0]))
		skip(s, 1);
	while (s->n > 0 && is_blank(s->p[s->n - 1]))
		s->n--;
}

static bool has_control(struct slice s)
{
	size_t i;

	for (i = bytes_print_run(s.p, s.n); i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return true;
	}
	return false;
}

int smtp_command_parse(struct slice line, struct smtp_command *cmd)
{
	size_t n = 0;
	size_t i;

	while (n < line.n && !is_blank(line.p[n]))
		n++;
	cmd->verb = SMTP_UNKNOWN;
	cmd->name = (struct slice){line.p, n};
	cmd->args = (struct slice){line.p + n, line.n - n};
	trim(&cmd->args);
	for (i = 0; i < VERBS; i++) {
		if (slice_is_nocase(cmd->name, verbs[i].name)) {
			cmd->verb = verbs[i].verb;
			break;
		}
	}
	return has_control(line) ? -1 : 0;
}

const char *smtp_verb_name(enum smtp_verb verb)
{
	size_t i;

	for (i = 0; i < VERBS; i++)
		if (verbs[i].verb == verb)
			return verbs[i].name;
	return "unknown";
}

int smtp_args_skip(struct slice *args, const char *prefix)
{
	size_t n = strlen(prefix);
	struct slice head = {args->p, n};

	if (args->n < n || !slice_is_nocase(head, prefix))
		return -1;
	skip(args, n);
	return 0;
}

int smtp_param_next(struct slice *rest, struct smtp_param *p)
{
	size_t n = 0;
	size_t i;

	trim(rest);
	if (rest->n == 0)
		return 0;
	while (n < rest->n && (is_alnum(rest->p[n]) || (n > 0 && rest->p[n] == '-')))
		n++;
	*p = (struct smtp_param){.key = {rest->p, n}, .value = {rest->p + n, 0}};
	if (n == 0)
		return -1;
	if (n < rest->n && rest->p[n] == '=') {
		p->has_value = true;
		p->value.p = rest->p + ++n;
		/* Bytes from 0x80 on are signed or not with the platform: compare unsigned. */
		for (i = n; i < rest->n && (unsigned char)rest->p[i] > ' ' && rest->p[i] != 0x7f;
		     i++)
			continue;
		p->value.n = i - n;
		n = i;
		if (p->value.n == 0)
			return -1;
	}
	if (n < rest->n && !is_blank(rest->p[n]))
		return -1;
	skip(rest, n);
	return 1;
}

int smtp_size_parse(struct slice value, int64_t *size)
{
	int64_t n = 0;
	size_t i;

	if (value.n == 0 || value.n > 20)
		return -1;
	for (i = 0; i < value.n; i++) {
		int digit = value.p[i] - '0';

		if (!is_digit(value.p[i]))
			return -1;
		if (n > (INT64_MAX - digit) / 10)
			n = INT64_MAX;
		else
			n = n * 10 + digit;
	}
	*size = n;
	return 0;
}
