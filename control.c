/*
 * control: the UNIX socket: connections, credentials, and the table of commands.
 *
 * A client is known by the credentials the kernel gives. It sends one short line in bounded time;
 * then its connection becomes an SMTP session, or gets an answer and ends. A connection that only
 * asks costs a line buffer; lists are written as fast as the client reads, in steps, with one
 * message's envelope in memory at a time. Connections are bounded in all and per user, and some are
 * for operators only, so that no user can shut others out, nor all of them together the operator.
 * What is behind the line's end is never read here: it belongs to the SMTP session. The commands
 * are in control_queue.c and control_ask.c.
 */
#include "control_int.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "config.h"
#include "log.h"
#include "stat.h"

#define CONTROL_NAME "control"

STAT_COUNTER(stat_commands, "control/commands", "Commands taken on the control socket.");
STAT_COUNTER(stat_refused, "control/refused", "Connections to the control socket refused.");

static struct {
	const struct control_setup *setup;
	struct loop_fd watch;
	struct loop_timer pause;
	struct control_conn *conns;
	size_t count;
	size_t sessions;
	int64_t opened; /* monotonic, ms */
	bool open;
} C;

const struct control_setup *control_setup(void)
{
	return C.setup;
}

int64_t control_uptime(void)
{
	return (loop_now() - C.opened) / 1000;
}

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
	if (c->state_free)
		c->state_free(c->state);
	free(c->state);
	buf_clear(&c->text);
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

/* No line came in time; or a list goes on. */
static void conn_timer(void *arg)
{
	struct control_conn *c = arg;
	if (c->more)
		c->more(c);
	else
		conn_free(c);
}

/* ---- answers ---- */

