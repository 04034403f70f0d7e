/* conf: chasq.conf, the domains directory, and what happens when it changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "conf.h"
#include "conf_reload.h"
#include "confvalue.h"
#include "log.h"
#include "temp_dir.h"

static char dir[TEMP_DIR_MAX];
static char err[512];
static int log_fd = -1;

static void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The pause is longer than a tick of a file system's clock: a directory's time must change. */
static void shell(const char *fmt, ...)
{
	char command[1024];
	usleep(20000);
	va_list ap;
	int n = snprintf(command, sizeof(command), "cd %s && ", dir);
	va_start(ap, fmt);
	vsnprintf(command + n, sizeof(command) - (size_t)n, fmt, ap);
	va_end(ap);
	assert_int_equal(system(command), 0);
}

static void write_file(const char *name, const char *text)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fputs(text, f) < 0, 0);
	assert_int_equal(fclose(f), 0);
}

static int set_up(void **state)
{
	(void)state;
	if (temp_dir_make(dir, sizeof dir))
		return -1;
	char path[80];
	snprintf(path, sizeof(path), "%s/log", dir);
	log_fd = open(path, O_RDWR | O_CREAT | O_APPEND, 0600);
	log_to(log_fd);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(log_fd);
	return temp_dir_remove();
}

/* How often the log has the text. */
static int logged(const char *text)
{
	static char log[65536];
	ssize_t n = pread(log_fd, log, sizeof(log) - 1, 0);
	int count = 0;
	log[n < 0 ? 0 : n] = '\0';
	for (const char *p = log; (p = strstr(p, text)) != NULL; p++)
		count++;
	return count;
}

static struct conf *load(const char *file, const char *override)
{
	if (file)
		write_file("chasq.conf", file);
	err[0] = '\0';
	return conf_load(dir, &override, override ? 1 : 0, err, sizeof(err));
}

static void expect_error(const char *file, const char *override, const char *expected)
{
	struct conf *c = load(file, override);
	if (c)
		fail_msg("accepted: %s", file);
	if (!strstr(err, expected))
		fail_msg("\"%s\" lacks \"%s\"", err, expected);
}

static void test_defaults(void **state)
{
	(void)state;
	struct conf *c = load("hostname: 'mx.example.test'", NULL);
	assert_string_equal(err, "");
	assert_non_null(c);
	assert_string_equal(c->hostname, "mx.example.test");
	assert_int_equal(c->max_data_size_mb, 50);
	assert_int_equal(c->smtp_address.count, 1);
	assert_string_equal(c->smtp_address.item[0], "systemd");
	assert_null(c->mda_bin);
	assert_int_equal(c->mda_args.count, 4);
	assert_string_equal(c->mda_args.item[3], "%to_user%");
	assert_string_equal(c->data_dir, "/var/lib/chasq");
	assert_string_equal(c->maildir, "/var/lib/chasq/mail/%to_domain%/%to_user%");
	assert_string_equal(c->suffix_separators, "+");
	assert_string_equal(c->drop_characters, ".");
	assert_false(c->local_crlf);
	assert_null(c->dns_servers);
	assert_int_equal(c->remote_smtp_port, 25);
	assert_int_equal(c->max_queue_items, CONF_MAX_QUEUE_ITEMS);
	assert_int_equal(c->give_up_send_after, 20 * 3600);
	assert_false(c->dnssec_resolver);
	assert_false(c->system_aliases);
	assert_true(c->domaininfo_expire == 0);
	assert_int_equal(c->trusted.count, 0);
	assert_int_equal(c->domain_count, 1);
	assert_non_null(conf_domain_find(c, "localhost"));
	assert_null(conf_domain_find(c, "mx.example.test"));
	conf_free(c);
	conf_free(NULL);
}

