/*
 * Fuzzes what hooks/post-data writes: the input is its output, its first byte how it ended. What is
 * taken stands in front of the message, and is a block of header fields that cannot be read in two
 * ways; what is refused changes nothing of the message; what it says goes into one reply.
 * link: fake_spool.c fake_tls.c fake_spf.c fake_resolve.c fake_hook.c
 */
#include <stdint.h>
#include <stdio.h>

#include "fuzz_dir.h"
#include "header.h"
#include "log.h"
#include "talk.h"

static const char dialogue[] = "EHLO client.test\r\nMAIL FROM:<a@client.test>\r\n"
                               "RCPT TO:<alice@here.test>\r\nDATA\r\n"
                               "Subject: x\r\n\r\ntext\r\n.\r\n";

/* Each line ends in CRLF and is a field or the rest of one: the first is none. */
static void check_fields(const char *p, size_t n)
{
	struct slice rest = {p, n};
	struct header_field f;
	int rc;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];
		CHECK(c >= ' ' || c == '\t' || (c == '\r' && p[i + 1] == '\n') ||
		      (c == '\n' && i > 0 && p[i - 1] == '\r'));
	}
	CHECK(n == 0 || (n > 2 && p[n - 1] == '\n'));
	while ((rc = header_next(&rest, &f)) == 1) {
	}
	CHECK(rc == 0 && rest.n == 0);
}

/* What of the prepended lines is the hook's: the server's own field comes first or last. */
static void check_message(bool committed)
{
	static const char text[] = "Subject: x\r\n\r\ntext\r\n";
	if (!committed) {
		CHECK(fake.committed == 0);
		return;
	}
	const char *p = buf_data(&fake.content);
	size_t n = fake.content.len;
	CHECK(n >= sizeof(text) - 1);
	CHECK(memcmp(p + n - (sizeof(text) - 1), text, sizeof(text) - 1) == 0);
	/* The fake keeps the first kilobyte. */
	if (strlen(fake.prepended) < sizeof(fake.prepended) - 1)
		check_fields(fake.prepended, strlen(fake.prepended));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct smtpd_peer peer = {.mode = SMTPD_MX, .addr.family = AF_INET};
	static bool ready;
	struct buf codes;
	struct talk t;
	if (size < 1)
		return 0;
	if (!ready) {
		log_to(fuzz_dir_nowhere());
		CHECK(loop_init() == 0);
		ready = true;
	}
	char *output = calloc(1, size);
	CHECK(output != NULL);
	memcpy(output, data + 1, size - 1);
	fake_reset();
	fake_hook_reset();
	fake_hook.there[HOOK_POST_DATA] = true;
	fake_hook.result = (enum hook_result)(data[0] % (HOOK_FAILED + 1));
	fake_hook.output = output;
	/* hook.c cleans what goes into a reply. */
	fake_hook.text = "no";
	fake.temp_fails = data[0] & 0x80;
	fake.temp_full = data[0] & 0x40;
	talk_start(&t, &peer);
	talk_give(&t, dialogue, sizeof(dialogue) - 1);
	const char *said = talk_codes(&t, &codes);
	bool committed = strcmp(said, "220 250 250 250 354 250 ") == 0;
	CHECK(committed == (fake.committed == 1));
	check_message(committed);
	buf_clear(&codes);
	talk_end(&t);
	CHECK(fake_open() == 0 && fake.reserved == 0 && fake_hook.waiting == 0);
	free(output);
	return 0;
}
