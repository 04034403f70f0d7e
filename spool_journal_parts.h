/* spool_journal_parts: what each file of the journal does for the others; for
 * spool_journal_int.h, which has the structs. */
#ifndef SPOOL_JOURNAL_PARTS_H
#define SPOOL_JOURNAL_PARTS_H

/* ---- spool_journal.c: records ---- */

/* Room for a record with n bytes of text? Goes on to the next segment when that is free. */
bool journal_make_place(struct journal *j, size_t n);

/* Appends a record to what is to be written, for which there is place. Returns the offset of its
 * text in the active segment; 0 when it is not there. */
size_t journal_put(struct journal *j, enum journal_kind kind, uint64_t number, struct slice text,
                   uint32_t crc);

/* Writes the first line of a record, whatever goes before its text included, to `head` of
 * JOURNAL_FRAME bytes. Returns its length. */
size_t journal_head(char *head, uint64_t generation, enum journal_kind kind, uint64_t number,
                    size_t n, uint32_t crc);

/* Makes the record of a message that is refused say so, as far as that can be done: it may be there
 * in spite of the error. */
void journal_withdraw(const struct spool_entry *e);

/* Writes what is to be written, and DONE of those who have ended as far as there is place; flushes
 * nothing. `all` goes on to the next segment for that. Now, or all at the end of the turn. */
void journal_write(struct journal *j);
void journal_write_all(struct journal *j);
void journal_write_soon(struct journal *j);

/* Has the active segment written and flushed with the next batch. */
void journal_ask_flush(struct journal *j);

/* Takes no more, for good or until all it has is filed. */
void journal_break(struct journal *j, struct journal_segment *seg, int error);

/* ---- spool_segment.c ---- */

/* Name of a segment's file, in the queue's directory. */
struct spool_name journal_name(unsigned segment);

/* How many there are. */
size_t journal_segments(const struct journal *j);

/* The segment to be written next, or JOURNAL_NONE when there is none that is free. */
unsigned journal_next(const struct journal *j);

/* Free segments, and those that may still be made. */
size_t journal_spare(const struct journal *j);

/* Makes a segment say that it is empty, durably; those ended in it need no DONE any more. 0, or -1
 * with errno. */
int journal_wipe(struct journal *j, unsigned segment);

/* Makes the first segment, now. 0, or -1 with errno. */
int journal_make_first(struct journal *j);

/* Has a segment made in the background when one is wanted, takes back those that are not. Returns
 * ms until there is more to do, -1: when something has happened. */
int64_t journal_tend(struct journal *j);

/* Makes all segments say that they are empty, and removes those beyond JOURNAL_KEEP: at the end. */
void journal_empty(struct journal *j);

/* Writes the file of a new segment, under no segment's name. 0, or an errno. In the child. */
int journal_fill_new(const struct journal *j);

/* Gives it the name of segment j->making, not durably yet. 0, or an errno. */
int journal_name_new(struct journal *j);

/* Closes a segment; with `gone` its file is removed. */
void journal_drop_segment(struct journal *j, unsigned segment, bool gone);

/* ---- spool_filing.c ---- */

/* Writes the message's file, unflushed; from then on the file is the message. 0, or an errno. */
int journal_file_make(struct spool_entry *e);

/* Looks after all there is to do, now and then again by a timer; or with the next turn. */
void journal_relieve(struct journal *j);
void journal_relieve_soon(struct journal *j);

/* Makes files of all, flushed, as far as there is time. Returns how many are left. */
size_t journal_file_all(struct journal *j);

/* Starts a child for a job, false when there can be none now; ends the one that is at work. */
bool journal_start_job(struct journal *j, enum journal_job job);
void journal_stop_job(struct journal *j);

/* ---- spool_replay.c ---- */

/* The parts of a record around its text. */
extern const char *const journal_kind_name[JOURNAL_KINDS];
extern const char *const journal_before[JOURNAL_KINDS];
extern const char *const journal_behind[JOURNAL_KINDS];

/* Opens the segments there are, sets j->generation to a number after theirs, and, when they have
 * records, j->replay: to be read by and by. 0, or -1 with errno when one cannot be read: they must
 * stay as they are. */
int journal_replay_begin(struct journal *j);

/* Reads all that is left. 0, or -1 with errno. */
int journal_replay_all(struct journal *j);
void journal_replay_free(struct journal *j);

#endif
