/* The runner's end of the seam: descriptors, broken bytes, cancels inside a step, the end. */
#include "tests/support/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "daemon/runner/seam_io.h"
#include "tests/support/runner_model.h"
#include "tests/support/runner_rig.h"

static unsigned count_fds(pid_t pid)
{
    char path[64];
    unsigned n = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir)) {
        n++;
    }
    (void)closedir(dir);
    return n;
}

/* A request for a model that is not there: its refusal proves that all before it was carried
 * out. */
static void ping(struct rig *rig, uint64_t seq)
{
    static struct rig_answer a;
    const struct rig_request q = rig_prompt(seq, 999, "ping", 1);

    rig_ask(rig, &q, &a);
    assert_int_equal(a.failed, ERR_NO_MODEL);
}

/* Goal: descriptors that no load claims do not stay open; those of failed loads neither. */
static void surplus_descriptors_are_closed(void **state)
{
    const struct seam_message plan = {.type = SEAM_PLAN};
    const struct seam_message load = {.type = SEAM_LOAD, .load = {.model = 1, .n_streams_max = 1}};
    struct seam_message m;
    struct rig rig;
    int fds[6];
    (void)state;

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        fds[i] = memfd_create("surplus", MFD_CLOEXEC);
        assert_true(fds[i] >= 0);
    }
    rig_open(&rig, RIG_SHIPPED, NULL);
    ping(&rig, 1);
    const unsigned before = count_fds(rig.pid);
    rig_send_fds(&rig, &plan, fds, 6);
    ping(&rig, 2);
    rig_send_fds(&rig, &load, fds, 3);
    do {
        assert_true(rig_next(&rig, &m));
    } while (m.type != SEAM_LOAD_FAILED);
    ping(&rig, 3);
    assert_int_equal(count_fds(rig.pid), before);
    assert_int_equal(rig_close(&rig), 0);
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        (void)close(fds[i]);
    }
}

static int end_after(const void *data, size_t n)
{
    struct seam_message m;
    struct rig rig;

    rig_open(&rig, RIG_SHIPPED, NULL);
    rig_send_bytes(&rig, data, n);
    while (rig_next(&rig, &m)) {
    }
    return rig_wait(&rig);
}

/* Goal: a seam that cannot be trusted ends the runner, which the broker then starts anew. */
static void bytes_that_are_no_frame_end_the_runner(void **state)
{
    static const uint8_t too_long[] = {0xff, 0xff, 0xff, 0x7f};
    static const uint8_t no_map[] = {1, 0, 0, 0, 0xc0};
    struct buf out;
    (void)state;

    assert_int_equal(WEXITSTATUS(end_after(too_long, sizeof(too_long))), 70);
    assert_int_equal(WEXITSTATUS(end_after(no_map, sizeof(no_map))), 70);

    buf_init(&out, 4096);
    const struct seam_message load = {.type = SEAM_LOAD, .load = {.model = 1, .n_streams_max = 1}};
    assert_int_equal(seam_put(&out, &load, NULL, 0, NULL, 0), 0); /* without its descriptor */
    assert_int_equal(WEXITSTATUS(end_after(out.data, out.n)), 70);
    out.n = 0;
    const struct seam_message stats = {.type = SEAM_STATS}; /* not for the runner */
    assert_int_equal(seam_put(&out, &stats, NULL, 0, NULL, 0), 0);
    assert_int_equal(WEXITSTATUS(end_after(out.data, out.n)), 70);
    buf_deinit(&out);
}

/* Goal: the runner ends with the seam, also from within its work, and signals do not end it. */
static void the_end_of_the_seam_ends_the_runner_alone(void **state)
{
    const struct seam_load load = {.model = 1, .kv_bytes_max = 64u << 20, .n_streams_max = 4};
    const int packed = runner_model_packed(0);
    const uint64_t run = 1;
    struct rig_request q = rig_prompt(1, 1, "@@sleep-ms-5-per-step@@", 450);
    static struct rig_answer a;
    struct rig rig;
    (void)state;

    rig_open(&rig, RIG_HOOKED, NULL);
    rig_load(&rig, &load, packed, NULL);
    a.seq = 1;
    rig_start(&rig, &q);
    rig_plan(&rig, &run, 1);
    assert_int_equal(kill(rig.pid, SIGTERM), 0);
    assert_int_equal(kill(rig.pid, SIGINT), 0);
    while (a.n < 3) {
        assert_int_not_equal(rig_take(&rig, &a, 1), SEAM_TYPES);
    }
    assert_int_equal(rig_close(&rig), 0);
    (void)close(packed);
}

