/* spool_journal: new messages in memory, safe in a journal, before they become files. What the
 * other files of the spool see of it. */
#ifndef SPOOL_JOURNAL_H
#define SPOOL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"

struct spool;
struct spool_entry;

/* Makes files of what a journal of before holds, and begins an empty one: after dir_fd is there,
 * before the scan begins. Without a journal (no space, JOURNAL_BYTES 0, a disk that fails)
 * sp->journal stays NULL, and every message is a file. */
void journal_open(struct spool *sp);

/* Makes files of all there is. What could not become one stays in the journal. */
void journal_close(struct spool *sp);

/*
 * Counts what `text` takes against JOURNAL_POOL; *counted is what was counted before. False, with
 * nothing counted, when the pool is full or there is no journal: then the text must become a file.
 */
bool journal_count(struct spool *sp, const struct buf *text, size_t *counted);

void journal_uncount(struct spool *sp, size_t counted);

/*
 * Takes the text of a whole message with this checksum, and calls done from the loop when it is
 * durable (error 0), or is not and is gone (an errno). NULL with nothing taken when the journal
 * has no place for it.
 */
struct spool_entry *journal_commit(struct spool *sp, const char *id, struct buf *text,
                                   size_t counted, uint32_t crc, void (*done)(void *arg, int error),
                                   void *arg);

/* Ends a message whose done has not come, without a trace: done never comes. */
void journal_abort(struct spool_entry *e);

/* A message that is durable and in memory, NULL when it is not; it stays, also when it is removed
 * or becomes a file, until it is let go. */
struct spool_entry *journal_hold(struct spool *sp, const char *id);
void journal_let_go(struct spool_entry *e);

/* Its text, as its file would have it; valid until the loop goes on. */
struct slice journal_text(const struct spool_entry *e);

/* Appends the line of an attempt; -1 when the message is not in memory, else 0 or an errno. */
int journal_attempt(struct spool *sp, const char *id, const struct buf *line, bool durable);

/* Removes a message from memory and journal. False when it is not there. */
bool journal_remove(struct spool *sp, const char *id);

/* Makes it a file, not flushed, if it is in memory: for those who want to see it. */
void journal_push_out(struct spool *sp, const char *id);

#endif
