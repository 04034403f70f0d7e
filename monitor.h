/* monitor: the monitoring page, metrics and dumps over HTTP. */
#ifndef MONITOR_H
#define MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "smtpd.h"

/* All is kept. */
struct monitor_setup {
	const struct smtpd_setup *smtpd; /* conf, queue, spool, domaininfo, certs, now */
	size_t (*sessions)(void);        /* SMTP sessions now */
	const char *build;               /* options and libraries, lines */
};

#if WITH_MONITOR

/*
 * Listens on conf->monitoring_address (host:port, [v6]:port; an address, not a name, or
 * "localhost"); nothing to do without one. An address that is not loopback needs
 * conf->monitoring_password_file. Call it while root; also starts the sampling for the charts. 0,
 * or -1 with a text in err.
 */
int monitor_open(const struct monitor_setup *setup, char *err, size_t err_size);

/* Takes over what has changed in the configuration: address and password. 0, or -1 with a text in
 * err and everything as it was. */
int monitor_reload(char *err, size_t err_size);

void monitor_close(void);

#else

/* The configuration has refused monitoring_address. */
static inline int monitor_open(const struct monitor_setup *setup, char *err, size_t err_size)
{
	(void)setup, (void)err, (void)err_size;
	return 0;
}

static inline int monitor_reload(char *err, size_t err_size)
{
	(void)err, (void)err_size;
	return 0;
}

static inline void monitor_close(void)
{
}

#endif

#endif
