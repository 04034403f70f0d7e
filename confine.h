/* confine: which parts of the disk the configuration needs, and entering the sandbox with them. */
#ifndef CONFINE_H
#define CONFINE_H

#include <stddef.h>

#include "conf.h"
#include "conf_reload.h"

/* Before root is given up: what only root can put into force without no_new_privs, when the
 * configuration rules that out. 0, or -1 with a text in err. */
int confine_as_root(const struct conf *c, char *err, size_t err_size);

/* Enters the sandbox, with all that the configuration names and the usual places of programs and
 * libraries in reach. The working directory is that of the configuration; logs are open. 0, or -1
 * with a text in err. */
int confine_enter(const struct conf *c, char *err, size_t err_size);

/* After conf_reload: refuses what the sandbox in force does not let us do, and notes where links in
 * the configuration lead out of reach. */
void confine_check(struct conf *c, struct conf_report *report);

#endif
