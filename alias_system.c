/*
 * alias_system: the aliases of the system, in sendmail's grammar. Part of alias.h.
 *
 * Lines that continue each other are put together first. A line is taken as a whole or not at all:
 * mail for a name whose members we understand in part would be lost in part. What is no file of
 * aliases (no colon, no text) is an error as in our own.
 */
#include "alias_int.h"

#include <string.h>

#include "config.h"
#include "log.h"

struct system_loader {
	struct alias_loader l;
	struct buf line; /* put together so far */
	int first;       /* number of its first line */
	unsigned left_out;
};

/* Is this one text in quotes? */
static bool is_quoted(struct slice s)
{
	size_t i = 1;
	if (s.n < 2 || *s.p != '"')
		return false;
	while (i + 1 < s.n && s.p[i] != '"')
		i += s.p[i] == '\\' ? 2 : 1;
	return i + 1 == s.n && s.p[i] == '"';
}

/* Copies a text, without quotes when it is in quotes as a whole. -1 without memory. */
static int unquote(struct slice in, struct buf *out)
{
	bool quoted = is_quoted(in);
	size_t end = quoted ? in.n - 1 : in.n;
	for (size_t i = quoted; i < end; i++) {
		if (quoted && in.p[i] == '\\' && i + 1 < end)
			i++;
		buf_putc(out, in.p[i]);
	}
	return out->failed ? -1 : 0;
}

/* We run commands without a shell, where these characters would mean something else. */
static bool needs_shell(struct slice command)
{
	for (size_t i = 0; i < command.n; i++)
		if (strchr("$&;<>()|`\\\"'*?[]{}~#", command.p[i]))
			return true;
	return false;
}

static int put_command(struct alias_loader *l, struct slice command)
{
	command = alias_trim(command);
	if (command.n > 1 && *command.p == '"' && command.p[command.n - 1] == '"')
		command = alias_trim((struct slice){command.p + 1, command.n - 2});
	if (command.n == 0)
		return alias_fail(l, "no command behind the '|'");
	if (needs_shell(command))
		return alias_fail(l, "a command that needs a shell");
	return alias_put_item(l, ALIAS_PIPE, command);
}

static int put_member(struct alias_loader *l, struct slice name, struct slice item,
                      struct slice text)
{
	switch (text.n > 0 ? *text.p : '\0') {
	case '|':
		return put_command(l, (struct slice){text.p + 1, text.n - 1});
	case '/':
		return alias_fail(l, "delivery to a file");
	case ':':
		return alias_fail(l, "\"%.*s\" is not supported", (int)text.n, text.p);
	case '\\':
		text = (struct slice){text.p + 1, text.n - 1};
		if (text.n != name.n || memcmp(text.p, name.p, name.n) != 0)
			return alias_fail(l, "a backslash before another name than its own");
		return alias_put_address(l, ALIAS_EMAIL, text);
	default:
		break;
	}
	/* Some quote an address, some only the local part, because it needs it. */
	size_t before = l->t->text.len;
	if (alias_put_address(l, ALIAS_EMAIL, text) == 0)
		return 0;
	buf_truncate(&l->t->text, before);
	l->err[0] = '\0';
	return alias_put_address(l, ALIAS_EMAIL, item);
}

static int read_members(struct alias_loader *l, struct slice name, struct slice rest)
{
	struct buf text;
	buf_init(&text, ALIAS_LINE_MAX);
	int rc = 0;
	while (rc == 0) {
		size_t n = alias_find_unquoted(rest, ",");
		struct slice item = alias_trim((struct slice){rest.p, n});
		buf_truncate(&text, 0);
		if (item.n > 0 && unquote(item, &text) < 0)
			rc = alias_fail(l, "out of memory");
		else if (item.n > 0)
			rc = put_member(l, name, item, alias_trim(buf_slice(&text)));
		if (n == rest.n)
			break;
		rest.p += n + 1;
		rest.n -= n + 1;
	}
	buf_clear(&text);
	return rc < 0 ? -1 : buf_append(&l->t->text, "", 1);
}

/* name ":" member *( "," member ) */
static int read_entry(struct alias_loader *l, struct slice line, size_t colon)
{
	struct slice left = alias_trim((struct slice){line.p, colon});
	struct slice right = {line.p + colon + 1, line.n - colon - 1};
	struct buf name;
	buf_init(&name, ALIAS_LINE_MAX);
	int rc = unquote(left, &name);
	left = alias_trim(buf_slice(&name));
	if (rc < 0)
		alias_fail(l, "out of memory");
	else if (left.n == 0)
		rc = alias_fail(l, "nothing on the left of the ':'");
	else if (slice_is(left, "*"))
		rc = alias_fail(l, "a catch-all");
	else if (alias_read_name(l, left) < 0 || read_members(l, left, right) < 0)
		rc = -1;
	buf_clear(&name);
	return rc;
}

static void leave_out(struct system_loader *s)
{
	if (s->left_out++ < ALIAS_TELL_MAX)
		log_error("-", "a line of the system's aliases is left out",
		          LOG_S("reason", s->l.err));
	s->l.err[0] = '\0';
}

/* Takes what was put together. */
static int take_logical(struct system_loader *s)
{
	struct alias_loader *l = &s->l;
	struct slice line = alias_trim(buf_slice(&s->line));
	size_t offset = l->t->text.len;
	int last = l->line, rc = 0;
	l->line = s->first;
	size_t colon = alias_find_unquoted(line, ":");
	if (line.n == 0)
		rc = 0;
	else if (alias_check_bytes(l, line) < 0)
		rc = -1;
	else if (colon == line.n)
		rc = alias_fail(l, "no ':' in this line");
	else if (read_entry(l, line, colon) == 0)
		rc = alias_add_entry(l, offset);
	else if (l->t->text.failed)
		rc = alias_fail(l, "more aliases than ALIAS_TABLE_MAX or the memory allow");
	else {
		buf_truncate(&l->t->text, offset);
		leave_out(s);
	}
	l->line = last;
	buf_truncate(&s->line, 0);
	return rc;
}

static int take_line(struct alias_loader *l, struct slice line)
{
	struct system_loader *s = (struct system_loader *)l;
	struct slice text = alias_trim(line);
	if (text.n == 0 || *text.p == '#')
		return 0;
	if (*line.p != ' ' && *line.p != '\t') {
		if (take_logical(s) < 0)
			return -1;
		s->first = l->line;
	}
	if (s->first == 0)
		return alias_fail(l, "a line that continues nothing");
	if (buf_putc(&s->line, ' ') < 0 || buf_append(&s->line, text.p, text.n) < 0)
		return alias_fail(l, "longer than %d bytes", ALIAS_LINE_MAX);
	return 0;
}

static int take_end(struct alias_loader *l)
{
	return take_logical((struct system_loader *)l);
}

struct alias_table *alias_load_system(const char *path, const char *domain,
                                      const char *suffix_separators, const char *drop_characters,
                                      char *err, size_t err_size)
{
	struct system_loader s = {.l = {.take = take_line,
	                                .end = take_end,
	                                .path = path,
	                                .domain = domain,
	                                .separators = suffix_separators,
	                                .drop = drop_characters,
	                                .err = err,
	                                .err_size = err_size}};
	buf_init(&s.line, ALIAS_LINE_MAX);
	struct alias_table *t = alias_load_with(&s.l);
	buf_clear(&s.line);
	if (t && s.left_out > ALIAS_TELL_MAX)
		log_error("-", "lines of the system's aliases are left out", LOG_S("file", path),
		          LOG_N("count", s.left_out));
	return t;
}