static void test_all_keys_and_overrides(void **state)
{
	(void)state;
	const char *file =
	    "# all\n"
	    "hostname: 'MX.B\303\274cher.TEST.'\n"
	    "max_data_size_mb: 10\n"
	    "smtp_address: ':25' smtp_address: '[::1]:2525', smtp_address: 'localhost:smtp'\n"
	    "mail_delivery_agent_bin: 'procmail'\n"
	    "mail_delivery_agent_args: ['-d', '%to_user%']\n"
	    "data_dir: 'data'\n"
	    "suffix_separators: '+-'\ndrop_characters: ''\n"
	    "local_line_ends: CRLF\n"
	    "dns_servers: '127.0.0.1:5353,[::1]:53,9.9.9.9'\n"
	    "remote_smtp_port: 2525\nmax_queue_items: 7\n"
	    "give_up_send_after: '1h30m'\n"
	    "trusted_network: '192.168.1.0/24' trusted_network: 'fd00::/8'\n"
	    "trusted_network: '10.1.2.3'\n"
	    "submission_address: ':submission' submission_over_tls_address: ['[::1]:465', "
	    "':submissions']\n"
	    "sender_login_check: false user: 'mail' trusted_network_rate: 0\n"
	    "dnssec_resolver: true domaininfo_expire: '720h'\n";
	struct conf *c = load(file, "smtp_address: '127.0.0.1:1025' max_data_size_mb: 3");
	assert_string_equal(err, "");
	assert_non_null(c);
	assert_string_equal(c->hostname, "mx.xn--bcher-kva.test");
	assert_int_equal(c->max_data_size_mb, 3);
	assert_int_equal(c->smtp_address.count, 1);
	assert_string_equal(c->smtp_address.item[0], "127.0.0.1:1025");
	assert_string_equal(c->mda_bin, "procmail");
	assert_int_equal(c->mda_args.count, 2);
	assert_string_equal(c->maildir, "data/mail/%to_domain%/%to_user%");
	assert_string_equal(c->drop_characters, "");
	assert_true(c->local_crlf);
	assert_int_equal(c->give_up_send_after, 5400);
	assert_true(c->dnssec_resolver);
	assert_true(c->domaininfo_expire == 30 * 86400);
	assert_int_equal(c->trusted.count, 3);

	struct buf b;
	buf_init(&b, 4096);
	conf_print(c, &b, false);
	assert_string_equal(buf_str(&b), "hostname: \"mx.xn--bcher-kva.test\"\n"
	                                 "max_data_size_mb: 3\n"
	                                 "smtp_address: \"127.0.0.1:1025\"\n"
	                                 "submission_address: \":submission\"\n"
	                                 "submission_over_tls_address: \"[::1]:465\"\n"
	                                 "submission_over_tls_address: \":submissions\"\n"
	                                 "sender_login_check: false\n"
	                                 "user: \"mail\"\n"
	                                 "mail_delivery_agent_bin: \"procmail\"\n"
	                                 "mail_delivery_agent_args: \"-d\"\n"
	                                 "mail_delivery_agent_args: \"%to_user%\"\n"
	                                 "data_dir: \"data\"\n"
	                                 "suffix_separators: \"+-\"\n"
	                                 "drop_characters: \"\"\n"
	                                 "max_queue_items: 7\n"
	                                 "give_up_send_after: \"5400s\"\n"
	                                 "maildir: \"data/mail/%to_domain%/%to_user%\"\n"
	                                 "lmtp_address: \"\"\n"
	                                 "local_line_ends: CRLF\n"
	                                 "dns_servers: \"127.0.0.1:5353,[::1]:53,9.9.9.9\"\n"
	                                 "remote_smtp_port: 2525\n"
	                                 "trusted_network: \"192.168.1.0/24\"\n"
	                                 "trusted_network: \"fd00::/8\"\n"
	                                 "trusted_network: \"10.1.2.3/32\"\n"
	                                 "tls_roots: \"\"\n"
	                                 "trusted_network_rate: 0\n"
	                                 "dovecot_auth: false\n"
	                                 "dovecot_userdb_path: \"\"\n"
	                                 "dovecot_client_path: \"\"\n"
	                                 "system_aliases: false\n"
	                                 "dnssec_resolver: true\n"
	                                 "domaininfo_expire: \"2592000s\"\n"
	                                 "log_path: \"\"\n"
	                                 "log_level: \"info\"\n"
	                                 "mail_log_path: \"<syslog>\"\n"
	                                 "monitoring_address: \"\"\n"
	                                 "monitoring_password_file: \"\"\n"
	                                 "control_mode: \"0666\"\n"
	                                 "control_owner: \"\"\n"
	                                 "haproxy_incoming: false\n"
	                                 "haproxy_trusted: \"127.0.0.0/8\"\n"
	                                 "haproxy_trusted: \"::1/128\"\n"
	                                 "sandbox: true\n");
	conf_free(c);
	c = load(buf_str(&b), NULL); /* what was printed means the same */
	assert_non_null(c);
	struct buf again;
	buf_init(&again, 4096);
	conf_print(c, &again, false);
	assert_string_equal(buf_str(&again), buf_str(&b));
	conf_free(c);
	buf_clear(&b);
	buf_clear(&again);
}

