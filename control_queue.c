/*
 * control_queue: commands on the queue and its messages.
 *
 * A list holds one batch of the index and one envelope at a time, and looks at CONTROL_LIST_STEP
 * files in a turn, so a hundred thousand messages cost time, not memory, and no session waits for
 * them. A message that ended since its batch was made is told of as missing. Only IDs that the
 * index knows reach the spool: a client cannot name other files.
 */
#include "control_int.h"

#include <stdio.h>
#include <string.h>

#include "config.h"
#include "queue.h"
#include "spool_history.h"

static struct queue *the_queue(void)
{
	return control_setup()->smtpd->queue;
}

static struct spool *the_spool(void)
{
	return control_setup()->smtpd->spool;
}

/* ---- what is held ---- */

static const char *held_nth(size_t n)
{
	return queue_held_nth(the_queue(), n);
}

/* The names are sorted; how many there are is not known. */
static bool is_held(const char *name)
{
	size_t low = 0, high = 1;
	const char *s;
	while ((s = held_nth(high - 1)) && strcmp(s, name) < 0) {
		low = high;
		high *= 2;
	}
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		s = held_nth(middle);
		int order = s ? strcmp(s, name) : 1;
		if (order == 0)
			return true;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* Does this recipient wait for an attempt to this domain? */
static bool rcpt_domain(const struct rcpt *r, struct addr *a)
{
	return r->state == RCPT_PENDING && r->type != RCPT_PIPE &&
	       addr_parse(slice_of(r->address), a) == 0;
}

/* Is everything that is left to do held? */
static const char *state_name(const struct queue_item *item, const struct envelope *env)
{
	struct addr a;
	size_t left = 0, held = 0;
	if (item->active)
		return "active";
	for (size_t i = 0; !item->held && i < env->rcpt_count && left == held; i++) {
		const struct rcpt *r = &env->rcpt[i];
		left += r->state == RCPT_PENDING;
		held += rcpt_domain(r, &a) && is_held(a.domain);
	}
	return item->held || (left > 0 && left == held) ? "held" : "waiting";
}

/* ---- QUEUE ---- */

struct list {
	struct queue_item item[CONTROL_BATCH];
	size_t count, at;
	char after[SPOOL_ID_MAX + 1];
	char domain[ADDR_DOMAIN_MAX + 1]; /* FLUSH: this one */
	size_t flushed;
};

/* The next message; NULL behind the last. */
static const struct queue_item *list_next(struct list *l)
{
	if (l->at == l->count) {
		l->count = queue_list(the_queue(), l->after, l->item, CONTROL_BATCH);
		l->at = 0;
		if (l->count == 0)
			return NULL;
		snprintf(l->after, sizeof(l->after), "%s", l->item[l->count - 1].id);
	}
	return &l->item[l->at++];
}

/* The recipients that are left, and why the first of them is. */
static void put_recipients(struct buf *out, const struct envelope *env)
{
	char name[CONTROL_FIELD_BYTES];
	const struct status *last = NULL;
	size_t left = 0, shown = 0;
	for (size_t i = 0; i < env->rcpt_count; i++) {
		left += env->rcpt[i].state == RCPT_PENDING;
		if (env->rcpt[i].state == RCPT_PENDING && !last)
			last = env->rcpt[i].last;
	}
	control_status(out, last);
	control_number(out, (int64_t)left);
	for (size_t i = 0; i < env->rcpt_count && shown < CONTROL_RCPTS_SHOWN; i++) {
		const struct rcpt *r = &env->rcpt[i];
		if (r->state != RCPT_PENDING)
			continue;
		snprintf(name, sizeof(name), "%s%s", r->type == RCPT_PIPE ? "|" : "", r->address);
		control_field(out, name);
		shown++;
	}
}

static void put_item(struct buf *out, const struct queue_item *item)
{
	struct envelope env = {.from = NULL};
	struct status st = {.code = 0};
	bool loaded = spool_load(the_spool(), item->id, &env, &st) == 0;
	control_field(out, item->id);
	control_number(out, item->created);
	control_number(out, item->next);
	control_field(out, state_name(item, &env));
	control_number(out, env.attempts);
	control_number(out, (int64_t)env.size);
	control_field(out, env.from);
	if (loaded)
		put_recipients(out, &env);
	else
		buf_printf(out, "\t%s\t0", st.text);
	buf_putc(out, '\n');
	envelope_clear(&env);
}

static void list_more(struct control_conn *c)
{
	struct list *l = c->state;
	for (int i = 0; i < CONTROL_LIST_STEP && control_room(c); i++) {
		const struct queue_item *item = list_next(l);
		if (!item) {
			control_end(c);
			return;
		}
		put_item(&c->io.out, item);
	}
	io_update(&c->io);
}

void control_queue(struct control_conn *c, const char *arg)
{
	if (*arg)
		control_error(c, "QUEUE takes no argument");
	else if (control_state(c, sizeof(struct list)))
		control_begin(c, list_more);
}

/* ---- SHOW ---- */

struct show {
	struct envelope env;
	size_t at; /* the next recipient */
};

static void show_free(void *state)
{
	struct show *s = state;
	envelope_clear(&s->env);
}

static const char *const state_names[] = {
    [RCPT_PENDING] = "pending", [RCPT_SENT] = "sent", [RCPT_FAILED] = "failed"};
static const char *const type_names[] = {
    [RCPT_EMAIL] = "EMAIL", [RCPT_PIPE] = "PIPE", [RCPT_FORWARD] = "FORWARD"};

static void put_rcpt(struct buf *out, const struct rcpt *r)
{
	buf_puts(out, "rcpt");
	control_field(out, state_names[r->state]);
	control_field(out, type_names[r->type]);
	control_field(out, r->address);
	control_field(out, r->original);
	control_field(out, r->via);
	control_field(out, r->remote);
	control_status(out, r->last);
	buf_putc(out, '\n');
}

/* The recipients come one by one, what else there is from c->text. */
static void show_more(struct control_conn *c)
{
	struct show *s = c->state;
	while (s->at < s->env.rcpt_count && control_room(c))
		put_rcpt(&c->io.out, &s->env.rcpt[s->at++]);
	if (s->at == s->env.rcpt_count) {
		c->more = control_send_text;
		control_send_text(c);
	} else {
		io_update(&c->io);
	}
}

/* One line of an attempt; when memory ends the oldest ones go, many at a time: what stays is moved.
 */
static void put_attempt(void *arg, const struct spool_attempt_seen *a)
{
	struct buf *text = arg, line;
	buf_init(&line, CONTROL_ITEM_BYTES);
	buf_puts(&line, "attempt");
	control_number(&line, a->at);
	control_field(&line, state_names[a->state]);
	control_field(&line, a->remote);
	control_status(&line, &a->status);
	for (size_t i = 0; i < a->count && line.len + 32 < CONTROL_ITEM_BYTES; i++)
		buf_printf(&line, "%c%zu", i == 0 ? '\t' : ',', a->rcpts[i]);
	buf_putc(&line, '\n');
	if (text->len + line.len > CONTROL_TEXT_MAX / 2) {
		size_t go = text->len / 4;
		const char *end = memchr(buf_data(text) + go, '\n', text->len - go);
		buf_consume(text, end ? (size_t)(end - buf_data(text)) + 1 : text->len);
	}
	if (line.failed || buf_append(text, buf_data(&line), line.len))
		text->failed = true;
	buf_clear(&line);
}

/* A line each for the lines of the header section. */
static void put_header(struct buf *text, const char *p, size_t n, bool all)
{
	const char *end = p + n;
	while (p < end) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p));
		size_t len = (size_t)((line_end ? line_end : end) - p);
		if (len == 0 || (len == 1 && *p == '\r'))
			return;
		buf_puts(text, "header");
		control_field_slice(text, (struct slice){p, len - (p[len - 1] == '\r')});
		buf_putc(text, '\n');
		p += len + 1;
	}
	if (!all)
		buf_puts(text, "cut\theader\n");
}

