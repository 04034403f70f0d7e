/* fake_dns: see the header. Answers are in memory of their own, so that the sanitizers see a leak
 * and a late reading. */
#include "fake_dns.h"

#include <stdlib.h>
#include <string.h>

enum { ANSWERS_MAX = 40 };
enum { IDLE, ASKING };

struct fake_dns fake_dns;
static const char *zone_text = "";

struct question {
	const char *type;
	char name[300];
	union {
		struct dns_mx_host mx[ANSWERS_MAX];
		struct dns_addr addrs[ANSWERS_MAX];
		struct slice txt[ANSWERS_MAX];
		const char *names[ANSWERS_MAX];
	} answer;
	char text[8192];
	size_t used;
};

void fake_dns_zone(const char *zone)
{
	zone_text = zone;
	fake_dns = (struct fake_dns){0};
}

/* Takes the part before the separator off the front. */
static struct slice take(struct slice *s, char separator)
{
	const char *end = memchr(s->p, separator, s->n);
	struct slice out = {s->p, end ? (size_t)(end - s->p) : s->n};
	size_t skip = out.n + (end ? 1 : 0);
	s->p += skip;
	s->n -= skip;
	return out;
}

static bool behaviour(struct slice value, enum dns_result *r)
{
	static const struct {
		const char *text;
		enum dns_result result;
	} all[] = {{"!failure", DNS_SERVER_FAILURE},
	           {"!timeout", DNS_TIMEOUT},
	           {"!nodata", DNS_NO_DATA},
	           {"!memory", DNS_NO_MEMORY}};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		if (slice_is(value, all[i].text)) {
			*r = all[i].result;
			return true;
		}
	}
	return false;
}

static void record_add(struct dns_query *q, struct question *ask, struct slice value)
{
	char *copy = ask->text + ask->used;
	if (q->count == ANSWERS_MAX || ask->used + value.n + 1 > sizeof ask->text)
		return;
	memcpy(copy, value.p, value.n);
	copy[value.n] = '\0';
	ask->used += value.n + 1;
	size_t i = q->count++;
	if (*ask->type == 'M')
		ask->answer.mx[i] = (struct dns_mx_host){copy, (uint16_t)i};
	else if (*ask->type == 'T')
		ask->answer.txt[i] = (struct slice){copy, value.n};
	else if (*ask->type == 'P')
		ask->answer.names[i] = copy;
	else if (dns_addr_parse(&ask->answer.addrs[i], value))
		q->count--;
}

/* Goes through the zone for the name. */
static enum dns_result look(struct dns_query *q, struct question *ask, const char *name)
{
	struct slice zone = slice_of(zone_text);
	enum dns_result r = DNS_NO_NAME;
	while (zone.n > 0) {
		struct slice line = take(&zone, '\n');
		struct slice owner = take(&line, ' ');
		struct slice type = take(&line, ' ');
		if (!slice_is_nocase(owner, name))
			continue;
		if (slice_is(type, ask->type) && behaviour(line, &r))
			return r;
		if (r == DNS_NO_NAME)
			r = DNS_NO_DATA;
		if (slice_is(type, ask->type))
			record_add(q, ask, line);
	}
	return q->count > 0 ? DNS_OK : r;
}

static void fire(void *arg)
{
	struct dns_query *q = arg;
	struct question *ask = q->block;
	fake_dns.waiting--;
	q->state = IDLE;
	if (q->result == DNS_OK) {
		q->result = look(q, ask, ask->name);
		if (q->result == DNS_NO_NAME)
			q->result = look(q, ask, "*");
	}
	if (q->result != DNS_OK)
		q->count = 0;
	q->mx = ask->answer.mx;
	q->addrs = ask->answer.addrs;
	q->txt = ask->answer.txt;
	q->names = ask->answer.names;
	q->truncated = fake_dns.truncated && strcmp(ask->type, fake_dns.truncated) == 0;
	q->done(q->arg, q);
}

static bool is_name(struct slice s)
{
	size_t label = 0;
	if (s.n == 0 || s.n > 253)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		label = s.p[i] == '.' ? 0 : label + 1;
		if (label > 63 || s.p[i] < 0x21 || s.p[i] > 0x7e ||
		    (label == 0 && (i == 0 || i + 1 == s.n || s.p[i - 1] == '.')))
			return false;
	}
	return true;
}

static void start(struct dns_query *q, const char *type, struct slice name, dns_done_fn *done,
                  void *arg)
{
	dns_cancel(q);
	struct question *ask = calloc(1, sizeof *ask);
	if (!ask)
		abort();
	*q = (struct dns_query){.done = done, .arg = arg, .block = ask};
	q->result = is_name(name) ? DNS_OK : DNS_BAD_NAME;
	ask->type = type;
	if (q->result == DNS_OK) {
		memcpy(ask->name, name.p, name.n);
		if (++fake_dns.asked == fake_dns.fail_at)
			q->result = fake_dns.fail_with;
	}
	fake_dns.waiting++;
	loop_timer_init(&q->second, fire, q);
	if (!fake_dns.silent)
		loop_timer_set(&q->second, 0);
	q->state = ASKING;
}

void dns_mx(struct dns_query *q, struct slice name, dns_done_fn *done, void *arg)
{
	start(q, "MX", name, done, arg);
}

void dns_txt(struct dns_query *q, struct slice name, dns_done_fn *done, void *arg)
{
	start(q, "TXT", name, done, arg);
}

void dns_family(struct dns_query *q, struct slice name, sa_family_t family, dns_done_fn *done,
                void *arg)
{
	start(q, family == AF_INET6 ? "AAAA" : "A", name, done, arg);
}

void dns_ptr(struct dns_query *q, const struct dns_addr *addr, dns_done_fn *done, void *arg)
{
	char text[INET6_ADDRSTRLEN];
	start(q, "PTR", slice_of(dns_addr_text(addr, text)), done, arg);
}

void dns_cancel(struct dns_query *q)
{
	if (q->state == ASKING) {
		loop_timer_stop(&q->second);
		fake_dns.waiting--;
	}
	free(q->block);
	*q = (struct dns_query){0};
}

bool dns_is_null_mx(const struct dns_query *q)
{
	return q->count == 1 && q->mx[0].host[0] == '\0';
}

const char *dns_result_text(enum dns_result r)
{
	return r == DNS_TIMEOUT ? "no answer from DNS in time" : "DNS server failure";
}
