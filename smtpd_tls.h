/* smtpd_tls: TLS of an SMTP server session. For the files of smtpd alone. */
#ifndef SMTPD_TLS_H
#define SMTPD_TLS_H

#include "smtpd_int.h"

#define SMTPD_TLS_TEXT 80 /* bytes that are always enough for smtpd_tls_text */

/* Can this session have TLS, and so AUTH? */
bool smtpd_has_tls(const struct smtpd *s);

/* Prepares TLS and enters SMTPD_HANDSHAKE; smtpd_tls_go then begins the handshake, when the command
 * is off the input. 0, or -1 when it cannot be (no memory). */
int smtpd_tls_begin(struct smtpd *s);
int smtpd_tls_go(struct smtpd *s);

/* The handshake is done: notes and logs it. */
void smtpd_tls_done(struct smtpd *s);

/* Why TLS failed, in plain words; NULL when it did not. */
const char *smtpd_tls_why(const struct smtpd *s);

/* "TLSv1.3 TLS_AES_128_GCM_SHA256", or "" in the clear. */
const char *smtpd_tls_text(const struct smtpd *s, char out[SMTPD_TLS_TEXT]);

/* The handler of STARTTLS. */
enum smtpd_next smtpd_starttls(struct smtpd *s, struct slice args);

#endif
