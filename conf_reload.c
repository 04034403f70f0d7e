/*
 * conf_reload: the configuration as text, and what changes in it while running.
 *
 * A reload reads the whole file into a configuration of its own and then swaps value by value, so
 * that a bad file changes nothing. The old values live until conf_reload_end: whoever applies the
 * new ones can still put one back. Values are compared as they are printed: one table serves
 * all keys.
 */
#include "conf_reload.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "conf_int.h"
#include "confdomain.h"
#include "confvalue.h"
#include "log.h"

/* Keys that stay until a restart. */
static const struct {
	enum conf_key key;
	const char *why;
} lasting[] = {
    {KEY_DATA_DIR, "queue and control socket are open in it; restart to change it"},
    {KEY_USER, "root is given up once, at the start; restart to change it"},
    {KEY_SANDBOX, "the sandbox is entered once, at the start; restart to change it"},
    {KEY_SANDBOX_READABLE, "the sandbox is entered once, at the start; restart to change it"},
    {KEY_SANDBOX_WRITABLE, "the sandbox is entered once, at the start; restart to change it"},
};

/* ---- as text ---- */

static void print_networks(struct text_writer *w, const char *name, const struct conf_nets *nets)
{
	for (size_t i = 0; i < nets->count; i++) {
		char text[INET6_ADDRSTRLEN], net[INET6_ADDRSTRLEN + 5];
		snprintf(net, sizeof(net), "%s/%d", dns_addr_text(&nets->item[i].addr, text),
		         nets->item[i].bits);
		text_put_string(w, name, net);
	}
}

/* trusted_network_public is not kept: it is true when there is need. */
static void print_public(struct text_writer *w, const char *name, const struct conf_nets *nets)
{
	for (size_t i = 0; i < nets->count; i++) {
		if (!confvalue_net_is_private(&nets->item[i])) {
			text_put_bool(w, name, true);
			return;
		}
	}
}

static void print_seconds(struct text_writer *w, const char *name, int64_t n)
{
	char text[24] = "";
	if (n > 0)
		snprintf(text, sizeof(text), "%llds", (long long)n);
	text_put_string(w, name, text);
}

static void print_mode(struct text_writer *w, const char *name, int64_t mode)
{
	char text[24];
	snprintf(text, sizeof(text), "%04llo", (unsigned long long)mode);
	text_put_string(w, name, text);
}

/* Writes one key as conf_print does, without origin. */
static void conf_print_key(const struct conf *c, enum conf_key key, struct buf *out)
{
	const char *name = conf_key_fields[key].name;
	const void *p = (const char *)c + conf_slots[key].offset;
	const struct text_strings *list = p;
	struct text_writer w;
	text_writer_init(&w, out);
	switch (conf_slots[key].kind) {
	case SLOT_STRING: {
		const char *s = *(char *const *)p;
		text_put_string(&w, name, s ? s : "");
		break;
	}
	case SLOT_NUMBER:
		text_put_int(&w, name, *(const int64_t *)p);
		break;
	case SLOT_SECONDS:
		print_seconds(&w, name, *(const int64_t *)p);
		break;
	case SLOT_LEVEL:
		text_put_string(&w, name, conf_levels[*(const int64_t *)p].name);
		break;
	case SLOT_MODE:
		print_mode(&w, name, *(const int64_t *)p);
		break;
	case SLOT_BOOL:
		text_put_bool(&w, name, *(const bool *)p);
		break;
	case SLOT_LINE_ENDS:
		text_put_word(&w, name, conf_line_ends[*(const bool *)p].name);
		break;
	case SLOT_LIST:
		for (size_t i = 0; i < list->count; i++)
			text_put_string(&w, name, list->item[i]);
		break;
	case SLOT_SMARTHOSTS:
		conf_smarthost_print(p, &w);
		break;
	case SLOT_MASQUERADES:
		conf_masquerade_print(p, &w);
		break;
	case SLOT_NETS:
		print_networks(&w, name, p);
		break;
	case SLOT_NONE:
		print_public(&w, name, &c->trusted);
		break;
	}
}

