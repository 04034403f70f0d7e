/* conf_watch: how a file of the configuration is known to have changed. */
#ifndef CONF_WATCH_H
#define CONF_WATCH_H

#include <stdint.h>

/* What tells that a file has changed; all 0 when there was none. */
struct conf_stamp {
	int64_t mtime, size; /* ns, bytes */
	uint64_t inode;
};

/* A watched file: what was read last, and what could not be read and has been logged. */
struct conf_watch {
	struct conf_stamp good, bad;
};

#endif
