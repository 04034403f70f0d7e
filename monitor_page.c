/*
 * monitor_page: the frame of the pages for people, and what they are written with.
 *
 * Everything that did not come from this program goes through page_text or page_lines: addresses,
 * replies of peers, header fields, file names. There is one escaping for text and attributes, so
 * that no caller can choose the wrong one. Pages need no script and bring none; what they look like
 * is one stylesheet (monitor_style.c).
 */
#include "monitor_page.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "monitor_auth.h"

static char page_host[256]; /* cut to fit */

/* ---- hostile text ---- */

/* Decodes a character that status_utf8_len has found good. */
static uint32_t page_code(const char *p, size_t n)
{
	const unsigned char *u = (const unsigned char *)p;
	static const unsigned char first[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	uint32_t c = u[0] & first[n];
	for (size_t i = 1; i < n; i++)
		c = c << 6 | (u[i] & 0x3fU);
	return c;
}

/* Would it not be seen, or change how its neighbours are seen? Controls, separators of lines,
 * overrides and isolates of direction, invisible marks, tags, variation selectors, non-characters.
 */
static bool page_is_hidden(uint32_t c)
{
	static const struct {
		uint32_t from, to;
	} hidden[] = {
	    {0x00, 0x1f},     {0x7f, 0x9f},       {0xad, 0xad},       {0x34f, 0x34f},
	    {0x61c, 0x61c},   {0x115f, 0x1160},   {0x17b4, 0x17b5},   {0x180b, 0x180f},
	    {0x200b, 0x200f}, {0x2028, 0x202e},   {0x2060, 0x206f},   {0x3164, 0x3164},
	    {0xfdd0, 0xfdef}, {0xfe00, 0xfe0f},   {0xfeff, 0xfeff},   {0xffa0, 0xffa0},
	    {0xfff0, 0xfffb}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff},
	};
	for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++)
		if (c >= hidden[i].from && c <= hidden[i].to)
			return true;
	return (c & 0xfffe) == 0xfffe;
}

static const char *page_entity(char c)
{
	switch (c) {
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '&':
		return "&amp;";
	case '"':
		return "&#34;";
	case '\'':
		return "&#39;";
	default:
		return NULL;
	}
}

/* One character at p; its length. */
static size_t page_char(struct buf *out, const char *p, size_t n, bool lines)
{
	size_t len = status_utf8_len(p, n);
	if (len == 0) {
		buf_puts(out, "\xef\xbf\xbd");
		return 1;
	}
	const char *entity = page_entity(*p);
	uint32_t c = page_code(p, len);
	if (entity)
		buf_puts(out, entity);
	else if (page_is_hidden(c) && !(lines && (c == '\n' || c == '\t')))
		buf_printf(out, "\\u{%04lX}", (unsigned long)c);
	else
		buf_append(out, p, len);
	return len;
}

void page_text(struct buf *out, const char *s, size_t max)
{
	size_t n = strlen(s), count = 0;
	while (n > 0) {
		if (max > 0 && count++ == max) {
			buf_puts(out, "\xe2\x80\xa6");
			return;
		}
		size_t len = page_char(out, s, n, false);
		s += len;
		n -= len;
	}
}

void page_lines(struct buf *out, struct slice s)
{
	while (s.n > 0) {
		size_t n = 1;
		if (s.n < 2 || s.p[0] != '\r' || s.p[1] != '\n')
			n = page_char(out, s.p, s.n, true);
		s.p += n;
		s.n -= n;
	}
}

static void page_bdi(struct buf *out, const char *s, size_t max)
{
	buf_puts(out, "<bdi dir=\"ltr\">");
	page_text(out, s, max);
	buf_puts(out, "</bdi>");
}

/* RFC 3986 2. */
static void page_url(struct buf *out, const char *s)
{
	for (; *s; s++) {
		if (isalnum((unsigned char)*s) || strchr("-._~", *s))
			buf_putc(out, *s);
		else
			buf_printf(out, "%%%02X", (unsigned char)*s);
	}
}

/* ---- numbers and times ---- */

static void page_age(struct buf *out, int64_t seconds)
{
	long long s = seconds > 0 ? seconds : 0;
	if (s < 60)
		buf_printf(out, "%lld s", s);
	else if (s < 3600)
		buf_printf(out, "%lld min", s / 60);
	else if (s < 86400)
		buf_printf(out, "%lld h %lld min", s / 3600, s % 3600 / 60);
	else
		buf_printf(out, "%lld d %lld h", s / 86400, s % 86400 / 3600);
}