static void put_origin(const struct conf *c, enum conf_key key, struct buf *out)
{
	if (c->origins->by_hand[key])
		buf_puts(out, " # -o");
	else if (c->origins->line[key])
		buf_printf(out, " # %s:%d", c->origins->file, c->origins->line[key]);
	else
		buf_puts(out, " # default");
}

/* Copies the lines of a key; each that begins a value gets the origin. */
static void put_lines(const struct conf *c, enum conf_key key, const char *text, struct buf *out)
{
	for (const char *end; *text; text = end + 1) {
		end = text + strcspn(text, "\n");
		buf_append(out, text, (size_t)(end - text));
		if (isalpha((unsigned char)*text))
			put_origin(c, key, out);
		buf_putc(out, '\n');
		if (!*end)
			break;
	}
}

void conf_print(const struct conf *c, struct buf *out, bool origins)
{
	struct buf one;
	for (size_t i = 0; i < KEYS; i++) {
		enum conf_key key = (enum conf_key)i;
		if (!origins) {
			conf_print_key(c, key, out);
			continue;
		}
		buf_init(&one, CONF_REPORT_BYTES);
		conf_print_key(c, key, &one);
		if (one.failed)
			out->failed = true;
		if (one.len == 0 && conf_key_fields[i].repeated) {
			buf_printf(out, "# %s: none", conf_key_fields[i].name);
			put_origin(c, key, out);
			buf_putc(out, '\n');
		}
		put_lines(c, key, buf_str(&one), out);
		buf_clear(&one);
	}
}

/* ---- the report ---- */

void conf_report_init(struct conf_report *r)
{
	*r = (struct conf_report){.before = NULL};
	buf_init(&r->text, CONF_REPORT_BYTES);
}

void conf_report_clear(struct conf_report *r)
{
	conf_free(r->before);
	r->before = NULL;
	buf_clear(&r->text);
}

/* The text of a value on one line: names of the key and blanks at line ends are left out. */
static void put_value(struct buf *out, const char *name, const char *text)
{
	size_t name_len = strlen(name), start = out->len;
	if (!*text)
		buf_puts(out, "none");
	for (const char *p = text; *p && out->len - start < CONF_REPORT_VALUE;) {
		if (strncmp(p, name, name_len) == 0 && (p[name_len] == ':' || p[name_len] == ' '))
			p += name_len + 1;
		p += strspn(p, " \t");
		size_t n = strcspn(p, "\n");
		if (n > CONF_REPORT_VALUE)
			n = CONF_REPORT_VALUE;
		while (n < strlen(p) && n > 0 && ((unsigned char)p[n] & 0xc0) == 0x80)
			n--; /* not within a character */
		buf_append(out, p, n);
		p += n;
		if (*p && *p != '\n')
			break;
		p += *p == '\n';
		if (*p)
			buf_putc(out, ' ');
	}
	if (out->len - start >= CONF_REPORT_VALUE)
		buf_puts(out, "...");
}

static bool print_both(const struct conf *a, const struct conf *b, enum conf_key key, struct buf *x,
                       struct buf *y)
{
	buf_init(x, CONF_REPORT_BYTES);
	buf_init(y, CONF_REPORT_BYTES);
	conf_print_key(a, key, x);
	conf_print_key(b, key, y);
	/* What cannot be compared counts as different. */
	return x->failed || y->failed || strcmp(buf_str(x), buf_str(y)) != 0;
}

static bool differ(const struct conf *a, const struct conf *b, enum conf_key key)
{
	struct buf x, y;
	bool d = print_both(a, b, key, &x, &y);
	buf_clear(&x);
	buf_clear(&y);
	return d;
}

static void report_changed(const struct conf *c, struct conf_report *r, enum conf_key key,
                           struct buf *out)
{
	const char *name = conf_key_fields[key].name;
	struct buf was, is;
	if (r->before->origins->stayed[key])
		return;
	bool differs = print_both(r->before, c, key, &was, &is);
	if (was.failed || is.failed) {
		out->failed = true; /* nothing is said of what cannot be compared */
	} else if (differs) {
		size_t start = out->len;
		r->changed++;
		buf_printf(out, "changed %s: ", name);
		put_value(out, name, buf_str(&was));
		buf_puts(out, " -> ");
		put_value(out, name, buf_str(&is));
		log_info("-", "configuration", LOG_S("change", buf_str(out) + start));
		buf_putc(out, '\n');
	}
	buf_clear(&was);
	buf_clear(&is);
}

