/*
 * memory: a server that has done its work is as small as before it.
 *
 * glibc keeps what is freed in the middle of its heap, and raises the limit above which memory goes
 * back at once with each large block; sessions and start-up would leave megabytes behind. Other
 * libraries give back by themselves. Pages of code and constants that start-up or a session went
 * through are dropped from the process at the same time: the system has them in its cache while it
 * has room for it, and maps those that are needed again by the dozen.
 */
#include "memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__linux__)
#include <link.h>
#include <sys/auxv.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "config.h"
#include "loop.h"

#if defined(__linux__)
/* Has the loader written into its code? Nothing of ours is built so. */
static bool memory_is_patched(const struct dl_phdr_info *info, const ElfW(Phdr) * p)
{
	const ElfW(Dyn) *d = (const void *)((uintptr_t)info->dlpi_addr + p->p_vaddr);
	for (; p->p_type == PT_DYNAMIC && d->d_tag != DT_NULL; d++)
		if (d->d_tag == DT_TEXTREL ||
		    (d->d_tag == DT_FLAGS && (d->d_un.d_val & DF_TEXTREL)))
			return true;
	return false;
}

static void memory_drop(uintptr_t from, uintptr_t to)
{
	if (from < to)
		(void)madvise((void *)from, to - from, MADV_DONTNEED);
}

/* Code and constants of a program or library. What is written to is in other segments, so what is
 * dropped comes back from the file as it was; but for the break points of a debugger. The segment
 * with the list of them goes last: reading on in it would bring it back. */
static int memory_drop_segments(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t page = *(const uintptr_t *)arg;
	uintptr_t list = (uintptr_t)info->dlpi_phdr;
	uintptr_t list_from = 0;
	uintptr_t list_to = 0;
	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum; i++)
		if (memory_is_patched(info, &info->dlpi_phdr[i]))
			return 0;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t from = ((uintptr_t)info->dlpi_addr + p->p_vaddr) / page * page;
		uintptr_t to = ((uintptr_t)info->dlpi_addr + p->p_vaddr + p->p_memsz) / page * page;
		if (p->p_type != PT_LOAD || (p->p_flags & PF_W) ||
		    from == getauxval(AT_SYSINFO_EHDR))
			continue;
		if (list >= from && list < to) {
			list_from = from;
			list_to = to;
		} else {
			memory_drop(from, to);
		}
	}
	memory_drop(list_from, list_to);
	return 0;
}

static void memory_drop_code(void)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	dl_iterate_phdr(memory_drop_segments, &page);
}
#else
static void memory_drop_code(void)
{
}
#endif

static void memory_trim(void *arg)
{
	(void)arg;
	memory_drop_code();
#if defined(__GLIBC__)
	malloc_trim(0);
#endif
}

static struct loop_timer memory_timer = {.fire = memory_trim};

void memory_init(void)
{
#if defined(__GLIBC__)
	/* Large blocks are the system's as soon as they are freed; and the end of the heap does not
	 * go to and fro with each message. What start-up takes is read once and let go, or is a
	 * table for years: of one with pages of its own only those count that are in use. */
	mallopt(M_MMAP_THRESHOLD, MEMORY_TABLE_MIN);
	mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
#endif
}

void memory_started(void)
{
#if defined(__GLIBC__)
	mallopt(M_MMAP_THRESHOLD, MEMORY_LARGE_MIN);
#endif
	memory_trim(NULL);
}

void memory_freed(void)
{
	if (!loop_timer_is_set(&memory_timer))
		loop_timer_set(&memory_timer, MEMORY_TRIM_MS);
}
