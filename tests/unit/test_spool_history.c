/* spool_history: every attempt of a message, whatever else stands in its file. */
#include "spool_history.h"

#include "spool_help.h"

#define SEEN_MAX 1100

struct seen {
	size_t count;
	int64_t at[SEEN_MAX];
	size_t first[SEEN_MAX];
	size_t rcpts[SEEN_MAX];
	enum rcpt_state state[SEEN_MAX];
	char text[SEEN_MAX][STATUS_PRINT_MAX];
	char remote[SEEN_MAX][200];
};

static struct seen seen;

static void on_attempt(void *arg, const struct spool_attempt_seen *a)
{
	struct seen *s = arg;
	assert_true(s->count < SEEN_MAX);
	assert_true(a->count > 0);
	s->at[s->count] = a->at;
	s->first[s->count] = a->rcpts[0];
	s->rcpts[s->count] = a->count;
	s->state[s->count] = a->state;
	status_print(&a->status, s->text[s->count], sizeof s->text[0]);
	snprintf(s->remote[s->count++], sizeof s->remote[0], "%s", a->remote);
}

static int look(const struct envelope *env)
{
	seen.count = 0;
	return spool_attempts(sp, env, on_attempt, &seen, &st);
}

/* A message with three recipients. */
static void three(struct envelope *env)
{
	simple_envelope(env);
	for (int i = 0; i < 2; i++)
		assert_int_equal(
		    envelope_add_rcpt(env, RCPT_EMAIL, "other@c.example", "to@b.example", NULL), 0);
	store(env, "Subject: x\r\n\r\nattempt { rcpt: 0 }\r\n", 35, 0, NULL);
}

static void attempt(struct envelope *env, size_t rcpt, enum rcpt_state state, int code,
                    const char *text, const char *remote)
{
	struct status what;
	status_set(&what, code, NULL, "%s", text);
	assert_int_equal(spool_attempt(sp, env, &rcpt, 1, state, &what, remote, false, &st), 0);
}

static void test_none_and_some(void **state)
{
	struct envelope env;
	struct status what;
	const size_t two[] = {2, 1};
	(void)state;
	three(&env);
	assert_int_equal(look(&env), 0);
	assert_int_equal(seen.count, 0);
	attempt(&env, 0, RCPT_PENDING, 451, "later", "mx [192.0.2.1]:25 PLAIN");
	status_set(&what, 550, "5.1.1", "no");
	assert_int_equal(spool_attempt(sp, &env, two, 2, RCPT_FAILED, &what, NULL, false, &st), 0);
	attempt(&env, 0, RCPT_SENT, 250, "ok", "mx");
	assert_int_equal(look(&env), 0);
	assert_int_equal(seen.count, 3);
	assert_int_equal(seen.first[0], 0);
	assert_int_equal(seen.state[0], RCPT_PENDING);
	assert_string_equal(seen.text[0], "451 later");
	assert_string_equal(seen.remote[0], "mx [192.0.2.1]:25 PLAIN");
	assert_int_equal(seen.rcpts[1], 2);
	assert_int_equal(seen.first[1], 2);
	assert_string_equal(seen.text[1], "550 5.1.1 no");
	assert_string_equal(seen.remote[1], "");
	assert_int_equal(seen.state[2], RCPT_SENT);
	assert_true(seen.at[0] > 0 && seen.at[0] <= seen.at[2]);
	envelope_clear(&env);
}

static void test_a_thousand(void **state)
{
	struct envelope env;
	char text[40];
	(void)state;
	three(&env);
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof text, "try %d", i);
		attempt(&env, (size_t)i % 3, RCPT_PENDING, 451, text, NULL);
	}
	assert_int_equal(look(&env), 0);
	assert_int_equal(seen.count, 1000);
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof text, "451 try %d", i);
		assert_string_equal(seen.text[i], text);
		assert_int_equal(seen.first[i], i % 3);
	}
	envelope_clear(&env);
}

