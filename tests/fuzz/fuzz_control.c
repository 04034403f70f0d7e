/*
 * Fuzz target of control: any bytes from a client, cut in two at any place. It answers with one
 * line of ERROR, or OK and lines without control characters that end in END; a session or the
 * content of a message apart. Nothing is left of a client that has gone. link: fake_control.c
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "fake_control.h"
#include "io.h"
#include "log.h"
#include "loop.h"

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void clean_up(void)
{
	char path[100];
	control_close();
	loop_done();
	snprintf(path, sizeof(path), "%s/control", fake_control_conf.data_dir);
	unlink(path);
	rmdir(fake_control_conf.data_dir);
}

static void set_up(void)
{
	static char dir[] = "/tmp/chasq-fuzz-control-XXXXXX";
	char err[512];
	log_level_now = LOG_LEVEL_ERROR;
	check(mkdtemp(dir) != NULL);
	fake_control_conf =
	    (struct conf){.data_dir = dir, .hostname = (char *)"here.test", .control_mode = 0600};
	check(loop_init() == 0 && control_open(&fake_control_setup, err, sizeof(err)) == 0);
	atexit(clean_up);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[1 << 16];
	static bool ready;
	size_t cut = size > 1 ? data[0] % size : 0, n = 0;
	if (!ready)
		set_up();
	ready = true;
	if (size == 0 || size > 4096)
		return 0;
	data++;
	size--;
	fake_control = (struct fake_control){.messages = 5, .content = 300, .attempts = 2};
	int fd = control_connect(fake_control_conf.data_dir);
	check(fd >= 0 && io_nonblock(fd) == 0);
	if (cut > 0 && cut < size)
		check(send(fd, data, cut, MSG_NOSIGNAL) == (ssize_t)cut);
	bool over = hear(fd, text, sizeof(text), &n);
	size_t from = cut > 0 && cut < size ? cut : 0;
	if (!over && send(fd, data + from, size - from, MSG_NOSIGNAL) >= 0)
		over = hear(fd, text, sizeof(text), &n);
	bool line = memchr(data, '\n', size < CONTROL_LINE_MAX ? size : CONTROL_LINE_MAX);
	if (over && line && !(size > 4 && memcmp(data, "RAW ", 4) == 0))
		check_answer(text, n);
	close(fd);
	for (int i = 0; i < 4; i++)
		loop_turn(0);
	return 0;
}
