/*
 * hook: the operator's programs in hooks/.
 *
 * A run is a job: what the program is called with, put together when it is asked for, because the
 * session it tells of may change while it waits for its turn. At most HOOK_PARALLEL jobs run and
 * HOOK_WAITING wait. Next is the first job of the peer that has fewest running, and a peer may have
 * half of the places that others leave: many connections and a slow hook give nobody all of them.
 * Whatever is not an orderly "yes" (exit 0 with output within bounds) or "no" (exit 20) is a
 * failure, which for mail means "later".
 */
#define LOG_KIND LOG_SESSION

#include "hook.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "status.h"

/* chasquid's code for "reject for good". */
#define HOOK_EXIT_REJECT 20

/* Program, argument; variables of the environment. */
#define HOOK_ARGS 2
#define HOOK_VARS 13

struct hook_job {
	enum hook_name name;
	int in_fd;
	bool running;
	struct dns_addr peer; /* whom it runs for; all zero when that is nobody, or not told */
	char id[SPOOL_ID_MAX + 1];
	struct buf text; /* strings with their NUL: arguments, then the environment */
	size_t args, vars;
};

struct hook_kind {
	const char *path;
	const char *name;
	int64_t limit_ms;
};

static const struct hook_kind kinds[] = {
    [HOOK_ALIAS_RESOLVE] = {HOOK_DIR "/alias-resolve", "alias-resolve", HOOK_SHORT_MS},
    [HOOK_RCPT] = {HOOK_DIR "/rcpt", "rcpt", HOOK_SHORT_MS},
    [HOOK_POST_DATA] = {HOOK_DIR "/post-data", "post-data", HOOK_LONG_MS},
};

static struct {
	unsigned running, waiting;
	struct hook *first; /* of those that wait */
	struct hook *run[HOOK_PARALLEL];
} H;

bool hook_exists(enum hook_name name)
{
	static struct {
		int64_t until; /* loop_now() at its end */
		unsigned vain; /* looks within it */
	} span[sizeof kinds / sizeof *kinds];
	struct stat st;
	if (loop_now() >= span[name].until) {
		span[name].until = loop_now() + HOOK_LOOK_MS;
		span[name].vain = 0;
	}
	if (span[name].vain >= HOOK_LOOKS)
		return false;
	if (stat(kinds[name].path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR))
		return true;
	span[name].vain++;
	return false;
}

/* ---- arguments and environment ---- */

static bool is_control(char c)
{
	return (unsigned char)c < ' ' || c == 0x7f;
}

/* Ends a string; what is too long is cut. */
static void end_value(struct hook_job *j, size_t begin)
{
	if (j->text.len - begin > HOOK_VALUE_MAX)
		buf_truncate(&j->text, begin + HOOK_VALUE_MAX);
	buf_putc(&j->text, '\0');
}

/* NAME=value */
static void put_var(struct hook_job *j, const char *name, const char *value)
{
	size_t begin = j->text.len;
	buf_printf(&j->text, "%s=", name);
	for (const char *s = value ? value : ""; *s && j->text.len - begin < HOOK_VALUE_MAX; s++)
		buf_putc(&j->text, is_control(*s) ? '?' : *s);
	end_value(j, begin);
	j->vars++;
}

static void put_flag(struct hook_job *j, const char *name, bool flag)
{
	put_var(j, name, flag ? "1" : "0");
}

/* Only what stands in domains and address literals: scripts put it into commands. */
static void put_helo(struct hook_job *j, const char *helo)
{
	size_t begin = j->text.len;
	buf_puts(&j->text, "EHLO_DOMAIN=");
	for (const char *s = helo ? helo : ""; *s && j->text.len - begin < HOOK_VALUE_MAX; s++)
		if ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
		    (*s >= '0' && *s <= '9') || strchr("-.[]:", *s))
			buf_putc(&j->text, *s);
	end_value(j, begin);
	j->vars++;
	put_var(j, "EHLO_DOMAIN_RAW", helo);
}

static void put_peer(struct hook_job *j, const struct hook_session *s)
{
	char ip[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN + 16] = "";
	bool v6 = s->peer && s->peer->family == AF_INET6;
	if (s->peer)
		snprintf(text, sizeof(text), "%s%s%s:%u", v6 ? "[" : "", dns_addr_text(s->peer, ip),
		         v6 ? "]" : "", (unsigned)s->port);
	put_var(j, "REMOTE_ADDR", text);
}

/* All recipients that fit, whole. */
static void put_recipients(struct hook_job *j, const struct hook_session *s)
{
	size_t begin = j->text.len;
	buf_puts(&j->text, "RCPT_TO=");
	for (size_t i = 0; i < s->to_count; i++) {
		if (j->text.len - begin + strlen(s->to[i]) + 1 > HOOK_VALUE_MAX)
			break;
		if (i > 0)
			buf_putc(&j->text, ' ');
		for (const char *p = s->to[i]; *p; p++)
			buf_putc(&j->text, is_control(*p) ? '?' : *p);
	}
	end_value(j, begin);
	j->vars++;
}

