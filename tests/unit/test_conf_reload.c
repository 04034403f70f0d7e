/* conf_reload: every key changes while running, and back; what is refused; a bad file. */
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
#include "log.h"
#include "temp_dir.h"

static const char base[] = "hostname: 'h.test'\n";

static char dir[TEMP_DIR_MAX];
static char err[512];
static struct conf_report report;

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int set_up(void **state)
{
	(void)state;
	if (temp_dir_make(dir, sizeof dir) || chdir(dir))
		return -1;
	log_to(-1);
	umask(022);
	return mkdir("domains", 0755) || mkdir("domains/one.test", 0755);
}

static int tear_down(void **state)
{
	(void)state;
	return temp_dir_remove();
}

static struct conf *load(const char *text, const char *override)
{
	write_file("chasq.conf", text);
	struct conf *c = conf_load(dir, &override, override != NULL, err, sizeof(err));
	if (!c)
		fail_msg("%s", err);
	return c;
}

/* With this text added to the base. Returns the report, which lives until the next call. */
static const char *reload(struct conf *c, const char *text)
{
	char all[4096];
	bool whole = strncmp(text, "hostname:", 9) == 0;
	snprintf(all, sizeof(all), "%s%s\n", whole ? "" : base, text);
	write_file("chasq.conf", all);
	conf_report_clear(&report);
	conf_report_init(&report);
	if (conf_reload(c, &report, err, sizeof(err)) < 0)
		fail_msg("%s: %s", text, err);
	conf_reload_end(c, &report);
	return buf_str(&report.text);
}

static void assert_line(const char *text, const char *line)
{
	char whole[1000];
	snprintf(whole, sizeof(whole), "%s\n", line);
	const char *at = strstr(text, whole);
	if (!at || (at != text && at[-1] != '\n'))
		fail_msg("no line \"%s\" in \"%s\"", line, text);
}

static void print(const struct conf *c, struct buf *out)
{
	buf_init(out, 100000);
	conf_print(c, out, true);
	assert_false(out->failed);
}

/* ---- every key ---- */

