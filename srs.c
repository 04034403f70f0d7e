/*
 * srs: sender rewriting, as in the published scheme of that name.
 *
 *   user@far.example           SRS0=HASH=DAY=far.example=user@ours
 *   SRS0=h=d=far=user@hop      SRS1=HASH=hop==h=d=far=user@ours
 *   SRS1=h=hop==h=d=far=user@x SRS1=HASH=hop==h=d=far=user@ours
 *
 * Invariants. Only what bears our hash is led back, and it leads to an address that a sender really
 * had in mail we forwarded: nobody can address others through us. The hash covers all behind it,
 * by the keys of local parts and the A-labels of domains, so that case and spelling may change on
 * the way. Domains are written in A-labels: a sender needs SMTPUTF8 after rewriting only if its
 * local part did before. The user is kept as it is, whatever it holds; quotes are a matter of the
 * wire.
 *
 * Limits. Chance finds a hash in 2^(5 * SRS_HASH_CHARS) tries at RCPT, each for one day and one
 * destination; what is won is that destination. SRS1 has no day: the first hop, to which it leads,
 * has one in its own hash. While the clock is not believed any day is good, since bounces must not
 * get lost for that; addresses written then bear a wrong day, and expire early once it is.
 */
#include "srs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base64.h"
#include "disk.h"
#include "kdf.h"

#define SRS_FILE      "srs-key"
#define SRS_KEY_SIZE  32
#define SRS_LOCAL_MAX 64 /* octets on the wire, RFC 5321 4.5.3.1.1 */
#define SRS_DAY       86400
#define SRS_DAYS_ALL  1024 /* days count modulo this: two characters */

struct srs {
	unsigned char key[SRS_KEYS_MAX][SRS_KEY_SIZE];
	size_t count;
};

/* ---- the key file ---- */

static void srs_trouble(struct status *st, const char *what, int error)
{
	status_set(st, 451, "4.3.0", "%s: %s", SRS_FILE, error ? strerror(error) : what);
}

/* Takes one line as a key. 0, or -1. */
static int srs_add_key(struct srs *s, struct slice line)
{
	struct buf key;
	buf_init(&key, SRS_KEY_SIZE);
	int rc = s->count < SRS_KEYS_MAX && !base64_decode(line, &key) && key.len == SRS_KEY_SIZE
	             ? 0
	             : -1;
	if (rc == 0)
		memcpy(s->key[s->count++], buf_data(&key), SRS_KEY_SIZE);
	kdf_wipe(buf_data(&key), key.len);
	buf_clear(&key);
	return rc;
}

/* Takes the lines of the file. Returns 0, or -1 with *st. */
static int srs_read_keys(struct srs *s, const char *p, size_t n, struct status *st)
{
	unsigned line = 0;
	while (n > 0) {
		const char *end = memchr(p, '\n', n);
		size_t len = end ? (size_t)(end - p) : n;
		size_t text = len > 0 && p[len - 1] == '\r' ? len - 1 : len;
		line++;
		if (text > 0 && srs_add_key(s, (struct slice){p, text})) {
			status_set(st, 451, "4.3.0",
			           SRS_FILE ": line %u is not one of at most %d keys, each 32 "
			                    "bytes in base64; without the file a new one is made",
			           line, SRS_KEYS_MAX);
			return -1;
		}
		p += end ? len + 1 : len;
		n -= end ? len + 1 : len;
	}
	if (s->count > 0)
		return 0;
	srs_trouble(st, "there is no key in it; without the file a new one is made", 0);
	return -1;
}

static int srs_read_file(struct srs *s, int fd, struct status *st)
{
	char text[SRS_KEYS_MAX * 64];
	struct stat file;
	size_t n = 0;
	ssize_t got = 1;
	if (fstat(fd, &file)) {
		srs_trouble(st, NULL, errno);
		return -1;
	}
	if (!S_ISREG(file.st_mode) || (file.st_mode & (S_IRWXG | S_IRWXO))) {
		srs_trouble(st, "must be a file that nobody else may read (mode 0600)", 0);
		return -1;
	}
	while (n < sizeof text && got > 0) {
		got = read(fd, text + n, sizeof text - n);
		if (got > 0)
			n += (size_t)got;
	}
	int rc = -1;
	if (got < 0)
		srs_trouble(st, NULL, errno);
	else if (n == sizeof text)
		srs_trouble(st, "is longer than a file of keys can be", 0);
	else
		rc = srs_read_keys(s, text, n, st);
	kdf_wipe(text, sizeof text);
	return rc;
}

