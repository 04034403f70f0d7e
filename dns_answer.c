/*
 * dns_answer: reads a DNS message into a query's answer. Pure: no I/O, no state but the spare
 * random number; the message is hostile.
 *
 * A record that is bad in itself (a host name that is none, a wrong length) is left out; a message
 * whose structure is broken is refused as a whole. An answer is built in two passes, one that
 * chooses and counts and one that copies, into one block of memory that fits exactly.
 */
#include "dns_answer.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "config.h"

/* ---- reading an answer (RFC 1035 4.1) ---- */

enum { HEADER_SIZE = 12, FLAG_AD = 0x20 /* in byte 3 */ };
enum { RCODE_NO_ERROR = 0, RCODE_NO_NAME = 3 };

struct message {
	const uint8_t *p;
	size_t n;
	size_t off; /* of the next record */
	unsigned rcode;
	unsigned left; /* records of the answer section not read yet */
};

struct record {
	size_t owner; /* offset of its name */
	unsigned type;
	unsigned class;
	size_t off; /* of the data */
	size_t n;
};

static unsigned message_u16(const struct message *m, size_t off)
{
	return (unsigned)m->p[off] << 8 | m->p[off + 1];
}

/* The offset behind the name at off; 0 when malformed. */
static size_t message_skip_name(const struct message *m, size_t off)
{
	while (off < m->n) {
		uint8_t c = m->p[off];
		if (c == 0)
			return off + 1;
		if (c >= 0xC0)
			return off + 2 <= m->n ? off + 2 : 0;
		if (c > 63)
			return 0;
		off += 1U + c;
	}
	return 0;
}

bool dns_answer_name_byte(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_';
}

/*
 * Reads the host name at off, following compression; out gets it without the final dot ("" for the
 * root). Returns its length, or -1 when it is malformed or no host name. Each pointer must lead to
 * before the last one, so the walk ends.
 */
static int message_host(const struct message *m, size_t off, char out[DNS_NAME_SIZE])
{
	size_t len = 0;
	size_t limit = off;
	while (off < m->n && m->p[off] != 0) {
		uint8_t c = m->p[off];
		if (c >= 0xC0) {
			if (off + 2 > m->n)
				return -1;
			off = message_u16(m, off) & 0x3FFF;
			if (off >= limit)
				return -1;
			limit = off;
			continue;
		}
		if (c > 63 || off + 1 + c >= m->n || len + c + 2 > DNS_NAME_SIZE - 2)
			return -1;
		if (len > 0)
			out[len++] = '.';
		for (size_t i = 1; i <= c; i++) {
			if (!dns_answer_name_byte(m->p[off + i]))
				return -1;
			out[len++] = (char)m->p[off + i];
		}
		off += 1U + c;
	}
	if (off >= m->n)
		return -1;
	out[len] = '\0';
	return (int)len;
}

/* Returns 0, or -1 when not even the question can be read. */
static int message_open(struct message *m, const uint8_t *p, size_t n)
{
	*m = (struct message){.p = p, .n = n, .off = HEADER_SIZE};
	if (n < HEADER_SIZE)
		return -1;
	m->rcode = p[3] & 15;
	m->left = message_u16(m, 6);
	for (unsigned questions = message_u16(m, 4); questions > 0; questions--) {
		m->off = message_skip_name(m, m->off);
		if (m->off == 0 || m->off + 4 > n)
			return -1;
		m->off += 4;
	}
	return 0;
}

/* Returns 1 with the next record of this type, 0 behind the last, -1 when malformed. The owner name
 * is not compared: CNAMEs were followed by the server we trust to do so. */
static int message_next(struct message *m, unsigned type, struct record *r)
{
	while (m->left > 0) {
		size_t off = message_skip_name(m, m->off);
		if (off == 0 || off + 10 > m->n)
			return -1;
		r->owner = m->off;
		r->type = message_u16(m, off);
		r->class = message_u16(m, off + 2);
		r->n = message_u16(m, off + 8);
		r->off = off + 10;
		if (r->off + r->n > m->n)
			return -1;
		m->off = r->off + r->n;
		m->left--;
		if (r->type == type && r->class == DNS_CLASS_IN)
			return 1;
	}
	return 0;
}

