/* remote_hosts: which hosts an attempt of the SMTP courier tries, and in which order. */
#ifndef REMOTE_HOSTS_H
#define REMOTE_HOSTS_H

#include "remote_int.h"

/* Makes the list of hosts and goes on, or ends the attempt where there can be none. */
void remote_hosts_begin(struct attempt *a);

/* Finds what the attempt's place is called in the pool, before anything is looked up. */
void remote_hosts_name(struct attempt *a);

/* Is there something to look up before the host at the position may be tried? */
bool remote_hosts_must_resolve(const struct attempt *a);
/* The hosts of `via` (which keeps its form) in A-labels, as DNS and TLS want them; the caller
 * frees. NULL without memory. */
char *remote_hosts_via(const char *via);

/* Looks up the next host. False when that took no time. */
bool remote_hosts_resolve(struct attempt *a);

/* Looks up the TLSA records of the host at the position. False when that is done, or not to be. */
bool remote_hosts_find_tlsa(struct attempt *a);

/* The position moves to the next host. */
void remote_hosts_next(struct attempt *a);

/* Forgets what the hosts own; look-ups under way end. */
void remote_hosts_clear(struct attempt *a);

/* Is this the name of this machine? */
bool remote_is_our_name(const char *name);

#endif
