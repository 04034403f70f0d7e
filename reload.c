/*
 * reload: what SIGHUP and `chasq reload` do.
 *
 * chasq.conf is taken over first, as a whole or not at all; then each module that keeps something
 * made from it is told. What a module cannot do keeps the old value, and the report says why. No
 * session and no delivery ends for it.
 */
#include "reload.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "confine.h"
#include "control.h"
#include "dns.h"
#include "domaininfo.h"
#include "listen.h"
#include "log.h"
#include "log_sink.h"
#include "maillog.h"
#include "monitor.h"
#include "queue.h"
#include "remote.h"

static struct {
	struct reload_setup setup;
	struct log_sink *log;
} R;

void reload_init(const struct reload_setup *setup)
{
	R.setup = *setup;
}

/* ---- logs ---- */

static int reload_open_log(const char *path, char *err, size_t err_size)
{
	/* Standard error too: who reads it may be stuck, and a sink does not wait. */
	struct log_sink *sink =
	    log_sink_open(path ? path : "<stderr>", "chasq", path != NULL, err, err_size);
	if (!sink)
		return -1;
	log_use(sink);
	log_sink_close(R.log);
	R.log = sink;
	return 0;
}

int reload_open_logs(const struct conf *conf, char *err, size_t err_size)
{
	if (reload_open_log(conf->log_path, err, err_size))
		return -1;
	return maillog_open(conf->mail_log_path, err, err_size);
}

void reload_close_logs(void)
{
	maillog_close();
	log_use(NULL);
	log_sink_close(R.log);
	R.log = NULL;
}

/* After a rotation. */
static void reload_reopen_logs(void)
{
	if (R.log && log_sink_reopen(R.log))
		log_error("-", "the log cannot be opened again",
		          LOG_S("path", R.setup.conf->log_path), LOG_S("error", strerror(errno)));
	if (maillog_reopen())
		log_error("-", "the mail log cannot be opened again",
		          LOG_S("path", R.setup.conf->mail_log_path),
		          LOG_S("error", strerror(errno)));
}

/* ---- what the configuration changes ---- */

static bool changed(const struct conf_report *r, const char *key)
{
	return conf_reload_changed(R.setup.conf, r, key);
}

static void refuse(struct conf_report *r, const char *key, const char *why)
{
	conf_reload_refuse(R.setup.conf, r, key, why);
}

static void reload_logs(struct conf_report *r)
{
	const struct conf *c = R.setup.conf;
	char err[256] = "";
	if (!R.setup.level_is_fixed)
		log_level_now = (enum log_level)c->log_level;
	else if (changed(r, "log_level"))
		refuse(r, "log_level", "-v on the command line decides");
	if (changed(r, "log_path") && reload_open_log(c->log_path, err, sizeof err))
		refuse(r, "log_path", err);
	if (changed(r, "mail_log_path") && maillog_open(c->mail_log_path, err, sizeof err))
		refuse(r, "mail_log_path", err);
}

static void reload_resolver(struct conf_report *r)
{
	const struct conf *c = R.setup.conf;
	if (!changed(r, "dns_servers") && !changed(r, "dnssec_resolver")) {
		dns_reload();
		return;
	}
	if (dns_set_servers(c->dns_servers, c->dnssec_resolver) == 0)
		return;
	if (changed(r, "dns_servers"))
		refuse(r, "dns_servers", "the resolver cannot be started with them");
	if (changed(r, "dnssec_resolver"))
		refuse(r, "dnssec_resolver", "the resolver cannot be started anew");
}

/* What a delivery goes by. */
static void reload_deliveries(struct conf_report *r)
{
	const struct conf *c = R.setup.conf;
	if (changed(r, "tls_roots") && tls_roots_set(R.setup.roots, c->tls_roots))
		refuse(r, "tls_roots", "out of memory");
	if (changed(r, "domaininfo_expire"))
		domaininfo_set_expire(R.setup.smtpd->domaininfo, c->domaininfo_expire);
	remote_reload();
	if (changed(r, "lmtp_address") || changed(r, "mail_delivery_agent_bin"))
		queue_set_local(R.setup.smtpd->queue, R.setup.local());
	if (changed(r, "mail_delivery_agent_bin") && c->mda_bin &&
	    prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		buf_puts(&r->text,
		         "note: mail_delivery_agent_bin runs without the rights of a setuid "
		         "program, and in the sandbox, until a restart\n");
}

/* The text without the key that it may begin with. */
static const char *reload_why(const char *err, const char *key)
{
	return strncmp(err, key, strlen(key)) == 0 ? err + strlen(key) : err;
}

static void reload_doors(struct conf_report *r)
{
	const struct conf *c = R.setup.conf;
	char err[256] = "";
	r->refused += listen_reload(&r->text);
	if (monitor_reload(err, sizeof err)) {
		if (changed(r, "monitoring_password_file"))
			refuse(r, "monitoring_password_file", "see monitoring_address");
		refuse(r, "monitoring_address", reload_why(err, "monitoring_address: "));
	}
	if (control_apply(c)) {
		r->refused++;
		buf_puts(&r->text, "refused control_mode, control_owner: see the log\n");
	}
}

/* ---- the whole ---- */

void reload_files(void)
{
	size_t files = conf_refresh(R.setup.conf) + tls_certs_refresh(R.setup.smtpd->certs);
	if (files > 0)
		log_info("-", "reloaded", LOG_N("files", files));
}

int reload_all(struct conf_report *r, char *err, size_t err_size)
{
	reload_reopen_logs();
	if (R.setup.smtpd->stopping) {
		snprintf(err, err_size, "chasq is stopping");
		return -1;
	}
	if (conf_reload(R.setup.conf, r, err, err_size) < 0) {
		log_error("-", "the configuration stays as it was", LOG_S("reason", err));
		return -1;
	}
	confine_check(R.setup.conf, r);
	reload_logs(r);
	reload_resolver(r);
	reload_deliveries(r);
	r->files += tls_certs_refresh(R.setup.smtpd->certs);
	reload_doors(r);
	buf_printf(&r->text, "files read %zu\n", r->files);
	conf_reload_end(R.setup.conf, r);
	log_info("-", "reloaded", LOG_N("files", r->files), LOG_N("changed", r->changed),
	         LOG_N("refused", r->refused));
	return 0;
}
