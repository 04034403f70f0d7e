/*
 * Fuzz target of authres. Any input as a message: what comes out does not depend on how it was cut,
 * filtering it again changes nothing, lines come out in order and whole, the body is untouched, and
 * no field that plainly begins with our name is left. The input as the parts of a result: what is
 * written is one field each, and the filter knows both for ours.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "authres.h"

#define NAME "here.test"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void take(void *arg, const char *p, size_t n)
{
	check(n > 0);
	check(buf_append(arg, p, n) == 0);
}

static size_t filter(struct slice in, size_t step, struct buf *out)
{
	struct authres_filter f;
	buf_init(out, 1 << 24);
	authres_filter_init(&f, NAME, take, out);
	for (size_t at = 0; at < in.n; at += step)
		authres_filter_feed(&f, in.p + at, step < in.n - at ? step : in.n - at);
	authres_filter_end(&f);
	authres_filter_clear(&f);
	return f.removed;
}

/* Takes a line with its end; false at the end. */
static bool line_take(struct slice *s, struct slice *line)
{
	const char *lf = s->n > 0 ? memchr(s->p, '\n', s->n) : NULL;
	line->p = s->p;
	line->n = lf ? (size_t)(lf - s->p) + 1 : s->n;
	s->p += line->n;
	s->n -= line->n;
	return line->n > 0;
}

static bool is_equal(struct slice a, struct slice b)
{
	return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

static bool is_end(struct slice line)
{
	return slice_is(line, "\n") || slice_is(line, "\r\n");
}

static void check_lines(struct slice in, struct slice out)
{
	static const char plain[] = "Authentication-Results: " NAME ";";
	struct slice a;
	struct slice b;
	bool body = false;
	while (line_take(&out, &b)) {
		while (line_take(&in, &a) && !is_equal(a, b))
			check(!body && !is_end(a));
		check(is_equal(a, b));
		check(body || b.n < sizeof plain - 1 || memcmp(b.p, plain, sizeof plain - 1) != 0);
		body = body || is_end(b);
	}
}

static void check_filter(struct slice in)
{
	struct buf whole;
	struct buf other;
	size_t removed = filter(in, in.n + 1, &whole);
	check(filter(in, 1, &other) == removed);
	check(is_equal(buf_slice(&whole), buf_slice(&other)));
	buf_clear(&other);
	check(filter(in, 7, &other) == removed);
	check(is_equal(buf_slice(&whole), buf_slice(&other)));
	buf_clear(&other);
	check(removed > 0 || is_equal(in, buf_slice(&whole)));
	check(filter(buf_slice(&whole), in.n + 1, &other) == 0);
	check(is_equal(buf_slice(&whole), buf_slice(&other)));
	buf_clear(&other);
	check_lines(in, buf_slice(&whole));
	buf_clear(&whole);
}

static void check_written(struct buf *out)
{
	struct slice rest = buf_slice(out);
	struct slice line;
	struct buf left;
	bool first = true;
	while (line_take(&rest, &line)) {
		check(line.n >= 3 && line.n <= 1000 && line.p[line.n - 2] == '\r');
		check((line.p[0] == ' ') == !first);
		check(!memchr(line.p, '\0', line.n) && !memchr(line.p, '\r', line.n - 2));
		first = false;
	}
	check(filter(buf_slice(out), out->len, &left) == 1);
	check(left.len == 0);
	buf_clear(&left);
	buf_clear(out);
}

static void check_write(const char *text)
{
	struct authres_spf spf = {
	    .result = "pass",
	    .reason = text,
	    .identity = text[0] & 1 ? "helo" : "mailfrom",
	    .mailfrom = text,
	    .helo = text,
	    .client_ip = text,
	    .mechanism = text,
	    .problem = text,
	};
	struct buf out;
	buf_init(&out, 1 << 20);
	check(authres_write(&out, NAME, &spf) == 0);
	check_written(&out);
	check(authres_write_received_spf(&out, NAME, &spf) == 0);
	check_written(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	if (!text)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	check_filter((struct slice){text, size});
	check_write(text);
	free(text);
	return 0;
}
