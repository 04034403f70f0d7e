/*
 * monitor_auth: who may see the monitoring page, and who may act on it.
 *
 * Three attackers: who reaches the port and has no password, which is any user of this machine when
 * the page is on loopback; a web site in the operator's browser that sends requests here, with the
 * password the browser knows (CSRF); and such a site whose name was made to lead to us, so that the
 * browser takes our pages for its own (DNS rebinding). The password answers the first and is
 * guarded against guessing; a token that only our pages hold the second, with what browsers say of
 * a request's origin; the Host field the third. What is secret is compared in constant time.
 */
#include "monitor_auth.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "base64.h"
#include "conf_smarthost.h"
#include "log.h"
#include "loop.h"
#include "rate.h"
#include "stat.h"

STAT_COUNTER(stat_wrong, "monitor/wrong_passwords", "Wrong passwords at the monitoring page");

static struct {
	const struct conf *conf;
	char login[MONITOR_LOGIN_MAX + 1]; /* "user:password", zeros behind it; "": none */
	char token[33];
	struct rate failures;
} A;

int monitor_auth_open(const struct conf *conf, char *err, size_t err_size)
{
	char login[MONITOR_LOGIN_MAX + 1] = "";
	const struct conf_smarthost file = {.password_file = conf->monitoring_password_file};
	if (file.password_file) {
		if (conf_smarthost_password(&file, login, sizeof(login), err, err_size) < 0)
			return -1;
		const char *colon = strchr(login, ':');
		if (!colon || colon == login || !colon[1]) {
			explicit_bzero(login, sizeof(login));
			snprintf(err, err_size, "%s: its first line has to be user:password",
			         file.password_file);
			return -1;
		}
	}
	A.conf = conf;
	/* What stands behind the end is compared too. */
	explicit_bzero(A.login, sizeof(A.login));
	memcpy(A.login, login, strlen(login));
	explicit_bzero(login, sizeof(login));
	return 0;
}

void monitor_auth_close(void)
{
	explicit_bzero(&A, sizeof(A));
}

/* In a time that does not depend on where they differ. */
static bool is_same(const char *a, const char *b, size_t n)
{
	volatile unsigned char differ = 0;
	for (size_t i = 0; i < n; i++)
		differ |= (unsigned char)(a[i] ^ b[i]);
	return differ == 0;
}

/* ---- looking ---- */

static bool is_our_name(const char *host)
{
	struct dns_addr a;
	return dns_addr_parse(&a, slice_of(host)) == 0 || strcasecmp(host, "localhost") == 0 ||
	       strcasecmp(host, A.conf->hostname) == 0;
}

/* "Basic" and base64 of user:password (RFC 7617). 1, 0, or -1: there is no memory to tell. */
static int is_password_right(const char *authorization)
{
	char given[sizeof(A.login)] = "";
	struct buf b;
	size_t room;
	bool right = false;
	if (strncasecmp(authorization, "Basic ", 6) != 0)
		return 0;
	authorization += 6 + strspn(authorization + 6, " ");
	buf_init(&b, sizeof(given) - 1);
	if (!buf_space(&b, sizeof(given) - 1, &room))
		return -1;
	if (base64_decode(slice_of(authorization), &b) == 0) {
		memcpy(given, buf_data(&b), b.len);
		right = is_same(given, A.login, sizeof(given)) && !memchr(given, '\0', b.len);
		explicit_bzero(buf_data(&b), b.len);
	}
	buf_clear(&b);
	explicit_bzero(given, sizeof(given));
	return right;
}

static void ask_for_password(struct httpd_conn *c)
{
	httpd_answer_text(c, 401, "WWW-Authenticate: Basic realm=\"chasq\", charset=\"UTF-8\"\r\n",
	                  "This page needs a password.");
}

static void note_failure(const struct httpd_request *r)
{
	char ip[INET6_ADDRSTRLEN];
	rate_take(&A.failures, &r->peer, MONITOR_FAILURES_HOUR, loop_now());
	stat_add(&stat_wrong, 1);
	log_info("-", "monitor login failed", LOG_S("peer", dns_addr_text(&r->peer, ip)));
}

bool monitor_auth_admit(struct httpd_conn *c, const struct httpd_request *r)
{
	if (!is_our_name(r->host)) {
		httpd_answer_text(c, 421, NULL,
		                  "This server does not have the name that it was asked for: use "
		                  "its address, or the hostname in chasq.conf.");
		return false;
	}
	if (!*A.login)
		return true;
	if (!*r->authorization) {
		ask_for_password(c);
		return false;
	}
	if (rate_is_used_up(&A.failures, &r->peer, MONITOR_FAILURES_HOUR, loop_now())) {
		httpd_answer_text(c, 429, "Retry-After: 60\r\n",
		                  "Too many wrong passwords from this address: try again later.");
		return false;
	}
	int right = is_password_right(r->authorization);
	if (right < 0) {
		httpd_answer_text(c, 503, NULL, "There is no memory for this page.");
	} else if (!right) {
		note_failure(r);
		ask_for_password(c);
	}
	return right > 0;
}

/* ---- acting ---- */

const char *monitor_auth_token(void)
{
	unsigned char random[(sizeof(A.token) - 1) / 2];
	if (!*A.token && getrandom(random, sizeof(random), GRND_NONBLOCK) == sizeof(random))
		for (size_t i = 0; i < sizeof(random); i++)
			snprintf(A.token + 2 * i, 3, "%02x", random[i]);
	return A.token;
}

bool monitor_auth_may_act(void)
{
	return *A.login && *monitor_auth_token();
}

static bool has_token(const struct httpd_request *r)
{
	char token[sizeof(A.token)] = "";
	return httpd_param(r->form, "token", token, sizeof(token)) == (int)sizeof(token) - 1 &&
	       is_same(token, monitor_auth_token(), sizeof(token) - 1);
}

/* Browsers say where a form stands: scheme://host:port (RFC 6454 7, Fetch Metadata). The scheme may
 * be that of a proxy before us. */
static bool is_same_origin(const struct httpd_request *r)
{
	char own[300];
	const char *origin = r->origin;
	bool v6 = strchr(r->host, ':');
	if (*r->fetch_site && strcmp(r->fetch_site, "same-origin") != 0)
		return false;
	if (!*origin)
		return true;
	if (strncasecmp(origin, "http://", 7) == 0)
		origin += 7;
	else if (strncasecmp(origin, "https://", 8) == 0)
		origin += 8;
	else
		return false;
	int n = snprintf(own, sizeof(own), "%s%s%s%s%s", v6 ? "[" : "", r->host, v6 ? "]" : "",
	                 *r->port ? ":" : "", r->port);
	return n < (int)sizeof(own) && strcasecmp(origin, own) == 0;
}

bool monitor_auth_admit_action(struct httpd_conn *c, const struct httpd_request *r)
{
	const char *why = NULL;
	if (!monitor_auth_may_act())
		why = "Actions need monitoring_password_file in chasq.conf.";
	else if (!is_same_origin(r))
		why = "This form comes from another site.";
	else if (!has_token(r))
		why = "This form is from before the last restart: go back and load it again.";
	if (why)
		httpd_answer_text(c, 403, NULL, why);
	return !why;
}
