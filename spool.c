/*
 * spool: a message is one file, queue/m:<ID>, written once from front to back, then only appended
 * to.
 *
 *   head      ID, from, To, rcpt: known before the first byte of content came
 *   data      the content, a literal a line
 *   prepend   header lines that could be known only after it (optional)
 *   mark      created_at_ts, sizes, checksums: one line, written last
 *   attempt   one line each, appended as recipients are tried
 *
 * Invariants. The message is ours if and only if the mark is there and agrees; 250 is said after
 * the barrier behind the mark, never before. Nothing that was written is changed. Head, content,
 * mark and every attempt have a checksum of their own, so that a rotten bit shows before it can
 * send a message to somebody else, bounce it early, or pass as content. See docs/INTERNALS.md for
 * the states and what start-up makes of each.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crc.h"
#include "disk.h"
#include "log.h"
#include "stat.h"

STAT_COUNTER(stat_committed, "chasquid/queue/putCount",
             "Messages taken into the queue, notifications too");
STAT_COUNTER(stat_written, "chasquid/queue/itemsWritten",
             "Messages and records of attempts written to disk");
STAT_COUNTER(stat_aborted, "spool/aborted", "Messages given up before they were complete");
STAT_COUNTER(stat_failed, "spool/failed",
             "Messages that could not be stored: disk full, or an error of it");
STAT_COUNTER(stat_removed, "spool/removed", "Messages removed from the queue");
STAT_COUNTER(stat_damaged, "spool/damaged", "Files of messages found damaged, and set aside");

struct spool_writer {
	struct spool *sp;
	char id[SPOOL_ID_MAX + 1];
	int64_t created;
	int fd;
	int error; /* errno of the first trouble, 0 when none */
	struct buf out;
	struct buf line; /* the beginning of a line whose end has not come yet */
	struct buf prepend;
	struct spool_text mark;
	uint64_t offset;  /* of the file, out included */
	uint32_t crc;     /* of the file up to `offset` - out.len */
	uint64_t checked; /* offset, in steps, at which free space was looked at */
	struct disk_sync sync;
	void (*done)(void *arg, const char *id, const struct status *st);
	void *arg;
};

/* ---- names ---- */

/* 64 characters in ASCII order, safe in file names and on command lines. */
static const char spool_digits[] =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

#define SPOOL_ID_LEN 11

void spool_id_text(uint64_t number, char out[SPOOL_ID_MAX + 1])
{
	for (int i = SPOOL_ID_LEN - 1; i >= 0; i--) {
		out[i] = spool_digits[number & 63];
		number >>= 6;
	}
	out[SPOOL_ID_LEN] = '\0';
}

uint64_t spool_id_number(const char *id)
{
	uint64_t number = 0;
	if (strlen(id) != SPOOL_ID_LEN || id[0] > 'F')
		return 0;
	for (int i = 0; i < SPOOL_ID_LEN; i++) {
		const char *digit = strchr(spool_digits, id[i]);
		if (!digit)
			return 0;
		number = number << 6 | (uint64_t)(digit - spool_digits);
	}
	return number;
}

struct spool_name spool_file_name(const char *id)
{
	struct spool_name name;
	snprintf(name.s, sizeof name.s, "m:%s", id);
	return name;
}

static int64_t spool_clock(struct timespec *ts)
{
	clock_gettime(CLOCK_REALTIME, ts);
	return (int64_t)ts->tv_sec * 1000 + ts->tv_nsec / 1000000;
}

/* 44 bits of milliseconds and 20 of chance; always more than the last, whatever the clock does. */
static uint64_t spool_next_id(struct spool *sp)
{
	struct timespec ts;
	uint32_t chance = 0;
	uint64_t ms = (uint64_t)spool_clock(&ts);
	if (getrandom(&chance, sizeof chance, GRND_NONBLOCK) != sizeof chance)
		chance = (uint32_t)ts.tv_nsec;
	uint64_t id = ms << 20 | (chance & 0xfffff);
	if (id <= sp->last_id)
		id = sp->last_id + 1;
	sp->last_id = id;
	return id;
}

