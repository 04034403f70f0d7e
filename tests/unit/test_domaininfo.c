/*
 * domaininfo: levels, their files and names, expiry by a clock of our own, the bounds, and what may
 * lie in the directory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "addr.h"
#include "config.h"
#include "domaininfo.h"
#include "log.h"
#include "temp_dir.h"
#include "valgrind.h"

#define DAY   INT64_C(86400)
#define START ((int64_t)CLOCK_RELEASE + 100 * DAY)

#define IN  DOMAININFO_IN
#define OUT DOMAININFO_OUT

static char dir[TEMP_DIR_MAX];
static int log_fd = -1;
static int64_t clock_now;

static int64_t now(void)
{
	return clock_now;
}

/* ---- the directory ---- */

static void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void shell(const char *fmt, ...)
{
	char command[2000];
	va_list ap;
	int n = snprintf(command, sizeof(command), "cd %s && ", dir);
	va_start(ap, fmt);
	vsnprintf(command + n, sizeof(command) - (size_t)n, fmt, ap);
	va_end(ap);
	if (system(command) != 0)
		fail_msg("%s", command);
}

static char *path_of(const char *file)
{
	static char path[800];
	snprintf(path, sizeof(path), "%s/domaininfo/%s", dir, file);
	return path;
}

static void put_file(const char *file, const char *content)
{
	FILE *f = fopen(path_of(file), "w");
	if (!f || fputs(content, f) < 0 || fclose(f) != 0)
		fail_msg("%s", file);
}

static const char *content_of(const char *file)
{
	static char text[5000];
	FILE *f = fopen(path_of(file), "r");
	if (!f)
		return NULL;
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	return text;
}

static size_t files(void)
{
	DIR *d = opendir(path_of("."));
	size_t n = 0;
	assert_non_null(d);
	for (const struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* How often the log has this text. */
static int logged(const char *text)
{
	static char all[1 << 20];
	ssize_t n = pread(log_fd, all, sizeof(all) - 1, 0);
	int count = 0;
	all[n > 0 ? n : 0] = '\0';
	for (const char *p = all; (p = strstr(p, text)) != NULL; p++)
		count++;
	return count;
}

static struct domaininfo *open_it(int64_t expire_s)
{
	struct status st;
	struct domaininfo *di = domaininfo_open(dir, expire_s, now, &st);
	if (!di)
		fail_msg("%s", st.text);
	return di;
}

static struct domaininfo *reopen(struct domaininfo *di, int64_t expire_s)
{
	domaininfo_close(di);
	return open_it(expire_s);
}

static int set_up(void **state)
{
	(void)state;
	clock_now = START;
	log_fd = memfd_create("log", MFD_CLOEXEC);
	log_to(log_fd);
	if (temp_dir_make(dir, sizeof dir))
		return -1;
	domaininfo_close(open_it(0));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	log_to(2);
	close(log_fd);
	return temp_dir_remove();
}

/* ---- levels ---- */

static void test_levels_only_rise(void **state)
{
	(void)state;
	struct domaininfo *di = open_it(0);
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_PLAIN);
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_PLAIN);
	assert_int_equal(files(), 0); /* PLAIN costs no write */
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_TLS_INSECURE);
	assert_string_equal(content_of("s:a.test"),
	                    "name: \"a.test\"\noutgoing_sec_level: TLS_INSECURE\n");
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_TLS_SECURE);
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_TLS_INSECURE);
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_PLAIN);
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_TLS_SECURE);
	assert_int_equal(domaininfo_level(di, IN, "a.test"), DOMAININFO_PLAIN);
	domaininfo_saw(di, IN, "a.test", DOMAININFO_TLS_CLIENT);
	domaininfo_saw(di, IN, "a.test", DOMAININFO_PLAIN);
	assert_string_equal(content_of("s:a.test"),
	                    "name: \"a.test\"\nincoming_sec_level: TLS_CLIENT\n"
	                    "outgoing_sec_level: TLS_SECURE\n");
	struct stat before, after;
	assert_int_equal(stat(path_of("s:a.test"), &before), 0);
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_TLS_SECURE);
	assert_int_equal(stat(path_of("s:a.test"), &after), 0);
	assert_true(before.st_ino == after.st_ino); /* not written for nothing */
	di = reopen(di, 0);
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_TLS_SECURE);
	assert_int_equal(domaininfo_level(di, IN, "a.test"), DOMAININFO_TLS_CLIENT);
	domaininfo_close(di);
	assert_int_equal(logged("domaininfo"), 0);
}

static void test_nobody_remembers(void **state)
{
	(void)state;
	domaininfo_saw(NULL, OUT, "a.test", DOMAININFO_TLS_SECURE);
	assert_int_equal(domaininfo_level(NULL, OUT, "a.test"), DOMAININFO_PLAIN);
}

