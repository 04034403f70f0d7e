/*
 * Unit tests of smtpd_spf: verdicts on senders, what they lead to, the wait for them, the fields
 * that tell of them, forged ones, incoming levels. link: fake_spool.c fake_tls.c fake_spf.c
 * link: fake_resolve.c fake_hook.c
 */
#include "domaininfo.h"
#include "smtpd_help.h"

static struct smtpd_peer loopback;

#define E             "EHLO client.test\r\n"
#define R             "RCPT TO:<alice@here.test>\r\n"
#define D             "DATA\r\n"
#define X             "Subject: x\r\n\r\ntext\r\n.\r\n"
#define FROM(domain)  "MAIL FROM:<a@" domain ">\r\n"
#define FROM8(domain) "MAIL FROM:<a@" domain "> SMTPUTF8\r\n"

/* ---- what is known of domains, as domaininfo.h has it ---------------------------------------- */

struct domaininfo {
	char raised[300]; /* the one domain that has shown TLS; "" for none */
	char seen[300];   /* the last one noted */
	enum domaininfo_level level;
	unsigned notes;
};

static struct domaininfo known;

enum domaininfo_level domaininfo_level(const struct domaininfo *di, enum domaininfo_way way,
                                       const char *domain)
{
	assert_int_equal(way, DOMAININFO_IN);
	return strcmp(domain, di->raised) == 0 ? DOMAININFO_TLS_CLIENT : DOMAININFO_PLAIN;
}

void domaininfo_saw(struct domaininfo *di, enum domaininfo_way way, const char *domain,
                    enum domaininfo_level level)
{
	assert_int_equal(way, DOMAININFO_IN);
	snprintf(di->seen, sizeof di->seen, "%s", domain);
	di->level = level;
	di->notes++;
	if (level > DOMAININFO_PLAIN)
		memcpy(di->raised, di->seen, sizeof di->raised);
}

/* ---- helpers -------------------------------------------------------------------------------- */

static void forget(void)
{
	fake_reset();
	assert_int_equal(fake_spf.waiting, 0);
	fake_spf = (struct fake_spf){.asked = 0};
	known = (struct domaininfo){.notes = 0};
	fake_setup.domaininfo = &known;
}

static void end(struct talk *t)
{
	talk_end(t);
	assert_int_equal(fake_spf.waiting, 0);
	assert_int_equal(fake_open(), 0);
	assert_int_equal(fake.reserved, 0);
}

static int64_t count(const char *result)
{
	char name[STAT_NAME_MAX];
	snprintf(name, sizeof name, "chasquid/smtpIn/spfResultCount{result=%s}", result);
	return counter(name);
}

/* ---- verdicts ------------------------------------------------------------------------------- */

