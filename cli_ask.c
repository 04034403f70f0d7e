/*
 * cli_ask: what the tools share: options, the connection to the daemon, its answers.
 *
 * An answer is read ahead of its printing, up to CLI_ANSWER_MAX bytes, so that a pager which waits
 * for its reader keeps the daemon waiting for longer ones only. What lacks its end was cut off, and
 * that is said: half a queue must not look like a whole one. Everything here blocks.
 */
#include "cli_int.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sysexits.h>
#include <unistd.h>

#include "cli_table.h"
#include "conf.h"
#include "control.h"

/* ---- options ---- */

static const struct option no_names[] = {{NULL, 0, NULL, 0}};

int cli_misused(const struct cli_call *call)
{
	fputs(call->usage, stderr);
	return EX_USAGE;
}

/* A word goes into a line of the protocol. */
static bool is_word(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return false;
	return true;
}

static int has_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0)
			return 1;
	return 0;
}

int cli_options(struct cli_call *call, int argc, char **argv)
{
	char letters[64];
	int c;
	call->tool = argv[0];
	snprintf(letters, sizeof(letters), "C:h%s", call->letters ? call->letters : "");
	if (has_help(argc, argv)) {
		fputs(call->usage, stdout);
		return EX_OK;
	}
	while ((c = getopt_long(argc, argv, letters, call->names ? call->names : no_names, NULL)) !=
	       -1) {
		if (c == 'h') {
			fputs(call->usage, stdout);
			return EX_OK;
		}
		if (c == '?' || c < 0 || c >= 128)
			return cli_misused(call);
		if (c == 'C')
			call->dir = optarg;
		call->option[c] = optarg ? optarg : "";
	}
	for (; optind < argc; optind++) {
		if (call->words == CLI_WORDS || !is_word(argv[optind]))
			return cli_misused(call);
		call->word[call->words++] = argv[optind];
	}
	if (call->words < call->least || call->words > call->most)
		return cli_misused(call);
	return -1;
}

/* ---- the connection ---- */

int cli_write(int fd, const void *p, size_t n)
{
	const char *at = p;
	while (n > 0) {
		ssize_t done = write(fd, at, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -1;
		at += done;
		n -= (size_t)done;
	}
	return 0;
}

static const char *reason(int error)
{
	if (error == ENOENT || error == ECONNREFUSED)
		return "chasq is not running";
	return error == EAGAIN ? "chasq does not answer" : strerror(error);
}

/* False when there is certainly no configuration file: one that may not be looked at may be there.
 */
static bool has_conf(const char *dir)
{
	char path[PATH_MAX];
	const char *const names[] = {"chasq.conf", "chasquid.conf"};
	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		if (access(path, F_OK) == 0 || errno != ENOENT)
			return true;
	}
	return false;
}

int cli_connect(const char *tool, const char *dir, const char *command)
{
	struct timeval wait = {.tv_sec = CLI_WAIT_S};
	char line[CONTROL_LINE_MAX + 1];
	size_t n = (size_t)snprintf(line, sizeof(line), "%.*s\n", CONTROL_LINE_MAX - 1, command);
	if (!dir)
		dir = getenv("CHASQ_DIR");
	/* Without a file the default data directory would be taken, and maybe another server. */
	if (dir && *dir && !has_conf(dir)) {
		fprintf(stderr, "%s: there is no chasq.conf in %s\n", tool, dir);
		return -1;
	}
	char *data_dir = conf_find_data_dir(dir && *dir ? dir : CONF_DIR);
	if (!data_dir) {
		fprintf(stderr, "%s: out of memory\n", tool);
		return -1;
	}
	int fd = control_connect(data_dir);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0) {
		fprintf(stderr, "%s: %s (%s/control)\n", tool, reason(errno), data_dir);
		if (fd >= 0)
			close(fd);
		fd = -1;
	} else {
		/* If this fails, the daemon may have said why before it closed: reading tells. */
		cli_write(fd, line, n);
	}
	free(data_dir);
	return fd;
}

/* ---- answers ---- */

/* Reads once. False at the end, when nothing more fits, or after saying why not. */
static bool read_some(struct cli_answer *a)
{
	size_t room;
	char *p = a->eof ? NULL : buf_space(&a->in, 65536, &room);
	if (!p || room == 0)
		return false;
	ssize_t n;
	do {
		n = read(a->fd, p, room);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && !a->broken) {
		fprintf(stderr, "%s: %s\n", a->tool, reason(errno));
		a->broken = true;
	}
	a->eof = n <= 0;
	buf_added(&a->in, n > 0 ? (size_t)n : 0);
	return n > 0;
}

/* Drops what the last call gave, and sees to it that there are more than `have` bytes. */
static bool fill(struct cli_answer *a, size_t have)
{
	if (a->in.len > have)
		return true;
	while (read_some(a) && (!a->live || a->in.len <= have))
		;
	return a->in.len > have;
}

static void drop_taken(struct cli_answer *a)
{
	buf_consume(&a->in, a->taken);
	a->taken = 0;
}

/* What a terminal would obey becomes '?', in place. The daemon's lines have nothing of the kind;
 * but root must not have to believe that: it may have been taken over. */
