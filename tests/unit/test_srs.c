/* srs: there and back, whatever the sender, the way, the key file and the clock are like. */
#include "srs.h"
#include "temp_dir.h"

#include <ctype.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define DAY 86400LL
#define NOW (CLOCK_RELEASE + 100 * DAY)
#define KEY "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n" /* 00 01 02 ... 1f */

/* Made with Python's hmac: bounces that are under way depend on the form. */
#define KNOWN_SRS0 "SRS0=GX5FIUJG=L2=far.test=User"
#define KNOWN_SRS1 "SRS1=AE5UYENK=hop.test==ab=cd=far.test=u"

static char dir[TEMP_DIR_MAX];
static struct srs *srs;
static struct status st;

static const char *key_path(void)
{
	static char path[80];
	snprintf(path, sizeof path, "%s/srs-key", dir);
	return path;
}

static void put_key(const char *text, mode_t mode)
{
	unlink(key_path());
	int fd = open(key_path(), O_WRONLY | O_CREAT | O_TRUNC, mode);
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void get_key(char out[256])
{
	int fd = open(key_path(), O_RDONLY);
	assert_true(fd >= 0);
	ssize_t n = read(fd, out, 255);
	assert_true(n > 0);
	out[n] = '\0';
	close(fd);
}

static void reopen(void)
{
	srs_close(srs);
	srs = srs_open(dir, &st);
}

static int set_up(void **state)
{
	(void)state;
	if (temp_dir_make(dir, sizeof dir))
		return -1;
	put_key(KEY, 0600);
	reopen();
	return srs ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	srs_close(srs);
	srs = NULL;
	return temp_dir_remove();
}

static struct addr addr(const char *text)
{
	struct addr a;
	assert_int_equal(addr_parse(slice_of(text), &a), 0);
	return a;
}

static struct addr forward(const char *sender, int64_t now)
{
	struct addr from = addr(sender);
	struct addr out;
	assert_int_equal(srs_forward(srs, &from, "ours.test", now, &out), 0);
	assert_true(srs_is_mine(out.user));
	assert_string_equal(out.domain, "ours.test");
	return out;
}

static void refuse_forward(const struct addr *from)
{
	struct addr out;
	assert_int_equal(srs_forward(srs, from, "ours.test", NOW, &out), -1);
	assert_true(addr_is_null(&out));
}

static void leads_to(const char *user, int64_t now, const struct addr *want)
{
	struct addr out;
	assert_int_equal(srs_reverse(srs, user, now, &out, &st), 0);
	assert_string_equal(out.user, want->user);
	assert_string_equal(out.domain, want->domain);
}

static void leads_nowhere(const char *user, int64_t now)
{
	struct addr out;
	st = (struct status){.code = 0};
	assert_int_equal(srs_reverse(srs, user, now, &out, &st), -1);
	assert_int_equal(st.code, 550);
	assert_int_equal(st.enh[1] * 10 + st.enh[2], 11);
	assert_true(addr_is_null(&out));
}

static void change_case(char *s, int (*to)(int))
{
	for (; *s; s++)
		if ((unsigned char)*s < 128)
			*s = (char)to(*s);
}

/* ---- the form ---- */

static void test_known_addresses(void **state)
{
	(void)state;
	assert_string_equal(forward("User@Far.Test", NOW).user, KNOWN_SRS0);
	assert_string_equal(forward("SRS0=ab=cd=far.test=u@hop.test", NOW).user, KNOWN_SRS1);
}

static void test_is_mine(void **state)
{
	(void)state;
	static const char *const yes[] = {"SRS0=", "srs1+x", "sRs0-x", "SRS0=a=b=c=d"};
	static const char *const no[] = {"",
	                                 "S",
	                                 "SRS",
	                                 "SRS0",
	                                 "SRS2=x",
	                                 "SRS0x",
	                                 ("SR\xc5\xa0"
	                                  "0="),
	                                 "XSRS0=a"};
	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
		assert_true(srs_is_mine(yes[i]));
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		assert_false(srs_is_mine(no[i]));
}

/* ---- there and back ---- */

static void round_trip(const struct addr *from)
{
	struct addr out;
	char text[ADDR_TEXT_MAX];
	struct addr wire;
	assert_int_equal(srs_forward(srs, from, "ours.test", NOW, &out), 0);
	leads_to(out.user, NOW, from);
	/* As SMTP carries it. */
	assert_int_equal(addr_format(&out, text, sizeof text), 0);
	assert_true(strlen(text) - strlen("@ours.test") <= 64);
	assert_int_equal(addr_parse(slice_of(text), &wire), 0);
	leads_to(wire.user, NOW, from);
}

static void test_every_character(void **state)
{
	(void)state;
	struct addr from = addr("x@far.test");
	for (int c = ' '; c < 127; c++) {
		snprintf(from.user, sizeof from.user, "%c", c);
		round_trip(&from);
		snprintf(from.user, sizeof from.user, "a%c%cb%c", c, c, c);
		round_trip(&from);
	}
}

static void test_spellings(void **state)
{
	(void)state;
	static const char *const list[] = {
	    "u@far.test",   "\"a b\"@far.test", "a=b@far.test",         "=@far.test",
	    "==@far.test",  "u@[192.0.2.1]",    "u@[IPv6:2001:db8::1]", "u@a.b.c.d.e.f.test",
	    "SRS@far.test", "SRS0@far.test",    "SRS2=x@far.test",      "u@x_y.test"};
	for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
		struct addr from = addr(list[i]);
		round_trip(&from);
	}
#if WITH_IDN
	static const char *const names[] = {
	    "j\xc3\xbcrgen@far.test", "u@\xc3\xb1\x61nd\xc3\xba.test",
	    "\xd0\xb8\xd0\xb2\xd0\xb0\xd0\xbd@\xd0\xbc\xd0\xb8\xd1\x80.test"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct addr from = addr(names[i]);
		round_trip(&from);
	}
	/* The domain of a sender does not make a local part that needs SMTPUTF8. */
	struct addr from = forward("u@\xc3\xb1\x61nd\xc3\xba.test", NOW);
	assert_true(addr_is_ascii(&from));
	/* Case and form of what is beyond ASCII may change too. */
	struct addr there = forward("\xc3\x9c\x62@far.test", NOW);
	char *at = strstr(there.user, "\xc3\x9c");
	assert_non_null(at);
	at[1] = '\xbc';
	struct addr want = addr("\xc3\xbc\x62@far.test");
	leads_to(there.user, NOW, &want);
#endif
}

