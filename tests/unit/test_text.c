/* Unit tests of text and textfield: events, escapes, tables, errors, limits, canonical output. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "text_all.h"

/* A source that gives `step` bytes at a time, and fails at fail_at unless that is 0. */
struct drip {
	const char *p;
	size_t n;
	size_t step;
	size_t fail_at;
	size_t given;
};

static ssize_t drip_fill(void *arg, char *p, size_t n)
{
	struct drip *d = arg;
	size_t k = d->step < d->n - d->given ? d->step : d->n - d->given;
	if (d->fail_at && d->given >= d->fail_at)
		return -1;
	if (k > n)
		k = n;
	memcpy(p, d->p + d->given, k);
	d->given += k;
	return (ssize_t)k;
}

/* step 0: from memory. */
static void open_drip(struct text_reader *r, struct drip *d, const char *p, size_t n, size_t step)
{
	*d = (struct drip){p, n, step, 0, 0};
	if (step)
		text_open(r, "file", drip_fill, d);
	else
		text_open_memory(r, "file", p, n);
}

static const size_t steps[] = {0, 1, 2, 3, 7, 64, 100000};
#define STEPS (sizeof(steps) / sizeof(*steps))

/* Reads all events into a trace: one letter each, names and values as text. */
static void trace(struct text_reader *r, struct buf *out, size_t piece)
{
	char p[64];
	ssize_t n;
	size_t start;
	for (;;) {
		switch (text_next(r)) {
		case TEXT_FIELD:
			buf_printf(out, "%s@%d ", r->token, r->line);
			break;
		case TEXT_OPEN:
			buf_puts(out, "{ ");
			break;
		case TEXT_CLOSE:
			buf_puts(out, "} ");
			break;
		case TEXT_LIST:
			buf_puts(out, "[ ");
			break;
		case TEXT_LIST_END:
			buf_puts(out, "] ");
			break;
		case TEXT_SCALAR:
			buf_printf(out, "%s ", r->token);
			break;
		case TEXT_BYTES:
			buf_putc(out, '<');
			start = out->len;
			while ((n = text_bytes_read(r, p, piece)) > 0)
				buf_append(out, p, (size_t)n);
			assert_int_equal(text_bytes_read(r, p, piece), n);
			if (n < 0) /* how much came before the error depends on the pieces */
				buf_truncate(out, start);
			buf_puts(out, "> ");
			break;
		case TEXT_END:
			assert_int_equal(text_next(r), TEXT_END);
			buf_puts(out, "END");
			return;
		default:
			assert_int_equal(text_next(r), TEXT_ERROR);
			buf_printf(out, "ERROR %s", r->error);
			return;
		}
	}
}

static void check_trace(const char *input, const char *expected)
{
	struct text_reader r;
	struct drip d;
	struct buf out;
	for (size_t i = 0; i < STEPS; i++) {
		for (size_t piece = 1; piece <= 64; piece *= 4) {
			buf_init(&out, 10000);
			open_drip(&r, &d, input, strlen(input), steps[i]);
			trace(&r, &out, piece);
			assert_string_equal(buf_str(&out), expected);
			buf_clear(&out);
		}
	}
}

static void test_events(void **state)
{
	(void)state;
	check_trace("", "END");
	check_trace(" # only a comment", "END");
	check_trace("a: 1\nb:-  # sign\n 0x1F c : true; d:'x'\"y\" # z\n 'w',",
	            "a@1 1 b@2 -0x1F c@3 true d@3 <xyw> END");
	check_trace("m { a: 1 n: < b: inf > } m {};\n\nk <>",
	            "m@1 { a@1 1 n@1 { b@1 inf } } m@1 { } k@3 { } END");
	check_trace("l: [1, x, 'a' 'b'] e: [] m [{a: 1}, <>] n: []",
	            "l@1 [ 1 x <ab> ] e@1 [ ] m@1 [ { a@1 1 } { } ] n@1 [ ] END");
	check_trace("f: 1.5e+3 g: .5 h: 1.f i: -inf j: 1E-2F",
	            "f@1 1.5e+3 g@1 .5 h@1 1.f i@1 -inf j@1 1E-2F END");
}

