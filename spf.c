/*
 * spf: check_host() of RFC 7208, on the loop.
 *
 * A check is a stack of records (frames): the domain's own, and one for each include that is being
 * looked into; a redirect takes the place of the frame it stands in. Both count as terms that ask
 * DNS, so the stack is at most 1 + SPF_TERMS_MAX deep, and nothing here calls itself.
 *
 * Memory of a check: about 3 KB, 0.6 KB a frame, the records under way (SPF_RECORDS_MAX in all) and
 * the answers of one MX and one PTR look-up. DNS questions of a check: its own record; ten terms of
 * at most 1 + SPF_NAMES_MAX each; the text of the explanation, and for it the names of the client,
 * unless known: 1 + 10 * 11 + 1 + 11 = 123 at most.
 *
 * Only "pass" and "fail" have consequences, so what is not certain (a cut answer, a failing server)
 * is a temperror, never a guess.
 */
#include "spf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spf_int.h"

static unsigned checks; /* under way */

/* ---- frames ------------------------------------------------------------------------------- */

static void frame_pop(struct spf_check *c)
{
	struct spf_frame *f = c->top;
	c->top = f->up;
	c->held -= f->size;
	free(f);
}

/* Puts the record of c->target on the stack. Returns false when the check has ended. */
static bool frame_push(struct spf_check *c, struct slice record)
{
	struct slice wrong;
	if (c->load == SPF_LOAD_REDIRECT)
		frame_pop(c);
	if (record.n > SPF_RECORD_MAX || c->held + record.n > SPF_RECORDS_MAX)
		return spf_error(c, SPF_PERMERROR, "record too long");
	struct spf_frame *f = calloc(1, sizeof *f + record.n + 1);
	if (!f)
		return spf_error(c, SPF_TEMPERROR, "out of memory");
	memcpy(f->record, record.p, record.n);
	memcpy(f->domain, c->target, sizeof f->domain);
	f->size = record.n;
	f->up = c->top;
	c->top = f;
	c->held += f->size;
	const char *why = spf_record_check((struct slice){f->record, f->size}, &f->rest,
	                                   &f->redirect, &f->exp, &wrong);
	if (!why)
		return true;
	f->term = (struct spf_term){.text = wrong};
	return spf_error(c, SPF_PERMERROR, "%s", why);
}

/* ---- the end ------------------------------------------------------------------------------ */

static void check_free(struct spf_check *c)
{
	dns_cancel(&c->query);
	dns_cancel(&c->list);
	dns_cancel(&c->ptr);
	loop_timer_stop(&c->start);
	loop_timer_stop(&c->total);
	while (c->top)
		frame_pop(c);
	free(c);
	checks--;
}

static bool check_end(struct spf_check *c)
{
	loop_timer_stop(&c->total);
	c->over = true;
	c->done(c->arg, &c->answer);
	check_free(c);
	return false;
}

bool spf_error(struct spf_check *c, enum spf_result r, const char *fmt, ...)
{
	char why[STATUS_TEXT_MAX];
	const struct spf_frame *f = c->top;
	struct slice term = f ? f->term.text : slice_of("");
	if (c->explaining)
		return check_end(c);
	int n = snprintf(why, sizeof why, "%s: %.*s%s", f ? f->domain : c->target,
	                 term.n < SPF_TERM_MAX ? (int)term.n : SPF_TERM_MAX, term.p,
	                 term.n > 0 ? ": " : "");
	if (n > 0 && (size_t)n < sizeof why) {
		va_list ap;
		va_start(ap, fmt);
		vsnprintf(why + n, sizeof why - (size_t)n, fmt, ap);
		va_end(ap);
	}
	status_clean(slice_of(why), c->answer.problem, sizeof c->answer.problem);
	c->answer.result = r;
	return check_end(c);
}

static void check_late(void *arg)
{
	spf_error(arg, SPF_TEMPERROR, "not finished in time");
}

/* ---- the explanation (RFC 7208 6.2): any failure means that there is none ---------------------
 */

static bool explain_write(struct spf_check *c)
{
	struct spf_values v = spf_values_of(c);
	char text[SPF_EXPLANATION_MAX + 1];
	spf_macro_text(c->list.txt[0], &v, text, sizeof text);
	status_clean(slice_of(text), c->answer.explanation, sizeof c->answer.explanation);
	return check_end(c);
}

