/* The calls that are left, as a seccomp filter of our own: one table, no library. What is asked for
 * most stands first.
 *
 * A call that is not in the table is answered with ENOSYS, as by a kernel that lacks it: the C
 * library and others know how to go on then. Opening a file is refused with EPERM, because the C
 * library does it of its own accord (the allocator wants to know how memory is overcommitted).
 * What nothing in this process has a reason to try - another program, a socket, another process's
 * memory, a change of rights - ends the process: whoever tries it has taken it over, and the broker
 * starts another. */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/runner/confine.h"

#if defined(__x86_64__)
#define MACHINE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define MACHINE AUDIT_ARCH_AARCH64
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

enum { E = CONFINE_ENGINE, P = CONFINE_PACKER };

/* When a call is let through. Arguments are numbers, of which the lower half counts: the bits that
 * are asked for all lie there, and the kernel takes ids as int. */
enum test {
    ALWAYS = 0,
    NONE_OF,    /* no bit of `value` is set */
    ALL_OF,     /* all bits of `value` are set */
    EQUAL,      /* is `value` */
    EQUAL_SELF, /* is our process id */
    AT_MOST,    /* is no more than `value` */
};

struct call {
    uint16_t number;
    uint8_t roles;    /* E, P or both */
    uint8_t test, at; /* which test of which argument */
    uint32_t value;
};

#define BOTH (E | P)
#define CALL(name, roles)                                                                          \
    {                                                                                              \
        SYS_##name, roles, ALWAYS, 0, 0                                                            \
    }
#define CALL_IF(name, roles, test, at, value)                                                      \
    {                                                                                              \
        SYS_##name, roles, test, at, value                                                         \
    }

/* clang-format off */
static const struct call allowed[] = {
    /* a step and its reports; each step looks whether its model's file is as it was */
    CALL_IF(newfstatat, BOTH, ALL_OF, 3, AT_EMPTY_PATH), CALL(futex, BOTH), CALL(sched_yield, E), CALL(sendto, E), CALL(sendmsg, E), CALL(recvmsg, E), CALL(recvfrom, E),
    CALL(ppoll, E),
#ifdef SYS_poll
    CALL(poll, E),
#endif
    CALL(read, BOTH), CALL(write, BOTH), CALL(readv, BOTH), CALL(writev, BOTH), CALL(shutdown, E),
    CALL(clock_gettime, BOTH), CALL(clock_getres, BOTH), CALL(gettimeofday, BOTH), CALL(nanosleep, BOTH),
    CALL(clock_nanosleep, BOTH), CALL(getcpu, BOTH), CALL(getrusage, BOTH),

    /* files that are open */
    CALL(pread64, BOTH), CALL(pwrite64, BOTH), CALL(lseek, BOTH), CALL(close, BOTH), CALL(fstat, BOTH),
    CALL(ftruncate, BOTH), CALL(fallocate, BOTH), CALL(fstatfs, P),
    CALL(fsync, BOTH), CALL(fdatasync, BOTH), CALL(fadvise64, BOTH), CALL(readahead, BOTH), CALL(cachestat, BOTH),
    CALL_IF(fcntl, BOTH, AT_MOST, 1, F_SETFL), CALL(dup, E),

    /* memory, none of which becomes code */
    CALL(brk, BOTH), CALL(munmap, BOTH), CALL(mremap, BOTH), CALL(madvise, BOTH), CALL(mincore, BOTH), CALL(msync, BOTH),
    CALL_IF(mmap, BOTH, NONE_OF, 2, PROT_EXEC), CALL_IF(mprotect, BOTH, NONE_OF, 2, PROT_EXEC),
    CALL(mlock, BOTH), CALL(mlock2, BOTH), CALL(munlock, BOTH), CALL(membarrier, BOTH),

    /* threads, not processes; clone3, whose flags a filter cannot see, is absent here, and clone used */
    CALL_IF(clone, E, ALL_OF, 0, CLONE_THREAD), CALL(set_robust_list, E), CALL(rseq, E),
    CALL_IF(setpriority, E, EQUAL, 1, 0), CALL(getpriority, E), CALL(sched_getaffinity, BOTH),
    CALL_IF(prlimit64, BOTH, EQUAL, 0, 0),

    /* oneself, and the end */
    CALL(getpid, BOTH), CALL(gettid, BOTH), CALL(getppid, BOTH), CALL(getuid, BOTH), CALL(geteuid, BOTH),
    CALL(getgid, BOTH), CALL(getegid, BOTH), CALL(uname, BOTH), CALL(sysinfo, BOTH), CALL(getrandom, BOTH),
    CALL(rt_sigaction, BOTH), CALL(rt_sigprocmask, BOTH), CALL(rt_sigreturn, BOTH), CALL(sigaltstack, BOTH),
    CALL_IF(tgkill, BOTH, EQUAL_SELF, 0, 0), CALL_IF(kill, BOTH, EQUAL_SELF, 0, 0), CALL(restart_syscall, BOTH),
    CALL(exit, BOTH), CALL(exit_group, BOTH),
};

