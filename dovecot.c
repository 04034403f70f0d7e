/*
 * dovecot: questions to Dovecot's authentication server.
 *
 * A question is a connection of its own, so nothing has to be kept alive, and a restart of Dovecot
 * costs those questions that were under way and no others. Two protocols of lines with tabs: the
 * userdb one, where the server greets first (VERSION, SPID) and USER follows; and the client one,
 * where both greet at once, the server's greeting ends with DONE, and AUTH follows. The number of
 * our request is always 1. Whatever is not a clear yes or no is trouble, never a no.
 */
#include "dovecot.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base64.h"
#include "kdf.h"
#include "text.h"

/* Room for a request: a name three times, twice of it and the password as base64. */
#define REQUEST_MAX 8192

enum {
	USERDB_GREETING,
	USERDB_ANSWER,
	CLIENT_GREETING,
	CLIENT_ANSWER,
	ENDED, /* the result waits to be told */
};

/* ---- lines ---- */

/* Cuts the next field, up to a tab, from the line. */
static struct slice next_field(struct slice *line)
{
	const char *tab = line->n ? memchr(line->p, '\t', line->n) : NULL;
	struct slice field = {line->p, tab ? (size_t)(tab - line->p) : line->n};
	size_t skip = tab ? field.n + 1 : field.n;
	line->p += skip;
	line->n -= skip;
	return field;
}

/* The value of "name=value" among the fields; *found says whether it is there at all. */
static struct slice find_parameter(struct slice line, const char *name, bool *found)
{
	size_t n = strlen(name);
	*found = false;
	while (line.n > 0) {
		struct slice field = next_field(&line);
		if (field.n < n || memcmp(field.p, name, n) != 0 ||
		    (field.n > n && field.p[n] != '='))
			continue;
		*found = true;
		n += field.n > n;
		return (struct slice){field.p + n, field.n - n};
	}
	return (struct slice){line.p, 0};
}

/* ---- what may be asked ---- */

/* Unicode's white space and control characters beyond ASCII. */
static bool is_blank(uint32_t c)
{
	return (c >= 0x80 && c <= 0xa0) || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
	       c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* The protocol has no quoting: a tab or line end in a name would be a parameter or a command. */
static bool name_is_safe(struct slice s)
{
	if (s.n == 0 || !text_is_utf8(s.p, s.n))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		const unsigned char *p = (const unsigned char *)s.p + i;
		if (*p <= ' ' || *p == 0x7f)
			return false;
		/* Only sequences of two and three bytes can be blanks. */
		if (*p >= 0xc2 && *p < 0xe0 && is_blank((p[0] & 0x1fU) << 6 | (p[1] & 0x3fU)))
			return false;
		if (*p >= 0xe0 && *p < 0xf0 &&
		    is_blank((p[0] & 0xfU) << 12 | (p[1] & 0x3fU) << 6 | (p[2] & 0x3fU)))
			return false;
	}
	return true;
}

/* ---- ends ---- */

static void wipe(struct dovecot *d)
{
	if (d->io.out.data)
		kdf_wipe(d->io.out.data, d->io.out.size);
	if (d->request.data)
		kdf_wipe(d->request.data, d->request.size);
	io_close(&d->io);
	buf_clear(&d->request);
}

static void tell(void *arg)
{
	struct dovecot *d = arg;
	d->used = false;
	d->done(d->arg, d);
}

/* The result is told by a timer, for it may be known while the question is still being asked. */
static void end(struct dovecot *d, enum dovecot_result result, const char *why)
{
	wipe(d);
	d->state = ENDED;
	d->result = result;
	d->why = why;
	loop_timer_set(&d->soon, 0);
}

void dovecot_cancel(struct dovecot *d)
{
	if (!d->used)
		return;
	wipe(d);
	loop_timer_stop(&d->soon);
	d->used = false;
}

/* ---- the dialogue ---- */

static void send_request(struct dovecot *d, int next)
{
	struct slice s = buf_slice(&d->request);
	d->state = next;
	if (io_write(&d->io, s.p, s.n) < 0) {
		end(d, DOVECOT_TROUBLE, "out of memory");
		return;
	}
	io_flush(&d->io);
	io_deadline(&d->io, DOVECOT_ANSWER_MS);
}

