/*
 * Fuzzes the making of a notification. The first byte says what fails; then lines: the sender, and
 * a line "SA address original text" for each recipient, where S (0 to 5) says what became of it and
 * A of which type it is; after an empty line the original message. Whatever they hold: the
 * notification is made or refused in bounded time, its lines are whole and not too long, its header
 * is ASCII unless it is a global one, no address adds a field to it, and a pipe's command is not
 * in it. link: fake_message.c
 */
#include <stdint.h>

#include "dsn.h"
#include "dsn_int.h"
#include "fake_message.h"
#include "fuzz_dir.h"
#include "header.h"
#include "log.h"
#include "loop.h"
#include "resolve.h"
#include "text.h"

#define SECRET "c0mmand-line"
#define KNOWN  11 /* fields of a header of ours */

enum {
	NO_OPEN = 1,
	NO_BEGIN = 2,
	NO_COMMIT = 4,
	BREAKS = 8,
	LOST_SENDER = 16,
	LATER = 32,
	CANCEL = 64
};

struct resolve {
	struct loop_timer timer;
	struct addr addr;
	void (*done)(void *arg, const struct status *st, const struct resolve_found *found,
	             size_t count);
	void *arg;
	bool ended;
};

static unsigned how;
static bool told; /* the input has the secret itself */
static int resolves;
static int dones;
static struct status got;

/* ---- fakes ---- */

const struct conf_domain *conf_domain_find(const struct conf *c, const char *name)
{
	static const struct conf_domain ours = {.name = NULL};
	(void)c;
	return strcmp(name, "ours.example") == 0 ? &ours : NULL;
}

static void answer(void *arg)
{
	struct resolve *r = arg;
	char text[ADDR_TEXT_MAX];
	struct resolve_found found[] = {{ALIAS_EMAIL, text, NULL},
	                                {ALIAS_PIPE, "/bin/prog", NULL},
	                                {ALIAS_FORWARD, "a@b.example", "h1/h2"}};
	struct status st;
	CHECK(addr_format(&r->addr, text, sizeof(text)) == 0);
	status_set(&st, how & LOST_SENDER ? 550 : how & LATER ? 451 : 250, NULL, "fake");
	r->ended = true;
	resolves--;
	r->done(r->arg, &st, st.code == 250 ? found : NULL, st.code == 250 ? 1 + (how >> 7) : 0);
	free(r);
}

struct resolve *resolve_start(const struct conf *c, const char *id, const struct addr *a,
                              void (*done)(void *arg, const struct status *st,
                                           const struct resolve_found *found, size_t count),
                              void *arg)
{
	(void)c;
	(void)id;
	struct resolve *r = calloc(1, sizeof(*r));
	CHECK(r != NULL);
	*r = (struct resolve){.addr = *a, .done = done, .arg = arg};
	resolves++;
	loop_timer_init(&r->timer, answer, r);
	loop_timer_set(&r->timer, 0);
	return r;
}

void resolve_cancel(struct resolve *r)
{
	if (!r || r->ended)
		return;
	resolves--;
	loop_timer_stop(&r->timer);
	free(r);
}

/* ---- the envelope ---- */

static void add_rcpt(struct envelope *env, char *line)
{
	static const enum rcpt_type types[] = {RCPT_EMAIL, RCPT_PIPE, RCPT_FORWARD};
	char *text = line + 3;
	struct status st;
	if (strlen(line) < 4 || line[2] != ' ')
		return;
	const char *address = strsep(&text, " ");
	const char *original = text ? strsep(&text, " ") : "";
	enum rcpt_type type = types[(unsigned char)line[1] % 3];
	if (type == RCPT_PIPE)
		address = "/bin/" SECRET;
	if (envelope_add_rcpt(env, type, address, original, type == RCPT_FORWARD ? "h/i" : NULL))
		return;
	struct rcpt *r = &env->rcpt[env->rcpt_count - 1];
	switch ((unsigned char)line[0] % 6) {
	case 0:
		break;
	case 1:
		status_set(&st, 250, "2.0.0", "fine");
		envelope_set_verdict(r, RCPT_SENT, &st, "mx");
		break;
	case 2:
		status_set(&st, 451, "4.7.1", "%s", text ? text : "");
		envelope_set_verdict(r, RCPT_PENDING, &st, NULL);
		break;
	case 3:
		status_set(&st, 552, NULL, "%s", text ? text : "");
		envelope_set_verdict(r, RCPT_FAILED, &st, text);
		break;
	default:
		status_set(&st, 550, "5.1.1", "%s", text ? text : "");
		envelope_set_verdict(r, RCPT_FAILED, &st, "mx.x [192.0.2.1]:25 PLAIN");
	}
}

