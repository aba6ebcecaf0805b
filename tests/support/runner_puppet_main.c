/* An engine process whose words are a test's: it hands its end of the seam over the Unix socket
 * that ONEBIT_PUPPET names, and ends as the one byte it is sent says. The test then speaks as the
 * engine. Packing is left to the real program, ONEBIT_PUPPET_PACKER. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { EXIT_NO_TEST = 99, SEAM_FD = 3, ORDER_ABORT = 255 };

static int hand_over(int to, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char word = 's'; /* a descriptor travels with a byte */
    struct iovec iov = {.iov_base = &word, .iov_len = 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    return sendmsg(to, &msg, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

int main(int argc, char **argv)
{
    const char *path = getenv("ONEBIT_PUPPET"), *packer = getenv("ONEBIT_PUPPET_PACKER");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint8_t order = 0;

    if (argc > 1 && strcmp(argv[1], "--pack") == 0 && packer) {
        argv[0] = (char *)(uintptr_t)packer; /* execv() does not write to it */
        (void)execv(packer, argv);
        return EXIT_NO_TEST;
    }
    if (!path || strlen(path) >= sizeof(address.sun_path)) {
        return EXIT_NO_TEST;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    const int control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (control < 0 || connect(control, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        hand_over(control, SEAM_FD) < 0) {
        return EXIT_NO_TEST;
    }
    (void)close(SEAM_FD);
    if (read(control, &order, 1) != 1) {
        return EXIT_NO_TEST; /* the test has ended */
    }
    if (order == ORDER_ABORT) {
        abort();
    }
    return order;
}
