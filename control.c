/*
 * control: the UNIX socket.
 *
 * A client is known by the credentials the kernel gives. It sends one short line in bounded time;
 * then its connection becomes an SMTP session, or gets an answer and ends. A connection that only
 * asks costs a line buffer; the queue is listed in batches, as fast as the client reads, with one
 * message's envelope in memory at a time. Connections are bounded in all and per user, so that no
 * user can shut others out. What is behind the line's end is never read here: it belongs to the
 * SMTP session.
 */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "addr.h"
#include "config.h"
#include "domaininfo.h"
#include "log.h"
#include "loop.h"
#include "stat.h"

#define CONTROL_NAME "control"

STAT_COUNTER(stat_commands, "control/commands");
STAT_COUNTER(stat_refused, "control/refused");

struct control_conn {
	struct loop_fd watch; /* while the command line is read; its fd is ours */
	struct loop_timer timer;
	struct io io;          /* an answer on its way */
	struct smtpd *session; /* an SMTP session */
	uid_t uid;
	char line[CONTROL_LINE_MAX + 1];
	size_t len;
	void (*more)(struct control_conn *c); /* a list: writes some lines, or finishes */
	struct queue_item *batch;             /* QUEUE */
	size_t batch_count, batch_at;
	char after[ADDR_DOMAIN_MAX + 1]; /* the message or domain listed last */
	struct control_conn *next, *prev;
};

static struct {
	const struct smtpd_setup *setup;
	size_t (*on_reload)(void);
	struct loop_fd watch;
	struct loop_timer pause;
	struct control_conn *conns;
	size_t count;
	size_t sessions;
	bool open;
} C;

/* ---- connections ---- */

static void conn_free(struct control_conn *c)
{
	int fd = c->watch.fd;
	loop_timer_stop(&c->timer);
	loop_fd_unwatch(&c->watch);
	if (fd >= 0)
		close(fd);
	if (c->session) {
		smtpd_free(c->session);
		C.sessions--;
	}
	io_close(&c->io);
	free(c->batch);
	if (c->prev)
		c->prev->next = c->next;
	else
		C.conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	C.count--;
	free(c);
	if (C.open && !loop_timer_is_set(&C.pause))
		loop_fd_want(&C.watch, LOOP_READ);
}

static void conn_timed_out(void *arg)
{
	conn_free(arg);
}

/* ---- answers ---- */

static void answer_event(void *arg, enum io_event ev)
{
	struct control_conn *c = arg;
	if (ev == IO_DRAINED && c->more) {
		io_deadline(&c->io, CONTROL_ANSWER_MS);
		c->more(c);
	} else {
		conn_free(c); /* through, or broken */
	}
}

/* Makes the connection an answer: it reads no more. Returns 0, or -1 and c is gone. */
static int answer_begin(struct control_conn *c)
{
	int fd = c->watch.fd;
	loop_timer_stop(&c->timer);
	loop_fd_unwatch(&c->watch);
	if (io_open(&c->io, fd) < 0) {
		conn_free(c);
		return -1;
	}
	io_pause(&c->io, true);
	io_deadline(&c->io, CONTROL_ANSWER_MS);
	return 0;
}

