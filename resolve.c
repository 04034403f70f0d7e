/*
 * resolve: where an address leads to, when others than the files have to be asked.
 *
 * alias_walk goes through all look-ups at once; where it lacks an answer it ends. The answer is
 * fetched, kept for this one address, and the walk begins anew. So the order of look-ups stands in
 * one place, and files that are read anew meanwhile do no harm. Bounded in number, bytes and time.
 */
#define LOG_KIND LOG_SESSION

#include "resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"
#include "config.h"
#include "hook.h"
#include "log.h"
#include "loop.h"
#include "stat.h"

enum { STAT_SKIP, STAT_FAIL, STAT_PARSE_ERR, STAT_SUCCESS, STAT_RESULTS };
STAT_VECTOR(stat_hook, "chasquid/aliases/hookResults", "result",
            "Addresses at hooks/alias-resolve; skip: there is none", STAT_RESULTS,
            "resolve:skip resolve:fail resolve:parse_err resolve:success");

struct resolve_answer {
	enum alias_question question;
	char *address;
	bool yes;
	struct buf items; /* of the hook */
};

struct resolve {
	const struct conf *conf;
	struct addr addr;
	void (*done)(void *arg, const struct status *st, const struct resolve_found *found,
	             size_t count);
	void *arg;
	int64_t until;
	bool hooked; /* there is a hook */
	bool ended;
	char id[SPOOL_ID_MAX + 1];
	struct loop_timer step;
	struct hook hook;
	struct auth auth;
	struct status st;

	struct resolve_answer *answer;
	size_t answers;
	size_t bytes; /* of their items */

	enum alias_question question; /* the one the walk ended with */
	struct addr asked;

	struct buf text; /* destinations: type, address, NUL, via, NUL */
	size_t found;
};

/* ---- ends ---- */

static void resolve_free(struct resolve *r)
{
	loop_timer_stop(&r->step);
	hook_cancel(&r->hook);
	auth_cancel(&r->auth);
	while (r->answers > 0) {
		struct resolve_answer *a = &r->answer[--r->answers];
		buf_clear(&a->items);
		free(a->address);
	}
	free(r->answer);
	buf_clear(&r->text);
	free(r);
}

static void resolve_end(struct resolve *r, const struct resolve_found *found)
{
	r->ended = true;
	r->done(r->arg, &r->st, found, found ? r->found : 0);
	resolve_free(r);
}

static void resolve_later(struct resolve *r, const char *why)
{
	status_set_text(&r->st, 451, "4.3.0", why);
	resolve_end(r, NULL);
}

/* ---- answers ---- */

/* The buffer of destinations moves while it grows: the list is made when all are there. */
static void resolve_hand_out(struct resolve *r)
{
	const char *p = buf_data(&r->text);
	struct resolve_found *list = calloc(r->found, sizeof(*list));
	if (!list || r->text.failed) {
		free(list);
		resolve_later(r, "not enough memory to resolve the address");
		return;
	}
	for (size_t i = 0; i < r->found; i++) {
		list[i].type = (enum alias_type)(*p++ - '0');
		list[i].address = p;
		p += strlen(p) + 1;
		list[i].via = *p ? p : NULL;
		p += strlen(p) + 1;
	}
	status_set(&r->st, 250, "2.1.5", "ok");
	resolve_end(r, list);
	free(list);
}

static int resolve_note(void *arg, enum alias_type type, const char *address, const char *via)
{
	struct resolve *r = arg;
	buf_putc(&r->text, (char)('0' + type));
	buf_append(&r->text, address, strlen(address) + 1);
	buf_append(&r->text, via ? via : "", via ? strlen(via) + 1 : 1);
	r->found++;
	return 0;
}

static const struct resolve_answer *resolve_find(const struct resolve *r, enum alias_question q,
                                                 const char *address)
{
	for (size_t i = 0; i < r->answers; i++)
		if (r->answer[i].question == q && strcmp(r->answer[i].address, address) == 0)
			return &r->answer[i];
	return NULL;
}

static int resolve_know(void *arg, enum alias_question q, const struct addr *a, const char **items)
{
	struct resolve *r = arg;
	char address[ADDR_TEXT_MAX];
	if (q == ALIAS_HOOK ? !r->hooked
	                    : !(WITH_TLS && WITH_AUTH && WITH_DOVECOT && r->conf->dovecot_auth))
		return 0;
	if (addr_format(a, address, sizeof(address)) < 0)
		return 0;
	const struct resolve_answer *known = resolve_find(r, q, address);
	if (known) {
		*items = known->yes ? buf_data(&known->items) : NULL;
		return 0;
	}
	r->question = q;
	r->asked = *a;
	return 1;
}

