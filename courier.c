/*
 * courier: the couriers that hand a message to a program: the local delivery program (MDA), and
 * the pipe of an alias. (maildir.c has the third local one.)
 *
 * Both are one job: the message is copied into a temporary file; arguments, a clean environment,
 * and that file as standard input make a program; how it ended makes the verdict. They differ in
 * where the arguments come from and in what a failure means. A program's words are for the log;
 * those of a pipe, and its command line, go nowhere else.
 *
 * No program runs before its message is complete and checked: what it reads cannot end early,
 * whether the queue's file turns out to be damaged or the daemon is killed.
 */
#define LOG_KIND LOG_DELIVERY

#include "courier.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "local.h"
#include "log.h"
#include "proc.h"
#include "sandbox.h"
#include "stat.h"

/* sysexits.h: a failure that may pass. */
#define COURIER_EX_TEMPFAIL 75

/* What a shell says of a program it cannot find, and proc_spawn of one that it could not start
 * where an emulator makes vfork a fork. */
#define COURIER_EX_NOT_FOUND 127

STAT_COUNTER(stat_delivered, "courier/program{result=delivered}",
             "Runs of local delivery programs and pipes");
STAT_COUNTER(stat_failed, "courier/program{result=failed}",
             "Runs of local delivery programs and pipes");

/* A list of strings that ends with NULL; what its users need is freed with it. */
struct courier_args {
	char **item;
	size_t count;
};

struct courier_job {
	struct delivery *d;
	bool pipe;
	bool bad_to; /* the recipient is no address */
	int fd;      /* the message for the program, until it has it; else -1 */
	/* What is run: made at the start, for the configuration may change meanwhile. */
	struct courier_args args;
	struct courier_args env;
	struct local_copy copy;
	struct proc proc;
};

/* ---- arguments and environment ------------------------------------------------------------ */

static void courier_args_free(struct courier_args *a)
{
	for (size_t i = 0; i < a->count; i++)
		free(a->item[i]);
	free(a->item);
	*a = (struct courier_args){NULL, 0};
}

/* Takes s, which may be NULL: no memory. Room must be there. Returns 0 or -1. */
static int courier_args_take(struct courier_args *a, char *s)
{
	if (!s)
		return -1;
	a->item[a->count++] = s;
	return 0;
}

static int courier_args_room(struct courier_args *a, size_t n)
{
	*a = (struct courier_args){calloc(n + 1, sizeof(char *)), 0};
	return a->item ? 0 : -1;
}

static int courier_mda_args(struct courier_args *a, const struct conf *conf,
                            const struct local_names *names)
{
	if (courier_args_room(a, conf->mda_args.count + 1) ||
	    courier_args_take(a, strdup(conf->mda_bin)))
		return -1;
	for (size_t i = 0; i < conf->mda_args.count; i++)
		if (courier_args_take(a, local_expand(conf->mda_args.item[i], names)))
			return -1;
	return 0;
}

/* Splits a command line at blanks, without quotes or replacements. */
static int courier_pipe_args(struct courier_args *a, const char *command)
{
	const char *blanks = " \t";
	if (courier_args_room(a, strlen(command) / 2 + 1))
		return -1;
	for (const char *p = command + strspn(command, blanks); *p; p += strspn(p, blanks)) {
		size_t n = strcspn(p, blanks);
		if (courier_args_take(a, strndup(p, n)))
			return -1;
		p += n;
	}
	return 0;
}

static int courier_env(struct courier_args *env, const struct local_names *names)
{
	if (courier_args_room(env, 4))
		return -1;
	return courier_args_take(env, strdup("PATH=" PROC_PATH)) ||
	               courier_args_take(env, strdup("LANG=C")) ||
	               courier_args_take(env, local_expand("SENDER=%from%", names)) ||
	               courier_args_take(env, local_expand("RECIPIENT=%to%", names))
	           ? -1
	           : 0;
}

/* ---- ends --------------------------------------------------------------------------------- */

static void courier_close_fd(struct courier_job *j)
{
	if (j->fd >= 0)
		close(j->fd);
	j->fd = -1;
}

static void courier_free(struct courier_job *j)
{
	proc_cancel(&j->proc);
	local_copy_stop(&j->copy);
	courier_close_fd(j);
	courier_args_free(&j->args);
	courier_args_free(&j->env);
	free(j);
}

static void courier_finish(struct courier_job *j, const struct status *what)
{
	struct delivery *d = j->d;
	struct status st = *what;
	courier_free(j);
	d->state = NULL;
	stat_add(status_class(&st) == STATUS_DONE ? &stat_delivered : &stat_failed, 1);
	d->verdict(d, d->rcpts[0], &st, "");
	d->done(d);
}

