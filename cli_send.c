/*
 * cli_send: sendmail, as the programs of a Unix machine call it.
 *
 * The beginning of the message, with all of its header section, is read first; then the daemon is
 * asked for an SMTP session over its UNIX socket, and the rest is passed on as it comes: memory
 * does not depend on the size of the message. All recipients are accepted or the message is not
 * sent at all, for the caller learns only one exit code. No rights are needed: the daemon knows the
 * caller by its credentials.
 */
#include "cli_int.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "addr.h"
#include "buf.h"
#include "config.h"
#include "header.h"
#include "smtpbody.h"
#include "smtpreply.h"

/* How the input is looked at for a line with a single dot. */
enum dot_state { DOT_LINE_START, DOT_IN_LINE, DOT_SEEN, DOT_CR_SEEN, DOT_END };

struct send {
	const char *tool;
	const char *dir;
	const char *sender; /* -f, or NULL */
	const char *name;   /* -F, or NULL */
	bool from_header;   /* -t */
	bool dots;          /* -i: a dot alone means nothing */
	bool verbose;
	struct addr *rcpt;
	size_t rcpt_count;
	char login[ADDR_USER_MAX + 1];
	char gecos[128];
	char host[ADDR_DOMAIN_MAX + 1]; /* the daemon's name, normalised */
	struct addr from;
	int fd;
	struct buf in;   /* from the daemon */
	struct buf out;  /* to the daemon */
	struct buf text; /* of the message, not sent yet */
	enum dot_state dot;
	struct smtp_caps caps;
	bool utf8; /* a local part or the header is not ASCII: under SMTPUTF8 */
};