static void test_level_names(void **state)
{
	(void)state;
	assert_string_equal(domaininfo_level_name(DOMAININFO_PLAIN), "PLAIN");
	assert_string_equal(domaininfo_level_name(DOMAININFO_TLS_CLIENT), "TLS_CLIENT");
	assert_string_equal(domaininfo_level_name(DOMAININFO_TLS_INSECURE), "TLS_INSECURE");
	assert_string_equal(domaininfo_level_name(DOMAININFO_TLS_SECURE), "TLS_SECURE");
}

static void test_find_list_and_forget(void **state)
{
	struct domaininfo_entry e[3];
	struct status st;
	(void)state;
	struct domaininfo *di = open_it(0);
	domaininfo_saw(di, OUT, "b.test", DOMAININFO_TLS_SECURE);
	domaininfo_saw(di, IN, "c.test", DOMAININFO_TLS_CLIENT);
	domaininfo_saw(di, IN, "a.test", DOMAININFO_PLAIN);
	assert_int_equal(domaininfo_list(di, "", e, 3), 3);
	assert_string_equal(e[0].domain, "a.test");
	assert_string_equal(e[2].domain, "c.test");
	assert_int_equal(e[2].level[IN], DOMAININFO_TLS_CLIENT);
	assert_true(e[2].seen[IN] == START && e[2].seen[OUT] == 0);
	assert_int_equal(domaininfo_list(di, "a.test", e, 1), 1);
	assert_string_equal(e[0].domain, "b.test");
	assert_int_equal(domaininfo_list(di, "bb", e, 3), 1);
	assert_int_equal(domaininfo_list(di, "c.test", e, 3), 0);
	assert_int_equal(domaininfo_find(di, "b.test", e), 0);
	assert_int_equal(e[0].level[OUT], DOMAININFO_TLS_SECURE);
	assert_int_equal(domaininfo_find(di, "d.test", e), -1);

	assert_int_equal(domaininfo_forget(di, "d.test", &st), -1);
	assert_non_null(strstr(st.text, "not known"));
	assert_int_equal(domaininfo_forget(di, "b.test", &st), 0);
	assert_int_equal(domaininfo_forget(di, "a.test", &st), 0); /* had no file */
	assert_int_equal(domaininfo_level(di, OUT, "b.test"), DOMAININFO_PLAIN);
	assert_int_equal(files(), 1);
	di = reopen(di, 0);
	assert_int_equal(domaininfo_list(di, "", e, 3), 1);
	domaininfo_close(di);
}

/* ---- names ---- */

static void test_names_of_files(void **state)
{
	(void)state;
	struct domaininfo *di = open_it(0);
	const char *const odd[] = {"../x", "a/b", "a\nb", "..", ".", "a b", "%2e", "[192.0.2.1]"};
	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++)
		domaininfo_saw(di, OUT, odd[i], DOMAININFO_TLS_SECURE);
	assert_non_null(content_of("s:..%2Fx"));
	assert_non_null(content_of("s:a%2Fb"));
	assert_non_null(content_of("s:a%0Ab"));
	assert_non_null(content_of("s:a+b"));
	assert_non_null(content_of("s:%252e"));
	assert_int_equal(files(), sizeof(odd) / sizeof(*odd));
	shell("! test -e x && test $(ls | wc -l) = 1");
	di = reopen(di, 0);
	assert_int_equal(domaininfo_level(di, OUT, "[192.0.2.1]"), DOMAININFO_TLS_SECURE);
	assert_int_equal(domaininfo_level(di, OUT, "../x"), DOMAININFO_PLAIN); /* no domain */
	domaininfo_close(di);
}

/* The longest names there are: one of ASCII, one whose escaped form is far too long. */
static void test_long_names(void **state)
{
	char ascii[300] = "", label[400], big[400];
	size_t n = 0;
	struct status st;
	(void)state;
	while (n + 1 < 253) {
		ascii[n] = n % 50 == 49 ? '.' : (char)('a' + n % 26);
		n++;
	}
	memcpy(ascii + n, "z", 2);
	struct domaininfo *di = open_it(0);
	domaininfo_saw(di, OUT, ascii, DOMAININFO_TLS_SECURE);
	memset(label, 'x', 300);
	label[300] = '\0';
	domaininfo_saw(di, OUT, label, DOMAININFO_TLS_SECURE);
	domaininfo_saw(di, OUT, "", DOMAININFO_TLS_SECURE);
	assert_int_equal(files(), 1);
	big[0] = '\0';
#if WITH_IDN
	char raw[400] = "";
	for (int i = 0; i < 5; i++)
		strncat(raw,
		        "\xc3\xb1\xc3\xb1\xc3\xa9\xc3\xa9\xc3\xbc\xc3\xbc\xc3\xb8\xc3\xb8"
		        "\xc3\xa0\xc3\xa0\xc3\xa1\xc3\xa1\xc3\xa8\xc3\xa8\xc3\xac\xc3\xac.",
		        sizeof(raw) - strlen(raw) - 1);
	strncat(raw, "test", sizeof(raw) - strlen(raw) - 1);
	assert_int_equal(addr_domain_normalise(slice_of(raw), big, sizeof(big)), 0);
	assert_true(3 * strlen(big) > 255);
	domaininfo_saw(di, OUT, big, DOMAININFO_TLS_SECURE);
	assert_int_equal(files(), 2);
#endif
	di = reopen(di, 0);
	assert_int_equal(domaininfo_level(di, OUT, ascii), DOMAININFO_TLS_SECURE);
	domaininfo_saw(di, IN, ascii, DOMAININFO_TLS_CLIENT);
	if (*big) {
		assert_int_equal(domaininfo_level(di, OUT, big), DOMAININFO_TLS_SECURE);
		assert_int_equal(domaininfo_forget(di, big, &st), 0);
	}
	assert_int_equal(files(), 1);
	assert_int_equal(domaininfo_forget(di, ascii, &st), 0);
	assert_int_equal(files(), 0);
	domaininfo_close(di);
	assert_int_equal(logged("not written"), 0);
}

