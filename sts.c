/*
 * sts: MTA-STS for the sender (RFC 8461): which policy holds for a domain.
 *
 * A flight is the search for one domain's policy, shared by all who ask for it: the TXT record,
 * then perhaps a fetch, for which at most STS_FLIGHTS_MAX have room at a time; the others wait in
 * order. Whatever fails, a cached policy holds until its time is over: who can block DNS or HTTPS
 * must not gain by it. Only a record with another id, or none in the cache, makes us fetch, and a
 * fetch that failed is not tried again soon.
 *
 * The refresh in the background keeps policies from running out while nobody can fetch them. It is
 * one fetch at a time, takes no room from flights, and gives way when they need it.
 */
#define LOG_KIND LOG_DELIVERY

#include "sts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "dns.h"
#include "https.h"
#include "log.h"
#include "loop.h"
#include "stat.h"
#include "sts_int.h"

#define STS_HOST "mta-sts."
#define STS_TXT  "_mta-sts."
#define STS_PATH "/.well-known/mta-sts.txt"

STAT_COUNTER(stat_asked, "chasquid/sts/cache/fetches", "Look-ups of a domain's MTA-STS policy");
STAT_COUNTER(stat_hits, "chasquid/sts/cache/hits", "Look-ups that the cache answered");
STAT_COUNTER(stat_failed, "chasquid/sts/cache/failedFetch", "Policies that could not be fetched");
STAT_COUNTER(stat_fetched, "sts/fetched", "Policies fetched for a delivery");
STAT_COUNTER(stat_cycles, "chasquid/sts/cache/refreshCycles",
             "Rounds of refreshing the whole cache");
STAT_COUNTER(stat_refreshes, "chasquid/sts/cache/refreshes", "Policies fetched anew in these");
STAT_COUNTER(stat_not_refreshed, "chasquid/sts/cache/refreshErrors",
             "Policies that could not be fetched anew");

enum flight_state { FLIGHT_TXT, FLIGHT_WAITS, FLIGHT_FETCHES, FLIGHT_ENDS };

struct sts_flight {
	struct sts *sts;
	struct sts_flight *next;
	enum flight_state state;
	struct sts_query *queries;
	struct https *fetch;
	bool has_cached;
	struct dns_query txt;
	struct sts_cached cached;
	char id[STS_ID_MAX + 1];
	char domain[ADDR_DOMAIN_MAX + 1];
	char host[ADDR_DOMAIN_MAX + 1]; /* mta-sts.DOMAIN, asked by https */
};

/* A domain whose fetch failed. */
struct failed {
	char *domain;  /* NULL: free */
	int64_t until; /* ms, monotonic */
};

struct sts {
	struct sts_cache *cache;
	struct tls_roots *roots;
	int64_t (*now)(void);
	struct sts_flight *flights; /* oldest first */
	unsigned fetches;           /* of flights */
	struct loop_timer slots;    /* there may be room for flights that wait */
	struct sts_query *nothing;  /* questions whose answer is that there is none */
	struct loop_timer say_nothing;
	struct failed failed[STS_FAILED_MAX];
	struct loop_timer sweep;
	struct https *refresh; /* under way */
	char refresh_domain[ADDR_DOMAIN_MAX + 1];
	char refresh_host[ADDR_DOMAIN_MAX + 1];
};

/* ---- names ---- */

/* prefix + A-labels of a normalised domain. Returns 0, or -1: there is no such name. */
static int name_of(const char *prefix, const char *domain, char *out, size_t size)
{
	char normal[ADDR_DOMAIN_MAX + 1], ascii[ADDR_DOMAIN_MAX + 1];
	if (addr_is_literal(domain) ||
	    addr_domain_normalise(slice_of(domain), normal, sizeof normal) ||
	    strcmp(normal, domain) != 0 || addr_domain_to_ascii(domain, ascii, sizeof ascii) ||
	    !addr_domain_is_valid_hostname(ascii))
		return -1;
	int n = snprintf(out, size, "%s%s", prefix, ascii);
	return n > 0 && (size_t)n < size && n <= 253 ? 0 : -1;
}

/* ---- fetches that failed ---- */

static struct failed *failed_find(struct sts *s, const char *domain)
{
	for (struct failed *f = s->failed; f < s->failed + STS_FAILED_MAX; f++)
		if (f->domain && strcmp(f->domain, domain) == 0)
			return f;
	return NULL;
}

static bool failed_lately(struct sts *s, const char *domain)
{
	const struct failed *f = failed_find(s, domain);
	return f && loop_now() < f->until;
}

