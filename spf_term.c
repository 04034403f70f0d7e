/*
 * spf_term: the mechanisms (RFC 7208 5), and the client's validated names (5.5, 7.3).
 *
 * Each mechanism asks one question at a time and goes on from the callback. Queries of one term are
 * at most 1 + SPF_NAMES_MAX; those for the names of the client are made once a check.
 */
#include <string.h>
#include <strings.h>

#include "spf_int.h"

/* ---- addresses ---------------------------------------------------------------------------- */

static bool address_matches(const struct spf_check *c, const struct dns_addr *a)
{
	const struct spf_term *t = &c->top->term;
	unsigned bits = a->family == AF_INET6 ? t->prefix6 : t->prefix4;
	unsigned char x[16] = {0};
	unsigned char y[16] = {0};
	size_t n = a->family == AF_INET6 ? 16 : 4;
	if (a->family != c->ip.family)
		return false;
	memcpy(x, &a->ip, n);
	memcpy(y, &c->ip.ip, n);
	if (memcmp(x, y, bits / 8) != 0)
		return false;
	unsigned rest = bits % 8;
	return rest == 0 || ((x[bits / 8] ^ y[bits / 8]) >> (8 - rest)) == 0;
}

/* Without an answer, but for a reason that lasts: there is no such thing. */
static bool is_void(enum dns_result r)
{
	return r == DNS_NO_NAME || r == DNS_NO_DATA;
}

/* A term brought nothing (RFC 7208 4.6.4). */
static bool count_void(struct spf_check *c)
{
	if (++c->voids > SPF_VOID_MAX)
		return spf_error(c, SPF_PERMERROR, "too many look-ups without an answer");
	return true;
}

/* What all look-ups of a mechanism have in common when there is nothing to compare. A name that is
 * none matches nothing (4.8); nothing was asked for it, so it is not void. */
static bool no_answer(struct spf_check *c, enum dns_result r)
{
	if (is_void(r))
		return count_void(c);
	if (r == DNS_BAD_NAME)
		return true;
	return spf_error(c, SPF_TEMPERROR, "%s", dns_result_text(r));
}

/* Is the client among the addresses? */
static bool answer_matches(const struct spf_check *c, const struct dns_query *q)
{
	for (size_t i = 0; i < q->count; i++)
		if (address_matches(c, &q->addrs[i]))
			return true;
	return false;
}

static void address_done(void *arg, struct dns_query *q)
{
	struct spf_check *c = arg;
	bool more;
	if (q->result != DNS_OK)
		more = no_answer(c, q->result);
	else if (c->top->term.kind == SPF_EXISTS || answer_matches(c, q))
		more = spf_matched(c);
	else if (q->truncated)
		more = spf_error(c, SPF_TEMPERROR, "too many addresses");
	else
		more = true;
	if (more)
		spf_go_on(c);
}

/* ---- mx ----------------------------------------------------------------------------------- */

static void mx_host_done(void *arg, struct dns_query *q);

/* The next host of the list; the null MX is none. */
static bool mx_next(struct spf_check *c)
{
	while (c->at < c->list.count && c->list.mx[c->at].host[0] == '\0')
		c->at++;
	if (c->at < c->list.count) {
		dns_family(&c->query, slice_of(c->list.mx[c->at].host), c->ip.family, mx_host_done,
		           c);
		return false;
	}
	bool null_mx = dns_is_null_mx(&c->list);
	dns_cancel(&c->list);
	return c->found || null_mx ? true : count_void(c);
}

static void mx_host_done(void *arg, struct dns_query *q)
{
	struct spf_check *c = arg;
	bool more;
	if (q->result == DNS_OK && answer_matches(c, q)) {
		more = spf_matched(c);
	} else if (q->result == DNS_OK && q->truncated) {
		more = spf_error(c, SPF_TEMPERROR, "too many addresses");
	} else if (q->result == DNS_OK || is_void(q->result) || q->result == DNS_BAD_NAME) {
		c->found = c->found || q->result == DNS_OK;
		c->at++;
		more = mx_next(c);
	} else {
		more = spf_error(c, SPF_TEMPERROR, "%s", dns_result_text(q->result));
	}
	if (more)
		spf_go_on(c);
}

static void mx_done(void *arg, struct dns_query *q)
{
	struct spf_check *c = arg;
	bool more;
	c->at = 0;
	c->found = false;
	if (q->result != DNS_OK)
		more = no_answer(c, q->result);
	else if (q->count > SPF_NAMES_MAX)
		more = spf_error(c, SPF_PERMERROR, "more than %d MX hosts", SPF_NAMES_MAX);
	else
		more = mx_next(c);
	if (more)
		spf_go_on(c);
}

/* ---- the names of the client -------------------------------------------------------------- */

static void ptr_name_done(void *arg, struct dns_query *q);

static bool ptr_next(struct spf_check *c)
{
	if (c->ptr_at < c->ptr.count && c->ptr_at < SPF_NAMES_MAX) {
		dns_family(&c->query, slice_of(c->ptr.names[c->ptr_at]), c->ip.family,
		           ptr_name_done, c);
		return false;
	}
	c->ptr_known = true;
	return c->ptr_then(c);
}

