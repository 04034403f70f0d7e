/*
 * Unit tests of TLS, AUTH and submission in smtpd: what is offered when, what is forgotten, who may
 * send as whom. link: fake_spool.c fake_tls.c fake_spf.c
 * link: fake_resolve.c fake_hook.c
 */
#include <errno.h>

#include "smtpd_help.h"

static struct smtpd_peer user;    /* submission, STARTTLS */
static struct smtpd_peer secured; /* submission, TLS at once */

#define E "EHLO client.test\r\n"
#define M "MAIL FROM:<alice@here.test>\r\n"
#define R "RCPT TO:<x@far.test>\r\n"
#define D "DATA\r\n"
#define X "Subject: x\r\n\r\ntext\r\n.\r\n"
#define S "STARTTLS\r\n"
/* NUL alice NUL secret, NUL alice NUL wrong, NUL bare NUL secret */
#define GOOD "AGFsaWNlAHNlY3JldA=="
#define BAD  "AGFsaWNlAHdyb25n"
#define BARE "AGJhcmUAc2VjcmV0"
#define A    "AUTH PLAIN " GOOD "\r\n"

/* Begins a session with certificates. */
static void begin(struct talk *t, const struct smtpd_peer *peer)
{
	fake_reset();
	fake_tls = (struct fake_tls){.open = 0};
	fake_setup.certs = fake_certs;
	talk_start(t, peer);
}

static void end(struct talk *t)
{
	talk_end(t);
	assert_int_equal(fake_tls.open, 0);
	assert_int_equal(fake_tls.waiting, 0);
	assert_int_equal(fake_open(), 0);
	assert_int_equal(fake.reserved, 0);
}

static bool says(struct talk *t, const char *text)
{
	return strstr(buf_str(&t->out), text) != NULL;
}

static void test_offer(void **state)
{
	struct talk t;
	(void)state;
	begin(&t, &stranger);
	expect(&t, E, "250 ");
	said(&t, "250-STARTTLS\r\n");
	assert_false(says(&t, "AUTH"));
	expect(&t, S, "220 ");
	expect(&t, E, "250 ");
	assert_false(says(&t, "STARTTLS"));
	said(&t, "250-AUTH PLAIN LOGIN\r\n");
	end(&t);
	/* No certificate: neither. */
	begin(&t, &stranger);
	fake_setup.certs = fake_no_certs;
	expect(&t, E, "250 ");
	assert_false(says(&t, "STARTTLS"));
	expect(&t, S A, "502 502 ");
	end(&t);
	/* Users of this machine need neither. */
	begin(&t, &local);
	expect(&t, E, "250 ");
	assert_false(says(&t, "STARTTLS"));
	expect(&t, S A, "502 502 ");
	end(&t);
}

static void test_starttls(void **state)
{
	struct talk t;
	(void)state;
	begin(&t, &stranger);
	expect(&t, S, "503 ");
	expect(&t, E "STARTTLS now\r\n", "250 501 ");
	/* All is forgotten, within a transaction, too. */
	expect(&t, "MAIL FROM:<a@far.test>\r\nRCPT TO:<alice@here.test>\r\n" S, "250 250 220 ");
	assert_int_equal(fake.reserved, 0);
	assert_null(t.s->helo);
	assert_false(t.s->esmtp);
	expect(&t, "DATA\r\nMAIL FROM:<a@far.test>\r\n", "503 503 ");
	expect(&t, E S, "250 503 ");
	said(&t, "503 5.5.1 TLS is in use");
	end(&t);
	/* No memory: the session goes on. */
	begin(&t, &stranger);
	fake_tls.accept_fails = true;
	expect(&t, E S "MAIL FROM:<a@far.test>\r\n", "250 454 250 ");
	end(&t);
}

