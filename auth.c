/*
 * auth: is this the password of that user?
 *
 * A question goes through up to two stages: the users files, and, if these do not say yes and it is
 * enabled, Dovecot. What a users file holds is copied when the question is asked, so files may be
 * read anew meanwhile. It is compared in a child made by fork(): that takes the time, and the
 * memory, of a hash away from the loop, and its exit status is the answer. The child uses nothing
 * of its parent but a copy of the question. All questions are bounded in number (AUTH_WAITING);
 * those for a child wait in one line.
 */
#include "auth.h"

#if WITH_TLS && WITH_AUTH

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dovecot.h"
#include "kdf.h"
#include "log.h"
#include "proc_spawn.h"
#include "user.h"

struct auth_job {
	struct auth *owner;
	struct auth_job *next; /* in the line for a child */
	struct addr asked;
	struct dns_addr peer;
	bool login;   /* with a password: a "no" is delayed */
	bool counted; /* among the open questions of peer */
	bool placed;  /* among the open questions of all */
	int64_t begun;
	struct user_secret secret;
	struct dovecot dovecot;
	size_t password_n;
	char password[AUTH_PASSWORD_MAX];
};

/* A place for a hashing process. Its job is NULL when nobody waits for the answer any more. */
struct auth_child {
	struct loop_child watch;
	struct auth_job *job;
	bool busy;
};

/* An address that has failed, or has open questions. */
struct auth_peer {
	struct dns_addr addr;
	unsigned failures, open;
	int64_t since; /* the next failure is forgotten AUTH_FORGET_MS from here */
};

static struct {
	const struct conf *conf;
	struct auth_child child[AUTH_CHILDREN];
	struct auth_job *line;
	unsigned open;
	struct auth_peer peer[AUTH_ADDRESSES_MAX];
	size_t peers;
	int64_t told; /* loop_now() when a lack of room was last in the log; 0: never */
} A;

/* ---- the throttle ---- */

/* The address that counts: of IPv6 the /64 network, which one customer has for himself. */
static struct dns_addr peer_key(const struct dns_addr *a)
{
	struct dns_addr key;
	memset(&key, 0, sizeof(key));
	key.family = a->family;
	if (a->family == AF_INET6)
		memcpy(&key.ip.v6, &a->ip.v6, 8);
	else
		key.ip.v4 = a->ip.v4;
	return key;
}

static void peer_forget(struct auth_peer *p)
{
	int64_t n = (loop_now() - p->since) / AUTH_FORGET_MS;
	if (n > 0) {
		p->failures -= n < (int64_t)p->failures ? (unsigned)n : p->failures;
		p->since += n * AUTH_FORGET_MS;
	}
}

static struct auth_peer *peer_find(const struct dns_addr *addr)
{
	struct dns_addr key = peer_key(addr);
	for (size_t i = 0; i < A.peers; i++) {
		if (!dns_addr_equal(&A.peer[i].addr, &key))
			continue;
		peer_forget(&A.peer[i]);
		return &A.peer[i];
	}
	return NULL;
}

/* Finds a peer or makes an entry for it, in the place of the one with the fewest failures if need
 * be. NULL when all places have open questions. */
static struct auth_peer *peer_get(const struct dns_addr *addr)
{
	struct auth_peer *p = peer_find(addr);
	if (p)
		return p;
	if (A.peers < AUTH_ADDRESSES_MAX)
		p = &A.peer[A.peers++];
	for (size_t i = 0; !p && i < A.peers; i++)
		if (A.peer[i].open == 0)
			p = &A.peer[i];
	for (size_t i = 0; p && i < A.peers; i++) {
		struct auth_peer *other = &A.peer[i];
		peer_forget(other);
		if (other->open == 0 && other->failures < p->failures)
			p = other;
	}
	if (p)
		*p = (struct auth_peer){.addr = peer_key(addr), .since = loop_now()};
	return p;
}

bool auth_may_try(const struct dns_addr *peer)
{
	const struct auth_peer *p = peer_find(peer);
	return !p || p->failures + p->open < AUTH_FAILURES_MAX;
}

/* A question of this peer has been asked. Returns whether it was counted. */
static bool peer_ask(const struct dns_addr *peer)
{
	struct auth_peer *p = peer_get(peer);
	if (p)
		p->open++;
	return p != NULL;
}

