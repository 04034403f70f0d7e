/* fake_control: what stands behind the control socket, for its tests: sessions, queue, spool. */
#ifndef FAKE_CONTROL_H
#define FAKE_CONTROL_H

#include "control.h"

struct fake_control {
	/* What is there: messages m00000, m00001, ... m00001 cannot be read. */
	size_t messages;
	size_t content;    /* bytes of each; what is beyond the header section is lines of x */
	size_t broken_at;  /* its reading fails there; 0: never */
	size_t rcpts;      /* of each, besides the three it always has */
	size_t attempts;   /* recorded of each */
	int reload_result; /* of reload */
	/* What happened. */
	struct io *session; /* the last one's stream; NULL when it has ended */
	unsigned asked_to_leave, stopped, reloads, loads, resolving, cancelled;
	char held[3][64], removed[80];
};

extern struct fake_control fake_control;

/* The setup with all of this; its conf is empty but for the data directory. */
extern struct smtpd_setup fake_control_smtpd;
extern struct conf fake_control_conf;
extern const struct control_setup fake_control_setup;

/* Answers the question of RESOLVE that waits: alice goes three ways, slow is 451, others are not.
 */
void fake_control_resolve(void);

#endif
