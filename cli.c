/*
 * cli: the operator's subcommands: which there are.
 *
 * Those that ask the running daemon over its UNIX socket are in cli_queue.c and cli_daemon.c,
 * sendmail is in cli_send.c; passwd and user, which work on files, are in cli_user.c; check and
 * dialog, which look for themselves, in files of their own. Everything on this floor but chasq.c
 * blocks, belongs to one short call, and may end it. Exit codes are those of sysexits.h; see
 * chasq(8).
 */
#include "cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "cli_int.h"
#include "config.h"

static int cli_help(int argc, char **argv);

struct cli_tool {
	const char *name;
	int (*run)(int argc, char **argv); /* reads its own options; NULL: not in this build */
	const char *args;                  /* NULL: not listed, for it is another's name */
	const char *what;
	const char *option; /* NULL: in every build */
};

/* A command that can be left out. */
#define TOOL_IF(option, name, run, args, what)                                                     \
	{                                                                                          \
		name, (option) ? (run) : NULL, (option) ? (args) : NULL, (option) ? (what) : NULL, \
		    #option,                                                                       \
	}

static const struct cli_tool tools[] = {
    {"queue", cli_queue, "[-j]", "lists the messages that wait", NULL},
    TOOL_IF(WITH_OPERATOR, "show", cli_show, "ID [--raw]", "a message: envelope, attempts, header"),
    {"flush", cli_flush, "[ID|DOMAIN]", "tries waiting messages now", NULL},
    TOOL_IF(WITH_OPERATOR, "hold", cli_hold, "[ID|DOMAIN]", "holds mail back; lists what is held"),
    TOOL_IF(WITH_OPERATOR, "release", cli_hold, "ID|DOMAIN", "releases it"),
    TOOL_IF(WITH_OPERATOR, "remove", cli_remove, "ID [--bounce]", "removes a message"),
    TOOL_IF(WITH_OPERATOR, "resolve", cli_resolve, "ADDRESS", "where mail for an address goes"),
    TOOL_IF(WITH_OPERATOR, "domaininfo", cli_domaininfo, "[list|show|forget]",
            "what is known of other domains"),
    TOOL_IF(WITH_OPERATOR, "status", cli_status, "", "how the server does, its counters"),
    TOOL_IF(WITH_OPERATOR, "trace", cli_trace, "[ID|KIND] [-f] [-n N]", "the last events"),
    TOOL_IF(WITH_OPERATOR, "config", cli_config, "", "the configuration in effect"),
    {"reload", cli_reload, "", "reads the configuration again", NULL},
    {"stop", cli_stop, "", "ends the server", NULL},
    TOOL_IF(WITH_CHECK, "check", cli_check, "[DOMAIN]", "looks for what is wrong"),
    TOOL_IF(WITH_CHECK, "dialog", cli_dialog, "HOST", "talks SMTP to a host, with a TLS report"),
    TOOL_IF(WITH_OPERATOR, "passwd", cli_passwd, "USER@DOMAIN", "sets a password"),
    TOOL_IF(WITH_OPERATOR, "user", cli_user, "list|check|add|remove", "the users of a domain"),
    TOOL_IF(WITH_SENDMAIL, "sendmail", cli_sendmail, "[options] RECIPIENT",
            "takes a message from standard input"),
    {"help", cli_help, "", "this list", NULL},
    {"mailq", cli_queue, NULL, NULL, NULL},
    {"newaliases", cli_reload, NULL, NULL, NULL},
};

#define TOOLS (sizeof(tools) / sizeof(*tools))

static int cli_help(int argc, char **argv)
{
	struct cli_call call = {.usage = "usage: chasq help\nLists the commands.\n"};
	int code = cli_options(&call, argc, argv);
	if (code >= 0)
		return code;
	puts("usage: chasq COMMAND [...]\n"
	     "All take --help, and -C DIR, the configuration directory. Called mailq,\n"
	     "newaliases or sendmail it is queue, reload or sendmail. Without a command it is\n"
	     "the server: see chasq -h.\n");
	for (size_t i = 0; i < TOOLS; i++)
		if (tools[i].args && tools[i].run)
			printf("  %-11s%-23s%s\n", tools[i].name, tools[i].args, tools[i].what);
	return cli_end(call.tool, EX_OK);
}

static const struct cli_tool *find_tool(const char *name)
{
	const char *slash = strrchr(name, '/');
	if (slash)
		name = slash + 1;
	for (size_t i = 0; i < TOOLS; i++)
		if (strcmp(name, tools[i].name) == 0)
			return &tools[i];
	return NULL;
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
	if (!t->run) {
		fprintf(stderr, "chasq: this build has no %s: %s 0\n", t->name, t->option);
		return EX_UNAVAILABLE;
	}
	argv[0] = (char *)t->name;
	signal(SIGPIPE, SIG_IGN); /* told by what write() returns */
	return t->run(argc, argv);
}
