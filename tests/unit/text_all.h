/* A message with a field of every type textfield knows; its schema is in test_text_interop.py. */
#ifndef TEXT_ALL_H
#define TEXT_ALL_H

#include <stdlib.h>
#include <string.h>

#include "textfield.h"

struct sub {
	int64_t n;
	char *note;
	struct text_strings via;
	int given[3];
};

static const struct text_field sub_fields[] = {
    {.name = "n", .number = 1, .type = TEXT_INT64, .offset = offsetof(struct sub, n)},
    {.name = "note", .number = 2, .type = TEXT_STRING, .offset = offsetof(struct sub, note)},
    {.name = "via",
     .number = 3,
     .type = TEXT_STRING,
     .repeated = true,
     .offset = offsetof(struct sub, via)},
};
static const struct text_message sub_table = TEXT_TABLE(sub_fields, struct sub);

struct plain {
	struct buf password;
	int given[1];
};

static const struct text_field plain_fields[] = {
    {.name = "password", .number = 1, .type = TEXT_BUF, .offset = offsetof(struct plain, password)},
};
static const struct text_message plain_table = TEXT_TABLE(plain_fields, struct plain);

struct denied {
	int given[1];
};

static const struct text_message denied_table = {NULL, 0, sizeof(struct denied), 0};

struct pass {
	struct plain plain;
	struct denied denied;
	int given[2];
};

static const struct text_field pass_fields[] = {
    {.name = "plain",
     .number = 3,
     .type = TEXT_MESSAGE,
     .oneof = 1,
     .offset = offsetof(struct pass, plain),
     .message = &plain_table},
    {.name = "denied",
     .number = 4,
     .type = TEXT_MESSAGE,
     .oneof = 1,
     .offset = offsetof(struct pass, denied),
     .message = &denied_table},
};
static const struct text_message pass_table = TEXT_TABLE(pass_fields, struct pass);

struct user {
	char *key;
	struct pass value;
	int given[2];
};

static const struct text_field user_fields[] = {
    {.name = "key",
     .number = 1,
     .type = TEXT_STRING,
     .presence = true,
     .offset = offsetof(struct user, key)},
    {.name = "value",
     .number = 2,
     .type = TEXT_MESSAGE,
     .offset = offsetof(struct user, value),
     .message = &pass_table},
};
static const struct text_message user_table = TEXT_TABLE(user_fields, struct user);

#define ALL_ELEMENTS 300

struct all {
	bool flag;
	int32_t i32;
	int64_t i64;
	uint32_t u32;
	uint64_t u64;
	int color;
	char *s;
	struct buf data;
	struct text_strings list;
	struct text_numbers nums;
	struct sub sub;
	char *sep;
	struct sub *subs;
	size_t sub_count;
	struct user *users;
	size_t user_count;
	int given[14];
};

/* Moves an element to the end of an array of *count. */
static int all_push(struct text_reader *r, void **array, size_t *count, void *element,
                    const struct text_message *m)
{
	if (*count == ALL_ELEMENTS)
		return text_fail(r, TEXT_BAD, "too many elements");
	char *grown = realloc(*array, (*count + 1) * m->size);
	if (!grown)
		return text_fail(r, TEXT_MEMORY, "out of memory");
	*array = grown;
	memcpy(grown + (*count)++ * m->size, element, m->size);
	text_init(m, element);
	return 0;
}

static int all_take_sub(struct text_reader *r, void *parent, void *element)
{
	struct all *a = parent;
	void *array = a->subs;
	int rc = all_push(r, &array, &a->sub_count, element, &sub_table);
	a->subs = array;
	return rc;
}

static int all_take_user(struct text_reader *r, void *parent, void *element)
{
	struct all *a = parent;
	void *array = a->users;
	int rc = all_push(r, &array, &a->user_count, element, &user_table);
	a->users = array;
	return rc;
}

static const void *all_each_sub(const void *parent, size_t i)
{
	const struct all *a = parent;
	return i < a->sub_count ? &a->subs[i] : NULL;
}

static const void *all_each_user(const void *parent, size_t i)
{
	const struct all *a = parent;
	return i < a->user_count ? &a->users[i] : NULL;
}

static const struct text_enum all_colors[] = {
    {"RED", 0}, {"GREEN", 1}, {"BLUE", 2}, {"MINUS", -1}, {NULL, 0}};

static const struct text_field all_fields[] = {
    {.name = "flag", .number = 1, .type = TEXT_BOOL, .offset = offsetof(struct all, flag)},
    {.name = "i32", .number = 2, .type = TEXT_INT32, .offset = offsetof(struct all, i32)},
    {.name = "i64", .number = 3, .type = TEXT_INT64, .offset = offsetof(struct all, i64)},
    {.name = "u32", .number = 4, .type = TEXT_UINT32, .offset = offsetof(struct all, u32)},
    {.name = "u64", .number = 5, .type = TEXT_UINT64, .offset = offsetof(struct all, u64)},
    {.name = "color",
     .number = 6,
     .type = TEXT_ENUM,
     .offset = offsetof(struct all, color),
     .names = all_colors},
    {.name = "s", .number = 7, .type = TEXT_STRING, .offset = offsetof(struct all, s), .max = 9000},
    {.name = "data",
     .number = 8,
     .type = TEXT_BUF,
     .offset = offsetof(struct all, data),
     .max = 100000},
    {.name = "list",
     .number = 9,
     .type = TEXT_STRING,
     .repeated = true,
     .offset = offsetof(struct all, list),
     .limit = ALL_ELEMENTS},
    {.name = "nums",
     .number = 10,
     .type = TEXT_UINT32,
     .repeated = true,
     .offset = offsetof(struct all, nums),
     .limit = ALL_ELEMENTS},
    {.name = "sub",
     .number = 11,
     .type = TEXT_MESSAGE,
     .offset = offsetof(struct all, sub),
     .message = &sub_table},
    {.name = "subs",
     .number = 12,
     .type = TEXT_MESSAGE,
     .repeated = true,
     .one_line = true,
     .message = &sub_table,
     .take = all_take_sub,
     .each = all_each_sub},
    {.name = "users",
     .number = 13,
     .type = TEXT_MESSAGE,
     .repeated = true,
     .message = &user_table,
     .take = all_take_user,
     .each = all_each_user},
    {.name = "sep",
     .number = 14,
     .type = TEXT_STRING,
     .presence = true,
     .offset = offsetof(struct all, sep)},
};
static const struct text_message all_table = TEXT_TABLE(all_fields, struct all);

static void all_clear(struct all *a)
{
	while (a->sub_count > 0)
		text_clear(&sub_table, &a->subs[--a->sub_count]);
	free(a->subs);
	while (a->user_count > 0)
		text_clear(&user_table, &a->users[--a->user_count]);
	free(a->users);
	text_clear(&all_table, a);
}

#endif
