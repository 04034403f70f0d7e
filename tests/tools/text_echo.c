/*
 * text_echo: reads a message in text format from standard input and writes it in canonical form.
 *
 * "all" uses the table of text_all.h; "queue" reads a spool file (docs/queue.proto) as the spool
 * does: fields by table, the value of `data` streamed through a small buffer. Exit 1 and the reason
 * on standard error when the input is refused.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../unit/text_all.h"

#define OUTPUT_MAX (256 * 1024 * 1024)

static ssize_t fill_stdin(void *arg, char *p, size_t n)
{
	(void)arg;
	return read(STDIN_FILENO, p, n);
}

struct stamp {
	int64_t seconds;
	int32_t nanos;
	int given[2];
};

static const struct text_field stamp_fields[] = {
    {.name = "seconds", .number = 1, .type = TEXT_INT64, .offset = offsetof(struct stamp, seconds)},
    {.name = "nanos", .number = 2, .type = TEXT_INT32, .offset = offsetof(struct stamp, nanos)},
};
static const struct text_message stamp_table = TEXT_TABLE(stamp_fields, struct stamp);

static const struct text_enum rcpt_types[] = {{"EMAIL", 0}, {"PIPE", 1}, {"FORWARD", 2}, {NULL, 0}};
static const struct text_enum rcpt_states[] = {
    {"PENDING", 0}, {"SENT", 1}, {"FAILED", 2}, {NULL, 0}};

struct rcpt {
	char *address, *failure, *original;
	int type, status;
	struct text_strings via;
	int given[6];
};

static const struct text_field rcpt_fields[] = {
    {.name = "address", .number = 1, .type = TEXT_STRING, .offset = offsetof(struct rcpt, address)},
    {.name = "type",
     .number = 2,
     .type = TEXT_ENUM,
     .offset = offsetof(struct rcpt, type),
     .names = rcpt_types},
    {.name = "status",
     .number = 3,
     .type = TEXT_ENUM,
     .offset = offsetof(struct rcpt, status),
     .names = rcpt_states},
    {.name = "last_failure_message",
     .number = 4,
     .type = TEXT_STRING,
     .offset = offsetof(struct rcpt, failure)},
    {.name = "original_address",
     .number = 5,
     .type = TEXT_STRING,
     .offset = offsetof(struct rcpt, original)},
    {.name = "via",
     .number = 6,
     .type = TEXT_STRING,
     .repeated = true,
     .offset = offsetof(struct rcpt, via)},
};
static const struct text_message rcpt_table = TEXT_TABLE(rcpt_fields, struct rcpt);

struct attempt {
	struct text_numbers rcpt;
	struct stamp at;
	int status;
	char *text, *remote;
	int given[5];
};

static const struct text_field attempt_fields[] = {
    {.name = "rcpt",
     .number = 1,
     .type = TEXT_UINT32,
     .repeated = true,
     .offset = offsetof(struct attempt, rcpt)},
    {.name = "at",
     .number = 2,
     .type = TEXT_MESSAGE,
     .offset = offsetof(struct attempt, at),
     .message = &stamp_table},
    {.name = "status",
     .number = 3,
     .type = TEXT_ENUM,
     .offset = offsetof(struct attempt, status),
     .names = rcpt_states},
    {.name = "text", .number = 4, .type = TEXT_STRING, .offset = offsetof(struct attempt, text)},
    {.name = "remote",
     .number = 5,
     .type = TEXT_STRING,
     .offset = offsetof(struct attempt, remote)},
};
static const struct text_message attempt_table = TEXT_TABLE(attempt_fields, struct attempt);

struct message {
	char *id, *from;
	struct text_strings to;
	struct stamp created;
	struct buf prepend;
	uint64_t size, data_end;
	uint32_t crc32;
	struct text_writer *writer; /* elements are written as they are read */
	int given[11];
};

static int echo_rcpt(struct text_reader *r, void *parent, void *element)
{
	(void)r;
	struct message *m = parent;
	text_put_open(m->writer, "rcpt", false);
	text_put_struct(m->writer, &rcpt_table, element);
	text_put_close(m->writer);
	return 0;
}