static void test_event_errors(void **state)
{
	(void)state;
	check_trace("a: 1\nb 5", "a@1 1 b@2 ERROR file:2: expected ':' or a message, found '5'");
	check_trace("a [{}, 5]", "a@1 [ { } ERROR file:1: expected ':' or a message, found '5'");
	check_trace("a: [1,]", "a@1 [ 1 ERROR file:1: expected a value, found ']'");
	check_trace("a: [[1]]", "a@1 [ ERROR file:1: expected a value, found '['");
	check_trace("a {\n>", "a@1 { ERROR file:2: expected a field name or '}', found '>'");
	check_trace("a <\n\n}", "a@1 { ERROR file:3: expected a field name or '>', found '}'");
	check_trace("}", "ERROR file:1: expected a field name, found '}'");
	check_trace("\n\x01", "ERROR file:2: expected a field name, found byte 0x01");
	check_trace("a: 1;;", "a@1 1 ERROR file:1: expected a field name, found ';'");
	check_trace("[x.y]: 1", "ERROR file:1: names in [ ] (extensions, Any) are not known here");
	check_trace("a: 1x", "a@1 ERROR file:1: 1x is not a number");
	check_trace("a: 08", "a@1 ERROR file:1: 08 is not a number");
	check_trace("a: -x", "a@1 ERROR file:1: -x is not a number");
	check_trace("a: 'x\n'", "a@1 <> ERROR file:1: a string does not end on its line");
	check_trace("a: 'x' \n 'y", "a@1 <> ERROR file:2: the input ends inside a string");
	check_trace("a {\n", "a@1 { ERROR file:2: the input ends where a field name or '}' was "
	                     "expected");
	check_trace("a: '\\q'", "a@1 <> ERROR file:1: expected a known escape, found 'q'");
	check_trace("a: '\\400'", "a@1 <> ERROR file:1: an octal escape past \\377");
	check_trace("a: '\\xg'", "a@1 <> ERROR file:1: expected a digit in an escape, found 'g'");
	check_trace("a: '\\ud800x'", "a@1 <> ERROR file:1: half a surrogate pair");
	check_trace("a: '\\ud800\\u0041'", "a@1 <> ERROR file:1: half a surrogate pair");
	check_trace("a: '\\udc00'", "a@1 <> ERROR file:1: half a surrogate pair");
	check_trace("a: '\\U00110000'", "a@1 <> ERROR file:1: a character past U+10FFFF");
	check_trace("a: '\\Uffffffff'", "a@1 <> ERROR file:1: a character past U+10FFFF");
}

