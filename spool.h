/* spool: messages on disk. What is under it (a file a message) is nobody else's business. */
#ifndef SPOOL_H
#define SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "envelope.h"
#include "status.h"

struct spool;

/* Opens (makes, mode 0700) DATA_DIR/queue, once no other process has it: waits for that, at most
 * SPOOL_LOCK_MS. NULL with *st filled on failure. Call disk_init first. */
struct spool *spool_open(const char *data_dir, struct status *st);
void spool_close(struct spool *sp);

/* 0 when a message of `size` bytes may come in; -1 with a 452 in *st when the disk is too full. */
int spool_has_room(struct spool *sp, uint64_t size, struct status *st);

/* Writing: begin, append in pieces, commit. Memory does not depend on the size of the message. */
struct spool_writer;

/* Starts a message: gives it an ID (also in env->id, with env->created) and writes the envelope's
 * head. env->size is what the sender says of its size, 0 when nothing, and decides nothing but how
 * it is kept. NULL with a 4yz *st when disk or memory fail. The envelope is not kept. */
struct spool_writer *spool_begin(struct spool *sp, struct envelope *env, struct status *st);

/* Adds content with CRLF line ends, in pieces of any size. An error is kept for the commit. */
void spool_append(struct spool_writer *w, const char *p, size_t n);

/* Header lines (CRLF) that are to stand before the content, known only now. Once, at most
 * SPOOL_PREPEND_MAX bytes; more is an error kept for the commit. */
void spool_prepend(struct spool_writer *w, const char *p, size_t n);

/* Notes that the header section has bytes beyond ASCII: the envelope then says so when it is
 * loaded.
 */
void spool_note_8bit_header(struct spool_writer *w);

/*
 * Ends the message and makes it durable. `done` is called once, from the loop: with class 2 when
 * the message is ours for good, else with a 4yz and nothing left behind. w is gone at the call of
 * done. The id is that of the message.
 */
void spool_commit(struct spool_writer *w,
                  void (*done)(void *arg, const char *id, const struct status *st), void *arg);

/* Ends it without a trace. Also while a commit is waiting: done never comes. */
void spool_abort(struct spool_writer *w);

/* Told of every commit, just before its done: the queue listens here. */
void spool_on_commit(struct spool *sp, void (*fn)(void *arg, const char *id, int64_t created),
                     void *arg);

/* Reads an envelope with all attempts applied. 0, or -1 with *st: class 4 when it may work later,
 * class 5 when the file is damaged (and has been set aside). */
int spool_load(struct spool *sp, const char *id, struct envelope *env, struct status *st);

/* Empties an envelope that was loaded and is as it was then: the next time it may be cheaper. */
void spool_unload(struct spool *sp, struct envelope *env);

/* Reading content from its beginning (prepended headers first), CRLF line ends. */
struct spool_reader;
struct spool_reader *spool_read_open(struct spool *sp, const char *id, struct status *st);

/* Up to n bytes; 0 at the end, which is only reported when size and checksum agree; -1 with *st
 * filled when they do not (class 5; the file has been set aside) or the disk fails (class 4). */
ssize_t spool_read(struct spool_reader *r, char *p, size_t n, struct status *st);
void spool_read_close(struct spool_reader *r);

/*
 * Appends what became of some recipients (indexes into env->rcpt) and updates env. `durable` waits
 * for nothing but has the record flushed with the next batch; without it the kernel writes it when
 * it likes. 0, or -1 with *st (the attempt is then known in memory only).
 */
int spool_attempt(struct spool *sp, struct envelope *env, const size_t *rcpts, size_t count,
                  enum rcpt_state state, const struct status *what, const char *remote,
                  bool durable, struct status *st);

/* Removes a message whose work is done. 0, or -1 with *st; then it may come again. */
int spool_remove(struct spool *sp, const char *id, struct status *st);

/* What the scan says of a message: when it was accepted and last tried (wall clock, s; 0 never). */
struct spool_found {
	const char *id;
	int64_t created;
	int64_t last_attempt;
};

/*
 * One turn of the start-up scan: SPOOL_SCAN_STEP short steps, fewer when SPOOL_SCAN_US have passed
 * since the turn began. Calls found for each good message; damaged ones are set aside, torn
 * attempts cut off. Messages committed since spool_open are not reported. Returns 1 while there is
 * more, 2 when that is to wait for a while, 0 at the end, -1 with *st when the directory cannot be
 * read.
 */
int spool_scan(struct spool *sp, void (*found)(void *arg, const struct spool_found *f), void *arg,
               struct status *st);

/* An ID of ours to and from a number that sorts alike, for those who keep many; spool_id_number
 * returns 0 for a name that is not ours. */
void spool_id_text(uint64_t number, char out[SPOOL_ID_MAX + 1]);
uint64_t spool_id_number(const char *id);

/*
 * An empty file without a name, read-write, close-on-exec, that takes a whole message before a
 * program gets it as its input. Through a pipe a program would see an end of file, and take half a
 * message for a whole one, as soon as the writing process dies. Returns a descriptor, the caller's,
 * or -1 with a 4yz *st.
 */
int spool_temp_file(struct spool *sp, struct status *st);

/* Moves a message to queue/damaged/ and logs why. */
void spool_set_aside(struct spool *sp, const char *id, const char *why);

#endif
