/* spool_journal_int: what the files of the journal share. */
#ifndef SPOOL_JOURNAL_INT_H
#define SPOOL_JOURNAL_INT_H

#include "disk.h"
#include "loop.h"
#include "spool_entry.h"
#include "spool_fresh.h"
#include "spool_int.h"
#include "spool_journal.h"

/* END stands behind the last record of each write and is written over by the next. */
enum journal_kind { JOURNAL_MESSAGE, JOURNAL_ATTEMPT, JOURNAL_DONE, JOURNAL_END, JOURNAL_KINDS };

/* The most a record has beside its text; what a message takes in that of a DONE. END has none. */
#define JOURNAL_FRAME      256
#define JOURNAL_DONE_BYTES 20

struct journal_segment {
	struct journal *journal;
	int fd;              /* -1: there is none */
	uint64_t generation; /* of its records; 0: it has none */
	size_t size;
	size_t entries; /* whose records are needed */
	size_t pins;    /* readers of texts in it */
	int error;      /* of a write since the last flush */
	bool flushing;  /* prepared: what comes now is not in the flush under way, */
	bool again;     /* and asks for one more */
	bool stays;     /* there is none, but its file could not be removed */
	struct disk_sync sync;
};

#define JOURNAL_BUCKETS  4096 /* a power of two */
#define JOURNAL_NAMES    64   /* segments there may ever have been */
#define JOURNAL_NONE     JOURNAL_NAMES
#define JOURNAL_NEW_FILE ".journal.new"

/* In place of what stands before the text of a message: it was refused when it was written already.
 * As long as that is. */
#define JOURNAL_REFUSED " refused {\n"

/* Offsets have 32 bits, and a segment is read into memory. */
#define JOURNAL_BYTES_MAX (1024 * 1024 * 1024)

/* Of a segment; without segments anything. */
#define JOURNAL_HALF (JOURNAL_BYTES ? JOURNAL_BYTES / 2 : JOURNAL_BYTES_MAX)

/* The most entries: their DONE must not take more than half of a segment. From the last number on
 * the oldest become files. */
#define JOURNAL_DONE_MAX  (JOURNAL_HALF / JOURNAL_DONE_BYTES)
#define JOURNAL_COUNT_MAX (JOURNAL_ENTRIES < JOURNAL_DONE_MAX ? JOURNAL_ENTRIES : JOURNAL_DONE_MAX)
#define JOURNAL_FILL      (JOURNAL_COUNT_MAX - JOURNAL_COUNT_MAX / 8)

/* What is done for the journal in the background: by a child, or, names, by the barrier. */
enum journal_job { JOURNAL_IDLE, JOURNAL_MAKE, JOURNAL_NAME, JOURNAL_FLUSH };

struct journal {
	struct spool *spool;
	int dir_fd;   /* queue/, for children: who else flushes it is told of errors by itself */
	int names_fd; /* the same, for the first flush, before which names may not be durable; then
	                 -1 */
	unsigned active;               /* JOURNAL_NONE: none */
	uint64_t generation;           /* the highest there is */
	size_t at;                     /* where the next record goes, `out` counted */
	bool broken;                   /* takes nothing more; what it has becomes files */
	bool unwanted;                 /* the same, and there will be no other */
	bool closed;                   /* no records: at the beginning and at the end */
	bool thinning;                 /* there are too many: until there are clearly fewer */
	bool strays;                   /* one that is live may have a file, too */
	bool unsure;                   /* the same, of those of before; until each was looked at */
	struct journal_replay *replay; /* NULL: all is read */
	size_t count;                  /* entries in lists */
	size_t used;                   /* bytes of the pool */
	int64_t retry_at;              /* no new files before that, ms */
	int64_t make_at;               /* no new segment before that, ms */
	int64_t sliced_us;             /* when the last slice of filing was over */
	int64_t begun_at;              /* when a segment was last begun, ms */
	enum journal_job job;
	unsigned making; /* JOURNAL_NAME: which segment */
	struct disk_sync name_sync;
	pid_t pid;
	int fresh_last; /* the place that was taken last */
	struct buf out; /* records that are still to be written */
	struct loop_batch batch;
	struct loop_child child;
	struct loop_timer timer;
	struct journal_list list[JOURNAL_STATES];
	struct journal_segment seg[JOURNAL_NAMES];
	struct journal_fresh fresh[SPOOL_FRESH_MAX];
	uint64_t fresh_number[SPOOL_FRESH_MAX]; /* of the message in each place; 0: free */
	struct spool_entry *bucket[JOURNAL_BUCKETS];
};

#include "spool_journal_parts.h"

#endif
