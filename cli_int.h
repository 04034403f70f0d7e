/* cli_int: what the tools share. */
#ifndef CLI_INT_H
#define CLI_INT_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "config.h"

/* ---- options ---- */

#define CLI_WORDS 3

/* How a tool is to be called, and was. */
struct cli_call {
	const char *usage;          /* the whole help */
	const char *letters;        /* of options, as getopt(3) has them, besides C and h */
	const struct option *names; /* long options, NULL: none */
	size_t least, most;         /* words */
	/* Filled in. */
	const char *tool;
	const char *dir;         /* -C; NULL: not given */
	const char *option[128]; /* by letter: the value, "" for one without; NULL: not given */
	const char *word[CLI_WORDS];
	size_t words;
};

/* Reads options (before or behind words), -C DIR, -h and --help. -1 to go on, else the exit code:
 * help was printed, or what is wrong. argv[0] is the tool's name. */
int cli_options(struct cli_call *call, int argc, char **argv);

/* Says what is wrong with a call, and the usage, on standard error. Returns EX_USAGE. */
int cli_misused(const struct cli_call *call);

/* ---- the daemon ---- */

/* Connects to the daemon whose configuration directory this is (NULL: CHASQ_DIR of the environment,
 * or CONF_DIR) and sends it a command line. The descriptor, with CLI_WAIT_S set; or -1 after saying
 * why on standard error. */
int cli_connect(const char *tool, const char *dir, const char *command);

/* An answer being read. */
struct cli_answer {
	const char *tool;
	const char *error; /* what the daemon said against it; "" */
	int fd;
	bool live; /* lines are wanted as they come, not read ahead */
	bool eof;
	bool ended;   /* "END" was seen */
	bool broken;  /* said so */
	size_t taken; /* bytes of the buffer that the last call gave out */
	struct buf in;
};

/* Sends a command and reads the first line of the answer. EX_OK; or an exit code after saying why:
 * EX_NOPERM, EX_TEMPFAIL, EX_UNAVAILABLE. Always followed by cli_answer_close. */
int cli_answer_open(struct cli_answer *a, const char *tool, const char *dir, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The next line, without its end, valid until the next call; NULL behind the last one. It may be
 * changed. */
char *cli_answer_line(struct cli_answer *a);

/* The next line in fields; those missing are "". Returns how many there were, 0 at the end. */
size_t cli_answer_fields(struct cli_answer *a, char *field[CLI_FIELDS]);

/* Copies n bytes behind the last line to standard output. 0, or -1 when they do not come. */
int cli_answer_copy(struct cli_answer *a, size_t n);

/* Reads nothing more and closes. Returns `code` or, when that is EX_OK, what went wrong: the answer
 * is incomplete (said on standard error), the output not written. */
int cli_answer_close(struct cli_answer *a, int code);

/* Flushes standard output. Returns `code`, or EX_IOERR after saying why; a closed pipe is none. */
int cli_end(const char *tool, int code);

/* Asks the daemon and prints the answer's lines, blanks for tabs (`empty` when there is none).
 * Returns the exit code. */
int cli_ask(const char *tool, const char *dir, const char *command, const char *empty);

/* Writes all. Returns 0, or -1 with errno. */
int cli_write(int fd, const void *p, size_t n);

/* "now", "45s", "3h": a span in its biggest unit. Returns out. */
const char *cli_span(long long seconds, char out[24]);

/* ---- the tools; argv[0] is their name ---- */

int cli_sendmail(int argc, char **argv);
int cli_passwd(int argc, char **argv);
int cli_user(int argc, char **argv);
int cli_check(int argc, char **argv);
int cli_dialog(int argc, char **argv);

int cli_queue(int argc, char **argv); /* mailq too */
int cli_show(int argc, char **argv);
int cli_flush(int argc, char **argv);
int cli_hold(int argc, char **argv); /* release too */
int cli_remove(int argc, char **argv);

int cli_resolve(int argc, char **argv);
int cli_domaininfo(int argc, char **argv);
int cli_reload(int argc, char **argv); /* newaliases too */
int cli_stop(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_trace(int argc, char **argv);
int cli_config(int argc, char **argv);

/* What the tools of sendmail do in its place: their answers, and the exit code. */
int cli_list_queue(const char *tool, const char *dir);
int cli_say_reload(const char *tool, const char *dir);
int cli_say_flush(const char *tool, const char *dir, const char *what);

#endif
