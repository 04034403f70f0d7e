/* spool_scan: the scan at start-up, as the spool begins and ends it; its steps are in spool.h. */
#ifndef SPOOL_SCAN_H
#define SPOOL_SCAN_H

struct spool_scan;

/* Opens the directory for a scan. NULL with errno set. */
struct spool_scan *spool_scan_new(const char *path);

/* Ends a scan, wherever it is. */
void spool_scan_free(struct spool_scan *s);

#endif