/* In place of the same domain, or of the one whose time is over first: that of a free one is 0. */
static void failed_note(struct sts *s, const char *domain)
{
	struct failed *f = failed_find(s, domain);
	if (!f) {
		f = s->failed;
		for (struct failed *i = f + 1; i < s->failed + STS_FAILED_MAX; i++)
			if (i->until < f->until)
				f = i;
		free(f->domain);
		f->domain = strdup(domain);
	}
	f->until = f->domain ? loop_now() + STS_RETRY_MS : 0;
}

/* ---- a fetched policy ---- */

/* Reads what was fetched. Returns 0, or -1 with *st. */
static int sts_take(const struct sts *s, struct slice content, const char *id, struct sts_cached *e,
                    struct status *st)
{
	int64_t now = s->now();
	if (sts_policy_parse(content, &e->policy, st))
		return -1;
	snprintf(e->id, sizeof e->id, "%s", id);
	/* It is at least as late as that; a clock that says otherwise will be set later. */
	e->fetched = now < CLOCK_RELEASE ? CLOCK_RELEASE : now;
	return 0;
}

static struct https *sts_get(struct sts *s, const char *host,
                             void (*done)(void *, const struct status *, struct slice), void *arg)
{
	struct https_request request = {.host = host,
	                                .path = STS_PATH,
	                                .type = "text/plain",
	                                .max = STS_POLICY_MAX,
	                                .limit_ms = STS_FETCH_MS};
	return https_get(&request, s->roots, done, arg);
}

/* ---- flights ---- */

static void flight_unlink(struct sts_flight *f)
{
	struct sts_flight **p = &f->sts->flights;
	while (*p && *p != f)
		p = &(*p)->next;
	if (*p)
		*p = f->next;
}

static bool sts_has_waiting(const struct sts *s)
{
	for (const struct sts_flight *f = s->flights; f; f = f->next)
		if (f->state == FLIGHT_WAITS)
			return true;
	return false;
}

/* The fetch of a flight is over. */
static void flight_landed(struct sts_flight *f)
{
	struct sts *s = f->sts;
	f->fetch = NULL;
	if (f->state == FLIGHT_FETCHES)
		s->fetches--;
	if (sts_has_waiting(s))
		loop_timer_set(&s->slots, 0);
}

static void flight_free(struct sts_flight *f)
{
	dns_cancel(&f->txt);
	if (f->fetch) {
		https_cancel(f->fetch);
		flight_landed(f);
	}
	flight_unlink(f);
	sts_policy_clear(&f->cached.policy);
	free(f);
}

/* Answers all who asked. */
static void flight_end(struct sts_flight *f, const struct sts_policy *p)
{
	struct sts_query *q;
	/* From here on a new question is a new flight, and nobody cancels this one. */
	flight_unlink(f);
	f->state = FLIGHT_ENDS;
	while ((q = f->queries)) {
		f->queries = q->next;
		q->flight = NULL;
		q->sts = NULL;
		q->done(q->arg, p);
	}
	flight_free(f);
}

/* The answer when nothing better can be had. */
static void flight_end_cached(struct sts_flight *f)
{
	bool holds = f->has_cached && !sts_cached_is_over(&f->cached, f->sts->now());
	if (holds)
		stat_add(&stat_hits, 1);
	flight_end(f, holds ? &f->cached.policy : NULL);
}

static void flight_failed(struct sts_flight *f, const struct status *st)
{
	bool holds = f->has_cached && !sts_cached_is_over(&f->cached, f->sts->now());
	stat_add(&stat_failed, 1);
	log_info("-", "sts policy not fetched", LOG_S("domain", f->domain), LOG_S("text", st->text),
	         LOG_S("cached", holds ? sts_mode_name(f->cached.policy.mode) : ""));
	failed_note(f->sts, f->domain);
	flight_end_cached(f);
}

static void on_fetched(void *arg, const struct status *st, struct slice content)
{
	struct sts_flight *f = arg;
	struct sts *s = f->sts;
	struct sts_cached fresh;
	struct status bad;
	flight_landed(f);
	if (status_class(st) != STATUS_DONE) {
		flight_failed(f, st);
		return;
	}
	if (sts_take(s, content, f->id, &fresh, &bad)) {
		flight_failed(f, &bad);
		return;
	}
	stat_add(&stat_fetched, 1);
	log_info("-", "sts policy fetched", LOG_S("domain", f->domain), LOG_S("id", f->id),
	         LOG_S("mode", sts_mode_name(fresh.policy.mode)),
	         LOG_N("max_age", fresh.policy.max_age));
	sts_cache_store(s->cache, f->domain, &fresh, s->now());
	flight_end(f, &fresh.policy);
	sts_policy_clear(&fresh.policy);
}

