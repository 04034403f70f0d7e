/*
 * tls_certs: the server's certificates.
 *
 * A directory of certs/ is a site; a chain with its key that was loaded from one is a pair; what
 * connections are accepted with is a conf: the settings of the library and the pairs. Pairs and
 * confs are counted: when files change, new ones are made and the old ones go with the last
 * connection that began with them.
 *
 * A site remembers the state of its files when they were last looked at, so that files that do not
 * load are read, and complained of, once. While they do not, the site keeps the pair it has.
 */
#include "tls_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "sandbox.h"
#include "stat.h"
#include "tls_ticket.h"

STAT_GAUGE(stat_expiry, "certificate/expiry_seconds",
           "When the first certificate in use runs out, in s since 1970; 0: there is none");

struct tls_pair {
	unsigned refs;
	mbedtls_x509_crt chain;
	mbedtls_pk_context key;
};

struct tls_conf {
	unsigned refs;
	mbedtls_ssl_config ssl;
	struct tls_tickets *tickets; /* NULL: none are given */
	size_t count;
	struct tls_pair *pairs[]; /* in order of their sites' names; the first is the default */
};

struct tls_site {
	char *name;
	struct tls_stamp chain;
	struct tls_stamp key;
	struct tls_pair *pair; /* NULL: none has loaded yet */
};

struct tls_certs {
	char *dir;
	size_t count;
	struct tls_site *sites;
	struct tls_conf *conf; /* NULL: no pairs */
	int error;             /* of the directory, when it was listed last */
};

/* ---- pairs ---- */

static void tls_pair_release(struct tls_pair *p)
{
	if (!p || --p->refs > 0)
		return;
	mbedtls_x509_crt_free(&p->chain);
	mbedtls_pk_free(&p->key);
	free(p);
}

/* Reads the whole file; *n counts a NUL behind it, which the library's PEM parser wants. The memory
 * is the caller's. NULL with *why. */
static unsigned char *tls_pem_read(const char *path, size_t *n, const char **why)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st)) {
		*why = sandbox_reason(errno, path, SANDBOX_READ);
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	bool fits = S_ISREG(st.st_mode) && st.st_size > 0 && st.st_size <= TLS_FILE_MAX;
	size_t size = fits ? (size_t)st.st_size : 0;
	unsigned char *p = fits ? malloc(size + 1) : NULL;
	ssize_t got = p ? read(fd, p, size) : 0;
	close(fd);
	if (got <= 0) {
		*why = fits && !p ? "no memory" : "empty, too long or no file";
		free(p);
		return NULL;
	}
	p[got] = '\0';
	*n = (size_t)got + 1;
	return p;
}

static int tls_pair_read_chain(struct tls_pair *pair, const char *path, const char **why)
{
	size_t n = 0;
	unsigned char *p = tls_pem_read(path, &n, why);
	if (!p)
		return -1;
	int rc = mbedtls_x509_crt_parse(&pair->chain, p, n);
	free(p);
	*why = rc ? "cannot be parsed" : "";
	return rc ? -1 : 0;
}

static int tls_pair_read_key(struct tls_pair *pair, const char *path, const char **why)
{
	size_t n = 0;
	unsigned char *p = tls_pem_read(path, &n, why);
	if (!p)
		return -1;
	int rc = tls_lib_key(&pair->key, p, n);
	mbedtls_platform_zeroize(p, n);
	free(p);
	if (rc)
		*why = "cannot be parsed";
	else if (!mbedtls_pk_can_do(&pair->key, MBEDTLS_PK_RSA) &&
	         !mbedtls_pk_can_do(&pair->key, MBEDTLS_PK_ECDSA))
		*why = "neither RSA nor ECDSA";
	else if (tls_lib_pair(&pair->chain.pk, &pair->key))
		*why = "not the key of the certificate";
	else
		return 0;
	return -1;
}

