/*
 * Fuzz target of header. Any input: the scanner says the same however the message is cut, and what
 * header_next says; addresses in lists are good addresses; what is written with the input as its
 * text is one field.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "header.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

static int on_addr(void *arg, const struct addr *a)
{
	char text[ADDR_TEXT_MAX];
	struct addr back;

	++*(int *)arg;
	check(a->user[0] != '\0');
	check(addr_format(a, text, sizeof(text)) == 0);
	check(addr_parse_local(slice_of(text), "", &back) == 0);
	return 0;
}

static void check_scan(struct slice in, struct header_scan *whole)
{
	struct header_scan h;
	size_t i;

	header_scan_init(whole);
	header_scan_feed(whole, in);
	header_scan_end(whole);
	header_scan_init(&h);
	for (i = 0; i < in.n; i++)
		header_scan_feed(&h, (struct slice){in.p + i, 1});
	header_scan_end(&h);
	check(whole->size == h.size && whole->longest == h.longest);
	check(whole->malformed == h.malformed && whole->done && h.done);
	check(whole->header_8bit == h.header_8bit && whole->body_8bit == h.body_8bit);
	check(memcmp(whole->count, h.count, sizeof(h.count)) == 0);
	check(strcmp(whole->subject, h.subject) == 0 &&
	      strcmp(whole->message_id, h.message_id) == 0);
}

static void check_fields(struct slice in, const struct header_scan *h)
{
	struct header_field f;
	struct slice rest = in;
	unsigned fields = 0;
	unsigned i;
	int rc;

	while ((rc = header_next(&rest, &f)) == 1) {
		int seen = 0;
		int count = header_addresses(f.value, on_addr, &seen);

		check(count == -1 || count == seen);
		fields++;
	}
	for (i = 0; i < HEADER_IDS; i++)
		fields -= h->count[i];
	check(fields == 0);
	check((rc == -1) == h->malformed);
	check(rc == -1 ? (int64_t)(in.n - rest.n) == h->size : (int64_t)(in.n - rest.n) <= h->size);
}

static void check_written(struct slice in)
{
	char text[600];
	struct header_trace t = {.helo = text,
	                         .ip = text,
	                         .by = "mx",
	                         .with = "ESMTP",
	                         .tls = text,
	                         .id = text,
	                         .for_addr = text};
	struct header_scan h;
	struct header_field f;
	struct slice rest;
	struct buf b;

	snprintf(text, sizeof(text), "%.*s", (int)(in.n < 599 ? in.n : 599), in.p);
	buf_init(&b, 8 * 1024 * 1024);
	check(header_received(&b, &t) == 0);
	check(header_write(&b, "Subject", in) == 0);
	rest = buf_slice(&b);
	check(header_next(&rest, &f) == 1 && f.id == HEADER_RECEIVED);
	check(header_next(&rest, &f) == 1 && f.id == HEADER_SUBJECT);
	check(rest.n == 0);
	header_scan_init(&h);
	header_scan_feed(&h, buf_slice(&b));
	header_scan_end(&h);
	check(!h.malformed && h.longest <= 998);
	buf_clear(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = {(const char *)data, size};
	struct header_scan h;
	int seen = 0;

	check_scan(in, &h);
	check_fields(in, &h);
	header_addresses(in, on_addr, &seen);
	check_written(in);
	return 0;
}