/* What is sent ahead of the handshake is never served. */
static void test_injection(void **state)
{
	static const char *const tails[] = {"NOOP\r\n", "RSET\r\nMAIL FROM:<evil@far.test>\r\n",
	                                    "NO",       E "MAIL FROM:<evil@far.test>\r\n",
	                                    "\n",       "\r"};
	(void)state;
	for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
		char in[200];
		struct talk t;
		begin(&t, &stranger);
		expect(&t, E, "250 ");
		snprintf(in, sizeof in, S "%s", tails[i]);
		expect(&t, in, "220 ");
		expect(&t, "MAIL FROM:<a@far.test>\r\n" E, "503 250 ");
		assert_int_equal(fake.reserved, 0);
		end(&t);
		/* And what comes while the handshake is under way stays unread. */
		begin(&t, &stranger);
		expect(&t, E, "250 ");
		t.hold = true;
		expect(&t, S, "220 ");
		assert_int_equal(t.s->state, SMTPD_HANDSHAKE);
		expect(&t, "NOOP\r\n", "");
		end(&t);
	}
}

/* Nothing is said in the clear when the handshake fails. */
static void test_handshake_fails(void **state)
{
	(void)state;
	for (int implicit = 0; implicit < 2; implicit++) {
		for (int how = 0; how < 3; how++) {
			struct talk t;
			fake_reset();
			fake_tls = (struct fake_tls){.open = 0};
			fake_setup.certs = fake_certs;
			t = (struct talk){.hold = true};
			if (!implicit)
				begin(&t, &stranger);
			t.s = implicit ? smtpd_new(&fake_setup, &secured, talk_ended, &t) : t.s;
			if (implicit) {
				buf_init(&t.out, 1000);
				smtpd_start(t.s);
			} else {
				t.hold = true;
				expect(&t, E S, "250 220 ");
			}
			assert_int_equal(t.s->state, SMTPD_HANDSHAKE);
			assert_true(smtpd_io(t.s)->timer.set);
			buf_consume(&t.out, t.out.len);
			smtpd_io(t.s)->error = how ? EPROTO : ECONNRESET;
			talk_event(&t, how == 2 ? IO_TIMEOUT : IO_ERROR);
			talk_settle(&t);
			assert_null(t.s);
			assert_int_equal(t.out.len, 0);
			end(&t);
		}
	}
	/* Implicit TLS without memory. */
	struct talk t;
	fake_reset();
	fake_setup.certs = fake_certs;
	fake_tls = (struct fake_tls){.accept_fails = true};
	talk_start(&t, &secured);
	assert_null(t.s);
	assert_int_equal(t.out.len, 0);
	end(&t);
}

static void test_plain(void **state)
{
	static const struct {
		const char *in;
		const char *codes;
	} cases[] = {
	    {"AUTH PLAIN " GOOD "\r\n", "235 "},
	    {"auth plain " GOOD "\r\n", "235 "},
	    {"AUTH PLAIN   " GOOD " \r\n", "235 "},
	    {"AUTH PLAIN\r\n" GOOD "\r\n", "334 235 "},
	    {"AUTH PLAIN\r\n" GOOD "\r\n" A, "334 235 503 "},
	    {"AUTH PLAIN\r\n*\r\n" A, "334 501 235 "},
	    {"AUTH PLAIN *\r\n" A, "501 235 "},
	    {"AUTH PLAIN =\r\n" A, "501 235 "},
	    {"AUTH PLAIN\r\n\r\n" A, "334 501 235 "},
	    {"AUTH PLAIN\r\n=\r\n" A, "334 501 235 "},
	    {"AUTH PLAIN " GOOD "x\r\n" A, "501 235 "},
	    {"AUTH PLAIN A G\r\n" A, "501 235 "},
	    {"AUTH PLAIN\r\nNOOP\r\nNOOP\r\n", "334 501 250 "},
	    {"AUTH LOGIN\r\nYWxpY2U=\r\nc2VjcmV0\r\n", "334 334 235 "},
	    {"AUTH LOGIN YWxpY2U=\r\nc2VjcmV0\r\n", "334 235 "},
	    {"AUTH login\r\nYWxpY2U=\r\n*\r\n" A, "334 334 501 235 "},
	    {"AUTH LOGIN\r\n*\r\n" A, "334 501 235 "},
	    {"AUTH LOGIN !\r\n" A, "501 235 "},
	    {"AUTH LOGIN YWxpY2U=\r\n!\r\n" A, "334 501 235 "},
	    {"AUTH LOGIN\r\nYWxpY2U=\r\nd3Jvbmc=\r\n", "334 334 535 "},
	    {"AUTH\r\n" A, "501 235 "},
	    {"AUTH CRAM-MD5\r\n" A, "504 235 "},
	    {"AUTH PLAINER " GOOD "\r\n", "504 "},
	    {"AUTH PLAIN " BAD "\r\n" A "NOOP\r\n", "535 235 250 "},
	    {"AUTH PLAIN " BAD "\r\nAUTH PLAIN " BAD "\r\nAUTH PLAIN " BAD "\r\nNOOP\r\n",
	     "535 535 421 "},
	    {"AUTH PLAIN " BAD "\r\nAUTH PLAIN " BAD "\r\n" A M R D X,
	     "535 535 235 250 250 354 250 "},
	    {A M R D X, "235 250 250 354 250 "},
	    {M, "530 "},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		size_t n = strlen(cases[i].in);
		for (size_t cut = 0; cut <= n; cut++) {
			struct talk t;
			char first[400];
			struct buf codes;
			begin(&t, &secured);
			expect(&t, E, "250 ");
			snprintf(first, sizeof first, "%.*s", (int)cut, cases[i].in);
			buf_consume(&t.out, t.out.len);
			talk_give(&t, first, cut);
			talk_give(&t, cases[i].in + cut, n - cut);
			talk_codes(&t, &codes);
			if (strcmp(buf_str(&codes), cases[i].codes) != 0)
				fail_msg("%s at %zu: got %s", cases[i].in, cut, buf_str(&codes));
			buf_clear(&codes);
			end(&t);
		}
	}
}