static void test_files_of_chasquid(void **state)
{
	(void)state;
	shell("rm -f chasq.conf");
	write_file("chasquid.conf", "hostname: \"h.test\"\nsubmission_address: \":587\"\n"
	                            "submission_over_tls_address: \":465\"\n"
	                            "monitoring_address: \"127.0.0.1:1099\"\n"
	                            "mail_log_path: \"<syslog>\"\ndovecot_auth: false\n"
	                            "haproxy_incoming: true\nmax_queue_items: 200\n");
	struct conf *c = load(NULL, NULL);
	assert_string_equal(err, "");
	assert_non_null(c);
	assert_int_equal(c->max_queue_items, 200);
	assert_int_equal(logged("key=submission_address"), 0);
	assert_string_equal(c->submission_address.item[0], ":587");
	assert_string_equal(c->submission_over_tls_address.item[0], ":465");
	assert_true(c->sender_login_check);
	assert_null(c->user);
	assert_int_equal(c->trusted_rate, CONF_TRUSTED_RATE);
	assert_true(c->haproxy_incoming);
	assert_int_equal(logged("key=dovecot_auth"), 0);
	conf_free(c);
	expect_error("sandbox_writable: ['/srv', 'srv']", NULL,
	             "sandbox_writable: \"srv\" is not the absolute path");
	expect_error("sandbox_readable: '/'", NULL, "sandbox_readable: \"/\" is not");
	expect_error("haproxy_trusted: '10.0.0.0/33'", NULL,
	             "haproxy_trusted: \"10.0.0.0/33\" is not");
	expect_error("haproxy_trusted: '10.0.0.1/8'", NULL,
	             "haproxy_trusted: \"10.0.0.1/8\" has bits");
	shell("rm chasquid.conf chasq.conf");
	expect_error(NULL, NULL, "/chasq.conf: No such file");
}