static void test_verdicts(void **state)
{
	static const struct {
		const char *result;
		const char *codes; /* of EHLO, MAIL, RCPT */
		const char *said;
	} cases[] = {
	    {"none", "250 250 250 ", "sender ok"},
	    {"neutral", "250 250 250 ", "sender ok"},
	    {"pass", "250 250 250 ", "sender ok"},
	    {"softfail", "250 250 250 ", "sender ok"},
	    {"permerror", "250 250 250 ", "sender ok"},
	    {"fail", "250 550 503 ",
	     "550 5.7.23 SPF: 192.0.2.1 may not send mail from fail.x.test\r\n"},
	    {"temperror", "250 451 503 ",
	     "451 4.7.24 SPF: the policy of temperror.x.test cannot be had now: it is "
	     "\"broken\"\r\n"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct talk t;
		char in[200];
		int64_t before = count(cases[i].result);
		forget();
		snprintf(in, sizeof in, E "MAIL FROM:<A@%s.X.test>\r\n" R, cases[i].result);
		talk_start(&t, &stranger);
		expect(&t, in, cases[i].codes);
		said(&t, cases[i].said);
		assert_int_equal(fake_spf.asked, 1);
		assert_int_equal(count(cases[i].result), before + 1);
		snprintf(in, sizeof in, "A@%s.x.test", cases[i].result);
		assert_string_equal(fake_spf.sender, in);
		assert_string_equal(fake_spf.helo, "client.test");
		assert_string_equal(fake_spf.receiver, "here.test");
		assert_true(dns_addr_equal(&fake_spf.ip, &stranger.addr));
		/* Another sender starts anew. */
		if (!t.s->txn)
			expect(&t, FROM("pass.test") R D X, "250 250 354 250 ");
		end(&t);
	}
}

static void test_explanation(void **state)
{
	struct talk t;
	(void)state;
	forget();
	talk_start(&t, &stranger);
	expect(&t, E FROM("fail-why.test") FROM("fail-why.test"), "250 550 550 ");
	said(&t,
	     "550 5.7.23 SPF: 192.0.2.1 may not send mail from fail-why.test, which explains: go "
	     "away\r\n");
#if WITH_IDN
	expect(&t, FROM8("fail-why.m\xc3\xbcll.test"), "550 ");
	said(&t, "from fail-why.xn--mll-hoa.test, which");
#endif
	end(&t);
}

/* <> has no domain: the name of EHLO stands for it. */
static void test_null_sender(void **state)
{
	struct talk t;
	(void)state;
	forget();
	talk_start(&t, &stranger);
	expect(&t, "EHLO fail.client.test\r\nMAIL FROM:<>\r\n", "250 550 ");
	said(&t, "may not send mail from fail.client.test");
	expect(&t, "HELO pass.client.test\r\nMAIL FROM:<>\r\n" R D X, "250 250 250 354 250 ");
	assert_int_equal(fake_spf.asked, 2);
	said(&t, "250 2.1.0");
	const char *field = buf_str(&fake.content);
	assert_non_null(strstr(field, "here.test; spf=pass smtp.helo=pass.client.test\r\n"));
	assert_non_null(strstr(field, "identity=helo;"));
	assert_null(strstr(field, "envelope-from"));
	/* A pass for the EHLO name raises nobody's level. */
	assert_int_equal(known.notes, 0);
	end(&t);
}

/* Who needs no permission is not asked for it, and nothing is written of it. */
static void test_unchecked(void **state)
{
	struct smtpd_peer six = loopback;
	struct smtpd_peer *peers[] = {&friendly, &local, &loopback, &six};
	(void)state;
	six.addr = (struct dns_addr){.family = AF_INET6, .ip.v6 = IN6ADDR_LOOPBACK_INIT};
	for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++) {
		struct talk t;
		forget();
		talk_start(&t, peers[i]);
		expect(&t, E FROM("fail.test") R D X, "250 250 250 354 250 ");
		assert_int_equal(fake_spf.asked, 0);
		assert_int_equal(known.notes, 0);
		assert_int_equal(strncmp(buf_str(&fake.content), "Received: ", 10), 0);
		end(&t);
	}
}

static void test_login(void **state)
{
	static const char auth[] = "AUTH PLAIN AGFsaWNlQGhlcmUudGVzdABzZWNyZXQ=\r\n";
	struct talk t;
	(void)state;
	forget();
	fake_setup.certs = fake_certs;
	talk_start(&t, &stranger);
	expect(&t, E "STARTTLS\r\n", "250 220 ");
	expect(&t, E, "250 ");
	expect(&t, auth, "235 ");
	expect(&t, "MAIL FROM:<alice@here.test>\r\n" R D X, "250 250 354 250 ");
	assert_int_equal(fake_spf.asked, 0);
	assert_null(strstr(buf_str(&fake.content), "spf="));
	end(&t);
}

/* Everything else about MAIL comes first, the transaction last. */
static void test_order(void **state)
{
	struct talk t;
	(void)state;
	forget();
	talk_start(&t, &stranger);
	expect(&t,
	       E "MAIL FROM:<a@fail.test> FOO=1\r\nMAIL FROM:<a@fail.test> SIZE=9999999\r\n"
	         "MAIL FROM:<a@fail..test>\r\n",
	       "250 555 552 501 ");
	assert_int_equal(fake_spf.asked, 0);
	t.hold = true;
	expect(&t, FROM("pass.test"), "");
	assert_int_equal(fake.reserved, 0);
	fake.queue_full = true;
	assert_true(fake_spf_run());
	talk_settle(&t);
	said(&t, "452 4.3.1 queue full");
	t.hold = false;
	expect(&t, R, "503 ");
	fake.queue_full = false;
	fake_spf.no_memory = true;
	expect(&t, FROM("pass2.test"), "451 ");
	fake_spf.no_memory = false;
	expect(&t, FROM("pass2.test"), "250 ");
	end(&t);
}

/* Refusals count as errors, at once and behind the wait. */
static void test_errors(void **state)
{
	struct talk t;
	(void)state;
	for (int again = 0; again < 2; again++) {
		forget();
		talk_start(&t, &stranger);
		expect(&t, E, "250 ");
		for (int i = 1; i < SMTPD_ERRORS_MAX; i++) {
			char in[64];
			snprintf(in, sizeof in, "MAIL FROM:<a@fail.n%d.test>\r\n", again ? 0 : i);
			expect(&t, in, "550 ");
		}
		expect(&t, FROM("fail.n0.test") "NOOP\r\n", "421 ");
		assert_null(t.s);
		end(&t);
	}
}

