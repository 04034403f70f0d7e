/* tls_help: two ends of a stream in one loop, and certificates made by openssl, for test_tls. */
#ifndef TLS_HELP_H
#define TLS_HELP_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "buf.h"
#include "config.h"
#include "io.h"
#include "log.h"
#include "loop.h"
#include "self.h"
#include "temp_dir.h"
#include "tls.h"
#include "valgrind.h"

/* One end: what happened to it, and what it has read. */
struct end {
	struct io io;
	int events[IO_SECURED + 1];
	struct buf got;
	void (*on)(struct end *e, enum io_event ev);
};

static struct end left;        /* mostly the client */
static struct end right;       /* mostly the server */
static char top[TEMP_DIR_MAX]; /* directory of this run */
static int64_t clock_moved;

/* The clock of the program and of the library, as far as certificates go. */
time_t time(time_t *t)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	time_t now = clock_moved == INT64_MIN ? 1000 : ts.tv_sec + (time_t)clock_moved;
	if (t)
		*t = now;
	return now;
}

static inline void end_handle(void *arg, enum io_event ev)
{
	struct end *e = arg;
	e->events[ev]++;
	if (e->on) {
		e->on(e, ev);
		return;
	}
	if (ev == IO_READ) {
		assert_int_equal(buf_append(&e->got, buf_data(&e->io.in), e->io.in.len), 0);
		buf_consume(&e->io.in, e->io.in.len);
		io_update(&e->io);
	}
}

static inline void end_init(struct end *e, int fd)
{
	memset(e, 0, sizeof *e);
	buf_init(&e->got, 1 << 20);
	io_init(&e->io, 8192, 65536, end_handle, e);
	if (fd >= 0)
		assert_int_equal(io_open(&e->io, fd), 0);
}

static inline void end_clear(struct end *e)
{
	io_close(&e->io);
	buf_clear(&e->got);
}

static inline void ends_open(void)
{
	int p[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p), 0);
	end_init(&left, p[0]);
	end_init(&right, p[1]);
}

static inline void ends_close(void)
{
	end_clear(&left);
	end_clear(&right);
}

/* Turns until *count changes from 0 to something, or fails. */
static inline void until(const int *count)
{
	int64_t end = now_ms() + 10000;
	while (!*count && now_ms() < end)
		assert_int_equal(loop_turn(20), 0);
	assert_true(*count > 0);
}

static inline void until_got(struct end *e, const char *text)
{
	int64_t end = now_ms() + 10000;
	while (!strstr(buf_str(&e->got), text) && now_ms() < end)
		assert_int_equal(loop_turn(20), 0);
	assert_non_null(strstr(buf_str(&e->got), text));
}

static inline void turns(int n)
{
	while (n-- > 0)
		assert_int_equal(loop_turn(0), 0);
}

/* Runs a shell command in the directory of this run. */
__attribute__((format(printf, 1, 2))) static inline void shell(const char *fmt, ...)
{
	char cmd[4096];
	int n = snprintf(cmd, sizeof cmd, "cd %s && exec >>log 2>&1 && ", top);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(cmd + n, sizeof cmd - (size_t)n, fmt, ap);
	va_end(ap);
	int rc = system(cmd);
	if (rc != 0)
		print_error("%s\n", cmd);
	assert_int_equal(rc, 0);
}

static inline const char *in_top(const char *name)
{
	static char path[4][256];
	static unsigned next;
	char *p = path[next++ % 4];
	snprintf(p, sizeof path[0], "%s/%s", top, name);
	return p;
}

/* ---- children ---- */

struct child {
	pid_t pid;
	int in; /* its standard input */
};

