/*
 * conf_smarthost: the blocks `smarthost` and `masquerade` of chasq.conf.
 *
 * A block is checked as soon as it is read, so that a complaint names its line; only what depends
 * on the directory (password files) waits until we are in it. Passwords are never kept here: they
 * are read when they are used, so a changed one counts at once.
 */
#include "conf_smarthost.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "confvalue.h"
#include "sandbox.h"

static const struct text_enum tls_names[] = {{"STARTTLS", CONF_TLS_STARTTLS},
                                             {"IMPLICIT", CONF_TLS_IMPLICIT},
                                             {"NONE", CONF_TLS_NONE},
                                             {NULL, 0}};
static const struct text_enum auth_names[] = {{"BEST", CONF_AUTH_BEST},
                                              {"PLAIN", CONF_AUTH_PLAIN},
                                              {"LOGIN", CONF_AUTH_LOGIN},
                                              {"XOAUTH2", CONF_AUTH_XOAUTH2},
                                              {NULL, 0}};

struct smarthost_keys {
	char *address;
	int tls;
	char *user;
	char *password_file;
	char *password_command;
	int auth;
	struct text_strings sender;
	bool insecure;
	char *fingerprint;
	int given[9];
};

static const struct text_field smarthost_fields[] = {
    {.name = "address",
     .number = 1,
     .type = TEXT_STRING,
     .offset = offsetof(struct smarthost_keys, address)},
    {.name = "tls",
     .number = 2,
     .type = TEXT_ENUM,
     .names = tls_names,
     .offset = offsetof(struct smarthost_keys, tls)},
    {.name = "user",
     .number = 3,
     .type = TEXT_STRING,
     .offset = offsetof(struct smarthost_keys, user)},
    {.name = "password_file",
     .number = 4,
     .type = TEXT_STRING,
     .offset = offsetof(struct smarthost_keys, password_file)},
    {.name = "password_command",
     .number = 5,
     .type = TEXT_STRING,
     .offset = offsetof(struct smarthost_keys, password_command)},
    {.name = "auth",
     .number = 6,
     .type = TEXT_ENUM,
     .names = auth_names,
     .offset = offsetof(struct smarthost_keys, auth)},
    {.name = "sender",
     .number = 7,
     .type = TEXT_STRING,
     .repeated = true,
     .offset = offsetof(struct smarthost_keys, sender)},
    {.name = "insecure",
     .number = 8,
     .type = TEXT_BOOL,
     .offset = offsetof(struct smarthost_keys, insecure)},
    {.name = "fingerprint",
     .number = 9,
     .type = TEXT_STRING,
     .offset = offsetof(struct smarthost_keys, fingerprint)},
};
const struct text_message conf_smarthost_table =
    TEXT_TABLE(smarthost_fields, struct smarthost_keys);

struct masquerade_keys {
	char *from;
	char *to;
	int given[2];
};

static const struct text_field masquerade_fields[] = {
    {.name = "from",
     .number = 1,
     .type = TEXT_STRING,
     .offset = offsetof(struct masquerade_keys, from)},
    {.name = "to",
     .number = 2,
     .type = TEXT_STRING,
     .offset = offsetof(struct masquerade_keys, to)},
};
const struct text_message conf_masquerade_table =
    TEXT_TABLE(masquerade_fields, struct masquerade_keys);

/* ---- patterns ---- */

static int no_memory(struct text_reader *r)
{
	return text_fail(r, TEXT_MEMORY, "out of memory");
}

/* Splits "user@domain" or "*@domain"; an empty user stands for "*". Returns 0, or -1. */
static int parse_address(const char *s, struct addr *a)
{
	if (strncmp(s, "*@", 2) != 0)
		return addr_parse(slice_of(s), a) || addr_is_null(a) ? -1 : 0;
	*a = (struct addr){.user = ""};
	return addr_domain_normalise(slice_of(s + 2), a->domain, sizeof(a->domain));
}

static int pattern_read(struct text_reader *r, struct conf_pattern *p, const char *s)
{
	struct addr a;
	if (strcmp(s, "*") == 0)
		return 0;
	if (parse_address(s, &a) < 0)
		return text_fail(r, TEXT_BAD, "\"%s\" is not user@domain, *@domain or *", s);
	p->domain = strdup(a.domain);
	if (*a.user)
		p->user = strdup(a.user);
	return p->domain && (p->user || !*a.user) ? 0 : no_memory(r);
}