/* What chasquid wrote: any spelling of the key, blanks, and PLAIN entries. */
static void test_files_of_chasquid(void **state)
{
	struct domaininfo_entry e;
	struct status st;
	(void)state;
	put_file("s:srv-b", "name:  \"srv-b\"\noutgoing_sec_level:  TLS_SECURE\n");
	put_file("s:Example.com", "name: \"Example.com\" outgoing_sec_level: TLS_SECURE");
	put_file("s:example.com", "name: \"example.com\" outgoing_sec_level: TLS_INSECURE\n"
	                          "incoming_sec_level: 1");
	put_file("s:plain.test", "name: \"plain.test\"");
	put_file("s:new.test", "name: \"new.test\" outgoing_sec_level: TLS_CLIENT\n"
	                       "incoming_sec_level: TLS_SECURE some_day: { x: 1 }");
#if WITH_IDN
	put_file("s:xn--ida.test", "name: \"\303\261.test\" incoming_sec_level: TLS_CLIENT");
	put_file("s:%C3%B1andu.test", "name: \"xn--andu-fqa.test\" outgoing_sec_level: TLS_SECURE");
#endif
	struct domaininfo *di = open_it(0);
	assert_int_equal(logged("domaininfo"), 0);
	assert_int_equal(domaininfo_level(di, OUT, "srv-b"), DOMAININFO_TLS_SECURE);
	assert_int_equal(domaininfo_level(di, OUT, "example.com"), DOMAININFO_TLS_SECURE);
	assert_int_equal(domaininfo_level(di, IN, "example.com"), DOMAININFO_TLS_CLIENT);
	assert_int_equal(domaininfo_find(di, "plain.test", &e), 0);
	assert_int_equal(domaininfo_level(di, OUT, "new.test"), DOMAININFO_TLS_INSECURE);
	assert_int_equal(domaininfo_level(di, IN, "new.test"), DOMAININFO_TLS_CLIENT);
#if WITH_IDN
	assert_int_equal(domaininfo_level(di, IN, "\303\261.test"), DOMAININFO_TLS_CLIENT);
	assert_int_equal(domaininfo_level(di, OUT, "\303\261andu.test"), DOMAININFO_TLS_SECURE);
	/* Written anew under the proper name, and the other one goes. */
	domaininfo_saw(di, OUT, "\303\261.test", DOMAININFO_TLS_SECURE);
	assert_non_null(strstr(content_of("s:%C3%B1.test"), "TLS_CLIENT"));
	assert_null(content_of("s:xn--ida.test"));
#endif
	assert_int_equal(domaininfo_forget(di, "example.com", &st), 0);
	assert_null(content_of("s:Example.com"));
	assert_null(content_of("s:example.com"));
	domaininfo_close(di);
}

/* ---- what may lie in the directory ---- */

