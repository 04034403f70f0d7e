/*
 * chasq: a mail server. Options, the order of starting, signals, wiring; nothing else.
 *
 * Starting: configuration, loop, disk, logs, resolver, certificates, addresses; then root is given
 * up; then spool, what is known of domains, queue, control socket, signals, the sandbox. The doors
 * open last, and the queue's scan runs beside them, so that ten thousand waiting messages do not
 * delay the greeting. Stopping: the doors close, sessions are asked to leave, deliveries under way
 * may finish for CHASQ_STOP_MS; what is not done then is in the queue.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "auth.h"
#include "cli.h"
#include "conf.h"
#include "confine.h"
#include "config.h"
#include "control.h"
#include "courier.h"
#include "disk.h"
#include "dns.h"
#include "domaininfo.h"
#include "hold.h"
#include "listen.h"
#include "lmtp.h"
#include "log.h"
#include "loop.h"
#include "memory.h"
#include "monitor.h"
#include "priv.h"
#include "queue.h"
#include "rate.h"
#include "reload.h"
#include "remote.h"
#include "sandbox.h"
#include "spool.h"
#include "srs.h"
#include "sts.h"
#include "tls.h"

/* What the command line says. */
struct chasq_options {
	const char *dir;
	const char *override[CHASQ_OVERRIDES_MAX];
	size_t override_count;
	bool check;
	bool version;
};

static struct {
	struct conf *conf;
	struct tls_roots *roots;
	struct sts *sts;
	struct srs *srs; /* NULL: built without */
	struct hold *hold;
	struct courier lmtp, mda, maildir, pipe, remote;
	struct smtpd_setup setup;
	struct tls_certs *certs;
	struct control_setup control;
	struct monitor_setup monitor;
	char build[512]; /* options and libraries, lines */
	struct rate rate;
	struct loop_timer refresh;
	struct loop_timer stop;
	bool verbose;    /* -v */
	int64_t stop_at; /* monotonic ms; 0 while running */
	bool idle;       /* no delivery is under way any more */
} M;

static int64_t chasq_now(void)
{
	return (int64_t)time(NULL);
}

static _Noreturn void chasq_die(int code, const char *what, const char *why)
{
	fprintf(stderr, "chasq: %s%s%s\n", what, why ? ": " : "", why ? why : "");
	exit(code);
}

/* ---- options ---- */

static void chasq_usage(FILE *to)
{
	fputs("usage: chasq [-c DIR] [-o 'KEY: VALUE']... [-v] [-t] [-V] [-h]\n"
	      "       chasq COMMAND [...]\n"
	      "Runs the mail server, in the foreground.\n"
	      "  -c DIR   configuration directory (default " CONF_DIR ")\n"
	      "  -o TEXT  sets keys of chasq.conf, over what the file says\n"
	      "  -v       log more\n"
	      "  -t       check the configuration and exit\n"
	      "  -V       print version and build options and exit\n"
	      "  -h       print this and exit\n"
	      "The commands for the operator, such as queue, status and check: chasq help\n",
	      to);
}

/* Options and libraries, into M.build. */
static const char *chasq_build(void)
{
	char dns[64], idn[64], tls[64];
	dns_library(dns, sizeof dns);
	addr_library(idn, sizeof idn);
	tls_library(tls, sizeof tls);
	snprintf(M.build, sizeof M.build,
	         "options: WITH_IDN=%d WITH_TLS=%d WITH_MONITOR=%d WITH_JOURNAL=%d WITH_SPF=%d "
	         "WITH_STS=%d WITH_SANDBOX=%d WITH_LMTP=%d WITH_AUTH=%d WITH_DOVECOT=%d "
	         "WITH_PROXY=%d WITH_HOOKS=%d WITH_SENDMAIL=%d WITH_OPERATOR=%d WITH_CHECK=%d\n"
	         "libraries: %s %s%s%s\n",
	         WITH_IDN, WITH_TLS, WITH_MONITOR, WITH_JOURNAL, WITH_SPF, WITH_STS, WITH_SANDBOX,
	         WITH_LMTP, WITH_AUTH, WITH_DOVECOT, WITH_PROXY, WITH_HOOKS, WITH_SENDMAIL,
	         WITH_OPERATOR, WITH_CHECK, dns, idn, *tls ? " " : "", tls);
	return M.build;
}

