/*
 * hold: what the operator holds back: message IDs and domains, a sorted list of names.
 *
 * DATA_DIR/held (docs/held.proto) is replaced as a whole, durably, before a change counts: what was
 * answered to the operator is true after a crash too. A file that does not read as a list of names
 * is moved aside, so that it neither stops the mail nor is lost to who wants to look at it.
 *
 * At most HOLD_MAX names: a list that people keep by hand.
 */
#define LOG_KIND LOG_QUEUE

#include "hold.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "addr.h"
#include "disk.h"
#include "log.h"
#include "textfield.h"

#define HOLD_FILE     "held"
#define HOLD_DAMAGED  "held.damaged"
#define HOLD_FILE_MAX (HOLD_MAX * (TEXT_LITERAL_SIZE(ADDR_DOMAIN_MAX) + sizeof "held: \n"))

struct hold {
	int dir_fd;
	char *name[HOLD_MAX]; /* sorted */
	size_t count;
};

/* ---- the list ---- */

/* Where a name is or belongs. */
static size_t hold_place(const struct hold *h, const char *what, bool *found)
{
	size_t low = 0;
	size_t high = h->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (strcmp(h->name[middle], what) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*found = low < h->count && strcmp(h->name[low], what) == 0;
	return low;
}

static void hold_insert(struct hold *h, size_t at, char *name)
{
	memmove(&h->name[at + 1], &h->name[at], (h->count - at) * sizeof h->name[0]);
	h->name[at] = name;
	h->count++;
}

static char *hold_take(struct hold *h, size_t at)
{
	char *name = h->name[at];
	h->count--;
	memmove(&h->name[at], &h->name[at + 1], (h->count - at) * sizeof h->name[0]);
	return name;
}

static void hold_forget_all(struct hold *h)
{
	while (h->count > 0)
		free(hold_take(h, h->count - 1));
}

/* A name that can be an ID or a domain: one word. */
static bool hold_is_name(const char *s)
{
	size_t n = strlen(s);
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f)
			return false;
	return n > 0 && n <= ADDR_DOMAIN_MAX && text_is_utf8(s, n);
}

/* ---- the file ---- */

struct hold_text {
	struct text_strings held;
	int given[1];
};

static const struct text_field hold_fields[] = {{.name = "held",
                                                 .number = 1,
                                                 .type = TEXT_STRING,
                                                 .repeated = true,
                                                 .offset = offsetof(struct hold_text, held),
                                                 .max = ADDR_DOMAIN_MAX,
                                                 .limit = HOLD_MAX}};
static const struct text_message hold_table = TEXT_TABLE(hold_fields, struct hold_text);

static void hold_trouble(struct status *st, int error)
{
	status_set(st, 451, "4.3.0", HOLD_FILE ": %s", strerror(error));
}

static int hold_write(const struct hold *h)
{
	struct text_writer w;
	struct buf b;
	buf_init(&b, HOLD_FILE_MAX);
	text_writer_init(&w, &b);
	for (size_t i = 0; i < h->count; i++)
		text_put_string(&w, "held", h->name[i]);
	int rc = b.failed ? (errno = ENOMEM, -1)
	                  : disk_replace(h->dir_fd, HOLD_FILE, buf_data(&b), b.len, 0600);
	int saved = errno;
	buf_clear(&b);
	errno = saved;
	return rc;
}

/* Moves the names that were read into the list. Returns false when one is no name. */
static bool hold_accept(struct hold *h, struct hold_text *text)
{
	for (size_t i = 0; i < text->held.count; i++) {
		bool found;
		char *name = text->held.item[i];
		if (!hold_is_name(name))
			return false;
		size_t at = hold_place(h, name, &found);
		if (found)
			continue;
		hold_insert(h, at, name);
		text->held.item[i] = NULL;
	}
	return true;
}

