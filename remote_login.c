/*
 * remote_login: passwords and tokens for smarthosts.
 *
 * Nothing is kept between two uses but a mark of what was refused: the file is read, the program
 * run, each time. The mark is a keyed hash of the secret, not the secret; it expires, so that a
 * server that was wrong itself is asked again.
 *
 * Secrets are in no log line; neither is what a failing program printed, which may be one.
 */
#include "remote_login.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "config.h"

/* What was refused lately. */
static struct refusal {
	uint64_t hash;
	int64_t until; /* loop_now(); 0: none */
} refused[CONF_SMARTHOSTS_MAX];

/* FNV-1a, the NUL included. */
static uint64_t hash_add(uint64_t h, const char *s)
{
	do
		h = (h ^ (unsigned char)*s) * 1099511628211U;
	while (*s++);
	return h;
}

/* Of a login at a host, with a start nobody knows: equal ones are found, no secret is. */
static uint64_t login_hash(const struct remote_login *l)
{
	static uint64_t start;
	char port[8];
	if (start == 0 && getrandom(&start, sizeof start, 0) < 0)
		start = (uintptr_t)&start;
	snprintf(port, sizeof port, "%u", (unsigned)l->host->port);
	return hash_add(hash_add(hash_add(hash_add(start, l->host->host), port), l->host->user),
	                l->secret);
}

void remote_login_refused(const struct remote_login *l)
{
	struct refusal *r = refused;
	uint64_t hash = login_hash(l);
	for (struct refusal *p = refused; p < refused + CONF_SMARTHOSTS_MAX; p++) {
		if (p->until != 0 && p->hash == hash) {
			r = p;
			break;
		}
		if (p->until < r->until)
			r = p;
	}
	*r = (struct refusal){hash, loop_now() + REMOTE_REFUSED_MS};
}

static bool was_refused(const struct remote_login *l)
{
	uint64_t hash = login_hash(l);
	for (const struct refusal *r = refused; r < refused + CONF_SMARTHOSTS_MAX; r++)
		if (loop_now() < r->until && r->hash == hash)
			return true;
	return false;
}

static void set_trouble(struct remote_login *l, const char *why)
{
	status_set(&l->why, 454, "4.7.0", "no password for smarthost %s: %s", l->host->host, why);
}

/* The secret is there, or l->why says why not. */
static void tell(void *arg)
{
	struct remote_login *l = arg;
	static const enum smtpc_mechanism mechanisms[] = {[CONF_AUTH_BEST] = SMTPC_AUTH_BEST,
	                                                  [CONF_AUTH_PLAIN] = SMTPC_AUTH_PLAIN,
	                                                  [CONF_AUTH_LOGIN] = SMTPC_AUTH_LOGIN,
	                                                  [CONF_AUTH_XOAUTH2] = SMTPC_AUTH_XOAUTH2};
	if (l->why.code == 0 && was_refused(l))
		status_set(&l->why, 454, "4.7.8",
		           "wrong credentials: smarthost %s has refused them before",
		           l->host->host);
	if (l->why.code == 0) {
		status_set(&l->why, 250, "2.0.0", "ready");
		l->login = (struct smtpc_login){.user = l->host->user,
		                                .secret = l->secret,
		                                .mechanism = mechanisms[l->host->auth]};
	}
	struct status st = l->why;
	l->done(l->arg, &st);
}

/* ---- from a program ---- */

static void take_output(struct remote_login *l, const char *text, size_t n)
{
	size_t len = 0;
	while (len < n && text[len] != '\n' && text[len] != '\r' && text[len] != '\0')
		len++;
	if (len == 0)
		set_trouble(l, "the program printed none");
	else if (len > CONF_PASSWORD_MAX)
		set_trouble(l, "what the program printed is too long");
	else
		memcpy(l->secret, text, len); /* zeroed before */
}

static void on_ended(void *arg)
{
	struct remote_login *l = arg;
	char text[80];
	if (l->proc.result == PROC_EXITED && l->proc.code == 0) {
		take_output(l, buf_data(&l->proc.output), l->proc.output.len);
	} else {
		char why[100];
		snprintf(why, sizeof why, "the program failed: %s",
		         proc_result_text(&l->proc, text, sizeof text));
		set_trouble(l, why);
	}
	if (l->proc.output.data)
		explicit_bzero(l->proc.output.data, l->proc.output.size);
	proc_cancel(&l->proc);
	tell(l);
}

/* By the shell, as operators expect of a command line; what it says on stderr is no password. */
static int start_program(struct remote_login *l)
{
	static const char prefix[] = "exec 2>/dev/null\n";
	size_t n = sizeof prefix + strlen(l->host->password_command);
	char *script = malloc(n);
	if (!script)
		return -1;
	snprintf(script, n, "%s%s", prefix, l->host->password_command);
	const char *const argv[] = {"/bin/sh", "-c", script, NULL};
	struct proc_spec spec = {.argv = argv,
	                         .in_fd = -1,
	                         .done = on_ended,
	                         .arg = l,
	                         .output_max = CONF_PASSWORD_MAX + 2,
	                         .limit_ms = REMOTE_PASSWORD_MS};
	proc_start(&l->proc, &spec);
	free(script);
	return 0;
}

/* ---- the interface ---- */

void remote_login_start(struct remote_login *l, const struct conf_smarthost *s,
                        void (*done)(void *arg, const struct status *st), void *arg)
{
	remote_login_clear(l);
	*l = (struct remote_login){.host = s, .done = done, .arg = arg};
	loop_timer_init(&l->kick, tell, l);
	l->secret = calloc(1, CONF_PASSWORD_MAX + 1);
	if (!l->secret) {
		set_trouble(l, "out of memory");
	} else if (s->password_command) {
		if (start_program(l) == 0)
			return;
		set_trouble(l, "out of memory");
	} else {
		char why[200];
		if (conf_smarthost_password(s, l->secret, CONF_PASSWORD_MAX + 1, why, sizeof why))
			set_trouble(l, why);
	}
	loop_timer_set(&l->kick, 0);
}

void remote_login_move(struct remote_login *to, struct remote_login *from)
{
	*to = (struct remote_login){
	    .login = from->login, .host = from->host, .secret = from->secret, .done = from->done};
	loop_timer_init(&to->kick, tell, to);
	from->secret = NULL;
	remote_login_clear(from);
}

void remote_login_clear(struct remote_login *l)
{
	if (!l->done)
		return;
	loop_timer_stop(&l->kick);
	if (l->proc.output.data)
		explicit_bzero(l->proc.output.data, l->proc.output.size);
	proc_cancel(&l->proc);
	if (l->secret)
		explicit_bzero(l->secret, CONF_PASSWORD_MAX + 1);
	free(l->secret);
	*l = (struct remote_login){.host = NULL};
}
