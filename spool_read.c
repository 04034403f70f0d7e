/*
 * spool_read: what a message file says: envelopes and content.
 *
 * Our own files are read from behind: the mark is looked for from the end of the file (a raw line
 * beginning like it can stand nowhere else, since content and texts are escaped), and it tells
 * where head and content are, so that an envelope costs two short reads whatever the size of the
 * message. A file without our mark is either one that chasquid wrote, which is read from front to
 * back, or was never finished. Attempts are appended to both, and are read line by line in both.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_read_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc.h"
#include "log.h"
#include "spool_fresh.h"
#include "spool_journal.h"

struct spool_reader {
	struct spool *sp;
	enum { READ_PREPEND, READ_DATA, READ_DONE, READ_FAILED } stage;
	uint64_t given;
	char last; /* foreign: the last byte given */
	bool owed; /* foreign: a LF is still to follow a CR */
	char id[SPOOL_ID_MAX + 1];
	struct spool_file file;
	struct spool_part part;
	struct text_reader text;
};

static enum spool_fault spool_damaged(struct spool_file *f, const char *why)
{
	f->why = why;
	return SPOOL_DAMAGED;
}

static enum spool_fault spool_errno(struct spool_file *f)
{
	f->error = errno;
	return SPOOL_ERRNO;
}

/* What a text that was not read to its end comes to: only its own faults are damage. */
static enum spool_fault spool_unread(struct spool_file *f, const struct text_reader *r,
                                     const char *why)
{
	if (r->fault == TEXT_MEMORY)
		errno = ENOMEM;
	return r->fault == TEXT_IO || r->fault == TEXT_MEMORY ? spool_errno(f)
	                                                      : spool_damaged(f, why);
}

static ssize_t spool_pread_memory(struct slice text, char *p, size_t n, uint64_t at)
{
	if (at >= text.n)
		return 0;
	if (n > text.n - (size_t)at)
		n = text.n - (size_t)at;
	memcpy(p, text.p + at, n);
	return (ssize_t)n;
}

/* pread that goes on until n bytes are there or the text ends. */
static ssize_t spool_pread_source(const struct spool_source *from, char *p, size_t n, uint64_t at)
{
	size_t got = 0;
	while (got < n) {
		ssize_t r = from->entry ? journal_read(from->entry, p + got, n - got, at + got)
		                        : pread(from->fd, p + got, n - got, (off_t)(at + got));
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		if (r == 0)
			break;
		got += (size_t)r;
	}
	return (ssize_t)got;
}

/* The same of whatever has the message, by way of the block where that is large enough. */
static ssize_t spool_pread(struct spool_source *from, char *p, size_t n, uint64_t at)
{
	uint64_t left = from->size > at ? from->size - at : 0;
	if (n > left)
		n = (size_t)left;
	if (at < from->at || at + n > from->at + from->have) {
		if (!from->block && n <= from->ahead)
			from->block = malloc(from->ahead);
		if (!from->block || n > from->ahead)
			return spool_pread_source(from, p, n, at);
		size_t want = left < from->ahead ? (size_t)left : from->ahead;
		ssize_t got = spool_pread_source(from, from->block, want, at);
		from->have = got > 0 ? (size_t)got : 0;
		from->at = at;
		if (got <= 0)
			return got;
	}
	return spool_pread_memory((struct slice){from->block, from->have}, p, n, at - from->at);
}

static ssize_t spool_fill(void *arg, char *p, size_t n)
{
	struct spool_part *part = arg;
	uint64_t left = part->end - part->at;
	if (n > left)
		n = (size_t)left;
	ssize_t got = n > 0 ? spool_pread(part->from, p, n, part->at) : 0;
	if (got > 0) {
		part->crc = crc_add(part->crc, p, (size_t)got);
		part->at += (uint64_t)got;
	}
	return got;
}

/* ---- finding the mark ---- */