/* ---- MX and PTR answers ---- */

struct pick {
	uint64_t key; /* MX: preference, then a random number; PTR: position */
	size_t off;   /* of the host name */
	size_t size;  /* with NUL */
};

struct picks {
	struct pick pick[DNS_MX_MAX > DNS_PTR_MAX ? DNS_MX_MAX : DNS_PTR_MAX];
	size_t count;
	size_t max;
	bool truncated;
	bool root; /* a "." was seen */
	bool seen; /* any record, also a bad one */
};

uint32_t dns_answer_random(void)
{
	/* The kernel may have no entropy yet when a board boots: order is not worth waiting for. */
	static uint32_t spare;
	uint32_t r;
	if (getrandom(&r, sizeof r, GRND_NONBLOCK) != (ssize_t)sizeof r)
		r = spare = spare * 1664525 + 1013904223 + (uint32_t)loop_now_us();
	return r;
}

/* Keeps the max smallest keys, in order. */
static void picks_add(struct picks *s, struct pick p)
{
	size_t i = s->count;
	if (s->count == s->max) {
		s->truncated = true;
		if (p.key >= s->pick[--i].key)
			return;
	} else {
		s->count++;
	}
	for (; i > 0 && s->pick[i - 1].key > p.key; i--)
		s->pick[i] = s->pick[i - 1];
	s->pick[i] = p;
}

static int picks_collect(struct picks *s, struct message m, unsigned type)
{
	struct record r;
	int got;
	*s = (struct picks){.max = type == DNS_TYPE_MX ? DNS_MX_MAX : DNS_PTR_MAX};
	for (uint64_t position = 0; (got = message_next(&m, type, &r)) > 0; position++) {
		char host[DNS_NAME_SIZE];
		size_t skip = type == DNS_TYPE_MX ? 2 : 0;
		s->seen = true;
		int len = r.n > skip ? message_host(&m, r.off + skip, host) : -1;
		if (len < 0)
			continue;
		if (len == 0) {
			s->root = true;
			continue;
		}
		uint64_t key = position;
		if (type == DNS_TYPE_MX)
			key = (uint64_t)message_u16(&m, r.off) << 32 | dns_answer_random();
		picks_add(s, (struct pick){key, r.off + skip, (size_t)len + 1});
	}
	return got;
}

/* Copies the chosen hosts into one block: the array, then the names. */
static enum dns_result hosts_build(struct dns_query *q, const struct message *m, unsigned type,
                                   const struct picks *s)
{
	size_t item = type == DNS_TYPE_MX ? sizeof(struct dns_mx_host) : sizeof(char *);
	size_t size = s->count * item;
	for (size_t i = 0; i < s->count; i++)
		size += s->pick[i].size;
	char *block = calloc(1, size);
	if (!block)
		return DNS_NO_MEMORY;
	struct dns_mx_host *mx = (void *)block;
	const char **names = (void *)block;
	char *text = block + s->count * item;
	for (size_t i = 0; i < s->count; i++) {
		char host[DNS_NAME_SIZE];
		if (message_host(m, s->pick[i].off, host) >= 0)
			memcpy(text, host, s->pick[i].size);
		if (type == DNS_TYPE_MX)
			mx[i] = (struct dns_mx_host){text, (uint16_t)(s->pick[i].key >> 32)};
		else
			names[i] = text;
		text += s->pick[i].size;
	}
	q->block = block;
	q->count = s->count;
	q->truncated = s->truncated;
	if (type == DNS_TYPE_MX)
		q->mx = mx;
	else
		q->names = names;
	return DNS_OK;
}

static enum dns_result answer_null_mx(struct dns_query *q)
{
	struct dns_mx_host *mx = calloc(1, sizeof *mx);
	if (!mx)
		return DNS_NO_MEMORY;
	mx->host = "";
	q->block = mx;
	q->mx = mx;
	q->count = 1;
	return DNS_OK;
}