static void ptr_name_done(void *arg, struct dns_query *q)
{
	struct spf_check *c = arg;
	for (size_t i = 0; i < q->count && !c->ptr_valid[c->ptr_at]; i++)
		c->ptr_valid[c->ptr_at] = dns_addr_equal(&q->addrs[i], &c->ip);
	c->ptr_at++;
	if (ptr_next(c))
		spf_go_on(c);
}

static void ptr_done(void *arg, struct dns_query *q)
{
	struct spf_check *c = arg;
	(void)q;
	if (ptr_next(c))
		spf_go_on(c);
}

bool spf_ptr_ask(struct spf_check *c, bool (*then)(struct spf_check *c))
{
	c->ptr_then = then;
	dns_ptr(&c->ptr, &c->ip, ptr_done, c);
	return false;
}

/* Is the name the domain (0), below it (1), or neither (2)? */
static int name_distance(const char *name, const char *domain)
{
	size_t n = strlen(name);
	size_t d = strlen(domain);
	if (n < d || strcasecmp(name + n - d, domain) != 0)
		return 2;
	if (n == d)
		return 0;
	return name[n - d - 1] == '.' ? 1 : 2;
}

/* The validated name closest to the domain; NULL when there is none. */
static const char *ptr_best(const struct spf_check *c, const char *domain, int *distance)
{
	const char *best = NULL;
	*distance = 3;
	for (size_t i = 0; c->ptr_known && i < c->ptr_at; i++) {
		int d = name_distance(c->ptr.names[i], domain);
		if (!c->ptr_valid[i] || d >= *distance)
			continue;
		*distance = d;
		best = c->ptr.names[i];
	}
	return best;
}

static bool ptr_compare(struct spf_check *c)
{
	int distance;
	/* Any failure means: no names (RFC 7208 5.5). */
	if (is_void(c->ptr.result))
		return count_void(c);
	ptr_best(c, c->target, &distance);
	return distance < 2 ? spf_matched(c) : true;
}

/* ---- macros ------------------------------------------------------------------------------- */

struct spf_values spf_values_of(const struct spf_check *c)
{
	int distance;
	const char *p = ptr_best(c, c->top->domain, &distance);
	return (struct spf_values){
	    .sender = slice_of(c->sender),
	    .local = {c->sender, c->local},
	    .sender_domain = slice_of(c->sender + c->local + 1),
	    .domain = slice_of(c->top->domain),
	    .helo = slice_of(c->helo),
	    .receiver = slice_of(c->receiver),
	    .validated = slice_of(p ? p : "unknown"),
	    .ip = &c->ip,
	    .now = c->now,
	};
}

bool spf_target(struct spf_check *c, struct slice spec, bool (*then)(struct spf_check *c),
                enum spf_name *name)
{
	if (!c->ptr_known && spf_macro_wants_p(spec)) {
		/* The PTR look-up of a macro is one of the ten (RFC 7208 4.6.4). */
		if (!c->explaining && !spf_count_term(c))
			return false;
		return spf_ptr_ask(c, then);
	}
	struct spf_values v = spf_values_of(c);
	*name = spf_macro_domain(spec, &v, c->target);
	return true;
}

/* ---- terms -------------------------------------------------------------------------------- */

/* c->target is known. */
static bool term_ask(struct spf_check *c)
{
	struct slice target = slice_of(c->target);
	switch (c->top->term.kind) {
	case SPF_INCLUDE:
		return spf_load(c, SPF_LOAD_INCLUDE);
	case SPF_MX:
		dns_mx(&c->list, target, mx_done, c);
		return false;
	case SPF_PTR:
		return c->ptr_known ? ptr_compare(c) : spf_ptr_ask(c, ptr_compare);
	case SPF_EXISTS:
		dns_family(&c->query, target, AF_INET, address_done, c);
		return false;
	default:
		dns_family(&c->query, target, c->ip.family, address_done, c);
		return false;
	}
}

static bool term_target(struct spf_check *c)
{
	const struct spf_term *t = &c->top->term;
	enum spf_name name;
	if (t->domain.n == 0) {
		memcpy(c->target, c->top->domain, sizeof c->target);
		return term_ask(c);
	}
	if (!spf_target(c, t->domain, term_target, &name))
		return false;
	if (name == SPF_NAME_OK)
		return term_ask(c);
	if (name == SPF_NAME_BAD && t->kind == SPF_INCLUDE)
		return spf_error(c, SPF_PERMERROR, "not a legal domain name");
	return true;
}

bool spf_term_start(struct spf_check *c)
{
	const struct spf_term *t = &c->top->term;
	switch (t->kind) {
	case SPF_ALL:
		return spf_matched(c);
	case SPF_IP4:
	case SPF_IP6:
		return address_matches(c, &t->net) ? spf_matched(c) : true;
	case SPF_REDIRECT:
	case SPF_EXP:
	case SPF_UNKNOWN:
		return true;
	default:
		return spf_count_term(c) && term_target(c);
	}
}