/* Runs a shell command with its output in the file "out". */
static inline void child_start(struct child *c, const char *cmd)
{
	int p[2];
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	unlink(in_top("out"));
	c->pid = fork();
	assert_true(c->pid >= 0);
	if (c->pid == 0) {
		int out = open(in_top("out"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
		dup2(p[0], 0);
		dup2(out, 1);
		dup2(out, 2);
		if (chdir(top) == 0)
			execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
		_exit(127);
	}
	close(p[0]);
	c->in = p[1];
}

static inline void child_say(struct child *c, const char *text)
{
	assert_int_equal(write(c->in, text, strlen(text)), strlen(text));
}

static inline void child_end(struct child *c)
{
	int status;
	if (c->in >= 0)
		close(c->in);
	if (c->pid > 0) {
		kill(c->pid, SIGKILL);
		waitpid(c->pid, &status, 0);
	}
	c->pid = 0;
	c->in = -1;
}

/* What the child has printed so far. */
static inline const char *child_out(void)
{
	static char text[65536];
	int fd = open(in_top("out"), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static inline void until_child(const char *text)
{
	int64_t end = now_ms() + 10000;
	while (!strstr(child_out(), text) && now_ms() < end)
		assert_int_equal(loop_turn(20), 0);
	if (!strstr(child_out(), text))
		fprintf(stderr, "wanted '%s' in: %s\n", text, child_out()); /* long: whole */
	assert_non_null(strstr(child_out(), text));
}

/* ---- sockets ---- */

static inline int listen_tcp(int *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 5), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

static inline int connect_tcp(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	                        .sin_port = htons((uint16_t)port),
	                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(io_nonblock(fd), 0);
	return fd;
}

/* ---- certificates ---- */

#define KEY_EC  "ec -pkeyopt ec_paramgen_curve:P-256"
#define KEY_RSA "rsa:2048"

/* Makes NAME.pem and NAME.key, by an authority, or self-signed when that is NULL. */
static inline void issue(const char *name, const char *by, const char *key, const char *san,
                         const char *more)
{
	char ca[128] = "";
	if (by)
		snprintf(ca, sizeof ca, "-CA %s.pem -CAkey %s.key", by, by);
	shell("openssl req -config cnf -x509 -newkey %s -nodes -keyout %s.key -out %s.pem -days 30 "
	      "-subj '/O=chasq/CN=%s' %s -addext 'subjectAltName=%s' %s",
	      key, name, name, name, ca, san, more);
}

/* Makes a site of a certificate, its chain and its key. */
static inline void site(const char *dir, const char *name, const char *pems, const char *key)
{
	shell("mkdir -p %s/%s && cat %s > %s/%s/new && mv %s/%s/new %s/%s/fullchain.pem && "
	      "cp %s.key %s/%s/new && mv %s/%s/new %s/%s/privkey.pem",
	      dir, name, pems, dir, name, dir, name, dir, name, key, dir, name, dir, name, dir,
	      name);
}

static inline void make_certificates(void)
{
	assert_int_equal(temp_dir_make(top, sizeof top), 0);
	shell("printf '[req]\\ndistinguished_name=dn\\n[dn]\\n' >cnf");
	shell("openssl req -config cnf -x509 -newkey " KEY_EC " -nodes -keyout ca.key -out ca.pem "
	      "-days 3650 -subj '/O=chasq/CN=Test CA' -addext basicConstraints=critical,CA:true");
	issue("inter", "ca", KEY_RSA, "DNS:inter.test",
	      "-addext basicConstraints=critical,CA:true");
	const char *leaf = "-addext basicConstraints=CA:false";
	issue("rsa", "ca", KEY_RSA, "DNS:mail.example.org,DNS:*.wild.example.org", leaf);
	issue("ec", "ca", KEY_EC, "DNS:Mail.Example.Org", leaf);
	issue("other", "ca", KEY_EC, "DNS:other.example.net,IP:127.0.0.1,IP:::1", leaf);
	issue("deep", "inter", KEY_EC, "DNS:deep.example.org", leaf);
	issue("self", NULL, KEY_EC, "DNS:self.example.org", leaf);
	issue("client", "ca", KEY_EC, "DNS:client.example.org",
	      "-addext extendedKeyUsage=clientAuth");
	issue("weak", "ca", "rsa:1024", "DNS:weak.example.org", leaf);
	site("both", "a-rsa", "rsa.pem", "rsa");
	site("both", "b-ec", "ec.pem", "ec");
	site("both", "c-other", "other.pem", "other");
	site("rsa-only", "x", "rsa.pem", "rsa");
	site("other-only", "x", "other.pem", "other");
	site("deep-only", "x", "deep.pem inter.pem", "deep");
	site("broken-chain", "x", "deep.pem", "deep");
	site("self-only", "x", "self.pem", "self");
}

#endif
