/* alias_int: what the files of alias share. Private. */
#ifndef ALIAS_INT_H
#define ALIAS_INT_H

#include <stdint.h>

#include "alias.h"
#include "buf.h"

/*
 * An entry in the text: its key, NUL, then items, then NUL. An item: the letter of its type, the
 * address (without "@domain" when that is the table's own) or command, NUL, and for a forward the
 * hosts, NUL.
 */
struct alias_table {
	struct buf text;
	uint32_t *entry; /* offsets, sorted by key */
	size_t count;
	const char *domain;
};

static inline char alias_letter(enum alias_type type)
{
	return type == ALIAS_PIPE ? 'P' : (type == ALIAS_FORWARD ? 'F' : 'E');
}

/* A file being read. The functions below return 0, or -1 with err written. */
struct alias_loader {
	/* Takes a line without its end. */
	int (*take)(struct alias_loader *l, struct slice line);
	/* At the end of the file; NULL: nothing. */
	int (*end)(struct alias_loader *l);
	struct alias_table *t;
	const char *path;
	const char *domain;
	const char *separators;
	const char *drop;
	size_t entry_room;
	int line;
	char *err;
	size_t err_size;
};

/* Reads l->path with l->take and makes a table. NULL with err written. */
struct alias_table *alias_load_with(struct alias_loader *l);

/* Writes "file:line: reason" into err. Returns -1. */
int alias_fail(struct alias_loader *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Without blanks at either end. */
struct slice alias_trim(struct slice s);

/* Offset of the first byte that is one of the set and stands outside double quotes; s.n if none. */
size_t alias_find_unquoted(struct slice s, const char *set);

/* Control characters and broken UTF-8 have no meaning here and would travel on. */
int alias_check_bytes(struct alias_loader *l, struct slice line);

/* Parts of an entry: its name; an address in its stored form; an item as it is. They stand at the
 * end of l->t->text. */
int alias_read_name(struct alias_loader *l, struct slice name);
int alias_put_address(struct alias_loader *l, enum alias_type type, struct slice text);
int alias_put_item(struct alias_loader *l, enum alias_type type, struct slice text);

/* The entry that begins at this offset is complete. */
int alias_add_entry(struct alias_loader *l, size_t offset);

/* The items of the alias with this key; NULL when there is none, or none with items. */
const char *alias_find(const struct alias_table *t, const char *key);

#endif
