/* test_remote_tls: the order of authority, every case of it, and the judge.
 * link: fake_client_tls.c
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_client_tls.h"
#include "remote_tls.h"

static bool dane_matches;

bool dane_match(const struct dane_records *r, const struct tls *t, const char *const *names,
                size_t count, const char **why)
{
	assert_non_null(r);
	(void)t, (void)names, (void)count;
	*why = "no TLSA record matches";
	return dane_matches;
}

enum { P, I, S }; /* REMOTE_PLAIN, _TLS_INSECURE, _TLS_SECURE */
enum { D, M, K, O };
static const enum remote_authority authorities[] = {REMOTE_BY_DANE, REMOTE_BY_STS,
                                                    REMOTE_BY_DOMAININFO, REMOTE_BY_NOBODY};

/* What is right, written down by hand: for each state of DANE and of MTA-STS three cells, one a
 * level of domaininfo (PLAIN, TLS_INSECURE, TLS_SECURE): minimum, authority, refused at once. */
static const struct {
	enum dane_state dane;
	enum remote_sts sts;
	struct cell {
		int min, by;
		bool refused;
	} cell[3];
} table[] = {
    {DANE_NONE, REMOTE_STS_NONE, {{P, O, 0}, {I, K, 0}, {S, K, 0}}},
    {DANE_NONE, REMOTE_STS_TESTING, {{P, O, 0}, {I, K, 0}, {S, K, 0}}},
    {DANE_NONE, REMOTE_STS_TESTING_UNLISTED, {{P, O, 0}, {I, K, 0}, {S, K, 0}}},
    {DANE_NONE, REMOTE_STS_ENFORCE, {{S, M, 0}, {S, M, 0}, {S, M, 0}}},
    {DANE_NONE, REMOTE_STS_ENFORCE_UNLISTED, {{S, M, 1}, {S, M, 1}, {S, M, 1}}},
    {DANE_USABLE, REMOTE_STS_NONE, {{S, D, 0}, {S, D, 0}, {S, D, 0}}},
    {DANE_USABLE, REMOTE_STS_TESTING, {{S, D, 0}, {S, D, 0}, {S, D, 0}}},
    {DANE_USABLE, REMOTE_STS_TESTING_UNLISTED, {{S, D, 0}, {S, D, 0}, {S, D, 0}}},
    {DANE_USABLE, REMOTE_STS_ENFORCE, {{S, D, 0}, {S, D, 0}, {S, D, 0}}},
    {DANE_USABLE, REMOTE_STS_ENFORCE_UNLISTED, {{S, D, 0}, {S, D, 0}, {S, D, 0}}},
    {DANE_UNUSABLE, REMOTE_STS_NONE, {{I, D, 0}, {I, D, 0}, {S, K, 0}}},
    {DANE_UNUSABLE, REMOTE_STS_TESTING, {{I, D, 0}, {I, D, 0}, {S, K, 0}}},
    {DANE_UNUSABLE, REMOTE_STS_TESTING_UNLISTED, {{I, D, 0}, {I, D, 0}, {S, K, 0}}},
    {DANE_UNUSABLE, REMOTE_STS_ENFORCE, {{S, M, 0}, {S, M, 0}, {S, M, 0}}},
    {DANE_UNUSABLE, REMOTE_STS_ENFORCE_UNLISTED, {{S, M, 1}, {S, M, 1}, {S, M, 1}}},
    {DANE_FAILED, REMOTE_STS_NONE, {{S, D, 1}, {S, D, 1}, {S, D, 1}}},
    {DANE_FAILED, REMOTE_STS_TESTING, {{S, D, 1}, {S, D, 1}, {S, D, 1}}},
    {DANE_FAILED, REMOTE_STS_TESTING_UNLISTED, {{S, D, 1}, {S, D, 1}, {S, D, 1}}},
    {DANE_FAILED, REMOTE_STS_ENFORCE, {{S, D, 1}, {S, D, 1}, {S, D, 1}}},
    {DANE_FAILED, REMOTE_STS_ENFORCE_UNLISTED, {{S, D, 1}, {S, D, 1}, {S, D, 1}}},
};

static const enum domaininfo_level levels[] = {DOMAININFO_PLAIN, DOMAININFO_TLS_INSECURE,
                                               DOMAININFO_TLS_SECURE};

static void test_order(void **state)
{
	(void)state;
	size_t cases = 0;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		for (int k = 0; k < 3; k++) {
			struct remote_known known = {table[i].dane, table[i].sts, levels[k]};
			const struct cell *want = &table[i].cell[k];
			struct remote_policy p = remote_policy_for(&known);
			assert_int_equal(p.min, want->min);
			assert_int_equal(p.by, authorities[want->by]);
			assert_int_equal(p.refused != NULL, want->refused);
			assert_int_equal(p.by_tlsa, table[i].dane == DANE_USABLE);
			assert_int_equal(remote_policy_allows_plain(&p), want->min == P);
			bool testing = table[i].sts == REMOTE_STS_TESTING ||
			               table[i].sts == REMOTE_STS_TESTING_UNLISTED;
			bool heard = table[i].dane == DANE_NONE || table[i].dane == DANE_UNUSABLE;
			assert_int_equal(p.testing, testing && heard ? table[i].sts : 0);
			assert_int_equal(p.tls, SMTPC_TLS_STARTTLS);
			assert_null(p.pinned);
			cases++;
		}
	}
	assert_int_equal(cases, 4 * REMOTE_STS_STATES * 3);
}