static enum dns_result answer_hosts(struct dns_query *q, const struct message *m, unsigned type)
{
	struct picks s;
	if (picks_collect(&s, *m, type) < 0)
		return DNS_SERVER_FAILURE;
	if (s.count == 0 && s.root && type == DNS_TYPE_MX)
		return answer_null_mx(q);
	if (s.count == 0)
		return s.seen ? DNS_SERVER_FAILURE : DNS_NO_DATA;
	return hosts_build(q, m, type, &s);
}

/* ---- TXT answers ---- */

/* Joins the strings of a record at out (NULL: only counts). Returns the length, -1 if malformed. */
static int txt_join(const struct message *m, const struct record *r, char *out)
{
	size_t len = 0;
	for (size_t i = 0; i < r->n;) {
		size_t n = m->p[r->off + i];
		if (i + 1 + n > r->n)
			return -1;
		if (out)
			memcpy(out + len, m->p + r->off + i + 1, n);
		len += n;
		i += n + 1;
	}
	return (int)len;
}

/* One pass over the records: with block NULL it counts, else it fills. */
static int txt_pass(struct dns_query *q, struct message m, size_t *bytes, char *text)
{
	struct record r;
	int got;
	size_t count = 0;
	struct slice *txt = q->block;
	*bytes = 0;
	while ((got = message_next(&m, DNS_TYPE_TXT, &r)) > 0) {
		int len = txt_join(&m, &r, NULL);
		if (len < 0)
			continue;
		size_t size = (size_t)len + 1;
		if (count == DNS_TXT_MAX || *bytes + size > DNS_TXT_BYTES) {
			q->truncated = true;
			continue;
		}
		if (text) {
			txt_join(&m, &r, text + *bytes);
			text[*bytes + size - 1] = '\0';
			txt[count] = (struct slice){text + *bytes, size - 1};
		}
		*bytes += size;
		count++;
	}
	q->count = count;
	return got;
}

static enum dns_result answer_txt(struct dns_query *q, const struct message *m)
{
	size_t bytes;
	if (txt_pass(q, *m, &bytes, NULL) < 0)
		return DNS_SERVER_FAILURE;
	if (q->count == 0)
		return q->truncated ? DNS_SERVER_FAILURE : DNS_NO_DATA;
	size_t table = q->count * sizeof(struct slice);
	q->block = calloc(1, table + bytes);
	if (!q->block)
		return DNS_NO_MEMORY;
	txt_pass(q, *m, &bytes, (char *)q->block + table);
	q->txt = q->block;
	return DNS_OK;
}

/* ---- TLSA answers ---- */

enum { TLSA_FIXED = 3 }; /* the bytes before the data */

/* One pass over the records: with data NULL it counts, else it fills. */
static int tlsa_pass(struct dns_query *q, struct message m, size_t *bytes, bool *seen, char *data)
{
	struct record r;
	int got;
	size_t count = 0;
	struct dns_tlsa *tlsa = q->block;
	*bytes = 0;
	*seen = false;
	while ((got = message_next(&m, DNS_TYPE_TLSA, &r)) > 0) {
		*seen = true;
		if (r.n < TLSA_FIXED)
			continue;
		const uint8_t *p = m.p + r.off;
		size_t n = r.n - TLSA_FIXED;
		if (count == DNS_TLSA_MAX || *bytes + n > DNS_TLSA_BYTES) {
			q->truncated = true;
			continue;
		}
		if (data) {
			memcpy(data + *bytes, p + TLSA_FIXED, n);
			tlsa[count] = (struct dns_tlsa){p[0], p[1], p[2], {data + *bytes, n}};
		}
		*bytes += n;
		count++;
	}
	q->count = count;
	return got;
}

static enum dns_result answer_tlsa(struct dns_query *q, const struct message *m)
{
	size_t bytes;
	bool seen;
	if (tlsa_pass(q, *m, &bytes, &seen, NULL) < 0)
		return DNS_SERVER_FAILURE;
	if (q->count == 0)
		return seen ? DNS_SERVER_FAILURE : DNS_NO_DATA;
	size_t table = q->count * sizeof(struct dns_tlsa);
	q->block = calloc(1, table + bytes);
	if (!q->block)
		return DNS_NO_MEMORY;
	tlsa_pass(q, *m, &bytes, &seen, (char *)q->block + table);
	q->tlsa = q->block;
	return DNS_OK;
}

