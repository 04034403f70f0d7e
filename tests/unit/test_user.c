/* user: the users file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "temp_dir.h"
#include "user.h"
#include "valgrind.h"

static char dir[TEMP_DIR_MAX];
static char path[64];
static char err[256];

static int set_up(void **state)
{
	(void)state;
	if (temp_dir_make(dir, sizeof dir))
		return -1;
	snprintf(path, sizeof(path), "%s/users", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return temp_dir_remove();
}

static struct user_table *load(const char *text, const char *drop)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
	err[0] = '\0';
	return user_load(path, drop, err, sizeof(err));
}

static void test_file_of_chasquid(void **state)
{
	(void)state;
	struct user_table *t =
	    load("users:  {\n"
	         "  key:  \"someone\"\n"
	         "  value:  {\n"
	         "    scrypt:  {\n"
	         "      logN:  14\n"
	         "      r:  8\n"
	         "      p:  1\n"
	         "      keyLen:  32\n"
	         "      salt:  \"J\\x01\\xed7]\\x02\\n\\xe9;z[\\x8d\xcb\xb1\\x10\\xc1\"\n"
	         "      encrypted:  \"\\xa50\xe5\xae\xb4\"\n"
	         "    }\n"
	         "  }\n"
	         "}\n"
	         "users:{ key: 'user' value:{ plain:{ password: 'x' }}}\n"
	         "users < key: 'only' value < denied <> > >\n"
	         "users { key: \"bare\" }\n",
	         ".");
	assert_string_equal(err, "");
	assert_non_null(t);
	assert_int_equal(user_count(t), 4);
	assert_true(user_exists(t, "someone"));
	assert_true(user_exists(t, "user"));
	assert_true(user_exists(t, "only"));
	assert_true(user_exists(t, "bare"));
	assert_false(user_exists(t, "users"));
	assert_false(user_exists(t, ""));
	user_free(t);
}

static void test_names_are_compared_by_key(void **state)
{
	(void)state;
	struct user_table *t =
	    load("users { key: 'Ju.An' } users { key: 'juan' } users { key: 'a.b' }"
	         "users { key: 'x+y' } users { key: 'JUAN' }",
	         ".");
	assert_non_null(t);
	assert_int_equal(user_count(t), 4);
	assert_string_equal(user_find(t, "JU.an"), "ju.an");
	assert_string_equal(user_find(t, "juan"), "juan");
	assert_string_equal(user_find(t, "j.uan"), "juan");
	assert_string_equal(user_find(t, "AB"), "a.b");
	assert_string_equal(user_find(t, "x+y"), "x+y");
	assert_null(user_find(t, "x"));
	assert_null(user_find(t, "..."));
	user_free(t);
}

static void test_drop_characters_may_be_off(void **state)
{
	(void)state;
	struct user_table *t = load("users { key: 'a.b' }", "");
	assert_non_null(t);
	assert_true(user_exists(t, "a.b"));
	assert_false(user_exists(t, "ab"));
	user_free(t);
}

static void test_no_file_is_no_users(void **state)
{
	(void)state;
	struct user_table *t = user_load("/nonexistent/users", ".", err, sizeof(err));
	assert_non_null(t);
	assert_int_equal(user_count(t), 0);
	assert_false(user_exists(t, "root"));
	user_free(t);
	assert_false(user_exists(NULL, "root"));
	assert_int_equal(user_count(NULL), 0);
}

static void test_bad_files_say_where(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *expect;
	} cases[] = {
	    {"users { key: 'a' }\nusers { kee: 'b' }\n", "/users:2: kee: unknown field"},
	    {"users { value { denied {} } }\n", "/users:1: users: a user without a name"},
	    {"users { key: '' }\n", "/users:1: users: a user without a name"},
	    {"users { key: 'a' value { plain {} denied {} } }\n", "/users:1: denied: excludes"},
	    {"users { key: 'a' value { plain { password: 7 } } }\n", "/users:1: password: "},
	    {"users { key: 'a' value { scrypt { logN: -1 } } }\n", "/users:1: logN: "},
	    {"users { key: 'a'\n", "/users:"},
	    {"users { key: 'a123456789b123456789c123456789d123456789e123456789f123456789g1234' }",
	     "/users:1: key: longer"},
	    {"persons { }\n", "/users:1: persons: unknown field"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_null(load(cases[i].text, "."));
		if (!strstr(err, cases[i].expect))
			fail_msg("case %zu: %s", i, err);
	}
	assert_null(user_load(dir, ".", err, sizeof(err)));
}

static void test_clean(void **state)
{
	(void)state;
	char out[ADDR_USER_MAX + 1];
	user_clean("ju.ana.pe.rez+f.x", "+", ".", true, out);
	assert_string_equal(out, "juanaperez+f.x");
	user_clean("ju.ana.pe.rez+f.x", "+", ".", false, out);
	assert_string_equal(out, "juanaperez");
	user_clean("a-b_c+d", "+-", "_", false, out);
	assert_string_equal(out, "a");
	user_clean("n\303\261\302\267x\342\202\254y", "\342\202\254", "\302\267", false, out);
	assert_string_equal(out, "n\303\261x");
	user_clean("+tag", "+", ".", false, out);
	assert_string_equal(out, "");
	user_clean("a.b+c", "", "", false, out);
	assert_string_equal(out, "a.b+c");
	user_clean("\377.\303", "+", ".", false, out);
	assert_string_equal(out, "\377\303");
}

static char *read_back(void)
{
	static char text[8192];
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	size_t n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	return text;
}

/* "secret", salt "0123456789abcdef": as chasquid and as chasq store it (but cheaper), and the
 * same with parameters out of bounds. */
