/*
 * domaininfo_file: the files of domaininfo, one a domain, in protobuf text format.
 *
 * The name is chasquid's: "s:" and the domain escaped as in a URL's query, so no name can leave the
 * directory. Escaping makes three characters of each octet that is not ASCII; what then is too long
 * for a name is written as A-labels, which always fit. Whatever else lies in the directory is no
 * concern of ours: only names that tell a domain are opened, without following links or waiting for
 * the other end of a FIFO, and only as much of them is read as such a file can have.
 */
#include "domaininfo_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "textfield.h"

#define PREFIX "s:"
/* disk_replace puts ".NAME.new" beside NAME. */
#define REPLACE_MAX (NAME_MAX - 5)
/* Where the content of longer names waits for its name. */
#define LONG_NAME "long"
#define FILE_MODE 0660

/* ---- names ---- */

static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_' || c == '.' || c == '~';
}

/* "s:" and the domain escaped, as long as that is at most max characters. */
static int escape(const char *domain, char out[NAME_MAX + 1], size_t max)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = strlen(PREFIX);
	memcpy(out, PREFIX, n);
	for (const char *p = domain; *p; p++) {
		unsigned char c = (unsigned char)*p;
		if (n + (is_plain(*p) || c == ' ' ? 1 : 3) > max)
			return -1;
		if (is_plain(*p) || c == ' ') {
			out[n++] = c == ' ' ? '+' : *p;
		} else {
			out[n++] = '%';
			out[n++] = hex[c >> 4];
			out[n++] = hex[c & 15];
		}
	}
	out[n] = '\0';
	return n > strlen(PREFIX) ? 0 : -1;
}

