/*
 * spool_scan: what start-up finds in the queue's directory.
 *
 * In steps that read a few KB each: a turn takes SPOOL_SCAN_STEP of them, and fewer when the disk
 * is slow, so that neither many files nor a large one keeps a session waiting. Names of ours are
 * gathered, SPOOL_SCAN_SORT at a time, and opened in the order of their inodes: that of a directory
 * is one of chance on many file systems, and would send a disk from end to end for each file.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk.h"
#include "log.h"
#include "loop.h"
#include "spool_journal.h"
#include "spool_read_int.h"

struct spool_scan_name {
	uint64_t inode;
	uint64_t number; /* of the ID */
};

struct spool_scan {
	DIR *dir;
	bool read;    /* to its end */
	int error;    /* of reading it */
	size_t count; /* gathered, */
	size_t next;  /* and to be opened next; 0 while gathering */
	enum { SCAN_MARK, SCAN_FOREIGN, SCAN_ATTEMPTS } stage;
	char id[SPOOL_ID_MAX + 1]; /* "": no file is open */
	struct spool_file file;
	struct envelope env;
	struct spool_parse parse;
	struct spool_scan_name names[SPOOL_SCAN_SORT];
};

struct spool_scan *spool_scan_new(const char *path)
{
	struct spool_scan *s = malloc(sizeof *s);
	/* A stream of its own: fdopendir takes the descriptor. */
	int fd = s ? disk_open_dir(path) : -1;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			close(fd);
		free(s);
		return NULL;
	}
	s->dir = dir;
	s->read = false;
	s->error = 0;
	s->count = s->next = 0;
	s->id[0] = '\0';
	return s;
}

static void spool_scan_close_file(struct spool_scan *s)
{
	spool_file_close(&s->file);
	envelope_clear(&s->env);
	s->id[0] = '\0';
}

void spool_scan_free(struct spool_scan *s)
{
	if (s->id[0])
		spool_scan_close_file(s);
	closedir(s->dir);
	free(s);
}

/* ---- a file ---- */

/* Cuts a torn record off the end of the file. */
static void spool_scan_cut(const struct spool_file *f, const char *id)
{
	log_info(id, "torn record cut off", LOG_N("bytes", f->size - f->good));
	if (ftruncate(f->from.fd, (off_t)f->good))
		log_error(id, "torn record stays", LOG_S("error", strerror(errno)));
}

static enum spool_fault spool_scan_next_stage(struct spool_scan *s)
{
	if (s->stage == SCAN_ATTEMPTS)
		return SPOOL_GOOD;
	if (s->stage == SCAN_MARK && s->file.foreign) {
		s->stage = SCAN_FOREIGN;
		return spool_begin_foreign(&s->file, &s->parse);
	}
	s->stage = SCAN_ATTEMPTS;
	return SPOOL_MORE;
}

static enum spool_fault spool_scan_step(struct spool_scan *s)
{
	enum spool_fault fault = SPOOL_GOOD;
	switch (s->stage) {
	case SCAN_MARK:
		fault = spool_step_mark(&s->file);
		break;
	case SCAN_FOREIGN:
		fault = spool_step_foreign(&s->file, &s->parse);
		break;
	case SCAN_ATTEMPTS:
		fault = spool_step_attempts(&s->file);
		break;
	}
	return fault == SPOOL_GOOD ? spool_scan_next_stage(s) : fault;
}

/* The file is read, or will not be. True: it is a message. */
static bool spool_scan_end(struct spool *sp, enum spool_fault fault, struct spool_found *found)
{
	struct spool_scan *s = sp->scan;
	struct spool_file *f = &s->file;
	struct status st;
	if (fault != SPOOL_GOOD)
		spool_give_up(sp, s->id, fault, f, &st);
	else if (f->good < f->size && f->from.fd >= 0)
		spool_scan_cut(f, s->id);
	if (fault == SPOOL_ERRNO)
		log_error(s->id, "spool file cannot be read", LOG_S("error", st.text));
	found->created = f->text.created.seconds;
	found->last_attempt = s->env.last_attempt;
	/* What cannot be read now may be readable later: it stays in the index. */
	return fault == SPOOL_GOOD || (fault == SPOOL_ERRNO && f->error != ENOENT);
}

/* ---- the journal ---- */

static int spool_compare_ids(const void *a, const void *b)
{
	uint64_t x, y;
	memcpy(&x, a, sizeof x);
	memcpy(&y, b, sizeof y);
	return x < y ? -1 : x > y;
}

/* What was in the journal is reported, and its files are not when the scan comes across them.
 * Returns 0, or -1 without memory. */