/* ---- the wait ------------------------------------------------------------------------------- */

static void test_waiting(void **state)
{
	struct talk t;
	(void)state;
	forget();
	talk_start(&t, &stranger);
	t.hold = true;
	expect(&t, E FROM("pass.test") R D "Subject: x\r\n", "250 ");
	assert_int_equal(t.s->state, SMTPD_CHECK);
	assert_false(loop_timer_is_set(&smtpd_io(t.s)->timer));
	expect(&t, "\r\n.\r\nNOOP\r\n", "");
	assert_true(fake_spf_run());
	talk_settle(&t);
	t.hold = false;
	talk_settle(&t);
	said(&t, "250 2.1.0 sender ok\r\n250 2.1.5 recipient ok\r\n354 ");
	said(&t, "queued as id1\r\n250 2.0.0 ok\r\n");
	/* Its own side closed: it gets its replies. */
	t.hold = true;
	expect(&t, FROM("pass.two.test") "QUIT\r\n", "");
	talk_eof(&t);
	assert_non_null(t.s);
	t.hold = false;
	talk_settle(&t);
	said(&t, "250 2.1.0 sender ok\r\n221 2.0.0 bye\r\n");
	assert_null(t.s);
	end(&t);
	/* Lost: its place stays taken until DNS is done with its question. */
	talk_start(&t, &stranger);
	t.hold = true;
	expect(&t, E FROM("pass.test"), "250 ");
	known.notes = 0;
	talk_event(&t, IO_ERROR);
	assert_non_null(t.s);
	assert_false(smtpd_is_ending(t.s));
	assert_int_equal(fake_spf.waiting, 1);
	assert_true(fake_spf_run());
	assert_null(t.s);
	assert_int_equal(known.notes, 0);
	end(&t);
	/* Lost, and ended by us. */
	talk_start(&t, &stranger);
	t.hold = true;
	expect(&t, E FROM("pass.test"), "250 ");
	talk_event(&t, IO_ERROR);
	end(&t);
	assert_int_equal(fake_spf.cancelled, 1);
	/* Ended by us. */
	talk_start(&t, &stranger);
	t.hold = true;
	expect(&t, E FROM("pass.test"), "250 ");
	end(&t);
	assert_int_equal(fake_spf.cancelled, 2);
	/* Asked to leave: at the next command. */
	talk_start(&t, &stranger);
	t.hold = true;
	expect(&t, E FROM("pass.test"), "250 ");
	smtpd_ask_to_leave(t.s);
	assert_false(smtpd_is_ending(t.s));
	t.hold = false;
	talk_settle(&t);
	said(&t, "250 2.1.0");
	expect(&t, R, "421 ");
	assert_null(t.s);
	end(&t);
	/* The same after a refusal: the session is idle then. */
	talk_start(&t, &stranger);
	t.hold = true;
	expect(&t, E FROM("fail.test"), "250 ");
	smtpd_ask_to_leave(t.s);
	t.hold = false;
	talk_settle(&t);
	said(&t, "550 5.7.23");
	said(&t, "421 4.3.2");
	assert_null(t.s);
	end(&t);
}

static void test_bound(void **state)
{
	struct talk t;
	char in[64];
	(void)state;
	forget();
	talk_start(&t, &stranger);
	expect(&t, E, "250 ");
	/* The same again costs nothing. */
	for (int i = 0; i < 2 * SMTPD_SPF_MAX; i++)
		expect(&t, FROM("softfail.test") R D X, "250 250 354 250 ");
	assert_int_equal(fake_spf.asked, 1);
	assert_non_null(
	    strstr(buf_str(&fake.content), "spf=softfail smtp.mailfrom=a@softfail.test"));
	/* Another EHLO name is another question, and so is a failure of DNS. */
	expect(&t, "EHLO other.test\r\n" FROM("softfail.test") "RSET\r\n", "250 250 250 ");
	assert_int_equal(fake_spf.asked, 2);
	expect(&t, FROM("temperror.test") FROM("temperror.test"), "451 451 ");
	assert_int_equal(fake_spf.asked, 4);
	while (fake_spf.asked < SMTPD_SPF_MAX) {
		snprintf(in, sizeof in, "MAIL FROM:<a@n%u.test>\r\nRSET\r\n", fake_spf.asked);
		expect(&t, in, "250 250 ");
	}
	snprintf(in, sizeof in, "MAIL FROM:<a@n%u.test>\r\n", fake_spf.asked - 1);
	expect(&t, in, "250 ");
	expect(&t, "RSET\r\n" FROM("one.more.test") "NOOP\r\n", "250 421 ");
	said(&t, "421 4.7.0 too many senders");
	assert_null(t.s);
	assert_int_equal(fake_spf.asked, SMTPD_SPF_MAX);
	end(&t);
}