/* An address in a field of its own: one clean line, or a folded one, of ASCII if that is asked. */
static void check_written(const char *address)
{
	char typed[DSN_TYPED_MAX];
	char to[DSN_TO_MAX];
	char ascii[ADDR_TEXT_MAX];
	for (int global = 0; global < 2; global++) {
		dsn_typed(address, global, typed);
		CHECK(strlen(typed) < sizeof(typed) && (global || dsn_is_ascii(typed)));
		for (const char *p = typed; *p; p++)
			CHECK((unsigned char)*p >= ' ' && *p != 0x7f);
		dsn_to(address, global, to);
		CHECK(strlen(to) < sizeof(to) && (global || dsn_is_ascii(to)));
		for (const char *p = to; *p; p++)
			CHECK((unsigned char)*p >= ' ' ||
			      (*p == '\r' && p[1] == '\n' && p[2] == ' ') ||
			      (*p == '\n' && p > to && p[-1] == '\r'));
	}
	CHECK(dsn_address_ascii(address, ascii, sizeof(ascii)) != 0 || dsn_is_ascii(ascii));
}

/* Quoted-printable in pieces is what it is at once. */
static void check_quoted(const char *p, size_t n, size_t step)
{
	struct dsn_qp whole = {0};
	struct dsn_qp cut = {0};
	char *a = malloc(DSN_QP_MAX(n) + 1);
	char *b = malloc(DSN_QP_MAX(n) + DSN_QP_MAX(step) + 1);
	size_t n_cut = 0;
	CHECK(a && b);
	size_t want = dsn_qp_encode(&whole, p, n, a);
	CHECK(want <= DSN_QP_MAX(n));
	for (size_t at = 0; at < n; at += step)
		n_cut += dsn_qp_encode(&cut, p + at, n - at < step ? n - at : step, b + n_cut);
	CHECK(n_cut == want && memcmp(a, b, want) == 0);
	free(a);
	free(b);
}

/* Only what the spool would have kept. */
static bool take_envelope(struct envelope *env, char **text)
{
	char *line = strsep(text, "\n");
	if (envelope_set_from(env, line) || !text_is_utf8(line, strlen(line)))
		return false;
	while (*text && (line = strsep(text, "\n")) && *line)
		if (text_is_utf8(line, strlen(line)) && env->rcpt_count < 20)
			add_rcpt(env, line);
	for (size_t i = 0; i < env->rcpt_count; i++)
		check_written(env->rcpt[i].original ? env->rcpt[i].original : "");
	check_written(env->from);
	return env->rcpt_count > 0;
}

/* ---- the notification ---- */

static void check_lines(const char *p, size_t n)
{
	size_t line = 0;
	for (size_t i = 0; i < n; i++) {
		CHECK(p[i] != '\n' || (i > 0 && p[i - 1] == '\r'));
		line = p[i] == '\n' ? 0 : line + 1;
		CHECK(line <= DSN_LINE_MAX + 1);
	}
	CHECK(n > 2 && p[n - 1] == '\n');
}

