/*
 * cli_user: the operator's tools for users: passwd and user.
 *
 * They work on the users files of the configuration directory, whether the daemon runs or not; it
 * notices by itself that a file has changed. Passwords come from the terminal without echo, or from
 * standard input; never from the command line, which others can see.
 */
#include "cli_int.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <termios.h>
#include <unistd.h>

#include "addr.h"
#include "config.h"
#include "kdf.h"
#include "user.h"

static const char usage_text[] =
    "usage: chasq passwd [-C DIR] USER@DOMAIN\n"
    "       chasq user list [-C DIR] [DOMAIN]\n"
    "       chasq user check [-C DIR] USER@DOMAIN\n"
    "       chasq user remove [-C DIR] USER@DOMAIN\n"
    "       chasq user add --receive-only [-C DIR] USER@DOMAIN\n"
    "Sets a password (and adds the user if need be), lists users, checks a password,\n"
    "removes a user, adds one without a password. Passwords are asked for on the\n"
    "terminal, or read as one line from standard input.\n";

/* What the command line says. */
struct cli_user {
	const char *dir;
	const char *what; /* the address or domain, or NULL */
	bool receive_only;
	struct addr addr;
	char path[PATH_MAX]; /* of its domain's users file */
};

/* ---- passwords ---- */

static volatile sig_atomic_t interrupted;

static void note_signal(int signo)
{
	interrupted = signo;
}

/* Reads a line of at most size - 1 bytes, without its end. Returns 0, or -1 with errno: E2BIG,
 * EINVAL for a NUL in it, ENODATA for nothing at all. */
static int read_line(char *out, size_t size)
{
	size_t n = 0;
	char c = 0;
	for (;;) {
		ssize_t got = read(STDIN_FILENO, &c, 1);
		if (got < 0 && (errno != EINTR || interrupted))
			return -1;
		if (got < 0)
			continue;
		if (got == 0 || c == '\n')
			break;
		if (c == '\0' || n + 1 >= size) {
			errno = c ? E2BIG : EINVAL;
			return -1;
		}
		out[n++] = c;
	}
	if (n > 0 && out[n - 1] == '\r')
		n--;
	out[n] = '\0';
	errno = ENODATA;
	return n > 0 ? 0 : -1;
}

/* Reads from the terminal with echo off; whatever happens, echo is on again after. */
static int read_hidden(const char *prompt, char *out, size_t size)
{
	static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
	enum { CAUGHT = sizeof(caught) / sizeof(*caught) };
	struct sigaction before[CAUGHT];
	struct sigaction note = {.sa_handler = note_signal};
	struct termios normal, hidden;
	if (tcgetattr(STDIN_FILENO, &normal) < 0)
		return -1;
	interrupted = 0;
	for (int i = 0; i < CAUGHT; i++)
		sigaction(caught[i], &note, &before[i]);
	hidden = normal;
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	fputs(prompt, stderr);
	int rc = tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
	if (rc == 0)
		rc = read_line(out, size);
	int saved = errno;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &normal);
	fputc('\n', stderr);
	for (int i = 0; i < CAUGHT; i++)
		sigaction(caught[i], &before[i], NULL);
	if (interrupted)
		raise(interrupted);
	errno = saved;
	return rc;
}

/* Gets a password; from a terminal twice when it is a new one. Returns 0, or -1 after saying why.
 */
static int get_password(bool is_new, char *out, size_t size)
{
	char again[AUTH_PASSWORD_MAX + 1];
	int rc;
	if (!isatty(STDIN_FILENO))
		rc = read_line(out, size);
	else
		rc = read_hidden(is_new ? "New password: " : "Password: ", out, size);
	if (rc == 0 && is_new && isatty(STDIN_FILENO)) {
		rc = read_hidden("The same again: ", again, sizeof(again));
		if (rc == 0 && strcmp(out, again) != 0) {
			fputs("chasq: these are not the same\n", stderr);
			kdf_wipe(again, sizeof(again));
			return -1;
		}
		kdf_wipe(again, sizeof(again));
	}
	if (rc == 0)
		return 0;
	if (errno == ENODATA)
		fputs("chasq: no password given\n", stderr);
	else if (errno == E2BIG)
		fprintf(stderr, "chasq: a password has at most %d bytes\n", AUTH_PASSWORD_MAX);
	else
		fprintf(stderr, "chasq: reading the password: %s\n", strerror(errno));
	return -1;
}

/* ---- where ---- */

static int usage_error(void)
{
	fputs(usage_text, stderr);
	return EX_USAGE;
}

