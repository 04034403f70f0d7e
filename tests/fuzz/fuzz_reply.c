/*
 * Fuzz target of smtpreply, smtpbody and smtp. Any input: a reply read in one piece or byte by byte
 * is the same reply, and its status can be sent on and read again; a body decoded at any cut is the
 * same, and one encoded ends exactly where it ends; a command line is taken apart within its
 * bounds.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "smtp.h"
#include "smtpbody.h"
#include "smtpreply.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_status(const struct status *st)
{
	struct smtp_reply r;
	struct status back;
	struct buf b;
	size_t used;

	buf_init(&b, 1 << 16);
	check(smtp_reply_status(&b, st) == 0);
	smtp_reply_init(&r, NULL, NULL);
	check(smtp_reply_feed(&r, buf_slice(&b), &used) == SMTP_REPLY_COMPLETE);
	check(used == b.len && r.code == st->code);
	buf_clear(&b);
	check(status_format(st, &b) == 0);
	check(status_parse(buf_slice(&b), &back) == 0);
	check(back.code == st->code);
	buf_clear(&b);
}

static void check_reply(struct slice in)
{
	struct smtp_caps caps = {0};
	struct smtp_reply a;
	struct smtp_reply b;
	enum smtp_reply_result result = SMTP_REPLY_MORE;
	size_t used;
	size_t total = 0;
	size_t one;

	smtp_reply_init(&a, smtp_caps_line, &caps);
	smtp_reply_feed(&a, in, &used);
	smtp_reply_init(&b, NULL, NULL);
	while (total < in.n && result == SMTP_REPLY_MORE) {
		result = smtp_reply_feed(&b, (struct slice){in.p + total, 1}, &one);
		total += one;
	}
	check(a.result == b.result && used == total && a.lines == b.lines);
	check((a.error != NULL) == (a.result == SMTP_REPLY_BAD));
	if (a.result == SMTP_REPLY_COMPLETE) {
		check(a.code == b.code && strcmp(a.status.text, b.status.text) == 0);
		check_status(&a.status);
	}
}

static void check_body(struct slice in)
{
	char *whole = malloc(in.n + 1);
	char *bytes = malloc(in.n + 1);
	struct smtp_body_in a;
	struct smtp_body_in b;
	struct smtp_body_out o;
	enum smtp_body_result result = SMTP_BODY_MORE;
	struct buf wire;
	size_t used;
	size_t out;
	size_t total = 0;
	size_t n = 0;

	check(whole && bytes);
	memcpy(whole, in.p, in.n);
	smtp_body_in_init(&a);
	smtp_body_in_init(&b);
	smtp_body_decode(&a, whole, in.n, &used, &out);
	while (total < in.n && result == SMTP_BODY_MORE) {
		size_t one;
		size_t got;

		bytes[n] = in.p[total];
		result = smtp_body_decode(&b, bytes + n, 1, &one, &got);
		n += got;
		total += one;
	}
	check(a.state == b.state && used == total && out == n && memcmp(whole, bytes, n) == 0);
	buf_init(&wire, 1 << 24);
	smtp_body_out_init(&o);
	check(smtp_body_encode(&o, in, &wire) == 0 && smtp_body_finish(&o, &wire) == 0);
	smtp_body_in_init(&a);
	check(smtp_body_decode(&a, buf_data(&wire), wire.len, &used, &out) == SMTP_BODY_END);
	check(used == wire.len);
	buf_clear(&wire);
	free(whole);
	free(bytes);
}

static void check_command(struct slice in)
{
	struct smtp_command cmd;
	struct smtp_param p;
	int64_t size;

	smtp_command_parse(in, &cmd);
	check(cmd.args.p >= in.p && cmd.args.p + cmd.args.n <= in.p + in.n);
	smtp_args_skip(&cmd.args, "FROM:");
	while (smtp_param_next(&cmd.args, &p) == 1) {
		check(p.key.n > 0 && p.has_value == (p.value.n > 0));
		if (smtp_size_parse(p.value, &size) == 0)
			check(size >= 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = {(const char *)data, size};

	check_reply(in);
	check_body(in);
	check_command(in);
	return 0;
}