#define SCRYPT_OF(log_n, r, p, len)                                                                \
	"scrypt { logN: " log_n " r: " r " p: " p " keyLen: " len " salt: '0123456789abcdef' "     \
	"encrypted: "                                                                              \
	"'\\113\\261\\160\\006\\372\\156\\373\\077\\012\\320\\365\\025\\121\\250\\005\\105\\065\\" \
	"000\\007\\147\\100\\304\\206\\151\\315\\121\\357\\055\\230\\253\\373\\337' }"
#define PBKDF2_OF(iterations)                                                                      \
	"pbkdf2 { iterations: " iterations " salt: '0123456789abcdef' hash: "                      \
	"'\\266\\042\\226\\037\\056\\005\\000\\140\\226\\023\\310\\047\\350\\153\\112\\205\\254\\" \
	"103\\330\\347\\236\\001\\105\\026\\134\\124\\377\\247\\126\\232\\066\\137' }"

#if WITH_TLS
static int check(const struct user_table *t, const char *user, const char *password)
{
	return user_check(t, user, slice_of(password));
}
#endif

static void test_passwords(void **state)
{
	(void)state;
	struct user_table *t = load(
	    "users { key: 'old' value { " SCRYPT_OF(
	        "10", "8", "1",
	        "32") " } }\n"
	              "users { key: 'new' value { " PBKDF2_OF(
	                  "1000") " } }\n"
	                          "users { key: 'plain' value { plain { password: 's\\000t' } } }\n"
	                          "users { key: 'empty' value { plain { } } }\n"
	                          "users { key: 'only' value { denied { } } }\n"
	                          "users { key: 'bare' }\n",
	    ".");
	struct user_secret s;
	assert_non_null(t);
#if WITH_TLS
	assert_int_equal(check(t, "old", "secret"), 1);
	assert_int_equal(check(t, "OLD", "secret"), 1);
	assert_int_equal(check(t, "old", "Secret"), 0);
	assert_int_equal(check(t, "new", "secret"), 1);
	assert_int_equal(check(t, "new", "secret "), 0);
	assert_int_equal(check(t, "new", ""), 0);
	assert_int_equal(check(t, "only", "secret"), 0);
	assert_int_equal(check(t, "only", ""), 0);
	assert_int_equal(check(t, "bare", ""), 0);
	assert_int_equal(check(t, "nobody", "secret"), 0);
	assert_int_equal(check(NULL, "nobody", "secret"), 0);
	assert_int_equal(check(t, "empty", ""), 0);
	assert_int_equal(user_check(t, "plain", slice_of("s")), 0);
#endif
	assert_int_equal(user_check(t, "plain", (struct slice){"s\0t", 3}), 1);
	assert_true(user_secret_find(t, "only", &s));
	assert_true(s.never);
	assert_false(user_secret_find(t, "nobody", &s));
	assert_true(s.never);
	user_free(t);
}

