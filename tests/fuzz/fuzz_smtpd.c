/*
 * Fuzzes an SMTP server session. The input's first byte chooses the client; its end, read
 * backwards, says how the bytes between are cut into pieces and what else happens: failures of the
 * disk, the client leaving, us stopping. Whatever comes, each complete command has exactly one
 * reply, and each message begun is committed or aborted. link: fake_spool.c fake_tls.c fake_spf.c
 * link: fake_resolve.c fake_hook.c
 */
#include <stdint.h>
#include <stdio.h>

#include "fuzz_dir.h"
#include "log.h"
#include "srs.h"
#include "talk.h"

static struct srs *srs;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Where the line, or the content, that begins at p ends; NULL when it does not yet. */
static const char *unit_end(const char *p, const char *end, bool content)
{
	if (content && end - p >= 3 && memcmp(p, ".\r\n", 3) == 0)
		return p + 3;
	const char *mark = content ? "\r\n.\r\n" : "\r\n";
	const char *found = p < end ? memmem(p, (size_t)(end - p), mark, strlen(mark)) : NULL;
	return found ? found + strlen(mark) : NULL;
}

/* Goes through the input with the replies in hand. all: every command must have been answered. */
static void check_replies(struct talk *t, const char *p, size_t n, bool all)
{
	const char *end = p + n;
	struct buf codes;
	bool content = false;
	const char *code = talk_codes(t, &codes);
	CHECK(strncmp(code, "220 ", 4) == 0);
	for (code += 4; *code; code += 4) {
		if (strncmp(code, "421", 3) == 0 || strncmp(code, "521", 3) == 0) {
			CHECK(!code[4] && !t->s);
			all = false;
			break;
		}
		p = unit_end(p, end, content);
		CHECK(p);
		if (strncmp(code, "220", 3) ==
		    0) { /* to STARTTLS: what came with it is thrown away */
			all = false;
			break;
		}
		content = strncmp(code, "354", 3) == 0;
	}
	CHECK(!all || !unit_end(p, end, content));
	buf_clear(&codes);
}

/* Something other than bytes. */
static void happen(struct talk *t, unsigned what)
{
	static const char *const outputs[] = {"", "X-A: b\n", "nothing\n", "A: \xc3\xa4\n c\n"};
	if (what >= 44) {
		fake_hook.there[HOOK_RCPT] = what & 1;
		fake_hook.there[HOOK_POST_DATA] = what & 2;
		fake_hook.result = (enum hook_result)((what >> 2) % (HOOK_FAILED + 1));
		fake_hook.output = outputs[(what >> 1) & 3];
		fake_resolve.no_memory = what == 63;
		return;
	}
	switch (what % 11) {
	case 0:
		fake.no_room = !fake.no_room;
		break;
	case 1:
		fake.queue_full = !fake.queue_full;
		break;
	case 2:
		fake.begin_fails = !fake.begin_fails;
		break;
	case 3:
		fake.commit_fails = !fake.commit_fails;
		break;
	case 4:
	case 5:
		t->hold = !t->hold;
		talk_settle(t);
		break;
	case 6:
		smtpd_ask_to_leave(t->s);
		talk_settle(t);
		break;
	case 7:
		talk_eof(t);
		break;
	case 8:
		fake_spf.no_memory = !fake_spf.no_memory;
		break;
	case 9:
		talk_event(t, IO_ERROR);
		talk_settle(t);
		break;
	default:
		/* No deadline is set then. */
		if (t->s->state != SMTPD_COMMIT && t->s->state != SMTPD_CHECK)
			talk_event(t, IO_TIMEOUT);
		talk_settle(t);
	}
}

/* Always the same key, so that an input can have an address of ours. */
static void open_srs(void)
{
	struct status st;
	fuzz_dir_make();
	fuzz_dir_put("srs-key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n", 45);
	srs = srs_open(fuzz_dir, &st);
	CHECK(srs != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	struct smtpd_peer peer = {.mode = SMTPD_MX, .addr.family = AF_INET};
	struct talk t;
	if (!ready) {
		log_to(fuzz_dir_nowhere());
		CHECK(loop_init() == 0);
		open_srs();
		ready = true;
	}
	if (size < 1)
		return 0;
	peer.mode = data[0] & 1 ? SMTPD_LOCAL : SMTPD_MX;
	peer.trusted = data[0] & 2;
	fake_reset();
	fake_hook_reset();
	fake_spf.no_memory = false;
	fake_resolve.no_memory = false;
	if (data[0] & 0x80) {
		peer = (struct smtpd_peer){
		    .mode = SMTPD_SUBMISSION, .tls = true, .addr.family = AF_INET};
		fake_setup.certs = fake_certs;
	}
	/* Without a certificate there is no STARTTLS. */
	if (!(data[0] & 2))
		fake_setup.certs = fake_certs;
	fake_setup.srs = srs;
	fake_conf.max_data_size_mb = data[0] & 4 ? 0 : 1;
	talk_start(&t, &peer);
	t.sip = (data[0] >> 3) & 15;
	const char *p = (const char *)data + 1;
	size_t at = 0;
	for (size_t end = size - 1; at < end && t.s && !smtpd_io(t.s)->finishing;) {
		unsigned how = (unsigned char)p[--end];
		size_t n = how & 0x40 ? (how & 0x3f) * 64 : (how & 0x3f) + 1;
		if (how & 0x80) {
			happen(&t, how & 0x3f);
			continue;
		}
		if (n > end - at)
			n = end - at;
		size_t given = talk_give(&t, p + at, n);
		at += given;
		if (given < n)
			break;
	}
	if (t.s) {
		t.hold = false;
		talk_settle(&t);
	}
	CHECK(fake.reserved <= 1);
	check_replies(&t, p, at, t.s != NULL);
	talk_end(&t);
	CHECK(fake_open() == 0);
	CHECK(fake.reserved == 0);
	CHECK(fake_tls.open == 0 && fake_tls.waiting == 0 && fake_spf.waiting == 0);
	CHECK(fake_resolve.waiting == 0 && fake_hook.waiting == 0);
	CHECK(fake.begun == fake.committed + fake.aborted);
	return 0;
}
