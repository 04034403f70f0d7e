/* Unit tests of smtpreply: replies we write, replies of peers good and bad, EHLO keywords. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "smtpreply.h"

static void test_write(void **state)
{
	struct status st;
	struct buf b;

	(void)state;
	buf_init(&b, 8192);
	status_set(&st, 550, "5.1.1", "no such user");
	smtp_reply_status(&b, &st);
	status_set(&st, 354, NULL, "go ahead");
	smtp_reply_status(&b, &st);
	smtp_reply_printf(&b, 250, NULL, "%s\nSIZE %d\n8BITMIME", "mx.example", 1000);
	smtp_reply_printf(&b, 214, "2.0.0", "one\ntwo");
	smtp_reply_printf(&b, 500, "5.5.2", "what is \"%s\"", "\r550 x\x80\x1b");
	smtp_reply_printf(&b, 250, "2.0.0", "%s", "");
	assert_string_equal(buf_str(&b), "550 5.1.1 no such user\r\n"
	                                 "354 go ahead\r\n"
	                                 "250-mx.example\r\n250-SIZE 1000\r\n250 8BITMIME\r\n"
	                                 "214-2.0.0 one\r\n214 2.0.0 two\r\n"
	                                 "500 5.5.2 what is \" 550 x??\"\r\n"
	                                 "250 2.0.0 \r\n");
	buf_clear(&b);
	buf_init(&b, 10);
	assert_int_equal(smtp_reply_status(&b, &st), -1);
	buf_clear(&b);
}

/* However long and odd the text, lines stay short and the reader takes them for one reply. */
static void test_write_long(void **state)
{
	char text[SMTP_REPLY_TEXT * 2];
	struct smtp_reply r;
	struct status st;
	struct buf b;
	size_t variant;

	(void)state;
	for (variant = 0; variant < 3; variant++) {
		const char *p;
		size_t used;
		size_t i;

		buf_init(&b, 8192);
		for (i = 0; i + 3 < sizeof(text); i += 3)
			memcpy(text + i,
			       variant == 0   ? "xxx"
			       : variant == 1 ? "x y"
			                      : "\xe2\x82\xac",
			       3);
		text[i] = '\0';
		assert_int_equal(smtp_reply_printf(&b, 550, "5.123.456", "%s", text), 0);
		for (p = buf_str(&b); *p; p = strchr(p, '\n') + 1)
			assert_true(strchr(p, '\n') - p < SMTP_REPLY_LINE);
		smtp_reply_init(&r, NULL, NULL);
		assert_int_equal(smtp_reply_feed(&r, buf_slice(&b), &used), SMTP_REPLY_COMPLETE);
		assert_int_equal(used, b.len);
		assert_int_equal(r.status.enh[2], 456);
		buf_clear(&b);
		buf_init(&b, 8192);
		status_set(&st, 451, "4.0.0", "%s", text);
		assert_int_equal(smtp_reply_status(&b, &st), 0);
		smtp_reply_init(&r, NULL, NULL);
		assert_int_equal(smtp_reply_feed(&r, buf_slice(&b), &used), SMTP_REPLY_COMPLETE);
		assert_int_equal(used, b.len);
		buf_clear(&b);
	}
}

static enum smtp_reply_result feed(struct smtp_reply *r, const char *text, size_t cut,
                                   size_t *total)
{
	size_t n = strlen(text);
	size_t from = 0;
	enum smtp_reply_result result = SMTP_REPLY_MORE;

	smtp_reply_init(r, NULL, NULL);
	*total = 0;
	while (from < n && result == SMTP_REPLY_MORE) {
		size_t len = from < cut && cut < n ? cut - from : n - from;
		char *piece = malloc(len);
		size_t used;

		assert_non_null(piece);
		memcpy(piece, text + from, len);
		result = smtp_reply_feed(r, (struct slice){piece, len}, &used);
		free(piece);
		*total += used;
		from += len;
	}
	return result;
}