int domaininfo_file_name(const char *domain, char out[NAME_MAX + 1])
{
	char ascii[ADDR_DOMAIN_MAX + 1];
	if (escape(domain, out, NAME_MAX) == 0)
		return 0;
	return addr_domain_to_ascii(domain, ascii, sizeof ascii) ? -1
	                                                         : escape(ascii, out, NAME_MAX);
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int domaininfo_file_domain(const char *file, char out[ADDR_DOMAIN_MAX + 1])
{
	char raw[NAME_MAX + 1];
	size_t n = 0;
	if (strncmp(file, PREFIX, strlen(PREFIX)) != 0 || strlen(file) > NAME_MAX)
		return -1;
	for (const char *p = file + strlen(PREFIX); *p; p++) {
		raw[n] = *p == '+' ? ' ' : *p;
		if (*p == '%') {
			int high = hex_value(p[1]);
			int low = high < 0 ? -1 : hex_value(p[2]);
			if (low < 0 || (high == 0 && low == 0))
				return -1;
			raw[n] = (char)(high << 4 | low);
			p += 2;
		}
		n++;
	}
	return addr_domain_normalise((struct slice){raw, n}, out, ADDR_DOMAIN_MAX + 1);
}

bool domaininfo_file_is_left_over(const char *file)
{
	size_t n = strlen(file);
	if (strcmp(file, LONG_NAME) == 0)
		return true;
	return n > 7 &&
	       (strncmp(file, "." PREFIX, 3) == 0 || strncmp(file, "." LONG_NAME, 5) == 0) &&
	       strcmp(file + n - 4, ".new") == 0;
}

/* ---- content ---- */

struct content {
	char *name;
	int level[2];
	int64_t seen[2];
	int given[5];
};

static const struct text_enum level_names[] = {{"PLAIN", DOMAININFO_PLAIN},
                                               {"TLS_CLIENT", DOMAININFO_TLS_CLIENT},
                                               {"TLS_INSECURE", DOMAININFO_TLS_INSECURE},
                                               {"TLS_SECURE", DOMAININFO_TLS_SECURE},
                                               {NULL, 0}};

/* Numbers up to 3 are chasquid's. */
static const struct text_field content_fields[] = {
    {.name = "name", .number = 1, .type = TEXT_STRING, .offset = offsetof(struct content, name)},
    {.name = "incoming_sec_level",
     .number = 2,
     .type = TEXT_ENUM,
     .offset = offsetof(struct content, level[DOMAININFO_IN]),
     .names = level_names},
    {.name = "outgoing_sec_level",
     .number = 3,
     .type = TEXT_ENUM,
     .offset = offsetof(struct content, level[DOMAININFO_OUT]),
     .names = level_names},
    {.name = "incoming_seen",
     .number = 100,
     .type = TEXT_INT64,
     .offset = offsetof(struct content, seen[DOMAININFO_IN])},
    {.name = "outgoing_seen",
     .number = 101,
     .type = TEXT_INT64,
     .offset = offsetof(struct content, seen[DOMAININFO_OUT])},
};
static const struct text_message content_table = TEXT_TABLE(content_fields, struct content);

const char *domaininfo_level_name(enum domaininfo_level level)
{
	return level_names[level <= DOMAININFO_TLS_SECURE ? level : DOMAININFO_PLAIN].name;
}

/* Damage must not open a door. */
static enum domaininfo_verdict damaged(struct domaininfo_record *r)
{
	r->level[DOMAININFO_IN] = DOMAININFO_TLS_CLIENT;
	r->level[DOMAININFO_OUT] = DOMAININFO_TLS_SECURE;
	r->seen[DOMAININFO_IN] = r->seen[DOMAININFO_OUT] = 0;
	return DOMAININFO_DAMAGED;
}

/* A level that its way cannot have counts as the next stronger one it can have, or the strongest.
 */
static enum domaininfo_level level_of(int level, enum domaininfo_way way)
{
	if (way == DOMAININFO_IN && level > DOMAININFO_TLS_CLIENT)
		return DOMAININFO_TLS_CLIENT;
	if (way == DOMAININFO_OUT && level == DOMAININFO_TLS_CLIENT)
		return DOMAININFO_TLS_INSECURE;
	return (enum domaininfo_level)level;
}

static enum domaininfo_verdict take_content(const struct content *c, struct domaininfo_record *r,
                                            char why[DOMAININFO_WHY_MAX])
{
	char name[ADDR_DOMAIN_MAX + 1];
	if (!c->name || !*c->name) {
		snprintf(why, DOMAININFO_WHY_MAX, "it has no name");
		return damaged(r);
	}
	if (addr_domain_normalise(slice_of(c->name), name, sizeof name) ||
	    strcmp(name, r->domain) != 0) {
		snprintf(why, DOMAININFO_WHY_MAX, "the name in it is another domain's");
		return DOMAININFO_STRANGE;
	}
	for (int way = 0; way < 2; way++) {
		r->level[way] = level_of(c->level[way], (enum domaininfo_way)way);
		r->seen[way] = c->seen[way] > 0 ? c->seen[way] : 0;
	}
	return DOMAININFO_GOOD;
}

enum domaininfo_verdict domaininfo_file_parse(const char *p, size_t n, struct domaininfo_record *r,
                                              char why[DOMAININFO_WHY_MAX])
{
	struct content c;
	enum domaininfo_verdict verdict;
	struct text_reader *reader = malloc(sizeof *reader);
	if (!reader) {
		snprintf(why, DOMAININFO_WHY_MAX, "out of memory");
		return damaged(r);
	}
	text_init(&content_table, &c);
	text_open_memory(reader, "line", p, n);
	reader->skip_unknown = true;
	if (text_read(reader, &content_table, &c) == 0) {
		verdict = take_content(&c, r, why);
	} else {
		snprintf(why, DOMAININFO_WHY_MAX, "%.*s", DOMAININFO_WHY_MAX - 1, reader->error);
		verdict = damaged(r);
	}
	text_clear(&content_table, &c);
	free(reader);
	return verdict;
}

int domaininfo_file_format(const struct domaininfo_record *r, struct buf *out)
{
	struct text_writer w;
	char name[ADDR_DOMAIN_MAX + 1];
	struct content c;
	text_init(&content_table, &c);
	snprintf(name, sizeof name, "%s", r->domain);
	c.name = name;
	for (int way = 0; way < 2; way++) {
		c.level[way] = (int)r->level[way];
		c.seen[way] = r->level[way] > DOMAININFO_PLAIN ? r->seen[way] : 0;
	}
	text_writer_init(&w, out);
	text_put_struct(&w, &content_table, &c);
	return out->failed ? -1 : 0;
}

/* ---- reading and writing ---- */

/* Reads all of a small file. Returns how many bytes, or -1 with errno (EFBIG: more than size). */
static ssize_t read_all(int fd, char *out, size_t size)
{
	size_t n = 0;
	while (n < size) {
		ssize_t got = read(fd, out + n, size - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			return (ssize_t)n;
		n += (size_t)got;
	}
	errno = EFBIG;
	return -1;
}

enum domaininfo_verdict domaininfo_file_read(int dir_fd, const char *file,
                                             struct domaininfo_record *r,
                                             char why[DOMAININFO_WHY_MAX])
{
	char content[DOMAININFO_FILE_MAX + 1];
	struct stat st;
	*why = '\0';
	if (domaininfo_file_domain(file, r->domain)) {
		snprintf(why, DOMAININFO_WHY_MAX, "its name tells no domain");
		return DOMAININFO_STRANGE;
	}
	if (fstatat(dir_fd, file, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode)) {
		snprintf(why, DOMAININFO_WHY_MAX, "it is no regular file");
		return DOMAININFO_STRANGE;
	}
	int fd = openat(dir_fd, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return DOMAININFO_GONE;
	ssize_t n = fd < 0 ? -1 : read_all(fd, content, sizeof content);
	if (n < 0)
		snprintf(why, DOMAININFO_WHY_MAX, "%s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return n < 0 ? damaged(r) : domaininfo_file_parse(content, (size_t)n, r, why);
}

/* disk_replace for a name that leaves no room for another beside it. */
static int replace_long(int dir_fd, const char *file, const char *p, size_t n)
{
	if (disk_replace(dir_fd, LONG_NAME, p, n, FILE_MODE))
		return -1;
	if (renameat(dir_fd, LONG_NAME, dir_fd, file)) {
		int saved = errno;
		unlinkat(dir_fd, LONG_NAME, 0);
		errno = saved;
		return -1;
	}
	return fsync(dir_fd);
}

int domaininfo_file_write(int dir_fd, const struct domaininfo_record *r)
{
	char file[NAME_MAX + 1];
	struct buf b;
	int rc = -1;
	if (domaininfo_file_name(r->domain, file)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	buf_init(&b, DOMAININFO_FILE_MAX);
	if (domaininfo_file_format(r, &b))
		errno = ENOMEM;
	else if (strlen(file) <= REPLACE_MAX)
		rc = disk_replace(dir_fd, file, buf_data(&b), b.len, FILE_MODE);
	else
		rc = replace_long(dir_fd, file, buf_data(&b), b.len);
	int saved = errno;
	buf_clear(&b);
	errno = saved;
	return rc;
}

int domaininfo_file_each(int dir_fd, int (*each)(void *arg, const char *file), void *arg,
                         bool *more)
{
	const struct dirent *entry = NULL;
	int rc = 0;
	/* A descriptor of its own: the position in a directory belongs to the open file. */
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	*more = false;
	if (!d) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	for (size_t i = 0; rc == 0; i++) {
		errno = 0;
		entry = readdir(d);
		*more = entry && i == DOMAININFO_FILES_MAX;
		if (!entry || *more)
			break;
		rc = each(arg, entry->d_name);
	}
	int saved = errno;
	if (!entry && saved)
		rc = -1;
	closedir(d);
	errno = saved;
	return rc;
}