static int complain(const struct send *s, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Says what is wrong. Returns the exit code given. */
static int complain(const struct send *s, int code, const char *fmt, ...)
{
	va_list ap;
	fprintf(stderr, "%s: ", s->tool);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs("\n", stderr);
	return code;
}

/* ---- input ---- */

static void put_text(struct send *s, const char *p, size_t n)
{
	buf_append(&s->text, p, n);
}

/* Takes one byte of input; a dot is held back until it is known not to be alone on its line. */
static void take_byte(struct send *s, char c)
{
	static const char held[] = ".\r";
	if (s->dot == DOT_SEEN || s->dot == DOT_CR_SEEN) {
		if (c == '\n') {
			s->dot = DOT_END;
			return;
		}
		if (s->dot == DOT_SEEN && c == '\r') {
			s->dot = DOT_CR_SEEN;
			return;
		}
		put_text(s, held, s->dot == DOT_SEEN ? 1 : 2);
		s->dot = DOT_IN_LINE;
	}
	if (s->dot == DOT_LINE_START && c == '.' && !s->dots) {
		s->dot = DOT_SEEN;
		return;
	}
	put_text(s, &c, 1);
	s->dot = c == '\n' ? DOT_LINE_START : DOT_IN_LINE;
}

/* Adds some input to the text. Returns 1, 0 at its end, or -1 with errno. */
static int read_input(struct send *s)
{
	char chunk[4096];
	size_t room = s->text.max - s->text.len, want = sizeof(chunk);
	if (s->dot == DOT_END)
		return 0;
	if (want > room / 2) /* two held bytes may come with the first one */
		want = room / 2;
	ssize_t n;
	do
		n = read(STDIN_FILENO, chunk, want);
	while (n < 0 && errno == EINTR);
	if (n <= 0) {
		s->dot = DOT_END;
		return (int)n;
	}
	for (ssize_t i = 0; i < n && s->dot != DOT_END; i++)
		take_byte(s, chunk[i]);
	if (s->text.failed) {
		errno = ENOMEM;
		return -1;
	}
	return 1;
}

/* Reads until the text is full or the input ends. Returns an exit code. */
static int read_beginning(struct send *s)
{
	int rc = 1;
	while (rc > 0 && s->text.max - s->text.len >= 4)
		rc = read_input(s);
	if (rc < 0)
		return complain(s, EX_IOERR, "reading the message: %s", strerror(errno));
	/* The line that separates messages in a mailbox is no header field. */
	if (s->text.len >= 5 && memcmp(buf_data(&s->text), "From ", 5) == 0) {
		const char *end = memchr(buf_data(&s->text), '\n', s->text.len);
		buf_consume(&s->text, end ? (size_t)(end - buf_data(&s->text)) + 1 : s->text.len);
	}
	return EX_OK;
}

/* ---- recipients ---- */

static int take_recipient(void *arg, const struct addr *a)
{
	struct send *s = arg;
	for (size_t i = 0; i < s->rcpt_count; i++)
		if (strcmp(s->rcpt[i].user, a->user) == 0 &&
		    strcmp(s->rcpt[i].domain, a->domain) == 0)
			return 0;
	if (s->rcpt_count == CLI_RCPTS_MAX)
		return -1;
	struct addr *grown = realloc(s->rcpt, (s->rcpt_count + 1) * sizeof(*grown));
	if (!grown)
		return -1;
	s->rcpt = grown;
	s->rcpt[s->rcpt_count++] = *a;
	return 0;
}

/* Adds the recipients of one address list. Returns an exit code. */
static int take_list(struct send *s, struct slice list, int bad)
{
	if (header_addresses(list, take_recipient, s) >= 0)
		return EX_OK;
	if (s->rcpt_count == CLI_RCPTS_MAX)
		return complain(s, EX_UNAVAILABLE, "more than %d recipients", CLI_RCPTS_MAX);
	return complain(s, bad, "this is not a list of mail addresses: %.*s",
	                list.n > 200 ? 200 : (int)list.n, list.p);
}

static bool is_resent(enum header_id id)
{
	return id == HEADER_RESENT_TO || id == HEADER_RESENT_CC || id == HEADER_RESENT_BCC;
}

/* ---- the header section ---- */

/* A phrase before an address: quoted, or as encoded words (RFC 2047) when it is not ASCII. */
static void put_phrase(struct buf *out, const char *name)
{
	static const char hex[] = "0123456789ABCDEF";
	bool ascii = true;
	size_t column = 0, n = strlen(name);
	for (size_t i = 0; i < n; i++)
		ascii = ascii && (unsigned char)name[i] < 0x80;
	if (ascii) {
		buf_putc(out, '"');
		for (size_t i = 0; i < n; i++) {
			if (name[i] == '"' || name[i] == '\\')
				buf_putc(out, '\\');
			buf_putc(out, name[i]);
		}
		buf_puts(out, "\" ");
		return;
	}
	for (size_t i = 0; i < n;) {
		size_t len = status_utf8_len(name + i, n - i);
		if (column == 0)
			buf_puts(out, "=?UTF-8?Q?");
		for (size_t k = 0; k < len; k++, i++, column += 3) {
			unsigned char c = (unsigned char)name[i];
			if (c < 0x80 && isalnum(c))
				buf_putc(out, name[i]);
			else
				buf_printf(out, "=%c%c", hex[c >> 4], hex[c & 15]);
		}
		if (column > 45 || i >= n) {
			buf_puts(out, "?= ");
			column = 0;
		}
	}
}

static void put_from(struct send *s, struct buf *out)
{
	char name[128], path[ADDR_TEXT_MAX];
	struct addr a = s->from;
	if (addr_is_null(&a))
		snprintf(a.user, sizeof(a.user), "%s", s->login);
	if (!*a.domain)
		snprintf(a.domain, sizeof(a.domain), "%s", s->host);
	if (addr_format_wire(&a, false, path, sizeof(path)) < 0 &&
	    addr_format_wire(&a, true, path, sizeof(path)) < 0)
		return;
	status_clean(slice_of(s->name ? s->name : s->gecos), name, sizeof(name));
	buf_puts(out, "From: ");
	if (*name)
		put_phrase(out, name);
	buf_printf(out, "%s\n", path);
}

/* Fields every message has (RFC 5322 3.6). */
static void put_missing(struct send *s, const unsigned count[HEADER_IDS], struct buf *out)
{
	struct timespec now;
	struct tm tm;
	char date[HEADER_DATE_MAX], host[ADDR_DOMAIN_MAX + 1];
	uint64_t random = 0;
	clock_gettime(CLOCK_REALTIME, &now);
	if (count[HEADER_FROM] == 0)
		put_from(s, out);
	if (count[HEADER_DATE] == 0) {
		time_t t = now.tv_sec;
		header_date((int64_t)t, localtime_r(&t, &tm) ? (int)(tm.tm_gmtoff / 60) : 0, date);
		buf_printf(out, "Date: %s\n", date);
	}
	if (count[HEADER_MESSAGE_ID] == 0) {
		if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
			random = (uint64_t)now.tv_nsec;
		if (addr_domain_to_ascii(s->host, host, sizeof(host)) < 0)
			snprintf(host, sizeof(host), "localhost");
		buf_printf(out, "Message-ID: <%llx.%llx.%lx@%s>\n", (unsigned long long)now.tv_sec,
		           (unsigned long long)random, (unsigned long)getpid(), host);
	}
	if (count[HEADER_TO] + count[HEADER_CC] == 0)
		buf_puts(out, "To: undisclosed-recipients:;\n");
}

/* Counts the fields of the header section in the text, and takes recipients out of them. Returns an
 * exit code. */
static int scan_header(struct send *s, unsigned count[HEADER_IDS], struct slice *body)
{
	struct header_field f;
	struct slice rest = buf_slice(&s->text);
	memset(count, 0, HEADER_IDS * sizeof(*count));
	while (header_next(&rest, &f) > 0)
		count[f.id]++;
	if (rest.n == 0 && s->dot != DOT_END)
		return complain(s, EX_DATAERR, "the header is longer than %d bytes",
		                CLI_HEADER_MAX);
	*body = rest;
	bool resent =
	    count[HEADER_RESENT_TO] || count[HEADER_RESENT_CC] || count[HEADER_RESENT_BCC];
	rest = buf_slice(&s->text);
	while (s->from_header && header_next(&rest, &f) > 0) {
		bool wanted = resent ? is_resent(f.id)
		                     : f.id == HEADER_TO || f.id == HEADER_CC || f.id == HEADER_BCC;
		int code = wanted && f.value.n > 0 ? take_list(s, f.value, EX_DATAERR) : EX_OK;
		if (code != EX_OK)
			return code;
	}
	return EX_OK;
}

/* Adds a field. What cron and scripts write must get through, so bytes that are not UTF-8 become
 * '?' where the daemon refuses them. */
static void put_field(struct buf *out, struct slice raw)
{
	for (size_t i = 0; SMTPD_STRICT_HEADER && i < raw.n;) {
		size_t len = status_utf8_len(raw.p + i, raw.n - i);
		buf_append(out, len > 0 ? raw.p + i : "?", len > 0 ? len : 1);
		i += len > 0 ? len : 1;
	}
	if (!SMTPD_STRICT_HEADER)
		buf_append(out, raw.p, raw.n);
	if (raw.n > 0 && raw.p[raw.n - 1] != '\n')
		buf_putc(out, '\n');
}

/* Writes the header section that is sent: what is missing, then the fields without Bcc (they are to
 * be hidden) and Return-Path (the delivery's to add). Returns an exit code. */
static int make_header(struct send *s, const unsigned count[HEADER_IDS], struct buf *head)
{
	struct header_field f;
	struct slice rest = buf_slice(&s->text);
	put_missing(s, count, head);
	while (header_next(&rest, &f) > 0) {
		if (f.id == HEADER_BCC || f.id == HEADER_RESENT_BCC || f.id == HEADER_RETURN_PATH)
			continue;
		put_field(head, f.raw);
	}
	buf_putc(head, '\n');
	return head->failed ? complain(s, EX_OSERR, "out of memory") : EX_OK;
}

/* ---- the session ---- */

static void note_line(void *arg, unsigned number, struct slice text)
{
	struct send *s = arg;
	smtp_caps_line(&s->caps, number, text);
	if (number == 0 && !*s->host) {
		size_t n = 0;
		while (n < text.n && text.p[n] != ' ')
			n++;
		if (addr_domain_normalise((struct slice){text.p, n}, s->host, sizeof(s->host)) < 0)
			snprintf(s->host, sizeof(s->host), "localhost");
	}
}

/* Reads a reply into r. Returns an exit code: not OK when there is none. */
static int read_reply(struct send *s, struct smtp_reply *r)
{
	smtp_reply_init(r, note_line, s);
	for (;;) {
		size_t used, room;
		enum smtp_reply_result got = smtp_reply_feed(r, buf_slice(&s->in), &used);
		if (got == SMTP_REPLY_BAD && s->in.len > 0) {
			const char *line = buf_str(&s->in);
			return complain(s, EX_TEMPFAIL, "chasq says: %.*s",
			                (int)strcspn(line, "\r\n"), line);
		}
		buf_consume(&s->in, used);
		if (got == SMTP_REPLY_COMPLETE)
			break;
		char *p = buf_space(&s->in, 1024, &room);
		ssize_t n = p && room > 0 ? recv(s->fd, p, room, 0) : -1;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return complain(s, EX_TEMPFAIL, "the connection to chasq was lost%s%s",
			                n < 0 ? ": " : "", n < 0 ? strerror(errno) : "");
		buf_added(&s->in, (size_t)n);
	}
	if (s->verbose) {
		char text[STATUS_PRINT_MAX];
		status_print(&r->status, text, sizeof(text));
		printf("<<< %s\n", text);
	}
	return EX_OK;
}

/* The exit code of a reply; `refused` for 5yz. Says what the reply says, unless it is as wished. */
static int judge(const struct send *s, const struct smtp_reply *r, int wish, int refused,
                 const char *about)
{
	char text[STATUS_PRINT_MAX];
	if (r->code / 100 == wish)
		return EX_OK;
	status_print(&r->status, text, sizeof(text));
	if (refused == EX_NOUSER && r->status.enh[0] == 5 && r->status.enh[1] != 1)
		refused = EX_UNAVAILABLE; /* it is not the address that is wrong (RFC 3463) */
	return complain(s, r->code / 100 == 5 ? refused : EX_TEMPFAIL, "%s%s%s", about ? about : "",
	                about ? ": " : "", text);
}

static int command(struct send *s, int wish, int refused, const char *about, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* Sends a command and judges its reply. Returns an exit code. */
static int command(struct send *s, int wish, int refused, const char *about, const char *fmt, ...)
{
	struct smtp_reply r;
	va_list ap;
	va_start(ap, fmt);
	buf_vprintf(&s->out, fmt, ap);
	va_end(ap);
	if (s->verbose)
		printf(">>> %s\n", buf_str(&s->out));
	buf_puts(&s->out, "\r\n");
	/* When writing fails, a last reply may be there to tell why. */
	cli_write(s->fd, buf_data(&s->out), s->out.len);
	buf_truncate(&s->out, 0);
	int code = read_reply(s, &r);
	return code == EX_OK ? judge(s, &r, wish, refused, about) : code;
}

static int open_session(struct send *s)
{
	struct smtp_reply r;
	s->fd = cli_connect(s->tool, s->dir, "SUBMIT");
	if (s->fd < 0)
		return complain(s, EX_TEMPFAIL, "the message was not sent");
	int code = read_reply(s, &r);
	if (code == EX_OK)
		code = judge(s, &r, 2, EX_UNAVAILABLE, NULL);
	s->caps = (struct smtp_caps){.ext = 0};
	return code == EX_OK ? command(s, 2, EX_UNAVAILABLE, NULL, "EHLO localhost") : code;
}

/* The path of an address for the wire; one without domain is the daemon's host's. */
static int make_path(struct send *s, struct addr *a, char *path, size_t size)
{
	if (!addr_is_null(a) && !*a->domain)
		snprintf(a->domain, sizeof(a->domain), "%s", s->host);
	if (addr_format_wire(a, s->utf8, path, size) < 0)
		return complain(s, EX_DATAERR, "chasq takes only ASCII in addresses: %s", a->user);
	return EX_OK;
}

static int take_sender(void *arg, const struct addr *a)
{
	*(struct addr *)arg = *a;
	return 0;
}

/* -f, or who calls. Returns an exit code. */
static int find_sender(struct send *s)
{
	const char *f = s->sender;
	s->from = (struct addr){.user = ""};
	if (f && (!*f || strcmp(f, "<>") == 0))
		return EX_OK;
	if (!f) {
		snprintf(s->from.user, sizeof(s->from.user), "%s", s->login);
		return EX_OK;
	}
	if (header_addresses(slice_of(f), take_sender, &s->from) != 1)
		return complain(s, EX_USAGE, "-f: this is not a mail address: %s", f);
	return EX_OK;
}

static bool user_is_utf8(const struct addr *a)
{
	struct addr user = *a;
	user.domain[0] = '\0';
	return !addr_is_ascii(&user);
}

/* Is the header UTF-8, and more than ASCII? */
static bool header_is_utf8(const struct buf *head)
{
	struct header_scan scan;
	header_scan_init(&scan);
	header_scan_feed(&scan, buf_slice(head));
	header_scan_end(&scan);
	return scan.header_8bit && !scan.header_not_utf8;
}

/* A message that asks for SMTPUTF8 without need could go to fewer hosts. */
static bool needs_utf8(const struct send *s, const struct buf *head)
{
	bool needed = header_is_utf8(head) || user_is_utf8(&s->from);
	for (size_t i = 0; i < s->rcpt_count; i++)
		needed = needed || user_is_utf8(&s->rcpt[i]);
	return needed && (s->caps.ext & SMTP_EXT_SMTPUTF8);
}

static int send_envelope(struct send *s, const struct buf *head)
{
	char path[ADDR_TEXT_MAX];
	s->utf8 = needs_utf8(s, head);
	int code = make_path(s, &s->from, path, sizeof(path));
	const char *body = s->caps.ext & SMTP_EXT_8BITMIME ? " BODY=8BITMIME" : "";
	const char *utf8 = s->utf8 ? " SMTPUTF8" : "";
	if (code == EX_OK)
		code = command(s, 2, EX_UNAVAILABLE, path, "MAIL FROM:%s%s%s", path, body, utf8);
	for (size_t i = 0; code == EX_OK && i < s->rcpt_count; i++) {
		code = make_path(s, &s->rcpt[i], path, sizeof(path));
		if (code == EX_OK)
			code = command(s, 2, EX_NOUSER, path, "RCPT TO:%s", path);
	}
	return code == EX_OK ? command(s, 3, EX_UNAVAILABLE, NULL, "DATA") : code;
}

/* Encodes a piece and sends what has gathered. Returns 0, or -1. */
static int send_piece(struct send *s, struct smtp_body_out *b, struct slice piece)
{
	while (piece.n > 0) {
		struct slice part = {piece.p, piece.n < 8192 ? piece.n : 8192};
		if (smtp_body_encode(b, part, &s->out) < 0 ||
		    cli_write(s->fd, buf_data(&s->out), s->out.len) < 0)
			return -1;
		buf_truncate(&s->out, 0);
		piece.p += part.n;
		piece.n -= part.n;
	}
	return 0;
}

/* Sends the content; body is the part of the text behind the header. A message whose input fails is
 * never ended. Returns an exit code. */
static int send_content(struct send *s, const struct buf *head, struct slice body)
{
	struct smtp_body_out b;
	struct smtp_reply r;
	int input = 1, sent;
	smtp_body_out_init(&b);
	sent = send_piece(s, &b, buf_slice(head));
	if (sent == 0)
		sent = send_piece(s, &b, body);
	while (sent == 0 && input > 0) {
		buf_truncate(&s->text, 0);
		input = read_input(s);
		if (input < 0)
			return complain(s, EX_IOERR, "reading the message: %s", strerror(errno));
		sent = send_piece(s, &b, buf_slice(&s->text));
	}
	if (sent == 0 && smtp_body_finish(&b, &s->out) == 0)
		cli_write(s->fd, buf_data(&s->out), s->out.len);
	buf_truncate(&s->out, 0);
	int code = read_reply(s, &r);
	return code == EX_OK ? judge(s, &r, 2, EX_UNAVAILABLE, NULL) : code;
}

/* The body behind the empty line; a header that ends otherwise has none. */
static struct slice skip_empty_line(struct slice s)
{
	if (s.n > 0 && s.p[0] == '\n')
		return (struct slice){s.p + 1, s.n - 1};
	if (s.n > 1 && s.p[0] == '\r' && s.p[1] == '\n')
		return (struct slice){s.p + 2, s.n - 2};
	return s;
}

static int send_message(struct send *s)
{
	unsigned count[HEADER_IDS];
	struct slice body = {NULL, 0};
	struct buf head;
	int code = read_beginning(s);
	if (code == EX_OK)
		code = scan_header(s, count, &body);
	if (code == EX_OK && s->rcpt_count == 0)
		code = complain(s, s->from_header ? EX_DATAERR : EX_USAGE, "there is no recipient");
	if (code == EX_OK)
		code = find_sender(s);
	if (code == EX_OK)
		code = open_session(s);
	if (code != EX_OK)
		return code;
	buf_init(&head, CLI_HEADER_MAX + 8192);
	code = make_header(s, count, &head);
	if (code == EX_OK)
		code = send_envelope(s, &head);
	if (code == EX_OK)
		code = send_content(s, &head, skip_empty_line(body));
	buf_clear(&head);
	if (code == EX_OK) /* it is sent, whatever the answer to this is */
		cli_write(s->fd, "QUIT\r\n", 6);
	return code;
}

/* ---- -bs ---- */

/* Copies what is there. Returns 1, or 0 at the end. */
static int copy_some(int from, int to)
{
	char chunk[4096];
	ssize_t n = read(from, chunk, sizeof(chunk));
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 1;
	return n > 0 && cli_write(to, chunk, (size_t)n) == 0;
}

/* SMTP on standard input and output, passed on. */
static int relay(const struct send *s)
{
	int fd = cli_connect(s->tool, s->dir, "SUBMIT");
	if (fd < 0)
		return EX_TEMPFAIL;
	struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
	for (;;) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[0].revents && !copy_some(fd, STDOUT_FILENO))
			break;
		if (p[1].revents && !copy_some(STDIN_FILENO, fd)) {
			shutdown(fd, SHUT_WR);
			p[1].fd = -1;
			p[1].revents = 0;
		}
	}
	close(fd);
	return EX_OK;
}