/* A whole answer of one line. */
static void answer(struct control_conn *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void answer(struct control_conn *c, const char *fmt, ...)
{
	va_list ap;
	if (answer_begin(c) < 0)
		return;
	va_start(ap, fmt);
	buf_vprintf(&c->io.out, fmt, ap);
	va_end(ap);
	io_write(&c->io, "\n", 1);
	io_finish(&c->io);
}

/* A list begins when its "OK" is sent. */
static void answer_list(struct control_conn *c, void (*more)(struct control_conn *c))
{
	c->more = more;
	if (answer_begin(c) == 0)
		io_write(&c->io, "OK\n", 3);
}

static void answer_list_end(struct control_conn *c)
{
	c->more = NULL;
	io_finish(&c->io);
}

/* ---- QUEUE ---- */

static const char *span_text(int64_t seconds, char out[24])
{
	static const struct {
		int64_t seconds;
		char unit;
	} units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
	size_t i = 0;
	if (seconds <= 0)
		return "now";
	while (seconds < units[i].seconds)
		i++;
	snprintf(out, 24, "%lld%c", (long long)(seconds / units[i].seconds), units[i].unit);
	return out;
}

/* The recipients that are left, and why the first of them is. */
static void list_recipients(struct buf *b, const struct envelope *env)
{
	const struct status *last = NULL;
	size_t shown = 0, more = 0;
	for (size_t i = 0; i < env->rcpt_count; i++) {
		const struct rcpt *r = &env->rcpt[i];
		if (r->state != RCPT_PENDING)
			continue;
		if (shown < CONTROL_RCPTS_SHOWN)
			buf_printf(b, "%s%s%.300s",
			           shown ? "," : " to=", r->type == RCPT_PIPE ? "|" : "",
			           r->address);
		else
			more++;
		shown++;
		if (!last)
			last = r->last;
	}
	if (more > 0)
		buf_printf(b, ",and %zu more", more);
	if (last) {
		char text[STATUS_PRINT_MAX];
		status_print(last, text, sizeof(text));
		buf_printf(b, " (%s)", text);
	}
}

/* One line; the bytes of a queue file may be hostile. */
static void list_item(struct control_conn *c, const struct queue_item *item)
{
	char line[CONTROL_ITEM_BYTES], age[24], wait[24];
	int64_t now = C.setup->now();
	struct envelope env = {.from = NULL};
	struct status st = {.code = 0};
	struct buf b;
	buf_init(&b, sizeof(line) - 1);
	buf_printf(&b, "%s age=%s next=%s", item->id, span_text(now - item->created, age),
	           item->active ? "active" : span_text(item->next - now, wait));
	if (spool_load(C.setup->spool, item->id, &env, &st) == 0) {
		if (env.size > 0)
			buf_printf(&b, " size=%llu", (unsigned long long)env.size);
		buf_printf(&b, " from=%.300s", env.from ? env.from : "");
		list_recipients(&b, &env);
	} else {
		buf_printf(&b, " (%s)", st.text);
	}
	envelope_clear(&env);
	size_t n = status_clean(buf_slice(&b), line, sizeof(line) - 1);
	line[n] = '\n';
	io_write(&c->io, line, n + 1);
	buf_clear(&b);
}

/* Writes some lines; the next ones when these are sent. A message that ended since its batch was
 * made is told of as missing. */
static void list_more(struct control_conn *c)
{
	for (int i = 0; i < CONTROL_LIST_STEP && io_room(&c->io) > CONTROL_ITEM_BYTES; i++) {
		if (c->batch_at == c->batch_count) {
			if (io_unsent(&c->io) > 0)
				return; /* the next batch in another turn */
			c->batch_count =
			    queue_list(C.setup->queue, c->after, c->batch, CONTROL_BATCH);
			c->batch_at = 0;
			if (c->batch_count == 0) {
				answer_list_end(c);
				return;
			}
			const struct queue_item *last = &c->batch[c->batch_count - 1];
			snprintf(c->after, sizeof(c->after), "%s", last->id);
		}
		list_item(c, &c->batch[c->batch_at++]);
	}
}

static void command_queue(struct control_conn *c, const char *arg)
{
	(void)arg;
	c->batch = calloc(CONTROL_BATCH, sizeof(*c->batch));
	if (!c->batch) {
		answer(c, "ERROR out of memory");
		return;
	}
	answer_list(c, list_more);
}

/* ---- DOMAININFO ---- */

static const char *seen_text(int64_t seen, char out[24])
{
	time_t at = (time_t)seen;
	struct tm tm;
	if (seen <= 0 || (int64_t)at != seen || !gmtime_r(&at, &tm) ||
	    strftime(out, 24, "%Y-%m-%dT%H:%MZ", &tm) == 0)
		return "-";
	return out;
}

/* Writes lines while there is room for one; the next ones when these are sent. */
static void list_domains(struct control_conn *c)
{
	struct domaininfo_entry e[CONTROL_LIST_STEP];
	char seen[24];
	size_t n = domaininfo_list(C.setup->domaininfo, c->after, e, CONTROL_LIST_STEP), i = 0;
	for (; i < n && io_room(&c->io) > CONTROL_ITEM_BYTES; i++)
		buf_printf(
		    &c->io.out, "%s\t%s\t%s\t%s\n", e[i].domain,
		    domaininfo_level_name(e[i].level[DOMAININFO_IN]),
		    domaininfo_level_name(e[i].level[DOMAININFO_OUT]),
		    seen_text(e[i].seen[0] > e[i].seen[1] ? e[i].seen[0] : e[i].seen[1], seen));
	if (i > 0)
		snprintf(c->after, sizeof(c->after), "%s", e[i - 1].domain);
	if (n > 0)
		io_update(&c->io);
	else
		answer_list_end(c);
}

static void show_domain(struct control_conn *c, const char *domain)
{
	struct domaininfo_entry e;
	char in[24], out[24];
	if (domaininfo_find(C.setup->domaininfo, domain, &e) < 0)
		answer(c, "ERROR %s: this domain is not known", domain);
	else
		answer(c, "OK\ndomain: %s\nincoming: %s, last seen %s\noutgoing: %s, last seen %s",
		       e.domain, domaininfo_level_name(e.level[DOMAININFO_IN]),
		       seen_text(e.seen[DOMAININFO_IN], in),
		       domaininfo_level_name(e.level[DOMAININFO_OUT]),
		       seen_text(e.seen[DOMAININFO_OUT], out));
}

static void forget_domain(struct control_conn *c, const char *domain)
{
	struct status st;
	if (domaininfo_forget(C.setup->domaininfo, domain, &st) < 0) {
		answer(c, "ERROR %s: %s", domain, st.text);
		return;
	}
	log_info("-", "domaininfo forgotten", LOG_S("domain", domain), LOG_N("uid", c->uid));
	answer(c, "OK\nforgotten: %s", domain);
}

/* "LIST", "SHOW DOMAIN" or "FORGET DOMAIN", the domain in any spelling. */
static void command_domaininfo(struct control_conn *c, const char *arg)
{
	char domain[ADDR_DOMAIN_MAX + 1];
	bool show = strncmp(arg, "SHOW ", 5) == 0, forget = strncmp(arg, "FORGET ", 7) == 0;
	if (!C.setup->domaininfo)
		answer(c, "ERROR nothing is remembered of domains");
	else if (strcmp(arg, "LIST") == 0)
		answer_list(c, list_domains);
	else if (!show && !forget)
		answer(c, "ERROR unknown command");
	else if (addr_domain_normalise(slice_of(strchr(arg, ' ') + 1), domain, sizeof(domain)) < 0)
		answer(c, "ERROR this is not a domain");
	else
		(show ? show_domain : forget_domain)(c, domain);
}

/* ---- other commands ---- */

static void session_ended(void *arg)
{
	struct control_conn *c = arg;
	c->session = NULL; /* it frees itself */
	C.sessions--;
	conn_free(c);
}

/* The login name, from the file itself: a directory service may block, and the loop cannot wait. */
static void user_name(uid_t uid, char *out, size_t size)
{
	FILE *f = fopen("/etc/passwd", "re");
	const struct passwd *p = NULL;
	int lines = 0;
	snprintf(out, size, "uid %lu", (unsigned long)uid);
	if (!f)
		return;
	do {
		p = fgetpwent(f);
	} while (p && p->pw_uid != uid && ++lines < CONTROL_PASSWD_LINES);
	if (p && p->pw_uid == uid && strlen(p->pw_name) < size)
		snprintf(out, size, "%s", p->pw_name);
	fclose(f);
}

static void command_submit(struct control_conn *c, const char *arg)
{
	struct smtpd_peer peer = {.mode = SMTPD_LOCAL, .trusted = true};
	(void)arg;
	user_name(c->uid, peer.user, sizeof(peer.user));
	c->session = smtpd_new(C.setup, &peer, session_ended, c);
	if (!c->session) {
		answer(c, "ERROR out of memory");
		return;
	}
	C.sessions++;
	int fd = c->watch.fd;
	loop_timer_stop(&c->timer);
	loop_fd_unwatch(&c->watch);
	if (io_open(smtpd_io(c->session), fd) < 0)
		conn_free(c);
	else
		smtpd_start(c->session);
}

static void command_flush(struct control_conn *c, const char *arg)
{
	size_t n = queue_flush(C.setup->queue, *arg ? arg : NULL);
	if (*arg && n == 0)
		answer(c, "ERROR there is no such message waiting");
	else
		answer(c, "OK\nflushed %zu", n);
}

static void command_reload(struct control_conn *c, const char *arg)
{
	(void)arg;
	size_t files = C.on_reload();
	const struct conf *conf = C.setup->conf;
	if (conf->refused == 1)
		answer(c, "ERROR %s; what was read before stays", conf->refused_why);
	else if (conf->refused > 1)
		answer(c, "ERROR %s; and %zu more, see the log; what was read before stays",
		       conf->refused_why, conf->refused - 1);
	else
		answer(c, "OK\nfiles read %zu", files);
}

static void put_counter(void *arg, const char *name, int64_t value)
{
	struct io *io = arg;
	if (io_room(io) > strlen(name) + 24)
		buf_printf(&io->out, "%s %lld\n", name, (long long)value);
}

static void command_status(struct control_conn *c, const char *arg)
{
	(void)arg;
	if (answer_begin(c) < 0)
		return;
	buf_puts(&c->io.out, "OK\n");
	put_counter(&c->io, "queue/active", (int64_t)queue_active(C.setup->queue));
	stat_each(put_counter, &c->io);
	io_finish(&c->io);
}

/* ---- the command line ---- */

static const struct {
	const char *name;
	bool anybody;
	void (*run)(struct control_conn *c, const char *arg);
} commands[] = {
    {"SUBMIT", true, command_submit},  {"QUEUE", false, command_queue},
    {"FLUSH", false, command_flush},   {"RELOAD", false, command_reload},
    {"STATUS", false, command_status}, {"DOMAININFO", false, command_domaininfo},
};

/* The line is complete: NUL-terminated, without its end. */
static void run_line(struct control_conn *c)
{
	char *arg = strchr(c->line, ' ');
	size_t i = 0, count = sizeof(commands) / sizeof(*commands);
	if (arg)
		*arg++ = '\0';
	while (i < count && strcmp(c->line, commands[i].name) != 0)
		i++;
	if (i == count) {
		answer(c, "ERROR unknown command");
	} else if (!commands[i].anybody && c->uid != 0 && c->uid != geteuid()) {
		answer(c, "ERROR not allowed: only root and the user of the daemon may ask this");
	} else {
		stat_add(&stat_commands, 1);
		log_debug("-", "control", LOG_S("command", commands[i].name), LOG_N("uid", c->uid));
		commands[i].run(c, arg ? arg : "");
	}
}

/* Reads up to the line's end and not a byte beyond: hence the look before. */
static void line_ready(void *arg, unsigned events)
{
	struct control_conn *c = arg;
	(void)events;
	int fd = c->watch.fd;
	ssize_t n = recv(fd, c->line + c->len, CONTROL_LINE_MAX - c->len, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_free(c);
		return;
	}
	const char *end = memchr(c->line + c->len, '\n', (size_t)n);
	size_t take = end ? (size_t)(end - c->line) + 1 - c->len : (size_t)n;
	if (recv(fd, c->line + c->len, take, MSG_DONTWAIT) != (ssize_t)take) {
		conn_free(c);
		return;
	}
	c->len += take;
	if (end) {
		c->len--;
		if (c->len > 0 && c->line[c->len - 1] == '\r')
			c->len--;
		c->line[c->len] = '\0';
		run_line(c);
	} else if (c->len == CONTROL_LINE_MAX) {
		answer(c, "ERROR line too long");
	}
}

/* ---- accept ---- */

static size_t conns_of(uid_t uid)
{
	size_t n = 0;
	for (const struct control_conn *c = C.conns; c; c = c->next)
		n += c->uid == uid;
	return n;
}

/* Takes fd: says so as well as it goes without waiting, and closes. */
static void refuse(int fd)
{
	static const char text[] = "ERROR too many connections, try again later\n";
	stat_add(&stat_refused, 1);
	if (send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		shutdown(fd, SHUT_WR);
	close(fd);
}

/* Takes fd. */
static void conn_begin(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct control_conn *c = NULL;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
		close(fd);
		return;
	}
	if ((cred.uid != 0 && conns_of(cred.uid) >= CONTROL_PER_USER_MAX) ||
	    loop_fd_room() < CONTROL_FD_RESERVE || !(c = calloc(1, sizeof(*c)))) {
		refuse(fd);
		return;
	}
	c->uid = cred.uid;
	io_init(&c->io, 1, CONTROL_OUT_MAX, answer_event, c);
	loop_fd_init(&c->watch, line_ready, c);
	loop_timer_init(&c->timer, conn_timed_out, c);
	if (loop_fd_watch(&c->watch, fd, LOOP_READ) < 0) {
		free(c);
		refuse(fd);
		return;
	}
	loop_timer_set(&c->timer, CONTROL_LINE_MS);
	c->next = C.conns;
	if (c->next)
		c->next->prev = c;
	C.conns = c;
	C.count++;
}

static void resume(void *arg)
{
	(void)arg;
	if (C.count < CONTROL_CONNECTIONS_MAX)
		loop_fd_want(&C.watch, LOOP_READ);
}

static void accept_ready(void *arg, unsigned events)
{
	(void)arg;
	(void)events;
	if (C.count >= CONTROL_CONNECTIONS_MAX) {
		loop_fd_want(&C.watch, 0); /* clients wait until one leaves */
		return;
	}
	int fd = accept4(C.watch.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		conn_begin(fd);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		log_error("-", "control accept failed", LOG_S("reason", strerror(errno)));
		loop_fd_want(&C.watch, 0); /* select() would report it again at once */
		loop_timer_set(&C.pause, CONTROL_PAUSE_MS);
	}
}

/* ---- the socket ---- */

/* The address of the socket. A path too long for one is reached through its directory's descriptor,
 * *dir_fd, which the caller closes (-1: none). Returns 0, or -1 with errno. */
static int socket_address(const char *data_dir, struct sockaddr_un *sa, int *dir_fd)
{
	*dir_fd = -1;
	*sa = (struct sockaddr_un){.sun_family = AF_UNIX};
	int n = snprintf(sa->sun_path, sizeof(sa->sun_path), "%s/" CONTROL_NAME, data_dir);
	if (n >= 0 && (size_t)n < sizeof(sa->sun_path))
		return 0;
	*dir_fd = open(data_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/" CONTROL_NAME, *dir_fd);
	return *dir_fd < 0 ? -1 : 0;
}

/* Closes both (-1: none) and keeps errno. Returns -1. */
static int give_up(int fd, int dir_fd)
{
	int saved = errno;
	if (fd >= 0)
		close(fd);
	if (dir_fd >= 0)
		close(dir_fd);
	errno = saved;
	return -1;
}

int control_connect(const char *data_dir)
{
	struct sockaddr_un sa;
	int dir_fd;
	if (socket_address(data_dir, &sa, &dir_fd) < 0)
		return -1;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return give_up(fd, dir_fd);
	if (dir_fd >= 0)
		close(dir_fd);
	return fd;
}

/* Makes the listening socket. Returns it, or -1 with errno. */
static int listen_socket(const char *data_dir)
{
	struct sockaddr_un sa;
	int dir_fd;
	if (socket_address(data_dir, &sa, &dir_fd) < 0)
		return -1;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || (unlink(sa.sun_path) < 0 && errno != ENOENT) ||
	    bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || chmod(sa.sun_path, 0666) < 0 ||
	    listen(fd, CONTROL_CONNECTIONS_MAX) < 0)
		return give_up(fd, dir_fd);
	if (dir_fd >= 0)
		close(dir_fd);
	return fd;
}

int control_open(const struct smtpd_setup *setup, size_t (*on_reload)(void), char *err,
                 size_t err_size)
{
	const char *data_dir = setup->conf->data_dir;
	int fd = control_connect(data_dir);
	if (fd >= 0) {
		close(fd);
		snprintf(err, err_size, "%s/" CONTROL_NAME ": chasq is already running", data_dir);
		return -1;
	}
	C.setup = setup;
	C.on_reload = on_reload;
	loop_fd_init(&C.watch, accept_ready, NULL);
	loop_timer_init(&C.pause, resume, NULL);
	fd = listen_socket(data_dir);
	if (fd < 0 || loop_fd_watch(&C.watch, fd, LOOP_READ) < 0) {
		snprintf(err, err_size, "%s/" CONTROL_NAME ": %s", data_dir, strerror(errno));
		give_up(fd, -1);
		return -1;
	}
	C.watch.last = true;
	C.open = true;
	return 0;
}

/* The socket's file stays: removing it could hit that of a successor. A connect is refused. */
static void close_listener(void)
{
	int fd = C.watch.fd;
	if (!C.open)
		return;
	C.open = false;
	loop_timer_stop(&C.pause);
	loop_fd_unwatch(&C.watch);
	close(fd);
}

void control_stop(void)
{
	close_listener();
	for (struct control_conn *c = C.conns; c; c = c->next)
		if (c->session)
			smtpd_ask_to_leave(c->session);
}

void control_close(void)
{
	close_listener();
	while (C.conns)
		conn_free(C.conns);
}

size_t control_sessions(void)
{
	return C.sessions;
}