/* It has been answered. */
static void peer_answer(const struct auth_job *j, bool failed)
{
	struct auth_peer *p = j->counted ? peer_find(&j->peer) : NULL;
	if (!p)
		return;
	if (p->open > 0)
		p->open--;
	if (failed && p->failures == 0)
		p->since = loop_now();
	if (failed && p->failures < AUTH_FAILURES_MAX)
		p->failures++;
}

/* ---- the end of a question ---- */

static void leave_place(struct auth_job *j)
{
	if (j->placed)
		A.open--;
	j->placed = false;
}

static void job_free(struct auth_job *j)
{
	leave_place(j);
	if (WITH_DOVECOT)
		dovecot_cancel(&j->dovecot);
	kdf_wipe(j, sizeof(*j));
	free(j);
}

static void tell(void *arg)
{
	struct auth *a = arg;
	if (a->job) {
		peer_answer(a->job, a->result == AUTH_NO);
		job_free(a->job);
		a->job = NULL;
	}
	a->done(a->arg, a);
}

/* "No" waits for the next multiple of the delay, everything else only for the next turn. The place
 * is free at once: else a few guesses a second, held back, would keep all others out. */
static void end(struct auth *a, enum auth_result result)
{
	int64_t wait = 0;
	a->result = result;
	if (a->job)
		leave_place(a->job);
	if (result == AUTH_NO && a->job && a->job->login)
		wait = AUTH_DELAY_MS - (loop_now() - a->job->begun) % AUTH_DELAY_MS;
	loop_timer_set(&a->timer, wait);
}

static void trouble(struct auth *a, const char *why)
{
	log_error("-", "cannot tell whether a login is good", LOG_S("reason", why));
	end(a, AUTH_TROUBLE);
}

/* There is no room for a question. Anybody can bring that about as often as he likes, so the log is
 * told of it now and then only. */
static void no_room(struct auth *a, const char *why)
{
	if (A.told != 0 && loop_now() - A.told < AUTH_TELL_MS) {
		end(a, AUTH_TROUBLE);
		return;
	}
	A.told = loop_now();
	trouble(a, why);
}

/* ---- Dovecot ---- */

static void dovecot_answered(void *arg, struct dovecot *d)
{
	struct auth *a = arg;
	struct addr said;
	if (d->result == DOVECOT_TROUBLE) {
		trouble(a, d->why);
		return;
	}
	a->user = a->job->asked;
	/* Who gave no domain is whom Dovecot took him for. */
	if (!*a->user.domain && addr_parse(slice_of(d->user), &said) == 0 && *said.user)
		a->user = said;
	end(a, d->result == DOVECOT_YES ? AUTH_YES : AUTH_NO);
}

/* The files did not say yes: Dovecot has the last word. */
static void ask_dovecot(struct auth *a, bool password)
{
	struct auth_job *j = a->job;
	const struct dovecot_paths paths = {A.conf->dovecot_userdb_path,
	                                    A.conf->dovecot_client_path, NULL};
	char id[ADDR_USER_MAX + ADDR_DOMAIN_MAX + 2];
	struct buf text;
	if (!WITH_DOVECOT || !A.conf->dovecot_auth || !*j->asked.user) {
		end(a, AUTH_NO);
		return;
	}
	buf_init(&text, sizeof(id));
	buf_puts(&text, j->asked.user);
	if (*j->asked.domain)
		buf_printf(&text, "@%s", j->asked.domain);
	if (text.failed)
		trouble(a, "out of memory");
	else if (password)
		dovecot_authenticate(&j->dovecot, &paths, buf_slice(&text),
		                     (struct slice){j->password, j->password_n}, &j->peer,
		                     dovecot_answered, a);
	else
		dovecot_exists(&j->dovecot, &paths, buf_slice(&text), dovecot_answered, a);
	buf_clear(&text);
}

/* ---- the child ---- */

enum { CHILD_YES, CHILD_NO, CHILD_TROUBLE };

/* The child's whole life. It closes its copies of all descriptors: a connection that is ended
 * meanwhile must end at once, not with the hash. */