/* Offset of the last place where s stands in p, or -1. */
static ssize_t spool_find_last(const char *p, size_t n, const char *s)
{
	size_t len = strlen(s);
	for (size_t i = n >= len ? n - len + 1 : 0; i-- > 0;)
		if (p[i] == s[0] && memcmp(p + i, s, len) == 0)
			return (ssize_t)i;
	return -1;
}

/* A first attempt that was torn within its first word. Returns 0, or -1 with errno. */
static int spool_find_torn_attempt(struct spool_file *f)
{
	char block[sizeof SPOOL_ATTEMPT];
	uint64_t start = f->size > sizeof block ? f->size - sizeof block : 0;
	ssize_t n = spool_pread(&f->from, block, sizeof block, start);
	ssize_t at = n < 0 ? -1 : spool_find_last(block, (size_t)n, "\n");
	if (at >= 0 && memcmp(block + at + 1, SPOOL_ATTEMPT, (size_t)(n - at - 1)) == 0)
		f->tail = f->size - (uint64_t)(n - at - 1);
	return n < 0 ? -1 : 0;
}

/*
 * Looks for the mark line, one block nearer to the beginning than the call before. GOOD with
 * f->mark set, or at the beginning and f->foreign: then f->tail is where the first line of an
 * attempt is (the end when there is none).
 */
static enum spool_fault spool_search_mark(struct spool_file *f)
{
	static const char begin[] = "\n" SPOOL_MARK;
	static const char attempt[] = "\n" SPOOL_ATTEMPT; /* the shorter one */
	char block[SPOOL_BLOCK + sizeof begin];
	uint64_t end = f->unsearched;
	uint64_t start = end > SPOOL_BLOCK ? end - SPOOL_BLOCK : 0;
	size_t want = (size_t)(end - start) + (end < f->size ? sizeof begin - 2 : 0);
	ssize_t n = spool_pread(&f->from, block, want, start);
	if (n < 0)
		return spool_errno(f);
	ssize_t at = spool_find_last(block, (size_t)n, begin);
	if (at >= 0) {
		f->mark = start + (uint64_t)at + 1;
		return SPOOL_GOOD;
	}
	f->unsearched = start;
	f->foreign = start == 0;
	/* No byte of a message's text is NUL. A hole may be of any size, and is not to be searched
	 * to its end. */
	if (memchr(block, '\0', (size_t)n) && ++f->rotten > SPOOL_ROTTEN_MAX) {
		f->tail = 0;
		f->foreign = true;
		return SPOOL_GOOD;
	}
	const char *first = memmem(block, (size_t)n, attempt, sizeof attempt - 1);
	if (first)
		f->tail = start + (uint64_t)(first - block) + 1;
	if (!f->foreign)
		return SPOOL_MORE;
	return f->tail == f->size && spool_find_torn_attempt(f) ? spool_errno(f) : SPOOL_GOOD;
}

/* Does the text before " name: " have the checksum that stands behind it? */
static bool spool_is_sealed(const char *line, size_t n, const char *name, uint32_t crc)
{
	ssize_t at = spool_find_last(line, n, name);
	return at >= 0 && crc_add(0, line, (size_t)at) == crc;
}

static enum spool_fault spool_read_mark(struct spool_file *f)
{
	char line[512];
	struct text_reader r;
	ssize_t n = spool_pread(&f->from, line, sizeof line, f->mark);
	if (n < 0)
		return spool_errno(f);
	const char *end = memchr(line, '\n', (size_t)n);
	if (!end)
		return spool_damaged(f, "the end mark is torn");
	size_t len = (size_t)(end - line);
	text_open_memory(&r, "mark", line, len);
	static const char odd[] = "the end mark does not agree with itself";
	if (text_read(&r, &spool_message, &f->text))
		return spool_unread(f, &r, odd);
	if (!spool_is_sealed(line, len, " mark_crc32: ", f->text.mark_crc32))
		return spool_damaged(f, odd);
	if (f->text.head_end > f->text.data_end || f->text.data_end > f->mark)
		return spool_damaged(f, "the end mark does not agree with the file");
	f->tail = f->mark + len + 1;
	return SPOOL_GOOD;
}