static void test_prompts(void **state)
{
	struct talk t;
	(void)state;
	begin(&t, &secured);
	assert_int_equal(strncmp(buf_str(&t.out), "220 here.test ESMTP\r\n", 20), 0);
	expect(&t, E "AUTH LOGIN\r\n", "250 334 ");
	said(&t, "\r\n334 VXNlcm5hbWU6\r\n");
	expect(&t, "YWxpY2U=\r\n", "334 ");
	assert_string_equal(buf_str(&t.out), "334 UGFzc3dvcmQ6\r\n");
	expect(&t, "c2VjcmV0\r\n", "235 ");
	assert_string_equal(fake_tls.id, "alice");
	assert_string_equal(fake_tls.password, "secret");
	end(&t);
	begin(&t, &secured);
	expect(&t, E "AUTH PLAIN\r\n", "250 334 ");
	said(&t, "\r\n334 \r\n");
	/* A line of the exchange that is too long ends it, not the session. */
	static char line[SMTPD_LINE_MAX + 100];
	memset(line, 'A', sizeof line);
	memcpy(line + sizeof line - 3, "\r\n", 3);
	expect(&t, line, "500 ");
	said(&t, "500 5.5.6");
	expect(&t, A, "235 ");
	end(&t);
}

/* AUTH is for TLS, once, between transactions. */
static void test_order(void **state)
{
	struct talk t;
	(void)state;
	begin(&t, &user);
	expect(&t, A, "503 ");
	expect(&t, E A, "250 538 ");
	said(&t, "538 5.7.11");
	assert_int_equal(fake_tls.asked, 0);
	expect(&t, M, "530 ");
	said(&t, "530 5.7.0 STARTTLS");
	expect(&t, S, "220 ");
	expect(&t, A, "503 ");
	expect(&t, E M, "250 530 ");
	said(&t, "530 5.7.0 AUTH");
	expect(&t, A M A, "235 250 503 ");
	expect(&t, R D X, "250 354 250 ");
	/* EHLO and RSET do not end a login. */
	expect(&t, E "RSET\r\n" M, "250 250 250 ");
	end(&t);
	/* On the port for everybody, too, and within a transaction it is refused. */
	begin(&t, &stranger);
	expect(&t, E S, "250 220 ");
	expect(&t, E M A, "250 250 503 ");
	said(&t, "503 5.5.1 not within");
	expect(&t, R, "550 ");
	expect(&t, "RSET\r\n" A M R D X, "250 235 250 250 354 250 ");
	end(&t);
}

static void test_throttle(void **state)
{
	struct talk t;
	(void)state;
	begin(&t, &secured);
	fake_tls.throttled = true;
	expect(&t, E A "AUTH LOGIN\r\n", "250 454 454 ");
	assert_int_equal(fake_tls.asked, 0);
	fake_tls.throttled = false;
	fake_tls.trouble = true;
	expect(&t, A A A A, "454 454 454 454 ");
	fake_tls.trouble = false;
	expect(&t, A, "235 ");
	end(&t);
}

