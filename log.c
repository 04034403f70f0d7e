/*
 * log: events as lines, on standard error until a sink is in use, and as traces.
 *
 * A line is built once, in a fixed buffer, and written with one call, so lines of several processes
 * do not mix and no memory is needed to say that there is none. A value is taken for hostile: LOG_S
 * alone carries one, and it is escaped on its way.
 */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bytes.h"
#include "config.h"
#include "log_sink.h"
#include "trace.h"

enum log_level log_level_now = LOG_LEVEL_INFO;

static int log_fd = STDERR_FILENO;
static struct log_sink *log_sink; /* NULL: the descriptor */

/* Does the descriptor want priorities? Looked at with the first line. */
static enum { LOG_ASK, LOG_PLAIN, LOG_JOURNAL } log_form;

struct log_text {
	char s[LOG_LINE_MAX];
	size_t n;
	bool cut;
};

void log_to(int fd)
{
	log_fd = fd;
	log_form = LOG_ASK;
}

void log_use(struct log_sink *sink)
{
	log_sink = sink;
}

/* Bytes that fit, without "..." and the line's end. */
static size_t log_room(const struct log_text *t)
{
	return t->cut ? 0 : sizeof t->s - 5 - t->n;
}

/* Adds n bytes or, when the line is full, nothing from then on. */
static void log_put(struct log_text *t, const char *p, size_t n)
{
	if (n > log_room(t)) {
		t->cut = true;
		return;
	}
	memcpy(t->s + t->n, p, n);
	t->n += n;
}

/* The same, but as much as fits. */
static void log_put_some(struct log_text *t, const char *p, size_t n)
{
	size_t room = log_room(t);
	log_put(t, p, n < room ? n : room);
	if (n > room)
		t->cut = true;
}

/* Does a character begin here that lets what follows look otherwise: a line or paragraph separator,
 * or one that turns the direction of text (U+2028 to U+202e, U+2066 to U+2069)? */
static bool log_is_order(const char *s)
{
	unsigned char c = (unsigned char)s[1];
	unsigned char d = c ? (unsigned char)s[2] : 0;
	return (c == 0x80 && d >= 0xa8 && d <= 0xae) || (c == 0x81 && d >= 0xa6 && d <= 0xa9);
}

/* Is s[i] a control character? Those of 0x80 to 0x9f (as bytes, or in UTF-8 behind 0xc2) act on
 * terminals too; elsewhere these bytes are the second half of a character. */
static bool log_is_control(const char *s, size_t i)
{
	unsigned char c = (unsigned char)s[i];
	unsigned char before = i > 0 ? (unsigned char)s[i - 1] : 0;
	if (c < ' ' || c == 127)
		return true;
	/* All three bytes of it, so that no half of a character is left. */
	for (size_t k = 0; c >= 0x80 && k < 3 && k <= i; k++)
		if ((unsigned char)s[i - k] == 0xe2 && log_is_order(s + i - k))
			return true;
	return c >= 0x80 && c < 0xa0 && (before < 0x80 || before == 0xc2 || before > 0xf4);
}

/* How many bytes from s[i] on stand for themselves, within quotes. */
static size_t log_plain_run(const char *s, size_t i)
{
	size_t start = i;
	for (; s[i]; i++) {
		unsigned char c = (unsigned char)s[i];
		if (c == '"' || c == '\\' || ((c < ' ' || c >= 127) && log_is_control(s, i)))
			break;
	}
	return i - start;
}

static void log_put_quoted(struct log_text *t, const char *s)
{
	log_put(t, "\"", 1);
	for (size_t i = 0; s[i];) {
		unsigned char c = (unsigned char)s[i];
		size_t run = log_plain_run(s, i);
		char esc[5];
		if (run > 0) {
			log_put_some(t, s + i, run);
			i += run;
			continue;
		}
		snprintf(esc, sizeof esc, c == '"' || c == '\\' ? "\\%c" : "\\x%02x", c);
		log_put(t, esc, strlen(esc));
		i++;
	}
	log_put(t, "\"", 1);
}