static bool pattern_matches(const struct conf_pattern *p, const struct addr *a)
{
	if (p->domain && strcmp(p->domain, a->domain) != 0)
		return false;
	return !p->user || addr_user_equal(p->user, a->user);
}

static void pattern_clear(struct conf_pattern *p)
{
	free(p->user);
	free(p->domain);
}

static void pattern_print(const struct conf_pattern *p, const char *name, struct text_writer *w)
{
	struct addr a = {.user = ""};
	char text[ADDR_TEXT_MAX + 2] = "*";
	if (p->domain && !p->user)
		snprintf(text, sizeof(text), "*@%s", p->domain);
	else if (p->domain) {
		snprintf(a.user, sizeof(a.user), "%s", p->user);
		snprintf(a.domain, sizeof(a.domain), "%s", p->domain);
		addr_format(&a, text, sizeof(text));
	}
	text_put_string(w, name, text);
}

/* ---- smarthost: checking and moving ---- */

static char *take_filled(char **from)
{
	char *s = *from;
	if (!s || !*s)
		return NULL;
	*from = NULL;
	return s;
}

static int read_address(struct text_reader *r, struct conf_smarthost *s, const char *text)
{
	static const uint16_t ports[] = {
	    [CONF_TLS_STARTTLS] = 587, [CONF_TLS_IMPLICIT] = 465, [CONF_TLS_NONE] = 25};
	char host[ADDR_DOMAIN_MAX + 1], port[CONFVALUE_PORT];
	char normal[ADDR_DOMAIN_MAX + 1], ascii[ADDR_DOMAIN_MAX + 1];
	if (!text || confvalue_split_address(text, host, port) < 0 || !*host ||
	    (*port && !confvalue_is_port(port)))
		return text_fail(r, TEXT_BAD, "smarthost address \"%s\" is not host or host:port",
		                 text ? text : "");
	s->port = *port ? (uint16_t)strtoul(port, NULL, 10) : ports[s->tls];
	s->has_addr = dns_addr_parse(&s->addr, slice_of(host)) == 0;
	if (s->has_addr)
		snprintf(ascii, sizeof(ascii), "%s", host);
	else if (addr_domain_normalise(slice_of(host), normal, sizeof(normal)) < 0 ||
	         addr_domain_to_ascii(normal, ascii, sizeof(ascii)) < 0 ||
	         !addr_domain_is_valid_hostname(ascii))
		return text_fail(r, TEXT_BAD, "\"%s\" is not a name a host may have", host);
	s->host = strdup(ascii);
	return s->host ? 0 : no_memory(r);
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* 64 hex digits, colons between the bytes allowed, as openssl writes them. */
static int read_fingerprint(struct text_reader *r, struct conf_smarthost *s, const char *text)
{
	const char *p = text;
	size_t n = 0;
	if (!text || !*text)
		return 0;
	while (n < sizeof(s->sha256) && hex_value(p[0]) >= 0 && hex_value(p[1]) >= 0) {
		s->sha256[n++] = (unsigned char)(hex_value(p[0]) * 16 + hex_value(p[1]));
		p += 2 + (p[2] == ':' && p[3]);
	}
	s->pinned = n == sizeof(s->sha256) && !*p;
	return s->pinned ? 0
	                 : text_fail(r, TEXT_BAD,
	                             "\"%s\" is not a SHA-256 fingerprint: 64 hex digits", text);
}

static int read_senders(struct text_reader *r, struct conf_smarthost *s,
                        const struct text_strings *list)
{
	size_t n = list->count > 0 ? list->count : 1;
	s->sender = calloc(n, sizeof(*s->sender));
	if (!s->sender)
		return no_memory(r);
	s->sender_count = n;
	for (size_t i = 0; i < list->count; i++)
		if (pattern_read(r, &s->sender[i], list->item[i]) < 0)
			return -1;
	return 0;
}

static int check_login(struct text_reader *r, const struct conf_smarthost *s)
{
	bool file = s->password_file, command = s->password_command;
	if (!s->user)
		return file || command ? text_fail(r, TEXT_BAD,
		                                   "smarthost %s: a password needs a user", s->host)
		                       : 0;
	if (s->tls == CONF_TLS_NONE)
		return text_fail(r, TEXT_BAD,
		                 "smarthost %s: tls: NONE would send the password in the clear",
		                 s->host);
	if (file == command)
		return text_fail(r, TEXT_BAD,
		                 "smarthost %s: user needs password_file or password_command%s",
		                 s->host, file ? ", not both" : "");
	return 0;
}

static int read_smarthost(struct text_reader *r, struct conf_smarthost *s, struct smarthost_keys *k)
{
	s->tls = (enum conf_smarthost_tls)k->tls;
	s->auth = (enum conf_smarthost_auth)k->auth;
	s->insecure = k->insecure;
	s->user = take_filled(&k->user);
	s->password_file = take_filled(&k->password_file);
	s->password_command = take_filled(&k->password_command);
	if (read_address(r, s, k->address) < 0 || read_fingerprint(r, s, k->fingerprint) < 0 ||
	    check_login(r, s) < 0)
		return -1;
	if (!WITH_TLS && s->tls != CONF_TLS_NONE)
		return text_fail(r, TEXT_BAD, "smarthost %s: this chasq was built without TLS",
		                 s->host);
	if (s->insecure && s->pinned)
		return text_fail(r, TEXT_BAD, "smarthost %s: fingerprint and insecure contradict",
		                 s->host);
	return read_senders(r, s, &k->sender);
}

int conf_smarthost_add(struct conf_smarthosts *list, struct text_reader *r, void *element)
{
	if (list->count >= CONF_SMARTHOSTS_MAX)
		return text_fail(r, TEXT_BAD, "more than %d smarthosts", CONF_SMARTHOSTS_MAX);
	struct conf_smarthost *more = realloc(list->item, (list->count + 1) * sizeof(*more));
	if (!more)
		return no_memory(r);
	list->item = more;
	more += list->count++;
	*more = (struct conf_smarthost){.host = NULL};
	return read_smarthost(r, more, element);
}

struct conf_smarthosts conf_smarthost_hold(const struct conf_smarthosts *list)
{
	if (list->count > 0)
		list->item[0].holds++;
	return *list;
}

void conf_smarthost_clear(struct conf_smarthosts *list)
{
	if (list->count > 0 && list->item[0].holds > 0) {
		list->item[0].holds--;
		*list = (struct conf_smarthosts){NULL, 0};
	}
	while (list->count > 0) {
		struct conf_smarthost *s = &list->item[--list->count];
		free(s->host);
		free(s->user);
		free(s->password_file);
		free(s->password_command);
		while (s->sender_count > 0)
			pattern_clear(&s->sender[--s->sender_count]);
		free(s->sender);
	}
	free(list->item);
	list->item = NULL;
}

int conf_smarthost_check(const struct conf_smarthosts *list, char *err, size_t err_size)
{
	char password[CONF_PASSWORD_MAX + 1];
	for (size_t i = 0; i < list->count; i++) {
		const struct conf_smarthost *s = &list->item[i];
		if (!s->password_file)
			continue;
		int rc = conf_smarthost_password(s, password, sizeof(password), err, err_size);
		explicit_bzero(password, sizeof(password));
		if (rc < 0)
			return -1;
	}
	return 0;
}

/* ---- passwords ---- */

/* The first line of an open file. Returns NULL, or what is wrong. */
static const char *read_password(int fd, char *out, size_t size)
{
	struct stat st = {.st_mode = S_IFREG};
	ssize_t n = -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && !(st.st_mode & S_IRWXO))
		n = read(fd, out, size - 1);
	if (!S_ISREG(st.st_mode))
		return "not a file";
	if (st.st_mode & S_IRWXO)
		return "holds a password and is open to all users: chmod o= it";
	if (n < 0)
		return strerror(errno);
	out[n] = '\0';
	size_t len = strcspn(out, "\r\n");
	bool whole = (size_t)n < size - 1 || out[len] != '\0';
	out[len] = '\0';
	if (len == 0)
		return "no password in it";
	return whole ? NULL : "its first line is too long";
}

