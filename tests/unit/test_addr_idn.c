/* Unit tests of addr_idn: domains and local parts beyond ASCII. The published data of UTS 46 and
 * all of Unicode are run by tests/e2e/test_idna_data.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "addr.h"

#if WITH_IDN

struct pair {
	const char *in, *want;
};

static void test_domain(void **state)
{
	static const struct pair cases[] = {
	    {"XN--BCHER-KVA.Example", "bücher.example"},
	    {"BÜCHER.example", "bücher.example"},
	    {"bu\u0308cher.example.", "bücher.example"},
	    {"ñandú.test", "ñandú.test"},
	    {"xn--and-6ma2c.test", "ñandú.test"},
	    {"МИР.test", "мир.test"},
	    {"xn--h1ahn.test", "мир.test"},
	    {"faß.example", "faß.example"}, /* non-transitional: not fass */
	    {"ΒΌΛΟΣ.example", "βόλοσ.example"},
	    {"βόλος.example", "βόλος.example"},
	    {"ｅｘａｍｐｌｅ．ｔｅｓｔ", "example.test"}, /* wide */
	    {"a。b．c｡d。", "a.b.c.d"},                   /* dots of other widths */
	    {"a\u00adb.example", "ab.example"},           /* soft hyphen */
	    {"_dmarc.bücher.example", "_dmarc.bücher.example"},
	    {"l\u00b7l.example", "l·l.example"}, /* between two l */
	    {"\u0915\u094d\u200d\u0937.example", "\u0915\u094d\u200d\u0937.example"},
	    {"\u05d0\u05d1.example", "\u05d0\u05d1.example"},
	    {"\u05d0\u05d11.a1.example", "\u05d0\u05d11.a1.example"},
	    {"ab--cd.example", "ab--cd.example"}, /* real hosts have such names */
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char out[ADDR_DOMAIN_MAX + 1];
		char ascii[ADDR_DOMAIN_MAX + 1];

		if (addr_domain_normalise(slice_of(cases[i].in), out, sizeof(out)) != 0)
			fail_msg("refused: %s", cases[i].in);
		assert_string_equal(out, cases[i].want);
		/* All ways lead to the same spelling. */
		assert_int_equal(addr_domain_to_ascii(out, ascii, sizeof(ascii)), 0);
		assert_int_equal(addr_domain_normalise(slice_of(ascii), out, sizeof(out)), 0);
		assert_string_equal(out, cases[i].want);
	}
}

static void test_domain_refused(void **state)
{
	static const char *const cases[] = {
	    "xn--a",                           /* decodes to a control character */
	    "xn--abc-",                        /* decodes to ASCII */
	    "xn--",                            /* nothing */
	    "xn--n3h.example",                 /* a snowman */
	    "\u2603.example",                  /* the same: no symbols in IDNA2008 */
	    "i\u2764.example",                 /* emoji */
	    "xn--strae-oqa.xn--BCHER-KVA\xff", /* broken UTF-8 */
	    "xn--bcher-kvb.example-",          /* hyphen at the end */
	    "xn--bcher--kva.example",          /* another decoding */
	    "xn--tda.xn--wca.example",         /* the second holds a capital */
	    "xn--u-ccb.example",               /* not in NFC */
	    "a\u0378.example",                 /* unassigned */
	    "a\ue000.example",                 /* private use */
	    "a\ufffe.example",                 /* no character */
	    "a\u202eb.example",                /* right-to-left override */
	    "\u0301a.example",                 /* combining mark first */
	    "ab--\u00e9.example",              /* hyphens in third and fourth place */
	    "-\u00e9.example",                 /* hyphen at the start */
	    "a\u200db.example",                /* ZERO WIDTH JOINER without a virama */
	    "a\u00b7b.example",                /* middle dot not between two l */
	    "a\u30fb.example",                 /* katakana middle dot without kana */
	    "\u0627\u0661\u06f1.example",      /* two kinds of Arabic digits */
	    "\u05d01\u0661\u05d0.example",     /* European and Arabic digits */
	    "\u05d0a.example",                 /* both directions in a label */
	    "1\u05d0.example",                 /* right to left, but begins with a digit */
	    "1a.\u05d0",                       /* a digit first beside right to left */
	    "_a.\u05d0",
	    "a_\u00e9.example", /* an underscore in a U-label */
	    "a／b.example",     /* wide solidus */
	    "a＠b.example",
	    "。",
	    "a。。b",
	    "a。.",
	    "\u00ad",
	    "a.\u00ad.b",
	    "\u2024.example",
	};
	char out[ADDR_DOMAIN_MAX + 1];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (addr_domain_normalise(slice_of(cases[i]), out, sizeof(out)) == 0)
			fail_msg("taken: %s as %s", cases[i], out);
		assert_string_equal(out, "");
	}
}

/* Writes `label` n times, with dots between. */
static size_t repeat(char *out, size_t size, const char *label, size_t n)
{
	size_t at = 0;

	while (n-- > 0 && at < size)
		at += (size_t)snprintf(out + at, size - at, "%s%s", label, n > 0 ? "." : "");
	return at;
}