/* ---- options ---- */

static const char usage[] =
    "usage: sendmail [options] [recipient ...]\n"
    "Reads a message from standard input and gives it to chasq.\n"
    "  -t         take recipients from To, Cc and Bcc\n"
    "  -i, -oi    a dot alone on a line does not end the message\n"
    "  -f ADDR    envelope sender (also -r); <> for none\n"
    "  -F NAME    full name for a From field that is missing\n"
    "  -v         show the dialogue with chasq\n"
    "  -bm        send a message (default)    -bs  SMTP on standard input and output\n"
    "  -bp        list the queue (mailq)      -bi  read the aliases anew (newaliases)\n"
    "  -q         try waiting messages now    -C DIR  configuration directory\n"
    "Accepted without effect: -A -B -d -e -G -h -L -m -N -n -O -o -p -R -U -V -X\n";

static int usage_error(const struct send *s, const char *why)
{
	complain(s, EX_USAGE, "%s; see sendmail --help", why);
	return EX_USAGE;
}

static void who_calls(struct send *s)
{
	const struct passwd *p = getpwuid(getuid());
	if (p) {
		snprintf(s->login, sizeof(s->login), "%s", p->pw_name);
		snprintf(s->gecos, sizeof(s->gecos), "%s", p->pw_gecos ? p->pw_gecos : "");
		s->gecos[strcspn(s->gecos, ",")] = '\0';
	} else {
		snprintf(s->login, sizeof(s->login), "uid%lu", (unsigned long)getuid());
	}
}