static int echo_attempt(struct text_reader *r, void *parent, void *element)
{
	(void)r;
	struct message *m = parent;
	text_put_open(m->writer, "attempt", true);
	text_put_struct(m->writer, &attempt_table, element);
	text_put_close(m->writer);
	return 0;
}

static const struct text_field message_fields[] = {
    {.name = "ID", .number = 1, .type = TEXT_STRING, .offset = offsetof(struct message, id)},
    {.name = "from", .number = 2, .type = TEXT_STRING, .offset = offsetof(struct message, from)},
    {.name = "To",
     .number = 3,
     .type = TEXT_STRING,
     .repeated = true,
     .offset = offsetof(struct message, to)},
    {.name = "rcpt",
     .number = 4,
     .type = TEXT_MESSAGE,
     .repeated = true,
     .message = &rcpt_table,
     .take = echo_rcpt},
    {.name = "data", .number = 5, .type = TEXT_STREAM},
    {.name = "created_at_ts",
     .number = 6,
     .type = TEXT_MESSAGE,
     .offset = offsetof(struct message, created),
     .message = &stamp_table},
    {.name = "prepend",
     .number = 100,
     .type = TEXT_BUF,
     .offset = offsetof(struct message, prepend),
     .max = 65536},
    {.name = "size", .number = 101, .type = TEXT_UINT64, .offset = offsetof(struct message, size)},
    {.name = "crc32",
     .number = 102,
     .type = TEXT_UINT32,
     .offset = offsetof(struct message, crc32)},
    {.name = "data_end",
     .number = 103,
     .type = TEXT_UINT64,
     .offset = offsetof(struct message, data_end)},
    {.name = "attempt",
     .number = 104,
     .type = TEXT_MESSAGE,
     .repeated = true,
     .message = &attempt_table,
     .take = echo_attempt},
};
static const struct text_message message_table = TEXT_TABLE(message_fields, struct message);

/* Streams the value of data, as literals of 100 bytes each. */
static int echo_data(struct text_reader *r, struct buf *out)
{
	char piece[100];
	ssize_t n;
	buf_puts(out, "data:\n  \"\"\n");
	while ((n = text_bytes_read(r, piece, sizeof(piece))) > 0) {
		buf_puts(out, "  ");
		text_put_literal(out, piece, (size_t)n);
		buf_putc(out, '\n');
	}
	return n < 0 ? -1 : 0;
}

static int echo_queue(struct text_reader *r, struct buf *out)
{
	struct text_writer w;
	struct message m;
	int rc;
	text_writer_init(&w, out);
	text_init(&message_table, &m);
	m.writer = &w;
	while ((rc = text_read(r, &message_table, &m)) == 1) {
		if (echo_data(r, out) < 0)
			break;
	}
	text_put_struct(&w, &message_table, &m);
	text_clear(&message_table, &m);
	return rc;
}

static int echo_all(struct text_reader *r, struct buf *out)
{
	struct text_writer w;
	struct all a;
	text_writer_init(&w, out);
	text_init(&all_table, &a);
	int rc = text_read(r, &all_table, &a);
	text_put_struct(&w, &all_table, &a);
	all_clear(&a);
	return rc;
}

int main(int argc, char **argv)
{
	struct text_reader r;
	struct buf out;
	bool queue = argc == 2 && strcmp(argv[1], "queue") == 0;
	buf_init(&out, OUTPUT_MAX);
	text_open(&r, "stdin", fill_stdin, NULL);
	int rc = queue ? echo_queue(&r, &out) : echo_all(&r, &out);
	if (rc != 0)
		fprintf(stderr, "%s\n", r.error);
	else if (out.failed || fwrite(buf_data(&out), 1, out.len, stdout) != out.len ||
	         fflush(stdout) != 0)
		rc = -1;
	buf_clear(&out);
	return rc == 0 ? 0 : 1;
}