static void test_errors_name_file_line_and_key(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
	    {"hostname: 'a.test'\nhostnam: 'b'\n", "/chasq.conf:2: hostnam: unknown field"},
	    {"hostname: 'a.test'\nhostname: 'b'\n", "/chasq.conf:2: hostname: given twice"},
	    {"\nhostname: 'a b'\n", "/chasq.conf:2: hostname: \"a b\" is not a name"},
	    {"hostname: '[1.2.3.4]'\n", "/chasq.conf:1: hostname: "},
	    {"hostname: 'a_b.test'\n", "/chasq.conf:1: hostname: "},
	    {"max_data_size_mb: 0", "/chasq.conf:1: max_data_size_mb: 0 is not between 1 and"},
	    {"max_data_size_mb: -5", "/chasq.conf:1: max_data_size_mb: -5 is not"},
	    {"max_data_size_mb: 'x'", "/chasq.conf:1: max_data_size_mb: "},
	    {"max_queue_items: 0", "/chasq.conf:1: max_queue_items: "},
	    {"remote_smtp_port: 65536", "/chasq.conf:1: remote_smtp_port: "},
	    {"smtp_address: ''", "/chasq.conf:1: smtp_address: \"\" is not"},
	    {"submission_address: ':x'", "/chasq.conf:1: submission_address: \":x\" is not"},
	    {"submission_over_tls_address: 'a:465'",
	     "/chasq.conf:1: submission_over_tls_address: "},
	    {"trusted_network_rate: -1", "/chasq.conf:1: trusted_network_rate: -1 is not between"},
	    {"trusted_network_rate: 3600001", "trusted_network_rate: 3600001 is not between"},
	    {"smtp_address: 'host'", "/chasq.conf:1: smtp_address: \"host\" is not"},
	    {"smtp_address: '::1:25'", "/chasq.conf:1: smtp_address: "},
	    {"smtp_address: '[::1:25'", "/chasq.conf:1: smtp_address: "},
	    {"smtp_address: '[::1]25'", "/chasq.conf:1: smtp_address: "},
	    {"smtp_address: ':0'", "/chasq.conf:1: smtp_address: "},
	    {"smtp_address: ':99999'", "/chasq.conf:1: smtp_address: "},
	    {"smtp_address: 'mx.test:25'", "/chasq.conf:1: smtp_address: "},
	    {"smtp_address: 'a b:25'", "/chasq.conf:1: smtp_address: "},
	    {"dns_servers: 'dns.test'", "/chasq.conf:1: dns_servers: \"dns.test\" is not"},
	    {"dns_servers: '1.2.3.4,'", "/chasq.conf:1: dns_servers: "},
	    {"dns_servers: '1.2.3.4:x'", "/chasq.conf:1: dns_servers: "},
	    {"local_line_ends: MAC", "/chasq.conf:1: local_line_ends: "},
	    {"maildir: '/m/%user%'", "/chasq.conf:1: maildir: nothing is put in for %user%"},
	    {"give_up_send_after: '2d'", "/chasq.conf:1: give_up_send_after: \"2d\" is not a time"},
	    {"give_up_send_after: '0s'", "/chasq.conf:1: give_up_send_after: \"0s\" is less"},
	    {"domaininfo_expire: '30d'", "/chasq.conf:1: domaininfo_expire: \"30d\" is not a time"},
	    {"domaininfo_expire: '0h'", "/chasq.conf:1: domaininfo_expire: \"0h\" is less"},
	    {"dnssec_resolver: 'yes'", "/chasq.conf:1: "},
	    {"system_aliases: 1.5", "/chasq.conf:1: "},
	    {"trusted_network: '10.0.0.0/33'", "/chasq.conf:1: trusted_network: "},
	    {"trusted_network: '10.0.0.1/24'", "bits set behind the first 24"},
	    {"trusted_network: 'lan'", "/chasq.conf:1: trusted_network: \"lan\" is not"},
	    {"trusted_network: '0.0.0.0/0'", "holds public addresses"},
	    {"trusted_network: '10.0.0.0/7'", "holds public addresses"},
	    {"trusted_network: '172.32.0.0/16'", "holds public addresses"},
	    {"trusted_network: '192.0.0.0/8'", "holds public addresses"},
	    {"trusted_network: '::/0'", "holds public addresses"},
	    {"trusted_network: '2001:db8::/32'", "holds public addresses"},
	    {"trusted_network: '::ffff:10.0.0.0/104'", "holds public addresses"},
	    {"hostname: 'a.test", "/chasq.conf:1: "},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		expect_error(cases[i][0], NULL, cases[i][1]);
	expect_error("hostname: 'a.test'", "max_data_size_mb: 0", "-o:1: max_data_size_mb: 0");
	expect_error("hostname: 'a.test'", "what: 0", "-o:1: what: unknown field");
	strcat(dir, "/x");
	expect_error(NULL, NULL, "/x/chasq.conf: No such file");
	dir[strlen(dir) - 2] = '\0';
}

static bool trusted(const struct conf *c, const char *address)
{
	struct dns_addr a;
	assert_int_equal(dns_addr_parse(&a, slice_of(address)), 0);
	return conf_is_trusted(c, &a);
}

static void test_trusted_networks(void **state)
{
	(void)state;
	struct conf *c =
	    load("hostname: 'a.test' trusted_network: ['192.168.4.0/22', 'fd00:1::/32',"
	         "'127.0.0.1', '::1', '169.254.0.0/16', 'fe80::/10', '100.64.0.0/10',"
	         "'203.0.113.128/25'] trusted_network_public: true",
	         NULL);
	assert_string_equal(err, "");
	assert_non_null(c);
	assert_true(trusted(c, "192.168.4.0"));
	assert_true(trusted(c, "192.168.7.255"));
	assert_false(trusted(c, "192.168.8.0"));
	assert_false(trusted(c, "192.168.3.255"));
	assert_true(trusted(c, "127.0.0.1"));
	assert_false(trusted(c, "127.0.0.2"));
	assert_true(trusted(c, "::1"));
	assert_false(trusted(c, "::2"));
	assert_true(trusted(c, "fd00:1:ffff::1"));
	assert_false(trusted(c, "fd00:2::1"));
	assert_true(trusted(c, "203.0.113.200"));
	assert_false(trusted(c, "203.0.113.100"));
	assert_false(trusted(c, "8.8.8.8"));
	assert_false(trusted(c, "c0a8:0400::")); /* the bytes of 192.168.4.0 */
	conf_free(c);
}

static bool proxy(const struct conf *c, const char *ip)
{
	struct dns_addr a;
	assert_int_equal(dns_addr_parse(&a, slice_of(ip)), 0);
	return conf_is_proxy(c, &a);
}

