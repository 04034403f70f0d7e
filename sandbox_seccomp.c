/*
 * sandbox_seccomp: a filter of system calls, for the process and all that it starts.
 *
 * A list of what is denied, not of what is allowed: which calls a C library makes changes with its
 * version, and which ones a delivery program makes nobody knows. What is on it administers the
 * machine, looks into other processes, or is a large door into the kernel that mail has no use
 * for. The answers let a library fall back to what it knows: EPERM, as if the right were missing;
 * ENOSYS, as if the kernel were older, for clone3 (a filter cannot see its flags), and for calls
 * that are newer than this list.
 *
 * Denied too are all calls by the number of another architecture (32-bit programs on a 64-bit
 * kernel, x32): the list would mean other calls there.
 */
#include "sandbox_int.h"

#if defined(__linux__)

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "config.h"

/* ---- architectures ---- */

/* What AUDIT_ARCH_* is made of; old headers lack some. */
#define ARCH_64  0x80000000U
#define ARCH_LE  0x40000000U
#define ARCH_N32 0x20000000U

#define IS_LE (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)

#if defined(__mips__) && defined(_MIPS_SIM) && defined(_ABIO32) && _MIPS_SIM == _ABIO32
#define CALL_BASE 4000
#define ARCH_HERE (8 | (IS_LE ? ARCH_LE : 0))
#elif defined(__mips__) && defined(_MIPS_SIM) && defined(_ABI64) && _MIPS_SIM == _ABI64
#define CALL_BASE 5000
#define ARCH_HERE (8 | ARCH_64 | (IS_LE ? ARCH_LE : 0))
#elif defined(__mips__)
#define CALL_BASE 6000
#define ARCH_HERE (8 | ARCH_64 | ARCH_N32 | (IS_LE ? ARCH_LE : 0))
#else
#define CALL_BASE 0
#if defined(__x86_64__) && defined(__LP64__)
#define ARCH_HERE (62 | ARCH_64 | ARCH_LE)
#elif defined(__i386__)
#define ARCH_HERE (3 | ARCH_LE)
#elif defined(__aarch64__) && defined(__LP64__)
#define ARCH_HERE (183 | ARCH_64 | ARCH_LE) /* the same for both byte orders */
#elif defined(__arm__) && defined(__ARM_EABI__)
#define ARCH_HERE (40 | (IS_LE ? ARCH_LE : 0))
#elif defined(__powerpc64__)
#define ARCH_HERE (21 | ARCH_64 | (IS_LE ? ARCH_LE : 0))
#elif defined(__powerpc__)
#define ARCH_HERE 20
#elif defined(__s390x__)
#define ARCH_HERE (22 | ARCH_64)
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH_HERE (243 | ARCH_64 | ARCH_LE)
#else
#define ARCH_HERE 0 /* no filter */
#endif
#endif

uint32_t sandbox_seccomp_arch(void)
{
	return ARCH_HERE;
}

long sandbox_call(long common)
{
	return CALL_BASE + common;
}

/* ---- the list ---- */

/* Calls from here on have one number everywhere; before, headers know them. */
enum {
	CALL_CLOCK_SETTIME64 = 404, /* 32-bit architectures */
	CALL_IO_URING_SETUP = 425,
	CALL_IO_URING_ENTER = 426,
	CALL_IO_URING_REGISTER = 427,
	CALL_OPEN_TREE = 428,
	CALL_MOVE_MOUNT = 429,
	CALL_FSOPEN = 430,
	CALL_FSCONFIG = 431,
	CALL_FSMOUNT = 432,
	CALL_FSPICK = 433,
	CALL_CLONE3 = 435,
	CALL_PIDFD_GETFD = 438,
	CALL_MOUNT_SETATTR = 442,
	CALL_QUOTACTL_FD = 443,
	CALL_OPEN_TREE_ATTR = 467,
};