static const uint16_t refused[] = { /* EPERM */
#ifdef SYS_open
    SYS_open, SYS_creat,
#endif
    SYS_openat, SYS_openat2, SYS_faccessat, SYS_readlinkat, SYS_ioctl,
};

static const uint16_t hostile[] = {
#ifdef SYS_fork
    SYS_fork, SYS_vfork,
#endif
    SYS_execve, SYS_execveat, SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4,
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, SYS_pidfd_getfd, SYS_pidfd_send_signal,
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_setns, SYS_unshare,
    SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setgroups, SYS_capset,
    SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_keyctl, SYS_add_key, SYS_request_key,
    SYS_open_by_handle_at, SYS_personality,
};
/* clang-format on */

#ifdef MACHINE
#define N(array) (sizeof(array) / sizeof((array)[0]))
#define CODE_MAX (8 + 5 * N(allowed) + 2 * (N(refused) + N(hostile)))

struct code {
    struct sock_filter at[CODE_MAX];
    unsigned short n;
};

static void put(struct code *c, uint16_t op, uint32_t k, uint8_t yes, uint8_t no)
{
    c->at[c->n++] = (struct sock_filter){.code = op, .k = k, .jt = yes, .jf = no};
}

static void put_return(struct code *c, uint32_t action)
{
    put(c, BPF_RET | BPF_K, action, 0, 0);
}

static void put_load(struct code *c, size_t offset)
{
    put(c, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* The argument is loaded: let it through, or refuse it as a file is. */
static void put_test(struct code *c, const struct call *call)
{
    switch (call->test) {
    case NONE_OF:
        put(c, BPF_JMP | BPF_JSET | BPF_K, call->value, 1, 0);
        break;
    case ALL_OF: /* a single bit */
        put(c, BPF_JMP | BPF_JSET | BPF_K, call->value, 0, 1);
        break;
    case AT_MOST:
        put(c, BPF_JMP | BPF_JGT | BPF_K, call->value, 1, 0);
        break;
    default:
        put(c, BPF_JMP | BPF_JEQ | BPF_K,
            call->test == EQUAL_SELF ? (uint32_t)getpid() : call->value, 0, 1);
        break;
    }
    put_return(c, SECCOMP_RET_ALLOW);
    put_return(c, SECCOMP_RET_ERRNO | EPERM);
}

static void put_call(struct code *c, const struct call *call)
{
    if (call->test == ALWAYS) {
        put(c, BPF_JMP | BPF_JEQ | BPF_K, call->number, 0, 1);
        put_return(c, SECCOMP_RET_ALLOW);
        return;
    }
    put(c, BPF_JMP | BPF_JEQ | BPF_K, call->number, 0, 4);
    put_load(c, offsetof(struct seccomp_data, args) + call->at * sizeof(uint64_t)); /* low half */
    put_test(c, call);
}

static void put_list(struct code *c, const uint16_t *numbers, size_t n, uint32_t action)
{
    for (size_t i = 0; i < n; i++) {
        put(c, BPF_JMP | BPF_JEQ | BPF_K, numbers[i], 0, 1);
        put_return(c, action);
    }
}

static int install(struct sock_fprog *program, unsigned flags)
{
    const long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program);

    return r == 0 ? 0 : r < 0 ? -errno : -EBUSY; /* > 0: a thread has another filter */
}

int confine_calls(enum confine_role role)
{
    struct code c = {.n = 0};
    struct sock_fprog program = {.filter = c.at};

    put_load(&c, offsetof(struct seccomp_data, arch));
    put(&c, BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0);
    put_return(&c, SECCOMP_RET_KILL_PROCESS);
    put_load(&c, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < N(allowed); i++) {
        if (allowed[i].roles & role) {
            put_call(&c, &allowed[i]);
        }
    }
    put_list(&c, refused, N(refused), SECCOMP_RET_ERRNO | EPERM);
    put_list(&c, hostile, N(hostile), SECCOMP_RET_KILL_PROCESS);
    put_return(&c, SECCOMP_RET_ERRNO | ENOSYS);
    program.len = c.n;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return -errno;
    }
    /* Nothing here runs code of others, so kernels that would slow a filtered process down against
     * leaks by speculation need not; those too old to be told so are asked without. */
    int r = install(&program, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    if (r == -EINVAL) {
        r = install(&program, SECCOMP_FILTER_FLAG_TSYNC);
    }
    return r;
}
#else
int confine_calls(enum confine_role role)
{
    (void)role;
    return -ENOSYS;
}
#endif
