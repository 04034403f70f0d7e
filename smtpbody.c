/*
 * smtpbody: the message body between DATA and its final dot.
 *
 * Two servers that disagree about where a message ends let a sender smuggle a second one past the
 * first's checks. So there is one policy, and the tables below are all of it: coming in, CR is
 * followed by LF and LF preceded by CR or the message is refused; going out, every line end is CRLF
 * whatever the spool held, and a dot that is the first of a line but for NULs is doubled too: some
 * servers drop NUL before they look for the end. All mail goes through here: runs of plain bytes
 * are found with memchr and moved as a whole; only the bytes at their borders go through a table.
 */
#include "smtpbody.h"

#include <stdbool.h>
#include <string.h>

#include "bytes.h"

enum byte_class { C_OTHER, C_DOT, C_CR, C_LF, C_NUL, CLASSES };

static enum byte_class byte_class(char c)
{
	switch (c) {
	case '.':
		return C_DOT;
	case '\r':
		return C_CR;
	case '\n':
		return C_LF;
	case '\0':
		return C_NUL;
	default:
		return C_OTHER;
	}
}

/* ---- in ------------------------------------------------------------------------------------- */

enum in_state {
	IN_START, /* at the start of a line: of the body, or behind CRLF */
	IN_LINE,
	IN_CR,     /* CR in a line (already passed on) */
	IN_DOT,    /* dot at the start of a line (held back: stuffing or end) */
	IN_DOT_CR, /* .CR at the start of a line */
	IN_END,    /* the final dot was seen */
	IN_BAD,
	IN_STATES
};

struct in_step {
	unsigned char next;
	bool emit;
};

/* clang-format off */
static const struct in_step in_table[IN_STATES][CLASSES] = {
	/*              other            dot              CR                  LF               NUL             */
	[IN_START]  = {{IN_LINE, true}, {IN_DOT, false}, {IN_CR, true},      {IN_BAD, false}, {IN_LINE, true}},
	[IN_LINE]   = {{IN_LINE, true}, {IN_LINE, true}, {IN_CR, true},      {IN_BAD, false}, {IN_LINE, true}},
	[IN_CR]     = {{IN_BAD, false}, {IN_BAD, false}, {IN_BAD, false},    {IN_START, true}, {IN_BAD, false}},
	[IN_DOT]    = {{IN_LINE, true}, {IN_LINE, true}, {IN_DOT_CR, false}, {IN_BAD, false}, {IN_LINE, true}},
	[IN_DOT_CR] = {{IN_BAD, false}, {IN_BAD, false}, {IN_BAD, false},    {IN_END, false}, {IN_BAD, false}},
	[IN_END]    = {{IN_END, false}, {IN_END, false}, {IN_END, false},    {IN_END, false}, {IN_END, false}},
	[IN_BAD]    = {{IN_BAD, false}, {IN_BAD, false}, {IN_BAD, false},    {IN_BAD, false}, {IN_BAD, false}},
};
/* clang-format on */

void smtp_body_in_init(struct smtp_body_in *b)
{
	b->state = IN_START;
}

/* Bytes searched at once. Without a bound, many bare CRs and no LF would cost the square. */
#define RUN_MAX 1024

/* Length of a run at p, inside a line, that has neither CR nor LF. */
static size_t plain_run(const char *p, size_t n)
{
	return bytes_line_run(p, n > RUN_MAX ? RUN_MAX : n);
}

/* Length of the whole lines at p that come in as they are: with CRLF, and no dot at their start. */
static size_t whole_lines(const char *p, size_t n)
{
	size_t i = 0;

	while (i < n && p[i] != '.') {
		size_t run = plain_run(p + i, n - i);

		if (n - i - run < 2 || p[i + run] != '\r' || p[i + run + 1] != '\n')
			break;
		i += run + 2;
	}
	return i;
}

static enum smtp_body_result in_result(unsigned char state)
{
	if (state == IN_END)
		return SMTP_BODY_END;
	return state == IN_BAD ? SMTP_BODY_BAD : SMTP_BODY_MORE;
}

enum smtp_body_result smtp_body_decode(struct smtp_body_in *b, char *data, size_t len, size_t *used,
                                       size_t *out)
{
	unsigned char state = b->state;
	size_t i = 0;
	size_t n = 0;

	while (i < len && state != IN_END && state != IN_BAD) {
		const struct in_step *step;

		if (state == IN_START) {
			size_t run = whole_lines(data + i, len - i);

			if (n != i)
				memmove(data + n, data + i, run);
			n += run;
			i += run;
			if (i == len)
				break;
		}
		step = &in_table[state][byte_class(data[i])];
		if (step->next == IN_LINE) {
			size_t run = 1 + plain_run(data + i + 1, len - i - 1);

			if (n != i)
				memmove(data + n, data + i, run);
			n += run;
			i += run;
		} else if (step->next != IN_BAD) {
			if (step->emit)
				data[n++] = data[i];
			i++;
		}
		state = step->next;
	}
	b->state = state;
	*used = i;
	*out = n;
	return in_result(state);
}