static const int denied_common[] = {
    CALL_IO_URING_SETUP, CALL_IO_URING_ENTER, CALL_IO_URING_REGISTER, CALL_OPEN_TREE,
    CALL_MOVE_MOUNT,     CALL_FSOPEN,         CALL_FSCONFIG,          CALL_FSMOUNT,
    CALL_FSPICK,         CALL_PIDFD_GETFD,    CALL_MOUNT_SETATTR,     CALL_QUOTACTL_FD,
    CALL_OPEN_TREE_ATTR, CALL_CLOCK_SETTIME64};

/* Those without a condition are in the headers of all kernels since 3.10. */
static const int denied[] = {
    /* file systems, namespaces */
    __NR_mount,
    __NR_umount2,
#if defined(__NR_umount)
    __NR_umount,
#endif
    __NR_pivot_root,
    __NR_unshare,
    __NR_setns,
    __NR_swapon,
    __NR_swapoff,
    __NR_acct,
    __NR_quotactl,
    /* files by their number instead of their path: past all permissions of directories */
    __NR_name_to_handle_at,
    __NR_open_by_handle_at,
/* other processes' memory; a debugging build's leak check needs the first */
#if !SANDBOX_DEBUG
    __NR_ptrace,
#endif
    __NR_process_vm_readv,
    __NR_process_vm_writev,
#if defined(__NR_kcmp)
    __NR_kcmp,
#endif
    /* the kernel itself */
    __NR_reboot,
    __NR_kexec_load,
#if defined(__NR_kexec_file_load)
    __NR_kexec_file_load,
#endif
    __NR_init_module,
    __NR_delete_module,
#if defined(__NR_finit_module)
    __NR_finit_module,
#endif
    __NR_perf_event_open,
#if defined(__NR_bpf)
    __NR_bpf,
#endif
#if defined(__NR_userfaultfd)
    __NR_userfaultfd,
#endif
    __NR_add_key,
    __NR_request_key,
    __NR_keyctl,
    __NR_syslog,
#if defined(__NR_iopl)
    __NR_iopl,
#endif
#if defined(__NR_ioperm)
    __NR_ioperm,
#endif
#if defined(__NR_vm86)
    __NR_vm86,
#endif
#if defined(__NR_vm86old)
    __NR_vm86old,
#endif
/* the machine's clock and name */
#if defined(__NR_settimeofday)
    __NR_settimeofday,
#endif
#if defined(__NR_stime)
    __NR_stime,
#endif
#if defined(__NR_clock_settime)
    __NR_clock_settime,
#endif
    __NR_sethostname,
    __NR_setdomainname,
    __NR_vhangup,
};

/* What a message is made of: allowed before the list is gone through, which takes time wherever the
 * kernel does not remember what a filter always allows (before Linux 5.11, and on many boards). */
static const int frequent[] = {
    __NR_read,
    __NR_write,
    __NR_writev,
    __NR_pread64,
    __NR_pwrite64,
    __NR_fdatasync,
    __NR_pselect6,
#if defined(__NR_select)
    __NR_select,
#endif
#if defined(__NR__newselect)
    __NR__newselect,
#endif
#if defined(__NR_pselect6_time64)
    __NR_pselect6_time64,
#endif
};

/* Flags of clone that make namespaces: what unshare is denied for. CLONE_NEWTIME shares its bit
 * with the signal for the parent. */
#define CLONE_NAMESPACES 0x7e020000U

/* ---- the program ---- */

struct program {
	struct sock_filter *out;
	size_t len, max;
};

static void put(struct program *p, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
	if (p->len < p->max)
		p->out[p->len] = (struct sock_filter){code, jt, jf, k};
	p->len++;
}

static void put_return(struct program *p, uint32_t what)
{
	put(p, BPF_RET | BPF_K, 0, 0, what);
}