/* Reads options and operands, options first or last. Returns 0, or an exit code. */
static int parse(struct cli_user *u, int argc, char **argv)
{
	memset(u, 0, sizeof(*u));
	for (int i = 1; i < argc; i++) {
		const char *s = argv[i];
		if (strcmp(s, "--receive-only") == 0)
			u->receive_only = true;
		else if (strncmp(s, "-C", 2) == 0 && (s[2] || i + 1 < argc))
			u->dir = s[2] ? s + 2 : argv[++i];
		else if (*s == '-' || u->what)
			return usage_error();
		else
			u->what = s;
	}
	if (!u->dir)
		u->dir = getenv("CHASQ_DIR");
	if (!u->dir || !*u->dir)
		u->dir = CONF_DIR;
	return 0;
}

/* Opens domains/; NULL after saying why not. */
static DIR *open_domains(const struct cli_user *u)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/domains", u->dir);
	DIR *d = opendir(path);
	if (!d)
		fprintf(stderr, "chasq: %s: %s\n", path, strerror(errno));
	return d;
}

/* The next entry that is the name of a domain, which is normalised into name. NULL at the end. */
static const char *next_domain(DIR *d, char *name, size_t size)
{
	const struct dirent *e;
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.' &&
		    addr_domain_normalise(slice_of(e->d_name), name, size) == 0)
			return e->d_name;
	return NULL;
}

static int set_path(struct cli_user *u, const char *entry)
{
	int n = snprintf(u->path, sizeof(u->path), "%s/domains/%s/users", u->dir, entry);
	return n > 0 && (size_t)n < sizeof(u->path) ? 0 : -1;
}

/* Sets path to the users file of addr's domain, however its directory is spelled. Returns 0, or an
 * exit code after saying why. */
static int find_domain(struct cli_user *u)
{
	char name[ADDR_DOMAIN_MAX + 1];
	const char *entry;
	int rc = EX_NOHOST;
	DIR *d = open_domains(u);
	if (!d)
		return EX_NOINPUT;
	while (rc == EX_NOHOST && (entry = next_domain(d, name, sizeof(name))) != NULL)
		if (strcmp(name, u->addr.domain) == 0)
			rc = set_path(u, entry) == 0 ? 0 : EX_SOFTWARE;
	closedir(d);
	if (rc)
		fprintf(stderr, "chasq: there is no directory %s/domains/%s\n", u->dir,
		        u->addr.domain);
	return rc;
}

/* Reads u->what as an address and finds its file. Returns 0, or an exit code after saying why. */
static int find_user(struct cli_user *u)
{
	if (!u->what)
		return usage_error();
	if (addr_parse(slice_of(u->what), &u->addr) < 0 || addr_is_null(&u->addr) ||
	    !addr_is_file_name(u->addr.user) || strchr(u->addr.user, ' ')) {
		fprintf(stderr, "chasq: %s: not of the form USER@DOMAIN\n", u->what);
		return EX_DATAERR;
	}
	return find_domain(u);
}

/* The users of the domain found; no characters are dropped: the operator spells the names out.
 * NULL after saying why. */
static struct user_table *load(const struct cli_user *u)
{
	char err[TEXT_ERROR_MAX + PATH_MAX];
	struct user_table *t = user_load(u->path, "", err, sizeof(err));
	if (!t)
		fprintf(stderr, "chasq: %s\n", err);
	return t;
}

/* ---- the tools ---- */

static int put(const struct cli_user *u, const struct user_secret *s)
{
	char err[TEXT_ERROR_MAX + PATH_MAX];
	if (user_put(u->path, u->addr.user, s, err, sizeof(err)) == 0)
		return EX_OK;
	fprintf(stderr, "chasq: %s\n", err);
	return EX_CANTCREAT;
}

static int run_passwd(struct cli_user *u)
{
	struct user_secret s;
	char password[AUTH_PASSWORD_MAX + 1];
	int rc = find_user(u);
	if (rc || u->receive_only)
		return rc ? rc : usage_error();
	if (!WITH_TLS) {
		fputs("chasq: built without TLS, and so without hashes for passwords\n", stderr);
		return EX_UNAVAILABLE;
	}
	if (get_password(true, password, sizeof(password)) < 0)
		return EX_DATAERR;
	rc = user_secret_new(&s, slice_of(password));
	kdf_wipe(password, sizeof(password));
	if (rc < 0) {
		fprintf(stderr, "chasq: hashing the password: %s\n", strerror(errno));
		return EX_OSERR;
	}
	return put(u, &s);
}

