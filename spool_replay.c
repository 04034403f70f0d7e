/*
 * spool_replay: what the files of the journal say at the start.
 *
 * The start looks at the first record of each segment, and no further. Then, beside the sessions,
 * the segments are read in the order of their generations, one at a time in memory, and what has no
 * DONE is there again, as if it had just come: nothing has to be written for that, so it needs no
 * place on the disk, and not the time that many files take.
 *
 * Until all are read nothing is believed of what is there: a later one may say that it is done. So
 * no message of before is told of, made a file or removed meanwhile, and its segment stays as it
 * is: one that is not read yet has one entry too many. New messages go to segments of later
 * generations. An ID that was given out since the start, with a clock that went back, is not to be
 * taken for one of before.
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
	size_t size;  /* of the whole record */
	bool refused; /* a message that was not taken after all */
};

/* Read at a time, in bytes; and records at a time. */
#define REPLAY_BLOCK   65536
#define REPLAY_RECORDS 64

/* One segment as it was found. */
struct journal_found {
	unsigned segment; /* JOURNAL_NAMES: none yet */
	char *p;
	size_t n;
	uint64_t generation; /* 0: it has no record */
};

/* How far it is. */
struct journal_replay {
	uint64_t newest;        /* the last generation of before */
	struct journal_found f; /* of this segment; p NULL: go on to the next */
	size_t loaded;
	size_t at; /* of the next record */
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
	if ((rec->size > n && !head_only) || head + before > n)
		return false;
	rec->refused =
	    rec->kind == JOURNAL_MESSAGE && memcmp(p + head, JOURNAL_REFUSED, before) == 0;
	return rec->refused || memcmp(p + head, journal_before[rec->kind], before) == 0;
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

/* A message of before; NULL when there is none, or a new one has its ID. */
static struct spool_entry *journal_find_old(const struct journal *j, uint64_t number)
{
	if (number == 0 || spool_is_new(j->spool, number))
		return NULL;
	return journal_entry_find(j, number);
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
		struct spool_entry *e = journal_find_old(j, spool_id_number(id));
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
	struct spool_entry *e = journal_find_old(j, rec->number);
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

/* One record. 1: go on; 0: it was the last; -1: no memory, nothing was done. */
static int journal_replay_record(struct journal *j, struct journal_replay *r)
{
	const struct journal_found *f = &r->f;
	struct journal_record rec, later;
	size_t next = r->at < f->n ? journal_find(f, r->at, &rec) : f->n;
	if (next == f->n || f->generation == 0)
		return 0;
	if (next > r->at)
		journal_damaged(j, f, r->at, next, "a record of the journal is not whole");
	r->at = next;
	size_t end = next + rec.size;
	const char *behind = journal_behind[rec.kind];
	const char *why = NULL;
	if (rec.kind == JOURNAL_END)
		return 0;
	if (rec.refused) {
		r->at = end;
		return 1;
	}
	if (crc_add(0, rec.text.p, rec.text.n) != rec.crc ||
	    memcmp(rec.text.p + rec.text.n, behind, strlen(behind)) != 0) {
		if (journal_find(f, end, &later) == f->n)
			return 0; /* cut short */
		why = "its checksum does not agree";
	} else if (rec.kind == JOURNAL_MESSAGE && spool_is_new(j->spool, rec.number)) {
		why = "its ID was given out again";
	} else if (journal_apply(j, f, &rec)) {
		return -1;
	}
	if (why)
		journal_damaged(j, f, next, end, why);
	r->at = end;
	return 1;
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
	if (fstat(fd, &s) || !S_ISREG(s.st_mode) || s.st_size > JOURNAL_BYTES_MAX) {
		close(fd);
		return 0;
	}
	j->seg[i].fd = fd;
	j->seg[i].size = (size_t)s.st_size;
	return 0;
}

/* pread of all from `at` up to n; what the disk cannot read is NUL, and so damaged. */
static int journal_load(int fd, char *p, size_t at, size_t n)
{
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
		if (got == 0)
			errno = EIO; /* cut short meanwhile */
		if (got <= 0)
			return -1;
		at += (size_t)got;
	}
	return 0;
}

/* Learns which generation a segment has, 0 when it is empty: from its beginning, or, when that is
 * no record, from all of it. 0, or -1 with errno. */
static int journal_date_segment(struct journal *j, unsigned i)
{
	struct journal_segment *seg = &j->seg[i];
	struct journal_found f = {.segment = i};
	struct journal_record rec;
	f.n = seg->size < 2 * JOURNAL_FRAME ? seg->size : 2 * JOURNAL_FRAME;
	f.p = malloc(seg->size + 1);
	int rc = f.p ? journal_load(seg->fd, f.p, 0, f.n) : -1;
	bool known = !rc && journal_read_record(f.p, f.n, &rec, true);
	bool empty = known && rec.kind == JOURNAL_END;
	if (!rc && !known) {
		rc = journal_load(seg->fd, f.p, f.n, seg->size);
		f.n = seg->size;
		known = !rc && journal_find(&f, 0, &rec) < f.n;
	}
	if (known && rec.generation > j->generation)
		j->generation = rec.generation;
	seg->generation = known && !empty ? rec.generation : 0;
	int error = errno;
	free(f.p);
	errno = error;
	return rc;
}

/* The segment of before that follows this one (JOURNAL_NAMES, 0: the first one) by generation, and
 * by number where somebody has put files back that have the same one. JOURNAL_NAMES when there is
 * none. */
static unsigned journal_after(const struct journal *j, unsigned last, uint64_t after)
{
	unsigned found = JOURNAL_NAMES;
	for (unsigned i = 0; i < JOURNAL_NAMES; i++) {
		uint64_t generation = j->seg[i].generation;
		bool later = generation > after || (generation == after && after != 0 && i > last);
		if (later && generation <= j->replay->newest &&
		    (found == JOURNAL_NAMES || generation < j->seg[found].generation))
			found = i;
	}
	return found;
}

/* A message that was on its way to a file: that may have attempts which the journal has not. */
void journal_look_at(struct spool *sp, const char *id)
{
	struct stat s;
	struct spool_entry *e = journal_entry_find(sp->journal, spool_id_number(id));
	if (e && e->state == JOURNAL_LIVE &&
	    !fstatat(sp->dir_fd, spool_file_name(id).s, &s, AT_SYMLINK_NOFOLLOW) &&
	    S_ISREG(s.st_mode) && journal_file_make(e))
		sp->journal->strays = true;
}

void journal_seen_all(struct spool *sp)
{
	if (sp->journal)
		sp->journal->unsure = false;
}

static void journal_replay_over(struct journal *j)
{
	free(j->replay);
	j->replay = NULL;
	j->unsure = j->count > 0;
	if (j->count > 0)
		log_info("-", "journal replayed", LOG_N("messages", j->count));
	journal_relieve_soon(j);
}

/* Goes on to the next segment. 1, 0: there is none; -1: no memory. */
static int journal_replay_next(struct journal *j, struct journal_replay *r)
{
	unsigned i = journal_after(j, r->f.segment, r->f.generation);
	if (i == JOURNAL_NAMES) {
		journal_replay_over(j);
		return 0;
	}
	char *p = malloc(j->seg[i].size + 1);
	if (!p)
		return -1;
	r->f.segment = i;
	r->f.p = p;
	r->f.n = j->seg[i].size;
	r->f.generation = j->seg[i].generation;
	r->loaded = r->at = 0;
	return 1;
}

/* One step. 1, 0: it is over; -1: no memory, or the disk does not let itself be read. */
static int journal_replay_step(struct journal *j)
{
	struct journal_replay *r = j->replay;
	if (!r->f.p)
		return journal_replay_next(j, r);
	if (r->loaded < r->f.n) {
		size_t left = r->f.n - r->loaded;
		size_t end = r->loaded + (left < REPLAY_BLOCK ? left : REPLAY_BLOCK);
		if (journal_load(j->seg[r->f.segment].fd, r->f.p, r->loaded, end))
			return -1;
		r->loaded = end;
		return 1;
	}
	int rc = 1;
	for (int i = 0; rc > 0 && i < REPLAY_RECORDS; i++)
		rc = journal_replay_record(j, r);
	if (rc != 0)
		return rc;
	free(r->f.p);
	r->f.p = NULL;
	j->seg[r->f.segment].entries--;
	return 1;
}

int journal_replay_go_on(struct spool *sp)
{
	struct journal *j = sp->journal;
	if (!j || !j->replay)
		return 0;
	int rc = journal_replay_step(j);
	if (rc >= 0)
		return rc;
	log_error("-", "the journal cannot be read now", LOG_S("error", strerror(errno)));
	return 2;
}

int journal_replay_all(struct journal *j)
{
	int rc = 1;
	while (j->replay && rc > 0)
		rc = journal_replay_step(j);
	return rc < 0 ? -1 : 0;
}

void journal_replay_free(struct journal *j)
{
	if (j->replay)
		free(j->replay->f.p);
	free(j->replay);
	j->replay = NULL;
}

int journal_replay_begin(struct journal *j)
{
	bool any = false;
	for (unsigned i = 0; i < JOURNAL_NAMES; i++) {
		if (journal_open_segment(j, i) || (j->seg[i].fd >= 0 && journal_date_segment(j, i)))
			return -1;
		any |= j->seg[i].generation != 0;
	}
	struct journal_replay *r = any ? calloc(1, sizeof *r) : NULL;
	if (any && !r)
		return -1;
	if (r) {
		r->newest = j->generation;
		r->f.segment = JOURNAL_NAMES;
	}
	j->replay = r;
	for (unsigned i = 0; i < JOURNAL_NAMES; i++)
		j->seg[i].entries += j->seg[i].generation != 0;
	/* Records of later ones may stand behind an END whose block was not written over. */
	j->generation += JOURNAL_NAMES;
	return 0;
}