/* Remembers what was given out while the scan might still come across it. */
static int spool_note_issued(struct spool *sp, uint64_t id)
{
	if (!sp->scan)
		return 0;
	if (sp->issued_count == sp->issued_size) {
		size_t size = sp->issued_size ? sp->issued_size * 2 : 64;
		uint64_t *p = realloc(sp->issued, size * sizeof *p);
		if (!p)
			return -1;
		sp->issued = p;
		sp->issued_size = size;
	}
	sp->issued[sp->issued_count++] = id;
	return 0;
}

bool spool_was_issued(const struct spool *sp, const char *id)
{
	uint64_t number = spool_id_number(id);
	size_t low = 0;
	size_t high = sp->issued_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (sp->issued[middle] == number)
			return true;
		if (sp->issued[middle] < number)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* ---- opening ---- */

void spool_trouble(struct status *st, const char *what, int error)
{
	if (error == ENOSPC || error == EDQUOT || error == EFBIG)
		status_set(st, 452, "4.3.1", "%s: %s", what, strerror(error));
	else
		status_set(st, 451, "4.3.0", "%s: %s", what, strerror(error));
}

static int spool_open_dirs(struct spool *sp, const char *data_dir)
{
	char path[PATH_MAX];
	if ((size_t)snprintf(path, sizeof path, "%s/queue", data_dir) >= sizeof path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	if (disk_make_dirs(data_dir, 0755) || disk_make_dirs(path, 0700))
		return -1;
	sp->dir_fd = disk_open_dir(path);
	if (sp->dir_fd < 0)
		return -1;
	/* A stream of its own: fdopendir takes the descriptor. */
	int fd = disk_open_dir(path);
	sp->scan = fd < 0 ? NULL : fdopendir(fd);
	if (!sp->scan && fd >= 0)
		close(fd);
	return sp->scan ? 0 : -1;
}

struct spool *spool_open(const char *data_dir, struct status *st)
{
	struct spool *sp = calloc(1, sizeof *sp);
	if (!sp) {
		spool_trouble(st, "opening the queue", ENOMEM);
		return NULL;
	}
	sp->dir_fd = sp->damaged_fd = -1;
	if (spool_open_dirs(sp, data_dir)) {
		spool_trouble(st, "opening the queue", errno);
		spool_close(sp);
		return NULL;
	}
	return sp;
}

void spool_close(struct spool *sp)
{
	if (sp->scan)
		closedir(sp->scan);
	if (sp->damaged_fd >= 0)
		close(sp->damaged_fd);
	if (sp->dir_fd >= 0)
		close(sp->dir_fd);
	free(sp->issued);
	free(sp);
}

void spool_on_commit(struct spool *sp, void (*fn)(void *arg, const char *id, int64_t created),
                     void *arg)
{
	sp->committed = fn;
	sp->committed_arg = arg;
}

int spool_has_room(struct spool *sp, uint64_t size, struct status *st)
{
	bool no_inodes;
	int64_t room = disk_free(sp->dir_fd, &no_inodes);
	/* Escapes, quotes and line ends make the file larger than the message. */
	uint64_t need = size + size / 8 + SPOOL_FREE_MIN;
	if (!no_inodes && (uint64_t)room >= need)
		return 0;
	status_set(st, 452, "4.3.1", "the disk is too full for this message now; try again later");
	return -1;
}

/* ---- writing ---- */

/* Messages whose size was not told beforehand must not eat the last free space either. */
static void spool_check_space(struct spool_writer *w)
{
	bool no_inodes;
	if (w->offset / SPOOL_CHECK_STEP == w->checked)
		return;
	w->checked = w->offset / SPOOL_CHECK_STEP;
	if (disk_free(w->fd, &no_inodes) < SPOOL_FREE_MIN && !w->error)
		w->error = ENOSPC;
}

static void spool_flush(struct spool_writer *w)
{
	if (w->out.failed && !w->error)
		w->error = ENOMEM;
	spool_check_space(w);
	if (!w->error) {
		w->crc = crc_add(w->crc, buf_data(&w->out), w->out.len);
		if (disk_write(w->fd, buf_data(&w->out), w->out.len))
			w->error = errno;
	}
	w->offset += w->out.len;
	buf_truncate(&w->out, 0);
}

/* One literal on a line of its own. */
static void spool_put_literal(struct spool_writer *w, const char *p, size_t n)
{
	buf_append(&w->out, "  ", 2);
	text_put_literal(&w->out, p, n);
	buf_append(&w->out, "\n", 1);
	if (w->out.len >= SPOOL_WRITE_BUF)
		spool_flush(w);
}

static void spool_free_writer(struct spool_writer *w)
{
	if (w->fd >= 0)
		close(w->fd);
	buf_clear(&w->out);
	buf_clear(&w->line);
	buf_clear(&w->prepend);
	free(w);
}

static void spool_discard(struct spool_writer *w)
{
	unlinkat(w->sp->dir_fd, spool_file_name(w->id).s, 0);
	spool_free_writer(w);
}

/* Makes the file under a new ID. Returns 0, or -1 with errno. */
static int spool_create(struct spool_writer *w)
{
	for (int tries = 0; tries < 100; tries++) {
		uint64_t id = spool_next_id(w->sp);
		spool_id_text(id, w->id);
		w->fd = openat(w->sp->dir_fd, spool_file_name(w->id).s,
		               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (w->fd >= 0) {
			if (!spool_note_issued(w->sp, id))
				return 0;
			unlinkat(w->sp->dir_fd, spool_file_name(w->id).s, 0);
			errno = ENOMEM;
			return -1;
		}
		if (errno != EEXIST)
			return -1;
	}
	return -1;
}

static void spool_put_head(struct spool_writer *w, struct envelope *env)
{
	struct text_writer text;
	struct spool_text head = {
	    .id = w->id, .from = env->from, .submitted = env->submitted, .env = env};
	head.to = (struct text_strings){env->to, env->to_count};
	text_writer_init(&text, &w->out);
	w->out.max = SPOOL_HEAD_MAX;
	text_put_fields(&text, &spool_message, &head, SPOOL_F_ID, SPOOL_F_DATA);
	spool_flush(w);
	w->mark.head_end = w->offset;
	w->mark.head_crc32 = w->crc;
	/* From here on one literal more than what starts a flush is the most it holds. */
	buf_clear(&w->out);
	w->out.max = SPOOL_WRITE_BUF + TEXT_LITERAL_SIZE(SPOOL_LITERAL_MAX) + 64;
	buf_puts(&w->out, "data:\n");
}

struct spool_writer *spool_begin(struct spool *sp, struct envelope *env, struct status *st)
{
	struct timespec ts;
	if (!spool_envelope_fits(env)) {
		status_set(st, 451, "4.3.0", "the message's envelope cannot be stored");
		return NULL;
	}
	struct spool_writer *w = calloc(1, sizeof *w);
	if (!w) {
		spool_trouble(st, "the message cannot be stored", ENOMEM);
		return NULL;
	}
	w->sp = sp;
	buf_init(&w->out, SPOOL_HEAD_MAX);
	buf_init(&w->line, SPOOL_LITERAL_MAX);
	buf_init(&w->prepend, SPOOL_PREPEND_MAX);
	if (spool_create(w)) {
		spool_trouble(st, "the message cannot be stored", errno);
		spool_free_writer(w);
		return NULL;
	}
	w->created = spool_clock(&ts) / 1000;
	w->mark.created.seconds = w->created;
	w->mark.created.nanos = (int32_t)ts.tv_nsec;
	spool_put_head(w, env);
	if (w->error) {
		spool_trouble(st, "the message cannot be stored", w->error);
		spool_discard(w);
		return NULL;
	}
	memcpy(env->id, w->id, sizeof env->id);
	env->created = w->created;
	return w;
}

void spool_append(struct spool_writer *w, const char *p, size_t n)
{
	w->mark.size += n;
	while (n > 0) {
		const char *end = memchr(p, '\n', n);
		size_t part = end ? (size_t)(end - p) + 1 : n;
		size_t room = SPOOL_LITERAL_MAX - w->line.len;
		bool cut = part > room;
		if (cut)
			part = room;
		if (w->line.len == 0 && (end || cut)) {
			spool_put_literal(w, p, part);
		} else {
			buf_append(&w->line, p, part);
			if (end || cut) {
				spool_put_literal(w, buf_data(&w->line), w->line.len);
				buf_truncate(&w->line, 0);
			}
		}
		p += part;
		n -= part;
	}
	if (w->line.failed && !w->error)
		w->error = ENOMEM;
}

void spool_prepend(struct spool_writer *w, const char *p, size_t n)
{
	if (buf_append(&w->prepend, p, n) && !w->error)
		w->error = EFBIG;
	w->mark.size += n;
}

void spool_note_8bit_header(struct spool_writer *w)
{
	w->mark.header_8bit = true;
}

static void spool_put_prepend(struct spool_writer *w)
{
	struct slice left = buf_slice(&w->prepend);
	if (left.n == 0)
		return;
	buf_puts(&w->out, "prepend:\n");
	while (left.n > 0) {
		size_t n = left.n < SPOOL_LITERAL_MAX ? left.n : SPOOL_LITERAL_MAX;
		const char *end = memchr(left.p, '\n', n);
		if (end)
			n = (size_t)(end - left.p) + 1;
		spool_put_literal(w, left.p, n);
		left.p += n;
		left.n -= n;
	}
}

/* Ends a record: the line so far (without a newline) gets a checksum of its own. */
static void spool_seal(struct buf *line, const char *name)
{
	uint32_t crc = crc_add(0, buf_data(line), line->len);
	buf_printf(line, " %s: %lu\n", name, (unsigned long)crc);
}

static void spool_put_mark(struct spool_writer *w)
{
	struct buf line;
	buf_init(&line, 512);
	buf_printf(&line, SPOOL_MARK "%lld nanos: %ld }", (long long)w->mark.created.seconds,
	           (long)w->mark.created.nanos);
	buf_printf(&line, " size: %llu crc32: %lu", (unsigned long long)w->mark.size,
	           (unsigned long)w->crc);
	buf_printf(&line, " head_end: %llu head_crc32: %lu data_end: %llu",
	           (unsigned long long)w->mark.head_end, (unsigned long)w->mark.head_crc32,
	           (unsigned long long)w->mark.data_end);
	if (w->mark.header_8bit)
		buf_puts(&line, " header_8bit: true");
	spool_seal(&line, "mark_crc32");
	if (line.failed && !w->error)
		w->error = ENOMEM;
	buf_append(&w->out, buf_data(&line), line.len);
	buf_clear(&line);
}

static void spool_synced(void *arg, int error)
{
	struct spool_writer *w = arg;
	struct spool *sp = w->sp;
	struct status st;
	char id[SPOOL_ID_MAX + 1];
	int64_t created = w->created;
	void (*done)(void *, const char *, const struct status *) = w->done;
	void *done_arg = w->arg;
	memcpy(id, w->id, sizeof id);
	if (w->error)
		error = w->error;
	if (error) {
		spool_trouble(&st, "the message cannot be stored", error);
		log_debug(id, "spool failed", LOG_S("error", strerror(error)));
		stat_add(&stat_failed, 1);
		spool_discard(w);
	} else {
		status_set(&st, 250, "2.0.0", "queued as %s", id);
		stat_add(&stat_committed, 1);
		stat_add(&stat_written, 1);
		spool_free_writer(w);
		if (sp->committed)
			sp->committed(sp->committed_arg, id, created);
	}
	done(done_arg, id, &st);
}

void spool_commit(struct spool_writer *w,
                  void (*done)(void *arg, const char *id, const struct status *st), void *arg)
{
	w->done = done;
	w->arg = arg;
	if (w->line.len > 0)
		spool_put_literal(w, buf_data(&w->line), w->line.len);
	if (w->mark.size == w->prepend.len)
		spool_put_literal(w, "", 0); /* a field without a value is no text format */
	spool_flush(w);
	w->mark.data_end = w->offset;
	spool_put_prepend(w);
	spool_flush(w);
	spool_put_mark(w);
	spool_flush(w);
	/* With an error there is nothing to flush, but the answer still comes from the loop. */
	w->sync = (struct disk_sync){.fd = w->error ? -1 : w->fd,
	                             .dir_fd = w->error ? -1 : w->sp->dir_fd,
	                             .done = spool_synced,
	                             .arg = w};
	disk_sync(&w->sync);
}

void spool_abort(struct spool_writer *w)
{
	disk_sync_cancel(&w->sync);
	stat_add(&stat_aborted, 1);
	spool_discard(w);
}

/* ---- attempts ---- */

/* A record whose flush is under way. */
struct spool_record {
	struct disk_sync sync;
	int fd;
	char id[SPOOL_ID_MAX + 1];
};

static void spool_record_synced(void *arg, int error)
{
	struct spool_record *rec = arg;
	if (error)
		log_error(rec->id, "attempt not flushed", LOG_S("error", strerror(error)));
	close(rec->fd);
	free(rec);
}

/* Appends the line, or nothing: a torn record is cut off again. One that could not be cut off gets
 * its end now: behind it, on the same line, this one would not be read. Returns 0, or an errno. */
static int spool_append_record(int fd, const struct buf *line)
{
	struct stat s;
	char last;
	if (fstat(fd, &s))
		return errno;
	bool torn = s.st_size > 0 && pread(fd, &last, 1, s.st_size - 1) == 1 && last != '\n';
	if ((!torn || !disk_write(fd, "\n", 1)) && !disk_write(fd, buf_data(line), line->len))
		return 0;
	int error = errno;
	if (ftruncate(fd, s.st_size))
		log_error("-", "torn record", LOG_S("error", strerror(errno)));
	return error;
}

static void spool_format_attempt(struct buf *line, const size_t *rcpts, size_t count,
                                 enum rcpt_state state, const struct status *what,
                                 const char *remote, int64_t now)
{
	static const char *const names[] = {"PENDING", "SENT", "FAILED"};
	char text[STATUS_PRINT_MAX];
	status_print(what, text, sizeof text);
	buf_puts(line, SPOOL_ATTEMPT);
	for (size_t i = 0; i < count; i++)
		buf_printf(line, " rcpt: %lu", (unsigned long)rcpts[i]);
	buf_printf(line, " at { seconds: %lld } status: %s text: ", (long long)now, names[state]);
	text_put_literal(line, text, strlen(text));
	if (remote && *remote) {
		/* Part of it is the peer's word; what is not UTF-8 would not be read back. */
		size_t n = status_clean(slice_of(remote), text, sizeof text);
		buf_puts(line, " remote: ");
		text_put_literal(line, text, n);
	}
	spool_seal(line, "crc32");
	buf_truncate(line, line->len - 1);
	buf_puts(line, " }\n");
}

int spool_attempt(struct spool *sp, struct envelope *env, const size_t *rcpts, size_t count,
                  enum rcpt_state state, const struct status *what, const char *remote,
                  bool durable, struct status *st)
{
	struct timespec ts;
	struct buf line;
	int error = 0;
	int64_t now = spool_clock(&ts) / 1000;
	/* Without memory for its text a verdict is still noted, here and in the file. */
	for (size_t i = 0; i < count; i++)
		(void)envelope_set_verdict(&env->rcpt[rcpts[i]], state, what, remote);
	if (now != env->last_attempt)
		env->attempts++;
	env->last_attempt = now;
	buf_init(&line, 16 * SPOOL_RCPTS_MAX + 8192);
	spool_format_attempt(&line, rcpts, count, state, what, remote, now);
	int fd = openat(sp->dir_fd, spool_file_name(env->id).s,
	                O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		error = errno;
	else if (line.failed)
		error = ENOMEM;
	else
		error = spool_append_record(fd, &line);
	buf_clear(&line);
	struct spool_record *rec = durable && !error ? malloc(sizeof *rec) : NULL;
	if (rec) {
		rec->sync = (struct disk_sync){
		    .fd = fd, .dir_fd = -1, .done = spool_record_synced, .arg = rec};
		rec->fd = fd;
		memcpy(rec->id, env->id, sizeof rec->id);
		disk_sync(&rec->sync);
	} else if (fd >= 0) {
		close(fd);
	}
	if (!error) {
		stat_add(&stat_written, 1);
		return 0;
	}
	spool_trouble(st, "the attempt cannot be recorded", error);
	return -1;
}

/* ---- temporary files ---- */

/* The name lives for one system call. What a crash leaves of it is an empty file, unseen by the
 * scan, that goes with the next use of the name. */
#define SPOOL_TEMP ".temp"

/* For file systems that make no file without a name. Returns a descriptor, or -1 with errno. */
static int spool_temp_named(int dir_fd)
{
	unlinkat(dir_fd, SPOOL_TEMP, 0);
	int fd =
	    openat(dir_fd, SPOOL_TEMP, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0 && unlinkat(dir_fd, SPOOL_TEMP, 0)) {
		int saved = errno;
		close(fd);
		errno = saved;
		fd = -1;
	}
	return fd;
}

int spool_temp_file(struct spool *sp, struct status *st)
{
	/* In the queue's directory, not in /tmp: that may be memory. */
	int fd = openat(sp->dir_fd, ".", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	/* Old kernels and file systems refuse with various errors; others will come again. */
	if (fd < 0)
		fd = spool_temp_named(sp->dir_fd);
	if (fd < 0)
		spool_trouble(st, "a temporary file cannot be made", errno);
	return fd;
}

/* ---- leaving ---- */

int spool_remove(struct spool *sp, const char *id, struct status *st)
{
	if (unlinkat(sp->dir_fd, spool_file_name(id).s, 0) && errno != ENOENT) {
		spool_trouble(st, "the message cannot be removed", errno);
		return -1;
	}
	stat_add(&stat_removed, 1);
	return 0;
}

/* Removes the oldest file of damaged/ when there are too many. */
static void spool_prune_damaged(struct spool *sp)
{
	int fd = openat(sp->dir_fd, "damaged", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	struct stat s;
	char oldest[NAME_MAX + 1] = "";
	int64_t oldest_time = INT64_MAX;
	size_t count = 0;
	while (d && (e = readdir(d))) {
		/* Directories, which nobody but a person puts there, are that person's to remove.
		 */
		if (e->d_name[0] == '.' || fstatat(fd, e->d_name, &s, AT_SYMLINK_NOFOLLOW) ||
		    S_ISDIR(s.st_mode))
			continue;
		count++;
		if ((int64_t)s.st_mtime < oldest_time) {
			oldest_time = (int64_t)s.st_mtime;
			snprintf(oldest, sizeof oldest, "%s", e->d_name);
		}
	}
	if (count >= SPOOL_DAMAGED_MAX && oldest[0])
		unlinkat(fd, oldest, 0);
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
}

void spool_set_aside(struct spool *sp, const char *id, const char *why)
{
	struct spool_name name = spool_file_name(id);
	log_error(id, "spool damaged", LOG_S("reason", why), LOG_S("moved", "queue/damaged"));
	stat_add(&stat_damaged, 1);
	spool_prune_damaged(sp);
	if (sp->damaged_fd < 0) {
		if (mkdirat(sp->dir_fd, "damaged", 0700) && errno != EEXIST)
			log_error("-", "no directory for damaged files",
			          LOG_S("error", strerror(errno)));
		sp->damaged_fd =
		    openat(sp->dir_fd, "damaged", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (sp->damaged_fd < 0 || renameat(sp->dir_fd, name.s, sp->damaged_fd, name.s))
		log_error(id, "damaged file stays", LOG_S("error", strerror(errno)));
}
