/*
 * Fuzz target of text and textfield. Any input: the events come to an end; the table reader says
 * the same whether the input comes from memory or in small pieces; what it accepts is written,
 * accepted again, and then written the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text_all.h"

#define OUTPUT_MAX (8 * 1024 * 1024)

struct drip {
	const char *p;
	size_t left, step;
};

static ssize_t drip_fill(void *arg, char *p, size_t n)
{
	struct drip *d = arg;
	if (n > d->step)
		n = d->step;
	if (n > d->left)
		n = d->left;
	memcpy(p, d->p, n);
	d->p += n;
	d->left -= n;
	return (ssize_t)n;
}

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* Writes what the reader reads. Returns as text_read. */
static int echo(struct text_reader *r, struct buf *out)
{
	struct text_writer w;
	struct all a;
	buf_init(out, OUTPUT_MAX);
	text_writer_init(&w, out);
	text_init(&all_table, &a);
	int rc = text_read(r, &all_table, &a);
	if (rc == 0)
		text_put_struct(&w, &all_table, &a);
	all_clear(&a);
	check(!out->failed);
	return rc;
}

static void walk_events(const char *p, size_t n)
{
	struct text_reader r;
	enum text_event ev;
	text_open_memory(&r, "fuzz", p, n);
	for (size_t i = 0; (ev = text_next(&r)) != TEXT_END && ev != TEXT_ERROR; i++)
		check(i <= 2 * n);
	check((ev == TEXT_ERROR) == (r.fault != TEXT_OK) && text_offset(&r) <= n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct text_reader r, slow;
	struct buf first, second;
	struct drip d = {(const char *)data, size, 1 + size % 7};

	walk_events((const char *)data, size);
	text_open_memory(&r, "fuzz", (const char *)data, size);
	r.skip_unknown = size % 2;
	int rc = echo(&r, &first);
	text_open(&slow, "fuzz", drip_fill, &d);
	slow.skip_unknown = size % 2;
	check(echo(&slow, &second) == rc && strcmp(r.error, slow.error) == 0);
	check(first.len == second.len &&
	      memcmp(buf_data(&first), buf_data(&second), first.len) == 0);
	buf_clear(&second);
	if (rc == 0) {
		text_open_memory(&r, "fuzz", buf_data(&first), first.len);
		check(echo(&r, &second) == 0);
		check(first.len == second.len &&
		      memcmp(buf_data(&first), buf_data(&second), first.len) == 0);
		buf_clear(&second);
	}
	buf_clear(&first);
	return 0;
}