int conf_smarthost_password(const struct conf_smarthost *s, char *out, size_t size, char *why,
                            size_t why_size)
{
	int fd = open(s->password_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const char *reason = fd < 0 ? sandbox_reason(errno, s->password_file, SANDBOX_READ)
	                            : read_password(fd, out, size);
	if (reason)
		snprintf(why, why_size, "%s: %s", s->password_file, reason);
	if (fd >= 0)
		close(fd);
	return reason ? -1 : 0;
}

/* ---- masquerade ---- */

int conf_masquerade_add(struct conf_masquerades *list, struct text_reader *r, void *element)
{
	const struct masquerade_keys *k = element;
	if (list->count >= CONF_MASQUERADES_MAX)
		return text_fail(r, TEXT_BAD, "more than %d rules of masquerade",
		                 CONF_MASQUERADES_MAX);
	struct conf_masquerade *m = realloc(list->item, (list->count + 1) * sizeof(*m));
	if (!m)
		return no_memory(r);
	list->item = m;
	m += list->count++;
	*m = (struct conf_masquerade){.keep_user = false};
	if (!k->from || !k->to || parse_address(k->to, &m->to) < 0)
		return text_fail(r, TEXT_BAD,
		                 "masquerade needs from: \"PATTERN\" and "
		                 "to: \"user@domain\" or \"*@domain\"");
	m->keep_user = !*m->to.user;
	return pattern_read(r, &m->from, k->from);
}

void conf_masquerade_clear(struct conf_masquerades *list)
{
	while (list->count > 0)
		pattern_clear(&list->item[--list->count].from);
	free(list->item);
	list->item = NULL;
}

bool conf_masquerade_apply(const struct conf_masquerades *list, struct addr *a)
{
	if (addr_is_null(a))
		return false;
	for (size_t i = 0; i < list->count; i++) {
		const struct conf_masquerade *m = &list->item[i];
		if (!pattern_matches(&m->from, a))
			continue;
		if (!m->keep_user)
			memcpy(a->user, m->to.user, sizeof(a->user));
		memcpy(a->domain, m->to.domain, sizeof(a->domain));
		return true;
	}
	return false;
}

/* ---- questions ---- */

size_t conf_smarthost_find(const struct conf_smarthosts *list, const struct addr *sender,
                           size_t from)
{
	for (; from < list->count; from++) {
		const struct conf_smarthost *s = &list->item[from];
		for (size_t i = 0; i < s->sender_count; i++)
			if (pattern_matches(&s->sender[i], sender))
				return from;
	}
	return list->count;
}

static void print_if(struct text_writer *w, const char *name, const char *value)
{
	if (value)
		text_put_string(w, name, value);
}

static void print_one(const struct conf_smarthost *s, struct text_writer *w)
{
	bool v6 = s->has_addr && strchr(s->host, ':');
	char text[ADDR_DOMAIN_MAX + 12], hex[2 * sizeof(s->sha256) + 1];
	snprintf(text, sizeof(text), "%s%s%s:%u", v6 ? "[" : "", s->host, v6 ? "]" : "",
	         (unsigned)s->port);
	text_put_string(w, "address", text);
	text_put_word(w, "tls", tls_names[s->tls].name);
	print_if(w, "user", s->user);
	print_if(w, "password_file", s->password_file);
	print_if(w, "password_command", s->password_command);
	text_put_word(w, "auth", auth_names[s->auth].name);
	for (size_t i = 0; i < s->sender_count; i++)
		pattern_print(&s->sender[i], "sender", w);
	text_put_bool(w, "insecure", s->insecure);
	for (size_t i = 0; i < sizeof(s->sha256); i++)
		snprintf(hex + 2 * i, 3, "%02x", s->sha256[i]);
	print_if(w, "fingerprint", s->pinned ? hex : NULL);
}

void conf_smarthost_print(const struct conf_smarthosts *list, struct text_writer *w)
{
	for (size_t i = 0; i < list->count; i++) {
		text_put_open(w, "smarthost", false);
		print_one(&list->item[i], w);
		text_put_close(w);
	}
}

void conf_masquerade_print(const struct conf_masquerades *list, struct text_writer *w)
{
	for (size_t i = 0; i < list->count; i++) {
		const struct conf_masquerade *m = &list->item[i];
		char to[ADDR_TEXT_MAX + 2];
		if (m->keep_user || addr_format(&m->to, to, sizeof(to)) < 0)
			snprintf(to, sizeof(to), "*@%s", m->to.domain);
		text_put_open(w, "masquerade", true);
		pattern_print(&m->from, "from", w);
		text_put_string(w, "to", to);
		text_put_close(w);
	}
}