static void child_run(const struct auth_job *j)
{
	const struct itimerval limit = {
	    .it_value = {AUTH_CHILD_MS / 1000, AUTH_CHILD_MS % 1000 * 1000}};
	sigset_t none;
	proc_spawn_clean();
	setitimer(ITIMER_REAL, &limit, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* A hash needs memory and time; a core dump would hold the password. */
	if (proc_spawn_limit(RLIMIT_CORE, 0) || proc_spawn_limit(RLIMIT_NPROC, 0) ||
	    proc_spawn_limit(RLIMIT_FSIZE, 0))
		_exit(CHILD_TROUBLE);
	/* The loop comes first on a machine with one processor. */
	setpriority(PRIO_PROCESS, 0, 10);
	int rc = user_secret_check(&j->secret, (struct slice){j->password, j->password_n});
	rc = rc < 0 ? CHILD_TROUBLE : (rc ? CHILD_YES : CHILD_NO);
	_exit(rc); /* not exit(), which would write out what the parent has buffered */
}

/* Forks with all signals blocked: a handler that ran in the child would write to the parent's
 * self-pipe. Returns the pid, or -1 with errno. */
static pid_t child_start(const struct auth_job *j)
{
	sigset_t all, before;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t pid = fork();
	if (pid == 0)
		child_run(j);
	int saved = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = saved;
	return pid;
}

static void start_next(void);

static void child_ended(void *arg, int status)
{
	struct auth_child *c = arg;
	struct auth_job *j = c->job;
	c->job = NULL;
	c->busy = false;
	if (j && WIFEXITED(status) && WEXITSTATUS(status) == CHILD_YES)
		end(j->owner, AUTH_YES);
	else if (j && WIFEXITED(status) && WEXITSTATUS(status) == CHILD_NO)
		ask_dovecot(j->owner, true);
	else if (j)
		trouble(j->owner, WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM
		                      ? "hashing the password took too long"
		                      : "hashing the password failed");
	start_next();
}

static struct auth_child *free_child(void)
{
	for (size_t i = 0; i < AUTH_CHILDREN; i++)
		if (!A.child[i].busy)
			return &A.child[i];
	return NULL;
}

/* Gives the first in the line to a free child. */
static void start_next(void)
{
	struct auth_child *c;
	while (A.line && (c = free_child())) {
		struct auth_job *j = A.line;
		A.line = j->next;
		pid_t pid = child_start(j);
		if (pid < 0) {
			trouble(j->owner, strerror(errno));
			continue;
		}
		c->busy = true;
		c->job = j;
		loop_child_watch(&c->watch, pid, child_ended, c);
	}
}

static void line_add(struct auth_job *j)
{
	struct auth_job **at = &A.line;
	while (*at)
		at = &(*at)->next;
	j->next = NULL;
	*at = j;
	start_next();
}

/* Takes the job out of the line, or from its child, which then works for nobody. */
static void line_leave(const struct auth_job *j)
{
	for (struct auth_job **at = &A.line; *at; at = &(*at)->next) {
		if (*at == j) {
			*at = j->next;
			return;
		}
	}
	for (size_t i = 0; i < AUTH_CHILDREN; i++) {
		if (A.child[i].job != j)
			continue;
		kill(A.child[i].watch.pid, SIGKILL);
		A.child[i].job = NULL;
	}
}

/* ---- who is it ---- */

/* The domain of ours that is meant: the one given; without one the only one with this user, or,
 * when that is none or several, any that has users, for its stand-in (*known is then false). */
static const struct conf_domain *find_domain(const struct addr *asked, bool *known)
{
	const struct conf_domain *only = NULL, *any = NULL;
	unsigned count = 0;
	*known = true;
	if (*asked->domain)
		return conf_domain_find(A.conf, asked->domain);
	for (size_t i = 0; i < A.conf->domain_count; i++) {
		const struct conf_domain *d = &A.conf->domain[i];
		if (user_count(d->users) > 0)
			any = d;
		if (user_exists(d->users, asked->user)) {
			only = d;
			count++;
		}
	}
	*known = count == 1;
	return count == 1 ? only : any;
}

/* Asks the files: the secret found is for a child to compare. */
static void ask_files(struct auth *a)
{
	struct auth_job *j = a->job;
	bool known;
	const struct conf_domain *d = find_domain(&j->asked, &known);
	if (d && d->unread) {
		trouble(a, "the users file cannot be read");
		return;
	}
	if (!d || user_count(d->users) == 0) {
		ask_dovecot(a, true);
		return;
	}
	if (user_secret_find(d->users, known ? j->asked.user : "", &j->secret)) {
		const char *name = user_find(d->users, j->asked.user);
		memcpy(a->user.user, name, strlen(name) + 1);
		memcpy(a->user.domain, d->name, strlen(d->name) + 1);
	}
	line_add(j);
}

/* ---- questions ---- */

void auth_init(const struct conf *conf)
{
	memset(&A, 0, sizeof(A));
	A.conf = conf;
}

void auth_done(void)
{
	for (size_t i = 0; i < AUTH_CHILDREN; i++) {
		pid_t pid = A.child[i].watch.pid;
		if (!A.child[i].busy || pid <= 0)
			continue;
		loop_child_unwatch(&A.child[i].watch);
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		A.child[i].busy = false;
	}
}

/* Prepares a question. False when there is no room for one: its end is then under way. */
static bool begin(struct auth *a, void (*done)(void *arg, struct auth *a), void *arg)
{
	memset(&a->user, 0, sizeof(a->user));
	a->done = done;
	a->arg = arg;
	a->job = NULL;
	loop_timer_init(&a->timer, tell, a);
	if (A.open < AUTH_WAITING)
		a->job = calloc(1, sizeof(*a->job));
	if (!a->job) {
		no_room(a, A.open < AUTH_WAITING ? "out of memory" : "too many wait for an answer");
		return false;
	}
	A.open++;
	a->job->placed = true;
	a->job->owner = a;
	a->job->begun = loop_now();
	return true;
}

void auth_ask(struct auth *a, struct slice id, struct slice password, const struct dns_addr *peer,
              void (*done)(void *arg, struct auth *a), void *arg)
{
	bool may = auth_may_try(peer);
	struct addr parsed;
	if (!begin(a, done, arg))
		return;
	struct auth_job *j = a->job;
	j->peer = *peer;
	if (!may) {
		end(a, AUTH_TROUBLE);
		return;
	}
	j->login = true;
	j->counted = peer_ask(peer);
	if (password.n > sizeof(j->password) || addr_parse_local(id, "", &parsed) < 0 ||
	    addr_user_key(parsed.user, j->asked.user, sizeof(j->asked.user)) < 0) {
		end(a, AUTH_NO);
		return;
	}
	memcpy(j->asked.domain, parsed.domain, sizeof(j->asked.domain));
	j->password_n = password.n;
	if (password.n > 0)
		memcpy(j->password, password.p, password.n);
	ask_files(a);
}

void auth_exists(struct auth *a, const struct addr *user, void (*done)(void *arg, struct auth *a),
                 void *arg)
{
	if (!begin(a, done, arg))
		return;
	const struct conf_domain *d = conf_domain_find(A.conf, user->domain);
	a->job->asked = *user;
	a->user = *user;
	if (d && user_exists(d->users, user->user))
		end(a, AUTH_YES);
	else if (d && d->unread)
		trouble(a, "the users file cannot be read");
	else
		ask_dovecot(a, false);
}

void auth_cancel(struct auth *a)
{
	if (a->done)
		loop_timer_stop(&a->timer);
	if (!a->job)
		return;
	line_leave(a->job);
	/* Who leaves before the answer has failed: else there were no throttle for him. */
	peer_answer(a->job, true);
	job_free(a->job);
	a->job = NULL;
}

/* ---- SASL ---- */

/* Cuts the bytes up to a NUL from the message. Returns 0, or -1 when there is none. */
static int cut_at_nul(struct slice *message, struct slice *part)
{
	const char *nul = message->n ? memchr(message->p, '\0', message->n) : NULL;
	if (!nul)
		return -1;
	*part = (struct slice){message->p, (size_t)(nul - message->p)};
	message->p += part->n + 1;
	message->n -= part->n + 1;
	return 0;
}

int auth_plain_decode(struct slice base64, struct buf *out, struct slice *id,
                      struct slice *password, const char **why)
{
	struct slice authzid, rest;
	buf_clear(out);
	if (base64_decode(base64, out) < 0) {
		*why = out->failed ? "too long" : "not base64";
		return -1;
	}
	rest = buf_slice(out);
	if (cut_at_nul(&rest, &authzid) < 0 || cut_at_nul(&rest, id) < 0 ||
	    (rest.n > 0 && memchr(rest.p, '\0', rest.n))) {
		*why = "not three parts with NUL between them";
		return -1;
	}
	if (id->n == 0) {
		*why = "no user name";
		return -1;
	}
	if (authzid.n > 0 && (authzid.n != id->n || memcmp(authzid.p, id->p, id->n) != 0)) {
		*why = "acting for another user is not possible";
		return -1;
	}
	*password = rest;
	return 0;
}

#endif
