/* test_remote_pool: which of the sessions kept is found, and which are closed when; a fake client
 * stands for the session. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "loop.h"
#include "remote_pool.h"

/* ---- the fake client ---------------------------------------------------------------------- */

struct smtpc {
	bool ready;
	bool quitting;
	void (*ended)(void *arg);
	void *arg;
	const struct smtpc_login *login;
};

static int clients, quits;

bool smtpc_is_ready(const struct smtpc *c)
{
	return c->ready && !c->quitting;
}

void smtpc_quit(struct smtpc *c)
{
	quits += !c->quitting;
	c->quitting = true;
}

void smtpc_free(struct smtpc *c)
{
	clients--;
	free(c);
}

void smtpc_hand_on(struct smtpc *c, const char *id, const struct smtpc_login *login,
                   void (*ended)(void *arg), void *arg)
{
	assert_string_equal(id, "-");
	c->login = login;
	c->ended = ended;
	c->arg = arg;
}

/* ---- the tests ---------------------------------------------------------------------------- */

static struct remote_link *link_new(const char *to, const char *ehlo)
{
	struct remote_link *l = calloc(1, sizeof *l);
	assert_non_null(l);
	l->client = calloc(1, sizeof *l->client);
	assert_non_null(l->client);
	clients++;
	l->client->ready = true;
	snprintf(l->to, sizeof l->to, "%s", to);
	snprintf(l->ehlo, sizeof l->ehlo, "%s", ehlo);
	l->opened = loop_now();
	l->epoch = remote_pool_epoch();
	return l;
}

static struct remote_link *keep(const char *to, const char *ehlo)
{
	struct remote_link *l = link_new(to, ehlo);
	assert_true(remote_pool_wants(l));
	remote_pool_keep(l);
	return l;
}

static int setup(void **state)
{
	(void)state;
	assert_int_equal(loop_init(), 0);
	quits = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	remote_pool_done();
	assert_int_equal(clients, 0);
	loop_done();
	return 0;
}

static void test_key(void **state)
{
	(void)state;
	struct remote_link *a = keep("a.example", "us.example");
	struct remote_link *b = keep("b.example", "us.example");
	assert_null(remote_pool_take("c.example", "us.example"));
	assert_null(remote_pool_take("a.example", "them.example"));
	assert_null(remote_pool_take("a.example.", "us.example"));
	assert_ptr_equal(remote_pool_take("a.example", "us.example"), a);
	assert_null(remote_pool_take("a.example", "us.example"));
	remote_link_free(a);
	assert_ptr_equal(remote_pool_take("b.example", "us.example"), b);
	remote_link_free(b);
	assert_int_equal(quits, 0);
}

/* The one used last is the likeliest to be open. */
static void test_last_first(void **state)
{
	(void)state;
	struct remote_link *first = keep("a.example", "us");
	struct remote_link *second = keep("a.example", "us");
	assert_ptr_equal(remote_pool_take("a.example", "us"), second);
	remote_pool_keep(second);
	assert_ptr_equal(remote_pool_take("a.example", "us"), second);
	assert_ptr_equal(remote_pool_take("a.example", "us"), first);
	remote_link_free(first);
	remote_link_free(second);
}

static void test_wants(void **state)
{
	(void)state;
	struct remote_link *l = link_new("a.example", "us");
	assert_true(remote_pool_wants(l));
	l->messages = REMOTE_REUSE_MAX;
	assert_false(remote_pool_wants(l));
	l->messages--;
	assert_true(remote_pool_wants(l));
	l->opened = loop_now() - REMOTE_REUSE_MS;
	assert_false(remote_pool_wants(l));
	l->opened = loop_now();
	l->client->ready = false;
	assert_false(remote_pool_wants(l));
	l->client->ready = true;
	remote_pool_clear();
	assert_false(remote_pool_wants(l));
	remote_link_free(l);
}

/* Too old when it is looked for: it goes, and the next one is taken. */
static void test_too_old(void **state)
{
	(void)state;
	struct remote_link *young = keep("a.example", "us");
	struct remote_link *old = keep("a.example", "us");
	old->opened -= REMOTE_REUSE_MS;
	assert_ptr_equal(remote_pool_take("a.example", "us"), young);
	assert_int_equal(quits, 1);
	remote_link_free(young);
	old->client->ended(old->client->arg);
	assert_int_equal(clients, 0);
}

static void test_clear(void **state)
{
	(void)state;
	struct remote_link *l = keep("a.example", "us");
	remote_pool_clear();
	assert_int_equal(quits, 1);
	assert_null(remote_pool_take("a.example", "us"));
	assert_int_equal(quits, 1);
	l->client->ended(l->client->arg);
	assert_int_equal(clients, 0);
}

static void test_closed_by_peer(void **state)
{
	(void)state;
	struct remote_link *a = keep("a.example", "us");
	struct remote_link *b = keep("a.example", "us");
	b->client->ended(b->client->arg);
	assert_int_equal(clients, 1);
	assert_ptr_equal(remote_pool_take("a.example", "us"), a);
	remote_link_free(a);
}

static void test_bounds(void **state)
{
	(void)state;
	char name[32];
	for (int i = 0; i < REMOTE_IDLE_MAX + 3; i++) {
		snprintf(name, sizeof name, "d%d.example", i);
		keep(name, "us");
	}
	assert_int_equal(clients, REMOTE_IDLE_MAX);
	assert_null(remote_pool_take("d2.example", "us"));
	remote_pool_make_room(QUEUE_REMOTE_MAX - 2);
	assert_int_equal(clients, 1);
	struct remote_link *l = remote_pool_take(name, "us");
	assert_non_null(l);
	remote_link_free(l);
	remote_pool_make_room(QUEUE_REMOTE_MAX);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    CASE(test_key),   CASE(test_last_first),     CASE(test_wants),  CASE(test_too_old),
	    CASE(test_clear), CASE(test_closed_by_peer), CASE(test_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