static void page_time(struct buf *out, int64_t at)
{
	char text[96];
	struct tm tm;
	time_t t = (time_t)at;
	if (at == 0 || !localtime_r(&t, &tm) ||
	    strftime(text, sizeof text, "<time datetime=\"%FT%T%z\">%F %T</time>", &tm) == 0)
		buf_puts(out, "never");
	else
		buf_puts(out, text);
}

static void page_size(struct buf *out, int64_t bytes)
{
	const char *unit = "KMGT";
	if (bytes < 1024) {
		buf_printf(out, "%d bytes", (int)bytes);
		return;
	}
	for (; bytes >= 1024 * 1000 && unit[1]; unit++)
		bytes /= 1024;
	buf_printf(out, "%lld.%d %cB", (long long)(bytes / 1024), (int)(bytes % 1024 * 10 / 1024),
	           *unit);
}

static void page_status(struct buf *out, const struct status *st)
{
	char text[STATUS_PRINT_MAX];
	status_print(st, text, sizeof text);
	page_bdi(out, text, 0);
}

/* ---- pieces of a page ---- */

/* Writes before, the text of fmt up to one of `ends`, and after; returns where fmt goes on. */
static const char *page_wrap(struct buf *out, const char *before, const char *fmt, const char *ends,
                             const char *after)
{
	size_t n = strcspn(fmt, ends);
	buf_puts(out, before);
	buf_append(out, fmt, n);
	buf_puts(out, after);
	return fmt + n;
}

/* The roles are said aloud because cards are made with display: block, which takes them away. */
#define PAGE_CELL "<td role=\"cell\" data-label=\""

/* What stands for structure; fmt is behind its mark. Returns where it goes on. */
static const char *page_structure(struct buf *out, char mark, const char *fmt)
{
	if (mark == '{')
		return page_wrap(out, "<tr role=\"row\">" PAGE_CELL, fmt, "|", "\">") + 1;
	if (mark == '^')
		return page_wrap(out, "</td>" PAGE_CELL, fmt, "|", "\">") + 1;
	if (mark == '}')
		buf_puts(out, "</td></tr>\n");
	if (mark == '~')
		buf_puts(out, "</tbody></table>\n");
	if (mark != '[')
		return fmt;
	fmt = page_wrap(out, "<table role=\"table\"><caption>", fmt, "|",
	                "</caption><thead role=\"rowgroup\"><tr role=\"row\">");
	while (*fmt++ == '|')
		fmt =
		    page_wrap(out, "<th role=\"columnheader\" scope=\"col\">", fmt, "|]", "</th>");
	buf_puts(out, "</tr></thead><tbody role=\"rowgroup\">\n");
	return fmt;
}

static void page_number(struct buf *out, char how, int64_t n)
{
	if (how == 'a')
		page_age(out, n);
	else if (how == 't')
		page_time(out, n);
	else if (how == 'z')
		page_size(out, n);
	else
		buf_printf(out, "%lld", (long long)n);
}

static void page_string(struct buf *out, char how, const char *s)
{
	if (how == 's')
		buf_puts(out, s);
	else if (how == 'e')
		page_text(out, s, 0);
	else if (how == 'u')
		page_url(out, s);
	else
		page_bdi(out, s, how == 'b' ? MONITOR_SHOWN_MAX : 0);
}

void page_put(struct buf *out, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	while (*fmt) {
		fmt = page_wrap(out, "", fmt, "%{^}[~", "");
		char mark = *fmt ? *fmt++ : '\0';
		if (mark != '%') {
			fmt = page_structure(out, mark, fmt);
			continue;
		}
		char how = *fmt++;
		if (how == 'S')
			page_status(out, va_arg(ap, const struct status *));
		else if (strchr("adtz", how))
			page_number(out, how, va_arg(ap, int64_t));
		else
			page_string(out, how, va_arg(ap, const char *));
	}
	va_end(ap);
}

/* ---- the frame ---- */

void page_init(const char *hostname)
{
	snprintf(page_host, sizeof page_host, "%s", hostname);
}