/* Reads the open file. Returns 0; 1 when it is damaged, with the reason in why; -1 with errno. */
static int hold_read(struct hold *h, int fd, char *why, size_t why_size)
{
	struct hold_text text;
	struct stat s;
	if (fstat(fd, &s))
		return -1;
	if (!S_ISREG(s.st_mode) || s.st_size > (off_t)HOLD_FILE_MAX) {
		snprintf(why, why_size, "it is no file of that kind");
		return 1;
	}
	struct text_reader *r = malloc(sizeof *r);
	if (!r)
		return -1;
	text_init(&hold_table, &text);
	text_open_fd(r, HOLD_FILE, &fd);
	errno = 0;
	int rc = text_read(r, &hold_table, &text);
	int error = r->fault == TEXT_MEMORY ? ENOMEM : errno;
	if (rc) {
		snprintf(why, why_size, "%s", r->error);
		rc = r->fault == TEXT_MEMORY || r->fault == TEXT_IO ? -1 : 1;
	} else if (!hold_accept(h, &text)) {
		snprintf(why, why_size, "what is held is no name");
		rc = 1;
	}
	text_clear(&hold_table, &text);
	free(r);
	errno = error;
	return rc;
}

static int hold_load(struct hold *h)
{
	char why[TEXT_ERROR_MAX] = "it is no regular file";
	int fd = openat(h->dir_fd, HOLD_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	/* What open says of a link and of a socket. */
	bool strange = fd < 0 && (errno == ELOOP || errno == ENXIO);
	if (fd < 0 && !strange)
		return errno == ENOENT ? 0 : -1;
	int rc = strange ? 1 : hold_read(h, fd, why, sizeof why);
	int saved = errno;
	if (fd >= 0)
		close(fd);
	errno = saved;
	if (rc <= 0)
		return rc;
	hold_forget_all(h);
	log_error("-", "held damaged: nothing is held", LOG_S("reason", why),
	          LOG_S("moved", HOLD_DAMAGED));
	if (renameat(h->dir_fd, HOLD_FILE, h->dir_fd, HOLD_DAMAGED))
		log_error("-", "damaged file stays", LOG_S("file", HOLD_FILE),
		          LOG_S("error", strerror(errno)));
	return 0;
}

struct hold *hold_open(const char *data_dir, struct status *st)
{
	struct hold *h = calloc(1, sizeof *h);
	if (!h) {
		hold_trouble(st, ENOMEM);
		return NULL;
	}
	h->dir_fd = disk_open_dir(data_dir);
	if (h->dir_fd < 0 || hold_load(h)) {
		hold_trouble(st, errno);
		hold_close(h);
		return NULL;
	}
	return h;
}

void hold_close(struct hold *h)
{
	if (!h)
		return;
	hold_forget_all(h);
	if (h->dir_fd >= 0)
		close(h->dir_fd);
	free(h);
}

/* ---- changes ---- */

int hold_add(struct hold *h, const char *what, struct status *st)
{
	bool found;
	size_t at = hold_place(h, what, &found);
	if (found)
		return 0;
	if (!hold_is_name(what)) {
		status_set(st, 501, "5.5.4", "neither a message nor a domain");
		return -1;
	}
	if (h->count == HOLD_MAX) {
		status_set(st, 452, "4.3.1", "%d messages and domains are held already", HOLD_MAX);
		return -1;
	}
	char *name = strdup(what);
	if (!name) {
		hold_trouble(st, ENOMEM);
		return -1;
	}
	hold_insert(h, at, name);
	if (hold_write(h) == 0)
		return 0;
	hold_trouble(st, errno);
	free(hold_take(h, at));
	return -1;
}

int hold_remove(struct hold *h, const char *what, struct status *st)
{
	bool found;
	size_t at = hold_place(h, what, &found);
	if (!found) {
		status_set(st, 550, "5.3.0", "it is not held");
		return -1;
	}
	char *name = hold_take(h, at);
	if (hold_write(h) == 0) {
		free(name);
		return 0;
	}
	hold_trouble(st, errno);
	hold_insert(h, at, name);
	return -1;
}

bool hold_has(const struct hold *h, const char *what)
{
	bool found;
	hold_place(h, what, &found);
	return found;
}

const char *hold_nth(const struct hold *h, size_t n)
{
	return n < h->count ? h->name[n] : NULL;
}
