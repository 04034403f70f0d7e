/*
 * queue_dest: a small table of destinations, the one with the latest verdict first.
 *
 * Its size is fixed: a sender of mail to many domains pushes out what was quiet for longest, and
 * costs no memory. Counts begin when a destination enters the table.
 */
#include "queue_dest.h"

#include <stdio.h>
#include <string.h>

static struct {
	struct queue_dest dest[QUEUE_DEST_MAX];
	unsigned char order[QUEUE_DEST_MAX]; /* indexes into dest, latest first */
	size_t count;
} D;

/* Place in the order of a name; of a fresh entry, where needed that of the oldest, if unknown. */
static size_t queue_dest_place(const char *name)
{
	for (size_t i = 0; i < D.count; i++)
		if (strcmp(D.dest[D.order[i]].name, name) == 0)
			return i;
	if (D.count < QUEUE_DEST_MAX) {
		D.order[D.count] = (unsigned char)D.count;
		D.count++;
	}
	struct queue_dest *d = &D.dest[D.order[D.count - 1]];
	memset(d, 0, sizeof *d);
	snprintf(d->name, sizeof d->name, "%s", name);
	return D.count - 1;
}

void queue_dest_note(const char *name, enum rcpt_state state, const struct status *st,
                     const char *remote, int64_t now)
{
	char known[sizeof D.dest[0].name];
	snprintf(known, sizeof known, "%s", name);
	size_t at = queue_dest_place(known);
	unsigned char index = D.order[at];
	struct queue_dest *d = &D.dest[index];
	memmove(&D.order[1], &D.order[0], at);
	D.order[0] = index;
	d->count[state]++;
	d->last = now;
	status_clean(slice_of(remote ? remote : ""), d->remote, sizeof d->remote);
	if (state != RCPT_SENT) {
		d->last_bad = now;
		d->bad = *st;
	}
}

const struct queue_dest *queue_dest_nth(size_t n)
{
	return n < D.count ? &D.dest[D.order[n]] : NULL;
}

void queue_dest_clear(void)
{
	D.count = 0;
}
