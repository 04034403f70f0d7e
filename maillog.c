/*
 * maillog: what the postmaster wants to know, in the lines that chasquid writes (docs of chasquid,
 * "mail log"), so that tools which read its log read ours.
 *
 * Every value may come from a stranger. In words (addresses, logins) control characters, blanks,
 * brackets, the backslash and what is not UTF-8 become \xNN, so a word is one word and a list one
 * list; in a reason, which ends its line, blanks and brackets stay. The peer comes first and is
 * ours: a filter that reads it there bans nobody else. A line has at most MAILLOG_LINE_MAX bytes;
 * each part has its share, so that no long address pushes the reason out.
 */
#include "maillog.h"

#include <stdio.h>
#include <string.h>

#include "bytes.h"
#include "log.h"
#include "log_sink.h"

/* Where in a line each part ends at the latest. */
#define END_PEER 96
#define END_FROM (MAILLOG_LINE_MAX * 3 / 8)
#define END_TO   (MAILLOG_LINE_MAX * 5 / 8)
#define END_LINE (MAILLOG_LINE_MAX - 4)

static struct log_sink *mail_sink;
static unsigned long long mail_lost; /* lines, when that was told last */

struct mail_line {
	char s[MAILLOG_LINE_MAX];
	size_t n;
};

/* ---- parts of a line ------------------------------------------------------------------------ */

/* False when there is no mail log. The bytes of the line are not worth clearing. */
static bool mail_begin(struct mail_line *l)
{
	l->n = 0;
	return mail_sink != NULL;
}

/* Bytes of ours. */
static void mail_put(struct mail_line *l, const char *s)
{
	size_t n = strlen(s);
	if (n > END_LINE - l->n)
		n = END_LINE - l->n;
	memcpy(l->s + l->n, s, n);
	l->n += n;
}

/* Does the character at p, of n bytes, stand for itself? */
static bool mail_is_plain(const char *p, size_t n, const char *escaped)
{
	unsigned char c = (unsigned char)*p;
	if (n == 0)
		return false;
	if (n == 1)
		return c >= ' ' && c != 127 && !strchr(escaped, c);
	/* U+0080 to U+009F act on terminals; U+2028 and U+2029 end lines for some readers; U+202A
	 * to U+202E and U+2066 to U+2069 turn the direction of what follows. */
	unsigned char last = (unsigned char)p[n - 1];
	return !(c == 0xc2 && (unsigned char)p[1] < 0xa0) &&
	       !(n == 3 && memcmp(p, "\xe2\x80", 2) == 0 && last >= 0xa8 && last <= 0xae) &&
	       !(n == 3 && memcmp(p, "\xe2\x81", 2) == 0 && last >= 0xa6 && last <= 0xa9);
}

/* How much at the start of s is printable ASCII that is not to be escaped. */
static size_t mail_plain_run(const char *s, size_t n, const char *escaped)
{
	n = bytes_print_run(s, n);
	for (; *escaped; escaped++) {
		const char *first = memchr(s, *escaped, n);
		if (first)
			n = (size_t)(first - s);
	}
	return n;
}

/* A value, escaped; cut with "..." where the line has `end` bytes. */
static void mail_put_value(struct mail_line *l, const char *s, const char *escaped, size_t end)
{
	size_t size = strlen(s);
	while (size > 0) {
		size_t n = status_utf8_len(s, size);
		char hex[5];
		const char *p = s;
		size_t used = n;
		size_t put = n;
		size_t run = mail_plain_run(s, size, escaped);
		if (run > 0 && l->n + run + 3 <= end)
			used = put = run;
		else if (!mail_is_plain(s, n, escaped)) {
			snprintf(hex, sizeof hex, "\\x%02x", (unsigned)(unsigned char)*s);
			p = hex;
			used = 1;
			put = 4;
		}
		if (l->n + put + 3 > end) {
			mail_put(l, "...");
			return;
		}
		memcpy(l->s + l->n, p, put);
		l->n += put;
		s += used;
		size -= used;
	}
}

static void mail_put_word(struct mail_line *l, const char *s, size_t end)
{
	mail_put_value(l, s, " []\\", end);
}

static void mail_put_peer(struct mail_line *l, const char *peer)
{
	mail_put_value(l, peer, " \\", l->n + END_PEER);
}

static void mail_put_reason(struct mail_line *l, const char *reason)
{
	mail_put_value(l, reason, "\\", END_LINE);
}

static void mail_put_from(struct mail_line *l, const char *from)
{
	if (!from || !*from)
		return;
	mail_put(l, " from=");
	mail_put_word(l, from, END_FROM);
}

static void mail_put_list(struct mail_line *l, char *const *to, size_t count)
{
	char more[32];
	if (count == 0)
		return;
	mail_put(l, " to=[");
	for (size_t i = 0; i < count; i++) {
		if (l->n + strlen(to[i]) + sizeof more > END_TO && i > 0) {
			snprintf(more, sizeof more, " +%lu", (unsigned long)(count - i));
			mail_put(l, more);
			break;
		}
		mail_put(l, i > 0 ? " " : "");
		mail_put_word(l, to[i], END_TO);
	}
	mail_put(l, "]");
}

