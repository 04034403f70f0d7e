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

#include <dirent.h>
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
#include "loop.h"
#include "spool_journal.h"
#include "spool_scan.h"
#include "stat.h"

STAT_COUNTER(stat_written, "chasquid/queue/itemsWritten",
             "Messages and records of attempts written to disk");
STAT_COUNTER(stat_removed, "spool/removed", "Messages removed from the queue");
STAT_COUNTER(stat_damaged, "spool/damaged", "Files of messages found damaged, and set aside");

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

/* The value of a digit, 64 for what is none: the ranges of spool_digits. */
static unsigned spool_digit(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'A' && c <= 'Z')
		return (unsigned)(c - 'A') + 10;
	if (c >= 'a' && c <= 'z')
		return (unsigned)(c - 'a') + 37;
	return c == '_' ? 36 : c == '~' ? 63 : 64;
}

uint64_t spool_id_number(const char *id)
{
	uint64_t number = 0;
	if (strlen(id) != SPOOL_ID_LEN || id[0] > 'F')
		return 0;
	for (int i = 0; i < SPOOL_ID_LEN; i++) {
		unsigned digit = spool_digit(id[i]);
		if (digit > 63)
			return 0;
		number = number << 6 | digit;
	}
	return number;
}

struct spool_name spool_file_name(const char *id)
{
	struct spool_name name;
	snprintf(name.s, sizeof name.s, "m:%s", id);
	return name;
}

int64_t spool_now(struct timespec *ts)
{
	clock_gettime(CLOCK_REALTIME, ts);
	return (int64_t)ts->tv_sec;
}

/* Fetched in bulk: one system call serves many messages. */
static uint32_t spool_chance(struct spool *sp, const struct timespec *ts)
{
	if (sp->chances == 0 &&
	    getrandom(sp->chance, sizeof sp->chance, GRND_NONBLOCK) == (ssize_t)sizeof sp->chance)
		sp->chances = sizeof sp->chance / sizeof *sp->chance;
	return sp->chances > 0 ? sp->chance[--sp->chances] : (uint32_t)ts->tv_nsec;
}