static void test_read(void **state)
{
	static const struct {
		const char *in;
		enum smtp_reply_result result;
		const char *status;
		size_t left;
	} cases[] = {
	    {"220 mx ESMTP\r\n", SMTP_REPLY_COMPLETE, "220 2.0.0 mx ESMTP", 0},
	    {"220 mx\n", SMTP_REPLY_COMPLETE, "220 2.0.0 mx", 0},
	    {"250\r\n", SMTP_REPLY_COMPLETE, "250 2.0.0", 0},
	    {"250 \r\n", SMTP_REPLY_COMPLETE, "250 2.0.0", 0},
	    {"354 go\r\n", SMTP_REPLY_COMPLETE, "354 go", 0},
	    {"250 2.1.0 ok\r\n250 2.1.5 ok\r\n", SMTP_REPLY_COMPLETE, "250 2.1.0 ok", 14},
	    {"550-5.1.1 no\r\n550-5.1.1 such\r\n550 5.1.1 user\r\n", SMTP_REPLY_COMPLETE,
	     "550 5.1.1 no such user", 0},
	    {"550-no\n550-\n550 such\n", SMTP_REPLY_COMPLETE, "550 5.0.0 no such", 0},
	    {"550-\r\n550 5.1.1 no\r\n", SMTP_REPLY_COMPLETE, "550 5.1.1 no", 0},
	    {"550-5.1.1 no\r\n550 5.1.2 such\r\n", SMTP_REPLY_COMPLETE, "550 5.1.1 no 5.1.2 such",
	     0},
	    {"550 a\rb\x1b\r\n", SMTP_REPLY_COMPLETE, "550 5.0.0 a b?", 0},
	    {"250-x\r\n", SMTP_REPLY_MORE, NULL, 0},
	    {"250", SMTP_REPLY_MORE, NULL, 0},
	    {"250-x\r\n251 x\r\n", SMTP_REPLY_BAD, NULL, 0},
	    {"250-x\r\n\r\n", SMTP_REPLY_BAD, NULL, 1},
	    {"150 x\r\n", SMTP_REPLY_BAD, NULL, 6},
	    {"650 x\r\n", SMTP_REPLY_BAD, NULL, 6},
	    {"25 x\r\n", SMTP_REPLY_BAD, NULL, 3},
	    {"2500 x\r\n", SMTP_REPLY_BAD, NULL, 0},
	    {"250_x\r\n", SMTP_REPLY_BAD, NULL, 0},
	    {"\r\n", SMTP_REPLY_BAD, NULL, 1},
	    {"\n", SMTP_REPLY_BAD, NULL, 0},
	    {" 250 x\r\n", SMTP_REPLY_BAD, NULL, 7},
	    {"HTTP/1.1 400 Bad\r\n", SMTP_REPLY_BAD, NULL, 17},
	    {"SSH-2.0\r\n", SMTP_REPLY_BAD, NULL, 8},
	};
	struct smtp_reply r;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t n = strlen(cases[i].in);
		size_t cut;

		for (cut = 1; cut <= n; cut++) {
			char out[STATUS_PRINT_MAX];
			size_t used;

			assert_int_equal(feed(&r, cases[i].in, cut, &used), cases[i].result);
			assert_int_equal(n - used, cases[i].left);
			assert_int_equal(r.error != NULL, cases[i].result == SMTP_REPLY_BAD);
			if (!cases[i].status)
				continue;
			status_print(&r.status, out, sizeof(out));
			assert_string_equal(out, cases[i].status);
		}
	}
}

static void test_read_every_byte(void **state)
{
	struct smtp_reply r;
	size_t used;
	int pos;
	int c;

	(void)state;
	for (pos = 0; pos < 5; pos++) {
		for (c = 0; c < 256; c++) {
			char in[] = "250 ab\r\n";
			enum smtp_reply_result result;

			in[pos] = (char)c;
			smtp_reply_init(&r, NULL, NULL);
			result = smtp_reply_feed(&r, (struct slice){in, 8}, &used);
			if (pos == 0)
				assert_int_equal(result == SMTP_REPLY_COMPLETE,
				                 c >= '2' && c <= '5');
			else if (pos < 3)
				assert_int_equal(result == SMTP_REPLY_COMPLETE,
				                 c >= '0' && c <= '9');
			else if (pos == 3 && c != '-' && c != '\r')
				assert_int_equal(result == SMTP_REPLY_COMPLETE,
				                 c == ' ' || c == '\n');
			else if (pos == 4)
				assert_int_equal(result, SMTP_REPLY_COMPLETE);
		}
	}
}