static void chasq_read_options(int argc, char **argv, struct chasq_options *o)
{
	int c;
	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		argv[1] = (char *)"-h";
	else if (argc == 2 && strcmp(argv[1], "--version") == 0)
		argv[1] = (char *)"-V";
	*o = (struct chasq_options){.dir = CONF_DIR};
	while ((c = getopt(argc, argv, "c:o:vtVh")) != -1) {
		switch (c) {
		case 'c':
			o->dir = optarg;
			break;
		case 'o':
			if (o->override_count == CHASQ_OVERRIDES_MAX)
				chasq_die(2, "too many -o", NULL);
			o->override[o->override_count++] = optarg;
			break;
		case 'v':
			log_level_now = LOG_LEVEL_DEBUG;
			M.verbose = true;
			break;
		case 't':
			o->check = true;
			break;
		case 'V':
			o->version = true;
			break;
		case 'h':
			chasq_usage(stdout);
			exit(0);
		default:
			chasq_usage(stderr);
			exit(2);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "chasq: there is no command '%s'\n", argv[optind]);
		chasq_usage(stderr);
		exit(2);
	}
}

/* ---- reload ---- */

static void chasq_refresh_due(void *arg)
{
	(void)arg;
	reload_files();
	loop_timer_set(&M.refresh, CHASQ_REFRESH_MS);
}

/* What it says is in the log. */
static void chasq_on_hup(int signo)
{
	struct conf_report report;
	char err[512];
	(void)signo;
	conf_report_init(&report);
	reload_all(&report, err, sizeof err);
	conf_report_clear(&report);
}

/* ---- the end ---- */

/* Looks from time to time whether all have left. */
static void chasq_stop_check(void *arg)
{
	(void)arg;
	bool late = loop_now() >= M.stop_at;
	if (late || (M.idle && listen_sessions() == 0 && control_sessions() == 0))
		loop_stop();
	else
		loop_timer_set(&M.stop, 50);
}

static void chasq_idle(void *arg)
{
	(void)arg;
	M.idle = true;
}

static void chasq_stop(void)
{
	if (M.stop_at)
		return;
	log_info("-", "stopping", LOG_N("sessions", listen_sessions()),
	         LOG_N("deliveries", queue_active(M.setup.queue)));
	M.stop_at = loop_now() + CHASQ_STOP_MS;
	M.setup.stopping = true;
	listen_stop();
	control_stop();
	queue_drain(M.setup.queue, chasq_idle, NULL);
	loop_timer_init(&M.stop, chasq_stop_check, NULL);
	loop_timer_set(&M.stop, 0);
}

static void chasq_on_stop(int signo)
{
	log_info("-", "signal", LOG_N("number", signo));
	chasq_stop();
}

static void chasq_end(void)
{
	disk_sync_now(); /* whoever waits for the barrier gets its answer */
	listen_close();
	control_close();
	monitor_close();
	queue_free(M.setup.queue);
	remote_close();
	hold_close(M.hold);
	disk_sync_now();
	if (WITH_STS)
		sts_close(M.sts);
	dns_done();
	domaininfo_close(M.setup.domaininfo);
	tls_roots_close(M.roots);
	srs_close(M.srs);
	spool_close(M.setup.spool);
	auth_done();
	tls_certs_close(M.certs);
	log_info("-", "stopped", LOG_N("pid", getpid()));
	reload_close_logs();
	conf_free(M.conf);
	loop_done();
}

/* ---- the beginning ---- */

static const struct courier *chasq_local_courier(void)
{
	if (WITH_LMTP && M.conf->lmtp_address) {
		M.lmtp = courier_lmtp(M.conf);
		return &M.lmtp;
	}
	return M.conf->mda_bin ? &M.mda : &M.maildir;
}