/* A greeting line. Unknown ones are passed over, as the protocol wants it. */
static void take_greeting(struct dovecot *d, struct slice line)
{
	struct slice command = next_field(&line);
	bool userdb = d->state == USERDB_GREETING;
	if (slice_is(command, "VERSION")) {
		if (!slice_is(next_field(&line), "1"))
			end(d, DOVECOT_TROUBLE, "Dovecot speaks another version of the protocol");
	} else if (slice_is(command, userdb ? "SPID" : "DONE")) {
		send_request(d, userdb ? USERDB_ANSWER : CLIENT_ANSWER);
	}
}

/* FAIL says no, or that it could not tell. */
static void take_fail(struct dovecot *d, struct slice line)
{
	bool temp;
	struct slice code;
	find_parameter(line, "temp", &temp);
	if (!temp) {
		code = find_parameter(line, "code", &temp);
		temp = temp && slice_is(code, "temp_fail");
	}
	if (temp)
		end(d, DOVECOT_TROUBLE, "Dovecot reports a temporary failure");
	else
		end(d, DOVECOT_NO, "");
}

static void take_ok(struct dovecot *d, struct slice line)
{
	bool found;
	struct slice user = find_parameter(line, "user", &found);
	if (found && user.n < sizeof(d->user) && name_is_safe(user)) {
		memcpy(d->user, user.p, user.n);
		d->user[user.n] = '\0';
	}
	end(d, DOVECOT_YES, "");
}

static void take_answer(struct dovecot *d, struct slice line)
{
	bool userdb = d->state == USERDB_ANSWER;
	struct slice command = next_field(&line);
	bool ours = slice_is(next_field(&line), "1");
	if (ours && userdb && slice_is(command, "USER"))
		end(d, DOVECOT_YES, "");
	else if (ours && userdb && slice_is(command, "NOTFOUND"))
		end(d, DOVECOT_NO, "");
	else if (ours && !userdb && slice_is(command, "OK"))
		take_ok(d, line);
	else if (ours && !userdb && slice_is(command, "FAIL"))
		take_fail(d, line);
	else
		end(d, DOVECOT_TROUBLE, "Dovecot gave an answer that is not understood");
}

static void take_input(struct dovecot *d)
{
	while (d->state != ENDED) {
		struct slice in = buf_slice(&d->io.in);
		const char *lf = in.n ? memchr(in.p, '\n', in.n) : NULL;
		if (!lf)
			break;
		struct slice line = {in.p, (size_t)(lf - in.p)};
		size_t whole = line.n + 1;
		d->taken += whole;
		if (d->taken > DOVECOT_INPUT_MAX)
			end(d, DOVECOT_TROUBLE, "Dovecot says too much");
		else if (d->state == USERDB_GREETING || d->state == CLIENT_GREETING)
			take_greeting(d, line);
		else
			take_answer(d, line);
		if (d->state != ENDED)
			buf_consume(&d->io.in, whole);
	}
	if (d->state == ENDED)
		return;
	if (d->io.in.len >= DOVECOT_LINE_MAX)
		end(d, DOVECOT_TROUBLE, "Dovecot sent a line that is too long");
	else
		io_update(&d->io);
}

static void handle(void *arg, enum io_event ev)
{
	struct dovecot *d = arg;
	if (ev == IO_READ)
		take_input(d);
	else if (ev == IO_EOF)
		end(d, DOVECOT_TROUBLE, "Dovecot closed the connection");
	else if (ev == IO_TIMEOUT)
		end(d, DOVECOT_TROUBLE, "Dovecot does not answer");
	else if (ev == IO_ERROR)
		end(d, DOVECOT_TROUBLE, "the connection to Dovecot broke");
}

/* ---- connections ---- */

