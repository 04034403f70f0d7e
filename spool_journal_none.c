/*
 * spool_journal_none: the journal of a build without one: every message is a file at once.
 *
 * Of a journal that another build has left, no more is read than whether it is empty, as it is
 * after an orderly end. Else this build does not start: the messages in there would be forgotten.
 */
#define LOG_KIND LOG_QUEUE

#include "spool_journal.h"

#include "config.h"

#if !WITH_JOURNAL

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "spool_fresh.h"
#include "spool_int.h"

/* Segments that a build may have made. */
#define JOURNAL_NAMES 64

/* Does it say that it is empty, or nothing at all? What cannot be read may hold anything. */
static bool journal_is_empty(int fd)
{
	char head[256];
	ssize_t n = read(fd, head, sizeof head - 1);
	if (n <= 0)
		return n == 0;
	head[n] = '\0';
	head[strcspn(head, "\n")] = '\0';
	return head[0] == '\0' || strstr(head, " kind: END ") != NULL;
}

int journal_open(struct spool *sp)
{
	for (unsigned i = 0; i < JOURNAL_NAMES; i++) {
		char name[16];
		struct stat s;
		snprintf(name, sizeof name, ".journal.%u", i);
		int fd = openat(sp->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			continue;
		bool ours = fstat(fd, &s) || !S_ISREG(s.st_mode) || journal_is_empty(fd);
		close(fd);
		if (ours)
			continue;
		log_error("-", "messages in a journal, and this build has none",
		          LOG_S("file", name),
		          LOG_S("way", "start and stop a build WITH_JOURNAL=1 once"));
		errno = ENOTSUP;
		return -1;
	}
	return 0;
}

int journal_replay_go_on(struct spool *sp)
{
	(void)sp;
	return 0;
}

void journal_look_at(struct spool *sp, const char *id)
{
	(void)sp, (void)id;
}

void journal_seen_all(struct spool *sp)
{
	(void)sp;
}

void journal_close(struct spool *sp)
{
	(void)sp;
}

bool journal_count(struct spool *sp, const struct buf *text, size_t *counted)
{
	(void)sp, (void)text, (void)counted;
	return false;
}

void journal_uncount(struct spool *sp, size_t counted)
{
	(void)sp, (void)counted;
}

struct spool_entry *journal_commit(struct spool *sp, const char *id, const struct buf *text,
                                   uint32_t crc, void (*done)(void *arg, int error), void *arg)
{
	(void)sp, (void)id, (void)text, (void)crc, (void)done, (void)arg;
	return NULL;
}

void journal_abort(struct spool_entry *e)
{
	(void)e;
}

struct spool_entry *journal_hold(struct spool *sp, const char *id)
{
	(void)sp, (void)id;
	return NULL;
}

void journal_let_go(struct spool_entry *e)
{
	(void)e;
}

size_t journal_size(const struct spool_entry *e)
{
	(void)e;
	return 0;
}

ssize_t journal_read(const struct spool_entry *e, char *p, size_t n, uint64_t at)
{
	(void)e, (void)p, (void)n, (void)at;
	return 0;
}

size_t journal_numbers(const struct spool *sp, uint64_t *numbers, size_t max)
{
	(void)sp, (void)numbers, (void)max;
	return 0;
}

int journal_attempt(struct spool *sp, const char *id, const struct buf *line, bool durable)
{
	(void)sp, (void)id, (void)line, (void)durable;
	return -1;
}

bool journal_remove(struct spool *sp, const char *id)
{
	(void)sp, (void)id;
	return false;
}

bool journal_is_filing(const struct spool *sp, const char *id)
{
	(void)sp, (void)id;
	return false;
}

void journal_distrust(struct spool *sp, const char *id)
{
	(void)sp;
	(void)id;
}

bool spool_fresh_wants(const struct spool *sp, uint64_t n)
{
	(void)sp, (void)n;
	return false;
}

void spool_fresh_put(struct spool_entry *e, struct envelope *env, const struct spool_mark *mark)
{
	(void)e, (void)env, (void)mark;
}

int spool_fresh_take(struct spool *sp, const char *id, struct envelope *env)
{
	(void)sp, (void)id, (void)env;
	return -1;
}

void spool_fresh_return(struct spool *sp, struct envelope *env)
{
	(void)sp, (void)env;
}

const struct spool_mark *spool_fresh_mark(const struct spool *sp, const char *id)
{
	(void)sp, (void)id;
	return NULL;
}

void journal_push_out(struct spool *sp, const char *id)
{
	(void)sp, (void)id;
}

#endif
