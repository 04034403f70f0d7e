/*
 * tls_roots: the roots that are trusted, and what a peer's chain is worth.
 *
 * Parsed, the usual bundle takes half a megabyte. So one pass over it makes an index: for each
 * certificate a hash of its subject and where it stands, 16 bytes. A chain asks for the issuers of
 * its certificates; only those are read from the disk and parsed, and let go when the chain has
 * been judged. The hash is of the name in small letters, without the types of its strings: an
 * issuer may be written in another one than the subject it means.
 *
 * The index is a hint, never evidence: what it points to is read again, and the library checks
 * signatures, names and times. An index that is out of date finds too little, never too much.
 */
#include "tls_int.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crc.h"
#include "log.h"

#define TLS_PEM_BEGIN "-----BEGIN CERTIFICATE-----"
#define TLS_PEM_END   "-----END CERTIFICATE-----"

struct tls_root {
	uint32_t subject; /* hash of the name */
	uint32_t text;    /* checksum of its PEM text: directories have the same one often */
	uint32_t file;    /* checksum of the file's name; 0 in a bundle */
	uint32_t at;      /* offset of its first line */
};

struct tls_roots {
	char *path; /* NULL: the usual places */
	struct tls_root *list;
	size_t count;
	size_t room;
	struct tls_stamp stamp;
	mbedtls_ssl_config conf;
};

/* ---- the index ---- */

/* Of a name as it stands in a certificate: of all that is in it but the types of its strings. */
static uint32_t tls_name_hash(unsigned char *p, const unsigned char *end)
{
	uint32_t h = 0;
	size_t n;
	while (p < end) {
		bool has_parts = *p++ & MBEDTLS_ASN1_CONSTRUCTED;
		if (mbedtls_asn1_get_len(&p, end, &n))
			break;
		for (; !has_parts && n > 0; n--, p++) {
			unsigned char c = (unsigned char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
			h = crc_add(h, &c, 1);
		}
	}
	return h;
}

/* Goes to the end of the element at *p, or to what is in it. Returns 0, or -1: it is not whole. */
static int tls_der_step(unsigned char **p, const unsigned char *end, bool into)
{
	size_t n;
	if (*p >= end)
		return -1;
	++*p;
	if (mbedtls_asn1_get_len(p, end, &n))
		return -1;
	*p += into ? 0 : n;
	return 0;
}

/* The subject of a certificate (RFC 5280 4.1), whose other parts nobody asks for yet: parsed, each
 * would leave holes all over the heap. Returns 0, or -1 when it is none. */
static int tls_subject_hash(unsigned char *p, const unsigned char *end, uint32_t *hash)
{
	for (int depth = 0; depth < 2; depth++) /* certificate, and what of it is signed */
		if (tls_der_step(&p, end, true))
			return -1;
	/* Version if there is one, serial number, algorithm, issuer, validity. */
	bool has_version =
	    p < end && *p == (MBEDTLS_ASN1_CONTEXT_SPECIFIC | MBEDTLS_ASN1_CONSTRUCTED);
	for (int i = has_version ? 5 : 4; i > 0; i--)
		if (tls_der_step(&p, end, false))
			return -1;
	unsigned char *subject = p;
	if (tls_der_step(&p, end, false))
		return -1;
	*hash = tls_name_hash(subject, p);
	return 0;
}

static const char *tls_roots_env(const char *name)
{
	const char *s = getenv(name);
	return s && *s ? s : NULL;
}

static const char *tls_roots_path(const struct tls_roots *r)
{
	if (r->path)
		return r->path;
	const char *path = tls_roots_env("SSL_CERT_FILE");
	if (!path)
		path = tls_roots_env("SSL_CERT_DIR");
	if (!path)
		path = access(TLS_ROOTS_FILE, R_OK) == 0 ? TLS_ROOTS_FILE : TLS_ROOTS_DIR;
	return path;
}

/* Makes room for one more. */
static int tls_roots_grow(struct tls_roots *r)
{
	if (r->count < r->room)
		return 0;
	size_t room = r->room ? r->room * 2 : 32;
	struct tls_root *p = r->count < TLS_ROOTS_MAX ? realloc(r->list, room * sizeof *p) : NULL;
	if (!p)
		return -1;
	r->list = p;
	r->room = room;
	return 0;
}

/* Takes a PEM certificate of n bytes, a NUL behind it. What is none is passed over. -1 when there
 * is no room or memory. */
static int tls_roots_note(struct tls_roots *r, const char *pem, size_t n, uint32_t file,
                          uint32_t at)
{
	unsigned char der[TLS_ROOT_PEM_MAX / 4 * 3];
	uint32_t text = crc_add(0, pem, n);
	for (size_t i = 0; i < r->count; i++)
		if (r->list[i].text == text)
			return 0;
	if (tls_roots_grow(r))
		return -1;
	struct tls_root *e = &r->list[r->count];
	const char *from = strchr(pem, '\n');
	const char *to = from ? strstr(from, TLS_PEM_END) : NULL;
	*e = (struct tls_root){0, text, file, at};
	if (to &&
	    mbedtls_base64_decode(der, sizeof der, &n, (const unsigned char *)from,
	                          (size_t)(to - from)) == 0 &&
	    tls_subject_hash(der, der + n, &e->subject) == 0)
		r->count++;
	return 0;
}

/* One pass over a file. `block` has room for TLS_ROOT_PEM_MAX bytes and a NUL. */
static int tls_roots_pass(struct tls_roots *r, FILE *f, uint32_t file, char *block)
{
	char line[256];
	bool inside = false;
	size_t n = 0; /* of block */
	off_t at = 0;
	for (off_t here = 0; fgets(line, sizeof line, f);) {
		size_t len = strlen(line);
		if (strncmp(line, TLS_PEM_BEGIN, sizeof TLS_PEM_BEGIN - 1) == 0) {
			inside = true;
			n = 0;
			at = here;
		}
		here += (off_t)len;
		inside = inside && n + len <= TLS_ROOT_PEM_MAX;
		if (!inside)
			continue;
		memcpy(block + n, line, len);
		n += len;
		if (strncmp(line, TLS_PEM_END, sizeof TLS_PEM_END - 1) != 0)
			continue;
		inside = false;
		block[n] = '\0';
		if (tls_roots_note(r, block, n, file, (uint32_t)at))
			return -1;
	}
	return 0;
}

static int tls_roots_read_file(struct tls_roots *r, const char *path, uint32_t file)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > INT32_MAX) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	FILE *f = fdopen(fd, "r");
	char *block = f ? malloc(TLS_ROOT_PEM_MAX + 1) : NULL;
	int rc = block ? tls_roots_pass(r, f, file, block) : -1;
	free(block);
	if (f)
		fclose(f);
	else
		close(fd);
	return rc;
}