enum spool_fault spool_step_mark(struct spool_file *f)
{
	enum spool_fault fault = spool_search_mark(f);
	if (fault == SPOOL_GOOD && !f->foreign)
		fault = spool_read_mark(f);
	if (fault == SPOOL_GOOD)
		f->at = f->good = f->tail;
	return fault;
}

/* ---- envelopes ---- */

/* Begins to read [0, end) into the file's text and, through it, into env. */
static void spool_parse_begin(struct spool_file *f, struct spool_parse *p, uint64_t end)
{
	p->part = (struct spool_part){.from = &f->from, .end = end};
	p->skipping = false;
	text_open(&p->text, "queue file", spool_fill, &p->part);
}

/* Reads on, content by the block. */
static enum spool_fault spool_parse_step(struct spool_file *f, struct spool_parse *p)
{
	char skipped[SPOOL_BLOCK];
	if (p->skipping && text_bytes_read(&p->text, skipped, sizeof skipped) > 0)
		return SPOOL_MORE;
	int rc = text_read(&p->text, &spool_message, &f->text);
	p->skipping = rc == 1;
	if (rc == 1)
		return SPOOL_MORE;
	return rc ? spool_unread(f, &p->text, "it cannot be read as a message") : SPOOL_GOOD;
}

static enum spool_fault spool_read_head(struct spool_file *f)
{
	struct spool_parse p;
	enum spool_fault fault;
	spool_parse_begin(f, &p, f->text.head_end);
	while ((fault = spool_parse_step(f, &p)) == SPOOL_MORE)
		;
	if (fault == SPOOL_GOOD && p.part.crc != f->text.head_crc32)
		return spool_damaged(f, "the envelope's checksum does not agree");
	return fault;
}

/* Applies one attempt line (without its newline). DAMAGED: it is not good, and nothing happened. */
static enum spool_fault spool_read_attempt(struct spool_file *f, const char *line, size_t n)
{
	struct spool_text text;
	struct spool_attempt_text attempt;
	struct text_reader r;
	static const char begin[] = SPOOL_ATTEMPT;
	size_t head = sizeof begin - 1;
	if (n < head + 2 || memcmp(line, begin, head) != 0 || memcmp(line + n - 2, " }", 2) != 0)
		return SPOOL_DAMAGED;
	text_init(&spool_attempt_message, &attempt);
	text_open_memory(&r, "attempt", line + head, n - head - 2);
	enum spool_fault fault = SPOOL_GOOD;
	if (text_read(&r, &spool_attempt_message, &attempt))
		fault = spool_unread(f, &r, "");
	else if (!spool_is_sealed(line, n, " crc32: ", attempt.crc32))
		fault = SPOOL_DAMAGED;
	else if (f->seen)
		f->seen(f->seen_arg, &attempt);
	text_clear(&spool_attempt_message, &attempt);
	if (fault != SPOOL_GOOD || f->seen)
		return fault;
	text_init(&spool_message, &text);
	text.env = f->text.env;
	text_open_memory(&r, "attempt", line, n);
	if (text_read(&r, &spool_message, &text))
		fault = spool_unread(f, &r, "");
	text_clear(&spool_message, &text);
	return fault;
}

/* Applies the complete lines at the beginning of what was read, and takes them away. A verdict that
 * there is no memory for must not be lost: who has the message would get it again. */
static enum spool_fault spool_read_lines(struct spool_file *f, struct buf *read)
{
	const char *end;
	while ((end = memchr(buf_data(read), '\n', read->len))) {
		size_t len = (size_t)(end - buf_data(read));
		enum spool_fault fault =
		    len > 0 ? spool_read_attempt(f, buf_data(read), len) : SPOOL_GOOD;
		if (fault == SPOOL_ERRNO)
			return fault;
		if (fault == SPOOL_DAMAGED && !f->seen)
			log_error("-", "attempt passed over",
			          LOG_S("reason", "its checksum does not agree"));
		buf_consume(read, len + 1);
	}
	return SPOOL_GOOD;
}

