/* textfield: structs read from and written to protobuf text format, by one table for both ways. */
#ifndef TEXTFIELD_H
#define TEXTFIELD_H

#include "text.h"

enum text_type {
	TEXT_BOOL,
	TEXT_INT32,
	TEXT_INT64,
	TEXT_UINT32, /* repeated: struct text_numbers */
	TEXT_UINT64,
	TEXT_ENUM,   /* int; only the values in names */
	TEXT_STRING, /* char *, heap, NULL or NUL-terminated UTF-8; repeated: struct text_strings */
	TEXT_BUF,    /* bytes: struct buf */
	TEXT_MESSAGE, /* the struct itself; repeated: nothing stored, see take and each */
	TEXT_STREAM,  /* bytes the caller reads and writes: text_read stops there. Top level only */
};

/* Names end with a NULL name. */
struct text_enum {
	const char *name;
	int value;
};

struct text_strings {
	char **item;
	size_t count;
};

struct text_numbers {
	uint32_t *item;
	size_t count;
};

struct text_field {
	const char *name;
	uint16_t number; /* in the .proto file */
	uint16_t offset; /* in the struct; not for STREAM and repeated MESSAGE */
	enum text_type type : 8;
	uint8_t oneof;     /* of the fields with the same number but 0, one may be given */
	bool repeated : 1; /* STRING, UINT32 and MESSAGE */
	bool presence : 1; /* written when given, even with its default value */
	bool one_line : 1; /* MESSAGE: written on one line */
	uint32_t max;      /* longest STRING or BUF, in bytes; 0: TEXT_STRING_MAX */
	uint32_t limit;    /* most elements of a STRING or UINT32; 0: TEXT_REPEATED_MAX */
	union {
		const struct text_enum *names;      /* ENUM */
		const struct text_message *message; /* MESSAGE */
	};
	/* repeated MESSAGE: gets each element read; what it moves out it replaces by NULL (a buf:
	 * by buf_init), the rest is freed. It limits their number. Returns 0, or -1 after
	 * text_fail. */
	int (*take)(struct text_reader *r, void *parent, void *element);
	/* repeated MESSAGE: the element with index i to be written, or NULL behind the last. */
	const void *(*each)(const void *parent, size_t i);
};

/*
 * A message and its struct, which has a member `int given[]`, one a field in the table's order: the
 * line where the (first) value stands, 0 when none was given. A MESSAGE is written when it was
 * given or holds a value that is not the default. Made by TEXT_TABLE(fields, struct x).
 */
struct text_message {
	const struct text_field *field;
	size_t count;
	size_t size;
	size_t given;
};
#define TEXT_COUNT(fields) (sizeof(fields) / sizeof(*(fields)))
#define TEXT_TABLE(fields, type)                                                    \
	{                                                                           \
		(fields), TEXT_COUNT(fields), sizeof(type),                         \
		    offsetof(type, given) +                                         \
		        0 * sizeof(char[sizeof(((type *)0)->given) / sizeof(int) >= \
		                                TEXT_COUNT(fields)                  \
		                            ? 1                                     \
		                            : -1])                                  \
	}

/* Zeroes the whole struct and prepares its bufs; text_clear first frees what the fields own. */
void text_init(const struct text_message *m, void *s);
void text_clear(const struct text_message *m, void *s);

/*
 * Reads fields into s (after text_init) until the input ends. Returns 0 then; -1 on error; 1 when
 * it stopped in a STREAM field, whose value is next for text_bytes_read: call again to go on.
 */
int text_read(struct text_reader *r, const struct text_message *m, void *s);

/* Fields first .. end-1 of a struct, in the table's order, without the default-valued ones; all. */
void text_put_fields(struct text_writer *w, const struct text_message *m, const void *s,
                     size_t first, size_t end);
void text_put_struct(struct text_writer *w, const struct text_message *m, const void *s);

#endif