/* While a password is looked at: input stays, the client may go, and so may we. */
static void test_waiting(void **state)
{
	struct talk t;
	(void)state;
	begin(&t, &secured);
	expect(&t, E, "250 ");
	t.hold = true;
	expect(&t, A "NOOP\r\n", "");
	assert_int_equal(fake_tls.waiting, 1);
	assert_false(smtpd_io(t.s)->timer.set);
	t.hold = false;
	talk_settle(&t);
	said(&t, "235 2.7.0 welcome\r\n250 2.0.0 ok\r\n");
	end(&t);
	for (int how = 0; how < 3; how++) {
		begin(&t, &secured);
		expect(&t, E, "250 ");
		t.hold = true;
		expect(&t, A, "");
		if (how == 0) {
			smtpd_io(t.s)->error = ECONNRESET;
			talk_event(&t, IO_ERROR);
			assert_null(t.s);
		} else if (how == 1) {
			talk_eof(&t);
			assert_int_equal(fake_tls.waiting, 1);
			t.hold = false;
			talk_settle(&t);
			said(&t, "235 ");
			assert_null(t.s);
		} else {
			smtpd_ask_to_leave(t.s);
			t.hold = false;
			talk_settle(&t);
			said(&t, "235 2.7.0 welcome\r\n421 4.3.2");
			assert_null(t.s);
		}
		end(&t);
	}
	/* We leave in the middle of an exchange. */
	begin(&t, &secured);
	expect(&t, E "AUTH PLAIN\r\n", "250 334 ");
	smtpd_ask_to_leave(t.s);
	expect(&t, GOOD "\r\n", "421 ");
	assert_null(t.s);
	end(&t);
	begin(&t, &secured);
	expect(&t, E "AUTH LOGIN YWxpY2U=\r\n", "250 334 ");
	end(&t);
}

static void test_sender(void **state)
{
	struct talk t;
	(void)state;
	begin(&t, &secured);
	expect(&t, E A, "250 235 ");
	expect(&t, "MAIL FROM:<bob@here.test>\r\n", "553 ");
	said(&t, "553 5.7.1");
	expect(&t, "MAIL FROM:<alice@far.test>\r\nMAIL FROM:<list@here.test>\r\n", "553 553 ");
	expect(&t, "MAIL FROM:<nobody@here.test>\r\n", "553 ");
	expect(&t, "MAIL FROM:<busy@here.test>\r\n", "451 ");
	expect(&t, "MAIL FROM:<boss@here.test>\r\nRSET\r\n", "250 250 ");
	expect(&t, "MAIL FROM:<ALICE@HERE.test>\r\nRSET\r\n", "250 250 ");
	expect(&t, "MAIL FROM:<al.ice+shop@here.test>\r\nRSET\r\n", "250 250 ");
	expect(&t, "MAIL FROM:<>\r\nRSET\r\n", "250 250 ");
	fake_conf.sender_login_check = false;
	expect(&t, "MAIL FROM:<alice@far.test>\r\nRSET\r\n", "250 250 ");
	expect(&t, M "RSET\r\nMAIL FROM:<alice@here.test> AUTH=<>\r\n", "250 250 250 ");
	expect(&t, "RSET\r\nMAIL FROM:<alice@here.test> AUTH=a+40b SIZE=10\r\n", "250 250 ");
	expect(&t, "RSET\r\nMAIL FROM:<alice@here.test> AUTH=\r\n", "250 501 ");
	end(&t);
	/* A login without domain is that user in each domain of ours. */
	begin(&t, &secured);
	expect(&t, E "AUTH PLAIN " BARE "\r\n", "250 235 ");
	expect(&t, "MAIL FROM:<bare@far.test>\r\nMAIL FROM:<alice@here.test>\r\n", "553 553 ");
	expect(&t, "MAIL FROM:<bare@here.test>\r\n", "250 ");
	end(&t);
	/* Not offered, not known. */
	begin(&t, &stranger);
	expect(&t, E "MAIL FROM:<a@far.test> AUTH=<>\r\n", "250 555 ");
	end(&t);
}