static void test_escapes(void **state)
{
	static const struct {
		const char *in;
		struct slice out;
	} cases[] = {
	    {"'\\a\\b\\f\\n\\r\\t\\v\\?\\\\\\'\\\"'", {"\a\b\f\n\r\t\v?\\'\"", 11}},
	    {"'\\0\\00\\000\\0001'",
	     {"\0\0\0\0"
	      "1",
	      5}},
	    {"'\\1018\\18\\377'",
	     {"A8\x01"
	      "8\xff",
	      5}},
	    {"'\\x4\\x41\\x414\\xFf\\x4g'",
	     {"\x04"
	      "AA4\xff\x04g",
	      7}},
	    {"'\\u00e9\\u20AC\\U0001F600\\ud83d\\ude00'",
	     {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf0\x9f\x98\x80", 13}},
	    {"\"it's\" 'a \"b\"'", {"it'sa \"b\"", 9}},
	    {"\"\xff\xc3\xa9\r\t\x01\"", {"\xff\xc3\xa9\r\t\x01", 6}},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		for (size_t s = 0; s < STEPS; s++) {
			struct text_reader r;
			struct drip d;
			char doc[100], got[100];
			size_t len = 0;
			ssize_t n;
			snprintf(doc, sizeof(doc), "v: %s", cases[i].in);
			open_drip(&r, &d, doc, strlen(doc), steps[s]);
			assert_int_equal(text_next(&r), TEXT_FIELD);
			assert_int_equal(text_next(&r), TEXT_BYTES);
			while ((n = text_bytes_read(&r, got + len, 3)) > 0)
				len += (size_t)n;
			assert_int_equal(n, 0);
			assert_int_equal(len, cases[i].out.n);
			assert_memory_equal(got, cases[i].out.p, len);
			assert_int_equal(text_next(&r), TEXT_END);
		}
	}
}

static void check_literal(const char *bytes, size_t n, const char *expected)
{
	struct buf b;
	buf_init(&b, 100);
	assert_int_equal(text_put_literal(&b, bytes, n), 0);
	assert_string_equal(buf_str(&b), expected);
	assert_true(b.len <= TEXT_LITERAL_SIZE(n));
	buf_clear(&b);
}

static void test_literal(void **state)
{
	(void)state;
	check_literal("", 0, "\"\"");
	check_literal("Subject: it's\r\n", 15, "\"Subject: it's\\r\\n\"");
	check_literal("\t\"\\\a\x7f\0", 6, "\"\\t\\\"\\\\\\x07\\x7f\\x00\"");
	check_literal("\x04"
	              "4",
	              2, "\"\\x044\"");
	check_literal("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9,
	              "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
	check_literal("\xc2\x7f\xc2\x80\xc2\x9f\xc2\xa0", 8,
	              "\"\\xc2\\x7f\\u0080\\u009f\xc2\xa0\"");
	check_literal("\xc3", 1, "\"\\xc3\"");
	check_literal("\xc0\xaf\xe0\x80\x80\xed\xa0\x80\xf4\x90\x80\x80\xff", 13,
	              "\"\\xc0\\xaf\\xe0\\x80\\x80\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80\\xff\"");
	assert_true(text_is_utf8("", 0));
	assert_true(text_is_utf8("a\0\xf4\x8f\xbf\xbf", 6));
	assert_false(text_is_utf8("\xe2\x82", 2));
	assert_false(text_is_utf8("a\x80", 2));
}

/* Every pair of bytes comes back as it was. */
static void test_literal_pairs(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 65536; i++) {
		char pair[2] = {(char)(i >> 8), (char)(i & 255)}, got[16];
		struct text_reader r;
		struct buf b;
		buf_init(&b, 100);
		buf_puts(&b, "v:");
		assert_int_equal(text_put_literal(&b, pair, 2), 0);
		assert_true(text_is_utf8(buf_data(&b), b.len));
		text_open_memory(&r, "pair", buf_data(&b), b.len);
		assert_int_equal(text_next(&r), TEXT_FIELD);
		assert_int_equal(text_next(&r), TEXT_BYTES);
		assert_int_equal(text_bytes_read(&r, got, sizeof(got)), 2);
		assert_memory_equal(got, pair, 2);
		assert_int_equal(text_next(&r), TEXT_END);
		buf_clear(&b);
	}
}

/* Reads `input` with every step and returns the result of the last, which is that of all. */
static int read_all(const char *input, size_t n, struct all *a, struct text_reader *r)
{
	struct drip d;
	int rc = 0;
	for (size_t s = 0; s < STEPS; s++) {
		char error[TEXT_ERROR_MAX];
		memcpy(error, r->error, sizeof(error));
		int before = rc;
		if (s > 0)
			all_clear(a);
		text_init(&all_table, a);
		bool skip = r->skip_unknown;
		open_drip(r, &d, input, n, steps[s]);
		r->skip_unknown = skip;
		rc = text_read(r, &all_table, a);
		if (s > 0) {
			assert_int_equal(rc, before);
			assert_string_equal(r->error, error);
		}
	}
	return rc;
}

/* Many lines at once are what each by itself is, as far as they are of the kind. */
static void test_plain_lines(void **state)
{
	(void)state;
	static const char bytes[] = "aaaaaaaaaaaaaa\t\t\"\\\x80\r\n";
	unsigned chance = 1;
	size_t lines = 0;
	for (int round = 0; round < 3000; round++) {
		char in[64];
		struct buf out, each;
		size_t n = 0;
		while (n < sizeof in - 2) {
			chance = chance * 1103515245 + 12345;
			unsigned at = chance >> 16;
			if (at % 5 == 0)
				in[n++] = '\r';
			in[n++] = at % 5 == 0 ? '\n' : bytes[at / 5 % (sizeof bytes - 1)];
		}
		const size_t most = (size_t)round % 7 * 5 + 1;
		buf_init(&out, round % 3 ? 4096 : (size_t)round % 100);
		buf_init(&each, 4096);
		size_t took = text_put_plain_lines(&out, in, n, most);
		assert_false(out.failed);
		for (size_t at = 0; at < took; lines++) {
			const char *end = memchr(in + at, '\n', took - at);
			assert_non_null(end);
			size_t line = (size_t)(end - in) + 1 - at;
			assert_true(line <= most);
			assert_int_equal(text_put_literal_line(&each, in + at, line), 0);
			at += line;
		}
		assert_int_equal(out.len, each.len);
		assert_memory_equal(buf_data(&out), buf_data(&each), out.len);
		buf_clear(&out);
		buf_clear(&each);
	}
	assert_true(lines > 1000);
}

static void test_table(void **state)
{
	static const char input[] =
	    "# all types\n"
	    "flag: t i32: -0x80000000, i64: -9223372036854775808; u32: 4294967295\n"
	    "u64: 01777777777777777777777 color: MINUS s: 'a' \"\xc3\xa9\" data: '\\0\\377'\n"
	    "list: ['x', 'y'] list: 'z' nums: [1, 2] nums: 3\n"
	    "sub: < n: - 5 via: [] >\n"
	    "subs [{n: 1}, {note: 'k'}] subs {}\n"
	    "users { key: 'u' value { plain { password: 'p' } } }\n"
	    "users { key: '' value: { denied {} } }\n"
	    "sep: ''\n";
	struct text_reader r = {0};
	struct all a;
	(void)state;
	assert_int_equal(read_all(input, sizeof(input) - 1, &a, &r), 0);
	assert_true(a.flag);
	assert_true(a.i32 == INT32_MIN && a.i64 == INT64_MIN);
	assert_true(a.u32 == UINT32_MAX && a.u64 == UINT64_MAX);
	assert_int_equal(a.color, -1);
	assert_string_equal(a.s, "a\xc3\xa9");
	assert_int_equal(a.data.len, 2);
	assert_int_equal(a.list.count, 3);
	assert_string_equal(a.list.item[2], "z");
	assert_int_equal(a.nums.count, 3);
	assert_int_equal(a.nums.item[2], 3);
	assert_true(a.sub.n == -5);
	assert_int_equal(a.sub_count, 3);
	assert_string_equal(a.subs[1].note, "k");
	assert_int_equal(a.user_count, 2);
	assert_string_equal(a.users[0].key, "u");
	assert_memory_equal(buf_data(&a.users[0].value.plain.password), "p", 1);
	assert_int_equal(a.users[1].value.given[1], 8);
	assert_string_equal(a.sep, "");
	assert_int_equal(a.given[0], 2);
	assert_int_equal(a.given[8], 4);
	assert_int_equal(a.given[13], 9);

	static const char expected[] =
	    "flag: true\ni32: -2147483648\ni64: -9223372036854775808\nu32: 4294967295\n"
	    "u64: 18446744073709551615\ncolor: MINUS\ns: \"a\xc3\xa9\"\ndata: \"\\x00\\xff\"\n"
	    "list: \"x\"\nlist: \"y\"\nlist: \"z\"\nnums: 1\nnums: 2\nnums: 3\n"
	    "sub {\n  n: -5\n}\n"
	    "subs { n: 1 }\nsubs { note: \"k\" }\nsubs { }\n"
	    "users {\n  key: \"u\"\n  value {\n    plain {\n      password: \"p\"\n    }\n  }\n}\n"
	    "users {\n  key: \"\"\n  value {\n    denied {\n    }\n  }\n}\n"
	    "sep: \"\"\n";
	struct text_writer w;
	struct buf out;
	buf_init(&out, 10000);
	text_writer_init(&w, &out);
	text_put_struct(&w, &all_table, &a);
	assert_string_equal(buf_str(&out), expected);
	buf_truncate(&out, 0);
	text_put_fields(&w, &all_table, &a, 0, 2);
	assert_string_equal(buf_str(&out), "flag: true\ni32: -2147483648\n");
	buf_clear(&out);
	all_clear(&a);

	/* Nothing given: nothing written, not even an empty sub. */
	text_writer_init(&w, &out);
	text_put_struct(&w, &all_table, &a);
	assert_int_equal(out.len, 0);
	a.sub.n = 7; /* set by a program, not by reading */
	text_put_struct(&w, &all_table, &a);
	assert_string_equal(buf_str(&out), "sub {\n  n: 7\n}\n");
	buf_clear(&out);
	all_clear(&a);
}

static void test_table_errors(void **state)
{
	static const char *const cases[][2] = {
	    {"\nbogus: 1", "file:2: bogus: unknown field"},
	    {"sub {\n bogus {} }", "file:2: bogus: unknown field in this { }"},
	    {"i32: 0\n\ni32: 0", "file:3: i32: given twice, first on line 1"},
	    {"sub {}\nsub {}", "file:2: sub: given twice, first on line 1"},
	    {"i32: 2147483648",
	     "file:1: i32: 2147483648 is not an integer from -2147483648 to 2147483647"},
	    {"i64: 9223372036854775808",
	     "file:1: i64: 9223372036854775808 is not an integer from -9223372036854775808 to "
	     "9223372036854775807"},
	    {"u32: -0", "file:1: u32: -0 is not an integer from 0 to 4294967295"},
	    {"u64: 18446744073709551616",
	     "file:1: u64: 18446744073709551616 is not an integer from 0 to 18446744073709551615"},
	    {"u32: 1.0", "file:1: u32: 1.0 is not an integer from 0 to 4294967295"},
	    {"u32: inf", "file:1: u32: inf is not an integer from 0 to 4294967295"},
	    {"u32: '5'", "file:1: u32: must be a number, without quotes"},
	    {"flag: 'true'", "file:1: flag: must be true or false, without quotes"},
	    {"flag: 2", "file:1: flag: 2 is neither true nor false"},
	    {"flag: TRUE", "file:1: flag: TRUE is neither true nor false"},
	    {"color: PINK",
	     "file:1: color: must be one of RED, GREEN, BLUE, MINUS, without quotes"},
	    {"color: 9", "file:1: color: must be one of RED, GREEN, BLUE, MINUS, without quotes"},
	    {"color: 'RED'",
	     "file:1: color: must be one of RED, GREEN, BLUE, MINUS, without quotes"},
	    {"s: x", "file:1: s: must be a string in quotes"},
	    {"s: {}", "file:1: s: must be a single value, not a message"},
	    {"s: ['x']", "file:1: s: must be a single value, not a list"},
	    {"s: 'x\\0y'", "file:1: s: a NUL byte in a string"},
	    {"s: '\\xff'\n", "file:1: s: not valid UTF-8"},
	    {"sub: 5", "file:1: sub: must be a message in { }"},
	    {"sub: 'x'", "file:1: sub: must be a message in { }"},
	    {"list []", "file:1: list: needs a ':'"},
	    {"nums: [1, {}]", "file:1: nums: must be a single value, not a message"},
	    {"users { value { denied {}\n plain {} } }",
	     "file:2: plain: excludes denied, which is given too"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct text_reader r = {0};
		struct all a;
		assert_int_equal(read_all(cases[i][0], strlen(cases[i][0]), &a, &r), -1);
		assert_string_equal(r.error, cases[i][1]);
		assert_int_equal(r.fault, TEXT_BAD);
		all_clear(&a);
	}
}

static void test_skip_unknown(void **state)
{
	static const char input[] =
	    "a: 1 b: 'x' 'y' c { d: [1, 2] e { f: <> } } g: [{h: 1}, {}] i: [] j {} i32: 7 k: -inf";
	struct text_reader r = {.skip_unknown = true};
	struct all a;
	(void)state;
	assert_int_equal(read_all(input, sizeof(input) - 1, &a, &r), 0);
	assert_int_equal(a.i32, 7);
	all_clear(&a);
	/* What is passed over must still be text format. */
	assert_int_equal(read_all("b: '\\q' i32: 1", 14, &a, &r), -1);
	all_clear(&a);
	assert_int_equal(read_all("b { c: }", 8, &a, &r), -1);
	all_clear(&a);
}

static void repeat(struct buf *b, const char *s, size_t times)
{
	while (times--)
		buf_puts(b, s);
}

static void check_limit(const char *before, const char *unit, size_t most, const char *after,
                        const char *error)
{
	for (size_t extra = 0; extra < 2; extra++) {
		struct text_reader r = {0};
		struct all a;
		struct buf b;
		buf_init(&b, 1000000);
		buf_puts(&b, before);
		repeat(&b, unit, most + extra);
		buf_puts(&b, after);
		assert_false(b.failed);
		assert_int_equal(read_all(buf_data(&b), b.len, &a, &r), extra ? -1 : 0);
		assert_string_equal(r.error, extra ? error : "");
		all_clear(&a);
		buf_clear(&b);
	}
}

static void test_limits(void **state)
{
	struct text_reader r = {.skip_unknown = true};
	struct all a;
	struct buf b;
	(void)state;
	check_limit("s: '", "x", 9000, "'", "file:1: s: longer than 9000 bytes");
	check_limit("sep: '", "\\x41", TEXT_STRING_MAX, "'", "file:1: sep: longer than 4096 bytes");
	check_limit("data: '", "\\0", 100000, "'", "file:1: data: longer than 100000 bytes");
	check_limit("", "list: 'x' ", ALL_ELEMENTS, "", "file:1: list: given too often");
	check_limit("", "nums: 1 ", ALL_ELEMENTS, "", "file:1: nums: given too often");
	check_limit("", "subs {}", ALL_ELEMENTS, "", "file:1: too many elements");
	check_limit("i32: ", "0", TEXT_TOKEN_MAX - 1, "", "file:1: a name or number is too long");
	for (unsigned extra = 0; extra < 2; extra++) {
		buf_init(&b, 1000);
		repeat(&b, "m {", TEXT_DEPTH_MAX + extra);
		repeat(&b, "}", TEXT_DEPTH_MAX + extra);
		assert_int_equal(read_all(buf_data(&b), b.len, &a, &r), extra ? -1 : 0);
		if (extra)
			assert_string_equal(r.error, "file:1: nested too deeply");
		all_clear(&a);
		buf_clear(&b);
	}
}

/* Every prefix of a document: the same verdict from memory and byte by byte (read_all sees to
 * that), and a torn end is told from a bad file. */
static void test_truncated(void **state)
{
	static const char input[] =
	    "s: 'abc' \"\\u00e9\" sub { n: 5 via: ['x', 'y'] } # c\nu32: 7\n";
	(void)state;
	for (size_t n = 0; n < sizeof(input) - 1; n++) {
		struct text_reader r = {0};
		struct all a;
		int rc = read_all(input, n, &a, &r);
		assert_true(rc == 0 || r.fault == TEXT_TRUNCATED);
		all_clear(&a);
	}
}

static void test_source_fails(void **state)
{
	static const char input[] = "i32: 5 s: 'abc' # comment\nsub { n: 7 } nums: [1, 2]";
	(void)state;
	for (size_t at = 1; at < sizeof(input) - 1; at++) {
		struct text_reader r;
		struct all a;
		struct drip d = {input, sizeof(input) - 1, 1, at, 0};
		text_open(&r, "file", drip_fill, &d);
		text_init(&all_table, &a);
		assert_int_equal(text_read(&r, &all_table, &a), -1);
		/* A name cut by the failure must not be taken for an unknown one. */
		assert_int_equal(r.fault, TEXT_IO);
		assert_non_null(strstr(r.error, ": cannot be read"));
		all_clear(&a);
	}
}

struct spool {
	char *id;
	uint64_t size;
	int given[3];
};

static const struct text_field spool_fields[] = {
    {.name = "ID", .number = 1, .type = TEXT_STRING, .offset = offsetof(struct spool, id)},
    {.name = "data", .number = 5, .type = TEXT_STREAM},
    {.name = "size", .number = 101, .type = TEXT_UINT64, .offset = offsetof(struct spool, size)},
};
static const struct text_message spool_table = TEXT_TABLE(spool_fields, struct spool);

/* A spool file of any size, made while it is read. */
struct stream {
	uint64_t lines;
	unsigned state;
};

static ssize_t stream_fill(void *arg, char *p, size_t n)
{
	static const char line[] = "  \"a line of the message, with an escape \\t in it\\r\\n\"\n";
	struct stream *s = arg;
	(void)n;
	if (s->state == 0) {
		s->state = 1;
		memcpy(p, "ID: 'x' data:\n", 14);
		return 14;
	}
	if (s->lines > 0) {
		s->lines--;
		memcpy(p, line, sizeof(line) - 1);
		return sizeof(line) - 1;
	}
	if (s->state == 1) {
		s->state = 2;
		memcpy(p, "size: 7\n", 8);
		return 8;
	}
	return 0;
}

static void test_stream(void **state)
{
	static const char line[] = "a line of the message, with an escape \t in it\r\n";
	const uint64_t lines = 10 * 1024 * 1024 / (sizeof(line) - 1);
	struct stream source = {lines, 0};
	struct text_reader r;
	struct spool s;
	struct rusage before, after;
	uint64_t got = 0;
	char p[1000];
	ssize_t n;
	(void)state;
	text_open(&r, "spool", stream_fill, &source);
	text_init(&spool_table, &s);
	assert_int_equal(text_read(&r, &spool_table, &s), 1);
	assert_string_equal(s.id, "x");
	assert_string_equal(spool_table.field[1].name, r.token);
	getrusage(RUSAGE_SELF, &before);
	while ((n = text_bytes_read(&r, p, sizeof(p))) > 0)
		for (ssize_t i = 0; i < n; i++, got++)
			if (p[i] != line[got % (sizeof(line) - 1)])
				fail();
	getrusage(RUSAGE_SELF, &after);
	assert_int_equal(n, 0);
	assert_true(got == lines * (sizeof(line) - 1));
	assert_true(after.ru_maxrss - before.ru_maxrss < 512);
	assert_int_equal(text_read(&r, &spool_table, &s), 0);
	assert_true(s.size == 7);
	assert_true(text_offset(&r) == 14 + lines * (sizeof(line) - 1 + 3 + 3 + 2) + 8);
	assert_int_equal(s.given[2], (int)lines + 2);
	text_clear(&spool_table, &s);
}

/* Line ends as we write them, and whatever is nearly one, come out the same however they are cut:
 * a piece of one byte never meets what is made for whole ones. */
static void test_line_ends(void **state)
{
	static const char input[] =
	    "data: \n  \"one\\r\\n\"\n  \"it's\\r\\n\"\n'two\\r\\n'\n  \"\\r\\n\"\n  'x\\r\\n'\n"
	    "\"\\r\\n\"\n# c\n\"\\r\\n\"\n\t\"\\r\\n\" \"\\r\\n\\\"\\r\\n\"\n\n\"\\r\\r\\n\"\n   "
	    "\"\\n\"\n ID: 'x' }";
	static const char wanted[] =
	    "one\r\nit's\r\ntwo\r\n\r\nx\r\n\r\n\r\n\r\n\r\n\"\r\n\r\r\n\n";
	(void)state;
	for (size_t i = 0; i < STEPS; i++) {
		for (size_t piece = 1; piece < sizeof wanted + 5; piece++) {
			struct text_reader r;
			struct drip d;
			char p[200];
			size_t got = 0;
			ssize_t n;
			open_drip(&r, &d, input, sizeof input - 1, steps[i]);
			assert_int_equal(text_next(&r), TEXT_FIELD);
			assert_int_equal(text_next(&r), TEXT_BYTES);
			while ((n = text_bytes_read(&r, p + got, piece)) > 0)
				got += (size_t)n;
			assert_int_equal(n, 0);
			assert_int_equal(got, sizeof wanted - 1);
			assert_memory_equal(p, wanted, got);
			assert_int_equal(text_next(&r), TEXT_FIELD);
			assert_int_equal(text_next(&r), TEXT_BYTES);
			assert_int_equal(text_next(&r), TEXT_ERROR);
			assert_non_null(strstr(r.error, "file:14: "));
		}
	}
}

/* The caller may leave the value of a STREAM field unread. */
static void test_stream_unread(void **state)
{
	static const char input[] = "data: 'abc' 'def' ID: 'x' size: 5";
	struct text_reader r;
	struct spool s;
	char p[2];
	(void)state;
	text_open_memory(&r, "spool", input, sizeof(input) - 1);
	text_init(&spool_table, &s);
	assert_int_equal(text_read(&r, &spool_table, &s), 1);
	assert_int_equal(text_bytes_read(&r, p, 2), 2);
	assert_int_equal(text_read(&r, &spool_table, &s), 0);
	assert_string_equal(s.id, "x");
	text_clear(&spool_table, &s);
	text_open_memory(&r, "spool", "data: [ 'x' ]", 13);
	text_init(&spool_table, &s);
	assert_int_equal(text_read(&r, &spool_table, &s), -1);
	text_clear(&spool_table, &s);
}

static void test_offset(void **state)
{
	static const char input[] = "a { b: 1 } c { d: 'x' }\n# end";
	struct text_reader r;
	(void)state;
	text_open_memory(&r, "o", input, sizeof(input) - 1);
	while (text_next(&r) != TEXT_CLOSE)
		;
	assert_true(text_offset(&r) == 10);
	while (text_next(&r) != TEXT_CLOSE)
		;
	assert_true(text_offset(&r) == 23);
	assert_int_equal(text_next(&r), TEXT_END);
	assert_true(text_offset(&r) == sizeof(input) - 1);
}

static void test_writer(void **state)
{
	struct text_writer w;
	struct buf out;
	(void)state;
	buf_init(&out, 1000);
	text_writer_init(&w, &out);
	text_put_string(&w, "ID", "x");
	text_put_open(&w, "attempt", true);
	text_put_uint(&w, "rcpt", 0);
	text_put_open(&w, "at", false);
	text_put_int(&w, "seconds", -1);
	text_put_close(&w);
	text_put_word(&w, "status", "FAILED");
	text_put_close(&w);
	text_put_open(&w, "m", false);
	text_put_open(&w, "one", true);
	text_put_close(&w);
	text_put_bool(&w, "b", false);
	text_put_bytes(&w, "c", "\0", 1);
	text_put_close(&w);
	assert_string_equal(buf_str(&out), "ID: \"x\"\n"
	                                   "attempt { rcpt: 0 at { seconds: -1 } status: FAILED }\n"
	                                   "m {\n  one { }\n  b: false\n  c: \"\\x00\"\n}\n");
	buf_clear(&out);

	/* A full buffer is told, and nothing is written past it. */
	buf_init(&out, 20);
	text_writer_init(&w, &out);
	text_put_string(&w, "s", "0123456789012345678901234567890");
	text_put_int(&w, "i", 5);
	assert_true(out.failed);
	assert_int_equal(text_put_literal(&out, "x", 1), -1);
	buf_clear(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_events),        cmocka_unit_test(test_event_errors),
	    cmocka_unit_test(test_escapes),       cmocka_unit_test(test_literal),
	    cmocka_unit_test(test_literal_pairs), cmocka_unit_test(test_plain_lines),
	    cmocka_unit_test(test_table),         cmocka_unit_test(test_table_errors),
	    cmocka_unit_test(test_skip_unknown),  cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_truncated),     cmocka_unit_test(test_source_fails),
	    cmocka_unit_test(test_stream),        cmocka_unit_test(test_line_ends),
	    cmocka_unit_test(test_stream_unread), cmocka_unit_test(test_offset),
	    cmocka_unit_test(test_writer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