/* What a peer says cannot make an attempt or hide one. */
static void test_hostile_texts(void **state)
{
	static const char *const hostile[] = {"\"\nattempt { rcpt: 0 status: SENT }",
	                                      "} } }",
	                                      "\\\" \x1b[31m",
	                                      "\xff\xfe",
	                                      "<script>alert(1)</script>",
	                                      "\xe2\x80\xae evil",
	                                      ""};
	struct envelope env;
	char longest[600];
	size_t n = sizeof hostile / sizeof *hostile;
	(void)state;
	memset(longest, '"', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	three(&env);
	for (size_t i = 0; i < n; i++)
		attempt(&env, 0, RCPT_PENDING, 451, hostile[i], hostile[i]);
	attempt(&env, 0, RCPT_PENDING, 451, longest, longest);
	assert_int_equal(look(&env), 0);
	assert_int_equal(seen.count, n + 1);
	for (size_t i = 0; i <= n; i++) {
		assert_int_equal(seen.state[i], RCPT_PENDING);
		assert_memory_equal(seen.text[i], "451", 3);
		assert_null(strpbrk(seen.text[i], "\r\n\x1b"));
		assert_null(strpbrk(seen.remote[i], "\r\n\x1b"));
	}
	envelope_clear(&env);
}

static void append(const char *id, const char *p, size_t n)
{
	int fd = open(path_of(id), O_WRONLY | O_APPEND);
	assert_true(fd >= 0);
	assert_int_equal(disk_write(fd, p, n), 0);
	close(fd);
}

/* A torn end, lines that are not ours, and recipients that are not there are passed over. */
static void test_damaged_tails(void **state)
{
	struct envelope env;
	char *whole;
	size_t n;
	(void)state;
	three(&env);
	attempt(&env, 0, RCPT_PENDING, 451, "first", NULL);
	attempt(&env, 1, RCPT_PENDING, 451, "second", NULL);
	static const char junk[] = "attempt { rcpt: 0 status: SENT }\nnonsense\n\nattempt {\n";
	append(env.id, junk, sizeof junk - 1);
	attempt(&env, 2, RCPT_PENDING, 451, "third", NULL);
	assert_int_equal(look(&env), 0);
	assert_int_equal(seen.count, 3);
	assert_string_equal(seen.text[2], "451 third");
	/* At every cut within the last line the two before it stay, and the file as it is. */
	whole = slurp(path_of(env.id), &n);
	const char *last = memrchr(whole, '\n', n - 1);
	for (size_t at = (size_t)(last - whole) + 1; at < n; at++) {
		put_file(path_of(env.id), whole, at);
		assert_int_equal(look(&env), 0);
		assert_int_equal(seen.count, 2);
	}
	put_file(path_of(env.id), whole, n);
	/* A message that has fewer recipients than the attempts say. */
	envelope_drop_rcpts(&env, 1);
	assert_int_equal(look(&env), 0);
	assert_int_equal(seen.count, 1);
	free(whole);
	envelope_clear(&env);
}

static void test_no_message(void **state)
{
	struct envelope env;
	(void)state;
	three(&env);
	assert_int_equal(truncate(path_of(env.id), 40), 0);
	assert_int_equal(look(&env), -1);
	assert_int_equal(status_class(&st), STATUS_PERMANENT);
	assert_true(exists(env.id)); /* nothing is set aside */
	assert_int_equal(unlink(path_of(env.id)), 0);
	assert_int_equal(look(&env), -1);
	assert_int_equal(status_class(&st), STATUS_PERMANENT);
	envelope_clear(&env);
}

/* chasquid's own, with attempts of ours behind it. */
static void test_foreign(void **state)
{
	static const char text[] =
	    "ID: \"abc\"\nfrom: \"a@x.test\"\nTo: \"b@y.test\"\n"
	    "rcpt: { address: \"b@y.test\" original_address: \"b@y.test\" }\n"
	    "data: \"Subject: x\\n\\nhi\\n\"\ncreated_at_ts: { seconds: 1700000000 }\n";
	struct envelope env;
	(void)state;
	put_file(path_of("abc"), text, sizeof text - 1);
	assert_int_equal(spool_load(sp, "abc", &env, &st), 0);
	assert_int_equal(look(&env), 0);
	assert_int_equal(seen.count, 0);
	attempt(&env, 0, RCPT_PENDING, 451, "later", NULL);
	assert_int_equal(look(&env), 0);
	assert_int_equal(seen.count, 1);
	assert_string_equal(seen.text[0], "451 later");
	envelope_clear(&env);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_none_and_some), T(test_a_thousand), T(test_hostile_texts),
	    T(test_damaged_tails), T(test_no_message), T(test_foreign),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