static void test_damage_opens_no_door(void **state)
{
	static const char *const bad[] = {"", "name: \"d0.test", "\377\376\n", "{}", "name: 5"};
	struct status st;
	(void)state;
	for (size_t i = 0; i < 5; i++) {
		char file[40];
		snprintf(file, sizeof(file), "s:d%zu.test", i);
		put_file(file, bad[i]);
	}
	shell("printf 'name: \"huge.test\"%%1000000s' '' > domaininfo/s:huge.test");
	shell("printf 'name: \"worse.test\" outgoing_sec_level: NEVER' > domaininfo/s:worse.test");
	struct domaininfo *di = open_it(30 * DAY);
	assert_int_equal(logged("domaininfo damaged"), 7);
	assert_int_equal(logged("chasq domaininfo forget"), 7);
	for (size_t i = 0; i < 7; i++) {
		char domain[40];
		snprintf(domain, sizeof(domain), i == 5 ? "huge.test" : "d%zu.test", i);
		if (i == 6)
			snprintf(domain, sizeof(domain), "worse.test");
		assert_int_equal(domaininfo_level(di, OUT, domain), DOMAININFO_TLS_SECURE);
		assert_int_equal(domaininfo_level(di, IN, domain), DOMAININFO_TLS_CLIENT);
	}
	/* Left alone. */
	clock_now += DAY;
	domaininfo_saw(di, OUT, "d0.test", DOMAININFO_TLS_SECURE);
	assert_string_equal(content_of("s:d0.test"), "");
	assert_int_equal(domaininfo_forget(di, "d0.test", &st), 0);
	assert_null(content_of("s:d0.test"));
	assert_int_equal(domaininfo_level(di, OUT, "d0.test"), DOMAININFO_PLAIN);
	clock_now += 31 * DAY;
	assert_int_equal(domaininfo_level(di, OUT, "d1.test"), DOMAININFO_PLAIN);
	domaininfo_saw(di, OUT, "d1.test", DOMAININFO_TLS_INSECURE);
	assert_non_null(strstr(content_of("s:d1.test"), "TLS_INSECURE"));
	domaininfo_close(di);
}

static void test_what_is_not_ours_is_ignored(void **state)
{
	struct domaininfo_entry e[4];
	(void)state;
	shell("cd domaininfo && mkfifo s:fifo.test && mkdir s:dir.test && mkdir sub &&"
	      " printf 'name: \"link.test\" outgoing_sec_level: TLS_SECURE' > ../link &&"
	      " ln -s ../link s:link.test && ln -s /dev/zero s:zero.test && touch README s: s:%%00"
	      " 's:no domain' s:..%%2Fx s:%%zz s:%% s:%%C3 .s:left.test.new long .hidden");
	shell("cd domaininfo && touch \"$(printf 's:new\\nline.test')\"");
	put_file("s:alias.test", "name: \"victim.test\" outgoing_sec_level: TLS_SECURE");
	put_file("s:a.test", "name: \"a.test\" outgoing_sec_level: TLS_SECURE");
	struct domaininfo *di = open_it(0);
	assert_int_equal(domaininfo_list(di, "", e, 4), 1);
	assert_string_equal(e[0].domain, "a.test");
	assert_int_equal(logged("another domain's"), 1);
	assert_int_equal(logged("file ignored"), DOMAININFO_TELL_MAX);
	assert_int_equal(logged("more bad files"), 1);
	shell("cd domaininfo && ! test -e .s:left.test.new && ! test -e long && test -e .hidden");
	domaininfo_close(di);
}

static void test_thousands_of_junk_names(void **state)
{
	(void)state;
	shell("cd domaininfo && seq -f 'junk%%g' 1 20000 | xargs touch &&"
	      " seq -f 's:%%%%%%g' 1 3000 | xargs touch");
	put_file("s:a.test", "name: \"a.test\" outgoing_sec_level: TLS_SECURE");
	clock_t began = clock();
	struct domaininfo *di = open_it(0);
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_TLS_SECURE);
	assert_true(clock() - began < 5 * CLOCKS_PER_SEC);
	assert_int_equal(logged("\n"), DOMAININFO_TELL_MAX + 1);
	domaininfo_close(di);
}

static void test_the_directory_cannot_be_used(void **state)
{
	struct status st;
	char path[400];
	(void)state;
	shell("rm -r domaininfo && touch domaininfo");
	assert_null(domaininfo_open(dir, 0, now, &st));
	assert_non_null(strstr(st.text, "Not a directory"));
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_null(domaininfo_open(path, 0, now, &st));
	shell("rm domaininfo");
	domaininfo_close(open_it(0));
	struct stat s;
	assert_int_equal(stat(path_of(""), &s), 0);
	assert_int_equal(s.st_mode & 0007, 0);
}

/* ---- expiry ---- */

static void test_nothing_expires_without_the_key(void **state)
{
	(void)state;
	struct domaininfo *di = open_it(0);
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_TLS_SECURE);
	assert_null(strstr(content_of("s:a.test"), "seen"));
	clock_now += 100000 * DAY;
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_TLS_SECURE);
	di = reopen(di, 0);
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_TLS_SECURE);
	domaininfo_close(di);
}

