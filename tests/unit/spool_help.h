/* spool_help: a spool in a temporary directory, messages put in and taken out. For tests. */
#ifndef SPOOL_HELP_H
#define SPOOL_HELP_H

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "disk.h"
#include "log.h"
#include "loop.h"
#include "self.h"
#include "spool.h"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];
static struct spool *sp;
static struct status st;

static inline void spool_reopen(void)
{
	if (sp)
		spool_close(sp);
	sp = spool_open(dir, &st);
	assert_non_null(sp);
}

/* Every message a file at once: a journal's name that is taken leaves no journal. */
static inline void without_journal(void)
{
	char path[128];
	snprintf(path, sizeof path, "%s/queue/.journal.0", dir);
	unlink(path); /* not there in a build without */
	assert_int_equal(mkdir(path, 0700), 0);
}

static inline int setup_journal(void **state)
{
	(void)state;
	if (temp_dir_make(dir, sizeof dir) || loop_init())
		return -1;
	log_to(-1);
	disk_init();
	spool_reopen();
	return 0;
}

static inline int setup(void **state)
{
	int rc = setup_journal(state);
	if (!rc) {
		spool_close(sp);
		sp = NULL;
		without_journal();
		spool_reopen();
	}
	return rc;
}

static inline int teardown(void **state)
{
	(void)state;
	spool_close(sp);
	sp = NULL;
	loop_done();
	return temp_dir_remove();
}

/* ---- files ---- */

static inline const char *path_of(const char *id)
{
	static char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/queue/m:%.*s", dir, NAME_MAX, id);
	return path;
}

/* Content of a file, NUL behind it; the caller frees. */
static inline char *slurp(const char *path, size_t *n)
{
	struct stat s;
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &s), 0);
	char *p = malloc((size_t)s.st_size + 1);
	assert_non_null(p);
	*n = (size_t)s.st_size;
	assert_int_equal(read(fd, p, *n), *n);
	p[*n] = '\0';
	close(fd);
	return p;
}

static inline void put_file(const char *path, const char *p, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(disk_write(fd, p, n), 0);
	close(fd);
}

static inline bool exists(const char *id)
{
	return access(path_of(id), F_OK) == 0;
}

static inline size_t count_entries(const char *below)
{
	char path[128];
	size_t n = 0;
	snprintf(path, sizeof path, "%s/%s", dir, below);
	DIR *d = opendir(path);
	for (const struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

/* ---- writing ---- */

struct outcome {
	int done;
	struct status st;
	char id[SPOOL_ID_MAX + 1];
};

static inline void on_done(void *arg, const char *id, const struct status *what)
{
	struct outcome *o = arg;
	o->done++;
	o->st = *what;
	snprintf(o->id, sizeof o->id, "%s", id);
}

static inline void turns_until(const struct outcome *o)
{
	for (int i = 0; i < 1000 && !o->done; i++)
		assert_int_equal(loop_turn(10), 0);
	assert_int_equal(o->done, 1);
}

/* An envelope with one recipient. */
static inline void simple_envelope(struct envelope *env)
{
	*env = (struct envelope){.from = NULL};
	assert_int_equal(envelope_set_from(env, "from@a.example"), 0);
	assert_int_equal(envelope_add_to(env, "to@b.example"), 0);
	assert_int_equal(envelope_add_rcpt(env, RCPT_EMAIL, "rcpt@b.example", "to@b.example", NULL),
	                 0);
}

static inline struct outcome commit(struct spool_writer *w)
{
	struct outcome o = {.done = 0};
	spool_commit(w, on_done, &o);
	assert_int_equal(o.done, 0); /* from the loop only */
	turns_until(&o);
	return o;
}

/* Stores a message; env gets its id. piece 0: pieces of random sizes. */
static inline void store(struct envelope *env, const char *p, size_t n, size_t piece,
                         const char *prepend)
{
	struct spool_writer *w = spool_begin(sp, env, &st);
	assert_non_null(w);
	for (size_t at = 0; at < n;) {
		size_t size = piece ? piece : (size_t)rand() % 3000 + 1;
		if (size > n - at)
			size = n - at;
		spool_append(w, p + at, size);
		at += size;
	}
	if (prepend)
		spool_prepend(w, prepend, strlen(prepend));
	if (env->header_8bit)
		spool_note_8bit_header(w);
	struct outcome o = commit(w);
	assert_int_equal(o.st.code, 250);
	assert_string_equal(o.id, env->id);
}

static inline void store_text(struct envelope *env, const char *content)
{
	simple_envelope(env);
	store(env, content, strlen(content), 0, NULL);
}

/* ---- reading ---- */

/* Reads all. Returns 0 with the content (the caller frees), or -1 with *st. piece 0: random. */
static inline int read_all(const char *id, size_t piece, char **content, size_t *n)
{
	static char p[70000];
	struct spool_reader *r = spool_read_open(sp, id, &st);
	ssize_t got = -1;
	size_t room = 0;
	*content = NULL;
	*n = 0;
	if (!r)
		return -1;
	while (true) {
		size_t size = piece ? piece : (size_t)rand() % 3000 + 1;
		got = spool_read(r, p, size, &st);
		assert_true(got <= (ssize_t)size);
		if (got <= 0)
			break;
		if (*n + (size_t)got > room) {
			room = 2 * (*n + (size_t)got);
			*content = realloc(*content, room);
			assert_non_null(*content);
		}
		memcpy(*content + *n, p, (size_t)got);
		*n += (size_t)got;
	}
	/* It stays as it is: an end does not follow a failure. */
	assert_int_equal(spool_read(r, p, 100, &st), got);
	spool_read_close(r);
	return got == 0 ? 0 : -1;
}

static inline void expect_content(const char *id, size_t piece, const char *want, size_t want_n)
{
	char *got;
	size_t n;
	assert_int_equal(read_all(id, piece, &got, &n), 0);
	assert_int_equal(n, want_n);
	if (n)
		assert_memory_equal(got, want, n);
	free(got);
}

/* ---- scanning ---- */

struct scanned {
	size_t count;
	char id[300][SPOOL_ID_MAX + 1];
	int64_t created[300];
	int64_t last_attempt[300];
};

static inline void on_found(void *arg, const struct spool_found *f)
{
	struct scanned *s = arg;
	assert_true(s->count < 300);
	snprintf(s->id[s->count], sizeof s->id[0], "%s", f->id);
	s->created[s->count] = f->created;
	s->last_attempt[s->count++] = f->last_attempt;
}

/* Opens the spool anew and scans all of it. */
static inline const struct scanned *rescan(void)
{
	static struct scanned s;
	int more;
	s.count = 0;
	spool_reopen();
	while ((more = spool_scan(sp, on_found, &s, &st)) > 0) {
	}
	assert_int_equal(more, 0);
	return &s;
}

#endif
