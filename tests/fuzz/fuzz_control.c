/*
 * Fuzz target of control: any bytes from a client, cut in two at any place. The first byte says who
 * it is and what there is, the second where the cut is. It answers with one line of ERROR, or OK
 * and lines without control characters that end in END; a session or the content of a message
 * apart. Nothing is left of a client that has gone. link: fake_control.c
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "domaininfo.h"
#include "fake_control.h"
#include "fuzz_dir.h"
#include "io.h"
#include "log.h"
#include "loop.h"

enum {
	STRANGER = 1,
	OPERATOR = 2,
	LONG = 4,
	BROKEN = 8,
	CROWD = 16,
	HURRY = 32,
	NO_RELOAD = 64,
	MANY = 128
};

/* Bits of the second byte, beside the cut. */
enum { WAITS = 128, STOPS = 64 };

static uid_t caller;
static int64_t moved; /* s that the clock of time-outs is ahead */
static struct domaininfo *domains;

/* The client is whom the input says; the daemon is nobody of these. */
int getsockopt(int fd, int level, int name, void *value, socklen_t *n)
{
	int rc = (int)syscall(SYS_getsockopt, fd, level, name, value, n);
	if (rc == 0 && level == SOL_SOCKET && name == SO_PEERCRED)
		((struct ucred *)value)->uid = caller;
	return rc;
}

/* Where time_t has outgrown long, musl has the call under another name only. */
#if !defined(SYS_clock_gettime)
#define SYS_clock_gettime SYS_clock_gettime64
#endif

int clock_gettime(clockid_t which, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, which, ts);
	if (which == CLOCK_MONOTONIC)
		ts->tv_sec += (time_t)moved;
	return rc;
}

uid_t geteuid(void)
{
	return 54321;
}

static int64_t now(void)
{
	return 1700000000;
}

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void clean_up(void)
{
	control_close();
	domaininfo_close(domains);
	loop_done();
}

static void open_socket(void)
{
	char err[512];
	fake_control_conf.control_owner = (char *)"root:0";
	check(control_open(&fake_control_setup, err, sizeof(err)) == 0);
}

static void refuse_bad_starts(void)
{
	static char far[200];
	char err[512] = "";
	memset(far, 'x', sizeof(far) - 1);
	far[0] = '/';
	fake_control_conf.data_dir = far;
	check(control_connect(far) < 0);
	check(control_open(&fake_control_setup, err, sizeof(err)) < 0 && err[0]);
	fake_control_conf.data_dir = fuzz_dir;
	fake_control_conf.control_owner = (char *)"no-such-user";
	check(control_open(&fake_control_setup, err, sizeof(err)) == 0);
	control_close();
}

static void set_up(void)
{
	char err[512];
	static char *users[] = {(char *)"nobody-there", (char *)"2001", (char *)"daemon"};
	static char *doors[] = {(char *)":25", (char *)"systemd"};
	struct status st;
	fuzz_dir_make();
	log_to(fuzz_dir_nowhere());
	fake_control_conf = (struct conf){.data_dir = fuzz_dir,
	                                  .hostname = (char *)"here.test",
	                                  .control_mode = 0600,
	                                  .control_users = {users, 3},
	                                  .smtp_address = {doors, 2},
	                                  .monitoring_address = (char *)"127.0.0.1:1"};
	check(loop_init() == 0);
	domains = domaininfo_open(fuzz_dir, 0, now, &st);
	check(domains != NULL);
	fake_control_smtpd.domaininfo = domains;
	refuse_bad_starts();
	open_socket();
	check(control_open(&fake_control_setup, err, sizeof(err)) < 0 && err[0]);
	control_apply(&fake_control_conf);
}

static void remember(void)
{
	domaininfo_saw(domains, DOMAININFO_OUT, "far.test", DOMAININFO_TLS_SECURE);
	domaininfo_saw(domains, DOMAININFO_IN, "b\xc3\xbc.test", DOMAININFO_TLS_CLIENT);
}

/* Connections of the same client that say nothing. */
static size_t crowd(int *fds, size_t max)
{
	size_t n = 0;
	for (; n < max; n++) {
		fds[n] = control_connect(fake_control_conf.data_dir);
		check(fds[n] >= 0);
		loop_turn(0);
	}
	return n;
}