static void check_header(const char *p, size_t n)
{
	static const char *const known[KNOWN] = {"From",
	                                         "To",
	                                         "Date",
	                                         "Subject",
	                                         "Message-ID",
	                                         "In-Reply-To",
	                                         "References",
	                                         "MIME-Version",
	                                         "Content-Type",
	                                         "Auto-Submitted",
	                                         "Content-Transfer-Encoding"};
	struct slice rest = {p, n};
	struct header_field f;
	int rc;
	unsigned seen = 0;
	while ((rc = header_next(&rest, &f)) == 1) {
		size_t i = 0;
		while (i < KNOWN && !slice_is(f.name, known[i]))
			i++;
		CHECK(i < KNOWN && !(seen & 1U << i));
		seen |= 1U << i;
	}
	CHECK(rc == 0 && (seen & 7) == 7);
}

static void check_notification(void)
{
	const struct buf *b = &fake_message.written;
	const char *p = buf_data(b);
	const char *report = memmem(p, b->len, "message/delivery-status", 23);
	if (!report)
		report = memmem(p, b->len, "message/global-delivery-status", 30);
	CHECK(report != NULL);
	check_lines(p, b->len);
	check_header(p, b->len);
	CHECK(told || !memmem(p, b->len, SECRET, sizeof(SECRET) - 1));
	CHECK(strcmp(fake_message.env.from, "<>") == 0);
}

static void on_done(void *arg, const struct status *st)
{
	(void)arg;
	dones++;
	got = *st;
}

static void make(const struct envelope *env)
{
	static char hostname[] = "mx.ours.example";
	struct conf conf = {.hostname = hostname};
	struct status st = {0};
	dones = 0;
	struct dsn *d = dsn_start(&conf, NULL, env, 1700010000, on_done, NULL, &st);
	CHECK(d != NULL || st.code / 100 == 4 || st.code == 554);
	for (int i = 0; d && dones == 0 && i < 20000; i++) {
		loop_turn(0);
		if ((how & CANCEL) && i == 3 && dones == 0) {
			dsn_cancel(d);
			d = NULL;
		}
	}
	CHECK(!d || dones == 1);
	if (d && got.code == 250 && fake_message.commits == 1)
		check_notification();
	CHECK(!d || got.code / 100 == 2 || got.code / 100 == 4);
	CHECK(resolves == 0 && fake_message.readers == 0 && fake_message.writers == 0);
}

/* The text as the spool has it: lines end with CRLF, in which alone these bytes are; none is longer
 * than what is looked for in the notification. */
static void take_content(const char *p, size_t n, struct buf *out)
{
	size_t line = 0;
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n' || line == DSN_LINE_MAX) {
			buf_append(out, "\r\n", 2);
			line = 0;
		}
		if (p[i] != '\r' && p[i] != '\n') {
			buf_putc(out, p[i]);
			line++;
		}
	}
	if (line > 0)
		buf_append(out, "\r\n", 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	struct envelope env = {.id = "TESTID", .created = 1700000000, .last_attempt = 1700003600};
	if (!ready) {
		log_to(fuzz_dir_nowhere());
		CHECK(loop_init() == 0);
		ready = true;
	}
	if (size < 2)
		return 0;
	char *text = calloc(1, size);
	char *rest = text;
	CHECK(text != NULL);
	memcpy(text, data + 1, size - 1);
	how = data[0];
	told = memmem(data, size, SECRET, sizeof(SECRET) - 1) != NULL;
	if (take_envelope(&env, &rest)) {
		struct buf content;
		buf_init(&content, 1 << 20);
		take_content(rest ? rest : "", rest ? size - 1 - (size_t)(rest - text) : 0,
		             &content);
		check_quoted(buf_data(&content), content.len, 1 + how % 9);
		fake_message_reset(buf_slice(&content));
		fake_message.piece = how & BREAKS ? 7 : 0;
		fake_message.break_at = how & BREAKS ? 200 : SIZE_MAX;
		fake_message.no_open = how & NO_OPEN;
		fake_message.no_begin = how & NO_BEGIN;
		fake_message.no_commit = how & NO_COMMIT;
		make(&env);
		fake_message_reset(slice_of(""));
		envelope_clear(&fake_message.env);
		buf_clear(&fake_message.written);
		buf_clear(&content);
	}
	envelope_clear(&env);
	free(text);
	return 0;
}