static const struct {
	const char *text;
	const char *line; /* in the report */
	const char
	    *back; /* in that of going back; NULL: the same the other way round is not looked at */
} keys[] = {
    {"hostname: 'other.test'", "changed hostname: \"h.test\" -> \"other.test\"",
     "changed hostname: \"other.test\" -> \"h.test\""},
    {"max_data_size_mb: 3", "changed max_data_size_mb: 50 -> 3", NULL},
    {"smtp_address: ':1025' smtp_address: '[::1]:1026'",
     "changed smtp_address: \"systemd\" -> \":1025\" \"[::1]:1026\"", NULL},
    {"submission_address: ':1587'", "changed submission_address: \"systemd\" -> \":1587\"", NULL},
    {"submission_over_tls_address: ':1465'",
     "changed submission_over_tls_address: \"systemd\" -> \":1465\"", NULL},
    {"sender_login_check: false", "changed sender_login_check: true -> false", NULL},
    {"mail_delivery_agent_bin: 'procmail'", "changed mail_delivery_agent_bin: \"\" -> \"procmail\"",
     "changed mail_delivery_agent_bin: \"procmail\" -> \"\""},
    {"mail_delivery_agent_args: '-d'",
     "changed mail_delivery_agent_args: \"-f\" \"%from%\" \"-d\" \"%to_user%\" -> \"-d\"", NULL},
    {"suffix_separators: '-'", "changed suffix_separators: \"+\" -> \"-\"", NULL},
    {"drop_characters: ''", "changed drop_characters: \".\" -> \"\"", NULL},
    {"max_queue_items: 9", "changed max_queue_items: 10000 -> 9", NULL},
    {"give_up_send_after: '1h'", "changed give_up_send_after: \"72000s\" -> \"3600s\"", NULL},
    {"maildir: '/m/%to_user%'",
     "changed maildir: \"/var/lib/chasq/mail/%to_domain%/%to_user%\" -> \"/m/%to_user%\"", NULL},
    {"lmtp_address: 'unix:/run/lmtp'", "changed lmtp_address: \"\" -> \"unix:/run/lmtp\"", NULL},
    {"local_line_ends: CRLF", "changed local_line_ends: LF -> CRLF", NULL},
    {"dns_servers: '127.0.0.1:53'", "changed dns_servers: \"\" -> \"127.0.0.1:53\"", NULL},
    {"remote_smtp_port: 26", "changed remote_smtp_port: 25 -> 26", NULL},
    {"trusted_network: '10.0.0.0/8' trusted_network: 'fd00::/8'",
     "changed trusted_network: none -> \"10.0.0.0/8\" \"fd00::/8\"",
     "changed trusted_network: \"10.0.0.0/8\" \"fd00::/8\" -> none"},
    {"trusted_network: '9.0.0.0/8' trusted_network_public: true",
     "changed trusted_network_public: none -> true", NULL},
    {"trusted_network_rate: 0", "changed trusted_network_rate: 1000 -> 0", NULL},
    {"tls_roots: '/r'", "changed tls_roots: \"\" -> \"/r\"", NULL},
    {"smarthost { address: 'relay.test' tls: NONE }",
     "changed smarthost: none -> { address: \"relay.test:25\" tls: NONE auth: BEST sender: \"*\" "
     "insecure: false }",
     NULL},
    {"masquerade { from: '*' to: '*@out.test' }",
     "changed masquerade: none -> { from: \"*\" to: \"*@out.test\" }", NULL},
    {"dovecot_auth: true", "changed dovecot_auth: false -> true", NULL},
    {"dovecot_userdb_path: '/u'", "changed dovecot_userdb_path: \"\" -> \"/u\"", NULL},
    {"dovecot_client_path: '/c'", "changed dovecot_client_path: \"\" -> \"/c\"", NULL},
    {"system_aliases: true", "changed system_aliases: false -> true", NULL},
    {"dnssec_resolver: true", "changed dnssec_resolver: false -> true", NULL},
    {"domaininfo_expire: '24h'", "changed domaininfo_expire: \"\" -> \"86400s\"", NULL},
    {"log_path: '/l'", "changed log_path: \"\" -> \"/l\"", NULL},
    {"log_level: 'debug'", "changed log_level: \"info\" -> \"debug\"", NULL},
    {"mail_log_path: ''", "changed mail_log_path: \"<syslog>\" -> \"\"", NULL},
    {"monitoring_address: '127.0.0.1:1'", "changed monitoring_address: \"\" -> \"127.0.0.1:1\"",
     NULL},
    {"monitoring_password_file: 'p'", "changed monitoring_password_file: \"\" -> \"p\"", NULL},
    {"control_mode: '0600'", "changed control_mode: \"0666\" -> \"0600\"", NULL},
    {"control_owner: ':mail'", "changed control_owner: \"\" -> \":mail\"", NULL},
    {"control_users: 'anna'", "changed control_users: none -> \"anna\"", NULL},
    {"haproxy_incoming: true", "changed haproxy_incoming: false -> true", NULL},
    {"haproxy_trusted: '192.0.2.1'",
     "changed haproxy_trusted: \"127.0.0.0/8\" \"::1/128\" -> \"192.0.2.1/32\"", NULL},
};

static void test_every_key_and_back(void **state)
{
	(void)state;
	struct conf *c = load(base, NULL);
	struct buf before, after;
	print(c, &before);
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		assert_line(reload(c, keys[i].text), keys[i].line);
		assert_true(report.changed >= 1 && report.changed <= 2);
		assert_int_equal(report.refused, 0);
		assert_string_equal(reload(c, keys[i].text), ""); /* nothing is new */
		const char *back = reload(c, "");
		if (keys[i].back)
			assert_line(back, keys[i].back);
		assert_int_equal(report.refused, 0);
		print(c, &after);
		assert_string_equal(buf_str(&after), buf_str(&before));
		buf_clear(&after);
	}
	buf_clear(&before);
	conf_free(c);
}