/* Ends without a program. */
static void courier_refuse(struct courier_job *j, int code, const char *enh, const char *text)
{
	struct status st;
	log_error(j->d->env->id, j->pipe ? "pipe" : "mda", LOG_S("to", local_recipient(j->d)),
	          LOG_S("failed", text));
	status_set_text(&st, code, enh, text);
	courier_finish(j, &st);
}

/* What a program is denied it tells in its own words, if at all, which name neither the sandbox nor
 * the key to change. */
static void courier_log_denied(const char *id, const char *output)
{
	if (!sandbox_allows("/", SANDBOX_WRITE) &&
	    (strstr(output, strerror(EACCES)) || strstr(output, strerror(EPERM))))
		log_error(id, "a program was denied something, perhaps by the sandbox: see "
		              "sandbox_writable");
}

static void courier_log(struct courier_job *j, const char *how)
{
	const struct rcpt *r = &j->d->env->rcpt[j->d->rcpts[0]];
	const char *event = j->pipe ? "pipe" : "mda";
	const char *output = buf_str(&j->proc.output);
	if (j->proc.result == PROC_EXITED && j->proc.code == 0) {
		log_debug(j->d->env->id, event, LOG_S("to", r->address), LOG_S("result", how),
		          LOG_S("output", output));
	} else {
		log_error(j->d->env->id, event, LOG_S("to", r->address), LOG_S("result", how),
		          LOG_S("output", output));
		courier_log_denied(j->d->env->id, output);
	}
}

/* The first line of the output that says something, or "". */
static struct slice courier_first_line(const struct proc *p)
{
	struct slice s = buf_slice(&p->output);
	while (s.n > 0 && strchr(" \t\r\n", *s.p)) {
		s.p++;
		s.n--;
	}
	const char *end = s.n > 0 ? memchr(s.p, '\n', s.n) : NULL;
	if (end)
		s.n = (size_t)(end - s.p);
	return s;
}

/* ---- verdicts ----------------------------------------------------------------------------- */

/* Was it ended from outside: by a shutdown, by the operator, or by the kernel, which had no memory
 * left? That says nothing of the message. */
static bool courier_was_ended(const struct proc *p)
{
	return p->result == PROC_SIGNALED &&
	       (p->code == SIGTERM || p->code == SIGKILL || p->code == SIGHUP || p->code == SIGINT);
}

static void courier_judge_mda(struct courier_job *j, const char *how, struct status *st)
{
	const struct proc *p = &j->proc;
	char said[STATUS_TEXT_MAX];
	size_t n = status_clean(courier_first_line(p), said, sizeof said);
	const char *mark = n > 0 ? COURIER_OUTPUT_MARK : "";
	bool again = p->result == PROC_TIMED_OUT || p->result == PROC_NOT_STARTED ||
	             courier_was_ended(p) ||
	             (p->result == PROC_EXITED &&
	              (p->code == COURIER_EX_TEMPFAIL || p->code == COURIER_EX_NOT_FOUND));
	if (p->result == PROC_EXITED && p->code == 0)
		status_set(st, 250, "2.0.0", "delivered by the local delivery program");
	else if (again)
		status_set(st, 451, "4.3.0",
		           "the local delivery program cannot deliver now (%s)%s%s", how, mark,
		           said);
	else
		status_set(st, 550, "5.3.0", "the local delivery program failed (%s)%s%s", how,
		           mark, said);
}

/* No process to be had is no failure of the program: it may do well in a minute. Nor is that it is
 * being replaced, a disk that cannot be read, or a sandbox that the operator has yet to widen. */
static bool courier_is_kept_back(const struct courier_job *j)
{
	const struct proc *p = &j->proc;
	return p->result == PROC_NOT_STARTED &&
	       (p->code == EAGAIN || p->code == ENOMEM || p->code == EMFILE || p->code == ENFILE ||
	        p->code == ETXTBSY || p->code == EIO ||
	        (p->code == EACCES && !sandbox_allows(j->args.item[0], SANDBOX_READ)));
}

static void courier_judge_pipe(struct courier_job *j, struct status *st)
{
	const struct proc *p = &j->proc;
	if (p->result == PROC_EXITED && p->code == 0)
		status_set(st, 250, "2.0.0", "delivered to the program behind this address");
	else if (courier_is_kept_back(j))
		status_set(st, 451, "4.3.0", "the program behind this address cannot run now");
	else if (courier_was_ended(p))
		status_set(st, 451, "4.3.0", "the program behind this address was interrupted");
	else
		status_set(st, 554, "5.3.0", "the program behind this address failed");
}

