/* test_tls_report: certificates of openssl's making, as they are told. */
#include "tls_help.h"

#if WITH_TLS

#include "tls_report.h"

static struct tls_report_chain chain;
static const char *file, *why;

static int look(const char *pem, const char *key, const char *host)
{
	static char paths[2][128];
	snprintf(paths[0], sizeof paths[0], "%s/%s", top, pem);
	snprintf(paths[1], sizeof paths[1], "%s/%s", top, key);
	return tls_report_files(paths[0], paths[1], host, &chain, &file, &why);
}

static int make(void **state)
{
	(void)state;
	assert_int_equal(temp_dir_make(top, sizeof top), 0);
	shell("openssl ecparam -name prime256v1 -genkey -noout -out ca.key");
	shell("openssl req -x509 -new -key ca.key -sha256 -days 100 -subj '/O=Test/CN=Root' "
	      "-out ca.pem");
	shell("openssl genrsa -out a.key 2048 2>/dev/null");
	shell(
	    "openssl req -x509 -new -key a.key -sha256 -days 10 "
	    "-subj '/CN=common.test/O=b\\x1b[2J' -addext "
	    "'subjectAltName=DNS:mx.test,DNS:*.wild.test,IP:192.0.2.7,IP:2001:db8::1' -out a.pem");
	shell("cat a.pem ca.pem > disorder.pem");
	shell("openssl req -new -key a.key -subj /CN=leaf.test -out leaf.csr");
	shell("openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -set_serial 7 -days 5 "
	      "-out leaf.pem 2>/dev/null");
	shell("cat leaf.pem ca.pem > order.pem");
	shell("echo nonsense > bad.pem");
	return 0;
}

static int unmake(void **state)
{
	(void)state;
	return temp_dir_remove();
}

static void tells_one(void **state)
{
	(void)state;
	assert_int_equal(look("a.pem", "a.key", "mx.test"), 0);
	assert_int_equal(chain.count, 1);
	const struct tls_report *r = &chain.cert[0];
	assert_non_null(strstr(r->subject, "CN=common.test"));
	assert_string_equal(r->names, "mx.test, *.wild.test, 192.0.2.7, 2001:db8::1");
	assert_string_equal(r->key, "RSA 2048 bits");
	assert_int_equal(strlen(r->sha256), 64);
	assert_true(r->own_issuer);
	assert_true(r->for_host);
	int64_t now = (int64_t)time(NULL);
	assert_true(r->begins <= now && r->begins > now - 600);
	assert_int_equal(r->ends - r->begins, 10 * 86400);
	assert_true(chain.in_order);
}

static void knows_names(void **state)
{
	(void)state;
	static const struct {
		const char *host;
		bool is;
	} cases[] = {{"MX.test", true},        {"a.wild.test", true},  {"wild.test", false},
	             {"a.b.wild.test", false}, {"common.test", false}, {NULL, false}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(look("a.pem", "a.key", cases[i].host), 0);
		assert_int_equal(chain.cert[0].for_host, cases[i].is);
	}
	/* Without alternative names the common one counts. */
	assert_int_equal(look("leaf.pem", "a.key", "leaf.test"), 0);
	assert_true(chain.cert[0].for_host);
	assert_string_equal(chain.cert[0].names, "");
}

static void tells_order(void **state)
{
	(void)state;
	assert_int_equal(look("order.pem", "a.key", NULL), 0);
	assert_int_equal(chain.count, 2);
	assert_true(chain.in_order);
	assert_false(chain.cert[0].own_issuer);
	assert_string_equal(chain.cert[0].issuer, chain.cert[1].subject);
	assert_string_equal(chain.cert[1].key, "EC 256 bits");
	assert_int_equal(look("disorder.pem", "a.key", NULL), 0);
	assert_false(chain.in_order);
}

static void tells_what_is_wrong(void **state)
{
	(void)state;
	assert_int_equal(look("a.pem", "ca.key", NULL), -1);
	assert_non_null(strstr(file, "/ca.key"));
	assert_string_equal(why, "not the key of the certificate");
	assert_int_equal(chain.count, 1); /* still told */
	assert_int_equal(look("bad.pem", "a.key", NULL), -1);
	assert_non_null(strstr(file, "/bad.pem"));
	assert_int_equal(chain.count, 0);
	assert_int_equal(look("none.pem", "a.key", NULL), -1);
	assert_string_equal(why, strerror(ENOENT));
	struct tls_report r;
	assert_int_equal(tls_report_cert(slice_of("junk"), NULL, &r), -1);
	tls_report_peer(NULL, NULL, &chain);
	assert_int_equal(chain.count, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(tells_one),
	    cmocka_unit_test(knows_names),
	    cmocka_unit_test(tells_order),
	    cmocka_unit_test(tells_what_is_wrong),
	};
	return cmocka_run_group_tests(tests, make, unmake);
}

#else

int main(void)
{
	return 0;
}

#endif