static void test_case_changes(void **state)
{
	(void)state;
	struct addr there = forward("Some.One=x@far.test", NOW);
	struct addr want = addr("Some.One=x@far.test");
	change_case(there.user, tolower);
	change_case(want.user, tolower);
	leads_to(there.user, NOW, &want);
	change_case(there.user, toupper);
	change_case(want.user, toupper);
	leads_to(there.user, NOW, &want);
	/* Others write another separator behind SRS0. */
	there.user[4] = '+';
	leads_to(there.user, NOW, &want);
	there.user[4] = '-';
	leads_to(there.user, NOW, &want);
	there.user[4] = '_';
	leads_nowhere(there.user, NOW);
}

/* ---- chains ---- */

static void test_chain(void **state)
{
	(void)state;
	static const char first[] = "SRS0+Ab=cd=far.test=u=v@hop.test";
	struct addr want = addr(first);
	struct addr there = forward(first, NOW);
	assert_memory_equal(there.user, "SRS1=", 5);
	assert_non_null(strstr(there.user, "=hop.test=+Ab=cd=far.test=u=v"));
	leads_to(there.user, NOW, &want);
	leads_to(there.user, NOW + 500 * DAY, &want); /* the first hop looks at the day */
	/* The next hop sends bounces straight to the first one. */
	static const char second[] = "srs1-XYZ=hop.test=+Ab=cd=far.test=u=v@second.test";
	struct addr again = forward(second, NOW);
	assert_string_equal(again.user, there.user);
	change_case(again.user, tolower);
	want = addr("SRS0+ab=cd=far.test=u=v@hop.test");
	leads_to(again.user, NOW, &want);
	again = there;
	char *hop = strstr(again.user, "hop");
	memcpy(hop, "top", 3);
	leads_nowhere(again.user, NOW);
	/* What only looks like one is a user like any other. */
	static const char *const odd[] = {"SRS1=x@far.test", "SRS1=h=.=x@far.test",
	                                  "SRS1=h=d.test=x@far.test", "SRS1==d.test==x@far.test"};
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		struct addr from = addr(odd[i]);
		assert_memory_equal(forward(odd[i], NOW).user, "SRS0=", 5);
		round_trip(&from);
	}
}

