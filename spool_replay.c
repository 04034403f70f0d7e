/*
 * spool_replay: what the files of the journal say at the start.
 *
 * A segment is read record by record while its generation lasts. A record has a checksum over its
 * first line, which has its length, and one over its text. Where a line is not good, the next good
 * one of this generation is looked for. There always is one behind damage, since every write ends
 * with END: what has none behind it was cut short, and nobody was told that it is ours.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_journal_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc.h"
#include "log.h"

const char *const journal_kind_name[JOURNAL_KINDS] = {"MESSAGE", "ATTEMPT", "DONE", "END"};
const char *const journal_before[JOURNAL_KINDS] = {" message {\n", "\n", "\n", "\n"};
const char *const journal_behind[JOURNAL_KINDS] = {"} }\n", "}\n", "}\n", "}\n"};

#define JOURNAL_BEGIN "record { generation: "

struct journal_record {
	uint64_t generation;
	enum journal_kind kind;
	uint64_t number;
	struct slice text;
	uint32_t crc;
	size_t size; /* of the whole record */
};

/* One segment as it was found. */
struct journal_found {
	char *p;
	size_t n;
	uint64_t generation; /* 0: it has no record */
};

const char *journal_name(unsigned segment)
{
	return segment ? ".journal.1" : ".journal.0";
}

/* ---- records ---- */

/* The value behind name in a line whose checksum was good. */
static bool journal_number(const char *line, const char *name, unsigned long long *value)
{
	const char *at = strstr(line, name);
	char *end;
	if (!at)
		return false;
	*value = strtoull(at + strlen(name), &end, 10);
	return end > at + strlen(name);
}

static bool journal_read_words(const char *line, struct journal_record *rec)
{
	unsigned long long generation, length, crc;
	char id[12] = "";
	const char *kind = strstr(line, " kind: ");
	const char *name = strstr(line, " id: \"");
	if (!journal_number(line, "generation: ", &generation) ||
	    !journal_number(line, " length: ", &length) ||
	    !journal_number(line, " crc32: ", &crc) || !kind || !name || generation == 0)
		return false;
	int k = 0;
	while (k < JOURNAL_KINDS &&
	       strncmp(kind + 7, journal_kind_name[k], strlen(journal_kind_name[k])) != 0)
		k++;
	if (k == JOURNAL_KINDS || strlen(name + 6) < sizeof id)
		return false;
	memcpy(id, name + 6, sizeof id - 1);
	rec->generation = generation;
	rec->kind = (enum journal_kind)k;
	rec->number = spool_id_number(id);
	rec->text.n = (size_t)length;
	rec->crc = (uint32_t)crc;
	return length <= SIZE_MAX / 2;
}

/* Is there a record at p, whole as to its length? */
static bool journal_read_record(const char *p, size_t n, struct journal_record *rec)
{
	char line[JOURNAL_FRAME];
	static const char seal[] = " head_crc32: ";
	unsigned long long crc;
	if (n < sizeof JOURNAL_BEGIN || memcmp(p, JOURNAL_BEGIN, sizeof JOURNAL_BEGIN - 1) != 0)
		return false;
	const char *end = memchr(p, '\n', n < sizeof line ? n : sizeof line - 1);
	if (!end)
		return false;
	size_t len = (size_t)(end - p);
	memcpy(line, p, len);
	line[len] = '\0';
	char *at = strstr(line, seal);
	if (!at || !journal_number(at, seal, &crc) || crc != crc_add(0, line, (size_t)(at - line)))
		return false;
	*at = '\0';
	if (!journal_read_words(line, rec))
		return false;
	size_t digits = strspn(p + (at - line) + sizeof seal - 1, "0123456789");
	size_t head = (size_t)(at - line) + sizeof seal - 1 + digits;
	size_t before = strlen(journal_before[rec->kind]);
	size_t behind = strlen(journal_behind[rec->kind]);
	rec->size = head + before + rec->text.n + behind;
	rec->text.p = p + head + before;
	return rec->size <= n && memcmp(p + head, journal_before[rec->kind], before) == 0;
}

/* ---- a segment ---- */

/* Offset of the next good record of this generation (0: of any) at or behind `at`; n when there is
 * none. */
static size_t journal_find(const struct journal_found *f, size_t at, struct journal_record *rec)
{
	static const char begin[] = "\n" JOURNAL_BEGIN;
	const char *end = f->p + f->n;
	if (journal_read_record(f->p + at, f->n - at, rec) &&
	    (f->generation == 0 || rec->generation == f->generation))
		return at;
	for (const char *p = f->p + at; p < end; p++) {
		p = memmem(p, (size_t)(end - p), begin, sizeof begin - 1);
		if (!p)
			break;
		if (journal_read_record(p + 1, (size_t)(end - p) - 1, rec) &&
		    (f->generation == 0 || rec->generation == f->generation))
			return (size_t)(p + 1 - f->p);
	}
	return f->n;
}