static void test_proxies(void **state)
{
	(void)state;
	struct conf *c = load("haproxy_trusted: ['192.0.2.0/28', '2001:db8::5']", NULL);
	assert_non_null(c);
	assert_false(c->haproxy_incoming);
	assert_true(proxy(c, "192.0.2.15"));
	assert_false(proxy(c, "192.0.2.16"));
	assert_true(proxy(c, "2001:db8::5"));
	assert_false(proxy(c, "127.0.0.1"));
	conf_free(c);
	/* Together with trusted networks; by default the proxy is on this machine. */
	c = load("haproxy_incoming: true trusted_network: '10.0.0.0/8'", NULL);
	assert_non_null(c);
	assert_true(c->haproxy_incoming);
	assert_true(proxy(c, "127.0.0.1"));
	assert_true(proxy(c, "127.9.9.9"));
	assert_true(proxy(c, "::1"));
	assert_false(proxy(c, "10.0.0.1"));
	assert_false(trusted(c, "127.0.0.1"));
	conf_free(c);
}

static void test_dovecot_keys(void **state)
{
	(void)state;
	char longer[200] = "dovecot_client_path: '/";
	struct buf out;
	struct conf *c = load("dovecot_auth: true dovecot_userdb_path: '/run/u' "
	                      "dovecot_client_path: ''",
	                      NULL);
	assert_non_null(c);
	assert_true(c->dovecot_auth);
	assert_string_equal(c->dovecot_userdb_path, "/run/u");
	assert_null(c->dovecot_client_path);
	buf_init(&out, 10000);
	conf_print(c, &out, false);
	assert_non_null(
	    strstr(buf_str(&out), "dovecot_auth: true\ndovecot_userdb_path: \"/run/u\"\n"));
	buf_clear(&out);
	conf_free(c);
	memset(longer + strlen(longer), 'x', 120);
	longer[strlen(longer)] = '\'';
	expect_error(longer, NULL, "dovecot_client_path: too long for a socket's path");
}

static void test_lmtp_address(void **state)
{
	(void)state;
	static const char *const good[] = {"unix:/run/dovecot/lmtp", "127.0.0.1:24", "[::1]:2424",
	                                   "store.example:24"};
	static const char *const bad[] = {
	    "unix:",          "/run/dovecot/lmtp", "localhost", "localhost:",     ":24",
	    "localhost:lmtp", "localhost:0",       "::1:24",    "localhost:65536"};
	char text[300];
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		struct buf out;
		snprintf(text, sizeof text, "lmtp_address: \"%s\"\n", good[i]);
		struct conf *c = load(text, NULL);
		assert_non_null(c);
		assert_string_equal(c->lmtp_address, good[i]);
		buf_init(&out, 10000);
		conf_print(c, &out, false);
		assert_non_null(strstr(buf_str(&out), text));
		buf_clear(&out);
		conf_free(c);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(text, sizeof text, "lmtp_address: '%s'", bad[i]);
		expect_error(text, NULL, "is not unix:PATH or host:port");
	}
	snprintf(text, sizeof text, "lmtp_address: 'unix:/%0200d'", 0);
	expect_error(text, NULL, "is not unix:PATH or host:port");
	expect_error("lmtp_address: 'unix:/x' mail_delivery_agent_bin: 'procmail'", NULL,
	             "lmtp_address: mail_delivery_agent_bin is set too");
	struct conf *c = load("lmtp_address: ''", "mail_delivery_agent_bin: ''");
	assert_non_null(c);
	assert_null(c->lmtp_address);
	conf_free(c);
}

static void test_logs(void **state)
{
	(void)state;
	static const char *const levels[] = {"error", "info", "debug"};
	char text[100];
	struct conf *c = load("hostname: 'h.test'", NULL);
	assert_null(c->log_path);
	assert_int_equal(c->log_level, LOG_LEVEL_INFO);
	assert_string_equal(c->mail_log_path, "<syslog>");
	conf_free(c);
	for (int i = 0; i < 3; i++) {
		snprintf(text, sizeof text, "log_level: '%s'", levels[i]);
		c = load(text, "log_path: '/var/log/x' mail_log_path: ''");
		assert_int_equal(c->log_level, i);
		assert_string_equal(c->log_path, "/var/log/x");
		assert_string_equal(c->mail_log_path, "");
		conf_free(c);
	}
	c = load("log_path: '<stdout>' mail_log_path: '<syslog:/run/log>' log_level: ''", NULL);
	assert_string_equal(c->log_path, "<stdout>");
	assert_string_equal(c->mail_log_path, "<syslog:/run/log>");
	conf_free(c);
	expect_error("log_level: 'loud'", NULL, "log_level: \"loud\" is not error, info or debug");
	expect_error("log_path: '<sysleg>'", NULL, "log_path: \"<sysleg>\" is not <syslog>");
	expect_error("mail_log_path: '<syslog:x>'", NULL, "mail_log_path: ");
}

