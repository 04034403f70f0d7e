/* Unit tests of smtpbody: where a body ends, smuggling, dot-stuffing, every split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "smtpbody.h"

struct outcome {
	enum smtp_body_result result;
	size_t used;
	size_t n;
	char text[64];
};

/* What RFC 5321 says, read off the whole text at once: the oracle for the tables. */
static void oracle(struct outcome *o, const char *p, size_t n)
{
	size_t i = 0;
	int start = 1;

	*o = (struct outcome){.result = SMTP_BODY_MORE};
	while (i < n) {
		if (start && p[i] == '.') {
			if (n - i >= 3 && p[i + 1] == '\r' && p[i + 2] == '\n') {
				o->result = SMTP_BODY_END;
				o->used = i + 3;
				return;
			}
			/* Nothing, or the CR that may be part of the end, is left undecided. */
			if (n - i == 1 || (n - i == 2 && p[i + 1] == '\r'))
				break;
			start = 0;
			if (p[i + 1] == '\r') {
				o->result = SMTP_BODY_BAD;
				o->used = i + 2;
				return;
			}
			i++;
			if (p[i] == '.') {
				o->text[o->n++] = p[i++];
				continue;
			}
		}
		if (p[i] == '\n' || (p[i] == '\r' && i + 1 < n && p[i + 1] != '\n')) {
			if (p[i] == '\r')
				o->text[o->n++] = '\r';
			o->result = SMTP_BODY_BAD;
			o->used = p[i] == '\r' ? i + 1 : i;
			return;
		}
		o->text[o->n++] = p[i];
		start = 0;
		if (p[i] == '\r' && i + 1 < n) {
			o->text[o->n++] = '\n';
			i++;
			start = 1;
		}
		i++;
	}
	o->used = n;
}

/* Feeds the text cut at the given place (cut >= n: whole). */
static void decode(struct outcome *o, const char *p, size_t n, size_t cut)
{
	struct smtp_body_in in;
	size_t from = 0;

	smtp_body_in_init(&in);
	*o = (struct outcome){.result = SMTP_BODY_MORE};
	while (from < n) {
		size_t len = from < cut && cut < n ? cut - from : n - from;
		char *piece = malloc(len); /* its own block, for the sanitizer */
		size_t used;
		size_t out;

		assert_non_null(piece);
		memcpy(piece, p + from, len);
		o->result = smtp_body_decode(&in, piece, len, &used, &out);
		memcpy(o->text + o->n, piece, out);
		free(piece);
		o->n += out;
		o->used += used;
		from += len;
		if (o->result != SMTP_BODY_MORE)
			return;
	}
}

static void same(const struct outcome *a, const struct outcome *b)
{
	assert_int_equal(a->result, b->result);
	assert_int_equal(a->used, b->used);
	assert_int_equal(a->n, b->n);
	assert_memory_equal(a->text, b->text, a->n);
}

/* All texts of up to seven bytes over the alphabet that matters, at every split. */
static void test_decode_exhaustive(void **state)
{
	static const char alphabet[] = {'a', '.', '\r', '\n', '\0'};
	char text[8];
	struct outcome want;
	struct outcome got;
	size_t len;
	size_t cut;
	unsigned long total = 1;
	unsigned long k;

	(void)state;
	for (len = 1; len <= 7; len++) {
		total *= sizeof(alphabet);
		for (k = 0; k < total; k++) {
			unsigned long v = k;
			size_t i;

			for (i = 0; i < len; i++, v /= sizeof(alphabet))
				text[i] = alphabet[v % sizeof(alphabet)];
			oracle(&want, text, len);
			for (cut = 1; cut <= len; cut++) {
				decode(&got, text, len, cut);
				same(&got, &want);
			}
		}
	}
}

#define T(s) (s), sizeof(s) - 1