/*
 * Applies attempts behind the mark, a block of them. What follows f->good, the end of the last
 * complete line, is torn. A bad line in between is passed over: a lost verdict means one more try,
 * a wrong one would mean a lost message.
 */
enum spool_fault spool_step_attempts(struct spool_file *f)
{
	size_t room;
	if (f->at >= f->size)
		return SPOOL_GOOD;
	char *p = buf_space(&f->line, SPOOL_BLOCK, &room);
	if (p && room == 0) {
		buf_truncate(&f->line, 0); /* no newline for that long: not ours */
		return SPOOL_MORE;
	}
	if (!p)
		errno = ENOMEM;
	ssize_t n = p ? spool_pread(&f->from, p, room, f->at) : -1;
	if (n <= 0)
		return n < 0 ? spool_errno(f) : SPOOL_GOOD;
	buf_added(&f->line, (size_t)n);
	f->at += (uint64_t)n;
	size_t had = f->line.len;
	enum spool_fault fault = spool_read_lines(f, &f->line);
	if (f->line.len < had)
		f->good = f->at - f->line.len;
	return fault == SPOOL_GOOD && f->at < f->size ? SPOOL_MORE : fault;
}

static enum spool_fault spool_read_attempts(struct spool_file *f)
{
	enum spool_fault fault;
	while ((fault = spool_step_attempts(f)) == SPOOL_MORE)
		;
	return fault;
}

/* chasquid replaces its files as a whole, and ends them with a newline. Without that one, a file is
 * the beginning of something, be it of ours, and an attempt would not stand on a line of its own.
 */
enum spool_fault spool_begin_foreign(struct spool_file *f, struct spool_parse *p)
{
	char end;
	ssize_t n = f->tail > 0 ? spool_pread(&f->from, &end, 1, f->tail - 1) : 0;
	if (n < 0)
		return spool_errno(f);
	if (n == 0 || end != '\n')
		return spool_damaged(f, "it was never finished");
	spool_parse_begin(f, p, f->tail);
	return SPOOL_MORE;
}

enum spool_fault spool_step_foreign(struct spool_file *f, struct spool_parse *p)
{
	enum spool_fault fault = spool_parse_step(f, p);
	if (fault != SPOOL_GOOD)
		return fault;
	if (f->text.given[SPOOL_F_CRC] || f->text.given[SPOOL_F_SIZE])
		return spool_damaged(f, "the end mark is not where it was written");
	if (!f->text.given[SPOOL_F_CREATED])
		return spool_damaged(f, "it was never finished");
	return SPOOL_GOOD;
}

static enum spool_fault spool_read_foreign(struct spool_file *f)
{
	struct spool_parse p;
	enum spool_fault fault = spool_begin_foreign(f, &p);
	while (fault == SPOOL_MORE)
		fault = spool_step_foreign(f, &p);
	return fault;
}

/* ---- files ---- */

void spool_file_close(struct spool_file *f)
{
	buf_clear(&f->line);
	text_clear(&spool_message, &f->text);
	if (f->from.entry)
		journal_let_go(f->from.entry);
	if (f->from.fd >= 0)
		close(f->from.fd);
	free(f->from.block);
	f->from = (struct spool_source){.fd = -1};
}

