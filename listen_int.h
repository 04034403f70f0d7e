/* listen_int: what the two files of listen share: the listeners. */
#ifndef LISTEN_INT_H
#define LISTEN_INT_H

#include "listen.h"
#include "loop.h"

/* What comes in at an address. */
struct listen_door {
	const char *key;  /* in chasq.conf */
	const char *name; /* of inherited sockets */
	enum smtpd_mode mode;
	bool tls; /* from the first byte */
};

struct listener {
	struct loop_fd watch;           /* fd -1: its address is not there yet */
	const struct listen_door *door; /* NULL: a free place */
	struct dns_addr addr;
	uint16_t port;
	bool wildcard;
	bool inherited; /* from systemd */
	bool wanted;    /* by the configuration that is taken over */
};

extern struct listen_state {
	const struct smtpd_setup *setup;
	struct listener listeners[LISTEN_MAX];
	size_t count;            /* places in use, and free ones between them */
	struct loop_timer pause; /* set: nothing is accepted */
	struct loop_timer retry; /* set: some listener is not open yet */
	struct listen_place *places;
	size_t sessions;
	bool give_up_root;
	bool started;
	int reserve;    /* descriptors that sessions may not use */
	int64_t logged; /* when a refusal was logged last, loop_now(); 0 never */
	int64_t not_logged;
} listen_self;

/* ---- listen.c ---- */

/* Timer callback: goes on accepting. */
void listen_resume(void *arg);

/* Accepts one connection. Returns false when there is none, or after a pause began. */
bool listen_accept(const struct listener *l);

uint16_t listen_port_of(const struct sockaddr_storage *sa);

/* ---- listen_open.c ---- */

bool listen_is_wildcard(const struct dns_addr *a);

#endif
