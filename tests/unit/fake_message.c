/* fake_message: the spool's reading and writing functions over memory. */
#include "fake_message.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "loop.h"
#include "spool.h"

struct fake_message fake_message;

struct spool_reader {
	size_t at;
};

struct spool_writer {
	struct buf content;
	struct loop_timer timer;
	void (*done)(void *arg, const char *id, const struct status *st);
	void *arg;
};

void fake_message_reset(struct slice content)
{
	struct fake_message *f = &fake_message;
	buf_clear(&f->written);
	envelope_clear(&f->env);
	*f = (struct fake_message){.content = content, .break_at = SIZE_MAX, .break_code = 451};
	buf_init(&f->written, 16 << 20);
}

void fake_message_turn(void)
{
	struct fake_message *f = &fake_message;
	if (f->turn > f->biggest_turn)
		f->biggest_turn = f->turn;
	f->turn = 0;
}

struct spool_reader *spool_read_open(struct spool *sp, const char *id, struct status *st)
{
	(void)sp;
	(void)id;
	if (fake_message.no_open) {
		status_set(st, 451, "4.3.0", "fake: no such message");
		return NULL;
	}
	fake_message.readers++;
	return calloc(1, sizeof(struct spool_reader));
}

ssize_t spool_read(struct spool_reader *r, char *p, size_t n, struct status *st)
{
	const struct fake_message *f = &fake_message;
	size_t left = f->content.n - r->at;
	if (f->piece && n > f->piece)
		n = f->piece;
	if (r->at >= f->break_at) {
		status_set(st, f->break_code, NULL, "fake: the disk is broken");
		return -1;
	}
	if (n > left)
		n = left;
	if (n > f->break_at - r->at)
		n = f->break_at - r->at;
	memcpy(p, f->content.p + r->at, n);
	r->at += n;
	fake_message.turn += n;
	return (ssize_t)n;
}

void spool_read_close(struct spool_reader *r)
{
	fake_message.readers--;
	free(r);
}

int spool_temp_file(struct spool *sp, struct status *st)
{
	(void)sp;
	int fd = -1;
	if (fake_message.temp_full)
		fd = open("/dev/full", O_RDWR | O_CLOEXEC);
	else if (!fake_message.no_temp)
		fd = memfd_create("fake_message", MFD_CLOEXEC);
	if (fd < 0)
		status_set(st, 452, "4.3.1", "fake: no temporary file");
	return fd;
}

struct spool_writer *spool_begin(struct spool *sp, struct envelope *env, struct status *st)
{
	struct envelope *copy = &fake_message.env;
	(void)sp;
	if (fake_message.no_begin) {
		status_set(st, 452, "4.3.1", "fake: disk full");
		return NULL;
	}
	envelope_clear(copy);
	envelope_set_from(copy, env->from);
	for (size_t i = 0; i < env->to_count; i++)
		envelope_add_to(copy, env->to[i]);
	for (size_t i = 0; i < env->rcpt_count; i++)
		envelope_add_rcpt(copy, env->rcpt[i].type, env->rcpt[i].address,
		                  env->rcpt[i].original, env->rcpt[i].via);
	struct spool_writer *w = calloc(1, sizeof *w);
	buf_init(&w->content, 16 << 20);
	fake_message.writers++;
	return w;
}

void spool_append(struct spool_writer *w, const char *p, size_t n)
{
	buf_append(&w->content, p, n);
	fake_message.turn += n;
}

void spool_note_8bit_header(struct spool_writer *w)
{
	(void)w;
	fake_message.env.header_8bit = true;
}

static void writer_free(struct spool_writer *w)
{
	loop_timer_stop(&w->timer);
	buf_clear(&w->content);
	fake_message.writers--;
	free(w);
}

static void writer_commit(void *arg)
{
	struct spool_writer *w = arg;
	struct status st;
	void (*done)(void *, const char *, const struct status *) = w->done;
	void *done_arg = w->arg;
	status_set(&st, 250, "2.0.0", "fake: done");
	if (fake_message.no_commit || w->content.failed)
		status_set(&st, 452, "4.3.1", "fake: disk full");
	else
		buf_append(&fake_message.written, buf_data(&w->content), w->content.len);
	fake_message.commits += st.code == 250;
	writer_free(w);
	done(done_arg, "FAKE-ID", &st);
}

void spool_commit(struct spool_writer *w,
                  void (*done)(void *arg, const char *id, const struct status *st), void *arg)
{
	w->done = done;
	w->arg = arg;
	loop_timer_init(&w->timer, writer_commit, w);
	loop_timer_set(&w->timer, 0);
}

void spool_abort(struct spool_writer *w)
{
	fake_message.aborts++;
	writer_free(w);
}
