/* queue_index: the waiting messages' entries, and the order in which they are due. Of the queue
 * alone. */
#ifndef QUEUE_INDEX_H
#define QUEUE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "envelope.h"

/*
 * A message in the index. Kept small, as a router may hold a hundred thousand: 48 bytes, one
 * pointer in the heap, and nothing of malloc's, since entries come from blocks.
 */
struct queue_entry {
	union {
		uint64_t number; /* `ours`: the ID, */
		char *name;      /* else the ID as text */
	};
	union {
		int64_t due; /* in the heap: monotonic ms; QUEUE_NEVER: until a release */
		struct queue_entry *next; /* free, or parked in a lane: the next of them */
	};
	int64_t born;          /* monotonic ms; ages do not follow the wall clock's jumps */
	int64_t created;       /* wall clock, s: what the file says */
	struct envelope *kept; /* what could not be written to disk about it, else NULL */
	uint32_t slot;         /* in the heap, from 1; 0 while not in it */
	uint16_t place;        /* in its block */
	bool ours : 1;         /* the ID is one of spool_issue_id */
	bool active : 1;       /* being worked on, or parked in a lane */
	bool finished : 1;     /* delivered, but its file could not be removed */
	bool held : 1;         /* by its ID */
	unsigned removal : 2;  /* enum queue_removal */
};

struct queue_block;

struct queue_index {
	struct queue_entry **heap; /* heap[1..heap_count] */
	size_t heap_count, heap_size;
	struct queue_block *roomy; /* blocks with a free place */
	size_t room;               /* free places */
	size_t length;             /* entries in use */
};

/* Makes sure that n more entries can be taken, and that all fit the heap. 0, or -1: no memory. */
int queue_index_expect(struct queue_index *x, size_t n);

/* Takes an entry into use under an ID; in no list. NULL when there is no memory, which cannot be
 * for one of ours after queue_index_expect. */
struct queue_entry *queue_index_take(struct queue_index *x, const char *id);

/* Gives an entry, in the heap or in no list, back; memory for more than n further ones is freed. */
void queue_index_give(struct queue_index *x, struct queue_entry *e, size_t n);

/* Frees what n further entries do not need, but for a little. */
void queue_index_trim(struct queue_index *x, size_t n);

/* Forgets all; entries outside the heap were given back. */
void queue_index_clear(struct queue_index *x);

/* Puts an entry into the heap, or moves one that is there, by its new `due`. */
void queue_index_put(struct queue_index *x, struct queue_entry *e, int64_t due);

/* Takes it out, if it is in. */
void queue_index_out(struct queue_index *x, struct queue_entry *e);

#endif