/* ---- forgeries ---- */

static void test_tampered(void **state)
{
	(void)state;
	static const char *const list[] = {"user@far.test", "SRS0=ab=cd=far.test=u@hop.test"};
	for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
		struct addr there = forward(list[i], NOW);
		size_t n = strlen(there.user);
		for (size_t k = 0; k < n; k++) {
			struct addr bad = there;
			/* Another digit, letter or sign, not the other case of the same. */
			bad.user[k] = there.user[k] == '2' ? '3' : '2';
			leads_nowhere(bad.user, NOW);
			bad = there;
			bad.user[k] = '\0';
			leads_nowhere(bad.user, NOW);
		}
		struct addr longer = there;
		longer.user[n] = 'x';
		longer.user[n + 1] = '\0';
		leads_nowhere(longer.user, NOW);
		/* A digit more in the hash. */
		longer = there;
		memmove(longer.user + 14, longer.user + 13, n - 13 + 1);
		longer.user[13] = 'A';
		leads_nowhere(longer.user, NOW);
		/* Of the other kind, with the same hash. */
		longer = there;
		longer.user[3] ^= 1;
		leads_nowhere(longer.user, NOW);
	}
	static const char *const bad[] = {"",
	                                  "SRS0",
	                                  "SRS0=",
	                                  "SRS0=====",
	                                  "SRS1=",
	                                  "SRS1===",
	                                  "user",
	                                  "SRS0=AAAAAAAA=AA=far.test=",
	                                  "SRS0=AAAAAAAA=AA=far.test=u",
	                                  "SRS0=AAAAAAAA=A=far.test=u",
	                                  "SRS0==AA=far.test=u",
	                                  "SRS0=AAAAAAAA=11=far.test=u",
	                                  "SRS0=AAAAAAAA=AA=..=u",
	                                  "SRS0=AAAAAAAAAAAAAAAAAAAA=AA=far.test=u",
	                                  "SRS1=AAAAAAAA=hop.test=x"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		leads_nowhere(bad[i], NOW);
}

/* ---- days ---- */

static void test_days(void **state)
{
	(void)state;
	const struct addr want = addr("u@far.test");
	/* 1024 days in a row: the count starts anew somewhere in them. */
	for (int64_t d = 0; d < 1024; d++) {
		int64_t then = NOW + d * DAY;
		struct addr there = forward("u@far.test", then);
		leads_to(there.user, then, &want);
		leads_to(there.user, then + SRS_DAYS * DAY, &want);
		leads_to(there.user, then - DAY, &want); /* the clock is set back a little */
		leads_nowhere(there.user, then + (SRS_DAYS + 1) * DAY);
		leads_nowhere(there.user, then + 500 * DAY);
		leads_nowhere(there.user, then - 2 * DAY);
	}
}

static void test_clock_not_believed(void **state)
{
	(void)state;
	const struct addr want = addr("u@far.test");
	struct addr there = forward("u@far.test", NOW);
	leads_to(there.user, 0, &want);
	leads_to(there.user, -5, &want);
	leads_to(there.user, CLOCK_RELEASE - 1, &want);
	there.user[6] = there.user[6] == 'A' ? 'B' : 'A';
	leads_nowhere(there.user, 0);
	there = forward("u@far.test", 0);
	leads_to(there.user, 0, &want);
	forward("u@far.test", -1);
}

/* ---- limits ---- */

static void test_length(void **state)
{
	(void)state;
	struct addr from = addr("x@far.test");
	/* 5 SRS0= 8 hash 1 2 day 1 8 domain 1: 26, and 38 are left. */
	memset(from.user, 'u', 38);
	from.user[38] = '\0';
	round_trip(&from);
	from.user[38] = 'u';
	from.user[39] = '\0';
	refuse_forward(&from);
	/* Quotes count, and so does what is behind a backslash. */
	from.user[36] = '\0';
	from.user[3] = ' ';
	round_trip(&from);
	from.user[4] = '"';
	refuse_forward(&from);
	memset(from.user, 'u', 64);
	refuse_forward(&from);
	memset(from.domain, 'd', 60);
	memcpy(from.domain + 60, ".test", 6);
	from.user[1] = '\0';
	refuse_forward(&from);
	struct addr null = {.user = ""};
	refuse_forward(&null);
	struct addr postmaster = {.user = "postmaster"};
	refuse_forward(&postmaster);
	/* SRS1, at the limit and over it. */
	from = addr("SRS0=abcd=ef=some.far.example=a.user.name@forw.example");
	round_trip(&from);
	assert_int_equal(
	    strlen(forward("SRS0=abcd=ef=some.far.example=a.user.name@forw.example", NOW).user),
	    64);
	from = addr("SRS0=abcd=ef=some.far.example=a.user.namex@forw.example");
	refuse_forward(&from);
}

