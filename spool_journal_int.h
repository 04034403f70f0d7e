/* spool_journal_int: what the files of the journal share. */
#ifndef SPOOL_JOURNAL_INT_H
#define SPOOL_JOURNAL_INT_H

#include "disk.h"
#include "loop.h"
#include "spool_int.h"
#include "spool_journal.h"

/* END stands behind the last record of each write and is written over by the next. */
enum journal_kind { JOURNAL_MESSAGE, JOURNAL_ATTEMPT, JOURNAL_DONE, JOURNAL_END, JOURNAL_KINDS };

/* The most a record has beside its text. DONE and END have no text. */
#define JOURNAL_FRAME 256

struct spool_entry {
	struct journal *journal;
	struct spool_entry *chain; /* of its bucket */
	struct spool_entry *older; /* in its list */
	struct spool_entry *newer;
	struct journal_list *list; /* NULL: gone, kept by those who hold it */
	uint64_t number;           /* the ID */
	struct buf text;
	size_t counted;
	int64_t since;    /* loop_now() of its coming */
	unsigned segment; /* where its record is */
	unsigned holds;
	void (*done)(void *arg, int error); /* while it waits */
	void *arg;
	int fd; /* of its file, while that is being flushed */
	struct disk_sync sync;
};

struct journal_list {
	struct spool_entry *oldest, *newest;
};

struct journal_segment {
	struct journal *journal;
	int fd;
	size_t entries; /* whose place is here */
	int error;      /* of a write since the last flush */
	struct disk_sync sync;
};

#define JOURNAL_BUCKETS 512 /* a power of two */

struct journal {
	struct spool *spool;
	struct journal_segment seg[2];
	unsigned active;
	uint64_t generation; /* of the records in the active one */
	size_t at;           /* where the next record goes, `out` counted */
	struct buf out;      /* records that are still to be written */
	bool broken;         /* takes nothing more; what it has becomes files */
	bool closed;         /* no records: at the beginning and at the end */
	struct journal_list waiting;
	struct journal_list live;
	struct journal_list filing;
	size_t used;        /* bytes of the pool */
	size_t used_filing; /* of these, on their way out */
	size_t filing_count;
	int64_t retry_at; /* no new files before that */
	struct loop_timer timer;
	struct spool_entry *bucket[JOURNAL_BUCKETS];
};

/* ---- spool_journal.c: records ---- */

/* Room for a record with n bytes of text? Goes on to the other segment when that is free. */
bool journal_make_place(struct journal *j, size_t n);

/* Appends a record to what is to be written. For all but DONE, journal_make_place said yes. */
void journal_put(struct journal *j, enum journal_kind kind, uint64_t number, struct slice text,
                 uint32_t crc);

/* Writes what is to be written; flushes nothing. */
void journal_write(struct journal *j);

/* Has the active segment written and flushed with the next batch. */
void journal_ask_flush(struct journal *j);

/* Removes the files, of which nothing is needed any more. */
void journal_unlink(const struct journal *j);

/* ---- spool_memory.c: entries ---- */

/* A new entry with this text (taken), in the active segment; not in any list. NULL without memory,
 * nothing taken. */
struct spool_entry *journal_entry_new(struct journal *j, uint64_t number, struct buf *text);
/* Takes it out of lists, pool and segment; freed when nobody holds it. */
void journal_entry_drop(struct spool_entry *e);
/* From now on it is found, and live. */
void journal_entry_show(struct spool_entry *e);
struct spool_entry *journal_entry_find(const struct journal *j, uint64_t number);

/* Makes it durable as far as a flush of its segment went: tells those who wait for that one. */
void journal_flushed(struct journal *j, unsigned segment, int error);

/* Makes files of entries for whom it is time. */
void journal_relieve(struct journal *j);

/* Makes files of all, flushed. True when none is left. */
bool journal_file_all(struct journal *j);

/* ---- spool_replay.c ---- */

/* Name of a segment's file, in the queue's directory. */
const char *journal_name(unsigned segment);

/* The parts of a record around its text. */
extern const char *const journal_kind_name[JOURNAL_KINDS];
extern const char *const journal_before[JOURNAL_KINDS];
extern const char *const journal_behind[JOURNAL_KINDS];

/* Makes entries of what the segments' files hold, and raises j->generation above theirs. 0, or -1
 * with errno when one cannot be read: then they must stay as they are. */
int journal_replay(struct journal *j);

#endif
