/* spool_int: what the files of the spool share: the layout of a message file. */
#ifndef SPOOL_INT_H
#define SPOOL_INT_H

#include <dirent.h>
#include <stdint.h>

#include "spool.h"
#include "textfield.h"

struct spool {
	int dir_fd;
	int damaged_fd; /* -1 until something was set aside */
	uint64_t last_id;
	void (*committed)(void *arg, const char *id, int64_t created);
	void *committed_arg;
	DIR *scan;        /* NULL when the scan is over */
	uint64_t *issued; /* IDs given while the scan runs, ascending */
	size_t issued_count;
	size_t issued_size;
	size_t set_aside;
};

/* Records of a file as structs for textfield; see docs/queue.proto. */
struct spool_time {
	int64_t seconds;
	int32_t nanos;
	int given[2];
};

struct spool_attempt_text {
	struct text_numbers rcpt;
	struct spool_time at;
	int status;
	char *text;
	char *remote;
	uint32_t crc32;
	int given[6];
};

struct spool_rcpt_text {
	char *address;
	int type;
	int status;
	char *last_failure_message;
	char *original_address;
	struct text_strings via;
	int given[6];
};

struct spool_text {
	char *id;
	char *from;
	struct text_strings to;
	struct spool_time created;
	struct buf prepend;
	uint64_t size;
	uint32_t crc32;
	uint64_t head_end;
	uint32_t head_crc32;
	uint64_t data_end;
	uint32_t mark_crc32;
	bool submitted;
	bool header_8bit;
	struct envelope *env; /* where rcpt and attempt elements go, and rcpt come from */
	int given[16];
};

/* Positions of the fields of spool_text in spool_message. */
enum {
	SPOOL_F_ID,
	SPOOL_F_FROM,
	SPOOL_F_TO,
	SPOOL_F_RCPT,
	SPOOL_F_SUBMITTED,
	SPOOL_F_DATA,
	SPOOL_F_CREATED,
	SPOOL_F_PREPEND,
	SPOOL_F_SIZE,
	SPOOL_F_CRC,
	SPOOL_F_HEAD_END,
	SPOOL_F_HEAD_CRC,
	SPOOL_F_DATA_END,
	SPOOL_F_HEADER_8BIT,
	SPOOL_F_MARK_CRC,
	SPOOL_F_ATTEMPT,
	SPOOL_F_COUNT
};

extern const struct text_message spool_message, spool_attempt_message;

/* What the text of an attempt says. */
void spool_attempt_status(const struct spool_attempt_text *t, struct status *st);

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

/* True when the scan need not report this ID: it was given out since spool_open. */
bool spool_was_issued(const struct spool *sp, const char *id);

/* A 4yz status for a trouble of disk or memory. */
void spool_trouble(struct status *st, const char *what, int error);

#endif