/* A key of chance, in a file of its own. Returns 0, or -1 with *st. */
static int srs_make_file(struct srs *s, int dir_fd, struct status *st)
{
	struct buf text;
	ssize_t got;
	do
		got = getrandom(s->key[0], SRS_KEY_SIZE, 0);
	while (got < 0 && errno == EINTR);
	if (got != SRS_KEY_SIZE) {
		srs_trouble(st, "there is no randomness for a key", 0);
		return -1;
	}
	s->count = 1;
	buf_init(&text, 64);
	base64_encode((struct slice){(const char *)s->key[0], SRS_KEY_SIZE}, &text);
	buf_putc(&text, '\n');
	int rc = text.failed ? (errno = ENOMEM, -1)
	                     : disk_replace(dir_fd, SRS_FILE, buf_data(&text), text.len, 0600);
	if (rc)
		srs_trouble(st, NULL, errno);
	kdf_wipe(buf_data(&text), text.len);
	buf_clear(&text);
	return rc;
}

struct srs *srs_open(const char *data_dir, struct status *st)
{
	struct srs *s = calloc(1, sizeof *s);
	int dir_fd = s ? disk_open_dir(data_dir) : -1;
	int rc = -1;
	if (dir_fd < 0) {
		srs_trouble(st, NULL, s ? errno : ENOMEM);
		free(s);
		return NULL;
	}
	int fd = openat(dir_fd, SRS_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0)
		rc = srs_read_file(s, fd, st);
	else if (errno == ENOENT)
		rc = srs_make_file(s, dir_fd, st);
	else
		srs_trouble(st, NULL, errno);
	if (fd >= 0)
		close(fd);
	close(dir_fd);
	if (rc) {
		srs_close(s);
		return NULL;
	}
	return s;
}

void srs_close(struct srs *s)
{
	if (!s)
		return;
	kdf_wipe(s, sizeof *s);
	free(s);
}

/* ---- base32 (RFC 4648 6, without padding) ---- */

static const char srs_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

static char srs_upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

/* The value of a digit in any case, or -1. */
static int srs_digit(char c)
{
	const char *at = c ? strchr(srs_digits, srs_upper(c)) : NULL;
	return at ? (int)(at - srs_digits) : -1;
}

static int srs_today(int64_t now)
{
	return now > 0 ? (int)(now / SRS_DAY % SRS_DAYS_ALL) : 0;
}

/* Is a day (two digits) not over yet? A day of tomorrow is good: clocks are set back. */
static bool srs_is_fresh(struct slice day, int64_t now)
{
	int high = day.n == 2 ? srs_digit(day.p[0]) : -1;
	int low = high < 0 ? -1 : srs_digit(day.p[1]);
	if (low < 0)
		return false;
	int age = (srs_today(now) + 1 - (high * 32 + low) + SRS_DAYS_ALL) % SRS_DAYS_ALL;
	return now < CLOCK_RELEASE || age <= SRS_DAYS + 1;
}

/* ---- the parts of an address ---- */

struct srs_parts {
	char kind; /* '0' or '1' */
	struct slice hash;
	struct slice day;    /* empty for '1' */
	struct slice domain; /* as it stands there */
	const char *rest;    /* '0': the user; '1': what stood behind SRS0, its separator too */
};

/* What stands before the next '='. */
static bool srs_take(const char **at, struct slice *out)
{
	const char *end = strchr(*at, '=');
	if (!end || end == *at)
		return false;
	*out = (struct slice){*at, (size_t)(end - *at)};
	*at = end + 1;
	return true;
}

static bool srs_is_separator(char c)
{
	return c == '=' || c == '-' || c == '+';
}

static int srs_split(const char *user, struct srs_parts *p)
{
	if (!srs_is_mine(user))
		return -1;
	*p = (struct srs_parts){.kind = user[3], .rest = user + 5};
	if (!srs_take(&p->rest, &p->hash) || (p->kind == '0' && !srs_take(&p->rest, &p->day)) ||
	    !srs_take(&p->rest, &p->domain))
		return -1;
	return p->kind == '0' ? (*p->rest ? 0 : -1) : (srs_is_separator(*p->rest) ? 0 : -1);
}

/* The hash of the parts by one key, in capitals. domain is ASCII. Returns 0, or -1. */
static int srs_sign(const struct srs *s, size_t key, char kind, struct slice day,
                    const char *domain, const char *rest, char out[SRS_HASH_CHARS + 1])
{
	char user[ADDR_USER_MAX + 1];
	char text[ADDR_DOMAIN_MAX + ADDR_USER_MAX + 8];
	char days[3] = "";
	unsigned char mac[32];
	if (addr_user_key(rest, user, sizeof user))
		return -1;
	for (size_t i = 0; i < day.n && i < 2; i++)
		days[i] = srs_upper(day.p[i]);
	int n = snprintf(text, sizeof text, "%c%s=%s=%s", kind, days, domain, user);
	if (n < 0 || (size_t)n >= sizeof text ||
	    kdf_hmac_sha256(s->key[key], SRS_KEY_SIZE, text, (size_t)n, mac))
		return -1;
	for (size_t i = 0; i < SRS_HASH_CHARS; i++) {
		unsigned two = (unsigned)mac[i * 5 / 8] << 8 | mac[i * 5 / 8 + 1];
		out[i] = srs_digits[two >> (11 - i * 5 % 8) & 31];
	}
	out[SRS_HASH_CHARS] = '\0';
	return 0;
}