/* The trace tells of TLS and login, not of the user's whereabouts. */
static void test_trace(void **state)
{
	struct talk t;
	(void)state;
	begin(&t, &stranger);
	expect(&t, E S, "250 220 ");
	expect(&t, E M "RCPT TO:<alice@here.test>\r\n" D X, "250 250 250 354 250 ");
	const char *field = buf_str(&fake.content);
	assert_non_null(strstr(field, "Received: from client.test ([192.0.2.1])"));
	assert_non_null(strstr(field, "(TLSv1.3 TLS_AES_128_GCM_SHA256)"));
	assert_non_null(strstr(field, "by here.test with ESMTPS id id1"));
	assert_null(strstr(field, "evil.test"));
	assert_string_equal(fake.prepended, "");
	end(&t);
	begin(&t, &secured);
	expect(&t, E A M R D X, "250 235 250 250 354 250 ");
	field = buf_str(&fake.content);
	assert_int_equal(
	    strncmp(field, "Received: (TLSv1.3 TLS_AES_128_GCM_SHA256)\r\n\tby here.test", 57), 0);
	assert_non_null(strstr(field, " with ESMTPSA id id1"));
	assert_null(strstr(field, "192.0.2.1"));
	assert_null(strstr(field, "client.test"));
	end(&t);
}

static void test_fields(void **state)
{
	static const struct {
		const char *message;
		const char *added;
	} cases[] = {
	    {X, "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <id1@here.test>\r\n"},
	    {"date: x\r\n\r\n.\r\n", "Message-ID: <id1@here.test>\r\n"},
	    {"Message-Id: <x@y>\r\n\r\nDate: x\r\n.\r\n",
	     "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"},
	    {"Date: x\r\nMessage-ID: <x@y>\r\n\r\n.\r\n", ""},
	    {"Date: x\r\nMessage-ID: <x@y>\r\n.\r\n", ""},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct talk t;
		begin(&t, &secured);
		expect(&t, E A M R D, "250 235 250 250 354 ");
		expect(&t, cases[i].message, "250 ");
		assert_string_equal(fake.prepended, cases[i].added);
		end(&t);
	}
}

/* Trusted hosts have a share an hour; strangers and logins are not counted. */
static void test_rate(void **state)
{
	static struct rate rate;
	struct talk t;
	(void)state;
	begin(&t, &friendly);
	fake_setup.rate = &rate;
	fake_conf.trusted_rate = 3;
	/* A message counts once, whatever its recipients; those here do not count. */
	expect(&t, E M R R "RCPT TO:<y@far.test>\r\n" D X M R D X M R D X,
	       "250 250 250 250 250 354 250 250 250 354 250 250 250 354 250 ");
	expect(&t, M R R, "250 450 450 ");
	said(&t, "450 4.7.1");
	expect(&t, "RCPT TO:<alice@here.test>\r\n" D X, "250 354 250 ");
	expect(&t, S, "220 ");
	expect(&t, E A M R, "250 235 250 250 ");
	end(&t);
	begin(&t, &stranger);
	fake_setup.rate = &rate;
	expect(&t, E M R, "250 250 550 ");
	end(&t);
	fake_conf.trusted_rate = 0;
	begin(&t, &friendly);
	fake_setup.rate = &rate;
	expect(&t, E M R, "250 250 250 ");
	end(&t);
}

static void test_memory(void **state)
{
	struct talk t;
	(void)state;
	begin(&t, &secured);
	expect(&t, E A, "250 235 ");
	assert_null(t.s->sasl);
	assert_true(sizeof *t.s <= 1024);
	end(&t);
}

static int start_all(void **state)
{
	int rc = start(state);
	user = stranger;
	user.mode = SMTPD_SUBMISSION;
	secured = user;
	secured.tls = true;
	return rc;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_offer),     cmocka_unit_test(test_starttls),
	    cmocka_unit_test(test_injection), cmocka_unit_test(test_handshake_fails),
	    cmocka_unit_test(test_plain),     cmocka_unit_test(test_prompts),
	    cmocka_unit_test(test_order),     cmocka_unit_test(test_throttle),
	    cmocka_unit_test(test_waiting),   cmocka_unit_test(test_sender),
	    cmocka_unit_test(test_trace),     cmocka_unit_test(test_fields),
	    cmocka_unit_test(test_rate),      cmocka_unit_test(test_memory),
	};
	return cmocka_run_group_tests(tests, start_all, stop);
}