static void test_decode_cases(void **state)
{
	static const struct {
		const char *in;
		size_t n;
		enum smtp_body_result result;
		const char *out;
		size_t out_n;
		size_t left;
	} cases[] = {
	    {T(".\r\n"), SMTP_BODY_END, T(""), 0},
	    {T("\r\n.\r\n"), SMTP_BODY_END, T("\r\n"), 0},
	    {T("a\r\n.\r\nQUIT\r\n"), SMTP_BODY_END, T("a\r\n"), 6},
	    {T("..\r\n.\r\n"), SMTP_BODY_END, T(".\r\n"), 0},
	    {T("...\r\n.\r\n"), SMTP_BODY_END, T("..\r\n"), 0},
	    {T(".a\r\n.\r\n"), SMTP_BODY_END, T("a\r\n"), 0},
	    {T("a.\r\n.\r\n"), SMTP_BODY_END, T("a.\r\n"), 0},
	    {T("a\0b\r\n.\r\n"), SMTP_BODY_END, T("a\0b\r\n"), 0},
	    {T("\xff\xfe\r\n.\r\n"), SMTP_BODY_END, T("\xff\xfe\r\n"), 0},
	    /* smuggling: each must end the transaction, none may end the message */
	    {T("a\n.\n"), SMTP_BODY_BAD, T("a"), 3},
	    {T("a\n.\r\n"), SMTP_BODY_BAD, T("a"), 4},
	    {T("a\r.\r\n"), SMTP_BODY_BAD, T("a\r"), 3},
	    {T("a\r.\r"), SMTP_BODY_BAD, T("a\r"), 2},
	    {T("a\r\n.\n"), SMTP_BODY_BAD, T("a\r\n"), 1},
	    {T("a\r\n.\r.\r\n"), SMTP_BODY_BAD, T("a\r\n"), 3},
	    {T("a\r\n.\r\r\n"), SMTP_BODY_BAD, T("a\r\n"), 2},
	    {T("a\r\r\n.\r\n"), SMTP_BODY_BAD, T("a\r"), 5},
	    {T("a\n\r\n.\r\n"), SMTP_BODY_BAD, T("a"), 6},
	    {T("a\r\n\0.\r\n"), SMTP_BODY_MORE, T("a\r\n\0.\r\n"), 0},
	    {T("a\r\n.\0\r\n"), SMTP_BODY_MORE, T("a\r\n\0\r\n"), 0},
	    {T("a\r\0\n.\r\n"), SMTP_BODY_BAD, T("a\r"), 5},
	    {T("a\xc2\x85.\xc2\x85"), SMTP_BODY_MORE, T("a\xc2\x85.\xc2\x85"), 0},
	    {T("a\r\n .\r\n"), SMTP_BODY_MORE, T("a\r\n .\r\n"), 0},
	    {T("a\r\n. \r\n"), SMTP_BODY_MORE, T("a\r\n \r\n"), 0},
	};
	struct outcome got;
	size_t i;
	size_t cut;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (cut = 1; cut <= cases[i].n; cut++) {
			decode(&got, cases[i].in, cases[i].n, cut);
			assert_int_equal(got.result, cases[i].result);
			assert_int_equal(got.n, cases[i].out_n);
			assert_memory_equal(got.text, cases[i].out, got.n);
			assert_int_equal(cases[i].n - got.used, cases[i].left);
		}
	}
}

static void test_decode_sticky(void **state)
{
	struct smtp_body_in in;
	char bad[] = "a\nb";
	char good[] = "b\r\n.\r\n";
	size_t used;
	size_t out;

	(void)state;
	smtp_body_in_init(&in);
	assert_int_equal(smtp_body_decode(&in, bad, 3, &used, &out), SMTP_BODY_BAD);
	assert_int_equal(smtp_body_decode(&in, good, 6, &used, &out), SMTP_BODY_BAD);
	assert_int_equal(used, 0);
	assert_int_equal(out, 0);
	smtp_body_in_init(&in);
	assert_int_equal(smtp_body_decode(&in, good, 0, &used, &out), SMTP_BODY_MORE);
	assert_int_equal(smtp_body_decode(&in, good, 6, &used, &out), SMTP_BODY_END);
	assert_int_equal(smtp_body_decode(&in, good, 6, &used, &out), SMTP_BODY_END);
	assert_int_equal(used, 0);
}

/* Content with every line end made CRLF and the last line ended, and a dot doubled that has only
 * NULs before it: what must arrive. */
static void normal_lines(struct buf *out, const char *p, size_t n)
{
	size_t i;
	size_t nuls = 0; /* at the start of the line, and nothing else so far */
	int start = 1;
	int only = 1;

	for (i = 0; i < n; i++) {
		start = p[i] == '\r' || p[i] == '\n';
		if (start) {
			buf_puts(out, "\r\n");
			i += p[i] == '\r' && i + 1 < n && p[i + 1] == '\n';
			nuls = 0;
			only = 1;
		} else {
			buf_putc(out, p[i]);
			if (p[i] == '.' && only && nuls > 0)
				buf_putc(out, '.');
			nuls++;
			only = only && p[i] == '\0';
		}
	}
	if (!start)
		buf_puts(out, "\r\n");
}