static void make_harmless(char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (((unsigned char)p[i] < ' ' && !memchr("\t\r\n", p[i], 3)) || p[i] == 0x7f ||
		    (i + 1 < n && p[i] == '\xc2' && ((unsigned char)p[i + 1] & 0xe0) == 0x80))
			p[i] = '?';
}

/* The next line, "END" and the first one included. */
static char *raw_line(struct cli_answer *a)
{
	drop_taken(a);
	const char *end = NULL;
	for (size_t seen = 0; !end && fill(a, seen); seen = a->in.len) {
		end = memchr(buf_data(&a->in) + seen, '\n', a->in.len - seen);
		if (!end && a->in.len > CLI_LINE_MAX)
			break;
	}
	if (!end)
		return NULL;
	char *line = buf_data(&a->in);
	size_t n = (size_t)(end - line);
	a->taken = n + 1;
	line[n] = '\0';
	make_harmless(line, n);
	return line;
}

int cli_answer_open(struct cli_answer *a, const char *tool, const char *dir, const char *fmt, ...)
{
	char command[CONTROL_LINE_MAX];
	bool live = a->live;
	va_list ap;
	*a = (struct cli_answer){.tool = tool, .error = "", .fd = -1, .live = live};
	buf_init(&a->in, CLI_ANSWER_MAX);
	va_start(ap, fmt);
	int n = vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(command)) {
		fprintf(stderr, "%s: this is too long\n", tool);
		return EX_USAGE;
	}
	a->fd = cli_connect(tool, dir, command);
	if (a->fd < 0)
		return EX_TEMPFAIL;
	const char *line = raw_line(a);
	if (line && strcmp(line, "OK") == 0)
		return EX_OK;
	if (!line) {
		if (!a->broken)
			fprintf(stderr, "%s: no answer\n", tool);
		return EX_TEMPFAIL;
	}
	a->error = strncmp(line, "ERROR ", 6) == 0 ? line + 6 : line;
	fprintf(stderr, "%s: %s\n", tool, a->error);
	if (strncmp(a->error, "not allowed", 11) == 0)
		return EX_NOPERM;
	return strncmp(a->error, "not now", 7) == 0 ? EX_TEMPFAIL : EX_UNAVAILABLE;
}

char *cli_answer_line(struct cli_answer *a)
{
	char *line = a->ended ? NULL : raw_line(a);
	if (line && strcmp(line, "END") == 0) {
		a->ended = true;
		return NULL;
	}
	return line;
}

size_t cli_answer_fields(struct cli_answer *a, char *field[CLI_FIELDS])
{
	char *line = cli_answer_line(a);
	size_t n = 0;
	if (!line)
		return 0;
	while (n + 1 < CLI_FIELDS && line) {
		char *tab = strchr(line, '\t');
		field[n++] = line;
		if (tab)
			*tab++ = '\0';
		line = tab;
	}
	for (size_t i = n; i < CLI_FIELDS; i++)
		field[i] = (char *)"";
	return n;
}

int cli_answer_copy(struct cli_answer *a, size_t n)
{
	drop_taken(a);
	while (n > 0) {
		if (!fill(a, 0))
			return -1;
		size_t some = a->in.len < n ? a->in.len : n;
		if (cli_on_terminal())
			make_harmless(buf_data(&a->in), some);
		fwrite(buf_data(&a->in), 1, some, stdout);
		buf_consume(&a->in, some);
		n -= some;
	}
	return 0;
}

int cli_answer_close(struct cli_answer *a, int code)
{
	if (code == EX_OK && !a->ended) {
		if (!a->broken)
			fprintf(stderr, "%s: the answer is incomplete\n", a->tool);
		code = EX_TEMPFAIL;
	}
	if (a->fd >= 0)
		close(a->fd);
	buf_clear(&a->in);
	return cli_end(a->tool, code);
}

int cli_end(const char *tool, int code)
{
	struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	/* Whoever reads no more does not want to hear of it. */
	if (errno == EPIPE || (poll(&p, 1, 0) == 1 && (p.revents & POLLERR)))
		return code;
	fprintf(stderr, "%s: %s\n", tool, errno ? strerror(errno) : "write error");
	return EX_IOERR;
}

int cli_ask(const char *tool, const char *dir, const char *command, const char *empty)
{
	struct cli_answer a = {.live = false};
	char *field[CLI_FIELDS];
	size_t n, lines = 0;
	int code = cli_answer_open(&a, tool, dir, "%s", command);
	for (; code == EX_OK && (n = cli_answer_fields(&a, field)) > 0; lines++)
		for (size_t i = 0; i < n; i++) {
			struct buf text;
			buf_init(&text, CLI_LINE_MAX * 4);
			cli_put(&text, field[i]);
			printf("%s%s%s", i ? " " : "", buf_str(&text), i + 1 == n ? "\n" : "");
			buf_clear(&text);
		}
	if (lines == 0 && a.ended && empty)
		puts(empty);
	return cli_answer_close(&a, code);
}

const char *cli_span(long long seconds, char out[24])
{
	static const struct {
		long long seconds;
		char unit;
	} units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
	size_t i = 0;
	if (seconds <= 0)
		return "now";
	while (seconds < units[i].seconds)
		i++;
	snprintf(out, 24, "%lld%c", seconds / units[i].seconds, units[i].unit);
	return out;
}
