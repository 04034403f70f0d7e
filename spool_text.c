/*
 * spool_text: the tables of a message file. One table serves writing and reading, whole files
 * (those that chasquid wrote) and single records (ours); docs/queue.proto is the same in another
 * language.
 */
#include "spool_int.h"

#include <stdlib.h>
#include <string.h>

static const struct text_enum spool_types[] = {
    {"EMAIL", RCPT_EMAIL}, {"PIPE", RCPT_PIPE}, {"FORWARD", RCPT_FORWARD}, {NULL, 0}};

static const struct text_enum spool_states[] = {
    {"PENDING", RCPT_PENDING}, {"SENT", RCPT_SENT}, {"FAILED", RCPT_FAILED}, {NULL, 0}};

#define F(struct_name, member) .offset = offsetof(struct struct_name, member)

static const struct text_field spool_time_fields[] = {
    {.name = "seconds", .number = 1, .type = TEXT_INT64, F(spool_time, seconds)},
    {.name = "nanos", .number = 2, .type = TEXT_INT32, F(spool_time, nanos)},
};

static const struct text_message spool_time_message =
    TEXT_TABLE(spool_time_fields, struct spool_time);

static const struct text_field spool_rcpt_fields[] = {
    {.name = "address", .number = 1, .type = TEXT_STRING, F(spool_rcpt_text, address)},
    {.name = "type",
     .number = 2,
     .type = TEXT_ENUM,
     F(spool_rcpt_text, type),
     .names = spool_types},
    {.name = "status",
     .number = 3,
     .type = TEXT_ENUM,
     F(spool_rcpt_text, status),
     .names = spool_states},
    {.name = "last_failure_message",
     .number = 4,
     .type = TEXT_STRING,
     F(spool_rcpt_text, last_failure_message)},
    {.name = "original_address",
     .number = 5,
     .type = TEXT_STRING,
     F(spool_rcpt_text, original_address)},
    {.name = "via",
     .number = 6,
     .type = TEXT_STRING,
     .repeated = true,
     F(spool_rcpt_text, via),
     .max = SPOOL_VIA_MAX,
     .limit = SPOOL_VIA_MAX / 2 + 1},
};

static const struct text_message spool_rcpt_message =
    TEXT_TABLE(spool_rcpt_fields, struct spool_rcpt_text);

static const struct text_field spool_attempt_fields[] = {
    {.name = "rcpt",
     .number = 1,
     .type = TEXT_UINT32,
     .repeated = true,
     F(spool_attempt_text, rcpt),
     .limit = SPOOL_RCPTS_MAX},
    {.name = "at",
     .number = 2,
     .type = TEXT_MESSAGE,
     F(spool_attempt_text, at),
     .message = &spool_time_message},
    {.name = "status",
     .number = 3,
     .type = TEXT_ENUM,
     F(spool_attempt_text, status),
     .names = spool_states,
     .presence = true},
    {.name = "text", .number = 4, .type = TEXT_STRING, F(spool_attempt_text, text)},
    {.name = "remote", .number = 5, .type = TEXT_STRING, F(spool_attempt_text, remote)},
    {.name = "crc32", .number = 6, .type = TEXT_UINT32, F(spool_attempt_text, crc32)},
};

const struct text_message spool_attempt_message =
    TEXT_TABLE(spool_attempt_fields, struct spool_attempt_text);

static bool spool_string_fits(const char *s)
{
	size_t n = strlen(s);
	return n <= TEXT_STRING_MAX && text_is_utf8(s, n);
}

static bool spool_rcpt_fits(const struct rcpt *r)
{
	if (!r->address || !r->original || !spool_string_fits(r->address) ||
	    !spool_string_fits(r->original))
		return false;
	return !r->via || (r->via[0] && r->via[0] != '/' && !strstr(r->via, "//") &&
	                   strlen(r->via) <= SPOOL_VIA_MAX && spool_string_fits(r->via));
}

bool spool_envelope_fits(const struct envelope *env)
{
	if (!env->from || !*env->from || !spool_string_fits(env->from) || env->rcpt_count == 0)
		return false;
	for (size_t i = 0; i < env->to_count; i++)
		if (!spool_string_fits(env->to[i]))
			return false;
	for (size_t i = 0; i < env->rcpt_count; i++)
		if (!spool_rcpt_fits(&env->rcpt[i]))
			return false;
	return true;
}

/* Joins the hosts of a via list with '/'. NULL when there are none or no memory. */
static char *spool_join(const struct text_strings *list)
{
	size_t size = 0;
	for (size_t i = 0; i < list->count; i++)
		size += strlen(list->item[i]) + 1;
	char *joined = size ? malloc(size) : NULL;
	char *p = joined;
	for (size_t i = 0; joined && i < list->count; i++) {
		size_t n = strlen(list->item[i]);
		memcpy(p, list->item[i], n);
		p[n] = '/';
		p += n + 1;
	}
	if (joined)
		p[-1] = '\0';
	return joined;
}