/* Connects, which a UNIX socket does at once or not at all. Returns the descriptor, or -1. */
static int connect_to(const char *path)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	size_t n = strlen(path);
	if (n >= sizeof(sun.sun_path))
		return -1;
	memcpy(sun.sun_path, path, n + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The configured socket, or the first usable one of those with usual names. */
static int connect_any(const struct dovecot_paths *paths, bool userdb)
{
	static const char *const names[2][2] = {{"auth-chasquid-client", "auth-client"},
	                                        {"auth-chasquid-userdb", "auth-userdb"}};
	const char *path = userdb ? paths->userdb : paths->client;
	int fd = -1;
	if (path && *path)
		return connect_to(path);
	for (size_t i = 0; fd < 0 && i < 2; i++) {
		char found[sizeof(((struct sockaddr_un *)0)->sun_path)];
		int n = snprintf(found, sizeof(found), "%s/%s",
		                 paths->dir ? paths->dir : DOVECOT_DIR, names[userdb][i]);
		if (n > 0 && (size_t)n < sizeof(found))
			fd = connect_to(found);
	}
	return fd;
}

/* Prepares the struct; the caller then adds the request. */
static void begin(struct dovecot *d, void (*done)(void *arg, struct dovecot *d), void *arg)
{
	d->used = true;
	d->why = "";
	d->user[0] = '\0';
	d->done = done;
	d->arg = arg;
	d->taken = 0;
	loop_timer_init(&d->soon, tell, d);
	io_init(&d->io, DOVECOT_LINE_MAX, REQUEST_MAX, handle, d);
	buf_init(&d->request, REQUEST_MAX);
}

/* Opens the connection and says hello. */
static void start(struct dovecot *d, const struct dovecot_paths *paths, bool userdb)
{
	int fd = d->request.failed ? -1 : connect_any(paths, userdb);
	if (d->request.failed) {
		end(d, DOVECOT_TROUBLE, "out of memory");
	} else if (fd < 0) {
		end(d, DOVECOT_TROUBLE,
		    userdb ? "Dovecot's userdb socket cannot be reached"
		           : "Dovecot's client socket cannot be reached");
	} else if (io_open(&d->io, fd) < 0) {
		end(d, DOVECOT_TROUBLE, "out of descriptors");
	} else {
		d->state = userdb ? USERDB_GREETING : CLIENT_GREETING;
		io_deadline(&d->io, DOVECOT_GREETING_MS);
		if (!userdb && io_printf(&d->io, "VERSION\t1\t1\nCPID\t%ld\n", (long)getpid()) < 0)
			end(d, DOVECOT_TROUBLE, "out of memory");
	}
}

void dovecot_exists(struct dovecot *d, const struct dovecot_paths *paths, struct slice user,
                    void (*done)(void *arg, struct dovecot *d), void *arg)
{
	begin(d, done, arg);
	if (!name_is_safe(user)) {
		end(d, DOVECOT_NO, "");
		return;
	}
	buf_puts(&d->request, "VERSION\t1\t1\nUSER\t1\t");
	buf_append(&d->request, user.p, user.n);
	buf_puts(&d->request, "\tservice=smtp\n");
	start(d, paths, true);
}

/* AUTH, with the whole SASL PLAIN message in it. */
static void put_auth(struct buf *out, struct slice user, struct slice password,
                     const struct dns_addr *peer)
{
	char text[INET6_ADDRSTRLEN];
	struct buf plain;
	buf_puts(out, "AUTH\t1\tPLAIN\tservice=smtp\tsecured\tnologin");
	if (peer)
		buf_printf(out, "\trip=%s", dns_addr_text(peer, text));
	else
		buf_puts(out, "\tno-penalty");
	buf_puts(out, "\tresp=");
	buf_init(&plain, REQUEST_MAX);
	/* All at once: a buffer that grew would leave pieces of the password behind. */
	size_t room;
	char *p = buf_space(&plain, 2 * user.n + password.n + 2, &room);
	if (!p || room < 2 * user.n + password.n + 2 || !buf_space(out, REQUEST_MAX / 2, &room)) {
		out->failed = true;
	} else {
		buf_append(&plain, user.p, user.n);
		buf_putc(&plain, '\0');
		buf_append(&plain, user.p, user.n);
		buf_putc(&plain, '\0');
		buf_append(&plain, password.p, password.n);
		base64_encode(buf_slice(&plain), out);
		kdf_wipe(plain.data, plain.size);
	}
	buf_clear(&plain);
	buf_putc(out, '\n');
}

void dovecot_authenticate(struct dovecot *d, const struct dovecot_paths *paths, struct slice user,
                          struct slice password, const struct dns_addr *peer,
                          void (*done)(void *arg, struct dovecot *d), void *arg)
{
	begin(d, done, arg);
	if (!name_is_safe(user) || (password.n && memchr(password.p, '\0', password.n))) {
		end(d, DOVECOT_NO, "");
		return;
	}
	put_auth(&d->request, user, password, peer);
	start(d, paths, false);
}
