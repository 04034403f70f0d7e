/* fake_message: a spool of one message in memory, for tests of those who read and write messages.
 */
#ifndef FAKE_MESSAGE_H
#define FAKE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "envelope.h"

struct fake_message {
	struct slice content; /* what a reader gets */
	size_t piece;         /* most bytes of one read; 0: as asked */
	size_t break_at;      /* reading fails here; SIZE_MAX: nowhere */
	int break_code;       /* with this code */
	bool no_open;         /* spool_read_open fails */
	bool no_begin;        /* spool_begin fails */
	bool no_commit;       /* the commit ends with 452 */
	bool no_temp;         /* spool_temp_file fails */
	bool temp_full;       /* writing to it ends with ENOSPC */
	int readers;          /* open ones; likewise */
	int writers;
	int commits;
	int aborts;
	size_t biggest_turn; /* most bytes moved between two calls of fake_message_turn */
	size_t turn;
	struct buf written;  /* what was appended and committed */
	struct envelope env; /* of the writer, copied */
};

extern struct fake_message fake_message;

/* Everything as at the start, with this content. */
void fake_message_reset(struct slice content);

/* Counts what one turn of the loop moves. */
void fake_message_turn(void);

#endif
