/* cli_int: what the tools share. */
#ifndef CLI_INT_H
#define CLI_INT_H

#include <stddef.h>

/* Connects to the daemon whose configuration directory this is (NULL: CHASQ_DIR of the environment,
 * or CONF_DIR) and sends it a command line. The descriptor, with CLI_WAIT_S set; or -1 after saying
 * why on standard error. */
int cli_connect(const char *tool, const char *dir, const char *command);

/* Asks the daemon and copies the answer to standard output (`empty` when there is none). Returns
 * the exit code. */
int cli_ask(const char *tool, const char *dir, const char *command, const char *empty);

/* Writes all. Returns 0, or -1 with errno. */
int cli_write(int fd, const void *p, size_t n);

/* sendmail; argv[0] is its name. */
int cli_sendmail(int argc, char **argv);

/* passwd and user; argv[0] is their name. */
int cli_passwd(int argc, char **argv);
int cli_user(int argc, char **argv);

#endif