static int tls_roots_read_dir(struct tls_roots *r, const char *path)
{
	char name[PATH_MAX];
	int rc = 0;
	DIR *d = opendir(path);
	if (!d)
		return 0;
	for (struct dirent *e; rc == 0 && (e = readdir(d));) {
		int n = snprintf(name, sizeof name, "%s/%s", path, e->d_name);
		if (e->d_name[0] == '.' || n < 0 || (size_t)n >= sizeof name)
			continue;
		rc = tls_roots_read_file(r, name, crc_add(0, e->d_name, strlen(e->d_name)));
	}
	closedir(d);
	return rc;
}

/* Makes the index anew when the file has changed. */
static void tls_roots_refresh(struct tls_roots *r)
{
	const char *path = tls_roots_path(r);
	struct tls_stamp now;
	struct stat st;
	tls_stamp_get(&now, path);
	if (tls_stamp_same(&now, &r->stamp))
		return;
	struct tls_roots fresh = {0};
	bool dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
	int rc = dir ? tls_roots_read_dir(&fresh, path) : tls_roots_read_file(&fresh, path, 0);
	if (rc)
		log_error("-", "root certificates left out", LOG_S("path", path),
		          LOG_N("limit", TLS_ROOTS_MAX), LOG_N("known", fresh.count));
	if (fresh.count == 0)
		log_error("-", "no root certificates", LOG_S("path", path));
	else
		log_info("-", "root certificates", LOG_S("path", path),
		         LOG_N("known", fresh.count));
	/* No more than is needed; the old one will do if that fails. */
	struct tls_root *exact = realloc(fresh.list, (fresh.count + 1) * sizeof *exact);
	if (exact)
		fresh.list = exact;
	free(r->list);
	r->list = fresh.list;
	r->count = fresh.count;
	r->stamp = now;
}

/* ---- roots for a chain ---- */