static void read_header(struct buf *text, const char *id, struct status *st)
{
	char part[CONTROL_HEADER_MAX];
	size_t n = 0;
	ssize_t got = 0;
	struct spool_reader *r = spool_read_open(the_spool(), id, st);
	if (r) {
		while (n < sizeof(part) &&
		       (got = spool_read(r, part + n, sizeof(part) - n, st)) > 0)
			n += (size_t)got;
		spool_read_close(r);
	}
	if (!r || got < 0) {
		buf_puts(text, "cut\theader");
		control_field(text, st->text);
		buf_putc(text, '\n');
	} else {
		put_header(text, part, n, got == 0);
	}
}

static void put_head(struct buf *out, const struct queue_item *item, const struct envelope *env)
{
	buf_printf(out, "id\t%s\ncreated\t%lld\nnext\t%lld\nstate\t%s\nattempts\t%u\nsize\t%llu\n",
	           item->id, (long long)item->created, (long long)item->next, state_name(item, env),
	           env->attempts, (unsigned long long)env->size);
	buf_puts(out, "from");
	control_field(out, env->from);
	buf_putc(out, '\n');
}

/* Finds the message, or refuses. */
static bool find(struct control_conn *c, const char *id, struct queue_item *item)
{
	if (queue_find(the_queue(), id, item) == 0)
		return true;
	control_error(c, "there is no such message");
	return false;
}