static void explain_done(void *arg, struct dns_query *q)
{
	struct spf_check *c = arg;
	if (q->result != DNS_OK || q->count != 1 || q->truncated ||
	    !spf_macro_is_valid(q->txt[0], SPF_IN_EXPLANATION))
		check_end(c);
	else if (!c->ptr_known && spf_macro_wants_p(q->txt[0]))
		spf_ptr_ask(c, explain_write);
	else
		explain_write(c);
}

static bool explain(struct spf_check *c)
{
	enum spf_name name;
	if (!spf_target(c, c->top->exp, explain, &name))
		return false;
	if (name != SPF_NAME_OK)
		return check_end(c);
	dns_txt(&c->list, slice_of(c->target), explain_done, c);
	return false;
}

/* ---- results ------------------------------------------------------------------------------ */

/* The record on top has come to a result. In an include it is the match of that term, or none. */
static bool frame_result(struct spf_check *c, enum spf_result r)
{
	while (c->top->up) {
		frame_pop(c);
		if (r != SPF_PASS)
			return true;
		r = c->top->term.result;
	}
	c->answer.result = r;
	struct slice term = c->top->term.text;
	status_clean(term.n > 0 ? term : slice_of("default"), c->answer.mechanism,
	             sizeof c->answer.mechanism);
	if (r != SPF_FAIL || c->top->exp.n == 0)
		return check_end(c);
	c->explaining = true;
	return explain(c);
}

bool spf_matched(struct spf_check *c)
{
	dns_cancel(&c->list); /* hosts of an mx that need no looking at */
	return frame_result(c, c->top->term.result);
}

/* ---- records ------------------------------------------------------------------------------ */

bool spf_count_term(struct spf_check *c)
{
	if (++c->terms > SPF_TERMS_MAX)
		return spf_error(c, SPF_PERMERROR, "more than %d terms that ask DNS",
		                 SPF_TERMS_MAX);
	return true;
}

/* There is no record (RFC 7208 4.5, 5.2, 6.1). */
static bool record_none(struct spf_check *c)
{
	if (c->load == SPF_LOAD_FIRST)
		return check_end(c);
	return spf_error(c, SPF_PERMERROR, "no SPF record there");
}

static bool record_choose(struct spf_check *c, const struct dns_query *q)
{
	struct slice record = {NULL, 0};
	unsigned found = 0;
	if (q->result != DNS_OK && q->result != DNS_NO_NAME && q->result != DNS_NO_DATA &&
	    q->result != DNS_BAD_NAME)
		return spf_error(c, SPF_TEMPERROR, "%s", dns_result_text(q->result));
	for (size_t i = 0; i < q->count; i++) {
		if (!spf_record_is_spf(q->txt[i]))
			continue;
		record = q->txt[i];
		found++;
	}
	if (found > 1)
		return spf_error(c, SPF_PERMERROR, "more than one SPF record");
	/* Among those that were cut off there may be another. */
	if (q->truncated)
		return spf_error(c, SPF_TEMPERROR, "too many TXT records");
	return found == 0 ? record_none(c) : frame_push(c, record);
}

static void record_done(void *arg, struct dns_query *q)
{
	struct spf_check *c = arg;
	if (!record_choose(c, q))
		return;
	dns_cancel(q); /* gives the answer's memory back */
	spf_go_on(c);
}

bool spf_load(struct spf_check *c, enum spf_load how)
{
	c->load = how;
	/* RFC 7208 4.3: a name with one label has no record. */
	if (!strchr(c->target, '.'))
		return record_none(c);
	dns_txt(&c->query, slice_of(c->target), record_done, c);
	return false;
}

static bool redirect_go(struct spf_check *c)
{
	enum spf_name name;
	if (!spf_target(c, c->top->redirect, redirect_go, &name))
		return false;
	c->load = SPF_LOAD_REDIRECT;
	return name == SPF_NAME_OK ? spf_load(c, SPF_LOAD_REDIRECT) : record_none(c);
}