/* ---- keys ---- */

static void test_makes_key(void **state)
{
	(void)state;
	char key[256];
	char again[256];
	struct stat s;
	unlink(key_path());
	umask(0);
	reopen();
	assert_non_null(srs);
	assert_int_equal(stat(key_path(), &s), 0);
	assert_int_equal(s.st_mode & 07777, 0600);
	get_key(key);
	assert_int_equal(strlen(key), 45);
	struct addr there = forward("u@far.test", NOW);
	const struct addr want = addr("u@far.test");
	reopen();
	get_key(again);
	assert_string_equal(key, again);
	leads_to(there.user, NOW, &want);
	unlink(key_path());
	reopen();
	get_key(again);
	assert_string_not_equal(key, again);
	leads_nowhere(there.user, NOW);
}

static void test_rotation(void **state)
{
	(void)state;
	char key[256];
	char text[2048];
	struct addr there[7];
	const struct addr want = addr("u@far.test");
	text[0] = '\0';
	for (int i = 0; i < 7; i++) {
		unlink(key_path());
		reopen();
		get_key(key);
		there[i] = forward("u@far.test", NOW);
		memmove(text + 45, text, 4 * 45 + 1); /* the newest first, five in all */
		memcpy(text, key, 45);
		text[5 * 45] = '\0';
	}
	put_key(text, 0600);
	reopen();
	assert_non_null(srs);
	for (int i = 0; i < 7; i++) {
		if (i < 2)
			leads_nowhere(there[i].user, NOW);
		else
			leads_to(there[i].user, NOW, &want);
	}
	assert_string_equal(forward("u@far.test", NOW).user, there[6].user);
}

static void refuse_key(const char *text, mode_t mode, const char *why)
{
	put_key(text, mode);
	reopen();
	assert_null(srs);
	assert_non_null(strstr(st.text, "srs-key: "));
	assert_non_null(strstr(st.text, why));
}

static void test_bad_keys(void **state)
{
	(void)state;
	char many[600];
	size_t n = strlen(KEY);
	refuse_key("", 0600, "no key");
	refuse_key("\n\n", 0600, "no key");
	refuse_key("secret\n", 0600, "line 1");
	refuse_key(KEY "\nAAEC\n", 0600, "line 3");
	refuse_key(KEY "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n", 0600, "line 2");
	refuse_key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gIQ==\n", 0600, "line 1");
	refuse_key(" " KEY, 0600, "line 1");
	for (size_t i = 0; i < 6; i++)
		memcpy(many + i * n, KEY, n + 1);
	refuse_key(many, 0600, "line 6");
	memset(many, 'A', sizeof many - 1);
	many[sizeof many - 1] = '\0';
	refuse_key(many, 0600, "longer");
	refuse_key(KEY, 0640, "0600");
	refuse_key(KEY, 0604, "0600");
	unlink(key_path());
	assert_int_equal(symlink("/dev/null", key_path()), 0);
	reopen();
	assert_null(srs);
	unlink(key_path());
	assert_int_equal(mkfifo(key_path(), 0600), 0);
	reopen();
	assert_null(srs);
	unlink(key_path());
	assert_null(srs_open("/nonexistent/dir", &st));
	/* Line ends of other systems, none at the end. */
	put_key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\r\n\r\n"
	        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
	        0400);
	reopen();
	assert_non_null(srs);
	assert_string_equal(forward("User@Far.Test", NOW).user, KNOWN_SRS0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    T(test_known_addresses),    cmocka_unit_test(test_is_mine),
	    T(test_every_character),    T(test_spellings),
	    T(test_case_changes),       T(test_chain),
	    T(test_tampered),           T(test_days),
	    T(test_clock_not_believed), T(test_length),
	    T(test_makes_key),          T(test_rotation),
	    T(test_bad_keys),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