static void answer_event(void *arg, enum io_event ev)
{
	struct control_conn *c = arg;
	if (ev == IO_DRAINED && c->more && !loop_timer_is_set(&c->timer)) {
		io_deadline(&c->io, CONTROL_ANSWER_MS);
		c->more(c);
	} else if (ev == IO_DRAINED || ev == IO_READ) {
		buf_consume(&c->io.in, c->io.in.len); /* whoever follows has no more to say */
		io_update(&c->io);
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

void control_error(struct control_conn *c, const char *fmt, ...)
{
	char text[CONTROL_FIELD_BYTES];
	va_list ap;
	if (answer_begin(c) < 0)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	status_clean(slice_of(text), text, sizeof(text));
	io_printf(&c->io, "ERROR %s\n", text);
	io_finish(&c->io);
}

void control_refuse(struct control_conn *c, const struct status *st)
{
	bool later = status_class(st) == STATUS_TRANSIENT;
	control_error(c, "%s%s", later ? "not now: " : "", st->text);
}

void control_text(struct control_conn *c, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	buf_vprintf(&c->text, fmt, ap);
	va_end(ap);
	control_begin(c, control_send_text);
}

int control_begin(struct control_conn *c, void (*more)(struct control_conn *c))
{
	c->more = more;
	if (answer_begin(c) < 0)
		return -1;
	io_write(&c->io, "OK\n", 3);
	return 0;
}

bool control_room(const struct control_conn *c)
{
	return io_room(&c->io) > CONTROL_ITEM_BYTES;
}

void control_again(struct control_conn *c)
{
	io_deadline(&c->io, 0);
	loop_timer_set(&c->timer, 0);
}

void control_wait(struct control_conn *c)
{
	loop_timer_stop(&c->timer);
	loop_fd_want(&c->watch, 0);
}

static void answer_sent(struct control_conn *c)
{
	c->more = NULL;
	io_finish(&c->io);
}

/* What is left to send has the time of any other piece, not that of an end. */
void control_end(struct control_conn *c)
{
	c->more = answer_sent;
	io_write(&c->io, "END\n", 4);
}

void control_broken(struct control_conn *c, const char *why)
{
	c->more = answer_sent;
	io_printf(&c->io, "ERROR %s\n", why);
}

void control_send_text(struct control_conn *c)
{
	size_t left = c->text.len - c->text_at, room = io_room(&c->io);
	size_t n = left < room / 2 ? left : room / 2;
	buf_append(&c->io.out, buf_data(&c->text) + c->text_at, n);
	c->text_at += n;
	if (n < left)
		io_update(&c->io);
	else if (c->text.failed)
		control_broken(c, "there is no memory for the rest");
	else
		control_end(c);
}

void control_say(struct control_conn *c)
{
	if (answer_begin(c) < 0)
		return;
	buf_puts(&c->io.out, "OK\n");
	buf_append(&c->io.out, buf_data(&c->text), c->text.len);
	io_write(&c->io, "END\n", 4);
	io_flush(&c->io);
	control_follow(c, -1);
}

void control_follow(struct control_conn *c, int64_t ms)
{
	io_pause(&c->io, false);
	io_deadline(&c->io, 0);
	if (ms >= 0)
		loop_timer_set(&c->timer, ms);
}

void *control_state(struct control_conn *c, size_t size)
{
	c->state = calloc(1, size);
	if (!c->state)
		control_error(c, "not now: out of memory");
	return c->state;
}

void control_field_slice(struct buf *out, struct slice s)
{
	char text[CONTROL_FIELD_BYTES];
	size_t n = status_clean(s, text, sizeof(text));
	if (out->len > 0 && buf_data(out)[out->len - 1] != '\n')
		buf_putc(out, '\t');
	buf_append(out, text, n);
}

void control_field(struct buf *out, const char *s)
{
	control_field_slice(out, slice_of(s ? s : ""));
}

void control_number(struct buf *out, int64_t n)
{
	char text[24];
	snprintf(text, sizeof(text), "%lld", (long long)n);
	control_field(out, text);
}

void control_status(struct buf *out, const struct status *st)
{
	char text[STATUS_PRINT_MAX] = "";
	if (st)
		status_print(st, text, sizeof(text));
	control_field(out, text);
}

/* ---- names ---- */

/* All files are read here themselves: a directory service may block, and the loop cannot wait. */

/* The login name, or "uid N". */
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

/* A number, or a name of /etc/passwd or /etc/group. 0, or -1. */
static int find_number(const char *name, bool group, unsigned long *number)
{
	char *end;
	int lines = 0, found = -1;
	*number = strtoul(name, &end, 10);
	if (*name >= '0' && *name <= '9' && !*end)
		return 0;
	FILE *f = fopen(group ? "/etc/group" : "/etc/passwd", "re");
	while (f && found < 0 && lines++ < CONTROL_PASSWD_LINES) {
		const struct passwd *p = group ? NULL : fgetpwent(f);
		const struct group *g = group ? fgetgrent(f) : NULL;
		if (!p && !g)
			break;
		if (strcmp(name, p ? p->pw_name : g->gr_name) == 0) {
			*number = p ? (unsigned long)p->pw_uid : (unsigned long)g->gr_gid;
			found = 0;
		}
	}
	if (f)
		fclose(f);
	return found;
}

/* May this user give commands? */
static bool may_command(uid_t uid)
{
	const struct text_strings *users = &C.setup->smtpd->conf->control_users;
	unsigned long number;
	if (uid == 0 || uid == geteuid())
		return true;
	for (size_t i = 0; i < users->count; i++)
		if (find_number(users->item[i], false, &number) == 0 && number == uid)
			return true;
	return false;
}

/* ---- SUBMIT ---- */

static void session_ended(void *arg)
{
	struct control_conn *c = arg;
	c->session = NULL; /* it frees itself */
	C.sessions--;
	conn_free(c);
}

static void control_submit(struct control_conn *c, const char *arg)
{
	struct smtpd_peer peer = {.mode = SMTPD_LOCAL, .trusted = true};
	(void)arg;
	user_name(c->uid, peer.user, sizeof(peer.user));
	c->session = smtpd_new(C.setup->smtpd, &peer, session_ended, c);
	if (!c->session) {
		control_error(c, "not now: out of memory");
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

/* ---- the command line ---- */

enum { ANYBODY = 1, CHANGES = 2 }; /* who may; is it told in the log */

/* A command that can be left out. */
#define COMMAND_IF(option, name, flags, run)                  \
	{                                                     \
		name, flags, (option) ? (run) : NULL, #option \
	}

static const struct {
	const char *name;
	int flags;
	void (*run)(struct control_conn *c, const char *arg); /* NULL: not in this build */
	const char *option;                                   /* NULL: in every build */
} commands[] = {
    COMMAND_IF(WITH_SENDMAIL, "SUBMIT", ANYBODY, control_submit),
    {"QUEUE", 0, control_queue, NULL},
    COMMAND_IF(WITH_OPERATOR, "SHOW", 0, control_show),
    COMMAND_IF(WITH_OPERATOR, "RAW", 0, control_raw),
    {"FLUSH", CHANGES, control_flush, NULL},
    COMMAND_IF(WITH_OPERATOR, "HOLD", CHANGES, control_hold),
    COMMAND_IF(WITH_OPERATOR, "RELEASE", CHANGES, control_release),
    COMMAND_IF(WITH_OPERATOR, "REMOVE", CHANGES, control_remove),
    COMMAND_IF(WITH_OPERATOR, "RESOLVE", 0, control_resolve),
    COMMAND_IF(WITH_OPERATOR, "DOMAININFO", 0, control_domaininfo),
    COMMAND_IF(WITH_OPERATOR, "STATUS", 0, control_daemon_status),
    COMMAND_IF(WITH_OPERATOR, "TRACE", 0, control_trace),
    COMMAND_IF(WITH_OPERATOR, "CONFIG", 0, control_config),
    {"RELOAD", CHANGES, control_reload, NULL},
    {"STOP", CHANGES, control_daemon_stop, NULL},
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
		control_error(c, "unknown command");
	} else if (!commands[i].run) {
		control_error(c, "not in this build: %s 0", commands[i].option);
	} else if (!(commands[i].flags & ANYBODY) && !may_command(c->uid)) {
		control_error(c,
		              "not allowed: this is for root, the daemon's user and control_users");
	} else {
		stat_add(&stat_commands, 1);
		if (commands[i].flags & CHANGES)
			log_info("-", "control", LOG_S("command", commands[i].name),
			         LOG_S("argument", arg), LOG_N("uid", c->uid));
		else
			log_debug("-", "control", LOG_S("command", commands[i].name),
			          LOG_N("uid", c->uid));
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
		control_error(c, "line too long");
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

/* Are there as many connections as this user may have a part in? */
static bool is_crowded(uid_t uid)
{
	if (uid == 0)
		return false;
	return conns_of(uid) >= CONTROL_PER_USER_MAX ||
	       (C.count >= CONTROL_CONNECTIONS_MAX - CONTROL_OPERATOR_PLACES && !may_command(uid));
}

/* Takes fd: says so as well as it goes without waiting, and closes. */
static void refuse(int fd)
{
	static const char text[] = "ERROR not now: too many connections\n";
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
	if (is_crowded(cred.uid) || loop_fd_room() < CONTROL_FD_RESERVE ||
	    !(c = calloc(1, sizeof(*c)))) {
		refuse(fd);
		return;
	}
	c->uid = cred.uid;
	io_init(&c->io, 1, CONTROL_OUT_MAX, answer_event, c);
	loop_fd_init(&c->watch, line_ready, c);
	buf_init(&c->text, CONTROL_TEXT_MAX);
	loop_timer_init(&c->timer, conn_timer, c);
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

/* The name by which the socket at path, and no other file, can be changed: somebody who may write
 * to the directory could have put a link in its place. Where there is no /proc (the jail of
 * OpenWrt) it is the path, looked at just now. *fd is open meanwhile. Returns 0, or -1 with errno.
 */
static int pin_socket(const char *path, int *fd, char *name, size_t name_size)
{
	struct stat st;
	*fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	snprintf(name, name_size, "/proc/self/fd/%d", *fd);
	if (*fd >= 0 && access(name, F_OK))
		snprintf(name, name_size, "%s", path);
	if (*fd >= 0 && fstat(*fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_nlink == 1)
		return 0;
	if (*fd >= 0) {
		close(*fd);
		errno = EEXIST;
	}
	return -1;
}

/* Sets the owner that the configuration names. Returns NULL, or why not. */
static const char *set_owner(const char *file, const char *owner)
{
	unsigned long uid = (unsigned long)-1, gid = (unsigned long)-1;
	char name[128];
	snprintf(name, sizeof(name), "%s", owner);
	char *group = strchr(name, ':');
	if (group)
		*group++ = '\0';
	if ((*name && find_number(name, false, &uid) < 0) ||
	    (group && *group && find_number(group, true, &gid) < 0))
		return "there is no such user or group";
	if ((*name || group) && chown(file, (uid_t)uid, (gid_t)gid) < 0)
		return strerror(errno);
	return NULL;
}

/* Gives the socket's file its mode and owner. 0, or -1 after logging. */
static int own_socket(const char *path, const struct conf *conf)
{
	char file[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1];
	int fd;
	const char *why = NULL;
	if (pin_socket(path, &fd, file, sizeof(file)) < 0) {
		log_error("-", "control socket replaced", LOG_S("reason", strerror(errno)));
		return -1;
	}
	bool moded = chmod(file, (mode_t)conf->control_mode & 07777) == 0;
	if (!moded)
		log_error("-", "control mode not set", LOG_S("reason", strerror(errno)));
	if (conf->control_owner)
		why = set_owner(file, conf->control_owner);
	if (why)
		log_error("-", "control owner not set", LOG_S("owner", conf->control_owner),
		          LOG_S("reason", why));
	close(fd);
	return moded && !why ? 0 : -1;
}

int control_apply(const struct conf *conf)
{
	struct sockaddr_un sa;
	int dir_fd, result = -1;
	if (socket_address(conf->data_dir, &sa, &dir_fd) == 0)
		result = own_socket(sa.sun_path, conf);
	if (dir_fd >= 0)
		close(dir_fd);
	return result;
}

/* Makes the listening socket: nobody gets in before its file has its mode. Returns it, or -1 with
 * errno. */
static int listen_socket(const struct conf *conf)
{
	struct sockaddr_un sa;
	int dir_fd;
	if (socket_address(conf->data_dir, &sa, &dir_fd) < 0)
		return -1;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || (unlink(sa.sun_path) < 0 && errno != ENOENT) ||
	    bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return give_up(fd, dir_fd);
	own_socket(sa.sun_path, conf); /* what cannot be set must not keep mail from going out */
	if (listen(fd, CONTROL_CONNECTIONS_MAX) < 0)
		return give_up(fd, dir_fd);
	if (dir_fd >= 0)
		close(dir_fd);
	return fd;
}

int control_open(const struct control_setup *setup, char *err, size_t err_size)
{
	const char *data_dir = setup->smtpd->conf->data_dir;
	int fd = control_connect(data_dir);
	if (fd >= 0) {
		close(fd);
		snprintf(err, err_size, "%s/" CONTROL_NAME ": chasq is already running", data_dir);
		return -1;
	}
	C.setup = setup;
	loop_fd_init(&C.watch, accept_ready, NULL);
	loop_timer_init(&C.pause, resume, NULL);
	fd = listen_socket(setup->smtpd->conf);
	if (fd < 0 || loop_fd_watch(&C.watch, fd, LOOP_READ) < 0) {
		snprintf(err, err_size, "%s/" CONTROL_NAME ": %s", data_dir, strerror(errno));
		give_up(fd, -1);
		return -1;
	}
	C.watch.last = true;
	C.opened = loop_now();
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
