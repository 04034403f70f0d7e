/*
 * cli: the operator's subcommands.
 *
 * Each asks the running daemon over its UNIX socket and shows what it answers, lists of domains in
 * columns. sendmail is in
 * cli_send.c; passwd and user, which work on files, are in cli_user.c. Everything here blocks,
 * belongs to one short call, and may end it.
 */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sysexits.h>
#include <unistd.h>

#include "buf.h"
#include "cli_int.h"
#include "conf.h"
#include "config.h"
#include "control.h"

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

/* Copies the answer behind its first line, or makes columns of it. Returns how many bytes there
 * were, or -1 with errno. */
static long long copy_answer(FILE *from)
{
	long long count = 0;
	int c;
	while ((c = getc(from)) != EOF) {
		putchar(c);
		count++;
	}
	return ferror(from) ? -1 : count;
}

/* Characters of UTF-8. */
static size_t width(const char *s, size_t n)
{
	size_t count = 0;
	for (size_t i = 0; i < n; i++)
		count += ((unsigned char)s[i] & 0xc0) != 0x80;
	return count;
}

/* Walks the fields of all lines, with tabs between: notes how wide each column is, or prints. */
static void columns(const char *text, size_t size, size_t widest[CLI_COLUMNS], bool print)
{
	size_t column = 0;
	for (const char *p = text, *end = text + size; p < end;) {
		size_t n = 0;
		while (p + n < end && p[n] != '\t' && p[n] != '\n')
			n++;
		bool last = p + n == end || p[n] == '\n';
		size_t wide = width(p, n), room = column < CLI_COLUMNS ? widest[column] : 0;
		if (!print && column < CLI_COLUMNS && wide > room)
			widest[column] = wide;
		if (print)
			printf("%.*s%*s", (int)n, p,
			       last ? 0 : (int)(room > wide ? room - wide : 0) + 2, "");
		if (print && last)
			putchar('\n');
		column = last ? 0 : column + 1;
		p += n + (p + n < end);
	}
}

static long long print_columns(FILE *from)
{
	size_t widest[CLI_COLUMNS] = {0}, n;
	char part[4096];
	struct buf all;
	buf_init(&all, CLI_ANSWER_MAX);
	while ((n = fread(part, 1, sizeof(part), from)) > 0)
		buf_append(&all, part, n);
	bool failed = ferror(from) || all.failed;
	if (all.failed)
		errno = ENOMEM;
	columns(buf_data(&all), all.len, widest, false);
	columns(buf_data(&all), all.len, widest, true);
	n = all.len;
	buf_clear(&all);
	return failed ? -1 : (long long)n;
}

/* cli_ask, where `show` prints the answer. */
static int ask(const char *tool, const char *dir, const char *command, const char *empty,
               long long (*show)(FILE *from))
{
	char line[512];
	int fd = cli_connect(tool, dir, command);
	if (fd < 0)
		return EX_TEMPFAIL;
	errno = 0;
	FILE *f = fdopen(fd, "r");
	if (!f || !fgets(line, sizeof(line), f)) {
		fprintf(stderr, "%s: %s\n", tool, errno ? reason(errno) : "no answer");
		if (f)
			fclose(f);
		else
			close(fd);
		return EX_TEMPFAIL;
	}
	line[strcspn(line, "\r\n")] = '\0';
	int code = EX_OK;
	if (strcmp(line, "OK") == 0) {
		long long count = show(f);
		if (count == 0 && empty)
			puts(empty);
		if (count < 0) {
			fprintf(stderr, "%s: the answer is incomplete: %s\n", tool, reason(errno));
			code = EX_TEMPFAIL;
		}
	} else {
		const char *why = strncmp(line, "ERROR ", 6) == 0 ? line + 6 : line;
		fprintf(stderr, "%s: %s\n", tool, why);
		code = strncmp(why, "not allowed", 11) == 0 ? EX_NOPERM : EX_UNAVAILABLE;
	}
	fclose(f);
	return fflush(stdout) == 0 ? code : EX_IOERR;
}

int cli_ask(const char *tool, const char *dir, const char *command, const char *empty)
{
	return ask(tool, dir, command, empty, copy_answer);
}

/* ---- domaininfo ---- */

static const char domaininfo_usage[] =
    "usage: chasq domaininfo [list | show DOMAIN | forget DOMAIN] [-C DIR]\n"
    "Shows how well protected the mail of each domain has been, which is demanded from\n"
    "then on; or forgets what is known of one, when it cannot be met any more.\n";

static int domaininfo_misused(void)
{
	fputs(domaininfo_usage, stderr);
	return EX_USAGE;
}

