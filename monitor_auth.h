/* monitor_auth: who may see the monitoring page, and who may act on it. */
#ifndef MONITOR_AUTH_H
#define MONITOR_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "conf.h"
#include "httpd.h"

/*
 * Reads conf->monitoring_password_file, one line "user:password"; without one everybody who reaches
 * the page may look, and nobody may act. conf is kept: its hostname is a name of the page. Call
 * again after a reload. 0, or -1 with a text in err and everything as it was (nobody, when it was
 * the first time).
 */
int monitor_auth_open(const struct conf *conf, char *err, size_t err_size);

/* Forgets the password. */
void monitor_auth_close(void);

/*
 * To be asked first for every request: may it be answered? Its Host has to be an address,
 * "localhost" or our hostname (421 else: a name of somebody else's that was made to lead here, DNS
 * rebinding), and the password right, when there is one (401; 429 for an address that has tried too
 * often). False: it has been answered.
 */
bool monitor_auth_admit(struct httpd_conn *c, const struct httpd_request *r);

/* Are there actions? Only with a password: any user of this machine reaches a loopback address.
 * Pages show no buttons when there are none. */
bool monitor_auth_may_act(void);

/* What a form of an action has to carry in the parameter "token", hexadecimal. New with each
 * process. */
const char *monitor_auth_token(void);

/*
 * To be asked, after monitor_auth_admit, for every POST: does it come from a form of ours? It needs
 * the token in its body, and Origin and Sec-Fetch-Site, when given, must be of this origin. False:
 * it has been answered (403).
 */
bool monitor_auth_admit_action(struct httpd_conn *c, const struct httpd_request *r);

#endif