void page_begin(struct buf *out, const char *title, enum page_place place)
{
	static const char nav[][14] = {
	    [PAGE_HOME] = "Overview",
	    [PAGE_QUEUE] = "Queue",
	    [PAGE_DESTINATIONS] = "Destinations",
	    [PAGE_TRACES] = "Traces",
	    [PAGE_CONFIG] = "Configuration",
	    [PAGE_ABOUT] = "About",
	};
	static const char paths[][13] = {"", "queue", "destinations", "traces", "config", "about"};
	page_put(out,
	         "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	         "<title>%e \xc2\xb7 %e</title>\n<meta name=\"viewport\" "
	         "content=\"width=device-width\">\n<link rel=\"stylesheet\" "
	         "href=\"" PAGE_STYLE "\">\n<link rel=\"icon\" href=\"" PAGE_ICON
	         "\">\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to content</a>\n"
	         "<header><a class=\"brand\" href=\"/\"><b>chasq</b> %B</a>\n"
	         "<nav aria-label=\"Pages\">",
	         title ? title : nav[place], page_host, page_host);
	for (size_t i = 0; i < PAGE_NOWHERE; i++)
		page_put(out, "<a href=\"/%s\"%s>%s</a>", paths[i],
		         i == (size_t)place ? " aria-current=\"page\"" : "", nav[i]);
	page_put(out, "</nav></header>\n<main id=\"main\">\n");
}

void page_end(struct buf *out)
{
	static const char dumps[][13] = {"metrics", "debug/vars", "debug/queue", "debug/config",
	                                 "debug/traces"};
	char zone[16] = "";
	struct tm tm;
	time_t now = time(NULL);
	if (localtime_r(&now, &tm))
		strftime(zone, sizeof zone, "UTC%z", &tm);
	page_put(out, "</main>\n<footer>As of %t (%s). <a href=\"\">Reload</a><br>For programs:",
	         (int64_t)now, zone);
	for (size_t i = 0; i < sizeof dumps / sizeof dumps[0]; i++)
		page_put(out, " <a href=\"/%s\">/%s</a>", dumps[i], dumps[i]);
	page_put(out, "</footer>\n</body>\n</html>\n");
}

void page_form(struct buf *out, const char *what)
{
	page_put(out,
	         "<form method=\"post\" action=\"/action\" class=\"do\"><input type=\"hidden\" "
	         "name=\"token\" value=\"%s\">",
	         monitor_auth_token());
	if (what)
		page_put(out, "<input type=\"hidden\" name=\"what\" value=\"%e\">", what);
}

/* ---- answers ---- */

/* A unit that was made and is not wholly sent, and who makes the next. */
struct page_source {
	struct buf unit;
	bool over;
	bool (*next)(void *state, struct buf *out);
	void *state;
	void (*free_state)(void *state);
};

static bool page_source_more(void *arg, struct buf *out)
{
	struct page_source *s = arg;
	if (s->unit.len == 0 && !s->over) {
		s->over = s->next(s->state, &s->unit);
		if (s->unit.failed) {
			buf_clear(&s->unit);
			if (buf_puts(&s->unit,
			             "<p class=\"bad\">There is no memory for the rest.</p>"))
				out->failed = true; /* what is cut off must look like it */
			s->over = true;
		} else if (s->unit.len == 0) {
			buf_putc(&s->unit, '\n'); /* the connection shall see that it goes on */
		}
	}
	size_t n = s->unit.len < HTTPD_PIECE ? s->unit.len : HTTPD_PIECE;
	if (n > out->max - out->len)
		n = out->max - out->len;
	buf_append(out, buf_data(&s->unit), n);
	buf_consume(&s->unit, n);
	return s->over && s->unit.len == 0;
}

static void page_source_clear(struct page_source *s)
{
	if (s->free_state)
		s->free_state(s->state);
	buf_clear(&s->unit);
}

static void page_source_free(void *arg)
{
	page_source_clear(arg);
	free(arg);
}

/* Takes what the source holds, whatever comes of it. */
static void page_answer(struct httpd_conn *c, int code, struct page_source *source)
{
	struct page_source *s = source->unit.failed ? NULL : malloc(sizeof *s);
	if (s) {
		*s = *source;
		httpd_stream(c, code, PAGE_TYPE, NULL, page_source_more, s, page_source_free);
		return;
	}
	page_source_clear(source);
	httpd_answer_text(c, 503, NULL, "There is no memory for this page.");
}

void page_send(struct httpd_conn *c, int code, struct buf *out)
{
	struct page_source s = {.unit = *out, .over = true};
	buf_init(out, out->max);
	page_answer(c, code, &s);
}

void page_stream(struct httpd_conn *c, int code, bool (*next)(void *state, struct buf *out),
                 void *state, void (*free_state)(void *state))
{
	struct page_source s = {.next = next, .state = state, .free_state = free_state};
	buf_init(&s.unit, MONITOR_UNIT_MAX);
	page_answer(c, code, &s);
}
