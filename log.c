/*
 * log: events as lines on standard error, where systemd, procd and people look.
 *
 * A line is built in a fixed buffer and written with one write(), so lines of several processes do
 * not mix and no memory is needed to say that there is none. A value is taken for hostile: only a
 * log_pair can carry one, and it is escaped on its way.
 */
#include "log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config.h"

enum log_level log_level_now = LOG_LEVEL_INFO;

static int log_fd = STDERR_FILENO;

struct log_text {
	char s[LOG_LINE_MAX];
	size_t n;
	bool cut;
};

void log_to(int fd)
{
	log_fd = fd;
}

/* Adds n bytes or, when the line is full, nothing from then on. */
static void log_put(struct log_text *t, const char *p, size_t n)
{
	size_t reserve = 5; /* "..." newline NUL */
	if (t->cut || n > sizeof t->s - reserve - t->n) {
		t->cut = true;
		return;
	}
	memcpy(t->s + t->n, p, n);
	t->n += n;
}

/* Is s[i] a control character? Those of 0x80 to 0x9f (as bytes, or in UTF-8 behind 0xc2) act on
 * terminals too; elsewhere these bytes are the second half of a character. */
static bool log_is_control(const char *s, size_t i)
{
	unsigned char c = (unsigned char)s[i];
	unsigned char before = i > 0 ? (unsigned char)s[i - 1] : 0;
	if (c < ' ' || c == 127)
		return true;
	return c >= 0x80 && c < 0xa0 && (before < 0x80 || before == 0xc2 || before > 0xf4);
}

static bool log_is_plain(const char *s)
{
	for (size_t i = 0; s[i]; i++)
		if (log_is_control(s, i) || strchr(" \"\\=", s[i]))
			return false;
	return *s != '\0';
}

static void log_put_quoted(struct log_text *t, const char *s)
{
	log_put(t, "\"", 1);
	for (size_t i = 0; s[i]; i++) {
		unsigned char c = (unsigned char)s[i];
		char esc[5] = {(char)c, 0};
		if (c == '"' || c == '\\')
			snprintf(esc, sizeof esc, "\\%c", c);
		else if (log_is_control(s, i))
			snprintf(esc, sizeof esc, "\\x%02x", c);
		log_put(t, esc, strlen(esc));
	}
	log_put(t, "\"", 1);
}

static void log_put_value(struct log_text *t, const char *s)
{
	if (log_is_plain(s))
		log_put(t, s, strlen(s));
	else
		log_put_quoted(t, s);
}

static void log_put_pair(struct log_text *t, const struct log_pair *p)
{
	char number[24];
	log_put(t, " ", 1);
	log_put(t, p->key, strlen(p->key));
	log_put(t, "=", 1);
	if (!p->s) {
		int n = snprintf(number, sizeof number, "%lld", (long long)p->n);
		log_put(t, number, (size_t)n);
	} else {
		log_put_value(t, p->s);
	}
}

void log_write(enum log_level level, const char *id, const char *event,
               const struct log_pair *pairs)
{
	struct log_text t = {.n = 0};
	int saved = errno;
	if (level == LOG_LEVEL_ERROR)
		log_put(&t, "error ", 6);
	log_put_value(&t, id); /* an ID may be the name of a file that we did not make */
	log_put(&t, " ", 1);
	log_put(&t, event, strlen(event));
	for (; pairs->key; pairs++)
		log_put_pair(&t, pairs);
	if (t.cut) {
		memcpy(t.s + t.n, "...", 3);
		t.n += 3;
	}
	t.s[t.n++] = '\n';
	if (write(log_fd, t.s, t.n) < 0) {
		/* There is nobody left to tell. */
	}
	errno = saved;
}