static void chasq_open_queue(void)
{
	struct status st;
	M.roots = tls_roots_open(M.conf->tls_roots);
	if (!M.roots)
		chasq_die(1, "no memory", NULL);
	M.setup.spool = spool_open(M.conf->data_dir, &st);
	if (!M.setup.spool)
		chasq_die(1, M.conf->data_dir, st.text);
	M.setup.domaininfo =
	    domaininfo_open(M.conf->data_dir, M.conf->domaininfo_expire, chasq_now, &st);
	if (!M.setup.domaininfo)
		chasq_die(1, M.conf->data_dir, st.text);
	if (WITH_STS)
		M.sts = sts_open(M.conf->data_dir, M.roots, chasq_now, &st);
	if (WITH_STS && !M.sts)
		chasq_die(1, M.conf->data_dir, st.text);
	struct remote_setup remote = {.conf = M.conf,
	                              .roots = M.roots,
	                              .is_ours = listen_is_ours,
	                              .domaininfo = M.setup.domaininfo,
	                              .sts = M.sts};
	M.mda = courier_mda(M.conf);
	M.maildir = courier_maildir(M.conf);
	M.pipe = courier_pipe(M.conf);
	M.remote = courier_remote(&remote);
	M.srs = srs_open(M.conf->data_dir, &st);
	if (WITH_TLS && !M.srs)
		chasq_die(1, M.conf->data_dir, st.text);
	M.setup.srs = M.srs;
	M.hold = hold_open(M.conf->data_dir, &st);
	if (!M.hold)
		chasq_die(1, M.conf->data_dir, st.text);
	const struct queue_setup queue = {
	    .spool = M.setup.spool,
	    .conf = M.conf,
	    .couriers = {chasq_local_courier(), &M.pipe, &M.remote},
	    .srs = M.srs,
	    .hold = M.hold,
	};
	M.setup.queue = queue_new(&queue);
	if (!M.setup.queue)
		chasq_die(1, "no memory", NULL);
}

static void chasq_load_certs(void)
{
	M.certs = tls_certs_open(CHASQ_CERTS_DIR);
	if (!M.certs)
		chasq_die(1, "no memory", NULL);
	M.setup.certs = M.certs;
}

static void chasq_listen(bool give_up_root)
{
	char err[512];
	M.setup.conf = M.conf;
	M.setup.now = chasq_now;
	M.setup.rate = &M.rate;
	if (listen_open(&M.setup, give_up_root, err, sizeof err))
		chasq_die(1, err, NULL);
	if (WITH_TLS && tls_certs_count(M.certs) == 0)
		log_info("-", "no certificates, so neither TLS nor logins are offered",
		         LOG_S("directory", CHASQ_CERTS_DIR));
}

static void chasq_open_logs(void)
{
	char err[512];
	if (!M.verbose)
		log_level_now = (enum log_level)M.conf->log_level;
	if (reload_open_logs(M.conf, err, sizeof err))
		chasq_die(1, err, NULL);
}

static void chasq_monitor(void)
{
	char err[512];
	M.monitor = (struct monitor_setup){&M.setup, listen_sessions, chasq_build()};
	if (monitor_open(&M.monitor, err, sizeof err))
		chasq_die(1, err, NULL);
}

/* ---- giving up root ---- */

/* A log that root has made is opened again by the user. */
static void chasq_give_log(const char *path, const struct priv_user *user)
{
	if (path && *path && *path != '<' && priv_give_file(path, user))
		log_error("-", "the log is not the user's", LOG_S("path", path),
		          LOG_S("error", strerror(errno)));
}

static void chasq_check_dir(const char *path)
{
	if (priv_can_use(path))
		chasq_die(1, path,
		          "the user named with user: cannot write here; "
		          "give it the directory and all in it (chown -R)");
}

/* All that was read as root has to be readable for the user: it will be read again when it changes.
 * So it is read again now. */
static void chasq_read_again(const struct chasq_options *o, size_t certs)
{
	char err[512];
	char here[PATH_MAX];
	/* conf_load changed to it. */
	struct conf *conf = getcwd(here, sizeof here)
	                        ? conf_load(here, o->override, o->override_count, err, sizeof err)
	                        : NULL;
	if (!conf)
		chasq_die(1, "the user named with user: cannot read the configuration", err);
	conf_free(M.conf);
	M.conf = conf;
	M.setup.conf = conf;
	tls_certs_close(M.certs);
	chasq_load_certs();
	if (tls_certs_count(M.certs) < certs)
		chasq_die(1, CHASQ_CERTS_DIR,
		          "the user named with user: cannot read all certificates and keys; "
		          "give it their directories, or a group that may");
}