/* A new key must not be forgotten in the table above. */
static void test_all_keys_are_here(void **state)
{
	(void)state;
	struct conf *c = load(base, NULL);
	struct buf out;
	print(c, &out);
	char *text = strdup(buf_str(&out)), *rest = text, *line;
	while ((line = strsep(&rest, "\n")) && *line) {
		const char *name = *line == '#' ? line + 2 : line;
		size_t n = strcspn(name, ": "), i = 0;
		while (i < sizeof keys / sizeof *keys &&
		       (strncmp(keys[i].line + strlen("changed "), name, n) != 0 ||
		        keys[i].line[strlen("changed ") + n] != ':'))
			i++;
		if (i == sizeof keys / sizeof *keys && strncmp(name, "data_dir", n) != 0 &&
		    strncmp(name, "user", n) != 0 && strncmp(name, "sandbox", 7) != 0)
			fail_msg("no test of %.*s", (int)n, name);
	}
	free(text);
	buf_clear(&out);
	conf_free(c);
}

/* ---- what stays ---- */

static void test_refused_keys(void **state)
{
	(void)state;
	struct conf *c = load(base, NULL);
	const char *text = reload(c, "data_dir: '/elsewhere' user: 'nobody' max_queue_items: 8");
	assert_non_null(strstr(text, "refused data_dir: queue and control socket are open in it"));
	assert_non_null(strstr(text, "refused user: root is given up once"));
	assert_line(text, "changed max_queue_items: 10000 -> 8");
	assert_int_equal(report.changed, 1); /* maildir does not follow data_dir */
	assert_int_equal(report.refused, 2);
	assert_string_equal(c->data_dir, CONF_DATA_DIR);
	assert_string_equal(c->maildir, CONF_DATA_DIR "/" CONF_MAILDIR);
	assert_null(c->user);
	/* It is said each time, for it is so each time. */
	reload(c, "data_dir: '/elsewhere' user: 'nobody' max_queue_items: 8");
	assert_int_equal(report.refused, 2);
	assert_int_equal(report.changed, 0);
	text = reload(c, "sandbox: false sandbox_readable: '/srv' sandbox_writable: '/srv'");
	assert_non_null(strstr(text, "refused sandbox: the sandbox is entered once"));
	assert_int_equal(report.refused, 3);
	assert_true(c->sandbox && c->sandbox_writable.count == 0);
	conf_free(c);
}

static void test_bad_file_keeps_everything(void **state)
{
	(void)state;
	static const char *const bad[] = {
	    "max_queue_items: 3 hostname: '-'",
	    "hostname: 'new.test' max_queue_items: 0",
	    "hostname: 'new.test' no_such_key: 1",
	    "hostname: 'new.test' smtp_address: '",
	    "hostname: 'new.test' monitoring_address: '0.0.0.0:80'",
	    "hostname: 'new.test' smarthost { address: 'r.test' user: 'u' password_file: 'none' }",
	};
	struct conf *c =
	    load("hostname: 'h.test' max_queue_items: 5 smtp_address: ':1025'\n", NULL);
	struct buf before, after;
	print(c, &before);
	for (size_t i = 0; i <= sizeof bad / sizeof *bad; i++) {
		if (i < sizeof bad / sizeof *bad)
			write_file("chasq.conf", bad[i]);
		else
			assert_int_equal(unlink("chasq.conf"), 0);
		conf_report_clear(&report);
		conf_report_init(&report);
		err[0] = '\0';
		assert_int_equal(conf_reload(c, &report, err, sizeof(err)), -1);
		assert_string_not_equal(err, "");
		if (i < 4)
			assert_non_null(strstr(err, "chasq.conf:1"));
		conf_report_clear(&report);
		print(c, &after);
		assert_string_equal(buf_str(&after), buf_str(&before));
		buf_clear(&after);
	}
	assert_non_null(strstr(err, "chasq.conf: No such file"));
	buf_clear(&before);
	conf_free(c);
}

