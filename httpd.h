/* httpd: a small HTTP/1.1 server (RFC 9110, 9112) for pages of our own making. Knows nothing of
 * mail. */
#ifndef HTTPD_H
#define HTTPD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "config.h"
#include "dns_addr.h"

enum httpd_method { HTTPD_GET, HTTPD_HEAD, HTTPD_POST };

/* A request, valid during the call of serve. Strings are NUL-terminated and clean: path is decoded
 * (%XX; one that decodes to control characters or to no UTF-8 was answered with 400) and begins
 * with
 * '/', dots in it mean nothing; the fields are printable ASCII. Fields that were not given are "".
 */
struct httpd_request {
	enum httpd_method method;
	const char *path;          /* without query */
	const char *host;          /* of Host: a name or an address, without brackets */
	const char *port;          /* of Host: "1100" */
	const char *authorization; /* "Basic ..." */
	const char *origin;        /* Origin */
	const char *fetch_site;    /* Sec-Fetch-Site */
	const char *accept;        /* the first one */
	struct slice query;        /* raw: httpd_param reads it */
	struct slice form;         /* POST: the body, application/x-www-form-urlencoded, raw */
	struct dns_addr peer;
};

/* Finds a parameter of a query or form and decodes it into out (size bytes, NUL-terminated). Its
 * length, or -1 and "": there is none, it does not fit, or it is not valid UTF-8 without NUL. */
int httpd_param(struct slice form, const char *name, char *out, size_t size);

struct httpd;
struct httpd_conn;

struct httpd_setup {
	/* Answers a request: calls one of the functions below, once, before it returns. */
	void (*serve)(void *arg, struct httpd_conn *c, const struct httpd_request *r);
	void *arg;
	const char *headers; /* sent with every answer: lines with CRLF; kept */
};

/*
 * Listens. At most HTTPD_CONNECTIONS_MAX at a time (more wait in the backlog),
 * HTTPD_PER_ADDRESS_MAX of one address, each with one request at a time, keep-alive, all bounded in
 * size and time; a client that says nothing gives way to a new one. Descriptors that mail needs are
 * not taken. NULL with errno. setup is copied.
 */
struct httpd *httpd_open(const struct dns_addr *a, uint16_t port, const struct httpd_setup *setup);

/* Closes the listener and all connections. Not from inside serve or more. NULL is harmless. */
void httpd_close(struct httpd *h);

/* Answers: a whole body, or one made piece by piece. type is a media type; extra are further header
 * lines with CRLF, or NULL. HEAD is dealt with here. The body is copied; with the header it must
 * fit HTTPD_OUT_MAX, or the answer is 500. */
void httpd_answer(struct httpd_conn *c, int code, const char *type, const char *extra,
                  struct slice body);

/* A short page in plain text, for errors too: "404 Not Found", or text when that is not NULL. */
void httpd_answer_text(struct httpd_conn *c, int code, const char *extra, const char *text);

/*
 * A body that is sent as it grows (chunked; to HTTP/1.0 clients until the end of the connection).
 * more appends to out what has room (it was asked with at least HTTPD_PIECE bytes free), and
 * returns true when that was all. It is called from the loop until it says so; state is freed with
 * free_state (may be NULL) then, or when the client is gone. Nobody else writes meanwhile. A piece
 * that did not fit (out->failed) ends the connection, and the body is not whole.
 */
void httpd_stream(struct httpd_conn *c, int code, const char *type, const char *extra,
                  bool (*more)(void *state, struct buf *out), void *state,
                  void (*free_state)(void *state));

#endif
