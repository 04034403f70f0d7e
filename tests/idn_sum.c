/*
 * Prints sums over what libidn2 says of each code point, in the calls that addr_idn.c makes: alone,
 * and beside what the rules of IDNA2008 look at (a letter, a mark, joining, right to left,
 * scripts). Two libraries with the same tables print the same, whatever the machine: tests/musl.sh
 * compares the library with smaller tables there with the system's here.
 */
#include <idn2.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What stands before and after the code point. */
static const char *const places[][2] = {
    {"", ""},
    {"a", "\xcc\xa3"},                    /* before a mark that goes before most others */
    {"\xd7\x90", "1"},                    /* after alef, before a digit */
    {"", "\xd7\x90"},                     /* before alef */
    {"", "\xe2\x80\x8c\xd8\xa8"},         /* before a non-joiner and beh */
    {"\xd8\xa8", "\xe2\x80\x8c\xd8\xa8"}, /* between beh and them */
    {"\xd8\xa8\xe2\x80\x8c", ""},         /* after them */
    {"\xe3\x83\xbb", ""},                 /* after the Katakana middle dot */
    {"\xcd\xb5", ""},                     /* after the Greek numeral sign */
    {"", "\xd7\xb3"},                     /* before the Hebrew one */
};
#define PLACES (sizeof(places) / sizeof(places[0]))

static uint64_t sum;

static void add(const void *bytes, size_t length)
{
	const unsigned char *p = bytes;

	while (length--)
		sum = (sum ^ *p++) * UINT64_C(1099511628211);
}

/* What a call gave; negative errors are taken as one byte. */
static void add_result(int code, const char *text)
{
	unsigned char byte = (unsigned char)-code;

	add(&byte, 1);
	if (code == IDN2_OK)
		add(text, strlen(text) + 1);
}

static void utf8(char out[5], uint32_t c)
{
	int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
	static const unsigned char heads[] = {0, 0xc0, 0xe0, 0xf0};

	*out++ = (char)(heads[more] | c >> (6 * more));
	while (more--)
		*out++ = (char)(0x80 | (c >> (6 * more) & 0x3f));
	*out = '\0';
}

static void add_name(const char *name)
{
	uint8_t *ascii = NULL;
	uint8_t *label = NULL;
	char *text = NULL;
	int code =
	    idn2_lookup_u8((const uint8_t *)name, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);

	add_result(code, (const char *)ascii);
	if (code == IDN2_OK) {
		code = idn2_to_unicode_8z8z((const char *)ascii, &text, 0);
		add_result(code, text);
		if (code == IDN2_OK)
			idn2_free(text);
		idn2_free(ascii);
	}
	code = idn2_register_u8((const uint8_t *)name, NULL, &label, 0);
	add_result(code, (const char *)label);
	if (code == IDN2_OK)
		idn2_free(label);
}

int main(void)
{
	printf("libidn2 %.5s\n", idn2_check_version(NULL));
	for (uint32_t first = 0; first < 0x110000; first += 0x1000) {
		/* Beyond these places nothing is assigned, or for private use. */
		size_t many = first < 0x32000 || first == 0xe0000 ? PLACES : 1;

		sum = UINT64_C(14695981039346656037);
		for (uint32_t c = first ? first : 1; c < first + 0x1000; c++) {
			char name[32];
			char here[5];

			if (c >= 0xd800 && c < 0xe000)
				continue;
			utf8(here, c);
			for (size_t i = 0; i < many; i++) {
				snprintf(name, sizeof(name), "%s%s%s", places[i][0], here,
				         places[i][1]);
				add_name(name);
			}
		}
		printf("%06" PRIx32 " %016" PRIx64 "\n", first, sum);
	}
	return 0;
}
