/* control_int: what the parts of control share. */
#ifndef CONTROL_INT_H
#define CONTROL_INT_H

#include "addr.h"
#include "buf.h"
#include "control.h"
#include "io.h"
#include "loop.h"

struct control_conn {
	struct smtpd *session; /* an SMTP session */
	uid_t uid;
	size_t len;
	void (*more)(struct control_conn *c); /* a list: writes some lines, or finishes */
	void *state;                          /* of the command */
	void (*state_free)(void *state);
	size_t text_at;
	struct control_conn *next, *prev;
	struct loop_fd watch; /* while the command line is read; its fd is ours */
	struct loop_timer timer;
	struct io io;    /* an answer on its way */
	struct buf text; /* an answer made at once, sent in pieces */
	char line[CONTROL_LINE_MAX + 1];
};

const struct control_setup *control_setup(void);

/* Since control_open, in s. */
int64_t control_uptime(void);

/*
 * A command's function gets the rest of the line and gives exactly one answer: control_error, a
 * whole text of lines ("" for none), or a list. The connection may be gone behind these calls.
 */
void control_error(struct control_conn *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void control_text(struct control_conn *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* What a status says against it. */
void control_refuse(struct control_conn *c, const struct status *st);

/*
 * A list begins with "OK"; from then on more is called whenever all before was sent, and writes
 * some lines into io.out while there is room for another (control_room), then calls io_update; or
 * control_again when it wrote nothing, to be called in the next turn; or control_end. 0, or -1: c
 * is gone.
 */
int control_begin(struct control_conn *c, void (*more)(struct control_conn *c));
bool control_room(const struct control_conn *c);
void control_again(struct control_conn *c);
void control_end(struct control_conn *c);

/* Ends a list that cannot be finished with "ERROR reason" instead. */
void control_broken(struct control_conn *c, const char *why);

/* The answer comes later: nothing is read, and no time runs. */
void control_wait(struct control_conn *c);

/* Takes the rest of the answer from c->text. Also a function for more. */
void control_send_text(struct control_conn *c);

/* Sends the short answer in c->text at once, and stays open. */
void control_say(struct control_conn *c);

/* Nothing is left to send: calls more in ms (-1: never), and goes when the client goes. For an
 * answer without end. */
void control_follow(struct control_conn *c, int64_t ms);

/* Memory of a command, zeroed, freed with the connection, by state_free when that is set. NULL when
 * there is none; then the answer has been given. */
void *control_state(struct control_conn *c, size_t size);

/* Adds a field, a tab before it unless it begins the line: one harmless line of at most
 * CONTROL_FIELD_BYTES. */
void control_field(struct buf *out, const char *s);
void control_field_slice(struct buf *out, struct slice s);
void control_number(struct buf *out, int64_t n);
void control_status(struct buf *out, const struct status *st); /* NULL: an empty field */

/* Commands on the queue. */
void control_queue(struct control_conn *c, const char *arg);
void control_show(struct control_conn *c, const char *arg);
void control_raw(struct control_conn *c, const char *arg);
void control_flush(struct control_conn *c, const char *arg);
void control_hold(struct control_conn *c, const char *arg);
void control_release(struct control_conn *c, const char *arg);
void control_remove(struct control_conn *c, const char *arg);

/* Questions and orders to the daemon. */
void control_resolve(struct control_conn *c, const char *arg);
void control_domaininfo(struct control_conn *c, const char *arg);
void control_daemon_status(struct control_conn *c, const char *arg);
void control_trace(struct control_conn *c, const char *arg);
void control_config(struct control_conn *c, const char *arg);
void control_reload(struct control_conn *c, const char *arg);
void control_daemon_stop(struct control_conn *c, const char *arg);

#endif
