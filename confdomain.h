/* confdomain: the domains/ directory of a configuration: our domains, their users and aliases. */
#ifndef CONFDOMAIN_H
#define CONFDOMAIN_H

#include <stddef.h>

#include "conf.h"

/* Reads domains/ of the working directory into c for the first time; a missing one gives localhost
 * alone. Returns 0, or -1 with err written. */
int confdomain_load(struct conf *c, char *err, size_t err_size);

/* conf_refresh. */
size_t confdomain_refresh(struct conf *c);

/* Makes the next refresh read all files, changed or not; what is bad keeps its old content. */
void confdomain_forget(struct conf *c);

/* Frees the domains. */
void confdomain_clear(struct conf *c);

#endif
