/* fake_hook: see the header. An answer waits for fake_hook_run. */
#include "fake_hook.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fake_hook fake_hook;
static struct hook *runs;

void fake_hook_reset(void)
{
	if (runs)
		abort();
	buf_clear(&fake_hook.input);
	fake_hook = (struct fake_hook){.output = ""};
	buf_init(&fake_hook.input, 16 << 20);
}

bool hook_exists(enum hook_name name)
{
	return fake_hook.there[name];
}

static void keep_session(const struct hook_session *s)
{
	char *out = fake_hook.session;
	size_t size = sizeof fake_hook.session;
	char ip[INET6_ADDRSTRLEN];
	int n = snprintf(out, size, "%s %u %s %s ", s->peer ? dns_addr_text(s->peer, ip) : "-",
	                 (unsigned)s->port, s->helo ? s->helo : "-", s->from);
	for (size_t i = 0; i < s->to_count && (size_t)n < size; i++)
		n += snprintf(out + n, size - (size_t)n, "%s%s", i > 0 ? "," : "", s->to[i]);
	if ((size_t)n < size)
		snprintf(out + n, size - (size_t)n, " %s %d %d %d", s->login ? s->login : "-",
		         s->tls, s->from_local, s->spf_pass);
}

static void keep_input(int fd)
{
	char piece[4096];
	ssize_t n;
	buf_consume(&fake_hook.input, fake_hook.input.len);
	if (fd < 0)
		return;
	for (off_t at = 0; (n = pread(fd, piece, sizeof piece, at)) > 0; at += n)
		buf_append(&fake_hook.input, piece, (size_t)n);
}

void hook_start(struct hook *h, enum hook_name name, const char *id, const char *arg1,
                const struct hook_session *session, int in_fd,
                void (*done)(void *arg, struct hook *h), void *arg)
{
	struct hook **last = &runs;
	(void)id;
	*h = (struct hook){.result = HOOK_FAILED, .done = done, .arg = arg};
	fake_hook.runs++;
	fake_hook.waiting++;
	fake_hook.name = name;
	snprintf(fake_hook.arg1, sizeof fake_hook.arg1, "%s", arg1 ? arg1 : "");
	keep_session(session);
	keep_input(in_fd);
	while (*last)
		last = &(*last)->next;
	*last = h;
}

static bool unlink_run(struct hook *h)
{
	for (struct hook **p = &runs; *p; p = &(*p)->next) {
		if (*p != h)
			continue;
		*p = h->next;
		fake_hook.waiting--;
		return true;
	}
	return false;
}

void hook_cancel(struct hook *h)
{
	if (unlink_run(h))
		fake_hook.cancelled++;
	h->output = (struct slice){NULL, 0};
}

bool fake_hook_run(void)
{
	struct hook *h = runs;
	if (!h)
		return false;
	unlink_run(h);
	h->result = fake_hook.result;
	if (h->result == HOOK_DONE)
		h->output = slice_of(fake_hook.output ? fake_hook.output : "");
	else
		snprintf(h->text, sizeof h->text, "%s", fake_hook.text ? fake_hook.text : "no");
	h->done(h->arg, h);
	return true;
}