/* The path of a root's file, in out. Returns 0, or -1: it is gone. */
static int tls_root_path(const struct tls_roots *r, const struct tls_root *e, char *out,
                         size_t size)
{
	const char *path = tls_roots_path(r);
	int n = -1;
	if (e->file == 0) {
		n = snprintf(out, size, "%s", path);
		return n < 0 || (size_t)n >= size ? -1 : 0;
	}
	DIR *d = opendir(path);
	if (!d)
		return -1;
	for (struct dirent *f; n < 0 && (f = readdir(d));)
		if (crc_add(0, f->d_name, strlen(f->d_name)) == e->file)
			n = snprintf(out, size, "%s/%s", path, f->d_name);
	closedir(d);
	return n < 0 || (size_t)n >= size ? -1 : 0;
}

/* Reads one root and adds it to `roots`. */
static void tls_root_load(const struct tls_roots *r, const struct tls_root *e,
                          mbedtls_x509_crt *roots)
{
	char path[PATH_MAX];
	char *pem = malloc(TLS_ROOT_PEM_MAX + 1);
	int fd = pem && tls_root_path(r, e, path, sizeof path) == 0
	             ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
	             : -1;
	ssize_t n = fd >= 0 ? pread(fd, pem, TLS_ROOT_PEM_MAX, (off_t)e->at) : -1;
	if (fd >= 0)
		close(fd);
	if (n > 0) {
		pem[n] = '\0';
		char *end = strstr(pem, TLS_PEM_END);
		if (end && strncmp(pem, TLS_PEM_BEGIN, sizeof TLS_PEM_BEGIN - 1) == 0) {
			end += sizeof TLS_PEM_END - 1;
			*end = '\0';
			mbedtls_x509_crt_parse(roots, (unsigned char *)pem,
			                       (size_t)(end - pem) + 1);
		}
	}
	free(pem);
}

/* Loads whoever may have issued the certificates of the chain. */
static void tls_roots_for(struct tls_roots *r, const mbedtls_x509_crt *chain,
                          mbedtls_x509_crt *roots)
{
	size_t loaded[TLS_CANDIDATES_MAX];
	size_t n = 0;
	int left = TLS_CHAIN_MAX;
	tls_roots_refresh(r);
	for (const mbedtls_x509_crt *c = chain; c && left > 0; c = c->next, left--) {
		const mbedtls_x509_buf *name = &c->issuer_raw;
		uint32_t issuer = tls_name_hash(name->p, name->p + name->len);
		for (size_t i = 0; i < r->count && n < TLS_CANDIDATES_MAX; i++) {
			size_t seen = 0;
			while (seen < n && loaded[seen] != i)
				seen++;
			if (r->list[i].subject != issuer || seen < n)
				continue;
			tls_root_load(r, &r->list[i], roots);
			loaded[n++] = i;
		}
	}
}

/* ---- the judgement ---- */

static const struct {
	uint32_t flags;
	const char *text;
} tls_flaws[] = {
    {MBEDTLS_X509_BADCERT_EXPIRED, "expired"},
    {MBEDTLS_X509_BADCERT_FUTURE, "not valid yet"},
    {MBEDTLS_X509_BADCERT_CN_MISMATCH, "for another name"},
    {MBEDTLS_X509_BADCERT_OTHER, "self-signed"},
    {MBEDTLS_X509_BADCERT_NOT_TRUSTED, "by an authority that is not trusted"},
    {TLS_USAGE_FLAGS, "not for a server"},
    {TLS_WEAK_FLAGS, "too weak"},
};

static void tls_why(struct tls *t, uint32_t flags, const struct tls_roots *r)
{
	size_t n = 0;
	t->why[0] = '\0';
	/* All set: the library gave up. */
	for (size_t i = 0; flags != UINT32_MAX && i < sizeof tls_flaws / sizeof tls_flaws[0]; i++) {
		if (!(flags & tls_flaws[i].flags))
			continue;
		n = strlen(t->why);
		snprintf(t->why + n, sizeof t->why - n, "%s%s",
		         n > 0 ? ", " : "the certificate is ", tls_flaws[i].text);
	}
	n = strlen(t->why);
	if (flags != 0 && n == 0)
		snprintf(t->why, sizeof t->why, "the certificate cannot be verified");
	else if (flags != 0 && r->count == 0)
		snprintf(t->why + n, sizeof t->why - n, " (no root certificates are known)");
}

/* Is the address, in network order, among those the certificate is for (iPAddress)? */
static bool tls_cert_has_address(const mbedtls_x509_crt *crt, const unsigned char *addr, size_t n)
{
	const unsigned ip_address = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 7;
	for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s; s = s->next)
		if (s->buf.p && (unsigned)s->buf.tag == ip_address && s->buf.len == n &&
		    memcmp(s->buf.p, addr, n) == 0)
			return true;
	return false;
}

