/* conf_int: what the parts of conf share: how values are kept, and where they come from. */
#ifndef CONF_INT_H
#define CONF_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "conf.h"
#include "conf_keys.h"

/* Where the values in effect come from. */
struct conf_origins {
	const char *file;   /* its name without the directory */
	int line[KEYS];     /* 0: the default */
	bool by_hand[KEYS]; /* with -o */
	bool stayed[KEYS];  /* not taken over from here */
};

struct conf_loader {
	struct conf_keys k;
	const char *file; /* for messages */
	char *err;
	size_t err_size;
};

/* How a key's value lies in struct conf. */
enum conf_slot_kind {
	SLOT_NONE, /* in no place of its own */
	SLOT_STRING,
	SLOT_NUMBER,
	SLOT_SECONDS,
	SLOT_LEVEL,
	SLOT_MODE,
	SLOT_BOOL,
	SLOT_LINE_ENDS,
	SLOT_LIST,
	SLOT_NETS,
	SLOT_SMARTHOSTS,
	SLOT_MASQUERADES,
};
struct conf_slot {
	enum conf_slot_kind kind : 8;
	uint16_t offset;
};
extern const struct conf_slot conf_slots[KEYS];

/* Swaps a key's value and origin between two configurations; the origin alone. */
void conf_origin_swap(struct conf *a, struct conf *b, enum conf_key key);
void conf_slot_swap(struct conf *a, struct conf *b, enum conf_key key);

/* Checks all keys and moves them into an empty configuration. 0, or -1 with the reason in l->err.
 */
int conf_take_all(struct conf_loader *l, struct conf *c);

/* conf_load without domains/ and without going to the directory. */
struct conf *conf_read(const char *dir, const char *const *overrides, size_t override_count,
                       char *err, size_t err_size);

/* Goes to the configuration directory again: a tool may have put another one in its place, and the
 * files of the one that was there are gone. */
void conf_enter(const struct conf *c);

#endif
