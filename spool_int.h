/* spool_int: what the files of the spool share: the layout of a message file. */
#ifndef SPOOL_INT_H
#define SPOOL_INT_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "spool.h"
#include "spool_text.h"

struct journal;
struct spool_scan;

struct spool {
	int dir_fd;
	struct journal *journal; /* NULL: every message is a file */
	int damaged_fd;          /* -1 until something was set aside */
	unsigned records;        /* of attempts that wait for their flush */
	uint64_t last_id;
	size_t chances;
	uint64_t room;      /* free space when it was looked at last, in bytes */
	int64_t room_until; /* loop_now() until which that is good enough while there is plenty */
	void (*committed)(void *arg, const char *id, int64_t created);
	void *committed_arg;
	struct spool_scan *scan; /* NULL when the scan is over */
	uint64_t *issued;        /* IDs given while the scan runs, ascending */
	size_t issued_count;
	size_t issued_size;
	uint64_t *old; /* IDs that were in the journal at the start, ascending */
	size_t old_count;
	size_t told;    /* how many of them the scan has reported */
	bool old_known; /* the journal is read */
	size_t set_aside;
	uint64_t highest;    /* ID among the files the scan saw */
	uint32_t chance[32]; /* for the next IDs */
};

/* Calls seen for each good attempt in a message's file. 0, or -1 as spool_load; the file stays. */
int spool_read_history(struct spool *sp, const char *id,
                       void (*seen)(void *arg, const struct spool_attempt_text *a), void *arg,
                       struct status *st);

/* What begins the line of an end mark and that of an attempt. */
#define SPOOL_MARK    "created_at_ts { seconds: "
#define SPOOL_ATTEMPT "attempt {"

/* The name of a message's file. */
struct spool_name {
	char s[SPOOL_ID_MAX + 3];
};
struct spool_name spool_file_name(const char *id);

/* False when what is written could not be read back: nobody to send to, a string too long or not
 * UTF-8, a via list with a gap. Such a message must not be accepted. */
bool spool_envelope_fits(const struct envelope *env);

/* Gives a new ID, and remembers it while the scan might come across its file. 0 without memory. */
uint64_t spool_issue_id(struct spool *sp);

/* Wall clock in s. */
int64_t spool_now(struct timespec *ts);

/* Counts a message, or a record of an attempt, that was written. */
void spool_count_written(void);

/* Puts what is no message into queue/damaged/ and logs why. */
void spool_keep_damaged(struct spool *sp, const char *name, const char *p, size_t n,
                        const char *why);

/* Is it among these, which ascend? */
bool spool_has_id(const uint64_t *ids, size_t count, uint64_t number);

/* True when this ID was given out since spool_open, while the scan runs. */
bool spool_is_new(const struct spool *sp, uint64_t number);

/* A 4yz status for a trouble of disk or memory. */
void spool_trouble(struct status *st, const char *what, int error);

#endif
