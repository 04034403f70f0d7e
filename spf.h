/* spf: may this address send mail in the name of that domain? (RFC 7208) */
#ifndef SPF_H
#define SPF_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "dns_addr.h"

enum spf_result {
	SPF_NONE,
	SPF_NEUTRAL,
	SPF_PASS,
	SPF_FAIL,
	SPF_SOFTFAIL,
	SPF_TEMPERROR,
	SPF_PERMERROR
};

/* What is asked. Copied by spf_start. */
struct spf_question {
	struct dns_addr ip;   /* of the client */
	const char *helo;     /* what it said in EHLO or HELO, any bytes */
	const char *sender;   /* of MAIL, canonical (addr_format); "<>" checks the HELO identity */
	const char *receiver; /* our name, for %{r} */
	int64_t now;          /* wall clock, s, for %{t} */
};

/* What came out. Strings are harmless (status_clean), "" when there is none. */
struct spf_answer {
	enum spf_result result;
	bool helo_identity;               /* the HELO name was checked, not the sender */
	char domain[ADDR_DOMAIN_MAX + 1]; /* the one checked, normalised; "" when it is no name */
	char mechanism[SPF_TERM_MAX + 1]; /* the term that matched: "all"; "default": none did */
	char problem[STATUS_TEXT_MAX];    /* why it is a temperror or a permerror */
	char explanation[SPF_EXPLANATION_MAX + 1]; /* of the domain (exp=), only with FAIL */
};

struct spf_check;

/*
 * Starts a check. `done` comes once, from the loop and never from inside this call, at the latest
 * after SPF_TOTAL_MS; the answer lives until it returns, and the check is freed behind it. At most
 * 10 terms that ask DNS, 2 void look-ups, 10 names per mx and ptr (RFC 7208 4.6.4), 123 questions
 * to DNS in all. NULL when there is no memory or SPF_CHECKS_MAX are under way: as good as a
 * temperror.
 */
struct spf_check *spf_start(const struct spf_question *question,
                            void (*done)(void *arg, const struct spf_answer *answer), void *arg);

/* Ends a check under way; done does not come. Harmless on NULL, and from inside done. */
void spf_cancel(struct spf_check *c);

/* "none", "neutral", "pass", "fail", "softfail", "temperror", "permerror". */
const char *spf_result_name(enum spf_result r);

#endif