static void test_monitoring(void **state)
{
	(void)state;
	static const char *const good[] = {"127.0.0.1:1099", "127.9.9.9:1", "[::1]:65535",
	                                   "localhost:80"};
	static const char *const bad[] = {"",           ":1099",        "127.0.0.1",
	                                  "127.0.0.1:", "name.test:80", "::1:80",
	                                  "[::1]",      "127.0.0.1:0"};
	char text[200];
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		snprintf(text, sizeof text, "monitoring_address: \"%s\"\n", good[i]);
		struct conf *c = load(text, NULL);
		assert_non_null(c);
		assert_string_equal(c->monitoring_address, good[i]);
		conf_free(c);
	}
	for (size_t i = 1; i < sizeof bad / sizeof *bad; i++) {
		snprintf(text, sizeof text, "monitoring_address: \"%s\"\n", bad[i]);
		expect_error(text, NULL, "is not address:port or [IPv6]:port");
	}
	expect_error("monitoring_address: '0.0.0.0:80'", NULL, "is not of this machine alone");
	expect_error("monitoring_address: '[::]:80'", "monitoring_password_file: ''",
	             "is not of this machine alone");
	expect_error("monitoring_address: '192.168.1.1:80'", NULL, "is not of this machine alone");
	struct conf *c =
	    load("monitoring_address: '192.168.1.1:80'", "monitoring_password_file: 'secret'");
	assert_string_equal(c->monitoring_password_file, "secret");
	conf_free(c);
	c = load("monitoring_address: ''", NULL);
	assert_null(c->monitoring_address);
	conf_free(c);
}

static void test_control_keys(void **state)
{
	(void)state;
	struct conf *c = load("control_mode: '0660' control_owner: 'root:mail' "
	                      "control_users: 'anna' control_users: 'otto'",
	                      NULL);
	assert_non_null(c);
	assert_int_equal(c->control_mode, 0660);
	assert_string_equal(c->control_owner, "root:mail");
	assert_int_equal(c->control_users.count, 2);
	assert_string_equal(c->control_users.item[1], "otto");
	conf_free(c);
	c = load("control_owner: ':mail' control_mode: '600'", NULL);
	assert_int_equal(c->control_mode, 0600);
	conf_free(c);
	c = load("hostname: 'h.test'", NULL);
	assert_int_equal(c->control_mode, 0666);
	assert_null(c->control_owner);
	assert_int_equal(c->control_users.count, 0);
	conf_free(c);
	expect_error("control_mode: '0680'", NULL, "is not a mode");
	expect_error("control_mode: '01666'", NULL, "is not a mode");
	expect_error("control_mode: '-1'", NULL, "is not a mode");
	expect_error("control_mode: '777777777777777777777'", NULL, "is not a mode");
	expect_error("control_mode: '0066'", NULL, "locks out the owner");
	expect_error("control_owner: ':'", NULL, "is not user:group");
	expect_error("control_owner: 'a:'", NULL, "is not user:group");
	expect_error("control_owner: 'a:b:c'", NULL, "is not user:group");
	expect_error("control_users: 'a:b'", NULL, "is not the name of a user");
	expect_error("control_users: ''", NULL, "is not the name of a user");
}

static void test_origins(void **state)
{
	(void)state;
	struct conf *c = load("hostname: 'h.test'\n\nmax_queue_items: 7\n"
	                      "smarthost {\n  address: 'relay.test'\n  tls: NONE\n}\n"
	                      "smtp_address: ':1025'\nsmtp_address: ':1026'\n",
	                      "suffix_separators: '-'");
	struct buf out;
	assert_non_null(c);
	buf_init(&out, 10000);
	conf_print(c, &out, true);
	static const char *const lines[] = {
	    "hostname: \"h.test\" # chasq.conf:1\n", "max_queue_items: 7 # chasq.conf:3\n",
	    "smarthost { # chasq.conf:4\n",          "smtp_address: \":1026\" # chasq.conf:8\n",
	    "suffix_separators: \"-\" # -o\n",       "drop_characters: \".\" # default\n",
	    "\nremote_smtp_port: 25 # default\n",    "# trusted_network: none # default\n"};
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		assert_non_null(strstr(buf_str(&out), lines[i]));
	conf_free(c);
	/* With its comments it is a configuration. */
	c = load(buf_str(&out), NULL);
	assert_non_null(c);
	assert_int_equal(c->max_queue_items, 7);
	conf_free(c);
	buf_clear(&out);
}

