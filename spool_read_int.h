/* spool_read_int: a message's file read in steps, for spool_read and the scan. */
#ifndef SPOOL_READ_INT_H
#define SPOOL_READ_INT_H

#include "spool_int.h"

/* What a step, or all of them, came to: why a file could not be used; or there is more to do. */
enum spool_fault { SPOOL_GOOD, SPOOL_DAMAGED, SPOOL_ERRNO, SPOOL_MORE };

/* Where the bytes of a message are: in a file, or in the journal. What was read last is kept, more
 * than was asked for: a small message is read with one call. */
struct spool_source {
	int fd; /* -1: none */
	struct spool_entry *entry;
	uint64_t size;
	char *block;  /* NULL: none yet */
	size_t ahead; /* its size */
	size_t have;  /* of it, */
	uint64_t at;  /* from here on */
};

/* A message that is open, and where its parts are. */
struct spool_file {
	struct spool_source from;
	uint64_t size;
	bool foreign;        /* chasquid's: no mark of ours */
	uint64_t unsearched; /* the search for the mark goes on before this offset */
	int rotten;          /* blocks with NUL that it met */
	uint64_t mark;       /* offset of the mark line; not for foreign */
	uint64_t tail;       /* offset of the first attempt */
	uint64_t at;         /* attempts are read up to here, */
	uint64_t good;       /* and this is behind the last complete line; the rest is torn */
	struct buf line;     /* what is between */
	struct spool_text text;
	/* Gets the attempts instead of the envelope; NULL: they are applied. */
	void (*seen)(void *arg, const struct spool_attempt_text *a);
	void *seen_arg;
	const char *why; /* SPOOL_DAMAGED */
	int error;       /* SPOOL_ERRNO */
};

/* A part of a file as a source for text_open, with the checksum of what was read. */
struct spool_part {
	struct spool_source *from;
	uint64_t at;
	uint64_t end;
	uint32_t crc;
};

/* A part that is read into the file's text and, through it, into its envelope. */
struct spool_parse {
	struct spool_part part;
	struct text_reader text;
	bool skipping; /* content */
};

/* Opens a message. Recipients and attempts go to env, which is kept. */
enum spool_fault spool_file_open(struct spool *sp, const char *id, struct spool_file *f,
                                 struct envelope *env, int flags);
void spool_file_close(struct spool_file *f);

/* The steps, each of which reads little more than SPOOL_BLOCK bytes: to the mark, which is then
 * known (or f->foreign set); through a foreign file to its attempts; through the attempts. MORE:
 * again.
 */
#define SPOOL_BLOCK 4096
enum spool_fault spool_step_mark(struct spool_file *f);
enum spool_fault spool_begin_foreign(struct spool_file *f, struct spool_parse *p);
enum spool_fault spool_step_foreign(struct spool_file *f, struct spool_parse *p);
enum spool_fault spool_step_attempts(struct spool_file *f);

/* Says in *st what was wrong, and sets a damaged file aside. Returns -1. */
int spool_give_up(struct spool *sp, const char *id, enum spool_fault fault,
                  const struct spool_file *f, struct status *st);

#endif
