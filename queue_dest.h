/* queue_dest: what became of deliveries, by destination: the last QUEUE_DEST_MAX of them. */
#ifndef QUEUE_DEST_H
#define QUEUE_DEST_H

#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "envelope.h"

/* A destination: a domain, "local", "pipe", or the name of a smarthost. */
struct queue_dest {
	char name[ADDR_DOMAIN_MAX + 2];
	uint64_t count[3]; /* recipients by enum rcpt_state: PENDING is deferred */
	int64_t last;      /* wall clock of the last verdict, s */
	int64_t last_bad;  /* of the last that was not SENT; 0: none */
	struct status bad; /* that one */
	char remote[160];  /* with whom the last verdict was made, may be "" */
};

/* Notes a verdict; the destination unused for longest makes room. */
void queue_dest_note(const char *name, enum rcpt_state state, const struct status *st,
                     const char *remote, int64_t now);

/* The n-th, the one with the latest verdict first; NULL past the end. */
const struct queue_dest *queue_dest_nth(size_t n);

/* Forgets all. */
void queue_dest_clear(void);

#endif