static void mail_write(struct mail_line *l)
{
	log_sink_write(mail_sink, LOG_LEVEL_INFO, l->s, l->n);
	unsigned long long lost = log_sink_lost(mail_sink);
	if (lost > 0 && mail_lost == 0)
		log_error("-", "the mail log loses lines", LOG_N("so_far", lost));
	mail_lost = lost;
}

/* ---- the sink ------------------------------------------------------------------------------- */

int maillog_open(const char *where, char *err, size_t err_size)
{
	struct log_sink *s = NULL;
	if (*where && !(s = log_sink_open(where, "chasq", true, err, err_size)))
		return -1;
	maillog_close();
	mail_sink = s;
	return 0;
}

void maillog_close(void)
{
	log_sink_close(mail_sink);
	mail_sink = NULL;
	mail_lost = 0;
}

int maillog_reopen(void)
{
	return mail_sink ? log_sink_reopen(mail_sink) : 0;
}

/* ---- events --------------------------------------------------------------------------------- */

void maillog_listen(const char *address)
{
	struct mail_line l;
	if (!mail_begin(&l))
		return;
	mail_put(&l, "daemon listening on ");
	mail_put_peer(&l, address);
	mail_write(&l);
}

void maillog_connect(const char *peer)
{
	struct mail_line l;
	if (!mail_begin(&l))
		return;
	mail_put_peer(&l, peer);
	mail_put(&l, " connected");
	mail_write(&l);
}

void maillog_auth(const char *peer, const char *user, bool good)
{
	struct mail_line l;
	if (!mail_begin(&l))
		return;
	mail_put_peer(&l, peer);
	mail_put(&l, good ? " auth succeeded for " : " auth failed for ");
	mail_put_word(&l, user, END_LINE);
	mail_write(&l);
}

void maillog_rejected(const char *peer, const char *from, char *const *to, size_t to_count,
                      const char *reason)
{
	struct mail_line l;
	if (!mail_begin(&l))
		return;
	mail_put_peer(&l, peer);
	mail_put(&l, " rejected");
	mail_put_from(&l, from);
	mail_put_list(&l, to, to_count);
	if (reason && *reason) {
		mail_put(&l, " - ");
		mail_put_reason(&l, reason);
	}
	mail_write(&l);
}

/* "ID from=F": how each line about a message begins. */
static void mail_put_message(struct mail_line *l, const char *id, const char *from)
{
	mail_put_word(l, id, END_PEER); /* the name of a file, which may be another's */
	mail_put_from(l, from);
}

void maillog_queued(const char *id, const char *from, const char *peer, char *const *to,
                    size_t to_count)
{
	struct mail_line l;
	if (!mail_begin(&l))
		return;
	mail_put_message(&l, id, from);
	mail_put(&l, " queued ip=");
	mail_put_peer(&l, peer);
	mail_put_list(&l, to, to_count);
	mail_write(&l);
}

void maillog_attempt(const char *id, const char *from, const char *to, const struct status *st)
{
	struct mail_line l;
	enum status_result result = status_class(st);
	char text[STATUS_PRINT_MAX];
	if (!mail_begin(&l))
		return;
	mail_put_message(&l, id, from);
	mail_put(&l, " to=");
	mail_put_word(&l, to, END_TO);
	if (result == STATUS_DONE) {
		mail_put(&l, " sent");
	} else {
		mail_put(&l, result == STATUS_PERMANENT ? " failed (permanent): "
		                                        : " failed (temporary): ");
		status_print(st, text, sizeof text);
		mail_put_reason(&l, text);
	}
	mail_write(&l);
}

/* A time as Go writes it: "1h0m5s". */
static void mail_put_duration(struct mail_line *l, int64_t seconds)
{
	char text[48];
	int64_t minutes = seconds / 60;
	if (seconds < 60)
		snprintf(text, sizeof text, "%llds", (long long)seconds);
	else if (minutes < 60)
		snprintf(text, sizeof text, "%lldm%llds", (long long)minutes,
		         (long long)(seconds % 60));
	else
		snprintf(text, sizeof text, "%lldh%lldm%llds", (long long)(minutes / 60),
		         (long long)(minutes % 60), (long long)(seconds % 60));
	mail_put(l, text);
}

void maillog_waits(const char *id, const char *from, int64_t seconds)
{
	struct mail_line l;
	if (!mail_begin(&l))
		return;
	mail_put_message(&l, id, from);
	mail_put(&l, " completed loop, next in ");
	mail_put_duration(&l, seconds);
	mail_write(&l);
}

void maillog_done(const char *id, const char *from)
{
	struct mail_line l;
	if (!mail_begin(&l))
		return;
	mail_put_message(&l, id, from);
	mail_put(&l, " all done");
	mail_write(&l);
}
