/*
 * remote_pool: sessions kept between two messages.
 *
 * A session that has just delivered waits here, at most SMTPC_IDLE_MS, for the next message to the
 * same place. Which place that is, is a string its user chose before anything was looked up, so a
 * message that finds a session costs neither DNS nor handshake nor login. In exchange a session
 * lives for REMOTE_REUSE_MS only: no decision that led to it is older.
 *
 * Whoever takes one must reckon with a peer that closed it a moment ago; see remote.c.
 *
 * The list is in order of last use and holds at most REMOTE_IDLE_MAX links, those included whose
 * QUIT waits for its answer.
 */
#define LOG_KIND LOG_DELIVERY

#include "remote_pool.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "loop.h"
#include "stat.h"

STAT_GAUGE(stat_kept, "remote/kept", "Connections kept for the next message");

static struct remote_link *kept; /* the one used last is the first */
static size_t kept_count;
static unsigned epoch;

unsigned remote_pool_epoch(void)
{
	return epoch;
}

bool remote_pool_wants(const struct remote_link *l)
{
	return REMOTE_IDLE_MAX > 0 && l->epoch == epoch && l->messages < REMOTE_REUSE_MAX &&
	       loop_now() - l->opened < REMOTE_REUSE_MS && smtpc_is_ready(l->client);
}

void remote_link_free(struct remote_link *l)
{
	if (!l)
		return;
	if (l->client)
		smtpc_free(l->client);
	remote_login_clear(&l->login);
	conf_smarthost_clear(&l->smarthosts);
	free(l);
}

static void pool_remove(struct remote_link *l)
{
	struct remote_link **p = &kept;
	while (*p != l)
		p = &(*p)->next;
	*p = l->next;
	l->next = NULL;
	kept_count--;
	stat_add(&stat_kept, -1);
}

static void on_ended(void *arg)
{
	struct remote_link *l = arg;
	pool_remove(l);
	remote_link_free(l);
}

/* The one kept longest goes now. It is never the one whose callback this may be. */
static void pool_drop_oldest(void)
{
	struct remote_link *l = kept;
	while (l->next)
		l = l->next;
	pool_remove(l);
	remote_link_free(l);
}

void remote_pool_keep(struct remote_link *l)
{
	while (kept_count >= REMOTE_IDLE_MAX)
		pool_drop_oldest();
	log_debug("-", "remote session kept", LOG_S("remote", l->remote),
	          LOG_N("messages", l->messages));
	smtpc_hand_on(l->client, "-", l->login.secret ? &l->login.login : NULL, on_ended, l);
	l->next = kept;
	kept = l;
	kept_count++;
	stat_add(&stat_kept, 1);
}

struct remote_link *remote_pool_take(const char *to, const char *ehlo)
{
	struct remote_link *next;
	for (struct remote_link *l = kept; l; l = next) {
		next = l->next;
		if (strcmp(l->to, to) != 0 || strcmp(l->ehlo, ehlo) != 0)
			continue;
		if (remote_pool_wants(l)) {
			pool_remove(l);
			return l;
		}
		smtpc_quit(l->client); /* too old */
	}
	return NULL;
}

void remote_pool_make_room(size_t in_use)
{
	while (kept_count > 0 && in_use + kept_count >= QUEUE_REMOTE_MAX)
		pool_drop_oldest();
}

void remote_pool_clear(void)
{
	epoch++;
	for (struct remote_link *l = kept; l; l = l->next)
		smtpc_quit(l->client);
}

void remote_pool_done(void)
{
	while (kept_count > 0)
		pool_drop_oldest();
}