static void test_overrides_stay(void **state)
{
	(void)state;
	struct conf *c = load(base, "max_queue_items: 77 smtp_address: ':2525'");
	assert_string_equal(reload(c, "max_queue_items: 8 smtp_address: ':1'"), "");
	assert_int_equal(c->max_queue_items, 77);
	assert_string_equal(c->smtp_address.item[0], ":2525");
	conf_free(c);
}

static void test_refusing_later(void **state)
{
	(void)state;
	struct conf *c = load(base, NULL);
	write_file("chasq.conf", "hostname: 'h.test' log_path: '/x/y' tls_roots: '/r' # 1\n");
	conf_report_clear(&report);
	conf_report_init(&report);
	assert_int_equal(conf_reload(c, &report, err, sizeof(err)), 0);
	assert_true(conf_reload_changed(c, &report, "log_path"));
	assert_false(conf_reload_changed(c, &report, "hostname"));
	assert_string_equal(c->log_path, "/x/y");
	conf_reload_refuse(c, &report, "log_path", "no such directory");
	assert_null(c->log_path);
	conf_reload_end(c, &report);
	assert_string_equal(buf_str(&report.text), "changed tls_roots: \"\" -> \"/r\"\n"
	                                           "refused log_path: no such directory\n");
	assert_int_equal(report.changed, 1);
	assert_int_equal(report.refused, 1);
	conf_report_clear(&report);
	conf_free(c);
}

static void test_origins_move(void **state)
{
	(void)state;
	struct buf out;
	struct conf *c = load("hostname: 'h.test'\nmax_queue_items: 8\n", NULL);
	reload(c, "\n\nmax_queue_items: 8");
	assert_int_equal(report.changed, 0);
	print(c, &out);
	assert_non_null(strstr(buf_str(&out), "max_queue_items: 8 # chasq.conf:4\n"));
	buf_clear(&out);
	reload(c, "");
	print(c, &out);
	assert_non_null(strstr(buf_str(&out), "max_queue_items: 10000 # default\n"));
	buf_clear(&out);
	conf_free(c);
}

static void test_long_values_are_cut(void **state)
{
	(void)state;
	char text[3000] = "";
	for (int i = 0; i < 60; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text),
		         "control_users: 'user%d\xc3\xa4'\n", i);
	struct conf *c = load(base, NULL);
	const char *r = reload(c, text);
	assert_true(strlen(r) < 2 * CONF_REPORT_VALUE + 200);
	assert_non_null(strstr(r, "...\n"));
	assert_int_equal(c->control_users.count, 60);
	conf_free(c);
}

/* ---- what hangs on it ---- */

/* Tables of users and aliases go by the separators and characters of before, and by the hostname.
 */
static void test_tables_follow(void **state)
{
	(void)state;
	char bad[600] = "";
	write_file("domains/one.test/users", "users { key: 'a.b' value { denied {} } }");
	write_file("domains/one.test/aliases", "x: y@one.test\n");
	struct conf *c = load(base, NULL);
	const struct conf_domain *d = conf_domain_find(c, "one.test");
	assert_true(user_exists(d->users, "ab"));
	reload(c, "drop_characters: ''");
	assert_true(report.files >= 3);
	d = conf_domain_find(c, "one.test");
	assert_false(user_exists(d->users, "ab"));
	assert_true(user_exists(d->users, "a.b"));
	/* A file that is bad by now keeps its old table, and that must not look at what is gone. */
	write_file("domains/one.test/users", "users {");
	snprintf(bad, sizeof(bad), "%s", reload(c, "drop_characters: '.-'"));
	assert_non_null(strstr(bad, "refused "));
	assert_non_null(strstr(bad, "domains/one.test/users"));
	d = conf_domain_find(c, "one.test");
	assert_true(user_exists(d->users, "a.b"));
	assert_false(user_exists(d->users, "ab"));
	assert_int_equal(unlink("domains/one.test/users"), 0);
	assert_int_equal(unlink("domains/one.test/aliases"), 0);
	conf_free(c);
}

