/* sandbox_probe: stands in the daemon's place in its unit, tries what the unit forbids, and writes
 * a line for each to standard output: "NAME errno". 0: it was allowed. Elsewhere it does nothing:
 * some of it would succeed. */
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void tell(const char *name, long r)
{
    (void)printf("%s %d\n", name, r < 0 ? errno : 0);
}

static int writes(const char *path)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    if (fd >= 0) {
        (void)close(fd);
        (void)unlink(path);
    }
    return fd;
}

static long map_page(int prot)
{
    void *page = mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return page == MAP_FAILED ? -1 : 0;
}

static long make_executable(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return page == MAP_FAILED ? -1 : mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

int main(int argc, char **argv)
{
    const struct timespec now = {.tv_sec = 1};
    unsigned char in_core = 0;
    static char page[4096] __attribute__((aligned(4096)));

    if (argc != 2 || strcmp(argv[1], "in-the-unit") != 0 || getenv("STATE_DIRECTORY") == NULL) {
        return 64;
    }
    /* what must fail */
    tell("!inet", socket(AF_INET, SOCK_STREAM, 0));
    tell("!inet6", socket(AF_INET6, SOCK_DGRAM, 0));
    tell("!netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    tell("!packet", socket(AF_PACKET, SOCK_RAW, 0));
    tell("!write_etc", writes("/etc/onebit-probe"));
    tell("!write_usr", writes("/usr/onebit-probe"));
    tell("!write_models", writes("/var/lib/onebit/models/probe.gguf"));
    tell("!read_home", open("/root/.", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    tell("!ptrace", ptrace(PTRACE_ATTACH, 0x3ffffff, NULL, NULL)); /* nobody: ESRCH if allowed */
    tell("!ptrace_me", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
    tell("!vm_read", syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0));
    tell("!setuid", setuid(0));
    tell("!new_privileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? (errno = EPERM, -1) : 0);
    tell("!suid_file", chmod("/var/cache/onebit", 04700));
    tell("!namespace", unshare(CLONE_NEWUSER));
    tell("!mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    tell("!chroot", chroot("/tmp"));
    tell("!write_exec", map_page(PROT_READ | PROT_WRITE | PROT_EXEC));
    tell("!make_exec", make_executable());
    tell("!clock", clock_settime(CLOCK_REALTIME, &now));
    tell("!reboot", syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
                            LINUX_REBOOT_CMD_CAD_OFF, NULL));
    tell("!module", syscall(SYS_init_module, page, sizeof(page), ""));
    tell("!bpf", syscall(SYS_bpf, 0, NULL, 0));
    tell("!io_uring", syscall(SYS_io_uring_setup, 1, page));
    tell("!userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC));
    tell("!realtime",
         sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1}));
    tell("!device", open("/dev/mem", O_RDONLY | O_CLOEXEC));
    tell("!sysctl", open("/proc/sys/kernel/hostname", O_WRONLY | O_CLOEXEC));
    tell("!kmsg", open("/dev/kmsg", O_RDONLY | O_CLOEXEC));
    /* what the daemon needs */
    tell("unix", socket(AF_UNIX, SOCK_STREAM, 0));
    tell("write_state", writes("/var/lib/onebit/probe"));
    tell("write_cache", writes("/var/cache/onebit/probe"));
    tell("memfd", memfd_create("probe", MFD_CLOEXEC));
    tell("mincore", mincore(page, sizeof(page), &in_core));
    tell("madvise", madvise(page, sizeof(page), MADV_WILLNEED));
    tell("mlock", mlock(page, sizeof(page)));
    tell("setpriority", setpriority(PRIO_PROCESS, 0, 5));
    tell("meminfo", open("/proc/meminfo", O_RDONLY | O_CLOEXEC));
    tell("cgroup_of_others", open("/proc/1/cgroup", O_RDONLY | O_CLOEXEC));
    /* 444 and 277: by number, as headers may be older */
    tell("landlock", syscall(444, NULL, 0, 1u) < 0 && errno == EPERM ? -1 : 0);
    tell("seccomp",
         syscall(SYS_seccomp, 2u, 0u, &(uint32_t){0x7fff0000u}) < 0 && errno == EPERM ? -1 : 0);
    return fflush(stdout) == 0 ? 0 : 1;
}
