/*
 * Fuzz target of the spool.
 *
 * Input that begins with '!' is a list of changes to a good file: bits to flip, then perhaps a
 * length to cut it to. Whatever becomes of it, it never yields another envelope or other content.
 * No more than three bits: that many a CRC-32 always finds in a file of this size. Other input is a
 * file by itself: scanned, loaded and read, twice, with an attempt recorded in between. The clock
 * and the source of chance are replaced, so that the good file is always the same.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"
#include "fuzz_dir.h"
#include "log.h"
#include "loop.h"
#include "spool.h"
#include "spool_history.h"

#define FLIPS_MAX 3

static struct envelope good_env;
static char good[4000];
static size_t good_n;
static size_t good_committed;
static bool
    fixed; /* clock and chance are: for the good file only, for the fuzzer has a clock too */
static const char content[] = "Subject: \xc3\xa9 \"q\"\r\n\r\nLine\r\n.\r\n\x01\xff\r\nno end";

/* Where time_t has outgrown long, musl has the call under another name only. */
#if !defined(SYS_clock_gettime)
#define SYS_clock_gettime SYS_clock_gettime64
#endif

int clock_gettime(clockid_t which, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, which, ts);
	if (fixed && which == CLOCK_REALTIME)
		*ts = (struct timespec){.tv_sec = 1750000000, .tv_nsec = 123456789};
	return rc;
}

ssize_t getrandom(void *p, size_t n, unsigned flags)
{
	if (!fixed)
		return syscall(SYS_getrandom, p, n, flags);
	memset(p, 7, n);
	return (ssize_t)n;
}

static const char *name_of(const char *id)
{
	static char name[SPOOL_ID_MAX + 16];
	snprintf(name, sizeof name, "queue/m:%s", id);
	return name;
}

static size_t file_size(const char *id)
{
	struct stat s;
	CHECK(stat(fuzz_dir_path(name_of(id)), &s) == 0);
	return (size_t)s.st_size;
}

static void on_done(void *arg, const char *id, const struct status *st)
{
	CHECK(st->code == 250 && strcmp(id, good_env.id) == 0);
	*(bool *)arg = true;
}

static void on_found(void *arg, const struct spool_found *f)
{
	(void)f;
	++*(int *)arg;
}

static int scan(struct spool *sp)
{
	struct status st;
	int found = 0;
	int more;
	while ((more = spool_scan(sp, on_found, &found, &st)) > 0) {
	}
	CHECK(more == 0);
	return found;
}

static void attempt(struct spool *sp, struct envelope *env)
{
	struct status st;
	size_t r = 0;
	status_set(&st, 250, "2.0.0", "ok");
	CHECK(!spool_attempt(sp, env, &r, 1, RCPT_SENT, &st, "mx", false, &st));
}

/* Makes the directory and the good file, once. */
static void prepare(void)
{
	struct status st;
	bool done = false;
	if (good_n)
		return;
	fuzz_dir_make();
	/* Every message a file at once: a journal's name that is taken leaves no journal. */
	CHECK(!loop_init() && !mkdir(fuzz_dir_path("queue"), 0700) &&
	      !mkdir(fuzz_dir_path("queue/.journal.0"), 0700));
	log_to(-1);
	disk_init();
	fixed = true;
	struct spool *sp = spool_open(fuzz_dir, &st);
	CHECK(sp && !envelope_set_from(&good_env, "<>") && !envelope_add_to(&good_env, "t@x") &&
	      !envelope_add_rcpt(&good_env, RCPT_EMAIL, "a@x", "t@x", NULL) &&
	      !envelope_add_rcpt(&good_env, RCPT_FORWARD, "b@x", "t@x", "m1/m2"));
	struct spool_writer *w = spool_begin(sp, &good_env, &st);
	CHECK(w != NULL);
	spool_append(w, content, sizeof content - 1);
	spool_prepend(w, "A: b\r\n", 6);
	spool_commit(w, on_done, &done);
	while (!done)
		CHECK(!loop_turn(10));
	good_committed = file_size(good_env.id);
	attempt(sp, &good_env);
	fixed = false;
	good_n = file_size(good_env.id);
	int fd = open(fuzz_dir_path(name_of(good_env.id)), O_RDONLY);
	CHECK(fd >= 0 && good_n <= sizeof good && read(fd, good, good_n) == (ssize_t)good_n);
	close(fd);
	spool_close(sp);
}

