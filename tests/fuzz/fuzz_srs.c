/*
 * Fuzz target of srs. Input that begins with '!' is an address: what can be rewritten leads back,
 * over the wire and in other letters, but not with another hash. Other input is a local part that
 * somebody sends: it leads to an address, or nowhere with a 550.
 */
#include "srs.h"

#include <fcntl.h>
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
	char dir[] = "/tmp/fuzz_srs.XXXXXX";
	char path[64];
	struct status st;
	check(mkdtemp(dir) != NULL);
	snprintf(path, sizeof path, "%s/srs-key", dir);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	check(fd >= 0 && write(fd, KEY, sizeof KEY - 1) == sizeof KEY - 1);
	close(fd);
	srs = srs_open(dir, &st);
	check(srs != NULL);
	check(unlink(path) == 0 && rmdir(dir) == 0);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char user[300];
	struct addr out;
	struct status st;
	if (!srs)
		start();
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