/* A server that drops NULs must see the end where it is, and nowhere else. */
static void expect_one_end(const struct buf *wire)
{
	char text[100];
	struct smtp_body_in in;
	size_t n = 0;
	size_t used;
	size_t out;
	size_t i;

	for (i = 0; i < wire->len; i++)
		if (buf_data(wire)[i])
			text[n++] = buf_data(wire)[i];
	smtp_body_in_init(&in);
	assert_int_equal(smtp_body_decode(&in, text, n, &used, &out), SMTP_BODY_END);
	assert_int_equal(used, n);
}

static void encode(struct buf *out, const char *p, size_t n, size_t cut)
{
	struct smtp_body_out b;
	char *first = malloc(cut + 1);
	char *second = malloc(n - cut + 1);

	assert_true(first && second);
	memcpy(first, p, cut);
	memcpy(second, p + cut, n - cut);
	smtp_body_out_init(&b);
	assert_int_equal(smtp_body_encode(&b, (struct slice){first, cut}, out), 0);
	assert_int_equal(smtp_body_encode(&b, (struct slice){second, n - cut}, out), 0);
	assert_true(out->len <= 2 * n + 2);
	assert_int_equal(smtp_body_finish(&b, out), 0);
	free(first);
	free(second);
}

/* What is encoded decodes to the same content, ends once and exactly at its end: every text of up
 * to six bytes, every split. */
static void test_encode_exhaustive(void **state)
{
	static const char alphabet[] = {'a', '.', '\r', '\n', '\0'};
	char text[8];
	struct buf wire;
	struct buf want;
	unsigned long total = 1;
	unsigned long k;
	size_t len;
	size_t cut;

	(void)state;
	buf_init(&wire, 100);
	buf_init(&want, 100);
	for (len = 0; len <= 6; len++, total *= sizeof(alphabet)) {
		for (k = 0; k < total; k++) {
			unsigned long v = k;
			size_t i;

			for (i = 0; i < len; i++, v /= sizeof(alphabet))
				text[i] = alphabet[v % sizeof(alphabet)];
			buf_truncate(&want, 0);
			normal_lines(&want, text, len);
			for (cut = 0; cut <= len; cut++) {
				struct smtp_body_in in;
				size_t used;
				size_t out;

				buf_truncate(&wire, 0);
				encode(&wire, text, len, cut);
				expect_one_end(&wire);
				smtp_body_in_init(&in);
				assert_int_equal(
				    smtp_body_decode(&in, buf_data(&wire), wire.len, &used, &out),
				    SMTP_BODY_END);
				assert_int_equal(used, wire.len);
				assert_int_equal(out, want.len);
				assert_memory_equal(buf_data(&wire), buf_data(&want), out);
			}
		}
	}
	buf_clear(&wire);
	buf_clear(&want);
}

static void test_encode_long(void **state)
{
	enum { N = 200000 };
	char *text = malloc(N);
	struct smtp_body_in in;
	struct buf wire;
	struct buf want;
	unsigned seed = 1;
	size_t used;
	size_t out;
	size_t i;

	(void)state;
	assert_non_null(text);
	buf_init(&wire, 4 * N);
	buf_init(&want, 4 * N);
	for (i = 0; i < N; i++) {
		seed = seed * 1103515245u + 12345u;
		text[i] = (seed >> 16) % 80 == 0 ? "\r\n.\n"[(seed >> 24) % 4] : (char)(seed >> 16);
	}
	normal_lines(&want, text, N);
	encode(&wire, text, N, N / 3);
	smtp_body_in_init(&in);
	assert_int_equal(smtp_body_decode(&in, buf_data(&wire), wire.len, &used, &out),
	                 SMTP_BODY_END);
	assert_int_equal(out, want.len);
	assert_memory_equal(buf_data(&wire), buf_data(&want), out);
	buf_clear(&wire);
	buf_clear(&want);
	free(text);
}

static void test_encode_full(void **state)
{
	struct smtp_body_out b;
	struct buf out;

	(void)state;
	buf_init(&out, 4);
	smtp_body_out_init(&b);
	assert_int_equal(smtp_body_encode(&b, slice_of("abcde"), &out), -1);
	assert_true(out.failed);
	assert_int_equal(smtp_body_finish(&b, &out), -1);
	buf_clear(&out);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_decode_exhaustive), cmocka_unit_test(test_decode_cases),
	    cmocka_unit_test(test_decode_sticky),     cmocka_unit_test(test_encode_exhaustive),
	    cmocka_unit_test(test_encode_long),       cmocka_unit_test(test_encode_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