static int run_add(struct cli_user *u)
{
	struct user_secret s = {.scheme = USER_DENIED};
	if (!u->receive_only) {
		fputs("chasq: a user with a password is added by chasq passwd\n", stderr);
		return EX_USAGE;
	}
	int rc = find_user(u);
	struct user_table *t = rc == 0 ? load(u) : NULL;
	if (!t)
		return rc ? rc : EX_DATAERR;
	bool exists = user_exists(t, u->addr.user);
	user_free(t);
	if (!exists)
		return put(u, &s);
	fprintf(stderr, "chasq: there is a user %s already\n", u->what);
	return EX_DATAERR;
}

static int run_remove(struct cli_user *u)
{
	char err[TEXT_ERROR_MAX + PATH_MAX];
	int rc = find_user(u);
	if (rc)
		return rc;
	rc = user_remove(u->path, u->addr.user, err, sizeof(err));
	if (rc < 0) {
		fprintf(stderr, "chasq: %s\n", err);
		return EX_CANTCREAT;
	}
	if (rc == 0)
		return EX_OK;
	fprintf(stderr, "chasq: there is no user %s\n", u->what);
	return EX_NOUSER;
}

static int run_check(struct cli_user *u)
{
	char password[AUTH_PASSWORD_MAX + 1];
	int rc = find_user(u);
	struct user_table *t = rc == 0 ? load(u) : NULL;
	if (!t)
		return rc ? rc : EX_DATAERR;
	if (!user_exists(t, u->addr.user)) {
		fprintf(stderr, "chasq: there is no user %s\n", u->what);
		rc = EX_NOUSER;
	} else if (get_password(false, password, sizeof(password)) < 0) {
		rc = EX_DATAERR;
	} else {
		int good = user_check(t, u->addr.user, slice_of(password));
		kdf_wipe(password, sizeof(password));
		puts(good > 0 ? "the password is right"
		              : (good == 0 ? "the password is wrong" : "this cannot be told"));
		rc = good > 0 ? EX_OK : (good == 0 ? EX_NOPERM : EX_UNAVAILABLE);
	}
	user_free(t);
	return rc;
}

static void print_user(void *arg, const char *name, enum user_scheme scheme)
{
	static const char *const schemes[] = {"receive only", "plain", "scrypt", "pbkdf2"};
	char text[ADDR_TEXT_MAX];
	struct addr *a = arg;
	memcpy(a->user, name, strlen(name) + 1);
	if (addr_format(a, text, sizeof(text)) == 0)
		printf("%s\t%s\n", text, schemes[scheme]);
}

/* Prints the users of the domain that was found. */
static int list_domain(struct cli_user *u)
{
	struct user_table *t = load(u);
	if (!t)
		return EX_DATAERR;
	user_each(t, print_user, &u->addr);
	user_free(t);
	return EX_OK;
}

static int run_list(struct cli_user *u)
{
	const char *entry;
	int rc = EX_OK;
	if (u->what) {
		if (addr_domain_normalise(slice_of(u->what), u->addr.domain,
		                          sizeof(u->addr.domain)) < 0) {
			fprintf(stderr, "chasq: %s: not the name of a domain\n", u->what);
			return EX_DATAERR;
		}
		rc = find_domain(u);
		return rc ? rc : list_domain(u);
	}
	DIR *d = open_domains(u);
	if (!d)
		return EX_NOINPUT;
	while ((entry = next_domain(d, u->addr.domain, sizeof(u->addr.domain))) != NULL)
		if (set_path(u, entry) < 0 || list_domain(u) != EX_OK)
			rc = EX_DATAERR;
	closedir(d);
	return rc;
}

static int help(void)
{
	fputs(usage_text, stdout);
	return EX_OK;
}

int cli_passwd(int argc, char **argv)
{
	struct cli_user u;
	if (argc > 1 && strcmp(argv[1], "--help") == 0)
		return help();
	int rc = parse(&u, argc, argv);
	return rc ? rc : run_passwd(&u);
}

int cli_user(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(struct cli_user *u);
	} verbs[] = {
	    {"list", run_list}, {"check", run_check}, {"remove", run_remove}, {"add", run_add}};
	struct cli_user u;
	if (argc > 1 && strcmp(argv[1], "--help") == 0)
		return help();
	if (argc > 2 && strcmp(argv[2], "--help") == 0)
		return help();
	for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(*verbs); i++) {
		if (strcmp(argv[1], verbs[i].name) != 0)
			continue;
		int rc = parse(&u, argc - 1, argv + 1);
		if (rc == 0 && u.receive_only && verbs[i].run != run_add)
			rc = usage_error();
		return rc ? rc : verbs[i].run(&u);
	}
	return usage_error();
}