static void test_domain_lengths(void **state)
{
	char label[200] = "";
	char name[600];
	char out[ADDR_DOMAIN_MAX + 1];
	char ascii[ADDR_DOMAIN_MAX + 1];
	char large[600];
	size_t n;
	size_t i;

	(void)state;
	/* "ü" and n letters: an A-label of n + 8 octets while n is small ("xn--", "-", three). */
	for (n = 1; n < 80; n++) {
		int rc;

		memcpy(label, "\u00fc", 2);
		memset(label + 2, 'x', n);
		label[n + 2] = '\0';
		rc = addr_domain_normalise(slice_of(label), out, sizeof(out));
		if (rc == 0) {
			assert_int_equal(addr_domain_to_ascii(out, ascii, sizeof(ascii)), 0);
			assert_true(strlen(ascii) <= 63);
		}
		assert_true((rc == 0) == (n <= 55));
	}
	/* 253 octets as A-labels are the most, and 255 in Unicode. */
	for (i = 1; i < 60; i++) {
		int rc;

		repeat(name, sizeof(name), "b\u00fccher", i);
		rc = addr_domain_normalise(slice_of(name), out, sizeof(out));
		assert_int_equal(rc, 14 * i - 1 <= 253 ? 0 : -1);
	}
	/* A label of equal letters is longer in Unicode than in Punycode. */
	for (n = 0; n < 30; n++)
		memcpy(label + 3 * n, "\u65e5", 3);
	label[90] = '\0';
	repeat(name, sizeof(name), label, 2);
	assert_int_equal(addr_domain_normalise(slice_of(name), out, sizeof(out)), 0);
	repeat(name, sizeof(name), label, 3);
	assert_int_equal(addr_domain_normalise(slice_of(name), out, sizeof(out)), -1);
	/* The same from A-labels, which are short, and with more room than the limit. */
	for (i = 2; i <= 3; i++) {
		char alabel[ADDR_DOMAIN_MAX + 1];

		assert_int_equal(addr_domain_to_ascii(label, alabel, sizeof(alabel)), 0);
		repeat(name, sizeof(name), alabel, i);
		assert_true(strlen(name) <= 253);
		assert_int_equal(addr_domain_normalise(slice_of(name), large, sizeof(large)),
		                 i * 91 - 1 <= ADDR_DOMAIN_MAX ? 0 : -1);
	}
}

static void test_domain_small_buffer(void **state)
{
	char out[20];

	(void)state;
	assert_int_equal(addr_domain_normalise(slice_of("XN--H1AHN"), out, 7), 0);
	assert_string_equal(out, "мир");
	assert_int_equal(addr_domain_normalise(slice_of("XN--H1AHN"), out, 6), -1);
	assert_string_equal(out, "");
	assert_int_equal(addr_domain_to_ascii("мир", out, 10), 0);
	assert_string_equal(out, "xn--h1ahn");
	assert_int_equal(addr_domain_to_ascii("мир", out, 9), -1);
}

static void test_key(void **state)
{
	static const struct pair cases[] = {
	    {"JOSÉ.García+Tag", "josé.garcía+tag"},
	    {"jose\u0301", "josé"},
	    {"ПИШУ", "пишу"},
	    {"ñANDÚ", "ñandú"},
	    {"Straße", "straße"},
	    {"ＡＢＣ１", "abc1"}, /* wide */
	    {"ｶﾞ", "ガ"},         /* narrow */
	    {"İ", "i\u0307"},
	    {"\u212b\u212a", "\u00e5k"}, /* Angstrom and Kelvin */
	    {"\u1112\u1161\u11ab", "\ud55c"},
	    {"a b \"@/\u00c9", "a b \"@/é"},
	    {"日本.太郎", "日本.太郎"},
	    {"l\u00b7l", "l·l"},
	    {"\u05d0\u05d1-x", "\u05d0\u05d1-x"},
	};
	char key[ADDR_USER_MAX + 1];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (addr_user_key(cases[i].in, key, sizeof(key)) != 0)
			fail_msg("refused: %s", cases[i].in);
		assert_string_equal(key, cases[i].want);
		assert_true(addr_user_equal(cases[i].in, key));
	}
	assert_false(addr_user_equal("é", "e"));
	assert_false(addr_user_equal("straße", "strasse"));
}

