/* domaininfo_int: the files of domaininfo, between domaininfo.c and domaininfo_file.c. */
#ifndef DOMAININFO_INT_H
#define DOMAININFO_INT_H

#include <limits.h>

#include "addr.h"
#include "buf.h"
#include "domaininfo.h"

/* What one file says, or is to say. */
struct domaininfo_record {
	char domain[ADDR_DOMAIN_MAX + 1]; /* normalised */
	enum domaininfo_level level[2];
	int64_t seen[2]; /* 0: not told */
};

enum domaininfo_verdict {
	DOMAININFO_GOOD,
	DOMAININFO_GONE,    /* not there any more */
	DOMAININFO_STRANGE, /* not one of ours: its name, what it is, or whose it says it is */
	DOMAININFO_DAMAGED, /* the record has the domain and the strongest levels */
};

/* What is said for a file that was not taken. */
#define DOMAININFO_WHY_MAX 200

/* The name of a domain's file: "s:" and the domain escaped as in a URL's query; its A-labels when
 * that is too long for a file system. Returns 0, or -1 when there is none. */
int domaininfo_file_name(const char *domain, char out[NAME_MAX + 1]);

/* The domain, normalised, that a file's name tells. Returns 0, or -1 when it tells none. */
int domaininfo_file_domain(const char *file, char out[ADDR_DOMAIN_MAX + 1]);

/* Understands a file's content: r->domain is what its name tells, the rest is filled. */
enum domaininfo_verdict domaininfo_file_parse(const char *p, size_t n, struct domaininfo_record *r,
                                              char why[DOMAININFO_WHY_MAX]);

/* Reads the file. Never waits for one that is not a regular file. */
enum domaininfo_verdict domaininfo_file_read(int dir_fd, const char *file,
                                             struct domaininfo_record *r,
                                             char why[DOMAININFO_WHY_MAX]);

/* The content of a file. Returns 0, or -1 without memory. */
int domaininfo_file_format(const struct domaininfo_record *r, struct buf *out);

/* Writes the file of a domain, durably. Returns 0, or -1 with errno and the old one in place. */
int domaininfo_file_write(int dir_fd, const struct domaininfo_record *r);

/* Removes what a write that was cut off may have left under this name. Is it such a name? */
bool domaininfo_file_is_left_over(const char *file);

/*
 * Calls each for every name in the directory, up to DOMAININFO_FILES_MAX; until it returns not 0,
 * which is returned. -1 with errno when the directory cannot be read. *more: there were more names.
 */
int domaininfo_file_each(int dir_fd, int (*each)(void *arg, const char *file), void *arg,
                         bool *more);

#endif