static void test_read_bounds(void **state)
{
	struct smtp_reply r;
	char line[SMTP_REPLY_LINE_MAX + 10];
	size_t used;
	unsigned i;

	(void)state;
	memset(line, 'x', sizeof(line));
	memcpy(line, "250 ", 4);
	line[SMTP_REPLY_LINE_MAX] = '\n';
	smtp_reply_init(&r, NULL, NULL);
	assert_int_equal(smtp_reply_feed(&r, (struct slice){line, sizeof(line)}, &used),
	                 SMTP_REPLY_COMPLETE);
	assert_int_equal(used, SMTP_REPLY_LINE_MAX + 1);
	line[SMTP_REPLY_LINE_MAX] = 'x';
	smtp_reply_init(&r, NULL, NULL);
	assert_int_equal(smtp_reply_feed(&r, (struct slice){line, sizeof(line)}, &used),
	                 SMTP_REPLY_BAD);
	assert_int_equal(smtp_reply_feed(&r, slice_of("250 x\r\n"), &used), SMTP_REPLY_BAD);
	assert_int_equal(used, 0);
	smtp_reply_init(&r, NULL, NULL);
	for (i = 0; i < SMTP_REPLY_LINES_MAX; i++)
		assert_int_equal(smtp_reply_feed(&r, slice_of("250-some text\r\n"), &used),
		                 SMTP_REPLY_MORE);
	assert_true(strlen(r.status.text) < sizeof(r.status.text));
	assert_int_equal(smtp_reply_feed(&r, slice_of("250 x\r\n"), &used), SMTP_REPLY_BAD);
}

static void test_caps(void **state)
{
	static const char ehlo[] = "250-mx.example greets SIZE 1\r\n250-size 52428800\r\n"
	                           "250-8BITMIME\r\n250-PIPELINING\r\n250-STARTTLS\r\n"
	                           "250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n"
	                           "250-CHUNKING\r\n250-AUTH CRAM-MD5 plain LOGIN\r\n"
	                           "250-XSTARTTLS\r\n250-\r\n250 REQUIRETLS\r\n";
	struct smtp_caps caps = {0};
	struct smtp_reply r;
	size_t used;

	(void)state;
	smtp_reply_init(&r, smtp_caps_line, &caps);
	assert_int_equal(smtp_reply_feed(&r, slice_of(ehlo), &used), SMTP_REPLY_COMPLETE);
	assert_int_equal(caps.ext, (1 << 12) - 1);
	assert_true(caps.size == 52428800);
	caps = (struct smtp_caps){0};
	smtp_reply_init(&r, smtp_caps_line, &caps);
	smtp_reply_feed(&r, slice_of("250-x\r\n250-AUTH=LOGIN\r\n250-SIZE\r\n250 SIZE x\r\n"),
	                &used);
	assert_int_equal(caps.ext, SMTP_EXT_AUTH | SMTP_EXT_AUTH_LOGIN | SMTP_EXT_SIZE);
	assert_true(caps.size == 0);
	caps = (struct smtp_caps){0};
	smtp_caps_line(&caps, 1, (struct slice){"STARTTLS\0", 9});
	smtp_caps_line(&caps, 1, slice_of("LOGIN"));
	assert_int_equal(caps.ext, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_write),       cmocka_unit_test(test_write_long),
	    cmocka_unit_test(test_read),        cmocka_unit_test(test_read_every_byte),
	    cmocka_unit_test(test_read_bounds), cmocka_unit_test(test_caps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