/* No local part, and no address either: with the code for each command. */
static void test_key_refused(void **state)
{
	static const char *const cases[] = {
	    "A\u2603",    /* snowman */
	    "\U0001f600", /* emoji */
	    "a\u0378",    /* unassigned */
	    "a\ue000",    /* private use */
	    "a\uffff",    /* no character */
	    "a\u00ad",    /* soft hyphen */
	    "a\u200bb",   /* zero width space */
	    "a\u202eb",   /* right-to-left override */
	    "\ufeffa",    /* byte order mark */
	    "a\u2019s",   /* punctuation */
	    "a\u00a0b",   /* no-break space */
	    "a\u00b2",    /* compatibility forms */
	    "\ufb01",
	    "\u2460",
	    "\u017f",
	    "a\uff0fb", /* wide punctuation is never the real one */
	    "a\uff20b",
	    "a\uff0eb",
	    "a\uff3fb",
	    "a\uff0db",
	    "a\u3002b",
	    "a\uff0e",
	    "a\u3002",
	    "a\uff61",
	    "\uff0d\u00e9",
	    "\u0301a", /* a mark first */
	    "a.\u0301",
	    "a\u200db", /* out of context */
	    "a\u00b7b",
	    "\u0661\u06f1",
	    "1\u05d0",
	    "a\u05d0", /* Bidi */
	    "\u05d01\u0661\u05d0",
	    "\xff",
	    "a\xc0\xaf",
	    "\xed\xa0\x80",
	    "\xc3",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char key[ADDR_USER_MAX + 1];
		char path[100];
		struct slice rest;
		struct status st;
		struct addr a;

		if (addr_user_key(cases[i], key, sizeof(key)) == 0)
			fail_msg("taken: %s as %s", cases[i], key);
		assert_string_equal(key, "");
		assert_false(addr_user_equal(cases[i], cases[i]));
		snprintf(path, sizeof(path), "<%s@d.example>", cases[i]);
		assert_int_equal(addr_parse_path(slice_of(path), ADDR_MAIL, &a, &rest, &st), -1);
		assert_true(st.code == 501 && st.enh[1] == 1 && st.enh[2] == 7);
		assert_int_equal(addr_parse_path(slice_of(path), ADDR_RCPT, &a, &rest, &st), -1);
		assert_true(st.code == 501 && st.enh[1] == 1 && st.enh[2] == 3);
		assert_true(addr_is_null(&a));
	}
}

/* Words too long for a label are folded in pieces. */
static void test_key_long(void **state)
{
	static const struct pair cases[] = {
	    {"АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ", "абвгдежзийклмнопрстуфхцчшщъыьэюя"},
	    {"長亜衣宇江緒加木久毛個差師酢瀬祖田千都手戸",
	     "長亜衣宇江緒加木久毛個差師酢瀬祖田千都手戸"},
	    /* a mark in the middle */
	    {"長亜衣宇江緒加木久か\u3099毛個差師酢瀬祖田千都",
	     "長亜衣宇江緒加木久が毛個差師酢瀬祖田千都"},
	    /* with marks that must stay with their letters */
	    {"\u0438\u0306Ж\u0438\u0306Ю\u0438\u0306ДЯФ\u0438\u0306ЩЪЫ\u0438\u0306ЖЮФЯ\u0438\u0306"
	     "АБВЦ",
	     "йжйюйдяфйщъыйжюфяйабвц"},
	};
	char user[200] = "";
	char key[ADDR_USER_MAX + 1];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (addr_user_key(cases[i].in, key, sizeof(key)) != 0)
			fail_msg("refused: %s", cases[i].in);
		assert_string_equal(key, cases[i].want);
	}
	/* U+023A is longer in lower case: a key that does not fit is none, and no address. */
	for (i = 0; i < 32; i++) {
		struct addr a;

		memcpy(user + 2 * i, "\u023a", 3);
		assert_int_equal(addr_user_key(user, key, sizeof(key)),
		                 3 * (i + 1) <= ADDR_USER_MAX ? 0 : -1);
		assert_int_equal(addr_parse_local(slice_of(user), "d", &a),
		                 3 * (i + 1) <= ADDR_USER_MAX ? 0 : -1);
	}
	/* Nothing to cut at. */
	for (i = 0; i < 31; i++)
		memcpy(user + 2 * i, "\u0301", 3);
	assert_int_equal(addr_user_key(user, key, sizeof(key)), -1);
	/* Many words, each short. */
	for (i = 0; i < 21; i++)
		memcpy(user + 3 * i, "\u00c9.", 4);
	assert_int_equal(addr_user_key(user, key, sizeof(key)), 0);
	assert_int_equal(strlen(key), 63);
}

static void test_format(void **state)
{
	struct addr a;
	char out[ADDR_TEXT_MAX];

	(void)state;
	assert_int_equal(addr_parse(slice_of("a@ÑANDÚ.test"), &a), 0);
	assert_string_equal(a.domain, "ñandú.test");
	assert_false(addr_is_ascii(&a));
	assert_int_equal(addr_format_wire(&a, false, out, sizeof(out)), 0);
	assert_string_equal(out, "<a@xn--and-6ma2c.test>");
	assert_int_equal(addr_format_wire(&a, true, out, sizeof(out)), 0);
	assert_string_equal(out, "<a@ñandú.test>");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_domain),
	    cmocka_unit_test(test_domain_refused),
	    cmocka_unit_test(test_domain_lengths),
	    cmocka_unit_test(test_domain_small_buffer),
	    cmocka_unit_test(test_key),
	    cmocka_unit_test(test_key_refused),
	    cmocka_unit_test(test_key_long),
	    cmocka_unit_test(test_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
	puts("built without IDN");
	return 0;
}

#endif
