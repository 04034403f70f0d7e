/* fuzz_masquerade: a message through the filter, in pieces whose size the first byte says. Without
 * a rule that matches, nothing may change. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "masquerade.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct source {
	const uint8_t *p;
	size_t left;
	size_t step;
};

static ssize_t source_read(void *arg, char *p, size_t n, struct status *st)
{
	struct source *s = arg;
	(void)st;
	if (n > s->step)
		n = s->step;
	if (n > s->left)
		n = s->left;
	memcpy(p, s->p, n);
	s->p += n;
	s->left -= n;
	return (ssize_t)n;
}

static void run(const struct conf_masquerades *rules, const uint8_t *data, size_t size, size_t step,
                bool same)
{
	struct source s = {data, size, step};
	struct masquerade m;
	struct status st;
	char chunk[64];
	ssize_t n;
	size_t at = 0;
	masquerade_init(&m, rules, "us.test", source_read, &s);
	while ((n = masquerade_read(&m, chunk, sizeof chunk, &st)) > 0) {
		if (same && (at + (size_t)n > size || memcmp(data + at, chunk, (size_t)n) != 0))
			abort();
		at += (size_t)n;
	}
	if (same && (n < 0 || at != size))
		abort();
	masquerade_clear(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char us[] = "us.test";
	struct conf_masquerade rule = {
	    .from = {NULL, us}, .to = {"", "a-longer-name.example"}, .keep_user = true};
	const struct conf_masquerades rules = {&rule, 1}, none = {NULL, 0};
	if (size == 0)
		return 0;
	run(&rules, data + 1, size - 1, data[0] + 1U, false);
	run(&none, data + 1, size - 1, data[0] + 1U, true);
	return 0;
}
