/* conf_reload: the configuration in effect as text, and taking over a new one while running. */
#ifndef CONF_RELOAD_H
#define CONF_RELOAD_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "conf.h"

/* Writes the configuration in effect in text format, every key; what is not set is "". With origins
 * the (first) line of each value ends in a comment: "# chasq.conf:12", "# -o", "# default", and
 * lists that are empty are told of. Passwords stand in files of their own. */
void conf_print(const struct conf *c, struct buf *out, bool origins);

/* What a reload did, a line each: "changed KEY: OLD -> NEW", "refused KEY: why". */
struct conf_report {
	struct buf text; /* at most CONF_REPORT_BYTES */
	size_t changed, refused;
	size_t files;        /* read anew */
	struct conf *before; /* private */
};

/* Empties an uninitialised report; gives its memory back. */
void conf_report_init(struct conf_report *r);
void conf_report_clear(struct conf_report *r);

/*
 * Reads chasq.conf again, with the overrides of conf_load, and takes over what can change while
 * running, in place: pointers to c stay good, pointers into it do not outlive conf_reload_end.
 * report (initialised) gets a line for each key that cannot change. Users, aliases and domains are
 * read again too. 0 (also when keys were refused), and conf_reload_end has to follow; or -1 with a
 * text in err and everything as it was: the file is bad.
 */
int conf_reload(struct conf *c, struct conf_report *report, char *err, size_t err_size);

/* Has this key a new value? Between conf_reload and conf_reload_end, like the next. */
bool conf_reload_changed(const struct conf *c, const struct conf_report *report, const char *key);

/* A new value cannot be had: the key gets its old one back, and the report a line that says why. */
void conf_reload_refuse(struct conf *c, struct conf_report *report, const char *key,
                        const char *why);

/* Puts what has changed before all lines of the report, and frees the old values. */
void conf_reload_end(struct conf *c, struct conf_report *report);

#endif