static void courier_proc_done(void *arg)
{
	struct courier_job *j = arg;
	const struct proc *p = &j->proc;
	char how[128];
	struct status st;
	proc_result_text(p, how, sizeof how);
	if (p->result == PROC_NOT_STARTED)
		snprintf(how, sizeof how, "could not be started: %s",
		         sandbox_reason(p->code, j->args.item[0], SANDBOX_READ));
	courier_log(j, how);
	if (j->pipe)
		courier_judge_pipe(j, &st);
	else
		courier_judge_mda(j, how, &st);
	courier_finish(j, &st);
}

/* ---- start -------------------------------------------------------------------------------- */

static void courier_run(struct courier_job *j)
{
	struct proc_spec spec = {
	    .argv = (const char *const *)j->args.item,
	    .envp = (const char *const *)j->env.item,
	    .done = courier_proc_done,
	    .arg = j,
	    .in_fd = j->fd,
	    .output_max = COURIER_OUTPUT_MAX,
	    .limit_ms = COURIER_MDA_MS,
	};
	if (j->pipe)
		spec.limit_ms = COURIER_PIPE_MS;
	proc_start(&j->proc, &spec);
	courier_close_fd(j);
}

/* Runs it, or refuses. */
static void courier_begin(struct courier_job *j)
{
	if (j->bad_to && !j->pipe)
		courier_refuse(j, 550, "5.1.3", "this is not an address");
	else if (j->args.count == 0)
		courier_refuse(j, 554, "5.3.0", "the program behind this address failed");
	else
		courier_run(j);
}

/* Finds what to run. Returns 0, or -1 without memory. */
static int courier_prepare(struct courier_job *j, const struct conf *conf)
{
	const struct rcpt *r = &j->d->env->rcpt[j->d->rcpts[0]];
	struct local_names names;
	j->bad_to = local_names_set(&names, j->d->from, local_recipient(j->d)) != 0;
	int rc = j->pipe ? courier_pipe_args(&j->args, r->address)
	                 : courier_mda_args(&j->args, conf, &names);
	return rc ? rc : courier_env(&j->env, &names);
}

static void courier_copy_failed(struct courier_job *j, int error)
{
	log_error(j->d->env->id, j->pipe ? "pipe" : "mda", LOG_S("to", local_recipient(j->d)),
	          LOG_S("failed", "copy"), LOG_S("error", strerror(error)));
	struct status st;
	if (error == ENOSPC || error == EDQUOT)
		status_set(&st, 452, "4.3.1", "no space left to hand the message to a program");
	else
		status_set(&st, 451, "4.3.0", "the message cannot be handed to a program now");
	courier_finish(j, &st);
}

static void courier_copied(void *arg, int error)
{
	struct courier_job *j = arg;
	if (error == LOCAL_COPY_BROKEN)
		courier_finish(j, &j->copy.source.st);
	else if (error)
		courier_copy_failed(j, error);
	else
		courier_begin(j);
}

static int courier_start(const struct conf *conf, struct delivery *d, bool is_pipe,
                         struct status *st)
{
	status_set(st, 451, "4.3.0", "no mail_delivery_agent_bin any more");
	if (!is_pipe && !conf->mda_bin)
		return -1; /* the configuration changed while this delivery waited its turn */
	struct courier_job *j = calloc(1, sizeof *j);
	status_set(st, 451, "4.3.0", "out of memory");
	if (!j)
		return -1;
	j->d = d;
	j->pipe = is_pipe;
	j->fd = -1;
	if (courier_prepare(j, conf)) {
		courier_free(j);
		return -1;
	}
	j->fd = spool_temp_file(d->spool, st);
	if (j->fd < 0 || local_copy_start(&j->copy, d, conf->local_crlf && !is_pipe, j->fd,
	                                  courier_copied, j, st)) {
		courier_free(j);
		return -1;
	}
	d->state = j;
	return 0;
}

static int courier_mda_start(void *self, struct delivery *d, struct status *st)
{
	return courier_start(self, d, false, st);
}

static int courier_pipe_start(void *self, struct delivery *d, struct status *st)
{
	return courier_start(self, d, true, st);
}

static void courier_stop(void *self, struct delivery *d)
{
	(void)self;
	if (d->state)
		courier_free(d->state);
	d->state = NULL;
}

struct courier courier_mda(const struct conf *conf)
{
	return (struct courier){.name = "mda",
	                        .start = courier_mda_start,
	                        .stop = courier_stop,
	                        .self = (void *)conf,
	                        .parallel = COURIER_PROGRAM_PARALLEL};
}

struct courier courier_pipe(const struct conf *conf)
{
	return (struct courier){.name = "pipe",
	                        .start = courier_pipe_start,
	                        .stop = courier_stop,
	                        .self = (void *)conf,
	                        .parallel = COURIER_PROGRAM_PARALLEL};
}