/* Incoming levels mean nothing here. */
static void test_incoming_level(void **state)
{
	(void)state;
	struct remote_known known = {.level = DOMAININFO_TLS_CLIENT};
	assert_int_equal(remote_policy_for(&known).min, REMOTE_PLAIN);
}

static enum remote_level judged(const struct remote_policy *p, int want)
{
	enum remote_level level;
	const char *why;
	assert_int_equal(remote_policy_judge(p, NULL, &level, &why), want);
	assert_int_equal(*why == '\0', level == REMOTE_TLS_SECURE);
	return level;
}

static void test_judge(void **state)
{
	(void)state;
	for (int min = P; min <= S; min++) {
		for (int i = 0; i < 4; i++) {
			struct remote_policy p = {.min = (enum remote_level)min};
			fake_client_tls.peer =
			    (struct tls_peer){.chain_good = i & 1, .name_good = i & 2, .why = "x"};
			int got = i == 3 ? S : I;
			assert_int_equal(judged(&p, got >= min ? 0 : -1), got);
		}
	}
}

/* TLSA records replace the check by authorities, both ways. */
static void test_judge_by_tlsa(void **state)
{
	(void)state;
	static const struct dane_records records = {.state = DANE_USABLE};
	for (int i = 0; i < 4; i++) {
		struct remote_policy p = {
		    .min = REMOTE_TLS_SECURE, .by_tlsa = true, .dane = &records};
		bool good = i & 1;
		fake_client_tls.peer = (struct tls_peer){.chain_good = good, .name_good = good};
		dane_matches = i & 2;
		assert_int_equal(judged(&p, i & 2 ? 0 : -1), i & 2 ? S : I);
	}
}

static void test_texts(void **state)
{
	(void)state;
	struct status st;
	struct remote_policy p = {.min = REMOTE_TLS_SECURE, .by = REMOTE_BY_DOMAININFO};
	remote_policy_refuse(&p, "mx.example", REMOTE_TLS_INSECURE, "self-signed", &st);
	assert_int_equal(status_class(&st), STATUS_TRANSIENT);
	assert_string_equal(
	    st.text, "mx.example must be TLS_SECURE (domaininfo), got TLS_INSECURE: self-signed");
	struct remote_known failed = {.dane = DANE_FAILED};
	p = remote_policy_for(&failed);
	remote_policy_refuse(&p, "mx.example", REMOTE_PLAIN, "", &st);
	assert_int_equal(status_class(&st), STATUS_TRANSIENT);
	assert_non_null(strstr(st.text, "mx.example may not be used (DANE): its TLSA records"));
	for (int i = 0; i < REMOTE_AUTHORITIES; i++)
		assert_non_null(remote_authority_name((enum remote_authority)i));
}

static void test_reports(void **state)
{
	(void)state;
	struct remote_policy p = {.testing = REMOTE_STS_TESTING};
	assert_non_null(remote_policy_reports(&p, REMOTE_PLAIN));
	assert_non_null(remote_policy_reports(&p, REMOTE_TLS_INSECURE));
	assert_null(remote_policy_reports(&p, REMOTE_TLS_SECURE));
	p.testing = REMOTE_STS_TESTING_UNLISTED;
	assert_non_null(remote_policy_reports(&p, REMOTE_TLS_SECURE));
	p.testing = REMOTE_STS_NONE;
	assert_null(remote_policy_reports(&p, REMOTE_PLAIN));
}

static void test_smarthost(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct conf_smarthost s = {.tls = i == 2 ? CONF_TLS_NONE : CONF_TLS_STARTTLS,
		                           .insecure = i == 1};
		struct remote_policy p = remote_policy_smarthost(&s);
		assert_int_equal(p.min, S - i);
		assert_int_equal(p.by, REMOTE_BY_CONF);
		assert_false(p.by_tlsa);
	}
}

static void test_levels_are_recorded_as_themselves(void **state)
{
	(void)state;
	for (int i = P; i <= S; i++)
		assert_string_equal(remote_level_name((enum remote_level)i),
		                    ((const char *[]){"PLAIN", "TLS_INSECURE", "TLS_SECURE"})[i]);
	assert_int_equal(remote_level_known_as(REMOTE_PLAIN), DOMAININFO_PLAIN);
	assert_int_equal(remote_level_known_as(REMOTE_TLS_INSECURE), DOMAININFO_TLS_INSECURE);
	assert_int_equal(remote_level_known_as(REMOTE_TLS_SECURE), DOMAININFO_TLS_SECURE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_order),
	    cmocka_unit_test(test_incoming_level),
	    cmocka_unit_test(test_judge),
	    cmocka_unit_test(test_judge_by_tlsa),
	    cmocka_unit_test(test_texts),
	    cmocka_unit_test(test_reports),
	    cmocka_unit_test(test_smarthost),
	    cmocka_unit_test(test_levels_are_recorded_as_themselves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