/* ---- address answers ---- */

int dns_answer_family_slot(sa_family_t family)
{
	return (family == AF_INET6) == (DNS_PREFER_IPV6 != 0) ? 0 : 1;
}

void dns_answer_add_address(struct dns_query *q, const struct dns_addr *a)
{
	struct dns_families *f = q->block;
	int slot = dns_answer_family_slot(a->family);
	if (f->count[slot] == f->room)
		q->truncated = true;
	else
		f->addrs[f->start[slot] + f->count[slot]++] = *a;
}

/* Finds the CNAME of name and puts in name what it says, "" for no host name. Returns false when
 * there is none. */
static bool cname_step(struct message m, char name[DNS_NAME_SIZE])
{
	struct record r;
	while (message_next(&m, DNS_TYPE_CNAME, &r) > 0) {
		char owner[DNS_NAME_SIZE];
		if (message_host(&m, r.owner, owner) < 0 || strcasecmp(owner, name) != 0)
			continue;
		if (message_host(&m, r.off, name) < 0)
			name[0] = '\0';
		return true;
	}
	return false;
}

/* Where the chain that begins at the question ends; nowhere when it is a circle or leads to what is
 * no host name. */
static void answer_canonical(struct dns_query *q, const struct message *m)
{
	struct dns_families *f = q->block;
	char name[DNS_NAME_SIZE];
	int steps = 0;
	if (f->canonical[0] || m->off == HEADER_SIZE || message_host(m, HEADER_SIZE, name) <= 0)
		return;
	while (steps <= DNS_CNAME_MAX && name[0] && cname_step(*m, name))
		steps++;
	if (steps > 0 && steps <= DNS_CNAME_MAX)
		memcpy(f->canonical, name, strlen(name) + 1);
}

static enum dns_result answer_addresses(struct dns_query *q, struct message m, unsigned type)
{
	const struct message begin = m;
	struct record r;
	int got;
	bool seen = false;
	bool good = false;
	while ((got = message_next(&m, type, &r)) > 0) {
		struct dns_addr a = {.family = type == DNS_TYPE_A ? AF_INET : AF_INET6};
		seen = true;
		if (r.n != (type == DNS_TYPE_A ? sizeof a.ip.v4 : sizeof a.ip.v6))
			continue;
		memcpy(&a.ip, m.p + r.off, r.n);
		dns_answer_add_address(q, &a);
		good = true;
	}
	if (got < 0)
		return DNS_SERVER_FAILURE;
	if (!good)
		return seen ? DNS_SERVER_FAILURE : DNS_NO_DATA;
	answer_canonical(q, &begin);
	return DNS_OK;
}

/* ---- all ---- */

bool dns_answer_is_authentic(const uint8_t *p, size_t n)
{
	return n >= HEADER_SIZE && p[3] & FLAG_AD;
}

void dns_answer_want_authentic(uint8_t *p, size_t n)
{
	if (n >= HEADER_SIZE)
		p[3] |= FLAG_AD;
}

enum dns_result dns_answer_read(struct dns_query *q, int type, const uint8_t *p, size_t n)
{
	struct message m;
	if (message_open(&m, p, n))
		return DNS_SERVER_FAILURE;
	if (m.rcode != RCODE_NO_ERROR)
		return m.rcode == RCODE_NO_NAME ? DNS_NO_NAME : DNS_SERVER_FAILURE;
	switch (type) {
	case DNS_TYPE_A:
	case DNS_TYPE_AAAA:
		return answer_addresses(q, m, (unsigned)type);
	case DNS_TYPE_TXT:
		return answer_txt(q, &m);
	case DNS_TYPE_TLSA:
		return answer_tlsa(q, &m);
	default:
		return answer_hosts(q, &m, (unsigned)type);
	}
}