enum spool_fault spool_file_open(struct spool *sp, const char *id, struct spool_file *f,
                                 struct envelope *env, int flags)
{
	struct stat s;
	/* Beside a block, a part of the next one: the search for the mark wants that. */
	*f = (struct spool_file){
	    .from = {.fd = -1, .entry = journal_hold(sp, id), .ahead = SPOOL_BLOCK + 512}};
	text_init(&spool_message, &f->text);
	f->text.env = env;
	buf_init(&f->line, 2 * (16 * SPOOL_RCPTS_MAX + 8192));
	if (f->from.entry) {
		f->size = f->from.size = journal_size(f->from.entry);
	} else {
		int fd = openat(sp->dir_fd, spool_file_name(id).s,
		                flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		f->from.fd = fd;
		/* What open says of a link, a directory, and a socket. */
		bool strange = fd < 0 && (errno == ELOOP || errno == EISDIR || errno == ENXIO);
		if (!strange && (fd < 0 || fstat(fd, &s)))
			return spool_errno(f);
		if (strange || !S_ISREG(s.st_mode))
			return spool_damaged(f, "it is not a regular file");
		f->size = f->from.size = (uint64_t)s.st_size;
	}
	f->unsearched = f->tail = f->size;
	return SPOOL_GOOD;
}

/* The mark as it was when the message came: no attempt has been recorded. */
static void spool_take_mark(struct spool_file *f, const struct spool_mark *mark)
{
	f->text.created.seconds = mark->created;
	f->text.header_8bit = mark->header_8bit;
	f->text.size = mark->size;
	f->text.crc32 = mark->crc32;
	f->text.head_end = mark->head_end;
	f->text.head_crc32 = mark->head_crc32;
	f->text.data_end = mark->data_end;
	f->mark = mark->at;
	f->tail = f->at = f->good = f->size;
}

/* Opens a file and finds its mark. */
static enum spool_fault spool_file_find(struct spool *sp, const char *id, struct spool_file *f,
                                        struct envelope *env)
{
	enum spool_fault fault = spool_file_open(sp, id, f, env, O_RDONLY);
	if (fault != SPOOL_GOOD)
		return fault;
	const struct spool_mark *mark = f->from.entry ? spool_fresh_mark(sp, id) : NULL;
	if (mark) {
		spool_take_mark(f, mark);
		return SPOOL_GOOD;
	}
	while ((fault = spool_step_mark(f)) == SPOOL_MORE)
		;
	return fault;
}

/* Reads all of the envelope. */
static enum spool_fault spool_file_read(struct spool_file *f)
{
	enum spool_fault fault = f->foreign ? spool_read_foreign(f) : spool_read_head(f);
	return fault == SPOOL_GOOD ? spool_read_attempts(f) : fault;
}

/* Says in *st what was wrong. Returns -1. */
static int spool_say_fault(enum spool_fault fault, const struct spool_file *f, struct status *st)
{
	if (fault == SPOOL_DAMAGED) {
		status_set(st, 554, "5.3.0", "the stored message is damaged: %s", f->why);
	} else if (f->error == ENOENT) {
		status_set(st, 554, "5.3.0", "there is no such message");
	} else {
		spool_trouble(st, "the stored message cannot be read", f->error);
	}
	return -1;
}

int spool_give_up(struct spool *sp, const char *id, enum spool_fault fault,
                  const struct spool_file *f, struct status *st)
{
	if (fault == SPOOL_DAMAGED)
		spool_set_aside(sp, id, f->why);
	return spool_say_fault(fault, f, st);
}

/* Moves what the text has into the envelope. */
static enum spool_fault spool_finish_envelope(struct spool_file *f, const char *id)
{
	struct spool_text *t = &f->text;
	struct envelope *env = t->env;
	if (!t->id || strcmp(t->id, id) != 0)
		return spool_damaged(f, "its name is not its ID");
	if (!t->from || env->rcpt_count == 0)
		return spool_damaged(f, "it has no sender or no recipients");
	memcpy(env->id, id, strlen(id) + 1);
	env->from = t->from;
	t->from = NULL;
	env->to = t->to.item;
	env->to_count = t->to.count;
	t->to = (struct text_strings){NULL, 0};
	env->created = t->created.seconds;
	env->size = t->size;
	env->submitted = t->submitted;
	env->header_8bit = t->header_8bit;
	return SPOOL_GOOD;
}

int spool_load(struct spool *sp, const char *id, struct envelope *env, struct status *st)
{
	struct spool_file f;
	if (spool_fresh_take(sp, id, env) == 0)
		return 0;
	*env = (struct envelope){.from = NULL};
	enum spool_fault fault = spool_file_find(sp, id, &f, env);
	if (fault == SPOOL_GOOD)
		fault = spool_file_read(&f);
	if (fault == SPOOL_GOOD)
		fault = spool_finish_envelope(&f, id);
	if (fault != SPOOL_GOOD) {
		envelope_clear(env);
		spool_give_up(sp, id, fault, &f, st);
	}
	spool_file_close(&f);
	return fault == SPOOL_GOOD ? 0 : -1;
}

void spool_unload(struct spool *sp, struct envelope *env)
{
	spool_fresh_return(sp, env);
	envelope_clear(env);
}

int spool_read_history(struct spool *sp, const char *id,
                       void (*seen)(void *arg, const struct spool_attempt_text *a), void *arg,
                       struct status *st)
{
	struct spool_file f;
	struct envelope env = {.from = NULL};
	enum spool_fault fault = spool_file_find(sp, id, &f, &env);
	if (fault == SPOOL_GOOD && f.foreign)
		fault = spool_read_foreign(&f);
	f.seen = seen;
	f.seen_arg = arg;
	if (fault == SPOOL_GOOD)
		fault = spool_read_attempts(&f);
	if (fault != SPOOL_GOOD)
		spool_say_fault(fault, &f, st);
	spool_file_close(&f);
	envelope_clear(&env);
	return fault == SPOOL_GOOD ? 0 : -1;
}

/* ---- content ---- */

/* Begins to read the value of a field that stands in [from, to) of the file. */
static int spool_read_field(struct spool_reader *r, const char *name, uint64_t from, uint64_t to,
                            uint32_t crc)
{
	enum text_event ev;
	r->part = (struct spool_part){.from = &r->file.from, .at = from, .end = to, .crc = crc};
	text_open(&r->text, "queue file", spool_fill, &r->part);
	while ((ev = text_next(&r->text)) == TEXT_FIELD && strcmp(r->text.token, name) != 0)
		if (text_skip(&r->text))
			return -1;
	if (ev != TEXT_FIELD)
		return -1;
	return text_next(&r->text) == TEXT_BYTES ? 0 : -1;
}

static int spool_read_data_begin(struct spool_reader *r)
{
	const struct spool_text *t = &r->file.text;
	r->stage = READ_DATA;
	if (r->file.foreign && !t->given[SPOOL_F_DATA]) {
		r->stage = READ_DONE; /* empty: chasquid leaves out what has its default value */
		return 0;
	}
	if (r->file.foreign)
		return spool_read_field(r, "data", 0, r->file.tail, 0);
	return spool_read_field(r, "data", t->head_end, t->data_end, t->head_crc32);
}

/* No checksum protects a foreign file: whether it is one is seen before anything is given out. */
static enum spool_fault spool_check_foreign(struct spool_file *f)
{
	struct envelope env = {.from = NULL};
	f->text.env = &env;
	enum spool_fault fault = spool_read_foreign(f);
	f->text.env = NULL;
	envelope_clear(&env);
	return fault;
}

static enum spool_fault spool_read_begin(struct spool_reader *r)
{
	const struct spool_text *t = &r->file.text;
	bool prepended = !r->file.foreign && t->data_end < r->file.mark;
	r->stage = READ_PREPEND;
	if (prepended ? !spool_read_field(r, "prepend", t->data_end, r->file.mark, 0)
	              : !spool_read_data_begin(r))
		return SPOOL_GOOD;
	if (r->text.fault == TEXT_IO)
		return spool_errno(&r->file);
	return spool_damaged(&r->file, "its content is not where it should be");
}

/* From now on content is read, in larger blocks when the one that is there does not have it all. */
static void spool_read_on(struct spool_file *f)
{
	struct spool_source *from = &f->from;
	if (f->size <= from->ahead)
		return;
	free(from->block);
	from->block = NULL;
	from->have = 0;
	from->ahead = f->size < SPOOL_READ_AHEAD ? (size_t)f->size : SPOOL_READ_AHEAD;
}

struct spool_reader *spool_read_open(struct spool *sp, const char *id, struct status *st)
{
	struct spool_reader *r = calloc(1, sizeof *r);
	if (!r || strlen(id) > SPOOL_ID_MAX) {
		free(r);
		spool_trouble(st, "the stored message cannot be read", ENOMEM);
		return NULL;
	}
	memcpy(r->id, id, strlen(id) + 1);
	r->sp = sp;
	enum spool_fault fault = spool_file_find(sp, id, &r->file, NULL);
	spool_read_on(&r->file);
	if (fault == SPOOL_GOOD && r->file.foreign)
		fault = spool_check_foreign(&r->file);
	if (fault == SPOOL_GOOD)
		fault = spool_read_begin(r);
	if (fault == SPOOL_GOOD)
		return r;
	spool_give_up(sp, id, fault, &r->file, st);
	spool_read_close(r);
	return NULL;
}

/* Ends reading: the checksum over head, content and prepended headers, as they stand in the file,
 * and the size must agree. Returns 0, or -1 with `fault` of the text set when the disk failed. */
static int spool_check_content(struct spool_reader *r)
{
	char block[SPOOL_BLOCK];
	struct spool_part *part = &r->part;
	ssize_t n = 1;
	if (r->file.foreign)
		return 0;
	if (text_next(&r->text) != TEXT_END)
		return -1;
	part->end = r->file.mark;
	while (part->at < part->end && n > 0)
		n = spool_fill(part, block, sizeof block);
	if (n < 0)
		r->text.fault = TEXT_IO;
	return part->at == part->end && part->crc == r->file.text.crc32 &&
	               r->given == r->file.text.size
	           ? 0
	           : -1;
}

/* A line end that was LF alone, or is missing at the end, is CRLF; the LF that finds no room comes
 * with the next call. */
static size_t spool_put_line_end(struct spool_reader *r, char *p, size_t out, size_t n)
{
	p[out++] = '\r';
	r->last = '\n';
	r->owed = out == n;
	if (!r->owed)
		p[out++] = '\n';
	return out;
}

/* LF to CRLF: from the upper half of p, rounded up, into all of it. Writing never overtakes. */
static ssize_t spool_read_foreign_data(struct spool_reader *r, char *p, size_t n)
{
	size_t half = n - n / 2;
	size_t out = 0;
	if (r->owed) {
		r->owed = false;
		p[0] = '\n';
		return 1;
	}
	ssize_t got = text_bytes_read(&r->text, p + n - half, half);
	for (ssize_t i = 0; i < got; i++) {
		char c = p[n - half + (size_t)i];
		if (c == '\n' && r->last != '\r') {
			out = spool_put_line_end(r, p, out, n);
		} else {
			p[out++] = c;
			r->last = c;
		}
	}
	if (got == 0 && r->given > 0 && r->last != '\n')
		out = spool_put_line_end(r, p, out, n);
	return got < 0 ? -1 : (ssize_t)out;
}

/* Up to n bytes, the next part begun when one is over. 0 at the verified end, -1 on failure. */
static ssize_t spool_read_more(struct spool_reader *r, char *p, size_t n)
{
	while (r->stage == READ_PREPEND || r->stage == READ_DATA) {
		ssize_t got = r->file.foreign ? spool_read_foreign_data(r, p, n)
		                              : text_bytes_read(&r->text, p, n);
		if (got != 0)
			return got;
		if (r->stage == READ_DATA) {
			if (spool_check_content(r))
				return -1;
			r->stage = READ_DONE;
		} else if (spool_read_data_begin(r)) {
			return -1;
		}
	}
	return 0;
}

ssize_t spool_read(struct spool_reader *r, char *p, size_t n, struct status *st)
{
	ssize_t got = r->stage == READ_FAILED ? -1 : spool_read_more(r, p, n);
	if (got >= 0) {
		r->given += (uint64_t)got;
		return got;
	}
	if (r->text.fault == TEXT_IO) {
		spool_trouble(st, "the stored message cannot be read", errno);
	} else {
		status_set(st, 554, "5.3.0", "the stored message is damaged");
		if (r->stage != READ_FAILED)
			spool_set_aside(r->sp, r->id,
			                "its content does not agree with its checksum");
	}
	r->stage = READ_FAILED;
	return -1;
}

void spool_read_close(struct spool_reader *r)
{
	spool_file_close(&r->file);
	free(r);
}