/* The key comes and goes while running: as if it had been there at a start. */
static void test_expiry_changes(void **state)
{
	char seen[60];
	(void)state;
	struct domaininfo *di = open_it(0);
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_TLS_SECURE);
	clock_now = START + 100 * DAY;
	domaininfo_set_expire(di, 30 * DAY);
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_TLS_SECURE);
	clock_now += 30 * DAY - 1;
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_TLS_SECURE);
	/* The file gets its date with what is seen next. */
	domaininfo_saw(di, OUT, "b.test", DOMAININFO_TLS_SECURE);
	domaininfo_saw(di, OUT, "c.test", DOMAININFO_TLS_SECURE);
	snprintf(seen, sizeof(seen), "outgoing_seen: %lld\n", (long long)(START + 100 * DAY));
	assert_non_null(strstr(content_of("s:a.test"), seen));
	clock_now++;
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_PLAIN);
	assert_int_equal(domaininfo_level(di, OUT, "b.test"), DOMAININFO_TLS_SECURE);
	domaininfo_set_expire(di, 0);
	clock_now += 100000 * DAY;
	assert_int_equal(domaininfo_level(di, OUT, "b.test"), DOMAININFO_TLS_SECURE);
	domaininfo_close(di);
}

static void test_expiry(void **state)
{
	char seen[60];
	(void)state;
	struct domaininfo *di = open_it(30 * DAY);
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_TLS_SECURE);
	domaininfo_saw(di, IN, "a.test", DOMAININFO_TLS_CLIENT);
	snprintf(seen, sizeof(seen), "outgoing_seen: %lld\n", (long long)START);
	assert_non_null(strstr(content_of("s:a.test"), seen));
	/* Less than a day later nothing is written, then once. */
	clock_now = START + DAY - 1;
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_TLS_SECURE);
	assert_non_null(strstr(content_of("s:a.test"), seen));
	clock_now = START + DAY;
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_TLS_SECURE);
	snprintf(seen, sizeof(seen), "outgoing_seen: %lld\n", (long long)(START + DAY));
	assert_non_null(strstr(content_of("s:a.test"), seen));
	/* A weaker one in between is no sign of life. */
	clock_now = START + 5 * DAY;
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_TLS_INSECURE);
	clock_now = START + 30 * DAY - 1;
	assert_int_equal(domaininfo_level(di, IN, "a.test"), DOMAININFO_TLS_CLIENT);
	clock_now = START + 30 * DAY;
	assert_int_equal(domaininfo_level(di, IN, "a.test"), DOMAININFO_PLAIN);
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_TLS_SECURE);
	clock_now = START + 31 * DAY;
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_PLAIN);
	di = reopen(di, 30 * DAY);
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_PLAIN);
	/* A clock that was wrong for a while, with no mail in it, loses nothing. */
	clock_now = START + 20 * DAY;
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_TLS_SECURE);
	clock_now = START + 40 * DAY;
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_TLS_INSECURE);
	clock_now = START + 20 * DAY;
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_TLS_INSECURE);
	assert_non_null(strstr(content_of("s:a.test"), "outgoing_sec_level: TLS_INSECURE"));
	domaininfo_close(di);
}

static void test_clocks_that_are_wrong(void **state)
{
	struct domaininfo_entry e;
	(void)state;
	struct domaininfo *di = open_it(30 * DAY);
	domaininfo_saw(di, OUT, "old.test", DOMAININFO_TLS_SECURE);
	clock_now = 100; /* the board boots in 1970 */
	di = reopen(di, 30 * DAY);
	assert_int_equal(domaininfo_level(di, OUT, "old.test"), DOMAININFO_TLS_SECURE);
	domaininfo_saw(di, OUT, "old.test", DOMAININFO_TLS_SECURE);
	domaininfo_saw(di, OUT, "new.test", DOMAININFO_TLS_SECURE);
	assert_null(strstr(content_of("s:new.test"), "seen"));
	assert_int_equal(domaininfo_find(di, "old.test", &e), 0);
	assert_true(e.seen[OUT] == START);
	/* The clock is set: the next mail dates what was recorded meanwhile. */
	clock_now = START + 60 * DAY;
	assert_int_equal(domaininfo_level(di, OUT, "new.test"), DOMAININFO_TLS_SECURE);
	assert_int_equal(domaininfo_level(di, OUT, "old.test"), DOMAININFO_PLAIN);
	domaininfo_saw(di, OUT, "other.test", DOMAININFO_PLAIN);
	assert_non_null(strstr(content_of("s:new.test"), "outgoing_seen"));
	clock_now += 29 * DAY;
	di = reopen(di, 30 * DAY);
	assert_int_equal(domaininfo_level(di, OUT, "new.test"), DOMAININFO_TLS_SECURE);
	/* Years back: nothing is older than now; a date of the future counts as now. */
	clock_now = START;
	assert_int_equal(domaininfo_level(di, OUT, "new.test"), DOMAININFO_TLS_SECURE);
	di = reopen(di, 30 * DAY);
	clock_now = START + 30 * DAY;
	assert_int_equal(domaininfo_level(di, OUT, "new.test"), DOMAININFO_PLAIN);
	domaininfo_close(di);
	/* Dates that no clock gave. */
	clock_now = START;
	put_file("s:min.test", "name: \"min.test\" outgoing_sec_level: TLS_SECURE"
	                       " outgoing_seen: -9223372036854775808");
	put_file("s:max.test", "name: \"max.test\" outgoing_sec_level: TLS_SECURE"
	                       " outgoing_seen: 9223372036854775807");
	di = open_it(30 * DAY);
	assert_int_equal(domaininfo_level(di, OUT, "min.test"), DOMAININFO_TLS_SECURE);
	assert_int_equal(domaininfo_level(di, OUT, "max.test"), DOMAININFO_TLS_SECURE);
	clock_now = START + 30 * DAY;
	assert_int_equal(domaininfo_level(di, OUT, "min.test"), DOMAININFO_PLAIN);
	assert_int_equal(domaininfo_level(di, OUT, "max.test"), DOMAININFO_PLAIN);
	domaininfo_close(di);
}

