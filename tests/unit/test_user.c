/* user: the users file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "user.h"

static char dir[] = "/tmp/chasq-test-user-XXXXXX";
static char path[64];
static char err[256];

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/users", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_file_of_chasquid),
	    cmocka_unit_test(test_names_are_compared_by_key),
	    cmocka_unit_test(test_drop_characters_may_be_off),
	    cmocka_unit_test(test_no_file_is_no_users),
	    cmocka_unit_test(test_bad_files_say_where),
	    cmocka_unit_test(test_clean),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