/* Keeps an answer; takes the items. -1 without memory. */
static int resolve_keep(struct resolve *r, bool yes, struct buf *items)
{
	char address[ADDR_TEXT_MAX];
	struct resolve_answer *grown = realloc(r->answer, (r->answers + 1) * sizeof(*grown));
	if (!grown)
		return -1;
	r->answer = grown;
	addr_format(&r->asked, address, sizeof(address)); /* it did before */
	struct resolve_answer *a = &grown[r->answers];
	*a = (struct resolve_answer){
	    .question = r->question, .address = strdup(address), .yes = yes};
	if (!a->address)
		return -1;
	buf_init(&a->items, 0);
	if (items) {
		r->bytes += items->len;
		a->items = *items;
	}
	r->answers++;
	return 0;
}

static void resolve_step(void *arg);

static void resolve_hook_failed(struct resolve *r)
{
	resolve_later(r, "the aliases of this address cannot be told now");
}

static void resolve_hook_done(void *arg, struct hook *h)
{
	struct resolve *r = arg;
	char why[256];
	struct buf items;
	if (h->result != HOOK_DONE) {
		stat_add_at(&stat_hook, STAT_FAIL, 1);
		resolve_hook_failed(r);
		return;
	}
	buf_init(&items, ALIAS_RESULTS_BYTES - r->bytes);
	if (alias_read_right(h->output, HOOK_DIR "/alias-resolve", r->asked.domain, &items, why,
	                     sizeof(why)) < 0) {
		stat_add_at(&stat_hook, STAT_PARSE_ERR, 1);
		log_error(r->id, "hook output not understood", LOG_S("user", r->asked.user),
		          LOG_S("domain", r->asked.domain), LOG_S("reason", why));
		buf_clear(&items);
		resolve_hook_failed(r);
	} else if (resolve_keep(r, items.len > 0, &items) < 0) {
		buf_clear(&items);
		resolve_later(r, "not enough memory to resolve the address");
	} else {
		stat_add_at(&stat_hook, STAT_SUCCESS, 1);
		resolve_step(r);
	}
}

#if WITH_TLS && WITH_AUTH

static void resolve_user_done(void *arg, struct auth *a)
{
	struct resolve *r = arg;
	if (a->result == AUTH_TROUBLE)
		resolve_later(r, "cannot tell now whether there is such a user");
	else if (resolve_keep(r, a->result == AUTH_YES, NULL) < 0)
		resolve_later(r, "not enough memory to resolve the address");
	else
		resolve_step(r);
}

static void resolve_ask_user(struct resolve *r)
{
	auth_exists(&r->auth, &r->asked, resolve_user_done, r);
}

#else

/* Without logins there is no Dovecot, and nothing comes here. */
static void resolve_ask_user(struct resolve *r)
{
	resolve_later(r, "cannot tell now whether there is such a user");
}

#endif

static void resolve_ask(struct resolve *r)
{
	char address[ADDR_TEXT_MAX];
	if (r->answers >= RESOLVE_ASKS_MAX || loop_now() >= r->until) {
		log_error(r->id, "an address takes too many look-ups, or too long",
		          LOG_S("user", r->addr.user), LOG_S("domain", r->addr.domain),
		          LOG_N("questions", r->answers));
		resolve_later(r, "the aliases of this address lead to too many others");
	} else if (r->question == ALIAS_USER) {
		resolve_ask_user(r);
	} else {
		addr_format(&r->asked, address, sizeof(address)); /* it did before */
		hook_start(&r->hook, HOOK_ALIAS_RESOLVE, r->id, address, NULL, -1,
		           resolve_hook_done, r);
	}
}

/* Walks, as far as the answers go. */
static void resolve_step(void *arg)
{
	struct resolve *r = arg;
	int rc = alias_walk(r->conf, &r->addr, resolve_know, resolve_note, r, &r->st);
	if (rc > 0)
		resolve_ask(r);
	else if (rc < 0)
		resolve_end(r, NULL);
	else
		resolve_hand_out(r);
}

/* ---- the interface ---- */

struct resolve *resolve_start(const struct conf *conf, const char *id, const struct addr *a,
                              void (*done)(void *arg, const struct status *st,
                                           const struct resolve_found *found, size_t count),
                              void *arg)
{
	struct resolve *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->conf = conf;
	r->addr = *a;
	r->done = done;
	r->arg = arg;
	r->until = loop_now() + RESOLVE_TOTAL_MS;
	r->hooked = hook_exists(HOOK_ALIAS_RESOLVE);
	stat_add_at(&stat_hook, STAT_SKIP, !r->hooked);
	snprintf(r->id, sizeof(r->id), "%s", id);
	buf_init(&r->text, ALIAS_RESULTS_BYTES);
	loop_timer_init(&r->step, resolve_step, r);
	loop_timer_set(&r->step, 0);
	return r;
}

void resolve_cancel(struct resolve *r)
{
	if (r && !r->ended)
		resolve_free(r);
}