void control_show(struct control_conn *c, const char *arg)
{
	struct queue_item item;
	struct status st = {.code = 0};
	if (!find(c, arg, &item))
		return;
	struct show *s = control_state(c, sizeof(*s));
	if (!s)
		return;
	c->state_free = show_free;
	if (spool_load(the_spool(), item.id, &s->env, &st) < 0) {
		control_refuse(c, &st);
		return;
	}
	if (spool_attempts(the_spool(), &s->env, put_attempt, &c->text, &st) < 0)
		buf_printf(&c->text, "cut\tattempt\t%s\n", st.text);
	read_header(&c->text, item.id, &st);
	if (control_begin(c, show_more) == 0)
		put_head(&c->io.out, &item, &s->env);
}

/* ---- RAW ---- */

static void raw_free(void *state)
{
	spool_read_close(*(struct spool_reader **)state);
}

static void raw_more(struct control_conn *c)
{
	struct spool_reader *r = *(struct spool_reader **)c->state;
	char part[CONTROL_ITEM_BYTES - 32];
	struct status st = {.code = 0};
	while (control_room(c)) {
		ssize_t n = spool_read(r, part, sizeof(part), &st);
		if (n < 0) {
			control_broken(c, st.text);
			return;
		}
		buf_printf(&c->io.out, "%zd\n", n);
		buf_append(&c->io.out, part, (size_t)n);
		if (n == 0) {
			control_end(c);
			return;
		}
	}
	io_update(&c->io);
}

void control_raw(struct control_conn *c, const char *arg)
{
	struct queue_item item;
	struct status st = {.code = 0};
	if (!find(c, arg, &item))
		return;
	struct spool_reader **r = control_state(c, sizeof(struct spool_reader *));
	if (!r)
		return;
	*r = spool_read_open(the_spool(), item.id, &st);
	if (!*r) {
		control_refuse(c, &st);
		return;
	}
	c->state_free = raw_free;
	control_begin(c, raw_more);
}

/* ---- FLUSH ---- */

