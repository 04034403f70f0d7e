/* spf_int: what the files of spf share. A check is a machine that asks DNS one question at a time:
 * functions that return bool say whether to go on with the next term now; false means that DNS was
 * asked, or that the check has ended and is freed. */
#ifndef SPF_INT_H
#define SPF_INT_H

#include "addr.h"
#include "dns.h"
#include "loop.h"
#include "spf.h"
#include "spf_macro.h"
#include "spf_record.h"

/* More names than this would be refused, or answers cut before the limits are reached. */
#if DNS_MX_MAX <= SPF_NAMES_MAX || DNS_PTR_MAX < SPF_NAMES_MAX
#error "DNS_MX_MAX must be more than SPF_NAMES_MAX, DNS_PTR_MAX not less"
#endif

/* A record being evaluated: that of the domain, and those included, deepest first. */
struct spf_frame {
	struct spf_frame *up;
	size_t size;                /* of the record */
	struct slice rest;          /* terms still to come */
	struct slice redirect, exp; /* domain-specs; n is 0 when there is none */
	struct spf_term term;       /* the one being evaluated; slices are in the record */
	char domain[SPF_NAME_SIZE]; /* <domain>, in A-labels */
	char record[];
};

struct spf_check {
	void (*done)(void *arg, const struct spf_answer *answer);
	void *arg;
	bool over;       /* done is being called */
	bool explaining; /* the result is there, only the explanation is missing */

	/* the evaluation */
	bool found;     /* a host of `list` had an address */
	unsigned terms; /* that asked DNS */
	unsigned voids; /* of these, brought nothing */
	enum spf_load { SPF_LOAD_FIRST, SPF_LOAD_INCLUDE, SPF_LOAD_REDIRECT } load;
	struct spf_frame *top;
	size_t held; /* bytes of records in frames */
	size_t at;   /* the host of `list` that is asked for */

	/* the names of the client, asked for once at most: for ptr and %{p} */
	bool ptr_known;
	bool ptr_valid[SPF_NAMES_MAX];
	size_t ptr_at;
	bool (*ptr_then)(struct spf_check *c);
	struct dns_query ptr;

	struct dns_query query; /* TXT and addresses */
	struct dns_query list;  /* MX; the text of the explanation */
	char target[SPF_NAME_SIZE];
	struct loop_timer start;
	struct loop_timer total;
	struct spf_answer answer;

	/* the question; what of it macros need */
	struct dns_addr ip;
	int64_t now;
	size_t local;               /* bytes of the local part in sender */
	char sender[ADDR_TEXT_MAX]; /* domain in A-labels */
	char helo[ADDR_DOMAIN_MAX + 1];
	char receiver[ADDR_DOMAIN_MAX + 1];
};

/* spf.c: evaluates until DNS has to be asked. */
void spf_go_on(struct spf_check *c);

/* spf.c: ends the check. Without effect on the result while an explanation is fetched. `fmt` says
 * what is wrong with the term at hand. Returns false. */
bool spf_error(struct spf_check *c, enum spf_result r, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* spf.c: the mechanism at hand matches. */
bool spf_matched(struct spf_check *c);

/* spf.c: asks for the record of c->target. */
bool spf_load(struct spf_check *c, enum spf_load how);

/* spf.c: counts a term that asks DNS. False: too many, and the check has ended. */
bool spf_count_term(struct spf_check *c);

/* spf_term.c: evaluates the term at hand. */
bool spf_term_start(struct spf_check *c);

/* spf_term.c: expands a domain-spec into c->target. When it needs %{p}, and that is not known yet,
 * asks for it first: returns false with *name unset, and `then` is called instead. */
bool spf_target(struct spf_check *c, struct slice spec, bool (*then)(struct spf_check *c),
                enum spf_name *name);

/* spf_term.c: finds out the validated names of the client, then calls `then`. Returns false. */
bool spf_ptr_ask(struct spf_check *c, bool (*then)(struct spf_check *c));

/* spf_term.c: the values of macros in the record at hand. */
struct spf_values spf_values_of(const struct spf_check *c);

#endif
