/* spool_text: what a message file says, as structs for textfield. Of the spool alone. */
#ifndef SPOOL_TEXT_H
#define SPOOL_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "envelope.h"
#include "status.h"
#include "textfield.h"

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

#endif