/* Dates come and go with the key, a file at a time. */
static void test_dates_are_mended(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		char file[40], text[100];
		snprintf(file, sizeof(file), "s:d%d.test", i);
		snprintf(text, sizeof(text), "name: \"d%d.test\" outgoing_sec_level: TLS_SECURE",
		         i);
		put_file(file, text);
	}
	struct domaininfo *di = open_it(30 * DAY);
	for (int i = 0; i < 3; i++) {
		domaininfo_saw(di, IN, "x.test", DOMAININFO_PLAIN);
		domaininfo_saw(di, IN, "x.test", DOMAININFO_PLAIN);
		shell("test $(grep -l seen domaininfo/* | wc -l) = %d", i + 1);
		clock_now += DOMAININFO_MEND_S;
	}
	domaininfo_saw(di, IN, "x.test", DOMAININFO_PLAIN);
	di = reopen(di, 0);
	for (int i = 0; i < 4; i++) {
		domaininfo_saw(di, IN, "x.test", DOMAININFO_PLAIN);
		clock_now += DOMAININFO_MEND_S;
	}
	shell("! grep -q seen domaininfo/*");
	domaininfo_close(di);
}

/* ---- bounds ---- */

static const char *numbered(const char *prefix, size_t i)
{
	static char name[60];
	snprintf(name, sizeof(name), "%s%05zu.test", prefix, i);
	return name;
}

static size_t count_all(struct domaininfo *di)
{
	struct domaininfo_entry e[64];
	char after[60] = "";
	size_t total = 0, n;
	while ((n = domaininfo_list(di, after, e, 64)) > 0) {
		snprintf(after, sizeof(after), "%s", e[n - 1].domain);
		total += n;
	}
	return total;
}

static void test_plain_entries_make_room(void **state)
{
	struct domaininfo_entry e;
	(void)state;
	struct domaininfo *di = open_it(0);
	domaininfo_saw(di, OUT, "kept.test", DOMAININFO_TLS_SECURE);
	domaininfo_saw(di, OUT, "first.test", DOMAININFO_PLAIN);
	domaininfo_saw(di, OUT, "second.test", DOMAININFO_PLAIN);
	for (size_t i = 0; i < DOMAININFO_MAX - 3; i++)
		domaininfo_saw(di, OUT, numbered("p", i), DOMAININFO_PLAIN);
	assert_int_equal(count_all(di), DOMAININFO_MAX);
	domaininfo_saw(di, OUT, "first.test", DOMAININFO_PLAIN); /* now the youngest */
	domaininfo_saw(di, OUT, "new.test", DOMAININFO_PLAIN);
	assert_int_equal(domaininfo_find(di, "second.test", &e), -1);
	assert_int_equal(domaininfo_find(di, "first.test", &e), 0);
	for (size_t i = 0; i < (size_t)2 * DOMAININFO_MAX; i += valgrind_step(10))
		domaininfo_saw(di, OUT, numbered("q", i), DOMAININFO_PLAIN);
	assert_int_equal(domaininfo_level(di, OUT, "kept.test"), DOMAININFO_TLS_SECURE);
	assert_int_equal(count_all(di), DOMAININFO_MAX);
	assert_int_equal(logged("not remembered"), 0);
	domaininfo_close(di);
}

