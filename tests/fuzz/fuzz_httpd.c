/* fuzz_httpd: bytes from a client, whole and in pieces whose size the first byte says, through the
 * parser and a whole connection. Both ways must come to the same requests and answers. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "httpd_int.h"
#include "text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SAID_MAX (1 << 20)

static struct buf seen; /* of the run: what was understood, then what was answered */

static void check(bool good)
{
	if (!good)
		abort();
}

static void note(const char *s, bool ascii)
{
	check(text_is_utf8(s, strlen(s)));
	for (const char *p = s; *p; p++)
		check((unsigned char)*p >= 0x20 && *p != 0x7f && (!ascii || *p > 0));
	buf_puts(&seen, s);
	buf_putc(&seen, '\n');
}

static bool more(void *state, struct buf *out)
{
	unsigned *left = state;
	check(out->max - out->len >= HTTPD_PIECE);
	buf_puts(out, *left % 2 ? "piece" : "");
	return --*left == 0;
}

static void serve(void *arg, struct httpd_conn *c, const struct httpd_request *r)
{
	char value[64];
	(void)arg;
	note(r->path, false);
	check(r->path[0] == '/');
	note(r->host, true);
	note(r->port, true);
	note(r->authorization, true);
	note(r->origin, true);
	note(r->fetch_site, true);
	note(r->accept, true);
	check(r->form.n <= HTTPD_BODY_MAX);
	buf_append(&seen, r->query.p, r->query.n);
	buf_append(&seen, r->form.p, r->form.n);
	int n =
	    httpd_param(r->method == HTTPD_POST ? r->form : r->query, "a", value, sizeof(value));
	check(n == -1 || (strlen(value) == (size_t)n && text_is_utf8(value, (size_t)n)));
	unsigned *left = strlen(r->path) % 3 == 1 ? malloc(sizeof(*left)) : NULL;
	if (left) {
		*left = 5;
		httpd_stream(c, 200, "text/plain", NULL, more, left, free);
	} else if (strlen(r->path) % 3 == 2) {
		httpd_answer(c, 200, "text/plain", NULL, r->query);
	}
}

static void run(const uint8_t *data, size_t size, size_t step)
{
	struct httpd h = {.setup = {.serve = serve, .headers = ""}};
	const struct dns_addr peer = {.family = AF_INET};
	loop_fd_init(&h.watch, NULL, NULL);
	struct httpd_conn *c = httpd_conn_new(&h, &peer);
	size_t at = 0;
	while (c && h.conns == c && !c->io.finishing) {
		struct io *io = &c->io;
		if (io->out.len > 0 || c->more) {
			buf_append(&seen, buf_data(&io->out), io->out.len);
			buf_consume(&io->out, io->out.len);
			io->handle(io->arg, IO_DRAINED);
		} else if (at < size) {
			size_t n = size - at < step ? size - at : step;
			size_t room = io->in.max - io->in.len;
			n = n < room ? n : room;
			check(n > 0);
			buf_append(&io->in, data + at, n);
			at += n;
			io->handle(io->arg, IO_READ);
		} else {
			break;
		}
	}
	if (c && h.conns == c)
		httpd_conn_free(c);
	check(h.count == 0);
}

/* What may differ between runs. */
static void drop_dates(struct buf *b)
{
	char *p = buf_data(b), *date;
	while ((date = memmem(p, (size_t)(buf_data(b) + b->len - p), "\r\nDate: ", 8))) {
		p = date + 2;
		for (size_t i = 0; i < 35 && p + i < buf_data(b) + b->len; i++)
			p[i] = '-';
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole;
	if (size == 0)
		return 0;
	buf_init(&seen, SAID_MAX);
	run(data + 1, size - 1, size);
	whole = seen;
	buf_init(&seen, SAID_MAX);
	run(data + 1, size - 1, data[0] + 1U);
	drop_dates(&whole);
	drop_dates(&seen);
	/* 100 is sent only to who has not sent its body yet. */
	if (!memmem(data, size, "100-", 4) && !memmem(data, size, "xpect", 5))
		check(whole.failed == seen.failed &&
		      (whole.failed || (whole.len == seen.len &&
		                        memcmp(buf_data(&whole), buf_data(&seen), seen.len) == 0)));
	buf_clear(&whole);
	buf_clear(&seen);
	return 0;
}