/* NULL with the file that is to blame and why. */
static struct tls_pair *tls_pair_load(const char *chain, const char *key, const char **file,
                                      const char **why)
{
	struct tls_pair *p = calloc(1, sizeof *p);
	*file = chain;
	*why = "no memory";
	if (!p)
		return NULL;
	p->refs = 1;
	mbedtls_x509_crt_init(&p->chain);
	mbedtls_pk_init(&p->key);
	if (tls_pair_read_chain(p, chain, why))
		goto fail;
	*file = key;
	if (tls_pair_read_key(p, key, why))
		goto fail;
	return p;
fail:
	tls_pair_release(p);
	return NULL;
}

int tls_pair_look(const char *chain, const char *key,
                  void (*look)(void *arg, const mbedtls_x509_crt *crt), void *arg,
                  const char **file, const char **why)
{
	struct tls_pair pair = {.refs = 1};
	mbedtls_x509_crt_init(&pair.chain);
	mbedtls_pk_init(&pair.key);
	*file = chain;
	int rc = tls_pair_read_chain(&pair, chain, why);
	if (rc == 0) {
		look(arg, &pair.chain);
		*file = key;
		rc = tls_pair_read_key(&pair, key, why);
	}
	mbedtls_x509_crt_free(&pair.chain);
	mbedtls_pk_free(&pair.key);
	return rc;
}

/* ---- what connections are accepted with ---- */

void tls_conf_release(struct tls_conf *conf)
{
	if (!conf || --conf->refs > 0)
		return;
	mbedtls_ssl_config_free(&conf->ssl);
	tls_tickets_free(conf->tickets);
	for (size_t i = 0; i < conf->count; i++)
		tls_pair_release(conf->pairs[i]);
	free(conf);
}

/* Gives the library those pairs that are for `host`, by `use`; ECDSA before RSA: it takes the first
 * that both ends can use. Returns how many, or -1. */
static int tls_conf_offer(struct tls_conf *conf, const char *host,
                          int (*use)(void *to, mbedtls_x509_crt *, mbedtls_pk_context *), void *to)
{
	int n = 0;
	for (int rsa = 0; rsa <= 1; rsa++) {
		for (size_t i = 0; i < conf->count; i++) {
			struct tls_pair *p = conf->pairs[i];
			if (mbedtls_pk_can_do(&p->key, MBEDTLS_PK_RSA) != rsa ||
			    !tls_cert_names(&p->chain, host))
				continue;
			if (use(to, &p->chain, &p->key))
				return -1;
			n++;
		}
	}
	return n;
}

static int tls_use_here(void *ssl, mbedtls_x509_crt *chain, mbedtls_pk_context *key)
{
	return mbedtls_ssl_set_hs_own_cert(ssl, chain, key);
}

static int tls_use_always(void *ssl_config, mbedtls_x509_crt *chain, mbedtls_pk_context *key)
{
	return mbedtls_ssl_conf_own_cert(ssl_config, chain, key);
}

/* A client has said which name it came for. Without a pair for it the default remains: most that
 * send mail do not mind, and none of them is better off without TLS. */