/* Reads all into p. Returns the length, or -1. */
static ssize_t read_all(struct spool *sp, const char *id, char *p, size_t size)
{
	struct status st;
	struct spool_reader *r = spool_read_open(sp, id, &st);
	ssize_t got = -1;
	size_t n = 0;
	if (!r)
		return -1;
	do {
		size_t piece = 1 + n % 100;
		got = spool_read(r, p + n, piece < size - n ? piece : size - n, &st);
		CHECK(got <= (ssize_t)piece);
		n += got > 0 ? (size_t)got : 0;
	} while (got > 0 && n < size);
	spool_read_close(r);
	return got < 0 ? -1 : (ssize_t)n;
}

static void check_envelope(const struct envelope *e)
{
	CHECK(e->created == good_env.created && strcmp(e->from, "<>") == 0 && e->to_count == 1 &&
	      strcmp(e->to[0], "t@x") == 0 && e->rcpt_count == 2 && e->size == sizeof content + 5);
	CHECK(strcmp(e->rcpt[0].address, "a@x") == 0 && e->rcpt[0].state != RCPT_FAILED &&
	      !e->rcpt[0].via);
	CHECK(strcmp(e->rcpt[1].address, "b@x") == 0 && e->rcpt[1].state == RCPT_PENDING &&
	      strcmp(e->rcpt[1].via, "m1/m2") == 0 && e->rcpt[1].type == RCPT_FORWARD);
}

static void try_changes(const uint8_t *data, size_t size)
{
	char file[sizeof good];
	char got[sizeof good];
	struct status st;
	struct envelope env;
	size_t n = good_n;
	size_t i = 0;
	memcpy(file, good, good_n);
	for (; i / 2 < FLIPS_MAX && i + 1 < size; i += 2) {
		size_t bit = (data[i] | (size_t)data[i + 1] << 8) % (8 * good_n);
		file[bit / 8] ^= (char)(1U << bit % 8);
	}
	if (i + 1 < size)
		n = (data[i] | (size_t)data[i + 1] << 8) % (good_n + 1);
	fuzz_dir_put(name_of(good_env.id), file, n);
	struct spool *sp = spool_open(fuzz_dir, &st);
	CHECK(sp != NULL);
	int found = scan(sp);
	CHECK(found == 0 || n >= good_committed);
	if (found && !spool_load(sp, good_env.id, &env, &st)) {
		check_envelope(&env);
		envelope_clear(&env);
	}
	fuzz_dir_put(name_of(good_env.id), file, n);
	ssize_t len = read_all(sp, good_env.id, got, sizeof got);
	CHECK(len < 0 || ((size_t)len == sizeof content + 5 && memcmp(got, "A: b\r\n", 6) == 0 &&
	                  memcmp(got + 6, content, sizeof content - 1) == 0));
	spool_close(sp);
	unlink(fuzz_dir_path(name_of(good_env.id)));
}

static void on_attempt(void *arg, const struct spool_attempt_seen *a)
{
	const struct envelope *env = arg;
	CHECK(a->count > 0 && a->remote);
	for (size_t i = 0; i < a->count; i++)
		CHECK(a->rcpts[i] < env->rcpt_count);
	CHECK(strlen(a->status.text) < sizeof a->status.text);
}

static void try_file(const uint8_t *data, size_t size)
{
	static const char id[] = "fuzz";
	static char first[1 << 17];
	static char second[sizeof first];
	struct status st;
	struct envelope env;
	fuzz_dir_put(name_of(id), data, size);
	struct spool *sp = spool_open(fuzz_dir, &st);
	CHECK(sp != NULL);
	int found = scan(sp);
	bool loaded = found && !spool_load(sp, id, &env, &st);
	ssize_t n = read_all(sp, id, first, sizeof first);
	if (loaded) {
		spool_attempts(sp, &env, on_attempt, &env, &st);
		if (n >= 0) {
			attempt(sp, &env);
			envelope_clear(&env);
			CHECK(!spool_load(sp, id, &env, &st) && env.rcpt[0].state == RCPT_SENT);
			CHECK(read_all(sp, id, second, sizeof second) == n &&
			      memcmp(first, second, (size_t)n) == 0);
		}
		envelope_clear(&env);
	}
	spool_close(sp);
	unlink(fuzz_dir_path(name_of(id)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	prepare();
	if (size > 0 && data[0] == '!')
		try_changes(data + 1, size - 1);
	else
		try_file(data, size < 65536 ? size : 65536);
	return 0;
}