/* Whoever holds the smarthosts keeps them over any number of reloads. */
static void test_held_smarthosts(void **state)
{
	(void)state;
	struct conf *c = load(base, NULL);
	reload(
	    c,
	    "smarthost { address: 'a.test' tls: NONE } smarthost { address: 'b.test' tls: NONE }");
	struct conf_smarthosts one = conf_smarthost_hold(&c->smarthosts);
	struct conf_smarthosts two = conf_smarthost_hold(&c->smarthosts);
	assert_int_equal(one.count, 2);
	reload(c, "smarthost { address: 'c.test' tls: NONE }");
	struct conf_smarthosts three = conf_smarthost_hold(&c->smarthosts);
	reload(c, "");
	assert_int_equal(c->smarthosts.count, 0);
	assert_string_equal(one.item[1].host, "b.test");
	conf_smarthost_clear(&one);
	assert_int_equal(one.count, 0);
	assert_string_equal(two.item[0].host, "a.test");
	conf_smarthost_clear(&two);
	assert_string_equal(three.item[0].host, "c.test");
	conf_smarthost_clear(&three);
	one = conf_smarthost_hold(&c->smarthosts); /* of none */
	conf_smarthost_clear(&one);
	conf_free(c);
}

static void test_passwords_are_not_told(void **state)
{
	(void)state;
	write_file("secret", "sesame\n");
	assert_int_equal(chmod("secret", 0600), 0);
	struct conf *c = load(base, NULL);
	struct buf out;
	const char *r =
	    reload(c, "smarthost { address: 'r.test' user: 'u' password_file: 'secret' }");
	assert_null(strstr(r, "sesame"));
	assert_non_null(strstr(r, "password_file: \"secret\""));
	print(c, &out);
	assert_null(strstr(buf_str(&out), "sesame"));
	buf_clear(&out);
	conf_free(c);
}

/* The init script of OpenWrt makes the directory anew; what was ours is removed. */
static void test_another_directory_in_its_place(void **state)
{
	char command[700];
	struct conf *c = load(base, NULL);
	(void)state;
	assert_non_null(conf_domain_find(c, "one.test"));
	snprintf(command, sizeof(command),
	         "cp -R %s %s.new && mkdir %s.new/domains/two.test && mv %s %s.old && "
	         "mv %s.new %s && rm -rf %s.old",
	         dir, dir, dir, dir, dir, dir, dir, dir);
	assert_int_equal(system(command), 0);
	conf_refresh(c);
	assert_non_null(conf_domain_find(c, "one.test"));
	assert_non_null(conf_domain_find(c, "two.test"));
	conf_report_clear(&report);
	conf_report_init(&report);
	assert_int_equal(conf_reload(c, &report, err, sizeof(err)), 0);
	conf_reload_end(c, &report);
	conf_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_key_and_back),
	    cmocka_unit_test(test_all_keys_are_here),
	    cmocka_unit_test(test_refused_keys),
	    cmocka_unit_test(test_bad_file_keeps_everything),
	    cmocka_unit_test(test_overrides_stay),
	    cmocka_unit_test(test_refusing_later),
	    cmocka_unit_test(test_origins_move),
	    cmocka_unit_test(test_long_values_are_cut),
	    cmocka_unit_test(test_tables_follow),
	    cmocka_unit_test(test_held_smarthosts),
	    cmocka_unit_test(test_passwords_are_not_told),
	    cmocka_unit_test(test_another_directory_in_its_place),
	};
	int rc = cmocka_run_group_tests(tests, set_up, tear_down);
	conf_report_clear(&report);
	return rc;
}