static void test_duration(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int64_t seconds; /* -1: refused */
	} cases[] = {
	    {"20h", 72000},    {"1h30m", 5400},
	    {"2.5h", 9000},    {"90s", 90},
	    {"1.5s", 1},       {"500ms", 0},
	    {"0", 0},          {"+5m", 300},
	    {".5h", 1800},     {"1.h", 3600},
	    {"1000000us", 1},  {"1\302\265s", 0},
	    {"", -1},          {"5", -1},
	    {"h", -1},         {".h", -1},
	    {"1d", -1},        {"1h ", -1},
	    {"1h5", -1},       {"99999999999h", -1},
	    {"1h1h1h", 10800}, {"9000000000000000000ns", 9000000000},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int64_t s = -1;
		if (conf_duration(cases[i].text, &s) != (cases[i].seconds < 0 ? -1 : 0) ||
		    s != cases[i].seconds)
			fail_msg("%s: %lld", cases[i].text, (long long)s);
	}
	int64_t s;
	assert_int_equal(conf_duration("-2m", &s), 0);
	assert_true(s == -120);
}

static const char base[] = "hostname: 'h.test' data_dir: 'data'";

static void test_domains(void **state)
{
	(void)state;
	shell("rm -rf domains && mkdir -p domains/One.Test domains/xn--bcher-kva.test elsewhere"
	      " domains/.git && ln -s ../elsewhere domains/link.test && touch domains/README"
	      " && ln -s nowhere domains/broken");
	write_file("domains/One.Test/users", "users { key: 'u' }");
	write_file("domains/One.Test/aliases", "a: u\nb: u\n");
	struct conf *c = load(base, NULL);
	assert_string_equal(err, "");
	assert_non_null(c);
	assert_int_equal(c->domain_count, 4);
	const struct conf_domain *d = conf_domain_find(c, "one.test");
	assert_non_null(d);
	assert_int_equal(user_count(d->users), 1);
	assert_int_equal(alias_count(d->aliases), 2);
	assert_non_null(conf_domain_find(c, "b\303\274cher.test"));
	assert_non_null(conf_domain_find(c, "link.test"));
	assert_non_null(conf_domain_find(c, "localhost"));
	assert_null(conf_domain_find(c, ""));
	assert_null(conf_domain_find(c, "two.test"));
	conf_free(c);
	shell("mkdir domains/ONE.test");
	expect_error(base, NULL, "this is the same domain as domains/");
	shell("rmdir domains/ONE.test && mkdir 'domains/not a domain'");
	expect_error(base, NULL, "domains/not a domain: this is not the name");
	shell("rmdir 'domains/not a domain' && echo broken > domains/One.Test/aliases");
	expect_error(base, NULL, "domains/One.Test/aliases:1: no ':'");
	shell("rm domains/One.Test/aliases && echo 'x' > domains/One.Test/users");
	expect_error(base, NULL, "domains/One.Test/users:");
	shell("rm -rf domains && touch domains");
	expect_error(base, NULL, "domains: Not a directory");
	shell("rm domains");
}

static void test_refresh(void **state)
{
	(void)state;
	shell("rm -rf domains && mkdir -p domains/one.test");
	write_file("domains/one.test/users", "users { key: 'u' }");
	write_file("domains/one.test/aliases", "a: u\n");
	struct conf *c = load(base, NULL);
	assert_non_null(c);
	assert_int_equal(conf_refresh(c), 0);

	write_file("domains/one.test/aliases", "a: u\nb: u\n");
	assert_int_equal(conf_refresh(c), 1);
	assert_int_equal(alias_count(conf_domain_find(c, "one.test")->aliases), 2);
	assert_int_equal(conf_refresh(c), 0);

	write_file("domains/one.test/aliases", "a: u\nb: u\nbroken\n");
	write_file("domains/one.test/users", "users { key: 'u' } users { key: 'v' }");
	int before = logged("aliases:3: no ':'");
	assert_int_equal(conf_refresh(c), 1);
	assert_int_equal(conf_refresh(c), 0);
	assert_int_equal(logged("aliases:3: no ':'"), before + 1);
	assert_int_equal(alias_count(conf_domain_find(c, "one.test")->aliases), 2);
	assert_int_equal(user_count(conf_domain_find(c, "one.test")->users), 2);

	shell("rm domains/one.test/aliases");
	assert_int_equal(conf_refresh(c), 1);
	assert_int_equal(alias_count(conf_domain_find(c, "one.test")->aliases), 0);
	conf_free(c);
}

