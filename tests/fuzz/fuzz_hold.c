/*
 * Fuzzes the list of what the operator holds back. Any file is a list, or is set aside and counts
 * as empty; a list is sorted, without doubles, and what is added or removed is so after a restart.
 */
#include <stdint.h>
#include <sys/stat.h>

#include "fuzz_dir.h"
#include "hold.h"
#include "log.h"

static size_t check_list(const struct hold *h)
{
	const char *before = NULL;
	const char *name;
	size_t n = 0;
	for (; (name = hold_nth(h, n)) != NULL; n++) {
		CHECK(hold_has(h, name) && (!before || strcmp(before, name) < 0));
		before = name;
	}
	return n;
}

static struct hold *reopen(struct hold *h)
{
	struct status st;
	hold_close(h);
	h = hold_open(fuzz_dir, &st);
	CHECK(h != NULL);
	return h;
}

/* The disk takes no change: the list is as it was, and says why. */
static void fail(struct hold *h, size_t count)
{
	struct status st;
	char first[ADDR_DOMAIN_MAX + 1];
	CHECK(unlink(fuzz_dir_path("held")) == 0 && rmdir(fuzz_dir) == 0);
	if (!hold_has(h, "added.example"))
		CHECK(hold_add(h, "added.example", &st) == -1 && st.code / 100 == 4);
	if (count > 0 && strlen(hold_nth(h, 0)) < sizeof(first)) {
		snprintf(first, sizeof(first), "%s", hold_nth(h, 0));
		CHECK(hold_remove(h, first, &st) == -1 && hold_has(h, first));
	}
	CHECK(check_list(h) == count);
	hold_close(h);
	CHECK(hold_open(fuzz_dir, &st) == NULL && st.code / 100 == 4);
	CHECK(mkdir(fuzz_dir, 0700) == 0);
}

static void change(struct hold *h, size_t count)
{
	struct status st;
	char first[ADDR_DOMAIN_MAX + 1] = "";
	bool had = hold_has(h, "added.example");
	CHECK(hold_add(h, "two words", &st) == -1 && st.code == 501);
	if (count > 0 && strlen(hold_nth(h, 0)) < sizeof(first))
		snprintf(first, sizeof(first), "%s", hold_nth(h, 0));
	if (hold_add(h, "added.example", &st) == 0) {
		h = reopen(h);
		CHECK(hold_has(h, "added.example") && check_list(h) == count + (had ? 0 : 1));
		CHECK(hold_remove(h, "added.example", &st) == 0);
		CHECK(hold_remove(h, "added.example", &st) == -1 && st.code == 550);
		count -= had ? 1 : 0;
	}
	if (first[0] && strcmp(first, "added.example") != 0) {
		CHECK(hold_remove(h, first, &st) == 0);
		count--;
	}
	h = reopen(h);
	CHECK(check_list(h) == count);
	hold_close(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct status st;
	if (!fuzz_dir[0]) {
		fuzz_dir_make();
		log_to(fuzz_dir_nowhere());
	}
	unlink(fuzz_dir_path("held"));
	fuzz_dir_put("held", data, size);
	struct hold *h = hold_open(fuzz_dir, &st);
	CHECK(h != NULL || st.code / 100 == 4);
	bool whole = unlink(fuzz_dir_path("held.damaged")) != 0;
	if (h && whole && size % 4 == 3)
		fail(h, check_list(h));
	else if (h)
		change(h, check_list(h));
	return 0;
}
