/* local: what the local couriers share: the message as a mailbox or a program gets it, and the
 * replacement of %names% by parts of addresses. */
#ifndef LOCAL_H
#define LOCAL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "addr.h"
#include "buf.h"
#include "courier.h"
#include "loop.h"
#include "spool.h"

/*
 * A message being read for final delivery (RFC 5321 4.4): first Return-Path and Delivered-To of
 * this delivery, then the content without the Return-Path fields it came with, line ends as the
 * receiver wants them. Embedded in its owner, zeroed before its first use; memory does not depend
 * on the size of the message.
 */
struct local_source {
	/* private */
	struct spool_reader *reader;
	struct buf out; /* made, not yet taken */
	size_t taken;   /* of out, by the last local_source_next */
	bool crlf;
	bool cr; /* a CR that may belong to a line end */
	bool ended;
	bool broken;
	unsigned char state;
	unsigned char held; /* bytes of a field name that may become Return-Path */
	char name[16];
	/* public */
	struct status st; /* why it broke; class 4 */
};

/* Opens the message of d for its only recipient. Returns 0, or -1 with *st (class 4) and nothing
 * open. */
int local_source_open(struct local_source *s, const struct delivery *d, bool crlf,
                      struct status *st);

/* The next bytes: 1 with *piece set (valid until the next call; take it all); 0 at the end, which
 * is reached only when size and checksum agree; -1 with s->st. */
int local_source_next(struct local_source *s, struct slice *piece);

/* Closes; harmless on a zeroed or closed struct. */
void local_source_close(struct local_source *s);

/* A message on its way into a file, COURIER_STEP bytes a turn. Embedded in its owner, zeroed before
 * its first use. */
struct local_copy {
	struct local_source source;

	/* private */
	struct loop_timer timer;
	int fd;
	void (*done)(void *arg, int error);
	void *arg;
};

#define LOCAL_COPY_BROKEN (-1)

/*
 * Opens the message of d, as local_source_open, and writes all of it to fd, which stays the
 * caller's. Returns 0, or -1 with *st. `done` is called once, from the loop: error is 0 when all
 * was written and checked, LOCAL_COPY_BROKEN when the message cannot be read (source.st says why),
 * or the errno of a write.
 */
int local_copy_start(struct local_copy *c, const struct delivery *d, bool crlf, int fd,
                     void (*done)(void *arg, int error), void *arg, struct status *st);

/* Ends it at once, without `done`; harmless on a zeroed or ended copy. */
void local_copy_stop(struct local_copy *c);

/*
 * The sender and the recipient for %replacements%, whole and in parts, freed of what a shell, a
 * path or a program's options could take for something else: blanks, control characters,
 * / ; " ' \ | * & $ % ( ) [ ] { } ` ! and leading '-' and '.'. Of the null sender `all` and `user`
 * are "<>".
 */
struct local_name {
	char all[ADDR_TEXT_MAX];
	char user[ADDR_USER_MAX + 1];
	char domain[ADDR_DOMAIN_MAX + 1];
};
struct local_names {
	struct local_name from;
	struct local_name to;
};

/* Fills names from two canonical addresses. Returns 0; or -1 when `to` is none. A `from` that is
 * none leaves its part empty. */
int local_names_set(struct local_names *names, const char *from, const char *to);

/* Replaces %from% %from_user% %from_domain% %to% %to_user% %to_domain% wherever they stand, in a
 * single pass. Returns a new string (the caller frees it) or NULL: no memory, or longer than
 * COURIER_ARG_MAX. */
char *local_expand(const char *template, const struct local_names *names);

/* The address the delivery is for as others may see it: never the command line of a pipe. */
const char *local_recipient(const struct delivery *d);

#endif
