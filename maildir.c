/*
 * maildir: the courier that writes into a Maildir.
 *
 * A message is written in tmp in steps, one a turn; flushed through the barrier; renamed into new;
 * the directory new flushed through the barrier; and only then reported as delivered. A power cut
 * before the first flush leaves rubbish in tmp, where no reader looks; between the two a whole
 * message in new, or none. One flush for both would be less: then the name may reach the disk
 * before the content, and a reader gets half a message. In no case is anything lost, as the queue
 * keeps the message until the verdict.
 *
 * The tree may belong to others: tmp and new are opened once, never by a link, and everything in
 * them is named relative to these descriptors; the Maildir itself may be a link of root's or of our
 * own user's. The directories above are the operator's. Trouble with the disk or with permissions
 * is the operator's to repair: it is logged with the path, and mail waits.
 *
 * Deliveries to one mailbox at the same time share its descriptors, and so the flush of its
 * directory; but none joins after MAILDIR_SHARE_MS, as the mailbox may have been moved away.
 */
#define LOG_KIND LOG_DELIVERY

#include "courier.h"

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

#include "addr.h"
#include "config.h"
#include "disk.h"
#include "local.h"
#include "log.h"
#include "loop.h"
#include "sandbox.h"
#include "stat.h"

#define MAILDIR_HOST_MAX 64
#define MAILDIR_NAME_MAX (MAILDIR_HOST_MAX + 128)

STAT_COUNTER(stat_delivered, "courier/maildir{result=delivered}", "Deliveries to a Maildir");
STAT_COUNTER(stat_failed, "courier/maildir{result=failed}", "Deliveries to a Maildir");

/* A Maildir that is open. */
struct maildir_box {
	struct maildir_box *next;
	unsigned users;
	int64_t opened; /* loop_now() */
	int tmp_fd;
	int new_fd;
	char path[];
};

struct maildir_job {
	struct delivery *d;
	const struct conf *conf;
	char *path;
	struct maildir_box *box; /* NULL: not open yet */
	int fd;                  /* the file in tmp while it is written */
	int where_fd;            /* tmp_fd or new_fd: where the file is; -1 while there is none */
	struct loop_timer timer;
	struct disk_sync sync;
	struct local_copy copy;
	char name[MAILDIR_NAME_MAX];
	struct status st; /* the verdict; code 0 while the work goes on */
};

static unsigned long maildir_count;
static struct maildir_box *maildir_boxes;

/* ---- ends --------------------------------------------------------------------------------- */

static void maildir_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* One user less. NULL is harmless. */
static void maildir_box_leave(struct maildir_box *b)
{
	struct maildir_box **p = &maildir_boxes;
	if (!b || --b->users > 0)
		return;
	while (*p != b)
		p = &(*p)->next;
	*p = b->next;
	maildir_close_fd(&b->tmp_fd);
	maildir_close_fd(&b->new_fd);
	free(b);
}

/* Frees everything; a file that was not reported as delivered goes away. */
static void maildir_free(struct maildir_job *j)
{
	loop_timer_stop(&j->timer);
	disk_sync_cancel(&j->sync);
	local_copy_stop(&j->copy);
	maildir_close_fd(&j->fd);
	if (j->where_fd >= 0 && status_class(&j->st) != STATUS_DONE)
		unlinkat(j->where_fd, j->name, 0);
	maildir_box_leave(j->box);
	free(j->path);
	free(j);
}

static void maildir_finish(struct maildir_job *j)
{
	struct delivery *d = j->d;
	struct status st = j->st;
	maildir_free(j);
	d->state = NULL;
	stat_add(status_class(&st) == STATUS_DONE ? &stat_delivered : &stat_failed, 1);
	d->verdict(d, d->rcpts[0], &st, "");
	d->done(d);
}

/* Ends with the status for an errno. The path is for the log only. */
static void maildir_fail(struct maildir_job *j, const char *what, int error)
{
	log_error(j->d->env->id, "maildir", LOG_S("to", local_recipient(j->d)),
	          LOG_S("failed", what), LOG_S("path", j->path),
	          LOG_S("error", sandbox_reason(error, j->path, SANDBOX_WRITE)));
	if (error == EDQUOT)
		status_set(&j->st, 452, "4.2.2", "the mailbox is full");
	else if (error == ENOSPC)
		status_set(&j->st, 452, "4.3.1", "no space left for the mailbox");
	else
		status_set(&j->st, 451, "4.3.0", "the mailbox cannot be written now");
	maildir_finish(j);
}

/* ---- directories and names ---------------------------------------------------------------- */

/* Makes the entries of all directories above path durable. One that we may not read was not made
 * by us. Returns 0, or -1 with errno. */
static int maildir_sync_above(const char *path)
{
	char part[PATH_MAX];
	size_t n = strlen(path);
	int rc = 0;
	if (n >= sizeof part) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(part, path, n + 1);
	while (n > 0 && rc == 0) {
		while (n > 0 && part[n - 1] != '/')
			n--;
		while (n > 1 && part[n - 1] == '/')
			n--;
		part[n] = '\0';
		int fd = disk_open_dir(n ? part : ".");
		if (fd >= 0) {
			rc = fsync(fd);
			int saved = errno;
			if (rc && saved == EINVAL)
				rc = 0; /* a file system that has no such thing */
			close(fd);
			errno = saved;
		}
		if (n == 1 && *part == '/')
			break;
	}
	return rc;
}