/* 44 bits of milliseconds and 20 of chance; always more than the last, whatever the clock does. */
static uint64_t spool_next_id(struct spool *sp)
{
	struct timespec ts;
	uint64_t ms = (uint64_t)spool_now(&ts) * 1000 + (uint64_t)ts.tv_nsec / 1000000;
	uint64_t id = ms << 20 | (spool_chance(sp, &ts) & 0xfffff);
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

uint64_t spool_issue_id(struct spool *sp)
{
	for (int tries = 0; tries < 100; tries++) {
		char text[SPOOL_ID_MAX + 1];
		struct stat s;
		uint64_t id = spool_next_id(sp);
		spool_id_text(id, text);
		/* A clock that was set back may come upon the files of before. */
		bool unknown = sp->scan || id <= sp->highest;
		if (!unknown ||
		    fstatat(sp->dir_fd, spool_file_name(text).s, &s, AT_SYMLINK_NOFOLLOW))
			return spool_note_issued(sp, id) ? 0 : id;
	}
	return 0;
}

bool spool_has_id(const uint64_t *ids, size_t count, uint64_t number)
{
	size_t low = 0;
	size_t high = count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (ids[middle] == number)
			return true;
		if (ids[middle] < number)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

bool spool_is_new(const struct spool *sp, uint64_t number)
{
	return spool_has_id(sp->issued, sp->issued_count, number);
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
	/* Two would write over each other's journal. One that was told to stop may still be at it.
	 */
	if (sp->dir_fd < 0 || disk_lock(sp->dir_fd, SPOOL_LOCK_MS))
		return -1;
	if (journal_open(sp))
		return -1;
	sp->scan = spool_scan_new(path);
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
		if (errno == EWOULDBLOCK)
			status_set(st, 451, "4.3.0", "chasq is already running");
		else
			spool_trouble(st, "opening the queue", errno);
		spool_close(sp);
		return NULL;
	}
	return sp;
}

void spool_close(struct spool *sp)
{
	journal_close(sp);
	if (sp->scan)
		spool_scan_free(sp->scan);
	if (sp->damaged_fd >= 0)
		close(sp->damaged_fd);
	if (sp->dir_fd >= 0)
		close(sp->dir_fd);
	free(sp->issued);
	free(sp->old);
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
	bool no_inodes = false;
	/* Escapes, quotes and line ends make the file larger than the message. */
	uint64_t need = size + size / 8 + SPOOL_FREE_MIN;
	int64_t now = loop_now();
	if (sp->room < need + SPOOL_PLENTY || now >= sp->room_until) {
		sp->room = (uint64_t)disk_free(sp->dir_fd, &no_inodes);
		sp->room_until = no_inodes ? now : now + SPOOL_PLENTY_MS;
	}
	if (!no_inodes && sp->room >= need)
		return 0;
	status_set(st, 452, "4.3.1", "the disk is too full for this message now; try again later");
	return -1;
}

/* ---- attempts ---- */

void spool_count_written(void)
{
	stat_add(&stat_written, 1);
}

/* A record that waits for its flush. */
struct spool_record {
	struct spool *sp;
	struct disk_sync sync;
	int fd;
	char id[SPOOL_ID_MAX + 1];
};

static void spool_record_synced(void *arg, int error)
{
	struct spool_record *rec = arg;
	rec->sp->records--;
	if (error) {
		log_error(rec->id, "attempt not flushed", LOG_S("error", strerror(error)));
		journal_distrust(rec->sp, rec->id);
	}
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
	uint32_t crc = crc_add(0, buf_data(line), line->len);
	buf_puts(line, " crc32: ");
	buf_put_number(line, crc);
	buf_puts(line, " }\n");
}

/* Appends the line to the message's file. Returns 0, or an errno. */
static int spool_record_attempt(struct spool *sp, const char *id, const struct buf *line,
                                bool durable)
{
	int fd =
	    openat(sp->dir_fd, spool_file_name(id).s, O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
	int error = fd < 0 ? errno : spool_append_record(fd, line);
	struct spool_record *rec = durable && !error ? malloc(sizeof *rec) : NULL;
	if (rec) {
		/* The child that flushes the file, too, must not be through with it before an error
		 * that only we are told of is known. Others wait as long as there are few. */
		bool here = journal_is_filing(sp, id) || sp->records >= SPOOL_RECORDS_MAX;
		rec->sync = (struct disk_sync){
		    .fd = fd, .dir_fd = -1, .here = here, .done = spool_record_synced, .arg = rec};
		rec->sp = sp;
		sp->records++;
		rec->fd = fd;
		memcpy(rec->id, id, strlen(id) + 1);
		disk_sync(&rec->sync);
	} else if (fd >= 0) {
		close(fd);
	}
	return error;
}

int spool_attempt(struct spool *sp, struct envelope *env, const size_t *rcpts, size_t count,
                  enum rcpt_state state, const struct status *what, const char *remote,
                  bool durable, struct status *st)
{
	struct timespec ts;
	struct buf line;
	int64_t now = spool_now(&ts);
	/* Without memory for its text a verdict is still noted, here and in the file. */
	for (size_t i = 0; i < count; i++)
		(void)envelope_set_verdict(&env->rcpt[rcpts[i]], state, what, remote);
	if (now != env->last_attempt)
		env->attempts++;
	env->last_attempt = now;
	buf_init(&line, 16 * SPOOL_RCPTS_MAX + 8192);
	spool_format_attempt(&line, rcpts, count, state, what, remote, now);
	int error = line.failed ? ENOMEM : journal_attempt(sp, env->id, &line, durable);
	if (error < 0)
		error = spool_record_attempt(sp, env->id, &line, durable);
	buf_clear(&line);
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
	if (!journal_remove(sp, id) && unlinkat(sp->dir_fd, spool_file_name(id).s, 0) &&
	    errno != ENOENT) {
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

/* The directory for damaged files, with place for one more. -1 when there is none. */
static int spool_open_damaged(struct spool *sp)
{
	spool_prune_damaged(sp);
	if (sp->damaged_fd < 0) {
		if (mkdirat(sp->dir_fd, "damaged", 0700) && errno != EEXIST)
			log_error("-", "no directory for damaged files",
			          LOG_S("error", strerror(errno)));
		sp->damaged_fd =
		    openat(sp->dir_fd, "damaged", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	return sp->damaged_fd;
}

void spool_set_aside(struct spool *sp, const char *id, const char *why)
{
	struct spool_name name = spool_file_name(id);
	log_error(id, "spool damaged", LOG_S("reason", why), LOG_S("moved", "queue/damaged"));
	stat_add(&stat_damaged, 1);
	journal_push_out(sp, id);
	int fd = spool_open_damaged(sp);
	if (fd < 0 || renameat(sp->dir_fd, name.s, fd, name.s))
		log_error(id, "damaged file stays", LOG_S("error", strerror(errno)));
}

void spool_keep_damaged(struct spool *sp, const char *name, const char *p, size_t n,
                        const char *why)
{
	log_error("-", "journal damaged", LOG_S("reason", why), LOG_S("kept", name));
	stat_add(&stat_damaged, 1);
	int dir_fd = spool_open_damaged(sp);
	int fd = dir_fd < 0 ? -1
	                    : openat(dir_fd, name,
	                             O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || disk_write(fd, p, n))
		log_error("-", "damaged record lost", LOG_S("error", strerror(errno)));
	if (fd >= 0)
		close(fd);
}