/* Reads the options; *mode is the letter of -b, or 'q'. Returns an exit code. */
static int read_options(struct send *s, int argc, char **argv, char *mode)
{
	int option;
	while ((option = getopt(argc, argv, "+A:B:C:F:GIL:N:O:R:UV:X:b:d::e:f:h:imno:p:q::r:tv")) !=
	       -1) {
		switch (option) {
		case 'C':
			s->dir = optarg;
			break;
		case 'F':
			s->name = optarg;
			break;
		case 'f':
		case 'r':
			s->sender = optarg;
			break;
		case 'i':
			s->dots = true;
			break;
		case 'o':
			s->dots = s->dots || strcmp(optarg, "i") == 0;
			break;
		case 't':
			s->from_header = true;
			break;
		case 'v':
			s->verbose = true;
			break;
		case 'b':
			if (strlen(optarg) != 1 || !strchr("mspi", *optarg))
				return usage_error(s, "this mode of -b is not supported");
			*mode = *optarg;
			break;
		case 'I':
			*mode = 'i';
			break;
		case 'q':
			*mode = 'q';
			break;
		case '?':
			return usage_error(s, "unknown option");
		default:
			break;
		}
	}
	return EX_OK;
}

static int run_mode(struct send *s, char mode, int argc, char **argv)
{
	switch (mode) {
	case 's':
		return relay(s);
	case 'p':
		return cli_list_queue(s->tool, s->dir);
	case 'i':
		return cli_say_reload(s->tool, s->dir);
	case 'q':
		return cli_say_flush(s->tool, s->dir, NULL);
	default:
		break;
	}
	for (int i = optind; i < argc; i++) {
		int code = take_list(s, slice_of(argv[i]), EX_USAGE);
		if (code != EX_OK)
			return code;
	}
	return send_message(s);
}

int cli_sendmail(int argc, char **argv)
{
	struct send s = {.tool = "sendmail", .fd = -1};
	char mode = 'm';
	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		fputs(usage, stdout);
		return EX_OK;
	}
	who_calls(&s);
	buf_init(&s.in, 8192);
	buf_init(&s.out, 32768);
	buf_init(&s.text, CLI_HEADER_MAX);
	int code = read_options(&s, argc, argv, &mode);
	if (code == EX_OK)
		code = run_mode(&s, mode, argc, argv);
	if (s.fd >= 0)
		close(s.fd);
	free(s.rcpt);
	buf_clear(&s.in);
	buf_clear(&s.out);
	buf_clear(&s.text);
	return code;
}