/* Opens what path names. As a link it has to be root's or our own: another user's, in a directory
 * that he may write to, could lead to anything we may write to. */
static int maildir_open_path(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	/* Which of them a link is depends on the system. */
	if (fd >= 0 || (errno != ELOOP && errno != ENOTDIR) || lstat(path, &st))
		return fd;
	if (S_ISLNK(st.st_mode) && (st.st_uid == 0 || st.st_uid == geteuid()))
		return disk_open_dir(path);
	errno = S_ISLNK(st.st_mode) ? ELOOP : ENOTDIR;
	return -1;
}

/* Opens the Maildir itself, made when missing. Blocks for the disk once in a mailbox's life.
 * Returns the descriptor, or -1 with errno. */
static int maildir_open_base(const char *path)
{
	int fd = maildir_open_path(path);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (disk_make_dirs(path, 0700))
		return -1;
	if (maildir_sync_above(path)) {
		int saved = errno;
		rmdir(path); /* found there the next time, it would pass for durable */
		errno = saved;
		return -1;
	}
	return maildir_open_path(path);
}

/* Opens one of its directories, made when missing: *made is then set. */
static int maildir_open_sub(int base, const char *name, bool *made)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(base, name, flags);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (mkdirat(base, name, 0700) && errno != EEXIST)
		return -1;
	*made = true;
	return openat(base, name, flags);
}

/* Takes away what holds nothing yet and could not be made durable: found there the next time, it
 * would pass for durable. */