static void test_refresh_of_the_list(void **state)
{
	(void)state;
	shell("rm -rf domains");
	struct conf *c = load(base, NULL);
	assert_non_null(c);
	assert_int_equal(c->domain_count, 1);

	shell("mkdir -p domains/two.test domains/localhost");
	write_file("domains/two.test/users", "users { key: 'u' }");
	write_file("domains/two.test/aliases", "x: u\n");
	assert_true(conf_refresh(c) >= 2);
	assert_int_equal(c->domain_count, 2);
	assert_int_equal(alias_count(conf_domain_find(c, "two.test")->aliases), 1);

	/* A new domain whose files are bad is ours; its mail waits. */
	shell("mkdir -p domains/bad.test && echo broken > domains/bad.test/aliases");
	conf_refresh(c);
	assert_int_equal(c->domain_count, 3);
	assert_true(conf_domain_find(c, "bad.test")->unread);
	assert_false(conf_domain_find(c, "two.test")->unread);
	assert_int_equal(alias_count(conf_domain_find(c, "two.test")->aliases), 1);
	write_file("domains/bad.test/aliases", "y: u@two.test\n");
	conf_refresh(c);
	assert_false(conf_domain_find(c, "bad.test")->unread);

	/* Two spellings: the list stays. */
	shell("mkdir -p domains/TWO.test");
	conf_refresh(c);
	conf_refresh(c);
	assert_int_equal(logged("the list of domains stays as it was"), 1);
	assert_int_equal(c->domain_count, 3);
	assert_int_equal(alias_count(conf_domain_find(c, "two.test")->aliases), 1);

	/* The other spelling alone has files of its own. */
	shell("rm -rf domains/two.test && echo 'p: u' > domains/TWO.test/aliases &&"
	      " echo 'q: u' >> domains/TWO.test/aliases");
	conf_refresh(c);
	assert_int_equal(alias_count(conf_domain_find(c, "two.test")->aliases), 2);
	assert_int_equal(user_count(conf_domain_find(c, "two.test")->users), 0);

	shell("rm -rf domains");
	conf_refresh(c);
	assert_int_equal(c->domain_count, 1);
	assert_non_null(conf_domain_find(c, "localhost"));
	assert_null(conf_domain_find(c, "two.test"));
	conf_free(c);
}

static void test_find_data_dir(void **state)
{
	(void)state;
	char expected[128];
	write_file("chasq.conf", "data_dir: 'data'");
	char *s = conf_find_data_dir(dir);
	snprintf(expected, sizeof(expected), "%s/data", dir);
	assert_string_equal(s, expected);
	free(s);
	write_file("chasq.conf", "data_dir: '/x/y'");
	s = conf_find_data_dir(dir);
	assert_string_equal(s, "/x/y");
	free(s);
	write_file("chasq.conf", "hostname: {\n max_data_size_mb: x\n  data_dir: '/good' # yes\n");
	s = conf_find_data_dir(dir);
	assert_string_equal(s, "/good");
	free(s);
	s = conf_find_data_dir("/nonexistent");
	assert_string_equal(s, CONF_DATA_DIR);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_all_keys_and_overrides),
	    cmocka_unit_test(test_files_of_chasquid),
	    cmocka_unit_test(test_errors_name_file_line_and_key),
	    cmocka_unit_test(test_trusted_networks),
	    cmocka_unit_test(test_proxies),
	    cmocka_unit_test(test_dovecot_keys),
	    cmocka_unit_test(test_lmtp_address),
	    cmocka_unit_test(test_logs),
	    cmocka_unit_test(test_monitoring),
	    cmocka_unit_test(test_control_keys),
	    cmocka_unit_test(test_origins),
	    cmocka_unit_test(test_duration),
	    cmocka_unit_test(test_domains),
	    cmocka_unit_test(test_refresh),
	    cmocka_unit_test(test_refresh_of_the_list),
	    cmocka_unit_test(test_find_data_dir),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