static int tls_on_sni(void *arg, mbedtls_ssl_context *ssl, const unsigned char *name, size_t n)
{
	struct tls *t = (struct tls *)(void *)ssl; /* its first member */
	char *host = t->peer.sni;
	if (t->peer.resumed)
		return -1; /* the session it goes on with was for no name */
	if (!tls_is_host((const char *)name, n))
		return 0;
	for (size_t i = 0; i < n; i++)
		host[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
	host[n] = '\0';
	return tls_conf_offer(arg, host, tls_use_here, ssl) < 0 ? -1 : 0;
}

/* The default: the first pair, and those for the same name with another kind of key. */
static int tls_conf_set_default(struct tls_conf *conf)
{
	struct tls_pair *first = conf->pairs[0];
	char name[256];
	tls_cert_first_name(&first->chain, name, sizeof name);
	int n = tls_conf_offer(conf, name, tls_use_always, &conf->ssl);
	if (n != 0)
		return n < 0 ? -1 : 0;
	return mbedtls_ssl_conf_own_cert(&conf->ssl, &first->chain, &first->key);
}

/* Makes a conf of the pairs there are. NULL when there are none, or no memory. */
static struct tls_conf *tls_conf_new(const struct tls_certs *c)
{
	struct tls_conf *conf = calloc(1, sizeof *conf + c->count * sizeof conf->pairs[0]);
	if (!conf)
		return NULL;
	conf->refs = 1;
	for (size_t i = 0; i < c->count; i++) {
		if (!c->sites[i].pair)
			continue;
		conf->pairs[conf->count++] = c->sites[i].pair;
		c->sites[i].pair->refs++;
	}
	int rc = tls_config_init(&conf->ssl, MBEDTLS_SSL_IS_SERVER);
	if (rc != 0 || conf->count == 0 || tls_conf_set_default(conf)) {
		tls_conf_release(conf);
		return NULL;
	}
	mbedtls_ssl_conf_sni(&conf->ssl, tls_on_sni, conf);
	conf->tickets = tls_tickets_new(&conf->ssl);
	return conf;
}

/* ---- sites ---- */

/* Looks at the files of a site; returns whether a new pair was loaded. */
static bool tls_site_refresh(const struct tls_certs *c, struct tls_site *s)
{
	char chain[PATH_MAX];
	char key[PATH_MAX];
	struct tls_stamp chain_now;
	struct tls_stamp key_now;
	const char *file;
	const char *why;
	int n = snprintf(chain, sizeof chain, "%s/%s/fullchain.pem", c->dir, s->name);
	int m = snprintf(key, sizeof key, "%s/%s/privkey.pem", c->dir, s->name);
	if (n < 0 || m < 0 || (size_t)n >= sizeof chain || (size_t)m >= sizeof key)
		return false;
	tls_stamp_get(&chain_now, chain);
	tls_stamp_get(&key_now, key);
	if (tls_stamp_same(&chain_now, &s->chain) && tls_stamp_same(&key_now, &s->key))
		return false;
	s->chain = chain_now;
	s->key = key_now;
	struct tls_pair *pair = tls_pair_load(chain, key, &file, &why);
	if (!pair) {
		log_error("-", s->pair ? "certificate not renewed" : "certificate skipped",
		          LOG_S("file", file), LOG_S("why", why));
		return false;
	}
	tls_pair_release(s->pair);
	s->pair = pair;
	log_info("-", "certificate loaded", LOG_S("name", s->name));
	return true;
}

static void tls_site_clear(struct tls_site *s)
{
	tls_pair_release(s->pair);
	free(s->name);
	*s = (struct tls_site){0};
}

static bool tls_site_is_there(const struct tls_certs *c, const char *name)
{
	char path[PATH_MAX];
	struct stat st;
	int n = snprintf(path, sizeof path, "%s/%s", c->dir, name);
	return n > 0 && (size_t)n < sizeof path && stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Puts a new site in its place by name; nothing when it is there, or there are too many. */
static void tls_site_add(struct tls_certs *c, const char *name)
{
	size_t i = 0;
	while (i < c->count && strcmp(c->sites[i].name, name) < 0)
		i++;
	if (i < c->count && strcmp(c->sites[i].name, name) == 0)
		return;
	struct tls_site *more = NULL;
	if (c->count < TLS_CERTS_MAX)
		more = realloc(c->sites, (c->count + 1) * sizeof *more);
	if (more)
		c->sites = more;
	char *copy = more ? strdup(name) : NULL;
	if (!copy) {
		log_error("-", "certificate skipped", LOG_S("name", name),
		          LOG_S("why", c->count < TLS_CERTS_MAX ? "no memory" : "too many"));
		return;
	}
	memmove(&c->sites[i + 1], &c->sites[i], (c->count - i) * sizeof c->sites[0]);
	c->sites[i] = (struct tls_site){.name = copy};
	/* No file looks like this, so that missing ones are complained of, too. */
	c->sites[i].chain.size = -1;
	c->count++;
}

/* Finds new sites and forgets those that are gone. Returns whether a pair went with one. */
static bool tls_certs_list(struct tls_certs *c)
{
	bool lost = false;
	DIR *d = opendir(c->dir);
	if (!d) {
		/* Listed again every half minute: said when it is news. */
		int error = errno;
		if (c->count == 0 && error != c->error)
			log_info("-", "no certificates", LOG_S("directory", c->dir),
			         LOG_S("error", strerror(error)));
		c->error = error;
		return false;
	}
	c->error = 0;
	for (size_t i = 0; i < c->count;) {
		if (tls_site_is_there(c, c->sites[i].name)) {
			i++;
			continue;
		}
		lost = lost || c->sites[i].pair;
		log_info("-", "certificate gone", LOG_S("name", c->sites[i].name));
		tls_site_clear(&c->sites[i]);
		c->count--;
		memmove(&c->sites[i], &c->sites[i + 1], (c->count - i) * sizeof c->sites[0]);
	}
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.' && tls_site_is_there(c, e->d_name))
			tls_site_add(c, e->d_name);
	closedir(d);
	return lost;
}

/* ---- the module's own ---- */

int64_t tls_seconds_of(const mbedtls_x509_time *t)
{
	/* Years and months from March on, so that the leap day is the last of a year. */
	int64_t year = t->year - (t->mon <= 2);
	int64_t day = (153 * (t->mon > 2 ? t->mon - 3 : t->mon + 9) + 2) / 5 + t->day - 1;
	day += 365 * year + year / 4 - year / 100 + year / 400 - 719468;
	return ((day * 24 + t->hour) * 60 + t->min) * 60 + t->sec;
}

int64_t tls_certs_expiry(const struct tls_certs *c)
{
	int64_t first = 0;
	for (size_t i = 0; i < c->count; i++) {
		if (!c->sites[i].pair)
			continue;
		int64_t ends = tls_seconds_of(&c->sites[i].pair->chain.valid_to);
		if (first == 0 || ends < first)
			first = ends;
	}
	return first;
}

size_t tls_certs_refresh(struct tls_certs *c)
{
	size_t loaded = 0;
	size_t pairs = 0;
	bool lost = tls_certs_list(c);
	if (c->conf)
		tls_tickets_age(c->conf->tickets);
	for (size_t i = 0; i < c->count; i++) {
		loaded += tls_site_refresh(c, &c->sites[i]);
		pairs += c->sites[i].pair != NULL;
	}
	size_t served = c->conf ? c->conf->count : 0;
	/* The last comparison tries again what failed for want of memory. */
	if (loaded == 0 && !lost && served == pairs)
		return 0;
	struct tls_conf *conf = tls_conf_new(c);
	if (!conf && pairs > 0) {
		log_error("-", "certificates not renewed", LOG_S("why", "no memory"));
		return 0;
	}
	tls_conf_release(c->conf);
	c->conf = conf;
	stat_expiry.value = tls_certs_expiry(c);
	return loaded;
}

struct tls_certs *tls_certs_open(const char *dir)
{
	struct tls_certs *c = tls_lib_start() == 0 ? calloc(1, sizeof *c) : NULL;
	if (!c)
		return NULL;
	c->dir = strdup(dir);
	if (!c->dir) {
		free(c);
		return NULL;
	}
	tls_certs_refresh(c);
	return c;
}

void tls_certs_close(struct tls_certs *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->count; i++)
		tls_site_clear(&c->sites[i]);
	tls_conf_release(c->conf);
	free(c->sites);
	free(c->dir);
	free(c);
}

size_t tls_certs_count(const struct tls_certs *c)
{
	return c->conf ? c->conf->count : 0;
}

struct tls *tls_accept(struct tls_certs *c, int fd)
{
	struct tls *t = c && c->conf ? tls_new(&c->conf->ssl, fd) : NULL;
	if (!t)
		return NULL;
	t->conf = c->conf;
	t->conf->refs++;
	return t;
}
