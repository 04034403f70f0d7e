/* listen_int: what the files of listen share: the listeners, and who comes in. */
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
	struct listen_header *headers; /* of proxies, waited for: the oldest first */
	size_t header_count;
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

/* Takes fd: begins a session for who is there, or refuses. Of the peer, addr, port, proxied,
 * unknown and proxy are filled in. */
void listen_admit(int fd, const struct listen_door *door, struct smtpd_peer *peer);

/* Takes fd: tells the client the first, as well as it goes without waiting, and the log the second,
 * and closes. */
void listen_refuse(int fd, const struct listen_door *door, const struct dns_addr *a,
                   const char *say, const char *why);

/* One line a LISTEN_LOG_MS, and one more refusal in the counter. */
void listen_log_refusal(const struct dns_addr *a, const char *why);

/* ---- listen_proxy.c ---- */

/* Takes fd, a connection that has just come in: a session begins with what the header says, once it
 * is there. */
void listen_proxy_wait(int fd, const struct listen_door *door, const struct dns_addr *a,
                       uint16_t port);

/* Closes all connections whose header is still waited for. */
void listen_proxy_close(void);

/* ---- listen_open.c ---- */

bool listen_is_wildcard(const struct dns_addr *a);

#endif