static int domaininfo(int argc, char **argv)
{
	const char *dir = NULL, *word[2] = {"list", ""};
	char command[CONTROL_LINE_MAX];
	size_t words = 0;
	for (int i = 1; i < argc; i++) {
		const char *s = argv[i];
		if (strcmp(s, "--help") == 0) {
			fputs(domaininfo_usage, stdout);
			return EX_OK;
		}
		if (strncmp(s, "-C", 2) == 0 && (s[2] || i + 1 < argc))
			dir = s[2] ? s + 2 : argv[++i];
		else if (*s == '-' || words == 2 || !*s || strpbrk(s, " \r\n"))
			return domaininfo_misused();
		else
			word[words++] = s;
	}
	if (strcmp(word[0], "list") == 0 && words < 2)
		return ask("domaininfo", dir, "DOMAININFO LIST", "no domain is known",
		           print_columns);
	bool show = strcmp(word[0], "show") == 0;
	if (words < 2 || (!show && strcmp(word[0], "forget") != 0))
		return domaininfo_misused();
	int n = snprintf(command, sizeof(command), "DOMAININFO %s %s", show ? "SHOW" : "FORGET",
	                 word[1]);
	if (n < 0 || (size_t)n >= sizeof(command))
		return domaininfo_misused();
	return cli_ask("domaininfo", dir, command, NULL);
}

/* ---- the tools ---- */

struct cli_tool {
	const char *name;
	const char *command; /* for the daemon; NULL: see run */
	const char *empty;   /* what to say when the answer is empty */
	bool id;             /* an argument may follow */
	const char *usage;
	int (*run)(int argc, char **argv); /* reads its own options */
};

static const struct cli_tool tools[] = {
    {.name = "sendmail", .run = cli_sendmail},
    {.name = "passwd", .run = cli_passwd},
    {.name = "user", .run = cli_user},
    {.name = "domaininfo", .run = domaininfo},
    {"mailq", "QUEUE", "Mail queue is empty", false,
     "usage: mailq [-C DIR]\nLists the messages that wait to be delivered.\n", NULL},
    {"newaliases", "RELOAD", NULL, false,
     "usage: newaliases [-C DIR]\nHas the daemon read users and aliases again now.\n", NULL},
    {"queue", "QUEUE", "the queue is empty", false,
     "usage: chasq queue [-C DIR]\nLists the messages that wait to be delivered.\n", NULL},
    {"flush", "FLUSH", NULL, true,
     "usage: chasq flush [-C DIR] [ID]\nTries all waiting messages, or one, now.\n", NULL},
    {"reload", "RELOAD", NULL, false,
     "usage: chasq reload [-C DIR]\nHas the daemon read users and aliases again now.\n", NULL},
    {"status", "STATUS", NULL, false,
     "usage: chasq status [-C DIR]\nShows the daemon's counters.\n", NULL},
};

static const struct cli_tool *find_tool(const char *name)
{
	const char *slash = strrchr(name, '/');
	if (slash)
		name = slash + 1;
	for (size_t i = 0; i < sizeof(tools) / sizeof(*tools); i++)
		if (strcmp(name, tools[i].name) == 0)
			return &tools[i];
	return NULL;
}

static int usage_error(const struct cli_tool *t)
{
	fputs(t->usage, stderr);
	return EX_USAGE;
}

static int run_tool(const struct cli_tool *t, int argc, char **argv)
{
	const char *dir = NULL, *id = "";
	char command[CONTROL_LINE_MAX];
	int option;
	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		fputs(t->usage, stdout);
		return EX_OK;
	}
	/* What else sendmail's mailq takes means nothing here. */
	while ((option = getopt(argc, argv, "C:c:A:v")) != -1) {
		if (option == 'C' || option == 'c')
			dir = optarg;
		else if (option == '?')
			return usage_error(t);
	}
	if (t->id && optind < argc)
		id = argv[optind++];
	if (optind < argc || strpbrk(id, " \r\n"))
		return usage_error(t);
	int n = snprintf(command, sizeof(command), "%s%s%s", t->command, *id ? " " : "", id);
	if (n < 0 || (size_t)n >= sizeof(command))
		return usage_error(t);
	return cli_ask(t->name, dir, command, t->empty);
}

bool cli_is_tool(int argc, char **argv)
{
	return argc > 0 && (find_tool(argv[0]) || (argc > 1 && find_tool(argv[1])));
}

int cli_run(int argc, char **argv)
{
	const struct cli_tool *t = find_tool(argv[0]);
	if (!t && argc > 1) {
		t = find_tool(argv[1]);
		argc--;
		argv++;
	}
	if (!t)
		return EX_USAGE;
	signal(SIGPIPE, SIG_IGN);
	return t->run ? t->run(argc, argv) : run_tool(t, argc, argv);
}
