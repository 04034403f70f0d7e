/* reload: takes over a changed configuration and changed files, in the whole daemon. */
#ifndef RELOAD_H
#define RELOAD_H

#include <stdbool.h>
#include <stddef.h>

#include "conf.h"
#include "conf_reload.h"
#include "courier.h"
#include "smtpd.h"
#include "tls.h"

/* What takes part. All is kept. */
struct reload_setup {
	struct conf *conf;
	const struct smtpd_setup *smtpd; /* queue, domaininfo, certs, stopping */
	struct tls_roots *roots;
	const struct courier *(*local)(void); /* for local mail, by the configuration */
	bool level_is_fixed;                  /* by the command line */
};

void reload_init(const struct reload_setup *setup);

/* Opens the logs that the configuration names, after loop_init; reload_close_logs before loop_done.
 * 0, or -1 with a text in err. */
int reload_open_logs(const struct conf *conf, char *err, size_t err_size);
void reload_close_logs(void);

/*
 * chasq.conf, users, aliases, domains, certificates, keys, resolv.conf: all that is read from files
 * is read again, and logs are opened again under their names. report (initialised) tells in lines
 * what has changed and what was refused: as conf_reload and listen_reload, and "files read N". What
 * is refused stays as it was. 0, or -1 with a text in err: chasq.conf is bad, and only the logs
 * were opened again. All of it is logged too.
 */
int reload_all(struct conf_report *report, char *err, size_t err_size);

/* Users, aliases, domains and certificates, when their files have changed; not chasq.conf. */
void reload_files(void);

#endif