static void put_load(struct program *p, size_t offset)
{
	put(p, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

/* An equal value is answered with the errno. */
static void put_deny(struct program *p, uint32_t value, int error)
{
	put(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, value);
	put_return(p, SECCOMP_RET_ERRNO | (uint32_t)error);
}

/* The lower half of an argument: all that the kernel looks at for what is asked here. */
static size_t low_half(size_t arg)
{
	return offsetof(struct seccomp_data, args) + arg * sizeof(uint64_t) +
	       (IS_LE ? 0 : sizeof(uint32_t));
}

/* The calls of which only some are denied. The number is loaded; what is not decided falls through
 * with something else loaded, so this comes last. */
static void put_by_argument(struct program *p)
{
#if defined(__s390x__)
	const size_t clone_flags = 1;
#else
	const size_t clone_flags = 0;
#endif
	put(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 4, __NR_clone);
	put_load(p, low_half(clone_flags));
	put(p, BPF_JMP | BPF_JSET | BPF_K, 0, 1, CLONE_NAMESPACES);
	put_return(p, SECCOMP_RET_ERRNO | EPERM);
	put_return(p, SECCOMP_RET_ALLOW);
	/* Input typed for somebody else on his terminal. */
	put(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 3, __NR_ioctl);
	put_load(p, low_half(1));
	put_deny(p, TIOCSTI, EPERM);
	put_return(p, SECCOMP_RET_ALLOW);
}

/* Numbers past the newest call that is known. */
static void put_unknown(struct program *p)
{
#if defined(__arm__)
	/* The architecture's own are up there, and threads cannot do without. */
	put(p, BPF_JMP | BPF_JGE | BPF_K, 0, 1, 0x0f0000);
	put_return(p, SECCOMP_RET_ALLOW);
#endif
	put(p, BPF_JMP | BPF_JGT | BPF_K, 0, 1, CALL_BASE + SANDBOX_CALL_NEWEST);
	put_return(p, SECCOMP_RET_ERRNO | ENOSYS);
}

size_t sandbox_seccomp_program(struct sock_filter *out, size_t max)
{
	struct program p = {out, 0, max};
	if (ARCH_HERE == 0)
		return 0;
	put_load(&p, offsetof(struct seccomp_data, arch));
	put(&p, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCH_HERE);
	put_return(&p, SECCOMP_RET_ERRNO | ENOSYS);
	put_load(&p, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < sizeof(frequent) / sizeof(*frequent); i++) {
		put(&p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, (uint32_t)frequent[i]);
		put_return(&p, SECCOMP_RET_ALLOW);
	}
	put_unknown(&p);
	for (size_t i = 0; i < sizeof(denied) / sizeof(*denied); i++)
		put_deny(&p, (uint32_t)denied[i], EPERM);
	for (size_t i = 0; i < sizeof(denied_common) / sizeof(*denied_common); i++)
		put_deny(&p, (uint32_t)(CALL_BASE + denied_common[i]), EPERM);
	put_deny(&p, CALL_BASE + CALL_CLONE3, ENOSYS);
	put_by_argument(&p);
	put_return(&p, SECCOMP_RET_ALLOW);
	return p.len <= max ? p.len : 0;
}

/* Twice the lists, and what stands around it. */
enum {
	PROGRAM_MAX =
	    2 * (sizeof(frequent) + sizeof(denied) + sizeof(denied_common)) / sizeof(int) + 32
};

enum sandbox_result sandbox_seccomp(char *why)
{
	struct sock_filter program[PROGRAM_MAX];
	struct sock_fprog prog = {
	    .len = (unsigned short)sandbox_seccomp_program(program, PROGRAM_MAX),
	    .filter = program,
	};
	if (prog.len == 0) {
		snprintf(why, SANDBOX_WHY, "not known for this architecture");
		return SANDBOX_MISSING;
	}
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0) == 0)
		return SANDBOX_DONE;
	switch (errno) {
	case EINVAL:
	case ENOSYS:
		snprintf(why, SANDBOX_WHY, "the kernel has none");
		return SANDBOX_MISSING;
	case EACCES:
	case EPERM:
		snprintf(why, SANDBOX_WHY, "not allowed to");
		return SANDBOX_MISSING;
	default:
		snprintf(why, SANDBOX_WHY, "%s", strerror(errno));
		return SANDBOX_FAILED;
	}
}

#else

#include <stdio.h>

enum sandbox_result sandbox_seccomp(char *why)
{
	snprintf(why, SANDBOX_WHY, "this system has none");
	return SANDBOX_MISSING;
}

#endif
