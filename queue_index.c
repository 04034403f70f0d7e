/*
 * queue_index: entries in blocks of a page, and a heap of pointers to them.
 *
 * Memory a message is what the entry and its pointer take. Each block counts its entries; blocks
 * with a free place are in a list, and one that becomes empty is freed when enough places are left
 * elsewhere. Taking, giving back and moving cost the same for any length, but for the heap's depth.
 */
#include "queue_index.h"

#include <stdlib.h>
#include <string.h>

#include "spool.h"

/* Entries of a block: with its head and that of malloc, a page. */
#define QUEUE_BLOCK ((4096 - 64) / sizeof(struct queue_entry))

struct queue_block {
	struct queue_block *next, **link; /* in the list of roomy ones; link NULL: not in it */
	struct queue_entry *free;         /* given back */
	size_t fresh;                     /* those from here on were never used */
	size_t used;
	struct queue_entry entry[QUEUE_BLOCK];
};

/* ---- blocks ---- */

static void queue_block_link(struct queue_index *x, struct queue_block *b)
{
	b->next = x->roomy;
	b->link = &x->roomy;
	if (b->next)
		b->next->link = &b->next;
	x->roomy = b;
}

static void queue_block_unlink(struct queue_block *b)
{
	*b->link = b->next;
	if (b->next)
		b->next->link = b->link;
	b->link = NULL;
}

static struct queue_block *queue_block_of(struct queue_entry *e)
{
	char *first = (char *)(e - e->place);
	return (void *)(first - offsetof(struct queue_block, entry));
}

/* Frees the first of the roomy ones. */
static void queue_block_free_first(struct queue_index *x)
{
	struct queue_block *b = x->roomy;
	x->roomy = b->next;
	if (b->next)
		b->next->link = &x->roomy;
	x->room -= QUEUE_BLOCK;
	free(b);
}

/* ---- entries ---- */

static int queue_heap_resize(struct queue_index *x, size_t size)
{
	struct queue_entry **p =
	    size == x->heap_size ? x->heap : realloc(x->heap, size * sizeof *p);
	if (!p)
		return -1;
	x->heap = p;
	x->heap_size = size;
	return 0;
}

int queue_index_expect(struct queue_index *x, size_t n)
{
	size_t size = x->heap_size ? x->heap_size : 64;
	while (size < x->length + n + 1)
		size *= 2;
	if (queue_heap_resize(x, size))
		return -1;
	while (x->room < n) {
		struct queue_block *b = malloc(sizeof *b);
		if (!b)
			return -1;
		b->free = NULL;
		b->fresh = b->used = 0;
		queue_block_link(x, b);
		x->room += QUEUE_BLOCK;
	}
	return 0;
}

struct queue_entry *queue_index_take(struct queue_index *x, const char *id)
{
	uint64_t number = spool_id_number(id);
	char *name = number ? NULL : strdup(id);
	if ((!number && !name) || queue_index_expect(x, 1)) {
		free(name);
		return NULL;
	}
	struct queue_block *b = x->roomy;
	struct queue_entry *e = b->free;
	if (e)
		b->free = e->next;
	else
		e = &b->entry[b->fresh++];
	if (++b->used == QUEUE_BLOCK)
		queue_block_unlink(b);
	x->room--;
	x->length++;
	*e = (struct queue_entry){.place = (uint16_t)(e - b->entry), .ours = number != 0};
	if (number)
		e->number = number;
	else
		e->name = name;
	return e;
}

void queue_index_trim(struct queue_index *x, size_t n)
{
	/* The empty ones are in front. One block is left: a message at a time must not cost a block
	 * each. */
	while (x->room >= n + 2 * QUEUE_BLOCK && x->roomy && x->roomy->used == 0)
		queue_block_free_first(x);
	size_t size = x->heap_size;
	while (size > 64 && size / 4 > x->length + n)
		size /= 2;
	(void)queue_heap_resize(x, size);
}

void queue_index_give(struct queue_index *x, struct queue_entry *e, size_t n)
{
	struct queue_block *b = queue_block_of(e);
	queue_index_out(x, e);
	if (e->kept)
		envelope_clear(e->kept);
	free(e->kept);
	if (!e->ours)
		free(e->name);
	e->next = b->free;
	b->free = e;
	b->used--;
	x->room++;
	x->length--;
	if (b->used == 0 && b->link)
		queue_block_unlink(b);
	if (!b->link)
		queue_block_link(x, b);
	queue_index_trim(x, n);
}

void queue_index_clear(struct queue_index *x)
{
	while (x->heap_count > 0)
		queue_index_give(x, x->heap[x->heap_count], 0);
	while (x->roomy)
		queue_block_free_first(x);
	free(x->heap);
	*x = (struct queue_index){.heap = NULL};
}

/* ---- the heap ---- */

static void queue_heap_set(struct queue_index *x, size_t slot, struct queue_entry *e)
{
	x->heap[slot] = e;
	e->slot = (uint32_t)slot;
}

/* Finds its place for an entry that belongs at this slot or elsewhere. */
static void queue_heap_place(struct queue_index *x, size_t slot, struct queue_entry *e)
{
	size_t child;
	while (slot > 1 && x->heap[slot / 2]->due > e->due) {
		queue_heap_set(x, slot, x->heap[slot / 2]);
		slot /= 2;
	}
	while ((child = slot * 2) <= x->heap_count) {
		if (child < x->heap_count && x->heap[child + 1]->due < x->heap[child]->due)
			child++;
		if (x->heap[child]->due >= e->due)
			break;
		queue_heap_set(x, slot, x->heap[child]);
		slot = child;
	}
	queue_heap_set(x, slot, e);
}

void queue_index_out(struct queue_index *x, struct queue_entry *e)
{
	size_t slot = e->slot;
	if (!slot)
		return;
	struct queue_entry *last = x->heap[x->heap_count--];
	e->slot = 0;
	if (last != e)
		queue_heap_place(x, slot, last);
}

void queue_index_put(struct queue_index *x, struct queue_entry *e, int64_t due)
{
	e->due = due;
	if (e->slot) {
		queue_heap_place(x, e->slot, e);
		return;
	}
	x->heap_count++;
	queue_heap_place(x, x->heap_count, e);
}
