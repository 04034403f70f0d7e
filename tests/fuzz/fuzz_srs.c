/*
 * Fuzz target of srs. Input that begins with '!' is an address: what can be rewritten leads back,
 * over the wire and in other letters, but not with another hash. Other input is a local part that
 * somebody sends: it leads to an address, or nowhere with a 550.
 */
#include "fuzz_dir.h"
#include "srs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOW (CLOCK_RELEASE + 86400LL)
#define KEY "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"

static struct srs *srs;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void start(void)
{
	struct status st;
	fuzz_dir_make();
	fuzz_dir_put("srs-key", KEY, sizeof KEY - 1);
	srs = srs_open(fuzz_dir, &st);
	check(srs != NULL);
}

static void there_and_back(struct slice text)
{
	struct addr from;
	struct addr ours;
	struct addr wire;
	struct addr back;
	struct status st;
	char out[ADDR_TEXT_MAX];
	if (addr_parse(text, &from) || srs_forward(srs, &from, "ours.test", NOW, &ours))
		return;
	check(srs_is_mine(ours.user));
	check(addr_format(&ours, out, sizeof out) == 0);
	check(strlen(out) <= 64 + strlen("@ours.test"));
	check(addr_parse(slice_of(out), &wire) == 0);
	check(srs_reverse(srs, wire.user, NOW, &back, &st) == 0);
	check(strcmp(back.user, from.user) == 0 || srs_is_mine(from.user));
	check(strcmp(back.domain, from.domain) == 0 || srs_is_mine(from.user));
	for (char *p = wire.user; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	check(srs_reverse(srs, wire.user, NOW, &back, &st) == 0);
	wire.user[5] = wire.user[5] == 'a' ? 'b' : 'a';
	check(srs_reverse(srs, wire.user, NOW, &back, &st) == -1 && st.code == 550);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A file of keys: taken, or refused for now with a reason. Without one, one is made that is taken.
 */
static void key_file(const uint8_t *data, size_t size)
{
	struct status st;
	struct srs *s;
	unlink(fuzz_dir_path("srs-key"));
	if (size > 0)
		fuzz_dir_put("srs-key", data, size);
	if (size % 16 == 15)
		check(chmod(fuzz_dir_path("srs-key"), 0644) == 0);
	s = srs_open(fuzz_dir, &st);
	check(s || st.code / 100 == 4);
	srs_close(s);
	if (size > 0)
		return;
	s = srs_open(fuzz_dir, &st);
	check(s != NULL);
	srs_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char user[300];
	struct addr out;
	struct status st;
	if (!srs)
		start();
	if (size > 0 && data[0] == '?') {
		key_file(data + 1, size - 1);
		return 0;
	}
	if (size > 0 && data[0] == '!') {
		there_and_back((struct slice){(const char *)data + 1, size - 1});
		return 0;
	}
	if (size >= sizeof user || memchr(data, '\0', size))
		return 0;
	memcpy(user, data, size);
	user[size] = '\0';
	if (!srs_is_mine(user))
		check(srs_reverse(srs, user, 0, &out, &st) == -1);
	else if (srs_reverse(srs, user, 0, &out, &st) == 0)
		check(out.user[0] && out.domain[0]);
	else
		check(st.code == 550 && addr_is_null(&out));
	return 0;
}