static void journal_damaged(struct journal *j, const struct journal_found *f, size_t at, size_t end,
                            const char *why)
{
	char name[64];
	snprintf(name, sizeof name, "journal-%llu-%lu", (unsigned long long)f->generation,
	         (unsigned long)at);
	spool_keep_damaged(j->spool, name, f->p + at, end - at, why);
}

/* Returns 0, or -1 without memory. */
static int journal_apply(struct journal *j, const struct journal_record *rec)
{
	struct spool_entry *e = journal_entry_find(j, rec->number);
	struct buf text;
	if (rec->kind == JOURNAL_DONE && e)
		journal_entry_drop(e);
	if (rec->kind == JOURNAL_ATTEMPT && e) {
		e->text.max = e->text.len + rec->text.n;
		return buf_append(&e->text, rec->text.p, rec->text.n);
	}
	if (rec->kind != JOURNAL_MESSAGE || e || rec->number == 0)
		return 0;
	buf_init(&text, rec->text.n);
	e = buf_append(&text, rec->text.p, rec->text.n) ? NULL
	                                                : journal_entry_new(j, rec->number, &text);
	if (e)
		journal_entry_show(e);
	buf_clear(&text);
	return e ? 0 : -1;
}

static int journal_replay_segment(struct journal *j, const struct journal_found *f)
{
	struct journal_record rec;
	size_t at = 0;
	while (f->generation != 0 && at < f->n) {
		size_t next = journal_find(f, at, &rec);
		if (next == f->n)
			break;
		if (next > at)
			journal_damaged(j, f, at, next, "a record of the journal is not whole");
		at = next + rec.size;
		const char *behind = journal_behind[rec.kind];
		bool good = crc_add(0, rec.text.p, rec.text.n) == rec.crc &&
		            memcmp(rec.text.p + rec.text.n, behind, strlen(behind)) == 0;
		struct journal_record later;
		if (rec.kind == JOURNAL_END)
			break;
		if (good && journal_apply(j, &rec))
			return -1;
		if (!good && journal_find(f, at, &later) == f->n)
			break; /* cut short */
		if (!good)
			journal_damaged(j, f, next, at, "its checksum does not agree");
	}
	return 0;
}

/* Reads a segment whole. One that is not there, or is no file, has nothing. 0, or -1 with errno. */
static int journal_read_segment(struct journal *j, unsigned i, struct journal_found *f)
{
	struct stat s;
	struct journal_record rec;
	*f = (struct journal_found){NULL, 0, 0};
	int fd = openat(j->spool->dir_fd, journal_name(i),
	                O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ELOOP || errno == ENXIO ? 0 : -1;
	int rc = fstat(fd, &s);
	if (!rc && S_ISREG(s.st_mode) && s.st_size > 0) {
		size_t size = (size_t)s.st_size;
		f->p = malloc(size);
		ssize_t got = 1;
		while (f->p && f->n < size && got > 0) {
			size_t want =
			    f->n == 0 && size > JOURNAL_FRAME ? JOURNAL_FRAME : size - f->n;
			got = read(fd, f->p + f->n, want);
			f->n += got > 0 ? (size_t)got : 0;
			/* Most often it says at once that it is empty. */
			if (journal_read_record(f->p, f->n, &rec) && rec.kind == JOURNAL_END)
				break;
		}
		rc = f->p && got >= 0 ? 0 : -1;
	}
	if (!rc && f->n > 0 && journal_find(f, 0, &rec) < f->n)
		f->generation = rec.generation;
	int error = f->p || !rc ? errno : ENOMEM;
	close(fd);
	errno = error;
	return rc;
}

int journal_replay(struct journal *j)
{
	struct journal_found f[2] = {{NULL, 0, 0}, {NULL, 0, 0}};
	int rc = journal_read_segment(j, 0, &f[0]) || journal_read_segment(j, 1, &f[1]) ? -1 : 0;
	unsigned first = f[0].generation > f[1].generation;
	if (!rc)
		rc = journal_replay_segment(j, &f[first]) || journal_replay_segment(j, &f[!first])
		         ? -1
		         : 0;
	j->generation = f[!first].generation;
	int error = errno;
	free(f[0].p);
	free(f[1].p);
	if (j->live.oldest)
		log_info("-", "journal replayed",
		         LOG_N("messages", j->seg[0].entries + j->seg[1].entries));
	errno = error;
	return rc;
}