static int spool_take_rcpt(struct text_reader *r, void *parent, void *element)
{
	struct envelope *env = ((struct spool_text *)parent)->env;
	const struct spool_rcpt_text *t = element;
	if (!env)
		return text_fail(r, TEXT_BAD, "a recipient where none belongs");
	const char *address = t->address ? t->address : "";
	const char *original = t->original_address ? t->original_address : address;
	char *via = spool_join(&t->via);
	int rc = envelope_add_rcpt(env, (enum rcpt_type)t->type, address, original, via);
	free(via);
	if (rc)
		return text_fail(r, TEXT_MEMORY, "more recipients than fit");
	struct rcpt *rcpt = &env->rcpt[env->rcpt_count - 1];
	rcpt->state = (enum rcpt_state)t->status;
	if (t->last_failure_message) {
		struct status st;
		bool failed = rcpt->state == RCPT_FAILED;
		status_set(&st, failed ? 550 : 450, failed ? "5.0.0" : "4.0.0", "%s",
		           t->last_failure_message);
		envelope_set_verdict(rcpt, rcpt->state, &st, NULL);
	}
	return 0;
}

/* Splits "a/b" into its hosts, in storage that lives until the next call. */
static struct text_strings spool_split(const char *via)
{
	static char copy[SPOOL_VIA_MAX + 1];
	static char *host[SPOOL_VIA_MAX / 2 + 1];
	struct text_strings list = {host, 0};
	char *p = copy;
	if (!via || strlen(via) > SPOOL_VIA_MAX)
		return list; /* spool_envelope_fits says no to such; without a gap all hosts fit */
	memcpy(copy, via, strlen(via) + 1);
	while (p && list.count < sizeof host / sizeof *host) {
		host[list.count++] = p;
		p = strchr(p, '/');
		if (p)
			*p++ = '\0';
	}
	return list;
}

static const void *spool_each_rcpt(const void *parent, size_t i)
{
	static struct spool_rcpt_text t;
	const struct envelope *env = ((const struct spool_text *)parent)->env;
	if (i >= env->rcpt_count)
		return NULL;
	const struct rcpt *r = &env->rcpt[i];
	t = (struct spool_rcpt_text){.address = r->address,
	                             .type = (int)r->type,
	                             .original_address = r->original,
	                             .via = spool_split(r->via)};
	return &t;
}

void spool_attempt_status(const struct spool_attempt_text *t, struct status *st)
{
	if (!t->text || status_parse(slice_of(t->text), st))
		status_set(st, 450, "4.0.0", "unknown");
}

/* Applies an attempt to the envelope: what it says of recipients that are not there is ignored. */
static int spool_take_attempt(struct text_reader *r, void *parent, void *element)
{
	struct envelope *env = ((struct spool_text *)parent)->env;
	const struct spool_attempt_text *t = element;
	struct status st;
	if (!env)
		return text_fail(r, TEXT_BAD, "an attempt where none belongs");
	spool_attempt_status(t, &st);
	for (size_t i = 0; i < t->rcpt.count; i++) {
		if (t->rcpt.item[i] >= env->rcpt_count)
			continue;
		if (envelope_set_verdict(&env->rcpt[t->rcpt.item[i]], (enum rcpt_state)t->status,
		                         &st, t->remote))
			return text_fail(r, TEXT_MEMORY, "no memory");
	}
	if (t->at.seconds != env->last_attempt)
		env->attempts++;
	env->last_attempt = t->at.seconds;
	return 0;
}

static const struct text_field spool_fields[] = {
    {.name = "ID", .number = 1, .type = TEXT_STRING, F(spool_text, id), .max = SPOOL_ID_MAX},
    {.name = "from", .number = 2, .type = TEXT_STRING, F(spool_text, from)},
    {.name = "To",
     .number = 3,
     .type = TEXT_STRING,
     .repeated = true,
     F(spool_text, to),
     .limit = SPOOL_RCPTS_MAX},
    {.name = "rcpt",
     .number = 4,
     .type = TEXT_MESSAGE,
     .repeated = true,
     .message = &spool_rcpt_message,
     .limit = SPOOL_RCPTS_MAX,
     .take = spool_take_rcpt,
     .each = spool_each_rcpt},
    {.name = "submitted", .number = 108, .type = TEXT_BOOL, F(spool_text, submitted)},
    {.name = "data", .number = 5, .type = TEXT_STREAM},
    {.name = "created_at_ts",
     .number = 6,
     .type = TEXT_MESSAGE,
     F(spool_text, created),
     .message = &spool_time_message},
    {.name = "prepend",
     .number = 100,
     .type = TEXT_BUF,
     F(spool_text, prepend),
     .max = SPOOL_PREPEND_MAX},
    {.name = "size", .number = 101, .type = TEXT_UINT64, F(spool_text, size), .presence = true},
    {.name = "crc32", .number = 102, .type = TEXT_UINT32, F(spool_text, crc32), .presence = true},
    {.name = "head_end", .number = 105, .type = TEXT_UINT64, F(spool_text, head_end)},
    {.name = "head_crc32", .number = 106, .type = TEXT_UINT32, F(spool_text, head_crc32)},
    {.name = "data_end", .number = 103, .type = TEXT_UINT64, F(spool_text, data_end)},
    {.name = "header_8bit", .number = 109, .type = TEXT_BOOL, F(spool_text, header_8bit)},
    {.name = "mark_crc32", .number = 107, .type = TEXT_UINT32, F(spool_text, mark_crc32)},
    {.name = "attempt",
     .number = 104,
     .type = TEXT_MESSAGE,
     .repeated = true,
     .message = &spool_attempt_message,
     .limit = UINT32_MAX,
     .take = spool_take_attempt},
};

const struct text_message spool_message = TEXT_TABLE(spool_fields, struct spool_text);
