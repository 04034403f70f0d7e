/* monitor_page: the frame of the pages for people, and what they are written with. */
#ifndef MONITOR_PAGE_H
#define MONITOR_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "config.h"
#include "httpd.h"
#include "status.h"

/* The media type of a page, and paths of what every page refers to. */
#define PAGE_TYPE  "text/html; charset=utf-8"
#define PAGE_STYLE "/style.css"
#define PAGE_ICON  "/icon.svg"

/* The places in the navigation. */
enum page_place {
	PAGE_HOME,
	PAGE_QUEUE,
	PAGE_DESTINATIONS,
	PAGE_TRACES,
	PAGE_CONFIG,
	PAGE_ABOUT,
	PAGE_NOWHERE
};

/*
 * Writing hostile text. All append to out, whose failure is sticky. Whatever the bytes are, what
 * comes out is text, both between tags and within a quoted attribute: markup is escaped, bytes that
 * are no UTF-8 become U+FFFD, and controls, invisible marks and overrides of direction are shown as
 * \u{202E}. After max characters (0: no limit) comes an ellipsis. page_lines keeps line ends and
 * tabs.
 */
void page_text(struct buf *out, const char *s, size_t max);
void page_lines(struct buf *out, struct slice s);

/*
 * Writes a piece of a page: fmt is markup of ours with
 *   %e const char *   hostile text            %s const char *           markup of ours
 *   %b const char *   in <bdi>, left to right as addresses are; cut to MONITOR_SHOWN_MAX
 *   %B const char *   in <bdi>, whole         %S const struct status *  in <bdi>, code first
 *   %u const char *   part of a path or parameter: all but unreserved characters as %XX
 *   %d int64_t        number                  %z int64_t                "3.4 KB" (of 1024)
 *   %a int64_t        s as "3 h 20 min"       %t int64_t                <time>; "never" for 0
 * Numbers are always int64_t. "{LABEL|" begins a row and its first cell, "^LABEL|" the next cell,
 * "}" ends both; "[CAPTION|A|B]" is the head of a table with the columns A and B, which becomes a
 * list of cards on small screens, and "~" ends it.
 */
void page_put(struct buf *out, const char *fmt, ...);

/* Beginning and end of a page; title is escaped, NULL: the name of its place. */
void page_begin(struct buf *out, const char *title, enum page_place place);
void page_end(struct buf *out);

/* Begins a form of an action: POST to /action, with the token; what may be NULL. */
void page_form(struct buf *out, const char *what);

/* Sets the host name on each page; copied. */
void page_init(const char *hostname);

extern const char page_style[], page_icon[];

/* Answers with a whole page, or with 503 when there was no memory for it; takes what is in out. */
void page_send(struct httpd_conn *c, int code, struct buf *out);

/*
 * Answers with a page that is made in units: next appends one, of at most MONITOR_UNIT_MAX bytes,
 * and returns true with the last. It does one bounded step of work and may append nothing. state is
 * freed with free_state in any case.
 */
void page_stream(struct httpd_conn *c, int code, bool (*next)(void *state, struct buf *out),
                 void *state, void (*free_state)(void *state));

#endif