/* No term matched (RFC 7208 4.7). */
static bool frame_end(struct spf_check *c)
{
	struct spf_frame *f = c->top;
	f->term = (struct spf_term){.kind = SPF_REDIRECT};
	if (f->redirect.n == 0)
		return frame_result(c, SPF_NEUTRAL);
	f->term.text = f->redirect;
	return spf_count_term(c) && redirect_go(c);
}

void spf_go_on(struct spf_check *c)
{
	bool more = true;
	while (more)
		more = spf_record_next(&c->top->rest, &c->top->term) > 0 ? spf_term_start(c)
		                                                         : frame_end(c);
}

/* ---- start -------------------------------------------------------------------------------- */

static void check_start(void *arg)
{
	struct spf_check *c = arg;
	if (c->target[0] == '\0')
		check_end(c);
	else
		spf_load(c, SPF_LOAD_FIRST);
}

/* The identity (RFC 7208 2.3, 2.4, 4.3): local part, domain, and c->target to begin with. */
static void identity_set(struct spf_check *c, const struct spf_question *q)
{
	const char *sender = q->sender ? q->sender : "";
	const char *domain = q->helo ? q->helo : "";
	struct slice local = slice_of("postmaster");
	c->answer.helo_identity = sender[0] == '\0' || strcmp(sender, "<>") == 0;
	if (!c->answer.helo_identity) {
		const char *at = strrchr(sender, '@');
		domain = at ? at + 1 : sender;
		if (at && at > sender)
			local = (struct slice){sender, (size_t)(at - sender)};
	}
	if (local.n > 2 * ADDR_USER_MAX + 2)
		local.n = 2 * ADDR_USER_MAX + 2;
	char ascii[ADDR_DOMAIN_MAX + 1] = "";
	char *normal = c->answer.domain;
	if (addr_domain_normalise(slice_of(domain), normal, sizeof c->answer.domain) ||
	    addr_is_literal(normal) || addr_domain_to_ascii(normal, ascii, sizeof ascii) ||
	    strlen(ascii) >= SPF_NAME_SIZE)
		ascii[0] = normal[0] = '\0';
	memcpy(c->target, ascii, strlen(ascii) + 1);
	c->local = local.n;
	snprintf(c->sender, sizeof c->sender, "%.*s@%s", (int)local.n, local.p, ascii);
}

/* IPv4 that comes in by an IPv6 socket is IPv4 (RFC 7208 5). */
static struct dns_addr address_unmapped(const struct dns_addr *a)
{
	struct dns_addr v4 = {.family = AF_INET};
	if (a->family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->ip.v6))
		return *a;
	memcpy(&v4.ip.v4, a->ip.v6.s6_addr + 12, sizeof v4.ip.v4);
	return v4;
}

struct spf_check *spf_start(const struct spf_question *question,
                            void (*done)(void *arg, const struct spf_answer *answer), void *arg)
{
	struct spf_check *c = checks < SPF_CHECKS_MAX ? calloc(1, sizeof *c) : NULL;
	if (!c)
		return NULL;
	checks++;
	c->done = done;
	c->arg = arg;
	c->ip = address_unmapped(&question->ip);
	c->now = question->now;
	snprintf(c->helo, sizeof c->helo, "%s", question->helo ? question->helo : "");
	snprintf(c->receiver, sizeof c->receiver, "%s",
	         question->receiver && *question->receiver ? question->receiver : "unknown");
	identity_set(c, question);
	loop_timer_init(&c->start, check_start, c);
	loop_timer_set(&c->start, 0);
	loop_timer_init(&c->total, check_late, c);
	loop_timer_set(&c->total, SPF_TOTAL_MS);
	return c;
}

void spf_cancel(struct spf_check *c)
{
	if (c && !c->over)
		check_free(c);
}

const char *spf_result_name(enum spf_result r)
{
	static const char *const names[] = {
	    [SPF_NONE] = "none",           [SPF_NEUTRAL] = "neutral",
	    [SPF_PASS] = "pass",           [SPF_FAIL] = "fail",
	    [SPF_SOFTFAIL] = "softfail",   [SPF_TEMPERROR] = "temperror",
	    [SPF_PERMERROR] = "permerror",
	};
	size_t i = (size_t)r;
	return i < sizeof names / sizeof *names ? names[i] : "none";
}
