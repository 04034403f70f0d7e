/*
 * spool_replay: what the files of the journal say at the start.
 *
 * The segments are read in the order of their generations, one at a time in memory, and what has no
 * DONE is there again, as if it had just come: nothing has to be written for that, so it needs no
 * place on the disk, and not the time that many files take.
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
	unsigned segment;
	char *p;
	size_t n;
	uint64_t generation; /* 0: it has no record */
};

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

/* Is there a record at p, whole as to its length? With head_only, its first line is enough. */
static bool journal_read_record(const char *p, size_t n, struct journal_record *rec, bool head_only)
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
	size_t digits = strspn(at + sizeof seal - 1, "0123456789");
	size_t head = (size_t)(at - line) + sizeof seal - 1 + digits;
	size_t before = strlen(journal_before[rec->kind]);
	size_t behind = strlen(journal_behind[rec->kind]);
	rec->size = head + before + rec->text.n + behind;
	rec->text.p = p + head + before;
	return (rec->size <= n || head_only) && head + before <= n &&
	       memcmp(p + head, journal_before[rec->kind], before) == 0;
}

/* ---- a segment ---- */

/* Offset of the next good record of this generation (0: of any) at or behind `at`; n when there is
 * none. */
static size_t journal_find(const struct journal_found *f, size_t at, struct journal_record *rec)
{
	static const char begin[] = "\n" JOURNAL_BEGIN;
	const char *end = f->p + f->n;
	if (journal_read_record(f->p + at, f->n - at, rec, false) &&
	    (f->generation == 0 || rec->generation == f->generation))
		return at;
	for (const char *p = f->p + at; p < end; p++) {
		p = memmem(p, (size_t)(end - p), begin, sizeof begin - 1);
		if (!p)
			break;
		if (journal_read_record(p + 1, (size_t)(end - p) - 1, rec, false) &&
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

/* Drops the messages that a record of DONE names. */
static void journal_apply_done(struct journal *j, struct slice text)
{
	static const char begin[] = "done: \"";
	const size_t head = sizeof begin - 1;
	for (; text.n >= JOURNAL_DONE_BYTES && memcmp(text.p, begin, head) == 0;
	     text.p += JOURNAL_DONE_BYTES, text.n -= JOURNAL_DONE_BYTES) {
		char id[JOURNAL_DONE_BYTES];
		size_t n = JOURNAL_DONE_BYTES - head - 2;
		memcpy(id, text.p + head, n);
		id[n] = '\0';
		uint64_t number = spool_id_number(id);
		struct spool_entry *e = number ? journal_entry_find(j, number) : NULL;
		if (e)
			journal_entry_drop(e);
	}
}

/* Returns 0, or -1 without memory. */
static int journal_apply(struct journal *j, const struct journal_found *f,
                         const struct journal_record *rec)
{
	if (rec->kind == JOURNAL_DONE)
		journal_apply_done(j, rec->text);
	struct spool_entry *e = rec->number ? journal_entry_find(j, rec->number) : NULL;
	if (rec->kind == JOURNAL_ATTEMPT && e)
		return journal_entry_add(e, rec->text.p, rec->text.n);
	if (rec->kind != JOURNAL_MESSAGE || e || rec->number == 0)
		return 0;
	e = journal_entry_new(j, rec->number, f->segment, (size_t)(rec->text.p - f->p),
	                      rec->text.n);
	if (e)
		journal_entry_show(e);
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
		if (good && journal_apply(j, f, &rec))
			return -1;
		if (!good && journal_find(f, at, &later) == f->n)
			break; /* cut short */
		if (!good)
			journal_damaged(j, f, next, at, "its checksum does not agree");
	}
	return 0;
}

/* ---- files ---- */

/* Opens a segment that is there. What is no file is none. 0, or -1 with errno. */
static int journal_open_segment(struct journal *j, unsigned i)
{
	struct stat s;
	int fd = openat(j->spool->dir_fd, journal_name(i).s,
	                O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ELOOP || errno == ENXIO || errno == EISDIR ? 0
		                                                                              : -1;
	if (fstat(fd, &s) || !S_ISREG(s.st_mode) || s.st_size > UINT32_MAX) {
		close(fd);
		return 0;
	}
	j->seg[i].fd = fd;
	j->seg[i].size = (size_t)s.st_size;
	return 0;
}

/* pread of all there is; what the disk cannot read is NUL, and so damaged. */
static int journal_load(int fd, char *p, size_t n)
{
	size_t at = 0;
	while (at < n) {
		ssize_t got = pread(fd, p + at, n - at, (off_t)at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EIO) {
			/* By blocks: the next ones may be good. */
			size_t block = 4096 - at % 4096;
			got = (ssize_t)(n - at < block ? n - at : block);
			memset(p + at, 0, (size_t)got);
		}
		if (got <= 0)
			return -1;
		at += (size_t)got;
	}
	return 0;
}

/* Reads the segment, only its beginning when that says enough: it is empty, or, without `whole`,
 * which generation it has. The text is the caller's. 0, or -1 with errno. */
static int journal_read_segment(const struct journal *j, unsigned i, bool whole,
                                struct journal_found *f)
{
	const struct journal_segment *seg = &j->seg[i];
	struct journal_record rec;
	*f = (struct journal_found){.segment = i};
	size_t head = seg->size < 2 * JOURNAL_FRAME ? seg->size : 2 * JOURNAL_FRAME;
	f->p = malloc(seg->size + 1);
	if (!f->p || journal_load(seg->fd, f->p, head))
		return -1;
	f->n = head;
	bool known = journal_read_record(f->p, head, &rec, true);
	bool empty = known && rec.kind == JOURNAL_END;
	if (!empty && (whole || !known)) {
		if (journal_load(seg->fd, f->p, seg->size))
			return -1;
		f->n = seg->size;
		known = journal_find(f, 0, &rec) < f->n;
	}
	f->generation = known ? rec.generation : 0;
	return 0;
}

/* Learns which generation a segment has. 0, or -1 with errno. */
static int journal_date_segment(struct journal *j, unsigned i)
{
	struct journal_found f;
	struct journal_record rec;
	int rc = journal_read_segment(j, i, false, &f);
	if (!rc && f.generation > j->generation)
		j->generation = f.generation;
	bool empty = !rc && journal_read_record(f.p, f.n, &rec, true) && rec.kind == JOURNAL_END;
	j->seg[i].generation = rc || empty ? 0 : f.generation;
	free(f.p);
	return rc;
}

/* The segment that follows `last` (JOURNAL_NAMES: the first one) by generation, and by number where
 * somebody has put files back that have the same one. JOURNAL_NAMES when there is none. */
static unsigned journal_after(const struct journal *j, unsigned last)
{
	uint64_t after = last < JOURNAL_NAMES ? j->seg[last].generation : 0;
	unsigned found = JOURNAL_NAMES;
	for (unsigned i = 0; i < JOURNAL_NAMES; i++) {
		uint64_t generation = j->seg[i].generation;
		bool later = generation > after || (generation == after && after != 0 && i > last);
		if (later && (found == JOURNAL_NAMES || generation < j->seg[found].generation))
			found = i;
	}
	return found;
}

/* A message that was on its way to a file: that may have attempts which the journal has not. */
static void journal_replay_files(struct journal *j)
{
	struct spool_entry *next;
	for (struct spool_entry *e = j->list[JOURNAL_LIVE].oldest; e; e = next) {
		char id[SPOOL_ID_MAX + 1];
		struct stat s;
		next = e->newer;
		spool_id_text(e->number, id);
		if (!fstatat(j->spool->dir_fd, spool_file_name(id).s, &s, AT_SYMLINK_NOFOLLOW) &&
		    S_ISREG(s.st_mode) && journal_file_make(e))
			j->strays = true;
	}
}

int journal_replay(struct journal *j)
{
	int rc = 0;
	for (unsigned i = 0; !rc && i < JOURNAL_NAMES; i++) {
		rc = journal_open_segment(j, i);
		if (!rc && j->seg[i].fd >= 0)
			rc = journal_date_segment(j, i);
	}
	unsigned i = rc ? JOURNAL_NAMES : journal_after(j, JOURNAL_NAMES);
	while (!rc && i < JOURNAL_NAMES) {
		struct journal_found f;
		rc = journal_read_segment(j, i, true, &f) || journal_replay_segment(j, &f) ? -1 : 0;
		int error = errno;
		free(f.p);
		errno = error;
		i = journal_after(j, i);
	}
	if (rc)
		return -1;
	/* Records of later ones may stand behind an END whose block was not written over. */
	j->generation += JOURNAL_NAMES;
	if (j->count > 0)
		log_info("-", "journal replayed", LOG_N("messages", j->count));
	journal_replay_files(j);
	return 0;
}