/* How many bytes from the start of s on stand for themselves without quotes. Most values have a
 * dozen, so that no search for one of several bytes is worth its start. */
static size_t log_bare_run(const char *s)
{
	size_t i = 0;
	for (;; i++) {
		unsigned char c = (unsigned char)s[i];
		bool bare = c > ' ' && c < 127 ? c != '"' && c != '\\' && c != '='
		                               : c >= 128 && !log_is_control(s, i);
		if (!bare)
			return i;
	}
}

static void log_put_value(struct log_text *t, const char *s)
{
	size_t n = log_bare_run(s);
	if (n > 0 && !s[n])
		log_put(t, s, n);
	else
		log_put_quoted(t, s);
}

static void log_put_number(struct log_text *t, int64_t n)
{
	char text[BYTES_NUMBER];
	size_t len = (size_t)(bytes_put_number(text, n) - text);
	log_put(t, text, len);
}

/* Adds " key=". Returns -1 when that does not fit. */
static int log_put_key(struct log_text *t, const char *key)
{
	size_t n = strlen(key);
	if (n + 2 > log_room(t)) {
		t->cut = true;
		return -1;
	}
	t->s[t->n] = ' ';
	memcpy(t->s + t->n + 1, key, n);
	t->s[t->n + n + 1] = '=';
	t->n += n + 2;
	return 0;
}

/* Adds keys with their values, up to NULL. */
static void log_put_pairs(struct log_text *t, va_list ap)
{
	const char *key;
	while ((key = va_arg(ap, const char *))) {
		bool is_number = *key == 'n';
		int64_t n = is_number ? va_arg(ap, int64_t) : 0;
		const char *s = is_number ? NULL : va_arg(ap, const char *);
		if (log_put_key(t, key + 1) != 0)
			continue;
		if (is_number)
			log_put_number(t, n);
		else
			log_put_value(t, s ? s : "");
	}
}

/* Writes a line to the descriptor. */
static void log_put_line(enum log_level level, const char *line, size_t n)
{
	static const char priority[][4] = {"<3>", "<6>", "<7>"};
	if (log_form == LOG_ASK)
		log_form = log_sink_is_journal(log_fd) ? LOG_JOURNAL : LOG_PLAIN;
	struct iovec v[] = {{(char *)(uintptr_t)priority[level], log_form == LOG_JOURNAL ? 3 : 0},
	                    {(char *)(uintptr_t)line, n},
	                    {(char *)"\n", 1}};
	if (writev(log_fd, v, 3) < 0) {
		/* There is nobody left to tell. */
	}
}

void log_write(unsigned what, const char *id, const char *event, ...)
{
	struct log_text t;
	va_list ap;
	int saved = errno;
	enum log_level level = (enum log_level)(what % 4);
	enum log_kind kind = (enum log_kind)(what / 4);
	if (!log_takes(level))
		return;
	t.n = 0; /* the text itself is not worth clearing */
	t.cut = false;
	if (level == LOG_LEVEL_ERROR)
		log_put(&t, "error ", 6);
	log_put_value(&t, id); /* an ID may be the name of a file that we did not make */
	log_put(&t, " ", 1);
	size_t after_id = t.n;
	log_put(&t, event, strlen(event));
	va_start(ap, event);
	log_put_pairs(&t, ap);
	va_end(ap);
	if (t.cut) {
		memcpy(t.s + t.n, "...", 3);
		t.n += 3;
	}
	if ((int)level <= LOG_TRACE_LEVEL)
		trace_add(level, kind, id, t.s + after_id, t.n - after_id);
	if (level <= log_level_now && log_sink)
		log_sink_write(log_sink, level, t.s, t.n);
	else if (level <= log_level_now)
		log_put_line(level, t.s, t.n);
	errno = saved;
}
