/*
 * smtpd_mail: the command MAIL.
 *
 * What can be told from the command alone is checked at once; whose check takes longer ends in
 * smtpd_mail_end, which gives the one reply.
 */
#include "smtpd_mail.h"

#include "bytes.h"
#include "smtpd_auth.h"
#include "smtpd_spf.h"

/* Reads MAIL's parameters. 0, or -1 with *st. */
static int smtpd_mail_params(struct smtpd *s, struct slice rest, int64_t *size, struct status *st)
{
	struct smtp_param p;
	int got;
	*size = 0;
	while ((got = smtp_param_next(&rest, &p)) > 0) {
		if (slice_is_nocase(p.key, "SIZE")) {
			if (smtp_size_parse(p.value, size))
				return smtpd_fail(st, SMTPD_BAD_PARAM);
			if (*size > smtpd_size_max(s))
				return smtpd_fail(st, SMTPD_TOO_BIG);
		} else if (slice_is_nocase(p.key, "BODY")) {
			if (!slice_is_nocase(p.value, "7BIT") &&
			    !slice_is_nocase(p.value, "8BITMIME"))
				return smtpd_fail(st, SMTPD_BAD_PARAM);
		} else if (WITH_IDN && s->esmtp && slice_is_nocase(p.key, "SMTPUTF8")) {
			if (p.has_value)
				return smtpd_fail(st, SMTPD_BAD_PARAM);
			s->utf8 = true;
		} else if (s->secured && slice_is_nocase(p.key, "AUTH")) {
			/* Who submitted it first is of no use to us (RFC 4954 5). */
			if (p.value.n == 0)
				return smtpd_fail(st, SMTPD_BAD_PARAM);
		} else {
			return smtpd_fail(st, SMTPD_UNKNOWN_PARAM);
		}
	}
	return got < 0 ? smtpd_fail(st, SMTPD_BAD_PARAM) : 0;
}

bool smtpd_may_write(const struct smtpd *s, struct slice args)
{
	return s->utf8 || !bytes_have_8bit(args.p, args.n);
}

/* All that can be said of MAIL at once. 0, or -1 with *st; text is the sender, or what the client
 * wrote. */
static int smtpd_read_mail(struct smtpd *s, struct slice args, struct addr *from, char *text,
                           size_t size, int64_t *declared, struct status *st)
{
	struct slice rest;
	status_clean(args, text, size);
	if (addr_parse_path(args, ADDR_MAIL, from, &rest, st))
		return -1;
	if (addr_format(from, text, size))
		return smtpd_fail(st, SMTPD_NEED_FROM);
	if (smtpd_mail_params(s, rest, declared, st))
		return -1;
	args.n -= rest.n;
	if (!smtpd_may_write(s, args))
		return smtpd_fail(st, SMTPD_NEED_UTF8);
	return 0;
}

void smtpd_mail_end(struct smtpd *s, const char *from, int64_t size, const struct status *refused)
{
	struct status st;
	if (refused) {
		smtpd_reject(s, from, NULL, refused);
	} else if (smtpd_txn_begin(s, from, size, &st)) {
		smtpd_reject(s, from, NULL, &st);
	} else {
		smtpd_enter(s, SMTPD_MAIL);
		smtpd_say(s, SMTPD_OK_MAIL);
	}
	s->utf8 = s->utf8 && s->txn;
}

enum smtpd_next smtpd_mail(struct smtpd *s, struct slice args)
{
	struct status st;
	struct addr from;
	char text[ADDR_TEXT_MAX];
	int64_t declared = 0;
	s->utf8 = false;
	if (smtp_args_skip(&args, "FROM:"))
		smtpd_say(s, SMTPD_NEED_FROM);
	else if (smtpd_read_mail(s, args, &from, text, sizeof text, &declared, &st))
		smtpd_reject(s, text, NULL, &st);
	else
		return smtpd_sender_mail(s, &from, text, declared);
	s->utf8 = false;
	return SMTPD_NEXT;
}