static int spool_scan_note_old(struct spool *sp)
{
	size_t n = journal_numbers(sp, NULL, 0);
	if (n == 0)
		return 0;
	uint64_t *old = calloc(n, sizeof *old);
	if (!old)
		return -1;
	journal_numbers(sp, old, n);
	for (size_t i = 0; i < n; i++)
		if (!spool_is_new(sp, old[i]))
			old[sp->old_count++] = old[i];
	qsort(old, sp->old_count, sizeof *old, spool_compare_ids);
	if (sp->old_count > 0 && old[sp->old_count - 1] > sp->last_id)
		sp->last_id = old[sp->old_count - 1];
	sp->old = old;
	return 0;
}

/* One step. As spool_scan; 0 when all of it is known. */
static int spool_scan_journal(struct spool *sp)
{
	if (sp->old_known)
		return 0;
	int rc = journal_replay_go_on(sp);
	if (rc != 0)
		return rc;
	if (spool_scan_note_old(sp))
		return 2;
	if (sp->old_count == 0)
		journal_seen_all(sp);
	sp->old_known = true;
	return 0;
}

/* ---- the directory ---- */

static int spool_scan_compare(const void *a, const void *b)
{
	const struct spool_scan_name *x = a;
	const struct spool_scan_name *y = b;
	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* A name that is not of our form is read at once: its ID in id. */
static void spool_scan_read_name(struct spool *sp, char id[SPOOL_ID_MAX + 1])
{
	struct spool_scan *s = sp->scan;
	errno = 0;
	const struct dirent *e = readdir(s->dir);
	if (!e) {
		s->error = errno;
		s->read = true;
		return;
	}
	const char *name = e->d_name + 2;
	if (strncmp(e->d_name, "m:", 2) != 0 || !*name || strlen(name) > SPOOL_ID_MAX)
		return;
	uint64_t number = spool_id_number(name);
	if (spool_is_new(sp, number) || spool_has_id(sp->old, sp->old_count, number))
		return;
	if (number > sp->highest)
		sp->highest = number;
	if (number)
		s->names[s->count++] = (struct spool_scan_name){(uint64_t)e->d_ino, number};
	else
		memcpy(id, name, strlen(name) + 1);
}

/* Goes on to the next file: its ID in id, "" when it is still to be found. False: there is none. */
static bool spool_scan_next(struct spool *sp, char id[SPOOL_ID_MAX + 1])
{
	struct spool_scan *s = sp->scan;
	id[0] = '\0';
	/* First what was in the journal, be it a file since. */
	if (sp->told < sp->old_count) {
		spool_id_text(sp->old[sp->told++], id);
		journal_look_at(sp, id);
		if (sp->told == sp->old_count)
			journal_seen_all(sp);
		return true;
	}
	if (s->next < s->count && (s->next > 0 || s->read || s->count == SPOOL_SCAN_SORT)) {
		if (s->next == 0)
			qsort(s->names, s->count, sizeof s->names[0], spool_scan_compare);
		spool_id_text(s->names[s->next++].number, id);
		return true;
	}
	if (s->next > 0)
		s->count = s->next = 0;
	if (s->read)
		return false;
	spool_scan_read_name(sp, id);
	return true;
}

static void spool_scan_over(struct spool *sp)
{
	spool_scan_free(sp->scan);
	sp->scan = NULL;
	free(sp->issued);
	free(sp->old);
	sp->issued = sp->old = NULL;
	sp->issued_count = sp->issued_size = sp->old_count = 0;
}

/* One step of all. True: go on. */
static bool spool_scan_one(struct spool *sp, void (*found)(void *arg, const struct spool_found *f),
                           void *arg)
{
	struct spool_scan *s = sp->scan;
	enum spool_fault fault = SPOOL_MORE;
	if (s->id[0]) {
		fault = spool_scan_step(s);
	} else if (!spool_scan_next(sp, s->id)) {
		return false;
	} else if (s->id[0]) {
		s->stage = SCAN_MARK;
		s->env = (struct envelope){.from = NULL};
		fault = spool_file_open(sp, s->id, &s->file, &s->env, O_RDWR);
		if (fault == SPOOL_GOOD)
			fault = SPOOL_MORE;
	}
	if (fault == SPOOL_MORE)
		return true;
	struct spool_found one = {.id = s->id};
	if (spool_scan_end(sp, fault, &one))
		found(arg, &one);
	spool_scan_close_file(s);
	return true;
}

int spool_scan(struct spool *sp, void (*found)(void *arg, const struct spool_found *f), void *arg,
               struct status *st)
{
	int64_t begun = loop_now_us();
	for (int i = 0; sp->scan && i < SPOOL_SCAN_STEP; i++) {
		int rc = spool_scan_journal(sp);
		if (rc > 1)
			return rc;
		if (rc == 0 && !spool_scan_one(sp, found, arg)) {
			int error = sp->scan->error;
			spool_scan_over(sp);
			if (error) {
				spool_trouble(st, "the queue cannot be read", error);
				return -1;
			}
			break;
		}
		loop_refresh();
		if (loop_now_us() - begun >= SPOOL_SCAN_US)
			break;
	}
	return sp->scan ? 1 : 0;
}
