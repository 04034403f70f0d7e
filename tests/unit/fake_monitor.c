/* Stands in for monitor_auth and httpd, where a test only writes pages. */
#include "httpd.h"
#include "monitor_auth.h"

const char *monitor_auth_token(void)
{
	return "0123";
}

void httpd_stream(struct httpd_conn *c, int code, const char *type, const char *extra,
                  bool (*more)(void *state, struct buf *out), void *state,
                  void (*free_state)(void *state))
{
	(void)c, (void)code, (void)type, (void)extra, (void)more;
	free_state(state);
}

void httpd_answer_text(struct httpd_conn *c, int code, const char *extra, const char *text)
{
	(void)c, (void)code, (void)extra, (void)text;
}
