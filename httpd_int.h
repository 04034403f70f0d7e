/* httpd_int: what the HTTP server's files share: the reading of a request, and a connection. */
#ifndef HTTPD_INT_H
#define HTTPD_INT_H

#include "httpd.h"
#include "io.h"
#include "loop.h"

/* ---- httpd_request.c: pure, no I/O ---- */

enum httpd_field {
	HTTPD_HOST,
	HTTPD_AUTHORIZATION,
	HTTPD_ORIGIN,
	HTTPD_FETCH_SITE,
	HTTPD_ACCEPT,
	HTTPD_FIELDS
};

/* A part of the head: from where, how long. Buffers move while a body comes in, so no pointers. */
struct httpd_span {
	size_t at;
	size_t n;
};

/* What is known of a request so far. Zeroed for each. */
struct httpd_head {
	size_t seen;  /* bytes looked at */
	size_t line;  /* where the current line begins */
	size_t lines; /* before that, but empty ones */
	size_t size;  /* of the whole head, 0 while it is not there */
	size_t body;  /* of the body */
	enum httpd_method method;
	struct httpd_span path, query, authority;
	struct httpd_span field[HTTPD_FIELDS];
	unsigned given; /* a bit a field */
	bool old;       /* HTTP/1.0 */
	bool sized;     /* has Content-Length */
	bool coded;     /* has Transfer-Encoding */
	bool close;     /* this is the last request */
	bool expects;   /* waits for 100 before it sends the body */
};

/*
 * Looks at what has come in of a request. 0: the head is there when size is not 0, else more is
 * needed; or the status code to refuse it with, after which nothing that follows can be trusted:
 * the connection ends. Called again with the same bytes and more behind them.
 */
int httpd_head_read(struct httpd_head *h, struct slice in);

/* Makes a request of a head and the body behind it, in place: p is where the bytes of the slice
 * are. 0, or the code to refuse it with. */
int httpd_head_request(const struct httpd_head *h, char *p, struct httpd_request *r);

/* ---- httpd.c ---- */

struct httpd {
	struct httpd_setup setup;
	struct loop_fd watch; /* fd -1: detached, for tests */
	struct loop_timer pause;
	struct httpd_conn *conns;
	size_t count;
	int reserve; /* descriptors that are not ours to take */
};

struct httpd_conn {
	struct httpd *httpd;
	unsigned requests;
	int64_t since; /* waiting for a request since then, ms */
	bool waiting;  /* for a request; else an answer is on its way */
	bool started;  /* some of the request is there: its time runs */
	bool answered; /* by serve */
	bool head_only;
	bool old;      /* HTTP/1.0 */
	bool close;    /* after this answer */
	size_t unsent; /* when the time to send began anew */
	bool (*more)(void *state, struct buf *out);
	void (*free_state)(void *state);
	void *state;
	struct httpd_conn *next;
	struct io io;
	struct loop_timer again;
	struct dns_addr peer;
	struct httpd_head head;
};

/* A connection on a detached stream: c->io.in gets bytes, c->io.handle the events. NULL without
 * memory. It goes with httpd_conn_free. */
struct httpd_conn *httpd_conn_new(struct httpd *h, const struct dns_addr *peer);
void httpd_conn_free(struct httpd_conn *c);

#endif