/* Goal: the hooks that the continuity tests rest on end the process. */
static void a_hooked_runner_dies_where_the_prompt_says(void **state)
{
    static const char *const prompts[] = {"@@crash-at-prefill@@", "@@crash-at-token-5@@"};
    const struct seam_load load = {.model = 1, .kv_bytes_max = 64u << 20, .n_streams_max = 4};
    const int packed = runner_model_packed(0);
    const uint64_t run = 1;
    (void)state;

    for (unsigned i = 0; i < 2; i++) {
        static struct rig_answer a;
        const struct rig_request q = rig_prompt(1, 1, prompts[i], 50);
        struct rig rig;

        rig_open(&rig, RIG_HOOKED, NULL);
        rig_load(&rig, &load, packed, NULL);
        memset(&a, 0, sizeof(a));
        a.seq = 1;
        rig_start(&rig, &q);
        rig_plan(&rig, &run, 1);
        while (rig_take(&rig, &a, 1) != SEAM_TYPES) {
        }
        assert_int_equal(a.n, i == 0 ? 0 : 5);
        const int status = rig_wait(&rig);
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
    }
    (void)close(packed);
}

static void send_frame(int fd, const struct seam_message *m)
{
    struct buf out;

    buf_init(&out, 65536);
    assert_int_equal(seam_put(&out, m, NULL, 0, NULL, 0), 0);
    assert_int_equal(send(fd, out.data, out.n, 0), out.n);
    buf_deinit(&out);
}

/* Goal: a cancel reaches the step it concerns, while it runs, and no other.
 * Method: no engine at all; the flag alone is watched. */
