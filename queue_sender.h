/* queue_sender: which sender a delivery bears: the message's own, or one rewritten by srs. */
#ifndef QUEUE_SENDER_H
#define QUEUE_SENDER_H

#include "addr.h"
#include "queue_work.h"

/* Looks at the message as a whole: sets w->foreign. from: its sender, which becomes what the
 * masquerade makes of it. */
void queue_sender_begin(struct queue_work *w, struct addr *from);

/* The domain of ours at which the sender is to be rewritten for this recipient, a part of its
 * original address; NULL when it stays. */
const char *queue_sender_way_back(const struct queue_work *w, const struct rcpt *r);

/* Gives a delivery that is about to start its sender; its recipients have the same way back. */
void queue_sender_choose(struct queue_group *g);

#endif