/* Strangers fill half, with whatever level, and displace nobody else. */
static void test_strangers_have_half(void **state)
{
	struct domaininfo_entry e;
	(void)state;
	struct domaininfo *di = open_it(0);
	for (size_t i = 0; i < DOMAININFO_MAX; i++)
		domaininfo_saw(di, IN, numbered("s", i), DOMAININFO_TLS_CLIENT);
	assert_int_equal(count_all(di), DOMAININFO_MAX / 2);
	assert_int_equal(files(), DOMAININFO_MAX / 2);
	assert_int_equal(logged("not remembered"), 1); /* an hour */
	clock_now += 3600;
	domaininfo_saw(di, IN, "z.test", DOMAININFO_TLS_CLIENT);
	domaininfo_saw(di, IN, "z.test", DOMAININFO_TLS_CLIENT);
	assert_int_equal(logged("not remembered"), 2);
	for (size_t i = 0; i < DOMAININFO_MAX / 2; i++)
		domaininfo_saw(di, OUT, numbered("o", i), DOMAININFO_PLAIN);
	assert_int_equal(count_all(di), DOMAININFO_MAX);
	/* One that we write to is no stranger any more: there is room for another. */
	domaininfo_saw(di, OUT, numbered("s", 0), DOMAININFO_TLS_SECURE);
	domaininfo_saw(di, IN, "z.test", DOMAININFO_TLS_CLIENT);
	assert_int_equal(domaininfo_level(di, IN, "z.test"), DOMAININFO_TLS_CLIENT);
	domaininfo_saw(di, IN, "y.test", DOMAININFO_TLS_CLIENT);
	assert_int_equal(domaininfo_find(di, "y.test", &e), -1);
	/* Full of what counts: the next is not recorded. */
	for (size_t i = 0; i < DOMAININFO_MAX / 2; i++)
		domaininfo_saw(di, OUT, numbered("o", i), DOMAININFO_TLS_SECURE);
	size_t before = files();
	domaininfo_saw(di, OUT, "late.test", DOMAININFO_TLS_SECURE);
	assert_int_equal(domaininfo_find(di, "late.test", &e), -1);
	assert_int_equal(files(), before);
	domaininfo_close(di);
}

/* One owner with a name for each mail does not fill the room of all. */
static void test_kin_have_a_share(void **state)
{
	char name[64];
	struct domaininfo_entry e;
	(void)state;
	struct domaininfo *di = open_it(0);
	domaininfo_saw(di, IN, "shop.evil.test", DOMAININFO_PLAIN);
	for (size_t i = 0; i < DOMAININFO_MAX; i++) {
		snprintf(name, sizeof name, "x%zu.y%zu.evil.test", i, i % 7);
		domaininfo_saw(di, IN, name, DOMAININFO_TLS_CLIENT);
	}
	assert_int_equal(count_all(di), DOMAININFO_MAX / 4);
	/* The one that was PLAIN had to go for its kin, and only that. */
	assert_int_equal(domaininfo_find(di, "shop.evil.test", &e), -1);
	assert_int_equal(domaininfo_level(di, IN, "x0.y0.evil.test"), DOMAININFO_TLS_CLIENT);
	assert_int_equal(logged("not remembered"), 1);
	/* Others are recorded, at the second half with a share, and what we write to always. */
	domaininfo_saw(di, IN, "good.test", DOMAININFO_TLS_CLIENT);
	domaininfo_saw(di, IN, "mail.good.test", DOMAININFO_TLS_CLIENT);
	domaininfo_saw(di, OUT, "new.evil.test", DOMAININFO_TLS_SECURE);
	assert_int_equal(domaininfo_level(di, IN, "good.test"), DOMAININFO_TLS_CLIENT);
	assert_int_equal(domaininfo_level(di, IN, "mail.good.test"), DOMAININFO_TLS_CLIENT);
	assert_int_equal(domaininfo_level(di, OUT, "new.evil.test"), DOMAININFO_TLS_SECURE);
	for (size_t i = 0; i < (size_t)2 * DOMAININFO_KIN_MAX; i++) {
		snprintf(name, sizeof name, "x%zu.also.test", i);
		domaininfo_saw(di, IN, name, DOMAININFO_TLS_CLIENT);
	}
	assert_int_equal(count_all(di), DOMAININFO_MAX / 4 + 3 + DOMAININFO_KIN_MAX);
	domaininfo_close(di);
}

static void test_expired_entries_make_room(void **state)
{
	(void)state;
	struct domaininfo *di = open_it(30 * DAY);
	for (size_t i = 0; i < DOMAININFO_MAX; i++)
		domaininfo_saw(di, OUT, numbered("e", i), DOMAININFO_TLS_SECURE);
	assert_int_equal(files(), DOMAININFO_MAX);
	clock_now += 30 * DAY;
	domaininfo_saw(di, OUT, "new.test", DOMAININFO_TLS_SECURE);
	assert_int_equal(domaininfo_level(di, OUT, "new.test"), DOMAININFO_TLS_SECURE);
	assert_int_equal(files(), DOMAININFO_MAX); /* its file went with the oldest */
	assert_null(content_of("s:e00000.test"));
	domaininfo_close(di);
}