static void flight_fetch(struct sts_flight *f)
{
	struct status st;
	f->fetch = sts_get(f->sts, f->host, on_fetched, f);
	if (!f->fetch) {
		status_set(&st, 451, "4.3.0", "out of memory");
		flight_failed(f, &st);
		return;
	}
	f->state = FLIGHT_FETCHES;
	f->sts->fetches++;
}

static void refresh_give_way(struct sts *s);

static void on_slots(void *arg)
{
	struct sts *s = arg;
	struct sts_flight *f = s->flights;
	while (f && f->state != FLIGHT_WAITS)
		f = f->next;
	if (!f || s->fetches >= STS_FLIGHTS_MAX)
		return;
	if (s->refresh && s->fetches + 1 >= STS_FLIGHTS_MAX)
		refresh_give_way(s);
	/* The rest next turn: answers may have changed everything. */
	loop_timer_set(&s->slots, 0);
	flight_fetch(f);
}

/* The id that the domain announces. Returns 0, or -1 when there is none. */
static int flight_read_txt(struct sts_flight *f, const struct dns_query *q)
{
	const struct slice *ours = NULL;
	if (q->result != DNS_OK || q->truncated)
		return -1;
	for (size_t i = 0; i < q->count; i++) {
		if (!sts_record_is_ours(q->txt[i]))
			continue;
		if (ours)
			return -1;
		ours = &q->txt[i];
	}
	return ours ? sts_record_id(*ours, f->id) : -1;
}

static void on_txt(void *arg, struct dns_query *q)
{
	struct sts_flight *f = arg;
	struct sts *s = f->sts;
	int64_t now = s->now();
	f->has_cached = sts_cache_load(s->cache, f->domain, &f->cached) == 0;
	bool same = false;
	if (flight_read_txt(f, q)) {
		flight_end_cached(f);
		return;
	}
	if (f->has_cached && !sts_cached_is_over(&f->cached, now))
		same = strcmp(f->id, f->cached.id) == 0;
	if (same || failed_lately(s, f->domain)) {
		flight_end_cached(f);
		return;
	}
	f->state = FLIGHT_WAITS;
	loop_timer_set(&s->slots, 0);
}

/* ---- questions ---- */

static struct sts_flight *flight_find(const struct sts *s, const char *domain)
{
	for (struct sts_flight *f = s->flights; f; f = f->next)
		if (strcmp(f->domain, domain) == 0)
			return f;
	return NULL;
}

static struct sts_flight *flight_start(struct sts *s, const char *domain)
{
	char txt[ADDR_DOMAIN_MAX + 1];
	struct sts_flight *f = calloc(1, sizeof *f);
	struct sts_flight **p = &s->flights;
	if (!f)
		return NULL;
	if (name_of(STS_TXT, domain, txt, sizeof txt) ||
	    name_of(STS_HOST, domain, f->host, sizeof f->host)) {
		free(f);
		return NULL;
	}
	stat_add(&stat_asked, 1);
	f->sts = s;
	snprintf(f->domain, sizeof f->domain, "%s", domain);
	while (*p)
		p = &(*p)->next;
	*p = f;
	dns_txt(&f->txt, slice_of(txt), on_txt, f);
	return f;
}

/* One a turn, so that who asks again at once does not keep us here. */
static void on_say_nothing(void *arg)
{
	struct sts *s = arg;
	struct sts_query *q = s->nothing;
	s->nothing = q->next;
	if (s->nothing)
		loop_timer_set(&s->say_nothing, 0);
	q->sts = NULL;
	q->done(q->arg, NULL);
}

static void query_append(struct sts_query **list, struct sts_query *q)
{
	while (*list)
		list = &(*list)->next;
	*list = q;
}

void sts_find(struct sts *s, struct sts_query *q, const char *domain,
              void (*done)(void *arg, const struct sts_policy *p), void *arg)
{
	sts_cancel(q);
	*q = (struct sts_query){.sts = s, .done = done, .arg = arg};
	q->flight = flight_find(s, domain);
	if (!q->flight)
		q->flight = flight_start(s, domain);
	if (q->flight) {
		query_append(&q->flight->queries, q);
	} else {
		query_append(&s->nothing, q);
		loop_timer_set(&s->say_nothing, 0);
	}
}