/* ---- fields --------------------------------------------------------------------------------- */

static void test_fields(void **state)
{
	static const char want[] =
	    "Authentication-Results: here.test; spf=pass smtp.mailfrom=a@pass.x.test\r\n"
	    "Received-SPF: pass (here.test: pass.x.test permits 192.0.2.1)\r\n"
	    " receiver=here.test; client-ip=192.0.2.1; envelope-from=\"a@pass.x.test\";\r\n"
	    " helo=client.test; identity=mailfrom; mechanism=\"ip4:192.0.2.0/24\"\r\n"
	    "Received: from client.test ([192.0.2.1])\r\n";
	struct talk t;
	(void)state;
	forget();
	talk_start(&t, &stranger);
	expect(&t, E FROM("pass.x.test") R D X, "250 250 250 354 250 ");
	const char *got = buf_str(&fake.content);
	if (strncmp(got, want, sizeof want - 1) != 0)
		fail_msg("%s", got);
	assert_non_null(strstr(got, "+0000\r\nSubject: x\r\n\r\ntext\r\n"));
	/* Nothing hostile comes out of its place. */
	expect(&t,
	       "EHLO a;helo=b\"(c)\r\nMAIL FROM:<\"x\\\" y;receiver=z\"@permerror.test>\r\n" R D X,
	       "250 250 250 354 250 ");
	got = buf_str(&fake.content);
	assert_non_null(strstr(got, "spf=permerror smtp.mailfrom=\"\\\"x\\\\\\\"\r\n "
	                            "y;receiver=z\\\"@permerror.test\"\r\n"));
	assert_non_null(strstr(got, "helo=\"a?helo?b??c?\";"));
	assert_non_null(strstr(got, "problem=\"it is \\\"broken\\\"\"\r\n"));
	end(&t);
}

#define FORGED                                                                 \
	"Authentication-Results: here.test; spf=pass\r\n"                      \
	"AUTHENTICATION-RESULTS:\r\n (hi) \"HERE.test\" 1;\r\n\tdkim=pass\r\n" \
	"Received-SPF: pass (here.test: fine)\r\n"

/* What is in our name goes, whoever brings it and however it is cut; all else stays. */
static void test_forged(void **state)
{
	static const char in[] = E FROM("pass.test") R D FORGED
	    "Subject: x\r\n" FORGED "Authentication-Results: there.test; spf=pass\r\n\r\n" FORGED
	    ".\r\n";
	static const char want[] =
	    "+0000\r\nSubject: x\r\nAuthentication-Results: there.test; spf=pass\r\n\r\n" FORGED;
	struct smtpd_peer *peers[] = {&stranger, &friendly, &local};
	(void)state;
	for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++) {
		for (size_t cut = 0; cut < sizeof in; cut++) {
			struct talk t;
			forget();
			talk_start(&t, peers[i]);
			for (size_t at = 0; cut == 0 && at < sizeof in - 1; at++)
				talk_give(&t, in + at, 1);
			if (cut > 0) {
				talk_give(&t, in, cut);
				talk_give(&t, in + cut, sizeof in - 1 - cut);
			}
			assert_int_equal(fake.committed, 1);
			const char *got = strstr(buf_str(&fake.content), "+0000\r\n");
			assert_non_null(got);
			assert_string_equal(got, want);
			end(&t);
		}
	}
}

/* What is taken out counts for the size limit; what is cut off in a field leaves nothing behind. */
static void test_forged_size(void **state)
{
	static char line[1000];
	struct talk t;
	(void)state;
	forget();
	memset(line, 'x', sizeof line - 1);
	memcpy(line + sizeof line - 3, "\r\n", 2);
	line[0] = ' ';
	talk_start(&t, &stranger);
	expect(&t, E FROM("pass.test") R D "Authentication-Results: here.test;\r\n",
	       "250 250 250 354 ");
	for (int i = 0; i < 1100; i++)
		talk_give(&t, line, sizeof line - 1);
	expect(&t, "\r\n.\r\n", "552 ");
	assert_int_equal(fake.aborted, 1);
	/* A message may end with its header, whose last field is judged then. */
	expect(&t, FROM("pass.test") R D "Authentication-Results: x.test;\r\n.\r\n",
	       "250 250 354 250 ");
	assert_non_null(
	    strstr(buf_str(&fake.content), "+0000\r\nAuthentication-Results: x.test;\r\n"));
	expect(&t, FROM("pass.test") R D "Authentication-Results: here.test;\r\n", "250 250 354 ");
	talk_eof(&t);
	assert_null(t.s);
	end(&t);
}