static void report_refused(struct conf_report *r, const char *what, const char *why)
{
	r->refused++;
	buf_printf(&r->text, "refused %s: %s\n", what, why);
	log_error("-", "reload refused", LOG_S("key", what), LOG_S("reason", why));
}

/* ---- taking over ---- */

/* Puts all values but the lasting ones into effect. */
static void swap_all(struct conf *c, struct conf *n, struct conf_report *r)
{
	bool *stays = n->origins->stayed;
	for (size_t i = 0; i < sizeof(lasting) / sizeof(*lasting); i++) {
		enum conf_key key = lasting[i].key;
		stays[key] = true;
		if (differ(c, n, key))
			report_refused(r, conf_key_fields[key].name, lasting[i].why);
	}
	/* The default of maildir follows the data directory, which stays. */
	stays[KEY_MAILDIR] = !n->origins->line[KEY_MAILDIR] && !c->origins->line[KEY_MAILDIR];
	/* What is as it was stays in place too, for those who hold it. */
	for (size_t i = 0; i < KEYS; i++)
		if (!stays[i])
			(differ(c, n, (enum conf_key)i) ? conf_slot_swap
			                                : conf_origin_swap)(c, n, (enum conf_key)i);
	const char *file = c->origins->file;
	c->origins->file = n->origins->file;
	n->origins->file = file;
}

static void read_domains(struct conf *c, struct conf_report *r)
{
	/* The tables were made with the separators and characters of before. */
	if (differ(c, r->before, KEY_SUFFIX_SEPARATORS) ||
	    differ(c, r->before, KEY_DROP_CHARACTERS))
		confdomain_forget(c);
	r->files += conf_refresh(c);
	if (c->refused > 0) {
		buf_printf(&r->text, "refused %s; what was read before stays\n", c->refused_why);
		r->refused++;
	}
	if (c->refused > 1) {
		buf_printf(&r->text, "refused %zu more file%s, see the log\n", c->refused - 1,
		           c->refused == 2 ? "" : "s");
		r->refused += c->refused - 1;
	}
}

int conf_reload(struct conf *c, struct conf_report *r, char *err, size_t err_size)
{
	conf_enter(c);
	struct conf *n = conf_read(".", (const char *const *)c->overrides.item, c->overrides.count,
	                           err, err_size);
	if (!n || conf_smarthost_check(&n->smarthosts, err, err_size) < 0) {
		conf_free(n);
		return -1;
	}
	swap_all(c, n, r);
	r->before = n;
	r->files++;
	read_domains(c, r);
	return 0;
}

static enum conf_key find_key(const char *name)
{
	size_t i = 0;
	while (i + 1 < KEYS && strcmp(conf_key_fields[i].name, name) != 0)
		i++;
	return (enum conf_key)i;
}

bool conf_reload_changed(const struct conf *c, const struct conf_report *r, const char *key)
{
	enum conf_key k = find_key(key);
	return !r->before->origins->stayed[k] && differ(c, r->before, k);
}

void conf_reload_refuse(struct conf *c, struct conf_report *r, const char *key, const char *why)
{
	enum conf_key k = find_key(key);
	conf_slot_swap(c, r->before, k);
	r->before->origins->stayed[k] = true;
	report_refused(r, key, why);
}

void conf_reload_end(struct conf *c, struct conf_report *r)
{
	struct buf all;
	buf_init(&all, r->text.max);
	for (size_t i = 0; i < KEYS; i++)
		report_changed(c, r, (enum conf_key)i, &all);
	buf_append(&all, buf_data(&r->text), r->text.len);
	buf_clear(&r->text);
	r->text = all;
	conf_free(r->before);
	r->before = NULL;
}