void sts_cancel(struct sts_query *q)
{
	struct sts *s = q->sts;
	struct sts_flight *f = q->flight;
	if (!s)
		return;
	struct sts_query **p = f ? &f->queries : &s->nothing;
	while (*p && *p != q)
		p = &(*p)->next;
	if (*p)
		*p = q->next;
	q->sts = NULL;
	q->flight = NULL;
	if (f && !f->queries && f->state != FLIGHT_ENDS)
		flight_free(f);
	if (!s->nothing)
		loop_timer_stop(&s->say_nothing);
}

/* ---- the refresh ---- */

static void refresh_failed(struct sts *s, const struct status *st)
{
	stat_add(&stat_not_refreshed, 1);
	log_info("-", "sts policy not refreshed", LOG_S("domain", s->refresh_domain),
	         LOG_S("text", st->text));
}

static void on_refreshed(void *arg, const struct status *st, struct slice content)
{
	struct sts *s = arg;
	struct sts_cached old, fresh;
	struct status bad;
	s->refresh = NULL;
	loop_timer_set(&s->sweep, 0);
	if (status_class(st) != STATUS_DONE) {
		refresh_failed(s, st);
		return;
	}
	/* Meanwhile it may have been fetched under a new id, or be gone. */
	if (sts_cache_load(s->cache, s->refresh_domain, &old))
		return;
	if (sts_take(s, content, old.id, &fresh, &bad)) {
		refresh_failed(s, &bad);
	} else {
		log_debug("-", "sts policy refreshed", LOG_S("domain", s->refresh_domain));
		sts_cache_store(s->cache, s->refresh_domain, &fresh, s->now());
		sts_policy_clear(&fresh.policy);
	}
	sts_policy_clear(&old.policy);
}

/* Its room is needed; the domain's turn comes again with the next sweep. */
static void refresh_give_way(struct sts *s)
{
	https_cancel(s->refresh);
	s->refresh = NULL;
	loop_timer_set(&s->sweep, STS_FETCH_MS);
}

/* Takes the next step of going through the cache. */
static void on_sweep(void *arg)
{
	struct sts *s = arg;
	int64_t now = s->now();
	if (s->fetches >= STS_FLIGHTS_MAX) {
		loop_timer_set(&s->sweep, STS_FETCH_MS);
		return;
	}
	sts_cache_expire(s->cache, now);
	const char *domain = sts_cache_next_due(s->cache, now);
	if (!domain) {
		stat_add(&stat_cycles, 1);
		loop_timer_set(&s->sweep, STS_REFRESH_MS);
		return;
	}
	snprintf(s->refresh_domain, sizeof s->refresh_domain, "%s", domain);
	if (name_of(STS_HOST, domain, s->refresh_host, sizeof s->refresh_host) == 0)
		s->refresh = sts_get(s, s->refresh_host, on_refreshed, s);
	stat_add(&stat_refreshes, s->refresh != NULL);
	if (!s->refresh)
		loop_timer_set(&s->sweep, STS_REFRESH_MS);
}

/* ---- opening ---- */

struct sts *sts_open(const char *data_dir, struct tls_roots *roots, int64_t (*now)(void),
                     struct status *st)
{
	struct sts *s = calloc(1, sizeof *s);
	if (!s) {
		status_set(st, 451, "4.3.0", "out of memory");
		return NULL;
	}
	s->cache = sts_cache_open(data_dir, st);
	if (!s->cache) {
		free(s);
		return NULL;
	}
	s->roots = roots;
	s->now = now;
	loop_timer_init(&s->slots, on_slots, s);
	loop_timer_init(&s->say_nothing, on_say_nothing, s);
	loop_timer_init(&s->sweep, on_sweep, s);
	/* A minute later rather than now: the network may not be up yet. */
	loop_timer_set(&s->sweep, STS_REFRESH_MS / 60);
	return s;
}

static void queries_drop(struct sts_query **list)
{
	struct sts_query *q;
	while ((q = *list)) {
		*list = q->next;
		q->sts = NULL;
		q->flight = NULL;
	}
}

void sts_close(struct sts *s)
{
	if (!s)
		return;
	queries_drop(&s->nothing);
	for (struct sts_flight *f = s->flights, *next; f; f = next) {
		next = f->next;
		queries_drop(&f->queries);
		flight_free(f);
	}
	if (s->refresh)
		https_cancel(s->refresh);
	loop_timer_stop(&s->slots);
	loop_timer_stop(&s->say_nothing);
	loop_timer_stop(&s->sweep);
	for (size_t i = 0; i < STS_FAILED_MAX; i++)
		free(s->failed[i].domain);
	sts_cache_close(s->cache);
	free(s);
}