static void flush_more(struct control_conn *c)
{
	struct list *l = c->state;
	for (int i = 0; i < CONTROL_LIST_STEP; i++) {
		const struct queue_item *item = list_next(l);
		struct envelope env = {.from = NULL};
		struct status st;
		struct addr a;
		bool goes = false;
		if (!item) {
			buf_printf(&c->io.out, "flushed\t%zu\n", l->flushed);
			control_end(c);
			return;
		}
		if (!item->active && spool_load(the_spool(), item->id, &env, &st) == 0)
			for (size_t k = 0; k < env.rcpt_count && !goes; k++)
				goes = rcpt_domain(&env.rcpt[k], &a) &&
				       strcmp(a.domain, l->domain) == 0;
		envelope_clear(&env);
		if (goes)
			l->flushed += queue_flush(the_queue(), item->id);
	}
	control_again(c);
}

/* An ID of a message that is here, or a domain in any spelling, made normal. An ID of ours that is
 * not here is no domain. Gives it, or refuses and gives NULL. */
static const char *id_or_domain(struct control_conn *c, const char *arg, char *domain, size_t size)
{
	struct queue_item item;
	if (queue_find(the_queue(), arg, &item) == 0)
		return arg;
	if (spool_id_number(arg) != 0)
		control_error(c, "there is no such message");
	else if (addr_domain_normalise(slice_of(arg), domain, size) < 0)
		control_error(c, "this is neither a message nor a domain");
	else
		return domain;
	return NULL;
}

void control_flush(struct control_conn *c, const char *arg)
{
	char domain[ADDR_DOMAIN_MAX + 1];
	struct list *l;
	if (!*arg) {
		control_text(c, "flushed\t%zu\n", queue_flush(the_queue(), NULL));
		return;
	}
	const char *what = id_or_domain(c, arg, domain, sizeof(domain));
	if (!what)
		return;
	if (what != domain) {
		size_t n = queue_flush(the_queue(), what);
		if (n == 0)
			control_error(c, "this message is held, or on its way already");
		else
			control_text(c, "flushed\t%zu\n", n);
	} else if ((l = control_state(c, sizeof(*l))) != NULL) {
		memcpy(l->domain, domain, sizeof(domain));
		control_begin(c, flush_more);
	}
}

/* ---- HOLD, RELEASE, REMOVE ---- */

static void held_more(struct control_conn *c)
{
	size_t *at = c->state;
	const char *name;
	while ((name = held_nth(*at)) && control_room(c)) {
		control_field(&c->io.out, name);
		buf_putc(&c->io.out, '\n');
		++*at;
	}
	if (name)
		io_update(&c->io);
	else
		control_end(c);
}

static void hold_or_release(struct control_conn *c, const char *arg, bool hold)
{
	char domain[ADDR_DOMAIN_MAX + 1];
	struct status st = {.code = 0};
	const char *what =
	    hold || !is_held(arg) ? id_or_domain(c, arg, domain, sizeof(domain)) : arg;
	if (!what)
		return;
	if ((hold ? queue_hold : queue_release_hold)(the_queue(), what, &st) < 0) {
		control_refuse(c, &st);
		return;
	}
	buf_puts(&c->text, hold ? "held" : "released");
	control_field(&c->text, what);
	control_text(c, "\n");
}

void control_hold(struct control_conn *c, const char *arg)
{
	if (*arg)
		hold_or_release(c, arg, true);
	else if (control_state(c, sizeof(size_t)))
		control_begin(c, held_more);
}

void control_release(struct control_conn *c, const char *arg)
{
	hold_or_release(c, arg, false);
}

void control_remove(struct control_conn *c, const char *arg)
{
	char id[SPOOL_ID_MAX + 1];
	struct queue_item item;
	struct status st = {.code = 0};
	size_t n = strcspn(arg, " ");
	bool bounce = strcmp(arg + n, " BOUNCE") == 0;
	if (n >= sizeof(id) || (arg[n] && !bounce)) {
		control_error(c, "REMOVE takes an ID and perhaps BOUNCE");
		return;
	}
	memcpy(id, arg, n);
	id[n] = '\0';
	if (!find(c, id, &item))
		return;
	if (queue_remove(the_queue(), id, bounce, &st) < 0) {
		control_refuse(c, &st);
	} else {
		control_text(c, "removed\t%s\n", id);
	}
}