/* More files than the table holds: the strongest come first. */
static void test_more_files_than_room(void **state)
{
	(void)state;
	for (size_t i = 0; i < (size_t)3 * DOMAININFO_MAX; i++) {
		char file[80], text[200];
		const char *name = numbered("m", i);
		snprintf(file, sizeof(file), "s:%s", name);
		snprintf(text, sizeof(text), "name: \"%s\"\n%s", name,
		         i % 3 == 0   ? "outgoing_sec_level: TLS_SECURE\n"
		         : i % 3 == 1 ? "incoming_sec_level: TLS_CLIENT\n"
		                      : "");
		put_file(file, text);
	}
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	struct domaininfo *di = open_it(0);
	clock_gettime(CLOCK_MONOTONIC, &b);
	print_message("%d files: %ld ms\n", 3 * DOMAININFO_MAX,
	              (long)((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000));
	assert_int_equal(count_all(di), DOMAININFO_MAX);
	for (size_t i = 0; i < (size_t)3 * DOMAININFO_MAX; i += 3)
		assert_int_equal(domaininfo_level(di, OUT, numbered("m", i)),
		                 DOMAININFO_TLS_SECURE);
	assert_int_equal(logged("the weakest are not remembered"), 1);
	/* Forgetting reaches those that found no room. */
	struct status st;
	assert_int_equal(domaininfo_forget(di, numbered("m", 1), &st), 0);
	assert_null(content_of("s:m00001.test"));
	domaininfo_close(di);
}

/* ---- a disk that refuses ---- */

static void test_a_full_disk(void **state)
{
	struct status st;
	(void)state;
	if (!temp_dir_mount("domaininfo", "size=64k,nr_inodes=40"))
		skip();
	struct domaininfo *di = open_it(0);
	shell("head -c 100000 /dev/zero > domaininfo/fill 2>/dev/null; true");
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_TLS_SECURE);
	domaininfo_saw(di, OUT, "b.test", DOMAININFO_TLS_SECURE);
	int told = logged("not written");
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_TLS_SECURE);
	assert_int_equal(files(), 1);
	shell("rm domaininfo/fill");
	/* Each is tried again with the next mail. */
	for (int i = 0; i < 2; i++) {
		clock_now += DOMAININFO_MEND_S;
		domaininfo_saw(di, IN, "x.test", DOMAININFO_PLAIN);
	}
	size_t written = files();
	assert_int_equal(mount("none", path_of(""), "tmpfs", MS_REMOUNT | MS_RDONLY, ""), 0);
	int rc = domaininfo_forget(di, "a.test", &st);
	enum domaininfo_level level = domaininfo_level(di, OUT, "a.test");
	clock_now += 3600;
	domaininfo_saw(di, OUT, "c.test", DOMAININFO_TLS_SECURE);
	domaininfo_close(di);
	temp_dir_unmount();
	assert_int_equal(told, 1);
	assert_int_equal(written, 2);
	assert_int_equal(rc, -1);
	assert_non_null(strstr(st.text, "Read-only"));
	assert_int_equal(level, DOMAININFO_TLS_SECURE);
	assert_int_equal(logged("not written"), 2);
}

static void test_a_directory_that_refuses(void **state)
{
	struct status st;
	(void)state;
	if (geteuid() == 0)
		skip();
	struct domaininfo *di = open_it(0);
	domaininfo_saw(di, OUT, "a.test", DOMAININFO_TLS_SECURE);
	shell("chmod 0555 domaininfo");
	domaininfo_saw(di, OUT, "b.test", DOMAININFO_TLS_SECURE);
	assert_int_equal(logged("not written"), 1);
	assert_int_equal(domaininfo_level(di, OUT, "b.test"), DOMAININFO_TLS_SECURE);
	assert_int_equal(domaininfo_forget(di, "a.test", &st), -1);
	assert_int_equal(domaininfo_level(di, OUT, "a.test"), DOMAININFO_TLS_SECURE);
	shell("chmod 0755 domaininfo && chmod 0 domaininfo/s:a.test");
	di = reopen(di, 0);
	assert_int_equal(logged("domaininfo damaged"), 1);
	assert_int_equal(domaininfo_level(di, IN, "a.test"), DOMAININFO_TLS_CLIENT);
	domaininfo_close(di);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_levels_only_rise),
	    TEST(test_nobody_remembers),
	    TEST(test_level_names),
	    TEST(test_find_list_and_forget),
	    TEST(test_names_of_files),
	    TEST(test_long_names),
	    TEST(test_files_of_chasquid),
	    TEST(test_damage_opens_no_door),
	    TEST(test_what_is_not_ours_is_ignored),
	    TEST(test_thousands_of_junk_names),
	    TEST(test_the_directory_cannot_be_used),
	    TEST(test_nothing_expires_without_the_key),
	    TEST(test_expiry_changes),
	    TEST(test_expiry),
	    TEST(test_clocks_that_are_wrong),
	    TEST(test_dates_are_mended),
	    TEST(test_plain_entries_make_room),
	    TEST(test_strangers_have_half),
	    TEST(test_kin_have_a_share),
	    TEST(test_expired_entries_make_room),
	    TEST(test_more_files_than_room),
	    TEST(test_a_full_disk),
	    TEST(test_a_directory_that_refuses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