/* Length of the address in binary that `name` is, or 0. addr has room for 16 bytes. */
static size_t tls_name_address(const char *name, unsigned char *addr)
{
	if (inet_pton(AF_INET, name, addr) == 1)
		return 4;
	return inet_pton(AF_INET6, name, addr) == 1 ? 16 : 0;
}

/* The library's flags for the chain and the name. */
static uint32_t tls_roots_flags(struct tls_roots *r, struct tls *t, mbedtls_x509_crt *chain)
{
	unsigned char addr[16];
	uint32_t flags = UINT32_MAX;
	size_t addr_n = tls_name_address(t->name, addr);
	mbedtls_x509_crt roots;
	mbedtls_x509_crt_init(&roots);
	tls_roots_for(r, chain, &roots);
	mbedtls_x509_crt_verify(chain, roots.raw.p ? &roots : NULL, NULL,
	                        addr_n > 0 ? NULL : t->name, &flags, NULL, NULL);
	mbedtls_x509_crt_free(&roots);
	/* What a certificate may be used for was looked at in the handshake. */
	flags |= mbedtls_ssl_get_verify_result(&t->ssl) & TLS_USAGE_FLAGS;
	if (addr_n > 0 && !tls_cert_has_address(chain, addr, addr_n))
		flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
	return flags;
}

void tls_roots_judge(struct tls_roots *r, struct tls *t, mbedtls_x509_crt *chain)
{
	struct tls_peer *p = &t->peer;
	uint32_t flags = tls_roots_flags(r, t, chain);
	uint32_t bad = flags & ~(uint32_t)MBEDTLS_X509_BADCERT_CN_MISMATCH;
	bool clock_is_unset = time(NULL) < CLOCK_RELEASE;
	p->name_good = bad == flags;
	p->chain_good = bad == 0;
	p->not_yet = flags == MBEDTLS_X509_BADCERT_FUTURE ||
	             (clock_is_unset && flags != 0 && !(flags & ~(uint32_t)TLS_TIME_FLAGS));
	if ((flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) && flags != UINT32_MAX && !chain->next &&
	    chain->issuer_raw.len == chain->subject_raw.len &&
	    memcmp(chain->issuer_raw.p, chain->subject_raw.p, chain->subject_raw.len) == 0) {
		flags &= ~(uint32_t)MBEDTLS_X509_BADCERT_NOT_TRUSTED;
		flags |= MBEDTLS_X509_BADCERT_OTHER; /* says it more clearly */
	}
	tls_why(t, flags, r);
}

/* ---- the module's own ---- */

int tls_roots_set(struct tls_roots *r, const char *path)
{
	char *copy = path && *path ? strdup(path) : NULL;
	if (path && *path && !copy)
		return -1;
	free(r->path);
	r->path = copy;
	r->stamp.size = -1; /* no file looks like this */
	tls_roots_refresh(r);
	return 0;
}

struct tls_roots *tls_roots_open(const char *path)
{
	struct tls_roots *r = tls_lib_start() == 0 ? calloc(1, sizeof *r) : NULL;
	if (!r)
		return NULL;
	if (tls_config_init(&r->conf, MBEDTLS_SSL_IS_CLIENT) || tls_roots_set(r, path)) {
		tls_roots_close(r);
		return NULL;
	}
	/* Goes on whatever the certificate; tls_roots_judge says what it is worth. */
	mbedtls_ssl_conf_authmode(&r->conf, MBEDTLS_SSL_VERIFY_OPTIONAL);
	return r;
}

void tls_roots_close(struct tls_roots *r)
{
	if (!r)
		return;
	mbedtls_ssl_config_free(&r->conf);
	free(r->path);
	free(r->list);
	free(r);
}

size_t tls_roots_count(const struct tls_roots *r)
{
	return r->count;
}

struct tls *tls_connect(struct tls_roots *roots, const char *name, int fd)
{
	unsigned char addr[16];
	size_t n = strlen(name);
	if (n > 1 && name[n - 1] == '.')
		n--;
	struct tls *t = n < sizeof t->name ? tls_new(&roots->conf, fd) : NULL;
	if (!t)
		return NULL;
	memcpy(t->name, name, n);
	t->roots = roots;
	/* An address has no place in SNI (RFC 6066 3). The library must be told of no name, too. */
	const char *sni = tls_name_address(t->name, addr) > 0 ? NULL : t->name;
	if (mbedtls_ssl_set_hostname(&t->ssl, sni)) {
		tls_free(t);
		return NULL;
	}
	return t;
}