static void set_world(unsigned how)
{
	caller = how & OPERATOR ? 2001 : how & STRANGER ? 3000 : 0;
	fake_control = (struct fake_control){.messages = how & MANY ? 300 : 5,
	                                     .content = how & LONG ? 300000 : 300,
	                                     .broken_at = how & BROKEN ? 100 : 0,
	                                     .rcpts = how & LONG ? SPOOL_RCPTS_MAX - 3 : 0,
	                                     .attempts = how & LONG ? 400 : 2,
	                                     .reload_result = how & NO_RELOAD ? -1 : 0};
	remember();
}

static void check_answer(const char *p, size_t n)
{
	if (n >= 4 && memcmp(p, "220 ", 4) == 0)
		return;
	check(n > 3 && p[n - 1] == '\n');
	bool ok = memcmp(p, "OK\n", 3) == 0, error = n > 6 && memcmp(p, "ERROR ", 6) == 0;
	check(ok || error);
	check(!ok || (n >= 7 && memcmp(p + n - 4, "END\n", 4) == 0));
	for (size_t i = 0; i < n; i++)
		check((unsigned char)p[i] >= ' ' || p[i] == '\n' || (ok && p[i] == '\t'));
	check(!error || memchr(p, '\n', n) == p + n - 1);
}

/* Reads what comes for some turns, or until the end. Returns whether it was reached. */
static bool hear(int fd, char *text, size_t size, size_t *n)
{
	for (int quiet = 0; quiet < 6;) {
		loop_turn(0);
		fake_control_resolve();
		ssize_t got = recv(fd, text + *n, size - *n, MSG_DONTWAIT);
		if (got == 0 || (got < 0 && errno != EAGAIN))
			return true;
		*n += got > 0 ? (size_t)got : 0;
		quiet = got > 0 ? 0 : quiet + 1;
	}
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[1 << 16];
	static bool ready;
	int others[CONTROL_CONNECTIONS_MAX];
	if (!ready) {
		set_up();
		atexit(clean_up);
	}
	ready = true;
	if (size < 2 || size > 4096)
		return 0;
	unsigned how = data[0];
	unsigned more = data[1] & (WAITS | STOPS);
	size_t cut = (data[1] & 63U) % (size - 1), n = 0;
	data += 2;
	size -= 2;
	set_world(how);
	size_t most = caller ? CONTROL_PER_USER_MAX : CONTROL_CONNECTIONS_MAX;
	size_t count = how & CROWD ? crowd(others, most) : 0;
	int fd = control_connect(fake_control_conf.data_dir);
	check(fd >= 0 && io_nonblock(fd) == 0);
	if (more & STOPS)
		loop_turn(0);
	if (cut > 0 && cut < size)
		/* In a crowd it may be turned away before it speaks. */
		check(send(fd, data, cut, MSG_NOSIGNAL) == (ssize_t)cut || (how & CROWD));
	if (how & HURRY)
		shutdown(fd, SHUT_RD);
	if (more & WAITS) {
		moved += 3600;
		loop_turn(0);
	}
	bool over = hear(fd, text, sizeof(text), &n);
	if (more & STOPS)
		control_stop();
	size_t from = cut > 0 && cut < size ? cut : 0;
	if (!over && send(fd, data + from, size - from, MSG_NOSIGNAL) >= 0)
		over = hear(fd, text, sizeof(text), &n);
	bool line = memchr(data, '\n', size < CONTROL_LINE_MAX ? size : CONTROL_LINE_MAX);
	if (over && line && !(how & (HURRY | BROKEN)) && !more &&
	    !(size > 4 && memcmp(data, "RAW ", 4) == 0))
		check_answer(text, n);
	close(fd);
	while (count > 0)
		close(others[--count]);
	/* Who still waits in the backlog must not be in the way of the next input. */
	if ((more & STOPS) || (how & CROWD)) {
		control_close();
		open_socket();
	}
	for (int i = 0; i < 4; i++)
		loop_turn(0);
	return 0;
}
