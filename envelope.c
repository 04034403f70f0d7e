/*
 * envelope: building and freeing. The number of recipients and of addresses is bounded by
 * SPOOL_RCPTS_MAX, the length of each by those who parsed it.
 */
#include "envelope.h"

#include <stdlib.h>
#include <string.h>

int envelope_set_from(struct envelope *e, const char *from)
{
	char *copy = strdup(from);
	if (!copy)
		return -1;
	free(e->from);
	e->from = copy;
	return 0;
}

/* Makes room for one more in an array that grows by doubling. Returns it, moved, or NULL. */
static void *envelope_grow(void *array, size_t count, size_t size)
{
	if (count >= SPOOL_RCPTS_MAX)
		return NULL;
	if (count & (count - 1))
		return array; /* not a power of two: there is room */
	return realloc(array, (count ? count * 2 : 1) * size);
}

int envelope_add_to(struct envelope *e, const char *to)
{
	char **grown = envelope_grow(e->to, e->to_count, sizeof *grown);
	if (!grown)
		return -1;
	e->to = grown;
	grown[e->to_count] = strdup(to);
	if (!grown[e->to_count])
		return -1;
	e->to_count++;
	return 0;
}

static void envelope_clear_rcpt(struct rcpt *r)
{
	free(r->address); /* and the texts behind it */
	free(r->last);
	free(r->remote);
}

int envelope_add_rcpt(struct envelope *e, enum rcpt_type type, const char *address,
                      const char *original, const char *via)
{
	struct rcpt *grown = envelope_grow(e->rcpt, e->rcpt_count, sizeof *grown);
	if (!grown)
		return -1;
	e->rcpt = grown;
	/* One piece of memory for the three. */
	size_t address_size = strlen(address) + 1;
	size_t original_size = strlen(original) + 1;
	size_t via_size = via ? strlen(via) + 1 : 0;
	char *text = malloc(address_size + original_size + via_size);
	if (!text)
		return -1;
	struct rcpt *r = &grown[e->rcpt_count++];
	*r = (struct rcpt){.type = type, .address = text, .original = text + address_size};
	memcpy(r->address, address, address_size);
	memcpy(r->original, original, original_size);
	if (via) {
		r->via = r->original + original_size;
		memcpy(r->via, via, via_size);
	}
	return 0;
}

void envelope_drop_rcpts(struct envelope *e, size_t keep)
{
	while (e->rcpt_count > keep)
		envelope_clear_rcpt(&e->rcpt[--e->rcpt_count]);
}

int envelope_set_verdict(struct rcpt *r, enum rcpt_state state, const struct status *what,
                         const char *remote)
{
	r->state = state;
	struct status *last = r->last ? r->last : malloc(sizeof *last);
	if (!last)
		return -1;
	*last = *what;
	r->last = last;
	free(r->remote);
	r->remote = remote && *remote ? strdup(remote) : NULL;
	return 0;
}

void envelope_clear(struct envelope *e)
{
	for (size_t i = 0; i < e->to_count; i++)
		free(e->to[i]);
	for (size_t i = 0; i < e->rcpt_count; i++)
		envelope_clear_rcpt(&e->rcpt[i]);
	free(e->to);
	free(e->rcpt);
	free(e->from);
	*e = (struct envelope){.from = NULL};
}

int envelope_copy(struct envelope *to, const struct envelope *from)
{
	*to = *from;
	to->to = NULL;
	to->rcpt = NULL;
	to->to_count = to->rcpt_count = 0;
	to->from = strdup(from->from);
	int rc = to->from ? 0 : -1;
	for (size_t i = 0; i < from->to_count && !rc; i++)
		rc = envelope_add_to(to, from->to[i]);
	for (size_t i = 0; i < from->rcpt_count && !rc; i++) {
		const struct rcpt *r = &from->rcpt[i];
		rc = envelope_add_rcpt(to, r->type, r->address, r->original, r->via);
	}
	if (rc)
		envelope_clear(to);
	return rc;
}

bool envelope_is_bounce(const struct envelope *e)
{
	return !e->from || strcmp(e->from, "<>") == 0;
}
