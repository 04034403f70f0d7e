/* fake_spool: see the header. Messages live in memory; a commit waits for fake_spool_run. */
#include "fake_spool.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct spool_writer {
	struct envelope *env;
	struct buf content;
	char prepended[1024];
	char id[32];
	char from[512];
	char to[4096];
	char rcpts[8192];
	bool submitted;
	bool header_8bit;
	void (*done)(void *arg, const char *id, const struct status *st);
	void *arg;
	struct spool_writer *next;
};

static struct spool_writer *writers;
static struct conf_domain domains[] = {{.name = "here.test"}, {.name = "localhost"}};

static char fake_plus[] = "+";
static char fake_dot[] = ".";

static int64_t fake_now(void)
{
	return 1700000000;
}

struct fake_spool fake;
struct conf fake_conf = {.hostname = "here.test",
                         .max_data_size_mb = 1,
                         .domain = domains,
                         .domain_count = 2,
                         .sender_login_check = true,
                         .suffix_separators = fake_plus,
                         .drop_characters = fake_dot};
struct smtpd_setup fake_setup = {.conf = &fake_conf, .now = fake_now};

void fake_reset(void)
{
	buf_clear(&fake.content);
	fake = (struct fake_spool){.begun = 0};
	buf_init(&fake.content, 16 << 20);
	fake_conf.max_data_size_mb = 1;
	fake_setup.stopping = false;
	fake_setup.certs = NULL;
	fake_setup.rate = NULL;
	fake_conf.sender_login_check = true;
	fake_conf.dovecot_auth = false;
}

unsigned fake_open(void)
{
	unsigned n = 0;
	for (struct spool_writer *w = writers; w; w = w->next)
		n++;
	return n;
}

static void fake_drop(struct spool_writer *w)
{
	struct spool_writer **p = &writers;
	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	buf_clear(&w->content);
	free(w);
}

bool fake_spool_run(void)
{
	struct spool_writer *w = writers;
	struct status st;
	while (w && !w->done)
		w = w->next;
	if (!w)
		return false;
	void (*done)(void *, const char *, const struct status *) = w->done;
	void *arg = w->arg;
	if (fake.commit_fails) {
		status_set(&st, 452, "4.3.1", "disk full");
	} else {
		status_set(&st, 250, "2.0.0", "ok");
		fake.committed++;
		memcpy(fake.id, w->id, sizeof fake.id);
		memcpy(fake.prepended, w->prepended, sizeof fake.prepended);
		memcpy(fake.from, w->from, sizeof fake.from);
		memcpy(fake.to, w->to, sizeof fake.to);
		memcpy(fake.rcpts, w->rcpts, sizeof fake.rcpts);
		fake.submitted = w->submitted;
		fake.header_8bit = w->header_8bit;
		buf_clear(&fake.content);
		buf_append(&fake.content, buf_data(&w->content), w->content.len);
	}
	char id[32];
	memcpy(id, w->id, sizeof id);
	fake.aborted += fake.commit_fails;
	fake_drop(w);
	done(arg, id, &st);
	return true;
}

/* ---- spool.h -------------------------------------------------------------------------------- */

int spool_has_room(struct spool *sp, uint64_t size, struct status *st)
{
	(void)sp;
	(void)size;
	if (!fake.no_room)
		return 0;
	status_set(st, 452, "4.3.1", "disk full");
	return -1;
}

static void fake_line(char *out, size_t size, const char *text)
{
	size_t n = strlen(out);
	snprintf(out + n, size - n, "%s\n", text);
}

struct spool_writer *spool_begin(struct spool *sp, struct envelope *env, struct status *st)
{
	static const char *const types[] = {"email", "pipe", "forward"};
	(void)sp;
	if (fake.begin_fails) {
		status_set(st, 451, "4.3.0", "disk broken");
		return NULL;
	}
	struct spool_writer *w = calloc(1, sizeof *w);
	if (!w)
		abort();
	fake.begun++;
	buf_init(&w->content, 16 << 20);
	snprintf(w->id, sizeof w->id, "id%u", fake.begun);
	snprintf(env->id, sizeof env->id, "%s", w->id);
	snprintf(w->from, sizeof w->from, "%s", env->from);
	w->submitted = env->submitted;
	for (size_t i = 0; i < env->to_count; i++)
		fake_line(w->to, sizeof w->to, env->to[i]);
	for (size_t i = 0; i < env->rcpt_count; i++) {
		const struct rcpt *r = &env->rcpt[i];
		char line[2048];
		snprintf(line, sizeof line, "%s %s %s%s%s", types[r->type], r->address, r->original,
		         r->via ? " " : "", r->via ? r->via : "");
		fake_line(w->rcpts, sizeof w->rcpts, line);
	}
	w->next = writers;
	writers = w;
	return w;
}

void spool_append(struct spool_writer *w, const char *p, size_t n)
{
	if (w->done)
		abort();
	buf_append(&w->content, p, n);
}

void spool_note_8bit_header(struct spool_writer *w)
{
	if (w->done)
		abort();
	w->header_8bit = true;
}

int spool_temp_file(struct spool *sp, struct status *st)
{
	(void)sp;
	if (fake.temp_fails) {
		status_set(st, 452, "4.3.1", "disk full");
		return -1;
	}
	fake.temp_fd = fake.temp_full ? open("/dev/full", O_WRONLY | O_CLOEXEC)
	                              : memfd_create("fake", MFD_CLOEXEC);
	if (fake.temp_fd < 0)
		abort();
	return fake.temp_fd;
}

void spool_prepend(struct spool_writer *w, const char *p, size_t n)
{
	if (w->done || w->prepended[0])
		abort();
	snprintf(w->prepended, sizeof w->prepended, "%.*s", (int)n, p);
}

void spool_commit(struct spool_writer *w,
                  void (*done)(void *arg, const char *id, const struct status *st), void *arg)
{
	if (w->done)
		abort();
	w->done = done;
	w->arg = arg;
}

void spool_abort(struct spool_writer *w)
{
	fake.aborted++;
	fake_drop(w);
}

/* ---- queue.h -------------------------------------------------------------------------------- */

int queue_reserve(struct queue *q, struct status *st)
{
	(void)q;
	if (fake.queue_full) {
		status_set(st, 452, "4.3.1", "queue full");
		return -1;
	}
	fake.reserved++;
	return 0;
}

void queue_release(struct queue *q)
{
	(void)q;
	if (--fake.reserved < 0)
		abort();
}

/* ---- conf.h --------------------------------------------------------------------------------- */

const struct conf_domain *conf_domain_find(const struct conf *c, const char *name)
{
	for (size_t i = 0; i < c->domain_count; i++)
		if (strcmp(c->domain[i].name, name) == 0)
			return &c->domain[i];
	return NULL;
}

bool conf_is_trusted(const struct conf *c, const struct dns_addr *from)
{
	(void)c;
	return from->family == AF_INET && ntohl(from->ip.v4.s_addr) == 0x7f000009;
}

bool conf_is_proxy(const struct conf *c, const struct dns_addr *from)
{
	(void)c;
	return from->family == AF_INET && ntohl(from->ip.v4.s_addr) == 0x7f000005;
}
