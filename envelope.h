/* envelope: who sends a message to whom, and what became of it so far. */
#ifndef ENVELOPE_H
#define ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "status.h"

enum rcpt_type { RCPT_EMAIL, RCPT_PIPE, RCPT_FORWARD };
enum rcpt_state { RCPT_PENDING, RCPT_SENT, RCPT_FAILED };

/* Strings are the envelope's, canonical (addr_format), those of a recipient in one piece of memory;
 * a pipe's address is its command line. */
struct rcpt {
	char *address;
	char *original; /* the RCPT address it came from, before aliases */
	char *via;      /* FORWARD: hosts, separated by '/'; else NULL */
	enum rcpt_type type;
	enum rcpt_state state;
	struct status *last; /* of the last attempt; NULL when there was none */
	char *remote;        /* whom it was made with; NULL when nobody was reached */
};

/* An envelope: who, to whom, since when, and what became of it. Zero-initialised is empty. */
struct envelope {
	char id[SPOOL_ID_MAX + 1];
	char *from; /* "<>" for the null sender */
	char **to;  /* the RCPT addresses */
	size_t to_count;
	struct rcpt *rcpt;
	size_t rcpt_count;
	int64_t created;      /* wall clock, seconds since 1970 */
	int64_t last_attempt; /* likewise; 0 when there was none */
	unsigned attempts;    /* rounds recorded */
	uint64_t size;        /* bytes of content, CRLF line ends; 0 when not known */
	bool submitted;       /* by a login or a user of this machine: its sender is its own */
	bool header_8bit;     /* the header section has bytes beyond ASCII; known at the commit */
};

/* Building. All copy their strings; return 0, or -1 when there is no memory or more than
 * SPOOL_RCPTS_MAX recipients. */
int envelope_set_from(struct envelope *e, const char *from);
int envelope_add_to(struct envelope *e, const char *to);
int envelope_add_rcpt(struct envelope *e, enum rcpt_type type, const char *address,
                      const char *original, const char *via);

/* Makes *to a copy of *from but for what attempts have told of recipients. Returns 0, or -1 when
 * there is no memory; then *to is empty. */
int envelope_copy(struct envelope *to, const struct envelope *from);

/* Takes back the recipients added last: `keep` of them stay. */
void envelope_drop_rcpts(struct envelope *e, size_t keep);

/* Notes what became of a recipient. Copies. 0, or -1 when there is no memory (the state is noted).
 */
int envelope_set_verdict(struct rcpt *r, enum rcpt_state state, const struct status *what,
                         const char *remote);

/* Frees everything; the envelope is empty and can be used again. */
void envelope_clear(struct envelope *e);

/* True for the null sender "<>". */
bool envelope_is_bounce(const struct envelope *e);

#endif