/* ---- incoming levels ------------------------------------------------------------------------ */

static void start_tls(struct talk *t)
{
	fake_setup.certs = fake_certs;
	talk_start(t, &stranger);
	expect(t, E "STARTTLS\r\n", "250 220 ");
	expect(t, E, "250 ");
}

static void test_levels(void **state)
{
	static const char *const same[] = {
	    FROM("pass.x.test"),
	    FROM("PASS.X.Test"),
	    FROM("pass.x.test."),
	};
	struct talk t;
	(void)state;
	forget();
	/* The first in the clear is taken, and noted. */
	talk_start(&t, &stranger);
	expect(&t, E FROM("pass.x.test") R D X, "250 250 250 354 250 ");
	assert_int_equal(known.level, DOMAININFO_PLAIN);
	assert_int_equal(known.notes, 1);
	end(&t);
	/* Without pass nothing is noted. */
	start_tls(&t);
	expect(&t, FROM("softfail.x.test") "RSET\r\n" FROM("none.x.test") "RSET\r\n",
	       "250 250 250 250 ");
	expect(&t, FROM("neutral.x.test") "RSET\r\n" FROM("permerror.x.test"), "250 250 250 ");
	assert_int_equal(known.notes, 1);
	/* TLS raises. */
	expect(&t, "RSET\r\n" FROM("Pass.X.test") R D X, "250 250 250 354 250 ");
	assert_string_equal(known.raised, "pass.x.test");
	expect(&t, FROM("pass.x.test") R D X, "250 250 354 250 ");
	assert_int_equal(known.notes, 3);
	end(&t);
	/* Lower is refused, in any spelling, from the cache too; nothing is noted. */
	talk_start(&t, &stranger);
	expect(&t, E, "250 ");
	for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
		expect(&t, same[i], "550 ");
		said(&t, "550 5.7.3 ");
		said(&t, "STARTTLS");
	}
	expect(&t, R, "503 ");
	assert_int_equal(known.notes, 3);
	/* Other domains, and those below it, have their own level. */
	expect(&t, FROM("pass.y.test") "RSET\r\n" FROM("pass.sub.pass.x.test") "RSET\r\n",
	       "250 250 250 250 ");
	end(&t);
	/* Nobody else can raise a domain or be refused by its level. */
	snprintf(known.raised, sizeof known.raised, "none.x.test");
	talk_start(&t, &stranger);
	expect(&t, E FROM("none.x.test") R D X, "250 250 250 354 250 ");
	end(&t);
	/* Without memory of domains all goes on. */
	fake_setup.domaininfo = NULL;
	snprintf(known.raised, sizeof known.raised, "pass.x.test");
	talk_start(&t, &stranger);
	expect(&t, E FROM("pass.x.test"), "250 250 ");
	end(&t);
}

#if WITH_IDN
static void test_levels_idna(void **state)
{
	static const char *const same[] = {
	    FROM8("pass.m\xc3\xbcll.test"),  FROM8("pass.M\xc3\x9cLL.test"),
	    FROM("pass.xn--mll-hoa.test"),   FROM("pass.XN--MLL-HOA.test"),
	    FROM8("pass.mu\xcc\x88ll.test"),
	};
	struct talk t;
	(void)state;
	forget();
	start_tls(&t);
	expect(&t, FROM("pass.xn--mll-hoa.test"), "250 ");
	assert_string_equal(known.raised, "pass.m\xc3\xbcll.test");
	end(&t);
	for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
		talk_start(&t, &stranger);
		expect(&t, E, "250 ");
		expect(&t, same[i], "550 ");
		said(&t, "550 5.7.3 ");
		end(&t);
	}
}
#endif

static int start_all(void **state)
{
	int rc = start(state);
	loopback = stranger;
	loopback.addr.ip.v4.s_addr = htonl(0x7f010203);
	return rc;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_explanation),
		cmocka_unit_test(test_null_sender),
		cmocka_unit_test(test_unchecked),
		cmocka_unit_test(test_login),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_forged),
		cmocka_unit_test(test_forged_size),
		cmocka_unit_test(test_levels),
#if WITH_IDN
		cmocka_unit_test(test_levels_idna),
#endif
	};
	return cmocka_run_group_tests(tests, start_all, stop);
}
