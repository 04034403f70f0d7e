/*
 * allocshim: a preloaded library that lets memory run out at the n-th allocation counted from a
 * moment that the test chooses: to test that a session is refused then and the process lives.
 *
 * ALLOCSHIM names a file of sizeof(struct control) bytes that the test maps, too, and writes: while
 * `at` is not 0, calls are counted in `calls`, and those numbered at <= n < until fail with ENOMEM
 * (counted in `failed`). Counted is what the program and all its libraries call, the libc for
 * itself included, in this process and in its forks until they run something else. `stack` is where
 * the first one that failed was called from, innermost first; the program was loaded at `base`.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FRAMES 24

struct control {
	int64_t at;
	int64_t until;
	int64_t calls;
	int64_t failed;
	uint64_t base;
	uint64_t stack[FRAMES];
};

static struct control nothing;
static volatile struct control *control = &nothing;

/* The program comes first; more need not be looked at. */
static int take_base(struct dl_phdr_info *info, size_t size, void *base)
{
	(void)size;
	*(uint64_t *)base = (uint64_t)info->dlpi_addr;
	return 1;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("ALLOCSHIM");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *at = MAP_FAILED;
	void *frames[FRAMES];
	uint64_t base = 0;

	backtrace(frames, FRAMES); /* the first call allocates */
	if (fd >= 0) {
		at = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
	}
	if (at == MAP_FAILED)
		return;
	control = at;
	dl_iterate_phdr(take_base, &base);
	control->base = base;
}

static void remember_stack(void)
{
	void *frames[FRAMES] = {NULL};
	int n = backtrace(frames, FRAMES);

	for (int i = 0; i < FRAMES; i++)
		control->stack[i] = i < n ? (uint64_t)(uintptr_t)frames[i] : 0;
}

/* Counts a call. Returns whether it is to fail; errno says why then. */
static int fails(void)
{
	int64_t n;

	if (control->at == 0)
		return 0;
	n = ++control->calls;
	if (n < control->at || n >= control->until)
		return 0;
	if (control->failed++ == 0)
		remember_stack();
	errno = ENOMEM;
	return 1;
}

/* What the linker itself needs while the functions behind are looked up; never given back. */
static char early[4096] __attribute__((aligned(16)));
static size_t early_used;
static int looking;

static void *early_malloc(size_t n)
{
	size_t at = early_used;

	n = (n + 15) / 16 * 16;
	if (n > sizeof(early) - at)
		return NULL;
	early_used = at + n;
	return early + at;
}

static void *next_symbol(const char *name)
{
	void *p;

	looking = 1;
	p = dlsym(RTLD_NEXT, name);
	looking = 0;
	if (!p)
		_exit(87);
	return p;
}

/* The function behind a wrapper of the same name and type. */
#define NEXT(name)                                    \
	static __typeof__(&(name)) next;              \
	if (!next) {                                  \
		void *symbol = next_symbol(#name);    \
		memcpy(&next, &symbol, sizeof(next)); \
	}

void *malloc(size_t n)
{
	if (looking)
		return early_malloc(n);
	NEXT(malloc)
	return fails() ? NULL : next(n);
}

void *calloc(size_t count, size_t n)
{
	if (looking)
		return early_malloc(count * n);
	NEXT(calloc)
	return fails() ? NULL : next(count, n);
}

void *realloc(void *p, size_t n)
{
	NEXT(realloc)
	return fails() ? NULL : next(p, n);
}

void free(void *p)
{
	if ((char *)p >= early && (char *)p < early + sizeof(early))
		return;
	NEXT(free)
	next(p);
}

void *aligned_alloc(size_t alignment, size_t n)
{
	NEXT(aligned_alloc)
	return fails() ? NULL : next(alignment, n);
}

int posix_memalign(void **p, size_t alignment, size_t n)
{
	NEXT(posix_memalign)
	return fails() ? ENOMEM : next(p, alignment, n);
}