static void put_environment(struct hook_job *j, const struct hook_session *s)
{
	const char *path = getenv("PATH");
	put_var(j, "USER", getenv("USER"));
	put_var(j, "PWD", getenv("PWD"));
	put_var(j, "SHELL", getenv("SHELL"));
	put_var(j, "PATH", path && *path ? path : PROC_PATH);
	if (!s)
		return;
	put_peer(j, s);
	put_helo(j, s->helo);
	put_var(j, "MAIL_FROM", s->from);
	put_recipients(j, s);
	put_var(j, "AUTH_AS", s->login);
	put_flag(j, "ON_TLS", s->tls);
	put_flag(j, "FROM_LOCAL_DOMAIN", s->from_local);
	put_flag(j, "SPF_PASS", s->spf_pass);
}

/* The client as far as limits go: with IPv6 it has a whole /64 (RFC 6177). */
static struct dns_addr peer_of(const struct hook_session *s)
{
	struct dns_addr a = {.family = AF_UNSPEC};
	if (!s || !s->peer)
		return a;
	a = *s->peer;
	if (a.family == AF_INET6)
		memset(&a.ip.v6.s6_addr[8], 0, 8);
	return a;
}

static void job_free(struct hook_job *j)
{
	if (j)
		buf_clear(&j->text);
	free(j);
}

/* NULL without memory. */
static struct hook_job *job_new(enum hook_name name, const char *id, const char *arg1,
                                const struct hook_session *s, int in_fd)
{
	struct hook_job *j = calloc(1, sizeof(*j));
	if (!j)
		return NULL;
	j->name = name;
	j->in_fd = in_fd;
	j->peer = peer_of(s);
	snprintf(j->id, sizeof(j->id), "%s", id);
	buf_init(&j->text, (HOOK_VARS + HOOK_ARGS) * (HOOK_VALUE_MAX + 1));
	buf_append(&j->text, kinds[name].path, strlen(kinds[name].path) + 1);
	j->args = 1;
	if (arg1) {
		buf_append(&j->text, arg1, strlen(arg1) + 1);
		j->args++;
	}
	put_environment(j, s);
	if (!j->text.failed)
		return j;
	job_free(j);
	return NULL;
}

/* ---- ends ---- */

static void start_next(void);

static void leave_run(const struct hook *h)
{
	for (size_t i = 0; i < HOOK_PARALLEL; i++)
		if (H.run[i] == h)
			H.run[i] = NULL;
	H.running--;
}

static void leave_line(struct hook *h)
{
	for (struct hook **at = &H.first; *at; at = &(*at)->next) {
		if (*at != h)
			continue;
		*at = h->next;
		H.waiting--;
		return;
	}
}

/* Gives back what the run has; the result stays. */
static void job_end(struct hook *h)
{
	struct hook_job *j = h->job;
	if (j && j->running)
		leave_run(h);
	else if (j)
		leave_line(h);
	h->job = NULL;
	job_free(j);
	start_next();
}

/* The last complete line, as chasquid takes it, else how the program ended. */
static void set_text(struct hook *h)
{
	char how[100];
	const struct proc *p = &h->proc;
	struct slice s = buf_slice(&p->output);
	const char *end = s.n > 0 ? memrchr(s.p, '\n', s.n) : NULL;
	if (end && (p->result == PROC_EXITED || p->result == PROC_SIGNALED)) {
		size_t n = (size_t)(end - s.p);
		const char *before = n > 0 ? memrchr(s.p, '\n', n) : NULL;
		const char *begin = before ? before + 1 : s.p;
		status_clean((struct slice){begin, (size_t)(end - begin)}, h->text,
		             sizeof(h->text));
	}
	if (!h->text[0] && h->result == HOOK_REJECT)
		snprintf(h->text, sizeof(h->text), "refused by local policy");
	else if (!h->text[0])
		snprintf(h->text, sizeof(h->text), "the hook %s failed: %s",
		         kinds[h->job->name].name, proc_result_text(p, how, sizeof(how)));
}

static void log_end(const struct hook *h)
{
	const struct hook_job *j = h->job;
	struct slice errors = buf_slice(&h->proc.errors);
	char text[HOOK_ERRORS_MAX + 1], how[100];
	while (errors.n > 0 && errors.p[errors.n - 1] == '\n')
		errors.n--;
	snprintf(text, sizeof(text), "%.*s", (int)errors.n, errors.p);
	if (errors.n > 0)
		log_info(j->id, "hook stderr", LOG_S("hook", kinds[j->name].name),
		         LOG_S("text", text));
	proc_result_text(&h->proc, how, sizeof(how));
	if (h->result == HOOK_FAILED)
		log_error(j->id, "hook failed", LOG_S("hook", kinds[j->name].name),
		          LOG_S("result", how), LOG_S("text", h->text));
	else
		log_info(j->id, "hook", LOG_S("hook", kinds[j->name].name), LOG_S("result", how));
}