static void chasq_give_up_root(const struct chasq_options *o)
{
	struct priv_user user;
	char err[512];
	char queue[PATH_MAX];
	if (priv_find(M.conf->user, &user, err, sizeof err))
		chasq_die(1, err, NULL);
	if (priv_make_dir(M.conf->data_dir, &user))
		chasq_die(1, M.conf->data_dir, strerror(errno));
	chasq_give_log(M.conf->log_path, &user);
	chasq_give_log(M.conf->mail_log_path, &user);
	if (confine_as_root(M.conf, err, sizeof err))
		chasq_die(1, err, NULL);
	/* Delivery agents may be setuid: they deliver as the recipient. */
	if (priv_drop(&user, !M.conf->mda_bin, err, sizeof err))
		chasq_die(1, err, NULL);
	chasq_read_again(o, tls_certs_count(M.certs));
	/* The page knew the configuration that was read as root. */
	if (monitor_reload(err, sizeof err))
		chasq_die(1, "the user named with user:", err);
	snprintf(queue, sizeof queue, "%s/queue", M.conf->data_dir);
	chasq_check_dir(M.conf->data_dir);
	chasq_check_dir(queue);
	log_info("-", "root given up", LOG_S("user", M.conf->user), LOG_N("uid", getuid()));
}

static void chasq_start(const struct chasq_options *o)
{
	bool root = geteuid() == 0;
	if (loop_init())
		chasq_die(1, "starting the loop", strerror(errno));
	disk_init();
	chasq_open_logs();
	if (dns_init(M.conf->dns_servers, M.conf->dnssec_resolver))
		chasq_die(1, "starting the resolver", M.conf->dns_servers);
	chasq_load_certs();
	chasq_listen(root && M.conf->user);
	chasq_monitor();
	if (root && M.conf->user)
		chasq_give_up_root(o);
	else if (root)
		log_error("-", "running as root: set user: in chasq.conf");
	auth_init(M.conf);
	chasq_open_queue();
	char err[512];
	const struct reload_setup reload = {.conf = M.conf,
	                                    .smtpd = &M.setup,
	                                    .roots = M.roots,
	                                    .local = chasq_local_courier,
	                                    .level_is_fixed = M.verbose};
	reload_init(&reload);
	M.control = (struct control_setup){&M.setup, reload_all, chasq_stop};
	if (control_open(&M.control, err, sizeof err))
		chasq_die(1, err, NULL);
	if (loop_signal(SIGTERM, chasq_on_stop) || loop_signal(SIGINT, chasq_on_stop) ||
	    loop_signal(SIGHUP, chasq_on_hup))
		chasq_die(1, "setting signals", strerror(errno));
	loop_timer_init(&M.refresh, chasq_refresh_due, NULL);
	loop_timer_set(&M.refresh, CHASQ_REFRESH_MS);
	if (confine_enter(M.conf, err, sizeof err))
		chasq_die(1, err, NULL);
	if (listen_start(err, sizeof err))
		chasq_die(1, err, NULL);
	log_info("-", "started", LOG_S("version", CHASQ_VERSION),
	         LOG_S("hostname", M.conf->hostname), LOG_N("domains", M.conf->domain_count),
	         LOG_S("sandbox", sandbox_text()), LOG_N("pid", getpid()));
	if (!WITH_SPF)
		log_info("-", "this build has no SPF: WITH_SPF 0");
	if (!WITH_STS)
		log_info("-", "this build has no MTA-STS: WITH_STS 0");
}

int main(int argc, char **argv)
{
	struct chasq_options options;
	char err[512];
	if (cli_is_tool(argc, argv))
		return cli_run(argc, argv);
	memory_init();
	chasq_read_options(argc, argv, &options);
	if (options.version) {
		printf("chasq %s\n%s", CHASQ_VERSION, chasq_build());
		return 0;
	}
	M.conf = conf_load(options.dir, options.override, options.override_count, err, sizeof err);
	if (!M.conf)
		chasq_die(1, err, NULL);
	if (options.check) {
		puts("the configuration is good");
		conf_free(M.conf);
		return 0;
	}
	chasq_start(&options);
	int rc = loop_run();
	if (rc)
		log_error("-", "select failed", LOG_S("error", strerror(errno)));
	chasq_end();
	return rc ? 1 : 0;
}
