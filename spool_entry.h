/* spool_entry: one message of the journal in memory (spool_memory.c); for the files of the journal.
 */
#ifndef SPOOL_ENTRY_H
#define SPOOL_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal;

/* Where an entry is; docs/INTERNALS.md has the whole. ENDED waits for its DONE to be written. */
enum journal_state {
	JOURNAL_GONE, /* in no list, kept by those who hold it */
	JOURNAL_WAITING,
	JOURNAL_TOLD, /* in the flush under way: its done is about to be called */
	JOURNAL_LIVE,
	JOURNAL_MADE,
	JOURNAL_FLUSHING,
	JOURNAL_SPOILT,
	JOURNAL_ENDED,
	JOURNAL_STATES
};

/* Many of them: 80 bytes with what malloc adds, on 64 bits. */
struct spool_entry {
	struct journal *journal;
	struct spool_entry *chain; /* of its bucket */
	struct spool_entry *older; /* in its list */
	struct spool_entry *newer;
	uint64_t number; /* the ID */
	union {
		struct { /* while it waits */
			void (*done)(void *arg, int error);
			void *arg;
		} wait;
		struct { /* lines of attempts since it came */
			char *text;
			size_t n;
		} tried;
	} u;
	uint32_t offset; /* of its text in the segment */
	uint32_t length;
	uint32_t since; /* loop_now() of its coming, in s */
	uint8_t segment;
	uint8_t state;
	uint16_t holds;
};

struct journal_list {
	struct spool_entry *oldest, *newest;
	size_t count;
};

/* A new entry whose text is at this place of the segment; in no list. NULL without memory. */
struct spool_entry *journal_entry_new(struct journal *j, uint64_t number, unsigned segment,
                                      size_t offset, size_t length);

void journal_entry_move(struct spool_entry *e, enum journal_state to);

/* From now on it is found, and live. */
void journal_entry_show(struct spool_entry *e);
struct spool_entry *journal_entry_find(const struct journal *j, uint64_t number);

/* Adds the line of an attempt in memory. 0, or -1 when there is none. */
int journal_entry_add(struct spool_entry *e, const char *p, size_t n);

/* The message is gone or a file: its DONE is written with the next records. */
void journal_end(struct spool_entry *e);
/* Takes it out of everything; freed when nobody holds it. */
void journal_entry_drop(struct spool_entry *e);

/* Drops those that have ended; segment JOURNAL_NONE: in all of them. */
void journal_drop_ended(struct journal *j, unsigned segment);

/* Notes who is in the flush of a segment that is about to begin; and tells them how it went. */
void journal_flushing(struct journal *j, unsigned segment);
void journal_flushed(struct journal *j, unsigned segment, int error);

#endif