static void test_stand_in_costs_the_same(void **state)
{
	(void)state;
	struct user_secret s;
	struct user_table *t =
	    load("users { key: 'a' value { denied {} } }"
	         "users { key: 'b' value { " SCRYPT_OF("12", "8", "1", "32") " } }",
	         ".");
	assert_false(user_secret_find(t, "nobody", &s));
	assert_int_equal(s.scheme, USER_SCRYPT);
	assert_int_equal(s.log_n, 12);
	assert_true(user_secret_find(t, "a", &s));
	assert_int_equal(s.scheme, USER_SCRYPT);
	assert_true(s.never);
	user_free(t);
	assert_false(user_secret_find(NULL, "nobody", &s));
	assert_int_equal(s.scheme, USER_PBKDF2);
	assert_int_equal(s.iterations, KDF_PBKDF2_ITERATIONS);
}

static void test_bad_parameters_never_match(void **state)
{
	(void)state;
	static const char *const bad[] = {
	    SCRYPT_OF("0", "8", "1", "32"),
	    SCRYPT_OF("63", "8", "1", "32"),
	    SCRYPT_OF("18446744073709551615", "8", "1", "32"),
	    SCRYPT_OF("10", "0", "1", "32"),
	    SCRYPT_OF("10", "-8", "1", "32"),
	    SCRYPT_OF("10", "2147483647", "1", "32"),
	    SCRYPT_OF("10", "8", "-1", "32"),
	    SCRYPT_OF("10", "8", "1", "31"),
	    SCRYPT_OF("10", "8", "1", "-32"),
	    SCRYPT_OF("10", "8", "1", "0"),
	    "scrypt { logN: 14 r: 8 p: 1 keyLen: 0 }",
	    "scrypt { }",
	    PBKDF2_OF("0"),
	    PBKDF2_OF("4294967295"),
	    "pbkdf2 { iterations: 1000 }",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char text[512];
		struct user_secret s;
		snprintf(text, sizeof(text), "users { key: 'u' value { %s } }", bad[i]);
		struct user_table *t = load(text, ".");
		assert_non_null(t);
		assert_true(user_exists(t, "u"));
		assert_true(user_secret_find(t, "u", &s));
		assert_true(s.never);
		user_free(t);
	}
	char text[1200] = "users { key: 'u' value { plain { password: '";
	for (size_t i = 0; i < USER_HASH_MAX + 1; i++)
		strncat(text, "x", 2);
	strncat(text, "' } } }", 10);
	struct user_table *t = load(text, ".");
	struct user_secret s;
	assert_true(user_secret_find(t, "u", &s));
	assert_true(s.never);
	user_free(t);
}

static void test_put_and_remove(void **state)
{
	(void)state;
	struct user_secret s = {.scheme = USER_PLAIN, .hash_n = 4, .hash = "a\0\n'"};
	struct stat st;
	unlink(path);
	assert_int_equal(user_put(path, "Ana", &s, err, sizeof(err)), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, USER_FILE_MODE);
	struct user_table *t = user_load(path, ".", err, sizeof(err));
	assert_string_equal(user_find(t, "ana"), "ana");
	assert_int_equal(user_check(t, "ana", (struct slice){"a\0\n'", 4}), 1);
	user_free(t);
	assert_int_equal(user_remove(path, "ANA", err, sizeof(err)), 0);
	assert_int_equal(user_remove(path, "ana", err, sizeof(err)), 1);
	t = user_load(path, ".", err, sizeof(err));
	assert_int_equal(user_count(t), 0);
	user_free(t);
	assert_int_equal(user_put("/nonexistent/x/users", "ana", &s, err, sizeof(err)), -1);
	assert_string_equal(err, "/nonexistent/x/users: No such file or directory");
	assert_int_equal(user_put(path, "", &s, err, sizeof(err)), -1);
}