/* Could this come in as an address, and would it be the same? Also says how long its local part is
 * on the wire. */
static bool srs_is_address(const struct addr *a, size_t *wire)
{
	char text[ADDR_TEXT_MAX];
	struct addr again;
	if (addr_format(a, text, sizeof text) || addr_parse(slice_of(text), &again))
		return false;
	*wire = strlen(text) - strlen(a->domain) - 1;
	return strcmp(again.user, a->user) == 0 && strcmp(again.domain, a->domain) == 0;
}

/* ---- there and back ---- */

/* A sender as the parts that are to be signed; host has room for its domain. */
static void srs_parts_of(const struct addr *sender, struct srs_parts *p,
                         char host[ADDR_DOMAIN_MAX + 1])
{
	bool theirs = srs_is_mine(sender->user);
	if (theirs && sender->user[3] == '1' && srs_split(sender->user, p) == 0 &&
	    addr_domain_normalise(p->domain, host, ADDR_DOMAIN_MAX + 1) == 0)
		return;
	theirs = theirs && sender->user[3] == '0';
	*p = (struct srs_parts){.kind = theirs ? '1' : '0',
	                        .rest = theirs ? sender->user + 4 : sender->user};
	memcpy(host, sender->domain, sizeof sender->domain);
}

int srs_forward(const struct srs *s, const struct addr *sender, const char *domain, int64_t now,
                struct addr *out)
{
	char host[ADDR_DOMAIN_MAX + 1];
	char ascii[ADDR_DOMAIN_MAX + 1];
	char hash[SRS_HASH_CHARS + 1];
	const int today = srs_today(now);
	const char day[] = {srs_digits[today / 32], srs_digits[today % 32], '\0'};
	struct srs_parts p;
	size_t wire;
	*out = (struct addr){.user = ""};
	if (!sender->user[0] || !sender->domain[0] || strlen(domain) >= sizeof out->domain)
		return -1;
	srs_parts_of(sender, &p, host);
	p.day = slice_of(p.kind == '0' ? day : "");
	if (addr_domain_to_ascii(host, ascii, sizeof ascii) ||
	    srs_sign(s, 0, p.kind, p.day, ascii, p.rest, hash))
		return -1;
	int n = snprintf(out->user, sizeof out->user, "SRS%c=%s=%s%s%s=%s", p.kind, hash, p.day.p,
	                 p.day.n ? "=" : "", ascii, p.rest);
	memcpy(out->domain, domain, strlen(domain) + 1);
	if (n > 0 && (size_t)n < sizeof out->user && srs_is_address(out, &wire) &&
	    wire <= SRS_LOCAL_MAX)
		return 0;
	*out = (struct addr){.user = ""};
	return -1;
}

/* Is the hash one that a key of ours makes? */
static bool srs_is_signed(const struct srs *s, const struct srs_parts *p, const char *ascii)
{
	char given[SRS_HASH_CHARS];
	char hash[SRS_HASH_CHARS + 1];
	bool found = false;
	if (p->hash.n != SRS_HASH_CHARS)
		return false;
	for (size_t i = 0; i < SRS_HASH_CHARS; i++)
		given[i] = srs_upper(p->hash.p[i]);
	for (size_t i = 0; i < s->count; i++)
		found |= srs_sign(s, i, p->kind, p->day, ascii, p->rest, hash) == 0 &&
		         kdf_equal(given, hash, SRS_HASH_CHARS);
	return found;
}

int srs_reverse(const struct srs *s, const char *user, int64_t now, struct addr *out,
                struct status *st)
{
	char ascii[ADDR_DOMAIN_MAX + 1];
	struct srs_parts p;
	size_t wire;
	*out = (struct addr){.user = ""};
	if (srs_split(user, &p) ||
	    addr_domain_normalise(p.domain, out->domain, sizeof out->domain) ||
	    addr_domain_to_ascii(out->domain, ascii, sizeof ascii) ||
	    !srs_is_signed(s, &p, ascii)) {
		status_set(st, 550, "5.1.1",
		           "no such address here: a forwarded sender of nobody's");
	} else if (p.kind == '0' && !srs_is_fresh(p.day, now)) {
		status_set(st, 550, "5.1.1", "no such address here any more: it has expired");
	} else {
		int n = snprintf(out->user, sizeof out->user, "%s%s", p.kind == '1' ? "SRS0" : "",
		                 p.rest);
		if (n > 0 && (size_t)n < sizeof out->user && srs_is_address(out, &wire))
			return 0;
		status_set(st, 550, "5.1.1", "no such address here: it leads to none");
	}
	*out = (struct addr){.user = ""};
	return -1;
}