static void maildir_unmake(int base)
{
	static const char *const names[] = {"tmp", "new", "cur"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		unlinkat(base, names[i], AT_REMOVEDIR);
}

/* Opens tmp and new and makes cur. Returns 0, or -1 with errno. */
static int maildir_open_dirs(struct maildir_box *b)
{
	bool made = false;
	int base = maildir_open_base(b->path);
	if (base < 0)
		return -1;
	b->tmp_fd = maildir_open_sub(base, "tmp", &made);
	if (b->tmp_fd >= 0)
		b->new_fd = maildir_open_sub(base, "new", &made);
	int rc = b->new_fd >= 0 ? 0 : -1;
	if (rc == 0 && mkdirat(base, "cur", 0700) == 0)
		made = true;
	else if (rc == 0 && errno != EEXIST)
		rc = -1;
	if (rc == 0 && made)
		rc = fsync(base);
	int saved = errno;
	if (rc && made)
		maildir_unmake(base);
	close(base);
	errno = saved;
	return rc;
}

/* Opens the Maildir of the job, or joins who has it open. Returns 0, or -1 with errno. */
static int maildir_open(struct maildir_job *j)
{
	size_t n = strlen(j->path) + 1;
	for (struct maildir_box *b = maildir_boxes; b; b = b->next) {
		if (strcmp(b->path, j->path) != 0 || loop_now() - b->opened >= MAILDIR_SHARE_MS)
			continue;
		b->users++;
		j->box = b;
		return 0;
	}
	struct maildir_box *b = malloc(sizeof *b + n);
	if (!b)
		return -1;
	*b = (struct maildir_box){
	    .next = maildir_boxes, .users = 1, .opened = loop_now(), .tmp_fd = -1, .new_fd = -1};
	memcpy(b->path, j->path, n);
	maildir_boxes = b;
	if (maildir_open_dirs(b)) {
		int saved = errno;
		maildir_box_leave(b);
		errno = saved;
		return -1;
	}
	j->box = b;
	return 0;
}

/* What tells names apart of processes that have the same number. A machine that just came up may
 * have no randomness yet: the rest of the name must do until there is some. */
static uint64_t maildir_random(void)
{
	static uint64_t random;
	static bool drawn;
	uint64_t value;
	if (drawn)
		return random;
	if (getrandom(&value, sizeof value, GRND_NONBLOCK) != (ssize_t)sizeof value)
		return (uint64_t)loop_now_us();
	random = value;
	drawn = true;
	return random;
}

/* The name of a message: unique among all that any delivery on any machine makes. */
static void maildir_make_name(struct maildir_job *j)
{
	char host[MAILDIR_HOST_MAX + 1];
	size_t n = 0;
	struct timespec now;
	for (const char *p = j->conf->hostname; *p && n + 4 <= MAILDIR_HOST_MAX; p++) {
		if (*p == '/' || *p == ':') {
			memcpy(host + n, *p == '/' ? "\\057" : "\\072", 4);
			n += 4;
		} else {
			host[n++] = *p;
		}
	}
	host[n] = '\0';
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(j->name, sizeof j->name, "%lld.M%06ldP%ldQ%luR%016llx.%s", (long long)now.tv_sec,
	         now.tv_nsec / 1000, (long)getpid(), ++maildir_count,
	         (unsigned long long)maildir_random(), host);
}

/* Makes the file in tmp. Returns 0, or -1 with errno. */
static int maildir_create(struct maildir_job *j)
{
	for (int tries = 0; tries < 3; tries++) {
		maildir_make_name(j);
		j->fd = openat(j->box->tmp_fd, j->name,
		               O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (j->fd >= 0) {
			j->where_fd = j->box->tmp_fd;
			return 0;
		}
		if (errno != EEXIST)
			break;
	}
	return -1;
}

/* ---- the delivery ------------------------------------------------------------------------- */

/* new is flushed. */
static void maildir_durable(void *arg, int error)
{
	struct maildir_job *j = arg;
	if (error) {
		maildir_fail(j, "flush of the directory", error);
		return;
	}
	status_set(&j->st, 250, "2.0.0", "delivered to the mailbox");
	maildir_finish(j);
}

/* The file is flushed. */
static void maildir_written(void *arg, int error)
{
	struct maildir_job *j = arg;
	if (error) {
		maildir_fail(j, "flush", error);
		return;
	}
	int rc = close(j->fd);
	j->fd = -1;
	if (rc) {
		maildir_fail(j, "close", errno);
		return;
	}
	if (renameat(j->box->tmp_fd, j->name, j->box->new_fd, j->name)) {
		maildir_fail(j, "rename", errno);
		return;
	}
	j->where_fd = j->box->new_fd;
	j->sync = (struct disk_sync){
	    .fd = -1, .dir_fd = j->box->new_fd, .done = maildir_durable, .arg = j};
	disk_sync(&j->sync);
}

static void maildir_copied(void *arg, int error)
{
	struct maildir_job *j = arg;
	if (error == LOCAL_COPY_BROKEN) {
		j->st = j->copy.source.st;
		maildir_finish(j);
		return;
	}
	if (error) {
		maildir_fail(j, "write", error);
		return;
	}
	j->sync = (struct disk_sync){.fd = j->fd, .dir_fd = -1, .done = maildir_written, .arg = j};
	disk_sync(&j->sync);
}

static void maildir_begin(void *arg)
{
	struct maildir_job *j = arg;
	if (j->st.code == 0) {
		if (maildir_open(j)) {
			maildir_fail(j, "open", errno);
			return;
		}
		if (maildir_create(j)) {
			maildir_fail(j, "create", errno);
			return;
		}
		if (!local_copy_start(&j->copy, j->d, j->conf->local_crlf, j->fd, maildir_copied, j,
		                      &j->st))
			return;
	}
	maildir_finish(j);
}

/*
 * Puts the recipient into names as it is, with the local part in its key form: freed of
 * characters, two recipients could share a mailbox. Returns -1 when the parts are no file names.
 */
static int maildir_exact_names(struct local_names *names, const char *from, const char *to)
{
	struct addr a;
	struct local_name *n = &names->to;
	if (local_names_set(names, from, to) || addr_parse(slice_of(to), &a) ||
	    addr_user_key(a.user, n->user, sizeof n->user))
		return -1;
	memcpy(n->domain, a.domain, sizeof n->domain);
	snprintf(n->all, sizeof n->all, "%s@%s", n->user, n->domain);
	return addr_is_file_name(n->user) && addr_is_file_name(n->domain) ? 0 : -1;
}

/* Sets j->path, or a permanent j->st. Returns 0, or -1 when there is no memory. */
static int maildir_find(struct maildir_job *j)
{
	struct local_names names;
	const char *to = local_recipient(j->d);
	if (maildir_exact_names(&names, j->d->from, to)) {
		status_set(&j->st, 550, "5.1.1", "there can be no mailbox of this name");
		log_error(j->d->env->id, "maildir", LOG_S("to", to), LOG_S("failed", j->st.text));
		return 0;
	}
	j->path = local_expand(j->conf->maildir, &names);
	if (!j->path)
		return -1;
	/* With a slash behind it, a link would be followed whoever made it. */
	for (size_t n = strlen(j->path); n > 1 && j->path[n - 1] == '/'; n--)
		j->path[n - 1] = '\0';
	return 0;
}

static int maildir_start(void *self, struct delivery *d, struct status *st)
{
	struct maildir_job *j = calloc(1, sizeof *j);
	status_set(st, 451, "4.3.0", "out of memory");
	if (!j)
		return -1;
	j->d = d;
	j->conf = self;
	j->fd = j->where_fd = -1;
	loop_timer_init(&j->timer, maildir_begin, j);
	if (maildir_find(j)) {
		maildir_free(j);
		return -1;
	}
	d->state = j;
	loop_timer_set(&j->timer, 0);
	return 0;
}

static void maildir_stop(void *self, struct delivery *d)
{
	(void)self;
	if (d->state)
		maildir_free(d->state);
	d->state = NULL;
}

struct courier courier_maildir(const struct conf *conf)
{
	return (struct courier){.name = "maildir",
	                        .start = maildir_start,
	                        .stop = maildir_stop,
	                        .self = (void *)conf,
	                        .parallel = COURIER_MAILDIR_PARALLEL};
}
