/* spool_journal: new messages in a journal, before they become files. What the
 * other files of the spool see of it. */
#ifndef SPOOL_JOURNAL_H
#define SPOOL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "buf.h"

struct spool;
struct spool_entry;

/* Opens the journal: after dir_fd is there, before the scan begins. Where a directory has its name
 * there is none: every message is a file, and so becomes what one of before has left, if anything;
 * else sp->journal stays NULL. 0, or -1 with errno when what
 * is there cannot be read, for want of memory, say, or by a build without a journal: it must not be
 * left alone. */
int journal_open(struct spool *sp);

/* Reads on in what one of before has left. 1: there is more; 2: the same, but not at once, for want
 * of memory; 0: what it held is there again, journal_numbers() tells what. */
int journal_replay_go_on(struct spool *sp);

/* A message of before may have a file, too, which was being made: looks, and makes it whole. When
 * that was done with each of them: that is all. */
void journal_look_at(struct spool *sp, const char *id);
void journal_seen_all(struct spool *sp);

/* Makes files of all there is, within JOURNAL_STOP_MS. What could not become one stays in the
 * journal. */
void journal_close(struct spool *sp);

/* The IDs of the messages that are in the journal, in no order, the first max of them. Returns how
 * many there are. */
size_t journal_numbers(const struct spool *sp, uint64_t *numbers, size_t max);

/*
 * Counts what `text` takes against JOURNAL_POOL; *counted is what was counted before. False, with
 * nothing counted, when there is no journal or the pool would be left with less than that again, so
 * that a few large texts do not keep out the small ones: then the text must become a file.
 */
bool journal_count(struct spool *sp, const struct buf *text, size_t *counted);

void journal_uncount(struct spool *sp, size_t counted);

/*
 * Copies the text of a whole message with this checksum, and calls done from the loop when it is
 * durable (error 0), or is not and is gone (an errno). NULL with nothing done when the journal has
 * no place for it.
 */
struct spool_entry *journal_commit(struct spool *sp, const char *id, const struct buf *text,
                                   uint32_t crc, void (*done)(void *arg, int error), void *arg);

/* Ends a message whose done has not come, without a trace: done never comes. */
void journal_abort(struct spool_entry *e);

/* A message that is in the journal and no file, NULL when it is not; it stays, also when it is
 * removed or becomes a file, until it is let go. */
struct spool_entry *journal_hold(struct spool *sp, const char *id);
void journal_let_go(struct spool_entry *e);

/* The length of its text, as its file would have it; and like pread, from that text. */
size_t journal_size(const struct spool_entry *e);
ssize_t journal_read(const struct spool_entry *e, char *p, size_t n, uint64_t at);

/* Appends the line of an attempt; -1 when the message is a file, if need be since just now, else 0
 * or an errno. */
int journal_attempt(struct spool *sp, const char *id, const struct buf *line, bool durable);

/* Removes a message from the journal. False when it is not there, or has a file, too. */
bool journal_remove(struct spool *sp, const char *id);

/* Is it a file that the journal has not done with yet? */
bool journal_is_filing(const struct spool *sp, const char *id);

/* A flush of its file, if it has one, has told of an error, which others are not told again: all of
 * the file is written over before it counts. */
void journal_distrust(struct spool *sp, const char *id);

/* Makes it a file, not flushed, if it is in the journal: for those who want to see it. */
void journal_push_out(struct spool *sp, const char *id);

#endif
