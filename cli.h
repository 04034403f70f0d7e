/* cli: the operator's subcommands and the sendmail family. Blocking; never part of the daemon. */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>

/* True when argv[0]'s last part or argv[1] names one of our tools; "help" lists them. */
bool cli_is_tool(int argc, char **argv);

/* Runs it. Returns the exit code (sysexits.h). */
int cli_run(int argc, char **argv);

#endif
