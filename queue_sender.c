/*
 * queue_sender: which sender a delivery bears.
 *
 * A message that an alias of ours sends on to others bears a stranger's sender: SPF would forbid us
 * to use it, and a bounce would not come by us. So it is rewritten (srs.c), when all of this holds:
 *
 *   the message    came from outside (not submitted); its sender is not null, not at a domain of
 *                  ours, and no masquerade rule gives it another name
 *   the recipient  was addressed at a domain of ours, and goes by SMTP to one that is not
 *
 * So a relay for trusted hosts, where nobody of ours was addressed, keeps its sender, and so does
 * mail for our own domain that goes on by `via`: the server there knows us, and judges by the true
 * sender. At localhost no bounce would find its way back. Notifications of ours go to the
 * message's own sender.
 */
#define LOG_KIND LOG_QUEUE

#include "queue_sender.h"

#include <string.h>
#include <time.h>

#include "log.h"

/* The domain of an address when it is one of ours, else NULL. */
static const char *queue_our_domain(const struct queue_work *w, const char *address)
{
	const char *at = strrchr(address, '@');
	return at && conf_domain_find(w->q->conf, at + 1) ? at + 1 : NULL;
}

void queue_sender_begin(struct queue_work *w, struct addr *from)
{
	const struct conf *conf = w->q->conf;
	bool ours = conf_domain_find(conf, from->domain) != NULL;
	bool masked = conf_masquerade_apply(&conf->masquerades, from);
	w->foreign =
	    w->q->srs && !w->env.submitted && !envelope_is_bounce(&w->env) && !ours && !masked;
}

const char *queue_sender_way_back(const struct queue_work *w, const struct rcpt *r)
{
	if (!w->foreign || queue_route(w->q->conf, r) != QUEUE_REMOTE ||
	    queue_our_domain(w, r->address))
		return NULL;
	const char *domain = queue_our_domain(w, r->original);
	return domain && strcmp(domain, "localhost") != 0 ? domain : NULL;
}

void queue_sender_choose(struct queue_group *g)
{
	struct queue_work *w = g->work;
	const char *domain = queue_sender_way_back(w, &w->env.rcpt[g->rcpts[0]]);
	char text[ADDR_TEXT_MAX];
	struct addr from;
	struct addr ours;
	struct timespec now;
	if (!domain || addr_parse(slice_of(w->env.from), &from))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	if (srs_forward(w->q->srs, &from, domain, (int64_t)now.tv_sec, &ours) ||
	    addr_format(&ours, text, sizeof text)) {
		log_info(w->env.id, "sender not rewritten", LOG_S("from", w->env.from),
		         LOG_S("reason", "it would be too long, or no address"));
		return;
	}
	g->from = strdup(text);
	if (!g->from)
		return;
	g->delivery.from = g->from;
	g->delivery.rewritten = true;
	log_info(w->env.id, "sender rewritten", LOG_S("from", w->env.from), LOG_S("to", g->from));
}