static void on_ended(void *arg)
{
	struct hook *h = arg;
	const struct proc *p = &h->proc;
	h->result = HOOK_FAILED;
	if (p->result == PROC_EXITED && p->code == 0)
		h->result = HOOK_DONE;
	else if (p->result == PROC_EXITED && p->code == HOOK_EXIT_REJECT)
		h->result = HOOK_REJECT;
	if (h->result == HOOK_DONE)
		h->output = buf_slice(&p->output);
	else
		set_text(h);
	log_end(h);
	job_end(h);
	h->done(h->arg, h);
}

/* An end without a run. */
static void on_refused(void *arg)
{
	struct hook *h = arg;
	log_error("-", "hook not run", LOG_S("reason", h->text));
	h->done(h->arg, h);
}

/* ---- runs ---- */

/* Points at count strings one behind the other, and NULL. Returns what is behind them. */
static const char *list_strings(const char *p, size_t count, const char **to)
{
	for (size_t i = 0; i < count; i++) {
		to[i] = p;
		p += strlen(p) + 1;
	}
	to[count] = NULL;
	return p;
}

static void launch(struct hook *h)
{
	struct hook_job *j = h->job;
	const char *argv[HOOK_ARGS + 1], *envp[HOOK_VARS + 1];
	const char *rest = list_strings(buf_data(&j->text), j->args, argv);
	list_strings(rest, j->vars, envp);
	const struct proc_spec spec = {
	    .argv = argv,
	    .envp = envp,
	    .in_fd = j->in_fd,
	    .done = on_ended,
	    .arg = h,
	    .output_max = HOOK_OUTPUT_MAX,
	    .errors_max = HOOK_ERRORS_MAX,
	    .strict = true,
	    .limit_ms = kinds[j->name].limit_ms,
	};
	size_t place = 0;
	while (H.run[place])
		place++;
	H.run[place] = h;
	j->running = true;
	H.running++;
	proc_start(&h->proc, &spec);
	/* The child has its own copy: a long list of recipients is not kept while it runs. */
	buf_clear(&j->text);
}

/* How many of the peer's jobs are running? */
static unsigned peer_running(const struct dns_addr *peer)
{
	unsigned n = 0;
	for (size_t i = 0; i < HOOK_PARALLEL; i++)
		n += H.run[i] && dns_addr_equal(&H.run[i]->job->peer, peer);
	return n;
}

/* How many jobs of the session's peer wait? Those without one are not counted. */
static unsigned peer_waiting(const struct hook_session *s)
{
	unsigned n = 0;
	struct dns_addr peer;
	if (!s || !s->peer)
		return 0;
	peer = peer_of(s);
	for (const struct hook *h = H.first; h; h = h->next)
		n += dns_addr_equal(&h->job->peer, &peer);
	return n;
}

/* The one whose turn it is. */
static struct hook *take_next(void)
{
	struct hook *best = H.first;
	unsigned least = peer_running(&best->job->peer);
	for (struct hook *h = best->next; h && least > 0; h = h->next) {
		unsigned n = peer_running(&h->job->peer);
		if (n >= least)
			continue;
		best = h;
		least = n;
	}
	leave_line(best);
	return best;
}

static void start_next(void)
{
	while (H.first && H.running < HOOK_PARALLEL)
		launch(take_next());
}

static void wait_in_line(struct hook *h)
{
	struct hook **at = &H.first;
	while (*at)
		at = &(*at)->next;
	*at = h;
	H.waiting++;
}

void hook_start(struct hook *h, enum hook_name name, const char *id, const char *arg1,
                const struct hook_session *session, int in_fd,
                void (*done)(void *arg, struct hook *h), void *arg)
{
	hook_cancel(h);
	*h = (struct hook){.result = HOOK_FAILED, .done = done, .arg = arg};
	loop_timer_init(&h->timer, on_refused, h);
	bool full = H.running >= HOOK_PARALLEL && peer_waiting(session) >= HOOK_WAITING - H.waiting;
	if (!full)
		h->job = job_new(name, id, arg1, session, in_fd);
	if (!h->job) {
		snprintf(h->text, sizeof(h->text), "the hook %s cannot run now: %s",
		         kinds[name].name, full ? "too many wait for theirs" : "out of memory");
		loop_timer_set(&h->timer, 0);
	} else if (H.running < HOOK_PARALLEL) {
		launch(h);
	} else {
		wait_in_line(h);
	}
}

void hook_cancel(struct hook *h)
{
	if (!h->done)
		return;
	loop_timer_stop(&h->timer);
	proc_cancel(&h->proc);
	h->output = (struct slice){NULL, 0};
	if (h->job)
		job_end(h);
}