/* ---- out ------------------------------------------------------------------------------------ */

enum out_state {
	OUT_START, /* at the start of a line */
	OUT_NULS,  /* behind nothing but NULs of a line */
	OUT_LINE,
	OUT_CR, /* CR held back: CRLF, or a bare one that becomes CRLF */
	OUT_STATES
};

enum out_emit {
	E_NONE,
	E_BYTE,
	E_CRLF,
	E_STUFF,      /* the byte, a dot, twice */
	E_CRLF_BYTE,  /* CRLF for the CR held back, then the byte */
	E_CRLF_STUFF, /* CRLF for the CR held back, then the dot twice */
};

struct out_step {
	unsigned char next;
	unsigned char emit;
};

/* clang-format off */
static const struct out_step out_table[OUT_STATES][CLASSES] = {
	/* other, dot, CR, LF, NUL */
	[OUT_START] = {{OUT_LINE, E_BYTE}, {OUT_LINE, E_STUFF}, {OUT_CR, E_NONE},
	               {OUT_START, E_CRLF}, {OUT_NULS, E_BYTE}},
	[OUT_NULS]  = {{OUT_LINE, E_BYTE}, {OUT_LINE, E_STUFF}, {OUT_CR, E_NONE},
	               {OUT_START, E_CRLF}, {OUT_NULS, E_BYTE}},
	[OUT_LINE]  = {{OUT_LINE, E_BYTE}, {OUT_LINE, E_BYTE}, {OUT_CR, E_NONE},
	               {OUT_START, E_CRLF}, {OUT_LINE, E_BYTE}},
	[OUT_CR]    = {{OUT_LINE, E_CRLF_BYTE}, {OUT_LINE, E_CRLF_STUFF}, {OUT_CR, E_CRLF},
	               {OUT_START, E_CRLF}, {OUT_NULS, E_CRLF_BYTE}},
};
/* clang-format on */

void smtp_body_out_init(struct smtp_body_out *b)
{
	b->state = OUT_START;
}

static int emit(enum out_emit what, char c, struct buf *out)
{
	switch (what) {
	case E_NONE:
		return 0;
	case E_BYTE:
		return buf_putc(out, c);
	case E_CRLF:
		return buf_append(out, "\r\n", 2);
	case E_STUFF:
		return buf_append(out, "..", 2);
	case E_CRLF_BYTE:
		return buf_append(out, "\r\n", 2) | buf_putc(out, c);
	default:
		return buf_append(out, "\r\n..", 4);
	}
}

/* Length of the run at p, from the start of a line or inside one, that goes out as it is: whole
 * lines with CRLF that do not begin with a dot or NUL, and the plain part of the last. *state
 * becomes that behind the run. */
static size_t clean_run(const char *p, size_t n, unsigned char *state)
{
	size_t i = 0;

	while (i < n && (*state == OUT_LINE || (*state == OUT_START && p[i] != '.' && p[i]))) {
		size_t plain = plain_run(p + i, n - i);

		if (plain > 0)
			*state = OUT_LINE;
		i += plain;
		if (n - i < 2 || p[i] != '\r' || p[i + 1] != '\n')
			break;
		i += 2;
		*state = OUT_START;
	}
	return i;
}

int smtp_body_encode(struct smtp_body_out *b, struct slice in, struct buf *out)
{
	size_t i = 0;

	while (i < in.n) {
		const struct out_step *step;

		if (b->state != OUT_CR) {
			size_t run = clean_run(in.p + i, in.n - i, &b->state);

			if (run > 0 && buf_append(out, in.p + i, run) != 0)
				return -1;
			i += run;
			if (i == in.n)
				break;
		}
		step = &out_table[b->state][byte_class(in.p[i])];
		if (emit(step->emit, in.p[i], out) != 0)
			return -1;
		b->state = step->next;
		i++;
	}
	return 0;
}

int smtp_body_finish(struct smtp_body_out *b, struct buf *out)
{
	if (b->state != OUT_START && buf_append(out, "\r\n", 2) != 0)
		return -1;
	b->state = OUT_START;
	return buf_append(out, ".\r\n", 3);
}
