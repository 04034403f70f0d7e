/* log_sink: where lines go: a file, standard output or error, or syslog. Never blocks on a peer. */
#ifndef LOG_SINK_H
#define LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>

#include "log.h"

struct log_sink;

/*
 * Opens a sink: "<stderr>", "<stdout>", "<syslog>" (LOG_SYSLOG_PATH), "<syslog:PATH>", or a path
 * (opened to append, mode 0640, its directory must be there). tag is the name in syslog lines
 * (facility mail); time puts "YYYY-MM-DD HH:MM:SS.uuuuuu " before lines that go anywhere but
 * syslog. A syslog that is not there now is tried again with each line that finds it missing, at
 * most once a second. NULL with a text in err when a file cannot be opened. A sink lives between
 * loop_init and loop_done.
 */
struct log_sink *log_sink_open(const char *where, const char *tag, bool time, char *err,
                               size_t err_size);
void log_sink_close(struct log_sink *s); /* NULL is harmless */

/* Is this descriptor systemd's journal (JOURNAL_STREAM, sd-daemon(3))? It takes priorities "<6>" in
 * front of lines. */
bool log_sink_is_journal(int fd);

/* Writes a line of n bytes without its end. A syslog that does not take it at once gets it from a
 * queue of LOG_QUEUE_BYTES through the loop; what does not fit is counted, and the count is told
 * when there is room again. A file that takes no more (ENOSPC) loses lines, which is told likewise.
 */
void log_sink_write(struct log_sink *s, enum log_level level, const char *line, size_t n);

/* Opens the file again under its name (after a rotation); the old one stays when that fails. 0, or
 * -1 with errno. Nothing to do, and 0, for others. */
int log_sink_reopen(struct log_sink *s);

/* Lines lost so far. */
unsigned long long log_sink_lost(const struct log_sink *s);

#endif