static void a_cancel_reaches_the_step_that_runs(void **state)
{
    const uint64_t in_step[] = {5, 6};
    struct seam_item *item = NULL;
    struct seam_io *io = NULL;
    int pair[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(seam_io_open(&io, pair[1]), 0);
    const atomic_bool *flag = seam_io_cancel_flag(io);

    assert_true(seam_io_step_begin(io, in_step, 2, true));
    send_frame(pair[0], &(struct seam_message){.type = SEAM_CANCEL, .cancel = 7});
    assert_int_equal(seam_io_take(io, true, &item), SEAM_IO_ITEM);
    assert_int_equal(item->msg.cancel, 7);
    assert_int_equal(item->fd, -1);
    assert_false(atomic_load(flag));
    seam_item_free(item);

    send_frame(pair[0], &(struct seam_message){.type = SEAM_CANCEL, .cancel = 6});
    while (!atomic_load(flag)) {
        (void)usleep(1000);
    }
    seam_io_step_end(io);
    assert_false(seam_io_step_begin(io, in_step, 2, true)); /* the cancel waits to be heard */
    assert_int_equal(seam_io_take(io, false, &item), SEAM_IO_ITEM);
    seam_item_free(item);
    assert_int_equal(seam_io_take(io, false, &item), SEAM_IO_NONE);
    assert_true(seam_io_step_begin(io, in_step, 2, false));
    assert_false(atomic_load(flag));
    for (unsigned i = 0; i < 2; i++) { /* one cancel does not stop the other's step, both do */
        send_frame(pair[0], &(struct seam_message){.type = SEAM_CANCEL, .cancel = in_step[i]});
        assert_int_equal(seam_io_take(io, true, &item), SEAM_IO_ITEM);
        seam_item_free(item);
        assert_int_equal(atomic_load(flag), i == 1);
    }
    seam_io_step_end(io);
    assert_true(seam_io_step_begin(io, in_step, 2, false));
    assert_false(atomic_load(flag));

    (void)close(pair[0]); /* nobody is left to work for */
    while (!atomic_load(flag)) {
        (void)usleep(1000);
    }
    seam_io_step_end(io);
    assert_int_equal(seam_io_take(io, true, &item), SEAM_IO_CLOSED);
    seam_io_close(io);
}

/* Goal: an urgent plan stops the step that runs, another one does not, and neither a later step. */
static void an_urgent_plan_stops_the_step_that_runs(void **state)
{
    const uint64_t in_step[] = {5, 6};
    struct seam_message m = {.type = SEAM_PLAN, .plan = {.run = {5}, .n_run = 1}};
    struct seam_item *item = NULL;
    struct seam_io *io = NULL;
    int pair[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(seam_io_open(&io, pair[1]), 0);
    const atomic_bool *flag = seam_io_cancel_flag(io);

    for (unsigned i = 0; i < 2; i++) {
        m.plan.urgent = i == 1;
        assert_true(seam_io_step_begin(io, in_step, 2, false));
        assert_false(atomic_load(flag));
        send_frame(pair[0], &m);
        assert_int_equal(seam_io_take(io, true, &item), SEAM_IO_ITEM);
        assert_int_equal(item->msg.plan.urgent, i == 1);
        assert_int_equal(atomic_load(flag), i == 1);
        seam_item_free(item);
        seam_io_step_end(io);
    }
    send_frame(pair[0], &m); /* between two steps */
    assert_int_equal(seam_io_take(io, true, &item), SEAM_IO_ITEM);
    seam_item_free(item);
    assert_true(seam_io_step_begin(io, in_step, 2, false));
    assert_false(atomic_load(flag));
    seam_io_step_end(io);
    (void)close(pair[0]);
    seam_io_close(io);
}

/* Goal: a descriptor waits for the rest of its frame. Method: a load, sent byte by byte, with the
 * descriptor on the first. */
static void a_descriptor_finds_its_frame_however_it_is_cut(void **state)
{
    const struct seam_message load = {.type = SEAM_LOAD, .load = {.model = 4, .n_streams_max = 1}};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct seam_item *item = NULL;
    struct seam_io *io = NULL;
    struct buf out;
    int pair[2];
    (void)state;
    const int fd = memfd_create("load", MFD_CLOEXEC);

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(seam_io_open(&io, pair[1]), 0);
    buf_init(&out, 4096);
    assert_int_equal(seam_put(&out, &load, NULL, 0, NULL, 0), 0);
    struct iovec iov = {.iov_base = out.data, .iov_len = 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    assert_int_equal(sendmsg(pair[0], &msg, 0), 1);
    for (size_t i = 1; i < out.n; i++) {
        assert_int_equal(send(pair[0], out.data + i, 1, 0), 1);
    }
    assert_int_equal(seam_io_take(io, true, &item), SEAM_IO_ITEM);
    assert_int_equal(item->msg.load.model, 4);
    assert_true(item->fd >= 0);
    assert_int_equal(fcntl(item->fd, F_GETFD), FD_CLOEXEC);
    seam_item_free(item);
    seam_io_close(io);
    buf_deinit(&out);
    (void)close(pair[0]);
    (void)close(fd);
}

/* Goal: nothing outlives the broker, even where somebody else still holds the seam.
 * Method: a process in between starts the runner and ends; this test keeps the other end. */
static void the_runner_dies_with_its_parent(void **state)
{
    struct rig rig = {.fd = -1};
    struct seam_message m;
    int pair[2], go[2], status = 0;
    char byte;
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(pipe(go), 0);
    const pid_t parent = fork();
    assert_true(parent >= 0);
    if (parent == 0) {
        const pid_t child = fork();
        (void)close(go[1]);
        if (child == 0) {
            (void)close(pair[0]);
            rig_exec(RIG_SHIPPED, NULL, pair[1]);
        }
        (void)!read(go[0], &byte, 1);
        _exit(0);
    }
    (void)close(pair[1]);
    (void)close(go[0]);
    rig.fd = pair[0];
    frame_reader_init(&rig.in, FRAME_SEAM_BODY_MAX);
    assert_true(rig_next(&rig, &m));
    assert_int_equal(m.type, SEAM_HELLO);
    (void)close(go[1]); /* its parent ends */
    assert_int_equal(waitpid(parent, &status, 0), parent);
    assert_false(rig_next(&rig, &m));
    frame_reader_deinit(&rig.in);
    (void)close(pair[0]);
}

static void a_wait_can_be_ended_from_another_thread(void **state)
{
    struct seam_item *item = NULL;
    struct seam_io *io = NULL;
    int pair[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(seam_io_open(&io, pair[1]), 0);
    seam_io_wake(io);
    assert_int_equal(seam_io_take(io, true, &item), SEAM_IO_NONE);
    send_frame(pair[0], &(struct seam_message){.type = SEAM_DROP, .drop = 3});
    assert_int_equal(seam_io_take(io, true, &item), SEAM_IO_ITEM);
    assert_int_equal(item->msg.type, SEAM_DROP);
    seam_item_free(item);
    send_frame(pair[0], &(struct seam_message){.type = SEAM_DROP, .drop = 4});
    seam_io_close(io); /* with a frame in the queue or on its way */
    (void)close(pair[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(surplus_descriptors_are_closed),
        cmocka_unit_test(bytes_that_are_no_frame_end_the_runner),
        cmocka_unit_test(the_end_of_the_seam_ends_the_runner_alone),
        cmocka_unit_test(a_hooked_runner_dies_where_the_prompt_says),
        cmocka_unit_test(a_cancel_reaches_the_step_that_runs),
        cmocka_unit_test(an_urgent_plan_stops_the_step_that_runs),
        cmocka_unit_test(a_descriptor_finds_its_frame_however_it_is_cut),
        cmocka_unit_test(the_runner_dies_with_its_parent),
        cmocka_unit_test(a_wait_can_be_ended_from_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