/* What is not changed is kept: other entries whatever their scheme, mode, owner, a link. */
static void test_put_keeps_the_rest(void **state)
{
	(void)state;
	char link[sizeof(path) + 8];
	struct user_secret s = {.scheme = USER_DENIED};
	struct stat st;
	user_free(
	    load("# a comment\nusers { key: 'Old.One' value { scrypt { logN: 99 r: -3 p: 1 "
	         "keyLen: 7 salt: '\\377\\000' encrypted: 'abc' } } }\n"
	         "users { key: 'b' value { plain { password: 'x' } } } users { key: 'bare' }\n"
	         "users { key: 'B' value { denied {} } }\n",
	         "."));
	assert_int_equal(chmod(path, 0604), 0);
	if (getuid() == 0)
		assert_int_equal(chown(path, 1234, 4321), 0);
	snprintf(link, sizeof(link), "%s.link", path);
	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(user_put(link, "b", &s, err, sizeof(err)), 0);
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	unlink(link);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0604);
	if (getuid() == 0) {
		assert_int_equal(st.st_uid, 1234);
		assert_int_equal(st.st_gid, 4321);
	}
	const char *text = read_back();
	assert_non_null(strstr(text, "key: \"Old.One\""));
	assert_non_null(strstr(text, "logN: 99"));
	assert_non_null(strstr(text, "r: -3"));
	assert_non_null(strstr(text, "salt: \"\\xff\\x00\""));
	assert_non_null(strstr(text, "key: \"bare\""));
	assert_non_null(strstr(text, "denied {"));
	assert_null(strstr(text, "plain"));
	struct user_table *t = user_load(path, ".", err, sizeof(err));
	assert_int_equal(user_count(t), 3);
	user_free(t);
}

static void test_bad_file_is_not_rewritten(void **state)
{
	(void)state;
	struct user_secret s = {.scheme = USER_DENIED};
	assert_null(load("users { kee: 'a' }\n", "."));
	assert_int_equal(user_put(path, "b", &s, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "/users:1: kee: unknown field"));
	assert_string_equal(read_back(), "users { kee: 'a' }\n");
}

#if WITH_TLS
static void test_new_secrets(void **state)
{
	(void)state;
	if (under_valgrind())
		skip(); /* four hashes as they are in earnest: arithmetic of the library */
	struct user_secret a, b;
	assert_int_equal(user_secret_new(&a, slice_of("geheim")), 0);
	assert_int_equal(user_secret_new(&b, slice_of("geheim")), 0);
	assert_memory_not_equal(a.salt, b.salt, 16);
	assert_memory_not_equal(a.hash, b.hash, 32);
	unlink(path);
	assert_int_equal(user_put(path, "u", &a, err, sizeof(err)), 0);
	struct user_table *t = user_load(path, ".", err, sizeof(err));
	assert_int_equal(check(t, "u", "geheim"), 1);
	assert_int_equal(check(t, "u", "geheimnis"), 0);
	user_free(t);
}
#endif

static void take_name(void *arg, const char *name, enum user_scheme scheme)
{
	static const char letters[] = "dpsk";
	char *out = arg;
	size_t n = strlen(out);
	snprintf(out + n, 100 - n, "%s=%c ", name, letters[scheme]);
}

static void test_each(void **state)
{
	(void)state;
	char out[100] = "";
	struct user_table *t = load("users { key: 'd' } users { key: 'a.b' value { plain {} } }"
	                            "users { key: 'c' value { scrypt {} } }"
	                            "users { key: 'c' value { pbkdf2 {} } }",
	                            ".");
	user_each(t, take_name, out);
	assert_string_equal(out, "a.b=p c=k d=d ");
	user_each(NULL, take_name, out);
	user_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file_of_chasquid),
		cmocka_unit_test(test_names_are_compared_by_key),
		cmocka_unit_test(test_drop_characters_may_be_off),
		cmocka_unit_test(test_no_file_is_no_users),
		cmocka_unit_test(test_bad_files_say_where),
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_passwords),
		cmocka_unit_test(test_stand_in_costs_the_same),
		cmocka_unit_test(test_bad_parameters_never_match),
		cmocka_unit_test(test_put_and_remove),
		cmocka_unit_test(test_put_keeps_the_rest),
		cmocka_unit_test(test_bad_file_is_not_rewritten),
#if WITH_TLS
		cmocka_unit_test(test_new_secrets),
#endif
		cmocka_unit_test(test_each),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
